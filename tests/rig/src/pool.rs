//! Memory as the driver gets it: each block ends at a page that can't be touched, and a freed block can't be touched
//! again, as under Driver Verifier's special pool.

use std::alloc::Layout;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use crate::rules;

const PAGE: usize = 4096;
/// Freed blocks that stay mapped without access, so that a late touch names them.
const QUARANTINE: usize = 512;

#[derive(Clone, Debug)]
struct Block {
    what: &'static str,
    node: String,
    size: usize,
    base: usize,
    mapped: usize,
    freed: bool,
}

#[derive(Default)]
struct Pool {
    blocks: HashMap<usize, Block>,
    freed: VecDeque<usize>,
    /// Blocks that [`seal`] has closed.
    sealed: HashSet<usize>,
}

static POOL: LazyLock<Mutex<Pool>> = LazyLock::new(Mutex::default);

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

static UNGUARDED: AtomicBool = AtomicBool::new(false);

/// From now on no block has a guard page, and a freed one is gone: thousands of devices would need more mappings than a
/// process may have (vm.max_map_count), and time is not to be spent on mapping. A leak is still found.
pub fn do_without_guards() {
    UNGUARDED.store(true, Ordering::Relaxed);
}

fn allocate_unguarded(node: &str, what: &'static str, size: usize) -> *mut u8 {
    // SAFETY: the layout is not empty.
    let address = unsafe { std::alloc::alloc_zeroed(unguarded(size)) };
    assert!(!address.is_null(), "the host has memory for the rig");
    let block = Block {
        what,
        node: node.into(),
        size,
        base: address as usize,
        mapped: 0,
        freed: false,
    };
    pool().blocks.insert(address as usize, block);
    address
}

fn unguarded(size: usize) -> Layout {
    Layout::from_size_align(size.max(1), 16).expect("a size that fits into memory")
}

/// Allocates `size` zeroed bytes for `node`, 16-byte aligned, as near to the guard page as that allows.
///
/// # Panics
/// If the host has no memory.
pub fn allocate(node: &str, what: &'static str, size: usize) -> *mut u8 {
    if UNGUARDED.load(Ordering::Relaxed) {
        return allocate_unguarded(node, what, size);
    }
    let room = size.next_multiple_of(16).max(16);
    let mapped = room.next_multiple_of(PAGE) + PAGE;
    // SAFETY: an anonymous mapping at an address of the host's choice.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            mapped,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(base, libc::MAP_FAILED, "the host has memory for the rig");
    let base = base as usize;
    // SAFETY: the last page of the mapping just made.
    unsafe { libc::mprotect((base + mapped - PAGE) as *mut _, PAGE, libc::PROT_NONE) };
    let address = base + mapped - PAGE - room;
    let block = Block {
        what,
        node: node.into(),
        size,
        base,
        mapped,
        freed: false,
    };
    pool().blocks.insert(address, block);
    address as *mut u8
}

/// Frees a block; what touches it from now on stops the run.
pub fn free(address: *mut u8) {
    let address = address as usize;
    let mut pool = pool();
    let Some(block) = pool.blocks.get_mut(&address).filter(|block| !block.freed) else {
        drop(pool);
        rules::broken(
            &rules::POOL_BAD_FREE,
            &format!("{address:#x} is not allocated"),
        );
    };
    if block.mapped == 0 {
        let layout = unguarded(block.size);
        pool.blocks.remove(&address);
        drop(pool);
        // SAFETY: allocated with this layout, and freed once: it was in the table.
        return unsafe { std::alloc::dealloc(address as *mut u8, layout) };
    }
    block.freed = true;
    let (base, mapped) = (block.base, block.mapped);
    // SAFETY: the mapping is the block's own.
    unsafe { libc::mprotect(base as *mut _, mapped, libc::PROT_NONE) };
    pool.freed.push_back(address);
    if pool.freed.len() > QUARANTINE
        && let Some(oldest) = pool.freed.pop_front()
        && let Some(block) = pool.blocks.remove(&oldest)
    {
        // SAFETY: nothing refers to the mapping any more but a stray pointer, which faults with or without it.
        unsafe { libc::munmap(block.base as *mut _, block.mapped) };
    }
}

/// Takes all access to a block away until [`open`].
pub fn seal(address: *mut u8) {
    protect(address, libc::PROT_NONE);
    pool().sealed.insert(address as usize);
}

/// Gives it back.
pub fn open(address: *mut u8) {
    pool().sealed.remove(&(address as usize));
    protect(address, libc::PROT_READ | libc::PROT_WRITE);
}

fn protect(address: *mut u8, protection: i32) {
    let pool = pool();
    if let Some(block) = pool.blocks.get(&(address as usize))
        && block.mapped != 0
    {
        // SAFETY: the block's own pages, without the guard page.
        unsafe { libc::mprotect(block.base as *mut _, block.mapped - PAGE, protection) };
    }
}

/// Blocks that `node` has not freed, as "what (size)".
pub fn live(node: &str) -> Vec<String> {
    pool()
        .blocks
        .values()
        .filter(|block| !block.freed && block.node == node)
        .map(|block| format!("{} ({} bytes)", block.what, block.size))
        .collect()
}

/// True if `address` is in a block that [`seal`] has closed. Gives up where the lock is taken, as [`describe`] does.
pub fn is_sealed(address: usize) -> bool {
    let Ok(pool) = POOL.try_lock() else {
        return false;
    };
    let covers = |start: &usize| {
        let block = pool.blocks.get(start);
        block.is_some_and(|block| (*start..block.base + block.mapped - PAGE).contains(&address))
    };
    pool.sealed.iter().any(covers)
}

/// What lies at `address`, for a fault's message. Gives up where the lock is taken: it runs in a signal handler.
pub fn describe(address: usize) -> String {
    let Ok(pool) = POOL.try_lock() else {
        return "the pool is being changed".into();
    };
    pool.blocks
        .iter()
        .find(|(_, block)| (block.base..block.base + block.mapped).contains(&address))
        .map_or_else(
            || "not in the pool".into(),
            |(start, block)| {
                let (what, size) = (block.what, block.size);
                if block.freed {
                    format!(
                        "in {what} ({size} bytes, node {}), which is freed",
                        block.node
                    )
                } else {
                    let distance = address.wrapping_sub(*start).cast_signed();
                    format!(
                        "at offset {distance} of {what} ({size} bytes, node {})",
                        block.node
                    )
                }
            },
        )
}
