//! SCSI request blocks as they lie in memory on Windows x64: SCSI_REQUEST_BLOCK and STORAGE_REQUEST_BLOCK, made as disk.sys
//! makes them and read as a port driver reads them.
//!
//! The layouts are those of srb.h and storport.h in the Windows Driver Kit, as the reference pages of the structures show
//! them (MicrosoftDocs/windows-driver-docs-ddi, wdk-ddi-src/content/srb); what a new STORAGE_REQUEST_BLOCK holds is
//! microsoft/Windows-driver-samples, storage/class/classpnp/src/srblib.c, pInitializeStorageRequestBlock. "CDB" is what
//! srbhelper.h finds by `SrbGetCdb`.

use std::ffi::c_void;
use std::mem::offset_of;

use crate::abi::{Status, status};
use crate::pool;

/// SRB_FUNCTION_*: what a request block asks for.
pub mod function {
    /// A SCSI command.
    pub const EXECUTE_SCSI: u32 = 0x00;
    /// A control of the adapter's driver.
    pub const IO_CONTROL: u32 = 0x02;
    /// The caches are to be written before the machine stops.
    pub const SHUTDOWN: u32 = 0x07;
    /// The caches are to be written.
    pub const FLUSH: u32 = 0x08;
    /// Another request block is to be ended.
    pub const ABORT_COMMAND: u32 = 0x10;
    /// The bus is to be reset.
    pub const RESET_BUS: u32 = 0x12;
    /// The target is to be reset.
    pub const RESET_DEVICE: u32 = 0x13;
    /// The logical unit is to be reset.
    pub const RESET_LOGICAL_UNIT: u32 = 0x20;
    /// A PnP request of the port's.
    pub const PNP: u32 = 0x25;
    /// In SCSI_REQUEST_BLOCK's place for it: the block is a STORAGE_REQUEST_BLOCK.
    pub const STORAGE_REQUEST_BLOCK: u8 = 0x28;
    /// Those that reset something.
    pub const RESETS: [u32; 3] = [RESET_BUS, RESET_DEVICE, RESET_LOGICAL_UNIT];
}

/// SRB_STATUS_*: how a request block ended.
pub mod srb_status {
    /// It has not.
    pub const PENDING: u8 = 0x00;
    /// Well.
    pub const SUCCESS: u8 = 0x01;
    /// Another request block ended it.
    pub const ABORTED: u8 = 0x02;
    /// With an error; ScsiStatus says more.
    pub const ERROR: u8 = 0x04;
    /// The adapter could not take it.
    pub const BUSY: u8 = 0x05;
    /// The function is not supported for this device.
    pub const INVALID_REQUEST: u8 = 0x06;
    /// The device does not respond.
    pub const NO_DEVICE: u8 = 0x08;
    /// Its time was over.
    pub const TIMEOUT: u8 = 0x09;
    /// The device did not answer a selection.
    pub const SELECTION_TIMEOUT: u8 = 0x0A;
    /// The target's time for the command was over.
    pub const COMMAND_TIMEOUT: u8 = 0x0B;
    /// A bus reset ended it.
    pub const BUS_RESET: u8 = 0x0E;
    /// Less data came than was asked for, or more.
    pub const DATA_OVERRUN: u8 = 0x12;
    /// It was taken from a frozen queue.
    pub const REQUEST_FLUSHED: u8 = 0x16;
    /// The adapter's driver does not know the function.
    pub const BAD_FUNCTION: u8 = 0x22;
    /// The adapter's driver went wrong.
    pub const INTERNAL_ERROR: u8 = 0x30;
    /// Beside a status: the port sends nothing more to the device until it is released.
    pub const QUEUE_FROZEN: u8 = 0x40;
    /// Beside a status: the sense buffer holds sense data.
    pub const AUTOSENSE_VALID: u8 = 0x80;

    /// The status alone (SRB_STATUS in srb.h).
    pub const fn of(byte: u8) -> u8 {
        byte & !(QUEUE_FROZEN | AUTOSENSE_VALID)
    }
}

/// SRB_FLAGS_*.
mod flags {
    pub const QUEUE_ACTION_ENABLE: u32 = 0x02;
    pub const DISABLE_SYNCH_TRANSFER: u32 = 0x08;
    pub const DATA_IN: u32 = 0x40;
    pub const DATA_OUT: u32 = 0x80;
}

/// SRB_SIMPLE_TAG_REQUEST.
const SIMPLE_TAG: u8 = 0x20;

/// SCSI_REQUEST_BLOCK.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_snake_case, missing_docs)]
pub struct SCSI_REQUEST_BLOCK {
    pub Length: u16,
    pub Function: u8,
    pub SrbStatus: u8,
    pub ScsiStatus: u8,
    pub PathId: u8,
    pub TargetId: u8,
    pub Lun: u8,
    pub QueueTag: u8,
    pub QueueAction: u8,
    pub CdbLength: u8,
    pub SenseInfoBufferLength: u8,
    pub SrbFlags: u32,
    pub DataTransferLength: u32,
    pub TimeOutValue: u32,
    pub DataBuffer: *mut u8,
    pub SenseInfoBuffer: *mut u8,
    pub NextSrb: *mut c_void,
    pub OriginalRequest: *mut c_void,
    pub SrbExtension: *mut c_void,
    pub QueueSortKey: u32,
    pub Reserved: u32,
    pub Cdb: [u8; 16],
}

/// STORAGE_REQUEST_BLOCK; behind it SrbExDataOffset goes on, if there is more than one.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_snake_case, missing_docs)]
pub struct STORAGE_REQUEST_BLOCK {
    pub Length: u16,
    pub Function: u8,
    pub SrbStatus: u8,
    pub ReservedUlong1: u32,
    pub Signature: u32,
    pub Version: u32,
    pub SrbLength: u32,
    pub SrbFunction: u32,
    pub SrbFlags: u32,
    pub ReservedUlong2: u32,
    pub RequestTag: u32,
    pub RequestPriority: u16,
    pub RequestAttribute: u16,
    pub TimeOutValue: u32,
    pub SystemStatus: u32,
    pub ZeroGuard1: u32,
    pub AddressOffset: u32,
    pub NumSrbExData: u32,
    pub DataTransferLength: u32,
    pub DataBuffer: *mut u8,
    pub ZeroGuard2: *mut c_void,
    pub OriginalRequest: *mut c_void,
    pub ClassContext: *mut c_void,
    pub PortContext: *mut c_void,
    pub MiniportContext: *mut c_void,
    pub NextSrb: *mut c_void,
    pub SrbExDataOffset: [u32; 1],
}

/// SRBEX_DATA_SCSI_CDB16 and _CDB32, which are alike up to the CDB.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
#[allow(non_snake_case, missing_docs)]
pub struct SRBEX_DATA_SCSI_CDB<const N: usize> {
    pub Type: u32,
    pub Length: u32,
    pub ScsiStatus: u8,
    pub SenseInfoBufferLength: u8,
    pub CdbLength: u8,
    pub Reserved: u8,
    pub Reserved1: u32,
    pub SenseInfoBuffer: *mut u8,
    pub Cdb: [u8; N],
}

/// SRBEX_DATA_SCSI_CDB_VAR up to its CDB.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
#[allow(non_snake_case, missing_docs)]
pub struct SRBEX_DATA_SCSI_CDB_VAR {
    pub Type: u32,
    pub Length: u32,
    pub ScsiStatus: u8,
    pub SenseInfoBufferLength: u8,
    pub Reserved: [u8; 2],
    pub CdbLength: u32,
    pub Reserved1: [u32; 2],
    pub SenseInfoBuffer: *mut u8,
    pub Cdb: [u8; 0],
}

const _: () = {
    assert!(size_of::<SCSI_REQUEST_BLOCK>() == 88, "srb.h x64");
    assert!(offset_of!(SCSI_REQUEST_BLOCK, DataBuffer) == 24);
    assert!(offset_of!(SCSI_REQUEST_BLOCK, Cdb) == 72);
    assert!(size_of::<STORAGE_REQUEST_BLOCK>() == 128, "storport.h x64");
    assert!(offset_of!(STORAGE_REQUEST_BLOCK, DataBuffer) == 64);
    assert!(offset_of!(STORAGE_REQUEST_BLOCK, SrbExDataOffset) == 120);
    assert!(size_of::<SRBEX_DATA_SCSI_CDB<16>>() == 40, "storport.h x64");
    assert!(size_of::<SRBEX_DATA_SCSI_CDB<32>>() == 56, "storport.h x64");
    assert!(offset_of!(SRBEX_DATA_SCSI_CDB<16>, Cdb) == 24);
    assert!(offset_of!(SRBEX_DATA_SCSI_CDB_VAR, SenseInfoBuffer) == 24);
    assert!(offset_of!(SRBEX_DATA_SCSI_CDB_VAR, Cdb) == 32);
};

/// SRB_SIGNATURE: "SRBX".
const SIGNATURE: u32 = 0x5352_4258;
const VERSION_1: u32 = 1;
/// STOR_ADDR_BTL8: type 1, 4 bytes of address, 16 bytes in all.
const STOR_ADDRESS_TYPE_BTL8: u16 = 1;
const STOR_ADDR_BTL8: usize = 16;
/// SRBEXDATATYPE.
const CDB16: u32 = 0x40;
const CDB32: u32 = 0x41;
const CDB_VAR: u32 = 0x42;
const IO_INFO: u32 = 0x80;
/// Bytes of SRBEX_DATA_IO_INFO, and what its Length says.
const IO_INFO_SIZE: usize = 32;
const IO_INFO_LENGTH: u32 = 24;
/// Type and Length, which Length does not count.
const EX_HEADER: usize = 8;

/// The forms of a request block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// SCSI_REQUEST_BLOCK.
    #[default]
    Classic,
    /// STORAGE_REQUEST_BLOCK with SRBEX_DATA_SCSI_CDB16: what classpnp makes for a port that takes it.
    Cdb16,
    /// With SRBEX_DATA_SCSI_CDB32.
    Cdb32,
    /// With SRBEX_DATA_SCSI_CDB_VAR.
    CdbVar,
    /// As `Cdb16`, behind an SRBEX_DATA_IO_INFO.
    AfterIoInfo,
}

impl Form {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Classic,
        Self::Cdb16,
        Self::Cdb32,
        Self::CdbVar,
        Self::AfterIoInfo,
    ];
}

/// The data of a request block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Transfer {
    /// None.
    #[default]
    None,
    /// So many bytes from the device.
    In(usize),
    /// These bytes to it.
    Out(Vec<u8>),
}

/// What a new request block is to hold.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// Its form.
    pub form: Form,
    /// SRB_FUNCTION_*.
    pub function: u32,
    /// The command, where the function is to execute one.
    pub cdb: Vec<u8>,
    /// Its data.
    pub data: Transfer,
    /// TimeOutValue, in seconds.
    pub timeout: u32,
}

/// SENSE_BUFFER_SIZE_EX (minitape.h and scsi.h): the room that classpnp gives to sense data.
const SENSE_ROOM: u8 = 255;

/// A request block with its sense and data buffers, each a block of its own; freed with it.
pub struct RequestBlock {
    srb: Srb,
    sense: *mut u8,
    data: *mut u8,
    room: usize,
}

// SAFETY: the addresses are its own blocks.
unsafe impl Send for RequestBlock {}

impl RequestBlock {
    /// Makes one in the memory of `node`, as classpnp's ClassSendSrbAsynchronous leaves it before the send (class.c 6972).
    pub fn new(node: &str, content: &Content, original_request: *mut c_void) -> Self {
        let sense = pool::allocate(node, "sense buffer", SENSE_ROOM.into());
        let bytes = match &content.data {
            Transfer::None => 0,
            Transfer::In(bytes) => *bytes,
            Transfer::Out(data) => data.len(),
        };
        let data = if bytes == 0 {
            std::ptr::null_mut()
        } else {
            pool::allocate(node, "data buffer", bytes)
        };
        if let Transfer::Out(out) = &content.data {
            // SAFETY: the buffer has that many bytes.
            unsafe { std::ptr::copy_nonoverlapping(out.as_ptr(), data, out.len()) };
        }
        let block = Self {
            srb: Srb(pool::allocate(node, "SRB", size_in(content))),
            sense,
            data,
            room: bytes,
        };
        if content.form == Form::Classic {
            block.fill_classic(content, original_request);
        } else {
            block.fill_extended(content, original_request);
        }
        block
    }

    /// How a driver sees it.
    pub fn srb(&self) -> Srb {
        self.srb
    }

    /// The sense data, if the port says that there is any.
    pub fn sense(&self) -> Vec<u8> {
        if self.srb.srb_status() & srb_status::AUTOSENSE_VALID == 0 {
            return Vec::new();
        }
        let (_, length) = self.srb.sense();
        // SAFETY: the buffer has at least that much room.
        unsafe { std::slice::from_raw_parts(self.sense, length) }.to_vec()
    }

    /// The bytes that came, or were sent.
    pub fn data(&self) -> Vec<u8> {
        let length = self.srb.data().1.min(self.room);
        if length == 0 {
            return Vec::new();
        }
        // SAFETY: the buffer has that many bytes.
        unsafe { std::slice::from_raw_parts(self.data, length) }.to_vec()
    }

    fn flags(content: &Content) -> u32 {
        let data = match content.data {
            Transfer::None => 0,
            Transfer::In(_) => flags::DATA_IN,
            Transfer::Out(_) => flags::DATA_OUT,
        };
        data | flags::QUEUE_ACTION_ENABLE | flags::DISABLE_SYNCH_TRANSFER
    }

    fn fill_classic(&self, content: &Content, original_request: *mut c_void) {
        let mut cdb = [0; 16];
        let length = content.cdb.len().min(cdb.len());
        cdb[..length].copy_from_slice(&content.cdb[..length]);
        let block = SCSI_REQUEST_BLOCK {
            Length: size_of::<SCSI_REQUEST_BLOCK>() as u16,
            Function: content.function as u8,
            SrbStatus: srb_status::PENDING,
            ScsiStatus: 0,
            PathId: 0,
            TargetId: 1,
            Lun: 0,
            QueueTag: 0xFF, // SP_UNTAGGED
            QueueAction: SIMPLE_TAG,
            CdbLength: length as u8,
            SenseInfoBufferLength: SENSE_ROOM,
            SrbFlags: Self::flags(content),
            DataTransferLength: self.room as u32,
            TimeOutValue: content.timeout,
            DataBuffer: self.data,
            SenseInfoBuffer: self.sense,
            NextSrb: std::ptr::null_mut(),
            OriginalRequest: original_request,
            SrbExtension: std::ptr::null_mut(),
            QueueSortKey: 0,
            Reserved: 0,
            Cdb: cdb,
        };
        // SAFETY: `size_in` gave the block room for it.
        unsafe { self.srb.0.cast::<SCSI_REQUEST_BLOCK>().write(block) };
    }

    fn fill_extended(&self, content: &Content, original_request: *mut c_void) {
        let executes = content.function == function::EXECUTE_SCSI;
        let io_info = executes && content.form == Form::AfterIoInfo;
        let number = usize::from(executes) + usize::from(io_info);
        let offsets = offset_of!(STORAGE_REQUEST_BLOCK, SrbExDataOffset);
        let address =
            (size_of::<STORAGE_REQUEST_BLOCK>() + number.saturating_sub(1) * 4).next_multiple_of(8);
        let block = STORAGE_REQUEST_BLOCK {
            Length: offset_of!(STORAGE_REQUEST_BLOCK, Signature) as u16,
            Function: function::STORAGE_REQUEST_BLOCK,
            SrbStatus: srb_status::PENDING,
            ReservedUlong1: 0,
            Signature: SIGNATURE,
            Version: VERSION_1,
            SrbLength: size_in(content) as u32,
            SrbFunction: content.function,
            SrbFlags: Self::flags(content),
            ReservedUlong2: 0,
            RequestTag: 0,
            RequestPriority: 0,
            RequestAttribute: SIMPLE_TAG.into(),
            TimeOutValue: content.timeout,
            SystemStatus: 0,
            ZeroGuard1: 0,
            AddressOffset: address as u32,
            NumSrbExData: number as u32,
            DataTransferLength: self.room as u32,
            DataBuffer: self.data,
            ZeroGuard2: std::ptr::null_mut(),
            OriginalRequest: original_request,
            ClassContext: std::ptr::null_mut(),
            PortContext: std::ptr::null_mut(),
            MiniportContext: std::ptr::null_mut(),
            NextSrb: std::ptr::null_mut(),
            SrbExDataOffset: [0],
        };
        // SAFETY: `size_in` gave the block room for this and all that follows.
        unsafe { self.srb.0.cast::<STORAGE_REQUEST_BLOCK>().write(block) };
        self.put(address, &STOR_ADDRESS_TYPE_BTL8.to_le_bytes());
        self.put(address + 4, &4_u32.to_le_bytes());
        self.put(address + 8, &[0, 1, 0, 0]); // Path, Target, Lun
        let mut at = address + STOR_ADDR_BTL8;
        if io_info {
            self.put(offsets, &(at as u32).to_le_bytes());
            self.put(at, &IO_INFO.to_le_bytes());
            self.put(at + 4, &IO_INFO_LENGTH.to_le_bytes());
            at += IO_INFO_SIZE;
        }
        if executes {
            self.put(
                offsets + usize::from(io_info) * 4,
                &(at as u32).to_le_bytes(),
            );
            self.put(at, &self.ex_data(content));
        }
    }

    /// The extended data that holds the CDB.
    fn ex_data(&self, content: &Content) -> Vec<u8> {
        let (kind, length) = match content.form {
            Form::Cdb32 => (CDB32, 32),
            Form::CdbVar => (CDB_VAR, content.cdb.len()),
            _ => (CDB16, 16),
        };
        let head = if kind == CDB_VAR {
            offset_of!(SRBEX_DATA_SCSI_CDB_VAR, Cdb)
        } else {
            offset_of!(SRBEX_DATA_SCSI_CDB<16>, Cdb)
        };
        let mut bytes = vec![0; head + length];
        bytes[0..4].copy_from_slice(&kind.to_le_bytes());
        bytes[4..8].copy_from_slice(&((head + length - EX_HEADER) as u32).to_le_bytes());
        bytes[offset_of!(SRBEX_DATA_SCSI_CDB_VAR, SenseInfoBufferLength)] = SENSE_ROOM;
        let (cdb_length, sense) = if kind == CDB_VAR {
            (
                offset_of!(SRBEX_DATA_SCSI_CDB_VAR, CdbLength),
                offset_of!(SRBEX_DATA_SCSI_CDB_VAR, SenseInfoBuffer),
            )
        } else {
            (
                offset_of!(SRBEX_DATA_SCSI_CDB<16>, CdbLength),
                offset_of!(SRBEX_DATA_SCSI_CDB<16>, SenseInfoBuffer),
            )
        };
        let length = content.cdb.len().min(length);
        bytes[cdb_length] = length as u8;
        bytes[sense..sense + 8].copy_from_slice(&(self.sense as u64).to_le_bytes());
        bytes[head..head + length].copy_from_slice(&content.cdb[..length]);
        bytes
    }

    fn put(&self, at: usize, bytes: &[u8]) {
        // SAFETY: `size_in` gave the block room for it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.srb.0.add(at), bytes.len()) };
    }
}

impl Drop for RequestBlock {
    fn drop(&mut self) {
        pool::free(self.srb.0);
        pool::free(self.sense);
        if !self.data.is_null() {
            pool::free(self.data);
        }
    }
}

/// How many bytes a block with this content takes.
fn size_in(content: &Content) -> usize {
    if content.form == Form::Classic {
        return size_of::<SCSI_REQUEST_BLOCK>();
    }
    let fixed = size_of::<STORAGE_REQUEST_BLOCK>() + STOR_ADDR_BTL8;
    if content.function != function::EXECUTE_SCSI {
        return fixed;
    }
    fixed
        + match content.form {
            Form::Cdb32 => size_of::<SRBEX_DATA_SCSI_CDB<32>>(),
            // With its one byte of CDB, which the structure here leaves out, it takes 40.
            Form::CdbVar => size_of::<SRBEX_DATA_SCSI_CDB_VAR>() + 8 + content.cdb.len(),
            Form::AfterIoInfo => 8 + IO_INFO_SIZE + size_of::<SRBEX_DATA_SCSI_CDB<16>>(),
            _ => size_of::<SRBEX_DATA_SCSI_CDB<16>>(),
        }
}

/// A request block that somebody else has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Srb(*mut u8);

/// What lies at which places in one block.
struct Places {
    scsi_status: usize,
    sense_length: usize,
    sense: usize,
    cdb_length: usize,
    cdb: usize,
}

impl Srb {
    /// The block at this address, which is one as long as its IRP is out; `None` for null.
    pub fn at(address: *mut c_void) -> Option<Self> {
        (!address.is_null()).then_some(Self(address.cast()))
    }

    /// Its address.
    pub fn address(self) -> *mut c_void {
        self.0.cast()
    }

    fn read<T: Copy>(self, at: usize) -> T {
        // SAFETY: a place of the block's, which is as long as its form says.
        unsafe { self.0.add(at).cast::<T>().read_unaligned() }
    }

    fn write<T>(self, at: usize, value: T) {
        // SAFETY: as above; the port may write it while it has the IRP.
        unsafe { self.0.add(at).cast::<T>().write_unaligned(value) };
    }

    fn is_extended(self) -> bool {
        self.read::<u8>(offset_of!(SCSI_REQUEST_BLOCK, Function)) == function::STORAGE_REQUEST_BLOCK
    }

    /// SRB_FUNCTION_*.
    pub fn function(self) -> u32 {
        if self.is_extended() {
            self.read(offset_of!(STORAGE_REQUEST_BLOCK, SrbFunction))
        } else {
            self.read::<u8>(offset_of!(SCSI_REQUEST_BLOCK, Function))
                .into()
        }
    }

    /// SrbStatus, with the bits beside it.
    pub fn srb_status(self) -> u8 {
        self.read(offset_of!(SCSI_REQUEST_BLOCK, SrbStatus))
    }

    /// Sets it.
    pub fn set_srb_status(self, byte: u8) {
        self.write(offset_of!(SCSI_REQUEST_BLOCK, SrbStatus), byte);
    }

    /// TimeOutValue, in seconds.
    pub fn timeout(self) -> u32 {
        self.read(if self.is_extended() {
            offset_of!(STORAGE_REQUEST_BLOCK, TimeOutValue)
        } else {
            offset_of!(SCSI_REQUEST_BLOCK, TimeOutValue)
        })
    }

    fn size(self) -> usize {
        if self.is_extended() {
            self.read::<u32>(offset_of!(STORAGE_REQUEST_BLOCK, SrbLength)) as usize
        } else {
            size_of::<SCSI_REQUEST_BLOCK>()
        }
    }

    /// Where the command's fields lie; `None` if it has no command.
    fn places(self) -> Option<Places> {
        if !self.is_extended() {
            return Some(Places {
                scsi_status: offset_of!(SCSI_REQUEST_BLOCK, ScsiStatus),
                sense_length: offset_of!(SCSI_REQUEST_BLOCK, SenseInfoBufferLength),
                sense: offset_of!(SCSI_REQUEST_BLOCK, SenseInfoBuffer),
                cdb_length: offset_of!(SCSI_REQUEST_BLOCK, CdbLength),
                cdb: offset_of!(SCSI_REQUEST_BLOCK, Cdb),
            });
        }
        let number = self.read::<u32>(offset_of!(STORAGE_REQUEST_BLOCK, NumSrbExData)) as usize;
        let offsets = offset_of!(STORAGE_REQUEST_BLOCK, SrbExDataOffset);
        let data = (0..number).map(|which| self.read::<u32>(offsets + which * 4) as usize);
        let (at, kind) = data
            .map(|at| (at, self.read::<u32>(at)))
            .find(|(_, kind)| [CDB16, CDB32, CDB_VAR].contains(kind))?;
        let fixed = kind != CDB_VAR;
        Some(Places {
            scsi_status: at + offset_of!(SRBEX_DATA_SCSI_CDB_VAR, ScsiStatus),
            sense_length: at + offset_of!(SRBEX_DATA_SCSI_CDB_VAR, SenseInfoBufferLength),
            sense: at
                + if fixed {
                    offset_of!(SRBEX_DATA_SCSI_CDB<16>, SenseInfoBuffer)
                } else {
                    offset_of!(SRBEX_DATA_SCSI_CDB_VAR, SenseInfoBuffer)
                },
            cdb_length: at
                + if fixed {
                    offset_of!(SRBEX_DATA_SCSI_CDB<16>, CdbLength)
                } else {
                    offset_of!(SRBEX_DATA_SCSI_CDB_VAR, CdbLength)
                },
            cdb: at
                + if fixed {
                    offset_of!(SRBEX_DATA_SCSI_CDB<16>, Cdb)
                } else {
                    offset_of!(SRBEX_DATA_SCSI_CDB_VAR, Cdb)
                },
        })
    }

    /// The command; empty if it has none.
    pub fn cdb(self) -> Vec<u8> {
        let executes = self.function() == function::EXECUTE_SCSI;
        let Some(places) = self.places().filter(|_| executes) else {
            return Vec::new();
        };
        // The most that any form here has fits into a byte.
        let length = usize::from(self.read::<u8>(places.cdb_length));
        (0..length)
            .map(|byte| self.read(places.cdb + byte))
            .collect()
    }

    /// ScsiStatus.
    pub fn scsi_status(self) -> Option<u8> {
        self.places().map(|places| self.read(places.scsi_status))
    }

    /// Sets it.
    pub fn set_scsi_status(self, byte: u8) {
        if let Some(places) = self.places() {
            self.write(places.scsi_status, byte);
        }
    }

    /// SenseInfoBuffer and its length.
    pub fn sense(self) -> (*mut u8, usize) {
        self.places().map_or((std::ptr::null_mut(), 0), |places| {
            let length = self.read::<u8>(places.sense_length);
            (self.read(places.sense), length.into())
        })
    }

    /// Puts sense data into its buffer, as much as it has room for.
    pub fn set_sense(self, sense: &[u8]) {
        let (buffer, room) = self.sense();
        let Some(places) = self.places().filter(|_| !buffer.is_null()) else {
            return;
        };
        let length = sense.len().min(room);
        // SAFETY: the buffer has that much room.
        unsafe { std::ptr::copy_nonoverlapping(sense.as_ptr(), buffer, length) };
        self.write(places.sense_length, length as u8);
    }

    /// DataBuffer and DataTransferLength.
    pub fn data(self) -> (*mut u8, usize) {
        let (buffer, length) = if self.is_extended() {
            (
                offset_of!(STORAGE_REQUEST_BLOCK, DataBuffer),
                offset_of!(STORAGE_REQUEST_BLOCK, DataTransferLength),
            )
        } else {
            (
                offset_of!(SCSI_REQUEST_BLOCK, DataBuffer),
                offset_of!(SCSI_REQUEST_BLOCK, DataTransferLength),
            )
        };
        (self.read(buffer), self.read::<u32>(length) as usize)
    }

    /// Sets DataTransferLength.
    pub fn set_data_length(self, length: usize) {
        let at = if self.is_extended() {
            offset_of!(STORAGE_REQUEST_BLOCK, DataTransferLength)
        } else {
            offset_of!(SCSI_REQUEST_BLOCK, DataTransferLength)
        };
        self.write(at, length as u32);
    }

    /// The direction of its data, with the bytes that go out.
    pub fn transfer(self) -> Transfer {
        let flags: u32 = self.read(if self.is_extended() {
            offset_of!(STORAGE_REQUEST_BLOCK, SrbFlags)
        } else {
            offset_of!(SCSI_REQUEST_BLOCK, SrbFlags)
        });
        let (buffer, length) = self.data();
        match flags & (flags::DATA_IN | flags::DATA_OUT) {
            0 => Transfer::None,
            flags::DATA_IN => Transfer::In(length),
            // SAFETY: the data buffer has that many bytes.
            _ => Transfer::Out(unsafe { std::slice::from_raw_parts(buffer, length) }.to_vec()),
        }
    }

    /// All of it, with its sense and data buffers as far as they are said to be: for a comparison.
    pub fn image(self) -> Vec<u8> {
        let of = |(address, length): (*mut u8, usize)| {
            if address.is_null() || length == 0 {
                return Vec::new();
            }
            // SAFETY: a buffer of the block's with that many bytes.
            unsafe { std::slice::from_raw_parts(address, length) }.to_vec()
        };
        [of((self.0, self.size())), of(self.sense()), of(self.data())].concat()
    }
}

/// The NTSTATUS that a port completes the IRP with beside an SrbStatus: SpiStatusSrbToNt of ReactOS's scsiport
/// (drivers/storage/port/scsiport/scsi.c). Storport's is not published.
pub const fn status_beside(srb_status: u8) -> Status {
    const DEVICE_DOES_NOT_EXIST: Status = 0xC000_00C0_u32.cast_signed();
    const BUFFER_OVERFLOW: Status = status::BUFFER_OVERFLOW;
    match srb_status::of(srb_status) {
        srb_status::SUCCESS | srb_status::PENDING => status::SUCCESS,
        srb_status::TIMEOUT | srb_status::COMMAND_TIMEOUT => status::IO_TIMEOUT,
        srb_status::BAD_FUNCTION => status::INVALID_DEVICE_REQUEST,
        srb_status::NO_DEVICE => DEVICE_DOES_NOT_EXIST,
        srb_status::SELECTION_TIMEOUT => status::DEVICE_NOT_CONNECTED,
        srb_status::DATA_OVERRUN => BUFFER_OVERFLOW,
        _ => status::IO_DEVICE_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_says_what_it_was_made_of_and_takes_an_answer() {
        for form in Form::ALL {
            let content = Content {
                form,
                function: function::EXECUTE_SCSI,
                cdb: vec![0x2A, 0, 0, 0, 0, 7, 0, 0, 1, 0],
                data: Transfer::Out((0..32).collect()),
                timeout: 60,
            };
            let block = RequestBlock::new("test", &content, std::ptr::null_mut());
            let srb = block.srb();
            assert_eq!(srb.function(), content.function, "{form:?}");
            assert_eq!(srb.cdb(), content.cdb, "{form:?}");
            assert_eq!(srb.transfer(), content.data, "{form:?}");
            assert_eq!(srb.timeout(), 60, "{form:?}");
            let before = srb.image();

            srb.set_srb_status(srb_status::ERROR | srb_status::AUTOSENSE_VALID);
            srb.set_scsi_status(0x02);
            srb.set_sense(&[0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 0]);
            srb.set_data_length(0);
            assert_eq!(srb.scsi_status(), Some(0x02), "{form:?}");
            assert_eq!(block.sense()[2], 6, "{form:?}");
            assert!(block.data().is_empty(), "{form:?}");
            assert_eq!(srb.cdb(), content.cdb, "{form:?}");
            assert_ne!(srb.image(), before, "{form:?}");
        }
    }

    #[test]
    fn a_reset_has_no_command_in_either_form() {
        for form in [Form::Classic, Form::Cdb16] {
            let content = Content {
                form,
                function: function::RESET_LOGICAL_UNIT,
                ..Content::default()
            };
            let block = RequestBlock::new("test", &content, std::ptr::null_mut());
            assert_eq!(block.srb().function(), function::RESET_LOGICAL_UNIT);
            assert!(block.srb().cdb().is_empty(), "{form:?}");
        }
    }
}
