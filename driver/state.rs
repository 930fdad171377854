//! What this node knows of one disk's reservation, kept for whoever asks (the state query) and written for whoever
//! listens (ETW). All of it under the disk's lock.
#![forbid(unsafe_code)]

use scsi_reserve::{
    Action, Event, NtStatus, Operation, Outcome, ReservationState, Retry, Verdict, Watched,
};

use crate::config::Parameters;
use crate::trace::{self, TraceEvent};
use crate::wdf::{Hex, Utf16, interrupt_time, utf16};

/// The state of one disk's reservation.
pub struct DiskState {
    state: ReservationState,
    disk: u32,
    /// The control code of the request in hand.
    code: u32,
    /// When it came, if anybody listened.
    began: Option<u64>,
}

impl DiskState {
    /// Of a disk that the filter attaches to now.
    pub fn new(disk: u32, parameters: &Parameters, timeout: u32) -> Self {
        let (policy, watch) = (&parameters.policy, parameters.watch);
        Self {
            state: ReservationState::new(interrupt_time(), policy, timeout, watch),
            disk,
            code: 0,
            began: None,
        }
    }

    /// A request comes into hand.
    pub fn begins(&mut self, code: u32) {
        self.code = code;
        self.began = None;
    }

    /// A reset passes by that somebody on this node asked for with this control code.
    pub fn reset_passes(&self, code: u32) {
        trace::write(|| TraceEvent::ResetPassed {
            disk: self.disk,
            code: Hex(code),
        });
    }

    /// Another's command passes that may change the reservation.
    pub fn other_sent(&mut self) {
        self.state.other_sent(interrupt_time);
    }

    /// It is answered; with what the operation says of its answer.
    pub fn other_answered(&mut self, watched: Watched, verdict: &Verdict, is_last_word: bool) {
        let state = &mut self.state;
        state.other_answered(watched, verdict, is_last_word, interrupt_time);
        let target = verdict.target;
        trace::write(|| TraceEvent::Watched {
            disk: self.disk,
            request: name(watched),
            status: verdict.status,
            scsi_status: target.scsi_status,
            sense_key: target.sense_key,
            asc: target.asc,
            ascq: target.ascq,
            knowledge: state.knowledge,
        });
    }

    /// Another's command is answered that changes no reservation.
    pub fn foreign_answered(&mut self, verdict: &Verdict) {
        if self.state.foreign_answered(verdict, interrupt_time) {
            let target = verdict.target;
            trace::write(|| TraceEvent::Denied {
                disk: self.disk,
                scsi_status: target.scsi_status,
                asc: target.asc,
                ascq: target.ascq,
            });
        }
    }

    /// Notes one step of the operation. Its events are written while the lock is held, so that they come in their order.
    #[allow(
        clippy::inline_always,
        reason = "counted: of an event that is known little is left"
    )]
    #[inline(always)]
    pub fn note(&mut self, event: &Event, action: Action, operation: &Operation) {
        self.state.note(event, action, operation, interrupt_time);
        let is_told = match event {
            Event::Start(_)
            | Event::Answered(_)
            | Event::Refused(_)
            | Event::FormatFailed(_)
            | Event::CancelAsked => true,
            _ => matches!(action, Action::Finish(_)),
        };
        if is_told && trace::is_enabled() {
            self.write_events(event, action, operation);
        }
    }

    /// What is known now.
    pub const fn get(&self) -> &ReservationState {
        &self.state
    }

    #[cold]
    #[inline(never)]
    fn write_events(&mut self, event: &Event, action: Action, operation: &Operation) {
        let (disk, code) = (self.disk, Hex(self.code));
        match event {
            Event::Start(_) => {
                self.began = Some(interrupt_time());
                TraceEvent::OperationStarted { disk, code }.write();
            }
            Event::Answered(_) | Event::Refused(_) | Event::FormatFailed(_) => {
                self.write_answer(action, operation);
            }
            Event::CancelAsked => TraceEvent::CancelRequested {
                disk,
                code,
                attempts: operation.sends(),
            }
            .write(),
            _ => {}
        }
        if let Action::Finish(status) = action {
            self.write_end(status, operation);
        }
    }

    fn write_answer(&self, action: Action, operation: &Operation) {
        let Some(verdict) = operation.verdict() else {
            return;
        };
        let (disk, code, target) = (self.disk, Hex(self.code), verdict.target);
        if verdict.retry == Retry::AtOnce {
            TraceEvent::UnitAttention {
                disk,
                asc: target.asc,
                ascq: target.ascq,
            }
            .write();
        }
        match action {
            Action::StartTimer { milliseconds: 0 } if verdict.retry == Retry::AtOnce => {}
            Action::StartTimer { milliseconds } => TraceEvent::Retry {
                disk,
                code,
                status: verdict.port,
                scsi_status: target.scsi_status,
                sense_key: target.sense_key,
                asc: target.asc,
                ascq: target.ascq,
                attempts: operation.sends(),
                delay_ms: milliseconds,
            }
            .write(),
            _ if verdict.outcome == Outcome::Conflict => {
                TraceEvent::Conflict { disk, code }.write();
            }
            _ => {}
        }
    }

    fn write_end(&self, status: NtStatus, operation: &Operation) {
        let (state, disk) = (&self.state, self.disk);
        if operation.outcome() == Outcome::Unknown {
            let code = Hex(self.code);
            TraceEvent::OutcomeUnknown { disk, code, status }.write();
        }
        let began = self.began.unwrap_or_else(interrupt_time);
        TraceEvent::OperationEnded {
            disk,
            code: Hex(self.code),
            status,
            scsi_status: state.scsi_status,
            sense_key: state.sense_key,
            asc: state.asc,
            ascq: state.ascq,
            attempts: operation.sends(),
            microseconds: interrupt_time().saturating_sub(began) / 10,
        }
        .write();
    }
}

const fn name(watched: Watched) -> Utf16 {
    match watched {
        Watched::Reserve => utf16!("RESERVE"),
        Watched::Release => utf16!("RELEASE"),
        Watched::Other => utf16!("other"),
    }
}
