//! What the built `resvflt.sys` tells ETW, decoded from what it writes.

use std::sync::Arc;

use rig::class::{self, DiskStack, Place};
use rig::disk::logical_unit::LogicalUnit;
use rig::disk::{Disk, Outcome, TaskManagement};
use rig::etw::{Ask, Event, Session};
use rig::fx::DiskKeys;
use rig::image;
use rig::io::Call;
use rig::node::{Node, SERVICE_KEY, Stack};
use rig::port::{Answer, Shape, Timing};
use rig::registry::{Hive, Value};
use rig::world::{self, Entered, Faults, Schedule, World};

const RESERVE: u32 = 0x002D_4810;
/// `IOCTL_STORAGE_RESET_DEVICE` (`ntddstor.h`).
const RESET_DEVICE: u32 = 0x002D_5004;
const DISK_RELEASE: u32 = 0x0007_4814;

const DRIVER: u64 = 0x1;
const DISK: u64 = 0x2;
const OPERATION: u64 = 0x4;
const RESERVATION: u64 = 0x8;

/// Every event: level, keyword, and one of it in full.
const EVENTS: &[(u8, u64, &str)] = &[
    (
        4,
        DRIVER,
        r#"DriverLoaded Version="0.1.0" TimeoutSeconds=30 MaxRetries=4 RetryDelayMs=1000 Reserve10Fallback=1 AttachMode=0 Watch=2"#,
    ),
    (4, DRIVER, "DriverUnloaded"),
    (
        3,
        DRIVER,
        r#"ParameterRejected Name="MaxRetries" Status=0x00000000 Value=17 Used=4"#,
    ),
    (
        4,
        DISK,
        r#"DiskAttached Disk=0 HardwareId="SCSI\\DiskACME____Turbo___________1.0_" TimeoutSeconds=30"#,
    ),
    (
        4,
        DISK,
        r#"DiskSkipped HardwareId="MPIO\\DiskACME" Reason="a disk of MPIO's""#,
    ),
    (
        3,
        DISK,
        r#"AttachFailed HardwareId="SCSI\\DiskACME____Turbo___________1.0_" Status=0xc000009a"#,
    ),
    (4, DISK, "DiskDetached Disk=2"),
    (5, OPERATION, "OperationStarted Disk=0 Code=0x2d4810"),
    (
        4,
        OPERATION,
        "OperationEnded Disk=0 Code=0x2d4810 Status=0x00000000 ScsiStatus=0x0 SenseKey=0xff Asc=0x0 Ascq=0x0 Attempts=2 Microseconds=1000000",
    ),
    (
        4,
        OPERATION,
        "Retry Disk=0 Code=0x2d4810 Status=0x00000000 ScsiStatus=0x2 SenseKey=0x2 Asc=0x3e Ascq=0x1 Attempts=1 DelayMs=1000",
    ),
    (
        4,
        OPERATION,
        "CancelRequested Disk=0 Code=0x74814 Attempts=1",
    ),
    (3, RESERVATION, "UnitAttention Disk=0 Asc=0x29 Ascq=0x3"),
    (3, RESERVATION, "ResetPassed Disk=0 Code=0x2d5004"),
    (
        4,
        RESERVATION,
        r#"Watched Disk=2 Request="RESERVE" Status=0x00000000 ScsiStatus=0x0 SenseKey=0xff Asc=0x0 Ascq=0x0 Knowledge=1"#,
    ),
    (
        3,
        RESERVATION,
        "Denied Disk=2 ScsiStatus=0x18 Asc=0x0 Ascq=0x0",
    ),
    (4, RESERVATION, "Conflict Disk=0 Code=0x2d4810"),
    (
        3,
        RESERVATION,
        "OutcomeUnknown Disk=0 Code=0x74814 Status=0xc0000120",
    ),
];

/// A node's registry with a parameter that is out of range.
fn hive() -> Hive {
    let hive = Hive::default();
    let parameters = format!(r"{SERVICE_KEY}\Parameters");
    hive.set(&parameters, "TimeoutSeconds", 30);
    hive.set(&parameters, "MaxRetries", 17);
    hive.set(&parameters, "Watch", 2);
    hive
}

fn keys(hardware_id: &str) -> DiskKeys {
    DiskKeys {
        hardware_ids: vec![hardware_id.into(), "GenDisk".into()],
        ..DiskKeys::default()
    }
}

const HARDWARE_ID: &str = r"SCSI\DiskACME____Turbo___________1.0_";

/// A node whose driver is loaded while somebody listens, and one disk.
struct Bench {
    session: Session,
    node: Node,
    unit: LogicalUnit,
    stack: Stack,
    // Last: everything above lives in it.
    world: Entered,
}

impl Bench {
    fn new(ask: Option<Ask>) -> Self {
        let world = World::enter(Schedule::Orderly);
        let session = Session::new(world.world());
        if let Some(ask) = ask {
            session.listen(ask);
        }
        let node = Node::load(world.world(), "A", &image::built(), hive()).expect("it loads");
        let unit = LogicalUnit::new();
        unit.configure(|options| options.quiet = true);
        let disk = Arc::new(unit.connect("iqn.2026-01.example:a"));
        let stack = node.plug(disk, &keys(HARDWARE_ID)).expect("it starts");
        Self {
            session,
            node,
            unit,
            stack,
            world,
        }
    }

    fn call(&self, code: u32) {
        self.node.call(&self.stack, &Call::ioctl(code));
    }

    fn plug(&self, hardware_id: &str) -> Stack {
        let disk = Arc::new(self.unit.connect("iqn.2026-01.example:c"));
        let stack = self.node.plug(disk, &keys(hardware_id));
        stack.expect("the disk starts, filter or not")
    }

    /// Has everything happen that there is an event for; ends with the driver unloaded.
    fn everything(self) -> Session {
        // NOT READY, then GOOD.
        self.stack.port.script([said(2, 0x2, 0x3E, 0x01)]);
        self.call(RESERVE);
        let other = self.unit.connect("iqn.2026-01.example:b");
        other
            .manage(TaskManagement::LogicalUnitReset)
            .expect("the unit can be reset");
        self.call(RESERVE);
        self.stack.port.script([said(0x18, 0, 0, 0)]);
        self.call(RESERVE);
        self.call(RESET_DEVICE);
        self.stack.port.behave(Shape::Success, Timing::Never);
        let sent = self.node.start(&self.stack, &Call::ioctl(DISK_RELEASE));
        sent.cancel();
        sent.wait();
        self.node.unplug(self.plug(r"MPIO\DiskACME"));
        fail_the_next_allocation(&self.world);
        self.node.unplug(self.plug(HARDWARE_ID));
        self.watch();
        let Self {
            session,
            node,
            stack,
            world: _world,
            ..
        } = self;
        node.unplug(stack);
        node.unload();
        session
    }
}

impl Bench {
    /// On a disk with disk.sys above the filter: its RESERVE, and a read that another's reservation refuses.
    fn watch(&self) {
        let unit = LogicalUnit::new();
        unit.configure(|options| options.quiet = true);
        let disk = Arc::new(unit.connect("iqn.2026-01.example:a"));
        let stack = DiskStack::plug(&self.node, Place::Lower, disk).expect("it starts");
        stack
            .class
            .send(&class::command(&[0x16, 0, 0, 0, 0, 0]))
            .wait();
        stack.stack.port.script([said(0x18, 0, 0, 0)]);
        stack.class.send(&class::read(0)).wait();
        stack.unplug(&self.node);
    }
}

fn said(status: u8, key: u8, asc: u8, ascq: u8) -> Answer {
    let sense = match key {
        0 => Vec::new(),
        key => vec![0x72, key, asc, ascq, 0, 0, 0, 0],
    };
    Answer::Target(Outcome::Status {
        status,
        sense,
        data: Vec::new(),
    })
}

fn fail_the_next_allocation(world: &Entered) {
    let mut faults = world.world().faults.lock().unwrap();
    faults.fail_allocation = Some(faults.allocations.len());
}

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

#[test]
fn each_event_is_written_when_it_happens() {
    let told = Bench::new(Some(Ask::ALL)).everything().take();
    for event in &told {
        assert_eq!(event.provider, "Resvflt");
        let known = EVENTS
            .iter()
            .any(|(_, _, text)| text.split(' ').next() == Some(&event.name));
        assert!(known, "{event} is in no table");
    }
    for (level, keyword, text) in EVENTS {
        let name = text.split(' ').next();
        let first = told.iter().find(|event| name == Some(&event.name));
        let first = first.unwrap_or_else(|| panic!("{text} was not told"));
        assert_eq!(first.to_string(), *text);
        assert_eq!((first.level, first.keyword), (*level, *keyword), "{text}");
    }
    assert_eq!(
        names(&told),
        [
            "ParameterRejected",
            "DriverLoaded",
            "DiskAttached",
            "OperationStarted",
            "Retry",
            "OperationEnded",
            "OperationStarted",
            "UnitAttention",
            "OperationEnded",
            "OperationStarted",
            "Conflict",
            "OperationEnded",
            "ResetPassed",
            "OperationStarted",
            "CancelRequested",
            "OutcomeUnknown",
            "OperationEnded",
            "DiskSkipped",
            "AttachFailed",
            "DiskAttached",
            "Watched",
            "Denied",
            "DiskDetached",
            "DiskDetached",
            "DriverUnloaded",
        ]
    );
}

#[test]
fn each_disk_has_a_number_of_its_own() {
    let bench = Bench::new(Some(Ask::ALL));
    bench.session.take();
    let plugged: Vec<_> = (0..2).map(|_| bench.plug(HARDWARE_ID)).collect();
    let told: Vec<_> = bench.session.take().iter().map(Event::to_string).collect();
    for (disk, said) in (1..).zip(&told) {
        assert!(
            said.starts_with(&format!("DiskAttached Disk={disk} ")),
            "{said}"
        );
    }
    assert_eq!(told.len(), plugged.len());
    for stack in plugged {
        bench.node.unplug(stack);
    }
    bench.everything();
}

#[test]
fn a_send_that_the_framework_refuses_is_told_as_a_retry() {
    let bench = Bench::new(Some(Ask::ALL));
    let faults = || bench.world.world().faults.lock().unwrap();
    let before = faults().calls.len();
    bench.call(RESERVE);
    let send = faults().calls[before..]
        .iter()
        .position(|(name, _)| *name == "WdfRequestSend")
        .expect("it is called");
    let next = faults().calls.len();
    bench.session.take();
    // The first of its statuses: INSUFFICIENT_RESOURCES.
    faults().fail_call = Some((next + send, 0));
    bench.call(RESERVE);
    let told = bench.session.take();
    assert_eq!(
        names(&told),
        ["OperationStarted", "Retry", "OperationEnded"]
    );
    assert_eq!(
        told[1].to_string(),
        "Retry Disk=0 Code=0x2d4810 Status=0xc000009a ScsiStatus=0xff SenseKey=0xff Asc=0x0 Ascq=0x0 Attempts=1 DelayMs=1000"
    );
    bench.everything();
}

/// The table of `driver/EVENTS.md`, from what was written: event, level, keyword, fields.
fn table(told: &[Event]) -> Vec<String> {
    let rows = EVENTS.iter().map(|(_, _, text)| {
        let name = text.split(' ').next();
        let event = told.iter().find(|event| name == Some(&event.name));
        let event = event.unwrap_or_else(|| panic!("{text} was not told"));
        let level = match event.level {
            3 => "warning",
            4 => "information",
            5 => "verbose",
            other => panic!("level {other}"),
        };
        let fields = event
            .fields
            .iter()
            .map(|field| format!("{} {}", field.name, field.kind));
        let fields: Vec<_> = fields.collect();
        let (name, keyword, fields) = (&event.name, event.keyword, fields.join(", "));
        format!("| {name} | {level} | {keyword:#x} | {fields} |")
    });
    rows.collect()
}

#[test]
fn the_table_of_events_is_what_is_written() {
    let told = Bench::new(Some(Ask::ALL)).everything().take();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../driver/EVENTS.md");
    let text = std::fs::read_to_string(file).expect("driver/EVENTS.md");
    // The last column is for the reader.
    let rows = text
        .lines()
        .filter_map(|line| line.strip_suffix(" |")?.rsplit_once(" | "));
    let rows: Vec<_> = rows.map(|(row, _)| format!("{row} |")).collect();
    let rows: Vec<_> = rows.iter().filter(|row| row.contains(" | 0x")).collect();
    let table = table(&told);
    assert_eq!(
        rows,
        table.iter().collect::<Vec<_>>(),
        "{}",
        table.join("\n")
    );
}

#[test]
fn the_providers_guid_is_that_of_its_name() {
    let told = Bench::new(Some(Ask::ALL)).everything().take();
    let id = tracelogging::Guid::from_name("Resvflt").to_u128();
    assert!(told.iter().all(|event| event.id == id));
}

/// What Microsoft's `tracelogging` crate writes for `u32("Disk", …), u32_hex("Code", …), win_ntstatus("Status", …)`.
#[test]
fn an_events_metadata_are_byte_for_byte_trace_logging() {
    let told = Bench::new(Some(Ask::ALL)).everything().take();
    let unknown = told
        .iter()
        .find(|event| event.name == "OutcomeUnknown")
        .expect("told");
    assert_eq!(
        unknown.metadata,
        b"\x27\0\0OutcomeUnknown\0Disk\0\x08Code\0\x14Status\0\x94\x0E"
    );
}

#[test]
fn nothing_is_written_while_nobody_listens() {
    let session = Bench::new(None).everything();
    assert_eq!((session.calls(), session.take()), (0, vec![]));
}

#[test]
fn a_session_gets_the_levels_and_keywords_that_it_asks_for() {
    for (level, keywords) in [
        (3, u64::MAX),
        (4, u64::MAX),
        (5, u64::MAX),
        (0, u64::MAX),
        (0, DISK),
        (3, DRIVER | RESERVATION),
        (2, u64::MAX),
    ] {
        let session = Bench::new(Some(Ask { level, keywords })).everything();
        let told = session.take();
        for (of, keyword, text) in EVENTS {
            let wanted = (level == 0 || *of <= level) && keyword & keywords != 0;
            let name = text.split(' ').next();
            let found = told.iter().any(|event| name == Some(&event.name));
            assert_eq!(found, wanted, "{text}, {level} {keywords:#x}");
        }
        if keywords == u64::MAX {
            assert_eq!(
                session.calls(),
                told.len(),
                "no event is made that is not wanted"
            );
        }
    }
}

#[test]
fn listening_may_begin_and_end_while_an_operation_waits() {
    let bench = Bench::new(None);
    let Bench {
        node,
        stack,
        session,
        ..
    } = &bench;
    let wait_in_a_delay = || {
        stack.port.script([said(0x08, 0, 0, 0)]);
        let call = node.start(stack, &Call::ioctl(RESERVE));
        world::current().settle();
        call
    };
    let call = wait_in_a_delay();
    session.listen(Ask::ALL);
    call.wait();
    let told = session.take();
    assert_eq!(names(&told), ["OperationEnded"]);
    assert!(
        told[0].to_string().ends_with("Attempts=2 Microseconds=0"),
        "it began unseen"
    );

    let call = wait_in_a_delay();
    session.ignore();
    let calls = session.calls();
    call.wait();
    assert_eq!(session.calls(), calls);
    assert_eq!(names(&session.take()), ["OperationStarted", "Retry"]);
    bench.everything();
}

#[test]
fn removal_and_a_port_that_hangs_are_told() {
    let Bench {
        session,
        node,
        stack,
        world: _world,
        ..
    } = Bench::new(Some(Ask::ALL));
    stack.port.behave(Shape::Success, Timing::Never);
    session.take();
    let call = node.start(&stack, &Call::ioctl(RESERVE));
    node.unplug(stack);
    call.wait();
    let told: Vec<_> = session.take().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "OperationStarted Disk=0 Code=0x2d4810",
            "OutcomeUnknown Disk=0 Code=0x2d4810 Status=0xc000009d",
            "OperationEnded Disk=0 Code=0x2d4810 Status=0xc000009d ScsiStatus=0xff SenseKey=0xff Asc=0x0 Ascq=0x0 Attempts=1 Microseconds=0",
            "DiskDetached Disk=0",
        ]
    );
    node.unload();
}

#[test]
fn a_parameter_of_another_type_is_told_with_its_status() {
    let world = World::enter(Schedule::Orderly);
    let session = Session::new(world.world());
    session.listen(Ask {
        level: 3,
        keywords: DRIVER,
    });
    let hive = Hive::default();
    let parameters = format!(r"{SERVICE_KEY}\Parameters");
    hive.set(&parameters, "RetryDelayMs", Value::Other(b"1000".to_vec()));
    hive.set(&parameters, "AttachMode", 2);
    let node = Node::load(world.world(), "A", &image::built(), hive).expect("it loads");
    let told: Vec<_> = session.take().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            r#"ParameterRejected Name="RetryDelayMs" Status=0xc0000024 Value=0 Used=1000"#,
            r#"ParameterRejected Name="AttachMode" Status=0x00000000 Value=2 Used=0"#,
        ]
    );
    node.unload();
}

/// That a provider is still registered when the driver is gone is a rule of the rig's, which ends the process.
#[test]
fn whatever_fails_in_driver_entry_leaves_no_provider_behind() {
    let world = World::enter(Schedule::Orderly);
    let session = Session::new(world.world());
    session.listen(Ask::ALL);
    let load = |fail: Option<usize>| {
        *world.world().faults.lock().unwrap() = Faults {
            fail_allocation: fail,
            ..Faults::default()
        };
        let node = Node::load(world.world(), "A", &image::built(), hive());
        let loaded = node.is_ok();
        if let Ok(node) = node {
            node.unload();
        }
        let faults = world.world().faults.lock().unwrap();
        (loaded, faults.allocations.clone(), session.take())
    };
    let (loaded, all, told) = load(None);
    assert!(loaded && names(&told).contains(&"DriverLoaded"));
    let mut refused = 0;
    for (number, what) in all.iter().enumerate() {
        let (loaded, _, told) = load(Some(number));
        refused += usize::from(!loaded);
        match *what {
            "ETW registration" => assert!(loaded && told.is_empty(), "it works unheard"),
            "WDFDRIVER" | "WdfVersionBind" => assert!(!loaded && told.is_empty()),
            _ => assert!(loaded, "{what}"),
        }
    }
    assert!(refused >= 2, "{all:?}");
}
