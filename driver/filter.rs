//! Attaches to a disk stack and says which requests are ours; everything else passes to the next lower device as
//! if the filter were not there.
//!
//! The filter never keeps a disk from starting: what fails here leaves the disk without the filter.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU32, Ordering};

use scsi_reserve::{Command, IOCTL_RESVFLT_QUERY_STATE, NtStatus};

use crate::config::{self, Parameters};
use crate::reservation::Reservation;
use crate::state;
use crate::trace::{self, Happening};
use crate::wdf::{
    DeviceInit, Driver, Key, Operations, Provider, Queue, Request, Returned, Route, Text, Utf16,
    context, utf16,
};

/// The driver: its parameters, read once when it is loaded.
pub struct Filter {
    parameters: Parameters,
    /// How many disks were attached to.
    disks: AtomicU32,
}

context!(Filter);

impl Driver for Filter {
    fn provider() -> &'static Provider {
        &trace::PROVIDER
    }

    fn load(parameters: Option<&Key>) -> Self {
        let parameters = Parameters::read(parameters);
        trace::happened(|| parameters.loaded());
        Self {
            parameters,
            disks: AtomicU32::new(0),
        }
    }

    fn device_add(&self, init: DeviceInit<'_>) -> Result<(), NtStatus> {
        let mut ids = [0; 512];
        let known = known(init.hardware_ids(&mut ids));
        let ids = known.unwrap_or_default().unwrap_or_default();
        let hardware_id = || Text::new(ids);
        let failed = |status| {
            trace::happened(|| Happening::AttachFailed {
                hardware_id: hardware_id(),
                status,
            });
            status
        };
        let refused = known.and_then(|_| self.refuses(&init, ids));
        if let Some(reason) = refused.map_err(failed)? {
            trace::happened(|| Happening::DiskSkipped {
                hardware_id: hardware_id(),
                reason,
            });
            return Ok(());
        }
        let disk = self.disks.fetch_add(1, Ordering::Relaxed);
        let timeout_seconds = self.parameters.timeout.unwrap_or_else(config::disk_timeout);
        let attached = self.attach(init, disk, timeout_seconds);
        attached.map_err(failed)?;
        trace::happened(|| Happening::DiskAttached {
            disk,
            hardware_id: hardware_id(),
            timeout_seconds,
        });
        Ok(())
    }

    fn unload(&self) {
        trace::happened(|| Happening::DriverUnloaded {});
    }
}

/// What a disk says of itself: nothing, if it has no such thing. Any other error leaves it untold.
fn known<T>(said: Result<T, NtStatus>) -> Result<Option<T>, NtStatus> {
    match said {
        Ok(said) => Ok(Some(said)),
        Err(NtStatus::OBJECT_NAME_NOT_FOUND) => Ok(None),
        Err(status) => Err(status),
    }
}

impl Filter {
    /// Why a disk is left alone. An error where that can't be told: then it is left alone, too.
    fn refuses(
        &self,
        init: &DeviceInit<'_>,
        hardware_ids: &[u16],
    ) -> Result<Option<Utf16>, NtStatus> {
        // The pseudo-disk that MPIO builds over the paths to one unit. A SCSI-2 reservation belongs to one I_T nexus,
        // so the node would meet a conflict of its own making on the next path.
        const MPIO: &[u16] = utf16!("MPIO\\").units();
        let key = known(init.hardware_key())?;
        let refused = self.parameters.attach.refuses(key.as_ref())?;
        Ok(refused.or_else(|| {
            let is_mpio_disk = hardware_ids.starts_with(MPIO);
            is_mpio_disk.then_some(utf16!("a disk of MPIO's"))
        }))
    }

    fn attach(&self, init: DeviceInit<'_>, number: u32, timeout: u32) -> Result<(), NtStatus> {
        let device = init.create::<Disk>()?;
        let reservation = Reservation::new(&device, self.parameters.policy, timeout, number)?;
        let disk = Disk {
            number,
            reservation,
            operations: Queue::sequential(&device)?,
            queries: Queue::parallel(&device)?,
        };
        device.open(disk)
    }
}

/// One disk that the filter sits on.
pub struct Disk {
    /// In the order in which disks were attached to.
    number: u32,
    reservation: Reservation,
    /// Sequential: a RESERVE and a RELEASE of one node stay in the order in which they came.
    operations: Queue,
    /// Parallel: a query is answered while an operation waits.
    queries: Queue,
}

context!(Disk);

impl Operations for Disk {
    fn claims(code: u32) -> bool {
        Command::from_ioctl(code).is_some() || code == IOCTL_RESVFLT_QUERY_STATE
    }

    fn route(&self, code: u32) -> Route<'_> {
        // Late in a removal the queue is gone before the filter is detached.
        if self.reservation.is_gone() {
            Route::Complete(NtStatus::DEVICE_NOT_CONNECTED)
        } else if code == IOCTL_RESVFLT_QUERY_STATE {
            Route::Queue(&self.queries)
        } else {
            Route::Queue(&self.operations)
        }
    }

    fn device_control(&self, request: Request, code: u32) {
        match Command::from_ioctl(code) {
            Some(command) => self.reservation.start(request, command, code),
            // The one other code that was claimed.
            None => state::answer(&self.reservation, request),
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

    fn powered_up(&self) {
        self.reservation.powered_up();
    }

    fn gone(&self) {
        self.reservation.gone();
    }

    fn detached(&self) {
        trace::happened(|| Happening::DiskDetached { disk: self.number });
    }
}
