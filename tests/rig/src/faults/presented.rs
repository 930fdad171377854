//! Two requests that arrive while an operation is at every step, and a third waits: one of them cancelled before it comes,
//! in both orders, or neither; on each kind of port; while the one in hand or the one that waits is cancelled, or the disk
//! is removed. The second arrives at every step of the first one's way in.
//!
//! What a queue lets its driver have at a time is decided on that way. The framework's sequential queue drops its lock there
//! (fxioqueue.cpp, FxIoQueue::InsertNewRequestLocked), and presents two at once.
//!
//! A case's number is plan, point and the second one's point, four digits each for the last two.

use std::sync::{Arc, Mutex, PoisonError};

use super::Walk;
use super::moments::{CANCELLED, GONE, REMOVED, SERVED};
use crate::abi::{Status, status};
use crate::disk::logical_unit::LogicalUnit;
use crate::fx::{DiskKeys, Pnp};
use crate::io::{Call, Pending};
use crate::node::{Node, Stack};
use crate::port::{Cancel, Shape, Timing};
use crate::registry::Hive;
use crate::world::{self, Entered, Schedule, World};

const RESERVE: u32 = 0x002D_4810;
const RELEASE: u32 = 0x002D_4814;
const RESERVE_6: u8 = 0x16;
const RELEASE_6: u8 = 0x17;

/// What happens once the first request is in hand and the second waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Nothing,
    /// The first came cancelled already.
    CameCancelled,
    FirstCancelled,
    SecondCancelled,
    Surprise,
    Remove,
}

/// A port: what it does with the first command, and with those after the arrivals.
#[derive(Clone, Copy, Debug)]
struct PortKind {
    first: Timing,
    then: Timing,
    cancel: Cancel,
}

/// Which of the two that arrive are cancelled already.
type Arrivals = [bool; 2];

#[derive(Clone, Copy, Debug)]
struct Plan {
    fate: Fate,
    port: PortKind,
    arrivals: Arrivals,
}

const FATES: [Fate; 6] = [
    Fate::Nothing,
    Fate::CameCancelled,
    Fate::FirstCancelled,
    Fate::SecondCancelled,
    Fate::Surprise,
    Fate::Remove,
];
const fn port(first: Timing, then: Timing, cancel: Cancel) -> PortKind {
    PortKind {
        first,
        then,
        cancel,
    }
}
const PORTS: [PortKind; 5] = [
    port(Timing::Inline, Timing::Inline, Cancel::Ignored),
    port(Timing::Inline, Timing::Later, Cancel::Ignored),
    port(Timing::Later, Timing::Later, Cancel::Honoured),
    port(Timing::Later, Timing::Later, Cancel::Late),
    port(Timing::Slow, Timing::Slow, Cancel::Honoured),
];
const ARRIVALS: [Arrivals; 3] = [[true, false], [false, true], [false, false]];

fn plans() -> impl Iterator<Item = Plan> {
    FATES.into_iter().flat_map(|fate| {
        PORTS.into_iter().flat_map(move |port| {
            ARRIVALS.map(|arrivals| Plan {
                fate,
                port,
                arrivals,
            })
        })
    })
}

/// Points of a run.
#[derive(Clone, Copy, Debug, Default)]
struct Points {
    /// Before the operations began.
    before: u64,
    /// Of the operations.
    operations: u64,
    /// Of the first arrival's way in.
    arrival: u64,
}

/// A quick walk takes one case in so many.
const QUICK: u64 = 97;
const PLAN: u64 = 100_000_000;
const POINT: u64 = 10_000;

/// Walks all plans.
pub(super) fn walk(walk: &mut Walk<'_>) {
    let mut ready = Vec::new();
    for (number, plan) in (0..).step_by(PLAN as usize).zip(plans()) {
        match play(walk, plan, None, number) {
            (points, Ok(())) => ready.push((number, plan, points)),
            (_, found) => return walk.judge(number, found),
        }
    }
    walk.begin(ready.iter().map(|(.., points)| points.operations).sum());
    for (number, plan, points) in ready {
        for point in 1..=points.operations {
            walk.step();
            at_point(walk, number + point * POINT, plan, points, point);
        }
    }
}

/// Where a case puts the arrivals.
#[derive(Clone, Copy, Debug)]
struct Place {
    before: u64,
    /// The first one, counted from where the operations began.
    first: u64,
    /// The second one, counted from the first; 0: after it.
    second: u64,
}

fn at_point(walk: &mut Walk<'_>, number: u64, plan: Plan, points: Points, point: u64) {
    // Else it runs even where it is before the first case: it tells how long the way in is.
    if number + POINT <= walk.options.from || walk.is_enough() {
        return;
    }
    let place = |second| Place {
        before: points.before,
        first: point,
        second,
    };
    let (found, result) = play(walk, plan, Some(place(0)), number);
    if walk.takes(number, QUICK) {
        walk.judge(number, result);
    }
    for second in 1..=found.arrival {
        let number = number + second;
        if walk.takes(number, QUICK) {
            let (_, result) = play(walk, plan, Some(place(second)), number);
            walk.judge(number, result);
        }
    }
}

fn play(
    walk: &Walk<'_>,
    plan: Plan,
    place: Option<Place>,
    number: u64,
) -> (Points, Result<(), String>) {
    let scene = match Scene::new(walk, plan) {
        Ok(scene) => scene,
        Err(why) => return (Points::default(), Err(why)),
    };
    walk.note(scene.world.world(), number);
    let before = scene.world.world().points();
    if let Some(place) = place {
        scene.arrange(plan, place);
    }
    let ends = scene.operate(plan, place.is_some());
    let points = Points {
        before,
        operations: ends.points - before,
        arrival: *lock(&scene.seen.arrival),
    };
    let result = scene.judge(plan, &ends);
    let ended = scene.end(plan);
    let what = |why| format!("{plan:?}, {place:?}: {why}");
    (points, result.and(ended).map_err(what))
}

struct Scene {
    node: Arc<Node>,
    stack: Arc<Stack>,
    seen: Arc<Noted>,
    // Last: the others live in it.
    world: Entered,
}

/// What the threads tell each other.
#[derive(Default)]
struct Noted {
    /// The requests that arrived: their commands, whether they came cancelled.
    arrived: Mutex<Vec<(u8, bool, Arc<Pending>)>>,
    /// Points that the first one's way in took.
    arrival: Mutex<u64>,
    /// The second request was in the queue before the first one arrived.
    in_order: Mutex<bool>,
    waits: Mutex<bool>,
}

impl Noted {
    fn key(&self) -> usize {
        (&raw const *self) as usize
    }
}

/// How the operations of a run ended.
struct Ends {
    first: Status,
    second: Status,
    /// The command of each, whether it was cancelled before it came, and its end.
    arrived: Vec<(u8, bool, Status)>,
    points: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const fn permitted(fate: Fate) -> [&'static [Status]; 3] {
    match fate {
        Fate::Nothing => [SERVED, SERVED, SERVED],
        Fate::CameCancelled | Fate::FirstCancelled => [CANCELLED, SERVED, SERVED],
        Fate::SecondCancelled => [SERVED, CANCELLED, SERVED],
        Fate::Surprise => [GONE, GONE, GONE],
        Fate::Remove => [REMOVED, REMOVED, REMOVED],
    }
}

impl Scene {
    fn new(walk: &Walk<'_>, plan: Plan) -> Result<Self, String> {
        let world = World::enter(Schedule::Orderly);
        let unit = LogicalUnit::new();
        unit.configure(|options| options.quiet = true);
        let file = &walk.options.image;
        let node = Node::load_bytes(world.world(), "A", file, walk.bytes, Hive::default())
            .map_err(|error| error.to_string())?;
        let disk = Arc::new(unit.connect("iqn.2026-01.example:a"));
        let stack = node
            .plug(disk, &DiskKeys::default())
            .map_err(|status| format!("the disk does not start: {status:#010x}"))?;
        stack.port.behave(Shape::Success, plan.port.first);
        stack.port.on_cancel(plan.port.cancel);
        Ok(Self {
            node: Arc::new(node),
            stack: Arc::new(stack),
            seen: Arc::default(),
            world,
        })
    }

    /// Has the two arrive: each on a thread of its own, or both on one.
    fn arrange(&self, plan: Plan, place: Place) {
        let world = self.world.world();
        let [first, second] = plan.arrivals;
        let arrive = |code, command, cancelled| {
            let (node, stack) = (Arc::clone(&self.node), Arc::clone(&self.stack));
            let seen = Arc::clone(&self.seen);
            move || {
                let before_it_is_sent = |pending: &Arc<Pending>| {
                    if cancelled {
                        pending.cancel();
                    }
                    lock(&seen.arrived).push((command, cancelled, Arc::clone(pending)));
                };
                node.start_noting(&stack, &Call::ioctl(code), before_it_is_sent);
                world::current().world.wake(seen.key());
            }
        };
        let one = arrive(RESERVE, RESERVE_6, first);
        let two = arrive(RELEASE, RELEASE_6, second);
        let (stack, seen) = (Arc::clone(&self.stack), Arc::clone(&self.seen));
        let together = place.second == 0;
        let two = if together {
            Some(two)
        } else {
            let at = place.before + place.first + place.second;
            world.place(at, "second arrival", Box::new(two));
            None
        };
        let way_in = move || {
            *lock(&seen.in_order) = *lock(&seen.waits);
            stack.port.behave(Shape::Success, plan.port.then);
            let world = &world::current().world;
            let began = world.points();
            one();
            *lock(&seen.arrival) = world.points() - began;
            if let Some(two) = two {
                two();
            }
        };
        let at = place.before + place.first;
        world.place(at, "first arrival", Box::new(way_in));
    }

    fn operate(&self, plan: Plan, arrivals: bool) -> Ends {
        let (node, stack) = (&self.node, &self.stack);
        let before_it_is_sent = |pending: &Arc<Pending>| {
            if plan.fate == Fate::CameCancelled {
                pending.cancel();
            }
        };
        let first = node.start_noting(stack, &Call::ioctl(RESERVE), before_it_is_sent);
        let second = node.start(stack, &Call::ioctl(RELEASE));
        *lock(&self.seen.waits) = true;
        match plan.fate {
            Fate::Nothing | Fate::CameCancelled => {}
            Fate::FirstCancelled => drop(first.cancel()),
            Fate::SecondCancelled => drop(second.cancel()),
            Fate::Surprise => drop(node.pnp(stack, Pnp::SurpriseRemoval)),
            Fate::Remove => drop(node.pnp(stack, Pnp::Remove)),
        }
        let (first, second) = (first.wait().status, second.wait().status);
        let thread = world::current();
        let points = thread.world.points();
        if arrivals {
            thread.wait(self.seen.key(), || lock(&self.seen.arrived).len() == 2);
        }
        let arrived = lock(&self.seen.arrived).clone();
        let arrived = arrived
            .iter()
            .map(|(command, cancelled, pending)| (*command, *cancelled, pending.wait().status));
        let arrived = arrived.collect();
        thread.settle();
        Ends {
            first,
            second,
            arrived,
            points,
        }
    }

    fn judge(&self, plan: Plan, ends: &Ends) -> Result<(), String> {
        let [first, second, live] = permitted(plan.fate);
        let permits = |what, permitted: &[Status], end| {
            if permitted.contains(&end) {
                return Ok(());
            }
            Err(format!("the {what} ends {end:#010x}"))
        };
        permits("first", first, ends.first)?;
        permits("second", second, ends.second)?;
        for &(_, cancelled, end) in &ends.arrived {
            let ended_so = end != status::SUCCESS && live.contains(&end);
            if !(cancelled && (end == status::CANCELLED || ended_so)) {
                permits("one that arrived", live, end)?;
            }
            if cancelled && end == status::SUCCESS {
                return Err("one that came cancelled ends with success".into());
            }
        }
        self.in_order(ends)?;
        let next = match plan.fate {
            Fate::Remove => return Ok(()),
            Fate::Surprise => &[status::DEVICE_NOT_CONNECTED],
            _ => SERVED,
        };
        let end = self.node.call(&self.stack, &Call::ioctl(RESERVE));
        permits("next one", next, end.status)
    }

    /// Each success has its own proof, and the two that were there are served in their order, and first.
    fn in_order(&self, ends: &Ends) -> Result<(), String> {
        let success = |end, code| (end == status::SUCCESS).then_some(code);
        let two = [
            success(ends.first, RESERVE_6),
            success(ends.second, RELEASE_6),
        ];
        let mut expected: Vec<_> = two.into_iter().flatten().collect();
        let known = expected.len();
        let arrived = ends.arrived.iter();
        expected.extend(arrived.filter_map(|&(code, _, end)| success(end, code)));
        let mut proven = self.stack.port.take_proven();
        let found = format!("successes {expected:02x?}, answers {proven:02x?}");
        if *lock(&self.seen.in_order) && !proven.starts_with(&expected[..known]) {
            return Err(format!("out of order: {found}"));
        }
        // Which of the two came first is not known where their ways in overlap.
        expected.sort_unstable();
        proven.sort_unstable();
        if expected == proven {
            return Ok(());
        }
        Err(found)
    }

    /// Removes the disk, unloads the driver, and so looks for leaks.
    fn end(self, plan: Plan) -> Result<(), String> {
        let (Ok(node), Ok(stack)) = (
            Arc::try_unwrap(self.node).map_err(drop),
            Arc::try_unwrap(self.stack).map_err(drop),
        ) else {
            return Err("a thread is not done".into());
        };
        if plan.fate != Fate::Remove {
            node.unplug(stack);
        }
        node.unload();
        Ok(())
    }
}
