//! What the node says that it knows under two sources of commands that overlap: its own, one at a time, and others', which
//! pass watched. Every order of their sends, of what the target makes of them, and of the answers is walked.
//!
//! It says "held by us" only if the unit is this node's and nothing of this node's is out that could change that; apart from
//! what nobody tells it, another initiator's reset.

use std::collections::{HashMap, VecDeque};

use scsi_reserve::state::Origin;
use scsi_reserve::watch::function;
use scsi_reserve::{
    Action, Answer, Command, Event, Knowledge, NtStatus, Operation, Policy, ReservationState,
    SrbAnswer, Verdict, Watch, Watched,
};

/// How the filter may go about it. All but the first are wrong, and each is to be found so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Right,
    /// A command that passes is noted when it is answered, not when it is sent.
    AtItsAnswer,
    /// Every answer to another's command is the target's last word.
    EveryWordIsTheLast,
    /// The operation is not told of others' commands.
    OwnCommandsAlone,
    /// While a command of the filter's own is out, what was known is told.
    AsItWas,
    /// A reset that passes is no command.
    NoResets,
    /// A denial says nothing of what is out.
    DenialsOfTheirMoment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Holder {
    Nobody,
    Us,
    Another,
}

/// What the target makes of a command, and what of its answer arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fate {
    Executed,
    /// The target says BUSY.
    NotExecuted,
    AnswerLost,
}

const FATES: [Fate; 3] = [Fate::Executed, Fate::NotExecuted, Fate::AnswerLost];

/// How far a command of this node's has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Sent {
    /// The target has not looked at it.
    OnItsWay,
    /// The target is through with it: its SCSI status, none if that is lost.
    Back(Option<u8>),
}

/// What others send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Asked {
    Reserve,
    Release,
    Reset,
}

const OTHERS: [Asked; 3] = [Asked::Reserve, Asked::Release, Asked::Reset];

impl Asked {
    /// As the filter sees it pass.
    fn seen(self) -> Watched {
        let seen = match self {
            Self::Reserve => Watched::of_command(0x16, 0),
            Self::Release => Watched::of_command(0x57, 0),
            Self::Reset => Watched::of_function(function::RESET_LOGICAL_UNIT),
        };
        seen.expect("what is watched")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Incident {
    /// The filter takes a request of its own, and sends.
    Own(Command),
    OwnIsLookedAt(Fate),
    OwnIsAnswered,
    Other(Asked),
    OtherIsLookedAt(usize, Fate),
    OtherIsAnswered(usize),
    /// Another initiator.
    Elsewhere(Asked),
    /// A command that changes nothing.
    ForeignIsLookedAt,
    ForeignIsAnswered,
}

/// What may still happen: it bounds the walk.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Left {
    own: u8,
    others: u8,
    elsewhere: u8,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    operation: Operation,
    known: ReservationState,
    own: Option<(Command, Sent)>,
    /// Those that are out.
    others: Vec<(Asked, Sent)>,
    holder: Holder,
    /// The answer to a command that changes nothing, on its way: whether the target denied it.
    foreign: Option<bool>,
    /// Another initiator's reset has taken the unit from this node, and nobody has told it.
    robbed: bool,
    left: Left,
}

const GOOD: u8 = 0x00;
const BUSY: u8 = 0x08;
const CONFLICT: u8 = 0x18;

impl World {
    fn new(left: Left) -> Self {
        let policy = Policy {
            max_retries: 0,
            ..Policy::DEFAULT
        };
        Self {
            operation: Operation::new(policy),
            known: ReservationState::new(0, &policy, 10, Watch::Answers),
            own: None,
            others: Vec::new(),
            holder: Holder::Nobody,
            foreign: None,
            robbed: false,
            left,
        }
    }

    fn incidents(&self) -> Vec<Incident> {
        use Incident::{
            Elsewhere, ForeignIsAnswered, ForeignIsLookedAt, Other, OtherIsAnswered,
            OtherIsLookedAt, Own, OwnIsAnswered, OwnIsLookedAt,
        };
        let mut may = vec![match self.foreign {
            None => ForeignIsLookedAt,
            Some(_) => ForeignIsAnswered,
        }];
        match self.own {
            None if self.left.own > 0 => may.extend([Own(Command::Reserve), Own(Command::Release)]),
            None => {}
            Some((_, Sent::OnItsWay)) => may.extend(FATES.map(OwnIsLookedAt)),
            Some((_, Sent::Back(_))) => may.push(OwnIsAnswered),
        }
        if self.left.others > 0 {
            may.extend(OTHERS.map(Other));
        }
        for (at, (_, sent)) in self.others.iter().enumerate() {
            match sent {
                Sent::OnItsWay => may.extend(FATES.map(|fate| OtherIsLookedAt(at, fate))),
                Sent::Back(_) => may.push(OtherIsAnswered(at)),
            }
        }
        if self.left.elsewhere > 0 {
            may.extend(OTHERS.map(Elsewhere));
        }
        may
    }

    /// The target executes a command: its SCSI status (SPC-2 5.5.1, 7.16, 7.21).
    fn execute(&mut self, ours: bool, asked: Asked) -> u8 {
        let (me, them) = if ours {
            (Holder::Us, Holder::Another)
        } else {
            (Holder::Another, Holder::Us)
        };
        match asked {
            Asked::Reserve if self.holder == them => return CONFLICT,
            Asked::Reserve => {
                self.holder = me;
                self.robbed &= !ours;
            }
            Asked::Release if self.holder == me => self.holder = Holder::Nobody,
            Asked::Release => {}
            Asked::Reset => {
                self.robbed |= !ours && self.holder == Holder::Us;
                self.holder = Holder::Nobody;
            }
        }
        GOOD
    }

    fn look_at(&mut self, asked: Asked, fate: Fate) -> Sent {
        Sent::Back(match fate {
            Fate::Executed => Some(self.execute(true, asked)),
            Fate::NotExecuted => Some(BUSY),
            Fate::AnswerLost => {
                self.execute(true, asked);
                None
            }
        })
    }

    fn step(&mut self, event: Event) -> Action {
        let action = self.operation.step(event);
        self.known.note(&event, action, &self.operation, || 0);
        action
    }

    /// Steps the operation as the driver does, until it waits for an answer or is done.
    fn run(&mut self, mut event: Event) {
        loop {
            event = match self.step(event) {
                Action::Mark => Event::Marked(NtStatus::SUCCESS),
                Action::Prepare => Event::Ready,
                Action::Unmark => Event::Unmarked(NtStatus::SUCCESS),
                Action::Send | Action::Finish(_) => return,
                other => unreachable!("{other:?}"),
            };
        }
    }

    fn happens(&mut self, incident: Incident, reading: Reading) {
        match incident {
            Incident::Own(command) => {
                self.left.own -= 1;
                self.own = Some((command, Sent::OnItsWay));
                self.run(Event::Start(command));
            }
            Incident::OwnIsLookedAt(fate) => {
                let Some((command, _)) = self.own else { return };
                let asked = match command {
                    Command::Reserve => Asked::Reserve,
                    Command::Release => Asked::Release,
                };
                let sent = self.look_at(asked, fate);
                self.own = Some((command, sent));
            }
            Incident::OwnIsAnswered => {
                let Some((_, Sent::Back(status))) = self.own.take() else {
                    return;
                };
                self.run(Event::Answered(Verdict::of(&Answer {
                    status: status.map_or(NtStatus::IO_TIMEOUT, |_| NtStatus::SUCCESS),
                    information: if status.is_some() { 56 } else { 0 },
                    scsi_status: status.unwrap_or(0xFF),
                    sense: &[],
                })));
            }
            Incident::Other(asked) => {
                self.left.others -= 1;
                self.others.push((asked, Sent::OnItsWay));
                let is_seen = reading != Reading::NoResets || asked != Asked::Reset;
                if is_seen && reading != Reading::AtItsAnswer {
                    self.other_sent(reading);
                }
            }
            Incident::OtherIsLookedAt(at, fate) => {
                let asked = self.others[at].0;
                self.others[at].1 = self.look_at(asked, fate);
            }
            Incident::OtherIsAnswered(at) => {
                let (asked, sent) = self.others.remove(at);
                let Sent::Back(status) = sent else { return };
                if reading == Reading::NoResets && asked == Asked::Reset {
                    return;
                }
                if reading == Reading::AtItsAnswer {
                    self.other_sent(reading);
                }
                self.other_answered(asked, status, reading);
            }
            Incident::Elsewhere(asked) => {
                self.left.elsewhere -= 1;
                self.execute(false, asked);
            }
            Incident::ForeignIsLookedAt => {
                self.foreign = Some(self.holder == Holder::Another);
            }
            Incident::ForeignIsAnswered => {
                if self.foreign.take() == Some(true) {
                    self.robbed = false;
                    if reading != Reading::DenialsOfTheirMoment {
                        self.operation.denied();
                    }
                    let verdict = srb(Some(CONFLICT)).verdict();
                    self.known.foreign_answered(&verdict, || 0);
                }
            }
        }
        // Counters and times would make the walk endless.
        let (knowledge, origin) = (self.known.knowledge, self.known.origin);
        self.known = ReservationState {
            knowledge,
            origin,
            ..ReservationState::new(0, &Policy::DEFAULT, 10, Watch::Answers)
        };
    }

    fn other_sent(&mut self, reading: Reading) {
        if reading != Reading::OwnCommandsAlone {
            self.operation.other_sent();
        }
        self.known.other_sent(|| 0);
    }

    fn other_answered(&mut self, asked: Asked, status: Option<u8>, reading: Reading) {
        let is_last_word = match reading {
            Reading::EveryWordIsTheLast => {
                let _ = self.operation.other_answered();
                true
            }
            Reading::OwnCommandsAlone => self.others.is_empty() && self.own.is_none(),
            _ => self.operation.other_answered(),
        };
        let verdict = srb(status).verdict();
        self.known
            .other_answered(asked.seen(), &verdict, is_last_word, || 0);
    }

    fn told(&self, reading: Reading) -> ReservationState {
        match reading {
            Reading::AsItWas => self.known,
            _ => self.known.told(&self.operation),
        }
    }

    /// Whether what is told is so.
    fn holds(&self, reading: Reading) -> bool {
        let told = self.told(reading);
        let is_quiet = self.own.is_none() && self.others.is_empty();
        let is_ours = self.holder == Holder::Us || self.robbed;
        told.knowledge != Knowledge::HeldByUs as u32 || (is_quiet && is_ours)
    }
}

/// How a port gives such an SRB back.
fn srb(status: Option<u8>) -> SrbAnswer<'static> {
    const SUCCESS: u8 = 0x01;
    const ERROR: u8 = 0x04;
    const BUSY_: u8 = 0x05;
    const TIMEOUT: u8 = 0x09;
    let (status, srb_status, scsi_status) = match status {
        Some(GOOD) => (NtStatus::SUCCESS, SUCCESS, GOOD),
        Some(BUSY) => (NtStatus::IO_DEVICE_ERROR, BUSY_, BUSY),
        Some(other) => (NtStatus::IO_DEVICE_ERROR, ERROR, other),
        None => (NtStatus::IO_TIMEOUT, TIMEOUT, GOOD),
    };
    SrbAnswer {
        status,
        srb_status,
        scsi_status,
        sense: &[],
    }
}

const LEFT: Left = Left {
    own: 2,
    others: 2,
    elsewhere: 2,
};

/// How many worlds there are, and what they tell: knowledge and its origin.
type Walked = (usize, Vec<(u32, u8)>);

/// Walks everything that can happen: the shortest way to what does not hold, if there is one, and else how many worlds
/// there are and what they tell.
fn walk(reading: Reading, left: Left) -> Result<Walked, Vec<Incident>> {
    let first = World::new(left);
    let mut ways: HashMap<World, Option<(World, Incident)>> = HashMap::new();
    ways.insert(first.clone(), None);
    let mut next = VecDeque::from([first]);
    let mut told = Vec::new();
    while let Some(world) = next.pop_front() {
        let tells = world.told(reading);
        let tells = (tells.knowledge, tells.origin);
        if !told.contains(&tells) {
            told.push(tells);
        }
        if !world.holds(reading) {
            let mut way = Vec::new();
            let mut at = &world;
            while let Some(Some((before, incident))) = ways.get(at) {
                way.insert(0, *incident);
                at = before;
            }
            return Err(way);
        }
        for incident in world.incidents() {
            let mut then = world.clone();
            then.happens(incident, reading);
            if !ways.contains_key(&then) {
                ways.insert(then.clone(), Some((world.clone(), incident)));
                next.push_back(then);
            }
        }
    }
    told.sort_unstable();
    Ok((ways.len(), told))
}

#[test]
fn it_says_held_by_us_only_of_a_unit_that_is_ours_while_nothing_is_out() {
    let (worlds, told) = walk(Reading::Right, LEFT).unwrap_or_else(|way| panic!("{way:?}"));
    println!("{worlds} worlds");
    let told: Vec<_> = told
        .into_iter()
        .map(|(knowledge, origin)| (Knowledge::from_number(knowledge), origin))
        .collect();
    let (own, watched) = (Origin::Own as u8, Origin::Watched as u8);
    // Not by telling nothing: both sources make known what there is to know.
    assert_eq!(
        told,
        [
            (Some(Knowledge::Unknown), own),
            (Some(Knowledge::HeldByUs), own),
            (Some(Knowledge::HeldByUs), watched),
            (Some(Knowledge::NotOurs), own),
            (Some(Knowledge::NotOurs), watched),
            (Some(Knowledge::HeldByAnother), own),
            (Some(Knowledge::HeldByAnother), watched),
        ]
    );
}

#[test]
fn each_wrong_reading_says_it_of_a_unit_that_may_be_anothers() {
    for reading in [
        Reading::AtItsAnswer,
        Reading::EveryWordIsTheLast,
        Reading::OwnCommandsAlone,
        Reading::AsItWas,
        Reading::NoResets,
        Reading::DenialsOfTheirMoment,
    ] {
        let way = walk(reading, LEFT).expect_err("it is found out");
        println!("{reading:?}: {way:?}");
    }
}

/// Commands that overlap nothing are told as the filter's own are.
#[test]
fn a_word_that_overlaps_nothing_is_the_last() {
    use Incident::{Other, OtherIsAnswered, OtherIsLookedAt, Own, OwnIsAnswered, OwnIsLookedAt};
    let other = |asked| {
        [
            Other(asked),
            OtherIsLookedAt(0, Fate::Executed),
            OtherIsAnswered(0),
        ]
    };
    let own = |command| [Own(command), OwnIsLookedAt(Fate::Executed), OwnIsAnswered];
    let mut world = World::new(Left {
        own: 9,
        others: 9,
        elsewhere: 0,
    });
    for (incidents, knowledge, origin) in [
        (other(Asked::Reserve), Knowledge::HeldByUs, Origin::Watched),
        (own(Command::Release), Knowledge::NotOurs, Origin::Own),
        (own(Command::Reserve), Knowledge::HeldByUs, Origin::Own),
        (other(Asked::Release), Knowledge::NotOurs, Origin::Watched),
        (other(Asked::Reset), Knowledge::Unknown, Origin::Own),
        (own(Command::Reserve), Knowledge::HeldByUs, Origin::Own),
        (other(Asked::Reserve), Knowledge::HeldByUs, Origin::Watched),
    ] {
        for incident in incidents {
            world.happens(incident, Reading::Right);
        }
        let told = world.told(Reading::Right);
        assert_eq!(
            (told.knowledge, told.origin),
            (knowledge as u32, origin as u8)
        );
    }
}

/// What of the operation codes and SRB functions is watched, each of them: SPC-2 7.12, 7.16, 7.17, 7.21, 7.22.
#[test]
fn what_changes_reservations_is_watched_and_nothing_else() {
    for operation in 0..=0xFF {
        for second in 0..=0xFF {
            let plain = second % 0x20 == 0;
            let expected = match operation {
                0x16 | 0x56 if plain => Some(Watched::Reserve),
                0x17 | 0x57 if plain => Some(Watched::Release),
                0x16 | 0x17 | 0x56 | 0x57 | 0x5F => Some(Watched::Other),
                _ => None,
            };
            let found = Watched::of_command(operation, second);
            assert_eq!(found, expected, "{operation:#x} {second:#x}");
            assert!(found.is_none() || Watched::may_be(operation));
        }
    }
    // READ and WRITE in their forms, and what else passes all the time.
    for operation in [
        0x00, 0x03, 0x08, 0x0A, 0x12, 0x1A, 0x25, 0x28, 0x2A, 0x35, 0x42, 0x88, 0x8A, 0x9E, 0xA8,
    ] {
        assert!(!Watched::may_be(operation), "{operation:#x}");
    }
    for function in 0..=0xFF {
        let is_reset = matches!(function, 0x12 | 0x13 | 0x20);
        let expected = is_reset.then_some(Watched::Other);
        assert_eq!(Watched::of_function(function), expected, "{function:#x}");
    }
}

/// An SRB's answer: IRP status, `SrbStatus`, `ScsiStatus`, sense data; the NTSTATUS that it would mean to a caller of the
/// filter's, and what is known of the reservation after a RESERVE.
#[test]
fn an_srbs_answer_means_what_a_pass_throughs_does() {
    use NtStatus as Nt;
    const RESET: &[u8] = &[0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 0];
    const RECOVERED: &[u8] = &[0x72, 1, 0x17, 0, 0, 0, 0, 0];
    const REFUSED: &[u8] = &[0x72, 5, 0x20, 0, 0, 0, 0, 0];
    let (us, another, unknown) = (
        Some(Knowledge::HeldByUs),
        Some(Knowledge::HeldByAnother),
        Some(Knowledge::Unknown),
    );
    #[rustfmt::skip]
    let rows = [
        (Nt::SUCCESS, 0x01, 0x00, &[][..], Nt::SUCCESS, us),
        // The queue is frozen, which says nothing of the command.
        (Nt::SUCCESS, 0x41, 0x00, &[], Nt::SUCCESS, us),
        (Nt::IO_DEVICE_ERROR, 0x84, 0x02, RECOVERED, Nt::SUCCESS, us),
        (Nt::IO_DEVICE_ERROR, 0x44, 0x18, &[], Nt::DEVICE_BUSY, another),
        (Nt::IO_DEVICE_ERROR, 0xC4, 0x02, RESET, Nt::IO_DEVICE_ERROR, unknown),
        (Nt::IO_DEVICE_ERROR, 0x84, 0x02, REFUSED, Nt::INVALID_DEVICE_REQUEST, None),
        // Sense data that the port does not vouch for.
        (Nt::IO_DEVICE_ERROR, 0x04, 0x02, REFUSED, Nt::IO_DEVICE_ERROR, unknown),
        (Nt::IO_DEVICE_ERROR, 0x05, 0x08, &[], Nt::DEVICE_NOT_READY, None),
        // GOOD is what the class driver left there.
        (Nt::SUCCESS, 0x00, 0x00, &[], Nt::IO_DEVICE_ERROR, unknown),
        (Nt::IO_DEVICE_ERROR, 0x04, 0x00, &[], Nt::IO_DEVICE_ERROR, unknown),
        (Nt::IO_DEVICE_ERROR, 0x05, 0x00, &[], Nt::IO_DEVICE_ERROR, unknown),
        (Nt::IO_TIMEOUT, 0x09, 0x00, &[], Nt::IO_TIMEOUT, unknown),
        (Nt::IO_DEVICE_ERROR, 0x0E, 0x00, &[], Nt::IO_DEVICE_ERROR, unknown),
        (Nt::DEVICE_DOES_NOT_EXIST, 0x08, 0x00, &[], Nt::DEVICE_NOT_CONNECTED, unknown),
        // A target's word beside a status by which it has not spoken.
        (Nt::IO_TIMEOUT, 0x09, 0x18, &[], Nt::IO_TIMEOUT, unknown),
        // Success that the IRP's status denies.
        (Nt::IO_DEVICE_ERROR, 0x01, 0x00, &[], Nt::IO_DEVICE_ERROR, unknown),
        (Nt(0x102), 0x01, 0x00, &[], Nt::IO_DEVICE_ERROR, unknown),
    ];
    for (status, srb_status, scsi_status, sense, means, known) in rows {
        let answer = SrbAnswer {
            status,
            srb_status,
            scsi_status,
            sense,
        };
        let verdict = answer.verdict();
        let found = (
            verdict.status,
            Knowledge::of(Command::Reserve, verdict.outcome),
        );
        assert_eq!(found, (means, known), "{answer:x?}");
        assert_eq!(SrbAnswer::is_success(srb_status), srb_status & 0x3F == 1);
    }
}
