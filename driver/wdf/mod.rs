//! Owning wrappers over the KMDF calls that the driver uses, and the only unsafe code in it.
//!
//! How to write a filter with them:
//!
//! * Implement [`Driver`] for what the driver keeps and [`Operations`] for what it keeps of one device; declare both
//!   with [`context!`], so that they can be contexts of framework objects; name the first in [`driver_entry!`].
//! * In [`Driver::evt_driver_device_add`], turn the [`DeviceInit`] into a [`Device`], make what the device needs as its
//!   children, and [`open`](Device::open) it. Until then no callback reaches the context. Any error just returned
//!   leaves the disk without the filter.
//! * The framework calls the functions of [`Operations`], on any thread and several at once.
//! * A [`Request`] that is neither completed nor kept doesn't compile away: dropping it stops the system, in front of
//!   the bug. A [`PassThrough`] that is out can't be touched: sending it takes it away.
//!
//! A filter that completes one device control and lets all others pass:
//!
//! ```ignore
//! struct Disk { queue: Queue }
//! context!(Disk);
//!
//! impl Operations for Disk {
//!     type Code = ();
//!     fn looks_at(code: u32) -> Option<()> { (code == IOCTL_OF_MINE).then_some(()) }
//!     fn evt_device_wdm_irp_dispatch(&self, (): ()) -> Route<'_> { Route::Queue(&self.queue) }
//!     fn evt_io_device_control(&self, request: Request, _: u32) { request.complete(NtStatus::SUCCESS) }
//!     // … and the other callbacks, which have nothing to do.
//! }
//!
//! fn attach(init: DeviceInit<'_>) -> Result<(), NtStatus> {
//!     let device = init.create::<Disk>()?;
//!     let queue = device.parallel_queue()?;
//!     device.open(Disk { queue }, Watch::Off)
//! }
//! ```
//!
//! | module | type | what it stands for |
//! | --- | --- | --- |
//! | `callbacks` | [`Driver`], [`Operations`] | what the framework calls, and how a device's parts are made |
//! | `driver` | | `WDFDRIVER` |
//! | `pass_through` | [`PassThrough`], [`Prepared`], [`Returned`] | the driver's own `WDFREQUEST` and its memory: idle, formatted, back |
//! | | [`Canceller`] | the right to cancel it while it is out |
//! | `queue` | [`Queue`] | `WDFQUEUE`, not the default one, not power managed |
//! | `request` | [`Request`] | `WDFREQUEST` from a queue; it must be completed |
//! | | [`InHand`] | the one that is being served |
//! | `work_item` | [`WorkItem`] | `WDFWORKITEM` |
//! | `timer` | [`Timer`] | `WDFTIMER`, one-shot, called at `PASSIVE_LEVEL` |
//! | `bus_relations` | [`BusRelations`] | those of the device's PDO |
//! | `below` | [`Below`] | the next lower device |
//! | `srb` | [`Asks`] | SCSI request blocks that pass |
//! | `rundown` | [`Rundown`] | `EX_RUNDOWN_REF` |
//! | `lock` | [`Locked`] | `WDFSPINLOCK` and what it covers |
//! | `device` | [`DeviceInit`], [`Device`] | `WDFDEVICE_INIT` of a filter; `WDFDEVICE` whose context is still to come |
//! | `etw` | [`Provider`] | an ETW registration; its events are declared with [`events!`] |
//! | `registry` | [`Key`] | `WDFKEY`, closed when dropped |
//! | `context` | [`Context`] | a value in an object's context space |
//! | `clock`, `object` | | interrupt time; what all objects share |
//!
//! Each module uses only those below it in this table.
//!
//! Handles are children of their device and live as long as it does; the context that holds them lives there too.
//! Contexts are not dropped: what they hold, the framework frees.
//!
//! Sources for the rules: Microsoft's reference pages and microsoft/Windows-Driver-Frameworks, src/framework.

mod below;
mod bus_relations;
mod callbacks;
mod clock;
mod context;
mod device;
mod driver;
mod etw;
mod lock;
mod object;
mod pass_through;
mod queue;
mod registry;
mod request;
mod rundown;
mod srb;
mod timer;
mod work_item;

pub use below::Below;
pub use bus_relations::BusRelations;
pub(crate) use callbacks::driver_entry;
pub use callbacks::{Driver, Look, Operations, Route, load};
pub use clock::interrupt_time;
pub(crate) use context::context;
pub use context::{Context, TypeInfo};
pub use device::{Device, DeviceInit};
pub(crate) use etw::events;
pub use etw::{
    Event, Field, Hex, Level, Payload, Provider, Text, metadata, metadata_size, texts, traits,
};
pub use lock::{Guard, Locked};
pub use pass_through::{Canceller, PassThrough, Returned, SendTimeout};
pub use queue::Queue;
pub(crate) use registry::utf16;
pub use registry::{Key, Utf16, ascii};
pub use request::{EvtRequestCancel, InHand, Place, Request, Told};
pub use rundown::{Protection, Rundown};
pub use srb::Asks;
pub use timer::Timer;
pub use work_item::WorkItem;
