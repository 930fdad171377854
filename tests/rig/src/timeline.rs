//! Shows what two nodes did to one logical unit and what came of it: a ladder diagram for a
//! terminal, and JSON lines for programs.
//!
//! The diagram has a column for each node and the unit between them, with the letter of its holder
//! from the answer that made it so. Who holds it is read off the answers alone.

use std::{
    env,
    io::{self, IsTerminal, Stdout, Write},
    time::Duration,
};

use scsi_reserve::NtStatus;
use serde::Serialize;

use crate::disk::{CHECK_CONDITION, GOOD, Outcome, RESERVATION_CONFLICT, Sense, status_name};

/// One request to a node's driver, from its arrival to its completion.
#[derive(Clone, Debug)]
pub struct Step {
    /// The node's letter: A has the left column, every other the right one.
    pub node: char,
    /// What the node did, in a word or two.
    pub op: String,
    /// The I/O control code.
    pub ioctl: u32,
    /// The commands that the port got for it, in order.
    pub sends: Vec<Send>,
    /// How the request was completed.
    pub ntstatus: i32,
    /// Information of the completed request.
    pub information: u64,
    /// From arrival to completion.
    pub elapsed: Duration,
    /// How it should have ended.
    pub expected: Expectation,
}

/// One command that the port got, and what the disk answered.
#[derive(Clone, Debug)]
pub struct Send {
    /// The command.
    pub cdb: Vec<u8>,
    /// Its answer.
    pub outcome: Outcome,
}

/// How a request should end, and by which rule.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// The SCSI status of the last command; `None` if none is answered.
    pub scsi_status: Option<u8>,
    /// How the request is completed.
    pub ntstatus: i32,
    /// Information of the completed request.
    pub information: u64,
    /// The rule, with its place: "SPC-2 5.5.1: …".
    pub rule: String,
}

/// A step as programs read it.
#[derive(Serialize)]
struct Record<'a> {
    node: char,
    op: &'a str,
    ioctl: String,
    /// The last command.
    cdb: String,
    scsi_status: Option<u8>,
    ntstatus: String,
    information: u64,
}

impl Step {
    /// Whether it ended as expected.
    #[must_use]
    pub fn as_expected(&self) -> bool {
        self.scsi_status() == self.expected.scsi_status
            && self.ntstatus == self.expected.ntstatus
            && self.information == self.expected.information
    }

    /// The step as one line of JSON, without its newline.
    #[must_use]
    pub fn json(&self) -> String {
        let cdb = self.sends.last().map_or(&[][..], |send| &send.cdb);
        let record = Record {
            node: self.node,
            op: &self.op,
            ioctl: format!("{:#010x}", self.ioctl),
            cdb: hex(cdb, ""),
            scsi_status: self.scsi_status(),
            ntstatus: format!("{:#010x}", self.ntstatus),
            information: self.information,
        };
        serde_json::to_string(&record).unwrap_or_default()
    }

    fn scsi_status(&self) -> Option<u8> {
        self.sends.last()?.outcome.status()
    }

    /// What stands in the node's column. `holder` is the unit's before the step, and after it.
    fn lines(&self, holder: &mut Option<char>) -> Vec<Line> {
        let op = format!("{}: {}", self.node, self.op);
        let mut lines = vec![Line::text(Paint::Strong, op, *holder)];
        let code = format!("{:#010x}", self.ioctl);
        let code = ioctl_name(self.ioctl).map_or(code.clone(), |name| format!("{name} {code}"));
        lines.push(Line::text(Paint::Faint, code, *holder));
        for send in &self.sends {
            lines.push(Line::arrow(
                Paint::Plain,
                hex(&send.cdb, " "),
                Arrow::ToUnit,
                *holder,
            ));
            self.change(holder, send);
            let (paint, answer, arrow) = match &send.outcome {
                Outcome::Status { status, .. } => {
                    (status_paint(*status), status_text(*status), Arrow::FromUnit)
                }
                Outcome::TimedOut => (Paint::Bad, "no answer in time".into(), Arrow::Lost),
                Outcome::Gone => (Paint::Bad, "device gone".into(), Arrow::Lost),
            };
            lines.push(Line::arrow(paint, answer, arrow, *holder));
            if let Some(sense) = send.outcome.sense() {
                lines.extend(Line::wrapped(Paint::Faint, "", &sense_text(sense), *holder));
            }
        }
        let paint = if self.ntstatus >= 0 {
            Paint::Good
        } else {
            Paint::Notable
        };
        lines.push(Line::text(paint, ntstatus_text(self.ntstatus), *holder));
        let end = format!(
            "Information {}, {}",
            self.information,
            elapsed_text(self.elapsed)
        );
        lines.push(Line::text(Paint::Faint, end, *holder));
        lines.extend(self.verdict(*holder));
        lines
    }

    fn verdict(&self, holder: Option<char>) -> Vec<Line> {
        if self.as_expected() {
            return Line::wrapped(Paint::Good, "✓ ", &self.expected.rule, holder);
        }
        let Expectation {
            scsi_status,
            ntstatus,
            information,
            rule,
        } = &self.expected;
        let status = scsi_status.map_or("no SCSI status".to_owned(), status_text);
        let expected = format!(
            "expected {status}, {}, Information {information}. {rule}",
            ntstatus_text(*ntstatus),
        );
        Line::wrapped(Paint::Bad, "✗ ", &expected, holder)
    }

    fn change(&self, holder: &mut Option<char>, send: &Send) {
        match (send.cdb.first(), send.outcome.status()) {
            (Some(0x16 | 0x56), Some(GOOD)) => *holder = Some(self.node),
            (Some(0x17 | 0x57), Some(GOOD)) if *holder == Some(self.node) => *holder = None,
            _ => {}
        }
    }
}

/// Prints steps as they come.
pub struct Timeline<W> {
    out: W,
    colour: bool,
    holder: Option<char>,
    steps: usize,
    unexpected: Vec<usize>,
}

impl Timeline<Stdout> {
    /// On the standard output; in colour if that is a terminal, and `NO_COLOR` (no-color.org) does
    /// not object.
    #[must_use]
    pub fn stdout() -> Self {
        let out = io::stdout();
        let objection = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = out.is_terminal() && !objection;
        Self::new(out, colour)
    }
}

/// Of a node's column, without its step numbers.
const TEXT: usize = 42;
const NUMBER: usize = 3;
const COLUMN: usize = NUMBER + TEXT;
/// Of the unit, between the columns.
const UNIT: usize = 6;

impl<W: Write> Timeline<W> {
    /// On any output.
    pub fn new(out: W, colour: bool) -> Self {
        Self {
            out,
            colour,
            holder: None,
            steps: 0,
            unexpected: Vec::new(),
        }
    }

    /// The title and the columns' heads.
    ///
    /// # Errors
    /// The output's.
    pub fn head(&mut self, title: &str) -> io::Result<()> {
        let title = self.paint(Paint::Strong, title);
        writeln!(self.out, "\n{title}\n")?;
        let heads = format!(
            "{:NUMBER$}{:TEXT$}┌{:─^UNIT$}┐{:NUMBER$}node B",
            "", "node A", " unit ", ""
        );
        let heads = self.paint(Paint::Strong, &heads);
        writeln!(self.out, "{heads}")
    }

    /// One step, in its node's column.
    ///
    /// # Errors
    /// The output's.
    pub fn step(&mut self, step: &Step) -> io::Result<()> {
        self.steps += 1;
        if !step.as_expected() {
            self.unexpected.push(self.steps);
        }
        let mut holder = self.holder;
        let lines = step.lines(&mut holder);
        self.blank()?;
        for (index, line) in lines.iter().enumerate() {
            let number = if index == 0 {
                self.steps.to_string()
            } else {
                String::new()
            };
            self.line(step.node, &number, line)?;
        }
        self.holder = holder;
        Ok(())
    }

    /// Something that was no request to a driver, such as a reset, after which `holder` has the unit.
    ///
    /// # Errors
    /// The output's.
    pub fn event(&mut self, node: char, text: &str, holder: Option<char>) -> io::Result<()> {
        self.blank()?;
        self.line(
            node,
            "",
            &Line::arrow(Paint::Strong, text.to_owned(), Arrow::ToUnit, self.holder),
        )?;
        self.holder = holder;
        Ok(())
    }

    /// The last line. Whether every step ended as expected.
    ///
    /// # Errors
    /// The output's.
    pub fn finish(mut self) -> io::Result<bool> {
        self.blank()?;
        let foot = format!("{:COLUMN$}└{:─<UNIT$}┘", "", "");
        let foot = self.paint(Paint::Faint, &foot);
        writeln!(self.out, "{foot}")?;
        let (steps, wrong) = (self.steps, self.unexpected.len());
        let (paint, summary) = if wrong == 0 {
            (
                Paint::Good,
                format!("✓ all {steps} steps ended as they should"),
            )
        } else {
            let numbers: Vec<_> = self.unexpected.iter().map(usize::to_string).collect();
            let numbers = numbers.join(", ");
            (
                Paint::Bad,
                format!("✗ {wrong} of {steps} steps did not end as they should: {numbers}"),
            )
        };
        let summary = self.paint(paint, &summary);
        writeln!(self.out, "{summary}\n")?;
        Ok(wrong == 0)
    }

    fn blank(&mut self) -> io::Result<()> {
        self.line('A', "", &Line::text(Paint::Plain, "", self.holder))
    }

    fn line(&mut self, node: char, number: &str, line: &Line) -> io::Result<()> {
        let edge = self.paint(Paint::Faint, "│");
        let held = line
            .holder
            .map(|holder| (Paint::of_node(holder), format!("{holder:^UNIT$}")));
        let (paint, held) = held.unwrap_or((Paint::Plain, " ".repeat(UNIT)));
        let unit = format!("{edge}{}{edge}", self.paint(paint, &held));
        let text = self.paint(line.paint, &line.text);
        let room = TEXT.saturating_sub(width(&line.text));
        let row = if node == 'A' {
            let tail = line.arrow.leftward(room);
            let tail = if line.arrow == Arrow::None {
                tail
            } else {
                self.paint(Paint::Faint, &tail)
            };
            format!("{number:>2} {text}{tail}{unit}")
        } else {
            // The arrow stands where the number would.
            let lead = match line.arrow {
                Arrow::None => format!("{number:>2} "),
                arrow => self.paint(Paint::Faint, arrow.rightward()),
            };
            format!("{:COLUMN$}{unit}{lead}{text}", "")
        };
        writeln!(self.out, "{}", row.trim_end())
    }

    fn paint(&self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Plain => "",
            Paint::Strong => "1",
            Paint::Faint => "2",
            Paint::Good => "32",
            Paint::Notable => "33",
            Paint::Bad => "1;31",
            Paint::NodeA => "1;30;46",
            Paint::NodeB => "1;30;45",
        };
        if self.colour && !code.is_empty() && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

#[derive(Clone, Copy)]
enum Paint {
    Plain,
    Strong,
    Faint,
    Good,
    Notable,
    Bad,
    NodeA,
    NodeB,
}

impl Paint {
    const fn of_node(node: char) -> Self {
        if node == 'A' {
            Self::NodeA
        } else {
            Self::NodeB
        }
    }
}

/// What joins a line of a node's column to the unit.
#[derive(Clone, Copy, PartialEq)]
enum Arrow {
    None,
    ToUnit,
    FromUnit,
    Lost,
}

impl Arrow {
    /// From the end of a line in the left column, over `room` characters.
    fn leftward(self, room: usize) -> String {
        let dashes = |dash: &str, ends: usize| dash.repeat(room.saturating_sub(ends));
        match self {
            Self::None => " ".repeat(room),
            Self::ToUnit => format!(" {}▶", dashes("─", 2)),
            Self::FromUnit => format!(" ◀{}", dashes("─", 2)),
            Self::Lost => format!(" {}", dashes("┄", 1)),
        }
    }

    /// Before a line in the right column.
    const fn rightward(self) -> &'static str {
        match self {
            Self::None => "   ",
            Self::ToUnit => "◀─ ",
            Self::FromUnit => "─▶ ",
            Self::Lost => "┄┄ ",
        }
    }
}

/// One line of a node's column, less than [`TEXT`] wide, and the unit's holder beside it.
struct Line {
    paint: Paint,
    text: String,
    arrow: Arrow,
    holder: Option<char>,
}

impl Line {
    fn text(paint: Paint, text: impl Into<String>, holder: Option<char>) -> Self {
        Self {
            paint,
            text: text.into(),
            arrow: Arrow::None,
            holder,
        }
    }

    fn arrow(paint: Paint, text: String, arrow: Arrow, holder: Option<char>) -> Self {
        Self {
            paint,
            text,
            arrow,
            holder,
        }
    }

    /// Text broken between words; `mark` stands before its first line.
    fn wrapped(paint: Paint, mark: &str, text: &str, holder: Option<char>) -> Vec<Self> {
        let indent = " ".repeat(width(mark));
        let mut lines = vec![mark.to_owned()];
        for word in text.split_whitespace() {
            let line = lines.last_mut().expect("there is a first line");
            let begins = width(line) == indent.len();
            if begins {
                line.push_str(word);
            } else if width(line) + 1 + width(word) < TEXT {
                line.push(' ');
                line.push_str(word);
            } else {
                lines.push(format!("{indent}{word}"));
            }
        }
        lines
            .into_iter()
            .map(|line| Self::text(paint, line, holder))
            .collect()
    }
}

/// In characters: everything printed here is one column wide.
fn width(text: &str) -> usize {
    text.chars().count()
}

pub(crate) fn hex(bytes: &[u8], separator: &str) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(separator)
}

const fn status_paint(status: u8) -> Paint {
    match status {
        GOOD => Paint::Good,
        CHECK_CONDITION | RESERVATION_CONFLICT => Paint::Notable,
        _ => Paint::Bad,
    }
}

/// The codes that reserve and release, in the spellings of `ntddstor.h`, `ntdddisk.h`, `ntddcdrm.h`
/// and `ntddtape.h`.
const fn ioctl_name(code: u32) -> Option<&'static str> {
    Some(match code {
        0x002D_4810 => "IOCTL_STORAGE_RESERVE",
        0x002D_4814 => "IOCTL_STORAGE_RELEASE",
        0x0007_4810 => "IOCTL_DISK_RESERVE",
        0x0007_4814 => "IOCTL_DISK_RELEASE",
        0x0002_4810 => "IOCTL_CDROM_RESERVE",
        0x0002_4814 => "IOCTL_CDROM_RELEASE",
        0x001F_4810 => "IOCTL_TAPE_RESERVE",
        0x001F_4814 => "IOCTL_TAPE_RELEASE",
        0x0004_1018 => "IOCTL_SCSI_GET_ADDRESS",
        _ => return None,
    })
}

fn status_text(status: u8) -> String {
    format!(
        "{} {status:02X}h",
        status_name(status).unwrap_or("SCSI status")
    )
}

fn ntstatus_text(status: i32) -> String {
    format!(
        "{} {status:#010x}",
        NtStatus(status).name().unwrap_or("NTSTATUS")
    )
}

fn sense_text(sense: Sense) -> String {
    let Sense { asc, ascq, .. } = sense;
    let meaning = match (asc, ascq) {
        (0x04, 0x01) => "becoming ready",
        (0x20, 0x00) => "invalid operation code",
        (0x24, 0x00) => "invalid field in CDB",
        (0x25, 0x00) => "logical unit not supported",
        (0x29, 0x00) => "power on or reset",
        (0x29, 0x01) => "power on",
        (0x29, 0x02) => "bus reset",
        (0x29, 0x03) => "unit reset",
        (0x29, 0x07) => "I_T nexus loss",
        (0x2A, 0x01) => "mode parameters changed",
        (0x2A, 0x09) => "capacity changed",
        (0x3A, _) => "no medium",
        _ => "",
    };
    format!("{} {asc:02X}h/{ascq:02X}h {meaning}", sense.key_name())
}

fn elapsed_text(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    match elapsed.as_micros() {
        0..1_000 => format!("{} µs", elapsed.as_micros()),
        1_000..1_000_000 => format!("{:.1} ms", seconds * 1e3),
        _ => format!("{seconds:.2} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{SenseFormat, UNIT_ATTENTION};

    const RESERVE: [u8; 6] = [0x16, 0, 0, 0, 0, 0];
    const RELEASE: [u8; 6] = [0x17, 0, 0, 0, 0, 0];

    fn status(cdb: &[u8], status: u8) -> Send {
        let outcome = Outcome::Status {
            status,
            sense: Vec::new(),
            data: Vec::new(),
        };
        Send {
            cdb: cdb.to_vec(),
            outcome,
        }
    }

    fn attention(cdb: &[u8]) -> Send {
        let sense = Sense::new(UNIT_ATTENTION, 0x29, 0x00).encode(SenseFormat::Fixed);
        let outcome = Outcome::Status {
            status: CHECK_CONDITION,
            sense,
            data: Vec::new(),
        };
        Send {
            cdb: cdb.to_vec(),
            outcome,
        }
    }

    fn step(node: char, op: &str, ioctl: u32, sends: Vec<Send>, end: NtStatus, rule: &str) -> Step {
        let expected = Expectation {
            scsi_status: sends.last().and_then(|send| send.outcome.status()),
            ntstatus: end.0,
            information: 0,
            rule: rule.to_owned(),
        };
        let elapsed = Duration::from_micros(1234);
        let op = op.to_owned();
        Step {
            node,
            op,
            ioctl,
            sends,
            ntstatus: end.0,
            information: 0,
            elapsed,
            expected,
        }
    }

    fn story() -> Vec<Step> {
        let mut wrong = step(
            'B',
            "reserve",
            0x0007_4810,
            vec![status(
                &[0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                RESERVATION_CONFLICT,
            )],
            NtStatus::SUCCESS,
            "SPC-2 5.5.1: A still holds the unit",
        );
        wrong.expected.ntstatus = NtStatus::DEVICE_BUSY.0;
        let timed_out = Send {
            cdb: RELEASE.to_vec(),
            outcome: Outcome::TimedOut,
        };
        vec![
            step(
                'A',
                "reserve",
                0x002D_4810,
                vec![attention(&RESERVE), status(&RESERVE, GOOD)],
                NtStatus::SUCCESS,
                "SPC-2 7.22: the unit is free and becomes A's",
            ),
            step(
                'B',
                "reserve",
                0x002D_4810,
                vec![status(&RESERVE, RESERVATION_CONFLICT)],
                NtStatus::DEVICE_BUSY,
                "SPC-2 5.5.1: another initiator's RESERVE conflicts",
            ),
            wrong,
            step(
                'A',
                "release",
                0x002D_4814,
                vec![status(&RELEASE, GOOD)],
                NtStatus::SUCCESS,
                "SPC-2 7.17: its holder releases it",
            ),
            step(
                'B',
                "release",
                0x002D_4814,
                vec![timed_out],
                NtStatus::IO_TIMEOUT,
                "no answer, no proof",
            ),
            step(
                'A',
                "state",
                0x8000_6000,
                vec![],
                NtStatus(0x1234),
                "nothing is sent",
            ),
        ]
    }

    fn printed(colour: bool) -> (String, bool) {
        let mut out = Vec::new();
        let mut timeline = Timeline::new(&mut out, colour);
        timeline
            .head("Two nodes, one logical unit")
            .expect("memory");
        for step in story() {
            timeline.step(&step).expect("memory");
        }
        timeline
            .event('B', "LOGICAL UNIT RESET", None)
            .expect("memory");
        let as_expected = timeline.finish().expect("memory");
        (String::from_utf8(out).expect("UTF-8"), as_expected)
    }

    const DIAGRAM: &str = "
Two nodes, one logical unit

   node A                                    ┌ unit ┐   node B
                                             │      │
 1 A: reserve                                │      │
   IOCTL_STORAGE_RESERVE 0x002d4810          │      │
   16 00 00 00 00 00 ───────────────────────▶│      │
   CHECK CONDITION 02h ◀─────────────────────│      │
   UNIT ATTENTION 29h/00h power on or reset  │      │
   16 00 00 00 00 00 ───────────────────────▶│      │
   GOOD 00h ◀────────────────────────────────│  A   │
   STATUS_SUCCESS 0x00000000                 │  A   │
   Information 0, 1.2 ms                     │  A   │
   ✓ SPC-2 7.22: the unit is free and        │  A   │
     becomes A's                             │  A   │
                                             │  A   │
                                             │  A   │ 2 B: reserve
                                             │  A   │   IOCTL_STORAGE_RESERVE 0x002d4810
                                             │  A   │◀─ 16 00 00 00 00 00
                                             │  A   │─▶ RESERVATION CONFLICT 18h
                                             │  A   │   STATUS_DEVICE_BUSY 0x80000011
                                             │  A   │   Information 0, 1.2 ms
                                             │  A   │   ✓ SPC-2 5.5.1: another initiator's
                                             │  A   │     RESERVE conflicts
                                             │  A   │
                                             │  A   │ 3 B: reserve
                                             │  A   │   IOCTL_DISK_RESERVE 0x00074810
                                             │  A   │◀─ 56 00 00 00 00 00 00 00 00 00
                                             │  A   │─▶ RESERVATION CONFLICT 18h
                                             │  A   │   STATUS_SUCCESS 0x00000000
                                             │  A   │   Information 0, 1.2 ms
                                             │  A   │   ✗ expected RESERVATION CONFLICT 18h,
                                             │  A   │     STATUS_DEVICE_BUSY 0x80000011,
                                             │  A   │     Information 0. SPC-2 5.5.1: A still
                                             │  A   │     holds the unit
                                             │  A   │
 4 A: release                                │  A   │
   IOCTL_STORAGE_RELEASE 0x002d4814          │  A   │
   17 00 00 00 00 00 ───────────────────────▶│  A   │
   GOOD 00h ◀────────────────────────────────│      │
   STATUS_SUCCESS 0x00000000                 │      │
   Information 0, 1.2 ms                     │      │
   ✓ SPC-2 7.17: its holder releases it      │      │
                                             │      │
                                             │      │ 5 B: release
                                             │      │   IOCTL_STORAGE_RELEASE 0x002d4814
                                             │      │◀─ 17 00 00 00 00 00
                                             │      │┄┄ no answer in time
                                             │      │   STATUS_IO_TIMEOUT 0xc00000b5
                                             │      │   Information 0, 1.2 ms
                                             │      │   ✓ no answer, no proof
                                             │      │
 6 A: state                                  │      │
   0x80006000                                │      │
   NTSTATUS 0x00001234                       │      │
   Information 0, 1.2 ms                     │      │
   ✓ nothing is sent                         │      │
                                             │      │
                                             │      │◀─ LOGICAL UNIT RESET
                                             │      │
                                             └──────┘
✗ 1 of 6 steps did not end as they should: 3

";

    #[test]
    fn a_story_of_two_nodes_is_drawn_as_a_ladder() {
        let (diagram, as_expected) = printed(false);
        assert_eq!(diagram, DIAGRAM, "{diagram}");
        assert!(!as_expected);
    }

    #[test]
    fn no_line_is_wider_than_a_hundred_columns() {
        let widest = DIAGRAM.lines().map(width).max();
        assert!(widest <= Some(100), "{widest:?}");
    }

    #[test]
    fn colour_changes_nothing_but_colours() {
        let plain = |line: &str| {
            let parts = line.split('\x1b').enumerate();
            let texts = parts.map(|(index, part)| match part.split_once('m') {
                Some((_, text)) if index > 0 => text,
                _ => part,
            });
            texts.collect::<String>().trim_end().to_owned()
        };
        let coloured = printed(true).0;
        assert!(coloured.contains("\x1b[1;30;46m  A   \x1b[0m"));
        let lines: Vec<_> = coloured.lines().map(plain).collect();
        assert_eq!(lines, DIAGRAM.lines().collect::<Vec<_>>());
    }

    #[test]
    fn a_step_is_one_json_object() {
        let lines: Vec<_> = story().iter().map(Step::json).collect();
        assert_eq!(
            lines,
            [
                r#"{"node":"A","op":"reserve","ioctl":"0x002d4810","cdb":"160000000000","scsi_status":0,"ntstatus":"0x00000000","information":0}"#,
                r#"{"node":"B","op":"reserve","ioctl":"0x002d4810","cdb":"160000000000","scsi_status":24,"ntstatus":"0x80000011","information":0}"#,
                r#"{"node":"B","op":"reserve","ioctl":"0x00074810","cdb":"56000000000000000000","scsi_status":24,"ntstatus":"0x00000000","information":0}"#,
                r#"{"node":"A","op":"release","ioctl":"0x002d4814","cdb":"170000000000","scsi_status":0,"ntstatus":"0x00000000","information":0}"#,
                r#"{"node":"B","op":"release","ioctl":"0x002d4814","cdb":"170000000000","scsi_status":null,"ntstatus":"0xc00000b5","information":0}"#,
                r#"{"node":"A","op":"state","ioctl":"0x80006000","cdb":"","scsi_status":null,"ntstatus":"0x00001234","information":0}"#,
            ]
        );
        let quoted = step('A', "say \"so\"", 0, vec![], NtStatus::SUCCESS, "").json();
        let value: serde_json::Value = serde_json::from_str(&quoted).expect("JSON");
        assert_eq!(value["op"], "say \"so\"");
    }

    #[test]
    fn times_are_printed_in_their_own_unit() {
        for (microseconds, text) in [
            (7, "7 µs"),
            (999, "999 µs"),
            (1_250, "1.2 ms"),
            (3_000_000, "3.00 s"),
        ] {
            assert_eq!(elapsed_text(Duration::from_micros(microseconds)), text);
        }
    }
}
