//! The driver package, by pnputil.

use crate::inf::Identity;
use crate::machine::{Ended, Machine, Value, kind};
use crate::record::{Change, Record};
use crate::{Failure, multi_string};

/// Its INF, in the program's own folder.
pub const INF: &str = "resvflt.inf";

/// The first build whose INFs can add a filter: Windows 10 1903 (Microsoft's page "INF AddFilter Directive").
pub const ADD_FILTER_BUILD: u32 = 18362;

/// The package in the program's folder.
pub fn ours(machine: &dyn Machine) -> Result<Identity, Failure> {
    let inf = format!(r"{}\{INF}", machine.package());
    let Some(text) = machine.read_file(&inf).map_err(Failure::of(&inf))? else {
        return Err(Failure::new(format!("{inf} is not there"))
            .and("run resvctl.exe from the package's folder"));
    };
    Identity::of(&text).ok_or_else(|| {
        let failure = Failure::new(format!("{inf} has no Provider, ClassGuid or CatalogFile"));
        failure.and("`cargo xtask package` or stampinf makes a whole one of resvflt.inx")
    })
}

/// Stages the package and installs it on the disks.
pub fn add(machine: &dyn Machine) -> Result<(), Failure> {
    let inf = format!(r"{}\{INF}", machine.package());
    pnputil(machine, &["/add-driver", &inf, "/install"])?;
    Ok(())
}

/// Deletes the packages that are the one that resvctl installed; their published names.
pub fn delete(machine: &dyn Machine) -> Result<Vec<String>, Failure> {
    let value = Record(machine).before(&Change::Package)?;
    let recorded = value.map(|value| multi_string::strings(&value.data));
    let mut deleted = Vec::new();
    for (name, identity) in published(machine)? {
        if recorded
            .as_ref()
            .is_some_and(|known| *known == identity.strings())
        {
            pnputil(machine, &["/delete-driver", &name, "/uninstall"])?;
            deleted.push(name);
        }
    }
    Ok(deleted)
}

/// What the record keeps of a package.
pub fn recorded(identity: &Identity) -> Value {
    Value {
        kind: kind::MULTI_SZ,
        data: multi_string::data(identity.strings()),
    }
}

/// True if Windows has this package already.
pub fn is_there(machine: &dyn Machine, identity: &Identity) -> Result<bool, Failure> {
    Ok(published(machine)?
        .iter()
        .any(|(_, other)| other == identity))
}

/// Its exit codes: Microsoft's page "PnPUtil Return Values". 259: no device wanted it, 3010: a restart is needed.
fn pnputil(machine: &dyn Machine, arguments: &[&str]) -> Result<Ended, Failure> {
    let program = format!(r"{}\pnputil.exe", machine.system());
    let ended = machine
        .run(&program, arguments)
        .map_err(Failure::of(&program))?;
    match ended.code {
        0 | 259 | 3010 => Ok(ended),
        code => Err(
            Failure::new(format!("pnputil {} ended with {code}", arguments.join(" ")))
                .and(ended.output.trim()),
        ),
    }
}

/// The third parties' packages that Windows has, by their published names. pnputil's words are in the reader's language;
/// those names are not, and what a package is its INF says, which Windows keeps by that name.
fn published(machine: &dyn Machine) -> Result<Vec<(String, Identity)>, Failure> {
    let listed = pnputil(machine, &["/enum-drivers"])?.output;
    let system = machine.system();
    let windows = system.rsplit_once('\\').map_or("", |(windows, _)| windows);
    let mut found: Vec<(String, Identity)> = Vec::new();
    for name in listed.split_whitespace().filter(|word| is_oem_name(word)) {
        let inf = format!(r"{windows}\INF\{name}");
        let text = machine.read_file(&inf).map_err(Failure::of(&inf))?;
        if let Some(identity) = text.and_then(|text| Identity::of(&text)) {
            found.push((name.into(), identity));
        }
    }
    Ok(found)
}

/// True of a word like `oem12.inf`.
fn is_oem_name(word: &str) -> bool {
    let number = word
        .strip_prefix("oem")
        .and_then(|rest| rest.strip_suffix(".inf"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}
