//! The laboratory: a demo, failure scenarios, load scenarios, and a comparison with other caches.
//!
//! Each of them starts processes and checks claims about what clients and the origin see. The processes are started from the
//! running program ([`std::env::current_exe`]), so all of this works inside of the program `nearside` only. The program parses
//! its arguments with the types of this crate, builds the runtime, and hands in a future that ends when a run has to stop; it
//! makes exit codes of [`Verdict`], [`UsageError`] and [`http_client::Unreachable`].

#[macro_use]
pub mod output;
#[macro_use]
mod usage;

mod body_check;
mod claims;
pub mod compare;
pub mod demo;
pub mod failure;
pub mod http_client;
pub mod load;
mod ports;
mod process_fleet;
mod process_stat;
pub mod simulate;
pub mod spelling;

pub use claims::Verdict;
pub use usage::UsageError;
