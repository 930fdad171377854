//! Disks as a person names them, and what Windows has by that name.

use std::fmt;
use std::str::FromStr;

use crate::machine::{Access, Device, Key, Machine, Node, Win32};
use crate::{Exit, Failure};

/// IOCTL_STORAGE_GET_DEVICE_NUMBER (ntddstor.h).
const GET_DEVICE_NUMBER: u32 = 0x002D_1080;
/// IOCTL_VOLUME_GET_VOLUME_DISK_EXTENTS (ntddvol.h).
const GET_VOLUME_DISK_EXTENTS: u32 = 0x0056_0000;
/// FILE_DEVICE_DISK (wdm.h).
const DEVICE_DISK: u32 = 7;
/// sizeof(DISK_EXTENT), and where the first lies in VOLUME_DISK_EXTENTS (winioctl.h).
const EXTENT: usize = 24;
const FIRST_EXTENT: usize = 8;

/// What a person calls a disk: `1`, `PhysicalDrive1`, `\\.\PhysicalDrive1`, `D:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// By the number in PhysicalDrive1.
    Number(u32),
    /// By a volume on it.
    Letter(char),
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix(r"\\.\").unwrap_or(text);
        let plain = name.len() == text.len();
        let (head, tail) = name
            .split_at_checked("PhysicalDrive".len())
            .unwrap_or_default();
        let number = match head.eq_ignore_ascii_case("PhysicalDrive") {
            true => tail,
            false if plain => name,
            false => "",
        };
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        if let (true, Ok(number)) = (digits, number.parse()) {
            return Ok(Self::Number(number));
        }
        let volume = name.strip_suffix('\\').unwrap_or(name);
        match volume.as_bytes() {
            [letter, b':'] if letter.is_ascii_alphabetic() => {
                Ok(Self::Letter(letter.to_ascii_uppercase().into()))
            }
            _ => Err(
                r"a disk is 1, PhysicalDrive1, \\.\PhysicalDrive1 or a drive letter (D:)".into(),
            ),
        }
    }
}

/// A disk of this machine: it displays as PhysicalDrive1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Disk(pub u32);

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PhysicalDrive{}", self.0)
    }
}

impl Disk {
    /// The disk that has this name; a drive letter's volume must lie on one disk alone.
    pub fn named(machine: &dyn Machine, name: Name) -> Result<Self, Failure> {
        let letter = match name {
            Name::Number(number) => return Ok(Self(number)),
            Name::Letter(letter) => letter,
        };
        let failed = |error| Failure::new(format!("{letter}: {error}")).hint(error);
        let volume = machine.open(&format!(r"\\.\{letter}:"), Access::Ask);
        let disks = disks_of(&*volume.map_err(failed)?).map_err(failed)?;
        match disks[..] {
            [disk] => Ok(disk),
            [] => Err(Failure::new(format!("{letter}: is not on a disk"))),
            _ => {
                let all: Vec<String> = disks.iter().map(Self::to_string).collect();
                let all = all.join(", ");
                Err(Failure::new(format!(
                    "{letter}: is a volume on several disks, {all}: name each disk by itself"
                )))
            }
        }
    }

    /// Opens it.
    pub fn open(
        self,
        machine: &dyn Machine,
        access: Access,
    ) -> Result<Box<dyn Device + '_>, Failure> {
        machine
            .open(&format!(r"\\.\{self}"), access)
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
        Failure::new(format!("{self}: {error}"))
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
                    .and("its holder has to release it")
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
fn disks_of(volume: &dyn Device) -> Result<Vec<Disk>, Win32> {
    let mut extents = vec![0; FIRST_EXTENT + 64 * EXTENT];
    let mut disks: Vec<_> = match volume.control(GET_VOLUME_DISK_EXTENTS, &mut extents) {
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
    device.control(GET_DEVICE_NUMBER, &mut answer)?;
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
