//! What the node says it knows of its reservation, held against a target that knows.

use scsi_reserve::state::{Field, IOCTL_RESVFLT_QUERY_STATE, VERSION, VERSION_1, VERSION_1_SIZE};
use scsi_reserve::{
    Action, Answer, Command, Event, Knowledge, NtStatus, Operation, Policy, ReservationState,
    Verdict, Watch,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Initiator {
    Us,
    Other,
}

use Initiator::{Other, Us};

/// What can happen to a reservation between two looks at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Incident {
    /// A command of ours, and how it fares on its way.
    Ours(Command, Fate),
    Others(Command),
    /// The unit forgets the reservation, and every initiator is to hear of it.
    Reset,
    /// The same with the power of the whole disk, which this node sees come back.
    PowerCycle,
    /// The same, asked for by somebody on this node.
    OurReset,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Answered,
    /// The target says BUSY until the retries are spent.
    NotExecuted,
    /// The target did what it was told; its answer does not arrive.
    AnswerLost,
    CommandLost,
    /// The target does what it is told, a reset that passes the filter meanwhile ends the
    /// reservation, and then the answer arrives.
    OvertakenByReset,
    /// The port knows neither form of the command.
    PortRefuses,
}

const INCIDENTS: [Incident; 16] = {
    use Command::{Release, Reserve};
    use Fate::{AnswerLost, Answered, CommandLost, NotExecuted, OvertakenByReset, PortRefuses};
    use Incident::{Others, OurReset, Ours, PowerCycle, Reset};
    [
        Ours(Reserve, Answered),
        Ours(Reserve, NotExecuted),
        Ours(Reserve, AnswerLost),
        Ours(Reserve, CommandLost),
        Ours(Reserve, OvertakenByReset),
        Ours(Reserve, PortRefuses),
        Ours(Release, Answered),
        Ours(Release, NotExecuted),
        Ours(Release, AnswerLost),
        Ours(Release, CommandLost),
        Ours(Release, OvertakenByReset),
        Others(Reserve),
        Others(Release),
        Reset,
        PowerCycle,
        OurReset,
    ]
};

#[derive(Clone)]
struct World {
    holder: Option<Initiator>,
    /// A unit attention waits for this node's next command.
    attention: bool,
    operation: Operation,
    known: ReservationState,
    now: u64,
}

impl World {
    fn new() -> Self {
        Self {
            holder: None,
            attention: false,
            operation: Operation::new(Policy::DEFAULT),
            known: ReservationState::new(0, &Policy::DEFAULT, 10, Watch::Off),
            now: 0,
        }
    }

    /// The target's rules (SPC-2 7.16, 7.21): its SCSI status.
    fn execute(&mut self, who: Initiator, command: Command) -> u8 {
        match command {
            _ if who == Us && std::mem::take(&mut self.attention) => return 0x02,
            Command::Reserve if self.holder.is_some_and(|holder| holder != who) => return 0x18,
            Command::Reserve => self.holder = Some(who),
            Command::Release if self.holder == Some(who) => self.holder = None,
            Command::Release => {}
        }
        0x00
    }

    fn step(&mut self, event: Event) -> Action {
        let action = self.operation.step(event);
        let now = self.now;
        self.known.note(&event, action, &self.operation, || now);
        action
    }

    /// Runs one operation to its end.
    fn ours(&mut self, command: Command, fate: Fate) {
        let mut action = self.step(Event::Start(command));
        loop {
            action = match action {
                Action::Mark => self.step(Event::Marked(NtStatus::SUCCESS)),
                Action::Prepare => self.step(Event::Ready),
                Action::Send => self.answered(command, fate),
                Action::StartTimer { .. } => self.step(Event::DelayOver),
                Action::Unmark => self.step(Event::Unmarked(NtStatus::SUCCESS)),
                Action::Finish(_) => return,
                other => panic!("{other:?}"),
            }
        }
    }

    fn answered(&mut self, command: Command, fate: Fate) -> Action {
        let (status, scsi_status) = match fate {
            Fate::Answered => (NtStatus::SUCCESS, self.execute(Us, command)),
            Fate::NotExecuted => (NtStatus::SUCCESS, 0x08),
            Fate::AnswerLost => {
                self.execute(Us, command);
                (NtStatus::IO_TIMEOUT, 0xFF)
            }
            Fate::CommandLost => (NtStatus::IO_TIMEOUT, 0xFF),
            Fate::PortRefuses => (NtStatus::INVALID_DEVICE_REQUEST, 0xFF),
            Fate::OvertakenByReset => {
                let scsi_status = self.execute(Us, command);
                self.happens(Incident::OurReset);
                (NtStatus::SUCCESS, scsi_status)
            }
        };
        self.step(Event::Answered(Verdict::of(&Answer {
            status,
            information: 56 + 8,
            scsi_status,
            // UNIT ATTENTION, reset
            sense: &[0x72, 0x06, 0x29, 0x00, 0, 0, 0, 0],
        })))
    }

    /// Runs one operation with these answers in turn, as far as they go.
    fn play(&mut self, command: Command, answers: &[Answer<'_>]) {
        let mut answers = answers.iter();
        let mut action = self.step(Event::Start(command));
        loop {
            action = match action {
                Action::Mark => self.step(Event::Marked(NtStatus::SUCCESS)),
                Action::Prepare => self.step(Event::Ready),
                Action::Send => {
                    let answer = answers.next().expect("no more sends than answers");
                    self.step(Event::Answered(Verdict::of(answer)))
                }
                Action::StartTimer { .. } => self.step(Event::DelayOver),
                Action::Unmark => self.step(Event::Unmarked(NtStatus::SUCCESS)),
                Action::Finish(_) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(answers.len(), 0, "no fewer");
    }

    fn take(&mut self, incident: Incident) {
        self.now += 1;
        self.happens(incident);
    }

    fn happens(&mut self, incident: Incident) {
        match incident {
            Incident::Ours(command, fate) => self.ours(command, fate),
            Incident::Others(command) => {
                self.execute(Other, command);
            }
            Incident::Reset => (self.holder, self.attention) = (None, true),
            Incident::PowerCycle => {
                (self.holder, self.attention) = (None, true);
                assert_eq!(self.step(Event::PoweredUp), Action::Nothing);
            }
            Incident::OurReset => {
                (self.holder, self.attention) = (None, true);
                assert_eq!(self.step(Event::ResetPassed), Action::Nothing);
            }
        }
    }

    /// What is claimed must be so, until a unit attention that the node has not met yet.
    fn is_sound(&self) -> bool {
        let right = match self.knowledge() {
            Knowledge::Unknown => true,
            Knowledge::HeldByUs => self.holder == Some(Us),
            Knowledge::NotOurs | Knowledge::HeldByAnother => self.holder != Some(Us),
        };
        right || self.attention
    }

    fn knowledge(&self) -> Knowledge {
        Knowledge::from_number(self.known.knowledge).expect("one of the four")
    }
}

const fn answer(status: NtStatus, scsi_status: u8, sense: &[u8]) -> Answer<'_> {
    Answer {
        status,
        information: 56 + sense.len(),
        scsi_status,
        sense,
    }
}

fn walk(world: &World, path: &mut Vec<Incident>, left: usize) {
    for incident in INCIDENTS {
        let mut next = world.clone();
        next.take(incident);
        path.push(incident);
        assert!(next.is_sound(), "{path:?}: {:?}", next.known);
        if matches!(incident, Incident::Ours(_, Fate::Answered)) {
            assert_ne!(next.knowledge(), Knowledge::Unknown, "{path:?}");
        }
        let since = if next.known.knowledge == world.known.knowledge {
            world.known.since
        } else {
            next.now
        };
        // Within one operation the knowledge may go and come back, at one time.
        assert!([since, next.now].contains(&next.known.since), "{path:?}");
        if left > 1 {
            walk(&next, path, left - 1);
        }
        path.pop();
    }
}

#[test]
fn what_the_node_claims_to_know_is_true() {
    walk(&World::new(), &mut Vec::new(), 5);
}

#[test]
fn a_removed_device_knows_nothing() {
    let mut world = World::new();
    world.ours(Command::Reserve, Fate::Answered);
    assert_eq!(world.knowledge(), Knowledge::HeldByUs);
    world.now = 7;
    assert_eq!(world.step(Event::Gone), Action::Nothing);
    assert_eq!(world.knowledge(), Knowledge::Unknown);
    assert_eq!(world.known.since, 7);
}

/// What is known after a send that brought no answer, or an answer in which the target's word is
/// missing: before it this node held the unit.
#[test]
fn what_is_known_holds_only_where_nothing_can_have_reached_the_target() {
    use NtStatus as Nt;
    const FORMAT: bool = true;
    const SEND: bool = false;
    for (fails, status, known) in [
        (FORMAT, Nt::INSUFFICIENT_RESOURCES, Knowledge::HeldByUs),
        (FORMAT, Nt::INVALID_DEVICE_STATE, Knowledge::HeldByUs),
        (SEND, Nt::INVALID_DEVICE_REQUEST, Knowledge::HeldByUs),
        (SEND, Nt::INSUFFICIENT_RESOURCES, Knowledge::Unknown),
        (SEND, Nt::NO_SUCH_DEVICE, Knowledge::Unknown),
        (SEND, Nt::CANCELLED, Knowledge::Unknown),
    ] {
        let mut world = World::new();
        world.ours(Command::Reserve, Fate::Answered);
        let mut events = vec![
            Event::Start(Command::Release),
            Event::Marked(Nt::SUCCESS),
            Event::FormatFailed(status),
        ];
        if fails == SEND {
            events.splice(2.., [Event::Ready, Event::Refused(status)]);
        }
        for event in events {
            assert_ne!(world.step(event), Action::Nothing);
        }
        assert_eq!(world.knowledge(), known, "{status:?}");
        assert_eq!(world.known.scsi_status, 0xFF, "{status:?}");
    }
}

/// Counters, and the last answer, of one operation: its answers, then what was counted.
#[test]
fn each_counter_counts_what_its_name_says() {
    const GOOD: Answer = answer(NtStatus::SUCCESS, 0x00, &[]);
    const BUSY: Answer = answer(NtStatus::SUCCESS, 0x08, &[]);
    const CONFLICT: Answer = answer(NtStatus::SUCCESS, 0x18, &[]);
    const TIMEOUT: Answer = answer(NtStatus::IO_TIMEOUT, 0xFF, &[]);
    const ATTENTION: Answer = answer(NtStatus::SUCCESS, 0x02, &[0x72, 6, 0x3F, 0x0E]);
    let busy = [BUSY; 5];
    let attentions = [ATTENTION; 13];
    for (command, answers, counted) in [
        // reserves, releases, conflicts, retries, unit attentions, timeouts
        (Command::Reserve, &[GOOD][..], [1, 0, 0, 0, 0, 0]),
        (Command::Release, &[BUSY, GOOD], [0, 1, 0, 1, 0, 0]),
        (Command::Reserve, &[ATTENTION, CONFLICT], [0, 0, 1, 0, 1, 0]),
        (Command::Reserve, &[TIMEOUT], [0, 0, 0, 0, 0, 1]),
        // The fifth is answered by no retry, and the last of the unit attentions neither.
        (Command::Reserve, &busy, [0, 0, 0, 4, 0, 0]),
        (Command::Reserve, &attentions, [0, 0, 0, 4, 13, 0]),
    ] {
        let mut world = World::new();
        world.play(command, answers);
        let ReservationState {
            requests,
            reserves,
            releases,
            conflicts,
            retries,
            unit_attentions,
            timeouts,
            cancels,
            ..
        } = world.known;
        assert_eq!((requests, cancels), (1, 0), "{answers:?}");
        assert_eq!(
            [
                reserves,
                releases,
                conflicts,
                retries,
                unit_attentions,
                timeouts
            ],
            counted,
            "{answers:?}"
        );
        let last = answers.last().expect("there is one");
        assert_eq!(world.known.scsi_status, last.scsi_status);
        let codes = (world.known.sense_key, world.known.asc, world.known.ascq);
        let said = match last.sense {
            [] => (0xFF, 0, 0),
            sense => (sense[1], sense[2], sense[3]),
        };
        assert_eq!(codes, said, "{answers:?}");
    }
}

/// A request that is not taken, since another is in hand, is not counted, and the last answer stays.
#[test]
fn a_refused_start_is_not_noted() {
    let mut world = World::new();
    let _ = world.step(Event::Start(Command::Reserve));
    let before = world.known;
    assert_eq!(world.step(Event::Start(Command::Release)), Action::Refuse);
    assert_eq!(world.known, before);
}

#[test]
fn the_structure_is_read_back_from_its_bytes() {
    let bytes: Vec<u8> = (1..=112).collect();
    let state = ReservationState::from_bytes(&bytes).expect("112 bytes");
    assert_eq!(state.version, 0x0403_0201);
    assert_eq!(state.since, 0x100F_0E0D_0C0B_0A09);
    assert_eq!((state.scsi_status, state.ascq), (25, 28));
    assert_eq!(state.cancels, 0x605F_5E5D_5C5B_5A59);
    assert_eq!((state.timeout_seconds, state.origin), (0x6463_6261, 112));
    for length in 0..112 {
        assert_eq!(ReservationState::from_bytes(&bytes[..length]), None);
    }
    let ends = ReservationState::FIELDS.iter().scan(0, |end, field| {
        let Field { offset, size, .. } = *field;
        assert_eq!(offset, *end, "{}: no padding", field.name);
        *end += size;
        Some(*end)
    });
    assert_eq!(ends.last(), Some(112));
}

/// A driver of the first version answers a buffer of any size with 96 bytes.
#[test]
fn an_answer_is_read_in_either_version_and_at_no_other_length() {
    let answer = |version: u32| -> Vec<u8> {
        let behind = (5..=112).map(|byte: u8| byte);
        version.to_le_bytes().into_iter().chain(behind).collect()
    };
    for (version, size) in [
        (VERSION_1, VERSION_1_SIZE),
        (VERSION, 112),
        (3, usize::MAX),
        (0, usize::MAX),
    ] {
        let bytes = answer(version);
        for length in 0..=bytes.len() {
            let read = ReservationState::from_answer(&bytes[..length]);
            assert_eq!(read.is_some(), length == size, "{version}, {length} bytes");
            let Some(state) = read else { continue };
            assert_eq!(state.cancels, 0x605F_5E5D_5C5B_5A59);
            let timeout = if size == 112 { 0x6463_6261 } else { 0 };
            assert_eq!(state.timeout_seconds, timeout);
        }
    }
}

#[test]
fn the_control_code_is_a_vendors_buffered_one_for_readers() {
    let code = IOCTL_RESVFLT_QUERY_STATE;
    assert!(code >> 16 >= 0x8000, "device type");
    assert!(code >> 2 & 0xFFF >= 0x800, "function");
    assert_eq!(code & 3, 0, "METHOD_BUFFERED");
    assert_eq!(code >> 14 & 3, 1, "FILE_READ_ACCESS");
    assert_eq!(Command::from_ioctl(code), None);
}
