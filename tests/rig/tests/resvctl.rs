//! The node's command line against the built `resvflt.sys` on two nodes: what a person at a prompt is told, and by which
//! exit code a script can tell it.

mod prompt;

use std::fmt::Write as _;
use std::path::Path;

use prompt::{Bench, MINUTE, Prompt};
use resvctl::Exit;
use rig::class::Place;
use rig::disk::persistent::Handling;
use rig::disk::{Data, Disk as _, Outcome};
use rig::io::Call;
use rig::node::SERVICE_KEY;
use rig::port::{Answer as PortAnswer, Shape, Timing};
use rig::registry::Hive;

#[test]
fn above_disk_sys_the_filter_serves_and_says_who_holds_the_disk() {
    let bench = Bench::new(Place::Upper);
    let (a, b) = (&bench.a, &bench.b);
    a.ends("status 1", Exit::Good, &["not known"]);
    a.ends(
        "reserve 1",
        Exit::Good,
        &["reserved for this node", "resvflt answered: GOOD (00h)"],
    );
    assert_eq!(bench.unit.holder().as_deref(), Some("A"));
    b.ends(
        "reserve E:",
        Exit::HeldByAnother,
        &[
            "error 170",
            "resvflt answered: RESERVATION CONFLICT (18h)",
            "resvctl break",
        ],
    );
    bench.wait(100);
    a.ends(
        "status e:",
        Exit::Good,
        &["held by this node (for 1 min 40 s)", "STATUS_SUCCESS"],
    );
    b.ends(
        "status 1",
        Exit::Good,
        &[
            "held by another initiator",
            "STATUS_DEVICE_BUSY (0x80000011)",
        ],
    );
    b.ends("status 1 --json", Exit::Good, &[
        r#"{"disk":"PhysicalDrive1","state":{"knowledge":"held_by_another","age_ms":100000,"last_status":"0x80000011","#,
        r#""scsi_status":24,"sense_key":null,"asc":0,"ascq":0,"cdb_length":6,"requests":1,"reserves":0,"releases":0,"conflicts":1,"#,
    ]);
    b.ends(
        "release 1",
        Exit::Good,
        &["this node does not hold it", "resvflt answered: GOOD"],
    );
    assert_eq!(bench.unit.holder().as_deref(), Some("A"));
    a.ends(
        r"release \\.\PhysicalDrive1",
        Exit::Good,
        &["this node does not hold it"],
    );
    assert_eq!(bench.unit.holder(), None);
    a.ends(
        "list",
        Exit::Good,
        &["PhysicalDrive1   filter above disk.sys; named by this disk's UpperFilters"],
    );
    bench.end();
}

#[test]
fn below_disk_sys_the_class_driver_serves_and_that_is_told() {
    let bench = Bench::new(Place::Lower);
    let (a, b) = (&bench.a, &bench.b);
    let above = "disk.sys answered, which is above the filter";
    a.ends("reserve 1", Exit::Good, &["reserved for this node", above]);
    assert_eq!(bench.unit.holder().as_deref(), Some("A"));
    b.ends("reserve 1", Exit::HeldByAnother, &[above]);
    a.ends("status 1", Exit::Good, &["not known", "requests       0"]);
    a.ends("release 1", Exit::Good, &[above]);
    assert_eq!(bench.unit.holder(), None);
    a.ends("reserve 1 --require-filter", Exit::NotServed, &[above]);
    assert_eq!(bench.unit.holder().as_deref(), Some("A"));
    b.ends("reserve 1 --require-filter", Exit::HeldByAnother, &[above]);
    a.ends("release 1 --require-filter", Exit::NotServed, &[above]);
    a.ends("list", Exit::Good, &["filter below disk.sys"]);
    assert_eq!(bench.unit.holder(), None);
    bench.end();
}

#[test]
fn without_the_filter_the_class_driver_serves_and_a_status_is_not_to_be_had() {
    let hive = Hive::default();
    hive.set(&format!(r"{SERVICE_KEY}\Parameters"), "AttachMode", 1);
    let bench = Bench::with(Place::Upper, &hive);
    let a = &bench.a;
    assert!(!a.disk.stack.is_filtered());
    let absent = "resvflt is not in this disk's stack";
    a.ends("reserve 1", Exit::Good, &["reserved for this node", absent]);
    assert_eq!(bench.unit.holder().as_deref(), Some("A"));
    a.ends("reserve 1 --require-filter", Exit::NotServed, &[absent]);
    bench.b.ends("reserve 1", Exit::HeldByAnother, &[absent]);
    a.ends("status 1", Exit::Error, &[absent, "resvctl install 1"]);
    a.ends("list", Exit::Good, &["PhysicalDrive1   no filter"]);
    bench.end();
}

#[test]
fn a_dead_holders_reservation_is_broken_and_the_next_takes_the_disk() {
    for place in [Place::Upper, Place::Lower] {
        let bench = Bench::new(place);
        let (a, b) = (&bench.a, &bench.b);
        a.ends("reserve 1", Exit::Good, &[]);
        b.ends("reserve 1", Exit::HeldByAnother, &["resvctl break"]);
        b.ends("break 1", Exit::Error, &["nothing was sent", "target 1"]);
        assert_eq!(bench.unit.holder().as_deref(), Some("A"));
        b.ends(
            "break 1 --force",
            Exit::Good,
            &["reset", "resvctl reserve 1"],
        );
        assert_eq!(bench.unit.holder(), None);
        b.ends("reserve 1", Exit::Good, &["reserved for this node"]);
        a.ends("reserve 1", Exit::HeldByAnother, &[]);
        bench.end();
    }
}

/// PERSISTENT RESERVE OUT of one service action, with type 3, Exclusive Access (SPC-4 6.16).
fn persistent_reserve_out(prompt: &Prompt, action: u8, [key, new]: [u64; 2]) {
    let list = [key.to_be_bytes(), new.to_be_bytes(), [0; 8]].concat();
    let cdb = [0x5F, action, 3, 0, 0, 0, 0, 0, 24, 0];
    let mut outcome = prompt.nexus.transfer(&cdb, Data::Out(&list), MINUTE);
    while outcome.sense().is_some_and(|sense| sense.key == 6) {
        outcome = prompt.nexus.transfer(&cdb, Data::Out(&list), MINUTE);
    }
    assert_eq!(outcome.status(), Some(0), "{outcome:?}");
}

#[test]
fn a_good_that_a_persistent_reservation_makes_worthless_is_told() {
    let bench = Bench::new(Place::Upper);
    let (a, b) = (&bench.a, &bench.b);
    bench
        .unit
        .configure(|unit| unit.handling = Handling::Compatible);
    persistent_reserve_out(a, 0, [0, 7]); // REGISTER
    persistent_reserve_out(a, 1, [7, 0]); // RESERVE
    let warning =
        "warning: the disk has a persistent reservation (Exclusive Access, key 0x0000000000000007)";
    a.ends(
        "reserve 1",
        Exit::Good,
        &["resvflt answered: GOOD", warning],
    );
    assert_eq!(bench.unit.holder(), None, "that GOOD reserved nothing");
    a.ends("status 1", Exit::Good, &[warning]);
    b.ends("status 1", Exit::Good, &[warning]);
    let (exit, told) = b.command("reserve 1");
    assert!(
        exit == Exit::HeldByAnother && !told.contains("warning"),
        "{told}"
    );
    persistent_reserve_out(a, 3, [7, 0]); // CLEAR
    b.ends(
        "status 1 --json",
        Exit::Good,
        &[r#""persistent":{"reservation":null}"#],
    );
    // Where the two exclude each other, the holder of the one is not told of the other.
    b.ends("reserve 1", Exit::Good, &[]);
    b.ends("status 1 --json", Exit::Good, &[r#""persistent":null"#]);
    bench.end();
}

#[test]
fn what_went_wrong_is_told_with_what_to_do() {
    let bench = Bench::new(Place::Upper);
    let (a, port) = (&bench.a, &bench.a.disk.stack.port);
    a.ends(
        "reserve 2",
        Exit::Error,
        &["PhysicalDrive2", "resvctl list"],
    );
    a.ends("reserve Z:", Exit::Error, &["Z:", "resvctl list"]);
    a.ends(
        "reserve F:",
        Exit::Error,
        &[
            "several disks, PhysicalDrive1, PhysicalDrive2",
            "name each disk",
        ],
    );
    a.ends("install", Exit::Usage, &["name the disks"]);
    a.ends("install c:", Exit::Error, &["PhysicalDrive0"]);
    a.ends(
        "reserve serial:7",
        Exit::Error,
        &["serial number 7", "resvctl list"],
    );
    let status = |status: u8, sense: &[u8]| {
        PortAnswer::Target(Outcome::Status {
            status,
            sense: sense.into(),
            data: Vec::new(),
        })
    };
    // Fixed format: key 4, and ASC/ASCQ 44h/00h at 12.
    let hardware = [0x70, 0, 4, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x44, 0, 0, 0, 0, 0];
    for (answers, told) in [
        (
            vec![status(8, &[]); 5],
            &["error 21", "BUSY (08h)", "try again"][..],
        ),
        (
            vec![status(2, &hardware)],
            &["error 483", "CHECK CONDITION (02h), HARDWARE ERROR 44h/00h"],
        ),
        (
            vec![PortAnswer::Target(Outcome::TimedOut)],
            &["error 121", "unknown", "no answer from the disk", "again"],
        ),
        (
            vec![PortAnswer::Target(Outcome::Gone)],
            &["error 1167", "no answer from the disk", "path"],
        ),
    ] {
        port.script(answers);
        a.ends("reserve 1", Exit::Error, told);
    }
    a.ends("status 1", Exit::Good, &["not known", "timeouts       1"]);
    bench.end();
}

#[test]
fn a_status_is_told_while_a_reserve_waits() {
    let bench = Bench::new(Place::Upper);
    let (a, stack) = (&bench.a, &bench.a.disk.stack);
    stack.port.behave(Shape::Success, Timing::Never);
    let waits = a.node.start(stack, &Call::ioctl(0x002D_4810));
    a.ends(
        "status 1",
        Exit::Good,
        &["not known", "no answer from the disk", "requests       1"],
    );
    stack.port.behave(Shape::Success, Timing::Later);
    stack.port.release();
    assert_eq!(waits.wait().status, 0);
    bench.end();
}

/// `docs/resvctl.md` between its marks.
#[test]
fn the_docs_show_a_session_that_really_ran() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/resvctl.md");
    let text = std::fs::read_to_string(&file).expect("docs/resvctl.md");
    let (head, rest) = text.split_once("<!-- session -->\n").expect("its begin");
    let (_, tail) = rest.split_once("<!-- end -->\n").expect("its end");
    let ran = format!(
        "{head}<!-- session -->\n```text\n{}```\n<!-- end -->\n{tail}",
        session()
    );
    if std::env::var_os("RESVCTL_SESSION").is_some_and(|what| what == "write") {
        std::fs::write(&file, &ran).expect("docs/resvctl.md");
    } else {
        assert_eq!(
            text, ran,
            "RESVCTL_SESSION=write cargo test --manifest-path tests/Cargo.toml -p rig --features image --test resvctl"
        );
    }
}

fn session() -> String {
    let mut text = String::new();
    let bench = Bench::new(Place::Upper);
    let mut on = |prompt: &Prompt, name: char, line: &str| {
        let (exit, printed) = prompt.command(line);
        writeln!(text, "{name}> resvctl {line}\n{printed}").expect("memory");
        if exit != Exit::Good {
            text.pop();
            writeln!(text, "{name}> echo %ERRORLEVEL%\n{}\n", exit as u8).expect("memory");
        }
    };
    on(&bench.a, 'A', "list");
    on(&bench.a, 'A', "reserve 1");
    on(&bench.b, 'B', "reserve E:");
    bench.wait(200);
    on(&bench.b, 'B', "status 1");
    on(&bench.a, 'A', "status 1 --json");
    on(&bench.a, 'A', "release 1");
    on(&bench.b, 'B', "reserve 1");
    on(&bench.a, 'A', "break 1");
    on(&bench.a, 'A', "break 1 --force");
    on(&bench.a, 'A', "reserve 1");
    bench.end();
    let bench = Bench::new(Place::Lower);
    text.push_str("... and with the filter below disk.sys:\n\n");
    for line in ["list", "reserve 1", "reserve 1 --require-filter"] {
        let (exit, printed) = bench.a.command(line);
        write!(text, "A> resvctl {line}\n{printed}").expect("memory");
        writeln!(text, "A> echo %ERRORLEVEL%\n{}\n", exit as u8).expect("memory");
    }
    bench.end();
    text.truncate(text.trim_end().len());
    text + "\n"
}
