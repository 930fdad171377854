//! A work item.

use core::ptr::null_mut;

use scsi_reserve::NtStatus;
use wdk_sys::{
    PFN_WDF_WORKITEM, WDF_WORKITEM_CONFIG, WDFWORKITEM,
    call_unsafe_wdf_function_binding as call_unsafe,
};

use super::context::Context;
use super::device::Device;
use super::object::{attributes, check, size};

/// Calls its function on a worker thread at `PASSIVE_LEVEL`, made beforehand so that calling it allocates nothing.
pub struct WorkItem(WDFWORKITEM);

// SAFETY: the framework's handles may be used on any thread, several at once.
unsafe impl Sync for WorkItem {}

impl WorkItem {
    /// Makes a work item of the device's. The device's removal waits until it has run, and takes its children in the
    /// order in which they were made: make it before what its function uses.
    ///
    /// # Safety
    /// `EvtWorkItem` may be called with a work item whose parent is this device.
    pub unsafe fn create<C: Context>(
        device: &Device<C>,
        evt_work_item: PFN_WDF_WORKITEM,
    ) -> Result<Self, NtStatus> {
        let mut config = WDF_WORKITEM_CONFIG {
            Size: size::<WDF_WORKITEM_CONFIG>(),
            EvtWorkItemFunc: evt_work_item,
            ..WDF_WORKITEM_CONFIG::default()
        };
        let mut attributes = attributes(device.object());
        let mut work_item = null_mut();
        // SAFETY: the device lives; config and attributes are initialised.
        check(unsafe {
            call_unsafe!(
                WdfWorkItemCreate,
                &raw mut config,
                &raw mut attributes,
                &raw mut work_item
            )
        })?;
        Ok(Self(work_item))
    }

    /// Has the function called once from now on, whatever it is doing at the moment. Any IRQL up to `DISPATCH_LEVEL`.
    pub fn enqueue(&self) {
        // SAFETY: the work item lives as long as the device.
        unsafe { call_unsafe!(WdfWorkItemEnqueue, self.0) };
    }
}
