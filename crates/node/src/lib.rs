//! A serving process: threads with their listeners, the admin listener, the metrics, the purge log, start and drain.
//!
//! **Invariant:** no bytes off the wire can panic a node; every wait has a limit.

mod admin;
mod collect;
mod descriptors;
mod follow;
pub mod machine;
mod node;
mod operator;

pub use descriptors::raise_descriptor_limit;
pub use nearside_engine::tier;
pub use nearside_front::accept::ListenError;
pub use nearside_front::tls::TlsError;
pub use nearside_telemetry::{Clock, Outcome, Reason, Verdict, clock, outcome, reason};
pub use node::{Node, StartError, Stopped};
