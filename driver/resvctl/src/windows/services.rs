//! The service control manager.

use std::ptr::null;

use windows_sys::Win32::System::Services::{
    CloseServiceHandle, OpenSCManagerW, OpenServiceW, SC_HANDLE, SC_MANAGER_CONNECT,
};

use super::{last_error, wide};
use crate::FILTER;
use crate::machine::{Answer, Win32};

/// A handle of the service control manager.
pub(super) struct Service(pub(super) SC_HANDLE);

impl Drop for Service {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and nobody else closes it.
        unsafe { CloseServiceHandle(self.0) };
    }
}

impl Service {
    pub(super) fn new(handle: SC_HANDLE) -> Answer<Self> {
        if handle.is_null() {
            Err(last_error())
        } else {
            Ok(Self(handle))
        }
    }

    pub(super) fn manager(access: u32) -> Answer<Self> {
        // SAFETY: null means this machine and its active database.
        Self::new(unsafe { OpenSCManagerW(null(), null(), access) })
    }

    /// The filter's, if it is there.
    pub(super) fn open(access: u32) -> Answer<Option<Self>> {
        let (manager, name) = (Self::manager(SC_MANAGER_CONNECT)?, wide(FILTER));
        // SAFETY: a live handle and a string with its NUL.
        match Self::new(unsafe { OpenServiceW(manager.0, name.as_ptr(), access) }) {
            Err(Win32::SERVICE_DOES_NOT_EXIST) => Ok(None),
            service => service.map(Some),
        }
    }
}
