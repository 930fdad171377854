//! What the node says it knows of its reservation, held against a target that knows.

use scsi_reserve::state::{Field, IOCTL_RESVFLT_QUERY_STATE};
use scsi_reserve::{
    Action, Answer, Command, Event, Knowledge, NtStatus, Operation, Policy, ReservationState,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Initiator {
    Us,
    Other,
}

use Initiator::{Other, Us};

/// What can happen to a reservation between two looks at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Happening {
    /// A command of ours, and how it fares on its way.
    Ours(Command, Fate),
    Others(Command),
    /// The unit forgets the reservation, and every initiator is to hear of it.
    Reset,
    /// The same with the power of the whole disk, which this node sees come back.
    PowerCycle,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Answered,
    /// The target says BUSY until the retries are spent.
    NotExecuted,
    /// The target did what it was told; its answer does not arrive.
    AnswerLost,
    CommandLost,
}

const HAPPENINGS: [Happening; 12] = {
    use Command::{Release, Reserve};
    use Fate::{AnswerLost, Answered, CommandLost, NotExecuted};
    use Happening::{Others, Ours, PowerCycle, Reset};
    [
        Ours(Reserve, Answered),
        Ours(Reserve, NotExecuted),
        Ours(Reserve, AnswerLost),
        Ours(Reserve, CommandLost),
        Ours(Release, Answered),
        Ours(Release, NotExecuted),
        Ours(Release, AnswerLost),
        Ours(Release, CommandLost),
        Others(Reserve),
        Others(Release),
        Reset,
        PowerCycle,
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
            known: ReservationState::new(0),
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

    fn step(&mut self, event: Event<'_>) -> Action {
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
        };
        self.step(Event::Answered(Answer {
            status,
            information: 56 + 8,
            scsi_status,
            // UNIT ATTENTION, reset
            sense: &[0x72, 0x06, 0x29, 0x00, 0, 0, 0, 0],
        }))
    }

    fn take(&mut self, happening: Happening) {
        self.now += 1;
        match happening {
            Happening::Ours(command, fate) => self.ours(command, fate),
            Happening::Others(command) => {
                self.execute(Other, command);
            }
            Happening::Reset => (self.holder, self.attention) = (None, true),
            Happening::PowerCycle => {
                (self.holder, self.attention) = (None, true);
                self.known.resumed(|| self.now);
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

fn walk(world: &World, path: &mut Vec<Happening>, left: usize) {
    for happening in HAPPENINGS {
        let mut next = world.clone();
        next.take(happening);
        path.push(happening);
        assert!(next.is_sound(), "{path:?}: {:?}", next.known);
        if matches!(happening, Happening::Ours(_, Fate::Answered)) {
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

#[test]
fn a_failed_send_leaves_nothing_known() {
    let mut world = World::new();
    world.ours(Command::Reserve, Fate::Answered);
    for event in [
        Event::Start(Command::Release),
        Event::Marked(NtStatus::SUCCESS),
        Event::Refused(NtStatus::NO_SUCH_DEVICE),
    ] {
        assert_ne!(world.step(event), Action::Nothing);
    }
    assert_eq!(world.knowledge(), Knowledge::Unknown);
}

#[test]
fn the_structure_is_read_back_from_its_bytes() {
    let bytes: Vec<u8> = (1..=96).collect();
    let state = ReservationState::from_bytes(&bytes).expect("96 bytes");
    assert_eq!(state.version, 0x0403_0201);
    assert_eq!(state.since, 0x100F_0E0D_0C0B_0A09);
    assert_eq!((state.scsi_status, state.ascq), (25, 28));
    assert_eq!(state.cancels, 0x605F_5E5D_5C5B_5A59);
    for length in 0..96 {
        assert_eq!(ReservationState::from_bytes(&bytes[..length]), None);
    }
    let ends = ReservationState::FIELDS.iter().scan(0, |end, field| {
        let Field { offset, size, .. } = *field;
        assert_eq!(offset, *end, "{}: no padding", field.name);
        *end += size;
        Some(*end)
    });
    assert_eq!(ends.last(), Some(96));
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
