//! `cargo xtask fuzz`: the targets of tests/fuzz, for a while; without the program cargo-fuzz, and without nightly Rust.

use crate::End;
use crate::build::{self, Profile};
use crate::packages::{self, Need};
use crate::progress::{run, tell};
use crate::rig;
use commands::{Fuzz, FuzzTarget};
use open_kit::llvm::Llvm;
use open_kit::{Error, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Each target, and how many inputs of it take a few seconds.
const TARGETS: [(FuzzTarget, &str, u32); 3] = [
    (FuzzTarget::Sense, "sense", 600_000),
    (FuzzTarget::Operation, "operation", 300_000),
    (FuzzTarget::Query, "query", 6_000),
];

/// Where the rig runs. Named, so that build scripts and macros are not instrumented.
const HOST: &str = "x86_64-unknown-linux-gnu";

/// libFuzzer's coverage, as cargo-fuzz asks for it without a sanitizer.
const COVERAGE: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    --cfg=fuzzing";

/// Cargo in the targets' own workspace.
fn cargo(command: &str) -> Command {
    let llvm = packages::llvm().cloned().unwrap_or_else(Llvm::find);
    let mut cargo = rig::cargo();
    cargo
        .current_dir(build::root().join("tests/fuzz"))
        .env("CARGO_TARGET_DIR", folder())
        .env("RUSTFLAGS", COVERAGE)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("CXX", llvm.tool("clang++"))
        .arg(command);
    cargo
}

fn folder() -> PathBuf {
    build::root().join("target/fuzz")
}

/// Formatting and lints, which the workspace's own do not reach.
pub fn lint() -> Result<()> {
    run(cargo("fmt").arg("--check"))?;
    let clippy = ["--quiet", "--locked", "--release", "--target", HOST];
    run(cargo("clippy").args(clippy).args(["--", "-D", "warnings"]))
}

/// The same inputs each time, those of tests/fuzz/seeds first.
pub fn briefly() -> Result<()> {
    compile()?;
    for (_, target, runs) in TARGETS {
        let corpus = corpus(target);
        let _ = fs::remove_dir_all(&corpus);
        fuzz(
            target,
            &["-seed=1", &format!("-runs={runs}"), "-max_total_time=10"],
        )?;
    }
    Ok(())
}

fn compile() -> Result<()> {
    run(cargo("build").args(["--quiet", "--locked", "--release", "--target", HOST]))
}

fn corpus(target: &str) -> PathBuf {
    folder().join("corpus").join(target)
}

/// Runs a target, which keeps what it learns in its corpus; an error says what it has found.
fn fuzz(target: &str, options: &[&str]) -> Result<()> {
    let (corpus, found) = (corpus(target), folder().join("found"));
    for folder in [&corpus, &found] {
        fs::create_dir_all(folder).map_err(Error::at(folder))?;
    }
    let program = folder().join(HOST).join("release").join(target);
    let output = Command::new(&program)
        .env(
            "RESVFLT_SYS",
            build::root().join("target/package/resvflt.sys"),
        )
        .args(["-max_len=512", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/{target}-", found.display()))
        .args(options)
        .arg(corpus)
        .arg(build::root().join("tests/fuzz/seeds").join(target))
        .output()
        .map_err(Error::at(&program))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let figure = |name| {
        let line = said.lines().find_map(|line| line.strip_prefix(name));
        line.map_or("?", str::trim)
    };
    if output.status.success() {
        let runs = figure("stat::number_of_executed_units:");
        tell(&format!("{target}: {runs} inputs, nothing found"));
        return Ok(());
    }
    // Without the lines on the way.
    let last = said.lines().filter(|line| !line.starts_with(['#', '\t']));
    let last: Vec<_> = last.collect();
    Err(Error::new(format!("{target}: {}", last.join("\n"))))
}

/// Runs one target, or all, for so many seconds each, from where the last time has ended.
pub fn command(arguments: &Fuzz) -> Result<End> {
    let Some(lane) = packages::ensure(&[Need::Build])? else {
        return Ok(End::Missing);
    };
    build::build(lane, Profile::Release, &["--quiet"])?;
    build::timed("building the fuzz targets", "", compile)?;
    let seconds = format!("-max_total_time={}", arguments.seconds);
    let wanted = |target| arguments.target.is_none_or(|only| only == target);
    for (_, name, _) in TARGETS.into_iter().filter(|(target, ..)| wanted(*target)) {
        fuzz(name, &[&seconds])?;
    }
    Ok(End::Good)
}
