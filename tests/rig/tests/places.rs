//! The filter above and below disk.sys, and callers of every kind.

use std::path::Path;
use std::sync::Arc;

use rig::abi::{SCSI_PASS_THROUGH, SCSI_PASS_THROUGH32, status};
use rig::class::{DiskStack, Place};
use rig::disk::logical_unit::{Forms, LogicalUnit};
use rig::io::{Call, Caller};
use rig::node::Node;
use rig::port::Via;
use rig::registry::Hive;
use rig::world::{Entered, Schedule, World};
use rig::{image, places};

const RESERVE: u32 = 0x002D_4810;
const RELEASE: u32 = 0x002D_4814;
const CALLERS: [Caller; 3] = [Caller::Kernel, Caller::User64, Caller::User32];

/// `cargo xtask places > docs/places.md` writes it anew.
#[test]
fn the_page_shows_what_each_place_sees() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/places.md");
    let tables = places::play(&image::built()).expect("the driver loads");
    let written = std::fs::read_to_string(page).expect("docs/places.md");
    assert_eq!(places::page(&tables), written);
}

/// One node, and a unit without unit attentions.
struct Bench {
    node: Node,
    unit: LogicalUnit,
    // Last: everything above lives in it.
    _world: Entered,
}

impl Bench {
    fn new() -> Self {
        let world = World::enter(Schedule::Orderly);
        let node = Node::load(world.world(), "A", &image::built(), Hive::default());
        let unit = LogicalUnit::new();
        unit.configure(|options| options.quiet = true);
        Self {
            node: node.expect("the driver loads"),
            unit,
            _world: world,
        }
    }

    fn plug(&self, place: Place) -> DiskStack {
        let disk = Arc::new(self.unit.connect("iqn.2001-04.com.example:a"));
        DiskStack::plug(&self.node, place, disk).expect("the disk starts")
    }
}

/// What a driver would meet that turned its caller's IRP into a pass-through: the structure is read as its caller would
/// have written it.
#[test]
fn a_pass_through_in_a_callers_irp_is_read_in_the_callers_layout() {
    let bench = Bench::new();
    for place in [Place::Lower, Place::Upper] {
        for caller in CALLERS {
            for narrow in [false, true] {
                let stack = bench.plug(place);
                let call = Call {
                    caller,
                    ..places::reserve_6(narrow)
                };
                let (end, buffer) = bench.node.call_with_buffer(&stack.stack, &call);
                let right = narrow == (caller == Caller::User32);
                let (expected, length) = match (right, narrow) {
                    (true, true) => (status::SUCCESS, size_of::<SCSI_PASS_THROUGH32>()),
                    (true, false) => (status::SUCCESS, size_of::<SCSI_PASS_THROUGH>()),
                    (false, _) => (status::INVALID_PARAMETER, 0),
                };
                let case = format!("{place:?}, {caller:?}, narrow: {narrow}");
                assert_eq!(end.status, expected, "{case}");
                assert_eq!(end.information, length as u64, "{case}");
                assert_eq!(
                    stack.stack.port.take_seen().len(),
                    usize::from(right),
                    "{case}"
                );
                // ScsiStatus.
                assert_eq!(buffer[2], 0, "{case}");
                stack.unplug(&bench.node);
            }
        }
    }
    bench.node.unload();
}

#[test]
fn the_filter_serves_every_caller_alike() {
    let bench = Bench::new();
    for place in [Place::Lower, Place::Upper] {
        let stack = bench.plug(place);
        let filter = stack.stack.filter().expect("it has attached");
        for caller in CALLERS {
            for (code, operation_code) in [(RESERVE, 0x16), (RELEASE, 0x17)] {
                let call = Call {
                    caller,
                    ..Call::ioctl(code)
                };
                let end = bench.node.start_at(filter, &call, |_| {}).wait();
                assert_eq!(
                    (end.status, end.information),
                    (status::SUCCESS, 0),
                    "{caller:?}"
                );
                let seen = stack.stack.port.take_seen();
                let [seen] = &seen[..] else {
                    panic!("{seen:?}")
                };
                assert_eq!(
                    (seen.via, seen.cdb[0]),
                    (Via::PassThrough(1), operation_code)
                );
            }
        }
        stack.unplug(&bench.node);
    }
    bench.node.unload();
}

/// The model's own manners, with the filter below it: classpnp's class.c 6206, 4495, 4460.
#[test]
fn disk_sys_serves_its_handles_with_its_own_retries_and_ten_byte_form() {
    const BUSY: i32 = 0x8000_0011_u32.cast_signed();
    let bench = Bench::new();
    bench.unit.configure(|options| options.forms = Forms::Ten);
    let stack = bench.plug(Place::Lower);
    let other = bench.unit.connect("iqn.2001-04.com.example:b");
    let serve = |code| {
        let end = bench.node.call(&stack.stack, &Call::ioctl(code));
        let seen = stack.stack.port.take_seen();
        assert!(seen.iter().all(|seen| seen.via == Via::Srb(0)), "{seen:?}");
        let codes: Vec<_> = seen.iter().map(|seen| seen.cdb[0]).collect();
        (end.status, codes)
    };
    assert_eq!(serve(RESERVE), (status::SUCCESS, vec![0x16, 0x56]));
    assert_eq!(serve(RELEASE), (status::SUCCESS, vec![0x57]));
    bench.unit.attention(0x2A, 0x09);
    assert_eq!(serve(RESERVE), (status::SUCCESS, vec![0x56, 0x56]));
    assert_eq!(serve(RELEASE), (status::SUCCESS, vec![0x57]));
    drop(rig::disk::Disk::execute(
        &other,
        &[0; 6],
        std::time::Duration::from_secs(1),
    ));
    let cdb = [0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let reserved = rig::disk::Disk::execute(&other, &cdb, std::time::Duration::from_secs(1));
    assert_eq!(reserved.status(), Some(0));
    assert_eq!(serve(RESERVE), (BUSY, vec![0x56]));
    stack.unplug(&bench.node);
    bench.node.unload();
}
