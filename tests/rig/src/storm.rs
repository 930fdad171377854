//! A storm: several callers send RESERVEs and RELEASEs to one disk, and cancel some of them, before they are sent, while
//! they wait and while they are served. Which thread runs when comes from a seed, and so does all else: a seed repeats.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::abi::{irql, status};
use crate::disk::logical_unit::LogicalUnit;
use crate::fx::DiskKeys;
use crate::io::{Call, Pending};
use crate::node::{Node, NodeError};
use crate::port::{Cancel, Shape, Timing};
use crate::registry::Hive;
use crate::rules;
use crate::world::{self, Random, Schedule, World};

const RESERVE: u32 = 0x002D_4810;
const RELEASE: u32 = 0x002D_4814;
const CALLERS: usize = 4;
const CALLS: usize = 4;

/// How the requests of a storm ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// With success.
    pub served: usize,
    /// Cancelled.
    pub cancelled: usize,
}

/// Plays the storm of this seed with the driver in `bytes`. A broken rule ends the process; a request that is never
/// completed breaks one.
///
/// # Errors
/// The driver could not be loaded.
///
/// # Panics
/// If the disk does not start, or a request ends otherwise than served or cancelled.
pub fn play(file: &Path, bytes: &[u8], seed: u64) -> Result<Ends, NodeError> {
    let world = World::enter(Schedule::Orderly);
    let node = Arc::new(Node::load_bytes(
        world.world(),
        "A",
        file,
        bytes,
        Hive::default(),
    )?);
    let unit = LogicalUnit::new();
    unit.configure(|options| options.quiet = true);
    let disk = Arc::new(unit.connect("iqn.2001-04.com.example:a"));
    let stack = node
        .plug(disk, &DiskKeys::default())
        .unwrap_or_else(|status| panic!("the disk does not start: {status:#x}"));
    let stack = Arc::new(stack);
    world.world().faults().case = format!("storm {seed}");
    let mut random = Random::new(seed);
    let ports = [
        (Timing::Inline, Cancel::Ignored),
        (Timing::Later, Cancel::Honoured),
        (Timing::Later, Cancel::Late),
        (Timing::Later, Cancel::Ignored),
    ];
    let (timing, cancel) = ports[random.below(ports.len())];
    stack.port.behave(Shape::Success, timing);
    stack.port.on_cancel(cancel);
    world
        .world()
        .reschedule(Schedule::Random { seed, one_in: 3 });
    let calls: Arc<Mutex<Vec<Arc<Pending>>>> = Arc::default();
    for caller in 0..CALLERS {
        let (node, stack, calls) = (Arc::clone(&node), Arc::clone(&stack), Arc::clone(&calls));
        let mut random = Random::new(seed ^ ((caller as u64 + 1) << 32));
        let job = move || {
            for _ in 0..CALLS {
                let code = [RESERVE, RELEASE][random.below(2)];
                let when = random.below(4);
                let before_it_is_sent = |pending: &Arc<Pending>| {
                    let pending = Arc::clone(pending);
                    lock(&calls).push(Arc::clone(&pending));
                    match when {
                        0 => {
                            pending.cancel();
                        }
                        1 => world::current().world.spawn(
                            "canceller",
                            irql::PASSIVE,
                            Box::new(move || {
                                pending.cancel();
                            }),
                        ),
                        _ => {}
                    }
                };
                let pending = node.start_noting(&stack, &Call::ioctl(code), before_it_is_sent);
                if random.below(2) == 0 {
                    pending.wait();
                }
            }
        };
        let world = world.world();
        world.spawn("caller", irql::PASSIVE, Box::new(job));
    }
    let thread = world::current();
    thread.settle();
    let mut ends = Ends::default();
    let calls = std::mem::take(&mut *lock(&calls));
    for call in calls {
        match call.wait().status {
            status::SUCCESS => ends.served += 1,
            status::CANCELLED | status::IO_TIMEOUT => ends.cancelled += 1,
            other => panic!("storm {seed}: a request ends {other:#010x}"),
        }
    }
    thread.settle();
    world.world().reschedule(Schedule::Orderly);
    if ends.served + ends.cancelled != CALLERS * CALLS {
        rules::broken(&rules::HANG, "not all requests were sent");
    }
    let (Ok(node), Ok(stack)) = (
        Arc::try_unwrap(node).map_err(drop),
        Arc::try_unwrap(stack).map_err(drop),
    ) else {
        unreachable!("all threads are idle")
    };
    node.unplug(stack);
    node.unload();
    Ok(ends)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
