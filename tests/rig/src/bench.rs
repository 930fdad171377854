//! What the driver costs: instructions, allocations, calls and commands of each request, counted; the image's size; and
//! what is asked of them.
//!
//! Counted is what is executed inside the image. What it calls (the framework, the executive, the port driver) is the rig's,
//! so its cost says nothing about Windows and is left out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object::LittleEndian as LE;
use object::read::pe::{Import, PeFile64};
use scsi_reserve::state::IOCTL_RESVFLT_QUERY_STATE;
use scsi_reserve::{NtStatus, ReservationState};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use windows_sys::Wdk::System::SystemServices::{IRP_MJ_READ, IRP_MJ_WRITE};

use crate::abi::{Status, status};
use crate::class::{self, DiskStack, Place};
use crate::disk::Disk;
use crate::disk::logical_unit::{LogicalUnit, Nexus};
use crate::etw::{Ask, Session};
use crate::fx::DiskKeys;
use crate::image::LoadError;
use crate::io::Call;
use crate::node::{Node, NodeError, SERVICE_KEY, Stack};
use crate::port::IOCTL_SCSI_GET_ADDRESS;
use crate::registry::Hive;
use crate::srb::Form;
use crate::step::{self, Counted};
use crate::world::{self, Entered, Schedule, World};
use crate::{exports, image, io, pool};
use object::pe::ImageNtHeaders64;

/// The largest image, in bytes; README.md says what keeps it from fewer.
pub const IMAGE_GOAL: u64 = 54 * 512;
/// What the flat cost is measured on, beside one device.
pub const MANY: usize = 10_000;

const RESERVE: u32 = 0x002D_4810;
const RELEASE: u32 = 0x002D_4814;
/// The framework's own object for an IRP in a queue, from a list of its own (fxioqueue.cpp, FxIoQueue::QueueRequest): every
/// driver with a queue has it, and it is none of the driver's.
const FRAMEWORKS_REQUEST: &str = "WDFREQUEST";

/// A request, and what it meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// IRP_MJ_READ.
    Read,
    /// IRP_MJ_WRITE.
    Write,
    /// A control code that is not the filter's: the dearest of [`foreign_codes`].
    Ioctl,
    /// RESERVE of a unit that nobody holds.
    Reserve,
    /// RESERVE of a unit that another initiator holds.
    Conflict,
    /// RESERVE that meets one unit attention, and is sent again.
    Attention,
    /// RELEASE by the holder.
    Release,
    /// IOCTL_RESVFLT_QUERY_STATE.
    Query,
    /// disk.sys's READ(10), an SRB, with this parameter `Watch`: in the dearer of its forms, answer included.
    Srb(u32),
}

impl Case {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Read,
        Self::Write,
        Self::Ioctl,
        Self::Reserve,
        Self::Conflict,
        Self::Attention,
        Self::Release,
        Self::Query,
        Self::Srb(0),
        Self::Srb(1),
        Self::Srb(2),
    ];

    /// The parameter `Watch` that it is measured with.
    fn watch(self) -> u32 {
        match self {
            Self::Srb(watch) => watch,
            _ => 0,
        }
    }

    /// How tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "foreign read",
            Self::Write => "foreign write",
            Self::Ioctl => "foreign IOCTL",
            Self::Reserve => "reserve",
            Self::Conflict => "reserve, conflict",
            Self::Attention => "reserve, unit attention",
            Self::Release => "release",
            Self::Query => "state query",
            Self::Srb(0) => "foreign read (SRB), Watch 0",
            Self::Srb(1) => "foreign read (SRB), Watch 1",
            Self::Srb(_) => "foreign read (SRB), Watch 2",
        }
    }

    /// The most instructions, where a limit is set. What writes events has none while somebody listens.
    pub fn instructions_goal(self, etw: bool) -> Option<u64> {
        match self {
            Self::Read | Self::Write | Self::Srb(0) => Some(0),
            Self::Srb(1) => Some(35),
            Self::Srb(_) => Some(60),
            Self::Ioctl => Some(21),
            Self::Query => Some(120),
            _ if etw => None,
            Self::Reserve | Self::Release => Some(550),
            Self::Conflict => Some(560),
            Self::Attention => Some(1_000),
        }
    }

    /// How many SCSI commands, where that is asked.
    pub fn commands_goal(self) -> Option<u64> {
        match self {
            Self::Reserve | Self::Conflict | Self::Srb(_) => Some(1),
            _ => None,
        }
    }

    /// The request, and the status that it is to end with; an SRB is none.
    fn call(self) -> (Call, NtStatus) {
        match self {
            Self::Read | Self::Srb(_) => (Call::major(IRP_MJ_READ as u8, 0), NtStatus::SUCCESS),
            Self::Write => (Call::major(IRP_MJ_WRITE as u8, 0), NtStatus::SUCCESS),
            Self::Ioctl => (
                Call {
                    output_length: 8,
                    ..Call::ioctl(IOCTL_SCSI_GET_ADDRESS)
                },
                NtStatus::SUCCESS,
            ),
            Self::Reserve | Self::Attention => (Call::ioctl(RESERVE), NtStatus::SUCCESS),
            Self::Conflict => (Call::ioctl(RESERVE), NtStatus::DEVICE_BUSY),
            Self::Release => (Call::ioctl(RELEASE), NtStatus::SUCCESS),
            Self::Query => (
                Call {
                    output_length: size_of::<ReservationState>() as u32,
                    ..Call::ioctl(IOCTL_RESVFLT_QUERY_STATE)
                },
                NtStatus::SUCCESS,
            ),
        }
    }
}

/// What one request cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The request.
    pub case: Case,
    /// Instructions of each callback, in order.
    pub callbacks: Vec<u64>,
    /// Allocations made in the driver's name.
    pub allocations: u64,
    /// Calls of KMDF.
    pub framework_calls: u64,
    /// Calls of ntoskrnl.exe.
    pub executive_calls: u64,
    /// Commands that reached the target.
    pub commands: u64,
    /// Where the instructions lie, as [`Counted::places`].
    pub places: Vec<u32>,
}

impl Cost {
    /// Instructions in all.
    pub fn instructions(&self) -> u64 {
        self.callbacks.iter().sum()
    }
}

/// A node with disks, the last of which is measured, and one more, with disk.sys above the filter.
pub struct Fleet {
    node: Node,
    stacks: Vec<Stack>,
    below_disk: DiskStack,
    unit: LogicalUnit,
    other: Nexus,
    executive: BTreeSet<usize>,
    _session: Option<Session>,
    // Last: everything above lives in it.
    world: Entered,
}

impl Fleet {
    /// Loads the driver of `file` on a node and gives it `devices` disks; with `etw` somebody listens to all events; with
    /// this parameter `Watch`.
    ///
    /// # Errors
    /// The driver could not be loaded.
    ///
    /// # Panics
    /// If a disk does not start with the filter on it.
    pub fn new(file: &Path, devices: usize, etw: bool, watch: u32) -> Result<Self, NodeError> {
        let world = World::enter(Schedule::Orderly);
        let session = etw.then(|| {
            let session = Session::new(world.world());
            session.listen(Ask::ALL);
            session
        });
        let bytes = image::read(file)?;
        let hive = Hive::default();
        if watch != 0 {
            hive.set(&format!(r"{SERVICE_KEY}\Parameters"), "Watch", watch);
        }
        let node = Node::load_bytes(world.world(), "A", file, &bytes, hive)?;
        let mut unit = LogicalUnit::new();
        let stacks = (0..devices).map(|_| {
            unit = LogicalUnit::new();
            unit.configure(|options| options.quiet = true);
            let disk = Arc::new(unit.connect("iqn.2026-01.example:a"));
            let stack = node.plug(disk, &DiskKeys::default());
            let stack =
                stack.unwrap_or_else(|status| panic!("the disk did not start: {status:#x}"));
            assert!(stack.is_filtered(), "the filter sits on every disk");
            stack
        });
        let stacks = stacks.collect();
        let quiet = LogicalUnit::new();
        quiet.configure(|options| options.quiet = true);
        let disk = Arc::new(quiet.connect("iqn.2026-01.example:a"));
        let below_disk = DiskStack::plug(&node, Place::Lower, disk);
        let below_disk =
            below_disk.unwrap_or_else(|status| panic!("the disk did not start: {status:#x}"));
        let other = unit.connect("iqn.2026-01.example:b");
        Ok(Self {
            executive: executive(&bytes),
            node,
            stacks,
            below_disk,
            unit,
            other,
            _session: session,
            world,
        })
    }

    /// Sends one request to the last disk and counts. What the request is to meet is prepared before, by requests that
    /// are not counted.
    ///
    /// # Panics
    /// If the request ends otherwise than it should.
    pub fn measure(&self, case: Case) -> Cost {
        if let Case::Srb(_) = case {
            return self.measure_srb(case);
        }
        let Some(stack) = self.stacks.last() else {
            unreachable!("there are disks")
        };
        self.prepare(case, stack);
        let (call, wanted) = case.call();
        if case != Case::Ioctl {
            return self.count(case, stack, &call, wanted);
        }
        let known = self.count(case, stack, &call, wanted);
        let others = foreign_codes().map(|code| {
            // The port knows none of these.
            let wanted = NtStatus::INVALID_DEVICE_REQUEST;
            self.count(case, stack, &Call::ioctl(code), wanted)
        });
        let costs = std::iter::once(known).chain(others);
        costs
            .max_by_key(Cost::instructions)
            .unwrap_or_else(|| unreachable!("at least one"))
    }

    fn measure_srb(&self, case: Case) -> Cost {
        let DiskStack { stack, class } = &self.below_disk;
        let cost = |form| {
            class.sends_as(form);
            self.count_all(case, stack, NtStatus::SUCCESS, || {
                class.send(&class::read(0)).wait().status
            })
        };
        let costs = [Form::Classic, Form::Cdb16].map(cost);
        costs
            .into_iter()
            .max_by_key(Cost::instructions)
            .unwrap_or_else(|| unreachable!("two"))
    }

    fn count(&self, case: Case, stack: &Stack, call: &Call, wanted: NtStatus) -> Cost {
        self.count_all(case, stack, wanted, || self.node.call(stack, call).status)
    }

    fn count_all(
        &self,
        case: Case,
        stack: &Stack,
        wanted: NtStatus,
        request: impl FnOnce() -> Status,
    ) -> Cost {
        self.world.world().faults().allocations.clear();
        stack.port.take_seen();
        let (end, counted) = step::count(&self.node, || {
            let end = request();
            world::current().settle();
            end
        });
        assert_eq!(NtStatus(end), wanted, "{}", case.name());
        let faults = self.world.world().faults();
        let allocations = faults.allocations.iter();
        let allocations = allocations.filter(|&&what| what != FRAMEWORKS_REQUEST);
        let Counted {
            callbacks,
            calls,
            places,
        } = counted;
        let executive = calls.iter().filter(|call| self.executive.contains(call));
        let executive = executive.count() as u64;
        Cost {
            case,
            callbacks,
            allocations: allocations.count() as u64,
            framework_calls: calls.len() as u64 - executive,
            executive_calls: executive,
            commands: stack.port.take_seen().len() as u64,
            places,
        }
    }

    /// Removes the disks and unloads the driver, which checks for leaks.
    pub fn end(self) {
        for stack in self.stacks {
            self.node.unplug(stack);
        }
        self.below_disk.unplug(&self.node);
        self.node.unload();
    }

    fn prepare(&self, case: Case, stack: &Stack) {
        let command = |operation_code| {
            let cdb = [operation_code, 0, 0, 0, 0, 0];
            let send = || self.other.execute(&cdb, Duration::from_secs(1)).status();
            // The first may meet a unit attention of its own.
            assert!(
                send() == Some(0) || send() == Some(0),
                "{operation_code:#x}"
            );
        };
        let call = |code| {
            let end = self.node.call(stack, &Call::ioctl(code));
            assert_eq!(end.status, status::SUCCESS, "{code:#x}");
        };
        command(0x17);
        call(RESERVE);
        match case {
            Case::Read | Case::Write | Case::Ioctl | Case::Release | Case::Query | Case::Srb(_) => {
            }
            Case::Reserve => call(RELEASE),
            Case::Conflict => {
                call(RELEASE);
                command(0x16);
            }
            Case::Attention => {
                call(RELEASE);
                self.unit.attention(0x29, 0x03);
            }
        }
        world::current().settle();
    }
}

/// Control codes on both sides of each that is the filter's, and the extremes: whatever comparisons a compiler has made of
/// the list, one of these takes the longest way through them.
pub fn foreign_codes() -> impl Iterator<Item = u32> {
    let claimed = io::CLAIMED.into_iter().chain([IOCTL_RESVFLT_QUERY_STATE]);
    let around = claimed.flat_map(|code| [code - 1, code + 1]);
    around.chain([0, i32::MAX.cast_unsigned(), 1 << 31, u32::MAX])
}

/// Addresses of the executive's functions that the image imports.
fn executive(bytes: &[u8]) -> BTreeSet<usize> {
    let imports = PeFile64::parse(bytes).and_then(|pe| imports(&pe));
    let imports = imports.unwrap_or_default().into_iter();
    let addresses = imports.filter_map(|(module, symbol)| exports::find(&module, &symbol));
    addresses.map(|address| address as usize).collect()
}

/// A section of the image.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Bytes in memory.
    pub virtual_bytes: u64,
    /// Bytes in the file.
    pub raw_bytes: u64,
}

/// The image's size.
#[derive(Clone, Debug)]
pub struct Size {
    /// The file's bytes.
    pub bytes: u64,
    /// Its sections, in order.
    pub sections: Vec<Section>,
    /// Imported functions, as module and name.
    pub imports: Vec<(String, String)>,
}

impl Size {
    /// Of the image in `file`.
    ///
    /// # Errors
    /// It can't be read, or is no image.
    pub fn of(file: &Path) -> Result<Self, LoadError> {
        let bytes = image::read(file)?;
        let bad = |error: object::Error| LoadError::NotAnImage(file.into(), error.to_string());
        let pe = PeFile64::parse(&*bytes).map_err(bad)?;
        let sections = pe.section_table().iter().map(|section| Section {
            name: String::from_utf8_lossy(section.raw_name()).into_owned(),
            virtual_bytes: section.virtual_size.get(LE).into(),
            raw_bytes: section.size_of_raw_data.get(LE).into(),
        });
        Ok(Self {
            bytes: bytes.len() as u64,
            sections: sections.collect(),
            imports: imports(&pe).map_err(bad)?,
        })
    }
}

fn imports(pe: &PeFile64<'_>) -> object::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let Some(table) = pe.import_table()? else {
        return Ok(found);
    };
    let mut descriptors = table.descriptors()?;
    while let Some(descriptor) = descriptors.next()? {
        let module = String::from_utf8_lossy(table.name(descriptor.name.get(LE))?).into_owned();
        let mut thunks = table.thunks(descriptor.original_first_thunk.get(LE))?;
        while let Some(thunk) = thunks.next::<ImageNtHeaders64>()? {
            if let Import::Name(_, name) = table.import::<ImageNtHeaders64>(thunk)? {
                found.push((module.clone(), String::from_utf8_lossy(name).into_owned()));
            }
        }
    }
    Ok(found)
}

/// All that can be counted: the same at each run.
pub struct Figures {
    /// The image.
    pub size: Size,
    /// One disk, nobody listens to the driver's events: in the order of [`Case::ALL`].
    pub quiet: Vec<Cost>,
    /// As `quiet`, but somebody does.
    pub listened: Vec<Cost>,
    /// A second run, on another node, counted the same.
    pub repeatable: bool,
    /// So did a run with [`MANY`] disks on the node.
    pub flat: bool,
}

/// Counts each request once: one disk, nobody listens.
///
/// # Errors
/// The driver could not be loaded.
pub fn count_once(file: &Path) -> Result<Vec<Cost>, NodeError> {
    count_on(file, 1, false)
}

fn count_on(file: &Path, devices: usize, etw: bool) -> Result<Vec<Cost>, NodeError> {
    let mut costs = Vec::new();
    for watch in [0, 1, 2] {
        let fleet = Fleet::new(file, devices, etw, watch)?;
        let cases = Case::ALL.into_iter().filter(|case| case.watch() == watch);
        costs.extend(cases.map(|case| fleet.measure(case)));
        fleet.end();
    }
    Ok(costs)
}

impl Figures {
    /// Counts everything.
    ///
    /// # Errors
    /// The driver could not be loaded.
    pub fn count(file: &Path) -> Result<Self, NodeError> {
        pool::do_without_guards();
        let run = |devices, etw| count_on(file, devices, etw);
        let [quiet, listened] = [run(1, false)?, run(1, true)?];
        let same = |devices| -> Result<bool, NodeError> {
            Ok(run(devices, false)? == quiet && run(devices, true)? == listened)
        };
        let (repeatable, flat) = (same(1)?, same(MANY)?);
        Ok(Self {
            size: Size::of(file)?,
            quiet,
            listened,
            repeatable,
            flat,
        })
    }

    /// Every goal that was set for what is counted: what is asked, and whether it holds.
    pub fn goals(&self) -> Vec<(String, bool)> {
        let bytes = self.size.bytes;
        let mut goals = vec![
            (
                format!("image: {bytes} of at most {IMAGE_GOAL} bytes"),
                bytes <= IMAGE_GOAL,
            ),
            (
                "no imported function allocates".into(),
                !self
                    .size
                    .imports
                    .iter()
                    .any(|(_, name)| name.contains("Alloc")),
            ),
            ("the same at each run".into(), self.repeatable),
            (format!("the same with 1 disk and with {MANY}"), self.flat),
        ];
        let quiet = self.quiet.iter().map(|cost| (cost, false));
        for (cost, etw) in quiet.chain(self.listened.iter().map(|cost| (cost, true))) {
            let (name, found) = (cost.case.name(), cost.instructions());
            if let Some(most) = cost.case.instructions_goal(etw) {
                let said = format!("{name}: {found} of at most {most} instructions");
                goals.push((said, found <= most));
            }
            let found = cost.allocations;
            goals.push((format!("{name}: {found} of 0 allocations"), found == 0));
            let found = cost.commands;
            if let Some(wanted) = cost.case.commands_goal() {
                let said = format!("{name}: {found} of {wanted} SCSI commands");
                goals.push((said, found == wanted));
            }
        }
        goals
    }

    /// As `target/bench/bench.json` has it, without what is said of the run and without times.
    pub fn json(&self) -> Value {
        let sections = self.size.sections.iter().map(|section| {
            json!({
                "name": section.name,
                "virtual_bytes": section.virtual_bytes,
                "raw_bytes": section.raw_bytes,
            })
        });
        let instructions = |etw: bool, costs: &[Cost]| -> Vec<Value> {
            let one = |cost: &Cost| {
                json!({
                    "case": cost.case.name(),
                    "etw": etw,
                    "instructions": cost.instructions(),
                    "goal": cost.case.instructions_goal(etw),
                })
            };
            costs.iter().map(one).collect()
        };
        let instructions = [
            instructions(false, &self.quiet),
            instructions(true, &self.listened),
        ]
        .concat();
        let operations = self.quiet.iter().map(|cost| {
            let mut goal = json!({ "allocations": 0 });
            if let Some(commands) = cost.case.commands_goal() {
                goal["scsi_commands"] = commands.into();
            }
            json!({
                "case": cost.case.name(),
                "allocations": cost.allocations,
                "framework_calls": cost.framework_calls,
                "scsi_commands": cost.commands,
                "goal": goal,
            })
        });
        json!({
            "image": { "bytes": self.size.bytes, "sections": sections.collect::<Vec<_>>() },
            "instructions": instructions,
            "operations": operations.collect::<Vec<_>>(),
        })
    }
}

/// How long one kind of request takes, as `target/bench/time.json` has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Time {
    /// The kind of request.
    pub case: String,
    /// How many threads make it at once.
    pub threads: usize,
    /// How many disks the node has.
    pub devices: usize,
    /// Median nanoseconds with the filter, and the rig's framework.
    pub with_ns: f64,
    /// Median nanoseconds without.
    pub without_ns: f64,
    /// Median of the pairs' ratios.
    pub ratio: f64,
}

/// Where the figures lie: `target/bench`.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench")
}
