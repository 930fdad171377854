//! A filter device while it is being made: `WDFDEVICE_INIT`, then the `WDFDEVICE` whose context is still to come.

use core::ffi::c_void;
use core::marker::PhantomData;
use core::ptr::null_mut;

use scsi_reserve::NtStatus;
use wdk_sys::{
    DEVICE_REGISTRY_PROPERTY, KEY_READ, PFN_WDF_OBJECT_CONTEXT_CLEANUP,
    PFN_WDFDEVICE_WDM_IRP_DISPATCH, PLUGPLAY_REGKEY_DEVICE, PWDFDEVICE_INIT, UCHAR, ULONG,
    WDF_NO_OBJECT_ATTRIBUTES, WDF_PNPPOWER_EVENT_CALLBACKS, WDFDEVICE, WDFOBJECT,
    call_unsafe_wdf_function_binding as call_unsafe,
};

use super::context::{Context, ContextSpace, set_context};
use super::object::{attributes, check, size};
use super::registry::Key;

/// `WDFDEVICE_INIT` of a filter device, for the length of `EvtDriverDeviceAdd`. All of it at `PASSIVE_LEVEL`.
pub struct DeviceInit<'a> {
    raw: PWDFDEVICE_INIT,
    callback: PhantomData<&'a ()>,
}

impl DeviceInit<'_> {
    /// Makes the device to come a filter: from here on the framework turns an error of `EvtDriverDeviceAdd` into "not
    /// attached" (fxdriverkm.cpp, `FxDriver::AddDevice`).
    ///
    /// # Safety
    /// The argument of an `EvtDriverDeviceAdd` that does not return before `'a` ends.
    pub unsafe fn filter(raw: PWDFDEVICE_INIT) -> Self {
        // SAFETY: the caller's.
        unsafe { call_unsafe!(WdfFdoInitSetFilter, raw) };
        Self {
            raw,
            callback: PhantomData,
        }
    }

    /// The disk's hardware key.
    pub fn hardware_key(&self) -> Result<Key, NtStatus> {
        Key::opened_by(|key| {
            // SAFETY: the init is live until the device is created, which consumes `self`.
            unsafe {
                call_unsafe!(
                    WdfFdoInitOpenRegistryKey,
                    self.raw,
                    PLUGPLAY_REGKEY_DEVICE,
                    KEY_READ,
                    WDF_NO_OBJECT_ATTRIBUTES,
                    key
                )
            }
        })
    }

    /// The disk's hardware IDs, most specific first, each with its terminating 0. More than the buffer holds is an
    /// error.
    pub fn hardware_ids<'b>(&self, buffer: &'b mut [u16; 512]) -> Result<&'b [u16], NtStatus> {
        let mut bytes: ULONG = 0;
        // SAFETY: as above; the length given is the buffer's.
        let status = unsafe {
            call_unsafe!(
                WdfFdoInitQueryProperty,
                self.raw,
                DEVICE_REGISTRY_PROPERTY::DevicePropertyHardwareID,
                size::<[u16; 512]>(),
                buffer.as_mut_ptr().cast::<c_void>(),
                &raw mut bytes
            )
        };
        check(status)?;
        Ok(buffer.get(..bytes as usize / 2).unwrap_or(&[]))
    }

    /// Makes the filter device, with context space for a `C`.
    ///
    /// # Safety
    /// The callbacks may be called with a device that has such context space.
    pub unsafe fn create_device<C: Context>(
        self,
        callbacks: &mut WDF_PNPPOWER_EVENT_CALLBACKS,
        cleanup: PFN_WDF_OBJECT_CONTEXT_CLEANUP,
    ) -> Result<Device<C>, NtStatus> {
        // SAFETY: the init is live, and the framework copies the callbacks.
        unsafe {
            call_unsafe!(WdfDeviceInitSetPnpPowerEventCallbacks, self.raw, callbacks);
        };
        let mut attributes = attributes(null_mut());
        set_context::<C>(&mut attributes);
        attributes.EvtCleanupCallback = cleanup;
        let mut init = self.raw;
        let mut device = null_mut();
        // SAFETY: the init is live; `self` is gone with it.
        check(unsafe {
            call_unsafe!(
                WdfDeviceCreate,
                &raw mut init,
                &raw mut attributes,
                &raw mut device
            )
        })?;
        // SAFETY: the device was just made with this context, and lives as long as the context space.
        match unsafe { ContextSpace::of(device.cast()) } {
            Some(space) => Ok(Device { raw: device, space }),
            None => Err(NtStatus::INSUFFICIENT_RESOURCES),
        }
    }
}

/// A `WDFDEVICE` that is being made: its context is still empty.
pub struct Device<C: Context> {
    raw: WDFDEVICE,
    space: &'static ContextSpace<C>,
}

impl<C: Context> Device<C> {
    /// The handle, for what becomes a child of the device.
    pub fn raw(&self) -> WDFDEVICE {
        self.raw
    }

    /// The handle as a parent.
    pub fn object(&self) -> WDFOBJECT {
        self.raw.cast()
    }

    /// Where the context will be. `'static` stands for "as long as the device": whoever keeps it is a child of the
    /// device.
    pub fn space(&self) -> &'static ContextSpace<C> {
        self.space
    }

    /// Lets IRPs of one major function come to a routine, whose `DriverContext` is the context space.
    ///
    /// # Safety
    /// The routine may be called with this device.
    pub unsafe fn dispatch_to(
        &self,
        major_function: UCHAR,
        dispatch: PFN_WDFDEVICE_WDM_IRP_DISPATCH,
    ) -> Result<(), NtStatus> {
        // No callback for any other major function, and no default queue: everything else skips the filter.
        // SAFETY: the device lives, and has not started.
        check(unsafe {
            call_unsafe!(
                WdfDeviceConfigureWdmIrpDispatchCallback,
                self.raw,
                null_mut(),
                major_function,
                dispatch,
                core::ptr::from_ref(self.space).cast_mut().cast()
            )
        })
    }

    /// Puts the context in its place. Comes last: until then all IRPs pass by.
    pub fn fill(self, context: C) {
        // SAFETY: `self` is the one of its device, and consumed.
        unsafe { self.space.fill(context) };
    }
}
