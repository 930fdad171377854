//! `list`: the disks, and where the filter is in each one's stack.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::disk::{self, Disk};
use crate::filters::{CLASS, POSITIONS, names_filter};
use crate::machine::{Answer, Key, Machine, Node, Value};
use crate::system_disks::{SystemDisks, Use};
use crate::{ENABLED, Ends, Exit, FILTER, Failure, Output};

/// Where the filter is in a stack.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    Above,
    Below,
    None,
    /// Windows does not say what is in the stack.
    Untold,
}

/// One disk.
#[derive(Serialize)]
struct Listed {
    disk: Disk,
    name: Option<String>,
    instance: String,
    serial: Option<String>,
    /// Relative to disk.sys, now.
    filter: Place,
    /// What puts it there when the stack is built the next time.
    named_by: Vec<String>,
    mpio: bool,
    excluded: bool,
    needed_for: Vec<Use>,
}

pub fn list(machine: &dyn Machine, out: &mut Output<'_>) -> Ends {
    let loaded = machine.is_loaded().map_err(Failure::of("the service"))?;
    let not = if loaded { "" } else { "not " };
    out.line(format_args!("resvflt.sys is {not}loaded"))?;
    let needed = SystemDisks::find(machine);
    let mut disks = Vec::new();
    for (disk, node) in disk::present(machine)? {
        let listed = look(machine, &needed, disk, node).map_err(|error| disk.failed(error))?;
        for line in told(&listed) {
            out.line(line)?;
        }
        disks.push(listed);
    }
    if disks.is_empty() {
        out.line("no disk is there")?;
    }
    out.report(&json!({ "loaded": loaded, "disks": disks }))?;
    Ok(Exit::Good)
}

fn look(machine: &dyn Machine, needed: &SystemDisks, disk: Disk, node: Node) -> Answer<Listed> {
    let name = machine.value(&node.properties(), "FriendlyName");
    let enabled = machine.value(&node.hardware_key(), ENABLED)?;
    let mut named_by = named_by(machine, &node)?;
    let filter = place(&machine.stack(&node.instance)?);
    if named_by.is_empty() && matches!(filter, Place::Above | Place::Below) {
        named_by.push("by a driver package".into());
    }
    let serial = disk.descriptor(machine);
    Ok(Listed {
        disk,
        name: name.ok().flatten().map(|name| name.text()),
        serial: serial.and_then(|told| told.serial_number()),
        filter,
        named_by,
        mpio: node.is_mpio(),
        excluded: enabled == Some(Value::dword(0)),
        needed_for: needed.uses(disk),
        instance: node.instance,
    })
}

/// Where the filter is in a stack, told from the top down.
pub fn place(stack: &[String]) -> Place {
    let at = |name: &str| {
        let name = format!(r"\Driver\{name}");
        stack
            .iter()
            .position(|driver| driver.eq_ignore_ascii_case(&name))
    };
    match (at(FILTER), at("disk")) {
        _ if stack.is_empty() => Place::Untold,
        (Some(filter), Some(disk)) if filter < disk => Place::Above,
        (Some(_), _) => Place::Below,
        (None, _) => Place::None,
    }
}

/// Two lines for a person.
fn told(listed: &Listed) -> [String; 2] {
    let mut notes = vec![
        match listed.filter {
            Place::Above => "filter above disk.sys",
            Place::Below => "filter below disk.sys",
            Place::None => "no filter",
            Place::Untold => "its stack is not told",
        }
        .to_owned(),
    ];
    notes.extend(listed.named_by.iter().cloned());
    if listed.mpio {
        notes.push("a disk of MPIO's: left alone".into());
    } else if listed.excluded {
        notes.push(format!("excluded ({ENABLED} = 0)"));
    }
    if !listed.needed_for.is_empty() {
        let uses: Vec<String> = listed.needed_for.iter().map(Use::to_string).collect();
        notes.push(format!("Windows' own ({})", uses.join(", ")));
    }
    let name = listed.name.iter().map(|name| format!("{name}, "));
    let serial = listed
        .serial
        .iter()
        .map(|serial| format!(", serial:{serial}"));
    let device: String = name
        .chain([listed.instance.clone()])
        .chain(serial)
        .collect();
    [
        format!("{:<15}  {}", listed.disk.to_string(), notes.join("; ")),
        format!("{:<15}  {device}", ""),
    ]
}

/// The lists of filters in the registry that name the filter for this disk.
fn named_by(machine: &dyn Machine, node: &Node) -> Answer<Vec<String>> {
    let mut named = Vec::new();
    for (key, whose) in [
        (node.properties(), "this disk's"),
        (Key::Machine(CLASS.into()), "the disk class's"),
    ] {
        for list in POSITIONS {
            let value = machine.value(&key, list)?;
            if value.is_some_and(|value| names_filter(&value)) {
                named.push(format!("named by {whose} {list}"));
            }
        }
    }
    Ok(named)
}
