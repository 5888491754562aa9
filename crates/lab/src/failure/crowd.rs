//! Many clients at once, over all edges, for one object that is not cached.

use std::time::Duration;

use clap::Args;
use nearside_config::ByteSize;
use nearside_loadtest::Crowd;

use super::test_fleet::{FleetSettings, TestFleet};
use super::{all_right, holds, mib, secs};
use crate::body_check::body_of;
use crate::claims::Claims;

/// Flags of `nearside loadtest crowd`.
#[derive(Debug, Args)]
pub struct CrowdArgs {
    /// Clients, each with a connection of its own
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    clients: usize,
    /// The size of the object
    #[arg(long, value_name = "SIZE", default_value = "8MiB")]
    size: ByteSize,
    /// Edges that they are spread over
    #[arg(long, value_name = "N", default_value_t = 6)]
    edges: usize,
}

pub(super) async fn run(args: &CrowdArgs, fleet: &mut TestFleet, claims: &mut Claims) -> anyhow::Result<()> {
    // Ten thousand clients that share a machine with their servers each wait long for their next byte.
    let edge = "[timeouts]\nstall = \"5m\"\n[limits]\nconnections_per_client = 50000\nrequests_per_client = 50000\n";
    fleet.start(&FleetSettings { shields: 2, edges: args.edges, edge, ..FleetSettings::default() }).await?;
    let size = args.size.0;
    // It takes its time, so that most come while it is on its way.
    let path = format!("/crowd?cc=max-age%3D3600&etag=a&seed=11&size={size}&rate={}", size.max(1));
    let crowd = Crowd::new(&fleet.urls(&path), args.clients, Duration::from_millis(200), body_of(11, size))?;
    let report = crowd.run(secs(600)).await;
    outln!("      {} clients, {:.1} s, {} MiB to them", args.clients, report.seconds, mib(report.bytes));
    claims.check("every client gets every byte right", all_right(&report));
    let seen = fleet.ledger(Some(&path)).await?;
    claims.check("the origin is asked once", holds(seen.requests == 1, || format!("{} times", seen.requests)));
    Ok(())
}
