//! Every figure that the kit declares is Microsoft's: KMDF's against `kmdf-abi.json`, read off the published headers,
//! NT's and SCSI's against `windows-sys`, made from Microsoft's metadata.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod figures;
mod windows;

use figures::{Figures, Headers};
use open_kit::Architecture;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const MINORS: [&str; 2] = ["15", "33"];

/// Handles are pointers to structures that nobody defines but the compiler's wish to tell them apart.
fn is_handle(tag: &str) -> bool {
    tag.starts_with("WDF") && tag.ends_with("__")
}

fn facts(minor: &str) -> Value {
    let facts: Value = serde_json::from_str(include_str!("../kmdf-abi.json")).unwrap();
    facts[format!("1.{minor}")].clone()
}

/// Where the kit's KMDF differs from the facts, in words.
fn kmdf_differences(kit: &Figures, facts: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (tag, record) in kit
        .records
        .iter()
        .filter(|(tag, _)| tag.starts_with("_WDF"))
    {
        let fact = &facts["records"][tag];
        if fact["size"] != record.size || fact["align"] != record.align {
            found.push(format!(
                "{tag}: {} bytes, aligned to {}",
                record.size, record.align
            ));
        }
        let top: BTreeMap<_, _> = record
            .fields
            .iter()
            .filter(|(path, _)| !path.contains('.'))
            .collect();
        if serde_json::to_value(&top).unwrap() != fact["fields"] {
            found.push(format!("{tag}: {top:?}, not {}", fact["fields"]));
        }
    }
    let indices: BTreeMap<_, _> = kit
        .enumerators
        .iter()
        .filter_map(|(name, index)| Some((name.strip_suffix("TableIndex")?, index)))
        .collect();
    for (name, index) in &indices {
        if facts["function_index"][name] != **index {
            found.push(format!("{name}: index {index}"));
        }
    }
    if facts["function_count"] != kit.enumerators["WdfFunctionTableNumEntries"] {
        found.push("the number of functions".to_owned());
    }
    let named: BTreeSet<_> = indices.keys().map(|name| name.to_uppercase()).collect();
    for name in named.symmetric_difference(&kit.prototypes.iter().cloned().collect()) {
        found.push(format!("{name} has an index or a prototype, not both"));
    }
    let known: BTreeMap<_, _> = facts["enumerators"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|e| e.as_object().unwrap())
        .collect();
    for (name, value) in kit
        .enumerators
        .iter()
        .filter(|(name, _)| name.to_uppercase().starts_with("WDF"))
    {
        let in_table = name.ends_with("TableIndex") || name == "WdfFunctionTableNumEntries";
        if !in_table && known.get(name).is_none_or(|fact| **fact != *value) {
            found.push(format!("{name} = {value}"));
        }
    }
    found
}

/// wdm.h aligns these to `MEMORY_ALLOCATION_ALIGNMENT`; the metadata does not say so.
const ALIGNED_TO_16: [&str; 2] = ["_DEVICE_OBJECT", "_IRP"];

/// Where wdm.h's `POINTER_ALIGNMENT`, which the metadata lacks too, puts fields of `_IO_STACK_LOCATION`: Microsoft's page
/// on the structure has it on the first two, and each takes a pointer's room.
const POINTER_ALIGNED: [(&str, u64); 3] = [
    ("Parameters.DeviceIoControl.InputBufferLength", 16),
    ("Parameters.DeviceIoControl.IoControlCode", 24),
    ("Parameters.DeviceIoControl.Type3InputBuffer", 32),
];

/// Declared by the kit, not by `windows-sys`: `LARGE_INTEGER` is `i64` there, and of wdm.h's run-down protection and srb.h's
/// request blocks it has nothing. The driver reads request blocks that the rig lays out by Microsoft's pages
/// (tests/rig/src/srb.rs), so that the two agree.
const NOT_IN_WINDOWS_SYS: [&str; 6] = [
    "_LARGE_INTEGER",
    "_EX_RUNDOWN_REF",
    "_SCSI_REQUEST_BLOCK",
    "_STORAGE_REQUEST_BLOCK",
    "_SRBEX_DATA_SCSI_CDB16",
    "_SRBEX_DATA_SCSI_CDB_VAR",
];

/// The same of enumerators: Microsoft's page on `SRBEXDATATYPE`.
const ENUMERATORS_ELSEWHERE: [(&str, i64); 5] = [
    ("SrbExDataTypeUnknown", 0),
    ("SrbExDataTypeBidirectional", 1),
    ("SrbExDataTypeScsiCdb16", 0x40),
    ("SrbExDataTypeScsiCdb32", 0x41),
    ("SrbExDataTypeScsiCdbVar", 0x42),
];

/// Constants that `windows-sys` has not, as MinGW-w64's wdm.h and srb.h have them (`ddk/`); the last, which is newer, as
/// Microsoft's page on `STORAGE_REQUEST_BLOCK`.
const CONSTANTS_ELSEWHERE: [(&str, i64); 9] = [
    ("SL_PENDING_RETURNED", 0x01),
    ("SL_INVOKE_ON_CANCEL", 0x20),
    ("SL_INVOKE_ON_SUCCESS", 0x40),
    ("SL_INVOKE_ON_ERROR", 0x80),
    ("SRB_FUNCTION_EXECUTE_SCSI", 0x00),
    ("SRB_FUNCTION_RESET_BUS", 0x12),
    ("SRB_FUNCTION_RESET_DEVICE", 0x13),
    ("SRB_FUNCTION_RESET_LOGICAL_UNIT", 0x20),
    ("SRB_FUNCTION_STORAGE_REQUEST_BLOCK", 0x28),
];

/// Where the kit's NT differs from Microsoft's metadata, in words.
fn nt_differences(kit: &Figures) -> Vec<String> {
    let mut found = Vec::new();
    let mut records = windows::records();
    for tag in ALIGNED_TO_16 {
        let record = records.get_mut(tag).unwrap();
        (record.size, record.align) = (record.size.next_multiple_of(16), 16);
    }
    let location = records.get_mut("_IO_STACK_LOCATION").unwrap();
    location
        .fields
        .extend(POINTER_ALIGNED.map(|(path, offset)| (path.to_owned(), offset)));
    for (tag, record) in &kit.records {
        let explained =
            tag.starts_with("_WDF") || is_handle(tag) || NOT_IN_WINDOWS_SYS.contains(&tag.as_str());
        if !explained && records.get(tag.as_str()) != Some(record) {
            found.push(format!(
                "{tag}: {record:?}, not {:?}",
                records.get(tag.as_str())
            ));
        }
    }
    let mut constants = windows::constants();
    constants.extend(CONSTANTS_ELSEWHERE);
    for (name, value) in &kit.constants {
        if constants
            .get(name.as_str())
            .is_none_or(|c| *c != i64::try_from(*value).unwrap())
        {
            found.push(format!("{name} = {value}"));
        }
    }
    let mut enumerators = windows::enumerators();
    enumerators.extend(ENUMERATORS_ELSEWHERE);
    for (name, value) in kit
        .enumerators
        .iter()
        .filter(|(name, _)| !name.to_uppercase().starts_with("WDF"))
    {
        // The metadata's DEVICE_REGISTRY_PROPERTY has the type of the value in bits 12 to 14, which wdm.h sets for
        // its code analysis only.
        let mask = if name.starts_with("DeviceProperty") {
            0xfff
        } else {
            -1
        };
        if enumerators
            .get(name.as_str())
            .is_none_or(|e| e & mask != *value)
        {
            found.push(format!("{name} = {value}"));
        }
    }
    found
}

#[test]
fn kmdf_is_declared_as_in_microsofts_headers() {
    for minor in MINORS {
        let kit = Headers::of_the_kit().figures(minor);
        assert!(
            kit.prototypes.len() > 40 && kit.records.len() > 40,
            "the figures were read"
        );
        assert_eq!(
            kmdf_differences(&kit, &facts(minor)),
            Vec::<String>::new(),
            "KMDF 1.{minor}"
        );
    }
}

/// So the checks of x64's figures are ARM64's too. Both are LLP64 and align alike; nothing that is declared here is the
/// processor's own.
#[test]
fn arm64_has_the_figures_of_x64() {
    for minor in MINORS {
        let of = |architecture| Headers::of_the_kit().figures_on(architecture, minor);
        assert_eq!(of(Architecture::Arm64), of(Architecture::Amd64));
    }
}

#[test]
fn nt_and_scsi_are_declared_as_in_microsofts_metadata() {
    let kit = Headers::of_the_kit().figures("15");
    assert!(kit.constants.len() > 30, "the constants were read");
    assert_eq!(nt_differences(&kit), Vec::<String>::new());
}

#[test]
fn a_planted_error_is_found() {
    for (old, new, finding) in [
        (
            "WdfRequestReuseTableIndex = 249",
            "WdfRequestReuseTableIndex = 250",
            "WdfRequestReuse: index 250",
        ),
        (
            "WdfFunctionTableNumEntries = 444",
            "WdfFunctionTableNumEntries = 443",
            "the number of functions",
        ),
        (
            "typedef BOOLEAN (*PFN_WDFTIMERSTOP)",
            "typedef BOOLEAN (*PFN_WDFTIMERHALT)",
            "WDFTIMERHALT has an index",
        ),
        (
            "NTSTATUS Status;\n    PIRP NewIrp;",
            "PIRP NewIrp;\n    NTSTATUS Status;",
            "_WDF_REQUEST_REUSE_PARAMS: {",
        ),
        (
            "ULONG Flags;\n    LONGLONG Timeout;",
            "ULONG Flags;\n    LONG Timeout;",
            "_WDF_REQUEST_SEND_OPTIONS: 12 bytes",
        ),
        (
            "size_t BufferLength;",
            "size_t Length;",
            "_WDFMEMORY_OFFSET: {",
        ),
        (
            "WdfIoQueueDispatchParallel,",
            "WdfIoQueueDispatchParallel = 4,",
            "WdfIoQueueDispatchParallel = 4",
        ),
        (
            "WdfIoQueueDriverNoRequests = 0x8,",
            "WdfIoQueueDriverNoRequests = 0x10,",
            "WdfIoQueueDriverNoRequests = 16",
        ),
        (
            "typedef struct _WDFMEMORY_OFFSET {",
            "typedef struct _WDF_NEW { int a; } WDF_NEW;\ntypedef struct _WDFMEMORY_OFFSET {",
            "_WDF_NEW: 4 bytes",
        ),
        (
            "BOOLEAN Cancel;\n    KIRQL CancelIrql;",
            "KIRQL CancelIrql;\n    BOOLEAN Cancel;",
            "_IRP: ",
        ),
        (
            "ULONG POINTER_ALIGNMENT InputBufferLength",
            "ULONG InputBufferLength",
            "_IO_STACK_LOCATION: ",
        ),
        ("struct __declspec(align(16)) _IRP", "struct _IRP", "_IRP: "),
        (
            "#define IRP_MJ_PNP 0x1b",
            "#define IRP_MJ_PNP 0x1c",
            "IRP_MJ_PNP = 28",
        ),
        (
            "#define IRP_MN_SCSI_CLASS 0x01",
            "#define IRP_MN_SCSI_CLASS 0x01\n#define NEW 1",
            "NEW = 1",
        ),
        (
            "DevicePropertyClassGuid = 0x6",
            "DevicePropertyClassGuid = 0x20",
            "DevicePropertyClassGuid = 32",
        ),
        (
            "UCHAR SenseInfoLength;\n",
            "ULONG SenseInfoLength;\n",
            "_SCSI_PASS_THROUGH: ",
        ),
    ] {
        let kit = Headers::of_the_kit().with(old, new).figures("15");
        let found = [kmdf_differences(&kit, &facts("15")), nt_differences(&kit)].concat();
        assert!(
            found.iter().any(|f| f.starts_with(finding)),
            "{new}: {found:?}"
        );
    }
}
