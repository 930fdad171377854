//! What `install` changes, and the record of it.
//!
//! Each change is written down before it is made, under `HKLM\SOFTWARE\resvflt`: the registry, because it is what
//! is changed, so that a restored hive takes the record along, and because only administrators write there, which is
//! not so in ProgramData. `Changes` lists the changes in their order; a value by a change's name has what was there
//! before. The record is flushed before the change is made, and forgets one only when that it was taken back is flushed:
//! what the power's loss takes from it, it took from nobody.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::filters::POSITIONS;
use crate::machine::{Hive, Key, Machine, Value, Win32, kind};
use crate::{Failure, multi_string};

const RECORD: &str = r"SOFTWARE\resvflt";
const CHANGES: &str = "Changes";

/// One thing that `install` changes; it displays as its name in the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The driver package.
    Package,
    /// resvflt.sys among the system's drivers.
    File,
    /// The service.
    Service,
    /// An entry in a list of filters: of one device, or of the class.
    Entry {
        list: &'static str,
        device: Option<String>,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package => f.write_str("package"),
            Self::File => f.write_str("file"),
            Self::Service => f.write_str("service"),
            Self::Entry { list, device: None } => write!(f, "{list} of the class"),
            Self::Entry {
                list,
                device: Some(device),
            } => write!(f, "{list} of {device}"),
        }
    }
}

impl Serialize for Change {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Change {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "package" => Some(Self::Package),
            "file" => Some(Self::File),
            "service" => Some(Self::Service),
            _ => {
                let (list, of) = name.split_once(" of ")?;
                let list = POSITIONS.into_iter().find(|position| *position == list)?;
                let device = (of != "the class").then(|| of.into());
                Some(Self::Entry { list, device })
            }
        }
    }
}

/// What was changed, as the registry has it.
pub struct Record<'a>(pub &'a dyn Machine);

impl Record<'_> {
    fn key() -> Key {
        Key::Machine(RECORD.into())
    }

    fn failed(error: Win32) -> Failure {
        Failure::of(format_args!("the record of changes, HKLM\\{RECORD}"))(error)
    }

    fn names(&self) -> Result<Vec<String>, Failure> {
        let changes = self.0.value(&Self::key(), CHANGES).map_err(Self::failed)?;
        Ok(changes
            .map(|changes| multi_string::strings(&changes.data))
            .unwrap_or_default())
    }

    /// The changes, the first one first.
    pub fn changes(&self) -> Result<Vec<Change>, Failure> {
        let parse = |name: String| {
            Change::parse(&name).ok_or_else(|| {
                let failure = Failure::new(format!(
                    "the record of changes, HKLM\\{RECORD}, has a change `{name}`"
                ));
                failure.and("this is another version's: uninstall with that")
            })
        };
        self.names()?.into_iter().map(parse).collect()
    }

    /// True if resvctl made this change.
    pub fn has(&self, change: &Change) -> Result<bool, Failure> {
        Ok(self.names()?.contains(&change.to_string()))
    }

    /// What was there before.
    pub fn before(&self, change: &Change) -> Result<Option<Value>, Failure> {
        self.0
            .value(&Self::key(), &change.to_string())
            .map_err(Self::failed)
    }

    fn set(&self, name: &str, value: Option<&Value>) -> Result<(), Failure> {
        self.0
            .set_value(&Self::key(), name, value)
            .map_err(Self::failed)
    }

    fn set_names(&self, names: &[String]) -> Result<(), Failure> {
        let data = multi_string::data(names.iter().map(String::as_str));
        self.set(
            CHANGES,
            Some(&Value {
                kind: kind::MULTI_SZ,
                data,
            }),
        )
    }

    /// Writes a change down that is about to be made.
    pub fn add(&self, change: &Change, before: Option<&Value>) -> Result<(), Failure> {
        self.set(&change.to_string(), before)?;
        let mut names = self.names()?;
        if !names.contains(&change.to_string()) {
            names.push(change.to_string());
            self.set_names(&names)?;
        }
        self.flush()
    }

    /// Forgets a change that was taken back; with the last one the record goes.
    pub fn remove(&self, change: &Change) -> Result<(), Failure> {
        let mut names = self.names()?;
        names.retain(|known| *known != change.to_string());
        if names.is_empty() {
            return self.end();
        }
        self.set_names(&names)?;
        self.set(&change.to_string(), None)
    }

    /// Deletes the record.
    pub fn end(&self) -> Result<(), Failure> {
        self.0.delete_key(&Self::key()).map_err(Self::failed)?;
        self.flush()
    }

    fn flush(&self) -> Result<(), Failure> {
        self.0.flush(Hive::Software).map_err(Self::failed)
    }
}
