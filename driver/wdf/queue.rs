//! I/O queues for what the dispatch callback claims.

use core::ptr::null_mut;

use scsi_reserve::NtStatus;
use wdk_sys::{
    _WDF_EXECUTION_LEVEL, _WDF_IO_QUEUE_DISPATCH_TYPE, _WDF_SYNCHRONIZATION_SCOPE, _WDF_TRI_STATE,
    ULONG, WDF_EXECUTION_LEVEL, WDF_IO_QUEUE_CONFIG, WDF_IO_QUEUE_DISPATCH_TYPE, WDFQUEUE,
    WDFREQUEST, call_unsafe_wdf_function_binding as call_unsafe,
};

use super::device::{self, Device, Operations};
use super::request::Request;
use super::{attributes, check, size};

/// A queue that is not power managed and is not the default one.
pub struct Queue(WDFQUEUE);

// SAFETY: the framework's handles may be used on any thread, several at once.
unsafe impl Sync for Queue {}

impl Queue {
    /// Makes a queue that has one request out at a time, and presents it at `PASSIVE_LEVEL`.
    pub fn sequential<C: Operations>(device: &Device<C>) -> Result<Self, NtStatus> {
        Self::create(
            device,
            _WDF_IO_QUEUE_DISPATCH_TYPE::WdfIoQueueDispatchSequential,
            // The framework refuses another number for it.
            0,
            _WDF_EXECUTION_LEVEL::WdfExecutionLevelPassive,
        )
    }

    /// Makes a queue that presents each request when it comes, at its caller's IRQL.
    pub fn parallel<C: Operations>(device: &Device<C>) -> Result<Self, NtStatus> {
        Self::create(
            device,
            _WDF_IO_QUEUE_DISPATCH_TYPE::WdfIoQueueDispatchParallel,
            ULONG::MAX,
            _WDF_EXECUTION_LEVEL::WdfExecutionLevelDispatch,
        )
    }

    fn create<C: Operations>(
        device: &Device<C>,
        dispatch_type: WDF_IO_QUEUE_DISPATCH_TYPE,
        presented: ULONG,
        level: WDF_EXECUTION_LEVEL,
    ) -> Result<Self, NtStatus> {
        // WDF_IO_QUEUE_CONFIG_INIT
        let mut config = WDF_IO_QUEUE_CONFIG {
            Size: size::<WDF_IO_QUEUE_CONFIG>(),
            DispatchType: dispatch_type,
            PowerManaged: _WDF_TRI_STATE::WdfFalse,
            EvtIoDeviceControl: Some(device_control::<C>),
            ..WDF_IO_QUEUE_CONFIG::default()
        };
        config.Settings.Parallel.NumberOfPresentedRequests = presented;
        // Without a parent named, the device's I/O package is it.
        let mut attributes = attributes(null_mut());
        attributes.ExecutionLevel = level;
        attributes.SynchronizationScope = _WDF_SYNCHRONIZATION_SCOPE::WdfSynchronizationScopeNone;
        #[cfg(broken)]
        super::broken::making_queue(&mut config);
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

    pub fn raw(&self) -> WDFQUEUE {
        self.0
    }
}

unsafe extern "C" fn device_control<C: Operations>(
    queue: WDFQUEUE,
    request: WDFREQUEST,
    _output_length: usize,
    _input_length: usize,
    code: ULONG,
) {
    #[cfg(broken)]
    super::broken::presented(request);
    // SAFETY: the queue presents the request to this callback alone.
    let request = unsafe { Request::new(request) };
    // SAFETY: the framework gives a live queue.
    let device = unsafe { call_unsafe!(WdfIoQueueGetDevice, queue) };
    // SAFETY: the device outlives its queue's callback.
    match unsafe { device::context::<C>(device) } {
        Some(context) => context.device_control(request, code),
        None => request.complete(NtStatus::INVALID_DEVICE_STATE),
    }
}
