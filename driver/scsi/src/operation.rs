//! One operation, a caller's RESERVE or RELEASE, from the queue to its completion, as a state
//! machine.
//!
//! A device has one [`Operation`] for its whole life and steps it under its spin lock with all that
//! happens to the request in hand. The answer is an [`Action`] for whoever reported the event.
//! Actions are done after the lock is dropped, except [`Action::StartTimer`] and
//! [`Action::StopTimer`], which are done under it, and what [`Action::Finish`] says of itself.
//!
//! | phase | what is true | a stop (cancel or removal) |
//! | --- | --- | --- |
//! | Idle | no request in hand | removal is remembered; there is nothing to cancel |
//! | Marking | the request is being marked cancelable | is recorded |
//! | Preparing | one thread fills, reuses and formats; nobody else touches the pass-through | is recorded |
//! | Out | the send may be, or was, called | cancel the sent request; before the send it shows as a refused send |
//! | Waiting | the timer is set, or its callback on the way | stop the timer; if that was too late, the callback ends it |
//! | Ended | the status is known; who finishes is left | changes nothing but a lost unmark's status |
//!
//! | phase | event | answer | phase then |
//! | --- | --- | --- | --- |
//! | Idle | Start | `Mark` | Marking |
//! | Idle | Start, the device is gone | `Finish` | Idle |
//! | Marking | Marked, refused | `Finish`: there is nothing to unmark | Idle |
//! | Marking | Marked | `Prepare`, or if a stop was recorded *end* | Preparing |
//! | Preparing | Ready | `Send`, or if a stop was recorded *end* | Out |
//! | Preparing, Out | Refused | *judge* | |
//! | Out | Answered | *judge* | |
//! | Waiting | `DelayOver` | `Prepare`, or if a stop was recorded *end* | Preparing |
//! | Waiting | WaitStopped(true) | *end* | |
//! | Waiting | WaitStopped(false) | `Nothing`: `DelayOver` follows | Waiting |
//! | Marking, Preparing | `CancelAsked`, Gone | `Nothing` | |
//! | Out | `CancelAsked` or Gone, whichever is first | `CancelSent` | Out |
//! | Waiting | `CancelAsked` or Gone, whichever is first | `StopTimer` | Waiting |
//! | Ended | Unmarked, won | `Finish` | Idle |
//! | Ended | Unmarked, lost | `Nothing`, or after `CancelDone` `Finish` | Ended, or Idle |
//! | Ended, only the canceller is left | `CancelDone` | `Finish` | Idle |
//! | any other | | `Nothing` | the same |
//!
//! *judge*: proof ends with success, whatever was asked; else a recorded stop ends; else the
//! verdict's retry, if its cap allows it, answers `StartTimer` and the phase is Waiting; else the
//! verdict's status ends.
//!
//! *end*: if the canceller never came, `Unmark`, and its answer decides who finishes. If it is
//! inside `EvtRequestCancel`, `Nothing`: its `CancelDone` finishes, since until then it may still
//! call `WdfRequestCancelSentRequest`, which would hit the next operation's send. If it came and
//! left, `Finish`.
//!
//! An event that cannot happen in a phase changes nothing and is answered `Nothing`.

use crate::cdb::{Cdb, Command, Form};
use crate::ntstatus::NtStatus;
use crate::verdict::{Answer, Outcome, Retry, Verdict};

/// How many unit attentions one operation sends again after. A target may hold several, and each
/// takes a command to report: they say nothing against this one, so that they are no retries.
const MAX_ATTENTIONS: u32 = 8;

/// classpnp's `NOT_READY_RETRY_INTERVAL` (microsoft/Windows-driver-samples,
/// storage/class/classpnp/src/classp.h).
const NOT_READY_DELAY_MS: u32 = 10_000;

/// What an operation may do, from the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// How often one operation is sent again in all, apart from unit attentions and the change of
    /// form.
    pub max_retries: u32,
    /// The delay before sending again, in milliseconds.
    pub retry_delay_ms: u32,
    /// Whether a refused 6-byte command is sent again in its 10-byte form.
    pub ten_byte_fallback: bool,
}

impl Policy {
    /// The values for a registry that says nothing.
    pub const DEFAULT: Self = Self {
        max_retries: 4,
        retry_delay_ms: 1000,
        ten_byte_fallback: true,
    };
}

impl Default for Policy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What happened to the request in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event<'a> {
    /// The queue presented a request.
    Start(Command),
    /// `WdfRequestMarkCancelableEx` returned.
    Marked(NtStatus),
    /// The pass-through is formatted, and the next thing is to send it.
    Ready,
    /// The format failed, or `WdfRequestSend` returned FALSE: no completion routine runs.
    Refused(NtStatus),
    /// The pass-through's completion routine runs.
    Answered(Answer<'a>),
    /// The timer's callback runs.
    DelayOver,
    /// What `WdfTimerStop(FALSE)` returned, under the lock hold that asked for it.
    WaitStopped(bool),
    /// `EvtRequestCancel` was entered.
    CancelAsked,
    /// `EvtRequestCancel` has done what it was asked and will touch nothing more.
    CancelDone,
    /// `WdfRequestUnmarkCancelable` returned; `STATUS_CANCELLED` means that `EvtRequestCancel` came
    /// or will come.
    Unmarked(NtStatus),
    /// The device is being removed. Also reported when no operation is in hand.
    Gone,
}

/// What the one who reported an event does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Action {
    /// Nothing.
    Nothing,
    /// Call `WdfRequestMarkCancelableEx` on the caller's request, then report [`Event::Marked`].
    Mark,
    /// At `PASSIVE_LEVEL`: fill the pass-through with [`Operation::cdb`], reuse it, format it, then
    /// report [`Event::Ready`] or [`Event::Refused`].
    Prepare,
    /// Call `WdfRequestSend`; report [`Event::Refused`] if it returns FALSE, and touch nothing if
    /// it returns TRUE.
    Send,
    /// Under the lock: start the timer. 0 is at once, but through the timer: completion routines
    /// don't send.
    StartTimer {
        /// The delay.
        milliseconds: u32,
    },
    /// Under the lock: call `WdfTimerStop(FALSE)`, and report [`Event::WaitStopped`] before the
    /// lock is dropped.
    StopTimer,
    /// Call `WdfRequestCancelSentRequest` on the pass-through.
    CancelSent,
    /// Call `WdfRequestUnmarkCancelable` on the caller's request, then report [`Event::Unmarked`].
    Unmark,
    /// Take the caller's request out under the lock hold that got this answer, then complete it
    /// with Information 0. The machine is idle already, so that the completion may present the next
    /// request.
    Finish(NtStatus),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    Marking,
    Preparing,
    Out,
    Waiting,
    Ended { status: NtStatus, awaits: Awaits },
}

/// The event that an ended operation is finished by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Awaits {
    Unmarked,
    CancelDone,
}

/// Where `EvtRequestCancel` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Canceller {
    Away,
    Inside,
    Done,
}

/// The first reason to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stop {
    Cancelled,
    Gone,
}

impl Stop {
    const fn status(self) -> NtStatus {
        match self {
            Self::Cancelled => NtStatus::CANCELLED,
            Self::Gone => NtStatus::DEVICE_NOT_CONNECTED,
        }
    }
}

/// The machine. What is read from it after a step is what the step left; the counters, the last
/// verdict and the outcome stay readable after [`Action::Finish`], until the next [`Event::Start`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Operation {
    policy: Policy,
    gone: bool,
    /// The form that a new operation begins with.
    remembered: Form,
    phase: Phase,
    hand: Hand,
}

/// What is known of the operation in hand, or of the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Hand {
    command: Command,
    form: Form,
    stop: Option<Stop>,
    canceller: Canceller,
    sends: u32,
    retries: u32,
    attentions: u32,
    verdict: Option<Verdict>,
    outcome: Outcome,
}

impl Hand {
    const fn new(command: Command, form: Form) -> Self {
        Self {
            command,
            form,
            stop: None,
            canceller: Canceller::Away,
            sends: 0,
            retries: 0,
            attentions: 0,
            verdict: None,
            outcome: Outcome::NotExecuted,
        }
    }
}

impl Operation {
    /// The machine of a new device.
    #[must_use]
    pub const fn new(policy: Policy) -> Self {
        Self {
            policy,
            gone: false,
            remembered: Form::Six,
            phase: Phase::Idle,
            hand: Hand::new(Command::Release, Form::Six),
        }
    }

    /// Takes an event, and says what to do about it. At any IRQL, under the device's lock.
    pub fn step(&mut self, event: Event<'_>) -> Action {
        match (self.phase, event) {
            (Phase::Idle, Event::Start(command)) => self.start(command),
            (Phase::Marking, Event::Marked(status)) => self.marked(status),
            (Phase::Preparing, Event::Ready) => self.ready(),
            (Phase::Preparing | Phase::Out, Event::Refused(status)) => {
                self.judge(Verdict::of_refused(status))
            }
            (Phase::Out, Event::Answered(answer)) => self.judge(Verdict::of(&answer)),
            (Phase::Waiting, Event::DelayOver) => self.prepare(),
            (Phase::Waiting, Event::WaitStopped(true)) => self.wait_stopped(),
            (
                Phase::Ended {
                    status,
                    awaits: Awaits::Unmarked,
                },
                Event::Unmarked(won),
            ) => self.unmarked(status, won),
            (_, Event::CancelAsked) => self.cancel_asked(),
            (_, Event::CancelDone) => self.cancel_done(),
            (_, Event::Gone) => {
                self.gone = true;
                self.stop(Stop::Gone)
            }
            _ => Action::Nothing,
        }
    }

    fn start(&mut self, command: Command) -> Action {
        self.hand = Hand::new(command, self.remembered);
        if self.gone {
            return self.finish(NtStatus::DEVICE_NOT_CONNECTED);
        }
        // Before the mark is made: EvtRequestCancel may come before the mark has returned.
        self.phase = Phase::Marking;
        Action::Mark
    }

    fn marked(&mut self, status: NtStatus) -> Action {
        if status.is_success() {
            return self.prepare();
        }
        // Refused by a purge too, and then it is removal that came first.
        self.finish(self.hand.stop.map_or(status, Stop::status))
    }

    fn prepare(&mut self) -> Action {
        if let Some(stop) = self.hand.stop {
            return self.end(stop.status());
        }
        self.phase = Phase::Preparing;
        Action::Prepare
    }

    fn ready(&mut self) -> Action {
        if let Some(stop) = self.hand.stop {
            return self.end(stop.status());
        }
        self.phase = Phase::Out;
        self.hand.sends = self.hand.sends.saturating_add(1);
        Action::Send
    }

    fn judge(&mut self, verdict: Verdict) -> Action {
        self.note(verdict);
        if verdict.status.is_success() {
            return self.end(verdict.status);
        }
        if let Some(stop) = self.hand.stop {
            return self.end(stop.status());
        }
        let Some(milliseconds) = self.delay(verdict.retry) else {
            return self.end(verdict.status);
        };
        self.phase = Phase::Waiting;
        Action::StartTimer { milliseconds }
    }

    /// What a verdict tells apart from what to do next, a stop or not.
    fn note(&mut self, verdict: Verdict) {
        self.hand.verdict = Some(verdict);
        self.hand.outcome = match (self.hand.outcome, verdict.outcome) {
            (Outcome::Unknown, Outcome::NotExecuted) => Outcome::Unknown,
            (_, latest) => latest,
        };
        if verdict.retry == Retry::AtOnce {
            self.hand.attentions = self.hand.attentions.saturating_add(1);
        }
        if self.hand.form == Form::Ten {
            self.remembered = match verdict.outcome {
                Outcome::Executed | Outcome::Conflict => Form::Ten,
                _ if verdict.status == NtStatus::INVALID_DEVICE_REQUEST => Form::Six,
                _ => self.remembered,
            };
        }
    }

    /// The milliseconds after which a retry is due; `None` if there is to be none, or its cap is
    /// spent.
    fn delay(&mut self, retry: Retry) -> Option<u32> {
        let milliseconds = match retry {
            Retry::No => return None,
            Retry::AtOnce => return (self.hand.attentions <= MAX_ATTENTIONS).then_some(0),
            Retry::TenByteForm => {
                let allowed = self.policy.ten_byte_fallback && self.hand.form == Form::Six;
                if allowed {
                    self.hand.form = Form::Ten;
                }
                return allowed.then_some(0);
            }
            Retry::AfterDelay => self.policy.retry_delay_ms,
            Retry::AfterTenSeconds => NOT_READY_DELAY_MS,
        };
        let allowed = self.hand.retries < self.policy.max_retries;
        self.hand.retries = self.hand.retries.saturating_add(allowed.into());
        allowed.then_some(milliseconds)
    }

    fn wait_stopped(&mut self) -> Action {
        match self.hand.stop {
            Some(stop) => self.end(stop.status()),
            None => Action::Nothing,
        }
    }

    fn cancel_asked(&mut self) -> Action {
        if self.phase == Phase::Idle || self.hand.canceller != Canceller::Away {
            return Action::Nothing;
        }
        self.hand.canceller = Canceller::Inside;
        self.stop(Stop::Cancelled)
    }

    /// The first reason to stop wins, and acts: a second finds the pass-through or the timer
    /// already told.
    fn stop(&mut self, reason: Stop) -> Action {
        if self.phase == Phase::Idle || self.hand.stop.is_some() {
            return Action::Nothing;
        }
        self.hand.stop = Some(reason);
        match self.phase {
            Phase::Out => Action::CancelSent,
            Phase::Waiting => Action::StopTimer,
            _ => Action::Nothing,
        }
    }

    fn end(&mut self, status: NtStatus) -> Action {
        let (awaits, action) = match self.hand.canceller {
            Canceller::Away => (Awaits::Unmarked, Action::Unmark),
            Canceller::Inside => (Awaits::CancelDone, Action::Nothing),
            Canceller::Done => return self.finish(status),
        };
        self.phase = Phase::Ended { status, awaits };
        action
    }

    fn unmarked(&mut self, status: NtStatus, unmark: NtStatus) -> Action {
        if unmark != NtStatus::CANCELLED {
            return self.finish(status);
        }
        // A cancel that overtakes the end is heard, but not against proof, nor if it is the purge
        // of a removal.
        let status = match self.hand.stop {
            _ if status.is_success() => status,
            Some(Stop::Gone) => status,
            _ => NtStatus::CANCELLED,
        };
        if self.hand.canceller == Canceller::Done {
            return self.finish(status);
        }
        self.phase = Phase::Ended {
            status,
            awaits: Awaits::CancelDone,
        };
        Action::Nothing
    }

    fn cancel_done(&mut self) -> Action {
        if self.hand.canceller != Canceller::Inside {
            return Action::Nothing;
        }
        self.hand.canceller = Canceller::Done;
        match self.phase {
            Phase::Ended {
                status,
                awaits: Awaits::CancelDone,
            } => self.finish(status),
            _ => Action::Nothing,
        }
    }

    fn finish(&mut self, status: NtStatus) -> Action {
        self.phase = Phase::Idle;
        Action::Finish(status)
    }

    /// The command block of the send being prepared.
    #[must_use]
    pub const fn cdb(&self) -> Cdb {
        Cdb::new(self.hand.command, self.hand.form)
    }

    /// What the operation in hand wants.
    #[must_use]
    pub const fn command(&self) -> Command {
        self.hand.command
    }

    /// The form remembered for the device.
    #[must_use]
    pub const fn form(&self) -> Form {
        self.remembered
    }

    /// Whether the device is being removed.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        self.gone
    }

    /// How often the operation was sent.
    #[must_use]
    pub const fn sends(&self) -> u32 {
        self.hand.sends
    }

    /// How many of the retries that [`Policy::max_retries`] counts were made.
    #[must_use]
    pub const fn retries(&self) -> u32 {
        self.hand.retries
    }

    /// How many unit attentions the operation met, and so kept from whoever else would have met
    /// them.
    #[must_use]
    pub const fn attentions(&self) -> u32 {
        self.hand.attentions
    }

    /// The verdict on the last send, if there was one.
    #[must_use]
    pub const fn verdict(&self) -> Option<Verdict> {
        self.hand.verdict
    }

    /// What is known of the reservation after all sends so far; what was known before still holds
    /// if there was none.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        self.hand.outcome
    }
}
