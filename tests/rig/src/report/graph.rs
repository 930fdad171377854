//! The state machine's graph: the phases of a send in a row, the ends below them as bars, and the edges between as they
//! were found.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::machine::{Edge, IDLE, Machine, PHASES};

/// How many phases stand in the row; the others are bars.
const ROW: usize = 4;
/// The centres of the row's columns, and of the bars' own.
const COLUMNS: [i32; 5] = [150, 410, 672, 960, 1238];
const BOX: (i32, i32) = (132, 44);
const TOP: i32 = 132;
const BOTTOM: i32 = TOP + BOX.1;
const MIDDLE: i32 = TOP + BOX.1 / 2;
const BARS: [i32; 3] = [290, 400, 510];
const BAR: i32 = 34;
const SIZE: (i32, i32) = (1420, 560);
/// Of text.
const LINE: i32 = 15;
/// Between the edges that leave a column together.
const LANE: i32 = 12;

/// Where an edge runs, and where its words stand.
struct Route {
    path: String,
    at: (i32, i32),
    anchor: &'static str,
    turned: bool,
}

impl Route {
    fn new(path: String, at: (i32, i32), anchor: &'static str) -> Self {
        Self {
            path,
            at,
            anchor,
            turned: false,
        }
    }
}

/// Draws it.
pub fn draw(machine: &Machine) -> Markup {
    let mut pairs: BTreeMap<(usize, usize), Vec<String>> = BTreeMap::new();
    for edge in &machine.edges {
        let all = pairs.entry((edge.from, edge.to)).or_default();
        let words = words(edge);
        if !all.contains(&words) {
            all.push(words);
        }
    }
    let own = pairs.remove(&(IDLE, IDLE)).unwrap_or_default();
    let routes: Vec<_> = pairs
        .into_iter()
        .map(|((from, to), words)| (route(from, to, height(&words)), words))
        .collect();
    html! {
        svg.graph viewBox=(format!("0 0 {} {}", SIZE.0, SIZE.1)) role="img"
            aria-label="the phases of an operation, and what leads from one to another; the table below says the same" {
            defs { marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto" {
                path d="M0 0 L8 4 L0 8 Z" {}
            } }
            @for (route, _) in &routes { path.edge d=(route.path) marker-end="url(#tip)" {} }
            @for (at, phase) in PHASES.iter().enumerate() { (node(at, phase)) }
            text.label.plain x="96" y=(BARS[IDLE - ROW] + BAR / 2 + 4) { (own.join("; ")) }
            @for (route, words) in &routes { (label(route, words)) }
        }
    }
}

fn words(edge: &Edge) -> String {
    let guard = match (edge.stopped, edge.from) {
        (Some(true), IDLE) => " [gone]",
        (Some(true), _) => " [stop]",
        _ => "",
    };
    let action = match edge.action {
        "Nothing" => "–",
        action => action,
    };
    format!("{}{guard} → {action}", edge.event)
}

/// From the first line to the last.
fn height(lines: &[String]) -> i32 {
    lines.iter().skip(1).map(|_| LINE).sum()
}

fn route(from: usize, to: usize, height: i32) -> Route {
    match (from < ROW, to < ROW) {
        (true, true) if from == to => itself(COLUMNS[from], height),
        (true, true) if to == from + 1 => next(COLUMNS[from], COLUMNS[to], height),
        (true, true) if to < from => over(COLUMNS[from] - 34, COLUMNS[to] + 20, 24),
        (true, true) => over(COLUMNS[from] + 44, COLUMNS[to] - 52, 56),
        (true, false) => down(from, to - ROW, height),
        (false, false) => between(from - ROW, to - ROW, height),
        (false, true) => start(COLUMNS[to]),
    }
}

/// From a phase to itself.
fn itself(centre: i32, height: i32) -> Route {
    let (left, right, y) = (centre - 6, centre + 38, TOP - 24);
    let path = format!(
        "M{left} {TOP} V{} Q{left} {y} {} {y} H{} Q{right} {y} {right} {} V{TOP}",
        y + 8,
        left + 8,
        right - 8,
        y + 8
    );
    Route::new(path, (left, y - 7 - height), "start")
}

/// From a phase to its right neighbour.
fn next(from: i32, to: i32, height: i32) -> Route {
    let (left, right) = (from + BOX.0 / 2, to - BOX.0 / 2);
    let at = (i32::midpoint(left, right), MIDDLE - 8 - height);
    Route::new(format!("M{left} {MIDDLE} H{right}"), at, "middle")
}

/// From a phase to one that is not its right neighbour, above the row.
fn over(from: i32, to: i32, y: i32) -> Route {
    let turn = if to < from { -10 } else { 10 };
    let path = format!(
        "M{from} {TOP} V{} Q{from} {y} {} {y} H{} Q{to} {y} {to} {} V{TOP}",
        y + 10,
        from + turn,
        to - turn,
        y + 10
    );
    Route::new(path, (from.min(to) + 44, y - 6), "start")
}

/// From a phase to a bar: a column's edges run side by side, each one's words above the bar at which it ends.
fn down(column: usize, bar: usize, height: i32) -> Route {
    let lanes = [0, LANE, 2 * LANE];
    let x = COLUMNS[column] - 56 + lanes[bar];
    let above = if bar == 0 {
        BOTTOM
    } else {
        BARS[bar - 1] + BAR
    };
    let y = i32::midpoint(above, BARS[bar]) - height / 2 + 4;
    let path = format!("M{x} {BOTTOM} V{}", BARS[bar]);
    Route::new(path, (COLUMNS[column] - 16, y), "start")
}

/// From a bar to one below it.
fn between(from: usize, to: usize, height: i32) -> Route {
    let (lane, y) = match (from, to) {
        (0, 1) => (0, BARS[1] - 38 - height / 2),
        (0, _) => (LANE, BARS[2] - 56 - height / 2),
        _ => (2 * LANE, BARS[2] - 12 - height / 2),
    };
    let x = COLUMNS[ROW] - 56 + lane;
    let path = format!("M{x} {} V{}", BARS[from] + BAR, BARS[to]);
    Route::new(path, (COLUMNS[ROW] - 16, y), "start")
}

/// From Idle into the row, along the left side.
fn start(to: i32) -> Route {
    let (x, bar) = (34, BARS[IDLE - ROW]);
    let path = format!(
        "M{x} {bar} V{} Q{x} {MIDDLE} {} {MIDDLE} H{}",
        MIDDLE + 10,
        x + 10,
        to - BOX.0 / 2
    );
    Route {
        turned: true,
        ..Route::new(path, (x - 8, i32::midpoint(MIDDLE, bar)), "middle")
    }
}

fn node(at: usize, phase: &str) -> Markup {
    if let Some(bar) = at.checked_sub(ROW) {
        let (y, left) = (BARS[bar], if at == IDLE { 16 } else { 62 });
        return html! {
            rect.phase.idle[at == IDLE] x=(left) y=(y) width=(SIZE.0 - 16 - left) height=(BAR) rx="7" {}
            text.name x=(left + 14) y=(y + BAR / 2 + 5) { (phase) }
        };
    }
    let x = COLUMNS[at];
    html! {
        rect.phase x=(x - BOX.0 / 2) y=(TOP) width=(BOX.0) height=(BOX.1) rx="7" {}
        text.name x=(x) y=(MIDDLE + 5) text-anchor="middle" { (phase) }
    }
}

fn label(route: &Route, words: &[String]) -> Markup {
    let (x, y) = route.at;
    let turn = route.turned.then(|| format!("rotate(-90 {x} {y})"));
    html! {
        text.label x=(x) y=(y) text-anchor=(route.anchor) transform=[turn] {
            @for (y, line) in (y..).step_by(LINE as usize).zip(words) { tspan x=(x) y=(y) { (line) } }
        }
    }
}
