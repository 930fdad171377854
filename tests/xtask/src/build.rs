//! Builds the driver for Windows, with what this machine has.

use crate::End;
use crate::packages::{self, Need};
pub use crate::progress::timed;
use crate::progress::{self, run};
use commands::Build;
use open_kit::llvm::{FOLDER, Llvm};
use open_kit::{Architecture, Error, Result, stage, wrapper};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const DRIVER: [&str; 1] = ["--package=resvflt"];
const BROKEN: [&str; 2] = [TESTS, "--package=resvflt-broken"];

/// Cargo's flag for the workspace that drives and checks the driver; without it the driver's own is meant.
pub const TESTS: &str = "--manifest-path=tests/Cargo.toml";

/// The checkout's root, and the driver's workspace's.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap_or(Path::new("/"))
        .to_owned()
}

/// With or without optimization.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    Release,
    Dev,
}

/// Which compiler builds the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The toolchain that runs xtask has the Windows target.
    Toolchain,
    /// Debian's rustc, which builds core from source.
    Debian,
}

impl Lane {
    /// For a target beside the driver's: this lane, if its compiler has that target, too.
    pub fn own(self, target: &str) -> Self {
        match self {
            Self::Toolchain if toolchain_has(target) => self,
            _ => Self::Debian,
        }
    }

    /// Cargo with this lane's compiler: `cargo`, or another of its family.
    pub fn program(self, name: &str) -> Command {
        match self {
            Self::Toolchain if name == "cargo" => {
                Command::new(env::var_os("CARGO").unwrap_or_else(|| name.into()))
            }
            Self::Toolchain => Command::new(name),
            Self::Debian => {
                let mut program = Command::new(Path::new("/usr/bin").join(name));
                // What the rustup proxy and `cargo run` left in the environment belongs to the other toolchain.
                program
                    .env_remove("RUSTUP_TOOLCHAIN")
                    .env_remove("LD_LIBRARY_PATH")
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("CARGO", "/usr/bin/cargo")
                    .env("RUSTC", "/usr/bin/rustc")
                    .env("RUSTDOC", "/usr/bin/rustdoc");
                program
            }
        }
    }

    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Toolchain => &[],
            // Unoptimized, compiler_builtins wants a C library's fma.
            Self::Debian => &[
                "-Zbuild-std=core,alloc",
                "--config=profile.dev.package.compiler_builtins.opt-level=2",
            ],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Toolchain => "this toolchain's Windows target; under a minute the first time",
            Self::Debian => "Debian's rustc-web; about 2 minutes the first time",
        }
    }
}

/// A checkout to build in.
pub struct Checkout {
    root: PathBuf,
    lane: Lane,
    llvm: Llvm,
    architecture: Architecture,
}

impl Checkout {
    pub fn at(root: PathBuf, lane: Lane) -> Self {
        Self {
            root,
            lane,
            llvm: packages::llvm().cloned().unwrap_or_else(Llvm::find),
            architecture: Architecture::Amd64,
        }
    }

    /// The same for another processor than x64.
    pub fn for_architecture(self, architecture: Architecture) -> Self {
        Self {
            architecture,
            ..self
        }
    }

    /// Builds resvflt.sys into its [`package`]; its path.
    pub fn build(&self, profile: Profile, cargo_flags: &[&str]) -> Result<PathBuf> {
        let built = self.compile(&DRIVER, profile, cargo_flags)?;
        let package = self.root.join(package(self.architecture));
        fs::create_dir_all(&package).map_err(Error::at(&package))?;
        let image = package.join("resvflt.sys");
        for (from, to) in [("dll", "sys"), ("pdb", "pdb")] {
            let from = built.join("resvflt").with_extension(from);
            fs::copy(&from, image.with_extension(to)).map_err(Error::at(&from))?;
        }
        Ok(image)
    }

    /// Builds `target/broken/resvflt.sys`, the driver with its mistakes, which nothing but the rig's tests may take.
    pub fn build_broken(&self) -> Result<PathBuf> {
        let built = self.compile(&BROKEN, Profile::Release, &["--quiet"])?;
        let folder = self.root.join("target/broken");
        fs::create_dir_all(&folder).map_err(Error::at(&folder))?;
        let (from, image) = (built.join("resvflt_broken.dll"), folder.join("resvflt.sys"));
        fs::copy(&from, &image).map_err(Error::at(&from))?;
        Ok(image)
    }

    /// Compiles a package for Windows; the folder that it is put into.
    fn compile(&self, package: &[&str], profile: Profile, cargo_flags: &[&str]) -> Result<PathBuf> {
        let mut cargo = self.cargo("cargo")?;
        cargo
            .arg("build")
            .args(cargo_flags)
            .args(self.flags())
            .args(package);
        if profile == Profile::Release {
            cargo.arg("--release");
        }
        run(&mut cargo)?;
        let folder = match profile {
            Profile::Release => "release",
            Profile::Dev => "debug",
        };
        let target = self.architecture.target();
        Ok(self.target().join(target).join(folder))
    }

    /// Lints the driver, and its variants with mistakes, as they are compiled for Windows.
    pub fn lint(&self) -> Result<()> {
        for package in [&DRIVER[..], &BROKEN] {
            let mut clippy = self.cargo("cargo-clippy")?;
            clippy
                .args(["clippy", "--quiet", "--release"])
                .args(self.flags())
                .args(package)
                .args(["--", "-D", "warnings"]);
            run(&mut clippy)?;
        }
        Ok(())
    }

    fn flags(&self) -> impl Iterator<Item = &str> {
        self.lane.flags().iter().copied().chain([
            "--locked",
            "--target",
            self.architecture.target(),
        ])
    }

    /// wdk-build looks for Cargo.lock above it. wdk-sys does not notice another kit: each has a folder.
    fn target(&self) -> PathBuf {
        let folder = if has_wdk() { "driver-wdk" } else { "driver" };
        self.root.join("target").join(folder)
    }

    /// Cargo, or another of its family, set to build for Windows.
    fn cargo(&self, program: &str) -> Result<Command> {
        let kit = self.root.join("target/kit");
        let target = self.target();
        let programs = stage::programs(&self.llvm, &kit, this_program()?)?;
        let home = env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home
            .or_else(|| env::home_dir().map(|h| h.join(".cargo")))
            .unwrap_or_default();
        let mut cargo = self.lane.program(program);
        let target_name = self.architecture.target().replace('-', "_");
        cargo
            .current_dir(&self.root)
            // They would take the place of .cargo/config.toml's flags.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("CARGO_TARGET_DIR", &target)
            .env(FOLDER, self.llvm.folder())
            .env("LIBCLANG_PATH", self.llvm.libraries())
            .env("RUSTC_WRAPPER", programs.join("rustc"))
            .env(format!("CC_{target_name}"), programs.join("clang-cl"))
            .env(format!("CFLAGS_{target_name}"), "/clang:-g0")
            .env(format!("AR_{target_name}"), programs.join("llvm-lib"))
            .env(
                wrapper::REMAP,
                format!(
                    "{}=/cargo\n{}=/resvflt",
                    home.display(),
                    self.root.display()
                ),
            );
        if !has_wdk() {
            if stage::stage(&self.llvm, &kit)? {
                forget_signatures(&target);
            }
            cargo
                .env("WDKContentRoot", &kit)
                .env("Version_Number", stage::SDK_VERSION);
        }
        Ok(cargo)
    }
}

/// wdk-macros keeps the signatures of KMDF's functions in a file that it never renews.
fn forget_signatures(folder: &Path) {
    for path in fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
    {
        if path.is_dir() {
            forget_signatures(&path);
        } else if path.ends_with("cached_function_info_map.json") {
            let _ = fs::remove_file(path);
        }
    }
}

/// Where this program lies, as it was when it was first asked for: the tests build it anew in its place, and of a file that
/// was replaced the system says that it is deleted.
fn this_program() -> Result<&'static Path> {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    if let Some(program) = PROGRAM.get() {
        return Ok(program);
    }
    let program = env::current_exe().map_err(Error::at(Path::new("xtask")))?;
    Ok(PROGRAM.get_or_init(|| program))
}

/// True if the environment names a WDK to be used instead of the open kit.
fn has_wdk() -> bool {
    env::var_os("WDKContentRoot").is_some()
}

/// True if the toolchain has `core` for the target.
fn toolchain_has(target: &str) -> bool {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", target])
        .output();
    let folder = said.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned());
    let files = fs::read_dir(folder.unwrap_or_default());
    let mut files = files.into_iter().flatten().flatten();
    files.any(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
}

/// Where an architecture's driver package is put together, below the checkout.
pub fn package(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Amd64 => "target/package",
        Architecture::Arm64 => "target/package-arm64",
    }
}

/// Builds the checkout that xtask lies in, for x64; the image's path.
pub fn build(lane: Lane, profile: Profile, cargo_flags: &[&str]) -> Result<PathBuf> {
    build_for(Architecture::Amd64, lane, profile, cargo_flags)
}

/// As [`build()`], for another processor too.
pub fn build_for(
    architecture: Architecture,
    lane: Lane,
    profile: Profile,
    cargo_flags: &[&str],
) -> Result<PathBuf> {
    let kit = if has_wdk() {
        "WDKContentRoot's WDK"
    } else {
        "the open kit"
    };
    let detail = format!(" ({}, {kit}, {})", architecture.name(), lane.name());
    let checkout = Checkout::at(root(), lane).for_architecture(architecture);
    timed("building the driver", &detail, || {
        checkout.build(profile, cargo_flags)
    })
}

/// `cargo xtask build`.
pub fn command(arguments: &Build, architecture: Architecture) -> Result<End> {
    let needs = [Need::Build, Need::of(architecture)];
    let Some(lane) = packages::ensure(&needs)? else {
        return Ok(End::Missing);
    };
    let image = if arguments.broken {
        let checkout = Checkout::at(root(), lane);
        timed("building the driver's broken variants", "", || {
            checkout.build_broken()
        })?
    } else {
        let profile = if arguments.dev {
            Profile::Dev
        } else {
            Profile::Release
        };
        let quiet = progress::is_quiet().then_some("--quiet");
        let lane = lane.own(architecture.target());
        build_for(architecture, lane, profile, quiet.as_slice())?
    };
    println!("{}", image.display());
    Ok(End::Good)
}
