//! The built resvctl.exe under Wine: that it starts, finds its disks through Wine's `SetupAPI`, registry and service
//! manager, and that what it installs it takes back. Wine has no resvflt and no disk of the PnP manager's; the one disk
//! here is `\\.\PhysicalDrive0` with a device node that the test writes into the registry, and the driver that is started
//! is one that only loads. What only `resvctl selftest` asks of Windows, examples/questions.rs asks here.
#![allow(clippy::doc_markdown, reason = "names of the registry are words here")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const WINE: &str = "/usr/lib/wine/wine64";
const WINESERVER: &str = "/usr/lib/wine/wineserver64";
const MINGW: &str = "x86_64-w64-mingw32-gcc";
const INSTANCE: &str = r"SCSI\Disk&Ven_Wine&Prod_Disk\1&0&000000";
const INTERFACE: &str =
    "SCSI#Disk&Ven_Wine&Prod_Disk#1&0&000000#{53f56307-b6bf-11d0-94f2-00a0c91efb8b}";
const SYSTEM: &str = r"HKEY_LOCAL_MACHINE\System\CurrentControlSet";
const CLASS: &str =
    r"HKLM\System\CurrentControlSet\Control\Class\{4d36e967-e325-11ce-bfc1-08002be10318}";
const SERVICE: &str = r"HKLM\System\CurrentControlSet\Services\resvflt";
const OTHER_SET: &str = r"HKLM\SYSTEM\ControlSet007";
const FIRST_BOOT: &str = r"HKLM\SYSTEM\Setup\FirstBoot";
const RECORD: &str = r"HKLM\SOFTWARE\resvflt";

const INF: &str = "[Version]\nProvider = us\nClassGuid = {e2f84ce7-8efa-411c-aa69-97454ca4cb57}\nCatalogFile = resvflt.cat\n";

/// The statuses that resvctl has words for, and their Win32 errors in `src/machine.rs`.
const STATUSES: [(&str, u32); 13] = [
    ("c0000010", 1),
    ("c0000022", 5),
    ("c0000013", 21),
    ("c00000a3", 21),
    ("c000009c", 23),
    ("c00000b5", 121),
    ("c0000023", 122),
    ("80000011", 170),
    ("c0000483", 483),
    ("c0000120", 995),
    ("c0000185", 1117),
    ("c000009d", 1167),
    ("c000009a", 1450),
];

/// A Windows of Wine's, with the disk plugged in.
struct Windows {
    folder: PathBuf,
    disk: Child,
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target")
}

fn compile(source: &str, to: &Path, flags: &[&str]) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/wine")
        .join(source);
    let newer = |a: &Path, b: &Path| {
        let time = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
        time(a) > time(b)
    };
    if newer(to, &source) {
        return;
    }
    let mut compiler = Command::new(MINGW);
    compiler
        .args(["-Os", "-s", "-Wall", "-Werror", "-o"])
        .arg(to)
        .arg(&source)
        .args(flags);
    assert!(
        compiler.status().expect("gcc-mingw-w64-x86-64").success(),
        "{}",
        source.display()
    );
}

impl Windows {
    fn start() -> Self {
        let folder = target().join("wine");
        let package = folder.join("package");
        fs::create_dir_all(&package).expect("a folder");
        for (name, variable, built) in [
            ("resvctl.exe", "RESVCTL_EXE", "package/resvctl.exe"),
            ("questions.exe", "QUESTIONS_EXE", "resvctl/questions.exe"),
        ] {
            let program = std::env::var_os(variable).map(PathBuf::from);
            let program = program.unwrap_or_else(|| target().join(built));
            fs::copy(&program, package.join(name))
                .unwrap_or_else(|error| panic!("{name}: {error}: `cargo xtask test` builds it"));
        }
        fs::write(package.join("resvflt.inf"), INF).expect("a file");
        let driver = [
            "-nostdlib",
            "-Wl,--subsystem,native,--dynamicbase,-e,DriverEntry",
            "-lntoskrnl",
        ];
        compile("driver.c", &folder.join("driver.sys"), &driver);
        compile("pending.c", &folder.join("pending.sys"), &driver);
        compile(
            "bcryptprimitives.c",
            &package.join("bcryptprimitives.dll"),
            &["-shared", "-ladvapi32"],
        );
        compile(
            "realtime.c",
            &package.join("api-ms-win-core-realtime-l1-1-1.dll"),
            &["-shared"],
        );
        compile(
            "elevated.c",
            &package.join("elevated.exe"),
            &["-municode", "-ladvapi32"],
        );
        compile(
            "disk.c",
            &folder.join("disk.exe"),
            &["-municode", "-lntdll"],
        );
        let fresh = !folder.join("prefix/system.reg").exists();
        if fresh {
            // Making the prefix takes half of what this test takes; it is kept.
            let made = wine(&folder, Path::new("wineboot")).arg("--init").status();
            assert!(made.expect("wine64").success());
            // Its first session's service manager is busy with drivers that do not answer, and may keep what is deleted.
            let ended = wine_program(&folder, WINESERVER).arg("--wait").status();
            assert!(ended.expect("wine64").success());
        }
        let link = format!(r"\??\{INTERFACE}");
        let mut disk = wine(&folder, &folder.join("disk.exe"));
        disk.arg(link.to_lowercase())
            .args(STATUSES.map(|(status, _)| status));
        let mut disk = disk
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("wine64");
        let mut told = String::new();
        let out = disk.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut told).expect("its line");
        let errors: Vec<_> = told
            .split_whitespace()
            .map(|n| n.parse::<u32>().expect("a number"))
            .collect();
        assert_eq!(errors, STATUSES.map(|(_, error)| error));
        let windows = Self { folder, disk };
        windows.forget();
        windows.import(&disk_registry());
        windows
    }

    /// The package's resvflt.sys.
    fn image(&self, bytes: &[u8]) {
        fs::write(self.folder.join("package/resvflt.sys"), bytes).expect("a file");
    }

    /// Whatever an earlier run left.
    fn forget(&self) {
        // The service manager may have read the key already.
        for service in ["resvflt", "pending"] {
            self.sc(&["stop", service]);
            self.sc(&["delete", service]);
        }
        for key in [SERVICE, RECORD, OTHER_SET, FIRST_BOOT] {
            self.reg(&["delete", key, "/f"]);
        }
        for list in ["LowerFilters", "UpperFilters"] {
            self.reg(&["delete", CLASS, "/v", list, "/f"]);
        }
        let _ = fs::remove_file(self.installed());
        self.version("win7");
    }

    fn installed(&self) -> PathBuf {
        self.system("drivers/resvflt.sys")
    }

    /// A file of system32.
    fn system(&self, name: &str) -> PathBuf {
        let system = self.folder.join("prefix/drive_c/windows/system32");
        system.join(name)
    }

    /// Which Windows Wine says it is.
    fn version(&self, name: &str) {
        let key = r"HKCU\Software\Wine";
        self.reg(&["add", key, "/v", "Version", "/d", name, "/f"]);
    }

    fn reg(&self, arguments: &[&str]) -> String {
        self.tool("reg", arguments)
    }

    fn sc(&self, arguments: &[&str]) -> String {
        self.tool("sc", arguments)
    }

    /// What a program of Wine's own printed.
    fn tool(&self, name: &str, arguments: &[&str]) -> String {
        let out = wine(&self.folder, Path::new(name))
            .args(arguments)
            .output()
            .expect("wine64");
        String::from_utf8_lossy(&out.stdout).replace('\r', "")
    }

    /// The answer to a question of examples/questions.rs: its line.
    fn ask(&self, question: &[&str]) -> Value {
        let package = self.folder.join("package");
        let mut questions = wine(&self.folder, &package.join("questions.exe"));
        let ended = questions.args(question).output().expect("wine64");
        // One that ended by a function that Wine does not have printed none.
        serde_json::from_slice(&ended.stdout)
            .unwrap_or_else(|error| panic!("{question:?}: {error}: {ended:?}"))
    }

    /// UTF-16, or `reg import` would take the bytes of a REG_MULTI_SZ for ANSI.
    fn import(&self, text: &str) {
        let file = self.folder.join("disk.reg");
        let units = ["\u{feff}", text].concat();
        let bytes: Vec<u8> = units.encode_utf16().flat_map(u16::to_le_bytes).collect();
        fs::write(&file, bytes).expect("a file");
        self.reg(&["import", file.to_str().expect("UTF-8")]);
    }

    /// All that an install may touch.
    fn touched(&self) -> Vec<String> {
        let enumerated = format!(r"{SYSTEM}\Enum\{INSTANCE}");
        let keys = [CLASS, SERVICE, RECORD, &enumerated];
        let mut all: Vec<String> = keys
            .iter()
            .map(|key| self.reg(&["query", key, "/s"]))
            .collect();
        all.push(format!("{:?}", fs::read(self.installed()).ok()));
        all
    }

    /// The same after a restart, which the driver's end stands for, and once the service manager has let go of a deleted
    /// service, which it does when it likes.
    fn left(&self) -> Vec<String> {
        self.sc(&["stop", "resvflt"]);
        let end = Instant::now() + Duration::from_secs(20);
        while self.reg(&["query", SERVICE]).contains("DisplayName") && Instant::now() < end {
            thread::sleep(Duration::from_millis(100));
        }
        self.touched()
    }

    /// Carries out a command line as an administrator: its exit code, and what it printed.
    fn resvctl(&self, line: &str) -> (i32, String) {
        self.run("elevated.exe", &format!("resvctl.exe {line}"))
    }

    /// Runs a program of the package's folder, there.
    fn run(&self, program: &str, line: &str) -> (i32, String) {
        let package = self.folder.join("package");
        let mut program = wine(&self.folder, &package.join(program));
        let ended = program
            .current_dir(&package)
            .args(line.split_whitespace())
            .stderr(Stdio::piped())
            .output()
            .expect("wine64");
        let text = [ended.stdout, ended.stderr].concat();
        let text = String::from_utf8(text).expect("UTF-8").replace('\r', "");
        (ended.status.code().expect("an exit code"), text)
    }

    fn ends(&self, line: &str, exit: i32, told: &[&str]) {
        let (found, text) = self.resvctl(line);
        assert_eq!(found, exit, "{line}: {text}");
        for told in told {
            assert!(text.contains(told), "{line}, {told}: {text}");
        }
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        drop(self.disk.stdin.take());
        let _ = self.disk.wait();
    }
}

fn wine(folder: &Path, program: &Path) -> Command {
    let mut wine = wine_program(folder, WINE);
    wine.arg(program);
    wine
}

fn wine_program(folder: &Path, program: &str) -> Command {
    let mut wine = Command::new(program);
    wine.env("WINEPREFIX", folder.join("prefix"))
        .env("WINEDEBUG", "-all")
        .env("WINEDLLOVERRIDES", "mscoree,mshtml=")
        .env_remove("DISPLAY")
        .stderr(Stdio::null());
    wine
}

/// A REG_MULTI_SZ or a list of a device property, for a .reg file.
fn hex(kind: &str, strings: &[&str]) -> String {
    let units = strings
        .iter()
        .flat_map(|string| string.encode_utf16().chain([0]))
        .chain([0]);
    let bytes: Vec<String> = units
        .flat_map(u16::to_le_bytes)
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("hex({kind}):{}", bytes.join(","))
}

/// What the PnP manager would have written of the disk: Wine's setupapi/devinst.c reads it there. The property is
/// DEVPKEY_Device_Stack, of type DEVPROP_TYPE_STRING_LIST.
fn disk_registry() -> String {
    let interface = format!(
        r"{SYSTEM}\Control\DeviceClasses\{{53f56307-b6bf-11d0-94f2-00a0c91efb8b}}\##?#{INTERFACE}"
    );
    let (device, escaped) = (
        format!(r"{SYSTEM}\Enum\{INSTANCE}"),
        INSTANCE.replace('\\', r"\\"),
    );
    let lists = hex("7", &["first", "second"]);
    let stack = hex(
        "ffff2012",
        &[r"\Driver\partmgr", r"\Driver\disk", r"\Driver\storahci"],
    );
    format!(
        "Windows Registry Editor Version 5.00\n\n\
         [-{device}\\Device Parameters]\n\n\
         [{device}]\n\"ClassGUID\"=\"{{4d36e967-e325-11ce-bfc1-08002be10318}}\"\n\"Class\"=\"DiskDrive\"\n\
         \"FriendlyName\"=\"Wine's disk\"\n\"LowerFilters\"={lists}\n\"UpperFilters\"={lists}\n\n\
         [{device}\\Properties\\{{540b947e-8b40-45bc-a8a2-6a0b894cbda2}}\\000E]\n@={stack}\n\n\
         [{interface}]\n\"DeviceInstance\"=\"{escaped}\"\n\n\
         [{interface}\\#]\n\"SymbolicLink\"=\"\\\\\\\\?\\\\{INTERFACE}\"\n\n\
         [{interface}\\#\\Control]\n\"Linked\"=dword:00000001\n"
    )
}

/// One test: Wine starts slowly, and its registry is one.
#[test]
fn resvctl_under_wine() {
    let windows = Windows::start();
    it_finds_disks_and_says_what_is_wrong(&windows);
    it_refuses_without_the_full_token(&windows);
    what_it_installs_it_takes_back(&windows);
    what_others_added_stays(&windows);
    newer_windows_is_for_pnputil(&windows);
    what_only_a_selftest_asks_is_answered(&windows);
    requests_go_on_while_it_does_something_else(&windows);
}

fn it_finds_disks_and_says_what_is_wrong(windows: &Windows) {
    windows.ends(
        "--help",
        0,
        &["Usage: resvctl <COMMAND>", "Examples:", "Exit codes:"],
    );
    windows.ends("reserve Harddisk1", 2, &["PhysicalDrive1"]);
    windows.ends(
        "list",
        0,
        &[
            "resvflt.sys is not loaded",
            "PhysicalDrive0   no filter",
            "Wine's disk, SCSI",
        ],
    );
    for disk in [
        "0",
        "physicaldrive0",
        r"\\.\PhysicalDrive0",
        r"\\?\PhysicalDrive0",
    ] {
        windows.ends(
            &format!("status {disk}"),
            1,
            &["PhysicalDrive0: resvflt is not in this disk's stack"],
        );
    }
    windows.ends(
        "status 7",
        1,
        &[
            "PhysicalDrive7: there is no such thing (error 2)",
            "resvctl list",
        ],
    );
    windows.ends(
        "status Q:",
        1,
        &["Q: there is no such thing (error 2)", "resvctl list"],
    );
    windows.ends("reserve 0", 1, &["error 50", "disk.sys answered"]);
    windows.ends("break 0 --force", 1, &["its SCSI address", "error 50"]);
    windows.ends(
        "status serial:none",
        1,
        &["the serial number none", "resvctl list"],
    );
    windows.ends(
        "list --json",
        0,
        &[
            "{\"disks\":[{\"disk\":\"PhysicalDrive0\",",
            "\"filter\":\"none\"",
        ],
    );
    windows.ends("verify on", 1, &["verifier.exe"]);
    windows.ends("verify off", 0, &["does not watch"]);
    windows.ends("exclude 0", 0, &["ResvFltEnabled = 0"]);
    windows.ends("list", 0, &["excluded"]);
    windows.ends("include 0 --force", 0, &["ResvFltEnabled = 1"]);
    let key = format!(r"{SYSTEM}\Enum\{INSTANCE}\Device Parameters");
    let value = windows.reg(&["query", &key, "/v", "ResvFltEnabled"]);
    assert!(value.contains("REG_DWORD    0x1"), "{value}");
}

/// Where Wine has split tokens, and so starts a program as Windows does from a prompt that is not elevated.
fn it_refuses_without_the_full_token(windows: &Windows) {
    let (full, _) = windows.run("elevated.exe", "");
    if full == 1 {
        return;
    }
    for line in ["verify on", "exclude 0", "install 0 --force"] {
        let (exit, text) = windows.run("resvctl.exe", line);
        assert_eq!(exit, 1, "{line}: {text}");
        assert!(text.contains("Run as administrator"), "{line}: {text}");
    }
}

fn what_it_installs_it_takes_back(windows: &Windows) {
    let before = windows.touched();
    windows.image(b"no image");
    windows.ends("install", 2, &["older than 10 1903", "name the disks"]);
    for line in ["install --class", "install 0", "install --all", "include 0"] {
        windows.ends(
            line,
            1,
            &["not told: ", "has no SystemPartition", "--force"],
        );
    }
    windows.ends(
        "install 0 --force --dry-run",
        0,
        &[
            "would copy",
            "would make the service",
            "would start the service",
        ],
    );
    windows.ends("uninstall", 0, &["nothing"]);
    assert_eq!(
        windows.touched(),
        before,
        "nothing of this was to change anything"
    );
    windows.ends(
        "install 0 --force",
        1,
        &["does not start", "what was done is taken back"],
    );
    assert_eq!(windows.left(), before, "a driver that does not load");
    let driver = fs::read(windows.folder.join("driver.sys")).expect("the driver");
    windows.image(&driver);
    for (line, list) in [
        ("install 0 --force", r"first\0second\0resvflt"),
        ("install 0 --force --upper", r"first\0second\0resvflt"),
        (
            "install --class --force",
            "LowerFilters    REG_MULTI_SZ    resvflt",
        ),
        (
            "install --class --force --upper",
            "UpperFilters    REG_MULTI_SZ    resvflt",
        ),
    ] {
        windows.ends(line, 0, &["restart Windows"]);
        let after = windows.touched().concat();
        for told in [
            list,
            r"System32\drivers\resvflt.sys",
            "Start    REG_DWORD    0x0",
            "Group    REG_SZ    PnP Filter",
        ] {
            assert!(after.contains(told), "{line}: {told}: {after}");
        }
        assert_eq!(fs::read(windows.installed()).ok().as_ref(), Some(&driver));
        windows.ends("list", 0, &["resvflt.sys is loaded", "named by"]);
        windows.ends("uninstall", 0, &["as it was", "service: deleted", "file: "]);
        assert_eq!(windows.left(), before, "{line}");
    }
}

fn what_others_added_stays(windows: &Windows) {
    windows.ends("install --class --force --upper", 0, &[]);
    windows.reg(&[
        "add",
        CLASS,
        "/v",
        "UpperFilters",
        "/t",
        "REG_MULTI_SZ",
        "/d",
        r"new\0resvflt\0last",
        "/f",
    ]);
    // Another control set, which Wine does not have of itself, and a place of Windows' setup.
    for (key, value) in [
        (format!(r"{OTHER_SET}\Enum\A\B\C"), "UpperFilters"),
        (format!(r"{FIRST_BOOT}\Filters\x"), "y"),
    ] {
        let list = ["/t", "REG_MULTI_SZ", "/d", r"first\0RESVFLT", "/f"];
        windows.reg(&[&["add", &key, "/v", value], &list[..]].concat());
        windows.ends(
            "uninstall",
            1,
            &["the service and its file stay", &key[5..], value],
        );
        windows.reg(&["delete", &key, "/v", value, "/f"]);
    }
    windows.ends("uninstall", 0, &["service: deleted"]);
    let list = windows.reg(&["query", CLASS, "/v", "UpperFilters"]);
    assert!(list.contains(r"REG_MULTI_SZ    new\0last"), "{list}");
}

fn newer_windows_is_for_pnputil(windows: &Windows) {
    windows.version("win10");
    // Older Wines have no pnputil.
    let pnputil = windows.system("pnputil.exe").exists();
    let (exit, told) = if pnputil {
        (0, r"package\resvflt.inf with pnputil")
    } else {
        (1, "pnputil.exe")
    };
    windows.ends("install --dry-run", 1, &["has no SystemPartition"]);
    windows.ends("install --dry-run --force", exit, &[told]);
    windows.version("win7");
}

/// A file of the host, as Windows names it.
fn dos(path: &Path) -> String {
    let path = path.canonicalize().expect("a file that is there");
    format!("Z:{}", path.display().to_string().replace('/', "\\"))
}

fn what_only_a_selftest_asks_is_answered(windows: &Windows) {
    let signed = target().join("test-signed/resvflt.sys");
    let image = fs::read(&signed).expect("`cargo xtask package --test-sign` makes it");
    // Deeper than MAX_PATH, and not in ASCII.
    let deep = windows.folder.join("deep");
    let names = ["Ordner-ä", "Ordner-ö", "Ordner-ü"].map(|name| name.repeat(12));
    let long = deep.join(names.join("/"));
    let _ = fs::remove_dir_all(&deep);
    fs::create_dir_all(&long).expect("a folder");
    let long = long.canonicalize().expect("it is there");
    let mut changed = image.clone();
    changed[0x800] ^= 1;
    fs::write(long.join("signed.sys"), &image).expect("a file");
    fs::write(long.join("changed.sys"), changed).expect("a file");
    let (signed, changed) = (long.join("signed.sys"), long.join("changed.sys"));
    let (signed, changed) = (dos(&signed), dos(&changed));
    assert!(signed.encode_utf16().count() > 260, "{signed}");
    let unsigned = dos(&windows.folder.join("driver.sys"));
    let catalog = dos(&target().join("test-signed/resvflt.cat"));
    let written = dos(&long) + "\\written.json";
    let version = concat!(env!("CARGO_PKG_VERSION"), ".0");
    let nowhere = r"C:\nowhere\resvflt.sys";
    let is = |question: &[&str], answer: Value| {
        assert_eq!(
            windows.ask(question),
            json!({ "answer": answer }),
            "{question:?}"
        );
    };
    let fails = |question: &[&str], error: u32| {
        assert_eq!(
            windows.ask(question),
            json!({ "error": error }),
            "{question:?}"
        );
    };

    let kernel = windows.ask(&["loaded", "NTOSKRNL.EXE"])["answer"].clone();
    let path = kernel["path"].as_str().expect("it is loaded");
    assert!(path.ends_with(r"\ntoskrnl.exe"), "{path}");
    assert_ne!(kernel["size"], 0);
    is(&["loaded", "toskrnl.exe"], Value::Null);

    is(&["service", "no such service"], Value::Null);

    // What this certificate is to Wine is Wine's; that a changed file is not what was signed is not.
    let embedded = windows.ask(&["signature", &signed])["answer"].clone();
    assert_eq!(embedded["signer"], "resvflt test signing", "{embedded}");
    let embedded = windows.ask(&["signature", &changed])["answer"].clone();
    assert_eq!(
        embedded["result"], "0x80096010",
        "TRUST_E_BAD_DIGEST: {embedded}"
    );
    let none = json!({ "result": "0x800b0100", "signer": null });
    is(&["signature", &unsigned], none);
    fails(&["signature", nowhere], 3);
    fails(&["signature_in", nowhere, &signed], 3);
    fails(&["signature_in", &catalog, nowhere], 3);
    // Newer Wines take SHA-256 here.
    let by_catalog = windows.ask(&["signature_in", &catalog, &changed]);
    assert!(
        by_catalog["error"] == 50 || by_catalog["answer"]["result"] != "0x0",
        "{by_catalog}"
    );

    is(&["file_version", &signed], version.into());
    is(&["file_version", &unsigned], Value::Null);
    is(&["file_version", nowhere], Value::Null);

    for (status, error) in STATUSES {
        is(&["win32_of", status], error.into());
    }
    // Wine has no Driver Verifier, no events and no sleep.
    fails(&["verified", "resvflt.sys"], 50);
    let traced = windows.ask(&["trace"]);
    assert!(traced["error"].is_u64(), "{traced}");
    fails(&["sleep", "5"], 50);

    let waited = windows.ask(&["wait", "300"])["answer"].as_f64();
    assert!(waited.is_some_and(|waited| waited >= 299.0), "{waited:?}");
    is(&["enter"], false.into());
    for text in ["first", "secönd"] {
        is(&["write_file", &written, text], text.into());
    }
    fails(&["write_file", nowhere, "text"], 3);
    fs::create_dir(long.join("folder")).expect("a folder");
    fails(&["write_file", &dos(&long.join("folder")), "text"], 5);
    let files = fs::read_dir(&long).expect("the folder").count();
    assert_eq!(files, 4, "a file that was only on its way is left");
    fs::remove_dir_all(&deep).expect("the folders");
}

/// On a device of a driver that lets requests wait.
fn requests_go_on_while_it_does_something_else(windows: &Windows) {
    const DEVICE: &str = r"\\.\Pending";
    let driver = windows.system("drivers/pending.sys");
    fs::copy(windows.folder.join("pending.sys"), driver).expect("the driver");
    let path = r"C:\windows\system32\drivers\pending.sys";
    windows.sc(&["create", "pending", "type=", "kernel", "binPath=", path]);
    windows.sc(&["start", "pending"]);
    assert_eq!(
        windows.ask(&["service", "pending"])["answer"],
        json!({ "start": 3, "error_control": 1, "group": "", "image": path, "state": 4 })
    );
    assert_eq!(
        windows.ask(&["requests", DEVICE])["answer"],
        json!({
            "held": [null, null],
            "busy": ["0x80000011", 0],
            "refused": ["0xc0000010", 0],
            "cancel": true,
            "cancelled": ["0xc0000120", 0],
            "cancel again": false,
            "cancel refused": false,
            "the other": null,
            "release": ["0x0", 0],
            "released": ["0x0", 0],
            "left": ["0x0", 0],
            "no such request": 87,
        })
    );
    assert_eq!(
        windows.ask(&["dropped", DEVICE])["answer"],
        json!({ "before": ["0x0", 3], "after": ["0x0", 0] })
    );
    assert_eq!(
        windows.ask(&["process", DEVICE])["answer"],
        json!({
            "ended before": false,
            "held": ["0x0", 3],
            "ended": true,
            "held after": ["0x0", 0],
            "held after the dropped one": ["0x0", 0],
            "no such device": 2,
        })
    );
    // resvctl.exe is its own other process, and ends when its first one does.
    for (device, exit, told) in [(DEVICE, 0, "out\n"), (r"\\.\NoSuchDevice", 1, "2\n")] {
        let line = format!("--hold-requests {device} 2236416 2");
        assert_eq!(windows.run("resvctl.exe", &line), (exit, told.into()));
    }
    assert_eq!(
        windows.ask(&["dropped", DEVICE])["answer"]["before"],
        json!(["0x0", 3]),
        "something of another process is left"
    );
    windows.sc(&["stop", "pending"]);
    windows.sc(&["delete", "pending"]);
}
