//! What the framework calls: each callback finds the context that it is for, and calls the function of [`Driver`] or
//! [`Operations`] with its name. Here, too, is what a device's parts are made with, since that names the callbacks.

use wdk_sys::{
    CCHAR, IO_NO_INCREMENT, IRP_MJ_DEVICE_CONTROL, IRP_MJ_SCSI, NTSTATUS, PCUNICODE_STRING,
    PDEVICE_OBJECT, PDRIVER_OBJECT, PFN_WDFDEVICE_WDM_IRP_DISPATCH, PIO_COMPLETION_ROUTINE, PIRP,
    PVOID, PWDF_REQUEST_COMPLETION_PARAMS, PWDFDEVICE_INIT, STATUS_SUCCESS, UCHAR, ULONG,
    WDF_PNPPOWER_EVENT_CALLBACKS, WDF_POWER_DEVICE_STATE, WDFCONTEXT, WDFDEVICE, WDFDRIVER,
    WDFIOTARGET, WDFOBJECT, WDFQUEUE, WDFREQUEST, WDFTIMER, WDFWORKITEM,
    call_unsafe_wdf_function_binding as call_unsafe, ntddk::IofCompleteRequest,
};

use scsi_reserve::{NtStatus, SrbAnswer, Watch, Watched};

use super::below::{Below, returned};
use super::bus_relations::BusRelations;
use super::context::{Context, ContextSpace};
use super::device::{Device, DeviceInit};
use super::driver::create_driver;
use super::etw::Provider;
use super::object::size;
use super::pass_through::{PassThrough, Returned};
use super::queue::Queue;
use super::registry::Key;
use super::request::{EvtRequestCancel, Request};
use super::srb::{Asks, Srb, current_location};
use super::timer::Timer;
use super::work_item::WorkItem;

/// A filter driver; its value is the context of the `WDFDRIVER`. All of it at `PASSIVE_LEVEL`.
pub trait Driver: Context {
    /// Where the driver's events go.
    fn provider() -> &'static Provider;

    /// `DriverEntry`, with the driver's Parameters key if there is one.
    fn driver_entry(parameters: Option<&Key>) -> Self;

    /// `EvtDriverDeviceAdd`. `Ok` without a device leaves the disk alone, and so does an error.
    fn evt_driver_device_add(&self, init: DeviceInit<'_>) -> Result<(), NtStatus>;

    /// `EvtDriverUnload`: the driver has no devices any more.
    fn evt_driver_unload(&self);
}

/// What a filter does on one device; its value is the context of the `WDFDEVICE`.
///
/// Unless it says otherwise, a function is called at any IRQL up to `DISPATCH_LEVEL`.
pub trait Operations: Context {
    /// What a control code is to the filter that it looks at.
    type Code: Copy;

    /// Whether the filter looks at a device control. All others go on to the next lower device.
    fn looks_at(code: u32) -> Option<Self::Code>;

    /// `EvtDeviceWdmIrpDispatch`: where a device control goes that the filter looks at.
    fn evt_device_wdm_irp_dispatch(&self, code: Self::Code) -> Route<'_>;

    /// A device control goes by of which that said [`Route::Watch`].
    fn goes_by(&self, code: u32);

    /// False if commands with this operation code need not be told to [`srb_passes`](Self::srb_passes): those are
    /// [`Look::Away`], or with [`Watch::Answers`] [`Look::Foreign`].
    fn may_change(operation: u8) -> bool;

    /// An SRB passes, if [`Device::open`] was told that they are looked at: whether its answer is, too.
    fn srb_passes(&self, asks: Asks) -> Look;

    /// What SRBs go on to whose answers are looked at.
    fn below(&self) -> &Below;

    /// The answer to an SRB of which [`srb_passes`](Self::srb_passes) said [`Look::Watched`], or with nothing one that is
    /// no success and of which it said [`Look::Foreign`].
    fn srb_answered(&self, watched: Option<Watched>, answer: &SrbAnswer<'_>);

    /// `EvtIoDeviceControl` of a parallel queue.
    fn evt_io_device_control(&self, request: Request, code: u32);

    /// `EvtIoQueueState`: a request came into the empty manual queue. `PASSIVE_LEVEL`.
    fn evt_io_queue_state(&self);

    /// `EvtWorkItem`. `PASSIVE_LEVEL`.
    fn evt_work_item(&self);

    /// `EvtRequestCancel` of the cancelable request in hand: it may be completed when this was called and not before.
    fn evt_request_cancel(&self);

    /// The completion routine of a pass-through that was sent; perhaps before the send has returned.
    fn evt_request_completion_routine(&self, returned: Returned);

    /// `EvtTimerFunc`. `PASSIVE_LEVEL`.
    fn evt_timer_func(&self);

    /// `EvtDeviceD0Entry`: the device came to full power, by its start or from low power. `PASSIVE_LEVEL`.
    fn evt_device_d0_entry(&self);

    /// `EvtDeviceSelfManagedIoFlush`: the device is being removed, orderly or not. `PASSIVE_LEVEL`.
    fn evt_device_self_managed_io_flush(&self);

    /// `EvtCleanupCallback`: the device goes, and its children are gone already.
    fn evt_cleanup_callback(&self);
}

/// Where a device control goes that the filter looks at.
pub enum Route<'a> {
    /// On to the next lower device.
    Pass,
    /// The same, after [`Operations::goes_by`].
    Watch,
    /// To a queue.
    Queue(&'a Queue),
    /// Nowhere: it is completed at once, with Information 0.
    Complete(NtStatus),
}

/// Whether the answer to an SRB that passes is looked at.
#[derive(Clone, Copy)]
pub enum Look {
    /// It isn't.
    Away,
    /// In any case.
    Watched(Watched),
    /// If it is no success.
    Foreign,
}

/// Exports `DriverEntry` for a [`Driver`].
macro_rules! driver_entry {
    ($driver:ty) => {
        /// What the framework's entry stub calls when the driver is loaded.
        #[allow(unsafe_code)]
        // SAFETY: the stub looks for this name, and no other item has it.
        #[unsafe(export_name = "DriverEntry")]
        extern "system" fn driver_entry(
            driver: wdk_sys::PDRIVER_OBJECT,
            registry_path: wdk_sys::PCUNICODE_STRING,
        ) -> wdk_sys::NTSTATUS {
            // SAFETY: the arguments are the loader's own.
            unsafe { $crate::wdf::load::<$driver>(driver, registry_path) }
        }
    };
}
pub(crate) use driver_entry;

/// Registers the provider of `D` and makes its `WDFDRIVER`.
///
/// # Safety
/// The arguments are those of `DriverEntry`.
pub unsafe fn load<D: Driver>(object: PDRIVER_OBJECT, registry_path: PCUNICODE_STRING) -> NTSTATUS {
    // SAFETY: DriverEntry runs once; if it fails it is unregistered here, else in EvtDriverUnload.
    unsafe { D::provider().register() };
    // SAFETY: the caller's; the callbacks are those for a driver with a `D`.
    let driver = unsafe {
        create_driver::<D>(
            object,
            registry_path,
            Some(evt_driver_device_add::<D>),
            Some(evt_driver_unload::<D>),
        )
    };
    let driver = match driver {
        Ok(driver) => driver,
        Err(status) => {
            D::provider().unregister();
            return status.0;
        }
    };
    // SAFETY: the driver was just made.
    let key = unsafe { Key::parameters(driver) };
    let value = D::driver_entry(key.ok().as_ref());
    // SAFETY: the driver was just made.
    if let Some(space) = unsafe { ContextSpace::of(driver.cast()) } {
        // SAFETY: nothing was put there yet, and DriverEntry runs once.
        unsafe { space.fill(value) };
    }
    STATUS_SUCCESS
}

unsafe extern "C" fn evt_driver_device_add<D: Driver>(
    driver: WDFDRIVER,
    init: PWDFDEVICE_INIT,
) -> NTSTATUS {
    // First of all: from here on an error means "not attached".
    // SAFETY: the framework gives a live init.
    let init = unsafe { DeviceInit::filter(init) };
    // SAFETY: the driver outlives its callback.
    match unsafe { context::<D>(driver.cast()) }.map(|driver| driver.evt_driver_device_add(init)) {
        None | Some(Ok(())) => STATUS_SUCCESS,
        Some(Err(status)) => status.0,
    }
}

unsafe extern "C" fn evt_driver_unload<D: Driver>(driver: WDFDRIVER) {
    // SAFETY: the driver outlives its callback.
    if let Some(driver) = unsafe { context::<D>(driver.cast()) } {
        driver.evt_driver_unload();
    }
    D::provider().unregister();
}

impl DeviceInit<'_> {
    /// Makes the filter device, with room for its context.
    pub fn create<C: Operations>(self) -> Result<Device<C>, NtStatus> {
        let mut callbacks = WDF_PNPPOWER_EVENT_CALLBACKS {
            Size: size::<WDF_PNPPOWER_EVENT_CALLBACKS>(),
            EvtDeviceD0Entry: Some(evt_device_d0_entry::<C>),
            EvtDeviceSelfManagedIoFlush: Some(evt_device_self_managed_io_flush::<C>),
            ..WDF_PNPPOWER_EVENT_CALLBACKS::default()
        };
        // SAFETY: the callbacks are those for a device with a `C`.
        unsafe { self.create_device(&mut callbacks, Some(evt_cleanup_callback::<C>)) }
    }
}

impl<C: Operations> Device<C> {
    /// Makes the queue whose requests go to [`Operations::evt_io_device_control`], each when it comes.
    pub fn parallel_queue(&self) -> Result<Queue, NtStatus> {
        // SAFETY: the callback is that for a device with a `C`.
        unsafe { Queue::parallel(self, Some(evt_io_device_control::<C>)) }
    }

    /// Makes the queue whose requests the driver takes itself; see [`Operations::evt_io_queue_state`].
    pub fn manual_queue(&self) -> Result<Queue, NtStatus> {
        // SAFETY: the callback is that for a device with a `C`.
        unsafe { Queue::manual(self, Some(evt_io_queue_state::<C>)) }
    }

    /// Makes the device's work item; see [`Operations::evt_work_item`].
    pub fn work_item(&self) -> Result<WorkItem, NtStatus> {
        // SAFETY: the callback is that for a device with a `C`.
        unsafe { WorkItem::create(self, Some(evt_work_item::<C>)) }
    }

    /// Makes the device's timer; see [`Operations::evt_timer_func`].
    pub fn timer(&self) -> Result<Timer, NtStatus> {
        // SAFETY: the callback is that for a device with a `C`.
        unsafe { Timer::passive(self, Some(evt_timer_func::<C>)) }
    }

    /// Makes the device's pass-through; see [`Operations::evt_request_completion_routine`].
    pub fn pass_through(&self) -> Result<PassThrough, NtStatus> {
        // SAFETY: the callback is that for a device with a `C`.
        unsafe { PassThrough::create(self, Some(evt_request_completion_routine::<C>)) }
    }

    /// The bus relations of the device's PDO.
    pub fn bus_relations(&self) -> Result<BusRelations, NtStatus> {
        BusRelations::of(self)
    }

    /// What a request of the device's is marked cancelable with; see [`Operations::evt_request_cancel`].
    #[allow(clippy::unused_self, reason = "it says of which type the context is")]
    pub const fn evt_request_cancel(&self) -> EvtRequestCancel {
        // SAFETY: the callback is that for a device with a `C`.
        unsafe { EvtRequestCancel::new(evt_request_cancel::<C>) }
    }

    /// The next lower device.
    pub fn below(&self) -> Below {
        Below::of(self)
    }

    /// Lets device controls in, and SRBs if they are looked at, and puts the context in its place. Comes last: until then
    /// they pass by.
    pub fn open(self, context: C, watch: Watch) -> Result<(), NtStatus> {
        #[allow(clippy::cast_possible_truncation, reason = "0x0E")]
        const MAJOR_FUNCTION: UCHAR = IRP_MJ_DEVICE_CONTROL as UCHAR;
        #[allow(clippy::cast_possible_truncation, reason = "0x0F")]
        const SCSI: UCHAR = IRP_MJ_SCSI as UCHAR;
        let srbs: PFN_WDFDEVICE_WDM_IRP_DISPATCH = match watch {
            Watch::Off => None,
            Watch::Changes => Some(evt_srb_dispatch::<C, false>),
            Watch::Answers => Some(evt_srb_dispatch::<C, true>),
        };
        let controls: PFN_WDFDEVICE_WDM_IRP_DISPATCH = Some(evt_device_wdm_irp_dispatch::<C>);
        // SAFETY: the callbacks are those for a device with a `C`.
        let opened = unsafe { self.dispatch_to(MAJOR_FUNCTION, controls) }.and_then(|()| {
            if srbs.is_none() {
                return Ok(());
            }
            // SAFETY: as above.
            unsafe { self.dispatch_to(SCSI, srbs) }
        });
        if opened.is_err() {
            // Contexts are not dropped: what they hold, the framework frees.
            core::mem::forget(context);
            return opened;
        }
        // Nothing fails any more: who holds the device lets it go in its cleanup.
        if srbs.is_some() {
            context.below().hold();
        }
        self.fill(context);
        Ok(())
    }
}

/// The context of an object that is calling back.
///
/// # Safety
/// The object lives, and outlives `'a`.
unsafe fn context<'a, C: Context>(object: WDFOBJECT) -> Option<&'a C> {
    // SAFETY: the caller's.
    unsafe { ContextSpace::of(object) }.and_then(ContextSpace::get)
}

/// The same, once for the callbacks that are seldom called.
///
/// # Safety
/// As there.
#[cold]
#[inline(never)]
unsafe fn seldom_context<'a, C: Context>(object: WDFOBJECT) -> Option<&'a C> {
    // SAFETY: the caller's.
    unsafe { context(object) }
}

/// The context whose place a callback was given.
///
/// # Safety
/// The device's context space is for a `C`, and outlives `'a`.
unsafe fn in_place<'a, C: Context>(space: WDFCONTEXT) -> Option<&'a C> {
    // SAFETY: the caller's.
    unsafe { &*space.cast::<ContextSpace<C>>() }.get()
}

/// The same where it is known to be filled.
///
/// # Safety
/// As there, and it is.
unsafe fn filled<'a, C: Context>(space: WDFCONTEXT) -> &'a C {
    // SAFETY: the caller's.
    let place = unsafe { &*space.cast::<ContextSpace<C>>() }.place();
    // SAFETY: the caller's; it is only read.
    unsafe { &*place }
}

/// What it returns is what was returned to it: the IRP is out of its hands either way. Every device control of the disk
/// comes here, so that what is seldom is left to functions of its own: then this one has no registers to save.
unsafe extern "C" fn evt_device_wdm_irp_dispatch<C: Operations>(
    device: WDFDEVICE,
    _major: UCHAR,
    _minor: UCHAR,
    code: ULONG,
    driver_context: WDFCONTEXT,
    irp: PIRP,
    dispatch_context: WDFCONTEXT,
) -> NTSTATUS {
    if let Some(known) = C::looks_at(code) {
        // SAFETY: `open` gave the context space of the device, which outlives its callback.
        if let Some(context) = unsafe { in_place::<C>(driver_context) } {
            match context.evt_device_wdm_irp_dispatch(known) {
                Route::Pass => {}
                Route::Watch => {
                    // SAFETY: device, IRP and context are those given to this callback.
                    return unsafe { watch(context, code, device, irp, dispatch_context) };
                }
                Route::Queue(queue) => {
                    // SAFETY: device and IRP are those given to this callback, the queue is the device's.
                    return unsafe {
                        call_unsafe!(
                            WdfDeviceWdmDispatchIrpToIoQueue,
                            device,
                            irp,
                            queue.raw(),
                            0
                        )
                    };
                }
                // SAFETY: the IRP is ours until it is dispatched or completed.
                Route::Complete(status) => return unsafe { complete(irp, status) },
            }
        }
    }
    // SAFETY: device, IRP and context are those given to this callback.
    unsafe { call_unsafe!(WdfDeviceWdmDispatchIrp, device, irp, dispatch_context) }
}

/// Tells the context of a device control, and passes it on.
///
/// # Safety
/// Device, IRP and `dispatch_context` are those given to `EvtDeviceWdmIrpDispatch`.
#[cold]
#[inline(never)]
unsafe fn watch<C: Operations>(
    context: &C,
    code: ULONG,
    device: WDFDEVICE,
    irp: PIRP,
    dispatch_context: WDFCONTEXT,
) -> NTSTATUS {
    context.goes_by(code);
    // SAFETY: the caller's.
    unsafe { call_unsafe!(WdfDeviceWdmDispatchIrp, device, irp, dispatch_context) }
}

/// Every command that disk.sys sends comes here, if SRBs are looked at; with `ANSWERS` all answers are looked at, too.
/// What is seldom is left to functions of its own, as above.
unsafe extern "C" fn evt_srb_dispatch<C: Operations, const ANSWERS: bool>(
    device: WDFDEVICE,
    _major: UCHAR,
    _minor: UCHAR,
    _code: ULONG,
    space: WDFCONTEXT,
    irp: PIRP,
    dispatch_context: WDFCONTEXT,
) -> NTSTATUS {
    // SAFETY: the IRP is one that this callback was given.
    let location = unsafe { current_location(irp) };
    // SAFETY: the location is one of IRP_MJ_SCSI.
    let changes_nothing = unsafe { Srb::of(location) }
        .is_some_and(|srb| srb.is_command(|operation| !C::may_change(operation)));
    if !changes_nothing {
        // SAFETY: the arguments are those of this callback.
        return unsafe { seldom_srb::<C>(device, irp, dispatch_context) };
    }
    if !ANSWERS {
        // SAFETY: device, IRP and context are those given to this callback.
        return unsafe { call_unsafe!(WdfDeviceWdmDispatchIrp, device, irp, dispatch_context) };
    }
    // SAFETY: `open` gave the context space of the device, which outlives its callback.
    let place = unsafe { &*space.cast::<ContextSpace<C>>() };
    let Some(context) = place.get_open() else {
        // SAFETY: the arguments are those of this callback.
        return unsafe { seldom_srb::<C>(device, irp, dispatch_context) };
    };
    let routine: PIO_COMPLETION_ROUTINE = Some(foreign_srb_is_back::<C>);
    // SAFETY: the IRP is the one given to this callback; the routine is for a context space of a `C`.
    unsafe { context.below().send(irp, routine, space) }
}

/// With the callback's convention, so that it is a jump from there, and without the context space, so that this takes no
/// register.
///
/// # Safety
/// The arguments are those given to `evt_srb_dispatch`.
#[cold]
#[inline(never)]
unsafe extern "C" fn seldom_srb<C: Operations>(
    device: WDFDEVICE,
    irp: PIRP,
    dispatch_context: WDFCONTEXT,
) -> NTSTATUS {
    // SAFETY: the caller's.
    let location = unsafe { current_location(irp) };
    // SAFETY: the location is one of IRP_MJ_SCSI.
    let asks = unsafe { Srb::of(location) }.map_or(Asks::Nothing, Srb::asks);
    // SAFETY: the device outlives its callback.
    if let Some(space) = unsafe { ContextSpace::<C>::of(device.cast()) }
        && let Some(context) = space.get_open()
    {
        let routine: PIO_COMPLETION_ROUTINE = match context.srb_passes(asks) {
            Look::Away => None,
            Look::Foreign => Some(foreign_srb_is_back::<C>),
            Look::Watched(Watched::Reserve) => Some(watched_srb_is_back::<C, RESERVE>),
            Look::Watched(Watched::Release) => Some(watched_srb_is_back::<C, RELEASE>),
            Look::Watched(Watched::Other) => Some(watched_srb_is_back::<C, OTHER>),
        };
        if routine.is_some() {
            let space = core::ptr::from_ref(space).cast_mut().cast();
            // SAFETY: the IRP is the one given to this callback; the routines are for a context space of a `C`.
            return unsafe { context.below().send(irp, routine, space) };
        }
    }
    // SAFETY: device, IRP and context are those given to this callback.
    unsafe { call_unsafe!(WdfDeviceWdmDispatchIrp, device, irp, dispatch_context) }
}

/// What was asked is told by the routine, since the port may change the SRB, and a context would have to be allocated.
const RESERVE: u8 = Watched::Reserve as u8;
const RELEASE: u8 = Watched::Release as u8;
const OTHER: u8 = Watched::Other as u8;
const FOREIGN: u8 = OTHER + 1;

unsafe extern "C" fn watched_srb_is_back<C: Operations, const WATCHED: u8>(
    _device: PDEVICE_OBJECT,
    irp: PIRP,
    space: PVOID,
) -> NTSTATUS {
    // SAFETY: the arguments are the routine's.
    unsafe { srb_is_back::<C>(WATCHED, irp, space) }
}

unsafe extern "C" fn foreign_srb_is_back<C: Operations>(
    _device: PDEVICE_OBJECT,
    irp: PIRP,
    space: PVOID,
) -> NTSTATUS {
    // SAFETY: the IRP is back in this driver's location.
    let location = unsafe { current_location(irp) };
    // SAFETY: its SRB was looked at when it was sent.
    let srb = unsafe { Srb::sent(location) };
    if !SrbAnswer::is_success(srb.status()) {
        // SAFETY: the arguments are the routine's.
        return unsafe { srb_is_back::<C>(FOREIGN, irp, space) };
    }
    // SAFETY: it was sent with the context space of a `C`, which stays until it is back.
    let context = unsafe { filled::<C>(space) };
    // SAFETY: this is the completion routine, and the context isn't used any more.
    unsafe { context.below().is_back(irp, location) }
}

/// Tells the answer and lets the IRP go on up.
///
/// # Safety
/// Called by the completion routine of an IRP that `evt_srb_dispatch` sent, with its arguments.
#[cold]
#[inline(never)]
unsafe extern "C" fn srb_is_back<C: Operations>(watched: u8, irp: PIRP, space: PVOID) -> NTSTATUS {
    let watched = match watched {
        RESERVE => Some(Watched::Reserve),
        RELEASE => Some(Watched::Release),
        OTHER => Some(Watched::Other),
        _ => None,
    };
    // SAFETY: it was sent with the context space of a `C`, which stays until it is back.
    let context = unsafe { filled::<C>(space) };
    // SAFETY: the IRP is the routine's.
    let io_status = unsafe { &(*irp).IoStatus };
    // SAFETY: a completed IRP's block holds a status.
    let status = NtStatus(unsafe { io_status.__bindgen_anon_1.Status });
    // SAFETY: the IRP is back in this driver's location.
    let location = unsafe { current_location(irp) };
    // SAFETY: its SRB was looked at when it was sent.
    let srb = unsafe { Srb::sent(location) };
    // SAFETY: the SRB is back.
    let answer = unsafe { srb.answer(status) };
    context.srb_answered(watched, &answer);
    // SAFETY: this is the completion routine, and the context isn't used any more.
    let _success = unsafe { context.below().is_back(irp, location) };
    returned()
}

/// Completes an IRP with Information 0.
///
/// # Safety
/// The IRP is the caller's to complete, and isn't touched afterwards.
#[cold]
#[inline(never)]
unsafe fn complete(irp: PIRP, status: NtStatus) -> NTSTATUS {
    #[allow(clippy::cast_possible_truncation, reason = "0")]
    const PRIORITY_BOOST: CCHAR = IO_NO_INCREMENT as CCHAR;
    // SAFETY: the caller's.
    let io_status = unsafe { &mut (*irp).IoStatus };
    io_status.__bindgen_anon_1.Status = status.0;
    io_status.Information = 0;
    // SAFETY: the caller's.
    unsafe { IofCompleteRequest(irp, PRIORITY_BOOST) };
    status.0
}

unsafe extern "C" fn evt_io_device_control<C: Operations>(
    queue: WDFQUEUE,
    request: WDFREQUEST,
    _output_length: usize,
    _input_length: usize,
    code: ULONG,
) {
    // SAFETY: the queue presents the request to this callback alone.
    let request = unsafe { Request::new(request) };
    // SAFETY: the framework gives a live queue.
    let device = unsafe { call_unsafe!(WdfIoQueueGetDevice, queue) };
    // SAFETY: the device outlives its queue's callback.
    match unsafe { context::<C>(device.cast()) } {
        Some(context) => context.evt_io_device_control(request, code),
        None => request.refuse(NtStatus::INVALID_DEVICE_STATE),
    }
}

unsafe extern "C" fn evt_io_queue_state<C: Operations>(_queue: WDFQUEUE, space: WDFCONTEXT) {
    // SAFETY: `manual` gave the context space of the device, which outlives its queue's callback.
    if let Some(context) = unsafe { in_place::<C>(space) } {
        context.evt_io_queue_state();
    }
}

unsafe extern "C" fn evt_work_item<C: Operations>(work_item: WDFWORKITEM) {
    // SAFETY: the framework gives a live work item; its parent is the device.
    let device = unsafe { call_unsafe!(WdfWorkItemGetParentObject, work_item) };
    // SAFETY: the device outlives its work item's callback.
    if let Some(context) = unsafe { seldom_context::<C>(device) } {
        context.evt_work_item();
    }
}

unsafe extern "C" fn evt_request_cancel<C: Operations>(request: WDFREQUEST) {
    // SAFETY: the framework gives a live request of a queue.
    let queue = unsafe { call_unsafe!(WdfRequestGetIoQueue, request) };
    // SAFETY: the queue outlives its requests.
    let device = unsafe { call_unsafe!(WdfIoQueueGetDevice, queue) };
    // SAFETY: the device outlives its requests, and this one isn't completed before the callback is over.
    if let Some(context) = unsafe { seldom_context::<C>(device.cast()) } {
        context.evt_request_cancel();
    }
}

unsafe extern "C" fn evt_request_completion_routine<C: Operations>(
    _request: WDFREQUEST,
    _target: WDFIOTARGET,
    params: PWDF_REQUEST_COMPLETION_PARAMS,
    slot: WDFCONTEXT,
) {
    // SAFETY: the arguments are the callback's own; `pass_through` made it for a device with a `C`.
    let (returned, space) = unsafe { Returned::new::<C>(params, slot) };
    if let Some(context) = space.get() {
        context.evt_request_completion_routine(returned);
    }
}

unsafe extern "C" fn evt_timer_func<C: Operations>(timer: WDFTIMER) {
    // SAFETY: the framework gives a live timer; its parent is the device.
    let device = unsafe { call_unsafe!(WdfTimerGetParentObject, timer) };
    // SAFETY: the device outlives its timer's callback.
    if let Some(context) = unsafe { context::<C>(device) } {
        context.evt_timer_func();
    }
}

unsafe extern "C" fn evt_device_d0_entry<C: Operations>(
    device: WDFDEVICE,
    _previous_state: WDF_POWER_DEVICE_STATE,
) -> NTSTATUS {
    // SAFETY: the device outlives its callback.
    if let Some(context) = unsafe { seldom_context::<C>(device.cast()) } {
        context.evt_device_d0_entry();
    }
    STATUS_SUCCESS
}

unsafe extern "C" fn evt_device_self_managed_io_flush<C: Operations>(device: WDFDEVICE) {
    // SAFETY: the device outlives its callback.
    if let Some(context) = unsafe { seldom_context::<C>(device.cast()) } {
        context.evt_device_self_managed_io_flush();
    }
}

unsafe extern "C" fn evt_cleanup_callback<C: Operations>(device: WDFOBJECT) {
    // SAFETY: the device outlives its callback.
    if let Some(space) = unsafe { ContextSpace::<C>::of(device) }
        && let Some(context) = space.get()
    {
        context.evt_cleanup_callback();
        // The filter is attached still, and SRBs may come.
        space.close();
        context.below().let_go();
    }
}
