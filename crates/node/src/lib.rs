//! What an edge and a shield share: the fronts that clients talk to, the engine that decides, the fills and the pass
//! lane that ask next hops, and everything an operator sees.
//!
//! Read `docs/architecture.md` first, then [`request`] for the way of a request and [`tier`] for what the roles add. Only this crate names pingora.
//!
//! **Invariants:** no bytes off the wire can panic a node; every wait has a limit; one [`Outcome`] per request.

mod access_log;
mod admin;
pub mod clock;
mod collect;
mod descriptors;
mod explain;
mod fill;
mod follow;
mod front;
mod h1;
mod histogram;
mod hop;
pub mod machine;
mod metrics;
mod node;
mod objects;
mod operator;
pub mod outcome;
mod pass;
mod purge;
pub mod reason;
mod record;
mod request;
mod server_timing;
mod site;
pub mod tier;
mod trace;

pub use clock::Clock;
pub use descriptors::raise_descriptor_limit;
pub use front::accept::ListenError;
pub use front::tls::TlsError;
pub use node::{Node, StartError, Stopped};
pub use outcome::{Outcome, Verdict};
pub use reason::Reason;
