//! The walk through all faults, a part of it that takes seconds; and that it would find something.

use std::path::PathBuf;
use std::process::Command;

use rig::faults::{self, Done, GROUPS, Options, Report};
use rig::world::{Schedule, World};
use rig::{image, rules};

fn quick(image: PathBuf, only: Option<&str>) -> Options {
    Options {
        image,
        quick: true,
        only: only.map(str::to_owned),
        from: 0,
    }
}

fn walk(options: &Options) -> Vec<(&'static str, Done)> {
    let mut walked = Vec::new();
    faults::walk(options, |report| {
        if let Report::End(group, done) = report {
            let name = GROUPS.iter().find(|known| known.name == group.name);
            walked.push((name.expect("it is one of them").name, done.clone()));
        }
    })
    .expect("the image is there, and so is the group");
    walked
}

#[test]
fn nothing_that_goes_wrong_keeps_a_disk_from_working_or_a_caller_from_its_status() {
    let walked = walk(&quick(image::built(), None));
    assert_eq!(walked.len(), GROUPS.len());
    for (name, done) in walked {
        println!("{name}: {} cases, {:.1?}", done.cases, done.elapsed);
        let failures: Vec<_> = done.failures.iter().map(ToString::to_string).collect();
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        assert!(done.cases >= 100, "{name}: {} cases", done.cases);
    }
}

/// The built driver with another status for a conflict.
fn driver_with_a_wrong_status() -> PathBuf {
    let mut bytes = image::read(&image::built()).expect("the driver was built");
    let (right, wrong) = (0x8000_0011_u32.to_le_bytes(), 0x8000_0012_u32.to_le_bytes());
    let places: Vec<_> = (0..bytes.len() - right.len())
        .filter(|&at| bytes[at..].starts_with(&right))
        .collect();
    assert!(!places.is_empty(), "the image holds STATUS_DEVICE_BUSY");
    for at in places {
        bytes[at..at + right.len()].copy_from_slice(&wrong);
    }
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("wrong-status.sys");
    std::fs::write(&file, bytes).expect("the folder for tests is writable");
    file
}

#[test]
fn a_case_that_does_not_hold_is_named_by_the_options_that_repeat_it() {
    let image = driver_with_a_wrong_status();
    let walked = walk(&quick(image.clone(), Some("statuses")));
    let first = &walked[0].1.failures[0];
    assert!(first.to_string().starts_with("--only statuses --from "));
    assert!(first.to_string().contains("80000012"), "{first}");
    let options = Options {
        from: first.number,
        ..quick(image, Some("statuses"))
    };
    let again = walk(&options);
    assert_eq!(again[0].1.failures[0].number, first.number);
}

#[test]
fn a_broken_rule_names_the_case_that_broke_it() {
    const CHILD: &str = "RIG_TEST_CHILD";
    const CASE: &str = "--only calls --from 7";
    if std::env::var_os(CHILD).is_some() {
        let world = World::enter(Schedule::Orderly);
        CASE.clone_into(&mut world.world().faults.lock().expect("nobody has it").case);
        rules::broken(&rules::HANG, "a test");
    }
    let child = Command::new(std::env::current_exe().expect("a test program has a name"))
        .args(["a_broken_rule_names_the_case_that_broke_it", "--exact"])
        .env(CHILD, "1")
        .output()
        .expect("a test program can be run");
    let said = String::from_utf8_lossy(&child.stderr);
    assert_eq!(child.status.code(), Some(rules::EXIT_STATUS), "{said}");
    assert!(said.contains(CASE), "{said}");
}
