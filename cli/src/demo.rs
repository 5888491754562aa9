//! `nearside demo`: a CDN on this machine, each node a process of its own.

mod check;
mod nodes;

use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::fleet::Fleet;

use nodes::{NODES, Node};

/// Flags of `nearside demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Go through a tour unattended, every step asserted, and exit
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let mut fleet = Fleet::new("demo")?;
        let work = async {
            for node in &NODES {
                fleet.start(node.member(&fleet)?).await?;
            }
            if args.check {
                return check::check(&mut fleet).await;
            }
            print_table(&fleet);
            fleet.watch().await
        };
        let done = tokio::select! {
            done = work => done,
            _ = terminate.recv() => Ok(ExitCode::SUCCESS),
            _ = hang_up.recv() => Ok(ExitCode::SUCCESS),
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                eprintln!("\nstopping");
                Ok(ExitCode::SUCCESS)
            }
        };
        fleet.stop_all().await;
        done
    })
}

fn print_table(fleet: &Fleet) {
    println!("{:<12} {:<14} {:<30} shield", "node", "city", "url");
    for node in &NODES {
        println!("{:<12} {:<14} {:<30} {}", node.name, node.city, node.url(), shields_of(node));
    }
    println!();
    println!("Open http://nrt.localhost:8085/ in a browser, twice; then another edge. Or:");
    println!("  curl -sI http://nrt.localhost:8085/ | grep -i -e cache-status -e age");
    println!("  nearside purge --wait --url http://nrt.localhost:8085/        (on all nodes; --help tells what else)");
    println!("What reached the origin: http://127.0.0.1:8099/_ledger");
    println!("Logs of all nodes: {}", fleet.folder().display());
    println!("Ctrl-C stops everything.");
}

fn shields_of(node: &Node) -> &'static str {
    if node.name.starts_with("edge-") { "shield-fra or shield-iad, by key" } else { "-" }
}
