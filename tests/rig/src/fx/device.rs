//! WDFDEVICE of a filter: which IRPs come to the driver and which go straight on (fxpkgio.cpp, facts 1 and 2), and PnP
//! (pnpstatemachine.cpp, facts 9).

use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::{Body, Extension, Framework, Object, body, lock, of, queue, request};
use crate::abi::{
    Code, DEVICE_OBJECT, Handle, IRP, Status, WDF_OBJECT_ATTRIBUTES, WDF_PNPPOWER_EVENT_CALLBACKS,
    major, status,
};
use crate::world;
use crate::{io, pool, rules};

pub(super) struct Device {
    pub object: *mut DEVICE_OBJECT,
    pub lower: *mut DEVICE_OBJECT,
    /// The device at the bottom of the stack, the bus driver's.
    pub physical: *mut DEVICE_OBJECT,
    pub target: Mutex<Handle>,
    filter: bool,
    passive: bool,
    callbacks: WDF_PNPPOWER_EVENT_CALLBACKS,
    routes: Mutex<HashMap<u8, (Code, *mut c_void)>>,
    /// The contexts of dispatch callbacks that are on a stack.
    contexts: Mutex<HashMap<usize, usize>>,
    state: Mutex<PnpState>,
    /// Threads in the dispatch routine with a request that is not PnP.
    inside: AtomicUsize,
}

// SAFETY: addresses of the node's memory and code, as the framework keeps them.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum PnpState {
    Added,
    Started,
    SurpriseRemoved,
    Removed,
}

static NEXT_CONTEXT: AtomicU64 = AtomicU64::new(1);

/// What a disk's device node says of itself.
#[derive(Clone, Debug, Default)]
pub struct DiskKeys {
    /// Its hardware key in the registry.
    pub hardware_key: String,
    /// Its hardware IDs.
    pub hardware_ids: Vec<String>,
}

/// WDFDEVICE_INIT while EvtDriverDeviceAdd runs.
pub struct DeviceInit {
    pub(super) lower: *mut DEVICE_OBJECT,
    pub(super) physical: *mut DEVICE_OBJECT,
    pub(super) keys: DiskKeys,
    pub(super) filter: bool,
    pub(super) callbacks: Option<WDF_PNPPOWER_EVENT_CALLBACKS>,
    pub(super) created: Option<Handle>,
}

/// PnP minor functions (wdm.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Pnp {
    Start = 0,
    QueryRemove = 1,
    Remove = 2,
    CancelRemove = 3,
    Stop = 4,
    QueryStop = 5,
    CancelStop = 6,
    DeviceUsage = 0x16,
    SurpriseRemoval = 0x17,
}

impl Pnp {
    fn of(minor: u8) -> Option<Self> {
        [
            Self::Start,
            Self::QueryRemove,
            Self::Remove,
            Self::CancelRemove,
            Self::Stop,
            Self::QueryStop,
            Self::CancelStop,
            Self::DeviceUsage,
            Self::SurpriseRemoval,
        ]
        .into_iter()
        .find(|&pnp| pnp as u8 == minor)
    }
}

/// DEVICE_POWER_STATE (wdm.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Power {
    D0 = 1,
    D3 = 4,
}

impl Framework {
    /// AddDevice: calls EvtDriverDeviceAdd for the stack whose top is `lower` and whose bottom is `physical`; gives the
    /// filter's device, if it made one.
    ///
    /// # Errors
    /// What EvtDriverDeviceAdd returned, where that fails the whole stack: an error from a driver that is not a filter.
    pub fn add_device(
        self: &Arc<Self>,
        lower: *mut DEVICE_OBJECT,
        physical: *mut DEVICE_OBJECT,
        keys: &DiskKeys,
    ) -> Result<Option<*mut DEVICE_OBJECT>, Status> {
        let (config, driver) = {
            let client = lock(&self.client);
            (client.config, client.driver)
        };
        let (Some(config), Some(driver)) = (config, driver) else {
            return Err(status::UNSUCCESSFUL);
        };
        // SAFETY: the configuration names an EVT_WDF_DRIVER_DEVICE_ADD.
        let routine = unsafe {
            std::mem::transmute::<Code, unsafe extern "win64" fn(Handle, *mut DeviceInit) -> Status>(
                config.EvtDriverDeviceAdd,
            )
        };
        let mut init = DeviceInit {
            lower,
            physical,
            keys: keys.clone(),
            filter: false,
            callbacks: None,
            created: None,
        };
        // SAFETY: called as the framework calls it.
        let result = self.call_driver("EvtDriverDeviceAdd", || unsafe {
            routine(driver, &raw mut init)
        });
        if status::is_success(result) {
            return Ok(init
                .created
                .map(|handle| of!(self.object(handle, "Device"), Device).object));
        }
        if let Some(handle) = init.created {
            // fxdriverkm.cpp FxDriver::AddDevice: the failed device goes.
            io::detach(of!(self.object(handle, "Device"), Device).lower);
            self.drop_device(handle);
        }
        if init.filter { Ok(None) } else { Err(result) }
    }

    /// WdfDeviceCreate.
    pub(super) fn create_device(
        self: &Arc<Self>,
        init: &mut DeviceInit,
        attributes: *const WDF_OBJECT_ATTRIBUTES,
    ) -> Result<Handle, Status> {
        if self.allocation_fails("WDFDEVICE") {
            return Err(status::INSUFFICIENT_RESOURCES);
        }
        let (driver_object, driver) = {
            let client = lock(&self.client);
            (client.driver_object, client.driver)
        };
        let extension = pool::allocate(&self.node, "device extension", size_of::<Extension>())
            .cast::<Extension>();
        let device = io::create_device(&self.node, driver_object, extension.cast());
        copy_from_lower(device, init.lower);
        io::attach(device, init.lower);
        // SAFETY: zeroed is null callbacks.
        let none = unsafe { std::mem::zeroed() };
        // SAFETY: null or attributes that the call has checked.
        let passive = unsafe { attributes.as_ref() }
            .is_some_and(|a| a.ExecutionLevel == super::calls::LEVEL_PASSIVE);
        let body = Device {
            object: device,
            lower: init.lower,
            physical: init.physical,
            target: Mutex::default(),
            filter: init.filter,
            passive,
            callbacks: init.callbacks.unwrap_or(none),
            routes: Mutex::default(),
            contexts: Mutex::default(),
            state: Mutex::new(PnpState::Added),
            inside: AtomicUsize::new(0),
        };
        let handle = self.create(Body::Device(body), attributes, driver);
        // SAFETY: the extension was just allocated for this.
        unsafe {
            extension.write(Extension {
                fx: Arc::downgrade(self),
                device: handle,
            });
        };
        let target = request::Target {
            owner: handle,
            device: init.lower,
            removed: Mutex::new(false),
        };
        *lock(&of!(self.object(handle, "Device"), Device).target) =
            self.create(Body::Target(target), std::ptr::null(), Some(handle));
        init.created = Some(handle);
        Ok(handle)
    }

    /// The device's execution level, for queues that inherit it.
    pub(super) fn is_device_passive(&self, device: Handle) -> bool {
        of!(self.object(device, "Device"), Device).passive
    }

    fn drop_device(&self, handle: Handle) {
        let object = self.object(handle, "Device");
        let device = of!(object, Device);
        self.delete(handle);
        // SAFETY: the extension is this device's, and goes with it.
        let extension = unsafe { (*device.object).DeviceExtension };
        // SAFETY: written by `create_device`.
        drop(unsafe { extension.cast::<Extension>().read() });
        pool::free(extension.cast());
        io::delete_device(device.object);
    }

    /// WdfDeviceConfigureWdmIrpDispatchCallback.
    pub(super) fn configure_dispatch(
        &self,
        device: Handle,
        code: u8,
        callback: Code,
        context: *mut c_void,
    ) -> Status {
        let object = body!(self, device, Device);
        let device = of!(object, Device);
        let now = *lock(&device.state);
        if now != PnpState::Added {
            rules::broken(&rules::CONFIGURE_LATE, &format!("major {code}: {now:?}"));
        }
        // READ, WRITE, DEVICE_CONTROL, INTERNAL_DEVICE_CONTROL (facts 1).
        if ![3, 4, 14, 15].contains(&code) || lock(&device.routes).contains_key(&code) {
            return status::INVALID_PARAMETER;
        }
        lock(&device.routes).insert(code, (callback, context));
        status::SUCCESS
    }

    /// The dispatch routine of the filter's device.
    pub(super) fn dispatch(self: &Arc<Self>, handle: Handle, irp: *mut IRP) -> Status {
        let object = self.object(handle, "Device");
        let device = of!(object, Device);
        let location = io::current_location(irp);
        // SAFETY: a live IRP in this device's location.
        let (code, minor) = unsafe { ((*location).MajorFunction, (*location).MinorFunction) };
        if u32::from(code) == major::IRP_MJ_PNP {
            return self.dispatch_pnp(&object, minor, irp);
        }
        if u32::from(code) == major::IRP_MJ_POWER {
            return self.dispatch_power(&object, minor, irp);
        }
        if u32::from(code) == major::IRP_MJ_CREATE {
            io::copy_current_location_to_next(irp);
            io::set_completion_routine(irp, create_completed, null_mut());
            return io::call_driver(device.lower, irp);
        }
        device.inside.fetch_add(1, Ordering::SeqCst);
        let result = self.dispatch_io(device, handle, code, minor, irp);
        device.inside.fetch_sub(1, Ordering::SeqCst);
        self.world.wake(device.key());
        result
    }

    fn dispatch_io(
        self: &Arc<Self>,
        device: &Device,
        handle: Handle,
        code: u8,
        minor: u8,
        irp: *mut IRP,
    ) -> Status {
        io::note_arrival(irp);
        let location = io::current_location(irp);
        let route = lock(&device.routes).get(&code).copied();
        let Some((callback, driver_context)) = route else {
            return forward(device, irp);
        };
        // SAFETY: a live IRP; the parameters of a device control.
        let control = unsafe { (*io::ioctl_parameters(location)).IoControlCode };
        let context = NEXT_CONTEXT.fetch_add(1, Ordering::Relaxed) as usize;
        lock(&device.contexts).insert(context, irp as usize);
        // SAFETY: WdfDeviceConfigureWdmIrpDispatchCallback takes an EVT_WDFDEVICE_WDM_IRP_DISPATCH.
        let routine = unsafe {
            std::mem::transmute::<
                Code,
                unsafe extern "win64" fn(
                    Handle,
                    u8,
                    u8,
                    u32,
                    *mut c_void,
                    *mut IRP,
                    *mut c_void,
                ) -> Status,
            >(callback)
        };
        let result = self.call_driver("EvtDeviceWdmIrpDispatch", || {
            let context = context as *mut c_void;
            // SAFETY: called as the framework calls it.
            unsafe { routine(handle, code, minor, control, driver_context, irp, context) }
        });
        lock(&device.contexts).remove(&context);
        result
    }

    fn check_context(&self, device: &Device, irp: *mut IRP, context: *mut c_void) {
        if lock(&device.contexts).get(&(context as usize)) != Some(&(irp as usize)) {
            rules::broken(
                &rules::DISPATCH_CONTEXT,
                &format!("node {}, IRP {irp:p}", self.node),
            );
        }
    }

    /// WdfDeviceWdmDispatchIrp: no queue is configured, so a filter's IRP goes on down.
    pub(super) fn give_back(&self, device: Handle, irp: *mut IRP, context: *mut c_void) -> Status {
        let object = body!(self, device, Device);
        let device = of!(object, Device);
        self.check_context(device, irp, context);
        if !device.filter {
            // SAFETY: the IRP is the framework's again.
            unsafe { (*irp).IoStatus.Anonymous.Status = status::INVALID_DEVICE_REQUEST };
            io::complete_request(irp);
            return status::INVALID_DEVICE_REQUEST;
        }
        forward(device, irp)
    }

    /// WdfDeviceWdmDispatchIrpToIoQueue.
    pub(super) fn give_to_queue(
        self: &Arc<Self>,
        device: Handle,
        irp: *mut IRP,
        queue: Handle,
        flags: u32,
    ) -> Status {
        let _ = body!(self, device, Device);
        let queue = body!(self, queue, Queue);
        if flags & !1 != 0 {
            rules::broken(
                &rules::STRUCTURE_SIZE,
                &format!("WdfDeviceWdmDispatchIrpToIoQueue: flags {flags:#x}"),
            );
        }
        self.enqueue(&queue, irp)
    }

    /// Calls a PnP or power callback, if the driver has it: they take the device, most of them one more argument that a
    /// filter has no use for, and their status is not looked at here: no filter fails a transition.
    fn transition(&self, object: &Object, code: Code, argument: u64, name: &'static str) {
        if code.is_null() {
            return;
        }
        // SAFETY: the callbacks of WDF_PNPPOWER_EVENT_CALLBACKS that come here take a device and at most one argument.
        let routine = unsafe {
            std::mem::transmute::<Code, unsafe extern "win64" fn(Handle, u64) -> Status>(code)
        };
        // SAFETY: called as the framework calls it.
        self.call_driver(name, || unsafe { routine(object.handle, argument) });
    }

    fn dispatch_pnp(self: &Arc<Self>, object: &Arc<Object>, minor: u8, irp: *mut IRP) -> Status {
        let device = of!(object, Device);
        let Some(pnp) = Pnp::of(minor) else {
            return forward(device, irp);
        };
        match pnp {
            // The bus below starts first (pnpstatemachine.cpp PnpEventHardwareAvailable).
            Pnp::Start => {
                let result = forward_and_wait(device, irp);
                if status::is_success(result) {
                    let first = std::mem::replace(&mut *lock(&device.state), PnpState::Started)
                        == PnpState::Added;
                    self.power_up(object, first);
                }
                io::complete_request(irp);
                return result;
            }
            Pnp::Stop => self.power_down(object, true),
            Pnp::SurpriseRemoval => {
                self.surprise(object);
                *lock(&device.state) = PnpState::SurpriseRemoved;
            }
            Pnp::Remove => return self.remove(object, irp),
            Pnp::QueryRemove
            | Pnp::CancelRemove
            | Pnp::QueryStop
            | Pnp::CancelStop
            | Pnp::DeviceUsage => {}
        }
        forward(device, irp)
    }

    /// IRP_MJ_POWER: a device that leaves D0 does so before the one below it, and comes back after it.
    fn dispatch_power(self: &Arc<Self>, object: &Arc<Object>, minor: u8, irp: *mut IRP) -> Status {
        const SET_POWER: u8 = 2;
        const DEVICE_POWER_STATE: u32 = 1;
        let device = of!(object, Device);
        // SAFETY: a live IRP; Parameters.Power has Type and State where a control has its input length and code.
        let power = unsafe { *io::ioctl_parameters(io::current_location(irp)) };
        if minor != SET_POWER || power.InputBufferLength != DEVICE_POWER_STATE {
            return forward(device, irp);
        }
        if power.IoControlCode != Power::D0 as u32 {
            self.power_down(object, false);
            return forward(device, irp);
        }
        let result = forward_and_wait(device, irp);
        self.power_up(object, false);
        io::complete_request(irp);
        result
    }

    fn power_up(&self, object: &Object, first: bool) {
        const FROM_D3: u64 = 4;
        let calls = &of!(object, Device).callbacks;
        self.transition(object, calls.EvtDeviceD0Entry, FROM_D3, "EvtDeviceD0Entry");
        if first {
            self.transition(
                object,
                calls.EvtDeviceSelfManagedIoInit,
                0,
                "EvtDeviceSelfManagedIoInit",
            );
        } else {
            self.transition(
                object,
                calls.EvtDeviceSelfManagedIoRestart,
                0,
                "EvtDeviceSelfManagedIoRestart",
            );
        }
    }

    fn power_down(&self, object: &Object, release: bool) {
        const TO_D3: u64 = 4;
        let calls = &of!(object, Device).callbacks;
        self.transition(
            object,
            calls.EvtDeviceSelfManagedIoSuspend,
            0,
            "EvtDeviceSelfManagedIoSuspend",
        );
        self.transition(object, calls.EvtDeviceD0Exit, TO_D3, "EvtDeviceD0Exit");
        if release {
            self.transition(
                object,
                calls.EvtDeviceReleaseHardware,
                0,
                "EvtDeviceReleaseHardware",
            );
        }
    }

    /// The callbacks of a started device that is gone, in the framework's order (facts 9).
    fn surprise(&self, object: &Object) {
        let calls = &of!(object, Device).callbacks;
        self.transition(
            object,
            calls.EvtDeviceSurpriseRemoval,
            0,
            "EvtDeviceSurpriseRemoval",
        );
        self.leave(object);
    }

    fn leave(&self, object: &Object) {
        let calls = &of!(object, Device).callbacks;
        self.power_down(object, true);
        self.transition(
            object,
            calls.EvtDeviceSelfManagedIoFlush,
            0,
            "EvtDeviceSelfManagedIoFlush",
        );
    }

    fn remove(self: &Arc<Self>, object: &Arc<Object>, irp: *mut IRP) -> Status {
        let device = of!(object, Device);
        let state = std::mem::replace(&mut *lock(&device.state), PnpState::Removed);
        if state == PnpState::Started {
            self.leave(object);
        }
        let queues: Vec<_> = self
            .children(object.handle)
            .into_iter()
            .filter(|child| queue::is_queue(child))
            .collect();
        for queue in &queues {
            self.purge(queue);
        }
        if state != PnpState::Added {
            let cleanup = device.callbacks.EvtDeviceSelfManagedIoCleanup;
            self.transition(object, cleanup, 0, "EvtDeviceSelfManagedIoCleanup");
        }
        for queue in &queues {
            self.dispose_queue(queue);
        }
        world::current().point();
        let target = self.object(*lock(&device.target), "Target");
        self.remove_target(&target, object.handle);
        // Nobody is inside when the children go: whoever sends requests holds off a REMOVE meanwhile. But requests may
        // still come in, until the device itself goes (facts 9).
        device.wait_until_empty();
        self.note_removed(object.handle);
        let children = self.children(object.handle);
        self.delete_all(children.iter().map(|child| child.handle));
        // The device's own comes before the REMOVE goes down, too, and it is attached still (facts 9).
        self.clean_up(object);
        world::current().point();
        let result = forward(device, irp);
        world::current().point();
        io::detach(device.lower);
        device.wait_until_empty();
        self.drop_device(object.handle);
        result
    }
}

impl Device {
    fn key(&self) -> usize {
        (&raw const self.inside) as usize
    }

    fn wait_until_empty(&self) {
        world::current().wait(self.key(), || self.inside.load(Ordering::SeqCst) == 0);
    }
}

/// Location skipped, nothing else touched.
fn forward(device: &Device, irp: *mut IRP) -> Status {
    io::skip_current_location(irp);
    io::call_driver(device.lower, irp)
}

/// Sends an IRP down and takes it back when it is complete; whoever called completes it again.
fn forward_and_wait(device: &Device, irp: *mut IRP) -> Status {
    io::copy_current_location_to_next(irp);
    io::call_and_wait(device.lower, irp)
}

/// What FxDevice::FdoInitialize copies from the device below (facts 14).
fn copy_from_lower(device: *mut DEVICE_OBJECT, lower: *mut DEVICE_OBJECT) {
    // DO_BUFFERED_IO, DO_DIRECT_IO, DO_POWER_PAGABLE, DO_POWER_INRUSH (wdm.h).
    const COPIED: u32 = 0x4 | 0x10 | 0x2000 | 0x4000;
    // SAFETY: both are live.
    let (device, lower) = unsafe { (&mut *device, &*lower) };
    device.Flags |= lower.Flags & COPIED;
    device.DeviceType = lower.DeviceType;
    device.Characteristics = lower.Characteristics;
}

unsafe extern "win64" fn create_completed(
    _: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    _: *mut c_void,
) -> Status {
    // SAFETY: the IRP is in this completion routine's hands.
    if unsafe { (*irp).PendingReturned } {
        io::mark_pending(irp);
    }
    status::SUCCESS
}
