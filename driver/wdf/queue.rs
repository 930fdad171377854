//! I/O queues for what the dispatch callback claims.

use core::ptr::null_mut;

use scsi_reserve::NtStatus;
use wdk_sys::{
    _WDF_EXECUTION_LEVEL, _WDF_IO_QUEUE_DISPATCH_TYPE, _WDF_SYNCHRONIZATION_SCOPE, _WDF_TRI_STATE,
    PFN_WDF_IO_QUEUE_IO_DEVICE_CONTROL, PFN_WDF_IO_QUEUE_STATE, ULONG, WDF_EXECUTION_LEVEL,
    WDF_IO_QUEUE_CONFIG, WDF_REQUEST_PARAMETERS, WDFQUEUE,
    call_unsafe_wdf_function_binding as call_unsafe,
};

use super::context::Context;
use super::device::Device;
use super::object::{attributes, check, size};
use super::request::Request;

/// A queue that is not power managed and is not the default one.
pub struct Queue(WDFQUEUE);

// SAFETY: the framework's handles may be used on any thread, several at once.
unsafe impl Sync for Queue {}

impl Queue {
    /// Makes a queue that presents each request when it comes, at its caller's IRQL.
    ///
    /// # Safety
    /// `EvtIoDeviceControl` may be called with the device's queue and a request that is the driver's from then on.
    pub unsafe fn parallel<C: Context>(
        device: &Device<C>,
        evt_io_device_control: PFN_WDF_IO_QUEUE_IO_DEVICE_CONTROL,
    ) -> Result<Self, NtStatus> {
        let mut config = config(_WDF_IO_QUEUE_DISPATCH_TYPE::WdfIoQueueDispatchParallel);
        config.Settings.Parallel.NumberOfPresentedRequests = ULONG::MAX;
        config.EvtIoDeviceControl = evt_io_device_control;
        Self::create(
            device,
            config,
            _WDF_EXECUTION_LEVEL::WdfExecutionLevelDispatch,
        )
    }

    /// Makes a queue that presents nothing: the driver takes the [`next`](Self::next) request when it wants one.
    /// `EvtIoQueueState` is called at `PASSIVE_LEVEL` when a request comes into the empty queue, with the device's
    /// context space as its context.
    ///
    /// # Safety
    /// `EvtIoQueueState` may be called with the device's queue and that context.
    pub unsafe fn manual<C: Context>(
        device: &Device<C>,
        evt_io_queue_state: PFN_WDF_IO_QUEUE_STATE,
    ) -> Result<Self, NtStatus> {
        let queue = Self::create(
            device,
            config(_WDF_IO_QUEUE_DISPATCH_TYPE::WdfIoQueueDispatchManual),
            _WDF_EXECUTION_LEVEL::WdfExecutionLevelPassive,
        )?;
        // SAFETY: the queue was just made.
        check(unsafe {
            call_unsafe!(
                WdfIoQueueReadyNotify,
                queue.0,
                evt_io_queue_state,
                core::ptr::from_ref(device.space()).cast_mut().cast()
            )
        })?;
        Ok(queue)
    }

    fn create<C: Context>(
        device: &Device<C>,
        mut config: WDF_IO_QUEUE_CONFIG,
        level: WDF_EXECUTION_LEVEL,
    ) -> Result<Self, NtStatus> {
        // Without a parent named, the device's I/O package is it.
        let mut attributes = attributes(null_mut());
        attributes.ExecutionLevel = level;
        attributes.SynchronizationScope = _WDF_SYNCHRONIZATION_SCOPE::WdfSynchronizationScopeNone;
        let mut queue = null_mut();
        // SAFETY: the device lives; the others are initialised and outlive the call.
        check(unsafe {
            call_unsafe!(
                WdfIoQueueCreate,
                device.raw(),
                &raw mut config,
                &raw mut attributes,
                &raw mut queue
            )
        })?;
        Ok(Self(queue))
    }

    /// The handle, for the dispatch callback.
    pub fn raw(&self) -> WDFQUEUE {
        self.0
    }

    /// Takes the first request out of a manual queue, with its control code. Any IRQL up to `DISPATCH_LEVEL`.
    ///
    /// # Errors
    /// `STATUS_NO_MORE_ENTRIES` if there is none, `STATUS_WDF_PAUSED` when the device goes.
    pub fn next(&self) -> Result<(Request, ULONG), NtStatus> {
        let mut request = null_mut();
        // SAFETY: the queue lives as long as the device.
        check(unsafe { call_unsafe!(WdfIoQueueRetrieveNextRequest, self.0, &raw mut request) })?;
        #[allow(clippy::cast_possible_truncation, reason = "40 bytes")]
        let mut parameters = WDF_REQUEST_PARAMETERS {
            Size: size::<WDF_REQUEST_PARAMETERS>() as u16,
            ..WDF_REQUEST_PARAMETERS::default()
        };
        // SAFETY: the request was just given to us.
        unsafe { call_unsafe!(WdfRequestGetParameters, request, &raw mut parameters) };
        // SAFETY: nothing but device controls is sent to the queue.
        let code = unsafe { parameters.Parameters.DeviceIoControl.IoControlCode };
        // SAFETY: the queue has just given it away, to this caller alone.
        Ok((unsafe { Request::new(request) }, code))
    }

    /// How many requests wait in the queue; one whose cancellation is under way counts. Any IRQL up to
    /// `DISPATCH_LEVEL`.
    pub fn waiting(&self) -> ULONG {
        let mut waiting = 0;
        // SAFETY: the queue lives as long as the device.
        let _state =
            unsafe { call_unsafe!(WdfIoQueueGetState, self.0, &raw mut waiting, null_mut()) };
        waiting
    }
}

/// `WDF_IO_QUEUE_CONFIG_INIT`
fn config(dispatch_type: i32) -> WDF_IO_QUEUE_CONFIG {
    WDF_IO_QUEUE_CONFIG {
        Size: size::<WDF_IO_QUEUE_CONFIG>(),
        DispatchType: dispatch_type,
        PowerManaged: _WDF_TRI_STATE::WdfFalse,
        ..WDF_IO_QUEUE_CONFIG::default()
    }
}
