//! A logical unit in this process, with SPC-2 and [persistent](super::persistent) reservations, shared by any number of I_T
//! nexuses.
//!
//! It is strict where SPC-2 leaves a choice, so that a driver's mistake shows. Which of several
//! conditions a command reports follows SAM-3 (Status precedence): unit attentions of the 29h
//! family, RESERVATION CONFLICT, everything else. That an unsupported operation code comes before
//! the conflict is what tgt and Linux (`drivers/target`) do.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    CHECK_CONDITION, Data, Disk, DiskError, ILLEGAL_REQUEST, NO_SENSE, Outcome,
    RESERVATION_CONFLICT, Sense, SenseFormat, TaskManagement, UNIT_ATTENTION,
    persistent::{self, Access, Handling, Persistent, Told},
};

const BLOCK: u32 = 512;
const BLOCKS: u32 = 128;

const INVALID_OPERATION_CODE: Sense = Sense::new(ILLEGAL_REQUEST, 0x20, 0x00);
const OUT_OF_RANGE: Sense = Sense::new(ILLEGAL_REQUEST, 0x21, 0x00);
const INVALID_FIELD_IN_CDB: Sense = Sense::new(ILLEGAL_REQUEST, 0x24, 0x00);

// What each event is reported as: SAM-3 6.2.
const POWER_ON: Sense = Sense::new(UNIT_ATTENTION, 0x29, 0x00);
const TARGET_RESET: Sense = Sense::new(UNIT_ATTENTION, 0x29, 0x02);
const LOGICAL_UNIT_RESET: Sense = Sense::new(UNIT_ATTENTION, 0x29, 0x03);
const NEXUS_LOSS: Sense = Sense::new(UNIT_ATTENTION, 0x29, 0x07);

/// What the unit is like; see [`LogicalUnit::configure`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Which RESERVE and RELEASE commands the unit knows.
    pub forms: Forms,
    /// The layout of its sense data.
    pub sense: SenseFormat,
    /// New nexuses find no unit attention 29h/00h or 29h/07h.
    pub quiet: bool,
    /// What RESERVE and RELEASE meet while somebody is registered for persistent reservations.
    pub handling: Handling,
    /// RESERVE and RELEASE get GOOD, and nothing is reserved: as on QEMU's scsi-disk and
    /// usb-storage.
    pub empty: bool,
}

/// Which RESERVE and RELEASE commands a unit knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forms {
    /// The 6-byte and the 10-byte ones.
    #[default]
    Both,
    /// 16h and 17h.
    Six,
    /// 56h and 57h.
    Ten,
}

/// A logical unit; clones are the same unit.
#[derive(Clone, Default)]
pub struct LogicalUnit(Arc<Mutex<State>>);

impl LogicalUnit {
    /// A unit of 64 KiB without reservation or nexus.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes what the unit is like, from the next command on.
    pub fn configure(&self, change: impl FnOnce(&mut Options)) {
        change(&mut self.lock().options);
    }

    /// A new I_T nexus. An initiator that had one before finds 29h/07h on it, another one 29h/00h.
    #[must_use]
    pub fn connect(&self, initiator: &str) -> Nexus {
        let id = self.lock().connect(initiator);
        Nexus {
            unit: self.clone(),
            id,
        }
    }

    /// Establishes a unit attention for every nexus, as for an event of the unit's own (2Ah/09h:
    /// capacity changed).
    pub fn attention(&self, asc: u8, ascq: u8) {
        self.lock().attention(Sense::new(UNIT_ATTENTION, asc, ascq));
    }

    /// The initiator that holds the reservation.
    #[must_use]
    pub fn holder(&self) -> Option<String> {
        let state = self.lock();
        let nexus = state.nexuses.get(&state.holder?)?;
        Some(nexus.initiator.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked elsewhere leaves nothing half done here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One initiator's path to the unit.
pub struct Nexus {
    unit: LogicalUnit,
    id: u64,
}

impl Disk for Nexus {
    fn transfer(&self, cdb: &[u8], data: Data<'_>, _timeout: Duration) -> Outcome {
        let mut state = self.unit.lock();
        if !state.nexuses.contains_key(&self.id) {
            return Outcome::Gone;
        }
        match state.perform(self.id, cdb, data) {
            Ok(data) => Outcome::good(data),
            Err(Refusal::Conflict) => Outcome::Status {
                status: RESERVATION_CONFLICT,
                sense: Vec::new(),
                data: Vec::new(),
            },
            Err(Refusal::Check(sense)) => Outcome::Status {
                status: CHECK_CONDITION,
                sense: sense.encode(state.options.sense),
                data: Vec::new(),
            },
        }
    }

    fn manage(&self, function: TaskManagement) -> Result<(), DiskError> {
        let mut state = self.unit.lock();
        if !state.nexuses.contains_key(&self.id) {
            return Err(DiskError::Gone);
        }
        state.holder = None;
        match function {
            TaskManagement::LogicalUnitReset => state.attention(LOGICAL_UNIT_RESET),
            TaskManagement::TargetWarmReset => state.attention(TARGET_RESET),
            TaskManagement::TargetColdReset => {
                state.nexuses.clear();
                state.persistent = Persistent::default();
            }
        }
        Ok(())
    }

    fn lose(&self) {
        self.unit.lock().disconnect(self.id);
    }
}

impl Drop for Nexus {
    fn drop(&mut self) {
        // To the unit a logout is an I_T nexus loss, too: SAM-3 6.3.4, RFC 7143 6.3.5.1.
        self.lose();
    }
}

enum Refusal {
    Conflict,
    Check(Sense),
}

impl From<persistent::Refusal> for Refusal {
    fn from(refusal: persistent::Refusal) -> Self {
        match refusal {
            persistent::Refusal::Conflict => Self::Conflict,
            persistent::Refusal::Check(sense) => Self::Check(sense),
        }
    }
}

impl From<Sense> for Refusal {
    fn from(sense: Sense) -> Self {
        Self::Check(sense)
    }
}

struct State {
    options: Options,
    nexuses: BTreeMap<u64, NexusState>,
    next_nexus: u64,
    holder: Option<u64>,
    persistent: Persistent,
    /// Initiators whose nexus ended and which have not come back.
    departed: Vec<String>,
    medium: Vec<u8>,
}

struct NexusState {
    initiator: String,
    attentions: Vec<Sense>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            options: Options::default(),
            nexuses: BTreeMap::new(),
            next_nexus: 0,
            holder: None,
            persistent: Persistent::default(),
            departed: Vec::new(),
            medium: vec![0; (BLOCK * BLOCKS) as usize],
        }
    }
}

impl State {
    fn connect(&mut self, initiator: &str) -> u64 {
        let known = self
            .departed
            .iter()
            .position(|departed| departed == initiator);
        let event = match known.map(|index| self.departed.remove(index)) {
            Some(_) => NEXUS_LOSS,
            None => POWER_ON,
        };
        let attentions = if self.options.quiet {
            Vec::new()
        } else {
            vec![event]
        };
        self.next_nexus += 1;
        self.nexuses.insert(
            self.next_nexus,
            NexusState {
                initiator: initiator.to_owned(),
                attentions,
            },
        );
        self.next_nexus
    }

    fn disconnect(&mut self, nexus: u64) {
        if let Some(ended) = self.nexuses.remove(&nexus) {
            self.departed.push(ended.initiator);
        }
        if self.holder == Some(nexus) {
            self.holder = None;
        }
    }

    /// Queues a unit attention for every nexus.
    fn attention(&mut self, event: Sense) {
        self.attention_for(event, |_| true);
    }

    /// Queues a unit attention for the nexuses of some initiators, once, in the order of SAM-4 5.14:
    /// the 29h family by its qualifier (of those that occur here), then the others as they came.
    fn attention_for(&mut self, event: Sense, whose: impl Fn(&str) -> bool) {
        let rank = |sense: &Sense| {
            if sense.asc == 0x29 {
                sense.ascq
            } else {
                u8::MAX
            }
        };
        for nexus in self.nexuses.values_mut() {
            if whose(&nexus.initiator) && !nexus.attentions.contains(&event) {
                nexus.attentions.push(event);
                nexus.attentions.sort_by_key(rank);
            }
        }
    }

    /// Takes the nexus's first unit attention if it is one that `which` accepts.
    fn take_attention(&mut self, nexus: u64, which: impl Fn(&Sense) -> bool) -> Option<Sense> {
        let attentions = &mut self.nexuses.get_mut(&nexus)?.attentions;
        attentions.first().filter(|first| which(first))?;
        Some(attentions.remove(0))
    }

    fn perform(&mut self, nexus: u64, cdb: &[u8], data: Data<'_>) -> Result<Vec<u8>, Refusal> {
        let command = Command::of(cdb, self.options.forms);
        let reports_attentions = !command.is_some_and(Command::passes_attentions);
        if let Some(reset) =
            self.take_attention(nexus, |first| reports_attentions && first.asc == 0x29)
        {
            return Err(reset.into());
        }
        let command = command.ok_or(INVALID_OPERATION_CODE)?;
        if self.conflicts(nexus, command) {
            return Err(Refusal::Conflict);
        }
        if let Some(other) = self.take_attention(nexus, |_| reports_attentions) {
            return Err(other.into());
        }
        check_fields(cdb, command)?;

        let mut answer = match command {
            Command::TestUnitReady => Vec::new(),
            Command::RequestSense => self.request_sense(nexus, cdb),
            Command::Inquiry => inquiry(cdb)?,
            // One unit, LUN 0: a list of 8 bytes after a header of 8.
            Command::ReportLuns => [&[0, 0, 0, 8][..], &[0; 12]].concat(),
            Command::ReadCapacity => [(BLOCKS - 1).to_be_bytes(), BLOCK.to_be_bytes()].concat(),
            Command::ModeSense => mode_sense(cdb)?,
            Command::PersistentIn => {
                let mut answer = self.persistent.read(cdb, self.options.handling)?;
                answer.truncate(u16::from_be_bytes([cdb[7], cdb[8]]).into());
                answer
            }
            Command::PersistentOut => self.persistent_out(nexus, cdb, data)?,
            Command::Read => self.medium[extent(cdb)?].to_vec(),
            Command::Write => self.write(cdb, data)?,
            Command::Reserve | Command::Release if self.changes_nothing(nexus) => Vec::new(),
            Command::Reserve => {
                self.holder = Some(nexus);
                Vec::new()
            }
            Command::Release => {
                // From another nexus this is no error, and without effect: SPC-2 7.17.
                self.holder = self.holder.filter(|holder| *holder != nexus);
                Vec::new()
            }
        };
        answer.truncate(if let Data::In(room) = data { room } else { 0 });
        Ok(answer)
    }

    fn initiator(&self, nexus: u64) -> &str {
        self.nexuses
            .get(&nexus)
            .map_or("", |state| &state.initiator)
    }

    /// A RESERVE or RELEASE that is let through gets GOOD, and nothing else happens.
    fn changes_nothing(&self, nexus: u64) -> bool {
        let handling = self.options.handling;
        let met = self
            .persistent
            .meets_reserve(self.initiator(nexus), handling);
        self.options.empty || met.is_some()
    }

    fn conflicts(&self, nexus: u64, command: Command) -> bool {
        let initiator = self.initiator(nexus);
        if matches!(command, Command::Reserve | Command::Release) {
            let met = self
                .persistent
                .meets_reserve(initiator, self.options.handling);
            if let Some(conflicts) = met {
                return conflicts;
            }
        }
        let persistent = self.persistent.conflicts(initiator, command.access());
        let held = self.holder.is_some_and(|holder| holder != nexus);
        // The holder's, too: SPC-2 5.5.1, as Linux reads it (target_core_pr.c).
        let keys = self.holder.is_some()
            && matches!(command, Command::PersistentIn | Command::PersistentOut);
        persistent || keys || held && !command.allowed_when_reserved()
    }

    fn persistent_out(
        &mut self,
        nexus: u64,
        cdb: &[u8],
        data: Data<'_>,
    ) -> Result<Vec<u8>, Refusal> {
        let Data::Out(list) = data else {
            return Err(INVALID_FIELD_IN_CDB.into());
        };
        let initiator = self.initiator(nexus).to_owned();
        let Told { event, whom } = self.persistent.write(&initiator, cdb, list)?;
        self.attention_for(event, |initiator| whom.iter().any(|told| told == initiator));
        Ok(Vec::new())
    }

    fn request_sense(&mut self, nexus: u64, cdb: &[u8]) -> Vec<u8> {
        let sense = self
            .take_attention(nexus, |_| true)
            .unwrap_or(Sense::new(NO_SENSE, 0, 0));
        // The DESC bit (SPC-3 6.27) asks for the format, whatever CHECK CONDITION uses.
        let format = if cdb[1] & 1 == 0 {
            SenseFormat::Fixed
        } else {
            SenseFormat::Descriptor
        };
        let mut bytes = sense.encode(format);
        bytes.truncate(cdb[4].into());
        bytes
    }

    fn write(&mut self, cdb: &[u8], data: Data<'_>) -> Result<Vec<u8>, Sense> {
        let target = &mut self.medium[extent(cdb)?];
        match data {
            Data::Out(bytes) if bytes.len() == target.len() => target.copy_from_slice(bytes),
            _ => return Err(INVALID_FIELD_IN_CDB),
        }
        Ok(Vec::new())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    TestUnitReady,
    RequestSense,
    Inquiry,
    Reserve,
    Release,
    ModeSense,
    ReadCapacity,
    Read,
    Write,
    PersistentIn,
    PersistentOut,
    ReportLuns,
}

impl Command {
    fn of(cdb: &[u8], forms: Forms) -> Option<Self> {
        Some(match *cdb.first()? {
            0x00 => Self::TestUnitReady,
            0x03 => Self::RequestSense,
            0x12 => Self::Inquiry,
            0x16 if forms != Forms::Ten => Self::Reserve,
            0x17 if forms != Forms::Ten => Self::Release,
            0x1A => Self::ModeSense,
            0x25 => Self::ReadCapacity,
            0x28 => Self::Read,
            0x2A => Self::Write,
            0x56 if forms != Forms::Six => Self::Reserve,
            0x57 if forms != Forms::Six => Self::Release,
            0x5E => Self::PersistentIn,
            0x5F => Self::PersistentOut,
            0xA0 => Self::ReportLuns,
            _ => return None,
        })
    }

    /// What neither reports a unit attention by CHECK CONDITION nor waits for it: SAM-4 5.14.
    const fn passes_attentions(self) -> bool {
        matches!(self, Self::Inquiry | Self::ReportLuns | Self::RequestSense)
    }

    /// What another initiator's reservation lets through: SPC-2 5.5.1; for READ CAPACITY annex B.
    const fn allowed_when_reserved(self) -> bool {
        matches!(
            self,
            Self::Inquiry
                | Self::ReportLuns
                | Self::RequestSense
                | Self::Release
                | Self::ReadCapacity
        )
    }

    /// What a persistent reservation of another lets through: SPC-4 tables 50 and 51. RESERVE,
    /// RELEASE and PERSISTENT RESERVE OUT have rules of their own.
    const fn access(self) -> Access {
        match self {
            Self::ModeSense | Self::Read => Access::Read,
            Self::Write => Access::Write,
            _ => Access::Free,
        }
    }
}

/// Refuses a CDB of the wrong length, linked commands and ACA, and in RESERVE and RELEASE
/// everything that SPC-2 7.16, 7.17, 7.21 and 7.22 call reserved or obsolete, and third-party
/// reservations (an option there).
fn check_fields(cdb: &[u8], command: Command) -> Result<(), Sense> {
    let length = match cdb[0] >> 5 {
        0 => 6,
        5 => 12,
        _ => 10,
    };
    let plain = match command {
        Command::Reserve | Command::Release => cdb[1..].iter().all(|byte| *byte == 0),
        _ => true,
    };
    if cdb.len() == length && cdb[length - 1].trailing_zeros() >= 3 && plain {
        Ok(())
    } else {
        Err(INVALID_FIELD_IN_CDB)
    }
}

/// The bytes that READ(10) or WRITE(10) addresses.
fn extent(cdb: &[u8]) -> Result<Range<usize>, Sense> {
    let start = u32::from_be_bytes([cdb[2], cdb[3], cdb[4], cdb[5]]);
    let end = u64::from(start) + u64::from(u16::from_be_bytes([cdb[7], cdb[8]]));
    if end > u64::from(BLOCKS) {
        return Err(OUT_OF_RANGE);
    }
    let byte = |block: u64| usize::try_from(block * u64::from(BLOCK)).map_err(|_| OUT_OF_RANGE);
    Ok(byte(start.into())?..byte(end)?)
}

/// MODE SENSE(6) of all pages: the header, and no page behind it.
fn mode_sense(cdb: &[u8]) -> Result<Vec<u8>, Sense> {
    if cdb[2] != 0x3F || cdb[3] != 0 {
        return Err(INVALID_FIELD_IN_CDB);
    }
    let mut data = vec![3, 0, 0, 0];
    data.truncate(cdb[4].into());
    Ok(data)
}

/// Standard INQUIRY data: a direct-access device of SPC-2; no vital product data pages.
fn inquiry(cdb: &[u8]) -> Result<Vec<u8>, Sense> {
    if cdb[1] != 0 || cdb[2] != 0 {
        return Err(INVALID_FIELD_IN_CDB);
    }
    let mut data = [
        &[0x00, 0x00, 0x04, 0x02, 31, 0, 0, 0],
        b"RESVFLT ".as_slice(),
        b"EMBEDDED UNIT   ",
        b"0001",
    ]
    .concat();
    data.truncate(u16::from_be_bytes([cdb[3], cdb[4]]).into());
    Ok(data)
}
