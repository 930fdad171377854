//! `reserve`, `release`, `status` and `break`: a request to the disk, who served it, and what the filter knows.

use serde::Serialize;

use scsi_reserve::state::{IOCTL_RESVFLT_QUERY_STATE, NONE, Origin, VERSION_1};
use scsi_reserve::{Knowledge, NtStatus, ReservationState, SENSE_KEYS, Watch};

use crate::arguments::Request;
use crate::disk::{Disk, Name};
use crate::machine::{Access, Answer, Device, Machine, Win32};
use crate::persistent;
use crate::{Ends, Exit, Failure, Output};

/// One of the two operations.
pub struct Operation {
    name: &'static str,
    /// IOCTL_STORAGE_RESERVE or IOCTL_STORAGE_RELEASE (ntddstor.h).
    pub code: u32,
    done: &'static str,
}

pub const RESERVE: Operation = Operation {
    name: "reserve",
    code: 0x002D_4810,
    done: "reserved for this node",
};
pub const RELEASE: Operation = Operation {
    name: "release",
    code: 0x002D_4814,
    done: "released: this node does not hold it",
};

/// IOCTL_STORAGE_BREAK_RESERVATION (ntddstor.h).
const BREAK_RESERVATION: u32 = 0x002D_5014;
/// IOCTL_SCSI_GET_ADDRESS (ntddscsi.h).
const GET_ADDRESS: u32 = 0x0004_1018;
/// sizeof(SCSI_ADDRESS) and sizeof(STORAGE_BREAK_RESERVATION_REQUEST): a length, and four bytes.
const ADDRESS: u8 = 8;

/// What the filter said when it was asked for its state.
enum Filter {
    State(ReservationState),
    /// It is not in the stack, whose drivers then don't know the question.
    Absent,
    /// Something else went wrong.
    Silent(Failure),
}

/// Who served a request.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
enum Server {
    #[serde(rename = "resvflt")]
    Filter,
    #[serde(rename = "disk.sys")]
    Class,
    /// It can't be told.
    #[serde(rename = "unknown")]
    Unknown,
}

/// What `reserve` and `release` tell a program.
#[derive(Serialize)]
struct Answered {
    disk: Disk,
    operation: &'static str,
    done: bool,
    served_by: Server,
    /// The filter's state after it, where the filter told it.
    state: Option<State>,
    persistent: persistent::Answer,
}

/// What `status` tells a program.
#[derive(Serialize)]
struct Status<'a> {
    disk: Disk,
    state: Option<State>,
    persistent: &'a persistent::Answer,
}

/// What `break` tells a program.
#[derive(Serialize)]
struct Broken {
    disk: Disk,
    sent: bool,
    address: Address,
    /// The filter's state after it.
    state: Option<State>,
    persistent: persistent::Answer,
}

/// Where the disk is, to its port driver.
#[derive(Clone, Copy, Serialize)]
struct Address {
    port: u8,
    path: u8,
    target: u8,
    lun: u8,
}

/// A [`ReservationState`] for a program.
#[derive(Serialize)]
struct State {
    knowledge: &'static str,
    age_ms: u64,
    last_status: String,
    scsi_status: Option<u8>,
    sense_key: Option<u8>,
    asc: u8,
    ascq: u8,
    cdb_length: u32,
    requests: u64,
    reserves: u64,
    releases: u64,
    conflicts: u64,
    retries: u64,
    unit_attentions: u64,
    timeouts: u64,
    cancels: u64,
    /// What the answer's first version did not have.
    more: Option<More>,
}

/// What the second version has more.
#[derive(Serialize)]
struct More {
    origin: Option<&'static str>,
    watched: u32,
    parameters: Parameters,
}

/// The filter's parameters, as it works by them; the timeout is that of the disk.
#[derive(Serialize)]
struct Parameters {
    timeout_seconds: u32,
    max_retries: u8,
    retry_delay_ms: u32,
    reserve10_fallback: u8,
    watch: u8,
}

impl More {
    fn of(state: &ReservationState) -> Option<Self> {
        (state.version != VERSION_1).then(|| Self {
            origin: origin(state),
            watched: state.watched,
            parameters: Parameters {
                timeout_seconds: state.timeout_seconds,
                max_retries: state.max_retries,
                retry_delay_ms: state.retry_delay_ms,
                reserve10_fallback: state.reserve10_fallback,
                watch: state.watch,
            },
        })
    }
}

/// Whose request it was that made known what is.
fn origin(state: &ReservationState) -> Option<&'static str> {
    let is_known = state.knowledge != Knowledge::Unknown as u32;
    is_known.then_some(if state.origin == Origin::Watched as u8 {
        "watched"
    } else {
        "own"
    })
}

impl State {
    fn of(machine: &dyn Machine, state: &ReservationState) -> Self {
        let byte = |byte: u8| (byte != NONE).then_some(byte);
        Self {
            knowledge: knowledge(state),
            age_ms: machine.interrupt_time().saturating_sub(state.since) / 10_000,
            last_status: format!("{:#010x}", state.last_status),
            scsi_status: byte(state.scsi_status),
            sense_key: byte(state.sense_key),
            asc: state.asc,
            ascq: state.ascq,
            cdb_length: state.cdb_length,
            requests: state.requests,
            reserves: state.reserves,
            releases: state.releases,
            conflicts: state.conflicts,
            retries: state.retries,
            unit_attentions: state.unit_attentions,
            timeouts: state.timeouts,
            cancels: state.cancels,
            more: More::of(state),
        }
    }
}

pub fn reserve(machine: &dyn Machine, request: &Request, out: &mut Output<'_>) -> Ends {
    let disk = Disk::named(machine, &request.disk)?;
    not_mpio(machine, disk)?;
    operate(machine, disk, &RESERVE, request.require_filter, out)
}

pub fn release(machine: &dyn Machine, request: &Request, out: &mut Output<'_>) -> Ends {
    let disk = Disk::named(machine, &request.disk)?;
    operate(machine, disk, &RELEASE, request.require_filter, out)
}

/// A disk of MPIO's is no disk for SCSI-2 reservations. One whose device is not found is none of MPIO's.
fn not_mpio(machine: &dyn Machine, disk: Disk) -> Result<(), Failure> {
    if !disk.node(machine)?.is_some_and(|node| node.is_mpio()) {
        return Ok(());
    }
    let failure = Failure::new(format!("{disk}: a disk of MPIO's"));
    Err(failure.and(
        "a SCSI-2 reservation belongs to one path, and this node's others would meet it as a conflict: \
         use persistent reservations",
    ))
}

/// Sends the request, and tells from the filter's count of requests whether it was the filter that served it.
fn operate(
    machine: &dyn Machine,
    disk: Disk,
    operation: &Operation,
    require_filter: bool,
    out: &mut Output<'_>,
) -> Ends {
    let device = disk.open(machine, Access::Read)?;
    let before = query(disk, &*device);
    let result = device.control(operation.code, &[], &mut []);
    let after = query(disk, &*device);
    let (served_by, who) = server(&before, &after);
    // Only what was granted can be worthless; and where the two kinds exclude each other the disk refuses to say now.
    let persistent = if result.is_ok() && operation.code == RESERVE.code {
        persistent::ask(&*device)
    } else {
        persistent::Answer::Untold
    };
    let warning = persistent.warning();
    let report = Answered {
        disk,
        operation: operation.name,
        done: result.is_ok(),
        served_by,
        state: match &after {
            Filter::State(state) => Some(State::of(machine, state)),
            Filter::Absent | Filter::Silent(_) => None,
        },
        persistent,
    };
    if let Err(error) = result {
        return Err(disk.says(error).and(who).hint(error).detail(&report));
    }
    out.line(format_args!("{disk}: {}\n  {who}", operation.done))?;
    if let Some(warning) = warning {
        out.line(format_args!("  {warning}"))?;
    }
    out.report(&report)?;
    Ok(if require_filter && served_by != Server::Filter {
        Exit::NotServed
    } else {
        Exit::Good
    })
}

/// Who served a request, from the filter's state before and after it; also in words.
fn server(before: &Filter, after: &Filter) -> (Server, String) {
    match (before, after) {
        (Filter::State(before), Filter::State(after)) if after.requests > before.requests => (
            Server::Filter,
            format!("resvflt answered: {}", last_answer(after)),
        ),
        (Filter::State(_), Filter::State(_)) => (
            Server::Class,
            "disk.sys answered, which is above the filter".into(),
        ),
        (Filter::Absent, Filter::Absent) => (
            Server::Class,
            "disk.sys answered: resvflt is not in this disk's stack".into(),
        ),
        (Filter::Silent(why), _) | (_, Filter::Silent(why)) => (
            Server::Unknown,
            format!("who answered is not known: {}", why.says),
        ),
        (Filter::State(_), Filter::Absent) | (Filter::Absent, Filter::State(_)) => (
            Server::Unknown,
            "who answered is not known: the disk's stack was built anew".into(),
        ),
    }
}

/// sizeof(RESVFLT_STATE).
pub const NEWEST: usize = size_of::<ReservationState>();

/// The state query with room for so many bytes: what came.
pub fn query_state(device: &dyn Device, room: usize) -> Answer<Vec<u8>> {
    let mut answer = vec![0; room];
    let length = device.control(IOCTL_RESVFLT_QUERY_STATE, &[], &mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

pub const HELD_BY_US: &str = "held_by_us";
pub const NOT_OURS: &str = "not_ours";
pub const HELD_BY_ANOTHER: &str = "held_by_another";
pub const UNKNOWN: &str = "unknown";

/// What is known, as a word for programs.
pub const fn knowledge(state: &ReservationState) -> &'static str {
    match Knowledge::from_number(state.knowledge) {
        Some(Knowledge::HeldByUs) => HELD_BY_US,
        Some(Knowledge::NotOurs) => NOT_OURS,
        Some(Knowledge::HeldByAnother) => HELD_BY_ANOTHER,
        Some(Knowledge::Unknown) | None => UNKNOWN,
    }
}

fn query(disk: Disk, device: &dyn Device) -> Filter {
    let answer = match query_state(device, NEWEST) {
        Ok(answer) => answer,
        Err(Win32::INVALID_FUNCTION | Win32::NOT_SUPPORTED) => return Filter::Absent,
        Err(error) => {
            let what = format!("{disk}: the query of resvflt's state");
            return Filter::Silent(Failure::of(what)(error).hint(error));
        }
    };
    ReservationState::from_answer(&answer).map_or_else(
        || {
            let failure = Failure::new(format!("{disk}: resvflt's answer has another form"));
            Filter::Silent(failure.and("install resvctl.exe and resvflt.sys from one package"))
        },
        Filter::State,
    )
}

pub fn status(machine: &dyn Machine, name: &Name, out: &mut Output<'_>) -> Ends {
    let disk = Disk::named(machine, name)?;
    let device = disk.open(machine, Access::Read)?;
    let state = query(disk, &*device);
    let persistent = persistent::ask(&*device);
    let report = |state: Option<State>| Status {
        disk,
        state,
        persistent: &persistent,
    };
    let failure = match state {
        Filter::State(state) => {
            for line in told(machine, disk, &state) {
                out.line(line)?;
            }
            if let Some(warning) = persistent.warning() {
                out.line(format_args!("  {warning}"))?;
            }
            out.report(&report(Some(State::of(machine, &state))))?;
            return Ok(Exit::Good);
        }
        Filter::Absent => {
            let failure = Failure::new(format!("{disk}: resvflt is not in this disk's stack"));
            failure.and(format_args!(
                "`resvctl list` shows where it is; `resvctl install {}` puts it there",
                disk.0
            ))
        }
        Filter::Silent(failure) => failure,
    };
    let failure = failure.detail(&report(None));
    Err(match persistent.warning() {
        Some(warning) => failure.and(warning),
        None => failure,
    })
}

/// The filter's state in lines for a person.
fn told(machine: &dyn Machine, disk: Disk, state: &ReservationState) -> Vec<String> {
    let knows = match Knowledge::from_number(state.knowledge) {
        Some(Knowledge::HeldByUs) => "held by this node",
        Some(Knowledge::NotOurs) => "not held by this node; it is free, or another's",
        Some(Knowledge::HeldByAnother) => "held by another initiator",
        Some(Knowledge::Unknown) | None => "not known",
    };
    let age = age(machine.interrupt_time().saturating_sub(state.since));
    let mut lines = vec![
        format!("{disk}: {knows} (for {age})"),
        format!("  last answer    {}", last_answer(state)),
        format!("  last request   {}", nt_status(state.last_status)),
        format!("  next command   RESERVE({})", state.cdb_length),
    ];
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
        lines.push(format!("  {word:<14} {count}"));
    }
    if state.watch != Watch::Off as u8 {
        let from = match origin(state) {
            Some("watched") => "another's request, which passed the filter",
            Some(_) => "the filter's own request",
            None => "nothing",
        };
        lines.push(format!("  watched        {}", state.watched));
        lines.push(format!("  known from     {from}"));
    }
    lines
}

/// Resets what holds the disk's reservation, having said what that is and whom it hurts.
pub fn break_reservation(
    machine: &dyn Machine,
    name: &Name,
    force: bool,
    out: &mut Output<'_>,
) -> Ends {
    let disk = Disk::named(machine, name)?;
    not_mpio(machine, disk)?;
    let device = disk.open(machine, Access::Read)?;
    let address =
        address(&*device).map_err(Failure::of(format_args!("{disk}: its SCSI address")))?;
    let hurts = hurts(disk, address);
    let mut report = Broken {
        disk,
        sent: force,
        address,
        state: None,
        persistent: persistent::Answer::Untold,
    };
    if !force {
        let failure = Failure::new(format!("nothing was sent. {}", hurts[0]));
        let failure = hurts[1..].iter().fold(failure, Failure::and);
        return Err(failure.and("--force does it").detail(&report));
    }
    out.line(hurts.join("\n  "))?;
    let broken = send_reset(&*device, address);
    let state = match query(disk, &*device) {
        Filter::State(state) => Some(state),
        Filter::Absent | Filter::Silent(_) => None,
    };
    report.state = state.as_ref().map(|state| State::of(machine, state));
    report.persistent = persistent::ask(&*device);
    if let Err(error) = broken {
        return Err(disk.says(error).hint(error).detail(&report));
    }
    out.line(format_args!(
        "{disk}: reset. Who reserves it now has it: `resvctl reserve {}`",
        disk.0
    ))?;
    for line in state.iter().flat_map(|state| told(machine, disk, state)) {
        out.line(line)?;
    }
    if let Some(warning) = report.persistent.warning() {
        out.line(format_args!("  {warning}; no reset ends it"))?;
    }
    out.report(&report)?;
    Ok(Exit::Good)
}

/// Resets what holds the disk's reservation, without a word.
pub fn reset(device: &dyn Device) -> Answer<()> {
    send_reset(device, address(device)?)
}

fn send_reset(device: &dyn Device, address: Address) -> Answer<()> {
    // STORAGE_BREAK_RESERVATION_REQUEST: Length, a byte unused, PathId, TargetId, Lun.
    let request = [
        ADDRESS,
        0,
        0,
        0,
        0,
        address.path,
        address.target,
        address.lun,
    ];
    let answer = device.control(BREAK_RESERVATION, &request, &mut []);
    answer.map(|_| ())
}

/// Asks the port driver where the disk is.
fn address(device: &dyn Device) -> Answer<Address> {
    // SCSI_ADDRESS: Length, PortNumber, PathId, TargetId, Lun.
    let mut answer = [0; ADDRESS as usize];
    device.control(GET_ADDRESS, &[], &mut answer)?;
    let [_, _, _, _, port, path, target, lun] = answer;
    Ok(Address {
        port,
        path,
        target,
        lun,
    })
}

/// What is reset, and whom that hurts (Microsoft's page on IOCTL_STORAGE_BREAK_RESERVATION).
fn hurts(disk: Disk, address: Address) -> [String; 4] {
    let Address {
        port,
        path,
        target,
        lun,
    } = address;
    [
        format!("{disk}: port {port}, path {path}, target {target}, logical unit {lun}"),
        "the logical unit is reset; if that fails its target; if that fails, and with port drivers that are not \
         storport's at once, the whole bus"
            .into(),
        "every initiator loses its SCSI-2 reservations there, and the commands that it has under way".into(),
        "a holder that lives goes on with its writes: see first that it is dead, or fenced off".into(),
    ]
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
