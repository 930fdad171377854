//! One operation, event by event: caps, delays, the 10-byte form, stops, and events that can't
//! happen.

use scsi_reserve::Action::{
    CancelSent, Finish, Mark, Nothing, Prepare, Send, StartTimer, StopTimer, Unmark,
};
use scsi_reserve::Event::{
    Answered, CancelAsked, CancelDone, DelayOver, Gone, Marked, Ready, Refused, Start, Unmarked,
    WaitStopped,
};
use scsi_reserve::{Action, Answer, Command, Event, Form, NtStatus, Operation, Outcome, Policy};

const OK: NtStatus = NtStatus::SUCCESS;
const CANCELLED: NtStatus = NtStatus::CANCELLED;
const NOT_CONNECTED: NtStatus = NtStatus::DEVICE_NOT_CONNECTED;
const NOW: Action = StartTimer { milliseconds: 0 };
const DELAY: Action = StartTimer { milliseconds: 1000 };
const TEN_SECONDS: Action = StartTimer {
    milliseconds: 10_000,
};

const GOOD: Event = scsi(0x00);
const CONFLICT: Event = scsi(0x18);
const BUSY: Event = scsi(0x08);
const UNPROVED: Event = scsi(0xFF);
const ATTENTION: Event = check(&[0x72, 0x06, 0x29, 0x00]);
const ILLEGAL: Event = check(&[0x72, 0x05, 0x20, 0x00]);
const BECOMING_READY: Event = check(&[0x72, 0x02, 0x04, 0x01]);
const TIMED_OUT: Event = Answered(Answer {
    status: NtStatus::IO_TIMEOUT,
    information: 0,
    scsi_status: 0,
    sense: &[],
});

const fn scsi(scsi_status: u8) -> Event<'static> {
    Answered(Answer {
        status: OK,
        information: 56,
        scsi_status,
        sense: &[],
    })
}

const fn check(sense: &'static [u8]) -> Event<'static> {
    Answered(Answer {
        status: OK,
        information: 56 + sense.len(),
        scsi_status: 0x02,
        sense,
    })
}

/// Steps through events, each with the action that must answer it.
fn play(operation: &mut Operation, script: &[(Event<'_>, Action)]) {
    for (number, (event, expected)) in script.iter().enumerate() {
        assert_eq!(
            operation.step(*event),
            *expected,
            "event {number}, {event:?}, of {script:?}"
        );
    }
}

/// A whole operation that nobody stops; the answers are given in turn, and the last one again and
/// again. The status it ends with, the delays, and the operation codes sent.
fn run(operation: &mut Operation, answers: &[Event<'_>]) -> (NtStatus, Vec<u32>, Vec<u8>) {
    let mut answers = answers.iter().copied();
    let mut answer = answers.next().unwrap();
    let (mut delays, mut codes) = (vec![], vec![]);
    let mut action = operation.step(Start(Command::Reserve));
    loop {
        action = operation.step(match action {
            Mark => Marked(OK),
            Prepare => Ready,
            Send => {
                codes.push(operation.cdb().as_bytes()[0]);
                assert!(codes.len() < 100, "no end");
                let this = answer;
                answer = answers.next().unwrap_or(this);
                this
            }
            StartTimer { milliseconds } => {
                delays.push(milliseconds);
                DelayOver
            }
            Unmark => Unmarked(OK),
            Finish(status) => return (status, delays, codes),
            Nothing | StopTimer | CancelSent => panic!("{action:?}, and nobody stopped it"),
        });
    }
}

#[test]
fn the_caps_count_retries_and_each_kind_has_its_delay() {
    let times = |delay, times| vec![delay; times];
    for (answers, status, delays) in [
        (&[GOOD][..], OK, vec![]),
        (&[CONFLICT], NtStatus::DEVICE_BUSY, vec![]),
        (&[UNPROVED], NtStatus::IO_DEVICE_ERROR, vec![]),
        (&[TIMED_OUT], NtStatus::IO_TIMEOUT, vec![]),
        (&[BUSY], NtStatus::DEVICE_NOT_READY, times(1000, 4)),
        (
            &[BECOMING_READY],
            NtStatus::DEVICE_NOT_READY,
            times(10_000, 4),
        ),
        (
            &[Refused(NtStatus::INSUFFICIENT_RESOURCES)],
            NtStatus::INSUFFICIENT_RESOURCES,
            times(1000, 4),
        ),
        (&[ATTENTION], NtStatus::IO_DEVICE_ERROR, times(0, 8)),
        (
            &[ATTENTION, BUSY, ATTENTION, BUSY, GOOD],
            OK,
            vec![0, 1000, 0, 1000],
        ),
        (
            &[BUSY, BECOMING_READY, BUSY, BECOMING_READY, BUSY],
            NtStatus::DEVICE_NOT_READY,
            vec![1000, 10_000, 1000, 10_000],
        ),
        (
            &[ILLEGAL, BUSY],
            NtStatus::DEVICE_NOT_READY,
            vec![0, 1000, 1000, 1000, 1000],
        ),
    ] {
        let mut operation = Operation::new(Policy::default());
        let (ended, waited, sent) = run(&mut operation, answers);
        assert_eq!((ended, &waited), (status, &delays), "{answers:?}");
        assert_eq!(operation.sends() as usize, sent.len(), "{answers:?}");
        assert_eq!(sent.len(), delays.len() + 1, "{answers:?}");
        assert_eq!(
            operation.retries() as usize,
            delays.iter().filter(|&&delay| delay > 0).count()
        );
    }
}

#[test]
fn the_policy_sets_the_number_of_retries_and_the_delay() {
    let policy = Policy {
        max_retries: 2,
        retry_delay_ms: 70,
        ..Policy::default()
    };
    let (_, delays, _) = run(&mut Operation::new(policy), &[BUSY]);
    assert_eq!(delays, [70, 70]);
    let (_, delays, _) = run(
        &mut Operation::new(Policy {
            max_retries: 0,
            ..policy
        }),
        &[BECOMING_READY],
    );
    assert_eq!(delays, []);
}

/// Each line is an operation of the same device: answers, status, operation codes, the form
/// remembered after it.
#[test]
fn the_ten_byte_form_is_tried_once_and_remembered_while_it_serves() {
    let refused = NtStatus::INVALID_DEVICE_REQUEST;
    let mut operation = Operation::new(Policy::default());
    for (answers, status, codes, form) in [
        (
            &[ILLEGAL, ILLEGAL][..],
            refused,
            &[0x16, 0x56][..],
            Form::Six,
        ),
        (
            &[ILLEGAL, TIMED_OUT],
            NtStatus::IO_TIMEOUT,
            &[0x16, 0x56],
            Form::Six,
        ),
        (
            &[ILLEGAL, CONFLICT],
            NtStatus::DEVICE_BUSY,
            &[0x16, 0x56],
            Form::Ten,
        ),
        (&[GOOD], OK, &[0x56], Form::Ten),
        (
            &[BUSY, TIMED_OUT],
            NtStatus::IO_TIMEOUT,
            &[0x56, 0x56],
            Form::Ten,
        ),
        (&[ILLEGAL], refused, &[0x56], Form::Six),
        (
            &[ATTENTION, ILLEGAL, ATTENTION, GOOD],
            OK,
            &[0x16, 0x16, 0x56, 0x56],
            Form::Ten,
        ),
        (&[Refused(refused)], refused, &[0x56], Form::Six),
        (&[GOOD], OK, &[0x16], Form::Six),
    ] {
        let (ended, _, sent) = run(&mut operation, answers);
        assert_eq!((ended, sent.as_slice()), (status, codes), "{answers:?}");
        assert_eq!(operation.form(), form, "{answers:?}");
    }

    let without = Policy {
        ten_byte_fallback: false,
        ..Policy::default()
    };
    let (status, _, sent) = run(&mut Operation::new(without), &[ILLEGAL]);
    assert_eq!((status, sent.as_slice()), (refused, &[0x16][..]));
}

#[test]
fn a_stop_does_not_keep_the_ten_byte_form_from_being_remembered() {
    let mut operation = Operation::new(Policy::default());
    reach_out(&mut operation);
    play(
        &mut operation,
        &[
            (ILLEGAL, NOW),
            (DelayOver, Prepare),
            (Ready, Send),
            (CancelAsked, CancelSent),
            (CONFLICT, Nothing),
            (CancelDone, Finish(CANCELLED)),
        ],
    );
    assert_eq!(operation.form(), Form::Ten);
}

#[test]
fn the_outcome_is_unknown_once_a_send_left_it_so_until_the_target_tells() {
    for (answers, outcome) in [
        (&[GOOD][..], Outcome::Executed),
        (&[CONFLICT], Outcome::Conflict),
        (&[BUSY], Outcome::NotExecuted),
        (&[TIMED_OUT], Outcome::Unknown),
        (&[ATTENTION, BUSY], Outcome::Unknown),
        (&[ATTENTION, CONFLICT], Outcome::Conflict),
        (&[Refused(CANCELLED)], Outcome::Unknown),
    ] {
        let mut operation = Operation::new(Policy::default());
        run(&mut operation, answers);
        assert_eq!(operation.outcome(), outcome, "{answers:?}");
    }
}

type Script = &'static [(Event<'static>, Action)];

/// From idle.
const STOPS_BEFORE_THE_SEND: &[(&str, Script)] = &[
    (
        "gone while idle",
        &[
            (Gone, Nothing),
            (Start(Command::Release), Finish(NOT_CONNECTED)),
        ],
    ),
    (
        "mark refused",
        &[
            (Start(Command::Reserve), Mark),
            (Marked(CANCELLED), Finish(CANCELLED)),
        ],
    ),
    (
        "mark refused by the purge",
        &[
            (Start(Command::Reserve), Mark),
            (Gone, Nothing),
            (Marked(CANCELLED), Finish(NOT_CONNECTED)),
        ],
    ),
    (
        "cancelled before the mark has returned",
        &[
            (Start(Command::Reserve), Mark),
            (CancelAsked, Nothing),
            (Marked(OK), Nothing),
            (CancelDone, Finish(CANCELLED)),
        ],
    ),
    (
        "gone before the mark has returned",
        &[
            (Start(Command::Reserve), Mark),
            (Gone, Nothing),
            (Marked(OK), Unmark),
            (Unmarked(OK), Finish(NOT_CONNECTED)),
        ],
    ),
    (
        "cancelled while preparing, the canceller leaves first",
        &[
            (Start(Command::Reserve), Mark),
            (Marked(OK), Prepare),
            (CancelAsked, Nothing),
            (CancelDone, Nothing),
            (Ready, Finish(CANCELLED)),
        ],
    ),
    (
        "cancelled while preparing, and the format fails",
        &[
            (Start(Command::Reserve), Mark),
            (Marked(OK), Prepare),
            (CancelAsked, Nothing),
            (Refused(NtStatus::INSUFFICIENT_RESOURCES), Nothing),
            (CancelDone, Finish(CANCELLED)),
        ],
    ),
];

/// From [`reach_out`].
const STOPS_AFTER_THE_SEND: &[(&str, Script)] = &[
    (
        "cancelled",
        &[
            (CancelAsked, CancelSent),
            (CancelDone, Nothing),
            (TIMED_OUT, Finish(CANCELLED)),
        ],
    ),
    (
        "cancelled, then gone",
        &[
            (CancelAsked, CancelSent),
            (Gone, Nothing),
            (TIMED_OUT, Nothing),
            (CancelDone, Finish(CANCELLED)),
        ],
    ),
    (
        "gone, then cancelled by the purge",
        &[
            (Gone, CancelSent),
            (CancelAsked, Nothing),
            (BUSY, Nothing),
            (CancelDone, Finish(NOT_CONNECTED)),
        ],
    ),
    (
        "gone",
        &[
            (Gone, CancelSent),
            (Refused(CANCELLED), Unmark),
            (Unmarked(OK), Finish(NOT_CONNECTED)),
        ],
    ),
    (
        "cancelled, and proof",
        &[
            (CancelAsked, CancelSent),
            (GOOD, Nothing),
            (CancelDone, Finish(OK)),
        ],
    ),
    (
        "gone, and proof",
        &[
            (Gone, CancelSent),
            (GOOD, Unmark),
            (Unmarked(OK), Finish(OK)),
        ],
    ),
    (
        "cancelled after the answer",
        &[
            (CONFLICT, Unmark),
            (Unmarked(CANCELLED), Nothing),
            (CancelAsked, Nothing),
            (CancelDone, Finish(CANCELLED)),
        ],
    ),
    (
        "cancelled and done after the answer",
        &[
            (CONFLICT, Unmark),
            (CancelAsked, Nothing),
            (CancelDone, Nothing),
            (Unmarked(CANCELLED), Finish(CANCELLED)),
        ],
    ),
    (
        "cancelled after proof",
        &[
            (GOOD, Unmark),
            (Unmarked(CANCELLED), Nothing),
            (CancelAsked, Nothing),
            (CancelDone, Finish(OK)),
        ],
    ),
    (
        "gone and purged after the answer",
        &[
            (CONFLICT, Unmark),
            (Gone, Nothing),
            (CancelAsked, Nothing),
            (Unmarked(CANCELLED), Nothing),
            (CancelDone, Finish(NtStatus::DEVICE_BUSY)),
        ],
    ),
    (
        "cancelled while waiting",
        &[
            (BUSY, DELAY),
            (CancelAsked, StopTimer),
            (WaitStopped(true), Nothing),
            (CancelDone, Finish(CANCELLED)),
        ],
    ),
    (
        "gone while waiting",
        &[
            (BECOMING_READY, TEN_SECONDS),
            (Gone, StopTimer),
            (WaitStopped(true), Unmark),
            (Unmarked(OK), Finish(NOT_CONNECTED)),
        ],
    ),
    (
        "gone while waiting, the timer fires, the purge",
        &[
            (Refused(NtStatus::INSUFFICIENT_RESOURCES), DELAY),
            (Gone, StopTimer),
            (WaitStopped(false), Nothing),
            (CancelAsked, Nothing),
            (CancelDone, Nothing),
            (DelayOver, Finish(NOT_CONNECTED)),
        ],
    ),
    (
        "refused for good",
        &[
            (Refused(NtStatus::INVALID_DEVICE_STATE), Unmark),
            (Unmarked(OK), Finish(NOT_CONNECTED)),
        ],
    ),
];

#[test]
fn each_phase_stops_in_its_way() {
    for (what, script) in STOPS_BEFORE_THE_SEND {
        println!("{what}");
        play(&mut Operation::new(Policy::default()), script);
    }
    for (what, script) in STOPS_AFTER_THE_SEND {
        println!("sent, then {what}");
        let mut operation = Operation::new(Policy::default());
        reach_out(&mut operation);
        play(&mut operation, script);
    }
}

fn reach_out(operation: &mut Operation) {
    play(
        operation,
        &[
            (Start(Command::Reserve), Mark),
            (Marked(OK), Prepare),
            (Ready, Send),
        ],
    );
}

/// From each phase, all events but those that it expects.
#[test]
fn an_event_that_cannot_happen_changes_nothing() {
    let all = [
        Start(Command::Reserve),
        Marked(OK),
        Marked(CANCELLED),
        Ready,
        Refused(CANCELLED),
        GOOD,
        BUSY,
        DelayOver,
        WaitStopped(true),
        WaitStopped(false),
        CancelAsked,
        CancelDone,
        Unmarked(OK),
        Unmarked(CANCELLED),
        Gone,
    ];
    let waiting = [
        (Start(Command::Reserve), Mark),
        (Marked(OK), Prepare),
        (Ready, Send),
        (BUSY, DELAY),
    ];
    let ended = [
        (Start(Command::Reserve), Mark),
        (Marked(OK), Prepare),
        (Ready, Send),
        (GOOD, Unmark),
    ];
    let lost = [ended.as_slice(), &[(Unmarked(CANCELLED), Nothing)]].concat();
    let inside = [lost.as_slice(), &[(CancelAsked, Nothing)]].concat();
    let cancelled = [
        &waiting[..3],
        &[(CancelAsked, CancelSent), (CancelDone, Nothing)],
    ]
    .concat();
    for (phase, way, expected) in [
        ("idle", &[][..], &[Start(Command::Reserve), Gone][..]),
        (
            "marking",
            &waiting[..1],
            &[Marked(OK), Marked(CANCELLED), CancelAsked, Gone],
        ),
        (
            "preparing",
            &waiting[..2],
            &[Ready, Refused(CANCELLED), CancelAsked, Gone],
        ),
        (
            "out",
            &waiting[..3],
            &[GOOD, BUSY, Refused(CANCELLED), CancelAsked, Gone],
        ),
        (
            "out and cancelled",
            &cancelled,
            &[GOOD, BUSY, Refused(CANCELLED), Gone],
        ),
        ("waiting", &waiting, &[DelayOver, CancelAsked, Gone]),
        (
            "ended",
            &ended,
            &[Unmarked(OK), Unmarked(CANCELLED), CancelAsked, Gone],
        ),
        ("unmark lost", &lost, &[CancelAsked, Gone]),
        ("canceller inside", &inside, &[CancelDone, Gone]),
    ] {
        let mut operation = Operation::new(Policy::default());
        play(&mut operation, way);
        for event in all.iter().filter(|event| !expected.contains(event)) {
            let mut after = operation.clone();
            assert_eq!(after.step(*event), Nothing, "{phase}, {event:?}");
            assert_eq!(after, operation, "{phase}, {event:?}");
        }
        for event in expected {
            let mut after = operation.clone();
            let _ = after.step(*event);
            assert_ne!(after, operation, "{phase}, {event:?}");
        }
    }
}
