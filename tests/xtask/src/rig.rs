//! The rig's programs, with what they need: the built driver, and for a real target its packages.

use crate::End;
use crate::build::{self, Lane, Profile, TESTS, timed};
use crate::packages::{self, Need};
use open_kit::{Error, Llvm, Result};
use std::env;
use std::path::Path;
use std::process::Command;

/// Runs one of the rig's programs on the built driver.
pub fn command(program: &str, arguments: &[&str]) -> Result<End> {
    let iscsi = arguments
        .windows(2)
        .any(|pair| pair == ["--target", "iscsi"])
        || arguments.contains(&"--target=iscsi")
        || program == "reserve6";
    let lane = Lane::choose();
    let needs: &[Need] = if iscsi {
        &[Need::Build, Need::Iscsi]
    } else {
        &[Need::Build]
    };
    if !packages::ensure(needs, lane)? {
        return Ok(End::Missing);
    }
    let image = build::build(lane, Profile::Release, &["--quiet"])?;
    let times = if program == "bench" {
        timed("timing requests", "", || time(&image))?;
        vec!["--times", TIMES]
    } else {
        Vec::new()
    };
    let mut rig = cargo();
    rig.args([
        "run",
        "--quiet",
        "--locked",
        TESTS,
        "--package=rig",
        "--bin",
        program,
    ]);
    if iscsi {
        rig.arg("--features=iscsi");
    }
    rig.arg("--")
        .arg("--image")
        .arg(image)
        .args(times)
        .args(arguments);
    let status = rig.status().map_err(Error::at(Path::new("cargo")))?;
    Ok(if status.success() {
        End::Good
    } else {
        End::Bad
    })
}

/// Where `benches/operations.rs` puts what it has measured.
const TIMES: &str = "target/bench/time.json";

/// Runs `benches/operations.rs`, optimized. Criterion's own words are shown if it fails.
fn time(image: &Path) -> Result<()> {
    let mut bench = cargo();
    bench
        .args([
            "bench",
            "--quiet",
            "--locked",
            TESTS,
            "--package=rig",
            "--features=image",
            "--bench=operations",
        ])
        .env("RESVFLT_SYS", image);
    let output = bench.output().map_err(Error::at(Path::new("cargo")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::new(String::from_utf8_lossy(&output.stderr)))
}

/// The toolchain's Cargo.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(build::root())
        .env("LIBCLANG_PATH", Llvm::find().libraries());
    cargo
}
