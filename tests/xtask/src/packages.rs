//! The Debian packages that a command needs: installed as root, named otherwise.

use crate::build::Lane;
use open_kit::{Error, Result};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

/// What a command is about to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Build the driver.
    Build,
    /// Talk to a real iSCSI target.
    Iscsi,
    /// Lint the driver.
    Lint,
    /// Test-sign the package.
    Sign,
    /// Build a program for Windows.
    Windows,
    /// Run one.
    Wine,
}

fn packages(need: Need, lane: Lane) -> &'static [&'static str] {
    match (need, lane) {
        // clang-19 brings libclang, cargo-web brings rustc-web.
        (Need::Build, Lane::Toolchain) => &["clang-19", "lld-19"],
        (Need::Build, Lane::Debian) => &["clang-19", "lld-19", "cargo-web", "rust-web-src"],
        (Need::Iscsi, _) => &["clang-19", "libiscsi-bin", "libiscsi-dev", "tgt"],
        // rustup's toolchain seldom has this target: it is another than the driver's.
        (Need::Windows, _) => &["gcc-mingw-w64-x86-64", "cargo-web", "rust-web-src"],
        (Need::Wine, _) => &["gcc-mingw-w64-x86-64", "wine64"],
        (Need::Sign, _) => &["openssl", "osslsigncode"],
        (Need::Lint, _) => &["rust-web-clippy"],
    }
}

/// Sees to it that the packages are there; false if they are not and this user may not install them.
pub fn ensure(needs: &[Need], lane: Lane) -> Result<bool> {
    let mut wanted: Vec<_> = needs
        .iter()
        .flat_map(|need| packages(*need, lane))
        .copied()
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    let missing = missing(&wanted)?;
    if missing.is_empty() {
        return Ok(true);
    }
    let install = format!(
        "apt-get install -y --no-install-recommends {}",
        missing.join(" ")
    );
    if !is_root() {
        eprintln!("not installed: {}", missing.join(", "));
        eprintln!("as root: apt-get update && {install}");
        return Ok(false);
    }
    eprintln!("installing {} ...", missing.join(", "));
    // The lists may be absent or old: a refusal is worth one update.
    if apt(&install) || (apt("apt-get update") && apt(&install)) {
        return Ok(true);
    }
    Err(Error::new(format!("failed: {install}")))
}

fn missing<'a>(wanted: &[&'a str]) -> Result<Vec<&'a str>> {
    let query = Command::new("dpkg-query")
        .args(["-W", "-f=${Package} ${db:Status-Status}\\n"])
        .args(wanted)
        .output();
    let Ok(query) = query else {
        return Err(Error::new(format!(
            "no dpkg here; this needs what Debian 12 packs as {}",
            wanted.join(", ")
        )));
    };
    let there = String::from_utf8_lossy(&query.stdout);
    let is_there = |name: &&&str| {
        there
            .lines()
            .any(|line| line == format!("{name} installed"))
    };
    Ok(wanted
        .iter()
        .filter(|name| !is_there(name))
        .copied()
        .collect())
}

/// The kernel gives a process's folder in /proc to its effective user.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

fn apt(command: &str) -> bool {
    let mut words = command.split(' ');
    let mut apt = Command::new(words.next().unwrap_or_default());
    apt.args(words)
        .arg("-qq")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    apt.status().is_ok_and(|status| status.success())
}
