//! A disk that checks are made on, and the filter's state as it is now, whatever its version.

use scsi_reserve::ReservationState;
use scsi_reserve::state::VERSION_1;

use super::evidence::{Untold, untold};
use crate::disk::Disk;
use crate::list::{Place, place};
use crate::machine::{Access, Answer, Device, Machine, Node, Win32};
use crate::reservation;
pub use crate::reservation::{HELD_BY_ANOTHER, HELD_BY_US, NEWEST, UNKNOWN, query_state as query};

/// A disk.
pub struct Subject<'a> {
    pub machine: &'a dyn Machine,
    pub disk: Disk,
    pub node: Node,
    /// Its drivers, from the top down.
    stack: Answer<Vec<String>>,
}

impl<'a> Subject<'a> {
    pub fn new(machine: &'a dyn Machine, disk: Disk, node: Node) -> Self {
        let stack = machine.stack(&node.instance);
        Self {
            machine,
            disk,
            node,
            stack,
        }
    }

    /// The drivers of its stack, from the top down, by their names alone.
    pub fn stack(&self) -> Result<Vec<&str>, Untold> {
        let stack = self.stack.as_ref().map_err(|error| *error);
        let stack = stack.map_err(Untold::of("the drivers of its stack"))?;
        if stack.is_empty() {
            return untold("Windows does not say which drivers its stack has");
        }
        Ok(stack.iter().map(|driver| base(driver)).collect())
    }

    /// Where the filter is.
    pub fn place(&self) -> Result<Place, Untold> {
        self.stack()?;
        Ok(place(self.stack.as_deref().unwrap_or_default()))
    }

    /// True if the filter is above disk.sys, false if it is below.
    pub fn is_above(&self) -> Result<bool, Untold> {
        match self.place()? {
            Place::Above => Ok(true),
            Place::Below => Ok(false),
            Place::None | Place::Untold => untold("the filter is not in its stack"),
        }
    }

    /// Opens it.
    pub fn open(&self, access: Access) -> Result<Box<dyn Device + 'a>, Untold> {
        let opened = self.machine.open(&self.disk.path(), access);
        opened.map_err(Untold::of("opening the disk"))
    }
}

/// `disk` of `\Driver\disk`.
fn base(driver: &str) -> &str {
    driver.rsplit('\\').next().unwrap_or_default()
}

/// The filter's state.
pub struct State(pub ReservationState);

impl State {
    /// Asks for it.
    pub fn of(device: &dyn Device) -> Result<Self, Untold> {
        let bytes = query(device, NEWEST).map_err(Untold::of("the state query"))?;
        Self::read(&bytes).map_or_else(|| untold("the filter's answer has another form"), Ok)
    }

    /// Reads an answer; none if it has no form that this program knows.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let state = ReservationState::from_answer(bytes)?;
        (state.size as usize == bytes.len()).then_some(Self(state))
    }

    /// What is known, as a word.
    pub const fn knowledge(&self) -> &'static str {
        reservation::knowledge(&self.0)
    }

    /// How many requests the filter has begun to serve since an earlier state.
    pub const fn served_since(&self, before: &Self) -> u64 {
        self.0.requests.wrapping_sub(before.0.requests)
    }

    /// Itself, if it has what version 2 has.
    pub fn second(&self) -> Result<&ReservationState, Untold> {
        if self.0.version > VERSION_1 {
            return Ok(&self.0);
        }
        untold("the filter answers version 1 of the state query")
    }
}

/// A SCSI command of this process's own, without data: the target's status and its sense data.
pub fn pass_through(device: &dyn Device, cdb: &[u8]) -> Answer<Passed> {
    // SCSI_PASS_THROUGH (ntddscsi.h) of a 64-bit process, and the sense data behind it.
    const LENGTH: u8 = 56;
    const SENSE: u8 = 32;
    const UNSPECIFIED: u8 = 2; // SCSI_IOCTL_DATA_UNSPECIFIED
    const SECONDS: u8 = 10;
    const IOCTL_SCSI_PASS_THROUGH: u32 = 0x0004_D004;
    let mut input = [0; LENGTH as usize + SENSE as usize];
    input[0] = LENGTH;
    input[6] = u8::try_from(cdb.len()).map_err(|_| Win32::INVALID_DATA)?;
    (input[7], input[8], input[16]) = (SENSE, UNSPECIFIED, SECONDS);
    // DataBufferOffset, behind the sense data; SenseInfoOffset; Cdb.
    (input[24], input[32]) = (LENGTH + SENSE, LENGTH);
    input[36..36 + cdb.len()].copy_from_slice(cdb);
    let mut output = input;
    let length = device.control(IOCTL_SCSI_PASS_THROUGH, &input, &mut output)?;
    let whole = output[..length.min(output.len())].to_vec();
    let (Some(&status), Some(&sense)) = (whole.get(2), whole.get(7)) else {
        return Err(Win32::INVALID_DATA);
    };
    let sense = whole.get(LENGTH.into()..).unwrap_or_default()[..]
        .iter()
        .copied()
        .take(sense.into());
    Ok(Passed {
        status,
        sense: sense.collect(),
    })
}

/// How it ended.
pub struct Passed {
    pub status: u8,
    pub sense: Vec<u8>,
}

impl Passed {
    /// The sense data's key, where there is one.
    pub fn sense_key(&self) -> Option<u8> {
        scsi_reserve::sense::parse(&self.sense).map(|sense| sense.key)
    }
}
