//! Shows the built driver at work: the rig's `demo` program, with what it needs.

use crate::End;
use crate::build::{self, Lane, Profile};
use crate::packages::{self, Need};
use open_kit::{Error, Llvm, Result};
use std::env;
use std::path::Path;
use std::process::Command;

pub fn command(arguments: &[&str]) -> Result<End> {
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
    let mut demo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    demo.current_dir(build::root())
        .env("LIBCLANG_PATH", Llvm::find().libraries());
    demo.args(["run", "--quiet", "--locked", "--package=rig", "--bin=demo"]);
    if iscsi {
        demo.arg("--features=iscsi");
    }
    demo.arg("--").arg("--image").arg(image).args(arguments);
    let status = demo.status().map_err(Error::at(Path::new("cargo")))?;
    Ok(if status.success() {
        End::Good
    } else {
        End::Bad
    })
}
