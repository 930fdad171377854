//! A machine in memory, whose steps fail and whose power goes where it is told to.
//!
//! What is written to its registry may be lost with the power: what was not flushed is lost from some write on, for each
//! key from another. (Windows keeps the order of a whole hive.) Files are written through, as the program asks for it.
#![allow(dead_code, reason = "each test uses its part")]

mod lab;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

#[allow(unused_imports, reason = "each test uses its part")]
pub use lab::{CancelAs, Filter, Lab, ProcessAs, Share, Unit, image};
use resvctl::machine::{
    Access, Answer, Device, Ended, Hive, Key, Loaded, Machine, Node, Process, Removed, Requests,
    Service, Session, Signature, Value, Verified, Win32, kind,
};
use resvctl::{Exit, FILTER, multi_string};

/// `ERROR_PROCESS_ABORTED` (winerror.h): what every call answers once the power is gone.
const GONE: Win32 = Win32(1067);
/// `ERROR_GEN_FAILURE`: what a call answers that is made to fail.
pub const FAILED: Win32 = Win32(31);

pub const DISKS: [&str; 3] = [r"SCSI\DISK\0", r"SCSI\DISK\1", r"SCSI\DISK\2"];
/// A disk that is not plugged in.
pub const ABSENT: &str = r"USBSTOR\DISK\9";
pub const PACKAGE: &str = r"E:\resvflt";
pub const SYSTEM: &str = r"C:\Windows\System32";
pub const INSTALLED: &str = r"C:\Windows\System32\drivers\resvflt.sys";
pub const CLASS: &str =
    r"SYSTEM\CurrentControlSet\Control\Class\{4d36e967-e325-11ce-bfc1-08002be10318}";
pub const MEMORY_MANAGEMENT: &str =
    r"SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management";
pub const CRASH_CONTROL: &str = r"SYSTEM\CurrentControlSet\Control\CrashControl";
const SERVICE: &str = r"hklm\system\controlset001\services\resvflt";
/// What the service manager writes of a service that runs and is deleted.
const DELETE_FLAG: &str = "deleteflag";

/// An INF of the package's provider, class and catalog.
pub const INF: &str = "; a script\r\n[Version]\r\nSignature = \"$Windows NT$\"\r\nClassGuid = {E2F84CE7-8efa-411c-aa69-97454ca4cb57}\r\n\
    Provider = %Who% ; ours\r\nCatalogFile = resvflt.cat\r\n[Strings]\r\nWho = \"resvflt; project\"\r\n";

/// What a file in use is called until Windows starts the next time.
const OLD: &str = ".old";

/// What a call is made to do instead of what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power goes in the middle of it; a file is half copied.
    PowerIn,
    /// The power goes right after it.
    PowerAfter,
    /// It does nothing and fails.
    Fails,
    /// It does half of what it is for, or all of it, and fails.
    FailsLate,
}

/// The registry: key and name, and type and data.
type Values = BTreeMap<(String, String), (u32, Vec<u8>)>;

/// What lasts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lasting {
    pub values: Values,
    pub files: BTreeMap<String, Vec<u8>>,
    pub packages: BTreeSet<String>,
}

type Write = (String, String, Option<(u32, Vec<u8>)>);

pub struct Memory {
    pub lasting: RefCell<Lasting>,
    /// What the registry's file has: `lasting` without what was not flushed.
    pub flushed: RefCell<Values>,
    /// What was written since, in its order, for each hive.
    pub unflushed: RefCell<[Vec<Write>; 2]>,
    /// By the number of the call that changes something; [`Memory::from`] is for all calls from one on.
    pub faults: RefCell<BTreeMap<usize, Fault>>,
    /// Every call from this number on fails.
    pub from: Cell<usize>,
    /// The call with this number fails, counted among all, also those that only read.
    pub read_fault: Cell<Option<usize>>,
    pub dead: Cell<bool>,
    pub build: u32,
    pub elevated: bool,
    /// False of an image that this Windows does not accept.
    pub image_loads: bool,
    /// The driver's answer to the state query; none if it is not in the stack.
    pub answer: Option<Vec<u8>>,
    /// A RESERVE or RELEASE changes the answer to `answer_then`.
    pub answer_changes: bool,
    pub answer_then: Option<Vec<u8>>,
    /// What the state query fails with.
    pub query_error: Option<Win32>,
    /// What RESERVE and RELEASE come to.
    pub served: Answer<()>,
    /// The data of READ RESERVATION.
    pub persistent: Answer<Vec<u8>>,
    /// Instance IDs by number, of what is plugged in.
    pub disks: Vec<String>,
    /// Serial number and bus type, by number.
    pub descriptors: Vec<(&'static str, u32)>,
    /// Volumes behind `\\?\`, and the disks that they are on.
    pub volumes: BTreeMap<String, Vec<u32>>,
    /// The volumes with the files of virtual disks.
    pub hosts: BTreeMap<u32, Vec<String>>,
    pub ran: RefCell<Vec<String>>,
    /// The drivers of a device, from the top down, by instance ID.
    pub stacks: BTreeMap<String, Vec<String>>,
    /// Interrupt time.
    pub time: u64,
    /// Control codes that were sent to disks, with their input.
    pub sent: RefCell<Vec<(u32, Vec<u8>)>>,
    pub loaded: Cell<bool>,
    pub steps: Cell<usize>,
    pub calls: Cell<usize>,
    /// What only a self-test asks, and disks that reserve; without it the machine can't tell, and `answer` and `served` are
    /// all that its disks say.
    pub lab: Option<Lab>,
}

impl Default for Memory {
    /// Windows on the first disk, the boot manager, a page file and the dump, too; three disks in all.
    fn default() -> Self {
        let mut lasting = Lasting::default();
        for (name, bytes) in [
            ("resvflt.sys", &driver(b"driver")[..]),
            ("resvflt.inf", INF.as_bytes()),
        ] {
            let path = format!(r"{PACKAGE}\{name}");
            lasting.files.insert(path, bytes.to_vec());
        }
        let volumes = [
            ("C:", 0),
            ("E:", 1),
            (r"GLOBALROOT\Device\HarddiskVolume1", 0),
        ];
        let memory = Self {
            lasting: RefCell::new(lasting),
            flushed: RefCell::default(),
            unflushed: RefCell::default(),
            faults: RefCell::default(),
            from: Cell::new(usize::MAX),
            read_fault: Cell::new(None),
            dead: Cell::new(false),
            build: 14393, // Server 2016
            elevated: true,
            image_loads: true,
            answer: None,
            answer_changes: false,
            answer_then: None,
            query_error: None,
            served: Ok(()),
            persistent: Err(Win32::INVALID_FUNCTION),
            disks: DISKS.map(Into::into).into(),
            descriptors: vec![("BOOT-0", 11), (" S/N 1 ", 9), ("", 9)],
            volumes: volumes
                .map(|(name, disk)| (name.to_lowercase(), vec![disk]))
                .into(),
            hosts: BTreeMap::new(),
            ran: RefCell::default(),
            stacks: BTreeMap::new(),
            time: 0,
            sent: RefCell::default(),
            loaded: Cell::new(false),
            steps: Cell::new(0),
            calls: Cell::new(0),
            lab: None,
        };
        let partition = Value::sz(r"\Device\HarddiskVolume1");
        memory.put(
            &machine_key(r"SYSTEM\Setup"),
            "SystemPartition",
            Some(partition),
        );
        memory
    }
}

pub fn machine_key(path: &str) -> Key {
    Key::Machine(path.into())
}

/// The running control set is the first, and a device's properties are values of its key.
fn path(key: &Key) -> String {
    let set = r"hklm\system\controlset001";
    match key {
        Key::Machine(path) => format!(r"HKLM\{path}"),
        Key::Device(instance) => format!(r"{set}\Enum\{instance}"),
        Key::Hardware(instance) => format!(r"{set}\Enum\{instance}\Device Parameters"),
    }
    .to_lowercase()
    .replace("currentcontrolset", "controlset001")
}

fn hive(path: &str) -> usize {
    usize::from(path.starts_with(r"hklm\software"))
}

impl Memory {
    /// Carries out a command line: how it ended, what it printed on each stream.
    pub fn command(&self, line: &str) -> (Exit, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let words = ["resvctl"].into_iter().chain(line.split_whitespace());
        let exit = resvctl::run(self, words, &mut out, &mut err);
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (exit, text(out), text(err))
    }

    /// The one object that a command with `--json` printed.
    pub fn json(&self, line: &str) -> (Exit, serde_json::Value) {
        let (exit, out, _) = self.command(&format!("{line} --json"));
        assert_eq!(out.lines().count(), 1, "{line}: {out}");
        (exit, serde_json::from_str(&out).expect("JSON"))
    }

    /// Calls that changed something or were to, since the last [`Memory::restart`].
    pub fn steps(&self) -> usize {
        self.steps.get()
    }

    /// All calls since then.
    pub fn calls(&self) -> usize {
        self.calls.get()
    }

    /// Starts Windows again, after a shutdown that flushes everything or after the power's loss.
    pub fn restart(&self) {
        self.faults.borrow_mut().clear();
        self.from.set(usize::MAX);
        self.read_fault.set(None);
        self.dead.set(false);
        self.steps.set(0);
        self.calls.set(0);
        if self.is_marked() {
            self.write(SERVICE, "ImagePath", None);
            self.write(SERVICE, DELETE_FLAG, None);
        }
        self.flush_all();
        let files = &mut self.lasting.borrow_mut().files;
        files.retain(|path, _| !path.ends_with(OLD));
        let service = self
            .flushed
            .borrow()
            .contains_key(&(SERVICE.into(), "imagepath".into()));
        self.loaded
            .set(service && files.contains_key(INSTALLED) && self.image_loads);
    }

    /// What was not flushed, by keys.
    fn by_key(&self) -> BTreeMap<String, Vec<Write>> {
        let mut keys: BTreeMap<String, Vec<Write>> = BTreeMap::new();
        for write in self.unflushed.borrow().iter().flatten() {
            keys.entry(write.0.clone()).or_default().push(write.clone());
        }
        keys
    }

    /// How many ways there are to lose what was not flushed.
    pub fn losses(&self) -> usize {
        self.by_key()
            .values()
            .map(|writes| writes.len() + 1)
            .product()
    }

    /// Loses it the way that has this number.
    pub fn lose(&self, mut way: usize) {
        let mut values = self.flushed.borrow().clone();
        for writes in self.by_key().into_values() {
            let kept = way % (writes.len() + 1);
            way /= writes.len() + 1;
            for (path, name, value) in writes.into_iter().take(kept) {
                set(&mut values, &path, &name, value);
            }
        }
        self.lasting.borrow_mut().values = values;
        self.flush_all();
        self.check();
    }

    fn flush_all(&self) {
        *self.unflushed.borrow_mut() = [Vec::new(), Vec::new()];
        let values = self.lasting.borrow().values.clone();
        *self.flushed.borrow_mut() = values;
    }

    fn write(&self, path: &str, name: &str, value: Option<(u32, Vec<u8>)>) {
        set(
            &mut self.lasting.borrow_mut().values,
            path,
            name,
            value.clone(),
        );
        let write = (path.to_owned(), name.to_owned(), value);
        self.unflushed.borrow_mut()[hive(path)].push(write);
    }

    /// Sets what others set, who flush it.
    pub fn put(&self, key: &Key, name: &str, value: Option<Value>) {
        let value = value.map(|value| (value.kind, value.data));
        set(
            &mut self.lasting.borrow_mut().values,
            &path(key),
            name,
            value.clone(),
        );
        set(&mut self.flushed.borrow_mut(), &path(key), name, value);
    }

    pub fn list(&self, key: &Key, name: &str) -> Option<Vec<String>> {
        let place = (path(key), name.to_lowercase());
        let lasting = self.lasting.borrow();
        Some(multi_string::strings(&lasting.values.get(&place)?.1))
    }

    pub fn has_file(&self, path: &str) -> bool {
        self.lasting.borrow().files.contains_key(path)
    }

    pub fn put_file(&self, path: &str, bytes: &[u8]) {
        self.lasting
            .borrow_mut()
            .files
            .insert(path.into(), bytes.into());
    }

    /// The service is there, and not about to go.
    pub fn service(&self) -> bool {
        let place = (SERVICE.into(), "imagepath".into());
        self.lasting.borrow().values.contains_key(&place)
    }

    fn is_marked(&self) -> bool {
        let place = (SERVICE.into(), DELETE_FLAG.into());
        self.lasting.borrow().values.contains_key(&place)
    }

    /// A call, whether it changes something or not.
    fn call(&self) -> Answer<()> {
        let call = self.calls.replace(self.calls.get() + 1);
        if self.dead.get() {
            return Err(GONE);
        }
        if self.read_fault.get() == Some(call) {
            return Err(FAILED);
        }
        Ok(())
    }

    /// One call that changes something. `half` is what comes of it if it is broken off.
    fn step<R>(
        &self,
        half: impl FnOnce(&Self),
        whole: impl FnOnce(&Self) -> Answer<R>,
    ) -> Answer<R> {
        self.call()?;
        let step = self.steps.replace(self.steps.get() + 1);
        let fault = self.faults.borrow().get(&step).copied();
        let fault = fault.or_else(|| (step >= self.from.get()).then_some(Fault::Fails));
        let result = match fault {
            None => whole(self),
            Some(Fault::Fails) => return Err(FAILED),
            Some(Fault::FailsLate) => {
                half(self);
                Err(FAILED)
            }
            Some(Fault::PowerIn) => {
                half(self);
                self.dead.set(true);
                Err(GONE)
            }
            Some(Fault::PowerAfter) => {
                let _ = whole(self);
                self.dead.set(true);
                Err(GONE)
            }
        };
        self.check();
        result
    }

    /// One that is whole or not at all; late is after it.
    fn change<R>(&self, whole: impl Fn(&Self) -> Answer<R>) -> Answer<R> {
        let half = |memory: &Self| {
            let _ = whole(memory);
        };
        self.step(half, &whole)
    }

    /// No stack names a filter that does not load, now or after a start of Windows: whatever names it, in any control set.
    fn check(&self) {
        let lasting = self.lasting.borrow();
        let named: Vec<_> = lasting
            .values
            .iter()
            .filter(|((path, name), _)| name.ends_with("filters") && !path.contains("backup"))
            .filter(|(_, (_, data))| multi_string::contains(data, FILTER))
            .map(|(place, _)| place)
            .collect();
        let driver = &lasting.files[&format!(r"{PACKAGE}\resvflt.sys")];
        let whole = lasting.files.get(INSTALLED) == Some(driver) && self.image_loads;
        let service = lasting
            .values
            .contains_key(&(SERVICE.into(), "imagepath".into()));
        let loads = service && !self.is_marked() && whole;
        let package = !lasting.packages.is_empty();
        assert!(
            named.is_empty() || loads || package,
            "{named:?} would find no driver"
        );
    }
}

fn set(values: &mut Values, path: &str, name: &str, value: Option<(u32, Vec<u8>)>) {
    let place = (path.to_owned(), name.to_lowercase());
    match value {
        Some(value) => values.insert(place, value),
        None => values.remove(&place),
    };
}

/// A disk or a volume, by its numbers.
struct Drive<'a> {
    memory: &'a Memory,
    disks: Vec<u32>,
    volume: bool,
    access: Access,
}

fn put(output: &mut [u8], bytes: &[u8]) -> usize {
    output[..bytes.len()].copy_from_slice(bytes);
    bytes.len()
}

fn words(numbers: &[u32]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

impl Device for Drive<'_> {
    fn control(&self, code: u32, input: &[u8], output: &mut [u8]) -> Answer<usize> {
        let memory = self.memory;
        memory.sent.borrow_mut().push((code, input.to_vec()));
        let number = self.disks.first().copied().unwrap_or(u32::MAX);
        let lab = memory.lab.as_ref().filter(|_| !self.volume);
        let unit = lab.and_then(|lab| lab.units.get(number as usize));
        let answer = unit.and_then(|unit| unit.control(self.access, code, input, output));
        if let Some(answer) = answer {
            return answer;
        }
        match code {
            // VOLUME_DISK_EXTENTS: a count, and six words each.
            0x0056_0000 if self.volume => {
                let count = u32::try_from(self.disks.len()).expect("few");
                let extents = self.disks.iter().flat_map(|disk| [*disk, 0, 0, 0, 0, 0]);
                let numbers: Vec<u32> = [count, 0].into_iter().chain(extents).collect();
                Ok(put(output, &words(&numbers)))
            }
            _ if self.volume => Err(Win32::INVALID_FUNCTION),
            // STORAGE_DEVICE_NUMBER.
            0x002D_1080 => Ok(put(output, &words(&[7, number, 0]))),
            // STORAGE_DEVICE_DESCRIPTOR: SerialNumberOffset and BusType are its seventh and eighth word.
            0x002D_1400 => {
                assert_eq!(input, [0; 12]);
                let descriptor = memory.descriptors.get(number as usize);
                let (serial, bus) = descriptor.ok_or(Win32::NOT_SUPPORTED)?;
                let offset = if serial.is_empty() { 0 } else { 40 };
                let head = words(&[40, 60, 0, 0, 0, 0, offset, *bus, 0, 0]);
                Ok(put(output, &[&head, serial.as_bytes(), &[0]].concat()))
            }
            0x8016_6058 => {
                let sent = memory.sent.borrow();
                let is_sent = sent
                    .iter()
                    .any(|(code, _)| matches!(code, 0x002D_4810 | 0x002D_4814));
                let answer = if is_sent && memory.answer_changes {
                    &memory.answer_then
                } else {
                    &memory.answer
                };
                match (&memory.query_error, answer) {
                    (Some(error), _) => Err(*error),
                    (None, Some(answer)) => Ok(put(output, answer)),
                    (None, None) => Err(Win32::INVALID_FUNCTION),
                }
            }
            0x002D_4810 | 0x002D_4814 | 0x002D_5014 => memory.served.map(|()| 0),
            0x002D_5018 => {
                // Version and Size, READ RESERVATION, and the room that the output has.
                let room = u8::try_from(output.len()).expect("small");
                assert_eq!(input, [12, 0, 0, 0, 12, 0, 0, 0, 1, 0, room, 0]);
                memory.persistent.clone().map(|data| put(output, &data))
            }
            // SCSI_ADDRESS.
            0x0004_1018 => Ok(put(output, &[8, 0, 0, 0, 2, 3, 1, 5])),
            _ => Err(Win32::INVALID_FUNCTION),
        }
    }

    fn host_volumes(&self) -> Answer<Vec<String>> {
        let hosts = self.memory.hosts.get(&self.disks[0]).cloned();
        // ERROR_VIRTDISK_NOT_VIRTUAL_DISK
        hosts.ok_or(Win32(0xC03A_0015))
    }
}

impl Memory {
    fn tells(&self) -> Answer<&Lab> {
        self.lab.as_ref().ok_or(Win32::NOT_SUPPORTED)
    }

    /// The folder that two machines share, of a path in it.
    fn share(&self, path: &str) -> Option<&Share> {
        let share = self.lab.as_ref()?.share.as_ref()?;
        path.starts_with(r"\\FILES\LAB\").then_some(share)
    }
}

impl Machine for Memory {
    fn is_elevated(&self) -> bool {
        self.elevated
    }

    fn build(&self) -> u32 {
        self.build
    }

    fn interrupt_time(&self) -> u64 {
        self.time
    }

    fn package(&self) -> String {
        PACKAGE.into()
    }

    fn system(&self) -> String {
        SYSTEM.into()
    }

    fn open(&self, path: &str, access: Access) -> Answer<Box<dyn Device + '_>> {
        self.call()?;
        let name = path.strip_prefix(r"\\.\").or(path.strip_prefix(r"\\?\"));
        let name = name.unwrap_or(path).to_lowercase();
        let denied = self.lab.as_ref().and_then(|lab| lab.denied);
        if denied.is_some_and(|denied| name.starts_with(denied)) {
            return Err(Win32::ACCESS_DENIED);
        }
        let number = name
            .strip_prefix("physicaldrive")
            .and_then(|number| number.parse().ok());
        let there = number.filter(|number| (*number as usize) < self.disks.len());
        let (disks, volume) = match there {
            Some(number) => (vec![number], false),
            None => (
                self.volumes
                    .get(&name)
                    .cloned()
                    .ok_or(Win32::FILE_NOT_FOUND)?,
                true,
            ),
        };
        Ok(Box::new(Drive {
            memory: self,
            disks,
            volume,
            access,
        }))
    }

    fn nodes(&self) -> Answer<Vec<Node>> {
        self.call()?;
        let present = self.disks.iter().enumerate();
        let present = present.map(|(number, instance)| Node {
            instance: instance.clone(),
            path: Some(format!(r"\\.\PhysicalDrive{number}")),
        });
        let absent = Node {
            instance: ABSENT.into(),
            path: None,
        };
        Ok([absent].into_iter().chain(present).collect())
    }

    fn stack(&self, instance: &str) -> Answer<Vec<String>> {
        self.call()?;
        Ok(self.stacks.get(instance).cloned().unwrap_or_default())
    }

    fn value(&self, key: &Key, name: &str) -> Answer<Option<Value>> {
        self.call()?;
        if let Key::Device(instance) = key
            && instance != ABSENT
            && !self.disks.contains(instance)
        {
            return Err(Win32::NO_SUCH_DEVINST);
        }
        let lasting = self.lasting.borrow();
        let value = lasting.values.get(&(path(key), name.to_lowercase()));
        Ok(value.map(|(kind, data)| Value {
            kind: *kind,
            data: data.clone(),
        }))
    }

    fn set_value(&self, key: &Key, name: &str, value: Option<&Value>) -> Answer<()> {
        let value = value.map(|value| (value.kind, value.data.clone()));
        let whole = |memory: &Self| {
            memory.write(&path(key), name, value.clone());
            Ok(())
        };
        self.change(whole)
    }

    fn delete_key(&self, key: &Key) -> Answer<()> {
        let deleted = path(key);
        let whole = |memory: &Self| {
            let lasting = memory.lasting.borrow();
            let names = lasting.values.keys().filter(|(key, _)| *key == deleted);
            let names: Vec<String> = names.map(|(_, name)| name.clone()).collect();
            drop(lasting);
            for name in names {
                memory.write(&deleted, &name, None);
            }
            Ok(())
        };
        self.change(whole)
    }

    fn values(&self, below: &str) -> Answer<Vec<(String, Value)>> {
        self.call()?;
        let key = path(&machine_key(below));
        let lasting = self.lasting.borrow();
        let values = lasting.values.iter().filter(|((path, _), _)| *path == key);
        let value = |(kind, data): &(u32, Vec<u8>)| Value {
            kind: *kind,
            data: data.clone(),
        };
        Ok(values
            .map(|((_, name), of)| (name.clone(), value(of)))
            .collect())
    }

    fn subkeys(&self, below: &str) -> Answer<Vec<String>> {
        self.call()?;
        let prefix = format!(r"{}\", path(&machine_key(below)));
        let lasting = self.lasting.borrow();
        let keys = lasting
            .values
            .keys()
            .filter_map(|(path, _)| path.strip_prefix(&prefix));
        let names: BTreeSet<&str> = keys.filter_map(|rest| rest.split('\\').next()).collect();
        Ok(names.into_iter().map(Into::into).collect())
    }

    fn flush(&self, hive: Hive) -> Answer<()> {
        let index = match hive {
            Hive::System => 0,
            Hive::Software => 1,
        };
        let whole = |memory: &Self| {
            for (path, name, value) in memory.unflushed.borrow_mut()[index].drain(..) {
                set(&mut memory.flushed.borrow_mut(), &path, &name, value);
            }
            Ok(())
        };
        self.step(|_| {}, whole)
    }

    fn is_loaded(&self) -> Answer<bool> {
        self.call()?;
        Ok(self.loaded.get())
    }

    fn has_service(&self) -> Answer<bool> {
        self.call()?;
        if self.is_marked() {
            return Err(Win32::SERVICE_MARKED_FOR_DELETE);
        }
        Ok(self.service())
    }

    fn create_service(&self, image: &str) -> Answer<()> {
        assert_eq!(image, r"\SystemRoot\System32\drivers\resvflt.sys");
        let whole = |memory: &Self| {
            let image = Value::sz(image);
            memory.write(SERVICE, "ImagePath", Some((image.kind, image.data)));
            Ok(())
        };
        self.change(whole)
    }

    fn start_service(&self) -> Answer<()> {
        let whole = |memory: &Self| {
            if memory.loaded.get() {
                return Ok(());
            }
            assert!(memory.service(), "no service");
            let driver = memory.lasting.borrow().files[&format!(r"{PACKAGE}\resvflt.sys")].clone();
            let image = memory.lasting.borrow().files.get(INSTALLED).cloned();
            match image {
                None => Err(Win32::FILE_NOT_FOUND),
                Some(image) if image == driver && memory.image_loads => {
                    memory.loaded.set(true);
                    Ok(())
                }
                Some(_) => Err(Win32::INVALID_IMAGE_HASH),
            }
        };
        self.change(whole)
    }

    fn delete_service(&self) -> Answer<()> {
        let whole = |memory: &Self| {
            if !memory.service() {
                return Ok(());
            }
            if memory.loaded.get() {
                // It runs, so that it goes at the next start.
                memory.write(SERVICE, DELETE_FLAG, Some((kind::DWORD, vec![1, 0, 0, 0])));
            } else {
                memory.write(SERVICE, "ImagePath", None);
            }
            Ok(())
        };
        self.change(whole)
    }

    fn read_file(&self, path: &str) -> Answer<Option<Vec<u8>>> {
        self.call()?;
        if let Some(share) = self.share(path) {
            let found = share.lock().expect("no panic").get(path).cloned();
            let lab = self.tells()?;
            if found.is_some() && lab.refused.get() < lab.refuses {
                lab.refused.set(lab.refused.get() + 1);
                return Err(Win32::FILE_IN_USE);
            }
            lab.refused.set(0);
            return Ok(found);
        }
        Ok(self.lasting.borrow().files.get(path).cloned())
    }

    fn copy_file(&self, from: &str, to: &str) -> Answer<()> {
        let bytes = self.lasting.borrow().files[from].clone();
        self.step(
            |memory| memory.put_file(to, &bytes[..bytes.len() / 2]),
            |memory| {
                memory.put_file(to, &bytes);
                Ok(())
            },
        )
    }

    fn move_file(&self, from: &str, to: &str) -> Answer<()> {
        let whole = |memory: &Self| {
            let files = &mut memory.lasting.borrow_mut().files;
            if memory.loaded.get() && to == INSTALLED && files.contains_key(to) {
                return Err(Win32::ACCESS_DENIED);
            }
            let bytes = files.remove(from).ok_or(Win32::FILE_NOT_FOUND)?;
            files.insert(to.into(), bytes);
            Ok(())
        };
        self.change(whole)
    }

    fn remove_file(&self, path: &str) -> Answer<Removed> {
        if let Some(share) = self.share(path) {
            share.lock().expect("no panic").remove(path);
            return Ok(Removed::Now);
        }
        let whole = |memory: &Self| {
            let files = &mut memory.lasting.borrow_mut().files;
            match files.remove(path) {
                Some(bytes) if path == INSTALLED && memory.loaded.get() => {
                    files.insert(format!("{path}{OLD}"), bytes);
                    Ok(Removed::AtRestart)
                }
                _ => Ok(Removed::Now),
            }
        };
        self.change(whole)
    }

    /// pnputil and verifier, which speak German here.
    fn run(&self, program: &str, arguments: &[&str]) -> Answer<Ended> {
        let name = program.strip_prefix(SYSTEM).unwrap_or(program);
        self.ran
            .borrow_mut()
            .push(format!("{name} {}", arguments.join(" ")));
        let ended = |code| {
            move |()| Ended {
                code,
                output: String::new(),
            }
        };
        match arguments {
            ["/enum-drivers"] => {
                self.call()?;
                // By the INFs that Windows keeps; the name of the package's own INF says nothing.
                let lasting = self.lasting.borrow();
                let published = lasting.files.keys();
                let published = published.filter_map(|path| path.strip_prefix(r"C:\Windows\INF\"));
                let output = published.map(|oem| {
                    format!(
                        "Veröffentlichter Name: {oem}\r\nOriginalname:      resvflt.inf\r\n\r\n"
                    )
                });
                Ok(Ended {
                    code: 0,
                    output: output.collect(),
                })
            }
            ["/add-driver", inf, "/install"] => {
                let whole = |memory: &Self| {
                    let bytes = memory.lasting.borrow().files[*inf].clone();
                    memory.put_file(r"C:\Windows\INF\oem12.inf", &bytes);
                    memory
                        .lasting
                        .borrow_mut()
                        .packages
                        .insert("oem12.inf".into());
                    Ok(())
                };
                self.change(whole).map(ended(3010))
            }
            ["/delete-driver", name, "/uninstall"] => {
                let whole = |memory: &Self| {
                    let mut lasting = memory.lasting.borrow_mut();
                    lasting.packages.remove(*name);
                    lasting.files.remove(&format!(r"C:\Windows\INF\{name}"));
                    Ok(())
                };
                self.change(whole).map(ended(0))
            }
            ["/standard", "/driver", "resvflt.sys"] => Ok(ended(2)(())),
            ["/reset"] => Ok(ended(0)(())),
            _ => Ok(Ended {
                code: 1,
                output: "Ungültig".into(),
            }),
        }
    }

    fn loaded(&self, file: &str) -> Answer<Option<Loaded>> {
        assert_eq!(file, "resvflt.sys");
        self.tells()?.loaded.clone()
    }

    fn service(&self, name: &str) -> Answer<Option<Service>> {
        assert_eq!(name, FILTER);
        self.tells()?.service.clone()
    }

    fn signature(&self, path: &str) -> Answer<Signature> {
        assert!(path.ends_with(r"\resvflt.sys"), "{path}");
        self.tells()?.signature.clone()
    }

    fn signature_in(&self, catalog: &str, member: &str) -> Answer<Signature> {
        assert_eq!(catalog, format!(r"{PACKAGE}\resvflt.cat"));
        let lab = self.tells()?;
        let name = member.rsplit('\\').next().expect("a name");
        lab.catalogued.get(name).cloned().unwrap_or(Err(FAILED))
    }

    fn file_version(&self, path: &str) -> Answer<Option<String>> {
        Ok(self.tells()?.versions.get(path).cloned())
    }

    fn win32_of(&self, status: i32) -> Answer<Win32> {
        let errors = &self.tells()?.errors;
        errors.get(&status).copied().ok_or(FAILED)
    }

    fn verified(&self, file: &str) -> Answer<Option<Verified>> {
        assert_eq!(file, "resvflt.sys");
        self.tells()?.verified
    }

    fn trace(&self, provider: u128) -> Answer<Box<dyn Session + '_>> {
        assert_eq!(provider, 0xaa24_21a2_5c31_5fba_872c_3d41_5a51_cd75);
        self.tells()?.trace()
    }

    fn requests(&self, path: &str, access: Access) -> Answer<Box<dyn Requests + '_>> {
        assert_eq!((path, access), (r"\\.\PhysicalDrive1", Access::Read));
        self.tells()?.requests()
    }

    fn process(&self, path: &str, code: u32, requests: u32) -> Answer<Box<dyn Process + '_>> {
        assert_eq!((path, code), (r"\\.\PhysicalDrive1", 0x002D_4810));
        self.tells()?.process(requests)
    }

    fn sleep(&self, _: u32) -> Answer<()> {
        self.tells()?.sleep()
    }

    fn wait(&self, _: u32) -> Answer<()> {
        std::thread::sleep(self.tells()?.wait);
        Ok(())
    }

    fn enter(&self) -> Answer<bool> {
        let lab = self.tells()?;
        let mut enters = lab.enters.borrow_mut();
        Ok(enters.as_mut().is_some_and(|enter| enter()))
    }

    fn write_file(&self, path: &str, bytes: &[u8]) -> Answer<()> {
        if let Some(share) = self.share(path) {
            share
                .lock()
                .expect("no panic")
                .insert(path.into(), bytes.into());
            return Ok(());
        }
        if self.tells()?.read_only {
            return Err(Win32::ACCESS_DENIED);
        }
        self.put_file(path, bytes);
        Ok(())
    }
}

/// A PE32+ image with a certificate table behind its headers, as far as that is looked for; the name tells it from others.
pub fn driver(name: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 0x140];
    image[..2].copy_from_slice(b"MZ");
    image[0x3C] = 0x80;
    image[0x80..0x82].copy_from_slice(b"PE");
    // The optional header's magic, and the fifth directory.
    image[0x98..0x9A].copy_from_slice(&[0x0B, 0x02]);
    (image[0x129], image[0x12C]) = (1, 8);
    [image, name.to_vec()].concat()
}

/// A `REG_MULTI_SZ`.
pub fn multi(strings: &[&str]) -> Value {
    Value {
        kind: kind::MULTI_SZ,
        data: multi_string::data(strings.iter().copied()),
    }
}
