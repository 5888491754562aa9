//! A shield that is killed while clients request stored and new objects.

use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use http::Method;
use nearside_config::Span;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::test_fleet::{FleetSettings, TestFleet};
use super::{all_answered, holds, load, secs};
use crate::claims::Claims;
use crate::http_client::send;

/// Flags of `nearside loadtest kill`.
#[derive(Debug, Args)]
pub struct KillArgs {
    /// How long it is under load; the shield is killed after a third of it
    #[arg(long, value_name = "TIME", default_value = "15s")]
    duration: Span,
    /// Requests per second, for what is stored, and as many for what is not
    #[arg(long, value_name = "N", default_value_t = 200)]
    rate: u32,
    /// Freeze the shield (SIGSTOP) in place of killing it
    #[arg(long)]
    freeze: bool,
    /// Time limit of a request for a key of that shield, once another shield owns the key
    #[arg(long, value_name = "TIME", default_value = "500ms")]
    within: Span,
}

/// Number of stored objects.
const RESIDENT: u32 = 100;
/// Time in which the other shield must own the keys: a dead shield is noticed at once, a frozen one
/// after two failed probes.
const TAKEN_OVER_AFTER_SECS: u64 = 1;
const UNFROZEN_AFTER_SECS: u64 = 4;

pub(super) async fn run(args: &KillArgs, fleet: &mut TestFleet, claims: &mut Claims) -> anyhow::Result<()> {
    fleet.start(&FleetSettings { shields: 2, edges: 2, ..FleetSettings::default() }).await?;
    let edge = fleet.edges.first().context("there is an edge")?;
    let resident: Vec<_> =
        (0..RESIDENT).map(|n| edge.url(&format!("/resident{n}?cc=max-age%3D3600&size=10000"))).collect();
    load(&resident, RESIDENT * 2, secs(1), 50)?.run(false).await?;
    let due = u64::from(args.rate) * args.duration.0.as_secs().max(1);
    let new: Vec<_> = (0..due).map(|n| edge.url(&format!("/new{n}?cc=max-age%3D3600&size=10000"))).collect();
    let (hits, misses) =
        (load(&resident, args.rate, args.duration.0, 100)?, load(&new, args.rate, args.duration.0, 200)?);
    let victim = fleet.shields.first().context("there is a shield")?.name.clone();
    let (after, signal) =
        if args.freeze { (UNFROZEN_AFTER_SECS, Signal::STOP) } else { (TAKEN_OVER_AFTER_SECS, Signal::KILL) };
    let fault = async {
        sleep(args.duration.0 / 3).await;
        fleet.processes.signal(&victim, signal);
        sleep(secs(after)).await;
        taken_over(fleet, &victim, args.within.0).await
    };
    let (hits, misses, taken_over) = tokio::join!(hits.run(false), misses.run(false), fault);
    fleet.processes.signal(&victim, Signal::KILL);
    let (hits, misses) = (hits?, misses?);
    outln!(
        "      {} hits, p99 {:.1} ms; {} misses, p99 {:.1} ms, slowest {:.0} ms",
        hits.answered,
        hits.latency_ms.p99,
        misses.answered,
        misses.latency_ms.p99,
        misses.latency_ms.max
    );
    claims.check("no request for anything stored fails", all_answered(&hits));
    claims.check("no other request fails either", all_answered(&misses));
    claims.check(&format!("the other shield owns all keys {after} s later"), taken_over);
    let retries = edge.metric("nearside_upstream_retries_total").await?;
    let few = holds(retries <= u64::from(args.rate) * after, || format!("more than the load of {after} s"));
    claims.check(&format!("only what was under way is sent again ({retries} requests)"), few);
    Ok(())
}

/// Checks that new keys are answered by the other shield, each within `within`: a request that
/// still went to the victim would take longer.
async fn taken_over(fleet: &TestFleet, victim: &str, within: Duration) -> anyhow::Result<()> {
    let edge = fleet.edges.first().context("there is an edge")?;
    for n in 0..50 {
        let begin = Instant::now();
        let reply = send(Method::GET, &edge.url(&format!("/late{n}?cc=max-age%3D3600&size=100")), None).await?;
        ensure!(reply.status == 200, "status {}", reply.status);
        let said = reply.field("cache-status").to_owned();
        ensure!(said.contains("shield-") && !said.contains(victim), "answered by {said}");
        let took = begin.elapsed();
        ensure!(took < within, "it took {} ms", took.as_millis());
    }
    Ok(())
}
