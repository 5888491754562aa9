//! A control process over sockets, without any node.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking; their helpers do too"
)]

mod access;
mod control_process;
