//! Edges (and shields behind them) in front of an origin, over real sockets, with a clock that tests move.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::large_futures,
    clippy::too_many_lines,
    reason = "tests fail by panicking; their helpers do too"
)]

mod bed;
mod bodies;
mod breaker;
mod caching;
mod client_limits;
mod cookies;
mod credentials;
mod crowding;
mod doors;
mod explain;
mod failure;
mod fleet;
mod front;
mod hits;
mod interim;
mod invalidation;
mod keys;
mod lanes;
mod law;
mod leaving;
mod life;
mod metrics;
mod nats;
mod origins;
mod pass;
mod plugins;
mod protection;
mod purge;
mod ranges;
mod refused;
mod resume;
mod shares;
mod sharing;
mod slices;
mod steering;
mod tiers;
mod tls;
mod unshared;
