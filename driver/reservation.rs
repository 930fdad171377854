//! One disk's reservation: takes the callers' requests one at a time and does for each what its [`Operation`] decides.
//!
//! All that happens is stepped through the operation under the disk's lock. What can't wait and calls nothing back is
//! done under the same hold: taking the next request, marking and unmarking it, starting and stopping the timer. The
//! rest follows after the lock is dropped: formatting, sending, cancelling, completing.
//!
//! **One at a time.** Requests wait in a manual queue. The next is taken when one comes into the empty queue
//! (`EvtIoQueueState`) and, while others wait, after each operation (a work item): under the lock, and only if nothing is
//! in hand, so that whoever comes while something is in hand may leave it to that operation's end. A sequential queue
//! would not do: it can present two requests at once (docs/kmdf-sequential-queue.md).
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicBool, Ordering};

use scsi_reserve::{
    Action, Cdb, Command, Event, NtStatus, Operation, Policy, ReservationState, Verdict,
};

use crate::state::DiskState;
use crate::trace::{self, TraceEvent};
use crate::wdf::{
    BusRelations, Canceller, Device, EvtRequestCancel, Hex, InHand, Locked, Operations,
    PassThrough, Prepared, Queue, Request, Returned, Timer, WorkItem,
};

/// The framework's own timeout on a send is a net under the port's: so many seconds later.
const NET_SECONDS: u32 = 30;

/// The reservation of one disk.
pub struct Reservation {
    /// Beside the lock's: late in a removal the lock is gone before the dispatch callback is.
    gone: AtomicBool,
    /// Serves the next request on a stack of its own.
    work_item: WorkItem,
    state: Locked<State>,
    queue: Queue,
    canceller: Canceller,
    bus_relations: BusRelations,
    /// Seconds that the port gives one command.
    timeout: u32,
}

/// What the lock covers.
struct State {
    operation: Operation,
    disk: DiskState,
    in_hand: InHand,
    /// While it is not prepared, sent, or on its way back.
    pass_through: Option<PassThrough>,
    timer: Timer,
    evt_request_cancel: EvtRequestCancel,
}

/// What is left to do after the lock is dropped, and with what.
enum Effect {
    Nothing,
    /// Nothing could be taken from the queue.
    LookAgain,
    Prepare(PassThrough, Cdb),
    CancelSent,
    Complete(Request, NtStatus),
}

impl State {
    /// Takes the next request into the empty hand, if there is one.
    fn start_next(&mut self, queue: &Queue) -> Effect {
        let Some(empty) = self.in_hand.empty() else {
            return Effect::Nothing;
        };
        let (request, code) = match queue.next() {
            Ok(next) => next,
            Err(NtStatus::NO_MORE_ENTRIES) => return Effect::LookAgain,
            // The device goes, and the framework ends what waits.
            Err(_) => return Effect::Nothing,
        };
        let Some(command) = Command::from_ioctl(code) else {
            return Effect::Complete(request, NtStatus::INVALID_DEVICE_REQUEST);
        };
        empty.put(request);
        self.disk.begins(code);
        // As `effect` goes on, straight where it nearly always goes.
        match self.note(Event::Start(command)) {
            Action::Mark => match self.mark() {
                Action::Prepare => self.prepare(),
                other => self.effect(other),
            },
            other => self.effect(other),
        }
    }

    /// Every event of every operation passes here. Inlined, since of an event that is known little is left.
    #[allow(clippy::inline_always, reason = "counted")]
    #[inline(always)]
    fn note(&mut self, event: Event) -> Action {
        let action = self.operation.step(event);
        self.disk.note(&event, action, &self.operation);
        action
    }

    /// The same for what is seldom, with its effect.
    #[inline(never)]
    fn step(&mut self, event: Event) -> Effect {
        let action = self.note(event);
        self.effect(action)
    }

    #[allow(clippy::inline_always, reason = "counted")]
    #[inline(always)]
    fn mark(&mut self) -> Action {
        let status = self.in_hand.mark_cancelable(self.evt_request_cancel);
        self.note(Event::Marked(status))
    }

    #[allow(clippy::inline_always, reason = "counted")]
    #[inline(always)]
    fn unmark(&mut self) -> Action {
        let status = self.in_hand.unmark_cancelable();
        self.note(Event::Unmarked(status))
    }

    /// Does what is done under the lock, and gives what follows after it.
    #[inline(never)]
    fn effect(&mut self, mut action: Action) -> Effect {
        loop {
            action = match action {
                Action::Nothing | Action::Send => return Effect::Nothing,
                Action::Mark => self.mark(),
                Action::Unmark => self.unmark(),
                Action::StartTimer { milliseconds } => {
                    self.timer.start(milliseconds);
                    return Effect::Nothing;
                }
                Action::StopTimer => {
                    let stopped = self.timer.stop();
                    self.note(Event::WaitStopped(stopped))
                }
                Action::Prepare => return self.prepare(),
                Action::CancelSent => return Effect::CancelSent,
                Action::Finish(status) => return self.finish(status),
                // Never: only an empty hand takes a request, and the operation is idle then.
                Action::Refuse => return self.finish(NtStatus::INVALID_DEVICE_STATE),
            }
        }
    }

    #[inline]
    fn prepare(&mut self) -> Effect {
        match self.pass_through.take() {
            Some(idle) => Effect::Prepare(idle, self.operation.cdb()),
            None => Effect::Nothing,
        }
    }

    #[inline]
    fn finish(&mut self, status: NtStatus) -> Effect {
        match self.in_hand.take() {
            Some(request) => Effect::Complete(request, status),
            None => Effect::Nothing,
        }
    }
}

impl Reservation {
    /// Makes all that an operation needs, so that none has to allocate.
    pub fn new<C: Operations>(
        device: &Device<C>,
        policy: Policy,
        timeout: u32,
        disk: u32,
    ) -> Result<Self, NtStatus> {
        // First: removal takes it first, and waits for it while the others are there.
        let work_item = device.work_item()?;
        let pass_through = device.pass_through()?;
        let canceller = pass_through.canceller();
        let state = State {
            operation: Operation::new(policy),
            disk: DiskState::new(disk),
            in_hand: InHand::NOTHING,
            pass_through: Some(pass_through),
            timer: device.timer()?,
            evt_request_cancel: device.evt_request_cancel(),
        };
        Ok(Self {
            gone: AtomicBool::new(false),
            work_item,
            state: Locked::create(device, state)?,
            queue: device.manual_queue()?,
            canceller,
            bus_relations: device.bus_relations()?,
            timeout,
        })
    }

    /// Where the callers' requests wait.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Serves the next request if none is in hand. At `PASSIVE_LEVEL`, as whatever may end in a send.
    pub fn serve_next(&self) {
        let effect = self.state.lock().start_next(&self.queue);
        self.perform(effect);
    }

    /// A request whose cancellation is under way can't be taken, but counts: the queue is not empty for the next one
    /// that comes, of which an older framework would not tell then (`FxIoQueue::GetRequest` in fxioqueue.cpp tells the
    /// race, and how 1.33 makes up for it).
    fn look_again_if_any_waits(&self) {
        if self.queue.waiting() > 0 {
            self.work_item.enqueue();
        }
    }

    /// The caller cancelled.
    pub fn cancelled(&self) {
        let asked = self.step(Event::CancelAsked);
        self.perform(asked);
        let done = self.step(Event::CancelDone);
        self.perform(done);
    }

    /// The pass-through came back.
    pub fn answered(&self, returned: Returned) {
        let verdict = Verdict::of(&returned.answer());
        if verdict.invalidates_bus_relations() {
            self.bus_relations.invalidate();
        }
        let effect = {
            let mut state = self.state.lock();
            let action = state.note(Event::Answered(verdict));
            state.pass_through = Some(returned.into_idle());
            match action {
                Action::Unmark => match state.unmark() {
                    Action::Finish(status) => state.finish(status),
                    other => state.effect(other),
                },
                other => state.effect(other),
            }
        };
        self.perform(effect);
    }

    /// The timer's callback. At `PASSIVE_LEVEL`.
    pub fn delay_over(&self) {
        let effect = self.step(Event::DelayOver);
        self.perform(effect);
    }

    /// The device is being removed.
    pub fn gone(&self) {
        self.gone.store(true, Ordering::Release);
        let effect = self.step(Event::Gone);
        self.perform(effect);
    }

    /// The device came to full power.
    pub fn powered_up(&self) {
        let effect = self.step(Event::PoweredUp);
        self.perform(effect);
    }

    /// Somebody on this node asked for a reset with this control code, which passes by. Any IRQL up to
    /// `DISPATCH_LEVEL`.
    pub fn reset_passes(&self, code: u32) {
        let effect = {
            let mut state = self.state.lock();
            let disk = state.disk.number();
            trace::write(|| TraceEvent::ResetPassed {
                disk,
                code: Hex(code),
            });
            state.step(Event::ResetPassed)
        };
        self.perform(effect);
    }

    /// What this node knows of the reservation.
    pub fn state(&self) -> ReservationState {
        self.state.lock().disk.get()
    }

    /// Whether [`gone`](Self::gone) was said.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    fn step(&self, event: Event) -> Effect {
        self.state.lock().step(event)
    }

    /// Does what is left and what follows from it. A send that went out and a completion come last: from then on the
    /// operation is someone else's, and the device may be on its way out.
    fn perform(&self, mut effect: Effect) {
        loop {
            effect = match effect {
                Effect::Nothing => return,
                Effect::LookAgain => return self.look_again_if_any_waits(),
                Effect::Prepare(idle, cdb) => self.send(idle, cdb),
                Effect::CancelSent => return self.canceller.cancel(),
                Effect::Complete(request, status) => return self.complete(request, status),
            };
        }
    }

    #[inline(never)]
    fn send(&self, idle: PassThrough, cdb: Cdb) -> Effect {
        let prepared = match idle.prepare(cdb, self.timeout) {
            Ok(prepared) => prepared,
            Err((idle, status)) => return self.not_sent(idle, Event::FormatFailed(status)),
        };
        let prepared = match self.ready(prepared) {
            Ok(prepared) => prepared,
            Err(effect) => return effect,
        };
        match prepared.send(self.timeout.saturating_add(NET_SECONDS)) {
            Ok(()) => Effect::Nothing,
            Err((idle, status)) => self.not_sent(idle, Event::Refused(status)),
        }
    }

    /// The last look before the send: what it was stopped for meanwhile ends it here.
    fn ready(&self, prepared: Prepared) -> Result<Prepared, Effect> {
        let mut state = self.state.lock();
        match state.note(Event::Ready) {
            Action::Send => Ok(prepared),
            action => {
                state.pass_through = Some(prepared.into_idle());
                Err(state.effect(action))
            }
        }
    }

    fn not_sent(&self, idle: PassThrough, event: Event) -> Effect {
        let mut state = self.state.lock();
        state.pass_through = Some(idle);
        state.step(event)
    }

    /// Nothing is in hand any more. What waits already is served by the work item, on its own stack; of what comes from
    /// now on the queue tells.
    fn complete(&self, request: Request, status: NtStatus) {
        self.look_again_if_any_waits();
        request.complete(status);
    }
}
