//! Attacks that hold limited resources, while visitors must still get their pages.

use anyhow::Context;
use clap::Args;
use nearside_config::Span;
use nearside_loadtest::{Attack, AttackKind, Report};

use super::super::test_fleet::{FleetNode, FleetSettings, TestFleet};
use super::super::{all_answered, holds, load, mib, millis, secs};
use crate::claims::Claims;

/// Flags of the attacks that hold on to something.
#[derive(Debug, Args)]
pub struct HoldArgs {
    /// How long they do it
    #[arg(long = "for", value_name = "TIME", default_value = "20s")]
    duration: Span,
    /// Requests of visitors per second: for stored pages, and a fiftieth of that for others
    #[arg(long, value_name = "N", default_value_t = 500)]
    rate: u32,
    /// Number of attacking connections, in place of what makes the attack felt
    #[arg(long, value_name = "N")]
    connections: Option<usize>,
}

const MEMORY_BYTES: u64 = 256 << 20;
/// Memory that the process may use in addition to 1.25 times its cache.
const BESIDE_BYTES: u64 = 64 << 20;
/// Concurrency limit of the origin.
const CONCURRENCY: usize = 64;
/// Number of stored pages that visitors request.
const PAGES: u32 = 50;
/// Requests for stored pages per request for another page.
const HITS_PER_MISS: u32 = 50;
/// Percent of the other pages that have to be served during an attack.
const SERVED_PERCENT: f64 = 95.0;
/// Maximum number of bytes that the origin may send for a client that leaves: the buffers of two
/// connections.
const LEFT_BYTES_MAX: u64 = 12 << 20;

pub(super) async fn run(
    kinds: &[AttackKind],
    args: &HoldArgs,
    fleet: &mut TestFleet,
    claims: &mut Claims,
) -> anyhow::Result<()> {
    let edge = format!("[cache]\nmemory = \"{}MiB\"\n[origins]\nconcurrency = {CONCURRENCY}\n", mib(MEMORY_BYTES));
    fleet.start(&FleetSettings { edges: 1, edge: &edge, ..FleetSettings::default() }).await?;
    let node = fleet.edges.first().context("there is an edge")?;
    let visit = |name| visitors(node, name, args.rate, args.duration);
    visitors(node, "first", args.rate, Span(secs(2))).await?;
    let (calm, _) = visit("calm").await?;
    claims.check("without an attack every page is served", all_answered(&calm));

    let before = fleet.ledger(None).await?.bytes;
    let address = ([127, 0, 0, 1], node.port).into();
    let start = |kind: AttackKind| Attack::start(kind, address, args.connections.unwrap_or(kind.connections()));
    let attacks: Vec<_> = kinds.iter().copied().map(start).collect();
    tokio::time::sleep(secs(1)).await;
    let (hits, misses) = visit("attacked").await?;
    let requests: u64 = attacks.iter().map(Attack::requests).sum();
    let sent = fleet.ledger(None).await?.bytes - before;
    drop(attacks);
    let peak = fleet.peak_memory(&node.name)?;
    outln!(
        "      {requests} requests of attackers; pages: p99 {:.2} ms, without them {:.2} ms; at most {} MiB of memory",
        hits.latency_ms.p99,
        calm.latency_ms.p99,
        mib(peak)
    );
    claims.check("stored pages are served during the attack", all_answered(&hits));
    let ratio = hits.hit_ratio.unwrap_or(0.0);
    claims.check("and from the cache", holds(ratio > 0.99, || format!("{:.1} % of them", ratio * 100.0)));
    claims.check(&format!("{SERVED_PERCENT} % of other pages are served"), most_are_served(&misses));
    let bound = MEMORY_BYTES + MEMORY_BYTES / 4 + BESIDE_BYTES;
    let bounded = holds(peak <= bound, || format!("{} MiB", mib(peak)));
    claims.check(&format!("the edge stays within {} MiB", mib(bound)), bounded);
    if kinds == [AttackKind::Leavers] {
        let most = requests * LEFT_BYTES_MAX;
        let spared = holds(sent <= most, || format!("{} MiB for {requests} of them", mib(sent)));
        claims.check("the origin sends little for clients that leave", spared);
    }
    let soon = hits.latency_ms.p99 <= 2.0 * calm.latency_ms.p99;
    claims
        .measure("the slowest 1 % of the pages take at most twice as long", holds(soon, || "they take longer".into()));
    claims.check("nothing is left when they have gone", nothing_left(node).await);
    Ok(())
}

/// Runs visitors for `duration`: of stored pages, and of pages that were never requested.
async fn visitors(node: &FleetNode, name: &str, rate: u32, duration: Span) -> anyhow::Result<(Report, Report)> {
    let stored: Vec<_> = (0..PAGES).map(|n| node.url(&format!("/page{n}?cc=max-age%3D3600&size=10000"))).collect();
    let rate_of_others = (rate / HITS_PER_MISS).max(1);
    let count = u64::from(rate_of_others) * (duration.0.as_secs() + 1);
    let others: Vec<_> = (0..count).map(|n| node.url(&format!("/{name}{n}?cc=no-store&size=10000"))).collect();
    let stored = load(&stored, rate, duration.0, 50)?;
    let others = load(&others, rate_of_others, duration.0, 50)?;
    let (stored, others) = tokio::join!(stored.run(false), others.run(false));
    Ok((stored?, others?))
}

fn most_are_served(report: &Report) -> anyhow::Result<()> {
    let due = report.due.unwrap_or(report.answered);
    let served = report.statuses.get(&200).copied().unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let percent = served as f64 * 100.0 / due.max(1) as f64;
    let failure = report.last_failure.as_deref().unwrap_or("-");
    holds(percent >= SERVED_PERCENT, || format!("{percent:.1} % of {due}: {:?}, the last: {failure}", report.statuses))
}

/// Waits until no request to the origin is in progress or queued.
async fn nothing_left(node: &FleetNode) -> anyhow::Result<()> {
    let mut left = 0;
    for _ in 0..600 {
        left = node.metric("nearside_upstream_in_flight").await? + node.metric("nearside_upstream_waiting").await?;
        if left == 0 {
            return Ok(());
        }
        tokio::time::sleep(millis(100)).await;
    }
    anyhow::bail!("{left} requests are still at the origin or wait for it")
}
