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
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::mem::take;
use std::time::Instant;

use scsi_reserve::{
    Action, Answer, Command, Event, Knowledge, NtStatus, Operation, Policy, ReservationState,
    Verdict,
};
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
    /// How often a request is brought while another is in hand.
    doubles: u8,
    /// How many resets and power cycles pass in all.
    resets: u8,
    /// The answers that the port has: so many of [`ROWS`], from the first.
    rows: usize,
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
    doubles: u8,
    resets: u8,
    knowledge: Knowledge,
    watch: Watch,
    /// What [`Wording::CancelSentWhilePreparing`] keeps from the machine until Ready.
    withheld: Vec<Said>,
    /// The first rule violated; nothing happens after it.
    violated: Option<Rule>,
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
    /// The request was brought while another was in hand: back to the queue.
    PutBack,
}

/// An event, as the model stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Said {
    Start,
    Marked { refused: bool },
    Ready,
    FormatFailed(Refusal),
    Refused(Refusal),
    Answered(Class),
    DelayOver,
    CancelAsked,
    CancelDone,
    Unmarked { lost: bool },
    Gone,
    ResetPassed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Refusal {
    Poisoned,
    NoResources,
    NoTarget,
}

/// An answer, by its number in [`ROWS`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Class(usize);

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
    /// A reset passed while the command was out.
    overtaken: bool,
}

macro_rules! rules {
    ($($rule:ident $promise:literal)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        enum Rule { $($rule),* }

        fn rules() -> Vec<Property<World>> {
            vec![$(Property::always($promise, |_, state: &State| {
                state.violated != Some(Rule::$rule)
            })),*]
        }
    };
}

rules! {
    Once "a caller's request is completed once, and not touched afterwards"
    Unmarked "no request is completed while it can be cancelled, nor unmarked without a mark"
    NotWhileOut "no request is completed while its pass-through is prepared or out"
    OneThread "one thread prepares the pass-through, and only while it is not out"
    OwnSend "no operation cancels the send of another"
    NoneAfterTheEnd "no operation cancels anything after it was finished"
    OneTimer "the timer is started once for each callback or stop"
    OwnEvent "an event is reported to the operation that it belongs to"
    Bounded "an operation sends once, once for its retry, its unit attention and its other form"
    NoDelay "a stopped operation waits for no delay"
    Alive "nothing acts on a device that is deleted"
    Known "what is known is what the table says of the last answer, of a reset and of a removal"
    InHand "a request that comes while another is in hand changes nothing, and is not lost"
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
    /// Somebody on this node has the disk reset, or it comes back from low power.
    Reset,
    Run(Thread, Luck),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Luck {
    Good,
    Fails,
    Hangs,
}

impl Said {
    fn event(self, caller: Option<usize>) -> Event {
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
            Self::FormatFailed(refusal) => Event::FormatFailed(refusal.status()),
            Self::Refused(refusal) => Event::Refused(refusal.status()),
            Self::Answered(class) => Event::Answered(class.verdict()),
            Self::DelayOver => Event::DelayOver,
            Self::CancelAsked => Event::CancelAsked,
            Self::CancelDone => Event::CancelDone,
            Self::Unmarked { lost } => Event::Unmarked(won(lost)),
            Self::Gone => Event::Gone,
            Self::ResetPassed => Event::ResetPassed,
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

/// What is known after an answer to a command of this node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// That it was executed.
    Done,
    /// That another initiator holds the unit.
    Another,
    /// What was known before.
    Same,
    Nothing,
}

/// One row of the table of answers, as a port gives it.
struct Row {
    what: &'static str,
    status: u32,
    scsi_status: u8,
    sense: &'static [u8],
    /// What the caller is told if it is the last answer.
    told: NtStatus,
    known: Known,
}

const fn by_scsi(what: &'static str, scsi_status: u8, told: NtStatus, known: Known) -> Row {
    Row {
        what,
        status: 0xC000_0185,
        scsi_status,
        sense: &[],
        told,
        known,
    }
}

const fn by_sense(what: &'static str, sense: &'static [u8], told: NtStatus, known: Known) -> Row {
    Row {
        what,
        status: 0,
        scsi_status: 0x02,
        sense,
        told,
        known,
    }
}

const fn by_nt(what: &'static str, status: u32, told: NtStatus, known: Known) -> Row {
    Row {
        what,
        status,
        scsi_status: 0xFF,
        sense: &[],
        told,
        known,
    }
}

/// All rows that differ in what the machine does or what is known. Those before [`KINDS`] are one of
/// each kind that the machine tells apart; the first two have a budget or a cause of their own.
const ROWS: [Row; 29] = {
    use Known::{Another, Done, Nothing, Same};
    type Nt = NtStatus;
    [
        by_sense(
            "reset",
            &[0x72, 6, 0x29, 0x00],
            Nt::IO_DEVICE_ERROR,
            Nothing,
        ),
        by_nt("cancelled", 0xC000_0120, Nt::IO_DEVICE_ERROR, Nothing),
        Row {
            status: 0,
            ..by_scsi("GOOD", 0x00, Nt::SUCCESS, Done)
        },
        by_nt("no proof", 0x0000_0000, Nt::IO_DEVICE_ERROR, Nothing),
        by_scsi("conflict", 0x18, Nt::DEVICE_BUSY, Another),
        by_scsi("BUSY", 0x08, Nt::DEVICE_NOT_READY, Same),
        by_sense(
            "becoming ready",
            &[0x72, 2, 0x04, 0x01],
            Nt::DEVICE_NOT_READY,
            Same,
        ),
        by_sense(
            "illegal request",
            &[0x72, 5, 0x20, 0x00],
            Nt::INVALID_DEVICE_REQUEST,
            Same,
        ),
        by_nt("timeout", 0xC000_00B5, Nt::IO_TIMEOUT, Nothing),
        // KINDS
        by_nt("bus reset", 0xC000_0185, Nt::IO_DEVICE_ERROR, Nothing),
        by_nt("STATUS_TIMEOUT", 0x0000_0102, Nt::IO_DEVICE_ERROR, Nothing),
        by_nt("port busy", 0x8000_0011, Nt::IO_DEVICE_ERROR, Nothing),
        by_nt("port not ready", 0xC000_00A3, Nt::DEVICE_NOT_READY, Nothing),
        by_nt(
            "port has no medium",
            0xC000_0013,
            Nt::NO_MEDIA_IN_DEVICE,
            Nothing,
        ),
        by_nt(
            "port refuses",
            0xC000_0010,
            Nt::INVALID_DEVICE_REQUEST,
            Same,
        ),
        by_nt("gone", 0xC000_000E, Nt::DEVICE_NOT_CONNECTED, Nothing),
        by_nt(
            "no memory",
            0xC000_009A,
            Nt::INSUFFICIENT_RESOURCES,
            Nothing,
        ),
        by_scsi("TASK ABORTED", 0x40, Nt::IO_DEVICE_ERROR, Nothing),
        by_scsi("no such status", 0x22, Nt::IO_DEVICE_ERROR, Nothing),
        by_sense("recovered", &[0x72, 1, 0x17, 0x01], Nt::SUCCESS, Done),
        Row {
            status: 0xC000_00B5,
            ..by_sense(
                "recovered, too late",
                &[0x72, 1, 0x17, 0x01],
                Nt::IO_TIMEOUT,
                Nothing,
            )
        },
        by_sense(
            "deferred",
            &[0x73, 3, 0x11, 0x00],
            Nt::IO_DEVICE_ERROR,
            Same,
        ),
        by_sense(
            "aborted",
            &[0x72, 0xB, 0x4B, 0x00],
            Nt::IO_DEVICE_ERROR,
            Nothing,
        ),
        by_sense(
            "no medium",
            &[0x72, 2, 0x3A, 0x00],
            Nt::NO_MEDIA_IN_DEVICE,
            Same,
        ),
        by_sense(
            "formatting",
            &[0x72, 2, 0x04, 0x04],
            Nt::DEVICE_NOT_READY,
            Same,
        ),
        by_sense(
            "no such unit",
            &[0x72, 5, 0x25, 0x00],
            Nt::DEVICE_NOT_CONNECTED,
            Nothing,
        ),
        by_sense(
            "medium",
            &[0x72, 3, 0x11, 0x00],
            Nt::DEVICE_DATA_ERROR,
            Nothing,
        ),
        by_sense(
            "hardware",
            &[0x72, 4, 0x44, 0x00],
            Nt::DEVICE_HARDWARE_ERROR,
            Nothing,
        ),
        by_sense("protected", &[0x72, 7, 0x27, 0x00], Nt::ACCESS_DENIED, Same),
    ]
};

const KINDS: usize = 9;

impl Class {
    const ATTENTION: Self = Self(0);
    const CANCELLED: Self = Self(1);

    fn row(self) -> &'static Row {
        &ROWS[self.0]
    }

    fn verdict(self) -> Verdict {
        let row = self.row();
        Verdict::of(&Answer {
            status: NtStatus(row.status.cast_signed()),
            information: 56 + row.sense.len(),
            scsi_status: row.scsi_status,
            sense: row.sense,
        })
    }

    fn told(self) -> NtStatus {
        self.row().told
    }
}

impl fmt::Debug for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().what)
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
            doubles: self.doubles,
            resets: self.resets,
            knowledge: Knowledge::Unknown,
            watch: Watch::default(),
            withheld: vec![],
            violated: None,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.violated.is_none() {
            state.steps_that_must_come(self.rows, steps);
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
                state.is_going_on(KINDS) || state.is_done() || state.waits_for_a_hung_port()
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

    fn is_going_on(&self, rows: usize) -> bool {
        let mut steps = vec![];
        if self.threads.is_empty() {
            self.steps_that_must_come(rows, &mut steps);
        }
        self.violated.is_some() || !self.threads.is_empty() || !steps.is_empty()
    }

    fn first_queued(&self) -> Option<usize> {
        let mut callers = self.callers.iter();
        callers.position(|caller| *caller == Caller::Queued)
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
    fn steps_that_must_come(&self, rows: usize, steps: &mut Vec<Step>) {
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
            let possible = |class: &Class| match *class {
                Class::CANCELLED => cancelled,
                Class::ATTENTION => !hangs && self.attentions > 0,
                _ => !hangs,
            };
            let classes = (0..rows).map(Class).filter(possible);
            steps.extend(classes.map(Step::Answer));
        }
        if self.timer_set {
            steps.push(Step::Expire);
        }
        let held = |caller: &Caller| matches!(caller, Caller::Held(..));
        if matches!(
            self.removal,
            Removal::No | Removal::Flushing | Removal::Flushed
        ) && !self.callers.iter().any(held)
            && let Some(first) = self.first_queued()
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
        if self.resets > 0 {
            steps.push(Step::Reset);
        }
        let in_hand = |caller: &Caller| matches!(caller, Caller::Held(..));
        if self.doubles > 0
            && self.callers.iter().any(in_hand)
            && let Some(next) = self.first_queued()
        {
            steps.push(Step::Present(next));
        }
        if self.removal == Removal::No {
            steps.extend([true, false].map(|started| Step::Remove { started }));
        }
    }

    fn take(&mut self, wording: Wording, step: Step) {
        match step {
            Step::Present(number) => {
                let double = self
                    .callers
                    .iter()
                    .any(|caller| matches!(caller, Caller::Held(..)));
                self.doubles -= u8::from(double);
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
                if class == Class::ATTENTION {
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
            Step::Reset => {
                self.resets -= 1;
                self.reset();
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
            self.violated.get_or_insert(rule);
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
                    Some(Next::Report(Said::FormatFailed(Refusal::NoResources)))
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
            Next::PutBack => {
                self.put_back(thread);
                None
            }
        };
        self.threads.extend(after.map(|next| Thread {
            serves,
            next,
            ..thread
        }));
    }

    /// `WdfRequestRequeue`: a request that was cancelled meanwhile, or comes back to a purged queue,
    /// is completed.
    fn put_back(&mut self, thread: Thread) {
        let Some((number, mark, cancelled)) = self.held(thread) else {
            return self.rule(Rule::Once, false);
        };
        self.rule(Rule::Unmarked, mark == Mark::Unmarked);
        self.callers[number] = if cancelled || self.removal == Removal::Purged {
            Caller::Completed(NtStatus::CANCELLED)
        } else {
            Caller::Queued
        };
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
        // Both may be the next one's already.
        let others = self.in_hand.is_some_and(|next| next != number);
        let idle = self.pass_through == PassThrough::Idle;
        self.rule(Rule::NotWhileOut, idle || others);
        self.rule(Rule::OneTimer, !self.timer_set || others);
        self.callers[number] = Caller::Completed(status);
    }

    /// A hold of the device's lock; what the thread does after it.
    fn report(&mut self, wording: Wording, thread: Thread, said: Said) -> Option<Next> {
        if said == Said::Start && self.in_hand.is_some() {
            self.double(thread);
            return Some(Next::PutBack);
        }
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
            Action::Refuse => {
                self.rule(Rule::InHand, false);
                None
            }
            Action::CancelSent => Some(Next::CancelSent),
            Action::Unmark => Some(Next::Unmark),
            Action::Finish(status) => {
                self.watch_the_end(thread, status);
                self.in_hand = None;
                Some(Next::Complete(status.0))
            }
        }
    }

    /// The framework presents a request while another is in hand (tests/rig/kmdf-behaviour.md).
    fn double(&mut self, thread: Thread) {
        let before = (self.operation.clone(), self.knowledge);
        let action = self.operation.step(Said::Start.event(thread.serves));
        self.note(Said::Start.event(thread.serves), action);
        let unchanged = before == (self.operation.clone(), self.knowledge);
        self.rule(Rule::InHand, action == Action::Refuse && unchanged);
    }

    /// The step of a reset or a power cycle, under the lock.
    fn reset(&mut self) {
        let said = Said::ResetPassed;
        self.watch_for(said);
        let action = self.operation.step(said.event(None));
        self.rule(Rule::Known, action == Action::Nothing);
        self.note(said.event(None), action);
        self.rule(Rule::Known, self.knowledge == Knowledge::Unknown);
    }

    /// What [`ReservationState::note`] makes of a step; its counters are not what is looked at here.
    fn note(&mut self, event: Event, action: Action) {
        let mut state = ReservationState::new(0, &Policy::DEFAULT, 10, scsi_reserve::Watch::Off);
        state.knowledge = self.knowledge as u32;
        state.note(&event, action, &self.operation, || 0);
        let known = Knowledge::from_number(state.knowledge);
        self.knowledge = known.expect("one of the four");
    }

    /// What must be known after a step.
    fn must_know(&self, said: Said) -> Knowledge {
        let known = match said {
            Said::Gone | Said::Refused(_) => Known::Nothing,
            Said::Answered(class) => match class.row().known {
                Known::Done | Known::Another if self.watch.overtaken => Known::Nothing,
                known => known,
            },
            _ => Known::Same,
        };
        match known {
            Known::Done if self.in_hand == Some(0) => Knowledge::HeldByUs,
            Known::Done => Knowledge::NotOurs,
            Known::Another => Knowledge::HeldByAnother,
            Known::Same => self.knowledge,
            Known::Nothing => Knowledge::Unknown,
        }
    }

    /// The step, and the timer calls that belong under the lock.
    fn step(&mut self, wording: Wording, said: Said) -> Action {
        let must_know = self.must_know(said);
        let event = said.event(self.in_hand);
        let mut action = self.operation.step(event);
        self.note(event, action);
        self.rule(Rule::Known, self.knowledge == must_know);
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
            Said::Refused(_) | Said::FormatFailed(_) => self.tell_withheld(),
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
                watch.proved |= class.told() == NtStatus::SUCCESS;
                watch.last = Some(class.told());
                watch.owed = watch.stop;
            }
            Said::Refused(refusal) | Said::FormatFailed(refusal) => {
                watch.last = Some(refusal.told());
                watch.owed = watch.stop;
            }
            Said::Ready | Said::DelayOver => watch.owed = watch.stop,
            _ => {}
        }
        // From Ready on the command may be out.
        watch.overtaken = match said {
            Said::Ready => false,
            Said::ResetPassed | Said::Gone => {
                watch.overtaken
                    || matches!(
                        self.pass_through,
                        PassThrough::Due | PassThrough::InFlight { .. }
                    )
                    || self
                        .threads
                        .iter()
                        .any(|thread| matches!(thread.next, Next::Report(Said::Answered(_))))
            }
            _ => watch.overtaken,
        };
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
    doubles: 0,
    resets: 0,
    rows: KINDS,
};

/// The framework presents a second request now and then.
const DOUBLES: World = World {
    attentions: 0,
    failures: 0,
    hangs: 0,
    doubles: 1,
    ..WORLD
};

/// Every row, and resets at any time.
const EVERY_ROW: World = World {
    callers: 1,
    hangs: 0,
    resets: 1,
    rows: ROWS.len(),
    ..WORLD
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

#[test]
fn a_request_that_comes_too_early_is_not_lost() {
    let checker = DOUBLES.checker().threads(2).spawn_bfs().join();
    checker.assert_no_discovery(ENDS);
    for property in rules() {
        checker.assert_no_discovery(property.name);
    }
}

#[test]
fn every_answer_means_what_its_row_says_in_all_orders() {
    let checker = EVERY_ROW.checker().threads(2).spawn_bfs().join();
    for property in rules() {
        checker.assert_no_discovery(property.name);
    }
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
