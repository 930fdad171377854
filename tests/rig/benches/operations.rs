//! How long a request takes on a disk with the filter and on one without it, in one run.
//!
//! What runs around the driver is the rig, which checks every step and is far slower than Windows' own code, so a time says
//! little. Compared are two paths through the same rig: rounds with and without the filter take turns, each pair of rounds
//! gives a ratio, and the machine's noise hits both. Without the filter a RESERVE is the same pass-through, sent by the
//! caller. With it the framework's and the verifier's part of the rig runs too, so the ratio is an upper bound.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "sizes and times are small"
)]
#![allow(clippy::doc_markdown, reason = "names of the WDK are words here")]

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use criterion::Criterion;
use rig::abi::{IOCTL_SCSI_PASS_THROUGH, SCSI_PASS_THROUGH, irql, status};
use rig::bench;
use rig::disk::logical_unit::LogicalUnit;
use rig::fx::DiskKeys;
use rig::image;
use rig::io::Call;
use rig::node::{Node, Stack};
use rig::pool;
use rig::port::{IOCTL_SCSI_GET_ADDRESS, Shape, Timing};
use rig::registry::Hive;
use rig::world::{Schedule, World};

const RESERVE: u32 = 0x002D_4810;
/// Requests in one round.
const ROUND: usize = 4096;
/// Sense bytes that a caller's own pass-through has room for.
const SENSE: usize = 18;

/// The disks of one side, and the request that each gets.
struct Side {
    stacks: Vec<Stack>,
    call: [Call; 2],
}

/// A node that has disks with the filter and as many without.
struct Bed {
    node: Node,
    with: Side,
    without: Side,
    next: AtomicUsize,
    world: Arc<World>,
}

#[derive(Clone, Copy)]
enum Request {
    Foreign,
    Reserve,
}

impl Request {
    const ALL: [Self; 2] = [Self::Foreign, Self::Reserve];

    fn name(self) -> &'static str {
        match self {
            Self::Foreign => bench::Case::Ioctl.name(),
            Self::Reserve => bench::Case::Reserve.name(),
        }
    }
}

impl Bed {
    fn new(world: &Arc<World>, devices: usize) -> Arc<Self> {
        let node =
            Node::load(world, "A", &image::built(), Hive::default()).expect("the driver loads");
        // The filter leaves MPIO's disks alone.
        let [with, without] = [r"SCSI\Disk", r"MPIO\Disk"].map(|hardware_id| {
            let keys = DiskKeys {
                hardware_ids: vec![hardware_id.into()],
                ..DiskKeys::default()
            };
            let stacks = (0..devices).map(|_| plug(&node, &keys));
            stacks.collect::<Vec<_>>()
        });
        assert!(with.iter().all(Stack::is_filtered));
        assert!(!without.iter().any(Stack::is_filtered));
        let address = Call {
            output_length: 8,
            ..Call::ioctl(IOCTL_SCSI_GET_ADDRESS)
        };
        Arc::new(Self {
            node,
            with: Side {
                stacks: with,
                call: [address.clone(), Call::ioctl(RESERVE)],
            },
            without: Side {
                stacks: without,
                call: [address, own_reserve()],
            },
            next: AtomicUsize::new(0),
            world: Arc::clone(world),
        })
    }

    /// Rounds with and without the filter, `requests` or more on each side; how long each took, pair by pair.
    fn pairs(
        self: &Arc<Self>,
        request: Request,
        threads: usize,
        requests: u64,
    ) -> Vec<[Duration; 2]> {
        let rounds = usize::try_from(requests)
            .unwrap_or(usize::MAX)
            .div_ceil(ROUND);
        let pair = |number: usize| {
            // Each side is first in every other pair.
            let first = number % 2;
            let mut times = [Duration::ZERO; 2];
            for side in [first, 1 - first] {
                times[side] = self.round(request, side, threads);
            }
            times
        };
        (0..rounds).map(pair).collect()
    }

    /// One round on all threads: from the first one's start to the last one's end.
    fn round(self: &Arc<Self>, request: Request, side: usize, threads: usize) -> Duration {
        let first = self.next.fetch_add(ROUND, Ordering::Relaxed);
        let gate = Arc::new(Barrier::new(threads));
        let span = Arc::new(Mutex::new(None::<(Instant, Instant)>));
        let job = |thread: usize| {
            let (bed, gate, span) = (Arc::clone(self), Arc::clone(&gate), Arc::clone(&span));
            move || {
                gate.wait();
                let start = Instant::now();
                bed.send(
                    request,
                    side,
                    (first + thread..first + ROUND).step_by(threads),
                );
                let end = Instant::now();
                {
                    let mut span = span.lock().unwrap_or_else(PoisonError::into_inner);
                    let (first, last) = span.unwrap_or((start, end));
                    *span = Some((first.min(start), last.max(end)));
                }
                gate.wait();
            }
        };
        for thread in 1..threads {
            self.world
                .spawn("bench", irql::PASSIVE, Box::new(job(thread)));
        }
        job(0)();
        self.forget(side, first..first + ROUND);
        let span = span.lock().unwrap_or_else(PoisonError::into_inner);
        span.map_or(Duration::ZERO, |(first, last)| last - first)
    }

    fn side(&self, side: usize) -> &Side {
        [&self.with, &self.without][side]
    }

    /// One request after the other, each to the next disk.
    fn send(&self, request: Request, side: usize, numbers: impl Iterator<Item = usize>) {
        let side = self.side(side);
        let call = &side.call[request as usize];
        for number in numbers {
            let stack = &side.stacks[number % side.stacks.len()];
            let end = self.node.call(stack, call);
            assert_eq!(end.status, status::SUCCESS);
        }
    }

    /// Drops what the rig has noted of the round.
    fn forget(&self, side: usize, numbers: std::ops::Range<usize>) {
        let stacks = &self.side(side).stacks;
        for number in numbers {
            let port = &stacks[number % stacks.len()].port;
            port.take_seen();
            port.take_foreign();
            port.take_proven();
        }
        let faults = &self.world.faults;
        let mut faults = faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.allocations.clear();
        faults.calls.clear();
    }
}

fn plug(node: &Node, keys: &DiskKeys) -> Stack {
    let unit = LogicalUnit::new();
    unit.configure(|options| options.quiet = true);
    let disk = Arc::new(unit.connect("iqn.2026-01.example:a"));
    let stack = node.plug(disk, keys).expect("the disk starts");
    // A port that answers at once, on the caller's thread: no time goes into a change of threads.
    stack.port.behave(Shape::Success, Timing::Inline);
    stack
}

/// RESERVE(6) in a caller's own IOCTL_SCSI_PASS_THROUGH.
fn own_reserve() -> Call {
    let length = size_of::<SCSI_PASS_THROUGH>();
    // SAFETY: plain data, for which zero is a value.
    let mut request: SCSI_PASS_THROUGH = unsafe { std::mem::zeroed() };
    request.Length = length as u16;
    request.CdbLength = 6;
    request.SenseInfoLength = SENSE as u8;
    request.DataIn = 2;
    request.TimeOutValue = 60;
    request.SenseInfoOffset = length as u32;
    request.Cdb[0] = 0x16;
    // SAFETY: plain data of that size.
    let bytes = unsafe { std::slice::from_raw_parts((&raw const request).cast::<u8>(), length) };
    let mut input = bytes.to_vec();
    input.resize(length + SENSE, 0);
    Call {
        output_length: input.len() as u32,
        input,
        ..Call::ioctl(IOCTL_SCSI_PASS_THROUGH)
    }
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Times one case; as `target/bench/time.json` has it.
fn time(
    criterion: &mut Criterion,
    bed: &Arc<Bed>,
    request: Request,
    threads: usize,
) -> bench::Time {
    let devices = bed.with.stacks.len();
    let pairs = RefCell::new(Vec::new());
    let name = format!("{}, {threads} threads, {devices} devices", request.name());
    let mut group = criterion.benchmark_group(name);
    for (side, name) in ["with", "without"].into_iter().enumerate() {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|requests| {
                let new = bed.pairs(request, threads, requests);
                let rounds = new.len() as f64;
                let sum: Duration = new.iter().map(|pair| pair[side]).sum();
                pairs.borrow_mut().extend(new);
                // Criterion asks for any number of requests, a round has its own.
                sum.mul_f64(requests as f64 / (rounds * ROUND as f64))
            });
        });
    }
    group.finish();
    let nanoseconds = |time: Duration| time.as_nanos() as f64 / ROUND as f64;
    let pairs = pairs.into_inner();
    let of = |value: &dyn Fn(&[Duration; 2]) -> f64| median(pairs.iter().map(value).collect());
    let (with, without) = (
        of(&|pair| nanoseconds(pair[0])),
        of(&|pair| nanoseconds(pair[1])),
    );
    let ratio = of(&|pair| pair[0].as_secs_f64() / pair[1].as_secs_f64());
    bench::Time {
        case: request.name().into(),
        threads,
        devices,
        with_ns: with.round(),
        without_ns: without.round(),
        ratio: (ratio * 1000.0).round() / 1000.0,
    }
}

fn main() {
    pool::do_without_guards();
    let mut criterion = Criterion::default()
        .configure_from_args()
        .without_plots()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(800));
    let mut times = Vec::new();
    for devices in [1, 100, bench::MANY] {
        let world = World::enter(Schedule::Timed);
        let bed = Bed::new(world.world(), devices);
        for request in Request::ALL {
            for threads in [1, 2, 8] {
                times.push(time(&mut criterion, &bed, request, threads));
            }
        }
    }
    let folder = bench::folder();
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    let text = serde_json::to_string_pretty(&times).expect("plain data");
    std::fs::write(folder.join("time.json"), text + "\n").expect("the file can be written");
}
