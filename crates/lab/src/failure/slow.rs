//! Objects larger than the cache that pass through it to slow clients.

use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use nearside_config::ByteSize;
use nearside_loadtest::{Check, Crowd, dawdle};
use nearside_origin_sim::body;

use super::test_fleet::{FleetSettings, TestFleet};
use super::{all_right, holds, load, mib, secs};
use crate::claims::Claims;

/// Flags of `nearside loadtest slow`.
#[derive(Debug, Args)]
pub struct SlowArgs {
    /// Clients that take their answers slowly
    #[arg(long, value_name = "N", default_value_t = 50)]
    clients: usize,
    /// The memory of the edge's cache, which is full when they come
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    memory: ByteSize,
    /// The size of the objects
    #[arg(long, value_name = "SIZE", default_value = "20GiB")]
    size: ByteSize,
}

/// Memory that the process may use in addition to its cache.
const BESIDE_BYTES: u64 = 64 << 20;
/// Read rate of slow clients.
const BYTES_PER_SECOND: usize = 20_000;
/// Size of the objects that fill the cache.
const RESIDENT_BYTES: u64 = 256 << 10;

pub(super) async fn run(args: &SlowArgs, fleet: &mut TestFleet, claims: &mut Claims) -> anyhow::Result<()> {
    let (memory, size) = (args.memory.0, args.size.0);
    let edge = format!("[cache]\nmemory = \"{}MiB\"\n", mib(memory));
    fleet.start(&FleetSettings { edges: 1, edge: &edge, ..FleetSettings::default() }).await?;
    let edge = fleet.edges.first().context("there is an edge")?;
    let resident: Vec<_> = (0..memory / RESIDENT_BYTES * 5 / 4)
        .map(|n| edge.url(&format!("/resident{n}?cc=max-age%3D3600&size={RESIDENT_BYTES}")))
        .collect();
    let rate = u32::try_from(resident.len()).unwrap_or(1000).clamp(1, 1000);
    load(&resident, rate, secs(resident.len() as u64 / u64::from(rate) + 1), 20)?.run(false).await?;
    let full = fleet.peak_memory(&edge.name)?;
    // Of known and of unknown length.
    let large = |n: usize| {
        edge.url(&format!(
            "/large{n}?cc=max-age%3D3600&seed=14&size={size}{}",
            if n.is_multiple_of(2) { "" } else { "&chunked" }
        ))
    };
    let mut slow = tokio::task::JoinSet::new();
    for n in 0..args.clients {
        let url = large(n);
        slow.spawn(async move { dawdle(&url, BYTES_PER_SECOND).await });
    }
    let check: Check = Arc::new(|at, bytes| body::differs(14, at, bytes).is_none());
    let report = Crowd::new(&[large(args.clients), large(args.clients + 1)], 2, secs(0), check)?.run(secs(3600)).await;
    let peak = fleet.peak_memory(&edge.name)?;
    outln!(
        "      {} MiB with a full cache, at most {} MiB with {} slow clients; {} MiB passed in {:.1} s",
        mib(full),
        mib(peak),
        args.clients,
        mib(report.bytes),
        report.seconds
    );
    claims.check("who is not slow gets every byte right", all_right(&report));
    let ended = slow.try_join_next();
    claims.check(
        "the slow ones are served all the while",
        holds(ended.is_none(), || format!("one has ended: {ended:?}")),
    );
    let bounded = holds(peak <= memory + BESIDE_BYTES, || format!("{} MiB", mib(peak)));
    claims.check(&format!("the edge stays within its cache and {} MiB", mib(BESIDE_BYTES)), bounded);
    Ok(())
}
