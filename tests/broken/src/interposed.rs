//! Stands between the driver and the framework: functions of this package take the place of some in the framework's
//! function table, which the driver calls through, and of some that it imports from ntoskrnl.exe.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::marker::PhantomData;
use core::mem;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

use wdk_sys::{_WDFFUNCENUM, NTSTATUS, PCUNICODE_STRING, PDRIVER_OBJECT, WDFFUNC, WdfFunctions};

use crate::mistakes;

const ENTRIES: usize = _WDFFUNCENUM::WdfFunctionTableNumEntries as usize;

/// The framework's own table.
static GENUINE: AtomicPtr<WDFFUNC> = AtomicPtr::new(null_mut());

/// The table that the driver sees.
struct Table(UnsafeCell<[WDFFUNC; ENTRIES]>);

// SAFETY: it is written once, before the driver runs.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([None; ENTRIES]));

/// The framework's function at this index.
///
/// # Safety
/// The index is one of the table's, and `DriverEntry` was called.
pub unsafe fn genuine(index: usize) -> WDFFUNC {
    // SAFETY: the caller's.
    let entry = unsafe { GENUINE.load(Ordering::Relaxed).add(index) };
    // SAFETY: the framework has filled all of its table.
    unsafe { entry.read() }
}

// lld gives its own name to the driver's, and the name to this.
unsafe extern "system" {
    fn __real_DriverEntry(driver: PDRIVER_OBJECT, path: PCUNICODE_STRING) -> NTSTATUS;
}

/// What the entry stub calls when it has bound the image to the framework.
// SAFETY: the linker looks for this name, and no other item has it.
#[unsafe(no_mangle)]
unsafe extern "system" fn __wrap_DriverEntry(
    driver: PDRIVER_OBJECT,
    path: PCUNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: the stub has bound it, and no other thread is here yet.
    let framework = unsafe { WdfFunctions };
    GENUINE.store(framework.cast_mut(), Ordering::Relaxed);
    let table = TABLE.0.get();
    // SAFETY: the framework's table has that many entries.
    unsafe { table.copy_from_nonoverlapping(framework.cast(), 1) };
    // SAFETY: nobody else has it before the driver runs.
    let functions = unsafe { &mut *table };
    for &(index, function) in mistakes::CALLS {
        if let Some(entry) = functions.get_mut(index) {
            *entry = function;
        }
    }
    // SAFETY: as above, and the table is there as long as the image.
    unsafe { WdfFunctions = table.cast() };
    // SAFETY: the arguments are the stub's.
    unsafe { __real_DriverEntry(driver, path) }
}

/// A callback that the driver has registered, by its type `PFN_...`: the same one for all of its devices.
pub struct Callback<F>(AtomicPtr<c_void>, PhantomData<F>);

impl<F: Copy> Callback<F> {
    /// None yet.
    pub const fn none() -> Self {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        Self(AtomicPtr::new(null_mut()), PhantomData)
    }

    /// Keeps the driver's; gives what is registered in its place.
    pub fn replace(&self, by: F, callback: F) -> F {
        // SAFETY: a nullable function pointer, as all of these types are.
        let kept = unsafe { mem::transmute_copy::<F, *mut c_void>(&callback) };
        self.0.store(kept, Ordering::Relaxed);
        if kept.is_null() { callback } else { by }
    }

    /// The driver's.
    pub fn get(&self) -> F {
        let kept = self.0.load(Ordering::Relaxed);
        // SAFETY: it came from this type, or is null, which is its `None`.
        unsafe { mem::transmute_copy::<*mut c_void, F>(&kept) }
    }
}

/// Defines functions that take the place of the framework's, and `genuine::` those that they take it of.
macro_rules! calls {
    ($($name:ident: $type:ident at $index:ident ($($arg:ident: $kind:ty),*) $(-> $ret:ty)? $body:block)*) => {
        /// The framework's own.
        #[allow(non_snake_case, dead_code)]
        mod genuine {
            use super::*;
            $(pub unsafe fn $name($($arg: $kind),*) $(-> $ret)? {
                // SAFETY: the entry at this index is of this type.
                let function: $type = unsafe {
                    core::mem::transmute(interposed::genuine(_WDFFUNCENUM::$index as usize))
                };
                // SAFETY: the framework has filled all of its table; the arguments are the caller's.
                unsafe { function.unwrap_unchecked()(wdk_sys::WdfDriverGlobals, $($arg),*) }
            })*
        }

        $(#[allow(non_snake_case)]
        unsafe extern "C" fn $name(_globals: PWDF_DRIVER_GLOBALS, $($arg: $kind),*) $(-> $ret)? {
            // SAFETY: the arguments are the driver's; what is unsound in the body is so on purpose.
            unsafe { $body }
        })*

        /// Each with its place in the function table.
        pub const CALLS: &[(usize, WDFFUNC)] = &[$({
            let function: $type = Some($name);
            // SAFETY: the table holds function pointers of all types as this one.
            (_WDFFUNCENUM::$index as usize, unsafe { core::mem::transmute::<$type, WDFFUNC>(function) })
        },)*];
    };
}
pub(crate) use calls;
