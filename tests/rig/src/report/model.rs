//! What the model checker found: the lines that its tests (driver/scsi/tests/model.rs) print for programs.

use maud::{Markup, html};
use serde_json::Value;

use super::page::{self, Figure};

/// Begins a line for programs.
const MARK: &str = "model: ";

/// The figures of the checked world.
pub struct Checked {
    /// States that differ.
    pub states: u64,
    /// States met, in all orders.
    pub generated: u64,
    /// Steps of the longest of the shortest ways.
    pub depth: u64,
    /// How long it took.
    pub seconds: f64,
    /// What held in each state.
    pub always: Vec<String>,
    /// What was seen to happen.
    pub sometimes: Vec<String>,
    /// The world: callers and faults.
    pub world: String,
    /// States on no circle, so that every order ends.
    pub ends: Option<u64>,
    /// A wrong wording of the lock's rules, the promise that it loses, after how many states, and the way there.
    pub lost: Vec<Lost>,
}

/// A race that a wrong wording loses.
pub struct Lost {
    /// The wording.
    pub wording: String,
    /// What is lost.
    pub promise: String,
    /// After how many states it was found.
    pub states: u64,
    /// How it comes to that.
    pub way: Vec<String>,
}

/// Reads what the tests printed.
///
/// # Errors
/// The lines are not there, or not as they were.
pub fn read(printed: &str) -> Result<Checked, String> {
    let mut lines = Vec::new();
    for line in printed.lines() {
        // The test harness writes its own words before it.
        if let Some((_, line)) = line.split_once(MARK) {
            lines.push(
                serde_json::from_str::<Value>(line).map_err(|error| format!("{error}: {line}"))?,
            );
        }
    }
    let find = |key: &str| lines.iter().find(|line| line.get(key).is_some());
    let checked =
        find("always").ok_or("the model's tests say nothing of the states that they checked")?;
    let number = |line: &Value, key: &str| line[key].as_u64().unwrap_or(0);
    let texts = |line: &Value, key: &str| {
        let texts = line[key].as_array().into_iter().flatten();
        texts
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let lost = lines.iter().filter(|line| line.get("wording").is_some());
    Ok(Checked {
        states: number(checked, "states"),
        generated: number(checked, "generated"),
        depth: number(checked, "depth"),
        seconds: checked["seconds"].as_f64().unwrap_or(0.0),
        always: texts(checked, "always"),
        sometimes: texts(checked, "sometimes"),
        world: text(checked, "world"),
        ends: find("ends").map(|line| number(line, "ends")),
        lost: lost
            .map(|line| Lost {
                wording: text(line, "wording"),
                promise: text(line, "promise"),
                states: number(line, "states"),
                way: texts(line, "way"),
            })
            .collect(),
    })
}

impl Checked {
    /// The figure.
    pub fn figure(&self) -> Figure {
        Figure {
            id: "model",
            title: "The whole driver around it, in all orders".into(),
            note: html! {
                "A model of everything that steps the machine at once: the queue's thread, the completion routine, the timer, \
                 the canceller, the removal, and a port that fails, hangs or answers anything. The machine in it is the \
                 driver's own type, not a copy. World: " (self.world) "."
            },
            body: self.body(),
            command: "cargo test -p scsi-reserve --test model -- --nocapture --test-threads=1"
                .into(),
        }
    }

    fn body(&self) -> Markup {
        html! {
            dl.figures {
                div { dt { "states" } dd { (page::count(self.states)) } }
                div { dt { "met in all orders" } dd { (page::count(self.generated)) } }
                div { dt { "deepest" } dd { (self.depth) small { " steps" } } }
                div { dt { "rules that hold" } dd { (self.always.len()) } }
                div { dt { "checked in" } dd { (format!("{:.1}", self.seconds)) small { " s" } } }
            }
            div.columns {
                div { h4 { "In every state" } ul.ticks { @for rule in &self.always { li { (rule) } }
                    @if let Some(ends) = self.ends { li { "every order ends: no circle among " (page::count(ends)) " states" } } } }
                div { h4 { "Seen to happen, so that the rules are put to the test" } ul.ticks { @for seen in &self.sometimes { li { (seen) } } } }
            }
            h4 { "Three wrong readings of the lock's rules, and the race that each loses" }
            @for lost in &self.lost { details {
                summary { code { (lost.wording) } ": “" (lost.promise) "” is lost, found after " (page::count(lost.states)) " states, in "
                    (lost.way.len()) " steps" }
                ol.way { @for step in &lost.way { li { code { (step) } } } }
            } }
        }
    }
}
