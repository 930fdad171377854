//! A one-shot timer.

use core::ptr::null_mut;

use scsi_reserve::NtStatus;
use wdk_sys::{
    _WDF_EXECUTION_LEVEL, LONGLONG, WDF_TIMER_CONFIG, WDFTIMER,
    call_unsafe_wdf_function_binding as call_unsafe,
};

use super::device::{self, Device, Operations};
use super::{attributes, check, size};

/// A timer that calls [`Operations::delay_over`], on a worker thread at `PASSIVE_LEVEL`. Each start is consumed by
/// one callback, or by one stop that says true. It is not serialized with anything: keep it under a lock.
pub struct Timer(WDFTIMER);

// SAFETY: the framework's handles may be used on any thread.
unsafe impl Send for Timer {}

impl Timer {
    /// Makes a timer of the device's.
    pub fn passive<C: Operations>(device: &Device<C>) -> Result<Self, NtStatus> {
        let mut config = WDF_TIMER_CONFIG {
            Size: size::<WDF_TIMER_CONFIG>(),
            EvtTimerFunc: Some(timer::<C>),
            ..WDF_TIMER_CONFIG::default()
        };
        let mut attributes = attributes(device.object());
        attributes.ExecutionLevel = _WDF_EXECUTION_LEVEL::WdfExecutionLevelPassive;
        let mut timer = null_mut();
        // SAFETY: the device lives; config and attributes are initialised.
        check(unsafe {
            call_unsafe!(
                WdfTimerCreate,
                &raw mut config,
                &raw mut attributes,
                &raw mut timer
            )
        })?;
        Ok(Self(timer))
    }

    /// Starts the timer; with 0 the callback comes at once. Any IRQL up to `DISPATCH_LEVEL`.
    pub fn start(&self, milliseconds: u32) {
        // In units of 100 ns, and relative because negative.
        let due = (LONGLONG::from(milliseconds) * -10_000).min(-1);
        // SAFETY: the timer lives as long as the device.
        let _was_started_already = unsafe { call_unsafe!(WdfTimerStart, self.0, due) };
    }

    /// Stops the timer without waiting; false if the callback runs, or will. Any IRQL up to `DISPATCH_LEVEL`.
    pub fn stop(&self) -> bool {
        #[cfg(broken)]
        super::broken::stopping(self.0);
        // SAFETY: the timer lives as long as the device.
        unsafe { call_unsafe!(WdfTimerStop, self.0, 0) != 0 }
    }
}

unsafe extern "C" fn timer<C: Operations>(timer: WDFTIMER) {
    // SAFETY: the framework gives a live timer; its parent is the device.
    let device = unsafe { call_unsafe!(WdfTimerGetParentObject, timer) };
    // SAFETY: the device outlives its timer's callback.
    if let Some(context) = unsafe { device::context::<C>(device.cast()) } {
        context.delay_over();
    }
}
