//! The mistakes, each in the place of a call that the driver makes or of a callback that it gets.
#![allow(
    clippy::cast_possible_truncation,
    clippy::multiple_unsafe_ops_per_block,
    clippy::undocumented_unsafe_blocks,
    reason = "what is unsound here is so on purpose, and the framework's structures are small"
)]

use core::ffi::c_void;
use core::hint::black_box;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use scsi_reserve::Command;
use wdk_sys::{
    _IRP, _WDF_IO_QUEUE_DISPATCH_TYPE, _WDFFUNCENUM, ACCESS_MASK, BOOLEAN, CCHAR,
    IO_STACK_LOCATION, LPCGUID, NTSTATUS, PCEVENT_DESCRIPTOR, PCUNICODE_STRING, PDRIVER_OBJECT,
    PETWENABLECALLBACK, PEVENT_DATA_DESCRIPTOR, PFN_WDF_DEVICE_D0_ENTRY,
    PFN_WDF_DEVICE_SELF_MANAGED_IO_FLUSH, PFN_WDF_IO_QUEUE_STATE, PFN_WDF_REQUEST_CANCEL,
    PFN_WDF_REQUEST_COMPLETION_ROUTINE, PFN_WDFDEVICE_WDM_IRP_DISPATCH,
    PFN_WDFDEVICECONFIGUREWDMIRPDISPATCHCALLBACK, PFN_WDFDEVICEINITSETPNPPOWEREVENTCALLBACKS,
    PFN_WDFDEVICEWDMDISPATCHIRP, PFN_WDFDRIVERCREATE, PFN_WDFIOQUEUECREATE, PFN_WDFIOQUEUEGETSTATE,
    PFN_WDFIOQUEUEREADYNOTIFY, PFN_WDFIOQUEUERETRIEVENEXTREQUEST, PFN_WDFMEMORYCREATEPREALLOCATED,
    PFN_WDFREGISTRYOPENKEY, PFN_WDFREQUESTCOMPLETEWITHINFORMATION, PFN_WDFREQUESTMARKCANCELABLEEX,
    PFN_WDFREQUESTSEND, PFN_WDFREQUESTSETCOMPLETIONROUTINE, PFN_WDFREQUESTUNMARKCANCELABLE,
    PFN_WDFSPINLOCKACQUIRE, PFN_WDFSPINLOCKRELEASE, PFN_WDFTIMERSTOP, PIRP, PREGHANDLE, PULONG,
    PVOID, PWDF_DRIVER_CONFIG, PWDF_DRIVER_GLOBALS, PWDF_IO_QUEUE_CONFIG, PWDF_OBJECT_ATTRIBUTES,
    PWDF_PNPPOWER_EVENT_CALLBACKS, PWDF_REQUEST_COMPLETION_PARAMS, PWDF_REQUEST_SEND_OPTIONS,
    PWDFDEVICE_INIT, REGHANDLE, STATUS_CANCELLED, STATUS_NO_MORE_ENTRIES, STATUS_PENDING,
    STATUS_SUCCESS, UCHAR, ULONG, ULONG_PTR, WDF_IO_QUEUE_STATE, WDF_POWER_DEVICE_STATE,
    WDF_REQUEST_REUSE_PARAMS, WDFCONTEXT, WDFDEVICE, WDFDRIVER, WDFFUNC, WDFIOTARGET, WDFKEY,
    WDFMEMORY, WDFOBJECT, WDFQUEUE, WDFREQUEST, WDFSPINLOCK, WDFTIMER,
    call_unsafe_wdf_function_binding as call_unsafe,
};

use crate::interposed::{self, Callback, calls};
use crate::variants::Variant;
use crate::wdf::{Key, Request, utf16};

const DISPATCH_LEVEL: UCHAR = 2;

static CHOSEN: AtomicU32 = AtomicU32::new(Variant::Right as u32);

fn is(variant: Variant) -> bool {
    CHOSEN.load(Ordering::Relaxed) == variant as u32
}

// The kit has no import library for what only mistakes need.
#[link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    fn ExAllocatePoolWithTag(pool: ULONG, size: usize, tag: ULONG) -> *mut c_void;
    fn ExFreePoolWithTag(block: *mut c_void, tag: ULONG);
    fn KfRaiseIrql(level: UCHAR) -> UCHAR;
    fn KeLowerIrql(level: UCHAR);
}

calls! {
    WdfDriverCreate: PFN_WDFDRIVERCREATE at WdfDriverCreateTableIndex (
        object: PDRIVER_OBJECT, path: PCUNICODE_STRING, attributes: PWDF_OBJECT_ATTRIBUTES,
        config: PWDF_DRIVER_CONFIG, driver: *mut WDFDRIVER
    ) -> NTSTATUS {
        let status = genuine::WdfDriverCreate(object, path, attributes, config, driver);
        if status == STATUS_SUCCESS {
            choose(*driver);
            loading();
        }
        status
    }

    WdfRegistryOpenKey: PFN_WDFREGISTRYOPENKEY at WdfRegistryOpenKeyTableIndex (
        parent: WDFKEY, name: PCUNICODE_STRING, access: ACCESS_MASK,
        attributes: PWDF_OBJECT_ATTRIBUTES, key: *mut WDFKEY
    ) -> NTSTATUS {
        if !is(Variant::ReadsTheRegistryRaised) {
            return genuine::WdfRegistryOpenKey(parent, name, access, attributes, key);
        }
        let before = KfRaiseIrql(DISPATCH_LEVEL);
        let status = genuine::WdfRegistryOpenKey(parent, name, access, attributes, key);
        KeLowerIrql(before);
        status
    }

    WdfDeviceInitSetPnpPowerEventCallbacks: PFN_WDFDEVICEINITSETPNPPOWEREVENTCALLBACKS
        at WdfDeviceInitSetPnpPowerEventCallbacksTableIndex (
        init: PWDFDEVICE_INIT, callbacks: PWDF_PNPPOWER_EVENT_CALLBACKS
    ) {
        let mut callbacks = *callbacks;
        callbacks.EvtDeviceD0Entry = D0_ENTRY.replace(Some(evt_device_d0_entry), callbacks.EvtDeviceD0Entry);
        callbacks.EvtDeviceSelfManagedIoFlush =
            FLUSH.replace(Some(evt_device_self_managed_io_flush), callbacks.EvtDeviceSelfManagedIoFlush);
        genuine::WdfDeviceInitSetPnpPowerEventCallbacks(init, &raw mut callbacks);
    }

    WdfDeviceConfigureWdmIrpDispatchCallback: PFN_WDFDEVICECONFIGUREWDMIRPDISPATCHCALLBACK
        at WdfDeviceConfigureWdmIrpDispatchCallbackTableIndex (
        device: WDFDEVICE, driver: WDFDRIVER, major: UCHAR, callback: PFN_WDFDEVICE_WDM_IRP_DISPATCH,
        context: WDFCONTEXT
    ) -> NTSTATUS {
        let callback = DISPATCH.replace(Some(evt_device_wdm_irp_dispatch), callback);
        genuine::WdfDeviceConfigureWdmIrpDispatchCallback(device, driver, major, callback, context)
    }

    WdfDeviceWdmDispatchIrp: PFN_WDFDEVICEWDMDISPATCHIRP at WdfDeviceWdmDispatchIrpTableIndex (
        device: WDFDEVICE, irp: PIRP, context: WDFCONTEXT
    ) -> NTSTATUS {
        let location = current_location(irp);
        if is(Variant::ChangesForeignRequests) {
            (*location).MinorFunction = 1;
        }
        if is(Variant::TakesTooManyLocations) {
            (*irp).CurrentLocation -= 2;
            (*irp).Tail.Overlay.__bindgen_anon_2.__bindgen_anon_1.CurrentStackLocation = location.sub(2);
        }
        let context = if is(Variant::ForgetsTheContext) { null_mut() } else { context };
        genuine::WdfDeviceWdmDispatchIrp(device, irp, context)
    }

    WdfIoQueueCreate: PFN_WDFIOQUEUECREATE at WdfIoQueueCreateTableIndex (
        device: WDFDEVICE, config: PWDF_IO_QUEUE_CONFIG, attributes: PWDF_OBJECT_ATTRIBUTES,
        queue: *mut WDFQUEUE
    ) -> NTSTATUS {
        if is(Variant::MakesADefaultQueue) {
            (*config).DefaultQueue = 1;
        }
        let manual = (*config).DispatchType == _WDF_IO_QUEUE_DISPATCH_TYPE::WdfIoQueueDispatchManual;
        if manual && is(Variant::TrustsASequentialQueue) {
            (*config).DispatchType = _WDF_IO_QUEUE_DISPATCH_TYPE::WdfIoQueueDispatchSequential;
            (*config).EvtIoDeviceControl = Some(evt_io_device_control);
        }
        genuine::WdfIoQueueCreate(device, config, attributes, queue)
    }

    WdfIoQueueReadyNotify: PFN_WDFIOQUEUEREADYNOTIFY at WdfIoQueueReadyNotifyTableIndex (
        queue: WDFQUEUE, ready: PFN_WDF_IO_QUEUE_STATE, context: WDFCONTEXT
    ) -> NTSTATUS {
        if !is(Variant::TrustsASequentialQueue) {
            return genuine::WdfIoQueueReadyNotify(queue, ready, context);
        }
        READY.replace(ready, ready);
        READY_CONTEXT.store(context, Ordering::Relaxed);
        STATUS_SUCCESS
    }

    WdfIoQueueRetrieveNextRequest: PFN_WDFIOQUEUERETRIEVENEXTREQUEST
        at WdfIoQueueRetrieveNextRequestTableIndex (queue: WDFQUEUE, request: *mut WDFREQUEST) -> NTSTATUS {
        if !is(Variant::TrustsASequentialQueue) {
            return genuine::WdfIoQueueRetrieveNextRequest(queue, request);
        }
        *request = PRESENTED.swap(null_mut(), Ordering::Relaxed).cast();
        if (*request).is_null() { STATUS_NO_MORE_ENTRIES } else { STATUS_SUCCESS }
    }

    WdfIoQueueGetState: PFN_WDFIOQUEUEGETSTATE at WdfIoQueueGetStateTableIndex (
        queue: WDFQUEUE, waiting: PULONG, owned: PULONG
    ) -> WDF_IO_QUEUE_STATE {
        let state = genuine::WdfIoQueueGetState(queue, waiting, owned);
        if is(Variant::TrustsASequentialQueue) && !waiting.is_null() {
            *waiting = 0;
        }
        state
    }

    WdfMemoryCreatePreallocated: PFN_WDFMEMORYCREATEPREALLOCATED at WdfMemoryCreatePreallocatedTableIndex (
        attributes: PWDF_OBJECT_ATTRIBUTES, buffer: PVOID, size: usize, memory: *mut WDFMEMORY
    ) -> NTSTATUS {
        let status = genuine::WdfMemoryCreatePreallocated(attributes, buffer, size, memory);
        if is(Variant::LeaksAReference) {
            reference((*memory).cast());
        }
        status
    }

    WdfSpinLockAcquire: PFN_WDFSPINLOCKACQUIRE at WdfSpinLockAcquireTableIndex (lock: WDFSPINLOCK) {
        genuine::WdfSpinLockAcquire(lock);
        if is(Variant::TakesTheLockTwice) {
            genuine::WdfSpinLockAcquire(lock);
        }
    }

    WdfSpinLockRelease: PFN_WDFSPINLOCKRELEASE at WdfSpinLockReleaseTableIndex (lock: WDFSPINLOCK) {
        genuine::WdfSpinLockRelease(lock);
        if is(Variant::ReleasesTheLockTwice) {
            genuine::WdfSpinLockRelease(lock);
        }
        if is(Variant::KeepsTheLock) {
            genuine::WdfSpinLockAcquire(lock);
        }
    }

    WdfTimerStop: PFN_WDFTIMERSTOP at WdfTimerStopTableIndex (timer: WDFTIMER, wait: BOOLEAN) -> BOOLEAN {
        let wait = if is(Variant::WaitsAtDispatch) { 1 } else { wait };
        genuine::WdfTimerStop(timer, wait)
    }

    WdfRequestMarkCancelableEx: PFN_WDFREQUESTMARKCANCELABLEEX at WdfRequestMarkCancelableExTableIndex (
        request: WDFREQUEST, callback: PFN_WDF_REQUEST_CANCEL
    ) -> NTSTATUS {
        if is(Variant::WritesToTheCaller) {
            write_to_the_caller(request);
        }
        if is(Variant::UnmarksUnmarked) {
            let _ = genuine::WdfRequestUnmarkCancelable(request);
        }
        let callback = CANCEL.replace(Some(evt_request_cancel), callback);
        if is(Variant::MarksTwice) {
            let _ = genuine::WdfRequestMarkCancelableEx(request, callback);
        }
        genuine::WdfRequestMarkCancelableEx(request, callback)
    }

    WdfRequestUnmarkCancelable: PFN_WDFREQUESTUNMARKCANCELABLE at WdfRequestUnmarkCancelableTableIndex (
        request: WDFREQUEST
    ) -> NTSTATUS {
        if is(Variant::CompletesMarked) {
            genuine::WdfRequestCompleteWithInformation(request, STATUS_SUCCESS, 0);
        }
        if is(Variant::CompletesTheMarkedIrp) {
            __real_IofCompleteRequest(call_unsafe!(WdfRequestWdmGetIrp, request), 0);
        }
        genuine::WdfRequestUnmarkCancelable(request)
    }

    WdfRequestCompleteWithInformation: PFN_WDFREQUESTCOMPLETEWITHINFORMATION
        at WdfRequestCompleteWithInformationTableIndex (
        request: WDFREQUEST, status: NTSTATUS, information: ULONG_PTR
    ) {
        complete(request, status, information);
    }

    WdfRequestSetCompletionRoutine: PFN_WDFREQUESTSETCOMPLETIONROUTINE at WdfRequestSetCompletionRoutineTableIndex (
        request: WDFREQUEST, routine: PFN_WDF_REQUEST_COMPLETION_ROUTINE, context: WDFCONTEXT
    ) {
        let routine = COMPLETION.replace(Some(evt_request_completion_routine), routine);
        genuine::WdfRequestSetCompletionRoutine(request, routine, context);
    }

    WdfRequestSend: PFN_WDFREQUESTSEND at WdfRequestSendTableIndex (
        request: WDFREQUEST, target: WDFIOTARGET, options: PWDF_REQUEST_SEND_OPTIONS
    ) -> BOOLEAN {
        sending(request, options);
        let sent = genuine::WdfRequestSend(request, target, options);
        if is(Variant::ReusesASentRequest) {
            let mut reuse = WDF_REQUEST_REUSE_PARAMS {
                Size: const { size_of::<WDF_REQUEST_REUSE_PARAMS>() as ULONG },
                ..WDF_REQUEST_REUSE_PARAMS::default()
            };
            let _ = call_unsafe!(WdfRequestReuse, request, &raw mut reuse);
        }
        if is(Variant::TakesARefusalForASend) { 1 } else { sent }
    }
}

/// Reads the variant's number, where the driver reads its parameters.
fn choose(driver: WDFDRIVER) {
    let key = unsafe { Key::parameters(driver) };
    let number = key.and_then(|key| key.query_u32(utf16!("Broken")));
    CHOSEN.store(number.unwrap_or(0), Ordering::Relaxed);
}

/// In `DriverEntry`.
fn loading() {
    const TAG: ULONG = u32::from_be_bytes(*b"broK");
    const NON_PAGED_POOL_NX: ULONG = 512;
    let allocate = || unsafe { ExAllocatePoolWithTag(NON_PAGED_POOL_NX, 64, TAG) };
    let free = |block| unsafe { ExFreePoolWithTag(block, TAG) };

    if is(Variant::LeaksMemory) {
        black_box(allocate());
    }
    if is(Variant::FreesTwice) {
        let block = allocate();
        free(block);
        free(block);
    }
    if is(Variant::RegistersTwice) {
        let (provider, context) = (
            PROVIDER.load(Ordering::Relaxed),
            PROVIDER_CONTEXT.load(Ordering::Relaxed),
        );
        let mut handle = 0;
        let _ =
            unsafe { __real_EtwRegister(provider.cast(), ENABLE.get(), context, &raw mut handle) };
    }
}

/// Takes a reference to an object.
unsafe fn reference(object: WDFOBJECT) {
    /// `WdfObjectReferenceActual`; wdk-sys has no binding for it here, since the kit does not declare it.
    const INDEX: usize = 205;
    type Reference = unsafe extern "C" fn(PWDF_DRIVER_GLOBALS, WDFOBJECT, PVOID, i32, *const CCHAR);
    unsafe {
        let function: Reference = core::mem::transmute(interposed::genuine(INDEX));
        let file = c"".as_ptr();
        function(wdk_sys::WdfDriverGlobals, object, null_mut(), 0, file);
    }
}

fn current_location(irp: PIRP) -> *mut IO_STACK_LOCATION {
    unsafe {
        (*irp)
            .Tail
            .Overlay
            .__bindgen_anon_2
            .__bindgen_anon_1
            .CurrentStackLocation
    }
}

/// Whom a manual queue would tell, and what a sequential one has presented.
static READY: Callback<PFN_WDF_IO_QUEUE_STATE> = Callback::none();
static READY_CONTEXT: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
static PRESENTED: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

unsafe extern "C" fn evt_io_device_control(
    queue: WDFQUEUE,
    request: WDFREQUEST,
    _output: usize,
    _input: usize,
    _code: ULONG,
) {
    PRESENTED.store(request.cast(), Ordering::Relaxed);
    if let Some(ready) = READY.get() {
        unsafe { ready(queue, READY_CONTEXT.load(Ordering::Relaxed)) };
    }
}

static D0_ENTRY: Callback<PFN_WDF_DEVICE_D0_ENTRY> = Callback::none();

unsafe extern "C" fn evt_device_d0_entry(
    device: WDFDEVICE,
    previous_state: WDF_POWER_DEVICE_STATE,
) -> NTSTATUS {
    let status = D0_ENTRY.get().map_or(STATUS_SUCCESS, |callback| unsafe {
        callback(device, previous_state)
    });
    if is(Variant::ReturnsRaised) {
        unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
    }
    if is(Variant::ConfiguresLate) {
        let (driver, context) = (null_mut(), null_mut());
        let _ = unsafe {
            genuine::WdfDeviceConfigureWdmIrpDispatchCallback(device, driver, 3, None, context)
        };
    }
    if is(Variant::NeedsMuchStack) {
        recurse(device, 16);
    }
    status
}

/// A KiB of stack for each level.
#[inline(never)]
fn recurse(device: WDFDEVICE, levels: u32) {
    let place = [0_u8; 1024];
    black_box(&place);
    if levels == 0 {
        let _ = unsafe { call_unsafe!(WdfDeviceWdmGetDeviceObject, device) };
    } else {
        recurse(device, levels - 1);
    }
    black_box(&place);
}

static FLUSH: Callback<PFN_WDF_DEVICE_SELF_MANAGED_IO_FLUSH> = Callback::none();

unsafe extern "C" fn evt_device_self_managed_io_flush(device: WDFDEVICE) {
    match FLUSH.get() {
        Some(callback) if !is(Variant::ForgetsRemoval) => unsafe { callback(device) },
        _ => {}
    }
}

static DISPATCH: Callback<PFN_WDFDEVICE_WDM_IRP_DISPATCH> = Callback::none();

unsafe extern "C" fn evt_device_wdm_irp_dispatch(
    device: WDFDEVICE,
    major: UCHAR,
    minor: UCHAR,
    code: ULONG,
    driver_context: WDFCONTEXT,
    irp: PIRP,
    context: WDFCONTEXT,
) -> NTSTATUS {
    const IOCTL_SCSI_PASS_THROUGH: ULONG = 0x0004_D004;
    let ours = Command::from_ioctl(code).is_some();
    if ours && is(Variant::SendsTheCallersIrp) {
        unsafe {
            (*current_location(irp))
                .Parameters
                .DeviceIoControl
                .IoControlCode = IOCTL_SCSI_PASS_THROUGH;
        }
        return unsafe { genuine::WdfDeviceWdmDispatchIrp(device, irp, context) };
    }
    let status = DISPATCH.get().map_or(STATUS_PENDING, |callback| unsafe {
        callback(device, major, minor, code, driver_context, irp, context)
    });
    if ours && status != STATUS_PENDING && is(Variant::ReturnsAnotherStatus) {
        return STATUS_SUCCESS;
    }
    status
}

static CANCEL: Callback<PFN_WDF_REQUEST_CANCEL> = Callback::none();

unsafe extern "C" fn evt_request_cancel(request: WDFREQUEST) {
    if is(Variant::CompletesWhileOut) {
        unsafe { genuine::WdfRequestCompleteWithInformation(request, STATUS_CANCELLED, 0) };
    }
    if let Some(callback) = CANCEL.get() {
        unsafe { callback(request) };
    }
}

static COMPLETION: Callback<PFN_WDF_REQUEST_COMPLETION_ROUTINE> = Callback::none();

unsafe extern "C" fn evt_request_completion_routine(
    request: WDFREQUEST,
    target: WDFIOTARGET,
    params: PWDF_REQUEST_COMPLETION_PARAMS,
    context: WDFCONTEXT,
) {
    #[inline(never)]
    #[unsafe(link_section = "PAGE")]
    fn pageable() {
        black_box(());
    }
    if is(Variant::RunsPageableCode) {
        pageable();
    }
    if let Some(routine) = COMPLETION.get() {
        unsafe { routine(request, target, params, context) };
    }
}

unsafe fn write_to_the_caller(request: WDFREQUEST) {
    let mut buffer = null_mut();
    unsafe {
        let _ = call_unsafe!(
            WdfRequestRetrieveOutputBuffer,
            request,
            1,
            &raw mut buffer,
            null_mut()
        );
        buffer.cast::<u8>().write(0);
    }
}

/// The driver completes a caller's request.
unsafe fn complete(request: WDFREQUEST, status: NTSTATUS, information: ULONG_PTR) {
    let irp: *mut _IRP = unsafe { call_unsafe!(WdfRequestWdmGetIrp, request) };
    if is(Variant::CompletesTwice) {
        unsafe { genuine::WdfRequestCompleteWithInformation(request, status, 0) };
    }
    if is(Variant::DropsARequest) {
        drop(unsafe { Request::new(request) });
    }
    let (status, information) = match () {
        () if is(Variant::CompletesAsPending) => (STATUS_PENDING, information),
        () if is(Variant::GivesInformation) => (status, 5),
        () if is(Variant::ClaimsSuccess) => (STATUS_SUCCESS, information),
        () => (status, information),
    };
    unsafe { genuine::WdfRequestCompleteWithInformation(request, status, information) };
    if is(Variant::TouchesACompletedIrp) {
        black_box(unsafe { (*irp).Cancel });
    }
    if is(Variant::TouchesACompletedRequest) {
        let _ = unsafe { call_unsafe!(WdfRequestGetIoQueue, request) };
    }
}

/// The pass-through is about to be sent.
unsafe fn sending(request: WDFREQUEST, options: PWDF_REQUEST_SEND_OPTIONS) {
    if is(Variant::ForgetsMinorFunction) {
        unsafe {
            let irp = call_unsafe!(WdfRequestWdmGetIrp, request);
            (*current_location(irp).sub(1)).MinorFunction = 0;
        }
    }
    if is(Variant::GivesAWrongSize) {
        unsafe { (*options).Size = 0 };
    }
    if is(Variant::CompletesItsOwnRequest) {
        unsafe { genuine::WdfRequestCompleteWithInformation(request, STATUS_SUCCESS, 0) };
    }
    if is(Variant::SendsAtDispatch) {
        unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
    }
}

// lld gives their own names to ntoskrnl.exe's, and the names to what follows.
unsafe extern "C" {
    fn __real_EtwRegister(
        provider: LPCGUID,
        callback: PETWENABLECALLBACK,
        context: PVOID,
        handle: PREGHANDLE,
    ) -> NTSTATUS;
    fn __real_EtwUnregister(handle: REGHANDLE) -> NTSTATUS;
    fn __real_EtwWriteTransfer(
        handle: REGHANDLE,
        event: PCEVENT_DESCRIPTOR,
        activity: LPCGUID,
        related: LPCGUID,
        count: ULONG,
        data: PEVENT_DATA_DESCRIPTOR,
    ) -> NTSTATUS;
    fn __real_IofCompleteRequest(irp: PIRP, priority_boost: CCHAR);
}

static PROVIDER: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
static PROVIDER_CONTEXT: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
static ENABLE: Callback<PETWENABLECALLBACK> = Callback::none();

#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_EtwRegister(
    provider: LPCGUID,
    callback: PETWENABLECALLBACK,
    context: PVOID,
    handle: PREGHANDLE,
) -> NTSTATUS {
    // The driver registers before it can read which variant it is.
    PROVIDER.store(provider.cast_mut().cast(), Ordering::Relaxed);
    PROVIDER_CONTEXT.store(context, Ordering::Relaxed);
    let callback = ENABLE.replace(callback, callback);
    unsafe { __real_EtwRegister(provider, callback, context, handle) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_EtwUnregister(handle: REGHANDLE) -> NTSTATUS {
    if is(Variant::StaysRegistered) {
        return STATUS_SUCCESS;
    }
    if is(Variant::UnregistersTwice) {
        let _ = unsafe { __real_EtwUnregister(handle) };
    }
    unsafe { __real_EtwUnregister(handle) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_EtwWriteTransfer(
    handle: REGHANDLE,
    event: PCEVENT_DESCRIPTOR,
    activity: LPCGUID,
    related: LPCGUID,
    count: ULONG,
    data: PEVENT_DATA_DESCRIPTOR,
) -> NTSTATUS {
    /// Descriptors that are no fields: the provider's traits and the event's metadata.
    const FIRST: ULONG = 2;
    let lacks_one = count > FIRST && is(Variant::LeavesOutAField);
    let count = if lacks_one { count - 1 } else { count };
    unsafe { __real_EtwWriteTransfer(handle, event, activity, related, count, data) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_IofCompleteRequest(irp: PIRP, priority_boost: CCHAR) {
    unsafe { __real_IofCompleteRequest(irp, priority_boost) };
    if is(Variant::CompletesTheIrpTwice) {
        unsafe { __real_IofCompleteRequest(irp, priority_boost) };
    }
}
