//! How requests come to their turn, one at a time: the driver's `Reservation::serve_next` and `Reservation::complete`
//! around the framework's manual queue, checked over all orders of arrivals, cancels, a port that answers inside the
//! send or later, and removal. What one operation does in its turn is `model.rs`'s matter.
//!
//! A transition is what nothing can come between: a call of the framework, or a hold of the disk's lock. The queue is
//! `FxIoQueue` (microsoft/Windows-Driver-Frameworks, src/framework/shared/irphandlers/io/fxioqueue.cpp): it calls
//! `EvtIoQueueState` after a request came into the empty queue; a request whose cancellation is under way can't be
//! retrieved any more, but counts; a purge lets nothing be retrieved and waits for what the driver has.
//!
//! Lines that begin with `model: ` are JSON, for `cargo xtask report`.

use std::time::Instant;

use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

/// How the protocol is read. Each wrong reading leaves a request waiting for ever, or has two in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Right,
    /// Whether any waits is asked while the hand still holds the request that ends.
    AskedBeforeTheHandIsEmpty,
    /// Nobody asks after an operation's end: the queue would tell, one might think.
    NotAskedAtTheEnd,
    /// Nobody asks after the queue had nothing to retrieve.
    NotAskedWhenNothingCame,
    /// The request is taken from the queue before the lock: the hand may be full by then.
    TakenBeforeTheLock,
}

#[derive(Clone, Copy, Debug)]
struct World {
    reading: Reading,
    requests: usize,
    /// Whether the framework tells of the next arrival after a retrieval that met only requests whose cancellation is
    /// under way, as 1.33 does (`m_ForceTransitionFromEmptyWhenAddingNewRequest`).
    tells_again: bool,
}

/// A caller's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Request {
    /// Its caller has not sent it yet.
    Absent,
    Waiting,
    /// Cancelled in the queue: out of its list, but counted until the framework has its lock.
    Dying,
    /// In the driver; whether its caller has cancelled it.
    Served {
        cancelled: bool,
    },
    Completed(Status),
}

/// What a request was completed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Status {
    /// The answer to the command that was sent for the request of this number.
    AnswerTo(usize),
    /// The driver's end without an answer.
    Stopped,
    /// The framework's, of a request that the driver never had.
    Undelivered,
}

/// What a thread of the driver or of the framework does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Next {
    /// In `DispatchEvents`: `EvtIoQueueState` is about to be called.
    TellReady,
    /// `serve_next`, whose lock is still to be had; with what was retrieved before it, in the wrong reading.
    TakeTurn(Option<usize>),
    /// The wrong reading's retrieval.
    Retrieve,
    /// Nothing came: whether any waits is asked.
    AskAfterNothing,
    /// The pass-through is sent for the request in hand.
    Send(usize),
    /// The answer is here: the lock is taken, the hand emptied.
    End(usize, bool),
    AskAtTheEnd(usize, bool),
    /// The wrong reading's question.
    AskBefore(usize, bool),
    Complete(usize, bool),
    /// The framework gets its lock for a cancelled request.
    Drop(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Removal {
    No,
    /// The purge waits for what the driver has.
    Purging,
    /// The work item is waited for, then all is deleted.
    Deleting,
    Deleted,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    requests: Vec<Request>,
    /// In the order of their arrival; those that are dying count still.
    queue: Vec<usize>,
    /// `m_TransitionFromEmpty`
    from_empty: bool,
    /// `m_ForceTransitionFromEmptyWhenAddingNewRequest`
    force: bool,
    hand: Option<usize>,
    /// The one pass-through: for which request it is out.
    out: Option<usize>,
    work_item_queued: bool,
    threads: Vec<Next>,
    removal: Removal,
    sent: Vec<usize>,
    violated: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Arrive(usize),
    Cancel(usize),
    Purge,
    Delete,
    /// The port answers, on a thread of its own.
    Answer,
    /// A worker takes the work item.
    Work,
    /// With the port answering inside the send, or not.
    Run(Next, bool),
}

const ONE: &str = "one request is in hand, and one pass-through out, at a time";
const ONCE: &str =
    "a request is completed once, with what its own command was answered, or with none";
const ORDER: &str = "commands are sent in the order in which their requests came";
const ALIVE: &str = "nothing acts on a device that is deleted";
const WOKEN: &str = "while a request waits, something runs that will serve it";
const ALL: &str = "all requests of a run can be served";

impl State {
    fn must(&mut self, rule: &'static str, kept: bool) {
        if !kept {
            self.violated.get_or_insert(rule);
        }
    }

    fn live(&self) -> impl Iterator<Item = usize> {
        let live = |number: &usize| self.requests[*number] == Request::Waiting;
        self.queue.iter().copied().filter(live)
    }

    /// `WdfIoQueueRetrieveNextRequest`
    fn retrieve(&mut self) -> Option<usize> {
        if self.removal != Removal::No {
            return None;
        }
        let Some(first) = self.live().next() else {
            self.force = !self.queue.is_empty();
            return None;
        };
        self.queue.retain(|&number| number != first);
        self.requests[first] = Request::Served { cancelled: false };
        Some(first)
    }

    fn arrive(&mut self, world: &World, number: usize) {
        if self.removal != Removal::No {
            self.requests[number] = Request::Completed(Status::Undelivered);
            return;
        }
        self.requests[number] = Request::Waiting;
        let forced = world.tells_again && std::mem::take(&mut self.force);
        self.from_empty |= self.queue.is_empty() || forced;
        self.queue.push(number);
        if std::mem::take(&mut self.from_empty) {
            self.threads.push(Next::TellReady);
        }
    }

    fn cancel(&mut self, number: usize) {
        match self.requests[number] {
            Request::Waiting => {
                self.requests[number] = Request::Dying;
                self.threads.push(Next::Drop(number));
            }
            Request::Served { .. } => self.requests[number] = Request::Served { cancelled: true },
            _ => {}
        }
    }

    fn purge(&mut self) {
        self.removal = Removal::Purging;
        for number in self.live().collect::<Vec<_>>() {
            self.cancel(number);
        }
        for request in &mut self.requests {
            if let Request::Served { cancelled } = request {
                *cancelled = true;
            }
        }
    }

    fn ask(&mut self) {
        self.work_item_queued |= !self.queue.is_empty();
    }

    /// Puts a request into the hand and has its command sent.
    fn start(&mut self, number: usize) -> Next {
        self.must(ONE, self.hand.is_none());
        self.hand = Some(number);
        Next::Send(number)
    }

    fn run(&mut self, world: &World, next: Next, inside: bool) -> Option<Next> {
        self.must(ALIVE, self.removal != Removal::Deleted);
        match next {
            Next::TellReady if world.reading == Reading::TakenBeforeTheLock => Some(Next::Retrieve),
            Next::TellReady => Some(Next::TakeTurn(None)),
            Next::Retrieve => match self.retrieve() {
                Some(number) => Some(Next::TakeTurn(Some(number))),
                None => Some(Next::AskAfterNothing),
            },
            Next::TakeTurn(Some(number)) => Some(self.start(number)),
            Next::TakeTurn(None) if self.hand.is_some() => None,
            Next::TakeTurn(None) => match self.retrieve() {
                Some(number) => Some(self.start(number)),
                None if self.removal != Removal::No => None,
                None => Some(Next::AskAfterNothing),
            },
            Next::AskAfterNothing => {
                if world.reading != Reading::NotAskedWhenNothingCame {
                    self.ask();
                }
                None
            }
            Next::Send(number) => self.send(number, inside),
            Next::End(number, _) | Next::AskBefore(number, _) if self.hand != Some(number) => {
                self.must(ONE, false);
                None
            }
            Next::End(number, answered) if world.reading == Reading::AskedBeforeTheHandIsEmpty => {
                self.ask();
                Some(Next::AskBefore(number, answered))
            }
            Next::End(number, answered) => {
                self.hand = None;
                Some(Next::AskAtTheEnd(number, answered))
            }
            Next::AskBefore(number, answered) => {
                self.hand = None;
                Some(Next::Complete(number, answered))
            }
            Next::AskAtTheEnd(number, answered) => {
                if world.reading != Reading::NotAskedAtTheEnd {
                    self.ask();
                }
                Some(Next::Complete(number, answered))
            }
            Next::Complete(number, answered) => {
                let status = if answered {
                    Status::AnswerTo(number)
                } else {
                    Status::Stopped
                };
                self.complete(number, status);
                None
            }
            Next::Drop(number) => {
                self.queue.retain(|&other| other != number);
                self.complete(number, Status::Undelivered);
                None
            }
        }
    }

    fn send(&mut self, number: usize, inside: bool) -> Option<Next> {
        let cancelled = self.requests[number] == Request::Served { cancelled: true };
        if cancelled {
            return Some(Next::End(number, false));
        }
        self.must(ONE, self.out.is_none());
        let in_order = self.sent.last().is_none_or(|&last| last < number);
        self.must(ORDER, in_order);
        self.sent.push(number);
        if inside {
            return Some(Next::End(number, true));
        }
        self.out = Some(number);
        None
    }

    fn complete(&mut self, number: usize, status: Status) {
        let open = !matches!(self.requests[number], Request::Completed(_));
        let own = match status {
            Status::AnswerTo(other) => other == number,
            Status::Stopped | Status::Undelivered => true,
        };
        self.must(ONCE, open && own);
        self.requests[number] = Request::Completed(status);
    }
}

impl Model for World {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            requests: vec![Request::Absent; self.requests],
            queue: vec![],
            from_empty: false,
            force: false,
            hand: None,
            out: None,
            work_item_queued: false,
            threads: vec![],
            removal: Removal::No,
            sent: vec![],
            violated: None,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.violated.is_some() {
            return;
        }
        // Arrivals are numbered in their order.
        let first_absent = state.requests.iter().position(|r| *r == Request::Absent);
        steps.extend(first_absent.map(Step::Arrive));
        for (number, request) in state.requests.iter().enumerate() {
            if matches!(
                request,
                Request::Waiting | Request::Served { cancelled: false }
            ) {
                steps.push(Step::Cancel(number));
            }
        }
        if state.out.is_some() {
            steps.push(Step::Answer);
        }
        if state.work_item_queued {
            steps.push(Step::Work);
        }
        for &next in &state.threads {
            steps.push(Step::Run(next, true));
            if matches!(next, Next::Send(_)) {
                steps.push(Step::Run(next, false));
            }
        }
        let open = |r: &Request| !matches!(r, Request::Absent | Request::Completed(_));
        match state.removal {
            Removal::No => steps.push(Step::Purge),
            Removal::Purging if !state.requests.iter().any(open) => steps.push(Step::Delete),
            // A work item is waited for; the threads that the framework has inside are, too.
            Removal::Deleting if !state.work_item_queued && state.threads.is_empty() => {
                steps.push(Step::Delete);
            }
            _ => {}
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut state = state.clone();
        match step {
            Step::Arrive(number) => state.arrive(self, number),
            Step::Cancel(number) => state.cancel(number),
            Step::Purge => state.purge(),
            Step::Delete => {
                state.removal = match state.removal {
                    Removal::Purging => Removal::Deleting,
                    _ => Removal::Deleted,
                };
            }
            Step::Answer => {
                let number = state.out.take()?;
                state.threads.push(Next::End(number, true));
            }
            Step::Work => {
                state.work_item_queued = false;
                state.threads.push(match self.reading {
                    Reading::TakenBeforeTheLock => Next::Retrieve,
                    _ => Next::TakeTurn(None),
                });
            }
            Step::Run(next, inside) => {
                let at = state.threads.iter().position(|other| *other == next)?;
                state.threads.remove(at);
                let then = state.run(self, next, inside);
                state.threads.extend(then);
            }
        }
        state.threads.sort_unstable();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        macro_rules! never_violated {
            ($($rule:ident)*) => { vec![$(Property::always($rule, |_, state: &State| {
                state.violated != Some($rule)
            })),*] };
        }
        let mut properties = never_violated![ONE ONCE ORDER ALIVE];
        properties.push(Property::always(WOKEN, |_, state: &State| {
            let waits = state.live().next().is_some();
            let moves = state.work_item_queued || state.out.is_some() || !state.threads.is_empty();
            !waits || moves
        }));
        properties.push(Property::sometimes(ALL, |_, state: &State| {
            let answered =
                |(number, r): (usize, &Request)| *r == Request::Completed(Status::AnswerTo(number));
            state.requests.iter().enumerate().all(answered)
        }));
        properties
    }
}

const WORLD: World = World {
    reading: Reading::Right,
    requests: 3,
    tells_again: false,
};

#[test]
fn each_request_is_served_once_in_order_and_none_is_forgotten() {
    for tells_again in [false, true] {
        let began = Instant::now();
        let world = World {
            tells_again,
            ..WORLD
        };
        let checker = world.checker().threads(2).spawn_bfs().join();
        checker.assert_properties();
        let always = |property: &Property<World>| property.expectation == Expectation::Always;
        let rules: Vec<_> = world
            .properties()
            .into_iter()
            .filter(always)
            .map(|p| p.name)
            .collect();
        println!(
            "model: {{\"turns\":{},\"seconds\":{},\"always\":{rules:?}}}",
            checker.unique_state_count(),
            began.elapsed().as_secs_f64()
        );
    }
}

#[test]
fn each_wrong_reading_forgets_a_request_or_has_two_in_hand() {
    for (reading, promise) in [
        (Reading::AskedBeforeTheHandIsEmpty, WOKEN),
        (Reading::NotAskedAtTheEnd, WOKEN),
        (Reading::NotAskedWhenNothingCame, WOKEN),
        (Reading::TakenBeforeTheLock, ONE),
    ] {
        let world = World { reading, ..WORLD };
        let found = HasDiscoveries::AnyOf([promise].into());
        let checker = world.checker().finish_when(found).spawn_bfs().join();
        checker.assert_any_discovery(promise);
    }
}
