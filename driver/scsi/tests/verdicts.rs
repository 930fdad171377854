//! What answers mean: every row in both shapes that ports answer in, and no success without proof.
//!
//! The rows stand here a second time, as data that is searched from the top, so that the code under
//! test and what it is tested against share neither values nor order nor means.

use proptest::prelude::*;
use scsi_reserve::Outcome::{Conflict, Executed, NotExecuted, Unknown};
use scsi_reserve::Retry::{AfterDelay, AfterTenSeconds, AtOnce, No, TenByteForm};
use scsi_reserve::{Answer, NtStatus, Outcome, Retry, Target, Verdict, sense};

const BUSY: u32 = 0x8000_0011;
const NO_MEDIA: u32 = 0xC000_0013;
const INVALID_REQUEST: u32 = 0xC000_0010;
const DENIED: u32 = 0xC000_0022;
const NO_RESOURCES: u32 = 0xC000_009A;
const DATA_ERROR: u32 = 0xC000_009C;
const NOT_CONNECTED: u32 = 0xC000_009D;
const NOT_READY: u32 = 0xC000_00A3;
const TIMEOUT: u32 = 0xC000_00B5;
const DEVICE_ERROR: u32 = 0xC000_0185;
const HARDWARE_ERROR: u32 = 0xC000_0483;

/// Status for the caller, retry, and what is known of the reservation then.
type Row = (u32, Retry, Outcome);

const ANYTHING_ELSE: Row = (DEVICE_ERROR, No, Unknown);
const PROOF: Row = (0, No, Executed);
const GONE: Row = (NOT_CONNECTED, No, Unknown);
const REFUSED: Row = (INVALID_REQUEST, TenByteForm, NotExecuted);
const TROUBLE: Row = (DEVICE_ERROR, AfterDelay, Unknown);

/// By SCSI status; CHECK CONDITION is by sense data, GOOD and 0xFF are by NTSTATUS.
const BY_SCSI_STATUS: [(u8, Row); 5] = [
    (0x18, (BUSY, No, Conflict)),
    (0x08, (NOT_READY, AfterDelay, NotExecuted)),
    (0x28, (NOT_READY, AfterDelay, NotExecuted)),
    (0x30, (NOT_READY, AfterDelay, NotExecuted)),
    (0x40, (DEVICE_ERROR, AfterDelay, Unknown)),
];

/// By sense key, ASC and ASCQ; the first that fits. A recovered error is a row of its own.
#[rustfmt::skip]
const BY_SENSE: [(u8, Option<u8>, Option<u8>, Row); 18] = [
    (0x0, None, None, (DEVICE_ERROR, AfterDelay, Unknown)),
    (0x2, Some(0x04), Some(0x01), (NOT_READY, AfterTenSeconds, NotExecuted)),
    (0x2, Some(0x04), Some(0x07), (NOT_READY, AfterTenSeconds, NotExecuted)),
    (0x2, Some(0x04), Some(0x0A), (NOT_READY, AfterTenSeconds, NotExecuted)),
    (0x2, Some(0x3A), None, (NO_MEDIA, No, NotExecuted)),
    (0x2, Some(0x04), Some(0x03), (NO_MEDIA, No, NotExecuted)),
    (0x2, Some(0x04), Some(0x00), (NOT_READY, No, NotExecuted)),
    (0x2, Some(0x04), Some(0x04), (NOT_READY, No, NotExecuted)),
    (0x2, Some(0x04), Some(0x08), (NOT_READY, No, NotExecuted)),
    (0x2, None, None, (NOT_READY, AfterDelay, NotExecuted)),
    (0x3, None, None, (DATA_ERROR, No, Unknown)),
    (0x4, None, None, (HARDWARE_ERROR, No, Unknown)),
    (0x5, Some(0x25), None, (NOT_CONNECTED, No, Unknown)),
    (0x5, None, None, (INVALID_REQUEST, TenByteForm, NotExecuted)),
    (0x6, None, None, (DEVICE_ERROR, AtOnce, Unknown)),
    (0x7, None, None, (DENIED, No, NotExecuted)),
    (0xB, None, None, (DEVICE_ERROR, AfterDelay, Unknown)),
    (0x8, None, None, ANYTHING_ELSE),
];

#[rustfmt::skip]
const BY_NT_STATUS: [(u32, Row); 22] = [
    (0xC000_00B5, (TIMEOUT, No, Unknown)),              // IO_TIMEOUT
    (0xC000_000E, GONE),                                // NO_SUCH_DEVICE
    (0xC000_00C0, GONE),                                // DEVICE_DOES_NOT_EXIST
    (0xC000_009D, GONE),                                // DEVICE_NOT_CONNECTED
    (0xC000_02B6, GONE),                                // DEVICE_REMOVED
    (0xC000_0184, GONE),                                // INVALID_DEVICE_STATE
    (0xC000_0056, GONE),                                // DELETE_PENDING
    (0x8000_0010, GONE),                                // DEVICE_OFF_LINE
    (0x8000_000F, GONE),                                // DEVICE_POWERED_OFF
    (0xC000_0010, REFUSED),                             // INVALID_DEVICE_REQUEST
    (0xC000_00BB, REFUSED),                             // NOT_SUPPORTED
    (0xC000_0002, REFUSED),                             // NOT_IMPLEMENTED
    (0xC000_009A, (NO_RESOURCES, AfterDelay, Unknown)), // INSUFFICIENT_RESOURCES
    (0xC000_0185, TROUBLE),                             // IO_DEVICE_ERROR
    (0x8000_0011, TROUBLE),                             // DEVICE_BUSY
    (0xC000_020C, TROUBLE),                             // CONNECTION_DISCONNECTED
    (0xC000_020D, TROUBLE),                             // CONNECTION_RESET
    (0xC000_0240, TROUBLE),                             // REQUEST_ABORTED
    (0xC000_0120, TROUBLE),                             // CANCELLED
    (0xC000_00A3, (NOT_READY, AfterDelay, Unknown)),    // DEVICE_NOT_READY
    (0xC000_0013, (NO_MEDIA, No, Unknown)),             // NO_MEDIA_IN_DEVICE
    (0xC000_0178, (NO_MEDIA, No, Unknown)),             // NO_MEDIA
];

/// NTSTATUS values that have no row: success, informational, warnings and errors.
const WITHOUT_ROW: [u32; 10] = [
    0x0000_0000,
    0x0000_0102,
    0x0000_0103,
    0x4000_0000,
    0x7FFF_FFFF,
    0x8000_0000,
    0x8000_0005,
    0x8000_0012,
    0xC000_0001,
    0xFFFF_FFFF,
];

/// CHECK CONDITION whose sense data says nothing readable.
const UNREADABLE: Row = TROUBLE;
/// Sense data of an earlier command.
const DEFERRED: Row = (DEVICE_ERROR, AfterDelay, NotExecuted);

fn nt(value: u32) -> NtStatus {
    NtStatus(value.cast_signed())
}

fn row_of_nt_status(status: u32) -> Row {
    BY_NT_STATUS
        .iter()
        .find(|(value, _)| *value == status)
        .map_or(ANYTHING_ELSE, |(_, row)| *row)
}

fn row_of_codes(status: u32, key: u8, asc: u8, ascq: u8) -> Row {
    if key == 0x1 {
        return match status {
            0x0000_0000 | 0xC000_0185 => PROOF,
            _ => row_of_nt_status(status),
        };
    }
    BY_SENSE
        .iter()
        .find(|(k, a, q, _)| *k == key && a.is_none_or(|a| a == asc) && q.is_none_or(|q| q == ascq))
        .map_or(ANYTHING_ELSE, |(.., row)| *row)
}

fn row_of(verdict: &Verdict) -> Row {
    let status = verdict.status.0.cast_unsigned();
    (status, verdict.retry, verdict.outcome)
}

fn judge(status: u32, information: usize, scsi_status: u8, sense: &[u8]) -> Row {
    let verdict = Verdict::of(&Answer {
        status: nt(status),
        information,
        scsi_status,
        sense,
    });
    assert_eq!(verdict.port, nt(status));
    row_of(&verdict)
}

/// Sense data in the format of a response code, with `more` as its ADDITIONAL SENSE LENGTH and 255
/// bytes long.
fn sense_data(code: u8, key: u8, asc: u8, ascq: u8, more: u8) -> [u8; 255] {
    let mut bytes = [0xA5; 255];
    bytes[0] = code;
    bytes[7] = more;
    let (key_at, asc_at) = if code & 2 == 0 { (2, 12) } else { (1, 2) };
    bytes[key_at] = 0xF0 | key;
    bytes[asc_at] = asc;
    bytes[asc_at + 1] = ascq;
    bytes
}

/// What the sense data of [`sense_data`] says with `length` bytes of it back.
fn row_of_sense(status: u32, code: u8, key: u8, asc: u8, ascq: u8, length: usize) -> Row {
    let (key_at, asc_at) = if code & 2 == 0 { (2, 12) } else { (1, 2) };
    match length {
        _ if length <= key_at => UNREADABLE,
        _ if code & 1 == 1 => DEFERRED,
        _ if length <= asc_at => row_of_codes(status, key, 0, 0),
        _ if length == asc_at + 1 => row_of_codes(status, key, asc, 0),
        _ => row_of_codes(status, key, asc, ascq),
    }
}

/// The SCSI status decides before the NTSTATUS, whatever that is, unless it is GOOD or was not
/// written.
#[test]
fn every_scsi_status_means_the_same_in_both_shapes() {
    for status in WITHOUT_ROW
        .into_iter()
        .chain(BY_NT_STATUS.map(|(value, _)| value))
    {
        for scsi_status in 0..=u8::MAX {
            let expected = match scsi_status {
                0x00 if status == 0 => PROOF,
                0x00 | 0xFF => row_of_nt_status(status),
                0x02 => UNREADABLE,
                _ => BY_SCSI_STATUS
                    .iter()
                    .find(|(value, _)| *value == scsi_status)
                    .map_or(ANYTHING_ELSE, |(_, row)| *row),
            };
            assert_eq!(
                judge(status, 56, scsi_status, &[]),
                expected,
                "{status:#X} {scsi_status:#X}"
            );
            assert_eq!(
                judge(status, 55, scsi_status, &[]),
                row_of_nt_status(status),
                "{status:#X}, 55 bytes"
            );
        }
        let refused = row_of_nt_status(status);
        assert_eq!(row_of(&Verdict::of_refused(nt(status))), refused);
        // Nothing left this node.
        let (told, retry, _) = refused;
        let failed = row_of(&Verdict::of_failed_format(nt(status)));
        assert_eq!(failed, (told, retry, NotExecuted));
    }
}

/// Every key and every code with a row, in all formats, of all lengths, in both shapes.
#[test]
fn sense_data_means_what_the_part_of_it_that_came_back_says() {
    let codes = [0x00, 0x04, 0x20, 0x24, 0x25, 0x29, 0x3A];
    let qualifiers = [0x00, 0x01, 0x02, 0x03, 0x04, 0x07, 0x08, 0x0A, 0x14];
    for code in [0x70, 0x71, 0x72, 0x73, 0xF0, 0xF1, 0xF2, 0xF3] {
        for key in 0..=15 {
            for asc in codes {
                for ascq in qualifiers {
                    let bytes = sense_data(code, key, asc, ascq, 247);
                    for length in 0..=252 {
                        for status in [0x0000_0000, 0xC000_0185, 0xC000_00B5, 0xC000_000E] {
                            let expected = row_of_sense(status, code, key, asc, ascq, length);
                            let row = judge(status, 56 + length, 0x02, &bytes[..length]);
                            assert_eq!(
                                row, expected,
                                "{code:#X} {key} {asc:#X} {ascq:#X} {length}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn bytes_past_the_additional_sense_length_or_the_information_are_not_read() {
    for code in [0x70, 0x71, 0x72, 0x73] {
        for key in 0..=15 {
            for length in 0..=32 {
                let whole = sense_data(code, key, 0x3A, 0x00, 247);
                let expected = row_of_sense(0, code, key, 0x3A, 0x00, length);
                assert_eq!(
                    judge(0, 56 + length, 0x02, &whole),
                    expected,
                    "{length} back"
                );

                let declared = sense_data(code, key, 0x3A, 0x00, u8::try_from(length).unwrap());
                let expected = row_of_sense(0, code, key, 0x3A, 0x00, 8 + length);
                assert_eq!(
                    judge(0, 56 + 252, 0x02, &declared),
                    expected,
                    "{length} declared"
                );
            }
        }
    }
}

#[test]
fn sense_data_of_no_known_format_is_unreadable() {
    for code in (0..=u8::MAX).filter(|code| !(0x70..=0x73).contains(&(code & 0x7F))) {
        let bytes = sense_data(code, 1, 0, 0, 10);
        assert_eq!(sense::parse(&bytes), None);
        assert_eq!(
            judge(0, 56 + 18, 0x02, &bytes[..18]),
            UNREADABLE,
            "{code:#X}"
        );
    }
}

#[test]
fn a_verdict_carries_what_the_target_said() {
    let silent = Target::SILENT;
    assert_eq!((silent.scsi_status, silent.sense_key), (0xFF, 0xFF));
    for code in [0x70, 0x71, 0x72, 0xF3] {
        let bytes = sense_data(code, 6, 0x29, 0x02, 10);
        for (scsi_status, information, said) in [
            (0x02, 74, (0x02, 6, 0x29, 0x02)),
            (0x02, 57, (0x02, 0xFF, 0, 0)),
            (0x02, 55, (0xFF, 0xFF, 0, 0)),
            (0x18, 74, (0x18, 0xFF, 0, 0)),
            (0x00, 74, (0x00, 0xFF, 0, 0)),
            (0xFF, 74, (0xFF, 0xFF, 0, 0)),
        ] {
            let target = Verdict::of(&Answer {
                status: NtStatus::SUCCESS,
                information,
                scsi_status,
                sense: &bytes[..18],
            })
            .target;
            let carried = (
                target.scsi_status,
                target.sense_key,
                target.asc,
                target.ascq,
            );
            assert_eq!(carried, said, "{code:#X} {scsi_status:#X} {information}");
        }
    }
}

/// classpnp does so when it meets them: all of "target operating conditions have changed" but new
/// microcode.
#[test]
fn a_changed_target_asks_for_a_new_look_at_the_bus() {
    for code in [0x70, 0x71, 0x72, 0x73] {
        for key in 0..=15 {
            for asc in 0..=u8::MAX {
                for ascq in [0x00, 0x01, 0x02, 0x03, 0x0E, 0xFF] {
                    let bytes = sense_data(code, key, asc, ascq, 10);
                    let verdict = Verdict::of(&Answer {
                        status: NtStatus::SUCCESS,
                        information: 74,
                        scsi_status: 0x02,
                        sense: &bytes[..18],
                    });
                    let asks = key == 6 && asc == 0x3F && ascq != 0x01 && code & 1 == 0;
                    assert_eq!(verdict.invalidates_bus_relations(), asks, "{verdict:?}");
                }
            }
        }
    }
    assert!(!Verdict::of_refused(NtStatus::CANCELLED).invalidates_bus_relations());
}

/// Exclusive access is proved by all three of these, or by a recovered error of this very command.
fn is_proof(status: u32, information: usize, scsi_status: u8, sense: &[u8]) -> bool {
    let back = &sense[..sense.len().min(information.saturating_sub(56))];
    let recovered = match back {
        [0x70 | 0xF0, _, key, ..] | [0x72 | 0xF2, key, ..] => key & 0x0F == 1,
        _ => false,
    };
    let good = scsi_status == 0x00 && status == 0;
    let recovered = recovered && scsi_status == 0x02 && [0, 0xC000_0185].contains(&status);
    information >= 56 && (good || recovered)
}

#[test]
fn success_is_told_on_proof_and_only_then() {
    let senses = (0..=u8::MAX)
        .flat_map(|code| (0..=15).map(move |key| sense_data(code, key, 0, 0, 10)))
        .collect::<Vec<_>>();
    for status in WITHOUT_ROW
        .into_iter()
        .chain(BY_NT_STATUS.map(|(value, _)| value))
    {
        for information in [0, 1, 55, 56, 57, 58, 59, 74, 88, usize::MAX] {
            for scsi_status in (0..=u8::MAX).filter(|&scsi_status| scsi_status != 0x02) {
                let told = judge(status, information, scsi_status, &senses[0][..18]).0 == 0;
                assert_eq!(
                    told,
                    is_proof(status, information, scsi_status, &senses[0][..18])
                );
            }
            for sense in &senses {
                let told = judge(status, information, 0x02, &sense[..18]).0 == 0;
                assert_eq!(
                    told,
                    is_proof(status, information, 0x02, &sense[..18]),
                    "{sense:?}"
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn success_is_told_on_proof_and_only_then_for_any_answer(
        status in prop_oneof![any::<u32>(), Just(0), Just(0xC000_0185)],
        information in prop_oneof![0..400_usize, any::<usize>()],
        scsi_status in prop_oneof![any::<u8>(), Just(0), Just(2), Just(0xFF)],
        code in prop_oneof![any::<u8>(), 0x70..=0x73_u8],
        rest in proptest::collection::vec(any::<u8>(), 0..=252),
    ) {
        let sense = [&[code], rest.as_slice()].concat();
        let row = judge(status, information, scsi_status, &sense);
        prop_assert_eq!(row.0 == 0, is_proof(status, information, scsi_status, &sense));
        prop_assert!(row.0 != BUSY || (scsi_status == 0x18 && information >= 56));
    }
}
