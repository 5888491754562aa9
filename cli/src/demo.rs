//! `nearside demo`: a planet on this machine: a CDN, each node a process of its own, and a WAN between them.

mod browser;
mod check;
mod nodes;
mod order;
mod planet;
mod tour;
mod what;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use nearside_diagnostics::say;

use crate::claims::Verdict;
use crate::diagnostics::log_to_stderr;
use crate::exit;
use crate::fleet::Fleet;
use crate::signals::Signals;

pub(crate) use order::order;
pub(crate) use tour::tour;

use nodes::{NETWORKS, NODES, Node};

/// Flags of `nearside demo`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DemoArgs {
    #[command(subcommand)]
    order: Option<Order>,
    /// Go through a tour unattended, every step asserted, and exit
    #[arg(long)]
    check: bool,
}

/// What a demo that runs is told.
#[derive(Debug, Subcommand)]
enum Order {
    /// Break something of the demo that runs: `origin`, `control`, `shield-fra`, `edge nrt` stop; `link fra iad` is cut;
    /// `slow edge-fra 80ms` makes all links of it slower
    Fail {
        /// One or more processes; `link` and two cities; or `slow`, a process or two cities, and a time
        #[arg(value_name = "WHAT", required = true, num_args = 1..)]
        what: Vec<String>,
    },
    /// Heal what was broken, or all
    Heal {
        /// The same words as were said to `fail`; all if they are left out
        #[arg(value_name = "WHAT", num_args = 0..)]
        what: Vec<String>,
    },
    /// Say what is broken
    State,
}

pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match &args.order {
            Some(Order::Fail { what }) => order::fail(what).await?,
            Some(Order::Heal { what }) => order::heal(what).await?,
            Some(Order::State) => order::state().await?,
            None => {
                // It watches over the processes: who does not read its standard error must not stop that.
                let _log = log_to_stderr()?;
                let mut signals = Signals::of_command()?;
                return Ok(exit::code_of(play(args.check, signals.stop()).await?));
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Runs a demo until `stop` ends, or goes through its tour.
async fn play(check: bool, stop: impl Future<Output = ()>) -> anyhow::Result<Verdict> {
    let mut fleet = Fleet::new("demo")?;
    std::fs::write(fleet.folder().join("networks.csv"), NETWORKS).context("cannot write where networks are")?;
    let orders = order::listen().await?;
    let work = async {
        for node in &NODES {
            fleet.start(node.member(&fleet)?).await?;
        }
        if check {
            return check::check(&mut fleet).await;
        }
        print_table(&fleet);
        match fleet.watch(orders).await? {}
    };
    let done = tokio::select! {
        done = work => done,
        () = stop => {
            say("\nstopping");
            Ok(Verdict::Passed)
        }
    };
    fleet.stop_all().await;
    done
}

fn print_table(fleet: &Fleet) {
    say!("{:<12} {:<14} {:<30} shield", "node", "city", "url");
    for node in &NODES {
        say!("{:<12} {:<14} {:<30} {}", node.name, node.city, node.url(), shields_of(node));
    }
    say!();
    say!("Open http://127.0.0.1:7080/ in a browser: the planet. Or at a terminal:");
    say!("  curl -sI http://icn.localhost:8000/        (the site as seen from Seoul: who is nearest, and why)");
    say!(
        "    cities: gru mex lax yyz dub mad los jnb bom sin icn akl; nrt.icn is one edge, origin.icn the origin, from Seoul"
    );
    say!("  dig +short -p 7053 @127.0.0.1 www.demo.localhost +subnet=127.1.5.0/24");
    say!("  nearside purge --wait --url http://demo.localhost/        (on all nodes; --help tells what else)");
    say!("  nearside demo fail edge-nrt     nearside demo fail link fra-iad     nearside demo fail slow edge-fra 80ms");
    say!("  nearside demo heal              nearside tour");
    say!("What reached the origin: http://127.0.0.1:8099/_ledger; the WAN: http://127.0.0.1:8001/v1/wan");
    say!("Logs of all nodes: {}", fleet.folder().display());
    say!("Ctrl-C stops everything.");
}

fn shields_of(node: &Node) -> &'static str {
    if node.name.starts_with("edge-") { "shield-fra or shield-iad, by key" } else { "-" }
}
