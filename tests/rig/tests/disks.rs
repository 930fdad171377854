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
    persistent::Handling,
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
const READ_RESERVATION: &[u8] = &[0x5E, 1, 0, 0, 0, 0, 0, 0, 64, 0];
const REPORT_CAPABILITIES: &[u8] = &[0x5E, 2, 0, 0, 0, 0, 0, 0, 64, 0];
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
        // PERSISTENT RESERVE IN is the last.
        REQUEST_SENSE | INQUIRY | MODE_SENSE | READ_CAPACITY | REPORT_LUNS | [0x5E, ..] => {
            Data::In(64)
        }
        _ => Data::None,
    };
    disk.transfer(cdb, data, TIMEOUT)
}

fn ask(disk: &dyn Disk, cdb: &[u8]) -> Answer {
    answer_of(cdb, &send(disk, cdb))
}

fn answer_of(cdb: &[u8], outcome: &Outcome) -> Answer {
    match (outcome.status(), outcome.sense()) {
        (Some(GOOD), _) => Good,
        (Some(RESERVATION_CONFLICT), _) => Conflict,
        (Some(CHECK_CONDITION), Some(Sense { key, asc, ascq })) => Check(key, asc, ascq),
        (None, _) if *outcome == Outcome::Gone => Gone,
        _ => panic!("{cdb:02x?}: {outcome:?}"),
    }
}

/// PERSISTENT RESERVE OUT (SPC-4 6.16): its service action, the type, the initiator's key and its new key.
#[derive(Clone, Copy, Debug)]
struct Out(u8, u8, u64, u64);

const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const RELEASE: u8 = 2;
const CLEAR: u8 = 3;
const REGISTER_AND_IGNORE: u8 = 6;
const KEY_A: u64 = 0xA;
const KEY_B: u64 = 0xB;
const WRITE_EXCLUSIVE_REGISTRANTS_ONLY: u8 = 5;

impl Out {
    fn send(self, disk: &dyn Disk) -> Answer {
        let Self(action, kind, key, new_key) = self;
        let cdb = [0x5F, action, kind, 0, 0, 0, 0, 0, 24, 0];
        let list = [&key.to_be_bytes()[..], &new_key.to_be_bytes(), &[0; 8]].concat();
        answer_of(&cdb, &disk.transfer(&cdb, Data::Out(&list), TIMEOUT))
    }
}

/// Generation, and what follows the header, of PERSISTENT RESERVE IN.
fn read_in(disk: &dyn Disk, cdb: &[u8]) -> (u32, Vec<u8>) {
    let outcome = send(disk, cdb);
    let Outcome::Status {
        status: GOOD, data, ..
    } = outcome
    else {
        panic!("{cdb:02x?}: {outcome:?}")
    };
    let word = |at: usize| u32::from_be_bytes(std::array::from_fn(|byte| data[at + byte]));
    let length = usize::try_from(word(4)).expect("a length");
    (word(0), data[8..][..length].to_vec())
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
    Persistent(Out),
    /// READ RESERVATION is answered with a reservation of this type, or with none: what a caller of RESERVE looks at.
    Holds(Option<u8>),
    LogOut,
    Lose,
    LogIn,
}

use Act::{Await, Holds, LogIn, LogOut, Lose, Manage, Persistent, Send};
use Node::{A, B};
use TaskManagement::{LogicalUnitReset, TargetColdReset, TargetWarmReset};

type Step = (Node, Act, Answers);

/// Runs a table from two nexuses that are ready.
fn run(unit: &dyn Unit, name: &str, steps: &[Step]) {
    let mut nodes = [ready(unit, "a"), ready(unit, "b")];
    let mut wrong = Vec::new();
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
            Persistent(out) => out.send(&**disk),
            Holds(kind) => {
                let (_, body) = read_in(&**disk, READ_RESERVATION);
                // Key, obsolete, reserved, scope and type, obsolete.
                let found = (body.len() == 16).then(|| body[13] & 0xF);
                assert_eq!(found, *kind, "{name}, step {}", number + 1);
                Good
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
        let expected = unit.pick(*answers);
        if answer != expected {
            let number = number + 1;
            wrong.push(format!(
                "step {number}: {node:?} {act:x?}: {answer:x?}, not {expected:x?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{name}: {wrong:#?}");
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

/// What RESERVE(6) gets, and does, while persistent reservations are in use: on the unit here by SPC-2 5.5.1, and on tgt.
#[test]
fn good_to_reserve_proves_nothing_beside_a_persistent_reservation() {
    const RO: u8 = WRITE_EXCLUSIVE_REGISTRANTS_ONLY;
    let steps = &[
        (A, Send(READ_RESERVATION), Both(Good)),
        (A, Holds(None), Both(Good)),
        (A, Persistent(Out(REGISTER, 0, 0, KEY_A)), Both(Good)),
        (A, Persistent(Out(RESERVE, RO, KEY_A, 0)), Both(Good)),
        (A, Holds(Some(RO)), Both(Good)),
        // Not registered.
        (
            B,
            Send(RESERVE_6),
            Differ {
                embedded: Conflict,
                tgt: Good,
            },
        ),
        (B, Send(WRITE), Both(Conflict)),
        (B, Send(READ), Both(Good)),
        (B, Persistent(Out(REGISTER, 0, 0, KEY_B)), Both(Good)),
        (
            B,
            Send(RESERVE_6),
            Differ {
                embedded: Conflict,
                tgt: Good,
            },
        ),
        // It says so to the one that asks, and to nobody else.
        (B, Holds(Some(RO)), Both(Good)),
        (
            B,
            Send(RELEASE_6),
            Differ {
                embedded: Conflict,
                tgt: Good,
            },
        ),
        (
            A,
            Send(RESERVE_6),
            Differ {
                embedded: Conflict,
                tgt: Good,
            },
        ),
        (
            A,
            Send(RELEASE_6),
            Differ {
                embedded: Conflict,
                tgt: Good,
            },
        ),
        (A, Persistent(Out(RELEASE, RO, KEY_A, 0)), Both(Good)),
        (A, Holds(None), Both(Good)),
        (A, Persistent(Out(REGISTER, 0, KEY_A, 0)), Both(Good)),
        (
            B,
            Send(TEST_UNIT_READY),
            Differ {
                embedded: Check(6, 0x2A, 0x04),
                tgt: Good,
            },
        ),
        (B, Persistent(Out(REGISTER, 0, KEY_B, 0)), Both(Good)),
        // Nobody is registered any more: RESERVE(6) reserves. tgt lets PERSISTENT RESERVE pass it by.
        (A, Send(RESERVE_6), Both(Good)),
        (B, Send(TEST_UNIT_READY), Both(Conflict)),
        (
            B,
            Send(READ_RESERVATION),
            Differ {
                embedded: Conflict,
                tgt: Good,
            },
        ),
        (
            B,
            Persistent(Out(REGISTER, 0, 0, KEY_B)),
            Differ {
                embedded: Conflict,
                tgt: Good,
            },
        ),
    ];
    on_every_unit(|unit| run(unit, "persistent", steps));
}

/// SPC-4 5.12.3 and tables 50 and 51: each type, from its holder, a registrant and a stranger.
#[test]
fn each_type_of_persistent_reservation_has_its_effect() {
    // Type; what of reads and writes it keeps from a stranger; whether a registrant is let through.
    for (kind, reads, registrants) in [
        (1, false, false),
        (3, true, false),
        (5, false, true),
        (6, true, true),
        (7, false, true),
        (8, true, true),
    ] {
        for handling in [Handling::Spc2, Handling::Compatible] {
            let unit = LogicalUnit::new();
            unit.configure(|options| options.handling = handling);
            let [holder, registrant, stranger] = ["a", "b", "c"].map(|name| ready(&unit, name));
            assert_eq!(Out(REGISTER, 0, 0, KEY_A).send(&*holder), Good);
            assert_eq!(
                Out(REGISTER_AND_IGNORE, 0, 7, KEY_B).send(&*registrant),
                Good
            );
            assert_eq!(Out(RESERVE, kind, KEY_A, 0).send(&*holder), Good);
            let crh = handling == Handling::Compatible;
            for (disk, exempt) in [
                (&holder, true),
                (&registrant, registrants),
                (&stranger, false),
            ] {
                let expect = |conflicts| if conflicts { Conflict } else { Good };
                let what = format!("type {kind}, {handling:?}, exempt {exempt}");
                for cdb in [RESERVE_6, RELEASE_6, RESERVE_10, RELEASE_10] {
                    assert_eq!(ask(&**disk, cdb), expect(!(crh && exempt)), "{what}");
                }
                assert_eq!(unit.holder(), None, "{what}: nothing is reserved");
                assert_eq!(ask(&**disk, READ), expect(reads && !exempt), "{what}");
                assert_eq!(ask(&**disk, WRITE), expect(!exempt), "{what}");
                assert_eq!(ask(&**disk, TEST_UNIT_READY), Good, "{what}");
                let (generation, body) = read_in(&**disk, READ_RESERVATION);
                let key = if kind >= 7 { 0 } else { KEY_A };
                assert_eq!(
                    (generation, body[..8].to_vec()),
                    (2, key.to_be_bytes().to_vec())
                );
                assert_eq!(body[8..], [0, 0, 0, 0, 0, kind, 0, 0], "{what}");
            }
            let keys = [KEY_A.to_be_bytes(), KEY_B.to_be_bytes()].concat();
            assert_eq!(read_in(&*stranger, READ_KEYS), (2, keys));
            let Outcome::Status { data, .. } = send(&*stranger, REPORT_CAPABILITIES) else {
                panic!("no answer")
            };
            assert_eq!(data[2] >> 4 & 1 == 1, crh, "CRH");
        }
    }
}

#[test]
fn persistent_reserve_out_is_refused_without_the_key_and_ends_what_it_began() {
    let unit = LogicalUnit::new();
    let [a, b] = ["a", "b"].map(|name| ready(&unit, name));
    for (disk, out, answer) in [
        (&a, Out(RESERVE, 5, KEY_A, 0), Conflict),
        (&a, Out(REGISTER, 0, KEY_A, KEY_A), Conflict),
        (&a, Out(REGISTER, 0, 0, KEY_A), Good),
        (&b, Out(REGISTER, 0, 0, KEY_B), Good),
        (&a, Out(REGISTER, 0, KEY_B, 1), Conflict),
        (&a, Out(RESERVE, 5, KEY_B, 0), Conflict),
        (&a, Out(RESERVE, 2, KEY_A, 0), INVALID_FIELD),
        (&a, Out(4, 5, KEY_A, 0), INVALID_FIELD),
        (&a, Out(RESERVE, 5, KEY_A, 0), Good),
        (&a, Out(RESERVE, 5, KEY_A, 0), Good),
        (&a, Out(RESERVE, 6, KEY_A, 0), Conflict),
        (&b, Out(RESERVE, 5, KEY_B, 0), Conflict),
        // Not the holder's: GOOD, and without effect.
        (&b, Out(RELEASE, 5, KEY_B, 0), Good),
        (&a, Out(RELEASE, 6, KEY_A, 0), Check(5, 0x26, 0x04)),
        (&a, Out(RELEASE, 5, KEY_A, 0), Good),
        // The other registrant is told.
        (&b, Out(RESERVE, 7, KEY_B, 0), Check(6, 0x2A, 0x04)),
        (&b, Out(RESERVE, 7, KEY_B, 0), Good),
        // All registrants hold it: it ends with the last.
        (&b, Out(REGISTER, 0, KEY_B, 0), Good),
        (&a, Out(RESERVE, 7, KEY_A, 0), Good),
        (&a, Out(REGISTER, 0, KEY_A, 0), Good),
        (&b, Out(REGISTER, 0, 0, KEY_B), Good),
        (&b, Out(RESERVE, 1, KEY_B, 0), Good),
        (&a, Out(REGISTER, 0, 0, KEY_A), Good),
        (&a, Out(CLEAR, 0, KEY_A, 0), Good),
        (&b, Out(REGISTER, 0, 0, KEY_B), Check(6, 0x2A, 0x03)),
        (&b, Out(REGISTER, 0, 0, KEY_B), Good),
    ] {
        assert_eq!(out.send(&**disk), answer, "{out:x?}");
    }
    assert!(read_in(&*a, READ_RESERVATION).1.is_empty());
    assert_eq!(ask(&*a, &[0x5E, 3, 0, 0, 0, 0, 0, 0, 64, 0]), INVALID_FIELD);
    let cdb = [0x5F, REGISTER, 0, 0, 0, 0, 0, 0, 24, 0];
    let short = a.transfer(&cdb, Data::Out(&[0; 23]), TIMEOUT);
    assert_eq!(short.sense(), Some(Sense::new(5, 0x1A, 0x00)));
    // A reset ends the other kind only; power on ends both.
    a.reset_logical_unit().expect("reset");
    assert_eq!(ask(&*b, READ_KEYS), UNIT_RESET);
    assert_eq!(read_in(&*b, READ_KEYS).1, KEY_B.to_be_bytes());
    a.manage(TargetColdReset).expect("power on");
    assert!(read_in(&*ready(&unit, "b"), READ_KEYS).1.is_empty());
}

/// As on QEMU's scsi-disk and usb-storage: both nodes are told that they hold the unit.
#[test]
fn a_unit_can_say_good_and_reserve_nothing() {
    let unit = LogicalUnit::new();
    unit.configure(|options| options.empty = true);
    let [a, b] = [ready(&unit, "a"), ready(&unit, "b")];
    for disk in [&a, &b] {
        assert_eq!(ask(&**disk, RESERVE_6), Good);
        assert_eq!(unit.holder(), None);
        assert_eq!(ask(&**disk, WRITE), Good);
    }
    assert_eq!(ask(&*a, RELEASE_6), Good);
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
