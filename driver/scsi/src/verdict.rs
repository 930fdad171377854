//! What an answer to one send means: the status for the caller, and whether to send again.
//!
//! Exclusive access is claimed on proof alone: an NTSTATUS that is `NT_SUCCESS`, a whole structure
//! back, and SCSI status GOOD in it; or CHECK CONDITION with a current RECOVERED ERROR. The
//! reference for the rest is classpnp's `ClassInterpretSenseInfo`
//! (microsoft/Windows-driver-samples, storage/class/classpnp/src/class.c); where a row differs from
//! it, the row says why.

use Outcome::{Conflict, Executed, NotExecuted, Unknown};
use Retry::{AfterDelay, AfterTenSeconds, AtOnce, No, TenByteForm};

use crate::ntstatus::{NtStatus, NtStatus as Nt};
use crate::sense::{self, Sense, key};

/// `sizeof(SCSI_PASS_THROUGH)` for a 64-bit caller (`ntddscsi.h`). With less than this copied back,
/// the buffer still holds what was sent.
pub const PASS_THROUGH_LENGTH: usize = 56;

/// What `ScsiStatus` is set to before each send, so that a port which does not write it can't seem
/// to say GOOD. No status code of SAM-5 5.3.1.
pub const SCSI_STATUS_UNTOUCHED: u8 = 0xFF;

/// What came back from one send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Answer<'a> {
    /// `IoStatus.Status`.
    pub status: NtStatus,
    /// `IoStatus.Information`: how many bytes of the buffer came back.
    pub information: usize,
    /// `ScsiStatus` of the structure; not looked at if less than the structure came back.
    pub scsi_status: u8,
    /// The sense bytes behind the structure; no more of them are looked at than came back.
    pub sense: &'a [u8],
}

/// Whether to send again, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// The status is the caller's.
    No,
    /// At once: a unit attention, with a cap of its own.
    AtOnce,
    /// After the configured delay.
    AfterDelay,
    /// After ten seconds, classpnp's `NOT_READY_RETRY_INTERVAL`.
    AfterTenSeconds,
    /// At once in the 10-byte form, if this was the 6-byte form.
    TenByteForm,
}

/// What is known of the reservation after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The target executed the command.
    Executed,
    /// Another initiator holds the logical unit.
    Conflict,
    /// The target did not execute the command: what was known before still holds.
    NotExecuted,
    /// The command may have been executed, or a reservation held before may be lost.
    Unknown,
}

/// The meaning of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// What the caller is told if this is the last send.
    pub status: NtStatus,
    /// Whether to send again.
    pub retry: Retry,
    /// What is known of the reservation.
    pub outcome: Outcome,
    /// The sense data of a CHECK CONDITION, if it could be read.
    pub sense: Option<Sense>,
}

impl Verdict {
    /// Reads an answer.
    #[must_use]
    pub fn of(answer: &Answer<'_>) -> Self {
        // SAM-5 5.3.1
        match answer.status_byte() {
            // GOOD: some ports copy the structure back for a command that never reached the target.
            0x00 if answer.status.is_success() => row(Nt::SUCCESS, No, Executed),
            0x00 | SCSI_STATUS_UNTOUCHED => Self::of_nt_status(answer.status),
            // CHECK CONDITION
            0x02 => Self::of_sense(sense::parse(answer.sense_that_came_back())),
            // RESERVATION CONFLICT
            0x18 => row(Nt::DEVICE_BUSY, No, Conflict),
            // BUSY, TASK SET FULL, ACA ACTIVE. Never DEVICE_BUSY, which callers take for a
            // conflict. classpnp has IO_DEVICE_ERROR for the last two, but they pass just as BUSY
            // does.
            0x08 | 0x28 | 0x30 => row(Nt::DEVICE_NOT_READY, AfterDelay, NotExecuted),
            // TASK ABORTED
            0x40 => row(Nt::IO_DEVICE_ERROR, AfterDelay, Unknown),
            // CONDITION MET, INTERMEDIATE and COMMAND TERMINATED among them: no answers to these
            // commands.
            _ => row(Nt::IO_DEVICE_ERROR, No, Unknown),
        }
    }

    /// Reads why a send failed: the format's status, or `WdfRequestGetStatus` after
    /// `WdfRequestSend` said FALSE.
    #[must_use]
    pub fn of_refused(status: NtStatus) -> Self {
        Self::of_nt_status(status)
    }

    /// The rows for an answer in which the target's own words are missing.
    fn of_nt_status(status: NtStatus) -> Self {
        match status {
            // The command may have been executed; classpnp repeats it.
            Nt::IO_TIMEOUT => row(Nt::IO_TIMEOUT, No, Unknown),
            Nt::NO_SUCH_DEVICE
            | Nt::DEVICE_DOES_NOT_EXIST
            | Nt::DEVICE_NOT_CONNECTED
            | Nt::DEVICE_REMOVED
            | Nt::INVALID_DEVICE_STATE
            | Nt::DELETE_PENDING => row(Nt::DEVICE_NOT_CONNECTED, No, Unknown),
            // The port's word on the pass-through, not the target's on the command: no 10-byte
            // form.
            Nt::INVALID_DEVICE_REQUEST | Nt::NOT_SUPPORTED | Nt::NOT_IMPLEMENTED => {
                row(Nt::INVALID_DEVICE_REQUEST, No, Unknown)
            }
            Nt::INSUFFICIENT_RESOURCES => row(Nt::INSUFFICIENT_RESOURCES, AfterDelay, Unknown),
            // Success without proof among them.
            _ => row(Nt::IO_DEVICE_ERROR, No, Unknown),
        }
    }

    /// The rows for CHECK CONDITION.
    fn of_sense(sense: Option<Sense>) -> Self {
        let Some(said) = sense else {
            return row(Nt::IO_DEVICE_ERROR, AfterDelay, Unknown);
        };
        let verdict = match (said.key, said.asc, said.ascq) {
            // classpnp reads deferred sense as this command's; RECOVERED ERROR would then be no
            // proof.
            _ if said.deferred => row(Nt::IO_DEVICE_ERROR, AfterDelay, NotExecuted),

            // classpnp repeats NO SENSE at once, and reads ILI: no data is transferred here.
            (key::NO_SENSE | key::ABORTED_COMMAND, ..) => {
                row(Nt::IO_DEVICE_ERROR, AfterDelay, Unknown)
            }
            (key::RECOVERED_ERROR, ..) => row(Nt::SUCCESS, No, Executed),

            // becoming ready, operation in progress, ALUA transition. classpnp takes the last for
            // "start unit needed".
            (key::NOT_READY, 0x04, 0x01 | 0x07 | 0x0A) => {
                row(Nt::DEVICE_NOT_READY, AfterTenSeconds, NotExecuted)
            }
            // medium not present; manual intervention required
            (key::NOT_READY, 0x3A, _) | (key::NOT_READY, 0x04, 0x03) => {
                row(Nt::NO_MEDIA_IN_DEVICE, No, NotExecuted)
            }
            // cause not reportable, format in progress, long write in progress
            (key::NOT_READY, 0x04, 0x00 | 0x04 | 0x08) => {
                row(Nt::DEVICE_NOT_READY, No, NotExecuted)
            }
            // classpnp repeats at once and may send START UNIT, which is not a filter's to send;
            // and it answers 04h/14h with STATUS_RETRY, which means nothing to a caller.
            (key::NOT_READY, ..) => row(Nt::DEVICE_NOT_READY, AfterDelay, NotExecuted),

            // classpnp tells unknown formats and cleaning cartridges apart, on removable media.
            (key::MEDIUM_ERROR, ..) => row(Nt::DEVICE_DATA_ERROR, No, Unknown),
            // classpnp repeats after a CRC error of the link (08h/03h): repeated by the port, if at
            // all.
            (key::HARDWARE_ERROR, ..) => row(Nt::DEVICE_HARDWARE_ERROR, No, Unknown),

            // logical unit not supported. classpnp: NO_SUCH_DEVICE, which the page of
            // IOCTL_STORAGE_RESERVE lacks.
            (key::ILLEGAL_REQUEST, 0x25, _) => row(Nt::DEVICE_NOT_CONNECTED, No, NotExecuted),
            // invalid operation code (20h), invalid field in CDB (24h). classpnp names other codes
            // by statuses of their own, for commands with an address, parameters or a token.
            (key::ILLEGAL_REQUEST, ..) => row(Nt::INVALID_DEVICE_REQUEST, TenByteForm, NotExecuted),

            // Unknown: a reset or a preemption ends a reservation. classpnp tells the class driver
            // by VERIFY_REQUIRED on removable media, waits for some codes, and gives up on others;
            // the condition is spent in any case.
            (key::UNIT_ATTENTION, ..) => row(Nt::IO_DEVICE_ERROR, AtOnce, Unknown),
            // classpnp has other statuses for write protection (27h): these commands write nothing.
            (key::DATA_PROTECT, ..) => row(Nt::ACCESS_DENIED, No, NotExecuted),
            // classpnp repeats on keys that it does not know, and has NO_DATA_DETECTED for BLANK
            // CHECK: none of them is an answer to these commands.
            _ => row(Nt::IO_DEVICE_ERROR, No, Unknown),
        };
        Self { sense, ..verdict }
    }
}

impl<'a> Answer<'a> {
    /// The target's status byte; [`SCSI_STATUS_UNTOUCHED`] if the structure did not come back.
    #[must_use]
    pub const fn status_byte(&self) -> u8 {
        match self.information {
            0..PASS_THROUGH_LENGTH => SCSI_STATUS_UNTOUCHED,
            _ => self.scsi_status,
        }
    }

    fn sense_that_came_back(&self) -> &'a [u8] {
        let length = self.information.saturating_sub(PASS_THROUGH_LENGTH);
        self.sense.get(..length).unwrap_or(self.sense)
    }
}

const fn row(status: NtStatus, retry: Retry, outcome: Outcome) -> Verdict {
    Verdict {
        status,
        retry,
        outcome,
        sense: None,
    }
}
