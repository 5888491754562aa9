//! Measurements in rounds, in which the servers take turns.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use http::Method;
use nearside_loadtest::{Crowd, Load, Popularity, Rate, Report, Shape, Sizes, Target};
use tokio::process::Command;
use tokio::time::sleep;

use super::peers::{PeerServer, PeerServers};
use crate::body_check::body_of;
use crate::http_client::send;

/// Number of connections in all measurements.
const CONNECTIONS: usize = 64;
const LARGE: [u64; 2] = [16 << 10, 128 << 10];
/// Rate of misses per second, which the origin serves easily on the core that it shares with the
/// load generator.
const MISSES: u32 = 2_000;
const MIXED: u32 = 3_000;
const HERD_BYTES: u64 = 1_000_000;
/// Body size of the objects whose memory is measured.
const OBJECT_BYTES: f64 = 1024.0;

/// Settings of the measurements.
pub(super) struct Measurement<'p> {
    pub(super) peers: &'p PeerServers,
    pub(super) rounds: u16,
    pub(super) duration: Duration,
    pub(super) rate: u32,
}

/// Figures of one measurement: the median by the name of the server and the name of the figure.
pub(super) type ServerFigures = BTreeMap<String, BTreeMap<&'static str, f64>>;

/// Results of all measurements.
pub(super) struct CompareResults {
    /// Hits at the maximum rate by object size, requested by `wrk`.
    pub(super) full: Vec<(u64, ServerFigures)>,
    /// Hits of 1 KiB at the maximum rate, requested by our load generator to check `wrk`.
    pub(super) own: ServerFigures,
    /// Hits at an equal rate.
    pub(super) steady: ServerFigures,
    pub(super) mixed: ServerFigures,
    pub(super) misses: ServerFigures,
    pub(super) herd: ServerFigures,
    pub(super) memory: ServerFigures,
}

/// Path of the object in all measurements of hits.
const HIT: &str = "/o1024?cc=max-age%3D86400&etag=a&size=1024&seed=1";

impl Measurement<'_> {
    pub(super) async fn all(&self, objects: u32, herd: usize) -> anyhow::Result<CompareResults> {
        // As long as all are as they were started: what is asked for later finds room that was taken before.
        let memory = self.memory(objects).await?;
        Ok(CompareResults {
            full: self.full().await?,
            own: self.own().await?,
            steady: self.steady().await?,
            mixed: self.mixed().await?,
            misses: self.misses().await?,
            herd: self
                .rounds(format!("{herd} clients at once"), async |server, round| self.herd(server, round, herd).await)
                .await?,
            memory,
        })
    }

    async fn full(&self) -> anyhow::Result<Vec<(u64, ServerFigures)>> {
        let mut full = Vec::new();
        for size in [1 << 10].into_iter().chain(LARGE) {
            let path = format!("/o{size}?cc=max-age%3D86400&etag=a&size={size}&seed=1");
            let what = format!("hits of {size} bytes, as many as are answered (wrk)");
            full.push((size, self.rounds(what, async |server, _| self.wrk(server, &path).await).await?));
        }
        Ok(full)
    }

    async fn own(&self) -> anyhow::Result<ServerFigures> {
        let one = async |server: &PeerServer, _| self.load(server, HIT, |load| load.rate = Rate::Max).await;
        self.rounds("hits of 1024 bytes, as many as are answered".to_owned(), one).await
    }

    async fn steady(&self) -> anyhow::Result<ServerFigures> {
        let one =
            async |server: &PeerServer, _| self.load(server, HIT, |load| load.rate = Rate::PerSecond(self.rate)).await;
        self.rounds(format!("hits of 1024 bytes, {} per second", self.rate), one).await
    }

    async fn mixed(&self) -> anyhow::Result<ServerFigures> {
        let one = async |server: &PeerServer, round| {
            let path = format!("/mix{round}/{{object}}?cc=max-age%3D86400&etag=a&size={{size}}&seed={{object}}");
            let shape = |load: &mut Load| {
                load.rate = Rate::PerSecond(MIXED);
                let (popularity, sizes) = (Popularity::Zipf(0.9), Sizes::LogNormal { median: 8 << 10, spread: 1.2 });
                load.shape = Shape { objects: 2_000, popularity, sizes, misses: 0.05, ..Shape::default() };
                load.fill = true;
            };
            self.load(server, &path, shape).await
        };
        self.rounds(format!("a mix, {MIXED} per second"), one).await
    }

    async fn misses(&self) -> anyhow::Result<ServerFigures> {
        let one = async |server: &PeerServer, _| {
            let path = "/miss/{object}?cc=max-age%3D86400&etag=a&size={size}&seed={object}";
            let shape = |load: &mut Load| {
                load.rate = Rate::PerSecond(MISSES);
                load.shape = Shape { objects: 1, misses: 1.0, ..Shape::default() };
            };
            self.load(server, path, shape).await
        };
        self.rounds(format!("misses of 1024 bytes, {MISSES} per second"), one).await
    }

    /// Measures all servers in turn, round after round.
    async fn rounds(
        &self,
        what: String,
        one: impl AsyncFn(&PeerServer, u16) -> anyhow::Result<BTreeMap<&'static str, f64>>,
    ) -> anyhow::Result<ServerFigures> {
        let mut seen: BTreeMap<String, BTreeMap<&'static str, Vec<f64>>> = BTreeMap::new();
        for round in 1..=self.rounds {
            errln!("{what}: round {round} of {}", self.rounds);
            for server in &self.peers.servers {
                let figures = one(server, round).await.with_context(|| format!("{}: {what}", server.name))?;
                let all = seen.entry(server.name.clone()).or_default();
                figures.into_iter().for_each(|(name, value)| all.entry(name).or_default().push(value));
            }
        }
        let medians = |figures: BTreeMap<&'static str, Vec<f64>>| {
            figures.into_iter().map(|(name, all)| (name, median(all))).collect()
        };
        Ok(seen.into_iter().map(|(server, figures)| (server, medians(figures))).collect())
    }

    /// Measures the maximum rate with `wrk`, which of all clients uses the least CPU time.
    async fn wrk(&self, server: &PeerServer, path: &str) -> anyhow::Result<BTreeMap<&'static str, f64>> {
        stored(server, path).await?;
        let seconds = self.duration.as_secs();
        let before = server.processor_time()?;
        let output = Command::new("wrk")
            .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s"), "--latency", &server.url(path)])
            .kill_on_drop(true)
            .output()
            .await?;
        let used = server.processor_time()? - before;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "wrk: {text}{}", String::from_utf8_lossy(&output.stderr));
        ensure!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "wrk: {text}");
        let word = |before: &str, after: &str| {
            let at = text.find(before).map(|at| at + before.len())?;
            text.get(at..)?.split(after).next()?.trim().parse::<f64>().ok()
        };
        let rate = word("Requests/sec:", "\n").context("wrk tells no rate")?;
        let requests = text.lines().find_map(|line| line.split_once(" requests in")?.0.trim().parse::<f64>().ok());
        let requests = requests.context("wrk tells no requests")?;
        Ok(BTreeMap::from([("rate", rate), ("cpu", micros(used) / requests.max(1.0))]))
    }

    /// Measures a load of our load generator.
    async fn load(
        &self,
        server: &PeerServer,
        path: &str,
        shape: impl Fn(&mut Load),
    ) -> anyhow::Result<BTreeMap<&'static str, f64>> {
        let mut load = Load::new(vec![Target::parse(&server.url(path))?]);
        (load.duration, load.connections) = (self.duration, CONNECTIONS);
        load.origin = Some(format!("http://127.0.0.1:{}", self.peers.origin).parse()?);
        shape(&mut load);
        if load.fill {
            // Apart from the rest, so that it is not in the processor's time.
            let filling = Load { rate: Rate::PerSecond(10), duration: Duration::from_millis(100), ..load.clone() };
            filling.run(false).await?;
            load.fill = false;
        } else if load.shape.misses == 0.0 {
            stored(server, path).await?;
        }
        let before = server.processor_time()?;
        let report = load.run(false).await?;
        let used = server.processor_time()? - before;
        well(&report)?;
        let requests = count(report.answered);
        let ms = report.latency_ms;
        let mut figures = BTreeMap::from([
            ("rate", report.rate),
            ("cpu", micros(used) / requests.max(1.0)),
            ("p50", ms.p50),
            ("p99", ms.p99),
            ("p999", ms.p999),
        ]);
        if let Some(origin) = report.origin {
            figures.insert("origin", count(origin.requests) / requests.max(1.0));
        }
        Ok(figures)
    }

    /// Measures many clients that request one slow object at once: requests at the origin, and the
    /// time until the last client has it.
    async fn herd(
        &self,
        server: &PeerServer,
        round: u16,
        clients: usize,
    ) -> anyhow::Result<BTreeMap<&'static str, f64>> {
        let path = format!("/herd{round}?cc=max-age%3D86400&etag=a&size={HERD_BYTES}&seed=3&rate={HERD_BYTES}");
        let crowd = Crowd::new(&[server.url(&path)], clients, Duration::from_millis(100), body_of(3, HERD_BYTES))?;
        let before = self.asked().await?;
        let report = crowd.run(Duration::from_secs(60)).await;
        let asked = self.asked().await? - before;
        let failed = report.wrong + report.failed;
        Ok(BTreeMap::from([("origin", asked), ("failed", count(failed as u64)), ("seconds", report.seconds)]))
    }

    /// Number of requests at the origin so far.
    async fn asked(&self) -> anyhow::Result<f64> {
        let reply = send(Method::GET, &format!("http://127.0.0.1:{}/_ledger/total", self.peers.origin), None).await?;
        let page: serde_json::Value = serde_json::from_slice(&reply.body)?;
        page.get("requests").and_then(serde_json::Value::as_f64).context("the origin's ledger")
    }

    /// Measures the memory for each object of 1 KiB.
    async fn memory(&self, objects: u32) -> anyhow::Result<ServerFigures> {
        let mut figures = ServerFigures::new();
        for server in &self.peers.servers {
            errln!("memory: {objects} objects at {}", server.name);
            let path = "/memory/{object}?cc=max-age%3D86400&etag=a&size={size}&seed={object}";
            let mut load = Load::new(vec![Target::parse(&server.url(path))?]);
            load.rate = Rate::PerSecond(10);
            (load.duration, load.fill) = (Duration::from_millis(100), true);
            load.shape = Shape { objects, ..Shape::default() };
            // What a server needs to serve at all is not the objects'.
            stored(server, HIT).await?;
            let before = server.memory()?;
            // Twice: some take into memory only what is asked for again.
            load.run(false).await?;
            load.run(false).await?;
            // What is only on its way to where it stays.
            sleep(Duration::from_secs(1)).await;
            let bytes = count(server.memory()?.saturating_sub(before)) / f64::from(objects);
            // Less than its body is no object: such a server has had its memory before, or has put it on a disk.
            if bytes >= OBJECT_BYTES {
                figures.insert(server.name.clone(), BTreeMap::from([("bytes", bytes)]));
            }
        }
        Ok(figures)
    }
}

/// Requests a path twice, so that it is in the cache afterwards.
async fn stored(server: &PeerServer, path: &str) -> anyhow::Result<()> {
    for _ in 0..2 {
        let reply = send(Method::GET, &server.url(path), None).await?;
        ensure!(reply.status == 200, "it answers {}", reply.status);
    }
    Ok(())
}

fn well(report: &Report) -> anyhow::Result<()> {
    let failure = report.last_failure.as_deref().unwrap_or("-");
    ensure!(report.failed == 0, "{} of {} failed: {failure}", report.failed, report.answered + report.failed);
    ensure!(report.statuses.keys().all(|status| *status == 200), "it answers {:?}", report.statuses);
    Ok(())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn count(count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
    let count = count as f64;
    count
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    let (lower, upper) = (all.len().saturating_sub(1) / 2, all.len() / 2);
    let at = |place: usize| all.get(place).copied().unwrap_or(0.0);
    f64::midpoint(at(lower), at(upper))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(
            [super::median(vec![3.0, 1.0, 2.0]), super::median(vec![4.0, 1.0]), super::median(vec![])],
            [2.0, 2.5, 0.0]
        );
    }
}
