//! Fuzz target: the machine of one operation.
//!
//! Of an input's two halves, the first is a driver and a world around it that run in the order which the input says, as
//! driver/scsi/tests/model.rs has them, but with any answers, any number of retries and any number of callers. The second
//! half is any events at all, as no driver would report them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use resvflt_fuzz::{Input, answered, is_proof};
use rig::faults::oracle;
use scsi_reserve::{Action, Answer, Command, Event, NtStatus, Operation, Policy, Verdict};

const OK: NtStatus = NtStatus::SUCCESS;
const CANCELLED: NtStatus = NtStatus::CANCELLED;
const NOT_CONNECTED: NtStatus = NtStatus::DEVICE_NOT_CONNECTED;

/// Unit attentions that an operation goes on after.
const ATTENTIONS: u32 = 8;
/// Sends that are no retries: the first, one for the 10-byte form, and one after each of those.
const NO_RETRIES: u32 = 1 + 1 + ATTENTIONS;

fuzz_target!(|data: &[u8]| {
    let (ordered, any) = data.split_at(data.len() / 2);
    let mut ordered = Input(ordered);
    World::new(policy(&mut ordered)).run(ordered);
    any_events(Input(any));
});

fn policy(input: &mut Input<'_>) -> Policy {
    Policy {
        max_retries: u32::from(input.byte() % 17),
        retry_delay_ms: 1000,
        ten_byte_fallback: input.byte().is_multiple_of(2),
    }
}

/// A caller's request that the driver holds.
#[derive(Clone, Copy, Debug)]
struct Caller {
    mark: Mark,
    cancelled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Unmarked,
    Marked,
    /// The cancel routine was taken: `EvtRequestCancel` is called, or about to be.
    Taken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PassThrough {
    Idle,
    Preparing,
    /// The next thing is to send it.
    Due,
    Out,
    /// Its completion routine is about to report.
    Back,
}

/// A thread of the driver's between two steps.
#[derive(Clone, Copy, Debug)]
struct Thread {
    next: Next,
    /// The operation that it acts for.
    serves: u32,
    is_canceller: bool,
}

#[derive(Clone, Copy, Debug)]
enum Next {
    Report(Event),
    Mark,
    Prepare,
    Send,
    CancelSent,
    Unmark,
    Complete,
}

/// What the operation in hand has to end with.
#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    proved: bool,
    stop: Option<NtStatus>,
    /// The first reason to stop, once a step has seen it that could end the operation.
    owed: Option<NtStatus>,
    last: Option<NtStatus>,
}

#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts about one device"
)]
struct World {
    operation: Operation,
    max_retries: u32,
    /// Counts operations.
    number: u32,
    caller: Option<Caller>,
    /// The machine was told of it, and has not ended it.
    in_hand: bool,
    /// The caller's request was taken out to be completed.
    completing: bool,
    pass_through: PassThrough,
    /// It was cancelled while it was not out, or while it was.
    poisoned: bool,
    is_told: bool,
    timer: bool,
    is_gone: bool,
    threads: Vec<Thread>,
    watch: Watch,
    /// Of the last answer: whether it is proof, and what the caller is told of it.
    said: Option<(bool, NtStatus)>,
}

impl World {
    fn new(policy: Policy) -> Self {
        Self {
            operation: Operation::new(policy),
            max_retries: policy.max_retries,
            number: 0,
            caller: None,
            in_hand: false,
            completing: false,
            pass_through: PassThrough::Idle,
            poisoned: false,
            is_told: false,
            timer: false,
            is_gone: false,
            threads: Vec::new(),
            watch: Watch::default(),
            said: None,
        }
    }

    fn run(mut self, mut input: Input<'_>) {
        while !input.is_empty() {
            match input.byte() {
                0 => self.present(Command::Reserve),
                1 => self.present(Command::Release),
                2 => self.cancel(),
                3 => self.gone(),
                4 => self.expire(),
                5..32 => {
                    let answer = input.answer();
                    self.answer(answer);
                }
                which => self.step(usize::from(which), &mut input),
            }
        }
        self.end();
    }

    /// Everybody goes on to the end, and the port says GOOD: no request is left.
    fn end(mut self) {
        const GOOD: Answer<'_> = Answer {
            status: OK,
            information: 56,
            scsi_status: 0,
            sense: &[],
        };
        for _ in 0..1000 {
            self.expire();
            self.answer(GOOD);
            if self.threads.is_empty() {
                break;
            }
            self.step(0, &mut Input(&[]));
        }
        assert!(self.threads.is_empty(), "{:?}", self.threads);
        assert!(self.caller.is_none() && !self.completing && !self.timer);
        assert_eq!(self.pass_through, PassThrough::Idle);
    }

    fn spawn(&mut self, next: Next, is_canceller: bool) {
        self.threads.push(Thread {
            next,
            serves: self.number,
            is_canceller,
        });
    }

    /// The sequential queue presents a request when the one before is complete.
    fn present(&mut self, command: Command) {
        if self.caller.is_some() || self.completing {
            return;
        }
        self.number += 1;
        self.caller = Some(Caller {
            mark: Mark::Unmarked,
            cancelled: false,
        });
        self.spawn(Next::Report(Event::Start(command)), false);
    }

    fn cancel(&mut self) {
        let Some(caller) = &mut self.caller else {
            return;
        };
        caller.cancelled = true;
        if caller.mark == Mark::Marked {
            caller.mark = Mark::Taken;
            self.spawn(Next::Report(Event::CancelAsked), true);
        }
    }

    fn gone(&mut self) {
        if !self.is_gone && self.caller.is_none() {
            // Nothing is in hand: the flag alone is set.
            self.is_gone = true;
            assert_eq!(self.operation.step(Event::Gone), Action::Nothing);
        } else if !self.is_gone {
            self.is_gone = true;
            self.spawn(Next::Report(Event::Gone), false);
        }
    }

    fn expire(&mut self) {
        if std::mem::take(&mut self.timer) {
            self.spawn(Next::Report(Event::DelayOver), false);
        }
    }

    fn answer(&mut self, answer: Answer<'_>) {
        if self.pass_through == PassThrough::Out {
            self.pass_through = PassThrough::Back;
            let told = NtStatus(oracle::expected(&answered(&answer)).status);
            self.said = Some((is_proof(&answer), told));
            let verdict = Verdict::of(&answer);
            self.spawn(Next::Report(Event::Answered(verdict)), false);
        }
    }

    /// One framework call of a thread, or one hold of the lock.
    fn step(&mut self, which: usize, input: &mut Input<'_>) {
        if self.threads.is_empty() {
            return;
        }
        let mut thread = self.threads.swap_remove(which % self.threads.len());
        if let Next::Report(Event::Gone) = thread.next {
            // It is told of what is in hand now.
            thread.serves = self.number;
        }
        let next = match thread.next {
            Next::Report(event) => self.report(thread, event),
            Next::Mark => Some(self.mark()),
            Next::Prepare => Some(self.prepare(input)),
            Next::Send => self.send(input),
            Next::CancelSent => {
                self.cancel_sent(thread);
                thread
                    .is_canceller
                    .then_some(Next::Report(Event::CancelDone))
            }
            Next::Unmark => Some(self.unmark()),
            Next::Complete => {
                assert!(std::mem::take(&mut self.completing), "completed once");
                assert_eq!(self.pass_through, PassThrough::Idle);
                assert!(!self.timer);
                None
            }
        };
        self.threads
            .extend(next.map(|next| Thread { next, ..thread }));
        let waits = self.threads.is_empty() && self.pass_through == PassThrough::Out;
        assert!(
            !waits || self.is_told || self.watch.stop.is_none(),
            "a stopped operation waits for a port that may never answer"
        );
    }

    fn held(&mut self) -> &mut Caller {
        self.caller
            .as_mut()
            .expect("a request is touched only while it is held")
    }

    fn mark(&mut self) -> Next {
        let caller = self.held();
        assert_eq!(caller.mark, Mark::Unmarked);
        if caller.cancelled {
            return Next::Report(Event::Marked(CANCELLED));
        }
        caller.mark = Mark::Marked;
        Next::Report(Event::Marked(OK))
    }

    fn unmark(&mut self) -> Next {
        let caller = self.held();
        assert_ne!(caller.mark, Mark::Unmarked);
        if caller.mark == Mark::Taken {
            return Next::Report(Event::Unmarked(CANCELLED));
        }
        caller.mark = Mark::Unmarked;
        Next::Report(Event::Unmarked(OK))
    }

    /// Fill, reuse and format.
    fn prepare(&mut self, input: &mut Input<'_>) -> Next {
        assert_eq!(self.pass_through, PassThrough::Idle);
        self.pass_through = PassThrough::Preparing;
        self.poisoned = false;
        if input.byte() == 0xFF {
            Next::Report(Event::FormatFailed(NtStatus::INSUFFICIENT_RESOURCES))
        } else {
            Next::Report(Event::Ready)
        }
    }

    fn send(&mut self, input: &mut Input<'_>) -> Option<Next> {
        assert_eq!(self.pass_through, PassThrough::Due);
        if self.poisoned {
            return Some(Next::Report(Event::Refused(CANCELLED)));
        }
        if input.byte() == 0xFF {
            return Some(Next::Report(Event::Refused(NtStatus::INVALID_DEVICE_STATE)));
        }
        (self.pass_through, self.is_told) = (PassThrough::Out, false);
        None
    }

    fn cancel_sent(&mut self, thread: Thread) {
        let own = thread.serves == self.number;
        match self.pass_through {
            PassThrough::Idle | PassThrough::Back => self.poisoned = true,
            PassThrough::Preparing => panic!("cancelled while it is prepared"),
            PassThrough::Due => {
                assert!(own, "the send of another operation is cancelled");
                self.poisoned = true;
            }
            PassThrough::Out => {
                assert!(own, "the send of another operation is cancelled");
                self.is_told = true;
            }
        }
    }

    /// A hold of the device's lock; what the thread does after it.
    fn report(&mut self, thread: Thread, event: Event) -> Option<Next> {
        let own = thread.serves == self.number && self.caller.is_some();
        assert!(
            own || event == Event::Gone,
            "{event:?} is of another operation"
        );
        if matches!(
            event,
            Event::Answered(_) | Event::Refused(_) | Event::FormatFailed(_)
        ) {
            self.pass_through = PassThrough::Idle;
        }
        self.watch_for(event);
        let mut action = self.operation.step(event);
        if action == Action::StopTimer {
            let stopped = std::mem::take(&mut self.timer);
            if stopped {
                self.watch.owed = self.watch.owed.or(self.watch.stop);
            }
            action = self.operation.step(Event::WaitStopped(stopped));
        }
        if event == Event::Ready {
            let sent = action == Action::Send;
            self.pass_through = if sent {
                PassThrough::Due
            } else {
                PassThrough::Idle
            };
        }
        assert!(self.operation.retries() <= self.max_retries);
        assert!(self.operation.attentions() <= ATTENTIONS + 1 + self.max_retries);
        assert!(self.operation.sends() <= self.max_retries + NO_RETRIES);
        match action {
            Action::Nothing => {
                (event == Event::CancelAsked).then_some(Next::Report(Event::CancelDone))
            }
            Action::Mark => Some(Next::Mark),
            Action::Prepare => Some(Next::Prepare),
            Action::Send => Some(Next::Send),
            Action::StartTimer { .. } => {
                assert!(
                    !self.timer && self.watch.stop.is_none(),
                    "a stopped operation waits"
                );
                self.timer = true;
                None
            }
            Action::StopTimer => unreachable!("done under the lock"),
            Action::Refuse => unreachable!("nothing is presented while another is in hand"),
            Action::CancelSent => Some(Next::CancelSent),
            Action::Unmark => Some(Next::Unmark),
            Action::Finish(status) => {
                self.judge(status);
                Some(Next::Complete)
            }
        }
    }

    fn watch_for(&mut self, event: Event) {
        let watch = &mut self.watch;
        match event {
            Event::Start(_) => {
                *watch = Watch {
                    owed: self.operation.is_gone().then_some(NOT_CONNECTED),
                    ..Watch::default()
                };
                self.in_hand = true;
            }
            Event::CancelAsked => watch.stop = watch.stop.or(Some(CANCELLED)),
            Event::Gone if self.in_hand => watch.stop = watch.stop.or(Some(NOT_CONNECTED)),
            Event::Marked(status) => {
                watch.owed = watch.stop.or((status == CANCELLED).then_some(CANCELLED));
            }
            Event::Answered(_) => {
                let (proved, told) = self.said.take().expect("the port answered");
                watch.proved |= proved;
                watch.last = Some(told);
                watch.owed = watch.stop;
            }
            Event::Refused(status) | Event::FormatFailed(status) => {
                watch.last = Some(NtStatus(oracle::refused(status.0)));
                watch.owed = watch.stop;
            }
            Event::Ready | Event::DelayOver => watch.owed = watch.stop,
            _ => {}
        }
    }

    /// The operation ends with this: success on proof, else the first reason to stop, else the last answer.
    fn judge(&mut self, status: NtStatus) {
        let caller = self.caller.take().expect("a request is finished once");
        assert_ne!(caller.mark, Mark::Marked, "it could still be cancelled");
        self.completing = true;
        self.in_hand = false;
        let Watch {
            proved, owed, last, ..
        } = std::mem::take(&mut self.watch);
        assert_eq!(proved, status.is_success(), "{status:?}");
        let told = match owed {
            Some(owed) => status == owed,
            None => Some(status) == last || (caller.mark == Mark::Taken && status == CANCELLED),
        };
        assert!(proved || told, "{status:?}, owed {owed:?}, last {last:?}");
    }
}

/// Events as no driver would report them: the machine neither panics nor finishes what was not begun, tells success on
/// proof alone, and keeps its caps.
fn any_events(mut input: Input<'_>) {
    let policy = policy(&mut input);
    let mut operation = Operation::new(policy);
    let (mut in_hand, mut proved) = (false, false);
    while !input.is_empty() {
        let status = |byte: u8| if byte == 0 { OK } else { CANCELLED };
        let mut proof = false;
        let event = match input.byte() % 15 {
            0 => Event::Start(Command::Reserve),
            1 => Event::Start(Command::Release),
            2 => Event::Marked(status(input.byte())),
            3 => Event::Ready,
            4 => Event::Refused(input.answer().status),
            5 => Event::FormatFailed(input.answer().status),
            6 => {
                let answer = input.answer();
                proof = is_proof(&answer);
                Event::Answered(Verdict::of(&answer))
            }
            7 => Event::DelayOver,
            8 => Event::WaitStopped(input.byte() == 0),
            9 => Event::CancelAsked,
            10 => Event::CancelDone,
            11 => Event::Unmarked(status(input.byte())),
            12 => Event::ResetPassed,
            13 => Event::PoweredUp,
            _ => Event::Gone,
        };
        let second = in_hand && matches!(event, Event::Start(_));
        if let Event::Start(_) = event
            && !in_hand
        {
            (in_hand, proved) = (true, false);
        }
        proved |= proof;
        let before = operation.clone();
        let action = operation.step(event);
        assert_eq!(second, action == Action::Refuse, "{event:?}");
        assert!(
            !second || operation == before,
            "{event:?} changes something"
        );
        match action {
            Action::Finish(status) => {
                assert!(std::mem::take(&mut in_hand), "nothing was begun");
                assert!(proved || !status.is_success(), "{status:?}");
            }
            Action::Nothing | Action::Refuse => {}
            action => assert!(in_hand, "{action:?} for nobody"),
        }
        assert!(operation.retries() <= policy.max_retries);
    }
}
