//! Run-down protection: how long what others still look at is kept.

use core::cell::UnsafeCell;

use wdk_sys::{
    EX_RUNDOWN_REF,
    ntddk::{
        ExAcquireRundownProtection, ExInitializeRundownProtection, ExReleaseRundownProtection,
        ExWaitForRundownProtectionRelease,
    },
};

/// `EX_RUNDOWN_REF`.
pub struct Rundown(UnsafeCell<EX_RUNDOWN_REF>);

// SAFETY: the routines are made for any thread, several at once.
unsafe impl Sync for Rundown {}

/// The right to what is protected; it ends when this is dropped.
pub struct Protection<'a>(&'a Rundown);

impl Rundown {
    /// Of what is there.
    pub fn new() -> Self {
        let rundown = Self(UnsafeCell::default());
        // SAFETY: nobody else knows it. Until somebody acquires it, it is a number that may be moved.
        unsafe { ExInitializeRundownProtection(rundown.0.get()) };
        rundown
    }

    /// Keeps what is protected, if it is not going yet. Any IRQL up to `DISPATCH_LEVEL`.
    pub fn acquire(&self) -> Option<Protection<'_>> {
        // SAFETY: it was initialised.
        let acquired = unsafe { ExAcquireRundownProtection(self.0.get()) };
        (acquired != 0).then(|| Protection(self))
    }

    /// Lets nobody in any more, and waits for those who are. `PASSIVE_LEVEL`; nothing is done if it comes again.
    pub fn wait(&self) {
        // SAFETY: as above.
        unsafe { ExWaitForRundownProtectionRelease(self.0.get()) };
    }
}

impl Drop for Protection<'_> {
    fn drop(&mut self) {
        // SAFETY: it was acquired, and is released once.
        unsafe { ExReleaseRundownProtection(self.0.0.get()) };
    }
}
