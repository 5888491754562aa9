//! `nearside demo`: a CDN on this machine, each node a process of its own, with a simulated WAN
//! between the nodes.

mod browser;
mod fault;
mod fault_client;
mod fault_server;
mod nodes;
mod tour;
mod tour_check;
mod wan_check;

use anyhow::Context;
use nearside_diagnostics::say;

use crate::claims::Verdict;
use crate::process_fleet::ProcessFleet;

pub(crate) use fault_client::order;
pub use fault_client::{fail, heal, state};
pub use tour::tour;

use nodes::{DemoNode, NETWORKS, NODES};

/// Runs the demo until `stop` ends; with `check`, goes through its unattended tour in place of that.
///
/// # Errors
///
/// A process cannot be started, or ends too often; another demo runs.
pub async fn play(check: bool, stop: impl Future<Output = ()>) -> anyhow::Result<Verdict> {
    let mut fleet = ProcessFleet::new("demo")?;
    std::fs::write(fleet.folder().join("networks.csv"), NETWORKS).context("cannot write where networks are")?;
    let orders = fault_server::listen().await?;
    let work = async {
        for node in &NODES {
            fleet.start(node.member(&fleet)?).await?;
        }
        if check {
            return tour_check::check(&mut fleet).await;
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

fn print_table(fleet: &ProcessFleet) {
    outln!("{:<12} {:<14} {:<30} shield", "node", "city", "url");
    for node in &NODES {
        outln!("{:<12} {:<14} {:<30} {}", node.name, node.city, node.url(), shields_of(node));
    }
    outln!();
    outln!("Open http://127.0.0.1:7080/ in a browser: the planet. Or at a terminal:");
    outln!("  curl -sI http://icn.localhost:8000/        (the site as seen from Seoul: who is nearest, and why)");
    outln!(
        "    cities: gru mex lax yyz dub mad los jnb bom sin icn akl; nrt.icn is one edge, origin.icn the origin, from Seoul"
    );
    outln!("  dig +short -p 7053 @127.0.0.1 www.demo.localhost +subnet=127.1.5.0/24");
    outln!("  nearside purge --wait --url http://demo.localhost/        (on all nodes; --help tells what else)");
    outln!(
        "  nearside demo fail edge-nrt     nearside demo fail link fra-iad     nearside demo fail slow edge-fra 80ms"
    );
    outln!("  nearside demo heal              nearside tour");
    outln!("What reached the origin: http://127.0.0.1:8099/_ledger; the WAN: http://127.0.0.1:8001/v1/wan");
    outln!("Logs of all nodes: {}", fleet.folder().display());
    outln!("Ctrl-C stops everything.");
}

fn shields_of(node: &DemoNode) -> &'static str {
    if node.name.starts_with("edge-") { "shield-fra or shield-iad, by key" } else { "-" }
}
