//! What a person, the registry and the driver may hand over, in all its forms.

mod memory;

use memory::Memory;
use proptest::prelude::*;
use resvctl::{Exit, Name, multi_string};
use scsi_reserve::ReservationState;

#[test]
fn a_disk_has_the_names_that_people_give_it() {
    for text in [
        "1",
        "PhysicalDrive1",
        "physicaldrive1",
        r"\\.\PhysicalDrive1",
        r"\\.\PHYSICALDRIVE1",
        "01",
    ] {
        assert_eq!(text.parse(), Ok(Name::Number(1)), "{text}");
    }
    for text in ["D:", "d:", r"D:\", r"\\.\D:", r"\\.\d:\"] {
        assert_eq!(text.parse(), Ok(Name::Letter('D')), "{text}");
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
        r"\\?\PhysicalDrive1",
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
        ("list --json", Exit::Usage),
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

/// Names of filters: what is an entry of a list.
fn names() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[a-z0-9äß]{1,8}", 0..5)
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
        prop_assert_eq!(multi_string::strings(&with), [strings.clone(), vec!["resvflt".into()]].concat());
        prop_assert_eq!(multi_string::strings(&multi_string::without(&with, "resvflt")), strings);
        prop_assert_eq!(multi_string::without(&bytes, "resvflt"), bytes);
    }

    #[test]
    fn whatever_the_driver_answers_it_is_told_or_refused(
        bytes in prop::collection::vec(any::<u8>(), size_of::<ReservationState>()),
        length in 0..=size_of::<ReservationState>(),
        version in prop_oneof![Just(1_u8), any::<u8>()],
    ) {
        let mut bytes = bytes;
        bytes[..4].copy_from_slice(&[version, 0, 0, 0]);
        bytes.truncate(length);
        let whole = version == 1 && length == size_of::<ReservationState>();
        let machine = Memory { answer: Some(bytes.clone()), ..Memory::default() };
        for line in ["status 1", "status 1 --json"] {
            let (exit, out, err) = machine.command(line);
            prop_assert_eq!(exit, if whole { Exit::Good } else { Exit::Error }, "{}{}", out, err);
        }
        if let (true, Some(state)) = (whole, ReservationState::from_bytes(&bytes)) {
            let (_, json, _) = machine.command("status 1 --json");
            let conflicts = format!("\"conflicts\":{},", state.conflicts);
            let status = format!("\"last_status\":\"{:#010x}\"", state.last_status);
            prop_assert!(json.contains(&conflicts) && json.contains(&status), "{}", json);
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
