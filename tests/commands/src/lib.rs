//! The command lines of `cargo xtask`, and of the rig's programs that it runs: one definition for both, so that xtask
//! refuses what a program would refuse, and answers `--help` for it, before anything is built.
//!
//! xtask hands the words behind a command's name on as they came ([`handed_on`]); the program reads them by the same
//! definition ([`program`]).

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, StyledStr};
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches, Parser, Subcommand, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo                  two nodes want one disk: the main job, in under two minutes from nothing
  cargo xtask demo --target iscsi   the same on a real iSCSI target
  cargo xtask test                  all that CI runs

Exit codes:
  0  done, and all as it should be
  1  something does not hold, or failed; the message says what
  2  the command line was not understood, or something is not installed; the message says what to do";

/// Builds the driver, shows it at work, tests everything
#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
pub struct Xtask {
    /// No progress: only results, and what went wrong
    #[arg(long, short, global = true, overrides_with = "quiet")]
    pub quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `cargo xtask` does.
#[derive(Subcommand)]
pub enum Command {
    /// Build the driver for Windows: target/package/resvflt.sys and its PDB
    Build(Build),
    /// Make the driver package: target/package, or target/test-signed
    Package(Package),
    /// Show two nodes that want one disk, as a timeline
    Demo(Demo),
    /// Fail everything that can fail, at every step
    Faults(Faults),
    /// Stress many disks from many threads at once
    Stress(Stress),
    /// Fuzz the sense data, the operation's machine and the driver's state query
    Fuzz(Fuzz),
    /// Count and time what each request costs
    Bench(Bench),
    /// Try one-line faults of the driver against the rig's tests: long
    Mutants(Mutants),
    /// Run libiscsi's own tests of RESERVE(6), and the same through the driver
    Reserve6(Reserve6),
    /// Show what each place in the disk stack sees of each request
    Places(Places),
    /// Draw docs/*.pikchr as SVG
    Pictures,
    /// Make one page of all that is measured: target/report/index.html
    Report(Report),
    /// Choose the tools and install what all commands need; build nothing
    Tools,
    /// Check everything: formatting, lints, build, all tests, reproducibility
    #[command(after_help = "The last line is \"N passed, N failed\". It takes about ten minutes.")]
    Test,
}

/// The processors that the driver is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arch {
    /// x64
    Amd64,
    /// ARM64, for which nothing was ever run by this project
    Arm64,
}

/// `cargo xtask build`.
#[derive(Args, Debug)]
pub struct Build {
    /// For which processor
    #[arg(long, value_enum, default_value = "amd64")]
    pub arch: Arch,
    /// Unoptimized
    #[arg(long)]
    pub dev: bool,
    /// The driver's broken variants instead: target/broken/resvflt.sys, a mistake for each rule of the rig
    #[arg(long, conflicts_with_all = ["dev", "arch"])]
    pub broken: bool,
}

/// `cargo xtask package`.
#[derive(Args, Debug)]
pub struct Package {
    /// For which processor; ARM64's folders end in -arm64
    #[arg(long, value_enum, default_value = "amd64")]
    pub arch: Arch,
    /// Sign image and program with a test certificate of this checkout's own
    #[arg(long)]
    pub test_sign: bool,
}

/// The built driver that a program of the rig loads.
#[derive(Args, Debug)]
pub struct Image {
    /// Load this file; without it the driver is built
    #[arg(long = "image", value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Where the demo's disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// A logical unit inside the rig
    Embedded,
    /// A disk of tgtd's, on a loopback port of its own
    Iscsi,
}

/// `cargo xtask demo`.
#[derive(Args, Debug)]
pub struct Demo {
    #[allow(missing_docs, reason = "clap would show it")]
    #[command(flatten)]
    pub image: Image,
    /// Where the disk is
    #[arg(long, value_enum, default_value = "embedded")]
    pub target: Target,
    /// One JSON object a step, for programs
    #[arg(long)]
    pub json: bool,
}

/// The groups of the fault walk; `rig::faults` has what they are.
pub const GROUPS: [&str; 11] = [
    "allocations",
    "calls",
    "statuses",
    "sense",
    "ntstatus",
    "cancel",
    "surprise",
    "remove",
    "second",
    "presented",
    "watched",
];

/// `cargo xtask faults`.
#[derive(Args, Debug)]
pub struct Faults {
    #[allow(missing_docs, reason = "clap would show it")]
    #[command(flatten)]
    pub image: Image,
    /// A part of each group, which takes seconds
    #[arg(long)]
    pub quick: bool,
    /// One group alone
    #[arg(long, value_name = "GROUP", value_parser = PossibleValuesParser::new(GROUPS))]
    pub only: Option<String>,
    /// From this case of the group on: what a failure names
    #[arg(long, value_name = "CASE", requires = "only", default_value = "0")]
    pub from: u64,
}

/// `cargo xtask stress`.
#[derive(Args, Debug)]
pub struct Stress {
    #[allow(missing_docs, reason = "clap would show it")]
    #[command(flatten)]
    pub image: Image,
    /// How long
    #[arg(long, value_name = "N", default_value = "30")]
    pub seconds: u64,
    /// How many disks
    #[arg(long, value_name = "N", default_value = "16", value_parser = clap::value_parser!(u32).range(1..))]
    pub disks: u32,
    /// How many threads send requests
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u32).range(1..))]
    pub threads: u32,
    /// Where the random choices come from
    #[arg(long, value_name = "N", default_value = "1")]
    pub seed: u64,
}

/// The fuzz targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FuzzTarget {
    /// Sense data
    Sense,
    /// The operation's machine under senseless events
    Operation,
    /// The built driver's state query
    Query,
}

/// `cargo xtask fuzz`.
#[derive(Args, Debug)]
pub struct Fuzz {
    /// One target alone
    #[arg(value_enum)]
    pub target: Option<FuzzTarget>,
    /// How long for each target
    #[arg(long, value_name = "N", default_value = "60")]
    pub seconds: u32,
}

/// `cargo xtask bench`.
#[derive(Args, Debug)]
pub struct Bench {
    #[allow(missing_docs, reason = "clap would show it")]
    #[command(flatten)]
    pub image: Image,
    /// Times as benches/operations.rs wrote them; without it they are measured, which takes a minute or two
    #[arg(long, value_name = "FILE")]
    pub times: Option<PathBuf>,
    /// Show instead in which functions the instructions of each request are
    #[arg(long, conflicts_with_all = ["by_line", "times"])]
    pub by_function: bool,
    /// Show instead in which lines of the source the instructions of each request are
    #[arg(long, conflicts_with = "times")]
    pub by_line: bool,
}

impl Bench {
    /// Nothing is timed: only where the instructions are is shown.
    #[must_use]
    pub fn shows_places(&self) -> bool {
        self.by_function || self.by_line
    }
}

/// `cargo xtask mutants`.
#[derive(Args, Debug)]
pub struct Mutants {
    /// The faults alone whose file or text contains this
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
}

/// `cargo xtask reserve6`.
#[derive(Args, Debug)]
pub struct Reserve6 {
    #[allow(missing_docs, reason = "clap would show it")]
    #[command(flatten)]
    pub image: Image,
    /// JSON lines, for programs
    #[arg(long)]
    pub json: bool,
}

/// `cargo xtask places`.
#[derive(Args, Debug)]
pub struct Places {
    #[allow(missing_docs, reason = "clap would show it")]
    #[command(flatten)]
    pub image: Image,
    /// JSON lines, for programs
    #[arg(long)]
    pub json: bool,
}

/// The parts of the report that can be had alone; `rig::report` measures them.
pub const PARTS: [&str; 5] = ["image", "answers", "moments", "calls", "machine"];

/// `cargo xtask report`.
#[derive(Args, Debug)]
pub struct Report {
    #[allow(missing_docs, reason = "clap would show it")]
    #[command(flatten)]
    pub image: Image,
    /// Where the page goes; without it target/report/index.html
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Walk all faults: minutes
    #[arg(long)]
    pub full: bool,
    /// Print one part's data as JSON lines, and make no page
    #[arg(long, value_name = "PART", value_parser = PossibleValuesParser::new(PARTS))]
    pub only: Option<String>,
    /// Take the costs as they were last measured, if ever
    #[arg(long, conflicts_with = "bench")]
    pub no_bench: bool,
    /// What `bench` wrote; without it the costs are measured if they are not this commit's
    #[arg(long, value_name = "FILE")]
    pub bench: Option<PathBuf>,
    /// What the model's tests printed; without it they are run
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// The compiler of the image, in its own words; without it that compiler is asked
    #[arg(long, value_name = "TEXT")]
    pub compiler: Option<String>,
    /// Play on real targets, too: `cargo xtask report` always does
    #[arg(long, hide = true, overrides_with = "targets")]
    pub targets: bool,
}

/// A command line that is not carried out: what is said, and how the process ends.
#[derive(Debug)]
pub struct Refusal {
    /// The help that was asked for, or what was not understood and the usage of that command.
    pub said: String,
    /// 0 for help, else 2.
    pub exit: u8,
}

impl Refusal {
    /// Says it, and gives the process's exit code.
    #[must_use]
    pub fn tell(&self) -> u8 {
        if self.exit == 0 {
            print!("{}", self.said);
        } else {
            eprint!("{}", self.said);
        }
        self.exit
    }
}

/// Reads a command line: what follows `cargo xtask`.
///
/// # Errors
/// See [`Refusal`].
pub fn read(words: &[OsString]) -> Result<ArgMatches, Refusal> {
    let line = [OsString::from("xtask")]
        .into_iter()
        .chain(words.iter().cloned());
    Xtask::command()
        .try_get_matches_from(line)
        .map_err(|error| {
            let mut said = error.render().to_string();
            let exit = u8::from(error.exit_code() != 0) * 2;
            // Where clap says which values there are it leaves the usage out.
            if exit != 0 && !said.contains("Usage: ") {
                said = format!("{said}\n{}\n", usage(words));
            }
            Refusal { said, exit }
        })
}

/// The usage of the command that is named, or of all.
fn usage(words: &[OsString]) -> StyledStr {
    let mut xtask = Xtask::command();
    xtask.build();
    let named = words.iter().filter_map(|word| word.to_str());
    let name = named.into_iter().find(|word| !word.starts_with('-'));
    match name.and_then(|name| xtask.find_subcommand_mut(name)) {
        Some(command) => command.render_usage(),
        None => xtask.render_usage(),
    }
}

/// The arguments of this process, a program of the rig, read as those of `cargo xtask NAME`, and whether it is to be
/// quiet. If they are not understood, or `--help` is asked for, the process says so and ends.
#[must_use]
pub fn program<A: FromArgMatches>(name: &'static str) -> (A, bool) {
    let words: Vec<_> = [name.into()]
        .into_iter()
        .chain(std::env::args_os().skip(1))
        .collect();
    let read = read(&words).and_then(|matches| {
        let own = matches.subcommand().map_or(&matches, |(_, own)| own);
        let arguments = A::from_arg_matches(own).map_err(|error| Refusal {
            said: error.to_string(),
            exit: 2,
        });
        Ok((arguments?, matches.get_flag("quiet")))
    });
    read.unwrap_or_else(|refusal| std::process::exit(refusal.tell().into()))
}

/// Of the words of `cargo xtask`'s own command line, once it was understood, those behind the name of the command.
/// What may stand before the name, `--quiet`, has no value.
#[must_use]
pub fn handed_on<'a>(words: &'a [OsString], name: &str) -> &'a [OsString] {
    let at = words.iter().position(|word| word == name);
    at.map_or(&[], |at| &words[at + 1..])
}
