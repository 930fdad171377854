//! The faults, by file. What stands in `driver/scsi` and `driver/resvctl` is cargo-mutants' (`.cargo/mutants.toml`).

use super::Fault;

const fn fault(file: &'static str, old: &'static str, new: &'static str) -> Fault {
    Fault {
        file,
        old,
        new,
        excused: None,
    }
}

#[rustfmt::skip]
pub const FAULTS: &[Fault] = &[
    // Which disks: parameters and hardware keys.
    fault("config.rs", r#""TimeoutSeconds"), 1..="#, r#""TimeoutSeconds"), 0..="#),
    fault("config.rs", "1..=3_600, 0", "1..=3_601, 0"),
    fault("config.rs", "0..=16, 4", "0..=17, 4"),
    fault("config.rs", "10..=60_000", "9..=60_000"),
    fault("config.rs", "10..=60_000", "10..=60_001"),
    fault("config.rs", r#""Reserve10Fallback"), 0..=1"#, r#""Reserve10Fallback"), 0..=2"#),
    fault("config.rs", r#""AttachMode"), 0..=1"#, r#""AttachMode"), 0..=2"#),
    fault("config.rs", r#""ResvFltEnabled"), 0..=1"#, r#""ResvFltEnabled"), 0..=2"#),
    fault("config.rs", "1..=108_000, 10", "0..=108_000, 10"),
    fault("config.rs", "1..=108_000, 10", "1..=108_000, 60"),
    fault("config.rs", "NtStatus::OBJECT_TYPE_MISMATCH | NtStatus::BUFFER_OVERFLOW", "NtStatus::OBJECT_TYPE_MISMATCH | NtStatus(1)"),
    fault("config.rs", "(0, _) => Some", "(0, Self::EnabledDisks) => Some"),
    fault("config.rs", "self.policy.ten_byte_fallback.into()", "1"),
    fault("filter.rs", "0x61..=0x7A => unit - 0x20", "0x61..=0x7A => unit"),
    fault("filter.rs", "Err(NtStatus::OBJECT_NAME_NOT_FOUND) => Ok(None)", "Err(_) if true => Ok(None)"),
    fault("filter.rs", "self.disks.fetch_add(1,", "self.disks.fetch_add(0,"),
    fault("filter.rs", "attached.map_err(failed)?;", "let _ = attached.map_err(failed);"),
    fault("wdf/callbacks.rs", "let opened = unsafe { self.dispatch_to(MAJOR_FUNCTION, controls) }.and_then", "let opened = Ok(()).and_then"),

    // Which requests, and where they go.
    fault("disk.rs", "Route::Complete(NtStatus::DEVICE_NOT_CONNECTED)", "Route::Pass"),
    fault("disk.rs", "Control::Reset if !is_gone => Route::Watch", "Control::Reset if true => Route::Watch"),
    fault("disk.rs", "self.reservation.reset_passes(code);", ""),
    fault("disk.rs", "Control::Foreign => None,", "Control::Foreign | Control::Reset => None,"),
    fault("disk.rs", "Route::Queue(&self.queries)", "Route::Queue(self.reservation.queue())"),
    fault("wdf/callbacks.rs", "io_status.Information = 0;", ""),

    // One at a time.
    fault("reservation.rs", "if why == NtStatus::NO_MORE_ENTRIES {", "if false {")
        .excused("the rig's framework tells again, as KMDF 1.33 does; driver/scsi/tests/turns.rs holds it for one that does not"),
    fault("reservation.rs", "if self.queue.waiting() > 0 {", "if self.queue.waiting() > 1 {"),
    fault("reservation.rs", "self.look_again_if_any_waits();\n        request.complete(status);", "request.complete(status);"),
    fault("reservation.rs", "self.gone.store(true,", "self.gone.store(false,"),
    fault("reservation.rs", "self.happens(Event::CancelDone);", ""),
    fault("reservation.rs", "self.finish(NtStatus::INVALID_DEVICE_STATE)", "self.finish(NtStatus::SUCCESS)")
        .excused("never reached: only an empty hand takes a request, and the operation is idle then; the model holds that"),
    fault("reservation.rs", "const NET_SECONDS: u32 = 30;", "const NET_SECONDS: u32 = 3_000;"),
    fault("reservation.rs", "Event::FormatFailed(status))", "Event::Refused(status))"),
    fault("reservation.rs", "if verdict.invalidates_bus_relations() {", "if false {"),
    fault("reservation.rs", "self.happens(Event::PoweredUp);", ""),
    fault("reservation.rs", "state.note_seldom(Event::ResetPassed)", "Action::Nothing"),

    // What is told.
    fault("state.rs", "self.code = code;", ""),
    fault("state.rs", "self.began = Some(interrupt_time());", ""),
    fault("state.rs", "saturating_sub(began) / 10", "saturating_sub(began)"),
    fault("state.rs", "if operation.outcome() == Outcome::Unknown {", "if false {"),
    fault("state.rs", "_ if verdict.outcome == Outcome::Conflict", "_ if false"),
    fault("state.rs", "Action::StartTimer { milliseconds: 0 } if verdict.retry == Retry::AtOnce => {}", ""),
    fault("wdf/etw.rs", ") <= ULONG::from(event.descriptor.Level)", ") < ULONG::from(event.descriptor.Level)"),
    fault("wdf/request.rs", "self.end(NtStatus::SUCCESS, output.length as u64);", "self.end(NtStatus::SUCCESS, 0);"),
    fault("wdf/request.rs", "if self.output.length < size {", "if false {"),

    // What others send.
    fault("config.rs", r#""Watch"), 0..=2"#, r#""Watch"), 0..=3"#),
    fault("config.rs", "2 => Watch::Answers", "2 => Watch::Changes"),
    fault("disk.rs", "self.watching.start();", ""),
    fault("disk.rs", "self.watching.gone();", ""),
    fault("watch.rs", "if self.level == Watch::Answers => Look::Foreign", "if false => Look::Foreign"),
    fault("reservation.rs", "state.operation.other_sent();", ""),
    fault("reservation.rs", "state.disk.other_sent();", ""),
    fault("reservation.rs", "let is_last_word = state.operation.other_answered();", "let is_last_word = state.operation.other_answered() || true;"),
    fault("reservation.rs", "return state.tell_watched(reply);", ""),
    fault("reservation.rs", "return state.disk.foreign_answered(&verdict);", "return;"),
    fault("wdf/below.rs", "self.holders.fetch_add(1, Ordering::Relaxed);", ""),
    fault("wdf/below.rs", "return self.dereference();", ""),
    fault("wdf/callbacks.rs", "space.close();", ""),
    fault("wdf/below.rs", "next.Control = ALWAYS;", "next.Control = 0;"),
    fault("wdf/below.rs", "(*location).Control |= PENDING", "(*location).Control |= 0 * PENDING"),
    fault("wdf/srb.rs", "if unsafe { upper.read() } == 0 {", "if false {"),
    fault("wdf/srb.rs", "CDB_16 | CDB_32 | CDB_VAR", "CDB_16 | CDB_VAR"),
    fault("wdf/callbacks.rs", "Some(watched_srb_is_back::<C, RELEASE>)", "Some(watched_srb_is_back::<C, RESERVE>)"),

    // What goes down, and what came back.
    fault("wdf/pass_through.rs", "const SENSE_LENGTH: usize = 32;", "const SENSE_LENGTH: usize = 24;"),
    fault("wdf/pass_through.rs", "SCSI_STATUS_UNTOUCHED as usize,", "0,"),
    fault("wdf/pass_through.rs", "unsafe { buffer.cast::<[u8; size_of::<Buffer>()]>().write(TEMPLATE) };",
        "unsafe { buffer.cast::<[u8; PASS_THROUGH_LENGTH]>().write(*TEMPLATE.first_chunk().unwrap_unchecked()) };"),
    fault("wdf/pass_through.rs", "header.TimeOutValue = timeout;", "header.TimeOutValue = timeout + 1;"),
    fault("wdf/pass_through.rs", "(*next).MinorFunction = SCSI_CLASS", "(*next).MinorFunction = 0"),
    fault("wdf/pass_through.rs", "seconds as LONGLONG * -10_000_000", "seconds as LONGLONG * -10_000"),
    fault("wdf/pass_through.rs", "status: NtStatus(status),", "status: NtStatus(0),"),
    fault("wdf/pass_through.rs", "usize::try_from(io_status.Information).unwrap_or(0)", "PASS_THROUGH_LENGTH"),
    fault("wdf/pass_through.rs", "check(unsafe { call_unsafe!(WdfRequestAllocateTimer, request) })?;", ""),
    fault("wdf/timer.rs", "i64::from(milliseconds) * -10_000)", "i64::from(milliseconds) * -1_000)"),
    fault("wdf/registry.rs", "unsafe { call_unsafe!(WdfRegistryClose, self.0) };", ""),
];
