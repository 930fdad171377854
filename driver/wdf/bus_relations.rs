//! The bus relations of a device's PDO.

use scsi_reserve::NtStatus;
use wdk_sys::{
    _DEVICE_RELATION_TYPE, PDEVICE_OBJECT, call_unsafe_wdf_function_binding as call_unsafe,
    ntddk::IoInvalidateDeviceRelations,
};

use super::context::Context;
use super::device::Device;

/// The right to have the device's bus enumerated anew.
pub struct BusRelations(PDEVICE_OBJECT);

// SAFETY: a device object may be named on any thread, several at once.
unsafe impl Sync for BusRelations {}

impl BusRelations {
    /// Those of the device's PDO. `PASSIVE_LEVEL`.
    pub fn of<C: Context>(device: &Device<C>) -> Result<Self, NtStatus> {
        // SAFETY: the device lives.
        let pdo = unsafe { call_unsafe!(WdfDeviceWdmGetPhysicalDevice, device.raw()) };
        if pdo.is_null() {
            return Err(NtStatus::NO_SUCH_DEVICE);
        }
        Ok(Self(pdo))
    }

    /// Tells the `PnP` manager that they are out of date; it asks for them later, on a thread of its own. Any IRQL up to
    /// `DISPATCH_LEVEL`.
    pub fn invalidate(&self) {
        // SAFETY: the PDO lives as long as its stack has devices, ours among them.
        unsafe { IoInvalidateDeviceRelations(self.0, _DEVICE_RELATION_TYPE::BusRelations) };
    }
}
