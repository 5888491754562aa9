//! An origin that freezes under a steady load, and thaws.

use clap::Args;
use nearside_config::Span;
use rustix::process::Signal;
use tokio::time::sleep;

use super::test_fleet::{FleetNode, FleetSettings, ORIGIN, TestFleet};
use super::{all_answered, holds, load, secs};
use crate::claims::Claims;

/// Flags of `nearside loadtest freeze`.
#[derive(Debug, Args)]
pub struct FreezeArgs {
    /// How long the origin is frozen
    #[arg(long, value_name = "TIME", default_value = "60s")]
    duration: Span,
    /// Requests per second and edge, for what is stored
    #[arg(long, value_name = "N", default_value_t = 200)]
    rate: u32,
    /// Time that the slowest 1 % of the responses may take beyond the deadline of 300 ms
    #[arg(long, value_name = "TIME", default_value = "50ms")]
    grace: Span,
}

/// Number of stored objects, each fresh for a second.
const RESIDENT: u32 = 50;
const DEADLINE_MS: f64 = 300.0;
/// Concurrency limit of each shield at the origin.
const CAP: u64 = 8;
const SHIELDS: u64 = 2;

pub(super) async fn run(args: &FreezeArgs, fleet: &mut TestFleet, claims: &mut Claims) -> anyhow::Result<()> {
    let settings = FleetSettings {
        shields: 2,
        edges: 3,
        shield: &format!("[origins]\nconcurrency = {}\nshared_by = {SHIELDS}\n", CAP * SHIELDS),
        edge: "[origins]\nconcurrency = 1\n",
        site: &format!("stale_deadline = \"{DEADLINE_MS}ms\"\n"),
        ..FleetSettings::default()
    };
    fleet.start(&settings).await?;
    let path = |n| format!("/resident{n}?cc=max-age%3D1&etag=a&size=10000&ttfb=5");
    let loads = |span| {
        let load = |edge: &FleetNode| {
            let urls: Vec<_> = (0..RESIDENT).map(|n| edge.url(&path(n))).collect();
            load(&urls, args.rate, span, 200)
        };
        fleet.edges.iter().map(load).collect::<Result<Vec<_>, _>>()
    };
    for load in loads(secs(1))? {
        load.run(false).await?;
    }
    let all = loads(args.duration.0 + secs(4))?;
    let mut running = tokio::task::JoinSet::new();
    for load in all {
        running.spawn(async move { load.run(false).await });
    }
    sleep(secs(1)).await;
    fleet.processes.signal(ORIGIN, Signal::STOP);
    sleep(args.duration.0).await;
    fleet.processes.signal(ORIGIN, Signal::CONT);
    while let Some(report) = running.join_next().await {
        let report = report??;
        let (p99, slowest) = (report.latency_ms.p99, report.latency_ms.max);
        outln!(
            "      an edge: {} requests, p99 {p99:.1} ms, slowest {slowest:.0} ms, {:?}",
            report.answered,
            report.cache
        );
        claims.check("nothing that is stored fails", all_answered(&report));
        let limit = DEADLINE_MS + args.grace.0.as_secs_f64() * 1000.0;
        let soon = holds(p99 <= limit, || format!("{p99:.1} ms"));
        claims.check(&format!("p99 stays below {limit:.0} ms"), soon);
    }
    let seen = fleet.ledger(None).await?;
    let kept = holds(seen.peak <= CAP * SHIELDS, || format!("{}", seen.peak));
    claims.check(&format!("the origin never had more than {} requests at one time", CAP * SHIELDS), kept);
    Ok(())
}
