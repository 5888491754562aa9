//! `nearside top`: what nodes do now, in a terminal.

mod sample;
mod screen;
mod view;

use std::collections::HashMap;
use std::net::SocketAddr;
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

use crate::admin_client::{Token, follow, send_with};
use sample::Sample;
use view::{Seen, Table, tables};

/// URLs that are counted; of others it is only known that there are more.
const KEYS_MAX: usize = 10_000;

/// Flags of `nearside top`.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// The node's admin listener; may repeat
    #[arg(long = "node", value_name = "ADDR", default_value = "127.0.0.1:7080")]
    nodes: Vec<SocketAddr>,
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
        let mut watch = Watch::start(&args.nodes, token).await?;
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
    println!("{}\n  {}", table.title, line(&mut table.columns.iter().copied()));
    for row in &table.rows {
        println!("  {}", line(&mut row.iter().map(String::as_str)));
    }
    println!();
}

/// What is watched, and what was counted when it was last looked at.
pub(crate) struct Watch {
    nodes: Vec<Node>,
    keys: Arc<Mutex<HashMap<String, u64>>>,
    looked: Instant,
    /// Those who read the logs of nodes.
    _following: Vec<Following>,
}

struct Node {
    address: SocketAddr,
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
    async fn start(addresses: &[SocketAddr], token: Option<Arc<Secret>>) -> anyhow::Result<Self> {
        let keys = Arc::new(Mutex::new(HashMap::new()));
        let mut nodes = Vec::new();
        let mut following = Vec::new();
        for address in addresses {
            let url = format!("http://{address}/v1/version");
            let reply = send_with(Method::GET, &url, None, token.as_deref()).await?;
            let about: Value = crate::admin_client::understood(address, &reply)?;
            let name = about.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
            nodes.push(Node { address: *address, name, last: scrape(*address).await });
            let counting = count_keys(*address, token.clone(), Arc::clone(&keys));
            following.push(Following(tokio::spawn(counting).abort_handle()));
        }
        Ok(Self { nodes, keys, looked: Instant::now(), _following: following })
    }

    /// What was counted since it was last looked.
    pub(crate) async fn look(&mut self) -> Vec<Table> {
        let mut scraping = JoinSet::new();
        for (place, node) in self.nodes.iter().enumerate() {
            let address = node.address;
            scraping.spawn(async move { (place, scrape(address).await) });
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

/// What a node counts now; nothing if it does not answer.
async fn scrape(address: SocketAddr) -> Option<Sample> {
    let reply = send_with(Method::GET, &format!("http://{address}/metrics"), None, None).await.ok()?;
    reply.status.is_success().then(|| Sample::parse(&String::from_utf8_lossy(&reply.body)))
}

/// Counts the URLs that a node is asked for. A node that was lost is tried again.
async fn count_keys(node: SocketAddr, token: Option<Arc<Secret>>, keys: Arc<Mutex<HashMap<String, u64>>>) {
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
        // A control process has no log, and a token may not be good for it: then there are no URLs to show.
        let _ = follow(&node, "/v1/log?q=", token.as_deref(), count).await;
        sleep(AGAIN).await;
    }
}
