//! The driver: which disks it attaches to.
//!
//! It never keeps a disk from starting: what fails here leaves the disk without the filter. All of it runs at
//! `PASSIVE_LEVEL`.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU32, Ordering};

use scsi_reserve::NtStatus;

use crate::config::{self, Parameters};
use crate::disk::Disk;
use crate::trace::{self, TraceEvent};
use crate::wdf::{DeviceInit, Driver, Key, Provider, Text, Utf16, context, utf16};

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

    fn driver_entry(parameters: Option<&Key>) -> Self {
        let parameters = Parameters::read(parameters);
        trace::write(|| parameters.loaded());
        Self {
            parameters,
            disks: AtomicU32::new(0),
        }
    }

    fn evt_driver_device_add(&self, init: DeviceInit<'_>) -> Result<(), NtStatus> {
        let mut ids = [0; 512];
        let known = known(init.hardware_ids(&mut ids));
        let ids = known.unwrap_or_default().unwrap_or_default();
        let hardware_id = Text::new(ids);
        let failed = |status| attach_failed(hardware_id, status);
        let refused = known.and_then(|_| self.refuses(&init, ids));
        if let Some(reason) = refused.map_err(failed)? {
            trace::write(|| TraceEvent::DiskSkipped {
                hardware_id,
                reason,
            });
            return Ok(());
        }
        let disk = self.disks.fetch_add(1, Ordering::Relaxed);
        let timeout_seconds = self.parameters.timeout.unwrap_or_else(config::disk_timeout);
        let attached = Disk::attach(init, disk, &self.parameters, timeout_seconds);
        attached.map_err(failed)?;
        trace::write(|| TraceEvent::DiskAttached {
            disk,
            hardware_id,
            timeout_seconds,
        });
        Ok(())
    }

    fn evt_driver_unload(&self) {
        trace::write(|| TraceEvent::DriverUnloaded {});
    }
}

/// The status again, and the event that tells of it.
#[cold]
#[inline(never)]
fn attach_failed(hardware_id: Text<'_>, status: NtStatus) -> NtStatus {
    trace::write(|| TraceEvent::AttachFailed {
        hardware_id,
        status,
    });
    status
}

/// What a disk says of itself: nothing, if it has no such thing. Any other error leaves it untold.
fn known<T>(said: Result<T, NtStatus>) -> Result<Option<T>, NtStatus> {
    match said {
        Ok(said) => Ok(Some(said)),
        Err(NtStatus::OBJECT_NAME_NOT_FOUND) => Ok(None),
        Err(status) => Err(status),
    }
}

/// Whether it is the pseudo-disk that MPIO builds over the paths to one unit: a SCSI-2 reservation belongs to one `I_T`
/// nexus, so the node would meet a conflict of its own making on the next path. `PnP` compares hardware IDs without case.
fn is_mpio_disk(hardware_ids: &[u16]) -> bool {
    const MPIO: &[u16] = utf16!("MPIO\\").units();
    let upper = |unit: u16| match unit {
        0x61..=0x7A => unit - 0x20,
        _ => unit,
    };
    hardware_ids.len() >= MPIO.len()
        && hardware_ids
            .iter()
            .zip(MPIO)
            .all(|(&unit, &mpio)| upper(unit) == mpio)
}

impl Filter {
    /// Why a disk is left alone. An error where that can't be told: then it is left alone, too.
    fn refuses(
        &self,
        init: &DeviceInit<'_>,
        hardware_ids: &[u16],
    ) -> Result<Option<Utf16>, NtStatus> {
        let key = known(init.hardware_key())?;
        let refused = self.parameters.attach.refuses(key.as_ref())?;
        Ok(refused.or_else(|| is_mpio_disk(hardware_ids).then_some(utf16!("a disk of MPIO's"))))
    }
}
