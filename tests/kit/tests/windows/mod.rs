//! NT and SCSI as `windows-sys` has them, for the types and constants that the kit declares.

use crate::figures::Record;
use std::collections::BTreeMap;
use windows_sys::Wdk::Foundation::{
    DEVICE_OBJECT, DISPATCHER_HEADER, DRIVER_OBJECT, IO_STACK_LOCATION, IRP, KDEVICE_QUEUE, KDPC,
    KEVENT,
};
use windows_sys::Wdk::System::SystemServices::{KAPC, KDEVICE_QUEUE_ENTRY, WAIT_CONTEXT_BLOCK};
use windows_sys::Win32::Foundation::UNICODE_STRING;
use windows_sys::Win32::Storage::IscsiDisc::SCSI_PASS_THROUGH;
use windows_sys::Win32::System::Diagnostics::Etw::{
    EVENT_DATA_DESCRIPTOR, EVENT_DESCRIPTOR, EVENT_FILTER_DESCRIPTOR,
};
use windows_sys::Win32::System::IO::IO_STATUS_BLOCK;
use windows_sys::Win32::System::Kernel::{LIST_ENTRY, SINGLE_LIST_ENTRY};
use windows_sys::core::GUID;

/// `tag is type: field, C path = Rust path where they differ, …;`
macro_rules! records {
    ($($tag:ident is $type:ty: $($($c:ident).+ $(= $($rust:ident).+)?),+;)+) => {
        [$((
            stringify!($tag),
            Record {
                size: size_of::<$type>() as u64,
                align: align_of::<$type>() as u64,
                fields: [$((
                    stringify!($($c).+).replace(' ', ""),
                    records!(@ $type, [$($c).+] $([$($rust).+])?) as u64,
                )),+].into(),
            },
        )),+].into()
    };
    (@ $type:ty, [$($c:tt)+] [$($rust:tt)+]) => { std::mem::offset_of!($type, $($rust)+) };
    (@ $type:ty, [$($c:tt)+]) => { std::mem::offset_of!($type, $($c)+) };
}

/// Structures, by C tag.
pub fn records() -> BTreeMap<&'static str, Record> {
    records! {
        _GUID is GUID: Data1 = data1, Data2 = data2, Data3 = data3, Data4 = data4;
        _LIST_ENTRY is LIST_ENTRY: Flink, Blink;
        _SINGLE_LIST_ENTRY is SINGLE_LIST_ENTRY: Next;
        _UNICODE_STRING is UNICODE_STRING: Length, MaximumLength, Buffer;
        _IO_STATUS_BLOCK is IO_STATUS_BLOCK:
            Status = Anonymous.Status, Pointer = Anonymous.Pointer, Information;
        _DRIVER_OBJECT is DRIVER_OBJECT:
            Type, Size, DeviceObject, Flags, DriverStart, DriverSize, DriverSection, DriverExtension,
            DriverName, HardwareDatabase, FastIoDispatch, DriverInit, DriverStartIo, DriverUnload,
            MajorFunction;
        _DISPATCHER_HEADER is DISPATCHER_HEADER:
            Lock = Anonymous.Anonymous1.Lock, LockNV = Anonymous.Anonymous1.LockNV, SignalState,
            WaitListHead;
        _KEVENT is KEVENT: Header;
        _KDPC is KDPC:
            TargetInfoAsUlong = Anonymous.TargetInfoAsUlong, Type = Anonymous.Anonymous.Type,
            Importance = Anonymous.Anonymous.Importance, Number = Anonymous.Anonymous.Number,
            DpcListEntry, ProcessorHistory, DeferredRoutine, DeferredContext, SystemArgument1,
            SystemArgument2, DpcData;
        _KDEVICE_QUEUE is KDEVICE_QUEUE: Type, Size, DeviceListHead, Lock, Busy;
        _KDEVICE_QUEUE_ENTRY is KDEVICE_QUEUE_ENTRY: DeviceListEntry, SortKey, Inserted;
        _WAIT_CONTEXT_BLOCK is WAIT_CONTEXT_BLOCK:
            WaitQueueEntry = Anonymous.WaitQueueEntry, DmaWaitEntry = Anonymous.Anonymous.DmaWaitEntry,
            NumberOfChannels = Anonymous.Anonymous.NumberOfChannels, DeviceRoutine, DeviceContext,
            NumberOfMapRegisters, DeviceObject, CurrentIrp, BufferChainingDpc;
        _DEVICE_OBJECT is DEVICE_OBJECT:
            Type, Size, ReferenceCount, DriverObject, NextDevice, AttachedDevice, CurrentIrp, Timer,
            Flags, Characteristics, Vpb, DeviceExtension, DeviceType, StackSize, Queue, Queue.ListEntry,
            Queue.Wcb, AlignmentRequirement, DeviceQueue, Dpc, ActiveThreadCount, SecurityDescriptor,
            DeviceLock, SectorSize, Spare1, DeviceObjectExtension, Reserved;
        _KAPC is KAPC:
            Type, AllFlags, Size, SpareByte1, SpareLong0, Thread, ApcListEntry, Reserved, NormalContext,
            SystemArgument1, SystemArgument2, ApcStateIndex, ApcMode, Inserted;
        _IRP is IRP:
            Type, Size, MdlAddress, Flags, AssociatedIrp, AssociatedIrp.MasterIrp,
            AssociatedIrp.IrpCount, AssociatedIrp.SystemBuffer, ThreadListEntry, IoStatus, RequestorMode,
            PendingReturned, StackCount, CurrentLocation, Cancel, CancelIrql, ApcEnvironment,
            AllocationFlags, UserIosb = Anonymous.UserIosb, IoRingContext = Anonymous.IoRingContext,
            UserEvent, Overlay, Overlay.AllocationSize, Overlay.AsynchronousParameters,
            Overlay.AsynchronousParameters.UserApcRoutine
                = Overlay.AsynchronousParameters.Anonymous1.UserApcRoutine,
            Overlay.AsynchronousParameters.IssuingProcess
                = Overlay.AsynchronousParameters.Anonymous1.IssuingProcess,
            Overlay.AsynchronousParameters.UserApcContext
                = Overlay.AsynchronousParameters.Anonymous2.UserApcContext,
            Overlay.AsynchronousParameters.IoRing = Overlay.AsynchronousParameters.Anonymous2.IoRing,
            CancelRoutine, UserBuffer, Tail, Tail.Apc, Tail.CompletionKey, Tail.Overlay,
            Tail.Overlay.DeviceQueueEntry = Tail.Overlay.Anonymous1.DeviceQueueEntry,
            Tail.Overlay.DriverContext = Tail.Overlay.Anonymous1.Anonymous.DriverContext,
            Tail.Overlay.Thread, Tail.Overlay.AuxiliaryBuffer,
            Tail.Overlay.ListEntry = Tail.Overlay.Anonymous2.ListEntry,
            Tail.Overlay.CurrentStackLocation = Tail.Overlay.Anonymous2.Anonymous.CurrentStackLocation,
            Tail.Overlay.PacketType = Tail.Overlay.Anonymous2.Anonymous.PacketType,
            Tail.Overlay.OriginalFileObject;
        _IO_STACK_LOCATION is IO_STACK_LOCATION:
            MajorFunction, MinorFunction, Flags, Control, Parameters, Parameters.DeviceIoControl,
            Parameters.DeviceIoControl.OutputBufferLength, Parameters.DeviceIoControl.InputBufferLength,
            Parameters.DeviceIoControl.IoControlCode, Parameters.DeviceIoControl.Type3InputBuffer,
            Parameters.Scsi, Parameters.Scsi.Srb, Parameters.Others, Parameters.Others.Argument1,
            Parameters.Others.Argument2, Parameters.Others.Argument3, Parameters.Others.Argument4,
            DeviceObject, FileObject, CompletionRoutine, Context;
        _EVENT_DESCRIPTOR is EVENT_DESCRIPTOR: Id, Version, Channel, Level, Opcode, Task, Keyword;
        _EVENT_DATA_DESCRIPTOR is EVENT_DATA_DESCRIPTOR:
            Ptr, Size, Reserved = Anonymous.Reserved, Type = Anonymous.Anonymous.Type,
            Reserved1 = Anonymous.Anonymous.Reserved1, Reserved2 = Anonymous.Anonymous.Reserved2;
        _EVENT_FILTER_DESCRIPTOR is EVENT_FILTER_DESCRIPTOR: Ptr, Size, Type;
        _SCSI_PASS_THROUGH is SCSI_PASS_THROUGH:
            Length, ScsiStatus, PathId, TargetId, Lun, CdbLength, SenseInfoLength, DataIn,
            DataTransferLength, TimeOutValue, DataBufferOffset, SenseInfoOffset, Cdb;
    }
}

/// `values!(module: NAME, …;)`: constants of `windows-sys` by name.
macro_rules! values {
    ($($($module:ident)::+ : $($name:ident),+;)+) => {{
        let mut all = BTreeMap::new();
        $({
            use windows_sys::$($module)::+ as module;
            $(all.insert(stringify!($name), i64::from(module::$name));)+
        })+
        all
    }};
}

/// `#define`s with a number.
pub fn constants() -> BTreeMap<&'static str, i64> {
    values! {
        Wdk::System::SystemServices: PASSIVE_LEVEL, APC_LEVEL, DISPATCH_LEVEL, PLUGPLAY_REGKEY_DEVICE, PLUGPLAY_REGKEY_DRIVER,
            IRP_MJ_CREATE, IRP_MJ_CLOSE, IRP_MJ_READ, IRP_MJ_WRITE, IRP_MJ_DEVICE_CONTROL, IRP_MJ_INTERNAL_DEVICE_CONTROL,
            IRP_MJ_SCSI, IRP_MJ_SHUTDOWN, IRP_MJ_CLEANUP, IRP_MJ_POWER, IRP_MJ_SYSTEM_CONTROL, IRP_MJ_PNP,
            IRP_MJ_MAXIMUM_FUNCTION, IRP_MN_SCSI_CLASS;
        Wdk::Storage::FileSystem: IO_NO_INCREMENT;
        Win32::Foundation: FALSE, TRUE;
        Win32::Storage::FileSystem: FILE_DEVICE_CD_ROM, FILE_DEVICE_DISK, FILE_DEVICE_TAPE;
        Win32::Storage::IscsiDisc: SCSI_IOCTL_DATA_OUT, SCSI_IOCTL_DATA_IN, SCSI_IOCTL_DATA_UNSPECIFIED;
        Win32::System::Ioctl: FILE_DEVICE_CONTROLLER, FILE_DEVICE_MASS_STORAGE, METHOD_BUFFERED, METHOD_IN_DIRECT,
            METHOD_OUT_DIRECT, METHOD_NEITHER, FILE_ANY_ACCESS, FILE_READ_ACCESS, FILE_WRITE_ACCESS;
        Win32::System::Registry: KEY_QUERY_VALUE, KEY_READ;
    }
}

/// Members of enumerations.
pub fn enumerators() -> BTreeMap<&'static str, i64> {
    values! {
        Wdk::System::SystemServices: KeepObject, DeallocateObject, DeallocateObjectKeepRegisters, BusRelations,
            EjectionRelations, PowerRelations, RemovalRelations, TargetDeviceRelation, SingleBusRelations, TransportRelations,
            DevicePropertyDeviceDescription, DevicePropertyHardwareID, DevicePropertyCompatibleIDs,
            DevicePropertyBootConfiguration, DevicePropertyBootConfigurationTranslated, DevicePropertyClassName,
            DevicePropertyClassGuid, DevicePropertyDriverKeyName, DevicePropertyManufacturer, DevicePropertyFriendlyName,
            DevicePropertyLocationInformation, DevicePropertyPhysicalDeviceObjectName, DevicePropertyBusTypeGuid,
            DevicePropertyLegacyBusType, DevicePropertyBusNumber, DevicePropertyEnumeratorName, DevicePropertyAddress,
            DevicePropertyUINumber, DevicePropertyInstallState, DevicePropertyRemovalPolicy,
            DevicePropertyResourceRequirements, DevicePropertyAllocatedResources, DevicePropertyContainerID;
        Win32::System::Diagnostics::Etw: EventProviderBinaryTrackInfo, EventProviderSetReserved1, EventProviderSetTraits,
            EventProviderUseDescriptorType, MaxEventInfo;
    }
}
