//! Large object whose origin breaks off after every tenth of it, while clients arrive at any time.

use clap::Args;
use nearside_config::{ByteSize, Span};
use nearside_loadtest::Crowd;

use super::test_fleet::{FleetSettings, TestFleet};
use super::{all_right, holds, mib, secs};
use crate::body_check::body_of;
use crate::claims::Claims;

/// Flags of `nearside loadtest cuts`.
#[derive(Debug, Args)]
pub struct CutsArgs {
    /// Clients that come in the course of it
    #[arg(long, value_name = "N", default_value_t = 100)]
    clients: usize,
    /// The size of the object; the origin breaks off every tenth of it
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    size: ByteSize,
    /// The time in which they come
    #[arg(long, value_name = "TIME", default_value = "5s")]
    within: Span,
}

/// Memory limit of an edge, whatever passes through it.
const EDGE_BYTES_MAX: u64 = 256 << 20;

pub(super) async fn run(args: &CutsArgs, fleet: &mut TestFleet, claims: &mut Claims) -> anyhow::Result<()> {
    let size = args.size.0;
    // The shield has room for all of it, the edges for a part only.
    let shield = format!("[cache]\nmemory = \"{}MiB\"\n", 4 * (mib(size) + 64));
    let edge = "[cache]\nmemory = \"128MiB\"\n";
    let settings = FleetSettings { shields: 1, edges: 3, shield: &shield, edge, ..FleetSettings::default() };
    fleet.start(&settings).await?;
    let path = format!("/cuts?cc=max-age%3D3600&etag=a&seed=12&size={size}&cut={}", size.div_ceil(10));
    let crowd = Crowd::new(&fleet.urls(&path), args.clients, args.within.0, body_of(12, size))?;
    let report = crowd.run(secs(1800)).await;
    outln!("      {} clients, {:.1} s, {} MiB to them", args.clients, report.seconds, mib(report.bytes));
    claims.check("every client gets every byte right", all_right(&report));
    let seen = fleet.ledger(Some(&path)).await?;
    outln!("      {} requests, {} MiB from the origin", seen.requests, mib(seen.bytes));
    claims.check("the origin sends at most a twentieth twice", within(seen.bytes, size + size / 20));
    for edge in &fleet.edges {
        let peak = fleet.peak_memory(&edge.name)?;
        claims.check(&format!("{} stays below 256 MiB ({} MiB)", edge.name, mib(peak)), within(peak, EDGE_BYTES_MAX));
    }
    Ok(())
}

fn within(bytes: u64, limit: u64) -> anyhow::Result<()> {
    holds(bytes <= limit, || format!("{bytes} bytes, the limit is {limit}"))
}
