//! `cargo xtask mutants`: whether the rig's tests notice a fault in the driver. Each of a list of one-line faults is put
//! into a copy of this checkout, built, and run against them.
//!
//! What no test notices lives. It fails the command unless the list says why it may live; so does an excuse for what is
//! caught, and a fault that does not compile.

mod list;

use crate::End;
use crate::build::{self, Checkout, Lane, Profile, TESTS, timed};
use crate::packages::{self, Need};
use crate::rig::cargo;
use crate::test::copy;
use commands::Mutants;
use list::FAULTS;
use open_kit::{Error, Result, write};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A fault of one line, below `driver/`.
struct Fault {
    file: &'static str,
    /// What is there, once.
    old: &'static str,
    /// What is put there.
    new: &'static str,
    /// Why no test can or need notice it.
    excused: Option<&'static str>,
}

impl Fault {
    const fn excused(self, why: &'static str) -> Self {
        Self {
            excused: Some(why),
            ..self
        }
    }

    /// The file's text with the fault in it.
    fn put_into(&self, text: &str) -> Result<String> {
        let Self { file, old, new, .. } = self;
        match text.matches(old).count() {
            1 => Ok(text.replacen(old, new, 1)),
            n => Err(Error::new(format!(
                "driver/{file}: {old:?} is there {n} times, not once"
            ))),
        }
    }
}

/// The rig's tests of the image that take seconds.
const TESTS_RUN: [&str; 11] = [
    "loader",
    "driver",
    "query",
    "parameters",
    "ports",
    "pnp",
    "etw",
    "places",
    "faults",
    "interleavings",
    "watch",
];

/// For all of them; a fault that makes one wait for ever is caught by that.
const SECONDS: u32 = 600;

/// What came of a fault.
enum Fate {
    /// By this test.
    Caught(String),
    Lives,
    /// So nothing is known of it.
    NotBuilt,
}

/// Tries all faults, or those whose file or text contains `only`.
pub fn command(arguments: &Mutants) -> Result<End> {
    let Some(lane) = packages::ensure(&[Need::Build])? else {
        return Ok(End::Missing);
    };
    let only = arguments.only.as_deref();
    let wanted = |fault: &&Fault| {
        only.is_none_or(|only| {
            [fault.file, fault.old, fault.new]
                .iter()
                .any(|text| text.contains(only))
        })
    };
    let faults: Vec<_> = FAULTS.iter().filter(wanted).collect();
    let bench = Bench::set_up(lane)?;
    let mut bad = 0;
    for (number, fault) in (1..).zip(&faults) {
        let what = format!(
            "{number} of {}: driver/{}: {} → {}",
            faults.len(),
            fault.file,
            fault.old.trim(),
            fault.new.trim()
        );
        let fate = bench.try_out(fault)?;
        let (good, said) = match (fate, fault.excused) {
            (Fate::Caught(by), None) => (true, format!("caught: {by}")),
            (Fate::Lives, Some(why)) => (true, format!("lives, excused: {why}")),
            (Fate::Lives, None) => (false, "LIVES".into()),
            (Fate::NotBuilt, _) => (false, "is not built, so that no test was asked".into()),
            (Fate::Caught(by), Some(_)) => (false, format!("needs no excuse: caught: {by}")),
        };
        println!("{} {what}\n    {said}", if good { '✓' } else { '✗' });
        bad += u32::from(!good);
    }
    println!("{} faults, {bad} not as they should be", faults.len());
    Ok(if bad == 0 { End::Good } else { End::Bad })
}

/// The copy that the faults are put into.
struct Bench {
    checkout: PathBuf,
    lane: Lane,
}

impl Bench {
    /// Copies this checkout and sees that the tests pass without a fault.
    fn set_up(lane: Lane) -> Result<Self> {
        let checkout = build::root().join("target/mutants");
        let bench = Self { checkout, lane };
        timed("the driver without a fault", "", || {
            copy(&build::root(), &bench.checkout)?;
            let image = bench.build()?;
            let output = test(&image)?;
            if output.status.success() {
                return Ok(());
            }
            let said = [output.stdout, output.stderr].concat();
            Err(Error::new(String::from_utf8_lossy(&said)))
        })?;
        Ok(bench)
    }

    fn build(&self) -> Result<PathBuf> {
        Checkout::at(self.checkout.clone(), self.lane).build(Profile::Release, &["--quiet"])
    }

    fn try_out(&self, fault: &Fault) -> Result<Fate> {
        let file = self.checkout.join("driver").join(fault.file);
        let right = fs::read_to_string(&file).map_err(Error::at(&file))?;
        write(&file, fault.put_into(&right)?.as_bytes())?;
        let built = self.build();
        write(&file, right.as_bytes())?;
        let Ok(image) = built else {
            return Ok(Fate::NotBuilt);
        };
        let output = test(&image)?;
        if output.status.success() {
            return Ok(Fate::Lives);
        }
        Ok(Fate::Caught(reason(&output)))
    }
}

/// Runs the tests on an image, until the first of them whose tests fail.
fn test(image: &Path) -> Result<Output> {
    let cargo = cargo();
    let mut timeout = Command::new("timeout");
    timeout
        .current_dir(build::root())
        .arg("--kill-after=5")
        .arg(SECONDS.to_string())
        .arg(cargo.get_program())
        .args([
            "test",
            "--locked",
            TESTS,
            "--package=rig",
            "--features=image",
        ])
        .args(TESTS_RUN.map(|test| format!("--test={test}")))
        .env("RESVFLT_SYS", image)
        .env("RUST_BACKTRACE", "0");
    timeout.output().map_err(Error::at(Path::new("timeout")))
}

/// What said that a fault is there, in a line.
fn reason(output: &Output) -> String {
    /// Of `timeout`.
    const TIMED_OUT: i32 = 124;
    if output.status.code() == Some(TIMED_OUT) {
        return format!("the tests did not end in {SECONDS} s");
    }
    let said = [output.stdout.as_slice(), &output.stderr].map(String::from_utf8_lossy);
    let find = |text: &str, begin: &str| {
        let line = text.lines().find(|line| line.starts_with(begin));
        line.map(str::to_owned)
    };
    let failed = said[0].lines().find(|line| line.ends_with("... FAILED"));
    let failed = failed.and_then(|line| line.strip_prefix("test "));
    let failed = failed.and_then(|line| line.strip_suffix(" ... FAILED"));
    failed
        .map(str::to_owned)
        .or_else(|| find(&said[1], "*** rule broken"))
        .or_else(|| find(&said[1], "error: test failed"))
        .unwrap_or_else(|| "the tests failed".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_its_place_and_changes_it() {
        let wrong: Vec<_> = FAULTS
            .iter()
            .filter_map(|fault| {
                let file = build::root().join("driver").join(fault.file);
                let text = fs::read_to_string(&file).unwrap_or_default();
                match fault.put_into(&text) {
                    Ok(with) if with == text => Some(format!("{} changes nothing", fault.old)),
                    Ok(_) => None,
                    Err(error) => Some(error.to_string()),
                }
            })
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
