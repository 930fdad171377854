//! What infverif and Microsoft's documentation demand of an INF like ours, as a numbered list.
//!
//! Not infverif: it checks what this driver's INF can get wrong. Each rule names infverif's error where there is one
//! (devtest/inf-validation-errors-and-warnings) and the page that says so.

use crate::inf::{Entry, Inf};
use crate::stamp::unknown_token;

/// Line, and what is wrong there. Line 0 is the whole file.
pub type Found = Vec<(usize, String)>;

/// One demand.
pub struct Rule {
    /// Its number here.
    pub id: u32,
    /// infverif's error code.
    pub infverif: Option<u32>,
    /// Below learn.microsoft.com/windows-hardware/drivers/, unless it begins otherwise.
    pub page: &'static str,
    /// What it demands.
    pub demands: &'static str,
    /// Where an INF breaks it.
    pub check: fn(&Inf) -> Found,
}

/// Where a file breaks a rule, and which.
pub fn broken(inf: &Inf) -> impl Iterator<Item = (&'static Rule, usize, String)> {
    RULES.iter().flat_map(|rule| {
        (rule.check)(inf)
            .into_iter()
            .map(move |(line, what)| (rule, line, what))
    })
}

macro_rules! rules {
    ($($id:literal $infverif:expr, $page:literal, $demands:literal => $check:expr;)*) => {
        /// All of them.
        pub const RULES: &[Rule] = &[$(Rule {
            id: $id, infverif: $infverif, page: $page, demands: $demands, check: $check,
        }),*];
    };
}

rules! {
    1 Some(1003), "install/general-guidelines-for-inf-files",
        "ANSI or UTF-16 LE: here ASCII, or a byte order mark" => |inf| {
        let bad = inf.bytes.iter().position(|b| !b.is_ascii());
        let bad = bad.filter(|_| !inf.bytes.starts_with(b"\xFF\xFE"));
        bad.map(|at| (0, format!("byte {at} is not ASCII"))).into_iter().collect()
    };
    2 Some(1274), "wdf/using-inx-files-to-create-inf-files", "no variable of the .inx is left" => |inf| {
        let values = all(inf).flat_map(|(_, e)| e.values.iter().map(move |v| (e.line, v)));
        let names = inf.sections.iter().map(|s| (s.line, &s.name));
        let left = |(line, text): (usize, &String)| Some((line, format!("${}$", unknown_token(text)?)));
        names.chain(values).find_map(left).into_iter().collect()
    };
    3 Some(1001), "install/inf-version-section", "the signature is $Windows NT$ or $Chicago$" => |inf| {
        version(inf, "Signature", |v| one_of(v, &["$Windows NT$", "$Chicago$"]))
    };
    4 Some(1010), "install/inf-version-section", "ClassGuid is a GUID" => |inf| version(inf, "ClassGuid", is_guid);
    5 Some(1281), "install/using-an-extension-inf-file", "class Extension and its GUID go together" => |inf| {
        let guid = inf.value("Version", "ClassGuid");
        let class = inf.value("Version", "Class").eq_ignore_ascii_case("Extension");
        let apart = is_guid(&guid) && class != guid.eq_ignore_ascii_case(EXTENSION);
        found(apart, line_of(inf, "Version", "Class"), || format!("with {guid}"))
    };
    6 Some(1381), "install/using-an-extension-inf-file", "an extension has an ExtensionId" => |inf| {
        found(inf.all("Version", "ExtensionId").next().is_none(), 0, || "no ExtensionId".to_owned())
    };
    7 Some(1380), "install/inf-version-section", "ExtensionId is a GUID, and not the example's" => |inf| {
        present(inf, "ExtensionId", |v| is_guid(v) && !v.contains("00000000-0000"))
    };
    8 Some(1204), "install/inf-version-section", "the provider is whoever wrote the INF, not Microsoft" => |inf| {
        version(inf, "Provider", |v| !v.is_empty() && !v.to_ascii_lowercase().starts_with("microsoft"))
    };
    9 Some(1233), "install/inf-version-section", "a catalog is named: a signature needs one" => |inf| {
        found(inf.all("Version", "CatalogFile").next().is_none(), 0, || "no CatalogFile".to_owned())
    };
    10 Some(1214), "install/inf-version-section", "the catalog's name is that of a .cat" => |inf| {
        present(inf, "CatalogFile", |v| ends_with(v, ".cat") && v.len() > 4 && !v.contains('\\'))
    };
    11 Some(1218), "install/inf-driverver-directive", "DriverVer begins with mm/dd/yyyy" => |inf| {
        version(inf, "DriverVer", is_date)
    };
    12 Some(1217), "install/inf-driverver-directive",
        "DriverVer ends with w.x.y.z, each below 65535, and not 0.0.0.0" => |inf| {
        let ver = inf.all("Version", "DriverVer").filter(|e| !is_version(e.value(1)));
        told(ver, 1)
    };
    13 Some(1324), "install/inf-version-section", "PnpLockdown = 1: only PnP changes the files" => |inf| {
        version(inf, "PnpLockdown", |v| v == "1")
    };
    14 Some(1287), "install/inf-manufacturer-section", "models are decorated with an architecture" => |inf| {
        let unknown = |d: &str| !one_of(first(d), &["NTamd64", "NTarm64", "NTx86"]);
        let bare = inf.entries("Manufacturer").filter(|e| e.values.len() < 2).map(|e| (e.line, String::new()));
        bare.chain(inf.models().filter(|m| unknown(m.2)).map(|m| (m.0.line, m.2.to_owned()))).collect()
    };
    15 None, "install/using-a-universal-inf-file", "a decoration has no product type and no suite" => |inf| {
        let narrow = |d: &str| d.split('.').skip(3).take(2).any(|part| !part.is_empty());
        inf.models().filter(|m| narrow(m.2)).map(|m| (m.0.line, m.2.to_owned())).collect()
    };
    16 Some(1199), "develop/device-filter-driver-ordering",
        "AddFilter is only seen by 1903, build 18362, and later" => |inf| {
        let build = |d: &str| d.split('.').nth(5).and_then(|b| b.parse().ok()).unwrap_or(0);
        let early = inf.models().filter(|m| build(m.2) < 18_362 && !inf.directives(".Filters", "AddFilter").is_empty());
        early.map(|m| (m.0.line, m.2.to_owned())).collect()
    };
    17 Some(1203), "install/inf-manufacturer-section", "each models section is there" => |inf| {
        let absent = inf.models().filter(|m| !inf.has(&m.1));
        absent.map(|m| (m.0.line, m.1)).collect()
    };
    18 Some(1261), "install/inf-models-section", "each model's install section is there" => |inf| {
        let absent = inf.installs().into_iter().filter(|i| i.section.is_none());
        absent.map(|i| (i.line, i.name)).collect()
    };
    19 Some(1297), "install/inf-models-section", "each model has a hardware or compatible ID" => |inf| {
        let none = inf.installs().into_iter().filter(|i| i.ids.iter().all(String::is_empty));
        none.map(|i| (i.line, i.name)).collect()
    };
    20 Some(1203), "devtest/inf-validation-errors-and-warnings",
        "a directive names a section that is there" => dangling;
    21 Some(1209), "devtest/inf-validation-errors-and-warnings", "a section is defined once" => |inf| {
        let again = inf.sections.iter().enumerate().filter(|(at, s)| {
            inf.sections[..*at].iter().any(|earlier| earlier.name.eq_ignore_ascii_case(&s.name))
        });
        again.map(|(_, s)| (s.line, s.name.clone())).collect()
    };
    22 Some(2083), "devtest/inf-validation-errors-and-warnings", "each section is used" => unused;
    23 None, "install/inf-ddinstall-filters-section", "the parts of an install section have its decoration" => |inf| {
        let installs = inf.installs();
        let strays = inf.sections.iter().filter(|s| {
            let stem = s.name.rsplit_once('.').map_or("", |(stem, _)| stem);
            PARTS.iter().any(|p| ends_with(&s.name, p))
                && !installs.iter().filter_map(|i| i.section.as_ref()).any(|i| i.eq_ignore_ascii_case(stem))
                && installs.iter().any(|i| first(stem).eq_ignore_ascii_case(&i.name))
        });
        strays.map(|s| (s.line, s.name.clone())).collect()
    };
    24 Some(1235), "install/inf-strings-section", "each %string% is defined" => |inf| {
        let words = all(inf).flat_map(|(_, e)| e.values.iter().chain([&e.key]).map(move |text| (e.line, text)));
        let tokens = words.flat_map(|(line, text)| Inf::tokens(text).map(move |t| (line, t)));
        let absent = tokens.filter(|(_, t)| !inf.entries("Strings").any(|e| e.is(t)));
        absent.map(|(line, t)| (line, t.to_owned())).collect()
    };
    25 Some(1295), "install/inf-strings-section", "each language has all strings" => |inf| {
        let languages = inf.sections.iter().filter(|s| s.name.to_ascii_lowercase().starts_with("strings."));
        let lacks = languages.flat_map(|s| {
            let absent = inf.entries("Strings").filter(|e| !s.entries.iter().any(|other| other.is(&e.key)));
            absent.map(|e| (s.line, e.key.clone()))
        });
        lacks.collect()
    };
    26 Some(1292), "install/inf-strings-section", "what a user sees is a %string%" => |inf| {
        let seen = |key: &str| one_of(key, &["Provider", "DisplayName", "Description"]);
        let directives = all(inf).filter(|(section, e)| *section != "Strings" && seen(&e.key));
        let directives = directives.map(|(_, e)| (e.line, e.value(0)));
        let models = inf.sections.iter().filter(|s| inf.models().any(|m| m.1 == s.name)).flat_map(|s| &s.entries);
        let names = inf.entries("Manufacturer").chain(models).map(|e| (e.line, &*e.key));
        let disks = inf.entries("SourceDisksNames").map(|e| (e.line, e.value(0)));
        let literal = directives.chain(names).chain(disks).filter(|(_, text)| !text.starts_with('%'));
        literal.map(|(line, text)| (line, text.to_owned())).collect()
    };
    27 Some(1322), "develop/driver-isolation", "files stay in the driver store, directory 13" => |inf| {
        let elsewhere = inf.entries("DestinationDirs").filter(|e| e.value(0) != "13");
        told(elsewhere, 0)
    };
    28 Some(1230), "install/inf-sourcedisksfiles-section", "a file that is copied is on a source disk" => |inf| {
        let absent = copied(inf).filter(|e| !inf.entries("SourceDisksFiles").any(|f| f.is(e.value(0))));
        told(absent, 0)
    };
    29 Some(1273), "install/inf-sourcedisksfiles-section", "the source disk of a file is listed" => |inf| {
        let listed = |disk: &str| inf.entries("SourceDisksNames").any(|e| e.is(disk));
        let absent = inf.entries("SourceDisksFiles").filter(|e| !listed(e.value(0)));
        told(absent, 0)
    };
    30 Some(1213), "install/inf-version-section", "the catalog is no source file" => |inf| {
        let cats = inf.entries("SourceDisksFiles").filter(|e| ends_with(&e.key, ".cat"));
        cats.map(|e| (e.line, e.key.clone())).collect()
    };
    31 Some(1100), "install/using-a-universal-inf-file", "a file in the driver store keeps its name" => |inf| {
        let renamed = copied(inf).filter(|e| !e.value(1).is_empty());
        told(renamed, 1)
    };
    32 Some(1289), "install/inf-addservice-directive",
        "a service has type, start type, error control and binary" => |inf| {
        let needed = ["ServiceType", "StartType", "ErrorControl", "ServiceBinary"];
        let named = services(inf).filter(|(_, section)| inf.has(section));
        let pairs = named.flat_map(|(line, section)| needed.map(|key| (line, section, key)));
        let absent = pairs.filter(|(_, section, key)| inf.all(section, key).next().is_none());
        absent.map(|(line, _, key)| (line, key.to_owned())).collect()
    };
    33 Some(1088), "devtest/inf-validation-errors-and-warnings", "a directive of a service stands once" => |inf| {
        let entries = services(inf).flat_map(|(_, section)| inf.entries(section).map(move |e| (section, e)));
        let again = entries.filter(|(section, e)| line_of(inf, section, &e.key) != e.line).map(|(_, e)| e);
        again.map(|e| (e.line, e.key.clone())).collect()
    };
    34 Some(1383), "install/inf-addservice-directive", "an extension's service is not the function driver" => |inf| {
        let associated = inf.directives(".Services", "AddService").into_iter();
        let associated = associated.filter(|e| number(&inf.expand(e.value(1))).is_some_and(|flags| flags & 2 != 0));
        told(associated, 1)
    };
    35 Some(1252), "install/inf-addservice-directive",
        "a .sys is a kernel driver: ServiceType = 1" => |inf| setting(inf, "ServiceType", |n| n == 1);
    36 None, "install/specifying-driver-load-order",
        "a disk's driver is boot-start: StartType = 0" => |inf| setting(inf, "StartType", |n| n == 0);
    37 None, "install/inf-addservice-directive",
        "ErrorControl 2 and 3 are for what a boot needs: not for a filter" => |inf| {
        setting(inf, "ErrorControl", |n| n <= 1)
    };
    38 None, "HLK test \"Wdf - Verify Driver Load Order Group is not WdfLoadGroup\"",
        "WdfLoadGroup is KMDF's own" => |inf| {
        let groups = services(inf).flat_map(|(_, section)| inf.all(section, "LoadOrderGroup"));
        let own = groups.filter(|e| e.value(0).eq_ignore_ascii_case("WdfLoadGroup"));
        told(own, 0)
    };
    39 Some(2084), "devtest/inf-verif-error-2084",
        "a service's binary is a file that is copied, there where it is" => |inf| {
        let binaries = services(inf).flat_map(|(_, section)| inf.all(section, "ServiceBinary"));
        let there = |file: &Entry| format!("%13%\\{}", file.value(0));
        let foreign = binaries.filter(|e| !copied(inf).any(|file| one_of(e.value(0), &[&there(file)])));
        told(foreign, 0)
    };
    40 Some(1321), "develop/driver-isolation", "the registry is written below HKR only" => |inf| {
        let global = registry(inf).map(|(_, e)| e).filter(|e| !one_of(e.value(0), &["HKR"]));
        told(global, 0)
    };
    41 Some(1323), "develop/driver-isolation", "a service's values are below Parameters" => |inf| {
        let top = |e: &Entry| e.value(1).split('\\').next().is_some_and(|key| one_of(key, &["Parameters"]));
        let outside = registry(inf).filter(|(of_service, e)| *of_service && !top(e)).map(|(_, e)| e);
        told(outside, 1)
    };
    42 Some(1268), "install/inf-addreg-directive", "a REG_DWORD's value is a number" => |inf| {
        let part = |e: &Entry, at| number(&inf.expand(e.value(at)));
        let dwords = registry(inf).map(|(_, e)| e).filter(|e| part(e, 3).is_some_and(|f| f & 0xF_0001 == 0x1_0001));
        let bad = dwords.filter(|e| part(e, 4).is_none());
        told(bad, 4)
    };
    43 Some(1384), "install/inf-addfilter-directive", "a filter is added by AddFilter, not in the registry" => |inf| {
        let entries = registry(inf).map(|(_, e)| e);
        let legacy = entries.filter(|e| one_of(e.value(2), &["UpperFilters", "LowerFilters"]));
        told(legacy, 2)
    };
    44 Some(2501), "install/inf-addfilter-directive", "the filter is a service of this INF" => |inf| {
        let foreign = inf.directives(".Filters", "AddFilter").into_iter().filter(|e| !is_service(inf, e.value(0)));
        told(foreign, 0)
    };
    45 Some(1083), "install/inf-addfilter-directive", "AddFilter has no flags" => |inf| {
        let flags = inf.directives(".Filters", "AddFilter").into_iter().filter(|e| !one_of(e.value(1), &["", "0"]));
        told(flags, 1)
    };
    46 Some(1087), "install/inf-addfilter-directive", "a filter has a position or a level, not both" => |inf| {
        let has = |section, key| usize::from(inf.all(section, key).next().is_some());
        let wrong = filters(inf).filter(|(_, s)| inf.has(s) && has(s, "FilterPosition") + has(s, "FilterLevel") != 1);
        wrong.map(|(line, section)| (line, section.to_owned())).collect()
    };
    47 Some(1081), "install/inf-addfilter-directive", "FilterPosition is Upper or Lower" => |inf| {
        let positions = filters(inf).flat_map(|(_, section)| inf.all(section, "FilterPosition"));
        let wrong = positions.filter(|e| !one_of(e.value(0), &["Upper", "Lower"]));
        told(wrong, 0)
    };
    48 None, "wdf/specifying-wdf-directives-in-inf-files", "KmdfService names a service of this INF" => |inf| {
        let foreign = inf.directives(".Wdf", "KmdfService").into_iter().filter(|e| !is_service(inf, e.value(0)));
        told(foreign, 0)
    };
    49 Some(1084), "wdf/specifying-wdf-directives-in-inf-files", "a KMDF service says which KMDF it needs" => |inf| {
        let numbers = |v: &str| v.split('.').filter(|part| part.parse::<u32>().is_ok()).count();
        let silent = inf.directives(".Wdf", "KmdfService").into_iter().filter(|e| {
            let version = inf.value(e.value(1), "KmdfLibraryVersion");
            inf.has(e.value(1)) && unknown_token(&version).is_none() && numbers(&version) != 2
        });
        told(silent, 1)
    };
    50 Some(1303), "install/using-a-universal-inf-file", "no co-installer, no class installer" => |inf| {
        let legacy = [".CoInstallers", "ClassInstall32", ".FactDef", ".LogConfigOverride"];
        let sections = inf.sections.iter().filter(|s| legacy.iter().any(|l| ends_with(&s.name, l)));
        sections.map(|s| (s.line, s.name.clone())).collect()
    };
    51 Some(1300), "install/using-a-universal-inf-file", "only directives that add" => |inf| {
        const LEGACY: [&str; 13] = [
            "BitReg", "DelFiles", "DelProperty", "DelReg", "DelService", "Ini2Reg", "LogConfig", "ProfileItems",
            "RegisterDlls", "RenFiles", "UnregisterDlls", "UpdateIniFields", "UpdateInis",
        ];
        let used = all(inf).filter(|(section, e)| *section != "Strings" && one_of(&e.key, &LEGACY));
        used.map(|(_, e)| (e.line, e.key.clone())).collect()
    };
}

/// The class of extension INFs.
const EXTENSION: &str = "{e2f84ce7-8efa-411c-aa69-97454ca4cb57}";

/// The parts of an install section that we know.
const PARTS: [&str; 8] = [
    ".Services",
    ".Filters",
    ".Wdf",
    ".HW",
    ".Events",
    ".Interfaces",
    ".Components",
    ".Software",
];

/// Directives that name sections, and which of their values do; `None`: all of them.
const REFERENCES: [(&str, Option<usize>); 5] = [
    ("AddFilter", Some(2)),
    ("AddReg", None),
    ("AddService", Some(2)),
    ("CopyFiles", None),
    ("KmdfService", Some(1)),
];

/// All entries, each with its section's name.
fn all(inf: &Inf) -> impl Iterator<Item = (&str, &Entry)> {
    inf.sections
        .iter()
        .flat_map(|s| s.entries.iter().map(|e| (&*s.name, e)))
}

/// The names of sections in directives.
fn references(inf: &Inf) -> impl Iterator<Item = (usize, &str)> {
    all(inf).flat_map(|(_, e)| {
        let which = REFERENCES
            .iter()
            .find(|(name, _)| e.is(name))
            .map(|(_, which)| *which);
        let values = e
            .values
            .iter()
            .enumerate()
            .filter(move |(at, _)| which.is_some_and(|w| w.is_none_or(|w| w == *at)));
        // With an @ it is a file.
        values
            .filter(|(_, v)| !v.starts_with('@'))
            .map(|(_, v)| (e.line, &**v))
    })
}

fn dangling(inf: &Inf) -> Found {
    let absent = references(inf).filter(|(_, section)| !inf.has(section));
    absent
        .map(|(line, section)| (line, section.to_owned()))
        .collect()
}

/// Nothing while a name leads nowhere: the section that it meant would seem unused.
fn unused(inf: &Inf) -> Found {
    const ROOTS: [&str; 5] = [
        "Version",
        "Manufacturer",
        "DestinationDirs",
        "SourceDisksNames",
        "SourceDisksFiles",
    ];
    let installs = inf.installs();
    let lost = installs.iter().any(|i| i.section.is_none()) || inf.models().any(|m| !inf.has(&m.1));
    if lost || !dangling(inf).is_empty() {
        return Vec::new();
    }
    let is_used = |name: &str| {
        ROOTS.iter().any(|root| root.eq_ignore_ascii_case(name))
            || first(name).eq_ignore_ascii_case("Strings")
            || ends_with(name, "ClassInstall32")
            || inf.models().any(|m| m.1.eq_ignore_ascii_case(name))
            || installs
                .iter()
                .any(|i| first(name).eq_ignore_ascii_case(&i.name))
            || references(inf).any(|(_, section)| section.eq_ignore_ascii_case(name))
    };
    let idle = inf.sections.iter().filter(|s| !is_used(&s.name));
    idle.map(|s| (s.line, s.name.clone())).collect()
}

/// Entries of the sections that `CopyFiles` names.
fn copied(inf: &Inf) -> impl Iterator<Item = &Entry> {
    let sections = inf
        .directives("", "CopyFiles")
        .into_iter()
        .flat_map(|e| &e.values);
    sections.flat_map(|section| inf.entries(section))
}

/// Service install sections, with the line that leads there.
fn services(inf: &Inf) -> impl Iterator<Item = (usize, &str)> {
    inf.directives(".Services", "AddService")
        .into_iter()
        .map(|e| (e.line, e.value(2)))
}

fn is_service(inf: &Inf, name: &str) -> bool {
    inf.directives(".Services", "AddService")
        .iter()
        .any(|e| e.value(0).eq_ignore_ascii_case(name))
}

/// Filter install sections, with the line that leads there.
fn filters(inf: &Inf) -> impl Iterator<Item = (usize, &str)> {
    inf.directives(".Filters", "AddFilter")
        .into_iter()
        .map(|e| (e.line, e.value(2)))
}

/// Entries of the sections that `AddReg` names; true for those of a service.
fn registry(inf: &Inf) -> impl Iterator<Item = (bool, &Entry)> {
    let of_service = move |name: &str| services(inf).any(|(_, s)| s.eq_ignore_ascii_case(name));
    let sections = all(inf).filter(|(_, e)| e.is("AddReg"));
    let sections = sections.flat_map(move |(from, e)| {
        e.values
            .iter()
            .map(move |section| (of_service(from), section))
    });
    sections.flat_map(|(of_service, section)| inf.entries(section).map(move |e| (of_service, e)))
}

/// The services whose `key` is there and not as it should be.
fn setting(inf: &Inf, key: &'static str, good: fn(u32) -> bool) -> Found {
    let set = services(inf).filter_map(|(_, section)| inf.all(section, key).next());
    let bad = set.filter(|e| !number(&inf.expand(e.value(0))).is_some_and(good));
    told(bad, 0)
}

/// A value of `[Version]` that must be there and good.
fn version(inf: &Inf, key: &str, good: fn(&str) -> bool) -> Found {
    let value = inf.value("Version", key);
    found(!good(&value), line_of(inf, "Version", key), || {
        format!("{key}: {value}")
    })
}

/// A value of `[Version]` that must be good if it is there.
fn present(inf: &Inf, key: &str, good: fn(&str) -> bool) -> Found {
    if inf.all("Version", key).next().is_none() {
        Vec::new()
    } else {
        version(inf, key, good)
    }
}

fn found(bad: bool, line: usize, what: impl FnOnce() -> String) -> Found {
    if bad {
        vec![(line, what())]
    } else {
        Vec::new()
    }
}

fn line_of(inf: &Inf, section: &str, key: &str) -> usize {
    inf.all(section, key).next().map_or(0, |e| e.line)
}

/// The entries, with one value of each.
fn told<'a>(entries: impl IntoIterator<Item = &'a Entry>, value: usize) -> Found {
    let entries = entries.into_iter();
    entries
        .map(|e| (e.line, e.value(value).to_owned()))
        .collect()
}

/// INF files know no case.
fn one_of(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| word.eq_ignore_ascii_case(text))
}

/// What stands before the first dot.
fn first(text: &str) -> &str {
    text.split('.').next().unwrap_or_default()
}

fn ends_with(text: &str, end: &str) -> bool {
    text.to_ascii_lowercase()
        .ends_with(&end.to_ascii_lowercase())
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn is_guid(text: &str) -> bool {
    let inner = text
        .strip_prefix('{')
        .and_then(|t| t.strip_suffix('}'))
        .unwrap_or_default();
    let lengths = inner.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && inner.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

fn is_date(text: &str) -> bool {
    let separated = text.replace('-', "/");
    let parts: Vec<&str> = separated.split('/').collect();
    let numbers: Vec<u32> = parts.iter().filter_map(|p| p.parse().ok()).collect();
    matches!((&parts[..], &numbers[..]), ([m, d, y], [month, day, _])
        if (m.len(), d.len(), y.len()) == (2, 2, 4) && (1..=12).contains(month) && (1..=31).contains(day))
}

fn is_version(text: &str) -> bool {
    let parts: Vec<u32> = text.split('.').filter_map(|p| p.parse().ok()).collect();
    text.split('.').count() == 4
        && parts.len() == 4
        && parts.iter().all(|p| *p < 65_535)
        && parts.iter().any(|p| *p > 0)
}
