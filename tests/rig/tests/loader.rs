//! What the rig does with files that are not the driver: it says which file and what is wrong, and maps nothing.

use std::path::Path;

use object::read::pe::{ImageOptionalHeader, PeFile64};
use rig::image;
use rig::node::{Node, NodeError};
use rig::registry::Hive;
use rig::world::{Schedule, World};

fn refusal(bytes: &[u8]) -> String {
    let world = World::enter(Schedule::Orderly);
    let result = Node::load_bytes(
        world.world(),
        "A",
        Path::new("some.sys"),
        bytes,
        Hive::default(),
    );
    match result {
        Err(NodeError::Load(error)) => error.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was loaded"),
    }
}

fn built() -> Vec<u8> {
    image::read(&image::built()).expect("the driver was built")
}

fn header(bytes: &[u8]) -> usize {
    u32::from_le_bytes(bytes[0x3C..0x40].try_into().unwrap()) as usize
}

fn position(bytes: &[u8], text: &[u8]) -> usize {
    bytes
        .windows(text.len())
        .position(|window| window == text)
        .unwrap()
}

#[test]
fn a_file_that_is_no_image_is_refused() {
    assert!(refusal(b"").starts_with("some.sys: not a driver image: "));
    assert!(refusal(b"#!/bin/sh\n").starts_with("some.sys: not a driver image: "));
    let mut bytes = built();
    bytes.truncate(bytes.len() / 2);
    assert!(refusal(&bytes).starts_with("some.sys: not a driver image: "));
}

#[test]
fn an_image_for_another_machine_is_refused() {
    let mut bytes = built();
    let machine = header(&bytes) + 4;
    bytes[machine..machine + 2].copy_from_slice(&0xAA64_u16.to_le_bytes());
    assert_eq!(
        refusal(&bytes),
        "some.sys: machine type 0xaa64, not x64 (0x8664)"
    );
}

#[test]
fn a_program_is_refused() {
    let mut bytes = built();
    let subsystem = header(&bytes) + 24 + 68;
    bytes[subsystem] = 3;
    assert_eq!(
        refusal(&bytes),
        "some.sys: subsystem 3, not a driver's (1, native)"
    );
}

#[test]
fn an_unknown_import_is_named() {
    let mut bytes = built();
    let at = position(&bytes, b"WdfVersionBind\0");
    bytes[at..at + 14].copy_from_slice(b"WdfVersionBend");
    let said = refusal(&bytes).to_lowercase();
    assert_eq!(
        said,
        "some.sys: imports wdfversionbend from wdfldr.sys, which this rig does not export"
    );
}

#[test]
fn no_damage_to_one_byte_of_the_headers_crashes_the_loader() {
    // What is mapped and bound is never run here: mapping alone must stand any header.
    let bytes = built();
    let pe = PeFile64::parse(&*bytes).unwrap();
    let end = pe.nt_headers().optional_header.size_of_headers() as usize;
    for at in 0..end {
        for value in [0x00, 0xFF, bytes[at] ^ 0x80] {
            let mut damaged = bytes.clone();
            damaged[at] = value;
            let mapped = image::Image::map(Path::new("some.sys"), &damaged, "A", &|_, _| {
                Some(std::ptr::null())
            });
            drop(mapped);
        }
    }
}
