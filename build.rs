//! Links the driver as the WDK's own build does, and so that equal input gives equal bytes.

#[cfg(any(windows, open_kit))]
fn main() -> Result<(), wdk_build::ConfigError> {
    // The loader refuses a boot driver without a right checksum; lld-link writes one only with /RELEASE.
    println!("cargo::rustc-cdylib-link-arg=/RELEASE");
    println!("cargo::rustc-cdylib-link-arg=/Brepro");
    // Cargo watches no linked library: a changed kit would leave a stale image.
    #[cfg(open_kit)]
    if let Ok(kit) = std::env::var("WDKContentRoot") {
        println!("cargo::rerun-if-changed={kit}/Lib");
    }
    println!("cargo::rerun-if-env-changed=WDKContentRoot");
    wdk_build::configure_wdk_binary_build()
}

#[cfg(not(any(windows, open_kit)))]
fn main() {}
