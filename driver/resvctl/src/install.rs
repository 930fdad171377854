//! `install` and `uninstall`: puts the filter into the disks' stacks, and takes exactly that back.
//!
//! The order is what keeps a machine bootable. Service and file come first and an entry in a list of filters last, and
//! the other way round when they go: whatever interrupts it, no stack names a service that is not there.
//!
//! Each change is written down before it is made, under `HKLM\SOFTWARE\resvflt`: the registry, because it is what
//! is changed, so that a restored hive takes the record along, and because only administrators write there, which is
//! not so in ProgramData. `Changes` lists the changes in their order; a value by a change's name has what was there
//! before.

use std::fmt;
use std::io::Write;

use crate::arguments::Install;
use crate::disk::Disk;
use crate::machine::{Ended, Key, Machine, Node, Removed, Value, Win32, kind};
use crate::{Ends, Exit, FILTER, Failure, elevated, multi_string};

/// The setup class of disks, GUID_DEVCLASS_DISKDRIVE (devguid.h).
pub const CLASS: &str =
    r"SYSTEM\CurrentControlSet\Control\Class\{4d36e967-e325-11ce-bfc1-08002be10318}";
/// The lists of filters below and above the function driver, which is disk.sys.
pub const POSITIONS: [&str; 2] = ["LowerFilters", "UpperFilters"];

const RECORD: &str = r"SOFTWARE\resvflt";
const CHANGES: &str = "Changes";
const INF: &str = "resvflt.inf";

/// The first build whose INFs can add a filter: Windows 10 1903 (Microsoft's page "INF AddFilter Directive").
const ADD_FILTER_BUILD: u32 = 18362;

/// One thing that `install` changes; it displays as its name in the record.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    /// The driver package.
    Package,
    /// resvflt.sys among the system's drivers.
    File,
    /// The service.
    Service,
    /// An entry in a list of filters: of one device, or of the class.
    Entry {
        list: &'static str,
        device: Option<String>,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package => f.write_str("package"),
            Self::File => f.write_str("file"),
            Self::Service => f.write_str("service"),
            Self::Entry { list, device: None } => write!(f, "{list} of the class"),
            Self::Entry {
                list,
                device: Some(device),
            } => write!(f, "{list} of {device}"),
        }
    }
}

impl Change {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "package" => Some(Self::Package),
            "file" => Some(Self::File),
            "service" => Some(Self::Service),
            _ => {
                let (list, of) = name.split_once(" of ")?;
                let list = POSITIONS.into_iter().find(|position| *position == list)?;
                let device = (of != "the class").then(|| of.into());
                Some(Self::Entry { list, device })
            }
        }
    }
}

fn key_of(device: Option<&String>) -> Key {
    device.map_or_else(
        || Key::Machine(CLASS.into()),
        |device| Key::Device(device.clone()),
    )
}

/// What was changed, as the registry has it.
struct Record<'a>(&'a dyn Machine);

impl Record<'_> {
    fn key() -> Key {
        Key::Machine(RECORD.into())
    }

    fn failed(error: Win32) -> Failure {
        Failure::new(format!("the record of changes, HKLM\\{RECORD}: {error}"))
    }

    fn names(&self) -> Result<Vec<String>, Failure> {
        let changes = self.0.value(&Self::key(), CHANGES).map_err(Self::failed)?;
        Ok(changes
            .map(|changes| multi_string::strings(&changes.data))
            .unwrap_or_default())
    }

    fn has(&self, change: &Change) -> Result<bool, Failure> {
        Ok(self.names()?.contains(&change.to_string()))
    }

    fn before(&self, change: &Change) -> Result<Option<Value>, Failure> {
        self.0
            .value(&Self::key(), &change.to_string())
            .map_err(Self::failed)
    }

    fn set(&self, name: &str, value: Option<&Value>) -> Result<(), Failure> {
        self.0
            .set_value(&Self::key(), name, value)
            .map_err(Self::failed)
    }

    fn set_names(&self, names: &[String]) -> Result<(), Failure> {
        let data = multi_string::data(names.iter().map(String::as_str));
        self.set(
            CHANGES,
            Some(&Value {
                kind: kind::MULTI_SZ,
                data,
            }),
        )
    }

    /// Writes a change down that is about to be made.
    fn add(&self, change: &Change, before: Option<&Value>) -> Result<(), Failure> {
        self.set(&change.to_string(), before)?;
        let mut names = self.names()?;
        if !names.contains(&change.to_string()) {
            names.push(change.to_string());
            self.set_names(&names)?;
        }
        Ok(())
    }

    /// Forgets a change that was taken back.
    fn remove(&self, name: &str) -> Result<(), Failure> {
        let mut names = self.names()?;
        names.retain(|known| known != name);
        self.set_names(&names)?;
        self.set(name, None)
    }

    fn end(&self) -> Result<(), Failure> {
        self.0.delete_key(&Self::key()).map_err(Self::failed)
    }
}

/// Carries out `resvctl install`.
pub fn install(machine: &dyn Machine, wanted: &Install, out: &mut dyn Write) -> Ends {
    if !wanted.dry_run {
        elevated(machine)?;
    }
    let by_package = wanted.disk.is_empty() && !wanted.class;
    let plan = if by_package {
        if machine.build() < ADD_FILTER_BUILD || wanted.upper {
            let why = if wanted.upper {
                "the package puts the filter below disk.sys"
            } else {
                "this Windows is older than 10 1903 and Server 2022, and its packages can't add a filter"
            };
            let failure = Failure::new(format!("{why}: name the disks, or say --class"));
            return Err(failure.exit(Exit::Usage));
        }
        plan_package(machine)?
    } else {
        plan_entries(machine, wanted)?
    };
    if plan.is_empty() {
        writeln!(out, "all of it is there already; nothing was changed")?;
        return Ok(Exit::Good);
    }
    for change in &plan {
        let verb = if wanted.dry_run { "would " } else { "" };
        writeln!(out, "{verb}{}", told(machine, change))?;
        if !wanted.dry_run {
            make(machine, change)?;
        }
    }
    if wanted.dry_run {
        return Ok(Exit::Good);
    }
    writeln!(
        out,
        "A disk gets the filter when it starts the next time: restart Windows."
    )?;
    if !wanted.upper {
        writeln!(
            out,
            "Below disk.sys: a handle's RESERVE is served by disk.sys (see `resvctl help install`)."
        )?;
    }
    Ok(Exit::Good)
}

/// What a change is, in words.
fn told(machine: &dyn Machine, change: &Change) -> String {
    match change {
        Change::Package => format!(r"install {}\{INF} with pnputil", machine.package()),
        Change::File => format!("copy {} to {}", ours(machine), installed(machine)),
        Change::Service => format!("make the service {FILTER}, started at boot"),
        Change::Entry { .. } => format!("add {FILTER} to the {change}"),
    }
}

/// resvflt.sys of the package.
fn ours(machine: &dyn Machine) -> String {
    format!(r"{}\{FILTER}.sys", machine.package())
}

/// resvflt.sys where the service has it.
fn installed(machine: &dyn Machine) -> String {
    format!(r"{}\drivers\{FILTER}.sys", machine.system())
}

fn plan_package(machine: &dyn Machine) -> Result<Vec<Change>, Failure> {
    let inf = format!(r"{}\{INF}", machine.package());
    if machine
        .read_file(&inf)
        .map_err(Failure::of(&inf))?
        .is_none()
    {
        return Err(Failure::new(format!("{inf} is not there"))
            .and("run resvctl.exe from the package's folder"));
    }
    let there = !published(machine)?.is_empty() && !Record(machine).has(&Change::Package)?;
    Ok(if there {
        Vec::new()
    } else {
        vec![Change::Package]
    })
}

fn plan_entries(machine: &dyn Machine, wanted: &Install) -> Result<Vec<Change>, Failure> {
    let list = POSITIONS[usize::from(wanted.upper)];
    let mut entries = Vec::new();
    if wanted.class {
        if !wanted.force {
            let failure =
                Failure::new("every disk's stack would get the filter, the boot disk's too");
            return Err(failure
                .and("a filter that does not load keeps Windows from starting; --force does it"));
        }
        entries.push(Change::Entry { list, device: None });
    }
    for name in &wanted.disk {
        let disk = Disk::named(machine, *name)?;
        let Some(node) = disk.node(machine)? else {
            return Err(disk.failed(Win32::FILE_NOT_FOUND));
        };
        check(machine, disk, &node, wanted.force)?;
        entries.push(Change::Entry {
            list,
            device: Some(node.instance),
        });
    }
    let named = named(machine)?;
    let mut plan = plan_service(machine)?;
    for entry in entries {
        let Change::Entry { list, device } = &entry else {
            continue;
        };
        let in_its_stacks = |other: &&Change| match other {
            Change::Entry { device: of, .. } => of.is_none() || device.is_none() || of == device,
            _ => false,
        };
        if let Some(other) = named
            .iter()
            .filter(in_its_stacks)
            .find(|other| **other != entry)
        {
            let failure = Failure::new(format!("the {other} has {FILTER} already"));
            return Err(
                failure.and("a stack takes it once: uninstall, then install it where it shall be")
            );
        }
        let value = machine.value(&key_of(device.as_ref()), list);
        let value = value.map_err(Failure::of(&entry))?;
        if value.is_some_and(|value| value.kind != kind::MULTI_SZ) {
            return Err(Failure::new(format!(
                "{entry}: not a REG_MULTI_SZ, so it is left as it is"
            )));
        }
        if !named.contains(&entry) {
            plan.push(entry);
        }
    }
    Ok(plan)
}

fn check(machine: &dyn Machine, disk: Disk, node: &Node, force: bool) -> Result<(), Failure> {
    if node.is_mpio() {
        let failure = Failure::new(format!("{disk}: a disk of MPIO's"));
        return Err(
            failure.and("the filter leaves it alone: a SCSI-2 reservation belongs to one path")
        );
    }
    let volume = machine.system().chars().take(2).collect::<String>();
    let boot = volume.parse().map(|name| Disk::named(machine, name));
    let is_other = matches!(boot, Ok(Ok(boot)) if boot != disk);
    if !is_other && !force {
        let failure = Failure::new(format!(
            "{disk}: Windows is on it, or on a volume that does not tell its disk"
        ));
        return Err(
            failure.and("a filter that does not load keeps Windows from starting; --force does it")
        );
    }
    Ok(())
}

fn plan_service(machine: &dyn Machine) -> Result<Vec<Change>, Failure> {
    let (from, to) = (ours(machine), installed(machine));
    let Some(image) = machine.read_file(&from).map_err(Failure::of(&from))? else {
        return Err(Failure::new(format!("{from} is not there"))
            .and("run resvctl.exe from the package's folder"));
    };
    let record = Record(machine);
    let mut plan = Vec::new();
    let there = machine.read_file(&to).map_err(Failure::of(&to))?;
    if there.as_ref() != Some(&image) {
        if there.is_some() && !record.has(&Change::File)? {
            return Err(Failure::new(format!(
                "{to} is another version, which resvctl did not put there"
            )));
        }
        plan.push(Change::File);
    }
    match machine.has_service() {
        Ok(false) => plan.push(Change::Service),
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

/// Makes one change, having written it down.
fn make(machine: &dyn Machine, change: &Change) -> Result<(), Failure> {
    let record = Record(machine);
    let failed = || Failure::of(change);
    match change {
        Change::Package => {
            record.add(change, None)?;
            let inf = format!(r"{}\{INF}", machine.package());
            pnputil(machine, &["/add-driver", &inf, "/install"])?;
        }
        Change::File => {
            record.add(change, None)?;
            machine
                .copy_file(&ours(machine), &installed(machine))
                .map_err(failed())?;
        }
        Change::Service => {
            record.add(change, None)?;
            machine
                .create_service(&format!(r"System32\drivers\{FILTER}.sys"))
                .map_err(failed())?;
        }
        Change::Entry { list, device } => {
            let key = key_of(device.as_ref());
            let before = machine.value(&key, list).map_err(failed())?;
            record.add(change, before.as_ref())?;
            let after = with_filter(before.as_ref());
            machine
                .set_value(&key, list, Some(&after))
                .map_err(failed())?;
        }
    }
    Ok(())
}

fn with_filter(before: Option<&Value>) -> Value {
    let data = before.map_or(&[][..], |before| &before.data);
    Value {
        kind: kind::MULTI_SZ,
        data: multi_string::with(data, FILTER),
    }
}

/// Carries out `resvctl uninstall`.
pub fn uninstall(machine: &dyn Machine, dry_run: bool, out: &mut dyn Write) -> Ends {
    if !dry_run {
        elevated(machine)?;
    }
    let record = Record(machine);
    let names = record.names()?;
    if names.is_empty() {
        writeln!(out, "resvctl has installed nothing here")?;
    }
    let mut restart = false;
    for name in names.iter().rev() {
        let Some(change) = Change::parse(name) else {
            let failure = Failure::new(format!(
                "the record of changes, HKLM\\{RECORD}, has a change `{name}`"
            ));
            return Err(failure.and("this is another version's: uninstall with that"));
        };
        if dry_run {
            writeln!(out, "would take back: {change}")?;
            continue;
        }
        let done = take_back(machine, &change)?;
        writeln!(out, "{change}: {done}")?;
        restart = true;
        record.remove(name)?;
    }
    if !dry_run {
        record.end()?;
    }
    if restart {
        writeln!(
            out,
            "A disk that runs now loses the filter when it starts the next time: restart Windows."
        )?;
    }
    Ok(Exit::Good)
}

/// Takes one change back; what came of it.
fn take_back(machine: &dyn Machine, change: &Change) -> Result<String, Failure> {
    let failed = || Failure::of(change);
    Ok(match change {
        Change::Package => {
            let names = published(machine)?;
            for name in &names {
                pnputil(machine, &["/delete-driver", name, "/uninstall"])?;
            }
            format!("deleted {}", names.join(", "))
        }
        Change::File => match machine.remove_file(&installed(machine)).map_err(failed())? {
            Removed::Now => "deleted".into(),
            Removed::AtRestart => "in use; deleted when Windows starts the next time".into(),
        },
        Change::Service => {
            if let Some(entry) = named(machine)?.first() {
                let failure = Failure::new(format!(
                    "the service stays: the {entry} names it, which resvctl did not do"
                ));
                return Err(failure.and("take that entry out, then uninstall again"));
            }
            machine.delete_service().map_err(failed())?;
            "deleted".into()
        }
        Change::Entry { list, device } => {
            take_entry_back(machine, change, list, &key_of(device.as_ref()))?
        }
    })
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
        machine
            .set_value(key, list, value)
            .map_err(Failure::of(change))
    };
    let Some(now) = now.filter(|now| multi_string::contains(&now.data, FILTER)) else {
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

/// The lists of filters that name the service.
fn named(machine: &dyn Machine) -> Result<Vec<Change>, Failure> {
    let nodes = machine.nodes().map_err(Failure::of("the list of disks"))?;
    let devices = nodes.into_iter().map(|node| Some(node.instance));
    let mut named = Vec::new();
    for device in devices.chain([None]) {
        for list in POSITIONS {
            let value = match machine.value(&key_of(device.as_ref()), list) {
                Err(Win32::NO_SUCH_DEVINST) => None,
                value => value.map_err(Failure::of(list))?,
            };
            if value.is_some_and(|value| multi_string::contains(&value.data, FILTER)) {
                let device = device.clone();
                named.push(Change::Entry { list, device });
            }
        }
    }
    Ok(named)
}

/// Its exit codes: Microsoft's page "PnPUtil Return Values". 259: no device wanted it, 3010: a restart is needed.
fn pnputil(machine: &dyn Machine, arguments: &[&str]) -> Result<Ended, Failure> {
    let program = format!(r"{}\pnputil.exe", machine.system());
    let ended = machine
        .run(&program, arguments)
        .map_err(Failure::of(&program))?;
    match ended.code {
        0 | 259 | 3010 => Ok(ended),
        code => Err(
            Failure::new(format!("pnputil {} ended with {code}", arguments.join(" ")))
                .and(ended.output.trim()),
        ),
    }
}

/// The names under which Windows has our package, from its list of all. The list's words are in the reader's language;
/// the names are not.
fn published(machine: &dyn Machine) -> Result<Vec<String>, Failure> {
    let all = pnputil(machine, &["/enum-drivers"])?
        .output
        .replace('\r', "");
    let is_ours = |package: &&str| {
        package
            .split_whitespace()
            .any(|word| word.eq_ignore_ascii_case(INF))
    };
    let ours = all.split("\n\n").filter(is_ours);
    Ok(ours.filter_map(oem_name).map(Into::into).collect())
}

/// The first word like `oem12.inf`.
fn oem_name(text: &str) -> Option<&str> {
    text.split_whitespace().find(|word| {
        let number = word
            .strip_prefix("oem")
            .and_then(|rest| rest.strip_suffix(".inf"));
        number
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    })
}
