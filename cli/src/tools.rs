//! The smaller subcommands.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use http::Method;
use nearside_api::listen;
use nearside_config::ListenAddress;
use nearside_origin_sim::OriginSim;

use crate::admin_client::send_now;
use crate::diagnostics::log_to_stderr;
use crate::port;
use crate::signals::Signals;

/// Flags of `nearside origin-sim`.
#[derive(Debug, Args)]
pub(crate) struct OriginSimArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8099")]
    listen: ListenAddress,
}

pub(crate) fn origin_sim(args: &OriginSimArgs) -> anyhow::Result<ExitCode> {
    let ListenAddress(address) = args.listen;
    let _log = log_to_stderr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::of_server()?;
        let started = match OriginSim::start(address).await {
            Err(error) if listen::lacks_ipv6(address, &error) => match listen::ipv4_instead(address) {
                Some(address) => OriginSim::start(address).await,
                None => Err(error),
            },
            started => started,
        };
        let sim = started.map_err(|error| refused(address, &error))?;
        nearside_diagnostics::say(&format!("origin-sim serving http://{}  (what reached it: /_ledger)", sim.address()));
        signals.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}

fn refused(address: SocketAddr, error: &std::io::Error) -> anyhow::Error {
    let holder = port::holder(address.port()).map_or_else(String::new, |holder| format!(" (held by {holder})"));
    anyhow::anyhow!("cannot listen on {address}: {error}{holder}{}", listen::advice(address, error))
}

/// Flags of `nearside check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration of an edge, a shield, a control process or a simulated WAN
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(crate) fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    if nearside_config::is_control(&args.file) {
        let config = nearside_config::load_control(&args.file)?;
        println!("{}: ok (control, {})", args.file.display(), config.listen);
        return Ok(ExitCode::SUCCESS);
    }
    if nearside_config::is_wan(&args.file) {
        let config = nearside_config::load_wan(&args.file)?;
        let (places, links) = (config.places.len(), config.links.len());
        println!("{}: ok (wan-sim, {places} places, {links} ways)", args.file.display());
        return Ok(ExitCode::SUCCESS);
    }
    let config = nearside_config::load(&args.file)?;
    println!("{}: ok ({} {}, {} site(s))", args.file.display(), config.role.name(), config.id, config.sites.len());
    Ok(ExitCode::SUCCESS)
}

/// Flags of `nearside status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The node's admin listener
    #[arg(long = "node", value_name = "ADDR", default_value = "127.0.0.1:7080")]
    node: SocketAddr,
}

/// Exits 0 if the node is ready: the health check of containers.
pub(crate) fn status(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let reply = send_now(Method::GET, &format!("http://{}/readyz", args.node), None)?;
    if !reply.status.is_success() {
        println!("{} is not ready: {}", args.node, reply.status);
        return Ok(ExitCode::FAILURE);
    }
    println!("{} is ready", args.node);
    Ok(ExitCode::SUCCESS)
}

/// Flags of `nearside completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

#[expect(clippy::unnecessary_wraps, reason = "all subcommands have one shape")]
pub(crate) fn completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "nearside", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn man() -> anyhow::Result<ExitCode> {
    let mut page = Vec::new();
    clap_mangen::Man::new(crate::Cli::command()).render(&mut page)?;
    std::io::stdout().write_all(&page)?;
    Ok(ExitCode::SUCCESS)
}
