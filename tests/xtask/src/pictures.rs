//! Draws the guide's pictures.

use crate::End;
use crate::build::{self, TESTS};
use open_kit::{Error, Result};
use std::env;
use std::path::Path;
use std::process::Command;

/// Runs the program of package `guide`, which needs a C compiler for pikchr.
pub fn command() -> Result<End> {
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(build::root())
        .args(["run", "--quiet", "--locked", TESTS, "--package=guide"])
        .status()
        .map_err(Error::at(Path::new("cargo")))?;
    Ok(if status.success() {
        End::Good
    } else {
        End::Bad
    })
}
