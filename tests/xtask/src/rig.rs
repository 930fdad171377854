//! The rig's programs, with what they need: the built driver, and for a real target its packages.

use crate::End;
use crate::build::{self, Lane, Profile};
use crate::packages::{self, Need};
use open_kit::{Error, Llvm, Result};
use std::env;
use std::path::Path;
use std::process::Command;

/// Runs `demo`, `faults` or `stress` on the built driver.
pub fn command(program: &str, arguments: &[&str]) -> Result<End> {
    let iscsi = arguments
        .windows(2)
        .any(|pair| pair == ["--target", "iscsi"])
        || arguments.contains(&"--target=iscsi");
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
    let mut rig = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    rig.current_dir(build::root())
        .env("LIBCLANG_PATH", Llvm::find().libraries());
    rig.args([
        "run",
        "--quiet",
        "--locked",
        "--package=rig",
        "--bin",
        program,
    ]);
    if iscsi {
        rig.arg("--features=iscsi");
    }
    rig.arg("--").arg("--image").arg(image).args(arguments);
    let status = rig.status().map_err(Error::at(Path::new("cargo")))?;
    Ok(if status.success() {
        End::Good
    } else {
        End::Bad
    })
}
