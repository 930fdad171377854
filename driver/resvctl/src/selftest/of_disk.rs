//! Checks of one disk that change nothing on it.

use scsi_reserve::state::VERSION_1_SIZE;

use super::evidence::{Evidence, Found, Untold, untold};
use super::of_machine::{PARAMETERS, parameter, why_left_alone};
use super::subject::{NEWEST, State, Subject, pass_through, query as ask};
use crate::filters::{POSITIONS, key_of};
use crate::list::Place;
use crate::machine::{Access, Key, Win32};
use crate::{FILTER, multi_string};

/// The lists of a disk and of its class, lower and upper ones: what they name.
fn lists(subject: &Subject<'_>, evidence: &mut Evidence) -> Result<[Vec<String>; 2], Untold> {
    let mut named = [Vec::new(), Vec::new()];
    for (list, named) in POSITIONS.into_iter().zip(&mut named) {
        for device in [Some(&subject.node.instance), None] {
            let value = subject.machine.value(&key_of(device), list);
            let Some(value) = value.map_err(Untold::of(list))? else {
                continue;
            };
            let drivers = multi_string::strings(&value.data);
            let whose = if device.is_some() { "disk" } else { "class" };
            evidence.saw(format_args!("{list} of the {whose}"), drivers.join(", "));
            named.extend(drivers);
        }
    }
    Ok(named)
}

fn names(list: &[String], driver: &str) -> bool {
    list.iter().any(|name| name.eq_ignore_ascii_case(driver))
}

pub fn stack(subject: &Subject<'_>, evidence: &mut Evidence) -> Found {
    let stack = subject.stack()?;
    evidence.saw("stack", stack.join(", "));
    let [lower, upper] = lists(subject, evidence)?;
    let [below, above] = [&lower, &upper].map(|list| names(list, FILTER));
    let is = |name: &'static str| move |driver: &&str| driver.eq_ignore_ascii_case(name);
    let Some(disk) = stack.iter().position(is("disk")) else {
        return untold("disk.sys is not in its stack");
    };
    let (over, under) = (&stack[..disk], &stack[disk + 1..]);
    let [over, under] = [
        over.iter().rev().position(is(FILTER)).map(|at| (at, over)),
        under.iter().position(is(FILTER)).map(|at| (at, under)),
    ];
    if over.is_none() && under.is_none() {
        if let Some(why) = why_left_alone(subject.machine, &subject.node)? {
            return untold(why);
        }
        if !below && !above {
            return untold("no list names the filter, and the stack does not have it");
        }
        evidence.claim(
            false,
            "a list names the filter, and the stack does not have it: it is built anew at the disk's next start",
        );
        return Ok(());
    }
    evidence.claim(
        above == over.is_some(),
        "the filter is above disk without UpperFilters naming it, or the other way round",
    );
    // Where no list names it, a driver package has put it there: below (inf/resvflt.inx).
    evidence.claim(
        under.is_some() == (below || !above),
        "the filter is below disk without LowerFilters naming it, or the other way round",
    );
    if let Some((at, over)) = over {
        let between = &over[over.len() - at..];
        near(evidence, between, &upper);
    }
    if let Some((at, under)) = under {
        near(evidence, &under[..at], &lower);
    }
    Ok(())
}

/// Claims that between the filter and disk is only what the same lists name.
fn near(evidence: &mut Evidence, between: &[&str], list: &[String]) {
    for driver in between {
        evidence.claim(
            names(list, driver),
            format_args!("between disk and the filter is {driver}"),
        );
    }
}

pub fn query(subject: &Subject<'_>, evidence: &mut Evidence) -> Found {
    let place = subject.place()?;
    let device = subject.open(Access::Read)?;
    let answer = ask(&*device, NEWEST);
    evidence.saw("the stack has the filter", place != Place::None);
    match (&answer, place) {
        (Ok(bytes), _) => evidence.saw("answer", format_args!("{} bytes", bytes.len())),
        (Err(error), _) => evidence.saw("answer", error),
    }
    match (answer, place) {
        (Err(error), Place::None) => evidence.claim(
            error == Win32::INVALID_FUNCTION,
            format_args!("without the filter: {error}"),
        ),
        (Ok(_), Place::None) => evidence.claim(false, "a stack without the filter answers"),
        (Err(error), _) => evidence.claim(false, format_args!("the filter is there: {error}")),
        (Ok(bytes), _) => evidence.claim(
            State::read(&bytes).is_some(),
            "its answer has a form that this resvctl does not know",
        ),
    }
    Ok(())
}

pub fn query_sizes(subject: &Subject<'_>, evidence: &mut Evidence) -> Found {
    subject.is_above()?;
    let device = subject.open(Access::Read)?;
    for (room, versions) in [
        (0, 0..=0),
        (VERSION_1_SIZE - 1, 0..=0),
        (VERSION_1_SIZE, 1..=1),
        (NEWEST - 1, 1..=1),
        (NEWEST, 1..=2),
    ] {
        let answer = ask(&*device, room).map(|bytes| State::read(&bytes));
        let (said, holds) = match &answer {
            Ok(Some(state)) => {
                let version = state.0.version;
                (format!("version {version}"), versions.contains(&version))
            }
            Ok(None) => ("no version that is known".into(), false),
            Err(error) => {
                let small = *error == Win32::INSUFFICIENT_BUFFER;
                (error.to_string(), small && *versions.end() == 0)
            }
        };
        evidence.saw(format_args!("{room} bytes"), &said);
        evidence.claim(holds, format_args!("a buffer of {room} bytes: {said}"));
    }
    Ok(())
}

pub fn handle_access(subject: &Subject<'_>, evidence: &mut Evidence) -> Found {
    let device = subject.open(Access::Ask)?;
    let said = match ask(&*device, NEWEST) {
        Ok(_) => "an answer".to_owned(),
        Err(error) => error.to_string(),
    };
    evidence.same(
        "without FILE_READ_ACCESS",
        said,
        Win32::ACCESS_DENIED.to_string(),
    );
    Ok(())
}

pub fn parameters(subject: &Subject<'_>, evidence: &mut Evidence) -> Found {
    subject.is_above()?;
    let state = State::of(&*subject.open(Access::Read)?)?;
    let state = state.second()?;
    let key = Key::Machine(PARAMETERS.into());
    // driver/config.rs.
    for (name, range, default, found) in [
        ("MaxRetries", 0..=16, 4, state.max_retries.into()),
        ("RetryDelayMs", 10..=60_000, 1_000, state.retry_delay_ms),
        (
            "Reserve10Fallback",
            0..=1,
            1,
            state.reserve10_fallback.into(),
        ),
        ("Watch", 0..=2, 0, state.watch.into()),
    ] {
        let wanted = parameter(subject.machine, &key, name, range)?;
        evidence.same(name, found, wanted.unwrap_or(default));
    }
    if let Some(seconds) = timeout_parameter(subject)? {
        evidence.same("TimeoutSeconds", state.timeout_seconds, seconds);
    }
    Ok(())
}

fn timeout_parameter(subject: &Subject<'_>) -> Result<Option<u32>, Untold> {
    let key = Key::Machine(PARAMETERS.into());
    parameter(subject.machine, &key, "TimeoutSeconds", 1..=3_600)
}

pub fn timeout(subject: &Subject<'_>, evidence: &mut Evidence) -> Found {
    if let Some(seconds) = timeout_parameter(subject)? {
        return untold(format_args!("TimeoutSeconds is {seconds}"));
    }
    subject.is_above()?;
    let state = State::of(&*subject.open(Access::Read)?)?;
    // driver/config.rs.
    let key = Key::Machine(r"SYSTEM\CurrentControlSet\Services\Disk".into());
    let wanted = parameter(subject.machine, &key, "TimeOutValue", 1..=108_000)?;
    evidence.saw(
        "TimeOutValue",
        wanted.map_or_else(|| "none".into(), |seconds| seconds.to_string()),
    );
    let found = state.second()?.timeout_seconds;
    evidence.same("timeout in seconds", found, wanted.unwrap_or(10));
    Ok(())
}

/// INQUIRY with EVPD of page A0h, which is reserved (SPC-4 table 489), and room for no data.
const INQUIRY: [u8; 6] = [0x12, 1, 0xA0, 0, 0, 0];

pub fn port_refusal(subject: &Subject<'_>, evidence: &mut Evidence) -> Found {
    let device = subject.open(Access::ReadWrite)?;
    let passed = match pass_through(&*device, &INQUIRY) {
        Ok(passed) => passed,
        Err(Win32::ACCESS_DENIED) => return untold("the pass-through: access is denied"),
        Err(error) => {
            evidence.saw("status", error);
            evidence.claim(false, format_args!("the port hands nothing over: {error}"));
            return Ok(());
        }
    };
    evidence.saw("status", "success");
    match passed.status {
        0 => return untold("the unit takes the command"),
        // BUSY, TASK SET FULL, TASK ABORTED (SAM-5 5.3.1): it was not looked at.
        busy @ (0x08 | 0x28 | 0x40) => {
            return untold(format_args!("the unit is busy: ScsiStatus {busy:02x}h"));
        }
        _ => {}
    }
    evidence.same(
        "ScsiStatus",
        format!("{:02x}h", passed.status),
        "02h".to_owned(),
    );
    let sense: Vec<String> = passed.sense.iter().map(|b| format!("{b:02x}")).collect();
    evidence.saw("sense data", sense.join(" "));
    evidence.claim(
        passed.sense_key() == Some(scsi_reserve::sense::key::ILLEGAL_REQUEST),
        "the sense data does not say ILLEGAL REQUEST",
    );
    Ok(())
}
