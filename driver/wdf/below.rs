//! The next lower device, for an IRP whose answer the filter looks at.

use core::mem::offset_of;
use core::ptr::{self, null_mut};
use core::sync::atomic::{AtomicU32, Ordering};

use wdk_sys::{
    IO_STACK_LOCATION, NTSTATUS, PDEVICE_OBJECT, PIO_COMPLETION_ROUTINE, PIO_STACK_LOCATION, PIRP,
    PVOID, SL_INVOKE_ON_CANCEL, SL_INVOKE_ON_ERROR, SL_INVOKE_ON_SUCCESS, SL_PENDING_RETURNED,
    STATUS_SUCCESS, UCHAR, WDFDEVICE, call_unsafe_wdf_function_binding as call_unsafe,
    ntddk::IofCallDriver,
};

use super::context::Context;
use super::device::Device;
use super::srb::current_location;

/// What the filter is attached to.
pub struct Below {
    device: WDFDEVICE,
    lower: PDEVICE_OBJECT,
    /// For how many the device's memory stays: the device itself, from [`hold`](Self::hold) to [`let_go`](Self::let_go), and
    /// each IRP that is out.
    holders: AtomicU32,
}

/// [`Below::holders`] after the last: more than ever are out.
const RELEASED: u32 = 1 << 31;

// SAFETY: device objects and the framework's handles may be used on any thread, several at once.
unsafe impl Sync for Below {}

impl Below {
    /// That of the device. `PASSIVE_LEVEL`.
    pub fn of<C: Context>(device: &Device<C>) -> Self {
        let device = device.raw();
        // SAFETY: the device lives.
        let lower = unsafe { call_unsafe!(WdfDeviceWdmGetAttachedDevice, device) };
        Self {
            device,
            lower,
            holders: AtomicU32::new(0),
        }
    }

    /// From now on the device's memory stays until the last IRP is back, which may be after its removal. Comes once,
    /// before the first is sent. `PASSIVE_LEVEL`.
    pub fn hold(&self) {
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
        self.holders.store(1, Ordering::Relaxed);
    }

    /// The device goes, and what comes from now on is not sent here but passes by. If [`hold`](Self::hold) came, its memory
    /// may be gone when the last IRP is back and the framework is through with the device.
    pub fn let_go(&self) {
        if self.holders.load(Ordering::Relaxed) != 0 {
            let _success = self.one_less();
        }
    }

    #[inline(always)]
    #[allow(clippy::inline_always, reason = "on every read's way")]
    fn one_less(&self) -> NTSTATUS {
        // Release and acquire: what the others did here is done before the memory goes.
        if self.holders.fetch_sub(1, Ordering::AcqRel) == 1 {
            return self.dereference();
        }
        STATUS_SUCCESS
    }

    #[cold]
    #[inline(never)]
    extern "C" fn dereference(&self) -> NTSTATUS {
        // Of whoever was about to send while the device was let go, this may come again: once counts.
        let order = Ordering::Relaxed;
        let was = self.holders.compare_exchange(0, RELEASED, order, order);
        if was.is_err() {
            return returned();
        }
        let (tag, line, file) = (null_mut(), 0, null_mut());
        // SAFETY: `hold` referenced it.
        unsafe {
            call_unsafe!(
                WdfObjectDereferenceActual,
                self.device.cast(),
                tag,
                line,
                file
            );
        };
        returned()
    }

    /// Sends an IRP on that the routine sees when it is back: a copy of the stack location goes down, as
    /// `IoCopyCurrentIrpStackLocationToNext` and `IoSetCompletionRoutine` make it, which allocate nothing. What keeps the
    /// driver loaded meanwhile is that disk.sys waits for what it has sent before its own removal ends (`ClassRemoveDevice`
    /// in microsoft/Windows-driver-samples, storage/class/classpnp/src/class.c). Any IRQL up to `DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// [`hold`](Self::hold) came. The IRP is this driver's to pass on and isn't touched afterwards; the routine may be
    /// called with it and `context`, and calls [`is_back`](Self::is_back).
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "on every read's way")]
    pub unsafe fn send(
        &self,
        irp: PIRP,
        routine: PIO_COMPLETION_ROUTINE,
        context: PVOID,
    ) -> NTSTATUS {
        #[allow(clippy::cast_possible_truncation, reason = "0xE0")]
        const ALWAYS: UCHAR =
            (SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR | SL_INVOKE_ON_CANCEL) as UCHAR;
        self.holders.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's.
        let current = unsafe { current_location(irp) };
        // SAFETY: whoever sent the IRP to this device gave it a location for each below.
        let next = unsafe { current.sub(1) };
        // SAFETY: the locations are two of the IRP's, and the second is this driver's to fill.
        unsafe {
            ptr::copy_nonoverlapping(
                current.cast::<u8>(),
                next.cast(),
                offset_of!(IO_STACK_LOCATION, CompletionRoutine),
            );
        };
        // SAFETY: as above.
        let next = unsafe { &mut *next };
        next.Control = ALWAYS;
        next.CompletionRoutine = routine;
        next.Context = context;
        // SAFETY: the lower device is attached to, so that it lives.
        unsafe { IofCallDriver(self.lower, irp) }
    }

    /// Lets an IRP that [`send`](Self::send) sent go on up, and gives what the routine returns for that:
    /// `STATUS_CONTINUE_COMPLETION`, which is `STATUS_SUCCESS`. The device's memory may be gone afterwards.
    ///
    /// # Safety
    /// Called once by each completion routine, with its IRP and that's current location, when nothing of the device is
    /// touched any more.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "on every read's way")]
    pub unsafe fn is_back(&self, irp: PIRP, location: PIO_STACK_LOCATION) -> NTSTATUS {
        #[allow(clippy::cast_possible_truncation, reason = "1")]
        const PENDING: UCHAR = SL_PENDING_RETURNED as UCHAR;
        // SAFETY: the IRP is this driver's until its routine returns.
        if unsafe { (*irp).PendingReturned } != 0 {
            // IoMarkIrpPending
            // SAFETY: as above.
            unsafe { (*location).Control |= PENDING };
        }
        self.one_less()
    }
}

/// `STATUS_CONTINUE_COMPLETION`, which is `STATUS_SUCCESS`, from what is seldom: hidden, since a caller that knew it would
/// set it itself after a call, where a jump is cheaper.
pub fn returned() -> NTSTATUS {
    core::hint::black_box(STATUS_SUCCESS)
}
