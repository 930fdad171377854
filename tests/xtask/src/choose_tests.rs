//! A table of machines: what each answers, the exact sequence of what is run and told there, and the last words.

use super::{Missing, Wish, choose};
use crate::build::Lane;
use crate::packages::Need;
use open_kit::machine::{Machine, Said};
use std::collections::BTreeMap;

/// Answers by command line; where there are several, one after the other, the last for good. What has no answer is a
/// program that is not there.
#[derive(Default)]
struct Scripted {
    answers: BTreeMap<String, Vec<Said>>,
    /// What was run (`$`), told (`>`) and waited for (`~`).
    log: Vec<String>,
}

impl Machine for Scripted {
    fn run(&mut self, program: &str, arguments: &[&str]) -> Said {
        let line = [&[program], arguments].concat().join(" ");
        let mut said = Said::default();
        if let Some(answers) = self.answers.get_mut(&line) {
            said = answers[0].clone();
            if answers.len() > 1 {
                answers.remove(0);
            }
        }
        self.log.push(format!("$ {line}"));
        said
    }

    fn tell(&mut self, line: &str) {
        self.log.push(format!("> {line}"));
    }

    fn wait(&mut self, seconds: u64) {
        self.log.push(format!("~ {seconds} s"));
    }
}

fn good(out: &str) -> Said {
    Said {
        status: Some(0),
        out: out.into(),
        err: String::new(),
    }
}

fn bad(status: i32, err: &str) -> Said {
    Said {
        status: Some(status),
        out: String::new(),
        err: err.into(),
    }
}

type Answers = Vec<(&'static str, Vec<Said>)>;

const RUSTC: &str = "rustc --version";
const HAS: &str = "rustc --print target-libdir --target x86_64-pc-windows-msvc";
const CORE: &str = "find /t/msvc/lib -maxdepth 1 -name libcore-*";
const ADD: &str = "rustup target add x86_64-pc-windows-msvc";
const WEB_FILES: &str = "dpkg-query -L rustc-web";
const WEB_RUSTC: &str = "/usr/bin/rustc --version";
const FRESH: &str =
    "find /var/lib/apt/lists -maxdepth 1 ( -type d -mtime -1 -o -name *_Packages* ) -printf %y";
const UPDATE: &str = "apt-get update -qq";
const POLICY: &str = "apt-cache policy clang-19 clang-20 clang-21 clang-18 clang-17";
const WEB: &str = "dpkg-query -W -f=${Package} ${db:Status-Status}\\n cargo-web rust-web-src";
const INSTALL_WEB: &str = "apt-get install -y -qq --no-install-recommends cargo-web rust-web-src";
const UPGRADE_WEB: &str =
    "apt-get install -y -qq --no-install-recommends cargo-web rust-web-src rustc-web";
const INSTALL_ALL: &str =
    "apt-get install -y -qq --no-install-recommends cargo-web clang-19 lld-19 rust-web-src";
const LOCKED: &str =
    "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1 (apt)";

/// A toolchain new enough, without the Windows target.
fn toolchain() -> Answers {
    vec![
        (RUSTC, vec![good("rustc 1.95.0 (59807616e 2026-04-14)")]),
        (HAS, vec![good("/t/msvc/lib\n")]),
        (CORE, vec![bad(1, "find: no such folder")]),
    ]
}

fn with_target() -> Answers {
    let mut answers = toolchain();
    answers[2] = (CORE, vec![good("/t/msvc/lib/libcore-1.rlib\n")]);
    answers
}

/// rustup is there, and has no network.
fn offline() -> Answers {
    let said = "info: downloading component rust-std\nerror: could not download\n";
    vec![(ADD, vec![bad(1, said)])]
}

/// The answers of Debian's LLVM 19.
fn llvm() -> Answers {
    let version = "Debian clang version 19.1.7\nTarget: x86_64-pc-linux-gnu\nInstalledDir: /usr/lib/llvm-19/bin\n";
    vec![
        ("clang-19 --version", vec![good(version)]),
        (
            "clang-19 -print-prog-name=lld-link",
            vec![good("/usr/lib/llvm-19/bin/lld-link\n")],
        ),
        (
            "clang-19 -print-resource-dir",
            vec![good("/usr/lib/llvm-19/lib/clang/19\n")],
        ),
        (
            "find /usr/lib/llvm-19/lib /usr/lib/llvm-19/lib64 -maxdepth 1 -name libclang[-.]*so*",
            vec![bad_but_told(
                "/usr/lib/llvm-19/lib/libclang-cpp.so.19.1\n/usr/lib/llvm-19/lib/libclang-19.so.1\n",
            )],
        ),
    ]
}

fn bad_but_told(out: &str) -> Said {
    Said {
        status: Some(1),
        out: out.into(),
        err: "find: '/usr/lib/llvm-19/lib64': No such file or directory".into(),
    }
}

/// The same, once it was installed.
fn llvm_later() -> Answers {
    let mut answers = llvm();
    answers[0].1.insert(0, Said::default());
    answers
}

fn root() -> Answers {
    vec![("id -u", vec![good("0\n")])]
}

fn fresh_lists() -> Answers {
    vec![(FRESH, vec![good("dff")])]
}

fn old_lists() -> Answers {
    vec![(FRESH, vec![good("ff")])]
}

fn web(versions: &[&str]) -> Answers {
    let said = |version: &&str| good(&format!("rustc {version} (built from a source tarball)"));
    vec![
        (
            WEB_FILES,
            vec![good("/.\n/usr/bin/rustc\n/usr/bin/rustdoc\n")],
        ),
        (WEB_RUSTC, versions.iter().map(said).collect()),
    ]
}

/// apt-get works.
fn apt(line: &'static str) -> Answers {
    vec![(line, vec![good("")])]
}

fn both_installed() -> Answers {
    vec![(
        WEB,
        vec![good("cargo-web installed\nrust-web-src installed\n")],
    )]
}

fn none_installed() -> Answers {
    vec![(WEB, vec![bad(1, "dpkg-query: no packages found")])]
}

fn known_llvm() -> Answers {
    vec![(
        POLICY,
        vec![good(
            "clang-19:\n  Installed: (none)\n  Candidate: 1:19.1.7\nclang-17:\n  Candidate: (none)\n",
        )],
    )]
}

fn together(parts: impl IntoIterator<Item = Answers>) -> Scripted {
    Scripted {
        answers: parts
            .into_iter()
            .flatten()
            .map(|(line, said)| (line.to_owned(), said))
            .collect(),
        log: Vec::new(),
    }
}

/// Every name and place where a clang is looked for, in order.
fn no_clang() -> Vec<String> {
    let versions = ["19", "20", "21", "18", "17"];
    let mut lines: Vec<String> = versions
        .iter()
        .map(|version| format!("$ clang-{version} --version"))
        .collect();
    lines.push("$ clang --version".into());
    for version in versions {
        for folder in ["lib/llvm-", "lib/llvm", "lib64/llvm"] {
            lines.push(format!("$ /usr/{folder}{version}/bin/clang --version"));
        }
    }
    lines
}

const ADDING: &str = "> compiler: rustup target add x86_64-pc-windows-msvc";
const TOOLCHAIN: &str = "> compiler: this toolchain's own x86_64-pc-windows-msvc";
const TO_WEB: &str = "> compiler: Debian's rustc-web (rustup target add x86_64-pc-windows-msvc: error: could not download)";
const LLVM: &str = "> LLVM: clang-19 (version 19), /usr/lib/llvm-19/bin/lld-link";

/// What is expected: `NO CLANG` and `CLANG 19` stand for what is asked of LLVM, `ASKED` for what is asked of rustc.
fn spelt_out(lines: &[&str]) -> Vec<String> {
    let clang = llvm()
        .into_iter()
        .map(|(line, _)| format!("$ {line}"))
        .collect::<Vec<_>>();
    let asked = [RUSTC, HAS, CORE].map(|line| format!("$ {line}")).to_vec();
    let line = |line: &&str| match *line {
        "NO CLANG" => no_clang(),
        "CLANG 19" => clang.clone(),
        "ASKED" => asked.clone(),
        line => vec![line.to_owned()],
    };
    lines.iter().flat_map(line).collect()
}

struct Case {
    name: &'static str,
    machine: Scripted,
    sequence: Vec<String>,
    /// The lane, or the last words.
    end: Result<Lane, &'static str>,
}

fn case(
    name: &'static str,
    answers: impl IntoIterator<Item = Answers>,
    sequence: &[&str],
    end: Result<Lane, &'static str>,
) -> Case {
    let run = |line: &&str| -> String {
        let as_it_is =
            ["NO CLANG", "CLANG 19", "ASKED"].contains(line) || line.starts_with(['>', '~']);
        if as_it_is {
            (*line).into()
        } else {
            format!("$ {line}")
        }
    };
    let lines: Vec<String> = sequence.iter().map(run).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    Case {
        name,
        machine: together(answers),
        sequence: spelt_out(&lines),
        end,
    }
}

const UPDATING: &str = "> apt-get update: the lists of packages are missing or older than a day";
const INSTALLING: &str = "> installing cargo-web, clang-19, lld-19, rust-web-src ...";
const UPGRADING: &str = "> installing cargo-web, rust-web-src, rustc-web ...";
const TOO_OLD: &str = "\
found rustc 1.85 (Debian's rustc-web), needed 1.95
rustup target add x86_64-pc-windows-msvc: error: could not download
either of these gets it:
  rustup target add x86_64-pc-windows-msvc
  sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends rustc-web cargo-web rust-web-src'";

#[allow(clippy::too_many_lines, reason = "a table")]
fn machines() -> Vec<Case> {
    vec![
        case(
            "the target is there",
            [with_target(), llvm()],
            &["ASKED", TOOLCHAIN, "CLANG 19", LLVM],
            Ok(Lane::Toolchain),
        ),
        case(
            "rustup adds the target",
            [
                toolchain(),
                vec![(CORE, vec![good(""), good("/t/msvc/lib/libcore-1.rlib")]), (ADD, vec![good("")])],
                llvm(),
            ],
            &[
                "ASKED",
                ADDING, ADD,
                HAS,
                CORE,
                "> compiler: this toolchain, after rustup target add x86_64-pc-windows-msvc",
                "CLANG 19",
                LLVM,
            ],
            Ok(Lane::Toolchain),
        ),
        case(
            "rustup offline, rustc-web there",
            [toolchain(), offline(), llvm(), both_installed(), web(&["1.96.0"])],
            &["ASKED", ADDING, ADD, TO_WEB, "CLANG 19", WEB, WEB_FILES, WEB_RUSTC, WEB_FILES, WEB_RUSTC, LLVM],
            Ok(Lane::Debian),
        ),
        case(
            "old lists, nothing installed",
            [
                toolchain(),
                offline(),
                llvm_later(),
                none_installed(),
                root(),
                old_lists(),
                apt(UPDATE),
                known_llvm(),
                apt(INSTALL_ALL),
                web(&["1.96.0"]),
            ],
            &[
                "ASKED", ADDING, ADD, TO_WEB, "NO CLANG", WEB, "id -u", FRESH, UPDATING, UPDATE, POLICY, INSTALLING, INSTALL_ALL,
                WEB_FILES, WEB_RUSTC, "CLANG 19", LLVM,
            ],
            Ok(Lane::Debian),
        ),
        case(
            "an old rustc-web counts as installed",
            [
                toolchain(),
                offline(),
                llvm(),
                both_installed(),
                root(),
                old_lists(),
                apt(UPDATE),
                apt(UPGRADE_WEB),
                web(&["1.85.0", "1.96.0"]),
            ],
            &[
                "ASKED", ADDING, ADD, TO_WEB, "CLANG 19", WEB, WEB_FILES, WEB_RUSTC, "id -u", FRESH, UPDATING, UPDATE, UPGRADING, UPGRADE_WEB,
                WEB_FILES, WEB_RUSTC, LLVM,
            ],
            Ok(Lane::Debian),
        ),
        case(
            "young lists still offer an old rustc-web, new ones do not",
            [
                toolchain(),
                offline(),
                llvm(),
                none_installed(),
                root(),
                fresh_lists(),
                apt(INSTALL_WEB),
                apt(UPDATE),
                apt("apt-get install -y -qq --no-install-recommends rustc-web cargo-web rust-web-src"),
                web(&["1.85.0", "1.96.0"]),
            ],
            &[
                "ASKED",
                ADDING, ADD,
                TO_WEB,
                "CLANG 19",
                WEB,
                "id -u",
                FRESH,
                "> installing cargo-web, rust-web-src ...",
                INSTALL_WEB,
                WEB_FILES, WEB_RUSTC,
                "> Debian's rustc-web is 1.85: too old, upgrading it",
                UPDATE,
                "> installing rustc-web, cargo-web, rust-web-src ...",
                "apt-get install -y -qq --no-install-recommends rustc-web cargo-web rust-web-src",
                WEB_FILES, WEB_RUSTC,
                LLVM,
            ],
            Ok(Lane::Debian),
        ),
        case(
            "the upgrade brings nothing newer",
            [
                toolchain(),
                offline(),
                llvm(),
                both_installed(),
                root(),
                old_lists(),
                apt(UPDATE),
                apt(UPGRADE_WEB),
                web(&["1.85.0"]),
            ],
            &[
                "ASKED", ADDING, ADD, TO_WEB, "CLANG 19", WEB, WEB_FILES, WEB_RUSTC, "id -u", FRESH, UPDATING, UPDATE, UPGRADING, UPGRADE_WEB,
                WEB_FILES, WEB_RUSTC,
            ],
            Err(TOO_OLD),
        ),
        case(
            "no root",
            [toolchain(), offline(), none_installed(), known_llvm(), vec![("id -u", vec![good("1000\n")])]],
            &["ASKED", ADDING, ADD, TO_WEB, "NO CLANG", WEB, "id -u", POLICY],
            Err("\
not installed, or too old: cargo-web, clang-19, lld-19, rust-web-src
rustup target add x86_64-pc-windows-msvc: error: could not download
this gets it:
  sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends cargo-web clang-19 lld-19 rust-web-src'"),
        ),
        case(
            "no root, and an old rustc-web",
            [
                toolchain(),
                offline(),
                llvm(),
                both_installed(),
                web(&["1.85.0"]),
                vec![("id -u", vec![good("1000\n")])],
            ],
            &["ASKED", ADDING, ADD, TO_WEB, "CLANG 19", WEB, WEB_FILES, WEB_RUSTC, "id -u"],
            Err("\
not installed, or too old: cargo-web, rust-web-src, rustc-web
rustup target add x86_64-pc-windows-msvc: error: could not download
this gets it:
  sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends cargo-web rust-web-src rustc-web'"),
        ),
        case(
            "apt locked for a moment",
            [
                toolchain(),
                offline(),
                llvm(),
                none_installed(),
                root(),
                fresh_lists(),
                vec![(INSTALL_WEB, vec![bad(100, LOCKED), bad(100, LOCKED), good("")])],
                web(&["1.96.0"]),
            ],
            &[
                "ASKED",
                ADDING, ADD,
                TO_WEB,
                "CLANG 19",
                WEB,
                "id -u",
                FRESH,
                "> installing cargo-web, rust-web-src ...",
                INSTALL_WEB,
                "> another apt holds its lock: waiting up to 60 s",
                "~ 5 s",
                INSTALL_WEB,
                "~ 5 s",
                INSTALL_WEB,
                WEB_FILES, WEB_RUSTC,
                LLVM,
            ],
            Ok(Lane::Debian),
        ),
        case(
            "a download fails once",
            [
                toolchain(),
                offline(),
                llvm(),
                none_installed(),
                root(),
                fresh_lists(),
                vec![(INSTALL_WEB, vec![bad(100, "E: Failed to fetch rustc-web.deb  404  Not Found"), good("")])],
                apt(UPDATE),
                web(&["1.96.0"]),
            ],
            &[
                "ASKED",
                ADDING, ADD,
                TO_WEB,
                "CLANG 19",
                WEB,
                "id -u",
                FRESH,
                "> installing cargo-web, rust-web-src ...",
                INSTALL_WEB,
                "> apt-get install: E: Failed to fetch rustc-web.deb  404  Not Found; once more, with new lists",
                UPDATE,
                INSTALL_WEB,
                WEB_FILES, WEB_RUSTC,
                LLVM,
            ],
            Ok(Lane::Debian),
        ),
        case(
            "an apt without rustc-web, as Ubuntu's",
            [
                toolchain(),
                offline(),
                llvm(),
                none_installed(),
                root(),
                fresh_lists(),
                vec![(INSTALL_WEB, vec![bad(100, "E: Unable to locate package cargo-web")])],
                apt(UPDATE),
            ],
            &[
                "ASKED",
                ADDING, ADD,
                TO_WEB,
                "CLANG 19",
                WEB,
                "id -u",
                FRESH,
                "> installing cargo-web, rust-web-src ...",
                INSTALL_WEB,
                "> apt-get install: E: Unable to locate package cargo-web; once more, with new lists",
                UPDATE,
                INSTALL_WEB,
            ],
            Err("\
apt-get install: E: Unable to locate package cargo-web
rustup target add x86_64-pc-windows-msvc: error: could not download
this has to succeed first, or rustup target add x86_64-pc-windows-msvc:
  sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends cargo-web rust-web-src'"),
        ),
        case(
            "LLVM 17 alone, of Fedora's kind: linker from rustc, libclang in lib64",
            [
                with_target(),
                vec![
                    (
                        "clang-17 --version",
                        vec![good("clang version 17.0.6 (Fedora 17.0.6-1.fc39)\nInstalledDir: /usr/bin\n")],
                    ),
                    ("clang-17 -print-prog-name=lld-link", vec![good("lld-link\n")]),
                    ("clang-17 -print-prog-name=lld-link-17", vec![good("lld-link-17\n")]),
                    ("rustc --print target-libdir", vec![good("/t/linux/lib\n")]),
                    ("/t/linux/bin/rust-lld -flavor link --version", vec![good("LLD 22.1.0")]),
                    ("clang-17 -print-resource-dir", vec![good("/usr/lib/clang/17\n")]),
                    (
                        "find /usr/lib /usr/lib64 -maxdepth 1 -name libclang[-.]*so*",
                        vec![good("/usr/lib64/libclang.so.17\n")],
                    ),
                ],
            ],
            &[
                "ASKED",
                TOOLCHAIN,
                "clang-19 --version",
                "clang-20 --version",
                "clang-21 --version",
                "clang-18 --version",
                "clang-17 --version",
                "clang-17 -print-prog-name=lld-link",
                "clang-17 -print-prog-name=lld-link-17",
                "rustc --print target-libdir",
                "/t/linux/bin/rust-lld -flavor link --version",
                "clang-17 -print-resource-dir",
                "find /usr/lib /usr/lib64 -maxdepth 1 -name libclang[-.]*so*",
                "> LLVM: clang-17 (version 17), /t/linux/bin/rust-lld",
            ],
            Ok(Lane::Toolchain),
        ),
        case(
            "Fedora, with the target and a clang too new",
            [
                with_target(),
                vec![
                    ("clang --version", vec![good("clang version 22.1.8\nInstalledDir: /usr/bin\n")]),
                    (
                        "cat /etc/os-release",
                        vec![good("NAME=\"Fedora Linux\"\nID=fedora\nPRETTY_NAME=\"Fedora Linux 45\"\n")],
                    ),
                ],
            ],
            &["ASKED", TOOLCHAIN, "NO CLANG", "dpkg-query -W -f=${Package} ${db:Status-Status}\\n", "cat /etc/os-release"],
            Err("\
no apt here (Fedora Linux 45), so nothing is installed
LLVM: clang: version 22, and 17 to 21 are taken
the packages, by names that were not tried:
  sudo dnf install clang19 lld19
The demo alone needs a C linker, rustup with x86_64-pc-windows-msvc, and clang, lld-link and libclang of LLVM 17 to 21."),
        ),
        case(
            "nothing at all",
            [],
            &[
                RUSTC,
                HAS,
                ADDING, ADD,
                "> compiler: Debian's rustc-web (rustup target add x86_64-pc-windows-msvc: no rustup here)",
                "NO CLANG",
                WEB,
                "cat /etc/os-release",
            ],
            Err("\
no apt here (this system), so nothing is installed
LLVM: no clang
rustup target add x86_64-pc-windows-msvc: no rustup here
the compiler: rustup target add x86_64-pc-windows-msvc x86_64-pc-windows-gnu
the packages, by names that were not tried:
  sudo dnf install clang19 lld19
  sudo pacman -S clang20 lld20
  sudo zypper install clang19 lld19 libclang13
The demo alone needs a C linker, rustup with x86_64-pc-windows-msvc, and clang, lld-link and libclang of LLVM 17 to 21."),
        ),
    ]
}

fn wish(needs: &[Need]) -> Wish<'_> {
    Wish {
        needs,
        rust: (1, 95),
        llvm: None,
    }
}

#[test]
fn each_machine_runs_this_sequence_and_ends_with_these_words() {
    for mut case in machines() {
        let end = choose(&mut case.machine, &wish(&[Need::Build]));
        let end = end
            .map(|choice| choice.lane)
            .map_err(|Missing(words)| words);
        let name = case.name;
        assert_eq!(
            case.machine.log.join("\n"),
            case.sequence.join("\n"),
            "{name}: {end:?}"
        );
        assert_eq!(
            end.as_ref().map_err(String::as_str),
            case.end.as_ref().map_err(|words| *words),
            "{name}"
        );
    }
}

#[test]
fn a_lock_that_stays_is_waited_for_a_minute_and_then_named() {
    let locked = vec![(INSTALL_WEB, vec![bad(100, LOCKED)])];
    let parts = [
        toolchain(),
        offline(),
        llvm(),
        none_installed(),
        root(),
        fresh_lists(),
        apt(UPDATE),
        locked,
    ];
    let mut machine = together(parts);
    let end = choose(&mut machine, &wish(&[Need::Build]));
    let Err(Missing(words)) = end else {
        panic!("{end:?}");
    };
    assert!(
        words.starts_with("apt-get install: another apt has held its lock for 60 s\n"),
        "{words}"
    );
    // A minute for each of the two tries.
    assert_eq!(
        machine.log.iter().filter(|line| *line == "~ 5 s").count(),
        24
    );
}

#[test]
fn an_llvm_that_the_environment_names_is_taken_or_nothing_is() {
    let version = "clang version 21.1.0\nInstalledDir: /opt/l/bin\n";
    let mut machine = together([
        with_target(),
        llvm(),
        vec![
            ("/opt/l/bin/clang --version", vec![good(version)]),
            ("/opt/l/bin/lld-link --version", vec![good("LLD 21.1.0")]),
            (
                "/opt/l/bin/clang -print-resource-dir",
                vec![good("/opt/l/lib/clang/21\n")],
            ),
            (
                "find /opt/l/lib /opt/l/lib64 -maxdepth 1 -name libclang[-.]*so*",
                vec![good("/opt/l/lib/libclang.so.21.1\n")],
            ),
        ],
    ]);
    let mut wish = wish(&[Need::Build]);
    wish.llvm = Some("/opt/l");
    assert_eq!(choose(&mut machine, &wish).unwrap().llvm.version, 21);
    wish.llvm = Some("/opt/none");
    let end = choose(&mut machine, &wish);
    assert_eq!(
        end,
        Err(Missing("OPEN_KIT_LLVM: no clang in /opt/none/bin".into()))
    );
}

/// For `cargo xtask test`, the other targets are asked for until one is refused: then Debian's compiler builds for it, and
/// what that lints with is installed.
#[test]
fn all_that_the_tests_need_is_installed_at_once() {
    let needs = [
        Need::Build,
        Need::Arm64,
        Need::Iscsi,
        Need::Sign,
        Need::Lint,
        Need::Windows,
        Need::Wine,
    ];
    let mut machine = together([with_target(), llvm(), root(), fresh_lists()]);
    let query = "dpkg-query -W -f=${Package} ${db:Status-Status}\\n cargo-web gcc-mingw-w64-x86-64 libiscsi-bin libiscsi-dev openssl \
                 osslsigncode rust-web-clippy rust-web-src tgt wine64";
    let install = "apt-get install -y -qq --no-install-recommends cargo-web gcc-mingw-w64-x86-64 libiscsi-bin libiscsi-dev \
                   osslsigncode rust-web-clippy rust-web-src tgt wine64";
    machine.answers.insert(
        query.into(),
        vec![good("openssl installed\ntgt config-files\n")],
    );
    machine.answers.insert(install.into(), vec![good("")]);
    for (line, said) in web(&["1.96.0"]) {
        machine.answers.insert(line.into(), said);
    }
    let choice = choose(&mut machine, &wish(&needs)).unwrap();
    assert_eq!(choice.lane, Lane::Toolchain);
    assert!(
        machine
            .log
            .contains(&"$ rustup target add aarch64-pc-windows-msvc".to_owned())
    );
    assert!(machine.log.contains(&format!("$ {install}")));
}
