//! The demo as a sequence: two nodes, the unit between them, and who holds it.

use std::path::Path;
use std::sync::Arc;

use maud::{Markup, html};
use scsi_reserve::NtStatus;

use super::page::{self, Figure};
use crate::demo::{self, DemoError, Scene};
use crate::disk::{CHECK_CONDITION, Disk, GOOD, Outcome, Sense, status_name};
use crate::timeline::{Send, Step};

/// What happened, in order.
pub enum Event {
    /// A request to a node's driver.
    Step(Step),
    /// What this node's initiator asked of the unit, not through the driver.
    Aside(char, String),
}

/// Plays the demo on a unit in this process.
///
/// # Errors
/// See [`DemoError`].
pub fn play(image: &Path) -> Result<Vec<Event>, DemoError> {
    let unit = demo::unit();
    let disks = ["a", "b"].map(|node| {
        let initiator = format!("iqn.2001-04.com.example:node-{node}");
        Arc::new(unit.connect(&initiator)) as Arc<dyn Disk>
    });
    let mut events = Vec::new();
    demo::play(image, disks, |scene| {
        events.push(match scene {
            Scene::Step(step) => Event::Step(step.clone()),
            Scene::Aside(node, what) => Event::Aside(node, what.into()),
        });
        Ok(())
    })?;
    Ok(events)
}

/// Steps, and how many ended as they should.
pub fn tally(events: &[Event]) -> (usize, usize) {
    let steps = events.iter().filter_map(|event| match event {
        Event::Step(step) => Some(step.as_expected()),
        Event::Aside(..) => None,
    });
    let steps: Vec<_> = steps.collect();
    (steps.len(), steps.iter().filter(|&&good| good).count())
}

/// A line of the sequence, and who holds the unit from it on.
struct Row {
    node: char,
    text: Markup,
    kind: &'static str,
    holder: Option<char>,
    /// Whether the holder's letter stands here.
    named: bool,
}

/// The figure.
pub fn figure(events: &[Event]) -> Figure {
    Figure {
        id: "demo",
        title: "Two nodes want one disk".into(),
        note: html! {
            "Each node runs its own copy of " code { "resvflt.sys" } ". The column in the middle is the unit, with the letter of \
             its holder, read off its answers alone. A power-on leaves each initiator a unit attention, which its first \
             command meets."
        },
        body: body(events),
        command: "cargo xtask demo".into(),
    }
}

fn body(events: &[Event]) -> Markup {
    let (mut holder, mut number) = (None, 0);
    let mut rows = Vec::new();
    for event in events {
        match event {
            Event::Step(step) => {
                number += 1;
                rows.extend(step_rows(step, number, &mut holder));
            }
            Event::Aside(node, what) => {
                let text = html! { b { (what) } " from node " (node) };
                rows.extend([(text, "to", holder), (html! {}, "gap", None)].map(
                    |(text, kind, holder)| Row {
                        node: *node,
                        text,
                        kind,
                        holder,
                        named: false,
                    },
                ));
                holder = None;
            }
        }
    }
    html! {
        div.sequence {
            div.head { div { "node A" } div.unit { "unit" } div { "node B" } }
            @for row in &rows { (line(row)) }
        }
    }
}

fn step_rows(step: &Step, number: usize, holder: &mut Option<char>) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut named = *holder;
    let mut push = |text, kind, holder| {
        rows.push(Row {
            node: step.node,
            text,
            kind,
            holder,
            named: kind == "title" || holder != named,
        });
        named = holder;
    };
    let title = html! {
        span.number { (number) } " " b { (step.op) } " " code.faint { (format!("{:#010x}", step.ioctl)) }
    };
    push(title, "title", *holder);
    for send in &step.sends {
        push(html! { code { (command_words(&send.cdb)) } }, "to", *holder);
        *holder = after(step.node, *holder, send);
        push(answer(&send.outcome), "from", *holder);
    }
    let name = NtStatus(step.ntstatus).name().unwrap_or("NTSTATUS");
    let end = html! {
        (page::mark(step.ntstatus)) " " code { (name) } ", Information " (step.information)
        div.rule.wrong[!step.as_expected()] {
            @if step.as_expected() { "✓ " } @else { "✗ not as it should: " } (step.expected.rule)
        }
    };
    push(end, "end", *holder);
    rows
}

fn line(row: &Row) -> Markup {
    let left = row.node == 'A';
    let holder = row
        .holder
        .map(|holder| if holder == 'A' { "a" } else { "b" });
    html! {
        div.line.(row.kind) {
            div.left { @if left { div.text { (row.text) } } }
            div.unit.(holder.unwrap_or("free")) { @if row.named { (row.holder.unwrap_or(' ')) } }
            div.right { @if !left { div.text { (row.text) } } }
        }
    }
}

/// "RESERVE(6) 16 00 00 00 00 00".
fn command_words(cdb: &[u8]) -> String {
    let name = match cdb.first() {
        Some(0x16) => "RESERVE(6)",
        Some(0x17) => "RELEASE(6)",
        Some(0x56) => "RESERVE(10)",
        Some(0x57) => "RELEASE(10)",
        _ => "command",
    };
    let bytes: Vec<_> = cdb.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name} {}", bytes.join(" "))
}

fn answer(outcome: &Outcome) -> Markup {
    let Outcome::Status { status, .. } = outcome else {
        return html! { "no answer" };
    };
    let name = status_name(*status).unwrap_or("SCSI status");
    html! {
        code { (name) } " " span.faint { (format!("{status:02X}h")) }
        @if *status == CHECK_CONDITION { @if let Some(sense) = outcome.sense() { div.faint { (sense_words(sense)) } } }
    }
}

fn sense_words(sense: Sense) -> String {
    format!(
        "{} {:02X}h/{:02X}h",
        sense.key_name(),
        sense.asc,
        sense.ascq
    )
}

/// Who holds the unit after a command.
fn after(node: char, holder: Option<char>, send: &Send) -> Option<char> {
    match (send.cdb.first(), send.outcome.status()) {
        (Some(0x16 | 0x56), Some(GOOD)) => Some(node),
        (Some(0x17 | 0x57), Some(GOOD)) if holder == Some(node) => None,
        _ => holder,
    }
}
