//! A fault inside the image ends the run as a bug check would, and says where in the image it was; unless it is a page
//! fault that the memory manager would serve.

use std::sync::Once;

use crate::abi::irql;
use crate::{image, pool, rules, world};

static INSTALL: Once = Once::new();

/// Takes over SIGSEGV, SIGBUS, SIGILL and SIGTRAP; faults outside of any image keep the host's default.
pub fn install() {
    INSTALL.call_once(|| {
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGTRAP] {
            // SAFETY: all-zero is a valid sigaction.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
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
    let place = image::describe(usize::try_from(rip).unwrap_or(0));
    let who = place.as_deref().unwrap_or("the rig, for the driver,");
    if let Some((start, ..)) = image::pageable(address) {
        if world::current_irql() < irql::DISPATCH && image::page_in(address) {
            return;
        }
        let what = image::describe(address).unwrap_or_else(|| format!("{start:#x}"));
        rules::broken(
            &rules::PAGEABLE_AT_DISPATCH,
            &format!("{who} touched {what}"),
        );
    }
    if pool::is_sealed(address) {
        let found = format!("{who} touched {address:#x}: {}", pool::describe(address));
        rules::broken(&rules::BUFFERS_UNTOUCHED, &found);
    }
    let Some(place) = place else {
        // Not in an image: the rig's own fault, or the driver's data handed to the rig. Say so, then die of the signal.
        let text = format!(
            "*** fault (signal {signal}) in the rig itself at {rip:#x}, address {address:#x}: {}\n    {}\n",
            pool::describe(address),
            world::describe_current()
        );
        // SAFETY: the buffer is valid for its length.
        unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
        // SAFETY: the default is a handler that is always there.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    };
    let found = format!(
        "{place} touched {address:#x} (signal {signal}): {}",
        pool::describe(address)
    );
    rules::broken(&rules::WILD_ACCESS, &found)
}
