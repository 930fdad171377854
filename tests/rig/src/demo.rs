//! The main job from end to end: two nodes, each with its own copy of the driver, and one logical unit that both want.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use scsi_reserve::NtStatus;

use crate::disk::logical_unit::LogicalUnit;
use crate::disk::persistent::Handling;
use crate::disk::{Data, Disk, DiskError, GOOD, Outcome, RESERVATION_CONFLICT, UNIT_ATTENTION};
use crate::fx::DiskKeys;
use crate::image;
use crate::io::Call;
use crate::node::{Node, NodeError, Stack};
use crate::port::{Answer, IOCTL_SCSI_GET_ADDRESS};
use crate::registry::Hive;
use crate::timeline::{Expectation, Send, Step};
use crate::world::{Schedule, World};

/// IOCTL_STORAGE_RESERVE (ntddstor.h).
pub const IOCTL_STORAGE_RESERVE: u32 = 0x002D_4810;
/// IOCTL_STORAGE_RELEASE (ntddstor.h).
pub const IOCTL_STORAGE_RELEASE: u32 = 0x002D_4814;

/// What goes wrong apart from a step that does not end as it should.
#[derive(Debug)]
pub enum DemoError {
    /// A node did not come up.
    Node(NodeError),
    /// The disk did not do what it was told.
    Disk(DiskError),
    /// Output could not be written.
    Output(std::io::Error),
}

impl std::fmt::Display for DemoError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node(error) => error.fmt(f),
            Self::Disk(error) => error.fmt(f),
            Self::Output(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DemoError {}

impl From<NodeError> for DemoError {
    fn from(error: NodeError) -> Self {
        Self::Node(error)
    }
}

impl From<DiskError> for DemoError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl From<std::io::Error> for DemoError {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

/// What a viewer is shown.
#[derive(Debug)]
pub enum Scene<'a> {
    /// A request to a node's driver.
    Step(&'a Step),
    /// What this node's initiator asked of the unit, not through the driver; nobody holds the unit by RESERVE then.
    Aside(char, &'a str),
}

struct Act {
    node: char,
    op: &'static str,
    ioctl: u32,
    scsi_status: Option<u8>,
    status: NtStatus,
    information: u64,
    rule: &'static str,
}

const fn reserve(node: char, scsi_status: u8, status: NtStatus, rule: &'static str) -> Act {
    Act {
        node,
        op: "reserve",
        ioctl: IOCTL_STORAGE_RESERVE,
        scsi_status: Some(scsi_status),
        status,
        information: 0,
        rule,
    }
}

const fn release(node: char, rule: &'static str) -> Act {
    Act {
        op: "release",
        ioctl: IOCTL_STORAGE_RELEASE,
        ..reserve(node, GOOD, NtStatus::SUCCESS, rule)
    }
}

const BEFORE_RESET: [Act; 7] = [
    reserve(
        'A',
        GOOD,
        NtStatus::SUCCESS,
        "SPC-2 7.22: nobody holds the unit, so A does now",
    ),
    reserve(
        'B',
        RESERVATION_CONFLICT,
        NtStatus::DEVICE_BUSY,
        "SPC-2 5.5.1: another initiator holds the unit",
    ),
    Act {
        op: "foreign",
        ioctl: IOCTL_SCSI_GET_ADDRESS,
        scsi_status: None,
        information: 8,
        ..reserve(
            'B',
            GOOD,
            NtStatus::SUCCESS,
            "not the filter's: the port below answers",
        )
    },
    reserve(
        'A',
        GOOD,
        NtStatus::SUCCESS,
        "SPC-2 7.22: the holder may reserve again",
    ),
    release(
        'B',
        "SPC-2 7.17: not the holder's, so GOOD and without effect",
    ),
    release('A', "SPC-2 7.17: the holder's, so the unit is free"),
    reserve(
        'B',
        GOOD,
        NtStatus::SUCCESS,
        "SPC-2 7.22: the unit is free, so B holds it now",
    ),
];
const AFTER_RESET: Act = reserve(
    'A',
    GOOD,
    NtStatus::SUCCESS,
    "SPC-2 5.5.1: a reset ends the reservation, so the unit is free",
);
const BEFORE_PERSISTENT: Act = release('A', "SPC-2 7.17: the holder's, so the unit is free");
/// Both are registered, and A has a reservation of registrants.
const BESIDE_PERSISTENT: [Act; 2] = [
    reserve(
        'B',
        GOOD,
        NtStatus::SUCCESS,
        "SPC-4 5.12.3: a registrant gets GOOD, which proves nothing",
    ),
    release(
        'B',
        "SPC-4 5.12.3: GOOD again, and the persistent reservation stays",
    ),
];

/// A unit in this process for the demo: it handles RESERVE beside persistent reservations as SPC-4 allows, and tells so by
/// its CRH bit.
#[must_use]
pub fn unit() -> LogicalUnit {
    let unit = LogicalUnit::new();
    unit.configure(|options| options.handling = Handling::Compatible);
    unit
}

/// Plays it: loads `file` on nodes A and B, whose disks are nexuses to one unit, and shows each scene as it ends.
///
/// # Errors
/// See [`DemoError`].
pub fn play(
    file: &Path,
    disks: [Arc<dyn Disk>; 2],
    mut show: impl FnMut(Scene<'_>) -> std::io::Result<()>,
) -> Result<(), DemoError> {
    let world = World::enter(Schedule::Orderly);
    let bytes = image::read(file).map_err(NodeError::Load)?;
    let [a, b] = disks.each_ref().map(Arc::clone);
    let mut nodes = Vec::new();
    for (name, disk) in ["A", "B"].into_iter().zip(disks) {
        let node = Node::load_bytes(world.world(), name, file, &bytes, Hive::default())?;
        let stack = node
            .plug(disk, &DiskKeys::default())
            .map_err(NodeError::Entry)?;
        nodes.push((node, stack));
    }
    for act in &BEFORE_RESET {
        show(Scene::Step(&perform(&nodes, act)))?;
    }
    a.reset_logical_unit()?;
    show(Scene::Aside('A', "LOGICAL UNIT RESET"))?;
    show(Scene::Step(&perform(&nodes, &AFTER_RESET)))?;

    show(Scene::Step(&perform(&nodes, &BEFORE_PERSISTENT)))?;
    persistent_out(&*a, REGISTER, 0, KEY_A)?;
    show(Scene::Aside('A', "PERSISTENT RESERVE: register"))?;
    persistent_out(&*a, RESERVE, KEY_A, 0)?;
    show(Scene::Aside('A', "PERSISTENT RESERVE: for registrants"))?;
    persistent_out(&*b, REGISTER, 0, KEY_B)?;
    show(Scene::Aside('B', "PERSISTENT RESERVE: register"))?;
    for act in &BESIDE_PERSISTENT {
        show(Scene::Step(&perform(&nodes, act)))?;
        show(Scene::Aside('B', read_reservation(&*b)?))?;
    }
    for (node, stack) in nodes {
        node.unplug(stack);
        node.unload();
    }
    Ok(())
}

// PERSISTENT RESERVE OUT (SPC-4 6.16): service actions, the type Write Exclusive - Registrants Only, and two keys.
const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const REGISTRANTS_ONLY: u8 = 5;
const KEY_A: u64 = 0xA;
const KEY_B: u64 = 0xB;

const TIMEOUT: Duration = Duration::from_secs(10);

fn persistent_out(disk: &dyn Disk, action: u8, key: u64, new_key: u64) -> Result<(), DiskError> {
    let kind = if action == RESERVE {
        REGISTRANTS_ONLY
    } else {
        0
    };
    let cdb = [0x5F, action, kind, 0, 0, 0, 0, 0, 24, 0];
    let list = [&key.to_be_bytes()[..], &new_key.to_be_bytes(), &[0; 8]].concat();
    good(disk, &cdb, Data::Out(&list)).map(drop)
}

/// PERSISTENT RESERVE IN, READ RESERVATION, in words: what whoever relies on a RESERVE's GOOD has to ask.
fn read_reservation(disk: &dyn Disk) -> Result<&'static str, DiskError> {
    let data = good(disk, &[0x5E, 1, 0, 0, 0, 0, 0, 0, 24, 0], Data::In(24))?;
    let length = data
        .get(4..8)
        .map_or(0, |length| length.iter().map(|&byte| u32::from(byte)).sum());
    let key = data.get(8..16);
    Ok(match length {
        0 => "READ RESERVATION: none",
        _ if key == Some(&KEY_A.to_be_bytes()[..]) => "READ RESERVATION: A's",
        _ => "READ RESERVATION: another's",
    })
}

/// Data-in of a command that has to succeed, after unit attentions or not.
fn good(disk: &dyn Disk, cdb: &[u8], data: Data<'_>) -> Result<Vec<u8>, DiskError> {
    loop {
        let outcome = disk.transfer(cdb, data, TIMEOUT);
        let attention = outcome
            .sense()
            .is_some_and(|sense| sense.key == UNIT_ATTENTION);
        match outcome {
            Outcome::Status {
                status: GOOD, data, ..
            } => return Ok(data),
            _ if attention => {}
            other => return Err(DiskError::Failed(format!("{:02x}h: {other:?}", cdb[0]))),
        }
    }
}

fn perform(nodes: &[(Node, Stack)], act: &Act) -> Step {
    let (node, stack) = &nodes[usize::from(act.node == 'B')];
    let call = Call {
        output_length: u32::try_from(act.information).unwrap_or(0),
        ..Call::ioctl(act.ioctl)
    };
    let started = Instant::now();
    let end = node.call(stack, &call);
    let elapsed = started.elapsed();
    let sends = stack
        .port
        .take_seen()
        .into_iter()
        .filter_map(|seen| match seen.answer {
            Answer::Target(outcome) => Some(Send {
                cdb: seen.cdb,
                outcome,
            }),
            Answer::Raw { .. } | Answer::Srb { .. } => None,
        });
    Step {
        node: act.node,
        op: act.op.into(),
        ioctl: act.ioctl,
        sends: sends.collect(),
        ntstatus: end.status,
        information: end.information,
        elapsed,
        expected: Expectation {
            scsi_status: act.scsi_status,
            ntstatus: act.status.0,
            information: act.information,
            rule: act.rule.into(),
        },
    }
}
