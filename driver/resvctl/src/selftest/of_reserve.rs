//! Checks that reserve a disk. Whatever was granted is released again, also when a check ends early.

use std::cell::Cell;

use scsi_reserve::sense::key;
use scsi_reserve::state::Origin;
use scsi_reserve::{Cdb, Command, Form, NtStatus};

use super::evidence::{Evidence, Found, Untold, said, untold};
use super::of_machine::{PARAMETERS, parameter};
use super::subject::{HELD_BY_US, State, Subject, UNKNOWN, pass_through};
use crate::machine::{Access, Answer, Completed, Device, Key, Traced, Win32};
use crate::{persistent, reservation};

/// IOCTL_STORAGE_RESERVE and IOCTL_STORAGE_RELEASE.
const RESERVE: u32 = reservation::RESERVE.code;
const RELEASE: u32 = reservation::RELEASE.code;

/// A disk that may be reserved, and whether it may be so now.
pub struct Reserver<'a> {
    pub subject: &'a Subject<'a>,
    device: Box<dyn Device + 'a>,
    held: Cell<bool>,
    granted: Cell<u32>,
    /// A request is out that did not end in its time, and the next may not, either.
    stuck: Cell<bool>,
}

impl<'a> Reserver<'a> {
    /// Opens the disk; nothing is sent.
    pub fn new(subject: &'a Subject<'a>) -> Result<Self, Untold> {
        Ok(Self {
            subject,
            device: subject.open(Access::ReadWrite)?,
            held: Cell::new(false),
            granted: Cell::new(0),
            stuck: Cell::new(false),
        })
    }

    /// Finds out whether it may be reserved: it has no persistent reservation, and nobody holds it.
    pub fn is_free(&self) -> Found {
        self.has_no_other()?;
        match self.reserve() {
            Ok(()) => self.release().map_err(Untold::of("RELEASE")),
            // `ten-byte` may tell more.
            Err(Win32::INVALID_FUNCTION) => Ok(()),
            Err(error) => untold(format_args!("RESERVE: {error}")),
        }
    }

    /// The same without a RESERVE: as far as this node knows.
    pub fn has_no_other(&self) -> Found {
        let persistent = persistent::ask(&*self.device);
        if persistent.warning().is_some() {
            return untold("the disk has a persistent reservation");
        }
        let known = State::of(&*self.device).map(|state| state.knowledge());
        if known.is_ok_and(|known| known == HELD_BY_US) {
            return untold("this node holds the disk already: `resvctl release`");
        }
        Ok(())
    }

    pub fn reserve(&self) -> Answer<()> {
        self.send(RESERVE)
    }

    pub fn release(&self) -> Answer<()> {
        self.send(RELEASE)
    }

    fn send(&self, code: u32) -> Answer<()> {
        let answer = self.device.control(code, &[], &mut []).map(|_| ());
        if answer.is_ok() {
            if Command::from_ioctl(code) == Some(Command::Reserve) {
                self.may_hold();
            } else {
                self.held.set(false);
            }
        }
        answer
    }

    /// The disk may be held from now on, by a request that went another way.
    fn may_hold(&self) {
        self.held.set(true);
        self.granted.set(self.granted.get() + 1);
    }

    /// Reserves the disk, or can't tell.
    fn take(&self) -> Found {
        self.reserve().map_err(Untold::of("RESERVE"))
    }

    /// The filter's state.
    pub fn state(&self) -> Result<State, Untold> {
        State::of(&*self.device)
    }

    /// Has the port driver reset the disk: `resvctl break`.
    pub fn break_reservation(&self) -> Result<(), Win32> {
        reservation::reset(&*self.device)
    }

    /// Can't tell any more once a request does not end.
    pub fn answers(&self) -> Found {
        if self.stuck.get() {
            return untold("a request of an earlier check does not end");
        }
        Ok(())
    }

    /// Releases the disk if it may be held, by a request that it need not wait for if one is out already.
    pub fn undo(&self) -> Found {
        if !self.held.get() {
            return Ok(());
        }
        if !self.stuck.get() {
            return self.release().map_err(Untold::of("RELEASE"));
        }
        match complete(self, RELEASE)?.status {
            0 => self.held.set(false),
            status => return untold(format_args!("RELEASE ended with {status:#010x}")),
        }
        Ok(())
    }

    /// How often it was reserved.
    pub fn granted(&self) -> u32 {
        self.granted.get()
    }

    /// Only above disk.sys the filter serves what a handle asks.
    fn must_be_above(&self) -> Found {
        if self.subject.is_above()? {
            return Ok(());
        }
        untold("the filter is below disk.sys, which serves a handle's requests itself")
    }
}

pub fn served_by(disk: &Reserver<'_>, evidence: &mut Evidence) -> Found {
    let above = disk.subject.is_above()?;
    evidence.saw("the filter is", if above { "above" } else { "below" });
    for (name, code) in [("RESERVE", RESERVE), ("RELEASE", RELEASE)] {
        let before = disk.state()?;
        disk.send(code).map_err(Untold::of(name))?;
        let served = disk.state()?.served_since(&before);
        evidence.same(
            format_args!("requests that the filter served of one {name}"),
            served,
            above.into(),
        );
    }
    Ok(())
}

const ANOTHERS: &str = "another's request";
const OWN: &str = "the filter's own";

pub fn watched(disk: &Reserver<'_>, evidence: &mut Evidence) -> Found {
    if disk.subject.is_above()? {
        return untold("the filter is above disk.sys and serves the request itself");
    }
    let watch = disk.state()?.second()?.watch;
    evidence.saw("Watch", watch);
    if watch == 0 {
        return untold("Watch is 0");
    }
    disk.take()?;
    let state = disk.state()?;
    evidence.same("known after RESERVE", state.knowledge(), HELD_BY_US);
    let watched = state.second()?.origin == Origin::Watched as u8;
    let origin = if watched { ANOTHERS } else { OWN };
    evidence.same("from", origin, ANOTHERS);
    disk.release().map_err(Untold::of("RELEASE"))?;
    let known = disk.state()?.knowledge();
    evidence.saw("known after RELEASE", known);
    evidence.claim(known != HELD_BY_US, "after RELEASE it is still held by us");
    Ok(())
}

/// The same functions under the device types of disks, CD-ROMs and tapes (ntdddisk.h, ntddcdrm.h, ntddtape.h).
const SPELLINGS: [(&str, u32); 3] = [("DISK", 0x07), ("CDROM", 0x02), ("TAPE", 0x1F)];

pub fn spellings(disk: &Reserver<'_>, evidence: &mut Evidence) -> Found {
    disk.subject.stack()?;
    // Without the filter there are no counts, and that disk.sys serves them is all that is to be seen.
    let counted = |evidence: &mut Evidence, name: &str, code: u32| {
        let before = disk.state().ok();
        let said = said(disk.send(code));
        let served = before.and_then(|before| Some(disk.state().ok()?.served_since(&before)));
        let served = served.map_or_else(|| "not told".into(), |served| served.to_string());
        let found = format!("{said}; the filter served {served}");
        evidence.saw(name, &found);
        found
    };
    for (command, code) in [("RESERVE", RESERVE), ("RELEASE", RELEASE)] {
        let storages = counted(evidence, &format!("IOCTL_STORAGE_{command}"), code);
        if !storages.starts_with("success") {
            return untold(format_args!("IOCTL_STORAGE_{command}: {storages}"));
        }
        for (spelling, device_type) in SPELLINGS {
            let name = format!("IOCTL_{spelling}_{command}");
            let found = counted(evidence, &name, device_type << 16 | (code & 0xFFFF));
            evidence.claim(
                found == storages,
                format_args!("{name}: {found}; IOCTL_STORAGE_{command}: {storages}"),
            );
        }
    }
    Ok(())
}

/// Sends one request by a handle that does not wait, and waits.
fn complete(disk: &Reserver<'_>, code: u32) -> Result<Completed, Untold> {
    const MINUTE: u32 = 60_000;
    let failed = Untold::of;
    let path = disk.subject.disk.path();
    let requests = disk.subject.machine.requests(&path, Access::Read);
    let mut requests = requests.map_err(failed("an overlapped handle"))?;
    let request = requests.begin(code).map_err(failed("the request"))?;
    let completed = requests.end(request, MINUTE).map_err(failed("its end"))?;
    // One that is still out may be granted yet.
    if code == RESERVE && completed.is_none_or(|end| end.status == NtStatus::SUCCESS.0) {
        disk.may_hold();
    }
    let Some(completed) = completed else {
        disk.stuck.set(true);
        std::mem::forget(requests); // It would wait.
        return untold("the request did not end in a minute");
    };
    Ok(completed)
}

pub fn information(disk: &Reserver<'_>, evidence: &mut Evidence) -> Found {
    for (name, code) in [("RESERVE", RESERVE), ("RELEASE", RELEASE)] {
        let Completed {
            status,
            information,
        } = complete(disk, code)?;
        evidence.saw(
            format_args!("status of {name}"),
            format_args!("{status:#010x}"),
        );
        evidence.same(format_args!("Information of {name}"), information, 0);
        if status != NtStatus::SUCCESS.0 {
            return untold(format_args!("{name} ended with {status:#010x}"));
        }
    }
    Ok(())
}

pub fn read_only_handle(disk: &Reserver<'_>, evidence: &mut Evidence) -> Found {
    // By another handle it is granted, so that a refusal is the handle's.
    disk.take()?;
    let device = disk.subject.open(Access::Read)?;
    for (name, code) in [("RESERVE", RESERVE), ("RELEASE", RELEASE)] {
        let answer = device.control(code, &[], &mut []);
        let said = said(answer);
        evidence.same(
            format_args!("{name} with GENERIC_READ alone"),
            said,
            "success".into(),
        );
    }
    Ok(())
}

/// What a unit makes of RESERVE in one form, by a pass-through: true if it grants it, false if it knows no such command.
/// What was granted is released.
fn takes(disk: &Reserver<'_>, form: Form) -> Result<bool, Untold> {
    // Each unit attention is reported once.
    const TRIES: usize = 8;
    let name = match form {
        Form::Six => "RESERVE(6)",
        Form::Ten => "RESERVE(10)",
    };
    let send = |command| {
        let cdb = Cdb::new(command, form);
        let mut bytes = [0; 10];
        bytes[0] = cdb.operation_code();
        let passed = pass_through(&*disk.device, &bytes[..cdb.length().into()]);
        passed.map_err(Untold::of(format_args!("a pass-through of {name}")))
    };
    for _ in 0..TRIES {
        let passed = send(Command::Reserve)?;
        match (passed.status, passed.sense_key()) {
            (0, _) => {
                disk.may_hold();
                if send(Command::Release)?.status == 0 {
                    disk.held.set(false);
                }
                return Ok(true);
            }
            (_, Some(key::ILLEGAL_REQUEST)) => return Ok(false),
            (_, Some(key::UNIT_ATTENTION)) => {}
            (status, _) => return untold(format_args!("{name} gets ScsiStatus {status:02x}h")),
        }
    }
    untold(format_args!("{name} meets unit attentions without end"))
}

pub fn ten_byte(disk: &Reserver<'_>, evidence: &mut Evidence) -> Found {
    let key = Key::Machine(PARAMETERS.into());
    let fallback = parameter(disk.subject.machine, &key, "Reserve10Fallback", 0..=1)?;
    if disk.subject.is_above()? && fallback == Some(0) {
        return untold("Reserve10Fallback is 0");
    }
    let six = takes(disk, Form::Six)?;
    evidence.saw("the unit takes RESERVE(6)", six);
    if six {
        return untold("the unit takes RESERVE(6)");
    }
    let ten = takes(disk, Form::Ten)?;
    evidence.saw("the unit takes RESERVE(10)", ten);
    if !ten {
        return untold("the unit takes neither form");
    }
    let answer = disk.reserve();
    let said = said(answer);
    evidence.same("IOCTL_STORAGE_RESERVE", said, "success".into());
    if disk.subject.is_above()? {
        let length = disk.state()?.0.cdb_length;
        evidence.same("bytes of the filter's commands", length, 10);
    }
    Ok(())
}

/// How long a request may take to end that is cancelled in the queue, in ms: it waits for nobody.
const AT_ONCE: u32 = 1_000;
/// How long all others may take, in ms.
const ALL: u32 = 60_000;

pub fn cancel_queued(disk: &Reserver<'_>, evidence: &mut Evidence) -> Found {
    disk.must_be_above()?;
    disk.take()?;
    // A fast disk serves few of them before the last is cancelled, or all: then it takes more.
    for how_many in [16, 256, 1024] {
        if cancel_the_last(disk, how_many, evidence)? {
            return Ok(());
        }
    }
    untold("each request was served before it could be cancelled")
}

/// True if the last of so many was in the queue for certain when it was cancelled.
fn cancel_the_last(
    disk: &Reserver<'_>,
    how_many: u32,
    evidence: &mut Evidence,
) -> Result<bool, Untold> {
    let before = disk.state()?;
    let path = disk.subject.disk.path();
    let requests = disk.subject.machine.requests(&path, Access::Read);
    let mut requests = requests.map_err(Untold::of("an overlapped handle"))?;
    let mut others = Vec::new();
    for _ in 0..how_many {
        others.push(requests.begin(RESERVE).map_err(Untold::of("a request"))?);
    }
    let (Some(last), Some(one_before)) = (others.pop(), others.last().copied()) else {
        return Ok(false);
    };
    let was_out = requests.cancel(last).map_err(Untold::of("CancelIoEx"))?;
    // Requests are served one at a time, in their order.
    let ended = |error| Untold::of("the end of a request")(error);
    let queued = requests.end(one_before, 0).map_err(ended)?.is_none();
    if !(was_out && queued) {
        return Ok(false);
    }
    evidence.saw("requests", how_many);
    let end = requests.end(last, AT_ONCE).map_err(ended)?;
    let Some(end) = end else {
        evidence.claim(false, "the cancelled request is still out after a second");
        disk.stuck.set(true);
        std::mem::forget(requests); // It would wait.
        return Ok(true);
    };
    let status = |status: i32| format!("{status:#010x}");
    evidence.same(
        "its status",
        status(end.status),
        status(NtStatus::CANCELLED.0),
    );
    for request in others {
        if requests.end(request, ALL).map_err(ended)?.is_none() {
            disk.stuck.set(true);
            std::mem::forget(requests);
            return untold("a request that was not cancelled did not end in a minute");
        }
    }
    let served = disk.state()?.served_since(&before);
    evidence.same(
        "requests that the filter served",
        served,
        u64::from(how_many) - 1,
    );
    Ok(true)
}

pub fn process_ends(disk: &Reserver<'_>, evidence: &mut Evidence) -> Found {
    disk.must_be_above()?;
    disk.take()?;
    for how_many in [64, 1024, 4096] {
        if kill(disk, how_many, evidence)? {
            return Ok(());
        }
    }
    untold("each request was served before the process could be killed, or none was sent")
}

/// True if the process had requests out when it was killed.
fn kill(disk: &Reserver<'_>, how_many: u32, evidence: &mut Evidence) -> Result<bool, Untold> {
    let before = disk.state()?;
    let path = disk.subject.disk.path();
    let process = disk.subject.machine.process(&path, RESERVE, how_many);
    let mut process = process.map_err(Untold::of("another process"))?;
    process.kill().map_err(Untold::of("killing it"))?;
    let ended = process.has_ended(ALL).map_err(Untold::of("its end"))?;
    let served = disk.state()?.served_since(&before);
    if ended && !(1..u64::from(how_many)).contains(&served) {
        return Ok(false);
    }
    evidence.saw("requests that it sent", how_many);
    evidence.saw("of them the filter began to serve", served);
    evidence.claim(ended, "it has not ended a minute after it was killed");
    if ended {
        serves_on(disk, evidence);
    } else {
        disk.stuck.set(true);
    }
    Ok(true)
}

/// Claims that the disk serves: that nobody else took it meanwhile is not claimed.
fn serves_on(disk: &Reserver<'_>, evidence: &mut Evidence) {
    for (name, answer) in [("RESERVE", disk.reserve()), ("RELEASE", disk.release())] {
        let said = said(answer);
        evidence.saw(format_args!("{name} after it"), &said);
        evidence.claim(
            matches!(answer, Ok(()) | Err(Win32::BUSY)),
            format_args!("{name} after it: {said}"),
        );
    }
}

/// The provider Resvflt (driver/EVENTS.md).
const PROVIDER: u128 = 0xaa24_21a2_5c31_5fba_872c_3d41_5a51_cd75;

/// What is told of each request: name, level, keyword and fields (driver/EVENTS.md).
pub const EVENTS: [(&str, u8, u64, &[&str]); 2] = [
    ("OperationStarted", 5, 0x4, &["Disk", "Code"]),
    (
        "OperationEnded",
        4,
        0x4,
        &[
            "Disk",
            "Code",
            "Status",
            "ScsiStatus",
            "SenseKey",
            "Asc",
            "Ascq",
            "Attempts",
            "Microseconds",
        ],
    ),
];

pub fn events(disk: &Reserver<'_>, evidence: &mut Evidence) -> Found {
    disk.must_be_above()?;
    let session = disk.subject.machine.trace(PROVIDER);
    let session = session.map_err(Untold::of("a session"))?;
    disk.take()?;
    disk.release().map_err(Untold::of("RELEASE"))?;
    let events = session.stop().map_err(Untold::of("the recording"))?;
    for event in &events {
        let fields = event
            .fields
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let fields: Vec<String> = fields.collect();
        evidence.saw(&event.name, fields.join(" "));
    }
    for (command, code) in [("RESERVE", RESERVE), ("RELEASE", RELEASE)] {
        for (name, level, keyword, fields) in EVENTS {
            let found = events.iter().find(|event| {
                let same =
                    |field: &&(String, String)| field.0 == "Code" && number(&field.1) == Some(code);
                event.name == name && event.fields.iter().any(|field| same(&field))
            });
            let Some(event) = found else {
                evidence.claim(false, format_args!("no {name} of the {command} came"));
                continue;
            };
            let names: Vec<&str> = event.fields.iter().map(|(name, _)| &**name).collect();
            evidence.claim(
                (event.level, event.keyword) == (level, keyword) && names == fields,
                format_args!(
                    "{name} has level {}, keyword {:#x} and {names:?}",
                    event.level, event.keyword
                ),
            );
            evidence.claim(
                says_success(event),
                format_args!("{name} of the {command} does not say success"),
            );
        }
    }
    Ok(())
}

/// True unless the event has a status that is another.
fn says_success(event: &Traced) -> bool {
    let status = event.fields.iter().find(|(name, _)| name == "Status");
    status.is_none_or(|(_, value)| number(value) == Some(0))
}

/// A number as it is told: in base 10, or with 0x in base 16.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

pub fn sleep(disk: &Reserver<'_>, evidence: &mut Evidence) -> Found {
    const SECONDS: u32 = 30;
    disk.take()?;
    let known = disk.state()?.knowledge();
    evidence.saw("known before", known);
    if known != HELD_BY_US {
        return untold(
            "the filter does not know of the RESERVE: below disk.sys it takes Watch 1 or 2",
        );
    }
    let machine = disk.subject.machine;
    machine.sleep(SECONDS).map_err(Untold::of("sleep"))?;
    let known = disk.state()?.knowledge();
    evidence.same("known after", known, UNKNOWN);
    serves_on(disk, evidence);
    Ok(())
}
