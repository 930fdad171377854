//! The program itself, as a person calls it: with a folder of fake programs that answer as a machine would, and with
//! command lines that are wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

/// Fake programs, first in PATH, that write down how they were called.
struct Machine(PathBuf);

impl Machine {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn program(&self, name: &str, script: &str) {
        let file = self.0.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let name = file.file_name().unwrap().display();
        let here = self.0.display();
        let text =
            format!("#!/bin/sh\nhere='{here}'\necho \"{name} $*\" >> \"$here/called\"\n{script}\n");
        // Renamed into place: a file that is being written can't be run.
        let new = file.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&new, &file).unwrap();
    }

    fn xtask(&self, line: &[&str]) -> Output {
        let path = format!("{}:/usr/bin:/bin", self.0.display());
        Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(line)
            .env("PATH", path)
            .env("OPEN_KIT_LLVM", self.0.join("llvm"))
            .output()
            .unwrap()
    }

    fn called(&self) -> Vec<String> {
        let text = fs::read_to_string(self.0.join("called")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// Debian with an old rustc-web that counts as installed: what `upgrade` says is done by an upgrade.
fn with_old_rustc_web(name: &str, upgrade: &str) -> Machine {
    let machine = Machine::new(name);
    machine.program(
        "rustc",
        "case \"$*\" in --version) echo 'rustc 1.95.0';; *) echo $here/no-such-target;; esac",
    );
    machine.program(
        "rustup",
        "echo 'error: could not download the target' >&2; exit 1",
    );
    machine.program("id", "echo 0");
    machine.program(
        "dpkg-query",
        "case \"$*\" in -L*) echo $here/web/bin/rustc;; *) printf 'cargo-web installed\\nrust-web-src installed\\n';; esac",
    );
    machine.program(
        "apt-get",
        &format!("case \"$*\" in install*) {upgrade};; esac"),
    );
    machine.program("web/bin/rustc", "cat \"$here/version\"");
    fs::write(machine.0.join("version"), "rustc 1.85.0 (Debian)\n").unwrap();
    machine.program(
        "llvm/bin/clang",
        "case \"$*\" in \
         --version) echo 'clang version 19.1.7'; echo \"InstalledDir: $here/llvm/bin\";; \
         -print-resource-dir) echo $here/llvm/lib/clang/19;; \
         *) echo 'this clang compiles nothing' >&2; exit 1;; esac",
    );
    machine.program("llvm/bin/clang++", "");
    machine.program(
        "llvm/bin/lld-link",
        "test \"$*\" = --version && exit; echo 'this linker links nothing' >&2; exit 1",
    );
    fs::create_dir_all(machine.0.join("llvm/lib")).unwrap();
    fs::write(machine.0.join("llvm/lib/libclang-19.so.1"), "").unwrap();
    machine
}

fn apt(called: &[String]) -> Vec<&str> {
    let calls = called.iter().map(String::as_str);
    calls.filter(|call| call.starts_with("apt-get")).collect()
}

#[test]
fn a_package_that_stays_too_old_ends_before_the_build_with_the_commands_that_help() {
    let machine = with_old_rustc_web("stays old", ":");
    let output = machine.xtask(&["demo"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    for words in [
        "found rustc 1.85 (Debian's rustc-web), needed 1.95",
        "rustup target add x86_64-pc-windows-msvc: error: could not download the target",
        "  rustup target add x86_64-pc-windows-msvc\n",
        "apt-get update && apt-get install",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("building"), "{said}");
    let called = machine.called();
    let upgrade = "apt-get install -y -qq --no-install-recommends cargo-web rust-web-src rustc-web";
    let calls = apt(&called);
    assert_eq!(
        calls.iter().filter(|call| **call == upgrade).count(),
        1,
        "{calls:?}"
    );
    assert_eq!(
        calls
            .iter()
            .filter(|call| **call == "apt-get update -qq")
            .count(),
        1,
        "{calls:?}"
    );
}

/// Without a build: that would take this checkout's own kit for the fakes.
#[test]
fn a_package_that_is_upgraded_is_taken() {
    let upgrade = "echo 'rustc 1.96.0 (Debian)' > \"$here/version\"";
    let machine = with_old_rustc_web("upgraded", upgrade);
    let output = machine.xtask(&["tools"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("LLVM: "), "{said}");
    let called = machine.called();
    let calls = apt(&called);
    let installs = calls.iter().filter(|call| call.contains("rustc-web"));
    assert_eq!(installs.count(), 1, "{calls:?}");
}

#[test]
fn what_is_not_understood_ends_with_2_and_runs_nothing() {
    for line in [
        "report --nope",
        "bench extra",
        "demo --target nowhere",
        "faults --only nothing",
        "test rig",
        "nonsense",
    ] {
        let machine = with_old_rustc_web("not understood", ":");
        let words: Vec<&str> = line.split(' ').collect();
        let output = machine.xtask(&words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}: {said}");
        assert!(said.contains("Usage: cargo xtask"), "{line}: {said}");
        assert_eq!(machine.called(), Vec::<String>::new(), "{line}");
    }
}

#[test]
fn help_answers_within_a_second_and_runs_nothing() {
    let machine = with_old_rustc_web("help", ":");
    let took = [(); 3].map(|()| {
        let start = Instant::now();
        let output = machine.xtask(&["bench", "--help"]);
        assert!(output.status.success());
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(help.contains("Usage: cargo xtask bench"), "{help}");
        start.elapsed()
    });
    // Once of three times: other tests keep the processors busy.
    assert!(took.iter().any(|took| took.as_secs_f32() < 1.0), "{took:?}");
    assert_eq!(machine.called(), Vec::<String>::new());
}
