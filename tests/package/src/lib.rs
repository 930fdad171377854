//! The driver package's INF, without Microsoft's tools: [`stamp`] makes it of the .inx as stampinf does, and [`rules`]
//! holds it to what infverif and the documentation say.

pub mod inf;
pub mod rules;
pub mod stamp;
