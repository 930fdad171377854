//! `cargo xtask …`: the project's one front door.
//!
//! Builds the driver, shows it, tests everything. It depends on little: it is the first thing that a newcomer compiles.

#[cfg(windows)]
compile_error!("on Windows the WDK builds the driver: cargo build, or cargo make (Makefile.toml)");

mod build;
mod fuzz;
mod mutants;
mod package;
mod packages;
mod pictures;
mod report;
mod resvctl;
mod rig;
mod test;

use open_kit::{Architecture, Error, Result};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>
  build [--dev | --arch arm64]               target/package/resvflt.sys and its PDB
  build --broken                             target/broken/resvflt.sys: a mistake for each rule of the rig
  package [--arch arm64] [--test-sign]       the driver package: target/package, or target/test-signed; -arm64
  demo [--target embedded|iscsi] [--json]    two nodes want one disk; builds the driver first if need be
  faults [--quick]                           every fault at every step; --only NAME --from N repeats a case
  stress [--seconds N] [--seed N]            many disks and threads at once
  fuzz [TARGET] [--seconds N]                sense data, the operation's machine, the driver's state query
  bench                                      what each request costs: instructions, calls, commands, time
  mutants [--only TEXT]                      whether the rig's tests notice faults in the driver; long
  reserve6 [--json]                          libiscsi's own tests of RESERVE(6), and the same through the driver
  places [--json]                            what each place in the disk stack sees; prints docs/places.md
  pictures                                   draws docs/*.pikchr as SVG
  report [--full] [--no-bench]               one page of all that was measured: target/report/index.html
  test                                       formatting, lints, build, all tests, reproducibility";

/// What `--arch` names.
fn architecture(name: &str) -> Result<Architecture> {
    let all = Architecture::ALL;
    let known = all.into_iter().find(|a| a.name() == name);
    known.ok_or_else(|| Error::new(format!("--arch {name}: amd64 and arm64 are known")))
}

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
    match command(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(End::Good) => ExitCode::SUCCESS,
        Ok(End::Bad) => ExitCode::FAILURE,
        Ok(End::Missing) => ExitCode::from(2),
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn command(arguments: &[String]) -> Result<End> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["build"] => build::command(Architecture::Amd64, build::Profile::Release),
        ["build", "--dev"] => build::command(Architecture::Amd64, build::Profile::Dev),
        ["build", "--arch", name] => build::command(architecture(name)?, build::Profile::Release),
        ["build", "--broken"] => build::command_broken(),
        ["package", ref rest @ ..] => {
            let (test_sign, rest) = match rest {
                [rest @ .., "--test-sign"] | ["--test-sign", rest @ ..] => (true, rest),
                rest => (false, rest),
            };
            match rest {
                [] => package::command(Architecture::Amd64, test_sign),
                ["--arch", name] => package::command(architecture(name)?, test_sign),
                _ => Err(not_understood(&arguments)),
            }
        }
        [
            program @ ("bench" | "demo" | "faults" | "places" | "reserve6" | "stress"),
            ref rest @ ..,
        ] => rig::command(program, rest),
        ["fuzz"] => fuzz::command(None, "60"),
        ["fuzz", "--seconds", seconds] => fuzz::command(None, seconds),
        ["fuzz", target] => fuzz::command(Some(target), "60"),
        ["fuzz", target, "--seconds", seconds] => fuzz::command(Some(target), seconds),
        ["mutants"] => mutants::command(None),
        ["mutants", "--only", only] => mutants::command(Some(only)),
        ["pictures"] => pictures::command(),
        ["report", ref rest @ ..] => report::command(rest),
        ["test"] => test::command(),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(End::Good)
        }
        _ => Err(not_understood(&arguments)),
    }
}

fn not_understood(arguments: &[&str]) -> Error {
    Error::new(format!("not understood: {}\n{USAGE}", arguments.join(" ")))
}
