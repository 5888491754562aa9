//! The laboratory: a demo, failure scenarios, load scenarios, and a comparison with other caches.
//!
//! Each of them starts processes, and checks claims about what clients and the origin see. The
//! processes run the current program ([`std::env::current_exe`]), so this crate works in the program
//! `nearside` only.
//!
//! Arguments of scenarios are parsed by the types of this crate. Everything else about the process is
//! the program's: it builds the runtime, hears signals and passes a future that ends when a run has to
//! stop, and maps [`Verdict`], [`UsageError`] and [`http_client::Unreachable`] to exit codes.
//!
//! Start reading at [`failure`] and `process_fleet`.

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
