//! What a self-test asks of a machine beyond the rest, as knobs that a test turns; and disks that reserve.
#![allow(
    clippy::doc_markdown,
    clippy::struct_excessive_bools,
    reason = "names of Windows' are words here, and each knob is one"
)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use resvctl::machine::{
    Access, Answer, Completed, Key, Loaded, Process, Requests, Service, Session, Signature, Traced,
    Value, Verified, Win32,
};
use scsi_reserve::state::Origin;
use scsi_reserve::{Command, NtStatus};

use super::{DISKS, INSTALLED, Memory, PACKAGE, machine_key, multi};

/// The files on a share, by their paths.
pub type Share = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// The machine's answers.
pub struct Lab {
    pub loaded: Answer<Option<Loaded>>,
    pub service: Answer<Option<Service>>,
    pub signature: Answer<Signature>,
    /// By the member's name.
    pub catalogued: BTreeMap<&'static str, Answer<Signature>>,
    pub versions: BTreeMap<String, String>,
    pub errors: BTreeMap<i32, Win32>,
    pub verified: Answer<Option<Verified>>,
    pub units: Vec<Unit>,
    pub share: Option<Share>,
    /// How often in a row it refuses a file that is there, before it hands it over once.
    pub refuses: u32,
    pub refused: Cell<u32>,
    /// How long a wait really takes.
    pub wait: Duration,
    /// What the operator does when asked for Enter.
    pub enters: RefCell<Option<Box<dyn FnMut() -> bool>>>,
    /// Files can't be written.
    pub read_only: bool,
    pub sleeps: Answer<()>,
    /// What opening an overlapped handle, and starting a session, come to.
    pub overlapped: Answer<()>,
    pub traces: Answer<()>,
    /// A volume that is not to be opened, by how its name begins.
    pub denied: Option<&'static str>,
}

/// Where the filter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    None,
    Below,
    Above,
}

/// What becomes of a request that is cancelled in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelAs {
    Cancelled,
    /// It never ends.
    Never,
    /// It ends cancelled, and is sent all the same.
    Sent,
    /// It ends with another status.
    Status(NtStatus),
    /// Every request is served before anybody can cancel one.
    TooLate,
    /// Every request is served before the next is sent.
    AllButTheLast,
    /// No request of such a handle is served.
    Fails,
}

/// What becomes of a process that sends requests and is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessAs {
    Ends,
    Hangs,
    /// All its requests are served before.
    TooLate,
    /// It has sent none.
    TooEarly,
}

/// A disk, its stack and its unit.
#[derive(Clone)]
pub struct Unit {
    pub filter: Filter,
    /// Of the state query.
    pub version: u32,
    /// What a buffer of version 1's size is answered.
    pub short_version: u32,
    /// What the query is answered by somebody above the filter.
    pub eaten: Option<Win32>,
    /// The least buffer that is not too small, and what the answer says too much of its own size.
    pub least: usize,
    pub oversize: u8,
    /// A buffer that is too small is no error.
    pub any_size: bool,
    /// A handle without rights is served.
    pub any_access: bool,
    /// The parameters: TimeoutSeconds, RetryDelayMs, MaxRetries, Reserve10Fallback, Watch.
    pub parameters: Cell<[u32; 5]>,
    pub origin: Cell<u8>,
    /// What is told for it of another's request.
    pub watched_origin: u8,
    pub takes_six: bool,
    pub takes_ten: bool,
    /// Unit attentions that a process's own commands meet.
    pub attentions: Cell<u32>,
    /// RESERVE(10) is sent where RESERVE(6) is refused.
    pub falls_back: bool,
    /// Of a handle's request: false where disk.sys serves above the filter, or the other way round.
    pub counts: bool,
    /// A control code that is not served.
    pub unserved: Option<u32>,
    /// A control code that is served and not counted.
    pub uncounted: Option<u32>,
    pub read_only_refused: bool,
    pub information: u64,
    /// What `Watch` does not see: RESERVE, or RELEASE.
    pub unseen: Option<Command>,
    /// ScsiStatus and sense data of a command that the target refuses; or what the port says.
    pub refusal: Answer<(u8, Vec<u8>)>,
    pub cancel: CancelAs,
    pub process: ProcessAs,
    /// RESERVE fails from now on.
    pub dead: Rc<Cell<Option<Win32>>>,
    /// What sleep or the end of a process does to it.
    pub dies: bool,
    /// What is known outlives sleep.
    pub remembers: bool,
    /// The events as they come.
    pub events: fn(&mut Vec<Traced>),
    pub served: Rc<RefCell<Vec<u32>>>,
    /// The initiator that holds the unit; two machines may share it.
    pub holder: Arc<Mutex<Option<String>>>,
    pub initiator: String,
    /// Vendor, product and revision, and where that is: STORAGE_DEVICE_DESCRIPTOR.
    pub identity: Option<[&'static str; 3]>,
    /// RELEASE does not end its reservation.
    pub keeps: bool,
    /// A reset that does not end reservations.
    pub survives_reset: bool,
    pub requests: Cell<u64>,
    pub knowledge: Cell<u32>,
    pub ten: Cell<bool>,
}

const RESERVE: u32 = 0x002D_4810;
const HELD_BY_US: u32 = 1;
const NOT_OURS: u32 = 2;
const HELD_BY_ANOTHER: u32 = 3;

impl Unit {
    pub fn new(filter: Filter) -> Self {
        Self {
            filter,
            version: 2,
            short_version: 1,
            eaten: None,
            least: 96,
            oversize: 0,
            any_size: false,
            any_access: false,
            parameters: Cell::new([10, 1000, 4, 1, 0]),
            origin: Cell::new(0),
            watched_origin: Origin::Watched as u8,
            takes_six: true,
            takes_ten: true,
            attentions: Cell::new(0),
            falls_back: true,
            counts: true,
            unserved: None,
            uncounted: None,
            read_only_refused: false,
            information: 0,
            unseen: None,
            // CHECK CONDITION; ILLEGAL REQUEST, invalid field in CDB.
            refusal: Ok((
                2,
                vec![0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0, 0, 0],
            )),
            cancel: CancelAs::Cancelled,
            process: ProcessAs::Ends,
            dead: Rc::default(),
            dies: false,
            remembers: false,
            events: |_| {},
            served: Rc::default(),
            holder: Arc::default(),
            initiator: "us".into(),
            identity: None,
            keeps: false,
            survives_reset: false,
            requests: Cell::new(0),
            knowledge: Cell::new(0),
            ten: Cell::new(false),
        }
    }

    pub fn watch(&self, level: u32) {
        let mut parameters = self.parameters.get();
        parameters[4] = level;
        self.parameters.set(parameters);
    }

    /// True if the filter hears of a handle's request.
    fn hears(&self, command: Command) -> bool {
        match self.filter {
            Filter::None => false,
            Filter::Above => true,
            Filter::Below => self.parameters.get()[4] > 0 && self.unseen != Some(command),
        }
    }

    fn learn(&self, knowledge: u32, origin: u8) {
        self.knowledge.set(knowledge);
        self.origin.set(origin);
    }

    /// What a handle's RESERVE or RELEASE comes to.
    fn serve(&self, code: u32) -> Answer<()> {
        let command = Command::from_ioctl(code).expect("one of them");
        if self.unserved == Some(code) {
            return Err(Win32::INVALID_FUNCTION);
        }
        if let Some(error) = self.dead.get() {
            return Err(error);
        }
        let counts = self.counts == (self.filter == Filter::Above);
        if counts && self.filter != Filter::None && self.uncounted != Some(code) {
            self.requests.set(self.requests.get() + 1);
            self.served.borrow_mut().push(code);
        }
        if !self.takes_six {
            if !(self.falls_back && self.takes_ten) {
                return Err(Win32::INVALID_FUNCTION);
            }
            self.ten.set(true);
        }
        self.execute(command)
    }

    /// What the unit makes of it.
    fn execute(&self, command: Command) -> Answer<()> {
        let mut holder = self.holder.lock().expect("no panic");
        let ours = holder.as_ref() == Some(&self.initiator);
        let (knowledge, answer) = match (command, holder.is_some() && !ours) {
            (Command::Reserve, true) => (HELD_BY_ANOTHER, Err(Win32::BUSY)),
            (Command::Reserve, false) => {
                *holder = Some(self.initiator.clone());
                (HELD_BY_US, Ok(()))
            }
            (Command::Release, others) => {
                if !others && !self.keeps {
                    *holder = None;
                }
                (NOT_OURS, Ok(()))
            }
        };
        if self.hears(command) {
            let origin = match self.filter {
                Filter::Above => Origin::Own as u8,
                _ => self.watched_origin,
            };
            self.learn(knowledge, origin);
        }
        answer
    }

    fn state(&self, room: usize) -> Answer<Vec<u8>> {
        if let Some(error) = self.eaten {
            return Err(error);
        }
        if self.filter == Filter::None {
            return Err(Win32::INVALID_FUNCTION);
        }
        if room < self.least && !self.any_size {
            return Err(Win32::INSUFFICIENT_BUFFER);
        }
        let version = if room < 112 {
            self.short_version
        } else {
            self.version
        };
        let mut bytes = vec![0; 96];
        bytes[0] = u8::try_from(version).expect("small");
        bytes[16] = u8::try_from(self.knowledge.get()).expect("small");
        bytes[28] = if self.ten.get() { 10 } else { 6 };
        bytes[32..40].copy_from_slice(&self.requests.get().to_le_bytes());
        if version == 2 {
            let [timeout, delay, retries, fallback, watch] = self.parameters.get();
            let words = [timeout, delay, 0];
            bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            bytes.extend([retries, fallback, watch].map(|byte| u8::try_from(byte).expect("small")));
            bytes.push(self.origin.get());
        }
        bytes[4] = u8::try_from(bytes.len()).expect("small") + self.oversize;
        bytes.truncate(room);
        Ok(bytes)
    }

    /// The unit's answer to a process's own pass-through.
    fn pass_through(&self, input: &[u8], output: &mut [u8]) -> Answer<usize> {
        let illegal = [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0];
        let forms = [(0x16, self.takes_six), (0x56, self.takes_ten)];
        let form = forms.iter().find(|(code, _)| input[36] & !1 == *code);
        let (status, sense) = match (input[36], form) {
            (0x12, _) => {
                // EVPD, and room for no data.
                assert_eq!(input[37..42], [1, 0xA0, 0, 0, 0]);
                self.refusal.clone()?
            }
            _ if self.attentions.get() > 0 => {
                self.attentions.set(self.attentions.get() - 1);
                (2, vec![0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 0])
            }
            (code, Some((_, true))) => {
                let command = [Command::Reserve, Command::Release][usize::from(code & 1)];
                let holder = self.knowledge.get();
                let answer = self.execute(command);
                self.knowledge.set(holder); // The filter lets it pass.
                (if answer.is_ok() { 0 } else { 0x18 }, Vec::new())
            }
            _ => (2, illegal.to_vec()),
        };
        output.copy_from_slice(input);
        (output[2], output[7]) = (status, u8::try_from(sense.len()).expect("small"));
        output[56..56 + sense.len()].copy_from_slice(&sense);
        Ok(56 + sense.len())
    }

    /// A STORAGE_DEVICE_DESCRIPTOR: VendorIdOffset, ProductIdOffset and ProductRevisionOffset are its fourth to sixth word,
    /// BusType its eighth.
    fn describe(&self, output: &mut [u8]) -> usize {
        let mut head = [40_u32, 0, 0, 0, 0, 0, 0, 9, 0, 0];
        let mut tail = Vec::new();
        for (at, text) in (3..).zip(self.identity.unwrap_or_default()) {
            head[at] = u32::try_from(40 + tail.len()).expect("small");
            tail.extend(text.bytes().chain([0]));
        }
        let bytes: Vec<u8> = head
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .chain(tail)
            .collect();
        output[..bytes.len()].copy_from_slice(&bytes);
        bytes.len()
    }

    /// A device control that is this unit's.
    pub fn control(
        &self,
        access: Access,
        code: u32,
        input: &[u8],
        output: &mut [u8],
    ) -> Option<Answer<usize>> {
        // FILE_READ_ACCESS and FILE_WRITE_ACCESS in the control code.
        let wants = code >> 14 & 3;
        let has = match access {
            Access::Ask => 0,
            Access::Read => 1,
            Access::ReadWrite => 3,
        };
        let answer = match code {
            0x002D_1400 if self.identity.is_some() => Ok(self.describe(output)),
            0x002D_1080 | 0x002D_1400 | 0x002D_5018 | 0x0004_1018 => return None,
            _ if wants & !has != 0 && !self.any_access => Err(Win32::ACCESS_DENIED),
            0x8016_6058 => self.state(output.len()).map(|bytes| {
                output[..bytes.len()].copy_from_slice(&bytes);
                bytes.len()
            }),
            0x0004_D004 => self.pass_through(input, output),
            0x002D_5014 if self.unserved == Some(code) => Err(Win32::IO_DEVICE),
            0x002D_5014 => {
                if !self.survives_reset {
                    *self.holder.lock().expect("no panic") = None;
                }
                if self.filter != Filter::None && !self.remembers {
                    self.learn(0, 0);
                }
                Ok(0)
            }
            _ if Command::from_ioctl(code).is_none() => return None,
            _ if self.read_only_refused && access == Access::Read => Err(Win32::ACCESS_DENIED),
            _ => self.serve(code).map(|()| 0),
        };
        Some(answer)
    }
}

impl Lab {
    pub fn unit(&mut self) -> &mut Unit {
        &mut self.units[1]
    }

    pub fn trace(&self) -> Answer<Box<dyn Session + '_>> {
        self.traces?;
        self.units[1].served.borrow_mut().clear();
        Ok(Box::new(Recording(&self.units[1])))
    }

    pub fn requests(&self) -> Answer<Box<dyn Requests + '_>> {
        self.overlapped?;
        let unit = &self.units[1];
        Ok(Box::new(Queue {
            unit,
            requests: Vec::new(),
        }))
    }

    pub fn process(&self, requests: u32) -> Answer<Box<dyn Process + '_>> {
        let unit = &self.units[1];
        let served = match unit.process {
            ProcessAs::Ends | ProcessAs::Hangs => requests / 2,
            ProcessAs::TooLate => requests,
            ProcessAs::TooEarly => 0,
        };
        for _ in 0..served {
            unit.serve(RESERVE)?;
        }
        Ok(Box::new(Killed(unit)))
    }

    pub fn sleep(&self) -> Answer<()> {
        let unit = &self.units[1];
        if !unit.remembers {
            unit.learn(0, 0);
        }
        unit.dead.set(unit.dies.then_some(Win32::IO_DEVICE));
        self.sleeps
    }
}

struct Recording<'a>(&'a Unit);

impl Session for Recording<'_> {
    fn stop(self: Box<Self>) -> Answer<Vec<Traced>> {
        let fields = |names: &[(&str, &str)]| {
            let fields = names.iter();
            fields
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect()
        };
        let mut events = Vec::new();
        for code in &*self.0.served.borrow() {
            let code = format!("{code:#x}");
            events.push(Traced {
                name: "OperationStarted".into(),
                level: 5,
                keyword: 4,
                fields: fields(&[("Disk", "0"), ("Code", &code)]),
            });
            events.push(Traced {
                name: "OperationEnded".into(),
                level: 4,
                keyword: 4,
                fields: fields(&[
                    ("Disk", "0"),
                    ("Code", &code),
                    ("Status", "0x00000000"),
                    ("ScsiStatus", "0x0"),
                    ("SenseKey", "0xff"),
                    ("Asc", "0x0"),
                    ("Ascq", "0x0"),
                    ("Attempts", "1"),
                    ("Microseconds", "120"),
                ]),
            });
        }
        (self.0.events)(&mut events);
        Ok(events)
    }
}

/// Requests of one handle, of which the unit serves one at a time and only while somebody waits.
struct Queue<'a> {
    unit: &'a Unit,
    requests: Vec<(u32, Option<Completed>, bool)>,
}

impl Queue<'_> {
    fn serve(&mut self, request: usize) {
        let (code, end, stuck) = &mut self.requests[request];
        if end.is_some() || *stuck {
            return;
        }
        let served = match self.unit.cancel {
            CancelAs::Fails => Err(Win32::IO_DEVICE),
            _ => self.unit.serve(*code),
        };
        let status = match served {
            Ok(()) => NtStatus::SUCCESS,
            Err(Win32::BUSY) => NtStatus::DEVICE_BUSY,
            Err(_) => NtStatus::IO_DEVICE_ERROR,
        };
        *end = Some(Completed {
            status: status.0,
            information: self.unit.information,
        });
    }
}

impl Requests for Queue<'_> {
    fn begin(&mut self, code: u32) -> Answer<usize> {
        self.requests.push((code, None, false));
        let request = self.requests.len() - 1;
        if self.unit.cancel == CancelAs::AllButTheLast {
            (0..request).for_each(|earlier| self.serve(earlier));
        }
        if self.unit.cancel == CancelAs::TooLate {
            self.serve(request);
        }
        Ok(request)
    }

    fn cancel(&mut self, request: usize) -> Answer<bool> {
        let (code, end, stuck) = &mut self.requests[request];
        if end.is_some() {
            return Ok(false);
        }
        let status = match self.unit.cancel {
            CancelAs::Never => {
                *stuck = true;
                return Ok(true);
            }
            CancelAs::Status(status) => status,
            CancelAs::Sent => {
                self.unit.serve(*code)?;
                NtStatus::CANCELLED
            }
            CancelAs::Cancelled | CancelAs::TooLate | CancelAs::AllButTheLast | CancelAs::Fails => {
                NtStatus::CANCELLED
            }
        };
        *end = Some(Completed {
            status: status.0,
            information: 0,
        });
        Ok(true)
    }

    fn end(&mut self, request: usize, milliseconds: u32) -> Answer<Option<Completed>> {
        if milliseconds > 0 {
            (0..=request).for_each(|earlier| self.serve(earlier));
        }
        Ok(self.requests[request].1)
    }
}

struct Killed<'a>(&'a Unit);

impl Process for Killed<'_> {
    fn kill(&mut self) -> Answer<()> {
        self.0.dead.set(self.0.dies.then_some(Win32::IO_DEVICE));
        Ok(())
    }

    fn has_ended(&mut self, _: u32) -> Answer<bool> {
        Ok(self.0.process != ProcessAs::Hangs)
    }
}

/// An image whose headers say this: TimeDateStamp, CheckSum, SizeOfImage.
pub fn image(timestamp: u32, checksum: u32, size: u32) -> Vec<u8> {
    let mut image = super::driver(b"");
    for (at, number) in [(0x88, timestamp), (0x98 + 56, size), (0x98 + 64, checksum)] {
        image[at..at + 4].copy_from_slice(&number.to_le_bytes());
    }
    image
}

impl Memory {
    /// A machine with the driver on all its disks but those that are left alone, where every check that can be made holds:
    /// Windows' own disk, one for the tests, one that is a file and excluded, one of MPIO's.
    pub fn lab(filter: Filter) -> Self {
        let signed = || Signature {
            result: 0,
            signer: Some("the lab".into()),
        };
        let lab = Lab {
            loaded: Ok(Some(Loaded {
                path: r"\SystemRoot\System32\drivers\resvflt.sys".into(),
                size: 3,
                checksum: 2,
                timestamp: 1,
            })),
            service: Ok(Some(Service {
                start: 0,
                error_control: 1,
                group: "PnP Filter".into(),
                image: r"\SystemRoot\System32\drivers\resvflt.sys".into(),
                state: 4,
            })),
            signature: Ok(signed()),
            catalogued: ["resvflt.sys", "resvflt.inf"]
                .map(|name| (name, Ok(signed())))
                .into(),
            versions: [
                (INSTALLED, "0.1.0.0"),
                (r"C:\Windows\System32\drivers\Wdf01000.sys", "1.33.0.0"),
                (r"C:\Windows\system32\drivers\port.sys", "10.0.1.2"),
            ]
            .map(|(path, version)| (path.into(), version.into()))
            .into(),
            errors: resvctl::selftest::WIN32_ERRORS
                .map(|(status, error)| (status.0, Win32(error)))
                .into(),
            verified: Ok(Some(Verified {
                flags: 0x0012_09BB,
                loads: 1,
                allocations: 7,
                ..Verified::default()
            })),
            units: [Filter::Below, filter, Filter::None, Filter::None]
                .map(Unit::new)
                .into(),
            share: None,
            refuses: 0,
            refused: Cell::new(0),
            wait: Duration::ZERO,
            enters: RefCell::new(None),
            read_only: false,
            sleeps: Ok(()),
            overlapped: Ok(()),
            traces: Ok(()),
            denied: None,
        };
        let mut memory = Self {
            lab: Some(lab),
            descriptors: vec![("BOOT-0", 11), ("S/N 1", 9), ("FILE-2", 15), ("PATHS-3", 9)],
            ..Self::default()
        };
        memory.disks.push(r"MPIO\DISK\3".into());
        memory.hosts.insert(2, vec![r"\\?\E:\".into()]);
        memory.restack(filter);
        for file in [INSTALLED, &format!(r"{PACKAGE}\resvflt.sys")] {
            memory.put_file(file, &image(1, 2, 3));
        }
        memory.put_file(&format!(r"{PACKAGE}\resvflt.cat"), b"catalog");
        let hardware = Key::Hardware(DISKS[2].into());
        memory.put(&hardware, "ResvFltEnabled", Some(Value::dword(0)));
        let class = machine_key(super::CLASS);
        memory.put(&class, "UpperFilters", Some(multi(&["PartMgr"])));
        for (path, name, value) in [
            (
                r"SYSTEM\CurrentControlSet\Services\port",
                "ImagePath",
                Value::sz(r"system32\drivers\port.sys"),
            ),
            (
                r"SYSTEM\CurrentControlSet\Control\ComputerName\ActiveComputerName",
                "ComputerName",
                Value::sz("NODE-A"),
            ),
            (
                r"SOFTWARE\Microsoft\Windows NT\CurrentVersion",
                "ProductName",
                Value::sz("Windows Server 2022"),
            ),
            (
                r"SOFTWARE\Microsoft\Windows NT\CurrentVersion",
                "DisplayVersion",
                Value::sz("21H2"),
            ),
            (
                r"SOFTWARE\Microsoft\Windows NT\CurrentVersion",
                "UBR",
                Value::dword(2_000),
            ),
        ] {
            memory.put(&machine_key(path), name, Some(value));
        }
        memory
    }

    /// Puts the filter somewhere else on the second disk: into its stack, its lists and what it serves.
    pub fn restack(&mut self, filter: Filter) {
        let drivers = |names: &[&str]| {
            names
                .iter()
                .map(|name| format!(r"\Driver\{name}"))
                .collect()
        };
        let stack: Vec<String> = drivers(match filter {
            Filter::None => &["partmgr", "disk", "port"],
            Filter::Below => &["partmgr", "disk", "resvflt", "port"],
            Filter::Above => &["partmgr", "resvflt", "disk", "port"],
        });
        let list = |on: bool| on.then(|| multi(&["resvflt"]));
        let key = Key::Device(DISKS[1].into());
        self.put(&key, "LowerFilters", list(filter == Filter::Below));
        self.put(&key, "UpperFilters", list(filter == Filter::Above));
        self.stacks.insert(
            DISKS[0].into(),
            drivers(&["partmgr", "disk", "resvflt", "port"]),
        );
        self.stacks.insert(DISKS[1].into(), stack);
        self.stacks
            .insert(DISKS[2].into(), drivers(&["partmgr", "disk", "port"]));
        self.stacks
            .insert(r"MPIO\DISK\3".into(), drivers(&["disk", "mpio"]));
        if let Some(lab) = &mut self.lab {
            lab.unit().filter = filter;
        }
    }

    pub fn bench(&mut self) -> &mut Lab {
        self.lab.as_mut().expect("a lab")
    }

    pub fn parameter(&self, name: &str, value: Value) {
        let key = machine_key(r"SYSTEM\CurrentControlSet\Services\resvflt\Parameters");
        self.put(&key, name, Some(value));
    }

    /// The stack of the second disk.
    pub fn stacked(&mut self, drivers: &[&str]) {
        let drivers = drivers.iter().map(|name| format!(r"\Driver\{name}"));
        self.stacks.insert(DISKS[1].into(), drivers.collect());
    }
}
