//! Counts the driver's instructions exactly, by executing them one by one.
//!
//! While [`count`] runs, the image's code is not executable: who enters it faults. The fault's handler makes it executable
//! and sets the processor's trap flag, so that every instruction ends in a SIGTRAP, until one leads out of the image;
//! then the code is shut again. So the rig around the driver is not slowed down and not counted, nor is what the driver
//! calls. A string instruction with a repeat prefix, which traps at each round, counts once.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::image;
use crate::node::Node;

/// The trap flag in EFLAGS (Intel SDM volume 1, 3.4.3.3).
const TRAP_FLAG: i64 = 1 << 8;
/// Places in a saved context.
const RIP: usize = libc::REG_RIP.cast_unsigned() as usize;
const RSP: usize = libc::REG_RSP.cast_unsigned() as usize;
const FLAGS: usize = libc::REG_EFL.cast_unsigned() as usize;
/// More than any case here needs; a handler can't allocate.
const LIMIT: usize = 4096;

/// What the driver executed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Instructions of each callback, in the order in which they were called; what it calls is not counted.
    pub callbacks: Vec<u64>,
    /// Addresses that the driver called outside of its image, in order.
    pub calls: Vec<usize>,
    /// Where each instruction lies, in bytes from the start of the image's code, in order.
    pub places: Vec<u32>,
}

impl Counted {
    /// Instructions in all.
    pub fn instructions(&self) -> u64 {
        self.callbacks.iter().sum()
    }
}

/// A call out of the image that has not returned.
struct Out {
    back: usize,
    stack: usize,
    callback: usize,
}

#[derive(Default)]
struct State {
    code: Range<usize>,
    /// The code can be executed: a thread is in it.
    open: bool,
    /// The instruction that was counted last.
    last: usize,
    callback: usize,
    out: Vec<Out>,
    counted: Counted,
    before: Vec<libc::sigaction>,
}

struct Shared(UnsafeCell<Option<State>>);

// SAFETY: `ONE_AT_A_TIME` keeps measurements apart, and a world's baton its threads.
unsafe impl Sync for Shared {}

static STATE: Shared = Shared(UnsafeCell::new(None));
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
const SIGNALS: [i32; 2] = [libc::SIGSEGV, libc::SIGTRAP];

/// Runs `work` and counts what `node`'s driver executes meanwhile. Only for worlds with a baton, where one thread runs at a
/// time.
///
/// # Panics
/// If the driver calls more than [`LIMIT`] times.
pub fn count<R>(node: &Node, work: impl FnOnce() -> R) -> (R, Counted) {
    count_in(code_of(node), work)
}

fn count_in<R>(code: Range<usize>, work: impl FnOnce() -> R) -> (R, Counted) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let empty = Counted {
        callbacks: Vec::with_capacity(LIMIT),
        calls: Vec::with_capacity(LIMIT),
        places: Vec::with_capacity(LIMIT),
    };
    let state = State {
        code,
        out: Vec::with_capacity(LIMIT),
        counted: empty,
        before: SIGNALS.map(take_over).into(),
        ..State::default()
    };
    protect(&state.code, libc::PROT_READ);
    // SAFETY: no thread is in the image, so no handler runs.
    unsafe { *STATE.0.get() = Some(state) };
    let result = work();
    // SAFETY: as above.
    let state = unsafe { (*STATE.0.get()).take() };
    let Some(state) = state else {
        unreachable!("set above")
    };
    protect(&state.code, libc::PROT_READ | libc::PROT_EXEC);
    for (signal, before) in SIGNALS.into_iter().zip(&state.before) {
        // SAFETY: an action that the host gave.
        unsafe { libc::sigaction(signal, before, std::ptr::null_mut()) };
    }
    let counted = state.counted;
    assert!(
        counted.calls.len() < LIMIT && counted.callbacks.len() < LIMIT,
        "the driver calls without end"
    );
    (result, counted)
}

/// The executable pages of the node's image.
fn code_of(node: &Node) -> Range<usize> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let name = format!("(node {})", node.name());
    let mut code = maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        let ours = rest.starts_with("r-x") && image::describe(start)?.contains(&name);
        ours.then_some(start..end)
    });
    let found = code.next();
    assert!(code.next().is_none(), "the image has one section of code");
    found.unwrap_or_else(|| unreachable!("a node's image is mapped"))
}

fn protect(code: &Range<usize>, protection: i32) {
    // SAFETY: pages of a mapped image.
    unsafe { libc::mprotect(code.start as *mut _, code.len(), protection) };
}

/// Installs the handler; what was there before.
fn take_over(signal: i32) -> libc::sigaction {
    // SAFETY: all-zero is a valid sigaction.
    let (mut action, mut before): (libc::sigaction, libc::sigaction) =
        unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_signal as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler has the signature that SA_SIGINFO asks for.
    unsafe { libc::sigaction(signal, &raw const action, &raw mut before) };
    before
}

extern "C" fn on_signal(
    signal: i32,
    _info: *const libc::siginfo_t,
    context: *mut libc::ucontext_t,
) {
    // SAFETY: the kernel gives a valid context to an SA_SIGINFO handler.
    let registers = unsafe { &mut (*context).uc_mcontext.gregs };
    let at = |register: usize| registers[register].cast_unsigned() as usize;
    let (rip, rsp) = (at(RIP), at(RSP));
    // SAFETY: the baton's holder is the one thread that can be in the image.
    let Some(state) = (unsafe { (*STATE.0.get()).as_mut() }) else {
        return;
    };
    let inside = state.code.contains(&rip);
    let trap = signal == libc::SIGTRAP;
    if trap == state.open && inside {
        if !trap {
            state.enter(rip, rsp);
            registers[FLAGS] |= TRAP_FLAG;
        }
        state.step(rip);
    } else if trap && state.open {
        state.leave(rip, rsp);
        registers[FLAGS] &= !TRAP_FLAG;
    } else {
        // A fault of the driver's or of the rig's: it comes again, for the handler that was there before.
        for (signal, before) in SIGNALS.into_iter().zip(&state.before) {
            // SAFETY: an action that the host gave.
            unsafe { libc::sigaction(signal, before, std::ptr::null_mut()) };
        }
        registers[FLAGS] &= !TRAP_FLAG;
    }
}

impl State {
    /// Back from a call out of the image, or into a callback.
    fn enter(&mut self, rip: usize, rsp: usize) {
        protect(&self.code, libc::PROT_READ | libc::PROT_EXEC);
        self.open = true;
        self.last = 0;
        let back = |out: &Out| out.back == rip && out.stack == rsp;
        if let Some(which) = self.out.iter().rposition(back) {
            self.callback = self.out.swap_remove(which).callback;
        } else if self.counted.callbacks.len() < LIMIT {
            self.callback = self.counted.callbacks.len();
            self.counted.callbacks.push(0);
        }
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "an image's code is not that long"
    )]
    fn step(&mut self, rip: usize) {
        // SAFETY: an instruction of the image.
        let first = unsafe { *(rip as *const u8) };
        let repeats = rip == self.last && matches!(first, 0xF2 | 0xF3);
        if !repeats {
            self.counted.callbacks[self.callback] += 1;
            if self.counted.places.len() < LIMIT {
                self.counted.places.push((rip - self.code.start) as u32);
            }
        }
        self.last = rip;
    }

    /// Out of the image, by a return, or by a call or jump to `rip`.
    fn leave(&mut self, rip: usize, rsp: usize) {
        self.open = false;
        // SAFETY: an instruction of the image.
        let first = unsafe { *(self.last as *const u8) };
        // `ret`, `ret imm16`
        let returns = matches!(first, 0xC3 | 0xC2);
        protect(&self.code, libc::PROT_READ);
        if returns || self.counted.calls.len() == LIMIT {
            return;
        }
        self.counted.calls.push(rip);
        // SAFETY: what a call pushed; after a jump, the return address of the callback's caller.
        let back = unsafe { *(rsp as *const usize) };
        if self.code.contains(&back) && self.out.len() < LIMIT {
            self.out.push(Out {
                back,
                stack: rsp + size_of::<usize>(),
                callback: self.callback,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A callback that loops, fills 16 bytes, and calls.
    const CODE: [u8; 22] = [
        0x53, // push rbx
        0xB9, 0xE8, 0x03, 0x00, 0x00, // mov ecx, 1000
        0xFF, 0xC9, // dec ecx
        0x75, 0xFC, // jnz, to the one before
        0xB9, 0x10, 0x00, 0x00, 0x00, // mov ecx, 16
        0xF3, 0xAA, // rep stosb
        0xFF, 0xD6, // call rsi
        0x5B, // pop rbx
        0xC3, // ret
        0xCC,
    ];

    extern "sysv64" fn called() {}

    #[test]
    fn each_instruction_inside_counts_once_and_what_it_calls_does_not() {
        const PAGE: usize = 4096;
        const ANYWHERE: *mut libc::c_void = std::ptr::null_mut();
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: an anonymous mapping at an address of the host's choice.
        let page = unsafe { libc::mmap(ANYWHERE, PAGE, access, flags, -1, 0) };
        assert_ne!(page, libc::MAP_FAILED);
        // SAFETY: the page just mapped.
        unsafe { std::ptr::copy_nonoverlapping(CODE.as_ptr(), page.cast(), CODE.len()) };
        // SAFETY: the page becomes executable before it is called; the code keeps to this convention.
        let run: extern "sysv64" fn(*mut u8, extern "sysv64" fn()) =
            unsafe { std::mem::transmute(page) };
        let code = page as usize..page as usize + PAGE;
        let mut bytes = [1; 16];
        let (result, counted) = count_in(code, || {
            run(bytes.as_mut_ptr(), called);
            run(bytes.as_mut_ptr(), called);
            7
        });
        assert_eq!(result, 7);
        // The loop's two, a thousand times, and seven more, of which one repeats.
        assert_eq!(counted.callbacks, [2007, 2007]);
        assert_eq!(counted.calls, [called as *const () as usize; 2]);
        assert_eq!(counted.instructions(), 4014);
    }
}
