//! Chooses compiler and LLVM, and sees to what a command needs: a function of what the machine answers, and nothing else.
//!
//! The compiler is, in this order: the toolchain's own Windows target, if it is there; the same after `rustup target add`;
//! Debian's rustc-web, which builds `core` from source. apt installs what is missing, as root; elsewhere, and for anybody
//! else, the choice ends with the words that say what to do.

use crate::build::Lane;
use crate::packages::{Need, OTHERS, Other};
use open_kit::Architecture;
use open_kit::llvm::{Parts, VERSIONS};
use open_kit::machine::{Machine, Said};

/// What the driver is built for.
pub const MSVC: &str = Architecture::Amd64.target();
const ARM64: &str = Architecture::Arm64.target();
/// What resvctl is built for: the MSVC target's libraries are not to be had off Windows.
pub const GNU: &str = "x86_64-pc-windows-gnu";

/// Debian's compiler, its `core` and `std` in source, and its lints.
const WEB: [&str; 2] = ["cargo-web", "rust-web-src"];
const WEB_LINTS: &str = "rust-web-clippy";

const LISTS: &str = "/var/lib/apt/lists";
/// How long another apt is waited for, and how often it is looked for, in seconds.
const PATIENCE: u64 = 60;
const LOOK: u64 = 5;

/// A version of Rust: major and minor.
pub type Rust = (u32, u32);

/// What is asked for.
pub struct Wish<'a> {
    pub needs: &'a [Need],
    /// The oldest Rust that builds the driver: Cargo.toml's `rust-version`.
    pub rust: Rust,
    /// The LLVM that the environment names.
    pub llvm: Option<&'a str>,
}

/// What is used.
#[derive(Debug, PartialEq, Eq)]
pub struct Choice {
    pub lane: Lane,
    pub llvm: Parts,
}

/// The last words to the reader, where something is missing.
#[derive(Debug, PartialEq, Eq)]
pub struct Missing(pub String);

/// Chooses, and installs what is missing.
pub fn choose(machine: &mut dyn Machine, wish: &Wish) -> Result<Choice, Missing> {
    let mut chooser = Chooser {
        machine,
        wish,
        reasons: Vec::new(),
        updated: false,
    };
    let lane = chooser.compiler(MSVC);
    let mut web = lane == Lane::Debian;
    for (need, target) in [(Need::Arm64, ARM64), (Need::Windows, GNU)] {
        // Debian's builds core for any of them.
        web = web || wish.needs.contains(&need) && chooser.compiler(target) == Lane::Debian;
    }
    let llvm = Parts::find(chooser.machine, chooser.wish.llvm);
    let llvm = match llvm {
        Err(error) if chooser.wish.llvm.is_some() => return Err(Missing(error.to_string())),
        llvm => llvm.map_err(|error| error.to_string()),
    };
    chooser.install(web, llvm.as_ref().err())?;
    if web {
        chooser.web_is_new_enough()?;
    }
    let llvm = llvm.or_else(|_| Parts::find(chooser.machine, None));
    let llvm = llvm.map_err(|error| Missing(format!("no LLVM of version 17 to 21: {error}")))?;
    let (clang, lld_link) = (&llvm.clang, llvm.lld_link.display());
    chooser.tell(&format!(
        "LLVM: {clang} (version {}), {lld_link}",
        llvm.version
    ));
    Ok(Choice { lane, llvm })
}

struct Chooser<'a, 'w> {
    machine: &'a mut dyn Machine,
    wish: &'a Wish<'w>,
    /// Why what would have been better was not to be had.
    reasons: Vec<String>,
    /// The lists of packages were just brought up to date.
    updated: bool,
}

impl Chooser<'_, '_> {
    fn tell(&mut self, line: &str) {
        self.machine.tell(line);
    }

    /// The compiler for a target. Each step is told.
    fn compiler(&mut self, target: &str) -> Lane {
        let version = rust_version(&self.machine.run("rustc", &["--version"]));
        if version.is_some_and(|version| version < self.wish.rust) {
            let (found, needed) = (shown(version), shown(Some(self.wish.rust)));
            self.reasons.push(format!(
                "this toolchain: rustc {found}, and {needed} is needed"
            ));
            self.tell(&format!(
                "compiler: this toolchain is too old ({found}, needed {needed}); Debian's rustc-web"
            ));
            return Lane::Debian;
        }
        if self.has(target) {
            self.tell(&format!("compiler: this toolchain's own {target}"));
            return Lane::Toolchain;
        }
        match self.add(target) {
            Ok(()) if self.has(target) => {
                self.tell(&format!(
                    "compiler: this toolchain, after rustup target add {target}"
                ));
                Lane::Toolchain
            }
            refused => {
                let reason = refused
                    .err()
                    .unwrap_or_else(|| "it is not there afterwards".into());
                let reason = format!("rustup target add {target}: {reason}");
                self.tell(&format!("compiler: Debian's rustc-web ({reason})"));
                self.reasons.push(reason);
                Lane::Debian
            }
        }
    }

    /// True if the toolchain has `core` for the target.
    fn has(&mut self, target: &str) -> bool {
        let said = self
            .machine
            .run("rustc", &["--print", "target-libdir", "--target", target]);
        let folder = said.out.trim().to_owned();
        if !said.good() || folder.is_empty() {
            return false;
        }
        let found = self
            .machine
            .run("find", &[&folder, "-maxdepth", "1", "-name", "libcore-*"]);
        !found.out.trim().is_empty()
    }

    fn add(&mut self, target: &str) -> Result<(), String> {
        self.tell(&format!("compiler: rustup target add {target}"));
        let said = self.machine.run("rustup", &["target", "add", target]);
        match said.status {
            Some(0) => Ok(()),
            None => Err("no rustup here".into()),
            Some(_) => Err(last_words(&said)),
        }
    }

    /// The packages that apt would have to know for all that is needed, but for LLVM.
    fn wanted(&self, web: bool) -> Vec<&'static str> {
        let needs = self.wish.needs;
        let mut wanted: Vec<_> = needs
            .iter()
            .flat_map(|need| need.packages())
            .copied()
            .collect();
        if web {
            wanted.extend(WEB);
        }
        if web && needs.contains(&Need::Lint) {
            wanted.push(WEB_LINTS);
        }
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    /// Installs what is missing, if this user may; `llvm` says why there is none, if there is none.
    fn install(&mut self, web: bool, llvm: Option<&String>) -> Result<(), Missing> {
        let wanted = self.wanted(web);
        if wanted.is_empty() && llvm.is_none() {
            return Ok(());
        }
        let query = ["-W", "-f=${Package} ${db:Status-Status}\\n"];
        let query: Vec<&str> = query.into_iter().chain(wanted.iter().copied()).collect();
        let there = self.machine.run("dpkg-query", &query);
        if there.status.is_none() {
            return self.without_apt(web, llvm);
        }
        let is_there = |name: &str| {
            there
                .out
                .lines()
                .any(|line| line == format!("{name} installed"))
        };
        let mut missing: Vec<String> = wanted
            .iter()
            .filter(|name| !is_there(name))
            .map(ToString::to_string)
            .collect();
        // One that counts as installed may be too old.
        if web && is_there(WEB[0]) && self.web_version() < Some(self.wish.rust) {
            missing.extend(
                wanted
                    .iter()
                    .filter(|name| name.contains("-web") && is_there(name))
                    .map(ToString::to_string),
            );
            missing.push("rustc-web".into());
        }
        if missing.is_empty() && llvm.is_none() {
            return Ok(());
        }
        let root = self.machine.run("id", &["-u"]).out.trim() == "0";
        if root && !self.lists_are_fresh() {
            self.tell("apt-get update: the lists of packages are missing or older than a day");
            self.update();
        }
        if llvm.is_some() {
            missing.extend(self.llvm_packages());
        }
        missing.sort_unstable();
        if !root {
            let mut words = vec![format!("not installed, or too old: {}", missing.join(", "))];
            words.append(&mut self.reasons);
            words.push(format!("this gets it:\n  {}", for_root(&missing)));
            return Err(Missing(words.join("\n")));
        }
        self.apt_install(&missing)
    }

    fn apt_install(&mut self, packages: &[String]) -> Result<(), Missing> {
        let names: Vec<&str> = packages.iter().map(String::as_str).collect();
        self.tell(&format!("installing {} ...", names.join(", ")));
        let install = ["install", "-y", "-qq", "--no-install-recommends"];
        let install: Vec<&str> = install.into_iter().chain(names).collect();
        let Err(reason) = self.apt(&install) else {
            return Ok(());
        };
        self.tell(&format!(
            "apt-get install: {reason}; once more, with new lists"
        ));
        if !self.updated {
            self.update();
        }
        self.apt(&install).map_err(|reason| {
            let mut words = vec![format!("apt-get install: {reason}")];
            words.append(&mut self.reasons);
            words.push(format!(
                "this has to succeed first, or rustup target add {MSVC}:\n  {}",
                for_root(packages)
            ));
            Missing(words.join("\n"))
        })
    }

    /// Brings the lists up to date. That it fails is no end: the old ones may do.
    fn update(&mut self) {
        self.updated = true;
        if let Err(reason) = self.apt(&["update", "-qq"]) {
            self.tell(&format!("apt-get update: {reason}; once more"));
            if let Err(reason) = self.apt(&["update", "-qq"]) {
                self.tell(&format!(
                    "apt-get update: {reason}; going on with the lists that are there"
                ));
            }
        }
    }

    /// Runs apt-get; while another one holds its lock, waits.
    fn apt(&mut self, arguments: &[&str]) -> Result<(), String> {
        let mut waited = 0;
        loop {
            let said = self.machine.run("apt-get", arguments);
            // An update that got only some of its files ends with 0.
            if said.good() && !said.err.contains("Failed to fetch") {
                return Ok(());
            }
            if !["Could not get lock", "Unable to lock", "Unable to acquire"]
                .iter()
                .any(|word| said.err.contains(word))
            {
                return Err(last_words(&said));
            }
            if waited == PATIENCE {
                return Err(format!("another apt has held its lock for {PATIENCE} s"));
            }
            if waited == 0 {
                self.tell(&format!(
                    "another apt holds its lock: waiting up to {PATIENCE} s"
                ));
            }
            self.machine.wait(LOOK);
            waited += LOOK;
        }
    }

    /// True if there are lists of packages, and apt has written there within a day: the files have the server's times, and
    /// an update that finds nothing new writes into `partial` alone.
    fn lists_are_fresh(&mut self) -> bool {
        let find = "-maxdepth 1 ( -type d -mtime -1 -o -name *_Packages* ) -printf %y";
        let find: Vec<&str> = [LISTS].into_iter().chain(find.split(' ')).collect();
        let said = self.machine.run("find", &find);
        said.out.contains('d') && said.out.contains('f')
    }

    /// The packages of an LLVM that apt knows: of the one that it has at all.
    fn llvm_packages(&mut self) -> [String; 2] {
        let names = VERSIONS.map(|version| format!("clang-{version}"));
        let policy: Vec<&str> = ["policy"]
            .into_iter()
            .chain(names.iter().map(String::as_str))
            .collect();
        let said = self.machine.run("apt-cache", &policy);
        let known = |version: &u32| {
            let about = said.out.split(&format!("clang-{version}:")).nth(1)?;
            let candidate = about
                .lines()
                .find_map(|line| line.trim().strip_prefix("Candidate: "))?;
            (candidate != "(none)").then_some(*version)
        };
        let version = VERSIONS.iter().find_map(known).unwrap_or(VERSIONS[0]);
        [format!("clang-{version}"), format!("lld-{version}")]
    }

    /// What the rustc says of itself that Debian's package has put there.
    fn web_version(&mut self) -> Option<Rust> {
        let files = self.machine.run("dpkg-query", &["-L", "rustc-web"]).out;
        let rustc = files.lines().find(|file| file.ends_with("/bin/rustc"))?;
        rust_version(&self.machine.run(rustc, &["--version"]))
    }

    /// Lists that are young may still offer an old package: it is upgraded once.
    fn web_is_new_enough(&mut self) -> Result<(), Missing> {
        let mut found = self.web_version();
        if found < Some(self.wish.rust) && !self.updated {
            let packages: Vec<String> = self
                .wanted(true)
                .into_iter()
                .filter(|name| name.contains("-web"))
                .map(Into::into)
                .collect();
            let packages = [vec!["rustc-web".into()], packages].concat();
            self.tell(&format!(
                "Debian's rustc-web is {}: too old, upgrading it",
                shown(found)
            ));
            self.update();
            self.apt_install(&packages)?;
            found = self.web_version();
        }
        if found >= Some(self.wish.rust) {
            return Ok(());
        }
        let mut words = vec![format!(
            "found rustc {} (Debian's rustc-web), needed {}",
            shown(found),
            shown(Some(self.wish.rust))
        )];
        words.append(&mut self.reasons);
        let packages: Vec<String> = ["rustc-web"]
            .iter()
            .chain(&WEB)
            .map(ToString::to_string)
            .collect();
        words.push(format!(
            "either of these gets it:\n  rustup target add {MSVC}\n  {}",
            for_root(&packages)
        ));
        Err(Missing(words.join("\n")))
    }

    /// Nothing is installed where there is no apt: the names of the packages, and what the demo alone needs.
    fn without_apt(&mut self, web: bool, llvm: Option<&String>) -> Result<(), Missing> {
        let mut lacking: Vec<Need> = Vec::new();
        let files: Vec<&str> = self
            .wish
            .needs
            .iter()
            .flat_map(|need| need.files())
            .copied()
            .flatten()
            .copied()
            .collect();
        let mut find = files.clone();
        find.extend(["-maxdepth", "0"]);
        let found = if files.is_empty() {
            Said::default()
        } else {
            self.machine.run("find", &find)
        };
        let is_there = |file: &&str| found.out.lines().any(|line| line == *file);
        for need in self.wish.needs {
            if need.files().iter().any(|files| !files.iter().any(is_there)) {
                lacking.push(*need);
            }
        }
        if llvm.is_some() {
            lacking.push(Need::Build);
        }
        if !web && lacking.is_empty() {
            return Ok(());
        }
        let release = self.machine.run("cat", &["/etc/os-release"]).out;
        let name = release
            .lines()
            .find_map(|line| line.strip_prefix("PRETTY_NAME="));
        let name = name.unwrap_or("this system").trim_matches('"');
        let mut words = vec![format!("no apt here ({name}), so nothing is installed")];
        words.extend(llvm.map(|reason| format!("LLVM: {reason}")));
        words.append(&mut self.reasons);
        if web {
            words.push(format!("the compiler: rustup target add {MSVC} {GNU}"));
        }
        if !lacking.is_empty() {
            let systems = OTHERS.iter().filter(|other| other.is(&release));
            let systems: Vec<&Other> = systems.collect();
            let systems = if systems.is_empty() {
                OTHERS.iter().collect()
            } else {
                systems
            };
            words.push("the packages, by names that were not tried:".into());
            words.extend(systems.iter().map(|other| other.install(&lacking)));
        }
        words.push(format!(
            "The demo alone needs a C linker, rustup with {MSVC}, and clang, lld-link and libclang of LLVM 17 to 21."
        ));
        Err(Missing(words.join("\n")))
    }
}

/// One command for root, to copy.
fn for_root(packages: &[String]) -> String {
    let packages = packages.join(" ");
    format!("sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends {packages}'")
}

fn shown(version: Option<Rust>) -> String {
    version.map_or("of no version".into(), |(major, minor)| {
        format!("{major}.{minor}")
    })
}

/// What `rustc --version` says.
fn rust_version(said: &Said) -> Option<Rust> {
    let number = said.out.strip_prefix("rustc ")?;
    version(number)
}

/// Major and minor of a version.
pub fn version(text: &str) -> Option<Rust> {
    let mut parts = text.trim().split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Why a program failed: its last line that names an error, or its last one.
fn last_words(said: &Said) -> String {
    let lines = said
        .err
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines.collect();
    let error = |line: &&&str| line.starts_with("E: ") || line.to_lowercase().starts_with("error");
    let last = lines.iter().rev().find(error).or(lines.last());
    last.map_or_else(
        || {
            said.status
                .map_or("was killed".into(), |status| format!("ended with {status}"))
        },
        |line| brief(line),
    )
}

/// A chain of causes without the ones in the middle.
fn brief(line: &str) -> String {
    let causes: Vec<&str> = line.split(": ").collect();
    match &causes[..] {
        [first, second, .., last] if line.len() > 120 => format!("{first}: {second}: ...: {last}"),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
