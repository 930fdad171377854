//! The service control manager.

use std::ptr::null;

use windows_sys::Win32::System::Services::{
    CloseServiceHandle, OpenSCManagerW, OpenServiceW, QUERY_SERVICE_CONFIGW, QueryServiceConfigW,
    QueryServiceStatus, SC_HANDLE, SC_MANAGER_CONNECT, SERVICE_QUERY_CONFIG, SERVICE_QUERY_STATUS,
    SERVICE_STATUS,
};

use super::{last_error, length, ok, pointed, wide};
use crate::FILTER;
use crate::machine::{self, Answer, Win32};

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
        Self::named(FILTER, access)
    }

    pub(super) fn named(name: &str, access: u32) -> Answer<Option<Self>> {
        let (manager, name) = (Self::manager(SC_MANAGER_CONNECT)?, wide(name));
        // SAFETY: a live handle and a string with its NUL.
        match Self::new(unsafe { OpenServiceW(manager.0, name.as_ptr(), access) }) {
            Err(Win32::SERVICE_DOES_NOT_EXIST) => Ok(None),
            service => service.map(Some),
        }
    }

    pub(super) fn state(&self) -> Answer<u32> {
        let mut state = SERVICE_STATUS::default();
        // SAFETY: a live handle and a live structure.
        ok(unsafe { QueryServiceStatus(self.0, &raw mut state) })?;
        Ok(state.dwCurrentState)
    }
}

pub(super) fn service(name: &str) -> Answer<Option<machine::Service>> {
    let access = SERVICE_QUERY_CONFIG | SERVICE_QUERY_STATUS;
    let Some(service) = Service::named(name, access)? else {
        return Ok(None);
    };
    // The most that it can be (Microsoft's page on the function); u64s for the structure's alignment.
    let mut buffer = [0_u64; 1024];
    let config: *mut QUERY_SERVICE_CONFIGW = buffer.as_mut_ptr().cast();
    let (room, mut needed) = (length(&buffer), 0);
    // SAFETY: a live handle and a buffer of that size.
    ok(unsafe { QueryServiceConfigW(service.0, config, room, &raw mut needed) })?;
    // SAFETY: the function wrote the structure to the buffer, which is larger and lives.
    let config = unsafe { config.read() };
    // SAFETY: a string with its NUL in the buffer, or null.
    let group = unsafe { pointed(config.lpLoadOrderGroup) };
    // SAFETY: as above.
    let image = unsafe { pointed(config.lpBinaryPathName) };
    Ok(Some(machine::Service {
        start: config.dwStartType,
        error_control: config.dwErrorControl,
        group: group.unwrap_or_default(),
        image: image.unwrap_or_default(),
        state: service.state()?,
    }))
}
