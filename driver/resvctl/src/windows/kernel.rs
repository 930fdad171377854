//! What the kernel tells of its drivers: `NtQuerySystemInformation`.

use windows_sys::Wdk::System::SystemInformation::{
    NtQuerySystemInformation, SYSTEM_INFORMATION_CLASS,
};
use windows_sys::Win32::Foundation::{
    NTSTATUS, RtlNtStatusToDosError, STATUS_INFO_LENGTH_MISMATCH, STATUS_INVALID_INFO_CLASS,
    STATUS_NOT_IMPLEMENTED,
};

use super::length;
use crate::layouts;
use crate::machine::{Answer, Loaded, Verified, Win32};

/// `SystemModuleInformationEx` and `SystemVerifierInformation` (winsiderss/phnt, `ntexapi.h`).
const MODULES: SYSTEM_INFORMATION_CLASS = 77;
const VERIFIER: SYSTEM_INFORMATION_CLASS = 51;

/// What a status is in Win32.
pub(super) fn win32_of(status: NTSTATUS) -> Win32 {
    // SAFETY: no preconditions.
    Win32(unsafe { RtlNtStatusToDosError(status) })
}

pub(super) fn loaded(file: &str) -> Answer<Option<Loaded>> {
    let list = Information::query(MODULES)?;
    Ok(layouts::loaded(&list.bytes(), file))
}

pub(super) fn verified(file: &str) -> Answer<Option<Verified>> {
    let list = Information::query(VERIFIER)?;
    layouts::verified(&list.bytes(), list.address, file)
}

/// What was written to a buffer, and where that was: some of it points into itself.
struct Information {
    words: Vec<u64>,
    length: usize,
    address: usize,
}

impl Information {
    fn query(class: SYSTEM_INFORMATION_CLASS) -> Answer<Self> {
        // How much there is may change from one call to the next. 64 MiB hold more drivers than Windows can.
        for size in [0x2_0000, 0x20_0000, 0x80_0000] {
            let mut words = vec![0_u64; size];
            let (buffer, room, mut used) = (words.as_mut_ptr(), length(&words), 0);
            // SAFETY: a buffer of `room` bytes, aligned for 64-bit members.
            let status =
                unsafe { NtQuerySystemInformation(class, buffer.cast(), room, &raw mut used) };
            match status {
                STATUS_INFO_LENGTH_MISMATCH => {}
                0.. => {
                    return Ok(Self {
                        address: buffer.addr(),
                        length: used.min(room) as usize,
                        words,
                    });
                }
                // A Windows, or a Wine, that does not know the question.
                STATUS_INVALID_INFO_CLASS | STATUS_NOT_IMPLEMENTED => {
                    return Err(Win32::NOT_SUPPORTED);
                }
                _ => return Err(win32_of(status)),
            }
        }
        Err(Win32::MORE_DATA)
    }

    fn bytes(&self) -> Vec<u8> {
        let bytes = self.words.iter().flat_map(|word| word.to_le_bytes());
        bytes.take(self.length).collect()
    }
}
