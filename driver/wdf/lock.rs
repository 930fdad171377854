//! A spin lock and the value that it covers.

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::null_mut;

use scsi_reserve::NtStatus;
use wdk_sys::{WDFSPINLOCK, call_unsafe_wdf_function_binding as call_unsafe};

use super::device::{Device, Operations};
use super::{attributes, check};

/// A value that only the holder of its lock can reach.
pub struct Locked<T> {
    lock: WDFSPINLOCK,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands the value to one thread at a time.
unsafe impl<T: Send> Sync for Locked<T> {}

impl<T> Locked<T> {
    /// Makes a lock of the device's.
    pub fn create<C: Operations>(device: &Device<C>, value: T) -> Result<Self, NtStatus> {
        let mut attributes = attributes(device.object());
        let mut lock = null_mut();
        // SAFETY: the device lives; the attributes are initialised.
        check(unsafe { call_unsafe!(WdfSpinLockCreate, &raw mut attributes, &raw mut lock) })?;
        Ok(Self {
            lock,
            value: UnsafeCell::new(value),
        })
    }

    /// Takes the lock; the IRQL is `DISPATCH_LEVEL` until the guard is dropped. Any IRQL up to that; not recursive.
    pub fn lock(&self) -> Guard<'_, T> {
        // SAFETY: the lock lives as long as the device.
        unsafe { call_unsafe!(WdfSpinLockAcquire, self.lock) };
        #[cfg(broken)]
        super::broken::locked(self.lock);
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
        // SAFETY: this guard's acquisition, released once.
        unsafe { call_unsafe!(WdfSpinLockRelease, self.locked.lock) };
        #[cfg(broken)]
        super::broken::unlocked(self.locked.lock);
    }
}
