//! No circles in the driver: a module names only modules below it, in the order in which the tables of its crate's or
//! folder's own documentation list them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A folder of modules, the file whose documentation orders them, and how they name each other.
const HOUSES: [(&str, &str, &str); 3] = [
    ("driver", "lib.rs", "crate::"),
    ("driver/wdf", "mod.rs", "super::"),
    ("driver/scsi/src", "lib.rs", "crate::"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The modules of a table's first column, from the top.
fn order(documentation: &str) -> Vec<String> {
    let rows = documentation
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `"));
    let cells = rows.filter_map(|row| row.split('|').next());
    let names = cells.flat_map(|cell| cell.split(','));
    names
        .map(|name| name.trim().trim_matches('`').to_owned())
        .collect()
}

/// The modules that a source declares.
fn declared(source: &str) -> BTreeSet<String> {
    let declarations = source.lines().filter_map(|line| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        line.strip_prefix("mod ")?.strip_suffix(';')
    });
    declarations.map(str::to_owned).collect()
}

/// What a source names behind `prefix`. What a macro names where it is used is not named here.
fn named(source: &str, prefix: &str) -> BTreeSet<String> {
    let code = source.lines().map(str::trim_start);
    let code = code.filter(|line| !line.starts_with("//"));
    let mut names = BTreeSet::new();
    for line in code {
        for (at, _) in line.match_indices(prefix) {
            let before = line[..at].chars().next_back();
            if before.is_some_and(|c| c == '$' || c.is_alphanumeric() || c == '_') {
                continue;
            }
            let rest = &line[at + prefix.len()..];
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            names.insert(rest[..end.unwrap_or(rest.len())].to_owned());
        }
    }
    names
}

/// Every name that goes up, or sideways to itself, with where it stands.
fn circles(folder: &Path, order: &[String], prefix: &str) -> Vec<String> {
    let place = |name: &str| order.iter().position(|other| other == name);
    let mut found = vec![];
    for (at, module) in order.iter().enumerate() {
        let file = folder.join(module).with_extension("rs");
        // A module that is a folder, or another package, has its own table.
        let Ok(source) = fs::read_to_string(&file) else {
            continue;
        };
        for name in named(&source, prefix) {
            if place(&name).is_some_and(|other| other <= at) {
                found.push(format!("{}: {prefix}{name}", file.display()));
            }
        }
    }
    found
}

#[test]
fn a_module_of_the_driver_names_only_modules_below_it() {
    for (folder, file, prefix) in HOUSES {
        let folder = root().join(folder);
        let source = read(&folder.join(file));
        let order = order(&source);
        let listed: BTreeSet<_> = order.iter().cloned().collect();
        let missing: Vec<_> = declared(&source).difference(&listed).cloned().collect();
        assert!(missing.is_empty(), "{file} lists no place for {missing:?}");
        assert_eq!(listed.len(), order.len(), "{file} lists a module twice");
        let circles = circles(&folder, &order, prefix);
        assert!(circles.is_empty(), "{circles:#?}");
    }
}

#[test]
fn a_name_that_goes_up_is_found() {
    let source = "use crate::lower::A;\nfn f(b: crate::upper::B) {}\n// crate::upper in words\nfn g() { $crate::upper::C }\n";
    assert_eq!(
        named(source, "crate::"),
        ["lower", "upper"].map(str::to_owned).into()
    );
    // In the other order, each folder has names that go up.
    for (folder, file, prefix) in HOUSES {
        let folder = root().join(folder);
        let mut order = order(&read(&folder.join(file)));
        order.reverse();
        assert!(!circles(&folder, &order, prefix).is_empty(), "{folder:?}");
    }
}
