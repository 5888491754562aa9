//! The smaller subcommands.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use http::Method;
use nearside_config::lint::{self, Names};
use nearside_config::{ConfigError, Flaw, ListenAddress, Severity};
use nearside_lab::http_client::send;
use nearside_lab::{outln, output};
use nearside_origin_sim::OriginSim;

use crate::admin_client::Token;
use crate::diagnostics::log_to_stderr;
use crate::exit::has_colours;
use crate::nodes::{Control, NodeName};
use crate::signals::Signals;
use crate::{port, verify};

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
            Ok(sim) => Ok(sim),
            Err(error) => match nearside_listen::ipv4_instead(address, &error) {
                Some(address) => OriginSim::start(address).await,
                None => Err(error),
            },
        };
        let sim = started.map_err(|error| refused(address, &error))?;
        nearside_diagnostics::say(&format!("origin-sim serving http://{}  (what reached it: /_ledger)", sim.address()));
        signals.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}

fn refused(address: SocketAddr, error: &std::io::Error) -> anyhow::Error {
    let holder = port::holder(address.port()).map_or_else(String::new, |holder| format!(" (held by {holder})"));
    anyhow::anyhow!("cannot listen on {address}: {error}{holder}{}", nearside_listen::advice(address, error))
}

/// Flags of `nearside check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration of an edge, a shield, a control process or a simulated WAN
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Look at the text alone, not at what this machine has: files that are named, memory, names of next hops
    #[arg(long)]
    text_only: bool,
}

pub(crate) fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let accept = |flaws: Vec<Flaw>| {
        if flaws.is_empty() {
            return Ok(());
        }
        let is_note = |flaw: &Flaw| flaw.severity == Severity::Note;
        let (passes, error) = (flaws.iter().all(is_note), ConfigError::of_flaws(&args.file, flaws));
        if !passes {
            return Err(error);
        }
        output::print_styled_error(&error.notes(has_colours()));
        Ok(())
    };
    if nearside_config::is_control(&args.file) {
        let config = nearside_config::load_control(&args.file)?;
        accept(match args.text_only {
            true => lint::control_flaws(&config, Names::Literal),
            false => verify::control(&config, &args.file),
        })?;
        for deprecated in lint::control_deprecations(&config) {
            let shown = ConfigError::of_flaws(&args.file, vec![deprecated]).render(has_colours());
            output::print_error(format_args!("{shown}"));
        }
        outln!("{}: ok (control, {})", args.file.display(), config.listen);
        return Ok(ExitCode::SUCCESS);
    }
    if nearside_config::is_wan(&args.file) {
        let config = nearside_config::load_wan(&args.file)?;
        accept(lint::wan_flaws(&config))?;
        let (places, links) = (config.places.len(), config.links.len());
        outln!("{}: ok (wan-sim, {places} places, {links} ways)", args.file.display());
        return Ok(ExitCode::SUCCESS);
    }
    let config = nearside_config::load(&args.file)?;
    accept(match args.text_only {
        true => lint::node_flaws(&config, Names::Literal),
        false => verify::node(&config, &args.file),
    })?;
    outln!("{}: ok ({} {}, {} site(s))", args.file.display(), config.role.name(), config.id, config.sites.len());
    Ok(ExitCode::SUCCESS)
}

/// Flags of `nearside status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The node: its admin listener, as an address or a URL, or its name
    #[arg(long = "node", value_name = "NODE", default_value = "127.0.0.1:7080")]
    node: NodeName,
    #[command(flatten)]
    control: Control,
    #[command(flatten)]
    token: Token,
}

/// Exits 0 if the node is ready: the health check of containers.
pub(crate) fn status(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    // Health needs no token; only the look-up of a name may.
    let token = if matches!(args.node, NodeName::Called(_)) { args.token.read()? } else { None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (node, reply) = runtime.block_on(async {
        let node = args.control.find_one(&args.node, token.as_ref()).await?;
        let reply = send(Method::GET, &node.url("/readyz"), None).await?;
        anyhow::Ok((node, reply))
    })?;
    if !reply.status.is_success() {
        outln!("{node} is not ready: {}", reply.status);
        return Ok(ExitCode::FAILURE);
    }
    outln!("{node} is ready");
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
    // It would panic where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "nearside", &mut script);
    output::print(format_args!("{}", String::from_utf8_lossy(&script)));
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn man() -> anyhow::Result<ExitCode> {
    let mut page = Vec::new();
    clap_mangen::Man::new(crate::Cli::command()).render(&mut page)?;
    output::print(format_args!("{}", String::from_utf8_lossy(&page)));
    Ok(ExitCode::SUCCESS)
}
