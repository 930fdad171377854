//! Plug and Play and power requests with operations in every state: who is served, who is ended and with what.

use std::sync::{Arc, Mutex};

use rig::disk::Outcome;
use rig::disk::logical_unit::LogicalUnit;
use rig::fx::{DiskKeys, Pnp, Power};
use rig::image;
use rig::io::Call;
use rig::node::{Node, Stack};
use rig::port::{Answer, Shape, Timing};
use rig::registry::Hive;
use rig::world::{self, Schedule, World};

const RESERVE: u32 = 0x002D_4810;
const FOREIGN: u32 = 0x002D_4800;
/// `IOCTL_STORAGE_RESET_DEVICE` (`ntddstor.h`), which the rig's port does not know.
const RESET_DEVICE: u32 = 0x002D_5004;

/// What a caller gets.
const SUCCESS: u32 = 0;
const NOT_CONNECTED: u32 = 0xC000_009D;
const CANCELLED: u32 = 0xC000_0120;
const INVALID_DEVICE_STATE: u32 = 0xC000_0184;
/// The port's answer to a control that it does not know.
const PASSED_ON: u32 = 0xC000_0010;

#[derive(Clone, Copy, Debug)]
enum Event {
    Pnp(Pnp),
    Power(Power),
}

/// Where the first operation is when the events come; a second one waits behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Sent,
    InRetryDelay,
}

use Event::{Pnp as P, Power as W};
use Pnp::{
    CancelRemove, CancelStop, DeviceUsage, QueryRemove, QueryStop, Remove, Start, Stop,
    SurpriseRemoval,
};
use Power::{D0, D3};
use State::{InRetryDelay, Sent};

/// One row: events, state of the operation; then the end of the first operation, of the one queued behind it, and of
/// one that arrives between the events and the removal that ends each row (none: the row has removed the device).
type Row = (&'static [Event], State, u32, u32, Option<u32>);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    // Nothing ends: a filter's target and queue stay open (facts 8, 9).
    (&[P(QueryStop)],                            Sent,         SUCCESS,       SUCCESS,       Some(SUCCESS)),
    (&[P(QueryStop)],                            InRetryDelay, SUCCESS,       SUCCESS,       Some(SUCCESS)),
    (&[P(QueryStop), P(CancelStop)],             Sent,         SUCCESS,       SUCCESS,       Some(SUCCESS)),
    (&[P(QueryStop), P(CancelStop)],             InRetryDelay, SUCCESS,       SUCCESS,       Some(SUCCESS)),
    (&[P(QueryStop), P(Stop)],                   Sent,         SUCCESS,       SUCCESS,       Some(SUCCESS)),
    (&[P(QueryStop), P(Stop)],                   InRetryDelay, SUCCESS,       SUCCESS,       Some(SUCCESS)),
    (&[P(QueryStop), P(Stop), P(Start)],         Sent,         SUCCESS,       SUCCESS,       Some(SUCCESS)),
    (&[P(QueryRemove)],                          Sent,         SUCCESS,       SUCCESS,       Some(SUCCESS)),
    (&[P(QueryRemove)],                          InRetryDelay, SUCCESS,       SUCCESS,       Some(SUCCESS)),
    (&[P(QueryRemove), P(CancelRemove)],         Sent,         SUCCESS,       SUCCESS,       Some(SUCCESS)),
    (&[P(QueryRemove), P(CancelRemove)],         InRetryDelay, SUCCESS,       SUCCESS,       Some(SUCCESS)),
    (&[W(D3)],                                   Sent,         SUCCESS,       SUCCESS,       Some(SUCCESS)),
    (&[W(D3)],                                   InRetryDelay, SUCCESS,       SUCCESS,       Some(SUCCESS)),
    (&[W(D3), W(D0)],                            Sent,         SUCCESS,       SUCCESS,       Some(SUCCESS)),
    (&[W(D3), W(D0)],                            InRetryDelay, SUCCESS,       SUCCESS,       Some(SUCCESS)),
    (&[P(DeviceUsage)],                          Sent,         SUCCESS,       SUCCESS,       Some(SUCCESS)),
    (&[P(DeviceUsage)],                          InRetryDelay, SUCCESS,       SUCCESS,       Some(SUCCESS)),
    // Gone: what is in hand ends at once, and so does all that is presented or arrives afterwards.
    (&[P(SurpriseRemoval)],                      Sent,         NOT_CONNECTED, NOT_CONNECTED, Some(NOT_CONNECTED)),
    (&[P(SurpriseRemoval)],                      InRetryDelay, NOT_CONNECTED, NOT_CONNECTED, Some(NOT_CONNECTED)),
    (&[W(D3), P(SurpriseRemoval)],               Sent,         NOT_CONNECTED, NOT_CONNECTED, Some(NOT_CONNECTED)),
    (&[P(QueryStop), P(Stop), P(SurpriseRemoval)], Sent,       NOT_CONNECTED, NOT_CONNECTED, Some(NOT_CONNECTED)),
    // The hook runs before the purge, and the purge before the work item that would serve the second (the other order,
    // NOT_CONNECTED, is among the scenarios' seeds).
    (&[P(SurpriseRemoval), P(Remove)],           Sent,         NOT_CONNECTED, CANCELLED,     None),
    (&[P(QueryRemove), P(Remove)],               Sent,         NOT_CONNECTED, CANCELLED,     None),
    (&[P(QueryRemove), P(Remove)],               InRetryDelay, NOT_CONNECTED, CANCELLED,     None),
    (&[W(D3), P(QueryRemove), P(Remove)],        Sent,         NOT_CONNECTED, CANCELLED,     None),
];

fn plugged(world: &world::Entered) -> (Node, Stack, LogicalUnit) {
    let unit = LogicalUnit::new();
    unit.configure(|options| options.quiet = true);
    let node = Node::load(world.world(), "A", &image::built(), Hive::default()).expect("it loads");
    let disk = Arc::new(unit.connect("iqn.2001-04.com.example:a"));
    let stack = node
        .add(disk, &DiskKeys::default())
        .expect("the disk starts");
    (node, stack, unit)
}

fn tell(node: &Node, stack: &Stack, event: Event) {
    let end = match event {
        P(minor) => node.pnp(stack, minor),
        W(state) => node.power(stack, state),
    };
    assert_eq!(end.status, 0, "{event:?} passes");
    let below: Vec<_> = stack.port.take_pnp();
    let expected = match event {
        P(minor) => (27, minor as u8),
        W(_) => (22, 2),
    };
    assert_eq!(below, [expected], "{event:?} reaches the port once");
}

#[test]
fn every_transition_treats_operations_as_the_table_says() {
    for &(events, state, first_ends, queued_ends, late_ends) in TABLE {
        let what = format!("{events:?} {state:?}");
        let world = World::enter(Schedule::Orderly);
        let (node, stack, _unit) = plugged(&world);
        let port = Arc::clone(&stack.port);
        tell(&node, &stack, P(Start));
        port.behave(Shape::Success, Timing::Never);
        if state == InRetryDelay {
            port.behave(Shape::Success, Timing::Later);
            let busy = Outcome::Status {
                status: 0x08,
                sense: vec![],
                data: vec![],
            };
            port.script([Answer::Target(busy)]);
        }
        let first = node.start(&stack, &Call::ioctl(RESERVE));
        let queued = node.start(&stack, &Call::ioctl(RESERVE));
        world::current().settle();
        let before = world.world().now();
        assert_eq!(port.outstanding(), usize::from(state == Sent), "{what}");

        for &event in events {
            tell(&node, &stack, event);
        }
        assert_eq!(world.world().now(), before, "{what}: waited for no timer");
        if first_ends == SUCCESS {
            assert_eq!(first.done(), None, "{what}: nothing ends by itself");
        }
        let late = late_ends.map(|ends| (node.start(&stack, &Call::ioctl(RESERVE)), ends));
        port.behave(Shape::Success, Timing::Later);
        port.release();
        let status =
            |pending: &rig::io::Pending| pending.done().map(|end| end.status.cast_unsigned());
        assert_eq!(
            first.wait().status.cast_unsigned(),
            first_ends,
            "{what}: first"
        );
        assert_eq!(
            queued.wait().status.cast_unsigned(),
            queued_ends,
            "{what}: queued"
        );
        if let Some((late, ends)) = late {
            assert_eq!(late.wait().status.cast_unsigned(), ends, "{what}: late");
            assert_eq!(status(&late), Some(ends));
            let foreign = node.call(&stack, &Call::ioctl(FOREIGN));
            assert_eq!(foreign.status.cast_unsigned(), PASSED_ON, "{what}: foreign");
            let legal = !matches!(events.last(), Some(P(Stop)));
            if !legal {
                // REMOVE right after STOP is no legal sequence (facts 20).
                tell(&node, &stack, P(Start));
            }
            tell(&node, &stack, P(Remove));
        }
        node.unload();
    }
}

#[test]
fn a_device_that_has_not_started_yet_is_served() {
    let world = World::enter(Schedule::Orderly);
    let (node, stack, _unit) = plugged(&world);
    let end = node.call(&stack, &Call::ioctl(RESERVE));
    assert_eq!(end.status.cast_unsigned(), SUCCESS);
    tell(&node, &stack, P(Start));
    let end = node.call(&stack, &Call::ioctl(RESERVE));
    assert_eq!(end.status.cast_unsigned(), SUCCESS);
    tell(&node, &stack, P(Remove));
    node.unload();
}

#[test]
fn a_device_that_never_started_ends_its_operations_as_cancelled() {
    let world = World::enter(Schedule::Orderly);
    let (node, stack, _unit) = plugged(&world);
    stack.port.behave(Shape::Success, Timing::Never);
    let first = node.start(&stack, &Call::ioctl(RESERVE));
    let queued = node.start(&stack, &Call::ioctl(RESERVE));
    tell(&node, &stack, P(Remove));
    assert_eq!(
        first.wait().status.cast_unsigned(),
        CANCELLED,
        "by the purge's EvtRequestCancel"
    );
    assert_eq!(
        queued.wait().status.cast_unsigned(),
        CANCELLED,
        "by the framework"
    );
    node.unload();
}

#[test]
fn many_disks_come_and_go_while_others_are_served() {
    let world = World::enter(Schedule::Orderly);
    let node = Node::load(world.world(), "A", &image::built(), Hive::default()).unwrap();
    let plug = |index: usize| {
        let unit = LogicalUnit::new();
        let disk = Arc::new(unit.connect(&format!("iqn.2001-04.com.example:{index}")));
        node.plug(disk, &DiskKeys::default()).unwrap()
    };
    let mut stacks: Vec<_> = (0..100).map(plug).collect();
    for round in 0..100 {
        let out = stacks.remove((round * 7) % stacks.len());
        let calls: Vec<_> = stacks
            .iter()
            .map(|stack| node.start(stack, &Call::ioctl(RESERVE)))
            .collect();
        node.unplug(out);
        for call in calls {
            assert_eq!(call.wait().status, 0);
        }
        stacks.push(plug(1000 + round));
    }
    for stack in stacks {
        node.unplug(stack);
    }
    node.unload();
}

#[test]
fn requests_that_arrive_at_any_point_of_a_removal_end_and_foreign_ones_pass() {
    for surprise in [false, true] {
        let mut point = 0;
        loop {
            point += 1;
            let what = format!("surprise {surprise}, point {point}");
            let world = World::enter(Schedule::Orderly);
            let (node, stack, _unit) = plugged(&world);
            tell(&node, &stack, P(Start));
            stack.port.behave(Shape::Success, Timing::Never);
            let first = node.start(&stack, &Call::ioctl(RESERVE));
            let (node, stack) = (Arc::new(node), Arc::new(stack));
            let arrived = Arc::new(Mutex::new(None));
            let (ends, sender, below) =
                (Arc::clone(&arrived), Arc::clone(&node), Arc::clone(&stack));
            let job = move || {
                let foreign = sender.call(&below, &Call::ioctl(FOREIGN));
                // The filter takes its lock for it while it can.
                let reset = sender.call(&below, &Call::ioctl(RESET_DEVICE));
                assert_eq!(reset.status, foreign.status);
                let ours = sender.call(&below, &Call::ioctl(RESERVE));
                *ends.lock().unwrap() =
                    Some((foreign.status.cast_unsigned(), ours.status.cast_unsigned()));
            };
            let at = world.world().points() + point;
            world.world().place(at, "arrival", Box::new(job));
            if surprise {
                tell(&node, &stack, P(SurpriseRemoval));
            }
            tell(&node, &stack, P(Remove));
            world::current().settle();
            let over = world.world().take_back(at);
            assert_eq!(first.wait().status.cast_unsigned(), NOT_CONNECTED, "{what}");
            if let Some((foreign, ours)) = *arrived.lock().unwrap() {
                assert_eq!(foreign, PASSED_ON, "{what}");
                // PASSED_ON: the filter is off the stack already, and the port answers for itself.
                let ends = [NOT_CONNECTED, CANCELLED, INVALID_DEVICE_STATE, PASSED_ON];
                assert!(ends.contains(&ours), "{what}: {ours:#x}");
            } else {
                assert!(over, "{what}: the arrival ended");
            }
            drop(stack);
            Arc::into_inner(node)
                .expect("the arrival's thread is over")
                .unload();
            if over {
                assert!(point > 20, "{what}: the removal has points");
                break;
            }
        }
    }
}
