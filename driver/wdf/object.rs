//! What all framework objects share: statuses, the sizes of structures, attributes.

use scsi_reserve::NtStatus;
use wdk_sys::{
    _WDF_EXECUTION_LEVEL, _WDF_SYNCHRONIZATION_SCOPE, NTSTATUS, ULONG, WDF_OBJECT_ATTRIBUTES,
    WDFOBJECT,
};

/// Turns what a call returned into its error, if it is one.
pub fn check(status: NTSTATUS) -> Result<(), NtStatus> {
    if wdk::nt_success(status) {
        Ok(())
    } else {
        Err(NtStatus(status))
    }
}

/// The `Size` member of a framework structure.
#[allow(
    clippy::cast_possible_truncation,
    reason = "the framework's structures are small"
)]
pub const fn size<T>() -> ULONG {
    size_of::<T>() as ULONG
}

/// `WDF_OBJECT_ATTRIBUTES_INIT`, with a parent or NULL.
#[inline(never)]
pub fn attributes(parent: WDFOBJECT) -> WDF_OBJECT_ATTRIBUTES {
    WDF_OBJECT_ATTRIBUTES {
        Size: size::<WDF_OBJECT_ATTRIBUTES>(),
        ExecutionLevel: _WDF_EXECUTION_LEVEL::WdfExecutionLevelInheritFromParent,
        SynchronizationScope: _WDF_SYNCHRONIZATION_SCOPE::WdfSynchronizationScopeInheritFromParent,
        ParentObject: parent,
        ..WDF_OBJECT_ATTRIBUTES::default()
    }
}
