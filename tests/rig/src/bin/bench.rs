//! `cargo xtask bench`: what the driver costs, beside what is asked of it; writes `target/bench/bench.json`.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode};

use rig::bench::{self, Cost, Figures, IMAGE_GOAL, MANY, Time};
use rig::{image, symbols};
use serde_json::json;

fn main() -> ExitCode {
    let (arguments, _) = commands::program::<commands::Bench>("bench");
    let image = arguments.image.file.clone();
    let image = image.unwrap_or_else(image::built);
    let ran = if arguments.shows_places() {
        show_places(&image, arguments.by_line)
    } else {
        run(&image, arguments.times.as_deref())
    };
    match ran {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// True if every goal is met that was set for what is counted. Times have none.
fn run(image: &Path, times: Option<&Path>) -> Result<bool, Box<dyn std::error::Error>> {
    let times: Vec<Time> = match times {
        Some(file) => serde_json::from_slice(&std::fs::read(file)?)?,
        None => Vec::new(),
    };
    let figures = Figures::count(image)?;
    let mut figures_json = figures.json();
    figures_json["commit"] = said_by("git", &["describe", "--always", "--dirty"]).into();
    figures_json["date"] = said_by("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]).into();
    figures_json["machine"] = machine().into();
    figures_json["time"] = json!(times);
    let folder = bench::folder();
    std::fs::create_dir_all(&folder)?;
    let text = serde_json::to_string_pretty(&figures_json)? + "\n";
    std::fs::write(folder.join("bench.json"), text)?;
    let mut out = io::stdout().lock();
    for key in ["commit", "date", "machine"] {
        writeln!(out, "{key:8} {}", figures_json[key].as_str().unwrap_or(""))?;
    }
    print_image(&mut out, &figures)?;
    print_costs(&mut out, &figures)?;
    if !times.is_empty() {
        print_times(&mut out, &times)?;
    }
    writeln!(out)?;
    let goals = figures.goals();
    let missed: Vec<_> = goals.iter().filter(|(_, holds)| !holds).collect();
    for (said, _) in &missed {
        writeln!(out, "✗ {said}")?;
    }
    if missed.is_empty() {
        writeln!(out, "✓ all {} goals are met", goals.len())?;
    }
    Ok(missed.is_empty())
}

/// Where the instructions of each request are.
fn show_places(image: &Path, lines: bool) -> Result<bool, Box<dyn std::error::Error>> {
    let mut out = io::stdout().lock();
    for cost in bench::count_once(image)? {
        writeln!(out, "\n{}: {}", cost.case.name(), cost.instructions())?;
        for (place, count) in symbols::sum_up(image, &cost.places, lines)? {
            writeln!(out, "{count:6}  {place}")?;
        }
    }
    Ok(true)
}

/// What a program of the host says, or nothing.
fn said_by(program: &str, arguments: &[&str]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root)
        .output();
    let said = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&said).trim().to_owned()
}

fn machine() -> String {
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("a processor without a name", |(_, name)| name);
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{model}, {count} processors")
}

fn mark(holds: bool) -> &'static str {
    if holds { "✓" } else { "✗" }
}

fn print_image(out: &mut impl Write, figures: &Figures) -> io::Result<()> {
    let size = &figures.size;
    writeln!(out, "\nimage        in memory  in the file")?;
    for section in &size.sections {
        let (name, raw) = (&section.name, section.raw_bytes);
        writeln!(out, "  {name:9} {:10}  {raw:11}", section.virtual_bytes)?;
    }
    let holds = mark(size.bytes <= IMAGE_GOAL);
    writeln!(
        out,
        "  the file              {:11} {holds} at most {IMAGE_GOAL}",
        size.bytes
    )?;
    writeln!(out, "  {} imported functions", size.imports.len())
}

fn print_costs(out: &mut impl Write, figures: &Figures) -> io::Result<()> {
    writeln!(
        out,
        "\none request               instructions      with ETW  allocations  KMDF calls  SCSI commands"
    )?;
    for (quiet, listened) in figures.quiet.iter().zip(&figures.listened) {
        let instructions = |cost: &Cost, etw| {
            let (found, goal) = (cost.instructions(), cost.case.instructions_goal(etw));
            goal.map_or(format!("{found}         "), |most| {
                format!("{found} {} ≤ {most:4}", mark(found <= most))
            })
        };
        let commands = quiet.commands;
        let commands_goal = quiet.case.commands_goal();
        let commands_goal = commands_goal.map_or(" ", |wanted| mark(commands == wanted));
        writeln!(
            out,
            "  {:23} {:>12}  {:>12}  {:9} {}  {:10}  {commands_goal} {commands:11}",
            quiet.case.name(),
            instructions(quiet, false),
            instructions(listened, true),
            quiet.allocations,
            mark(quiet.allocations == 0 && listened.allocations == 0),
            quiet.framework_calls,
        )?;
    }
    writeln!(
        out,
        "\ninstructions by callback: dispatch, EvtIoQueueState (of the query EvtIoDeviceControl), then completion and timer in turn"
    )?;
    for cost in &figures.quiet {
        let parts: Vec<_> = cost.callbacks.iter().map(u64::to_string).collect();
        let parts = match &parts[..] {
            [] => "the driver is not called".into(),
            parts => parts.join(" + "),
        };
        writeln!(out, "  {:23} {parts}", cost.case.name())?;
    }
    let (repeatable, flat) = (mark(figures.repeatable), mark(figures.flat));
    writeln!(
        out,
        "  {repeatable} the same when counted again, on another node"
    )?;
    writeln!(
        out,
        "  {flat} flat: the same with 1 disk and with {MANY} on the node"
    )
}

/// A row for each case and number of threads, a column for each number of disks.
fn print_times(out: &mut impl Write, times: &[Time]) -> io::Result<()> {
    let mut disks: Vec<_> = times.iter().map(|time| time.devices).collect();
    disks.sort_unstable();
    disks.dedup();
    writeln!(
        out,
        "\ntime of a request in µs: with the filter (and the rig's framework) / without, and the ratio of pairs"
    )?;
    write!(out, "  threads, then disks:    ")?;
    for disks in &disks {
        write!(out, "{disks:>24}")?;
    }
    writeln!(out)?;
    let row = |time: &Time| (time.case.clone(), time.threads);
    let mut rows: Vec<_> = times.iter().map(row).collect();
    rows.sort();
    rows.dedup();
    for wanted in rows {
        write!(out, "  {:23} {}", wanted.0, wanted.1)?;
        for time in times.iter().filter(|time| row(time) == wanted) {
            let (with, without) = (time.with_ns / 1e3, time.without_ns / 1e3);
            write!(out, "{with:9.2} /{without:6.2} {:6.2}", time.ratio)?;
        }
        writeln!(out)?;
    }
    Ok(())
}
