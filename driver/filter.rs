//! Attaches to a disk stack and says which requests are ours; everything else passes to the next lower device as
//! if the filter were not there.
//!
//! The filter never keeps a disk from starting: what fails here leaves the disk without the filter.
#![forbid(unsafe_code)]

use scsi_reserve::{Command, NtStatus};

use crate::config::{self, Parameters};
use crate::reservation::Reservation;
use crate::wdf::{
    DeviceInit, Driver, Key, Operations, Queue, Request, Returned, Route, context, utf16,
};

/// The driver: its parameters, read once when it is loaded.
pub struct Filter {
    parameters: Parameters,
}

context!(Filter);

impl Driver for Filter {
    fn load(parameters: Option<&Key>) -> Self {
        Self {
            parameters: Parameters::read(parameters),
        }
    }

    fn device_add(&self, init: DeviceInit<'_>) -> Result<(), NtStatus> {
        if !self.parameters.attach.to(init.hardware_key().ok().as_ref()) || is_mpio_disk(&init) {
            return Ok(());
        }
        let timeout = self.parameters.timeout.unwrap_or_else(config::disk_timeout);
        let device = init.create::<Disk>()?;
        let reservation = Reservation::new(&device, self.parameters.policy, timeout)?;
        let queue = Queue::sequential(&device)?;
        device.open(Disk { reservation, queue })
    }
}

/// The pseudo-disk that MPIO builds over the paths to one unit. A SCSI-2 reservation belongs to one `I_T` nexus, so
/// the node would meet a conflict of its own making on the next path.
fn is_mpio_disk(init: &DeviceInit<'_>) -> bool {
    const MPIO: &[u16] = utf16!("MPIO\\").units();
    let mut ids = [0; 512];
    init.hardware_ids(&mut ids).starts_with(MPIO)
}

/// One disk that the filter sits on.
pub struct Disk {
    reservation: Reservation,
    /// Sequential: a RESERVE and a RELEASE of one node stay in the order in which they came.
    queue: Queue,
}

context!(Disk);

impl Operations for Disk {
    fn claims(code: u32) -> bool {
        Command::from_ioctl(code).is_some()
    }

    fn route(&self) -> Route<'_> {
        // Late in a removal the queue is gone before the filter is detached.
        if self.reservation.is_gone() {
            Route::Complete(NtStatus::DEVICE_NOT_CONNECTED)
        } else {
            Route::Queue(&self.queue)
        }
    }

    fn device_control(&self, request: Request, code: u32) {
        match Command::from_ioctl(code) {
            Some(command) => self.reservation.start(request, command),
            None => request.complete(NtStatus::INVALID_DEVICE_REQUEST),
        }
    }

    fn cancelled(&self) {
        self.reservation.cancelled();
    }

    fn answered(&self, returned: Returned) {
        self.reservation.answered(returned);
    }

    fn delay_over(&self) {
        self.reservation.delay_over();
    }

    fn gone(&self) {
        self.reservation.gone();
    }
}
