//! What the driver and its Windows see of each other in memory, x64.
//!
//! NT layouts are Microsoft's own metadata (`windows-sys`); KMDF's are written here and held by a test against
//! `tests/kit/kmdf-abi.json`. Nothing comes from the open kit's headers, so that kit and rig check each other.

use std::ffi::c_void;

pub use windows_sys::Wdk::Foundation::{
    DEVICE_OBJECT, DRIVER_EXTENSION, DRIVER_OBJECT, IO_STACK_LOCATION, IRP,
};
pub use windows_sys::Win32::Foundation::UNICODE_STRING;

/// An NTSTATUS.
pub type Status = i32;

/// The status codes that the rig itself gives or looks at (MS-ERREF 2.3.1).
pub mod status {
    use super::Status;
    pub use windows_sys::Win32::Foundation::{
        STATUS_ACCESS_DENIED as ACCESS_DENIED, STATUS_BUFFER_OVERFLOW as BUFFER_OVERFLOW,
        STATUS_BUFFER_TOO_SMALL as BUFFER_TOO_SMALL, STATUS_CANCELLED as CANCELLED,
        STATUS_DEVICE_NOT_CONNECTED as DEVICE_NOT_CONNECTED,
        STATUS_INFO_LENGTH_MISMATCH as INFO_LENGTH_MISMATCH,
        STATUS_INSUFFICIENT_RESOURCES as INSUFFICIENT_RESOURCES,
        STATUS_INTEGER_OVERFLOW as INTEGER_OVERFLOW,
        STATUS_INVALID_DEVICE_REQUEST as INVALID_DEVICE_REQUEST,
        STATUS_INVALID_DEVICE_STATE as INVALID_DEVICE_STATE,
        STATUS_INVALID_PARAMETER as INVALID_PARAMETER, STATUS_IO_DEVICE_ERROR as IO_DEVICE_ERROR,
        STATUS_IO_TIMEOUT as IO_TIMEOUT,
        STATUS_MORE_PROCESSING_REQUIRED as MORE_PROCESSING_REQUIRED,
        STATUS_NO_MORE_ENTRIES as NO_MORE_ENTRIES, STATUS_NO_SUCH_DEVICE as NO_SUCH_DEVICE,
        STATUS_NOT_SUPPORTED as NOT_SUPPORTED,
        STATUS_OBJECT_NAME_NOT_FOUND as OBJECT_NAME_NOT_FOUND,
        STATUS_OBJECT_TYPE_MISMATCH as OBJECT_TYPE_MISMATCH, STATUS_PENDING as PENDING,
        STATUS_REQUEST_NOT_ACCEPTED as REQUEST_NOT_ACCEPTED, STATUS_SUCCESS as SUCCESS,
        STATUS_UNSUCCESSFUL as UNSUCCESSFUL,
    };
    /// wdfstatus.h.
    pub const WDF_PAUSED: Status = 0xC020_0203_u32.cast_signed();
    /// wdfstatus.h.
    pub const WDF_OBJECT_ATTRIBUTES_INVALID: Status = 0xC020_0209_u32.cast_signed();
    /// wdfstatus.h.
    pub const WDF_PARENT_ASSIGNMENT_NOT_ALLOWED: Status = 0xC020_020F_u32.cast_signed();
    /// wdfstatus.h.
    pub const WDF_SYNCHRONIZATION_SCOPE_INVALID: Status = 0xC020_0210_u32.cast_signed();
    /// wdfstatus.h.
    pub const WDF_EXECUTION_LEVEL_INVALID: Status = 0xC020_0211_u32.cast_signed();
    /// wdfstatus.h.
    pub const WDF_PARENT_NOT_SPECIFIED: Status = 0xC020_0212_u32.cast_signed();

    /// What the NT_SUCCESS macro says.
    pub const fn is_success(status: Status) -> bool {
        status >= 0
    }
}

/// IRQL values (x64).
pub mod irql {
    /// Ordinary threads.
    pub const PASSIVE: u8 = 0;
    /// Threads that take no APCs.
    pub const APC: u8 = 1;
    /// DPCs, and threads that hold a spin lock.
    pub const DISPATCH: u8 = 2;
}

/// Major function codes.
pub mod major {
    pub use windows_sys::Wdk::System::SystemServices::{
        IRP_MJ_CREATE, IRP_MJ_DEVICE_CONTROL, IRP_MJ_PNP, IRP_MJ_POWER, IRP_MJ_SCSI,
    };
    /// How many there are.
    pub const COUNT: usize = 28;
}

/// IO_STACK_LOCATION.Control bits.
pub mod control {
    /// The location's driver has called IoMarkIrpPending.
    pub const PENDING_RETURNED: u8 = 0x01;
    /// Call the completion routine on cancel.
    pub const INVOKE_ON_CANCEL: u8 = 0x20;
    /// Call it on success.
    pub const INVOKE_ON_SUCCESS: u8 = 0x40;
    /// Call it on error.
    pub const INVOKE_ON_ERROR: u8 = 0x80;
}

/// A driver's dispatch routine, in the image's own calling convention.
pub type Dispatch = unsafe extern "win64" fn(*mut DEVICE_OBJECT, *mut IRP) -> Status;
/// An IRP completion routine.
pub type CompletionRoutine =
    unsafe extern "win64" fn(*mut DEVICE_OBJECT, *mut IRP, *mut c_void) -> Status;
/// A cancel routine.
pub type CancelRoutine = unsafe extern "win64" fn(*mut DEVICE_OBJECT, *mut IRP);

/// `IO_STACK_LOCATION.Parameters.DeviceIoControl`. Each member is POINTER_ALIGNMENT in wdm.h, which Microsoft's
/// metadata leaves out, so this one is written by hand (offsets 8, 16, 24, 32 of the stack location).
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_snake_case, missing_docs)]
pub struct DeviceIoControl {
    pub OutputBufferLength: u32,
    _1: u32,
    pub InputBufferLength: u32,
    _2: u32,
    pub IoControlCode: u32,
    _3: u32,
    pub Type3InputBuffer: *mut c_void,
}

/// SCSI_PASS_THROUGH (ntddscsi.h).
pub use windows_sys::Win32::Storage::IscsiDisc::{
    IOCTL_SCSI_PASS_THROUGH, SCSI_PASS_THROUGH, SCSI_PASS_THROUGH32,
};

/// Declares a KMDF structure and keeps its layout where the test can compare it with Microsoft's.
macro_rules! kmdf {
    ($($(#[$doc:meta])* $name:ident as $tag:literal { $($field:ident: $type:ty,)* })*) => {
        $($(#[$doc])* #[repr(C)] #[derive(Clone, Copy)] #[allow(non_snake_case, missing_docs)]
        pub struct $name { $(pub $field: $type,)* })*

        /// One record: its C tag, size, alignment, and each field with its offset.
        pub type Layout = (&'static str, usize, usize, &'static [(&'static str, usize)]);
        /// Every KMDF structure that the rig knows.
        pub const LAYOUTS: &[Layout] = &[$((
            $tag, size_of::<$name>(), align_of::<$name>(),
            &[$((stringify!($field), std::mem::offset_of!($name, $field)),)*],
        ),)*];
    };
}

/// A framework handle: an opaque number, never an address that can be read.
pub type Handle = u64;
/// An address inside the image, or null.
pub type Code = *const c_void;

kmdf! {
    /// What WdfVersionBind hands to the client, and every framework call hands back.
    WDF_DRIVER_GLOBALS as "_WDF_DRIVER_GLOBALS" {
        Driver: Handle, DriverFlags: u32, DriverTag: u32, DriverName: [u8; 32], DisplaceDriverUnload: u8,
    }
    /// WdfDriverCreate's configuration.
    WDF_DRIVER_CONFIG as "_WDF_DRIVER_CONFIG" {
        Size: u32, EvtDriverDeviceAdd: Code, EvtDriverUnload: Code, DriverInitFlags: u32, DriverPoolTag: u32,
    }
    /// Attributes that every object can be made with.
    WDF_OBJECT_ATTRIBUTES as "_WDF_OBJECT_ATTRIBUTES" {
        Size: u32, EvtCleanupCallback: Code, EvtDestroyCallback: Code, ExecutionLevel: u32,
        SynchronizationScope: u32, ParentObject: Handle, ContextSizeOverride: usize,
        ContextTypeInfo: *const WDF_OBJECT_CONTEXT_TYPE_INFO,
    }
    /// One type of object context.
    WDF_OBJECT_CONTEXT_TYPE_INFO as "_WDF_OBJECT_CONTEXT_TYPE_INFO" {
        Size: u32, ContextName: *const i8, ContextSize: usize,
        UniqueType: *const WDF_OBJECT_CONTEXT_TYPE_INFO, EvtDriverGetUniqueContextType: Code,
    }
    /// WdfDeviceInitSetPnpPowerEventCallbacks' table.
    WDF_PNPPOWER_EVENT_CALLBACKS as "_WDF_PNPPOWER_EVENT_CALLBACKS" {
        Size: u32, EvtDeviceD0Entry: Code, EvtDeviceD0EntryPostInterruptsEnabled: Code, EvtDeviceD0Exit: Code,
        EvtDeviceD0ExitPreInterruptsDisabled: Code, EvtDevicePrepareHardware: Code,
        EvtDeviceReleaseHardware: Code, EvtDeviceSelfManagedIoCleanup: Code, EvtDeviceSelfManagedIoFlush: Code,
        EvtDeviceSelfManagedIoInit: Code, EvtDeviceSelfManagedIoSuspend: Code,
        EvtDeviceSelfManagedIoRestart: Code, EvtDeviceSurpriseRemoval: Code, EvtDeviceQueryRemove: Code,
        EvtDeviceQueryStop: Code, EvtDeviceUsageNotification: Code, EvtDeviceRelationsQuery: Code,
        EvtDeviceUsageNotificationEx: Code,
    }
    /// WdfIoQueueCreate's configuration.
    WDF_IO_QUEUE_CONFIG as "_WDF_IO_QUEUE_CONFIG" {
        Size: u32, DispatchType: u32, PowerManaged: u32, AllowZeroLengthRequests: u8, DefaultQueue: u8,
        EvtIoDefault: Code, EvtIoRead: Code, EvtIoWrite: Code, EvtIoDeviceControl: Code,
        EvtIoInternalDeviceControl: Code, EvtIoStop: Code, EvtIoResume: Code, EvtIoCanceledOnQueue: Code,
        Settings: u64, Driver: Handle,
    }
    /// WdfRequestSend's options.
    WDF_REQUEST_SEND_OPTIONS as "_WDF_REQUEST_SEND_OPTIONS" { Size: u32, Flags: u32, Timeout: i64, }
    /// WdfRequestReuse's parameters.
    WDF_REQUEST_REUSE_PARAMS as "_WDF_REQUEST_REUSE_PARAMS" {
        Size: u32, Flags: u32, Status: Status, NewIrp: *mut IRP,
    }
    /// What a request's completion routine is told (of the union, the Ioctl member).
    WDF_REQUEST_COMPLETION_PARAMS as "_WDF_REQUEST_COMPLETION_PARAMS" {
        Size: u32, Type: u32, IoStatus: [u64; 2], Parameters: [u64; 6],
    }
    /// WdfTimerCreate's configuration.
    WDF_TIMER_CONFIG as "_WDF_TIMER_CONFIG" {
        Size: u32, EvtTimerFunc: Code, Period: u32, AutomaticSerialization: u8, TolerableDelay: u32,
        UseHighResolutionTimer: Aligned8<u8>,
    }
    /// WdfWorkItemCreate's configuration.
    WDF_WORKITEM_CONFIG as "_WDF_WORKITEM_CONFIG" {
        Size: u32, EvtWorkItemFunc: Code, AutomaticSerialization: u8,
    }
    /// What WdfRequestGetParameters gives (the union as four pointers).
    WDF_REQUEST_PARAMETERS as "_WDF_REQUEST_PARAMETERS" {
        Size: u16, MinorFunction: u8, Type: u32, Parameters: [u64; 4],
    }
    /// A part of a WDFMEMORY.
    WDFMEMORY_OFFSET as "_WDFMEMORY_OFFSET" { BufferOffset: usize, BufferLength: usize, }
}

/// A field that the header aligns to eight bytes.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct Aligned8<T>(pub T);

/// What a client hands to WdfVersionBind (KMDF 1.15: 48 bytes, FuncTable is the address of the table pointer).
#[repr(C)]
#[allow(non_snake_case, missing_docs)]
pub struct WDF_BIND_INFO {
    pub Size: u32,
    pub Component: *const u16,
    pub Major: u32,
    pub Minor: u32,
    pub Build: u32,
    pub FuncCount: u32,
    pub FuncTable: *mut *const Code,
    pub Module: *mut c_void,
}

const _: () = {
    assert!(size_of::<IRP>() == 208, "IRP, wdm.h x64");
    assert!(
        size_of::<IO_STACK_LOCATION>() == 72,
        "IO_STACK_LOCATION, wdm.h x64"
    );
    // wdm.h aligns the structure to 16 bytes (DECLSPEC_ALIGN), which the metadata leaves out.
    assert!(
        size_of::<DEVICE_OBJECT>().next_multiple_of(16) == 336,
        "DEVICE_OBJECT, wdm.h x64"
    );
    assert!(
        size_of::<DRIVER_OBJECT>() == 336,
        "DRIVER_OBJECT, wdm.h x64"
    );
    assert!(
        size_of::<SCSI_PASS_THROUGH>() == 56,
        "SCSI_PASS_THROUGH, ntddscsi.h x64"
    );
    assert!(
        size_of::<SCSI_PASS_THROUGH32>() == 44,
        "SCSI_PASS_THROUGH32, ntddscsi.h"
    );
    assert!(size_of::<DeviceIoControl>() == 32);
    assert!(std::mem::offset_of!(IO_STACK_LOCATION, Parameters) == 8);
    assert!(size_of::<WDF_BIND_INFO>() == 48);
};

/// Reads a counted UTF-16 string that the driver handed over.
///
/// # Safety
/// `string` is null or points to a valid UNICODE_STRING.
pub unsafe fn read_unicode(string: *const UNICODE_STRING) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: not null, and valid by this function's contract.
    let string = unsafe { &*string };
    // SAFETY: a valid UNICODE_STRING has Length bytes at Buffer.
    let units =
        unsafe { std::slice::from_raw_parts(string.Buffer, usize::from(string.Length / 2)) };
    String::from_utf16_lossy(units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kmdf_layouts_are_those_of_microsofts_headers() {
        let facts: serde_json::Value =
            serde_json::from_str(include_str!("../../kit/kmdf-abi.json")).unwrap();
        for (tag, size, align, fields) in LAYOUTS {
            let record = &facts["1.15"]["records"][tag];
            assert_eq!(record["size"], *size, "size of {tag}");
            assert_eq!(record["align"], *align, "alignment of {tag}");
            for (field, offset) in *fields {
                assert_eq!(record["fields"][field], *offset, "{tag}.{field}");
            }
        }
    }
}
