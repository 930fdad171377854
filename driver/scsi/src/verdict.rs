//! What an answer to one send means: the status for the caller, whether to send again, and what is
//! known of the reservation afterwards.
//!
//! Exclusive access is claimed on proof alone: `STATUS_SUCCESS`, a whole structure back, and SCSI
//! status GOOD in it; or CHECK CONDITION with a current RECOVERED ERROR beside `STATUS_SUCCESS` or
//! what ports make of CHECK CONDITION, `STATUS_IO_DEVICE_ERROR`. Other statuses that `NT_SUCCESS`
//! takes for success (0x102 is `STATUS_TIMEOUT`) are none.
//!
//! The reference for the rest is classpnp's `ClassInterpretSenseInfo`
//! (microsoft/Windows-driver-samples, storage/class/classpnp/src/class.c); where a row differs from
//! it, the row says why. classpnp sees the port's `SrbStatus`, of which a pass-through brings back
//! no more than the NTSTATUS that the port makes of it.
//!
//! RESERVE and RELEASE are idempotent for one initiator, so that sending one again whose fate is
//! unknown is safe.

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

/// The SCSI status codes that have a row (SAM-5 5.3.1).
pub(crate) mod scsi {
    pub const GOOD: u8 = 0x00;
    pub const CHECK_CONDITION: u8 = 0x02;
    pub const BUSY: u8 = 0x08;
    pub const RESERVATION_CONFLICT: u8 = 0x18;
    pub const TASK_SET_FULL: u8 = 0x28;
    pub const ACA_ACTIVE: u8 = 0x30;
    pub const TASK_ABORTED: u8 = 0x40;
}

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
#[repr(u8)]
pub enum Retry {
    /// The status is the caller's.
    No,
    /// At once: a unit attention, with a cap of its own. When that is spent, as
    /// [`AfterDelay`](Self::AfterDelay).
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
#[repr(u8)]
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

/// The meaning of an answer; only this module makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Verdict {
    /// What the caller is told if this is the last send.
    pub status: NtStatus,
    /// What the port, or the framework, said: the NTSTATUS of the answer.
    pub port: NtStatus,
    /// Whether to send again.
    pub retry: Retry,
    /// What is known of the reservation.
    pub outcome: Outcome,
    /// What the target said.
    pub target: Target,
}

/// What the target said, in four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Target {
    /// Its status byte; [`SCSI_STATUS_UNTOUCHED`] if none came back.
    pub scsi_status: u8,
    /// The sense key of a CHECK CONDITION; [`NO_SENSE_DATA`](Self::NO_SENSE_DATA) if no sense data
    /// came back that could be read.
    pub sense_key: u8,
    /// The additional sense code; 0 if none came back.
    pub asc: u8,
    /// Its qualifier; 0 if none came back.
    pub ascq: u8,
}

impl Target {
    /// No sense key.
    pub const NO_SENSE_DATA: u8 = 0xFF;
    /// Nothing.
    pub const SILENT: Self = Self::status(SCSI_STATUS_UNTOUCHED);

    const fn status(scsi_status: u8) -> Self {
        Self {
            scsi_status,
            sense_key: Self::NO_SENSE_DATA,
            asc: 0,
            ascq: 0,
        }
    }

    const fn check(said: Sense) -> Self {
        Self {
            scsi_status: scsi::CHECK_CONDITION,
            sense_key: said.key,
            asc: said.asc,
            ascq: said.ascq,
        }
    }
}

// It is passed about in two registers.
const _: () = assert!(size_of::<Verdict>() == 16);

/// A row of the tables.
#[derive(Clone, Copy)]
struct Row {
    status: NtStatus,
    retry: Retry,
    outcome: Outcome,
}

const fn row(status: NtStatus, retry: Retry, outcome: Outcome) -> Row {
    Row {
        status,
        retry,
        outcome,
    }
}

const PROOF: Row = row(Nt::SUCCESS, No, Executed);
const ANYTHING_ELSE: Row = row(Nt::IO_DEVICE_ERROR, No, Unknown);
/// A passing trouble of the transport, or of the port.
const TROUBLE: Row = row(Nt::IO_DEVICE_ERROR, AfterDelay, Unknown);
/// The device is gone or going.
const GONE: Row = row(Nt::DEVICE_NOT_CONNECTED, No, Unknown);
const REFUSED: Row = row(Nt::INVALID_DEVICE_REQUEST, TenByteForm, NotExecuted);

/// The rows for an answer in which the target's own words are missing. What has none is
/// [`ANYTHING_ELSE`], success without proof among it.
const BY_NT_STATUS: [(NtStatus, Row); 22] = [
    // SRB_STATUS_TIMEOUT, COMMAND_TIMEOUT, ABORTED. classpnp repeats, and so may take twice the
    // time that the caller allowed; a caller can do so itself.
    (Nt::IO_TIMEOUT, row(Nt::IO_TIMEOUT, No, Unknown)),
    (Nt::NO_SUCH_DEVICE, GONE),
    (Nt::DEVICE_DOES_NOT_EXIST, GONE),
    (Nt::DEVICE_NOT_CONNECTED, GONE),
    (Nt::DEVICE_REMOVED, GONE),
    (Nt::INVALID_DEVICE_STATE, GONE),
    (Nt::DELETE_PENDING, GONE),
    (Nt::DEVICE_OFF_LINE, GONE),
    (Nt::DEVICE_POWERED_OFF, GONE),
    // The port refuses: nothing went to the target. classpnp tries the 10-byte form after any
    // STATUS_INVALID_DEVICE_REQUEST, whoever said it (behind its switch of SrbStatus), since a port
    // or a bridge may look at the operation code.
    (Nt::INVALID_DEVICE_REQUEST, REFUSED),
    (Nt::NOT_SUPPORTED, REFUSED),
    (Nt::NOT_IMPLEMENTED, REFUSED),
    (
        Nt::INSUFFICIENT_RESOURCES,
        row(Nt::INSUFFICIENT_RESOURCES, AfterDelay, Unknown),
    ),
    // SRB_STATUS_BUS_RESET, REQUEST_FLUSHED, PARITY_ERROR, UNEXPECTED_BUS_FREE: classpnp repeats
    // these, too.
    (Nt::IO_DEVICE_ERROR, TROUBLE),
    // Not the caller's: there it means a conflict, which the port has not said. classpnp has
    // IO_DEVICE_ERROR for SRB_STATUS_BUSY for the same reason.
    (Nt::DEVICE_BUSY, TROUBLE),
    (Nt::CONNECTION_DISCONNECTED, TROUBLE),
    (Nt::CONNECTION_RESET, TROUBLE),
    (Nt::REQUEST_ABORTED, TROUBLE),
    // By nobody who asked: an operation that was told to stop does not come here.
    (Nt::CANCELLED, TROUBLE),
    (
        Nt::DEVICE_NOT_READY,
        row(Nt::DEVICE_NOT_READY, AfterDelay, Unknown),
    ),
    (
        Nt::NO_MEDIA_IN_DEVICE,
        row(Nt::NO_MEDIA_IN_DEVICE, No, Unknown),
    ),
    (Nt::NO_MEDIA, row(Nt::NO_MEDIA_IN_DEVICE, No, Unknown)),
];

impl Row {
    #[cold]
    #[inline(never)]
    fn of_nt_status(status: NtStatus) -> Self {
        let found = BY_NT_STATUS.iter().find(|(said, _)| *said == status);
        found.map_or(ANYTHING_ELSE, |(_, row)| *row)
    }

    /// The rows by SCSI status, which decides before the NTSTATUS; GOOD, a conflict and none are not here.
    fn of_scsi_status(scsi_status: u8) -> Self {
        match scsi_status {
            // Never DEVICE_BUSY, which callers take for a conflict. classpnp has IO_DEVICE_ERROR
            // for the last two, but they pass just as BUSY does.
            scsi::BUSY | scsi::TASK_SET_FULL | scsi::ACA_ACTIVE => {
                row(Nt::DEVICE_NOT_READY, AfterDelay, NotExecuted)
            }
            scsi::TASK_ABORTED => TROUBLE,
            // CONDITION MET, INTERMEDIATE and COMMAND TERMINATED among them: no answers to these
            // commands.
            _ => ANYTHING_ELSE,
        }
    }

    /// The rows for CHECK CONDITION with current sense data.
    fn of_sense(said: Sense, status: NtStatus) -> Self {
        match (said.key, said.asc, said.ascq) {
            // classpnp repeats NO SENSE at once, and reads ILI: no data is transferred here.
            (key::NO_SENSE | key::ABORTED_COMMAND, ..) => TROUBLE,
            (key::RECOVERED_ERROR, ..) => match status {
                Nt::SUCCESS | Nt::IO_DEVICE_ERROR => PROOF,
                // Sense data beside a timeout or a lost device may be an earlier command's. classpnp
                // reads it in any case.
                _ => Self::of_nt_status(status),
            },

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
            // IOCTL_STORAGE_RESERVE lacks. Unknown: the unit that held the reservation is not where
            // it was.
            (key::ILLEGAL_REQUEST, 0x25, _) => GONE,
            // invalid operation code (20h), invalid field in CDB (24h). classpnp names other codes
            // by statuses of their own, for commands with an address, parameters or a token.
            (key::ILLEGAL_REQUEST, ..) => REFUSED,

            // Unknown: a reset or a preemption ends a reservation. classpnp repeats most at once;
            // it waits 1 s after 2Ah/09h and 5 s after 3Fh, since it has sent, or has had sent,
            // commands of its own by then; it tells the class driver by VERIFY_REQUIRED on
            // removable media, and gives up on 38h. The condition is spent in any case.
            (key::UNIT_ATTENTION, ..) => row(Nt::IO_DEVICE_ERROR, AtOnce, Unknown),
            // classpnp has other statuses for write protection (27h): these commands write nothing.
            (key::DATA_PROTECT, ..) => row(Nt::ACCESS_DENIED, No, NotExecuted),
            // classpnp repeats on keys that it does not know, and has NO_DATA_DETECTED for BLANK
            // CHECK: none of them is an answer to these commands.
            _ => ANYTHING_ELSE,
        }
    }
}

impl Verdict {
    /// Whether it is against a reservation that this node holds, whatever the command: another holds
    /// it, or a unit attention tells of what may have ended it.
    #[must_use]
    pub const fn denies(&self) -> bool {
        matches!(self.outcome, Outcome::Conflict) || matches!(self.retry, Retry::AtOnce)
    }

    /// Reads an answer.
    #[must_use]
    #[inline]
    pub fn of(answer: &Answer<'_>) -> Self {
        match answer.status_byte() {
            scsi::GOOD if answer.status == Nt::SUCCESS => {
                Self::new(PROOF, Nt::SUCCESS, Target::status(scsi::GOOD))
            }
            scsi::RESERVATION_CONFLICT => Self::new(
                row(Nt::DEVICE_BUSY, No, Conflict),
                answer.status,
                Target::status(scsi::RESERVATION_CONFLICT),
            ),
            scsi::CHECK_CONDITION => Self::of_check(answer.status, answer.sense_that_came_back()),
            scsi_status => Self::without_sense(answer.status, scsi_status),
        }
    }

    /// Reads why a send failed: `WdfRequestGetStatus` after `WdfRequestSend` said FALSE.
    #[must_use]
    pub fn of_refused(status: NtStatus) -> Self {
        Self::new(Row::of_nt_status(status), status, Target::SILENT)
    }

    /// Reads why the pass-through could not be made ready for a send: nothing left this node.
    #[must_use]
    pub fn of_failed_format(status: NtStatus) -> Self {
        Self {
            outcome: NotExecuted,
            ..Self::of_refused(status)
        }
    }

    #[inline(never)]
    fn without_sense(status: NtStatus, scsi_status: u8) -> Self {
        let row = match scsi_status {
            // Some ports copy the structure back for a command that never reached the target.
            scsi::GOOD | SCSI_STATUS_UNTOUCHED => Row::of_nt_status(status),
            _ => Row::of_scsi_status(scsi_status),
        };
        Self::new(row, status, Target::status(scsi_status))
    }

    #[inline(never)]
    fn of_check(status: NtStatus, sense: &[u8]) -> Self {
        let Some(said) = sense::parse(sense) else {
            return Self::new(TROUBLE, status, Target::status(scsi::CHECK_CONDITION));
        };
        // classpnp reads deferred sense as this command's; RECOVERED ERROR would then be no proof.
        let row = if said.deferred {
            row(Nt::IO_DEVICE_ERROR, AfterDelay, NotExecuted)
        } else {
            Row::of_sense(said, status)
        };
        Self::new(row, status, Target::check(said))
    }

    #[inline]
    const fn new(row: Row, port: NtStatus, target: Target) -> Self {
        Self {
            status: row.status,
            port,
            retry: row.retry,
            outcome: row.outcome,
            target,
        }
    }

    /// Whether the target said that what is known of its devices is out of date: "target operating
    /// conditions have changed" (3Fh), but for new microcode (3Fh/01h).
    ///
    /// classpnp then calls `IoInvalidateDeviceRelations` on its PDO (`ClassInterpretSenseInfo`,
    /// `SCSI_ADSENSE_OPERATING_CONDITIONS_CHANGED`), so that the bus is enumerated anew. It has not
    /// heard of a unit attention that met this node's command, so whoever sent that does the same.
    #[must_use]
    #[inline]
    pub const fn invalidates_bus_relations(&self) -> bool {
        matches!(self.retry, AtOnce) && self.target.asc == 0x3F && self.target.ascq != 0x01
    }
}

impl<'a> Answer<'a> {
    /// The target's status byte; [`SCSI_STATUS_UNTOUCHED`] if the structure did not come back.
    #[must_use]
    #[inline]
    pub const fn status_byte(&self) -> u8 {
        match self.information {
            0..PASS_THROUGH_LENGTH => SCSI_STATUS_UNTOUCHED,
            _ => self.scsi_status,
        }
    }

    #[inline]
    fn sense_that_came_back(&self) -> &'a [u8] {
        let length = self.information.saturating_sub(PASS_THROUGH_LENGTH);
        self.sense.get(..length).unwrap_or(self.sense)
    }
}
