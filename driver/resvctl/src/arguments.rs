//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::disk::Name;

const EXAMPLES: &str = r"A DISK is 1, PhysicalDrive1, \\.\PhysicalDrive1, or the letter of a volume on it (D:).

Examples:
  resvctl list                  which disks have the filter, and where in the stack
  resvctl reserve 1             take PhysicalDrive1 for this node
  resvctl status D: --json      what this node last knew of D:'s disk
  resvctl install --dry-run     say what would be changed
  resvctl uninstall             take back what install changed

Exit codes:
  0  done
  1  an error; the message says what to do
  2  the command line was not understood
  3  another initiator holds the disk
  4  the filter did not serve it: not in the disk's stack, or below the driver that answered";

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
    List,
    /// Reserve a disk for this node
    #[command(
        after_help = "Ends with 3 if another initiator holds the disk, with 4 if disk.sys served the request."
    )]
    Reserve { disk: Name },
    /// Release a disk that this node reserved
    #[command(
        after_help = "A disk that another initiator holds stays reserved: its RELEASE alone ends that."
    )]
    Release { disk: Name },
    /// Tell what this node last knew of a disk's reservation
    #[command(
        after_help = "No SCSI-2 command asks who holds a disk: a reset by another node, for one, goes unseen \
                            until the next command."
    )]
    Status {
        disk: Name,
        /// As one JSON object, for programs
        #[arg(long)]
        json: bool,
    },
    /// Install the filter: the driver package, or with DISK or --class entries in the registry
    Install(Install),
    /// Take back what install changed, and nothing else
    Uninstall {
        /// Say what would be changed
        #[arg(long)]
        dry_run: bool,
    },
    /// Keep the filter off a disk
    Exclude { disk: Name },
    /// Have the filter attach to a disk again
    Include { disk: Name },
    /// Have Driver Verifier watch resvflt.sys, from the next start of Windows on
    Verify { switch: Switch },
}

#[derive(Args)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "one for each switch of the command line"
)]
#[command(after_help = "\
Without DISK and --class, pnputil installs resvflt.inf from this program's folder (Windows 10 1903, Server 2022 and later). \
With them, on any Windows, the service is made and each disk's LowerFilters, or the disk class's, gets an entry.

Below disk.sys the filter sees what kernel components send to the lower stack; disk.sys itself serves every handle's \
RESERVE. With --upper it is above disk.sys and serves those, too.

Examples:
  resvctl install                    the driver package
  resvctl install 1 2                PhysicalDrive1 and 2, below disk.sys
  resvctl install 1 --upper          PhysicalDrive1, above disk.sys
  resvctl install --class --force    every disk, the boot disk among them")]
pub struct Install {
    /// The disks to put it on
    pub disk: Vec<Name>,
    /// Put it on every disk
    #[arg(long, conflicts_with = "disk")]
    pub class: bool,
    /// Put it above disk.sys, not below
    #[arg(long)]
    pub upper: bool,
    /// Do it although the boot disk is among them
    #[arg(long)]
    pub force: bool,
    /// Say what would be changed
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Switch {
    On,
    Off,
}
