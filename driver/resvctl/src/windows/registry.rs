//! The registry.

use std::ptr::{null, null_mut};

use windows_sys::Win32::Foundation::{ERROR_MORE_DATA, ERROR_NO_MORE_ITEMS};
use windows_sys::Win32::System::Registry::{
    HKEY, HKEY_LOCAL_MACHINE, KEY_ENUMERATE_SUB_KEYS, KEY_QUERY_VALUE, KEY_SET_VALUE,
    REG_OPTION_NON_VOLATILE, RegCloseKey, RegCreateKeyExW, RegDeleteValueW, RegEnumKeyExW,
    RegEnumValueW, RegOpenKeyExW, RegQueryValueExW, RegSetValueExW,
};

use super::{if_there, length, narrow, status, wide};
use crate::machine::{Answer, Value, Win32};

/// An open registry key.
pub(super) struct Open(pub(super) HKEY);

/// The names that a key's enumeration gives, of up to `ROOM` units with their NUL: it is called with an index, a buffer of
/// that length, and the length.
fn names<const ROOM: usize>(next: impl Fn(u32, *mut u16, *mut u32) -> u32) -> Answer<Vec<String>> {
    let mut name = vec![0; ROOM];
    let mut names = Vec::new();
    for index in 0.. {
        let mut length = length(&name) / 2;
        match status(next(index, name.as_mut_ptr(), &raw mut length)) {
            Err(Win32(ERROR_NO_MORE_ITEMS)) => break,
            result => result?,
        }
        names.push(narrow(&name[..length as usize]));
    }
    Ok(names)
}

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: the key is open, and nobody else closes it.
        unsafe { RegCloseKey(self.0) };
    }
}

impl Open {
    pub(super) fn machine(path: &str, write: bool) -> Answer<Self> {
        let (path, mut key) = (wide(path), null_mut());
        status(if write {
            // SAFETY: a live string with its NUL; the key is written to a live place.
            unsafe {
                RegCreateKeyExW(
                    HKEY_LOCAL_MACHINE,
                    path.as_ptr(),
                    0,
                    null(),
                    REG_OPTION_NON_VOLATILE,
                    KEY_SET_VALUE,
                    null(),
                    &raw mut key,
                    null_mut(),
                )
            }
        } else {
            // SAFETY: as above.
            unsafe {
                RegOpenKeyExW(
                    HKEY_LOCAL_MACHINE,
                    path.as_ptr(),
                    0,
                    KEY_QUERY_VALUE | KEY_ENUMERATE_SUB_KEYS,
                    &raw mut key,
                )
            }
        })?;
        Ok(Self(key))
    }

    pub(super) fn query(&self, name: &str) -> Answer<Value> {
        let name = wide(name);
        let mut value = Value {
            kind: 0,
            data: vec![0; 1024],
        };
        loop {
            let mut size = length(&value.data);
            let (kind, data) = (&raw mut value.kind, value.data.as_mut_ptr());
            // SAFETY: an open key, a live string with its NUL, and a buffer of `size` bytes.
            let result = unsafe {
                RegQueryValueExW(self.0, name.as_ptr(), null(), kind, data, &raw mut size)
            };
            value.data.resize(size as usize, 0);
            if result != ERROR_MORE_DATA {
                return status(result).map(|()| value);
            }
        }
    }

    /// The names of its values.
    pub(super) fn value_names(&self) -> Answer<Vec<String>> {
        // The longest name that a value may have, and its NUL (Microsoft's page "Registry Element Size Limits").
        names::<16_384>(|index, name, length| {
            let (none, kind, data, size) = (null(), null_mut(), null_mut(), null_mut());
            // SAFETY: an open key and a buffer of that many units; null: nothing else is wanted.
            unsafe { RegEnumValueW(self.0, index, name, length, none, kind, data, size) }
        })
    }

    /// The names of the keys below it.
    pub(super) fn key_names(&self) -> Answer<Vec<String>> {
        // The same page: 255 units.
        names::<256>(|index, name, length| {
            let (none, class, size, time) = (null(), null_mut(), null_mut(), null_mut());
            // SAFETY: an open key and a buffer of that many units; null: nothing else is wanted.
            unsafe { RegEnumKeyExW(self.0, index, name, length, none, class, size, time) }
        })
    }

    pub(super) fn set(&self, name: &str, value: Option<&Value>) -> Answer<()> {
        let name = wide(name);
        let Some(Value { kind, data }) = value else {
            // SAFETY: an open key and a live string with its NUL.
            let result = unsafe { RegDeleteValueW(self.0, name.as_ptr()) };
            return if_there(status(result)).map(drop);
        };
        // SAFETY: as above, and the data has that length.
        status(unsafe {
            RegSetValueExW(self.0, name.as_ptr(), 0, *kind, data.as_ptr(), length(data))
        })
    }
}
