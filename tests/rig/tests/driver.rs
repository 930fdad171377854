//! What the built `resvflt.sys` does with the requests that reach it, run in the rig.

use std::sync::Arc;

use rig::abi::{irql, major};
use rig::disk::Outcome;
use rig::disk::logical_unit::{Forms, LogicalUnit};
use rig::fx::{DiskKeys, Pnp};
use rig::image;
use rig::io::{self, Call, Completion};
use rig::node::{Node, Stack};
use rig::port::{Answer, Cancel, IOCTL_SCSI_GET_ADDRESS, Shape, Timing};
use rig::registry::Hive;
use rig::world::{self, Entered, Schedule, World};
use scsi_reserve::{IOCTL_RESVFLT_QUERY_STATE, Knowledge, ReservationState};

const RESERVE: u32 = 0x002D_4810;
const RELEASE: u32 = 0x002D_4814;
const RESERVES: [u32; 4] = [RESERVE, 0x0007_4810, 0x0002_4810, 0x001F_4810];
const RELEASES: [u32; 4] = [RELEASE, 0x0007_4814, 0x0002_4814, 0x001F_4814];

const SUCCESS: u32 = 0;
const STATUS_TIMEOUT: u32 = 0x0000_0102;
const DEVICE_POWERED_OFF: u32 = 0x8000_000F;
const DEVICE_OFF_LINE: u32 = 0x8000_0010;
const DEVICE_BUSY: u32 = 0x8000_0011;
const INVALID_DEVICE_REQUEST: u32 = 0xC000_0010;
const NO_MEDIA_IN_DEVICE: u32 = 0xC000_0013;
const ACCESS_DENIED: u32 = 0xC000_0022;
const DELETE_PENDING: u32 = 0xC000_0056;
const DEVICE_DATA_ERROR: u32 = 0xC000_009C;
const DEVICE_NOT_CONNECTED: u32 = 0xC000_009D;
const INSUFFICIENT_RESOURCES: u32 = 0xC000_009A;
const DEVICE_NOT_READY: u32 = 0xC000_00A3;
const IO_TIMEOUT: u32 = 0xC000_00B5;
const NOT_SUPPORTED: u32 = 0xC000_00BB;
const NOT_IMPLEMENTED: u32 = 0xC000_0002;
const NO_SUCH_DEVICE: u32 = 0xC000_000E;
const DEVICE_DOES_NOT_EXIST: u32 = 0xC000_00C0;
const CANCELLED: u32 = 0xC000_0120;
const NO_MEDIA: u32 = 0xC000_0178;
const INVALID_DEVICE_STATE: u32 = 0xC000_0184;
const IO_DEVICE_ERROR: u32 = 0xC000_0185;
const CONNECTION_DISCONNECTED: u32 = 0xC000_020C;
const CONNECTION_RESET: u32 = 0xC000_020D;
const REQUEST_ABORTED: u32 = 0xC000_0240;
const DEVICE_REMOVED: u32 = 0xC000_02B6;
const DEVICE_HARDWARE_ERROR: u32 = 0xC000_0483;
const UNSUCCESSFUL: u32 = 0xC000_0001;

/// One node with one disk, no unit attention pending.
struct Bench {
    node: Node,
    stack: Stack,
    unit: LogicalUnit,
    // Last: everything above lives in it.
    world: Entered,
}

impl Bench {
    fn new() -> Self {
        Self::with(Schedule::Orderly, Hive::default(), &DiskKeys::default())
    }

    fn with(schedule: Schedule, hive: Hive, keys: &DiskKeys) -> Self {
        let world = World::enter(schedule);
        let unit = LogicalUnit::new();
        unit.configure(|options| options.quiet = true);
        let node = Node::load(world.world(), "A", &image::built(), hive).expect("the driver loads");
        let disk = Arc::new(unit.connect("iqn.2026-01.example:a"));
        let stack = node.plug(disk, keys).expect("the disk starts");
        Self {
            node,
            stack,
            unit,
            world,
        }
    }

    fn call(&self, code: u32) -> Completion {
        self.node.call(&self.stack, &Call::ioctl(code))
    }

    /// Removes the disk and unloads the driver, which checks for leaks.
    fn end(self) {
        let Self { node, stack, .. } = self;
        node.unplug(stack);
        node.unload();
    }
}

fn end(status: u32) -> (u32, u64) {
    (status, 0)
}

fn of(completion: &Completion) -> (u32, u64) {
    (completion.status.cast_unsigned(), completion.information)
}

#[test]
fn every_spelling_of_reserve_and_release_becomes_its_cdb() {
    let bench = Bench::new();
    for (codes, cdb) in [
        (RESERVES, [0x16, 0, 0, 0, 0, 0]),
        (RELEASES, [0x17, 0, 0, 0, 0, 0]),
    ] {
        for code in codes {
            assert_eq!(of(&bench.call(code)), end(SUCCESS), "{code:#010x}");
            let seen = bench.stack.port.take_seen();
            let sent: Vec<_> = seen.iter().map(|seen| seen.cdb.as_slice()).collect();
            assert_eq!(sent, [cdb], "{code:#010x}");
            assert_eq!(seen[0].timeout, 10, "disk.sys's default");
        }
    }
    assert_eq!(bench.stack.port.take_foreign(), []);
    bench.end();
}

#[test]
fn callers_buffers_of_any_length_are_ignored() {
    let bench = Bench::new();
    for (input, output) in [(0, 0), (1, 0), (0, 1), (56, 56), (4096, 1 << 20)] {
        for code in [RESERVE, RELEASE] {
            let call = Call {
                input: vec![0xA5; input],
                output_length: output,
                ..Call::ioctl(code)
            };
            // The rig has taken all access to the buffer away, and gives it back for this look.
            let (completion, buffer) = bench.node.call_with_buffer(&bench.stack, &call);
            assert_eq!(of(&completion), end(SUCCESS), "{input} in, {output} out");
            assert!(buffer[..input].iter().all(|&byte| byte == 0xA5));
        }
    }
    // Lengths that no buffer stands behind.
    let call = Call {
        input_length: Some(u32::MAX),
        ..Call::ioctl(RESERVE)
    };
    assert_eq!(of(&bench.node.call(&bench.stack, &call)), end(SUCCESS));
    bench.end();
}

#[test]
fn everything_else_passes_untouched() {
    let bench = Bench::new();
    let port = &bench.stack.port;

    // Control codes: neighbours of ours in every field, and some that storage stacks know.
    let mut codes = vec![
        0,
        u32::MAX,
        0x0004_D014,
        0x002D_4800,
        0x002D_1400,
        0x0007_0000,
    ];
    for code in RESERVES.into_iter().chain(RELEASES) {
        codes.extend((0..32).map(|bit| code ^ 1 << bit));
    }
    codes.retain(|code| !RESERVES.contains(code) && !RELEASES.contains(code));
    for code in codes {
        for level in [irql::PASSIVE, irql::DISPATCH] {
            let call = Call {
                input: vec![1, 2, 3],
                output_length: 5,
                irql: level,
                ..Call::ioctl(code)
            };
            let completion = bench.node.call(&bench.stack, &call);
            assert_eq!(
                of(&completion),
                end(INVALID_DEVICE_REQUEST),
                "the port's answer, {code:#x}"
            );
            assert_eq!(port.take_foreign(), [(14, 0, code)]);
        }
    }

    // What the port answers comes up as it is.
    let call = Call {
        output_length: 8,
        ..Call::ioctl(IOCTL_SCSI_GET_ADDRESS)
    };
    let (completion, buffer) = bench.node.call_with_buffer(&bench.stack, &call);
    assert_eq!(of(&completion), (SUCCESS, 8));
    assert_eq!(buffer, [8, 0, 0, 0, 2, 0, 1, 0]);
    port.take_foreign();

    // Every other major function but PnP and power, which have tests of their own; ours would be the code in the same
    // place of the stack location.
    let framework = [
        major::IRP_MJ_DEVICE_CONTROL,
        major::IRP_MJ_PNP,
        major::IRP_MJ_POWER,
    ];
    for code in (0..=27).filter(|&code| !framework.contains(&u32::from(code))) {
        for minor in [0, 1, 0xFF] {
            let call = Call {
                ioctl: RESERVE,
                ..Call::major(code, minor)
            };
            assert_eq!(of(&bench.node.call(&bench.stack, &call)), end(SUCCESS));
            assert_eq!(port.take_foreign(), [(code, minor, 0)]);
        }
    }
    assert_eq!(port.take_seen(), []);
    bench.end();
}

/// What a target or a port may say to one command.
#[derive(Clone, Copy)]
enum Said {
    Scsi(u8),
    /// Fixed-format sense: response code, key, ASC, ASCQ.
    Check(u8, u8, u8, u8),
    /// CHECK CONDITION whose sense is cut to so many bytes.
    ShortCheck(usize),
    /// No target: the port's own NTSTATUS, nothing copied back.
    Port(u32),
    /// The port's NTSTATUS beside GOOD.
    Good(u32),
    /// The port's NTSTATUS beside a current RECOVERED ERROR.
    Recovered(u32),
}

/// Who asks again, how often and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Again {
    Never,
    AtOnce,
    AfterDelay,
    AfterTenSeconds,
    TenByte,
}

use Again::{AfterDelay, AfterTenSeconds, AtOnce, Never, TenByte};
use Said::{Check, Good, Port, Recovered, Scsi, ShortCheck};

/// What the state query tells afterwards, of a unit that this node held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    /// That the command was executed.
    Done,
    /// That another initiator holds it.
    Another,
    /// That this node holds it, as before.
    Same,
    Nothing,
}

use Known::{Another, Done, Nothing, Same};

/// The table of statuses, row by row.
#[rustfmt::skip]
const ROWS: &[(Said, u32, Again, Known)] = &[
    (Scsi(0x00),                    SUCCESS,                Never,           Done),
    (Check(0x70, 0x1, 0x17, 0x01),  SUCCESS,                Never,           Done),
    (Recovered(SUCCESS),            SUCCESS,                Never,           Done),
    (Recovered(IO_DEVICE_ERROR),    SUCCESS,                Never,           Done),
    (Scsi(0x18),                    DEVICE_BUSY,            Never,           Another),
    (Check(0x70, 0x6, 0x29, 0x00),  IO_DEVICE_ERROR,        AtOnce,          Nothing),
    (Check(0x70, 0x6, 0x2A, 0x09),  IO_DEVICE_ERROR,        AtOnce,          Nothing),
    (Check(0x70, 0x6, 0x3F, 0x01),  IO_DEVICE_ERROR,        AtOnce,          Nothing),
    (Check(0x70, 0x6, 0x8B, 0x02),  IO_DEVICE_ERROR,        AtOnce,          Nothing),
    (Check(0x71, 0x1, 0x17, 0x01),  IO_DEVICE_ERROR,        AfterDelay,      Same),
    (Check(0x71, 0x6, 0x29, 0x00),  IO_DEVICE_ERROR,        AfterDelay,      Same),
    (Check(0x71, 0x5, 0x20, 0x00),  IO_DEVICE_ERROR,        AfterDelay,      Same),
    (ShortCheck(0),                 IO_DEVICE_ERROR,        AfterDelay,      Nothing),
    (ShortCheck(2),                 IO_DEVICE_ERROR,        AfterDelay,      Nothing),
    (Check(0x70, 0x0, 0x00, 0x00),  IO_DEVICE_ERROR,        AfterDelay,      Nothing),
    (Check(0x70, 0x5, 0x20, 0x00),  INVALID_DEVICE_REQUEST, TenByte,         Same),
    (Check(0x70, 0x5, 0x24, 0x00),  INVALID_DEVICE_REQUEST, TenByte,         Same),
    (Check(0x70, 0x5, 0x26, 0x00),  INVALID_DEVICE_REQUEST, TenByte,         Same),
    (Check(0x70, 0x5, 0x25, 0x00),  DEVICE_NOT_CONNECTED,   Never,           Nothing),
    (Check(0x70, 0x2, 0x04, 0x01),  DEVICE_NOT_READY,       AfterTenSeconds, Same),
    (Check(0x70, 0x2, 0x04, 0x07),  DEVICE_NOT_READY,       AfterTenSeconds, Same),
    (Check(0x70, 0x2, 0x04, 0x0A),  DEVICE_NOT_READY,       AfterTenSeconds, Same),
    (Check(0x70, 0x2, 0x3A, 0x00),  NO_MEDIA_IN_DEVICE,     Never,           Same),
    (Check(0x70, 0x2, 0x04, 0x03),  NO_MEDIA_IN_DEVICE,     Never,           Same),
    (Check(0x70, 0x2, 0x04, 0x00),  DEVICE_NOT_READY,       Never,           Same),
    (Check(0x70, 0x2, 0x04, 0x04),  DEVICE_NOT_READY,       Never,           Same),
    (Check(0x70, 0x2, 0x04, 0x08),  DEVICE_NOT_READY,       Never,           Same),
    (Check(0x70, 0x2, 0x3E, 0x00),  DEVICE_NOT_READY,       AfterDelay,      Same),
    (Check(0x70, 0xB, 0x00, 0x00),  IO_DEVICE_ERROR,        AfterDelay,      Nothing),
    (Scsi(0x40),                    IO_DEVICE_ERROR,        AfterDelay,      Nothing),
    (Check(0x70, 0x4, 0x44, 0x00),  DEVICE_HARDWARE_ERROR,  Never,           Nothing),
    (Check(0x70, 0x3, 0x11, 0x00),  DEVICE_DATA_ERROR,      Never,           Nothing),
    (Check(0x70, 0x7, 0x27, 0x00),  ACCESS_DENIED,          Never,           Same),
    (Scsi(0x08),                    DEVICE_NOT_READY,       AfterDelay,      Same),
    (Scsi(0x28),                    DEVICE_NOT_READY,       AfterDelay,      Same),
    (Scsi(0x30),                    DEVICE_NOT_READY,       AfterDelay,      Same),
    (Port(IO_TIMEOUT),              IO_TIMEOUT,             Never,           Nothing),
    (Good(IO_TIMEOUT),              IO_TIMEOUT,             Never,           Nothing),
    (Recovered(IO_TIMEOUT),         IO_TIMEOUT,             Never,           Nothing),
    (Port(NO_SUCH_DEVICE),          DEVICE_NOT_CONNECTED,   Never,           Nothing),
    (Recovered(NO_SUCH_DEVICE),     DEVICE_NOT_CONNECTED,   Never,           Nothing),
    (Port(DEVICE_DOES_NOT_EXIST),   DEVICE_NOT_CONNECTED,   Never,           Nothing),
    (Port(DEVICE_NOT_CONNECTED),    DEVICE_NOT_CONNECTED,   Never,           Nothing),
    (Port(DEVICE_REMOVED),          DEVICE_NOT_CONNECTED,   Never,           Nothing),
    (Port(INVALID_DEVICE_STATE),    DEVICE_NOT_CONNECTED,   Never,           Nothing),
    (Port(DELETE_PENDING),          DEVICE_NOT_CONNECTED,   Never,           Nothing),
    (Port(DEVICE_OFF_LINE),         DEVICE_NOT_CONNECTED,   Never,           Nothing),
    (Port(DEVICE_POWERED_OFF),      DEVICE_NOT_CONNECTED,   Never,           Nothing),
    (Port(INVALID_DEVICE_REQUEST),  INVALID_DEVICE_REQUEST, TenByte,         Same),
    (Good(INVALID_DEVICE_REQUEST),  INVALID_DEVICE_REQUEST, TenByte,         Same),
    (Port(NOT_SUPPORTED),           INVALID_DEVICE_REQUEST, TenByte,         Same),
    (Port(NOT_IMPLEMENTED),         INVALID_DEVICE_REQUEST, TenByte,         Same),
    (Port(INSUFFICIENT_RESOURCES),  INSUFFICIENT_RESOURCES, AfterDelay,      Nothing),
    (Port(IO_DEVICE_ERROR),         IO_DEVICE_ERROR,        AfterDelay,      Nothing),
    (Good(IO_DEVICE_ERROR),         IO_DEVICE_ERROR,        AfterDelay,      Nothing),
    (Port(DEVICE_BUSY),             IO_DEVICE_ERROR,        AfterDelay,      Nothing),
    (Recovered(DEVICE_BUSY),        IO_DEVICE_ERROR,        AfterDelay,      Nothing),
    (Port(CONNECTION_DISCONNECTED), IO_DEVICE_ERROR,        AfterDelay,      Nothing),
    (Port(CONNECTION_RESET),        IO_DEVICE_ERROR,        AfterDelay,      Nothing),
    (Port(REQUEST_ABORTED),         IO_DEVICE_ERROR,        AfterDelay,      Nothing),
    (Port(CANCELLED),               IO_DEVICE_ERROR,        AfterDelay,      Nothing),
    (Port(DEVICE_NOT_READY),        DEVICE_NOT_READY,       AfterDelay,      Nothing),
    (Port(NO_MEDIA_IN_DEVICE),      NO_MEDIA_IN_DEVICE,     Never,           Nothing),
    (Port(NO_MEDIA),                NO_MEDIA_IN_DEVICE,     Never,           Nothing),
    (Port(UNSUCCESSFUL),            IO_DEVICE_ERROR,        Never,           Nothing),
    (Port(SUCCESS),                 IO_DEVICE_ERROR,        Never,           Nothing),
    (Good(STATUS_TIMEOUT),          IO_DEVICE_ERROR,        Never,           Nothing),
    (Recovered(STATUS_TIMEOUT),     IO_DEVICE_ERROR,        Never,           Nothing),
    (Scsi(0x04),                    IO_DEVICE_ERROR,        Never,           Nothing),
    (Scsi(0x10),                    IO_DEVICE_ERROR,        Never,           Nothing),
    (Scsi(0x22),                    IO_DEVICE_ERROR,        Never,           Nothing),
    (Check(0x70, 0x8, 0x00, 0x00),  IO_DEVICE_ERROR,        Never,           Nothing),
    (Check(0x70, 0x9, 0x00, 0x00),  IO_DEVICE_ERROR,        Never,           Nothing),
    (Check(0x70, 0xE, 0x1D, 0x00),  IO_DEVICE_ERROR,        Never,           Nothing),
    (Check(0x7F, 0x1, 0x00, 0x00),  IO_DEVICE_ERROR,        AfterDelay,      Nothing),
];

fn fixed(code: u8, key: u8, asc: u8, ascq: u8) -> Vec<u8> {
    let mut sense = vec![0; 18];
    (sense[0], sense[2], sense[7], sense[12], sense[13]) = (code, key, 10, asc, ascq);
    sense
}

fn descriptor(code: u8, key: u8, asc: u8, ascq: u8) -> Vec<u8> {
    vec![code + 2, key, asc, ascq, 0, 0, 0, 0]
}

fn answer(said: Said, in_descriptors: bool) -> Answer {
    let target = |status, sense| {
        Answer::Target(Outcome::Status {
            status,
            sense,
            data: Vec::new(),
        })
    };
    match said {
        Scsi(status) => target(status, Vec::new()),
        Check(code, key, asc, ascq) if in_descriptors => {
            target(2, descriptor(code, key, asc, ascq))
        }
        Check(code, key, asc, ascq) => target(2, fixed(code, key, asc, ascq)),
        ShortCheck(length) => target(2, fixed(0x70, 1, 0, 0)[..length].to_vec()),
        Port(status) => raw(status, 0, None, Vec::new()),
        Good(status) => raw(status, 56, Some(0x00), Vec::new()),
        Recovered(status) => {
            let sense = if in_descriptors {
                descriptor(0x70, 0x1, 0x17, 0x01)
            } else {
                fixed(0x70, 0x1, 0x17, 0x01)
            };
            raw(status, 56 + sense.len(), Some(0x02), sense)
        }
    }
}

fn raw(status: u32, information: usize, scsi_status: Option<u8>, sense: Vec<u8>) -> Answer {
    Answer::Raw {
        status: status.cast_signed(),
        information,
        scsi_status,
        sense,
    }
}

impl Known {
    fn of(self, code: u32) -> Knowledge {
        match self {
            Done if code == RELEASE => Knowledge::NotOurs,
            Done | Same => Knowledge::HeldByUs,
            Another => Knowledge::HeldByAnother,
            Nothing => Knowledge::Unknown,
        }
    }
}

#[test]
fn every_row_of_the_status_table_holds_in_both_answer_shapes() {
    let bench = Bench::new();
    for &row in ROWS {
        for shape in [Shape::Success, Shape::Error] {
            for timing in [Timing::Later, Timing::Inline] {
                for in_descriptors in [false, true] {
                    bench.stack.port.behave(shape, timing);
                    for code in [RESERVE, RELEASE] {
                        let (_, status, again, _) = row;
                        let what = format!("{status:#x} {again:?} {shape:?} {timing:?} {code:#x}");
                        bench.holds(row, in_descriptors, code, &what);
                    }
                }
            }
        }
    }
    bench.end();
}

impl Bench {
    /// One row, on a unit that this node holds.
    fn holds(
        &self,
        (said, status, again, known): (Said, u32, Again, Known),
        in_descriptors: bool,
        code: u32,
        what: &str,
    ) {
        let port = &self.stack.port;
        assert_eq!(of(&self.call(RESERVE)), end(SUCCESS), "{what}");
        port.take_seen();
        let (sends, milliseconds) = match again {
            Never => (1, 0),
            AtOnce => (9 + 4, 4 * 1_000),
            AfterDelay => (5, 4 * 1_000),
            AfterTenSeconds => (5, 4 * 10_000),
            TenByte => (2, 0),
        };
        port.script(vec![answer(said, in_descriptors); sends]);
        let before = self.world.world().now();
        let completion = self.call(code);
        let seen = port.take_seen();
        assert_eq!(of(&completion), end(status), "{what}");
        assert_eq!(seen.len(), sends, "{what}");
        // One unit of 100 ns may pass for a delay of none.
        let waited = self.world.world().now() - before;
        assert_eq!(waited / 10_000, milliseconds, "{what}");
        let ten = if again == TenByte { 0x40 } else { 0 };
        let first = if code == RESERVE { 0x16 } else { 0x17 };
        assert_eq!(seen[0].cdb[0], first, "{what}");
        assert_eq!(seen[sends - 1].cdb[0], first + ten, "{what}");
        assert_eq!(self.knowledge(), known.of(code), "{what}");
    }

    fn knowledge(&self) -> Knowledge {
        let length = u32::try_from(size_of::<ReservationState>()).expect("96");
        let call = Call {
            output_length: length,
            ..Call::ioctl(IOCTL_RESVFLT_QUERY_STATE)
        };
        let (completion, buffer) = self.node.call_with_buffer(&self.stack, &call);
        assert_eq!(of(&completion), (SUCCESS, length.into()));
        let state = ReservationState::from_bytes(&buffer).expect("the whole structure");
        Knowledge::from_number(state.knowledge).expect("one of the four")
    }
}

/// With the RESERVE that a reset overtakes: it is sent and not answered when the reset passes.
#[test]
fn a_reset_that_passes_leaves_nothing_known() {
    for code in [0x002D_5014, 0x002D_5000, 0x002D_5004] {
        for level in [irql::PASSIVE, irql::DISPATCH] {
            let bench = Bench::new();
            let port = &bench.stack.port;
            let reset = Call {
                irql: level,
                ..Call::ioctl(code)
            };
            let passes = || {
                let completion = bench.node.call(&bench.stack, &reset);
                assert_eq!(of(&completion), end(INVALID_DEVICE_REQUEST), "the port's");
                assert_eq!(port.take_foreign(), [(14, 0, code)]);
                assert_eq!(bench.knowledge(), Knowledge::Unknown, "{code:#x}");
            };
            assert_eq!(of(&bench.call(RESERVE)), end(SUCCESS));
            assert_eq!(bench.knowledge(), Knowledge::HeldByUs);
            passes();
            assert_eq!(of(&bench.call(RESERVE)), end(SUCCESS));
            assert_eq!(bench.knowledge(), Knowledge::HeldByUs);

            port.behave(Shape::Success, Timing::Never);
            let overtaken = bench.node.start(&bench.stack, &Call::ioctl(RESERVE));
            world::current().settle();
            passes();
            port.behave(Shape::Success, Timing::Later);
            port.release();
            assert_eq!(of(&overtaken.wait()), end(SUCCESS), "the target said so");
            assert_eq!(bench.knowledge(), Knowledge::Unknown, "of then, not of now");
            bench.end();
        }
    }
}

/// As classpnp does when it meets them: after all of "target operating conditions have changed" but new microcode.
#[test]
fn a_changed_target_has_the_bus_looked_at_anew() {
    const BUS_RELATIONS: u32 = 0;
    let bench = Bench::new();
    let port = &bench.stack.port;
    for (key, asc, ascq, asks) in [
        (6, 0x3F, 0x0E, true),
        (6, 0x3F, 0x03, true),
        (6, 0x3F, 0x00, true),
        (6, 0x3F, 0x01, false),
        (6, 0x29, 0x00, false),
        (6, 0x2A, 0x09, false),
        (2, 0x3F, 0x0E, false),
    ] {
        for timing in [Timing::Later, Timing::Inline] {
            port.behave(Shape::Success, timing);
            port.script([answer(Check(0x70, key, asc, ascq), false)]);
            assert_eq!(of(&bench.call(RESERVE)), end(SUCCESS));
            let invalidated = io::take_invalidated(port.device());
            let expected = if asks {
                vec![BUS_RELATIONS]
            } else {
                Vec::new()
            };
            assert_eq!(invalidated, expected, "{key:#x} {asc:#x}/{ascq:#x}");
        }
    }
    bench.end();
}

#[test]
fn success_is_claimed_on_proof_alone() {
    let bench = Bench::new();
    let port = &bench.stack.port;
    let everything = [
        SUCCESS,
        UNSUCCESSFUL,
        IO_TIMEOUT,
        NO_SUCH_DEVICE,
        DEVICE_BUSY,
        IO_DEVICE_ERROR,
        CANCELLED,
        INVALID_DEVICE_REQUEST,
        STATUS_TIMEOUT,
        0x4000_0000,
        0x103 + 1,
    ];
    for status in everything {
        for information in [0, 1, 3, 55, 56, 57, 88] {
            for scsi_status in [None, Some(0x00), Some(0xFF), Some(0x18), Some(0x02)] {
                let said = raw(status, information, scsi_status, fixed(0x71, 1, 0, 0));
                port.script(vec![said; 9]);
                let got = bench.call(RESERVE);
                let proof = status == SUCCESS && information >= 56 && scsi_status == Some(0);
                assert_eq!(
                    got.status == 0,
                    proof,
                    "{status:#x}, Information {information}, ScsiStatus {scsi_status:?}: {got:x?}"
                );
                assert!(got.status <= 0, "an error is an error");
                // What was not asked for.
                port.forget_script();
            }
        }
    }
    bench.end();
}

#[test]
fn a_target_without_the_6_byte_form_is_served_by_the_10_byte_form_and_it_is_remembered() {
    let bench = Bench::new();
    bench.unit.configure(|options| options.forms = Forms::Ten);
    let cdbs = |code| {
        assert_eq!(of(&bench.call(code)), end(SUCCESS));
        let seen = bench.stack.port.take_seen();
        seen.iter().map(|seen| seen.cdb[0]).collect::<Vec<_>>()
    };
    assert_eq!(cdbs(RESERVE), [0x16, 0x56]);
    assert_eq!(cdbs(RESERVE), [0x56]);
    assert_eq!(cdbs(RELEASE), [0x57]);
    bench.end();
}

#[test]
fn queued_requests_are_served_one_at_a_time_in_their_order() {
    let bench = Bench::new();
    let codes = [RESERVE, RELEASE, RESERVE, RESERVE, RELEASE];
    let calls: Vec<_> = codes
        .map(|code| bench.node.start(&bench.stack, &Call::ioctl(code)))
        .into();
    for call in calls {
        assert_eq!(of(&call.wait()), end(SUCCESS));
    }
    let seen = bench.stack.port.take_seen();
    let order: Vec<_> = seen.iter().map(|seen| seen.cdb[0]).collect();
    assert_eq!(order, [0x16, 0x17, 0x16, 0x16, 0x17]);
    bench.end();
}

#[test]
fn callers_at_dispatch_level_are_served_at_passive_level() {
    let bench = Bench::new();
    let call = Call {
        irql: irql::DISPATCH,
        ..Call::ioctl(RESERVE)
    };
    // That the pass-through is sent at PASSIVE_LEVEL is a rule of the port's.
    assert_eq!(of(&bench.node.call(&bench.stack, &call)), end(SUCCESS));
    bench.end();
}

#[test]
fn a_cancelled_caller_gets_cancelled_wherever_its_operation_is() {
    let bench = Bench::new();
    let port = &bench.stack.port;
    for (timing, cancel) in [
        (Timing::Never, Cancel::Honoured),
        (Timing::Never, Cancel::Late),
    ] {
        port.behave(Shape::Success, timing);
        port.on_cancel(cancel);
        let sent = bench.node.start(&bench.stack, &Call::ioctl(RESERVE));
        let queued = bench.node.start(&bench.stack, &Call::ioctl(RESERVE));
        assert_eq!(port.outstanding(), 1);
        queued.cancel();
        assert_eq!(of(&queued.wait()), end(CANCELLED));
        sent.cancel();
        assert_eq!(of(&sent.wait()), end(CANCELLED));
    }
    // In a retry delay.
    port.behave(Shape::Success, Timing::Later);
    port.script([answer(Scsi(0x08), false)]);
    let waiting = bench.node.start(&bench.stack, &Call::ioctl(RESERVE));
    world::current().settle();
    assert_eq!(port.take_seen().len(), 1);
    waiting.cancel();
    assert_eq!(of(&waiting.wait()), end(CANCELLED));
    assert_eq!(port.take_seen(), []);
    assert_eq!(bench.world.world().timers(), 0, "the delay is over, too");
    bench.end();
}

#[test]
fn a_disk_that_comes_and_goes_leaves_no_framework_object_behind() {
    let bench = Bench::new();
    let before = bench.node.framework().live_objects();
    let disk = Arc::new(bench.unit.connect("iqn.2026-01.example:c"));
    let stack = bench.node.plug(disk, &DiskKeys::default()).unwrap();
    assert!(stack.is_filtered());
    bench.node.unplug(stack);
    assert_eq!(bench.node.framework().live_objects(), before);
    bench.end();
}

#[test]
fn a_caller_that_the_port_does_not_let_cancel_waits_for_the_port() {
    let bench = Bench::new();
    let port = &bench.stack.port;
    port.behave(Shape::Success, Timing::Never);
    port.on_cancel(Cancel::Ignored);
    let call = bench.node.start(&bench.stack, &Call::ioctl(RESERVE));
    call.cancel();
    world::current().settle();
    assert_eq!(call.done(), None);
    port.release();
    assert_eq!(
        of(&call.wait()),
        end(SUCCESS),
        "the target said GOOD: the reservation is held"
    );
    assert_eq!(
        bench.unit.holder().as_deref(),
        Some("iqn.2026-01.example:a")
    );
    bench.end();
}

#[test]
fn a_port_that_never_answers_is_ended_by_the_net_under_its_own_timeout() {
    let bench = Bench::new();
    let port = &bench.stack.port;
    port.behave(Shape::Success, Timing::Never);
    let before = bench.world.world().now();
    assert_eq!(of(&bench.call(RESERVE)), end(IO_TIMEOUT));
    assert_eq!((bench.world.world().now() - before) / 10_000_000, 10 + 30);
    bench.end();
}

#[test]
fn removal_ends_what_is_in_hand_and_waits_for_nothing_else() {
    for surprise in [false, true] {
        for state in ["sent", "in a retry delay"] {
            let Bench {
                node, stack, world, ..
            } = Bench::new();
            let port = Arc::clone(&stack.port);
            match state {
                "sent" => port.behave(Shape::Success, Timing::Never),
                _ => port.script([answer(Scsi(0x08), false)]),
            }
            let first = node.start(&stack, &Call::ioctl(RESERVE));
            let queued = node.start(&stack, &Call::ioctl(RESERVE));
            world::current().settle();
            let before = world.world().now();
            if surprise {
                node.pnp(&stack, Pnp::SurpriseRemoval);
                assert_eq!(of(&first.wait()), end(DEVICE_NOT_CONNECTED), "{state}");
                assert_eq!(of(&queued.wait()), end(DEVICE_NOT_CONNECTED), "{state}");
                let late = node.call(&stack, &Call::ioctl(RESERVE));
                assert_eq!(of(&late), end(DEVICE_NOT_CONNECTED), "{state}");
                let foreign = node.call(&stack, &Call::ioctl(0x002D_4800));
                assert_eq!(of(&foreign), end(INVALID_DEVICE_REQUEST), "still forwarded");
            }
            node.unplug(stack);
            assert_eq!(of(&first.wait()), end(DEVICE_NOT_CONNECTED), "{state}");
            let ended = of(&queued.wait()).0;
            assert!(
                [DEVICE_NOT_CONNECTED, CANCELLED].contains(&ended),
                "{state}: {ended:#x}"
            );
            assert_eq!(
                world.world().now(),
                before,
                "{state}: no timer had to run out"
            );
            node.unload();
        }
    }
}

#[test]
fn parameters_are_read_and_those_out_of_range_are_ignored() {
    let key = format!(r"{}\Parameters", rig::node::SERVICE_KEY);
    let disk_key = r"\Registry\Machine\System\CurrentControlSet\Services\Disk";
    // TimeoutSeconds, the disk's TimeOutValue -> seconds that the port gets
    for (own, disks, seconds) in [
        (None, None, 10),
        (None, Some(30), 30),
        (None, Some(1000), 1000),
        (None, Some(0), 10),
        (Some(1), Some(30), 1),
        (Some(3600), None, 3600),
        (Some(0), Some(30), 30),
        (Some(3601), None, 10),
    ] {
        let hive = Hive::default();
        if let Some(value) = own {
            hive.set(&key, "TimeoutSeconds", value);
        }
        if let Some(value) = disks {
            hive.set(disk_key, "TimeOutValue", value);
        }
        let bench = Bench::with(Schedule::Orderly, hive, &DiskKeys::default());
        bench.call(RESERVE);
        assert_eq!(
            bench.stack.port.take_seen()[0].timeout,
            seconds,
            "{own:?} {disks:?}"
        );
        bench.end();
    }
}

#[test]
fn the_filter_attaches_to_the_disks_that_it_is_told_to() {
    let parameters = format!(r"{}\Parameters", rig::node::SERVICE_KEY);
    let long = format!("MPIO\\Disk{}", "x".repeat(200));
    for (mode, enabled, ids, attaches) in [
        (0, None, "SCSI\\DiskACME", true),
        (0, Some(0), "SCSI\\DiskACME", false),
        (0, Some(1), "SCSI\\DiskACME", true),
        (1, None, "SCSI\\DiskACME", false),
        (1, Some(0), "SCSI\\DiskACME", false),
        (1, Some(1), "SCSI\\DiskACME", true),
        (0, Some(7), "SCSI\\DiskACME", true),
        (0, Some(1), "MPIO\\DiskACME", false),
        (0, Some(1), "mpio\\diskacme", false),
        (0, None, &long, false),
    ] {
        let hive = Hive::default();
        hive.set(&parameters, "AttachMode", mode);
        let keys = DiskKeys {
            hardware_key: r"\disk".into(),
            hardware_ids: vec![ids.into(), "GenDisk".into()],
        };
        hive.create(&keys.hardware_key);
        if let Some(value) = enabled {
            hive.set(&keys.hardware_key, "ResvFltEnabled", value);
        }
        let bench = Bench::with(Schedule::Orderly, hive, &keys);
        assert_eq!(
            bench.stack.is_filtered(),
            attaches,
            "mode {mode}, {enabled:?}, {ids}"
        );
        // Without the filter, the port's own answer.
        let expected = if attaches {
            SUCCESS
        } else {
            INVALID_DEVICE_REQUEST
        };
        assert_eq!(of(&bench.call(RESERVE)), end(expected));
        bench.end();
    }
}

#[test]
fn a_disk_whose_word_cannot_be_had_is_left_alone() {
    let hive = Hive::default();
    hive.set(r"\disk", "ResvFltEnabled", 0);
    let ids = |id: String| DiskKeys {
        hardware_key: r"\disk".into(),
        hardware_ids: vec![id],
    };
    // Longer than the driver reads, so that it can't see whether the disk is MPIO's.
    let long = Bench::with(
        Schedule::Orderly,
        Hive::default(),
        &ids(format!("MPIO\\{}", "x".repeat(600))),
    );
    assert!(!long.stack.is_filtered());
    long.end();
    for failing in [
        "WdfFdoInitOpenRegistryKey",
        "WdfFdoInitQueryProperty",
        "WdfRegistryQueryULong",
    ] {
        let world = World::enter(Schedule::Orderly);
        let node = Node::load(world.world(), "A", &image::built(), hive.clone()).unwrap();
        let unit = LogicalUnit::new();
        let plug = || {
            let disk = Arc::new(unit.connect("iqn.2026-01.example:a"));
            node.plug(disk, &ids("SCSI\\DiskACME".into()))
                .expect("the disk starts")
        };
        let faults = || world.world().faults.lock().unwrap();
        // Which call of a disk's it is, a run without a fault tells.
        let before = faults().calls.len();
        node.unplug(plug());
        let index = faults().calls[before..]
            .iter()
            .position(|(name, _)| *name == failing)
            .expect("it is called");
        let next = faults().calls.len();
        // The first of its statuses: INSUFFICIENT_RESOURCES.
        faults().fail_call = Some((next + index, 0));
        let stack = plug();
        assert!(!stack.is_filtered(), "{failing}");
        node.unplug(stack);
        node.unload();
    }
}

#[test]
fn any_allocation_that_fails_leaves_the_disk_working() {
    // Which allocations there are is known from a run in which all succeed.
    let world = World::enter(Schedule::Orderly);
    let unit = LogicalUnit::new();
    let run = |fail: Option<usize>| {
        {
            let mut faults = world.world().faults.lock().unwrap();
            *faults = rig::world::Faults {
                fail_allocation: fail,
                ..Default::default()
            };
        }
        let Ok(node) = Node::load(world.world(), "A", &image::built(), Hive::default()) else {
            return 0;
        };
        let disk = Arc::new(unit.connect("iqn.2026-01.example:a"));
        let stack = node
            .plug(disk, &DiskKeys::default())
            .expect("the disk starts, filter or not");
        let foreign = node.call(&stack, &Call::ioctl(0x002D_4800));
        assert_eq!(
            of(&foreign),
            end(INVALID_DEVICE_REQUEST),
            "allocation {fail:?}"
        );
        let ours = of(&node.call(&stack, &Call::ioctl(RESERVE)));
        match stack.is_filtered() {
            true if fail.is_none() => assert_eq!(ours, end(SUCCESS)),
            true => assert!(
                [SUCCESS, INSUFFICIENT_RESOURCES].contains(&ours.0),
                "{fail:?} {ours:x?}"
            ),
            false => assert_eq!(ours, end(INVALID_DEVICE_REQUEST), "allocation {fail:?}"),
        }
        node.unplug(stack);
        node.unload();
        world.world().faults.lock().unwrap().allocations.len()
    };
    let all = run(None);
    assert!(all > 8, "{all} allocations");
    for number in 0..all {
        run(Some(number));
    }
}

#[test]
fn an_operation_allocates_only_the_frameworks_own_request() {
    let bench = Bench::new();
    let count = || bench.world.world().faults.lock().unwrap().allocations.len();
    for code in [RESERVE, RELEASE, RESERVE] {
        let before = count();
        bench.call(code);
        let faults = bench.world.world().faults.lock().unwrap();
        assert_eq!(faults.allocations[before..], ["WDFREQUEST"]);
    }
    bench.end();
}

#[test]
fn loading_and_unloading_1000_times_leaks_nothing() {
    let file = image::built();
    let bytes = image::read(&file).unwrap();
    let world = World::enter(Schedule::Orderly);
    for round in 0..1000 {
        let unit = LogicalUnit::new();
        let node = Node::load_bytes(world.world(), "A", &file, &bytes, Hive::default()).unwrap();
        let stack = node
            .plug(
                Arc::new(unit.connect("iqn.2026-01.example:a")),
                &DiskKeys::default(),
            )
            .unwrap();
        assert_eq!(
            of(&node.call(&stack, &Call::ioctl(RESERVE))),
            end(SUCCESS),
            "round {round}"
        );
        node.unplug(stack);
        // Stops the run if an object, an IRP or a block of pool is left.
        node.unload();
    }
}

#[test]
fn no_interleaving_of_cancel_removal_and_answers_loses_or_repeats_a_completion() {
    let cancels = [Cancel::Honoured, Cancel::Late, Cancel::Ignored];
    for (seed, cancel) in (0..400).zip(cancels.into_iter().cycle()) {
        let schedule = Schedule::Random { seed, one_in: 3 };
        let Bench {
            node,
            stack,
            unit,
            world,
        } = Bench::with(schedule, Hive::default(), &DiskKeys::default());
        let port = Arc::clone(&stack.port);
        port.on_cancel(cancel);
        if seed % 2 == 0 {
            unit.attention(0x29, 0);
            port.script([
                answer(Scsi(0x08), false),
                answer(Check(0x70, 6, 0x29, 0), false),
            ]);
        }
        let calls: Vec<_> = [RESERVE, RELEASE, RESERVE, RELEASE, RESERVE, RESERVE]
            .map(|code| node.start(&stack, &Call::ioctl(code)))
            .into();
        for call in calls.iter().step_by(2) {
            let call = Arc::clone(call);
            let job = move || {
                call.cancel();
            };
            world
                .world()
                .spawn("canceller", irql::PASSIVE, Box::new(job));
        }
        if seed % 5 == 0 {
            node.pnp(&stack, Pnp::SurpriseRemoval);
        }
        if seed % 7 == 0 {
            node.unplug(stack);
            for call in &calls {
                assert!(call.done().is_some(), "seed {seed}: removal is over");
            }
        } else {
            for call in &calls {
                let ended = of(&call.wait()).0;
                let known = [
                    SUCCESS,
                    CANCELLED,
                    DEVICE_NOT_CONNECTED,
                    INVALID_DEVICE_STATE,
                    // A timer may fire as early as it likes.
                    IO_TIMEOUT,
                ];
                assert!(known.contains(&ended), "seed {seed}: {ended:#x}");
            }
            world::current().settle();
            node.unplug(stack);
        }
        world::current().settle();
        node.unload();
    }
}

/// A port that completes inside the send would have the next one served inside the completion of the one before, if that
/// served it.
#[test]
fn a_thousand_queued_requests_take_the_stack_of_one() {
    let deepest = |waiting: usize| {
        let bench = Bench::new();
        let port = &bench.stack.port;
        port.behave(Shape::Success, Timing::Never);
        let first = bench.node.start(&bench.stack, &Call::ioctl(RESERVE));
        let start = |_| bench.node.start(&bench.stack, &Call::ioctl(RELEASE));
        let queued: Vec<_> = (0..waiting).map(start).collect();
        world::current().settle();
        assert_eq!(port.outstanding(), 1);
        port.behave(Shape::Success, Timing::Inline);
        port.release();
        for pending in [first].into_iter().chain(queued) {
            assert_eq!(pending.wait().status.cast_unsigned(), SUCCESS);
        }
        let world = bench.world.world();
        world
            .deepest_stack
            .load(std::sync::atomic::Ordering::Relaxed)
    };
    let (two, many) = (deepest(2), deepest(1000));
    println!("{many} bytes");
    assert!(two > 0);
    assert_eq!(two, many);
}
