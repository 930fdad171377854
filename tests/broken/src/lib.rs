//! The driver with a choice of deliberate mistakes, one for each rule of the rig: they show that the rule fires.
//!
//! The driver's sources are its own, untouched. Each mistake is made between them and the framework: functions
//! of this package stand in the place of some that the driver calls, and of the callbacks that it registers. The value
//! `Broken` of the driver's Parameters key chooses one mistake by its number; without it, the driver is right.
//!
//! | module | what it says |
//! | --- | --- |
//! | `variants` | each mistake, and the rule of the rig that it breaks |
//! | `mistakes` | where each is made |
//! | `interposed` | how it comes there |
//! | all others | the driver's |
#![cfg_attr(windows, no_std)]
#![deny(unsafe_code)]

#[cfg(windows)]
#[path = "../../../driver/config.rs"]
mod config;
#[cfg(windows)]
#[path = "../../../driver/disk.rs"]
mod disk;
#[cfg(windows)]
#[path = "../../../driver/filter.rs"]
mod filter;
#[cfg(windows)]
#[path = "../../../driver/reservation.rs"]
mod reservation;
#[cfg(windows)]
#[path = "../../../driver/state.rs"]
mod state;
#[cfg(windows)]
#[path = "../../../driver/trace.rs"]
mod trace;
#[cfg(windows)]
#[path = "../../../driver/watch.rs"]
mod watch;
#[cfg(windows)]
#[allow(unsafe_code)]
#[path = "../../../driver/wdf/mod.rs"]
mod wdf;

#[cfg(windows)]
#[allow(unsafe_code)]
mod interposed;
#[cfg(windows)]
#[allow(unsafe_code)]
mod mistakes;
#[cfg(windows)]
mod variants;

#[cfg(windows)]
#[global_allocator]
static ALLOCATOR: wdk_alloc::WdkAllocator = wdk_alloc::WdkAllocator;

// The panic handler; one mistake leads to it.
#[cfg(windows)]
extern crate wdk_panic;

#[cfg(windows)]
wdf::driver_entry!(filter::Filter);
