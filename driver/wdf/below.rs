//! The next lower device, for an IRP whose answer the filter looks at.

use core::ptr::{self, null_mut};

use wdk_sys::{
    IO_STACK_LOCATION, NTSTATUS, PDEVICE_OBJECT, PIO_COMPLETION_ROUTINE, PIRP, PVOID,
    SL_INVOKE_ON_CANCEL, SL_INVOKE_ON_ERROR, SL_INVOKE_ON_SUCCESS, SL_PENDING_RETURNED, UCHAR,
    WDFDEVICE, call_unsafe_wdf_function_binding as call_unsafe, ntddk::IofCallDriver,
};

use super::context::Context;
use super::device::Device;
use super::srb::current_location;

/// What the filter is attached to.
pub struct Below {
    device: WDFDEVICE,
    lower: PDEVICE_OBJECT,
}

// SAFETY: device objects and the framework's handles may be used on any thread, several at once.
unsafe impl Sync for Below {}

impl Below {
    /// That of the device. `PASSIVE_LEVEL`.
    pub fn of<C: Context>(device: &Device<C>) -> Self {
        let device = device.raw();
        // SAFETY: the device lives.
        let lower = unsafe { call_unsafe!(WdfDeviceWdmGetAttachedDevice, device) };
        Self { device, lower }
    }

    /// Sends an IRP on that the routine sees when it is back: a copy of the stack location goes down, as
    /// `IoCopyCurrentIrpStackLocationToNext` and `IoSetCompletionRoutine` make it, which allocate nothing. The device's
    /// memory stays until [`is_back`](Self::is_back). Any IRQL up to `DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// The IRP is this driver's to pass on and isn't touched afterwards; the routine may be called with it and `context`,
    /// and calls `is_back`.
    pub unsafe fn send(
        &self,
        irp: PIRP,
        routine: PIO_COMPLETION_ROUTINE,
        context: PVOID,
    ) -> NTSTATUS {
        #[allow(clippy::cast_possible_truncation, reason = "0xE0")]
        const ALWAYS: UCHAR =
            (SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR | SL_INVOKE_ON_CANCEL) as UCHAR;
        let (tag, line, file) = (null_mut(), 0, null_mut());
        // SAFETY: the device lives.
        unsafe {
            call_unsafe!(
                WdfObjectReferenceActual,
                self.device.cast(),
                tag,
                line,
                file
            );
        };
        // SAFETY: the caller's.
        let current = unsafe { current_location(irp) };
        // SAFETY: whoever sent the IRP to this device gave it a location for each below.
        let next = unsafe { current.sub(1) };
        // SAFETY: a copy, as this driver's own location holds it.
        let mut location: IO_STACK_LOCATION = unsafe { ptr::read(current) };
        location.Control = ALWAYS;
        location.CompletionRoutine = routine;
        location.Context = context;
        // SAFETY: the location is this driver's to fill.
        unsafe { next.write(location) };
        // SAFETY: the lower device is attached to, so that it lives.
        unsafe { IofCallDriver(self.lower, irp) }
    }

    /// Lets an IRP that [`send`](Self::send) sent go on up. The device may be gone afterwards.
    ///
    /// # Safety
    /// Called once by each completion routine, with its IRP, when nothing of the device is touched any more.
    pub unsafe fn is_back(&self, irp: PIRP) {
        #[allow(clippy::cast_possible_truncation, reason = "1")]
        const PENDING: UCHAR = SL_PENDING_RETURNED as UCHAR;
        // SAFETY: the IRP is this driver's until its routine returns.
        if unsafe { (*irp).PendingReturned } != 0 {
            // IoMarkIrpPending
            // SAFETY: as above.
            let location = unsafe { current_location(irp) };
            // SAFETY: as above.
            unsafe { (*location).Control |= PENDING };
        }
        let (tag, line, file) = (null_mut(), 0, null_mut());
        // SAFETY: `send` referenced it.
        unsafe {
            call_unsafe!(
                WdfObjectDereferenceActual,
                self.device.cast(),
                tag,
                line,
                file
            );
        };
    }
}
