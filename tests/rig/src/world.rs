//! One run's threads, clock and IRQL. Threads are real ones, but a single baton decides which of them runs; it changes
//! hands only at named points (each call that the driver makes is two: before and after), so that a run repeats from
//! its seed. Time stands still while a thread can run and then jumps to the next timer: no test ever sleeps.
//! For stress there is a schedule without baton, in which threads and time are the host's.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::abi::{Status, irql};
use crate::{image, rules};

/// How long a thread of a free world may wait before that counts as a hang.
const PATIENCE: Duration = Duration::from_mins(1);

/// Bytes of stack that the driver may take: a third of a kernel stack on x64, which it shares with every driver above and
/// below it.
const DRIVER_STACK: usize = 8 << 10;

/// Where the stack is, but for a frame or two.
fn stack_pointer() -> usize {
    let here = 0_u8;
    std::hint::black_box(&raw const here) as usize
}

/// Number of a thread in its world.
pub type ThreadId = usize;
/// Work for a thread.
pub type Job = Box<dyn FnOnce() + Send>;

/// Names a timer that was set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TimerId {
    due: u64,
    number: u64,
}

/// Who runs next when more than one thread can.
#[derive(Clone, Debug)]
pub enum Schedule {
    /// A thread runs until it blocks; then the one that has waited longest.
    Orderly,
    /// At one point in `one_in` the baton goes to any thread that can run, or the next timer fires early.
    Random {
        /// Equal seeds give equal runs.
        seed: u64,
        /// How seldom.
        one_in: u32,
    },
    /// As `Random`, but no timer fires early: time stands still while a thread can run.
    Shuffled {
        /// Equal seeds give equal runs.
        seed: u64,
        /// How seldom.
        one_in: u32,
    },
    /// As `Orderly`, but at each of these points the thread that passes it makes way for the one that has waited
    /// longest; if none waits, the next timer fires early. All runs with few such points can be walked.
    Preempt(Vec<u64>),
    /// No baton: threads run at once, and the clock is the host's, so many times faster. Nothing repeats.
    Free {
        /// Seconds of the world in one of the host's.
        speed: u32,
    },
    /// As `Free` at the host's speed, but nobody makes way at a point, and no timer fires: for what is timed.
    Timed,
}

/// Numbers that repeat from a seed.
pub struct Random(u64);

impl Random {
    /// Equal seeds give equal numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn of(schedule: &Schedule) -> Self {
        Self::new(match schedule {
            &(Schedule::Random { seed, .. } | Schedule::Shuffled { seed, .. }) => seed,
            _ => 0,
        })
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        // xorshift64*: any good mix will do, it must only repeat.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound.max(1)
    }
}

/// Threads, clock and faults of one run. Several nodes may live in it.
pub struct World {
    inner: Mutex<Inner>,
    /// In a free world: a timer was set, a thread has become idle, or the world is over.
    news: Condvar,
    /// The faults that this run has planned.
    pub faults: Mutex<Faults>,
    /// The most stack that the driver's frames on one thread took, in bytes.
    pub deepest_stack: AtomicUsize,
}

/// What is planned to go wrong, and what could have.
#[derive(Default)]
pub struct Faults {
    /// What is being tried, for the message of a broken rule.
    pub case: String,
    /// Allocations asked for so far, with the call that asked.
    pub allocations: Vec<&'static str>,
    /// Calls made so far of those that can fail, with the statuses that each can fail with.
    pub calls: Vec<FallibleCall>,
    /// The allocation that fails, counted from 0.
    pub fail_allocation: Option<usize>,
    /// The call that fails, counted from 0, and the one of its statuses that it fails with; its last if it has fewer.
    pub fail_call: Option<(usize, usize)>,
    /// From `fail_allocation` or `fail_call` on, all of them.
    pub fail_all_after: bool,
}

/// A call that can fail, and the statuses that it can fail with: at least one.
pub type FallibleCall = (&'static str, &'static [Status]);

impl Faults {
    fn allocation_fails(&mut self, what: &'static str) -> bool {
        let number = self.allocations.len();
        self.allocations.push(what);
        self.fail_allocation
            .is_some_and(|n| n == number || (self.fail_all_after && number > n))
    }

    fn call_fails(&mut self, call: FallibleCall) -> Option<Status> {
        let number = self.calls.len();
        self.calls.push(call);
        let (first, which) = self.fail_call?;
        let fails = first == number || (self.fail_all_after && number > first);
        let statuses = call.1;
        fails.then(|| statuses.get(which).or(statuses.last()).copied())?
    }
}

struct Inner {
    schedule: Schedule,
    random: Random,
    now: u64,
    points: u64,
    /// In which call each point was, if that is asked for.
    names: Option<Vec<&'static str>>,
    current: ThreadId,
    ready: VecDeque<ThreadId>,
    threads: Vec<Slot>,
    timers: BTreeMap<TimerId, (&'static str, u8, Job)>,
    timer_number: u64,
    placed: HashMap<u64, (&'static str, Job)>,
    /// The call, how many of its points are passed before, the name of the job, and the job.
    placed_in: Vec<(&'static str, u64, &'static str, Job)>,
    /// Counts [`World::wake`], so that a thread without the baton misses none between its look and its wait.
    wakes: u64,
    /// When a free world began.
    began: Instant,
    over: bool,
}

struct Slot {
    name: String,
    turn: Arc<Condvar>,
    state: State,
    job: Option<(u8, Job)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Runs,
    Ready,
    Waits(usize),
    Idle,
}

/// The thread that is running, as the rig's Windows sees it.
pub struct Thread {
    /// Its world.
    pub world: Arc<World>,
    id: ThreadId,
    irql: Cell<u8>,
    spin_locks: Cell<u32>,
    /// Where the stack was when the driver was entered last, and what its frames below that entry take.
    driver_entered: Cell<usize>,
    driver_stack: Cell<usize>,
    calls: RefCell<Vec<(Arc<str>, &'static str)>>,
    node: RefCell<Arc<str>>,
    has_points: bool,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Thread>>> = const { RefCell::new(None) };
}

/// The thread that is running.
///
/// # Panics
/// If it belongs to no world: driver code runs only in one.
pub fn current() -> Rc<Thread> {
    CURRENT
        .with_borrow(Option::clone)
        .expect("this thread has entered no world")
}

/// The IRQL of the thread that is running; a thread that is in no world is at PASSIVE_LEVEL. Also in a signal handler.
pub fn current_irql() -> u8 {
    let irql = |thread: &Rc<Thread>| thread.irql();
    CURRENT
        .try_with(|current| current.try_borrow().ok()?.as_ref().map(irql))
        .ok()
        .flatten()
        .unwrap_or(irql::PASSIVE)
}

/// For messages: which thread, in which call, at which IRQL.
pub fn describe_current() -> String {
    let Ok(Some(thread)) =
        CURRENT.try_with(|current| current.try_borrow().ok().and_then(|c| c.clone()))
    else {
        return "outside of any world".into();
    };
    let name = thread.world.lock().threads[thread.id].name.clone();
    let calls: Vec<String> = thread
        .calls
        .borrow()
        .iter()
        .map(|(node, call)| format!("{call} (node {node})"))
        .collect();
    let calls = if calls.is_empty() {
        "none".into()
    } else {
        calls.join(" > ")
    };
    format!("thread {name:?}, IRQL {}, calls {calls}", thread.irql.get())
}

/// For messages: what is being tried, if that was noted. Gives up where it would wait: it runs in a signal handler.
pub fn case() -> Option<String> {
    let thread = CURRENT.try_with(|current| current.try_borrow().ok().and_then(|c| c.clone()));
    let world = Arc::clone(&thread.ok()??.world);
    let case = world.faults.try_lock().ok()?.case.clone();
    (!case.is_empty()).then_some(case)
}

impl World {
    /// Makes a world and enters it: the calling thread is its first.
    pub fn enter(schedule: Schedule) -> Entered {
        crate::crash::install();
        let random = Random::of(&schedule);
        let first = Slot {
            name: "caller".into(),
            turn: Arc::default(),
            state: State::Runs,
            job: None,
        };
        let world = Arc::new(Self {
            inner: Mutex::new(Inner {
                schedule,
                random,
                now: 0,
                points: 0,
                names: None,
                current: 0,
                ready: VecDeque::new(),
                threads: vec![first],
                timers: BTreeMap::new(),
                timer_number: 0,
                placed: HashMap::new(),
                placed_in: Vec::new(),
                wakes: 0,
                began: Instant::now(),
                over: false,
            }),
            news: Condvar::new(),
            faults: Mutex::default(),
            deepest_stack: AtomicUsize::new(0),
        });
        let has_clock = matches!(world.lock().schedule, Schedule::Free { .. });
        if has_clock {
            let clock = Arc::clone(&world);
            std::thread::spawn(move || clock.fire_timers());
        }
        let outer = CURRENT.replace(Some(Thread::new(&world, 0)));
        Entered { world, outer }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time, in 100 ns.
    pub fn now(&self) -> u64 {
        self.lock().now()
    }

    /// Goes on by another schedule.
    pub fn reschedule(&self, schedule: Schedule) {
        let mut inner = self.lock();
        inner.random = Random::of(&schedule);
        inner.schedule = schedule;
    }

    /// How many points the run has passed.
    pub fn points(&self) -> u64 {
        self.lock().points
    }

    /// Notes from now on in which call each point is.
    pub fn name_points(&self) {
        self.lock().names = Some(Vec::new());
    }

    /// The call of each point since [`World::name_points`]; empty for one of the rig's own.
    pub fn point_names(&self) -> Vec<&'static str> {
        self.lock().names.clone().unwrap_or_default()
    }

    /// Runs `job` on a thread of its own when the run passes point number `point`, before anything else goes on.
    pub fn place(&self, point: u64, name: &'static str, job: Job) {
        self.lock().placed.insert(point, (name, job));
    }

    /// As [`World::place`], at the next point in `call`, a call of the driver's, after `passed` others in it: one before and
    /// one after each call, and where the framework drops a lock in it.
    pub fn place_in(&self, call: &'static str, passed: u64, name: &'static str, job: Job) {
        self.lock().placed_in.push((call, passed, name, job));
    }

    /// Takes back the jobs of [`World::place_in`] whose points the run never passed; gives their number.
    pub fn take_back_all(&self) -> usize {
        std::mem::take(&mut self.lock().placed_in).len()
    }

    /// Takes back a job that was placed where the run never came; true if it was still there.
    pub fn take_back(&self, point: u64) -> bool {
        self.lock().placed.remove(&point).is_some()
    }

    /// True if the next allocation is to fail; counts it.
    pub fn allocation_fails(&self, what: &'static str) -> bool {
        self.faults().allocation_fails(what)
    }

    /// The status that the call now being served is to fail with, if it is to; counts it.
    pub fn call_fails(&self, call: &'static str, statuses: &'static [Status]) -> Option<Status> {
        self.faults().call_fails((call, statuses))
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has another thread run `job`, at `irql`.
    pub fn spawn(self: &Arc<Self>, name: &'static str, irql: u8, job: Job) {
        let mut inner = self.lock();
        self.spawn_locked(&mut inner, name, irql, job);
    }

    fn spawn_locked(
        self: &Arc<Self>,
        inner: &mut Inner,
        name: &str,
        irql: u8,
        job: Job,
    ) -> ThreadId {
        let idle = inner
            .threads
            .iter()
            .position(|slot| slot.state == State::Idle);
        let id = idle.unwrap_or(inner.threads.len());
        if idle.is_none() {
            inner.threads.push(Slot {
                name: String::new(),
                turn: Arc::default(),
                state: State::Idle,
                job: None,
            });
            let world = Arc::clone(self);
            std::thread::Builder::new()
                .name("rig".into())
                .spawn(move || world.work(id))
                .expect("the host gives the rig its threads");
        }
        let slot = &mut inner.threads[id];
        slot.name = name.into();
        slot.job = Some((irql, job));
        inner.make_ready(id);
        id
    }

    /// A worker's life: wait for the baton, do the job, hand the baton on.
    fn work(self: Arc<Self>, id: ThreadId) {
        let thread = Thread::new(&self, id);
        CURRENT.set(Some(Rc::clone(&thread)));
        let turn = Arc::clone(&self.lock().threads[id].turn);
        loop {
            let mut inner = self.lock();
            while !inner.has_turn(id) {
                if inner.over {
                    return;
                }
                inner = turn.wait(inner).unwrap_or_else(PoisonError::into_inner);
            }
            let Some((irql, job)) = inner.threads[id].job.take() else {
                return;
            };
            drop(inner);
            thread.set_irql(irql);
            job();
            thread.expect_balanced(irql, "a rig thread's job");
            let mut inner = self.lock();
            inner.threads[id].state = State::Idle;
            self.news.notify_all();
            self.pass_on(&mut inner);
        }
    }

    /// The clock's thread of a free world.
    fn fire_timers(self: Arc<Self>) {
        let mut inner = self.lock();
        while !inner.over {
            let now = inner.now();
            let next = inner.timers.first_key_value().map(|(id, _)| id.due);
            let Some(due) = next else {
                inner = self
                    .news
                    .wait(inner)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            if due <= now {
                self.fire_next_timer(&mut inner);
                continue;
            }
            let speed = u64::from(inner.free_speed().unwrap_or(1));
            let pause = Duration::from_nanos((due - now) * 100 / speed + 1);
            let waited = self.news.wait_timeout(inner, pause);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Chooses who runs next, firing timers while nobody can.
    fn pass_on(self: &Arc<Self>, inner: &mut Inner) {
        if inner.free_speed().is_some() {
            return;
        }
        while inner.ready.is_empty() {
            if inner.over {
                return;
            }
            if !self.fire_next_timer(inner) {
                inner.hang();
            }
        }
        let next = if matches!(
            inner.schedule,
            Schedule::Random { .. } | Schedule::Shuffled { .. }
        ) {
            let index = inner.below(inner.ready.len() as u64);
            inner.ready.remove(usize::try_from(index).unwrap_or(0))
        } else {
            inner.ready.pop_front()
        };
        if let Some(next) = next {
            inner.threads[next].state = State::Runs;
            inner.current = next;
            inner.threads[next].turn.notify_all();
        }
    }

    fn fire_next_timer(self: &Arc<Self>, inner: &mut Inner) -> bool {
        let Some((id, (name, irql, job))) = inner.timers.pop_first() else {
            return false;
        };
        inner.now = inner.now.max(id.due);
        self.spawn_locked(inner, name, irql, job);
        true
    }

    /// How many timers are set.
    pub fn timers(&self) -> usize {
        self.lock().timers.len()
    }

    /// Has `job` run at `irql` once the clock shows `due`.
    pub fn set_timer(&self, due: u64, name: &'static str, irql: u8, job: Job) -> TimerId {
        let mut inner = self.lock();
        inner.timer_number += 1;
        let id = TimerId {
            due,
            number: inner.timer_number,
        };
        inner.timers.insert(id, (name, irql, job));
        self.news.notify_all();
        id
    }

    /// True if the timer had not fired: then it never will.
    pub fn cancel_timer(&self, id: TimerId) -> bool {
        let removed = self.lock().timers.remove(&id).is_some();
        self.news.notify_all();
        removed
    }

    /// True if the timer has not fired and was not cancelled.
    pub fn is_set(&self, id: TimerId) -> bool {
        self.lock().timers.contains_key(&id)
    }

    /// Lets whoever waits on `key` look again.
    pub fn wake(&self, key: usize) {
        let mut inner = self.lock();
        inner.wakes += 1;
        for id in 0..inner.threads.len() {
            if inner.threads[id].state == State::Waits(key) {
                inner.make_ready(id);
            }
        }
    }
}

impl Inner {
    fn free_speed(&self) -> Option<u32> {
        match self.schedule {
            Schedule::Free { speed } => Some(speed),
            Schedule::Timed => Some(1),
            _ => None,
        }
    }

    fn now(&self) -> u64 {
        let elapsed = |speed: u32| self.began.elapsed().as_nanos() * u128::from(speed) / 100;
        self.free_speed().map_or(self.now, |speed| {
            u64::try_from(elapsed(speed)).unwrap_or(u64::MAX)
        })
    }

    /// Nobody can go on.
    fn hang(&self) -> ! {
        let waiting = self.threads.iter().filter(|slot| slot.state != State::Idle);
        let who: Vec<_> = waiting
            .map(|slot| format!("{:?} {:?}", slot.name, slot.state))
            .collect();
        rules::stop(&format!(
            "*** rule broken: {}\n    asks   {}\n    found  {}\n    threads {}\n",
            rules::HANG.id,
            rules::HANG.asks,
            rules::HANG.source,
            who.join(", ")
        ))
    }

    fn has_turn(&self, id: ThreadId) -> bool {
        self.threads[id].state == State::Runs && (self.current == id || self.free_speed().is_some())
    }

    /// The job that is placed at this point in `call`.
    fn placed_in(&mut self, call: &str) -> Option<(&'static str, Job)> {
        let place = self.placed_in.iter().position(|(of, ..)| *of == call)?;
        let (_, passed, ..) = &mut self.placed_in[place];
        if *passed != 0 {
            *passed -= 1;
            return None;
        }
        let (.., name, job) = self.placed_in.remove(place);
        Some((name, job))
    }

    fn make_ready(&mut self, id: ThreadId) {
        if self.free_speed().is_some() {
            self.threads[id].state = State::Runs;
            self.threads[id].turn.notify_all();
        } else {
            self.threads[id].state = State::Ready;
            self.ready.push_back(id);
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random
            .below(usize::try_from(bound).unwrap_or(usize::MAX)) as u64
    }
}

impl Thread {
    fn new(world: &Arc<World>, id: ThreadId) -> Rc<Self> {
        Rc::new(Self {
            world: Arc::clone(world),
            id,
            irql: Cell::new(irql::PASSIVE),
            spin_locks: Cell::new(0),
            driver_entered: Cell::new(0),
            driver_stack: Cell::new(0),
            calls: RefCell::default(),
            node: RefCell::new("-".into()),
            has_points: !matches!(world.lock().schedule, Schedule::Timed),
        })
    }

    /// Its number.
    pub fn id(&self) -> ThreadId {
        self.id
    }

    /// Its IRQL.
    pub fn irql(&self) -> u8 {
        self.irql.get()
    }

    /// Sets its IRQL; gives the old one. Pageable memory goes whenever it is raised to DISPATCH_LEVEL.
    pub fn set_irql(&self, irql: u8) -> u8 {
        let before = self.irql.replace(irql);
        if before < irql::DISPATCH && irql >= irql::DISPATCH {
            image::page_out();
        }
        before
    }

    /// Runs `f` at `irql`, and checks that it comes back at it, with no spin lock left held.
    pub fn at_irql<R>(&self, irql: u8, what: &str, f: impl FnOnce() -> R) -> R {
        let (before, locks) = (self.set_irql(irql), self.spin_locks.replace(0));
        let result = f();
        self.expect_balanced(irql, what);
        self.set_irql(before);
        self.spin_locks.set(locks);
        result
    }

    /// Runs `f`, code of the driver, at the IRQL there is.
    pub fn into_driver<R>(&self, what: &str, f: impl FnOnce() -> R) -> R {
        let outer = self.driver_entered.replace(stack_pointer());
        let result = self.at_irql(self.irql(), what, f);
        self.driver_entered.set(outer);
        result
    }

    /// What the driver's frames on this thread's stack take up to here, those below calls of the rig included.
    fn driver_stack(&self) -> usize {
        let entered = self.driver_entered.get();
        self.driver_stack.get() + entered.saturating_sub(stack_pointer())
    }

    fn expect_balanced(&self, irql: u8, what: &str) {
        if self.spin_locks.get() != 0 {
            rules::broken(&rules::LOCK_LEFT_HELD, what);
        }
        if self.irql.get() != irql {
            let found = format!(
                "{what} was called at IRQL {irql} and returned at {}",
                self.irql.get()
            );
            rules::broken(&rules::IRQL_CHANGED, &found);
        }
    }

    /// A spin lock was taken: raises to DISPATCH_LEVEL and gives the old IRQL.
    pub fn raise_for_lock(&self) -> u8 {
        self.spin_locks.set(self.spin_locks.get() + 1);
        self.set_irql(irql::DISPATCH.max(self.irql.get()))
    }

    /// A spin lock was released: back to `old`.
    pub fn lower_after_lock(&self, old: u8) {
        self.spin_locks.set(self.spin_locks.get() - 1);
        self.set_irql(old);
    }

    /// Notes which call of the driver's is being served, and passes the points before and after it.
    pub fn in_call<R>(&self, node: &Arc<str>, call: &'static str, f: impl FnOnce() -> R) -> R {
        self.calls.borrow_mut().push((Arc::clone(node), call));
        let taken = self.driver_stack();
        if taken > DRIVER_STACK {
            rules::broken(&rules::LOW_STACK, &format!("{taken} bytes"));
        }
        self.world.deepest_stack.fetch_max(taken, Ordering::Relaxed);
        let below = self.driver_stack.replace(taken);
        self.point();
        let result = f();
        self.point();
        self.driver_stack.set(below);
        self.calls.borrow_mut().pop();
        result
    }

    /// The node whose driver code runs here, for messages.
    pub fn node(&self) -> Arc<str> {
        Arc::clone(&self.node.borrow())
    }

    /// Sets what [`Thread::node`] gives, and gives what it gave.
    pub fn set_node(&self, node: Arc<str>) -> Arc<str> {
        self.node.replace(node)
    }

    /// A place where another thread may get its turn.
    pub fn point(&self) {
        if !self.has_points {
            return;
        }
        let mut inner = self.world.lock();
        inner.points += 1;
        let number = inner.points;
        let call = self.calls.borrow().last().map_or("", |&(_, call)| call);
        if let Some(names) = &mut inner.names {
            names.push(call);
        }
        let placed = inner.placed.remove(&number);
        if let Some((name, job)) = placed.or_else(|| inner.placed_in(call)) {
            let id = self
                .world
                .spawn_locked(&mut inner, name, irql::PASSIVE, job);
            inner.ready.retain(|&other| other != id);
            inner.ready.push_front(id);
            inner.ready.push_back(self.id);
            inner.threads[self.id].state = State::Ready;
            let first = inner.ready.pop_front().unwrap_or(id);
            inner.threads[first].state = State::Runs;
            inner.current = first;
            inner.threads[first].turn.notify_all();
            self.wait_for_turn(inner);
            return;
        }
        match &inner.schedule {
            Schedule::Orderly | Schedule::Timed => return,
            Schedule::Free { .. } => {
                drop(inner);
                return std::thread::yield_now();
            }
            Schedule::Preempt(points) => {
                if !points.contains(&number) {
                    return;
                }
                if inner.ready.is_empty() {
                    self.world.fire_next_timer(&mut inner);
                }
            }
            &(Schedule::Random { one_in, .. } | Schedule::Shuffled { one_in, .. }) => {
                if inner.below(u64::from(one_in)) != 0 {
                    return;
                }
                let early = matches!(inner.schedule, Schedule::Random { .. });
                if early && inner.below(4) == 0 {
                    self.world.fire_next_timer(&mut inner);
                }
            }
        }
        if inner.ready.is_empty() {
            return;
        }
        inner.threads[self.id].state = State::Ready;
        inner.ready.push_back(self.id);
        self.world.pass_on(&mut inner);
        self.wait_for_turn(inner);
    }

    /// Waits until `ready` says so; it is asked again after each [`World::wake`] of `key`.
    pub fn wait(&self, key: usize, mut ready: impl FnMut() -> bool) {
        loop {
            let wakes = self.world.lock().wakes;
            if ready() {
                return;
            }
            let mut inner = self.world.lock();
            if inner.wakes != wakes {
                continue;
            }
            inner.threads[self.id].state = State::Waits(key);
            self.world.pass_on(&mut inner);
            self.wait_for_turn(inner);
        }
    }

    fn wait_for_turn(&self, mut inner: MutexGuard<'_, Inner>) {
        let turn = Arc::clone(&inner.threads[self.id].turn);
        while !inner.has_turn(self.id) {
            let waited = turn.wait_timeout(inner, PATIENCE);
            let (back, result) = waited.unwrap_or_else(PoisonError::into_inner);
            inner = back;
            if result.timed_out() && inner.free_speed().is_some() {
                inner.hang();
            }
        }
    }

    /// Lets every other thread run until it blocks, and every timer that is due now.
    pub fn settle(&self) {
        loop {
            let mut inner = self.world.lock();
            if inner.free_speed().is_some() {
                let busy = |inner: &mut Inner| {
                    let others = inner
                        .threads
                        .iter()
                        .enumerate()
                        .filter(|(id, _)| *id != self.id);
                    let working = others
                        .into_iter()
                        .any(|(_, slot)| slot.state != State::Idle);
                    working || !inner.timers.is_empty()
                };
                let waited = self.world.news.wait_timeout_while(inner, PATIENCE, busy);
                let (inner, result) = waited.unwrap_or_else(PoisonError::into_inner);
                if result.timed_out() {
                    inner.hang();
                }
                return;
            }
            if inner.ready.is_empty() {
                let due = inner
                    .timers
                    .first_key_value()
                    .is_some_and(|(id, _)| id.due <= inner.now);
                if !due || !self.world.fire_next_timer(&mut inner) {
                    return;
                }
            }
            inner.threads[self.id].state = State::Ready;
            inner.ready.push_back(self.id);
            self.world.pass_on(&mut inner);
            self.wait_for_turn(inner);
        }
    }
}

/// The calling thread's stay in a world; dropping it ends the world's threads.
pub struct Entered {
    world: Arc<World>,
    outer: Option<Rc<Thread>>,
}

impl Entered {
    /// The world.
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut inner = self.world.lock();
        inner.over = true;
        self.world.news.notify_all();
        for slot in &inner.threads {
            slot.turn.notify_all();
        }
        drop(inner);
        CURRENT.set(self.outer.take());
    }
}
