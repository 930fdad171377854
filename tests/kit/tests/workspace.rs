//! The driver's workspace is what Windows gets: each member must build there, and so names nothing that is not there.
//! `cargo xtask test` compiles all of them for Windows; this says it sooner, and of what Windows' target leaves out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Crates of Unix's calls: their code for Windows is empty or does not compile.
const UNIX_CRATES: [&str; 8] = [
    "errno",
    "inotify",
    "libc",
    "nix",
    "rustix",
    "signal-hook",
    "syscalls",
    "termios",
];

/// Modules of the standard library, by the names under which a source takes them.
const UNIX_MODULES: [&str; 3] = ["os::unix", "os::linux", "os::fd"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What `cargo metadata` says of the workspace of this manifest.
fn metadata(manifest: &str) -> Value {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["metadata", "--locked", "--no-deps", "--format-version=1"])
        .args(["--manifest-path", manifest])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn packages(metadata: &Value) -> &Vec<Value> {
    metadata["packages"].as_array().unwrap()
}

fn names(metadata: &Value) -> BTreeSet<&str> {
    let packages = packages(metadata).iter();
    packages
        .map(|package| package["name"].as_str().unwrap())
        .collect()
}

/// Every Rust source below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_drivers_workspace_is_the_driver_its_scsi_part_and_the_nodes_command_line() {
    let metadata = metadata("Cargo.toml");
    let expected = ["resvctl", "resvflt", "scsi-reserve"];
    assert_eq!(names(&metadata), BTreeSet::from(expected));
}

#[test]
fn no_member_of_it_depends_on_a_crate_of_unix_or_on_what_tests_it() {
    let (windows, tests) = (metadata("Cargo.toml"), metadata("tests/Cargo.toml"));
    let tests = names(&tests);
    assert!(tests.contains("rig"));
    for package in packages(&windows) {
        for dependency in package["dependencies"].as_array().unwrap() {
            let name = dependency["name"].as_str().unwrap();
            let found = UNIX_CRATES.contains(&name) || tests.contains(name);
            assert!(!found, "{} depends on {name}", package["name"]);
        }
    }
}

/// Names and versions of the wdk crates in a lock file.
fn wdk_crates(lock: &str) -> BTreeSet<(String, String)> {
    let text = fs::read_to_string(root().join(lock)).unwrap();
    let value = |package: &str, key: &str| {
        let mut lines = package.lines();
        let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
        value.unwrap_or_default().trim_matches('"').to_owned()
    };
    let packages = text.split("[[package]]");
    let packages = packages.map(|package| (value(package, "name"), value(package, "version")));
    packages
        .filter(|(name, _)| name.starts_with("wdk"))
        .collect()
}

#[test]
fn the_broken_variants_are_built_with_the_drivers_wdk_crates() {
    let of_the_driver = wdk_crates("Cargo.lock");
    assert!(of_the_driver.len() >= 5, "{of_the_driver:?}");
    assert_eq!(of_the_driver, wdk_crates("tests/Cargo.lock"));
}

#[test]
fn no_source_of_it_names_a_module_of_unix() {
    let mut files = vec![root().join("build.rs")];
    sources(&root().join("driver"), &mut files);
    assert!(files.len() > 20, "{} files", files.len());
    let mut named = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let modules = UNIX_MODULES.iter().filter(|module| text.contains(*module));
        named.extend(modules.map(|module| format!("{}: {module}", file.display())));
    }
    assert!(named.is_empty(), "{named:#?}");
}
