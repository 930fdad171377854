//! One operation, a caller's RESERVE or RELEASE, from the queue to its completion, as a state
//! machine.
//!
//! A device has one [`Operation`] for its whole life and steps it under its spin lock with all that
//! happens to the request in hand. The answer is an [`Action`] for whoever reported the event.
//! Actions are done after the lock is dropped, except [`Action::StartTimer`] and
//! [`Action::StopTimer`], which are done under it, and what [`Action::Finish`] says of itself.
//! [`Action::Mark`] and [`Action::Unmark`] may be done on either side, since they call nothing back;
//! the driver does them under it, `tests/model.rs` after it, which is every order of the other and more.
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
//! | any but Idle | Start | `Refuse`: the request stays with who brought it | the same |
//! | Marking | Marked, refused | `Finish`: there is nothing to unmark | Idle |
//! | Marking | Marked | `Prepare`, or if a stop was recorded *end* | Preparing |
//! | Preparing | Ready | `Send`, or if a stop was recorded *end* | Out |
//! | Preparing | `FormatFailed` | *judge* | |
//! | Out | Refused, Answered | *judge* | |
//! | Waiting | `DelayOver` | `Prepare`, or if a stop was recorded *end* | Preparing |
//! | Waiting | WaitStopped(true) | *end* | |
//! | Waiting | WaitStopped(false) | `Nothing`: `DelayOver` follows | Waiting |
//! | Marking, Preparing | `CancelAsked`, Gone | `Nothing` | |
//! | Out | `CancelAsked` or Gone, whichever is first | `CancelSent` | Out |
//! | Waiting | `CancelAsked` or Gone, whichever is first | `StopTimer` | Waiting |
//! | Ended | Unmarked, won | `Finish` | Idle |
//! | Ended | Unmarked, lost | `Nothing`, or after `CancelDone` `Finish` | Ended, or Idle |
//! | Ended, only the canceller is left | `CancelDone` | `Finish` | Idle |
//! | any | `ResetPassed`, `PoweredUp` | `Nothing`; a command that is out tells no longer who holds the unit | the same |
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
//! An event that cannot happen in a phase changes nothing and is answered `Nothing`; but a request
//! that comes while another is in hand is answered `Refuse`, so that it can't be lost.

#![allow(
    clippy::inline_always,
    reason = "counted: of a step with an event that is known only its own arm is left, and no call"
)]

use crate::cdb::{Cdb, Command, Form};
use crate::ntstatus::NtStatus;
use crate::verdict::{Outcome, Retry, Verdict};

/// How many unit attentions one operation sends again after at once. A target may hold several, and
/// each takes a command to report: they say nothing against this one, so that they are no retries.
/// After these the target reports a state that lasts (RDAC's 8Bh/02h, quiescence in progress, for
/// one: torvalds/linux, `drivers/scsi/device_handler/scsi_dh_rdac.c`): a passing trouble.
const MAX_ATTENTIONS: u32 = 8;

/// classpnp's `NOT_READY_RETRY_INTERVAL` (microsoft/Windows-driver-samples,
/// storage/class/classpnp/src/classp.h).
const NOT_READY_DELAY_MS: u32 = 10_000;

/// What an operation may do, from the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// How often one operation is sent again in all, apart from the first eight unit attentions and
    /// the change of form.
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
// With a tag of its own, rather than one hidden in a verdict: so that of a step with an event that is known only its own
// arm is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Event {
    /// A request was taken from the queue.
    Start(Command),
    /// `WdfRequestMarkCancelableEx` returned.
    Marked(NtStatus),
    /// The pass-through is formatted, and the next thing is to send it.
    Ready,
    /// The pass-through can't be reused or formatted, with the NTSTATUS that says why.
    FormatFailed(NtStatus),
    /// `WdfRequestSend` returned FALSE: no completion routine runs. With `WdfRequestGetStatus`.
    Refused(NtStatus),
    /// The pass-through's completion routine runs; what it brings is read before the lock is taken.
    Answered(Verdict),
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
    /// A reset of the disk or its bus, asked for by somebody on this node, passes the filter. Also
    /// reported when no operation is in hand.
    ResetPassed,
    /// The device came back from low power, in which its target may have lost the reservation. Also
    /// reported when no operation is in hand.
    PoweredUp,
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
    /// Another request is in hand, and nothing has become of this one: it is still the reporter's, to
    /// be put back to the queue or completed. Only [`Event::Start`] is answered so.
    Refuse,
}

const _: () = assert!(size_of::<Action>() == 8);

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
    /// The answer to what is out, or was out last, says nothing of now: what ends reservations happened
    /// while it was out, before the target executed it or after, or a command of another's was out.
    overtaken: bool,
    others: Others,
    current: Current,
}

/// Commands of others on this node that may change the reservation, and that passed the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Others {
    /// How many are out.
    out: u32,
    /// Since the first of them was sent something else was out, too: which of them the target
    /// executed last can't be told.
    overlap: bool,
}

/// The operation in hand, or the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Current {
    command: Command,
    form: Form,
    stop: Option<Stop>,
    canceller: Canceller,
    outcome: Outcome,
    sends: u32,
    retries: u32,
    attentions: u32,
    verdict: Option<Verdict>,
}

impl Current {
    const fn new(command: Command, form: Form) -> Self {
        Self {
            command,
            form,
            stop: None,
            canceller: Canceller::Away,
            outcome: Outcome::NotExecuted,
            sends: 0,
            retries: 0,
            attentions: 0,
            verdict: None,
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
            overtaken: false,
            others: Others {
                out: 0,
                overlap: false,
            },
            current: Current::new(Command::Release, Form::Six),
        }
    }

    /// Takes an event, and says what to do about it. At any IRQL, under the device's lock.
    #[inline(always)]
    pub fn step(&mut self, event: Event) -> Action {
        match event {
            Event::Start(command) => self.start(command),
            Event::Marked(status) if self.phase == Phase::Marking => self.marked(status),
            Event::Ready if self.phase == Phase::Preparing => self.ready(),
            Event::FormatFailed(status) if self.phase == Phase::Preparing => {
                self.judge(&Verdict::of_failed_format(status))
            }
            Event::Refused(status) if self.phase == Phase::Out => {
                self.judge(&Verdict::of_refused(status))
            }
            Event::Answered(verdict) if self.phase == Phase::Out => self.judge(&verdict),
            Event::DelayOver if self.phase == Phase::Waiting => self.prepare(),
            Event::WaitStopped(true) if self.phase == Phase::Waiting => self.wait_stopped(),
            Event::Unmarked(unmark) => self.unmarked(unmark),
            Event::CancelAsked => self.cancel_asked(),
            Event::CancelDone => self.cancel_done(),
            Event::Gone => self.gone(),
            Event::ResetPassed | Event::PoweredUp => self.overtake(),
            _ => Action::Nothing,
        }
    }

    #[inline(always)]
    fn start(&mut self, command: Command) -> Action {
        if self.phase != Phase::Idle {
            return Action::Refuse;
        }
        self.current = Current::new(command, self.remembered);
        if self.gone {
            return self.finish(NtStatus::DEVICE_NOT_CONNECTED);
        }
        // Before the mark is made: EvtRequestCancel may come before the mark has returned.
        self.phase = Phase::Marking;
        Action::Mark
    }

    #[inline(always)]
    fn marked(&mut self, status: NtStatus) -> Action {
        if status.is_success() {
            return self.prepare();
        }
        // Refused by a purge too, and then it is removal that came first.
        self.finish(self.current.stop.map_or(status, Stop::status))
    }

    #[inline(always)]
    fn prepare(&mut self) -> Action {
        if let Some(stop) = self.current.stop {
            return self.end(stop.status());
        }
        self.phase = Phase::Preparing;
        Action::Prepare
    }

    #[inline(always)]
    fn ready(&mut self) -> Action {
        if let Some(stop) = self.current.stop {
            return self.end_stopped(stop);
        }
        self.phase = Phase::Out;
        self.overtaken = self.others.out > 0;
        self.current.sends = self.current.sends.wrapping_add(1);
        Action::Send
    }

    #[inline(never)]
    fn judge(&mut self, verdict: &Verdict) -> Action {
        self.note(verdict);
        if verdict.status == NtStatus::SUCCESS {
            return self.end(verdict.status);
        }
        if let Some(stop) = self.current.stop {
            return self.end(stop.status());
        }
        let Some(milliseconds) = self.delay(verdict.retry) else {
            return self.end(verdict.status);
        };
        self.phase = Phase::Waiting;
        Action::StartTimer { milliseconds }
    }

    /// What a verdict tells apart from what to do next, a stop or not.
    #[inline(always)]
    fn note(&mut self, verdict: &Verdict) {
        let current = &mut self.current;
        current.verdict = Some(*verdict);
        let is_unknown = match verdict.outcome {
            Outcome::NotExecuted => current.outcome == Outcome::Unknown,
            _ => self.overtaken,
        };
        current.outcome = if is_unknown {
            Outcome::Unknown
        } else {
            verdict.outcome
        };
        if verdict.retry == Retry::AtOnce {
            current.attentions = current.attentions.wrapping_add(1);
        }
        if current.form == Form::Ten {
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
        let current = &mut self.current;
        let milliseconds = match retry {
            Retry::No => return None,
            Retry::AtOnce if current.attentions <= MAX_ATTENTIONS => return Some(0),
            Retry::AtOnce | Retry::AfterDelay => self.policy.retry_delay_ms,
            Retry::AfterTenSeconds => NOT_READY_DELAY_MS,
            Retry::TenByteForm => {
                let allowed = self.policy.ten_byte_fallback && current.form == Form::Six;
                if allowed {
                    current.form = Form::Ten;
                }
                return allowed.then_some(0);
            }
        };
        let allowed = current.retries < self.policy.max_retries;
        current.retries = current.retries.wrapping_add(allowed.into());
        allowed.then_some(milliseconds)
    }

    fn wait_stopped(&mut self) -> Action {
        match self.current.stop {
            Some(stop) => self.end_stopped(stop),
            None => Action::Nothing,
        }
    }

    fn cancel_asked(&mut self) -> Action {
        if self.phase == Phase::Idle || self.current.canceller != Canceller::Away {
            return Action::Nothing;
        }
        self.current.canceller = Canceller::Inside;
        self.stop(Stop::Cancelled)
    }

    fn gone(&mut self) -> Action {
        self.gone = true;
        let _ = self.overtake();
        self.stop(Stop::Gone)
    }

    /// The answer to a command that is out may be older than this: its caller is told, but it says
    /// nothing of now.
    fn overtake(&mut self) -> Action {
        self.overtaken |= self.phase == Phase::Out;
        self.others.overlap |= self.others.out > 0;
        Action::Nothing
    }

    /// Another's command that may change the reservation goes by. What is answered while it is out
    /// tells nothing.
    pub fn other_sent(&mut self) {
        let is_out = self.phase == Phase::Out;
        self.others.overlap = is_out || self.others.out > 0;
        self.overtaken = self.others.overlap;
        self.others.out = self.others.out.wrapping_add(1);
    }

    /// It is answered: true if this is the target's last word, since nothing else was out meanwhile.
    #[must_use]
    pub fn other_answered(&mut self) -> bool {
        // Ours was sent meanwhile if it is overtaken, and perhaps is back already.
        let overlap = self.others.overlap || self.overtaken || self.phase == Phase::Out;
        let is_last_word = self.others.out == 1 && !overlap;
        self.others.out = self.others.out.saturating_sub(1);
        self.others.overlap = overlap && self.others.out > 0;
        is_last_word
    }

    /// The answer to a command that changes no reservation denies that this node holds it: newer,
    /// perhaps, than the answer to what is out.
    pub fn denied(&mut self) {
        let _nothing = self.overtake();
    }

    /// Whether a command of the operation's may be on its way.
    #[must_use]
    #[inline]
    pub const fn is_out(&self) -> bool {
        matches!(self.phase, Phase::Out)
    }

    /// The first reason to stop wins, and acts: a second finds the pass-through or the timer
    /// already told.
    fn stop(&mut self, reason: Stop) -> Action {
        if self.phase == Phase::Idle || self.current.stop.is_some() {
            return Action::Nothing;
        }
        self.current.stop = Some(reason);
        match self.phase {
            Phase::Out => Action::CancelSent,
            Phase::Waiting => Action::StopTimer,
            _ => Action::Nothing,
        }
    }

    /// Ends with what it was stopped for, where that is seldom.
    #[cold]
    #[inline(never)]
    fn end_stopped(&mut self, stop: Stop) -> Action {
        self.end(stop.status())
    }

    #[inline(always)]
    fn end(&mut self, status: NtStatus) -> Action {
        let (awaits, action) = match self.current.canceller {
            Canceller::Away => (Awaits::Unmarked, Action::Unmark),
            Canceller::Inside => (Awaits::CancelDone, Action::Nothing),
            Canceller::Done => return self.finish(status),
        };
        self.phase = Phase::Ended { status, awaits };
        action
    }

    #[inline(always)]
    fn unmarked(&mut self, unmark: NtStatus) -> Action {
        let Phase::Ended {
            status,
            awaits: Awaits::Unmarked,
        } = self.phase
        else {
            return Action::Nothing;
        };
        if unmark != NtStatus::CANCELLED {
            return self.finish(status);
        }
        // A cancel that overtakes the end is heard, but not against proof, nor if it is the purge
        // of a removal.
        let status = match self.current.stop {
            _ if status == NtStatus::SUCCESS => status,
            Some(Stop::Gone) => status,
            _ => NtStatus::CANCELLED,
        };
        if self.current.canceller == Canceller::Done {
            return self.finish(status);
        }
        self.phase = Phase::Ended {
            status,
            awaits: Awaits::CancelDone,
        };
        Action::Nothing
    }

    fn cancel_done(&mut self) -> Action {
        if self.current.canceller != Canceller::Inside {
            return Action::Nothing;
        }
        self.current.canceller = Canceller::Done;
        match self.phase {
            Phase::Ended {
                status,
                awaits: Awaits::CancelDone,
            } => self.finish(status),
            _ => Action::Nothing,
        }
    }

    #[inline(always)]
    fn finish(&mut self, status: NtStatus) -> Action {
        self.phase = Phase::Idle;
        Action::Finish(status)
    }

    /// The command block of the send being prepared.
    #[must_use]
    pub const fn cdb(&self) -> Cdb {
        Cdb::new(self.current.command, self.current.form)
    }

    /// What the operation in hand wants.
    #[must_use]
    pub const fn command(&self) -> Command {
        self.current.command
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
        self.current.sends
    }

    /// How many of the retries that [`Policy::max_retries`] counts were made.
    #[must_use]
    pub const fn retries(&self) -> u32 {
        self.current.retries
    }

    /// How many unit attentions the operation met, and so kept from whoever else would have met
    /// them.
    #[must_use]
    pub const fn attentions(&self) -> u32 {
        self.current.attentions
    }

    /// The verdict on the last send, if there was one.
    #[must_use]
    #[inline]
    pub const fn verdict(&self) -> Option<Verdict> {
        self.current.verdict
    }

    /// What is known of the reservation after all sends so far; what was known before still holds
    /// if there was none. An answer that something overtook which ends reservations tells nothing.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        self.current.outcome
    }
}
