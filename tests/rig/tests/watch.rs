//! The parameter `Watch`: what the filter learns of the SRBs that pass it, in its place below disk.sys, and that it changes
//! nothing of them. The rig compares each SRB and its IRP byte for byte, on their way down and back up (`io::check_sent`,
//! `io::check_given`).

#![allow(
    clippy::cast_possible_truncation,
    reason = "sizes, seeds and codes are small"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rig::abi::{irql, major};
use rig::class::{self, DiskStack, Place};
use rig::disk::logical_unit::{Forms, LogicalUnit};
use rig::disk::{Disk, TaskManagement};
use rig::fx::Pnp;
use rig::image;
use rig::io::{Call, Pending};
use rig::node::{Node, SERVICE_KEY};
use rig::port::{Answer, Kind, Seen, Shape, Timing, Via};
use rig::registry::Hive;
use rig::srb::{Content, Form, function, srb_status};
use rig::world::{self, Entered, Random, Schedule, World};
use scsi_reserve::state::{IOCTL_RESVFLT_QUERY_STATE, Origin};
use scsi_reserve::{Knowledge, ReservationState};

const RESERVE: u32 = 0x002D_4810;
const RELEASE: u32 = 0x002D_4814;
const US: &str = "iqn.2026-01.example:a";

/// One node and one disk, with disk.sys above the filter; the unit has no unit attentions.
struct Parts {
    node: Node,
    unit: LogicalUnit,
    stack: DiskStack,
}

/// The same in a world of their own.
struct Bench {
    parts: Arc<Parts>,
    // Last: everything above lives in it.
    _world: Entered,
}

impl std::ops::Deref for Bench {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// What is known, and whether an answer that passed told it.
type Known = (Knowledge, bool);

const UNKNOWN: Known = (Knowledge::Unknown, false);

impl Bench {
    fn new(watch: u32) -> Self {
        Self::in_schedule(watch, Place::Lower, Schedule::Orderly)
    }

    fn in_schedule(watch: u32, place: Place, schedule: Schedule) -> Self {
        let world = World::enter(schedule);
        let hive = Hive::default();
        hive.set(&format!(r"{SERVICE_KEY}\Parameters"), "Watch", watch);
        let node = Node::load(world.world(), "A", &image::built(), hive).expect("it loads");
        let unit = LogicalUnit::new();
        unit.configure(|options| options.quiet = true);
        let disk = Arc::new(unit.connect(US));
        let stack = DiskStack::plug(&node, place, disk).expect("the disk starts");
        let parts = Parts { node, unit, stack };
        Self {
            parts: Arc::new(parts),
            _world: world,
        }
    }

    fn end(self) {
        let Some(parts) = Arc::into_inner(self.parts) else {
            panic!("somebody has it")
        };
        parts.stack.unplug(&parts.node);
        parts.node.unload();
    }
}

impl Parts {
    /// What the state query tells, through disk.sys.
    fn told(&self) -> ReservationState {
        let call = Call {
            output_length: size_of::<ReservationState>() as u32,
            ..Call::ioctl(IOCTL_RESVFLT_QUERY_STATE)
        };
        let buffer = self.node.call_with_buffer(&self.stack.stack, &call).1;
        ReservationState::from_bytes(&buffer).expect("it has that length")
    }

    fn known(&self) -> Known {
        let told = self.told();
        let knowledge = Knowledge::from_number(told.knowledge).expect("one of them");
        (knowledge, told.origin == Origin::Watched as u8)
    }

    /// Starts a request of the filter's own, from below disk.sys.
    fn start_own(&self, code: u32) -> Arc<Pending> {
        let filter = self.stack.stack.filter().expect("it has attached");
        self.node.start_at(filter, &Call::ioctl(code), |_| {})
    }

    fn own(&self, code: u32) {
        let end = self.start_own(code).wait();
        assert_eq!(end.status, 0, "{code:#x}");
        world::current().settle();
    }

    /// Has disk.sys send this, and the port answer it with `answer`, or the unit.
    fn send(&self, content: &Content, answer: Option<&Answer>) -> Seen {
        let port = &self.stack.stack.port;
        port.take_seen();
        port.script(answer.cloned());
        self.stack.class.send(content).wait();
        let seen = port.take_seen();
        let [seen] = &seen[..] else {
            panic!("{seen:?}")
        };
        seen.clone()
    }
}

/// What a request that passes is to the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    Reserve,
    Release,
    /// It may change the reservation, and its answer does not say to what.
    Other,
    /// A command that changes no reservation.
    Command,
    /// Neither.
    Nothing,
}

fn requests() -> Vec<(Is, Content)> {
    let six = |code, second| class::command(&[code, second, 0, 0, 0, 0]);
    let ten = |code, second| class::command(&[code, second, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut all = vec![
        (Is::Reserve, six(0x16, 0)),
        (Is::Reserve, ten(0x56, 0)),
        // SCSI-2's logical unit number.
        (Is::Reserve, six(0x16, 0x20)),
        (Is::Release, six(0x17, 0)),
        (Is::Release, ten(0x57, 0)),
        // A third party's (SPC-2 7.21, 7.22), and one of extents.
        (Is::Other, six(0x16, 0x10)),
        (Is::Other, six(0x16, 0x01)),
        (Is::Other, ten(0x56, 0x10)),
        (Is::Other, ten(0x56, 0x02)),
        (Is::Other, six(0x17, 0x12)),
        (Is::Other, ten(0x57, 0x10)),
        (Is::Other, class::persistent_reserve_out(0, 0, 0, 0)),
        (Is::Command, class::read(1)),
        (Is::Command, class::write(1, vec![7; 512])),
        (Is::Command, six(0x00, 0)),
        (Is::Command, six(0x15, 0)),
        (Is::Command, ten(0x5E, 0)),
        (Is::Command, ten(0x96, 0)),
    ];
    let functions = [
        function::FLUSH,
        function::SHUTDOWN,
        function::PNP,
        function::IO_CONTROL,
        function::ABORT_COMMAND,
    ];
    all.extend(functions.map(|function| (Is::Nothing, class::other(function))));
    all.extend(function::RESETS.map(|reset| (Is::Other, class::other(reset))));
    all
}

/// What an answer says of its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Executed,
    Conflict,
    /// A unit attention of now.
    Attention,
    /// Nothing that can be relied on.
    Nothing,
}

fn sense(code: u8, key: u8, asc: u8) -> Vec<u8> {
    let mut sense = vec![0; 18];
    (sense[0], sense[2], sense[7], sense[12]) = (code, key, 10, asc);
    sense
}

fn answers() -> Vec<(Says, Answer)> {
    use srb_status::*;
    let valid = ERROR | AUTOSENSE_VALID;
    let attention = sense(0x70, 6, 0x29);
    let mut all = vec![
        (Says::Executed, Answer::srb(SUCCESS, 0x00, &[])),
        (
            Says::Executed,
            Answer::srb(valid, 0x02, &sense(0x70, 1, 0x5D)),
        ),
        (Says::Conflict, Answer::srb(ERROR, 0x18, &[])),
        (Says::Conflict, Answer::srb(ERROR | QUEUE_FROZEN, 0x18, &[])),
        (Says::Attention, Answer::srb(valid, 0x02, &attention)),
        (
            Says::Attention,
            Answer::srb(valid | QUEUE_FROZEN, 0x02, &attention),
        ),
        (
            Says::Attention,
            Answer::srb(valid, 0x02, &[0x72, 6, 0x2A, 3, 0, 0, 0, 0]),
        ),
        // A deferred one is of an earlier command.
        (
            Says::Nothing,
            Answer::srb(valid, 0x02, &sense(0x71, 6, 0x29)),
        ),
        // Sense data that the port does not vouch for.
        (Says::Nothing, Answer::srb(ERROR, 0x02, &attention)),
        (Says::Nothing, Answer::srb(ERROR, 0x02, &[])),
        (
            Says::Nothing,
            Answer::srb(valid, 0x02, &sense(0x70, 5, 0x20)),
        ),
        (
            Says::Nothing,
            Answer::srb(valid, 0x02, &sense(0x70, 2, 0x04)),
        ),
        (Says::Nothing, Answer::srb(ERROR, 0x08, &[])),
        (Says::Nothing, Answer::srb(BUSY, 0x08, &[])),
        (Says::Nothing, Answer::srb(ERROR, 0x28, &[])),
        (Says::Nothing, Answer::srb(ERROR, 0x40, &[])),
        // The IRP ends with success, and the SRB has no status.
        (Says::Nothing, Answer::srb(PENDING, 0x00, &[])),
        (Says::Nothing, Answer::srb(ERROR, 0x00, &[])),
    ];
    let without_a_word = [
        ABORTED,
        BUSY,
        INVALID_REQUEST,
        NO_DEVICE,
        TIMEOUT,
        SELECTION_TIMEOUT,
        COMMAND_TIMEOUT,
        BUS_RESET,
        REQUEST_FLUSHED,
        BAD_FUNCTION,
        INTERNAL_ERROR,
    ];
    all.extend(without_a_word.map(|status| (Says::Nothing, Answer::srb(status, 0x00, &[]))));
    all
}

/// What is known after an answer, of what was known before.
fn expected(watch: u32, before: Known, is: Is, says: Says) -> Known {
    match (watch, is, says) {
        (0, ..) => before,
        (_, Is::Reserve, Says::Executed) => (Knowledge::HeldByUs, true),
        (_, Is::Release, Says::Executed) => (Knowledge::NotOurs, true),
        (_, Is::Reserve | Is::Release, Says::Conflict) => (Knowledge::HeldByAnother, true),
        (_, Is::Reserve | Is::Release | Is::Other, _) => UNKNOWN,
        (2, Is::Command, Says::Conflict | Says::Attention) if before.0 == Knowledge::HeldByUs => {
            UNKNOWN
        }
        (_, Is::Command | Is::Nothing, _) => before,
    }
}

#[test]
fn each_answer_to_each_request_in_each_form_tells_what_it_says() {
    for watch in [0, 1, 2] {
        let bench = Bench::new(watch);
        for form in Form::ALL {
            bench.stack.class.sends_as(form);
            for (is, content) in requests() {
                for (says, answer) in answers() {
                    for own in [RESERVE, RELEASE] {
                        bench.own(own);
                        let before = bench.known();
                        let case = format!(
                            "Watch {watch}, {form:?}, {content:?}, {answer:?}, after {own:#x}"
                        );
                        let seen = bench.send(&content, Some(&answer));
                        let heard = match is {
                            Is::Reserve | Is::Release | Is::Other => watch >= 1,
                            Is::Command => watch >= 2,
                            Is::Nothing => false,
                        };
                        assert_eq!(seen.watched, heard, "{case}");
                        assert_eq!(bench.known(), expected(watch, before, is, says), "{case}");
                    }
                }
            }
        }
        bench.end();
    }
}

/// Through ports of every kind, at once or later, from either IRQL.
#[test]
fn a_handles_reserve_is_known_through_every_port() {
    for watch in [0, 1, 2] {
        for (kind, timing) in [
            (Kind::Storport, Timing::Later),
            (Kind::Scsiport, Timing::Later),
            (Kind::Usb, Timing::Slow),
            (Kind::Storport, Timing::Inline),
        ] {
            for form in Form::ALL {
                for forms in [Forms::Both, Forms::Ten] {
                    let bench = Bench::new(watch);
                    bench.unit.configure(|options| options.forms = forms);
                    bench.stack.class.sends_as(form);
                    let port = &bench.stack.stack.port;
                    port.act_as(kind);
                    port.behave(Shape::Success, timing);
                    let other = bench.unit.connect("iqn.2026-01.example:b");
                    let case = format!("Watch {watch}, {kind:?}, {timing:?}, {form:?}, {forms:?}");
                    let handle = |code, level| {
                        let call = Call {
                            irql: level,
                            ..Call::ioctl(code)
                        };
                        bench.node.call(&bench.stack.stack, &call).status
                    };
                    let now = |knowledge| match watch {
                        0 => UNKNOWN,
                        _ => (knowledge, true),
                    };
                    assert_eq!(handle(RESERVE, irql::PASSIVE), 0, "{case}");
                    assert_eq!(bench.known(), now(Knowledge::HeldByUs), "{case}");
                    assert_eq!(handle(RELEASE, irql::DISPATCH), 0, "{case}");
                    assert_eq!(bench.known(), now(Knowledge::NotOurs), "{case}");
                    let reserve = if forms == Forms::Ten {
                        &[0x56; 1][..]
                    } else {
                        &[0x16]
                    };
                    let length = if forms == Forms::Ten { 10 } else { 6 };
                    let cdb = [reserve, &[0; 9]].concat();
                    other.execute(&cdb[..length], std::time::Duration::from_secs(1));
                    assert_ne!(handle(RESERVE, irql::PASSIVE), 0, "{case}");
                    assert_eq!(bench.known(), now(Knowledge::HeldByAnother), "{case}");
                    other
                        .manage(TaskManagement::LogicalUnitReset)
                        .expect("a reset");
                    // disk.sys sends it again after the unit attention.
                    assert_eq!(handle(RESERVE, irql::DISPATCH), 0, "{case}");
                    assert_eq!(bench.known(), now(Knowledge::HeldByUs), "{case}");
                    bench.end();
                }
            }
        }
    }
}

/// The unit itself: another's reset takes the reservation, and the first command that hears of it tells.
#[test]
fn a_read_that_is_refused_ends_what_was_known_at_level_2() {
    for watch in [1, 2] {
        let bench = Bench::new(watch);
        let other = bench.unit.connect("iqn.2026-01.example:b");
        bench.send(&class::command(&[0x16, 0, 0, 0, 0, 0]), None);
        assert_eq!(bench.known(), (Knowledge::HeldByUs, true));
        assert!(
            !bench
                .stack
                .class
                .send(&class::read(0))
                .wait()
                .data
                .is_empty()
        );
        assert_eq!(bench.known(), (Knowledge::HeldByUs, true), "Watch {watch}");
        other
            .manage(TaskManagement::LogicalUnitReset)
            .expect("a reset");
        bench.send(&class::read(0), None);
        let after = match watch {
            1 => (Knowledge::HeldByUs, true),
            _ => UNKNOWN,
        };
        assert_eq!(bench.known(), after, "Watch {watch}");
        bench.end();
    }
}

#[test]
fn other_internal_controls_pass_by() {
    for watch in [0, 1, 2] {
        let bench = Bench::new(watch);
        bench.own(RESERVE);
        // OutputBufferLength lies where an SRB's address would, and beside it is nothing.
        for output_length in [0, 1, 8, 512] {
            let call = Call {
                major: major::IRP_MJ_SCSI as u8,
                output_length,
                ..Call::ioctl(0x0004_1018)
            };
            bench.node.call(&bench.stack.stack, &call);
            let foreign = bench.stack.stack.port.take_foreign();
            assert_eq!(foreign, [(15, 0, 0)], "Watch {watch}, {output_length}");
        }
        assert_eq!(bench.known(), (Knowledge::HeldByUs, false));
        bench.end();
    }
}

#[test]
fn nothing_comes_to_the_upper_filter() {
    for watch in [1, 2] {
        let bench = Bench::in_schedule(watch, Place::Upper, Schedule::Orderly);
        bench.own(RESERVE);
        for (_, content) in requests() {
            let answer = Answer::srb(srb_status::ERROR, 0x18, &[]);
            assert!(!bench.send(&content, Some(&answer)).watched, "{content:?}");
        }
        assert_eq!(bench.known(), (Knowledge::HeldByUs, false));
        assert_eq!(bench.told().watched, 0);
        bench.end();
    }
}

/// A command that is out: the filter's own, or one that disk.sys sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sends {
    Own(u32),
    Other(u8),
    Reset,
    PersistentReserveOut,
}

impl Sends {
    const ALL: [Self; 6] = [
        Self::Own(RESERVE),
        Self::Own(RELEASE),
        Self::Other(0x16),
        Self::Other(0x17),
        Self::Reset,
        Self::PersistentReserveOut,
    ];

    fn is_own(self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// Sends it, and leaves it at the port.
    fn send(self, bench: &Parts) {
        let class = &bench.stack.class;
        match self {
            Self::Own(code) => drop(bench.start_own(code)),
            Self::Other(code) => drop(class.send(&class::command(&[code, 0, 0, 0, 0, 0]))),
            Self::Reset => drop(class.send(&class::other(function::RESET_LOGICAL_UNIT))),
            Self::PersistentReserveOut => {
                drop(class.send(&class::persistent_reserve_out(0, 0, 0, 0)));
            }
        }
    }

    /// What is known when this was answered GOOD and nothing was out beside it.
    fn tells(self) -> Known {
        match self {
            Self::Own(RESERVE) => (Knowledge::HeldByUs, false),
            Self::Own(_) => (Knowledge::NotOurs, false),
            Self::Other(0x16) => (Knowledge::HeldByUs, true),
            Self::Other(_) => (Knowledge::NotOurs, true),
            Self::Reset | Self::PersistentReserveOut => UNKNOWN,
        }
    }
}

/// Two that overlap, in each order of sending and of ending: the target may have executed either last.
#[test]
fn what_overlaps_tells_nothing() {
    for first in Sends::ALL {
        for second in Sends::ALL {
            if first.is_own() && second.is_own() {
                // The second waits for the first.
                continue;
            }
            for ends in [0, 1] {
                let bench = Bench::new(1);
                let port = Arc::clone(&bench.stack.stack.port);
                let good = || port.script([Answer::srb(srb_status::SUCCESS, 0, &[])]);
                bench.own(RESERVE);
                port.behave(Shape::Success, Timing::Never);
                let case = format!("{first:?}, {second:?}, ends {ends}");
                first.send(&bench);
                assert_eq!(bench.known(), UNKNOWN, "{case}: first sent");
                second.send(&bench);
                assert_eq!(bench.known(), UNKNOWN, "{case}: second sent");
                good();
                port.finish_one(ends);
                assert_eq!(bench.known(), UNKNOWN, "{case}: one back");
                // A third that begins while the other is out.
                Sends::Other(0x16).send(&bench);
                good();
                port.finish_one(0);
                assert_eq!(bench.known(), UNKNOWN, "{case}: both back, a third out");
                good();
                port.finish_one(0);
                assert_eq!(bench.known(), UNKNOWN, "{case}: the third back");
                // Alone, each tells again. Where its own answer confirms what is known, that came from elsewhere still.
                let mut known = UNKNOWN;
                for alone in [second, first, Sends::Other(0x16), Sends::Own(RESERVE)] {
                    alone.send(&bench);
                    let (now, _) = bench.known();
                    assert_ne!(now, Knowledge::HeldByUs, "{case}: {alone:?} sent");
                    good();
                    port.finish_one(0);
                    if !(alone.is_own() && known.0 == alone.tells().0) {
                        known = alone.tells();
                    }
                    assert_eq!(bench.known(), known, "{case}: {alone:?} back");
                }
                port.behave(Shape::Success, Timing::Later);
                bench.end();
            }
        }
    }
}

/// The word that denies may be newer than the one that grants, whichever comes back first.
#[test]
fn a_denial_that_comes_back_before_the_reserve_beside_it_counts() {
    for reserve in [Sends::Own(RESERVE), Sends::Other(0x16)] {
        let bench = Bench::new(2);
        let port = Arc::clone(&bench.stack.stack.port);
        port.behave(Shape::Success, Timing::Never);
        reserve.send(&bench);
        drop(bench.stack.class.send(&class::read(0)));
        port.script([Answer::srb(srb_status::ERROR, 0x18, &[])]);
        port.finish_one(1);
        port.script([Answer::srb(srb_status::SUCCESS, 0, &[])]);
        port.finish_one(0);
        assert_eq!(bench.known(), UNKNOWN, "{reserve:?}");
        port.behave(Shape::Success, Timing::Later);
        bench.end();
    }
}

/// Each of two filters in one stack knows of what passes it: the lower one of what the upper one sends nothing, since that
/// is a pass-through.
#[test]
fn a_filter_that_is_not_the_only_one_knows_what_passes_it() {
    for watch in [1, 2] {
        let world = World::enter(Schedule::Orderly);
        let hive = Hive::default();
        hive.set(&format!(r"{SERVICE_KEY}\Parameters"), "Watch", watch);
        let node = Node::load(world.world(), "A", &image::built(), hive).expect("it loads");
        let unit = LogicalUnit::new();
        unit.configure(|options| options.quiet = true);
        let disk = Arc::new(unit.connect(US));
        let (stack, below) = DiskStack::plug_twice(&node, disk).expect("the disk starts");
        let parts = Parts { node, unit, stack };
        let lower = below.filter().expect("it has attached");
        let ask = |code: u32, length: u32, device| {
            let call = Call {
                output_length: length,
                ..Call::ioctl(code)
            };
            let asked = parts.node.start_at(device, &call, |_| {});
            assert_eq!(asked.wait().status, 0, "{code:#x}");
            asked.buffer()
        };
        let lower_knows = || {
            let size = size_of::<ReservationState>() as u32;
            let told = ReservationState::from_bytes(&ask(IOCTL_RESVFLT_QUERY_STATE, size, lower));
            let told = told.expect("it has that length");
            let knowledge = Knowledge::from_number(told.knowledge).expect("one of them");
            (knowledge, told.origin == Origin::Watched as u8)
        };
        let watched = (Knowledge::HeldByUs, true);
        parts.send(&class::command(&[0x16, 0, 0, 0, 0, 0]), None);
        assert_eq!((parts.known(), lower_knows()), (watched, watched));
        parts.own(RELEASE);
        assert_eq!(parts.known(), (Knowledge::NotOurs, false));
        assert_eq!(lower_knows(), watched, "a pass-through passes unseen");
        ask(RESERVE, 0, lower);
        assert_eq!(lower_knows(), watched, "as it was known to be");
        assert_eq!(parts.known(), (Knowledge::NotOurs, false));
        parts.send(&class::command(&[0x17, 0, 0, 0, 0, 0]), None);
        let released = (Knowledge::NotOurs, true);
        assert_eq!((parts.known(), lower_knows()), (released, released));
        parts.send(&class::read(0), None);
        assert_eq!(parts.unit.holder(), None);
        let Parts { node, stack, .. } = parts;
        stack.unplug(&node);
        drop(below);
        node.unload();
    }
}

/// An SRB that is out while the device goes, until disk.sys's removal waits for it, or until after that.
#[test]
fn an_srb_may_end_during_the_removal_and_after_it() {
    for watch in [0, 1, 2] {
        for form in Form::ALL {
            for (surprise, hasty) in [(false, false), (true, false), (false, true), (true, true)] {
                for (_, content) in requests() {
                    let bench = Bench::new(watch);
                    bench.stack.class.sends_as(form);
                    let port = Arc::clone(&bench.stack.stack.port);
                    port.behave(Shape::Success, Timing::Never);
                    let sent = bench.stack.class.send(&content);
                    if surprise {
                        bench.node.pnp(&bench.stack.stack, Pnp::SurpriseRemoval);
                    }
                    if hasty {
                        bench.stack.class.make_hasty();
                    }
                    let Bench { parts, _world } = bench;
                    let Some(Parts { node, stack, .. }) = Arc::into_inner(parts) else {
                        panic!("nobody else has it")
                    };
                    let left = stack.unplug(&node);
                    assert_eq!(sent.done().is_none(), hasty, "it was waited for");
                    if hasty {
                        port.script([Answer::srb(srb_status::NO_DEVICE, 0, &[])]);
                        port.finish_all();
                    }
                    let end = sent.wait();
                    let expected = if hasty {
                        srb_status::NO_DEVICE
                    } else {
                        srb_status::TIMEOUT
                    };
                    assert_eq!(end.srb_status, expected, "{content:?}");
                    world::current().settle();
                    node.unload();
                    drop(left);
                }
            }
        }
    }
}

/// disk.sys passes a REMOVE on before it waits for what it has sent (class.c 1318), and may send again what comes back
/// meanwhile: at every point of the removal at which the filter is attached still.
#[test]
fn an_srb_may_be_sent_during_the_removal() {
    for watch in [0, 1, 2] {
        for content in [class::read(0), class::command(&[0x16, 0, 0, 0, 0, 0])] {
            let (mut at, mut sent, mut watched) = (1, 0, 0);
            loop {
                let bench = Bench::new(watch);
                bench
                    .stack
                    .stack
                    .port
                    .behave(Shape::Success, Timing::Inline);
                let world = Arc::clone(&world::current().world);
                let (class, port) = (
                    Arc::clone(&bench.stack.class),
                    Arc::clone(&bench.stack.stack.port),
                );
                let (on_its_way, late) = (Arc::new(AtomicUsize::new(0)), content.clone());
                let note = Arc::clone(&on_its_way);
                let job = move || {
                    // Nothing above it: the filter is gone.
                    if rig::io::top_of(port.device()) != port.device() {
                        class.send(&late).wait();
                        note.fetch_add(1, Ordering::SeqCst);
                    }
                };
                let last = world.points();
                world.place(last + at, "late", Box::new(job));
                let port = Arc::clone(&bench.stack.stack.port);
                port.take_seen();
                bench.end();
                let points = world.points() - last;
                sent += on_its_way.load(Ordering::SeqCst);
                watched += port.take_seen().iter().filter(|seen| seen.watched).count();
                if at >= points {
                    break;
                }
                at += 1;
            }
            let case = format!("Watch {watch}, {content:?}: {watched} of {sent}");
            assert!(sent > 10, "{case}");
            // Before the filter lets the device go, and not after.
            assert_eq!(
                watched > 0,
                watch == 2 || watch == 1 && content.cdb[0] == 0x16,
                "{case}"
            );
            assert!(watched < sent, "{case}");
        }
    }
}

/// The last command that may change the reservation, as the target executed them.
fn last_word(seen: &[Seen]) -> Option<(bool, u8, Option<u8>)> {
    let word = |seen: &Seen| match (seen.via, seen.cdb.first()) {
        (Via::Function(function), _) if function::RESETS.contains(&function) => {
            Some((true, 0, None))
        }
        (Via::Srb(_), Some(&code @ (0x16 | 0x17 | 0x56 | 0x57 | 0x5F))) => {
            Some((true, code, seen.scsi_status()))
        }
        (Via::PassThrough(_), Some(&code)) => Some((false, code, seen.scsi_status())),
        _ => None,
    };
    seen.iter().rev().find_map(word)
}

/// What a thread does again and again.
type Work = Box<dyn Fn(&Parts, &mut Random) + Send>;

/// One thing that disk.sys sends.
fn any(random: &mut Random) -> Content {
    match random.below(12) {
        0..=2 => class::command(&[0x16, 0, 0, 0, 0, 0]),
        3 | 4 => class::command(&[0x17, 0, 0, 0, 0, 0]),
        5 => class::command(&[0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        6 => class::command(&[0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        7 => class::persistent_reserve_out(0, 0, 0, 0),
        8 => class::other(function::RESETS[random.below(3)]),
        _ => class::read(0),
    }
}

/// Two sources of commands that overlap, and another node that takes the unit when it is free: whatever the order, "held by
/// us" is told only while the unit is, the last word was GOOD to that RESERVE, and it is told from whose answer.
#[test]
fn held_by_us_is_told_only_while_it_is_so() {
    let (mut held, mut known) = (0, 0);
    for seed in 0..400 {
        let schedule = Schedule::Random { seed, one_in: 3 };
        let watch = 1 + (seed % 2) as u32;
        let bench = Bench::in_schedule(watch, Place::Lower, schedule);
        let form = Form::ALL[seed as usize / 2 % Form::ALL.len()];
        bench.stack.class.sends_as(form);
        let left = Arc::new(AtomicUsize::new(3));
        let spawn = |name, work: Work| {
            let (bench, left) = (Arc::clone(&bench.parts), Arc::clone(&left));
            let mut random = Random::new(seed * 7 + 1);
            let world = Arc::clone(&world::current().world);
            let job = move || {
                for _ in 0..6 {
                    work(&bench, &mut random);
                    world::current().point();
                }
                drop(bench);
                left.fetch_sub(1, Ordering::SeqCst);
                world::current().world.wake(Arc::as_ptr(&left) as usize);
            };
            world.spawn(name, irql::PASSIVE, Box::new(job));
        };
        spawn(
            "own",
            Box::new(|bench, random| {
                let code = [RESERVE, RESERVE, RELEASE][random.below(3)];
                bench.start_own(code).wait();
            }),
        );
        spawn(
            "disk.sys",
            Box::new(|bench, random| {
                let sent: Vec<_> = (0..=random.below(2))
                    .map(|_| bench.stack.class.send(&any(random)))
                    .collect();
                for sent in sent {
                    sent.wait();
                }
            }),
        );
        let other = bench.unit.connect("iqn.2026-01.example:b");
        let taken = AtomicBool::new(false);
        spawn(
            "another node",
            Box::new(move |_, _| {
                let code = if taken.fetch_not(Ordering::SeqCst) {
                    0x17
                } else {
                    0x16
                };
                other.execute(&[code, 0, 0, 0, 0, 0], std::time::Duration::from_secs(1));
            }),
        );
        let port = Arc::clone(&bench.stack.stack.port);
        // What is told while something happens is of some moment in between.
        let look = || {
            let (_, before) = port.seen_so_far();
            let told = bench.told();
            let (seen, after) = port.seen_so_far();
            let is_ours = bench.unit.holder().as_deref() == Some(US);
            (before == after).then_some((told, seen, is_ours))
        };
        let mut check = |(told, seen, is_ours): (ReservationState, Vec<Seen>, bool)| {
            if told.knowledge != Knowledge::HeldByUs as u32 {
                return;
            }
            held += 1;
            let word = last_word(&seen);
            let case = format!("seed {seed}, {form:?}: {word:?}");
            assert!(is_ours, "{case}");
            let (by_srb, code, status) = word.expect("somebody sent it");
            assert_eq!(status, Some(0), "{case}");
            assert!([0x16, 0x56].contains(&code), "{case}");
            // An own answer that confirms what is known leaves its origin.
            let watched = told.origin == Origin::Watched as u8;
            assert!(watched || !by_srb, "{case}");
        };
        while left.load(Ordering::SeqCst) != 0 {
            look().map(&mut check);
            world::current().point();
        }
        world::current().settle();
        let (told, seen, is_ours) = look().expect("nothing happens any more");
        check((told, seen, is_ours));
        let elsewhere = [Knowledge::NotOurs as u32, Knowledge::HeldByAnother as u32];
        if elsewhere.contains(&told.knowledge) {
            known += 1;
            assert!(!is_ours, "seed {seed}, {form:?}: {told:?}");
        }
        bench.end();
    }
    assert!(held > 400 && known > 50, "told {held} and {known} times");
}
