//! `cargo xtask report`: one page of what the built driver did, just now, in the rig. Every figure is measured and has the
//! command that repeats it under it; what is expected is held against what was measured, and a difference is shown.
//!
//! The page loads nothing and needs no script: it is the same in a mail, on paper and in ten years.
#![allow(
    clippy::cast_precision_loss,
    reason = "lengths of bars, in numbers far below 2^52"
)]

pub mod answers;
pub mod cost;
pub mod facts;
mod graph;
pub mod machine;
pub mod model;
pub mod page;
pub mod probe;
pub mod rulebook;
pub mod sequence;
pub mod steps;
pub mod suites;
pub mod tools;

use std::path::{Path, PathBuf};

use maud::{Markup, html};
use scsi_reserve::Policy;
use serde_json::Value;

use crate::demo::DemoError;
use crate::faults::WalkError;
use crate::image;
use crate::node::NodeError;
use page::Section;

/// What to make the page of.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The built driver.
    pub image: PathBuf,
    /// The project's folder.
    pub root: PathBuf,
    /// The compiler that built it, in its own words.
    pub compiler: String,
    /// What the model's tests printed, if they were run.
    pub model: Option<PathBuf>,
    /// What the bench wrote, if it was run.
    pub bench: Option<PathBuf>,
    /// Walk all faults.
    pub full: bool,
    /// Play on real targets too.
    pub targets: bool,
}

/// Why there is no page.
#[derive(Debug)]
pub enum ReportError {
    /// The driver does not load.
    Node(NodeError),
    /// The demo did not play.
    Demo(DemoError),
    /// libiscsi's tests were not played.
    Suite(String),
    /// The faults were not walked.
    Walk(WalkError),
    /// The image could not be read.
    Image(object::Error),
    /// A file that another command has written can't be read.
    Input(PathBuf, String),
}

impl std::fmt::Display for ReportError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node(error) => error.fmt(f),
            Self::Demo(error) => error.fmt(f),
            Self::Suite(why) => f.write_str(why),
            Self::Walk(error) => error.fmt(f),
            Self::Image(error) => error.fmt(f),
            Self::Input(file, why) => write!(f, "{}: {why}", file.display()),
        }
    }
}

impl std::error::Error for ReportError {}

macro_rules! from {
    ($($variant:ident: $error:ty),*) => {
        $(impl From<$error> for ReportError {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })*
    };
}
from!(Node: NodeError, Demo: DemoError, Walk: WalkError, Image: object::Error);

/// The parts that can be asked for alone, as JSON lines.
pub const PARTS: [&str; 5] = ["image", "answers", "moments", "calls", "machine"];

/// One of [`PARTS`], measured now; none if there is no such part.
///
/// # Errors
/// See [`ReportError`].
pub fn part(name: &str, image: &Path) -> Result<Option<Vec<Value>>, ReportError> {
    Ok(Some(match name {
        "image" => vec![read_facts(image)?.json()],
        "answers" => answers::measure(image)?.lines().collect(),
        "moments" => steps::moment_lines(&steps::moments(image)?).collect(),
        "calls" => steps::call_lines(&steps::fail_calls(image)?).collect(),
        "machine" => machine::explore(Policy::DEFAULT).lines().collect(),
        _ => return Ok(None),
    }))
}

fn read_facts(file: &Path) -> Result<facts::Facts, ReportError> {
    let bytes = image::read(file).map_err(NodeError::Load)?;
    Ok(facts::read(file, &bytes)?)
}

/// All that is on the page.
struct Measured {
    facts: facts::Facts,
    tools: tools::Tools,
    answers: answers::Answers,
    calls: Vec<steps::FailedCall>,
    moments: steps::Moments,
    walked: Vec<steps::Walked>,
    machine: machine::Machine,
    model: Option<model::Checked>,
    events: Vec<sequence::Event>,
    reserve6: Vec<Value>,
    places: Vec<Value>,
    bench: Option<Value>,
}

/// Measures everything and makes the page.
///
/// # Errors
/// See [`ReportError`].
pub fn make(options: &Options) -> Result<String, ReportError> {
    let measured = measure(options)?;
    let mut sections = answers_and_faults(&measured, options.full);
    sections.extend(nodes_and_costs(&measured));
    let head = head(&measured);
    Ok(page::document(
        "resvflt: what the driver did",
        &head,
        &sections,
    ))
}

fn measure(options: &Options) -> Result<Measured, ReportError> {
    let image = options.image.as_path();
    let facts = read_facts(image)?;
    let bad = |file: &PathBuf, why: &dyn std::fmt::Display| {
        ReportError::Input(file.clone(), why.to_string())
    };
    let model = options.model.as_ref().map(|file| {
        let printed = std::fs::read_to_string(file).map_err(|why| bad(file, &why))?;
        model::read(&printed).map_err(|why| bad(file, &why))
    });
    let bench = options.bench.as_ref().map(|file| {
        let written = std::fs::read_to_string(file).map_err(|why| bad(file, &why))?;
        serde_json::from_str(&written).map_err(|why| bad(file, &why))
    });
    // Another image's costs would say nothing of this one.
    let bench = bench
        .transpose()?
        .filter(|bench| cost::is_of(bench, &facts));
    let reserve6 = suites::reserve6(image, options.targets);
    Ok(Measured {
        tools: tools::look(&options.root, &options.compiler),
        answers: answers::measure(image)?,
        calls: steps::fail_calls(image)?,
        moments: steps::moments(image)?,
        walked: steps::walk(image, !options.full)?,
        machine: machine::explore(Policy::DEFAULT),
        events: sequence::play(image)?,
        reserve6: reserve6.map_err(|why| ReportError::Suite(why.to_string()))?,
        places: suites::places(image)?,
        model: model.transpose()?,
        bench,
        facts,
    })
}

fn answers_and_faults(measured: &Measured, full: bool) -> Vec<Section> {
    let Measured {
        facts,
        answers,
        calls,
        moments,
        walked,
        machine,
        model,
        ..
    } = measured;
    let machine = std::iter::once(machine.figure());
    vec![
        Section {
            id: "file",
            title: "Image",
            lead: html! { "What ships, and what the rig maps, relocates, binds and runs: one file." },
            figures: vec![facts.figure()],
        },
        Section {
            id: "answers",
            title: "Answers",
            lead: html! {
                "What a caller of " code { "IOCTL_STORAGE_RESERVE" } " gets for what a target or a port driver can answer: measured \
                 on the image, each cell a RESERVE whose commands were all answered alike, with the default parameters. Each is \
                 held against the table of statuses, written down a second time for the tests."
            },
            figures: answers.figures(),
        },
        Section {
            id: "faults",
            title: "Faults",
            lead: html! { "What becomes of a node when a step goes wrong. What can be listed is listed; nothing is drawn by lot." },
            figures: steps::figures(walked, !full, calls, moments),
        },
        Section {
            id: "states",
            title: "State machine",
            lead: html! {
                "All that can happen to the operation in hand is an event to one pure type. It is explored here by itself, and \
                 checked with the whole concurrent driver around it."
            },
            figures: machine
                .chain(model.as_ref().map(model::Checked::figure))
                .collect(),
        },
    ]
}

fn nodes_and_costs(measured: &Measured) -> Vec<Section> {
    let Measured {
        tools,
        events,
        reserve6,
        places,
        bench,
        ..
    } = measured;
    vec![
        Section {
            id: "nodes",
            title: "Demo",
            lead: html! { "The main job from end to end, and others' tests of it." },
            figures: vec![sequence::figure(events), suites::reserve6_figure(reserve6)],
        },
        Section {
            id: "stack",
            title: "Places",
            lead: html! { "Where in a disk's stack the filter sits decides what it sees." },
            figures: vec![suites::places_figure(places)],
        },
        Section {
            id: "cost",
            title: "Cost",
            lead: html! {
                "What is executed inside the image is counted; what it calls is the rig's own, and says nothing about Windows."
            },
            figures: bench.as_ref().map(cost::figures).unwrap_or_default(),
        },
        Section {
            id: "verifier",
            title: "Rules",
            lead: html! { "What the driver must not do." },
            figures: vec![rulebook::figure()],
        },
        Section {
            id: "made",
            title: "Made with",
            lead: html! { "The page itself, in a clone of the project on Debian 12." },
            figures: vec![tools.figure()],
        },
    ]
}

fn head(measured: &Measured) -> Markup {
    let (facts, tools, model) = (&measured.facts, &measured.tools, &measured.model);
    html! {
        header id="top" {
            h1 { "resvflt" }
            p.what {
                "A Windows kernel-mode filter driver in Rust: it takes " code { "IOCTL_STORAGE_RESERVE" } " on a disk's stack, sends \
                 the disk a SCSI RESERVE(6), and tells the caller what the answer means. This page is what the built "
                code { "resvflt.sys" } " did in the project's rig when the page was made."
            }
            p.never {
                b { "Never run on Windows." } " No one here has loaded this driver on Windows, run HLK or Driver Verifier on it, or \
                built it with Microsoft's WDK. The rig maps the image and is its Windows: what the page says about the driver is \
                measured; what the rig says about Windows is as good as the published sources that it follows."
            }
            p.version {
                "Version " (env!("CARGO_PKG_VERSION"))
                @if !tools.commit.is_empty() { ", commit " code { (tools.commit) } " of " (tools.date) }
                ", built by " (tools.compiler)
            }
            (tiles(measured, facts, model.as_ref()))
        }
    }
}

fn tiles(measured: &Measured, facts: &facts::Facts, model: Option<&model::Checked>) -> Markup {
    let (asked, differ) = measured.answers.tally();
    let (cases, wrong) = steps::tally(&measured.walked);
    let (steps, good) = sequence::tally(&measured.events);
    let states = measured.machine.states;
    let kib = format!("{:.1}", facts.bytes as f64 / 1024.0);
    let imports = format!("KiB, {} imports", facts.imports.len());
    html! {
        dl.figures {
            (tile("#answers", "answers given", &page::count(asked), &all(differ, "as written"), differ == 0))
            (tile("#walk", "faults walked", &page::count(cases), &all(wrong, "hold"), wrong == 0))
            @if let Some(model) = model {
                @let rules = format!("{} rules hold", model.always.len());
                (tile("#model", "states checked", &page::count(model.states), &rules, true))
            } @else {
                (tile("#machine", "states explored", &page::count(states), "of the operation", true))
            }
            (tile("#demo", "demo steps", &steps.to_string(), &all(steps - good, "as they should"), good == steps))
            (tile("#image", "image", &kib, &imports, facts.checksum_holds))
        }
    }
}

/// "all as written", or how many are not.
fn all(differ: usize, words: &str) -> String {
    match differ {
        0 => format!("all {words}"),
        _ => format!("{} not {words}", page::count(differ)),
    }
}

fn tile(to: &str, what: &str, number: &str, more: &str, good: bool) -> Markup {
    html! {
        div.bad[!good] { dt { a href=(to) { (what) } } dd { (number) small { (more) } } }
    }
}
