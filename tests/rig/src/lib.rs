//! Loads the built `resvflt.sys` into a process and is its Windows: executive, KMDF, port driver, disks, and the rules
//! of a verifier. What runs is the file that ships, mapped, relocated and bound; nothing of it is compiled again.
//!
//! A test enters a [`world::World`] (threads, clock, IRQL), loads the file on one or more [`node::Node`]s, plugs a
//! [`disk::Disk`] into each, and sends IRPs to the top of its stack. Whatever breaks one of the [`rules`] ends the
//! process and names the rule.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_ptr_alignment,
    clippy::missing_transmute_annotations,
    clippy::multiple_unsafe_ops_per_block,
    clippy::not_unsafe_ptr_arg_deref,
    reason = "the crate stands for C interfaces: raw pointers that a caller vouches for, lengths that are u32 there"
)]
#![allow(clippy::doc_markdown, reason = "names of the WDK are words here")]
#![allow(
    clippy::must_use_candidate,
    reason = "most of it is called by tests, which look at what they want"
)]

pub mod abi;
pub mod bench;
pub mod class;
mod crash;
pub mod demo;
pub mod disk;
pub mod etw;
mod exports;
pub mod faults;
pub mod fx;
pub mod image;
pub mod io;
pub mod node;
pub mod places;
pub mod pool;
pub mod port;
pub mod race;
pub mod registry;
#[cfg(feature = "report")]
pub mod report;
pub mod reserve6;
pub mod rules;
mod rundown;
pub mod scenario;
pub mod srb;
pub mod step;
pub mod storm;
pub mod stress;
pub mod symbols;
pub mod timeline;
pub mod world;
