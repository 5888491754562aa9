//! Purges of keys that get new versions while many clients read them. No client may get an older
//! version after the purge is acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, bail};
use clap::Args;
use http::{Method, StatusCode};
use nearside_loadtest::{Outcome, Race, RaceReport, Raised, VersionCheck};
use nearside_origin_sim::body;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::test_fleet::{FleetSettings, TestFleet};
use super::{holds, millis, secs};
use crate::claims::Claims;
use crate::http_client::send;

/// Flags of `nearside loadtest purge-race`.
#[derive(Debug, Args)]
pub struct PurgeRaceArgs {
    /// Purges, one after the other, each as soon as the one before is acknowledged and a moment has passed
    #[arg(long, value_name = "N", default_value_t = 1000)]
    purges: usize,
    /// Clients that read all the while
    #[arg(long, value_name = "N", default_value_t = 64)]
    clients: usize,
    /// Edges that they are spread over
    #[arg(long, value_name = "N", default_value_t = 6)]
    edges: usize,
    /// Meanwhile an edge and the control process are killed and started again, and a shield stands still for some seconds
    #[arg(long, conflicts_with = "targets")]
    faults: bool,
    /// Two control processes that share a log on this NATS server with JetStream, in place of one with a file: start it with
    /// `nats-server -js -sd FOLDER`
    #[arg(long, value_name = "URL", conflicts_with = "targets")]
    nats: Option<String>,
    /// In place of a fleet: a cache before `nearside origin-sim`, purged by the method PURGE; may repeat
    #[arg(long = "target", value_name = "URL", requires = "origin")]
    targets: Vec<String>,
    /// The origin-sim behind the targets
    #[arg(long, value_name = "URL", requires = "targets")]
    origin: Option<String>,
}

/// Number of keys that get new versions.
const KEYS: usize = 20;
const SEED: u64 = 17;
const BODY_BYTES: u64 = 2000;

pub(super) async fn run(args: &PurgeRaceArgs, fleet: &mut TestFleet, claims: &mut Claims) -> anyhow::Result<()> {
    let (targets, origin) = match &args.origin {
        Some(origin) => (args.targets.clone(), origin.trim_end_matches('/').to_owned()),
        None => {
            let (controls, nats) = (if args.nats.is_some() { 2 } else { 1 }, args.nats.as_deref());
            fleet
                .start(&FleetSettings { shields: 2, edges: args.edges, controls, nats, ..FleetSettings::default() })
                .await?;
            (fleet.urls(""), format!("http://127.0.0.1:{}", fleet.origin))
        }
    };
    let urls = urls(&targets);
    let race = Race::new(&urls, args.clients, check())?;
    let (origin, urls, has_faults) = (&origin, &urls, args.faults);
    let at = |port: &u16| PurgeTarget { control: format!("http://127.0.0.1:{port}"), host: "lab.test".to_owned() };
    let controls = &fleet.controls.iter().map(at).collect::<Vec<_>>();
    // Whether all is well, and how many purges were not acknowledged though it was.
    let (calm, strange) = (&AtomicBool::new(true), &AtomicUsize::new(0));
    let racing = race.run(args.purges, |raised: Raised| async move {
        let version = raise(origin, raised.key).await?;
        match controls.get(raised.number.checked_rem(controls.len()).unwrap_or_default()) {
            Some(control) => match watched(control, raised, version, calm, strange).await {
                // It is just being killed, or started again.
                Err(_) if has_faults => {
                    sleep(millis(20)).await;
                    Ok(Outcome::Unknown)
                }
                outcome => outcome,
            },
            None => by_method(urls.get(raised.key).context("there is such a key")?, version).await,
        }
    });
    let faults = async { if has_faults { faults(fleet, calm).await } else { Ok(()) } };
    let (report, faults) = tokio::join!(racing, faults);
    faults?;
    tell(&report?, has_faults, strange.load(Ordering::SeqCst), claims);
    Ok(())
}

/// Destination of purge requests, and the host of the site in cache keys.
pub(crate) struct PurgeTarget {
    /// URL of the control process.
    pub(crate) control: String,
    pub(crate) host: String,
}

/// Runs the race on running edges, with purges through a control process.
pub(crate) async fn race(
    edges: &[String],
    at: &PurgeTarget,
    origin: &str,
    purges: usize,
    clients: usize,
) -> anyhow::Result<RaceReport> {
    let race = Race::new(&urls(edges), clients, check())?;
    let purge = |raised: Raised| async move {
        let version = raise(origin, raised.key).await?;
        through_control(at, raised, version).await
    };
    race.run(purges, purge).await
}

/// URLs of each key at each cache.
fn urls(targets: &[String]) -> Vec<Vec<String>> {
    let of = |key| targets.iter().map(|target| format!("{}{}", target.trim_end_matches('/'), path(key))).collect();
    (0..KEYS).map(of).collect()
}

fn check() -> VersionCheck {
    Arc::new(|version: u64, bytes: &[u8]| {
        bytes.len() as u64 == BODY_BYTES && body::differs(SEED.wrapping_add(version << 32), 0, bytes).is_none()
    })
}

/// Purges, and counts the purge if it is not acknowledged although no fault was active meanwhile.
async fn watched(
    control: &PurgeTarget,
    raised: Raised,
    version: u64,
    calm: &AtomicBool,
    strange: &AtomicUsize,
) -> anyhow::Result<Outcome> {
    let was_calm = calm.load(Ordering::SeqCst);
    let outcome = through_control(control, raised, version).await;
    let is_calm = was_calm && calm.load(Ordering::SeqCst);
    if is_calm && !matches!(outcome, Ok(Outcome::Gone(_) | Outcome::Stale(_))) {
        strange.fetch_add(1, Ordering::SeqCst);
    }
    outcome
}

/// Injects faults one after the other; each is healed before the next.
async fn faults(fleet: &mut TestFleet, calm: &AtomicBool) -> anyhow::Result<()> {
    for name in ["edge-1", "control-1"] {
        sleep(secs(1)).await;
        calm.store(false, Ordering::SeqCst);
        fleet.processes.kill_and_start(name).await?;
        fleet.until_all_follow().await?;
        calm.store(true, Ordering::SeqCst);
    }
    sleep(secs(1)).await;
    calm.store(false, Ordering::SeqCst);
    fleet.processes.signal("shield-1", Signal::STOP);
    sleep(secs(5)).await;
    fleet.processes.signal("shield-1", Signal::CONT);
    fleet.until_all_follow().await?;
    calm.store(true, Ordering::SeqCst);
    Ok(())
}

fn path(key: usize) -> String {
    // Some are slow, so that many wait for them; some may be served stale.
    let slow = if key.is_multiple_of(3) { "" } else { "&ttfb=20" };
    let window = if key.is_multiple_of(2) { ",stale-while-revalidate%3D600" } else { "" };
    format!("/race/{key}?version&seed={SEED}&size={BODY_BYTES}&tag=key-{key}&cc=max-age%3D600{window}{slow}")
}

/// Raises the version of a key at the origin.
async fn raise(origin: &str, key: usize) -> anyhow::Result<u64> {
    let reply = send(Method::POST, &format!("{origin}/_bump?key=/race/{key}"), None).await?;
    let version = String::from_utf8_lossy(&reply.body).trim().parse();
    version.with_context(|| format!("{origin} is no origin-sim"))
}

async fn through_control(control: &PurgeTarget, raised: Raised, version: u64) -> anyhow::Result<Outcome> {
    let Raised { key, number } = raised;
    let soft = number % 4 >= 2;
    let mut order = match number % 3 {
        0 => json!({ "urls": [format!("http://{}{}", control.host, path(key))] }),
        1 => json!({ "tags": [format!("key-{key}")] }),
        _ => json!({ "prefixes": [format!("{}/race/{key}", control.host)] }),
    };
    if let Some(order) = order.as_object_mut() {
        order.extend([("soft".to_owned(), soft.into()), ("timeout".to_owned(), "10s".into())]);
    }
    let reply = send(Method::POST, &format!("{}/v1/purge", control.control), Some(order.to_string())).await?;
    let receipt: Value = serde_json::from_slice(&reply.body)?;
    Ok(match reply.status {
        StatusCode::OK if soft => Outcome::Stale(version),
        StatusCode::OK => Outcome::Gone(version),
        StatusCode::MULTI_STATUS => Outcome::Unknown,
        // It has been started again, and no node has come back yet.
        StatusCode::SERVICE_UNAVAILABLE => Outcome::Unknown,
        status => bail!("the control process answered {status}: {receipt}"),
    })
}

/// Purges each cache by method, as caches without a control process are purged.
async fn by_method(urls: &[String], version: u64) -> anyhow::Result<Outcome> {
    let purge: Method = "PURGE".parse()?;
    for url in urls {
        let reply = send(purge.clone(), url, None).await?;
        // nginx says 404 or 412 for what it does not have.
        if !(reply.status.is_success()
            || [StatusCode::NOT_FOUND, StatusCode::PRECONDITION_FAILED].contains(&reply.status))
        {
            return Ok(Outcome::Unknown);
        }
    }
    Ok(Outcome::Gone(version))
}

fn tell(report: &RaceReport, has_faults: bool, strange: usize, claims: &mut Claims) {
    let RaceReport { acknowledged, unknown, answers, old, mixed, failed, example } = report;
    let example = || example.clone().unwrap_or_else(|| "-".to_owned());
    outln!("      {acknowledged} purges acknowledged, {unknown} not; {answers} answers judged");
    if has_faults {
        let all = holds(strange == 0 && *acknowledged > 0, || format!("{strange} are not"));
        claims.check("purges are acknowledged but for those in the midst of it", all);
    } else {
        claims.check("all purges are acknowledged", holds(*unknown == 0, || format!("{unknown} are not")));
    }
    let none = holds(*old == 0, || format!("{old} are older; one of them: {}", example()));
    claims.check("no answer is older than what was acknowledged before it was asked for", none);
    claims
        .check("no answer has the bytes of another version", holds(*mixed == 0, || format!("{mixed}: {}", example())));
    if !has_faults {
        claims.check("no request fails", holds(*failed == 0, || format!("{failed} have failed")));
    }
}
