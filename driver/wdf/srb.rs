//! SCSI request blocks on their way to the port, which the filter only reads: `SCSI_REQUEST_BLOCK`, and
//! `STORAGE_REQUEST_BLOCK`, which has its command in extended data.
//!
//! Both are read as srbhelper.h's functions do it
//! (<https://learn.microsoft.com/windows-hardware/drivers/ddi/srbhelper/>): the second is told by its `Function`, and its
//! command is in the first extended data of a type that has one.

use core::ptr;

use scsi_reserve::watch::function;
use scsi_reserve::{NtStatus, SrbAnswer};
use wdk_sys::{
    PIO_STACK_LOCATION, PIRP, SCSI_REQUEST_BLOCK, SRBEX_DATA_SCSI_CDB16, STORAGE_REQUEST_BLOCK,
};

/// `SrbExDataTypeScsiCdb16` and `SrbExDataTypeScsiCdb32` of `srb.h`, which lie alike as far as they are read. A block of
/// variable length holds no command of 6 or 10 bytes.
const CDB_16: i32 = 0x40;
const CDB_32: i32 = 0x41;

/// What an SRB asks for.
#[derive(Clone, Copy)]
pub enum Asks {
    /// Nothing that is known here.
    Nothing,
    /// A SCSI command, by the first two bytes of its block.
    Command(u8, u8),
    /// Another SRB function.
    Function(u32),
}

/// An SRB in whatever form.
#[derive(Clone, Copy)]
pub enum Srb<'a> {
    /// The first.
    Scsi(&'a SCSI_REQUEST_BLOCK),
    /// The second.
    Storage(&'a STORAGE_REQUEST_BLOCK),
}

/// The current stack location.
///
/// # Safety
/// The IRP is on its way, and outlives `'a`.
#[inline(always)]
#[allow(clippy::inline_always, reason = "a load")]
pub unsafe fn current_location(irp: PIRP) -> PIO_STACK_LOCATION {
    // SAFETY: the caller's; this is what an IRP's tail holds while drivers have it.
    let overlay = unsafe { &(*irp).Tail.Overlay };
    // SAFETY: as above.
    unsafe {
        overlay
            .__bindgen_anon_2
            .__bindgen_anon_1
            .CurrentStackLocation
    }
}

impl<'a> Srb<'a> {
    /// The SRB of an `IRP_MJ_SCSI`, if it has one. Other internal device controls have the same major function, and a
    /// length where an SRB's address would be: what is below 4 GB is no address of the kernel's.
    ///
    /// # Safety
    /// The IRP is of that major function and in this driver's stack location; it outlives `'a`.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "on every read's way")]
    pub unsafe fn of(irp: PIRP) -> Option<Self> {
        // SAFETY: the caller's.
        let location = unsafe { current_location(irp) };
        // SAFETY: the parameters of this major function.
        let srb = unsafe { (*location).Parameters.Scsi.Srb };
        if srb.addr() >> 32 == 0 {
            return None;
        }
        // SAFETY: an SRB lives as long as its IRP is out.
        let srb = unsafe { &*srb };
        Some(
            if u32::from(srb.Function) == function::STORAGE_REQUEST_BLOCK {
                // SAFETY: its first bytes say that it is the second form.
                Self::Storage(unsafe { &*ptr::from_ref(srb).cast() })
            } else {
                Self::Scsi(srb)
            },
        )
    }

    /// What it asks for.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "on every read's way")]
    pub fn asks(self) -> Asks {
        let (function, cdb) = match self {
            Self::Scsi(srb) => (srb.Function.into(), Some(&srb.Cdb)),
            Self::Storage(srb) => (srb.SrbFunction, Self::command(srb).map(|data| &data.Cdb)),
        };
        match (function, cdb) {
            (function::EXECUTE_SCSI, Some(cdb)) => Asks::Command(cdb[0], cdb[1]),
            (function::EXECUTE_SCSI, None) => Asks::Nothing,
            (function, _) => Asks::Function(function),
        }
    }

    /// The extended data with the command.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "on every read's way")]
    fn command(srb: &STORAGE_REQUEST_BLOCK) -> Option<&SRBEX_DATA_SCSI_CDB16> {
        const SIZE: usize = size_of::<SRBEX_DATA_SCSI_CDB16>();
        let offsets = srb.SrbExDataOffset.as_ptr();
        let last = (srb.SrbLength as usize).checked_sub(SIZE)?;
        for at in 0..srb.NumSrbExData as usize {
            // SAFETY: the SRB has so many offsets, in its own length.
            let offset = unsafe { offsets.add(at).read() } as usize;
            if offset < size_of::<STORAGE_REQUEST_BLOCK>() || offset > last {
                continue;
            }
            // SAFETY: the data lies inside the SRB.
            let data = unsafe { ptr::from_ref(srb).cast::<u8>().add(offset) };
            // SAFETY: as above; extended data is aligned to 8 bytes, and any bytes are valid.
            let data = unsafe { &*data.cast::<SRBEX_DATA_SCSI_CDB16>() };
            if matches!(data.Type, CDB_16 | CDB_32) {
                return Some(data);
            }
        }
        None
    }

    /// `SrbStatus`, when it is back.
    #[inline]
    pub fn status(self) -> u8 {
        match self {
            Self::Scsi(srb) => srb.SrbStatus,
            Self::Storage(srb) => srb.SrbStatus,
        }
    }

    /// How it came back, with its IRP's status.
    ///
    /// # Safety
    /// It is back, and the caller's alone until its IRP goes on.
    pub unsafe fn answer(self, status: NtStatus) -> SrbAnswer<'a> {
        let (scsi_status, sense, length) = match self {
            Self::Scsi(srb) => (
                srb.ScsiStatus,
                srb.SenseInfoBuffer,
                srb.SenseInfoBufferLength,
            ),
            Self::Storage(srb) => Self::command(srb).map_or((0, ptr::null_mut(), 0), |data| {
                (
                    data.ScsiStatus,
                    data.SenseInfoBuffer,
                    data.SenseInfoBufferLength,
                )
            }),
        };
        SrbAnswer {
            status,
            srb_status: self.status(),
            scsi_status,
            sense: if sense.is_null() {
                &[]
            } else {
                // SAFETY: the sender's buffer has that many bytes.
                unsafe { core::slice::from_raw_parts(sense.cast(), length.into()) }
            },
        }
    }
}
