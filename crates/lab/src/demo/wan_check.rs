//! Checks of the simulated WAN and of steering, as part of the unattended tour.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use http::Method;
use serde_json::{Value, json};
use tokio::net::UdpSocket;

use super::browser::WanBrowser;
use super::fault_client::wan;
use super::nodes::NODES;
use crate::claims::Claims;
use crate::http_client::send;
use crate::process_fleet::ProcessFleet;

/// Number of reports of a network after which its clients should be moved.
const REPORTS: usize = 5;
/// Number of reports after which its clients must be moved: on a busy machine round trips vary by more
/// than the change to notice.
const REPORTS_MAX: usize = 30;
/// Maximum error of a round trip: relative to the table, or in milliseconds, whichever is larger.
const ERROR_MAX: f64 = 0.05;
const ERROR_MS_MAX: f64 = 2.0;
/// Maximum relative error of the transfer time of a body.
const ERROR_MAX_OF_BODY: f64 = 0.1;
/// Number of attempts to report, and the pause between two. One report per second counts for each
/// city.
const TRIES_MAX: usize = 20;
const TRY_AGAIN: Duration = Duration::from_millis(250);
/// Number of measurements of a round trip that seems too long.
const LOOKS_MAX: usize = 4;

/// City with clients, and its round trip times to each edge and to the origin, in milliseconds.
struct CityViewer {
    code: String,
    edges: BTreeMap<String, f64>,
    origin_ms: f64,
}

impl CityViewer {
    /// Edge with the shortest round trip time.
    fn nearest(&self) -> &str {
        let edges = self.edges.iter().min_by(|a, b| a.1.total_cmp(b.1));
        edges.map_or("", |(name, _)| name)
    }

    /// Edge to which the router redirects its clients, and the whole `X-Route`.
    async fn sent_to(&self) -> anyhow::Result<(String, String)> {
        let reply = WanBrowser::open(&format!("{}.localhost", self.code)).await?.get("/").await?;
        let told = reply.field("x-route").to_owned();
        ensure!(reply.status.as_u16() == 302, "the router answered {}", reply.status);
        Ok((told.split(';').next().unwrap_or_default().to_owned(), told))
    }

    /// Measures some edges and reports the times, as the script in a browser does, until a report
    /// counts.
    async fn measures(&self) -> anyhow::Result<()> {
        for _ in 0..TRIES_MAX {
            if self.reports().await? > 0 {
                return Ok(());
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
        bail!("no report from {} counts", self.code)
    }

    /// Measures some edges and reports the times; returns how many of them the router took.
    async fn reports(&self) -> anyhow::Result<u64> {
        let router = format!("{}.localhost", self.code);
        let page = WanBrowser::open(&router).await?.get("/.well-known/nearside/candidates").await?;
        let page: Value = serde_json::from_slice(&page.body)?;
        let mut times = serde_json::Map::new();
        for edge in page.get("edges").and_then(Value::as_array).context("no candidates")? {
            let text = |key| edge.get(key).and_then(Value::as_str).unwrap_or_default();
            let host = text("url").trim_start_matches("http://").split(':').next().unwrap_or_default();
            let time = WanBrowser::open(host).await?.round_trip().await?;
            times.insert(text("id").to_owned(), json!(time.as_secs_f64() * 1000.0));
        }
        let body = json!({ "proof": page.get("proof"), "times": times }).to_string();
        // On a new connection: the router closes one that has been idle for as long as this may have taken.
        let reply = WanBrowser::open(&router).await?.ask(Method::POST, "/.well-known/nearside/report", &body).await?;
        ensure!(reply.status.is_success(), "the report was answered {}", reply.status);
        let said: Value = serde_json::from_slice(&reply.body)?;
        Ok(said.get("taken").and_then(Value::as_u64).unwrap_or_default())
    }
}

/// Checks everything and prints a line for each claim.
pub(crate) async fn check(tour: &mut Claims, fleet: &mut ProcessFleet) -> anyhow::Result<()> {
    let viewers = viewers().await?;
    tour.measure("at rest everything together takes less than 5 % of a core", at_rest(fleet).await);
    tour.check("and less than 600 MiB of memory", memory(fleet));
    tour.check("from all twelve cities, steering picks the edge with the shortest way", all_near(&viewers).await);
    tour.check("each arrives at its edge, which serves the page", all_arrive(&viewers).await);
    tour.check("names lead to the same edges as redirects", all_named(&viewers).await);
    tour.measure("simulated round trips are within 5 % or 2 ms of the table", round_trips(&viewers).await);
    tour.measure(
        "a megabyte on a new connection takes as long as theory says, within 10 %",
        slow_start(&viewers).await,
    );
    let reports = slowed(&viewers).await;
    let soon = match &reports {
        Ok(reports) if *reports > REPORTS => Err(anyhow::anyhow!("it took {reports}")),
        _ => Ok(()),
    };
    tour.check("Frankfurt gets 200 ms slower: its clients move, and come back when it is healed", reports.map(drop));
    tour.measure("each of it after five reports at most", soon);
    tour.check(
        "London is killed: its clients are sent elsewhere at once, and come back when it is back",
        killed(&viewers, fleet).await,
    );
    tour.check(
        "the ways to a shield are cut: what is not cached comes through the other, or from the origin",
        cut().await,
    );
    Ok(())
}

async fn viewers() -> anyhow::Result<Vec<CityViewer>> {
    let page = wan(Method::GET, "/v1/wan", None).await?;
    let viewers = page.get("viewers").and_then(Value::as_array).context("the WAN knows no viewers")?;
    let viewer = |viewer: &Value| {
        let times = viewer.get("round_trip_ms")?.as_object()?;
        let edges = times.iter().filter(|(name, _)| name.starts_with("edge-"));
        let edges = edges.filter_map(|(name, ms)| Some((name.clone(), ms.as_f64()?))).collect();
        let code = viewer.get("code")?.as_str()?.to_owned();
        Some(CityViewer { code, edges, origin_ms: times.get("origin")?.as_f64()? })
    };
    let viewers: Vec<_> = viewers.iter().filter_map(viewer).collect();
    ensure!(viewers.len() == 12, "{} viewers", viewers.len());
    Ok(viewers)
}

async fn all_near(viewers: &[CityViewer]) -> anyhow::Result<()> {
    for viewer in viewers {
        let (edge, told) = viewer.sent_to().await?;
        ensure!(edge == viewer.nearest(), "{} is sent to {told}, and {} is nearest", viewer.code, viewer.nearest());
    }
    Ok(())
}

async fn all_arrive(viewers: &[CityViewer]) -> anyhow::Result<()> {
    for viewer in viewers {
        let code = viewer.nearest().trim_start_matches("edge-");
        let reply = WanBrowser::open(&format!("{code}.{}.localhost", viewer.code)).await?.get("/").await?;
        let timing = reply.field("server-timing");
        ensure!(
            reply.status.as_u16() == 200 && timing.contains(viewer.nearest()),
            "{}: {} {timing}",
            viewer.code,
            reply.status
        );
    }
    Ok(())
}

/// Checks the responses of the name server for the network of each city.
async fn all_named(viewers: &[CityViewer]) -> anyhow::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    for (number, viewer) in (1_u8..).zip(viewers) {
        // www.demo.localhost A, with EDNS Client Subnet 127.1.N.0/24.
        let mut query = b"\0\x07\x01\0\0\x01\0\0\0\0\0\x01\x03www\x04demo\x09localhost\0\0\x01\0\x01".to_vec();
        query.extend(b"\0\0\x29\x04\xd0\0\0\0\0\0\x0b\0\x08\0\x07\0\x01\x18\0\x7f\x01");
        query.push(number);
        socket.send_to(&query, "127.0.0.1:7053").await?;
        let mut answer = [0; 512];
        let length =
            tokio::time::timeout(Duration::from_secs(5), socket.recv(&mut answer)).await.context("no answer")??;
        // The edges have the addresses 127.0.2.1 to 6, in the order of the demo; the record's data are four bytes before the last one.
        let answer = answer.get(..length).unwrap_or_default();
        let found = answer.windows(6).find_map(|part| match part {
            [0, 4, 127, 0, 2, edge] => Some(*edge),
            _ => None,
        });
        let edges: Vec<_> = NODES.iter().filter(|node| node.role == "edge").map(|node| node.name).collect();
        let edge = found.and_then(|edge| edges.get(usize::from(edge) - 1)).context("no address of an edge")?;
        ensure!(*edge == viewer.nearest(), "{} is told of {edge}, and {} is nearest", viewer.code, viewer.nearest());
    }
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

async fn round_trips(viewers: &[CityViewer]) -> anyhow::Result<()> {
    let each = viewers.iter().map(|viewer| async move {
        for (edge, expected) in &viewer.edges {
            let host = format!("{}.{}.localhost", edge.trim_start_matches("edge-"), viewer.code);
            // A busy machine only ever adds to a time: the shortest of a few looks is the way's own.
            let is_right = |measured: f64| (measured - expected).abs() <= ERROR_MS_MAX.max(expected * ERROR_MAX);
            let mut measured = f64::INFINITY;
            for _ in 0..LOOKS_MAX {
                measured = measured.min(ms(WanBrowser::open(&host).await?.round_trip().await?));
                if is_right(measured) {
                    break;
                }
            }
            ensure!(
                is_right(measured),
                "{} to {edge}: {measured:.1} ms, and the table says {expected} ms",
                viewer.code
            );
        }
        anyhow::Ok(())
    });
    futures_util::future::try_join_all(each).await.map(drop)
}

/// Checks the transfer time of a body from the city that is about 80 ms away from the origin. In
/// theory it is the handshake, the request with the first ten segments, and a round trip each time
/// the window doubles.
async fn slow_start(viewers: &[CityViewer]) -> anyhow::Result<()> {
    const BYTES: u32 = 1 << 20;
    const SEGMENT: u32 = 1460;
    let viewer = viewers.iter().min_by(|a, b| (a.origin_ms - 80.0).abs().total_cmp(&(b.origin_ms - 80.0).abs()));
    let viewer = viewer.context("no viewer")?;
    let (mut sent, mut rounds) = (0, 0_u32);
    while sent < BYTES.div_ceil(SEGMENT) {
        sent += 10 << rounds;
        rounds += 1;
    }
    // 200 Mbit/s.
    let on_the_line = f64::from(BYTES) * 8.0 / 200_000.0 / f64::from(1 << rounds) * f64::from(1 << (rounds - 1));
    let theory = viewer.origin_ms * f64::from(1 + rounds) + on_the_line;
    let (mut best, error) = (f64::MAX, |best: f64| (best - theory).abs() / theory);
    for _ in 0..3 {
        let mut browser = WanBrowser::open(&format!("origin.{}.localhost", viewer.code)).await?;
        let reply = browser.get(&format!("/far?size={BYTES}&seed=3")).await?;
        ensure!(reply.body.len() == usize::try_from(BYTES)?, "{} bytes came", reply.body.len());
        best = best.min(ms(browser.elapsed()));
        // More than twice the expected time: another try on such a busy machine would only take long.
        if !(ERROR_MAX_OF_BODY..1.0).contains(&error(best)) {
            break;
        }
    }
    ensure!(
        error(best) <= ERROR_MAX_OF_BODY,
        "from {} it took {best:.0} ms, and by theory {theory:.0} ms",
        viewer.code
    );
    outln!("      from {} over {} ms: {best:.0} ms, by theory {theory:.0} ms", viewer.code, viewer.origin_ms);
    Ok(())
}

/// Returns the larger number of reports, of moving and of coming back.
async fn slowed(viewers: &[CityViewer]) -> anyhow::Result<usize> {
    let theirs: Vec<_> = viewers.iter().filter(|viewer| viewer.nearest() == "edge-fra").collect();
    ensure!(!theirs.is_empty(), "Frankfurt has no clients");
    let fault = json!({ "what": "edge-fra", "slower_ms": 200.0 }).to_string();
    wan(Method::POST, "/v1/faults", Some(fault)).await?;
    let moved = moved(&theirs, |edge| edge != "edge-fra").await;
    wan(Method::DELETE, "/v1/faults/edge-fra", None).await?;
    let reports = moved?;
    let back = self::moved(&theirs, |edge| edge == "edge-fra").await?;
    outln!("      {} cities have moved after {reports} reports, and were back after {back}", theirs.len());
    Ok(reports.max(back))
}

/// Number of reports of each city after which all are sent where they should be.
async fn moved(viewers: &[&CityViewer], is_there: impl Fn(&str) -> bool) -> anyhow::Result<usize> {
    for reports in 1..=REPORTS_MAX {
        let each = viewers.iter().map(|viewer| async {
            viewer.measures().await?;
            anyhow::Ok(is_there(&viewer.sent_to().await?.0))
        });
        if futures_util::future::try_join_all(each).await?.iter().all(|is_there| *is_there) {
            return Ok(reports);
        }
    }
    bail!("some have not moved after {REPORTS_MAX} reports")
}

async fn killed(viewers: &[CityViewer], fleet: &mut ProcessFleet) -> anyhow::Result<()> {
    let theirs: Vec<_> = viewers.iter().filter(|viewer| viewer.nearest() == "edge-lon").collect();
    ensure!(!theirs.is_empty(), "London has no clients");
    let member = fleet.kill("edge-lon").await.context("it does not run")?;
    // Its connections end with it, half a round trip away.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut wrong = None;
    for viewer in &theirs {
        let (edge, told) = viewer.sent_to().await?;
        if edge == "edge-lon" {
            wrong = Some(told);
        }
    }
    fleet.start(member).await?;
    if let Some(told) = wrong {
        bail!("somebody is still sent to {told}");
    }
    for _ in 0..600 {
        if theirs.first().context("nobody")?.sent_to().await?.0 == "edge-lon" {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("nobody is sent there when it is back")
}

async fn cut() -> anyhow::Result<()> {
    let fault = json!({ "what": "shield-fra", "cut": true }).to_string();
    wan(Method::POST, "/v1/faults", Some(fault)).await?;
    let served = async {
        for number in 0..4 {
            let url = format!("http://127.0.0.1:8081/behind-a-cut?cc=max-age%3D60&number={number}");
            let reply = send(Method::GET, &url, None).await?;
            ensure!(reply.status.as_u16() == 200, "Frankfurt answered {}", reply.status);
        }
        Ok(())
    };
    let served = served.await;
    wan(Method::DELETE, "/v1/faults/shield-fra", None).await?;
    served
}

async fn at_rest(fleet: &ProcessFleet) -> anyhow::Result<()> {
    const LOOKS: Duration = Duration::from_secs(5);
    let before = fleet.processor_time()?;
    tokio::time::sleep(LOOKS).await;
    let percent = (fleet.processor_time()? - before).as_secs_f64() / LOOKS.as_secs_f64() * 100.0;
    outln!("      {percent:.1} % of a core");
    ensure!(percent < 5.0, "{percent:.1} %");
    Ok(())
}

fn memory(fleet: &ProcessFleet) -> anyhow::Result<()> {
    let mib = fleet.memory()? >> 20;
    outln!("      {mib} MiB");
    ensure!(mib < 600, "{mib} MiB");
    Ok(())
}
