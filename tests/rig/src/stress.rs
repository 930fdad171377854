//! Everything at once: many disks and many real threads, with random operations, answers, cancels, power changes and
//! removals, for as long as one likes. Nothing is ordered by sleeping; what is random comes from a seed, what is raced
//! does not.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::abi::irql;
use crate::class::{self, DiskStack, Place};
use crate::disk::Outcome;
use crate::disk::logical_unit::LogicalUnit;
use crate::fx::{Pnp, Power};
use crate::io::{Call, Pending};
use crate::node::{Node, NodeError, SERVICE_KEY};
use crate::port::{Answer, Cancel, Shape, Timing};
use crate::registry::Hive;
use crate::rules;
use crate::srb::{Form, function};
use crate::world::{self, Random, Schedule, World};

/// A second of the world's, in which retries wait, is so much shorter here.
const SPEED: u32 = 20_000;

/// How much at once.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How long.
    pub time: Duration,
    /// Disks.
    pub disks: usize,
    /// Threads that send requests.
    pub threads: usize,
    /// Where random choices come from.
    pub seed: u64,
    /// The parameter `Watch`.
    pub watch: u32,
}

/// What was done, and how the requests ended.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests by how they ended.
    pub ends: BTreeMap<u32, u64>,
    /// Requests cancelled by their caller.
    pub cancels: u64,
    /// Disks removed, orderly or not.
    pub removals: u64,
    /// Commands that reached a port.
    pub commands: u64,
    /// SRBs of disk.sys's own.
    pub srbs: u64,
}

impl Counts {
    /// Requests in all.
    pub fn requests(&self) -> u64 {
        self.ends.values().sum()
    }
}

struct Slot {
    stack: RwLock<Option<DiskStack>>,
    unit: LogicalUnit,
    behaviour: Mutex<()>,
}

struct Run {
    node: Node,
    slots: Vec<Slot>,
    over: AtomicBool,
    threads_left: AtomicU64,
    counts: Mutex<Counts>,
}

/// Loads `file` on a node and stresses it; a broken rule ends the process.
///
/// # Errors
/// The driver could not be loaded.
///
/// # Panics
/// If a disk does not start.
pub fn run(file: &Path, load: Load) -> Result<Counts, NodeError> {
    let world = World::enter(Schedule::Free { speed: SPEED });
    let hive = Hive::default();
    hive.set(&format!(r"{SERVICE_KEY}\Parameters"), "Watch", load.watch);
    let node = Node::load(world.world(), "A", file, hive)?;
    let slots = (0..load.disks).map(|_| Slot {
        stack: RwLock::default(),
        unit: LogicalUnit::new(),
        behaviour: Mutex::default(),
    });
    let run = Arc::new(Run {
        node,
        slots: slots.collect(),
        over: AtomicBool::new(false),
        threads_left: AtomicU64::new(load.threads as u64),
        counts: Mutex::default(),
    });
    for thread in 0..load.threads {
        let run = Arc::clone(&run);
        let mut random = Random::new(load.seed.wrapping_add(thread as u64 * 0x9E37_79B9));
        let end = Instant::now() + load.time;
        let job = move || {
            while Instant::now() < end {
                run.act(&mut random);
            }
            run.threads_left.fetch_sub(1, Ordering::SeqCst);
            world::current().world.wake(Arc::as_ptr(&run) as usize);
        };
        world.world().spawn("stress", irql::PASSIVE, Box::new(job));
    }
    let thread = world::current();
    thread.wait(Arc::as_ptr(&run) as usize, || {
        run.threads_left.load(Ordering::SeqCst) == 0
    });
    run.over.store(true, Ordering::SeqCst);
    for slot in &run.slots {
        run.remove(slot, false);
    }
    thread.settle();
    let Some(run) = Arc::into_inner(run) else {
        unreachable!("all threads are idle")
    };
    run.node.unload();
    Ok(run
        .counts
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner))
}

impl Run {
    fn act(self: &Arc<Self>, random: &mut Random) {
        let slot = &self.slots[random.below(self.slots.len())];
        match random.below(100) {
            0 => self.remove(slot, random.below(2) == 0),
            1 | 2 => self.transition(slot, random),
            3..20 => self.behave(slot, random),
            20..45 => self.send(slot, random),
            _ => self.operate(slot, random),
        }
    }

    /// Whoever sends requests holds off a REMOVE until they are sent: the lock is what a driver above would keep.
    fn with_stack<R>(&self, slot: &Slot, f: impl FnOnce(&DiskStack) -> R) -> R {
        loop {
            if let Some(stack) = &*slot.stack.read().unwrap_or_else(PoisonError::into_inner) {
                return f(stack);
            }
            let mut place = slot.stack.write().unwrap_or_else(PoisonError::into_inner);
            if place.is_none() {
                let disk = Arc::new(slot.unit.connect("iqn.2001-04.com.example:a"));
                let stack = DiskStack::plug(&self.node, Place::Lower, disk);
                *place = Some(
                    stack.unwrap_or_else(|status| panic!("the disk did not start: {status:#x}")),
                );
            }
        }
    }

    fn operate(self: &Arc<Self>, slot: &Slot, random: &mut Random) {
        let codes = [
            0x002D_4810,
            0x002D_4814,
            0x0007_4810,
            0x0007_4814,
            0x002D_4800,
            0x0004_1018,
        ];
        // A third is cancelled: before it is sent, on its way, or when it waits or is served.
        let calls: Vec<(usize, Arc<Pending>)> = (0..=random.below(3))
            .map(|_| {
                let when = random.below(9);
                let call = Call {
                    irql: if random.below(4) == 0 {
                        irql::DISPATCH
                    } else {
                        irql::PASSIVE
                    },
                    output_length: 8,
                    ..Call::ioctl(codes[random.below(codes.len())])
                };
                let note = |pending: &Arc<Pending>| match when {
                    0 => self.cancel(pending),
                    1 => self.cancel_elsewhere(pending),
                    _ => {}
                };
                // A third is a handle's: disk.sys serves it. The others come to the filter.
                let from_top = random.below(3) == 0;
                let sent = self.with_stack(slot, |stack| {
                    let top = stack.stack.top();
                    let filter = stack.stack.filter().filter(|_| !from_top);
                    self.node.start_at(filter.unwrap_or(top), &call, note)
                });
                (when, sent)
            })
            .collect();
        for (when, call) in &calls {
            if *when == 2 {
                self.cancel_elsewhere(call);
            }
        }
        for (_, call) in calls {
            let end = call.wait();
            *self
                .counts()
                .ends
                .entry(end.status.cast_unsigned())
                .or_default() += 1;
        }
    }

    /// What disk.sys sends of its own, some at once.
    fn send(&self, slot: &Slot, random: &mut Random) {
        let sent: Vec<_> = (0..=random.below(3))
            .map(|_| {
                let content = match random.below(10) {
                    0 => class::command(&[0x16, 0, 0, 0, 0, 0]),
                    1 => class::command(&[0x17, 0, 0, 0, 0, 0]),
                    2 => class::persistent_reserve_out(0, 0, 0, 0),
                    3 => class::other(function::RESETS[random.below(3)]),
                    4 => class::other(function::FLUSH),
                    5 => class::write(0, vec![0; 512]),
                    _ => class::read(0),
                };
                let form = Form::ALL[random.below(Form::ALL.len())];
                let level = [irql::PASSIVE, irql::DISPATCH][random.below(2)];
                self.with_stack(slot, |stack| {
                    stack.class.sends_as(form);
                    stack.class.send_at(level, &content)
                })
            })
            .collect();
        self.counts().srbs += sent.len() as u64;
        for sent in sent {
            sent.wait();
        }
    }

    fn cancel(&self, call: &Arc<Pending>) {
        call.cancel();
        self.counts().cancels += 1;
    }

    /// On a thread of its own.
    fn cancel_elsewhere(self: &Arc<Self>, call: &Arc<Pending>) {
        let (run, call) = (Arc::clone(self), Arc::clone(call));
        let job = Box::new(move || run.cancel(&call));
        let world = &world::current().world;
        world.spawn("canceller", irql::PASSIVE, job);
    }

    fn behave(&self, slot: &Slot, random: &mut Random) {
        let timing = [Timing::Later, Timing::Later, Timing::Inline, Timing::Never][random.below(4)];
        let shape = [Shape::Success, Shape::Error][random.below(2)];
        let cancel = [Cancel::Honoured, Cancel::Late, Cancel::Ignored][random.below(3)];
        // One that neither answers nor lets itself be cancelled would keep a removal for ever, as on Windows.
        let timing = if cancel == Cancel::Ignored && timing == Timing::Never {
            Timing::Later
        } else {
            timing
        };
        let mut sense = vec![0; 18];
        (sense[0], sense[2], sense[7]) = (0x70, u8::try_from(random.below(16)).unwrap_or(0), 10);
        sense[12] = [0x04, 0x20, 0x29, 0x3A][random.below(4)];
        let status = [0x00, 0x02, 0x02, 0x08, 0x18, 0x28, 0x40][random.below(7)];
        self.with_stack(slot, |stack| {
            // Not even between the two calls may a command find a port that would never end it.
            let _one_at_a_time = slot
                .behaviour
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if cancel == Cancel::Ignored {
                stack.stack.port.behave(shape, timing);
                stack.stack.port.on_cancel(cancel);
            } else {
                stack.stack.port.on_cancel(cancel);
                stack.stack.port.behave(shape, timing);
            }
            let outcome = Outcome::Status {
                status,
                sense,
                data: Vec::new(),
            };
            stack.stack.port.script([Answer::Target(outcome)]);
            self.counts().commands += stack.stack.port.take_seen().len() as u64;
            stack.stack.port.take_foreign();
        });
    }

    fn transition(&self, slot: &Slot, random: &mut Random) {
        self.with_stack(slot, |DiskStack { stack, .. }| match random.below(4) {
            0 => drop(self.node.pnp(stack, Pnp::SurpriseRemoval)),
            1 => drop(self.node.pnp(stack, Pnp::QueryRemove)),
            2 => drop(self.node.power(stack, Power::D3)),
            _ => drop(self.node.power(stack, Power::D0)),
        });
    }

    fn remove(&self, slot: &Slot, surprise: bool) {
        let mut place = slot.stack.write().unwrap_or_else(PoisonError::into_inner);
        let Some(stack) = place.take() else { return };
        if surprise {
            self.node.pnp(&stack.stack, Pnp::SurpriseRemoval);
        }
        let (port, _) = stack.unplug(&self.node);
        if port.outstanding() != 0 {
            rules::broken(
                &rules::HANG,
                "a pass-through is out after its device was removed",
            );
        }
        let mut counts = self.counts();
        counts.removals += 1;
        counts.commands += port.take_seen().len() as u64;
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
