//! Deliberate mistakes, one for each rule of the rig: they show that the rule fires. Built by tests/broken under
//! `cfg(broken)`, never into the driver that ships. The value `Broken` of the Parameters key chooses one by its number.
//!
//! Each function is called where its mistakes would be made.
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    clippy::undocumented_unsafe_blocks,
    reason = "what is unsound here is so on purpose"
)]

mod variants;

use core::ffi::c_void;
use core::hint::black_box;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use scsi_reserve::NtStatus;
use wdk_sys::{
    _IRP, BOOLEAN, IO_STACK_LOCATION, NTSTATUS, PIRP, STATUS_CANCELLED, STATUS_PENDING, UCHAR,
    ULONG, WDF_IO_QUEUE_CONFIG, WDF_REQUEST_REUSE_PARAMS, WDF_REQUEST_SEND_OPTIONS, WDFCONTEXT,
    WDFDEVICE, WDFMEMORY, WDFOBJECT, WDFREQUEST, WDFSPINLOCK, WDFTIMER,
    call_unsafe_wdf_function_binding as call_unsafe,
    ntddk::{EtwUnregister, IofCompleteRequest},
};

use super::registry::{Key, utf16};
use super::{Data, Provider, Request, size};
use variants::Variant;

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

/// In `DriverEntry`: chooses the variant.
pub fn loading(parameters: Option<&Key>, provider: &'static Provider) {
    const TAG: ULONG = u32::from_be_bytes(*b"broK");
    const NON_PAGED_POOL_NX: ULONG = 512;
    let allocate = || unsafe { ExAllocatePoolWithTag(NON_PAGED_POOL_NX, 64, TAG) };
    let free = |block| unsafe { ExFreePoolWithTag(block, TAG) };

    let chosen = parameters.and_then(|key| key.query_u32(utf16!("Broken")).ok());
    CHOSEN.store(chosen.unwrap_or(0), Ordering::Relaxed);
    if is(Variant::LeaksMemory) {
        black_box(allocate());
    }
    if is(Variant::FreesTwice) {
        let block = allocate();
        free(block);
        free(block);
    }
    if is(Variant::RegistersTwice) {
        unsafe { provider.register() };
    }
}

/// In `EvtDriverUnload`, last.
pub fn unloaded(provider: &'static Provider) {
    if is(Variant::StaysRegistered) {
        unsafe { provider.register() };
    }
}

/// A provider was unregistered.
pub fn unregistered(handle: u64) {
    if is(Variant::UnregistersTwice) {
        let _ = unsafe { EtwUnregister(handle) };
    }
}

/// An event is about to be written.
pub fn writing<'a, 'b>(data: &'a mut [Data<'b>]) -> &'a mut [Data<'b>] {
    match data {
        [_, _, _, fields @ ..] if is(Variant::LeavesOutAField) => {
            let left = 2 + fields.len();
            &mut data[..left]
        }
        data => data,
    }
}

/// A queue is about to be made.
pub fn making_queue(config: &mut WDF_IO_QUEUE_CONFIG) {
    if is(Variant::MakesADefaultQueue) {
        config.DefaultQueue = 1;
    }
}

/// The pass-through's memory was made.
pub fn made_memory(memory: WDFMEMORY) {
    /// `WdfObjectReferenceActual`; wdk-sys has no binding for it here, since the kit does not declare it.
    const INDEX: usize = 205;
    type Reference = unsafe extern "system" fn(*mut c_void, WDFOBJECT, *mut c_void, i32, *const u8);
    if is(Variant::LeaksAReference) {
        unsafe {
            let function = *wdk_sys::WdfFunctions.add(INDEX);
            let reference: Reference = core::mem::transmute(function);
            reference(
                wdk_sys::WdfDriverGlobals.cast(),
                memory.cast(),
                null_mut(),
                0,
                c"".as_ptr().cast(),
            );
        }
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

/// In the dispatch callback; gives control code and dispatch context to go on with.
pub fn dispatching(
    claimed: bool,
    irp: PIRP,
    code: ULONG,
    context: WDFCONTEXT,
) -> (ULONG, WDFCONTEXT) {
    const IOCTL_SCSI_PASS_THROUGH: ULONG = 0x0004_D004;
    let location = current_location(irp);
    if claimed && is(Variant::SendsTheCallersIrp) {
        unsafe { (*location).Parameters.DeviceIoControl.IoControlCode = IOCTL_SCSI_PASS_THROUGH };
        return (IOCTL_SCSI_PASS_THROUGH, context);
    }
    if !claimed && is(Variant::ForgetsTheContext) {
        return (code, null_mut());
    }
    if !claimed && is(Variant::ChangesForeignRequests) {
        unsafe { (*location).MinorFunction = 1 };
    }
    if !claimed && is(Variant::TakesTooManyLocations) {
        unsafe {
            (*irp).CurrentLocation -= 2;
            (*irp)
                .Tail
                .Overlay
                .__bindgen_anon_2
                .__bindgen_anon_1
                .CurrentStackLocation = location.sub(2);
        }
    }
    (code, context)
}

/// The dispatch callback has completed an IRP with this status; gives the one that it returns.
pub fn dispatched(irp: PIRP, status: NtStatus) -> NtStatus {
    if is(Variant::CompletesTheIrpTwice) {
        unsafe { IofCompleteRequest(irp, 0) };
    }
    if is(Variant::ReturnsAnotherStatus) {
        return NtStatus::SUCCESS;
    }
    status
}

/// In `EvtDeviceD0Entry`.
pub fn powered_up(device: WDFDEVICE) {
    if is(Variant::ReturnsRaised) {
        unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
    }
    if is(Variant::ReadsTheRegistryRaised) {
        let before = unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
        drop(Key::open(utf16!("\\Registry\\Machine")));
        unsafe { KeLowerIrql(before) };
    }
    if is(Variant::ConfiguresLate) {
        let _ = unsafe {
            call_unsafe!(
                WdfDeviceConfigureWdmIrpDispatchCallback,
                device,
                null_mut(),
                3,
                None,
                null_mut()
            )
        };
    }
    if is(Variant::NeedsMuchStack) {
        recurse(device, 16);
    }
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

/// In `EvtDeviceSelfManagedIoFlush`: whether it goes unheard.
pub fn forgets_removal() -> bool {
    is(Variant::ForgetsRemoval)
}

/// The lock was taken.
pub fn locked(lock: WDFSPINLOCK) {
    if is(Variant::TakesTheLockTwice) {
        unsafe { call_unsafe!(WdfSpinLockAcquire, lock) };
    }
}

/// The lock was released.
pub fn unlocked(lock: WDFSPINLOCK) {
    if is(Variant::ReleasesTheLockTwice) {
        unsafe { call_unsafe!(WdfSpinLockRelease, lock) };
    }
    if is(Variant::KeepsTheLock) {
        unsafe { call_unsafe!(WdfSpinLockAcquire, lock) };
    }
}

/// The timer is about to be stopped.
pub fn stopping(timer: WDFTIMER) {
    if is(Variant::WaitsAtDispatch) {
        let _ = unsafe { call_unsafe!(WdfTimerStop, timer, 1) };
    }
}

/// A queue presents a request.
pub fn presented(request: WDFREQUEST) {
    let mut buffer = null_mut();
    if is(Variant::WritesToTheCaller) {
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
}

/// A request is about to be marked cancelable.
pub fn marking(request: WDFREQUEST) {
    if is(Variant::MarksTwice) {
        let _ = unsafe { call_unsafe!(WdfRequestMarkCancelableEx, request, None) };
    }
    if is(Variant::UnmarksUnmarked) {
        let _ = unsafe { call_unsafe!(WdfRequestUnmarkCancelable, request) };
    }
}

/// A request is about to be unmarked.
pub fn unmarking(request: WDFREQUEST) {
    if is(Variant::CompletesMarked) {
        complete(request, 0);
    }
    if is(Variant::CompletesTheMarkedIrp) {
        unsafe { IofCompleteRequest(call_unsafe!(WdfRequestWdmGetIrp, request), 0) };
    }
}

/// In `EvtRequestCancel`.
pub fn cancelling(request: WDFREQUEST) {
    if is(Variant::CompletesWhileOut) {
        complete(request, STATUS_CANCELLED);
    }
}

fn complete(request: WDFREQUEST, status: NTSTATUS) {
    unsafe { call_unsafe!(WdfRequestCompleteWithInformation, request, status, 0) };
}

static COMPLETED: AtomicPtr<_IRP> = AtomicPtr::new(null_mut());

/// A request is about to be completed; gives what with.
pub fn completing(request: WDFREQUEST, status: NtStatus, information: u64) -> (NtStatus, u64) {
    if is(Variant::TouchesACompletedIrp) {
        let irp = unsafe { call_unsafe!(WdfRequestWdmGetIrp, request) };
        COMPLETED.store(irp, Ordering::Relaxed);
    }
    if is(Variant::CompletesTwice) {
        complete(request, status.0);
    }
    if is(Variant::DropsARequest) {
        drop(unsafe { Request::new(request) });
    }
    if is(Variant::CompletesAsPending) {
        return (NtStatus(STATUS_PENDING), information);
    }
    if is(Variant::GivesInformation) {
        return (status, 5);
    }
    if is(Variant::ClaimsSuccess) {
        return (NtStatus::SUCCESS, information);
    }
    (status, information)
}

/// A request was completed.
pub fn completed(request: WDFREQUEST) {
    if is(Variant::TouchesACompletedIrp) {
        black_box(unsafe { (*COMPLETED.load(Ordering::Relaxed)).Cancel });
    }
    if is(Variant::TouchesACompletedRequest) {
        let _ = unsafe { call_unsafe!(WdfRequestGetIoQueue, request) };
    }
}

/// The pass-through was formatted.
pub fn formatted(request: WDFREQUEST) {
    if is(Variant::ForgetsMinorFunction) {
        unsafe {
            let irp = call_unsafe!(WdfRequestWdmGetIrp, request);
            (*current_location(irp).sub(1)).MinorFunction = 0;
        }
    }
}

/// The pass-through is about to be sent.
pub fn sending(request: WDFREQUEST, options: &mut WDF_REQUEST_SEND_OPTIONS) {
    if is(Variant::GivesAWrongSize) {
        options.Size = 0;
    }
    if is(Variant::CompletesItsOwnRequest) {
        complete(request, 0);
    }
    if is(Variant::SendsAtDispatch) {
        unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
    }
}

/// `WdfRequestSend` has returned this; gives what it is taken for.
pub fn sent(request: WDFREQUEST, sent: BOOLEAN) -> BOOLEAN {
    if is(Variant::ReusesASentRequest) {
        let mut reuse = WDF_REQUEST_REUSE_PARAMS {
            Size: size::<WDF_REQUEST_REUSE_PARAMS>(),
            ..WDF_REQUEST_REUSE_PARAMS::default()
        };
        let _ = unsafe { call_unsafe!(WdfRequestReuse, request, &raw mut reuse) };
    }
    if is(Variant::TakesARefusalForASend) {
        return 1;
    }
    sent
}

/// The pass-through is back.
pub fn answered() {
    #[inline(never)]
    #[unsafe(link_section = "PAGE")]
    fn pageable() {
        black_box(());
    }
    if is(Variant::RunsPageableCode) {
        pageable();
    }
}
