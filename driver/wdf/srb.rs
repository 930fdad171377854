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
    /// The stack location is of that major function, and of an IRP that outlives `'a`.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "on every read's way")]
    pub unsafe fn of(location: PIO_STACK_LOCATION) -> Option<Self> {
        // SAFETY: the caller's.
        let parameters = unsafe { &raw const (*location).Parameters };
        // SAFETY: the upper half of the address, where there is one.
        if unsafe { parameters.cast::<u32>().add(1).read() } == 0 {
            return None;
        }
        // SAFETY: so there is.
        Some(unsafe { Self::sent(location) })
    }

    /// The same of one that is known to have one.
    ///
    /// # Safety
    /// As above, and it has one.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "on every read's way")]
    pub unsafe fn sent(location: PIO_STACK_LOCATION) -> Self {
        // SAFETY: the parameters of this major function.
        let srb = unsafe { (*location).Parameters.Scsi.Srb };
        // SAFETY: an SRB lives as long as its IRP is out.
        let srb = unsafe { &*srb };
        if u32::from(srb.Function) == function::STORAGE_REQUEST_BLOCK {
            // SAFETY: its first bytes say that it is the second form.
            Self::Storage(unsafe { &*ptr::from_ref(srb).cast() })
        } else {
            Self::Scsi(srb)
        }
    }

    /// Whether it is, at a glance, a command whose operation code is of these, where class drivers put it: in a
    /// `STORAGE_REQUEST_BLOCK`, in the first extended data.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "on every read's way")]
    pub fn is_command(self, of_these: impl Fn(u8) -> bool) -> bool {
        match self {
            Self::Scsi(srb) => {
                u32::from(srb.Function) == function::EXECUTE_SCSI && of_these(srb.Cdb[0])
            }
            Self::Storage(srb) => {
                srb.SrbFunction == function::EXECUTE_SCSI
                    && Self::data(srb, srb.SrbExDataOffset[0])
                        .is_some_and(|data| of_these(data.Cdb[0]))
            }
        }
    }

    /// What it asks for.
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
    fn command(srb: &STORAGE_REQUEST_BLOCK) -> Option<&SRBEX_DATA_SCSI_CDB16> {
        let offsets = srb.SrbExDataOffset.as_ptr();
        (0..srb.NumSrbExData as usize).find_map(|at| {
            // SAFETY: the SRB has so many offsets, in its own length.
            let offset = unsafe { offsets.add(at).read() };
            if (offset as usize) < size_of::<STORAGE_REQUEST_BLOCK>() {
                return None;
            }
            Self::data(srb, offset)
        })
    }

    /// The extended data at an offset, if it holds a command.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "on every read's way")]
    fn data(srb: &STORAGE_REQUEST_BLOCK, offset: u32) -> Option<&SRBEX_DATA_SCSI_CDB16> {
        #[allow(clippy::cast_possible_truncation, reason = "40")]
        const SIZE: u32 = size_of::<SRBEX_DATA_SCSI_CDB16>() as u32;
        if offset > srb.SrbLength.checked_sub(SIZE)? {
            return None;
        }
        // SAFETY: the data lies inside the SRB.
        let data = unsafe { ptr::from_ref(srb).cast::<u8>().add(offset as usize) };
        // SAFETY: as above; extended data is aligned to 8 bytes, and any bytes are valid.
        let data = unsafe { &*data.cast::<SRBEX_DATA_SCSI_CDB16>() };
        matches!(data.Type, CDB_16 | CDB_32).then_some(data)
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
