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
mod install;
mod list;
pub mod machine;
pub mod multi_string;
mod reservation;
mod verify;
#[cfg(windows)]
#[allow(unsafe_code)]
pub mod windows;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};

use clap::Parser as _;
use clap::error::ErrorKind;

use arguments::{Arguments, Command, Switch};
use machine::{Machine, Value, Win32};

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
    /// The filter did not serve it: it is not in the disk's stack, or below the driver that answered.
    NotServed = 4,
}

/// Why a command ended without what was wanted, in words for a person.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    says: String,
}

impl Failure {
    fn new(says: impl Into<String>) -> Self {
        Self {
            exit: Exit::Error,
            says: says.into(),
        }
    }

    fn exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// What to do about it.
    fn and(mut self, hint: impl fmt::Display) -> Self {
        self.says = format!("{}\n  {hint}", self.says);
        self
    }

    /// Windows' word on something.
    fn of(what: impl fmt::Display) -> impl FnOnce(Win32) -> Self {
        move |error| Self::new(format!("{what}: {error}"))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(format!("output: {error}"))
    }
}

/// What a command comes to.
type Ends = Result<Exit, Failure>;

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
    match carry_out(machine, &command, out) {
        Ok(exit) => exit,
        Err(failure) => {
            let _ = writeln!(err, "resvctl: {}", failure.says);
            failure.exit
        }
    }
}

fn carry_out(machine: &dyn Machine, command: &Command, out: &mut dyn Write) -> Ends {
    match command {
        Command::List => list::list(machine, out),
        Command::Reserve { disk } => reservation::reserve(machine, *disk, out),
        Command::Release { disk } => reservation::release(machine, *disk, out),
        Command::Status { disk, json: false } => reservation::status(machine, *disk, out),
        Command::Status { disk, json: true } => reservation::json(machine, *disk, out),
        Command::Install(wanted) => install::install(machine, wanted, out),
        Command::Uninstall { dry_run } => install::uninstall(machine, *dry_run, out),
        Command::Exclude { disk } => enable(machine, *disk, false, out),
        Command::Include { disk } => enable(machine, *disk, true, out),
        Command::Verify { switch: Switch::On } => verify::on(machine, out),
        Command::Verify {
            switch: Switch::Off,
        } => verify::off(machine, out),
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

fn enable(machine: &dyn Machine, name: disk::Name, on: bool, out: &mut dyn Write) -> Ends {
    elevated(machine)?;
    let disk = disk::Disk::named(machine, name)?;
    let Some(node) = disk.node(machine)? else {
        return Err(disk.failed(Win32::FILE_NOT_FOUND));
    };
    let value = Value::dword(on.into());
    let set = machine.set_value(&node.hardware_key(), ENABLED, Some(&value));
    set.map_err(|error| disk.failed(error))?;
    let (will, number) = if on {
        ("attaches to it", 1)
    } else {
        ("leaves it alone", 0)
    };
    writeln!(
        out,
        "{disk}: {ENABLED} = {number}: the filter {will} from the disk's next start on"
    )?;
    Ok(Exit::Good)
}
