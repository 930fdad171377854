//! The driver package: what Windows installs, and test-signed where asked for.

use crate::End;
use crate::build::{self, Profile, root, timed};
use crate::packages::{self, Need};
use crate::resvctl;
use driver_package::catalog::{self, Catalog};
use driver_package::inf::Inf;
use driver_package::rules;
use driver_package::stamp::{Date, Stamp};
use open_kit::{Architecture, Error, Result, run, write};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::UNIX_EPOCH;

const INF: &str = "resvflt.inf";
const CATALOG: &str = "resvflt.cat";

/// Builds all of the package and says what it holds and what it lacks.
pub fn command(architecture: Architecture, test_sign: bool) -> Result<End> {
    let needs = [
        (true, Need::Build),
        (true, Need::of(architecture)),
        (architecture == Architecture::Amd64, Need::Windows),
        (test_sign, Need::Sign),
    ];
    let needs: Vec<_> = needs.iter().filter(|n| n.0).map(|n| n.1).collect();
    let Some(lane) = packages::ensure(&needs)? else {
        return Ok(End::Missing);
    };
    let own = lane.own(architecture.target());
    build::build_for(architecture, own, Profile::Release, &["--quiet"])?;
    if architecture == Architecture::Amd64 {
        resvctl::build(lane)?;
    }
    let mut folder = complete(architecture)?;
    if test_sign {
        folder = timed("test-signing", "", || sign(architecture, &folder))?;
    }
    list(&folder)?;
    println!("{}", if test_sign { TEST_SIGNED } else { UNSIGNED });
    if architecture == Architecture::Arm64 {
        println!("{ARM64}");
    }
    Ok(End::Good)
}

/// Puts INF, header and catalog beside the built driver; the folder.
pub fn complete(architecture: Architecture) -> Result<PathBuf> {
    let folder = root().join(build::package(architecture));
    let inx = root().join("inf/resvflt.inx");
    let inf = stamp(architecture, &inx)?;
    write(&folder.join(INF), inf.as_bytes())?;
    let header = root().join("inf/resvflt.h");
    let text = fs::read(&header).map_err(Error::at(&header))?;
    write(&folder.join("resvflt.h"), &text)?;
    let catalog = catalog(architecture, &folder, source_time(&inx)?)?;
    write(&folder.join(CATALOG), &catalog)?;
    Ok(folder)
}

/// The catalog of a folder's package. A signature in the driver changes nothing of it.
fn catalog(architecture: Architecture, folder: &Path, seconds: u64) -> Result<Vec<u8>> {
    let read = |name: String| {
        let path = folder.join(&name);
        let bytes = fs::read(&path).map_err(Error::at(&path))?;
        Ok((name, bytes))
    };
    let path = folder.join(INF);
    let inf = Inf::parse(&fs::read(&path).map_err(Error::at(&path))?);
    let catalog = Catalog {
        systems: catalog::systems(architecture.name()),
        hardware_ids: catalog::hardware_ids(&inf),
        seconds,
        files: catalog::members(&inf, INF)
            .into_iter()
            .map(read)
            .collect::<Result<_>>()?,
    };
    catalog.encode().map_err(Error::at(folder))
}

fn stamp(architecture: Architecture, inx: &Path) -> Result<String> {
    let stamp = Stamp {
        architecture: architecture.name().to_owned(),
        kmdf: kmdf_version()?,
        catalog: CATALOG.to_owned(),
        date: Date::of_unix_time(source_time(inx)?),
        version: version(),
    };
    let bytes = fs::read(inx).map_err(Error::at(inx))?;
    let inf = stamp.apply(&bytes).map_err(Error::at(inx))?;
    let read = Inf::parse(inf.as_bytes());
    let broken = rules::broken(&read).map(|(rule, line, what)| {
        let code = rule
            .infverif
            .map_or(String::new(), |c| format!(", infverif {c}"));
        let (demands, page) = (rule.demands, rule.page);
        format!("resvflt.inf:{line}: {what}: {demands} ({page}{code})")
    });
    let broken: Vec<_> = broken.collect();
    if broken.is_empty() {
        Ok(inf)
    } else {
        Err(Error::new(broken.join("\n")))
    }
}

/// The workspace's version in four parts.
fn version() -> [u16; 4] {
    let mut parts = env!("CARGO_PKG_VERSION").split('.');
    [(); 4].map(|()| parts.next().and_then(|p| p.parse().ok()).unwrap_or(0))
}

/// The KMDF that the driver is built for, from where wdk-build reads it.
fn kmdf_version() -> Result<(u32, u32)> {
    let manifest = root().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).map_err(Error::at(&manifest))?;
    let number = |key: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(key));
        let value = line.and_then(|l| l.trim().strip_prefix('='));
        value
            .and_then(|v| v.trim().parse().ok())
            .ok_or_else(|| Error::at(&manifest)(format!("no {key}")))
    };
    Ok((
        number("kmdf-version-major")?,
        number("target-kmdf-version-minor")?,
    ))
}

/// `SOURCE_DATE_EPOCH`, or the time of the last commit, or of the file where there is no Git.
fn source_time(file: &Path) -> Result<u64> {
    let given = env::var("SOURCE_DATE_EPOCH").ok();
    let commit = || {
        let git = Command::new("git")
            .args(["log", "-1", "--format=%ct"])
            .current_dir(root())
            .stderr(Stdio::null())
            .output();
        String::from_utf8(git.ok()?.stdout).ok()
    };
    let seconds = given.or_else(commit);
    if let Some(seconds) = seconds.and_then(|s| s.trim().parse().ok()) {
        return Ok(seconds);
    }
    let time = fs::metadata(file).and_then(|m| m.modified());
    let time = time.map_err(Error::at(file))?.duration_since(UNIX_EPOCH);
    Ok(time.map_or(0, |t| t.as_secs()))
}

/// Signs a copy of the package's programs and catalog with a certificate of this checkout's own; the copy's folder.
pub fn sign(architecture: Architecture, package: &Path) -> Result<PathBuf> {
    let signed = root().join(match architecture {
        Architecture::Amd64 => "target/test-signed",
        Architecture::Arm64 => "target/test-signed-arm64",
    });
    let _ = fs::remove_dir_all(&signed);
    fs::create_dir_all(&signed).map_err(Error::at(&signed))?;
    let (key, certificate) = identity()?;
    for entry in fs::read_dir(package).map_err(Error::at(package))?.flatten() {
        let (from, to) = (entry.path(), signed.join(entry.file_name()));
        let extension = from.extension().and_then(|e| e.to_str());
        let hashes: &[_] = match extension {
            // Windows checks a boot-start driver by the signature in it, and by page hashes each page that it reads
            // later.
            Some("exe" | "sys") => &["-ph"],
            Some("cat") => &[],
            _ => {
                fs::copy(&from, &to).map_err(Error::at(&from))?;
                continue;
            }
        };
        let mut osslsigncode = Command::new("osslsigncode");
        osslsigncode
            .args(["sign", "-h", "sha256", "-n", "resvflt (test-signed)"])
            .args(hashes)
            .arg("-certs")
            .arg(&certificate)
            .arg("-key")
            .arg(&key);
        quietly(osslsigncode.arg("-in").arg(&from).arg("-out").arg(&to))?;
        verify(&certificate, &to, None)?;
    }
    // Of the two files in the catalog it knows images only.
    verify(
        &certificate,
        &signed.join("resvflt.sys"),
        Some(&signed.join(CATALOG)),
    )?;
    let cer = signed.join("resvflt-test.cer");
    let mut openssl = Command::new("openssl");
    openssl
        .args(["x509", "-outform", "DER", "-in"])
        .arg(&certificate);
    quietly(openssl.arg("-out").arg(&cer))?;
    Ok(signed)
}

/// Reads a signature back: in the file, or in the catalog for it.
fn verify(certificate: &Path, file: &Path, catalog: Option<&Path>) -> Result<()> {
    let mut verify = Command::new("osslsigncode");
    verify.arg("verify").arg("-CAfile").arg(certificate);
    if let Some(catalog) = catalog {
        verify.arg("-catalog").arg(catalog);
    }
    quietly(verify.arg("-in").arg(file))
}

/// Key and certificate, made anew where they are absent or run out within a day: a test machine trusts them once.
fn identity() -> Result<(PathBuf, PathBuf)> {
    let folder = root().join("target/test-signing");
    fs::create_dir_all(&folder).map_err(Error::at(&folder))?;
    let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
    let mut check = Command::new("openssl");
    check
        .args(["x509", "-noout", "-checkend", "86400", "-in"])
        .arg(&certificate);
    if !key.exists() || quietly(&mut check).is_err() {
        let mut openssl = Command::new("openssl");
        openssl
            .args(["req", "-x509", "-newkey", "rsa:3072", "-sha256", "-nodes"])
            .args(["-days", "365", "-subj", "/CN=resvflt test signing"])
            .args(["-addext", "keyUsage=critical,digitalSignature"])
            .args(["-addext", "extendedKeyUsage=codeSigning"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate);
        quietly(&mut openssl)?;
    }
    Ok((key, certificate))
}

/// Runs a command and shows what it said only if it fails.
fn quietly(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(Error::at(Path::new(&name)))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Err(Error::at(Path::new(&name))(said.trim_end()))
}

/// Prints what a folder holds.
fn list(folder: &Path) -> Result<()> {
    println!("{}", folder.display());
    let mut files: Vec<_> = fs::read_dir(folder)
        .map_err(Error::at(folder))?
        .flatten()
        .map(|e| e.file_name())
        .collect();
    files.sort();
    for file in &files {
        let bytes = fs::metadata(folder.join(file)).map_or(0, |m| m.len());
        println!("{bytes:>10}  {}", file.display());
    }
    run(Command::new("sha256sum").current_dir(folder).args(&files))
}

const UNSIGNED: &str = "\
Not signed, so Windows takes it nowhere. `cargo xtask package --test-sign` signs it for test machines. For another
certificate, sign resvflt.sys (with page hashes: signtool sign /fd SHA256 /ph) and resvflt.cat; the catalog holds for the
signed driver as it does for this one. For the world it takes Microsoft's signature: docs/verify.md, Release signing.";

const TEST_SIGNED: &str = "\
For test machines, whole: with Secure Boot off, `bcdedit /set testsigning on`, a restart, and the certificate trusted
  certutil -addstore Root resvflt-test.cer
  certutil -addstore TrustedPublisher resvflt-test.cer
nothing is missing for `pnputil /add-driver resvflt.inf /install`. osslsigncode verified image and catalog just now; on
Windows this was never tried by this project.";

const ARM64: &str = "\
For ARM64, which this project never ran anywhere. resvctl.exe is not in it: no package of Debian links programs for this
Windows.";
