//! A model of disk.sys, as far as the filter can tell it is there: what classpnp does with RESERVE, RELEASE, pass-throughs
//! and controls that it does not know. Line numbers are those of microsoft/Windows-driver-samples at 26a27df,
//! storage/class/classpnp/src/class.c; disk.sys hands all of these on to it (storage/class/disk/src/disk.c 1076).
//!
//! It is no model of the rest: no geometry, no cache of properties, no partitions. What it sends of its own, reads and
//! writes for example, a test has it send ([`Class::send`]).
//!
//! Each SRB's bytes and its IRP are compared: below with what was sent, and above with what the port gave back.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use scsi_reserve::{Cdb, Command};

use crate::abi::{
    DEVICE_OBJECT, DRIVER_OBJECT, IOCTL_SCSI_PASS_THROUGH, IRP, SCSI_PASS_THROUGH,
    SCSI_PASS_THROUGH32, Status, irql, major, status,
};
use crate::disk::{Disk, ILLEGAL_REQUEST, RESERVATION_CONFLICT, Sense};
use crate::fx::{DiskKeys, Pnp};
use crate::node::{Node, Stack};
use crate::port::{Port, SCSI_CLASS, finish};
use crate::srb::{Content, Form, RequestBlock, Transfer, function, srb_status};
use crate::{io, pool, world};

/// MAXIMUM_RETRIES (classpnp.h), which each RESERVE begins with (7144).
const MAXIMUM_RETRIES: u32 = 4;
/// A disk's TimeOutValue if the registry has none, in seconds.
const TIMEOUT: u32 = 60;

/// On which side of disk.sys the filter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Below: LowerFilters.
    Lower,
    /// Above: UpperFilters.
    Upper,
}

/// A disk's whole stack: port, disk.sys and the filter.
pub struct DiskStack {
    /// Port and filter.
    pub stack: Stack,
    /// disk.sys.
    pub class: Arc<Class>,
}

impl DiskStack {
    /// Plugs a disk into `node`, with the filter at `place`.
    ///
    /// # Errors
    /// As [`Node::plug`].
    pub fn plug(node: &Node, place: Place, disk: Arc<dyn Disk>) -> Result<Self, Status> {
        Self::plug_with(node, place, disk, &DiskKeys::default())
    }

    /// As [`DiskStack::plug`], with what the disk says of itself.
    ///
    /// # Errors
    /// As [`Node::plug`].
    pub fn plug_with(
        node: &Node,
        place: Place,
        disk: Arc<dyn Disk>,
        keys: &DiskKeys,
    ) -> Result<Self, Status> {
        let port = node.port(disk);
        let bottom = port.device();
        let (stack, class) = match place {
            Place::Lower => {
                let stack = node.attach(port, bottom, keys)?;
                let class = Class::attach(node.name(), stack.top());
                (stack, class)
            }
            Place::Upper => {
                let class = Class::attach(node.name(), bottom);
                (node.attach(port, class.device, keys)?, class)
            }
        };
        node.pnp(&stack, Pnp::Start);
        Ok(Self { stack, class })
    }

    /// Plugs a disk into `node` with two devices of the filter below disk.sys; the other one, which is the lower.
    ///
    /// # Errors
    /// As [`Node::plug`].
    pub fn plug_twice(node: &Node, disk: Arc<dyn Disk>) -> Result<(Self, Stack), Status> {
        let keys = DiskKeys::default();
        let port = node.port(disk);
        let bottom = port.device();
        let below = node.attach(Arc::clone(&port), bottom, &keys)?;
        let stack = node.attach(port, below.top(), &keys)?;
        let class = Class::attach(node.name(), stack.top());
        node.pnp(&stack, Pnp::Start);
        Ok((Self { stack, class }, below))
    }

    /// The device right below disk.sys.
    pub fn below_disk(&self) -> *mut DEVICE_OBJECT {
        self.class.lower
    }

    /// Removes the disk in an orderly way; gives what may still be on its way there.
    pub fn unplug(self, node: &Node) -> (Arc<Port>, Arc<Class>) {
        (node.unplug(self.stack), self.class)
    }
}

/// READ(10) of one block of 512 bytes.
pub fn read(block: u8) -> Content {
    Content {
        cdb: vec![0x28, 0, 0, 0, 0, block, 0, 0, 1, 0],
        data: Transfer::In(512),
        ..command(&[])
    }
}

/// WRITE(10) of one block of these 512 bytes.
pub fn write(block: u8, bytes: Vec<u8>) -> Content {
    Content {
        cdb: vec![0x2A, 0, 0, 0, 0, block, 0, 0, 1, 0],
        data: Transfer::Out(bytes),
        ..command(&[])
    }
}

/// PERSISTENT RESERVE OUT (SPC-4 6.16) with this service action, type and keys.
pub fn persistent_reserve_out(action: u8, kind: u8, key: u64, new_key: u64) -> Content {
    let list = [&key.to_be_bytes()[..], &new_key.to_be_bytes(), &[0; 8]].concat();
    Content {
        cdb: vec![0x5F, action, kind, 0, 0, 0, 0, 0, list.len() as u8, 0],
        data: Transfer::Out(list),
        ..command(&[])
    }
}

/// Any command that moves no data.
pub fn command(cdb: &[u8]) -> Content {
    Content {
        cdb: cdb.into(),
        ..other(function::EXECUTE_SCSI)
    }
}

/// An SRB of another function, without data.
pub fn other(function: u32) -> Content {
    Content {
        function,
        timeout: TIMEOUT,
        ..Content::default()
    }
}

/// How an SRB of disk.sys's own ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    /// SrbStatus.
    pub srb_status: u8,
    /// ScsiStatus.
    pub scsi_status: Option<u8>,
    /// The sense data that is valid.
    pub sense: Vec<u8>,
    /// The data buffer, as far as data was moved.
    pub data: Vec<u8>,
    /// NTSTATUS of the IRP.
    pub status: Status,
    /// Its Information.
    pub information: usize,
}

/// An SRB of disk.sys's own on its way.
#[derive(Default)]
pub struct Sent(Mutex<Option<Returned>>);

impl Sent {
    /// How it ended, if it has.
    pub fn done(&self) -> Option<Returned> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits for its end.
    pub fn wait(self: &Arc<Self>) -> Returned {
        world::current().wait(Arc::as_ptr(self) as usize, || self.done().is_some());
        self.done()
            .unwrap_or_else(|| unreachable!("the wait ended because it is done"))
    }
}

/// disk.sys on one disk.
pub struct Class {
    /// Whose its memory is.
    node: String,
    driver: *mut DRIVER_OBJECT,
    device: *mut DEVICE_OBJECT,
    lower: *mut DEVICE_OBJECT,
    form: Mutex<Form>,
    /// FDO_HACK_NO_RESERVE6 (6220): the 10-byte commands from now on.
    ten: AtomicBool,
    served: AtomicUsize,
    /// SRBs that have not come back, or are to be sent again.
    out: AtomicUsize,
    is_hasty: AtomicBool,
    gone: AtomicBool,
}

// SAFETY: the addresses are its own objects and the device below, used as Windows would.
unsafe impl Send for Class {}
// SAFETY: as above.
unsafe impl Sync for Class {}

/// An SRB that is out, and why: the context of its completion routine.
struct Request {
    class: Arc<Class>,
    block: RequestBlock,
    why: Why,
}

enum Why {
    /// In an IRP of disk.sys's own.
    Own(Arc<Sent>),
    /// In the IRP of a caller's RESERVE or RELEASE, which may be sent so often again.
    Served(Command, u32),
}

impl Class {
    fn attach(node: &str, lower: *mut DEVICE_OBJECT) -> Arc<Self> {
        Arc::new_cyclic(|me: &Weak<Self>| {
            // Not the node's: they are no leak of the driver's.
            let node = format!("disk.sys of {node}");
            let driver = io::create_driver(&node, dispatch);
            let device = io::create_device(&node, driver, me.as_ptr().cast_mut().cast());
            // SAFETY: both devices are live. FILE_DEVICE_DISK, DO_DIRECT_IO.
            unsafe {
                (*device).DeviceType = 7;
                (*device).Flags = 0x10;
            }
            io::attach(device, lower);
            Self {
                node,
                driver,
                device,
                lower,
                form: Mutex::default(),
                ten: AtomicBool::new(false),
                served: AtomicUsize::new(0),
                out: AtomicUsize::new(0),
                is_hasty: AtomicBool::new(false),
                gone: AtomicBool::new(false),
            }
        })
    }

    /// The form of its SRBs from now on. A new one's is [`Form::Classic`].
    pub fn sends_as(&self, form: Form) {
        *self.form.lock().unwrap_or_else(PoisonError::into_inner) = form;
    }

    /// From now on a REMOVE goes on down without a wait for the SRBs that are out, which ClassDispatchPnp waits for.
    pub fn make_hasty(&self) {
        self.is_hasty.store(true, Ordering::SeqCst);
    }

    /// How many RESERVEs and RELEASEs it has served itself since the last call of this.
    pub fn take_served(&self) -> usize {
        self.served.swap(0, Ordering::Relaxed)
    }

    /// Sends an SRB of its own, in its form, from PASSIVE_LEVEL.
    pub fn send(self: &Arc<Self>, content: &Content) -> Arc<Sent> {
        self.send_at(irql::PASSIVE, content)
    }

    /// As [`Class::send`], from this IRQL.
    pub fn send_at(self: &Arc<Self>, level: u8, content: &Content) -> Arc<Sent> {
        let sent = Arc::new(Sent::default());
        // SAFETY: the device below is there until the REMOVE.
        let irp = io::allocate_irp(&self.node, unsafe { (*self.lower).StackSize });
        self.out.fetch_add(1, Ordering::SeqCst);
        let why = Why::Own(Arc::clone(&sent));
        world::current().at_irql(level, "disk.sys", || self.go(irp, content, why));
        sent
    }

    fn dispatch(self: &Arc<Self>, irp: *mut IRP) -> Status {
        let location = io::current_location(irp);
        // SAFETY: a live IRP in this device's location.
        let (code, minor) = unsafe { ((*location).MajorFunction, (*location).MinorFunction) };
        if u32::from(code) == major::IRP_MJ_DEVICE_CONTROL {
            return self.control(irp);
        }
        if u32::from(code) == major::IRP_MJ_PNP && minor == Pnp::Remove as u8 {
            // classpnp passes it on first and waits then (1318, 10265), while the device below it, deleted, stays; in the rig
            // that goes. What is sent during a removal, a test sends by itself.
            if !self.is_hasty.load(Ordering::SeqCst) {
                let nothing_out = || self.out.load(Ordering::SeqCst) == 0;
                world::current().wait(self.key(), nothing_out);
            }
            self.gone.store(true, Ordering::SeqCst);
            // Before the others and not after them: in the rig a device's memory goes with its REMOVE.
            io::detach(self.lower);
        }
        io::skip_current_location(irp);
        io::call_driver(self.lower, irp)
    }

    fn key(&self) -> usize {
        (&raw const self.out) as usize
    }

    fn came_back(&self) {
        self.out.fetch_sub(1, Ordering::SeqCst);
        world::current().world.wake(self.key());
    }

    /// ClassDeviceControl.
    fn control(self: &Arc<Self>, irp: *mut IRP) -> Status {
        io::check_foreign(irp);
        // SAFETY: a live IRP in this device's location.
        let parameters = unsafe { *io::ioctl_parameters(io::current_location(irp)) };
        let code = parameters.IoControlCode;
        // Its legacy spellings are STORAGE's (7618).
        if let Some(command) = Command::from_ioctl(code) {
            return self.serve(irp, command);
        }
        io::copy_current_location_to_next(irp);
        if code == IOCTL_SCSI_PASS_THROUGH {
            let least = if io::is_32_bit_process(irp) {
                size_of::<SCSI_PASS_THROUGH32>() // 7307
            } else {
                size_of::<SCSI_PASS_THROUGH>() // 7325
            };
            if (parameters.InputBufferLength as usize) < least {
                return finish(irp, status::INVALID_PARAMETER, 0);
            }
            // SAFETY: the location below, which was just written (7343).
            unsafe { (*io::next_location(irp)).MinorFunction = SCSI_CLASS };
        }
        // What it does not know goes on (8663).
        io::call_driver(self.lower, irp)
    }

    /// RESERVE and RELEASE (8072): an SRB in the caller's own IRP.
    fn serve(self: &Arc<Self>, irp: *mut IRP, command: Command) -> Status {
        self.served.fetch_add(1, Ordering::Relaxed);
        self.out.fetch_add(1, Ordering::SeqCst);
        io::mark_pending(irp);
        self.send_command(irp, command, MAXIMUM_RETRIES);
        status::PENDING
    }

    fn send_command(self: &Arc<Self>, irp: *mut IRP, command: Command, left: u32) {
        let form = if self.ten.load(Ordering::Relaxed) {
            scsi_reserve::Form::Ten
        } else {
            scsi_reserve::Form::Six
        };
        let cdb = Cdb::new(command, form);
        let mut bytes = vec![0; cdb.length().into()];
        bytes[0] = cdb.operation_code();
        self.go(irp, &self::command(&bytes), Why::Served(command, left));
    }

    /// ClassSendSrbAsynchronous (6972), which sets no minor function, and whose completion routine goes on.
    fn go(self: &Arc<Self>, irp: *mut IRP, content: &Content, why: Why) {
        let form = *self.form.lock().unwrap_or_else(PoisonError::into_inner);
        let content = Content {
            form,
            ..content.clone()
        };
        let block = RequestBlock::new(&self.node, &content, irp.cast());
        let srb = block.srb();
        let request = Request {
            class: Arc::clone(self),
            block,
            why,
        };
        let next = io::next_location(irp);
        // SAFETY: the location below is this driver's to write, and the SRB lives until the IRP is back.
        unsafe {
            *next = std::mem::zeroed();
            (*next).MajorFunction = major::IRP_MJ_SCSI as u8;
            *io::srb_parameter(next) = srb.address();
        }
        io::set_completion_routine(irp, completed, Box::into_raw(Box::new(request)).cast());
        io::send_srb(self.lower, irp, srb.image());
    }
}

impl Request {
    /// ClassIoComplete (3733), and for its own IRP what TransferPktComplete (xferpkt.c) does.
    fn came_back(self, irp: *mut IRP) -> Status {
        let Self { class, block, why } = self;
        io::check_given(irp, &block.srb().image());
        match why {
            Why::Own(sent) => {
                // SAFETY: the IRP is its own again; plain data in a union.
                let end = unsafe { &(*irp).IoStatus };
                let returned = Returned {
                    srb_status: block.srb().srb_status(),
                    scsi_status: block.srb().scsi_status(),
                    sense: block.sense(),
                    data: block.data(),
                    // SAFETY: as above.
                    status: unsafe { end.Anonymous.Status },
                    information: end.Information,
                };
                // Whoever looks at them from now on faults.
                drop(block);
                io::free_irp(irp);
                *sent.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(returned);
                class.came_back();
                world::current().world.wake(Arc::as_ptr(&sent) as usize);
                status::MORE_PROCESSING_REQUIRED
            }
            Why::Served(command, left) => class.served_one(irp, &block, command, left),
        }
    }
}

impl Class {
    fn served_one(
        self: Arc<Self>,
        irp: *mut IRP,
        block: &RequestBlock,
        command: Command,
        left: u32,
    ) -> Status {
        let (result, mut retry) = interpret(block);
        if block.srb().cdb().len() == 6 && result == status::INVALID_DEVICE_REQUEST {
            // RESERVE(6) is optional (6206).
            self.ten.store(true, Ordering::Relaxed);
            retry = true;
        }
        if retry && left > 0 {
            self.send_again(irp, command, left - 1);
            return status::MORE_PROCESSING_REQUIRED;
        }
        // SAFETY: the IRP is in this completion routine's hands.
        unsafe {
            (*irp).IoStatus.Anonymous.Status = result;
            if (*irp).PendingReturned {
                io::mark_pending(irp);
            }
        }
        self.came_back();
        result
    }

    /// ClassRetryRequest (12206): from a timer's DPC, and never at once.
    fn send_again(self: Arc<Self>, irp: *mut IRP, command: Command, left: u32) {
        let world = Arc::clone(&world::current().world);
        let irp = irp as usize;
        let due = world.now() + 1;
        let job = move || {
            let irp = irp as *mut IRP;
            if self.gone.load(Ordering::SeqCst) {
                self.came_back();
                finish(irp, status::DEVICE_NOT_CONNECTED, 0);
                return;
            }
            self.send_command(irp, command, left);
        };
        world.set_timer(due, "disk.sys's retry", irql::DISPATCH, Box::new(job));
    }
}

/// ClassInterpretSenseInfo, of what RESERVE and RELEASE meet here: the status, and whether to send again.
fn interpret(block: &RequestBlock) -> (Status, bool) {
    const DEVICE_BUSY: Status = 0x8000_0011_u32.cast_signed();
    let srb = block.srb();
    if srb_status::of(srb.srb_status()) == srb_status::SUCCESS {
        return (status::SUCCESS, false);
    }
    match (srb.scsi_status(), Sense::parse(&block.sense())) {
        (Some(RESERVATION_CONFLICT), _) => (DEVICE_BUSY, false), // 4495
        (_, Some(sense)) if sense.key == ILLEGAL_REQUEST => (status::INVALID_DEVICE_REQUEST, false), // 5107
        _ => (status::IO_DEVICE_ERROR, true), // 4460
    }
}

impl Drop for Class {
    fn drop(&mut self) {
        pool::free(self.device.cast());
        pool::free(self.driver.cast());
    }
}

unsafe extern "win64" fn dispatch(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    // SAFETY: the extension of disk.sys's devices is the `Class`, which outlives its device.
    let class = unsafe {
        let class = (*device).DeviceExtension.cast::<Class>().cast_const();
        Arc::increment_strong_count(class);
        Arc::from_raw(class)
    };
    class.dispatch(irp)
}

unsafe extern "win64" fn completed(
    _: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    context: *mut std::ffi::c_void,
) -> Status {
    // SAFETY: the context that `Class::go` gave, once for each send.
    let request = unsafe { Box::from_raw(context.cast::<Request>()) };
    request.came_back(irp)
}
