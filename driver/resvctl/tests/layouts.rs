//! Structures of Windows' as bytes: what is read of them, from both sides of every edge.
#![allow(
    clippy::cast_possible_truncation,
    clippy::doc_markdown,
    reason = "sizes of this file's own, and names of headers"
)]

use proptest::prelude::*;
use resvctl::layouts::{self, Field};
use resvctl::machine::{Loaded, Verified, Win32};

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// An RTL_PROCESS_MODULE_INFORMATION_EX.
fn module(next: u16, path: &str, numbers: [u32; 3]) -> Vec<u8> {
    let mut bytes = vec![0; 320];
    put(&mut bytes, 0, &next.to_le_bytes());
    put(&mut bytes, 48, path.as_bytes());
    for (at, number) in [32, 304, 308].into_iter().zip(numbers) {
        put(&mut bytes, at, &number.to_le_bytes());
    }
    bytes
}

const PATH: &str = r"\SystemRoot\System32\drivers\resvflt.sys";

fn image(size: u32, checksum: u32, timestamp: u32) -> Loaded {
    let path = PATH.into();
    Loaded {
        path,
        size,
        checksum,
        timestamp,
    }
}

#[test]
fn a_loaded_image_is_found_by_its_files_name_alone() {
    let others = [
        r"\SystemRoot\system32\ntoskrnl.exe",
        r"\??\C:\resvflt.sys\other.sys",
        r"\SystemRoot\System32\drivers\notresvflt.sys",
    ];
    let others = others.map(|path| module(320, path, [9, 9, 9])).concat();
    let found = Some(image(0x9000, 0xC0DE, 0x6000_0000));
    let numbers = [0x9000, 0xC0DE, 0x6000_0000];
    // The last one may be followed by a short end mark, or say itself that it is the last.
    let marked = [&others[..], &module(320, PATH, numbers), &[0; 4]].concat();
    let last = [&others[..], &module(0, PATH, numbers)].concat();
    let first = [&module(320, PATH, numbers)[..], &others, &[0; 320]].concat();
    for list in [&marked, &last, &first] {
        assert_eq!(layouts::loaded(list, "resvflt.sys"), found);
        assert_eq!(layouts::loaded(list, "RESVFLT.SYS"), found);
        assert_eq!(layouts::loaded(list, "esvflt.sys"), None);
    }
    assert_eq!(layouts::loaded(&others, "resvflt.sys"), None);
    assert_eq!(
        layouts::loaded(&last[..last.len() - 1], "resvflt.sys"),
        None
    );
    assert_eq!(layouts::loaded(&[], "resvflt.sys"), None);
}

#[test]
fn a_path_may_fill_all_of_its_room() {
    let path = format!(r"\{}\resvflt.sys", "d".repeat(256 - 13));
    let list = module(0, &path, [1, 2, 3]);
    let found = layouts::loaded(&list, "resvflt.sys").map(|image| image.path);
    assert_eq!(found, Some(path));
}

/// Where the list of a process lies.
const ADDRESS: usize = 0x1F2_3456_0000;

/// One SYSTEM_VERIFIER_INFORMATION at this offset of a list, with the driver's name behind it: 22 numbers, the first
/// two before the name.
fn verified(at: usize, newer: bool, driver: &str, numbers: &[u32; 21], is_last: bool) -> Vec<u8> {
    let (name, size) = if newer { (24, 144) } else { (8, 128) };
    let text: Vec<u8> = driver.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut bytes = vec![0; size];
    let length = (text.len() as u16).to_le_bytes();
    put(&mut bytes, 4, &numbers[0].to_le_bytes());
    put(&mut bytes, name, &length);
    put(&mut bytes, name + 2, &length);
    let pointer = (ADDRESS + at + size) as u64;
    put(&mut bytes, name + 8, &pointer.to_le_bytes());
    for (index, number) in numbers[1..].iter().enumerate().take(18) {
        put(&mut bytes, name + 16 + 4 * index, &number.to_le_bytes());
    }
    bytes.extend(text);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let next = if is_last { 0 } else { bytes.len() as u32 };
    put(&mut bytes, 0, &next.to_le_bytes());
    bytes
}

#[test]
fn driver_verifiers_counts_are_read_in_both_layouts() {
    let numbers: [u32; 21] = std::array::from_fn(|index| 100 + index as u32);
    // By their order in phnt: Level; RaiseIrqls 101, ..., AllocationsAttempted 104, ..., FailedDeliberately 111, Loads,
    // Unloads, UnTrackedPool 114, CurrentPagedPoolAllocations 115, CurrentNonPagedPoolAllocations 116.
    let counts = Verified {
        flags: 100,
        wdf: None,
        loads: 112,
        unloads: 113,
        allocations: 104,
        failed_on_purpose: 111,
        outstanding: 115 + 116,
    };
    for newer in [true, false] {
        let mut list = verified(0, newer, "disk.sys", &[7; 21], false);
        list.extend(verified(list.len(), newer, "resvflt.sys", &numbers, false));
        list.extend(verified(list.len(), newer, "last.sys", &[8; 21], true));
        let of = |file| layouts::verified(&list, ADDRESS, file);
        let wdf = newer.then_some(false);
        let counts = Verified { wdf, ..counts };
        assert_eq!(of("resvflt.sys"), Ok(Some(counts)), "newer: {newer}");
        assert_eq!(of("ResvFlt.sys"), Ok(Some(counts)), "newer: {newer}");
        assert_eq!(of("last.sys").map(|c| c.map(|c| c.loads)), Ok(Some(8)));
        assert_eq!(of("resvflt"), Ok(None));
        // A list that lies elsewhere points to nothing here.
        let elsewhere = layouts::verified(&list, ADDRESS + 0x10_0000, "resvflt.sys");
        assert_eq!(elsewhere, Err(Win32::INVALID_DATA));
    }
    assert_eq!(layouts::verified(&[], ADDRESS, "resvflt.sys"), Ok(None));
}

#[test]
fn driver_verifiers_wdf_rules_are_told_where_windows_tells_them() {
    for newer in [true, false] {
        let list = verified(0, newer, "resvflt.sys", &[0; 21], true);
        for (bit, on) in [(32, false), (33, true), (34, false)] {
            let mut list = list.clone();
            if newer {
                put(&mut list, 8, &(1_u64 << bit).to_le_bytes());
            }
            let wdf =
                layouts::verified(&list, ADDRESS, "resvflt.sys").map(|c| c.and_then(|c| c.wdf));
            assert_eq!(wdf, Ok(newer.then_some(on)), "newer: {newer}, class {bit}");
        }
    }
}

/// A TRACE_EVENT_INFO: the event's name, by EventNameOffset or TaskNameOffset, and each property's name, types and length.
fn info(name_at: usize, name: &str, properties: &[(&str, u16, u16, u16)]) -> Vec<u8> {
    let mut bytes = vec![0; 112 + 24 * properties.len()];
    let add = |bytes: &mut Vec<u8>, at: usize, text: &str| {
        let offset = bytes.len() as u32;
        put(bytes, at, &offset.to_le_bytes());
        bytes.extend(text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
    };
    put(&mut bytes, 104, &(properties.len() as u32).to_le_bytes());
    add(&mut bytes, name_at, name);
    for (index, (name, in_type, out_type, length)) in properties.iter().enumerate() {
        let at = 112 + 24 * index;
        add(&mut bytes, at + 4, name);
        put(&mut bytes, at + 8, &in_type.to_le_bytes());
        put(&mut bytes, at + 10, &out_type.to_le_bytes());
        put(&mut bytes, at + 16, &1_u16.to_le_bytes());
        put(&mut bytes, at + 18, &length.to_le_bytes());
    }
    bytes
}

fn nobody(field: Field<'_>) -> Result<(String, usize), Win32> {
    panic!("{field:?} is no other type");
}

#[test]
fn an_events_fields_are_read_by_their_types() {
    // tdh.h's numbers of input and output types, the data, and the text.
    let table: [(u16, u16, &[u8], &str); 19] = [
        (1, 0, b"h\0\xe4\0l\0\0\0", "häl"),
        (3, 0, &[0xFE], "-2"),
        (4, 0, &[200], "200"),
        (4, 16, &[0x1F], "0x1f"),
        (5, 0, &[0x00, 0x80], "-32768"),
        (6, 0, &[0xFF, 0xFF], "65535"),
        (6, 17, &[0xFF, 0xFF], "0xffff"),
        (7, 0, &[0xFF; 4], "-1"),
        (7, 32, &[0x05, 0x40, 0x00, 0x80], "0x80004005"),
        (8, 0, &[0xFF; 4], "4294967295"),
        (8, 18, &[0x14, 0xD0, 4, 0], "0x4d014"),
        (8, 29, &[1, 0, 0, 0], "0x1"),
        (8, 31, &[0x20, 1, 0, 0xC0], "0xc0000120"),
        (9, 0, &[0xFF; 8], "-1"),
        (10, 0, &[0xFF; 8], "18446744073709551615"),
        (
            10,
            19,
            &[0x10, 0, 0, 0, 0, 0, 0, 0x80],
            "0x8000000000000010",
        ),
        (20, 0, &[0, 0, 0, 0], "0x0"),
        (20, 31, &[0x85, 1, 0, 0xC0], "0xc0000185"),
        (21, 0, &[1, 0, 0, 0, 1, 0, 0, 0], "0x100000001"),
    ];
    let names: Vec<String> = (0..table.len()).map(|index| format!("F{index}")).collect();
    let properties: Vec<_> = table
        .iter()
        .zip(&names)
        .map(|((in_type, out_type, ..), name)| (&**name, *in_type, *out_type, 0))
        .collect();
    let data: Vec<u8> = table
        .iter()
        .flat_map(|(_, _, data, _)| *data)
        .copied()
        .collect();
    let texts = table.iter().map(|(.., text)| (*text).to_owned());
    let fields: Vec<_> = names.iter().cloned().zip(texts).collect();
    for name_at in [68, 92] {
        let info = info(name_at, "OperationEnded ", &properties);
        let read = layouts::event(&info, &data, &mut nobody);
        assert_eq!(read, Ok(("OperationEnded".into(), fields.clone())));
        // Each number's end is looked at.
        for short in 1..=data.len() {
            let cut = &data[..data.len() - short];
            let read = layouts::event(&info, cut, &mut nobody);
            assert_eq!(read, Err(Win32::INVALID_DATA), "{short} bytes fewer");
        }
    }
}

#[test]
fn other_types_are_asked_for_with_what_is_left_of_the_data() {
    let guid = ("Guid", 15, 14, 16);
    let info = info(
        92,
        "Event",
        &[("Before", 4, 0, 0), guid, ("After", 6, 0, 0)],
    );
    let data: Vec<u8> = (0..19).collect();
    let mut asked = 0;
    let read = layouts::event(&info, &data, &mut |field| {
        asked += 1;
        assert_eq!((field.in_type, field.out_type, field.length), (15, 14, 16));
        assert_eq!(field.data, &data[1..]);
        Ok(("{a GUID}".into(), 16))
    });
    let fields = [("Before", "0"), ("Guid", "{a GUID}"), ("After", "4625")];
    let fields = fields.map(|(name, text)| (name.to_owned(), text.to_owned()));
    assert_eq!(read, Ok(("Event".into(), fields.to_vec())));
    assert_eq!(asked, 1);
    let too_much = layouts::event(&info, &data, &mut |_| Ok((String::new(), 19)));
    assert_eq!(too_much, Err(Win32::INVALID_DATA));
    let refused = layouts::event(&info, &data, &mut |_| Err(Win32::NOT_SUPPORTED));
    assert_eq!(refused, Err(Win32::NOT_SUPPORTED));
}

#[test]
fn structures_and_arrays_are_not_guessed_at() {
    let plain = info(92, "Event", &[("Field", 4, 0, 0)]);
    assert!(layouts::event(&plain, &[1], &mut nobody).is_ok());
    // PropertyStruct, PropertyParamLength, PropertyParamCount; and two elements.
    for (at, value) in [(112, 1), (112, 2), (112, 4), (112 + 16, 2)] {
        let mut info = plain.clone();
        info[at] = value;
        let read = layouts::event(&info, &[1], &mut nobody);
        assert_eq!(read, Err(Win32::NOT_SUPPORTED), "{at}: {value}");
    }
}

proptest! {
    /// Whatever the bytes are, nothing panics, and nothing is read for ever.
    #[test]
    fn any_bytes_come_to_an_end(
        mut bytes in prop::collection::vec(any::<u8>(), 0..1000),
        small in any::<bool>(),
    ) {
        if small {
            // Offsets that lead somewhere.
            bytes.iter_mut().skip(1).step_by(2).for_each(|byte| *byte = 0);
        }
        let _ = layouts::loaded(&bytes, "x.sys");
        let _ = layouts::verified(&bytes, 0, "x.sys");
        let _ = layouts::event(&bytes, &bytes, &mut |field| Ok((String::new(), field.data.len())));
    }
}
