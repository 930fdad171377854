//! What the image is: read off the file that ships, with the file's own words for the tools that made it.

use std::path::Path;
use std::process::Command;

use maud::{Markup, html};
use object::LittleEndian as LE;
use object::pe;
use object::read::pe::{ImageNtHeaders, ImageOptionalHeader, Import, PeFile64};
use object::{Object, ObjectSection};
use serde_json::{Value, json};

use super::page::{self, Figure};

/// The image.
#[derive(Default)]
pub struct Facts {
    /// Its length in bytes.
    pub bytes: usize,
    /// SHA-256 of it, by `sha256sum`.
    pub sha256: String,
    /// The checksum in its header.
    pub checksum: u32,
    /// Whether that is right.
    pub checksum_holds: bool,
    /// How its PDB is found: GUID and age, as symbol servers write them.
    pub pdb: String,
    /// Its sections.
    pub sections: Vec<Part>,
    /// Module and function.
    pub imports: Vec<(String, String)>,
    /// What it exports.
    pub exports: Vec<String>,
    /// Its security flags, by name, and whether they are set.
    pub flags: Vec<(&'static str, &'static str, bool)>,
    /// True if a section is writable and executable.
    pub writable_code: bool,
}

/// A section.
pub struct Part {
    /// Its name.
    pub name: String,
    /// Bytes in memory.
    pub virtual_bytes: u64,
    /// Bytes in the file.
    pub raw_bytes: u64,
    /// "read, execute".
    pub access: String,
}

const FLAGS: [(u16, &str, &str); 5] = [
    (
        pe::IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE,
        "DYNAMIC_BASE",
        "may be loaded anywhere",
    ),
    (
        pe::IMAGE_DLLCHARACTERISTICS_HIGH_ENTROPY_VA,
        "HIGH_ENTROPY_VA",
        "64-bit randomization",
    ),
    (
        pe::IMAGE_DLLCHARACTERISTICS_NX_COMPAT,
        "NX_COMPAT",
        "data is not executed",
    ),
    (
        pe::IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY,
        "FORCE_INTEGRITY",
        "the loader demands a signature",
    ),
    (
        pe::IMAGE_DLLCHARACTERISTICS_GUARD_CF,
        "GUARD_CF",
        "control flow guard",
    ),
];

/// Reads an image's facts.
///
/// # Errors
/// It is no image.
pub fn read(file: &Path, bytes: &[u8]) -> object::Result<Facts> {
    let image = PeFile64::parse(bytes)?;
    let header = image.nt_headers().optional_header();
    let set = header.dll_characteristics();
    // Into the NT headers: signature 4, file header 20, CheckSum at 64 of the optional header.
    let field = image.dos_header().e_lfanew.get(LE) as usize + 4 + 20 + 64;
    let both = pe::IMAGE_SCN_MEM_WRITE | pe::IMAGE_SCN_MEM_EXECUTE;
    let mut facts = Facts {
        bytes: bytes.len(),
        sha256: sha256(file),
        checksum: header.check_sum(),
        checksum_holds: header.check_sum() == checksum(bytes, field),
        pdb: image.pdb_info()?.map(pdb_words).unwrap_or_default(),
        flags: FLAGS
            .map(|(flag, name, means)| (name, means, set & flag != 0))
            .into(),
        ..Facts::default()
    };
    for (section, header) in image.sections().zip(image.section_table().iter()) {
        let flags = header.characteristics.get(LE);
        facts.writable_code |= flags & both == both;
        facts.sections.push(Part {
            name: section.name()?.to_owned(),
            virtual_bytes: section.size(),
            raw_bytes: header.size_of_raw_data.get(LE).into(),
            access: access_words(flags),
        });
    }
    facts.imports = imports(&image)?;
    for export in image.exports()? {
        facts
            .exports
            .push(String::from_utf8_lossy(export.name()).into_owned());
    }
    Ok(facts)
}

/// The command that stands under the figure.
fn sha256(file: &Path) -> String {
    let said = Command::new("sha256sum").arg(file).output();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let sum = said.unwrap_or_default();
    sum.split_whitespace()
        .next()
        .unwrap_or("not computed")
        .to_owned()
}

/// The file's 16-bit one's complement sum, its own field taken as zero, plus its length.
fn checksum(bytes: &[u8], field: usize) -> u32 {
    let sum = bytes.chunks(2).enumerate().fold(0_u32, |sum, (at, word)| {
        if (field..field + 4).contains(&(2 * at)) {
            return sum;
        }
        let word = u32::from(word[0]) | u32::from(*word.get(1).unwrap_or(&0)) << 8;
        let sum = sum + word;
        (sum & 0xFFFF) + (sum >> 16)
    });
    sum + bytes.len() as u32
}

/// The GUID's Data1 to Data3 are little-endian numbers, Data4 is bytes.
fn pdb_words(info: object::CodeView<'_>) -> String {
    let guid = info.guid();
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let number = order
        .into_iter()
        .fold(0_u128, |number, at| number << 8 | u128::from(guid[at]));
    let digits = format!("{number:032X}");
    let groups = [
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    ];
    let path = String::from_utf8_lossy(info.path()).into_owned();
    format!("{path} {{{}}} age {}", groups.join("-"), info.age())
}

fn access_words(flags: u32) -> String {
    let words = [
        (pe::IMAGE_SCN_MEM_READ, "read"),
        (pe::IMAGE_SCN_MEM_WRITE, "write"),
        (pe::IMAGE_SCN_MEM_EXECUTE, "execute"),
        (pe::IMAGE_SCN_MEM_DISCARDABLE, "discardable"),
    ];
    let words = words.into_iter().filter(|(flag, _)| flags & flag != 0);
    words.map(|(_, word)| word).collect::<Vec<_>>().join(", ")
}

fn imports(image: &PeFile64<'_>) -> object::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let Some(table) = image.import_table()? else {
        return Ok(found);
    };
    let mut modules = table.descriptors()?;
    while let Some(module) = modules.next()? {
        let name = String::from_utf8_lossy(table.name(module.name.get(LE))?).into_owned();
        let mut thunks = table.thunks(module.original_first_thunk.get(LE))?;
        while let Some(thunk) = thunks.next::<pe::ImageNtHeaders64>()? {
            let function = match table.import::<pe::ImageNtHeaders64>(thunk)? {
                Import::Ordinal(ordinal) => format!("#{ordinal}"),
                Import::Name(_, function) => String::from_utf8_lossy(function).into_owned(),
            };
            found.push((name.clone(), function));
        }
    }
    Ok(found)
}

impl Facts {
    /// The facts as one object.
    pub fn json(&self) -> Value {
        let sections = self.sections.iter().map(|part| {
            json!({"name": part.name, "virtual_bytes": part.virtual_bytes, "raw_bytes": part.raw_bytes, "access": part.access})
        });
        json!({
            "bytes": self.bytes,
            "sha256": self.sha256,
            "checksum": format!("{:#010x}", self.checksum),
            "checksum_holds": self.checksum_holds,
            "pdb": self.pdb,
            "sections": sections.collect::<Vec<_>>(),
            "imports": self.imports,
            "exports": self.exports,
            "flags": self.flags.iter().map(|(name, _, set)| json!({"name": name, "set": set})).collect::<Vec<_>>(),
        })
    }

    /// The figure.
    pub fn figure(&self) -> Figure {
        Figure {
            id: "image",
            title: "The image".into(),
            note: html! {
                "The same sources give the same bytes from any folder, with the same compiler: " code { "cargo xtask test" }
                " builds twice and compares."
            },
            body: self.body(),
            command: "cargo xtask build && sha256sum target/package/resvflt.sys && cargo xtask report --only image".into(),
        }
    }

    fn body(&self) -> Markup {
        let largest = self
            .sections
            .iter()
            .map(|part| part.virtual_bytes)
            .max()
            .unwrap_or(1);
        let modules: Vec<_> = self.imports.chunk_by(|a, b| a.0 == b.0).collect();
        html! {
            div.columns {
                div.scroll { table.rows {
                    thead { tr { th { "section" } th.number { "in memory" } th.number { "in the file" } th { "access" } th.bar {} } }
                    tbody { @for part in &self.sections { tr {
                        th { code { (part.name) } }
                        td.number { (page::count(part.virtual_bytes)) " B" }
                        td.number { (page::count(part.raw_bytes)) " B" }
                        td { (part.access) }
                        td.bar { (page::bar(part.virtual_bytes as f64 / largest as f64)) }
                    } } }
                    tfoot { tr {
                        th { "file" } td {} td.number { (page::count(self.bytes)) " B" }
                        td colspan="2" { @if self.writable_code { "a section is writable and executable" }
                            @else { "none is writable and executable" } }
                    } }
                } }
                dl.facts {
                    dt { "SHA-256" } dd { code.long { (self.sha256) } }
                    dt { "checksum" } dd { code { (format!("{:#010x}", self.checksum)) } ", "
                        @if self.checksum_holds { "right" } @else { b { "wrong" } } }
                    dt { "symbols" } dd { code.long { (self.pdb) } }
                    dt { "flags" } dd { @for (name, means, set) in &self.flags {
                        div.unset[!*set] { @if *set { "✓ " } @else { "– " } code { (name) } " " span.faint { (means) } }
                    } }
                    dt { "exports" } dd { @if self.exports.is_empty() { "none" } @else { (self.exports.join(", ")) } }
                    dt { "imports" } dd { @for module in modules { div {
                        b { (module[0].0) } " " span.faint { "(" (module.len()) ") " }
                        code.wrap { (module.iter().map(|import| import.1.as_str()).collect::<Vec<_>>().join(" ")) }
                    } } }
                }
            }
        }
    }
}
