//! What Windows makes of signatures, and a file's version.

use std::fs::File;
use std::os::windows::io::AsRawHandle as _;
use std::ptr::{null, null_mut};

use windows_sys::Win32::Foundation::{
    ERROR_CALL_NOT_IMPLEMENTED, ERROR_RESOURCE_DATA_NOT_FOUND, ERROR_RESOURCE_NAME_NOT_FOUND,
    ERROR_RESOURCE_TYPE_NOT_FOUND, INVALID_HANDLE_VALUE,
};
use windows_sys::Win32::Security::Cryptography::Catalog::{
    CryptCATAdminAcquireContext2, CryptCATAdminCalcHashFromFileHandle2, CryptCATAdminReleaseContext,
};
use windows_sys::Win32::Security::Cryptography::{
    CERT_NAME_SIMPLE_DISPLAY_TYPE, CertGetNameStringW,
};
use windows_sys::Win32::Security::WinTrust::{
    WINTRUST_ACTION_GENERIC_VERIFY_V2, WINTRUST_CATALOG_INFO, WINTRUST_DATA, WINTRUST_DATA_0,
    WINTRUST_DATA_STATE_ACTION, WINTRUST_DATA_UNION_CHOICE, WINTRUST_FILE_INFO,
    WTD_CACHE_ONLY_URL_RETRIEVAL, WTD_CHOICE_CATALOG, WTD_CHOICE_FILE, WTD_REVOCATION_CHECK_NONE,
    WTD_REVOKE_NONE, WTD_STATEACTION_CLOSE, WTD_STATEACTION_VERIFY, WTD_UI_NONE,
    WTHelperGetProvCertFromChain, WTHelperGetProvSignerFromChain, WTHelperProvDataFromStateData,
    WinVerifyTrust,
};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_VER_GET_NEUTRAL, GetFileVersionInfoExW, GetFileVersionInfoSizeExW, VS_FIXEDFILEINFO,
    VerQueryValueW,
};
use windows_sys::core::w;

use super::{if_there, last_error, length, long, narrow, ok, size, wide};
use crate::machine::{Answer, Signature, Win32};

/// A file, by the signature in it.
pub(super) fn embedded(path: &str) -> Answer<Signature> {
    let (file, path) = (File::open(path)?, long(path));
    let mut subject = WINTRUST_FILE_INFO {
        cbStruct: size::<WINTRUST_FILE_INFO>(),
        pcwszFilePath: path.as_ptr(),
        hFile: file.as_raw_handle(),
        pgKnownSubject: null_mut(),
    };
    let subject = WINTRUST_DATA_0 {
        pFile: &raw mut subject,
    };
    // SAFETY: the structure and what it points to outlive the call.
    Ok(unsafe { verify(WTD_CHOICE_FILE, subject) })
}

/// A file, by a catalog.
pub(super) fn in_catalog(catalog: &str, member: &str) -> Answer<Signature> {
    // Without it WinVerifyTrust has other words for it.
    drop(File::open(catalog)?);
    let (file, path, catalog) = (File::open(member)?, long(member), long(catalog));
    let admin = Admin::new()?;
    let mut digest = admin.digest(&file)?;
    // What names a member in the catalog (winsiderss/systeminformer, `phlib/verify.c`).
    let tag: Vec<_> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    let tag = wide(&tag.concat());
    let mut subject = WINTRUST_CATALOG_INFO {
        cbStruct: size::<WINTRUST_CATALOG_INFO>(),
        pcwszCatalogFilePath: catalog.as_ptr(),
        pcwszMemberTag: tag.as_ptr(),
        pcwszMemberFilePath: path.as_ptr(),
        hMemberFile: file.as_raw_handle(),
        cbCalculatedFileHash: length(&digest),
        pbCalculatedFileHash: digest.as_mut_ptr(),
        hCatAdmin: admin.0,
        ..Default::default()
    };
    let subject = WINTRUST_DATA_0 {
        pCatalog: &raw mut subject,
    };
    // SAFETY: the structure and what it points to outlive the call.
    Ok(unsafe { verify(WTD_CHOICE_CATALOG, subject) })
}

/// Has Windows verify it, asking nobody: neither a person nor the network.
///
/// # Safety
/// `subject` is the choice's, and valid with all that it points to.
unsafe fn verify(choice: WINTRUST_DATA_UNION_CHOICE, subject: WINTRUST_DATA_0) -> Signature {
    let mut trust = Trust(WINTRUST_DATA {
        cbStruct: size::<WINTRUST_DATA>(),
        dwUIChoice: WTD_UI_NONE,
        fdwRevocationChecks: WTD_REVOKE_NONE,
        dwUnionChoice: choice,
        Anonymous: subject,
        dwProvFlags: WTD_CACHE_ONLY_URL_RETRIEVAL | WTD_REVOCATION_CHECK_NONE,
        ..Default::default()
    });
    let result = trust.act(WTD_STATEACTION_VERIFY);
    Signature {
        result: result.cast_unsigned(),
        signer: trust.signer(),
    }
}

/// What is verified, and the state that Windows keeps of it until it is closed.
struct Trust(WINTRUST_DATA);

impl Drop for Trust {
    fn drop(&mut self) {
        self.act(WTD_STATEACTION_CLOSE);
    }
}

impl Trust {
    fn act(&mut self, action: WINTRUST_DATA_STATE_ACTION) -> i32 {
        self.0.dwStateAction = action;
        let (mut policy, data) = (WINTRUST_ACTION_GENERIC_VERIFY_V2, &raw mut self.0);
        // SAFETY: by the promise to `verify`; no window: nobody is asked.
        unsafe { WinVerifyTrust(INVALID_HANDLE_VALUE, &raw mut policy, data.cast()) }
    }

    fn signer(&self) -> Option<String> {
        if self.0.hWVTStateData.is_null() {
            return None;
        }
        // SAFETY: a state that is not closed yet.
        let data = unsafe { WTHelperProvDataFromStateData(self.0.hWVTStateData) };
        if data.is_null() {
            return None;
        }
        // SAFETY: that state's data; the first signer, no countersigner.
        let signer = unsafe { WTHelperGetProvSignerFromChain(data, 0, 0, 0) };
        if signer.is_null() {
            return None;
        }
        // SAFETY: one of that state's signers.
        let certificate = unsafe { WTHelperGetProvCertFromChain(signer, 0) };
        if certificate.is_null() {
            return None;
        }
        // SAFETY: one of that signer's certificates.
        let context = unsafe { (*certificate).pCert };
        let mut name = [0; 512];
        let (kind, buffer) = (CERT_NAME_SIMPLE_DISPLAY_TYPE, name.as_mut_ptr());
        // SAFETY: a certificate's context, or null, which has an empty name; a buffer of 512 units.
        unsafe { CertGetNameStringW(context, kind, 0, null(), buffer, 512) };
        Some(narrow(&name)).filter(|name| !name.is_empty())
    }
}

/// What takes a file's digest as catalogs have it.
struct Admin(isize);

impl Drop for Admin {
    fn drop(&mut self) {
        // SAFETY: the context was acquired, and nobody else releases it.
        unsafe { CryptCATAdminReleaseContext(self.0, 0) };
    }
}

impl Admin {
    fn new() -> Answer<Self> {
        let mut context = 0;
        // SAFETY: a live place; no subsystem, a string with its NUL, and no policy.
        match ok(unsafe {
            CryptCATAdminAcquireContext2(&raw mut context, null(), w!("SHA256"), null(), 0)
        }) {
            // A Wine that knows no SHA-256 here. It doesn't have the function below either, and ends who calls it.
            Err(Win32(ERROR_CALL_NOT_IMPLEMENTED)) => Err(Win32::NOT_SUPPORTED),
            result => result.map(|()| Self(context)),
        }
    }

    fn digest(&self, file: &File) -> Answer<Vec<u8>> {
        let mut digest = vec![0; 32];
        let (handle, mut room, buffer) = (file.as_raw_handle(), 32, digest.as_mut_ptr());
        // SAFETY: a live context, a live handle that can be read, and a buffer of `room` bytes.
        ok(unsafe {
            CryptCATAdminCalcHashFromFileHandle2(self.0, handle, &raw mut room, buffer, 0)
        })?;
        digest.truncate(room as usize);
        Ok(digest)
    }
}

/// The version in a file's version resource; none if the file or the resource is not there.
pub(super) fn file_version(path: &str) -> Answer<Option<String>> {
    let (path, mut ignored) = (long(path), 0);
    // Not that of a file with texts in the user's language.
    let flags = FILE_VER_GET_NEUTRAL;
    // SAFETY: a string with its NUL, and a live place.
    let length = unsafe { GetFileVersionInfoSizeExW(flags, path.as_ptr(), &raw mut ignored) };
    if length == 0 {
        return match last_error() {
            Win32(
                ERROR_RESOURCE_DATA_NOT_FOUND
                | ERROR_RESOURCE_TYPE_NOT_FOUND
                | ERROR_RESOURCE_NAME_NOT_FOUND,
            ) => Ok(None),
            error => if_there(Err(error)),
        };
    }
    let mut block = vec![0_u64; (length as usize).div_ceil(8)];
    let buffer = block.as_mut_ptr().cast();
    // SAFETY: a string with its NUL, and a buffer of at least that length.
    ok(unsafe { GetFileVersionInfoExW(flags, path.as_ptr(), 0, length, buffer) })?;
    let (mut fixed, mut found) = (null_mut(), 0);
    // SAFETY: the block is such a resource; a string with its NUL, and two live places.
    let told = unsafe { VerQueryValueW(buffer, w!(r"\"), &raw mut fixed, &raw mut found) };
    if told == 0 || found < size::<VS_FIXEDFILEINFO>() {
        return Ok(None);
    }
    // SAFETY: so many bytes of the block, which lives, are the structure.
    let version = unsafe { fixed.cast::<VS_FIXEDFILEINFO>().read_unaligned() };
    let words = [version.dwFileVersionMS, version.dwFileVersionLS];
    let parts = words.map(|word| format!("{}.{}", word >> 16, word & 0xFFFF));
    Ok(Some(parts.join(".")))
}
