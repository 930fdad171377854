//! A one-shot timer.

use scsi_reserve::NtStatus;
use wdk_sys::{_WDF_EXECUTION_LEVEL, PFN_WDF_TIMER, WDF_TIMER_CONFIG};

use super::context::Context;
use super::device::Device;
use super::object::{attributes, size};

/// A timer whose callback runs on a worker thread at `PASSIVE_LEVEL`. Each start is consumed by one callback, or by one
/// stop that says true. It is not serialized with anything: keep it under a lock.
pub struct Timer(wdk::wdf::Timer);

// SAFETY: the framework's handles may be used on any thread.
unsafe impl Send for Timer {}

impl Timer {
    /// Makes a timer of the device's.
    ///
    /// # Safety
    /// `EvtTimerFunc` may be called with a timer whose parent is this device.
    pub unsafe fn passive<C: Context>(
        device: &Device<C>,
        evt_timer_func: PFN_WDF_TIMER,
    ) -> Result<Self, NtStatus> {
        let mut config = WDF_TIMER_CONFIG {
            Size: size::<WDF_TIMER_CONFIG>(),
            EvtTimerFunc: evt_timer_func,
            ..WDF_TIMER_CONFIG::default()
        };
        let mut attributes = attributes(device.object());
        attributes.ExecutionLevel = _WDF_EXECUTION_LEVEL::WdfExecutionLevelPassive;
        let timer = wdk::wdf::Timer::create(&mut config, &mut attributes);
        timer.map(Self).map_err(NtStatus)
    }

    /// Starts the timer; with 0 the callback comes at once. Any IRQL up to `DISPATCH_LEVEL`.
    pub fn start(&self, milliseconds: u32) {
        // In units of 100 ns, and relative because negative.
        let due = (i64::from(milliseconds) * -10_000).min(-1);
        let _was_started_already = self.0.start(due);
    }

    /// Stops the timer without waiting; false if the callback runs, or will. Any IRQL up to `DISPATCH_LEVEL`.
    pub fn stop(&self) -> bool {
        self.0.stop(false)
    }
}
