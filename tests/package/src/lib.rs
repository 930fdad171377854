//! The driver package, without Microsoft's tools: [`stamp`] makes the INF of the .inx as stampinf does, [`rules`] holds
//! it to what infverif and the documentation say, and [`catalog`] lists the files as inf2cat does.

pub mod authenticode;
pub mod catalog;
pub mod inf;
pub mod rules;
pub mod stamp;
