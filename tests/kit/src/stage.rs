//! Lays the kit out as wdk-build looks for a WDK.
//!
//! Files are written only where something differs: their times decide what Cargo builds anew.

use crate::llvm::link;
use crate::wrapper::NAMES;
use crate::{Architecture, Error, Llvm, Result, run, write};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The SDK version whose folder names the kit takes; wdk-build reads it from `Version_Number`.
pub const SDK_VERSION: &str = "10.0.26100.0";

/// The KMDF minor versions that the kit describes.
pub const KMDF_MINORS: [u32; 2] = [15, 33];

const NTDDK: &str = include_str!("../include/ntddk.h");
const NTDDSCSI: &str = include_str!("../include/ntddscsi.h");
const STORPORT: &str = include_str!("../include/storport.h");
const WDF: &str = include_str!("../include/wdf.h");
const STUB: &str = include_str!("../stub/WdfDriverEntry.c");
const GUARD_X64: &str = include_str!("../stub/guard-x64.S");
const GUARD_ARM64: &str = include_str!("../stub/guard-arm64.S");
const NTOSKRNL: &str = include_str!("../def/ntoskrnl.def");
const WINDOWS: &str = include_str!("../host/windows.rs");
const EMPTY: &str = include_str!("../host/empty.rs");
const WDFLDR: &str = include_str!("../def/WdfLdr.def");

/// Headers that wdk-sys includes (features none and `storage`) and the driver needs nothing from.
const EMPTY_HEADERS: [&str; 17] = [
    "ntifs.h",
    "ntstrsafe.h",
    "ehstorbandmgmt.h",
    "ehstorioctl.h",
    "mountdev.h",
    "mountmgr.h",
    "ntddcdrm.h",
    "ntddcdvd.h",
    "ntddchgr.h",
    "ntdddisk.h",
    "ntdddump.h",
    "ntddmmc.h",
    "ntddstor.h",
    "ntddtape.h",
    "ntddvol.h",
    "storduid.h",
    "ufs.h",
];

/// Libraries that wdk-sys links and the driver needs nothing from.
const EMPTY_LIBRARIES: [&str; 3] = ["arm64rt.lib", "hal.lib", "wmilib.lib"];

/// Stages the kit below `root`; true if anything changed.
///
/// # Errors
/// If a file can't be written, clang or lld-link fail, or `root` has "wdf" in its path: wdk-sys takes every header
/// whose path has it for one of KMDF's, and would declare NT's functions twice.
pub fn stage(llvm: &Llvm, root: &Path) -> Result<bool> {
    if root.to_string_lossy().to_lowercase().contains("wdf") {
        let text = format!(
            "{}: wdk-sys can't use a kit whose path contains \"wdf\"",
            root.display()
        );
        return Err(Error::new(text));
    }
    let include = root.join("Include").join(SDK_VERSION);
    let mut changed = false;
    for folder in ["shared", "km/crt", "km/ufx/1.1"] {
        create(&include.join(folder))?;
    }
    for (name, text) in [
        ("ntddk.h", NTDDK),
        ("ntddscsi.h", NTDDSCSI),
        ("storport.h", STORPORT),
    ] {
        changed |= write(&include.join("km").join(name), text.as_bytes())?;
    }
    for name in EMPTY_HEADERS {
        changed |= write(&include.join("km").join(name), b"#pragma once\n")?;
    }
    for minor in KMDF_MINORS {
        let headers = root.join(format!("Include/wdf/kmdf/1.{minor}"));
        changed |= write(&headers.join("wdf.h"), WDF.as_bytes())?;
    }
    for architecture in Architecture::ALL {
        changed |= libraries(llvm, root, architecture)?;
    }
    Ok(changed)
}

fn libraries(llvm: &Llvm, root: &Path, architecture: Architecture) -> Result<bool> {
    let machine = architecture.machine();
    let library = root.join(format!("Lib/{SDK_VERSION}/km/{machine}"));
    let mut changed = false;
    for name in EMPTY_LIBRARIES {
        changed |= write(&library.join(name), b"!<arch>\n")?;
    }
    let (kernel, guard) = ("ntoskrnl.lib", "BufferOverflowFastFailK.lib");
    changed |= import_library(llvm, root, architecture, &library.join(kernel), NTOSKRNL)?;
    changed |= guard_library(llvm, root, architecture, &library.join(guard))?;
    for minor in KMDF_MINORS {
        let library = root.join(format!("Lib/wdf/kmdf/{machine}/1.{minor}"));
        let (loader, entry) = ("WdfLdr.lib", "WdfDriverEntry.lib");
        changed |= import_library(llvm, root, architecture, &library.join(loader), WDFLDR)?;
        changed |= entry_library(llvm, root, architecture, &library.join(entry), minor)?;
    }
    Ok(changed)
}

/// Where, beside the programs, the sources lie that stand in for crates which do not compile on this host.
pub(crate) const STAND_INS: &str = "stand-ins";

/// Puts `program`, which calls [`crate::wrapper::main`], into the kit under the names that it acts by, and clang under
/// the name by which it takes the arguments of Microsoft's compiler. Returns their folder.
///
/// # Errors
/// If a link can't be made.
pub fn programs(llvm: &Llvm, root: &Path, program: &Path) -> Result<PathBuf> {
    let folder = root.join("bin");
    for (name, text) in [("windows.rs", WINDOWS), ("empty.rs", EMPTY)] {
        write(&folder.join(STAND_INS).join(name), text.as_bytes())?;
    }
    let clang = llvm.tool("clang");
    for (name, to) in NAMES
        .map(|name| (name, program))
        .into_iter()
        .chain([("clang-cl", clang.as_path())])
    {
        link(&folder.join(name), to)?;
    }
    Ok(folder)
}

fn import_library(
    llvm: &Llvm,
    root: &Path,
    architecture: Architecture,
    library: &Path,
    definitions: &str,
) -> Result<bool> {
    let new = scratch(root, "import")?;
    let definition = new.with_extension("def");
    write(&definition, definitions.as_bytes())?;
    run(Command::new(llvm.tool("lld-link"))
        .args(["/lib", "/nologo"])
        .arg(format!("/machine:{}", architecture.machine()))
        .arg(format!("/def:{}", definition.display()))
        .arg(format!("/out:{}", new.display())))?;
    replace(library, &new)
}

fn entry_library(
    llvm: &Llvm,
    root: &Path,
    architecture: Architecture,
    library: &Path,
    minor: u32,
) -> Result<bool> {
    let new = scratch(root, "entry")?;
    let source = new.with_file_name("WdfDriverEntry.c");
    write(&source, STUB.as_bytes())?;
    run(llvm
        .clang(architecture)
        .current_dir(source.parent().unwrap_or(root))
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-fno-stack-protector"])
        .args(["-g", "-gcodeview"])
        .arg("-fasynchronous-unwind-tables") // Freestanding code has none otherwise, and the kernel unwinds every frame.
        .args([
            "-mno-incremental-linker-compatible",
            "-fdebug-compilation-dir=.",
            "-gno-codeview-command-line",
        ])
        .args(["-Xclang", "-cfguard"])
        .arg(format!("-DKMDF_VERSION_MINOR={minor}"))
        .arg(format!("-I../Include/{SDK_VERSION}/km"))
        .arg(format!("-I../Include/wdf/kmdf/1.{minor}"))
        .args(["-c", "WdfDriverEntry.c", "-o", "entry.obj"]))?;
    archive(llvm, library, &new)
}

/// What the WDK's library of this name has of Control Flow Guard.
fn guard_library(
    llvm: &Llvm,
    root: &Path,
    architecture: Architecture,
    library: &Path,
) -> Result<bool> {
    let new = scratch(root, "guard")?;
    let source = new.with_extension("S");
    let text = match architecture {
        Architecture::Amd64 => GUARD_X64,
        Architecture::Arm64 => GUARD_ARM64,
    };
    write(&source, text.as_bytes())?;
    run(llvm
        .clang(architecture)
        .current_dir(source.parent().unwrap_or(root))
        .args(["-c", "guard.S", "-o", "guard.obj"]))?;
    archive(llvm, library, &new)
}

/// Makes a library of the object beside `new`, and puts it in its place.
fn archive(llvm: &Llvm, library: &Path, new: &Path) -> Result<bool> {
    let object = new.with_extension("obj");
    run(Command::new(llvm.tool("lld-link"))
        .current_dir(new.parent().unwrap_or(new))
        .args(["/lib", "/nologo"])
        .arg(format!("/out:{}", new.display()))
        .arg(object.file_name().unwrap_or_default()))?;
    replace(library, new)
}

fn scratch(root: &Path, name: &str) -> Result<PathBuf> {
    let folder = root.join("scratch");
    create(&folder)?;
    Ok(folder.join(name).with_extension("lib"))
}

fn create(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::at(folder))
}

fn replace(path: &Path, new: &Path) -> Result<bool> {
    write(path, &fs::read(new).map_err(Error::at(new))?)
}
