//! Builds a KMDF driver from the genuine wdk crates where Microsoft's WDK is not installed.
//!
//! [`stage`] lays this kit's own headers, import libraries and entry stub out as wdk-build looks for a WDK. [`wrapper`] is
//! what Cargo calls instead of rustc, and rustc instead of the linker: it lets wdk-build compile on this host, and keeps
//! the names of this machine's folders out of the image and its PDB. `Cargo.toml`, `Cargo.lock` and the registry's sources
//! stay as a developer with the WDK has them, and on Windows nothing of this is used.

pub mod llvm;
pub mod machine;
pub mod stage;
pub mod wrapper;

pub use llvm::Llvm;

use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What went wrong, told to the person at the terminal.
#[derive(Debug)]
pub struct Error(String);

/// A result whose error is already worded for the terminal.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// For `map_err`: the path goes before the cause.
    pub fn at<E: Display>(path: &Path) -> impl FnOnce(E) -> Self + '_ {
        move |cause| Self(format!("{}: {cause}", path.display()))
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// The processors that drivers are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// x64.
    Amd64,
    /// ARM64. No image for it was ever run by this project.
    Arm64,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// As stampinf and INF files call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Rust's and clang's target.
    #[must_use]
    pub const fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-pc-windows-msvc",
            Self::Arm64 => "aarch64-pc-windows-msvc",
        }
    }

    /// The folder of its libraries in a WDK, and its name to the linker.
    #[must_use]
    pub fn machine(self) -> &'static str {
        match self {
            Self::Amd64 => "x64",
            Self::Arm64 => "ARM64",
        }
    }

    /// What wdk-build has the compiler define for it, and flags that keep the kernel's registers.
    pub(crate) fn clang_flags(self) -> &'static [&'static str] {
        match self {
            Self::Amd64 => &["-D_WIN64", "-D_AMD64_", "-DAMD64", "-mno-sse"],
            Self::Arm64 => &["-D_ARM64_", "-DARM64", "-mgeneral-regs-only"],
        }
    }
}

/// Runs a command and makes its failure an error that names it.
///
/// # Errors
/// If it can't be started or ends with another status than 0.
pub fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_owned();
    let status = command.status().map_err(Error::at(Path::new(&name)))?;
    if status.success() {
        Ok(())
    } else {
        Err(Error(format!("{}: {status}", name.display())))
    }
}

/// Writes `bytes` unless the file holds them already, folders included; true if it was written.
///
/// # Errors
/// If it can't be written.
pub fn write(path: &Path, bytes: &[u8]) -> Result<bool> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::at(folder))?;
    }
    fs::write(path, bytes).map_err(Error::at(path))?;
    Ok(true)
}
