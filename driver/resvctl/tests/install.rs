//! Install and uninstall, on a machine whose steps fail and whose power goes, and where others change things meanwhile.

mod memory;

use memory::{
    ABSENT, CLASS, CRASH_CONTROL, DISKS, FAILED, Fault, INF, INSTALLED, Lasting, MEMORY_MANAGEMENT,
    Memory, PACKAGE, driver, machine_key, multi,
};
use resvctl::Exit;
use resvctl::machine::{Key, Value, Win32, kind};

const INSTALLS: [&str; 6] = [
    "install 1",
    "install 1 2 --upper",
    "install 0 1 --force",
    "install --all",
    "install --class --force",
    "install --class --upper --force",
];

fn device(number: usize) -> Key {
    Key::Device(DISKS[number].into())
}

fn class() -> Key {
    machine_key(CLASS)
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

fn lasting(machine: &Memory) -> Lasting {
    machine.lasting.borrow().clone()
}

fn done(machine: &Memory, line: &str) -> String {
    let (exit, out, err) = machine.command(line);
    assert_eq!((exit, err.as_str()), (Exit::Good, ""), "{line}");
    out
}

fn refused(machine: &Memory, line: &str, exit: Exit, why: &[&str]) {
    let before = lasting(machine);
    let (found, _, err) = machine.command(line);
    assert_eq!(found, exit, "{line}: {err}");
    for why in why {
        assert!(err.contains(why), "{line}: {why}: {err}");
    }
    assert_eq!(lasting(machine), before, "{line} changed something");
}

#[test]
fn uninstall_restores_what_install_found() {
    for line in INSTALLS {
        for restarts in [false, true] {
            let machine = machine();
            let before = lasting(&machine);
            let told = done(&machine, line);
            assert!(told.contains("restart Windows"), "{told}");
            assert_eq!(told.contains("Below disk.sys"), !line.contains("upper"));
            assert!(machine.service() && machine.loaded.get());
            assert_eq!(machine.losses(), 1, "{line}: what was done could be lost");
            let again = done(&machine, line);
            assert!(again.contains("nothing was changed"), "{again}");
            if restarts {
                machine.restart();
            }
            let told = done(&machine, "uninstall");
            assert!(told.contains("service: deleted") && told.contains("restart Windows"));
            assert_eq!(
                machine.losses(),
                1,
                "{line}: what was taken back could be back"
            );
            machine.restart();
            assert_eq!(lasting(&machine), before, "{line}");
            assert!(done(&machine, "uninstall").contains("installed nothing"));
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
        ("install 2 2", device(2), "LowerFilters", &["resvflt"]),
        ("install --all", device(2), "LowerFilters", &["resvflt"]),
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

#[test]
fn the_driver_is_proved_before_any_list_names_it() {
    for line in INSTALLS {
        let machine = Memory {
            image_loads: false,
            ..machine()
        };
        let before = lasting(&machine);
        let (exit, _, err) = machine.command(line);
        assert_eq!(exit, Exit::Error, "{line}");
        assert!(
            err.contains(
                "does not start: the image is not signed as this Windows wants it (error 577)"
            ) && err.contains("what was done is taken back"),
            "{line}: {err}"
        );
        assert_eq!(lasting(&machine), before, "{line}");
    }
}

/// A boot-start driver's signature has to be in its file.
#[test]
fn an_image_without_a_signature_of_its_own_is_named_only_by_force() {
    let signed = driver(b"driver");
    let sys = format!(r"{PACKAGE}\resvflt.sys");
    let changed = |at: usize, byte: u8| {
        let mut image = signed.clone();
        image[at] = byte;
        image
    };
    for unsigned in [
        b"no image".to_vec(),
        Vec::new(),
        changed(0, b'Z'),
        changed(0x80, b'Q'),
        changed(0x3C, 0xFF),
        changed(0x129, 0),
        changed(0x12C, 0),
        signed[..0x12C].to_vec(),
    ] {
        let machine = machine();
        machine.put_file(&sys, &unsigned);
        refused(
            &machine,
            "install 1",
            Exit::Error,
            &["no signature in itself", "--force"],
        );
        refused(
            &machine,
            "install --all",
            Exit::Error,
            &["no signature in itself"],
        );
        done(&machine, "install 1 --force");
    }
}

/// The memory's own check holds at each step and for each loss: no stack names a filter that does not load.
#[test]
fn a_loss_of_power_at_any_step_leaves_a_machine_that_starts_and_can_be_restored() {
    let mut losses = 0;
    for line in INSTALLS {
        for (first, then) in [
            (&[line][..], &["uninstall"][..]),
            (&[line], &[line, "uninstall"]),
            (&[line, "uninstall"], &["uninstall"]),
        ] {
            for step in 0.. {
                let breaks = |fault| {
                    let machine = machine();
                    machine.faults.borrow_mut().insert(step, fault);
                    let died = first
                        .iter()
                        .any(|line| machine.command(line).0 != Exit::Good);
                    (machine, died)
                };
                let (_, died) = breaks(Fault::PowerIn);
                for fault in [Fault::PowerIn, Fault::PowerAfter] {
                    for way in 0..breaks(fault).0.losses() {
                        let before = lasting(&machine());
                        let (machine, _) = breaks(fault);
                        machine.lose(way);
                        machine.restart();
                        for line in then {
                            done(&machine, line);
                        }
                        machine.restart();
                        let what = format!("{first:?}, {fault:?} {step}, {way}, {then:?}");
                        assert_eq!(lasting(&machine), before, "{what}");
                        losses += 1;
                    }
                }
                if !died {
                    break;
                }
            }
        }
    }
    assert!(losses > 1000, "{losses}");
}

/// What is left when a step fails and what was done before it is taken back, if nothing fails any more, if one more step
/// does, or if every later one does.
#[test]
fn a_failure_at_any_step_is_undone_or_what_is_left_is_told() {
    let (mut undone, mut left) = (0, 0);
    for line in INSTALLS {
        let whole = machine();
        let before = lasting(&whole);
        done(&whole, line);
        for step in 0..whole.steps() {
            for fault in [Fault::Fails, Fault::FailsLate] {
                let alone = (usize::MAX, usize::MAX);
                let second =
                    (step + 1..2 * whole.steps()).flat_map(|s| [(s, usize::MAX), (usize::MAX, s)]);
                for (also, from) in [alone].into_iter().chain(second) {
                    let machine = machine();
                    machine.faults.borrow_mut().insert(step, fault);
                    machine.faults.borrow_mut().insert(also, fault);
                    machine.from.set(from);
                    let (exit, _, err) = machine.command(line);
                    let what = format!("{line}, {fault:?} {step}, {also}, {from}: {err}");
                    assert_eq!(exit, Exit::Error, "{what}");
                    assert!(err.contains(&FAILED.to_string()), "{what}");
                    if err.contains("taken back\n") || err.ends_with("is taken back\n") {
                        undone += 1;
                        machine.restart();
                        assert_eq!(lasting(&machine), before, "{what}");
                    } else {
                        left += 1;
                        assert_ne!((also, from), alone, "{what}");
                        let told = err
                            .lines()
                            .find_map(|line| line.trim().strip_prefix("left: "));
                        let told = told.unwrap_or_else(|| panic!("{what}"));
                        assert!(told.starts_with("file"), "{what}");
                        let named =
                            lasting(&machine)
                                .values
                                .into_iter()
                                .any(|((_, name), (_, data))| {
                                    name.ends_with("filters")
                                        && resvctl::multi_string::contains(&data, "resvflt")
                                });
                        assert!(!named || told.contains("Filters of"), "{what}");
                        assert!(err.contains("`resvctl uninstall` takes it back"), "{what}");
                        machine.restart();
                    }
                    done(&machine, "uninstall");
                    machine.restart();
                    assert_eq!(lasting(&machine), before, "{what}");
                }
            }
        }
    }
    assert!(undone > 500 && left > 500, "{undone}, {left}");
}

#[test]
fn an_uninstall_that_fails_at_any_step_can_be_repeated() {
    for line in INSTALLS {
        let before = lasting(&machine());
        for step in 0.. {
            let machine = machine();
            done(&machine, line);
            machine.restart();
            machine.faults.borrow_mut().insert(step, Fault::FailsLate);
            let failed = machine.command("uninstall").0 != Exit::Good;
            machine.faults.borrow_mut().clear();
            done(&machine, "uninstall");
            machine.restart();
            assert_eq!(lasting(&machine), before, "{line}, {step}");
            if !failed {
                break;
            }
        }
    }
}

/// What a run wrote and could not flush is not taken for done by the next one.
#[test]
fn a_failure_and_then_a_loss_of_power_while_it_is_repeated_are_survived() {
    let before = lasting(&machine());
    let breaks = |step: usize, later: usize, fault| {
        let machine = machine();
        done(&machine, "install 1");
        machine
            .faults
            .borrow_mut()
            .insert(machine.steps() + step, Fault::FailsLate);
        let failed = machine.command("uninstall").0 != Exit::Good;
        machine
            .faults
            .borrow_mut()
            .insert(machine.steps() + later, fault);
        let died = machine.command("uninstall").0 != Exit::Good;
        (machine, failed, died)
    };
    for step in 0.. {
        if !breaks(step, 0, Fault::PowerIn).1 {
            break;
        }
        for later in 0.. {
            let (_, _, died) = breaks(step, later, Fault::PowerIn);
            for fault in [Fault::PowerIn, Fault::PowerAfter] {
                for way in 0..breaks(step, later, fault).0.losses() {
                    let (machine, ..) = breaks(step, later, fault);
                    machine.lose(way);
                    machine.restart();
                    done(&machine, "uninstall");
                    machine.restart();
                    assert_eq!(
                        lasting(&machine),
                        before,
                        "{step}, {later}, {fault:?}, {way}"
                    );
                }
            }
            if !died {
                break;
            }
        }
    }
}

#[test]
fn a_question_that_fails_leaves_nothing_half_done() {
    let mut failed = 0;
    for line in INSTALLS {
        let before = lasting(&machine());
        for (first, then) in [(&[][..], line), (&[line], "uninstall")] {
            for call in 0.. {
                let machine = machine();
                for line in first {
                    done(&machine, line);
                }
                let at = machine.calls() + call;
                machine.read_fault.set(Some(at));
                let (exit, _, err) = machine.command(then);
                assert_eq!(exit == Exit::Good, err.is_empty(), "{err}");
                failed += usize::from(exit != Exit::Good);
                if machine.calls() <= at {
                    break;
                }
                machine.restart();
                done(&machine, "uninstall");
                machine.restart();
                assert_eq!(lasting(&machine), before, "{first:?}, {then}, {call}");
            }
        }
    }
    assert!(failed > 200, "{failed}");
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
fn a_list_of_ours_alone_goes_and_an_empty_one_stays() {
    let machine = machine();
    machine.put(&device(0), "LowerFilters", Some(multi(&[])));
    done(&machine, "install 0 2 --force");
    for disk in [0, 2] {
        machine.put(&device(disk), "LowerFilters", Some(multi(&["Resvflt"])));
    }
    done(&machine, "uninstall");
    assert_eq!(machine.list(&device(0), "LowerFilters"), Some(Vec::new()));
    assert_eq!(machine.list(&device(2), "LowerFilters"), None);
}

#[test]
fn a_disk_that_went_for_good_keeps_nothing_from_being_taken_back() {
    let mut machine = machine();
    done(&machine, "install 2");
    machine.put(&device(2), "LowerFilters", None);
    machine.disks.pop();
    assert!(done(&machine, "uninstall").contains("known no more"));
    machine.restart();
    assert!(!machine.service());
}

/// A list as bytes, with an empty string in its middle.
fn broken_list(strings: &[&str]) -> Value {
    let units = strings.iter().flat_map(|s| s.encode_utf16().chain([0]));
    Value {
        kind: kind::MULTI_SZ,
        data: units.chain([0]).flat_map(u16::to_le_bytes).collect(),
    }
}

#[test]
fn the_service_stays_while_anything_names_it_and_each_place_is_told() {
    const ENUM: &str = r"SYSTEM\ControlSet002\Enum\SCSI\Disk\5";
    let other_class = r"SYSTEM\ControlSet002\Control\Class\{4d36e965-e325-11ce-bfc1-08002be10318}";
    let added = r"SYSTEM\CurrentControlSet\Enum\SCSI\Disk\2\Filters\*Lower";
    for (key, name, value) in [
        (class(), "LowerFilters", multi(&["resvflt"])),
        (class(), "UpperFilters", multi(&["partmgr", "RESVFLT"])),
        (
            device(0),
            "LowerFilters",
            multi(&["first", "Resvflt", "last"]),
        ),
        (
            device(0),
            "UpperFilters",
            broken_list(&["first", "", "resvflt"]),
        ),
        (
            Key::Device(ABSENT.into()),
            "LowerFilters",
            multi(&["resvflt"]),
        ),
        (machine_key(ENUM), "upperfilters", multi(&["resvflt"])),
        (machine_key(ENUM), "LowerFilters", Value::sz("resvflt")),
        (
            machine_key(other_class),
            "LowerFilters",
            broken_list(&["", "", "resvflt"]),
        ),
        (machine_key(added), "Resvflt", Value::dword(1)),
        (
            machine_key(r"SYSTEM\Setup\FirstBoot\Filters\x\y"),
            "z",
            multi(&["a", "resvflt"]),
        ),
        (
            machine_key(r"SYSTEM\Setup\FirstBoot\Filters\RESVFLT"),
            "z",
            Value::dword(1),
        ),
    ] {
        let machine = machine();
        let before = lasting(&machine);
        done(&machine, "install 1");
        let was = match &key {
            Key::Machine(path) if *path == CLASS && name == "UpperFilters" => {
                Some(multi(&["partmgr"]))
            }
            _ => None,
        };
        machine.put(&key, name, Some(value));
        let (exit, _, err) = machine.command("uninstall");
        assert_eq!(exit, Exit::Error);
        assert!(err.contains("the service and its file stay"), "{err}");
        assert!(machine.service() && machine.has_file(INSTALLED));
        let place = match &key {
            Key::Machine(path) => path.clone(),
            Key::Device(instance) | Key::Hardware(instance) => instance.clone(),
        };
        let place = place
            .to_lowercase()
            .replace("currentcontrolset", "controlset001");
        assert!(err.to_lowercase().contains(&place), "{place}: {err}");
        let (_, json) = machine.json("uninstall");
        assert_eq!(json["named"].as_array().map(Vec::len), Some(1), "{json}");
        machine.put(&key, name, was);
        done(&machine, "uninstall");
        machine.restart();
        assert_eq!(lasting(&machine), before);
    }
}

/// The service may be another's, but the file that it starts is the one that was copied.
#[test]
fn the_file_stays_while_anything_names_it_though_the_service_is_not_ours() {
    let machine = machine();
    for step in 0.. {
        machine.faults.borrow_mut().insert(step, Fault::PowerIn);
        machine.command("install 1");
        machine.lose(0);
        machine.restart();
        if machine.has_file(INSTALLED) {
            break;
        }
    }
    assert!(!machine.service());
    let service = machine_key(r"SYSTEM\CurrentControlSet\Services\resvflt");
    machine.put(&service, "ImagePath", Some(Value::sz("theirs")));
    machine.put(&device(2), "LowerFilters", Some(multi(&["resvflt"])));
    let (exit, _, err) = machine.command("uninstall");
    assert!(
        exit == Exit::Error && err.contains("the service and its file stay"),
        "{err}"
    );
    assert!(machine.has_file(INSTALLED));
}

#[test]
fn what_only_resembles_the_name_keeps_nothing() {
    let machine = machine();
    let before = lasting(&machine);
    done(&machine, "install 1");
    machine.put(
        &device(0),
        "LowerFilters",
        Some(multi(&["resvflt2", "xresvflt"])),
    );
    machine.put(&device(0), "FriendlyName", Some(Value::sz("resvflt")));
    let backup = r"SYSTEM\ControlSetBackup\Control\Class\{0}";
    machine.put(
        &machine_key(backup),
        "LowerFilters",
        Some(multi(&["resvflt"])),
    );
    done(&machine, "uninstall");
    machine.restart();
    assert!(!machine.service());
    for (key, name) in [
        (device(0), "LowerFilters"),
        (device(0), "FriendlyName"),
        (machine_key(backup), "LowerFilters"),
    ] {
        machine.put(&key, name, None);
    }
    assert_eq!(lasting(&machine), before);
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
            told.lines()
                .all(|line| line.starts_with("would ") || line.starts_with("left out: ")),
            "{told}"
        );
        let at = |what: &str| told.find(what).unwrap_or_else(|| panic!("{what}: {told}"));
        assert!(at("would copy") < at("would make the service"));
        assert!(at("would make the service") < at("would start the service"));
        assert!(at("would start the service") < at("would add resvflt to the "));
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
    refused(&machine, "install", Exit::Usage, &["older than 10 1903"]);
    refused(
        &machine,
        "install --upper",
        Exit::Usage,
        &["below disk.sys"],
    );
    refused(&machine, "install 7", Exit::Error, &["resvctl list"]);
    machine.put(
        &device(1),
        "LowerFilters",
        Some(Value {
            kind: kind::SZ,
            ..multi(&["first"])
        }),
    );
    refused(&machine, "install 1", Exit::Error, &["not a REG_MULTI_SZ"]);
    machine.put(&device(1), "LowerFilters", None);
    let service = machine_key(r"SYSTEM\CurrentControlSet\Services\resvflt");
    machine.put(&service, "ImagePath", Some(Value::sz("theirs")));
    refused(
        &machine,
        "install 1",
        Exit::Error,
        &["did not make", "pnputil /enum-drivers"],
    );
    machine.put(&service, "ImagePath", None);
    machine.put_file(INSTALLED, b"another");
    refused(&machine, "install 1", Exit::Error, &["another version"]);
    let sys = format!(r"{PACKAGE}\resvflt.sys");
    machine.lasting.borrow_mut().files.remove(&sys);
    refused(
        &machine,
        "install 1",
        Exit::Error,
        &["the package's folder"],
    );

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
        refused(&machine, line, Exit::Error, &["elevated prompt"]);
    }
    let machine = Memory {
        disks: vec![DISKS[0].into(), r"MPIO\DISK&VEN_X\1".into()],
        ..Memory::default()
    };
    refused(&machine, "install 1", Exit::Error, &["one path"]);
    refused(&machine, "install --all", Exit::Error, &["no other disk"]);
    refused(
        &machine,
        "break 1 --force",
        Exit::Error,
        &["persistent reservations"],
    );
    refused(
        &machine,
        "reserve 1",
        Exit::Error,
        &["persistent reservations"],
    );
    let is_asked = |(code, _): &(u32, _)| [0x2D_4810, 0x2D_5014].contains(code);
    assert!(!machine.sent.borrow().iter().any(is_asked));
}

#[test]
fn a_stack_takes_the_filter_once() {
    for (first, then) in [
        ("install 1", "install 1 --upper"),
        ("install 2 1 --upper", "install 0 1 --force"),
        ("install 1", "install --class --force"),
        ("install --class --force", "install 1"),
        ("install --class --force", "install --class --upper --force"),
    ] {
        let machine = machine();
        done(&machine, first);
        refused(
            &machine,
            then,
            Exit::Error,
            &["has resvflt already", "uninstall"],
        );
    }
    let machine = machine();
    done(&machine, "install 1");
    done(&machine, "install 2 --upper");
}

#[test]
fn a_service_that_waits_for_its_deletion_is_not_named_again() {
    let machine = machine();
    done(&machine, "install 1");
    let told = done(&machine, "uninstall");
    assert!(
        told.contains("file: in use; deleted when Windows starts"),
        "{told}"
    );
    refused(&machine, "install 1", Exit::Error, &["restart Windows"]);
    machine.restart();
    done(&machine, "install 1");
}

/// A loaded image's file can't be replaced in one step, and what the next start would load would be unproved.
#[test]
fn a_driver_that_is_in_use_is_not_replaced() {
    let machine = machine();
    let before = lasting(&machine);
    done(&machine, "install 1");
    let newer = format!(r"{PACKAGE}\resvflt.sys");
    let swap = |bytes: &[u8]| machine.put_file(&newer, bytes);
    for named in [true, false] {
        if !named {
            machine.put(
                &device(1),
                "LowerFilters",
                Some(multi(&["first", "second"])),
            );
        }
        swap(&driver(b"newer"));
        refused(
            &machine,
            "install 1",
            Exit::Error,
            &["another version, and in use", "to upgrade"],
        );
        swap(&driver(b"driver"));
    }
    // Neither named nor loaded: an interrupted install's.
    machine.loaded.set(false);
    swap(&driver(b"newer"));
    done(&machine, "install 1");
    assert_eq!(machine.lasting.borrow().files[INSTALLED], driver(b"newer"));
    done(&machine, "uninstall");
    swap(&driver(b"driver"));
    machine.restart();
    assert_eq!(lasting(&machine), before);
}

fn newer_windows() -> Memory {
    Memory {
        build: 20348,
        ..machine()
    }
}

#[test]
fn newer_windows_gets_the_driver_package_and_loses_it_again() {
    let machine = newer_windows();
    let before = lasting(&machine);
    done(&machine, "install --dry-run --force");
    assert_eq!(lasting(&machine), before);
    done(&machine, "install --force");
    assert_eq!(machine.lasting.borrow().packages.len(), 1);
    assert!(!machine.service(), "that is the package's");
    let ran = machine.ran.borrow().len();
    done(&machine, "install --force --json");
    assert!(machine.ran.borrow().len() > ran);
    done(&machine, "uninstall");
    assert_eq!(lasting(&machine), before);
    let last = machine.ran.borrow().last().cloned();
    assert_eq!(
        last.as_deref(),
        Some(r"\pnputil.exe /delete-driver oem12.inf /uninstall")
    );
}

/// Every package here calls its INF resvflt.inf.
#[test]
fn a_package_is_ours_by_provider_class_and_catalog() {
    let utf16: Vec<u8> = ["\u{feff}", INF]
        .concat()
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for (theirs, ours) in [
        (
            INF.replace("resvflt; project", "another project")
                .into_bytes(),
            false,
        ),
        (INF.replace("69-97454c", "69-97454d").into_bytes(), false),
        (INF.replace("resvflt.cat", "other.cat").into_bytes(), false),
        (
            INF.replace("CatalogFile", "; CatalogFile").into_bytes(),
            false,
        ),
        (INF.replace("[Version]", "[Other]").into_bytes(), false),
        (b"no INF".to_vec(), false),
        (
            INF.replace("CatalogFile", "catalogfile.NTamd64")
                .into_bytes(),
            true,
        ),
        (INF.replace("E2F84CE7", "e2f84ce7").into_bytes(), true),
        (utf16, true),
    ] {
        let machine = newer_windows();
        done(&machine, "install --force");
        machine.put_file(r"C:\Windows\INF\oem7.inf", &theirs);
        machine
            .lasting
            .borrow_mut()
            .packages
            .insert("oem7.inf".into());
        let told = done(&machine, "uninstall");
        assert!(
            told.contains("oem12.inf") && told.contains("oem7.inf") == ours,
            "{told}"
        );
        assert_eq!(
            machine.lasting.borrow().packages.contains("oem7.inf"),
            !ours
        );
    }
    // One that somebody else installed is not ours to take back.
    let machine = newer_windows();
    machine.put_file(r"C:\Windows\INF\oem7.inf", INF.as_bytes());
    machine
        .lasting
        .borrow_mut()
        .packages
        .insert("oem7.inf".into());
    assert!(done(&machine, "install --force").contains("nothing was changed"));
    done(&machine, "uninstall");
    assert!(machine.lasting.borrow().packages.contains("oem7.inf"));
    machine.put_file(&format!(r"{PACKAGE}\resvflt.inf"), b"[Version]");
    refused(
        &machine,
        "install --force",
        Exit::Error,
        &["has no Provider"],
    );
    machine
        .lasting
        .borrow_mut()
        .files
        .remove(&format!(r"{PACKAGE}\resvflt.inf"));
    refused(
        &machine,
        "install --force",
        Exit::Error,
        &["is not there", "package's folder"],
    );
}

#[test]
fn a_package_stays_while_a_list_needs_its_service() {
    let machine = newer_windows();
    done(&machine, "install --force");
    let added = machine_key(r"SYSTEM\CurrentControlSet\Enum\SCSI\Disk\2\Filters\*Lower");
    machine.put(&added, "resvflt", Some(Value::dword(1)));
    machine.put(&device(1), "UpperFilters", Some(multi(&["resvflt"])));
    let (exit, _, err) = machine.command("uninstall");
    assert!(
        exit == Exit::Error && err.contains("upperfilters") && !err.contains("*lower"),
        "{err}"
    );
    assert_eq!(machine.lasting.borrow().packages.len(), 1);
    machine.put(&device(1), "UpperFilters", None);
    done(&machine, "uninstall");
    assert!(machine.lasting.borrow().packages.is_empty());
}

#[test]
fn a_failure_around_pnputil_is_taken_back_too() {
    for step in 0..6 {
        for fault in [
            Fault::PowerIn,
            Fault::PowerAfter,
            Fault::Fails,
            Fault::FailsLate,
        ] {
            let machine = newer_windows();
            let before = lasting(&machine);
            machine.faults.borrow_mut().insert(step, fault);
            let (exit, _, err) = machine.command("install --force");
            if exit != Exit::Good && matches!(fault, Fault::Fails | Fault::FailsLate) {
                assert!(err.contains("what was done is taken back"), "{err}");
                assert_eq!(lasting(&machine), before, "{fault:?} {step}");
            }
            machine.restart();
            done(&machine, "uninstall");
            assert_eq!(lasting(&machine), before, "{fault:?} {step}");
        }
    }
}

/// Everything that Windows itself needs is on a disk of its own.
fn spread() -> Memory {
    let mut machine = Memory {
        disks: (0..8).map(|n| format!(r"SCSI\DISK\{n}")).collect(),
        descriptors: vec![("", 11); 8],
        build: 20348,
        ..Memory::default()
    };
    let volumes = [
        ("c:", vec![0]),
        (r"globalroot\device\harddiskvolume1", vec![1]),
        ("p:", vec![2, 3]),
        (r"globalroot\device\harddiskvolume9", vec![4]),
        ("volume{0}", vec![5]),
    ];
    machine.volumes = volumes.map(|(name, disks)| (name.to_owned(), disks)).into();
    let paging = machine_key(MEMORY_MANAGEMENT);
    let now = multi(&[
        r"\??\P:\pagefile.sys",
        r"\Device\HarddiskVolume9\pagefile.sys",
    ]);
    machine.put(&paging, "ExistingPageFiles", Some(now));
    let next = multi(&[
        r"?:\pagefile.sys",
        r"c:\pagefile.sys 0 0",
        r"Z:\gone.sys 0 0",
    ]);
    machine.put(&paging, "PagingFiles", Some(next));
    let dump = machine_key(CRASH_CONTROL);
    machine.put(
        &dump,
        "DedicatedDumpFile",
        Some(Value::sz(r"\??\Volume{0}\dump.sys")),
    );
    machine.put(
        &dump,
        "DumpFile",
        Some(Value::sz(r"%SystemRoot%\MEMORY.DMP")),
    );
    machine
}

const NEEDED: [&str; 6] = [
    "PhysicalDrive0 (boot, paging, dump)",
    "PhysicalDrive1 (system)",
    "PhysicalDrive2 (paging)",
    "PhysicalDrive3 (paging)",
    "PhysicalDrive4 (paging)",
    "PhysicalDrive5 (dump)",
];

#[test]
fn no_command_line_puts_it_on_a_disk_that_windows_needs_without_force() {
    let machine = spread();
    for line in [
        "install",
        "install --class",
        "install --class --upper",
        "install 0 1 2 3 4 5 6",
    ] {
        refused(&machine, line, Exit::Error, &NEEDED);
        refused(&machine, line, Exit::Error, &["--force does it"]);
    }
    for (disk, needed) in NEEDED.iter().enumerate() {
        for line in ["install 6", "install --upper 6", "include"] {
            refused(&machine, &format!("{line} {disk}"), Exit::Error, &[needed]);
        }
    }
    refused(&machine, "install", Exit::Error, &["install --all"]);
    refused(&machine, "install C: 6", Exit::Error, &NEEDED[..1]);
    let told = done(&machine, "install --all");
    for needed in NEEDED {
        assert!(told.contains(&format!("left out: {needed}\n")), "{told}");
    }
    for disk in 0..8 {
        let list = machine.list(&Key::Device(format!(r"SCSI\DISK\{disk}")), "LowerFilters");
        assert_eq!(list.is_some(), disk > 5, "{disk}");
    }
    let told = done(&machine, "list");
    assert!(
        told.contains("no filter") || told.contains("Windows' own (boot, paging, dump)"),
        "{told}"
    );
    for line in [
        "include 6",
        "exclude 0",
        "include 0 --force",
        "install 0 --force",
    ] {
        done(&machine, line);
    }
}

#[test]
fn boot_is_what_the_system_really_booted_from() {
    let mut machine = spread();
    // C: is a VHD, whose file is on F:, which is a VHD, whose parent is on G:.
    machine.descriptors[0].1 = 15;
    machine.descriptors[6].1 = 15;
    machine.hosts = [
        (0, vec![r"\\?\Volume{f}\".to_owned()]),
        (6, vec![r"\\?\Volume{g}\".to_owned()]),
    ]
    .into();
    machine.volumes.insert("volume{f}".into(), vec![6]);
    machine.volumes.insert("volume{g}".into(), vec![7]);
    refused(
        &machine,
        "install 7",
        Exit::Error,
        &["PhysicalDrive7 (boot, paging, dump)"],
    );
    refused(
        &machine,
        "install 6",
        Exit::Error,
        &["PhysicalDrive6 (boot, paging, dump)"],
    );
    refused(&machine, "install --all", Exit::Error, &["no other disk"]);
}

#[test]
fn what_can_not_be_told_counts_as_needed() {
    type Change = fn(&mut Memory);
    let changes: [(Change, &str); 10] = [
        (
            |m| drop(m.volumes.remove("c:")),
            r"the disk of \\?\C: (boot): there is no such thing",
        ),
        (
            |m| drop(m.volumes.insert("c:".into(), Vec::new())),
            r"the disk of \\?\C: (boot)",
        ),
        (
            |m| m.put(&machine_key(r"SYSTEM\Setup"), "SystemPartition", None),
            "has no SystemPartition",
        ),
        (
            |m| {
                let odd = Value::sz("multi(0)disk(0)");
                m.put(&machine_key(r"SYSTEM\Setup"), "SystemPartition", Some(odd));
            },
            "has no SystemPartition",
        ),
        (
            |m| {
                let file = multi(&["UNC"]);
                m.put(
                    &machine_key(MEMORY_MANAGEMENT),
                    "ExistingPageFiles",
                    Some(file),
                );
            },
            "the disk of UNC (paging)",
        ),
        (
            |m| {
                let file = Value::sz(r"%X%\dump.sys");
                m.put(&machine_key(CRASH_CONTROL), "DumpFile", Some(file));
            },
            r"the disk of %X%\dump.sys (dump)",
        ),
        (
            |m| m.descriptors.clear(),
            "what is below PhysicalDrive0 (boot)",
        ),
        (
            |m| m.descriptors[2].1 = 16,
            "the storage space PhysicalDrive2 (paging)",
        ),
        (
            |m| m.descriptors[0].1 = 15,
            "the virtual disk PhysicalDrive0 (boot): the disk is no file",
        ),
        (
            |m| {
                m.descriptors[0].1 = 14;
                m.hosts.insert(0, Vec::new());
            },
            "the file of the virtual disk PhysicalDrive0 (boot)",
        ),
    ];
    for (change, told) in changes {
        let mut machine = spread();
        change(&mut machine);
        for line in [
            "install 7",
            "install --all",
            "install",
            "install --class",
            "include 7",
        ] {
            refused(
                &machine,
                line,
                Exit::Error,
                &["not told: ", told, "--force does it"],
            );
        }
        done(&machine, "install 7 --force");
    }
}

#[test]
fn exclude_and_include_tell_the_driver_by_the_hardware_key() {
    let machine = machine();
    for (line, number, will) in [
        ("exclude 1", 0, "leaves it alone"),
        ("include 1", 1, "attaches to it"),
    ] {
        assert!(done(&machine, line).contains(will));
        let values = &machine.lasting.borrow().values;
        let key = r"hklm\system\controlset001\enum\scsi\disk\1\device parameters";
        let value = &values[&(key.into(), "resvfltenabled".into())];
        assert_eq!(*value, (kind::DWORD, vec![number, 0, 0, 0]));
    }
    assert!(done(&machine, "exclude 1").contains("ResvFltEnabled = 0"));
    assert!(done(&machine, "list").contains("excluded (ResvFltEnabled = 0)"));
    refused(&machine, "exclude 7", Exit::Error, &["resvctl list"]);
}

#[test]
fn driver_verifier_is_set_for_us_and_others_are_left_alone() {
    let settings = machine_key(MEMORY_MANAGEMENT);
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
        &["/driver other.sys resvflt.sys"],
    );
    refused(&machine, "verify off", Exit::Error, &["/driver other.sys"]);
    assert_eq!(machine.ran.borrow().len(), 3);
}

#[test]
fn an_error_of_windows_is_told_with_its_number() {
    for error in [FAILED, Win32::ACCESS_DENIED, Win32::NO_SUCH_DEVINST] {
        let text = error.to_string();
        let number = if error.0 < 0x1_0000 {
            format!("(error {})", error.0)
        } else {
            format!("(error {:#010x})", error.0)
        };
        assert!(text.ends_with(&number), "{text}");
    }
}
