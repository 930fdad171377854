//! Links as the driver's own build script does, but with what the mistakes are made at put in between.

/// lld turns each use of such a symbol into one of `__wrap_` and its name, and `__real_` and its name into the symbol.
#[cfg(any(windows, open_kit))]
const WRAPPED: [&str; 5] = [
    "DriverEntry",
    "EtwRegister",
    "EtwUnregister",
    "EtwWriteTransfer",
    "IofCompleteRequest",
];

#[cfg(any(windows, open_kit))]
fn main() -> Result<(), wdk_build::ConfigError> {
    for symbol in WRAPPED {
        println!("cargo::rustc-cdylib-link-arg=/wrap:{symbol}");
    }
    #[cfg(open_kit)]
    if let Ok(kit) = std::env::var("WDKContentRoot") {
        println!("cargo::rerun-if-changed={kit}/Lib");
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=WDKContentRoot");
    wdk_build::configure_wdk_binary_build()
}

#[cfg(not(any(windows, open_kit)))]
fn main() {}
