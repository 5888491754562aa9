//! Clients with unusual behaviour, beside ordinary clients that must not notice.

use anyhow::Context;
use clap::Args;
use nearside_config::Span;
use nearside_loadtest::{Crowd, CrowdReport, arrivals, dawdle, part, vanish};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::test_fleet::{FleetSettings, TestFleet};
use super::{all_right, holds, millis, secs};
use crate::body_check::body_of;
use crate::claims::Claims;

/// Flags of `nearside loadtest odd`.
#[derive(Debug, Args)]
pub struct OddArgs {
    /// Clients of each kind: such as take a byte a second, vanish after the head, want a part; and ordinary ones
    #[arg(long, value_name = "N", default_value_t = 20)]
    clients: usize,
    /// What the ordinary ones may take longer beside the odd ones than without them
    #[arg(long, value_name = "TIME", default_value = "250ms")]
    longer: Span,
    /// How much later than who asked first others may have the same byte, at the median
    #[arg(long, value_name = "TIME", default_value = "1ms")]
    later: Span,
}

/// Size of the objects, which the origin sends slowly.
const SIZE_BYTES: u64 = 4 << 20;
const SECONDS: u64 = 2;
/// Distance between two bytes whose arrival times are compared.
const MARK_BYTES: u64 = 64 << 10;

pub(super) async fn run(args: &OddArgs, fleet: &mut TestFleet, claims: &mut Claims) -> anyhow::Result<()> {
    fleet.start(&FleetSettings { shields: 1, edges: 1, ..FleetSettings::default() }).await?;
    let calm = ordinary(fleet, &path("calm"), args.clients).await?;
    claims.check("every client of an object on its way gets every byte right", all_right(&calm));

    let busy = path("busy");
    let url = fleet.edges.first().context("there is an edge")?.url(&busy);
    let (mut slow, mut gone, mut parts) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
    let check = body_of(13, SIZE_BYTES);
    for _ in 0..args.clients {
        let url = url.clone();
        slow.spawn(async move { dawdle(&url, 1).await });
    }
    // The first part of what nobody has asked for would be fetched by itself.
    fleet.until_asked(&busy).await?;
    for n in 0..args.clients {
        gone.spawn({
            let url = url.clone();
            async move { vanish(&url).await }
        });
        let (url, check) = (url.clone(), check.clone());
        let first = SIZE_BYTES / 2 + n as u64 * 1000;
        parts.spawn(async move { part(&url, first, first + 100_000, &check).await });
    }
    let beside = ordinary(fleet, &busy, args.clients).await?;
    claims.check("the same beside as many of each odd kind", all_right(&beside));
    outln!("      {:.2} s without them, {:.2} s with them", calm.seconds, beside.seconds);
    let longer = beside.seconds - calm.seconds;
    let soon = holds(longer <= args.longer.0.as_secs_f64(), || format!("{longer:.2} s more"));
    claims.check("nobody waits for them", soon);
    claims.check("who vanishes has had the head of the answer", joined(gone, |gone| gone.map_err(Into::into)).await);
    let right = joined(parts, |part| part?.map_err(anyhow::Error::msg)).await;
    claims.check("who asks for a part gets it from the same fill", right);
    let ended = slow.try_join_next();
    claims.check("who takes a byte a second is served all the while", holds(ended.is_none(), || format!("{ended:?}")));
    let seen = fleet.ledger(Some(&busy)).await?;
    claims.check("the origin is asked once", holds(seen.requests == 1, || format!("{} times", seen.requests)));

    let later = later(fleet, args.clients).await?;
    let soon = holds(later < args.later.0.as_secs_f64() * 1000.0, || "that is too late".to_owned());
    claims.check(&format!("who follows has a byte {later:.2} ms after the first, at the median"), soon);
    Ok(())
}

fn path(name: &str) -> String {
    format!("/{name}?cc=max-age%3D3600&etag=a&seed=13&size={SIZE_BYTES}&rate={}", SIZE_BYTES / SECONDS)
}

async fn ordinary(fleet: &TestFleet, path: &str, clients: usize) -> anyhow::Result<CrowdReport> {
    let crowd = Crowd::new(&fleet.urls(path), clients, millis(100), body_of(13, SIZE_BYTES))?;
    Ok(crowd.run(secs(60)).await)
}

/// Waits for all tasks of a set, and checks the result of each.
async fn joined<T: 'static>(mut tasks: JoinSet<T>, is_well: impl Fn(T) -> anyhow::Result<()>) -> anyhow::Result<()> {
    while let Some(task) = tasks.join_next().await {
        is_well(task?)?;
    }
    Ok(())
}

/// Measures how much later clients that join a fill get a byte than the client that began it: the
/// median, in milliseconds.
async fn later(fleet: &TestFleet, clients: usize) -> anyhow::Result<f64> {
    let url = fleet.edges.first().context("there is an edge")?.url(&path("follow"));
    let first = tokio::spawn({
        let url = url.clone();
        async move { arrivals(&url, MARK_BYTES).await }
    });
    sleep(millis(200)).await;
    let mut others = JoinSet::new();
    for _ in 0..clients.max(1) {
        let url = url.clone();
        others.spawn(async move { arrivals(&url, MARK_BYTES).await });
    }
    // By then they have what had come before them.
    let since = Instant::now() + millis(200);
    let others = others.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let first = first.await??;
    let mut spans = Vec::new();
    for other in others {
        let both = first.iter().zip(other).filter(|(first, _)| **first > since);
        spans.extend(both.map(|(first, other)| {
            let ahead = first.saturating_duration_since(other).as_secs_f64();
            other.saturating_duration_since(*first).as_secs_f64() - ahead
        }));
    }
    spans.sort_by(f64::total_cmp);
    Ok(spans.get(spans.len() / 2).context("nothing could be compared")? * 1000.0)
}
