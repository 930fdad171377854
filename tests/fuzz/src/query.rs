//! Fuzz target: the state query to the built `resvflt.sys`, run in the rig, with buffers of any length, after any
//! operations with any answers. What it says is what the machine of driver/scsi says that was told the same; into a
//! buffer that is too small nothing is written, nor behind the structure.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use resvflt_fuzz::{Input, SENSE_ROOM, STRUCTURE};
use rig::abi::irql;
use rig::disk::logical_unit::LogicalUnit;
use rig::fx::{DiskKeys, Power};
use rig::io::Call;
use rig::node::{Node, Stack};
use rig::port::{self, Shape, Timing};
use rig::registry::Hive;
use rig::world::{Entered, Schedule, World};
use rig::{image, rules};
use scsi_reserve::state::VERSION_1_SIZE;
use scsi_reserve::{
    Action, Answer, Command, Event, IOCTL_RESVFLT_QUERY_STATE, NtStatus, Operation, Policy,
    ReservationState, Verdict,
};

const RESERVE: u32 = 0x002D_4810;
const RELEASE: u32 = 0x002D_4814;
const BUFFER_TOO_SMALL: i32 = 0xC000_0023_u32.cast_signed();
const SIZE: usize = size_of::<ReservationState>();

thread_local! {
    /// Loaded once, and never unloaded: what an input does to a disk's filter goes with the disk.
    static LOADED: (&'static Node, &'static Entered) = load();
}

fuzz_target!(|data: &[u8]| {
    LOADED.with(|(node, world)| {
        let disk = Arc::new(LogicalUnit::new().connect("iqn.2026-01.example:a"));
        let stack = node.plug(disk, &DiskKeys::default()).expect("it starts");
        stack.port.behave(Shape::Success, Timing::Inline);
        let now = world.world().now();
        let mut told = Told {
            operation: Operation::new(Policy::default()),
            state: ReservationState::new(now, &Policy::DEFAULT, 10, scsi_reserve::Watch::Off),
            now,
        };
        let mut input = Input(data);
        while !input.is_empty() {
            step(node, &stack, &mut told, &mut input);
        }
        node.unplug(stack);
    });
});

fn load() -> (&'static Node, &'static Entered) {
    rules::abort_when_broken();
    let world = World::enter(Schedule::Orderly);
    let node = Node::load(world.world(), "A", &image::built(), Hive::default());
    let node = node.expect("cargo xtask build: the driver loads");
    (Box::leak(Box::new(node)), Box::leak(Box::new(world)))
}

/// One operation, query or sleep.
fn step(node: &Node, stack: &Stack, told: &mut Told, input: &mut Input<'_>) {
    match input.byte() % 8 {
        kind @ 0..4 => {
            let (code, command) = match kind % 2 {
                0 => (RESERVE, Command::Reserve),
                _ => (RELEASE, Command::Release),
            };
            let answers: Vec<_> = (0..=kind / 2).map(|_| possible(input.answer())).collect();
            stack.port.script(answers.iter().map(given));
            stack.port.repeat(answers.last().map(given));
            let end = node.call(stack, &Call::ioctl(code));
            assert_eq!(end.status, told.operate(command, &answers).0);
            stack.port.forget_script();
            stack.port.take_seen();
            stack.port.take_proven();
        }
        4 => {
            node.power(stack, Power::D3);
            node.power(stack, Power::D0);
            let _ = told.step(Event::PoweredUp);
        }
        kind => query(node, stack, told, kind, input),
    }
}

fn query(node: &Node, stack: &Stack, told: &Told, kind: u8, input: &mut Input<'_>) {
    let output = usize::from(input.word()) % 512;
    let length = usize::from(input.byte());
    let bytes = input.bytes(length);
    let call = Call {
        input: bytes.into(),
        output_length: u32::try_from(output).expect("below 512"),
        // A length that no buffer stands behind.
        input_length: (kind == 7).then_some(u32::from(input.word()) << 16),
        irql: if kind == 6 {
            irql::DISPATCH
        } else {
            irql::PASSIVE
        },
        ..Call::ioctl(IOCTL_RESVFLT_QUERY_STATE)
    };
    let (end, buffer) = node.call_with_buffer(stack, &call);
    let mut before = vec![0; bytes.len().max(output)];
    before[..bytes.len()].copy_from_slice(bytes);
    if output < VERSION_1_SIZE {
        assert_eq!((end.status, end.information), (BUFFER_TOO_SMALL, 0));
        assert_eq!(buffer, before);
        return;
    }
    let (size, state) = if output < SIZE {
        (VERSION_1_SIZE, told.state.version_1())
    } else {
        (SIZE, told.state)
    };
    assert_eq!((end.status, end.information), (0, size as u64));
    let found = ReservationState::from_answer(&buffer[..size]).expect("a version that fits");
    // What the first version does not have is not looked at.
    let compared = |state: &ReservationState| ReservationState {
        timeout_seconds: 0,
        retry_delay_ms: 0,
        max_retries: 0,
        reserve10_fallback: 0,
        origin: 0,
        ..*state
    };
    match size {
        SIZE => assert_eq!(found, state),
        _ => assert_eq!(compared(&found), compared(&state)),
    }
    assert_eq!(buffer[size..], before[size..]);
}

/// An answer that a port can give: no completion is pending, and no more comes back than there is room for.
fn possible(answer: Answer<'_>) -> Answer<'_> {
    let status = match answer.status {
        NtStatus::PENDING => NtStatus::SUCCESS,
        status => status,
    };
    Answer {
        status,
        information: answer.information % (STRUCTURE + SENSE_ROOM + 1),
        sense: &answer.sense[..answer.sense.len().min(SENSE_ROOM)],
        ..answer
    }
}

fn given(answer: &Answer<'_>) -> port::Answer {
    port::Answer::Raw {
        status: answer.status.0,
        information: answer.information,
        scsi_status: Some(answer.scsi_status),
        sense: answer.sense.into(),
    }
}

/// What the machine and the state of driver/scsi make of the same.
struct Told {
    operation: Operation,
    state: ReservationState,
    /// The rig's clock.
    now: u64,
}

impl Told {
    fn step(&mut self, event: Event) -> Action {
        let action = self.operation.step(event);
        self.state
            .note(&event, action, &self.operation, || self.now);
        action
    }

    /// An operation whose commands are answered in turn, the last answer again and again.
    fn operate(&mut self, command: Command, answers: &[Answer<'_>]) -> NtStatus {
        let mut answers = answers.iter().copied().peekable();
        let mut event = Event::Start(command);
        loop {
            event = match self.step(event) {
                Action::Mark => Event::Marked(NtStatus::SUCCESS),
                Action::Prepare => Event::Ready,
                Action::Send => {
                    let answer = *answers.peek().expect("there is one");
                    if answers.len() > 1 {
                        answers.next();
                    }
                    Event::Answered(Verdict::of(&answer))
                }
                Action::StartTimer { milliseconds } => {
                    self.now += (u64::from(milliseconds) * 10_000).max(1);
                    Event::DelayOver
                }
                Action::Unmark => Event::Unmarked(NtStatus::SUCCESS),
                Action::Finish(status) => return status,
                action @ (Action::Nothing
                | Action::Refuse
                | Action::StopTimer
                | Action::CancelSent) => {
                    unreachable!("{action:?}: nobody stops it")
                }
            };
        }
    }
}
