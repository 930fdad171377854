//! The driver package's catalog, which is inf2cat's work where the WDK is: the list of the package's files by their
//! digests, whose signature is the signature of all of them.
//!
//! Microsoft documents what a catalog holds (mscat.h, wintrust.h, "`CryptCATOpen`", "`MakeCat`") but not its bytes. They
//! are those of catalogs that were published: version 2 as in `tests/files/unsigned.cat` of osslsigncode's repository,
//! made by Microsoft's `MakeCat`, and what inf2cat adds of systems and hardware IDs as in the drivers of the Arduino IDE.
//! A certificate trust list (RFC 2315 and Microsoft's "`CTL_INFO`") in a PKCS #7 message that nobody has signed yet.

use crate::authenticode;
use crate::inf::Inf;
use cms::cert::x509::attr::Attribute;
use cms::cert::x509::ext::Extension;
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{EncapsulatedContentInfo, SignedData, SignerInfos};
use const_oid::db::rfc5911::ID_SIGNED_DATA;
use const_oid::{AssociatedOid, ObjectIdentifier};
use der::asn1::{Any, BitString, BmpString, ContextSpecific, Null, OctetString, SetOfVec, UtcTime};
use der::{Choice, Encode, Sequence, TagMode, TagNumber};
use sha1::Sha1;
use sha2::Sha256;
use spki::AlgorithmIdentifier;
use std::time::Duration;

/// wincrypt.h: `szOID_CTL`.
const CTL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.10.1");
/// mscat.h: `szOID_CATALOG_LIST`, `szOID_CATALOG_LIST_MEMBER2`, `CAT_NAMEVALUE_OBJID`, `CAT_MEMBERINFO2_OBJID`.
const CATALOG_LIST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.12.1.1");
const CATALOG_LIST_MEMBER2: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.12.1.3");
const CAT_NAMEVALUE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.12.2.1");
const CAT_MEMBERINFO2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.12.2.3");
/// wintrust.h: `SPC_INDIRECT_DATA_OBJID`, `SPC_PE_IMAGE_DATA_OBJID`, `SPC_LINK_OBJID`.
const SPC_INDIRECT_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.4");
const SPC_PE_IMAGE_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.15");
const SPC_LINK: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.25");

/// mscat.h: `CRYPTCAT_ATTR_AUTHENTICATED`, `_DATAASCII` and `_NAMEASCII`.
const PLAIN_TEXT: u32 = 0x1000_0000 | 0x0001_0000 | 0x0000_0001;

/// `OSAttr` of each file: NT (2), from 10.0 on.
const WINDOWS_10: &str = "2:10.0";

/// What a catalog is made of.
#[derive(Debug)]
pub struct Catalog {
    /// The systems, as published catalogs name them.
    pub systems: String,
    /// From the INF's models.
    pub hardware_ids: Vec<String>,
    /// `ThisUpdate`, a Unix time before 2050.
    pub seconds: u64,
    /// Name and contents of each file.
    pub files: Vec<(String, Vec<u8>)>,
}

/// The files of a package that its catalog vouches for: the INF, called `name`, and what it copies.
#[must_use]
pub fn members(inf: &Inf, name: &str) -> Vec<String> {
    let sections = inf.directives("", "CopyFiles");
    let sections = sections.iter().flat_map(|entry| &entry.values);
    let copied = sections.flat_map(|section| inf.entries(section));
    let copied = copied.map(|file| file.value(0).to_owned());
    [name.to_owned()].into_iter().chain(copied).collect()
}

/// The systems that the INF is for, Windows 10 1903 and Server 2022 on, as catalogs of Microsoft's dashboard name them
/// ("gencat.sh" in LINBIT's generate-cat-file lists what Intel's have). For ARM64 the same by analogy.
#[must_use]
pub fn systems(architecture: &str) -> String {
    let processor = if architecture == "amd64" {
        "X64"
    } else {
        "ARM64"
    };
    let systems = [
        ("", "19H1"),
        ("", "Vb"),
        ("Server", "21H2"),
        ("", "21H2"),
        ("", "22H2"),
        ("", "24H2"),
        ("Server", "24H2"),
    ];
    let names = systems.map(|(kind, release)| format!("{kind}_v100_{processor}_{release}"));
    names.join(",")
}

/// The hardware and compatible IDs of an INF's models, each once.
#[must_use]
pub fn hardware_ids(inf: &Inf) -> Vec<String> {
    let ids = inf.installs().into_iter().flat_map(|install| install.ids);
    let mut ids: Vec<_> = ids.map(|id| id.to_ascii_lowercase()).collect();
    ids.sort();
    ids.dedup();
    ids
}

impl Catalog {
    /// The catalog file, without a signature.
    ///
    /// # Errors
    /// If a file is a broken image, or the time does not fit.
    pub fn encode(&self) -> Result<Vec<u8>, String> {
        let mut subjects = Vec::new();
        for (name, bytes) in &self.files {
            subjects.extend(trusted(name, bytes).map_err(|error| format!("{name}: {error}"))?);
        }
        subjects.sort_by(|a, b| a.identifier.as_bytes().cmp(b.identifier.as_bytes()));
        self.message(subjects).map_err(|error| error.to_string())
    }

    fn message(&self, trusted_subjects: Vec<TrustedSubject>) -> der::Result<Vec<u8>> {
        let ids = self.hardware_ids.iter().enumerate();
        let ids = ids.map(|(at, id)| (format!("HWID{}", at + 1), id));
        let named = [("OS".to_owned(), &self.systems)].into_iter().chain(ids);
        let extensions = named.map(|(name, value)| extension(&name, value));
        // Equal packages get equal catalogs.
        let subjects = trusted_subjects.to_der()?;
        let list = CertificateTrustList {
            subject_usage: vec![CATALOG_LIST],
            list_identifier: OctetString::new(&authenticode::digest::<Sha256>(&[&subjects])[..16])?,
            this_update: UtcTime::from_unix_duration(Duration::from_secs(self.seconds))?,
            subject_algorithm: algorithm(CATALOG_LIST_MEMBER2),
            trusted_subjects,
            extensions: extensions.collect::<der::Result<_>>()?,
        };
        let signed = SignedData {
            version: CmsVersion::V1,
            digest_algorithms: SetOfVec::new(),
            encap_content_info: EncapsulatedContentInfo {
                econtent_type: CTL,
                econtent: Some(Any::encode_from(&list)?),
            },
            certificates: None,
            crls: None,
            signer_infos: SignerInfos(SetOfVec::new()),
        };
        let content = ContentInfo {
            content_type: ID_SIGNED_DATA,
            content: Any::encode_from(&signed)?,
        };
        content.to_der()
    }
}

/// A file's two entries. The one under its SHA-256 says all; the one under its SHA-1 only that there is such a file, so
/// that callers of the older look-up by SHA-1 find the catalog.
fn trusted(name: &str, bytes: &[u8]) -> Result<[TrustedSubject; 2], String> {
    let (is_image, covered) = authenticode::covered(bytes)?;
    let digests = [
        authenticode::digest::<Sha256>(&covered),
        authenticode::digest::<Sha1>(&covered),
    ];
    subjects(name, is_image, &digests).map_err(|error| error.to_string())
}

fn subjects(
    name: &str,
    is_image: bool,
    digests: &[Vec<u8>; 2],
) -> der::Result<[TrustedSubject; 2]> {
    let member = || attribute(CAT_MEMBERINFO2, &member_info(is_image));
    let all = [
        member()?,
        attribute(CAT_NAMEVALUE, &named("File", &name.to_ascii_lowercase())?)?,
        attribute(CAT_NAMEVALUE, &named("OSAttr", WINDOWS_10)?)?,
        attribute(SPC_INDIRECT_DATA, &indirect_data(is_image, &digests[0])?)?,
    ];
    Ok([
        TrustedSubject {
            identifier: OctetString::new(&*digests[0])?,
            attributes: SetOfVec::from_iter(all)?,
        },
        TrustedSubject {
            identifier: OctetString::new(&*digests[1])?,
            attributes: SetOfVec::from_iter([member()?])?,
        },
    ])
}

/// Which kind of file: the choice that stands for the subject's GUID, 0 for a PE image and 2 for a flat file.
fn member_info(is_image: bool) -> ContextSpecific<Null> {
    ContextSpecific {
        tag_number: if is_image {
            TagNumber::N0
        } else {
            TagNumber::N2
        },
        tag_mode: TagMode::Implicit,
        value: Null,
    }
}

fn indirect_data(is_image: bool, digest: &[u8]) -> der::Result<IndirectData> {
    // The file itself is meant: a link to nowhere.
    let link = Link::File(SpcString::Unicode(BmpString::from_utf8("")?));
    let (kind, value) = if is_image {
        let data = PeImageData {
            // Bits 0 and 2, includeResources and includeImportAddressTable; the digest covers them anyway.
            flags: BitString::new(5, [0xA0])?,
            file: link,
        };
        (SPC_PE_IMAGE_DATA, Any::encode_from(&data)?)
    } else {
        (SPC_LINK, Any::encode_from(&link)?)
    };
    Ok(IndirectData {
        data: TypeAndValue { kind, value },
        message_digest: DigestInfo {
            algorithm: algorithm(Sha256::OID),
            digest: OctetString::new(digest)?,
        },
    })
}

fn named(name: &str, value: &str) -> der::Result<NameValue> {
    let units = value.encode_utf16().chain([0]);
    Ok(NameValue {
        name: BmpString::from_utf8(name)?,
        flags: PLAIN_TEXT,
        value: OctetString::new(units.flat_map(u16::to_le_bytes).collect::<Vec<_>>())?,
    })
}

fn attribute(oid: ObjectIdentifier, value: &impl Encode) -> der::Result<Attribute> {
    let value: Any = der::Decode::from_der(&value.to_der()?)?;
    let values = SetOfVec::from_iter([value])?;
    Ok(Attribute { oid, values })
}

fn extension(name: &str, value: &str) -> der::Result<Extension> {
    Ok(Extension {
        extn_id: CAT_NAMEVALUE,
        critical: false,
        extn_value: OctetString::new(named(name, value)?.to_der()?)?,
    })
}

fn algorithm(oid: ObjectIdentifier) -> AlgorithmIdentifier<Null> {
    AlgorithmIdentifier {
        oid,
        parameters: Some(Null),
    }
}

/// `CTL_INFO`.
#[derive(Sequence)]
struct CertificateTrustList {
    subject_usage: Vec<ObjectIdentifier>,
    list_identifier: OctetString,
    this_update: UtcTime,
    subject_algorithm: AlgorithmIdentifier<Null>,
    trusted_subjects: Vec<TrustedSubject>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension>,
}

/// `CTL_ENTRY`.
#[derive(Sequence)]
struct TrustedSubject {
    identifier: OctetString,
    attributes: SetOfVec<Attribute>,
}

/// `CAT_NAMEVALUE`.
#[derive(Sequence)]
struct NameValue {
    name: BmpString,
    flags: u32,
    value: OctetString,
}

/// `SPC_INDIRECT_DATA_CONTENT`.
#[derive(Sequence)]
struct IndirectData {
    data: TypeAndValue,
    message_digest: DigestInfo,
}

#[derive(Sequence)]
struct TypeAndValue {
    kind: ObjectIdentifier,
    value: Any,
}

#[derive(Sequence)]
struct DigestInfo {
    algorithm: AlgorithmIdentifier<Null>,
    digest: OctetString,
}

/// `SPC_PE_IMAGE_DATA`.
#[derive(Sequence)]
struct PeImageData {
    flags: BitString,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    file: Link,
}

/// `SPC_LINK`, of its choices the one that is used.
#[derive(Choice)]
enum Link {
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", constructed = "true")]
    File(SpcString),
}

#[derive(Choice)]
enum SpcString {
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT")]
    Unicode(BmpString),
}
