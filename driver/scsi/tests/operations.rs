//! One operation, event by event: caps, delays, the 10-byte form, stops, and events that can't
//! happen.

use scsi_reserve::Action::{
    CancelSent, Finish, Mark, Nothing, Prepare, Refuse, Send, StartTimer, StopTimer, Unmark,
};
use scsi_reserve::Event::{
    Answered, CancelAsked, CancelDone, DelayOver, FormatFailed, Gone, Marked, PoweredUp, Ready,
    Refused, ResetPassed, Start, Unmarked, WaitStopped,
};
use scsi_reserve::{
    Action, Answer, Command, Event, Form, NtStatus, Operation, Outcome, Policy, Verdict,
};

const OK: NtStatus = NtStatus::SUCCESS;
const CANCELLED: NtStatus = NtStatus::CANCELLED;
const NOT_CONNECTED: NtStatus = NtStatus::DEVICE_NOT_CONNECTED;
const NOW: Action = StartTimer { milliseconds: 0 };
const DELAY: Action = StartTimer { milliseconds: 1000 };
const TEN_SECONDS: Action = StartTimer {
    milliseconds: 10_000,
};

macro_rules! answers {
    ($($name:ident $status:ident $scsi_status:literal $sense:expr;)*) => {
        $(fn $name() -> Event {
            let sense: &[u8] = &$sense;
            Answered(Verdict::of(&Answer {
                status: NtStatus::$status,
                information: 56 + sense.len(),
                scsi_status: $scsi_status,
                sense,
            }))
        })*
    };
}

answers! {
    good SUCCESS 0x00 [];
    conflict SUCCESS 0x18 [];
    busy SUCCESS 0x08 [];
    unproved SUCCESS 0xFF [];
    attention SUCCESS 0x02 [0x72, 0x06, 0x29, 0x00];
    illegal SUCCESS 0x02 [0x72, 0x05, 0x20, 0x00];
    becoming_ready SUCCESS 0x02 [0x72, 0x02, 0x04, 0x01];
    timed_out IO_TIMEOUT 0xFF [];
    bus_reset IO_DEVICE_ERROR 0x00 [];
    port_refuses INVALID_DEVICE_REQUEST 0xFF [];
}

/// Steps through events, each with the action that must answer it.
fn play(operation: &mut Operation, script: &[(Event, Action)]) {
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
fn run(operation: &mut Operation, answers: &[Event]) -> (NtStatus, Vec<u32>, Vec<u8>) {
    let mut answers = answers.iter().copied();
    let mut answer = answers.next().unwrap();
    let (mut delays, mut codes) = (vec![], vec![]);
    let mut action = operation.step(Start(Command::Reserve));
    loop {
        action = operation.step(match action {
            Mark => Marked(OK),
            Prepare => Ready,
            Send => {
                codes.push(operation.cdb().operation_code());
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
            Nothing | Refuse | StopTimer | CancelSent => {
                panic!("{action:?}, and nobody stopped it")
            }
        });
    }
}

#[test]
fn the_caps_count_retries_and_each_kind_has_its_delay() {
    let times = |delay, times| vec![delay; times];
    for (answers, status, delays) in [
        (&[good()][..], OK, vec![]),
        (&[conflict()], NtStatus::DEVICE_BUSY, vec![]),
        (&[unproved()], NtStatus::IO_DEVICE_ERROR, vec![]),
        (&[timed_out()], NtStatus::IO_TIMEOUT, vec![]),
        (&[port_refuses()], NtStatus::INVALID_DEVICE_REQUEST, vec![0]),
        (&[busy()], NtStatus::DEVICE_NOT_READY, times(1000, 4)),
        (
            &[becoming_ready()],
            NtStatus::DEVICE_NOT_READY,
            times(10_000, 4),
        ),
        (
            &[Refused(NtStatus::INSUFFICIENT_RESOURCES)],
            NtStatus::INSUFFICIENT_RESOURCES,
            times(1000, 4),
        ),
        (&[bus_reset()], NtStatus::IO_DEVICE_ERROR, times(1000, 4)),
        (
            &[attention()],
            NtStatus::IO_DEVICE_ERROR,
            [times(0, 8), times(1000, 4)].concat(),
        ),
        (
            &[[attention(); 11].as_slice(), &[good()]].concat(),
            OK,
            [times(0, 8), times(1000, 3)].concat(),
        ),
        (
            &[attention(), busy(), attention(), busy(), good()],
            OK,
            vec![0, 1000, 0, 1000],
        ),
        (
            &[busy(), becoming_ready(), busy(), becoming_ready(), busy()],
            NtStatus::DEVICE_NOT_READY,
            vec![1000, 10_000, 1000, 10_000],
        ),
        (
            &[illegal(), busy()],
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
    let (_, delays, _) = run(&mut Operation::new(policy), &[busy()]);
    assert_eq!(delays, [70, 70]);
    let (_, delays, _) = run(
        &mut Operation::new(Policy {
            max_retries: 0,
            ..policy
        }),
        &[becoming_ready()],
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
            &[illegal(), illegal()][..],
            refused,
            &[0x16, 0x56][..],
            Form::Six,
        ),
        (
            &[illegal(), timed_out()],
            NtStatus::IO_TIMEOUT,
            &[0x16, 0x56],
            Form::Six,
        ),
        (
            &[illegal(), conflict()],
            NtStatus::DEVICE_BUSY,
            &[0x16, 0x56],
            Form::Ten,
        ),
        (&[good()], OK, &[0x56], Form::Ten),
        (
            &[busy(), timed_out()],
            NtStatus::IO_TIMEOUT,
            &[0x56, 0x56],
            Form::Ten,
        ),
        (&[illegal()], refused, &[0x56], Form::Six),
        (
            &[attention(), illegal(), attention(), good()],
            OK,
            &[0x16, 0x16, 0x56, 0x56],
            Form::Ten,
        ),
        (&[Refused(refused)], refused, &[0x56], Form::Six),
        (&[good()], OK, &[0x16], Form::Six),
        (&[port_refuses(), good()], OK, &[0x16, 0x56], Form::Ten),
        (&[port_refuses()], refused, &[0x56], Form::Six),
    ] {
        let (ended, _, sent) = run(&mut operation, answers);
        assert_eq!((ended, sent.as_slice()), (status, codes), "{answers:?}");
        assert_eq!(operation.form(), form, "{answers:?}");
    }

    let without = Policy {
        ten_byte_fallback: false,
        ..Policy::default()
    };
    let (status, _, sent) = run(&mut Operation::new(without), &[illegal()]);
    assert_eq!((status, sent.as_slice()), (refused, &[0x16][..]));
}

#[test]
fn a_stop_does_not_keep_the_ten_byte_form_from_being_remembered() {
    let mut operation = Operation::new(Policy::default());
    reach_out(&mut operation);
    play(
        &mut operation,
        &[
            (illegal(), NOW),
            (DelayOver, Prepare),
            (Ready, Send),
            (CancelAsked, CancelSent),
            (conflict(), Nothing),
            (CancelDone, Finish(CANCELLED)),
        ],
    );
    assert_eq!(operation.form(), Form::Ten);
}

#[test]
fn the_outcome_is_unknown_once_a_send_left_it_so_until_the_target_tells() {
    for (answers, outcome) in [
        (&[good()][..], Outcome::Executed),
        (&[conflict()], Outcome::Conflict),
        (&[busy()], Outcome::NotExecuted),
        (&[timed_out()], Outcome::Unknown),
        (&[attention(), busy()], Outcome::Unknown),
        (&[attention(), conflict()], Outcome::Conflict),
        (&[Refused(CANCELLED)], Outcome::Unknown),
        (&[port_refuses()], Outcome::NotExecuted),
        (&[bus_reset(), busy()], Outcome::Unknown),
    ] {
        let mut operation = Operation::new(Policy::default());
        run(&mut operation, answers);
        assert_eq!(operation.outcome(), outcome, "{answers:?}");
    }
}

type Script<'a> = &'a [(Event, Action)];

#[test]
fn each_phase_before_the_send_stops_in_its_way() {
    let stops: &[(&str, Script<'_>)] = &[
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
                (FormatFailed(NtStatus::INSUFFICIENT_RESOURCES), Nothing),
                (CancelDone, Finish(CANCELLED)),
            ],
        ),
    ];

    for (what, script) in stops {
        println!("{what}");
        play(&mut Operation::new(Policy::default()), script);
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table")]
fn each_phase_after_the_send_stops_in_its_way() {
    let stops: &[(&str, Script<'_>)] = &[
        (
            "cancelled",
            &[
                (CancelAsked, CancelSent),
                (CancelDone, Nothing),
                (timed_out(), Finish(CANCELLED)),
            ],
        ),
        (
            "cancelled, then gone",
            &[
                (CancelAsked, CancelSent),
                (Gone, Nothing),
                (timed_out(), Nothing),
                (CancelDone, Finish(CANCELLED)),
            ],
        ),
        (
            "gone, then cancelled by the purge",
            &[
                (Gone, CancelSent),
                (CancelAsked, Nothing),
                (busy(), Nothing),
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
                (good(), Nothing),
                (CancelDone, Finish(OK)),
            ],
        ),
        (
            "gone, and proof",
            &[
                (Gone, CancelSent),
                (good(), Unmark),
                (Unmarked(OK), Finish(OK)),
            ],
        ),
        (
            "cancelled after the answer",
            &[
                (conflict(), Unmark),
                (Unmarked(CANCELLED), Nothing),
                (CancelAsked, Nothing),
                (CancelDone, Finish(CANCELLED)),
            ],
        ),
        (
            "cancelled and done after the answer",
            &[
                (conflict(), Unmark),
                (CancelAsked, Nothing),
                (CancelDone, Nothing),
                (Unmarked(CANCELLED), Finish(CANCELLED)),
            ],
        ),
        (
            "cancelled after proof",
            &[
                (good(), Unmark),
                (Unmarked(CANCELLED), Nothing),
                (CancelAsked, Nothing),
                (CancelDone, Finish(OK)),
            ],
        ),
        (
            "gone and purged after the answer",
            &[
                (conflict(), Unmark),
                (Gone, Nothing),
                (CancelAsked, Nothing),
                (Unmarked(CANCELLED), Nothing),
                (CancelDone, Finish(NtStatus::DEVICE_BUSY)),
            ],
        ),
        (
            "cancelled while waiting",
            &[
                (busy(), DELAY),
                (CancelAsked, StopTimer),
                (WaitStopped(true), Nothing),
                (CancelDone, Finish(CANCELLED)),
            ],
        ),
        (
            "gone while waiting",
            &[
                (becoming_ready(), TEN_SECONDS),
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

    for (what, script) in stops {
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

/// The caller is told what the target said of the command; but what it says of the unit is out of
/// date.
#[test]
fn an_answer_that_a_reset_may_have_overtaken_leaves_the_outcome_unknown() {
    for overtaking in [ResetPassed, PoweredUp, Gone] {
        for (answer, status, outcome) in [
            (good(), OK, Outcome::Unknown),
            (conflict(), NtStatus::DEVICE_BUSY, Outcome::Unknown),
            (
                illegal(),
                NtStatus::INVALID_DEVICE_REQUEST,
                Outcome::NotExecuted,
            ),
        ] {
            let policy = Policy {
                ten_byte_fallback: false,
                ..Policy::DEFAULT
            };
            let mut operation = Operation::new(policy);
            reach_out(&mut operation);
            let _ = operation.step(overtaking);
            assert_eq!(operation.step(answer), Unmark);
            let status = match overtaking {
                Gone if status != OK => NOT_CONNECTED,
                _ => status,
            };
            assert_eq!(operation.step(Unmarked(OK)), Finish(status));
            assert_eq!(operation.outcome(), outcome, "{overtaking:?}, {answer:?}");
        }
    }

    let mut operation = Operation::new(Policy::DEFAULT);
    play(&mut operation, &[(ResetPassed, Nothing)]);
    reach_out(&mut operation);
    play(
        &mut operation,
        &[
            (busy(), DELAY),
            (ResetPassed, Nothing),
            (DelayOver, Prepare),
            (PoweredUp, Nothing),
            (Ready, Send),
            (good(), Unmark),
            (ResetPassed, Nothing),
        ],
    );
    assert_eq!(
        operation.outcome(),
        Outcome::Executed,
        "none passed while it was out"
    );
}

/// From each phase, all events but those that it expects.
#[test]
#[allow(clippy::too_many_lines, reason = "one table")]
fn an_event_that_cannot_happen_changes_nothing() {
    let all = [
        Start(Command::Reserve),
        Marked(OK),
        Marked(CANCELLED),
        Ready,
        FormatFailed(CANCELLED),
        Refused(CANCELLED),
        good(),
        busy(),
        DelayOver,
        WaitStopped(true),
        WaitStopped(false),
        CancelAsked,
        CancelDone,
        Unmarked(OK),
        Unmarked(CANCELLED),
        Gone,
        ResetPassed,
        PoweredUp,
    ];
    let waiting = [
        (Start(Command::Reserve), Mark),
        (Marked(OK), Prepare),
        (Ready, Send),
        (busy(), DELAY),
    ];
    let ended = [
        (Start(Command::Reserve), Mark),
        (Marked(OK), Prepare),
        (Ready, Send),
        (good(), Unmark),
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
            &[Ready, FormatFailed(CANCELLED), CancelAsked, Gone],
        ),
        (
            "out",
            &waiting[..3],
            &[
                good(),
                busy(),
                Refused(CANCELLED),
                CancelAsked,
                Gone,
                ResetPassed,
                PoweredUp,
            ],
        ),
        (
            "out and cancelled",
            &cancelled,
            &[
                good(),
                busy(),
                Refused(CANCELLED),
                Gone,
                ResetPassed,
                PoweredUp,
            ],
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
            // A request that is brought is still somebody's.
            let answer = match event {
                Start(_) => Refuse,
                _ => Nothing,
            };
            assert_eq!(after.step(*event), answer, "{phase}, {event:?}");
            assert_eq!(after, operation, "{phase}, {event:?}");
        }
        for event in expected {
            let mut after = operation.clone();
            let _ = after.step(*event);
            assert_ne!(after, operation, "{phase}, {event:?}");
        }
    }
}
