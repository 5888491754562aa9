//! The smaller subcommands.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use http::Method;
use nearside_config::{ListenAddress, Span};
use nearside_loadtest::Load;
use nearside_origin_sim::OriginSim;

use crate::admin_client::send_now;
use crate::lab::{self, Scenario};
use crate::port;

/// Flags of `nearside origin-sim`.
#[derive(Debug, Args)]
pub(crate) struct OriginSimArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8099")]
    listen: ListenAddress,
}

pub(crate) fn origin_sim(args: &OriginSimArgs) -> anyhow::Result<ExitCode> {
    let ListenAddress(address) = args.listen;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let sim = OriginSim::start(address).await.map_err(|error| refused(address, &error))?;
        eprintln!("origin-sim serving http://{}  (what reached it: /_ledger)", sim.address());
        tokio::select! {
            _ = terminate.recv() => {}
            done = tokio::signal::ctrl_c() => done?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn refused(address: SocketAddr, error: &std::io::Error) -> anyhow::Error {
    let holder = port::holder(address.port()).map_or_else(String::new, |holder| format!(" (held by {holder})"));
    anyhow::anyhow!("cannot listen on {address}: {error}{holder}")
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

/// Flags of `nearside loadtest`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct LoadtestArgs {
    #[command(subcommand)]
    scenario: Option<Scenario>,
    /// What to ask for; may repeat: the URLs take turns
    #[arg(long = "url", value_name = "URL", required = true)]
    urls: Vec<String>,
    /// Requests per second, sent on time whether or not the ones before were answered
    #[arg(long, value_name = "N", required = true, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// For how long: "10s"
    #[arg(long, value_name = "TIME", default_value = "10s")]
    duration: Span,
    /// Connections at most; a request that finds none free waits, and its wait counts
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn loadtest(args: &LoadtestArgs) -> anyhow::Result<ExitCode> {
    if let Some(scenario) = &args.scenario {
        return lab::run(scenario);
    }
    let load = Load::new(&args.urls, args.rate.unwrap_or(1), args.duration.0, usize::from(args.connections))?;
    let progress = std::io::stderr().is_terminal() && !args.json;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(load.run(progress))?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(if report.answered == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
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
