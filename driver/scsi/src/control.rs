//! Which I/O control codes are the filter's, and which others end a reservation.
//!
//! Every `IRP_MJ_DEVICE_CONTROL` of the disk is told apart here, so that a foreign one has to be
//! cheap: all codes of ours and all that matter differ in their lower half from nearly every other.

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

impl Control {
    /// Tells a control code apart.
    ///
    /// `IOCTL_STORAGE_RESERVE` and `IOCTL_STORAGE_RELEASE` have older spellings of the same
    /// function number under the device types of disks, CD-ROMs and tapes (`ntdddisk.h`,
    /// `ntddcdrm.h`, `ntddtape.h`); classpnp takes all for the storage ones
    /// (microsoft/Windows-driver-samples, storage/class/classpnp/src/class.c,
    /// `ClassDeviceControl`). The three resets are the port driver's to serve, and it knows them by
    /// their storage spelling alone.
    #[must_use]
    #[inline]
    pub const fn of(code: u32) -> Self {
        const STORAGE: u32 = 0x2D;
        const DISK: u32 = 0x07;
        const CDROM: u32 = 0x02;
        const TAPE: u32 = 0x1F;
        const VENDOR: u32 = IOCTL_RESVFLT_QUERY_STATE >> 16;
        match (code & 0xFFFF, code >> 16) {
            (0x4810, STORAGE | DISK | CDROM | TAPE) => Self::Serve(Command::Reserve),
            (0x4814, STORAGE | DISK | CDROM | TAPE) => Self::Serve(Command::Release),
            (0x5000 | 0x5004 | 0x5014, STORAGE) => Self::Reset,
            (0x6058, VENDOR) => Self::QueryState,
            _ => Self::Foreign,
        }
    }
}
