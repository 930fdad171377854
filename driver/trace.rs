//! What the driver tells ETW: its provider and all of its events. `driver/EVENTS.md` has them for the reader of a trace.
//!
//! An event costs a load and a branch while nobody listens.
#![forbid(unsafe_code)]

use scsi_reserve::NtStatus;
use wdk_sys::GUID;

use crate::wdf::{Hex, Text, Utf16, events};

/// The driver's life and parameters.
const DRIVER: u64 = 0x1;
/// The disks that it comes to and leaves.
const DISK: u64 = 0x2;
/// RESERVE and RELEASE requests and their commands.
const OPERATION: u64 = 0x4;
/// What becomes of the reservation.
const RESERVATION: u64 = 0x8;

events! {
    /// `aa2421a2-5c31-5fba-872c-3d415a51cd75`, the GUID that ETW's tools derive from the name.
    provider PROVIDER = "Resvflt", GUID {
        Data1: 0xAA24_21A2,
        Data2: 0x5C31,
        Data3: 0x5FBA,
        Data4: [0x87, 0x2C, 0x3D, 0x41, 0x5A, 0x51, 0xCD, 0x75],
    };

    /// All events. `disk` numbers the disks in the order in which they were attached to. SCSI status and sense
    /// key are 0xFF where none came.
    enum TraceEvent<'a> {
        /// The driver was loaded, with these parameters; a timeout of 0 is the disk's own.
        DriverLoaded: Information, DRIVER {
            version: Utf16,
            timeout_seconds: u32,
            max_retries: u32,
            retry_delay_ms: u32,
            reserve10_fallback: u32,
            attach_mode: u32,
            watch: u32,
        }
        DriverUnloaded: Information, DRIVER {}
        /// A parameter was out of range, or could not be read: with the status, and value 0.
        ParameterRejected: Warning, DRIVER { name: Utf16, status: NtStatus, value: u32, used: u32 }

        DiskAttached: Information, DISK { disk: u32, hardware_id: Text<'a>, timeout_seconds: u32 }
        DiskSkipped: Information, DISK { hardware_id: Text<'a>, reason: Utf16 }
        /// The disk works, without the filter.
        AttachFailed: Warning, DISK { hardware_id: Text<'a>, status: NtStatus }
        DiskDetached: Information, DISK { disk: u32 }

        OperationStarted: Verbose, OPERATION { disk: u32, code: Hex }
        /// With the status for the caller and the last answer. The time is 0 if the operation began before anybody
        /// listened.
        OperationEnded: Information, OPERATION {
            disk: u32,
            code: Hex,
            status: NtStatus,
            scsi_status: u8,
            sense_key: u8,
            asc: u8,
            ascq: u8,
            attempts: u32,
            microseconds: u64,
        }
        /// The command is sent again, because of this answer.
        Retry: Information, OPERATION {
            disk: u32,
            code: Hex,
            status: NtStatus,
            scsi_status: u8,
            sense_key: u8,
            asc: u8,
            ascq: u8,
            attempts: u32,
            delay_ms: u32,
        }
        CancelRequested: Information, OPERATION { disk: u32, code: Hex, attempts: u32 }

        /// A unit attention that nobody else will hear of. The command is sent again at once, a few times.
        UnitAttention: Warning, RESERVATION { disk: u32, asc: u8, ascq: u8 }
        /// A reset of the disk or its bus, asked for by a device control of somebody on this node, passes by.
        ResetPassed: Warning, RESERVATION { disk: u32, code: Hex }
        /// Another's SCSI request block that may change the reservation was answered: a RESERVE, a RELEASE, or what else.
        /// With the NTSTATUS that the filter's own request would have got, and what is known of the reservation now.
        Watched: Information, RESERVATION {
            disk: u32,
            request: Utf16,
            status: NtStatus,
            scsi_status: u8,
            sense_key: u8,
            asc: u8,
            ascq: u8,
            knowledge: u32,
        }
        /// While this node was known to hold the reservation, the answer to another's command says that it may be lost.
        Denied: Warning, RESERVATION { disk: u32, scsi_status: u8, asc: u8, ascq: u8 }
        /// Another node holds the reservation.
        Conflict: Information, RESERVATION { disk: u32, code: Hex }
        /// The command may have been executed, or a reservation held before may be lost.
        OutcomeUnknown: Warning, RESERVATION { disk: u32, code: Hex, status: NtStatus }
    }
}

/// Whether anybody listens.
pub fn is_enabled() -> bool {
    PROVIDER.is_enabled()
}

/// Writes an event, if anybody listens.
pub fn write<'a>(event: impl FnOnce() -> TraceEvent<'a>) {
    if is_enabled() {
        event().write();
    }
}
