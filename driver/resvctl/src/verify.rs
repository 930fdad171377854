//! `verify`: has Driver Verifier watch the filter. Its settings are one for the machine, so others' are never replaced.

use serde_json::json;

use crate::machine::{Key, Machine};
use crate::{Ends, Exit, Failure, Output, elevated};

/// The filter's file.
pub const IMAGE: &str = "resvflt.sys";

/// Where verifier.exe keeps the list of drivers for the next start.
const MEMORY_MANAGEMENT: &str =
    r"SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management";

pub fn on(machine: &dyn Machine, out: &mut Output<'_>) -> Ends {
    elevated(machine)?;
    if let Some(others) = drivers(machine)?.others {
        let failure = Failure::new(format!(
            "Driver Verifier watches {others}, and would no longer"
        ));
        return Err(failure.and(format!(
            "to watch all of them: verifier /standard /driver {others} {IMAGE}"
        )));
    }
    verifier(machine, &["/standard", "/driver", IMAGE])?;
    out.line(format_args!(
        "Driver Verifier watches {IMAGE} from the next start of Windows on"
    ))?;
    out.report(&json!({ "verified": true, "changed": true }))?;
    Ok(Exit::Good)
}

pub fn off(machine: &dyn Machine, out: &mut Output<'_>) -> Ends {
    elevated(machine)?;
    let drivers = drivers(machine)?;
    if !drivers.ours {
        out.line(format_args!("Driver Verifier does not watch {IMAGE}"))?;
        out.report(&json!({ "verified": false, "changed": false }))?;
        return Ok(Exit::Good);
    }
    if let Some(others) = drivers.others {
        let failure = Failure::new(format!(
            "Driver Verifier watches {others}, too, and would no longer"
        ));
        return Err(failure.and(format!(
            "to go on with them: verifier /standard /driver {others}"
        )));
    }
    verifier(machine, &["/reset"])?;
    out.line("Driver Verifier watches nothing from the next start of Windows on")?;
    out.report(&json!({ "verified": false, "changed": true }))?;
    Ok(Exit::Good)
}

/// Whom Driver Verifier is to watch.
struct Drivers {
    ours: bool,
    others: Option<String>,
}

fn drivers(machine: &dyn Machine) -> Result<Drivers, Failure> {
    let value = machine.value(&Key::Machine(MEMORY_MANAGEMENT.into()), "VerifyDrivers");
    let list = value.map_err(Failure::of("Driver Verifier's settings"))?;
    let list = list.map(|value| value.text()).unwrap_or_default();
    let (ours, others): (Vec<_>, Vec<_>) = list
        .split_whitespace()
        .partition(|driver| driver.eq_ignore_ascii_case(IMAGE));
    Ok(Drivers {
        ours: !ours.is_empty(),
        others: (!others.is_empty()).then(|| others.join(" ")),
    })
}

/// Its exit codes: 0 done, 1 error, 2 done and a restart is needed (Microsoft's page "Driver Verifier Command Syntax").
fn verifier(machine: &dyn Machine, arguments: &[&str]) -> Result<(), Failure> {
    let program = format!(r"{}\verifier.exe", machine.system());
    let ended = machine
        .run(&program, arguments)
        .map_err(Failure::of(&program))?;
    match ended.code {
        0 | 2 => Ok(()),
        code => {
            Err(Failure::new(format!("verifier.exe ended with {code}")).and(ended.output.trim()))
        }
    }
}
