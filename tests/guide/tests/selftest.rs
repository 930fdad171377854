//! Behind each mark `◇` of the pages stand the checks of `resvctl selftest` that settle it, or why none can; and
//! docs/selftest.md has each check as the program has it.

mod common;

use std::collections::BTreeSet;

use common::{pages, prose, read};
use resvctl::selftest::{CHECKS, Check};

const MARK: char = '◇';

/// What a mark's parenthesis says.
#[derive(Debug, PartialEq)]
struct Settled {
    /// The checks that settle it, or a part of it.
    by: Vec<String>,
    /// Why none settles it, or the rest of it.
    unless: Option<String>,
}

/// All marks outside code, each with its line. What is code is the sign itself, not a mark.
fn marks(page: &str) -> Vec<(usize, Result<Settled, String>)> {
    let mut text = Vec::new();
    let mut in_code = false;
    for (number, line) in prose(page) {
        if line.trim().is_empty() {
            assert!(!in_code, "{number}: a code span is not closed before it");
        }
        for character in line.chars().chain(['\n']) {
            in_code ^= character == '`';
            let code = in_code && character == MARK;
            text.push((if code { ' ' } else { character }, number));
        }
    }
    let marked = (0..text.len()).filter(|at| text[*at].0 == MARK);
    let behind = |at: usize| text[at + 1..].iter().map(|(character, _)| *character);
    marked
        .map(|at| (text[at].1, settled(&behind(at).collect::<String>())))
        .collect()
}

/// Reads what stands behind a mark: ` ([id](selftest.md#id), …)`, ` (no check: REASON)`, or the one, `; ` and the other.
fn settled(behind: &str) -> Result<Settled, String> {
    let said = parenthesis(behind).ok_or("no parenthesis right behind it")?;
    let (by, unless) = match said.split_once("no check: ") {
        Some(("", reason)) => ("", Some(reason)),
        Some((by, reason)) => {
            let by = by.strip_suffix("; ");
            (by.ok_or("no semicolon before \"no check\"")?, Some(reason))
        }
        None => (&*said, None),
    };
    if unless.is_some_and(|reason| reason.split(' ').count() < 3) {
        return Err(format!("no reason: {said}"));
    }
    let by = match by {
        "" => Vec::new(),
        by => by.split(", ").map(id).collect::<Result<_, _>>()?,
    };
    if by.is_empty() && unless.is_none() {
        return Err("nothing in the parenthesis".into());
    }
    let unless = unless.map(str::to_owned);
    Ok(Settled { by, unless })
}

/// The text of the parenthesis that begins there after white space, on one line.
fn parenthesis(text: &str) -> Option<String> {
    let inside = text.trim_start().strip_prefix('(')?;
    if !text.starts_with(char::is_whitespace) {
        return None;
    }
    let mut depth = 1;
    let end = inside.find(|character| {
        depth += match character {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        depth == 0
    })?;
    Some(one_line(&inside[..end]))
}

/// The id of a link to its section, `[id](selftest.md#id)`.
fn id(link: &str) -> Result<String, String> {
    let parts = || {
        let (label, target) = link.strip_prefix('[')?.split_once("](")?;
        let (path, anchor) = target.strip_suffix(')')?.split_once('#')?;
        (path.rsplit('/').next() == Some("selftest.md") && anchor == label).then_some(label)
    };
    let id = parts().map(str::to_owned);
    id.ok_or_else(|| format!("no link to a check's section: {link}"))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Text as it is read: on one line, and without the marks of code.
fn plain(text: &str) -> String {
    one_line(text).replace('`', "")
}

#[test]
fn a_mark_without_a_check_or_a_reason_is_found() {
    let by = |ids: &[&str], unless: Option<&str>| {
        let by = ids.iter().copied().map(str::to_owned).collect();
        let unless = unless.map(str::to_owned);
        Some(Settled { by, unless })
    };
    for (page, expected) in [
        ("so ◇ ([a](selftest.md#a)) on", by(&["a"], None)),
        (
            "so. ◇\n  ([a](docs/selftest.md#a),\n  [b-c](../docs/selftest.md#b-c)) On",
            by(&["a", "b-c"], None),
        ),
        (
            "◇ (no check: needs (as we\nsay) HLK) All",
            by(&[], Some("needs (as we say) HLK")),
        ),
        (
            "◇ ([a](selftest.md#a); no check: the rest needs HLK)",
            by(&["a"], Some("the rest needs HLK")),
        ),
        ("so ◇", None),
        ("so. ◇ It goes on (as it did).", None),
        ("so ◇([a](selftest.md#a))", None),
        ("so ◇ ()", None),
        ("so ◇ ([a](selftest.md#a)", None),
        ("so ◇ (no check)", None),
        ("so ◇ (no check: none)", None),
        ("so ◇ (see a)", None),
        ("so ◇ ([a](selftest.md#b))", None),
        ("so ◇ ([a](verify.md#a))", None),
        ("so ◇ ([a](selftest.md#a), see b)", None),
        ("so ◇ ([a](selftest.md#a) no check: needs an HLK)", None),
    ] {
        let marks = marks(page);
        let [(1, found)] = &marks[..] else {
            panic!("{page}: {marks:?}");
        };
        assert_eq!(found.as_ref().ok(), expected.as_ref(), "{page}: {found:?}");
    }
    assert_eq!(marks("**`◇`** marks\n\n```\n◇\n```\n"), []);
}

#[test]
fn each_mark_has_its_checks_and_each_check_its_mark() {
    let checks: BTreeSet<_> = CHECKS.iter().map(|check| check.id).collect();
    let (mut wrong, mut named, mut seen) = (Vec::new(), BTreeSet::new(), 0);
    for page in pages() {
        for (line, found) in marks(&read(&page)) {
            seen += 1;
            let place = format!("{}:{line}", page.display());
            match found {
                Err(error) => wrong.push(format!("{place}: {error}")),
                Ok(settled) => {
                    let unknown = settled.by.iter().filter(|id| !checks.contains(&***id));
                    wrong.extend(unknown.map(|id| format!("{place}: {id} is no check")));
                    named.extend(settled.by);
                }
            }
        }
    }
    assert!(seen > 20, "{seen} marks");
    let unnamed = checks.iter().filter(|id| !named.contains(**id));
    wrong.extend(unnamed.map(|id| format!("{id}: no mark names it")));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A check's section of docs/selftest.md, without its heading.
fn section<'a>(page: &'a str, check: &Check) -> &'a str {
    let heading = format!("\n### {}\n", check.id);
    let (_, section) = page
        .split_once(&heading)
        .unwrap_or_else(|| panic!("no section {}", check.id));
    section.split("\n#").next().unwrap()
}

#[test]
fn each_check_has_its_section_with_its_own_words() {
    let page = read("docs/selftest.md");
    for check in CHECKS {
        let mut paragraphs = section(&page, check).trim().split("\n\n").map(plain);
        let mut next = |start: &str| {
            let paragraph = paragraphs.next().unwrap_or_default();
            let rest = paragraph.strip_prefix(start).map(str::to_owned);
            rest.unwrap_or_else(|| panic!("{}: \"{start}…\" is due: {paragraph}", check.id))
        };
        let sentence = next("");
        assert_eq!(
            sentence.strip_suffix('.'),
            Some(&*plain(check.sentence)),
            "{}",
            check.id
        );
        assert_eq!(next("**How:** "), plain(check.how), "{}", check.id);
        assert!(next("**If it does not hold:** ").len() > 20, "{}", check.id);
        assert!(next("**Can't be told:** ").len() > 20, "{}", check.id);
    }
}

#[test]
fn the_table_of_checks_is_the_programs() {
    let page = read("docs/selftest.md");
    let (_, checks) = page.split_once("\n## The checks\n").unwrap();
    let headings = checks.lines().filter_map(|line| line.strip_prefix("### "));
    let ids = CHECKS.iter().map(|check| check.id);
    assert!(headings.eq(ids), "the sections are others");
    let rows = checks.lines().filter(|line| line.starts_with("| ["));
    let expected = CHECKS
        .iter()
        .map(|Check { id, needs, .. }| format!("| [{id}](#{id}) | {needs} |"));
    assert_eq!(
        rows.map(plain).collect::<Vec<_>>(),
        expected.collect::<Vec<_>>()
    );
}
