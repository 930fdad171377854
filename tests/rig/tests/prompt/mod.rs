//! A machine for `resvctl`'s commands whose disk is the rig's: two nodes, each with its own copy of the built driver, on one
//! unit. What Windows is asked beyond that is played here, and [`Tricks`] has it, or a driver above the disk, do it wrong.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::doc_markdown, reason = "names of Windows' are words here")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use object::LittleEndian as LE;
use object::read::pe::{ImageNtHeaders as _, ImageOptionalHeader as _, PeFile64};
use resvctl::machine::{
    self, Access, Answer, Completed, Device, Ended, Key, Loaded, Machine, Node as DeviceNode,
    Process, Removed, Requests, Traced, Value, Win32, kind,
};
use resvctl::{Exit, FILTER, multi_string};
use rig::abi::{irql, status};
use rig::class::{DiskStack, Place};
use rig::disk::logical_unit::{LogicalUnit, Nexus};
use rig::disk::{Data, Disk, Outcome};
use rig::etw::{Ask, Session, Value as Field};
use rig::fx::Power;
use rig::image;
use rig::io::{Call, Caller, Pending};
use rig::node::Node;
use rig::port::{Shape, Timing};
use rig::registry::Hive;
use rig::world::{self, Entered, Schedule, World};
use scsi_reserve::{Command, NtStatus};

const INSTANCE: &str = r"SCSI\DISK&VEN_RIG&PROD_UNIT\1&0&000000";
pub const SECOND: u64 = 10_000_000;
const MILLISECOND: u64 = SECOND / 1_000;
pub const MINUTE: Duration = Duration::from_mins(1);

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
pub struct Prompt {
    pub node: Node,
    pub disk: DiskStack,
    pub nexus: Arc<Nexus>,
    pub place: Place,
    pub hive: Hive,
    world: Arc<World>,
    tricks: Mutex<Tricks>,
    /// What was written: here, and on the share.
    files: Mutex<Files>,
    share: Arc<Mutex<Files>>,
}

type Files = BTreeMap<String, Vec<u8>>;

/// What is done wrong.
#[allow(clippy::struct_excessive_bools, reason = "each is a trick of its own")]
#[derive(Default)]
pub struct Tricks {
    /// A driver above answers this control code, with this.
    pub eats: Option<(u32, Win32)>,
    /// The lists of filters name this place, not the filter's.
    pub listed: Option<Place>,
    /// Windows says that the filter is there.
    pub told: Option<Place>,
    /// The file among the system's drivers.
    pub installed: Option<Vec<u8>>,
    /// Handles reach the device below disk.sys.
    pub bypasses: bool,
    /// The I/O manager does not look at what a handle was opened for.
    pub any_access: bool,
    /// A handle opened for reading is refused RESERVE and RELEASE.
    pub refuses_readers: bool,
    /// CancelIoEx does nothing, and says that it did.
    pub deaf: bool,
    /// What is told for Information.
    pub information: Option<u64>,
    /// Events of this name are lost.
    pub loses: Option<&'static str>,
    /// The disk stays awake.
    pub sleepless: bool,
    /// From when on the port keeps what it gets.
    pub keeps: Option<Keeps>,
    /// `IOCTL_STORAGE_BREAK_RESERVATION` resets nothing.
    pub resets_nothing: bool,
}

/// When a port begins to keep what it gets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// When an overlapped handle sends its second request.
    FromTheSecond,
    /// When a process sends its first.
    FromAProcess,
}

/// Two nodes on one unit.
pub struct Bench {
    pub unit: LogicalUnit,
    pub a: Arc<Prompt>,
    pub b: Arc<Prompt>,
    // Last: everything above lives in it.
    pub world: Entered,
}

impl Bench {
    pub fn new(place: Place) -> Self {
        Self::with(place, &Hive::default())
    }

    pub fn with(place: Place, hive: &Hive) -> Self {
        Self::prepared(place, hive, |_| {})
    }

    /// As [`Bench::with`]; `prepare` is called before each disk is plugged.
    pub fn prepared(place: Place, hive: &Hive, prepare: impl Fn(&World)) -> Self {
        let world = World::enter(Schedule::Orderly);
        let unit = LogicalUnit::new();
        let share = Arc::default();
        let prompt = |name: &str| {
            let node = Node::load(world.world(), name, &image::built(), hive.clone());
            let node = node.expect("the driver loads");
            let nexus = Arc::new(unit.connect(name));
            prepare(world.world());
            let disk = DiskStack::plug(&node, place, nexus.clone()).expect("the disk starts");
            Arc::new(Prompt {
                node,
                disk,
                nexus,
                place,
                hive: hive.clone(),
                world: Arc::clone(world.world()),
                tricks: Mutex::default(),
                files: Mutex::default(),
                share: Arc::clone(&share),
            })
        };
        let (a, b) = (prompt("A"), prompt("B"));
        Self { unit, a, b, world }
    }

    /// Lets so many seconds pass.
    pub fn wait(&self, seconds: u64) {
        self.a.pass(seconds * SECOND);
    }

    pub fn end(self) {
        for prompt in [self.a, self.b] {
            let Prompt { node, disk, .. } = Arc::into_inner(prompt).expect("nobody else has it");
            disk.unplug(&node);
            node.unload();
        }
    }
}

impl Prompt {
    /// What is done wrong from now on.
    pub fn tricks(&self) -> MutexGuard<'_, Tricks> {
        self.tricks.lock().expect("no panic")
    }

    /// What was written to a file.
    pub fn file(&self, path: &str) -> Option<Vec<u8>> {
        self.files_of(path).get(path).cloned()
    }

    fn files_of(&self, path: &str) -> MutexGuard<'_, Files> {
        let files = if path.starts_with(r"\\FILES\LAB\") {
            &self.share
        } else {
            &self.files
        };
        files.lock().expect("no panic")
    }

    /// Lets time pass, in 100 ns.
    fn pass(&self, time: u64) {
        let mark = 0_u8;
        self.wait_for((&raw const mark) as usize, time, || false);
    }

    /// Waits until something is so that comes with a wake of `key`, or until so much time has passed.
    fn wait_for(&self, key: usize, time: u64, is_so: impl Fn() -> bool) {
        let (world, waker) = (&self.world, Arc::clone(&self.world));
        let due = world.now() + time;
        let wake = Box::new(move || waker.wake(key));
        let timer = world.set_timer(due, "a wait", irql::PASSIVE, wake);
        world::current().wait(key, || is_so() || world.now() >= due);
        world.cancel_timer(timer);
    }

    /// The port keeps what it gets from now on, if it is to do so from then.
    fn may_keep(&self, from: Keeps) {
        if self.tricks().keeps == Some(from) {
            self.disk.stack.port.behave(Shape::Success, Timing::Never);
        }
    }

    /// Sends a request of a process's, where its handle leads.
    fn start(&self, call: &Call) -> Arc<Pending> {
        let call = Call {
            caller: Caller::User64,
            ..call.clone()
        };
        if self.tricks().bypasses {
            return self.node.start_at(self.disk.below_disk(), &call, |_| {});
        }
        self.node.start(&self.disk.stack, &call)
    }

    /// Carries out a command line: how it ended, and what it printed.
    pub fn command(&self, line: &str) -> (Exit, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let words = ["resvctl"].into_iter().chain(line.split_whitespace());
        let exit = resvctl::run(self, words, &mut out, &mut err);
        out.extend(err);
        (exit, String::from_utf8(out).expect("UTF-8"))
    }

    pub fn ends(&self, line: &str, exit: Exit, told: &[&str]) {
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
            ..Call::ioctl(code)
        };
        let pending = self.start(&call);
        let (end, buffer) = (pending.wait(), pending.buffer());
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
        if !self.tricks().resets_nothing {
            let reset = self.nexus.reset_logical_unit();
            reset.map_err(|_| Win32::IO_DEVICE)?;
        }
        Ok(0)
    }
}

/// What a path opens.
enum Handle<'a> {
    Disk(&'a Prompt, Access),
    /// Windows' own.
    Windows,
    Volume(&'static [u32]),
}

impl Prompt {
    /// A device control by a handle that was opened for `access`.
    fn by_handle(
        &self,
        access: Access,
        code: u32,
        input: &[u8],
        output: &mut [u8],
    ) -> Answer<usize> {
        let (eats, any_access, refuses_readers) = {
            let tricks = self.tricks();
            (tricks.eats, tricks.any_access, tricks.refuses_readers)
        };
        // The I/O manager compares with what CTL_CODE wants: FILE_READ_ACCESS is 1, FILE_WRITE_ACCESS 2.
        let has = match access {
            Access::Ask => 0,
            Access::Read => 1,
            Access::ReadWrite => 3,
        };
        let serves = Command::from_ioctl(code).is_some();
        if (code >> 14 & 3 & !has != 0 && !any_access)
            || (serves && access == Access::Read && refuses_readers)
        {
            return Err(Win32::ACCESS_DENIED);
        }
        if let Some((_, error)) = eats.filter(|(eaten, _)| *eaten == code) {
            return Err(error);
        }
        match code {
            0x002D_5018 => self.persistent_reserve_in(input, output),
            0x002D_5014 => self.break_reservation(input),
            _ => self.control(code, input, output),
        }
    }
}

impl Device for Handle<'_> {
    fn control(&self, code: u32, input: &[u8], output: &mut [u8]) -> Answer<usize> {
        let numbers: Vec<u32> = match (self, code) {
            // STORAGE_DEVICE_NUMBER of a disk.
            (Self::Disk(..), 0x002D_1080) => vec![7, 1, 0],
            (Self::Windows, 0x002D_1080) => vec![7, 0, 0],
            // STORAGE_DEVICE_DESCRIPTOR, with SATA for its eighth word, the bus type.
            (Self::Windows, 0x002D_1400) => vec![40, 40, 0, 0, 0, 0, 0, 11, 0, 0],
            // VOLUME_DISK_EXTENTS: a count, and six words each.
            (Self::Volume(disks), 0x0056_0000) => {
                let extents = disks.iter().flat_map(|disk| [*disk, 0, 0, 0, 0, 0]);
                let count = u32::try_from(disks.len()).expect("small");
                [count, 0].into_iter().chain(extents).collect()
            }
            (Self::Disk(prompt, access), _) => {
                return prompt.by_handle(*access, code, input, output);
            }
            (Self::Volume(_) | Self::Windows, _) => return Err(Win32::INVALID_FUNCTION),
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

    fn open(&self, path: &str, access: Access) -> Answer<Box<dyn Device + '_>> {
        match path {
            r"\\.\PhysicalDrive0" => Ok(Box::new(Handle::Windows)),
            r"\\.\PhysicalDrive1" => Ok(Box::new(Handle::Disk(self, access))),
            r"\\?\C:" | r"\\?\GLOBALROOT\Device\HarddiskVolume1" => {
                Ok(Box::new(Handle::Volume(&[0])))
            }
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
        let place = self.tricks().told.unwrap_or(self.place);
        let stack: &[&str] = match (self.disk.stack.is_filtered(), place) {
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
        let listed = self.tricks().listed.unwrap_or(self.place);
        let list = match listed {
            Place::Lower => "LowerFilters",
            Place::Upper => "UpperFilters",
        };
        let ours = *key == Key::Device(INSTANCE.into());
        if let Key::Machine(path) = key {
            let path = format!(r"\Registry\Machine\{path}");
            return Ok(match self.hive.query_ulong(&path, name) {
                Ok(number) => Some(Value::dword(number)),
                Err(status::OBJECT_TYPE_MISMATCH) => Some(Value::sz("")),
                _ if name == "SystemPartition" => Some(Value::sz(r"\Device\HarddiskVolume1")),
                _ => None,
            });
        }
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
        let built = || std::fs::read(image::built()).expect("the image");
        Ok(match path {
            r"C:\Windows\System32\drivers\resvflt.sys" => {
                Some(self.tricks().installed.clone().unwrap_or_else(built))
            }
            r"E:\resvflt\resvflt.sys" => None,
            _ if path.starts_with(&self.package()) => Some(Vec::new()),
            _ => self.file(path),
        })
    }

    fn copy_file(&self, _: &str, _: &str) -> Answer<()> {
        Err(Win32::NOT_SUPPORTED)
    }

    fn move_file(&self, _: &str, _: &str) -> Answer<()> {
        Err(Win32::NOT_SUPPORTED)
    }

    fn remove_file(&self, path: &str) -> Answer<Removed> {
        self.files_of(path).remove(path);
        Ok(Removed::Now)
    }

    fn run(&self, _: &str, _: &[&str]) -> Answer<Ended> {
        Err(Win32::FILE_NOT_FOUND)
    }

    fn loaded(&self, file: &str) -> Answer<Option<Loaded>> {
        assert_eq!(file, "resvflt.sys");
        let image = std::fs::read(image::built()).expect("the image");
        let image = PeFile64::parse(&*image).expect("a PE file");
        let headers = image.nt_headers();
        Ok(Some(Loaded {
            path: r"\SystemRoot\System32\drivers\resvflt.sys".into(),
            size: headers.optional_header().size_of_image(),
            checksum: headers.optional_header().check_sum(),
            timestamp: headers.file_header().time_date_stamp.get(LE),
        }))
    }

    fn trace(&self, provider: u128) -> Answer<Box<dyn machine::Session + '_>> {
        let session = Session::new(&self.world);
        session.listen(Ask::ALL);
        Ok(Box::new(Recording {
            prompt: self,
            provider,
            session,
        }))
    }

    fn requests(&self, _: &str, _: Access) -> Answer<Box<dyn Requests + '_>> {
        Ok(Box::new(Out {
            prompt: self,
            requests: Vec::new(),
        }))
    }

    fn process(&self, _: &str, code: u32, requests: u32) -> Answer<Box<dyn Process + '_>> {
        let mut out = Out {
            prompt: self,
            requests: Vec::new(),
        };
        self.may_keep(Keeps::FromAProcess);
        for _ in 0..requests {
            out.begin(code)?;
        }
        Ok(Box::new(out))
    }

    fn sleep(&self, seconds: u32) -> Answer<()> {
        if self.tricks().sleepless {
            return Ok(());
        }
        self.node.power(&self.disk.stack, Power::D3);
        self.pass(u64::from(seconds) * SECOND);
        self.node.power(&self.disk.stack, Power::D0);
        Ok(())
    }

    fn wait(&self, milliseconds: u32) -> Answer<()> {
        self.pass(u64::from(milliseconds) * MILLISECOND);
        Ok(())
    }

    fn write_file(&self, path: &str, bytes: &[u8]) -> Answer<()> {
        self.files_of(path).insert(path.into(), bytes.into());
        Ok(())
    }
}

/// Requests of an overlapped handle, or of a process that has sent them and waits.
struct Out<'a> {
    prompt: &'a Prompt,
    requests: Vec<Arc<Pending>>,
}

impl Out<'_> {
    /// Waits for one of them.
    fn wait(&self, request: usize, milliseconds: u32) -> Option<Completed> {
        let request = &self.requests[request];
        if milliseconds > 0 {
            let (key, time) = (
                Arc::as_ptr(request) as usize,
                u64::from(milliseconds) * MILLISECOND,
            );
            self.prompt.wait_for(key, time, || request.done().is_some());
        }
        let end = request.done()?;
        Some(Completed {
            status: end.status,
            information: self.prompt.tricks().information.unwrap_or(end.information),
        })
    }

    /// CancelIoEx of one, or what the end of a process does.
    fn ask_back(&self, request: usize) -> bool {
        let request = &self.requests[request];
        let is_out = request.done().is_none();
        if is_out && !self.prompt.tricks().deaf {
            request.cancel();
        }
        is_out
    }
}

impl Requests for Out<'_> {
    fn begin(&mut self, code: u32) -> Answer<usize> {
        if self.requests.len() == 1 {
            self.prompt.may_keep(Keeps::FromTheSecond);
        }
        self.requests.push(self.prompt.start(&Call::ioctl(code)));
        Ok(self.requests.len() - 1)
    }

    fn cancel(&mut self, request: usize) -> Answer<bool> {
        Ok(self.ask_back(request))
    }

    fn end(&mut self, request: usize, milliseconds: u32) -> Answer<Option<Completed>> {
        Ok(self.wait(request, milliseconds))
    }
}

impl Process for Out<'_> {
    fn kill(&mut self) -> Answer<()> {
        for request in 0..self.requests.len() {
            self.ask_back(request);
        }
        Ok(())
    }

    fn has_ended(&mut self, milliseconds: u32) -> Answer<bool> {
        let all = 0..self.requests.len();
        let ended = all.map(|request| self.wait(request, milliseconds).is_some());
        // Each is waited for, also after one that did not end.
        let still_out = ended.filter(|ended| !ended).count();
        Ok(still_out == 0)
    }
}

struct Recording<'a> {
    prompt: &'a Prompt,
    provider: u128,
    session: Session,
}

impl machine::Session for Recording<'_> {
    fn stop(self: Box<Self>) -> Answer<Vec<Traced>> {
        let lost = self.prompt.tricks().loses;
        let events = self.session.take().into_iter();
        let ours = events.filter(|event| {
            event.id == self.provider && lost.is_none_or(|lost| event.name != lost)
        });
        let traced = ours.map(|event| Traced {
            name: event.name,
            level: event.level,
            keyword: event.keyword,
            fields: event
                .fields
                .into_iter()
                .map(|field| {
                    let value = match field.value {
                        Field::Text(text) => text,
                        value => value.to_string(),
                    };
                    (field.name, value)
                })
                .collect(),
        });
        Ok(traced.collect())
    }
}
