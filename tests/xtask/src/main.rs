//! `cargo xtask …`: the project's one front door.
//!
//! Builds the driver, shows it, tests everything. Every command line is understood as a whole before anything is built
//! ([`commands`]). It depends on little: it is the first thing that a newcomer compiles.

#[cfg(windows)]
compile_error!("on Windows the WDK builds the driver: cargo build, or cargo make (Makefile.toml)");

mod build;
mod choose;
mod fuzz;
mod mutants;
mod package;
mod packages;
mod pictures;
mod progress;
mod report;
mod resvctl;
mod rig;
mod test;

use clap::FromArgMatches as _;
use commands::{Arch, Command, Target, Xtask, handed_on};
use open_kit::{Architecture, Error, Result};
use rig::Program;
use std::ffi::OsString;
use std::process::ExitCode;

/// How a command ended.
enum End {
    Good,
    Bad,
    /// Something is not installed; the reader was told what to do.
    Missing,
}

fn main() -> ExitCode {
    // Below a build this program runs in rustc's and the linker's name.
    if let Some(status) = open_kit::wrapper::main() {
        return ExitCode::from(u8::try_from(status).unwrap_or(1));
    }
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let matches = match commands::read(&words) {
        Ok(matches) => matches,
        Err(refusal) => return ExitCode::from(refusal.tell()),
    };
    let read = Xtask::from_arg_matches(&matches).map_err(|error| Error::new(error.to_string()));
    match read.and_then(|xtask| command(&xtask, &words)) {
        Ok(End::Good) => ExitCode::SUCCESS,
        Ok(End::Bad) => ExitCode::FAILURE,
        Ok(End::Missing) => ExitCode::from(2),
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What `--arch` names.
fn architecture(named: Arch) -> Architecture {
    match named {
        Arch::Amd64 => Architecture::Amd64,
        Arch::Arm64 => Architecture::Arm64,
    }
}

fn command(xtask: &Xtask, words: &[OsString]) -> Result<End> {
    if xtask.quiet {
        progress::be_quiet();
    }
    let program = |name, image, iscsi| Program {
        name,
        image,
        iscsi,
        words: handed_on(words, name),
    };
    let no_more = |_: &std::path::Path| Ok(Vec::new());
    match &xtask.command {
        Command::Build(arguments) => build::command(arguments, architecture(arguments.arch)),
        Command::Package(arguments) => {
            package::command(architecture(arguments.arch), arguments.test_sign)
        }
        Command::Demo(demo) => {
            program("demo", &demo.image, demo.target == Target::Iscsi).command(no_more)
        }
        Command::Faults(faults) => program("faults", &faults.image, false).command(no_more),
        Command::Stress(stress) => program("stress", &stress.image, false).command(no_more),
        Command::Fuzz(arguments) => fuzz::command(arguments),
        Command::Bench(bench) => program("bench", &bench.image, false).command(|image| {
            if bench.times.is_some() || bench.shows_places() {
                return Ok(Vec::new());
            }
            Ok(vec!["--times".into(), rig::time(image)?.into()])
        }),
        Command::Reserve6(reserve6) => program("reserve6", &reserve6.image, true).command(no_more),
        Command::Places(places) => program("places", &places.image, false).command(no_more),
        Command::Mutants(arguments) => mutants::command(arguments),
        Command::Pictures => pictures::command(),
        Command::Report(report) => report::command(report, handed_on(words, "report")),
        Command::Tools => test::tools(),
        Command::Test => test::command(),
    }
}
