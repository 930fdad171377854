//! A node's registry, as far as the driver reads it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::abi::{Status, status};

/// A value's data.
#[derive(Clone, Debug)]
pub enum Value {
    /// REG_DWORD; normally four bytes.
    Dword(Vec<u8>),
    /// Any other type.
    Other(Vec<u8>),
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Dword(value.to_le_bytes().into())
    }
}

/// Keys by path; neither paths nor names tell upper from lower case.
#[derive(Clone, Default)]
pub struct Hive(
    Arc<Mutex<HashMap<String, HashMap<String, Value>>>>,
    Arc<AtomicI32>,
);

impl Hive {
    /// Makes a key.
    pub fn create(&self, key: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(key.to_lowercase())
            .or_default();
    }

    /// Sets a value, making its key.
    pub fn set(&self, key: &str, name: &str, value: impl Into<Value>) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.entry(key.to_lowercase())
            .or_default()
            .insert(name.to_lowercase(), value.into());
    }

    /// From now on no key can be opened, with this status; with SUCCESS they can.
    pub fn refuse(&self, status: Status) {
        self.1.store(status, Ordering::Relaxed);
    }

    /// Whether the key can be opened.
    ///
    /// # Errors
    /// The status of [`Hive::refuse`], else OBJECT_NAME_NOT_FOUND.
    pub fn open(&self, key: &str) -> Result<(), Status> {
        let refusal = self.1.load(Ordering::Relaxed);
        if !status::is_success(refusal) {
            return Err(refusal);
        }
        self.has(key)
            .then_some(())
            .ok_or(status::OBJECT_NAME_NOT_FOUND)
    }

    /// True if the key is there.
    pub fn has(&self, key: &str) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(&key.to_lowercase())
    }

    /// WdfRegistryQueryULong, with the statuses of facts 15.
    ///
    /// # Errors
    /// OBJECT_NAME_NOT_FOUND, OBJECT_TYPE_MISMATCH, BUFFER_OVERFLOW.
    pub fn query_ulong(&self, key: &str, name: &str) -> Result<u32, Status> {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match keys
            .get(&key.to_lowercase())
            .and_then(|key| key.get(&name.to_lowercase()))
        {
            None => Err(status::OBJECT_NAME_NOT_FOUND),
            Some(Value::Other(_)) => Err(status::OBJECT_TYPE_MISMATCH),
            Some(Value::Dword(data)) if data.len() > 4 => Err(status::BUFFER_OVERFLOW),
            Some(Value::Dword(data)) => {
                let mut bytes = [0; 4];
                bytes[..data.len()].copy_from_slice(data);
                Ok(u32::from_le_bytes(bytes))
            }
        }
    }
}
