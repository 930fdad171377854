//! What the built `resvflt.sys` promises to the Windows loader, whoever built it, for each processor.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod calls;

use calls::{By, indirect};
use object::LittleEndian as LE;
use object::pe::{
    IMAGE_DIRECTORY_ENTRY_LOAD_CONFIG, IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE,
    IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY, IMAGE_DLLCHARACTERISTICS_GUARD_CF,
    IMAGE_DLLCHARACTERISTICS_HIGH_ENTROPY_VA, IMAGE_DLLCHARACTERISTICS_NX_COMPAT,
    IMAGE_FILE_MACHINE_AMD64, IMAGE_FILE_MACHINE_ARM64, IMAGE_GUARD_CF_FUNCTION_TABLE_PRESENT,
    IMAGE_GUARD_CF_INSTRUMENTED, IMAGE_SCN_MEM_EXECUTE, IMAGE_SCN_MEM_WRITE,
    IMAGE_SUBSYSTEM_NATIVE, ImageLoadConfigDirectory64, RT_VERSION,
};
use object::read::pe::{ImageNtHeaders, ImageOptionalHeader, PeFile64};
use object::{Object, ObjectSection};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Imports that Server 2016 (Windows 10 1607) has, with the Windows that brought each: "req.target-min-winverclnt" of
/// Microsoft's DDI pages (windows-driver-docs-ddi). The C runtime's functions and the exception handler have no page
/// there; x64 kernels export them since the first one. That ARM64's export them too is supposed, not read anywhere.
const SERVER_2016: [(&str, &str, &str); 22] = [
    ("ntoskrnl.exe", "DbgPrint", "2000"),
    ("ntoskrnl.exe", "EtwProviderEnabled", "Vista"),
    ("ntoskrnl.exe", "EtwRegister", "Vista"),
    ("ntoskrnl.exe", "EtwSetInformation", "10"),
    ("ntoskrnl.exe", "EtwUnregister", "Vista"),
    ("ntoskrnl.exe", "EtwWriteTransfer", "Vista"),
    ("ntoskrnl.exe", "ExAcquireRundownProtection", "XP"),
    ("ntoskrnl.exe", "ExInitializeRundownProtection", "XP"),
    ("ntoskrnl.exe", "ExReleaseRundownProtection", "XP"),
    ("ntoskrnl.exe", "ExWaitForRundownProtectionRelease", "XP"),
    ("ntoskrnl.exe", "IoInvalidateDeviceRelations", "2000"),
    ("ntoskrnl.exe", "IofCallDriver", "2000"),
    ("ntoskrnl.exe", "IofCompleteRequest", "2000"),
    ("ntoskrnl.exe", "KeBugCheckEx", "2000"),
    ("ntoskrnl.exe", "KeQueryInterruptTimePrecise", "8.1"),
    ("ntoskrnl.exe", "RtlCopyUnicodeString", "2000"),
    ("ntoskrnl.exe", "memcmp", "x64"),
    ("ntoskrnl.exe", "memcpy", "x64"),
    ("ntoskrnl.exe", "memmove", "x64"),
    ("ntoskrnl.exe", "memset", "x64"),
    ("WDFLDR.SYS", "WdfVersionBind", "KMDF 1.0"),
    ("WDFLDR.SYS", "WdfVersionUnbind", "KMDF 1.0"),
];

/// KMDF 1.15's function table (`kmdf-abi.json`).
const KMDF_1_15_FUNCTIONS: u32 = 444;

/// An image, as a file and read.
struct Built {
    machine: u16,
    path: PathBuf,
    bytes: Vec<u8>,
}

/// Machine, its image below the target folder, and the variable that may name another.
const IMAGES: [(u16, &str, &str); 2] = [
    (
        IMAGE_FILE_MACHINE_AMD64,
        "package/resvflt.sys",
        "RESVFLT_SYS",
    ),
    (
        IMAGE_FILE_MACHINE_ARM64,
        "package-arm64/resvflt.sys",
        "RESVFLT_ARM64_SYS",
    ),
];

/// Both of them: what is promised for one is promised for the other.
fn images() -> [Built; 2] {
    IMAGES.map(|(machine, name, variable)| {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
        let built = || target.join(name);
        let path = std::env::var_os(variable).map_or_else(built, PathBuf::from);
        let bytes = fs::read(&path).unwrap_or_else(|error| {
            panic!(
                "{}: {error}: cargo xtask build [--arch arm64] makes it",
                path.display()
            )
        });
        Built {
            machine,
            path,
            bytes,
        }
    })
}

/// Slot in the import table, by function.
fn imports(image: &PeFile64) -> BTreeMap<(String, String), u32> {
    let table = image.import_table().unwrap().unwrap();
    let mut found = BTreeMap::new();
    let mut libraries = table.descriptors().unwrap();
    while let Some(library) = libraries.next().unwrap() {
        let name = String::from_utf8_lossy(table.name(library.name.get(LE)).unwrap()).into_owned();
        let mut slot = library.first_thunk.get(LE);
        let mut thunks = table.thunks(library.original_first_thunk.get(LE)).unwrap();
        while let Some(thunk) = thunks.next::<object::pe::ImageNtHeaders64>().unwrap() {
            let (_, function) = table
                .hint_name(u32::try_from(thunk.0.get(LE)).unwrap())
                .unwrap();
            found.insert(
                (name.clone(), String::from_utf8_lossy(function).into_owned()),
                slot,
            );
            slot += 8;
        }
    }
    found
}

#[test]
fn it_is_a_native_driver_for_its_machine_that_demands_a_signature() {
    for built in images() {
        let bytes = &built.bytes;
        let image = PeFile64::parse(&**bytes).unwrap();
        let header = image.nt_headers();
        assert_eq!(header.file_header().machine.get(LE), built.machine);
        assert_eq!(header.optional_header().subsystem(), IMAGE_SUBSYSTEM_NATIVE);
        let header = header.optional_header();
        let wanted = IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE
            | IMAGE_DLLCHARACTERISTICS_HIGH_ENTROPY_VA
            | IMAGE_DLLCHARACTERISTICS_NX_COMPAT
            | IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY
            | IMAGE_DLLCHARACTERISTICS_GUARD_CF;
        assert_eq!(header.dll_characteristics(), wanted);
        assert_eq!(
            (
                header.major_subsystem_version(),
                header.major_operating_system_version()
            ),
            (10, 10)
        );
    }
}

#[test]
fn it_imports_only_what_server_2016_has_and_no_allocator() {
    for built in images() {
        let bytes = &built.bytes;
        for (library, function) in imports(&PeFile64::parse(&**bytes).unwrap()).keys() {
            assert!(
                SERVER_2016
                    .iter()
                    .any(|(l, f, _)| l == library && f == function),
                "{library}: {function}"
            );
            assert!(!function.starts_with("ExAllocatePool"), "{function}");
        }
    }
}

/// Memory integrity (HVCI) loads no other: driversecurity/implement-hvci-compatible-code of Microsoft's driver
/// documentation.
#[test]
fn no_section_is_both_writable_and_executable_and_each_has_its_own_pages() {
    for built in images() {
        let bytes = &built.bytes;
        let image = PeFile64::parse(&**bytes).unwrap();
        let alignment = image.nt_headers().optional_header().section_alignment();
        assert_eq!(alignment % 4096, 0);
        let both = IMAGE_SCN_MEM_EXECUTE | IMAGE_SCN_MEM_WRITE;
        for section in image.sections() {
            let object::SectionFlags::Coff { characteristics } = section.flags() else {
                panic!("a PE section")
            };
            assert_ne!(characteristics & both, both, "{}", section.name().unwrap());
        }
    }
}

/// The PE checksum: 16-bit one's complement sum of the file, its own field taken as zero, plus the file's length.
fn checksum(bytes: &[u8], field: usize) -> u32 {
    let mut sum = 0_u32;
    for (at, word) in bytes.chunks(2).enumerate() {
        let word = u32::from(word[0]) | u32::from(*word.get(1).unwrap_or(&0)) << 8;
        sum += if (field..field + 4).contains(&(2 * at)) {
            0
        } else {
            word
        };
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum + u32::try_from(bytes.len()).unwrap()
}

#[test]
fn its_checksum_is_right() {
    for built in images() {
        let bytes = &built.bytes;
        let image = PeFile64::parse(&**bytes).unwrap();
        // Into the NT headers: signature 4, file header 20, CheckSum at 64 of the optional header.
        let field = usize::try_from(image.dos_header().e_lfanew.get(LE)).unwrap() + 4 + 20 + 64;
        let stored = u32::from_le_bytes(bytes[field..field + 4].try_into().unwrap());
        assert_eq!(stored, checksum(bytes, field));
        let mut damaged = bytes.clone();
        damaged[field + 100] ^= 1;
        assert_ne!(
            stored,
            checksum(&damaged, field),
            "a flipped bit changes the checksum"
        );
    }
}

/// From the unwind table: a function's address and the next one's. An entry has three words on x64, two on ARM64.
fn next_function(image: &PeFile64, start: u32) -> u32 {
    let pdata = image.section_by_name(".pdata").unwrap().data().unwrap();
    let x64 = image.nt_headers().file_header().machine.get(LE) == IMAGE_FILE_MACHINE_AMD64;
    let starts = pdata
        .chunks_exact(if x64 { 12 } else { 8 })
        .map(|entry| u32::from_le_bytes(entry[..4].try_into().unwrap()))
        .collect::<Vec<_>>();
    let at = starts
        .iter()
        .position(|s| *s == start)
        .expect("unwind data");
    starts[at + 1]
}

/// The entry stub binds the framework, then calls the driver; the driver's own `DriverEntry` does not bind.
#[test]
fn its_entry_point_is_the_stub_that_binds_the_framework() {
    for built in images() {
        let image = PeFile64::parse(&*built.bytes).unwrap();
        let entry = image
            .nt_headers()
            .optional_header()
            .address_of_entry_point();
        let end = next_function(&image, entry);
        let bind = imports(&image)[&("WDFLDR.SYS".to_owned(), "WdfVersionBind".to_owned())];
        let base = image.relative_address_base();
        let text = image.section_by_name(".text").unwrap();
        let address = base + u64::from(entry);
        let code = text
            .data_range(address, u64::from(end - entry))
            .unwrap()
            .unwrap();
        let calls = indirect(built.machine, code, address, 0);
        let slot = By::Slot(base + u64::from(bind));
        assert!(
            calls.iter().any(|(_, by)| *by == slot),
            "FxDriverEntry calls WdfVersionBind"
        );
    }
}

#[test]
fn it_binds_to_kmdf_1_15() {
    for built in images() {
        let bytes = &built.bytes;
        let image = PeFile64::parse(&**bytes).unwrap();
        let data = image.section_by_name(".data").unwrap();
        let data = data.data().unwrap();
        // WDF_BIND_INFO: Size 0, Component 8, Version 16, FuncCount 28, FuncTable 32, Module 40.
        let versions = data
            .windows(48)
            .step_by(8)
            .filter(|w| w[..4] == 48_u32.to_le_bytes());
        let fields = |w: &[u8]| {
            [16, 20, 24, 28].map(|at| u32::from_le_bytes(w[at..at + 4].try_into().unwrap()))
        };
        let found: Vec<_> = versions.map(fields).filter(|f| f[0] == 1).collect();
        assert_eq!(found, [[1, 15, 0, KMDF_1_15_FUNCTIONS]]);
        let component: Vec<u8> = "KmdfLibrary\0"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        assert!(bytes.windows(component.len()).any(|w| w == component));
    }
}

/// Text of at least six characters, in bytes or in UTF-16.
fn texts(bytes: &[u8]) -> Vec<String> {
    let printable = |b: &u8| (0x20..0x7f).contains(b);
    let narrow = bytes.split(|b| !printable(b)).map(<[u8]>::to_vec);
    let wide = [0, 1].into_iter().flat_map(|odd| {
        let units: Vec<u8> = bytes[odd..]
            .chunks_exact(2)
            .map(|u| if u[1] == 0 { u[0] } else { 0 })
            .collect();
        units
            .split(|b| !printable(b))
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
    });
    narrow
        .chain(wide)
        .filter(|t| t.len() >= 6)
        .map(|t| String::from_utf8(t).unwrap())
        .collect()
}

#[test]
fn no_folder_of_the_building_machine_is_in_it_or_its_symbols() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap();
    let local = [
        root.to_str().unwrap(),
        env!("CARGO"),
        "/home/",
        "/root/",
        "/tmp/",
        "/Users/",
        ":\\",
    ];
    for built in images() {
        for file in [built.path.clone(), built.path.with_extension("pdb")] {
            for text in texts(&fs::read(&file).unwrap()) {
                assert!(
                    !local.iter().any(|l| text.contains(l)),
                    "{}: {text}",
                    file.display()
                );
            }
        }
        let image = PeFile64::parse(&*built.bytes).unwrap();
        let symbols = image.pdb_info().unwrap().unwrap();
        assert_eq!(symbols.path(), b"resvflt.pdb");
    }
}

/// Every `panic!`, failed index or overflow check names its source file; an image without such a name has no way to
/// panic left.
#[test]
fn nothing_in_it_can_panic() {
    for built in images() {
        let sources: Vec<_> = texts(&built.bytes)
            .into_iter()
            .filter(|t| t.replace(".rsrc", "").contains(".rs"))
            .collect();
        assert_eq!(sources, Vec::<String>::new());
    }
}

/// A `VS_VERSIONINFO` structure, or one of those in it: key, value's bytes, children's bytes.
fn version_node(bytes: &[u8]) -> (usize, String, &[u8], &[u8]) {
    let word = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let (length, mut count, kind) = (word(0), word(2), word(4));
    if kind == 1 {
        count *= 2; // of text, its length is in characters
    }
    let units = (6..length)
        .step_by(2)
        .map(|at| u16::try_from(word(at)).unwrap());
    let key: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    let value = (6 + 2 * (key.len() + 1)).next_multiple_of(4);
    let children = (value + count).next_multiple_of(4).min(length);
    let key = String::from_utf16(&key).unwrap();
    (
        length,
        key,
        &bytes[value..value + count],
        &bytes[children..length],
    )
}

/// Nodes one behind the other.
fn version_nodes(mut bytes: &[u8]) -> Vec<(String, &[u8], &[u8])> {
    let mut nodes = Vec::new();
    while !bytes.is_empty() {
        let (length, key, value, children) = version_node(bytes);
        nodes.push((key, value, children));
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    nodes
}

#[test]
fn its_version_resource_says_who_made_it_and_which_version_it_is() {
    for built in images() {
        let bytes = &built.bytes;
        let image = PeFile64::parse(&**bytes).unwrap();
        let sections = image.section_table();
        let directory = image.data_directories();
        let directory = directory
            .resource_directory(image.data(), &sections)
            .unwrap()
            .unwrap();
        let types = directory.root().unwrap().entries;
        let version = types
            .iter()
            .find(|e| e.name_or_id().id() == Some(RT_VERSION))
            .unwrap();
        let names = version.data(directory).unwrap().table().unwrap().entries;
        let languages = names[0].data(directory).unwrap().table().unwrap().entries;
        let entry = languages[0].data(directory).unwrap().data().unwrap();
        let at = entry.offset_to_data.get(LE);
        let info = sections.pe_data_at(image.data(), at).unwrap();
        let info = &info[..usize::try_from(entry.size.get(LE)).unwrap()];
        assert_eq!(languages[0].name_or_id().id(), Some(0x0409));

        let (_, key, fixed, children) = version_node(info);
        assert_eq!(key, "VS_VERSION_INFO");
        let part = |text: &str| text.parse::<u32>().unwrap();
        let [major, minor, patch] = [
            env!("CARGO_PKG_VERSION_MAJOR"),
            env!("CARGO_PKG_VERSION_MINOR"),
            env!("CARGO_PKG_VERSION_PATCH"),
        ]
        .map(part);
        let (high, low) = (major << 16 | minor, patch << 16);
        // VS_FIXEDFILEINFO: VOS_NT_WINDOWS32, VFT_DRV, VFT2_DRV_SYSTEM.
        let wanted = [
            0xFEEF_04BD,
            0x1_0000,
            high,
            low,
            high,
            low,
            0x3F,
            0,
            0x4_0004,
            3,
            7,
            0,
            0,
        ];
        assert_eq!(fixed, wanted.map(u32::to_le_bytes).concat());

        let files = version_nodes(children);
        assert_eq!(
            [&*files[0].0, &*files[1].0],
            ["StringFileInfo", "VarFileInfo"]
        );
        let tables = version_nodes(files[0].2);
        assert_eq!(tables[0].0, "040904b0");
        let text = |value: &[u8]| {
            let units: Vec<_> = value
                .chunks(2)
                .map(|u| u16::from_le_bytes([u[0], u[1]]))
                .collect();
            String::from_utf16(&units).unwrap()
        };
        let strings: Vec<_> = version_nodes(tables[0].2)
            .into_iter()
            .map(|(key, value, _)| (key, text(value)))
            .collect();
        let version = format!("{major}.{minor}.{patch}.0\0");
        let wanted = [
            ("CompanyName", "resvflt project\0"),
            (
                "FileDescription",
                "Disk filter driver that turns IOCTL_STORAGE_RESERVE into SCSI RESERVE(6)\0",
            ),
            ("FileVersion", &version),
            ("InternalName", "resvflt.sys\0"),
            ("LegalCopyright", "The resvflt authors. MIT OR Apache-2.0\0"),
            ("OriginalFilename", "resvflt.sys\0"),
            ("ProductName", "resvflt\0"),
            ("ProductVersion", &version),
        ];
        assert_eq!(
            strings,
            wanted.map(|(key, text)| (key.to_owned(), text.to_owned()))
        );
        let variables = version_nodes(files[1].2);
        assert_eq!(
            (&*variables[0].0, variables[0].1),
            ("Translation", &[0x09, 0x04, 0xB0, 0x04][..])
        );
    }
}

/// MSF 7.0, the PDB's container (LLVM's documentation, "The MSF File Format"): the bytes of stream 1, "The PDB Info
/// Stream".
fn pdb_info(pdb: &[u8]) -> Vec<u8> {
    let word = |bytes: &[u8], at: usize| {
        usize::try_from(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())).unwrap()
    };
    assert!(pdb.starts_with(b"Microsoft C/C++ MSF 7.00\r\n\x1ADS\0\0\0"));
    let size = word(pdb, 32);
    let blocks = |count: usize| count.div_ceil(size);
    let join = |list: &[u8], bytes: usize| {
        let blocks = (0..blocks(bytes)).map(|at| word(list, 4 * at) * size);
        let mut joined: Vec<u8> = blocks
            .flat_map(|start| &pdb[start..start + size])
            .copied()
            .collect();
        joined.truncate(bytes);
        joined
    };
    let directory = join(&pdb[word(pdb, 52) * size..], word(pdb, 44));
    let streams = word(&directory, 0);
    let old = blocks(word(&directory, 4));
    join(&directory[4 + 4 * streams + 4 * old..], word(&directory, 8))
}

#[test]
fn its_symbols_are_those_of_this_very_image() {
    for built in images() {
        let bytes = &built.bytes;
        let image = PeFile64::parse(&**bytes).unwrap();
        let record = image.pdb_info().unwrap().unwrap();
        let info = pdb_info(&fs::read(built.path.with_extension("pdb")).unwrap());
        // Version, signature, age, GUID.
        let age = u32::from_le_bytes(info[8..12].try_into().unwrap());
        assert_eq!(
            (record.age(), record.guid()),
            (age, info[12..28].try_into().unwrap())
        );
    }
}

/// `tests/kit/stub/guard-*.S`, or the WDK's library, and what lld-link puts into it.
#[test]
fn control_flow_guard_knows_its_functions_and_checks_every_indirect_call() {
    for built in images() {
        guarded(&built);
    }
}

type Code = &'static [u8];

/// What a kernel that does not enforce the guard leaves in its slots: the check's code, and the dispatch's, which ARM64
/// has none of.
const UNENFORCED: [(u16, Code, Option<Code>); 2] = [
    (IMAGE_FILE_MACHINE_AMD64, b"\xC3", Some(b"\xFF\xE0")), // ret; jmp rax
    (IMAGE_FILE_MACHINE_ARM64, b"\xC0\x03\x5F\xD6", None),  // ret
];

fn guarded(built: &Built) {
    let image = PeFile64::parse(&*built.bytes).unwrap();
    let sections = image.section_table();
    let base = image.relative_address_base();
    let directory = image
        .data_directory(IMAGE_DIRECTORY_ENTRY_LOAD_CONFIG)
        .unwrap();
    let config = directory.data(image.data(), &sections).unwrap();
    let field = |offset: usize| u64::from_le_bytes(config[offset..offset + 8].try_into().unwrap());
    macro_rules! field {
        ($name:ident) => {
            field(std::mem::offset_of!(ImageLoadConfigDirectory64, $name))
        };
    }
    let at = |address: u64| {
        sections
            .pe_data_at(image.data(), u32::try_from(address - base).unwrap())
            .unwrap()
    };
    let pointer = |address: u64| u64::from_le_bytes(at(address)[..8].try_into().unwrap());

    let flags = u32::try_from(field!(guard_flags) & 0xFFFF_FFFF).unwrap();
    let wanted = IMAGE_GUARD_CF_INSTRUMENTED | IMAGE_GUARD_CF_FUNCTION_TABLE_PRESENT;
    assert_eq!(flags & wanted, wanted);
    let stride = 4 + usize::try_from(flags >> 28).unwrap();
    let count = usize::try_from(field!(guard_cf_function_count)).unwrap();
    let table: Vec<u32> = at(field!(guard_cf_function_table))[..stride * count]
        .chunks(stride)
        .map(|entry| u32::from_le_bytes(entry[..4].try_into().unwrap()))
        .collect();
    assert!(table.is_sorted() && count >= 10, "{table:x?}");
    let text = image.section_by_name(".text").unwrap();
    let code = text.address() - base..text.address() - base + text.size();
    assert!(
        table
            .iter()
            .all(|target| code.contains(&u64::from(*target)))
    );
    let entry = image
        .nt_headers()
        .optional_header()
        .address_of_entry_point();
    assert!(table.contains(&entry), "the entry point is a target");

    // None of what the slots lead to is a target.
    let (check, dispatch) = (
        field!(guard_cf_check_function_pointer),
        field!(guard_cf_dispatch_function_pointer),
    );
    let (_, checks, dispatches) = UNENFORCED.iter().find(|u| u.0 == built.machine).unwrap();
    assert_eq!(dispatch != 0, dispatches.is_some());
    let slots = [(check, Some(*checks)), (dispatch, *dispatches)];
    for (slot, code) in slots
        .into_iter()
        .filter_map(|(slot, code)| Some((slot, code?)))
    {
        let section = image
            .sections()
            .find(|s| (s.address()..s.address() + s.size()).contains(&slot))
            .unwrap();
        assert_eq!(
            section.name(),
            Ok(".rdata"),
            "nobody but the loader writes it"
        );
        assert!(at(pointer(slot)).starts_with(code));
        assert!(!table.contains(&u32::try_from(pointer(slot) - base).unwrap()));
    }

    // What is called stands in a slot at a fixed place, an import or the guard's own, or was checked.
    let imports = imports(&image).into_values();
    let fixed: Vec<u64> = imports
        .map(|slot| base + u64::from(slot))
        .chain([check, dispatch])
        .collect();
    let mut through_the_guard = 0;
    for (address, by) in indirect(built.machine, text.data().unwrap(), text.address(), check) {
        let known = match by {
            By::Checked => true,
            By::Slot(slot) => fixed.contains(&slot),
            By::Unknown => false,
        };
        assert!(known, "{address:x}: an unchecked call by {by:x?}");
        through_the_guard += u32::from(by == By::Checked || by == By::Slot(dispatch));
    }
    assert!(through_the_guard > 40, "{through_the_guard}");
}
