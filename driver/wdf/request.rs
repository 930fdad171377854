//! Requests from a queue: values that must be spent.

use core::mem;
use core::ptr::null_mut;

use scsi_reserve::{NtStatus, ReservationState};
use wdk_sys::{WDFREQUEST, call_unsafe_wdf_function_binding as call_unsafe};

use super::check;
use super::device::{self, Operations};

/// A request that a queue presented. It is completed exactly once: completing consumes it, and dropping it instead
/// stops the system in front of the bug, since its caller would wait for ever.
pub struct Request(WDFREQUEST);

// SAFETY: the framework's handles may be used on any thread.
unsafe impl Send for Request {}

impl Request {
    /// # Safety
    /// A request that a queue just presented, and no other `Request` of it.
    pub unsafe fn new(raw: WDFREQUEST) -> Self {
        Self(raw)
    }

    /// Completes the request with Information 0. A sequential queue may present the next one inside the call, and
    /// the device's removal may go on: nothing of the device may be touched afterwards.
    pub fn complete(self, status: NtStatus) {
        self.end(status, 0);
    }

    /// Completes a buffered device control with a value for its caller, and with its size as Information. Into a buffer
    /// that is too small nothing is written, and the status is `STATUS_BUFFER_TOO_SMALL`.
    pub fn complete_with<T: Reply>(self, value: T) {
        let mut buffer = null_mut();
        // SAFETY: the request is in our hands.
        let status = unsafe {
            call_unsafe!(
                WdfRequestRetrieveOutputBuffer,
                self.0,
                size_of::<T>(),
                &raw mut buffer,
                null_mut()
            )
        };
        if let Err(status) = check(status) {
            return self.complete(status);
        }
        // SAFETY: the framework gives at least the size that was asked for.
        unsafe { buffer.cast::<T>().write_unaligned(value) };
        self.end(NtStatus::SUCCESS, size_of::<T>() as u64);
    }

    fn end(self, status: NtStatus, information: u64) {
        let raw = self.0;
        mem::forget(self);
        #[cfg(broken)]
        let (status, information) = super::broken::completing(raw, status, information);
        // SAFETY: `self` was the right to complete it, and is gone.
        unsafe {
            call_unsafe!(
                WdfRequestCompleteWithInformation,
                raw,
                status.0,
                information
            );
        };
        #[cfg(broken)]
        super::broken::completed(raw);
    }

    /// Has a cancellation reported to [`Operations::cancelled`], perhaps before this returns. An error, a request
    /// that is cancelled already among them, leaves it unmarked.
    pub fn mark_cancelable<C: Operations>(self) -> Result<Cancelable, (Self, NtStatus)> {
        #[cfg(broken)]
        super::broken::marking(self.0);
        // SAFETY: the request is in our hands, and not marked.
        let status = unsafe {
            call_unsafe!(
                WdfRequestMarkCancelableEx,
                self.0,
                Some(request_cancel::<C>)
            )
        };
        match check(status) {
            Ok(()) => Ok(Cancelable(self)),
            Err(status) => Err((self, status)),
        }
    }
}

/// What a caller may be given as it lies in memory.
///
/// # Safety
/// No padding, no address, nothing that is not the caller's to know.
pub unsafe trait Reply: Copy {}

// SAFETY: numbers without padding, which its declaration asserts.
unsafe impl Reply for ReservationState {}

// No path of the release image leads there: it would import KeBugCheckEx.
impl Drop for Request {
    fn drop(&mut self) {
        panic!("a request was dropped instead of completed");
    }
}

/// A request whose cancellation is ours to hear.
pub struct Cancelable(Request);

impl Cancelable {
    /// Stops hearing. With `STATUS_CANCELLED` it is too late: [`Operations::cancelled`] was or will be called, and
    /// the request may be completed only after that.
    pub fn unmark(self) -> (Request, NtStatus) {
        #[cfg(broken)]
        super::broken::unmarking(self.0.0);
        // SAFETY: the request is in our hands, and marked.
        let status = unsafe { call_unsafe!(WdfRequestUnmarkCancelable, self.0.0) };
        (self.0, NtStatus(status))
    }

    /// The request after [`Operations::cancelled`] was called for it: the framework has unmarked it.
    pub fn cancelled(self) -> Request {
        self.0
    }
}

unsafe extern "C" fn request_cancel<C: Operations>(request: WDFREQUEST) {
    #[cfg(broken)]
    super::broken::cancelling(request);
    // SAFETY: the framework gives a live request of a queue.
    let queue = unsafe { call_unsafe!(WdfRequestGetIoQueue, request) };
    // SAFETY: the queue outlives its requests.
    let device = unsafe { call_unsafe!(WdfIoQueueGetDevice, queue) };
    // SAFETY: the device outlives its requests, and this one isn't completed before the callback is over.
    if let Some(context) = unsafe { device::context::<C>(device) } {
        context.cancelled();
    }
}
