//! Sense data: fixed and descriptor format, of whatever length came back (SPC-4 4.5).

/// What sense data says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sense {
    /// The sense key, 0 to 15: see [`key`].
    pub key: u8,
    /// The additional sense code; 0, "no additional sense information", if it did not come back.
    pub asc: u8,
    /// The additional sense code qualifier; 0 if it did not come back.
    pub ascq: u8,
    /// The error is an earlier command's; the command that this answers was not executed (SPC-4
    /// 4.5.5).
    pub deferred: bool,
}

/// The names of the sense keys, for those who print them: SPC-3 4.5.6.
pub const SENSE_KEYS: [&str; 16] = [
    "NO SENSE",
    "RECOVERED ERROR",
    "NOT READY",
    "MEDIUM ERROR",
    "HARDWARE ERROR",
    "ILLEGAL REQUEST",
    "UNIT ATTENTION",
    "DATA PROTECT",
    "BLANK CHECK",
    "VENDOR SPECIFIC",
    "COPY ABORTED",
    "ABORTED COMMAND",
    "EQUAL",
    "VOLUME OVERFLOW",
    "MISCOMPARE",
    "COMPLETED",
];

/// The sense keys that an answer is judged by (SPC-4 table 48).
pub mod key {
    #![allow(missing_docs, reason = "the names are the standard's")]
    pub const NO_SENSE: u8 = 0x0;
    pub const RECOVERED_ERROR: u8 = 0x1;
    pub const NOT_READY: u8 = 0x2;
    pub const MEDIUM_ERROR: u8 = 0x3;
    pub const HARDWARE_ERROR: u8 = 0x4;
    pub const ILLEGAL_REQUEST: u8 = 0x5;
    pub const UNIT_ATTENTION: u8 = 0x6;
    pub const DATA_PROTECT: u8 = 0x7;
    pub const ABORTED_COMMAND: u8 = 0xB;
}

/// Reads sense data; `None` if it is too short to hold a sense key, or of no format that SPC-4
/// defines.
///
/// Bytes past the ADDITIONAL SENSE LENGTH are not sense data, even if the port copied them.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Sense> {
    let length = bytes
        .get(7)
        .map_or(bytes.len(), |&more| bytes.len().min(8 + usize::from(more)));
    let bytes = bytes.get(..length)?;
    let byte = |offset: usize| bytes.get(offset).copied();
    // The top bit of the first byte is VALID in the fixed format, about INFORMATION only, and
    // reserved in the other.
    let code = byte(0)? & 0x7F;
    let (key, asc, ascq) = match code {
        0x70 | 0x71 => (byte(2)?, byte(12), byte(13)),
        0x72 | 0x73 => (byte(1)?, byte(2), byte(3)),
        _ => return None,
    };
    Some(Sense {
        key: key & 0x0F,
        asc: asc.unwrap_or(0),
        ascq: ascq.unwrap_or(0),
        deferred: matches!(code, 0x71 | 0x73),
    })
}
