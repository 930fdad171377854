//! The broken variants of the driver: the rule of the rig that each breaks, and how. The rig's tests read this file too.

macro_rules! variants {
    ($($variant:ident breaks $rule:literal: $how:literal;)*) => {
        /// A mistake; its number is what the registry chooses it by.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Variant {
            /// None: the driver as it ships.
            Right,
            $(#[doc = $how] $variant,)*
        }

        /// All of them, with the rule that each breaks.
        #[allow(dead_code, reason = "the driver reads only the numbers")]
        pub const ALL: &[(Variant, &str)] = &[$((Variant::$variant, $rule),)*];
    };
}

variants! {
    CompletesTheIrpTwice breaks "irp-completed-twice": "completes an IRP in the dispatch callback, and again";
    TakesTooManyLocations breaks "irp-no-locations": "hands a foreign IRP on two stack locations too low";
    CompletesAsPending breaks "irp-pending-status": "completes a request with `STATUS_PENDING`";
    CompletesTheMarkedIrp breaks "irp-cancel-routine": "completes the IRP of a request that is marked cancelable";
    ReturnsAnotherStatus breaks "dispatch-status": "returns another status than it completed the IRP with";
    GivesInformation breaks "information-zero": "completes with Information 5";
    WritesToTheCaller breaks "buffers-untouched": "writes to the buffer of a RESERVE's caller";
    ChangesForeignRequests breaks "foreign-untouched": "sets the minor function of a request that is not its own";
    ReturnsRaised breaks "irql-changed": "raises the IRQL in a callback and does not lower it";
    ReadsTheRegistryRaised breaks "irql-too-high": "opens a registry key at `DISPATCH_LEVEL`";
    KeepsTheLock breaks "lock-left-held": "takes the lock before it returns";
    TakesTheLockTwice breaks "lock-recursion": "takes the lock that it holds";
    ReleasesTheLockTwice breaks "lock-not-owned": "releases the lock twice";
    LeaksMemory breaks "pool-leak": "allocates pool and does not free it";
    FreesTwice breaks "pool-bad-free": "frees pool twice";
    LeaksAReference breaks "object-leak": "takes a reference to its memory object and keeps it";
    TouchesACompletedIrp breaks "wild-access": "reads an IRP that it has completed";
    RunsPageableCode breaks "pageable-code-at-dispatch": "calls pageable code in a completion routine";
    DropsARequest breaks "rust-panic": "drops a request instead of completing it";
    TouchesACompletedRequest breaks "wdf-handle": "asks for the queue of a request that it has completed";
    MakesADefaultQueue breaks "wdf-not-modelled": "makes a default queue, which would take all foreign controls";
    GivesAWrongSize breaks "wdf-structure-size": "leaves the Size of the send options 0";
    CompletesTwice breaks "wdf-complete-twice": "completes a request twice";
    CompletesMarked breaks "wdf-complete-marked": "completes a request without unmarking it";
    MarksTwice breaks "wdf-mark-twice": "marks a request cancelable twice";
    UnmarksUnmarked breaks "wdf-unmark-unmarked": "unmarks a request before it is marked";
    CompletesItsOwnRequest breaks "wdf-not-driver-owned": "completes the pass-through instead of sending it";
    ReusesASentRequest breaks "wdf-sent-touched": "reuses the pass-through while it is out";
    CompletesWhileOut breaks "caller-completed-while-out": "completes a cancelled request at once, though its command is out";
    ClaimsSuccess breaks "success-without-proof": "completes every request with success";
    WaitsAtDispatch breaks "wdf-timer-wait": "waits for the timer's callback under the lock";
    ForgetsTheContext breaks "wdf-dispatch-context": "hands a foreign IRP back without the dispatch context";
    ConfiguresLate breaks "wdf-configure-late": "sets a dispatch callback when the device has started";
    ForgetsRemoval breaks "call-after-removal": "does not note that the device goes";
    ForgetsMinorFunction breaks "pass-through-form": "leaves the pass-through's minor function 0";
    SendsAtDispatch breaks "pass-through-irql": "sends at `DISPATCH_LEVEL`";
    SendsTheCallersIrp breaks "pass-through-own-irp": "makes the caller's IRP the pass-through";
    RegistersTwice breaks "etw-registered-twice": "registers its provider twice";
    StaysRegistered breaks "etw-left-registered": "is unloaded with its provider registered";
    UnregistersTwice breaks "etw-handle": "unregisters its provider twice";
    LeavesOutAField breaks "etw-format": "writes an event without its last field";
    TakesARefusalForASend breaks "hang": "waits for the answer to a send that was refused";
    TrustsASequentialQueue breaks "hang": "takes what a sequential queue presents, and asks for no more";
    NeedsMuchStack breaks "stack-depth": "recurses";
}
