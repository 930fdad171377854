//! Builds a KMDF driver from the genuine wdk crates where Microsoft's WDK is not installed.
//!
//! [`stage`] lays this kit's own headers, import libraries and entry stub out as wdk-build looks for a WDK. [`wrapper`] is
//! what Cargo calls instead of rustc, and rustc instead of the linker: it lets wdk-build compile on this host, and keeps
//! the names of this machine's folders out of the image and its PDB. `Cargo.toml`, `Cargo.lock` and the registry's sources
//! stay as a developer with the WDK has them, and on Windows nothing of this is used.

pub mod stage;
pub mod wrapper;

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
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

/// The LLVM whose clang, lld-link and libclang are used.
#[derive(Debug)]
pub struct Llvm(PathBuf);

impl Llvm {
    /// `OPEN_KIT_LLVM`, or where Debian's packages put LLVM 19.
    #[must_use]
    pub fn find() -> Self {
        Self(
            std::env::var_os("OPEN_KIT_LLVM")
                .map_or_else(|| "/usr/lib/llvm-19".into(), PathBuf::from),
        )
    }

    /// One of its programs.
    #[must_use]
    pub fn tool(&self, name: &str) -> PathBuf {
        self.0.join("bin").join(name)
    }

    /// Where libclang lies.
    #[must_use]
    pub fn libraries(&self) -> PathBuf {
        self.0.join("lib")
    }

    /// clang, set to compile for the NT kernel on x64.
    #[must_use]
    pub fn clang(&self) -> Command {
        let mut clang = Command::new(self.tool("clang"));
        clang.args([
            "--target=x86_64-pc-windows-msvc",
            "-fms-extensions",
            "-ffreestanding",
            "-nostdlibinc",
        ]);
        clang.args([
            "-D_WIN64",
            "-D_AMD64_",
            "-DAMD64",
            "-D_KERNEL_MODE",
            "-DKMDF_VERSION_MAJOR=1",
        ]);
        clang
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
