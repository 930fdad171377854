//! WDFREQUEST, both kinds: one that a queue presents (claimed: it stands for a caller's IRP) and one that the driver
//! made (created: it has an IRP of its own, which it sends); and the default I/O target. fxrequest.cpp,
//! fxrequestbase.cpp, fxiotarget.cpp; facts 3 to 8 and 10.

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::{Arc, Mutex};

use super::{Body, Framework, Object, body, context_of, lock, of, queue};
use crate::abi::{
    Code, DEVICE_OBJECT, DeviceIoControl, Handle, IOCTL_SCSI_PASS_THROUGH, IRP, SCSI_PASS_THROUGH,
    Status, WDF_REQUEST_COMPLETION_PARAMS, WDF_REQUEST_PARAMETERS, WDF_REQUEST_REUSE_PARAMS,
    WDF_REQUEST_SEND_OPTIONS, WDFMEMORY_OFFSET, irql, major, status,
};
use crate::world::{self, TimerId};
use crate::{io, pool, rules};

pub(super) struct Claimed {
    pub queue: Handle,
    state: Mutex<ClaimedState>,
}

struct ClaimedState {
    irp: *mut IRP,
    mark: Mark,
    cancel: Code,
}

// SAFETY: addresses of the node's memory, used only under the mutex that holds them.
unsafe impl Send for ClaimedState {}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mark {
    Never,
    Marked,
    /// The cancel has taken it: EvtRequestCancel was called or will be.
    Taken,
}

pub(super) struct Created {
    pub target: Handle,
    pub state: Mutex<CreatedState>,
}

#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts about one request"
)]
pub(super) struct CreatedState {
    pub irp: *mut IRP,
    phase: Phase,
    /// WdfRequestCancelSentRequest was called since the last reuse: the next send is refused (facts 10, poisoning).
    cancelled: bool,
    status: Status,
    completion: Option<(Code, *mut c_void)>,
    ioctl: u32,
    output: Option<(Handle, *mut u8, usize)>,
    bounce: *mut u8,
    bounce_size: usize,
    formatted_once: bool,
    has_timer: bool,
    timer: Option<TimerId>,
    /// Counts sends: a timeout that fires late must not end the next one.
    sends: u64,
    timed_out: bool,
    /// Cancels on their way to the IRP. While there is one, the completion waits for it (fxrequestbase.cpp
    /// FxRequestBase::Cancel, m_IrpCompletionReferenceCount): else it could hit the next send.
    cancels: u32,
    completed_meanwhile: bool,
    /// The completion found the timeout's DPC on its way, and is left to it (fxiotarget.cpp RequestCompletionRoutine).
    left_to_timer: bool,
    /// The callers' requests that the driver had when it was sent: only for one of them can it be.
    serves: Vec<Handle>,
}

// SAFETY: as for `ClaimedState`.
unsafe impl Send for CreatedState {}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Idle,
    Formatted,
    Sent,
}

pub(super) struct Target {
    /// Whose default target it is.
    pub owner: Handle,
    pub device: *mut DEVICE_OBJECT,
    pub removed: Mutex<bool>,
}

// SAFETY: the lower device outlives the target.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

const SEND_OPTION_TIMEOUT: u32 = 1;
/// Why a fault may make WdfRequestSend say FALSE: what facts 5, 8 and 10 met.
const SEND_FAILS: &[Status] = &[
    status::INSUFFICIENT_RESOURCES,
    status::INVALID_DEVICE_STATE,
    status::CANCELLED,
    status::REQUEST_NOT_ACCEPTED,
];
const REQUEST_TYPE_DEVICE_CONTROL: u32 = 0xE;

impl Created {
    pub fn new(fx: &Framework, target: Handle, stack_size: i8) -> Self {
        Self {
            target,
            state: Mutex::new(CreatedState {
                irp: io::allocate_irp(&fx.node, stack_size),
                phase: Phase::Idle,
                cancelled: false,
                status: status::SUCCESS,
                completion: None,
                ioctl: 0,
                output: None,
                bounce: null_mut(),
                bounce_size: 0,
                formatted_once: false,
                has_timer: false,
                timer: None,
                sends: 0,
                timed_out: false,
                cancels: 0,
                completed_meanwhile: false,
                left_to_timer: false,
                serves: Vec::new(),
            }),
        }
    }

    pub fn is_sent(&self) -> bool {
        lock(&self.state).phase == Phase::Sent
    }

    /// Deletion: the IRP and the bounce buffer go.
    pub fn dispose(&self) {
        if self.is_sent() {
            rules::broken(
                &rules::SENT_TOUCHED,
                "the request is deleted while it is sent",
            );
        }
        let mut state = lock(&self.state);
        io::free_irp(std::mem::replace(&mut state.irp, null_mut()));
        if !state.bounce.is_null() {
            pool::free(std::mem::replace(&mut state.bounce, null_mut()));
        }
    }

    fn key(&self) -> usize {
        (&raw const self.state) as usize
    }
}

/// The cancel routine of an IRP that waits in a queue or was marked cancelable.
pub(super) unsafe extern "win64" fn cancel_claimed(device: *mut DEVICE_OBJECT, irp: *mut IRP) {
    // SAFETY: the device is one of the framework's: it set this routine.
    let extension = unsafe { (*device).DeviceExtension.cast::<super::Extension>() };
    // SAFETY: the extension lives as long as the device.
    let Some(fx) = (unsafe { (*extension).fx.upgrade() }) else {
        return;
    };
    // The cancel has the routine, and not yet the queue's lock (fxirpqueue.cpp _WdmCancelRoutineInternal).
    world::current().point();
    let Some(request) = lock(&fx.by_irp).get(&(irp as usize)).copied() else {
        return;
    };
    let object = fx.object(request, "Claimed");
    let queue = fx.object(of!(object, Claimed).queue, "Queue");
    {
        let mut state = lock(&of!(object, Claimed).state);
        if state.mark == Mark::Marked {
            state.mark = Mark::Taken;
        }
    }
    fx.request_cancelled(&queue, request);
}

impl Framework {
    pub(super) fn create_claimed(&self, queue: Handle, irp: *mut IRP) -> Handle {
        let state = ClaimedState {
            irp,
            mark: Mark::Never,
            cancel: null(),
        };
        let request = self.create(
            Body::Claimed(Claimed {
                queue,
                state: Mutex::new(state),
            }),
            null(),
            None,
        );
        lock(&self.by_irp).insert(irp as usize, request);
        request
    }

    fn claimed_irp(&self, request: Handle) -> Option<*mut IRP> {
        let object = lock(&self.objects).get(&request).cloned()?;
        let irp = lock(&of!(object, Claimed).state).irp;
        Some(irp)
    }

    /// Takes the cancel routine off a waiting request; false if a cancel has it already.
    pub(super) fn take_cancel_routine(&self, request: Handle) -> bool {
        self.claimed_irp(request)
            .is_some_and(|irp| io::set_cancel_routine(irp, None))
    }

    /// FxIrpQueue::InsertIrpInQueue: false if the request is cancelled already, and nobody else ends it.
    pub(super) fn set_cancel_routine(&self, request: Handle) -> bool {
        let Some(irp) = self.claimed_irp(request) else {
            return false;
        };
        io::set_cancel_routine(irp, Some(cancel_claimed));
        !(io::is_cancelled(irp) && io::set_cancel_routine(irp, None))
    }

    /// The device control that a claimed request stands for.
    pub(super) fn control_parameters(&self, request: Handle) -> DeviceIoControl {
        let irp = self.irp_of(request);
        // SAFETY: a live IRP in this device's location.
        unsafe { *io::ioctl_parameters(io::current_location(irp)) }
    }

    /// WdfRequestGetParameters.
    pub(super) fn parameters(&self, request: Handle, parameters: *mut WDF_REQUEST_PARAMETERS) {
        const SIZE: usize = size_of::<WDF_REQUEST_PARAMETERS>();
        let object = body!(self, request, Claimed);
        let irp = lock(&of!(object, Claimed).state).irp;
        // SAFETY: the driver's structure.
        let parameters = unsafe { &mut *parameters };
        if usize::from(parameters.Size) < SIZE {
            rules::broken(&rules::STRUCTURE_SIZE, "WDF_REQUEST_PARAMETERS");
        }
        // SAFETY: a live IRP in this device's location.
        let location = unsafe { &*io::current_location(irp) };
        parameters.Size = SIZE as u16;
        parameters.MinorFunction = location.MinorFunction;
        parameters.Type = u32::from(location.MajorFunction);
        // SAFETY: four pointer-sized parameters in both.
        parameters.Parameters =
            unsafe { (&raw const location.Parameters).cast::<[u64; 4]>().read() };
    }

    /// The framework completes a request that the driver never saw.
    pub(super) fn complete_undelivered(self: &Arc<Self>, request: Handle, status: Status) {
        let object = self.object(request, "Claimed");
        let irp = lock(&of!(object, Claimed).state).irp;
        self.retire(request, irp);
        finish_irp(irp, status, 0);
    }

    pub(super) fn retire(&self, request: Handle, irp: *mut IRP) {
        lock(&self.by_irp).remove(&(irp as usize));
        self.delete(request);
    }

    pub(super) fn evt_request_cancel(&self, request: Handle) {
        let object = self.object(request, "Claimed");
        let routine = lock(&of!(object, Claimed).state).cancel;
        self.callback(routine, request, "EvtRequestCancel");
    }

    /// The first of these that is marked cancelable, no longer so: a purge cancels it.
    pub(super) fn take_marked(&self, owned: &[Handle]) -> Option<Handle> {
        owned.iter().copied().find(|request| {
            let Some(object) = lock(&self.objects).get(request).cloned() else {
                return false;
            };
            let mut state = lock(&of!(object, Claimed).state);
            let marked = state.mark == Mark::Marked && io::set_cancel_routine(state.irp, None);
            if marked {
                state.mark = Mark::Taken;
            }
            marked
        })
    }

    /// WdfRequestMarkCancelableEx.
    pub(super) fn mark_cancelable(&self, handle: Handle, cancel: Code) -> Status {
        let object = body!(self, handle, Claimed);
        let claimed = of!(object, Claimed);
        let queue = self.object(claimed.queue, "Queue");
        let mut state = lock(&claimed.state);
        if state.mark != Mark::Never {
            rules::broken(&rules::MARK_TWICE, &format!("{:?}", state.mark));
        }
        if Self::is_purged(&queue) {
            return status::CANCELLED;
        }
        state.mark = Mark::Marked;
        state.cancel = cancel;
        io::set_cancel_routine(state.irp, Some(cancel_claimed));
        if io::is_cancelled(state.irp) && io::set_cancel_routine(state.irp, None) {
            state.mark = Mark::Never;
            return status::CANCELLED;
        }
        status::SUCCESS
    }

    /// WdfRequestUnmarkCancelable.
    pub(super) fn unmark_cancelable(&self, handle: Handle) -> Status {
        let object = body!(self, handle, Claimed);
        let mut state = lock(&of!(object, Claimed).state);
        match state.mark {
            Mark::Never => rules::broken(
                &rules::UNMARK_UNMARKED,
                "it was never marked, or the mark was refused",
            ),
            Mark::Marked if io::set_cancel_routine(state.irp, None) => {
                state.mark = Mark::Never;
                status::SUCCESS
            }
            Mark::Marked | Mark::Taken => status::CANCELLED,
        }
    }

    /// WdfRequestCompleteWithInformation.
    pub(super) fn complete(self: &Arc<Self>, handle: Handle, status: Status, information: u64) {
        let object = {
            let objects = lock(&self.objects);
            let object = objects.get(&handle).cloned();
            drop(objects);
            object.unwrap_or_else(|| {
                rules::broken(
                    &rules::COMPLETE_TWICE,
                    &format!("request {handle:#x} is complete and gone"),
                )
            })
        };
        let Body::Claimed(claimed) = &object.body else {
            self.wrong_kind(handle, &object.body, "Claimed")
        };
        let (irp, mark) = {
            let state = lock(&claimed.state);
            (state.irp, state.mark)
        };
        if mark == Mark::Marked {
            rules::broken(&rules::COMPLETE_MARKED, &format!("status {status:#010x}"));
        }
        if io::wants_information_zero(irp) && self.is_sent_for(claimed.queue, handle) {
            rules::broken(
                &rules::CALLER_WHILE_OUT,
                &format!("completed with {status:#010x}"),
            );
        }
        io::expect_proof(irp, || status);
        let queue = self.object(claimed.queue, "Queue");
        self.retire(handle, irp);
        finish_irp(irp, status, information);
        self.request_gone(&queue, handle);
    }

    /// True if a request that is out can be for this one alone. Where the driver had another one too when it was sent, it
    /// may be for that: then this one's command is back, and its completion is under way.
    fn is_sent_for(&self, queue: Handle, request: Handle) -> bool {
        let device = of!(self.object(queue, "Queue"), Queue).device;
        self.children(device).iter().any(|child| match &child.body {
            Body::Created(created) => {
                let state = lock(&created.state);
                let live = |served: &&Handle| self.claimed_irp(**served).is_some();
                let mut served = state.serves.iter().filter(live);
                state.phase == Phase::Sent
                    && served.next() == Some(&request)
                    && served.next().is_none()
            }
            _ => false,
        })
    }

    /// The request's IRP, whichever kind it is of.
    pub(super) fn irp_of(&self, handle: Handle) -> *mut IRP {
        let object = self.object(handle, "WDFREQUEST");
        match &object.body {
            Body::Claimed(claimed) => lock(&claimed.state).irp,
            Body::Created(created) => lock(&created.state).irp,
            other => self.wrong_kind(handle, other, "WDFREQUEST"),
        }
    }

    /// WdfRequestRetrieveOutputBuffer: the system buffer, if it holds `minimum` bytes.
    pub(super) fn output_buffer(
        &self,
        handle: Handle,
        minimum: usize,
    ) -> Result<(*mut c_void, usize), Status> {
        let object = body!(self, handle, Claimed);
        let irp = lock(&of!(object, Claimed).state).irp;
        // SAFETY: a live IRP in this device's location.
        let length =
            unsafe { (*io::ioctl_parameters(io::current_location(irp))).OutputBufferLength }
                as usize;
        if length == 0 || length < minimum {
            return Err(status::BUFFER_TOO_SMALL); // C0000023, also for length 0 (facts 18)
        }
        // SAFETY: a live IRP; plain data in a union.
        Ok((unsafe { (*irp).AssociatedIrp.SystemBuffer }, length))
    }

    /// WdfRequestReuse.
    pub(super) fn reuse(&self, handle: Handle, parameters: &WDF_REQUEST_REUSE_PARAMS) -> Status {
        let object = body!(self, handle, Created);
        let mut state = lock(&of!(object, Created).state);
        if parameters.Size as usize != size_of::<WDF_REQUEST_REUSE_PARAMS>() {
            return status::INVALID_PARAMETER;
        }
        if state.phase == Phase::Sent {
            rules::broken(&rules::SENT_TOUCHED, "reused while it is sent");
        }
        state.phase = Phase::Idle;
        state.cancelled = false;
        state.timed_out = false;
        state.completion = None;
        state.output = None;
        state.status = parameters.Status;
        io::reuse_irp(state.irp);
        status::SUCCESS
    }

    /// WdfRequestAllocateTimer.
    pub(super) fn allocate_timer(&self, handle: Handle) -> Status {
        let object = body!(self, handle, Created);
        let mut state = lock(&of!(object, Created).state);
        if !state.has_timer && self.allocation_fails("request timer") {
            return status::INSUFFICIENT_RESOURCES;
        }
        state.has_timer = true;
        status::SUCCESS
    }

    /// WdfIoTargetFormatRequestForIoctl, METHOD_BUFFERED: input is copied to the bounce buffer now (facts 4).
    pub(super) fn format_ioctl(
        &self,
        target: Handle,
        request: Handle,
        ioctl: u32,
        input: (Handle, *const WDFMEMORY_OFFSET),
        output: (Handle, *const WDFMEMORY_OFFSET),
    ) -> Status {
        let target = body!(self, target, Target);
        let object = body!(self, request, Created);
        let mut state = lock(&of!(object, Created).state);
        if state.phase == Phase::Sent {
            rules::broken(&rules::SENT_TOUCHED, "formatted while it is sent");
        }
        if *lock(&of!(target, Target).removed) {
            return status::INVALID_DEVICE_STATE;
        }
        let (input, output) = match (self.part(input), self.part(output)) {
            (Ok(input), Ok(output)) => (input, output),
            (Err(status), _) | (_, Err(status)) => return status,
        };
        if !state.formatted_once && self.allocation_fails("I/O context") {
            return status::INSUFFICIENT_RESOURCES;
        }
        state.formatted_once = true;
        let room = input
            .map_or(0, |(_, _, size)| size)
            .max(output.map_or(0, |(_, _, size)| size));
        if room > state.bounce_size {
            if self.allocation_fails("bounce buffer") {
                return status::INSUFFICIENT_RESOURCES;
            }
            let new = pool::allocate(&self.node, "bounce buffer", room);
            let old = std::mem::replace(&mut state.bounce, new);
            state.bounce_size = room;
            if !old.is_null() {
                pool::free(old);
            }
        }
        if let Some((_, address, size)) = input {
            // SAFETY: the WDFMEMORY has `size` bytes, the bounce buffer at least as many.
            unsafe { std::ptr::copy_nonoverlapping(address, state.bounce, size) };
        }
        let location = io::next_location(state.irp);
        // SAFETY: the driver's IRP is not on its way; it has a next location.
        unsafe {
            *location = std::mem::zeroed();
            (*location).MajorFunction = major::IRP_MJ_DEVICE_CONTROL as u8;
            (*state.irp).AssociatedIrp.SystemBuffer = state.bounce.cast();
            (*state.irp).UserBuffer = output.map_or(null_mut(), |(_, address, _)| address.cast());
        }
        // SAFETY: the location's parameters.
        let parameters = unsafe { &mut *io::ioctl_parameters(location) };
        parameters.InputBufferLength =
            u32::try_from(input.map_or(0, |(_, _, size)| size)).unwrap_or(u32::MAX);
        parameters.OutputBufferLength =
            u32::try_from(output.map_or(0, |(_, _, size)| size)).unwrap_or(u32::MAX);
        parameters.IoControlCode = ioctl;
        state.ioctl = ioctl;
        state.output = output;
        state.phase = Phase::Formatted;
        status::SUCCESS
    }

    /// The part of a WDFMEMORY that a format names; no offset and length 0 both mean all of it (facts 4).
    #[allow(clippy::type_complexity)]
    fn part(
        &self,
        (memory, offset): (Handle, *const WDFMEMORY_OFFSET),
    ) -> Result<Option<(Handle, *mut u8, usize)>, Status> {
        if memory == 0 {
            return Ok(None);
        }
        let object = self.object(memory, "Memory");
        let Body::Memory { address, size } = object.body else {
            self.wrong_kind(memory, &object.body, "Memory")
        };
        // SAFETY: null or the caller's structure.
        let (start, length) = unsafe { offset.as_ref() }
            .map_or((0, 0), |offset| (offset.BufferOffset, offset.BufferLength));
        let length = if length == 0 {
            size.saturating_sub(start)
        } else {
            length
        };
        if start.checked_add(length).is_none_or(|end| end > size) {
            return Err(status::INTEGER_OVERFLOW);
        }
        Ok(Some((memory, address.wrapping_add(start), length)))
    }

    /// WdfRequestSetCompletionRoutine: kept for one completion (facts 5).
    pub(super) fn set_completion(&self, handle: Handle, routine: Code, context: *mut c_void) {
        let object = body!(self, handle, Created);
        lock(&of!(object, Created).state).completion =
            (!routine.is_null()).then_some((routine, context));
    }

    /// WdfRequestGetStatus.
    pub(super) fn request_status(&self, handle: Handle) -> Status {
        let object = body!(self, handle, Created);
        let state = lock(&of!(object, Created).state);
        state.status
    }

    /// WdfRequestSend: false means that no completion routine runs; the status says why.
    pub(super) fn send(
        self: &Arc<Self>,
        request: Handle,
        target: Handle,
        options: Option<&WDF_REQUEST_SEND_OPTIONS>,
    ) -> bool {
        let target = body!(self, target, Target);
        let object = body!(self, request, Created);
        let created = of!(object, Created);
        let timeout = options
            .filter(|options| options.Flags & SEND_OPTION_TIMEOUT != 0)
            .map(|o| o.Timeout);
        let irp = {
            let mut state = lock(&created.state);
            if state.phase == Phase::Sent {
                rules::broken(&rules::SENT_TOUCHED, "sent while it is sent");
            }
            let fault = self.world.call_fails("WdfRequestSend", SEND_FAILS);
            let refused = match () {
                () if options
                    .is_some_and(|o| o.Size as usize != size_of::<WDF_REQUEST_SEND_OPTIONS>()) =>
                {
                    rules::broken(&rules::STRUCTURE_SIZE, "WDF_REQUEST_SEND_OPTIONS")
                }
                () if options.is_some_and(|o| o.Flags & !SEND_OPTION_TIMEOUT != 0) => {
                    rules::broken(&rules::NOT_MODELLED, "a send option other than the timeout")
                }
                () if state.phase != Phase::Formatted => Some(status::REQUEST_NOT_ACCEPTED),
                () if state.cancelled => Some(status::CANCELLED),
                () if *lock(&of!(target, Target).removed) => Some(status::INVALID_DEVICE_STATE),
                () if timeout.is_some()
                    && !state.has_timer
                    && self.allocation_fails("request timer") =>
                {
                    Some(status::INSUFFICIENT_RESOURCES)
                }
                () => fault,
            };
            if let Some(refused) = refused {
                state.status = refused;
                return false;
            }
            state.has_timer |= timeout.is_some();
            state.phase = Phase::Sent;
            state.sends += 1;
            state.serves = self.in_hand(of!(target, Target).owner);
            let send = state.sends;
            if let Some(timeout) = timeout.filter(|&timeout| timeout != 0) {
                let (fx, object) = (Arc::clone(self), Arc::clone(&object));
                // A positive one is a time since 1601, and past.
                let due = self.world.now() + timeout.min(0).unsigned_abs();
                state.timer = Some(self.world.set_timer(
                    due,
                    "send timeout's DPC",
                    irql::DISPATCH,
                    Box::new(move || fx.send_timed_out(&object, send)),
                ));
            }
            io::set_completion_routine(state.irp, sent_completed, context_of(request));
            // SAFETY: the next location was formatted; its context tells the routine which request it is of.
            unsafe { (*io::next_location(state.irp)).FileObject = null_mut() };
            io::set_owner(state.irp, self);
            state.irp
        };
        world::current().point();
        io::call_driver(of!(target, Target).device, irp);
        true
    }

    fn send_timed_out(self: &Arc<Self>, object: &Object, send: u64) {
        world::current().point();
        let irp = {
            let mut state = lock(&of!(object, Created).state);
            if state.phase != Phase::Sent || state.sends != send {
                return;
            }
            state.timer = None;
            // Also if someone else asked for the cancel: the two can't be told apart any more.
            state.timed_out = true;
            if !std::mem::take(&mut state.left_to_timer) {
                drop(state);
                self.cancel_irp(object);
                return;
            }
            if state.cancels > 0 {
                return;
            }
            state.completed_meanwhile = false;
            state.irp
        };
        self.deliver(object, irp);
    }

    /// WdfRequestCancelSentRequest: true only if the device below had a cancel routine, which was called (facts 10).
    pub(super) fn cancel_sent(self: &Arc<Self>, request: Handle) -> bool {
        let object = body!(self, request, Created);
        lock(&of!(object, Created).state).cancelled = true;
        self.cancel_irp(&object)
    }

    fn cancel_irp(self: &Arc<Self>, object: &Object) -> bool {
        let created = of!(object, Created);
        let irp = {
            let mut state = lock(&created.state);
            if state.phase != Phase::Sent {
                return false;
            }
            state.cancels += 1;
            state.irp
        };
        let called = io::cancel(irp);
        let completed = {
            let mut state = lock(&created.state);
            state.cancels -= 1;
            state.cancels == 0
                && !state.left_to_timer
                && std::mem::take(&mut state.completed_meanwhile)
        };
        if completed {
            self.deliver(object, irp);
        }
        called
    }

    /// The target goes at removal: what is out is cancelled and waited for (facts 9).
    pub(super) fn remove_target(self: &Arc<Self>, target: &Object, device: Handle) {
        *lock(&of!(target, Target).removed) = true;
        for child in self.children(device) {
            if let Body::Created(created) = &child.body
                && created.is_sent()
            {
                self.cancel_sent(child.handle);
                world::current().wait(created.key(), || !created.is_sent());
            }
        }
    }

    /// The callers' requests that the driver has of this device.
    fn in_hand(&self, device: Handle) -> Vec<Handle> {
        let children = self.children(device).into_iter();
        let queues = children.filter(|child| queue::is_queue(child));
        queues.flat_map(|queue| of!(queue, Queue).owned()).collect()
    }

    /// Notes a proof for those of these callers' requests that are not complete: for one success, whichever has it.
    fn note_proof(&self, requests: &[Handle], operation_code: u8) {
        let irps = requests
            .iter()
            .filter_map(|&request| self.claimed_irp(request));
        io::note_proof(irps, operation_code);
    }

    fn sent_is_complete(self: &Arc<Self>, request: Handle, irp: *mut IRP) {
        let object = self.object(request, "Created");
        {
            let mut state = lock(&of!(object, Created).state);
            let timer = state.timer.take();
            state.left_to_timer = timer.is_some_and(|timer| !self.world.cancel_timer(timer));
            state.completed_meanwhile = state.cancels > 0 || state.left_to_timer;
            if state.completed_meanwhile {
                return;
            }
        }
        self.deliver(&object, irp);
    }

    /// Gives the completed request to its completion routine.
    fn deliver(self: &Arc<Self>, object: &Object, irp: *mut IRP) {
        let (request, created) = (object.handle, of!(object, Created));
        // SAFETY: the IRP is back with its maker.
        let (mut status, information) = unsafe {
            (
                (*irp).IoStatus.Anonymous.Status,
                (*irp).IoStatus.Information,
            )
        };
        let (completion, parameters, target, proven) = {
            let mut state = lock(&created.state);
            if state.timed_out && status == status::CANCELLED {
                status = status::IO_TIMEOUT;
            }
            state.phase = Phase::Idle;
            state.status = status;
            copy_back(&state, information);
            let proven = proof(&state, status, information);
            let memory = state.output.map_or(0, |(memory, ..)| memory);
            let parameters = WDF_REQUEST_COMPLETION_PARAMS {
                Size: size_of::<WDF_REQUEST_COMPLETION_PARAMS>() as u32,
                Type: REQUEST_TYPE_DEVICE_CONTROL,
                IoStatus: [u64::from(status.cast_unsigned()), information as u64],
                Parameters: [
                    u64::from(state.ioctl),
                    memory,
                    0,
                    memory,
                    0,
                    information as u64,
                ],
            };
            let serves = std::mem::take(&mut state.serves);
            let completion = state.completion.take();
            let proven = proven.map(|operation_code| (serves, operation_code));
            (completion, parameters, created.target, proven)
        };
        if let Some((requests, operation_code)) = proven {
            self.note_proof(&requests, operation_code);
        }
        self.world.wake(created.key());
        let Some((routine, context)) = completion else {
            return;
        };
        // SAFETY: WdfRequestSetCompletionRoutine takes an EVT_WDF_REQUEST_COMPLETION_ROUTINE.
        let routine = unsafe {
            std::mem::transmute::<
                Code,
                unsafe extern "win64" fn(
                    Handle,
                    Handle,
                    *const WDF_REQUEST_COMPLETION_PARAMS,
                    *mut c_void,
                ),
            >(routine)
        };
        // SAFETY: called as the framework calls it.
        self.call_driver("completion routine", || unsafe {
            routine(request, target, &raw const parameters, context);
        });
    }
}

/// The operation code of a command whose answer proves that the target executed it: GOOD in a structure that came back with
/// success, or a recovered error of this command (SPC-4 4.5).
fn proof(state: &CreatedState, status: Status, information: usize) -> Option<u8> {
    const STRUCTURE: usize = size_of::<SCSI_PASS_THROUGH>();
    if state.ioctl != IOCTL_SCSI_PASS_THROUGH || information < STRUCTURE {
        return None;
    }
    // SAFETY: the buffer has at least `information` bytes.
    let (structure, came) = unsafe {
        (
            state.bounce.cast::<SCSI_PASS_THROUGH>().read(),
            std::slice::from_raw_parts(state.bounce, information),
        )
    };
    let sense = &came[STRUCTURE..];
    let key = match sense.first().map(|code| code & 0x7F) {
        Some(0x70) => sense.get(2),
        Some(0x72) => sense.get(1),
        _ => None,
    };
    let recovered = structure.SenseInfoLength > 1 && key.is_some_and(|key| key & 0x0F == 1);
    let proven = match structure.ScsiStatus {
        0x00 => status::is_success(status),
        0x02 => recovered,
        _ => false,
    };
    proven.then_some(structure.Cdb[0])
}

/// METHOD_BUFFERED copy-back: Information bytes, whatever the status and without a clamp (facts 4); one that would run
/// over the buffer is the port driver's fault and stops the run.
fn copy_back(state: &CreatedState, information: usize) {
    let Some((_, address, size)) = state.output else {
        return;
    };
    assert!(
        information <= size,
        "the rig's port driver gave Information {information} for {size} bytes"
    );
    // SAFETY: both buffers have at least `information` bytes.
    unsafe { std::ptr::copy_nonoverlapping(state.bounce, address, information) };
}

pub(super) fn finish_irp(irp: *mut IRP, status: Status, information: u64) {
    // SAFETY: the IRP is the framework's until it is completed.
    unsafe {
        (*irp).IoStatus.Anonymous.Status = status;
        (*irp).IoStatus.Information = usize::try_from(information).unwrap_or(usize::MAX);
    }
    io::complete_request(irp);
}

/// The framework's completion routine in the location below.
unsafe extern "win64" fn sent_completed(
    _: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    context: *mut c_void,
) -> Status {
    let Some(fx) = io::owner(irp) else {
        return status::MORE_PROCESSING_REQUIRED;
    };
    fx.sent_is_complete(context as Handle, irp);
    status::MORE_PROCESSING_REQUIRED
}
