//! One disk with the driver on it, of which a RESERVE is asked whose commands are all answered alike: what the caller
//! gets is the driver's doing, and nothing is looked up.

use std::path::Path;
use std::sync::Arc;

use crate::abi::{Status, status};
use crate::disk::Outcome;
use crate::disk::logical_unit::LogicalUnit;
use crate::faults::oracle::{self, Answered, Expected, Known};
use crate::fx::{DiskKeys, Pnp};
use crate::io::Call;
use crate::node::{Node, NodeError, Stack};
use crate::port::{Answer, Cancel, Shape, Timing};
use crate::registry::Hive;
use crate::world::{self, Entered, Schedule, World};

/// IOCTL_STORAGE_RESERVE (ntddstor.h).
pub const RESERVE: u32 = 0x002D_4810;
/// IOCTL_STORAGE_RELEASE (ntddstor.h).
pub const RELEASE: u32 = 0x002D_4814;
/// `sizeof(SCSI_PASS_THROUGH)`.
pub const STRUCTURE: usize = 56;

/// An answer to give, and what the driver made of it.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// The answer as it reached the driver.
    pub answered: Answered,
    /// How the operation ended.
    pub got: Expected,
    /// Information that its caller got.
    pub information: u64,
}

impl Reply {
    /// Whether it is what the table of statuses says.
    pub fn is_as_written(&self) -> bool {
        self.got == oracle::expected(&self.answered) && self.information == 0
    }
}

/// The two formats of sense data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 70h, 71h.
    Fixed,
    /// 72h, 73h.
    Descriptor,
}

/// The forms that one answer of a target comes in: two of ports, two of sense data.
pub const FORMS: [(Shape, Format); 4] = [
    (Shape::Success, Format::Fixed),
    (Shape::Success, Format::Descriptor),
    (Shape::Error, Format::Fixed),
    (Shape::Error, Format::Descriptor),
];

/// How a caller's request is brought to its end from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Its caller cancels it.
    Cancel,
    /// IRP_MN_SURPRISE_REMOVAL.
    Surprise,
    /// Nobody does anything: the send's own timeout.
    Nothing,
}

/// The driver on a disk.
pub struct Probe {
    node: Node,
    stack: Stack,
    // Last: the others live in it.
    world: Entered,
}

impl Probe {
    /// Loads the image.
    ///
    /// # Errors
    /// It can't be loaded, or its disk does not start.
    pub fn new(image: &Path) -> Result<Self, NodeError> {
        let world = World::enter(Schedule::Orderly);
        let node = Node::load(world.world(), "A", image, Hive::default())?;
        let disk = Arc::new(LogicalUnit::new().connect("iqn.2026-01.example:a"));
        let stack = node
            .plug(disk, &DiskKeys::default())
            .map_err(NodeError::Entry)?;
        Ok(Self { node, stack, world })
    }

    /// What a RESERVE comes to if a target says this, through a port of this shape. No sense: 0 bytes of it.
    pub fn target(
        &self,
        (shape, format): (Shape, Format),
        scsi_status: u8,
        sense: Option<Known>,
    ) -> Reply {
        let bytes = sense.map_or_else(Vec::new, |known| encode(known, format));
        let answered = Answered {
            // Which error NTSTATUS a port puts beside a ScsiStatus makes no difference, but beside FFh.
            status: match (shape, scsi_status) {
                (Shape::Error, 1..) => status::IO_DEVICE_ERROR,
                _ => status::SUCCESS,
            },
            information: STRUCTURE + bytes.len(),
            scsi_status,
            sense,
        };
        let outcome = Outcome::Status {
            status: scsi_status,
            sense: bytes,
            data: Vec::new(),
        };
        self.ask(shape, Answer::Target(outcome), answered)
    }

    /// What a RESERVE comes to if the pass-through comes back like this; without a `scsi_status` the port writes none.
    pub fn port(&self, status: Status, information: usize, scsi_status: Option<u8>) -> Reply {
        let answer = Answer::Raw {
            status,
            information,
            scsi_status,
            sense: Vec::new(),
        };
        let answered = Answered {
            status,
            information,
            scsi_status: scsi_status.unwrap_or(0xFF),
            sense: None,
        };
        self.ask(Shape::Success, answer, answered)
    }

    fn ask(&self, shape: Shape, answer: Answer, answered: Answered) -> Reply {
        let port = &self.stack.port;
        port.behave(shape, Timing::Inline);
        port.repeat(Some(answer));
        let before = self.world.world().now();
        let end = self.node.call(&self.stack, &Call::ioctl(RESERVE));
        let seen = port.take_seen();
        let last = seen.last().and_then(|seen| seen.cdb.first());
        Reply {
            answered,
            got: Expected {
                status: end.status,
                sends: seen.len(),
                // A timer without a delay takes 100 ns.
                milliseconds: (self.world.world().now() - before) / 10_000,
                ten_byte: last == Some(&0x56),
            },
            information: end.information,
        }
    }

    /// What a RESERVE comes to that the target leaves unanswered until it is stopped: its end, and Information. The disk
    /// may be gone after it.
    pub fn stopped(self, stop: Stop) -> (Expected, u64) {
        let port = &self.stack.port;
        port.behave(Shape::Success, Timing::Never);
        port.on_cancel(Cancel::Honoured);
        let before = self.world.world().now();
        let pending = self.node.start(&self.stack, &Call::ioctl(RESERVE));
        world::current().settle();
        match stop {
            Stop::Cancel => drop(pending.cancel()),
            Stop::Surprise => drop(self.node.pnp(&self.stack, Pnp::SurpriseRemoval)),
            Stop::Nothing => {}
        }
        let end = pending.wait();
        let got = Expected {
            status: end.status,
            sends: port.wanted() as usize,
            milliseconds: (self.world.world().now() - before) / 10_000,
            ten_byte: false,
        };
        self.end();
        (got, end.information)
    }

    /// Unplugs the disk and unloads the driver, which looks for leaks.
    pub fn end(self) {
        self.node.unplug(self.stack);
        self.node.unload();
    }
}

/// SPC-3 4.5.2 and 4.5.3.
fn encode(known: Known, format: Format) -> Vec<u8> {
    let deferred = u8::from(known.deferred);
    match format {
        Format::Fixed => {
            let mut bytes = vec![0; 18];
            (bytes[0], bytes[2], bytes[7]) = (0x70 | deferred, known.key, 10);
            (bytes[12], bytes[13]) = (known.asc, known.ascq);
            bytes
        }
        Format::Descriptor => vec![
            0x72 | deferred,
            known.key,
            known.asc,
            known.ascq,
            0,
            0,
            0,
            0,
        ],
    }
}
