//! A signature changes nothing of the driver but what a signature must: checksum, directory entry, the end of the file.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use object::LittleEndian as LE;
use object::pe::IMAGE_DIRECTORY_ENTRY_SECURITY;
use object::read::pe::PeFile64;
use rig::node::Node;
use rig::registry::Hive;
use rig::world::{Schedule, World};

fn image(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../target")
        .join(folder)
        .join("resvflt.sys")
}

/// Where `CheckSum` and the security directory's entry lie, and what this one says: file offset, size.
fn fields(bytes: &[u8]) -> (usize, usize, [usize; 2]) {
    let image = PeFile64::parse(bytes).unwrap();
    let optional = usize::try_from(image.dos_header().e_lfanew.get(LE)).unwrap() + 4 + 20;
    let entry = optional + 112 + 8 * IMAGE_DIRECTORY_ENTRY_SECURITY;
    let security = image
        .data_directory(IMAGE_DIRECTORY_ENTRY_SECURITY)
        .unwrap();
    let said = [security.virtual_address.get(LE), security.size.get(LE)];
    (
        optional + 64,
        entry,
        said.map(|n| usize::try_from(n).unwrap()),
    )
}

/// The PE checksum: 16-bit one's complement sum of the file, its own field taken as zero, plus the file's length.
fn checksum(bytes: &[u8], field: usize) -> u32 {
    let mut clear = bytes.to_owned();
    clear[field..field + 4].fill(0);
    let sum = clear.chunks(2).fold(0_u32, |sum, word| {
        let sum = sum + u32::from(word[0]) + (u32::from(*word.get(1).unwrap_or(&0)) << 8);
        (sum & 0xffff) + (sum >> 16)
    });
    sum + u32::try_from(bytes.len()).unwrap()
}

/// Folders of a package before and after it was signed.
const PACKAGES: [[&str; 2]; 2] = [
    ["package", "test-signed"],
    ["package-arm64", "test-signed-arm64"],
];

#[test]
fn the_signature_stands_behind_the_image_and_the_rest_is_as_it_was() {
    for [plain, signed] in PACKAGES {
        let plain = fs::read(image(plain)).unwrap();
        let mut signed = fs::read(image(signed)).unwrap();
        let (field, entry, [offset, size]) = fields(&signed);
        assert_eq!(offset, plain.len().next_multiple_of(8));
        assert_eq!(offset + size, signed.len());
        // WIN_CERTIFICATE: length, revision 2.0, PKCS #7 signed data.
        assert_eq!(signed[offset + 4..offset + 8], [0, 2, 2, 0]);
        let stored = u32::from_le_bytes(signed[field..field + 4].try_into().unwrap());
        assert_eq!(stored, checksum(&signed, field));
        for (at, length) in [(field, 4), (entry, 8)] {
            signed[at..at + length].copy_from_slice(&plain[at..at + length]);
        }
        assert!(
            signed[..plain.len()] == plain,
            "the image is as it was built"
        );
    }
}

#[test]
fn the_signed_driver_loads_and_unloads() {
    let world = World::enter(Schedule::Orderly);
    let node = Node::load(world.world(), "A", &image("test-signed"), Hive::default());
    node.unwrap_or_else(|error| panic!("{error}")).unload();
}

#[test]
fn the_signed_package_holds_what_is_installed_and_the_certificate_to_trust() {
    for [_, folder] in PACKAGES {
        let folder = image(folder);
        let folder = folder.parent().unwrap();
        for name in [
            "resvflt.cat",
            "resvflt.inf",
            "resvflt.sys",
            "resvflt.pdb",
            "resvflt.h",
            "resvflt-test.cer",
        ] {
            assert!(folder.join(name).is_file(), "{name}");
        }
        // The code signing purpose, 1.3.6.1.5.5.7.3.3 in DER.
        let certificate = fs::read(folder.join("resvflt-test.cer")).unwrap();
        let purpose = b"\x2b\x06\x01\x05\x05\x07\x03\x03";
        assert!(certificate.windows(purpose.len()).any(|w| w == purpose));
    }
    assert!(image("test-signed").with_file_name("resvctl.exe").is_file());
}
