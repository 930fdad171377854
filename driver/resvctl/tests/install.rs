//! Install and uninstall, on a machine that dies at every step, and where others change things meanwhile.

mod memory;

use memory::{ABSENT, CLASS, DISKS, Death, INSTALLED, Memory, PACKAGE, multi};
use resvctl::Exit;
use resvctl::machine::{Key, Value, kind};

const INSTALLS: [&str; 5] = [
    "install 1",
    "install 1 2 --upper",
    "install 0 1 --force",
    "install --class --force",
    "install --class --upper --force",
];

fn device(number: usize) -> Key {
    Key::Device(DISKS[number].into())
}

fn class() -> Key {
    Key::Machine(CLASS.into())
}

/// Others' filters on some of the lists; what is left out is not there.
fn machine() -> Memory {
    let machine = Memory::default();
    machine.put(&class(), "UpperFilters", Some(multi(&["partmgr"])));
    machine.put(
        &device(1),
        "LowerFilters",
        Some(multi(&["first", "second"])),
    );
    machine.put(&device(2), "UpperFilters", Some(multi(&[])));
    machine
}

fn done(machine: &Memory, line: &str) -> String {
    let (exit, out, err) = machine.command(line);
    assert_eq!((exit, err.as_str()), (Exit::Good, ""), "{line}");
    out
}

fn refused(machine: &Memory, line: &str, exit: Exit, why: &str) {
    let before = machine.lasting.borrow().clone();
    let (found, _, err) = machine.command(line);
    assert_eq!(found, exit, "{line}: {err}");
    assert!(err.contains(why), "{line}: {err}");
    assert_eq!(
        *machine.lasting.borrow(),
        before,
        "{line} changed something"
    );
}

#[test]
fn uninstall_restores_what_install_found() {
    for line in INSTALLS {
        for in_use in [false, true] {
            let machine = Memory {
                in_use,
                ..machine()
            };
            let before = machine.lasting.borrow().clone();
            done(&machine, line);
            assert_ne!(*machine.lasting.borrow(), before);
            assert!(machine.lasting.borrow().service);
            let again = done(&machine, line);
            assert!(again.contains("nothing was changed"), "{again}");
            done(&machine, "uninstall");
            machine.restart();
            assert_eq!(*machine.lasting.borrow(), before, "{line}");
        }
    }
}

#[test]
fn an_entry_goes_to_the_end_of_the_list_that_is_asked_for() {
    for (line, key, list, expected) in [
        (
            "install 1",
            device(1),
            "LowerFilters",
            &["first", "second", "resvflt"][..],
        ),
        ("install 1 --upper", device(1), "UpperFilters", &["resvflt"]),
        ("install 2 --upper", device(2), "UpperFilters", &["resvflt"]),
        (
            "install --class --force",
            class(),
            "LowerFilters",
            &["resvflt"],
        ),
        (
            "install --class --upper --force",
            class(),
            "UpperFilters",
            &["partmgr", "resvflt"],
        ),
    ] {
        let machine = machine();
        done(&machine, line);
        assert_eq!(
            machine.list(&key, list).as_deref(),
            Some(&expected.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
            "{line}"
        );
    }
}

/// The memory's own check holds at each step: no stack names a service that is not there.
#[test]
fn a_death_at_any_step_leaves_a_machine_that_starts_and_can_be_restored() {
    let mut deaths = 0;
    for line in INSTALLS {
        for (first, then) in [
            (&[line][..], &["uninstall"][..]),
            (&[line], &[line, "uninstall"]),
            (&[line, "uninstall"], &["uninstall"]),
            (&[line, "uninstall"], &[line, "uninstall"]),
        ] {
            for step in 0.. {
                let mut died = false;
                for (death, in_use) in [
                    (Death::In(step), false),
                    (Death::After(step), false),
                    (Death::After(step), true),
                ] {
                    let machine = Memory {
                        in_use,
                        ..machine()
                    };
                    let before = machine.lasting.borrow().clone();
                    machine.death.set(Some(death));
                    died |= first
                        .iter()
                        .any(|line| machine.command(line).0 != Exit::Good);
                    machine.restart();
                    for line in then {
                        done(&machine, line);
                    }
                    machine.restart();
                    assert_eq!(
                        *machine.lasting.borrow(),
                        before,
                        "{first:?}, {death:?}, {then:?}"
                    );
                    deaths += 1;
                }
                if !died {
                    break;
                }
            }
        }
    }
    assert!(deaths > 500, "{deaths}");
}

#[test]
fn what_others_changed_since_stays() {
    let machine = machine();
    done(&machine, "install 1 2");
    machine.put(
        &device(1),
        "LowerFilters",
        Some(multi(&["new", "first", "resvflt", "last"])),
    );
    machine.put(
        &device(2),
        "LowerFilters",
        Some(multi(&["RESVFLT", "theirs"])),
    );
    let told = done(&machine, "uninstall");
    assert!(
        told.contains("new, first, last") && told.contains("left: theirs"),
        "{told}"
    );
    assert_eq!(
        machine.list(&device(1), "LowerFilters").unwrap(),
        ["new", "first", "last"]
    );
    assert_eq!(
        machine.list(&device(2), "LowerFilters").unwrap(),
        ["theirs"]
    );
}

#[test]
fn a_disk_that_went_for_good_keeps_nothing_from_being_taken_back() {
    let mut machine = machine();
    done(&machine, "install 2");
    machine.put(&device(2), "LowerFilters", None);
    machine.disks.pop();
    done(&machine, "uninstall");
    assert!(!machine.lasting.borrow().service);
}

#[test]
fn the_service_stays_while_anything_names_it() {
    for key in [class(), device(0), Key::Device(ABSENT.into())] {
        let machine = machine();
        let before = machine.lasting.borrow().clone();
        done(&machine, "install 1");
        machine.put(&key, "LowerFilters", Some(multi(&["resvflt"])));
        let (exit, _, err) = machine.command("uninstall");
        assert_eq!(exit, Exit::Error);
        assert!(err.contains("the service stays"), "{err}");
        assert!(machine.lasting.borrow().service);
        machine.put(&key, "LowerFilters", None);
        done(&machine, "uninstall");
        assert_eq!(*machine.lasting.borrow(), before);
    }
}

#[test]
fn a_dry_run_tells_the_changes_and_makes_none() {
    let machine = Memory {
        elevated: false,
        ..machine()
    };
    for line in INSTALLS {
        let told = done(&machine, &format!("{line} --dry-run"));
        assert!(
            told.lines().all(|line| line.starts_with("would ")),
            "{told}"
        );
        assert!(told.contains("would add resvflt to the "), "{told}");
    }
    assert_eq!(machine.steps(), 0);
    let machine = Memory {
        elevated: true,
        ..machine
    };
    done(&machine, "install 1");
    let steps = machine.steps();
    let told = done(&machine, "uninstall --dry-run");
    assert_eq!(told.lines().count(), 3, "{told}");
    assert_eq!(machine.steps(), steps);
}

#[test]
fn what_can_go_wrong_is_refused_before_anything_is_changed() {
    let machine = machine();
    refused(&machine, "install", Exit::Usage, "older than 10 1903");
    refused(&machine, "install 0", Exit::Error, "Windows is on it");
    refused(&machine, "install --class", Exit::Error, "--force");
    refused(&machine, "install 7", Exit::Error, "resvctl list");
    machine.put(
        &device(1),
        "LowerFilters",
        Some(Value {
            kind: kind::SZ,
            ..multi(&["first"])
        }),
    );
    refused(&machine, "install 1", Exit::Error, "not a REG_MULTI_SZ");
    machine.put(&device(1), "LowerFilters", None);
    machine.lasting.borrow_mut().service = true;
    refused(&machine, "install 1", Exit::Error, "did not make");
    machine.lasting.borrow_mut().service = false;
    machine
        .lasting
        .borrow_mut()
        .files
        .insert(INSTALLED.into(), b"another".into());
    refused(&machine, "install 1", Exit::Error, "another version");
    let sys = format!(r"{PACKAGE}\resvflt.sys");
    machine.lasting.borrow_mut().files.remove(&sys);
    refused(&machine, "install 1", Exit::Error, "the package's folder");

    let machine = Memory {
        elevated: false,
        ..Memory::default()
    };
    for line in [
        "install 1",
        "uninstall",
        "exclude 1",
        "include 1",
        "verify on",
        "verify off",
    ] {
        refused(&machine, line, Exit::Error, "elevated prompt");
    }
    let machine = Memory {
        disks: vec![DISKS[0].into(), r"MPIO\DISK&VEN_X\1".into()],
        ..Memory::default()
    };
    refused(&machine, "install 1", Exit::Error, "one path");
    refused(
        &machine,
        "reserve 1",
        Exit::Error,
        "persistent reservations",
    );
}

#[test]
fn a_stack_takes_the_filter_once() {
    for (first, then) in [
        ("install 1", "install 1 --upper"),
        ("install 2 1 --upper", "install 0 1 --force"),
        ("install 1", "install --class --force"),
        ("install --class --force", "install 1"),
    ] {
        let machine = machine();
        done(&machine, first);
        refused(&machine, then, Exit::Error, "has resvflt already");
    }
    let machine = machine();
    done(&machine, "install 1");
    done(&machine, "install 2 --upper");
}

#[test]
fn a_service_that_waits_for_its_deletion_is_not_named_again() {
    let machine = Memory {
        in_use: true,
        ..machine()
    };
    done(&machine, "install 1");
    done(&machine, "uninstall");
    refused(&machine, "install 1", Exit::Error, "restart Windows");
    machine.restart();
    done(&machine, "install 1");
}

#[test]
fn a_driver_file_of_ours_is_replaced_by_a_newer_one() {
    let machine = machine();
    let before = machine.lasting.borrow().clone();
    done(&machine, "install 1");
    let sys = format!(r"{PACKAGE}\resvflt.sys");
    // The memory's check wants the two the same while a list names the service.
    machine.put(
        &device(1),
        "LowerFilters",
        Some(multi(&["first", "second"])),
    );
    machine
        .lasting
        .borrow_mut()
        .files
        .insert(sys.clone(), b"newer".into());
    done(&machine, "install 1");
    assert_eq!(machine.lasting.borrow().files[INSTALLED], b"newer");
    done(&machine, "uninstall");
    machine
        .lasting
        .borrow_mut()
        .files
        .insert(sys, b"driver".into());
    assert_eq!(*machine.lasting.borrow(), before);
}

#[test]
fn newer_windows_gets_the_driver_package_and_loses_it_again() {
    let machine = Memory {
        build: 20348,
        ..machine()
    };
    let before = machine.lasting.borrow().clone();
    done(&machine, "install --dry-run");
    assert_eq!(*machine.lasting.borrow(), before);
    done(&machine, "install");
    assert_eq!(machine.lasting.borrow().packages.len(), 1);
    assert!(!machine.lasting.borrow().service, "that is the package's");
    done(&machine, "uninstall");
    assert_eq!(*machine.lasting.borrow(), before);
    let last = machine.ran.borrow().last().cloned();
    assert_eq!(
        last.as_deref(),
        Some(r"\pnputil.exe /delete-driver oem12.inf /uninstall")
    );
    // One that somebody else installed is not ours to take back.
    machine
        .lasting
        .borrow_mut()
        .packages
        .insert("oem7.inf".into());
    assert!(done(&machine, "install").contains("nothing was changed"));
    done(&machine, "uninstall");
    assert!(machine.lasting.borrow().packages.contains("oem7.inf"));
}

#[test]
fn a_death_around_pnputil_is_taken_back_too() {
    for step in 0..4 {
        for death in [Death::In(step), Death::After(step)] {
            let machine = Memory {
                build: 20348,
                ..machine()
            };
            let before = machine.lasting.borrow().clone();
            machine.death.set(Some(death));
            machine.command("install");
            machine.restart();
            done(&machine, "uninstall");
            assert_eq!(*machine.lasting.borrow(), before, "{death:?}");
        }
    }
}

#[test]
fn exclude_and_include_tell_the_driver_by_the_hardware_key() {
    let machine = machine();
    for (line, number) in [("exclude 1", 0), ("include 1", 1)] {
        done(&machine, line);
        let values = &machine.lasting.borrow().values;
        let value = &values[&("hardware scsi\\disk\\1".into(), "ResvFltEnabled".into())];
        assert_eq!(*value, (kind::DWORD, vec![number, 0, 0, 0]));
    }
    refused(&machine, "exclude 7", Exit::Error, "resvctl list");
}

#[test]
fn driver_verifier_is_set_for_us_and_others_are_left_alone() {
    let settings =
        Key::Machine(r"SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management".into());
    let set = |machine: &Memory, drivers: &str| {
        machine.put(&settings, "VerifyDrivers", Some(Value::sz(drivers)));
    };
    let machine = Memory::default();
    done(&machine, "verify off");
    assert!(machine.ran.borrow().is_empty());
    done(&machine, "verify on");
    set(&machine, "Resvflt.sys");
    done(&machine, "verify on");
    done(&machine, "verify off");
    assert_eq!(
        *machine.ran.borrow(),
        [
            r"\verifier.exe /standard /driver resvflt.sys",
            r"\verifier.exe /standard /driver resvflt.sys",
            r"\verifier.exe /reset",
        ]
    );
    set(&machine, "other.sys resvflt.sys");
    refused(
        &machine,
        "verify on",
        Exit::Error,
        "/driver other.sys resvflt.sys",
    );
    refused(&machine, "verify off", Exit::Error, "/driver other.sys");
    assert_eq!(machine.ran.borrow().len(), 3);
}
