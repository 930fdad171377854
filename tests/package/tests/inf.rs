//! The driver's INF is clean, and each rule finds the one mistake that is planted for it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use driver_package::inf::Inf;
use driver_package::rules::{self, RULES};
use driver_package::stamp::{Date, Stamp};

const INX: &str = include_str!("../../../inf/resvflt.inx");

fn stamp() -> Stamp {
    Stamp {
        architecture: "amd64".to_owned(),
        kmdf: (1, 15),
        catalog: "resvflt.cat".to_owned(),
        date: Date::of_unix_time(1_700_000_000),
        version: [0, 1, 0, 0],
    }
}

fn good() -> String {
    stamp().apply(INX.as_bytes()).unwrap()
}

/// The numbers of the rules that a file breaks.
fn broken(bytes: &[u8]) -> Vec<u32> {
    let mut ids: Vec<_> = rules::broken(&Inf::parse(bytes))
        .map(|(rule, ..)| rule.id)
        .collect();
    ids.dedup();
    ids
}

/// Rule, what stands in the INF, what is put there instead, everywhere.
const MISTAKES: &[(u32, &str, &str)] = &[
    (
        1,
        "resvflt installation disk",
        "Installationsdatentr\u{e4}ger",
    ),
    (
        2,
        "KmdfLibraryVersion = 1.15",
        "KmdfLibraryVersion = $UMDFVERSION$",
    ),
    (3, "$Windows NT$", "$Windows 95$"),
    (
        4,
        "{e2f84ce7-8efa-411c-aa69-97454ca4cb57}",
        "{e2f84ce7-8efa-411c-aa69}",
    ),
    (5, "= Extension", "= DiskDrive"),
    (6, "ExtensionId =", "ComponentId ="),
    (7, "{63c56bc7-", "{zzzzzzzz-"),
    (
        8,
        "ProviderName       = \"resvflt project\"",
        "ProviderName = \"Microsoft Corporation\"",
    ),
    (9, "CatalogFile =", "Catalog ="),
    (10, "resvflt.cat", "resvflt.p7s"),
    (11, "11/14/2023", "2023-11-14"),
    (12, "0.1.0.0", "0.1.0"),
    (13, "PnpLockdown = 1", "PnpLockdown = 0"),
    (14, "NTamd64", "NTmips"),
    (15, "10.0...18362", "10.0.3..18362"),
    (16, "18362", "17763"),
    (17, "= Disks,NTamd64", "= Discs,NTamd64"),
    (18, "= Resvflt_Install,", "= Resvflt_Instal,"),
    (19, ",GenDisk", ""),
    (20, ",,Resvflt_Filter\r", ",,Resvflt_Lower\r"),
    (21, "[Strings]", "[SourceDisksFiles]\r\n[Strings]"),
    (22, "[Strings]", "[Resvflt_Old]\r\n[Strings]"),
    (
        23,
        "[Resvflt_Install.NT.Filters]",
        "[Resvflt_Install.Filters]",
    ),
    (24, "= %DiskName%", "= %DiscName%"),
    (
        25,
        "[Strings]",
        "[Strings.0407]\r\nProviderName = \"resvflt-Projekt\"\r\n[Strings]",
    ),
    (26, "= %ServiceName%", "= \"resvflt\""),
    (27, "DefaultDestDir = 13", "DefaultDestDir = 12"),
    (28, "resvflt.sys = 1", "resvflt.exe = 1"),
    (29, "resvflt.sys = 1", "resvflt.sys = 2"),
    (30, "resvflt.sys = 1", "resvflt.sys = 1\r\nresvflt.cat = 1"),
    (
        31,
        "[Resvflt_Files]\r\nresvflt.sys",
        "[Resvflt_Files]\r\nresvflt.sys,resvflt2.sys",
    ),
    (32, "ErrorControl   = 1", ""),
    (33, "StartType      = 0", "StartType = 0\r\nStartType = 0"),
    (
        34,
        "AddService = resvflt,,",
        "AddService = resvflt,0x00000002,",
    ),
    (35, "ServiceType    = 1", "ServiceType = 0x10"),
    (36, "StartType      = 0", "StartType = 3"),
    (37, "ErrorControl   = 1", "ErrorControl = 3"),
    (38, "\"PnP Filter\"", "WdfLoadGroup"),
    (39, "%13%\\resvflt.sys", "%12%\\resvflt.sys"),
    (
        40,
        "HKR,Parameters,AttachMode",
        "HKLM,Parameters,AttachMode",
    ),
    (41, "HKR,Parameters,AttachMode", "HKR,,AttachMode"),
    (42, "%DWORD_KEPT%,1000", "%DWORD_KEPT%,1s"),
    (
        43,
        "[Strings]",
        "[Resvflt_Install.NT.HW]\r\nAddReg = R\r\n[R]\r\nHKR,,LowerFilters,0x10000,resvflt\r\n[Strings]",
    ),
    (44, "AddFilter = resvflt,", "AddFilter = resvflt2,"),
    (45, "AddFilter = resvflt,,", "AddFilter = resvflt,1,"),
    (
        46,
        "FilterPosition = Lower",
        "FilterPosition = Lower\r\nFilterLevel = Reservation",
    ),
    (47, "FilterPosition = Lower", "FilterPosition = Below"),
    (48, "KmdfService = resvflt,", "KmdfService = resvflt2,"),
    (49, "KmdfLibraryVersion = 1.15", ""),
    (
        50,
        "[Strings]",
        "[Resvflt_Install.NT.CoInstallers]\r\n[Strings]",
    ),
    (
        51,
        "CopyFiles = Resvflt_Files",
        "CopyFiles = Resvflt_Files\r\nDelFiles = Resvflt_Files",
    ),
];

#[test]
fn the_stamped_inf_breaks_no_rule_on_any_processor() {
    for architecture in ["amd64", "arm64"] {
        let stamp = Stamp {
            architecture: architecture.to_owned(),
            ..stamp()
        };
        let inf = stamp.apply(INX.as_bytes()).unwrap();
        assert_eq!(broken(inf.as_bytes()), [0; 0]);
        let models = format!("[Disks.NT{architecture}.10.0...18362]\r\n");
        assert!(inf.contains(&models), "{inf}");
    }
}

#[test]
fn each_rule_and_no_other_finds_its_mistake() {
    let planted = MISTAKES.iter().map(|(id, ..)| *id);
    assert!(
        planted.eq(RULES.iter().map(|rule| rule.id)),
        "each rule has a mistake"
    );
    for (id, old, new) in MISTAKES {
        let good = good();
        assert!(good.contains(old), "rule {id}: {old}");
        assert_eq!(broken(good.replace(old, new).as_bytes()), [*id], "{new}");
    }
}

#[test]
fn utf_16_is_read_as_ascii_is() {
    let units: Vec<u8> = good().encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(broken(&[b"\xFF\xFE", &*units].concat()), [0; 0]);
    assert!(broken(&units).contains(&3), "without a byte order mark");
}

#[test]
fn lines_are_read_by_setupapis_rules() {
    let text = "[A] ; one\r\n\"a;b\" = \"x,y\" , %two% ;three\r\nc = d \\ ; four\r\n , \"say \"\"e\"\"\"\r\nf,,g\n\
                [Strings]\ntwo = 2%%\n";
    let inf = Inf::parse(text.as_bytes());
    let entries: Vec<_> = inf
        .entries("a")
        .map(|e| (e.line, &*e.key, e.values.join("|")))
        .collect();
    let wanted = [
        (2, "a;b", "x,y|%two%"),
        (3, "c", "d|say \"e\""),
        (5, "", "f||g"),
    ];
    assert_eq!(
        entries,
        wanted.map(|(line, key, values)| (line, key, values.to_owned()))
    );
    assert_eq!(inf.expand("%TWO% of %13%, 5%%"), "2%% of %13%, 5%");
}

#[test]
fn the_inx_alone_breaks_what_stamping_mends() {
    assert_eq!(broken(INX.as_bytes()), [2, 9, 11, 14]);
}

#[test]
fn stamping_does_what_stampinf_is_documented_to_do() {
    let inx = "[Version]\nDriverVer = 01/01/2000,9.9.9.9\nSignature = \"$Windows NT$\"\n[x.NT$ARCH$]\n\
               a = $KMDFVERSION$,$KMDFCOINSTALLERVERSION$\nDriverVer = kept\n";
    let inf = "[Version]\r\nDriverVer   = 11/14/2023,0.1.0.0\r\nCatalogFile = resvflt.cat\r\n\
               Signature = \"$Windows NT$\"\r\n\
               [x.NTamd64]\r\na = 1.15,01015\r\nDriverVer = kept\r\n";
    assert_eq!(stamp().apply(inx.as_bytes()).unwrap(), inf);
    assert_eq!(stamp().apply(inf.as_bytes()).unwrap(), inf, "again");
    assert_eq!(
        stamp()
            .apply(b"[Version]\na = $UMDFVERSION$\n")
            .unwrap_err(),
        "$UMDFVERSION$ is not known"
    );
    assert_eq!(
        stamp().apply("[Version]\n; \u{fc}".as_bytes()).unwrap_err(),
        "the .inx is not ASCII"
    );
    assert_eq!(
        stamp().apply(b"[Strings]\n").unwrap_err(),
        "no [Version] section"
    );
}

#[test]
fn days_are_counted_as_the_calendar_does() {
    for (seconds, date) in [
        (0, "01/01/1970"),
        (951_782_399, "02/28/2000"),
        (951_782_400, "02/29/2000"),
        (951_868_800, "03/01/2000"),
        (1_735_689_599, "12/31/2024"),
        (1_767_225_599, "12/31/2025"),
        (4_107_542_400, "03/01/2100"),
    ] {
        assert_eq!(Date::of_unix_time(seconds).to_string(), date, "{seconds}");
    }
}
