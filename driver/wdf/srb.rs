//! SCSI request blocks on their way to the port, which the filter only reads: `SCSI_REQUEST_BLOCK`, and
//! `STORAGE_REQUEST_BLOCK`, which has its command in extended data.
//!
//! Both are read as srbhelper.h's functions do it
//! (<https://learn.microsoft.com/windows-hardware/drivers/ddi/srbhelper/>): the second is told by its `Function`, and its
//! command is in the first extended data of a type that has one.

use core::marker::PhantomData;
use core::ptr;

use scsi_reserve::watch::function;
use scsi_reserve::{NtStatus, SrbAnswer};
use wdk_sys::{
    PIO_STACK_LOCATION, PIRP, PVOID, SCSI_REQUEST_BLOCK, SRBEX_DATA_SCSI_CDB16,
    STORAGE_REQUEST_BLOCK,
};

/// `SrbExDataTypeScsiCdb16` and `SrbExDataTypeScsiCdb32` of `srb.h`, which lie alike as far as they are read.
const CDB_16: i32 = 0x40;
const CDB_32: i32 = 0x41;
/// `SrbExDataTypeScsiCdbVar`: what is behind its status and lengths lies 8 bytes further on, so that its sense buffer and
/// the beginning of its command are where the others have a command.
const CDB_VAR: i32 = 0x42;

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
/// The IRP lives, and is in drivers' hands.
#[inline(always)]
#[allow(clippy::inline_always, reason = "a load")]
pub unsafe fn current_location(irp: PIRP) -> PIO_STACK_LOCATION {
    // SAFETY: the caller's.
    let tail = unsafe { &(*irp).Tail };
    // SAFETY: this is what an IRP's tail holds unless it waits in a device queue or for its APC.
    let overlay = unsafe { &tail.Overlay };
    // SAFETY: this is what the union holds unless the I/O manager has queued the IRP as a packet.
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
        let upper = unsafe { parameters.cast::<u32>().add(1) };
        // SAFETY: as above.
        if unsafe { upper.read() } == 0 {
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
        // SAFETY: the caller's.
        let parameters = unsafe { &(*location).Parameters };
        // SAFETY: the parameters of this major function.
        let srb = unsafe { parameters.Scsi.Srb };
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
                    && Data::at(srb, srb.SrbExDataOffset[0])
                        .is_some_and(|data| of_these(data.cdb()[0]))
            }
        }
    }

    /// What it asks for.
    pub fn asks(self) -> Asks {
        let (function, cdb) = match self {
            Self::Scsi(srb) => (srb.Function.into(), Some([srb.Cdb[0], srb.Cdb[1]])),
            Self::Storage(srb) => (srb.SrbFunction, Data::of(srb).map(Data::command)),
        };
        match (function, cdb) {
            (function::EXECUTE_SCSI, Some([first, second])) => Asks::Command(first, second),
            (function::EXECUTE_SCSI, None) => Asks::Nothing,
            (function, _) => Asks::Function(function),
        }
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
            Self::Storage(srb) => Data::of(srb).map_or((0, ptr::null_mut(), 0), Data::answer),
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

/// Extended data with a command. Nobody has promised that it is aligned.
#[derive(Clone, Copy)]
struct Data<'a> {
    at: *const SRBEX_DATA_SCSI_CDB16,
    srb: PhantomData<&'a STORAGE_REQUEST_BLOCK>,
}

impl<'a> Data<'a> {
    /// The first of an SRB's.
    fn of(srb: &'a STORAGE_REQUEST_BLOCK) -> Option<Self> {
        let offsets = srb.SrbExDataOffset.as_ptr();
        (0..srb.NumSrbExData as usize).find_map(|at| {
            // SAFETY: the SRB has so many offsets, in its own length.
            let offset = unsafe { offsets.add(at) };
            // SAFETY: as above.
            let offset = unsafe { offset.read() };
            if (offset as usize) < size_of::<STORAGE_REQUEST_BLOCK>() {
                return None;
            }
            Self::any_at(srb, offset)
                .filter(|data| matches!(data.kind(), CDB_16 | CDB_32 | CDB_VAR))
        })
    }

    /// What is at an offset, if it holds a command of up to 32 bytes.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "on every read's way")]
    fn at(srb: &'a STORAGE_REQUEST_BLOCK, offset: u32) -> Option<Self> {
        Self::any_at(srb, offset).filter(|data| matches!(data.kind(), CDB_16 | CDB_32))
    }

    /// The first two bytes of its command.
    fn command(self) -> [u8; 2] {
        match (self.kind(), self.cdb()) {
            (CDB_VAR, [_, _, _, _, _, _, _, _, first, second, ..]) | (_, [first, second, ..]) => {
                [first, second]
            }
        }
    }

    /// What is at an offset, whatever it is.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "on every read's way")]
    fn any_at(srb: &'a STORAGE_REQUEST_BLOCK, offset: u32) -> Option<Self> {
        #[allow(clippy::cast_possible_truncation, reason = "40")]
        const SIZE: u32 = size_of::<SRBEX_DATA_SCSI_CDB16>() as u32;
        if offset > srb.SrbLength.checked_sub(SIZE)? {
            return None;
        }
        // SAFETY: the data lies inside the SRB.
        let at = unsafe { ptr::from_ref(srb).byte_add(offset as usize) };
        Some(Self {
            at: at.cast(),
            srb: PhantomData,
        })
    }

    fn kind(self) -> i32 {
        // SAFETY: `at` has seen that the structure lies inside the SRB.
        let kind = unsafe { &raw const (*self.at).Type };
        // SAFETY: as above; any bits are a number.
        unsafe { kind.read_unaligned() }
    }

    fn cdb(self) -> [u8; 16] {
        // SAFETY: as above.
        unsafe { (*self.at).Cdb }
    }

    /// `ScsiStatus`, `SenseInfoBuffer`, `SenseInfoBufferLength`.
    fn answer(self) -> (u8, PVOID, u8) {
        // SAFETY: as above; any bits are of this type.
        let data = unsafe { self.at.read_unaligned() };
        let sense = match (data.Type, data.Cdb.first_chunk()) {
            (CDB_VAR, Some(sense)) => {
                ptr::with_exposed_provenance_mut(usize::from_ne_bytes(*sense))
            }
            _ => data.SenseInfoBuffer,
        };
        (data.ScsiStatus, sense, data.SenseInfoBufferLength)
    }
}
