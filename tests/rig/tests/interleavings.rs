//! Every way in which a cancel, a removal, the port's answer and the retry timer can overtake each other with at most
//! two preemptions: the place of each is any call that the driver makes, before or after it.

use std::sync::{Arc, Mutex};

use rig::abi::irql;
use rig::disk::Outcome;
use rig::disk::logical_unit::LogicalUnit;
use rig::fx::{DiskKeys, Pnp};
use rig::image;
use rig::io::{Call, Pending};
use rig::node::{Node, Stack};
use rig::port::{Answer, Cancel, Shape, Timing};
use rig::registry::Hive;
use rig::world::{self, Entered, Schedule, World};

const RESERVE: u32 = 0x002D_4810;
const RELEASE: u32 = 0x002D_4814;
const SUCCESS: u32 = 0;
const IO_TIMEOUT: u32 = 0xC000_00B5;
const DEVICE_NOT_CONNECTED: u32 = 0xC000_009D;
const CANCELLED: u32 = 0xC000_0120;
const INVALID_DEVICE_REQUEST: u32 = 0xC000_0010;
const INVALID_DEVICE_STATE: u32 = 0xC000_0184;

/// What the port says to the first command.
#[derive(Clone, Copy, Debug)]
enum First {
    Good,
    Attention,
    Busy,
}

/// What befalls the first of two operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Cancel,
    Surprise,
    Remove,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    first: First,
    cancel: Cancel,
    timing: Timing,
    fate: Fate,
}

struct Scene {
    node: Arc<Node>,
    stack: Arc<Stack>,
    unit: LogicalUnit,
    // Last: the rest lives in it.
    world: Entered,
}

impl Scene {
    fn new(plan: Plan, bytes: &[u8]) -> Self {
        let world = World::enter(Schedule::Orderly);
        let unit = LogicalUnit::new();
        unit.configure(|options| options.quiet = true);
        let node =
            Node::load_bytes(world.world(), "A", &image::built(), bytes, Hive::default()).unwrap();
        let disk = Arc::new(unit.connect("iqn.2001-04.com.example:a"));
        let stack = node.plug(disk, &DiskKeys::default()).unwrap();
        stack.port.behave(Shape::Success, plan.timing);
        stack.port.on_cancel(plan.cancel);
        Self {
            node: Arc::new(node),
            stack: Arc::new(stack),
            unit,
            world,
        }
    }

    /// Two operations, the first of which meets its fate; gives the points that the run passed.
    fn play(&self, plan: Plan, what: &str) -> std::ops::RangeInclusive<u64> {
        self.stack.port.forget_script();
        self.stack.port.script(answer(plan.first));
        let from = self.world.world().points();
        let first = Arc::new(Mutex::new(None::<Arc<Pending>>));
        let (told, node, stack) = (
            Arc::clone(&first),
            Arc::clone(&self.node),
            Arc::clone(&self.stack),
        );
        let fate = move || match plan.fate {
            Fate::Cancel => {
                let first = told.lock().unwrap().clone();
                if let Some(first) = first {
                    first.cancel();
                }
            }
            Fate::Surprise => drop(node.pnp(&stack, Pnp::SurpriseRemoval)),
            Fate::Remove => drop(node.pnp(&stack, Pnp::Remove)),
        };
        self.world
            .world()
            .spawn("fate", irql::PASSIVE, Box::new(fate));
        let first = self
            .node
            .start_noting(&self.stack, &Call::ioctl(RESERVE), |pending| {
                *first.lock().unwrap() = Some(Arc::clone(pending));
            });
        let second = self.node.start(&self.stack, &Call::ioctl(RELEASE));
        let (first, second) = (status(&first), status(&second));
        world::current().settle();
        self.judge(plan, first, second, what);
        from + 1..=self.world.world().points()
    }

    fn judge(&self, plan: Plan, first: u32, second: u32, what: &str) {
        if plan.fate == Fate::Cancel {
            assert!(
                [SUCCESS, CANCELLED, IO_TIMEOUT].contains(&first),
                "{what}: first {first:#x}"
            );
            let untouched = [SUCCESS, IO_TIMEOUT].contains(&second);
            assert!(
                untouched,
                "{what}: the cancel reached the next operation: {second:#x}"
            );
            if second == SUCCESS {
                assert_eq!(
                    self.unit.holder(),
                    None,
                    "{what}: RELEASE was the last command"
                );
            }
            return;
        }
        let ends = [
            SUCCESS,
            DEVICE_NOT_CONNECTED,
            CANCELLED,
            INVALID_DEVICE_STATE,
            IO_TIMEOUT,
        ];
        for end in [first, second] {
            // Once a REMOVE has taken the filter away, the port answers for itself.
            let gone = plan.fate == Fate::Remove && end == INVALID_DEVICE_REQUEST;
            assert!(ends.contains(&end) || gone, "{what}: {end:#x}");
        }
    }

    /// Unloads the driver, which checks for leaks.
    fn end(self, plan: Plan) {
        let node = Arc::into_inner(self.node).expect("the fate's thread is over");
        let stack = Arc::into_inner(self.stack).expect("the fate's thread is over");
        if plan.fate != Fate::Remove {
            node.unplug(stack);
        }
        node.unload();
    }
}

fn answer(first: First) -> Option<Answer> {
    let mut sense = vec![0; 18];
    (sense[0], sense[2], sense[7], sense[12]) = (0x70, 6, 10, 0x29);
    let target = |status, sense| {
        Answer::Target(Outcome::Status {
            status,
            sense,
            data: vec![],
        })
    };
    match first {
        First::Good => None,
        First::Attention => Some(target(0x02, sense)),
        First::Busy => Some(target(0x08, vec![])),
    }
}

fn status(pending: &Arc<Pending>) -> u32 {
    pending.wait().status.cast_unsigned()
}

/// Plays a plan with each pair of preemptions, and with each single one. The points of an undisturbed run bound them;
/// a run that is preempted may be longer.
fn walk(plan: Plan) {
    let bytes = image::read(&image::built()).unwrap();
    let mut scene = Scene::new(plan, &bytes);
    let points = scene.play(plan, "no preemption");
    let length = points.end() - points.start();
    let mut runs = 0_u32;
    for first in 0..=length {
        for second in first..=length {
            if plan.fate != Fate::Cancel {
                scene.end(plan);
                scene = Scene::new(plan, &bytes);
            }
            let from = scene.world.world().points() + 1;
            scene
                .world
                .world()
                .reschedule(Schedule::Preempt(vec![from + first, from + second]));
            scene.play(
                plan,
                &format!("{plan:?}, preempted at points {first} and {second}"),
            );
            scene.world.world().reschedule(Schedule::Orderly);
            runs += 1;
        }
    }
    scene.end(plan);
    println!("{plan:?}: {runs} runs");
}

const PLAN: Plan = Plan {
    first: First::Good,
    cancel: Cancel::Honoured,
    timing: Timing::Later,
    fate: Fate::Cancel,
};

#[test]
fn no_cancel_reaches_the_next_operation() {
    for cancel in [Cancel::Honoured, Cancel::Late, Cancel::Ignored] {
        walk(Plan { cancel, ..PLAN });
    }
}

#[test]
fn a_cancel_in_a_retry_ends_it_once() {
    walk(Plan {
        first: First::Attention,
        ..PLAN
    });
    walk(Plan {
        first: First::Busy,
        timing: Timing::Inline,
        ..PLAN
    });
}

#[test]
fn a_removal_ends_what_it_meets_once() {
    walk(Plan {
        fate: Fate::Surprise,
        ..PLAN
    });
    walk(Plan {
        fate: Fate::Remove,
        ..PLAN
    });
}
