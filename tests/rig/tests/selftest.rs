//! `resvctl selftest` on the built `resvflt.sys`: the checks that reach the disk, each made to hold, to fail and to be
//! untellable; two nodes that keep step; and that each report is one by docs/selftest.schema.json.

mod prompt;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use prompt::{Bench, Keeps, Prompt, Tricks};
use resvctl::Exit;
use resvctl::machine::Win32;
use resvctl::selftest::{CHECKS, Needs};
use rig::abi::irql;
use rig::class::Place;
use rig::disk::logical_unit::Forms;
use rig::node::SERVICE_KEY;
use rig::port::{Cancel, Kind, Shape, Timing};
use rig::registry::{Hive, Value};
use rig::world;
use serde_json::{Value as Json, json};

const QUERY: u32 = 0x8016_6058;
const DISK_KEY: &str = r"\Registry\Machine\SYSTEM\CurrentControlSet\Services\Disk";

const HOLDS: &str = "holds";
const BROKEN: &str = "does_not_hold";
const UNTOLD: &str = "cannot_tell";

/// One check on one node.
struct Case {
    id: &'static str,
    place: Place,
    line: &'static str,
    result: &'static str,
    why: &'static str,
    /// The registry when the driver is loaded.
    before: fn(&Hive),
    /// What is done to the node then.
    after: fn(&Bench),
}

macro_rules! cases {
    ($($id:literal $place:ident $line:tt $result:ident $why:literal: $before:expr, $after:expr;)*) => {
        const CASES: &[Case] = &[$(Case {
            id: $id,
            place: Place::$place,
            line: $line,
            result: $result,
            why: $why,
            before: $before,
            after: $after,
        },)*];
    };
}

fn parameter(hive: &Hive, name: &str, value: impl Into<Value>) {
    hive.set(&format!(r"{SERVICE_KEY}\Parameters"), name, value);
}

fn watch(hive: &Hive) {
    parameter(hive, "Watch", 1);
}

fn trick(bench: &Bench, play: fn(&mut Tricks)) {
    play(&mut bench.a.tricks());
}

fn ten_alone(bench: &Bench) {
    bench.unit.configure(|unit| unit.forms = Forms::Ten);
}

/// The built image with another time stamp, as an older build has it.
fn older() -> Vec<u8> {
    let mut image = std::fs::read(rig::image::built()).expect("the image");
    let header = usize::from(image[0x3C]) | usize::from(image[0x3D]) << 8;
    image[header + 8] ^= 1;
    image
}

const NO: fn(&Hive) = |_| {};
const R: &str = "1 --with-reserve";
const S: &str = "1 --with-sleep";

cases! {
    "image" Lower "" HOLDS "": NO, |_| {};
    "image" Lower "" BROKEN "TimeDateStamp of the file": NO, |b| trick(b, |it| it.installed = Some(older()));
    "excluded" Upper "" HOLDS "": |h| parameter(h, "AttachMode", 1), |_| {};
    "excluded" Upper "" BROKEN "PhysicalDrive1 has the filter": NO, |b| parameter(&b.a.hive, "AttachMode", 1);
    "excluded" Upper "" UNTOLD "no disk is excluded": NO, |_| {};
    "stack" Lower "" HOLDS "": NO, |_| {};
    "stack" Upper "" HOLDS "": NO, |_| {};
    "stack" Lower "" BROKEN "below disk without LowerFilters": NO, |b| trick(b, |it| it.listed = Some(Place::Upper));
    "stack" Upper "" BROKEN "above disk without UpperFilters": NO, |b| trick(b, |it| it.listed = Some(Place::Lower));
    "stack" Lower "" UNTOLD "excluded": |h| parameter(h, "AttachMode", 1), |_| {};
    "stack" Lower "" BROKEN "built anew": |h| parameter(h, "AttachMode", 1), |b| parameter(&b.a.hive, "AttachMode", 0);
    "query" Lower "" HOLDS "": NO, |_| {};
    "query" Upper "" HOLDS "": NO, |_| {};
    "query" Lower "" HOLDS "": |h| parameter(h, "AttachMode", 1), |_| {};
    "query" Lower "" BROKEN "the filter is there: ": NO, |b| trick(b, |it| it.eats = Some((QUERY, Win32::INVALID_FUNCTION)));
    "query" Upper "" BROKEN "without the filter: ": |h| parameter(h, "AttachMode", 1), |b| trick(b, |it| it.eats = Some((QUERY, Win32::NOT_READY)));
    "query-sizes" Lower "" HOLDS "": NO, |_| {};
    "query-sizes" Upper "" HOLDS "": NO, |_| {};
    "query-sizes" Upper "" BROKEN "a buffer of 0 bytes": NO, |b| trick(b, |it| it.eats = Some((QUERY, Win32::MORE_DATA)));
    "query-sizes" Upper "" UNTOLD "not in its stack": |h| parameter(h, "AttachMode", 1), |_| {};
    "handle-access" Lower "" HOLDS "": NO, |_| {};
    "handle-access" Lower "" BROKEN "an answer": NO, |b| trick(b, |it| it.any_access = true);
    "parameters" Lower "" HOLDS "": NO, |_| {};
    "parameters" Upper "" HOLDS "": |h| {
        for (name, number) in [("MaxRetries", 16), ("RetryDelayMs", 60_000), ("Reserve10Fallback", 0), ("Watch", 2), ("TimeoutSeconds", 3600)] {
            parameter(h, name, number);
        }
    }, |_| {};
    "parameters" Upper "" HOLDS "": |h| {
        for (name, number) in [("MaxRetries", 17), ("RetryDelayMs", 9), ("Reserve10Fallback", 2), ("Watch", 3), ("TimeoutSeconds", 3601)] {
            parameter(h, name, number);
        }
    }, |_| {};
    "parameters" Lower "" HOLDS "": |h| parameter(h, "MaxRetries", Value::Other(vec![5, 0, 0, 0])), |_| {};
    "parameters" Lower "" BROKEN "MaxRetries is 4, not 5": NO, |b| parameter(&b.a.hive, "MaxRetries", 5);
    "parameters" Lower "" BROKEN "RetryDelayMs is 1000, not 10": NO, |b| parameter(&b.a.hive, "RetryDelayMs", 10);
    "parameters" Lower "" BROKEN "Reserve10Fallback is 1, not 0": NO, |b| parameter(&b.a.hive, "Reserve10Fallback", 0);
    "parameters" Lower "" BROKEN "Watch is 0, not 2": NO, |b| parameter(&b.a.hive, "Watch", 2);
    "parameters" Lower "" BROKEN "TimeoutSeconds is 7, not 8": |h| parameter(h, "TimeoutSeconds", 7), |b| parameter(&b.a.hive, "TimeoutSeconds", 8);
    "timeout" Lower "" HOLDS "": NO, |_| {};
    "timeout" Upper "" HOLDS "": |h| h.set(DISK_KEY, "TimeOutValue", 25), |_| {};
    "timeout" Lower "" HOLDS "": |h| h.set(DISK_KEY, "TimeOutValue", 0), |_| {};
    "timeout" Lower "" BROKEN "timeout in seconds is 25, not 26": |h| h.set(DISK_KEY, "TimeOutValue", 25), |b| b.a.hive.set(DISK_KEY, "TimeOutValue", 26);
    "timeout" Lower "" UNTOLD "TimeoutSeconds is 30": |h| parameter(h, "TimeoutSeconds", 30), |_| {};
    "port-refusal" Lower "" HOLDS "": NO, |_| {};
    "port-refusal" Upper "" HOLDS "": NO, |_| {};
    "port-refusal" Lower "" BROKEN "hands nothing over": NO, |b| b.a.disk.stack.port.act_as(Kind::Scsiport);
    "served-by" Lower R HOLDS "": NO, |_| {};
    "served-by" Upper R HOLDS "": NO, |_| {};
    "served-by" Lower R BROKEN "RESERVE is 0, not 1": NO, |b| trick(b, |it| it.told = Some(Place::Upper));
    "served-by" Lower R BROKEN "RESERVE is 1, not 0": NO, |b| trick(b, |it| it.bypasses = true);
    "served-by" Lower R UNTOLD "not in its stack": |h| parameter(h, "AttachMode", 1), |_| {};
    "watched" Lower R HOLDS "": watch, |_| {};
    "watched" Lower R HOLDS "": |h| parameter(h, "Watch", 2), |_| {};
    "watched" Lower R BROKEN "from is the filter's own, not another's request": watch, |b| trick(b, |it| it.bypasses = true);
    "watched" Lower R UNTOLD "Watch is 0": NO, |_| {};
    "watched" Upper R UNTOLD "above disk.sys": watch, |_| {};
    "spellings" Lower R HOLDS "": NO, |_| {};
    "spellings" Upper R HOLDS "": NO, |_| {};
    "spellings" Upper R BROKEN "IOCTL_TAPE_RELEASE": NO, |b| trick(b, |it| it.eats = Some((0x001F_4814, Win32::INVALID_FUNCTION)));
    "information" Lower R HOLDS "": NO, |_| {};
    "information" Upper R HOLDS "": NO, |_| {};
    "information" Upper R BROKEN "Information of RESERVE is 8, not 0": NO, |b| trick(b, |it| it.information = Some(8));
    "read-only-handle" Lower R HOLDS "": NO, |_| {};
    "read-only-handle" Upper R HOLDS "": NO, |_| {};
    "read-only-handle" Upper R BROKEN "RESERVE with GENERIC_READ alone is": NO, |b| trick(b, |it| it.refuses_readers = true);
    "ten-byte" Lower R HOLDS "": NO, ten_alone;
    "ten-byte" Upper R HOLDS "": NO, ten_alone;
    "ten-byte" Upper R BROKEN "IOCTL_STORAGE_RESERVE is": |h| parameter(h, "Reserve10Fallback", 0), |b| {
        ten_alone(b);
        parameter(&b.a.hive, "Reserve10Fallback", 1);
    };
    "ten-byte" Upper R UNTOLD "Reserve10Fallback is 0": |h| parameter(h, "Reserve10Fallback", 0), ten_alone;
    "ten-byte" Upper R UNTOLD "the unit takes RESERVE(6)": NO, |_| {};
    "cancel-queued" Upper R HOLDS "": NO, |_| {};
    "cancel-queued" Upper R BROKEN "its status is 0x00000000": NO, |b| trick(b, |it| it.deaf = true);
    "cancel-queued" Upper R UNTOLD "before it could be cancelled": NO, |b| b.a.disk.stack.port.behave(Shape::Success, Timing::Inline);
    "cancel-queued" Lower R UNTOLD "below disk.sys": NO, |_| {};
    "process-ends" Upper R HOLDS "": NO, |_| {};
    "process-ends" Upper R UNTOLD "before the process could be killed": NO, |b| b.a.disk.stack.port.behave(Shape::Success, Timing::Inline);
    "process-ends" Lower R UNTOLD "below disk.sys": NO, |_| {};
    "events" Upper R HOLDS "": NO, |_| {};
    "events" Upper R BROKEN "no OperationEnded of the RESERVE came": NO, |b| trick(b, |it| it.loses = Some("OperationEnded"));
    "events" Lower R UNTOLD "below disk.sys": NO, |_| {};
    "sleep" Upper S HOLDS "": NO, |_| {};
    "sleep" Lower S HOLDS "": watch, |_| {};
    "sleep" Upper S BROKEN "known after is held_by_us, not unknown": NO, |b| trick(b, |it| it.sleepless = true);
    "sleep" Lower S UNTOLD "Watch 1 or 2": NO, |_| {};
}

fn schema() -> Json {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/selftest.schema.json");
    let text = std::fs::read_to_string(file).expect("docs/selftest.schema.json");
    serde_json::from_str(&text).expect("JSON")
}

/// What is wrong with a report by the schema.
fn faults(report: &Json) -> Vec<String> {
    let schema = jsonschema::validator_for(&schema()).expect("a schema");
    schema
        .iter_errors(report)
        .map(|error| error.to_string())
        .collect()
}

/// Runs the command: how it ended, what it printed, and the report that it wrote, which is one.
fn run(prompt: &Prompt, line: &str) -> (Exit, String, Json) {
    let (exit, said) = prompt.command(&format!(r"selftest {line} --json C:\report.json"));
    let report = prompt
        .file(r"C:\report.json")
        .unwrap_or_else(|| panic!("{line}: {said}"));
    let report = serde_json::from_slice(&report).expect("JSON");
    assert_eq!(faults(&report), Vec::<String>::new(), "{line}: {report:#}");
    (exit, said, report)
}

/// What came of a check, and why.
fn result<'a>(report: &'a Json, id: &str) -> (&'a str, &'a str) {
    let results = report["results"].as_array().expect("results");
    let found = results.iter().find(|found| found["id"] == id);
    let found = found.unwrap_or_else(|| panic!("{id}: {report:#}"));
    let why = found["why"].as_str().unwrap_or_default();
    (found["result"].as_str().expect("a word"), why)
}

#[test]
fn each_check_of_a_disk_comes_to_what_the_stack_does() {
    for case in CASES {
        let Case {
            id,
            place,
            line,
            why,
            ..
        } = case;
        let hive = Hive::default();
        (case.before)(&hive);
        let bench = Bench::with(*place, &hive);
        (case.after)(&bench);
        let (exit, said, report) = run(&bench.a, line);
        let (found, found_why) = result(&report, id);
        assert_eq!(found, case.result, "{id}, {place:?}, {why}: {found_why}");
        assert!(found_why.contains(why), "{id}, {why}: {found_why}");
        let broken = said.contains("does not hold");
        assert_eq!(
            exit,
            if broken { Exit::Error } else { Exit::Good },
            "{id}: {said}"
        );
        assert_eq!(bench.unit.holder(), None, "{id}, {place:?}, {why}: {said}");
        assert_eq!(report["undone"]["left"], Json::Null, "{id}: {said}");
        bench.end();
    }
}

#[test]
fn each_check_that_reaches_the_disk_is_seen_to_hold_and_to_fail() {
    let cases = CASES.iter().map(|case| (case.id, case.result));
    let peers = PEER_CASES.iter().map(|case| (case.id, case.result));
    let hangs = HANGS.iter().map(|hang| (hang.0, BROKEN));
    let seen: BTreeSet<_> = cases.chain(peers).chain(hangs).collect();
    for check in CHECKS {
        if matches!(
            check.needs,
            Needs::Disk | Needs::WithReserve | Needs::WithSleep | Needs::Peer
        ) {
            for result in [HOLDS, BROKEN] {
                assert!(seen.contains(&(check.id, result)), "{}: {result}", check.id);
            }
        }
    }
}

/// Checks that meet a request that does not end; how the port is told to keep one, and what is said then.
const HANGS: [(&str, &str, Keeps); 2] = [
    (
        "cancel-queued",
        "still out after a second",
        Keeps::FromTheSecond,
    ),
    (
        "process-ends",
        "has not ended a minute after it was killed",
        Keeps::FromAProcess,
    ),
];

#[test]
fn nothing_is_sent_to_a_disk_that_keeps_a_request_and_the_report_says_what_is_left() {
    for (id, why, keeps) in HANGS {
        let bench = Bench::new(Place::Upper);
        let port = &bench.a.disk.stack.port;
        port.on_cancel(Cancel::Ignored);
        {
            let mut tricks = bench.a.tricks();
            tricks.keeps = Some(keeps);
            tricks.deaf = keeps == Keeps::FromTheSecond;
        }
        let (exit, said, report) = run(&bench.a, R);
        assert_eq!(exit, Exit::Error);
        let (found, found_why) = result(&report, id);
        assert_eq!(found, BROKEN, "{id}: {found_why}");
        assert!(found_why.contains(why), "{id}: {found_why}");
        let after = CHECKS.iter().skip_while(|check| check.id != id).skip(1);
        for check in after.filter(|check| check.needs == Needs::WithReserve) {
            assert!(
                result(&report, check.id).1.contains("does not end"),
                "{}: {said}",
                check.id
            );
        }
        assert!(said.contains("THE DISK MAY STILL BE RESERVED"), "{said}");
        assert!(report["undone"]["left"].is_string());
        // The hour at which the port comes back.
        port.behave(Shape::Success, Timing::Later);
        while port.outstanding() > 0 {
            port.release();
            world::current().settle();
        }
        bench.end();
    }
}

#[test]
fn a_node_without_the_filter_is_told_from_one_whose_filter_could_not_attach() {
    let bench = Bench::prepared(Place::Lower, &Hive::default(), |world| {
        let mut faults = world.faults.lock().expect("no panic");
        faults.fail_allocation = Some(faults.allocations.len());
    });
    assert!(!bench.a.disk.stack.is_filtered());
    let (exit, said, report) = run(&bench.a, "1 --with-reserve");
    assert_eq!(exit, Exit::Error, "{said}");
    assert_eq!(result(&report, "stack").0, BROKEN, "{said}");
    assert_eq!(result(&report, "query").0, HOLDS, "{said}");
    assert_eq!(result(&report, "served-by").0, UNTOLD, "{said}");
    bench.end();
}

/// Two nodes that run it at the same time.
struct PeerCase {
    id: &'static str,
    place: Place,
    result: &'static str,
    why: &'static str,
    before: fn(&Hive),
    after: fn(&Bench),
}

macro_rules! peer_cases {
    ($($id:literal $place:ident $result:ident $why:literal: $before:expr, $after:expr;)*) => {
        const PEER_CASES: &[PeerCase] = &[$(PeerCase {
            id: $id,
            place: Place::$place,
            result: $result,
            why: $why,
            before: $before,
            after: $after,
        },)*];
    };
}

fn empty(bench: &Bench) {
    bench.unit.configure(|unit| unit.empty = true);
}

peer_cases! {
    "peer-conflict" Upper HOLDS "": NO, |_| {};
    "peer-conflict" Lower HOLDS "": watch, |_| {};
    "peer-conflict" Upper BROKEN "step 2: the second node's RESERVE: success": NO, empty;
    "peer-conflict" Lower UNTOLD "Watch 1 or 2": NO, |_| {};
    "peer-release" Upper HOLDS "": NO, |_| {};
    "peer-release" Lower HOLDS "": NO, |_| {};
    "peer-release" Upper BROKEN "step 5: the first node's RESERVE: success": NO, empty;
    "peer-reset" Upper HOLDS "": NO, |_| {};
    "peer-reset" Lower HOLDS "": watch, |_| {};
    "peer-reset" Lower BROKEN "step 7: the first node's RESERVE: another initiator": NO, |b| b.b.tricks().resets_nothing = true;
    "peer-reset" Lower UNTOLD "Watch 1 or 2": NO, |_| {};
}

/// Runs it on both nodes, each on a thread of the rig's world.
fn run_both(bench: &Bench) -> [(Exit, String, Json); 2] {
    let line = |own: &str, peer: &str| format!(r"1 --peer {peer} --name {own} --share \\FILES\LAB");
    let (b, ended) = (Arc::clone(&bench.b), Arc::new(Mutex::new(None)));
    let key = Arc::as_ptr(&ended) as usize;
    let (world, told) = (Arc::clone(bench.world.world()), Arc::clone(&ended));
    let job = move || {
        let ran = run(&b, &line("NODE-B", "node-a"));
        drop(b);
        *told.lock().expect("no panic") = Some(ran);
        world.wake(key);
    };
    bench
        .world
        .world()
        .spawn("node B", irql::PASSIVE, Box::new(job));
    let ran = run(&bench.a, &line("NODE-A", "node-b"));
    world::current().wait(key, || ended.lock().expect("no panic").is_some());
    let theirs = ended.lock().expect("no panic").take();
    [ran, theirs.expect("it ran")]
}

#[test]
fn two_nodes_keep_step_by_a_share_and_see_the_same_of_each_other() {
    for case in PEER_CASES {
        let PeerCase { id, place, why, .. } = case;
        let hive = Hive::default();
        (case.before)(&hive);
        let bench = Bench::with(*place, &hive);
        (case.after)(&bench);
        for (_, said, report) in run_both(&bench) {
            let (found, found_why) = result(&report, id);
            assert_eq!(found, case.result, "{id}, {place:?}, {why}: {said}");
            assert!(found_why.contains(why), "{id}, {why}: {found_why}");
            assert_eq!(report["undone"]["left"], Json::Null);
        }
        assert_eq!(bench.unit.holder(), None, "{id}");
        for node in ["node-a", "node-b"] {
            let file = format!(r"\\FILES\LAB\resvctl-selftest-{node}.json");
            assert_eq!(bench.a.file(&file), None, "{id}: {file}");
        }
        bench.end();
    }
}

#[test]
fn without_being_asked_to_it_sends_nothing_but_an_inquiry() {
    for place in [Place::Lower, Place::Upper] {
        let bench = Bench::new(place);
        let port = &bench.a.disk.stack.port;
        port.take_seen();
        let (exit, said, _) = run(&bench.a, "");
        assert_eq!(exit, Exit::Good, "{said}");
        let cdbs: Vec<_> = port.take_seen().into_iter().map(|seen| seen.cdb).collect();
        assert_eq!(cdbs, [[0x12, 1, 0xA0, 0, 0, 0]]);
        bench.end();
    }
}

#[test]
fn a_disk_that_another_node_holds_is_left_to_it() {
    let bench = Bench::new(Place::Upper);
    bench.b.ends("reserve 1", Exit::Good, &[]);
    let (_, said, report) = run(&bench.a, R);
    for check in CHECKS
        .iter()
        .filter(|check| check.needs == Needs::WithReserve)
    {
        let (found, why) = result(&report, check.id);
        assert_eq!(found, UNTOLD, "{said}");
        assert!(why.contains("another initiator holds the disk"), "{why}");
    }
    assert_eq!(bench.unit.holder().as_deref(), Some("B"));
    bench.end();
}

#[test]
fn the_schema_knows_the_checks_and_no_report_that_was_made_wrong() {
    let ids: Vec<_> = CHECKS.iter().map(|check| check.id).collect();
    assert_eq!(
        schema()["$defs"]["result"]["properties"]["id"]["enum"],
        json!(ids)
    );
    let bench = Bench::new(Place::Lower);
    let (_, _, good) = run(&bench.a, R);
    bench.end();
    assert!(faults(&good).is_empty());
    assert_eq!(good["results"][0]["result"], HOLDS);
    // Without a value the field is taken away.
    let wrongs = [
        ("/versions", None),
        ("/form", Some(json!(2))),
        ("/more", Some(json!(1))),
        ("/versions/kmdf", None),
        ("/versions/windows/build", Some(json!("20348"))),
        ("/disks/0/disk", Some(json!("D:"))),
        ("/disks/0/filter", Some(json!("beside"))),
        ("/results/0/id", Some(json!("luck"))),
        ("/results/0/result", Some(json!("maybe"))),
        // It holds, so that there is no reason.
        ("/results/0/result", Some(json!("cannot_tell"))),
        ("/results/0/why", Some(json!("it does"))),
        ("/results/0/result", None),
        ("/results/0/evidence", Some(json!([{ "name": "path" }]))),
        ("/undone/reserved", Some(json!(-1))),
    ];
    for (field, value) in wrongs {
        let mut report = good.clone();
        let (parent, name) = field.rsplit_once('/').expect("a pointer");
        let parent = report.pointer_mut(parent).expect("it is there");
        let parent = parent.as_object_mut().expect("an object");
        match &value {
            Some(value) => parent.insert(name.into(), value.clone()),
            None => parent.remove(name),
        };
        assert!(
            !faults(&report).is_empty(),
            "{field}, {value:?}: it is a report"
        );
    }
}
