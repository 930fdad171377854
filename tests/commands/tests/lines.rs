//! The command lines, as a person writes them.

use std::ffi::OsString;

use clap::CommandFactory as _;
use commands::{GROUPS, PARTS, Refusal, Xtask, handed_on, read};

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

fn refused(line: &str) -> Refusal {
    let read = read(&words(line));
    read.err()
        .unwrap_or_else(|| panic!("{line} was understood"))
}

#[test]
fn the_definition_holds_together() {
    Xtask::command().debug_assert();
}

#[test]
fn groups_and_parts_are_those_of_the_rig() {
    let groups: Vec<_> = rig::faults::GROUPS.iter().map(|group| group.name).collect();
    assert_eq!(groups, GROUPS);
    assert_eq!(rig::report::PARTS, PARTS);
}

/// What is refused, and what the refusal says: always the usage of that command alone, never the list of all.
#[test]
fn what_is_not_understood_shows_that_commands_usage_and_ends_with_2() {
    for (line, wrong) in [
        ("bench --nope", "--nope"),
        ("bench extra", "extra"),
        ("build --dev --broken", "--broken"),
        ("build --broken --arch arm64", "--arch"),
        ("package --arch x86", "x86"),
        ("bench --by-line --times f", "--times"),
        ("demo --target nowhere", "nowhere"),
        ("demo --json --target", "--target"),
        ("faults --only nothing", "nothing"),
        ("faults --from 3", "--only"),
        ("fuzz nothing", "nothing"),
        ("fuzz --seconds long", "long"),
        ("package --sign", "--sign"),
        ("pictures all", "all"),
        ("places --xml", "--xml"),
        ("report --nope", "--nope"),
        ("report --only all", "all"),
        ("report --no-bench --bench f", "--bench"),
        ("reserve6 --target", "--target"),
        ("stress --disks 0", "0"),
        ("stress --threads -1", "-1"),
        ("test rig", "rig"),
        ("--quiet report --nope", "--nope"),
    ] {
        let refusal = refused(line);
        let name = line.split(' ').find(|word| !word.starts_with('-'));
        let usage = format!("Usage: cargo xtask {}", name.unwrap());
        assert_eq!(refusal.exit, 2, "{line}");
        for told in [wrong, &usage] {
            assert!(refusal.said.contains(told), "{line}: {}", refusal.said);
        }
        assert_eq!(refusal.said.matches("Usage: ").count(), 1, "{line}");
        assert!(
            !refusal.said.contains("Commands:"),
            "{line}: {}",
            refusal.said
        );
    }
}

#[test]
fn help_answers_for_every_command_in_each_of_its_ways() {
    for command in Xtask::command().get_subcommands() {
        let name = command.get_name();
        let ways = [
            format!("{name} --help"),
            format!("--quiet {name} --help"),
            format!("help {name}"),
        ];
        let [first, second, third] = ways.map(|line| {
            let help = refused(&line);
            assert_eq!(help.exit, 0, "{line}");
            help.said
        });
        assert!(
            first.contains(&format!("Usage: cargo xtask {name}")),
            "{first}"
        );
        assert_eq!((&first, &first), (&second, &third));
    }
    for line in ["--help", "help", "-h"] {
        let all = refused(line);
        assert!(
            all.exit == 0 && all.said.contains("Commands:"),
            "{line}: {}",
            all.said
        );
    }
    assert_eq!(refused("").exit, 2);
    assert_eq!(refused("demonstrate").exit, 2);
}

#[test]
fn a_program_is_handed_what_stands_behind_its_name() {
    for (line, expected) in [
        ("demo", ""),
        ("demo --target iscsi --json", "--target iscsi --json"),
        ("--quiet faults --only calls", "--only calls"),
        ("stress -q --seed 3", "-q --seed 3"),
    ] {
        let name = line.split(' ').find(|word| !word.starts_with('-')).unwrap();
        assert_eq!(handed_on(&words(line), name), words(expected), "{line}");
    }
}
