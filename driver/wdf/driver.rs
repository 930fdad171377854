//! The driver object.

use core::ptr::null_mut;

use scsi_reserve::NtStatus;
use wdk_sys::{
    PCUNICODE_STRING, PDRIVER_OBJECT, PFN_WDF_DRIVER_DEVICE_ADD, PFN_WDF_DRIVER_UNLOAD,
    WDF_DRIVER_CONFIG, WDFDRIVER, call_unsafe_wdf_function_binding as call_unsafe,
};

use super::context::{Context, set_context};
use super::object::{attributes, check, size};

/// Makes the `WDFDRIVER`, with context space for a `D`. `PASSIVE_LEVEL`.
///
/// # Safety
/// The first two arguments are those of `DriverEntry`; the callbacks may be called with a driver that has such context
/// space.
pub unsafe fn create_driver<D: Context>(
    object: PDRIVER_OBJECT,
    registry_path: PCUNICODE_STRING,
    device_add: PFN_WDF_DRIVER_DEVICE_ADD,
    unload: PFN_WDF_DRIVER_UNLOAD,
) -> Result<WDFDRIVER, NtStatus> {
    let mut attributes = attributes(null_mut());
    set_context::<D>(&mut attributes);
    let mut config = WDF_DRIVER_CONFIG {
        Size: size::<WDF_DRIVER_CONFIG>(),
        EvtDriverDeviceAdd: device_add,
        EvtDriverUnload: unload,
        ..WDF_DRIVER_CONFIG::default()
    };
    let mut driver = null_mut();
    // SAFETY: the caller's for the first two; the others are initialised and outlive the call.
    check(unsafe {
        call_unsafe!(
            WdfDriverCreate,
            object,
            registry_path,
            &raw mut attributes,
            &raw mut config,
            &raw mut driver
        )
    })?;
    Ok(driver)
}
