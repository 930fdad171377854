//! What the built `resvflt.sys` promises to the Windows loader, whoever built it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use object::LittleEndian as LE;
use object::pe::{
    IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE, IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY,
    IMAGE_DLLCHARACTERISTICS_NX_COMPAT, IMAGE_FILE_MACHINE_AMD64, IMAGE_SCN_MEM_EXECUTE,
    IMAGE_SCN_MEM_WRITE, IMAGE_SUBSYSTEM_NATIVE,
};
use object::read::pe::{ImageNtHeaders, ImageOptionalHeader, PeFile64};
use object::{Object, ObjectSection};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Imports that Server 2016 (Windows 10 1607) has, with the Windows that brought each: "req.target-min-winverclnt" of
/// Microsoft's DDI pages (windows-driver-docs-ddi). The C runtime's functions and the exception handler have no page
/// there; x64 kernels export them since the first one.
const SERVER_2016: [(&str, &str, &str); 16] = [
    ("ntoskrnl.exe", "DbgPrint", "2000"),
    ("ntoskrnl.exe", "EtwProviderEnabled", "Vista"),
    ("ntoskrnl.exe", "EtwRegister", "Vista"),
    ("ntoskrnl.exe", "EtwSetInformation", "10"),
    ("ntoskrnl.exe", "EtwUnregister", "Vista"),
    ("ntoskrnl.exe", "EtwWriteTransfer", "Vista"),
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

fn path() -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/package/resvflt.sys");
    std::env::var_os("RESVFLT_SYS").map_or_else(built, PathBuf::from)
}

fn bytes() -> Vec<u8> {
    fs::read(path()).expect("cargo xtask build makes the image; RESVFLT_SYS may name it")
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
fn it_is_a_native_driver_for_x64_that_demands_a_signature() {
    let bytes = bytes();
    let image = PeFile64::parse(&*bytes).unwrap();
    let header = image.nt_headers();
    assert_eq!(
        header.file_header().machine.get(LE),
        IMAGE_FILE_MACHINE_AMD64
    );
    assert_eq!(header.optional_header().subsystem(), IMAGE_SUBSYSTEM_NATIVE);
    let wanted = IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE
        | IMAGE_DLLCHARACTERISTICS_NX_COMPAT
        | IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY;
    assert_eq!(
        header.optional_header().dll_characteristics() & wanted,
        wanted
    );
}

#[test]
fn it_imports_only_what_server_2016_has_and_no_allocator() {
    let bytes = bytes();
    for (library, function) in imports(&PeFile64::parse(&*bytes).unwrap()).keys() {
        assert!(
            SERVER_2016
                .iter()
                .any(|(l, f, _)| l == library && f == function),
            "{library}: {function}"
        );
        assert!(!function.starts_with("ExAllocatePool"), "{function}");
    }
}

#[test]
fn no_section_is_both_writable_and_executable() {
    let bytes = bytes();
    let image = PeFile64::parse(&*bytes).unwrap();
    let both = IMAGE_SCN_MEM_EXECUTE | IMAGE_SCN_MEM_WRITE;
    for section in image.sections() {
        let object::SectionFlags::Coff { characteristics } = section.flags() else {
            panic!("a PE section")
        };
        assert_ne!(characteristics & both, both, "{}", section.name().unwrap());
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
    let bytes = bytes();
    let image = PeFile64::parse(&*bytes).unwrap();
    // Into the NT headers: signature 4, file header 20, CheckSum at 64 of the optional header.
    let field = usize::try_from(image.dos_header().e_lfanew.get(LE)).unwrap() + 4 + 20 + 64;
    let stored = u32::from_le_bytes(bytes[field..field + 4].try_into().unwrap());
    assert_eq!(stored, checksum(&bytes, field));
    let mut damaged = bytes.clone();
    damaged[field + 100] ^= 1;
    assert_ne!(
        stored,
        checksum(&damaged, field),
        "a flipped bit changes the checksum"
    );
}

/// The entry stub binds the framework, then calls the driver; the driver's own `DriverEntry` does not bind.
#[test]
fn its_entry_point_is_the_stub_that_binds_the_framework() {
    let bytes = bytes();
    let image = PeFile64::parse(&*bytes).unwrap();
    let entry = image
        .nt_headers()
        .optional_header()
        .address_of_entry_point();
    let pdata = image.section_by_name(".pdata").unwrap().data().unwrap();
    let word = |at: usize| u32::from_le_bytes(pdata[at..at + 4].try_into().unwrap());
    let end = (0..pdata.len() / 12)
        .find(|i| word(12 * i) == entry)
        .map(|i| word(12 * i + 4))
        .expect("unwind data");
    let bind = imports(&image)[&("WDFLDR.SYS".to_owned(), "WdfVersionBind".to_owned())];
    let base = image.relative_address_base();
    let text = image.section_by_name(".text").unwrap();
    let code = text
        .data_range(base + u64::from(entry), u64::from(end - entry))
        .unwrap()
        .unwrap();
    let calls = code
        .windows(6)
        .enumerate()
        .filter(|(_, c)| c[..2] == [0xff, 0x15])
        .map(|(at, c)| {
            let distance = i32::from_le_bytes(c[2..].try_into().unwrap());
            (entry + u32::try_from(at).unwrap() + 6).wrapping_add_signed(distance)
        });
    assert!(
        calls.into_iter().any(|slot| slot == bind),
        "FxDriverEntry calls WdfVersionBind"
    );
}

#[test]
fn it_binds_to_kmdf_1_15() {
    let bytes = bytes();
    let image = PeFile64::parse(&*bytes).unwrap();
    let data = image.section_by_name(".data").unwrap();
    let data = data.data().unwrap();
    // WDF_BIND_INFO: Size 0, Component 8, Version 16, FuncCount 28, FuncTable 32, Module 40.
    let versions = data
        .windows(48)
        .step_by(8)
        .filter(|w| w[..4] == 48_u32.to_le_bytes());
    let fields =
        |w: &[u8]| [16, 20, 24, 28].map(|at| u32::from_le_bytes(w[at..at + 4].try_into().unwrap()));
    let found: Vec<_> = versions.map(fields).filter(|f| f[0] == 1).collect();
    assert_eq!(found, [[1, 15, 0, KMDF_1_15_FUNCTIONS]]);
    let component: Vec<u8> = "KmdfLibrary\0"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert!(bytes.windows(component.len()).any(|w| w == component));
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
    for file in [path(), path().with_extension("pdb")] {
        for text in texts(&fs::read(&file).unwrap()) {
            assert!(
                !local.iter().any(|l| text.contains(l)),
                "{}: {text}",
                file.display()
            );
        }
    }
    let bytes = bytes();
    let image = PeFile64::parse(&*bytes).unwrap();
    assert_eq!(image.pdb_info().unwrap().unwrap().path(), b"resvflt.pdb");
}

/// Every `panic!`, failed index or overflow check names its source file; an image without such a name has no way to
/// panic left.
#[test]
fn nothing_in_it_can_panic() {
    let sources: Vec<_> = texts(&bytes())
        .into_iter()
        .filter(|t| t.contains(".rs"))
        .collect();
    assert_eq!(sources, Vec::<String>::new());
}
