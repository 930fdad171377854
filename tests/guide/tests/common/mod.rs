//! The pages, for all tests of them.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap()
}

/// A page, by its path from the root.
pub fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All pages: what lies in the root, in `docs/`, and the events.
pub fn pages() -> Vec<PathBuf> {
    let folders = [root(), root().join("docs"), root().join("driver")];
    let entries = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap());
    let mut pages: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    pages.retain(|path| path.extension().is_some_and(|it| it == "md"));
    pages.sort();
    assert!(pages.len() > 2);
    pages
}

/// The lines outside code blocks.
pub fn prose(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    let lines = page.lines().zip(1..).map(|(line, number)| (number, line));
    lines.filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}
