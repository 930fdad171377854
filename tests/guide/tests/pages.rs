//! The pages lead where they say, and agree with the code where that can be told by a program.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{pages, prose, read};
use scsi_reserve::verdict::PASS_THROUGH_LENGTH;
use scsi_reserve::{Answer, NtStatus, Verdict};

/// The anchors that GitHub makes of a page's headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut times = BTreeMap::new();
    let headings = prose(page).filter(|(_, line)| line.starts_with('#'));
    let anchor = |(_, line): (usize, &str)| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title
            .chars()
            .filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
        let slug: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let before = times.entry(slug.clone()).or_insert(0);
        *before += 1;
        match *before - 1 {
            0 => slug,
            n => format!("{slug}-{n}"),
        }
    };
    headings.map(anchor).collect()
}

/// What a line links to, images among it.
fn targets(line: &str) -> Vec<&str> {
    // What is code is no link: every second part.
    let parts = line.split('`').step_by(2);
    let after = |start: &'static str, end: char| {
        let pieces = parts
            .clone()
            .flat_map(move |part| part.split(start).skip(1));
        pieces.filter_map(move |piece| piece.split(end).next())
    };
    let markdown = line
        .split("](")
        .skip(1)
        .filter_map(|piece| piece.split(')').next());
    markdown
        .chain(after("src=\"", '"'))
        .chain(after("href=\"", '"'))
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut dead = Vec::new();
    let mut followed = 0;
    for page in pages() {
        let text = read(&page);
        for (number, line) in prose(&text) {
            for target in targets(line) {
                if target.starts_with("https://") {
                    continue;
                }
                followed += 1;
                let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
                let file = match path {
                    "" => page.clone(),
                    path => page.parent().unwrap().join(path),
                };
                let there =
                    file.exists() && (anchor.is_empty() || anchors(&read(&file)).contains(anchor));
                if !there {
                    dead.push(format!("{}:{number}: {target}", page.display()));
                }
            }
        }
    }
    assert!(followed > 20, "{followed} links");
    assert!(dead.is_empty(), "{dead:#?}");
}

/// Every status that an answer can mean: each SCSI status, sense key and code with the NTSTATUS that ports send.
fn statuses() -> BTreeSet<(&'static str, u32)> {
    let own = [NtStatus::CANCELLED, NtStatus::BUFFER_TOO_SMALL];
    let ports = (0..0x400).map(|code| NtStatus((0xC000_0000_u32 | code).cast_signed()));
    let failed = ports.map(|status| Verdict::of_refused(status).status);
    let mut sense = [0; 18];
    let mut said = Vec::new();
    for key in 0..16 {
        for (code, qualifier) in [
            (0x04, 0x00),
            (0x04, 0x01),
            (0x04, 0x03),
            (0x20, 0),
            (0x25, 0),
        ] {
            (sense[0], sense[2], sense[7]) = (0x70, key, 10);
            (sense[12], sense[13]) = (code, qualifier);
            said.push(sense);
        }
    }
    let answers = (0..=0xFF).flat_map(|scsi_status| {
        said.iter().map(move |sense| {
            let answer = Answer {
                status: NtStatus::SUCCESS,
                information: PASS_THROUGH_LENGTH + sense.len(),
                scsi_status,
                sense,
            };
            Verdict::of(&answer).status
        })
    });
    let all = own.into_iter().chain(failed).chain(answers);
    all.map(|status| (status.name().unwrap(), status.0.cast_unsigned()))
        .collect()
}

#[test]
fn every_status_is_explained() {
    let (readme, troubleshooting) = (read("README.md"), read("docs/troubleshooting.md"));
    let statuses = statuses();
    assert!(statuses.len() > 12, "{statuses:?}");
    for (name, value) in statuses {
        assert!(readme.contains(name), "README.md lacks {name}");
        let row = format!("\n| {name} 0x{value:08X}<br>");
        assert!(
            troubleshooting.contains(&row),
            "docs/troubleshooting.md lacks the row {row}"
        );
    }
}

/// `Value::new(utf16!("Name"), 1..=2, 3)` in `driver/config.rs`.
fn parameters(config: &str) -> Vec<(String, u32, u32, u32)> {
    let number = |text: &str| text.replace('_', "").parse().unwrap();
    let parameter = |line: &str| {
        let (_, rest) = line.split_once("Value::new(utf16!(\"")?;
        let (name, rest) = rest.split_once("\"), ")?;
        let (low, rest) = rest.split_once("..=")?;
        let (high, rest) = rest.split_once(", ")?;
        let default = rest.trim_end_matches(");");
        Some((name.to_owned(), number(low), number(high), number(default)))
    };
    config.lines().filter_map(parameter).collect()
}

#[test]
fn every_parameter_is_listed_with_its_range_and_default() {
    let readme = read("README.md");
    let parameters = parameters(&read("driver/config.rs"));
    assert_eq!(parameters.len(), 8, "{parameters:?}");
    for (name, low, high, default) in parameters {
        let named = format!("`{name}`");
        let Some(row) = readme
            .lines()
            .find(|line| line.starts_with(&format!("| {named}")))
        else {
            // Not of the driver's own key.
            assert!(
                ["ResvFltEnabled", "TimeOutValue"].contains(&&*name),
                "{name}"
            );
            assert!(readme.contains(&name));
            continue;
        };
        let range = match (low, high) {
            (0, 1) => "| 0, 1 |".to_owned(),
            _ => format!("| {low} to {high} |"),
        };
        assert!(row.contains(&range), "{range}: {row}");
        // A default out of range is told in words.
        if (low..=high).contains(&default) {
            assert!(row.ends_with(&format!("| {default} |")), "{default}: {row}");
        }
    }
}

#[test]
fn the_demo_in_the_readme_is_what_it_printed() {
    let (readme, demo) = (read("README.md"), read("docs/demo.txt"));
    let (_, shown) = readme.split_once("```text\n").unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    let parts: Vec<_> = shown
        .split("⋮")
        .map(|part| part.trim_matches([' ', '\n']))
        .collect();
    assert_eq!(parts.len(), 2);
    for part in parts {
        assert!(demo.contains(part), "not in docs/demo.txt:\n{part}");
    }
}

#[test]
fn the_provider_has_one_guid_everywhere() {
    let events = read("driver/EVENTS.md");
    let (_, guid) = events.split_once("`{").unwrap();
    let (guid, _) = guid.split_once("}`").unwrap();
    for path in ["docs/install.md", "docs/resvflt.wprp", "driver/trace.rs"] {
        assert!(read(path).contains(guid), "{path} lacks {guid}");
    }
}
