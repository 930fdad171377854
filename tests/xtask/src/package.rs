//! The driver package: what Windows installs, as far as it can be made here, and test-signed where asked for.

use crate::End;
use crate::build::{self, Lane, Profile, root, timed};
use crate::packages::{self, Need};
use crate::resvctl;
use driver_package::inf::Inf;
use driver_package::rules;
use driver_package::stamp::{Date, Stamp};
use open_kit::{Error, Result, run, write};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::UNIX_EPOCH;

/// Builds all of the package and says what it holds and what it lacks.
pub fn command(test_sign: bool) -> Result<End> {
    let lane = Lane::choose();
    let needs = [Need::Build, Need::Windows, Need::Sign];
    let needs = if test_sign { &needs[..] } else { &needs[..2] };
    if !packages::ensure(needs, lane)? {
        return Ok(End::Missing);
    }
    build::build(lane, Profile::Release, &["--quiet"])?;
    resvctl::build(lane)?;
    let mut folder = complete()?;
    if test_sign {
        folder = timed("test-signing", "", || sign(&folder))?;
    }
    list(&folder)?;
    println!("{}", if test_sign { TEST_SIGNED } else { UNSIGNED });
    Ok(End::Good)
}

/// Puts the INF and the header beside the built driver; the folder.
pub fn complete() -> Result<PathBuf> {
    let folder = root().join("target/package");
    let inx = root().join("inf/resvflt.inx");
    let inf = stamp(&inx)?;
    write(&folder.join("resvflt.inf"), inf.as_bytes())?;
    let header = root().join("inf/resvflt.h");
    let text = fs::read(&header).map_err(Error::at(&header))?;
    write(&folder.join("resvflt.h"), &text)?;
    Ok(folder)
}

fn stamp(inx: &Path) -> Result<String> {
    let stamp = Stamp {
        architecture: "amd64".to_owned(),
        kmdf: kmdf_version()?,
        catalog: "resvflt.cat".to_owned(),
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

/// Signs a copy of the package's programs with a certificate of this checkout's own; the copy's folder.
pub fn sign(package: &Path) -> Result<PathBuf> {
    let signed = root().join("target/test-signed");
    let _ = fs::remove_dir_all(&signed);
    fs::create_dir_all(&signed).map_err(Error::at(&signed))?;
    let (key, certificate) = identity()?;
    for entry in fs::read_dir(package).map_err(Error::at(package))?.flatten() {
        let (from, to) = (entry.path(), signed.join(entry.file_name()));
        if from.extension().is_none_or(|e| e != "sys" && e != "exe") {
            fs::copy(&from, &to).map_err(Error::at(&from))?;
            continue;
        }
        // Windows checks a boot-start driver by the signature in it, and by page hashes each page that it reads later.
        let mut osslsigncode = Command::new("osslsigncode");
        osslsigncode
            .args(["sign", "-h", "sha256", "-ph", "-n", "resvflt (test-signed)"])
            .arg("-certs")
            .arg(&certificate)
            .arg("-key")
            .arg(&key);
        quietly(osslsigncode.arg("-in").arg(&from).arg("-out").arg(&to))?;
        let mut verify = Command::new("osslsigncode");
        verify.arg("verify").arg("-CAfile").arg(&certificate);
        quietly(verify.arg("-in").arg(&to))?;
    }
    let cer = signed.join("resvflt-test.cer");
    let mut openssl = Command::new("openssl");
    openssl
        .args(["x509", "-outform", "DER", "-in"])
        .arg(&certificate);
    quietly(openssl.arg("-out").arg(&cer))?;
    Ok(signed)
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
Still missing for Windows: a catalog, resvflt.cat, and signatures on it and on resvflt.sys. With the WDK:
  inf2cat /driver:. /os:10_19H1_X64,10_VB_X64,ServerFE_X64,10_CO_X64,10_NI_X64,10_GE_X64,Server2025_X64
  signtool sign /fd SHA256 /ph ... resvflt.sys    before inf2cat, and the same on resvflt.cat after it
`cargo xtask package --test-sign` signs resvflt.sys here. `cargo make` on Windows does all of it.";

const TEST_SIGNED: &str = "\
For test machines only (bcdedit /set testsigning on), with resvflt-test.cer imported there as a trusted root and as a
trusted publisher. Still missing: a catalog, resvflt.cat, without which Windows takes the package for unsigned. Debian
has nothing that makes one: osslsigncode only signs it (outside of Debian there is LINBIT's generate-cat-file). With the
WDK:
  inf2cat /driver:. /os:10_19H1_X64,10_VB_X64,ServerFE_X64,10_CO_X64,10_NI_X64,10_GE_X64,Server2025_X64
and here, with target/test-signing's certificate.pem and key.pem:
  osslsigncode sign -h sha256 -certs certificate.pem -key key.pem -in resvflt.cat -out signed.cat
Nothing of this was ever tried on Windows by this project.";
