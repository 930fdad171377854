//! A model of disk.sys, as far as the filter can tell it is there: what classpnp does with RESERVE, RELEASE, pass-throughs
//! and controls that it does not know. Line numbers are those of microsoft/Windows-driver-samples at 26a27df,
//! storage/class/classpnp/src/class.c; disk.sys hands all of these on to it (storage/class/disk/src/disk.c 1076).
//!
//! It is no model of the rest: no geometry, no cache of properties, no partitions. Its SRBs end before they return, and
//! it waits for them, where classpnp goes on in a completion routine.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use scsi_reserve::{Cdb, Command, Form};

use crate::abi::{
    DEVICE_OBJECT, DRIVER_OBJECT, IOCTL_SCSI_PASS_THROUGH, IRP, SCSI_PASS_THROUGH,
    SCSI_PASS_THROUGH32, Status, major, status,
};
use crate::disk::{Disk, ILLEGAL_REQUEST, RESERVATION_CONFLICT};
use crate::fx::{DiskKeys, Pnp};
use crate::node::{Node, Stack};
use crate::port::{Answer, SCSI_CLASS, Srb, finish};
use crate::{io, pool};

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
        let port = node.port(disk);
        let (bottom, keys) = (port.device(), DiskKeys::default());
        let (stack, class) = match place {
            Place::Lower => {
                let stack = node.attach(port, bottom, &keys)?;
                let class = Class::attach(node.name(), stack.top());
                (stack, class)
            }
            Place::Upper => {
                let class = Class::attach(node.name(), bottom);
                (node.attach(port, class.device, &keys)?, class)
            }
        };
        node.pnp(&stack, Pnp::Start);
        Ok(Self { stack, class })
    }

    /// The device right below disk.sys.
    pub fn below_disk(&self) -> *mut DEVICE_OBJECT {
        self.class.lower
    }

    /// Removes the disk in an orderly way.
    pub fn unplug(self, node: &Node) {
        node.unplug(self.stack);
    }
}

/// disk.sys on one disk.
pub struct Class {
    driver: *mut DRIVER_OBJECT,
    device: *mut DEVICE_OBJECT,
    lower: *mut DEVICE_OBJECT,
    /// FDO_HACK_NO_RESERVE6 (6220): the 10-byte commands from now on.
    ten: AtomicBool,
    served: AtomicUsize,
}

// SAFETY: the addresses are its own objects and the device below, used as Windows would.
unsafe impl Send for Class {}
// SAFETY: as above.
unsafe impl Sync for Class {}

impl Class {
    fn attach(node: &str, lower: *mut DEVICE_OBJECT) -> Arc<Self> {
        Arc::new_cyclic(|me: &Weak<Self>| {
            // Not the node's: they are no leak of the driver's.
            let node = &format!("disk.sys of {node}");
            let driver = io::create_driver(node, dispatch);
            let device = io::create_device(node, driver, me.as_ptr().cast_mut().cast());
            // SAFETY: both devices are live. FILE_DEVICE_DISK, DO_DIRECT_IO.
            unsafe {
                (*device).DeviceType = 7;
                (*device).Flags = 0x10;
            }
            io::attach(device, lower);
            Self {
                driver,
                device,
                lower,
                ten: AtomicBool::new(false),
                served: AtomicUsize::new(0),
            }
        })
    }

    /// How many RESERVEs and RELEASEs it has served itself since the last call of this.
    pub fn take_served(&self) -> usize {
        self.served.swap(0, Ordering::Relaxed)
    }

    fn dispatch(&self, irp: *mut IRP) -> Status {
        let location = io::current_location(irp);
        // SAFETY: a live IRP in this device's location.
        let (code, minor) = unsafe { ((*location).MajorFunction, (*location).MinorFunction) };
        if u32::from(code) == major::IRP_MJ_DEVICE_CONTROL {
            return self.control(irp);
        }
        if u32::from(code) == major::IRP_MJ_PNP && minor == Pnp::Remove as u8 {
            // Before the others and not after them: in the rig a device's memory goes with its REMOVE.
            io::detach(self.lower);
        }
        io::skip_current_location(irp);
        io::call_driver(self.lower, irp)
    }

    /// ClassDeviceControl.
    fn control(&self, irp: *mut IRP) -> Status {
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

    /// RESERVE and RELEASE (8072): an SRB in the caller's own IRP, sent again as ClassIoComplete does it (3733).
    fn serve(&self, irp: *mut IRP, command: Command) -> Status {
        self.served.fetch_add(1, Ordering::Relaxed);
        let mut left = MAXIMUM_RETRIES;
        loop {
            let form = if self.ten.load(Ordering::Relaxed) {
                Form::Ten
            } else {
                Form::Six
            };
            let answer = self.send(irp, Cdb::new(command, form));
            let (result, mut retry) = interpret(&answer);
            if form == Form::Six && result == status::INVALID_DEVICE_REQUEST {
                // RESERVE(6) is optional (6206).
                self.ten.store(true, Ordering::Relaxed);
                retry = true;
            }
            if !retry || left == 0 {
                return finish(irp, result, 0);
            }
            left -= 1;
        }
    }

    /// ClassSendSrbAsynchronous (6972), which sets no minor function.
    fn send(&self, irp: *mut IRP, cdb: Cdb) -> Answer {
        let mut bytes = vec![0; cdb.length().into()];
        bytes[0] = cdb.operation_code();
        let mut srb = Srb {
            cdb: bytes,
            timeout: TIMEOUT,
            answer: None,
        };
        let next = io::next_location(irp);
        // SAFETY: the location below is this driver's to write, and the SRB lives until the IRP is back.
        unsafe {
            (*next).MajorFunction = major::IRP_MJ_SCSI as u8;
            (*next).MinorFunction = 0;
            *io::srb_parameter(next) = (&raw mut srb).cast();
        }
        io::call_and_wait(self.lower, irp);
        srb.answer
            .unwrap_or_else(|| unreachable!("the port has answered"))
    }
}

/// ClassInterpretSenseInfo, of what RESERVE and RELEASE meet here: the status, and whether to send again.
fn interpret(answer: &Answer) -> (Status, bool) {
    const DEVICE_BUSY: Status = 0x8000_0011_u32.cast_signed();
    let Answer::Target(outcome) = answer else {
        return (status::IO_DEVICE_ERROR, true);
    };
    match (outcome.status(), outcome.sense()) {
        (Some(0), _) => (status::SUCCESS, false),
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
    let class = unsafe { &*(*device).DeviceExtension.cast::<Class>() };
    class.dispatch(irp)
}
