//! WDFQUEUE: presents requests to the driver as fxioqueue.cpp does. All that happens to a queue is done by its dispatch
//! loop, in whatever thread meets it first; a thread that finds another one in the loop leaves its work to that one,
//! so that EvtRequestCancel may run late and on another thread than the canceller's.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::{Body, Framework, Object, lock, of};
use crate::abi::{Code, DeviceIoControl, Handle, IRP, Status, irql, status};
use crate::{io, world};

pub(super) struct Queue {
    pub device: Handle,
    /// How many requests the driver may have at a time.
    pub presented: u64,
    pub passive: bool,
    pub evt_device_control: Code,
    pub state: Mutex<QueueState>,
}

// SAFETY: the callback's address is the image's, which outlives the queue.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

#[derive(Default)]
pub(super) struct QueueState {
    /// Not presented yet.
    waiting: VecDeque<Handle>,
    /// Presented and not completed.
    owned: Vec<Handle>,
    /// Presented, cancelled, EvtRequestCancel not called yet.
    cancelled: VecDeque<Handle>,
    /// Threads in the dispatch loop.
    dispatching: u32,
    work_item_queued: bool,
    /// A purge has begun: nothing is accepted, and a mark is answered with CANCELLED.
    purged: bool,
}

impl Queue {
    /// What the driver has of it.
    pub fn owned(&self) -> Vec<Handle> {
        lock(&self.state).owned.clone()
    }

    fn key(&self) -> usize {
        (&raw const self.state) as usize
    }
}

impl Framework {
    /// FxIoQueue::QueueRequest for an IRP that the dispatch callback hands over. The IRP is the framework's from here on.
    pub(super) fn enqueue(self: &Arc<Self>, queue: &Arc<Object>, irp: *mut IRP) -> Status {
        if self.allocation_fails("WDFREQUEST") {
            return complete_with(irp, status::INSUFFICIENT_RESOURCES);
        }
        let body = of!(queue, Queue);
        let request = self.create_claimed(queue.handle, irp);
        let late = {
            let mut state = lock(&body.state);
            if state.purged {
                drop(state);
                self.retire(request, irp);
                return complete_with(irp, status::INVALID_DEVICE_STATE);
            }
            io::mark_pending(irp);
            state.waiting.push_back(request);
            io::set_cancel_routine(irp, Some(super::request::cancel_claimed));
            io::is_cancelled(irp) && io::set_cancel_routine(irp, None)
        };
        if late {
            self.cancel_waiting(queue, request);
        }
        self.dispatch_events(queue);
        status::PENDING
    }

    /// A waiting request was cancelled: the framework completes it, the driver hears nothing (facts 10).
    fn cancel_waiting(self: &Arc<Self>, queue: &Arc<Object>, request: Handle) {
        lock(&of!(queue, Queue).state)
            .waiting
            .retain(|&other| other != request);
        self.complete_undelivered(request, status::CANCELLED);
        self.dispatch_internal(queue);
    }

    /// A request's cancel routine was called: waiting or marked cancelable.
    pub(super) fn request_cancelled(self: &Arc<Self>, queue: &Arc<Object>, request: Handle) {
        let body = of!(queue, Queue);
        {
            let mut state = lock(&body.state);
            if !state.owned.contains(&request) {
                drop(state);
                return self.cancel_waiting(queue, request);
            }
            state.cancelled.push_back(request);
        }
        self.dispatch_internal(queue);
    }

    /// FxIoQueue::DispatchInternalEvents: the loop, unless a thread is in it.
    pub(super) fn dispatch_internal(self: &Arc<Self>, queue: &Arc<Object>) {
        if lock(&of!(queue, Queue).state).dispatching == 0 {
            self.dispatch_events(queue);
        }
    }

    /// FxIoQueue::DispatchEvents.
    fn dispatch_events(self: &Arc<Self>, queue: &Arc<Object>) {
        let body = of!(queue, Queue);
        let thread = world::current();
        if body.passive && thread.irql() > irql::PASSIVE {
            let mut state = lock(&body.state);
            if !std::mem::replace(&mut state.work_item_queued, true) {
                let (fx, queue) = (Arc::clone(self), Arc::clone(queue));
                let job = move || {
                    lock(&of!(queue, Queue).state).work_item_queued = false;
                    fx.dispatch_events(&queue);
                };
                self.world
                    .spawn("queue's work item", irql::PASSIVE, Box::new(job));
            }
            return;
        }
        lock(&body.state).dispatching += 1;
        loop {
            thread.point();
            let mut state = lock(&body.state);
            if let Some(request) = state.cancelled.pop_front() {
                drop(state);
                self.evt_request_cancel(request);
                continue;
            }
            let closed = state.purged || state.owned.len() as u64 >= body.presented;
            let next = if closed {
                None
            } else {
                state.waiting.pop_front()
            };
            let Some(request) = next else {
                // Under the hold that found nothing to do: whoever adds something sees that the loop is over.
                state.dispatching -= 1;
                break;
            };
            // Under the lock: a cancel that comes first finds the request in neither list, and completes it.
            let Some(parameters) = self.take_for_driver(request) else {
                continue;
            };
            state.owned.push(request);
            drop(state);
            self.present(queue, request, &parameters);
        }
        self.world.wake(body.key());
    }

    /// Hands a request to EvtIoDeviceControl.
    fn present(&self, queue: &Object, request: Handle, parameters: &DeviceIoControl) {
        // SAFETY: the configuration named an EVT_WDF_IO_QUEUE_IO_DEVICE_CONTROL.
        let routine = unsafe {
            std::mem::transmute::<Code, unsafe extern "win64" fn(Handle, Handle, usize, usize, u32)>(
                of!(queue, Queue).evt_device_control,
            )
        };
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

    /// A delivered request is complete: the next one may come, perhaps inside this call (facts 11).
    pub(super) fn request_gone(self: &Arc<Self>, queue: &Arc<Object>, request: Handle) {
        let body = of!(queue, Queue);
        lock(&body.state).owned.retain(|&other| other != request);
        self.world.wake(body.key());
        self.dispatch_internal(queue);
    }

    /// True if a mark is refused because of a purge (fxioqueue.cpp: m_CancelDispatchedRequests).
    pub(super) fn is_purged(queue: &Object) -> bool {
        lock(&of!(queue, Queue).state).purged
    }

    /// The purge at removal: waiting requests are CANCELLED by the framework, marked ones get EvtRequestCancel, and the
    /// calling thread waits until the driver has completed all that it owns (facts 9).
    pub(super) fn purge(self: &Arc<Self>, queue: &Arc<Object>) {
        let body = of!(queue, Queue);
        let (waiting, owned) = {
            let mut state = lock(&body.state);
            state.purged = true;
            // One that a cancel has already is completed by that.
            let waiting = std::mem::take(&mut state.waiting).into_iter();
            let waiting: Vec<_> = waiting
                .filter(|&r| self.take_for_driver(r).is_some())
                .collect();
            (waiting, state.owned.clone())
        };
        for request in waiting {
            self.complete_undelivered(request, status::CANCELLED);
        }
        for request in owned {
            self.cancel_marked(queue, request);
        }
        world::current().wait(body.key(), || {
            let state = lock(&body.state);
            let idle =
                state.dispatching == 0 && state.cancelled.is_empty() && state.owned.is_empty();
            drop(state);
            idle && !self.has_claimed(queue.handle)
        });
    }
}

fn complete_with(irp: *mut IRP, status: Status) -> Status {
    // SAFETY: the IRP is the framework's.
    unsafe {
        (*irp).IoStatus.Anonymous.Status = status;
        (*irp).IoStatus.Information = 0;
    }
    io::complete_request(irp);
    status
}

pub(super) fn is_queue(object: &Object) -> bool {
    matches!(object.body, Body::Queue(_))
}
