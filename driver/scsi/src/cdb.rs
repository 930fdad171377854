//! The four command descriptor blocks.
//!
//! RESERVE and RELEASE of a whole logical unit for this initiator: no third party, no extent, no
//! parameter list (SPC-2 7.16, 7.17, 7.21, 7.22). All bytes after the operation code are zero.

/// What the caller wants of the logical unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Command {
    /// Reserve the logical unit for this initiator.
    Reserve = 0,
    /// Give the reservation up: the operation code after RESERVE's, in either form.
    Release = 1,
}

/// Which of a command's two forms is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Form {
    /// RESERVE(6), which this is the operation code of, and RELEASE(6).
    Six = 0x16,
    /// RESERVE(10), which this is the operation code of, and RELEASE(10).
    Ten = 0x56,
}

/// A command descriptor block: an operation code, and zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cdb(u8);

impl Cdb {
    /// The block for a command in one of its forms.
    #[must_use]
    #[inline]
    pub const fn new(command: Command, form: Form) -> Self {
        Self(form as u8 | command as u8)
    }

    /// Its first byte.
    #[must_use]
    #[inline]
    pub const fn operation_code(self) -> u8 {
        self.0
    }

    /// How many bytes it has: 6 or 10, as its group code says, the operation code's upper three bits
    /// (SPC-2 4.3.4.1).
    #[must_use]
    #[inline]
    pub const fn length(self) -> u8 {
        match self.0 >> 5 {
            0 => 6,
            _ => 10,
        }
    }
}
