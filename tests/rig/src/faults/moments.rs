//! An event at every numbered point of an operation, with one that waits behind it; and each of these again with the
//! event's own thread preempted at every later point of it.
//!
//! A case's number is plan, point and preemption, four digits each for the last two; preemption 0 is none.

use std::sync::{Arc, Mutex, PoisonError};

use super::Walk;
use crate::abi::{Status, status};
use crate::disk::logical_unit::LogicalUnit;
use crate::disk::{GOOD, Outcome};
use crate::fx::{DiskKeys, Pnp};
use crate::io::{Call, Pending};
use crate::node::{Node, Stack};
use crate::port::{Answer, Cancel, Seen, Shape, Timing};
use crate::registry::Hive;
use crate::world::{self, Entered, Schedule, World};

const RESERVE: u32 = 0x002D_4810;
const RELEASE: u32 = 0x002D_4814;
const RESERVE_6: u8 = 0x16;
const RELEASE_6: u8 = 0x17;

/// What happens to an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// Its caller cancels it.
    Cancel,
    /// IRP_MN_SURPRISE_REMOVAL.
    Surprise,
    /// IRP_MN_REMOVE_DEVICE.
    Remove,
    /// Another caller sends the next one.
    Second,
}

/// What the first command is answered.
#[derive(Clone, Copy, Debug)]
enum First {
    Good,
    /// Sent again at once.
    Attention,
    /// Sent again after the delay.
    Busy,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    event: Event,
    first: First,
    timing: Timing,
    cancel: Cancel,
}

const FIRSTS: [First; 3] = [First::Good, First::Attention, First::Busy];

/// A port that completes inline has no time to be cancelled in; a slow one that ignores it may take its time.
const PORTS: [(Timing, Cancel); 6] = [
    (Timing::Inline, Cancel::Ignored),
    (Timing::Later, Cancel::Honoured),
    (Timing::Later, Cancel::Late),
    (Timing::Later, Cancel::Ignored),
    (Timing::Slow, Cancel::Honoured),
    (Timing::Slow, Cancel::Late),
];

fn plans_with(event: Event) -> impl Iterator<Item = Plan> {
    FIRSTS.into_iter().flat_map(move |first| {
        PORTS.map(|(timing, cancel)| Plan {
            event,
            first,
            timing,
            cancel,
        })
    })
}

/// Where a case puts what; points count from where the operation begins.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// The event; 0: nowhere.
    event: u64,
    /// The preemption, counted from the event; 0: nowhere.
    preempted: u64,
}

/// Points of a run.
#[derive(Clone, Copy, Debug, Default)]
struct Points {
    /// Before the operations began.
    before: u64,
    /// Of the operations.
    operations: u64,
    /// From the event to where its thread was done.
    event: u64,
}

/// Of the cases with a preemption, a quick walk takes one in so many; of the others all.
const QUICK: u64 = 97;
const PLAN: u64 = 100_000_000;
const POINT: u64 = 10_000;

/// Walks all plans with this event.
pub(super) fn walk(walk: &mut Walk<'_>, event: Event) {
    let mut plans = Vec::new();
    for (number, plan) in (0..).step_by(PLAN as usize).zip(plans_with(event)) {
        let none = Place::default();
        match play(walk, plan, Points::default(), none, number) {
            (points, Ok(())) => plans.push((number, plan, points)),
            (_, found) => return walk.judge(number, found),
        }
    }
    walk.begin(plans.iter().map(|(.., points)| points.operations).sum());
    for (number, plan, points) in plans {
        for point in 1..=points.operations {
            walk.step();
            at_point(walk, number + point * POINT, plan, points, point);
        }
    }
}

/// The event at one point, then with each preemption of its thread.
fn at_point(walk: &mut Walk<'_>, number: u64, plan: Plan, points: Points, point: u64) {
    // Else it runs even where it is before the first case: it tells how many preemptions there are.
    if number + POINT <= walk.options.from || walk.is_enough() {
        return;
    }
    let place = |preempted| Place {
        event: point,
        preempted,
    };
    let (found, result) = play(walk, plan, points, place(0), number);
    if walk.takes(number, 1) {
        walk.judge(number, result);
    }
    for preempted in 1..=found.event {
        let number = number + preempted;
        if walk.takes(number, QUICK) {
            let (_, result) = play(walk, plan, points, place(preempted), number);
            walk.judge(number, result);
        }
    }
}

/// Plays one run; `points` are those of the run without an event.
fn play(
    walk: &Walk<'_>,
    plan: Plan,
    points: Points,
    place: Place,
    number: u64,
) -> (Points, Result<(), String>) {
    let schedule = match place.preempted {
        0 => Schedule::Orderly,
        after => Schedule::Preempt(vec![points.before + place.event + after]),
    };
    let scene = match Scene::new(walk, plan, schedule) {
        Ok(scene) => scene,
        Err(why) => return (Points::default(), Err(why)),
    };
    let world = Arc::clone(scene.world.world());
    walk.note(&world, number);
    let before = world.points();
    if place.event != 0 {
        world.place(before + place.event, "event", scene.happen(plan.event));
    }
    let ends = scene.operate(plan.event, place);
    let found = Points {
        before,
        operations: ends.points - before,
        event: ends.event.map_or(0, |event| event.points),
    };
    let event = ends.event.map(|_| plan.event);
    let result = scene.judge(event, place.preempted != 0, &ends);
    let ended = scene.end(event);
    let what = |why| format!("{plan:?}, {place:?}: {why}");
    (found, result.and(ended).map_err(what))
}

struct Scene {
    node: Arc<Node>,
    stack: Arc<Stack>,
    unit: LogicalUnit,
    calls: Arc<Calls>,
    // Last: the others live in it.
    world: Entered,
}

/// What the event's thread knows and tells.
#[derive(Default)]
struct Calls {
    /// The first operation.
    first: Mutex<Option<Arc<Pending>>>,
    /// The second one.
    second: Mutex<Option<Arc<Pending>>>,
    /// Once the event's thread is done.
    event: Mutex<Option<Happened>>,
}

impl Calls {
    fn key(&self) -> usize {
        (&raw const *self) as usize
    }
}

/// What the event's thread saw.
#[derive(Clone, Copy)]
struct Happened {
    /// The points that it took.
    points: u64,
    /// The time at which it began.
    at: u64,
    /// The pass-throughs that had come to the port when it was done.
    wanted: u64,
}

/// How the operations of a run ended.
struct Ends {
    first: Status,
    second: Status,
    event: Option<Happened>,
    /// The number of the last point that passed.
    points: u64,
    /// The time when the first was over, and when both were.
    at: [u64; 2],
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an operation may end with: served, cancelled, on a disk that is gone, on one that is being removed.
pub(super) const SERVED: &[Status] = &[status::SUCCESS];
pub(super) const CANCELLED: &[Status] = &[status::SUCCESS, status::CANCELLED];
pub(super) const GONE: &[Status] = &[status::SUCCESS, status::DEVICE_NOT_CONNECTED];
pub(super) const REMOVED: &[Status] = &[
    status::SUCCESS,
    status::DEVICE_NOT_CONNECTED,
    // Still queued at the purge; after it; by the port, when the filter is gone.
    status::CANCELLED,
    status::INVALID_DEVICE_STATE,
    status::INVALID_DEVICE_REQUEST,
];

/// What an event lets the first, the second and a later operation end with.
type Permitted = (
    &'static [Status],
    &'static [Status],
    Option<&'static [Status]>,
);

const fn permitted(event: Option<Event>) -> Permitted {
    match event {
        None | Some(Event::Second) => (SERVED, SERVED, Some(SERVED)),
        Some(Event::Cancel) => (CANCELLED, SERVED, Some(SERVED)),
        Some(Event::Surprise) => (GONE, GONE, Some(&[status::DEVICE_NOT_CONNECTED])),
        Some(Event::Remove) => (REMOVED, REMOVED, None),
    }
}

impl Scene {
    fn new(walk: &Walk<'_>, plan: Plan, schedule: Schedule) -> Result<Self, String> {
        let world = World::enter(schedule);
        let unit = LogicalUnit::new();
        unit.configure(|options| options.quiet = true);
        let file = &walk.options.image;
        let node = Node::load_bytes(world.world(), "A", file, walk.bytes, Hive::default())
            .map_err(|error| error.to_string())?;
        let disk = Arc::new(unit.connect("iqn.2026-01.example:a"));
        let stack = node
            .plug(disk, &DiskKeys::default())
            .map_err(|status| format!("the disk does not start: {status:#010x}"))?;
        stack.port.behave(Shape::Success, plan.timing);
        stack.port.on_cancel(plan.cancel);
        stack.port.script(plan.first.script());
        Ok(Self {
            node: Arc::new(node),
            stack: Arc::new(stack),
            unit,
            calls: Arc::default(),
            world,
        })
    }

    /// What the event's thread does.
    fn happen(&self, event: Event) -> world::Job {
        let (node, stack) = (Arc::clone(&self.node), Arc::clone(&self.stack));
        let (calls, world) = (Arc::clone(&self.calls), Arc::clone(self.world.world()));
        Box::new(move || {
            let (began, at) = (world.points(), world.now());
            match event {
                Event::Cancel => {
                    let first = lock(&calls.first).clone();
                    if let Some(first) = first {
                        first.cancel();
                    }
                }
                Event::Surprise => drop(node.pnp(&stack, Pnp::SurpriseRemoval)),
                Event::Remove => drop(node.pnp(&stack, Pnp::Remove)),
                Event::Second => {
                    let second = node.start(&stack, &Call::ioctl(RELEASE));
                    *lock(&calls.second) = Some(second);
                }
            }
            *lock(&calls.event) = Some(Happened {
                points: world.points() - began,
                at,
                wanted: stack.port.wanted(),
            });
            world.wake(calls.key());
        })
    }

    /// A RESERVE, and a RELEASE behind it unless the event sends that.
    fn operate(&self, event: Event, place: Place) -> Ends {
        let (calls, reserve) = (&self.calls, Call::ioctl(RESERVE));
        let note = |pending: &Arc<Pending>| *lock(&calls.first) = Some(Arc::clone(pending));
        let first = self.node.start_noting(&self.stack, &reserve, note);
        if event != Event::Second {
            let second = self.node.start(&self.stack, &Call::ioctl(RELEASE));
            *lock(&calls.second) = Some(second);
        }
        let first = first.wait().status;
        let thread = world::current();
        let first_at = thread.world.now();
        let happened = || place.event == 0 || lock(&calls.event).is_some();
        if event == Event::Second {
            thread.wait(calls.key(), happened);
        }
        let second = lock(&calls.second).take();
        let second = second.map_or(status::SUCCESS, |second| second.wait().status);
        let (points, at) = (thread.world.points(), [first_at, thread.world.now()]);
        thread.wait(calls.key(), happened);
        thread.settle();
        Ends {
            first,
            second,
            event: *lock(&calls.event),
            points,
            at,
        }
    }

    /// `early`: a preempted thread's timers may fire early, and so may the send timeout.
    fn judge(&self, event: Option<Event>, early: bool, ends: &Ends) -> Result<(), String> {
        let (first, second, next) = permitted(event);
        let permits = |what, permitted: &[Status], end| {
            if permitted.contains(&end) || (early && end == status::IO_TIMEOUT) {
                return Ok(());
            }
            Err(format!("the {what} ends {end:#010x}"))
        };
        permits("first", first, ends.first)?;
        permits("second", second, ends.second)?;
        if let (Some(event), Some(happened)) = (event, &ends.event) {
            self.proof(ends)?;
            self.stopped(event, early, happened, ends)?;
        }
        let Some(next) = next else { return Ok(()) };
        let end = self.node.call(&self.stack, &Call::ioctl(RESERVE));
        permits("next one", next, end.status)
    }

    /// A caller is told of success on proof, and then always; and the last command tells whether the unit is held.
    fn proof(&self, ends: &Ends) -> Result<(), String> {
        let port = &self.stack.port;
        let proven = port.take_proven();
        for (end, code) in [(ends.first, RESERVE_6), (ends.second, RELEASE_6)] {
            let succeeded = end == status::SUCCESS;
            if succeeded != proven.contains(&code) {
                return Err(format!("{end:#010x}, and GOOD was given to {proven:02x?}"));
            }
        }
        let seen = port.take_seen();
        let good = |seen: &&Seen| seen.scsi_status() == Some(GOOD);
        let last = seen.iter().rev().find(good);
        let last = last.and_then(|seen| seen.cdb.first()).copied();
        let holder = self.unit.holder();
        if holder.is_some() != (last == Some(RESERVE_6)) {
            return Err(format!(
                "{last:02x?} came last, and {holder:?} holds the unit"
            ));
        }
        Ok(())
    }

    /// A stop is heard: nothing waits for a timer any more, and on a disk that is gone nothing new is sent.
    fn stopped(
        &self,
        event: Event,
        early: bool,
        happened: &Happened,
        ends: &Ends,
    ) -> Result<(), String> {
        let over = match event {
            Event::Cancel => Some(ends.at[0]),
            Event::Surprise | Event::Remove => Some(ends.at[1]),
            Event::Second => None,
        };
        if let Some(over) = over
            && !early
            && over > happened.at
        {
            let waited = over - happened.at;
            return Err(format!("it takes {waited} times 100 ns more"));
        }
        if ![Event::Surprise, Event::Remove].contains(&event) {
            return Ok(());
        }
        if self.stack.port.wanted() != happened.wanted {
            return Err("a command is sent afterwards".into());
        }
        if ends.first == status::DEVICE_NOT_CONNECTED && ends.second == status::SUCCESS {
            return Err("the second is served though the first found the disk gone".into());
        }
        Ok(())
    }

    /// Removes the disk, unloads the driver, and so looks for leaks.
    fn end(self, event: Option<Event>) -> Result<(), String> {
        let (Ok(node), Ok(stack)) = (
            Arc::try_unwrap(self.node).map_err(drop),
            Arc::try_unwrap(self.stack).map_err(drop),
        ) else {
            return Err("the event's thread is not done".into());
        };
        if event != Some(Event::Remove) {
            node.unplug(stack);
        }
        node.unload();
        Ok(())
    }
}

impl First {
    fn script(self) -> Option<Answer> {
        let (status, sense) = match self {
            Self::Good => return None,
            Self::Attention => {
                let mut sense = vec![0; 18];
                (sense[0], sense[2], sense[7], sense[12]) = (0x70, 6, 10, 0x29);
                (0x02, sense)
            }
            Self::Busy => (0x08, Vec::new()),
        };
        Some(Answer::Target(Outcome::Status {
            status,
            sense,
            data: Vec::new(),
        }))
    }
}
