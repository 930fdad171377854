//! `selftest`: what the docs say of Windows, settled on the machine that it runs on.

mod checks;

pub use checks::{CHECKS, Check, Needs};
