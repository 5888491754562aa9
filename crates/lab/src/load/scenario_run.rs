//! `nearside loadtest run`: scenarios one after the other, on running processes, by default a demo
//! on this machine.

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use http::{Method, Uri};
use nearside_loadtest::{Crowd, CrowdReport, OriginReport, RaceReport, Report, dawdle, page};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use super::scenario::{BUILT_IN, CrowdPart, LoadScenario, RacePart, ScenarioEvent, SlowPart};
use crate::body_check::body_of;
use crate::claims::{Claims, Verdict};
use crate::demo::order;
use crate::failure::purge_race::{PurgeTarget, race};
use crate::http_client::send;

/// Time limit of the responses to a crowd.
const PATIENCE: Duration = Duration::from_secs(60);

/// Flags of `nearside loadtest run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Scenarios: their names, paths of files, or "all"
    #[arg(value_name = "SCENARIO", required = true)]
    scenarios: Vec<String>,
    /// Let each scenario's wrk and oha lines run too, for a second opinion, where these are installed
    #[arg(long)]
    second_opinion: bool,
    /// Write a page with plots for each load, and all results as JSON, into this folder
    #[arg(long, value_name = "FOLDER")]
    report: Option<PathBuf>,
}

/// Runs scenarios one after the other, until `stop` ends.
///
/// # Errors
///
/// A scenario cannot be read or run, or `stop` has ended first. What was to be broken is healed even then.
pub async fn run(args: &RunArgs, stop: impl Future<Output = ()>) -> anyhow::Result<Verdict> {
    let names = args.scenarios.iter().flat_map(|name| match name.as_str() {
        "all" => BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).collect(),
        name => vec![name.to_owned()],
    });
    let run = || format!("{:x}", std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0));
    // All are read before the first one runs.
    let scenarios = names.map(|name| LoadScenario::find(&name, &run())).collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(folder) = &args.report {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let mut stop = pin!(stop);
    let mut claims = Claims::default();
    for scenario in &scenarios {
        tokio::select! {
            done = one(scenario, args, &mut claims) => done.with_context(|| format!("scenario {}", scenario.name))?,
            () = &mut stop => {
                heal_all(scenario).await;
                anyhow::bail!("interrupted");
            }
        }
    }
    Ok(claims.conclude("all claims hold", "claim(s) do not hold", None))
}

/// Heals the faults of a scenario, whichever of them were injected.
async fn heal_all(scenario: &LoadScenario) {
    for event in scenario.events.iter().filter(|event| event.verb == "fail") {
        // It may not have been broken yet.
        let _ = order("heal", &event.what).await;
    }
}

async fn one(scenario: &LoadScenario, args: &RunArgs, claims: &mut Claims) -> anyhow::Result<()> {
    outln!("\n{}: {}", scenario.name, scenario.question);
    let played = play(scenario).await;
    if played.is_err() {
        heal_all(scenario).await;
    }
    let ScenarioResult { figures, load } = played?;
    if let Some(load) = &load {
        load.to_string().lines().for_each(|line| outln!("      {line}"));
    }
    for (text, claim) in &scenario.claims {
        let holds = claim.holds(&Value::Object(figures.clone()));
        let seen = || {
            figures.iter().filter(|(name, _)| text.contains(name.as_str())).map(|(name, is)| format!("{name} is {is}"))
        };
        let result = if holds {
            Ok(())
        } else {
            let seen = seen().collect::<Vec<_>>();
            let nothing = || "nothing in this scenario tells such a figure".to_owned();
            Err(anyhow::anyhow!("{}", if seen.is_empty() { nothing() } else { seen.join(", ") }))
        };
        claims.check(text, result);
    }
    if let Some(folder) = &args.report {
        let stem = scenario.name.rsplit('/').next().unwrap_or_default().trim_end_matches(".toml");
        let json =
            json!({ "scenario": scenario.name, "question": scenario.question, "figures": figures, "load": load });
        std::fs::write(folder.join(format!("{stem}.json")), serde_json::to_string_pretty(&json)?)?;
        if let Some(load) = &load {
            let text = page(&scenario.question, &format!("nearside loadtest run {}", scenario.name), load);
            std::fs::write(folder.join(format!("{stem}.html")), text)?;
        }
    }
    for line in &scenario.second_opinion {
        outln!("      $ {line}");
        if args.second_opinion {
            second_opinion(line).await?;
        }
    }
    Ok(())
}

/// Result of a scenario.
struct ScenarioResult {
    figures: Map<String, Value>,
    load: Option<Report>,
}

async fn play(scenario: &LoadScenario) -> anyhow::Result<ScenarioResult> {
    let before = ledger(&scenario.origin).await?;
    let load = match &scenario.load {
        Some(args) => {
            let mut load = args.load().await?;
            load.origin.get_or_insert_with(|| scenario.origin.clone());
            Some(load)
        }
        None => None,
    };
    // Slow clients are there before the load begins.
    let mut slow = scenario.slow.as_ref().map(dawdlers);
    if slow.is_some() {
        sleep(Duration::from_secs(1)).await;
    }
    let loading = async {
        match &load {
            Some(load) => Some(load.run(std::io::IsTerminal::is_terminal(&std::io::stderr())).await).transpose(),
            None => Ok(None),
        }
    };
    let (load, events, crowd, race) = tokio::join!(
        loading,
        events(&scenario.events),
        async { if let Some(part) = &scenario.crowd { crowd(part).await.map(Some) } else { Ok(None) } },
        async {
            if let Some(part) = &scenario.race { raced(part, &scenario.origin).await.map(Some) } else { Ok(None) }
        },
    );
    let load = load?;
    events?;
    let mut figures = Map::new();
    if let Some(slow) = &mut slow {
        let mut ended = 0;
        while slow.try_join_next().is_some() {
            ended += 1;
        }
        figures.insert("slow_served".to_owned(), json!(scenario.slow.as_ref().map_or(0, |part| part.clients) - ended));
    }
    if let Some(CrowdReport { right, wrong, failed, seconds, .. }) = crowd? {
        let counts =
            json!({ "crowd_right": right, "crowd_wrong": wrong, "crowd_failed": failed, "crowd_seconds": seconds });
        figures.extend(counts.as_object().cloned().unwrap_or_default());
    }
    if let Some(RaceReport { acknowledged, answers, old, mixed, failed, .. }) = race? {
        let counts = json!({
            "purges_acknowledged": acknowledged, "race_answers": answers, "race_old": old, "race_mixed": mixed,
            "race_failed": failed,
        });
        figures.extend(counts.as_object().cloned().unwrap_or_default());
    }
    let after = ledger(&scenario.origin).await?;
    // Of a load only what came while it counted.
    let origin = load.as_ref().and_then(|load| load.origin).unwrap_or_else(|| after.since(before));
    figures.insert("origin_requests".to_owned(), json!(origin.requests));
    figures.insert("origin_bytes".to_owned(), json!(origin.bytes));
    if let Some(load) = &load {
        figures.extend(of_load(load));
    }
    Ok(ScenarioResult { figures, load })
}

/// Figures of a load.
fn of_load(load: &Report) -> Map<String, Value> {
    let class = |hundreds: u16| -> u64 {
        load.statuses.iter().filter(|(status, _)| **status / 100 == hundreds).map(|(_, count)| count).sum()
    };
    let well: u64 = [200, 206].iter().filter_map(|status| load.statuses.get(status)).sum();
    let ms = &load.latency_ms;
    let figures = json!({
        "due": load.due, "answered": load.answered, "failed": load.failed, "wrong": load.wrong, "rate": load.rate,
        "hit_ratio": load.hit_ratio, "status_2xx": class(2), "status_3xx": class(3), "status_4xx": class(4),
        "status_5xx": class(5), "status_other": load.answered - well, "p50_ms": ms.p50, "p90_ms": ms.p90,
        "p99_ms": ms.p99, "p999_ms": ms.p999, "max_ms": ms.max,
    });
    figures.as_object().cloned().unwrap_or_default()
}

async fn ledger(origin: &Uri) -> anyhow::Result<OriginReport> {
    let url = format!("{}/_ledger/total", origin.to_string().trim_end_matches('/'));
    let reply =
        send(Method::GET, &url, None).await.context("the origin of the scenario (is a demo running? `script/demo`)")?;
    serde_json::from_slice(&reply.body).with_context(|| format!("{url} is no ledger"))
}

async fn events(events: &[ScenarioEvent]) -> anyhow::Result<()> {
    let start = tokio::time::Instant::now();
    for event in events {
        sleep_until(start + event.at).await;
        outln!("      {:>3} s  {} {}", event.at.as_secs(), event.verb, event.what);
        order(event.verb, &event.what).await?;
    }
    Ok(())
}

fn dawdlers(part: &SlowPart) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for _ in 0..part.clients {
        let (url, pace) = (part.url.clone(), part.bytes_per_second);
        clients.spawn(async move {
            // One that ends, or cannot begin, is not served any more: that is all that matters.
            let _ = dawdle(&url, pace).await;
        });
    }
    clients
}

async fn crowd(part: &CrowdPart) -> anyhow::Result<CrowdReport> {
    let number = |name: &str| -> anyhow::Result<u64> {
        let values: Vec<u64> = part.url.iter().filter_map(|url| in_query(url, name)).collect();
        let first = values.first().copied().with_context(|| format!("crowd: url: each needs {name}="))?;
        ensure!(
            values.len() == part.url.len() && values.iter().all(|value| *value == first),
            "crowd: url: {name}= differs"
        );
        Ok(first)
    };
    let check = body_of(number("seed")?, number("size")?);
    Ok(Crowd::new(&part.url, part.clients, part.within()?, check)?.run(PATIENCE).await)
}

fn in_query(url: &str, name: &str) -> Option<u64> {
    let (_, query) = url.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

async fn raced(part: &RacePart, origin: &Uri) -> anyhow::Result<RaceReport> {
    let at = PurgeTarget { control: part.control.trim_end_matches('/').to_owned(), host: part.host.clone() };
    let origin = origin.to_string();
    let report = race(&part.urls, &at, origin.trim_end_matches('/'), part.purges, part.clients).await?;
    outln!("      {} purges acknowledged, {} answers judged", report.acknowledged, report.answers);
    if let Some(example) = &report.example {
        outln!("      {example}");
    }
    Ok(report)
}

/// Runs another load generator, and prints its result.
async fn second_opinion(line: &str) -> anyhow::Result<()> {
    let output = tokio::process::Command::new("sh").args(["-c", line]).kill_on_drop(true).output().await?;
    if !output.status.success() {
        outln!("        it does not run here: {}", String::from_utf8_lossy(&output.stderr).trim());
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let tells =
        ["Requests/sec", "50%", "50.00%", "99%", "99.00%", "Non-2xx", "Socket errors", "Success rate", " responses"];
    text.lines()
        .filter(|line| tells.iter().any(|tell| line.contains(tell)))
        .for_each(|line| outln!("        {}", line.trim()));
    Ok(())
}
