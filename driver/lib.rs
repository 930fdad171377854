//! **resvflt** is a KMDF filter on the Windows disk stack. It takes `IOCTL_STORAGE_RESERVE` and
//! `IOCTL_STORAGE_RELEASE`, sends the disk a SCSI RESERVE or RELEASE as a pass-through request of its own, and
//! completes the caller's request with what the target's answer means. Every other request passes untouched.
//!
//! The house, from the top: a module uses only modules below it.
//!
//! | module | what it says |
//! | --- | --- |
//! | `filter` | which disks are attached to |
//! | `disk` | which requests of a disk are ours, and where they go |
//! | `watch` | which requests of others are looked at |
//! | `reservation` | one request at a time, from the queue to its completion |
//! | `state` | what this node knows of its reservation |
//! | `config` | the registry parameters |
//! | `trace` | the ETW provider and its events |
//! | `wdf` | owning wrappers over the framework: the only unsafe code |
//! | `scsi_reserve` | CDBs, sense data, what an answer means, and one operation as a pure machine |
//!
//! The policy at the top says what happens and holds no `unsafe`; the wrappers below say how, and carry the
//! framework's rules in their types. Nothing here is pageable, allocates on its own, or can panic: the disk may
//! hold the paging file.
//!
//! Off Windows this crate is empty, so that a plain `cargo check` of the workspace works anywhere.
#![cfg_attr(windows, no_std)]
#![deny(unsafe_code)]

#[cfg(windows)]
mod config;
#[cfg(windows)]
mod disk;
#[cfg(windows)]
mod filter;
#[cfg(windows)]
mod reservation;
#[cfg(windows)]
mod state;
#[cfg(windows)]
mod trace;
#[cfg(windows)]
mod watch;
#[cfg(windows)]
#[allow(unsafe_code)]
mod wdf;

// Nothing calls it, so that ExAllocatePool2, which Server 2016 lacks, is no import of the image.
#[cfg(windows)]
#[global_allocator]
static ALLOCATOR: wdk_alloc::WdkAllocator = wdk_alloc::WdkAllocator;

// The panic handler. No path leads to it: the release image does not import KeBugCheckEx.
#[cfg(windows)]
extern crate wdk_panic;

#[cfg(windows)]
wdf::driver_entry!(filter::Filter);
