//! `reserve`, `release` and `status`: a request to the disk, who served it, and what the filter knows.

use std::io::Write;

use scsi_reserve::state::{IOCTL_RESVFLT_QUERY_STATE, NONE, VERSION};
use scsi_reserve::{Knowledge, NtStatus, ReservationState, SENSE_KEYS};

use crate::disk::{Disk, Name};
use crate::machine::{Access, Device, Machine, Win32};
use crate::{Ends, Exit, Failure};

/// One of the two operations.
struct Operation {
    /// IOCTL_STORAGE_RESERVE or IOCTL_STORAGE_RELEASE (ntddstor.h).
    code: u32,
    done: &'static str,
}

const RESERVE: Operation = Operation {
    code: 0x002D_4810,
    done: "reserved for this node",
};
const RELEASE: Operation = Operation {
    code: 0x002D_4814,
    done: "released: this node does not hold it",
};

pub fn reserve(machine: &dyn Machine, name: Name, out: &mut dyn Write) -> Ends {
    let disk = Disk::named(machine, name)?;
    if disk.node(machine)?.is_some_and(|node| node.is_mpio()) {
        let failure = Failure::new(format!("{disk}: a disk of MPIO's"));
        return Err(failure.and(
            "a SCSI-2 reservation belongs to one path, and this node's others would meet it as a conflict: \
             use persistent reservations",
        ));
    }
    operate(machine, disk, &RESERVE, out)
}

pub fn release(machine: &dyn Machine, name: Name, out: &mut dyn Write) -> Ends {
    operate(machine, Disk::named(machine, name)?, &RELEASE, out)
}

/// Sends the request, and tells from the filter's count of requests whether it was the filter that served it.
fn operate(machine: &dyn Machine, disk: Disk, operation: &Operation, out: &mut dyn Write) -> Ends {
    let device = disk.open(machine, Access::Read)?;
    let before = query(disk, &*device)?;
    let result = device.control(operation.code, &mut []);
    let after = query(disk, &*device).ok().flatten();
    let seen = |state: &Option<ReservationState>| state.map(|state| state.requests);
    let served = seen(&after) > seen(&before);
    let who = match (&before, &after) {
        (_, Some(state)) if served => format!("resvflt answered: {}", last_answer(state)),
        (Some(_), Some(_)) => "disk.sys answered, which is above the filter".into(),
        (None, _) => "disk.sys answered: resvflt is not in this disk's stack".into(),
        (Some(_), None) => "resvflt does not answer any more".into(),
    };
    match result {
        Ok(_) => {
            writeln!(out, "{disk}: {}\n  {who}", operation.done)?;
            Ok(if served { Exit::Good } else { Exit::NotServed })
        }
        Err(error) => Err(disk.says(error).and(who).hint(error)),
    }
}

/// The filter's state; none if it is not in the stack, whose lower drivers then don't know the question.
fn query(disk: Disk, device: &dyn Device) -> Result<Option<ReservationState>, Failure> {
    let mut answer = [0; size_of::<ReservationState>()];
    let length = match device.control(IOCTL_RESVFLT_QUERY_STATE, &mut answer) {
        Ok(length) => length,
        Err(Win32::INVALID_FUNCTION | Win32::NOT_SUPPORTED) => return Ok(None),
        Err(error) => return Err(disk.failed(error)),
    };
    let state = ReservationState::from_bytes(&answer[..length.min(answer.len())]);
    match state {
        Some(state) if state.version == VERSION => Ok(Some(state)),
        _ => {
            let failure = Failure::new(format!("{disk}: resvflt's answer has another form"));
            Err(failure.and("install resvctl.exe and resvflt.sys from one package"))
        }
    }
}

fn known(machine: &dyn Machine, name: Name) -> Result<(Disk, ReservationState), Failure> {
    let disk = Disk::named(machine, name)?;
    let state = query(disk, &*disk.open(machine, Access::Read)?)?;
    let not_there = || {
        let failure = Failure::new(format!("{disk}: resvflt is not in this disk's stack"));
        let failure = failure.and(format!(
            "`resvctl list` shows where it is; `resvctl install {}` puts it there",
            disk.0
        ));
        failure.exit(Exit::NotServed)
    };
    Ok((disk, state.ok_or_else(not_there)?))
}

pub fn status(machine: &dyn Machine, name: Name, out: &mut dyn Write) -> Ends {
    let (disk, state) = known(machine, name)?;
    let knows = match Knowledge::from_number(state.knowledge) {
        Some(Knowledge::HeldByUs) => "held by this node",
        Some(Knowledge::NotOurs) => "not held by this node; it is free, or another's",
        Some(Knowledge::HeldByAnother) => "held by another initiator",
        Some(Knowledge::Unknown) | None => "not known",
    };
    let age = age(machine.interrupt_time().saturating_sub(state.since));
    writeln!(out, "{disk}: {knows} (for {age})")?;
    writeln!(out, "  last answer    {}", last_answer(&state))?;
    writeln!(out, "  last request   {}", nt_status(state.last_status))?;
    writeln!(out, "  next command   RESERVE({})", state.cdb_length)?;
    for (word, count) in [
        ("requests", state.requests),
        ("reserves", state.reserves),
        ("releases", state.releases),
        ("conflicts", state.conflicts),
        ("retries", state.retries),
        ("attentions", state.unit_attentions),
        ("timeouts", state.timeouts),
        ("cancels", state.cancels),
    ] {
        writeln!(out, "  {word:<14} {count}")?;
    }
    Ok(Exit::Good)
}

pub fn json(machine: &dyn Machine, name: Name, out: &mut dyn Write) -> Ends {
    let (disk, state) = known(machine, name)?;
    let knowledge = match Knowledge::from_number(state.knowledge) {
        Some(Knowledge::HeldByUs) => "held_by_us",
        Some(Knowledge::NotOurs) => "not_ours",
        Some(Knowledge::HeldByAnother) => "held_by_another",
        Some(Knowledge::Unknown) | None => "unknown",
    };
    let age_ms = machine.interrupt_time().saturating_sub(state.since) / 10_000;
    let last_status = state.last_status;
    let byte = |byte: u8| {
        if byte == NONE {
            "null".into()
        } else {
            byte.to_string()
        }
    };
    let (scsi_status, sense_key) = (byte(state.scsi_status), byte(state.sense_key));
    let ReservationState {
        asc,
        ascq,
        cdb_length,
        requests,
        reserves,
        releases,
        conflicts,
        retries,
        unit_attentions,
        timeouts,
        cancels,
        ..
    } = state;
    writeln!(
        out,
        "{{\"disk\":\"{disk}\",\"knowledge\":\"{knowledge}\",\"age_ms\":{age_ms},\
         \"last_status\":\"{last_status:#010x}\",\"scsi_status\":{scsi_status},\"sense_key\":{sense_key},\
         \"asc\":{asc},\"ascq\":{ascq},\"cdb_length\":{cdb_length},\"requests\":{requests},\"reserves\":{reserves},\
         \"releases\":{releases},\"conflicts\":{conflicts},\"retries\":{retries},\
         \"unit_attentions\":{unit_attentions},\"timeouts\":{timeouts},\"cancels\":{cancels}}}"
    )?;
    Ok(Exit::Good)
}

fn nt_status(status: i32) -> String {
    let name = NtStatus(status).name().unwrap_or("NTSTATUS");
    format!("{name} ({status:#010x})")
}

/// Status codes: SAM-3 5.3.1.
fn last_answer(state: &ReservationState) -> String {
    let name = match state.scsi_status {
        NONE => return "no answer from the disk".into(),
        0x00 => "GOOD",
        0x02 => "CHECK CONDITION",
        0x08 => "BUSY",
        0x18 => "RESERVATION CONFLICT",
        0x28 => "TASK SET FULL",
        0x30 => "ACA ACTIVE",
        0x40 => "TASK ABORTED",
        _ => "status",
    };
    let (status, asc, ascq) = (state.scsi_status, state.asc, state.ascq);
    match SENSE_KEYS.get(usize::from(state.sense_key)) {
        Some(key) => format!("{name} ({status:02x}h), {key} {asc:02x}h/{ascq:02x}h"),
        None => format!("{name} ({status:02x}h)"),
    }
}

/// A time in units of 100 ns, in its two largest units.
#[must_use]
pub fn age(time: u64) -> String {
    let seconds = time / 10_000_000;
    match (
        seconds / 86_400,
        seconds / 3_600 % 24,
        seconds / 60 % 60,
        seconds % 60,
    ) {
        (0, 0, 0, 0) => format!("{} ms", time / 10_000),
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, min, s) => format!("{min} min {s} s"),
        (0, h, min, _) => format!("{h} h {min} min"),
        (1, h, ..) => format!("1 day {h} h"),
        (days, h, ..) => format!("{days} days {h} h"),
    }
}
