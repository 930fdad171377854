//! Says what is being done and how long it took the last time: with a bar on a terminal, in plain lines elsewhere.

use crate::build::root;
use indicatif::{ProgressBar, ProgressStyle};
use open_kit::{Error, Result};
use std::fs;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

static QUIET: AtomicBool = AtomicBool::new(false);
/// The bar that is being drawn; what is printed meanwhile goes above it.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// From now on only results and errors are told.
pub fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

fn bar() -> Option<ProgressBar> {
    BAR.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn set_bar(bar: Option<ProgressBar>) {
    *BAR.lock().unwrap_or_else(PoisonError::into_inner) = bar;
}

/// Prints without the bar in the way.
fn above_the_bar(print: impl FnOnce()) {
    match bar() {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}

/// A line of the result.
pub fn say(line: &str) {
    above_the_bar(|| println!("{line}"));
}

/// A line for the reader at the terminal.
pub fn tell(line: &str) {
    if !is_quiet() {
        above_the_bar(|| eprintln!("{line}"));
    }
}

/// A line about what went wrong.
pub fn warn(line: &str) {
    above_the_bar(|| eprintln!("{line}"));
}

/// Says what begins, does it, says how long it took.
pub fn timed<T>(what: &str, detail: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let last = last_time(what);
    let before = last.map_or(String::new(), |last| {
        format!(", {} last time", length(last))
    });
    let draws = !is_quiet() && bar().is_none() && std::io::stderr().is_terminal();
    if draws {
        set_bar(Some(draw(&format!("{what}{detail}"), last)));
    } else {
        tell(&format!("{what}{detail} ...{before}"));
    }
    let start = Instant::now();
    let result = work();
    if draws {
        if let Some(bar) = bar() {
            bar.finish_and_clear();
        }
        set_bar(None);
    }
    let outcome = if result.is_ok() { "done" } else { "failed" };
    let took = length(start.elapsed());
    tell(&format!(
        "{what}: {outcome} in {took}{}",
        if draws { &before } else { "" }
    ));
    if result.is_ok() {
        // That the next time is not foretold does not matter.
        let _ = remember(what, start.elapsed());
    }
    result
}

/// A bar as long as the last time, or a wheel where there was none.
fn draw(what: &str, last: Option<Duration>) -> ProgressBar {
    let (template, steps) = match last {
        Some(last) => (
            "{spinner} {msg} [{bar:20}] {elapsed} of about {prefix}",
            last.as_secs().max(1),
        ),
        None => ("{spinner} {msg} {elapsed}", 1),
    };
    let bar = ProgressBar::new(steps).with_message(what.to_owned());
    let bar = bar.with_prefix(last.map(length).unwrap_or_default());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    let moved = bar.downgrade();
    thread::spawn(move || {
        while let Some(bar) = moved.upgrade().filter(|bar| !bar.is_finished()) {
            bar.set_position(bar.elapsed().as_secs().min(steps));
            drop(bar);
            thread::sleep(Duration::from_millis(500));
        }
    });
    bar
}

fn length(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// Runs a command, its words above the bar; its failure is an error that names it.
pub fn run(command: &mut Command) -> Result<()> {
    if bar().is_none() {
        return open_kit::run(command);
    }
    let name = command.get_program().to_owned();
    // It is a terminal that reads them, in the end.
    command.env("CARGO_TERM_COLOR", "always");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(Error::at(Path::new(&name)))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        scope.spawn(|| pass_on(out, |_| true));
        pass_on(err, |_| true);
    });
    let status = child.wait().map_err(Error::at(Path::new(&name)))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::new(format!("{}: {status}", name.display())))
}

/// True if what a program writes to stderr must not go there by itself.
pub fn is_drawn_or_quiet() -> bool {
    is_quiet() || bar().is_some()
}

/// Prints those lines of a program's that are wanted, above the bar.
pub fn pass_on(from: Option<impl Read>, wanted: impl Fn(&str) -> bool) {
    let lines = from
        .map(BufReader::new)
        .into_iter()
        .flat_map(BufRead::lines);
    for line in lines.map_while(std::io::Result::ok) {
        if wanted(&line) {
            warn(&line);
        }
    }
}

/// Where times are kept: seconds, and what took them, one to a line.
fn times() -> PathBuf {
    root().join("target/xtask/times")
}

fn last_time(what: &str) -> Option<Duration> {
    let text = fs::read_to_string(times()).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let (seconds, _) = lines.find(|(_, name)| *name == what)?;
    Some(Duration::from_secs(seconds.parse().ok()?))
}

fn remember(what: &str, time: Duration) -> Result<()> {
    let text = fs::read_to_string(times()).unwrap_or_default();
    let others = text
        .lines()
        .filter(|line| line.split_once(' ').is_none_or(|(_, name)| name != what));
    let own = format!("{} {what}", time.as_secs());
    let lines: Vec<&str> = others.chain([own.as_str()]).collect();
    open_kit::write(&times(), (lines.join("\n") + "\n").as_bytes()).map(drop)
}
