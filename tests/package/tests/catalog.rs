//! The test-signed packages' catalogs, read by three programs that know nothing of each other: osslsigncode, Wine's
//! crypt32 and wintrust, and openssl. What each is able to check it must find right, and a changed byte wrong.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use driver_package::authenticode;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Folders of the packages, below the target folder.
const PACKAGES: [&str; 2] = ["test-signed", "test-signed-arm64"];

const SHA_256: &str = "2.16.840.1.101.3.4.2.1";
const PE_IMAGE_DATA: &str = "1.3.6.1.4.1.311.2.1.15";
const LINK: &str = "1.3.6.1.4.1.311.2.1.25";
/// Name, kind of the digest, and MEMBERINFO2: an empty choice, 0 for an image and 2 for a plain file.
const MEMBERS: [(&str, &str, &str); 2] = [
    ("resvflt.inf", LINK, "8200"),
    ("resvflt.sys", PE_IMAGE_DATA, "8000"),
];

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target")
}

/// A folder for what a test makes.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// What a program printed, or its complaint.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(text + &String::from_utf8_lossy(&output.stderr))
    }
}

fn openssl(arguments: &[&str], input: &Path) -> String {
    let mut openssl = Command::new("openssl");
    run(openssl.args(arguments).arg(input)).unwrap()
}

/// As openssl says it, in small hexadecimal digits.
fn sha256(file: &Path) -> String {
    let said = openssl(&["dgst", "-sha256", "-r"], file);
    said.split(' ').next().unwrap().to_owned()
}

fn osslsigncode(file: &Path, catalog: Option<&Path>) -> Result<String, String> {
    let mut verify = Command::new("osslsigncode");
    let root = target().join("test-signing/certificate.pem");
    verify.arg("verify").arg("-CAfile").arg(root);
    if let Some(catalog) = catalog {
        verify.arg("-catalog").arg(catalog);
    }
    run(verify.arg("-in").arg(file))
}

/// A copy with one bit changed.
fn changed(file: &Path, at: usize, to: &Path) -> PathBuf {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1;
    fs::write(to, bytes).unwrap();
    to.to_owned()
}

/// Where in the image a byte is changed: its header's time stamp, code, and what lies before the signature.
fn places(image: &Path) -> [usize; 3] {
    let bytes = fs::read(image).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let headers = word(0x3C);
    let security = headers + 24 + 112 + 8 * 4;
    [headers + 8, 0x1000, word(security) - 1]
}

#[test]
fn osslsigncode_verifies_the_driver_by_the_catalog_and_refuses_a_changed_byte() {
    let folder = scratch("osslsigncode");
    for package in PACKAGES.map(|name| target().join(name)) {
        let (image, catalog) = (package.join("resvflt.sys"), package.join("resvflt.cat"));
        osslsigncode(&image, Some(&catalog)).unwrap();
        for at in places(&image) {
            let other = changed(&image, at, &folder.join("resvflt.sys"));
            osslsigncode(&other, Some(&catalog)).unwrap_err();
        }
        osslsigncode(&catalog, None).unwrap();
        let list = catalog_content(&catalog);
        for at in [list.start, list.start + 200, list.end - 1, list.end + 1500] {
            let other = changed(&catalog, at, &folder.join("resvflt.cat"));
            osslsigncode(&image, Some(&other)).unwrap_err();
        }
    }
}

/// It takes a plain file only under the names that scripts have, and before 2.8 not even that.
#[test]
fn osslsigncode_verifies_the_inf_where_it_knows_plain_files() {
    let folder = scratch("osslsigncode-inf");
    for package in PACKAGES.map(|name| target().join(name)) {
        let (inf, catalog) = (package.join("resvflt.inf"), package.join("resvflt.cat"));
        let script = folder.join("resvflt.mof");
        fs::copy(&inf, &script).unwrap();
        match osslsigncode(&script, Some(&catalog)) {
            Err(said) if said.contains("Unrecognized file type") => {
                eprintln!("this osslsigncode verifies images only");
            }
            said => drop(said.unwrap()),
        }
        for at in [0, fs::read(&inf).unwrap().len() - 1] {
            osslsigncode(&changed(&inf, at, &script), Some(&catalog)).unwrap_err();
        }
    }
}

/// One element as `openssl asn1parse` shows it.
#[derive(Debug)]
struct Element {
    at: usize,
    header: usize,
    length: usize,
    depth: usize,
    kind: String,
    value: String,
}

/// `openssl asn1parse`'s lines: `offset:d=depth hl=header l=length prim|cons: KIND :value`.
fn elements(file: &Path) -> Vec<Element> {
    let text = openssl(&["asn1parse", "-inform", "DER", "-in"], file);
    let element = |line: &str| {
        let (at, rest) = line.trim().split_once(":d=")?;
        let (numbers, rest) = rest.split_once(": ")?;
        let mut numbers = numbers.split([' ', '=']).filter_map(|n| n.parse().ok());
        let [depth, header, length] = [(); 3].map(|()| numbers.next().unwrap());
        let (kind, value) = rest.split_once(':').unwrap_or((rest, ""));
        Some(Element {
            at: at.parse().ok()?,
            header,
            length,
            depth,
            kind: kind.replace("[HEX DUMP]", "").trim().to_owned(),
            value: value.trim().to_owned(),
        })
    };
    text.lines().filter_map(element).collect()
}

/// Where the bytes lie that the signature's digest is taken of: the list without its own tag and length (RFC 2315, 7
/// and 9.3).
fn catalog_content(catalog: &Path) -> std::ops::Range<usize> {
    let all = elements(catalog);
    let ctl = all
        .iter()
        .position(|e| e.value == "1.3.6.1.4.1.311.10.1")
        .unwrap();
    let list = &all[ctl + 2];
    let start = list.at + list.header;
    start..start + list.length
}

/// The values between one that is told and the next of its depth or above.
fn below(all: &[Element], start: usize) -> impl Iterator<Item = &Element> {
    let depth = all[start].depth;
    all[start + 1..].iter().take_while(move |e| e.depth > depth)
}

#[test]
fn openssl_reads_the_digests_of_the_files_and_of_the_list_itself() {
    let folder = scratch("openssl");
    for package in PACKAGES.map(|name| target().join(name)) {
        let catalog = package.join("resvflt.cat");
        let all = elements(&catalog);
        let depths: Vec<_> = all.iter().take(5).map(|e| (e.depth, &*e.value)).collect();
        let wanted = [
            (0, ""),
            (1, "pkcs7-signedData"),
            (1, ""),
            (2, ""),
            (3, "01"),
        ];
        assert_eq!(depths, wanted);

        let mut wanted = digests_by_openssl(&package, &folder);
        wanted.sort();
        assert_eq!(digests(&all), wanted);

        let list = folder.join("list");
        fs::write(
            &list,
            &fs::read(&catalog).unwrap()[catalog_content(&catalog)],
        )
        .unwrap();
        let attribute = all.iter().position(|e| e.value == "messageDigest").unwrap();
        assert_eq!(all[attribute + 2].value.to_lowercase(), sha256(&list));
    }
}

/// A signature begins on eight bytes: what is put before it counts as the image's.
#[test]
fn an_image_of_any_length_has_the_digest_that_signing_it_gives() {
    let folder = scratch("lengths");
    let identity = target().join("test-signing");
    let image = fs::read(target().join("package/resvflt.sys")).unwrap();
    for tail in [0, 1, 5, 8] {
        let (plain, signed) = (folder.join("plain.sys"), folder.join("signed.sys"));
        let bytes = [&*image, &[0x55; 8][..tail]].concat();
        fs::write(&plain, &bytes).unwrap();
        let _ = fs::remove_file(&signed);
        let mut sign = Command::new("osslsigncode");
        sign.args(["sign", "-h", "sha256", "-certs"])
            .arg(identity.join("certificate.pem"))
            .arg("-key")
            .arg(identity.join("key.pem"));
        run(sign.arg("-in").arg(&plain).arg("-out").arg(&signed)).unwrap();
        let wanted = digest_by_openssl(&signed, &folder);
        for bytes in [bytes, fs::read(&signed).unwrap()] {
            let (is_image, covered) = authenticode::covered(&bytes).unwrap();
            let digest = authenticode::digest::<sha2::Sha256>(&covered);
            let wanted: Vec<_> = (0..wanted.len() / 2)
                .map(|at| u8::from_str_radix(&wanted[2 * at..2 * at + 2], 16).unwrap())
                .collect();
            assert!(is_image);
            assert_eq!(digest, wanted, "{tail} bytes more");
        }
        let mut more = fs::read(&signed).unwrap();
        more.push(0);
        authenticode::covered(&more).expect_err("what stands behind a signature is not signed");
    }
}

/// The digests of the [`MEMBERS`]; that of the image as its own signature, osslsigncode's, tells it.
fn digests_by_openssl(package: &Path, folder: &Path) -> [String; 2] {
    let image = digest_by_openssl(&package.join("resvflt.sys"), folder);
    [sha256(&package.join("resvflt.inf")), image]
}

/// As the signature in an image has it.
fn digest_by_openssl(image: &Path, folder: &Path) -> String {
    let end = places(image)[2] + 1;
    let signature = folder.join("signature");
    let bytes = &fs::read(image).unwrap()[end + 8..];
    // A SEQUENCE with a length of two bytes; what follows pads the table to eight, and is no DER if it is an odd number.
    assert_eq!(bytes[..2], [0x30, 0x82]);
    let length = 4 + usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
    assert!(bytes[length..].iter().all(|&byte| byte == 0));
    fs::write(&signature, &bytes[..length]).unwrap();
    digests(&elements(&signature)).remove(0)
}

/// The digests in `SPC_INDIRECT_DATA`, in order.
fn digests(all: &[Element]) -> Vec<String> {
    let data = (0..all.len()).filter(|at| all[*at].value == "1.3.6.1.4.1.311.2.1.4");
    let digest = |at: usize| {
        let holder = (0..at).rev().find(|i| all[*i].depth < all[at].depth)?;
        let octets = below(all, holder).filter(|e| e.kind == "OCTET STRING" && e.length == 32);
        octets.last().map(|e| e.value.to_lowercase())
    };
    data.filter_map(digest).collect()
}

#[test]
fn wine_understands_every_word_and_counts_a_changed_byte_as_another_file() {
    let folder = scratch("wine");
    let mut catalogs = Vec::new();
    let mut files = Vec::new();
    for name in PACKAGES {
        let package = target().join(name);
        let catalog = package.join("resvflt.cat");
        let unsigned = target().join(name.replace("test-signed", "package"));
        let unsigned = unsigned.join("resvflt.cat");
        // What is signed is the list's digest: a changed one is no longer what was signed.
        let all = elements(&catalog);
        let digest = all.iter().position(|e| e.value == "messageDigest").unwrap() + 2;
        let other = folder.join(format!("{name}.cat"));
        let other = changed(&catalog, all[digest].at + 10, &other);
        catalogs.extend([catalog, unsigned, other]);
        for (member, ..) in MEMBERS {
            let file = package.join(member);
            let other = folder.join(format!("{name}-{member}"));
            let other = changed(&file, 0x1000, &other);
            files.extend([file, other]);
        }
    }
    let said = wine(&catalogs, &files);
    let mut lists = said.split("catalog ").skip(1);
    let told = said.lines().filter_map(|line| line.strip_prefix("file "));
    let told: Vec<Vec<_>> = told.map(|line| line.split_whitespace().collect()).collect();
    for ((package, files), told) in PACKAGES.iter().zip(files.chunks(4)).zip(told.chunks(4)) {
        let package = target().join(package);
        let [signed, unsigned, other] = [(); 3].map(|()| lists.next().unwrap());
        let digests = digests_by_openssl(&package, &folder);
        assert_eq!(entries(signed), entries(unsigned));
        assert_eq!(entries(signed), wanted_entries(&digests, &package));
        // TRUST_E_NOSIGNATURE, TRUST_E_CERT_SIGNATURE.
        for (catalog, verdict) in [(signed, "0"), (unsigned, "800b0100"), (other, "80096004")] {
            assert!(
                catalog.contains(&format!("WinVerifyTrust {verdict}\r\n")),
                "{catalog}"
            );
        }
        // TRUST_E_BAD_DIGEST, of the signature in the image.
        assert_eq!([told[2][0], told[3][0]], ["0", "80096010"]);
        for (file, digests) in files.iter().zip(told) {
            listed(file, &digests[1..], signed);
        }
        members(signed, &digests);
    }
}

/// The file is in the list if it is the package's, by each digest that Wine took of it.
fn listed(file: &Path, digests: &[&str], list: &str) {
    let plain = openssl(&["dgst", "-sha1", "-r"], file);
    if file.extension().unwrap() == "sys" && plain.starts_with(digests[0]) {
        eprintln!("this Wine takes an image's digest as any file's");
        return;
    }
    let is_ours = file.starts_with(target().join("test-signed"))
        || file.starts_with(target().join("test-signed-arm64"));
    for digest in digests {
        let entry = format!("entry {digest}\r\n");
        assert_eq!(list.contains(&entry), is_ours, "{}", file.display());
    }
}

/// What the list must say, line by line, without its entries by SHA-1.
fn wanted_entries(digests: &[String; 2], package: &Path) -> Vec<String> {
    let is_x64 = package.ends_with("test-signed");
    let processor = if is_x64 { "X64" } else { "ARM64" };
    let mut entries: Vec<_> = MEMBERS
        .iter()
        .zip(digests)
        .map(|((name, kind, info), digest)| {
            vec![
                format!("entry {digest}"),
                format!("  other 1.3.6.1.4.1.311.12.2.3 {info}"),
                "  name OSAttr=2:10.0 flags 10010001".to_owned(),
                format!("  name File={name} flags 10010001"),
                format!("  digest {kind} {SHA_256} {digest}"),
            ]
        })
        .collect();
    entries.sort();
    let systems = ["19H1", "Vb", "21H2", "22H2", "24H2"];
    let client = |release: &str| format!("_v100_{processor}_{release}");
    let mut names: Vec<_> = systems.iter().map(|release| client(release)).collect();
    names.insert(2, format!("Server{}", client("21H2")));
    names.push(format!("Server{}", client("24H2")));
    let mut lines =
        vec!["usage 1.3.6.1.4.1.311.12.1.1 algorithm 1.3.6.1.4.1.311.12.1.3".to_owned()];
    lines.extend(entries.concat());
    lines.push(format!("extension OS={} flags 10010001", names.join(",")));
    lines.push("extension HWID1=gendisk flags 10010001".to_owned());
    lines
}

/// What Wine's crypt32 read of a list, without the entries by SHA-1 and their one line each.
fn entries(said: &str) -> Vec<String> {
    let of_list = [
        "usage ",
        "entry ",
        "  other ",
        "  name ",
        "  digest ",
        "extension ",
    ];
    let mut lines: Vec<&str> = said
        .lines()
        .filter(|l| of_list.iter().any(|s| l.starts_with(s)))
        .collect();
    while let Some(at) = lines
        .iter()
        .position(|l| l.starts_with("entry ") && l.len() == 46)
    {
        assert!(lines[at + 1].starts_with("  other 1.3.6.1.4.1.311.12.2.3 "));
        lines.drain(at..at + 2);
    }
    lines.into_iter().map(str::to_owned).collect()
}

/// `CryptCATEnumerateMember`, if it knows a catalog of version 2: Wine's 8 and 10 look for the member's information of
/// version 1 and say `CRYPT_E_ATTRIBUTES_MISSING`.
fn members(said: &str, digests: &[String; 2]) {
    assert!(said.contains("CryptCATOpen 1\r\n"));
    if said.contains("members end: error 8009100f\r\n") {
        eprintln!("this Wine enumerates no catalog of version 2");
        return;
    }
    for digest in digests {
        let member = format!("member {}\r\n", digest.to_uppercase());
        assert!(said.contains(&member), "{said}");
    }
}

const WINE: &str = "/usr/lib/wine/wine64";
const WINESERVER: &str = "/usr/lib/wine/wineserver64";

/// Runs `wine/catalog.c`; what it said.
fn wine(catalogs: &[PathBuf], files: &[PathBuf]) -> String {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("catalog.exe");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wine/catalog.c");
    let mut compiler = Command::new("x86_64-w64-mingw32-gcc");
    compiler
        .args(["-Os", "-s", "-Wall", "-Werror", "-municode", "-o"])
        .arg(&program)
        .arg(source)
        .args(["-lcrypt32", "-lwintrust"]);
    run(&mut compiler).unwrap();
    // The tests of resvctl have the same: making it takes longer than all of this.
    let prefix = target().join("wine/prefix");
    let wine = |program: &str| {
        let mut wine = Command::new(program);
        wine.env("WINEPREFIX", &prefix)
            .env("WINEDEBUG", "-all")
            .env("WINEDLLOVERRIDES", "mscoree,mshtml=")
            .env_remove("DISPLAY");
        wine
    };
    if !prefix.join("system.reg").exists() {
        fs::create_dir_all(&prefix).unwrap();
        run(wine(WINE).args(["wineboot", "--init"])).unwrap();
        run(wine(WINESERVER).arg("--wait")).unwrap();
    }
    let certificate = target().join("test-signed/resvflt-test.cer");
    let mut reader = wine(WINE);
    reader.arg(program).arg(certificate).args(catalogs);
    run(reader.arg("-").args(files)).unwrap()
}
