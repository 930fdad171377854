//! The four command descriptor blocks, and the control codes that ask for them.
//!
//! RESERVE and RELEASE of a whole logical unit for this initiator: no third party, no extent, no
//! parameter list (SPC-2 7.16, 7.17, 7.21, 7.22). All bytes after the operation code are zero.

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
    /// The command that an I/O control code asks for.
    ///
    /// `IOCTL_STORAGE_RESERVE` and `IOCTL_STORAGE_RELEASE` have older spellings of the same
    /// function number under the device types of disks, CD-ROMs and tapes (`ntdddisk.h`,
    /// `ntddcdrm.h`, `ntddtape.h`); classpnp takes all for the storage ones
    /// (microsoft/Windows-driver-samples, storage/class/classpnp/src/class.c,
    /// `ClassDeviceControl`).
    #[must_use]
    #[inline]
    pub const fn from_ioctl(code: u32) -> Option<Self> {
        match code {
            0x002D_4810 | 0x0007_4810 | 0x0002_4810 | 0x001F_4810 => Some(Self::Reserve),
            0x002D_4814 | 0x0007_4814 | 0x0002_4814 | 0x001F_4814 => Some(Self::Release),
            _ => None,
        }
    }
}
