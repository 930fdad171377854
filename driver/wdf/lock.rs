//! A spin lock and the value that it covers.

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use scsi_reserve::NtStatus;
use wdk::wdf::SpinLock;

use super::context::Context;
use super::device::Device;
use super::object::attributes;

/// A value that only the holder of its lock can reach.
pub struct Locked<T> {
    lock: SpinLock,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands the value to one thread at a time.
unsafe impl<T: Send> Sync for Locked<T> {}

impl<T> Locked<T> {
    /// Makes a lock of the device's.
    pub fn create<C: Context>(device: &Device<C>, value: T) -> Result<Self, NtStatus> {
        let lock = SpinLock::create(&mut attributes(device.object())).map_err(NtStatus)?;
        Ok(Self {
            lock,
            value: UnsafeCell::new(value),
        })
    }

    /// Takes the lock; the IRQL is `DISPATCH_LEVEL` until the guard is dropped. Any IRQL up to that; not recursive.
    pub fn lock(&self) -> Guard<'_, T> {
        self.lock.acquire();
        Guard {
            locked: self,
            one_thread: PhantomData,
        }
    }
}

/// The right to the value while the lock is held.
pub struct Guard<'a, T> {
    locked: &'a Locked<T>,
    one_thread: PhantomData<*mut ()>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the lock is held, and the borrow of the guard covers that of the value.
        unsafe { &*self.locked.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and this borrow of the guard is the only one.
        unsafe { &mut *self.locked.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.locked.lock.release();
    }
}
