//! What others' tests and other places say: libiscsi's Reserve6 suite, played by the suite and by the driver, and what each
//! place in the disk's stack sees.

use std::path::Path;

use maud::{Markup, html};
use serde_json::Value;

use super::page::{self, Figure};
use crate::node::NodeError;
use crate::places;
use crate::reserve6::{self, Trouble};

/// The lines of `cargo xtask reserve6 --json`; those that need a real target only with `targets`.
///
/// # Errors
/// The driver does not load, or the target does not start.
pub fn reserve6(image: &Path, targets: bool) -> Result<Vec<Value>, Trouble> {
    let mut columns = Vec::new();
    if targets {
        real(image, &mut columns)?;
    }
    columns.push(reserve6::on_the_embedded_unit(image)?);
    let lines = reserve6::json(&columns);
    Ok(lines
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

#[cfg(feature = "iscsi")]
fn real(image: &Path, columns: &mut Vec<reserve6::Column>) -> Result<(), Trouble> {
    columns.push(reserve6::suite_on_tgt()?);
    columns.push(reserve6::on_tgt(image)?);
    Ok(())
}

#[cfg(not(feature = "iscsi"))]
#[allow(clippy::unnecessary_wraps, reason = "with the feature it can fail")]
fn real(_: &Path, _: &mut Vec<reserve6::Column>) -> Result<(), Trouble> {
    Ok(())
}

fn text<'a>(line: &'a Value, key: &str) -> &'a str {
    line[key].as_str().unwrap_or_default()
}

/// The values of `key`, each once, in order.
fn each<'a>(lines: &'a [Value], key: &str) -> Vec<&'a str> {
    let mut values = Vec::new();
    for line in lines {
        if !values.contains(&text(line, key)) {
            values.push(text(line, key));
        }
    }
    values
}

/// libiscsi's tests.
pub fn reserve6_figure(lines: &[Value]) -> Figure {
    Figure {
        id: "reserve6",
        title: "libiscsi's seven Reserve6 tests".into(),
        note: html! {
            "The scenarios of sahlberg/libiscsi, " code { "test-tool/test_reserve6_*.c" } ": as that suite plays them on Debian's tgt, and \
             with two nodes of the driver in its initiators' place. Assertions that held; what did not, or was remarked, has its \
             reason beside it."
        },
        body: reserve6_body(lines),
        command: "cargo xtask reserve6".into(),
    }
}

fn reserve6_body(lines: &[Value]) -> Markup {
    let sides = each(lines, "side");
    html! {
        div.scroll { table.rows.sides {
            thead { tr { th { "SCSI.Reserve6." } @for side in &sides { th { (side) } } } }
            tbody { @for scenario in each(lines, "scenario") { tr {
                th { (scenario) }
                @for side in &sides { td {
                    @for line in lines.iter().filter(|line| text(line, "scenario") == scenario && text(line, "side") == *side) {
                        (held(line))
                    }
                } }
            } } }
        } }
    }
}

fn held(line: &Value) -> Markup {
    let (held, of) = (&line["held"], &line["assertions"]);
    let remarks = line["remarks"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    html! {
        span.mark.(if held == of { "held" } else { "later" }) { (held.to_string()) " of " (of.to_string()) }
        @for remark in remarks { div.faint title=(text(remark, "remark")) {
            (text(remark, "whose")) ": " (text(remark, "why"))
            @if remark["why"].is_null() { b.wrong { (text(remark, "remark")) " is not explained" } }
        } }
    }
}

/// The lines of `cargo xtask places --json`.
///
/// # Errors
/// The driver does not load.
pub fn places(image: &Path) -> Result<Vec<Value>, NodeError> {
    let tables = places::play(image)?;
    let rows = tables
        .iter()
        .flat_map(|table| table.rows.iter().map(|row| row.json(table.title)));
    Ok(rows.collect())
}

/// Where the filter sits, and what it sees there.
pub fn places_figure(lines: &[Value]) -> Figure {
    Figure {
        id: "places",
        title: "Who answers, by the filter's place".into(),
        note: html! {
            "disk.sys is the rig's here, after the published source of classpnp; the filter is the image. On a stock stack a process's \
             RESERVE is answered by disk.sys, above a lower filter."
        },
        body: html! {
            div.scroll { table.rows.places {
                thead { tr { th { "request" } th { "answered by" } th { "reached the port" } th { "commands" } th { "the unit says" } th { "the caller gets" } } }
                @for place in each(lines, "place") { tbody {
                    tr.group { th colspan="6" { (place) } }
                    @for line in lines.iter().filter(|line| text(line, "place") == place) { (place_row(line, lines)) }
                } }
            } }
        },
        command: "cargo xtask places".into(),
    }
}

fn place_row(line: &Value, lines: &[Value]) -> Markup {
    let paths = lines
        .iter()
        .any(|other| other["place"] == line["place"] && other["path"] != line["path"]);
    let commands = line["cdbs"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let ours = text(line, "answered_by") == "resvflt";
    html! {
        tr {
            th { (text(line, "request")) @if paths { span.faint { ", path " (line["path"].to_string()) } } }
            td { @if ours { span.mark.held { "resvflt" } } @else { (text(line, "answered_by")) } }
            td { (text(line, "reached_the_port")) }
            td { @for command in commands { code { (command.as_str().unwrap_or_default()) } " " } }
            td { (text(line, "scsi_status")) }
            td { (page::named(text(line, "status"))) ", " (line["information"].to_string()) " B" }
        }
    }
}
