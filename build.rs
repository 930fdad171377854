//! Links the driver as the WDK's own build does, with its version resource, and so that equal input gives equal bytes.

#[cfg(any(windows, open_kit))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The loader refuses a boot driver without a right checksum; lld-link writes one only with /RELEASE.
    println!("cargo::rustc-cdylib-link-arg=/RELEASE");
    println!("cargo::rustc-cdylib-link-arg=/Brepro");
    let resource = std::path::Path::new(&std::env::var("OUT_DIR")?).join("version.res");
    std::fs::write(&resource, version::resource())?;
    println!("cargo::rustc-cdylib-link-arg={}", resource.display());
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=Cargo.toml");
    // Cargo watches no linked library: a changed kit would leave a stale image.
    #[cfg(open_kit)]
    if let Ok(kit) = std::env::var("WDKContentRoot") {
        println!("cargo::rerun-if-changed={kit}/Lib");
    }
    println!("cargo::rerun-if-env-changed=WDKContentRoot");
    wdk_build::configure_wdk_binary_build()?;
    // Last, for the last one counts: wdk-build names no version, and the linkers' default is 6.0.
    println!("cargo::rustc-cdylib-link-arg=/SUBSYSTEM:NATIVE,10.0");
    println!("cargo::rustc-cdylib-link-arg=/OSVERSION:10.0");
    Ok(())
}

#[cfg(not(any(windows, open_kit)))]
fn main() {}

/// The version resource, without a resource compiler: so Windows and Linux give it the same bytes.
///
/// Layout: Microsoft's pages on RESOURCEHEADER and on `VS_VERSIONINFO` and what it holds.
#[cfg(any(windows, open_kit))]
mod version {
    const RT_VERSION: u16 = 16;
    const VS_VERSION_INFO: u16 = 1;
    const ENGLISH_US: u16 = 0x0409;
    const UNICODE: u16 = 1200;
    /// MOVEABLE | PURE, as resource compilers set them; long without a meaning.
    const MEMORY_FLAGS: u16 = 0x30;

    const VS_FF_DEBUG: u32 = 1;
    const VOS_NT_WINDOWS32: u32 = 0x0004_0004;
    const VFT_DRV: u32 = 3;
    const VFT2_DRV_SYSTEM: u32 = 7;

    /// A .res file with the one resource.
    pub fn resource() -> Vec<u8> {
        let info = info();
        let mut res = header(0, 0, 0);
        res.extend(header(info.len(), RT_VERSION, VS_VERSION_INFO));
        res.extend(info);
        res
    }

    /// RESOURCEHEADER. Type, name and size 0 make the entry that says "32-bit" and begins every file.
    fn header(size: usize, kind: u16, name: u16) -> Vec<u8> {
        let real = kind != 0;
        let mut bytes = dwords(&[u32::try_from(size).expect("small"), 32]);
        bytes.extend(words(&[0xFFFF, kind, 0xFFFF, name, 0, 0]));
        bytes.extend(words(&if real {
            [MEMORY_FLAGS, ENGLISH_US]
        } else {
            [0; 2]
        }));
        bytes.extend(dwords(&[0, 0]));
        bytes
    }

    fn info() -> Vec<u8> {
        let cargo = |name| std::env::var(format!("CARGO_PKG_{name}")).unwrap_or_default();
        let part = |name| cargo(name).parse::<u16>().expect("a number of 16 bits");
        let [major, minor, patch] = ["VERSION_MAJOR", "VERSION_MINOR", "VERSION_PATCH"].map(part);
        let version = format!("{major}.{minor}.{patch}.0");
        let name = cargo("NAME");
        let file = format!("{name}.sys");
        let strings = [
            ("CompanyName", "resvflt project"),
            ("FileDescription", &cargo("DESCRIPTION")),
            ("FileVersion", &version),
            ("InternalName", &file),
            (
                "LegalCopyright",
                &format!("The resvflt authors. {}", cargo("LICENSE")),
            ),
            ("OriginalFilename", &file),
            ("ProductName", &name),
            ("ProductVersion", &version),
        ];
        let strings = strings.map(|(key, text)| string(key, text)).concat();
        let table = node(
            &format!("{ENGLISH_US:04x}{UNICODE:04x}"),
            &[],
            Kind::Text,
            &strings,
        );
        let translation = words(&[ENGLISH_US, UNICODE]);
        let var = node("Translation", &translation, Kind::Binary, &[]);
        let mut children = node("StringFileInfo", &[], Kind::Text, &table);
        children.extend(node("VarFileInfo", &[], Kind::Text, &var));

        let debug = std::env::var("PROFILE").is_ok_and(|profile| profile == "debug");
        let numbers = [
            (u32::from(major) << 16) | u32::from(minor),
            u32::from(patch) << 16,
        ];
        let fixed = dwords(&[
            0xFEEF_04BD, // dwSignature
            0x0001_0000, // dwStrucVersion
            numbers[0],  // of the file
            numbers[1],
            numbers[0], // of the product
            numbers[1],
            0x3F, // dwFileFlagsMask: all
            if debug { VS_FF_DEBUG } else { 0 },
            VOS_NT_WINDOWS32,
            VFT_DRV,
            VFT2_DRV_SYSTEM,
            0, // dwFileDate
            0,
        ]);
        node("VS_VERSION_INFO", &fixed, Kind::Binary, &children)
    }

    #[derive(Clone, Copy)]
    enum Kind {
        Binary = 0,
        Text = 1,
    }

    fn string(key: &str, text: &str) -> Vec<u8> {
        node(key, &utf16(text), Kind::Text, &[])
    }

    /// The shape that all its structures share: lengths, key, value and children, each beginning on 4 bytes. So does
    /// what follows; wLength leaves out the padding up to there.
    fn node(key: &str, value: &[u8], kind: Kind, children: &[u8]) -> Vec<u8> {
        let count = match kind {
            Kind::Binary => value.len(),
            Kind::Text => value.len() / 2,
        };
        let mut body = vec![0; 6];
        body.extend(utf16(key));
        pad(&mut body);
        body.extend(value);
        if !children.is_empty() {
            pad(&mut body);
            body.extend(children);
        }
        let length = |n: usize| u16::try_from(n).expect("small");
        let lengths = words(&[length(body.len()), length(count), kind as u16]);
        body.splice(..6, lengths);
        pad(&mut body);
        body
    }

    fn pad(bytes: &mut Vec<u8>) {
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }

    fn utf16(text: &str) -> Vec<u8> {
        text.encode_utf16()
            .chain([0])
            .flat_map(u16::to_le_bytes)
            .collect()
    }

    fn words(values: &[u16]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn dwords(values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }
}
