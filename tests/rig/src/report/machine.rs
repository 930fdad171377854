//! The operation's state machine as a graph: every event in every state that [`Operation`] can get into, asked of the
//! very type that the driver steps, and brought together by phase.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use maud::{Markup, html};
use scsi_reserve::{Action, Answer, Command, Event, NtStatus, Operation, Policy, Verdict};
use serde_json::{Value, json};

use super::page::{self, Figure};

/// The phases, as [`Operation`]'s documentation names them; an ended operation's says what it waits for.
pub const PHASES: [&str; 7] = [
    "Marking",
    "Preparing",
    "Out",
    "Waiting",
    "Ended, awaits Unmarked",
    "Ended, awaits CancelDone",
    "Idle",
];
/// The last of them.
pub const IDLE: usize = 6;

/// What the type does.
pub struct Machine {
    /// How many states it has been in.
    pub states: usize,
    /// How many times it was stepped.
    pub steps: usize,
    /// What takes it from one phase to another, or has it act.
    pub edges: Vec<Edge>,
}

/// Steps that a reader would call the same.
#[derive(Clone, Debug)]
pub struct Edge {
    /// An index into [`PHASES`].
    pub from: usize,
    /// As `from`.
    pub to: usize,
    /// The event.
    pub event: &'static str,
    /// Whether a stop had been recorded, in Idle whether the device was gone; `None` if both occur.
    pub stopped: Option<bool>,
    /// What the machine answers.
    pub action: &'static str,
    /// What it finishes with.
    pub statuses: Vec<NtStatus>,
}

/// One event of each kind that the machine tells apart.
fn events() -> Vec<(&'static str, Event)> {
    let answer = |status, scsi_status, sense: &'static [u8]| {
        Event::Answered(Verdict::of(&Answer {
            status,
            information: 56 + sense.len(),
            scsi_status,
            sense,
        }))
    };
    let check = |sense| answer(NtStatus::SUCCESS, 0x02, sense);
    vec![
        ("Start", Event::Start(Command::Reserve)),
        ("Marked", Event::Marked(NtStatus::SUCCESS)),
        ("Marked: refused", Event::Marked(NtStatus::CANCELLED)),
        ("Ready", Event::Ready),
        (
            "FormatFailed",
            Event::FormatFailed(NtStatus::INSUFFICIENT_RESOURCES),
        ),
        (
            "FormatFailed",
            Event::FormatFailed(NtStatus::INVALID_DEVICE_STATE),
        ),
        ("Refused", Event::Refused(NtStatus::INSUFFICIENT_RESOURCES)),
        ("Refused", Event::Refused(NtStatus::INVALID_DEVICE_STATE)),
        ("Answered: proof", answer(NtStatus::SUCCESS, 0x00, &[])),
        ("Answered", answer(NtStatus::SUCCESS, 0x18, &[])),
        ("Answered", answer(NtStatus::SUCCESS, 0x08, &[])),
        ("Answered", answer(NtStatus::IO_TIMEOUT, 0xFF, &[])),
        ("Answered", check(&[0x72, 2, 0x04, 0x01])),
        ("Answered", check(&[0x72, 6, 0x29, 0x00])),
        ("Answered", check(&[0x72, 5, 0x20, 0x00])),
        ("DelayOver", Event::DelayOver),
        ("WaitStopped: in time", Event::WaitStopped(true)),
        ("WaitStopped: too late", Event::WaitStopped(false)),
        ("CancelAsked", Event::CancelAsked),
        ("CancelDone", Event::CancelDone),
        ("Unmarked: won", Event::Unmarked(NtStatus::SUCCESS)),
        ("Unmarked: lost", Event::Unmarked(NtStatus::CANCELLED)),
        ("Gone", Event::Gone),
        ("ResetPassed, PoweredUp", Event::ResetPassed),
    ]
}

const fn name(action: Action) -> &'static str {
    match action {
        Action::Nothing => "Nothing",
        Action::Mark => "Mark",
        Action::Prepare => "Prepare",
        Action::Send => "Send",
        Action::StartTimer { .. } => "StartTimer",
        Action::StopTimer => "StopTimer",
        Action::CancelSent => "CancelSent",
        Action::Unmark => "Unmark",
        Action::Finish(_) => "Finish",
        Action::Refuse => "Refuse",
    }
}

/// What the graph shows of a state.
#[derive(Clone, Copy)]
struct Seen {
    phase: usize,
    stopped: bool,
}

impl Seen {
    /// Read off the type's Debug form: phase and stop are its own affair, and no accessor is made for a picture.
    fn of(operation: &Operation) -> Self {
        let words = format!("{operation:?}");
        let field = |name: &str| {
            let rest = words.split_once(name).map_or("", |(_, rest)| rest);
            rest.split([',', ' ', '}']).next().unwrap_or_default()
        };
        let phase = match field(" phase: ") {
            "Ended" => format!("Ended, awaits {}", field(" awaits: ")),
            other => other.to_owned(),
        };
        let phase = PHASES.iter().position(|known| *known == phase);
        let phase = phase.expect("the graph knows the machine's phases");
        let stopped = if phase == IDLE {
            operation.is_gone()
        } else {
            field(" stop: ") != "None"
        };
        Self { phase, stopped }
    }
}

/// From, to, event, action.
type Key = (usize, usize, &'static str, &'static str);

/// Steps the machine of a new device through all that can be reported to it.
pub fn explore(policy: Policy) -> Machine {
    let events = events();
    let first = Operation::new(policy);
    let mut known = HashMap::from([(first.clone(), Seen::of(&first))]);
    let mut open = vec![first];
    let mut steps = 0;
    let mut found: BTreeMap<Key, (BTreeSet<bool>, BTreeSet<i32>)> = BTreeMap::new();
    while let Some(before) = open.pop() {
        let from = known[&before];
        for &(event_name, event) in &events {
            let mut after = before.clone();
            let action = after.step(event);
            steps += 1;
            let to = *known.entry(after).or_insert_with_key(|after| {
                open.push(after.clone());
                Seen::of(after)
            });
            if to.phase == from.phase && action == Action::Nothing {
                continue;
            }
            let key = (from.phase, to.phase, event_name, name(action));
            let (stopped, statuses) = found.entry(key).or_default();
            stopped.insert(from.stopped);
            if let Action::Finish(status) = action {
                statuses.insert(status.0);
            }
        }
    }
    let edge =
        |((from, to, event, action), (stopped, statuses)): (Key, (BTreeSet<bool>, _))| Edge {
            from,
            to,
            event,
            stopped: (stopped.len() == 1).then(|| stopped.contains(&true)),
            action,
            statuses: BTreeSet::into_iter(statuses).map(NtStatus).collect(),
        };
    Machine {
        states: known.len(),
        steps,
        edges: found.into_iter().map(edge).collect(),
    }
}

impl Machine {
    /// A line for each edge.
    pub fn lines(&self) -> impl Iterator<Item = Value> {
        self.edges.iter().map(|edge| {
            json!({
                "from": PHASES[edge.from],
                "to": PHASES[edge.to],
                "event": edge.event,
                "stopped": edge.stopped,
                "action": edge.action,
                "statuses": edge.statuses.iter().map(|status| status.name()).collect::<Vec<_>>(),
            })
        })
    }

    /// The figure.
    pub fn figure(&self) -> Figure {
        Figure {
            id: "machine",
            title: format!(
                "One operation, from {} states of the type itself",
                page::count(self.states)
            ),
            note: html! {
                "The driver steps " code { "scsi_reserve::Operation" } " under the device's spin lock. Here the very type was given \
                 every event in every state that it can get into, " (page::count(self.steps)) " steps with the default parameters, \
                 and what changed its phase or had it act is drawn: event → action. [stop]: a cancel or a removal was recorded \
                 before; [gone]: the device is being removed; –: no action."
            },
            body: self.body(),
            command: "cargo xtask report --only machine".into(),
        }
    }

    fn body(&self) -> Markup {
        html! {
            div.scroll { (super::graph::draw(self)) }
            details {
                summary { "The " (self.edges.len()) " transitions as a table" }
                table.rows.edges {
                    thead { tr { th { "phase" } th { "event" } th { "stop recorded" } th { "action" } th { "phase then" } th { "finishes with" } } }
                    tbody { @for edge in &self.edges { tr {
                        th { (PHASES[edge.from]) }
                        td { (edge.event) }
                        td { (match edge.stopped { Some(true) => "yes", Some(false) => "no", None => "either" }) }
                        td { code { (edge.action) } }
                        td { (PHASES[edge.to]) }
                        td { @for status in &edge.statuses { (page::mark(status.0)) " " } }
                    } } }
                }
            }
        }
    }
}
