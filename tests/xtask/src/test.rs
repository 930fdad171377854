//! Everything that must hold before a change is good: `cargo xtask test`, which CI runs.

use crate::End;
use crate::build::{self, Checkout, Lane, Profile, TESTS, timed};
use crate::fuzz;
use crate::package;
use crate::packages::{self, Need};
use crate::progress::{is_drawn_or_quiet, is_quiet, pass_on, run, say, tell, warn};
use crate::resvctl;
use crate::rig::cargo;
use open_kit::{Architecture, Error, Result, write};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

/// Both workspaces, each with all of its tests: of the host's code, of the built driver and program, and over a real
/// iSCSI target.
const WORKSPACES: [&[&str]; 2] = [
    &["--workspace", "--features=resvctl/wine"],
    &[
        TESTS,
        "--workspace",
        "--features=open-kit/image,driver-package/image,rig/image,rig/iscsi,rig/report",
    ],
];

/// Tests by outcome; a check that fails counts as one test.
#[derive(Default)]
struct Tally {
    passed: u32,
    failed: u32,
}

impl Tally {
    fn check(&mut self, what: &str, work: impl FnOnce() -> Result<()>) {
        if let Err(error) = timed(what, "", work) {
            warn(&format!("xtask: {what}: {error}"));
            self.failed += 1;
        }
    }

    fn end(&self) -> End {
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 {
            End::Good
        } else {
            End::Bad
        }
    }
}

/// All that any command needs.
const NEEDS: [Need; 7] = [
    Need::Build,
    Need::Arm64,
    Need::Iscsi,
    Need::Sign,
    Need::Lint,
    Need::Windows,
    Need::Wine,
];

/// `cargo xtask tools`.
pub fn tools() -> Result<End> {
    let lane = packages::ensure(&NEEDS)?;
    Ok(lane.map_or(End::Missing, |_| End::Good))
}

/// `cargo xtask test`.
pub fn command() -> Result<End> {
    let Some(lane) = packages::ensure(&NEEDS)? else {
        return Ok(End::Missing);
    };
    let mut tally = Tally::default();
    tally.check("formatting", || {
        run(cargo().args(["fmt", "--all", "--check"]))?;
        run(cargo().args(["fmt", TESTS, "--all", "--check"]))
    });
    tally.check("no unsafe in the driver's policy", policy_has_no_unsafe);
    if let Err(error) = build::build(lane, Profile::Release, &["--quiet"]) {
        eprintln!("xtask: {error}");
        tally.failed += 1;
        return Ok(tally.end()); // An older image would pass or fail for it.
    }
    tally.check("building the driver's broken variants", || {
        Checkout::at(build::root(), lane).build_broken().map(drop)
    });
    let programs = resvctl::build(lane).and_then(|_| resvctl::build_questions(lane));
    if let Err(error) = programs {
        eprintln!("xtask: {error}");
        tally.failed += 1;
        return Ok(tally.end());
    }
    tally.check("clippy on resvctl.exe", || resvctl::lint(lane));
    tally.check("clippy on the driver", || {
        Checkout::at(build::root(), lane).lint()
    });
    tally.check("clippy on the rest", || {
        WORKSPACES.iter().try_for_each(|workspace| {
            let mut clippy = cargo();
            clippy
                .args(["clippy", "--quiet", "--locked", "--all-targets"])
                .args(*workspace)
                .args(["--", "-D", "warnings"]);
            run(&mut clippy)
        })
    });
    tally.check("all beside the driver, checked for its target", || {
        resvctl::check(lane)
    });
    tally.check("clippy on the fuzz targets", fuzz::lint);
    supply_chain(&mut tally);
    tally.check("the packages, test-signed", || {
        let lane = lane.own(Architecture::Arm64.target());
        build::build_for(Architecture::Arm64, lane, Profile::Release, &["--quiet"])?;
        for architecture in Architecture::ALL {
            package::sign(architecture, &package::complete(architecture)?)?;
        }
        Ok(())
    });
    for (workspace, name) in WORKSPACES.into_iter().zip(["", " of kit and rig"]) {
        timed(&format!("the tests{name}"), "", || {
            tests(workspace, &mut tally)
        })?;
    }
    tally.check("fuzzing for a moment", fuzz::briefly);
    tally.check("the same bytes from another folder", || {
        same_bytes_elsewhere(lane)
    });
    Ok(tally.end())
}

/// Clippy sees to the unsafe blocks below `driver/wdf`: one operation and a SAFETY line each.
fn policy_has_no_unsafe() -> Result<()> {
    let driver = build::root().join("driver");
    for path in fs::read_dir(&driver)
        .map_err(Error::at(&driver))?
        .flatten()
        .map(|e| e.path())
    {
        if path.extension().is_none_or(|e| e != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(Error::at(&path))?;
        for (number, line) in text.lines().enumerate() {
            let code = line
                .split("//")
                .next()
                .unwrap_or_default()
                .replace("unsafe_code", "");
            if code.contains("unsafe") {
                return Err(Error::new(format!(
                    "{}:{}: {line}",
                    path.display(),
                    number + 1
                )));
            }
        }
    }
    Ok(())
}

fn supply_chain(tally: &mut Tally) {
    if Command::new("cargo-deny")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok()
    {
        tally.check("licences and advisories", || {
            let deny = ["deny", "--log-level=error"];
            run(cargo().args(deny).arg("check"))?;
            run(cargo().args(deny).args([TESTS, "check"]))
        });
    } else {
        tell("licences and advisories: not checked, cargo-deny is not installed");
    }
}

/// `cargo test` of a workspace, its words passed on and its results summed up.
fn tests(workspace: &[&str], tally: &mut Tally) -> Result<()> {
    let mut cargo = cargo();
    cargo
        .args(["test", "--locked", "--no-fail-fast"])
        .args(workspace)
        .stdout(Stdio::piped());
    if is_drawn_or_quiet() {
        cargo.stderr(Stdio::piped());
    }
    cargo.env(
        "RESVFLT_SYS",
        build::root().join("target/package/resvflt.sys"),
    );
    let mut child = cargo.spawn().map_err(Error::at(Path::new("cargo")))?;
    let before = tally.failed;
    let err = child.stderr.take();
    let err = thread::spawn(|| pass_on(err, |line| !is_quiet() || is_told_quietly(line)));
    for line in child
        .stdout
        .take()
        .map(BufReader::new)
        .into_iter()
        .flat_map(BufRead::lines)
        .map_while(std::io::Result::ok)
    {
        if !is_quiet() || is_told_quietly(&line) {
            say(&line);
        }
        if let Some(result) = line.strip_prefix("test result: ") {
            tally.passed += count(result, " passed");
            tally.failed += count(result, " failed");
        }
    }
    let _ = err.join();
    let status = child.wait().map_err(Error::at(Path::new("cargo")))?;
    if !status.success() && tally.failed == before {
        tally.failed += 1; // A test program did not compile, or died before it could say its result.
    }
    Ok(())
}

/// What is shown of the test programs with `--quiet`: what does not say that all is well.
fn is_told_quietly(line: &str) -> bool {
    let well = [
        "test result: ok",
        "running ",
        "Doc-tests ",
        "Running ",
        "Compiling ",
        "Finished ",
        "Building ",
    ];
    let passed =
        line.starts_with("test ") && (line.ends_with("... ok") || line.ends_with("... ignored"));
    let line = line.trim_start();
    !(line.is_empty() || passed || well.iter().any(|start| line.starts_with(start)))
}

/// The number before `word`.
fn count(result: &str, word: &str) -> u32 {
    let before = result.split(word).next().unwrap_or_default();
    before
        .rsplit(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// Builds a copy of this checkout and compares image and symbols.
fn same_bytes_elsewhere(lane: Lane) -> Result<()> {
    let root = build::root();
    let elsewhere = root.join("target/another folder");
    copy(&root, &elsewhere)?;
    let other = Checkout::at(elsewhere, lane).build(Profile::Release, &["--quiet"])?;
    for extension in ["sys", "pdb"] {
        let (here, there) = (root.join("target/package/resvflt.sys"), &other);
        let [here, there] = [
            here.with_extension(extension),
            there.with_extension(extension),
        ];
        let same = fs::read(&here).map_err(Error::at(&here))?
            == fs::read(&there).map_err(Error::at(&there))?;
        if !same {
            let [here, there] = [here.display(), there.display()];
            return Err(Error::new(format!("{here} and {there} differ")));
        }
    }
    Ok(())
}

/// Not copied: Git's and Cargo's own, and `.cargo`, which Cargo reads in the folders above too and would take twice.
const LEFT_OUT: [&str; 3] = [".git", "target", ".cargo"];

/// Brings a copy of a checkout up to date.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).map_err(Error::at(from))?.flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if LEFT_OUT.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            write(&target, &fs::read(&path).map_err(Error::at(&path))?)?;
        }
    }
    Ok(())
}
