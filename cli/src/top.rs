//! `nearside top`: what nodes do now, in a terminal.

mod sample;
mod screen;
mod view;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use http::Method;
use nearside_config::{Secret, Span};
use serde_json::Value;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};

use crate::admin_client::{Token, follow};
use crate::nodes::{Control, NodeName, Target, about, without_controls};
use nearside_lab::http_client::send_with;
use nearside_lab::outln;
use sample::Sample;
use view::{Seen, Table, tables};

/// URLs that are counted; of others it is only known that there are more.
const KEYS_MAX: usize = 10_000;

/// Flags of `nearside top`.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// The node: its admin listener, as an address or a URL, or its name; of a control process all of its nodes; may repeat
    #[arg(long = "node", value_name = "NODE", default_value = "127.0.0.1:7080")]
    nodes: Vec<NodeName>,
    #[command(flatten)]
    control: Control,
    /// How often to look
    #[arg(long, value_name = "TIME", default_value = "1s")]
    interval: Span,
    /// Print what one interval shows, and end
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    token: Token,
}

pub(crate) fn top(args: &TopArgs) -> anyhow::Result<ExitCode> {
    let token = args.token.read()?.map(Arc::new);
    let interval = args.interval.0.max(Duration::from_millis(100));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let nodes = args.control.find(&args.nodes, token.as_deref()).await?;
        // A control process answers no requests: what its nodes do is looked at.
        let nodes = without_controls(nodes, token.as_deref()).await?;
        let mut watch = Watch::start(nodes, token).await?;
        if args.once {
            sleep(interval).await;
            watch.look().await.iter().for_each(print);
            return Ok(ExitCode::SUCCESS);
        }
        screen::run(&mut watch, interval).await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// A table on standard output.
fn print(table: &Table) {
    let width = |column: usize| {
        let cells = table.rows.iter().filter_map(|row| row.get(column)).map(String::as_str);
        cells.chain(table.columns.get(column).copied()).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..table.columns.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    outln!("{}\n  {}", table.title, line(&mut table.columns.iter().copied()));
    for row in &table.rows {
        outln!("  {}", line(&mut row.iter().map(String::as_str)));
    }
    outln!();
}

/// What is watched, and what was counted when it was last looked at.
pub(crate) struct Watch {
    nodes: Vec<Node>,
    token: Option<Arc<Secret>>,
    keys: Arc<Mutex<HashMap<String, u64>>>,
    looked: Instant,
    /// Those who read the logs of nodes.
    _following: Vec<Following>,
}

struct Node {
    target: Target,
    name: String,
    last: Option<Sample>,
}

/// A task that ends with this.
struct Following(AbortHandle);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Watch {
    /// Begins to count. All nodes have to answer now.
    async fn start(targets: Vec<Target>, token: Option<Arc<Secret>>) -> anyhow::Result<Self> {
        let keys = Arc::new(Mutex::new(HashMap::new()));
        let mut nodes = Vec::new();
        let mut following = Vec::new();
        for target in targets {
            let name = about(&target, token.as_deref()).await?.id;
            let counting = count_keys(target.clone(), token.clone(), Arc::clone(&keys));
            following.push(Following(tokio::spawn(counting).abort_handle()));
            let last = scrape(&target, token.as_deref()).await;
            nodes.push(Node { target, name, last });
        }
        Ok(Self { nodes, token, keys, looked: Instant::now(), _following: following })
    }

    /// What was counted since it was last looked.
    pub(crate) async fn look(&mut self) -> Vec<Table> {
        let mut scraping = JoinSet::new();
        for (place, node) in self.nodes.iter().enumerate() {
            let (target, token) = (node.target.clone(), self.token.clone());
            scraping.spawn(async move { (place, scrape(&target, token.as_deref()).await) });
        }
        let mut scraped: Vec<Option<Sample>> = self.nodes.iter().map(|_| None).collect();
        while let Some(Ok((place, sample))) = scraping.join_next().await {
            if let Some(slot) = scraped.get_mut(place) {
                *slot = sample;
            }
        }
        let span = self.looked.elapsed();
        self.looked = Instant::now();
        let mut seen = Vec::new();
        for (node, sample) in self.nodes.iter_mut().zip(scraped) {
            let counted = sample.as_ref().zip(node.last.as_ref()).map(|(now, before)| now.since(before));
            seen.push(Seen { name: node.name.clone(), counted });
            node.last = sample;
        }
        let keys = std::mem::take(&mut *self.keys.lock().unwrap_or_else(PoisonError::into_inner));
        let mut keys: Vec<_> = keys.into_iter().collect();
        keys.sort_by(|(one, a), (other, b)| b.cmp(a).then_with(|| one.cmp(other)));
        tables(&seen, &keys, span)
    }

    /// Whom it watches.
    pub(crate) fn title(&self) -> String {
        let names: Vec<_> = self.nodes.iter().map(|node| node.name.as_str()).collect();
        format!("nearside top: {}", names.join(", "))
    }
}

/// What a node counts now; nothing if it does not answer. Metrics need no token, but with one the node may be called by any name.
async fn scrape(target: &Target, token: Option<&Secret>) -> Option<Sample> {
    let reply = send_with(Method::GET, &target.url("/metrics"), None, token).await.ok()?;
    reply.status.is_success().then(|| Sample::parse(&String::from_utf8_lossy(&reply.body)))
}

/// Counts the URLs that a node is asked for. A node that was lost is tried again.
async fn count_keys(node: Target, token: Option<Arc<Secret>>, keys: Arc<Mutex<HashMap<String, u64>>>) {
    const AGAIN: Duration = Duration::from_secs(1);
    loop {
        let count = |kind: &str, data: &str| {
            if kind == "requests" {
                let mut keys = keys.lock().unwrap_or_else(PoisonError::into_inner);
                for line in data.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
                    let text = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default();
                    let key = format!("{}://{}{}", text("scheme"), text("host"), text("path"));
                    if keys.len() < KEYS_MAX || keys.contains_key(&key) {
                        *keys.entry(key).or_default() += 1;
                    }
                }
            }
            ControlFlow::Continue(())
        };
        // A token may not be good for it: then there are no URLs to show.
        let _ = follow(&node, "/v1/log?q=", token.as_deref(), count).await;
        sleep(AGAIN).await;
    }
}
