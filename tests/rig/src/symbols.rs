//! Which functions of the driver the counted instructions are in, by the PDB beside the image.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::path::Path;

use object::read::pe::PeFile64;
use object::{Object, ObjectSection, SectionFlags};
use pdb_addr2line::ContextPdbData;
use pdb_addr2line::pdb::PDB;

use crate::image;

/// Instructions by where they are, the most first.
pub type Places = Vec<(String, usize)>;

/// Sums places in the image's code up by function, or by the lines that they were inlined through.
///
/// # Errors
/// Image or PDB can't be read.
pub fn sum_up(file: &Path, places: &[u32], lines: bool) -> Result<Places, Box<dyn Error>> {
    let code = start_of_code(file)?;
    let pdb = PDB::open(File::open(file.with_extension("pdb"))?)?;
    let data = ContextPdbData::try_from_pdb(pdb)?;
    let context = data.make_context()?;
    let mut counts = BTreeMap::<u32, usize>::new();
    for place in places {
        *counts.entry(*place).or_default() += 1;
    }
    let mut sums = BTreeMap::<String, usize>::new();
    for (place, count) in counts {
        let frames = context.find_frames(code + place)?;
        let frames = frames.map(|found| found.frames).unwrap_or_default();
        let name = |frame: &pdb_addr2line::Frame| {
            let function = frame.function.as_deref().unwrap_or("?");
            let line = frame.line.map_or(String::new(), |line| format!(":{line}"));
            if lines {
                format!("{function}{line}")
            } else {
                function.to_owned()
            }
        };
        // The innermost comes first.
        let key = if lines {
            frames.iter().map(name).collect::<Vec<_>>().join(" < ")
        } else {
            frames.last().map_or("?".into(), name)
        };
        *sums.entry(key).or_default() += count;
    }
    let mut sums: Places = sums.into_iter().collect();
    sums.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), name.clone()));
    Ok(sums)
}

/// Where the one section that can be executed is mapped, from the start of the image.
fn start_of_code(file: &Path) -> Result<u32, Box<dyn Error>> {
    const IMAGE_SCN_MEM_EXECUTE: u32 = 0x2000_0000;
    let bytes = image::read(file)?;
    let pe = PeFile64::parse(&*bytes)?;
    let executable = |flags| matches!(flags, SectionFlags::Coff { characteristics } if characteristics & IMAGE_SCN_MEM_EXECUTE != 0);
    let code = pe.sections().find(|section| executable(section.flags()));
    let address = code.ok_or("no code")?.address() - pe.relative_address_base();
    Ok(u32::try_from(address)?)
}
