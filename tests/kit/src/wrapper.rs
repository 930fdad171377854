//! The part of the build that runs in rustc's, the linker's and the librarian's place.
//!
//! [`crate::stage::programs`] puts this program into the kit under their names; it acts as the one that it is called by.
//! Cargo calls `rustc` as its `RUSTC_WRAPPER`.
//!
//! As rustc it does three things. Host crates get `--cfg open_kit`, Cargo's own question for the host's cfg values
//! included, so that `cfg(any(windows, open_kit))` build-dependencies come in. wdk-build, which refuses to compile off
//! Windows, is compiled from a copy with seven words replaced, and what it takes of the `windows` crate from a stand-in.
//! Crates for Windows get neutral names for this machine's folders.
//!
//! As linker it gives lld-link every input under a stable name in one folder: the PDB holds those names, and rustc's
//! folder for temporary objects has a random one. As llvm-lib it is lld-link's own librarian, which saves a package.

use crate::stage::STAND_INS;
use crate::{Error, Llvm, Result, run};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The names under which this program takes another's place.
pub const NAMES: [&str; 3] = ["rustc", "lld-link", "llvm-lib"];

/// Folders to be renamed in the image, as rustc's `--remap-path-prefix` takes them, one to a line.
pub const REMAP: &str = "OPEN_KIT_REMAP";

/// The wdk-build that the replacements below were made for.
const WDK_BUILD: &str = "0.6.0";

/// File, occurrences, what is there, what is put there.
const REPLACEMENTS: [(&str, usize, &str, &str); 2] = [
    (
        "src/utils.rs",
        5,
        r#"target_os = "windows""#,
        r#"target_os = "linux""#,
    ),
    (
        "src/cargo_make.rs",
        2,
        "std::os::windows::fs::symlink_file",
        "std::os::unix::fs::symlink",
    ),
];

/// Does the work of the program in whose name it was called, if it is one of [`NAMES`]; the exit status.
#[must_use]
pub fn main() -> Option<i32> {
    let mut arguments = env::args_os();
    let name = PathBuf::from(arguments.next()?);
    let outcome = match name.file_name()?.to_str()? {
        "rustc" => arguments
            .next()
            .ok_or_else(|| Error::new("no rustc given"))
            .and_then(|r| rustc(&r, &name, arguments)),
        "lld-link" => link(arguments.collect()),
        "llvm-lib" => run(Command::new(Llvm::find().tool("lld-link"))
            .arg("/lib")
            .args(arguments))
        .map(|()| 0),
        _ => return None,
    };
    Some(outcome.unwrap_or_else(|error| {
        eprintln!("open-kit: {error}");
        1
    }))
}

fn rustc(rustc: &OsStr, this: &Path, arguments: impl Iterator<Item = OsString>) -> Result<i32> {
    let mut arguments: Vec<OsString> = arguments.collect();
    let host = !arguments
        .iter()
        .any(|a| a.as_encoded_bytes().starts_with(b"--target"));
    if host {
        substitute(this, &mut arguments)?;
        arguments.extend(["--cfg", "open_kit"].map(OsString::from));
    } else {
        arguments.push(joined("-Clinker=", &this.with_file_name("lld-link")));
        let remap = env::var(REMAP).unwrap_or_default();
        arguments.extend(
            remap
                .lines()
                .map(|pair| format!("--remap-path-prefix={pair}").into()),
        );
    }
    // With clippy, `rustc` is clippy-driver and the true rustc the first argument.
    let status = Command::new(rustc).args(arguments).status();
    let status = status.map_err(Error::at(Path::new(rustc)))?;
    Ok(status.code().unwrap_or(1))
}

/// Exchanges the root file of a crate that does not compile on this host.
fn substitute(this: &Path, arguments: &mut [OsString]) -> Result<()> {
    let after = |name: &str| arguments.iter().skip_while(|a| *a != name).nth(1).cloned();
    let (Some(name), Some(out)) = (after("--crate-name"), after("--out-dir")) else {
        return Ok(());
    };
    let stand_in = |file| this.with_file_name(STAND_INS).join(file);
    let root = match name.to_str() {
        Some("wdk_build") => wdk_build(&PathBuf::from(out).join("../open-kit"))?,
        Some("windows") => stand_in("windows.rs"),
        Some(
            "windows_collections"
            | "windows_core"
            | "windows_future"
            | "windows_numerics"
            | "windows_threading",
        ) => stand_in("empty.rs"),
        _ => return Ok(()),
    };
    let source = arguments
        .iter_mut()
        .find(|a| Path::new(a).ends_with("src/lib.rs"));
    *source
        .ok_or_else(|| Error::new(format!("{}: no src/lib.rs to exchange", name.display())))? =
        root.into();
    Ok(())
}

fn wdk_build(out: &Path) -> Result<PathBuf> {
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    if version != WDK_BUILD {
        return Err(Error::new(format!(
            "wdk-build {version}: the replacements were made for {WDK_BUILD}"
        )));
    }
    let from = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let to = out.join("wdk-build");
    copy(&from.join("src"), &to.join("src"))?;
    for (name, count, old, new) in REPLACEMENTS {
        let file = to.join(name);
        let text = fs::read_to_string(&file).map_err(Error::at(&file))?;
        if text.matches(old).count() != count {
            let file = file.display();
            return Err(Error::new(format!("{file}: expected {old} {count} times")));
        }
        fs::write(&file, text.replace(old, new)).map_err(Error::at(&file))?;
        keep_time(&from.join(name), &file)?;
    }
    Ok(to.join("src/lib.rs"))
}

/// Copies a folder, times included: Cargo compiles again what is younger than the last build.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).map_err(Error::at(to))?;
    for entry in fs::read_dir(from).map_err(Error::at(from))? {
        let path = entry.map_err(Error::at(from))?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target).map_err(Error::at(&target))?;
            keep_time(&path, &target)?;
        }
    }
    Ok(())
}

fn keep_time(from: &Path, to: &Path) -> Result<()> {
    let time = fs::metadata(from).and_then(|m| m.modified());
    let time = time.map_err(Error::at(from))?;
    let file = fs::File::options().write(true).open(to);
    file.and_then(|f| f.set_modified(time))
        .map_err(Error::at(to))
}

/// Where the linker's inputs lie while it runs, below its working folder.
const INPUTS: &str = "in";

/// lld-link's arguments with every file replaced by its name in the link folder.
#[derive(Default)]
struct Link {
    search: Vec<PathBuf>,
    inputs: Vec<(PathBuf, String)>,
    arguments: Vec<OsString>,
    out: Option<PathBuf>,
}

impl Link {
    fn take(&mut self, argument: OsString) -> Result<()> {
        let text = argument.to_string_lossy().into_owned();
        let (option, value) = text
            .split_once(':')
            .map_or((text.as_str(), ""), |(o, v)| (o, v));
        let file = Path::new(value).file_name().unwrap_or_default().display();
        match option {
            // rustc's debugger scripts differ between distributions, and a kernel debugger has its own.
            "/LIBPATH" | "/NATVIS" => {}
            "/OUT" | "/IMPLIB" => {
                self.arguments.push(format!("{option}:{file}").into());
                if option == "/OUT" {
                    self.out = Some(value.into());
                }
            }
            "/DEF" => {
                let name = self.input(Path::new(value));
                self.arguments.push(format!("/DEF:{name}").into());
            }
            _ if text.starts_with('/') && !Path::new(&text).exists() => {
                self.arguments.push(argument);
            }
            _ => {
                let found = [PathBuf::from(&text)]
                    .into_iter()
                    .chain(self.search.iter().map(|s| s.join(&text)));
                let path = found.into_iter().find(|p| p.is_file());
                let path = path.ok_or_else(|| {
                    Error::new(format!("{text}: the linker's input is not there"))
                })?;
                let name = self.input(&path);
                self.arguments.push(name.into());
            }
        }
        Ok(())
    }

    /// SHA-256 of the generated sources that name their own folder (wdk-sys's macro does): debug information holds the
    /// hash of every source file, and would differ from folder to folder.
    fn local_hashes(&self) -> Result<Vec<Vec<u8>>> {
        let mut hashes = Vec::new();
        for folder in self.search.iter().filter(|f| f.ends_with("out")) {
            for file in fs::read_dir(folder)
                .map_err(Error::at(folder))?
                .flatten()
                .map(|e| e.path())
            {
                let text = fs::read_to_string(&file).unwrap_or_default();
                if file.extension().is_some_and(|e| e == "rs")
                    && text.contains(&*folder.to_string_lossy())
                {
                    hashes.push(sha256(&file)?);
                }
            }
        }
        Ok(hashes)
    }

    /// Takes a file in under a name of its own.
    fn input(&mut self, path: &Path) -> String {
        let file = path.file_name().unwrap_or_default().display();
        let name = format!("{:02}-{file}", self.inputs.len());
        self.inputs.push((path.to_owned(), name.clone()));
        format!("{INPUTS}/{name}")
    }
}

fn link(mut arguments: Vec<OsString>) -> Result<i32> {
    if arguments.first().is_some_and(|a| a == "-flavor") {
        arguments.drain(..2);
    }
    let search = arguments
        .iter()
        .filter_map(|a| a.to_str()?.strip_prefix("/LIBPATH:"))
        .map(PathBuf::from)
        .collect();
    let mut link = Link {
        search,
        ..Link::default()
    };
    let hashes = link.local_hashes()?;
    for argument in arguments {
        link.take(argument)?;
    }
    let out = link
        .out
        .ok_or_else(|| Error::new("the linker got no /OUT"))?;
    let folder = out.with_extension("link");
    let _ = fs::remove_dir_all(&folder);
    let inputs = folder.join(INPUTS);
    fs::create_dir_all(&inputs).map_err(Error::at(&folder))?;
    for (from, name) in &link.inputs {
        let mut bytes = fs::read(from).map_err(Error::at(from))?;
        for hash in &hashes {
            erase(&mut bytes, hash);
        }
        fs::write(inputs.join(name), bytes).map_err(Error::at(from))?;
    }
    let mut lld = Command::new(Llvm::find().tool("lld-link"));
    run(lld
        .current_dir(&folder)
        .arg("/pdbsourcepath:.")
        .args(link.arguments))?;
    fs::remove_dir_all(&inputs).map_err(Error::at(&inputs))?;
    for entry in fs::read_dir(&folder).map_err(Error::at(&folder))?.flatten() {
        let target = out.with_file_name(entry.file_name());
        fs::rename(entry.path(), &target).map_err(Error::at(&target))?;
    }
    fs::remove_dir(&folder).map_err(Error::at(&folder))?;
    Ok(0)
}

fn sha256(file: &Path) -> Result<Vec<u8>> {
    let output = Command::new("sha256sum")
        .stdin(fs::File::open(file).map_err(Error::at(file))?)
        .output();
    let output = output.map_err(Error::at(Path::new("sha256sum")))?;
    let digits = output
        .stdout
        .get(..64)
        .and_then(|d| std::str::from_utf8(d).ok());
    let byte = |at: usize| u8::from_str_radix(digits?.get(2 * at..2 * at + 2)?, 16).ok();
    (0..32)
        .map(byte)
        .collect::<Option<_>>()
        .ok_or_else(|| Error::new("sha256sum gave no hash"))
}

/// Puts zeros over every occurrence of `hash`.
fn erase(bytes: &mut [u8], hash: &[u8]) {
    let at: Vec<usize> = bytes
        .windows(hash.len())
        .enumerate()
        .filter(|(_, w)| *w == hash)
        .map(|(at, _)| at)
        .collect();
    for at in at {
        bytes[at..at + hash.len()].fill(0);
    }
}

fn joined(prefix: &str, path: &Path) -> OsString {
    let mut text = OsString::from(prefix);
    text.push(path);
    text
}
