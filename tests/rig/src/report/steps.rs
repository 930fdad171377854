//! Step by fault: a node's life with each of its framework calls failed in turn, one operation with an event at each of
//! its points, and the counts of the whole walk (`cargo xtask faults`).

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use maud::{Markup, html};
use serde_json::{Value, json};

use super::page::{self, Figure};
use super::probe::{RELEASE, RESERVE};
use crate::abi::{Status, status};
use crate::disk::Outcome;
use crate::disk::logical_unit::LogicalUnit;
use crate::faults::{self, Done, Report, WalkError};
use crate::fx::{DiskKeys, Pnp};
use crate::image;
use crate::io::{Call, Pending};
use crate::node::{Node, NodeError, Stack};
use crate::port::{Answer, Cancel, Shape, Timing};
use crate::registry::Hive;
use crate::world::{self, Schedule, World};

/// A group of the walk.
pub struct Walked {
    /// Its name.
    pub name: &'static str,
    /// What its cases are.
    pub about: &'static str,
    /// How it went.
    pub done: Done,
}

/// Walks the faults.
///
/// # Errors
/// The image can't be read.
pub fn walk(image: &Path, quick: bool) -> Result<Vec<Walked>, WalkError> {
    let options = faults::Options {
        image: image.into(),
        quick,
        only: None,
        from: 0,
    };
    let mut walked = Vec::new();
    faults::walk(&options, |report| {
        if let Report::End(group, done) = report {
            walked.push(Walked {
                name: group.name,
                about: group.about,
                done: done.clone(),
            });
        }
    })?;
    Ok(walked)
}

/// A call that can fail, in the order of a node's life, and what became of the node when it did.
pub struct FailedCall {
    /// The call.
    pub name: &'static str,
    /// The status that it failed with.
    pub status: Status,
    /// It alone fails.
    pub alone: Fate,
    /// It and all that can fail after it.
    pub from_here: Fate,
}

/// What became of a node, its disk and the RESERVE of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// DriverEntry failed with this, and left nothing behind.
    NotLoaded(Status),
    /// The disk works, without the filter.
    NoFilter,
    /// The RESERVE ended with this, the next one, without faults, with that.
    Served(Status, Status),
}

/// One answer BUSY, then the unit's own: the operation meets the timer too.
fn busy() -> Answer {
    Answer::Target(Outcome::Status {
        status: 0x08,
        sense: Vec::new(),
        data: Vec::new(),
    })
}

/// Fails each call of a node's life in turn.
///
/// # Errors
/// The image can't be read, or does not load where nothing fails.
pub fn fail_calls(image: &Path) -> Result<Vec<FailedCall>, NodeError> {
    let bytes = image::read(image)?;
    let (calls, healthy) = live(image, &bytes, None)?;
    if healthy != Fate::Served(status::SUCCESS, status::SUCCESS) {
        return Err(NodeError::Entry(status::UNSUCCESSFUL));
    }
    let mut failed = Vec::new();
    for (number, (name, statuses)) in calls.into_iter().enumerate() {
        for (which, &status) in statuses.iter().enumerate() {
            let fate = |all| live(image, &bytes, Some((number, which, all)));
            failed.push(FailedCall {
                name,
                status,
                alone: fate(false)?.1,
                from_here: fate(true)?.1,
            });
        }
    }
    Ok(failed)
}

type Calls = Vec<(&'static str, &'static [Status])>;

/// A node's life: load, a disk, a RESERVE that meets a busy target, another one that nothing happens to, unload.
fn live(
    file: &Path,
    bytes: &[u8],
    fault: Option<(usize, usize, bool)>,
) -> Result<(Calls, Fate), NodeError> {
    let world = World::enter(Schedule::Orderly);
    if let Some((number, which, all)) = fault {
        let mut faults = world.world().faults();
        faults.fail_call = Some((number, which));
        faults.fail_all_after = all;
    }
    let calls = || world.world().faults().calls.clone();
    let node = match Node::load_bytes(world.world(), "A", file, bytes, Hive::default()) {
        Ok(node) => node,
        Err(NodeError::Entry(status)) if fault.is_some() => {
            return Ok((calls(), Fate::NotLoaded(status)));
        }
        Err(error) => return Err(error),
    };
    let unit = LogicalUnit::new();
    unit.configure(|options| options.quiet = true);
    let disk = Arc::new(unit.connect("iqn.2026-01.example:a"));
    let stack = node
        .plug(disk, &DiskKeys::default())
        .map_err(NodeError::Entry)?;
    stack.port.script([busy()]);
    let reserve = Call::ioctl(RESERVE);
    let first = node.call(&stack, &reserve).status;
    stack.port.forget_script();
    let calls = calls();
    world.world().faults().fail_call = None;
    let next = node.call(&stack, &reserve).status;
    let fate = if stack.is_filtered() {
        Fate::Served(first, next)
    } else {
        Fate::NoFilter
    };
    node.unplug(stack);
    node.unload();
    Ok((calls, fate))
}

/// What can happen to an operation from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its caller cancels it.
    Cancel,
    /// IRP_MN_SURPRISE_REMOVAL.
    Surprise,
    /// IRP_MN_REMOVE_DEVICE.
    Remove,
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cancel, Self::Surprise, Self::Remove];

    const fn words(self) -> &'static str {
        match self {
            Self::Cancel => "the caller cancels",
            Self::Surprise => "surprise removal",
            Self::Remove => "orderly removal",
        }
    }
}

/// A RESERVE that meets a busy target, with a RELEASE queued behind it, and an event at each of their points.
pub struct Moments {
    /// The call in which each point is, before it and after it; empty for the rig's own.
    pub calls: Vec<&'static str>,
    /// How the two ended, by event and point.
    pub ends: Vec<(Event, Vec<Ends>)>,
}

/// How the operations of one run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The RESERVE.
    pub first: Status,
    /// The RELEASE behind it.
    pub second: Status,
    /// Whether the node holds the unit in the end.
    pub held: bool,
}

/// Puts each event at each point.
///
/// # Errors
/// The image does not load.
pub fn moments(image: &Path) -> Result<Moments, NodeError> {
    let bytes = image::read(image)?;
    let (calls, _) = play(image, &bytes, None)?;
    let mut all = Vec::new();
    for event in Event::ALL {
        let points = 1..=calls.len() as u64;
        let ends = points.map(|point| Ok(play(image, &bytes, Some((event, point)))?.1));
        all.push((event, ends.collect::<Result<_, NodeError>>()?));
    }
    Ok(Moments { calls, ends: all })
}

fn play(
    file: &Path,
    bytes: &[u8],
    event: Option<(Event, u64)>,
) -> Result<(Vec<&'static str>, Ends), NodeError> {
    let world = World::enter(Schedule::Orderly);
    let unit = LogicalUnit::new();
    unit.configure(|options| options.quiet = true);
    let node = Node::load_bytes(world.world(), "A", file, bytes, Hive::default())?;
    let disk = Arc::new(unit.connect("iqn.2026-01.example:a"));
    let stack = node
        .plug(disk, &DiskKeys::default())
        .map_err(NodeError::Entry)?;
    stack.port.behave(Shape::Success, Timing::Later);
    stack.port.on_cancel(Cancel::Honoured);
    stack.port.script([busy()]);
    let (node, stack) = (Arc::new(node), Arc::new(stack));
    let first: Arc<Mutex<Option<Arc<Pending>>>> = Arc::default();
    world.world().name_points();
    let before = world.world().points();
    if let Some((event, point)) = event {
        let job = happen(event, &node, &stack, &first);
        world.world().place(before + point, "event", job);
    }
    let tell = |pending: &Arc<Pending>| {
        *first.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(pending));
    };
    let reserve = node.start_noting(&stack, &Call::ioctl(RESERVE), tell);
    let release = node.start(&stack, &Call::ioctl(RELEASE));
    let (reserve, release) = (reserve.wait().status, release.wait().status);
    let calls = world.world().point_names();
    world::current().settle();
    let ends = Ends {
        first: reserve,
        second: release,
        held: unit.holder().is_some(),
    };
    let removed = event.is_some_and(|(event, _)| event == Event::Remove);
    let (Ok(node), Ok(stack)) = (
        Arc::try_unwrap(node).map_err(drop),
        Arc::try_unwrap(stack).map_err(drop),
    ) else {
        unreachable!("the event's thread is done once nothing is left to run");
    };
    if !removed {
        node.unplug(stack);
    }
    node.unload();
    Ok((calls, ends))
}

fn happen(
    event: Event,
    node: &Arc<Node>,
    stack: &Arc<Stack>,
    first: &Arc<Mutex<Option<Arc<Pending>>>>,
) -> world::Job {
    let (node, stack, first) = (Arc::clone(node), Arc::clone(stack), Arc::clone(first));
    Box::new(move || match event {
        Event::Cancel => {
            let first = first.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(first) = first {
                first.cancel();
            }
        }
        Event::Surprise => drop(node.pnp(&stack, Pnp::SurpriseRemoval)),
        Event::Remove => drop(node.pnp(&stack, Pnp::Remove)),
    })
}

/// The figures.
pub fn figures(
    walked: &[Walked],
    quick: bool,
    failed: &[FailedCall],
    moments: &Moments,
) -> Vec<Figure> {
    let (cases, wrong) = tally(walked);
    let command = if quick {
        "cargo xtask faults --quick"
    } else {
        "cargo xtask faults"
    };
    vec![
        Figure {
            id: "walk",
            title: match wrong {
                0 => format!("{} faults, and all cases hold", page::count(cases)),
                _ => format!(
                    "{} faults, and {wrong} cases that don't hold",
                    page::count(cases)
                ),
            },
            note: html! {
                "Every case has a number, under which it is repeated: " code { "cargo xtask faults --only GROUP --from N" } ". "
                @if quick { "This is the quick walk; " code { "cargo xtask report --full" } " walks all, 1.35 million in \
                    about two and a half minutes." }
            },
            body: walk_body(walked),
            command: command.into(),
        },
        Figure {
            id: "moments",
            title: "One operation, stopped at each of its points".into(),
            note: html! {
                "A RESERVE meets a busy target, waits a second and is sent again; a RELEASE of the same node is queued behind it. \
                 Each column is a point before or after a call of the driver's, " (moments.calls.len()) " in all; at each of \
                 them the event comes, in a run of its own. The bars say how the two callers' requests ended, \
                 the line below whether the node holds the unit afterwards. Nothing waits for the timer once it is stopped, and what is told as success \
                 was proved: the walk above checks that, with every preemption of the event's own thread besides."
            },
            body: moments_body(moments),
            command: "cargo xtask report --only moments".into(),
        },
        Figure {
            id: "calls",
            title: "Every framework call that can fail, failing".into(),
            note: html! {
                "A node's life from load to unload, with one RESERVE that meets a busy target, and each call failing with each \
                 status that the rig knows of it: alone, and with everything that can fail after it. Where the driver is loaded, \
                 the disk always starts: at worst it works without the filter."
            },
            body: calls_body(failed),
            command: "cargo xtask report --only calls".into(),
        },
    ]
}

/// Cases, and how many don't hold.
pub fn tally(walked: &[Walked]) -> (u64, usize) {
    let cases = walked.iter().map(|group| group.done.cases).sum();
    (
        cases,
        walked.iter().map(|group| group.done.failures.len()).sum(),
    )
}

fn walk_body(walked: &[Walked]) -> Markup {
    let largest = walked
        .iter()
        .map(|group| group.done.cases)
        .max()
        .unwrap_or(1)
        .max(1);
    html! {
        div.scroll { table.rows {
            thead { tr { th { "group" } th { "what goes wrong" } th.number { "cases" } th.bar {} th.number { "don't hold" } th.number { "time" } } }
            tbody { @for Walked { name, about, done } in walked { tr.wrong[!done.failures.is_empty()] {
                th { code { (name) } }
                td { (about) }
                td.number { (page::count(done.cases)) }
                // By the square root: a thousand and a million on one line.
                td.bar { (page::bar((done.cases as f64 / largest as f64).sqrt())) }
                td.number { (done.failures.len()) }
                td.number { (format!("{:.1}", done.elapsed.as_secs_f64())) " s" }
            } } }
        } }
        @for failure in walked.iter().flat_map(|group| &group.done.failures) { p.wrong { code { (failure) } } }
    }
}

/// The calls of the points, with how many points each has.
fn spans(calls: &[&'static str]) -> Vec<(&'static str, usize)> {
    let mut spans: Vec<(&'static str, usize)> = Vec::new();
    let mut at = 0;
    while at < calls.len() {
        // One point before it and one after it; more where the rig lets others run inside.
        let same = calls[at..]
            .iter()
            .take_while(|call| **call == calls[at])
            .count();
        let length = if calls[at].is_empty() || same % 2 == 1 {
            same
        } else {
            2
        };
        spans.push((calls[at], length));
        at += length;
    }
    spans
}

fn moments_body(moments: &Moments) -> Markup {
    html! {
        div.scroll { table.moments {
            thead { tr { th {} @for (call, length) in spans(&moments.calls) {
                th colspan=(length) .edge[EDGES.contains(&call)] { span { (call.trim_start_matches("Wdf")) @if call.is_empty() { "·" } } }
            } } }
            tbody { @for (event, ends) in &moments.ends {
                tr.event { th colspan=(ends.len() + 1) { (event.words()) } }
                tr { th { "RESERVE" } (runs(ends, |end| end.first)) }
                tr { th { "RELEASE" } (runs(ends, |end| end.second)) }
                tr.keeps { th { "holds it after" } @for run in ends.chunk_by(|a, b| a.held == b.held) {
                    td colspan=(run.len()) .yes[run[0].held] { @if run[0].held { "● held" } }
                } }
            } }
        } }
        (key(moments))
    }
}

/// The calls that are worth a line across.
const EDGES: [&str; 4] = [
    "WdfRequestSend",
    "WdfTimerStart",
    "WdfRequestCompleteWithInformation",
    "WdfRequestMarkCancelableEx",
];

fn runs(ends: &[Ends], of: impl Fn(&Ends) -> Status) -> Markup {
    html! { @for (first, piece) in page::pieces(ends, |a, b| of(a) == of(b)) {
        @let status = of(&piece[0]);
        @let (css, mark) = page::class(status);
        td.(css) colspan=(piece.len())
            title={ "points " (first + 1) " to " (first + piece.len()) ": " (page::status_words(status)) } {
            @if piece.len() > 4 { (mark) }
        }
    } }
}

/// What the colours of the narrow pieces are.
fn key(moments: &Moments) -> Markup {
    let ends = moments.ends.iter().flat_map(|(_, ends)| ends);
    let mut statuses: Vec<_> = ends.flat_map(|end| [end.first, end.second]).collect();
    statuses.sort_unstable();
    statuses.dedup();
    html! { p.key { @for status in statuses { span { (page::status(status)) } " " } } }
}

fn calls_body(failed: &[FailedCall]) -> Markup {
    let split = failed
        .iter()
        .position(|call| call.name == "WdfRequestMarkCancelableEx");
    let (loading, serving) = failed.split_at(split.unwrap_or(failed.len()));
    html! {
        div.columns.uneven {
            (calls_table("DriverEntry and EvtDriverDeviceAdd", loading))
            (calls_table("one RESERVE", serving))
        }
    }
}

fn calls_table(title: &str, failed: &[FailedCall]) -> Markup {
    html! {
        div.scroll { table.rows.calls {
            thead { tr { th { (title) } th { "fails with" } th { "alone" } th { "and all after" } } }
            tbody { @for group in failed.chunk_by(|a, b| a.name == b.name) { @for (at, (statuses, call)) in alike(group).iter().enumerate() {
                tr.first[at == 0] {
                    th { @if at == 0 { code { (call.name.trim_start_matches("Wdf")) } } }
                    td { @for status in statuses { code.faint title=(page::status_words(*status)) { (format!("{status:x}")) } " " } }
                    td { (fate(call.alone)) }
                    td { (fate(call.from_here)) }
                }
            } } }
        } }
    }
}

/// The statuses of a call, brought together by what comes of them.
fn alike(calls: &[FailedCall]) -> Vec<(Vec<Status>, &FailedCall)> {
    let mut groups: Vec<(Vec<Status>, &FailedCall)> = Vec::new();
    for call in calls {
        let same = |(_, known): &&mut (_, &FailedCall)| {
            (known.alone, known.from_here) == (call.alone, call.from_here)
        };
        match groups.iter_mut().find(same) {
            Some((statuses, _)) if statuses.contains(&call.status) => {}
            Some((statuses, _)) => statuses.push(call.status),
            None => groups.push((vec![call.status], call)),
        }
    }
    groups
}

fn fate(fate: Fate) -> Markup {
    html! {
        @match fate {
            Fate::NotLoaded(status) => span.mark.gone title=(page::status_words(status)) { "not loaded" },
            Fate::NoFilter => span.mark.plain { "no filter" },
            Fate::Served(first, status::SUCCESS) => (page::mark(first)),
            Fate::Served(first, next) => { (page::mark(first)) " then " span.wrong { (page::mark(next)) } }
        }
    }
}

/// A line for each call that failed.
pub fn call_lines(failed: &[FailedCall]) -> impl Iterator<Item = Value> {
    failed.iter().map(|call| {
        json!({
            "call": call.name,
            "fails_with": format!("{:#010x}", call.status),
            "alone": fate_words(call.alone),
            "from_here": fate_words(call.from_here),
        })
    })
}

fn fate_words(fate: Fate) -> String {
    match fate {
        Fate::NotLoaded(status) => format!("not loaded, {}", page::status_words(status)),
        Fate::NoFilter => "the disk works without the filter".into(),
        Fate::Served(first, next) => {
            format!(
                "{}, the next one {}",
                page::status_words(first),
                page::status_words(next)
            )
        }
    }
}

/// A line for each point and event.
pub fn moment_lines(moments: &Moments) -> impl Iterator<Item = Value> {
    moments.ends.iter().flat_map(|(event, ends)| {
        ends.iter()
            .zip(&moments.calls)
            .zip(1..)
            .map(|((end, call), point)| {
                json!({
                    "event": event.words(),
                    "point": point,
                    "in": call,
                    "reserve": page::status_words(end.first),
                    "release": page::status_words(end.second),
                    "held": end.held,
                })
            })
    })
}
