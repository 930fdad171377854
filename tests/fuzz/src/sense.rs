//! Fuzz target: one answer to every command of an operation. Its sense data says what a second reading says, and the
//! operation ends as the table says that the fault walk has.
#![no_main]

use libfuzzer_sys::fuzz_target;
use resvflt_fuzz::{Input, STRUCTURE, answered, is_proof, read};
use rig::faults::oracle::{self, Expected, Known};
use scsi_reserve::{
    Action, Answer, Command, Event, Form, NtStatus, Operation, Outcome, Policy, Target, Verdict,
    sense,
};

fuzz_target!(|data: &[u8]| {
    let answer = Input(data).answer();
    let read_twice = sense::parse(answer.sense).map(|sense| Known {
        deferred: sense.deferred,
        key: sense.key,
        asc: sense.asc,
        ascq: sense.ascq,
    });
    assert_eq!(read_twice, read(answer.sense));

    let verdict = Verdict::of(&answer);
    assert_eq!(verdict.status.is_success(), is_proof(&answer));
    assert_eq!(verdict.outcome == Outcome::Executed, is_proof(&answer));
    let said = answered(&answer);
    let came = said.information >= STRUCTURE;
    let target = verdict.target;
    if let (true, 0x02, Some(known)) = (came, answer.scsi_status, said.sense) {
        assert_eq!(
            (target.sense_key, target.asc, target.ascq),
            (known.key, known.asc, known.ascq)
        );
        if known.deferred {
            assert_eq!(verdict.outcome, Outcome::NotExecuted);
        }
    } else {
        assert_eq!(target.sense_key, Target::NO_SENSE_DATA);
    }
    assert_eq!(
        target.scsi_status,
        if came { answer.scsi_status } else { 0xFF }
    );
    assert_eq!(run(answer), oracle::expected(&answered(&answer)));
});

/// An operation that gets this answer to each of its commands.
fn run(answer: Answer<'_>) -> Expected {
    let mut operation = Operation::new(Policy::default());
    let (mut sends, mut milliseconds, mut form) = (0, 0, Form::Six);
    let mut event = Event::Start(Command::Reserve);
    loop {
        event = match operation.step(event) {
            Action::Mark => Event::Marked(NtStatus::SUCCESS),
            Action::Prepare => Event::Ready,
            Action::Send => {
                sends += 1;
                if operation.cdb().length() == 10 {
                    form = Form::Ten;
                }
                Event::Answered(Verdict::of(&answer))
            }
            Action::StartTimer { milliseconds: more } => {
                milliseconds += u64::from(more);
                Event::DelayOver
            }
            Action::Unmark => Event::Unmarked(NtStatus::SUCCESS),
            Action::Finish(status) => {
                return Expected {
                    status: status.0,
                    sends,
                    milliseconds,
                    ten_byte: form == Form::Ten,
                };
            }
            action
            @ (Action::Nothing | Action::Refuse | Action::StopTimer | Action::CancelSent) => {
                unreachable!("{action:?}: nobody stops it")
            }
        };
    }
}
