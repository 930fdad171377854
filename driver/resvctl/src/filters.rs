//! Where the registry names the filter for a stack: every place, in every control set, whoever wrote it there.

use std::fmt;

use crate::machine::{Answer, Key, Machine, Value, Win32};
use crate::record::Change;
use crate::{FILTER, Failure, multi_string};

/// The setup class of disks, GUID_DEVCLASS_DISKDRIVE (devguid.h).
pub const CLASS: &str =
    r"SYSTEM\CurrentControlSet\Control\Class\{4d36e967-e325-11ce-bfc1-08002be10318}";
/// The lists of filters below and above the function driver, which is disk.sys.
pub const POSITIONS: [&str; 2] = ["LowerFilters", "UpperFilters"];

/// Below a device's or a class's key: what AddFilter of an INF wrote.
const BY_PACKAGE: &str = "Filters";
/// Where Windows' setup keeps filters that it moves to the next Windows.
const FIRST_BOOT: &str = r"SYSTEM\Setup\FirstBoot\Filters";
/// No key of filters is as deep.
const DEPTH: usize = 8;

/// A place in the registry that names the filter; it displays as its path below `HKLM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    path: String,
    /// A driver package wrote it, and Windows takes it away with that.
    pub by_package: bool,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, r"HKLM\{}", self.path)
    }
}

/// All of them. A key that can't be read is an error: it might name the filter.
pub fn everywhere(machine: &dyn Machine) -> Result<Vec<Place>, Failure> {
    let mut places = Vec::new();
    let sets = subkeys(machine, "SYSTEM")?;
    let sets = sets.iter().filter(|name| is_control_set(name));
    for set in sets {
        for class in below(machine, &format!(r"SYSTEM\{set}\Control\Class"), 1)? {
            stack(machine, &class, &mut places)?;
        }
        for device in below(machine, &format!(r"SYSTEM\{set}\Enum"), 3)? {
            stack(machine, &device, &mut places)?;
        }
    }
    tree(machine, FIRST_BOOT, false, DEPTH, &mut places)?;
    Ok(places)
}

/// The lists of the running control set that name the filter, for disks plugged in or not, and for their class.
pub fn of_disks(machine: &dyn Machine) -> Result<Vec<Change>, Failure> {
    let nodes = machine.nodes().map_err(Failure::of("the list of disks"))?;
    let devices = nodes.into_iter().map(|node| Some(node.instance));
    let mut named = Vec::new();
    for device in devices.chain([None]) {
        for list in POSITIONS {
            let value = match machine.value(&key_of(device.as_ref()), list) {
                Err(Win32::NO_SUCH_DEVINST) => None,
                value => value.map_err(Failure::of(list))?,
            };
            if value.is_some_and(|value| names_filter(&value)) {
                let device = device.clone();
                named.push(Change::Entry { list, device });
            }
        }
    }
    Ok(named)
}

/// The key with the lists of a device, or of the class of disks.
pub fn key_of(device: Option<&String>) -> Key {
    device.map_or_else(
        || Key::Machine(CLASS.into()),
        |device| Key::Device(device.clone()),
    )
}

/// True of a list that names the filter. Whatever its type is: Windows may read it as a list.
pub fn names_filter(value: &Value) -> bool {
    multi_string::contains(&value.data, FILTER)
}

fn is_control_set(name: &str) -> bool {
    let set = name.split_at_checked("ControlSet".len());
    set.is_some_and(|(head, number)| {
        head.eq_ignore_ascii_case("ControlSet")
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

fn read<T>(path: &str, answer: Answer<T>) -> Result<T, Failure> {
    answer.map_err(Failure::of(format_args!(r"HKLM\{path}")))
}

fn subkeys(machine: &dyn Machine, path: &str) -> Result<Vec<String>, Failure> {
    read(path, machine.subkeys(path))
}

/// The keys that are `depth` below a key.
fn below(machine: &dyn Machine, path: &str, depth: usize) -> Result<Vec<String>, Failure> {
    let mut paths = vec![path.to_owned()];
    for _ in 0..depth {
        let mut next = Vec::new();
        for path in paths {
            let names = subkeys(machine, &path)?;
            next.extend(names.iter().map(|name| format!(r"{path}\{name}")));
        }
        paths = next;
    }
    Ok(paths)
}

/// The filters of a device or a class: its two lists, and what packages added.
fn stack(machine: &dyn Machine, path: &str, places: &mut Vec<Place>) -> Result<(), Failure> {
    for (name, value) in read(path, machine.values(path))? {
        let is_list = POSITIONS.iter().any(|list| name.eq_ignore_ascii_case(list));
        if is_list && names_filter(&value) {
            places.push(Place {
                path: format!(r"{path}\{name}"),
                by_package: false,
            });
        }
    }
    tree(
        machine,
        &format!(r"{path}\{BY_PACKAGE}"),
        true,
        DEPTH,
        places,
    )
}

/// Whatever names the filter below a key of filters: a key, a value, or a string in one.
fn tree(
    machine: &dyn Machine,
    path: &str,
    by_package: bool,
    depth: usize,
    places: &mut Vec<Place>,
) -> Result<(), Failure> {
    let Some(depth) = depth.checked_sub(1) else {
        return Ok(());
    };
    for (name, value) in read(path, machine.values(path))? {
        if name.eq_ignore_ascii_case(FILTER) || names_filter(&value) {
            places.push(Place {
                path: format!(r"{path}\{name}"),
                by_package,
            });
        }
    }
    for name in subkeys(machine, path)? {
        let key = format!(r"{path}\{name}");
        if name.eq_ignore_ascii_case(FILTER) {
            places.push(Place {
                path: key.clone(),
                by_package,
            });
        }
        tree(machine, &key, by_package, depth, places)?;
    }
    Ok(())
}
