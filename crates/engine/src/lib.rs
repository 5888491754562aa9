//! The way of a request: which site it belongs to, its key, what is stored for it, what is fetched, what the client gets. Also
//! what purges mean on this node, and explanations of both.
//!
//! Read [`request`] first, then [`tier`] for what the roles add.

pub mod explain;
mod fill;
pub mod objects;
pub mod pass;
pub mod purge;
pub mod request;
#[cfg(test)]
mod samples;
pub mod site;
pub mod tier;
