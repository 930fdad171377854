//! **resvctl** is the node's command line for resvflt: it reserves and releases disks, tells what the node last knew of
//! a reservation and which driver answered, and installs the filter so that it can be taken back.
//!
//! The commands talk to a [`machine::Machine`]; Windows is one, and only there is `unsafe`.
#![cfg_attr(not(windows), forbid(unsafe_code))]
#![deny(unsafe_code)]
#![allow(
    clippy::doc_markdown,
    reason = "names of the WDK and of the registry are words here"
)]

mod arguments;
mod disk;
mod filters;
mod inf;
mod install;
pub mod layouts;
mod list;
pub mod machine;
pub mod multi_string;
mod package;
mod persistent;
mod record;
mod reservation;
pub mod selftest;
mod system_disks;
mod verify;
#[cfg(windows)]
#[allow(unsafe_code)]
pub mod windows;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};

use clap::Parser as _;
use clap::error::ErrorKind;
use serde::Serialize;
use serde_json::{Map, json};

use arguments::{Arguments, Command, Switch};
use disk::Disk;
use machine::{Machine, Value, Win32};
use system_disks::SystemDisks;

pub use disk::Name;
pub use reservation::age;

/// The filter: its service, its file's stem, its entry in a list of filters.
pub const FILTER: &str = "resvflt";

/// How the program ends: its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It was done.
    Good = 0,
    /// It was not.
    Error = 1,
    /// The command line was not understood.
    Usage = 2,
    /// Another initiator holds the disk.
    HeldByAnother = 3,
    /// It was done, but not by the filter, which `--require-filter` wants.
    NotServed = 4,
}

/// Why a command ended without what was wanted, in words for a person.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    says: String,
    hints: Vec<String>,
    error: Option<Win32>,
    /// What else a program is told.
    details: Map<String, serde_json::Value>,
}

impl Failure {
    fn new(says: impl Into<String>) -> Self {
        Self {
            exit: Exit::Error,
            says: says.into(),
            hints: Vec::new(),
            error: None,
            details: Map::new(),
        }
    }

    fn exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// What to do about it.
    fn and(mut self, hint: impl fmt::Display) -> Self {
        self.hints.push(hint.to_string());
        self
    }

    /// Windows' word on something.
    fn of(what: impl fmt::Display) -> impl FnOnce(Win32) -> Self {
        move |error| Self {
            error: Some(error),
            ..Self::new(format!("{what}: {error}"))
        }
    }

    /// What else a program is told: the fields of a report.
    fn detail(mut self, report: &impl Serialize) -> Self {
        if let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(report) {
            self.details.extend(fields);
        }
        self
    }

    fn json(&self) -> serde_json::Value {
        let mut object = self.details.clone();
        object.insert("error".into(), json!(self.says));
        object.insert("hints".into(), json!(self.hints));
        object.insert("win32".into(), json!(self.error.map(|error| error.0)));
        object.insert("exit".into(), json!(self.exit as u8));
        object.into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.says)?;
        self.hints
            .iter()
            .try_for_each(|hint| write!(f, "\n  {hint}"))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(format!("output: {error}"))
    }
}

/// What a command comes to.
type Ends = Result<Exit, Failure>;

/// Standard output: lines for a person as things happen, or one JSON object at the end.
struct Output<'a> {
    out: &'a mut dyn Write,
    json: bool,
}

impl Output<'_> {
    /// A line for a person.
    fn line(&mut self, line: impl fmt::Display) -> Result<(), Failure> {
        if !self.json {
            writeln!(self.out, "{line}")?;
        }
        Ok(())
    }

    /// The object for a program.
    fn report(&mut self, report: &impl Serialize) -> Result<(), Failure> {
        if self.json {
            let text = serde_json::to_string(report).map_err(io::Error::from)?;
            writeln!(self.out, "{text}")?;
        }
        Ok(())
    }
}

/// Carries out a command line; the first argument is the program's name.
pub fn run(
    machine: &dyn Machine,
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Exit {
    let command = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments.command,
        Err(error) => {
            // Where it can't be written nobody reads it.
            return if matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            ) {
                let _ = write!(out, "{error}");
                Exit::Good
            } else {
                let _ = write!(err, "{error}");
                Exit::Usage
            };
        }
    };
    let json = command.form().json;
    let mut output = Output { out, json };
    match carry_out(machine, &command, &mut output) {
        Ok(exit) => exit,
        Err(failure) => {
            let _ = writeln!(err, "resvctl: {failure}");
            let _ = output.report(&failure.json());
            failure.exit
        }
    }
}

fn carry_out(machine: &dyn Machine, command: &Command, out: &mut Output<'_>) -> Ends {
    match command {
        Command::List { .. } => list::list(machine, out),
        Command::Reserve(request) => reservation::reserve(machine, request, out),
        Command::Release(request) => reservation::release(machine, request, out),
        Command::Status { disk, .. } => reservation::status(machine, disk, out),
        Command::Break { disk, force, .. } => {
            reservation::break_reservation(machine, disk, *force, out)
        }
        Command::Install(wanted) => install::install(machine, wanted, out),
        Command::Uninstall { dry_run, .. } => install::uninstall(machine, *dry_run, out),
        Command::Exclude { disk, .. } => enable(machine, disk, false, true, out),
        Command::Include { disk, force, .. } => enable(machine, disk, true, *force, out),
        Command::Selftest(wanted) => selftest::selftest(machine, wanted, out),
        Command::Verify { switch, .. } => match switch {
            Switch::On => verify::on(machine, out),
            Switch::Off => verify::off(machine, out),
        },
    }
}

/// What changes the machine wants an administrator's full token.
fn elevated(machine: &dyn Machine) -> Result<(), Failure> {
    if machine.is_elevated() {
        return Ok(());
    }
    let failure = Failure::new("this changes the machine and takes an administrator");
    Err(failure.and("run resvctl from an elevated prompt (Run as administrator)"))
}

/// The value in a disk's hardware key that the driver heeds when it attaches (driver/config.rs).
const ENABLED: &str = "ResvFltEnabled";

fn enable(
    machine: &dyn Machine,
    name: &disk::Name,
    on: bool,
    force: bool,
    out: &mut Output<'_>,
) -> Ends {
    elevated(machine)?;
    let disk = Disk::named(machine, name)?;
    let Some(node) = disk.node(machine)? else {
        return Err(disk.failed(Win32::FILE_NOT_FOUND));
    };
    if !force {
        SystemDisks::find(machine).spare(&[disk])?;
    }
    let value = Value::dword(on.into());
    let set = machine.set_value(&node.hardware_key(), ENABLED, Some(&value));
    set.map_err(|error| disk.failed(error))?;
    let (will, number) = if on {
        ("attaches to it", 1)
    } else {
        ("leaves it alone", 0)
    };
    out.line(format_args!(
        "{disk}: {ENABLED} = {number}: the filter {will} from the disk's next start on"
    ))?;
    out.report(&json!({ "disk": disk, "enabled": on }))?;
    Ok(Exit::Good)
}
