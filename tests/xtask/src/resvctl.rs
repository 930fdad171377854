//! Builds the node's command line, driver/resvctl, for Windows.

use crate::build::{Lane, root, timed};
use crate::choose::{GNU as TARGET, MSVC};
use crate::progress::run;
use open_kit::{Error, Result};
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Builds `target/package/resvctl.exe`; its path. The packages are those of `Need::Windows`.
pub fn build(lane: Lane) -> Result<PathBuf> {
    timed("building resvctl.exe", "", || {
        let mut cargo = cargo(lane, "cargo");
        run(cargo.args(["build", "--quiet"]).args(flags(lane)))?;
        let built = root()
            .join("target/resvctl")
            .join(TARGET)
            .join("release/resvctl.exe");
        let program = root().join("target/package/resvctl.exe");
        fs::create_dir_all(root().join("target/package")).map_err(Error::at(&program))?;
        fs::copy(&built, &program).map_err(Error::at(&built))?;
        Ok(program)
    })
}

/// Builds `target/resvctl/questions.exe`, by which a test asks Windows what only `resvctl selftest` does.
pub fn build_questions(lane: Lane) -> Result<()> {
    timed("building questions.exe", "", || {
        let mut cargo = cargo(lane, "cargo");
        let what = ["build", "--quiet", "--example=questions"];
        run(cargo.args(what).args(flags(lane)))?;
        let built = root()
            .join("target/resvctl")
            .join(TARGET)
            .join("release/examples/questions.exe");
        let program = root().join("target/resvctl/questions.exe");
        fs::copy(&built, &program).map_err(Error::at(&built))?;
        Ok(())
    })
}

/// Lints both as they are compiled for Windows.
pub fn lint(lane: Lane) -> Result<()> {
    let mut clippy = cargo(lane, "cargo-clippy");
    let what = ["clippy", "--quiet", "--lib", "--bins", "--examples"];
    clippy.args(what).args(flags(lane));
    run(clippy.args(["--", "-D", "warnings"]))
}

/// Checks it and what else stands beside the driver for the driver's own target, as a build on Windows compiles it.
/// Nothing is linked: that would take Microsoft's libraries.
pub fn check(lane: Lane) -> Result<()> {
    let mut check = cargo(lane, "cargo");
    check
        .args(["check", "--quiet", "--locked", "--release"])
        .args(["--workspace", "--exclude=resvflt", "--target", MSVC])
        .args(std(lane));
    run(&mut check)
}

fn cargo(lane: Lane, program: &str) -> Command {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let home = home.unwrap_or_default();
    let flags = [
        format!("--remap-path-prefix={}=/cargo", home.display()),
        format!("--remap-path-prefix={}=/resvflt", root().display()),
        "-Clink-arg=-Wl,--no-insert-timestamp".into(),
    ];
    let mut cargo = lane.own(TARGET).program(program);
    cargo
        .current_dir(root())
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("CARGO_TARGET_DIR", root().join("target/resvctl"));
    cargo
}

/// Small rather than fast, without debug information.
fn flags(lane: Lane) -> impl Iterator<Item = &'static str> {
    let flags = [
        "--locked",
        "--release",
        "--package=resvctl",
        "--target",
        TARGET,
        "--config=profile.release.opt-level='z'",
        "--config=profile.release.debug=0",
        "--config=profile.release.strip=true",
    ];
    flags.into_iter().chain(std(lane).iter().copied())
}

/// The standard library, where it is built with the program.
fn std(lane: Lane) -> &'static [&'static str] {
    match lane.own(TARGET) {
        Lane::Toolchain => &[],
        Lane::Debian => &["-Zbuild-std=std,panic_abort"],
    }
}
