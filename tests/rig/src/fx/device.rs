//! WDFDEVICE of a filter: which IRPs come to the driver and which go straight on (fxpkgio.cpp, facts 1 and 2), and PnP
//! (pnpstatemachine.cpp, facts 9).

use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering};
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
    pub target: Mutex<Handle>,
    filter: bool,
    passive: bool,
    callbacks: WDF_PNPPOWER_EVENT_CALLBACKS,
    routes: Mutex<HashMap<u8, (Code, *mut c_void)>>,
    /// The contexts of dispatch callbacks that are on a stack.
    contexts: Mutex<HashMap<usize, usize>>,
    state: Mutex<PnpState>,
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
    SurpriseRemoval = 0x17,
}

impl Framework {
    /// AddDevice: calls EvtDriverDeviceAdd for the stack whose top is `lower`; gives the filter's device, if it made one.
    ///
    /// # Errors
    /// What EvtDriverDeviceAdd returned, where that fails the whole stack: an error from a driver that is not a filter.
    pub fn add_device(
        self: &Arc<Self>,
        lower: *mut DEVICE_OBJECT,
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
            target: Mutex::default(),
            filter: init.filter,
            passive,
            callbacks: init.callbacks.unwrap_or(none),
            routes: Mutex::default(),
            contexts: Mutex::default(),
            state: Mutex::new(PnpState::Added),
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
        io::detach(device.lower);
        self.delete(handle);
        // SAFETY: the extension is this device's, and goes with it.
        let extension = unsafe { (*device.object).DeviceExtension };
        // SAFETY: written by `create_device`.
        drop(unsafe { extension.cast::<Extension>().read() });
        pool::free(extension.cast());
        pool::free(device.object.cast());
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
        if *lock(&device.state) != PnpState::Added {
            return status::INVALID_DEVICE_STATE;
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
        if u32::from(code) == major::IRP_MJ_CREATE {
            io::copy_current_location_to_next(irp);
            io::set_completion_routine(irp, create_completed, null_mut());
            return io::call_driver(device.lower, irp);
        }
        io::note_arrival(irp);
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

    fn pnp_callback(&self, handle: Handle, code: Code, name: &'static str) {
        // Those that a filter may register take the device; what they return does not matter on the way out.
        self.callback(code, handle, name);
    }

    fn dispatch_pnp(self: &Arc<Self>, object: &Arc<Object>, minor: u8, irp: *mut IRP) -> Status {
        let device = of!(object, Device);
        match minor {
            minor if minor == Pnp::Start as u8 => {
                *lock(&device.state) = PnpState::Started;
                forward(device, irp)
            }
            minor if minor == Pnp::SurpriseRemoval as u8 => {
                self.leave(object, true);
                *lock(&device.state) = PnpState::SurpriseRemoved;
                forward(device, irp)
            }
            minor if minor == Pnp::Remove as u8 => self.remove(object, irp),
            _ => forward(device, irp),
        }
    }

    /// The callbacks of a started device that goes, in the framework's order (facts 9).
    fn leave(&self, object: &Object, surprise: bool) {
        let device = of!(object, Device);
        let calls = &device.callbacks;
        let order = [
            (
                if surprise {
                    calls.EvtDeviceSurpriseRemoval
                } else {
                    std::ptr::null()
                },
                "EvtDeviceSurpriseRemoval",
            ),
            (
                calls.EvtDeviceSelfManagedIoSuspend,
                "EvtDeviceSelfManagedIoSuspend",
            ),
            (calls.EvtDeviceD0Exit, "EvtDeviceD0Exit"),
            (calls.EvtDeviceReleaseHardware, "EvtDeviceReleaseHardware"),
            (
                calls.EvtDeviceSelfManagedIoFlush,
                "EvtDeviceSelfManagedIoFlush",
            ),
        ];
        for (code, name) in order {
            self.pnp_callback(object.handle, code, name);
        }
    }

    fn remove(self: &Arc<Self>, object: &Arc<Object>, irp: *mut IRP) -> Status {
        let device = of!(object, Device);
        let state = std::mem::replace(&mut *lock(&device.state), PnpState::Removed);
        if state == PnpState::Started {
            self.leave(object, false);
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
            self.pnp_callback(
                object.handle,
                device.callbacks.EvtDeviceSelfManagedIoCleanup,
                "EvtDeviceSelfManagedIoCleanup",
            );
        }
        world::current().point();
        let target = self.object(*lock(&device.target), "Target");
        self.remove_target(&target, object.handle);
        for child in self.children(object.handle) {
            self.delete(child.handle);
        }
        let result = forward(device, irp);
        self.drop_device(object.handle);
        result
    }
}

/// Location skipped, nothing else touched.
fn forward(device: &Device, irp: *mut IRP) -> Status {
    io::skip_current_location(irp);
    io::call_driver(device.lower, irp)
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
