//! What each command needs beside Rust: Debian's packages, and what others call them.

use crate::build::{Lane, root};
use crate::choose::{self, Missing, Wish};
use crate::progress;
use open_kit::llvm::{FOLDER, Llvm};
use open_kit::machine::Here;
use open_kit::{Architecture, Error, Result};
use std::env;
use std::fs;
use std::sync::OnceLock;

/// What a command is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Build the driver.
    Build,
    /// Build it for ARM64, too.
    Arm64,
    /// Talk to a real iSCSI target.
    Iscsi,
    /// Lint the driver.
    Lint,
    /// Test-sign the package.
    Sign,
    /// Build a program for Windows.
    Windows,
    /// Run one.
    Wine,
}

impl Need {
    /// Build the driver for this processor.
    pub const fn of(architecture: Architecture) -> Self {
        match architecture {
            Architecture::Amd64 => Self::Build,
            Architecture::Arm64 => Self::Arm64,
        }
    }

    /// Debian's packages, without LLVM's and the compiler's.
    pub const fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Build | Self::Arm64 | Self::Lint => &[],
            Self::Iscsi => &["libiscsi-bin", "libiscsi-dev", "tgt"],
            Self::Windows => &["gcc-mingw-w64-x86-64"],
            Self::Wine => &["gcc-mingw-w64-x86-64", "wine64"],
            Self::Sign => &["openssl", "osslsigncode"],
        }
    }

    /// How to see that it is met where there is no dpkg to ask: of each row one file is there.
    pub const fn files(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Build | Self::Arm64 | Self::Lint => &[],
            Self::Iscsi => &[
                &["/usr/include/iscsi/iscsi.h"],
                &["/usr/bin/iscsi-test-cu"],
                &["/usr/sbin/tgtd", "/usr/bin/tgtd"],
            ],
            Self::Windows => &[&["/usr/bin/x86_64-w64-mingw32-gcc"]],
            Self::Wine => &[&["/usr/lib/wine/wine64"]],
            Self::Sign => &[&["/usr/bin/openssl"], &["/usr/bin/osslsigncode"]],
        }
    }
}

/// A system without apt: never tried.
pub struct Other {
    /// Its ID in /etc/os-release, or in its `ID_LIKE`.
    id: &'static str,
    install: &'static str,
    packages: &'static [(Need, &'static str)],
}

/// What other systems are supposed to call the packages: none was tried. LLVM is one that is taken, not the newest.
pub const OTHERS: [Other; 3] = [
    Other {
        id: "fedora",
        install: "sudo dnf install",
        packages: &[
            (Need::Build, "clang19 lld19"),
            (
                Need::Iscsi,
                "libiscsi-devel libiscsi-utils scsi-target-utils",
            ),
            (Need::Sign, "openssl osslsigncode"),
            (Need::Windows, "mingw64-gcc"),
            (Need::Wine, "wine-core"),
        ],
    },
    Other {
        id: "arch",
        install: "sudo pacman -S",
        packages: &[
            (Need::Build, "clang20 lld20"),
            (Need::Iscsi, "libiscsi tgt"),
            (Need::Sign, "openssl osslsigncode"),
            (Need::Windows, "mingw-w64-gcc"),
            (Need::Wine, "wine"),
        ],
    },
    Other {
        id: "suse",
        install: "sudo zypper install",
        packages: &[
            (Need::Build, "clang19 lld19 libclang13"),
            (Need::Iscsi, "libiscsi-devel libiscsi-utils tgt"),
            (Need::Sign, "openssl osslsigncode"),
            (Need::Windows, "mingw64-cross-gcc"),
            (Need::Wine, "wine"),
        ],
    },
];

impl Other {
    /// True if `release`, the text of /etc/os-release, is of this system or of one like it.
    pub fn is(&self, release: &str) -> bool {
        let ids = release.lines().filter_map(|line| {
            line.strip_prefix("ID=")
                .or_else(|| line.strip_prefix("ID_LIKE="))
        });
        let mut words = ids.flat_map(|ids| ids.trim_matches('"').split_whitespace());
        words.any(|word| word.contains(self.id))
    }

    /// The command that would install what is needed.
    pub fn install(&self, needs: &[Need]) -> String {
        let wanted = self
            .packages
            .iter()
            .filter(|(need, _)| needs.contains(need));
        let names: Vec<_> = wanted.map(|(_, names)| *names).collect();
        format!("  {} {}", self.install, names.join(" "))
    }
}

static LLVM: OnceLock<Llvm> = OnceLock::new();

/// The LLVM that [`ensure`] has chosen, if that was done.
pub fn llvm() -> Option<&'static Llvm> {
    LLVM.get()
}

/// Chooses the compiler and sees to it that everything is there; none if something is not, and the reader was told what to
/// do.
pub fn ensure(needs: &[Need]) -> Result<Option<Lane>> {
    let given = env::var(FOLDER).ok();
    let wish = Wish {
        needs,
        rust: oldest_rust()?,
        llvm: given.as_deref(),
    };
    let mut here = Here {
        quiet: progress::is_quiet(),
    };
    let chosen = choose::choose(&mut here, &wish);
    match chosen {
        Ok(choice) => {
            let llvm = choice.llvm.gather(&root().join("target/kit/llvm"))?;
            let _ = LLVM.set(llvm);
            Ok(Some(choice.lane))
        }
        Err(Missing(words)) => {
            eprintln!("{words}");
            Ok(None)
        }
    }
}

/// The driver's `rust-version`.
fn oldest_rust() -> Result<choose::Rust> {
    let manifest = root().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).map_err(Error::at(&manifest))?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = \""));
    let version = value.and_then(choose::version);
    version.ok_or_else(|| Error::at(&manifest)("no rust-version"))
}
