//! Requests from a queue: values that must be spent.

use core::marker::PhantomData;
use core::mem::{self, ManuallyDrop, MaybeUninit};
use core::ptr;

use scsi_reserve::state::VERSION_1_SIZE;
use scsi_reserve::{NtStatus, ReservationState};
use wdk_sys::{PVOID, WDFREQUEST, call_unsafe_wdf_function_binding as call_unsafe};

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

    /// Completes a buffered device control with a value for its caller, and with its size as Information: the latest
    /// version that fits. Into a buffer that is too small for any nothing is written, and the status is
    /// `STATUS_BUFFER_TOO_SMALL`.
    pub fn complete_with<T: Reply>(self, tell: impl FnOnce(Place<'_, T>) -> Told) {
        let mut output = MaybeUninit::<Output>::uninit();
        let to = output.as_mut_ptr();
        // SAFETY: it points into `output`.
        let buffer = unsafe { &raw mut (*to).buffer };
        // SAFETY: as above.
        let length = unsafe { &raw mut (*to).length };
        // SAFETY: the request is in our hands.
        let status = unsafe {
            call_unsafe!(
                WdfRequestRetrieveOutputBuffer,
                self.0,
                T::LEAST,
                buffer,
                length
            )
        };
        if let Err(status) = check(status) {
            return self.refuse(status);
        }
        // SAFETY: the framework gave both.
        let output = unsafe { output.assume_init_mut() };
        let Told = tell(Place {
            output,
            value: PhantomData,
        });
        self.end(NtStatus::SUCCESS, output.length as u64);
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

/// A caller's buffer.
struct Output {
    buffer: PVOID,
    /// How much there is room for, and then how much is in it.
    length: usize,
}

/// Where a request's caller waits for a value.
pub struct Place<'a, T> {
    output: &'a mut Output,
    value: PhantomData<T>,
}

/// What is given for a [`Place`]: the value is there.
pub struct Told;

impl<T: Reply> Place<'_, T> {
    /// Copies the value there. Any IRQL.
    pub fn put(self, value: &T) -> Told {
        let size = size_of::<T>();
        if self.output.length < size {
            return self.put_older(value);
        }
        // SAFETY: the buffer has at least this size.
        unsafe { self.copy(value, size) }
    }

    #[cold]
    #[inline(never)]
    fn put_older(self, value: &T) -> Told {
        // SAFETY: the framework gave at least this size, which is not more than the value's.
        unsafe { self.copy(&value.older(), T::LEAST) }
    }

    /// # Safety
    /// Buffer and value have at least this size.
    unsafe fn copy(self, value: &T, size: usize) -> Told {
        let (from, to) = (ptr::from_ref(value).cast::<u8>(), self.output.buffer.cast());
        // SAFETY: the caller's; the buffer's memory isn't paged, and bytes need no alignment.
        unsafe { ptr::copy_nonoverlapping(from, to, size) };
        self.output.length = size;
        Told
    }
}

/// What a caller may be given as it lies in memory.
///
/// # Safety
/// No padding, no address, nothing that is not the caller's to know; and `LEAST` is not more than its size.
pub unsafe trait Reply: Copy {
    /// The size of the oldest version that is still answered.
    const LEAST: usize;

    /// That version, in the first `LEAST` bytes.
    fn older(&self) -> Self;
}

// SAFETY: numbers without padding, which its declaration asserts, and the older version is a part of it.
unsafe impl Reply for ReservationState {
    const LEAST: usize = VERSION_1_SIZE;

    fn older(&self) -> Self {
        self.version_1()
    }
}

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
