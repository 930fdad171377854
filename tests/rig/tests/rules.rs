//! That each rule of the rig fires: for each there is a broken variant of the driver (tests/broken, built by
//! `cargo xtask build --broken`), and a scenario in which that one breaks it and the driver as it ships breaks none.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use rig::disk::logical_unit::LogicalUnit;
use rig::disk::{Disk, Outcome};
use rig::etw::{Ask, Session};
use rig::fx::{DiskKeys, Pnp};
use rig::io::Call;
use rig::node::{Node, SERVICE_KEY, Stack};
use rig::port::{Answer, Cancel, Shape, Timing};
use rig::registry::Hive;
use rig::world::{self, Entered, Schedule, World};
use rig::{image, race, rules};

#[path = "../../broken/src/variants.rs"]
mod variants;

use variants::{ALL, Variant};

const RESERVE: u32 = 0x002D_4810;
const FOREIGN: u32 = 0x002D_4800;

/// What is done to a node, its disk and its driver.
type Scenario = fn(Bench);

/// Each scenario by its name.
const SCENARIOS: [(&str, Scenario); 13] = [
    ("started", |bench| bench.end()),
    ("reserve", |bench| bench.reserve_and_end()),
    ("reserve with a buffer", with_a_buffer),
    ("reserve while ETW listens", while_etw_listens),
    (
        "reserve through a synchronous port",
        through_a_synchronous_port,
    ),
    ("reserve, and the send is refused", the_send_is_refused),
    (
        "reserve of a unit that another holds",
        of_a_unit_that_another_holds,
    ),
    ("reserve, cancelled while it is out", cancelled_while_out),
    ("reserve, cancelled in a delay", cancelled_in_a_delay),
    ("reserve after a surprise removal", after_a_surprise_removal),
    (
        "reserve at every point of a removal",
        at_every_point_of_a_removal,
    ),
    ("two requests at once from a sequential queue", two_at_once),
    ("foreign control", foreign_control),
];

/// The scenario in which a variant breaks its rule.
fn scenario(variant: Variant) -> &'static str {
    use Variant as V;
    match variant {
        V::Right
        | V::ReturnsRaised
        | V::ReadsTheRegistryRaised
        | V::KeepsTheLock
        | V::TakesTheLockTwice
        | V::ReleasesTheLockTwice
        | V::LeaksMemory
        | V::FreesTwice
        | V::LeaksAReference
        | V::MakesADefaultQueue
        | V::ConfiguresLate
        | V::RegistersTwice
        | V::StaysRegistered
        | V::UnregistersTwice
        | V::NeedsMuchStack => "started",
        V::CompletesAsPending
        | V::CompletesTheMarkedIrp
        | V::GivesInformation
        | V::TouchesACompletedIrp
        | V::RunsPageableCode
        | V::DropsARequest
        | V::TouchesACompletedRequest
        | V::GivesAWrongSize
        | V::CompletesTwice
        | V::CompletesMarked
        | V::MarksTwice
        | V::UnmarksUnmarked
        | V::CompletesItsOwnRequest
        | V::ReusesASentRequest
        | V::ForgetsMinorFunction
        | V::SendsAtDispatch
        | V::SendsTheCallersIrp => "reserve",
        V::WritesToTheCaller => "reserve with a buffer",
        V::LeavesOutAField => "reserve while ETW listens",
        V::TakesARefusalForASend => "reserve, and the send is refused",
        V::ClaimsSuccess => "reserve of a unit that another holds",
        V::CompletesWhileOut => "reserve, cancelled while it is out",
        V::WaitsAtDispatch => "reserve, cancelled in a delay",
        V::CompletesTheIrpTwice | V::ReturnsAnotherStatus => "reserve after a surprise removal",
        V::ForgetsRemoval => "reserve at every point of a removal",
        V::TrustsASequentialQueue => "two requests at once from a sequential queue",
        V::TakesTooManyLocations | V::ChangesForeignRequests | V::ForgetsTheContext => {
            "foreign control"
        }
    }
}

/// One node with one disk.
struct Bench {
    node: Node,
    stack: Stack,
    unit: LogicalUnit,
    session: Session,
    // Last: everything above lives in it.
    world: Entered,
}

impl Bench {
    fn new(file: &Path, variant: Variant) -> Self {
        let world = World::enter(Schedule::Orderly);
        let session = Session::new(world.world());
        let hive = Hive::default();
        hive.set(
            &format!(r"{SERVICE_KEY}\Parameters"),
            "Broken",
            variant as u32,
        );
        let node = Node::load(world.world(), "A", file, hive).expect("the driver loads");
        let unit = LogicalUnit::new();
        unit.configure(|options| options.quiet = true);
        let disk = Arc::new(unit.connect("iqn.2026-01.example:a"));
        let stack = node
            .plug(disk, &DiskKeys::default())
            .expect("the disk starts");
        Self {
            node,
            stack,
            unit,
            session,
            world,
        }
    }

    fn reserve(&self) -> u32 {
        self.node
            .call(&self.stack, &Call::ioctl(RESERVE))
            .status
            .cast_unsigned()
    }

    fn reserve_and_end(self) {
        assert_eq!(self.reserve(), 0);
        self.end();
    }

    fn end(self) {
        let Self {
            node,
            stack,
            session,
            ..
        } = self;
        node.unplug(stack);
        node.unload();
        drop(session);
    }
}

fn with_a_buffer(bench: Bench) {
    let call = Call {
        input: vec![0xA5; 16],
        output_length: 16,
        ..Call::ioctl(RESERVE)
    };
    assert_eq!(bench.node.call(&bench.stack, &call).status, 0);
    bench.end();
}

fn while_etw_listens(bench: Bench) {
    bench.session.listen(Ask::ALL);
    bench.reserve_and_end();
}

/// Its completions come at `PASSIVE_LEVEL`, inside the send.
fn through_a_synchronous_port(bench: Bench) {
    bench.stack.port.behave(Shape::Success, Timing::Inline);
    bench.reserve_and_end();
}

fn the_send_is_refused(bench: Bench) {
    let faults = || bench.world.world().faults.lock().expect("nobody has it");
    // What can fail before it: the mark, the reuse, the format.
    faults().calls.clear();
    faults().fail_call = Some((3, 0));
    let status = bench.reserve();
    assert_eq!(faults().calls[3].0, "WdfRequestSend");
    assert_eq!(status, 0, "it is sent again");
    bench.end();
}

fn of_a_unit_that_another_holds(bench: Bench) {
    let other = bench.unit.connect("iqn.2026-01.example:b");
    other.execute(&[0x16, 0, 0, 0, 0, 0], std::time::Duration::from_secs(1));
    assert_eq!(bench.reserve(), 0x8000_0011, "DEVICE_BUSY");
    bench.end();
}

fn cancelled_while_out(bench: Bench) {
    bench.stack.port.behave(Shape::Success, Timing::Never);
    bench.stack.port.on_cancel(Cancel::Late);
    let pending = bench.node.start(&bench.stack, &Call::ioctl(RESERVE));
    pending.cancel();
    assert_eq!(pending.wait().status.cast_unsigned(), 0xC000_0120);
    bench.end();
}

fn cancelled_in_a_delay(bench: Bench) {
    bench
        .stack
        .port
        .repeat(Some(Answer::Target(Outcome::Status {
            status: 0x08,
            sense: Vec::new(),
            data: Vec::new(),
        })));
    let pending = bench.node.start(&bench.stack, &Call::ioctl(RESERVE));
    world::current().settle();
    assert_eq!(pending.done(), None);
    pending.cancel();
    assert_eq!(pending.wait().status.cast_unsigned(), 0xC000_0120);
    bench.end();
}

fn after_a_surprise_removal(bench: Bench) {
    bench.node.pnp(&bench.stack, Pnp::SurpriseRemoval);
    assert_eq!(bench.reserve(), 0xC000_009D, "DEVICE_NOT_CONNECTED");
    bench.node.pnp(&bench.stack, Pnp::Remove);
    bench.node.unload();
}

fn at_every_point_of_a_removal(first: Bench) {
    let disk = || first.unit.connect("iqn.2026-01.example:a");
    let (world, node) = (first.world.world(), Arc::new(first.node));
    node.unplug(first.stack);
    for point in 1.. {
        let stack = Arc::new(
            node.plug(Arc::new(disk()), &DiskKeys::default())
                .expect("it starts"),
        );
        let (sender, below) = (Arc::clone(&node), Arc::clone(&stack));
        let at = world.points() + point;
        let job = move || {
            sender.call(&below, &Call::ioctl(RESERVE));
        };
        world.place(at, "arrival", Box::new(job));
        node.pnp(&stack, Pnp::Remove);
        world::current().settle();
        if world.take_back(at) {
            break;
        }
    }
    let node = Arc::into_inner(node).expect("every arrival is over");
    node.unload();
}

fn two_at_once(bench: Bench) {
    let (node, stack) = (Arc::new(bench.node), Arc::new(bench.stack));
    for late_cancel in [false, true] {
        let ends = race::play(&node, &stack, late_cancel);
        assert!(
            ends.len() == 4 && ends.iter().all(race::is_right),
            "{ends:?}"
        );
    }
    let stack = Arc::into_inner(stack).expect("every request is over");
    let node = Arc::into_inner(node).expect("every request is over");
    node.unplug(stack);
    node.unload();
}

fn foreign_control(bench: Bench) {
    let end = bench.node.call(&bench.stack, &Call::ioctl(FOREIGN));
    assert_eq!(end.status.cast_unsigned(), 0xC000_0010, "the port's answer");
    bench.end();
}

fn broken_driver() -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/broken/resvflt.sys");
    let file = std::env::var_os("RESVFLT_BROKEN_SYS").map_or_else(built, PathBuf::from);
    assert!(
        file.exists(),
        "{} is not there: cargo xtask build --broken",
        file.display()
    );
    file
}

/// What a child process is to play: its variant's place in [`ALL`] or 0, a scenario, and the driver's file.
const PLAY: [&str; 3] = ["RIG_TEST_VARIANT", "RIG_TEST_SCENARIO", "RIG_TEST_DRIVER"];

/// Plays a scenario in a process of its own, which a broken rule ends.
fn play(file: &Path, variant: Variant, scenario: &str) -> Output {
    let child = std::env::current_exe().expect("a test program has a name");
    Command::new(child)
        .args([
            "plays_what_its_parent_asks_for",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env(PLAY[0], (variant as u32).to_string())
        .env(PLAY[1], scenario)
        .env(PLAY[2], file)
        .output()
        .expect("a test program can be run")
}

#[test]
#[ignore = "the child process of the other tests"]
fn plays_what_its_parent_asks_for() {
    let [variant, scenario, file] =
        PLAY.map(|name| std::env::var(name).expect("the parent sets it"));
    let number: u32 = variant.parse().expect("a number");
    let variants = ALL.iter().map(|&(variant, _)| variant);
    let variant = variants
        .chain([Variant::Right])
        .find(|&variant| variant as u32 == number);
    let (_, play) = SCENARIOS
        .into_iter()
        .find(|(name, _)| *name == scenario)
        .expect("its name");
    play(Bench::new(Path::new(&file), variant.expect("its number")));
}

/// The rules that a process names as broken.
fn named(output: &Output) -> Vec<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    let lines = said
        .lines()
        .filter_map(|line| line.strip_prefix("*** rule broken: "));
    lines.map(str::to_owned).collect()
}

#[test]
fn each_mistake_breaks_the_rule_that_is_meant_for_it_and_no_other() {
    let file = broken_driver();
    let mut wrong = Vec::new();
    for &(variant, rule) in ALL {
        let output = play(&file, variant, scenario(variant));
        let said = String::from_utf8_lossy(&output.stderr);
        if named(&output) != [rule] || output.status.code() != Some(rules::EXIT_STATUS) {
            wrong.push(format!("{variant:?} does not break {rule}, but: {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_is_broken_by_a_mistake() {
    let ids: BTreeSet<_> = rules::ALL.iter().map(|rule| rule.id).collect();
    let broken: BTreeSet<_> = ALL.iter().map(|&(_, rule)| rule).collect();
    assert_eq!(ids, broken);
}

#[test]
fn the_driver_that_ships_plays_every_scenario_to_its_end() {
    for (name, _) in SCENARIOS {
        // It has no such parameter.
        let output = play(&image::built(), Variant::CompletesTwice, name);
        assert!(
            output.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn without_a_mistake_chosen_the_broken_driver_is_right() {
    for (name, _) in SCENARIOS {
        let output = play(&broken_driver(), Variant::Right, name);
        assert!(
            output.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn pageable_code_is_paged_in_below_dispatch_level() {
    let scenario = "reserve through a synchronous port";
    let output = play(&broken_driver(), Variant::RunsPageableCode, scenario);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
