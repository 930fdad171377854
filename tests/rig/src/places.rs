//! What each place in a disk's stack sees of each request: played in the rig, shown as `docs/places.md`.

use std::fmt::Write as _;
use std::path::Path;

use scsi_reserve::state::{IOCTL_RESVFLT_QUERY_STATE, Origin};
use scsi_reserve::{Knowledge, NtStatus, ReservationState};
use serde_json::{Value, json};

use crate::abi::{IOCTL_SCSI_PASS_THROUGH, SCSI_PASS_THROUGH, SCSI_PASS_THROUGH32};
use crate::class::{DiskStack, Place};
use crate::demo::IOCTL_STORAGE_RESERVE;
use crate::disk::logical_unit::LogicalUnit;
use crate::disk::status_name;
use crate::io::{Call, Caller};
use crate::node::{Node, NodeError, SERVICE_KEY};
use crate::port::{IOCTL_SCSI_GET_ADDRESS, Seen, Via};
use crate::registry::Hive;
use crate::timeline::hex;
use crate::world::{Schedule, World};
use crate::{image, port};

/// A request, and where in the stack it comes in.
struct Request {
    name: &'static str,
    /// To the device right below disk.sys, not to the top.
    below_disk: bool,
    call: fn() -> Call,
}

const REQUESTS: [Request; 7] = [
    Request {
        name: "RESERVE, a process's handle",
        below_disk: false,
        call: || from(Caller::User64, Call::ioctl(IOCTL_STORAGE_RESERVE)),
    },
    Request {
        name: "RESERVE, a 32-bit process's handle",
        below_disk: false,
        call: || from(Caller::User32, Call::ioctl(IOCTL_STORAGE_RESERVE)),
    },
    Request {
        name: "RESERVE, a driver below disk.sys",
        below_disk: true,
        call: || Call::ioctl(IOCTL_STORAGE_RESERVE),
    },
    Request {
        name: "IOCTL_SCSI_GET_ADDRESS, a process's handle",
        below_disk: false,
        call: || {
            let call = Call {
                output_length: 8,
                ..Call::ioctl(IOCTL_SCSI_GET_ADDRESS)
            };
            from(Caller::User64, call)
        },
    },
    Request {
        name: "RESERVE(6) as a process's own pass-through",
        below_disk: false,
        call: || from(Caller::User64, reserve_6(false)),
    },
    Request {
        name: "the same, a 32-bit process",
        below_disk: false,
        call: || from(Caller::User32, reserve_6(true)),
    },
    Request {
        name: "IOCTL_RESVFLT_QUERY_STATE, a process's handle",
        below_disk: false,
        call: || {
            let call = Call {
                output_length: size_of::<ReservationState>() as u32,
                ..Call::ioctl(IOCTL_RESVFLT_QUERY_STATE)
            };
            from(Caller::User64, call)
        },
    },
];

fn from(caller: Caller, call: Call) -> Call {
    Call { caller, ..call }
}

/// A caller's own pass-through of RESERVE(6), in the layout of a 32-bit process or of everybody else.
pub fn reserve_6(narrow: bool) -> Call {
    const SENSE: usize = 18;
    let (length, sense_offset, cdb) = if narrow {
        (size_of::<SCSI_PASS_THROUGH32>(), 24, 28)
    } else {
        (size_of::<SCSI_PASS_THROUGH>(), 32, 36)
    };
    let mut input = vec![0; length + SENSE];
    input[0] = length as u8; // Length
    (input[6], input[7], input[8]) = (6, SENSE as u8, 2); // CdbLength, SenseInfoLength, DataIn
    input[16] = 60; // TimeOutValue
    input[sense_offset] = length as u8;
    input[cdb] = 0x16;
    Call {
        output_length: input.len() as u32,
        input,
        ..Call::ioctl(IOCTL_SCSI_PASS_THROUGH)
    }
}

/// What one request came to.
#[derive(Clone, Debug)]
pub struct Row {
    /// The request.
    pub request: &'static str,
    /// On which of the unit's paths, from 1.
    pub path: usize,
    /// Who completed it, or made the command for it.
    pub answered_by: &'static str,
    /// Commands that the unit got for it.
    pub commands: Vec<Seen>,
    /// Minor function of what else reached the port.
    pub foreign: Option<u8>,
    /// How the caller's IRP ended.
    pub status: NtStatus,
    /// Its Information.
    pub information: u64,
    /// What the filter's counters say after it.
    pub counters: ReservationState,
}

/// One place, and what was seen there.
pub struct Table {
    /// Its heading.
    pub title: &'static str,
    /// What is put together there.
    pub about: &'static str,
    /// All requests, on each path.
    pub rows: Vec<Row>,
}

/// A place, and what is put together there.
struct Spot {
    title: &'static str,
    about: &'static str,
    place: Place,
    paths: usize,
    /// The parameter `Watch`.
    watch: u32,
}

const PLACES: [Spot; 5] = [
    Spot {
        title: "Below disk.sys",
        about: "The lower filter, as it is installed: handle, disk.sys, resvflt, port.",
        place: Place::Lower,
        paths: 1,
        watch: 0,
    },
    Spot {
        title: "Below disk.sys, with Watch",
        about: "As above, with the parameter `Watch` = 1: the filter looks at the SRBs that pass.",
        place: Place::Lower,
        paths: 1,
        watch: 1,
    },
    Spot {
        title: "Above disk.sys",
        about: "The upper filter: handle, resvflt, disk.sys, port.",
        place: Place::Upper,
        paths: 1,
        watch: 0,
    },
    Spot {
        title: "Above disk.sys, with Watch",
        about: "As above, with `Watch` = 1: disk.sys makes its SRBs below the filter, and nothing of them passes it.",
        place: Place::Upper,
        paths: 1,
        watch: 1,
    },
    Spot {
        title: "Two paths to one unit",
        about: "One node, two I_T nexuses, a stack with a lower filter on each; each request goes to path 1 and then to path 2. (MPIO's\n\
         pseudo-disk, which would lie above both, is left alone by the filter and has no part here.)",
        place: Place::Lower,
        paths: 2,
        watch: 0,
    },
];

/// Plays every request in every place; each has a node and a unit of its own, without a unit attention.
///
/// # Errors
/// The driver does not load.
pub fn play(file: &Path) -> Result<Vec<Table>, NodeError> {
    let bytes = image::read(file)?;
    let table = |spot: &Spot| {
        let mut rows = Vec::new();
        for request in &REQUESTS {
            rows.extend(play_one(file, &bytes, request, spot)?);
        }
        let Spot { title, about, .. } = *spot;
        Ok(Table { title, about, rows })
    };
    PLACES.iter().map(table).collect()
}

fn play_one(
    file: &Path,
    bytes: &[u8],
    request: &Request,
    spot: &Spot,
) -> Result<Vec<Row>, NodeError> {
    let world = World::enter(Schedule::Orderly);
    let hive = Hive::default();
    if spot.watch != 0 {
        hive.set(&format!(r"{SERVICE_KEY}\Parameters"), "Watch", spot.watch);
    }
    let node = Node::load_bytes(world.world(), "A", file, bytes, hive)?;
    let unit = LogicalUnit::new();
    unit.configure(|options| options.quiet = true);
    let mut stacks = Vec::new();
    for disk in port::two_paths(&unit, "iqn.2001-04.com.example:a")
        .into_iter()
        .take(spot.paths)
    {
        stacks.push(DiskStack::plug(&node, spot.place, disk).map_err(NodeError::Entry)?);
    }
    let rows = (1..)
        .zip(&stacks)
        .map(|(path, stack)| observe(&node, stack, request, path));
    let rows = rows.collect();
    for stack in stacks {
        stack.unplug(&node);
    }
    node.unload();
    Ok(rows)
}

fn observe(node: &Node, stack: &DiskStack, request: &Request, path: usize) -> Row {
    let port = &stack.stack.port;
    let entry = if request.below_disk {
        stack.below_disk()
    } else {
        stack.stack.top()
    };
    let end = node.start_at(entry, &(request.call)(), |_| {}).wait();
    let commands = port.take_seen();
    let foreign = port.take_foreign().first().map(|&(_, minor, _)| minor);
    let counters = query(node, stack);
    let answered_by = if counters.requests > 0 || commands.is_empty() && foreign.is_none() {
        "resvflt"
    } else if stack.class.take_served() > 0 {
        "disk.sys"
    } else {
        "the port"
    };
    Row {
        request: request.name,
        path,
        answered_by,
        commands,
        foreign,
        status: NtStatus(end.status),
        information: end.information,
        counters,
    }
}

fn query(node: &Node, stack: &DiskStack) -> ReservationState {
    let call = Call {
        output_length: size_of::<ReservationState>() as u32,
        ..Call::ioctl(IOCTL_RESVFLT_QUERY_STATE)
    };
    let buffer = node.call_with_buffer(&stack.stack, &call).1;
    ReservationState::from_bytes(&buffer).unwrap_or_else(|| unreachable!("it has that length"))
}

impl Row {
    /// How it reached the port.
    fn arrival(&self) -> (&'static str, Option<u8>) {
        match (self.commands.first().map(|seen| seen.via), self.foreign) {
            (Some(Via::PassThrough(minor)), _) => ("pass-through", Some(minor)),
            (Some(Via::Srb(minor)), _) => ("SRB", Some(minor)),
            (Some(Via::Function(_)), _) => ("SRB", None),
            (None, Some(minor)) => ("as it was", Some(minor)),
            (None, None) => ("not at all", None),
        }
    }

    /// What the unit answered the last command.
    fn scsi_status(&self) -> Option<&'static str> {
        status_name(self.commands.last()?.scsi_status()?)
    }

    /// The counters that are not 0, of those that a request can move here.
    fn counted(&self) -> Vec<(&'static str, u64)> {
        let state = &self.counters;
        let all = [
            ("requests", state.requests),
            ("reserves", state.reserves),
            ("conflicts", state.conflicts),
            ("retries", state.retries),
            ("unit_attentions", state.unit_attentions),
        ];
        all.into_iter().filter(|(_, count)| *count > 0).collect()
    }

    /// What the filter knows after it, and from whom.
    fn known(&self) -> &'static str {
        let state = &self.counters;
        let watched = state.origin == Origin::Watched as u8;
        match (Knowledge::from_number(state.knowledge), watched) {
            (Some(Knowledge::HeldByUs), false) => "held by us",
            (Some(Knowledge::HeldByUs), true) => "held by us (an SRB)",
            (Some(Knowledge::NotOurs), false) => "not ours",
            (Some(Knowledge::NotOurs), true) => "not ours (an SRB)",
            (Some(Knowledge::HeldByAnother), false) => "held by another",
            (Some(Knowledge::HeldByAnother), true) => "held by another (an SRB)",
            (Some(Knowledge::Unknown) | None, _) => "–",
        }
    }

    /// The row as an object, with the table's title as its place.
    pub fn json(&self, place: &str) -> Value {
        let (arrival, minor) = self.arrival();
        json!({
            "place": place,
            "path": self.path,
            "request": self.request,
            "answered_by": self.answered_by,
            "cdbs": self.commands.iter().map(|seen| hex(&seen.cdb, "")).collect::<Vec<_>>(),
            "reached_the_port": arrival,
            "minor": minor,
            "scsi_status": self.scsi_status(),
            "status": self.status.name(),
            "information": self.information,
            "known": self.known(),
            "counters": self.counted().into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        })
    }
}

/// The tables as JSON lines, one for each row.
pub fn json(tables: &[Table]) -> String {
    let lines = tables
        .iter()
        .flat_map(|table| table.rows.iter().map(|row| row.json(table.title)));
    lines.fold(String::new(), |text, line| text + &format!("{line}\n"))
}

/// `docs/places.md`.
pub fn page(tables: &[Table]) -> String {
    let mut page = String::from(HEAD);
    for table in tables {
        let paths = table.rows.iter().any(|row| row.path > 1);
        let _ = write!(page, "\n## {}\n\n{}\n\n", table.title, table.about);
        page += "| request | answered by | CDBs | reaches the port as | minor | the unit says | status | Information | known then | counters |\n";
        page += "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
        for row in &table.rows {
            page += &line(row, paths);
        }
    }
    page + TAIL
}

fn line(row: &Row, paths: bool) -> String {
    let (arrival, minor) = row.arrival();
    let minor = minor.map_or("–".into(), |minor| minor.to_string());
    let counted: Vec<_> = row
        .counted()
        .iter()
        .map(|(name, n)| format!("{name} {n}"))
        .collect();
    let request = if paths {
        format!("{}, path {}", row.request, row.path)
    } else {
        row.request.into()
    };
    format!(
        "| {request} | {} | {} | {arrival} | {minor} | {} | {} | {} | {} | {} |\n",
        row.answered_by,
        row.commands.len(),
        row.scsi_status().unwrap_or("–"),
        row.status
            .name()
            .unwrap_or("?")
            .trim_start_matches("STATUS_"),
        row.information,
        row.known(),
        counted.join(", "),
    )
}

const HEAD: &str = "\
# Where the filter sits, and what it sees there

`cargo xtask places` plays each request in each place, with the built `resvflt.sys`, and prints this page; a test compares
it. disk.sys is a model here (`tests/rig/src/class.rs`), written after microsoft/Windows-driver-samples,
storage/class/classpnp/src/class.c; the port is the rig's, storport-like. Nothing of this was ever run on Windows.

*CDBs* are the commands that the logical unit got for the request. *Minor* is the minor function with which the request,
or the command made for it, reached the port: 1 is IRP_MN_SCSI_CLASS. *Known then* is what the state query tells of the
reservation after the request, and whether it is from an SRB of another's that passed. *Counters* are the filter's own, those that are not 0.
";

const TAIL: &str = "
## Read as

* **Whose RESERVE it is depends on who is asked first.** disk.sys serves the control itself (class.c 8072), so a filter
  below it sees no RESERVE of a process, and passes disk.sys's SRB without counting it. With `Watch` it looks at the SRB and
  its answer, and so knows of the reservation, but neither makes nor changes it. Above disk.sys the filter serves
  every handle. Either way one command reaches the unit, and the reservation is the node's: the unit knows only the I_T nexus.
* **A driver that addresses the stack below disk.sys reaches the lower filter, and misses the upper one**: then the control
  arrives at the port. (The rig's refuses it; what Windows's port drivers say to it was not tried.)
* **The filter's pass-through has minor function 1 in both places.** Above disk.sys, disk.sys would set it anyway (7343);
  below, nobody else does.
* **A 32-bit caller makes no difference to the filter**, for it sends an IRP of its own. In the caller's IRP, class and port
  drivers would take the structure for a SCSI_PASS_THROUGH32 (7307) and refuse it.
* **A process's own pass-through passes the filter in both places**, untouched and uncounted: what the filter last knew says
  nothing of such a reservation. `Watch` does not see it either: the port makes the command of the control, below the filter.
* **Two paths are two initiators.** What one path has reserved shuts the node's other path out (SPC-2 5.5.1), and each
  filter knows of its own path only. A process's own pass-through learns of it from ScsiStatus alone: its status is SUCCESS.
";
