//! The program as its users meet it: flags, exit codes, errors; and the rules that hold its crates together.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests fail by panicking; their helpers do too, and real processes live in real time"
)]

mod authorities;
mod bootstrap;
mod check;
mod command_line;
mod dependencies;
mod diagnostics;
mod documents;
mod fleet;
mod lies;
mod loadtest;
mod outgoing_tls;
mod scenarios;
mod signals;
mod supply;
mod wrong_input;
