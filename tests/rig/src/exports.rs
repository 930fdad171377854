//! What the rig's ntoskrnl.exe and WDFLDR.SYS export: what the driver and its broken variants import, and nothing that
//! Server 2016 lacks.

use std::ffi::c_void;
use std::sync::Arc;

use crate::abi::{
    DEVICE_OBJECT, DRIVER_OBJECT, IRP, Status, UNICODE_STRING, WDF_BIND_INFO, WDF_DRIVER_GLOBALS,
    irql, read_unicode, status,
};
use crate::fx::Framework;
use crate::{etw, io, pool, rules, rundown, world};

/// The address of a function that the driver imports.
pub fn find(module: &str, symbol: &str) -> Option<*const c_void> {
    let table = match module.to_ascii_lowercase().as_str() {
        "ntoskrnl.exe" => ntoskrnl,
        "wdfldr.sys" => wdfldr,
        _ => return None,
    };
    table(symbol)
}

fn ntoskrnl(symbol: &str) -> Option<*const c_void> {
    Some(match symbol {
        "memcpy" | "memmove" => copy_memory as *const c_void,
        "memset" => set_memory as *const c_void,
        "memcmp" => compare_memory as *const c_void,
        "RtlCopyUnicodeString" => copy_unicode_string as *const c_void,
        "IofCallDriver" => call_driver as *const c_void,
        "IofCompleteRequest" => complete_request as *const c_void,
        "IoInvalidateDeviceRelations" => invalidate_relations as *const c_void,
        "KeBugCheckEx" => bug_check as *const c_void,
        "KeQueryInterruptTimePrecise" => interrupt_time as *const c_void,
        "KfRaiseIrql" | "KeLowerIrql" => set_irql as *const c_void,
        "ExAllocatePoolWithTag" => allocate_pool as *const c_void,
        "ExFreePoolWithTag" => free_pool as *const c_void,
        _ => return etw::find(symbol).or_else(|| rundown::find(symbol)),
    })
}

fn wdfldr(symbol: &str) -> Option<*const c_void> {
    Some(match symbol {
        "WdfVersionBind" => version_bind as *const c_void,
        "WdfVersionUnbind" => version_unbind as *const c_void,
        _ => return None,
    })
}

unsafe extern "win64" fn copy_memory(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: memmove's contract; a wild pointer faults and is reported.
    unsafe { std::ptr::copy(from, to, count) };
    to
}

unsafe extern "win64" fn set_memory(to: *mut u8, value: i32, count: usize) -> *mut u8 {
    // SAFETY: memset's contract.
    unsafe { std::ptr::write_bytes(to, value.to_le_bytes()[0], count) };
    to
}

unsafe extern "win64" fn compare_memory(left: *const u8, right: *const u8, count: usize) -> i32 {
    // SAFETY: memcmp's contract.
    let (left, right) = unsafe {
        (
            std::slice::from_raw_parts(left, count),
            std::slice::from_raw_parts(right, count),
        )
    };
    left.cmp(right) as i32
}

/// Copies as much as fits.
unsafe extern "win64" fn copy_unicode_string(to: *mut UNICODE_STRING, from: *const UNICODE_STRING) {
    // SAFETY: RtlCopyUnicodeString's contract.
    let to = unsafe { &mut *to };
    // SAFETY: as above; null empties the target.
    let (buffer, length) =
        unsafe { from.as_ref() }.map_or((std::ptr::null_mut(), 0), |s| (s.Buffer, s.Length));
    to.Length = length.min(to.MaximumLength);
    if to.Length != 0 {
        // SAFETY: both buffers have that many bytes.
        unsafe { std::ptr::copy_nonoverlapping(buffer, to.Buffer, usize::from(to.Length / 2)) };
    }
}

unsafe extern "win64" fn complete_request(irp: *mut IRP, _priority_boost: i8) {
    let thread = world::current();
    thread.in_call(&thread.node(), "IofCompleteRequest", || {
        // SAFETY: a live IRP; plain data in a union.
        io::expect_proof(irp, || unsafe { (*irp).IoStatus.Anonymous.Status });
        io::complete_request(irp);
    });
}

unsafe extern "win64" fn call_driver(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    let thread = world::current();
    thread.in_call(&thread.node(), "IofCallDriver", || {
        if thread.irql() > irql::DISPATCH {
            let found = format!("IofCallDriver at IRQL {}", thread.irql());
            rules::broken(&rules::IRQL_TOO_HIGH, &found);
        }
        io::call_driver(device, irp)
    })
}

/// IoInvalidateDeviceRelations: the PnP manager asks the bus driver of a PDO anew, later. Here it is noted.
unsafe extern "win64" fn invalidate_relations(device: *mut DEVICE_OBJECT, kind: u32) {
    let thread = world::current();
    thread.in_call(&thread.node(), "IoInvalidateDeviceRelations", || {
        io::note_invalidated(device, kind);
    });
}

/// Gives the old IRQL, which KeLowerIrql's caller does not look at.
unsafe extern "win64" fn set_irql(level: u8) -> u8 {
    world::current().set_irql(level)
}

unsafe extern "win64" fn allocate_pool(_kind: u32, size: usize, _tag: u32) -> *mut u8 {
    pool::allocate(&world::current().node(), "pool", size)
}

unsafe extern "win64" fn free_pool(block: *mut u8, _tag: u32) {
    pool::free(block);
}

unsafe extern "win64" fn bug_check(code: u32, a: usize, b: usize, c: usize, d: usize) -> ! {
    let found = if code == u32::from_be_bytes(*b"RPNC") {
        // SAFETY: wdk-panic gives file name and length, line and column; the name is a string of the image's.
        let file = unsafe { std::slice::from_raw_parts(a as *const u8, b) };
        format!("panic at {}:{c}:{d}", String::from_utf8_lossy(file))
    } else {
        format!("bug check {code:#x} ({a:#x}, {b:#x}, {c:#x}, {d:#x})")
    };
    rules::broken(&rules::RUST_PANIC, &found)
}

unsafe extern "win64" fn interrupt_time(precise: *mut u64) -> u64 {
    let now = world::current().world.now();
    if !precise.is_null() {
        // SAFETY: an out-parameter of the caller's.
        unsafe { *precise = now };
    }
    now
}

unsafe extern "win64" fn version_bind(
    driver: *mut DRIVER_OBJECT,
    path: *const UNICODE_STRING,
    info: *mut WDF_BIND_INFO,
    globals: *mut *mut WDF_DRIVER_GLOBALS,
) -> Status {
    // SAFETY: the rig gave this driver object, with its framework in DriverSection.
    let fx: Arc<Framework> = unsafe {
        let fx = (*driver).DriverSection.cast::<Framework>().cast_const();
        Arc::increment_strong_count(fx);
        Arc::from_raw(fx)
    };
    if fx.world.allocation_fails("WdfVersionBind") {
        return status::INSUFFICIENT_RESOURCES;
    }
    // SAFETY: the client's string and structures.
    unsafe { fx.bind(driver, read_unicode(path), &mut *info, &mut *globals) }
}

unsafe extern "win64" fn version_unbind(
    _path: *const UNICODE_STRING,
    _info: *const WDF_BIND_INFO,
    globals: *const WDF_DRIVER_GLOBALS,
) -> Status {
    Framework::of(globals).unbind();
    status::SUCCESS
}
