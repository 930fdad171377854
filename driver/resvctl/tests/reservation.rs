//! What `reserve`, `release`, `status` and `break` say and end with, whoever answers what; for programs, too.

mod memory;

use memory::{CLASS, DISKS, Memory, machine_key, multi};
use resvctl::Exit;
use resvctl::machine::{Key, Value, Win32};
use scsi_reserve::state::VERSION_1_SIZE;
use serde_json::{Value as Json, json};

/// A filter's answer after no request: its counts don't move in this memory.
fn state() -> Vec<u8> {
    let mut bytes = vec![0; VERSION_1_SIZE];
    (bytes[0], bytes[4], bytes[24]) = (1, 96, 0xFF);
    bytes
}

/// READ RESERVATION's data: one reservation of this type, held with this key.
fn reservation(kind: u8, key: u64) -> Vec<u8> {
    let (mut data, key) = (vec![0; 24], key.to_be_bytes());
    (data[3], data[7], data[21]) = (9, 16, kind);
    data[8..16].copy_from_slice(&key);
    data
}

#[test]
fn a_script_can_go_by_the_exit_code() {
    let [good, conflict, busy] = [Ok(()), Err(Win32::BUSY), Err(Win32::NOT_READY)];
    let [absent, there, odd, silent] = [
        (None, None),
        (Some(state()), None),
        (Some(vec![1]), None),
        (None, Some(Win32::IO_DEVICE)),
    ];
    let [class, unknown] = ["disk.sys", "unknown"];
    for (served, filter, flag, exit, server) in [
        (good, &absent, "", Exit::Good, class),
        (good, &there, "", Exit::Good, class),
        (good, &odd, "", Exit::Good, unknown),
        (good, &silent, "", Exit::Good, unknown),
        (good, &absent, "--require-filter", Exit::NotServed, class),
        (good, &there, "--require-filter", Exit::NotServed, class),
        (good, &odd, "--require-filter", Exit::NotServed, unknown),
        (good, &silent, "--require-filter", Exit::NotServed, unknown),
        (conflict, &absent, "", Exit::HeldByAnother, class),
        (conflict, &silent, "", Exit::HeldByAnother, unknown),
        (
            conflict,
            &there,
            "--require-filter",
            Exit::HeldByAnother,
            class,
        ),
        (busy, &silent, "--require-filter", Exit::Error, unknown),
    ] {
        for (operation, code) in [("reserve", 0x2D_4810), ("release", 0x2D_4814)] {
            let (answer, query_error) = filter.clone();
            let machine = Memory {
                answer,
                query_error,
                served,
                ..Memory::default()
            };
            let line = format!("{operation} 1 {flag}");
            let (found, told) = machine.json(&line);
            assert_eq!(found, exit, "{line}: {told}");
            assert_eq!(told["served_by"], server, "{line}: {told}");
            assert_eq!(told["done"], served.is_ok(), "{line}: {told}");
            assert_eq!(told["operation"], operation);
            let sent = machine.sent.borrow();
            assert_eq!(
                sent.iter().filter(|(sent, _)| *sent == code).count(),
                1,
                "{line}"
            );
            if let Err(error) = served {
                assert_eq!(
                    (&told["win32"], &told["exit"]),
                    (&error.0.into(), &(exit as u8).into())
                );
            }
        }
    }
}

#[test]
fn the_filter_served_what_its_count_of_requests_grew_by() {
    let mut counted = state();
    counted[32] = 1;
    counted[24] = 0;
    for (answer, then, server, who) in [
        (
            Some(state()),
            Some(counted.clone()),
            "resvflt",
            "resvflt answered: GOOD (00h)",
        ),
        (
            Some(counted.clone()),
            Some(state()),
            "disk.sys",
            "above the filter",
        ),
        (
            None,
            Some(state()),
            "unknown",
            "the disk's stack was built anew",
        ),
        (
            Some(state()),
            None,
            "unknown",
            "the disk's stack was built anew",
        ),
    ] {
        for line in ["reserve 1 --require-filter", "release 1 --require-filter"] {
            let machine = Memory {
                answer: answer.clone(),
                answer_changes: true,
                answer_then: then.clone(),
                ..Memory::default()
            };
            let (exit, json) = machine.json(line);
            let good = server == "resvflt";
            assert_eq!(
                exit,
                if good { Exit::Good } else { Exit::NotServed },
                "{json}"
            );
            assert_eq!(json["served_by"], server);
            assert_eq!(json["state"].is_null(), then.is_none());
            machine.sent.borrow_mut().clear();
            let (_, out, _) = machine.command(line);
            assert!(out.contains(who), "{who}: {out}");
        }
    }
}

/// What `status` makes of an answer, in words and for a program.
fn told(bytes: &[u8]) -> (String, Json) {
    let machine = Memory {
        answer: Some(bytes.to_vec()),
        time: 50_000_100,
        ..Memory::default()
    };
    let (_, json) = machine.json("status 1");
    (machine.command("status 1").1, json["state"].clone())
}

#[test]
fn a_status_tells_by_which_parameters_the_filter_works_and_where_its_knowledge_came_from() {
    let mut bytes = state();
    bytes[88] = 10;
    let more = |knowledge: u8, watch: u8, origin: u8| {
        let mut bytes = bytes.clone();
        (bytes[0], bytes[4], bytes[16]) = (2, 112, knowledge);
        bytes.extend([10, 0, 0, 0, 0xE8, 3, 0, 0, 5, 0, 0, 0, 4, 1, watch, origin]);
        told(&bytes)
    };
    for (knowledge, watch, origin, word, words) in [
        (
            1,
            1,
            1,
            json!("watched"),
            Some("another's request, which passed the filter"),
        ),
        (1, 2, 0, json!("own"), Some("the filter's own request")),
        (0, 1, 0, json!(null), Some("nothing")),
        (3, 0, 0, json!("own"), None),
    ] {
        let (text, json) = more(knowledge, watch, origin);
        let known = words.map(|words| format!("  watched        5\n  known from     {words}\n"));
        assert!(
            text.ends_with(&known.unwrap_or_else(|| "cancels        10\n".into())),
            "{text}"
        );
        assert_eq!(
            json["more"],
            json!({ "origin": word, "watched": 5, "parameters": { "timeout_seconds": 10, "max_retries": 4,
                "retry_delay_ms": 1000, "reserve10_fallback": 1, "watch": watch } })
        );
    }
}

#[test]
fn a_status_tells_what_the_filter_knows() {
    let mut bytes = state();
    for (at, count) in (32..96).step_by(8).zip(3..) {
        bytes[at] = count;
    }
    bytes[8] = 100;
    (bytes[20..24]).copy_from_slice(&0x8000_0011_u32.to_le_bytes());
    bytes[28] = 10;
    for (knowledge, words, word) in [
        (0, "not known", "unknown"),
        (1, "held by this node", "held_by_us"),
        (
            2,
            "not held by this node; it is free, or another's",
            "not_ours",
        ),
        (3, "held by another initiator", "held_by_another"),
        (9, "not known", "unknown"),
    ] {
        bytes[16] = knowledge;
        let (text, json) = told(&bytes);
        assert_eq!(
            text,
            format!(
                "PhysicalDrive1: {words} (for 5 s)\n  last answer    no answer from the disk\n  \
                 last request   STATUS_DEVICE_BUSY (0x80000011)\n  next command   RESERVE(10)\n  \
                 requests       3\n  reserves       4\n  releases       5\n  conflicts      6\n  \
                 retries        7\n  attentions     8\n  timeouts       9\n  cancels        10\n"
            )
        );
        assert_eq!(
            json,
            json!({ "knowledge": word, "age_ms": 5000, "last_status": "0x80000011", "scsi_status": null, "sense_key": 0,
                "asc": 0, "ascq": 0, "cdb_length": 10, "requests": 3, "reserves": 4, "releases": 5, "conflicts": 6,
                "retries": 7, "unit_attentions": 8, "timeouts": 9, "cancels": 10, "more": null })
        );
    }
    bytes[25] = 0xFF;
    for (status, words) in [
        (0x00, "GOOD (00h)"),
        (0x02, "CHECK CONDITION (02h)"),
        (0x08, "BUSY (08h)"),
        (0x18, "RESERVATION CONFLICT (18h)"),
        (0x28, "TASK SET FULL (28h)"),
        (0x30, "ACA ACTIVE (30h)"),
        (0x40, "TASK ABORTED (40h)"),
        (0x04, "status (04h)"),
    ] {
        bytes[24] = status;
        let (text, json) = told(&bytes);
        assert!(
            text.contains(&format!("  last answer    {words}\n")),
            "{text}"
        );
        assert_eq!(
            (&json["scsi_status"], &json["sense_key"]),
            (&status.into(), &Json::Null)
        );
    }
    (bytes[24], bytes[25], bytes[26], bytes[27]) = (2, 6, 0x29, 3);
    let (text, json) = told(&bytes);
    assert!(
        text.contains("CHECK CONDITION (02h), UNIT ATTENTION 29h/03h\n"),
        "{text}"
    );
    assert_eq!((&json["asc"], &json["ascq"]), (&0x29.into(), &3.into()));
    (bytes[20..24]).copy_from_slice(&0xC0FF_1234_u32.to_le_bytes());
    assert!(told(&bytes).0.contains("NTSTATUS (0xc0ff1234)"));
}

#[test]
fn a_list_tells_where_the_filter_is() {
    for (stack, place, words) in [
        (
            &["partmgr", "resvflt", "disk", "storport"][..],
            "above",
            "filter above disk.sys; by a driver package",
        ),
        (
            &["DISK", "ResvFlt", "storport"],
            "below",
            "filter below disk.sys; by a driver package",
        ),
        (
            &["resvflt", "storport"],
            "below",
            "filter below disk.sys; by a driver package",
        ),
        (&["disk", "resvflt2"], "none", "no filter\n"),
        (&[], "untold", "its stack is not told\n"),
    ] {
        let drivers = stack
            .iter()
            .map(|name| format!(r"\Driver\{name}"))
            .collect();
        let machine = Memory {
            stacks: [(DISKS[1].to_owned(), drivers)].into(),
            ..Memory::default()
        };
        let (_, json) = machine.json("list");
        assert_eq!(json["disks"][1]["filter"], place);
        let (_, out, _) = machine.command("list");
        assert!(
            out.contains(&format!("PhysicalDrive1   {words}")),
            "{words}: {out}"
        );
    }
}

#[test]
fn a_person_is_told_who_answered_and_what_to_do() {
    for (answer, query_error, who) in [
        (
            None,
            None,
            "disk.sys answered: resvflt is not in this disk's stack",
        ),
        (
            Some(state()),
            None,
            "disk.sys answered, which is above the filter",
        ),
        (
            None,
            Some(Win32::ACCESS_DENIED),
            "who answered is not known: PhysicalDrive1: the query",
        ),
        (
            Some(vec![9; 12]),
            None,
            "who answered is not known: PhysicalDrive1: resvflt's answer has another form",
        ),
    ] {
        for (served, told) in [
            (Ok(()), &["reserved for this node"][..]),
            (
                Err(Win32::BUSY),
                &[
                    "another initiator holds the disk (error 170)",
                    "its holder has to release it",
                    "resvctl break",
                ],
            ),
            (
                Err(Win32::SEM_TIMEOUT),
                &["(error 121)", "then reserve or release again"],
            ),
            (
                Err(Win32::DEVICE_NOT_CONNECTED),
                &["(error 1167)", "look after the path"],
            ),
            (Err(Win32::NOT_READY), &["(error 21)", "try again later"]),
            (
                Err(Win32::NO_SYSTEM_RESOURCES),
                &["(error 1450)", "try again later"],
            ),
            (Err(Win32::ACCESS_DENIED), &["(error 5)", "elevated prompt"]),
        ] {
            let machine = Memory {
                answer: answer.clone(),
                query_error,
                served,
                ..Memory::default()
            };
            let (_, out, err) = machine.command("reserve 1");
            let text = [out, err].concat();
            for told in told.iter().chain([&who]) {
                assert!(text.contains(told), "{told}: {text}");
            }
        }
    }
}

#[test]
fn a_persistent_reservation_makes_good_worthless_and_is_told() {
    let none = json!({ "reservation": null });
    let some = |kind: Option<&str>, key: Option<&str>| json!({ "reservation": { "kind": kind, "key": key } });
    let short = |length: usize| {
        let mut data = reservation(1, 2);
        data.truncate(length);
        Ok(data)
    };
    let key = Some("0x0123456789abcdef");
    let held = |kind| Ok(reservation(kind, 0x0123_4567_89ab_cdef));
    for (answer, told) in [
        (Ok(vec![0, 0, 0, 9, 0, 0, 0, 0]), none),
        (held(0x01), some(Some("Write Exclusive"), key)),
        (held(0x03), some(Some("Exclusive Access"), key)),
        (
            held(0x05),
            some(Some("Write Exclusive, Registrants Only"), key),
        ),
        (
            held(0x06),
            some(Some("Exclusive Access, Registrants Only"), key),
        ),
        (
            held(0x07),
            some(Some("Write Exclusive, All Registrants"), key),
        ),
        (
            held(0x08),
            some(Some("Exclusive Access, All Registrants"), key),
        ),
        (held(0x12), some(None, key)),
        (short(8), some(None, None)),
        (short(16), some(None, Some("0x0000000000000002"))),
        // These say nothing.
        (short(7), Json::Null),
        (Ok(vec![]), Json::Null),
        (Err(Win32::BUSY), Json::Null),
        (Err(Win32::INVALID_FUNCTION), Json::Null),
        (Err(Win32::IO_DEVICE), Json::Null),
    ] {
        let machine = Memory {
            persistent: answer.clone(),
            answer: Some(state()),
            ..Memory::default()
        };
        for line in ["reserve 1", "status 1", "break 1 --force"] {
            let (exit, json) = machine.json(line);
            assert_eq!(
                (exit, &json["persistent"]),
                (Exit::Good, &told),
                "{line} {answer:?}"
            );
            let (_, out, _) = machine.command(line);
            let warned = out.contains("warning: the disk has a persistent reservation (");
            assert_eq!(warned, told["reservation"].is_object(), "{line}: {out}");
            for field in ["kind", "key"] {
                let field = told["reservation"][field].as_str().unwrap_or_default();
                assert!(out.contains(field), "{out}");
            }
        }
        // Nothing was granted that could be worthless.
        machine.sent.borrow_mut().clear();
        machine.command("release 1");
        let machine = Memory {
            served: Err(Win32::BUSY),
            ..machine
        };
        machine.command("reserve 1");
        assert!(
            machine
                .sent
                .borrow()
                .iter()
                .all(|(code, _)| *code != 0x2D_5018)
        );
    }
}

#[test]
fn without_the_filter_a_status_is_an_error_that_tells_what_else_is_known() {
    let persistent = Ok(reservation(3, 1));
    let machine = Memory {
        persistent,
        ..Memory::default()
    };
    let (exit, out, err) = machine.command("status 1");
    assert_eq!((exit, out.as_str()), (Exit::Error, ""));
    for told in [
        "resvflt is not in this disk's stack",
        "`resvctl install 1` puts it there",
        "Exclusive Access",
    ] {
        assert!(err.contains(told), "{told}: {err}");
    }
    let (_, json) = machine.json("status 1");
    assert_eq!(json["state"], Json::Null);
    assert_eq!(json["exit"], 1);
    assert_eq!(
        json["persistent"]["reservation"]["kind"],
        "Exclusive Access"
    );
    assert_eq!(json["hints"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        json["error"],
        "PhysicalDrive1: resvflt is not in this disk's stack"
    );
}

#[test]
fn a_reservation_is_broken_only_by_force_and_who_is_hurt_is_told_first() {
    let machine = Memory {
        answer: Some(state()),
        ..Memory::default()
    };
    let told = [
        "port 2, path 3, target 1, logical unit 5",
        "the logical unit is reset",
        "the whole bus",
        "every initiator",
        "is dead",
    ];
    let (exit, out, err) = machine.command("break 1");
    assert_eq!((exit, out.as_str()), (Exit::Error, ""));
    for told in told.iter().chain(&["nothing was sent", "--force does it"]) {
        assert!(err.contains(told), "{told}: {err}");
    }
    assert!(
        machine
            .sent
            .borrow()
            .iter()
            .all(|(code, _)| *code != 0x2D_5014)
    );
    let (exit, out, _) = machine.command("break 1 --force");
    assert_eq!(exit, Exit::Good);
    let reset = out.find("PhysicalDrive1: reset.").expect("its line");
    for told in told {
        assert!(out.find(told).is_some_and(|at| at < reset), "{told}: {out}");
    }
    for told in ["`resvctl reserve 1`", "not known", "requests       0"] {
        assert!(out.find(told).is_some_and(|at| at > reset), "{told}: {out}");
    }
    let sent = machine.sent.borrow().clone();
    let requests: Vec<_> = sent.iter().filter(|(code, _)| *code == 0x2D_5014).collect();
    // STORAGE_BREAK_RESERVATION_REQUEST: Length, a byte unused, PathId, TargetId, Lun.
    assert_eq!(requests, [&(0x2D_5014, vec![8, 0, 0, 0, 0, 3, 1, 5])]);
    let (_, json) = machine.json("break 1 --force");
    assert_eq!(
        json["address"],
        json!({ "port": 2, "path": 3, "target": 1, "lun": 5 })
    );
    assert_eq!(
        (&json["sent"], &json["state"]["knowledge"]),
        (&true.into(), &"unknown".into())
    );
    let (_, json) = machine.json("break 1");
    assert_eq!((&json["sent"], &json["exit"]), (&false.into(), &1.into()));

    let machine = Memory {
        served: Err(Win32::NOT_SUPPORTED),
        ..machine
    };
    let (exit, out, err) = machine.command("break 1 --force");
    assert!(
        exit == Exit::Error && err.contains("(error 50)") && !out.contains("reset. Who"),
        "{out}{err}"
    );
}

/// Every command, so that each is one object; what each tells beyond that is with the command.
#[test]
fn every_command_tells_a_program_in_one_object() {
    let machine = Memory {
        answer: Some(state()),
        ..Memory::default()
    };
    for line in [
        "list",
        "reserve 1",
        "release 1",
        "status 1",
        "break 1",
        "break 1 --force",
        "install 1 --dry-run",
        "install 0",
        "install 1",
        "install 1",
        "uninstall --dry-run",
        "uninstall",
        "uninstall",
        "exclude 1",
        "include 1",
        "include 0",
        "verify on",
        "verify off",
        "reserve 7",
    ] {
        let (exit, json) = machine.json(line);
        let fields = json.as_object().expect("an object");
        assert_eq!(
            fields.get("error").is_none(),
            exit == Exit::Good,
            "{line}: {json}"
        );
        let code = fields.get("exit").and_then(Json::as_u64);
        assert!(
            code.is_none_or(|code| code == exit as u64),
            "{line}: {json}"
        );
    }
}

#[test]
fn a_program_is_told_what_was_changed() {
    let machine = Memory::default();
    let (_, json) = machine.json("install 1 --dry-run");
    assert_eq!(json["dry_run"], true);
    let steps: Vec<&str> = json["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .filter_map(Json::as_str)
        .collect();
    assert_eq!(
        steps,
        [
            r"copy E:\resvflt\resvflt.sys to C:\Windows\System32\drivers\resvflt.sys",
            "make the service resvflt, started at boot",
            "start the service resvflt, to see that Windows loads it",
            r"add resvflt to the LowerFilters of SCSI\DISK\1",
        ]
    );
    let (_, json) = machine.json("install 1");
    assert_eq!(
        (&json["dry_run"], &json["restart"]),
        (&false.into(), &true.into())
    );
    assert_eq!(machine.json("install 1").1["restart"], false);
    let (_, json) = machine.json("uninstall");
    assert_eq!(
        json,
        json!({ "dry_run": false, "restart": true, "taken_back": [
            { "change": r"LowerFilters of SCSI\DISK\1", "done": "as it was" },
            { "change": "service", "done": "deleted" },
            { "change": "file", "done": "in use; deleted when Windows starts the next time" },
        ]})
    );
    let machine = Memory {
        image_loads: false,
        ..Memory::default()
    };
    let (exit, json) = machine.json("install 1");
    assert_eq!(exit, Exit::Error);
    assert_eq!((&json["win32"], &json["left"]), (&577.into(), &json!([])));
    assert_eq!(
        machine.json("include 1").1,
        json!({ "disk": "PhysicalDrive1", "enabled": true })
    );
    assert_eq!(machine.json("exclude 1").1["enabled"], false);
    assert_eq!(
        machine.json("verify on").1,
        json!({ "verified": true, "changed": true })
    );
    assert_eq!(
        machine.json("verify off").1,
        json!({ "verified": false, "changed": false })
    );
}

#[test]
fn a_list_tells_each_disk_with_what_names_the_filter_for_it() {
    let machine = Memory {
        disks: vec![DISKS[0].into(), DISKS[1].into(), r"MPIO\DISK\2".into()],
        ..Memory::default()
    };
    machine.put(
        &Key::Device(DISKS[1].into()),
        "FriendlyName",
        Some(Value::sz("A disk")),
    );
    machine.put(
        &Key::Hardware(DISKS[1].into()),
        "ResvFltEnabled",
        Some(Value::dword(0)),
    );
    machine.put(
        &Key::Hardware(DISKS[0].into()),
        "ResvFltEnabled",
        Some(Value::dword(1)),
    );
    machine.put(
        &machine_key(CLASS),
        "UpperFilters",
        Some(multi(&["partmgr", "RESVFLT"])),
    );
    let (exit, json) = machine.json("list");
    assert_eq!(exit, Exit::Good);
    let named = "named by the disk class's UpperFilters";
    assert_eq!(
        json,
        json!({ "loaded": false, "disks": [
            { "disk": "PhysicalDrive0", "name": null, "instance": DISKS[0], "serial": "BOOT-0", "filter": "untold",
              "named_by": [named], "mpio": false, "excluded": false, "needed_for": ["boot", "system", "dump"] },
            { "disk": "PhysicalDrive1", "name": "A disk", "instance": DISKS[1], "serial": "S/N 1", "filter": "untold",
              "named_by": [named], "mpio": false, "excluded": true, "needed_for": [] },
            { "disk": "PhysicalDrive2", "name": null, "instance": r"MPIO\DISK\2", "serial": null, "filter": "untold",
              "named_by": [named], "mpio": true, "excluded": false, "needed_for": [] },
        ]})
    );
    let (_, out, _) = machine.command("list");
    for told in [
        "resvflt.sys is not loaded\n",
        "PhysicalDrive0   its stack is not told; named by the disk class's UpperFilters; Windows' own (boot, system, dump)\n",
        "                 SCSI\\DISK\\0, serial:BOOT-0\n",
        "; excluded (ResvFltEnabled = 0)\n                 A disk, SCSI\\DISK\\1, serial:S/N 1\n",
        "; a disk of MPIO's: left alone\n                 MPIO\\DISK\\2\n",
    ] {
        assert!(out.contains(told), "{told}: {out}");
    }
    let machine = Memory {
        disks: Vec::new(),
        ..Memory::default()
    };
    machine.loaded.set(true);
    let (_, out, _) = machine.command("list");
    assert_eq!(out, "resvflt.sys is loaded\nno disk is there\n");
}
