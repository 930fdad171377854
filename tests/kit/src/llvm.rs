//! The LLVM whose clang, lld-link and libclang are used: found by asking the machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::{Here, Machine};
use crate::{Architecture, Error, Result};

/// Names the folder of an LLVM: below it lie `bin/clang`, `bin/lld-link` and libclang in `lib`.
pub const FOLDER: &str = "OPEN_KIT_LLVM";

/// The versions that are taken, the one with which this project is tested first.
pub const VERSIONS: [u32; 5] = [19, 20, 21, 18, 17];

/// An LLVM's parts, wherever each lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// clang, as it was called.
    pub clang: String,
    /// Its version.
    pub version: u32,
    /// The folder in which clang says that it is installed.
    pub installed: PathBuf,
    /// The linker.
    pub lld_link: PathBuf,
    /// The folder with libclang.
    pub libraries: PathBuf,
}

impl Parts {
    /// Looks in [`FOLDER`]'s value, if there is one, and nowhere else; otherwise along PATH and where distributions put
    /// their versions. The linker may be the one that rustc ships.
    ///
    /// # Errors
    /// For each clang that was found, why it does not do.
    pub fn find(machine: &mut dyn Machine, given: Option<&str>) -> Result<Self> {
        let mut reasons = Vec::new();
        for clang in candidates(given) {
            match Self::of(machine, &clang) {
                Ok(Some(parts)) => return Ok(parts),
                Ok(None) => {}
                Err(reason) => reasons.push(format!("{clang}: {reason}")),
            }
        }
        if let (Some(folder), true) = (given, reasons.is_empty()) {
            reasons.push(format!("{FOLDER}: no clang in {folder}/bin"));
        }
        if reasons.is_empty() {
            reasons.push("no clang".into());
        }
        Err(Error::new(reasons.join("\n")))
    }

    /// The parts that go with this clang; none if there is no such program.
    fn of(machine: &mut dyn Machine, clang: &str) -> std::result::Result<Option<Self>, String> {
        let said = machine.run(clang, &["--version"]);
        if !said.good() {
            return Ok(None);
        }
        let version = number_after(&said.out, "clang version ").unwrap_or(0);
        if !VERSIONS.contains(&version) {
            return Err(format!("version {version}, and 17 to 21 are taken"));
        }
        let installed = after(&said.out, "InstalledDir: ").unwrap_or_default();
        let lld_link = lld_link(machine, clang, version)
            .ok_or("no lld-link beside it or in PATH, and no rust-lld")?;
        let folders = library_folders(machine, clang, installed);
        let libraries = libclang(machine, &folders, version).ok_or("no libclang")?;
        Ok(Some(Self {
            clang: clang.into(),
            version,
            installed: installed.into(),
            lld_link,
            libraries,
        }))
    }

    /// True if all parts lie as in an LLVM of its own.
    fn in_one_folder(&self) -> bool {
        let root = self.installed.parent().unwrap_or(Path::new("/"));
        self.lld_link == self.installed.join("lld-link")
            && self.libraries == root.join("lib")
            && self.installed.join("clang").exists()
            && self.installed.join("clang++").exists()
    }

    /// An LLVM of these parts: where they lie, if they do so together, else linked into `folder`.
    ///
    /// # Errors
    /// If a link can't be made.
    pub fn gather(&self, folder: &Path) -> Result<Llvm> {
        if self.in_one_folder() {
            let root = self.installed.parent().unwrap_or(Path::new("/"));
            return Ok(Llvm(root.to_owned()));
        }
        let clang = which(&self.clang);
        for (name, to) in [
            ("bin/clang", &clang),
            ("bin/clang++", &clang),
            ("bin/lld-link", &self.lld_link),
            ("lib", &self.libraries),
        ] {
            link(&folder.join(name), to)?;
        }
        Ok(Llvm(folder.to_owned()))
    }
}

/// Makes a symbolic link, or leaves it as it is.
pub(crate) fn link(link: &Path, to: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|old| old == to) {
        return Ok(());
    }
    if let Some(folder) = link.parent() {
        fs::create_dir_all(folder).map_err(Error::at(folder))?;
    }
    let _ = fs::remove_file(link);
    std::os::unix::fs::symlink(to, link).map_err(Error::at(link))
}

/// The file that a name stands for, by PATH.
fn which(program: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let files = env::split_paths(&path).map(|folder| folder.join(program));
    let file = files.into_iter().find(|file| file.is_file());
    let file = file.unwrap_or_else(|| program.into());
    file.canonicalize().unwrap_or(file)
}

/// What may be a clang, the better ones first. Debian keeps versions in llvm-NN, Fedora and Arch in llvmNN.
fn candidates(given: Option<&str>) -> Vec<String> {
    if let Some(folder) = given {
        return vec![format!("{folder}/bin/clang")];
    }
    let in_path = VERSIONS.map(|version| format!("clang-{version}"));
    let folders = VERSIONS.into_iter().flat_map(|version| {
        ["/usr/lib/llvm-", "/usr/lib/llvm", "/usr/lib64/llvm"]
            .map(|folder| format!("{folder}{version}/bin/clang"))
    });
    in_path
        .into_iter()
        .chain(["clang".into()])
        .chain(folders)
        .collect()
}

/// The linker beside clang, then the one that clang would take, with and without its version in the name; else the one
/// that rustc brings.
fn lld_link(machine: &mut dyn Machine, clang: &str, version: u32) -> Option<PathBuf> {
    if let Some((folder, _)) = clang.rsplit_once('/') {
        let beside = format!("{folder}/lld-link");
        if machine.run(&beside, &["--version"]).good() {
            return Some(beside.into());
        }
    }
    for name in ["lld-link".to_owned(), format!("lld-link-{version}")] {
        let said = machine.run(clang, &[&format!("-print-prog-name={name}")]);
        let path = said.out.trim();
        if said.good() && path.starts_with('/') {
            return Some(path.into());
        }
    }
    let said = machine.run("rustc", &["--print", "target-libdir"]);
    let libraries = Path::new(said.out.trim()).to_owned();
    let rust_lld = libraries.parent()?.join("bin/rust-lld");
    let asked = machine.run(rust_lld.to_str()?, &["-flavor", "link", "--version"]);
    asked.good().then_some(rust_lld)
}

/// Where its libraries may lie: beside the folder of its programs, and where its own headers are.
fn library_folders(machine: &mut dyn Machine, clang: &str, installed: &str) -> Vec<String> {
    let said = machine.run(clang, &["-print-resource-dir"]);
    let resources = Path::new(said.out.trim());
    let own = [Path::new(clang), &Path::new(installed).join("clang")]
        .map(|clang| Some(clang.parent()?.parent()?.join("lib")));
    let headers = resources
        .parent()
        .and_then(Path::parent)
        .map(Path::to_owned);
    let mut folders = Vec::new();
    for folder in own.into_iter().flatten().chain(headers) {
        for name in ["lib", "lib64"] {
            let folder = folder.with_file_name(name).to_string_lossy().into_owned();
            if folder.starts_with('/') && !folders.contains(&folder) {
                folders.push(folder);
            }
        }
    }
    folders
}

/// The folder of a libclang: one with this version in its name, if there is one.
fn libclang(machine: &mut dyn Machine, folders: &[String], version: u32) -> Option<PathBuf> {
    let mut find: Vec<&str> = folders.iter().map(String::as_str).collect();
    find.extend(["-maxdepth", "1", "-name", "libclang[-.]*so*"]);
    let said = machine.run("find", &find);
    let mut files: Vec<&Path> = said.out.lines().map(Path::new).collect();
    let name = |file: &Path| {
        file.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    // libclang-cpp.so is another one.
    files.retain(|file| !name(file).starts_with("libclang-cpp"));
    files.sort_by_key(|file| !name(file).contains(&version.to_string()));
    Some(files.first()?.parent()?.to_owned())
}

fn after<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    let at = text.find(before)? + before.len();
    text[at..].lines().next().map(str::trim)
}

fn number_after(text: &str, before: &str) -> Option<u32> {
    let digits = after(text, before)?
        .split(|c: char| !c.is_ascii_digit())
        .next();
    digits?.parse().ok()
}

/// An LLVM in one folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Llvm(PathBuf);

impl Llvm {
    /// The one in [`FOLDER`], which `cargo xtask` sets for what it runs, or one that lies in one folder.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn find() -> Self {
        if let Some(folder) = env::var_os(FOLDER) {
            return Self(folder.into());
        }
        match Parts::find(&mut Here::default(), None) {
            Ok(parts) if parts.in_one_folder() => Self(
                parts
                    .installed
                    .parent()
                    .unwrap_or(Path::new("/"))
                    .to_owned(),
            ),
            Ok(parts) => panic!("{parts:?}: not in one folder; {FOLDER} may name one that has all"),
            Err(error) => panic!("{error}; {FOLDER} may name another"),
        }
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0
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

    /// clang, set to compile for the NT kernel.
    #[must_use]
    pub fn clang(&self, architecture: Architecture) -> Command {
        let mut clang = Command::new(self.tool("clang"));
        clang.arg(format!("--target={}", architecture.target()));
        clang.args(["-fms-extensions", "-ffreestanding", "-nostdlibinc"]);
        clang.args(["-D_KERNEL_MODE", "-DKMDF_VERSION_MAJOR=1"]);
        clang.args(architecture.clang_flags());
        clang
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An LLVM of empty files; its folder.
    fn llvm(name: &str) -> PathBuf {
        let root = env::temp_dir().join(format!("open-kit-{}-{name}", std::process::id()));
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::create_dir_all(root.join("lib")).unwrap();
        for program in ["clang", "clang++", "lld-link"] {
            fs::write(root.join("bin").join(program), program).unwrap();
        }
        root
    }

    fn parts(root: &Path, lld_link: PathBuf) -> Parts {
        Parts {
            clang: root.join("bin/clang").to_string_lossy().into_owned(),
            version: 19,
            installed: root.join("bin"),
            lld_link,
            libraries: root.join("lib"),
        }
    }

    #[test]
    fn an_llvm_in_one_folder_is_taken_where_it_is_and_one_in_parts_is_linked_together() {
        let (root, other) = (llvm("one"), llvm("other"));
        let gathered = other.join("gathered");
        let together = parts(&root, root.join("bin/lld-link"))
            .gather(&gathered)
            .unwrap();
        assert_eq!(together.folder(), root);
        assert!(!gathered.exists());

        let linker = other.join("bin/lld-link");
        fs::write(&linker, "the other linker").unwrap();
        // The second time it goes from one linker to the other.
        for (linker, text) in [
            (root.join("bin/clang++"), "clang++"),
            (linker, "the other linker"),
        ] {
            let apart = parts(&root, linker).gather(&gathered).unwrap();
            assert_eq!(apart.folder(), gathered);
            assert_eq!(fs::read_to_string(apart.tool("lld-link")).unwrap(), text);
            assert_eq!(fs::read_to_string(apart.tool("clang")).unwrap(), "clang");
            assert_eq!(
                apart.libraries().canonicalize().unwrap(),
                root.join("lib").canonicalize().unwrap()
            );
        }
        for folder in [root, other] {
            fs::remove_dir_all(folder).unwrap();
        }
    }
}
