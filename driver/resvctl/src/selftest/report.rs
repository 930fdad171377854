//! What a run found: docs/selftest.schema.json is its form.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::evidence::{Outcome, Read};
use super::of_machine::file;
use super::subject::Subject;
use crate::list::Place;
use crate::machine::{Key, Machine};
use crate::verify::IMAGE;
use crate::{Failure, Output};

/// The form that this program writes, and the only one that it shows.
const FORM: u32 = 1;

/// A run.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    form: u32,
    versions: Versions,
    disks: Vec<Tested>,
    pub results: Vec<Found>,
    pub undone: Undone,
}

/// Of what was tested, and of what it ran on; none where it is not told.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Versions {
    resvctl: String,
    resvflt: Option<String>,
    windows: Windows,
    /// Wdf01000.sys.
    kmdf: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Windows {
    product: Option<String>,
    /// 21H2
    display_version: Option<String>,
    build: u32,
    /// The update: UBR.
    revision: Option<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tested {
    disk: String,
    instance: String,
    /// Where the filter is, relative to disk.sys.
    filter: Place,
    port: Option<Driver>,
    target: Option<Target>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Driver {
    driver: String,
    version: Option<String>,
}

/// What the disk says of itself.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    vendor: Option<String>,
    product: Option<String>,
    revision: Option<String>,
    /// STORAGE_BUS_TYPE (ntddstor.h): 6 Fibre Channel, 9 iSCSI, 10 SAS, 17 NVMe.
    bus_type: u32,
}

/// The result of one check.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    pub id: String,
    pub sentence: String,
    /// None of a check that is the machine's.
    pub disk: Option<String>,
    pub result: Outcome,
    /// Why it can't be told, or what does not hold.
    pub why: Option<String>,
    pub evidence: Vec<Read>,
}

/// What was changed, and that it was taken back.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undone {
    /// How often the disk was reserved.
    pub reserved: u32,
    /// Why it may be reserved still, if it may.
    pub left: Option<String>,
}

impl Report {
    pub fn new(machine: &dyn Machine, subjects: &[Subject<'_>]) -> Self {
        Self {
            form: FORM,
            versions: Versions::read(machine),
            disks: subjects.iter().map(Tested::read).collect(),
            results: Vec::new(),
            undone: Undone::default(),
        }
    }

    /// Reads what a run wrote.
    pub fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let report: Self = serde_json::from_slice(bytes)
            .map_err(|error| Failure::new(format!("it is no report: {error}")))?;
        match report.form {
            FORM => Ok(report),
            form => Err(Failure::new(format!("its form is {form}, and not {FORM}"))),
        }
    }

    /// How many results are of this kind.
    fn count(&self, outcome: Outcome) -> usize {
        let results = self.results.iter();
        results.filter(|found| found.result == outcome).count()
    }

    /// True if all that could be told holds, and something could; and if nothing is left of what was done.
    pub fn is_good(&self) -> bool {
        let [holds, broken] = [Outcome::Holds, Outcome::DoesNotHold].map(|it| self.count(it));
        holds > 0 && broken == 0 && self.undone.left.is_none()
    }

    /// The page for a person.
    pub fn print(&self, out: &mut Output<'_>) -> Result<(), Failure> {
        out.line(&self.versions)?;
        for disk in &self.disks {
            out.line(disk)?;
        }
        out.line("")?;
        for found in &self.results {
            out.line(found)?;
        }
        out.line("")?;
        match &self.undone {
            Undone {
                left: Some(left), ..
            } => out.line(format_args!("THE DISK MAY STILL BE RESERVED: {left}"))?,
            Undone { reserved: 0, .. } => out.line("nothing was changed")?,
            Undone { reserved, .. } => {
                out.line(format_args!("reserved {reserved} times, and released"))?;
            }
        }
        let counts = [
            (Outcome::Holds, "hold"),
            (Outcome::DoesNotHold, "do not"),
            (Outcome::CannotTell, "can't be told here"),
        ];
        let counts = counts.map(|(outcome, word)| format!("{} {word}", self.count(outcome)));
        out.line(counts.join(", "))
    }
}

impl Versions {
    fn read(machine: &dyn Machine) -> Self {
        let system = machine.system();
        let key = Key::Machine(r"SOFTWARE\Microsoft\Windows NT\CurrentVersion".into());
        let value = |name| machine.value(&key, name).ok().flatten();
        let text = |name| value(name).map(|value| value.text());
        let driver = |name| {
            let path = format!(r"{system}\drivers\{name}");
            machine.file_version(&path).ok().flatten()
        };
        let loaded = machine.loaded(IMAGE).ok().flatten();
        let loaded = loaded.map(|loaded| file(machine, &loaded.path));
        Self {
            resvctl: env!("CARGO_PKG_VERSION").into(),
            resvflt: match loaded {
                Some(path) => machine.file_version(&path).ok().flatten(),
                None => driver(IMAGE),
            },
            windows: Windows {
                product: text("ProductName"),
                display_version: text("DisplayVersion"),
                build: machine.build(),
                revision: value("UBR").and_then(|value| {
                    let bytes = value.data.first_chunk()?;
                    Some(u32::from_le_bytes(*bytes))
                }),
            },
            kmdf: driver("Wdf01000.sys"),
        }
    }
}

impl Tested {
    fn read(subject: &Subject<'_>) -> Self {
        let machine = subject.machine;
        let port = subject.stack().ok().and_then(|stack| {
            let driver = (*stack.last()?).to_owned();
            let version = machine.file_version(&image_of(machine, &driver));
            let version = version.ok().flatten();
            Some(Driver { driver, version })
        });
        let target = subject.disk.descriptor(machine).map(|told| Target {
            vendor: told.vendor(),
            product: told.product(),
            revision: told.revision(),
            bus_type: told.bus_type(),
        });
        Self {
            disk: subject.disk.to_string(),
            instance: subject.node.instance.clone(),
            filter: subject.place().unwrap_or(Place::Untold),
            port,
            target,
        }
    }
}

/// The file of a driver, by its service.
fn image_of(machine: &dyn Machine, driver: &str) -> String {
    let key = format!(r"SYSTEM\CurrentControlSet\Services\{driver}");
    let value = machine
        .value(&Key::Machine(key), "ImagePath")
        .ok()
        .flatten();
    match value.map(|value| value.text()) {
        Some(path) if !path.is_empty() => file(machine, &path),
        _ => format!(r"{}\drivers\{driver}.sys", machine.system()),
    }
}

/// A version, or that it is not told.
fn version(of: Option<&String>) -> &str {
    of.map_or("(version not told)", |version| version)
}

impl std::fmt::Display for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let windows = &self.windows;
        let product = windows.product.as_deref().unwrap_or("Windows");
        write!(f, "{product}")?;
        if let Some(version) = &windows.display_version {
            write!(f, " {version}")?;
        }
        write!(f, ", build {}", windows.build)?;
        if let Some(revision) = windows.revision {
            write!(f, ".{revision}")?;
        }
        write!(
            f,
            "; KMDF {}; resvflt.sys {}; resvctl {}",
            version(self.kmdf.as_ref()),
            version(self.resvflt.as_ref()),
            self.resvctl
        )
    }
}

impl std::fmt::Display for Tested {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = match self.filter {
            Place::Above => "filter above disk.sys",
            Place::Below => "filter below disk.sys",
            Place::None => "no filter",
            Place::Untold => "its stack is not told",
        };
        write!(f, "{}: {place}", self.disk)?;
        if let Some(port) = &self.port {
            write!(
                f,
                "; port {} {}",
                port.driver,
                version(port.version.as_ref())
            )?;
        }
        if let Some(target) = &self.target {
            let parts = [&target.vendor, &target.product, &target.revision];
            for part in parts.into_iter().flatten() {
                write!(f, "; {part}")?;
            }
            write!(f, "; bus type {}", target.bus_type)?;
        }
        Ok(())
    }
}

/// The row of a result: and if it does not hold, below it what was read.
impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let disk = self.disk.as_deref().unwrap_or_default();
        let mut row = format!("{:<13}  {:<16}  {disk:<15}", self.result, self.id);
        if let Some(why) = &self.why {
            write!(row, "  {why}")?;
        }
        f.write_str(row.trim_end())?;
        if self.result == Outcome::DoesNotHold {
            write!(f, "\n{:15}{}", "", self.sentence)?;
            for Read { name, value } in &self.evidence {
                write!(f, "\n{:15}{name}: {value}", "")?;
            }
        }
        Ok(())
    }
}
