//! The system's clock.

use wdk_sys::ntddk::KeQueryInterruptTimePrecise;

/// Interrupt time, in units of 100 ns since the system started, sleep included: what user mode calls
/// `QueryInterruptTimePrecise`. Any IRQL.
pub fn interrupt_time() -> u64 {
    let mut performance_counter = 0;
    // SAFETY: the counter is written to a live place.
    unsafe { KeQueryInterruptTimePrecise(&raw mut performance_counter) }
}
