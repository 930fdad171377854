//! The page of what the built driver did: `target/report/index.html`, with what goes into it beside the rig's own run.

use crate::End;
use crate::build::{self, Lane, Profile, timed};
use crate::packages::{self, Need};
use crate::rig;
use commands::Report;
use open_kit::{Error, Result, write};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const BENCH: &str = "target/bench/bench.json";
const MODEL: &str = "target/report/model.txt";

/// `cargo xtask report`; `words` are its arguments as they were written.
pub fn command(arguments: &Report, words: &[OsString]) -> Result<End> {
    let Some(lane) = packages::ensure(&[Need::Build, Need::Iscsi])? else {
        return Ok(End::Missing);
    };
    let mut all: Vec<OsString> = Vec::new();
    let image = if let Some(image) = &arguments.image.file {
        image.clone()
    } else {
        let image = build::build(lane, Profile::Release, &["--quiet"])?;
        all.extend(["--image".into(), image.clone().into()]);
        image
    };
    if arguments.only.is_none() {
        all.push("--targets".into());
        if arguments.compiler.is_none() {
            all.extend(["--compiler".into(), compiler(lane).into()]);
        }
        if arguments.bench.is_none() {
            let bench = build::root().join(BENCH);
            if !arguments.no_bench && !is_of(&bench, &image) {
                let words = ["--image".into(), image.clone().into(), "--times".into()];
                let words = [&words[..], &[rig::time(&image)?.into()]].concat();
                rig::run("bench", "--features=", &words)?;
            }
            if bench.exists() {
                all.extend(["--bench".into(), bench.into()]);
            }
        }
        if arguments.model.is_none() {
            let model = timed("checking the model", "", model)?;
            all.extend(["--model".into(), model.into()]);
        }
    }
    // `--no-bench` and `--bench` exclude each other, also where it is this program that names the file.
    all.extend(words.iter().filter(|word| *word != "--no-bench").cloned());
    rig::run("report", "--features=report,iscsi", &all)
}

/// The compiler that builds the driver, in its own words.
fn compiler(lane: Lane) -> String {
    let said = lane.program("rustc").arg("--version").output();
    let said = said.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned());
    let whose = match lane {
        Lane::Toolchain => "this toolchain's Windows target",
        Lane::Debian => "Debian's rustc-web, core built with it",
    };
    format!("{} ({whose})", said.unwrap_or_default())
}

/// Whether the bench was of this commit and of an image of this length. The page itself looks at the sections too.
fn is_of(bench: &Path, image: &Path) -> bool {
    let text = fs::read_to_string(bench).unwrap_or_default();
    let length = fs::metadata(image).map_or(0, |file| file.len());
    let mut git = Command::new("git");
    git.current_dir(build::root())
        .args(["describe", "--always", "--dirty"]);
    let commit = git
        .output()
        .map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned());
    let commit = commit.unwrap_or_default();
    text.contains(&format!("\"bytes\": {length},")) && text.contains(&format!("\"{commit}\""))
}

/// Runs the model's tests; where what they printed is kept.
fn model() -> Result<PathBuf> {
    let mut tests = rig::cargo();
    tests
        .args([
            "test",
            "--quiet",
            "--locked",
            "--package=scsi-reserve",
            "--test=model",
        ])
        .args(["--", "--nocapture", "--test-threads=1"]);
    let output = tests.output().map_err(Error::at(Path::new("cargo")))?;
    if !output.status.success() {
        return Err(Error::new(String::from_utf8_lossy(&output.stderr)));
    }
    let file = build::root().join(MODEL);
    write(&file, &output.stdout)?;
    Ok(file)
}
