//! What the page is built of: sections, figures each with the command that repeats it, statuses with their colours.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use scsi_reserve::NtStatus;

use crate::abi::Status;
use crate::faults::oracle::Expected;

/// A picture or table, and how to get its figures again.
pub struct Figure {
    /// Its place on the page.
    pub id: &'static str,
    /// What it shows.
    pub title: String,
    /// What a reader has to know to read it.
    pub note: Markup,
    /// The thing itself.
    pub body: Markup,
    /// The command that repeats it.
    pub command: String,
}

/// A part of the page.
pub struct Section {
    /// Its place on the page.
    pub id: &'static str,
    /// As the contents call it.
    pub title: &'static str,
    /// What it is about.
    pub lead: Markup,
    /// Its figures.
    pub figures: Vec<Figure>,
}

/// What callers are to make of a status. Cells have its colour, and the status in letters besides.
struct Class {
    css: &'static str,
    means: &'static str,
    statuses: &'static [(NtStatus, &'static str)],
}

#[rustfmt::skip]
const CLASSES: [Class; 7] = [
    Class { css: "held", means: "done", statuses: &[(NtStatus::SUCCESS, "OK")] },
    Class { css: "conflict", means: "another initiator holds it", statuses: &[(NtStatus::DEVICE_BUSY, "BUSY")] },
    Class { css: "later", means: "not now", statuses: &[
        (NtStatus::DEVICE_NOT_READY, "NRDY"), (NtStatus::INSUFFICIENT_RESOURCES, "MEM")] },
    Class { css: "refused", means: "refused", statuses: &[
        (NtStatus::INVALID_DEVICE_REQUEST, "INVAL"), (NtStatus::ACCESS_DENIED, "ACCES")] },
    Class { css: "gone", means: "nothing there", statuses: &[
        (NtStatus::DEVICE_NOT_CONNECTED, "GONE"), (NtStatus::NO_MEDIA_IN_DEVICE, "MEDIA"),
        (NtStatus::INVALID_DEVICE_STATE, "STATE")] },
    Class { css: "failed", means: "failed", statuses: &[
        (NtStatus::IO_DEVICE_ERROR, "IO"), (NtStatus::DEVICE_HARDWARE_ERROR, "HARDW"),
        (NtStatus::DEVICE_DATA_ERROR, "DATA")] },
    Class { css: "unknown", means: "outcome unknown, or stopped", statuses: &[
        (NtStatus::IO_TIMEOUT, "TIME"), (NtStatus::CANCELLED, "CANCL")] },
];

/// The CSS class of a status, and its short form.
pub fn class(status: Status) -> (&'static str, String) {
    for class in &CLASSES {
        for &(known, short) in class.statuses {
            if known.0 == status {
                return (class.css, short.into());
            }
        }
    }
    ("other", format!("{status:08x}"))
}

/// "STATUS_DEVICE_BUSY 0x80000011".
pub fn status_words(status: Status) -> String {
    let name = NtStatus(status).name().unwrap_or("NTSTATUS");
    format!("{name} {status:#010x}")
}

/// Commands and the time between them: "5 commands, 1 s apart".
pub fn sends_words(end: &Expected) -> String {
    let pace = match end.milliseconds / (end.sends.max(2) as u64 - 1) {
        _ if end.sends < 2 && end.milliseconds > 0 => {
            return format!("1 command, {} s", end.milliseconds / 1000);
        }
        _ if end.sends == 1 => return "1 command".into(),
        _ if end.sends == 0 => return "no command".into(),
        0 => "at once".into(),
        pace if pace % 1000 == 0 => format!("{} s apart", pace / 1000),
        pace => format!("{pace} ms apart"),
    };
    if end.ten_byte {
        return format!("{} commands: 6 bytes, 10 bytes", end.sends);
    }
    format!("{} commands, {pace}", end.sends)
}

/// How an operation ended, in words.
pub fn end_words(end: &Expected) -> String {
    format!("{}; {}", status_words(end.status), sends_words(end))
}

/// How often the command was sent, in the room of a cell: "5×1 s".
pub fn sends_short(end: &Expected) -> String {
    let pace = end.milliseconds / (end.sends.max(2) as u64 - 1);
    match (end.sends, pace) {
        (1, 0) => String::new(),
        (1, _) => format!("{} s", pace / 1000),
        (2, 0) if end.ten_byte => "6 → 10".into(),
        (sends, 0) => format!("{sends}×"),
        (sends, pace) => format!("{sends}× {} s", pace / 1000),
    }
}

/// A status as a coloured mark with its short form.
pub fn mark(status: Status) -> Markup {
    let (css, short) = class(status);
    html! { span.mark.(css) title=(status_words(status)) { (short) } }
}

/// A status as a coloured mark with its name.
pub fn status(status: Status) -> Markup {
    let name = NtStatus(status)
        .name()
        .map_or_else(|| format!("{status:#010x}"), str::to_owned);
    html! { (mark(status)) " " code title=(status_words(status)) { (name) } }
}

/// As [`status`], by its name in `ntstatus.h`; a name that callers of this driver never get stays plain.
pub fn named(name: &str) -> Markup {
    let mut known = CLASSES.iter().flat_map(|class| class.statuses);
    let known = known.find(|(status, _)| status.name() == Some(name));
    known.map_or_else(|| html! { code { (name) } }, |(known, _)| status(known.0))
}

/// A cell of a map: colour, short form, how often it was sent; everything in words for who points at it.
pub fn cell(end: &Expected, words: &str, wrong: bool) -> Markup {
    let (css, short) = class(end.status);
    let sends = sends_short(end);
    html! {
        td.cell.(css).wrong[wrong] title=(words) {
            (short)
            @if !sends.is_empty() { small { (sends) } }
        }
    }
}

/// What the marks mean.
pub fn legend() -> Markup {
    html! {
        dl.legend {
            @for class in &CLASSES {
                div {
                    dt { @for (_, short) in class.statuses { span.mark.(class.css) { (short) } " " } }
                    dd {
                        b { (class.means) } " "
                        @for (at, (status, _)) in class.statuses.iter().enumerate() {
                            @if at > 0 { ", " }
                            code { (status.name().unwrap_or_default().trim_start_matches("STATUS_")) (format!(" {:08x}", status.0)) }
                        }
                    }
                }
            }
        }
    }
}

/// Items in pieces of equal neighbours, each with the number of its first.
pub fn pieces<T>(items: &[T], same: impl Fn(&T, &T) -> bool) -> Vec<(usize, &[T])> {
    let mut first = 0;
    let pieces = items.chunk_by(same).map(|piece| {
        let at = first;
        first += piece.len();
        (at, piece)
    });
    pieces.collect()
}

/// 1,102,928.
pub fn count(number: impl TryInto<u64>) -> String {
    let digits = number.try_into().unwrap_or(u64::MAX).to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The whole page.
pub fn document(title: &str, head: &Markup, sections: &[Section]) -> String {
    // What was not measured is not on the page.
    let sections: Vec<_> = sections
        .iter()
        .filter(|section| !section.figures.is_empty())
        .collect();
    let mut figures = 1;
    let numbered = sections.iter().map(|section| {
        let first = figures;
        figures += section.figures.len();
        (section, first)
    });
    let numbered: Vec<_> = numbered.collect();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body {
                nav {
                    a.home href="#top" { "resvflt" }
                    @for section in &sections { a href={ "#" (section.id) } { (section.title) } }
                }
                main {
                    (head)
                    @for (section, first) in numbered {
                        section id=(section.id) {
                            h2 { (section.title) }
                            div.lead { (section.lead) }
                            @for (number, figure) in (first..).zip(&section.figures) { (show(figure, number)) }
                        }
                    }
                }
            }
        }
    };
    page.into_string()
}

fn show(figure: &Figure, number: usize) -> Markup {
    html! {
        figure id=(figure.id) {
            figcaption {
                h3 { span.number { (number) } " " (figure.title) }
                div.note { (figure.note) }
            }
            div.body { (figure.body) }
            p.repeat { span { "again" } code { (figure.command) } }
        }
    }
}

/// A bar from 0 to 1.
pub fn bar(part: f64) -> Markup {
    goal_bar(part, None)
}

/// A bar from 0 to 1, with a goal marked on it.
pub fn goal_bar(part: f64, goal: Option<f64>) -> Markup {
    let percent = |part: f64| format!("{:.1}%", part.clamp(0.0, 1.0) * 100.0);
    html! {
        span.meter {
            span.part style={ "width:" (percent(part)) } {}
            @if let Some(goal) = goal { span.goal style={ "left:" (percent(goal)) } {} }
        }
    }
}
