//! SPC-2 reservations, as one set of tables run over every kind of disk: the unit in this process
//! and, with the feature `iscsi`, Debian's tgt behind libiscsi. Where the two differ, the row says so.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

#[cfg(feature = "iscsi")]
use rig::disk::tgt::Target;
use rig::disk::{
    CHECK_CONDITION, Data, Disk, DiskError, GOOD, Outcome, RESERVATION_CONFLICT, Sense,
    SenseFormat, TaskManagement,
    logical_unit::{Forms, LogicalUnit},
};

const TIMEOUT: Duration = Duration::from_secs(10);

const TEST_UNIT_READY: &[u8] = &[0x00, 0, 0, 0, 0, 0];
const REQUEST_SENSE: &[u8] = &[0x03, 0, 0, 0, 18, 0];
const INQUIRY: &[u8] = &[0x12, 0, 0, 0, 36, 0];
const RESERVE_6: &[u8] = &[0x16, 0, 0, 0, 0, 0];
const RELEASE_6: &[u8] = &[0x17, 0, 0, 0, 0, 0];
const MODE_SENSE: &[u8] = &[0x1A, 0, 0x3F, 0, 64, 0];
const READ_CAPACITY: &[u8] = &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const READ: &[u8] = &[0x28, 0, 0, 0, 0, 1, 0, 0, 1, 0];
const WRITE: &[u8] = &[0x2A, 0, 0, 0, 0, 1, 0, 0, 1, 0];
const RESERVE_10: &[u8] = &[0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const READ_KEYS: &[u8] = &[0x5E, 0, 0, 0, 0, 0, 0, 0, 64, 0];
const RELEASE_10: &[u8] = &[0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const REPORT_LUNS: &[u8] = &[0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0];
const WRITTEN: [u8; 512] = [0xA5; 512];

/// A logical unit that initiators can connect to.
trait Unit: Sync {
    fn connect(&self, initiator: &str) -> Box<dyn Disk>;
    /// Which of a row's two answers is this unit's.
    fn pick(&self, answers: Answers) -> Answer;
}

impl Unit for LogicalUnit {
    fn connect(&self, initiator: &str) -> Box<dyn Disk> {
        Box::new(self.connect(initiator))
    }

    fn pick(&self, answers: Answers) -> Answer {
        match answers {
            Both(answer)
            | Differ {
                embedded: answer, ..
            } => answer,
        }
    }
}

#[cfg(feature = "iscsi")]
impl Unit for Target {
    fn connect(&self, initiator: &str) -> Box<dyn Disk> {
        let initiator = format!("iqn.2001-04.com.example:{initiator}");
        Box::new(self.connect(&initiator).expect("login"))
    }

    fn pick(&self, answers: Answers) -> Answer {
        match answers {
            Both(answer) | Differ { tgt: answer, .. } => answer,
        }
    }
}

/// Runs `test` on a new unit of each kind.
fn on_every_unit(test: impl Fn(&dyn Unit)) {
    test(&LogicalUnit::new());
    #[cfg(feature = "iscsi")]
    test(&Target::start(SenseFormat::Fixed).expect("tgt"));
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Good,
    Conflict,
    /// CHECK CONDITION with this key, code and qualifier.
    Check(u8, u8, u8),
    /// The task management function is not supported.
    Unsupported,
    Gone,
}

#[derive(Clone, Copy)]
enum Answers {
    Both(Answer),
    Differ {
        embedded: Answer,
        #[cfg_attr(
            not(feature = "iscsi"),
            expect(dead_code, reason = "no tgt to compare with")
        )]
        tgt: Answer,
    },
}

use Answer::{Check, Conflict, Gone, Good, Unsupported};
use Answers::{Both, Differ};

const POWER_ON: Answer = Check(6, 0x29, 0x00);
const BUS_RESET: Answer = Check(6, 0x29, 0x02);
const UNIT_RESET: Answer = Check(6, 0x29, 0x03);
const NEXUS_LOSS: Answer = Check(6, 0x29, 0x07);
const INVALID_OPERATION_CODE: Answer = Check(5, 0x20, 0x00);
const INVALID_FIELD: Answer = Check(5, 0x24, 0x00);

fn send(disk: &dyn Disk, cdb: &[u8]) -> Outcome {
    let data = match cdb {
        READ => Data::In(512),
        WRITE => Data::Out(&WRITTEN),
        REQUEST_SENSE | INQUIRY | MODE_SENSE | READ_CAPACITY | READ_KEYS | REPORT_LUNS => {
            Data::In(64)
        }
        _ => Data::None,
    };
    disk.transfer(cdb, data, TIMEOUT)
}

fn ask(disk: &dyn Disk, cdb: &[u8]) -> Answer {
    let outcome = send(disk, cdb);
    match (outcome.status(), outcome.sense()) {
        (Some(GOOD), _) => Good,
        (Some(RESERVATION_CONFLICT), _) => Conflict,
        (Some(CHECK_CONDITION), Some(Sense { key, asc, ascq })) => Check(key, asc, ascq),
        (None, _) if outcome == Outcome::Gone => Gone,
        _ => panic!("{cdb:02x?}: {outcome:?}"),
    }
}

/// A nexus whose first unit attention, of power on, has been taken.
fn ready(unit: &dyn Unit, initiator: &str) -> Box<dyn Disk> {
    let disk = unit.connect(initiator);
    assert!(matches!(ask(&*disk, TEST_UNIT_READY), Check(6, 0x29, _)));
    disk
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Node {
    A,
    B,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Send(&'static [u8]),
    /// Sent again for as long as it conflicts: a target notices a lost connection when it does.
    Await(&'static [u8]),
    Manage(TaskManagement),
    LogOut,
    Lose,
    LogIn,
}

use Act::{Await, LogIn, LogOut, Lose, Manage, Send};
use Node::{A, B};
use TaskManagement::{LogicalUnitReset, TargetColdReset, TargetWarmReset};

type Step = (Node, Act, Answers);

/// Runs a table from two nexuses that are ready.
fn run(unit: &dyn Unit, name: &str, steps: &[Step]) {
    let mut nodes = [ready(unit, "a"), ready(unit, "b")];
    for (number, (node, act, answers)) in steps.iter().enumerate() {
        let disk = &mut nodes[usize::from(*node == B)];
        let answer = match act {
            Send(cdb) => ask(&**disk, cdb),
            Await(cdb) => {
                let deadline = Instant::now() + TIMEOUT;
                loop {
                    let answer = ask(&**disk, cdb);
                    if answer != Conflict || Instant::now() > deadline {
                        break answer;
                    }
                }
            }
            Manage(function) => match disk.manage(*function) {
                Ok(()) => Good,
                Err(DiskError::NotSupported) => Unsupported,
                Err(error) => panic!("{name}: {error}"),
            },
            LogOut => {
                // Dropping a nexus logs out; a dead one takes its place.
                *disk = Box::new(dead());
                Good
            }
            Lose => {
                disk.lose();
                Good
            }
            LogIn => {
                *disk = unit.connect(if *node == A { "a" } else { "b" });
                Good
            }
        };
        assert_eq!(
            answer,
            unit.pick(*answers),
            "{name}, step {}: {node:?} {act:x?}",
            number + 1
        );
    }
}

fn dead() -> impl Disk {
    let nexus = LogicalUnit::new().connect("nobody");
    nexus.lose();
    nexus
}

/// The Reserve6 suite of libiscsi's `iscsi-test-cu`, with the unit attentions that it passes over.
const RESERVE6_SUITE: &[(&str, &[Step])] = &[
    (
        "Simple",
        &[
            (A, Send(RESERVE_6), Both(Good)),
            (A, Send(RELEASE_6), Both(Good)),
        ],
    ),
    (
        "2Initiators",
        &[
            (A, Send(RESERVE_6), Both(Good)),
            (A, Send(RESERVE_6), Both(Good)),
            (B, Send(RESERVE_6), Both(Conflict)),
            (B, Send(RELEASE_6), Both(Good)),
            (A, Send(TEST_UNIT_READY), Both(Good)),
            (B, Send(TEST_UNIT_READY), Both(Conflict)),
            (B, Send(RESERVE_6), Both(Conflict)),
            (A, Send(RELEASE_6), Both(Good)),
            (B, Send(RESERVE_6), Both(Good)),
            (A, Send(RESERVE_6), Both(Conflict)),
            (B, Send(RELEASE_6), Both(Good)),
        ],
    ),
    (
        "Logout",
        &[
            (A, Send(RESERVE_6), Both(Good)),
            (B, Send(RESERVE_6), Both(Conflict)),
            (A, LogOut, Both(Good)),
            (A, Send(TEST_UNIT_READY), Both(Gone)),
            (B, Send(RESERVE_6), Both(Good)),
            (A, LogIn, Both(Good)),
            (
                A,
                Send(RESERVE_6),
                Differ {
                    embedded: NEXUS_LOSS,
                    tgt: POWER_ON,
                },
            ),
            (A, Send(RESERVE_6), Both(Conflict)),
        ],
    ),
    (
        "ITNexusLoss",
        &[
            (A, Send(RESERVE_6), Both(Good)),
            (B, Send(RESERVE_6), Both(Conflict)),
            (A, Lose, Both(Good)),
            (A, Send(RESERVE_6), Both(Gone)),
            (B, Await(RESERVE_6), Both(Good)),
            (A, LogIn, Both(Good)),
            (
                A,
                Send(TEST_UNIT_READY),
                Differ {
                    embedded: NEXUS_LOSS,
                    tgt: POWER_ON,
                },
            ),
            (A, Send(TEST_UNIT_READY), Both(Conflict)),
        ],
    ),
    (
        // Every nexus ends; tgt has no target resets.
        "TargetColdReset",
        &[
            (A, Send(RESERVE_6), Both(Good)),
            (
                A,
                Manage(TargetColdReset),
                Differ {
                    embedded: Good,
                    tgt: Unsupported,
                },
            ),
            (
                A,
                Send(TEST_UNIT_READY),
                Differ {
                    embedded: Gone,
                    tgt: Good,
                },
            ),
            (B, LogIn, Both(Good)),
            (B, Send(TEST_UNIT_READY), Both(POWER_ON)),
            (
                B,
                Send(RESERVE_6),
                Differ {
                    embedded: Good,
                    tgt: Conflict,
                },
            ),
        ],
    ),
    (
        "TargetWarmReset",
        &[
            (A, Send(RESERVE_6), Both(Good)),
            (
                A,
                Manage(TargetWarmReset),
                Differ {
                    embedded: Good,
                    tgt: Unsupported,
                },
            ),
            (
                A,
                Send(TEST_UNIT_READY),
                Differ {
                    embedded: BUS_RESET,
                    tgt: Good,
                },
            ),
            (
                B,
                Send(RESERVE_6),
                Differ {
                    embedded: BUS_RESET,
                    tgt: Conflict,
                },
            ),
            (
                B,
                Send(RESERVE_6),
                Differ {
                    embedded: Good,
                    tgt: Conflict,
                },
            ),
        ],
    ),
    (
        // By the other node, as after a failover. Both are told, once.
        "LUNReset",
        &[
            (A, Send(RESERVE_6), Both(Good)),
            (B, Manage(LogicalUnitReset), Both(Good)),
            (
                B,
                Send(RESERVE_6),
                Differ {
                    embedded: UNIT_RESET,
                    tgt: POWER_ON,
                },
            ),
            (B, Send(RESERVE_6), Both(Good)),
            (
                A,
                Send(RESERVE_6),
                Differ {
                    embedded: UNIT_RESET,
                    tgt: POWER_ON,
                },
            ),
            (A, Send(RESERVE_6), Both(Conflict)),
        ],
    ),
];

#[test]
fn the_reserve6_suite_holds_on_every_unit() {
    for (name, steps) in RESERVE6_SUITE {
        on_every_unit(|unit| run(unit, name, steps));
    }
}

/// tgt has the 6-byte commands only.
#[test]
fn both_forms_make_and_end_the_same_reservation() {
    let steps = &[
        (A, Send(RESERVE_10), Both(Good)),
        (B, Send(RESERVE_10), Both(Conflict)),
        (B, Send(RESERVE_6), Both(Conflict)),
        (B, Send(RELEASE_10), Both(Good)),
        (B, Send(TEST_UNIT_READY), Both(Conflict)),
        (A, Send(RELEASE_6), Both(Good)),
        (B, Send(RESERVE_6), Both(Good)),
        (B, Send(RELEASE_10), Both(Good)),
        (A, Send(RESERVE_6), Both(Good)),
    ];
    run(&LogicalUnit::new(), "forms", steps);
}

/// What a reservation of another initiator lets through: SPC-2 5.5.1 and, for the block commands,
/// annex B.
#[test]
fn another_initiators_reservation_lets_only_the_commands_of_spc2_through() {
    let steps = &[
        (A, Send(RESERVE_6), Both(Good)),
        (B, Send(INQUIRY), Both(Good)),
        (B, Send(REPORT_LUNS), Both(Good)),
        (B, Send(REQUEST_SENSE), Both(Good)),
        (B, Send(READ_CAPACITY), Both(Good)),
        (B, Send(RELEASE_6), Both(Good)),
        (
            B,
            Send(RELEASE_10),
            Differ {
                embedded: Good,
                tgt: INVALID_OPERATION_CODE,
            },
        ),
        (B, Send(TEST_UNIT_READY), Both(Conflict)),
        (B, Send(READ), Both(Conflict)),
        (B, Send(WRITE), Both(Conflict)),
        (B, Send(RESERVE_6), Both(Conflict)),
        (
            B,
            Send(RESERVE_10),
            Differ {
                embedded: Conflict,
                tgt: INVALID_OPERATION_CODE,
            },
        ),
        // tgt asks for the reservation in few commands beside those that move blocks.
        (
            B,
            Send(MODE_SENSE),
            Differ {
                embedded: Conflict,
                tgt: Good,
            },
        ),
        (
            B,
            Send(READ_KEYS),
            Differ {
                embedded: Conflict,
                tgt: Good,
            },
        ),
        (
            A,
            Send(READ_KEYS),
            Differ {
                embedded: Conflict,
                tgt: Good,
            },
        ),
        (A, Send(TEST_UNIT_READY), Both(Good)),
        (A, Send(MODE_SENSE), Both(Good)),
        (A, Send(READ), Both(Good)),
        (A, Send(WRITE), Both(Good)),
        (A, Send(RELEASE_6), Both(Good)),
        (B, Send(READ_KEYS), Both(Good)),
    ];
    on_every_unit(|unit| run(unit, "conflicts", steps));
}

/// tgt looks at none of these bits, and has no 10-byte commands.
#[test]
fn reserved_third_party_and_extent_bits_are_refused() {
    const BITS: &[&[u8]] = &[
        &[0x16, 0x01, 0, 0, 0, 0],
        &[0x16, 0x10, 0, 0, 0, 0],
        &[0x16, 0x20, 0, 0, 0, 0],
        &[0x16, 0, 0x01, 0, 0, 0],
        &[0x16, 0, 0, 0, 0x08, 0],
        &[0x17, 0x10, 0, 0, 0, 0],
        &[0x56, 0x01, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x56, 0x02, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x56, 0x10, 0, 7, 0, 0, 0, 0, 0, 0],
        &[0x56, 0, 0, 0, 0, 0, 0, 0, 8, 0],
        &[0x57, 0x10, 0, 7, 0, 0, 0, 0, 0, 0],
    ];
    on_every_unit(|unit| {
        let disk = ready(unit, "a");
        for cdb in BITS {
            let tgt = if cdb.len() == 6 {
                Good
            } else {
                INVALID_OPERATION_CODE
            };
            let expected = Differ {
                embedded: INVALID_FIELD,
                tgt,
            };
            assert_eq!(ask(&*disk, cdb), unit.pick(expected), "{cdb:02x?}");
        }
        // The control byte: linked commands and ACA are nobody's, the flag bit tgt passes over.
        for (control, tgt) in [(0x01, INVALID_FIELD), (0x02, Good), (0x04, INVALID_FIELD)] {
            let expected = Differ {
                embedded: INVALID_FIELD,
                tgt,
            };
            let cdb = [0x00, 0, 0, 0, 0, control];
            assert_eq!(ask(&*disk, &cdb), unit.pick(expected), "{cdb:02x?}");
        }
    });
}

#[test]
fn a_unit_attention_comes_before_the_conflict_and_passes_inquiry_by() {
    on_every_unit(|unit| {
        let holder = ready(unit, "a");
        assert_eq!(ask(&*holder, RESERVE_6), Good);
        let newcomer = unit.connect("b");
        assert_eq!(ask(&*newcomer, INQUIRY), Good);
        assert_eq!(ask(&*newcomer, REPORT_LUNS), Good);
        assert_eq!(ask(&*newcomer, RESERVE_6), POWER_ON);
        assert_eq!(ask(&*newcomer, RESERVE_6), Conflict);
    });
}

/// tgt reports it by CHECK CONDITION, and keeps it.
#[test]
fn request_sense_takes_a_unit_attention_as_data() {
    on_every_unit(|unit| {
        let disk = unit.connect("a");
        let outcome = send(&*disk, REQUEST_SENSE);
        let expected = Differ {
            embedded: Good,
            tgt: POWER_ON,
        };
        if unit.pick(expected) == Good {
            let Outcome::Status { data, .. } = outcome else {
                panic!("{outcome:?}")
            };
            assert_eq!(Sense::parse(&data), Some(Sense::new(6, 0x29, 0x00)));
            assert_eq!(ask(&*disk, TEST_UNIT_READY), Good);
        } else {
            assert_eq!(outcome.sense(), Some(Sense::new(6, 0x29, 0x00)));
            assert_eq!(ask(&*disk, TEST_UNIT_READY), POWER_ON);
        }
    });
}

/// SAM-3 (Status precedence) and SAM-4 5.14; units of other kinds can't be told to have an event of their own.
#[test]
fn unit_attentions_are_reported_once_and_in_order_of_precedence() {
    let unit = LogicalUnit::new();
    let [a, b] = [ready(&unit, "a"), ready(&unit, "b")];
    assert_eq!(ask(&*b, RESERVE_6), Good);
    unit.attention(0x2A, 0x09);
    unit.attention(0x2A, 0x09);
    // B's reservation outranks the capacity change, so A keeps it until B has gone.
    assert_eq!(ask(&*a, TEST_UNIT_READY), Conflict);
    b.reset_logical_unit().expect("reset");
    unit.attention(0x29, 0x02);
    assert_eq!(ask(&*a, TEST_UNIT_READY), BUS_RESET);
    assert_eq!(ask(&*a, TEST_UNIT_READY), UNIT_RESET);
    assert_eq!(ask(&*a, TEST_UNIT_READY), Check(6, 0x2A, 0x09));
    assert_eq!(ask(&*a, TEST_UNIT_READY), Good);
}

#[test]
fn a_unit_can_know_one_form_only() {
    for (forms, refused, known) in [
        (Forms::Ten, RESERVE_6, RESERVE_10),
        (Forms::Six, RESERVE_10, RESERVE_6),
    ] {
        let unit = LogicalUnit::new();
        unit.configure(|options| options.forms = forms);
        let [a, b] = [ready(&unit, "a"), ready(&unit, "b")];
        assert_eq!(ask(&*a, refused), INVALID_OPERATION_CODE);
        assert_eq!(ask(&*a, known), Good);
        // Before the conflict, or no initiator would ever learn which form to use.
        assert_eq!(ask(&*b, refused), INVALID_OPERATION_CODE);
        assert_eq!(ask(&*b, known), Conflict);
    }
}

#[test]
fn a_registrant_makes_reserve_and_release_conflict_for_everybody() {
    let unit = LogicalUnit::new();
    unit.configure(|options| options.registered = true);
    let disk = ready(&unit, "a");
    for cdb in [RESERVE_6, RELEASE_6, RESERVE_10, RELEASE_10] {
        assert_eq!(ask(&*disk, cdb), Conflict, "{cdb:02x?}");
    }
    assert_eq!(ask(&*disk, TEST_UNIT_READY), Good);
    unit.configure(|options| options.registered = false);
    assert_eq!(ask(&*disk, RESERVE_6), Good);
}

#[test]
fn a_cdb_or_data_of_the_wrong_length_is_refused() {
    let unit = LogicalUnit::new();
    let disk = ready(&unit, "a");
    for cdb in [
        &RESERVE_6[..5],
        &RESERVE_10[..6],
        &REPORT_LUNS[..10],
        &[0x00; 10],
    ] {
        assert_eq!(ask(&*disk, cdb), INVALID_FIELD, "{cdb:02x?}");
    }
    assert_eq!(ask(&*disk, &[]), INVALID_OPERATION_CODE);
    let short = disk.transfer(WRITE, Data::Out(&WRITTEN[..511]), TIMEOUT);
    assert_eq!(short.sense(), Some(Sense::new(5, 0x24, 0x00)));
}

#[test]
fn no_more_data_comes_than_was_asked_for() {
    fn length(disk: &dyn Disk, cdb: &[u8], room: usize) -> usize {
        match disk.transfer(cdb, Data::In(room), TIMEOUT) {
            Outcome::Status { data, .. } => data.len(),
            other => panic!("{cdb:02x?}: {other:?}"),
        }
    }
    let allocations = [[0x12, 0, 0, 0, 5, 0], [0x03, 0, 0, 0, 5, 0]];
    on_every_unit(|unit| {
        let disk = ready(unit, "a");
        for cdb in &allocations {
            assert_eq!(length(&*disk, cdb, 64), 5, "{cdb:02x?}");
        }
    });
    // Of an allocation beyond the transfer's room tgt sends nothing.
    let disk = ready(&LogicalUnit::new(), "a");
    assert_eq!(length(&*disk, &allocations[0], 3), 3);
}

/// The DESC bit of REQUEST SENSE, which tgt has not.
#[test]
fn request_sense_chooses_the_format_of_its_data() {
    let unit = LogicalUnit::new();
    let disk = ready(&unit, "a");
    let nothing = Sense::new(0, 0, 0);
    for (desc, format) in [(0, SenseFormat::Fixed), (1, SenseFormat::Descriptor)] {
        let outcome = disk.transfer(&[0x03, desc, 0, 0, 18, 0], Data::In(18), TIMEOUT);
        assert_eq!(outcome, Outcome::good(nothing.encode(format)));
    }
}

#[test]
fn a_quiet_unit_greets_nobody_and_names_its_holder() {
    let unit = LogicalUnit::new();
    unit.configure(|options| options.quiet = true);
    let disk = Unit::connect(&unit, "a");
    assert_eq!(unit.holder(), None);
    assert_eq!(ask(&*disk, RESERVE_6), Good);
    assert_eq!(unit.holder().as_deref(), Some("a"));
    drop(disk);
    assert_eq!(unit.holder(), None);
    assert_eq!(ask(&*Unit::connect(&unit, "a"), RESERVE_6), Good);
}

#[test]
fn sense_data_comes_in_the_format_asked_for() {
    fn check(disk: &dyn Disk, format: SenseFormat) {
        let Outcome::Status { sense, .. } = send(disk, TEST_UNIT_READY) else {
            panic!("no answer")
        };
        assert_eq!(sense, Sense::new(6, 0x29, 0x00).encode(format));
    }
    for format in [SenseFormat::Fixed, SenseFormat::Descriptor] {
        let unit = LogicalUnit::new();
        unit.configure(|options| options.sense = format);
        check(&unit.connect("a"), format);
        #[cfg(feature = "iscsi")]
        {
            let target = Target::start(format).expect("tgt");
            check(&*Unit::connect(&target, "a"), format);
        }
    }
}

#[test]
fn what_one_initiator_writes_the_other_reads() {
    on_every_unit(|unit| {
        let [a, b] = [ready(unit, "a"), ready(unit, "b")];
        assert_eq!(ask(&*a, WRITE), Good);
        assert_eq!(send(&*b, READ), Outcome::good(WRITTEN.to_vec()));
        // 128 blocks of 512 bytes.
        let capacity = vec![0, 0, 0, 127, 0, 0, 2, 0];
        assert_eq!(send(&*a, READ_CAPACITY), Outcome::good(capacity));
        let beyond = [0x28, 0, 0, 0, 0, 127, 0, 0, 2, 0];
        let outcome = a.transfer(&beyond, Data::In(1024), TIMEOUT);
        assert_eq!(outcome.sense(), Some(Sense::new(5, 0x21, 0x00)));
    });
}

#[test]
fn of_many_initiators_at_once_one_at_a_time_holds_the_unit() {
    on_every_unit(|unit| {
        let inside = AtomicBool::new(false);
        thread::scope(|scope| {
            for number in 0..4 {
                let disk = ready(unit, &format!("node{number}"));
                let inside = &inside;
                scope.spawn(move || {
                    let mut won = 0;
                    while won < 50 {
                        if ask(&*disk, RESERVE_6) == Good {
                            assert!(!inside.swap(true, Ordering::SeqCst), "two holders");
                            inside.store(false, Ordering::SeqCst);
                            assert_eq!(ask(&*disk, RELEASE_6), Good);
                            won += 1;
                        }
                    }
                });
            }
        });
    });
}
