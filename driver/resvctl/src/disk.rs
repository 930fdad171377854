//! Disks as a person names them, and what Windows has by that name.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::machine::{Access, Device, Key, Machine, Node, Win32};
use crate::{Exit, Failure};

/// IOCTL_STORAGE_GET_DEVICE_NUMBER (ntddstor.h).
const GET_DEVICE_NUMBER: u32 = 0x002D_1080;
/// IOCTL_STORAGE_QUERY_PROPERTY (ntddstor.h).
const QUERY_PROPERTY: u32 = 0x002D_1400;
/// STORAGE_PROPERTY_QUERY: StorageDeviceProperty, PropertyStandardQuery, and one byte of parameters with its padding.
const DEVICE_PROPERTY: [u8; 12] = [0; 12];
/// Where VendorIdOffset, ProductIdOffset, ProductRevisionOffset, SerialNumberOffset and BusType lie in
/// STORAGE_DEVICE_DESCRIPTOR.
const VENDOR: usize = 12;
const PRODUCT: usize = 16;
const REVISION: usize = 20;
const SERIAL_NUMBER: usize = 24;
const BUS_TYPE: usize = 28;
/// IOCTL_VOLUME_GET_VOLUME_DISK_EXTENTS (ntddvol.h).
const GET_VOLUME_DISK_EXTENTS: u32 = 0x0056_0000;
/// FILE_DEVICE_DISK (wdm.h).
const DEVICE_DISK: u32 = 7;
/// sizeof(DISK_EXTENT), and where the first lies in VOLUME_DISK_EXTENTS (winioctl.h).
const EXTENT: usize = 24;
const FIRST_EXTENT: usize = 8;

/// What a person calls a disk: see `resvctl --help`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// By the number in PhysicalDrive1.
    Number(u32),
    /// By a volume on it: its name behind `\\.\` or `\\?\`, without a backslash at its end.
    Volume(String),
    /// By its serial number.
    Serial(String),
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = [r"\\.\", r"\\?\"]
            .iter()
            .find_map(|prefix| text.strip_prefix(prefix));
        let (name, plain) = (name.unwrap_or(text), name.is_none());
        if let (true, Some(serial)) = (plain, prefixed(name, "serial:")) {
            let serial = serial.trim();
            return match serial {
                "" => Err("serial: wants a serial number".into()),
                _ => Ok(Self::Serial(serial.into())),
            };
        }
        let number = match prefixed(name, "PhysicalDrive") {
            Some(number) => number,
            None if plain => name,
            None => "",
        };
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        if let (true, Ok(number)) = (digits, number.parse()) {
            return Ok(Self::Number(number));
        }
        let volume = name.strip_suffix('\\').unwrap_or(name);
        match volume.as_bytes() {
            [letter, b':'] if letter.is_ascii_alphabetic() => {
                Ok(Self::Volume(volume.to_ascii_uppercase()))
            }
            _ if prefixed(volume, "Volume").is_some_and(is_guid) => {
                Ok(Self::Volume(volume.into()))
            }
            _ => Err(
                r"a disk is 1, PhysicalDrive1, \\.\PhysicalDrive1, \\?\PhysicalDrive1, serial:NUMBER, D: or \\?\Volume{GUID}\"
                    .into(),
            ),
        }
    }
}

/// The text behind `prefix`, in whatever case that is written.
fn prefixed<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, tail) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(tail)
}

/// `{8-4-4-4-12}` hexadecimal digits.
fn is_guid(text: &str) -> bool {
    let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}'));
    let groups: Vec<&str> = inner.unwrap_or_default().split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let hexadecimal = |group: &&str| group.bytes().all(|b| b.is_ascii_hexdigit());
    lengths == [8, 4, 4, 4, 12] && groups.iter().all(hexadecimal)
}

/// A disk of this machine: it displays as PhysicalDrive1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Disk(pub u32);

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PhysicalDrive{}", self.0)
    }
}

impl Serialize for Disk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Disk {
    /// The disk that has this name, and the only one that has it.
    pub fn named(machine: &dyn Machine, name: &Name) -> Result<Self, Failure> {
        let (named, disks) = match name {
            Name::Number(number) => return Ok(Self(*number)),
            Name::Serial(serial) => {
                let mut disks = present(machine)?;
                disks.retain(|(disk, _)| {
                    let found = disk.descriptor(machine).and_then(|d| d.serial_number());
                    found.as_ref() == Some(serial)
                });
                let disks = disks.into_iter().map(|(disk, _)| disk).collect();
                (format!("the serial number {serial}"), disks)
            }
            Name::Volume(volume) => {
                let named = volume.trim_end_matches(':');
                let failed = |error| Failure::of(named)(error).hint(error);
                let disks = under(machine, &format!(r"\\?\{volume}")).map_err(failed)?;
                (named.to_owned(), disks)
            }
        };
        match disks[..] {
            [disk] => Ok(disk),
            [] => {
                let failure = Failure::new(format!("{named}: no disk is known by it"));
                Err(failure.and("`resvctl list` shows the disks"))
            }
            _ => {
                let all: Vec<String> = disks.iter().map(Self::to_string).collect();
                let failure = Failure::new(format!("{named}: several disks, {}", all.join(", ")));
                Err(failure.and("name each disk by itself"))
            }
        }
    }

    /// What it says of itself, if it says it.
    pub fn descriptor(self, machine: &dyn Machine) -> Option<Descriptor> {
        let device = machine.open(&self.path(), Access::Ask).ok()?;
        let mut bytes = vec![0; 1024];
        let length = device
            .control(QUERY_PROPERTY, &DEVICE_PROPERTY, &mut bytes)
            .ok()?;
        bytes.truncate(length);
        Some(Descriptor(bytes))
    }

    /// What opens it.
    pub fn path(self) -> String {
        format!(r"\\.\{self}")
    }

    /// Opens it.
    pub fn open(
        self,
        machine: &dyn Machine,
        access: Access,
    ) -> Result<Box<dyn Device + '_>, Failure> {
        machine
            .open(&self.path(), access)
            .map_err(|error| self.failed(error))
    }

    /// Its device, if Windows has one for it.
    pub fn node(self, machine: &dyn Machine) -> Result<Option<Node>, Failure> {
        let mut nodes = present(machine)?.into_iter();
        Ok(nodes.find(|(disk, _)| *disk == self).map(|(_, node)| node))
    }

    /// What is said when something about it went wrong, and what can be done.
    pub fn failed(self, error: Win32) -> Failure {
        self.says(error).hint(error)
    }

    /// As [`Disk::failed`], before the hint.
    pub fn says(self, error: Win32) -> Failure {
        Failure::of(self)(error)
    }
}

/// A STORAGE_DEVICE_DESCRIPTOR.
pub struct Descriptor(Vec<u8>);

impl Descriptor {
    /// The serial number, without the blanks around it.
    pub fn serial_number(&self) -> Option<String> {
        self.text(SERIAL_NUMBER)
    }

    /// Who made it.
    pub fn vendor(&self) -> Option<String> {
        self.text(VENDOR)
    }

    /// What it is.
    pub fn product(&self) -> Option<String> {
        self.text(PRODUCT)
    }

    /// Its revision.
    pub fn revision(&self) -> Option<String> {
        self.text(REVISION)
    }

    /// The text whose offset lies at this place, without the blanks around it.
    fn text(&self, at: usize) -> Option<String> {
        let offset = number(&self.0, at) as usize;
        let bytes = self.0.get(offset..).filter(|_| offset > 0)?;
        let bytes = bytes.split(|byte| *byte == 0).next()?;
        let text = String::from_utf8_lossy(bytes).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// A STORAGE_BUS_TYPE.
    pub fn bus_type(&self) -> u32 {
        number(&self.0, BUS_TYPE)
    }
}

impl Failure {
    /// Adds what can be done about a disk that answers so.
    pub fn hint(self, error: Win32) -> Self {
        let hint = match error {
            Win32::ACCESS_DENIED => "run resvctl from an elevated prompt (Run as administrator)",
            Win32::FILE_NOT_FOUND | Win32::PATH_NOT_FOUND => "`resvctl list` shows the disks",
            Win32::SEM_TIMEOUT => "look after the path to it, then reserve or release again",
            Win32::DEVICE_NOT_CONNECTED => "look after the path to it",
            Win32::NOT_READY | Win32::NO_SYSTEM_RESOURCES => "try again later",
            Win32::BUSY => {
                return self
                    .and("its holder has to release it; if that is dead for certain: `resvctl break`")
                    .exit(Exit::HeldByAnother);
            }
            _ => return self,
        };
        self.and(hint)
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes.get(at..).and_then(|b| b.first_chunk());
    bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// The disks under a volume, each once.
pub fn under(machine: &dyn Machine, volume: &str) -> Result<Vec<Disk>, Win32> {
    let volume = &*machine.open(volume, Access::Ask)?;
    let mut extents = vec![0; FIRST_EXTENT + 64 * EXTENT];
    let mut disks: Vec<_> = match volume.control(GET_VOLUME_DISK_EXTENTS, &[], &mut extents) {
        Ok(_) => (0..number(&extents, 0) as usize)
            .map(|n| Disk(number(&extents, FIRST_EXTENT + n * EXTENT)))
            .collect(),
        // Not a volume of the volume manager: a CD, a removable disk.
        Err(Win32::INVALID_FUNCTION | Win32::NOT_SUPPORTED) => {
            number_of(volume)?.into_iter().collect()
        }
        Err(error) => return Err(error),
    };
    disks.sort_unstable();
    disks.dedup();
    Ok(disks)
}

/// The disk that a device is, if it is one.
fn number_of(device: &dyn Device) -> Result<Option<Disk>, Win32> {
    // STORAGE_DEVICE_NUMBER: DeviceType, DeviceNumber, PartitionNumber.
    let mut answer = [0; 12];
    device.control(GET_DEVICE_NUMBER, &[], &mut answer)?;
    let is_disk = number(&answer, 0) == DEVICE_DISK;
    Ok(is_disk.then(|| Disk(number(&answer, 4))))
}

/// The disks that are there, in their order. One that does not answer is gone by now.
pub fn present(machine: &dyn Machine) -> Result<Vec<(Disk, Node)>, Failure> {
    let nodes = machine.nodes().map_err(Failure::of("the list of disks"))?;
    let mut disks: Vec<_> = nodes
        .into_iter()
        .filter_map(|node| {
            let device = machine.open(node.path.as_ref()?, Access::Ask).ok()?;
            let disk = number_of(&*device).ok()??;
            Some((disk, node))
        })
        .collect();
    disks.sort_by_key(|(disk, _)| *disk);
    Ok(disks)
}

impl Node {
    /// True of the pseudo-disk that MPIO builds over the paths to one unit.
    pub(crate) fn is_mpio(&self) -> bool {
        let id = self.instance.get(..5).unwrap_or_default();
        id.eq_ignore_ascii_case(r"MPIO\")
    }

    /// Its properties.
    pub(crate) fn properties(&self) -> Key {
        Key::Device(self.instance.clone())
    }

    /// Its hardware key.
    pub(crate) fn hardware_key(&self) -> Key {
        Key::Hardware(self.instance.clone())
    }
}
