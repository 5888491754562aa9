//! The tour: every claim of the demo, asserted.

use std::process::ExitCode;

use anyhow::{Context, ensure};
use http::{Method, StatusCode};

use super::nodes::{NODES, node};
use super::planet;
use crate::admin_client::{Reply, send};
use crate::claims::Claims;
use crate::fleet::Fleet;

/// Fresh for longer than the tour lasts on the slowest machine: its last steps want a hit.
const PAGE: &str = "/?cc=max-age%3D86400&size=20000&seed=7";
const NEVER_ASKED: &str = "/never-asked?cc=max-age%3D86400";
const FRA: u16 = 8081;
const NRT: u16 = 8085;
const ORIGIN: u16 = 8099;
const CONTROL: u16 = 7080;

/// Goes through the tour; one line a step.
pub(crate) async fn check(fleet: &mut Fleet) -> anyhow::Result<ExitCode> {
    let mut tour = Claims::default();
    tour.check("every node is ready", all_ready().await);
    tour.check("the first request at Frankfurt is a miss, the second a hit", miss_then_hit().await);
    tour.check("Tokyo misses, its shield hits, the origin is not asked", second_edge().await);
    tour.check("all six edges give the same bytes", same_bytes().await);
    tour.check("the demo site says who served it", site().await);
    tour.check(
        "after a purge, which all eight nodes acknowledge, no edge has it, and the origin is asked once",
        purge().await,
    );
    planet::check(&mut tour, fleet).await?;
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

async fn start_again(fleet: &mut Fleet, name: &str) -> anyhow::Result<()> {
    let member = node(name)?.member(fleet)?;
    fleet.start(member).await
}

async fn get(port: u16, path: &str) -> anyhow::Result<Reply> {
    send(Method::GET, &format!("http://127.0.0.1:{port}{path}"), None).await
}

/// How often the origin was asked for the page.
async fn asked(path: &str) -> anyhow::Result<u64> {
    let ledger = get(ORIGIN, "/_ledger").await?;
    let ledger: serde_json::Value = serde_json::from_slice(&ledger.body).context("the ledger is no JSON")?;
    let entry = ledger.get("paths").and_then(|paths| paths.get(path));
    Ok(entry.and_then(|entry| entry.get("requests")?.as_u64()).unwrap_or(0))
}

/// The last member of `Cache-Status` holds `word`.
fn expect(reply: &Reply, word: &str) -> anyhow::Result<()> {
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

async fn miss_then_hit() -> anyhow::Result<()> {
    let miss = get(FRA, PAGE).await?;
    expect(&miss, "fwd=uri-miss")?;
    let timing = miss.field("server-timing");
    let tells = ["edge;desc=\"edge-fra (Frankfurt)\";dur=", "shield;desc=\"shield-", "origin;dur="];
    ensure!(tells.iter().all(|part| timing.contains(part)), "Server-Timing is {timing:?}");
    expect(&get(FRA, PAGE).await?, "hit")?;
    ensure!(asked(PAGE).await? == 1, "the origin was asked {} times", asked(PAGE).await?);
    Ok(())
}

async fn second_edge() -> anyhow::Result<()> {
    let reply = get(NRT, PAGE).await?;
    expect(&reply, "edge-nrt; fwd=uri-miss")?;
    let line = reply.field("cache-status");
    ensure!(line.starts_with("shield-") && line.contains("; hit"), "Cache-Status is {line:?}: no hit at the shield");
    ensure!(asked(PAGE).await? == 1, "the origin was asked again");
    Ok(())
}

async fn same_bytes() -> anyhow::Result<()> {
    let truth = nearside_origin_sim::body::bytes(7, 0, 20_000);
    for node in NODES.iter().filter(|node| node.role == "edge") {
        ensure!(get(node.port, PAGE).await?.body == truth, "{} gives other bytes", node.name);
    }
    ensure!(asked(PAGE).await? == 1, "the origin was asked again");
    Ok(())
}

async fn site() -> anyhow::Result<()> {
    let reply = get(NRT, "/").await?;
    ensure!(reply.status == StatusCode::OK, "the page answered {}", reply.status);
    let timing = reply.field("server-timing");
    ensure!(timing.contains("edge;desc=\"edge-nrt (Tokyo)\""), "Server-Timing is {timing:?}");
    ensure!(reply.body.starts_with(b"<!doctype html>"), "the page is no page");
    Ok(())
}

/// Purges the page and returns the receipt of the first purge that every node acknowledges. A node that a busy machine kept
/// silent for seconds counts as unreachable, and applies the purge when it is back.
async fn acknowledged_purge() -> anyhow::Result<serde_json::Value> {
    const TRIES: usize = 10;
    let mut last = None;
    for _ in 0..TRIES {
        all_ready().await?;
        let body =
            serde_json::json!({ "urls": [format!("http://demo.localhost{PAGE}")], "timeout": "10s" }).to_string();
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

async fn purge() -> anyhow::Result<()> {
    let before = asked(PAGE).await?;
    let receipt = acknowledged_purge().await?;
    let nodes = receipt.get("nodes").and_then(|nodes| nodes.as_array()).map_or(0, Vec::len);
    ensure!(nodes == 8, "{nodes} of 8 nodes have a receipt: {receipt}");
    for node in NODES.iter().filter(|node| node.role == "edge") {
        expect(&get(node.port, PAGE).await?, "fwd=uri-miss")?;
    }
    ensure!(asked(PAGE).await? == before + 1, "the origin was asked {} times", asked(PAGE).await? - before);
    Ok(())
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
