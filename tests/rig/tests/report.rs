//! The page of what the driver did: that it says what was measured, and can be read anywhere.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rig::faults::oracle::{self, Answered, Expected, Known};
use rig::report::{self, Options, answers, machine, page, rulebook};
use rig::{abi::status, image, rules};
use scsi_reserve::Policy;

fn options() -> Options {
    Options {
        image: image::built(),
        root: Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."),
        compiler: "rustc <of a test>".into(),
        ..Options::default()
    }
}

/// The page without what other commands measure.
fn made() -> &'static str {
    static PAGE: OnceLock<String> = OnceLock::new();
    PAGE.get_or_init(|| report::make(&options()).expect("the driver was built"))
}

/// The tags of a page, without what is between them.
fn tags(page: &str) -> impl Iterator<Item = &str> {
    page.split('<')
        .skip(1)
        .map(|rest| rest.split_once('>').map_or(rest, |(tag, _)| tag))
}

/// The values of an attribute.
fn values<'a>(page: &'a str, attribute: &str) -> Vec<&'a str> {
    let begin = format!(" {attribute}=\"");
    let values = page.split(&begin).skip(1);
    values.filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn every_element_is_closed_and_every_link_leads_somewhere() {
    const VOID: [&str; 2] = ["meta", "!DOCTYPE"];
    let mut open = Vec::new();
    for tag in tags(made()) {
        let name = tag.split([' ', '/']).next().unwrap_or_default();
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "closed by </{name}>"),
            None if VOID.contains(&name) => {}
            None => open.push(name),
        }
    }
    assert_eq!(open, Vec::<&str>::new());
    let ids = values(made(), "id");
    let known: HashSet<_> = ids.iter().collect();
    assert_eq!(known.len(), ids.len(), "{ids:?}");
    for link in values(made(), "href") {
        let id = link.strip_prefix('#').expect("a place on the page");
        assert!(known.contains(&id), "{link}");
    }
}

#[test]
fn the_page_loads_nothing_and_names_no_place_of_this_machine() {
    let root = options()
        .root
        .canonicalize()
        .expect("the project lies somewhere");
    let root = root.to_str().expect("in a folder with a name");
    for foreign in [
        "http:", "https:", "//", "@import", "<script", "<link", "<img", " src=", root,
    ] {
        assert!(!made().contains(foreign), "{foreign}");
    }
    let inside = |url: &&str| url.starts_with("url(#");
    let mut urls = made().match_indices("url(").map(|(at, _)| &made()[at..]);
    assert!(
        urls.all(|url| inside(&url)),
        "a url that is no place on the page"
    );
}

#[test]
fn every_figure_has_the_command_that_repeats_it() {
    let figures: Vec<_> = made().split("<figure ").skip(1).collect();
    assert!(figures.len() >= 12, "{}", figures.len());
    for figure in figures {
        let figure = figure.split("</figure>").next().expect("it ends");
        let (_, again) = figure.split_once("<p class=\"repeat\">").expect(figure);
        assert!(again.contains("<code>cargo "), "{again}");
    }
}

#[test]
fn every_rule_has_a_mistake_that_breaks_it() {
    for rule in rules::ALL {
        let mistake = rulebook::mistake(rule.id).expect(rule.id);
        assert!(made().contains(&mistake), "{}: {mistake}", rule.id);
    }
}

fn answer(status: i32, information: usize, scsi_status: u8, sense: Option<Known>) -> Expected {
    oracle::expected(&Answered {
        status,
        information,
        scsi_status,
        sense,
    })
}

fn holds(words: &str) {
    assert!(made().contains(&format!("title=\"{words}\"")), "{words}");
}

#[test]
fn every_cell_of_the_map_of_status_bytes_is_the_tables() {
    for byte in 0..=255 {
        let sense = |key| Known {
            deferred: false,
            key,
            asc: 0x20,
            ascq: 0,
        };
        let ends = (0..16).map(|key| answer(status::SUCCESS, 74, byte, Some(sense(key))));
        let ends: Vec<_> = ends.collect();
        if ends.iter().all(|end| *end == ends[0]) {
            holds(&answers::byte_words(byte, &ends[0]));
            continue;
        }
        for (key, end) in (0..).zip(&ends) {
            let name = answers::target_name(byte, Some(sense(key)));
            holds(&format!("{name}: {}", page::end_words(end)));
        }
    }
}

#[test]
fn every_cell_of_the_map_of_ports_is_the_tables() {
    for port in answers::PORTS {
        for (information, said) in answers::PROOFS {
            let end = answer(port.0, information, said.unwrap_or(0xFF), None);
            let name = answers::port_name(port, information, said);
            holds(&format!("{name}: {}", page::end_words(&end)));
        }
    }
    assert!(!made().contains("NOT AS WRITTEN"));
}

/// The built driver with another status for a conflict.
fn driver_with_a_wrong_status() -> PathBuf {
    let mut bytes = image::read(&image::built()).expect("the driver was built");
    let (right, wrong) = (0x8000_0011_u32.to_le_bytes(), 0x8000_0012_u32.to_le_bytes());
    for at in 0..bytes.len() - right.len() {
        if bytes[at..].starts_with(&right) {
            bytes[at..at + right.len()].copy_from_slice(&wrong);
        }
    }
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("report-wrong-status.sys");
    std::fs::write(&file, bytes).expect("the folder for tests is writable");
    file
}

#[test]
fn a_driver_that_answers_otherwise_than_the_table_is_shown_as_it_is() {
    let measured = answers::measure(&driver_with_a_wrong_status()).expect("it loads");
    assert!(measured.tally().1 > 16, "{:?}", measured.tally());
    let shown: Vec<_> = measured
        .figures()
        .into_iter()
        .map(|figure| figure.body.0)
        .collect();
    for (figure, at) in shown.iter().zip(["table", "bytes", "codes", "ports"]) {
        let wrong = figure.contains("wrong\"") && figure.contains("80000012");
        assert_eq!(wrong, at != "codes", "{at}: a conflict has no sense");
    }
}

#[test]
fn the_graph_of_the_machine_has_every_phase_and_the_table_of_its_documentation() {
    let machine = machine::explore(Policy {
        max_retries: 1,
        ..Policy::DEFAULT
    });
    for (at, phase) in machine::PHASES.iter().enumerate() {
        let (from, to) = (
            |edge: &machine::Edge| edge.from == at,
            |edge: &machine::Edge| edge.to == at,
        );
        assert!(machine.edges.iter().any(from), "{phase} is left");
        assert!(machine.edges.iter().any(to), "{phase} is reached");
    }
    let phase = |name| machine::PHASES.iter().position(|phase| *phase == name);
    for (from, event, stopped, action, to) in [
        ("Idle", "Start", Some(false), "Mark", "Marking"),
        ("Idle", "Start", Some(true), "Finish", "Idle"),
        ("Marking", "Marked", Some(false), "Prepare", "Preparing"),
        ("Preparing", "Ready", Some(false), "Send", "Out"),
        (
            "Preparing",
            "Ready",
            Some(true),
            "Unmark",
            "Ended, awaits Unmarked",
        ),
        ("Out", "Answered", Some(false), "StartTimer", "Waiting"),
        ("Out", "CancelAsked", Some(false), "CancelSent", "Out"),
        ("Waiting", "Gone", Some(false), "StopTimer", "Waiting"),
        ("Waiting", "DelayOver", Some(false), "Prepare", "Preparing"),
        (
            "Ended, awaits CancelDone",
            "CancelDone",
            Some(true),
            "Finish",
            "Idle",
        ),
    ] {
        let found = machine.edges.iter().any(|edge| {
            (
                Some(edge.from),
                edge.event,
                edge.stopped,
                edge.action,
                Some(edge.to),
            ) == (phase(from), event, stopped, action, phase(to))
        });
        assert!(found, "{from}: {event} ({stopped:?}) → {action}, {to}");
    }
}
