//! The shapes of the admin API and of the logs: purge requests, receipts, events, explanations, nodes, stored objects, errors,
//! and expressions over log lines. No I/O.

pub mod event;
pub mod explanation;
pub mod filter;
pub mod member;
pub mod method;
pub mod node_state;
pub mod object;
pub mod order;
pub mod problem;
pub mod receipt;

pub use event::Event;
pub use explanation::{Explanation, Question};
pub use filter::Filter;
pub use member::{Member, Reach, Site};
pub use node_state::NodeState;
pub use object::Object;
pub use order::{Order, PurgeMode, PurgeTarget, Wait};
pub use problem::Problem;
pub use receipt::{NodeReceipt, Receipt, State};
