//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::disk::Name;

const EXAMPLES: &str = r"A DISK is 1, PhysicalDrive1, \\.\PhysicalDrive1, \\?\PhysicalDrive1, serial:NUMBER (`resvctl list` shows it), or a volume
that lies on one disk alone: D:, \\?\Volume{GUID}\.

Examples:
  resvctl list                  which disks have the filter, and where in the stack
  resvctl reserve 1             take PhysicalDrive1 for this node
  resvctl status D: --json      what this node last knew of D:'s disk
  resvctl install --dry-run     say what would be changed
  resvctl uninstall             take back what install changed
  resvctl selftest              find out here what the docs say of Windows

Exit codes:
  0  done; of reserve and release: the disk said so, whoever served the request
  1  an error; the message says what to do
  2  the command line was not understood
  3  another initiator holds the disk
  4  with --require-filter: done, but the filter did not serve it";

/// What a DISK may be, for the help of each command that takes one.
const DISK: &str = r"1, PhysicalDrive1, \\.\PhysicalDrive1, \\?\PhysicalDrive1, serial:NUMBER, or a volume on it: D:, \\?\Volume{GUID}\";

/// Reserves disks for this node by SCSI RESERVE, and installs the filter that does it
#[derive(Parser)]
#[command(name = "resvctl", bin_name = "resvctl", version, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// List the disks, and where the filter is in each one's stack
    List {
        #[command(flatten)]
        form: Form,
    },
    /// Reserve a disk for this node
    #[command(
        after_help = "Ends with 0 if the disk said so, whoever served the request, with 3 if another initiator holds it."
    )]
    Reserve(Request),
    /// Release a disk that this node reserved
    #[command(
        after_help = "A disk that another initiator holds stays reserved: its RELEASE alone ends that, or `resvctl break`."
    )]
    Release(Request),
    /// Tell what this node last knew of a disk's reservation
    #[command(
        after_help = "No SCSI-2 command asks who holds a disk: a reset by another node, for one, goes unseen \
                            until the next command."
    )]
    Status {
        #[arg(help = DISK)]
        disk: Name,
        #[command(flatten)]
        form: Form,
    },
    /// Break the reservation of a holder that is dead, by a reset
    #[command(
        after_help = "Without --force it says what would be reset and whom that hurts, and sends nothing."
    )]
    Break {
        #[arg(help = DISK)]
        disk: Name,
        /// Reset it
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        form: Form,
    },
    /// Install the filter: the driver package, or with DISK, --all or --class entries in the registry
    Install(Install),
    /// Take back what install changed, and nothing else
    Uninstall {
        /// Say what would be changed
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        form: Form,
    },
    /// Keep the filter off a disk
    Exclude {
        #[arg(help = DISK)]
        disk: Name,
        #[command(flatten)]
        form: Form,
    },
    /// Have the filter attach to a disk again
    Include {
        #[arg(help = DISK)]
        disk: Name,
        /// Do it although Windows itself needs the disk
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        form: Form,
    },
    /// Find out on this machine what the docs say of Windows, and report it
    Selftest(Selftest),
    /// Have Driver Verifier watch resvflt.sys, from the next start of Windows on
    Verify {
        switch: Switch,
        #[command(flatten)]
        form: Form,
    },
}

impl Command {
    /// In which form the result is told.
    pub fn form(&self) -> Form {
        match self {
            Self::Reserve(request) | Self::Release(request) => request.form,
            Self::Install(install) => install.form,
            // Its --json names a file.
            Self::Selftest(_) => Form { json: false },
            Self::List { form }
            | Self::Status { form, .. }
            | Self::Break { form, .. }
            | Self::Uninstall { form, .. }
            | Self::Exclude { form, .. }
            | Self::Include { form, .. }
            | Self::Verify { form, .. } => *form,
        }
    }
}

/// How the result is told.
#[derive(Args, Clone, Copy)]
pub struct Form {
    /// As one JSON object, for programs
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct Request {
    #[arg(help = DISK)]
    pub disk: Name,
    /// End with 4 unless it was the filter that served the request; it is sent all the same
    #[arg(long)]
    pub require_filter: bool,
    #[command(flatten)]
    pub form: Form,
}

#[derive(Args)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "one for each switch of the command line"
)]
#[command(after_help = "\
Without DISK, --all and --class, pnputil installs resvflt.inf from this program's folder (Windows 10 1903, Server 2022 and \
later), on every disk. With them, on any Windows, the service is made and started, and only when it runs each disk's \
LowerFilters, or the disk class's, gets an entry.

What would take a disk that Windows itself needs (it boots from it, pages or dumps to it) is refused without --force.

Below disk.sys the filter sees what kernel components send to the lower stack; disk.sys itself serves every handle's \
RESERVE. With --upper it is above disk.sys and serves those, too.

Examples:
  resvctl install 1 2                PhysicalDrive1 and 2, below disk.sys
  resvctl install 1 --upper          PhysicalDrive1, above disk.sys
  resvctl install --all              every disk that is there and that Windows itself does not need
  resvctl install --force            the driver package: every disk, the boot disk among them
  resvctl install --class --force    the same by the disk class's list")]
pub struct Install {
    #[arg(help = DISK)]
    pub disk: Vec<Name>,
    /// Put it on every disk that is there now and that Windows itself does not need
    #[arg(long, conflicts_with = "disk")]
    pub all: bool,
    /// Put it on every disk, now and later
    #[arg(long, conflicts_with_all = ["disk", "all"])]
    pub class: bool,
    /// Put it above disk.sys, not below
    #[arg(long)]
    pub upper: bool,
    /// Do it although Windows itself needs a disk among them
    #[arg(long)]
    pub force: bool,
    /// Say what would be changed
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub form: Form,
}

#[derive(Args)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "one for each switch of the command line"
)]
#[command(after_help = "\
Without --with-reserve, --with-sleep and --peer it changes nothing. With them it reserves and releases DISK, which must be none \
that Windows itself needs, and none with data that anyone misses while it is reserved.

Ends with 0 if all that could be told holds, else with 1.

Examples:
  resvctl selftest --json report.json                 what can be told without a change, of every disk
  resvctl selftest 1 --with-reserve --json report.json
  resvctl selftest 1 --peer NODE-B --share \\\\FILES\\LAB  on NODE-A; on NODE-B the same with --peer NODE-A
  resvctl selftest --show report.json                 print a report again
  resvctl selftest --list                             what is checked, and how")]
pub struct Selftest {
    #[arg(help = DISK)]
    pub disk: Option<Name>,
    /// Reserve and release DISK, too
    #[arg(long, requires = "disk")]
    pub with_reserve: bool,
    /// Have the machine sleep while it holds DISK
    #[arg(long, requires = "disk")]
    pub with_sleep: bool,
    /// Go through two-node steps with this machine, which runs the same at the same time
    #[arg(long, value_name = "NAME", requires = "disk", conflicts_with_all = ["with_reserve", "with_sleep"])]
    pub peer: Option<String>,
    /// A folder that both machines write to, to keep step by; without it by Enter
    #[arg(long, value_name = "FOLDER", requires = "peer")]
    pub share: Option<String>,
    /// This machine's name, instead of its own
    #[arg(long, requires = "peer")]
    pub name: Option<String>,
    /// Write the report to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<String>,
    /// Print the report in this file
    #[arg(long, value_name = "FILE", exclusive = true)]
    pub show: Option<String>,
    /// List the checks
    #[arg(long, exclusive = true)]
    pub list: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Switch {
    On,
    Off,
}
