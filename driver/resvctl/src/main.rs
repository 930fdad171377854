//! `resvctl`: see the library.

use std::process::ExitCode;

#[cfg(windows)]
fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let Some(exit) = resvctl::windows::child(&arguments) {
        return exit.into();
    }
    let mut out = std::io::stdout().lock();
    let mut err = std::io::stderr().lock();
    let exit = resvctl::run(&resvctl::windows::Windows, arguments, &mut out, &mut err);
    ExitCode::from(exit as u8)
}

#[cfg(not(windows))]
fn main() -> ExitCode {
    eprintln!("resvctl: runs on Windows; `cargo xtask package` builds it for there");
    ExitCode::FAILURE
}
