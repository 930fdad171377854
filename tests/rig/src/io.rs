//! The I/O manager: device stacks and IRPs as they lie in memory on Windows x64, IoCallDriver, IoCompleteRequest,
//! cancellation. Function names and rules follow wdm.h's documentation.

use std::collections::{BTreeSet, HashMap};
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use crate::abi::{
    CancelRoutine, CompletionRoutine, DEVICE_OBJECT, DRIVER_OBJECT, DeviceIoControl, Dispatch,
    IO_STACK_LOCATION, IRP, Status, control, irql, major, status,
};
use crate::fx::Framework;
use crate::{image, pool, rules, world};

/// How a caller's IRP ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// IoStatus.Status.
    pub status: Status,
    /// IoStatus.Information.
    pub information: u64,
    /// IRQL of the completion.
    pub irql: u8,
}

/// A caller's IRP on its way; the caller waits on it.
#[derive(Default)]
pub struct Pending {
    /// How it ended, with what is in the buffer, and when.
    done: Mutex<Option<(Completion, Vec<u8>, u64)>>,
    irp: usize,
}

impl Pending {
    /// How the IRP ended, if it has.
    pub fn done(&self) -> Option<Completion> {
        self.done
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|(end, ..)| end.clone())
    }

    /// When it ended, if it has; by the world's clock, in 100 ns.
    pub fn ended(&self) -> Option<u64> {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.as_ref().map(|&(.., at)| at)
    }

    /// The METHOD_BUFFERED system buffer as it was at the end; empty while the IRP is on its way.
    pub fn buffer(&self) -> Vec<u8> {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.as_ref()
            .map(|(_, buffer, _)| buffer.clone())
            .unwrap_or_default()
    }

    /// IoCancelIrp, as the caller's thread does it; false if the IRP had no cancel routine, or is complete.
    pub fn cancel(&self) -> bool {
        let ours = |record: &Record| {
            let caller = record.caller.as_ref();
            caller.is_some_and(|caller| std::ptr::eq(Arc::as_ptr(caller), self))
        };
        cancel_if(self.irp as *mut IRP, ours)
    }

    /// Waits for the end.
    pub fn wait(self: &Arc<Self>) -> Completion {
        world::current().wait(Arc::as_ptr(self) as usize, || self.done().is_some());
        self.done()
            .unwrap_or_else(|| unreachable!("the wait ended because it is done"))
    }
}

/// What the rig keeps of each IRP beside its memory.
#[derive(Clone)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts about one IRP"
)]
struct Record {
    caller: Option<Arc<Pending>>,
    buffer: *mut u8,
    buffer_length: usize,
    completed: bool,
    information_zero: bool,
    /// The proofs that may be of its own command, and whether each was spent.
    proofs: Vec<Arc<AtomicBool>>,
    from_32_bit: bool,
    arrived: Vec<u8>,
    /// Calls of dispatch routines, with the location that each was called for.
    calls: Vec<(i8, Arc<DispatchCall>)>,
    /// The SRB as its sender sent it, and whether it came to a port.
    sent: Option<(Vec<u8>, Arc<AtomicBool>)>,
    given: Option<Given>,
    owner: Weak<Framework>,
    node: String,
}

// SAFETY: the pointer is only an address; it is freed once, under the table's lock.
unsafe impl Send for Record {}

/// A call of a dispatch routine: what it returned, and whether its location was marked pending when the IRP's completion
/// came by, and with which status. Either can be known first.
#[derive(Default)]
struct DispatchCall(Mutex<KnownOfCall>);

/// What it returned; what it was marked and ended with.
type KnownOfCall = (Option<Status>, Option<(bool, Status)>);

impl DispatchCall {
    fn note(&self, irp: *mut IRP, change: impl FnOnce(&mut KnownOfCall)) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut known);
        let found = match *known {
            (None, _) | (Some(status::PENDING), None | Some((true, _))) => return,
            (Some(returned), Some((false, status))) if returned == status => return,
            (Some(returned), None) => {
                format!("returned {returned:#010x}, but the IRP is not complete")
            }
            (Some(returned), Some((false, status))) => format!(
                "returned {returned:#010x}, completed with {status:#010x} and not marked pending"
            ),
            (Some(returned), Some((true, _))) => {
                format!("returned {returned:#010x} for what it marked pending")
            }
        };
        drop(known);
        rules::broken(&rules::DISPATCH_STATUS, &format!("IRP {irp:p}: {found}"));
    }
}

/// What a port gave back with an SRB.
#[derive(Clone)]
struct Given {
    irp: Vec<u8>,
    srb: Vec<u8>,
    pending: bool,
    irql: u8,
    /// It came to whom it was given.
    back: Arc<AtomicBool>,
}

static IRPS: LazyLock<Mutex<HashMap<usize, Record>>> = LazyLock::new(Mutex::default);

fn irps() -> MutexGuard<'static, HashMap<usize, Record>> {
    IRPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// IoAllocateIrp: `stack_size` locations, none of them current.
pub fn allocate_irp(node: &str, stack_size: i8) -> *mut IRP {
    let locations = usize::try_from(stack_size).unwrap_or(0);
    let size = size_of::<IRP>() + locations * size_of::<IO_STACK_LOCATION>();
    let irp = pool::allocate(node, "IRP", size).cast::<IRP>();
    initialize_irp(irp, size, stack_size);
    let record = Record {
        caller: None,
        buffer: null_mut(),
        buffer_length: 0,
        completed: false,
        information_zero: false,
        proofs: Vec::new(),
        from_32_bit: false,
        arrived: Vec::new(),
        calls: Vec::new(),
        sent: None,
        given: None,
        owner: Weak::new(),
        node: node.into(),
    };
    irps().insert(irp as usize, record);
    irp
}

/// IoReuseIrp: as new, for an IRP that is not on its way.
pub fn reuse_irp(irp: *mut IRP) {
    // SAFETY: the caller owns the IRP.
    let stack_size = unsafe { (*irp).StackCount };
    let size = size_of::<IRP>()
        + usize::try_from(stack_size).unwrap_or(0) * size_of::<IO_STACK_LOCATION>();
    // SAFETY: the allocation has that size.
    unsafe { std::ptr::write_bytes(irp.cast::<u8>(), 0, size) };
    initialize_irp(irp, size, stack_size);
    if let Some(record) = irps().get_mut(&(irp as usize)) {
        record.completed = false;
        record.calls.clear();
    }
}

fn initialize_irp(irp: *mut IRP, size: usize, stack_size: i8) {
    // SAFETY: freshly allocated or owned by the caller, and large enough.
    let fields = unsafe { &mut *irp };
    fields.Type = 6; // IO_TYPE_IRP, wdm.h
    fields.Size = u16::try_from(size).unwrap_or(u16::MAX);
    fields.StackCount = stack_size;
    fields.CurrentLocation = stack_size + 1;
    let beyond = (irp as usize + size) as *mut IO_STACK_LOCATION;
    set_current_location(irp, beyond);
}

/// IoFreeIrp.
pub fn free_irp(irp: *mut IRP) {
    let record = irps().remove(&(irp as usize));
    if let Some(record) = record
        && !record.buffer.is_null()
    {
        pool::free(record.buffer);
    }
    pool::free(irp.cast());
}

fn set_current_location(irp: *mut IRP, location: *mut IO_STACK_LOCATION) {
    // SAFETY: the IRP is live; plain data in unions.
    unsafe {
        (*irp)
            .Tail
            .Overlay
            .Anonymous2
            .Anonymous
            .CurrentStackLocation = location;
    };
}

/// IoGetCurrentIrpStackLocation.
pub fn current_location(irp: *mut IRP) -> *mut IO_STACK_LOCATION {
    // SAFETY: the IRP is live; plain data in unions.
    unsafe {
        (*irp)
            .Tail
            .Overlay
            .Anonymous2
            .Anonymous
            .CurrentStackLocation
    }
}

/// IoGetNextIrpStackLocation.
pub fn next_location(irp: *mut IRP) -> *mut IO_STACK_LOCATION {
    current_location(irp).wrapping_sub(1)
}

/// IoSkipCurrentIrpStackLocation.
pub fn skip_current_location(irp: *mut IRP) {
    // SAFETY: the caller's driver owns the IRP.
    unsafe { (*irp).CurrentLocation += 1 };
    set_current_location(irp, current_location(irp).wrapping_add(1));
}

/// IoCopyCurrentIrpStackLocationToNext.
pub fn copy_current_location_to_next(irp: *mut IRP) {
    // SAFETY: the current location is valid, and there is a next one below it.
    unsafe { std::ptr::copy_nonoverlapping(current_location(irp), next_location(irp), 1) };
    // SAFETY: as above.
    let next = unsafe { &mut *next_location(irp) };
    next.CompletionRoutine = None;
    next.Context = null_mut();
    next.Control = 0;
}

/// IoSetCompletionRoutine, for success, error and cancel.
pub fn set_completion_routine(irp: *mut IRP, routine: CompletionRoutine, context: *mut c_void) {
    // SAFETY: there is a next location; the routine's pointer is stored as the generic one that the field has.
    let next = unsafe { &mut *next_location(irp) };
    // SAFETY: function pointers of one size; it is called through its own type again.
    next.CompletionRoutine =
        unsafe { std::mem::transmute::<Option<CompletionRoutine>, _>(Some(routine)) };
    next.Context = context;
    next.Control =
        control::INVOKE_ON_SUCCESS | control::INVOKE_ON_ERROR | control::INVOKE_ON_CANCEL;
}

/// IoMarkIrpPending.
pub fn mark_pending(irp: *mut IRP) {
    // SAFETY: the calling driver owns the IRP.
    unsafe { (*current_location(irp)).Control |= control::PENDING_RETURNED };
}

/// The parameters of a device control in `location`.
pub fn ioctl_parameters(location: *mut IO_STACK_LOCATION) -> *mut DeviceIoControl {
    // SAFETY: the parameters lie inside of the location.
    unsafe { (&raw mut (*location).Parameters).cast() }
}

/// Where a location of IRP_MJ_SCSI has its SRB: Parameters.Scsi.Srb, the union's first pointer.
pub fn srb_parameter(location: *mut IO_STACK_LOCATION) -> *mut *mut c_void {
    // SAFETY: the parameters lie inside of the location.
    unsafe { (&raw mut (*location).Parameters).cast() }
}

/// Makes a driver object whose every major function is `dispatch`.
pub fn create_driver(node: &str, dispatch: Dispatch) -> *mut DRIVER_OBJECT {
    let driver =
        pool::allocate(node, "DRIVER_OBJECT", size_of::<DRIVER_OBJECT>()).cast::<DRIVER_OBJECT>();
    // SAFETY: freshly allocated.
    let fields = unsafe { &mut *driver };
    fields.Type = 4; // IO_TYPE_DRIVER, wdm.h
    fields.Size = size_of::<DRIVER_OBJECT>().cast_signed() as i16;
    set_dispatch(driver, dispatch);
    driver
}

/// Sets every major function of `driver`.
pub fn set_dispatch(driver: *mut DRIVER_OBJECT, dispatch: Dispatch) {
    for code in 0..major::COUNT {
        // SAFETY: the driver object is live; function pointers of one size, called through their own type again.
        unsafe {
            (*driver).MajorFunction[code] =
                std::mem::transmute::<Option<Dispatch>, _>(Some(dispatch));
        }
    }
}

/// IoCreateDevice: a device of `driver`, attached to nothing, with the rig's `extension` value.
pub fn create_device(
    node: &str,
    driver: *mut DRIVER_OBJECT,
    extension: *mut c_void,
) -> *mut DEVICE_OBJECT {
    let device =
        pool::allocate(node, "DEVICE_OBJECT", size_of::<DEVICE_OBJECT>()).cast::<DEVICE_OBJECT>();
    // SAFETY: freshly allocated.
    let fields = unsafe { &mut *device };
    fields.Type = 3; // IO_TYPE_DEVICE, wdm.h
    fields.Size = size_of::<DEVICE_OBJECT>() as u16;
    fields.DriverObject = driver;
    fields.DeviceExtension = extension;
    fields.StackSize = 1;
    device
}

/// IoAttachDeviceToDeviceStack on the device right below: stack size and alignment follow it.
pub fn attach(upper: *mut DEVICE_OBJECT, lower: *mut DEVICE_OBJECT) {
    // SAFETY: both devices are live.
    let (upper_fields, lower_fields) = unsafe { (&mut *upper, &mut *lower) };
    lower_fields.AttachedDevice = upper;
    upper_fields.StackSize = lower_fields.StackSize + 1;
    upper_fields.AlignmentRequirement = lower_fields.AlignmentRequirement;
    upper_fields.SectorSize = lower_fields.SectorSize;
}

/// IoDetachDevice.
pub fn detach(lower: *mut DEVICE_OBJECT) {
    // SAFETY: the device is live.
    unsafe { (*lower).AttachedDevice = null_mut() };
    if deleted().remove(&(lower as usize)) {
        pool::free(lower.cast());
    }
}

/// Devices that are deleted while another is attached to them: their memory stays until that is detached.
static DELETED: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

fn deleted() -> MutexGuard<'static, BTreeSet<usize>> {
    DELETED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// IoDeleteDevice.
pub fn delete_device(device: *mut DEVICE_OBJECT) {
    // SAFETY: the device is live.
    if unsafe { (*device).AttachedDevice }.is_null() {
        pool::free(device.cast());
    } else {
        deleted().insert(device as usize);
    }
}

/// The device at the top of `device`'s stack.
pub fn top_of(device: *mut DEVICE_OBJECT) -> *mut DEVICE_OBJECT {
    // SAFETY: a live device's AttachedDevice is null or live.
    match unsafe { (*device).AttachedDevice } {
        above if above.is_null() => device,
        above => top_of(above),
    }
}

/// IoCallDriver.
pub fn call_driver(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    // SAFETY: the caller owns the IRP.
    let fields = unsafe { &mut *irp };
    fields.CurrentLocation -= 1;
    if fields.CurrentLocation <= 0 {
        rules::broken(
            &rules::IRP_NO_LOCATIONS,
            &format!("IRP {irp:p} has {} locations", fields.StackCount),
        );
    }
    let location = current_location(irp).wrapping_sub(1);
    set_current_location(irp, location);
    // SAFETY: the location is one of the IRP's own.
    let code = unsafe {
        (*location).DeviceObject = device;
        (*location).MajorFunction
    };
    // SAFETY: the device and its driver object are live.
    let routine = unsafe { (*(*device).DriverObject).MajorFunction[usize::from(code)] };
    // SAFETY: the table was filled by `set_dispatch`.
    let routine: Dispatch =
        unsafe { std::mem::transmute(routine.unwrap_or_else(|| unreachable!("filled"))) };
    let call = Arc::new(DispatchCall::default());
    let number = fields.CurrentLocation;
    if let Some(record) = irps().get_mut(&(irp as usize)) {
        record.calls.push((number, Arc::clone(&call)));
    }
    // SAFETY: a dispatch routine takes the device and the IRP that it now owns.
    let returned = unsafe { routine(device, irp) };
    call.note(irp, |known| known.0 = Some(returned));
    returned
}

/// IoCallDriver on an IRP whose next location is ready; waits until it is back. Whoever called completes it again.
pub fn call_and_wait(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    let back = AtomicBool::new(false);
    set_completion_routine(irp, taken_back_to, (&raw const back).cast_mut().cast());
    call_driver(device, irp);
    world::current().wait(irp as usize, || back.load(Ordering::Acquire));
    // SAFETY: the IRP is back; plain data in a union.
    unsafe { (*irp).IoStatus.Anonymous.Status }
}

unsafe extern "win64" fn taken_back_to(
    _: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    context: *mut c_void,
) -> Status {
    // SAFETY: the context is `call_and_wait`'s, which waits for this.
    unsafe { (*context.cast::<AtomicBool>()).store(true, Ordering::Release) };
    world::current().world.wake(irp as usize);
    status::MORE_PROCESSING_REQUIRED
}

/// IoCompleteRequest.
pub fn complete_request(irp: *mut IRP) {
    check_completion(irp);
    // SAFETY: the caller owns the IRP, and it is live (else the touch faults and is reported).
    let stack_count = unsafe { (*irp).StackCount };
    loop {
        // SAFETY: as above; plain data in a union. A completion routine may have changed the status.
        let (number, completed) =
            unsafe { ((*irp).CurrentLocation, (*irp).IoStatus.Anonymous.Status) };
        let done = leave_location(irp);
        let pending = done.Control & control::PENDING_RETURNED != 0;
        note_left(irp, number, (pending, completed));
        // SAFETY: as above.
        let (beyond, cancelled) = unsafe {
            (*irp).PendingReturned = pending;
            ((*irp).CurrentLocation > stack_count, (*irp).Cancel)
        };
        let wanted = if status::is_success(completed) {
            control::INVOKE_ON_SUCCESS
        } else {
            control::INVOKE_ON_ERROR
        } | if cancelled {
            control::INVOKE_ON_CANCEL
        } else {
            0
        };
        if let Some(routine) = done
            .CompletionRoutine
            .filter(|_| done.Control & wanted != 0)
        {
            let device = if beyond {
                null_mut()
            } else {
                // SAFETY: not beyond: the current location is one of the IRP's own.
                unsafe { (*current_location(irp)).DeviceObject }
            };
            // SAFETY: stored by `set_completion_routine`, or by a driver that has done the same.
            let routine: CompletionRoutine = unsafe { std::mem::transmute(routine) };
            // The routine may keep it, and have it completed again before it returns.
            note_completed(irp, false);
            if call_routine(routine, device, irp, done.Context) == status::MORE_PROCESSING_REQUIRED
            {
                return;
            }
            note_completed(irp, true);
        } else if pending && !beyond {
            mark_pending(irp);
        }
        if beyond {
            break;
        }
    }
    finish_caller(irp);
}

/// The next location becomes the current one; gives what was in the one that is left, and clears it as
/// IoCompleteRequest does (ZeroIrpStackLocation): whoever looks into it afterwards finds nothing.
fn leave_location(irp: *mut IRP) -> IO_STACK_LOCATION {
    let location = current_location(irp);
    skip_current_location(irp);
    // SAFETY: `location` is one of the IRP's own.
    let done = unsafe { *location };
    // SAFETY: as above; plain data.
    unsafe {
        (*location).MinorFunction = 0;
        (*location).Flags = 0;
        (*location).Control = 0;
        (*location).FileObject = null_mut();
        *ioctl_parameters(location) = std::mem::zeroed();
    }
    done
}

/// Tells the calls of dispatch routines that were made for this location how it was left.
fn note_left(irp: *mut IRP, number: i8, left: (bool, Status)) {
    let calls: Vec<_> = match irps().get_mut(&(irp as usize)) {
        Some(record) => record
            .calls
            .extract_if(.., |(of, _)| *of == number)
            .collect(),
        None => Vec::new(),
    };
    for (_, call) in calls {
        call.note(irp, |known| known.1 = Some(left));
    }
}

/// Calls a completion routine, as IoCompleteRequest does: one of a mapped image as that node's driver.
fn call_routine(
    routine: CompletionRoutine,
    device: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    context: *mut c_void,
) -> Status {
    // SAFETY: the routine and its context are what the driver set.
    let call = || unsafe { routine(device, irp, context) };
    let Some(node) = image::node_of(routine as usize) else {
        return call();
    };
    let thread = world::current();
    let outer = thread.set_node(node);
    let result = thread.into_driver("IoCompletion", call);
    thread.set_node(outer);
    result
}

/// Whether the IRP is on its way up, out of any driver's hands.
fn note_completed(irp: *mut IRP, completed: bool) {
    if let Some(record) = irps().get_mut(&(irp as usize)) {
        record.completed = completed;
    }
}

fn check_completion(irp: *mut IRP) {
    let mut irps = irps();
    let Some(record) = irps.get_mut(&(irp as usize)) else {
        drop(irps);
        rules::broken(
            &rules::IRP_COMPLETED_TWICE,
            &format!("IRP {irp:p} is complete and gone"),
        );
    };
    let twice = std::mem::replace(&mut record.completed, true);
    drop(irps);
    // SAFETY: a live IRP.
    let fields = unsafe { &*irp };
    if twice || fields.CurrentLocation > fields.StackCount + 1 {
        rules::broken(&rules::IRP_COMPLETED_TWICE, &format!("IRP {irp:p}"));
    }
    // SAFETY: plain data in a union.
    if unsafe { fields.IoStatus.Anonymous.Status } == status::PENDING {
        rules::broken(&rules::IRP_PENDING_STATUS, &format!("IRP {irp:p}"));
    }
    if fields.CancelRoutine.is_some() {
        rules::broken(&rules::IRP_CANCEL_ROUTINE, &format!("IRP {irp:p}"));
    }
}

fn finish_caller(irp: *mut IRP) {
    let Some(record) = irps().get(&(irp as usize)).cloned() else {
        return;
    };
    // SAFETY: a live IRP; plain data in unions.
    let (status, information) = unsafe {
        (
            (*irp).IoStatus.Anonymous.Status,
            (*irp).IoStatus.Information,
        )
    };
    if record.information_zero && information != 0 {
        let found = format!("Information {information} with status {status:#010x}");
        rules::broken(&rules::INFORMATION_ZERO, &found);
    }
    let mut buffer = Vec::new();
    if !record.buffer.is_null() {
        pool::open(record.buffer);
        // SAFETY: the buffer has that many bytes.
        buffer =
            unsafe { std::slice::from_raw_parts(record.buffer, record.buffer_length) }.to_vec();
    }
    let thread = world::current();
    let end = Completion {
        status,
        information: information as u64,
        irql: thread.irql(),
    };
    free_irp(irp);
    if let Some(caller) = record.caller {
        *caller.done.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((end, buffer, thread.world.now()));
        thread.world.wake(Arc::as_ptr(&caller) as usize);
    }
}

/// True for the IRP of a RESERVE or RELEASE: its Information is 0.
pub fn wants_information_zero(irp: *mut IRP) -> bool {
    irps()
        .get(&(irp as usize))
        .is_some_and(|record| record.information_zero)
}

/// Notes that a command was answered with proof, for those of the IRPs that ask for it: one of them may end with success.
pub fn note_proof(of: impl Iterator<Item = *mut IRP>, operation_code: u8) {
    let proof = Arc::new(AtomicBool::new(false));
    for irp in of {
        // SAFETY: a live IRP; the parameters of a device control.
        let code = unsafe { (*ioctl_parameters(current_location(irp))).IoControlCode };
        // RESERVE(6) and (10), RELEASE(6) and (10): SPC-2 7.21, 7.22, 7.16, 7.17.
        let commands = match CLAIMED.iter().position(|&claimed| claimed == code) {
            Some(0..4) => [0x16, 0x56],
            Some(_) => [0x17, 0x57],
            None => continue,
        };
        if commands.contains(&operation_code)
            && let Some(record) = irps().get_mut(&(irp as usize))
        {
            record.proofs.push(Arc::clone(&proof));
        }
    }
}

/// The driver completes an IRP with this status, which is asked for only if the IRP is not complete yet. A success spends
/// the proof that it has.
pub fn expect_proof(irp: *mut IRP, status: impl FnOnce() -> Status) {
    let ours = |record: &&Record| record.information_zero;
    let Some(proofs) = irps()
        .get(&(irp as usize))
        .filter(ours)
        .map(|record| record.proofs.clone())
    else {
        return;
    };
    let status = status();
    let proven = || {
        proofs
            .iter()
            .any(|proof| !proof.swap(true, Ordering::Relaxed))
    };
    if status::is_success(status) && !proven() {
        let found = format!("IRP {irp:p} is completed with {status:#010x}");
        rules::broken(&rules::SUCCESS_WITHOUT_PROOF, &found);
    }
}

/// IoIs32bitProcess: true only for the IRP of a 32-bit process; a driver's own is never one (the function's page).
pub fn is_32_bit_process(irp: *mut IRP) -> bool {
    irps()
        .get(&(irp as usize))
        .is_some_and(|record| record.from_32_bit)
}

/// True for an IRP that a caller sent to the top of a stack.
pub fn is_callers(irp: *mut IRP) -> bool {
    irps()
        .get(&(irp as usize))
        .is_some_and(|record| record.caller.is_some())
}

/// Notes which framework sends this IRP of a request's own.
pub fn set_owner(irp: *mut IRP, fx: &Arc<Framework>) {
    if let Some(record) = irps().get_mut(&(irp as usize)) {
        record.owner = Arc::downgrade(fx);
    }
}

/// What [`set_owner`] noted.
pub fn owner(irp: *mut IRP) -> Option<Arc<Framework>> {
    irps().get(&(irp as usize))?.owner.upgrade()
}

/// Keeps the IRP's memory as it is when it arrives at the filter.
pub fn note_arrival(irp: *mut IRP) {
    let image = snapshot(irp);
    if let Some(record) = irps().get_mut(&(irp as usize)) {
        record.arrived = image;
    }
}

/// Compares a foreign IRP with what arrived at the filter: below, all must be as it was, but for the location's device
/// (IoCallDriver's), and for what a cancel on another thread says of itself. CREATE is the one that the framework passes on another way (facts 2). The driver right below the
/// filter asks, once: what it does to the IRP is its own business.
///
/// An SRB's IRP may come in the next location, a copy of the one that it arrived in, with a completion routine: then true.
pub fn check_foreign(irp: *mut IRP) -> bool {
    let Some(arrived) = irps()
        .get_mut(&(irp as usize))
        .map(|record| std::mem::take(&mut record.arrived))
    else {
        return false;
    };
    if arrived.is_empty() {
        return false;
    }
    let now = snapshot(irp);
    let was = arrived[CURRENT_LOCATION];
    let copied = now[CURRENT_LOCATION] == was.wrapping_sub(1);
    let here = current_location(irp) as usize - irp as usize;
    let mut expected = arrived;
    if copied {
        let there = here + LOCATION;
        if u32::from(expected[there]) != major::IRP_MJ_SCSI {
            let found = format!("IRP {irp:p} has a location of the filter's own");
            rules::broken(&rules::FOREIGN_UNTOUCHED, &found);
        }
        expected.copy_within(there..there + LOCATION, here);
        expected[CURRENT_LOCATION] = now[CURRENT_LOCATION];
        let at = current_location_at(irp);
        expected[at..at + 8].copy_from_slice(&now[at..at + 8]);
    }
    let own = own_fields(here, copied);
    let differs = |(at, (was, is)): (usize, (&u8, &u8))| {
        was != is
            && at != std::mem::offset_of!(IRP, Cancel)
            && !own.iter().any(|own| own.contains(&at))
    };
    if let Some(at) = expected.iter().zip(&now).enumerate().position(differs) {
        rules::broken(
            &rules::FOREIGN_UNTOUCHED,
            &format!("IRP {irp:p} differs at byte {at}"),
        );
    }
    copied
}

const LOCATION: usize = size_of::<IO_STACK_LOCATION>();
const CURRENT_LOCATION: usize = std::mem::offset_of!(IRP, CurrentLocation);

/// Where the IRP has the address of its current location.
fn current_location_at(irp: *mut IRP) -> usize {
    // SAFETY: only the field's address is taken; the IRP is live.
    let field = unsafe {
        &raw const (*irp)
            .Tail
            .Overlay
            .Anonymous2
            .Anonymous
            .CurrentStackLocation
    };
    field as usize - irp as usize
}

/// What whoever passes an IRP on writes into the location for the driver below; where it was copied, the completion
/// routine, too.
fn own_fields(location: usize, copied: bool) -> Vec<std::ops::Range<usize>> {
    let field = |at: usize, size: usize| location + at..location + at + size;
    let mut own = vec![field(
        std::mem::offset_of!(IO_STACK_LOCATION, DeviceObject),
        8,
    )];
    if copied {
        own.extend([
            field(std::mem::offset_of!(IO_STACK_LOCATION, Control), 1),
            field(
                std::mem::offset_of!(IO_STACK_LOCATION, CompletionRoutine),
                8,
            ),
            field(std::mem::offset_of!(IO_STACK_LOCATION, Context), 8),
        ]);
    }
    own
}

/// Sends an SRB, whose bytes with all that it points to are `srb`, in the IRP's next location; it comes to its port before
/// this returns.
pub fn send_srb(device: *mut DEVICE_OBJECT, irp: *mut IRP, srb: Vec<u8>) -> Status {
    let arrived = Arc::new(AtomicBool::new(false));
    if let Some(record) = irps().get_mut(&(irp as usize)) {
        record.sent = Some((srb, Arc::clone(&arrived)));
    }
    let returned = call_driver(device, irp);
    if !arrived.load(Ordering::SeqCst) {
        let found = format!("IRP {irp:p} was held up on its way down");
        rules::broken(&rules::FOREIGN_UNTOUCHED, &found);
    }
    returned
}

/// True for an IRP that [`send_srb`] has sent, and that has not reached its port.
pub fn has_srb(irp: *mut IRP) -> bool {
    irps()
        .get(&(irp as usize))
        .is_some_and(|record| record.sent.is_some())
}

/// Compares an SRB that has reached its port with what was sent. True if a driver in between waits for its end.
pub fn check_sent(irp: *mut IRP, srb: &[u8]) -> bool {
    let copied = check_foreign(irp);
    let sent = irps()
        .get_mut(&(irp as usize))
        .and_then(|record| record.sent.take());
    if let Some((sent, arrived)) = sent {
        expect_same(irp, "the SRB on its way down", &sent, srb, &[]);
        arrived.store(true, Ordering::SeqCst);
    }
    copied
}

fn expect_same(
    irp: *mut IRP,
    what: &str,
    expected: &[u8],
    found: &[u8],
    except: &[std::ops::Range<usize>],
) {
    let differs = |&at: &usize| {
        expected.get(at) != found.get(at) && !except.iter().any(|range| range.contains(&at))
    };
    if let Some(at) = (0..expected.len().max(found.len())).find(differs) {
        let found = format!("IRP {irp:p}: {what} differs at byte {at}");
        rules::broken(&rules::FOREIGN_UNTOUCHED, &found);
    }
}

/// Completes the IRP of an SRB whose sender compares what comes back to it with what is given here; it comes back before
/// this returns.
pub fn give_back(irp: *mut IRP, srb: Vec<u8>) {
    let back = Arc::new(AtomicBool::new(false));
    // SAFETY: the caller owns the IRP.
    let pending = unsafe { (*current_location(irp)).Control } & control::PENDING_RETURNED != 0;
    let given = Given {
        irp: snapshot(irp),
        srb,
        pending,
        irql: world::current().irql(),
        back: Arc::clone(&back),
    };
    if let Some(record) = irps().get_mut(&(irp as usize)) {
        record.given = Some(given);
    }
    complete_request(irp);
    if !back.load(Ordering::SeqCst) {
        let found = format!("the completion of IRP {irp:p} was held up");
        rules::broken(&rules::FOREIGN_UNTOUCHED, &found);
    }
}

/// Compares an SRB and its IRP that have come back to their sender with what the port gave.
pub fn check_given(irp: *mut IRP, srb: &[u8]) {
    let Some(given) = irps()
        .get_mut(&(irp as usize))
        .and_then(|record| record.given.take())
    else {
        rules::broken(
            &rules::FOREIGN_UNTOUCHED,
            &format!("IRP {irp:p} did not come from its port"),
        );
    };
    let now = snapshot(irp);
    let (at, here) = (
        current_location_at(irp),
        current_location(irp) as usize - irp as usize,
    );
    // IoCompleteRequest's own, the locations that it has left, and a cancel on another thread.
    let except = [
        CURRENT_LOCATION..CURRENT_LOCATION + 1,
        at..at + 8,
        std::mem::offset_of!(IRP, PendingReturned)..std::mem::offset_of!(IRP, PendingReturned) + 1,
        std::mem::offset_of!(IRP, Cancel)..std::mem::offset_of!(IRP, Cancel) + 1,
        size_of::<IRP>()..here,
    ];
    expect_same(irp, "what came back", &given.irp, &now, &except);
    expect_same(irp, "the SRB that came back", &given.srb, srb, &[]);
    // SAFETY: the IRP is its sender's again.
    let pending = unsafe { (*irp).PendingReturned };
    let irql = world::current().irql();
    if (pending, irql) != (given.pending, given.irql) {
        let found = format!(
            "IRP {irp:p} came back with PendingReturned {pending} at IRQL {irql}, given with {} at {}",
            given.pending, given.irql
        );
        rules::broken(&rules::FOREIGN_UNTOUCHED, &found);
    }
    given.back.store(true, Ordering::SeqCst);
}

fn snapshot(irp: *mut IRP) -> Vec<u8> {
    // SAFETY: a live IRP is as large as its Size says.
    unsafe { std::slice::from_raw_parts(irp.cast::<u8>(), usize::from((*irp).Size)).to_vec() }
}

/// True if the IRP was completed and its completion has not been stopped on the way up, or it is gone.
fn is_completed(irp: *mut IRP) -> bool {
    irps()
        .get(&(irp as usize))
        .is_none_or(|record| record.completed)
}

/// What a caller asks of a stack.
#[derive(Clone, Debug)]
pub struct Call {
    /// Major function.
    pub major: u8,
    /// Minor function.
    pub minor: u8,
    /// Control code, where the major function takes one.
    pub ioctl: u32,
    /// Input bytes of a METHOD_BUFFERED control.
    pub input: Vec<u8>,
    /// Output length.
    pub output_length: u32,
    /// Input length to claim, where it is not that of `input`.
    pub input_length: Option<u32>,
    /// IRQL of the caller.
    pub irql: u8,
    /// Who calls.
    pub caller: Caller,
}

/// Who sends an IRP to a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A driver; RequestorMode is KernelMode.
    Kernel,
    /// A 64-bit process.
    User64,
    /// A 32-bit process, under WOW64.
    User32,
}

impl Call {
    /// A device control without buffers, from PASSIVE_LEVEL.
    pub fn ioctl(code: u32) -> Self {
        Self {
            major: major::IRP_MJ_DEVICE_CONTROL as u8,
            minor: 0,
            ioctl: code,
            input: Vec::new(),
            output_length: 0,
            input_length: None,
            irql: irql::PASSIVE,
            caller: Caller::Kernel,
        }
    }

    /// A request of another major function.
    pub fn major(code: u8, minor: u8) -> Self {
        Self {
            major: code,
            minor,
            ..Self::ioctl(0)
        }
    }
}

/// The controls that a filter answers with Information 0 and without a look at the buffers: RESERVE and RELEASE in their
/// STORAGE, DISK, CDROM and TAPE spellings (ntddstor.h, ntdddisk.h, ntddcdrm.h, ntddtape.h).
pub(crate) const CLAIMED: [u32; 8] = [
    0x002D_4810,
    0x0007_4810,
    0x0002_4810,
    0x001F_4810,
    0x002D_4814,
    0x0007_4814,
    0x0002_4814,
    0x001F_4814,
];

/// A DEVICE_RELATION_TYPE, and the device whose relations are to be asked for anew.
static INVALIDATED: Mutex<Vec<(usize, u32)>> = Mutex::new(Vec::new());

/// IoInvalidateDeviceRelations, of the device at the bottom of a stack.
pub fn note_invalidated(device: *mut DEVICE_OBJECT, kind: u32) {
    let device = device as usize;
    INVALIDATED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push((device, kind));
}

/// The DEVICE_RELATION_TYPEs that were invalidated of `device` since the last call of this.
pub fn take_invalidated(device: *mut DEVICE_OBJECT) -> Vec<u32> {
    let mut all = INVALIDATED.lock().unwrap_or_else(PoisonError::into_inner);
    let ours = all.extract_if(.., |(of, _)| *of == device as usize);
    ours.map(|(_, kind)| kind).collect()
}

/// Builds an IRP for the stack of `device`, as a driver above would.
pub fn build(node: &str, device: *mut DEVICE_OBJECT, call: &Call) -> (*mut IRP, Arc<Pending>) {
    // SAFETY: a live device.
    let irp = allocate_irp(node, unsafe { (*device).StackSize });
    let pending = Arc::new(Pending {
        irp: irp as usize,
        ..Pending::default()
    });
    let ours =
        u32::from(call.major) == major::IRP_MJ_DEVICE_CONTROL && CLAIMED.contains(&call.ioctl);
    let room = call.input.len().max(call.output_length as usize);
    let buffer = if room == 0 {
        null_mut()
    } else {
        pool::allocate(node, "caller's buffer", room)
    };
    if !call.input.is_empty() {
        // SAFETY: the buffer has room for the input.
        unsafe { std::ptr::copy_nonoverlapping(call.input.as_ptr(), buffer, call.input.len()) };
    }
    if let Some(record) = irps().get_mut(&(irp as usize)) {
        record.caller = Some(Arc::clone(&pending));
        record.buffer = buffer;
        record.buffer_length = room;
        record.information_zero = ours;
        record.from_32_bit = call.caller == Caller::User32;
    }
    if ours && !buffer.is_null() {
        // rules::BUFFERS_UNTOUCHED: a touch faults.
        pool::seal(buffer);
    }
    let location = next_location(irp);
    // SAFETY: the IRP is new and has at least one location.
    unsafe {
        (*irp).AssociatedIrp.SystemBuffer = buffer.cast();
        (*irp).RequestorMode = i8::from(call.caller != Caller::Kernel);
        // Whoever completes the IRP sets it; nobody may count on a zero.
        (*irp).IoStatus.Information = 0x5A5A;
        (*location).MajorFunction = call.major;
        (*location).MinorFunction = call.minor;
    }
    let parameters = ioctl_parameters(location);
    // SAFETY: the location's parameters.
    let parameters = unsafe { &mut *parameters };
    parameters.OutputBufferLength = call.output_length;
    parameters.InputBufferLength = call
        .input_length
        .unwrap_or(u32::try_from(call.input.len()).unwrap_or(u32::MAX));
    parameters.IoControlCode = call.ioctl;
    (irp, pending)
}

/// Sends a built IRP to `device` and checks what its dispatch routine returns.
pub fn send(device: *mut DEVICE_OBJECT, irp: *mut IRP, pending: &Pending, level: u8) -> Status {
    let thread = world::current();
    let returned = thread.at_irql(level, "IoCallDriver", || call_driver(device, irp));
    if returned != status::PENDING {
        match pending.done() {
            Some(end) if end.status == returned => {}
            Some(end) => rules::broken(
                &rules::DISPATCH_STATUS,
                &format!(
                    "returned {returned:#010x}, completed with {:#010x}",
                    end.status
                ),
            ),
            None if is_completed(irp) => {}
            None => rules::broken(
                &rules::DISPATCH_STATUS,
                &format!("returned {returned:#010x}, but the IRP is not complete"),
            ),
        }
    }
    returned
}

fn cancel_field(irp: *mut IRP) -> &'static AtomicPtr<c_void> {
    // SAFETY: the field is pointer-sized and aligned, and only touched as an atomic; the IRP outlives the use.
    unsafe { &*(&raw const (*irp).CancelRoutine).cast::<AtomicPtr<c_void>>() }
}

/// IoSetCancelRoutine: true if there was one before.
pub fn set_cancel_routine(irp: *mut IRP, routine: Option<CancelRoutine>) -> bool {
    let new = routine.map_or(null_mut(), |routine| routine as *mut c_void);
    !cancel_field(irp).swap(new, Ordering::SeqCst).is_null()
}

/// True if IoCancelIrp was called on it.
pub fn is_cancelled(irp: *mut IRP) -> bool {
    // SAFETY: a live IRP.
    unsafe { (*irp).Cancel }
}

/// IoCancelIrp: true if a cancel routine was called. An IRP that is gone is not touched.
pub fn cancel(irp: *mut IRP) -> bool {
    cancel_if(irp, |_| true)
}

fn cancel_if(irp: *mut IRP, wanted: impl FnOnce(&Record) -> bool) -> bool {
    let routine = {
        // While the table is held the IRP can't be freed; and whoever has its cancel routine is the one to end it.
        let irps = irps();
        if !irps.get(&(irp as usize)).is_some_and(wanted) {
            return false;
        }
        // SAFETY: the table has it: it is live.
        unsafe { (*irp).Cancel = true };
        cancel_field(irp).swap(null_mut(), Ordering::SeqCst)
    };
    if routine.is_null() {
        return false;
    }
    // SAFETY: stored by `set_cancel_routine`.
    let routine: CancelRoutine = unsafe { std::mem::transmute(routine) };
    // SAFETY: the current location is the device's that set the routine.
    let device = unsafe { (*current_location(irp)).DeviceObject };
    // SAFETY: called as IoCancelIrp does.
    unsafe { routine(device, irp) };
    true
}

/// IRPs of `node` that are still there.
pub fn live_irps(node: &str) -> usize {
    irps().values().filter(|record| record.node == node).count()
}
