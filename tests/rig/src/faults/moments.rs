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
use crate::port::{Answer, Cancel, Shape, Timing};
use crate::registry::Hive;
use crate::world::{self, Entered, Schedule, World};

const RESERVE: u32 = 0x002D_4810;
const RELEASE: u32 = 0x002D_4814;

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

/// A port that completes inline has no time to be cancelled in.
const PORTS: [(Timing, Cancel); 4] = [
    (Timing::Inline, Cancel::Ignored),
    (Timing::Later, Cancel::Honoured),
    (Timing::Later, Cancel::Late),
    (Timing::Later, Cancel::Ignored),
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
        event: lock(&scene.calls.event).unwrap_or(0),
    };
    let result = scene.judge(plan, place, &ends);
    let ended = scene.end(plan.event, place);
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
    /// The one that the event added.
    added: Mutex<Option<Arc<Pending>>>,
    /// How many points the event's thread took, once it is done.
    event: Mutex<Option<u64>>,
}

impl Calls {
    fn key(&self) -> usize {
        (&raw const *self) as usize
    }
}

/// How the operations of a run ended.
struct Ends {
    first: Status,
    second: Status,
    /// The number of the last point that passed.
    points: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the caller of an operation may get: served, cancelled, on a disk that is gone, on one that is being removed.
const SERVED: &[Status] = &[status::SUCCESS];
const CANCELLED: &[Status] = &[status::SUCCESS, status::CANCELLED];
const GONE: &[Status] = &[status::SUCCESS, status::DEVICE_NOT_CONNECTED];
const REMOVED: &[Status] = &[
    status::SUCCESS,
    status::DEVICE_NOT_CONNECTED,
    // Still queued at the purge; after it; when the filter is gone, by the port.
    status::CANCELLED,
    status::INVALID_DEVICE_STATE,
    status::INVALID_DEVICE_REQUEST,
];

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
            let began = world.points();
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
                    let added = node.start(&stack, &Call::ioctl(RELEASE));
                    *lock(&calls.added) = Some(added);
                }
            }
            *lock(&calls.event) = Some(world.points() - began);
            world.wake(calls.key());
        })
    }

    /// A RESERVE, and a RELEASE behind it unless the event sends that.
    fn operate(&self, event: Event, place: Place) -> Ends {
        let (calls, release) = (&self.calls, Call::ioctl(RELEASE));
        let first = self
            .node
            .start_noting(&self.stack, &Call::ioctl(RESERVE), |pending| {
                *lock(&calls.first) = Some(Arc::clone(pending));
            });
        if event != Event::Second {
            *lock(&calls.added) = Some(self.node.start(&self.stack, &release));
        }
        let first = first.wait().status;
        let thread = world::current();
        if place.event != 0 && event == Event::Second {
            thread.wait(calls.key(), || lock(&calls.event).is_some());
        }
        let second = lock(&calls.added).take();
        let second = second.map_or(status::SUCCESS, |second| second.wait().status);
        let points = self.world.world().points();
        if place.event != 0 {
            thread.wait(calls.key(), || lock(&calls.event).is_some());
        }
        thread.settle();
        Ends {
            first,
            second,
            points,
        }
    }

    fn judge(&self, plan: Plan, place: Place, ends: &Ends) -> Result<(), String> {
        let happened = place.event != 0;
        let (first, second, next): (&[Status], &[Status], Option<Status>) = match plan.event {
            Event::Cancel if happened => (CANCELLED, SERVED, Some(status::SUCCESS)),
            Event::Surprise if happened => (GONE, GONE, Some(status::DEVICE_NOT_CONNECTED)),
            Event::Remove if happened => (REMOVED, REMOVED, None),
            _ => (SERVED, SERVED, Some(status::SUCCESS)),
        };
        // A preempted thread's timers may fire early.
        let early = place.preempted != 0;
        let permits = |permitted: &[Status], end| {
            permitted.contains(&end) || (early && end == status::IO_TIMEOUT)
        };
        if !permits(first, ends.first) {
            return Err(format!("the first ends {:#010x}", ends.first));
        }
        if !permits(second, ends.second) {
            return Err(format!("the second ends {:#010x}", ends.second));
        }
        let seen = self.stack.port.take_seen();
        let executed = seen
            .iter()
            .rev()
            .find(|seen| seen.scsi_status() == Some(GOOD));
        let last = executed.and_then(|seen| seen.cdb.first());
        if self.unit.holder().is_some() != (last == Some(&0x16)) {
            return Err(format!(
                "{last:x?} was executed last, {:?} holds the unit",
                self.unit.holder()
            ));
        }
        let Some(next) = next else { return Ok(()) };
        let end = self.node.call(&self.stack, &Call::ioctl(RESERVE)).status;
        if !permits(&[next], end) {
            return Err(format!("the next one ends {end:#010x}, not {next:#010x}"));
        }
        Ok(())
    }

    /// Removes the disk, unloads the driver, and so looks for leaks.
    fn end(self, event: Event, place: Place) -> Result<(), String> {
        let (Ok(node), Ok(stack)) = (
            Arc::try_unwrap(self.node).map_err(drop),
            Arc::try_unwrap(self.stack).map_err(drop),
        ) else {
            return Err("the event's thread is not done".into());
        };
        if event != Event::Remove || place.event == 0 {
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
