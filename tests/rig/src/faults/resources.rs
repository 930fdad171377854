//! A node's whole life, from load to unload with one operation in between, once for each allocation and each framework
//! call in it that can fail: it fails alone, or everything from it on fails; while an ETW session listens to all, and while
//! none does. Whatever fails, the disk starts and works.

use std::sync::Arc;

use scsi_reserve::IOCTL_RESVFLT_QUERY_STATE as QUERY;

use super::{Walk, oracle};
use crate::abi::{Status, status};
use crate::class::{self, DiskStack, Place};
use crate::disk::Outcome;
use crate::disk::logical_unit::LogicalUnit;
use crate::etw::{Ask, Session};
use crate::fx::DiskKeys;
use crate::io::{Call, Completion};
use crate::node::{Node, NodeError, SERVICE_KEY, Stack};
use crate::port::Answer;
use crate::registry::Hive;
use crate::world::{Entered, Faults, Schedule, World};

const RESERVE: u32 = 0x002D_4810;
const FOREIGN: u32 = 0x002D_4800;

/// What the filter is asked.
#[derive(Clone, Copy, Debug)]
enum Operation {
    /// A RESERVE that is answered GOOD.
    Plain,
    /// One that meets a unit attention first.
    Attention,
    /// One that waits for a busy target.
    Busy,
    /// One that needs the 10-byte form.
    TenByte,
    /// The state query.
    Query,
    /// A handle's, which disk.sys serves above the filter, with this parameter `Watch`; and its reads.
    Watched(u32),
}

const OPERATIONS: [Operation; 7] = [
    Operation::Plain,
    Operation::Attention,
    Operation::Busy,
    Operation::TenByte,
    Operation::Query,
    Operation::Watched(1),
    Operation::Watched(2),
];

impl Operation {
    fn call(self) -> Call {
        match self {
            Self::Query => Call {
                output_length: size_of::<scsi_reserve::ReservationState>() as u32,
                ..Call::ioctl(QUERY)
            },
            _ => Call::ioctl(RESERVE),
        }
    }

    /// The target's words before GOOD.
    fn script(self) -> Option<Answer> {
        let check = |key, asc| {
            let mut sense = vec![0; 18];
            (sense[0], sense[2], sense[7], sense[12]) = (0x70, key, 10, asc);
            (0x02, sense)
        };
        let (status, sense) = match self {
            Self::Plain | Self::Query | Self::Watched(_) => return None,
            Self::Attention => check(6, 0x29),
            Self::Busy => (0x08, Vec::new()),
            Self::TenByte => check(5, 0x20),
        };
        Some(Answer::Target(Outcome::Status {
            status,
            sense,
            data: Vec::new(),
        }))
    }
}

/// What fails.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Nothing,
    /// The allocation of this number.
    Allocation(usize),
    /// The call of this number, with this one of its statuses.
    Call(usize, usize),
}

/// A node's registry, in which every key and value is found.
fn hive(keys: &DiskKeys, watch: u32) -> Hive {
    let hive = Hive::default();
    let parameters = format!(r"{SERVICE_KEY}\Parameters");
    // TimeoutSeconds is left to the disk's own.
    for (name, value) in [
        ("MaxRetries", 4),
        ("RetryDelayMs", 1000),
        ("Reserve10Fallback", 1),
        ("AttachMode", 0),
        ("Watch", watch),
    ] {
        hive.set(&parameters, name, value);
    }
    hive.set(
        r"\Registry\Machine\System\CurrentControlSet\Services\Disk",
        "TimeOutValue",
        60,
    );
    hive.set(&keys.hardware_key, "ResvFltEnabled", 1);
    hive
}

/// One life of a node.
struct Life {
    operation: Operation,
    fault: Fault,
    /// Everything from there on fails.
    all: bool,
    session: Option<Session>,
    // Last: the session is one of it.
    world: Entered,
}

impl Life {
    fn new(operation: Operation, listening: bool, fault: Fault, all: bool) -> Self {
        let world = World::enter(Schedule::Orderly);
        let session = listening.then(|| Session::new(world.world()));
        if let Some(session) = &session {
            session.listen(Ask::ALL);
        }
        Self {
            operation,
            fault,
            all,
            session,
            world,
        }
    }

    fn faults(&self) -> std::sync::MutexGuard<'_, Faults> {
        self.world.world().faults()
    }

    fn plan(&self) {
        let mut faults = self.faults();
        match self.fault {
            Fault::Nothing => {}
            Fault::Allocation(number) => faults.fail_allocation = Some(number),
            Fault::Call(number, which) => faults.fail_call = Some((number, which)),
        }
        faults.fail_all_after = self.all;
    }

    /// Nothing fails in `f`, and what it does is not counted.
    fn spared<R>(&self, f: impl FnOnce() -> R) -> R {
        let planned = std::mem::take(&mut *self.faults());
        self.faults().case.clone_from(&planned.case);
        let result = f();
        *self.faults() = planned;
        result
    }

    fn live(&self, walk: &Walk<'_>) -> Result<(), String> {
        let keys = DiskKeys {
            hardware_key: r"\disk".into(),
            hardware_ids: vec![r"SCSI\DiskACME".into(), "GenDisk".into()],
        };
        let file = &walk.options.image;
        self.plan();
        let watch = match self.operation {
            Operation::Watched(watch) => watch,
            _ => 0,
        };
        let hive = hive(&keys, watch);
        let node = Node::load_bytes(self.world.world(), "A", file, walk.bytes, hive);
        let node = match node {
            Ok(node) => node,
            // It has been checked for leaks.
            Err(NodeError::Entry(_)) if self.may_not_load() => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        let unit = LogicalUnit::new();
        unit.configure(|options| options.quiet = true);
        let disk = Arc::new(unit.connect("iqn.2026-01.example:a"));
        let starts = |status| format!("the disk does not start: {status:#010x}");
        let result = if watch == 0 {
            let stack = node.plug(disk, &keys).map_err(starts)?;
            let result = self.operate(&node, &stack);
            node.unplug(stack);
            result
        } else {
            let stack = DiskStack::plug_with(&node, Place::Lower, disk, &keys).map_err(starts)?;
            let result = operate_above(&node, &stack);
            stack.unplug(&node);
            result
        };
        node.unload();
        result
    }

    /// A session hears of a life's end.
    fn was_told(&self) -> Result<(), String> {
        let events = self.session.as_ref().map(Session::take);
        match events.as_deref() {
            None => Ok(()),
            Some([.., last]) if last.name == "DriverUnloaded" => Ok(()),
            Some(events) => Err(format!("the session heard {events:?}")),
        }
    }

    fn operate(&self, node: &Node, stack: &Stack) -> Result<(), String> {
        let foreign = node.call(stack, &Call::ioctl(FOREIGN));
        expect("a foreign control", &foreign, &[PASSED_ON])?;
        stack.port.script(self.operation.script());
        let end = node.call(stack, &self.operation.call());
        let (permitted, healthy) = if stack.is_filtered() {
            (self.permitted(), status::SUCCESS)
        } else {
            (vec![PASSED_ON], PASSED_ON)
        };
        expect("the operation", &end, &permitted)?;

        stack.port.forget_script();
        let next = self.spared(|| node.call(stack, &Call::ioctl(RESERVE)));
        expect("a RESERVE after it", &next, &[healthy])?;
        Ok(())
    }

    /// Whether the driver object itself could not be had. Nothing less keeps the driver from loading.
    fn may_not_load(&self) -> bool {
        const NEEDED: [&str; 3] = ["WdfVersionBind", "WdfDriverCreate", "WDFDRIVER"];
        self.failed().iter().any(|(name, _)| NEEDED.contains(name))
    }

    /// What has failed, with the status that it failed with.
    fn failed(&self) -> Vec<(&'static str, Status)> {
        let faults = self.faults();
        let few = if self.all { usize::MAX } else { 1 };
        match self.fault {
            Fault::Nothing => Vec::new(),
            Fault::Allocation(first) => {
                let failed = faults.allocations.iter().skip(first).take(few);
                failed
                    .map(|&name| (name, status::INSUFFICIENT_RESOURCES))
                    .collect()
            }
            Fault::Call(first, which) => {
                let failed = faults.calls.iter().skip(first).take(few);
                failed
                    .map(|&(name, statuses)| (name, statuses[which.min(statuses.len() - 1)]))
                    .collect()
            }
        }
    }

    /// What the operation may end with.
    fn permitted(&self) -> Vec<Status> {
        let of_a_failure = |(name, status)| match name {
            // The caller's request is completed with the call's own words.
            "WdfRequestMarkCancelableEx" | "WdfRequestRetrieveOutputBuffer" => status,
            _ => oracle::refused(status),
        };
        let failures = self.failed().into_iter().map(of_a_failure);
        failures.chain([status::SUCCESS]).collect()
    }

    /// The fault in words.
    fn name(&self) -> String {
        let first = self.failed().first().copied();
        let (name, status) = first.unwrap_or(("nothing", status::SUCCESS));
        let more = if self.all { " and all that follow" } else { "" };
        format!(
            "{:?}, {name}{more} failed with {status:#010x}, listening {}",
            self.operation,
            self.session.is_some()
        )
    }
}

/// What disk.sys sends is no business of the filter's, whatever fails there.
fn operate_above(node: &Node, DiskStack { stack, class }: &DiskStack) -> Result<(), String> {
    let foreign = node.call(stack, &Call::ioctl(FOREIGN));
    expect("a foreign control", &foreign, &[PASSED_ON])?;
    let end = node.call(stack, &Call::ioctl(RESERVE));
    expect("a handle's RESERVE", &end, &[status::SUCCESS])?;
    // A unit attention denies what is known.
    stack.port.script(Operation::Attention.script());
    let first = class.send(&class::read(0)).wait();
    let second = class.send(&class::read(0)).wait();
    if (first.scsi_status, second.scsi_status) == (Some(0x02), Some(0x00)) {
        return Ok(());
    }
    Err(format!("the reads end {first:?} and {second:?}"))
}

/// The port's answer to a control that it does not know.
const PASSED_ON: Status = status::INVALID_DEVICE_REQUEST;

fn expect(what: &str, end: &Completion, permitted: &[Status]) -> Result<(), String> {
    if permitted.contains(&end.status) {
        return Ok(());
    }
    let status = end.status;
    Err(format!("{what} ends {status:#010x}, not {permitted:x?}"))
}

/// The faults of one life without any: each allocation, each call with each of its statuses.
fn lives(walk: &mut Walk<'_>, faults: impl Fn(&Faults) -> Vec<Fault>) {
    let mut cases = Vec::new();
    let lives = OPERATIONS.map(|operation| [false, true].map(|listening| (operation, listening)));
    for (operation, listening) in lives.into_iter().flatten() {
        let life = Life::new(operation, listening, Fault::Nothing, false);
        if let Err(why) = life.live(walk).and_then(|()| life.was_told()) {
            return walk.judge(0, Err(format!("{operation:?}, no fault: {why}")));
        }
        for fault in faults(&life.faults()) {
            cases.extend([false, true].map(|all| (operation, listening, fault, all)));
        }
    }
    walk.begin(cases.len() as u64);
    for (number, (operation, listening, fault, all)) in (0..).zip(cases) {
        walk.step();
        if !walk.takes(number, 1) {
            continue;
        }
        let life = Life::new(operation, listening, fault, all);
        walk.note(life.world.world(), number);
        let result = life
            .live(walk)
            .map_err(|why| format!("{}: {why}", life.name()));
        walk.judge(number, result);
    }
}

/// Each allocation.
pub(super) fn allocations(walk: &mut Walk<'_>) {
    lives(walk, |faults| {
        (0..faults.allocations.len())
            .map(Fault::Allocation)
            .collect()
    });
}

/// Each call that can fail.
pub(super) fn calls(walk: &mut Walk<'_>) {
    lives(walk, |faults| {
        let each = faults.calls.iter().enumerate();
        each.flat_map(|(number, (_, statuses))| {
            (0..statuses.len()).map(move |which| Fault::Call(number, which))
        })
        .collect()
    });
}
