//! Calls to where a register or a slot in memory says: what Control Flow Guard is about.

use iced_x86::{Code, Decoder, DecoderOptions};
use object::pe::IMAGE_FILE_MACHINE_AMD64;
use std::collections::{HashMap, HashSet};

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
    /// From where each instruction is branched to.
    branches: HashMap<usize, Vec<usize>>,
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
    (is_load(word) || is_sum(word) || is_copy(word) || is_page(word))
        && destination(word) == register
}

/// MOV of a register.
fn is_copy(word: u32) -> bool {
    word & 0xFFE0_FFE0 == 0xAA00_03E0
}

/// How often a page is copied from register to register before it is taken for unknown.
const COPIES: u32 = 4;

/// ADRP.
fn is_page(word: u32) -> bool {
    word & 0x9F00_0000 == 0x9000_0000
}

/// Bits of a word as a signed number.
fn signed(word: u32, from: u32, bits: u32) -> i64 {
    i64::from((word << (32 - from - bits)).cast_signed() >> (32 - bits))
}

/// How many instructions on a branch goes: B; B.cond, CBZ and CBNZ; TBZ and TBNZ.
fn branch(word: u32) -> Option<i64> {
    match word >> 24 {
        0x14..=0x17 => Some(signed(word, 0, 26)),
        0x54 | 0x34 | 0x35 | 0xB4 | 0xB5 => Some(signed(word, 5, 19)),
        0x36 | 0x37 | 0xB6 | 0xB7 => Some(signed(word, 5, 14)),
        _ => None,
    }
}

/// B, BR and RET: what follows is not reached from there.
fn ends(word: u32) -> bool {
    word >> 26 == 5 || is_jump(word) || word & 0xFFFF_FC1F == 0xD65F_0000
}

impl Arm64 {
    fn new(code: &[u8], address: u64) -> Self {
        let words = code.chunks_exact(4);
        let words = words.map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]));
        let words: Vec<u32> = words.collect();
        let mut branches = HashMap::<_, Vec<_>>::new();
        for (at, word) in words.iter().enumerate() {
            let to = branch(*word).and_then(|on| at.checked_add_signed(on.try_into().ok()?));
            branches
                .entry(to.unwrap_or(usize::MAX))
                .or_default()
                .push(at);
        }
        Self {
            words,
            address,
            branches,
        }
    }

    fn calls(&self, check: u64) -> Vec<(u64, By)> {
        let words = self.words.iter().enumerate();
        let calls = words
            .filter(|(at, word)| is_call(**word) || (is_jump(**word) && !self.is_jump_table(*at)));
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

    /// From where an instruction is reached. One that nothing leads to is taken for a place in the last jump table.
    fn before(&self, at: usize) -> Vec<usize> {
        let falls = at.checked_sub(1).filter(|i| !ends(self.words[*i]));
        let branches = self.branches.get(&at).into_iter().flatten().copied();
        let mut before: Vec<_> = falls.into_iter().chain(branches).collect();
        if before.is_empty() {
            before.extend((0..at).rev().find(|i| self.is_jump_table(*i)));
        }
        before
    }

    /// Where a register was set last, on each way to `at`.
    fn setters(&self, at: usize, register: u32) -> Vec<usize> {
        let (mut found, mut seen, mut ways) = (Vec::new(), HashSet::new(), vec![at]);
        while let Some(at) = ways.pop() {
            for before in self.before(at) {
                let new = seen.insert(before);
                if sets(self.words[before], register) {
                    found.extend(new.then_some(before));
                } else if new {
                    ways.push(before);
                }
            }
        }
        found
    }

    /// What all of them agree on.
    fn agreed<T: PartialEq>(
        &self,
        at: usize,
        register: u32,
        value: impl Fn(usize) -> Option<T>,
    ) -> Option<T> {
        let mut values = self.setters(at, register).into_iter().map(value);
        let first = values.next()??;
        values
            .all(|other| other.as_ref() == Some(&first))
            .then_some(first)
    }

    /// The slot that the register of a call was loaded from.
    fn slot(&self, at: usize) -> Option<u64> {
        self.agreed(at, source(self.words[at]), |load| {
            let word = self.words[load];
            let page = self.agreed(load, source(word), |i| self.page(i, COPIES));
            page.filter(|_| is_load(word))
                .map(|page| page + u64::from(word >> 10 & 0xFFF) * 8)
        })
    }

    /// What an ADRP sets a register to, perhaps copied from there.
    fn page(&self, at: usize, copies: u32) -> Option<u64> {
        let word = self.words[at];
        if is_copy(word) && copies > 0 {
            return self.agreed(at, word >> 16 & 31, |i| self.page(i, copies - 1));
        }
        let pages = signed(word, 5, 19) << 2 | i64::from(word >> 29 & 3);
        let here = (self.address + 4 * at as u64) & !0xFFF;
        is_page(word).then(|| here.wrapping_add_signed(pages * 4096))
    }

    /// The call before was the check, and this call's register had been moved to x15 for it.
    fn is_checked(&self, at: usize, check: u64) -> bool {
        let is_link = |word: u32| is_call(word) || word >> 26 == 0x25;
        let before = (0..at).rev().find(|i| is_link(self.words[*i]));
        before.is_some_and(|before| {
            let moved = self.agreed(before, 15, |i| {
                let word = self.words[i];
                (!is_load(word) && !is_sum(word)).then_some(word >> 16 & 31)
            });
            is_call(self.words[before])
                && self.slot(before) == Some(check)
                && moved == Some(source(self.words[at]))
        })
    }

    /// BR to a sum: the table's address, and what it holds.
    fn is_jump_table(&self, at: usize) -> bool {
        let sum = at.checked_sub(1).map(|i| self.words[i]);
        let register = source(self.words[at]);
        is_jump(self.words[at])
            && sum.is_some_and(|word| is_sum(word) && destination(word) == register)
    }
}
