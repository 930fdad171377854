//! The registry parameters: `Services\resvflt\Parameters` for the driver, the hardware key for one disk.
//!
//! A value that is absent gives the default, and so does one of another type or out of range, which is an event.
#![forbid(unsafe_code)]

use core::ops::RangeInclusive;

use scsi_reserve::{NtStatus, Policy, Watch};

use crate::trace::{self, TraceEvent};
use crate::wdf::{Key, Utf16, utf16};

/// A `REG_DWORD`, what it may be, and what it is otherwise.
struct Value {
    name: Utf16,
    least: u32,
    most: u32,
    default: u32,
}

/// 0, which the range excludes, stands for "the disk's own".
const TIMEOUT_SECONDS: Value = Value::new(utf16!("TimeoutSeconds"), 1..=3_600, 0);
const MAX_RETRIES: Value = Value::new(utf16!("MaxRetries"), 0..=16, 4);
const RETRY_DELAY_MS: Value = Value::new(utf16!("RetryDelayMs"), 10..=60_000, 1_000);
const RESERVE_10_FALLBACK: Value = Value::new(utf16!("Reserve10Fallback"), 0..=1, 1);
const ATTACH_MODE: Value = Value::new(utf16!("AttachMode"), 0..=1, 0);
const WATCH: Value = Value::new(utf16!("Watch"), 0..=2, 0);

/// In a disk's hardware key; 2, which the range excludes, stands for "says nothing".
const RESVFLT_ENABLED: Value = Value::new(utf16!("ResvFltEnabled"), 0..=1, 2);

/// Of disk.sys, in seconds: without it that takes `SCSI_DISK_TIMEOUT`, 10 (microsoft/Windows-driver-samples,
/// storage/class/disk/src/disk.h and pnp.c). More than 108,000 no port's pass-through takes.
const TIME_OUT_VALUE: Value = Value::new(utf16!("TimeOutValue"), 1..=108_000, 10);
const DISK_SERVICE: Utf16 =
    utf16!("\\Registry\\Machine\\System\\CurrentControlSet\\Services\\Disk");

impl Value {
    const fn new(name: Utf16, range: RangeInclusive<u32>, default: u32) -> Self {
        Self {
            name,
            least: *range.start(),
            most: *range.end(),
            default,
        }
    }

    /// An error where the value can't be had, whatever it is.
    fn query(&self, key: Option<&Key>) -> Result<u32, NtStatus> {
        match key.map(|key| key.query_u32(self.name)) {
            None | Some(Err(NtStatus::OBJECT_NAME_NOT_FOUND)) => Ok(self.default),
            Some(Ok(value)) if (self.least..=self.most).contains(&value) => Ok(value),
            Some(Ok(value)) => Ok(self.instead_of(NtStatus::SUCCESS, value)),
            // Another type; a REG_DWORD of more than 4 bytes.
            Some(Err(status @ (NtStatus::OBJECT_TYPE_MISMATCH | NtStatus::BUFFER_OVERFLOW))) => {
                Ok(self.instead_of(status, 0))
            }
            Some(Err(status)) => Err(status),
        }
    }

    fn read(&self, key: Option<&Key>) -> u32 {
        self.query(key)
            .unwrap_or_else(|status| self.instead_of(status, 0))
    }

    /// The default, and the event that tells why.
    fn instead_of(&self, status: NtStatus, value: u32) -> u32 {
        trace::write(|| TraceEvent::ParameterRejected {
            name: self.name,
            status,
            value,
            used: self.default,
        });
        self.default
    }
}

/// Which disks are attached to.
#[derive(Clone, Copy)]
pub enum AttachMode {
    /// Every disk whose hardware key does not forbid it.
    EveryDisk = 0,
    /// Only a disk whose hardware key asks for it.
    EnabledDisks = 1,
}

impl AttachMode {
    /// Why a disk with this hardware key is not attached to, if it isn't. An error where the key's word can't be had.
    pub fn refuses(self, hardware_key: Option<&Key>) -> Result<Option<Utf16>, NtStatus> {
        Ok(match (RESVFLT_ENABLED.query(hardware_key)?, self) {
            (0, _) => Some(utf16!("ResvFltEnabled is 0")),
            (1, _) | (_, Self::EveryDisk) => None,
            (_, Self::EnabledDisks) => Some(utf16!("AttachMode is 1, ResvFltEnabled is not")),
        })
    }
}

/// What the driver's own key says.
pub struct Parameters {
    /// Seconds a command may take; `None`: the disk's own.
    pub timeout: Option<u32>,
    pub policy: Policy,
    pub attach: AttachMode,
    pub watch: Watch,
}

impl Parameters {
    pub fn read(key: Option<&Key>) -> Self {
        Self {
            timeout: match TIMEOUT_SECONDS.read(key) {
                0 => None,
                seconds => Some(seconds),
            },
            policy: Policy {
                max_retries: MAX_RETRIES.read(key),
                retry_delay_ms: RETRY_DELAY_MS.read(key),
                ten_byte_fallback: RESERVE_10_FALLBACK.read(key) != 0,
            },
            attach: match ATTACH_MODE.read(key) {
                1 => AttachMode::EnabledDisks,
                _ => AttachMode::EveryDisk,
            },
            watch: match WATCH.read(key) {
                1 => Watch::Changes,
                2 => Watch::Answers,
                _ => Watch::Off,
            },
        }
    }

    /// The event that tells them.
    pub fn loaded(&self) -> TraceEvent<'static> {
        TraceEvent::DriverLoaded {
            version: utf16!(env!("CARGO_PKG_VERSION")),
            timeout_seconds: self.timeout.unwrap_or(0),
            max_retries: self.policy.max_retries,
            retry_delay_ms: self.policy.retry_delay_ms,
            reserve10_fallback: self.policy.ten_byte_fallback.into(),
            attach_mode: self.attach as u32,
            watch: self.watch as u32,
        }
    }
}

/// Seconds that disk.sys gives a command, from its service key.
pub fn disk_timeout() -> u32 {
    TIME_OUT_VALUE.read(Key::open(DISK_SERVICE).ok().as_ref())
}
