//! Which I/O control codes are the filter's, and which others end a reservation.
//!
//! Every `IRP_MJ_DEVICE_CONTROL` of the disk is told apart here, so that a foreign one has to be
//! cheap.

use crate::cdb::Command;
use crate::state::IOCTL_RESVFLT_QUERY_STATE;

/// What an I/O control code is to the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Control {
    /// A request to serve: reserve or release.
    Serve(Command),
    /// [`IOCTL_RESVFLT_QUERY_STATE`].
    QueryState,
    /// A reset asked for by somebody on this node. It passes untouched, and is
    /// [`Event::ResetPassed`](crate::Event::ResetPassed) to the operation: a reset ends every
    /// SCSI-2 reservation of the logical unit, whoever holds it (SPC-2 5.5.1).
    Reset,
    /// None of the filter's business.
    Foreign,
}

/// `IOCTL_STORAGE_BREAK_RESERVATION` (`ntddstor.h`): the port driver resets until the unit is free.
pub const IOCTL_STORAGE_BREAK_RESERVATION: u32 = 0x002D_5014;
/// `IOCTL_STORAGE_RESET_BUS` (`ntddstor.h`).
pub const IOCTL_STORAGE_RESET_BUS: u32 = 0x002D_5000;
/// `IOCTL_STORAGE_RESET_DEVICE` (`ntddstor.h`).
pub const IOCTL_STORAGE_RESET_DEVICE: u32 = 0x002D_5004;

const STORAGE: u32 = 0x2D;
const DISK: u32 = 0x07;
const CDROM: u32 = 0x02;
const TAPE: u32 = 0x1F;

/// `CTL_CODE(device type, 0x0204, METHOD_BUFFERED, FILE_READ_ACCESS)`
const fn reserve(device_type: u32) -> (u32, Control) {
    (device_type << 16 | 0x4810, Control::Serve(Command::Reserve))
}

/// `CTL_CODE(device type, 0x0205, METHOD_BUFFERED, FILE_READ_ACCESS)`
const fn release(device_type: u32) -> (u32, Control) {
    (device_type << 16 | 0x4814, Control::Serve(Command::Release))
}

/// All codes that are not foreign.
///
/// `IOCTL_STORAGE_RESERVE` and `IOCTL_STORAGE_RELEASE` have older spellings of the same function
/// number under the device types of disks, CD-ROMs and tapes (`ntdddisk.h`, `ntddcdrm.h`,
/// `ntddtape.h`); classpnp takes all for the storage ones (microsoft/Windows-driver-samples,
/// storage/class/classpnp/src/class.c, `ClassDeviceControl`). The three resets are the port driver's
/// to serve, and it knows them by their storage spelling alone.
pub const CODES: [(u32, Control); 12] = [
    reserve(STORAGE),
    reserve(DISK),
    reserve(CDROM),
    reserve(TAPE),
    release(STORAGE),
    release(DISK),
    release(CDROM),
    release(TAPE),
    (IOCTL_STORAGE_BREAK_RESERVATION, Control::Reset),
    (IOCTL_STORAGE_RESET_BUS, Control::Reset),
    (IOCTL_STORAGE_RESET_DEVICE, Control::Reset),
    (IOCTL_RESVFLT_QUERY_STATE, Control::QueryState),
];

/// Gives each of [`CODES`] a place of its own in [`TABLE`]: the smallest odd number that does.
const MULTIPLIER: u32 = 0x00E9_9005;

const fn place(code: u32) -> usize {
    (code.wrapping_mul(MULTIPLIER) >> 28) as usize
}

/// [`CODES`], each at its [`place`].
static TABLE: [(u32, Control); 16] = {
    let mut table = [(0, Control::Foreign); 16];
    let mut at = 0;
    while at < CODES.len() {
        let (code, control) = CODES[at];
        assert!(table[place(code)].0 == 0, "two codes in one place");
        table[place(code)] = (code, control);
        at += 1;
    }
    table
};

impl Control {
    /// Tells a control code apart: it is what stands at its place in a table, or foreign.
    #[must_use]
    #[inline(always)]
    #[allow(
        clippy::inline_always,
        reason = "six instructions on every request's way"
    )]
    pub fn of(code: u32) -> Self {
        match TABLE[place(code)] {
            (found, control) if found == code => control,
            _ => Self::Foreign,
        }
    }
}

impl Command {
    /// The command that an I/O control code asks for: see [`CODES`].
    #[must_use]
    #[inline]
    pub fn from_ioctl(code: u32) -> Option<Self> {
        match Control::of(code) {
            Control::Serve(command) => Some(command),
            _ => None,
        }
    }
}
