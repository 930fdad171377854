//! `list`: the disks, and where the filter is in each one's stack.

use std::io::Write;

use crate::disk::{self, Disk};
use crate::install::{CLASS, POSITIONS};
use crate::machine::{Answer, Key, Machine, Node, Value};
use crate::{ENABLED, Ends, Exit, FILTER, Failure, multi_string};

pub fn list(machine: &dyn Machine, out: &mut dyn Write) -> Ends {
    let loaded = machine.is_loaded().map_err(Failure::of("the service"))?;
    writeln!(
        out,
        "resvflt.sys is {}",
        if loaded { "loaded" } else { "not loaded" }
    )?;
    let disks = disk::present(machine)?;
    for (disk, node) in &disks {
        writeln!(
            out,
            "{:<15}  {}",
            disk.to_string(),
            place(machine, *disk, node)?
        )?;
        let name = machine.value(&node.properties(), "FriendlyName");
        let name = name.ok().flatten().map(|name| name.text());
        let name = name.map(|name| format!("{name}, ")).unwrap_or_default();
        writeln!(out, "{:<15}  {name}{}", "", node.instance)?;
    }
    if disks.is_empty() {
        writeln!(out, "no disk is there")?;
    }
    Ok(Exit::Good)
}

/// Where the filter is in this disk's stack, and what puts it there when the stack is built the next time.
fn place(machine: &dyn Machine, disk: Disk, node: &Node) -> Result<String, Failure> {
    let failed = |error| disk.failed(error);
    let stack = machine.stack(&node.instance).map_err(failed)?;
    let at = |name: &str| {
        let name = format!(r"\Driver\{name}");
        stack
            .iter()
            .position(|driver| driver.eq_ignore_ascii_case(&name))
    };
    let now = match (at(FILTER), at("disk")) {
        _ if stack.is_empty() => "its stack is not told",
        (Some(filter), Some(disk)) if filter < disk => "filter above disk.sys",
        (Some(_), _) => "filter below disk.sys",
        (None, _) => "no filter",
    };
    let mut notes = named_by(machine, node).map_err(failed)?;
    if notes.is_empty() && at(FILTER).is_some() {
        notes.push("by a driver package".into());
    }
    if node.is_mpio() {
        notes.push("a disk of MPIO's: left alone".into());
    } else if machine
        .value(&node.hardware_key(), ENABLED)
        .map_err(failed)?
        == Some(Value::dword(0))
    {
        notes.push(format!("excluded ({ENABLED} = 0)"));
    }
    Ok([vec![now.into()], notes].concat().join("; "))
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
            if value.is_some_and(|value| multi_string::contains(&value.data, FILTER)) {
                named.push(format!("named by {whose} {list}"));
            }
        }
    }
    Ok(named)
}
