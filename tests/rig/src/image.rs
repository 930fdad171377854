//! Maps a built kernel image as the loader does: sections at their addresses, relocated, imports bound, pages
//! protected. What it can't map it refuses with the file's and the symbol's name.

use std::ffi::c_void;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use object::LittleEndian as LE;
use object::pe;
use object::read::pe::{ImageNtHeaders, ImageOptionalHeader, Import, PeFile64};

use crate::abi::{DRIVER_OBJECT, Status, UNICODE_STRING};

/// FxDriverEntry: what the loader calls.
pub type Entry = unsafe extern "win64" fn(*mut DRIVER_OBJECT, *mut UNICODE_STRING) -> Status;
/// Gives the address of an imported function, or none if this Windows has no such export.
pub type Exports<'a> = &'a dyn Fn(&str, &str) -> Option<*const c_void>;

const PAGE: usize = 4096;
/// More than any driver takes: a header that says more is damaged.
const LARGEST: usize = 64 << 20;

/// Why a file was not loaded.
#[derive(Debug)]
pub enum LoadError {
    /// It could not be read.
    Read(PathBuf, std::io::Error),
    /// It is not a PE32+ image, or a damaged one.
    NotAnImage(PathBuf, String),
    /// It is for another processor.
    Machine(PathBuf, u16),
    /// It is not a driver (subsystem).
    Subsystem(PathBuf, u16),
    /// This Windows does not export what it wants.
    Import {
        /// The file.
        file: PathBuf,
        /// The module it imports from.
        module: String,
        /// The function.
        symbol: String,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(file, error) => write!(f, "{}: {error}", file.display()),
            Self::NotAnImage(file, why) => {
                write!(f, "{}: not a driver image: {why}", file.display())
            }
            Self::Machine(file, machine) => {
                write!(
                    f,
                    "{}: machine type {machine:#06x}, not x64 (0x8664)",
                    file.display()
                )
            }
            Self::Subsystem(file, subsystem) => {
                write!(
                    f,
                    "{}: subsystem {subsystem}, not a driver's (1, native)",
                    file.display()
                )
            }
            Self::Import {
                file,
                module,
                symbol,
            } => {
                write!(
                    f,
                    "{}: imports {symbol} from {module}, which this rig does not export",
                    file.display()
                )
            }
        }
    }
}

impl std::error::Error for LoadError {}

/// A mapped image; unmapped when dropped.
#[derive(Debug)]
pub struct Image {
    base: usize,
    size: usize,
    entry: usize,
}

/// Where an image begins, its size, what messages call it, and its node.
type Mapped = (usize, usize, String, Arc<str>);

static MAPPED: Mutex<Vec<Mapped>> = Mutex::new(Vec::new());

/// Sections that may be paged out: where each begins, its size and its protection.
static PAGEABLE: Mutex<Vec<(usize, usize, i32)>> = Mutex::new(Vec::new());
static ANY_PAGEABLE: AtomicBool = AtomicBool::new(false);

/// Takes all pageable sections away, as Driver Verifier's IRQL checking does whenever the IRQL is raised. What is touched
/// faults.
pub fn page_out() {
    if !ANY_PAGEABLE.load(Ordering::Relaxed) {
        return;
    }
    let pageable = PAGEABLE.lock().unwrap_or_else(PoisonError::into_inner);
    for &(start, size, _) in &*pageable {
        // SAFETY: a section's own pages; entries go before their image does.
        unsafe { libc::mprotect(start as *mut c_void, size, libc::PROT_NONE) };
    }
}

/// The pageable section at `address`: where it begins, its size and its protection.
pub fn pageable(address: usize) -> Option<(usize, usize, i32)> {
    let pageable = PAGEABLE.lock().unwrap_or_else(PoisonError::into_inner);
    let covers =
        |(start, size, _): &&(usize, usize, i32)| (*start..start + size).contains(&address);
    pageable.iter().find(covers).copied()
}

/// Gives a pageable section back; false if there is none at `address`.
pub fn page_in(address: usize) -> bool {
    let Some((start, size, protection)) = pageable(address) else {
        return false;
    };
    // SAFETY: a section's own pages.
    unsafe { libc::mprotect(start as *mut c_void, size, protection) == 0 }
}

/// "resvflt.sys+0x1234 (node A)" for an address inside a mapped image.
pub fn describe(address: usize) -> Option<String> {
    let mapped = MAPPED.try_lock().ok()?;
    let (base, _, name, _) = mapped
        .iter()
        .find(|(base, size, ..)| (*base..base + size).contains(&address))?;
    Some(format!("{name}+{:#x}", address - base))
}

/// The node whose image has code or data at `address`.
pub fn node_of(address: usize) -> Option<Arc<str>> {
    let mapped = MAPPED.lock().unwrap_or_else(PoisonError::into_inner);
    let covers = |(base, size, ..): &&Mapped| (*base..base + size).contains(&address);
    mapped
        .iter()
        .find(covers)
        .map(|(.., node)| Arc::clone(node))
}

/// The driver that this project builds: what RESVFLT_SYS names, else `target/package/resvflt.sys`.
pub fn built() -> PathBuf {
    std::env::var_os("RESVFLT_SYS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/package/resvflt.sys"),
        PathBuf::from,
    )
}

/// Reads a file that is to be mapped.
///
/// # Errors
/// [`LoadError::Read`].
pub fn read(file: &Path) -> Result<Vec<u8>, LoadError> {
    std::fs::read(file).map_err(|error| LoadError::Read(file.into(), error))
}

impl Image {
    /// Maps the image `bytes` of `file` for `node`.
    ///
    /// # Errors
    /// Says what keeps it from being mapped.
    pub fn map(
        file: &Path,
        bytes: &[u8],
        node: &str,
        exports: Exports<'_>,
    ) -> Result<Self, LoadError> {
        let bad = |why: &dyn fmt::Display| LoadError::NotAnImage(file.into(), why.to_string());
        let machine = bytes
            .get(0x3C..0x40)
            .and_then(|at| bytes.get(u32::from_le_bytes(at.try_into().ok()?) as usize + 4..))
            .and_then(|rest| Some(u16::from_le_bytes(rest.get(..2)?.try_into().ok()?)));
        if bytes.starts_with(b"MZ")
            && let Some(machine) =
                machine.filter(|&machine| machine != pe::IMAGE_FILE_MACHINE_AMD64)
        {
            return Err(LoadError::Machine(file.into(), machine));
        }
        let pe = PeFile64::parse(bytes).map_err(|error| bad(&error))?;
        let header = pe.nt_headers().optional_header();
        if header.subsystem() != pe::IMAGE_SUBSYSTEM_NATIVE {
            return Err(LoadError::Subsystem(file.into(), header.subsystem()));
        }
        let size = header.size_of_image() as usize;
        if !(PAGE..=LARGEST).contains(&size) {
            return Err(bad(&format_args!("an image of {size} bytes")));
        }
        let mut image = Self::reserve(size, header.address_of_entry_point() as usize);
        if image.entry >= image.size || !sections_fit(&pe, image.size) {
            return Err(bad(
                &"a section or the entry point lies outside of the image",
            ));
        }
        image.copy_sections(&pe).map_err(|error| bad(&error))?;
        image.relocate(&pe).map_err(|error| bad(&error))?;
        image.bind(file, &pe, exports)?;
        image.protect(&pe);
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        MAPPED.lock().unwrap_or_else(PoisonError::into_inner).push((
            image.base,
            image.size,
            format!("{name} (node {node})"),
            node.into(),
        ));
        Ok(image)
    }

    fn reserve(size: usize, entry: usize) -> Self {
        let size = size.next_multiple_of(PAGE);
        // SAFETY: an anonymous mapping at an address of the host's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(base, libc::MAP_FAILED, "the host has memory for the image");
        Self {
            base: base as usize,
            size,
            entry,
        }
    }

    /// The whole image, while it is being made.
    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is this value's, writable until `protect`, and nothing runs in it yet.
        unsafe { std::slice::from_raw_parts_mut(self.base as *mut u8, self.size) }
    }

    fn copy_sections(&mut self, pe: &PeFile64<'_>) -> object::Result<()> {
        for section in pe.section_table().iter() {
            let start = section.virtual_address.get(LE) as usize;
            let data = section.pe_data(pe.data())?;
            let room = self.size - start;
            let length = data.len().min(room);
            self.bytes()[start..start + length].copy_from_slice(&data[..length]);
        }
        Ok(())
    }

    fn relocate(&mut self, pe: &PeFile64<'_>) -> object::Result<()> {
        let delta = (self.base as u64).wrapping_sub(pe.nt_headers().optional_header().image_base());
        let Some(mut blocks) = pe
            .data_directories()
            .relocation_blocks(pe.data(), &pe.section_table())?
        else {
            return Ok(());
        };
        while let Some(block) = blocks.next()? {
            for entry in block {
                if entry.typ != pe::IMAGE_REL_BASED_DIR64 {
                    continue;
                }
                let at = entry.virtual_address as usize;
                if let Some(slot) = self.bytes().get_mut(at..at + 8) {
                    let value = u64::from_le_bytes(slot.try_into().unwrap_or_default());
                    slot.copy_from_slice(&value.wrapping_add(delta).to_le_bytes());
                }
            }
        }
        Ok(())
    }

    fn bind(
        &mut self,
        file: &Path,
        pe: &PeFile64<'_>,
        exports: Exports<'_>,
    ) -> Result<(), LoadError> {
        let bad = |error: object::Error| LoadError::NotAnImage(file.into(), error.to_string());
        let Some(table) = pe.import_table().map_err(bad)? else {
            return Ok(());
        };
        let mut descriptors = table.descriptors().map_err(bad)?;
        while let Some(descriptor) = descriptors.next().map_err(bad)? {
            let module = table.name(descriptor.name.get(LE)).map_err(bad)?;
            let module = String::from_utf8_lossy(module).into_owned();
            let mut thunks = table
                .thunks(descriptor.original_first_thunk.get(LE))
                .map_err(bad)?;
            let mut slot = descriptor.first_thunk.get(LE) as usize;
            while let Some(thunk) = thunks.next::<pe::ImageNtHeaders64>().map_err(bad)? {
                let symbol = match table.import::<pe::ImageNtHeaders64>(thunk).map_err(bad)? {
                    Import::Ordinal(ordinal) => format!("#{ordinal}"),
                    Import::Name(_, name) => String::from_utf8_lossy(name).into_owned(),
                };
                let Some(address) = exports(&module, &symbol) else {
                    return Err(LoadError::Import {
                        file: file.into(),
                        module,
                        symbol,
                    });
                };
                if let Some(bytes) = self.bytes().get_mut(slot..slot + 8) {
                    bytes.copy_from_slice(&(address as u64).to_le_bytes());
                }
                slot += 8;
            }
        }
        Ok(())
    }

    fn protect(&self, pe: &PeFile64<'_>) {
        // SAFETY: the headers' page of this value's mapping.
        unsafe { libc::mprotect(self.base as *mut c_void, PAGE, libc::PROT_READ) };
        for section in pe.section_table().iter() {
            let flags = section.characteristics.get(LE);
            let bit = |flag, protection| if flags & flag == 0 { 0 } else { protection };
            let protection = bit(pe::IMAGE_SCN_MEM_READ, libc::PROT_READ)
                | bit(pe::IMAGE_SCN_MEM_WRITE, libc::PROT_WRITE)
                | bit(pe::IMAGE_SCN_MEM_EXECUTE, libc::PROT_EXEC);
            let start = self.base + section.virtual_address.get(LE) as usize;
            let size = (section.virtual_size.get(LE) as usize).next_multiple_of(PAGE);
            // SAFETY: sections lie inside of the mapping, on pages of their own.
            unsafe { libc::mprotect(start as *mut c_void, size, protection) };
            if section.name.starts_with(b"PAGE") {
                let mut pageable = PAGEABLE.lock().unwrap_or_else(PoisonError::into_inner);
                pageable.push((start, size, protection));
                ANY_PAGEABLE.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Where the image starts.
    pub fn base(&self) -> usize {
        self.base
    }

    /// How much memory it takes, in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Its entry point.
    pub fn entry(&self) -> Entry {
        // SAFETY: a driver's entry point has this signature, and the map is executable there.
        unsafe { std::mem::transmute::<usize, Entry>(self.base + self.entry) }
    }
}

fn sections_fit(pe: &PeFile64<'_>, size: usize) -> bool {
    pe.section_table().iter().all(|section| {
        let start = section.virtual_address.get(LE) as usize;
        start.is_multiple_of(PAGE)
            && start
                .checked_add(section.virtual_size.get(LE) as usize)
                .is_some_and(|end| end <= size)
    })
}

impl Drop for Image {
    fn drop(&mut self) {
        MAPPED
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(base, ..)| *base != self.base);
        let elsewhere = |start: usize| !(self.base..self.base + self.size).contains(&start);
        PAGEABLE
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|&(start, ..)| elsewhere(start));
        // SAFETY: the mapping is this value's, and the driver in it is unloaded.
        unsafe { libc::munmap(self.base as *mut c_void, self.size) };
    }
}
