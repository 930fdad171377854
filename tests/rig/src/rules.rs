//! What the driver must not do, each rule with an id and the place that it follows. A broken rule stops the run as a bug
//! check stops a node: the process prints rule, detail and thread, and ends with [`EXIT_STATUS`].

use std::sync::atomic::{AtomicBool, Ordering};

use crate::world;

/// The exit status of a process that a broken rule, or a fault inside the image, has ended.
pub const EXIT_STATUS: i32 = 70;

/// A rule, and where it comes from.
#[derive(Debug)]
pub struct Rule {
    /// How messages, tests and documents name it.
    pub id: &'static str,
    /// What it asks.
    pub asks: &'static str,
    /// Framework file and function, Driver Verifier rule, or document.
    pub source: &'static str,
}

macro_rules! rules {
    ($($name:ident = $id:literal, $asks:literal, $source:literal;)*) => {
        $(#[doc = $asks] pub const $name: Rule = Rule { id: $id, asks: $asks, source: $source };)*
        /// All of them.
        pub const ALL: &[&Rule] = &[$(&$name,)*];
    };
}

rules! {
    IRP_COMPLETED_TWICE = "irp-completed-twice", "an IRP is completed once",
        "bug check 0x44 MULTIPLE_IRP_COMPLETE_REQUESTS";
    IRP_NO_LOCATIONS = "irp-no-locations", "an IRP is passed down only while it has stack locations",
        "bug check 0x35 NO_MORE_IRP_STACK_LOCATIONS";
    IRP_PENDING_STATUS = "irp-pending-status", "an IRP is never completed with STATUS_PENDING",
        "Driver Verifier, I/O verification: bug check 0xC9 (0x6)";
    IRP_CANCEL_ROUTINE = "irp-cancel-routine", "an IRP is completed only after its cancel routine was taken off",
        "Driver Verifier, I/O verification: bug check 0xC9 (0x7)";
    DISPATCH_STATUS = "dispatch-status",
        "a dispatch routine returns STATUS_PENDING for an IRP that it marked pending, else the status it completed it with",
        "Driver Verifier, I/O verification: bug check 0xC9 (0x8, 0xE)";
    INFORMATION_ZERO = "information-zero", "a RESERVE or RELEASE ends with Information 0, whatever its status",
        "IOCTL_STORAGE_RESERVE's reference page: no output buffer";
    BUFFERS_UNTOUCHED = "buffers-untouched", "the buffers of a RESERVE's or RELEASE's caller are neither read nor written",
        "IOCTL_STORAGE_RESERVE's reference page: input and output buffer none";
    FOREIGN_UNTOUCHED = "foreign-untouched",
        "an IRP that is not the filter's reaches the device below exactly as it came, in the same stack location",
        "fxpkgio.cpp FxPkgIo::DispatchStep1 (Forward)";
    IRQL_CHANGED = "irql-changed", "a callback returns at the IRQL at which it was called",
        "bug check 0xC8 IRQL_UNEXPECTED_VALUE";
    IRQL_TOO_HIGH = "irql-too-high", "a call is made at or below the IRQL that its reference page allows",
        "Driver Verifier DDI compliance: IrqlKe*, KmdfIrql";
    LOCK_LEFT_HELD = "lock-left-held", "a callback returns without a spin lock held",
        "Driver Verifier DDI compliance: SpinLock, KmdfIrql2";
    LOCK_RECURSION = "lock-recursion", "a spin lock is not taken by the thread that holds it",
        "bug check 0xC4 (0x1001), deadlock detection";
    LOCK_NOT_OWNED = "lock-not-owned", "a spin lock is released by the thread that holds it",
        "bug check 0x10 SPIN_LOCK_NOT_OWNED";
    POOL_LEAK = "pool-leak", "at unload all pool of the driver is freed", "bug check 0xC4 (0x62)";
    OBJECT_LEAK = "object-leak", "at unload no framework object is left", "fxverifierkm.cpp; facts 19";
    POOL_BAD_FREE = "pool-bad-free", "only pool that is allocated is freed, once", "bug check 0xC2 BAD_POOL_CALLER";
    WILD_ACCESS = "wild-access", "memory is touched only while it is allocated, and only inside its bounds",
        "Driver Verifier special pool: bug check 0xD5, 0xCD";
    PAGEABLE_AT_DISPATCH = "pageable-code-at-dispatch",
        "pageable code and data, in sections whose names begin with PAGE, are touched only below DISPATCH_LEVEL",
        "Driver Verifier, Force IRQL checking: bug check 0xD1, 0x0A";
    RUST_PANIC = "rust-panic", "the driver has no panic path", "wdk-panic: bug check \"RPNC\"";
    HANDLE = "wdf-handle", "a framework handle is live and of the type that the call takes",
        "bug check 0x10D (5); FxObjectHandleGetPtr";
    NOT_MODELLED = "wdf-not-modelled", "the driver calls only what the rig knows", "the rig";
    STRUCTURE_SIZE = "wdf-structure-size", "a structure is given with its exact Size", "FxValidate*; facts 18";
    COMPLETE_TWICE = "wdf-complete-twice", "a request is completed once", "fxrequest.cpp FxRequest::CompleteInternal";
    COMPLETE_MARKED = "wdf-complete-marked", "a cancelable request is unmarked before it is completed",
        "fxrequest.cpp VerifyRequestIsNotCancelable; facts 10";
    MARK_TWICE = "wdf-mark-twice", "a request is marked cancelable once", "fxioqueue.cpp RequestCancelable; facts 10";
    UNMARK_UNMARKED = "wdf-unmark-unmarked", "only a request that was marked cancelable is unmarked",
        "fxioqueue.cpp RequestCancelable; facts 10";
    NOT_DRIVER_OWNED = "wdf-not-driver-owned", "what is done to a queue's request is not done to the driver's own",
        "bug check 0x10D (7); facts 18";
    SENT_TOUCHED = "wdf-sent-touched",
        "a request that is sent is not formatted, reused, sent, completed or deleted until its completion routine ran",
        "fxrequest.cpp FxRequest::Reuse; bug check 0x10D (6,3); facts 5, 18";
    CALLER_WHILE_OUT = "caller-completed-while-out",
        "a caller's request is not completed while the pass-through for it is out",
        "facts 10 and 20 item 10: the next one would reuse a live request";
    SUCCESS_WITHOUT_PROOF = "success-without-proof",
        "a RESERVE or RELEASE is completed with success only if its own command was answered GOOD, or with a recovered error",
        "SPC-2 5.5.1: exclusive access is a promise about the logical unit";
    SYNC_CALLBACK_WAIT = "wdf-timer-wait", "WdfTimerStop waits only at PASSIVE_LEVEL, never in the timer's own callback",
        "fxtimer.cpp FxTimer::Stop; facts 13";
    DISPATCH_CONTEXT = "wdf-dispatch-context", "WdfDeviceWdmDispatchIrp gets the context of the callback it is called from",
        "fxdeviceapikm.cpp; facts 1";
    CALL_AFTER_REMOVAL = "call-after-removal", "what a device's removal has deleted is not used any more",
        "facts 9: a request that arrives late in a REMOVE meets dead handles";
    CONFIGURE_LATE = "wdf-configure-late", "what configures a device is called before it starts", "fxpkgio.cpp; facts 1";
    PASS_THROUGH_FORM = "pass-through-form", "a SCSI pass-through is formed as the port drivers ask",
        "IOCTL_SCSI_PASS_THROUGH and SCSI_PASS_THROUGH reference pages";
    PASS_THROUGH_IRQL = "pass-through-irql", "a pass-through is sent at PASSIVE_LEVEL",
        "pass-through handlers are pageable code in the port drivers";
    PASS_THROUGH_OWN = "pass-through-own-irp", "the pass-through is the driver's own IRP, not the caller's",
        "classpnp class.c: IoIs32bitProcess(Irp)";
    ETW_REGISTERED_TWICE = "etw-registered-twice", "a driver registers a provider once", "EtwRegister's reference page";
    ETW_LEFT_REGISTERED = "etw-left-registered",
        "a provider is unregistered before its driver is unloaded, and when DriverEntry fails",
        "EtwUnregister's reference page: else the system stops";
    ETW_HANDLE = "etw-handle", "a registration handle is live", "EtwWriteTransfer's reference page";
    ETW_FORMAT = "etw-format", "an event describes itself, and all of its fields are there",
        "TraceLoggingProvider.h; microsoft/tracelogging, etw/rust";
    HANG = "hang", "every request ends", "no thread can run and no timer is set";
    LOW_STACK = "stack-depth", "the driver needs little kernel stack", "a kernel stack is 24 KB on x64";
}

static ABORTS: AtomicBool = AtomicBool::new(false);

/// From now on a broken rule aborts the process: then a fuzzer keeps the input that broke it.
pub fn abort_when_broken() {
    ABORTS.store(true, Ordering::Relaxed);
}

/// Ends the run because the driver broke `rule`.
pub fn broken(rule: &Rule, detail: &str) -> ! {
    let place = world::describe_current();
    stop(&format!(
        "*** rule broken: {}\n    asks   {}\n    found  {detail}\n    {place}\n    source {}\n",
        rule.id, rule.asks, rule.source
    ))
}

/// Prints past any capture of the test harness and ends the process, whatever other threads do.
pub fn stop(message: &str) -> ! {
    let case = world::case().map_or_else(String::new, |case| format!("    case   {case}\n"));
    let message = format!("{message}{case}");
    let bytes = message.as_bytes();
    // SAFETY: the buffer is valid for its length; a short write loses text only.
    unsafe { libc::write(2, bytes.as_ptr().cast(), bytes.len()) };
    if ABORTS.load(Ordering::Relaxed) {
        std::process::abort();
    }
    // SAFETY: ends the process at once.
    unsafe { libc::_exit(EXIT_STATUS) }
}
