//! Persistent reservations: whether the disk has one, beside which RESERVE's GOOD keeps nobody out.
//!
//! SPC-2 5.5.1 has the two kinds exclude each other. Later standards let a unit answer RESERVE with GOOD while a
//! persistent reservation holds (SPC-3 5.6.3 to its registrants), and there are targets whose two kinds know nothing of
//! each other.

use serde::Serialize;

use crate::machine::Device;

/// IOCTL_STORAGE_PERSISTENT_RESERVE_IN (ntddstor.h).
const PERSISTENT_RESERVE_IN: u32 = 0x002D_5018;
/// sizeof(PERSISTENT_RESERVE_COMMAND).
const COMMAND: u8 = 12;
/// RESERVATION_ACTION_READ_RESERVATIONS: the service action READ RESERVATION (SPC-2 7.12.2).
const READ_RESERVATION: u8 = 1;
/// Generation and additional length, and one descriptor (SPC-2 7.12.4). More is not needed to know that there is one.
const ROOM: u8 = 8 + 16;

/// A persistent reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reservation {
    /// Its type, where the disk told one.
    pub kind: Option<&'static str>,
    /// The key of its holder.
    pub key: Option<String>,
}

/// What the disk said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// It refused to say, or does not know the question: that says nothing.
    Untold,
    /// No, or which.
    Told { reservation: Option<Reservation> },
}

/// Asks the disk for its persistent reservation.
pub fn ask(device: &dyn Device) -> Answer {
    // PERSISTENT_RESERVE_COMMAND: Version, Size, ServiceAction, a byte of padding, AllocationLength.
    let command = [
        COMMAND,
        0,
        0,
        0,
        COMMAND,
        0,
        0,
        0,
        READ_RESERVATION,
        0,
        ROOM,
        0,
    ];
    let mut data = [0; ROOM as usize];
    match device.control(PERSISTENT_RESERVE_IN, &command, &mut data) {
        Ok(length) => parse(&data[..length.min(data.len())]),
        Err(_) => Answer::Untold,
    }
}

fn parse(data: &[u8]) -> Answer {
    let Some(length) = data.get(4..).and_then(|rest| rest.first_chunk()) else {
        return Answer::Untold;
    };
    let reservation = (u32::from_be_bytes(*length) > 0).then(|| {
        let key = data.get(8..).and_then(|rest| rest.first_chunk());
        Reservation {
            kind: data.get(21).and_then(|byte| kind(byte & 0xF)),
            key: key.map(|key| format!("{:#018x}", u64::from_be_bytes(*key))),
        }
    });
    Answer::Told { reservation }
}

/// SPC-3 table 107.
const fn kind(code: u8) -> Option<&'static str> {
    Some(match code {
        1 => "Write Exclusive",
        3 => "Exclusive Access",
        5 => "Write Exclusive, Registrants Only",
        6 => "Exclusive Access, Registrants Only",
        7 => "Write Exclusive, All Registrants",
        8 => "Exclusive Access, All Registrants",
        _ => return None,
    })
}

impl Answer {
    /// What to be warned of, if anything.
    pub fn warning(&self) -> Option<String> {
        let Self::Told {
            reservation: Some(reservation),
        } = self
        else {
            return None;
        };
        let kind = reservation.kind.unwrap_or("of unknown type");
        let key = reservation.key.as_ref();
        let key = key.map(|key| format!(", key {key}")).unwrap_or_default();
        Some(format!(
            "warning: the disk has a persistent reservation ({kind}{key}): a RESERVE that it grants keeps nobody out"
        ))
    }
}
