//! `nearside purge`: gives nodes an order, and prints each receipt as it comes.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use http::Method;
use nearside_config::{Secret, Span};
use nearside_diagnostics::visible_line;
use nearside_lab::http_client::send_with;
use nearside_lab::outln;
use nearside_protocol::{NodeReceipt, Order, Receipt, State, Wait};
use tokio::time::{Instant, sleep};

use crate::admin_client::{Token, understood};
use crate::exit;
use crate::nodes::{Control, NodeName, Target};

/// Flags of `nearside purge`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true)))]
pub(crate) struct PurgeArgs {
    /// A URL, with all its variants; may repeat
    #[arg(long = "url", value_name = "URL", group = "what")]
    urls: Vec<String>,
    /// A surrogate key; may repeat
    #[arg(long = "tag", value_name = "TAG", group = "what")]
    tags: Vec<String>,
    /// What URLs begin with: a host and the beginning of a path; may repeat
    #[arg(long = "prefix", value_name = "PREFIX", group = "what")]
    prefixes: Vec<String>,
    /// A host; may repeat
    #[arg(long = "host", value_name = "HOST", group = "what")]
    hosts: Vec<String>,
    /// Everything
    #[arg(long, group = "what")]
    all: bool,
    /// A file with a line for each: "url URL", "tag TAG", "prefix PREFIX", "host HOST"; "-" for standard input
    #[arg(long, value_name = "FILE", group = "what")]
    from: Option<PathBuf>,
    /// Of this site only
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    /// The node: its admin listener, as an address or a URL, or its name; a control process purges from all of its nodes; may repeat:
    /// shields first, then edges
    #[arg(long = "node", value_name = "NODE", default_value = "127.0.0.1:7080")]
    nodes: Vec<NodeName>,
    #[command(flatten)]
    control: Control,
    /// Only stale from now on: validated before it is used, or served as the stale rules allow
    #[arg(long, conflicts_with = "erase")]
    soft: bool,
    /// Gone from memory before it is acknowledged
    #[arg(long)]
    erase: bool,
    /// Wait until all nodes have applied it, and exit 75 if they have not in time; this is the default
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Only have it accepted: exits 0 whatever nodes have applied it by then
    #[arg(long, overrides_with = "wait")]
    no_wait: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "2s")]
    timeout: Span,
    /// Only count what would be purged
    #[arg(long)]
    dry_run: bool,
    /// Print the receipts as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    token: Token,
}

impl PurgeArgs {
    /// Whether it is waited for all nodes. Of two flags the last counts.
    fn waits(&self) -> bool {
        self.wait || !self.no_wait
    }
}

/// So often it is asked who has done it.
const LOOK_AGAIN: Duration = Duration::from_millis(30);
/// A node or control process counts for so long at most.
const COUNT_MAX: Duration = Duration::from_secs(60);
/// Things in one order; more are sent as several.
const TARGETS_MAX: usize = nearside_protocol::order::TARGETS_MAX;

pub(crate) fn purge(args: &PurgeArgs) -> anyhow::Result<ExitCode> {
    let orders = orders(args)?;
    let token = args.token.read()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let is_complete = runtime.block_on(async {
        let nodes = args.control.find(&args.nodes, token.as_ref()).await?;
        let mut is_complete = true;
        for order in orders {
            let body = serde_json::to_string(&order)?;
            for node in &nodes {
                is_complete &= give(args, node, &body, token.as_ref()).await?;
            }
        }
        anyhow::Ok(is_complete)
    })?;
    Ok(if is_complete || !args.waits() { ExitCode::SUCCESS } else { ExitCode::from(exit::TIMED_OUT) })
}

/// Gives an order to a node, or to a control process, and prints each receipt as it comes; whether all that were waited for
/// have come.
async fn give(args: &PurgeArgs, node: &Target, body: &str, token: Option<&Secret>) -> anyhow::Result<bool> {
    let begin = Instant::now();
    let url = node.url("/v1/purge");
    let reply = send_with(Method::POST, &url, Some(body.to_owned()), token).await?;
    let mut receipt: Receipt = understood(node, &reply)?;
    let mut printed = BTreeSet::new();
    while args.waits() && !receipt.is_complete() && begin.elapsed() < args.timeout.0 {
        print_done(args, &receipt, &mut printed);
        sleep(LOOK_AGAIN).await;
        let reply = send_with(Method::GET, &format!("{url}/{}", receipt.id), None, token).await?;
        receipt = understood(node, &reply)?;
    }
    if args.json {
        outln!("{}", serde_json::to_string(&receipt)?);
    } else {
        print_done(args, &receipt, &mut printed);
        receipt.nodes.iter().filter(|node| !printed.contains(&node.id)).for_each(print);
    }
    Ok(receipt.is_complete())
}

/// The orders that the flags and the file make: as few as hold all of it.
fn orders(args: &PurgeArgs) -> anyhow::Result<Vec<Order>> {
    let named = [("url", &args.urls), ("tag", &args.tags), ("prefix", &args.prefixes), ("host", &args.hosts)];
    let mut named: Vec<(String, String)> =
        named.into_iter().flat_map(|(kind, all)| all.iter().map(move |one| (kind.to_owned(), one.clone()))).collect();
    if let Some(path) = &args.from {
        named.extend(lines(path)?);
    }
    let plain = || Order {
        site: args.site.clone(),
        soft: args.soft,
        erase: args.erase,
        dry_run: args.dry_run,
        // What is waited for is asked for, so that it can be printed as it comes. A dry run is nothing else.
        wait: if args.dry_run { Wait::Applied } else { Wait::None },
        // Longer than that a node keeps nobody waiting, for whom it counts.
        timeout: nearside_protocol::order::Timeout(args.timeout.0.min(COUNT_MAX)),
        ..Order::default()
    };
    let mut orders: Vec<_> = named
        .chunks(TARGETS_MAX)
        .map(|chunk| {
            let mut order = plain();
            for (kind, one) in chunk {
                let list = match kind.as_str() {
                    "url" => &mut order.urls,
                    "tag" => &mut order.tags,
                    "prefix" => &mut order.prefixes,
                    _ => &mut order.hosts,
                };
                list.push(one.clone());
            }
            order
        })
        .collect();
    if args.all {
        orders.push(Order { all: true, ..plain() });
    }
    anyhow::ensure!(!orders.is_empty(), "there is nothing in the file");
    Ok(orders)
}

/// What a file names, all of it understood before anything is sent.
fn lines(path: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let name = path.display();
    let input: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::io::BufReader::new(std::fs::File::open(path).with_context(|| format!("{name} cannot be read"))?))
    };
    let mut named = Vec::new();
    for (number, line) in input.lines().enumerate() {
        let line = line.with_context(|| format!("{name} cannot be read"))?;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once(char::is_whitespace) {
            Some((kind @ ("url" | "tag" | "prefix" | "host"), one)) => {
                named.push((kind.to_owned(), one.trim().to_owned()));
            }
            _ => bail!(
                "{name}:{}: expected \"url\", \"tag\", \"prefix\" or \"host\" and what it is, found {line:?}",
                number + 1
            ),
        }
    }
    Ok(named)
}

/// Prints the lines of those that have done it, and are not printed yet.
fn print_done(args: &PurgeArgs, receipt: &Receipt, printed: &mut BTreeSet<String>) {
    for node in receipt.nodes.iter().filter(|node| matches!(node.state, State::Applied | State::Counted)) {
        if !args.json && printed.insert(node.id.clone()) {
            print(node);
        }
    }
}

/// A line for a node.
fn print(node: &NodeReceipt) {
    let fenced = match node.fenced_fills {
        0 => String::new(),
        fills => format!(", {fills} fenced"),
    };
    let id = visible_line(&node.id);
    outln!("{id:<12} {:<11} {} matched{fenced}, {:.1} ms", node.state.as_str(), node.matched, node.ms);
}
