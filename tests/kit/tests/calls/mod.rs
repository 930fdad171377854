//! Calls to where a register or a slot in memory says: what Control Flow Guard is about.

use iced_x86::{Code, Decoder, DecoderOptions};
use object::pe::IMAGE_FILE_MACHINE_AMD64;

/// What such a call goes by.
#[derive(Debug, PartialEq, Eq)]
pub enum By {
    /// The pointer in a slot at a fixed address.
    Slot(u64),
    /// A register that the guard's check was handed just before.
    Checked,
    /// Nothing that we know.
    Unknown,
}

/// The calls in `code`, with their addresses. `check` is the slot of the guard's check.
pub fn indirect(machine: u16, code: &[u8], address: u64, check: u64) -> Vec<(u64, By)> {
    if machine == IMAGE_FILE_MACHINE_AMD64 {
        x64(code, address)
    } else {
        Arm64::new(code, address).calls(check)
    }
}

/// Guarded code calls the dispatch function in its slot, with the true target in rax.
fn x64(code: &[u8], address: u64) -> Vec<(u64, By)> {
    let mut calls = Vec::new();
    for instruction in Decoder::with_ip(64, code, address, DecoderOptions::NONE) {
        assert!(!instruction.is_invalid(), "{:x}", instruction.ip());
        if instruction.code() == Code::Call_rm64 {
            let fixed = instruction.is_ip_rel_memory_operand();
            let slot = fixed.then(|| By::Slot(instruction.ip_rel_memory_address()));
            let by = slot.unwrap_or(By::Unknown);
            calls.push((instruction.ip(), by));
        }
    }
    calls
}

/// Guarded code calls the check in its slot, with the target in x15, and then the target. Encodings: Arm's Architecture
/// Reference Manual for A-profile, C6.2.
struct Arm64 {
    words: Vec<u32>,
    address: u64,
}

/// The register in bits 0 to 4, and in 5 to 9.
fn destination(word: u32) -> u32 {
    word & 31
}
fn source(word: u32) -> u32 {
    word >> 5 & 31
}

/// BLR and BR.
fn is_call(word: u32) -> bool {
    word & 0xFFFF_FC1F == 0xD63F_0000
}
fn is_jump(word: u32) -> bool {
    word & 0xFFFF_FC1F == 0xD61F_0000
}

/// LDR of 64 bits with an unsigned offset.
fn is_load(word: u32) -> bool {
    word & 0xFFC0_0000 == 0xF940_0000
}

/// ADD of two registers, which a jump to a place in a table ends with.
fn is_sum(word: u32) -> bool {
    word & 0xFF20_0000 == 0x8B00_0000
}

/// Is it one of the instructions that code gets a target by: the two above, MOV of a register, ADRP?
fn sets(word: u32, register: u32) -> bool {
    let mov = word & 0xFFE0_FFE0 == 0xAA00_03E0;
    let page = word & 0x9F00_0000 == 0x9000_0000;
    (is_load(word) || is_sum(word) || mov || page) && destination(word) == register
}

impl Arm64 {
    fn new(code: &[u8], address: u64) -> Self {
        let words = code.chunks_exact(4);
        let words = words.map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]));
        Self {
            words: words.collect(),
            address,
        }
    }

    fn calls(&self, check: u64) -> Vec<(u64, By)> {
        let words = self.words.iter().enumerate();
        let calls = words
            .filter(|(at, word)| is_call(**word) || is_jump(**word) && !self.is_jump_table(*at));
        calls
            .map(|(at, _)| {
                let by = match self.slot(at) {
                    _ if self.is_checked(at, check) => By::Checked,
                    Some(slot) => By::Slot(slot),
                    None => By::Unknown,
                };
                (self.address + 4 * at as u64, by)
            })
            .collect()
    }

    /// Where before `at` a register was set last.
    fn setter(&self, at: usize, register: u32) -> Option<usize> {
        (0..at).rev().find(|i| sets(self.words[*i], register))
    }

    /// The slot that the register of a call was loaded from, its page from ADRP.
    fn slot(&self, at: usize) -> Option<u64> {
        let load = self.setter(at, source(self.words[at]))?;
        let word = self.words[load];
        let page = self.setter(load, source(word)).filter(|_| is_load(word))?;
        let (offset, adrp) = (u64::from(word >> 10 & 0xFFF) * 8, self.words[page]);
        if adrp & 0x9F00_0000 != 0x9000_0000 {
            return None;
        }
        let pages =
            i64::from((((adrp >> 5 & 0x7_FFFF) << 2 | adrp >> 29 & 3) << 11).cast_signed() >> 11);
        let here = (self.address + 4 * page as u64) & !0xFFF;
        Some(here.wrapping_add_signed(pages * 4096) + offset)
    }

    /// The call before was the check, and this call's register had been moved to x15 for it.
    fn is_checked(&self, at: usize, check: u64) -> bool {
        let is_link = |word: u32| is_call(word) || word & 0xFC00_0000 == 0x9400_0000;
        let before = (0..at).rev().find(|i| is_link(self.words[*i]));
        before.is_some_and(|before| {
            let moved = self.setter(before, 15).map(|i| self.words[i]);
            let moved = moved
                .filter(|word| !is_load(*word))
                .map(|word| word >> 16 & 31);
            is_call(self.words[before])
                && self.slot(before) == Some(check)
                && moved == Some(source(self.words[at]))
        })
    }

    fn is_jump_table(&self, at: usize) -> bool {
        let setter = self.setter(at, source(self.words[at]));
        setter.is_some_and(|i| is_sum(self.words[i]))
    }
}
