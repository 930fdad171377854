//! `cargo xtask faults`: walks all that can go wrong, each case on the built driver. What can be listed is listed, no case is
//! drawn by lot; every case has a number, under which it is repeated.
//!
//! | group | what goes wrong |
//! | --- | --- |
//! | `allocations`, `calls` | each allocation and each framework call that can fail, alone and with all that follow ([`resources`]) |
//! | `statuses`, `sense`, `ntstatus` | what a target or a port can answer, against [`oracle`] ([`answers`]) |
//! | `cancel`, `surprise`, `remove`, `second` | an event at every point of an operation ([`moments`]) |
//! | `presented` | two requests arrive at every point of an operation ([`presented`]) |
//! | `watched` | an event at every point of an SRB that passes, with each level of Watch ([`watched`]) |

pub mod answers;
pub mod moments;
pub mod oracle;
pub mod presented;
pub mod resources;
pub mod watched;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::image::{self, LoadError};
use crate::world::World;

/// After so many cases that don't hold a group is left.
const ENOUGH: usize = 10;

/// Cases of one sort.
pub struct Group {
    /// What `--only` calls it.
    pub name: &'static str,
    /// What its cases are.
    pub about: &'static str,
    walk: fn(&mut Walk<'_>),
}

macro_rules! groups {
    ($($name:literal: $about:literal, $walk:expr;)*) => {
        /// All groups, in the order in which they are walked.
        pub const GROUPS: &[Group] = &[$(Group { name: $name, about: $about, walk: $walk },)*];
    };
}

groups! {
    "allocations": "an allocation fails, or all from one on", resources::allocations;
    "calls": "a framework call fails, or all from one on", resources::calls;
    "statuses": "every SCSI status byte, with any sense key", answers::statuses;
    "sense": "CHECK CONDITION with sense of every key, code and length", answers::sense;
    "ntstatus": "every NTSTATUS, with and without the structure", answers::ntstatus;
    "cancel": "a cancel at every point", |walk| moments::walk(walk, moments::Event::Cancel);
    "surprise": "a surprise removal at every point", |walk| moments::walk(walk, moments::Event::Surprise);
    "remove": "an orderly removal at every point", |walk| moments::walk(walk, moments::Event::Remove);
    "second": "another operation at every point", |walk| moments::walk(walk, moments::Event::Second);
    "presented": "two requests arrive at every point", presented::walk;
    "watched": "an event at every point of an SRB that passes", watched::walk;
}

/// What to walk.
#[derive(Clone, Debug)]
pub struct Options {
    /// The built driver.
    pub image: PathBuf,
    /// A part of each group that takes seconds.
    pub quick: bool,
    /// One group alone.
    pub only: Option<String>,
    /// From this case on.
    pub from: u64,
}

/// What whoever walks is told on the way.
pub enum Report<'a> {
    /// A group begins; so many steps are ahead.
    Begin(&'a Group, u64),
    /// A step was made.
    Step,
    /// A case does not hold.
    Failed(&'a Failure),
    /// A group ends.
    End(&'a Group, &'a Done),
}

/// A case that does not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its group.
    pub group: &'static str,
    /// Its number there.
    pub number: u64,
    /// What was expected and what was found.
    pub found: String,
}

/// The case is named by the options that repeat it.
impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, found) = (name(self.group, self.number), &self.found);
        write!(f, "{name}: {found}")
    }
}

fn name(group: &str, number: u64) -> String {
    format!("--only {group} --from {number}")
}

/// How a group was walked.
#[derive(Clone, Debug)]
pub struct Done {
    /// How many cases were run.
    pub cases: u64,
    /// Those that don't hold.
    pub failures: Vec<Failure>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Walks what `options` ask for, on a thread of its own, which calls `report`.
///
/// # Errors
/// The image can't be read, or there is no such group.
pub fn walk(options: &Options, mut report: impl FnMut(Report<'_>) + Send) -> Result<(), WalkError> {
    let bytes = image::read(&options.image)?;
    let wanted = |group: &&Group| {
        options
            .only
            .as_deref()
            .is_none_or(|only| only == group.name)
    };
    let groups: Vec<_> = GROUPS.iter().filter(wanted).collect();
    if groups.is_empty() {
        return Err(WalkError::NoGroup);
    }
    let all = || {
        stay_on_this_processor();
        for group in groups {
            Walk::new(options, &bytes, group, &mut report).whole();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(all);
    });
    Ok(())
}

/// Keeps this thread, and those that it starts, on one processor: of a world's threads only one runs at a time, and the
/// baton passes twice as fast where nobody has to wake another processor. Walks side by side would be slower: each page
/// of the driver's memory that is taken away then interrupts the other processors.
fn stay_on_this_processor() {
    // SAFETY: no arguments; an error is negative.
    let processor = unsafe { libc::sched_getcpu() };
    // SAFETY: all-zero is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let Ok(processor) = usize::try_from(processor) else {
        return;
    };
    // SAFETY: the set is as large as it is said to be, and a number that it has no room for changes nothing.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // SAFETY: the set is as large as it is said to be; where this fails the walk is only slower.
    unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
}

/// Why nothing was walked.
#[derive(Debug)]
pub enum WalkError {
    /// The image can't be read.
    Load(LoadError),
    /// No group has the name that was given.
    NoGroup,
}

impl std::fmt::Display for WalkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Load(error) => error.fmt(f),
            Self::NoGroup => {
                let names: Vec<_> = GROUPS.iter().map(|group| group.name).collect();
                write!(f, "the groups are {}", names.join(", "))
            }
        }
    }
}

impl std::error::Error for WalkError {}

impl From<LoadError> for WalkError {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

/// One group on its way.
pub struct Walk<'a> {
    options: &'a Options,
    bytes: &'a [u8],
    group: &'static Group,
    cases: u64,
    failures: Vec<Failure>,
    report: &'a mut dyn FnMut(Report<'_>),
}

impl<'a> Walk<'a> {
    fn new(
        options: &'a Options,
        bytes: &'a [u8],
        group: &'static Group,
        report: &'a mut dyn FnMut(Report<'_>),
    ) -> Self {
        Self {
            options,
            bytes,
            group,
            cases: 0,
            failures: Vec::new(),
            report,
        }
    }

    fn whole(mut self) {
        let begun = Instant::now();
        (self.group.walk)(&mut self);
        let done = Done {
            cases: self.cases,
            failures: std::mem::take(&mut self.failures),
            elapsed: begun.elapsed(),
        };
        (self.report)(Report::End(self.group, &done));
    }

    /// So many steps are ahead.
    fn begin(&mut self, steps: u64) {
        (self.report)(Report::Begin(self.group, steps));
    }

    fn step(&mut self) {
        (self.report)(Report::Step);
    }

    /// Whether case `number` is to be run. A quick walk takes one case in `one_in`.
    fn takes(&self, number: u64, one_in: u64) -> bool {
        let from = self.options.from;
        let chosen = !self.options.quick || number == from || number.is_multiple_of(one_in);
        chosen && number >= from && !self.is_enough()
    }

    fn is_enough(&self) -> bool {
        self.failures.len() >= ENOUGH
    }

    /// Names case `number` in `world`, in which it is run next.
    fn note(&self, world: &World, number: u64) {
        use std::fmt::Write as _;
        let mut faults = world.faults();
        faults.allocations.clear();
        faults.calls.clear();
        faults.case.clear();
        let _ = write!(faults.case, "{}", name(self.group.name, number));
    }

    fn judge(&mut self, number: u64, result: Result<(), String>) {
        self.cases += 1;
        let Err(found) = result else { return };
        let failure = Failure {
            group: self.group.name,
            number,
            found,
        };
        (self.report)(Report::Failed(&failure));
        self.failures.push(failure);
    }
}
