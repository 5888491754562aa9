//! `nearside demo`: a planet on this machine: a CDN, each node a process of its own, and a WAN between them.

mod browser;
mod check;
mod nodes;
mod order;
mod planet;
mod tour;
mod what;

use anyhow::Context;
use nearside_diagnostics::say;

use crate::claims::Verdict;
use crate::fleet::Fleet;

pub(crate) use order::order;
pub use order::{fail, heal, state};
pub use tour::tour;

use nodes::{NETWORKS, NODES, Node};

/// Runs the demo until `stop` ends; with `check`, goes through its unattended tour in place of that.
///
/// # Errors
///
/// A process cannot be started, or ends too often; another demo runs.
pub async fn play(check: bool, stop: impl Future<Output = ()>) -> anyhow::Result<Verdict> {
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
