//! The rig's programs, with what they need: the built driver, and for a real target its packages.

use crate::End;
use crate::build::{self, Profile, TESTS, timed};
use crate::packages::{self, Need};
use crate::progress;
use commands::Image;
use open_kit::{Error, Result};
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One of the rig's programs, and what it is given.
pub struct Program<'a> {
    pub name: &'static str,
    /// The driver that it loads; without it the driver is built.
    pub image: &'a Image,
    /// It talks to a real iSCSI target.
    pub iscsi: bool,
    /// What stands behind its name on the command line.
    pub words: &'a [OsString],
}

impl Program<'_> {
    /// Builds what it needs and runs it; `extra` makes more arguments once the driver is built.
    pub fn command(&self, extra: impl FnOnce(&Path) -> Result<Vec<OsString>>) -> Result<End> {
        let build = self.image.file.is_none().then_some(Need::Build);
        let needs: Vec<Need> = build
            .into_iter()
            .chain(self.iscsi.then_some(Need::Iscsi))
            .collect();
        let mut words = Vec::new();
        if !needs.is_empty() {
            let Some(lane) = packages::ensure(&needs)? else {
                return Ok(End::Missing);
            };
            if self.image.file.is_none() {
                let image = build::build(lane, Profile::Release, &["--quiet"])?;
                words.extend(["--image".into(), image.into()]);
            }
        }
        let image = self.image.file.clone();
        let image = image
            .or_else(|| words.last().map(PathBuf::from))
            .unwrap_or_default();
        words.extend(extra(&image)?);
        words.extend_from_slice(self.words);
        let features = if self.iscsi {
            "--features=iscsi"
        } else {
            "--features="
        };
        run(self.name, features, &words)
    }
}

/// Runs a program of the rig: true if it ends with 0.
pub fn run(name: &str, features: &str, words: &[OsString]) -> Result<End> {
    let program = [
        "--quiet",
        "--locked",
        TESTS,
        "--package=rig",
        "--bin",
        name,
        features,
    ];
    timed("building the rig", "", || {
        progress::run(cargo().arg("build").args(program))
    })?;
    let mut rig = cargo();
    rig.arg("run").args(program).arg("--");
    if progress::is_quiet() {
        rig.arg("--quiet");
    }
    let status = rig
        .args(words)
        .status()
        .map_err(Error::at(Path::new("cargo")))?;
    Ok(if status.success() {
        End::Good
    } else {
        End::Bad
    })
}

/// Where `benches/operations.rs` puts what it has measured.
const TIMES: &str = "target/bench/time.json";

/// Runs `benches/operations.rs`, optimized; where it has put the times. Criterion's own words are shown if it fails.
pub fn time(image: &Path) -> Result<PathBuf> {
    let bench = [
        "bench",
        "--quiet",
        "--locked",
        TESTS,
        "--package=rig",
        "--features=image",
        "--bench=operations",
    ];
    let output = timed("timing requests", "", || {
        let output = cargo().args(bench).env("RESVFLT_SYS", image).output();
        output.map_err(Error::at(Path::new("cargo")))
    })?;
    if output.status.success() {
        return Ok(build::root().join(TIMES));
    }
    Err(Error::new(String::from_utf8_lossy(&output.stderr)))
}

/// The toolchain's Cargo on the host's part of the project, with the LLVM that was chosen, if one was.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(build::root());
    if let Some(llvm) = packages::llvm() {
        cargo
            .env(open_kit::llvm::FOLDER, llvm.folder())
            .env("LIBCLANG_PATH", llvm.libraries());
    }
    cargo
}
