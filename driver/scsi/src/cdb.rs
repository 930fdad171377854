//! The four command descriptor blocks.
//!
//! RESERVE and RELEASE of a whole logical unit for this initiator: no third party, no extent, no
//! parameter list (SPC-2 7.16, 7.17, 7.21, 7.22). All bytes after the operation code are zero.

use crate::control::Control;

/// What the caller wants of the logical unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Reserve the logical unit for this initiator.
    Reserve,
    /// Give the reservation up.
    Release,
}

/// Which of a command's two forms is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// RESERVE(6) and RELEASE(6).
    Six,
    /// RESERVE(10) and RELEASE(10).
    Ten,
}

/// A command descriptor block, ready to be copied into a pass-through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cdb(&'static [u8]);

impl Cdb {
    /// The block for a command in one of its forms.
    #[must_use]
    pub const fn new(command: Command, form: Form) -> Self {
        Self(match (command, form) {
            (Command::Reserve, Form::Six) => &[0x16, 0, 0, 0, 0, 0],
            (Command::Release, Form::Six) => &[0x17, 0, 0, 0, 0, 0],
            (Command::Reserve, Form::Ten) => &[0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            (Command::Release, Form::Ten) => &[0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        })
    }

    /// The block's 6 or 10 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        self.0
    }
}

impl Command {
    /// The command that an I/O control code asks for: see [`Control::of`].
    #[must_use]
    #[inline]
    pub const fn from_ioctl(code: u32) -> Option<Self> {
        match Control::of(code) {
            Control::Serve(command) => Some(command),
            _ => None,
        }
    }
}
