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
#![allow(
    clippy::inline_always,
    reason = "counted: of an event that is known little is left"
)]

use core::sync::atomic::{AtomicBool, Ordering};

use scsi_reserve::{
    Action, Cdb, Command, Event, NtStatus, Operation, ReservationState, SrbAnswer, Verdict, Watch,
    Watched,
};

use crate::config::Parameters;
use crate::state::DiskState;
use crate::wdf::{
    BusRelations, Canceller, Device, EvtRequestCancel, Guard, InHand, Locked, Operations,
    PassThrough, Place, Queue, Request, Returned, SendTimeout, Timer, Told, WorkItem,
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
    net: SendTimeout,
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
    Prepare(PassThrough, Cdb),
    CancelSent,
    Complete(Request, NtStatus),
}

impl State {
    /// Every event of every operation passes here.
    #[inline(always)]
    fn note(&mut self, event: Event) -> Action {
        let action = self.operation.step(event);
        self.disk.note(&event, action, &self.operation);
        action
    }

    /// The same, once for all that is seldom. What every operation meets is noted where it happens.
    #[cold]
    #[inline(never)]
    fn note_seldom(&mut self, event: Event) -> Action {
        match event {
            Event::Start(_) | Event::Marked(_) | Event::Ready | Event::Answered(_) => {
                Action::Nothing
            }
            seldom => self.note(seldom),
        }
    }

    /// The same with its effect.
    fn step(&mut self, event: Event) -> Effect {
        let action = self.note_seldom(event);
        self.effect(action)
    }

    #[cold]
    #[inline(never)]
    fn tell_watched(&self, reply: Place<'_, ReservationState>) -> Told {
        reply.put(&self.disk.get().told(&self.operation))
    }

    fn mark(&mut self) -> Event {
        Event::Marked(self.in_hand.mark_cancelable(self.evt_request_cancel))
    }

    fn unmark(&mut self) -> Event {
        Event::Unmarked(self.in_hand.unmark_cancelable())
    }

    /// Does what is done under the lock, and gives what follows after it.
    #[cold]
    #[inline(never)]
    fn effect(&mut self, mut action: Action) -> Effect {
        loop {
            let event = match action {
                Action::Nothing | Action::Send => return Effect::Nothing,
                Action::Unmark => self.unmark(),
                Action::StartTimer { milliseconds } => {
                    self.timer.start(milliseconds);
                    return Effect::Nothing;
                }
                Action::StopTimer => Event::WaitStopped(self.timer.stop()),
                Action::Prepare => return self.prepare(),
                Action::CancelSent => return Effect::CancelSent,
                Action::Finish(status) => return self.finish(status),
                // Never: only an empty hand takes a request, and the operation is idle then; and `serve_next` has marked it.
                Action::Refuse | Action::Mark => {
                    return self.finish(NtStatus::INVALID_DEVICE_STATE);
                }
            };
            action = self.note_seldom(event);
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
        parameters: &Parameters,
        timeout: u32,
        disk: u32,
    ) -> Result<Self, NtStatus> {
        // First: removal takes it first, and waits for it while the others are there.
        let work_item = device.work_item()?;
        let pass_through = device.pass_through()?;
        let canceller = pass_through.canceller();
        let state = State {
            operation: Operation::new(parameters.policy),
            disk: DiskState::new(disk, parameters, timeout),
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
            net: SendTimeout::seconds(timeout.saturating_add(NET_SECONDS)),
        })
    }

    /// Where the callers' requests wait.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Serves the next request if none is in hand. At `PASSIVE_LEVEL`, as whatever may end in a send.
    pub fn serve_next(&self) {
        let mut state = self.state.lock();
        let Some(empty) = state.in_hand.empty() else {
            return;
        };
        let (request, code) = match self.queue.next() {
            Ok(next) => next,
            Err(why) => return self.none_came(state, why),
        };
        empty.put(request);
        let Some(command) = Command::from_ioctl(code) else {
            return self.go_on(state, Action::Finish(NtStatus::INVALID_DEVICE_REQUEST));
        };
        state.disk.begins(code);
        let mut action = state.note(Event::Start(command));
        if action == Action::Mark {
            let marked = state.mark();
            action = state.note(marked);
        }
        self.prepare_or_go_on(state, action);
    }

    #[cold]
    #[inline(never)]
    fn none_came(&self, state: Guard<'_, State>, why: NtStatus) {
        drop(state);
        // Otherwise the device goes, and the framework ends what waits.
        if why == NtStatus::NO_MORE_ENTRIES {
            self.look_again_if_any_waits();
        }
    }

    /// A request whose cancellation is under way can't be taken, but counts: the queue is not empty for the next one
    /// that comes, of which an older framework would not tell then (`FxIoQueue::GetRequest` in fxioqueue.cpp tells the
    /// race, and how 1.33 makes up for it).
    #[inline(always)]
    fn look_again_if_any_waits(&self) {
        if self.queue.waiting() > 0 {
            self.work_item.enqueue();
        }
    }

    /// The caller cancelled.
    pub fn cancelled(&self) {
        self.happens(Event::CancelAsked);
        self.happens(Event::CancelDone);
    }

    /// The pass-through came back.
    pub fn answered(&self, returned: Returned) {
        let verdict = Verdict::of(&returned.answer());
        if verdict.invalidates_bus_relations() {
            self.bus_relations.invalidate();
        }
        let mut state = self.state.lock();
        let action = state.note(Event::Answered(verdict));
        state.pass_through = Some(returned.into_idle());
        let action = match action {
            Action::Unmark => {
                let unmarked = state.unmark();
                state.note(unmarked)
            }
            Action::StartTimer { milliseconds } => return state.timer.start(milliseconds),
            other => other,
        };
        let Action::Finish(status) = action else {
            return self.go_on(state, action);
        };
        if let Some(request) = state.in_hand.take() {
            drop(state);
            self.complete(request, status);
        }
    }

    /// The timer's callback. At `PASSIVE_LEVEL`.
    pub fn delay_over(&self) {
        let mut state = self.state.lock();
        let action = state.note(Event::DelayOver);
        self.prepare_or_go_on(state, action);
    }

    /// The device is being removed.
    pub fn gone(&self) {
        self.gone.store(true, Ordering::Release);
        self.happens(Event::Gone);
    }

    /// The device came to full power.
    pub fn powered_up(&self) {
        self.happens(Event::PoweredUp);
    }

    /// Somebody on this node asked for a reset with this control code, which passes by. Any IRQL up to
    /// `DISPATCH_LEVEL`.
    pub fn reset_passes(&self, code: u32) {
        let mut state = self.state.lock();
        state.disk.reset_passes(code);
        let action = state.note_seldom(Event::ResetPassed);
        self.go_on(state, action);
    }

    /// Another's command that may change the reservation passes, watched. Any IRQL up to `DISPATCH_LEVEL`.
    pub fn other_sent(&self) {
        let mut state = self.state.lock();
        state.operation.other_sent();
        state.disk.other_sent();
    }

    /// It is answered; or, with nothing, a command that changes no reservation. Any IRQL up to `DISPATCH_LEVEL`.
    pub fn other_answered(&self, watched: Option<Watched>, answer: &SrbAnswer<'_>) {
        let verdict = answer.verdict();
        let mut state = self.state.lock();
        let Some(watched) = watched else {
            if verdict.denies() {
                state.operation.denied();
            }
            return state.disk.foreign_answered(&verdict);
        };
        let is_last_word = state.operation.other_answered();
        state.disk.other_answered(watched, &verdict, is_last_word);
    }

    /// Tells what this node knows of the reservation.
    pub fn tell(&self, reply: Place<'_, ReservationState>) -> Told {
        let state = self.state.lock();
        if state.disk.get().watch != Watch::Off as u8 {
            return state.tell_watched(reply);
        }
        reply.put(state.disk.get())
    }

    /// Whether [`gone`](Self::gone) was said.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    #[cold]
    #[inline(never)]
    fn happens(&self, event: Event) {
        let mut state = self.state.lock();
        let action = state.note_seldom(event);
        self.go_on(state, action);
    }

    /// Prepares and sends, which is what nearly always follows.
    #[inline(always)]
    fn prepare_or_go_on(&self, mut state: Guard<'_, State>, action: Action) {
        if action != Action::Prepare {
            return self.go_on(state, action);
        }
        let Some(idle) = state.pass_through.take() else {
            return;
        };
        let cdb = state.operation.cdb();
        drop(state);
        let effect = self.send(idle, cdb);
        if !matches!(effect, Effect::Nothing) {
            self.perform(effect);
        }
    }

    /// Does what is asked, whatever it is.
    #[cold]
    #[inline(never)]
    fn go_on(&self, mut state: Guard<'_, State>, action: Action) {
        let effect = state.effect(action);
        drop(state);
        self.perform(effect);
    }

    /// Does what is left and what follows from it. A send that went out and a completion come last: from then on the
    /// operation is someone else's, and the device may be on its way out.
    #[cold]
    #[inline(never)]
    fn perform(&self, mut effect: Effect) {
        loop {
            effect = match effect {
                Effect::Nothing => return,
                Effect::Prepare(idle, cdb) => self.send(idle, cdb),
                Effect::CancelSent => return self.canceller.cancel(),
                Effect::Complete(request, status) => return self.complete(request, status),
            };
        }
    }

    /// Prepares and sends, and gives what follows if it was not sent.
    #[inline(never)]
    fn send(&self, idle: PassThrough, cdb: Cdb) -> Effect {
        let prepared = match idle.prepare(cdb, self.timeout) {
            Ok(prepared) => prepared,
            Err((idle, status)) => return self.not_sent(idle, Event::FormatFailed(status)),
        };
        // The last look before the send: what it was stopped for meanwhile ends it here.
        let mut state = self.state.lock();
        let action = state.note(Event::Ready);
        if action != Action::Send {
            state.pass_through = Some(prepared.into_idle());
            return state.effect(action);
        }
        drop(state);
        match prepared.send(self.net) {
            Ok(()) => Effect::Nothing,
            Err((idle, status)) => self.not_sent(idle, Event::Refused(status)),
        }
    }

    #[cold]
    #[inline(never)]
    fn not_sent(&self, idle: PassThrough, event: Event) -> Effect {
        let mut state = self.state.lock();
        state.pass_through = Some(idle);
        state.step(event)
    }

    /// Nothing is in hand any more. What waits already is served by the work item, on its own stack; of what comes from
    /// now on the queue tells.
    #[inline(never)]
    fn complete(&self, request: Request, status: NtStatus) {
        self.look_again_if_any_waits();
        request.complete(status);
    }
}
