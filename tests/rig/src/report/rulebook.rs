//! The rules that the rig stops a run for, each with a mistake that breaks it.

use maud::html;

use super::page::Figure;
use crate::rules;

/// The broken variants of the driver, one for each rule.
const VARIANTS: &str = include_str!("../../../broken/src/variants.rs");

/// What the variant does that breaks the rule of this id.
pub fn mistake(rule: &str) -> Option<String> {
    let begin = format!(" breaks \"{rule}\": \"");
    let (_, rest) = VARIANTS.split_once(&begin)?;
    Some(rest.split('"').next()?.replace('`', ""))
}

/// The figure.
pub fn figure() -> Figure {
    Figure {
        id: "rules",
        title: format!(
            "{} rules, each with a mistake that breaks it",
            rules::ALL.len()
        ),
        note: html! {
            "What broke one of them would have ended this run with the rule's name, as a bug check ends a node. That each of them \
             fires is tested with a variant of the driver that makes the mistake. Numbers after “facts” are sections of "
            code { "tests/rig/kmdf-behaviour.md" } "; files named " code { "fx*.cpp" } " are of Microsoft's published KMDF source."
        },
        body: html! {
            div.scroll { table.rows.rules {
                thead { tr { th { "rule" } th { "what it asks" } th { "broken by a driver that" } th { "source" } } }
                tbody { @for rule in rules::ALL { tr {
                    th { code { (rule.id) } }
                    td { (rule.asks) }
                    td { (mistake(rule.id).unwrap_or_default()) }
                    td.faint { (rule.source) }
                } } }
            } }
        },
        command: "cargo xtask build --broken && cargo test --manifest-path tests/Cargo.toml -p rig --features image --test rules"
            .into(),
    }
}
