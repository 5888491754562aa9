//! Unattended tour: checks every claim of the demo.

use std::collections::BTreeSet;

use anyhow::{Context, bail, ensure};
use http::{Method, StatusCode};

use super::nodes::{NODES, node};
use super::wan_check;
use crate::claims::{Claims, Verdict};
use crate::http_client::{HttpReply, send};
use crate::process_fleet::ProcessFleet;

/// Maximum number of pages that a step tries until all edges have used the same shield.
const PAGES_MAX: u32 = 10;
/// Fresh for longer than the tour lasts on the slowest machine: its last steps want a hit.
const PAGE: &str = "/?cc=max-age%3D86400&size=20000&seed=7";
const NEVER_ASKED: &str = "/never-asked?cc=max-age%3D86400";
const FRA: u16 = 8081;
const NRT: u16 = 8085;
const ORIGIN: u16 = 8099;
const CONTROL: u16 = 7080;

/// Goes through the tour and prints a line for each step.
pub(crate) async fn check(fleet: &mut ProcessFleet) -> anyhow::Result<Verdict> {
    let mut tour = Claims::default();
    tour.check("every node is ready", all_ready().await);
    tour.check("the first request at Frankfurt is a miss, the second a hit", miss_then_hit(fleet).await);
    tour.check("Tokyo misses, its shield hits, the origin is not asked", second_edge(fleet).await);
    tour.check("all six edges give the same bytes", same_bytes(fleet).await);
    tour.check("the demo site says who served it", site().await);
    tour.check(
        "after a purge, which all eight nodes acknowledge, no edge has it, and the origin is asked once",
        purge(fleet).await,
    );
    wan_check::check(&mut tour, fleet).await?;
    // Cached, whatever has become of it on the way here.
    let cached = get(FRA, PAGE).await;
    fleet.stop("origin").await;
    let served = served_without_origin().await;
    tour.check("the origin is stopped: what is cached is still served", cached.and(served));
    tour.check("the origin is stopped: what is not cached is an error with its reason", error_without_origin().await);
    let again = start_again(fleet, "origin").await;
    tour.check("the origin is back: what was an error is served", again.and(back_again().await));
    Ok(tour.conclude("all steps passed", "step(s) failed", Some(fleet.folder())))
}

async fn start_again(fleet: &mut ProcessFleet, name: &str) -> anyhow::Result<()> {
    let member = node(name)?.member(fleet)?;
    fleet.start(member).await
}

async fn get(port: u16, path: &str) -> anyhow::Result<HttpReply> {
    send(Method::GET, &format!("http://127.0.0.1:{port}{path}"), None).await
}

/// Number of requests for a page at the origin.
async fn asked(path: &str) -> anyhow::Result<u64> {
    let ledger = get(ORIGIN, "/_ledger").await?;
    let ledger: serde_json::Value = serde_json::from_slice(&ledger.body).context("the ledger is no JSON")?;
    let entry = ledger.get("paths").and_then(|paths| paths.get(path));
    Ok(entry.and_then(|entry| entry.get("requests")?.as_u64()).unwrap_or(0))
}

/// Checks that the last member of `Cache-Status` contains `word`.
fn expect(reply: &HttpReply, word: &str) -> anyhow::Result<()> {
    let line = reply.field("cache-status");
    let last = line.rsplit(',').next().unwrap_or_default();
    ensure!(last.contains(word), "Cache-Status is {line:?}, not {word:?}");
    Ok(())
}

async fn all_ready() -> anyhow::Result<()> {
    for node in &NODES {
        let reply = send(Method::GET, &node.ready_url(), None).await?;
        ensure!(reply.status == StatusCode::OK, "{} answered {}", node.name, reply.status);
    }
    // Nodes reach the control process over the WAN.
    for _ in 0..600 {
        let page = send(Method::GET, &format!("http://127.0.0.1:{CONTROL}/v1/nodes"), None).await?;
        let page: serde_json::Value = serde_json::from_slice(&page.body).context("the page is no JSON")?;
        let nodes = page.get("nodes").and_then(|nodes| nodes.as_array()).map_or(&[][..], Vec::as_slice);
        if nodes.iter().filter(|node| node.get("state").is_some_and(|state| state == "ready")).count() == 8 {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    anyhow::bail!("not all nodes follow the control process")
}

/// Runs `step` with a new page, checks that the origin got exactly one request for it, and returns the replies.
///
/// On a busy machine a shield can be silent for seconds. Edges then mark it down and use the other shield, which sends a
/// second request to the origin. The step is repeated with another page if a node has marked an upstream down meanwhile, or
/// if the replies came through different upstreams.
///
/// The bodies of the pages have the seeds from `seed_first` on. `step` returns the number of requests that the origin got
/// for the page before the replies, and the replies.
async fn through_one_shield(
    fleet: &ProcessFleet,
    seed_first: u32,
    step: impl AsyncFn(&str, u32) -> anyhow::Result<(u64, Vec<HttpReply>)>,
) -> anyhow::Result<Vec<HttpReply>> {
    let marked_down = || fleet.log_lines_with("upstream marked down");
    let mut disturbed = Vec::new();
    for seed in seed_first..seed_first + PAGES_MAX {
        let page = format!("/?cc=max-age%3D86400&size=20000&seed={seed}");
        let marked_before = marked_down()?;
        let (before, replies) = step(&page, seed).await?;
        let times = asked(&page).await? - before;
        let shields: BTreeSet<_> = replies.iter().map(|reply| upstream_of(reply).to_owned()).collect();
        if shields.len() == 1 && marked_down()? == marked_before {
            ensure!(times == 1, "the origin was asked {times} times");
            return Ok(replies);
        }
        disturbed.push(format!("{shields:?}"));
    }
    bail!("shields were marked down with each of {PAGES_MAX} pages, which came through {}", disturbed.join(", "))
}

/// Name of the upstream node of a response; the edge's own name if the response came from the origin.
fn upstream_of(reply: &HttpReply) -> &str {
    reply.field("cache-status").split([';', ',']).next().unwrap_or_default().trim()
}

async fn miss_then_hit(fleet: &ProcessFleet) -> anyhow::Result<()> {
    let replies = through_one_shield(fleet, 100, async |page, _seed| {
        let replies = vec![get(FRA, page).await?, get(FRA, page).await?];
        Ok((0, replies))
    });
    let replies = replies.await?;
    let [miss, hit] = replies.as_slice() else { bail!("{} replies", replies.len()) };
    expect(miss, "fwd=uri-miss")?;
    let timing = miss.field("server-timing");
    let tells = ["edge;desc=\"edge-fra (Frankfurt)\";dur=", "shield;desc=\"shield-", "origin;dur="];
    ensure!(tells.iter().all(|part| timing.contains(part)), "Server-Timing is {timing:?}");
    expect(hit, "hit")
}

async fn second_edge(fleet: &ProcessFleet) -> anyhow::Result<()> {
    let replies = through_one_shield(fleet, 200, async |page, _seed| {
        let replies = vec![get(FRA, page).await?, get(NRT, page).await?];
        Ok((0, replies))
    });
    let replies = replies.await?;
    let reply = replies.last().context("no reply")?;
    expect(reply, "edge-nrt; fwd=uri-miss")?;
    let line = reply.field("cache-status");
    ensure!(line.starts_with("shield-") && line.contains("; hit"), "Cache-Status is {line:?}: no hit at the shield");
    Ok(())
}

/// Requests the page at each edge, one after the other.
async fn from_all_edges(page: &str) -> anyhow::Result<Vec<HttpReply>> {
    let mut replies = Vec::new();
    for node in NODES.iter().filter(|node| node.role == "edge") {
        replies.push(get(node.port, page).await.with_context(|| node.name)?);
    }
    Ok(replies)
}

async fn same_bytes(fleet: &ProcessFleet) -> anyhow::Result<()> {
    let all = through_one_shield(fleet, 300, async |page, seed| {
        let truth = nearside_origin_sim::body::bytes(u64::from(seed), 0, 20_000);
        let replies = from_all_edges(page).await?;
        for reply in &replies {
            ensure!(reply.body == truth, "other bytes; Cache-Status is {:?}", reply.field("cache-status"));
        }
        Ok((0, replies))
    });
    all.await.map(drop)
}

async fn site() -> anyhow::Result<()> {
    let reply = get(NRT, "/").await?;
    ensure!(reply.status == StatusCode::OK, "the page answered {}", reply.status);
    let timing = reply.field("server-timing");
    ensure!(timing.contains("edge;desc=\"edge-nrt (Tokyo)\""), "Server-Timing is {timing:?}");
    ensure!(reply.body.starts_with(b"<!doctype html>"), "the page is no page");
    Ok(())
}

/// Purges a page and returns the receipt of the first purge that every node acknowledges. A node that a busy machine kept
/// silent for seconds counts as unreachable, and applies the purge when it is back.
async fn acknowledged_purge(page: &str) -> anyhow::Result<serde_json::Value> {
    const TRIES: usize = 10;
    let mut last = None;
    for _ in 0..TRIES {
        all_ready().await?;
        let body =
            serde_json::json!({ "urls": [format!("http://demo.localhost{page}")], "timeout": "10s" }).to_string();
        let reply = send(Method::POST, &format!("http://127.0.0.1:{CONTROL}/v1/purge"), Some(body)).await?;
        let receipt: serde_json::Value = serde_json::from_slice(&reply.body).context("the receipt is no JSON")?;
        match reply.status {
            StatusCode::OK => return Ok(receipt),
            StatusCode::MULTI_STATUS => last = Some(receipt),
            status => anyhow::bail!("the control process answered {status}: {receipt}"),
        }
    }
    anyhow::bail!("{TRIES} purges were not acknowledged by every node; the last receipt: {}", last.unwrap_or_default())
}

async fn purge(fleet: &ProcessFleet) -> anyhow::Result<()> {
    let all = through_one_shield(fleet, 400, async |page, _seed| {
        from_all_edges(page).await?;
        let before = asked(page).await?;
        let receipt = acknowledged_purge(page).await?;
        let nodes = receipt.get("nodes").and_then(|nodes| nodes.as_array()).map_or(0, Vec::len);
        ensure!(nodes == 8, "{nodes} of 8 nodes have a receipt: {receipt}");
        let replies = from_all_edges(page).await?;
        for reply in &replies {
            expect(reply, "fwd=uri-miss")?;
        }
        Ok((before, replies))
    });
    all.await.map(drop)
}

async fn served_without_origin() -> anyhow::Result<()> {
    let reply = get(FRA, PAGE).await?;
    ensure!(reply.status == StatusCode::OK, "Frankfurt answered {}", reply.status);
    expect(&reply, "hit")
}

async fn error_without_origin() -> anyhow::Result<()> {
    let reply = get(FRA, NEVER_ASKED).await?;
    ensure!(reply.status == StatusCode::BAD_GATEWAY, "Frankfurt answered {}", reply.status);
    let reason = reply.field("cache-status");
    ensure!(reason.contains("detail=upstream-"), "Cache-Status is {reason:?}");
    ensure!(!reply.body.is_empty(), "the answer is empty");
    Ok(())
}

async fn back_again() -> anyhow::Result<()> {
    let reply = get(FRA, NEVER_ASKED).await?;
    ensure!(reply.status == StatusCode::OK, "Frankfurt answered {}", reply.status);
    Ok(())
}
