//! The seven Reserve6 tests of libiscsi's suite (sahlberg/libiscsi, test-tool/test_reserve6_*.c), played with the driver
//! in the initiators' place, and beside it the suite itself, so that what differs can be told by name.
//!
//! RESERVE and RELEASE go through `resvflt.sys` on two nodes, everything else straight to the target. A step stands for
//! one assertion of the suite. Where a step is looser there, it is not here: the suite takes a RESERVE that met unit
//! attention 29h/00h for done, the driver sends it again; and the suite waits three seconds after a reset or a lost path.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use scsi_reserve::NtStatus;
use serde_json::json;

use crate::demo::{IOCTL_STORAGE_RELEASE, IOCTL_STORAGE_RESERVE};
use crate::disk::logical_unit::LogicalUnit;
use crate::disk::{
    CHECK_CONDITION, Data, Disk, DiskError, GOOD, Outcome, RESERVATION_CONFLICT, Sense,
    TaskManagement, UNIT_ATTENTION, status_name,
};
use crate::fx::{DiskKeys, Pnp};
use crate::io::Call;
use crate::node::{Node, NodeError, Stack};
use crate::port::Seen;
use crate::registry::Hive;
use crate::world::{Schedule, World};
use crate::{image, node};

/// One of the suite's tests.
pub struct Scenario {
    /// Its name there, below `SCSI.Reserve6`.
    pub name: &'static str,
    steps: &'static [Step],
}

impl Scenario {
    /// How many assertions the suite makes if the target refuses no reset.
    pub fn assertions(&self) -> usize {
        self.steps
            .iter()
            .filter(|(_, act)| act.is_asserted())
            .count()
    }
}

type Step = (Who, Act);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    First,
    Second,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// A login that the suite does not assert.
    Login,
    /// The same, asserted.
    Join,
    Logout,
    /// The connection breaks; to Windows it is a surprise removal.
    Loss,
    Reserve,
    /// A RESERVE that meets the other's reservation.
    Conflict,
    Release,
    ModeSense,
    ModeSenseConflict,
    Reset(TaskManagement),
    /// A reset that the target may refuse: then the test is skipped.
    Try(TaskManagement),
}

impl Act {
    const fn is_asserted(self) -> bool {
        !matches!(self, Login | Logout | Loss | Try(_))
    }
}

use Act::{
    Conflict, Join, Login, Logout, Loss, ModeSense, ModeSenseConflict, Release, Reserve, Reset, Try,
};
use TaskManagement::{LogicalUnitReset, TargetColdReset, TargetWarmReset};
use Who::{First, Second};

/// The tests, in the suite's order. Each begins with the first initiator logged in.
#[rustfmt::skip]
pub static SCENARIOS: [Scenario; 7] = [
    Scenario { name: "Simple", steps: &[(First, Reserve), (First, Release)] },
    Scenario { name: "2Initiators", steps: &[
        (First, Reserve), (First, Reserve), (Second, Join), (Second, Conflict), (Second, Release),
        (First, ModeSense), (Second, ModeSenseConflict), (Second, Conflict), (First, Release),
        (Second, Reserve), (Second, Release),
    ] },
    Scenario { name: "Logout", steps: &[
        (First, Reserve), (Second, Join), (Second, Conflict), (First, Logout), (First, Login),
        (Second, Reserve), (Second, Release),
    ] },
    Scenario { name: "ITNexusLoss", steps: &[
        (First, Reserve), (Second, Join), (Second, Conflict), (First, Loss), (First, Login),
        (Second, Reserve), (Second, Release),
    ] },
    // The reset closes the first's connection; libiscsi logs in again by itself.
    Scenario { name: "TargetColdReset", steps: &[
        (First, Reserve), (First, Try(TargetColdReset)), (First, Login), (Second, Join),
        (Second, Reserve), (Second, Release),
    ] },
    Scenario { name: "TargetWarmReset", steps: &[
        (First, Reserve), (First, Try(TargetWarmReset)), (Second, Join),
        (Second, Reserve), (Second, Release),
    ] },
    Scenario { name: "LUNReset", steps: &[
        (First, Reserve), (First, Reset(LogicalUnitReset)), (Second, Login),
        (Second, Reserve), (Second, Release),
    ] },
];

/// What was played on which target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// libiscsi's own `iscsi-test-cu` on tgt.
    Suite,
    /// The driver on tgt.
    Tgt,
    /// The driver on the unit in this process.
    Embedded,
}

impl Side {
    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Suite => "suite on tgt",
            Self::Tgt => "driver on tgt",
            Self::Embedded => "driver on the embedded unit",
        }
    }
}

/// How one scenario went on one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// How many assertions were made.
    pub assertions: usize,
    /// How many of them held.
    pub held: usize,
    /// The target refused the reset that it is about.
    pub skipped: bool,
    /// What did not hold or was skipped; and what the clean-up met, which asserts nothing.
    pub remarks: Vec<String>,
}

/// One side's cells, in the order of [`SCENARIOS`].
pub type Column = (Side, Vec<Cell>);

/// The footnotes: whose doing a difference is, and why.
pub const REASONS: [(&str, &str); 3] = [
    (
        "tgt's",
        "it lets MODE SENSE through a reservation (usr/sbc.c sbc_mode_sense asks no device_reserved); SPC-2 5.5.1 has it \
         conflict",
    ),
    (
        "tgt's",
        "it refuses this reset (usr/iscsi/iscsid.c iscsi_tm_execute), and so the rest is skipped",
    ),
    (
        "the suite's",
        "its clean-up sends PERSISTENT RESERVE IN, READ KEYS, which meets the unit attention of the reset; no assertion",
    ),
];

/// What is expected to differ, as scenario, side, how the remark begins, and footnote: nothing else may, and all must.
#[rustfmt::skip]
pub const EXPLAINED: [(&str, Side, &str, usize); 10] = [
    ("2Initiators", Side::Suite, "[FAILED] MODESENSE6 successful but should have failed", 1),
    ("2Initiators", Side::Tgt, "MODE SENSE(6) by the second: GOOD", 1),
    ("TargetColdReset", Side::Suite, "[SKIPPED] Task Management function", 2),
    ("TargetColdReset", Side::Tgt, "skipped: TargetColdReset is refused", 2),
    ("TargetWarmReset", Side::Suite, "[SKIPPED] Task Management function", 2),
    ("TargetWarmReset", Side::Tgt, "skipped: TargetWarmReset is refused", 2),
    ("TargetWarmReset", Side::Embedded, "READ KEYS by the first: UNIT ATTENTION 29h/02h", 3),
    ("LUNReset", Side::Suite, "[FAILED] PRIN command: failed with sense. SENSE KEY:UNIT_ATTENTION(6)", 3),
    ("LUNReset", Side::Tgt, "READ KEYS by the first: UNIT ATTENTION 29h/00h", 3),
    ("LUNReset", Side::Embedded, "READ KEYS by the first: UNIT ATTENTION 29h/03h", 3),
];

fn footnote(scenario: &Scenario, side: Side, remark: &str) -> Option<usize> {
    let fits = |(name, at, begins, _): &&(&str, Side, &str, usize)| {
        (*name, *at) == (scenario.name, side) && remark.starts_with(begins)
    };
    EXPLAINED.iter().find(fits).map(|explained| explained.3)
}

/// What went wrong apart from a step that did not hold.
pub type Trouble = Box<dyn Error + Send + Sync>;

/// Gives an initiator a nexus to the unit.
type Connect<'a> = &'a dyn Fn(&str) -> Result<Arc<dyn Disk>, DiskError>;

/// Plays all with the driver on a unit in this process.
///
/// # Errors
/// The driver did not load.
pub fn on_the_embedded_unit(file: &Path) -> Result<Column, Trouble> {
    let play = |scenario| {
        let unit = LogicalUnit::new();
        play(file, scenario, &|name| Ok(Arc::new(unit.connect(name))))
    };
    let cells = SCENARIOS.iter().map(play).collect::<Result<_, _>>()?;
    Ok((Side::Embedded, cells))
}

/// Plays all with the driver on tgt.
///
/// # Errors
/// The driver did not load, or tgt is not there.
#[cfg(feature = "iscsi")]
pub fn on_tgt(file: &Path) -> Result<Column, Trouble> {
    use crate::disk::{SenseFormat, tgt::Target};
    let target = Target::start(SenseFormat::Fixed)?;
    let play = |scenario| play(file, scenario, &|name| Ok(Arc::new(target.connect(name)?)));
    let cells = SCENARIOS.iter().map(play).collect::<Result<_, _>>()?;
    Ok((Side::Tgt, cells))
}

/// Runs the suite's own tests, each on a tgt of its own and all at once: two of them sleep.
///
/// # Errors
/// tgt or the suite is not there, or the suite says what this does not understand.
#[cfg(feature = "iscsi")]
pub fn suite_on_tgt() -> Result<Column, Trouble> {
    use std::thread;
    let cells = thread::scope(|scope| {
        let runs = SCENARIOS
            .each_ref()
            .map(|scenario| scope.spawn(|| run_suite(scenario.name)));
        let done = runs.map(|run| run.join().unwrap_or_else(|_| Err("a panic".into())));
        done.into_iter().collect::<Result<_, _>>()
    })?;
    Ok((Side::Suite, cells))
}

#[cfg(feature = "iscsi")]
fn run_suite(test: &str) -> Result<Cell, Trouble> {
    use crate::disk::{SenseFormat, tgt::Target};
    use std::process::Command;
    let target = Target::start(SenseFormat::Fixed)?;
    let run = Command::new("timeout")
        .args(["60", "iscsi-test-cu", "--normal", "--test"])
        .arg(format!("SCSI.Reserve6.{test}"))
        .arg(target.url())
        .output()?;
    let said = String::from_utf8_lossy(&run.stdout);
    read_suite(&said).ok_or_else(|| {
        let errors = String::from_utf8_lossy(&run.stderr);
        format!(
            "iscsi-test-cu (apt-get install libiscsi-bin) ended with {}: {said}{errors}",
            run.status
        )
        .into()
    })
}

/// Reads the suite's report: its marked lines, and CUnit's `asserts  total  ran  passed  failed` in the summary.
#[cfg(any(feature = "iscsi", test))]
fn read_suite(said: &str) -> Option<Cell> {
    let counts = said.lines().find_map(|line| {
        let counts = line.trim_start().strip_prefix("asserts ")?;
        Some(counts.split_whitespace().map_while(|n| n.parse().ok()))
    });
    let counts: Vec<usize> = counts?.collect();
    let marked = said.lines().map(str::trim).filter(|l| l.starts_with('['));
    Some(Cell {
        assertions: *counts.get(1)?,
        held: *counts.get(2)?,
        skipped: said.contains("[SKIPPED]"),
        remarks: marked.map(Into::into).collect(),
    })
}

/// Plays one scenario on two nodes.
fn play(file: &Path, scenario: &Scenario, connect: Connect<'_>) -> Result<Cell, Trouble> {
    let world = World::enter(Schedule::Orderly);
    let bytes = image::read(file).map_err(NodeError::Load)?;
    let initiator = |name| {
        let node = Node::load_bytes(world.world(), name, file, &bytes, Hive::default())?;
        Ok::<_, NodeError>(Initiator {
            name,
            node,
            path: None,
        })
    };
    let mut initiators = [initiator("first")?, initiator("second")?];
    initiators[First as usize].login(connect)?;
    let mut cell = Cell {
        assertions: 0,
        held: 0,
        skipped: false,
        remarks: Vec::new(),
    };
    for (who, act) in scenario.steps {
        let asserted = usize::from(act.is_asserted());
        let initiator = &mut initiators[*who as usize];
        cell.assertions += asserted;
        match initiator.perform(*act, connect)? {
            None => cell.held += asserted,
            Some(remark) if asserted == 1 => {
                let name = initiator.name;
                cell.remarks
                    .push(remark.replacen(':', &format!(" by the {name}:"), 1));
            }
            // A skipped test counts as one assertion that held.
            Some(remark) => {
                cell.assertions += 1;
                cell.held += 1;
                cell.skipped = true;
                cell.remarks.push(remark);
                break;
            }
        }
    }
    cell.remarks.extend(initiators[First as usize].read_keys()?);
    for mut initiator in initiators {
        initiator.logout();
        initiator.node.unload();
    }
    Ok(cell)
}

/// A node and its nexus.
struct Initiator {
    name: &'static str,
    node: Node,
    path: Option<(Arc<dyn Disk>, Stack)>,
}

const TIMEOUT: Duration = Duration::from_secs(10);
const TEST_UNIT_READY: [u8; 6] = [0; 6];
/// All mode pages, as the suite asks for them.
const MODE_SENSE: [u8; 6] = [0x1A, 0, 0x3F, 0, 255, 0];
/// PERSISTENT RESERVE IN, READ KEYS.
const READ_KEYS: [u8; 10] = [0x5E, 0, 0, 0, 0, 0, 0, 0x40, 0, 0];

impl Initiator {
    /// Does one step; gives what did not hold.
    fn perform(&mut self, act: Act, connect: Connect<'_>) -> Result<Option<String>, Trouble> {
        let conflict = (RESERVATION_CONFLICT, NtStatus::DEVICE_BUSY);
        let good = (GOOD, NtStatus::SUCCESS);
        match act {
            Login | Join => self.login(connect)?,
            Logout => self.logout(),
            Loss => self.lose(),
            Reserve => return self.control(IOCTL_STORAGE_RESERVE, good),
            Conflict => return self.control(IOCTL_STORAGE_RESERVE, conflict),
            Release => return self.control(IOCTL_STORAGE_RELEASE, good),
            ModeSense => return self.mode_sense(GOOD),
            ModeSenseConflict => return self.mode_sense(RESERVATION_CONFLICT),
            Reset(function) | Try(function) => match self.path()?.0.manage(function) {
                Ok(()) => {}
                Err(DiskError::NotSupported) => {
                    return Ok(Some(format!("skipped: {function:?} is refused")));
                }
                Err(error) => return Err(error.into()),
            },
        }
        Ok(None)
    }

    fn path(&self) -> Result<&(Arc<dyn Disk>, Stack), DiskError> {
        self.path.as_ref().ok_or(DiskError::Gone)
    }

    /// Logs in as libiscsi does: TEST UNIT READY until no unit attention is left. Then the disk arrives on the node.
    fn login(&mut self, connect: Connect<'_>) -> Result<(), Trouble> {
        self.logout();
        let disk = connect(&format!("iqn.2001-04.com.example:{}", self.name))?;
        while disk
            .execute(&TEST_UNIT_READY, TIMEOUT)
            .sense()
            .is_some_and(|sense| sense.key == UNIT_ATTENTION)
        {}
        let stack = self.node.plug(Arc::clone(&disk), &DiskKeys::default());
        self.path = Some((disk, stack.map_err(node::NodeError::Entry)?));
        Ok(())
    }

    /// The disk leaves in an orderly way; with its last owner the nexus ends in a logout.
    fn logout(&mut self) {
        if let Some((_, stack)) = self.path.take() {
            self.node.unplug(stack);
        }
    }

    fn lose(&mut self) {
        if let Some((disk, stack)) = self.path.take() {
            disk.lose();
            self.node.pnp(&stack, Pnp::SurpriseRemoval);
            self.node.pnp(&stack, Pnp::Remove);
        }
    }

    /// A RESERVE or RELEASE through the driver: what the target's last answer was, and the caller's status.
    fn control(&self, code: u32, expected: (u8, NtStatus)) -> Result<Option<String>, Trouble> {
        let (_, stack) = self.path()?;
        let end = self.node.call(stack, &Call::ioctl(code));
        let seen = stack.port.take_seen();
        let last = seen.last().and_then(Seen::scsi_status);
        let (name, operation_code) = match code {
            IOCTL_STORAGE_RESERVE => ("RESERVE(6)", 0x16),
            _ => ("RELEASE(6)", 0x17),
        };
        let right = (last, NtStatus(end.status)) == (Some(expected.0), expected.1)
            && end.information == 0
            && seen.iter().all(|seen| seen.cdb[0] == operation_code);
        Ok((!right).then(|| format!("{name}: {end:?} after {seen:?}")))
    }

    fn mode_sense(&self, expected: u8) -> Result<Option<String>, Trouble> {
        let outcome = self.path()?.0.transfer(&MODE_SENSE, Data::In(255), TIMEOUT);
        let right = outcome.status() == Some(expected);
        Ok((!right).then(|| format!("MODE SENSE(6): {}", describe(&outcome))))
    }

    /// The suite's clean-up: no key should be left.
    fn read_keys(&self) -> Result<Option<String>, Trouble> {
        let outcome = self
            .path()?
            .0
            .transfer(&READ_KEYS, Data::In(0x4000), TIMEOUT);
        // The length of the list of keys: SPC-2 7.12.3.
        let none = matches!(&outcome, Outcome::Status { status: GOOD, data, .. }
            if data.get(4..8) == Some(&[0; 4]));
        Ok((!none).then(|| format!("READ KEYS by the first: {}", describe(&outcome))))
    }
}

fn describe(outcome: &Outcome) -> String {
    match (outcome.status(), outcome.sense()) {
        (Some(CHECK_CONDITION), Some(sense @ Sense { asc, ascq, .. })) => {
            format!("{} {asc:02X}h/{ascq:02X}h", sense.key_name())
        }
        (Some(status), _) => status_name(status).unwrap_or("?").into(),
        (None, _) => format!("{outcome:?}"),
    }
}

fn cells(columns: &[Column]) -> impl Iterator<Item = (&'static Scenario, Side, &Cell)> {
    columns.iter().flat_map(|(side, cells)| {
        let cells = SCENARIOS.iter().zip(cells);
        cells.map(|(scenario, cell)| (scenario, *side, cell))
    })
}

/// What is not as [`EXPLAINED`] and the suite's own count of assertions have it.
pub fn unexplained(columns: &[Column]) -> Vec<String> {
    let mut faults = Vec::new();
    for (scenario, side, cell) in cells(columns) {
        let at = format!("{}, {}", scenario.name, side.name());
        let new = |remark: &&String| footnote(scenario, side, remark).is_none();
        faults.extend(
            cell.remarks
                .iter()
                .filter(new)
                .map(|new| format!("{at}: {new}")),
        );
        let told = cell.assertions - cell.held <= cell.remarks.len();
        if !told || !cell.skipped && cell.assertions != scenario.assertions() {
            faults.push(format!("{at}: {} of {} held", cell.held, cell.assertions));
        }
        for (name, at_side, begins, _) in EXPLAINED {
            let fits = |remark: &String| remark.starts_with(begins);
            if (name, at_side) == (scenario.name, side) && !cell.remarks.iter().any(fits) {
                faults.push(format!("{at}: differs no longer by {begins}"));
            }
        }
    }
    faults
}

/// The columns side by side, and the footnotes below.
pub fn table(columns: &[Column]) -> String {
    let row = |first: &str, entries: Vec<String>| {
        let entries = [vec![first.into()], entries].concat();
        let padded = entries.iter().map(|entry: &String| format!("{entry:<17}"));
        padded.collect::<Vec<_>>().concat().trim_end().to_owned()
    };
    let mut lines = vec![row(
        "",
        columns.iter().map(|(side, _)| side.name().into()).collect(),
    )];
    for scenario in &SCENARIOS {
        let entry = |(_, side, cell): (&Scenario, Side, &Cell)| {
            let numbers = cell.remarks.iter().map(|remark| {
                let number = footnote(scenario, side, remark);
                number.map_or(" (?)".into(), |number| format!(" ({number})"))
            });
            let numbers: String = numbers.collect();
            if cell.skipped {
                return format!("skipped{numbers}");
            }
            format!("{} of {}{numbers}", cell.held, cell.assertions)
        };
        let here = cells(columns).filter(|(at, _, _)| at.name == scenario.name);
        lines.push(row(scenario.name, here.map(entry).collect()));
    }
    lines.push(String::new());
    let notes = (1..).zip(REASONS);
    lines.extend(notes.map(|(number, (whose, why))| format!("({number}) {whose}: {why}")));
    lines.join("\n") + "\n"
}

/// The columns as JSON lines, one for each cell.
pub fn json(columns: &[Column]) -> String {
    let line = |(scenario, side, cell): (&Scenario, Side, &Cell)| {
        let remarks = cell.remarks.iter().map(|remark| {
            let (whose, why) = footnote(scenario, side, remark)
                .map(|n| REASONS[n - 1])
                .unzip();
            json!({ "remark": remark, "whose": whose, "why": why })
        });
        let line = json!({
            "scenario": scenario.name,
            "side": side.name(),
            "assertions": cell.assertions,
            "held": cell.held,
            "skipped": cell.skipped,
            "remarks": remarks.collect::<Vec<_>>(),
        });
        line.to_string() + "\n"
    };
    cells(columns).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_the_suite_is_read() {
        let said = "\n    [FAILED] MODESENSE6 successful\n\nRun Summary:    Type  Total    Ran Passed Failed Inactive\n\
            \x20             asserts     31     31     30      1      n/a\n";
        let cell = Cell {
            assertions: 31,
            held: 30,
            skipped: false,
            remarks: vec!["[FAILED] MODESENSE6 successful".into()],
        };
        assert_eq!(read_suite(said), Some(cell));
        assert_eq!(read_suite("Failed to connect to SCSI device 0\n"), None);
    }

    #[test]
    fn a_remark_without_explanation_and_an_explanation_without_remark_are_faults() {
        let cell = |scenario: &Scenario| Cell {
            assertions: scenario.assertions(),
            held: scenario.assertions(),
            skipped: false,
            remarks: Vec::new(),
        };
        let mut column = (
            Side::Embedded,
            SCENARIOS.iter().map(cell).collect::<Vec<_>>(),
        );
        column.1[0]
            .remarks
            .push("RESERVE(6) by the first: …".into());
        assert_eq!(
            unexplained(&[column]),
            [
                "Simple, driver on the embedded unit: RESERVE(6) by the first: …",
                "TargetWarmReset, driver on the embedded unit: differs no longer by READ KEYS by the first: UNIT ATTENTION 29h/02h",
                "LUNReset, driver on the embedded unit: differs no longer by READ KEYS by the first: UNIT ATTENTION 29h/03h",
            ]
        );
    }
}
