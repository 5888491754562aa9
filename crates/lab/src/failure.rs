//! Scenarios of `nearside loadtest`: a fleet of processes on this machine, something that goes wrong, and claims about what
//! clients and the origin see of it.

mod attack;
mod crowd;
mod cuts;
mod freeze;
mod kill;
mod odd;
pub(crate) mod purge_race;
mod slow;

use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Subcommand;
use http::Method;
use nearside_loadtest::{Check, CrowdReport, Load, Rate, Report, Target};
use serde_json::Value;

use crate::claims::{Claims, Verdict};
use crate::http_client::send;
use crate::process_fleet::{ProcessFleet, ProcessSpec};

/// What goes wrong.
#[derive(Debug, Subcommand)]
pub enum FailureScenario {
    /// What attackers do: it costs no more than it may
    #[command(subcommand)]
    Attack(attack::AttackScenario),
    /// Many clients at once for one cold object: the origin is asked once
    Crowd(crowd::CrowdArgs),
    /// An origin that breaks off again and again: all bodies are right, and it sends little twice
    Cuts(cuts::CutsArgs),
    /// A shield is killed under load: nobody notices who asks for what is stored
    Kill(kill::KillArgs),
    /// The origin freezes under load: what is stored is served, and nothing falls upon it when it is back
    Freeze(freeze::FreezeArgs),
    /// Clients that take a byte a second, vanish, or want a part: nobody else notices
    Odd(odd::OddArgs),
    /// Keys are raised and purged while many read them: nobody gets an older one after the acknowledgement
    PurgeRace(purge_race::PurgeRaceArgs),
    /// Objects larger than the cache, and clients that take them slowly: memory stays bounded
    Slow(slow::SlowArgs),
}

/// Runs a scenario until its end, or until `stop` ends.
///
/// # Errors
///
/// A process cannot be started, or the load cannot be sent.
pub async fn run(scenario: &FailureScenario, stop: impl Future<Output = ()>) -> anyhow::Result<Verdict> {
    let mut fleet = TestFleet::new()?;
    let mut claims = Claims::default();
    let work = async {
        match scenario {
            FailureScenario::Attack(attack) => attack::run(attack, &mut fleet, &mut claims).await,
            FailureScenario::Crowd(args) => crowd::run(args, &mut fleet, &mut claims).await,
            FailureScenario::Cuts(args) => cuts::run(args, &mut fleet, &mut claims).await,
            FailureScenario::Kill(args) => kill::run(args, &mut fleet, &mut claims).await,
            FailureScenario::Freeze(args) => freeze::run(args, &mut fleet, &mut claims).await,
            FailureScenario::Odd(args) => odd::run(args, &mut fleet, &mut claims).await,
            FailureScenario::PurgeRace(args) => purge_race::run(args, &mut fleet, &mut claims).await,
            FailureScenario::Slow(args) => slow::run(args, &mut fleet, &mut claims).await,
        }
    };
    let done = tokio::select! {
        done = work => done.map(|()| claims.conclude("all claims hold", "claim(s) do not hold", Some(fleet.processes.folder()))),
        () = stop => {
            errln!("\nstopping");
            Ok(Verdict::Failed)
        }
    };
    fleet.processes.stop_all().await;
    done
}

/// The name of the origin's process.
const ORIGIN: &str = "origin-sim";

/// A fleet on free ports.
pub(crate) struct TestFleet {
    processes: ProcessFleet,
    origin: u16,
    /// The ports of the control processes.
    controls: Vec<u16>,
    shields: Vec<FleetNode>,
    edges: Vec<FleetNode>,
}

/// An edge or a shield of the lab.
struct FleetNode {
    name: String,
    port: u16,
    admin: u16,
}

/// What a scenario wants to be otherwise than by default, as TOML.
#[derive(Default)]
struct FleetSettings<'s> {
    shields: usize,
    edges: usize,
    /// Control processes; each node prefers another of them. Several need NATS.
    controls: usize,
    nats: Option<&'s str>,
    /// Tables of the shields and edges, before the site.
    shield: &'s str,
    edge: &'s str,
    /// Keys of the site, on both.
    site: &'s str,
}

impl TestFleet {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            processes: ProcessFleet::new("lab")?,
            origin: 0,
            controls: Vec::new(),
            shields: Vec::new(),
            edges: Vec::new(),
        })
    }

    /// Starts an origin, shields and edges.
    async fn start(&mut self, settings: &FleetSettings<'_>) -> anyhow::Result<()> {
        let [origin] = free_ports()?;
        self.origin = origin;
        let member = ProcessSpec {
            name: ORIGIN.to_owned(),
            args: ["origin-sim", "--listen", &format!("127.0.0.1:{origin}")].map(str::to_owned).to_vec(),
            ready_url: format!("http://127.0.0.1:{origin}/readyz"),
        };
        self.processes.start(member).await?;
        for number in 1..=settings.controls {
            let [control] = free_ports()?;
            let file = self.processes.folder().join("purges.log").display().to_string();
            let log = settings.nats.unwrap_or(&file);
            let args =
                ["control", "--listen", &format!("127.0.0.1:{control}"), "--log", log].map(str::to_owned).to_vec();
            let ready_url = format!("http://127.0.0.1:{control}/readyz");
            self.processes.start(ProcessSpec { name: format!("control-{number}"), args, ready_url }).await?;
            self.controls.push(control);
        }
        for number in 1..=settings.shields {
            let tables = format!("[edges]\nsecret = \"${{NEARSIDE_SHIELD_SECRET}}\"\n{}", settings.shield);
            let node = self.start_node("shield", number, &tables, settings.site).await?;
            self.shields.push(node);
        }
        let addresses: Vec<_> = self.shields.iter().map(|node| format!("\"http://127.0.0.1:{}\"", node.port)).collect();
        for number in 1..=settings.edges {
            let tables = format!(
                "[shields]\naddresses = [{}]\nsecret = \"${{NEARSIDE_SHIELD_SECRET}}\"\n{}",
                addresses.join(", "),
                settings.edge
            );
            let node = self.start_node("edge", number, &tables, settings.site).await?;
            self.edges.push(node);
        }
        self.until_all_follow().await
    }

    /// Waits until all nodes follow the purge log, if there is one, and have done so for a second: one that has just thawed
    /// finds its stream silent and begins another, and is said to follow until then.
    async fn until_all_follow(&self) -> anyhow::Result<()> {
        const LOOKS: usize = 20;
        let mut looks = 0;
        let Some(control) = self.controls.first() else { return Ok(()) };
        for _ in 0..600 {
            let reply = send(Method::GET, &format!("http://127.0.0.1:{control}/v1/nodes"), None).await?;
            let page: Value = serde_json::from_slice(&reply.body)?;
            let nodes = page.get("nodes").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let ready = nodes.iter().filter(|node| node.get("state").is_some_and(|state| state == "ready")).count();
            looks = if ready == self.shields.len() + self.edges.len() { looks + 1 } else { 0 };
            if looks == LOOKS {
                return Ok(());
            }
            tokio::time::sleep(millis(50)).await;
        }
        anyhow::bail!("not all nodes follow the purge log")
    }

    async fn start_node(&mut self, role: &str, number: usize, tables: &str, site: &str) -> anyhow::Result<FleetNode> {
        let [port, admin] = free_ports()?;
        let name = format!("{role}-{number}");
        // One host for all edges, whatever their ports: else each would have keys of its own.
        let config = format!(
            "role = \"{role}\"\nid = \"{name}\"\nlisten = [\"127.0.0.1:{port}\"]\nadmin = \"127.0.0.1:{admin}\"\n\
             {tables}\n{}[access_log]\nformat = \"off\"\n[[site]]\nname = \"lab\"\nhosts = [\"*\"]\n\
             canonical_host = \"lab.test\"\norigins = [\"http://127.0.0.1:{}\"]\n{site}\n",
            self.follows(number),
            self.origin
        );
        let path = self.processes.configure(&name, &config)?;
        let args = [role, "--config", &path].map(str::to_owned).to_vec();
        let ready_url = format!("http://127.0.0.1:{admin}/readyz");
        self.processes.start(ProcessSpec { name: name.clone(), args, ready_url }).await?;
        Ok(FleetNode { name, port, admin })
    }

    /// Whose log a node follows; every other one begins with another control process.
    fn follows(&self, number: usize) -> String {
        let mut addresses: Vec<_> = self.controls.iter().map(|port| format!("\"http://127.0.0.1:{port}\"")).collect();
        if addresses.is_empty() {
            return String::new();
        }
        let first = number % addresses.len();
        addresses.rotate_left(first);
        format!("[control]\naddress = [{}]\n", addresses.join(", "))
    }

    /// A path at every edge.
    fn urls(&self, path: &str) -> Vec<String> {
        self.edges.iter().map(|edge| edge.url(path)).collect()
    }

    /// What the origin's ledger says of a path, or of all.
    async fn ledger(&self, path: Option<&str>) -> anyhow::Result<OriginTraffic> {
        let reply = send(Method::GET, &format!("http://127.0.0.1:{}/_ledger", self.origin), None).await?;
        let page: Value = serde_json::from_slice(&reply.body)?;
        let entry = match path {
            Some(path) => page.get("paths").and_then(|paths| paths.get(path)),
            None => page.get("total"),
        };
        let number = |key| entry.and_then(|entry| entry.get(key)).and_then(Value::as_u64).unwrap_or(0);
        Ok(OriginTraffic { requests: number("requests"), peak: number("peak_concurrency"), bytes: number("bytes") })
    }

    /// Waits until the origin was asked for a path.
    async fn until_asked(&self, path: &str) -> anyhow::Result<()> {
        for _ in 0..600 {
            if self.ledger(Some(path)).await?.requests > 0 {
                return Ok(());
            }
            tokio::time::sleep(millis(50)).await;
        }
        anyhow::bail!("the origin was not asked for {path}")
    }

    /// The most memory that a process has had, in bytes.
    fn peak_memory(&self, name: &str) -> anyhow::Result<u64> {
        let pid = self.processes.pid(name).context("it does not run")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB"));
        Ok(peak.context("the system does not tell")?.trim().parse::<u64>()? * 1024)
    }
}

/// What reached the origin.
#[derive(Debug, Clone, Copy)]
struct OriginTraffic {
    requests: u64,
    peak: u64,
    bytes: u64,
}

impl FleetNode {
    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The sum of a metric over its labels.
    async fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let reply = send(Method::GET, &format!("http://127.0.0.1:{}/metrics", self.admin), None).await?;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        let values = text.lines().filter_map(|line| {
            let (left, value) = line.rsplit_once(' ')?;
            (left.split('{').next() == Some(name)).then(|| value.parse::<u64>().ok()).flatten()
        });
        Ok(values.sum())
    }
}

/// Ports that are free now.
pub(crate) fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    // Bound together, so that they differ.
    let mut listeners = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("there is no free port")?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

/// A load of some URLs in turn.
fn load(urls: &[String], rate: u32, duration: Duration, connections: usize) -> anyhow::Result<Load> {
    let targets = urls.iter().map(|url| Target::parse(url)).collect::<Result<_, _>>()?;
    Ok(Load { rate: Rate::PerSecond(rate), duration, connections, ..Load::new(targets) })
}

/// Compares with the body of `seed`, which is made once.
pub(crate) fn body_of(seed: u64, size: u64) -> Check {
    let body = nearside_origin_sim::body::bytes(seed, 0, size);
    std::sync::Arc::new(move |at, bytes| {
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        body.get(start..start.saturating_add(bytes.len())).is_some_and(|expected| *expected == *bytes)
    })
}

/// Whether every client of a crowd got what it should.
fn all_right(report: &CrowdReport) -> anyhow::Result<()> {
    let CrowdReport { right, wrong, failed, .. } = report;
    let failure = report.last_failure.as_deref().unwrap_or("-");
    holds(*wrong == 0 && *failed == 0, || format!("{right} right, {wrong} wrong, {failed} failed, the last: {failure}"))
}

/// Whether every request of a run was answered with 200.
fn all_answered(report: &Report) -> anyhow::Result<()> {
    let failure = report.last_failure.as_deref().unwrap_or("-");
    let due = report.due.unwrap_or(report.answered);
    ensure!(report.failed == 0, "{} of {due} failed, the last one: {failure}", report.failed);
    let well = report.statuses.get(&200).copied().unwrap_or(0);
    ensure!(well == due, "{:?} of {due}", report.statuses);
    Ok(())
}

/// Holds if `is_so`; else says what is.
fn holds(is_so: bool, what: impl FnOnce() -> String) -> anyhow::Result<()> {
    if is_so { Ok(()) } else { Err(anyhow::anyhow!(what())) }
}

/// In MiB, for people.
fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
