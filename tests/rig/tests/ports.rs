//! The port drivers by name: what each says below the filter, and what the filter makes of it for its caller.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rig::abi::{IOCTL_SCSI_PASS_THROUGH, irql};
use rig::disk::logical_unit::{LogicalUnit, Nexus};
use rig::disk::{Data, Disk, DiskError, Outcome, Sense, SenseFormat, TaskManagement};
use rig::fx::DiskKeys;
use rig::io::{self, Call, Pending};
use rig::node::{Node, Stack};
use rig::port::{self, Answer, Cancel, Kind};
use rig::registry::Hive;
use rig::world::{self, Entered, Schedule, World};
use rig::{image, rules};

const RESERVE: u32 = 0x002D_4810;
const RELEASE: u32 = 0x002D_4814;

const SUCCESS: u32 = 0;
const DEVICE_BUSY: u32 = 0x8000_0011;
const NO_SUCH_DEVICE: u32 = 0xC000_000E;
const INVALID_DEVICE_REQUEST: u32 = 0xC000_0010;
const DEVICE_NOT_CONNECTED: u32 = 0xC000_009D;
const DEVICE_NOT_READY: u32 = 0xC000_00A3;
const IO_TIMEOUT: u32 = 0xC000_00B5;
const CANCELLED: u32 = 0xC000_0120;
const IO_DEVICE_ERROR: u32 = 0xC000_0185;

/// `ScsiStatus` as it was sent.
const UNTOUCHED: u8 = 0xFF;

struct Bench {
    node: Node,
    unit: LogicalUnit,
    // Last: everything above lives in it.
    world: Entered,
}

impl Bench {
    fn new() -> Self {
        let world = World::enter(Schedule::Orderly);
        let unit = LogicalUnit::new();
        unit.configure(|options| options.quiet = true);
        let node = Node::load(world.world(), "A", &image::built(), Hive::default())
            .expect("the driver loads");
        Self { node, unit, world }
    }

    fn plug(&self, kind: Kind, disk: Arc<dyn Disk>) -> Stack {
        let stack = self
            .node
            .plug(disk, &DiskKeys::default())
            .expect("the disk starts");
        assert!(stack.is_filtered());
        stack.port.act_as(kind);
        stack
    }

    fn nexus(&self) -> Nexus {
        self.unit.connect("iqn.2026-01.example:a")
    }

    fn call(&self, stack: &Stack, code: u32) -> u32 {
        let end = self.node.call(stack, &Call::ioctl(code));
        assert_eq!(end.information, 0);
        end.status.cast_unsigned()
    }
}

/// A pass-through of the caller's own: TEST UNIT READY with room for 32 bytes of sense (`SCSI_PASS_THROUGH`, ntddscsi.h).
fn test_unit_ready(minor: u8) -> Call {
    let mut input = vec![0; 56 + 32];
    input[0] = 56; // Length
    input[2] = UNTOUCHED; // ScsiStatus
    (input[6], input[7], input[8]) = (6, 32, 2); // CdbLength, SenseInfoLength, DataIn
    (input[16], input[32]) = (60, 56); // TimeOutValue, SenseInfoOffset
    Call {
        minor,
        output_length: 56 + 32,
        input,
        ..Call::ioctl(IOCTL_SCSI_PASS_THROUGH)
    }
}

/// NTSTATUS, Information and `ScsiStatus` that come up from a port.
type Below = (u32, u64, u8);

struct Row {
    what: &'static str,
    said: fn() -> Outcome,
    storport: Below,
    scsiport: Below,
    usb: Below,
    /// What the caller of a RESERVE gets, after so many sends.
    caller: u32,
    sends: usize,
}

fn target(status: u8, sense: Vec<u8>) -> Outcome {
    Outcome::Status {
        status,
        sense,
        data: Vec::new(),
    }
}

fn check(key: u8, asc: u8, ascq: u8) -> Outcome {
    target(2, Sense::new(key, asc, ascq).encode(SenseFormat::Fixed))
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { what: "GOOD", said: || target(0, vec![]),
        storport: (SUCCESS, 56, 0x00), scsiport: (SUCCESS, 56, 0x00), usb: (SUCCESS, 56, 0x00),
        caller: SUCCESS, sends: 1 },
    Row { what: "RESERVATION CONFLICT", said: || target(0x18, vec![]),
        storport: (SUCCESS, 56, 0x18), scsiport: (DEVICE_BUSY, 56, 0x18), usb: (DEVICE_BUSY, 56, 0x18),
        caller: DEVICE_BUSY, sends: 1 },
    Row { what: "BUSY", said: || target(0x08, vec![]),
        storport: (SUCCESS, 56, 0x08), scsiport: (DEVICE_BUSY, 56, 0x08), usb: (DEVICE_BUSY, 56, 0x08),
        caller: DEVICE_NOT_READY, sends: 5 },
    Row { what: "TASK ABORTED", said: || target(0x40, vec![]),
        storport: (SUCCESS, 56, 0x40), scsiport: (IO_DEVICE_ERROR, 56, 0x40), usb: (IO_DEVICE_ERROR, 56, 0x40),
        caller: IO_DEVICE_ERROR, sends: 5 },
    Row { what: "CHECK, invalid operation code", said: || check(5, 0x20, 0),
        storport: (SUCCESS, 74, 0x02), scsiport: (IO_DEVICE_ERROR, 74, 0x02), usb: (IO_DEVICE_ERROR, 74, 0x02),
        caller: INVALID_DEVICE_REQUEST, sends: 2 },
    Row { what: "CHECK, unit attention", said: || check(6, 0x29, 0),
        storport: (SUCCESS, 74, 0x02), scsiport: (IO_DEVICE_ERROR, 74, 0x02), usb: (IO_DEVICE_ERROR, 74, 0x02),
        caller: IO_DEVICE_ERROR, sends: 13 },
    Row { what: "CHECK, recovered error", said: || check(1, 0x17, 1),
        storport: (SUCCESS, 74, 0x02), scsiport: (IO_DEVICE_ERROR, 74, 0x02), usb: (IO_DEVICE_ERROR, 74, 0x02),
        caller: SUCCESS, sends: 1 },
    Row { what: "CHECK with more sense than there is room for", said: || target(2, vec![0x72; 252]),
        storport: (SUCCESS, 88, 0x02), scsiport: (IO_DEVICE_ERROR, 88, 0x02), usb: (IO_DEVICE_ERROR, 88, 0x02),
        caller: DEVICE_NOT_READY, sends: 5 }, // key 2, ASC and ASCQ 72h
    Row { what: "no answer in time", said: || Outcome::TimedOut,
        storport: (IO_TIMEOUT, 0, UNTOUCHED), scsiport: (IO_TIMEOUT, 0, UNTOUCHED), usb: (IO_TIMEOUT, 56, 0x00),
        caller: IO_TIMEOUT, sends: 1 },
    Row { what: "no target", said: || Outcome::Gone,
        storport: (NO_SUCH_DEVICE, 0, UNTOUCHED), scsiport: (NO_SUCH_DEVICE, 0, UNTOUCHED), usb: (NO_SUCH_DEVICE, 56, 0x00),
        caller: DEVICE_NOT_CONNECTED, sends: 1 },
];

#[test]
fn each_kind_puts_an_answer_in_its_shape_and_the_caller_gets_the_same_of_all() {
    let bench = Bench::new();
    for kind in Kind::ALL {
        let stack = bench.plug(kind, Arc::new(bench.nexus()));
        for row in ROWS {
            let what = format!("{kind:?}, {}", row.what);
            stack.port.repeat(Some(Answer::Target((row.said)())));
            // What the port says, by a caller whose pass-through the filter lets pass.
            let (end, buffer) = bench.node.call_with_buffer(&stack, &test_unit_ready(1));
            let below = match kind {
                Kind::Storport => row.storport,
                Kind::Scsiport => row.scsiport,
                Kind::Usb => row.usb,
            };
            assert_eq!(
                (end.status.cast_unsigned(), end.information, buffer[2]),
                below,
                "{what}"
            );
            stack.port.take_seen();

            assert_eq!(bench.call(&stack, RESERVE), row.caller, "{what}");
            assert_eq!(stack.port.take_seen().len(), row.sends, "{what}");
        }
        bench.node.unplug(stack);
    }
    bench.node.unload();
}

#[test]
fn a_usb_port_refuses_what_bypasses_the_class_driver_and_the_filter_does_not() {
    let bench = Bench::new();
    for kind in Kind::ALL {
        for claimed in [true, false] {
            let stack = bench.plug(kind, Arc::new(bench.nexus()));
            stack.port.claim(claimed);
            let refused = kind == Kind::Usb && claimed;
            let expected = if refused {
                (INVALID_DEVICE_REQUEST, 0)
            } else {
                (SUCCESS, 56)
            };
            let end = bench.node.call(&stack, &test_unit_ready(0));
            assert_eq!((end.status.cast_unsigned(), end.information), expected);
            assert_eq!(
                stack.port.take_foreign(),
                [(14, 0, IOCTL_SCSI_PASS_THROUGH)]
            );
            for code in [RESERVE, RELEASE] {
                assert_eq!(bench.call(&stack, code), SUCCESS, "{kind:?}");
            }
            bench.node.unplug(stack);
        }
    }
    bench.node.unload();
}

/// A disk that has a caller's request cancelled while it executes a command.
struct Cancelling {
    nexus: Nexus,
    victim: Mutex<Option<Arc<Pending>>>,
}

impl Disk for Cancelling {
    fn transfer(&self, cdb: &[u8], data: Data<'_>, timeout: Duration) -> Outcome {
        let victim = self.victim.lock().expect("nobody panics with it").take();
        if let Some(victim) = victim {
            victim.cancel();
        }
        self.nexus.transfer(cdb, data, timeout)
    }

    fn manage(&self, function: TaskManagement) -> Result<(), DiskError> {
        self.nexus.manage(function)
    }

    fn lose(&self) {
        self.nexus.lose();
    }
}

#[test]
fn a_cancel_ends_the_caller_as_soon_as_its_port_lets_it() {
    #[rustfmt::skip]
    let rows = [
        (Kind::Storport, Cancel::Honoured, CANCELLED),
        (Kind::Storport, Cancel::Late,     CANCELLED),
        (Kind::Storport, Cancel::Ignored,  SUCCESS),
        (Kind::Usb,      Cancel::Honoured, CANCELLED),
        (Kind::Usb,      Cancel::Late,     CANCELLED),
        (Kind::Usb,      Cancel::Ignored,  SUCCESS),
        // Its dispatch routine returns when the command has ended: there is nothing to cancel.
        (Kind::Scsiport, Cancel::Honoured, SUCCESS),
    ];
    for (kind, cancel, ends) in rows {
        let what = format!("{kind:?} {cancel:?}");
        let bench = Bench::new();
        let disk = Arc::new(Cancelling {
            nexus: bench.nexus(),
            victim: Mutex::default(),
        });
        let stack = bench.plug(kind, Arc::clone(&disk) as Arc<dyn Disk>);
        stack.port.on_cancel(cancel);
        // While the target executes the command.
        let call = Call::ioctl(RESERVE);
        let told = |pending: &Arc<Pending>| {
            *disk.victim.lock().expect("nobody panics with it") = Some(Arc::clone(pending));
        };
        let first = bench.node.start_noting(&stack, &call, told);
        let second = bench.node.start(&stack, &call);
        assert_eq!(first.wait().status.cast_unsigned(), ends, "{what}");
        assert_eq!(second.wait().status.cast_unsigned(), SUCCESS, "{what}");
        assert!(bench.unit.holder().is_some(), "{what}: it is not undone");

        // In a retry delay, in which the port has nothing.
        stack.port.take_seen();
        stack
            .port
            .script([Answer::Target(target(0x08, Vec::new()))]);
        let waiting = bench.node.start(&stack, &call);
        world::current().settle();
        let before = bench.world.world().now();
        waiting.cancel();
        assert_eq!(waiting.wait().status.cast_unsigned(), CANCELLED, "{what}");
        assert_eq!(bench.world.world().now(), before, "{what}: at once");
        assert_eq!(stack.port.take_seen().len(), 1, "{what}: not sent again");

        bench.node.unplug(stack);
        bench.node.unload();
    }
}

#[test]
fn a_node_with_two_paths_to_a_unit_meets_its_own_conflict_on_the_second() {
    for kind in Kind::ALL {
        let bench = Bench::new();
        let disks = port::two_paths(&bench.unit, "iqn.2026-01.example:a");
        let [one, two] = disks.map(|disk| bench.plug(kind, disk));
        for (path, code, ends) in [
            (&one, RESERVE, SUCCESS),
            (&two, RESERVE, DEVICE_BUSY),
            (&one, RESERVE, SUCCESS),
            // Not the holder's: GOOD, and without effect (SPC-2 7.17).
            (&two, RELEASE, SUCCESS),
            (&two, RESERVE, DEVICE_BUSY),
            (&one, RELEASE, SUCCESS),
            (&two, RESERVE, SUCCESS),
            (&one, RESERVE, DEVICE_BUSY),
        ] {
            assert_eq!(bench.call(path, code), ends, "{kind:?}");
        }
        // The path that holds it breaks.
        two.port.disk.lose();
        assert_eq!(bench.call(&two, RESERVE), DEVICE_NOT_CONNECTED, "{kind:?}");
        assert_eq!(bench.call(&one, RESERVE), SUCCESS, "{kind:?}");
        for stack in [one, two] {
            bench.node.unplug(stack);
        }
        bench.node.unload();
    }
}

/// Sends the port a pass-through of its own, as a driver above it would.
fn send_at_dispatch_level() {
    const DEVICE_CONTROL: u8 = 14;
    let bench = Bench::new();
    let stack = bench.plug(Kind::Storport, Arc::new(bench.nexus()));
    let irp = io::allocate_irp("test", 1);
    let location = io::next_location(irp);
    // SAFETY: a new IRP has the location.
    unsafe { (*location).MajorFunction = DEVICE_CONTROL };
    // SAFETY: they lie inside of it.
    unsafe { (*io::ioctl_parameters(location)).IoControlCode = IOCTL_SCSI_PASS_THROUGH };
    let device = stack.port.device();
    world::current().at_irql(irql::DISPATCH, "IoCallDriver", || {
        io::call_driver(device, irp)
    });
}

#[test]
fn a_pass_through_above_passive_level_stops_the_run() {
    const CHILD: &str = "RIG_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        send_at_dispatch_level();
        return;
    }
    let child = Command::new(std::env::current_exe().expect("a test program has a name"))
        .args([
            "a_pass_through_above_passive_level_stops_the_run",
            "--exact",
        ])
        .env(CHILD, "1")
        .output()
        .expect("a test program can be run");
    let said = String::from_utf8_lossy(&child.stderr);
    assert_eq!(child.status.code(), Some(rules::EXIT_STATUS), "{said}");
    assert!(said.contains(rules::PASS_THROUGH_IRQL.id), "{said}");
}
