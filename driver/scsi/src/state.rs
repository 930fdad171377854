//! What this node knows of its reservation, as the driver tells it to
//! [`IOCTL_RESVFLT_QUERY_STATE`].
//!
//! No SCSI-2 command asks who holds a logical unit, and an answer is true only for the moment it
//! was given in: a reset, or a release by the other initiator, is not reported to this one until it
//! asks for something. So this is what the node last *knew*, and since when.
//!
//! | what happened | what is known then |
//! | --- | --- |
//! | RESERVE executed | held by us |
//! | RELEASE executed | not ours; it may be free or another's |
//! | RESERVATION CONFLICT | held by another |
//! | the command was not executed (the target was busy or not ready, the target or the port refused it, the format failed) | what was known before |
//! | a unit attention (a reset, a preemption), a lost path, "no such unit", a timeout, a cancel of a sent command, a refused send, any other answer | nothing |
//! | somebody on this node asked for a reset, the device is removed, or came back from low power; and a RESERVE or RELEASE that was out meanwhile is answered | nothing |
//!
//! With [`Watch`](crate::Watch) it also hears of what others on this node send to the disk as SCSI request blocks:
//!
//! | what passed | what is known then |
//! | --- | --- |
//! | a RESERVE or RELEASE, a PERSISTENT RESERVE OUT, a reset; or it is answered, and something else was out meanwhile | nothing |
//! | the answer to a RESERVE or RELEASE beside which nothing else was out | the same as of the filter's own |
//! | at level 2, while this node holds the unit: a RESERVATION CONFLICT or a unit attention, whatever the command | nothing |
//!
//! Where persistent reservations are in use, "held by us" is more than a RESERVE's GOOD says: a
//! registrant gets it and reserves nothing (SPC-4 5.12.3).

use crate::cdb::{Command, Form};
use crate::ntstatus::NtStatus;
use crate::operation::{Action, Event, Operation, Policy};
use crate::verdict::{Outcome, Retry, SCSI_STATUS_UNTOUCHED, Target, Verdict};
use crate::watch::{Watch, Watched};

/// The control code that asks for a [`ReservationState`]: `CTL_CODE(0x8016, 0x816, METHOD_BUFFERED,
/// FILE_READ_ACCESS)`.
///
/// Device types from 0x8000 and functions from 0x800 are for vendors; 16h is RESERVE(6).
pub const IOCTL_RESVFLT_QUERY_STATE: u32 = 0x8016 << 16 | 1 << 14 | 0x816 << 2;

/// The version of [`ReservationState`] that this is.
pub const VERSION: u32 = 2;

/// The first version, which a caller gets whose buffer is too small for this one: without what is
/// behind [`ReservationState::cancels`].
pub const VERSION_1: u32 = 1;

/// The size of that.
pub const VERSION_1_SIZE: usize = core::mem::offset_of!(ReservationState, timeout_seconds);

/// Stands for a SCSI status or sense key that did not come.
pub const NONE: u8 = SCSI_STATUS_UNTOUCHED;
const _: () = assert!(NONE == Target::NO_SENSE_DATA);

/// What this node last knew of the reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Knowledge {
    /// Nothing.
    Unknown = 0,
    /// This node holds it.
    HeldByUs = 1,
    /// This node does not hold it; another may.
    NotOurs = 2,
    /// Another node holds it.
    HeldByAnother = 3,
}

impl Knowledge {
    /// What an answer to a command tells; `None` if what was known before still holds.
    #[must_use]
    pub const fn of(command: Command, outcome: Outcome) -> Option<Self> {
        match (outcome, command) {
            (Outcome::Executed, Command::Reserve) => Some(Self::HeldByUs),
            (Outcome::Executed, Command::Release) => Some(Self::NotOurs),
            (Outcome::Conflict, _) => Some(Self::HeldByAnother),
            (Outcome::NotExecuted, _) => None,
            (Outcome::Unknown, _) => Some(Self::Unknown),
        }
    }

    /// The knowledge with this number in [`ReservationState`].
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Unknown),
            1 => Some(Self::HeldByUs),
            2 => Some(Self::NotOurs),
            3 => Some(Self::HeldByAnother),
            _ => None,
        }
    }
}

/// Where knowledge came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Origin {
    /// The answer to a request that the filter served; or nothing is known.
    Own = 0,
    /// The answer to another's SCSI request block.
    Watched = 1,
}

/// One field of [`ReservationState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name here; in `inf/resvflt.h` the same in capitalized words.
    pub name: &'static str,
    /// Where it begins, in bytes.
    pub offset: usize,
    /// How many bytes it has.
    pub size: usize,
}

/// Declares the structure with its fields' places, and how it is read.
macro_rules! structure {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(C)]
        pub struct $name { $($(#[$doc])* pub $field: $type,)* }

        impl $name {
            /// All fields, in their order.
            pub const FIELDS: &[Field] = &[$(Field {
                name: stringify!($field),
                offset: core::mem::offset_of!($name, $field),
                size: size_of::<$type>(),
            },)*];

            /// Reads the structure from what the driver wrote; `None` if that is too short.
            #[must_use]
            pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
                Some(Self { $($field: {
                    let bytes = bytes.get(core::mem::offset_of!($name, $field)..)?;
                    <$type>::from_le_bytes(*bytes.first_chunk()?)
                },)* })
            }
        }

        // All of it is copied to the caller.
        const _: () = assert!(size_of::<$name>() == 0 $(+ size_of::<$type>())*, "padding");
    };
}

structure! {
    /// What the driver answers [`IOCTL_RESVFLT_QUERY_STATE`] with, in the processor's byte order.
    /// The counters begin when the filter attaches to the disk.
    ///
    /// `inf/resvflt.h` has it in C.
    ReservationState {
        /// [`VERSION`].
        version: u32,
        /// The size of the structure.
        size: u32,
        /// Since when [`knowledge`](Self::knowledge) is what it is: interrupt time, in 100 ns
        /// (`QueryInterruptTimePrecise`).
        since: u64,
        /// A [`Knowledge`].
        knowledge: u32,
        /// The `NTSTATUS` that the last finished request was completed with; 0 before there was one.
        last_status: i32,
        /// The SCSI status of the last answer to the latest request; [`NONE`] if there is none.
        scsi_status: u8,
        /// The sense key of that answer; [`NONE`] if it had no sense data.
        sense_key: u8,
        /// Its additional sense code.
        asc: u8,
        /// Its additional sense code qualifier.
        ascq: u8,
        /// The form of the commands that the next request begins with: 6 or 10 bytes.
        cdb_length: u32,
        /// RESERVE and RELEASE requests that the filter began to serve.
        requests: u64,
        /// RESERVE commands that the target executed.
        reserves: u64,
        /// RELEASE commands that the target executed.
        releases: u64,
        /// Commands answered RESERVATION CONFLICT.
        conflicts: u64,
        /// Commands sent again after a delay.
        retries: u64,
        /// Unit attentions that were reported to a command of the filter's, and so to nobody else.
        unit_attentions: u64,
        /// Commands that ended without an answer in time.
        timeouts: u64,
        /// Requests that ended cancelled.
        cancels: u64,
        /// Seconds that the port gives one command.
        timeout_seconds: u32,
        /// The parameter `RetryDelayMs`, as it was loaded, in milliseconds.
        retry_delay_ms: u32,
        /// RESERVE, RELEASE and PERSISTENT RESERVE OUT commands and resets of others that passed as
        /// SCSI request blocks, and that the filter looked at; modulo 2^32.
        watched: u32,
        /// The parameter `MaxRetries`, as it was loaded.
        max_retries: u8,
        /// The parameter `Reserve10Fallback`, as it was loaded: 0 or 1.
        reserve10_fallback: u8,
        /// The parameter `Watch`, as it was loaded: a [`Watch`].
        watch: u8,
        /// Where [`knowledge`](Self::knowledge) came from, when it became what it is: an [`Origin`].
        origin: u8,
    }
}

impl ReservationState {
    /// The state of a filter that has just attached, with the parameters that it works by.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "112 bytes; 16 retries")]
    pub const fn new(now: u64, policy: &Policy, timeout_seconds: u32, watch: Watch) -> Self {
        Self {
            version: VERSION,
            size: size_of::<Self>() as u32,
            since: now,
            knowledge: Knowledge::Unknown as u32,
            last_status: NtStatus::SUCCESS.0,
            scsi_status: NONE,
            sense_key: NONE,
            asc: 0,
            ascq: 0,
            cdb_length: 6,
            requests: 0,
            reserves: 0,
            releases: 0,
            conflicts: 0,
            retries: 0,
            unit_attentions: 0,
            timeouts: 0,
            cancels: 0,
            timeout_seconds,
            retry_delay_ms: policy.retry_delay_ms,
            watched: 0,
            max_retries: policy.max_retries as u8,
            reserve10_fallback: policy.ten_byte_fallback as u8,
            watch: watch as u8,
            origin: Origin::Own as u8,
        }
    }

    /// Notes one step of the machine: the event, what it was answered, and the machine after it.
    ///
    /// `now` is asked for the interrupt time only if what is known has changed.
    #[allow(
        clippy::inline_always,
        reason = "counted: of an event that is known little is left"
    )]
    #[inline(always)]
    pub fn note(
        &mut self,
        event: &Event,
        action: Action,
        operation: &Operation,
        now: impl FnOnce() -> u64,
    ) {
        match event {
            Event::Start(_) if action != Action::Refuse => {
                count(&mut self.requests);
                self.heard(Target::SILENT);
            }
            Event::Answered(_) | Event::Refused(_) | Event::FormatFailed(_) => {
                self.answered(action, operation, now);
            }
            Event::Gone | Event::ResetPassed | Event::PoweredUp => {
                self.learn(Knowledge::Unknown, Origin::Own, now);
            }
            _ => {}
        }
        if let Action::Finish(status) = action {
            self.last_status = status.0;
            if status == NtStatus::CANCELLED {
                count(&mut self.cancels);
            }
        }
    }

    fn answered(&mut self, action: Action, operation: &Operation, now: impl FnOnce() -> u64) {
        let Some(verdict) = operation.verdict() else {
            return;
        };
        self.heard(verdict.target);
        self.count_answer(&verdict, action, operation.command());
        self.cdb_length = match operation.form() {
            Form::Six => 6,
            Form::Ten => 10,
        };
        if let Some(knowledge) = Knowledge::of(operation.command(), operation.outcome()) {
            self.learn(knowledge, Origin::Own, now);
        }
    }

    /// Notes that another's command passes which may change the reservation.
    pub fn other_sent(&mut self, now: impl FnOnce() -> u64) {
        self.watched = self.watched.wrapping_add(1);
        self.learn(Knowledge::Unknown, Origin::Own, now);
    }

    /// Notes its answer, and gives what is known then; with what [`Operation::other_answered`] said.
    pub fn other_answered(
        &mut self,
        watched: Watched,
        verdict: &Verdict,
        is_last_word: bool,
        now: impl FnOnce() -> u64,
    ) {
        let knowledge = match watched.command() {
            Some(command) if is_last_word => Knowledge::of(command, verdict.outcome),
            _ => None,
        };
        match knowledge {
            None | Some(Knowledge::Unknown) => self.learn(Knowledge::Unknown, Origin::Own, now),
            Some(known) => self.learn(known, Origin::Watched, now),
        }
    }

    /// Notes the answer to a command that changes no reservation: true if this node was known to hold the
    /// unit, and the target says that another does, or that something happened which may have ended the
    /// reservation.
    pub fn foreign_answered(&mut self, verdict: &Verdict, now: impl FnOnce() -> u64) -> bool {
        let is_news = verdict.denies() && self.knowledge == Knowledge::HeldByUs as u32;
        if is_news {
            self.learn(Knowledge::Unknown, Origin::Own, now);
        }
        is_news
    }

    /// The same as of now to somebody who asks: while a command of the filter's own is out, too, the
    /// unit is not known to be held, if what passes is watched.
    #[must_use]
    pub fn told(&self, operation: &Operation) -> Self {
        let mut told = *self;
        if operation.is_out() && told.knowledge == Knowledge::HeldByUs as u32 {
            told.knowledge = Knowledge::Unknown as u32;
            told.origin = Origin::Own as u8;
        }
        told
    }

    /// Reads what a driver of this version or the first answered; what that did not know is 0.
    #[must_use]
    pub fn from_answer(bytes: &[u8]) -> Option<Self> {
        let mut whole = [0; size_of::<Self>()];
        let length = bytes.len().min(whole.len());
        if length < VERSION_1_SIZE {
            return None;
        }
        whole[..length].copy_from_slice(&bytes[..length]);
        let state = Self::from_bytes(&whole)?;
        let size = match state.version {
            VERSION_1 => VERSION_1_SIZE,
            VERSION => whole.len(),
            _ => return None,
        };
        (length == size).then_some(state)
    }

    /// The first version of it.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "96")]
    pub const fn version_1(&self) -> Self {
        Self {
            version: VERSION_1,
            size: VERSION_1_SIZE as u32,
            ..*self
        }
    }

    fn count_answer(&mut self, verdict: &Verdict, action: Action, command: Command) {
        match (verdict.outcome, command) {
            (Outcome::Executed, Command::Reserve) => return count(&mut self.reserves),
            (Outcome::Executed, Command::Release) => return count(&mut self.releases),
            (Outcome::Conflict, _) => return count(&mut self.conflicts),
            _ => {}
        }
        if verdict.status == NtStatus::IO_TIMEOUT {
            count(&mut self.timeouts);
        }
        if verdict.retry == Retry::AtOnce {
            count(&mut self.unit_attentions);
        }
        if let Action::StartTimer { milliseconds: 1.. } = action {
            count(&mut self.retries);
        }
    }

    const fn heard(&mut self, target: Target) {
        self.scsi_status = target.scsi_status;
        self.sense_key = target.sense_key;
        self.asc = target.asc;
        self.ascq = target.ascq;
    }

    fn learn(&mut self, knowledge: Knowledge, origin: Origin, now: impl FnOnce() -> u64) {
        if self.knowledge != knowledge as u32 {
            self.knowledge = knowledge as u32;
            self.origin = origin as u8;
            self.since = now();
        }
    }
}

const fn count(counter: &mut u64) {
    *counter = counter.wrapping_add(1);
}
