//! The status maps: what the driver made of answers of targets and ports. Each cell is measured; where it is not what
//! the table of statuses says, it says so.

use std::path::Path;

use maud::{Markup, html};
use scsi_reserve::NtStatus as Nt;
use serde_json::{Value, json};

use super::page::{self, Figure};
use super::probe::{FORMS, Format, Probe, Reply, STRUCTURE, Stop};
use crate::disk::{CHECK_CONDITION, Sense, status_name};
use crate::faults::oracle::{self, Expected, Known};
use crate::node::NodeError;
use crate::port::Shape;

/// One answer, in every form that it was given in.
pub struct Cell {
    /// What it was.
    pub name: String,
    /// How the operation ended.
    pub end: Expected,
    /// In how many forms it was given.
    pub forms: usize,
    /// What is not as the table of statuses says, if anything.
    pub wrong: Option<String>,
}

impl Cell {
    fn new(name: String, replies: &[Reply]) -> Self {
        let wrong = replies.iter().find(|reply| !reply.is_as_written());
        let wrong = wrong.map(|reply| {
            let expected = page::end_words(&oracle::expected(&reply.answered));
            let (got, information) = (page::end_words(&reply.got), reply.information);
            format!("{got}, Information {information}, where the table says {expected}")
        });
        Self {
            name,
            end: replies[0].got,
            forms: replies.len(),
            wrong,
        }
    }

    /// The cell in words, as a reader gets them who points at it.
    pub fn words(&self) -> String {
        let (name, end) = (&self.name, page::end_words(&self.end));
        match &self.wrong {
            None => format!("{name}: {end}"),
            Some(wrong) => format!("{name}: NOT AS WRITTEN: {wrong}"),
        }
    }
}

/// What one row of the table of statuses is tried with.
enum Case {
    /// A status byte, without sense data.
    Byte(u8),
    /// CHECK CONDITION with this sense: deferred, key, ASC, ASCQ.
    Check(bool, u8, u8, u8),
    /// CHECK CONDITION without sense data.
    NoSense,
    /// NTSTATUS, Information and ScsiStatus of the pass-through, in which the target's own words are missing.
    Port(Nt, usize, Option<u8>),
    /// It is stopped from outside.
    Stopped(Stop),
}

use Case::{Byte, Check, NoSense, Port, Stopped};

const WHOLE: usize = STRUCTURE;

/// The table of statuses (README.md), row by row, with what each is tried with.
#[rustfmt::skip]
const TABLE: &[(&str, &[Case])] = &[
    ("GOOD, with proof", &[Byte(0x00)]),
    ("CHECK CONDITION with current RECOVERED ERROR", &[Check(false, 1, 0x00, 0x00), Check(false, 1, 0x17, 0x01)]),
    ("RESERVATION CONFLICT", &[Byte(0x18)]),
    ("UNIT ATTENTION", &[Check(false, 6, 0x29, 0x00), Check(false, 6, 0x2A, 0x09)]),
    ("deferred sense", &[Check(true, 1, 0x00, 0x00), Check(true, 3, 0x0C, 0x00), Check(true, 6, 0x29, 0x00)]),
    ("no sense data; NO SENSE", &[NoSense, Check(false, 0, 0x00, 0x00)]),
    ("ABORTED COMMAND; TASK ABORTED", &[Check(false, 11, 0x00, 0x00), Byte(0x40)]),
    ("ILLEGAL REQUEST", &[Check(false, 5, 0x20, 0x00), Check(false, 5, 0x24, 0x00), Check(false, 5, 0x26, 0x00)]),
    ("ILLEGAL REQUEST, logical unit not supported", &[Check(false, 5, 0x25, 0x00)]),
    ("NOT READY: becoming ready, in progress, ALUA transition", &[Check(false, 2, 0x04, 0x01), Check(false, 2, 0x04, 0x07), Check(false, 2, 0x04, 0x0A)]),
    ("NOT READY: no medium, intervention required", &[Check(false, 2, 0x3A, 0x00), Check(false, 2, 0x04, 0x03)]),
    ("NOT READY: no cause, format, long write", &[Check(false, 2, 0x04, 0x00), Check(false, 2, 0x04, 0x04), Check(false, 2, 0x04, 0x08)]),
    ("NOT READY, otherwise", &[Check(false, 2, 0x04, 0x02), Check(false, 2, 0x05, 0x00)]),
    ("BUSY, TASK SET FULL, ACA ACTIVE", &[Byte(0x08), Byte(0x28), Byte(0x30)]),
    ("HARDWARE ERROR", &[Check(false, 4, 0x44, 0x00)]),
    ("MEDIUM ERROR", &[Check(false, 3, 0x11, 0x00)]),
    ("DATA PROTECT", &[Check(false, 7, 0x27, 0x00)]),
    ("any other sense key", &[Check(false, 8, 0, 0), Check(false, 9, 0, 0), Check(false, 10, 0, 0), Check(false, 12, 0, 0), Check(false, 13, 0, 0), Check(false, 14, 0, 0), Check(false, 15, 0, 0)]),
    ("any other status byte", &[Byte(0x04), Byte(0x10), Byte(0x14), Byte(0x22), Byte(0x99)]),
    ("the port: no answer in time", &[Port(Nt::IO_TIMEOUT, 0, None), Port(Nt::IO_TIMEOUT, WHOLE, Some(0x00))]),
    ("the port: the device is gone or going", &[
        Port(Nt::NO_SUCH_DEVICE, 0, None), Port(Nt::DEVICE_DOES_NOT_EXIST, 0, None), Port(Nt::DEVICE_NOT_CONNECTED, 0, None),
        Port(Nt::DEVICE_REMOVED, 0, None), Port(Nt::INVALID_DEVICE_STATE, 0, None), Port(Nt::DELETE_PENDING, 0, None),
        Port(Nt::DEVICE_OFF_LINE, 0, None), Port(Nt::DEVICE_POWERED_OFF, 0, None)]),
    ("the port: a passing trouble", &[
        Port(Nt::IO_DEVICE_ERROR, 0, None), Port(Nt::IO_DEVICE_ERROR, WHOLE, Some(0x00)), Port(Nt::DEVICE_BUSY, 0, None), Port(Nt::CONNECTION_DISCONNECTED, 0, None),
        Port(Nt::CONNECTION_RESET, 0, None), Port(Nt::REQUEST_ABORTED, 0, None), Port(Nt::CANCELLED, 0, None)]),
    ("the port: not ready", &[Port(Nt::DEVICE_NOT_READY, 0, None)]),
    ("the port: no medium", &[Port(Nt::NO_MEDIA_IN_DEVICE, 0, None), Port(Nt::NO_MEDIA, 0, None)]),
    ("the port refuses the request", &[Port(Nt::INVALID_DEVICE_REQUEST, 0, None), Port(Nt::NOT_SUPPORTED, 0, None), Port(Nt::NOT_IMPLEMENTED, 0, None)]),
    ("the port is out of memory", &[Port(Nt::INSUFFICIENT_RESOURCES, 0, None)]),
    ("success without proof", &[Port(Nt::SUCCESS, 0, None), Port(Nt::SUCCESS, WHOLE - 1, Some(0x00)), Port(Nt::SUCCESS, WHOLE, None), Port(Nt::SUCCESS, WHOLE, Some(0xFF)), Port(Nt(0x102), WHOLE, Some(0x00))]),
    ("any other NTSTATUS", &[Port(Nt::UNSUCCESSFUL, 0, None), Port(Nt::ACCESS_DENIED, 0, None)]),
    ("the caller cancels, the command is out", &[Stopped(Stop::Cancel)]),
    ("the disk goes, the command is out", &[Stopped(Stop::Surprise)]),
    ("the port never answers", &[Stopped(Stop::Nothing)]),
];

/// A row of the table of statuses.
pub struct Row {
    /// What the target or port says.
    pub says: &'static str,
    /// What it was tried with: the answer in few words, and what came of it.
    pub cells: Vec<(String, Cell)>,
}

/// What was measured.
pub struct Answers {
    /// The table of statuses, row by row.
    pub table: Vec<Row>,
    /// Every status byte with every sense key.
    pub bytes: Vec<Vec<Cell>>,
    /// CHECK CONDITION: every sense key with every additional sense code.
    pub codes: Vec<Vec<Cell>>,
    /// NOT READY 04h with every qualifier.
    pub qualifiers: Vec<Cell>,
    /// NTSTATUS of the port by [`PROOFS`].
    pub ports: Vec<(Nt, Vec<Cell>)>,
}

/// The additional sense code of the sweep over status bytes: invalid operation code, which has no row but with ILLEGAL
/// REQUEST.
const SWEPT: (u8, u8) = (0x20, 0x00);

/// Information and ScsiStatus of a pass-through in which the target's own words may be missing.
pub const PROOFS: [(usize, Option<u8>); 12] = {
    const STATUSES: [Option<u8>; 4] = [Some(0x00), Some(0xFF), None, Some(0x18)];
    const LENGTHS: [usize; 3] = [0, STRUCTURE - 1, STRUCTURE];
    let mut proofs = [(0, None); 12];
    let mut at = 0;
    while at < proofs.len() {
        proofs[at] = (LENGTHS[at / 4], STATUSES[at % 4]);
        at += 1;
    }
    proofs
};

/// The NTSTATUS values of the map: those with a row of their own, then others.
pub const PORTS: [Nt; 25] = [
    Nt::SUCCESS,
    Nt::IO_TIMEOUT,
    Nt::NO_SUCH_DEVICE,
    Nt::DEVICE_DOES_NOT_EXIST,
    Nt::DEVICE_NOT_CONNECTED,
    Nt::DEVICE_REMOVED,
    Nt::INVALID_DEVICE_STATE,
    Nt::DELETE_PENDING,
    Nt::DEVICE_OFF_LINE,
    Nt::DEVICE_POWERED_OFF,
    Nt::INVALID_DEVICE_REQUEST,
    Nt::NOT_SUPPORTED,
    Nt::NOT_IMPLEMENTED,
    Nt::INSUFFICIENT_RESOURCES,
    Nt::IO_DEVICE_ERROR,
    Nt::DEVICE_BUSY,
    Nt::CONNECTION_DISCONNECTED,
    Nt::CONNECTION_RESET,
    Nt::REQUEST_ABORTED,
    Nt::CANCELLED,
    Nt::DEVICE_NOT_READY,
    Nt::NO_MEDIA_IN_DEVICE,
    Nt::NO_MEDIA,
    Nt::UNSUCCESSFUL,
    Nt::ACCESS_DENIED,
];

/// Asks the driver everything.
///
/// # Errors
/// The image does not load.
pub fn measure(image: &Path) -> Result<Answers, NodeError> {
    let mut table = Vec::new();
    for &(says, cases) in TABLE {
        let cell = |case: &Case| Ok((short(says, case), try_out(image, case)?));
        let cells = cases.iter().map(cell).collect::<Result<_, NodeError>>()?;
        table.push(Row { says, cells });
    }
    let probe = Probe::new(image)?;
    let sense = |key, asc, ascq| Known {
        deferred: false,
        key,
        asc,
        ascq,
    };
    let swept = |byte| (0..16).map(move |key| (byte, sense(key, SWEPT.0, SWEPT.1)));
    let bytes = (0..=255).map(|byte| {
        let cells = swept(byte).map(|(byte, known)| target(&probe, &FORMS, byte, Some(known)));
        cells.collect()
    });
    let bytes = bytes.collect();
    let check = |known| target(&probe, &FORMS[..1], CHECK_CONDITION, Some(known));
    let codes = (0..16).map(|key| (0..=255).map(|asc| check(sense(key, asc, 0))).collect());
    let codes = codes.collect();
    let qualifiers = (0..=255).map(|ascq| check(sense(2, 0x04, ascq))).collect();
    let ports = PORTS.map(|status| {
        (
            status,
            PROOFS.map(|proof| port(&probe, status, proof)).into(),
        )
    });
    let answers = Answers {
        table,
        bytes,
        codes,
        qualifiers,
        ports: ports.into(),
    };
    probe.end();
    Ok(answers)
}

/// A case of the table, on a disk of its own: a form that was remembered would be none of its doing.
fn try_out(image: &Path, case: &Case) -> Result<Cell, NodeError> {
    if let Stopped(stop) = case {
        return stopped(image, *stop);
    }
    let probe = Probe::new(image)?;
    let cell = match *case {
        Byte(byte) => target(&probe, &FORMS, byte, None),
        Check(deferred, key, asc, ascq) => {
            let known = Known {
                deferred,
                key,
                asc,
                ascq,
            };
            target(&probe, &FORMS, CHECK_CONDITION, Some(known))
        }
        Port(status, information, scsi_status) => port(&probe, status, (information, scsi_status)),
        NoSense | Stopped(_) => target(&probe, &FORMS, CHECK_CONDITION, None),
    };
    probe.end();
    Ok(cell)
}

/// A case in few words, beside what its row says already.
fn short(says: &str, case: &Case) -> String {
    let unsaid = |name: &str| {
        if says.contains(name) {
            String::new()
        } else {
            format!(" {name}")
        }
    };
    match *case {
        Byte(byte) => format!(
            "{byte:02X}h{}",
            unsaid(status_name(byte).unwrap_or_default())
        ),
        Check(_, key, asc, ascq) => {
            let name = unsaid(Sense::new(key, asc, ascq).key_name());
            format!("{name} {asc:02X}h/{ascq:02X}h")
                .trim_start()
                .to_owned()
        }
        NoSense => "no sense data".into(),
        Port(status, information, scsi_status) => {
            let name = status
                .name()
                .unwrap_or_default()
                .trim_start_matches("STATUS_");
            let bytes = if information == 0 {
                String::new()
            } else {
                format!(", {information} bytes")
            };
            let said = scsi_status.map_or_else(String::new, |byte| format!(", {byte:02X}h"));
            format!("{name}{bytes}{said}")
        }
        Stopped(Stop::Cancel) => "IoCancelIrp".into(),
        Stopped(Stop::Surprise) => "IRP_MN_SURPRISE_REMOVAL".into(),
        Stopped(Stop::Nothing) => "the send's timeout, 30 s after the port's".into(),
    }
}

fn target(probe: &Probe, forms: &[(Shape, Format)], byte: u8, sense: Option<Known>) -> Cell {
    let replies: Vec<_> = forms
        .iter()
        .map(|&form| probe.target(form, byte, sense))
        .collect();
    Cell::new(target_name(byte, sense), &replies)
}

fn port(probe: &Probe, status: Nt, (information, scsi_status): (usize, Option<u8>)) -> Cell {
    let reply = probe.port(status.0, information, scsi_status);
    Cell::new(port_name(status, information, scsi_status), &[reply])
}

/// "STATUS_IO_TIMEOUT 0xc00000b5, Information 0, ScsiStatus not written".
pub fn port_name(status: Nt, information: usize, scsi_status: Option<u8>) -> String {
    let said = scsi_status.map_or("not written".to_owned(), |byte| format!("{byte:02X}h"));
    let status = page::status_words(status.0);
    format!("{status}, Information {information}, ScsiStatus {said}")
}

fn stopped(image: &Path, stop: Stop) -> Result<Cell, NodeError> {
    let (name, status) = match stop {
        Stop::Cancel => ("the caller cancels, the command is out", Nt::CANCELLED),
        Stop::Surprise => (
            "surprise removal, the command is out",
            Nt::DEVICE_NOT_CONNECTED,
        ),
        Stop::Nothing => ("no answer until the send times out", Nt::IO_TIMEOUT),
    };
    let (end, information) = Probe::new(image)?.stopped(stop);
    let good = end.status == status.0 && end.sends == 1 && information == 0;
    let wrong = || format!("{}, Information {information}", page::end_words(&end));
    Ok(Cell {
        name: name.into(),
        end,
        forms: 1,
        wrong: (!good).then(wrong),
    })
}

/// "02h CHECK CONDITION, UNIT ATTENTION 29h/00h".
pub fn target_name(byte: u8, sense: Option<Known>) -> String {
    let status = status_name(byte).map_or_else(String::new, |name| format!(" {name}"));
    let sense = match sense {
        Some(Known {
            deferred,
            key,
            asc,
            ascq,
        }) => {
            let name = Sense::new(key, asc, ascq).key_name();
            let deferred = if deferred { "deferred " } else { "" };
            format!(", {deferred}{name} {asc:02X}h/{ascq:02X}h")
        }
        None if byte == CHECK_CONDITION => ", no sense data".into(),
        None => String::new(),
    };
    format!("{byte:02X}h{status}{sense}")
}

impl Answers {
    /// Every cell.
    pub fn cells(&self) -> impl Iterator<Item = &Cell> {
        let table = self
            .table
            .iter()
            .flat_map(|row| row.cells.iter().map(|(_, cell)| cell));
        let ports = self.ports.iter().flat_map(|(_, cells)| cells);
        let maps = self.bytes.iter().chain(&self.codes).flatten();
        table.chain(maps).chain(&self.qualifiers).chain(ports)
    }

    /// How many RESERVEs were asked, and how many cells are not as the table of statuses says.
    pub fn tally(&self) -> (usize, usize) {
        let asked = self.cells().map(|cell| cell.forms).sum();
        (
            asked,
            self.cells().filter(|cell| cell.wrong.is_some()).count(),
        )
    }

    /// A line for each cell.
    pub fn lines(&self) -> impl Iterator<Item = Value> {
        self.cells().map(|cell| {
            json!({
                "answer": cell.name,
                "forms": cell.forms,
                "ntstatus": format!("{:#010x}", cell.end.status),
                "name": Nt(cell.end.status).name(),
                "commands": cell.end.sends,
                "milliseconds": cell.end.milliseconds,
                "ten_byte": cell.end.ten_byte,
                "wrong": cell.wrong,
            })
        })
    }

    /// The figures.
    pub fn figures(&self) -> Vec<Figure> {
        let figure = |id, title: &str, note, body| Figure {
            id,
            title: title.into(),
            note,
            body,
            command: "cargo xtask report --only answers".into(),
        };
        vec![
            figure(
                "table",
                "The table of statuses, row by row",
                html! {
                    "Each answer of a target is given in four forms: a port that says STATUS_SUCCESS beside it and one that \
                     says an error, with fixed and with descriptor sense. A mark stands for all forms if they end alike."
                },
                self.table_body(),
            ),
            figure(
                "bytes",
                "Every SCSI status byte with every sense key",
                html! {
                    "256 status bytes, each with 16 sense keys (" (format!("{:02X}h/{:02X}h", SWEPT.0, SWEPT.1)) "), in four \
                     forms: only CHECK CONDITION looks at the sense. Point at a cell for its words."
                },
                self.bytes_body(),
            ),
            figure(
                "codes",
                "CHECK CONDITION: every sense key with every additional sense code",
                html! {
                    "16 sense keys by 256 codes, qualifier 00h; and NOT READY 04h by its 256 qualifiers. A bar without a break \
                     is a key whose codes make no difference."
                },
                self.codes_body(),
            ),
            figure(
                "ports",
                "The port's own NTSTATUS, by how much of the structure came back",
                html! {
                    "Information counts the bytes copied back: with less than " (STRUCTURE) " the structure still holds what \
                     was sent, whatever the port wrote. ScsiStatus goes out as FFh, so that a port which does not write it \
                     can't seem to say GOOD."
                },
                self.ports_body(),
            ),
        ]
    }

    fn table_body(&self) -> Markup {
        html! {
            (page::legend())
            div.scroll { table.rows.table {
                thead { tr {
                    th { "the target or port says" } th { "the caller gets" } th { "sent" } th { "tried with" } th.number { "as written" }
                } }
                tbody { @for row in &self.table { @for (at, group) in row.cells.chunk_by(|a, b| a.1.end == b.1.end).enumerate() {
                    @let forms = |good: bool| group.iter().filter(|(_, cell)| !good || cell.wrong.is_none()).map(|(_, cell)| cell.forms).sum::<usize>();
                    @let (alike, all) = (forms(true), forms(false));
                    @let end = &group[0].1.end;
                    tr.wrong[alike != all] {
                        th { @if at == 0 { (row.says) } }
                        td.status { (page::status(end.status)) }
                        td.status { (page::sends_words(end)) }
                        td.faint { @for (at, (short, cell)) in group.iter().enumerate() {
                            @if at > 0 { "; " }
                            span title=(cell.words()) { (short) }
                        } }
                        td.number { (alike) " of " (all) }
                    }
                } } }
            } }
        }
    }

    fn bytes_body(&self) -> Markup {
        let row = &self.bytes[usize::from(CHECK_CONDITION)];
        html! {
            div.scroll { table.map {
                thead { tr { th {} @for low in 0..16 { th { "_" (format!("{low:X}")) "h" } } } }
                tbody { @for high in 0..16 { tr {
                    th { (format!("{high:X}_h")) }
                    @for low in 0..16 { (byte_cell(high * 16 + low, &self.bytes[high * 16 + low])) }
                } } }
            } }
            p.between { "02h CHECK CONDITION, by sense key" }
            div.scroll { table.map {
                thead { tr { th {} @for key in 0..16 { th { (format!("{key:X}h")) } } } }
                tbody {
                    tr { th { "02h" } @for cell in row { (page::cell(&cell.end, &cell.words(), cell.wrong.is_some())) } }
                    tr.keys { th {} @for key in 0..16 { td { (Sense::new(key, 0, 0).key_name()) } } }
                }
            } }
            details {
                summary { "All " (page::count(self.bytes.len() * 16)) " pairs, condensed" }
                (self.condensed())
            }
        }
    }

    /// Every end that occurs, with the pairs that have it.
    fn condensed(&self) -> Markup {
        let mut ends: Vec<(Expected, Vec<(usize, usize)>)> = Vec::new();
        for (byte, cells) in self.bytes.iter().enumerate() {
            for (key, cell) in cells.iter().enumerate() {
                match ends.iter_mut().find(|(end, _)| *end == cell.end) {
                    Some((_, pairs)) => pairs.push((byte, key)),
                    None => ends.push((cell.end, vec![(byte, key)])),
                }
            }
        }
        html! {
            table.rows {
                thead { tr { th { "the caller gets" } th { "sent" } th { "status bytes (sense keys)" } th.number { "pairs" } } }
                tbody { @for (end, pairs) in &ends { tr {
                    td.status { (page::status(end.status)) }
                    td { (page::sends_words(end)) }
                    td { (pair_words(pairs)) }
                    td.number { (page::count(pairs.len())) }
                } } }
            }
        }
    }

    fn codes_body(&self) -> Markup {
        html! {
            div.scroll { table.strips {
                tbody {
                    @for (key, cells) in self.codes.iter().enumerate() { tr {
                        th { span.faint { (format!("{key:X}h")) } " " (Sense::new(key as u8, 0, 0).key_name()) }
                        td { (strip(cells)) }
                    } }
                    tr.axis { th {} td { div { @for tick in 0..8 { span { (format!("{:02X}h", tick * 32)) } } } } }
                }
            } }
            p.between { "2h NOT READY, 04h, by additional sense code qualifier" }
            div.scroll { table.map {
                thead { tr { th {} @for ascq in 0..SHOWN { th { (format!("{ascq:02X}h")) } } th { (format!("–FFh")) } } }
                tbody { tr { th { "04h" }
                    @for cell in &self.qualifiers[..SHOWN] { (page::cell(&cell.end, &cell.words(), cell.wrong.is_some())) }
                    (rest(&self.qualifiers[SHOWN..]))
                } }
            } }
        }
    }

    fn ports_body(&self) -> Markup {
        html! {
            div.scroll { table.map.ports {
                thead {
                    tr { th rowspan="2" { "NTSTATUS of the pass-through" }
                        @for information in PROOFS.chunks(4) { th colspan="4" { "Information " (information[0].0) } }
                    }
                    tr { @for (_, scsi_status) in PROOFS { th {
                        @match scsi_status { Some(byte) => (format!("{byte:02X}h")), None => "none" }
                    } } }
                }
                tbody { @for (status, cells) in &self.ports { tr {
                    th { code { (status.name().unwrap_or_default()) } }
                    @for cell in cells { (page::cell(&cell.end, &cell.words(), cell.wrong.is_some())) }
                } } }
            } }
        }
    }
}

/// A status byte with all sense keys; one that looks at the sense is shown below.
fn byte_cell(byte: usize, cells: &[Cell]) -> Markup {
    let wrong = cells.iter().any(|cell| cell.wrong.is_some());
    if cells.iter().any(|cell| cell.end != cells[0].end) {
        let title = format!("{}: by sense key, below", target_name(byte as u8, None));
        return html! { td.cell.keyed.wrong[wrong] title=(title) { "key" small { "below" } } };
    }
    let words = byte_words(byte as u8, &cells[0].end);
    page::cell(&cells[0].end, &words, wrong)
}

/// A status byte's cell in words.
pub fn byte_words(byte: u8, end: &Expected) -> String {
    let status = status_name(byte).map_or_else(String::new, |name| format!(" {name}"));
    format!(
        "{byte:02X}h{status}, any sense key: {}",
        page::end_words(end)
    )
}

/// Qualifiers with a cell of their own: those that have a row, and their neighbours.
const SHOWN: usize = 15;

/// Cells that end alike, as one.
fn rest(cells: &[Cell]) -> Markup {
    let wrong = cells.iter().any(|cell| cell.wrong.is_some());
    if cells.iter().any(|cell| cell.end != cells[0].end) {
        return html! { td.cell.keyed.wrong[wrong] { "differ" } };
    }
    let title = format!(
        "the other {}, for example {}",
        cells.len(),
        cells[0].words()
    );
    page::cell(&cells[0].end, &title, wrong)
}

/// 256 cells as a bar; equal neighbours are one piece.
fn strip(cells: &[Cell]) -> Markup {
    let same = |a: &Cell, b: &Cell| a.end == b.end && a.wrong.is_some() == b.wrong.is_some();
    html! {
        div.strip { @for (first, piece) in page::pieces(cells, same) {
            @let (css, mark) = page::class(piece[0].end.status);
            @let last = first + piece.len() - 1;
            @let range = if first == last { format!("{first:02X}h") } else { format!("{first:02X}h to {last:02X}h") };
            @let wide = piece.len() > 12;
            @let long = piece.len() > 100;
            span.(css).thin[!wide].wrong[piece[0].wrong.is_some()] style={ "flex-grow:" (piece.len()) }
                title={ (range) ", for example " (piece[0].words()) } {
                @if wide {
                    (mark) " "
                    small { @if long { (page::sends_words(&piece[0].end)) } @else { (page::sends_short(&piece[0].end)) } }
                } @else { i { (format!("{first:02X}")) } }
            }
        } }
    }
}

/// "00h, 03h–07h (all keys); 02h (1, 6–9)".
fn pair_words(pairs: &[(usize, usize)]) -> String {
    let mut by_keys: Vec<(Vec<usize>, Vec<usize>)> = Vec::new();
    for of_byte in pairs.chunk_by(|a, b| a.0 == b.0) {
        let keys: Vec<_> = of_byte.iter().map(|pair| pair.1).collect();
        match by_keys.iter_mut().find(|(known, _)| *known == keys) {
            Some((_, bytes)) => bytes.push(of_byte[0].0),
            None => by_keys.push((keys, vec![of_byte[0].0])),
        }
    }
    let words = by_keys.iter().map(|(keys, bytes)| {
        let keys = if keys.len() == 16 {
            "all".into()
        } else {
            ranges(keys, |key| format!("{key:X}h"))
        };
        format!("{} ({keys})", ranges(bytes, |byte| format!("{byte:02X}h")))
    });
    words.collect::<Vec<_>>().join("; ")
}

fn ranges(numbers: &[usize], word: impl Fn(usize) -> String) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b);
    let words = runs.map(|run| match run {
        [one] => word(*one),
        [one, .., last] => format!("{}–{}", word(*one), word(*last)),
        [] => String::new(),
    });
    words.collect::<Vec<_>>().join(", ")
}
