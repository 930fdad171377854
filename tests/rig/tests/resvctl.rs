//! The node's command line against the built `resvflt.sys` on two nodes: what a person at a prompt is told, and by which
//! exit code a script can tell it.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use resvctl::machine::{
    self, Access, Answer, Device, Ended, Key, Machine, Node as DeviceNode, Removed, Value, Win32,
    kind,
};
use resvctl::{Exit, FILTER, multi_string};
use rig::abi::irql;
use rig::class::{DiskStack, Place};
use rig::disk::logical_unit::{LogicalUnit, Nexus};
use rig::disk::persistent::Handling;
use rig::disk::{Data, Disk, Outcome};
use rig::image;
use rig::io::{Call, Caller};
use rig::node::{Node, SERVICE_KEY};
use rig::port::{Answer as PortAnswer, Shape, Timing};
use rig::registry::Hive;
use rig::world::{self, Entered, Schedule, World};
use scsi_reserve::NtStatus;

const INSTANCE: &str = r"SCSI\DISK&VEN_RIG&PROD_UNIT\1&0&000000";
const SECOND: u64 = 10_000_000;
const MINUTE: Duration = Duration::from_mins(1);

/// What `DeviceIoControl` makes of a status: [MS-ERREF] 2.3.1, as `RtlNtStatusToDosError` in Wine 8.0 has it.
const ERRORS: [(NtStatus, u32); 14] = [
    (NtStatus::DEVICE_BUSY, 170),
    (NtStatus::INVALID_DEVICE_REQUEST, 1),
    (NtStatus::NO_MEDIA_IN_DEVICE, 21),
    (NtStatus::ACCESS_DENIED, 5),
    (NtStatus::BUFFER_TOO_SMALL, 122),
    (NtStatus::INSUFFICIENT_RESOURCES, 1450),
    (NtStatus::DEVICE_DATA_ERROR, 23),
    (NtStatus::DEVICE_NOT_CONNECTED, 1167),
    (NtStatus::DEVICE_NOT_READY, 21),
    (NtStatus::IO_TIMEOUT, 121),
    (NtStatus::NOT_SUPPORTED, 50),
    (NtStatus::CANCELLED, 995),
    (NtStatus::IO_DEVICE_ERROR, 1117),
    (NtStatus::DEVICE_HARDWARE_ERROR, 483),
];

/// One node, whose first disk after Windows' own is the unit that the nodes share. E: is on it; F: is, and on a third, too.
struct Prompt {
    node: Node,
    disk: DiskStack,
    nexus: Arc<Nexus>,
    place: Place,
    world: Arc<World>,
}

/// Two nodes on one unit.
struct Bench {
    unit: LogicalUnit,
    a: Prompt,
    b: Prompt,
    // Last: everything above lives in it.
    world: Entered,
}

impl Bench {
    fn new(place: Place) -> Self {
        Self::with(place, &Hive::default())
    }

    fn with(place: Place, hive: &Hive) -> Self {
        let world = World::enter(Schedule::Orderly);
        let unit = LogicalUnit::new();
        let prompt = |name: &str| {
            let node = Node::load(world.world(), name, &image::built(), hive.clone());
            let node = node.expect("the driver loads");
            let nexus = Arc::new(unit.connect(name));
            let disk = DiskStack::plug(&node, place, nexus.clone()).expect("the disk starts");
            let world = Arc::clone(world.world());
            Prompt {
                node,
                disk,
                nexus,
                place,
                world,
            }
        };
        let (a, b) = (prompt("A"), prompt("B"));
        Self { unit, a, b, world }
    }

    /// Lets so many seconds pass.
    fn wait(&self, seconds: u64) {
        let world = self.world.world();
        let due = world.now() + seconds * SECOND;
        let key = std::ptr::from_ref(self) as usize;
        let waker = Arc::clone(world);
        world.set_timer(
            due,
            "wait",
            irql::PASSIVE,
            Box::new(move || waker.wake(key)),
        );
        world::current().wait(key, || world.now() >= due);
    }

    fn end(self) {
        for Prompt { node, disk, .. } in [self.a, self.b] {
            disk.unplug(&node);
            node.unload();
        }
    }
}

impl Prompt {
    /// Carries out a command line: how it ended, and what it printed.
    fn command(&self, line: &str) -> (Exit, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let words = ["resvctl"].into_iter().chain(line.split_whitespace());
        let exit = resvctl::run(self, words, &mut out, &mut err);
        out.extend(err);
        (exit, String::from_utf8(out).expect("UTF-8"))
    }

    fn ends(&self, line: &str, exit: Exit, told: &[&str]) {
        let (found, text) = self.command(line);
        assert_eq!(found, exit, "{line}: {text}");
        for told in told {
            assert!(text.contains(told), "{line}, {told}: {text}");
        }
    }

    fn control(&self, code: u32, input: &[u8], output: &mut [u8]) -> Answer<usize> {
        let call = Call {
            input: input.into(),
            output_length: u32::try_from(output.len()).expect("small"),
            caller: Caller::User64,
            ..Call::ioctl(code)
        };
        let (end, buffer) = self.node.call_with_buffer(&self.disk.stack, &call);
        let status = NtStatus(end.status);
        if !status.is_success() {
            let error = ERRORS.iter().find(|(known, _)| *known == status);
            return Err(Win32(error.expect("a status with an error").1));
        }
        let length = usize::try_from(end.information).expect("small");
        output[..length].copy_from_slice(&buffer[..length]);
        Ok(length)
    }

    /// `IOCTL_STORAGE_PERSISTENT_RESERVE_IN`, which the rig's disk.sys does not serve: `ClasspPersistentReserve` (classpnp's
    /// class.c) sends the service action and the allocation length on.
    fn persistent_reserve_in(&self, input: &[u8], output: &mut [u8]) -> Answer<usize> {
        let [12, 0, 0, 0, 12, 0, 0, 0, action, 0, low, high] = *input else {
            return Err(Win32::INVALID_DATA);
        };
        let cdb = [0x5E, action, 0, 0, 0, 0, 0, high, low, 0];
        let ask = || {
            let room = Data::In(output.len());
            self.nexus.transfer(&cdb, room, MINUTE)
        };
        let mut outcome = ask();
        // disk.sys sends a command again that met a unit attention.
        while outcome.sense().is_some_and(|sense| sense.key == 6) {
            outcome = ask();
        }
        match outcome {
            Outcome::Status {
                status: 0, data, ..
            } => {
                output[..data.len()].copy_from_slice(&data);
                Ok(data.len())
            }
            Outcome::Status { status: 0x18, .. } => Err(Win32::BUSY),
            _ => Err(Win32::IO_DEVICE),
        }
    }

    /// `IOCTL_STORAGE_BREAK_RESERVATION` goes down the stack to the rig's port, which does not know it; storport would first
    /// reset the unit.
    fn break_reservation(&self, input: &[u8]) -> Answer<usize> {
        let passed = self.control(0x002D_5014, input, &mut []);
        assert_eq!(
            passed,
            Err(Win32::INVALID_FUNCTION),
            "nobody above the port serves it"
        );
        // The port's address: bus 0, target 1, unit 0.
        assert_eq!(input, [8, 0, 0, 0, 0, 0, 1, 0]);
        self.nexus
            .reset_logical_unit()
            .map_err(|_| Win32::IO_DEVICE)?;
        Ok(0)
    }
}

/// What a path opens.
enum Handle<'a> {
    Disk(&'a Prompt),
    Volume(&'static [u32]),
}

impl Device for Handle<'_> {
    fn control(&self, code: u32, input: &[u8], output: &mut [u8]) -> Answer<usize> {
        let numbers: Vec<u32> = match (self, code) {
            (Self::Disk(prompt), 0x002D_5018) => {
                return prompt.persistent_reserve_in(input, output);
            }
            (Self::Disk(prompt), 0x002D_5014) => return prompt.break_reservation(input),
            // STORAGE_DEVICE_NUMBER of a disk.
            (Self::Disk(_), 0x002D_1080) => vec![7, 1, 0],
            // VOLUME_DISK_EXTENTS: a count, and six words each.
            (Self::Volume(disks), 0x0056_0000) => {
                let extents = disks.iter().flat_map(|disk| [*disk, 0, 0, 0, 0, 0]);
                let count = u32::try_from(disks.len()).expect("small");
                [count, 0].into_iter().chain(extents).collect()
            }
            (Self::Disk(prompt), _) => return prompt.control(code, input, output),
            (Self::Volume(_), _) => return Err(Win32::INVALID_FUNCTION),
        };
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        output[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn host_volumes(&self) -> Answer<Vec<String>> {
        Err(Win32::NOT_SUPPORTED)
    }
}

/// The disks are the rig's. There is no registry of the installer's: nothing is installed here.
impl Machine for Prompt {
    fn is_elevated(&self) -> bool {
        true
    }

    fn build(&self) -> u32 {
        14393 // Server 2016
    }

    fn interrupt_time(&self) -> u64 {
        self.world.now()
    }

    fn package(&self) -> String {
        r"E:\resvflt".into()
    }

    fn system(&self) -> String {
        r"C:\Windows\System32".into()
    }

    fn open(&self, path: &str, _: Access) -> Answer<Box<dyn Device + '_>> {
        match path {
            r"\\.\PhysicalDrive1" => Ok(Box::new(Handle::Disk(self))),
            r"\\?\C:" => Ok(Box::new(Handle::Volume(&[0]))),
            r"\\?\E:" => Ok(Box::new(Handle::Volume(&[1]))),
            r"\\?\F:" => Ok(Box::new(Handle::Volume(&[1, 2, 1]))),
            _ => Err(Win32::FILE_NOT_FOUND),
        }
    }

    fn nodes(&self) -> Answer<Vec<DeviceNode>> {
        Ok(vec![DeviceNode {
            instance: INSTANCE.into(),
            path: Some(r"\\.\PhysicalDrive1".into()),
        }])
    }

    fn stack(&self, _: &str) -> Answer<Vec<String>> {
        let stack: &[&str] = match (self.disk.stack.is_filtered(), self.place) {
            (false, _) => &["disk", "storport"],
            (true, Place::Lower) => &["disk", FILTER, "storport"],
            (true, Place::Upper) => &[FILTER, "disk", "storport"],
        };
        Ok(stack
            .iter()
            .map(|driver| format!(r"\Driver\{driver}"))
            .collect())
    }

    fn value(&self, key: &Key, name: &str) -> Answer<Option<Value>> {
        let list = match self.place {
            Place::Lower => "LowerFilters",
            Place::Upper => "UpperFilters",
        };
        let ours = *key == Key::Device(INSTANCE.into());
        Ok(match name {
            "FriendlyName" if ours => Some(Value::sz("Rig Unit")),
            _ if ours && name == list => Some(Value {
                kind: kind::MULTI_SZ,
                data: multi_string::data([FILTER]),
            }),
            _ => None,
        })
    }

    fn set_value(&self, _: &Key, _: &str, _: Option<&Value>) -> Answer<()> {
        Err(Win32::NOT_SUPPORTED)
    }

    fn delete_key(&self, _: &Key) -> Answer<()> {
        Err(Win32::NOT_SUPPORTED)
    }

    fn values(&self, _: &str) -> Answer<Vec<(String, Value)>> {
        Err(Win32::NOT_SUPPORTED)
    }

    fn subkeys(&self, _: &str) -> Answer<Vec<String>> {
        Err(Win32::NOT_SUPPORTED)
    }

    fn flush(&self, _: machine::Hive) -> Answer<()> {
        Err(Win32::NOT_SUPPORTED)
    }

    fn is_loaded(&self) -> Answer<bool> {
        Ok(true)
    }

    fn has_service(&self) -> Answer<bool> {
        Ok(false)
    }

    fn create_service(&self, _: &str) -> Answer<()> {
        Err(Win32::NOT_SUPPORTED)
    }

    fn start_service(&self) -> Answer<()> {
        Err(Win32::NOT_SUPPORTED)
    }

    fn delete_service(&self) -> Answer<()> {
        Err(Win32::NOT_SUPPORTED)
    }

    fn read_file(&self, path: &str) -> Answer<Option<Vec<u8>>> {
        Ok(path.starts_with(&self.package()).then(Vec::new))
    }

    fn copy_file(&self, _: &str, _: &str) -> Answer<()> {
        Err(Win32::NOT_SUPPORTED)
    }

    fn move_file(&self, _: &str, _: &str) -> Answer<()> {
        Err(Win32::NOT_SUPPORTED)
    }

    fn remove_file(&self, _: &str) -> Answer<Removed> {
        Err(Win32::NOT_SUPPORTED)
    }

    fn run(&self, _: &str, _: &[&str]) -> Answer<Ended> {
        Err(Win32::FILE_NOT_FOUND)
    }
}

#[test]
fn above_disk_sys_the_filter_serves_and_says_who_holds_the_disk() {
    let bench = Bench::new(Place::Upper);
    let (a, b) = (&bench.a, &bench.b);
    a.ends("status 1", Exit::Good, &["not known"]);
    a.ends(
        "reserve 1",
        Exit::Good,
        &["reserved for this node", "resvflt answered: GOOD (00h)"],
    );
    assert_eq!(bench.unit.holder().as_deref(), Some("A"));
    b.ends(
        "reserve E:",
        Exit::HeldByAnother,
        &[
            "error 170",
            "resvflt answered: RESERVATION CONFLICT (18h)",
            "resvctl break",
        ],
    );
    bench.wait(100);
    a.ends(
        "status e:",
        Exit::Good,
        &["held by this node (for 1 min 40 s)", "STATUS_SUCCESS"],
    );
    b.ends(
        "status 1",
        Exit::Good,
        &[
            "held by another initiator",
            "STATUS_DEVICE_BUSY (0x80000011)",
        ],
    );
    b.ends("status 1 --json", Exit::Good, &[
        r#"{"disk":"PhysicalDrive1","state":{"knowledge":"held_by_another","age_ms":100000,"last_status":"0x80000011","#,
        r#""scsi_status":24,"sense_key":null,"asc":0,"ascq":0,"cdb_length":6,"requests":1,"reserves":0,"releases":0,"conflicts":1,"#,
    ]);
    b.ends(
        "release 1",
        Exit::Good,
        &["this node does not hold it", "resvflt answered: GOOD"],
    );
    assert_eq!(bench.unit.holder().as_deref(), Some("A"));
    a.ends(
        r"release \\.\PhysicalDrive1",
        Exit::Good,
        &["this node does not hold it"],
    );
    assert_eq!(bench.unit.holder(), None);
    a.ends(
        "list",
        Exit::Good,
        &["PhysicalDrive1   filter above disk.sys; named by this disk's UpperFilters"],
    );
    bench.end();
}

#[test]
fn below_disk_sys_the_class_driver_serves_and_that_is_told() {
    let bench = Bench::new(Place::Lower);
    let (a, b) = (&bench.a, &bench.b);
    let above = "disk.sys answered, which is above the filter";
    a.ends("reserve 1", Exit::Good, &["reserved for this node", above]);
    assert_eq!(bench.unit.holder().as_deref(), Some("A"));
    b.ends("reserve 1", Exit::HeldByAnother, &[above]);
    a.ends("status 1", Exit::Good, &["not known", "requests       0"]);
    a.ends("release 1", Exit::Good, &[above]);
    assert_eq!(bench.unit.holder(), None);
    a.ends("reserve 1 --require-filter", Exit::NotServed, &[above]);
    assert_eq!(bench.unit.holder().as_deref(), Some("A"));
    b.ends("reserve 1 --require-filter", Exit::HeldByAnother, &[above]);
    a.ends("release 1 --require-filter", Exit::NotServed, &[above]);
    a.ends("list", Exit::Good, &["filter below disk.sys"]);
    assert_eq!(bench.unit.holder(), None);
    bench.end();
}

#[test]
fn without_the_filter_the_class_driver_serves_and_a_status_is_not_to_be_had() {
    let hive = Hive::default();
    hive.set(&format!(r"{SERVICE_KEY}\Parameters"), "AttachMode", 1);
    let bench = Bench::with(Place::Upper, &hive);
    let a = &bench.a;
    assert!(!a.disk.stack.is_filtered());
    let absent = "resvflt is not in this disk's stack";
    a.ends("reserve 1", Exit::Good, &["reserved for this node", absent]);
    assert_eq!(bench.unit.holder().as_deref(), Some("A"));
    a.ends("reserve 1 --require-filter", Exit::NotServed, &[absent]);
    bench.b.ends("reserve 1", Exit::HeldByAnother, &[absent]);
    a.ends("status 1", Exit::Error, &[absent, "resvctl install 1"]);
    a.ends("list", Exit::Good, &["PhysicalDrive1   no filter"]);
    bench.end();
}

#[test]
fn a_dead_holders_reservation_is_broken_and_the_next_takes_the_disk() {
    for place in [Place::Upper, Place::Lower] {
        let bench = Bench::new(place);
        let (a, b) = (&bench.a, &bench.b);
        a.ends("reserve 1", Exit::Good, &[]);
        b.ends("reserve 1", Exit::HeldByAnother, &["resvctl break"]);
        b.ends("break 1", Exit::Error, &["nothing was sent", "target 1"]);
        assert_eq!(bench.unit.holder().as_deref(), Some("A"));
        b.ends(
            "break 1 --force",
            Exit::Good,
            &["reset", "resvctl reserve 1"],
        );
        assert_eq!(bench.unit.holder(), None);
        b.ends("reserve 1", Exit::Good, &["reserved for this node"]);
        a.ends("reserve 1", Exit::HeldByAnother, &[]);
        bench.end();
    }
}

/// PERSISTENT RESERVE OUT of one service action, with type 3, Exclusive Access (SPC-4 6.16).
fn persistent_reserve_out(prompt: &Prompt, action: u8, [key, new]: [u64; 2]) {
    let list = [key.to_be_bytes(), new.to_be_bytes(), [0; 8]].concat();
    let cdb = [0x5F, action, 3, 0, 0, 0, 0, 0, 24, 0];
    let mut outcome = prompt.nexus.transfer(&cdb, Data::Out(&list), MINUTE);
    while outcome.sense().is_some_and(|sense| sense.key == 6) {
        outcome = prompt.nexus.transfer(&cdb, Data::Out(&list), MINUTE);
    }
    assert_eq!(outcome.status(), Some(0), "{outcome:?}");
}

#[test]
fn a_good_that_a_persistent_reservation_makes_worthless_is_told() {
    let bench = Bench::new(Place::Upper);
    let (a, b) = (&bench.a, &bench.b);
    bench
        .unit
        .configure(|unit| unit.handling = Handling::Compatible);
    persistent_reserve_out(a, 0, [0, 7]); // REGISTER
    persistent_reserve_out(a, 1, [7, 0]); // RESERVE
    let warning =
        "warning: the disk has a persistent reservation (Exclusive Access, key 0x0000000000000007)";
    a.ends(
        "reserve 1",
        Exit::Good,
        &["resvflt answered: GOOD", warning],
    );
    assert_eq!(bench.unit.holder(), None, "that GOOD reserved nothing");
    a.ends("status 1", Exit::Good, &[warning]);
    b.ends("status 1", Exit::Good, &[warning]);
    let (exit, told) = b.command("reserve 1");
    assert!(
        exit == Exit::HeldByAnother && !told.contains("warning"),
        "{told}"
    );
    persistent_reserve_out(a, 3, [7, 0]); // CLEAR
    b.ends(
        "status 1 --json",
        Exit::Good,
        &[r#""persistent":{"reservation":null}"#],
    );
    // Where the two exclude each other, the holder of the one is not told of the other.
    b.ends("reserve 1", Exit::Good, &[]);
    b.ends("status 1 --json", Exit::Good, &[r#""persistent":null"#]);
    bench.end();
}

#[test]
fn what_went_wrong_is_told_with_what_to_do() {
    let bench = Bench::new(Place::Upper);
    let (a, port) = (&bench.a, &bench.a.disk.stack.port);
    a.ends(
        "reserve 2",
        Exit::Error,
        &["PhysicalDrive2", "resvctl list"],
    );
    a.ends("reserve Z:", Exit::Error, &["Z:", "resvctl list"]);
    a.ends(
        "reserve F:",
        Exit::Error,
        &[
            "several disks, PhysicalDrive1, PhysicalDrive2",
            "name each disk",
        ],
    );
    a.ends("install", Exit::Usage, &["name the disks"]);
    a.ends("install c:", Exit::Error, &["PhysicalDrive0"]);
    a.ends(
        "reserve serial:7",
        Exit::Error,
        &["serial number 7", "resvctl list"],
    );
    let status = |status: u8, sense: &[u8]| {
        PortAnswer::Target(Outcome::Status {
            status,
            sense: sense.into(),
            data: Vec::new(),
        })
    };
    // Fixed format: key 4, and ASC/ASCQ 44h/00h at 12.
    let hardware = [0x70, 0, 4, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x44, 0, 0, 0, 0, 0];
    for (answers, told) in [
        (
            vec![status(8, &[]); 5],
            &["error 21", "BUSY (08h)", "try again"][..],
        ),
        (
            vec![status(2, &hardware)],
            &["error 483", "CHECK CONDITION (02h), HARDWARE ERROR 44h/00h"],
        ),
        (
            vec![PortAnswer::Target(Outcome::TimedOut)],
            &["error 121", "unknown", "no answer from the disk", "again"],
        ),
        (
            vec![PortAnswer::Target(Outcome::Gone)],
            &["error 1167", "no answer from the disk", "path"],
        ),
    ] {
        port.script(answers);
        a.ends("reserve 1", Exit::Error, told);
    }
    a.ends("status 1", Exit::Good, &["not known", "timeouts       1"]);
    bench.end();
}

#[test]
fn a_status_is_told_while_a_reserve_waits() {
    let bench = Bench::new(Place::Upper);
    let (a, stack) = (&bench.a, &bench.a.disk.stack);
    stack.port.behave(Shape::Success, Timing::Never);
    let waits = a.node.start(stack, &Call::ioctl(0x002D_4810));
    a.ends(
        "status 1",
        Exit::Good,
        &["not known", "no answer from the disk", "requests       1"],
    );
    stack.port.behave(Shape::Success, Timing::Later);
    stack.port.release();
    assert_eq!(waits.wait().status, 0);
    bench.end();
}

/// `docs/resvctl.md` between its marks.
#[test]
fn the_docs_show_a_session_that_really_ran() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/resvctl.md");
    let text = std::fs::read_to_string(&file).expect("docs/resvctl.md");
    let (head, rest) = text.split_once("<!-- session -->\n").expect("its begin");
    let (_, tail) = rest.split_once("<!-- end -->\n").expect("its end");
    let ran = format!(
        "{head}<!-- session -->\n```text\n{}```\n<!-- end -->\n{tail}",
        session()
    );
    if std::env::var_os("RESVCTL_SESSION").is_some_and(|what| what == "write") {
        std::fs::write(&file, &ran).expect("docs/resvctl.md");
    } else {
        assert_eq!(
            text, ran,
            "RESVCTL_SESSION=write cargo test --manifest-path tests/Cargo.toml -p rig --features image --test resvctl"
        );
    }
}

fn session() -> String {
    let mut text = String::new();
    let bench = Bench::new(Place::Upper);
    let mut on = |prompt: &Prompt, name: char, line: &str| {
        let (exit, printed) = prompt.command(line);
        writeln!(text, "{name}> resvctl {line}\n{printed}").expect("memory");
        if exit != Exit::Good {
            text.pop();
            writeln!(text, "{name}> echo %ERRORLEVEL%\n{}\n", exit as u8).expect("memory");
        }
    };
    on(&bench.a, 'A', "list");
    on(&bench.a, 'A', "reserve 1");
    on(&bench.b, 'B', "reserve E:");
    bench.wait(200);
    on(&bench.b, 'B', "status 1");
    on(&bench.a, 'A', "status 1 --json");
    on(&bench.a, 'A', "release 1");
    on(&bench.b, 'B', "reserve 1");
    on(&bench.a, 'A', "break 1");
    on(&bench.a, 'A', "break 1 --force");
    on(&bench.a, 'A', "reserve 1");
    bench.end();
    let bench = Bench::new(Place::Lower);
    text.push_str("... and with the filter below disk.sys:\n\n");
    for line in ["list", "reserve 1", "reserve 1 --require-filter"] {
        let (exit, printed) = bench.a.command(line);
        write!(text, "A> resvctl {line}\n{printed}").expect("memory");
        writeln!(text, "A> echo %ERRORLEVEL%\n{}\n", exit as u8).expect("memory");
    }
    bench.end();
    text.truncate(text.trim_end().len());
    text + "\n"
}
