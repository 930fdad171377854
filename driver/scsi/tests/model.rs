//! The whole concurrent driver around the one [`Operation`], checked over all orders of what its
//! threads, its callers, the port, the timer and removal do.
//!
//! A transition is what nothing can come between: a call of the framework, or a hold of the
//! device's lock with the step in it, the timer calls that belong under the lock, and the taking of
//! the caller's handle. The framework does here what it was measured to do: a cancel of a request
//! that is not in flight poisons it until the next reuse; a mark is refused after a cancel or in a
//! purge; an unmark is lost once the cancel routine was taken.
//!
//! A thread that got TRUE from `WdfRequestSend` touches nothing more, so that its return is no
//! transition: the completion may come before it or after it.
//!
//! Lines that begin with `model: ` are JSON, for `cargo xtask report`.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::mem::take;
use std::time::Instant;

use scsi_reserve::{Action, Answer, Command, Event, NtStatus, Operation, Policy};
use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

/// How the rules of the lock are read. The wrong readings each lost a race in a driver written
/// after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wording {
    Right,
    /// A stop cancels the sent request while it is still being prepared, and Ready sends all the
    /// same.
    CancelSentWhilePreparing,
    /// The canceller's entry counts as its end.
    CancelAskedIsCancelDone,
    /// The timer is started after the lock was dropped.
    TimerStartedUnlocked,
}

/// The driver and the world around it, and how much of the world's malice to try.
#[derive(Clone, Copy, Debug)]
struct World {
    wording: Wording,
    callers: usize,
    /// How many unit attentions the target reports in all; the machine's own cap is not in reach.
    attentions: u8,
    /// How many formats or sends fail in all.
    failures: u8,
    /// How many sends the port answers only when they are cancelled.
    hangs: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    operation: Operation,
    /// The caller's request in the device's context.
    in_hand: Option<usize>,
    callers: Vec<Caller>,
    pass_through: PassThrough,
    /// The pass-through was cancelled while it was not in flight.
    poisoned: bool,
    timer_set: bool,
    /// What each thread does next; in order, so that which came first makes no difference.
    threads: Vec<Thread>,
    removal: Removal,
    attentions: u8,
    failures: u8,
    hangs: u8,
    watch: Watch,
    /// What [`Wording::CancelSentWhilePreparing`] keeps from the machine until Ready.
    withheld: Vec<Said>,
    /// The first rule broken; nothing happens after it.
    broken: Option<Rule>,
}

/// A caller's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Caller {
    Queued,
    /// By the driver; whether it was cancelled.
    Held(Mark, bool),
    Completed(NtStatus),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mark {
    Unmarked,
    Marked,
    /// `EvtRequestCancel` is called, or about to be.
    Taken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum PassThrough {
    Idle,
    Reused,
    Formatted,
    /// Ready was answered with Send.
    Due,
    InFlight {
        caller: Option<usize>,
        cancelled: bool,
        hangs: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Thread {
    role: Role,
    /// The request whose operation it acts for.
    serves: Option<usize>,
    next: Next,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Role {
    /// The queue's, the completion routine's or the timer's.
    Worker,
    Canceller,
    /// `EvtDeviceSelfManagedIoFlush`, on the thread that removes the device.
    Flush,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Next {
    Report(Said),
    Mark,
    Reuse,
    Format,
    Send,
    CancelSent,
    Unmark,
    StartTimer,
    /// With the NTSTATUS.
    Complete(i32),
}

/// An event, as the model stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Said {
    Start,
    Marked { refused: bool },
    Ready,
    Refused(Refusal),
    Answered(Class),
    DelayOver,
    CancelAsked,
    CancelDone,
    Unmarked { lost: bool },
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Refusal {
    Poisoned,
    NoResources,
    NoTarget,
}

/// One answer of each kind that the machine tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Class {
    Proof,
    Unproved,
    Conflict,
    Busy,
    BecomingReady,
    Attention,
    Illegal,
    TimedOut,
    Cancelled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Removal {
    No,
    Flushing,
    Flushed,
    Purged,
    Deleted,
}

/// What the operation in hand has to end with, from what it was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Watch {
    proved: bool,
    stop: Option<NtStatus>,
    /// The status of the first reason to stop, once a step that could have ended the operation has
    /// seen it.
    owed: Option<NtStatus>,
    /// The status of the last answer or refusal.
    last: Option<NtStatus>,
}

macro_rules! rules {
    ($($rule:ident $promise:literal)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        enum Rule { $($rule),* }

        fn rules() -> Vec<Property<World>> {
            vec![$(Property::always($promise, |_, state: &State| {
                state.broken != Some(Rule::$rule)
            })),*]
        }
    };
}

rules! {
    Once "a caller's request is completed once, and not touched afterwards"
    Unmarked "no request is completed while it can be cancelled, nor unmarked without a mark"
    NotWhileOut "no request is completed while the pass-through is prepared or out"
    OneThread "one thread prepares the pass-through, and only while it is not out"
    OwnSend "no operation cancels the send of another"
    NoneAfterTheEnd "no operation cancels anything after it was finished"
    OneTimer "the timer is started once for each callback or stop"
    OwnEvent "an event is reported to the operation that it belongs to"
    Bounded "an operation sends once, once for its retry, its unit attention and its other form"
    NoDelay "a stopped operation waits for no delay"
    Alive "nothing acts on a device that is deleted"
    Proof "success is told on proof, and proof as success"
    Reason "without proof the first reason to stop is told, and without a stop the answer"
}

const ENDS: &str = "every request is completed, unless the port hangs and nobody stops it";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The queue presents a request.
    Present(usize),
    /// A caller cancels its request.
    Cancel(usize),
    /// Removal begins, on a device that was started or not.
    Remove {
        started: bool,
    },
    /// The purge of the queue, after the flush.
    Purge,
    /// Everything is completed: the device goes.
    Delete,
    /// The port completes the pass-through.
    Answer(Class),
    /// The timer expires.
    Expire,
    Run(Thread, Luck),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Luck {
    Good,
    Fails,
    Hangs,
}

impl Said {
    fn event(self, caller: Option<usize>) -> Event<'static> {
        let won = |lost| {
            if lost {
                NtStatus::CANCELLED
            } else {
                NtStatus::SUCCESS
            }
        };
        match self {
            Self::Start if caller == Some(0) => Event::Start(Command::Reserve),
            Self::Start => Event::Start(Command::Release),
            Self::Marked { refused } => Event::Marked(won(refused)),
            Self::Ready => Event::Ready,
            Self::Refused(refusal) => Event::Refused(refusal.status()),
            Self::Answered(class) => Event::Answered(class.answer()),
            Self::DelayOver => Event::DelayOver,
            Self::CancelAsked => Event::CancelAsked,
            Self::CancelDone => Event::CancelDone,
            Self::Unmarked { lost } => Event::Unmarked(won(lost)),
            Self::Gone => Event::Gone,
        }
    }
}

impl Refusal {
    fn status(self) -> NtStatus {
        match self {
            Self::Poisoned => NtStatus::CANCELLED,
            Self::NoResources => NtStatus::INSUFFICIENT_RESOURCES,
            Self::NoTarget => NtStatus::INVALID_DEVICE_STATE,
        }
    }

    /// What the caller is told of it.
    fn told(self) -> NtStatus {
        match self {
            Self::Poisoned => NtStatus::IO_DEVICE_ERROR,
            Self::NoResources => NtStatus::INSUFFICIENT_RESOURCES,
            Self::NoTarget => NtStatus::DEVICE_NOT_CONNECTED,
        }
    }
}

impl Class {
    const UNCANCELLED: [Self; 8] = [
        Self::Proof,
        Self::Unproved,
        Self::Conflict,
        Self::Busy,
        Self::BecomingReady,
        Self::Attention,
        Self::Illegal,
        Self::TimedOut,
    ];

    fn answer(self) -> Answer<'static> {
        let (status, scsi_status, sense): (_, _, &[u8]) = match self {
            Self::Proof => (NtStatus::SUCCESS, 0x00, &[]),
            Self::Unproved => (NtStatus::SUCCESS, 0xFF, &[]),
            Self::Conflict => (NtStatus::IO_DEVICE_ERROR, 0x18, &[]),
            Self::Busy => (NtStatus::IO_DEVICE_ERROR, 0x08, &[]),
            Self::BecomingReady => (NtStatus::SUCCESS, 0x02, &[0x72, 2, 0x04, 0x01]),
            Self::Attention => (NtStatus::SUCCESS, 0x02, &[0x72, 6, 0x29, 0x00]),
            Self::Illegal => (NtStatus::SUCCESS, 0x02, &[0x72, 5, 0x20, 0x00]),
            Self::TimedOut => (NtStatus::IO_TIMEOUT, 0xFF, &[]),
            Self::Cancelled => (NtStatus::CANCELLED, 0xFF, &[]),
        };
        Answer {
            status,
            information: 56 + sense.len(),
            scsi_status,
            sense,
        }
    }

    /// What the caller is told of it, if it is the last answer.
    fn told(self) -> NtStatus {
        match self {
            Self::Proof => NtStatus::SUCCESS,
            Self::Unproved | Self::Attention | Self::Cancelled => NtStatus::IO_DEVICE_ERROR,
            Self::Conflict => NtStatus::DEVICE_BUSY,
            Self::Busy | Self::BecomingReady => NtStatus::DEVICE_NOT_READY,
            Self::Illegal => NtStatus::INVALID_DEVICE_REQUEST,
            Self::TimedOut => NtStatus::IO_TIMEOUT,
        }
    }
}

impl Model for World {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let policy = Policy {
            max_retries: 1,
            ..Policy::default()
        };
        vec![State {
            operation: Operation::new(policy),
            in_hand: None,
            callers: vec![Caller::Queued; self.callers],
            pass_through: PassThrough::Idle,
            poisoned: false,
            timer_set: false,
            threads: vec![],
            removal: Removal::No,
            attentions: self.attentions,
            failures: self.failures,
            hangs: self.hangs,
            watch: Watch::default(),
            withheld: vec![],
            broken: None,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.broken.is_none() {
            state.steps_that_must_come(steps);
            state.steps_that_may_come(steps);
        }
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        state.take(self.wording, step);
        state.threads.sort_unstable();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<World>> {
        let mut properties = rules();
        properties.extend([
            Property::always(ENDS, |_, state: &State| {
                state.is_going_on() || state.is_done() || state.waits_for_a_hung_port()
            }),
            Property::sometimes(
                "a cancel comes between Ready and the send",
                |_, state: &State| state.poisoned && state.pass_through == PassThrough::Due,
            ),
            Property::sometimes(
                "an unmark is lost before the canceller has come",
                |_, state: &State| {
                    let comes = |thread: &Thread| thread.next == Next::Report(Said::CancelAsked);
                    let lost = |thread: &Thread| {
                        thread.next == Next::Report(Said::Unmarked { lost: true })
                    };
                    state.threads.iter().any(comes) && state.threads.iter().any(lost)
                },
            ),
            Property::sometimes("a stop comes too late for the timer", |_, state: &State| {
                let over = |thread: &Thread| thread.next == Next::Report(Said::DelayOver);
                state.watch.stop.is_some() && state.threads.iter().any(over)
            }),
            Property::sometimes(
                "the flush cancels what was answered meanwhile",
                |_, state: &State| {
                    let late = |thread: &Thread| {
                        thread.role == Role::Flush && thread.next == Next::CancelSent
                    };
                    state.in_hand.is_none() && state.threads.iter().any(late)
                },
            ),
            Property::sometimes("proof beats a stop", |_, state: &State| {
                state.watch.proved && state.watch.stop.is_some()
            }),
            Property::sometimes(
                "a device with an operation is deleted",
                |_, state: &State| state.removal == Removal::Deleted && state.operation.sends() > 0,
            ),
        ]);
        properties
    }
}

impl State {
    fn is_done(&self) -> bool {
        self.callers
            .iter()
            .all(|caller| matches!(caller, Caller::Completed(_)))
    }

    fn is_going_on(&self) -> bool {
        let mut steps = vec![];
        if self.threads.is_empty() {
            self.steps_that_must_come(&mut steps);
        }
        self.broken.is_some() || !self.threads.is_empty() || !steps.is_empty()
    }

    fn waits_for_a_hung_port(&self) -> bool {
        matches!(
            self.pass_through,
            PassThrough::InFlight {
                hangs: true,
                cancelled: false,
                ..
            }
        ) && self.watch.stop.is_none()
    }

    /// What comes sooner or later if nobody does anything.
    fn steps_that_must_come(&self, steps: &mut Vec<Step>) {
        for &thread in &self.threads {
            steps.push(Step::Run(thread, Luck::Good));
            match thread.next {
                Next::Format | Next::Send if self.failures > 0 => {
                    steps.push(Step::Run(thread, Luck::Fails));
                }
                _ => {}
            }
            if thread.next == Next::Send && self.hangs > 0 {
                steps.push(Step::Run(thread, Luck::Hangs));
            }
        }
        if let PassThrough::InFlight {
            cancelled, hangs, ..
        } = self.pass_through
        {
            if cancelled {
                steps.push(Step::Answer(Class::Cancelled));
            }
            if !hangs {
                let classes = Class::UNCANCELLED.into_iter();
                let in_budget =
                    classes.filter(|&class| class != Class::Attention || self.attentions > 0);
                steps.extend(in_budget.map(Step::Answer));
            }
        }
        if self.timer_set {
            steps.push(Step::Expire);
        }
        let held = |caller: &Caller| matches!(caller, Caller::Held(..));
        if matches!(
            self.removal,
            Removal::No | Removal::Flushing | Removal::Flushed
        ) && !self.callers.iter().any(held)
            && let Some(first) = self
                .callers
                .iter()
                .position(|caller| *caller == Caller::Queued)
        {
            steps.push(Step::Present(first));
        }
        let flushing = self.threads.iter().any(|thread| thread.role == Role::Flush);
        match self.removal {
            Removal::Flushing if !flushing => steps.push(Step::Purge),
            Removal::Flushed => steps.push(Step::Purge),
            Removal::Purged
                if self.is_done() && !matches!(self.pass_through, PassThrough::InFlight { .. }) =>
            {
                steps.push(Step::Delete);
            }
            _ => {}
        }
    }

    /// What others may do or not.
    fn steps_that_may_come(&self, steps: &mut Vec<Step>) {
        for (number, caller) in self.callers.iter().enumerate() {
            if matches!(caller, Caller::Queued | Caller::Held(_, false)) {
                steps.push(Step::Cancel(number));
            }
        }
        if self.removal == Removal::No {
            steps.extend([true, false].map(|started| Step::Remove { started }));
        }
    }

    fn take(&mut self, wording: Wording, step: Step) {
        match step {
            Step::Present(number) => {
                self.callers[number] = Caller::Held(Mark::Unmarked, false);
                self.spawn(Role::Worker, Some(number), Next::Report(Said::Start));
            }
            Step::Cancel(number) => self.cancel(number),
            Step::Remove { started: true } => {
                self.removal = Removal::Flushing;
                self.spawn(Role::Flush, None, Next::Report(Said::Gone));
            }
            Step::Remove { started: false } => self.removal = Removal::Flushed,
            Step::Purge => self.purge(),
            Step::Delete => {
                self.removal = Removal::Deleted;
                self.rule(Rule::Alive, self.threads.is_empty() && !self.timer_set);
            }
            Step::Answer(class) => {
                if class == Class::Attention {
                    self.attentions -= 1;
                }
                let PassThrough::InFlight { caller, .. } = self.pass_through else {
                    unreachable!("answered while not in flight");
                };
                self.pass_through = PassThrough::Idle;
                self.spawn(Role::Worker, caller, Next::Report(Said::Answered(class)));
            }
            Step::Expire => {
                self.timer_set = false;
                self.spawn(Role::Worker, self.in_hand, Next::Report(Said::DelayOver));
            }
            Step::Run(thread, luck) => {
                let at = self
                    .threads
                    .iter()
                    .position(|other| *other == thread)
                    .expect("from this state");
                self.threads.remove(at);
                self.run(wording, thread, luck);
            }
        }
    }

    fn rule(&mut self, rule: Rule, kept: bool) {
        if !kept {
            self.broken.get_or_insert(rule);
        }
    }

    fn spawn(&mut self, role: Role, serves: Option<usize>, next: Next) {
        self.threads.push(Thread { role, serves, next });
    }

    fn cancel(&mut self, number: usize) {
        self.callers[number] = match self.callers[number] {
            Caller::Queued => Caller::Completed(NtStatus::CANCELLED),
            Caller::Held(Mark::Marked, _) => {
                self.spawn(
                    Role::Canceller,
                    Some(number),
                    Next::Report(Said::CancelAsked),
                );
                Caller::Held(Mark::Taken, true)
            }
            Caller::Held(mark, _) => Caller::Held(mark, true),
            completed @ Caller::Completed(_) => completed,
        };
    }

    fn purge(&mut self) {
        self.removal = Removal::Purged;
        for number in 0..self.callers.len() {
            if matches!(
                self.callers[number],
                Caller::Queued | Caller::Held(Mark::Marked, _)
            ) {
                self.cancel(number);
            }
        }
    }

    /// One framework call, or one hold of the lock.
    fn run(&mut self, wording: Wording, thread: Thread, luck: Luck) {
        let serves = match thread.next {
            Next::Report(Said::Gone) => self.in_hand,
            _ => thread.serves,
        };
        let after = match thread.next {
            Next::Report(said) => self.report(wording, thread, said),
            Next::Mark => Some(self.mark(thread)),
            Next::Reuse => {
                self.rule(Rule::OneThread, self.pass_through == PassThrough::Idle);
                self.pass_through = PassThrough::Reused;
                self.poisoned = false;
                Some(Next::Format)
            }
            Next::Format => {
                self.rule(Rule::OneThread, self.pass_through == PassThrough::Reused);
                if luck == Luck::Fails {
                    self.failures -= 1;
                    self.pass_through = PassThrough::Idle;
                    Some(Next::Report(Said::Refused(Refusal::NoResources)))
                } else {
                    self.pass_through = PassThrough::Formatted;
                    Some(Next::Report(Said::Ready))
                }
            }
            Next::Send => self.send(thread, luck),
            Next::CancelSent => {
                self.cancel_sent(wording, thread);
                let done =
                    thread.role == Role::Canceller && wording != Wording::CancelAskedIsCancelDone;
                done.then_some(Next::Report(Said::CancelDone))
            }
            Next::Unmark => Some(self.unmark(thread)),
            Next::StartTimer => {
                self.start_timer();
                None
            }
            Next::Complete(status) => {
                self.complete(thread, NtStatus(status));
                None
            }
        };
        self.threads.extend(after.map(|next| Thread {
            serves,
            next,
            ..thread
        }));
    }

    fn held(&mut self, thread: Thread) -> Option<(usize, Mark, bool)> {
        let number = thread.serves?;
        match self.callers[number] {
            Caller::Held(mark, cancelled) => Some((number, mark, cancelled)),
            _ => None,
        }
    }

    fn mark(&mut self, thread: Thread) -> Next {
        let held = self.held(thread);
        self.rule(Rule::Once, held.is_some());
        let mut refused = true;
        if let Some((number, mark, cancelled)) = held {
            self.rule(Rule::Unmarked, mark == Mark::Unmarked);
            refused = cancelled || self.removal == Removal::Purged;
            let mark = if refused { mark } else { Mark::Marked };
            self.callers[number] = Caller::Held(mark, cancelled);
        }
        Next::Report(Said::Marked { refused })
    }

    fn unmark(&mut self, thread: Thread) -> Next {
        let held = self.held(thread);
        self.rule(Rule::Once, held.is_some());
        let mut lost = true;
        if let Some((number, mark, cancelled)) = held {
            self.rule(Rule::Unmarked, mark != Mark::Unmarked);
            lost = mark == Mark::Taken;
            let mark = if lost { mark } else { Mark::Unmarked };
            self.callers[number] = Caller::Held(mark, cancelled);
        }
        Next::Report(Said::Unmarked { lost })
    }

    fn send(&mut self, thread: Thread, luck: Luck) -> Option<Next> {
        self.rule(Rule::OneThread, self.pass_through == PassThrough::Due);
        if self.poisoned {
            self.pass_through = PassThrough::Idle;
            return Some(Next::Report(Said::Refused(Refusal::Poisoned)));
        }
        match luck {
            Luck::Fails => {
                self.failures -= 1;
                self.pass_through = PassThrough::Idle;
                return Some(Next::Report(Said::Refused(Refusal::NoTarget)));
            }
            Luck::Hangs => self.hangs -= 1,
            Luck::Good => {}
        }
        let hangs = luck == Luck::Hangs;
        self.pass_through = PassThrough::InFlight {
            caller: thread.serves,
            cancelled: false,
            hangs,
        };
        None
    }

    fn cancel_sent(&mut self, wording: Wording, thread: Thread) {
        let own = self.in_hand == thread.serves;
        // A flush may come late: nothing is sent after it, and a poisoned idle request harms
        // nobody.
        let late = thread.role == Role::Flush && self.in_hand.is_none();
        let idle = self.pass_through == PassThrough::Idle;
        self.rule(Rule::NoneAfterTheEnd, own || !idle || late);
        self.rule(Rule::OwnSend, own || idle);
        match &mut self.pass_through {
            PassThrough::InFlight { cancelled, .. } => *cancelled = true,
            PassThrough::Idle | PassThrough::Due => self.poisoned = true,
            PassThrough::Reused | PassThrough::Formatted => {
                self.poisoned = true;
                self.rule(
                    Rule::OneThread,
                    wording == Wording::CancelSentWhilePreparing,
                );
            }
        }
    }

    fn start_timer(&mut self) {
        self.rule(Rule::OneTimer, !self.timer_set);
        self.rule(Rule::NoDelay, self.watch.stop.is_none());
        self.timer_set = true;
    }

    fn complete(&mut self, thread: Thread, status: NtStatus) {
        let Some((number, mark, _)) = self.held(thread) else {
            return self.rule(Rule::Once, false);
        };
        self.rule(Rule::Unmarked, mark != Mark::Marked);
        self.rule(Rule::NotWhileOut, self.pass_through == PassThrough::Idle);
        self.rule(Rule::OneTimer, !self.timer_set);
        self.callers[number] = Caller::Completed(status);
    }

    /// A hold of the device's lock; what the thread does after it.
    fn report(&mut self, wording: Wording, thread: Thread, said: Said) -> Option<Next> {
        match said {
            Said::Start => {
                self.in_hand = thread.serves;
                self.watch = Watch::default();
            }
            Said::Gone => {}
            _ => self.rule(Rule::OwnEvent, self.in_hand == thread.serves),
        }
        self.watch_for(said);
        let action = match wording {
            Wording::CancelSentWhilePreparing => self.step_withholding(said),
            _ => self.step(wording, said),
        };
        self.rule(Rule::NoDelay, !self.timer_set || self.watch.stop.is_none());
        self.rule(Rule::Bounded, self.operation.sends() <= 4);
        if said == Said::Ready {
            self.pass_through = match action {
                Action::Send => PassThrough::Due,
                _ => PassThrough::Idle,
            };
        }
        match action {
            Action::Nothing
                if said == Said::CancelAsked && wording != Wording::CancelAskedIsCancelDone =>
            {
                Some(Next::Report(Said::CancelDone))
            }
            Action::Nothing => None,
            Action::Mark => Some(Next::Mark),
            Action::Prepare => Some(Next::Reuse),
            Action::Send => Some(Next::Send),
            Action::StartTimer { .. } => Some(Next::StartTimer),
            Action::StopTimer => unreachable!("done under the lock"),
            Action::CancelSent => Some(Next::CancelSent),
            Action::Unmark => Some(Next::Unmark),
            Action::Finish(status) => {
                self.watch_the_end(thread, status);
                self.in_hand = None;
                Some(Next::Complete(status.0))
            }
        }
    }

    /// The step, and the timer calls that belong under the lock.
    fn step(&mut self, wording: Wording, said: Said) -> Action {
        let mut action = self.operation.step(said.event(self.in_hand));
        if action == Action::StopTimer {
            let stopped = take(&mut self.timer_set);
            if stopped {
                self.watch.owed = self.watch.owed.or(self.watch.stop);
            }
            action = self.operation.step(Event::WaitStopped(stopped));
        }
        if let Action::StartTimer { .. } = action
            && wording != Wording::TimerStartedUnlocked
        {
            self.start_timer();
            action = Action::Nothing;
        }
        if said == Said::CancelAsked && wording == Wording::CancelAskedIsCancelDone {
            let finish = self.operation.step(Event::CancelDone);
            if action == Action::Nothing {
                action = finish;
            }
        }
        action
    }

    /// [`Wording::CancelSentWhilePreparing`]: the machine hears of the stop only when it can no
    /// longer keep the send back.
    fn step_withholding(&mut self, said: Said) -> Action {
        let reuses = self.threads.iter().any(|thread| thread.next == Next::Reuse);
        let preparing = reuses
            || matches!(
                self.pass_through,
                PassThrough::Reused | PassThrough::Formatted
            );
        match said {
            Said::CancelAsked | Said::Gone if preparing => {
                self.withheld.push(said);
                return Action::CancelSent;
            }
            Said::CancelDone if !self.withheld.is_empty() => {
                self.withheld.push(said);
                return Action::Nothing;
            }
            Said::Refused(_) => self.tell_withheld(),
            _ => {}
        }
        let action = self.step(Wording::Right, said);
        if said == Said::Ready {
            self.tell_withheld();
        }
        action
    }

    fn tell_withheld(&mut self) {
        for said in take(&mut self.withheld) {
            let _ = self.step(Wording::Right, said);
        }
    }

    fn watch_for(&mut self, said: Said) {
        let watch = &mut self.watch;
        match said {
            Said::Start if self.operation.is_gone() => {
                watch.owed = Some(NtStatus::DEVICE_NOT_CONNECTED);
            }
            Said::CancelAsked => watch.stop = watch.stop.or(Some(NtStatus::CANCELLED)),
            Said::Gone if self.in_hand.is_some() => {
                watch.stop = watch.stop.or(Some(NtStatus::DEVICE_NOT_CONNECTED));
            }
            Said::Marked { refused } => {
                watch.owed = watch.stop.or(refused.then_some(NtStatus::CANCELLED));
            }
            Said::Answered(class) => {
                watch.proved |= class == Class::Proof;
                watch.last = Some(class.told());
                watch.owed = watch.stop;
            }
            Said::Refused(refusal) => {
                watch.last = Some(refusal.told());
                watch.owed = watch.stop;
            }
            Said::Ready | Said::DelayOver => watch.owed = watch.stop,
            _ => {}
        }
    }

    fn watch_the_end(&mut self, thread: Thread, status: NtStatus) {
        let taken = matches!(self.held(thread), Some((_, Mark::Taken, _)));
        let Watch {
            proved, owed, last, ..
        } = take(&mut self.watch);
        self.rule(Rule::Proof, proved == (status == NtStatus::SUCCESS));
        let told = match owed {
            Some(owed) => status == owed,
            None => Some(status) == last || (taken && status == NtStatus::CANCELLED),
        };
        self.rule(Rule::Reason, proved || told);
    }
}

const WORLD: World = World {
    wording: Wording::Right,
    callers: 2,
    attentions: 1,
    failures: 1,
    hangs: 1,
};

#[test]
fn the_driver_keeps_its_rules_in_all_orders() {
    let began = Instant::now();
    let checker = WORLD.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    let named = |expectation: Expectation| {
        let properties = WORLD.properties().into_iter();
        let those = properties.filter(move |property| property.expectation == expectation);
        those.map(|property| property.name).collect::<Vec<_>>()
    };
    println!(
        "model: {{\"states\":{},\"generated\":{},\"depth\":{},\"seconds\":{},\"world\":\"{} callers, {} unit \
         attention, {} failure, {} hang\",\"always\":{:?},\"sometimes\":{:?}}}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f64(),
        WORLD.callers,
        WORLD.attentions,
        WORLD.failures,
        WORLD.hangs,
        named(Expectation::Always),
        named(Expectation::Sometimes),
    );
}

/// No order goes round in a circle: with the states being finite in number, every order ends.
#[test]
fn every_order_ends() {
    let hashes = BuildHasherDefault::<DefaultHasher>::default();
    let open = |state: State| {
        let mut steps = vec![];
        WORLD.actions(&state, &mut steps);
        (hashes.hash_one(&state), state, steps)
    };
    let (mut on_the_way, mut done) = (HashSet::new(), HashSet::new());
    let mut way = WORLD
        .init_states()
        .into_iter()
        .map(open)
        .collect::<Vec<_>>();
    while let Some((hash, state, steps)) = way.last_mut() {
        on_the_way.insert(*hash);
        let Some(step) = steps.pop() else {
            on_the_way.remove(hash);
            done.insert(*hash);
            way.pop();
            continue;
        };
        let next = open(
            WORLD
                .next_state(state, step)
                .expect("all steps are possible"),
        );
        assert!(
            !on_the_way.contains(&next.0),
            "{step:?} leads back to {:#?}",
            next.1
        );
        if !done.contains(&next.0) {
            way.push(next);
        }
    }
    println!("model: {{\"ends\":{}}}", done.len());
}

#[test]
fn each_wrong_wording_loses_its_race() {
    for (wording, promise) in [
        (Wording::CancelSentWhilePreparing, ENDS),
        (
            Wording::CancelAskedIsCancelDone,
            "no operation cancels the send of another",
        ),
        (
            Wording::TimerStartedUnlocked,
            "a stopped operation waits for no delay",
        ),
    ] {
        let world = World { wording, ..WORLD };
        let found = HasDiscoveries::AnyOf([promise].into());
        let checker = world.checker().finish_when(found).spawn_bfs().join();
        let way = checker.assert_any_discovery(promise).into_actions();
        let way: Vec<_> = way.iter().map(|step| format!("{step:?}")).collect();
        println!(
            "model: {{\"wording\":\"{wording:?}\",\"promise\":{promise:?},\"states\":{},\"way\":{way:?}}}",
            checker.unique_state_count()
        );
    }
}
