//! The function table that a KMDF 1.15 client gets: each call that the driver or a broken variant makes, at its index in
//! Microsoft's table (`tests/kit/kmdf-abi.json`). All others stop the run by name.

use std::ffi::c_void;

use std::sync::{Arc, LazyLock, Mutex};

use super::Allowed::{Level, Parent, Scope};
use super::device::DeviceInit;
use super::{Body, Framework, body, lock, of, queue, request, serve, timer, work_item};
use crate::abi::{
    Code, DEVICE_OBJECT, DRIVER_OBJECT, Handle, IRP, Status, UNICODE_STRING, WDF_DRIVER_CONFIG,
    WDF_DRIVER_GLOBALS, WDF_IO_QUEUE_CONFIG, WDF_OBJECT_ATTRIBUTES, WDF_OBJECT_CONTEXT_TYPE_INFO,
    WDF_PNPPOWER_EVENT_CALLBACKS, WDF_REQUEST_PARAMETERS, WDF_REQUEST_REUSE_PARAMS,
    WDF_REQUEST_SEND_OPTIONS, WDF_TIMER_CONFIG, WDF_WORKITEM_CONFIG, WDFMEMORY_OFFSET, irql,
    read_unicode, status,
};
use crate::{io, rules, world};

/// Entries in the 1.15 function table.
pub const TABLE_ENTRIES: u32 = 444;
/// WdfExecutionLevelPassive.
pub const LEVEL_PASSIVE: u32 = 2;
const INHERIT_SCOPE: u32 = 1;
const SCOPE_NONE: u32 = 4;
const DISPATCH_SEQUENTIAL: u32 = 1;
const DISPATCH_PARALLEL: u32 = 2;
const DISPATCH_MANUAL: u32 = 3;
const DEVICE_PROPERTY_HARDWARE_ID: u32 = 1;

type Globals = *const WDF_DRIVER_GLOBALS;
type Attributes = *const WDF_OBJECT_ATTRIBUTES;

/// Defines calls: name, highest IRQL by its reference page, statuses of that page or of the facts that a fault may make
/// it fail with before it has done anything, parameters, body.
///
/// None for WdfDeviceWdmDispatchIrp and WdfDeviceWdmDispatchIrpToIoQueue: theirs is the IRP's, which is gone in any case;
/// nor for WdfRequestUnmarkCancelable: its CANCELLED is a promise that EvtRequestCancel is called, which a cancel keeps;
/// nor for WdfIoQueueRetrieveNextRequest: its refusals promise that there is nothing, or that the queue is at its end.
macro_rules! calls {
    ($($name:ident at $irql:ident $(fails [$($status:ident)+])?
        ($fx:ident $(, $arg:ident: $type:ty)*) $(-> $ret:ty)? $body:block)*) => {
        $(#[allow(non_snake_case)]
        unsafe extern "win64" fn $name(globals: Globals $(, $arg: $type)*) $(-> $ret)? {
            serve(globals, stringify!($name), irql::$irql, |$fx: &Arc<Framework>| {
                $(if let Some(status) = $fx.world.call_fails(stringify!($name), &[$(status::$status),+]) {
                    return status;
                })?
                $body
            })
        })*
        fn modelled(name: &str) -> Option<Code> {
            match name {
                $(stringify!($name) => Some($name as *const () as Code),)*
                _ => None,
            }
        }
    };
}

/// A status for the driver from a result of the rig.
fn status_of(result: Result<(), Status>) -> Status {
    result.err().unwrap_or(status::SUCCESS)
}

/// Writes an out-parameter of the driver's.
fn give<T>(place: *mut T, value: T) {
    if !place.is_null() {
        // SAFETY: an out-parameter of the caller's; a wild one faults and is reported.
        unsafe { place.write(value) };
    }
}

/// A structure that the driver hands over; none if its Size is not what 1.15 knows.
fn sized<T: Copy>(structure: *const T) -> Option<T> {
    // SAFETY: the driver's structure; every one that comes here begins with its Size.
    let size = unsafe { structure.cast::<u32>().read() };
    // SAFETY: as above, and as large as its Size says.
    (size as usize == size_of::<T>()).then(|| unsafe { structure.read() })
}

calls! {
    WdfDriverCreate at PASSIVE fails [INSUFFICIENT_RESOURCES]
        (fx, driver_object: *mut DRIVER_OBJECT, path: *const UNICODE_STRING,
        attributes: Attributes, config: *const WDF_DRIVER_CONFIG, driver: *mut Handle) -> Status {
        status_of(Framework::checked_attributes(attributes, &[Level, Scope]).and_then(|()| {
            let config = sized(config).ok_or(status::INFO_LENGTH_MISMATCH)?;
            if fx.allocation_fails("WDFDRIVER") {
                return Err(status::INSUFFICIENT_RESOURCES);
            }
            // SAFETY: DriverEntry's own arguments.
            let path = unsafe { read_unicode(path) };
            let handle = fx.create(Body::Driver, attributes, None);
            fx.driver_created(driver_object, path, handle, config);
            give(driver, handle);
            Ok(())
        }))
    }

    WdfDriverOpenParametersRegistryKey at PASSIVE fails [INSUFFICIENT_RESOURCES OBJECT_NAME_NOT_FOUND ACCESS_DENIED]
        (fx, driver: Handle, _access: u32, attributes: Attributes,
        key: *mut Handle) -> Status {
        let _ = fx.object(driver, "Driver");
        let path = format!("{}\\Parameters", fx.service_key());
        status_of(fx.open_key(&path, attributes, key))
    }

    WdfRegistryOpenKey at PASSIVE fails [INSUFFICIENT_RESOURCES OBJECT_NAME_NOT_FOUND ACCESS_DENIED]
        (fx, parent: Handle, path: *const UNICODE_STRING, _access: u32,
        attributes: Attributes, key: *mut Handle) -> Status {
        // SAFETY: the driver's string.
        let mut path = unsafe { read_unicode(path) };
        if parent != 0 {
            let object = body!(fx, parent, Key);
            path = format!("{}\\{path}", of!(object, Key));
        }
        status_of(fx.open_key(&path, attributes, key))
    }

    WdfRegistryQueryULong at PASSIVE fails [INSUFFICIENT_RESOURCES OBJECT_NAME_NOT_FOUND OBJECT_TYPE_MISMATCH BUFFER_OVERFLOW]
        (fx, key: Handle, name: *const UNICODE_STRING, value: *mut u32) -> Status {
        let object = body!(fx, key, Key);
        // SAFETY: the driver's string.
        let name = unsafe { read_unicode(name) };
        status_of(fx.hive.query_ulong(of!(object, Key), &name).map(|number| give(value, number)))
    }

    WdfRegistryClose at PASSIVE (fx, key: Handle) {
        let _ = body!(fx, key, Key);
        fx.delete(key);
    }

    WdfFdoInitSetFilter at PASSIVE (_fx, init: *mut DeviceInit) {
        // SAFETY: the init that EvtDriverDeviceAdd was given.
        unsafe { (*init).filter = true };
    }

    WdfFdoInitOpenRegistryKey at PASSIVE fails [INSUFFICIENT_RESOURCES OBJECT_NAME_NOT_FOUND ACCESS_DENIED]
        (fx, init: *mut DeviceInit, _kind: u32, _access: u32,
        attributes: Attributes, key: *mut Handle) -> Status {
        // SAFETY: the init that EvtDriverDeviceAdd was given.
        let path = unsafe { (*init).keys.hardware_key.clone() };
        status_of(fx.open_key(&path, attributes, key))
    }

    WdfFdoInitQueryProperty at PASSIVE fails [INSUFFICIENT_RESOURCES OBJECT_NAME_NOT_FOUND BUFFER_TOO_SMALL INVALID_DEVICE_REQUEST]
        (_fx, init: *mut DeviceInit, property: u32, length: u32, buffer: *mut u16,
        result: *mut u32) -> Status {
        if property != DEVICE_PROPERTY_HARDWARE_ID {
            return status::INVALID_PARAMETER;
        }
        // SAFETY: the init that EvtDriverDeviceAdd was given.
        let ids = unsafe { (*init).keys.hardware_ids.clone() };
        if ids.is_empty() {
            return status::OBJECT_NAME_NOT_FOUND;
        }
        let text: Vec<u16> = ids.iter().flat_map(|id| id.encode_utf16().chain([0])).chain([0]).collect();
        give(result, u32::try_from(text.len() * 2).unwrap_or(u32::MAX));
        if (length as usize) < text.len() * 2 {
            return status::BUFFER_TOO_SMALL;
        }
        // SAFETY: the driver's buffer has `length` bytes.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), buffer, text.len()) };
        status::SUCCESS
    }

    WdfDeviceInitSetPnpPowerEventCallbacks at PASSIVE (_fx, init: *mut DeviceInit,
        callbacks: *const WDF_PNPPOWER_EVENT_CALLBACKS) {
        let Some(callbacks) = sized(callbacks) else {
            rules::broken(&rules::STRUCTURE_SIZE, "WDF_PNPPOWER_EVENT_CALLBACKS")
        };
        // SAFETY: the init that EvtDriverDeviceAdd was given.
        unsafe { (*init).callbacks = Some(callbacks) };
    }

    WdfDeviceCreate at PASSIVE fails [INSUFFICIENT_RESOURCES INVALID_DEVICE_STATE]
        (fx, init: *mut *mut DeviceInit, attributes: Attributes, device: *mut Handle) -> Status {
        status_of(Framework::checked_attributes(attributes, &[Level, Scope]).and_then(|()| {
            // SAFETY: the address of the init that EvtDriverDeviceAdd was given.
            let structure = unsafe { &mut **init };
            let handle = fx.create_device(structure, attributes)?;
            give(device, handle);
            give(init, std::ptr::null_mut());
            Ok(())
        }))
    }

    WdfDeviceGetIoTarget at DISPATCH (fx, device: Handle) -> Handle {
        let object = body!(fx, device, Device);
        let target = lock(&of!(object, Device).target);
        *target
    }

    WdfDeviceWdmGetDeviceObject at DISPATCH (fx, device: Handle) -> *mut DEVICE_OBJECT {
        let object = body!(fx, device, Device);
        of!(object, Device).object
    }

    WdfDeviceWdmGetAttachedDevice at DISPATCH (fx, device: Handle) -> *mut DEVICE_OBJECT {
        let object = body!(fx, device, Device);
        of!(object, Device).lower
    }

    WdfDeviceWdmGetPhysicalDevice at DISPATCH (fx, device: Handle) -> *mut DEVICE_OBJECT {
        let object = body!(fx, device, Device);
        of!(object, Device).physical
    }

    WdfDeviceConfigureWdmIrpDispatchCallback at PASSIVE fails [INSUFFICIENT_RESOURCES INVALID_DEVICE_STATE]
        (fx, device: Handle, _driver: Handle, major: u8, callback: Code,
        context: *mut c_void) -> Status {
        fx.configure_dispatch(device, major, callback, context)
    }

    WdfDeviceWdmDispatchIrp at DISPATCH (fx, device: Handle, irp: *mut IRP, context: *mut c_void) -> Status {
        fx.give_back(device, irp, context)
    }

    WdfDeviceWdmDispatchIrpToIoQueue at DISPATCH (fx, device: Handle, irp: *mut IRP, queue: Handle, flags: u32) -> Status {
        fx.give_to_queue(device, irp, queue, flags)
    }

    WdfIoQueueCreate at DISPATCH fails [INSUFFICIENT_RESOURCES INVALID_DEVICE_STATE]
        (fx, device: Handle, config: *const WDF_IO_QUEUE_CONFIG, attributes: Attributes,
        handle: *mut Handle) -> Status {
        status_of(fx.queue_create(device, config, attributes).map(|queue| give(handle, queue)))
    }

    WdfIoQueueGetDevice at DISPATCH (fx, queue: Handle) -> Handle {
        let object = body!(fx, queue, Queue);
        of!(object, Queue).device
    }

    WdfIoQueueGetState at DISPATCH (fx, queue: Handle, waiting: *mut u32, owned: *mut u32) -> u32 {
        let object = body!(fx, queue, Queue);
        let (state, waits, has) = of!(object, Queue).state();
        give(waiting, waits);
        give(owned, has);
        state
    }

    WdfIoQueueReadyNotify at DISPATCH fails [INVALID_DEVICE_REQUEST]
        (fx, queue: Handle, routine: Code, context: *mut c_void) -> Status {
        let object = body!(fx, queue, Queue);
        fx.ready_notify(&object, routine, context)
    }

    WdfIoQueueRetrieveNextRequest at DISPATCH (fx, queue: Handle, request: *mut Handle) -> Status {
        let object = body!(fx, queue, Queue);
        let next = fx.retrieve_next(&object);
        give(request, next.unwrap_or(0));
        status_of(next.map(drop))
    }

    WdfObjectGetTypedContextWorker at DISPATCH (fx, object: Handle, info: *const WDF_OBJECT_CONTEXT_TYPE_INFO) -> *mut u8 {
        fx.context(object, info)
    }

    WdfObjectDelete at DISPATCH (fx, object: Handle) {
        let _ = fx.object(object, "an object");
        fx.delete(object);
    }

    WdfObjectReferenceActual at DISPATCH (fx, object: Handle, _tag: *mut c_void, _line: i32, _file: *const u8) {
        fx.reference(object);
    }

    WdfObjectDereferenceActual at DISPATCH (fx, object: Handle, _tag: *mut c_void, _line: i32, _file: *const u8) {
        fx.dereference(object);
    }

    WdfSpinLockCreate at DISPATCH fails [INSUFFICIENT_RESOURCES]
        (fx, attributes: Attributes, handle: *mut Handle) -> Status {
        fx.simple("WDFSPINLOCK", attributes, handle, || Body::SpinLock(Mutex::default()))
    }

    WdfSpinLockAcquire at DISPATCH (fx, spin_lock: Handle) {
        let object = fx.memory_of(spin_lock, "SpinLock");
        let Body::SpinLock(state) = &object.body else { fx.wrong_kind(spin_lock, &object.body, "SpinLock") };
        let thread = world::current();
        if lock(state).is_some_and(|(owner, _)| owner == thread.id()) {
            rules::broken(&rules::LOCK_RECURSION, &format!("{spin_lock:#x}"));
        }
        thread.wait(std::ptr::from_ref(state) as usize, || {
            let mut owner = lock(state);
            let free = owner.is_none();
            if free {
                *owner = Some((thread.id(), thread.irql()));
            }
            free
        });
        thread.raise_for_lock();
    }

    WdfSpinLockRelease at DISPATCH (fx, spin_lock: Handle) {
        let object = fx.memory_of(spin_lock, "SpinLock");
        let Body::SpinLock(state) = &object.body else { fx.wrong_kind(spin_lock, &object.body, "SpinLock") };
        let thread = world::current();
        let Some((_, old)) = lock(state).take_if(|(owner, _)| *owner == thread.id()) else {
            rules::broken(&rules::LOCK_NOT_OWNED, &format!("{spin_lock:#x}"))
        };
        thread.lower_after_lock(old);
        fx.world.wake(std::ptr::from_ref(state) as usize);
    }

    WdfTimerCreate at DISPATCH fails [INSUFFICIENT_RESOURCES]
        (fx, config: *const WDF_TIMER_CONFIG, attributes: Attributes, handle: *mut Handle) -> Status {
        status_of(Framework::checked_attributes(attributes, &[Parent, Level]).and_then(|()| {
            let config = sized(config).ok_or(status::INFO_LENGTH_MISMATCH)?;
            // SAFETY: attributes, if any, were checked.
            let attributes_read = unsafe { attributes.as_ref() };
            let parent = attributes_read.map_or(0, |a| a.ParentObject);
            if parent == 0 {
                return Err(status::WDF_PARENT_NOT_SPECIFIED); // facts 13
            }
            if fx.allocation_fails("WDFTIMER") {
                return Err(status::INSUFFICIENT_RESOURCES);
            }
            let passive = attributes_read.is_some_and(|a| a.ExecutionLevel == LEVEL_PASSIVE);
            let body = timer::Timer {
                callback: config.EvtTimerFunc,
                passive,
                world: Arc::clone(&fx.world),
                state: Mutex::default(),
            };
            give(handle, fx.create(Body::Timer(body), attributes, None));
            Ok(())
        }))
    }

    WdfTimerStart at DISPATCH (fx, timer: Handle, due: i64) -> u8 {
        let object = body!(fx, timer, Timer);
        u8::from(fx.timer_start(&object, due))
    }

    WdfTimerStop at DISPATCH (fx, timer: Handle, wait: u8) -> u8 {
        let object = body!(fx, timer, Timer);
        u8::from(fx.timer_stop(&object, wait != 0))
    }

    WdfTimerGetParentObject at DISPATCH (fx, timer: Handle) -> Handle {
        fx.timer_device(timer)
    }

    WdfWorkItemCreate at DISPATCH fails [INSUFFICIENT_RESOURCES]
        (fx, config: *const WDF_WORKITEM_CONFIG, attributes: Attributes, handle: *mut Handle) -> Status {
        status_of(fx.create_work_item(config, attributes).map(|item| give(handle, item)))
    }

    WdfWorkItemEnqueue at DISPATCH (fx, item: Handle) {
        let object = body!(fx, item, WorkItem);
        fx.work_item_enqueue(&object);
    }

    WdfWorkItemGetParentObject at DISPATCH (fx, item: Handle) -> Handle {
        let object = body!(fx, item, WorkItem);
        fx.work_item_parent(object.handle)
    }

    WdfMemoryCreatePreallocated at DISPATCH fails [INSUFFICIENT_RESOURCES]
        (fx, attributes: Attributes, buffer: *mut u8, size: usize,
        handle: *mut Handle) -> Status {
        if buffer.is_null() || size == 0 {
            return status::INVALID_PARAMETER;
        }
        fx.simple("WDFMEMORY", attributes, handle, || Body::Memory { address: buffer, size })
    }

    WdfMemoryGetBuffer at DISPATCH (fx, memory: Handle, size: *mut usize) -> *mut u8 {
        let object = fx.object(memory, "Memory");
        let Body::Memory { address, size: length } = object.body else { fx.wrong_kind(memory, &object.body, "Memory") };
        give(size, length);
        address
    }

    WdfRequestCreate at DISPATCH fails [INSUFFICIENT_RESOURCES]
        (fx, attributes: Attributes, target: Handle, handle: *mut Handle) -> Status {
        let object = body!(fx, target, Target);
        // SAFETY: the device below the target.
        let stack_size = unsafe { (*of!(object, Target).device).StackSize };
        fx.simple("WDFREQUEST of the driver's own", attributes, handle, || {
            Body::Created(request::Created::new(fx, target, stack_size))
        })
    }

    WdfRequestReuse at DISPATCH fails [INVALID_PARAMETER]
        (fx, request: Handle, parameters: *const WDF_REQUEST_REUSE_PARAMS) -> Status {
        // SAFETY: the driver's structure.
        fx.reuse(request, unsafe { &*parameters })
    }

    WdfRequestSend at DISPATCH (fx, request: Handle, target: Handle, options: *const WDF_REQUEST_SEND_OPTIONS) -> u8 {
        // SAFETY: null or the driver's structure.
        u8::from(fx.send(request, target, unsafe { options.as_ref() }))
    }

    WdfRequestGetStatus at DISPATCH (fx, request: Handle) -> Status {
        fx.request_status(request)
    }

    WdfRequestSetCompletionRoutine at DISPATCH (fx, request: Handle, routine: Code, context: *mut c_void) {
        fx.set_completion(request, routine, context);
    }

    WdfRequestComplete at DISPATCH (fx, request: Handle, status: Status) {
        let irp = fx.irp_of(request);
        // SAFETY: a live IRP.
        let information = unsafe { (*irp).IoStatus.Information };
        fx.complete(request, status, information as u64);
    }

    WdfRequestCompleteWithInformation at DISPATCH (fx, request: Handle, status: Status, information: u64) {
        fx.complete(request, status, information);
    }

    WdfRequestMarkCancelableEx at DISPATCH fails [CANCELLED INVALID_DEVICE_REQUEST INSUFFICIENT_RESOURCES]
        (fx, request: Handle, cancel: Code) -> Status {
        fx.mark_cancelable(request, cancel)
    }

    WdfRequestUnmarkCancelable at DISPATCH (fx, request: Handle) -> Status {
        fx.unmark_cancelable(request)
    }

    WdfRequestCancelSentRequest at DISPATCH (fx, request: Handle) -> u8 {
        u8::from(fx.cancel_sent(request))
    }

    WdfRequestAllocateTimer at DISPATCH fails [INSUFFICIENT_RESOURCES]
        (fx, request: Handle) -> Status {
        fx.allocate_timer(request)
    }

    WdfRequestWdmGetIrp at DISPATCH (fx, request: Handle) -> *mut IRP {
        fx.irp_of(request)
    }

    WdfRequestGetIoQueue at DISPATCH (fx, request: Handle) -> Handle {
        let object = body!(fx, request, Claimed);
        of!(object, Claimed).queue
    }

    WdfRequestGetParameters at DISPATCH (fx, request: Handle, parameters: *mut WDF_REQUEST_PARAMETERS) {
        fx.parameters(request, parameters);
    }

    WdfRequestRetrieveOutputBuffer at DISPATCH fails [BUFFER_TOO_SMALL INVALID_DEVICE_REQUEST]
        (fx, request: Handle, minimum: usize, buffer: *mut *mut c_void,
        length: *mut usize) -> Status {
        status_of(fx.output_buffer(request, minimum).map(|(address, size)| {
            give(buffer, address);
            give(length, size);
        }))
    }

    WdfIoTargetFormatRequestForIoctl at DISPATCH fails [INSUFFICIENT_RESOURCES INVALID_DEVICE_REQUEST INVALID_DEVICE_STATE]
        (fx, target: Handle, request: Handle, code: u32, input: Handle,
        input_offset: *const WDFMEMORY_OFFSET, output: Handle, output_offset: *const WDFMEMORY_OFFSET) -> Status {
        fx.format_ioctl(target, request, code, (input, input_offset), (output, output_offset))
    }
}

/// FxDriver::Unload, before the client's stub unbinds.
unsafe extern "win64" fn unload(driver: *mut DRIVER_OBJECT) {
    // SAFETY: the rig made the driver object, with its framework in DriverSection.
    unsafe { (*(*driver).DriverSection.cast::<Framework>()).unload() };
}

impl Framework {
    fn driver_created(
        &self,
        driver_object: *mut DRIVER_OBJECT,
        path: String,
        handle: Handle,
        config: WDF_DRIVER_CONFIG,
    ) {
        {
            let mut client = lock(&self.client);
            client.driver = Some(handle);
            client.config = Some(config);
            client.service_key = path;
            if !client.globals.is_null() {
                // SAFETY: the client's globals.
                unsafe { (*client.globals).Driver = handle };
            }
        }
        io::set_dispatch(driver_object, super::dispatch);
        // SAFETY: the node's driver object; function pointers of one size, called through their own type again.
        unsafe {
            (*driver_object).DriverUnload = std::mem::transmute::<
                Option<unsafe extern "win64" fn(*mut DRIVER_OBJECT)>,
                _,
            >(Some(unload));
        }
    }

    fn service_key(&self) -> String {
        lock(&self.client).service_key.clone()
    }

    fn open_key(&self, path: &str, attributes: Attributes, key: *mut Handle) -> Result<(), Status> {
        Self::checked_attributes(attributes, &[Parent])?;
        self.hive.open(path)?;
        if self.allocation_fails("WDFKEY") {
            return Err(status::INSUFFICIENT_RESOURCES);
        }
        let parent = lock(&self.client).driver;
        give(key, self.create(Body::Key(path.into()), attributes, parent));
        Ok(())
    }

    /// Objects whose making can only fail for want of memory.
    fn simple(
        &self,
        what: &'static str,
        attributes: Attributes,
        handle: *mut Handle,
        body: impl FnOnce() -> Body,
    ) -> Status {
        status_of(
            Self::checked_attributes(attributes, &[Parent]).and_then(|()| {
                if self.allocation_fails(what) {
                    return Err(status::INSUFFICIENT_RESOURCES);
                }
                let parent = lock(&self.client).driver;
                give(handle, self.create(body(), attributes, parent));
                Ok(())
            }),
        )
    }

    /// WdfWorkItemCreate. Its parent is a device or hangs on one (fxworkitem.cpp FxWorkItem::Initialize).
    fn create_work_item(
        &self,
        config: *const WDF_WORKITEM_CONFIG,
        attributes: Attributes,
    ) -> Result<Handle, Status> {
        // SAFETY: null or the caller's structure.
        let parent = unsafe { attributes.as_ref() }.map_or(0, |a| a.ParentObject);
        if parent == 0 {
            return Err(status::WDF_PARENT_NOT_SPECIFIED);
        }
        let config = sized(config).ok_or(status::INFO_LENGTH_MISMATCH)?;
        if config.EvtWorkItemFunc.is_null() {
            return Err(status::INVALID_PARAMETER);
        }
        Self::checked_attributes(attributes, &[Parent])?;
        if !self.is_of_a_device(parent) {
            return Err(status::INVALID_DEVICE_REQUEST);
        }
        if self.allocation_fails("WDFWORKITEM") {
            return Err(status::INSUFFICIENT_RESOURCES);
        }
        // AutomaticSerialization: without a synchronization scope, and the rig has none, it is accepted and changes
        // nothing (fxobject.cpp FxObject::_GetEffectiveLock).
        let body = work_item::WorkItem {
            callback: config.EvtWorkItemFunc,
            state: Mutex::default(),
        };
        Ok(self.create(Body::WorkItem(body), attributes, None))
    }

    /// FxDeviceBase::_SearchForDevice.
    fn is_of_a_device(&self, handle: Handle) -> bool {
        let object = self.object(handle, "a parent");
        matches!(object.body, Body::Device(_))
            || object.parent.is_some_and(|p| self.is_of_a_device(p))
    }

    fn queue_create(
        &self,
        device: Handle,
        config: *const WDF_IO_QUEUE_CONFIG,
        attributes: Attributes,
    ) -> Result<Handle, Status> {
        let _ = body!(self, device, Device);
        Self::checked_attributes(attributes, &[Parent, Level, Scope])?;
        // SAFETY: attributes, if any, were checked.
        let scope =
            unsafe { attributes.as_ref() }.map_or(INHERIT_SCOPE, |a| a.SynchronizationScope);
        if scope != INHERIT_SCOPE && scope != SCOPE_NONE {
            rules::broken(&rules::NOT_MODELLED, "a queue with a synchronization scope");
        }
        let config = sized(config).ok_or(status::INFO_LENGTH_MISMATCH)?;
        // A filter's queue is not power managed by default; the default queue would swallow every foreign IOCTL (facts 1, 14).
        let manual = config.DispatchType == DISPATCH_MANUAL;
        let presents = !config.EvtIoDeviceControl.is_null();
        if config.DefaultQueue != 0 || config.PowerManaged == 1 || !(presents || manual) {
            rules::broken(
                &rules::NOT_MODELLED,
                "a default, power-managed or non-IOCTL queue",
            );
        }
        // Settings.Parallel.NumberOfPresentedRequests: 0 but for a parallel queue; and a manual one has no callback
        // (fxioqueue.cpp FxIoQueue::Initialize).
        let presented = config.Settings & u64::from(u32::MAX);
        let kind = match (config.DispatchType, presented) {
            (DISPATCH_SEQUENTIAL, 0) => queue::Kind::Sequential,
            (DISPATCH_PARALLEL, most) => {
                queue::Kind::Parallel(usize::try_from(most).unwrap_or(usize::MAX))
            }
            (DISPATCH_MANUAL, 0) if !presents => queue::Kind::Manual,
            _ => return Err(status::INVALID_PARAMETER),
        };
        if self.allocation_fails("WDFQUEUE") {
            return Err(status::INSUFFICIENT_RESOURCES);
        }
        // SAFETY: attributes, if any, were checked.
        let level = unsafe { attributes.as_ref() }.map_or(1, |a| a.ExecutionLevel);
        let body = queue::Queue {
            device,
            kind,
            passive: level == LEVEL_PASSIVE || (level == 1 && self.is_device_passive(device)),
            evt_device_control: config.EvtIoDeviceControl,
            state: Mutex::default(),
        };
        Ok(self.create(Body::Queue(body), attributes, Some(device)))
    }
}

/// Microsoft's function indices for KMDF 1.15, by index.
static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let facts: serde_json::Value = serde_json::from_str(include_str!("../../../kit/kmdf-abi.json"))
        .unwrap_or_else(|error| unreachable!("checked in: {error}"));
    let mut names = vec![String::new(); TABLE_ENTRIES as usize];
    for (name, index) in facts["1.15"]["function_index"]
        .as_object()
        .into_iter()
        .flatten()
    {
        if let Some(slot) = index
            .as_u64()
            .and_then(|index| names.get_mut(usize::try_from(index).ok()?))
        {
            slot.clone_from(name);
        }
    }
    names
});

/// Bytes of one [`not_modelled`] thunk: `mov ecx, index; movabs rax, target; jmp rax`.
const THUNK: usize = 17;

/// One thunk an index, which tells [`not_modelled`] which entry was called.
static THUNKS: LazyLock<usize> = LazyLock::new(|| {
    let size = THUNK * TABLE_ENTRIES as usize;
    // SAFETY: an anonymous mapping at an address of the host's choice.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(page, libc::MAP_FAILED, "the host has memory for the table");
    for index in 0..TABLE_ENTRIES {
        let mut code = vec![0xB9];
        code.extend(index.to_le_bytes());
        code.extend([0x48, 0xB8]);
        code.extend((not_modelled as *const () as u64).to_le_bytes());
        code.extend([0xFF, 0xE0]);
        // SAFETY: the mapping has room for every thunk.
        unsafe {
            std::ptr::copy_nonoverlapping(
                code.as_ptr(),
                page.cast::<u8>().add(THUNK * index as usize),
                THUNK,
            );
        };
    }
    // SAFETY: the mapping just made.
    unsafe { libc::mprotect(page, size, libc::PROT_READ | libc::PROT_EXEC) };
    page as usize
});

unsafe extern "win64" fn not_modelled(index: u32) -> ! {
    let name = NAMES.get(index as usize).map_or("", String::as_str);
    rules::broken(&rules::NOT_MODELLED, &format!("{name} (index {index})"))
}

/// The function table for one client.
pub fn table() -> Vec<Code> {
    NAMES
        .iter()
        .enumerate()
        .map(|(index, name)| modelled(name).unwrap_or((*THUNKS + THUNK * index) as Code))
        .collect()
}
