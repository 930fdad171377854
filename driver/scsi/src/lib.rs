//! SCSI RESERVE and RELEASE as one node sends them: the commands ([`cdb`]), sense data ([`sense`]),
//! what an answer means to the caller ([`verdict`]), and one operation as a state machine
//! ([`operation`]).
//!
//! Nothing here knows KMDF, allocates or panics: the driver, the model checker and the fuzzer step
//! the same types.
#![no_std]
#![forbid(unsafe_code)]

pub mod cdb;
pub mod ntstatus;
pub mod operation;
pub mod sense;
pub mod verdict;

pub use cdb::{Cdb, Command, Form};
pub use ntstatus::NtStatus;
pub use operation::{Action, Event, Operation, Policy};
pub use sense::Sense;
pub use verdict::{Answer, Outcome, Retry, Verdict};
