//! What the driver is to make of an answer: its table of statuses, written down a second time. An operation that gets
//! the same answer to each of its commands ends as [`expected`] says.

use windows_sys::Win32::Foundation::{
    STATUS_ACCESS_DENIED as ACCESS_DENIED, STATUS_CANCELLED as CANCELLED,
    STATUS_CONNECTION_DISCONNECTED as CONNECTION_DISCONNECTED,
    STATUS_CONNECTION_RESET as CONNECTION_RESET, STATUS_DELETE_PENDING as DELETE_PENDING,
    STATUS_DEVICE_BUSY as DEVICE_BUSY, STATUS_DEVICE_DATA_ERROR as DEVICE_DATA_ERROR,
    STATUS_DEVICE_DOES_NOT_EXIST as DEVICE_DOES_NOT_EXIST,
    STATUS_DEVICE_HARDWARE_ERROR as DEVICE_HARDWARE_ERROR,
    STATUS_DEVICE_NOT_CONNECTED as DEVICE_NOT_CONNECTED,
    STATUS_DEVICE_NOT_READY as DEVICE_NOT_READY, STATUS_DEVICE_OFF_LINE as DEVICE_OFF_LINE,
    STATUS_DEVICE_POWERED_OFF as DEVICE_POWERED_OFF, STATUS_DEVICE_REMOVED as DEVICE_REMOVED,
    STATUS_INSUFFICIENT_RESOURCES as INSUFFICIENT_RESOURCES,
    STATUS_INVALID_DEVICE_REQUEST as INVALID_DEVICE_REQUEST,
    STATUS_INVALID_DEVICE_STATE as INVALID_DEVICE_STATE, STATUS_IO_DEVICE_ERROR as IO_DEVICE_ERROR,
    STATUS_IO_TIMEOUT as IO_TIMEOUT, STATUS_NO_MEDIA as NO_MEDIA,
    STATUS_NO_MEDIA_IN_DEVICE as NO_MEDIA_IN_DEVICE, STATUS_NO_SUCH_DEVICE as NO_SUCH_DEVICE,
    STATUS_NOT_IMPLEMENTED as NOT_IMPLEMENTED, STATUS_NOT_SUPPORTED as NOT_SUPPORTED,
    STATUS_REQUEST_ABORTED as REQUEST_ABORTED, STATUS_SUCCESS as SUCCESS,
};

use crate::abi::Status;

/// An answer as it reaches the driver.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// NTSTATUS of the pass-through.
    pub status: Status,
    /// Its Information.
    pub information: usize,
    /// ScsiStatus in the structure.
    pub scsi_status: u8,
    /// What the sense data says, if it holds a sense key.
    pub sense: Option<Known>,
}

/// What sense data says; a code that did not come is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// It speaks of an earlier command.
    pub deferred: bool,
    /// Sense key.
    pub key: u8,
    /// Additional sense code.
    pub asc: u8,
    /// Its qualifier.
    pub ascq: u8,
}

/// How an operation ends whose commands are all answered alike, with the default parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// What its caller gets.
    pub status: Status,
    /// How many commands are sent.
    pub sends: usize,
    /// How long it waits in between.
    pub milliseconds: u64,
    /// The last command is in the 10-byte form.
    pub ten_byte: bool,
}

/// Whether a command is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// No.
    Never,
    /// Eight times at once, then after the delay.
    AtOnce,
    /// After the delay.
    AfterDelay,
    /// After ten seconds.
    AfterTenSeconds,
    /// Once, in its 10-byte form.
    TenByte,
}

use Again::{AfterDelay, AfterTenSeconds, AtOnce, Never, TenByte};

type Row = (Status, Again);

/// What the table calls anything else.
const OTHER: Row = (IO_DEVICE_ERROR, Never);

const SCSI_STATUSES: &[(u8, Row)] = &[
    (0x08, (DEVICE_NOT_READY, AfterDelay)),
    (0x18, (DEVICE_BUSY, Never)),
    (0x28, (DEVICE_NOT_READY, AfterDelay)),
    (0x30, (DEVICE_NOT_READY, AfterDelay)),
    (0x40, (IO_DEVICE_ERROR, AfterDelay)),
];

/// CHECK CONDITION with current sense: key, ASC, ASCQ. The first row that fits holds.
#[rustfmt::skip]
const CHECKS: &[(u8, Option<u8>, Option<u8>, Row)] = &[
    (0x0, None,       None,       (IO_DEVICE_ERROR,        AfterDelay)),
    (0x2, Some(0x04), Some(0x01), (DEVICE_NOT_READY,       AfterTenSeconds)),
    (0x2, Some(0x04), Some(0x07), (DEVICE_NOT_READY,       AfterTenSeconds)),
    (0x2, Some(0x04), Some(0x0A), (DEVICE_NOT_READY,       AfterTenSeconds)),
    (0x2, Some(0x3A), None,       (NO_MEDIA_IN_DEVICE,     Never)),
    (0x2, Some(0x04), Some(0x03), (NO_MEDIA_IN_DEVICE,     Never)),
    (0x2, Some(0x04), Some(0x00), (DEVICE_NOT_READY,       Never)),
    (0x2, Some(0x04), Some(0x04), (DEVICE_NOT_READY,       Never)),
    (0x2, Some(0x04), Some(0x08), (DEVICE_NOT_READY,       Never)),
    (0x2, None,       None,       (DEVICE_NOT_READY,       AfterDelay)),
    (0x3, None,       None,       (DEVICE_DATA_ERROR,      Never)),
    (0x4, None,       None,       (DEVICE_HARDWARE_ERROR,  Never)),
    (0x5, Some(0x25), None,       (DEVICE_NOT_CONNECTED,   Never)),
    (0x5, None,       None,       (INVALID_DEVICE_REQUEST, TenByte)),
    (0x6, None,       None,       (IO_DEVICE_ERROR,        AtOnce)),
    (0x7, None,       None,       (ACCESS_DENIED,          Never)),
    (0xB, None,       None,       (IO_DEVICE_ERROR,        AfterDelay)),
];

/// The target's own words are missing.
#[rustfmt::skip]
pub const NT_STATUSES: &[(Status, Status, Again)] = &[
    (IO_TIMEOUT,              IO_TIMEOUT,             Never),
    (NO_SUCH_DEVICE,          DEVICE_NOT_CONNECTED,   Never),
    (DEVICE_DOES_NOT_EXIST,   DEVICE_NOT_CONNECTED,   Never),
    (DEVICE_NOT_CONNECTED,    DEVICE_NOT_CONNECTED,   Never),
    (DEVICE_REMOVED,          DEVICE_NOT_CONNECTED,   Never),
    (INVALID_DEVICE_STATE,    DEVICE_NOT_CONNECTED,   Never),
    (DELETE_PENDING,          DEVICE_NOT_CONNECTED,   Never),
    (DEVICE_OFF_LINE,         DEVICE_NOT_CONNECTED,   Never),
    (DEVICE_POWERED_OFF,      DEVICE_NOT_CONNECTED,   Never),
    (INVALID_DEVICE_REQUEST,  INVALID_DEVICE_REQUEST, TenByte),
    (NOT_SUPPORTED,           INVALID_DEVICE_REQUEST, TenByte),
    (NOT_IMPLEMENTED,         INVALID_DEVICE_REQUEST, TenByte),
    (INSUFFICIENT_RESOURCES,  INSUFFICIENT_RESOURCES, AfterDelay),
    (IO_DEVICE_ERROR,         IO_DEVICE_ERROR,        AfterDelay),
    (DEVICE_BUSY,             IO_DEVICE_ERROR,        AfterDelay),
    (CONNECTION_DISCONNECTED, IO_DEVICE_ERROR,        AfterDelay),
    (CONNECTION_RESET,        IO_DEVICE_ERROR,        AfterDelay),
    (REQUEST_ABORTED,         IO_DEVICE_ERROR,        AfterDelay),
    (CANCELLED,               IO_DEVICE_ERROR,        AfterDelay),
    (DEVICE_NOT_READY,        DEVICE_NOT_READY,       AfterDelay),
    (NO_MEDIA_IN_DEVICE,      NO_MEDIA_IN_DEVICE,     Never),
    (NO_MEDIA,                NO_MEDIA_IN_DEVICE,     Never),
];

/// How an operation ends that gets this answer to each of its commands.
pub fn expected(answer: &Answered) -> Expected {
    let (status, again) = row(answer);
    let (sends, milliseconds) = match again {
        Never => (1, 0),
        AtOnce => (1 + 8 + 4, 4 * 1_000),
        AfterDelay => (1 + 4, 4 * 1_000),
        AfterTenSeconds => (1 + 4, 4 * 10_000),
        TenByte => (1 + 1, 0),
    };
    Expected {
        status,
        sends,
        milliseconds,
        ten_byte: again == TenByte,
    }
}

/// What an operation may end with whose send was refused with this.
pub fn refused(status: Status) -> Status {
    by_nt_status(status).0
}

fn row(answer: &Answered) -> Row {
    // With less than the structure back, it still holds what was sent.
    let byte = if answer.information < 56 {
        0xFF
    } else {
        answer.scsi_status
    };
    match byte {
        0x00 if answer.status == SUCCESS => (SUCCESS, Never),
        0x00 | 0xFF => by_nt_status(answer.status),
        0x02 => by_sense(answer.sense, answer.status),
        _ => find(SCSI_STATUSES, byte),
    }
}

fn find(rows: &[(u8, Row)], byte: u8) -> Row {
    let row = rows.iter().find(|(status, _)| *status == byte);
    row.map_or(OTHER, |&(_, row)| row)
}

fn by_nt_status(status: Status) -> Row {
    let found = NT_STATUSES.iter().find(|(from, ..)| *from == status);
    found.map_or(OTHER, |&(_, to, again)| (to, again))
}

fn by_sense(sense: Option<Known>, status: Status) -> Row {
    let Some(known) = sense.filter(|known| !known.deferred) else {
        return (IO_DEVICE_ERROR, AfterDelay);
    };
    // A recovered error proves as much as the NTSTATUS beside it allows: success, or what ports make of CHECK CONDITION.
    if known.key == 0x1 {
        return match status {
            SUCCESS | IO_DEVICE_ERROR => (SUCCESS, Never),
            _ => by_nt_status(status),
        };
    }
    let fits = |&&(key, asc, ascq, _): &&(u8, Option<u8>, Option<u8>, Row)| {
        key == known.key
            && asc.is_none_or(|asc| asc == known.asc)
            && ascq.is_none_or(|ascq| ascq == known.ascq)
    };
    CHECKS.iter().find(fits).map_or(OTHER, |&(.., row)| row)
}
