//! What others' SCSI request blocks ask for, as far as reservations go, and what their answers say.
//!
//! disk.sys makes an SRB of a handle's RESERVE, and everything else that it sends is one, too
//! (microsoft/Windows-driver-samples, storage/class/classpnp/src/class.c). Names and numbers are
//! those of `srb.h` (<https://learn.microsoft.com/windows-hardware/drivers/ddi/srb/>).

use crate::cdb::{Cdb, Command, Form};
use crate::ntstatus::NtStatus;
use crate::verdict::{Answer, PASS_THROUGH_LENGTH, SCSI_STATUS_UNTOUCHED, Verdict, scsi};

/// How much of what passes is looked at: the parameter `Watch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Watch {
    /// Nothing.
    Off = 0,
    /// What may change a reservation.
    Changes = 1,
    /// The answer to every command, too.
    Answers = 2,
}

/// A request that passes and may change the reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Watched {
    /// RESERVE of the whole logical unit for this node.
    Reserve,
    /// RELEASE of the same.
    Release,
    /// What may end a reservation, or make one that is not this node's own: PERSISTENT RESERVE OUT, a
    /// third party's reservation, one of extents, a reset.
    Other,
}

/// The SRB functions that are told apart.
pub mod function {
    #![allow(missing_docs, reason = "the names are the header's")]
    pub const EXECUTE_SCSI: u32 = 0x00;
    pub const RESET_BUS: u32 = 0x12;
    pub const RESET_DEVICE: u32 = 0x13;
    pub const RESET_LOGICAL_UNIT: u32 = 0x20;
    /// The real function is `SrbFunction` of a `STORAGE_REQUEST_BLOCK`.
    pub const STORAGE_REQUEST_BLOCK: u32 = 0x28;
}

/// Its operation code (SPC-2 7.12).
const PERSISTENT_RESERVE_OUT: u8 = 0x5F;

/// `SRB_STATUS`: the bits of `SrbStatus` without `SRB_STATUS_QUEUE_FROZEN` and
/// `SRB_STATUS_AUTOSENSE_VALID`.
const SRB_STATUS: u8 = 0x3F;
const SRB_STATUS_SUCCESS: u8 = 0x01;
const SRB_STATUS_ERROR: u8 = 0x04;
const SRB_STATUS_BUSY: u8 = 0x05;
const SRB_STATUS_AUTOSENSE_VALID: u8 = 0x80;

impl Watched {
    /// What a command block asks for, by its first two bytes; `None` if it changes no reservation.
    ///
    /// Byte 1 of RESERVE and RELEASE holds what makes them another's or of extents (SPC-2 7.21, 7.22);
    /// its upper three bits were the logical unit number, in SCSI-2.
    #[must_use]
    pub const fn of_command(operation: u8, second: u8) -> Option<Self> {
        /// The bits in which RESERVE(6), RELEASE(6), RESERVE(10) and RELEASE(10) differ.
        const DIFFERENT: u8 = 0x41;
        if operation | DIFFERENT == Cdb::new(Command::Release, Form::Ten).operation_code() {
            return Some(match (second & 0x1F, operation & 1) {
                (0, 0) => Self::Reserve,
                (0, _) => Self::Release,
                _ => Self::Other,
            });
        }
        if operation == PERSISTENT_RESERVE_OUT {
            return Some(Self::Other);
        }
        None
    }

    /// False of the operation codes of commands that change no reservation whatever follows, nearly all:
    /// in two instructions.
    #[must_use]
    #[inline]
    pub const fn may_be(operation: u8) -> bool {
        /// The bits that are the same in the codes of [`of_command`](Self::of_command).
        const SAME: u8 = 0xB6;
        operation & SAME == PERSISTENT_RESERVE_OUT & SAME
    }

    /// The same of an SRB function other than `EXECUTE_SCSI`: a reset.
    #[must_use]
    pub const fn of_function(function: u32) -> Option<Self> {
        match function {
            function::RESET_BUS | function::RESET_DEVICE | function::RESET_LOGICAL_UNIT => {
                Some(Self::Other)
            }
            _ => None,
        }
    }

    /// The command whose answer tells who holds the unit.
    #[must_use]
    pub const fn command(self) -> Option<Command> {
        match self {
            Self::Reserve => Some(Command::Reserve),
            Self::Release => Some(Command::Release),
            Self::Other => None,
        }
    }
}

/// How an SRB came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SrbAnswer<'a> {
    /// `IoStatus.Status` of its IRP.
    pub status: NtStatus,
    /// `SrbStatus`.
    pub srb_status: u8,
    /// `ScsiStatus`.
    pub scsi_status: u8,
    /// `SenseInfoBuffer`, as long as `SenseInfoBufferLength` says.
    pub sense: &'a [u8],
}

impl SrbAnswer<'_> {
    /// Whether the port says that all went well.
    #[must_use]
    #[inline]
    pub const fn is_success(srb_status: u8) -> bool {
        srb_status & SRB_STATUS == SRB_STATUS_SUCCESS
    }

    /// What the answer means: as that to a pass-through of the filter's own.
    ///
    /// The class driver sets `ScsiStatus` to 0, GOOD, before it sends, so that it counts only beside an
    /// `SrbStatus` by which the target has spoken: SUCCESS, and ERROR or BUSY if it is not GOOD.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let scsi_status = match (self.srb_status & SRB_STATUS, self.scsi_status) {
            (SRB_STATUS_SUCCESS, status) => status,
            (SRB_STATUS_ERROR | SRB_STATUS_BUSY, status) if status != scsi::GOOD => status,
            _ => SCSI_STATUS_UNTOUCHED,
        };
        let is_valid = self.srb_status & SRB_STATUS_AUTOSENSE_VALID != 0;
        Verdict::of(&Answer {
            status: if scsi_status == SCSI_STATUS_UNTOUCHED && self.status.is_success() {
                // A port that says nothing is no proof.
                NtStatus::IO_DEVICE_ERROR
            } else {
                self.status
            },
            information: PASS_THROUGH_LENGTH + self.sense.len(),
            scsi_status,
            sense: if is_valid { self.sense } else { &[] },
        })
    }
}
