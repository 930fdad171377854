//! The disks that the rig's port drivers send their commands to.
//!
//! A [`Disk`] is one I_T nexus: one node's path to one logical unit, with the reservation rights
//! and the unit attentions of that nexus. [`logical_unit`] is a unit in this process, the default;
//! the feature `iscsi` adds `iscsi`, a nexus to a unit behind a real iSCSI target, and `tgt`, such
//! a target on the loopback interface.

#[cfg(feature = "iscsi")]
pub mod iscsi;
pub mod logical_unit;
pub mod persistent;
#[cfg(feature = "iscsi")]
pub mod tgt;

use std::{fmt, time::Duration};

/// One I_T nexus to one logical unit.
///
/// Dropping it ends the nexus in an orderly way (a logout), which clears a reservation that it
/// held.
pub trait Disk: Send + Sync {
    /// Executes one CDB and blocks until it ended, or until `timeout` is over.
    fn transfer(&self, cdb: &[u8], data: Data<'_>, timeout: Duration) -> Outcome;

    /// Executes one CDB that moves no data.
    fn execute(&self, cdb: &[u8], timeout: Duration) -> Outcome {
        self.transfer(cdb, Data::None, timeout)
    }

    /// Sends a task management function on this nexus.
    ///
    /// # Errors
    /// [`DiskError::NotSupported`] where the target refuses the function, [`DiskError::Gone`] on a
    /// nexus that ended.
    fn manage(&self, function: TaskManagement) -> Result<(), DiskError>;

    /// LOGICAL UNIT RESET (SAM-3 clause 7).
    ///
    /// # Errors
    /// Those of [`Disk::manage`].
    fn reset_logical_unit(&self) -> Result<(), DiskError> {
        self.manage(TaskManagement::LogicalUnitReset)
    }

    /// The path breaks without a logout: everything afterwards is [`Outcome::Gone`].
    fn lose(&self);
}

/// The data phase of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data<'a> {
    /// No data phase.
    None,
    /// Data-in of at most so many bytes.
    In(usize),
    /// Data-out.
    Out(&'a [u8]),
}

/// How a command ended, as the port driver learns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The target answered.
    Status {
        /// The SAM status byte, see [`status_name`].
        status: u8,
        /// Sense data as the target gave it, fixed or descriptor format; empty if none came.
        sense: Vec<u8>,
        /// Data-in.
        data: Vec<u8>,
    },
    /// No answer within the time; whether the command was executed is unknown.
    TimedOut,
    /// No such device, or the path to it is lost.
    Gone,
}

impl Outcome {
    /// GOOD, with this data-in.
    #[must_use]
    pub const fn good(data: Vec<u8>) -> Self {
        Self::Status {
            status: GOOD,
            sense: Vec::new(),
            data,
        }
    }

    /// The SAM status, where the target answered.
    #[must_use]
    pub const fn status(&self) -> Option<u8> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::TimedOut | Self::Gone => None,
        }
    }

    /// The sense data, where the target gave any that can be read.
    #[must_use]
    pub fn sense(&self) -> Option<Sense> {
        match self {
            Self::Status { sense, .. } => Sense::parse(sense),
            Self::TimedOut | Self::Gone => None,
        }
    }
}

/// Task management functions that clear reservations (SAM-3 7; the target resets are iSCSI's, RFC
/// 7143 11.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskManagement {
    /// LOGICAL UNIT RESET.
    LogicalUnitReset,
    /// TARGET WARM RESET: every unit is reset.
    TargetWarmReset,
    /// TARGET COLD RESET: as after power on; every connection is closed.
    TargetColdReset,
}

/// Why a disk could not be had, or did not do what it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// The nexus has ended.
    Gone,
    /// No answer within the time.
    TimedOut,
    /// The target does not know the function.
    NotSupported,
    /// Anything else, with what can be done about it.
    Failed(String),
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the path to the disk is lost"),
            Self::TimedOut => f.write_str("the target did not answer in time"),
            Self::NotSupported => f.write_str("the target does not support this function"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for DiskError {}

/// SAM status GOOD.
pub const GOOD: u8 = 0x00;
/// SAM status CHECK CONDITION.
pub const CHECK_CONDITION: u8 = 0x02;
/// SAM status RESERVATION CONFLICT.
pub const RESERVATION_CONFLICT: u8 = 0x18;

/// The name of a SAM status byte (SAM-3 5.3.1).
#[must_use]
pub const fn status_name(status: u8) -> Option<&'static str> {
    Some(match status {
        GOOD => "GOOD",
        CHECK_CONDITION => "CHECK CONDITION",
        0x04 => "CONDITION MET",
        0x08 => "BUSY",
        0x10 => "INTERMEDIATE",
        0x14 => "INTERMEDIATE-CONDITION MET",
        RESERVATION_CONFLICT => "RESERVATION CONFLICT",
        0x22 => "COMMAND TERMINATED",
        0x28 => "TASK SET FULL",
        0x30 => "ACA ACTIVE",
        0x40 => "TASK ABORTED",
        _ => return None,
    })
}

/// Sense key NO SENSE.
pub const NO_SENSE: u8 = 0x0;
/// Sense key ILLEGAL REQUEST.
pub const ILLEGAL_REQUEST: u8 = 0x5;
/// Sense key UNIT ATTENTION.
pub const UNIT_ATTENTION: u8 = 0x6;

/// What sense data says: SPC-3 4.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    /// Sense key.
    pub key: u8,
    /// Additional sense code.
    pub asc: u8,
    /// Additional sense code qualifier.
    pub ascq: u8,
}

/// The two layouts of sense data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SenseFormat {
    /// Response code 70h, 18 bytes (SPC-3 4.5.3).
    #[default]
    Fixed,
    /// Response code 72h, 8 bytes and no descriptors (SPC-3 4.5.2).
    Descriptor,
}

impl Sense {
    /// A sense key with an additional sense code and qualifier.
    #[must_use]
    pub const fn new(key: u8, asc: u8, ascq: u8) -> Self {
        Self { key, asc, ascq }
    }

    /// The current-error sense data of this.
    #[must_use]
    pub fn encode(self, format: SenseFormat) -> Vec<u8> {
        match format {
            SenseFormat::Fixed => {
                let mut bytes = vec![0; 18];
                bytes[0] = 0x70;
                bytes[2] = self.key;
                bytes[7] = 10;
                bytes[12] = self.asc;
                bytes[13] = self.ascq;
                bytes
            }
            SenseFormat::Descriptor => vec![0x72, self.key, self.asc, self.ascq, 0, 0, 0, 0],
        }
    }

    /// Reads current or deferred sense data of either format; `None` if it is too short to hold its
    /// codes.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let at = |index: usize| bytes.get(index).copied();
        match at(0)? & 0x7F {
            0x70 | 0x71 => Some(Self::new(at(2)? & 0xF, at(12)?, at(13)?)),
            0x72 | 0x73 => Some(Self::new(at(1)? & 0xF, at(2)?, at(3)?)),
            _ => None,
        }
    }

    /// The name of the sense key (SPC-3 4.5.6).
    #[must_use]
    pub const fn key_name(self) -> &'static str {
        scsi_reserve::SENSE_KEYS[(self.key & 0xF) as usize]
    }
}
