//! The disks that Windows itself needs: a filter that keeps one of them from starting keeps Windows from starting, from
//! paging or from writing a dump.
//!
//! "Boot" is what the system really booted from. Where the boot volume is a file (native VHD boot), that is the virtual
//! disk and the disks below the file, and so on down. What can't be told counts as needed: the node is asked for `--force`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::Failure;
use crate::disk::{self, Disk};
use crate::machine::{Access, Key, Machine, Win32};
use crate::multi_string;

// STORAGE_BUS_TYPE (ntddstor.h). Windows 7 and Server 2008 R2 called a VHD plainly virtual.
pub const VIRTUAL: u32 = 14;
pub const FILE_BACKED_VIRTUAL: u32 = 15;
const SPACES: u32 = 16;

/// The kernel writes it at each start: the partition that the boot manager was on.
pub const SETUP: &str = r"SYSTEM\Setup";
pub const SYSTEM_PARTITION: &str = "SystemPartition";
const MEMORY_MANAGEMENT: &str =
    r"SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management";
const CRASH_CONTROL: &str = r"SYSTEM\CurrentControlSet\Control\CrashControl";

/// What Windows needs a disk for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// The volume of Windows.
    Boot,
    /// The partition of the boot manager.
    System,
    /// A page file, of now or of the next start.
    Paging,
    /// A file that a crash dump goes to.
    Dump,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boot => "boot",
            Self::System => "system",
            Self::Paging => "paging",
            Self::Dump => "dump",
        })
    }
}

/// The disks that Windows itself needs.
#[derive(Default)]
pub struct SystemDisks {
    disks: BTreeMap<Disk, BTreeSet<Use>>,
    /// What could not be told, in words.
    untold: Vec<String>,
}

impl SystemDisks {
    /// Looks for them.
    pub fn find(machine: &dyn Machine) -> Self {
        let mut found = Self::default();
        let windows = machine.system().chars().take(2).collect::<String>();
        found.volume(machine, &format!(r"\\?\{windows}"), Use::Boot, true);
        match text(machine, SETUP, SYSTEM_PARTITION)[..] {
            [ref partition] if partition.starts_with('\\') => {
                let volume = format!(r"\\?\GLOBALROOT{partition}");
                found.volume(machine, &volume, Use::System, true);
            }
            _ => found.untold.push(format!(
                "the system's disk: HKLM\\{SETUP} has no SystemPartition"
            )),
        }
        for (key, name, of) in [
            (MEMORY_MANAGEMENT, "ExistingPageFiles", Use::Paging),
            (MEMORY_MANAGEMENT, "PagingFiles", Use::Paging),
            (CRASH_CONTROL, "DedicatedDumpFile", Use::Dump),
            (CRASH_CONTROL, "DumpFile", Use::Dump),
        ] {
            for file in text(machine, key, name) {
                found.file(machine, &windows, &file, of);
            }
        }
        // Without a file of its own a dump goes through the boot volume's page file.
        let boot: Vec<Disk> = found.of(Use::Boot).collect();
        for disk in boot {
            found.add(machine, disk, Use::Dump);
        }
        found
    }

    /// What Windows needs this disk for.
    pub fn uses(&self, disk: Disk) -> Vec<Use> {
        self.disks
            .get(&disk)
            .into_iter()
            .flatten()
            .copied()
            .collect()
    }

    fn of(&self, of: Use) -> impl Iterator<Item = Disk> + '_ {
        let disks = self
            .disks
            .iter()
            .filter(move |(_, uses)| uses.contains(&of));
        disks.map(|(disk, _)| *disk)
    }

    /// Refuses to take `disks` if one of them is needed, or if that can't be told.
    pub fn spare(&self, disks: &[Disk]) -> Result<(), Failure> {
        self.refuse(self.disks.keys().filter(|disk| disks.contains(disk)))
    }

    /// Refuses to take every disk: there always is one that Windows needs.
    pub fn spare_all(&self) -> Result<(), Failure> {
        self.refuse(self.disks.keys())
    }

    /// Refuses only if it can't be told which disks Windows needs.
    pub fn told(&self) -> Result<(), Failure> {
        self.refuse([].iter())
    }

    fn refuse<'a>(&self, taken: impl Iterator<Item = &'a Disk>) -> Result<(), Failure> {
        let hint = "a filter that does not load keeps Windows from starting; --force does it";
        self.unless_needed(taken)
            .map_err(|failure| failure.and(hint))
    }

    /// Refuses a disk that is needed, or of which that can't be told, whoever asks for it.
    pub fn leave(&self, disk: Disk) -> Result<(), Failure> {
        self.unless_needed(self.disks.keys().filter(|needed| **needed == disk))
    }

    fn unless_needed<'a>(&self, taken: impl Iterator<Item = &'a Disk>) -> Result<(), Failure> {
        let taken: Vec<String> = taken.map(|disk| self.says(*disk)).collect();
        if taken.is_empty() && self.untold.is_empty() {
            return Ok(());
        }
        let mut failure = Failure::new(if taken.is_empty() {
            "it is not told which disks Windows itself needs".into()
        } else {
            format!("Windows itself needs {}", taken.join(", "))
        });
        for untold in &self.untold {
            failure = failure.and(format_args!("not told: {untold}"));
        }
        Err(failure)
    }

    /// The disk with what it is needed for.
    pub fn says(&self, disk: Disk) -> String {
        let uses: Vec<String> = self.uses(disk).iter().map(Use::to_string).collect();
        format!("{disk} ({})", uses.join(", "))
    }

    /// A file in Windows' words: `C:\pagefile.sys 0 0`, `\??\C:\pagefile.sys`, `%SystemRoot%\MEMORY.DMP`.
    fn file(&mut self, machine: &dyn Machine, windows: &str, file: &str, of: Use) {
        let path = file.strip_prefix(r"\??\").unwrap_or(file);
        let path = path.to_ascii_lowercase();
        let letter = path.as_bytes();
        let volume = match (letter, path.split('\\').next()) {
            // Windows chooses where, and ExistingPageFiles tells what it chose.
            ([b'?', b':', ..] | [], _) => return,
            (_, Some("%systemroot%" | "%systemdrive%" | "%windir%")) => windows.into(),
            ([letter, b':', ..], _) if letter.is_ascii_alphabetic() => path[..2].into(),
            (_, Some(volume)) if volume.starts_with("volume{") => volume.into(),
            (_, Some("")) => {
                let device = path.split('\\').take(3).collect::<Vec<_>>().join(r"\");
                format!("GLOBALROOT{device}")
            }
            _ => {
                self.untold.push(format!("the disk of {file} ({of})"));
                return;
            }
        };
        self.volume(machine, &format!(r"\\?\{volume}"), of, false);
    }

    /// A volume; one that is not there is on no disk, unless it must be there.
    fn volume(&mut self, machine: &dyn Machine, volume: &str, of: Use, must: bool) {
        match disk::under(machine, volume) {
            Ok(disks) if disks.is_empty() => {
                self.untold.push(format!("the disk of {volume} ({of})"));
            }
            Ok(disks) => disks
                .into_iter()
                .for_each(|disk| self.add(machine, disk, of)),
            Err(Win32::FILE_NOT_FOUND | Win32::PATH_NOT_FOUND) if !must => {}
            Err(error) => self
                .untold
                .push(format!("the disk of {volume} ({of}): {error}")),
        }
    }

    /// A disk, and those below it.
    fn add(&mut self, machine: &dyn Machine, disk: Disk, of: Use) {
        if !self.disks.entry(disk).or_default().insert(of) {
            return;
        }
        let below = match disk.descriptor(machine).map(|told| told.bus_type()) {
            None => format!("what is below {disk} ({of})"),
            Some(SPACES) => format!("the disks of the storage space {disk} ({of})"),
            Some(FILE_BACKED_VIRTUAL | VIRTUAL) => {
                let device = machine.open(&disk.path(), Access::Ask);
                match device.and_then(|device| device.host_volumes()) {
                    Ok(volumes) if !volumes.is_empty() => {
                        for volume in volumes {
                            let volume = volume.strip_suffix('\\').unwrap_or(&volume);
                            self.volume(machine, volume, of, true);
                        }
                        return;
                    }
                    Ok(_) => format!("the file of the virtual disk {disk} ({of})"),
                    Err(error) => format!("the file of the virtual disk {disk} ({of}): {error}"),
                }
            }
            Some(_) => return,
        };
        self.untold.push(below);
    }
}

/// A string of the registry or several, none where it is not there.
fn text(machine: &dyn Machine, key: &str, name: &str) -> Vec<String> {
    let value = machine.value(&Key::Machine(key.into()), name);
    let data = value.ok().flatten().map(|value| value.data);
    data.map(|data| multi_string::strings(&data))
        .unwrap_or_default()
}
