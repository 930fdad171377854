//! `install` and `uninstall`: puts the filter into the disks' stacks, and takes exactly that back.
//!
//! The order is what keeps a machine bootable. The file comes first, then the service, then the proof that Windows loads
//! it, and only then an entry in a list of filters; the other way round when they go. What one step relies on is on the
//! disk before the next begins. So whatever interrupts it, a failure or the power, no stack names a filter that does not
//! load.

use std::fmt;

use serde_json::json;

use crate::arguments::Install;
use crate::disk::{self, Disk};
use crate::filters::{self, POSITIONS, key_of, names_filter};
use crate::machine::{Hive, Key, Machine, Node, Removed, Value, Win32, kind};
use crate::record::{Change, Record};
use crate::system_disks::SystemDisks;
use crate::{Ends, Exit, FILTER, Failure, Output, elevated, multi_string, package};

/// One step of `install`.
#[derive(Debug)]
enum Step {
    /// A change that the record keeps.
    Make(Change),
    /// Has Windows load the driver: it can, and the image is signed as this Windows wants it.
    Prove,
}

impl Step {
    /// What it is, in words.
    fn told(&self, machine: &dyn Machine) -> String {
        match self {
            Self::Make(Change::Package) => {
                format!(
                    r"install {}\{} with pnputil",
                    machine.package(),
                    package::INF
                )
            }
            Self::Make(Change::File) => {
                format!("copy {} to {}", ours(machine), installed(machine))
            }
            Self::Make(Change::Service) => format!("make the service {FILTER}, started at boot"),
            Self::Make(change @ Change::Entry { .. }) => format!("add {FILTER} to the {change}"),
            Self::Prove => format!("start the service {FILTER}, to see that Windows loads it"),
        }
    }
}

/// Carries out `resvctl install`.
pub fn install(machine: &dyn Machine, wanted: &Install, out: &mut Output<'_>) -> Ends {
    if !wanted.dry_run {
        elevated(machine)?;
    }
    let plan = if wanted.disk.is_empty() && !wanted.class && !wanted.all {
        plan_package(machine, wanted)?
    } else {
        plan_entries(machine, wanted, out)?
    };
    let steps: Vec<String> = plan.iter().map(|step| step.told(machine)).collect();
    let report = json!({ "steps": steps, "dry_run": wanted.dry_run, "restart": !plan.is_empty() });
    if plan.is_empty() {
        out.line("all of it is there already; nothing was changed")?;
    } else if wanted.dry_run {
        steps
            .iter()
            .try_for_each(|step| out.line(format_args!("would {step}")))?;
    } else {
        carry_out(machine, &plan, out)?;
        out.line("A disk gets the filter when it starts the next time: restart Windows.")?;
        if !wanted.upper {
            out.line(
                "Below disk.sys: a handle's RESERVE is served by disk.sys (see `resvctl help install`).",
            )?;
        }
    }
    out.report(&report)?;
    Ok(Exit::Good)
}

/// Takes the steps; if one fails, takes back those that were taken, the last one first.
fn carry_out(machine: &dyn Machine, plan: &[Step], out: &mut Output<'_>) -> Result<(), Failure> {
    let mut made = Vec::new();
    for step in plan {
        // Where nobody reads that the machine changes it does not.
        let told = out.line(step.told(machine));
        let taken = told.and_then(|()| match step {
            Step::Make(change) => {
                made.push(change);
                make(machine, change)
            }
            Step::Prove => prove(machine),
        });
        if let Err(failure) = taken {
            return Err(undo(machine, &made, failure));
        }
    }
    Ok(())
}

/// Takes changes back after a failure, and adds to it what came of that. What can't be taken back keeps what it relies
/// on: service and file stay as long as an entry does.
fn undo(machine: &dyn Machine, made: &[&Change], failure: Failure) -> Failure {
    if made.is_empty() {
        return failure.and("nothing was changed");
    }
    let record = Record(machine);
    for (left, change) in made.iter().enumerate().rev() {
        let undone = take_back(machine, change).and_then(|_| record.remove(change));
        if let Err(why) = undone {
            let left: Vec<String> = made[..=left].iter().map(ToString::to_string).collect();
            return failure
                .and(format_args!("what was done could not be taken back: {why}"))
                .and(format_args!("left: {}", left.join(", ")))
                .and("`resvctl uninstall` takes it back")
                .detail(&json!({ "left": left }));
        }
    }
    failure
        .and("what was done is taken back")
        .detail(&json!({ "left": [] }))
}

/// resvflt.sys of the package.
fn ours(machine: &dyn Machine) -> String {
    format!(r"{}\{FILTER}.sys", machine.package())
}

/// resvflt.sys where the service has it.
fn installed(machine: &dyn Machine) -> String {
    format!(r"{}\drivers\{FILTER}.sys", machine.system())
}

/// resvflt.sys while it is copied: on the same volume, so that it takes the place of another in one step.
fn incoming(machine: &dyn Machine) -> String {
    format!(r"{}\drivers\{FILTER}.new", machine.system())
}

fn plan_package(machine: &dyn Machine, wanted: &Install) -> Result<Vec<Step>, Failure> {
    if machine.build() < package::ADD_FILTER_BUILD || wanted.upper {
        let why = if wanted.upper {
            "the package puts the filter below disk.sys"
        } else {
            "this Windows is older than 10 1903 and Server 2022, and its packages can't add a filter"
        };
        let failure = Failure::new(format!("{why}: name the disks, or say --all or --class"));
        return Err(failure.exit(Exit::Usage));
    }
    let identity = package::ours(machine)?;
    spare_all(machine, wanted.force)?;
    let there = package::is_there(machine, &identity)?;
    Ok(if there && !Record(machine).has(&Change::Package)? {
        Vec::new()
    } else {
        vec![Step::Make(Change::Package)]
    })
}

/// What takes every disk takes those that Windows needs.
fn spare_all(machine: &dyn Machine, force: bool) -> Result<(), Failure> {
    if force {
        return Ok(());
    }
    let spared = SystemDisks::find(machine).spare_all();
    spared.map_err(|failure| failure.and("`resvctl install --all` takes every other disk"))
}

fn plan_entries(
    machine: &dyn Machine,
    wanted: &Install,
    out: &mut Output<'_>,
) -> Result<Vec<Step>, Failure> {
    let list = POSITIONS[usize::from(wanted.upper)];
    let devices = if wanted.class {
        spare_all(machine, wanted.force)?;
        vec![None]
    } else if wanted.all {
        others(machine, out)?
    } else {
        chosen(machine, wanted)?
    };
    let named = filters::of_disks(machine)?;
    let mut plan = plan_service(machine, &named, wanted.force)?;
    let mut entries = Vec::new();
    for device in devices {
        let entry = Change::Entry { list, device };
        check_list(machine, &entry, &named)?;
        if !named.contains(&entry) {
            entries.push(Step::Make(entry));
        }
    }
    if !entries.is_empty() {
        plan.push(Step::Prove);
    }
    plan.extend(entries);
    Ok(plan)
}

/// The disks that the command line names.
fn chosen(machine: &dyn Machine, wanted: &Install) -> Result<Vec<Option<String>>, Failure> {
    let (mut disks, mut devices) = (Vec::new(), Vec::new());
    for name in &wanted.disk {
        let disk = Disk::named(machine, name)?;
        let Some(node) = disk.node(machine)? else {
            return Err(disk.failed(Win32::FILE_NOT_FOUND));
        };
        if node.is_mpio() {
            let failure = Failure::new(format!("{disk}: a disk of MPIO's"));
            return Err(
                failure.and("the filter leaves it alone: a SCSI-2 reservation belongs to one path")
            );
        }
        if !disks.contains(&disk) {
            disks.push(disk);
            devices.push(Some(node.instance));
        }
    }
    if !wanted.force {
        SystemDisks::find(machine).spare(&disks)?;
    }
    Ok(devices)
}

/// Every disk that is there, but for those that Windows itself needs and MPIO's.
fn others(machine: &dyn Machine, out: &mut Output<'_>) -> Result<Vec<Option<String>>, Failure> {
    let needed = SystemDisks::find(machine);
    needed.told()?;
    let mut devices = Vec::new();
    for (disk, Node { instance, .. }) in disk::present(machine)?
        .into_iter()
        .filter(|(_, node)| !node.is_mpio())
    {
        if needed.uses(disk).is_empty() {
            devices.push(Some(instance));
        } else {
            out.line(format_args!("left out: {}", needed.says(disk)))?;
        }
    }
    if devices.is_empty() {
        return Err(Failure::new("there is no other disk"));
    }
    Ok(devices)
}

/// Refuses an entry that its list can't take.
fn check_list(machine: &dyn Machine, entry: &Change, named: &[Change]) -> Result<(), Failure> {
    let Change::Entry { list, device } = entry else {
        return Ok(());
    };
    let in_its_stacks = |other: &&Change| match other {
        Change::Entry { device: of, .. } => of.is_none() || device.is_none() || of == device,
        _ => false,
    };
    let mut others = named.iter().filter(|other| *other != entry);
    if let Some(other) = others.find(in_its_stacks) {
        let failure = Failure::new(format!("the {other} has {FILTER} already"));
        return Err(
            failure.and("a stack takes it once: uninstall, then install it where it shall be")
        );
    }
    let value = machine.value(&key_of(device.as_ref()), list);
    let value = value.map_err(Failure::of(entry))?;
    if value.is_some_and(|value| value.kind != kind::MULTI_SZ) {
        return Err(Failure::new(format!(
            "{entry}: not a REG_MULTI_SZ, so it is left as it is"
        )));
    }
    Ok(())
}

fn plan_service(
    machine: &dyn Machine,
    named: &[Change],
    force: bool,
) -> Result<Vec<Step>, Failure> {
    let (from, to) = (ours(machine), installed(machine));
    let Some(image) = machine.read_file(&from).map_err(Failure::of(&from))? else {
        return Err(Failure::new(format!("{from} is not there"))
            .and("run resvctl.exe from the package's folder"));
    };
    if !force && !is_signed(&image) {
        let failure = Failure::new(format!("{from} has no signature in itself"));
        return Err(failure
            .and("a catalog may do for its start now, and not for a boot-start driver while Windows boots")
            .and("sign it; --force installs it as it is"));
    }
    let record = Record(machine);
    let mut plan = Vec::new();
    let there = machine.read_file(&to).map_err(Failure::of(&to))?;
    if there.as_ref() != Some(&image) {
        if there.is_some() && !record.has(&Change::File)? {
            return Err(Failure::new(format!(
                "{to} is another version, which resvctl did not put there"
            )));
        }
        // The image that is named is loaded from the file at the next start: it must be the one that was proved.
        if !named.is_empty() || machine.is_loaded().map_err(Failure::of("the service"))? {
            let failure = Failure::new(format!("{to} is another version, and in use"));
            return Err(failure
                .and("to upgrade: uninstall with resvctl, restart Windows, and install anew"));
        }
        plan.push(Step::Make(Change::File));
    }
    match machine.has_service() {
        Ok(false) => plan.push(Step::Make(Change::Service)),
        Ok(true) if record.has(&Change::Service)? => {}
        Ok(true) => {
            let failure = Failure::new(format!(
                "there is a service {FILTER} that resvctl did not make"
            ));
            return Err(
                failure.and("if it is a driver package's, `pnputil /enum-drivers` shows that")
            );
        }
        Err(Win32::SERVICE_MARKED_FOR_DELETE) => {
            let failure = Failure::new(format!(
                "the service {FILTER} goes when Windows starts the next time"
            ));
            return Err(failure.and("restart Windows, then install"));
        }
        Err(error) => return Err(Failure::of("the service")(error)),
    }
    Ok(plan)
}

/// True of a PE32+ image with a certificate table, whatever is in it (Microsoft's page "PE Format").
fn is_signed(image: &[u8]) -> bool {
    let number = |at: usize| {
        let bytes = image.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize)
    };
    // The file's address of "PE\0\0"; behind that and the file header's 20 bytes is the optional header, whose directories
    // begin at 112. The fifth is the certificates', an address and a size.
    let header = number(0x3C);
    let directory = header.saturating_add(4 + 20 + 112 + 4 * 8);
    image.starts_with(b"MZ")
        && number(header) == 0x4550
        && number(directory) > 0
        && number(directory + 4) > 0
}

/// Makes one change, having written it down; it is on the disk when this returns.
fn make(machine: &dyn Machine, change: &Change) -> Result<(), Failure> {
    let record = Record(machine);
    let failed = || Failure::of(change);
    match change {
        Change::Package => {
            let identity = package::ours(machine)?;
            record.add(change, Some(&package::recorded(&identity)))?;
            package::add(machine)
        }
        Change::File => {
            record.add(change, None)?;
            let incoming = incoming(machine);
            let copied = machine.copy_file(&ours(machine), &incoming);
            copied.map_err(failed())?;
            let moved = machine.move_file(&incoming, &installed(machine));
            moved.map_err(failed())
        }
        Change::Service => {
            record.add(change, None)?;
            let made =
                machine.create_service(&format!(r"\SystemRoot\System32\drivers\{FILTER}.sys"));
            made.map_err(failed())?;
            flush(machine, change)
        }
        Change::Entry { list, device } => {
            let key = key_of(device.as_ref());
            let before = machine.value(&key, list).map_err(failed())?;
            record.add(change, before.as_ref())?;
            let after = with_filter(before.as_ref());
            let set = machine.set_value(&key, list, Some(&after));
            set.map_err(failed())?;
            flush(machine, change)
        }
    }
}

/// Windows loads the driver as it will at boot, or it is loaded already: from the file that the service names, which
/// `plan_service` holds to be the package's.
fn prove(machine: &dyn Machine) -> Result<(), Failure> {
    machine.start_service().map_err(|error| {
        let failure = Failure::of(format_args!("the service {FILTER} does not start"))(error);
        failure.and("no disk names it; on Windows' start it would not have loaded either")
    })
}

fn flush(machine: &dyn Machine, what: impl fmt::Display) -> Result<(), Failure> {
    machine
        .flush(Hive::System)
        .map_err(Failure::of(format_args!("{what}, to be flushed")))
}

fn with_filter(before: Option<&Value>) -> Value {
    let data = before.map_or(&[][..], |before| &before.data);
    Value {
        kind: kind::MULTI_SZ,
        data: multi_string::with(data, FILTER),
    }
}

/// Carries out `resvctl uninstall`.
pub fn uninstall(machine: &dyn Machine, dry_run: bool, out: &mut Output<'_>) -> Ends {
    if !dry_run {
        elevated(machine)?;
    }
    let record = Record(machine);
    let changes = record.changes()?;
    if changes.is_empty() {
        out.line("resvctl has installed nothing here")?;
    }
    let mut taken = Vec::new();
    for change in changes.iter().rev() {
        if dry_run {
            out.line(format_args!("would take back: {change}"))?;
            taken.push(json!({ "change": change }));
            continue;
        }
        let done = take_back(machine, change)?;
        record.remove(change)?;
        out.line(format_args!("{change}: {done}"))?;
        taken.push(json!({ "change": change, "done": done }));
    }
    let restart = !dry_run && !changes.is_empty();
    if restart {
        out.line(
            "A disk that runs now loses the filter when it starts the next time: restart Windows.",
        )?;
    } else if !dry_run {
        // What an interrupted run may have left of it.
        record.end()?;
    }
    out.report(&json!({ "taken_back": taken, "dry_run": dry_run, "restart": restart }))?;
    Ok(Exit::Good)
}

/// Takes one change back, also half of one; what came of it, which is on the disk when this returns.
fn take_back(machine: &dyn Machine, change: &Change) -> Result<String, Failure> {
    let failed = || Failure::of(change);
    Ok(match change {
        Change::Package => {
            unnamed(machine, |place| !place.by_package)?;
            let deleted = package::delete(machine)?;
            if deleted.is_empty() {
                "is not there".into()
            } else {
                format!("deleted {}", deleted.join(", "))
            }
        }
        Change::File => {
            unnamed(machine, |_| true)?;
            let removed = machine.remove_file(&incoming(machine)).map_err(failed())?;
            match (
                removed,
                machine.remove_file(&installed(machine)).map_err(failed())?,
            ) {
                (Removed::Now, Removed::Now) => "deleted".into(),
                _ => "in use; deleted when Windows starts the next time".into(),
            }
        }
        Change::Service => {
            unnamed(machine, |_| true)?;
            machine.delete_service().map_err(failed())?;
            flush(machine, change)?;
            "deleted".into()
        }
        Change::Entry { list, device } => {
            take_entry_back(machine, change, list, &key_of(device.as_ref()))?
        }
    })
}

/// Refuses to go on while a place that counts names the filter.
fn unnamed(machine: &dyn Machine, counts: impl Fn(&filters::Place) -> bool) -> Result<(), Failure> {
    let places = filters::everywhere(machine)?;
    let left: Vec<_> = places.into_iter().filter(counts).collect();
    if left.is_empty() {
        return Ok(());
    }
    let mut failure = Failure::new(format!(
        "the service and its file stay: {FILTER} is still named, which resvctl did not do"
    ));
    for place in &left {
        failure = failure.and(place);
    }
    let named: Vec<String> = left.iter().map(ToString::to_string).collect();
    Err(failure
        .and("take it out of each, then uninstall again (docs/recover.md, \"Take the filter out\")")
        .detail(&json!({ "named": named })))
}

/// The list as it was, or as others have made it since but without our entry.
fn take_entry_back(
    machine: &dyn Machine,
    change: &Change,
    list: &str,
    key: &Key,
) -> Result<String, Failure> {
    let now = match machine.value(key, list) {
        Ok(now) => now,
        Err(Win32::NO_SUCH_DEVINST) => return Ok("the device is known no more".into()),
        Err(error) => return Err(Failure::of(change)(error)),
    };
    let before = Record(machine).before(change)?;
    let set = |value: Option<&Value>| {
        let set = machine.set_value(key, list, value);
        set.map_err(Failure::of(change))?;
        flush(machine, change)
    };
    let Some(now) = now.filter(names_filter) else {
        // It may have been taken out by a run that the power's loss would undo.
        flush(machine, change)?;
        return Ok(format!("{FILTER} is not in it"));
    };
    if now == with_filter(before.as_ref()) {
        set(before.as_ref())?;
        return Ok("as it was".into());
    }
    let rest = Value {
        data: multi_string::without(&now.data, FILTER),
        ..now
    };
    let others = multi_string::strings(&rest.data).join(", ");
    let nothing = others.is_empty() && before.is_none();
    set((!nothing).then_some(&rest))?;
    Ok(format!(
        "was changed by others since; {FILTER} taken out, what is left: {others}"
    ))
}
