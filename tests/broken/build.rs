//! Links as the driver's own build script does, and lets the mistakes in.

#[cfg(any(windows, open_kit))]
fn main() -> Result<(), wdk_build::ConfigError> {
    println!("cargo::rustc-cfg=broken");
    #[cfg(open_kit)]
    if let Ok(kit) = std::env::var("WDKContentRoot") {
        println!("cargo::rerun-if-changed={kit}/Lib");
    }
    println!("cargo::rerun-if-env-changed=WDKContentRoot");
    wdk_build::configure_wdk_binary_build()
}

#[cfg(not(any(windows, open_kit)))]
fn main() {}
