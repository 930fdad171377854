//! A machine in memory, which dies where it is told to.
#![allow(dead_code, reason = "each test uses its part")]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use resvctl::machine::{
    Access, Answer, Device, Ended, Key, Machine, Node, Removed, Value, Win32, kind,
};
use resvctl::{Exit, FILTER, multi_string};

/// `ERROR_PROCESS_ABORTED` (winerror.h): what every call answers once the machine is dead.
const DEAD: Win32 = Win32(1067);

pub const DISKS: [&str; 3] = [r"SCSI\DISK\0", r"SCSI\DISK\1", r"SCSI\DISK\2"];
/// A disk that is not plugged in.
pub const ABSENT: &str = r"USBSTOR\DISK\9";
pub const PACKAGE: &str = r"E:\resvflt";
pub const SYSTEM: &str = r"C:\Windows\System32";
pub const INSTALLED: &str = r"C:\Windows\System32\drivers\resvflt.sys";
pub const CLASS: &str =
    r"SYSTEM\CurrentControlSet\Control\Class\{4d36e967-e325-11ce-bfc1-08002be10318}";

/// When the machine dies, counted in changes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// In the middle of the change with this number; a file is half copied.
    In(usize),
    /// Right after it.
    After(usize),
}

/// What lasts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lasting {
    pub values: BTreeMap<(String, String), (u32, Vec<u8>)>,
    pub files: BTreeMap<String, Vec<u8>>,
    pub service: bool,
    pub packages: BTreeSet<String>,
}

pub struct Memory {
    pub lasting: RefCell<Lasting>,
    pub death: Cell<Option<Death>>,
    pub build: u32,
    pub elevated: bool,
    /// The driver's answer to the state query; none if it is not in the stack.
    pub answer: Option<Vec<u8>>,
    /// Deletions happen when Windows starts the next time.
    pub in_use: bool,
    /// Instance IDs by number, of what is plugged in.
    pub disks: Vec<String>,
    pub ran: RefCell<Vec<String>>,
    pub marked: Cell<bool>,
    pub steps: Cell<usize>,
}

impl Default for Memory {
    fn default() -> Self {
        let mut lasting = Lasting::default();
        for (name, bytes) in [("resvflt.sys", b"driver"), ("resvflt.inf", b"script")] {
            lasting
                .files
                .insert(format!(r"{PACKAGE}\{name}"), bytes.to_vec());
        }
        Self {
            lasting: RefCell::new(lasting),
            death: Cell::new(None),
            build: 14393, // Server 2016
            elevated: true,
            answer: None,
            in_use: false,
            disks: DISKS.map(Into::into).into(),
            ran: RefCell::default(),
            marked: Cell::new(false),
            steps: Cell::new(0),
        }
    }
}

fn path(key: &Key) -> String {
    match key {
        Key::Machine(path) => format!(r"HKLM\{path}").to_lowercase(),
        Key::Device(instance) => format!("device {instance}").to_lowercase(),
        Key::Hardware(instance) => format!("hardware {instance}").to_lowercase(),
    }
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

    /// Changes so far, since the last [`Memory::restart`].
    pub fn steps(&self) -> usize {
        self.steps.get()
    }

    /// Starts Windows again.
    pub fn restart(&self) {
        self.death.set(None);
        self.steps.set(0);
        if self.marked.take() {
            self.lasting.borrow_mut().service = false;
        }
        self.lasting
            .borrow_mut()
            .files
            .retain(|path, _| !path.contains(".sys.old"));
    }

    pub fn put(&self, key: &Key, name: &str, value: Option<Value>) {
        let place = (path(key), name.into());
        let values = &mut self.lasting.borrow_mut().values;
        match value {
            Some(value) => values.insert(place, (value.kind, value.data)),
            None => values.remove(&place),
        };
    }

    pub fn list(&self, key: &Key, name: &str) -> Option<Vec<String>> {
        let place = (path(key), name.into());
        let lasting = self.lasting.borrow();
        Some(multi_string::strings(&lasting.values.get(&place)?.1))
    }

    fn alive(&self) -> Answer<()> {
        match self.death.get() {
            Some(Death::In(step)) if self.steps.get() > step => Err(DEAD),
            Some(Death::After(step)) if self.steps.get() > step => Err(DEAD),
            _ => Ok(()),
        }
    }

    /// One change. `half` is what is left of it if the machine dies in it.
    fn step<R>(
        &self,
        half: impl FnOnce(&mut Lasting),
        whole: impl FnOnce(&mut Lasting) -> R,
    ) -> Answer<R> {
        self.alive()?;
        let step = self.steps.replace(self.steps.get() + 1);
        if self.death.get() == Some(Death::In(step)) {
            half(&mut self.lasting.borrow_mut());
            self.check();
            return Err(DEAD);
        }
        let result = whole(&mut self.lasting.borrow_mut());
        self.check();
        if self.death.get() == Some(Death::After(step)) {
            Err(DEAD)
        } else {
            Ok(result)
        }
    }

    /// No stack names a service that is not there, now or after a start of Windows.
    fn check(&self) {
        let lasting = self.lasting.borrow();
        let ours = |(_, data): &(u32, Vec<u8>)| multi_string::contains(data, FILTER);
        let lists = lasting
            .values
            .iter()
            .filter(|((_, name), _)| name.ends_with("Filters"));
        let named: Vec<_> = lists
            .filter(|(_, value)| ours(value))
            .map(|(place, _)| place)
            .collect();
        let driver = &lasting.files[&format!(r"{PACKAGE}\resvflt.sys")];
        let whole = lasting.files.get(INSTALLED) == Some(driver);
        let loads = lasting.service && !self.marked.get() && whole;
        assert!(named.is_empty() || loads, "{named:?} would find no driver");
    }
}

struct Drive<'a>(&'a Memory, u32);

fn numbers(output: &mut [u8], numbers: &[u32]) -> usize {
    let bytes: Vec<u8> = numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    output[..bytes.len()].copy_from_slice(&bytes);
    bytes.len()
}

impl Device for Drive<'_> {
    fn control(&self, code: u32, output: &mut [u8]) -> Answer<usize> {
        match (code, &self.0.answer) {
            (0x002D_1080, _) => Ok(numbers(output, &[7, self.1, 0])),
            (0x8016_6058, Some(answer)) => {
                output[..answer.len()].copy_from_slice(answer);
                Ok(answer.len())
            }
            (0x002D_4810 | 0x002D_4814, None) => Ok(0),
            _ => Err(Win32::INVALID_FUNCTION),
        }
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
        0
    }

    fn package(&self) -> String {
        PACKAGE.into()
    }

    fn system(&self) -> String {
        SYSTEM.into()
    }

    /// Windows is on the first disk.
    fn open(&self, path: &str, _: Access) -> Answer<Box<dyn Device + '_>> {
        let path = if path == r"\\.\C:" {
            r"\\.\PhysicalDrive0"
        } else {
            path
        };
        let number = path
            .strip_prefix(r"\\.\PhysicalDrive")
            .and_then(|number| number.parse().ok());
        let number = number.filter(|number| (*number as usize) < self.disks.len());
        Ok(Box::new(Drive(self, number.ok_or(Win32::FILE_NOT_FOUND)?)))
    }

    fn nodes(&self) -> Answer<Vec<Node>> {
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

    fn stack(&self, _: &str) -> Answer<Vec<String>> {
        Ok(Vec::new())
    }

    fn value(&self, key: &Key, name: &str) -> Answer<Option<Value>> {
        self.alive()?;
        let lasting = self.lasting.borrow();
        if let Key::Device(instance) = key
            && instance != ABSENT
            && !self.disks.contains(instance)
        {
            return Err(Win32::NO_SUCH_DEVINST);
        }
        let value = lasting.values.get(&(path(key), name.into()));
        Ok(value.map(|(kind, data)| Value {
            kind: *kind,
            data: data.clone(),
        }))
    }

    fn set_value(&self, key: &Key, name: &str, value: Option<&Value>) -> Answer<()> {
        let place = (path(key), name.into());
        self.step(
            |_| {},
            |lasting| {
                match value {
                    Some(value) => lasting
                        .values
                        .insert(place, (value.kind, value.data.clone())),
                    None => lasting.values.remove(&place),
                };
            },
        )
    }

    fn delete_key(&self, key: &Key) -> Answer<()> {
        let deleted = path(key);
        self.step(
            |_| {},
            |lasting| lasting.values.retain(|(key, _), _| *key != deleted),
        )
    }

    fn is_loaded(&self) -> Answer<bool> {
        Ok(false)
    }

    fn has_service(&self) -> Answer<bool> {
        self.alive()?;
        if self.marked.get() {
            return Err(Win32::SERVICE_MARKED_FOR_DELETE);
        }
        Ok(self.lasting.borrow().service)
    }

    fn create_service(&self, image: &str) -> Answer<()> {
        assert_eq!(image, r"System32\drivers\resvflt.sys");
        self.step(|_| {}, |lasting| lasting.service = true)
    }

    fn delete_service(&self) -> Answer<()> {
        let marked = self.in_use && self.lasting.borrow().service;
        self.step(
            |_| {},
            |lasting| {
                lasting.service &= marked;
                self.marked.set(marked);
            },
        )
    }

    fn read_file(&self, path: &str) -> Answer<Option<Vec<u8>>> {
        self.alive()?;
        Ok(self.lasting.borrow().files.get(path).cloned())
    }

    fn copy_file(&self, from: &str, to: &str) -> Answer<()> {
        let bytes = self.lasting.borrow().files[from].clone();
        self.step(
            |lasting| {
                let half = bytes[..bytes.len() / 2].into();
                lasting.files.insert(to.into(), half);
            },
            |lasting| {
                lasting.files.insert(to.into(), bytes.clone());
            },
        )
    }

    fn remove_file(&self, path: &str) -> Answer<Removed> {
        let in_use = self.in_use;
        self.step(
            |_| {},
            |lasting| match lasting.files.remove(path) {
                Some(bytes) if in_use => {
                    lasting.files.insert(format!("{path}.old"), bytes);
                    Removed::AtRestart
                }
                _ => Removed::Now,
            },
        )
    }

    /// pnputil and verifier, which speak German here.
    fn run(&self, program: &str, arguments: &[&str]) -> Answer<Ended> {
        let name = program.strip_prefix(SYSTEM).unwrap_or(program);
        self.ran
            .borrow_mut()
            .push(format!("{name} {}", arguments.join(" ")));
        let listed = |packages: &BTreeSet<String>| {
            let ours = packages.iter().map(|oem| {
                format!("Veröffentlichter Name: {oem}\r\nOriginalname:      resvflt.inf\r\n\r\n")
            });
            let theirs = "Veröffentlichter Name: oem3.inf\r\nOriginalname:      other.inf\r\n\r\n";
            [theirs.into()].into_iter().chain(ours).collect::<String>()
        };
        let ended = |output| Ended { code: 0, output };
        match arguments {
            ["/enum-drivers"] => Ok(ended(listed(&self.lasting.borrow().packages))),
            ["/add-driver", _, "/install"] => {
                self.step(
                    |_| {},
                    |lasting| lasting.packages.insert("oem12.inf".into()),
                )?;
                Ok(Ended {
                    code: 3010,
                    output: String::new(),
                })
            }
            ["/delete-driver", name, "/uninstall"] => {
                self.step(|_| {}, |lasting| lasting.packages.remove(*name))?;
                Ok(ended(String::new()))
            }
            ["/standard", "/driver", "resvflt.sys"] => Ok(Ended {
                code: 2,
                output: String::new(),
            }),
            ["/reset"] => Ok(ended(String::new())),
            _ => Ok(Ended {
                code: 1,
                output: "Ungültig".into(),
            }),
        }
    }
}

/// A `REG_MULTI_SZ`.
pub fn multi(strings: &[&str]) -> Value {
    Value {
        kind: kind::MULTI_SZ,
        data: multi_string::data(strings.iter().copied()),
    }
}
