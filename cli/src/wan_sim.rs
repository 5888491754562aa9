//! `nearside wan-sim`: a WAN in one process, for demos and labs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use nearside_wan_sim::WanSim;

use crate::diagnostics::log_to_stderr;
use crate::signals::Signals;
use crate::verify::Given;

/// Flags of `nearside wan-sim`.
#[derive(Debug, Args)]
pub(crate) struct WanSimArgs {
    /// Who is where, and the ways between them
    #[arg(long, value_name = "FILE", env = "NEARSIDE_CONFIG")]
    config: PathBuf,
}

pub(crate) fn wan_sim(args: &WanSimArgs) -> anyhow::Result<ExitCode> {
    let _log = log_to_stderr()?;
    let config = nearside_config::load_wan(&args.config)?;
    Given { file: Some(args.config.clone()), flags: Vec::new() }.accept_wan(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::of_server()?;
        let sim = WanSim::start(config).await?;
        let at = |address: Option<SocketAddr>| address.map_or_else(|| "-".to_owned(), |a| format!("http://{a}"));
        let (api, door) = (at(sim.api()), at(sim.door()));
        tracing::info!(role = "wan-sim", api, links = sim.links().len(), "browsers come in at {door}");
        signals.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}
