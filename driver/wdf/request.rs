//! Requests from a queue: values that must be spent.

use core::marker::PhantomData;
use core::mem::{self, ManuallyDrop};
use core::ptr::{self, null_mut};

use scsi_reserve::{NtStatus, ReservationState};
use wdk_sys::{WDFREQUEST, call_unsafe_wdf_function_binding as call_unsafe};

use super::object::check;

/// A request that a queue gave to the driver. It is completed exactly once: completing consumes it, and dropping it
/// instead stops the system in front of the bug, since its caller would wait for ever.
pub struct Request(WDFREQUEST);

// SAFETY: the framework's handles may be used on any thread.
unsafe impl Send for Request {}

impl Request {
    /// # Safety
    /// A request that a queue just gave to the driver, and no other `Request` of it.
    pub unsafe fn new(raw: WDFREQUEST) -> Self {
        Self(raw)
    }

    /// Completes the request with Information 0. The device's removal may go on inside the call: nothing of the device
    /// may be touched afterwards.
    pub fn complete(self, status: NtStatus) {
        self.end(status, 0);
    }

    /// Completes a buffered device control with a value for its caller, and with its size as Information. Into a buffer
    /// that is too small nothing is written, and the status is `STATUS_BUFFER_TOO_SMALL`.
    pub fn complete_with<T: Reply>(self, tell: impl FnOnce(Place<'_, T>) -> Told) {
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
            return self.refuse(status);
        }
        let Told = tell(Place {
            buffer: buffer.cast(),
            request: PhantomData,
        });
        self.end(NtStatus::SUCCESS, size_of::<T>() as u64);
    }

    /// As [`complete`](Self::complete), for what is seldom.
    #[cold]
    #[inline(never)]
    pub fn refuse(self, status: NtStatus) {
        self.end(status, 0);
    }

    fn end(self, status: NtStatus, information: u64) {
        let raw = self.0;
        mem::forget(self);
        // SAFETY: `self` was the right to complete it, and is gone.
        unsafe {
            call_unsafe!(
                WdfRequestCompleteWithInformation,
                raw,
                status.0,
                information
            );
        };
    }
}

// No path of the release image leads there: it would import KeBugCheckEx.
impl Drop for Request {
    fn drop(&mut self) {
        panic!("a request was dropped instead of completed");
    }
}

/// Where a request's caller waits for a value.
pub struct Place<'a, T> {
    buffer: *mut T,
    request: PhantomData<&'a mut T>,
}

/// What is given for a [`Place`]: the value is there.
pub struct Told;

impl<T: Reply> Place<'_, T> {
    /// Copies the value there. Any IRQL.
    pub fn put(self, value: &T) -> Told {
        let (from, to) = (ptr::from_ref(value).cast::<u8>(), self.buffer.cast::<u8>());
        // SAFETY: the framework gave at least this size, of memory that isn't paged; bytes need no alignment.
        unsafe { ptr::copy_nonoverlapping(from, to, size_of::<T>()) };
        Told
    }
}

/// What a caller may be given as it lies in memory.
///
/// # Safety
/// No padding, no address, nothing that is not the caller's to know.
pub unsafe trait Reply: Copy {}

// SAFETY: numbers without padding, which its declaration asserts.
unsafe impl Reply for ReservationState {}

/// `EVT_WDF_REQUEST_CANCEL`.
#[derive(Clone, Copy)]
pub struct EvtRequestCancel(unsafe extern "C" fn(WDFREQUEST));

impl EvtRequestCancel {
    /// # Safety
    /// It may be called with any live request of the device's queues.
    pub const unsafe fn new(function: unsafe extern "C" fn(WDFREQUEST)) -> Self {
        Self(function)
    }
}

/// The one place for the caller's request that is being served. What is in it is never dropped, only taken: so no code
/// for dropping a [`Request`] comes into the image.
pub struct InHand(Content);

enum Content {
    Nothing,
    /// Ours alone.
    Request(ManuallyDrop<Request>),
    /// `EvtRequestCancel` may come for it, or has.
    Cancelable(ManuallyDrop<Request>),
}

/// A hand that holds nothing: the right to put a request into it.
pub struct EmptyHand<'a>(&'a mut Content);

impl EmptyHand<'_> {
    /// Takes a request into the hand.
    pub fn put(self, request: Request) {
        *self.0 = Content::Request(ManuallyDrop::new(request));
    }
}

impl InHand {
    /// Nothing in hand.
    pub const NOTHING: Self = Self(Content::Nothing);

    /// The empty hand, if nothing is in it.
    pub fn empty(&mut self) -> Option<EmptyHand<'_>> {
        match self.0 {
            Content::Nothing => Some(EmptyHand(&mut self.0)),
            _ => None,
        }
    }

    /// Takes the request out; a cancelable one only after `EvtRequestCancel` was called for it, which unmarks it.
    pub fn take(&mut self) -> Option<Request> {
        match mem::replace(&mut self.0, Content::Nothing) {
            Content::Nothing => None,
            Content::Request(request) | Content::Cancelable(request) => {
                Some(ManuallyDrop::into_inner(request))
            }
        }
    }

    /// Has a cancellation of the request reported to `EvtRequestCancel`, perhaps before this returns. An error, a
    /// request that is cancelled already among them, leaves it unmarked. Any IRQL up to `DISPATCH_LEVEL`.
    pub fn mark_cancelable(&mut self, evt: EvtRequestCancel) -> NtStatus {
        let Content::Request(request) = &self.0 else {
            return NtStatus::INVALID_DEVICE_STATE;
        };
        // SAFETY: the request is in our hands, and not marked.
        let status = unsafe { call_unsafe!(WdfRequestMarkCancelableEx, request.0, Some(evt.0)) };
        if wdk::nt_success(status) {
            self.become_with(Content::Cancelable);
        }
        NtStatus(status)
    }

    /// Stops hearing. With `STATUS_CANCELLED` it is too late: `EvtRequestCancel` was or will be called, and the request
    /// may be completed only after that. Any IRQL up to `DISPATCH_LEVEL`.
    pub fn unmark_cancelable(&mut self) -> NtStatus {
        let Content::Cancelable(request) = &self.0 else {
            return NtStatus::INVALID_DEVICE_STATE;
        };
        // SAFETY: the request is in our hands, and marked.
        let status = unsafe { call_unsafe!(WdfRequestUnmarkCancelable, request.0) };
        self.become_with(Content::Request);
        NtStatus(status)
    }

    fn become_with(&mut self, content: impl FnOnce(ManuallyDrop<Request>) -> Content) {
        if let Some(request) = self.take() {
            self.0 = content(ManuallyDrop::new(request));
        }
    }
}
