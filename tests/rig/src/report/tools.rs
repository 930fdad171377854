//! What the page was made with: commit, date, versions of crates and programs.

use std::path::Path;
use std::process::Command;

use maud::{Markup, html};

use super::page::Figure;

/// Versions.
pub struct Tools {
    /// The commit, with what was changed since, or empty without Git.
    pub commit: String,
    /// Its date.
    pub date: String,
    /// The compiler that built the image, and where it is from.
    pub compiler: String,
    /// Programs, each with the first line of what it says of its version.
    pub programs: Vec<(&'static str, String)>,
    /// Crates by purpose: name and version.
    pub crates: Vec<(&'static str, Vec<(String, String)>)>,
}

/// Crates worth naming; what they bring with them is in Cargo.lock.
const CRATES: [(&str, &[&str]); 4] = [
    (
        "in the image",
        &["wdk", "wdk-sys", "wdk-panic", "wdk-alloc", "scsi-reserve"],
    ),
    (
        "building it",
        &["wdk-build", "wdk-macros", "bindgen", "open-kit"],
    ),
    (
        "the rig",
        &[
            "windows-sys",
            "object",
            "libc",
            "serde_json",
            "clap",
            "indicatif",
            "maud",
        ],
    ),
    ("other tests", &["stateright", "proptest", "tracelogging"]),
];

/// Asks the programs.
pub fn look(root: &Path, compiler: &str) -> Tools {
    let git = |arguments: &[&str]| {
        first_line(Command::new("git").current_dir(root).args(arguments)).unwrap_or_default()
    };
    let llvm = std::env::var("OPEN_KIT_LLVM").unwrap_or_else(|_| "/usr/lib/llvm-19".into());
    let version = |name, program: &str| {
        let said = first_line(Command::new(program).arg("--version"));
        (name, said.unwrap_or_else(|| "not found".into()))
    };
    // Of the driver's workspace and of the tests'.
    let locks = ["Cargo.lock", "tests/Cargo.lock"]
        .map(|lock| std::fs::read_to_string(root.join(lock)).unwrap_or_default());
    let locks = locks.concat();
    Tools {
        commit: git(&["describe", "--always", "--dirty", "--abbrev=12"]),
        date: git(&["log", "-1", "--format=%cs"]),
        compiler: compiler.into(),
        programs: vec![
            version("clang", &format!("{llvm}/bin/clang")),
            version("lld-link", &format!("{llvm}/bin/lld-link")),
            version("rustc of the rig", "rustc"),
        ],
        crates: crates(&locks),
    }
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let said = String::from_utf8_lossy(&output.stdout);
    Some(said.lines().next()?.trim().to_owned())
}

/// Versions as the lock files have them.
fn crates(locks: &str) -> Vec<(&'static str, Vec<(String, String)>)> {
    let value = |line: &str, key: &str| {
        let rest = line.strip_prefix(key)?.strip_prefix(" = \"")?;
        rest.strip_suffix('"').map(str::to_owned)
    };
    let mut known: Vec<(String, String)> = Vec::new();
    for package in locks.split("[[package]]") {
        let find = |key| package.lines().find_map(|line| value(line, key));
        known.extend(find("name").zip(find("version")));
    }
    known.sort();
    known.dedup();
    let versions = |names: &&[&str]| {
        let named = known
            .iter()
            .filter(|(name, _)| names.contains(&name.as_str()));
        named.cloned().collect()
    };
    CRATES
        .iter()
        .map(|(purpose, names)| (*purpose, versions(names)))
        .collect()
}

impl Tools {
    /// The figure.
    pub fn figure(&self) -> Figure {
        Figure {
            id: "versions",
            title: "Made with".into(),
            note: html! {
                "The image was never built with Microsoft's WDK here: the open kit (" code { "tests/kit" } ") stands in for its \
                 headers, import libraries and entry stub."
            },
            body: self.body(),
            command: "cargo xtask report".into(),
        }
    }

    fn body(&self) -> Markup {
        html! {
            dl.facts {
                dt { "compiler" } dd { (self.compiler) }
                @for (name, said) in &self.programs { dt { (name) } dd { (said) } }
                @for (purpose, crates) in &self.crates { dt { "crates " (purpose) } dd {
                    @for (at, (name, version)) in crates.iter().enumerate() { @if at > 0 { ", " } code { (name) } " " (version) }
                } }
            }
        }
    }
}
