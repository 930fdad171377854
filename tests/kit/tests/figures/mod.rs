//! What the kit's headers declare, in clang's figures.

use open_kit::{Architecture, Llvm};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A structure or union: the offset of each field, that of an inner field under a dotted path. Members of anonymous
/// records count as their owner's. Bit-fields are left out: clang gives them no offset in bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub size: u64,
    pub align: u64,
    pub fields: BTreeMap<String, u64>,
}

/// All that the headers declare with a figure to it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub records: BTreeMap<String, Record>,
    pub enumerators: BTreeMap<String, i64>,
    pub constants: BTreeMap<String, u64>,
    /// The functions whose pointer types `PFN_WDF…` are declared, in capitals.
    pub prototypes: Vec<String>,
}

/// The kit's headers, to be read or first falsified.
pub struct Headers(Vec<(&'static str, String)>);

impl Headers {
    pub fn of_the_kit() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
        let read = |name| (name, fs::read_to_string(folder.join(name)).unwrap());
        Self(
            ["ntddk.h", "ntddscsi.h", "storport.h", "wdf.h"]
                .map(read)
                .into(),
        )
    }

    /// Exchanges `old`, which occurs once, for `new`.
    pub fn with(mut self, old: &str, new: &str) -> Self {
        assert_eq!(
            self.0
                .iter()
                .map(|(_, text)| text.matches(old).count())
                .sum::<usize>(),
            1,
            "{old}"
        );
        for (_, text) in &mut self.0 {
            *text = text.replace(old, new);
        }
        self
    }

    /// Compiles the headers for KMDF 1.`minor`, on x64.
    pub fn figures(&self, minor: &str) -> Figures {
        self.figures_on(Architecture::Amd64, minor)
    }

    /// Compiles the headers for KMDF 1.`minor`.
    pub fn figures_on(&self, architecture: Architecture, minor: &str) -> Figures {
        let folder = scratch();
        let mut all = String::new();
        for (name, text) in &self.0 {
            fs::write(folder.join(name), text).unwrap();
            all += "#include \"";
            all += name;
            all += "\"\n";
        }
        fs::write(folder.join("all.c"), all).unwrap();
        let clang = |arguments: &[&str]| {
            let mut clang = Llvm::find().clang(architecture);
            clang
                .current_dir(&folder)
                .arg(format!("-DKMDF_VERSION_MINOR={minor}"))
                .args(arguments)
                .arg("all.c");
            output(&mut clang)
        };
        let mut figures = Figures::default();
        figures.layouts(&clang(&[
            "-fsyntax-only",
            "-Xclang",
            "-fdump-record-layouts-complete",
        ]));
        figures.declarations(&clang(&["-fsyntax-only", "-Xclang", "-ast-dump=json"]));
        figures.macros(&clang(&["-E", "-dD"]));
        fs::remove_dir_all(folder).unwrap();
        figures
    }
}

fn scratch() -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "figures-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("clang runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

impl Figures {
    /// Lines `offset | indentation type name`, each record closed by `[sizeof=…, align=…]`.
    fn layouts(&mut self, dump: &str) {
        for block in dump.split("*** Dumping AST Record Layout").skip(1) {
            let mut lines = block.lines().filter_map(|line| line.split_once(" | "));
            let Some((_, head)) = lines.next() else {
                continue;
            };
            let tag = head.rsplit(' ').next().unwrap_or_default();
            if head.contains("::(") || tag == "__NSConstantString_tag" {
                continue;
            }
            let mut record = Record::default();
            let mut path: Vec<(usize, String)> = Vec::new();
            for (offset, text) in lines {
                if let Some(figures) = text.trim().strip_prefix("[sizeof=") {
                    let (size, align) = figures
                        .trim_end_matches(']')
                        .split_once(", align=")
                        .unwrap();
                    (record.size, record.align) = (size.parse().unwrap(), align.parse().unwrap());
                    break;
                }
                let depth = text.len() - text.trim_start().len();
                path.retain(|(outer, _)| *outer < depth);
                let name = if text.contains("::(anonymous") {
                    ""
                } else {
                    text.rsplit(' ').next().unwrap()
                };
                let inside_a_named_record = path.iter().any(|(_, outer)| outer == "*");
                if let (Ok(offset), false, false) = (
                    offset.trim().parse(),
                    inside_a_named_record,
                    name.is_empty(),
                ) {
                    let outer = path
                        .iter()
                        .map(|(_, n)| n.as_str())
                        .filter(|n| !n.is_empty());
                    record
                        .fields
                        .insert(outer.chain([name]).collect::<Vec<_>>().join("."), offset);
                }
                // What a field of a named type holds is that type's own affair.
                let named = !text.contains("::(");
                path.push((depth, if named { "*" } else { name }.to_owned()));
            }
            self.records.insert(tag.to_owned(), record);
        }
    }

    fn declarations(&mut self, json: &str) {
        let tree: Value = serde_json::from_str(json).unwrap();
        for node in tree["inner"].as_array().unwrap() {
            let name = node["name"].as_str().unwrap_or_default();
            match node["kind"].as_str() {
                Some("EnumDecl") => self.enumeration(node),
                Some("TypedefDecl")
                    if node["type"]["qualType"]
                        .as_str()
                        .is_some_and(|t| t.contains("(*)(PWDF_DRIVER_GLOBALS")) =>
                {
                    self.prototypes
                        .push(name.strip_prefix("PFN_").unwrap().to_owned());
                }
                _ => {}
            }
        }
    }

    fn enumeration(&mut self, node: &Value) {
        let mut next = 0;
        for item in node["inner"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|i| i["kind"] == "EnumConstantDecl")
        {
            if let Some(value) = item["inner"][0]["value"].as_str() {
                next = value.parse().unwrap();
            }
            self.enumerators
                .insert(item["name"].as_str().unwrap().to_owned(), next);
            next += 1;
        }
    }

    /// `#define`s of the kit's own with a plain number; the rest of them are no constants.
    fn macros(&mut self, preprocessed: &str) {
        let mut own = false;
        for line in preprocessed.lines() {
            if line.starts_with("# ") {
                own = line.contains(".h\"");
            }
            let Some((name, value)) = line
                .strip_prefix("#define ")
                .and_then(|d| d.split_once(' '))
            else {
                continue;
            };
            let number = match value.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).ok(),
                None => value.parse().ok(),
            };
            if let (true, Some(number)) = (own, number) {
                self.constants.insert(name.to_owned(), number);
            }
        }
    }
}
