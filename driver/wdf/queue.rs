//! I/O queues for what the dispatch callback claims.

use core::ptr::null_mut;

use scsi_reserve::NtStatus;
use wdk_sys::{
    _WDF_EXECUTION_LEVEL, _WDF_IO_QUEUE_DISPATCH_TYPE, _WDF_SYNCHRONIZATION_SCOPE, _WDF_TRI_STATE,
    ULONG, WDF_IO_QUEUE_CONFIG, WDFQUEUE, WDFREQUEST,
    call_unsafe_wdf_function_binding as call_unsafe,
};

use super::device::{self, Device, Operations};
use super::request::Request;
use super::{attributes, check, size};

/// A queue that presents at `PASSIVE_LEVEL`, is not power managed and is not the default one.
pub struct Queue(WDFQUEUE);

// SAFETY: the framework's handles may be used on any thread.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    /// Makes a queue that has one request out at a time.
    pub fn sequential<C: Operations>(device: &Device<C>) -> Result<Self, NtStatus> {
        // WDF_IO_QUEUE_CONFIG_INIT
        let mut config = WDF_IO_QUEUE_CONFIG {
            Size: size::<WDF_IO_QUEUE_CONFIG>(),
            DispatchType: _WDF_IO_QUEUE_DISPATCH_TYPE::WdfIoQueueDispatchSequential,
            PowerManaged: _WDF_TRI_STATE::WdfFalse,
            EvtIoDeviceControl: Some(device_control::<C>),
            ..WDF_IO_QUEUE_CONFIG::default()
        };
        // The device is the parent of its queues whatever the attributes say, and they must not name it.
        let mut attributes = attributes(null_mut());
        attributes.ExecutionLevel = _WDF_EXECUTION_LEVEL::WdfExecutionLevelPassive;
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
