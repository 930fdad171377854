//! Run-down protection, as ntoskrnl.exe exports it: `EX_RUNDOWN_REF` has how often it is acquired, above a bit that says
//! that nobody gets in any more. Each routine's page gives its IRQL: any for acquiring and releasing, `APC_LEVEL` for
//! waiting.

use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::abi::irql;
use crate::{rules, world};

const RUN_DOWN: usize = 1;
const ONE: usize = 2;

/// The address of a routine that the driver imports.
pub fn find(symbol: &str) -> Option<*const c_void> {
    Some(match symbol {
        "ExInitializeRundownProtection" => initialize as *const c_void,
        "ExAcquireRundownProtection" => acquire as *const c_void,
        "ExReleaseRundownProtection" => release as *const c_void,
        "ExWaitForRundownProtectionRelease" => wait as *const c_void,
        _ => return None,
    })
}

unsafe extern "win64" fn initialize(rundown: *mut AtomicUsize) {
    // SAFETY: the caller's memory.
    unsafe { rundown.write(AtomicUsize::new(0)) };
}

unsafe extern "win64" fn acquire(rundown: *const AtomicUsize) -> u8 {
    // SAFETY: the caller initialised it.
    let rundown = unsafe { &*rundown };
    let thread = world::current();
    thread.in_call(&thread.node(), "ExAcquireRundownProtection", || {
        let more = |count: usize| (count & RUN_DOWN == 0).then(|| count + ONE);
        let acquired = rundown.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        u8::from(acquired.is_ok())
    })
}

unsafe extern "win64" fn release(rundown: *const AtomicUsize) {
    let key = rundown as usize;
    // SAFETY: as above.
    let rundown = unsafe { &*rundown };
    let thread = world::current();
    thread.in_call(&thread.node(), "ExReleaseRundownProtection", || {
        if rundown.fetch_sub(ONE, Ordering::SeqCst) == RUN_DOWN | ONE {
            thread.world.wake(key);
        }
    });
}

unsafe extern "win64" fn wait(rundown: *const AtomicUsize) {
    let key = rundown as usize;
    // SAFETY: as above.
    let rundown = unsafe { &*rundown };
    let thread = world::current();
    thread.in_call(&thread.node(), "ExWaitForRundownProtectionRelease", || {
        if thread.irql() > irql::APC {
            let found = format!(
                "ExWaitForRundownProtectionRelease at IRQL {}",
                thread.irql()
            );
            rules::broken(&rules::IRQL_TOO_HIGH, &found);
        }
        rundown.fetch_or(RUN_DOWN, Ordering::SeqCst);
        thread.wait(key, || rundown.load(Ordering::SeqCst) == RUN_DOWN);
    });
}
