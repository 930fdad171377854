//! The digest of a file as Authenticode takes it (Microsoft's "Windows Authenticode Portable Executable Signature
//! Format", section "Calculating the PE Image Hash").

use object::LittleEndian as LE;
use object::pe::IMAGE_DIRECTORY_ENTRY_SECURITY;
use object::read::pe::PeFile64;
use sha2::digest::Digest;

/// Where the fields lie that a signature changes: `CheckSum` in the optional header of 64 bits, and its directories.
const CHECKSUM: usize = 64;
const DIRECTORIES: usize = 112;

/// What fills an image up to where a certificate table may begin.
const ZEROS: [u8; 7] = [0; 7];

/// What a signature on `bytes` covers: of an image all but the checksum, the certificate table and its directory entry,
/// and the zeros that go before a table yet to come; of any other file all. The flag says whether it is an image.
///
/// # Errors
/// If an image's certificate table is not the end of the file: then nobody agrees on the digest.
pub fn covered(bytes: &[u8]) -> Result<(bool, Vec<&[u8]>), String> {
    let Ok(image) = PeFile64::parse(bytes) else {
        return Ok((false, vec![bytes]));
    };
    // Signature and file header stand before the optional header.
    let optional = image.dos_header().e_lfanew.get(LE) as usize + 4 + 20;
    let checksum = optional + CHECKSUM;
    let entry = optional + DIRECTORIES + 8 * IMAGE_DIRECTORY_ENTRY_SECURITY;
    let table = image.data_directory(IMAGE_DIRECTORY_ENTRY_SECURITY);
    let table = table.map_or((0, 0), |t| (t.virtual_address.get(LE), t.size.get(LE)));
    let end = match table {
        (_, 0) => bytes.len(),
        (at, size) if at as usize + size as usize == bytes.len() => at as usize,
        _ => return Err("its certificate table is not its end".to_owned()),
    };
    // The table begins on eight bytes.
    let zeros = ZEROS.get(..end.next_multiple_of(8) - end);
    let parts = [
        bytes.get(..checksum),
        bytes.get(checksum + 4..entry),
        bytes.get(entry + 8..end),
        zeros,
    ];
    let parts: Option<Vec<_>> = parts.into_iter().collect();
    Ok((true, parts.ok_or("its headers end before they should")?))
}

/// The digest of what [`covered`] gave.
#[must_use]
pub fn digest<D: Digest>(covered: &[&[u8]]) -> Vec<u8> {
    let mut digest = D::new();
    for part in covered {
        digest.update(part);
    }
    digest.finalize().to_vec()
}
