//! SCSI RESERVE and RELEASE as one node sends them. From the top; a module uses only modules below it:
//!
//! | module | what it says |
//! | --- | --- |
//! | `control` | the control codes that ask for them |
//! | `state` | what the node knows of its reservation |
//! | `watch` | what others' SCSI request blocks ask for, and what their answers say |
//! | `operation` | one operation as a state machine |
//! | `verdict` | what an answer means to the caller |
//! | `sense` | sense data |
//! | `cdb` | the commands |
//! | `ntstatus` | the NTSTATUS values that occur |
//!
//! Nothing here knows KMDF, allocates or panics: the driver, the model checker and the fuzzer step
//! the same types. What passes between the driver and these types is small enough for registers,
//! since all of it happens under a lock.
//!
//! A RESERVE of a logical unit that another initiator holds:
//!
//! ```
//! use scsi_reserve::{Action, Answer, Command, Event, NtStatus, Operation, Policy, Verdict};
//!
//! let mut operation = Operation::new(Policy::default());
//! assert_eq!(operation.step(Event::Start(Command::Reserve)), Action::Mark);
//! assert_eq!(operation.step(Event::Marked(NtStatus::SUCCESS)), Action::Prepare);
//! assert_eq!(operation.cdb().operation_code(), 0x16);
//! assert_eq!(operation.step(Event::Ready), Action::Send);
//!
//! let conflict = Answer {
//!     status: NtStatus::SUCCESS,
//!     information: 56,
//!     scsi_status: 0x18,
//!     sense: &[],
//! };
//! let conflict = Verdict::of(&conflict);
//! assert_eq!(operation.step(Event::Answered(conflict)), Action::Unmark);
//! assert_eq!(
//!     operation.step(Event::Unmarked(NtStatus::SUCCESS)),
//!     Action::Finish(NtStatus::DEVICE_BUSY),
//! );
//! ```
#![no_std]
#![forbid(unsafe_code)]

pub mod cdb;
pub mod control;
pub mod ntstatus;
pub mod operation;
pub mod sense;
pub mod state;
pub mod verdict;
pub mod watch;

pub use cdb::{Cdb, Command, Form};
pub use control::Control;
pub use ntstatus::NtStatus;
pub use operation::{Action, Event, Operation, Policy};
pub use sense::{SENSE_KEYS, Sense};
pub use state::{IOCTL_RESVFLT_QUERY_STATE, Knowledge, ReservationState};
pub use verdict::{Answer, Outcome, Retry, Target, Verdict};
pub use watch::{SrbAnswer, Watch, Watched};
