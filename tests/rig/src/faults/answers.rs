//! What a target or a port can answer: each answer is given to every command of one RESERVE or RELEASE, on one disk that
//! serves all cases. Virtual time makes the delays free.

use std::sync::Arc;

use super::Walk;
use super::oracle::{self, Answered, Expected, Known};
use crate::abi::Status;
use crate::disk::Outcome;
use crate::disk::logical_unit::LogicalUnit;
use crate::fx::DiskKeys;
use crate::io::Call;
use crate::node::{Node, Stack};
use crate::port::{Answer, Shape, Timing};
use crate::registry::Hive;
use crate::world::{Entered, Schedule, World};

/// Control code, and the operation codes of its two commands.
type Request = (u32, u8, u8);

const RESERVE: Request = (0x002D_4810, 0x16, 0x56);
const RELEASE: Request = (0x002D_4814, 0x17, 0x57);
/// `sizeof(SCSI_PASS_THROUGH)`, and the sense bytes that the driver has room for.
const STRUCTURE: usize = 56;
const SENSE_ROOM: usize = 32;

/// Additional sense codes and qualifiers: those that the table of statuses names, and their neighbours.
#[rustfmt::skip]
const CODES: [(u8, u8); 34] = [
    (0x04, 0x00), (0x04, 0x01), (0x04, 0x02), (0x04, 0x03), (0x04, 0x04), (0x04, 0x05), (0x04, 0x06), (0x04, 0x07),
    (0x04, 0x08), (0x04, 0x09), (0x04, 0x0A), (0x04, 0x0B), (0x04, 0xFF),
    (0x20, 0x00), (0x24, 0x00), (0x25, 0x00), (0x25, 0x01), (0x3A, 0x00), (0x3A, 0x01), (0x29, 0x00), (0x2A, 0x09),
    (0x00, 0x00), (0x03, 0x01), (0x05, 0x01), (0x1F, 0x00), (0x21, 0x00), (0x23, 0x00), (0x26, 0x00), (0x27, 0x00),
    (0x39, 0x00), (0x3B, 0x00), (0x3E, 0x00), (0x44, 0x00), (0xFF, 0xFF),
];

struct Bench {
    node: Node,
    stack: Stack,
    // Last: the others live in it.
    world: Entered,
}

impl Bench {
    fn new(walk: &Walk<'_>) -> Result<Self, String> {
        let world = World::enter(Schedule::Orderly);
        let file = &walk.options.image;
        let node = Node::load_bytes(world.world(), "A", file, walk.bytes, Hive::default())
            .map_err(|error| error.to_string())?;
        let disk = Arc::new(LogicalUnit::new().connect("iqn.2026-01.example:a"));
        let stack = node
            .plug(disk, &DiskKeys::default())
            .map_err(|status| format!("the disk does not start: {status:#010x}"))?;
        Ok(Self { node, stack, world })
    }

    /// Whether a request ends as it should if all its commands are answered with this.
    fn holds(
        &self,
        (code, six, ten): Request,
        (shape, answer, expected): (Shape, Answer, Expected),
    ) -> Result<(), String> {
        let port = &self.stack.port;
        port.behave(shape, Timing::Inline);
        port.repeat(Some(answer));
        let before = self.world.world().now();
        let end = self.node.call(&self.stack, &Call::ioctl(code));
        // A timer without a delay takes 100 ns.
        let milliseconds = (self.world.world().now() - before) / 10_000;
        let seen = port.take_seen();
        let first = |index: usize| seen.get(index).and_then(|seen| seen.cdb.first()).copied();
        let got = Expected {
            status: end.status,
            sends: seen.len(),
            milliseconds,
            ten_byte: first(seen.len().saturating_sub(1)) == Some(ten),
        };
        if first(0) == Some(six) && end.information == 0 && got == expected {
            return Ok(());
        }
        let said = seen
            .first()
            .map_or_else(String::new, |seen| words(&seen.answer));
        Err(format!(
            "{code:#x}, {said}, shape {shape:?}: expected {expected:x?}, got {got:x?}"
        ))
    }

    fn end(self) {
        self.node.unplug(self.stack);
        self.node.unload();
    }
}

/// An answer in a line.
fn words(answer: &Answer) -> String {
    match answer {
        Answer::Target(Outcome::Status { status, sense, .. }) => {
            let (length, codes) = (sense.len(), &sense[..sense.len().min(18)]);
            format!("status {status:02x}, {length} bytes of sense {codes:02x?}")
        }
        other => format!("{other:x?}"),
    }
}

/// Runs `total` cases for each of these requests in turn, a quick walk one in `one_in`; `case` makes a case from its number.
fn run(
    walk: &mut Walk<'_>,
    requests: &[Request],
    total: u64,
    one_in: u64,
    mut case: impl FnMut(u64) -> (Shape, Answer, Expected),
) {
    let bench = match Bench::new(walk) {
        Ok(bench) => bench,
        Err(why) => return walk.judge(0, Err(why)),
    };
    let total = total * requests.len() as u64;
    walk.begin(total);
    for number in 0..total {
        walk.step();
        if !walk.takes(number, one_in) {
            continue;
        }
        walk.note(bench.world.world(), number);
        let mut digits = Digits(number);
        let request = digits.of(requests);
        walk.judge(number, bench.holds(request, case(digits.0)));
    }
    bench.end();
}

/// A number taken apart, the digit that changes fastest first.
struct Digits(u64);

impl Digits {
    fn take(&mut self, base: usize) -> usize {
        let digit = self.0 % base as u64;
        self.0 /= base as u64;
        digit as usize
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.take(choices.len())]
    }
}

/// Sense data that a target gives.
#[derive(Clone, Copy, Debug)]
struct Said {
    descriptor: bool,
    known: Known,
    length: usize,
}

impl Said {
    /// SPC-3 4.5.2 and 4.5.3. At odd lengths all bits are set that say nothing here.
    fn bytes(&self) -> Vec<u8> {
        let noise = self.length % 2 == 1;
        let Known {
            deferred,
            key,
            asc,
            ascq,
        } = self.known;
        let deferred = u8::from(deferred);
        let mut bytes = vec![if noise { 0xFF } else { 0x00 }; self.length.max(18)];
        let more = self.length.max(18) as u8 - 8;
        if self.descriptor {
            bytes[..4].copy_from_slice(&[0x72 | deferred, key, asc, ascq]);
            if noise {
                bytes[1] |= 0xF0;
            }
        } else {
            (bytes[0], bytes[2], bytes[12], bytes[13]) = (0x70 | deferred, key, asc, ascq);
            if noise {
                // VALID; FILEMARK, EOM, ILI and SDAT_OVFL.
                bytes[0] |= 0x80;
                bytes[2] |= 0xF0;
            }
        }
        // What the port cuts off counts in ADDITIONAL SENSE LENGTH.
        bytes[7] = more;
        bytes.truncate(self.length);
        bytes
    }

    /// What so many bytes of it tell.
    fn told(&self) -> Option<Known> {
        let (key, asc, ascq) = if self.descriptor {
            (1, 2, 3)
        } else {
            (2, 12, 13)
        };
        let came = |at: usize| self.length > at;
        came(key).then(|| Known {
            asc: if came(asc) { self.known.asc } else { 0 },
            ascq: if came(ascq) { self.known.ascq } else { 0 },
            ..self.known
        })
    }
}

/// The target's answer as a case: what it says, and how its port puts that.
fn target(shape: Shape, scsi_status: u8, said: Said) -> (Shape, Answer, Expected) {
    let information = STRUCTURE + said.length.min(SENSE_ROOM);
    // The port's error NTSTATUS beside a ScsiStatus that is not GOOD; which one makes no difference but beside FFh.
    let status = match (shape, scsi_status) {
        (Shape::Error, 1..) => crate::abi::status::IO_DEVICE_ERROR,
        _ => crate::abi::status::SUCCESS,
    };
    let answered = Answered {
        status,
        information,
        scsi_status,
        sense: said.told(),
    };
    let outcome = Outcome::Status {
        status: scsi_status,
        sense: said.bytes(),
        data: Vec::new(),
    };
    (shape, Answer::Target(outcome), oracle::expected(&answered))
}

const SHAPES: [Shape; 2] = [Shape::Success, Shape::Error];
const BOTH: [bool; 2] = [false, true];

/// Every status byte: only CHECK CONDITION looks at the sense.
pub(super) fn statuses(walk: &mut Walk<'_>) {
    const LENGTHS: [usize; 3] = [0, 18, 252];
    let total = 256 * 16 * 2 * 2 * 2 * LENGTHS.len() as u64;
    run(walk, &[RESERVE, RELEASE], total, 47, |number| {
        let mut digits = Digits(number);
        let shape = digits.of(&SHAPES);
        let said = Said {
            length: digits.of(&LENGTHS),
            descriptor: digits.of(&BOTH),
            known: Known {
                deferred: digits.of(&BOTH),
                key: digits.take(16) as u8,
                asc: 0x20,
                ascq: 0x00,
            },
        };
        target(shape, digits.take(256) as u8, said)
    });
}

/// CHECK CONDITION with sense data of every key, code, format and length.
pub(super) fn sense(walk: &mut Walk<'_>) {
    let total = 253 * 2 * 2 * 2 * 16 * CODES.len() as u64;
    run(walk, &[RESERVE], total, 61, |number| {
        let mut digits = Digits(number);
        let length = digits.take(253);
        let shape = digits.of(&SHAPES);
        let descriptor = digits.of(&BOTH);
        let deferred = digits.of(&BOTH);
        let key = digits.take(16) as u8;
        let (asc, ascq) = digits.of(&CODES);
        let known = Known {
            deferred,
            key,
            asc,
            ascq,
        };
        let said = Said {
            descriptor,
            known,
            length,
        };
        target(shape, 0x02, said)
    });
}

/// NTSTATUS values: those of the table, then whole ranges of each severity.
fn nt_statuses() -> Vec<Status> {
    const PENDING: u32 = 0x103; // no completion
    let named = oracle::NT_STATUSES.iter().map(|&(status, ..)| status);
    let ranges = [
        0x0000_0000..0x0000_0120_u32,
        0x4000_0000..0x4000_0040,
        0x8000_0001..0x8000_0040,
        0xC000_0001..0xC000_0500,
        0xE000_0000..0xE000_0004,
        0xFFFF_FFFE..0xFFFF_FFFF,
    ];
    let broad = ranges
        .into_iter()
        .flatten()
        .filter(|&status| status != PENDING)
        .map(u32::cast_signed);
    named.chain(broad).collect()
}

/// Every NTSTATUS with every amount of proof.
pub(super) fn ntstatus(walk: &mut Walk<'_>) {
    const SCSI_STATUSES: [Option<u8>; 4] = [Some(0x00), Some(0xFF), None, Some(0x18)];
    const INFORMATION: [usize; 4] = [0, STRUCTURE - 1, STRUCTURE, STRUCTURE + SENSE_ROOM];
    let statuses = nt_statuses();
    let total = (SCSI_STATUSES.len() * INFORMATION.len() * statuses.len()) as u64;
    run(walk, &[RESERVE, RELEASE], total, 9, |number| {
        let mut digits = Digits(number);
        let information = digits.of(&INFORMATION);
        let scsi_status = digits.of(&SCSI_STATUSES);
        let status = digits.of(&statuses);
        let answered = Answered {
            status,
            information,
            scsi_status: scsi_status.unwrap_or(0xFF),
            sense: None,
        };
        let answer = Answer::Raw {
            status,
            information,
            scsi_status,
            sense: Vec::new(),
        };
        (Shape::Success, answer, oracle::expected(&answered))
    });
}
