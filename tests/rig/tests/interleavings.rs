//! Every way in which a cancel, a removal, the port's answer and the retry timer can overtake each other with at most
//! two preemptions: the place of each is any call that the driver makes, before or after it.

use std::sync::Arc;

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
    world: Entered,
    node: Arc<Node>,
    stack: Arc<Stack>,
    unit: LogicalUnit,
}

fn scene(plan: Plan, schedule: Schedule, bytes: &[u8]) -> Scene {
    let world = World::enter(schedule);
    let unit = LogicalUnit::new();
    unit.configure(|options| options.quiet = true);
    let node =
        Node::load_bytes(world.world(), "A", &image::built(), bytes, Hive::default()).unwrap();
    let disk = Arc::new(unit.connect("iqn.2001-04.com.example:a"));
    let stack = node.plug(disk, &DiskKeys::default()).unwrap();
    stack.port.behave(Shape::Success, plan.timing);
    stack.port.on_cancel(plan.cancel);
    let mut sense = vec![0; 18];
    (sense[0], sense[2], sense[7], sense[12]) = (0x70, 6, 10, 0x29);
    let answer = |status, sense| {
        Answer::Target(Outcome::Status {
            status,
            sense,
            data: vec![],
        })
    };
    match plan.first {
        First::Good => {}
        First::Attention => stack.port.script([answer(0x02, sense)]),
        First::Busy => stack.port.script([answer(0x08, vec![])]),
    }
    Scene {
        world,
        node: Arc::new(node),
        stack: Arc::new(stack),
        unit,
    }
}

fn status(pending: &Arc<Pending>) -> u32 {
    pending.wait().status.cast_unsigned()
}

/// Plays one run; gives the points that lie between its begin and its end.
fn run(plan: Plan, schedule: Schedule, bytes: &[u8], what: &str) -> (u64, u64) {
    let scene = scene(plan, schedule, bytes);
    let from = scene.world.world().points();
    let fate = Arc::new(std::sync::Mutex::new(None::<Arc<Pending>>));
    let (told, node, stack) = (
        Arc::clone(&fate),
        Arc::clone(&scene.node),
        Arc::clone(&scene.stack),
    );
    let job = move || match plan.fate {
        Fate::Cancel => {
            let first = told.lock().unwrap().clone();
            if let Some(first) = first {
                first.cancel();
            }
        }
        Fate::Surprise => drop(node.pnp(&stack, Pnp::SurpriseRemoval)),
        Fate::Remove => {
            node.pnp(&stack, Pnp::Remove);
        }
    };
    scene
        .world
        .world()
        .spawn("fate", irql::PASSIVE, Box::new(job));
    // The caller's thread is never between the two: what is started is known to the fate.
    let first = scene
        .node
        .start_noting(&scene.stack, &Call::ioctl(RESERVE), |pending| {
            *fate.lock().unwrap() = Some(Arc::clone(pending));
        });
    let second = scene.node.start(&scene.stack, &Call::ioctl(RELEASE));
    let (first, second) = (status(&first), status(&second));
    world::current().settle();
    let to = scene.world.world().points();

    match plan.fate {
        Fate::Cancel => {
            assert!(
                [SUCCESS, CANCELLED, IO_TIMEOUT].contains(&first),
                "{what}: first {first:#x}"
            );
            assert!(
                [SUCCESS, IO_TIMEOUT].contains(&second),
                "{what}: a cancel reached the next operation: {second:#x}"
            );
        }
        Fate::Surprise | Fate::Remove => {
            let ends = [
                SUCCESS,
                DEVICE_NOT_CONNECTED,
                CANCELLED,
                INVALID_DEVICE_STATE,
                IO_TIMEOUT,
            ];
            // Without the filter, which a REMOVE may have taken away before, the port answers for itself.
            let gone = plan.fate == Fate::Remove;
            for end in [first, second] {
                assert!(
                    ends.contains(&end) || (gone && end == 0xC000_0010),
                    "{what}: {end:#x}"
                );
            }
        }
    }
    if second == SUCCESS && plan.fate == Fate::Cancel {
        assert_eq!(
            scene.unit.holder(),
            None,
            "{what}: RELEASE was the last command"
        );
    }
    let Scene {
        node, stack, world, ..
    } = scene;
    let (Ok(node), Ok(stack)) = (
        Arc::try_unwrap(node).map_err(drop),
        Arc::try_unwrap(stack).map_err(drop),
    ) else {
        panic!("{what}: the fate's thread is over");
    };
    if plan.fate != Fate::Remove {
        node.unplug(stack);
    }
    node.unload();
    drop(world);
    (from, to)
}

fn walk(plans: &[Plan]) {
    let bytes = image::read(&image::built()).unwrap();
    let mut runs = 0_u32;
    for &plan in plans {
        let (from, to) = run(plan, Schedule::Orderly, &bytes, "no preemption");
        for first in from + 1..=to {
            // With no second preemption, too.
            for second in first..=to {
                let what = format!("{plan:?}, preempted at {first} and {second}");
                run(plan, Schedule::Preempt(vec![first, second]), &bytes, &what);
                runs += 1;
            }
        }
    }
    println!("{runs} runs");
}

#[test]
fn no_cancel_reaches_the_next_operation() {
    let mut plans = Vec::new();
    for cancel in [Cancel::Honoured, Cancel::Late, Cancel::Ignored] {
        plans.push(Plan {
            first: First::Good,
            cancel,
            timing: Timing::Later,
            fate: Fate::Cancel,
        });
    }
    walk(&plans);
}

#[test]
fn a_cancel_in_a_retry_ends_it_once() {
    let plan = Plan {
        first: First::Attention,
        cancel: Cancel::Honoured,
        timing: Timing::Later,
        fate: Fate::Cancel,
    };
    walk(&[
        plan,
        Plan {
            first: First::Busy,
            timing: Timing::Inline,
            ..plan
        },
    ]);
}

#[test]
fn a_removal_ends_what_it_meets_once() {
    let plan = Plan {
        first: First::Good,
        cancel: Cancel::Honoured,
        timing: Timing::Later,
        fate: Fate::Surprise,
    };
    walk(&[
        plan,
        Plan {
            first: First::Busy,
            ..plan
        },
        Plan {
            fate: Fate::Remove,
            ..plan
        },
    ]);
}
