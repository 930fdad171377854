//! A fault inside the image ends the run as a bug check would, and says where in the image it was.

use std::sync::Once;

use crate::{image, pool, rules, world};

static INSTALL: Once = Once::new();

/// Takes over SIGSEGV, SIGBUS, SIGILL and SIGTRAP; faults outside of any image keep the host's default.
pub fn install() {
    INSTALL.call_once(|| {
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGTRAP] {
            // SAFETY: all-zero is a valid sigaction.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESETHAND;
            // SAFETY: the handler has the signature that SA_SIGINFO asks for.
            unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
        }
    });
}

extern "C" fn on_fault(
    signal: i32,
    info: *const libc::siginfo_t,
    context: *const libc::ucontext_t,
) {
    // SAFETY: the kernel gives a valid context to an SA_SIGINFO handler.
    let rip = unsafe { (*context).uc_mcontext.gregs[libc::REG_RIP as usize] }.cast_unsigned();
    // SAFETY: likewise, and the signals that are taken carry an address.
    let address = unsafe { (*info).si_addr() } as usize;
    let Some(place) = image::describe(usize::try_from(rip).unwrap_or(0)) else {
        // Not in an image: the rig's own fault, or the driver's data handed to the rig. Say so, then die of the signal.
        let text = format!(
            "*** fault (signal {signal}) in the rig itself at {rip:#x}, address {address:#x}: {}\n    {}\n",
            pool::describe(address),
            world::describe_current()
        );
        // SAFETY: the buffer is valid for its length.
        unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
        return;
    };
    let found = format!(
        "{place} touched {address:#x} (signal {signal}): {}",
        pool::describe(address)
    );
    rules::broken(&rules::WILD_ACCESS, &found)
}
