//! What the built `resvflt.sys` answers a caller who asks what it knows of the reservation.
#![allow(clippy::cast_possible_truncation, reason = "lengths are small")]

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rig::abi::irql;
use rig::disk::logical_unit::{Forms, LogicalUnit, Nexus};
use rig::disk::{Data, Disk, Outcome, TaskManagement};
use rig::fx::{DiskKeys, Pnp, Power};
use rig::image;
use rig::io::{Call, Completion};
use rig::node::{Node, Stack};
use rig::port::{Answer, Cancel, Shape, Timing};
use rig::registry::Hive;
use rig::world::{self, Entered, Schedule, World};
use scsi_reserve::state::{
    IOCTL_RESVFLT_QUERY_STATE as QUERY, NONE, Origin, VERSION, VERSION_1, VERSION_1_SIZE,
};
use scsi_reserve::{Knowledge, NtStatus, ReservationState};

const RESERVE: u32 = 0x002D_4810;
const RELEASE: u32 = 0x002D_4814;
const SIZE: usize = size_of::<ReservationState>();

/// One node with one disk, another initiator on the same unit, no unit attention pending.
struct Bench {
    node: Node,
    stack: Stack,
    unit: LogicalUnit,
    other: Nexus,
    // Last: everything above lives in it.
    world: Entered,
}

impl Bench {
    fn new(schedule: Schedule) -> Self {
        let world = World::enter(schedule);
        let unit = LogicalUnit::new();
        unit.configure(|options| options.quiet = true);
        let node = Node::load(world.world(), "A", &image::built(), Hive::default())
            .expect("the driver loads");
        let disk = Arc::new(unit.connect("iqn.2026-01.example:a"));
        let stack = node
            .plug(disk, &DiskKeys::default())
            .expect("the disk starts");
        let other = unit.connect("iqn.2026-01.example:b");
        Self {
            node,
            stack,
            unit,
            other,
            world,
        }
    }

    fn call(&self, code: u32) -> Completion {
        self.node.call(&self.stack, &Call::ioctl(code))
    }

    fn query(&self) -> ReservationState {
        let call = Call {
            output_length: SIZE as u32,
            ..Call::ioctl(QUERY)
        };
        let (completion, buffer) = self.node.call_with_buffer(&self.stack, &call);
        assert_eq!(of(&completion), (NtStatus::SUCCESS, SIZE as u64));
        ReservationState::from_bytes(&buffer).expect("the whole structure")
    }

    fn other(&self, operation_code: u8) {
        let cdb = [operation_code, 0, 0, 0, 0, 0];
        let send = || self.other.transfer(&cdb, Data::None, TIMEOUT).status();
        // The first may meet a unit attention of its own.
        assert!(
            send() == Some(0) || send() == Some(0),
            "{operation_code:#x}"
        );
    }

    fn take(&self, step: &Step) {
        let port = &self.stack.port;
        match step {
            Reserve => drop(self.call(RESERVE)),
            Release => drop(self.call(RELEASE)),
            OtherReserves => self.other(0x16),
            OtherReleases => self.other(0x17),
            Reset => self
                .other
                .manage(TaskManagement::LogicalUnitReset)
                .expect("the unit can be reset"),
            Says(status, sense) => port.script([Answer::Target(Outcome::Status {
                status: *status,
                sense: sense.to_vec(),
                data: Vec::new(),
            })]),
            PortSays(status) => port.script([Answer::Raw {
                status: status.0,
                information: 0,
                scsi_status: None,
                sense: Vec::new(),
            }]),
            Hang => port.behave(Shape::Success, Timing::Never),
            ReserveAndCancel => {
                port.behave(Shape::Success, Timing::Never);
                let call = self.node.start(&self.stack, &Call::ioctl(RESERVE));
                call.cancel();
                call.wait();
                port.behave(Shape::Success, Timing::Later);
            }
            CancelBeforeTheSend => {
                // The second one waits in the queue behind the first: the filter never sees it.
                port.behave(Shape::Success, Timing::Never);
                let first = self.node.start(&self.stack, &Call::ioctl(RESERVE));
                let second = self.node.start(&self.stack, &Call::ioctl(RESERVE));
                second.cancel();
                second.wait();
                port.release();
                first.wait();
                port.behave(Shape::Success, Timing::Later);
            }
            TenByteUnit => self.unit.configure(|options| options.forms = Forms::Ten),
            Sleep => drop(self.node.power(&self.stack, Power::D3)),
            Wake => drop(self.node.power(&self.stack, Power::D0)),
            Stop => drop(self.node.pnp(&self.stack, Pnp::Stop)),
            Start => drop(self.node.pnp(&self.stack, Pnp::Start)),
        }
    }

    /// Removes the disk and unloads the driver, which checks for leaks.
    fn end(self) {
        let Self { node, stack, .. } = self;
        node.unplug(stack);
        node.unload();
    }
}

const TIMEOUT: std::time::Duration = std::time::Duration::from_mins(1);

fn of(completion: &Completion) -> (NtStatus, u64) {
    (NtStatus(completion.status), completion.information)
}

/// What happens between the attachment and the query.
enum Step {
    Reserve,
    Release,
    OtherReserves,
    OtherReleases,
    Reset,
    /// The next answer: SCSI status and sense.
    Says(u8, &'static [u8]),
    /// The next answer: the port's own NTSTATUS.
    PortSays(NtStatus),
    /// From now on the port answers nothing by itself.
    Hang,
    ReserveAndCancel,
    CancelBeforeTheSend,
    TenByteUnit,
    Sleep,
    Wake,
    Stop,
    Start,
}

use Step::*;

/// What the query tells then, apart from when.
struct Told {
    knowledge: Knowledge,
    last_status: NtStatus,
    /// SCSI status, sense key, ASC, ASCQ.
    answer: [u8; 4],
    /// Those that are not 0.
    counters: &'static str,
}

const NO_ANSWER: [u8; 4] = [NONE, NONE, 0, 0];
const GOOD: [u8; 4] = [0, NONE, 0, 0];
const CONFLICT: [u8; 4] = [0x18, NONE, 0, 0];

const fn told(
    knowledge: Knowledge,
    last_status: NtStatus,
    answer: [u8; 4],
    counters: &'static str,
) -> Told {
    Told {
        knowledge,
        last_status,
        answer,
        counters,
    }
}

/// Descriptor-format sense: UNIT ATTENTION, a reset; NOT READY, no medium.
const RESET_SENSE: &[u8] = &[0x72, 0x6, 0x29, 0x00, 0, 0, 0, 0];
const NOT_READY_SENSE: &[u8] = &[0x72, 0x2, 0x3A, 0x01, 0, 0, 0, 0];

const CASES: &[(&[Step], Told)] = {
    use Knowledge::{HeldByAnother, HeldByUs, NotOurs, Unknown};
    use NtStatus as Nt;
    &[
        (&[], told(Unknown, Nt::SUCCESS, NO_ANSWER, "")),
        (
            &[Reserve],
            told(HeldByUs, Nt::SUCCESS, GOOD, "requests 1, reserves 1"),
        ),
        (
            &[Release],
            told(NotOurs, Nt::SUCCESS, GOOD, "requests 1, releases 1"),
        ),
        (
            &[Reserve, Release],
            told(
                NotOurs,
                Nt::SUCCESS,
                GOOD,
                "requests 2, reserves 1, releases 1",
            ),
        ),
        (
            &[OtherReserves, Reserve],
            told(
                HeldByAnother,
                Nt::DEVICE_BUSY,
                CONFLICT,
                "requests 1, conflicts 1",
            ),
        ),
        // A RELEASE of what another holds is GOOD and changes nothing (SPC-2 7.16).
        (
            &[OtherReserves, Reserve, Release],
            told(
                NotOurs,
                Nt::SUCCESS,
                GOOD,
                "requests 2, releases 1, conflicts 1",
            ),
        ),
        (
            &[OtherReserves, Reserve, OtherReleases, Reserve],
            told(
                HeldByUs,
                Nt::SUCCESS,
                GOOD,
                "requests 2, reserves 1, conflicts 1",
            ),
        ),
        // What the target did not execute changes nothing.
        (
            &[Reserve, Says(2, NOT_READY_SENSE), Release],
            told(
                HeldByUs,
                Nt::NO_MEDIA_IN_DEVICE,
                [2, 2, 0x3A, 1],
                "requests 2, reserves 1",
            ),
        ),
        (
            &[Reserve, Says(8, &[]), Says(8, &[]), Release],
            told(
                NotOurs,
                Nt::SUCCESS,
                GOOD,
                "requests 2, reserves 1, releases 1, retries 2",
            ),
        ),
        // The reset shows in the unit attention that the next command meets; what that one did, in its retry.
        (
            &[Reserve, Reset, OtherReserves, Reserve],
            told(
                HeldByAnother,
                Nt::DEVICE_BUSY,
                CONFLICT,
                "requests 2, reserves 1, conflicts 1, unit_attentions 1",
            ),
        ),
        (
            &[
                Reserve,
                Says(2, RESET_SENSE),
                Says(2, NOT_READY_SENSE),
                Reserve,
            ],
            told(
                Unknown,
                Nt::NO_MEDIA_IN_DEVICE,
                [2, 2, 0x3A, 1],
                "requests 2, reserves 1, unit_attentions 1",
            ),
        ),
        (
            &[Reserve, PortSays(Nt::NO_SUCH_DEVICE), Reserve],
            told(
                Unknown,
                Nt::DEVICE_NOT_CONNECTED,
                NO_ANSWER,
                "requests 2, reserves 1",
            ),
        ),
        (
            &[Reserve, PortSays(Nt::IO_TIMEOUT), Release],
            told(
                Unknown,
                Nt::IO_TIMEOUT,
                NO_ANSWER,
                "requests 2, reserves 1, timeouts 1",
            ),
        ),
        (
            &[Release, Hang, Reserve],
            told(
                Unknown,
                Nt::IO_TIMEOUT,
                NO_ANSWER,
                "requests 2, releases 1, timeouts 1",
            ),
        ),
        (
            &[Release, ReserveAndCancel],
            told(
                Unknown,
                Nt::CANCELLED,
                NO_ANSWER,
                "requests 2, releases 1, cancels 1",
            ),
        ),
        (
            &[CancelBeforeTheSend],
            told(HeldByUs, Nt::SUCCESS, GOOD, "requests 1, reserves 1"),
        ),
        (
            &[TenByteUnit, Reserve],
            told(
                HeldByUs,
                Nt::SUCCESS,
                GOOD,
                "requests 1, reserves 1, cdb_length 10",
            ),
        ),
        (
            &[Reserve, Sleep],
            told(HeldByUs, Nt::SUCCESS, GOOD, "requests 1, reserves 1"),
        ),
        (
            &[Reserve, Sleep, Wake],
            told(Unknown, Nt::SUCCESS, GOOD, "requests 1, reserves 1"),
        ),
        (
            &[Reserve, Stop, Start],
            told(Unknown, Nt::SUCCESS, GOOD, "requests 1, reserves 1"),
        ),
        (
            &[Reserve, Sleep, Wake, Reserve],
            told(HeldByUs, Nt::SUCCESS, GOOD, "requests 2, reserves 2"),
        ),
    ]
};

fn expected(told: &Told, since: u64) -> ReservationState {
    let counter = |name| {
        let mut named = told.counters.split(", ");
        let value = named.find_map(|counter| counter.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().expect("a number"))
    };
    let [scsi_status, sense_key, asc, ascq] = told.answer;
    ReservationState {
        version: VERSION,
        size: 112,
        since,
        knowledge: told.knowledge as u32,
        last_status: told.last_status.0,
        scsi_status,
        sense_key,
        asc,
        ascq,
        cdb_length: counter("cdb_length").max(6) as u32,
        requests: counter("requests"),
        reserves: counter("reserves"),
        releases: counter("releases"),
        conflicts: counter("conflicts"),
        retries: counter("retries"),
        unit_attentions: counter("unit_attentions"),
        timeouts: counter("timeouts"),
        cancels: counter("cancels"),
        timeout_seconds: 10,
        retry_delay_ms: 1_000,
        watched: 0,
        max_retries: 4,
        reserve10_fallback: 1,
        watch: 0,
        origin: Origin::Own as u8,
    }
}

#[test]
fn the_query_tells_what_the_node_last_knew() {
    for (number, (steps, told)) in CASES.iter().enumerate() {
        let bench = Bench::new(Schedule::Orderly);
        for step in *steps {
            bench.take(step);
        }
        let found = bench.query();
        assert_eq!(found, expected(told, found.since), "case {number}");
        bench.end();
    }
}

#[test]
fn since_is_when_the_knowledge_became_what_it_is() {
    let bench = Bench::new(Schedule::Orderly);
    let now = || bench.world.world().now();
    let attached = bench.query().since;
    assert_eq!(attached, now());
    // A retry delay lets time go by.
    bench.take(&Says(8, &[]));
    bench.take(&Reserve);
    let held = bench.query().since;
    assert_eq!(held, now());
    assert!(held > attached);
    bench.take(&Says(8, &[]));
    bench.take(&Reserve);
    assert!(now() > held);
    assert_eq!(bench.query().since, held, "it was known before");
    bench.take(&Release);
    assert_eq!(bench.query().since, now());
    bench.end();
}

#[test]
fn a_buffer_gets_the_latest_version_that_fits_and_one_that_is_too_small_nothing() {
    let bench = Bench::new(Schedule::Orderly);
    bench.take(&Reserve);
    for length in (0..SIZE + 2).chain([4096]) {
        let call = Call {
            input: vec![0xA5; length],
            output_length: length as u32,
            ..Call::ioctl(QUERY)
        };
        let (completion, buffer) = bench.node.call_with_buffer(&bench.stack, &call);
        let (status, version, written) = match length {
            0..VERSION_1_SIZE => (NtStatus::BUFFER_TOO_SMALL, 0, 0),
            VERSION_1_SIZE..SIZE => (NtStatus::SUCCESS, VERSION_1, VERSION_1_SIZE),
            _ => (NtStatus::SUCCESS, VERSION, SIZE),
        };
        let end = (status, written as u64);
        assert_eq!(of(&completion), end, "{length} bytes");
        assert!(buffer[written..].iter().all(|&byte| byte == 0xA5));
        if written == 0 {
            continue;
        }
        let told = ReservationState::from_answer(&buffer[..written]).expect("a whole version");
        assert_eq!((told.version, told.size as usize), (version, written));
        let known = |state: ReservationState| {
            (
                state.knowledge,
                state.since,
                state.reserves,
                state.requests,
                state.cdb_length,
            )
        };
        assert_eq!(known(told), known(bench.query()), "{length} bytes");
        if version == VERSION {
            assert_eq!(told, bench.query());
        }
    }
    // The input counts for nothing.
    let call = Call {
        input: vec![0xA5; SIZE],
        ..Call::ioctl(QUERY)
    };
    let end = (NtStatus::BUFFER_TOO_SMALL, 0);
    assert_eq!(of(&bench.node.call(&bench.stack, &call)), end);
    bench.end();
}

#[test]
fn a_query_is_answered_at_once_while_an_operation_waits() {
    let bench = Bench::new(Schedule::Orderly);
    let port = &bench.stack.port;
    let at_once = |level| {
        let call = Call {
            output_length: SIZE as u32,
            irql: level,
            ..Call::ioctl(QUERY)
        };
        let pending = bench.node.start(&bench.stack, &call);
        let end = pending.done().expect("answered inside the call");
        assert_eq!(of(&end), (NtStatus::SUCCESS, SIZE as u64));
        ReservationState::from_bytes(&pending.buffer()).expect("the whole structure")
    };
    // At the target, and one more in the queue behind it; then in a retry delay.
    port.behave(Shape::Success, Timing::Never);
    let sent = bench.node.start(&bench.stack, &Call::ioctl(RESERVE));
    let queued = bench.node.start(&bench.stack, &Call::ioctl(RELEASE));
    for level in [irql::PASSIVE, irql::DISPATCH] {
        assert_eq!(at_once(level).requests, 1, "the other waits in the queue");
    }
    port.behave(Shape::Success, Timing::Later);
    port.script([Answer::Target(Outcome::Status {
        status: 8,
        sense: Vec::new(),
        data: Vec::new(),
    })]);
    port.release();
    world::current().settle();
    let waiting = at_once(irql::DISPATCH);
    assert_eq!((waiting.scsi_status, waiting.retries), (8, 1));
    assert_eq!(sent.wait().status, 0);
    assert_eq!(queued.wait().status, 0);
    assert_eq!(at_once(irql::PASSIVE).requests, 2);
    bench.end();
}

#[test]
fn after_the_removal_began_the_query_says_not_connected() {
    for removal in [Pnp::SurpriseRemoval, Pnp::Remove] {
        let bench = Bench::new(Schedule::Orderly);
        bench.take(&Reserve);
        bench.node.pnp(&bench.stack, removal);
        let end = match removal {
            Pnp::SurpriseRemoval => NtStatus::DEVICE_NOT_CONNECTED,
            // The filter is detached: it is the port's answer.
            _ => NtStatus::INVALID_DEVICE_REQUEST,
        };
        for output_length in [0, SIZE as u32] {
            let call = Call {
                output_length,
                ..Call::ioctl(QUERY)
            };
            let found = bench.node.call(&bench.stack, &call);
            assert_eq!(of(&found), (end, 0), "{removal:?}");
        }
        let Bench { node, stack, .. } = bench;
        if removal == Pnp::SurpriseRemoval {
            node.unplug(stack);
        }
        node.unload();
    }
}

#[test]
fn queries_among_operations_cancels_and_a_removal_never_go_wrong() {
    for seed in 0..100 {
        let bench = Bench::new(Schedule::Random { seed, one_in: 3 });
        let (node, stack) = (&bench.node, &bench.stack);
        let cancel = [Cancel::Honoured, Cancel::Late, Cancel::Ignored][seed as usize % 3];
        stack.port.on_cancel(cancel);
        let query = Call {
            output_length: SIZE as u32,
            ..Call::ioctl(QUERY)
        };
        let mut operations = Vec::new();
        let mut queries = Vec::new();
        for code in [RESERVE, RELEASE, RESERVE] {
            operations.push(node.start(stack, &Call::ioctl(code)));
            queries.push(node.start(stack, &query));
        }
        operations[0].cancel();
        queries[1].cancel();
        if seed % 2 == 0 {
            node.pnp(stack, Pnp::SurpriseRemoval);
        }
        queries.push(node.start(stack, &query));
        for pending in &queries {
            let end = pending.wait();
            match NtStatus(end.status) {
                NtStatus::SUCCESS => {
                    let told = ReservationState::from_bytes(&pending.buffer()).unwrap();
                    assert_eq!(
                        (told.version, told.size),
                        (VERSION, SIZE as u32),
                        "seed {seed}"
                    );
                    assert!(told.requests <= 3, "seed {seed}");
                }
                NtStatus::DEVICE_NOT_CONNECTED | NtStatus::CANCELLED => {
                    assert_eq!(end.information, 0, "seed {seed}");
                }
                other => panic!("seed {seed}: {other:?}"),
            }
        }
        for pending in operations {
            pending.wait();
        }
        world::current().settle();
        bench.end();
    }
}

/// A field as `inf/resvflt.h` names it: `last_status` is `LastStatus` there.
fn in_c(name: &str) -> String {
    let capitalized = |word: &str| word[..1].to_uppercase() + &word[1..];
    name.split('_').map(capitalized).collect()
}

#[test]
fn the_header_declares_the_same_structure() {
    let mut source = format!(
        "#include <stddef.h>\n#include \"resvflt.h\"\n\
         #define SAME(...) _Static_assert(__VA_ARGS__, #__VA_ARGS__)\n\
         SAME(IOCTL_RESVFLT_QUERY_STATE == {QUERY}u);\n\
         SAME(RESVFLT_STATE_VERSION == {VERSION});\nSAME(RESVFLT_STATE_SIZE_1 == {VERSION_1_SIZE});\nSAME(RESVFLT_NONE == {NONE});\n\
         SAME(sizeof(RESVFLT_STATE) == {SIZE});\n"
    );
    for (name, value) in [
        ("UNKNOWN", Knowledge::Unknown),
        ("HELD_BY_US", Knowledge::HeldByUs),
        ("NOT_OURS", Knowledge::NotOurs),
        ("HELD_BY_ANOTHER", Knowledge::HeldByAnother),
    ] {
        writeln!(source, "SAME(RESVFLT_{name} == {});", value as u32).unwrap();
    }
    for (name, value) in [("OWN", Origin::Own), ("WATCHED", Origin::Watched)] {
        writeln!(source, "SAME(RESVFLT_{name} == {});", value as u8).unwrap();
    }
    for field in ReservationState::FIELDS {
        let (name, offset, size) = (in_c(field.name), field.offset, field.size);
        writeln!(source, "SAME(offsetof(RESVFLT_STATE, {name}) == {offset});").unwrap();
        writeln!(
            source,
            "SAME(sizeof ((RESVFLT_STATE *)0)->{name} == {size});"
        )
        .unwrap();
    }
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("resvflt_header.c");
    std::fs::write(&file, source).unwrap();
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let output = Command::new(compiler)
        .args([
            "-std=c11",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-fsyntax-only",
            "-I",
        ])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../inf"))
        .arg(&file)
        .output()
        .expect("a C compiler: CC names it, else cc");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
