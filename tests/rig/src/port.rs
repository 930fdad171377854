//! A port driver: the device at the bottom of a disk's stack. It checks a SCSI pass-through as the port drivers do,
//! has a disk execute it, and answers in the shape that its [`Kind`] gives; and so with an SRB, which must come exactly as
//! it was sent. Everything else that reaches it is foreign to the filter, and must come exactly as the caller sent it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::abi::{
    DEVICE_OBJECT, DRIVER_OBJECT, IOCTL_SCSI_PASS_THROUGH, IRP, SCSI_PASS_THROUGH,
    SCSI_PASS_THROUGH32, Status, irql, major, status,
};
use crate::disk::logical_unit::LogicalUnit;
use crate::disk::{Data, Disk, Outcome, TaskManagement};
use crate::srb::{self, Srb, Transfer, srb_status};
use crate::world::{self, World};
use crate::{io, pool, rules};

/// IRP_MN_SCSI_CLASS: the pass-through comes through the class driver's stack.
pub const SCSI_CLASS: u8 = 1;
/// IOCTL_SCSI_GET_ADDRESS (ntddscsi.h): what the port itself answers, as an example of a foreign control.
pub const IOCTL_SCSI_GET_ADDRESS: u32 = 0x0004_1018;
const SPT: usize = size_of::<SCSI_PASS_THROUGH>();
const SPT32: usize = size_of::<SCSI_PASS_THROUGH32>();

/// What the port gives back for a pass-through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The target's answer, in the shape of this kind of port.
    Target(Outcome),
    /// These values, whatever any port would do.
    Raw {
        /// NTSTATUS of the IRP.
        status: Status,
        /// Information of the IRP.
        information: usize,
        /// ScsiStatus to write into the structure, if any.
        scsi_status: Option<u8>,
        /// Sense bytes to write behind it.
        sense: Vec<u8>,
    },
    /// These values of an SRB and its IRP. For a pass-through, which has no SrbStatus, the others.
    Srb {
        /// SrbStatus, with the bits beside it.
        srb_status: u8,
        /// ScsiStatus.
        scsi_status: u8,
        /// Sense bytes for the SRB's buffer.
        sense: Vec<u8>,
        /// NTSTATUS of the IRP.
        status: Status,
        /// Information of the IRP.
        information: usize,
    },
}

impl Answer {
    /// An SRB's end with these words, the NTSTATUS that goes with them, and no data.
    pub fn srb(srb_status: u8, scsi_status: u8, sense: &[u8]) -> Self {
        Self::Srb {
            srb_status,
            scsi_status,
            sense: sense.into(),
            status: srb::status_beside(srb_status),
            information: 0,
        }
    }
}

/// The port drivers that the rig has by name; [`Port::act_as`] makes a port one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As storport: asynchronous, STATUS_SUCCESS whatever the target's status.
    Storport,
    /// As scsiport: synchronous at PASSIVE_LEVEL, an error NTSTATUS beside ScsiStatus and sense.
    Scsiport,
    /// As a USB storage port: asynchronous, an error NTSTATUS beside ScsiStatus and sense; refuses what bypasses the class
    /// driver on a device that this has claimed; gives the structure back for a command that never reached the target.
    Usb,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Storport, Self::Scsiport, Self::Usb];
}

/// How a kind of port puts an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Storport's: STATUS_SUCCESS, and the target's status in ScsiStatus.
    Success,
    /// Scsiport's: an error NTSTATUS beside a ScsiStatus that is not GOOD.
    Error,
}

/// When a pass-through ends, seen from the thread that sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// Later, on another thread, at DISPATCH_LEVEL: a miniport's DPC.
    Later,
    /// As `Later`, a second after it came.
    Slow,
    /// Before the dispatch routine returns, at PASSIVE_LEVEL.
    Inline,
    /// Not by itself: when it is cancelled, or by [`Port::release`]. An SRB when its time is over, with SRB_STATUS_TIMEOUT.
    Never,
}

/// What a port does about a cancel of a pass-through that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// Ends it with STATUS_CANCELLED in the cancel routine.
    Honoured,
    /// Ends it with STATUS_CANCELLED on another thread, some time after.
    Late,
    /// Has no cancel routine.
    Ignored,
}

/// How a command came to the port, with the minor function of its IRP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// IOCTL_SCSI_PASS_THROUGH.
    PassThrough(u8),
    /// IRP_MJ_SCSI.
    Srb(u8),
    /// IRP_MJ_SCSI, an SRB of this SRB_FUNCTION_*, which is not to execute a command.
    Function(u32),
}

/// One command as the port saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// How it came.
    pub via: Via,
    /// The command.
    pub cdb: Vec<u8>,
    /// TimeOutValue, in seconds.
    pub timeout: u32,
    /// What it was answered.
    pub answer: Answer,
    /// A driver in between waits for its end, in a stack location of its own.
    pub watched: bool,
}

impl Seen {
    /// The target's status byte, where it gave one.
    pub fn scsi_status(&self) -> Option<u8> {
        match &self.answer {
            Answer::Target(Outcome::Status { status, .. }) => Some(*status),
            Answer::Target(_) => None,
            Answer::Raw { scsi_status, .. } => *scsi_status,
            Answer::Srb { scsi_status, .. } => Some(*scsi_status),
        }
    }
}

/// A port with one disk.
pub struct Port {
    world: Arc<World>,
    driver: *mut DRIVER_OBJECT,
    device: *mut DEVICE_OBJECT,
    /// The nexus to the disk.
    pub disk: Arc<dyn Disk>,
    state: Mutex<State>,
}

/// A pass-through that is out.
#[derive(Clone, Copy)]
struct Out {
    /// The number of its send: an IRP comes again and again.
    send: u64,
    request: SCSI_PASS_THROUGH,
    room: usize,
    cancelable: bool,
}

/// An SRB that is out.
#[derive(Clone, Copy)]
struct SrbOut {
    send: u64,
    srb: Srb,
    minor: u8,
    watched: bool,
}

// SAFETY: the block is its sender's, which leaves it alone while the port has it.
unsafe impl Send for SrbOut {}

struct State {
    kind: Kind,
    shape: Shape,
    timing: Timing,
    cancel: Cancel,
    /// The pass-throughs that are out.
    out: HashMap<usize, Out>,
    srbs: HashMap<usize, SrbOut>,
    sends: u64,
    /// Pass-throughs that came without a cancel asked for on their way.
    wanted: u64,
    /// Operation codes of the commands that were answered with proof.
    proven: Vec<u8>,
    claimed: bool,
    script: VecDeque<Answer>,
    repeated: Option<Answer>,
    seen: Vec<Seen>,
    happened: u64,
    foreign: Vec<(u8, u8, u32)>,
    pnp: Vec<(u8, u8)>,
}

// SAFETY: the addresses are the port's own objects, used as Windows would.
unsafe impl Send for Port {}
// SAFETY: as above.
unsafe impl Sync for Port {}

impl Port {
    /// A port of `node` for this disk.
    pub fn new(node: &str, world: &Arc<World>, disk: Arc<dyn Disk>) -> Arc<Self> {
        Arc::new_cyclic(|me: &std::sync::Weak<Self>| {
            // Not the node's: they are no leak of the driver's.
            let node = &format!("the port below {node}");
            let driver = io::create_driver(node, dispatch);
            let device = io::create_device(node, driver, me.as_ptr().cast_mut().cast());
            // SAFETY: the device was just made. FILE_DEVICE_DISK, DO_DIRECT_IO and an alignment as a storage port has.
            unsafe {
                (*device).DeviceType = 7;
                (*device).Flags = 0x10;
                (*device).AlignmentRequirement = 3;
            }
            Self {
                world: Arc::clone(world),
                driver,
                device,
                disk,
                state: Mutex::new(State {
                    kind: Kind::Storport,
                    shape: Shape::Success,
                    timing: Timing::Later,
                    cancel: Cancel::Honoured,
                    out: HashMap::new(),
                    srbs: HashMap::new(),
                    sends: 0,
                    wanted: 0,
                    proven: Vec::new(),
                    claimed: true,
                    script: VecDeque::new(),
                    repeated: None,
                    seen: Vec::new(),
                    happened: 0,
                    foreign: Vec::new(),
                    pnp: Vec::new(),
                }),
            }
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its device, the bottom of the stack.
    pub fn device(&self) -> *mut DEVICE_OBJECT {
        self.device
    }

    /// What kind of port it is from now on. A new one is [`Kind::Storport`].
    pub fn act_as(&self, kind: Kind) {
        let (shape, timing) = match kind {
            Kind::Storport => (Shape::Success, Timing::Later),
            Kind::Scsiport => (Shape::Error, Timing::Inline),
            Kind::Usb => (Shape::Error, Timing::Later),
        };
        let mut state = self.state();
        (state.kind, state.shape, state.timing) = (kind, shape, timing);
    }

    /// Whether a class driver has claimed the device from now on, as disk.sys does: a new port's is.
    pub fn claim(&self, claimed: bool) {
        self.state().claimed = claimed;
    }

    /// How it answers from now on, whatever its kind.
    pub fn behave(&self, shape: Shape, timing: Timing) {
        let mut state = self.state();
        (state.shape, state.timing) = (shape, timing);
    }

    /// What it does about a cancel from now on.
    pub fn on_cancel(&self, cancel: Cancel) {
        self.state().cancel = cancel;
    }

    /// How many pass-throughs have come that nobody had asked to cancel before.
    pub fn wanted(&self) -> u64 {
        self.state().wanted
    }

    /// Operation codes of the commands whose GOOD was given back since the last call of this: one that was executed and
    /// then cancelled is not among them.
    pub fn take_proven(&self) -> Vec<u8> {
        std::mem::take(&mut self.state().proven)
    }

    /// How many pass-throughs are out.
    pub fn outstanding(&self) -> usize {
        self.state().out.len()
    }

    /// How many SRBs are out.
    pub fn srbs_out(&self) -> usize {
        self.state().srbs.len()
    }

    /// What is out: the IRPs, and the number of each send.
    fn all_out(&self) -> Vec<(usize, u64)> {
        let state = self.state();
        let out = state.out.iter().map(|(&irp, out)| (irp, out.send));
        let srbs = state.srbs.iter().map(|(&irp, out)| (irp, out.send));
        let mut all: Vec<_> = out.chain(srbs).collect();
        all.sort_unstable_by_key(|&(_, send)| send);
        all
    }

    /// Ends all that is out, in the order in which it came, as if its time had come.
    pub fn release(self: &Arc<Self>) {
        for (irp, send) in self.all_out() {
            self.finish_later(irp, send);
        }
    }

    /// As [`Port::release`], at once and on the calling thread.
    pub fn finish_all(&self) {
        for (irp, send) in self.all_out() {
            self.run(irp, send);
        }
    }

    /// Ends one of those that are out, by its place in the order in which they came, at once and on the calling thread.
    pub fn finish_one(&self, which: usize) {
        let (irp, send) = self.all_out()[which];
        self.run(irp, send);
    }

    /// The commands since the last call of [`Port::take_seen`], and how much has happened: commands that came, and that were
    /// executed.
    pub fn seen_so_far(&self) -> (Vec<Seen>, u64) {
        let state = self.state();
        (state.seen.clone(), state.happened)
    }

    /// Answers to give before the disk is asked again.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state().script.extend(answers);
    }

    /// The answer to give, when those of [`Port::script`] are spent, instead of asking the disk.
    pub fn repeat(&self, answer: Option<Answer>) {
        self.state().repeated = answer;
    }

    /// Forgets the answers that [`Port::script`] gave and nobody asked for.
    pub fn forget_script(&self) {
        self.state().script.clear();
    }

    /// The commands since the last call of this.
    pub fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state().seen)
    }

    /// What else has reached it since the last call of this: major and minor function, control code.
    pub fn take_foreign(&self) -> Vec<(u8, u8, u32)> {
        std::mem::take(&mut self.state().foreign)
    }

    /// Major and minor functions of the PnP and power requests since the last call of this.
    pub fn take_pnp(&self) -> Vec<(u8, u8)> {
        std::mem::take(&mut self.state().pnp)
    }

    fn dispatch(self: &Arc<Self>, irp: *mut IRP) -> Status {
        let location = io::current_location(irp);
        // SAFETY: a live IRP in this device's location.
        let (code, minor) = unsafe { ((*location).MajorFunction, (*location).MinorFunction) };
        // SAFETY: as above; the parameters of a device control.
        let parameters = unsafe { *io::ioctl_parameters(location) };
        let control = u32::from(code) == major::IRP_MJ_DEVICE_CONTROL;
        let pass_through = control && parameters.IoControlCode == IOCTL_SCSI_PASS_THROUGH;
        // A caller's RESERVE that was turned into a pass-through is not foreign.
        let foreign = io::is_callers(irp) && !io::wants_information_zero(irp);
        if pass_through && !foreign {
            return self.pass_through(irp, minor);
        }
        if [major::IRP_MJ_PNP, major::IRP_MJ_POWER].contains(&u32::from(code)) {
            self.state().pnp.push((code, minor));
            return finish(irp, status::SUCCESS, 0);
        }
        // SAFETY: a live IRP in this device's location.
        let srb = Srb::at(unsafe { *io::srb_parameter(location) });
        // Other internal controls have the same major function.
        let is_srb = u32::from(code) == major::IRP_MJ_SCSI && io::has_srb(irp);
        if let Some(srb) = srb.filter(|_| is_srb) {
            return self.srb(irp, minor, srb);
        }
        io::check_foreign(irp);
        self.state().foreign.push((
            code,
            minor,
            if control { parameters.IoControlCode } else { 0 },
        ));
        if pass_through {
            return self.foreign_pass_through(irp, minor);
        }
        if control
            && parameters.IoControlCode == IOCTL_SCSI_GET_ADDRESS
            && parameters.OutputBufferLength >= 8
        {
            // SCSI_ADDRESS: Length 8, port 2, bus 0, target 1, unit 0.
            let address = [8_u8, 0, 0, 0, 2, 0, 1, 0];
            // SAFETY: the system buffer has the eight bytes that the caller asked for.
            unsafe {
                let buffer = (*irp).AssociatedIrp.SystemBuffer.cast::<u8>();
                std::ptr::copy_nonoverlapping(address.as_ptr(), buffer, address.len());
            }
            return finish(irp, status::SUCCESS, address.len());
        }
        let answer = if control {
            status::INVALID_DEVICE_REQUEST
        } else {
            status::SUCCESS
        };
        finish(irp, answer, 0)
    }

    fn pass_through(self: &Arc<Self>, irp: *mut IRP, minor: u8) -> Status {
        let (request, room) = check_form(irp, minor);
        let (timing, cancel) = {
            let mut state = self.state();
            state.wanted += u64::from(!io::is_cancelled(irp));
            state.happened += 1;
            (state.timing, state.cancel)
        };
        if timing == Timing::Inline {
            let answer = self.execute(Via::PassThrough(minor), &request);
            // It waits for the command in its caller's thread, and others run.
            world::current().point();
            let (status, information) = self.put(irp, room, &request, &answer);
            return finish(irp, status, information);
        }
        io::mark_pending(irp);
        let send = {
            let mut state = self.state();
            state.sends += 1;
            let send = state.sends;
            let cancelable = cancel != Cancel::Ignored;
            state.out.insert(
                irp as usize,
                Out {
                    send,
                    request,
                    room,
                    cancelable,
                },
            );
            send
        };
        if cancel != Cancel::Ignored {
            io::set_cancel_routine(irp, Some(cancel_pass_through));
            if io::is_cancelled(irp) && io::set_cancel_routine(irp, None) {
                self.cancelled(irp);
                return status::PENDING;
            }
        }
        match timing {
            Timing::Later => self.finish_later(irp as usize, send),
            Timing::Slow => self.finish_slowly(irp as usize, send),
            Timing::Inline | Timing::Never => {}
        }
        status::PENDING
    }

    /// An SRB: its life is that of a pass-through, but that no cancel ends it.
    fn srb(self: &Arc<Self>, irp: *mut IRP, minor: u8, srb: Srb) -> Status {
        let watched = io::check_sent(irp, &srb.image());
        let timing = {
            let mut state = self.state();
            state.happened += 1;
            state.timing
        };
        let mut out = SrbOut {
            send: 0,
            srb,
            minor,
            watched,
        };
        if timing == Timing::Inline {
            let answer = self.ask_srb(out);
            world::current().point();
            return self.put_srb(irp, out, &answer);
        }
        io::mark_pending(irp);
        let send = {
            let mut state = self.state();
            state.sends += 1;
            out.send = state.sends;
            state.srbs.insert(irp as usize, out);
            out.send
        };
        match timing {
            Timing::Later => self.finish_later(irp as usize, send),
            Timing::Slow => self.finish_slowly(irp as usize, send),
            Timing::Never => self.time_out(irp as usize, send, srb.timeout()),
            Timing::Inline => {}
        }
        status::PENDING
    }

    /// Ends an SRB that is still out when its time is over.
    fn time_out(self: &Arc<Self>, irp: usize, send: u64, seconds: u32) {
        const SECOND: u64 = 10_000_000;
        let port = Arc::clone(self);
        let due = self.world.now() + u64::from(seconds) * SECOND;
        let job = Box::new(move || {
            let out = port.take_srb(irp as *mut IRP, send);
            if let Some(out) = out {
                let end = || port.put_srb(irp as *mut IRP, out, &Answer::Target(Outcome::TimedOut));
                world::current().at_irql(irql::DISPATCH, "the port's DPC", end);
            }
        });
        self.world
            .set_timer(due, "port timeout", irql::PASSIVE, job);
    }

    /// Takes an SRB from those that are out, if it still is.
    fn take_srb(&self, irp: *mut IRP, send: u64) -> Option<SrbOut> {
        let mut state = self.state();
        let there = state.srbs.get(&(irp as usize));
        there.filter(|out| out.send == send)?;
        state.srbs.remove(&(irp as usize))
    }

    /// What becomes of an SRB.
    fn ask_srb(&self, out: SrbOut) -> Answer {
        let SrbOut {
            srb,
            minor,
            watched,
            ..
        } = out;
        let (function, cdb) = (srb.function(), srb.cdb());
        let via = if function == srb::function::EXECUTE_SCSI {
            Via::Srb(minor)
        } else {
            Via::Function(function)
        };
        let transfer = srb.transfer();
        let execute = || match function {
            srb::function::EXECUTE_SCSI => {
                let data = match &transfer {
                    Transfer::None => Data::None,
                    Transfer::In(room) => Data::In(*room),
                    Transfer::Out(bytes) => Data::Out(bytes),
                };
                let time = Duration::from_secs(srb.timeout().into());
                self.disk.transfer(&cdb, data, time)
            }
            srb::function::RESET_LOGICAL_UNIT => self.manage(TaskManagement::LogicalUnitReset),
            srb::function::RESET_DEVICE | srb::function::RESET_BUS => {
                self.manage(TaskManagement::TargetWarmReset)
            }
            _ => Outcome::good(Vec::new()),
        };
        self.answer(via, &cdb, srb.timeout(), watched, execute)
    }

    fn manage(&self, function: TaskManagement) -> Outcome {
        match self.disk.manage(function) {
            Ok(()) => Outcome::good(Vec::new()),
            Err(_) => Outcome::Gone,
        }
    }

    /// Writes an answer into an SRB, and completes its IRP.
    fn put_srb(&self, irp: *mut IRP, out: SrbOut, answer: &Answer) -> Status {
        let end = SrbEnd::of(answer, self.state().shape);
        let srb = out.srb;
        let (buffer, room) = srb.data();
        let length = match srb.transfer() {
            Transfer::In(_) => {
                let length = end.data.len().min(room);
                // SAFETY: the data buffer has that much room.
                unsafe { std::ptr::copy_nonoverlapping(end.data.as_ptr(), buffer, length) };
                length
            }
            _ if srb_status::of(end.srb_status) == srb_status::SUCCESS => room,
            _ => 0,
        };
        srb.set_data_length(length);
        if let Some(scsi_status) = end.scsi_status {
            srb.set_scsi_status(scsi_status);
        }
        if !end.sense.is_empty() {
            srb.set_sense(&end.sense);
        }
        srb.set_srb_status(end.srb_status);
        // SAFETY: the IRP is the port's until it is completed.
        unsafe {
            (*irp).IoStatus.Anonymous.Status = end.status;
            (*irp).IoStatus.Information = end.information.unwrap_or(length);
        }
        io::give_back(irp, srb.image());
        end.status
    }

    /// As [`Port::run`], of an SRB.
    fn run_srb(&self, irp: *mut IRP, send: u64) {
        let thread = world::current();
        let out = self.state().srbs.get(&(irp as usize)).copied();
        let Some(out) = out.filter(|out| out.send == send) else {
            return;
        };
        let answer = self.ask_srb(out);
        thread.point();
        // It may have been ended by somebody else meanwhile.
        if self.take_srb(irp, send).is_some() {
            let end = || self.put_srb(irp, out, &answer);
            thread.at_irql(irql::DISPATCH, "the port's DPC", end);
        }
    }

    /// A caller's own pass-through, which the filter lets pass: one that moves no data.
    fn foreign_pass_through(&self, irp: *mut IRP, minor: u8) -> Status {
        let bypasses = {
            let state = self.state();
            state.kind == Kind::Usb && state.claimed && minor != SCSI_CLASS
        };
        if bypasses {
            return finish(irp, status::INVALID_DEVICE_REQUEST, 0);
        }
        // SAFETY: a live IRP in this device's location.
        let parameters = unsafe { *io::ioctl_parameters(io::current_location(irp)) };
        let (input, room) = (
            parameters.InputBufferLength as usize,
            parameters.OutputBufferLength as usize,
        );
        let Some(request) = read_callers(irp, input.min(room)) else {
            return finish(irp, status::INVALID_PARAMETER, 0);
        };
        let sense_end = request.SenseInfoOffset as usize + usize::from(request.SenseInfoLength);
        if sense_end > room {
            return finish(irp, status::INVALID_PARAMETER, 0);
        }
        let answer = self.execute(Via::PassThrough(minor), &request);
        let (status, information) = self.put(irp, room, &request, &answer);
        finish(irp, status, information)
    }

    fn finish_later(self: &Arc<Self>, irp: usize, send: u64) {
        let port = Arc::clone(self);
        self.world
            .spawn("port", irql::PASSIVE, Box::new(move || port.run(irp, send)));
    }

    fn finish_slowly(self: &Arc<Self>, irp: usize, send: u64) {
        const SECOND: u64 = 10_000_000;
        let port = Arc::clone(self);
        let due = self.world.now() + SECOND;
        let job = Box::new(move || port.run(irp, send));
        self.world.set_timer(due, "slow port", irql::PASSIVE, job);
    }

    /// A miniport's life of one command: start, execute, complete in a DPC; unless a cancel was first.
    fn run(&self, irp: usize, send: u64) {
        let thread = world::current();
        let now = |state: &State| state.out.get(&irp).filter(|out| out.send == send).copied();
        let Some(out) = now(&self.state()) else {
            return self.run_srb(irp as *mut IRP, send);
        };
        let answer = self.execute(Via::PassThrough(SCSI_CLASS), &out.request);
        thread.point();
        let irp = irp as *mut IRP;
        {
            let mut state = self.state();
            // While it is in the table, `cancelled` has not completed it: it can be touched.
            if now(&state).is_none() || (out.cancelable && !io::set_cancel_routine(irp, None)) {
                return;
            }
            state.out.remove(&(irp as usize));
        }
        let (status, information) = self.put(irp, out.room, &out.request, &answer);
        thread.at_irql(irql::DISPATCH, "the port's DPC", || {
            finish(irp, status, information)
        });
    }

    fn cancelled(self: &Arc<Self>, irp: *mut IRP) {
        let late = self.state().cancel == Cancel::Late;
        self.state().out.remove(&(irp as usize));
        if !late {
            finish(irp, status::CANCELLED, 0);
            return;
        }
        let address = irp as usize;
        let job = move || {
            let thread = world::current();
            thread.point();
            let end = || finish(address as *mut IRP, status::CANCELLED, 0);
            thread.at_irql(irql::DISPATCH, "the port's DPC", end);
        };
        self.world
            .spawn("port, after a cancel", irql::PASSIVE, Box::new(job));
    }

    fn execute(&self, via: Via, request: &SCSI_PASS_THROUGH) -> Answer {
        let cdb = &request.Cdb[..usize::from(request.CdbLength).min(request.Cdb.len())];
        self.ask(via, cdb, request.TimeOutValue)
    }

    fn ask(&self, via: Via, cdb: &[u8], timeout: u32) -> Answer {
        let execute = || self.disk.execute(cdb, Duration::from_secs(timeout.into()));
        self.answer(via, cdb, timeout, false, execute)
    }

    /// What is said to a command: what was put down for it, else what the disk says.
    fn answer(
        &self,
        via: Via,
        cdb: &[u8],
        timeout: u32,
        watched: bool,
        execute: impl FnOnce() -> Outcome,
    ) -> Answer {
        let said = {
            let mut state = self.state();
            state.script.pop_front().or_else(|| state.repeated.clone())
        };
        let answer = said.unwrap_or_else(|| Answer::Target(execute()));
        let seen = Seen {
            via,
            cdb: cdb.into(),
            timeout,
            answer: answer.clone(),
            watched,
        };
        let mut state = self.state();
        state.seen.push(seen);
        state.happened += 1;
        answer
    }

    /// Writes the answer into the caller's structure, whose layout `request` was read in; gives NTSTATUS and Information.
    fn put(
        &self,
        irp: *mut IRP,
        room: usize,
        request: &SCSI_PASS_THROUGH,
        answer: &Answer,
    ) -> (Status, usize) {
        let header = usize::from(request.Length);
        let (kind, shape) = {
            let state = self.state();
            (state.kind, state.shape)
        };
        // A command that never reached the target: GOOD is what the structure says then, if it comes back.
        let (unreached, zero) = match kind {
            Kind::Usb => (header, Some(0)),
            Kind::Storport | Kind::Scsiport => (0, None),
        };
        let (status, information, scsi_status, sense) = match answer {
            Answer::Raw {
                status,
                information,
                scsi_status,
                sense,
            } => (*status, *information, *scsi_status, &sense[..]),
            Answer::Target(Outcome::Status { status, sense, .. }) => {
                let nt = if shape == Shape::Success {
                    status::SUCCESS
                } else {
                    error_shape(*status)
                };
                let sent = sense.len().min(room - header);
                (nt, header + sent, Some(*status), &sense[..])
            }
            Answer::Srb {
                status,
                scsi_status,
                sense,
                ..
            } => {
                let sent = sense.len().min(room - header);
                (*status, header + sent, Some(*scsi_status), &sense[..])
            }
            Answer::Target(Outcome::TimedOut) => (status::IO_TIMEOUT, unreached, zero, &[][..]),
            Answer::Target(Outcome::Gone) => (status::NO_SUCH_DEVICE, unreached, zero, &[][..]),
        };
        // SAFETY: a live IRP; the system buffer has `room` bytes, of which the structure is the first `header`.
        let buffer = unsafe { (*irp).AssociatedIrp.SystemBuffer.cast::<u8>() };
        // SAFETY: as above; what is written below lies at the same place in both layouts.
        let structure = unsafe { &mut *buffer.cast::<SCSI_PASS_THROUGH32>() };
        if let Some(scsi_status) = scsi_status {
            structure.ScsiStatus = scsi_status;
        }
        if status::is_success(status) && information >= header && scsi_status == Some(0) {
            self.state().proven.push(request.Cdb[0]);
        }
        let length = sense
            .len()
            .min(room - header)
            .min(usize::from(request.SenseInfoLength));
        if scsi_status.is_some() {
            structure.SenseInfoLength = u8::try_from(length).unwrap_or(u8::MAX);
        }
        let at = request.SenseInfoOffset as usize;
        // SAFETY: `check_form` has seen that the sense area lies inside of the buffer.
        unsafe { std::ptr::copy_nonoverlapping(sense.as_ptr(), buffer.add(at), length) };
        (status, information)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        pool::free(self.device.cast());
        pool::free(self.driver.cast());
    }
}

/// Two paths of one node to one unit: an I_T nexus each, for a port each, so that a reservation made by one shuts the
/// other out (SPC-2 5.5.1).
pub fn two_paths(unit: &LogicalUnit, initiator: &str) -> [Arc<dyn Disk>; 2] {
    [(); 2].map(|()| Arc::new(unit.connect(initiator)) as Arc<dyn Disk>)
}

/// How an SRB ends.
struct SrbEnd {
    srb_status: u8,
    scsi_status: Option<u8>,
    sense: Vec<u8>,
    data: Vec<u8>,
    status: Status,
    /// `None`: as much data as was moved.
    information: Option<usize>,
}

impl SrbEnd {
    fn of(answer: &Answer, shape: Shape) -> Self {
        let plain = |srb_status| Self {
            srb_status,
            scsi_status: None,
            sense: Vec::new(),
            data: Vec::new(),
            status: srb::status_beside(srb_status),
            information: None,
        };
        match answer {
            Answer::Target(Outcome::Status {
                status: 0x00, data, ..
            }) => Self {
                scsi_status: Some(0x00),
                data: data.clone(),
                ..plain(srb_status::SUCCESS)
            },
            Answer::Target(Outcome::Status { status, sense, .. }) => Self {
                scsi_status: Some(*status),
                sense: sense.clone(),
                ..plain(Self::error(sense, shape))
            },
            Answer::Target(Outcome::TimedOut) => plain(srb_status::TIMEOUT),
            Answer::Target(Outcome::Gone) => plain(srb_status::NO_DEVICE),
            Answer::Srb {
                srb_status,
                scsi_status,
                sense,
                status,
                information,
            } => Self {
                scsi_status: Some(*scsi_status),
                sense: sense.clone(),
                status: *status,
                information: Some(*information),
                ..plain(*srb_status)
            },
            Answer::Raw {
                status,
                scsi_status,
                sense,
                ..
            } => {
                let srb_status = match (*status, scsi_status) {
                    (_, Some(1..)) => Self::error(sense, shape),
                    (0.., _) => srb_status::SUCCESS,
                    (status::IO_TIMEOUT, _) => srb_status::TIMEOUT,
                    (status::CANCELLED, _) => srb_status::ABORTED,
                    _ => srb_status::INTERNAL_ERROR,
                };
                Self {
                    scsi_status: *scsi_status,
                    sense: sense.clone(),
                    status: *status,
                    ..plain(srb_status)
                }
            }
        }
    }

    /// An error of the target's: scsiport sends nothing more until the class driver has looked at it.
    fn error(sense: &[u8], shape: Shape) -> u8 {
        let frozen = match shape {
            Shape::Success => 0,
            Shape::Error => srb_status::QUEUE_FROZEN,
        };
        let valid = if sense.is_empty() {
            0
        } else {
            srb_status::AUTOSENSE_VALID
        };
        srb_status::ERROR | frozen | valid
    }
}

/// The NTSTATUS that scsiport's shape puts beside a status byte.
fn error_shape(scsi_status: u8) -> Status {
    const DEVICE_BUSY: Status = 0x8000_0011_u32.cast_signed();
    match scsi_status {
        0x00 => status::SUCCESS,
        0x08 | 0x18 | 0x28 => DEVICE_BUSY,
        _ => status::IO_DEVICE_ERROR,
    }
}

pub(crate) fn finish(irp: *mut IRP, status: Status, information: usize) -> Status {
    // SAFETY: the IRP is the caller's until it is completed.
    unsafe {
        (*irp).IoStatus.Anonymous.Status = status;
        (*irp).IoStatus.Information = information;
    }
    io::complete_request(irp);
    status
}

/// Refuses a pass-through that a port driver, or design and documentation of SCSI_PASS_THROUGH, would not take.
pub(crate) fn check_form(irp: *mut IRP, minor: u8) -> (SCSI_PASS_THROUGH, usize) {
    let thread = world::current();
    if thread.irql() != irql::PASSIVE {
        rules::broken(
            &rules::PASS_THROUGH_IRQL,
            &format!("IRQL {}", thread.irql()),
        );
    }
    if io::is_callers(irp) {
        rules::broken(
            &rules::PASS_THROUGH_OWN,
            "the IRP is one that a caller sent to the stack",
        );
    }
    // SAFETY: a live IRP in this device's location.
    let parameters = unsafe { *io::ioctl_parameters(io::current_location(irp)) };
    let (input, output) = (
        parameters.InputBufferLength as usize,
        parameters.OutputBufferLength as usize,
    );
    if input < SPT || output != input {
        rules::broken(
            &rules::PASS_THROUGH_FORM,
            &format!("input {input} and output {output} bytes"),
        );
    }
    // SAFETY: the system buffer has at least the structure.
    let request = unsafe {
        (*irp)
            .AssociatedIrp
            .SystemBuffer
            .cast::<SCSI_PASS_THROUGH>()
            .read()
    };
    let sense_end = request.SenseInfoOffset as usize + usize::from(request.SenseInfoLength);
    // SAFETY: the system buffer has that many bytes.
    let sent = unsafe {
        let buffer = (*irp).AssociatedIrp.SystemBuffer.cast::<u8>();
        std::slice::from_raw_parts(buffer, input)
    };
    let checks = [
        (
            sent[SPT..].iter().all(|&byte| byte == 0),
            "nothing of an earlier answer goes down behind the structure",
        ),
        (minor == SCSI_CLASS, "MinorFunction is IRP_MN_SCSI_CLASS"),
        (usize::from(request.Length) == SPT, "Length is 56"),
        (
            request.ScsiStatus == 0xFF,
            "ScsiStatus is 0xFF before the send",
        ),
        (matches!(request.CdbLength, 6 | 10), "CdbLength is 6 or 10"),
        (
            request.Cdb[usize::from(request.CdbLength.min(16))..]
                .iter()
                .all(|&byte| byte == 0),
            "the CDB's tail is zero",
        ),
        (request.DataIn == 2, "DataIn is SCSI_IOCTL_DATA_UNSPECIFIED"),
        (request.DataTransferLength == 0, "no data"),
        (
            request.DataBufferOffset
                >= request.SenseInfoOffset as usize + usize::from(request.SenseInfoLength),
            "the data overlaps neither the structure nor the sense data",
        ),
        (
            request.SenseInfoLength >= 18,
            "SenseInfoLength is 18 or more",
        ),
        (
            request.SenseInfoOffset as usize == SPT && sense_end <= output,
            "the sense area lies behind the structure",
        ),
        (
            (1..=108_000).contains(&request.TimeOutValue),
            "TimeOutValue is 1 s to 30 hours",
        ),
        (
            request.PathId == 0 && request.TargetId == 0 && request.Lun == 0,
            "the address is left to the port",
        ),
    ];
    for (holds, asks) in checks {
        if !holds {
            rules::broken(&rules::PASS_THROUGH_FORM, &format!("not so: {asks}"));
        }
    }
    (request, output)
}

/// Reads a caller's structure in the layout that this caller has (classpnp class.c 7307; a port driver does likewise).
/// `None` if fewer bytes came, or its Length is not the layout's (IOCTL_SCSI_PASS_THROUGH's page: INVALID_PARAMETER).
fn read_callers(irp: *mut IRP, room: usize) -> Option<SCSI_PASS_THROUGH> {
    // SAFETY: a live IRP of METHOD_BUFFERED.
    let buffer = unsafe { (*irp).AssociatedIrp.SystemBuffer };
    if !io::is_32_bit_process(irp) {
        // SAFETY: the system buffer has `room` bytes.
        let read = || unsafe { buffer.cast::<SCSI_PASS_THROUGH>().read() };
        return (room >= SPT)
            .then(read)
            .filter(|request| usize::from(request.Length) == SPT);
    }
    // SAFETY: as above.
    let read = || unsafe { buffer.cast::<SCSI_PASS_THROUGH32>().read() };
    let narrow = (room >= SPT32)
        .then(read)
        .filter(|request| usize::from(request.Length) == SPT32)?;
    Some(SCSI_PASS_THROUGH {
        Length: narrow.Length,
        ScsiStatus: narrow.ScsiStatus,
        PathId: narrow.PathId,
        TargetId: narrow.TargetId,
        Lun: narrow.Lun,
        CdbLength: narrow.CdbLength,
        SenseInfoLength: narrow.SenseInfoLength,
        DataIn: narrow.DataIn,
        DataTransferLength: narrow.DataTransferLength,
        TimeOutValue: narrow.TimeOutValue,
        DataBufferOffset: narrow.DataBufferOffset as usize,
        SenseInfoOffset: narrow.SenseInfoOffset,
        Cdb: narrow.Cdb,
    })
}

/// The port's cancel routine.
unsafe extern "win64" fn cancel_pass_through(device: *mut DEVICE_OBJECT, irp: *mut IRP) {
    port_of(device).cancelled(irp);
}

fn port_of(device: *mut DEVICE_OBJECT) -> Arc<Port> {
    // SAFETY: the extension of the port's devices is the port, which outlives its device.
    unsafe {
        let port = (*device).DeviceExtension.cast::<Port>().cast_const();
        Arc::increment_strong_count(port);
        Arc::from_raw(port)
    }
}

/// The port's dispatch routine.
unsafe extern "win64" fn dispatch(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    let (port, thread) = (port_of(device), world::current());
    thread.at_irql(thread.irql(), "the port's dispatch routine", || {
        port.dispatch(irp)
    })
}
