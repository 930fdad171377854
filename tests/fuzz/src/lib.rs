//! What the fuzz targets share: an input read as answers of a port, and sense data read once more.

use rig::faults::oracle::{Answered, Known};
use scsi_reserve::{Answer, NtStatus};

/// `sizeof(SCSI_PASS_THROUGH)`.
pub const STRUCTURE: usize = 56;
/// The sense bytes that the driver has room for.
pub const SENSE_ROOM: usize = 32;

/// An input, taken from its front. What is not there reads as 0.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// True if nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// So many bytes, if there are.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let taken = self.bytes(N);
        std::array::from_fn(|at| taken.get(at).copied().unwrap_or(0))
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// A number of 16 bits, low byte first.
    pub fn word(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// An answer to a pass-through: NTSTATUS, Information, SCSI status, and sense bytes after their number.
    pub fn answer(&mut self) -> Answer<'a> {
        let status = NtStatus(i32::from_le_bytes(self.array()));
        let information = usize::from(self.byte());
        let scsi_status = self.byte();
        let length = usize::from(self.byte());
        Answer {
            status,
            information,
            scsi_status,
            sense: self.bytes(length),
        }
    }
}

/// What an answer is to the table of statuses that the fault walk has.
#[must_use]
pub fn answered(answer: &Answer<'_>) -> Answered {
    let came = answer.information.saturating_sub(STRUCTURE);
    Answered {
        status: answer.status.0,
        information: answer.information,
        scsi_status: answer.scsi_status,
        sense: read(&answer.sense[..came.min(answer.sense.len())]),
    }
}

/// Whether an answer proves that the target executed the command.
#[must_use]
pub fn is_proof(answer: &Answer<'_>) -> bool {
    let Answered {
        information, sense, ..
    } = answered(answer);
    let recovered = sense.is_some_and(|known| known.key == 1 && !known.deferred);
    let device_error = NtStatus::IO_DEVICE_ERROR.0;
    information >= STRUCTURE
        && match (answer.scsi_status, answer.status.0) {
            (0x00, 0) => true,
            // What ports make of CHECK CONDITION.
            (0x02, status) => recovered && (status == 0 || status == device_error),
            _ => false,
        }
}

/// Reads sense data byte by byte (SPC-4 4.5): the place of each byte says what it is.
#[must_use]
pub fn read(sense: &[u8]) -> Option<Known> {
    let (mut code, mut key, mut asc, mut ascq) = (0, None, 0, 0);
    let mut last = usize::MAX;
    for (at, &byte) in sense.iter().enumerate().take_while(|(at, _)| *at < 8) {
        if at == 7 {
            // ADDITIONAL SENSE LENGTH: the bytes that follow this one.
            last = 7 + usize::from(byte);
        }
    }
    for (at, &byte) in sense.iter().enumerate() {
        if at == 0 {
            code = byte % 128;
        }
        if at > last {
            break;
        }
        match (code, at) {
            (0x70 | 0x71, 2) | (0x72 | 0x73, 1) => key = Some(byte % 16),
            (0x70 | 0x71, 12) | (0x72 | 0x73, 2) => asc = byte,
            (0x70 | 0x71, 13) | (0x72 | 0x73, 3) => ascq = byte,
            _ => {}
        }
    }
    key.map(|key| Known {
        deferred: code % 2 == 1,
        key,
        asc,
        ascq,
    })
}
