//! One operation from the caller's request to its completion: the hands of [`Operation`], which decides.
//!
//! All that happens is stepped through the machine under the device's lock. The same hold covers the timer's start
//! and stop, and taking out of the state what the answer needs; sending, cancelling, marking and completing follow
//! after the lock is dropped. What is not in the state is in one thread's hands or with the framework.
#![forbid(unsafe_code)]

use core::mem;
use core::sync::atomic::{AtomicBool, Ordering};

use scsi_reserve::{Action, Cdb, Command, Event, NtStatus, Operation, Policy, ReservationState};

use crate::filter::Disk;
use crate::state::Known;
use crate::wdf::{
    Cancelable, Canceller, Device, Locked, PassThrough, Prepared, Request, Returned, Timer,
};

/// The framework's own timeout on a send is a net under the port's: so many seconds later.
const NET_SECONDS: u32 = 30;

/// The reservation of one disk, with at most one operation in hand.
pub struct Reservation {
    /// Beside the lock's: late in a removal the lock is gone before the dispatch callback is.
    gone: AtomicBool,
    state: Locked<State>,
    canceller: Canceller,
    /// Seconds that the port gives one command.
    timeout: u32,
}

/// What the lock covers.
struct State {
    operation: Operation,
    known: Known,
    timer: Timer,
    /// The caller's request while its cancellation is not ours to hear ...
    caller: Option<Request>,
    /// ... and while it is.
    cancelable: Option<Cancelable>,
    pass_through: Option<PassThrough>,
}

/// What to do after the lock is dropped, and with what.
enum Deed {
    Mark(Request),
    Prepare(PassThrough, Cdb),
    Send(Prepared),
    CancelSent,
    Unmark(Cancelable),
    Finish(Request, NtStatus),
}

impl State {
    /// Every event of every operation passes here.
    fn step(&mut self, event: Event<'_>) -> Action {
        let action = self.operation.step(event);
        self.known.note(&event, action, &self.operation);
        match action {
            Action::StartTimer { milliseconds } => {
                self.timer.start(milliseconds);
                Action::Nothing
            }
            Action::StopTimer => {
                let stopped = self.timer.stop();
                self.step(Event::WaitStopped(stopped))
            }
            action => action,
        }
    }

    /// The machine is idle from the step that says `Finish`: what that needs leaves the state under the same hold.
    fn deed(&mut self, action: Action) -> Option<Deed> {
        match action {
            Action::Mark => self.caller.take().map(Deed::Mark),
            Action::Prepare => {
                let cdb = self.operation.cdb();
                self.pass_through
                    .take()
                    .map(|idle| Deed::Prepare(idle, cdb))
            }
            Action::CancelSent => Some(Deed::CancelSent),
            Action::Unmark => self.cancelable.take().map(Deed::Unmark),
            Action::Finish(status) => {
                let cancelled = || self.cancelable.take().map(Cancelable::cancelled);
                let request = self.caller.take().or_else(cancelled);
                request.map(|request| Deed::Finish(request, status))
            }
            // Reservation::prepared does the sending; the two of the timer are done.
            Action::Nothing | Action::Send | Action::StartTimer { .. } | Action::StopTimer => None,
        }
    }
}

/// Puts a value in its empty place. Dropping what was there would put the drop's check into the image.
fn hold<T>(place: &mut Option<T>, value: T) {
    let before = place.replace(value);
    debug_assert!(before.is_none());
    mem::forget(before);
}

impl Reservation {
    /// Makes all that an operation needs, so that none has to allocate.
    pub fn new(
        device: &Device<Disk>,
        policy: Policy,
        timeout: u32,
        disk: u32,
    ) -> Result<Self, NtStatus> {
        let pass_through = PassThrough::create(device)?;
        Ok(Self {
            gone: AtomicBool::new(false),
            canceller: pass_through.canceller(),
            state: Locked::create(
                device,
                State {
                    operation: Operation::new(policy),
                    known: Known::nothing(disk),
                    timer: Timer::passive(device)?,
                    caller: None,
                    cancelable: None,
                    pass_through: Some(pass_through),
                },
            )?,
            timeout,
        })
    }

    /// The queue presented a request with this control code. At `PASSIVE_LEVEL`, as whatever may end in a send.
    pub fn start(&self, request: Request, command: Command, code: u32) {
        let deed = {
            let mut state = self.state.lock();
            hold(&mut state.caller, request);
            state.known.begins(code);
            let action = state.step(Event::Start(command));
            state.deed(action)
        };
        self.perform(deed);
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
        let deed = {
            let mut state = self.state.lock();
            let action = state.step(Event::Answered(returned.answer()));
            state.pass_through = Some(returned.into_idle());
            state.deed(action)
        };
        self.perform(deed);
    }

    /// The timer's callback. At `PASSIVE_LEVEL`.
    pub fn delay_over(&self) {
        let deed = self.step(Event::DelayOver);
        self.perform(deed);
    }

    /// The device is being removed.
    pub fn gone(&self) {
        self.gone.store(true, Ordering::Release);
        let deed = self.step(Event::Gone);
        self.perform(deed);
    }

    /// The device came to full power.
    pub fn powered_up(&self) {
        self.state.lock().known.resumed();
    }

    /// What this node knows of the reservation.
    pub fn known(&self) -> ReservationState {
        self.state.lock().known.get()
    }

    /// Whether [`gone`](Self::gone) was said.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    fn step(&self, event: Event<'_>) -> Option<Deed> {
        let mut state = self.state.lock();
        let action = state.step(event);
        state.deed(action)
    }

    /// Does what the machine asked for and what follows from it. A send that went out and a completion come last:
    /// from then on the operation is someone else's, and the device may be on its way out.
    fn perform(&self, mut deed: Option<Deed>) {
        while let Some(now) = deed {
            deed = match now {
                Deed::Mark(request) => self.mark(request),
                Deed::Prepare(idle, cdb) => self.prepare(idle, cdb),
                Deed::Send(prepared) => {
                    match prepared.send(self.timeout.saturating_add(NET_SECONDS)) {
                        Ok(()) => return,
                        Err((idle, status)) => self.refused(idle, status),
                    }
                }
                Deed::CancelSent => return self.canceller.cancel(),
                Deed::Unmark(request) => self.unmark(request),
                Deed::Finish(request, status) => return request.complete(status),
            };
        }
    }

    fn mark(&self, request: Request) -> Option<Deed> {
        let marked = request.mark_cancelable::<Disk>();
        let mut state = self.state.lock();
        let status = match marked {
            Ok(request) => {
                hold(&mut state.cancelable, request);
                NtStatus::SUCCESS
            }
            Err((request, status)) => {
                hold(&mut state.caller, request);
                status
            }
        };
        let action = state.step(Event::Marked(status));
        state.deed(action)
    }

    fn prepare(&self, idle: PassThrough, cdb: Cdb) -> Option<Deed> {
        let prepared = match idle.prepare(cdb, self.timeout) {
            Ok(prepared) => prepared,
            Err((idle, status)) => return self.refused(idle, status),
        };
        let mut state = self.state.lock();
        match state.step(Event::Ready) {
            Action::Send => Some(Deed::Send(prepared)),
            action => {
                state.pass_through = Some(prepared.into_idle());
                state.deed(action)
            }
        }
    }

    fn refused(&self, idle: PassThrough, status: NtStatus) -> Option<Deed> {
        let mut state = self.state.lock();
        state.pass_through = Some(idle);
        let action = state.step(Event::Refused(status));
        state.deed(action)
    }

    fn unmark(&self, request: Cancelable) -> Option<Deed> {
        let (request, status) = request.unmark();
        let mut state = self.state.lock();
        hold(&mut state.caller, request);
        let action = state.step(Event::Unmarked(status));
        state.deed(action)
    }
}
