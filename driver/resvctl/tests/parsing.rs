//! What a person, the registry and the driver may hand over, in all its forms.

mod memory;

use memory::Memory;
use proptest::prelude::*;
use resvctl::{Exit, Name, multi_string};
use scsi_reserve::ReservationState;
use scsi_reserve::state::VERSION_1_SIZE;

#[test]
fn a_disk_has_the_names_that_people_give_it() {
    for text in [
        "1",
        "PhysicalDrive1",
        "physicaldrive1",
        r"\\.\PhysicalDrive1",
        r"\\.\PHYSICALDRIVE1",
        r"\\?\PhysicalDrive1",
        "01",
    ] {
        assert_eq!(text.parse(), Ok(Name::Number(1)), "{text}");
    }
    for text in ["D:", "d:", r"D:\", r"\\.\D:", r"\\.\d:\", r"\\?\D:\"] {
        assert_eq!(text.parse(), Ok(Name::Volume("D:".into())), "{text}");
    }
    let volume = "Volume{01234567-89ab-cdef-0123-456789ABCDEF}";
    for text in [
        volume,
        &format!(r"\\?\{volume}\"),
        &format!(r"\\?\{volume}"),
        &format!(r"\\.\{volume}"),
    ] {
        assert_eq!(text.parse(), Ok(Name::Volume(volume.into())), "{text}");
    }
    for text in ["serial:12 34", "Serial: 12 34 "] {
        assert_eq!(text.parse(), Ok(Name::Serial("12 34".into())), "{text}");
    }
    for text in [
        "",
        "D",
        ":",
        "1:",
        "DD:",
        "D:x",
        "-1",
        "+1",
        " 1",
        "0x1",
        "4294967296",
        "PhysicalDrive",
        "PhysicalDrive-1",
        "PhysicalDriveD:",
        r"\\.\1",
        r"\\.\",
        r"\\.",
        r"\\?\1",
        r"\\?\serial:1",
        "serial:",
        "serial: ",
        "serial1",
        "Volume{01234567-89ab-cdef-0123-456789abcde}",
        "Volume{01234567-89ab-cdef-0123-456789abcdeg}",
        "Volume{0123456-789ab-cdef-0123-456789abcdef}",
        "Volume01234567-89ab-cdef-0123-456789abcdef",
        r"\\?\Volume{}\",
        "Harddisk1",
        "ä:",
        "PhysicalDriv\u{e9}1",
    ] {
        assert!(text.parse::<Name>().is_err(), "{text}");
    }
}

#[test]
fn a_command_line_that_is_not_understood_ends_with_2_and_help_with_0() {
    let machine = Memory::default();
    for (line, exit) in [
        ("", Exit::Usage),
        ("reserve", Exit::Usage),
        ("reserve Harddisk1", Exit::Usage),
        ("reserve 1 2", Exit::Usage),
        ("verify maybe", Exit::Usage),
        ("install 1 --class", Exit::Usage),
        ("install --upper", Exit::Usage),
        ("install --all --class", Exit::Usage),
        ("install 1 --all", Exit::Usage),
        ("break", Exit::Usage),
        ("release 1 --force", Exit::Usage),
        ("list --xml", Exit::Usage),
        ("--help", Exit::Good),
        ("help install", Exit::Good),
        ("--version", Exit::Good),
    ] {
        let (found, out, err) = machine.command(line);
        assert_eq!(found, exit, "{line}: {out}{err}");
        assert_eq!(out.is_empty(), exit == Exit::Usage, "{line}: {out}");
        assert_eq!(err.is_empty(), exit == Exit::Good, "{line}: {err}");
    }
    assert_eq!(machine.steps(), 0);
}

/// What a DISK may be is told wherever one is taken.
#[test]
fn help_says_what_a_disk_may_be() {
    let machine = Memory::default();
    for command in [
        "reserve", "release", "status", "break", "install", "exclude", "include",
    ] {
        let (_, out, _) = machine.command(&format!("help {command}"));
        for name in [
            "PhysicalDrive1",
            "serial:NUMBER",
            "D:",
            r"\\?\Volume{GUID}\",
        ] {
            assert!(out.contains(name), "{command}: {name}: {out}");
        }
    }
}

#[test]
fn a_disk_is_found_by_each_of_its_names() {
    let mut machine = Memory::default();
    let volume = "Volume{01234567-89ab-cdef-0123-456789abcdef}";
    machine.volumes.insert(volume.to_lowercase(), vec![1]);
    machine.volumes.insert("f:".into(), vec![1, 2, 1]);
    machine.volumes.insert("g:".into(), vec![2, 2]);
    for (name, disk) in [
        ("2", "PhysicalDrive2"),
        ("E:", "PhysicalDrive1"),
        ("g:", "PhysicalDrive2"),
        (&format!(r"\\?\{volume}\"), "PhysicalDrive1"),
        ("serial:BOOT-0", "PhysicalDrive0"),
    ] {
        let (exit, json) = machine.json(&format!("reserve {name}"));
        assert_eq!((exit, &json["disk"]), (Exit::Good, &disk.into()), "{name}");
    }
    // The serial number's blanks are not in the name, which has one that a command line splits at.
    let words = ["resvctl", "reserve", "serial:S/N 1"];
    let (mut out, mut err) = (Vec::new(), Vec::new());
    assert_eq!(
        resvctl::run(&machine, words, &mut out, &mut err),
        Exit::Good
    );
    assert!(String::from_utf8_lossy(&out).starts_with("PhysicalDrive1: reserved"));
    machine.sent.borrow_mut().clear();
    machine.descriptors[2].0 = "BOOT-0";
    for (name, why) in [
        (
            "Q:",
            "Q: there is no such thing (error 2)\n  `resvctl list`",
        ),
        (
            "F:",
            "F: several disks, PhysicalDrive1, PhysicalDrive2\n  name each disk",
        ),
        (
            "serial:BOOT-0",
            "several disks, PhysicalDrive0, PhysicalDrive2\n  name each disk",
        ),
        (
            "serial:boot-0",
            "the serial number boot-0: no disk is known by it\n  `resvctl list`",
        ),
        (
            "7",
            "PhysicalDrive7: there is no such thing (error 2)\n  `resvctl list`",
        ),
    ] {
        for command in ["reserve", "release", "break", "status"] {
            let (exit, _, err) = machine.command(&format!("{command} {name}"));
            assert!(
                exit == Exit::Error && err.contains(why),
                "{command} {name}: {err}"
            );
        }
    }
    let asked = machine.sent.borrow();
    let read = |code: &u32| [0x2D_1080, 0x2D_1400, 0x56_0000].contains(code);
    assert!(asked.iter().all(|(code, _)| read(code)), "{asked:?}");
}

/// Names of filters: what is an entry of a list.
fn names() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[a-z0-9äß]{1,8}", 0..5)
}

/// The same, with empty ones among them.
fn gaps() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[a-z]{0,3}", 0..5)
}

fn data(names: &[String]) -> Vec<u8> {
    multi_string::data(names.iter().map(String::as_str))
}

proptest! {
    #[test]
    fn any_text_is_a_disk_or_is_refused(text in r"(\\\\\.\\)?[A-Za-z0-9:\\]{0,16}|.{0,16}") {
        if let Ok(Name::Number(number)) = text.parse() {
            let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
            prop_assert_eq!(digits.parse(), Ok(number));
        }
    }

    #[test]
    fn a_list_says_what_was_put_into_it(names in names()) {
        prop_assert_eq!(multi_string::strings(&data(&names)), names);
    }

    #[test]
    fn an_entry_comes_last_and_goes_without_a_trace(names in names()) {
        let before = data(&names);
        let with = multi_string::with(&before, "Resvflt");
        prop_assert!(multi_string::contains(&with, "resvflt"));
        prop_assert_eq!(multi_string::strings(&with), [names, vec!["Resvflt".into()]].concat());
        prop_assert_eq!(multi_string::without(&with, "resvflt"), before);
    }

    #[test]
    fn entries_that_others_put_around_ours_stay_in_their_order(names in names(), more in names()) {
        let ours = [names.clone(), vec!["resvflt".into()], more.clone()].concat();
        let rest = multi_string::without(&data(&ours), "resvflt");
        prop_assert_eq!(multi_string::strings(&rest), [names, more].concat());
    }

    #[test]
    fn whatever_bytes_are_there_others_entries_stay(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
        let strings = multi_string::strings(&bytes);
        let with = multi_string::with(&bytes, "resvflt");
        prop_assert!(multi_string::contains(&with, "RESVFLT"));
        prop_assert_eq!(multi_string::strings(&multi_string::without(&with, "resvflt")), strings);
        // A reader that stops at the first empty string sees it, too.
        let shown = with.chunks_exact(2).take_while({
            let mut last = [1, 1];
            move |unit| std::mem::replace(&mut last, [unit[0], unit[1]]) != [0, 0] || *unit != [0, 0]
        });
        let shown: Vec<u8> = shown.flatten().copied().collect();
        prop_assert!(multi_string::contains(&shown, "resvflt"), "{:?}", with);
        prop_assert_eq!(multi_string::without(&bytes, "resvflt"), bytes);
    }

    #[test]
    fn an_entry_is_found_behind_empty_strings(before in gaps(), after in gaps()) {
        let ours = [before.clone(), vec!["resvFLT".into()], after.clone()].concat();
        let list = |strings: &[String]| {
            let units = strings.iter().flat_map(|s| s.encode_utf16().chain([0]));
            units.flat_map(u16::to_le_bytes).collect::<Vec<u8>>()
        };
        prop_assert!(multi_string::contains(&list(&ours), "resvflt"));
        prop_assert_eq!(multi_string::without(&list(&ours), "resvflt"), list(&[before, after].concat()));
    }

    #[test]
    fn whatever_the_driver_answers_it_is_told_or_refused(
        bytes in prop::collection::vec(any::<u8>(), size_of::<ReservationState>()),
        length in 0..=size_of::<ReservationState>(),
        version in prop_oneof![Just(1_u8), Just(2), any::<u8>()],
        whole in any::<bool>(),
    ) {
        let mut bytes = bytes;
        bytes[..4].copy_from_slice(&[version, 0, 0, 0]);
        let size = match version {
            1 => Some(VERSION_1_SIZE),
            2 => Some(size_of::<ReservationState>()),
            _ => None,
        };
        bytes.truncate(size.filter(|_| whole).unwrap_or(length));
        let whole = size == Some(bytes.len());
        let machine = Memory { answer: Some(bytes.clone()), ..Memory::default() };
        for line in ["status 1", "status 1 --json"] {
            let (exit, out, err) = machine.command(line);
            prop_assert_eq!(exit, if whole { Exit::Good } else { Exit::Error }, "{}{}", out, err);
        }
        if let (true, Some(state)) = (whole, ReservationState::from_answer(&bytes)) {
            let (_, json, _) = machine.command("status 1 --json");
            let told: serde_json::Value = serde_json::from_str(&json).expect("JSON");
            let told = &told["state"];
            let status = format!("{:#010x}", state.last_status);
            prop_assert_eq!(&told["conflicts"], &serde_json::json!(state.conflicts));
            prop_assert_eq!(&told["last_status"], &serde_json::json!(status));
            let key = Some(state.sense_key).filter(|key| *key != 0xFF);
            prop_assert_eq!(&told["sense_key"], &serde_json::json!(key));
        }
    }

    #[test]
    fn an_age_names_its_two_largest_units(days in 0..400_u64, seconds in 0..86_400_u64) {
        let text = resvctl::age((days * 86_400 + seconds) * 10_000_000);
        let (mut told, mut words) = (0, text.split(' '));
        while let (Some(number), Some(unit)) = (words.next(), words.next()) {
            let unit = match unit { "ms" => 0, "s" => 1, "min" => 60, "h" => 3_600, "day" | "days" => 86_400, _ => panic!("{text}") };
            told += number.parse::<u64>().unwrap() * unit;
        }
        let rest = days * 86_400 + seconds - told;
        prop_assert!(rest < if days > 0 { 3_600 } else { 60 }, "{}", text);
    }
}
