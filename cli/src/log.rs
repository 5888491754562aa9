//! `nearside log`: the requests that nodes answer, as they end.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use nearside_config::Secret;
use nearside_diagnostics::visible_line;
use nearside_lab::{errln, outln, output, usage};
use nearside_protocol::Filter;
use nearside_protocol::filter::LOG_FIELDS;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::admin_client::{Token, follow};
use crate::nodes::{Control, NodeName, Target, without_controls};

/// Flags of `nearside log`.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// Only requests for which this holds, over the fields of the access log: 'cache=="miss" and ttfb>0.2'. Operators: == != < <=
    /// > >=, ~ for a text that holds another; and, or, not, parentheses; a field alone says that it is there
    #[arg(short = 'q', long = "query", value_name = "EXPRESSION", default_value = "")]
    query: String,
    /// The node: its admin listener, as an address or a URL, or its name; of a control process all of its nodes; may repeat
    #[arg(long = "node", value_name = "NODE", default_value = "127.0.0.1:7080")]
    nodes: Vec<NodeName>,
    #[command(flatten)]
    control: Control,
    /// End after so many requests
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print JSON, a line for each; so it is where the output is no terminal
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    token: Token,
}

pub(crate) fn log(args: &LogArgs) -> anyhow::Result<ExitCode> {
    let filter = Filter::parse(&args.query).map_err(|error| usage!("-q {:?}: {error}", args.query))?;
    filter.check(&LOG_FIELDS).map_err(|error| usage!("-q {:?}: {error}", args.query))?;
    let token = args.token.read()?.map(Arc::new);
    let json = args.json || !std::io::stdout().is_terminal();
    let left = Arc::new(AtomicU64::new(args.count.unwrap_or(u64::MAX)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let nodes = args.control.find(&args.nodes, token.as_deref()).await?;
        let nodes = without_controls(nodes, token.as_deref()).await?;
        let mut following = JoinSet::new();
        for node in nodes {
            following.spawn(one(node, args.query.clone(), token.clone(), json, Arc::clone(&left)));
        }
        tokio::select! {
            ended = following.join_next() => ended.context("no node to follow")??,
            () = abandoned() => Ok(()),
            interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Until nobody reads any more: a filter may let no line through for hours.
async fn abandoned() {
    const LOOK_EVERY: Duration = Duration::from_millis(250);
    while !output::is_abandoned() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Follows one node until enough was printed, whoever printed it.
async fn one(
    node: Target,
    query: String,
    token: Option<Arc<Secret>>,
    json: bool,
    left: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    let target =
        format!("/v1/log?{}", form_urlencoded::Serializer::new(String::new()).append_pair("q", &query).finish());
    follow(&node, &target, token.as_deref(), |kind, data| match kind {
        "requests" => print(data, json, &left),
        "missed" => {
            let data = visible_line(data);
            errln!("{node}: {data} batch(es) of requests were missed: there are more than can be printed");
            ControlFlow::Continue(())
        }
        _ => ControlFlow::Continue(()),
    })
    .await
}

/// Prints a batch of lines; breaks off once nobody reads them, or there were enough.
fn print(lines: &str, json: bool, left: &AtomicU64) -> ControlFlow<()> {
    for line in lines.lines() {
        // Another node's lines may have been the last ones.
        let one_less = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        let Ok(before) = one_less else { return ControlFlow::Break(()) };
        if json {
            outln!("{line}");
        } else {
            outln!("{}", visible_line(&pretty(line)));
        }
        if !output::is_open() || before == 1 {
            return ControlFlow::Break(());
        }
    }
    ControlFlow::Continue(())
}

/// A line for the eye.
fn pretty(line: &str) -> String {
    let Ok(line) = serde_json::from_str::<Value>(line) else { return line.to_owned() };
    let text = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default();
    let number = |name: &str| line.get(name).and_then(Value::as_f64).unwrap_or_default();
    let upstream = match text("upstream") {
        "" => String::new(),
        upstream => format!(" {upstream} {:.1} ms", number("upstream_duration") * 1000.0),
    };
    let reason = if text("reason").is_empty() { String::new() } else { format!(" ({})", text("reason")) };
    let error = if text("error").is_empty() { String::new() } else { format!(" {}", text("error")) };
    let query = if line.get("query").is_some() { "?…" } else { "" };
    format!(
        "{:<10} {:<11} {} {} {}{}{query} {} B {:.1} ms{upstream}{reason}{error}",
        text("node"),
        text("cache"),
        number("status"),
        text("method"),
        text("host"),
        text("path"),
        number("bytes"),
        number("duration") * 1000.0,
    )
}
