//! Owning wrappers over the KMDF calls that the driver uses, and the only unsafe code in it.
//!
//! How to write a filter with them:
//!
//! * Implement [`Driver`] for what the driver keeps and [`Operations`] for what it keeps of one device; declare both
//!   with [`context!`], so that they can be contexts of framework objects; name the first in [`driver_entry!`].
//! * In [`Driver::device_add`], turn the [`DeviceInit`] into a [`Device`], make what the device needs as its
//!   children, and [`open`](Device::open) it. Until then no callback reaches the context. Any error just returned
//!   leaves the disk without the filter.
//! * The framework calls the functions of [`Operations`], on any thread and several at once.
//!
//! | type | what it stands for |
//! | --- | --- |
//! | [`DeviceInit`], [`Device`] | `WDFDEVICE_INIT` of a filter; `WDFDEVICE` whose context is still to come |
//! | [`Queue`] | `WDFQUEUE`, not the default one, not power managed |
//! | [`Request`], [`Cancelable`] | `WDFREQUEST` from a queue; it must be completed |
//! | [`PassThrough`], [`Prepared`], [`Returned`] | the driver's own `WDFREQUEST` and its memory: idle, formatted, back |
//! | [`Canceller`] | the right to cancel it while it is out |
//! | [`Locked`] | `WDFSPINLOCK` and what it covers |
//! | [`Timer`] | `WDFTIMER`, one-shot, called at `PASSIVE_LEVEL` |
//! | [`Key`] | `WDFKEY`, closed when dropped |
//! | [`Provider`] | an ETW registration; its events are declared with [`events!`] |
//!
//! Handles are children of their device and live as long as it does; the context that holds them lives there too.
//! Contexts are not dropped: what they hold, the framework frees.
//!
//! Sources for the rules: Microsoft's reference pages and microsoft/Windows-Driver-Frameworks, src/framework.

#[cfg(broken)]
mod broken;
mod clock;
mod context;
mod device;
mod driver;
mod etw;
mod lock;
mod pass_through;
mod queue;
mod registry;
mod request;
mod timer;

pub use clock::interrupt_time;
pub(crate) use context::context;
pub use context::{Context, TypeInfo};
pub use device::{Device, Operations, Route};
pub(crate) use driver::driver_entry;
pub use driver::{DeviceInit, Driver, create};
pub(crate) use etw::events;
pub use etw::{Data, Event, Field, Hex, Level, Provider, Text, metadata, metadata_size, traits};
pub use lock::Locked;
pub use pass_through::{Canceller, PassThrough, Prepared, Returned};
pub use queue::Queue;
pub(crate) use registry::utf16;
pub use registry::{Key, Utf16, ascii};
pub use request::{Cancelable, Request};
pub use timer::Timer;

use scsi_reserve::NtStatus;
use wdk_sys::{
    _WDF_EXECUTION_LEVEL, _WDF_SYNCHRONIZATION_SCOPE, NTSTATUS, ULONG, WDF_OBJECT_ATTRIBUTES,
    WDFOBJECT,
};

fn check(status: NTSTATUS) -> Result<(), NtStatus> {
    match NtStatus(status) {
        status if status.is_success() => Ok(()),
        status => Err(status),
    }
}

/// The `Size` member of a framework structure.
#[allow(
    clippy::cast_possible_truncation,
    reason = "the framework's structures are small"
)]
const fn size<T>() -> ULONG {
    size_of::<T>() as ULONG
}

/// `WDF_OBJECT_ATTRIBUTES_INIT`, with a parent or NULL.
fn attributes(parent: WDFOBJECT) -> WDF_OBJECT_ATTRIBUTES {
    WDF_OBJECT_ATTRIBUTES {
        Size: size::<WDF_OBJECT_ATTRIBUTES>(),
        ExecutionLevel: _WDF_EXECUTION_LEVEL::WdfExecutionLevelInheritFromParent,
        SynchronizationScope: _WDF_SYNCHRONIZATION_SCOPE::WdfSynchronizationScopeInheritFromParent,
        ParentObject: parent,
        ..WDF_OBJECT_ATTRIBUTES::default()
    }
}
