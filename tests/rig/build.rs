//! With the feature `iscsi`: bindings to the installed libiscsi, made from its own headers.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "iscsi")]
    libiscsi();
}

/// bindgen looks for libclang in the usual places; `LIBCLANG_PATH` names another one.
#[cfg(feature = "iscsi")]
fn libiscsi() {
    const HEADERS: &str = "#include <iscsi/iscsi.h>\n#include <iscsi/scsi-lowlevel.h>\n";
    const FUNCTIONS: &str = "iscsi_create_context|iscsi_destroy_context|iscsi_set_targetname\
        |iscsi_set_session_type|iscsi_set_noautoreconnect|iscsi_connect_async|iscsi_login_async\
        |iscsi_logout_async|iscsi_get_error|iscsi_get_fd|iscsi_which_events|iscsi_service\
        |iscsi_scsi_command_async|iscsi_scsi_cancel_task|iscsi_task_mgmt_async\
        |scsi_create_task|scsi_free_scsi_task";

    println!("cargo::rustc-link-lib=iscsi");
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR for a build script");
    bindgen::Builder::default()
        .header_contents("libiscsi.h", HEADERS)
        .allowlist_function(FUNCTIONS)
        .allowlist_type("iscsi_data|iscsi_task_mgmt_(funcs|response)|scsi_xfer_dir")
        .opaque_type("scsi_sense")
        .default_enum_style(bindgen::EnumVariation::ModuleConsts)
        .generate()
        .expect("feature iscsi: install libiscsi-dev and libclang (Debian: libclang-19-dev)")
        .write_to_file(std::path::Path::new(&out).join("libiscsi.rs"))
        .expect("OUT_DIR is writable");
}
