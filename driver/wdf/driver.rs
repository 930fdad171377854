//! The driver object, and what a device is made from.

use core::ffi::c_void;
use core::marker::PhantomData;

use scsi_reserve::NtStatus;
use wdk_sys::{
    DEVICE_REGISTRY_PROPERTY, KEY_READ, NTSTATUS, PCUNICODE_STRING, PDRIVER_OBJECT,
    PLUGPLAY_REGKEY_DEVICE, PWDFDEVICE_INIT, STATUS_SUCCESS, ULONG, WDF_DRIVER_CONFIG,
    WDF_NO_OBJECT_ATTRIBUTES, WDF_PNPPOWER_EVENT_CALLBACKS, WDFDRIVER,
    call_unsafe_wdf_function_binding as call_unsafe,
};

use super::context::{Body, Context, set_context};
use super::device::{self, Device, Operations};
use super::etw::Provider;
use super::registry::Key;
use super::{attributes, check, size};

/// A filter driver; its value is the context of the `WDFDRIVER`.
pub trait Driver: Context {
    /// Where the driver's events go.
    fn provider() -> &'static Provider;

    /// `DriverEntry`, with the driver's Parameters key if there is one. `PASSIVE_LEVEL`.
    fn load(parameters: Option<&Key>) -> Self;

    /// `EvtDriverDeviceAdd`. `Ok` without a device leaves the disk alone, and so does an error. `PASSIVE_LEVEL`.
    fn device_add(&self, init: DeviceInit<'_>) -> Result<(), NtStatus>;

    /// `EvtDriverUnload`: the driver has no devices any more. `PASSIVE_LEVEL`.
    fn unload(&self);
}

/// Exports `DriverEntry` for a [`Driver`].
macro_rules! driver_entry {
    ($driver:ty) => {
        /// What the framework's entry stub calls when the driver is loaded.
        #[allow(unsafe_code)]
        // SAFETY: the stub looks for this name, and no other item has it.
        #[unsafe(export_name = "DriverEntry")]
        extern "system" fn driver_entry(
            driver: wdk_sys::PDRIVER_OBJECT,
            registry_path: wdk_sys::PCUNICODE_STRING,
        ) -> wdk_sys::NTSTATUS {
            // SAFETY: the arguments are the loader's own.
            unsafe { $crate::wdf::create::<$driver>(driver, registry_path) }
        }
    };
}
pub(crate) use driver_entry;

/// Registers the provider of `D` and makes its `WDFDRIVER`.
///
/// # Safety
/// The arguments are those of `DriverEntry`.
pub unsafe fn create<D: Driver>(
    object: PDRIVER_OBJECT,
    registry_path: PCUNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: DriverEntry runs once; if it fails it is unregistered here, else in EvtDriverUnload.
    unsafe { D::provider().register() };
    // SAFETY: the caller's.
    let status = unsafe { create_driver::<D>(object, registry_path) };
    if check(status).is_err() {
        D::provider().unregister();
    }
    status
}

/// # Safety
/// The arguments are those of `DriverEntry`.
unsafe fn create_driver<D: Driver>(
    object: PDRIVER_OBJECT,
    registry_path: PCUNICODE_STRING,
) -> NTSTATUS {
    let mut attributes = attributes(core::ptr::null_mut());
    set_context::<D>(&mut attributes);
    let mut config = WDF_DRIVER_CONFIG {
        Size: size::<WDF_DRIVER_CONFIG>(),
        EvtDriverDeviceAdd: Some(device_add::<D>),
        EvtDriverUnload: Some(unload::<D>),
        ..WDF_DRIVER_CONFIG::default()
    };
    let mut driver: WDFDRIVER = core::ptr::null_mut();
    // SAFETY: the caller's for the first two; the others are initialised and outlive the call.
    let status = unsafe {
        call_unsafe!(
            WdfDriverCreate,
            object,
            registry_path,
            &raw mut attributes,
            &raw mut config,
            &raw mut driver
        )
    };
    if check(status).is_err() {
        return status;
    }
    // SAFETY: the driver was just made.
    let key = unsafe { Key::parameters(driver) };
    #[cfg(broken)]
    super::broken::loading(key.as_ref().ok(), D::provider());
    let value = D::load(key.ok().as_ref());
    // SAFETY: the driver was just made.
    if let Some(body) = unsafe { Body::of(driver.cast()) } {
        // SAFETY: nothing was put there yet, and DriverEntry runs once.
        unsafe { body.fill(value) };
    }
    STATUS_SUCCESS
}

unsafe extern "C" fn device_add<D: Driver>(driver: WDFDRIVER, init: PWDFDEVICE_INIT) -> NTSTATUS {
    // First of all: from here on the framework turns an error into "not attached".
    // SAFETY: the framework gives a live init.
    unsafe { call_unsafe!(WdfFdoInitSetFilter, init) };
    // SAFETY: the driver outlives its callback.
    let Some(driver) = unsafe { Body::<D>::of(driver.cast()) }.and_then(Body::get) else {
        return STATUS_SUCCESS;
    };
    let init = DeviceInit {
        raw: init,
        callback: PhantomData,
    };
    match driver.device_add(init) {
        Ok(()) => STATUS_SUCCESS,
        Err(status) => status.0,
    }
}

unsafe extern "C" fn unload<D: Driver>(driver: WDFDRIVER) {
    // SAFETY: the driver outlives its callback.
    if let Some(driver) = unsafe { Body::<D>::of(driver.cast()) }.and_then(Body::get) {
        driver.unload();
    }
    D::provider().unregister();
    #[cfg(broken)]
    super::broken::unloaded(D::provider());
}

/// `WDFDEVICE_INIT` of a filter device, for the length of [`Driver::device_add`].
pub struct DeviceInit<'a> {
    raw: PWDFDEVICE_INIT,
    callback: PhantomData<&'a ()>,
}

impl DeviceInit<'_> {
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

    /// The disk's hardware IDs, most specific first, each with its terminating 0.
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

    /// Makes the filter device, with room for its context.
    pub fn create<C: Operations>(self) -> Result<Device<C>, NtStatus> {
        let mut callbacks = WDF_PNPPOWER_EVENT_CALLBACKS {
            Size: size::<WDF_PNPPOWER_EVENT_CALLBACKS>(),
            EvtDeviceD0Entry: Some(device::d0_entry::<C>),
            EvtDeviceSelfManagedIoFlush: Some(device::self_managed_io_flush::<C>),
            ..WDF_PNPPOWER_EVENT_CALLBACKS::default()
        };
        // SAFETY: the init is live, and the framework copies the callbacks.
        unsafe {
            call_unsafe!(
                WdfDeviceInitSetPnpPowerEventCallbacks,
                self.raw,
                &raw mut callbacks
            );
        };
        let mut attributes = attributes(core::ptr::null_mut());
        set_context::<C>(&mut attributes);
        attributes.EvtCleanupCallback = Some(device::cleanup::<C>);
        let mut init = self.raw;
        let mut device = core::ptr::null_mut();
        // SAFETY: the init is live; `self` is gone with it.
        check(unsafe {
            call_unsafe!(
                WdfDeviceCreate,
                &raw mut init,
                &raw mut attributes,
                &raw mut device
            )
        })?;
        // SAFETY: the device was just made, with this context.
        Ok(unsafe { Device::new(device) })
    }
}
