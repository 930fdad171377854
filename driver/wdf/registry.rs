//! Registry keys, and the UTF-16 text that names them.

use core::ptr::null_mut;

use scsi_reserve::NtStatus;
use wdk_sys::{
    KEY_READ, NTSTATUS, ULONG, UNICODE_STRING, USHORT, WDF_NO_OBJECT_ATTRIBUTES, WDFDRIVER, WDFKEY,
    call_unsafe_wdf_function_binding as call_unsafe,
};

use super::object::check;

/// Text in UTF-16, with a NUL behind it. Made by [`utf16!`].
#[derive(Clone, Copy)]
pub struct Utf16(&'static [u16]);

impl Utf16 {
    /// At most what a `UNICODE_STRING` can hold.
    pub const fn new(with_nul: &'static [u16]) -> Self {
        assert!(with_nul.len() < USHORT::MAX as usize / 2);
        assert!(matches!(with_nul, [.., 0]));
        Self(with_nul)
    }

    /// The text's code units.
    pub const fn units(self) -> &'static [u16] {
        match self.0 {
            [units @ .., _nul] => units,
            [] => &[],
        }
    }

    /// The same with the NUL.
    pub const fn with_nul(self) -> &'static [u16] {
        self.0
    }

    #[allow(clippy::cast_possible_truncation, reason = "`new` has seen to it")]
    fn as_unicode_string(self) -> UNICODE_STRING {
        UNICODE_STRING {
            Length: size_of_val(self.units()) as USHORT,
            MaximumLength: size_of_val(self.0) as USHORT,
            Buffer: self.0.as_ptr().cast_mut(),
        }
    }
}

/// A constant ASCII text as [`Utf16`].
macro_rules! utf16 {
    ($text:expr) => {{
        const UNITS: [u16; $text.len() + 1] = $crate::wdf::ascii($text);
        const TEXT: $crate::wdf::Utf16 = $crate::wdf::Utf16::new(&UNITS);
        TEXT
    }};
}
pub(crate) use utf16;

/// For [`utf16!`], at compile time.
pub const fn ascii<const N: usize>(text: &str) -> [u16; N] {
    let mut units = [0; N];
    let mut at = 0;
    while at < text.len() {
        assert!(text.as_bytes()[at].is_ascii());
        units[at] = text.as_bytes()[at] as u16;
        at += 1;
    }
    units
}

/// An open key. All of it at `PASSIVE_LEVEL`.
pub struct Key(WDFKEY);

impl Key {
    /// Opens a key by its full name.
    pub fn open(name: Utf16) -> Result<Self, NtStatus> {
        let name = name.as_unicode_string();
        Self::opened_by(|key| {
            // SAFETY: the name outlives the call; no parent, no attributes.
            unsafe {
                call_unsafe!(
                    WdfRegistryOpenKey,
                    null_mut(),
                    &raw const name,
                    KEY_READ,
                    WDF_NO_OBJECT_ATTRIBUTES,
                    key
                )
            }
        })
    }

    /// The driver's Parameters key.
    ///
    /// # Safety
    /// The driver lives.
    pub unsafe fn parameters(driver: WDFDRIVER) -> Result<Self, NtStatus> {
        Self::opened_by(|key| {
            // SAFETY: the caller's; no attributes.
            unsafe {
                call_unsafe!(
                    WdfDriverOpenParametersRegistryKey,
                    driver,
                    KEY_READ,
                    WDF_NO_OBJECT_ATTRIBUTES,
                    key
                )
            }
        })
    }

    /// Takes over the key that a call gives.
    pub fn opened_by(open: impl FnOnce(*mut WDFKEY) -> NTSTATUS) -> Result<Self, NtStatus> {
        let mut key = null_mut();
        check(open(&raw mut key))?;
        Ok(Self(key))
    }

    /// A `REG_DWORD`.
    pub fn query_u32(&self, name: Utf16) -> Result<u32, NtStatus> {
        let name = name.as_unicode_string();
        let mut value: ULONG = 0;
        // SAFETY: the key is open; name and value outlive the call.
        check(unsafe {
            call_unsafe!(
                WdfRegistryQueryULong,
                self.0,
                &raw const name,
                &raw mut value
            )
        })?;
        Ok(value)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        // SAFETY: the key is open, and closed once.
        unsafe { call_unsafe!(WdfRegistryClose, self.0) };
    }
}
