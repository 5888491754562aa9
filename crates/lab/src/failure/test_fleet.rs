//! Fleet of a failure scenario on free ports: an origin, shields, edges, and optional control
//! processes.

use anyhow::Context;
use http::Method;
use serde_json::Value;

use super::millis;
use crate::http_client::send;
use crate::ports::free_ports;
use crate::process_fleet::{ProcessFleet, ProcessSpec};

/// Name of the origin's process.
pub(super) const ORIGIN: &str = "origin-sim";

/// Fleet on free ports.
pub(super) struct TestFleet {
    pub(super) processes: ProcessFleet,
    pub(super) origin: u16,
    /// Ports of the control processes.
    pub(super) controls: Vec<u16>,
    pub(super) shields: Vec<FleetNode>,
    pub(super) edges: Vec<FleetNode>,
}

/// Edge or shield of the fleet.
pub(super) struct FleetNode {
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) admin: u16,
}

/// Size of a fleet, and TOML that its nodes get in addition to the defaults.
#[derive(Default)]
pub(super) struct FleetSettings<'s> {
    pub(super) shields: usize,
    pub(super) edges: usize,
    /// Number of control processes; nodes prefer different ones. Several need NATS.
    pub(super) controls: usize,
    pub(super) nats: Option<&'s str>,
    /// Tables of the shields, before the site.
    pub(super) shield: &'s str,
    /// Tables of the edges, before the site.
    pub(super) edge: &'s str,
    /// Keys of the site, on shields and edges.
    pub(super) site: &'s str,
}

impl TestFleet {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            processes: ProcessFleet::new("lab")?,
            origin: 0,
            controls: Vec::new(),
            shields: Vec::new(),
            edges: Vec::new(),
        })
    }

    /// Starts an origin, shields and edges.
    pub(super) async fn start(&mut self, settings: &FleetSettings<'_>) -> anyhow::Result<()> {
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

    /// Waits until all nodes have followed the purge log for a second, if there is one. A node that
    /// has just thawed counts as following until it finds its stream silent and opens another.
    pub(super) async fn until_all_follow(&self) -> anyhow::Result<()> {
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

    pub(super) async fn start_node(
        &mut self,
        role: &str,
        number: usize,
        tables: &str,
        site: &str,
    ) -> anyhow::Result<FleetNode> {
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

    /// Table of the control processes that a node follows, rotated by its number.
    fn follows(&self, number: usize) -> String {
        let mut addresses: Vec<_> = self.controls.iter().map(|port| format!("\"http://127.0.0.1:{port}\"")).collect();
        if addresses.is_empty() {
            return String::new();
        }
        let first = number % addresses.len();
        addresses.rotate_left(first);
        format!("[control]\naddress = [{}]\n", addresses.join(", "))
    }

    /// URL of a path at every edge.
    pub(super) fn urls(&self, path: &str) -> Vec<String> {
        self.edges.iter().map(|edge| edge.url(path)).collect()
    }

    /// Traffic at the origin for a path, or in total, from its ledger.
    pub(super) async fn ledger(&self, path: Option<&str>) -> anyhow::Result<OriginTraffic> {
        let reply = send(Method::GET, &format!("http://127.0.0.1:{}/_ledger", self.origin), None).await?;
        let page: Value = serde_json::from_slice(&reply.body)?;
        let entry = match path {
            Some(path) => page.get("paths").and_then(|paths| paths.get(path)),
            None => page.get("total"),
        };
        let number = |key| entry.and_then(|entry| entry.get(key)).and_then(Value::as_u64).unwrap_or(0);
        Ok(OriginTraffic { requests: number("requests"), peak: number("peak_concurrency"), bytes: number("bytes") })
    }

    /// Waits until the origin has got a request for a path.
    pub(super) async fn until_asked(&self, path: &str) -> anyhow::Result<()> {
        for _ in 0..600 {
            if self.ledger(Some(path)).await?.requests > 0 {
                return Ok(());
            }
            tokio::time::sleep(millis(50)).await;
        }
        anyhow::bail!("the origin was not asked for {path}")
    }

    /// Peak resident memory of a process, in bytes.
    pub(super) fn peak_memory(&self, name: &str) -> anyhow::Result<u64> {
        let pid = self.processes.pid(name).context("it does not run")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB"));
        Ok(peak.context("the system does not tell")?.trim().parse::<u64>()? * 1024)
    }
}

/// Traffic that reached the origin.
#[derive(Debug, Clone, Copy)]
pub(super) struct OriginTraffic {
    pub(super) requests: u64,
    pub(super) peak: u64,
    pub(super) bytes: u64,
}

impl FleetNode {
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Sum of a metric over all its labels.
    pub(super) async fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let reply = send(Method::GET, &format!("http://127.0.0.1:{}/metrics", self.admin), None).await?;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        let values = text.lines().filter_map(|line| {
            let (left, value) = line.rsplit_once(' ')?;
            (left.split('{').next() == Some(name)).then(|| value.parse::<u64>().ok()).flatten()
        });
        Ok(values.sum())
    }
}
