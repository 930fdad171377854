//! Stand-in for a Windows-only crate that is never used on another host.
#![no_std]
