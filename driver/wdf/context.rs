//! Object contexts: a value of the driver's that a framework object carries in its context space.
//!
//! The framework allocates the context space with its object and zeroes it; the value moves in later, once. So a
//! callback that comes first finds none, rather than one half made.

use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU8, Ordering};

use wdk_sys::{
    PCWDF_OBJECT_CONTEXT_TYPE_INFO, WDF_OBJECT_ATTRIBUTES, WDF_OBJECT_CONTEXT_TYPE_INFO, WDFOBJECT,
    call_unsafe_wdf_function_binding as call_unsafe,
};

use super::object::size;

/// A type whose values are contexts. Implemented by [`context!`].
pub trait Context: Sized + Sync + 'static {
    /// The one description of the type that the framework knows it by.
    fn type_info() -> &'static TypeInfo<Self>;
}

/// Makes a type a [`Context`].
macro_rules! context {
    ($type:ident) => {
        impl $crate::wdf::Context for $type {
            fn type_info() -> &'static $crate::wdf::TypeInfo<Self> {
                const NAME: &core::ffi::CStr = match core::ffi::CStr::from_bytes_with_nul(
                    concat!(stringify!($type), "\0").as_bytes(),
                ) {
                    Ok(name) => name,
                    Err(_) => c"?",
                };
                static INFO: $crate::wdf::TypeInfo<$type> = $crate::wdf::TypeInfo::new(NAME, &INFO);
                &INFO
            }
        }
    };
}
pub(crate) use context;

/// `WDF_OBJECT_CONTEXT_TYPE_INFO` of a context `C`.
#[repr(transparent)]
pub struct TypeInfo<C>(
    WDF_OBJECT_CONTEXT_TYPE_INFO,
    core::marker::PhantomData<fn() -> C>,
);

// SAFETY: it is never written; its pointers are to statics.
unsafe impl<C> Sync for TypeInfo<C> {}

impl<C> TypeInfo<C> {
    /// `unique` is the static being made: the framework tells types apart by its address.
    pub const fn new(name: &'static CStr, unique: &'static Self) -> Self {
        // The framework aligns contexts as it does pool.
        const { assert!(align_of::<ContextSpace<C>>() <= 16) };
        Self(
            WDF_OBJECT_CONTEXT_TYPE_INFO {
                Size: size::<WDF_OBJECT_CONTEXT_TYPE_INFO>(),
                ContextName: name.as_ptr(),
                ContextSize: size_of::<ContextSpace<C>>(),
                UniqueType: core::ptr::from_ref(unique).cast(),
                EvtDriverGetUniqueContextType: None,
            },
            core::marker::PhantomData,
        )
    }

    fn as_raw(&'static self) -> PCWDF_OBJECT_CONTEXT_TYPE_INFO {
        &raw const self.0
    }
}

/// `WDF_OBJECT_ATTRIBUTES_SET_CONTEXT_TYPE`.
pub fn set_context<C: Context>(attributes: &mut WDF_OBJECT_ATTRIBUTES) {
    attributes.ContextTypeInfo = C::type_info().as_raw();
}

/// The context space of an object: all zero is a place that is still empty.
#[repr(C)]
pub struct ContextSpace<C> {
    state: AtomicU8,
    value: UnsafeCell<MaybeUninit<C>>,
}

/// The states of a place; an empty one's is 0.
const EMPTY: u8 = 0;
const FULL: u8 = 1;
/// Full, and its object is being deleted.
const CLOSED: u8 = 2;

impl<C: Context> ContextSpace<C> {
    /// The context space of an object, if it has one of this type. Any IRQL up to `DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// The handle is of an object that outlives `'a`.
    pub unsafe fn of<'a>(object: WDFOBJECT) -> Option<&'a Self> {
        // SAFETY: the caller's.
        let space = unsafe {
            call_unsafe!(
                WdfObjectGetTypedContextWorker,
                object,
                C::type_info().as_raw()
            )
        };
        // SAFETY: null, or memory of this type that was zeroed, which is an empty place, and perhaps filled since.
        unsafe { space.cast::<Self>().as_ref() }
    }

    /// Where the value is or will be.
    pub fn place(&self) -> *mut C {
        self.value.get().cast()
    }

    /// The value, if it is there.
    pub fn get(&self) -> Option<&C> {
        if self.state.load(Ordering::Acquire) == EMPTY {
            return None;
        }
        // SAFETY: a full place holds a value, which is only read.
        Some(unsafe { &*self.place() })
    }

    /// The value, if it is there and [`close`](Self::close) did not come.
    pub fn get_open(&self) -> Option<&C> {
        if self.state.load(Ordering::Acquire) != FULL {
            return None;
        }
        // SAFETY: as above.
        Some(unsafe { &*self.place() })
    }

    /// From now on [`get_open`](Self::get_open) gives nothing; the value stays.
    pub fn close(&self) {
        self.state.store(CLOSED, Ordering::Release);
    }

    /// Moves the value in; the reference lives as long as the object.
    ///
    /// # Safety
    /// The place is empty, and no other thread fills it.
    pub unsafe fn fill(&self, value: C) -> &C {
        let place = self.place();
        // SAFETY: nobody reads or writes an empty place but the caller.
        unsafe { place.write(value) };
        self.state.store(FULL, Ordering::Release);
        // SAFETY: it was just written, and from now on it is only read.
        unsafe { &*place }
    }
}
