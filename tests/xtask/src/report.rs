//! The page of what the built driver did: `target/report/index.html`, with what goes into it beside the rig's own run.

use crate::End;
use crate::build::{self, Lane, Profile, TESTS, timed};
use crate::packages::{self, Need};
use crate::rig;
use open_kit::{Error, Result, write};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const BENCH: &str = "target/bench/bench.json";
const MODEL: &str = "target/report/model.txt";

/// `--full` walks all faults, `--no-bench` leaves the costs as they were last measured, `--only PART` prints a part's data.
pub fn command(arguments: &[&str]) -> Result<End> {
    let lane = Lane::choose();
    if !packages::ensure(&[Need::Build, Need::Iscsi], lane)? {
        return Ok(End::Missing);
    }
    let image = build::build(lane, Profile::Release, &["--quiet"])?;
    let passed_on = arguments
        .iter()
        .filter(|argument| **argument != "--no-bench");
    let mut report = rig::cargo();
    report
        .args(["run", "--quiet", "--locked", TESTS, "--package=rig"])
        .args(["--features=report,iscsi", "--bin=report", "--", "--image"])
        .arg(&image)
        .args(passed_on);
    if !arguments.contains(&"--only") {
        let bench = build::root().join(BENCH);
        if !arguments.contains(&"--no-bench") && !is_of(&bench, &image) {
            rig::command("bench", &[])?;
        }
        let model = timed("checking the model", "", model)?;
        report.args(["--targets", "--compiler", &compiler(lane)]);
        report.arg("--model").arg(model);
        if bench.exists() {
            report.arg("--bench").arg(bench);
        }
    }
    let status = report.status().map_err(Error::at(Path::new("cargo")))?;
    Ok(if status.success() {
        End::Good
    } else {
        End::Bad
    })
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
