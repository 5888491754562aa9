//! What a node tells of its requests: outcomes with reasons, the access log, metrics, traces, `Server-Timing`; and the clock
//! that they are dated by.
//!
//! **Invariant:** one [`Outcome`] per request, from which everything else is printed, so that nothing can disagree.

pub mod access_log;
pub mod clock;
pub mod histogram;
pub mod metrics;
pub mod outcome;
pub mod protocol;
pub mod reason;
pub mod record;
pub mod server_timing;
pub mod trace;

pub use clock::Clock;
pub use outcome::{Outcome, Verdict};
pub use protocol::Protocol;
pub use reason::Reason;
