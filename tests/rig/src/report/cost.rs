//! What the driver costs: tables and bars of what `cargo xtask bench` has written.

use maud::{Markup, html};
use serde_json::Value;

use super::facts::Facts;
use super::page::{self, Figure};

const COMMAND: &str = "cargo xtask bench";

/// Whether the bench was of this image: its length and its sections' lengths are the same.
pub fn is_of(bench: &Value, facts: &Facts) -> bool {
    let sections =
        rows(&bench["image"], "sections").map(|section| section["virtual_bytes"].as_u64());
    let same = sections.eq(facts.sections.iter().map(|part| Some(part.virtual_bytes)));
    same && bench["image"]["bytes"].as_u64() == Some(facts.bytes as u64)
}

fn rows<'a>(bench: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    bench[key].as_array().into_iter().flatten()
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_default()
}

fn number(row: &Value, key: &str) -> u64 {
    row[key].as_u64().unwrap_or(0)
}

/// The figures.
pub fn figures(bench: &Value) -> Vec<Figure> {
    let figure = |id, title: &str, note, body| Figure {
        id,
        title: title.into(),
        note,
        body,
        command: COMMAND.into(),
    };
    let mut figures = vec![figure(
        "instructions",
        "What each request costs inside the image",
        html! {
            "Every instruction of the image that a request executes, counted by single-stepping it; with the ETW provider off \
             and with a listener. A foreign request is one that the filter has no business with. ▏ is the goal."
        },
        instructions(bench),
    )];
    if rows(bench, "time").next().is_some() {
        figures.push(figure(
            "time",
            "Requests with the filter and without it",
            html! {
                "Time of one request through the rig, on " (text(bench, "machine")) ". Without the filter a RESERVE is the same \
                 pass-through, sent by the caller; with it the framework's and the verifier's part of the rig run too, so that the \
                 ratio is an upper bound and says nothing of Windows. What grows with the number of disks grows without the filter \
                 too; the driver's own instructions are the same with one disk and with " (most_devices(bench)) "."
            },
            time(bench),
        ));
    }
    figures
}

fn most_devices(bench: &Value) -> String {
    page::count(
        rows(bench, "time")
            .map(|row| number(row, "devices"))
            .max()
            .unwrap_or(1),
    )
}

fn instructions(bench: &Value) -> Markup {
    let all = || rows(bench, "instructions");
    let largest = all()
        .map(|row| number(row, "instructions"))
        .max()
        .unwrap_or(1)
        .max(1);
    let part = |number: u64| number as f64 / largest as f64;
    html! {
        div.scroll { table.rows.costs {
            thead { tr {
                th { "request" } th.number { "instructions" } th.bar {} th.number { "with a listener" } th.bar {} th.number { "goal" }
                th.number { "framework calls" } th.number { "commands" } th.number { "allocations" }
            } }
            tbody { @for quiet in all().filter(|row| row["etw"] == false) {
                @let case = text(quiet, "case");
                @let loud = all().find(|row| row["etw"] == true && text(row, "case") == case);
                @let operation = rows(bench, "operations").find(|row| text(row, "case") == case);
                @let goal = quiet["goal"].as_u64();
                @let count = number(quiet, "instructions");
                tr.wrong[goal.is_some_and(|goal| count > goal)] {
                    th { (case) }
                    td.number { (page::count(count)) }
                    td.bar { (page::goal_bar(part(count), goal.map(part))) }
                    @if let Some(loud) = loud {
                        td.number { (page::count(number(loud, "instructions"))) }
                        td.bar { (page::goal_bar(part(number(loud, "instructions")), None)) }
                    } @else { td {} td {} }
                    td.number { @match goal { Some(0) => "0", Some(goal) => { "≤ " (goal) }, None => "" } }
                    @for key in ["framework_calls", "scsi_commands", "allocations"] {
                        td.number { @if let Some(operation) = operation { (number(operation, key)) } }
                    }
                }
            } }
        } }
    }
}

fn time(bench: &Value) -> Markup {
    let all: Vec<_> = rows(bench, "time").collect();
    html! {
        div.columns { @for case in cases(&all) {
            @let of_case: Vec<_> = all.iter().filter(|row| text(row, "case") == case).collect();
            @let largest = of_case.iter().filter_map(|row| row["with_ns"].as_f64()).fold(1.0, f64::max);
            div.scroll { table.rows.times {
                thead { tr { th { (case) ", disks" } th.number { "threads" } th.number { "without" } th.number { "with" } th.bar {} th.number { "ratio" } } }
                tbody { @for group in of_case.chunk_by(|a, b| a["devices"] == b["devices"]) { @for (at, row) in group.iter().enumerate() {
                    tr.first[at == 0] {
                        th { @if at == 0 { (page::count(number(row, "devices"))) } }
                        td.number { (number(row, "threads")) }
                        td.number { (microseconds(row, "without_ns")) }
                        td.number { (microseconds(row, "with_ns")) }
                        td.bar {
                            (page::bar(row["without_ns"].as_f64().unwrap_or(0.0) / largest))
                            (page::bar(row["with_ns"].as_f64().unwrap_or(0.0) / largest))
                        }
                        td.number { (format!("{:.1}", row["ratio"].as_f64().unwrap_or(0.0))) }
                    }
                } } }
            } }
        } }
    }
}

fn cases<'a>(rows: &[&'a Value]) -> Vec<&'a str> {
    let mut cases = Vec::new();
    for row in rows {
        let case = text(row, "case");
        if !cases.contains(&case) {
            cases.push(case);
        }
    }
    cases
}

fn microseconds(row: &Value, key: &str) -> String {
    format!("{:.1} µs", row[key].as_f64().unwrap_or(0.0) / 1000.0)
}
