//! A RESERVE of disk.sys's own, an SRB, and an event at every numbered point of its way past the filter and back: with each
//! level of the parameter `Watch`, in each form.
//!
//! A case's number is plan and point, four digits for the point.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use scsi_reserve::state::IOCTL_RESVFLT_QUERY_STATE;
use scsi_reserve::{Knowledge, ReservationState};

use super::Walk;
use crate::class::{self, DiskStack, Place};
use crate::disk::logical_unit::LogicalUnit;
use crate::fx::Pnp;
use crate::io::Call;
use crate::node::{Node, SERVICE_KEY};
use crate::port::{Shape, Timing};
use crate::registry::Hive;
use crate::srb::{Form, srb_status};
use crate::world::{self, Schedule, World};

const RELEASE: u32 = 0x002D_4814;
const US: &str = "iqn.2026-01.example:a";
const POINT: u64 = 10_000;

/// What happens while the SRB is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
    Surprise,
    /// IRP_MN_REMOVE_DEVICE, which disk.sys passes on when its SRBs are back.
    Remove,
    /// The same, but disk.sys does not wait.
    HastyRemove,
    /// A RELEASE of the filter's own.
    Own,
}

const EVENTS: [Event; 4] = [
    Event::Surprise,
    Event::Remove,
    Event::HastyRemove,
    Event::Own,
];

#[derive(Clone, Copy, Debug)]
struct Plan {
    watch: u32,
    event: Event,
    form: Form,
    timing: Timing,
}

fn plans() -> impl Iterator<Item = Plan> {
    let all = |watch| {
        EVENTS.into_iter().flat_map(move |event| {
            Form::ALL.into_iter().flat_map(move |form| {
                [Timing::Inline, Timing::Later].map(|timing| Plan {
                    watch,
                    event,
                    form,
                    timing,
                })
            })
        })
    };
    [0, 1, 2].into_iter().flat_map(all)
}

/// Walks all plans.
pub(super) fn walk(walk: &mut Walk<'_>) {
    let mut cases = Vec::new();
    for (plan, number) in plans().zip((0..).step_by(POINT as usize)) {
        match play(walk, plan, 0, number) {
            Ok(points) => cases.extend((1..=points).map(|point| (plan, number + point, point))),
            Err(why) => return walk.judge(number, Err(format!("{plan:?}: {why}"))),
        }
    }
    walk.begin(cases.len() as u64);
    for (plan, number, point) in cases {
        walk.step();
        if walk.takes(number, 3) {
            let result = play(walk, plan, point, number);
            let what = |why| format!("{plan:?}, point {point}: {why}");
            walk.judge(number, result.map(drop).map_err(what));
        }
    }
}

/// Plays one run, with the event at this point, or without for 0; gives the points that the SRB takes.
fn play(walk: &Walk<'_>, plan: Plan, point: u64, number: u64) -> Result<u64, String> {
    let world = World::enter(Schedule::Orderly);
    walk.note(world.world(), number);
    let hive = Hive::default();
    hive.set(&format!(r"{SERVICE_KEY}\Parameters"), "Watch", plan.watch);
    let file = &walk.options.image;
    let node = Node::load_bytes(world.world(), "A", file, walk.bytes, hive);
    let node = Arc::new(node.map_err(|error| error.to_string())?);
    let unit = LogicalUnit::new();
    unit.configure(|options| options.quiet = true);
    let stack = DiskStack::plug(&node, Place::Lower, Arc::new(unit.connect(US)))
        .map_err(|status| format!("the disk does not start: {status:#010x}"))?;
    stack.class.sends_as(plan.form);
    stack.stack.port.behave(Shape::Success, plan.timing);
    if plan.event == Event::HastyRemove {
        stack.class.make_hasty();
    }
    let stack = Arc::new(stack);
    let over = Arc::new(AtomicBool::new(point == 0));
    let before = world.world().points();
    if point != 0 {
        let job = happen(&node, &stack, plan.event, &over);
        world.world().place(before + point, "event", job);
    }
    let sent = stack
        .class
        .send(&class::command(&[0x16, 0, 0, 0, 0, 0]))
        .wait();
    let thread = world::current();
    let points = world.world().points() - before;
    // At its last points it may be back already.
    thread.wait(Arc::as_ptr(&over) as usize, || over.load(Ordering::SeqCst));
    thread.settle();
    if sent.srb_status != srb_status::SUCCESS {
        return Err(format!("the SRB ends {sent:?}"));
    }
    let removed = point != 0 && [Event::Remove, Event::HastyRemove].contains(&plan.event);
    let known = if removed {
        None
    } else {
        Some(known(&node, &stack))
    };
    let (Some(stack), Some(node)) = (Arc::into_inner(stack), Arc::into_inner(node)) else {
        return Err("the event's thread is not done".into());
    };
    let holder = unit.holder();
    let left = if removed {
        None
    } else {
        Some(stack.unplug(&node))
    };
    node.unload();
    drop(left);
    let held = known == Some(Knowledge::HeldByUs as u32);
    if held && holder.as_deref() != Some(US) {
        return Err(format!(
            "it is told that we hold the unit, which {holder:?} holds"
        ));
    }
    if plan.watch != 0 && point == 0 && !held {
        return Err(format!(
            "after a RESERVE that met nothing {known:?} is told"
        ));
    }
    Ok(points)
}

fn happen(
    node: &Arc<Node>,
    stack: &Arc<DiskStack>,
    event: Event,
    over: &Arc<AtomicBool>,
) -> world::Job {
    let (node, stack, over) = (Arc::clone(node), Arc::clone(stack), Arc::clone(over));
    Box::new(move || {
        match event {
            Event::Surprise => drop(node.pnp(&stack.stack, Pnp::SurpriseRemoval)),
            Event::Remove | Event::HastyRemove => drop(node.pnp(&stack.stack, Pnp::Remove)),
            Event::Own => {
                if let Some(filter) = stack.stack.filter() {
                    node.start_at(filter, &Call::ioctl(RELEASE), |_| {}).wait();
                }
            }
        }
        drop((node, stack));
        over.store(true, Ordering::SeqCst);
        world::current().world.wake(Arc::as_ptr(&over) as usize);
    })
}

fn known(node: &Node, stack: &DiskStack) -> u32 {
    let call = Call {
        output_length: size_of::<ReservationState>() as u32,
        ..Call::ioctl(IOCTL_RESVFLT_QUERY_STATE)
    };
    let buffer = node.call_with_buffer(&stack.stack, &call).1;
    ReservationState::from_bytes(&buffer).map_or(0, |told| told.knowledge)
}
