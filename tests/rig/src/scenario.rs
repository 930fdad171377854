//! Plays a script of `scenarios/`: what is done to a stack whose bottom is a port that answers as the script says, and what
//! is to come of it. The commands are told in the folder's README.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::abi::{
    DEVICE_OBJECT, DRIVER_OBJECT, IOCTL_SCSI_PASS_THROUGH, IRP, SCSI_PASS_THROUGH, Status, irql,
    major, status,
};
use crate::fx::{DiskKeys, Pnp};
use crate::io::{Call, Caller, Pending};
use crate::node::{Node, SERVICE_KEY};
use crate::port::{check_form, finish};
use crate::registry::{Hive, Value};
use crate::world::{self, Entered, Schedule, World};
use crate::{io, pool, rules};

/// 100 ns in a millisecond.
const MS: u64 = 10_000;
const PARAMETERS: &str = "Parameters";
const HARDWARE_KEY: &str = "the disk's hardware key";
const DISK_KEY: &str = r"\Registry\Machine\System\CurrentControlSet\Services\Disk";

/// How many seeds a script asks for; without that it is played once.
pub fn seeds(script: &str) -> u64 {
    let asked = script.lines().find_map(|line| line.strip_prefix("#seeds "));
    asked.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Plays `script` with the driver in `bytes`.
///
/// # Errors
/// The line that did not hold, and what was found.
pub fn play(file: &Path, bytes: &[u8], script: &str, schedule: Schedule) -> Result<(), String> {
    let world = World::enter(Schedule::Orderly);
    world.world().faults().case = script.lines().next().unwrap_or_default().into();
    world.world().reschedule(schedule);
    let play = Arc::new(Play::new(&world, file, bytes));
    for (number, line) in (1..).zip(script.lines()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() || words[0].starts_with('#') {
            continue;
        }
        let result = match words[0] {
            "bg" => {
                play.in_background(&words[1..]);
                Ok(())
            }
            _ => play.command(&words),
        };
        result.map_err(|why| format!("line {number}, {line:?}: {why}"))?;
    }
    Ok(())
}

struct Play {
    file: std::path::PathBuf,
    bytes: Vec<u8>,
    hive: Hive,
    node: Mutex<Option<Arc<Node>>>,
    lower: Arc<Lower>,
    calls: Mutex<HashMap<String, (Arc<Pending>, u64)>>,
    kind: Mutex<(u32, usize)>,
    values: Mutex<Vec<(String, u32)>>,
    background: AtomicUsize,
    found: Mutex<Vec<String>>,
    world: Arc<World>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number(word: &str) -> Result<u64, String> {
    let parsed = match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => word.parse(),
    };
    parsed.map_err(|_| format!("{word:?} is no number"))
}

fn status_of(word: &str) -> Result<Status, String> {
    let value = u32::try_from(number(word)?).map_err(|error| error.to_string())?;
    Ok(value.cast_signed())
}

fn hex(digits: &str) -> Result<Vec<u8>, String> {
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2).unwrap_or("?"), 16);
    let bytes: Result<Vec<_>, _> = (0..digits.len()).step_by(2).map(byte).collect();
    bytes.map_err(|error| format!("{digits:?}: {error}"))
}

/// The value of `name=value` among the words.
fn option<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    let value = |word: &&'a str| word.strip_prefix(name)?.strip_prefix('=');
    words.iter().find_map(value)
}

impl Play {
    fn new(world: &Entered, file: &Path, bytes: &[u8]) -> Self {
        let hive = Hive::default();
        for key in [
            format!("{SERVICE_KEY}\\{PARAMETERS}").as_str(),
            HARDWARE_KEY,
            DISK_KEY,
        ] {
            hive.create(key);
        }
        Self {
            file: file.into(),
            bytes: bytes.into(),
            hive,
            node: Mutex::default(),
            lower: Lower::new(world.world()),
            calls: Mutex::default(),
            kind: Mutex::new((4, 4)),
            values: Mutex::default(),
            background: AtomicUsize::new(0),
            found: Mutex::default(),
            world: Arc::clone(world.world()),
        }
    }

    fn key(&self) -> usize {
        (&raw const self.background) as usize
    }

    fn in_background(self: &Arc<Self>, words: &[&str]) {
        self.background.fetch_add(1, Ordering::Relaxed);
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let play = Arc::clone(self);
        let job = move || {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            if let Err(why) = play.command(&words) {
                lock(&play.found).push(format!("{words:?}: {why}"));
            }
            play.background.fetch_sub(1, Ordering::Relaxed);
            play.world.wake(play.key());
        };
        self.world.spawn("background", irql::PASSIVE, Box::new(job));
    }

    fn node(&self) -> Result<Arc<Node>, String> {
        lock(&self.node)
            .clone()
            .ok_or_else(|| "nothing is loaded".into())
    }

    fn command(&self, words: &[&str]) -> Result<(), String> {
        let rest = &words[1..];
        match (words[0], rest) {
            ("reg", [name, value]) => {
                self.set(name, u32::try_from(number(value)?).unwrap_or(u32::MAX));
            }
            ("regtype", [kind, length]) => self.set_type(number(kind)?, number(length)?),
            ("regopen", [status]) => self.hive.refuse(status_of(status)?),
            ("load", []) => return self.load(),
            ("add", []) => return self.add(),
            ("start" | "restart", []) => self.pnp(Pnp::Start)?,
            ("querystop", []) => self.pnp(Pnp::QueryStop)?,
            ("stop", []) => self.pnp(Pnp::Stop)?,
            ("cancelstop", []) => self.pnp(Pnp::CancelStop)?,
            ("queryremove", []) => self.pnp(Pnp::QueryRemove)?,
            ("cancelremove", []) => self.pnp(Pnp::CancelRemove)?,
            ("surprise", []) => self.pnp(Pnp::SurpriseRemoval)?,
            ("remove", []) => self.pnp(Pnp::Remove)?,
            ("usage", [_, _]) => self.pnp(Pnp::DeviceUsage)?,
            ("power", [state, query @ ..]) => self.power(state, !query.is_empty())?,
            ("wmi", []) => self.pass(0x17)?,
            ("create", []) => self.pass(0x00)?,
            ("cleanup", []) => self.pass(0x12)?,
            ("close", []) => self.pass(0x02)?,
            ("irp", [code, ..]) => self.pass(u8::try_from(number(code)?).unwrap_or(u8::MAX))?,
            ("lower", _) => return self.lower.add_rule(rest),
            ("nolower", []) => lock(&self.lower.rules).clear(),
            ("release", []) => self.lower.release(),
            ("failall", [how_many]) => self.fail_allocations(number(how_many)? != 0),
            ("ioctl", _) => return self.ioctl(rest),
            ("cancel", [name, level @ ..]) => self.cancel(name, !level.is_empty()),
            ("join", []) => return self.join(),
            ("advance", [milliseconds]) => sleep(number(milliseconds)?),
            ("wait", [name]) => drop(self.call(name)?.0.wait()),
            ("expect", [name, statuses @ ..]) => return self.expect(name, statuses),
            ("pending", [name]) => return self.is_pending(name),
            ("took", [name, least, most]) => return self.took(name, number(least)?, number(most)?),
            ("sends", [how_many, of @ ..]) => return self.sends(number(how_many)?, of),
            ("unload", []) => return self.unload(),
            _ => return Err("no such command".into()),
        }
        Ok(())
    }

    fn set(&self, name: &str, value: u32) {
        lock(&self.values).push((name.into(), value));
        self.write_values();
    }

    fn set_type(&self, kind: u64, length: u64) {
        let kind = u32::try_from(kind).unwrap_or(u32::MAX);
        *lock(&self.kind) = (kind, usize::try_from(length).unwrap_or(0));
        self.write_values();
    }

    /// Every value in every key that the driver opens, of the type and length that are asked for.
    fn write_values(&self) {
        const REG_DWORD: u32 = 4;
        let (kind, length) = *lock(&self.kind);
        for (name, value) in &*lock(&self.values) {
            let mut data = value.to_le_bytes().to_vec();
            data.resize(length, 0);
            let value = match kind {
                REG_DWORD => Value::Dword(data),
                _ => Value::Other(data),
            };
            let parameters = format!("{SERVICE_KEY}\\{PARAMETERS}");
            for key in [parameters.as_str(), HARDWARE_KEY, DISK_KEY] {
                self.hive.set(key, name, value.clone());
            }
        }
    }

    fn load(&self) -> Result<(), String> {
        let node = Node::load_bytes(&self.world, "A", &self.file, &self.bytes, self.hive.clone());
        *lock(&self.node) = Some(Arc::new(node.map_err(|error| error.to_string())?));
        Ok(())
    }

    fn add(&self) -> Result<(), String> {
        let (device, keys) = (
            self.lower.device,
            DiskKeys {
                hardware_key: HARDWARE_KEY.into(),
                ..DiskKeys::default()
            },
        );
        let node = self.node()?;
        let added = node.framework().add_device(device, device, &keys);
        added.map(drop).map_err(|status| format!("{status:#010x}"))
    }

    fn send(&self, call: &Call, note: impl FnOnce(&Arc<Pending>)) -> Result<Arc<Pending>, String> {
        let top = io::top_of(self.lower.device);
        Ok(self.node()?.start_at(top, call, note))
    }

    fn pnp(&self, minor: Pnp) -> Result<(), String> {
        let call = Call::major(major::IRP_MJ_PNP as u8, minor as u8);
        let end = self.send(&call, |_| {})?.wait().status;
        if status::is_success(end) {
            return Ok(());
        }
        Err(format!("{minor:?} ends {end:#010x}"))
    }

    fn power(&self, state: &str, query: bool) -> Result<(), String> {
        const QUERY_POWER: u8 = 3;
        const SET_POWER: u8 = 2;
        let (kind, level) = match state {
            "D0" => (1, 1),
            "D3" => (1, 4),
            "S0" => (0, 1),
            "S3" => (0, 4),
            _ => return Err(format!("{state:?} is no power state")),
        };
        let minor = if query { QUERY_POWER } else { SET_POWER };
        let call = Call {
            ioctl: level,
            input_length: Some(kind),
            ..Call::major(major::IRP_MJ_POWER as u8, minor)
        };
        self.send(&call, |_| {})?.wait();
        Ok(())
    }

    /// A request that the filter has no business with: it reaches the port.
    fn pass(&self, code: u8) -> Result<(), String> {
        let before = self.lower.arrived.load(Ordering::Relaxed);
        self.send(&Call::major(code, 0), |_| {})?.wait();
        if self.lower.arrived.load(Ordering::Relaxed) == before + 1 {
            return Ok(());
        }
        Err("it does not reach the port".into())
    }

    fn fail_allocations(&self, all: bool) {
        let mut faults = self.world.faults();
        faults.fail_allocation = all.then_some(faults.allocations.len());
        faults.fail_all_after = all;
    }

    fn ioctl(&self, words: &[&str]) -> Result<(), String> {
        let [code, rest @ ..] = words else {
            return Err("no control code".into());
        };
        let has = |word| rest.contains(&word);
        let mut call = Call::ioctl(u32::try_from(number(code)?).unwrap_or(0));
        call.input = option(rest, "in").map_or(Ok(Vec::new()), hex)?;
        let output = option(rest, "out").map_or(Ok(0), number)?;
        call.output_length = u32::try_from(output).unwrap_or(0);
        if has("dpc") {
            call.irql = irql::DISPATCH;
        }
        if has("user") {
            call.caller = Caller::User64;
        }
        if has("internal") {
            call.major = 15; // IRP_MJ_INTERNAL_DEVICE_CONTROL
        }
        let name = option(rest, "name").map(str::to_owned);
        let note = |pending: &Arc<Pending>| {
            if let Some(name) = name {
                lock(&self.calls).insert(name, (Arc::clone(pending), self.world.now()));
            }
        };
        let pending = self.send(&call, note)?;
        if !has("nowait") {
            pending.wait();
        }
        Ok(())
    }

    fn call(&self, name: &str) -> Result<(Arc<Pending>, u64), String> {
        let calls = lock(&self.calls);
        calls
            .get(name)
            .cloned()
            .ok_or_else(|| format!("no request {name:?}"))
    }

    /// A request that was not sent yet can't be cancelled.
    fn cancel(&self, name: &str, at_dispatch: bool) {
        let Ok((call, _)) = self.call(name) else {
            return;
        };
        let level = if at_dispatch {
            irql::DISPATCH
        } else {
            irql::PASSIVE
        };
        let thread = world::current();
        thread.at_irql(level, "IoCancelIrp", || call.cancel());
    }

    fn join(&self) -> Result<(), String> {
        let idle = || self.background.load(Ordering::Relaxed) == 0;
        world::current().wait(self.key(), idle);
        let found = std::mem::take(&mut *lock(&self.found));
        if found.is_empty() {
            return Ok(());
        }
        Err(found.join("; "))
    }

    fn expect(&self, name: &str, statuses: &[&str]) -> Result<(), String> {
        world::current().settle();
        let (call, _) = self.call(name)?;
        let Some(end) = call.done() else {
            return Err("it is not complete".into());
        };
        for word in statuses {
            if status_of(word)? == end.status {
                return Ok(());
            }
        }
        Err(format!("it ends {:#010x}", end.status))
    }

    fn is_pending(&self, name: &str) -> Result<(), String> {
        world::current().settle();
        let (call, _) = self.call(name)?;
        call.done()
            .map_or(Ok(()), |end| Err(format!("it ends {:#010x}", end.status)))
    }

    fn took(&self, name: &str, least: u64, most: u64) -> Result<(), String> {
        let (call, began) = self.call(name)?;
        let Some(ended) = call.ended() else {
            return Err("it is not complete".into());
        };
        let took = (ended - began) / MS;
        if (least..=most).contains(&took) {
            return Ok(());
        }
        Err(format!("it took {took} ms"))
    }

    fn sends(&self, how_many: u64, of: &[&str]) -> Result<(), String> {
        world::current().settle();
        let seen = std::mem::take(&mut *lock(&self.lower.seen));
        let wanted = of.first().map(|word| number(word)).transpose()?;
        let counts = |code: &&u8| wanted.is_none_or(|wanted| u64::from(**code) == wanted);
        if seen.iter().filter(counts).count() as u64 == how_many {
            return Ok(());
        }
        Err(format!("{seen:02x?} were sent"))
    }

    fn unload(&self) -> Result<(), String> {
        let calls: Vec<_> = lock(&self.calls).drain().collect();
        for (_, (call, _)) in calls {
            call.wait();
        }
        world::current().settle();
        let node = lock(&self.node).take().and_then(Arc::into_inner);
        node.ok_or("a request is not complete")?.unload();
        Ok(())
    }
}

/// Lets time go on.
fn sleep(milliseconds: u64) {
    let thread = world::current();
    let over = Arc::new(AtomicUsize::new(0));
    let key = Arc::as_ptr(&over) as usize;
    let (world, told) = (Arc::clone(&thread.world), Arc::clone(&over));
    let due = world.now() + milliseconds * MS;
    let job = move || {
        told.store(1, Ordering::Relaxed);
        world.wake(key);
    };
    thread
        .world
        .set_timer(due, "script", irql::PASSIVE, Box::new(job));
    thread.wait(key, || over.load(Ordering::Relaxed) == 1);
}

/// When a rule's request ends; times in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum How {
    Sync,
    PendSync,
    Delay(u64),
    Slow(u64),
    Block(u64),
    Hang,
    Late(u64),
    HangForever,
}

#[derive(Clone, Debug)]
struct Answer {
    /// None: any.
    code: Option<u32>,
    how: How,
    status: Status,
    scsi: Option<u8>,
    sense: Vec<u8>,
    information: Option<usize>,
    cdb: Option<u8>,
    count: Option<u64>,
}

impl Answer {
    fn parse(words: &[&str]) -> Result<Self, String> {
        let [code, how, rest @ ..] = words else {
            return Err("a rule has a code and a way".into());
        };
        let (name, time) = how.split_once('=').unwrap_or((how, "0"));
        let time = number(time)?;
        let how = match name {
            "sync" => How::Sync,
            "pendsync" => How::PendSync,
            "delay" => How::Delay(time),
            "slow" => How::Slow(time),
            "block" => How::Block(time),
            "hang" => How::Hang,
            "late" => How::Late(time),
            "hangforever" => How::HangForever,
            _ => return Err(format!("{name:?} is no way to answer")),
        };
        let byte = |name| {
            let value = option(rest, name).map(number).transpose()?;
            Ok::<_, String>(value.map(|value| u8::try_from(value).unwrap_or(u8::MAX)))
        };
        let length = option(rest, "info").map(number).transpose()?;
        Ok(Self {
            code: if *code == "any" {
                None
            } else {
                Some(u32::try_from(number(code)?).unwrap_or(0))
            },
            how,
            status: option(rest, "status").map_or(Ok(status::SUCCESS), status_of)?,
            scsi: byte("scsi")?,
            sense: option(rest, "sense").map_or(Ok(Vec::new()), hex)?,
            information: length.map(|length| usize::try_from(length).unwrap_or(usize::MAX)),
            cdb: byte("cdb")?,
            count: option(rest, "count").map(number).transpose()?,
        })
    }

    fn refusal() -> Self {
        Self {
            code: None,
            how: How::Sync,
            status: status::INVALID_DEVICE_REQUEST,
            scsi: None,
            sense: Vec::new(),
            information: Some(0),
            cdb: None,
            count: None,
        }
    }

    fn is_cancelable(&self) -> bool {
        matches!(self.how, How::Delay(_) | How::Hang | How::Late(_))
    }
}

/// The port that a script describes.
struct Lower {
    driver: *mut DRIVER_OBJECT,
    device: *mut DEVICE_OBJECT,
    world: Arc<World>,
    rules: Mutex<Vec<Answer>>,
    /// What is out, with the number of its arrival.
    out: Mutex<HashMap<usize, (usize, Answer)>>,
    arrived: AtomicUsize,
    seen: Mutex<Vec<u8>>,
}

// SAFETY: the addresses are its own objects, used as Windows would.
unsafe impl Send for Lower {}
// SAFETY: as above.
unsafe impl Sync for Lower {}

impl Lower {
    fn new(world: &Arc<World>) -> Arc<Self> {
        Arc::new_cyclic(|me: &Weak<Self>| {
            let driver = io::create_driver("a script's port", dispatch);
            let extension = me.as_ptr().cast_mut().cast();
            Self {
                driver,
                device: io::create_device("a script's port", driver, extension),
                world: Arc::clone(world),
                rules: Mutex::default(),
                out: Mutex::default(),
                arrived: AtomicUsize::new(0),
                seen: Mutex::default(),
            }
        })
    }

    /// The newest rule comes first, or with `then` last.
    fn add_rule(&self, words: &[&str]) -> Result<(), String> {
        let rule = Answer::parse(words)?;
        let mut rules = lock(&self.rules);
        let place = if words.contains(&"then") {
            rules.len()
        } else {
            0
        };
        rules.insert(place, rule);
        Ok(())
    }

    /// The rule for a request; it is used up when its count is.
    fn rule(&self, code: u32, cdb: Option<u8>) -> Answer {
        let mut rules = lock(&self.rules);
        let fits = |rule: &Answer| {
            rule.code.is_none_or(|wanted| wanted == code)
                && (rule.cdb.is_none() || rule.cdb == cdb)
                && rule.count != Some(0)
        };
        let Some(place) = rules.iter().position(fits) else {
            return Answer::refusal();
        };
        if let Some(count) = &mut rules[place].count {
            *count -= 1;
        }
        rules[place].clone()
    }

    fn dispatch(self: &Arc<Self>, irp: *mut IRP) -> Status {
        let location = io::current_location(irp);
        // SAFETY: a live IRP in this device's location.
        let (code, minor) = unsafe { ((*location).MajorFunction, (*location).MinorFunction) };
        if [major::IRP_MJ_PNP, major::IRP_MJ_POWER].contains(&u32::from(code)) {
            return finish(irp, status::SUCCESS, 0);
        }
        let number = self.arrived.fetch_add(1, Ordering::Relaxed) + 1;
        // SAFETY: the parameters of a device control.
        let control = unsafe { (*io::ioctl_parameters(location)).IoControlCode };
        let is_control = [14, 15].contains(&code);
        let control = if is_control { control } else { 0 };
        let own = control == IOCTL_SCSI_PASS_THROUGH && !io::is_callers(irp);
        let cdb = own.then(|| {
            let (request, _) = check_form(irp, minor);
            self.expect_alone();
            lock(&self.seen).push(request.Cdb[0]);
            request.Cdb[0]
        });
        let answer = self.rule(control, cdb);
        match answer.how {
            How::Sync => return complete(irp, &answer),
            How::Block(time) => {
                sleep(time);
                return complete(irp, &answer);
            }
            How::PendSync => {
                io::mark_pending(irp);
                complete(irp, &answer);
                return status::PENDING;
            }
            How::Delay(_) | How::Slow(_) | How::Hang | How::Late(_) | How::HangForever => {}
        }
        io::mark_pending(irp);
        lock(&self.out).insert(irp as usize, (number, answer.clone()));
        if let How::Delay(time) | How::Slow(time) = answer.how {
            let (lower, irp) = (Arc::clone(self), irp as usize);
            let due = self.world.now() + time * MS;
            let job = Box::new(move || lower.end(irp, number));
            self.world
                .set_timer(due, "script's port", irql::DISPATCH, job);
        }
        if answer.is_cancelable() {
            io::set_cancel_routine(irp, Some(cancelled));
            if io::is_cancelled(irp) && io::set_cancel_routine(irp, None) {
                self.cancelled(irp);
            }
        }
        status::PENDING
    }

    /// One pass-through is out at a time.
    fn expect_alone(&self) {
        let own = |&irp: &usize| !io::is_callers(irp as *mut IRP);
        if lock(&self.out).keys().any(own) {
            rules::broken(&rules::SENT_TOUCHED, "two pass-throughs are out");
        }
    }

    /// The time of a request has come, unless a cancel was first.
    fn end(&self, irp: usize, number: usize) {
        world::current().point();
        let answer = {
            let mut out = lock(&self.out);
            let Some((_, answer)) = out.get(&irp).filter(|(of, _)| *of == number).cloned() else {
                return;
            };
            if answer.is_cancelable() && !io::set_cancel_routine(irp as *mut IRP, None) {
                return;
            }
            out.remove(&irp);
            answer
        };
        complete(irp as *mut IRP, &answer);
    }

    fn cancelled(self: &Arc<Self>, irp: *mut IRP) {
        let Some((_, answer)) = lock(&self.out).remove(&(irp as usize)) else {
            return;
        };
        let How::Late(time) = answer.how else {
            finish(irp, status::CANCELLED, 0);
            return;
        };
        let (address, due) = (irp as usize, self.world.now() + time * MS);
        let job = Box::new(move || {
            finish(address as *mut IRP, status::CANCELLED, 0);
        });
        self.world
            .set_timer(due, "script's port", irql::DISPATCH, job);
    }

    /// Ends all that hang.
    fn release(&self) {
        let hangs = |(irp, (number, answer)): (&usize, &(usize, Answer))| {
            matches!(answer.how, How::Hang | How::HangForever).then_some((*irp, *number))
        };
        let hanging: Vec<_> = lock(&self.out).iter().filter_map(hangs).collect();
        let thread = world::current();
        for (irp, number) in hanging {
            thread.at_irql(irql::DISPATCH, "the port's DPC", || self.end(irp, number));
        }
    }
}

impl Drop for Lower {
    fn drop(&mut self) {
        pool::free(self.device.cast());
        pool::free(self.driver.cast());
    }
}

/// Ends a request as its rule says; SCSI status and sense are written where the output reaches.
fn complete(irp: *mut IRP, answer: &Answer) -> Status {
    const STRUCTURE: usize = size_of::<SCSI_PASS_THROUGH>();
    // SAFETY: a live IRP in this device's location.
    let output = unsafe { (*io::ioctl_parameters(io::current_location(irp))).OutputBufferLength };
    // SAFETY: as above.
    let buffer = unsafe { (*irp).AssociatedIrp.SystemBuffer.cast::<u8>() };
    let output = if buffer.is_null() { 0 } else { output as usize };
    let whole = if status::is_success(answer.status) {
        output
    } else {
        0
    };
    if let Some(scsi) = answer.scsi
        && output >= STRUCTURE
    {
        // SAFETY: the buffer holds the structure, and what the script has behind it.
        unsafe {
            let structure = &mut *buffer.cast::<SCSI_PASS_THROUGH>();
            structure.ScsiStatus = scsi;
            let room = output - STRUCTURE;
            let length = answer
                .sense
                .len()
                .min(room)
                .min(usize::from(structure.SenseInfoLength));
            let place = buffer.add(structure.SenseInfoOffset as usize);
            std::ptr::copy_nonoverlapping(answer.sense.as_ptr(), place, length);
        }
    }
    finish(
        irp,
        answer.status,
        answer.information.unwrap_or(whole).min(output),
    )
}

fn lower_of(device: *mut DEVICE_OBJECT) -> Arc<Lower> {
    // SAFETY: the extension is the `Lower`, which outlives its device.
    unsafe {
        let lower = (*device).DeviceExtension.cast::<Lower>().cast_const();
        Arc::increment_strong_count(lower);
        Arc::from_raw(lower)
    }
}

unsafe extern "win64" fn dispatch(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    lower_of(device).dispatch(irp)
}

unsafe extern "win64" fn cancelled(device: *mut DEVICE_OBJECT, irp: *mut IRP) {
    lower_of(device).cancelled(irp);
}
