//! The program as its users meet it: flags, exit codes, errors; and the rules that hold its crates together.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking; their helpers do too"
)]

mod authorities;
mod bootstrap;
mod check;
mod command_line;
mod dependencies;
mod diagnostics;
mod documents;
mod fleet;
mod loadtest;
mod scenarios;
mod signals;
mod wrong_input;
