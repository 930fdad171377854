//! A filter device and what the framework asks of it.

use core::marker::PhantomData;
use core::mem;
use core::ptr::null_mut;

use scsi_reserve::NtStatus;
use wdk_sys::{
    CCHAR, IO_NO_INCREMENT, IRP_MJ_DEVICE_CONTROL, NTSTATUS, PIRP, STATUS_SUCCESS, UCHAR, ULONG,
    WDF_POWER_DEVICE_STATE, WDFCONTEXT, WDFDEVICE, WDFOBJECT,
    call_unsafe_wdf_function_binding as call_unsafe, ntddk::IofCompleteRequest,
};

use super::check;
use super::context::{Body, Context};
use super::pass_through::Returned;
use super::queue::Queue;
use super::request::Request;

#[allow(clippy::cast_possible_truncation, reason = "0x0E")]
const MAJOR_FUNCTION: UCHAR = IRP_MJ_DEVICE_CONTROL as UCHAR;

#[allow(clippy::cast_possible_truncation, reason = "0")]
const PRIORITY_BOOST: CCHAR = IO_NO_INCREMENT as CCHAR;

/// What a filter does on one device; its value is the context of the `WDFDEVICE`.
///
/// Unless it says otherwise, a function is called at any IRQL up to `DISPATCH_LEVEL`.
pub trait Operations: Context {
    /// Whether a device control is for the filter. All others go on to the next lower device.
    fn claims(code: u32) -> bool;

    /// Where a device control goes that is for the filter.
    fn route(&self, code: u32) -> Route<'_>;

    /// `EvtIoDeviceControl`: a queue presents a request; the sequential one at `PASSIVE_LEVEL`.
    fn device_control(&self, request: Request, code: u32);

    /// `EvtRequestCancel` of the [`Cancelable`] in hand: it may be completed when this was called and not before.
    fn cancelled(&self);

    /// The completion routine of a [`Prepared`] that was sent; perhaps before the send has returned.
    fn answered(&self, returned: Returned);

    /// `EvtTimerFunc`, at `PASSIVE_LEVEL`.
    fn delay_over(&self);

    /// `EvtDeviceD0Entry`: the device came to full power, by its start or from low power. `PASSIVE_LEVEL`.
    fn powered_up(&self);

    /// `EvtDeviceSelfManagedIoFlush`: the device is being removed, orderly or not. `PASSIVE_LEVEL`.
    fn gone(&self);

    /// `EvtCleanupCallback`: the device goes, and its children are gone already.
    fn detached(&self);
}

/// Where a claimed device control goes.
pub enum Route<'a> {
    /// To a queue.
    Queue(&'a Queue),
    /// Nowhere: it is completed at once, with Information 0.
    Complete(NtStatus),
}

/// A `WDFDEVICE` that is being made: its context is still empty.
pub struct Device<C> {
    raw: WDFDEVICE,
    context: PhantomData<fn(C)>,
}

impl<C: Operations> Device<C> {
    /// # Safety
    /// A device just created with a context `C`.
    pub unsafe fn new(raw: WDFDEVICE) -> Self {
        Self {
            raw,
            context: PhantomData,
        }
    }

    pub fn raw(&self) -> WDFDEVICE {
        self.raw
    }

    pub fn object(&self) -> WDFOBJECT {
        self.raw.cast()
    }

    /// Where the context will be. It outlives all of the device's children.
    pub fn body(&self) -> Option<&'static Body<C>> {
        // SAFETY: the device is being made; whoever keeps the reference is a child of it.
        unsafe { Body::of(self.object()) }
    }

    /// Lets device controls in and puts the context in its place. Comes last: until then they pass by.
    pub fn open(self, context: C) -> Result<(), NtStatus> {
        // No callback for another major function, and no default queue: everything else skips the filter.
        // SAFETY: the device lives, and has not started.
        let opened = check(unsafe {
            call_unsafe!(
                WdfDeviceConfigureWdmIrpDispatchCallback,
                self.raw,
                null_mut(),
                MAJOR_FUNCTION,
                Some(wdm_irp_dispatch::<C>),
                null_mut()
            )
        });
        match (opened, self.body()) {
            (Ok(()), Some(body)) => {
                // SAFETY: `self` is the one of its device, and consumed.
                unsafe { body.fill(context) };
                Ok(())
            }
            (opened, _) => {
                mem::forget(context);
                opened.and(Err(NtStatus::INSUFFICIENT_RESOURCES))
            }
        }
    }
}

/// The context of a device that is calling back.
///
/// # Safety
/// The device lives, and outlives `'a`.
pub unsafe fn context<'a, C: Operations>(device: WDFDEVICE) -> Option<&'a C> {
    // SAFETY: the caller's.
    unsafe { Body::of(device.cast()) }.and_then(Body::get)
}

/// `EvtDeviceWdmIrpDispatch`. What it returns is what was returned to it: the IRP is out of its hands either way.
unsafe extern "C" fn wdm_irp_dispatch<C: Operations>(
    device: WDFDEVICE,
    _major: UCHAR,
    _minor: UCHAR,
    code: ULONG,
    _driver_context: WDFCONTEXT,
    irp: PIRP,
    dispatch_context: WDFCONTEXT,
) -> NTSTATUS {
    #[cfg(broken)]
    let (code, dispatch_context) =
        super::broken::dispatching(C::claims(code), irp, code, dispatch_context);
    if C::claims(code) {
        // SAFETY: all are the framework's own.
        return unsafe { claimed::<C>(device, code, irp, dispatch_context) };
    }
    // SAFETY: device, IRP and context are those given to this callback.
    unsafe { call_unsafe!(WdfDeviceWdmDispatchIrp, device, irp, dispatch_context) }
}

/// # Safety
/// The arguments are those of `EvtDeviceWdmIrpDispatch`.
#[inline(never)]
unsafe fn claimed<C: Operations>(
    device: WDFDEVICE,
    code: ULONG,
    irp: PIRP,
    dispatch_context: WDFCONTEXT,
) -> NTSTATUS {
    // SAFETY: the device outlives its callback.
    match unsafe { context::<C>(device) }.map(|context| context.route(code)) {
        Some(Route::Queue(queue)) => {
            // SAFETY: device and IRP are those given to the callback, the queue is the device's.
            unsafe {
                call_unsafe!(
                    WdfDeviceWdmDispatchIrpToIoQueue,
                    device,
                    irp,
                    queue.raw(),
                    0
                )
            }
        }
        Some(Route::Complete(status)) => {
            // SAFETY: the IRP is ours until it is dispatched or completed.
            unsafe { complete(irp, status) };
            #[cfg(broken)]
            let status = super::broken::dispatched(irp, status);
            status.0
        }
        // SAFETY: as in the callback.
        None => unsafe { call_unsafe!(WdfDeviceWdmDispatchIrp, device, irp, dispatch_context) },
    }
}

/// # Safety
/// The IRP is the caller's to complete, and isn't touched afterwards.
unsafe fn complete(irp: PIRP, status: NtStatus) {
    // SAFETY: the caller's.
    let io_status = unsafe { &mut (*irp).IoStatus };
    io_status.__bindgen_anon_1.Status = status.0;
    io_status.Information = 0;
    // SAFETY: the caller's.
    unsafe { IofCompleteRequest(irp, PRIORITY_BOOST) };
}

pub unsafe extern "C" fn d0_entry<C: Operations>(
    device: WDFDEVICE,
    _previous_state: WDF_POWER_DEVICE_STATE,
) -> NTSTATUS {
    // SAFETY: the device outlives its callback.
    if let Some(context) = unsafe { context::<C>(device) } {
        context.powered_up();
    }
    #[cfg(broken)]
    super::broken::powered_up(device);
    STATUS_SUCCESS
}

pub unsafe extern "C" fn self_managed_io_flush<C: Operations>(device: WDFDEVICE) {
    #[cfg(broken)]
    if super::broken::forgets_removal() {
        return;
    }
    // SAFETY: the device outlives its callback.
    if let Some(context) = unsafe { context::<C>(device) } {
        context.gone();
    }
}

pub unsafe extern "C" fn cleanup<C: Operations>(device: WDFOBJECT) {
    // SAFETY: the device outlives its callback.
    if let Some(context) = unsafe { context::<C>(device.cast()) } {
        context.detached();
    }
}
