//! WDFQUEUE: fxioqueue.cpp, step by step, its lock dropped where it drops its own. All that happens to a queue is done by
//! its dispatch loop, in whatever thread meets it first; a thread that finds another one in the loop leaves its work to
//! that one, so that EvtRequestCancel may run late and on another thread than the canceller's.
//!
//! The lock is a spin lock: other threads get their turn only where it is dropped, at a point there. The one place where
//! that shows is [`Framework::insert_new`].

use std::collections::VecDeque;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Body, Framework, Object, lock, of, request};
use crate::abi::{Code, Handle, IRP, Status, irql, status};
use crate::{io, rules, world};

/// WDF_IO_QUEUE_DISPATCH_TYPE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Sequential,
    /// With the number of requests that the driver may have at a time.
    Parallel(usize),
    Manual,
}

pub(super) struct Queue {
    pub device: Handle,
    pub kind: Kind,
    pub passive: bool,
    pub evt_device_control: Code,
    pub state: Mutex<QueueState>,
}

// SAFETY: the callback's address is the image's, which outlives the queue.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

/// Each field with its name in FxIoQueue.
#[derive(Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts about one queue, as the framework keeps them"
)]
pub(super) struct QueueState {
    /// m_Queue: with the driver not yet. One whose cancel routine was called stays until that routine has the lock.
    waiting: VecDeque<Handle>,
    /// m_DriverOwned and m_DriverIoCount: given to the driver and not completed.
    owned: Vec<Handle>,
    /// m_Cancelled: given to the driver and cancelled, EvtRequestCancel not called yet.
    cancelled: VecDeque<Handle>,
    /// m_Dispatching: threads in the dispatch loop.
    dispatching: u32,
    /// m_WorkItemQueued, and m_RequeueDeferredDispatcher: it is needed once more.
    work_item_queued: bool,
    dispatch_again: bool,
    /// m_ReadyNotify and its context.
    ready_notify: Option<(Code, *mut c_void)>,
    /// m_TransitionFromEmpty, and m_ForceTransitionFromEmptyWhenAddingNewRequest.
    is_ready: bool,
    ready_with_next: bool,
    /// m_CancelDispatchedRequests, and no WdfIoQueueAcceptRequests: a purge has begun. Nothing is accepted, and a mark is
    /// answered with CANCELLED.
    purged: bool,
    power: Power,
    /// m_PowerDriverNotified: what the driver had when the purge got to it.
    awaited: Vec<Handle>,
    /// m_Disposing, m_Deleted.
    disposing: bool,
    deleted: bool,
}

// SAFETY: addresses of the image and of the driver's memory, handed back to it.
unsafe impl Send for QueueState {}

/// m_PowerState of a queue that is not power managed: it leaves On for good, at the device's removal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Power {
    #[default]
    On,
    Purging,
    Off,
}

type Locked<'a> = MutexGuard<'a, QueueState>;

impl Queue {
    /// What the driver has of it.
    pub fn owned(&self) -> Vec<Handle> {
        lock(&self.state).owned.clone()
    }

    /// WdfIoQueueGetState: the WDF_IO_QUEUE_STATE, how many wait, how many the driver has.
    pub fn state(&self) -> (u32, u32, u32) {
        const ACCEPT_REQUESTS: u32 = 1;
        const DISPATCH_REQUESTS: u32 = 2;
        const NO_REQUESTS: u32 = 4;
        const DRIVER_NO_REQUESTS: u32 = 8;
        let state = lock(&self.state);
        let bit = |wanted: bool, bit: u32| if wanted { bit } else { 0 };
        let bits = DISPATCH_REQUESTS
            | bit(!state.purged, ACCEPT_REQUESTS)
            | bit(state.waiting.is_empty(), NO_REQUESTS)
            | bit(state.owned.is_empty(), DRIVER_NO_REQUESTS);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        (bits, count(state.waiting.len()), count(state.owned.len()))
    }

    fn key(&self) -> usize {
        (&raw const self.state) as usize
    }
}

impl QueueState {
    /// FxIoQueue::CheckTransitionFromEmpty, after a request was put in.
    fn check_ready(&mut self) {
        if self.waiting.len() == 1 || self.ready_with_next {
            self.is_ready = true;
            self.ready_with_next = false;
        }
    }

    /// FxRequest::GetNextRequest: the first whose cancel routine can be taken off. One that a cancel has is left to it.
    fn take_next(&mut self, fx: &Framework) -> Option<Handle> {
        let takes = |&request: &Handle| fx.take_cancel_routine(request);
        let place = self.waiting.iter().position(takes)?;
        self.waiting.remove(place)
    }
}

impl Framework {
    /// FxIoQueue::QueueRequest for an IRP that the dispatch callback hands over. The IRP is the framework's from here on.
    pub(super) fn enqueue(self: &Arc<Self>, queue: &Arc<Object>, irp: *mut IRP) -> Status {
        if self.allocation_fails("WDFREQUEST") {
            return complete_with(irp, status::INSUFFICIENT_RESOURCES);
        }
        let request = self.create_claimed(queue.handle, irp);
        let state = lock(&of!(queue, Queue).state);
        if state.purged {
            drop(state);
            self.retire(request, irp);
            return complete_with(irp, status::INVALID_DEVICE_STATE);
        }
        io::mark_pending(irp);
        self.dispatch_events(queue, state, Some(request));
        status::PENDING
    }

    /// FxIoQueue::InsertNewRequestLocked. True if there is nothing left to insert. A request that is cancelled already is
    /// completed, and for that **the lock is dropped in the middle of the dispatch loop**: then the answer is false.
    fn insert_new<'a>(
        self: &Arc<Self>,
        queue: &'a Arc<Object>,
        mut state: Locked<'a>,
        new: &mut Option<Handle>,
    ) -> (Locked<'a>, bool) {
        let Some(request) = new.take() else {
            return (state, true);
        };
        if self.set_cancel_routine(request) {
            state.waiting.push_back(request);
            state.check_ready();
            return (state, true);
        }
        drop(state);
        world::current().point();
        self.complete_undelivered(request, status::CANCELLED);
        world::current().point();
        (lock(&of!(queue, Queue).state), false)
    }

    /// A cancel has taken the cancel routine of a request that waits or is marked cancelable, and called it.
    pub(super) fn request_cancelled(self: &Arc<Self>, queue: &Arc<Object>, request: Handle) {
        let mut state = lock(&of!(queue, Queue).state);
        let waits = state.waiting.iter().position(|&other| other == request);
        if let Some(place) = waits {
            // FxIrpQueue::_WdmCancelRoutineInternal, FxIoQueue::_IrpCancelForQueue
            state.waiting.remove(place);
            self.cancel_for_queue(queue, state, request);
        } else {
            // FxIoQueue::_IrpCancelForDriver
            drop(state);
            self.cancel_for_driver(queue, request);
        }
    }

    /// FxIoQueue::CancelForQueue: the framework completes the request, the driver hears nothing (facts 10).
    fn cancel_for_queue(self: &Arc<Self>, queue: &Arc<Object>, state: Locked<'_>, request: Handle) {
        drop(state);
        world::current().point();
        self.complete_undelivered(request, status::CANCELLED);
        world::current().point();
        self.dispatch_internal(queue, lock(&of!(queue, Queue).state));
    }

    /// FxIoQueue::CancelForDriver, called without the lock.
    fn cancel_for_driver(self: &Arc<Self>, queue: &Arc<Object>, request: Handle) {
        world::current().point();
        let mut state = lock(&of!(queue, Queue).state);
        state.cancelled.push_back(request);
        self.dispatch_internal(queue, state);
    }

    /// FxIoQueue::DispatchInternalEvents: the loop, unless a thread is in it.
    fn dispatch_internal(self: &Arc<Self>, queue: &Arc<Object>, state: Locked<'_>) {
        if state.dispatching == 0 {
            self.dispatch_events(queue, state, None);
        }
    }

    /// FxIoQueue::CanThreadDispatchEventsLocked, where it says no: the work item does it.
    fn post_work_item(self: &Arc<Self>, queue: &Arc<Object>, state: &mut QueueState) {
        if std::mem::replace(&mut state.work_item_queued, true) {
            return;
        }
        let (fx, queue) = (Arc::clone(self), Arc::clone(queue));
        // FxIoQueue::DeferredDispatchRequestsFromWorkerThread
        let job = move || {
            let body = of!(queue, Queue);
            let mut state = lock(&body.state);
            state.dispatch_again = false;
            fx.dispatch_events(&queue, state, None);
            let mut state = lock(&body.state);
            state.work_item_queued = false;
            if !state.deleted && std::mem::take(&mut state.dispatch_again) {
                fx.post_work_item(&queue, &mut state);
            }
            drop(state);
            fx.world.wake(body.key());
        };
        self.world
            .spawn("queue's work item", irql::PASSIVE, Box::new(job));
    }

    /// FxIoQueue::DispatchEvents. `new` came just now, and is in no list yet.
    fn dispatch_events<'a>(
        self: &Arc<Self>,
        queue: &'a Arc<Object>,
        mut state: Locked<'a>,
        mut new: Option<Handle>,
    ) {
        let body = of!(queue, Queue);
        if state.deleted {
            return;
        }
        if body.passive && world::current().irql() > irql::PASSIVE {
            self.post_work_item(queue, &mut state);
            state.dispatch_again = true;
            drop(self.insert_new(queue, state, &mut new));
            return;
        }
        state.dispatching += 1;
        while let Next::Again(held) = self.dispatch_one(queue, state, &mut new) {
            state = held;
        }
        self.world.wake(body.key());
    }

    /// One round of the loop in FxIoQueue::DispatchEvents. Power first, then what is cancelled, then requests.
    fn dispatch_one<'a>(
        self: &Arc<Self>,
        queue: &'a Arc<Object>,
        mut state: Locked<'a>,
        new: &mut Option<Handle>,
    ) -> Next<'a> {
        let body = of!(queue, Queue);
        if !state.cancelled.is_empty() {
            let (held, inserted) = self.insert_new(queue, state, new);
            if !inserted {
                return Next::Again(held);
            }
            return Next::Again(self.process_cancelled(queue, held));
        }
        if state.power == Power::Purging {
            let (mut held, inserted) = self.insert_new(queue, state, new);
            // FxIoQueue::ProcessPowerEvents: off when the driver has nothing of what it had, and no other thread is here.
            let off = inserted && held.awaited.is_empty() && held.dispatching == 1;
            if off {
                held.power = Power::Off;
            }
            return if off || !inserted {
                Next::Again(held)
            } else {
                done(held)
            };
        }
        let total = state.waiting.len() + state.owned.len() + usize::from(new.is_some());
        if state.disposing && total == 0 && state.dispatching == 1 {
            state.deleted = true;
            return done(state);
        }
        let closed = state.power == Power::Off
            || match body.kind {
                Kind::Manual => true,
                Kind::Sequential => !state.owned.is_empty(),
                Kind::Parallel(most) => state.owned.len() >= most,
            };
        if closed {
            let (mut held, inserted) = self.insert_new(queue, state, new);
            if !inserted {
                return Next::Again(held);
            }
            return match held.ready_notify {
                Some(notify) if held.power == Power::On && held.is_ready => {
                    held.is_ready = false;
                    drop(held);
                    self.notify_ready(queue, notify);
                    Next::Again(lock(&body.state))
                }
                _ => done(held),
            };
        }
        // From here to its place in `owned`, the head is in no list and doesn't count.
        let request = if let Some(head) = state.take_next(self) {
            (state, _) = self.insert_new(queue, state, new);
            head
        } else if let Some(new) = new.take() {
            state.is_ready = true;
            state.ready_with_next = false;
            new
        } else {
            return done(state);
        };
        state.owned.push(request);
        drop(state);
        self.present(queue, request);
        world::current().point();
        Next::Again(lock(&body.state))
    }

    /// FxIoQueue::ProcessCancelledRequests.
    fn process_cancelled<'a>(
        self: &Arc<Self>,
        queue: &'a Arc<Object>,
        mut state: Locked<'a>,
    ) -> Locked<'a> {
        while let Some(request) = state.cancelled.pop_front() {
            drop(state);
            world::current().point();
            self.evt_request_cancel(request);
            world::current().point();
            state = lock(&of!(queue, Queue).state);
        }
        state
    }

    /// FxIoQueue::ProcessReadyNotify. Two threads may be in the callback at once: neither keeps the other from the loop.
    fn notify_ready(&self, queue: &Object, (routine, context): (Code, *mut c_void)) {
        world::current().point();
        // SAFETY: WdfIoQueueReadyNotify takes an EVT_WDF_IO_QUEUE_STATE.
        let routine = unsafe {
            std::mem::transmute::<Code, unsafe extern "win64" fn(Handle, *mut c_void)>(routine)
        };
        // SAFETY: called as the framework calls it.
        self.call_driver("EvtIoQueueState", || unsafe {
            routine(queue.handle, context);
        });
        world::current().point();
    }

    /// Hands a request to EvtIoDeviceControl.
    fn present(&self, queue: &Object, request: Handle) {
        // SAFETY: the configuration named an EVT_WDF_IO_QUEUE_IO_DEVICE_CONTROL.
        let routine = unsafe {
            std::mem::transmute::<Code, unsafe extern "win64" fn(Handle, Handle, usize, usize, u32)>(
                of!(queue, Queue).evt_device_control,
            )
        };
        let parameters = self.control_parameters(request);
        let (output, input) = (
            parameters.OutputBufferLength as usize,
            parameters.InputBufferLength as usize,
        );
        self.call_driver("EvtIoDeviceControl", || {
            // SAFETY: called as the framework calls it.
            unsafe {
                routine(
                    queue.handle,
                    request,
                    output,
                    input,
                    parameters.IoControlCode,
                );
            };
        });
    }

    /// WdfIoQueueReadyNotify (FxIoQueue::ReadyNotify).
    pub(super) fn ready_notify(
        self: &Arc<Self>,
        queue: &Arc<Object>,
        routine: Code,
        context: *mut c_void,
    ) -> Status {
        let body = of!(queue, Queue);
        let mut state = lock(&body.state);
        if body.kind != Kind::Manual || state.ready_notify.is_some() || routine.is_null() {
            let registered = state.ready_notify.is_some();
            drop(state);
            // The framework's verifier breaks here, and to be told no more asks for a stopped queue.
            let found = format!(
                "ready notification of a {:?} queue, the second: {registered}",
                body.kind
            );
            rules::broken(&rules::NOT_MODELLED, &found);
        }
        state.ready_notify = Some((routine, context));
        self.dispatch_events(queue, state, None);
        status::SUCCESS
    }

    /// WdfIoQueueRetrieveNextRequest (FxIoQueue::GetRequest).
    pub(super) fn retrieve_next(&self, queue: &Object) -> Result<Handle, Status> {
        let body = of!(queue, Queue);
        let mut state = lock(&body.state);
        match body.kind {
            Kind::Parallel(_) => return Err(status::INVALID_DEVICE_STATE),
            Kind::Sequential if state.owned.is_empty() => {
                drop(state);
                rules::broken(
                    &rules::NOT_MODELLED,
                    "a race for a sequential queue's next request",
                )
            }
            Kind::Sequential | Kind::Manual => {}
        }
        if state.power == Power::Off {
            return Err(status::WDF_PAUSED);
        }
        let Some(request) = state.take_next(self) else {
            // Those that are there have a cancel on its way: the next one to come is told of all the same.
            state.ready_with_next |= !state.waiting.is_empty();
            return Err(status::NO_MORE_ENTRIES);
        };
        state.owned.push(request);
        Ok(request)
    }

    /// FxIoQueue::RequestCompletedCallback: the next one may come, perhaps inside this call (facts 11).
    pub(super) fn request_gone(self: &Arc<Self>, queue: &Arc<Object>, request: Handle) {
        let body = of!(queue, Queue);
        let mut state = lock(&body.state);
        state.owned.retain(|&other| other != request);
        state.awaited.retain(|&other| other != request);
        self.dispatch_internal(queue, state);
    }

    /// True if a mark is refused because of a purge (fxioqueue.cpp: m_CancelDispatchedRequests).
    pub(super) fn is_purged(queue: &Object) -> bool {
        lock(&of!(queue, Queue).state).purged
    }

    /// FxIoQueue::QueuePurge: waiting requests are CANCELLED by the framework, marked ones get EvtRequestCancel (facts 9).
    /// What waits meanwhile may still be presented, one by one.
    fn queue_purge(self: &Arc<Self>, queue: &Arc<Object>) {
        let body = of!(queue, Queue);
        lock(&body.state).purged = true;
        loop {
            world::current().point();
            let mut state = lock(&body.state);
            let Some(request) = state.take_next(self) else {
                break;
            };
            self.cancel_for_queue(queue, state, request);
        }
        while let Some(request) = self.take_marked(&body.owned()) {
            self.cancel_for_driver(queue, request);
        }
        self.dispatch_events(queue, lock(&body.state), None);
    }

    /// The purge at removal, of a queue that is not power managed (FxIoQueue::StopProcessingForPower): the calling thread
    /// waits until the driver has completed all that it has.
    pub(super) fn purge(self: &Arc<Self>, queue: &Arc<Object>) {
        let body = of!(queue, Queue);
        self.queue_purge(queue);
        world::current().point();
        let mut state = lock(&body.state);
        state.power = Power::Purging;
        let owned = state.owned.clone();
        state.awaited = owned;
        self.dispatch_events(queue, state, None);
        world::current().wait(body.key(), || lock(&body.state).power == Power::Off);
    }

    /// FxIoQueue::Dispose: waits until nothing is left of any request, and the work item has ended.
    pub(super) fn dispose_queue(self: &Arc<Self>, queue: &Arc<Object>) {
        let body = of!(queue, Queue);
        self.queue_purge(queue);
        let mut state = lock(&body.state);
        state.disposing = true;
        self.dispatch_events(queue, state, None);
        world::current().wait(body.key(), || {
            let state = lock(&body.state);
            state.deleted && !state.work_item_queued
        });
    }
}

/// Whether the loop goes on.
enum Next<'a> {
    Again(Locked<'a>),
    Done,
}

fn done(mut state: Locked<'_>) -> Next<'_> {
    // Under the hold that found nothing to do: whoever adds something sees that the loop is over.
    state.dispatching -= 1;
    Next::Done
}

fn complete_with(irp: *mut IRP, status: Status) -> Status {
    request::finish_irp(irp, status, 0);
    status
}

pub(super) fn is_queue(object: &Object) -> bool {
    matches!(object.body, Body::Queue(_))
}
