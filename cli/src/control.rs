//! `nearside control`: from flags or a file to a running control process, and its end.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use nearside_config::{ControlConfig, ListenAddress, PurgeLog, lint};
use nearside_control::{Control, StartError};
use nearside_lab::usage;

use crate::diagnostics::log_to_stderr;
use crate::port;
use crate::signals::Signals;
use crate::verify::Given;

/// Flags of `nearside control`.
#[derive(Debug, Args)]
pub(crate) struct ControlArgs {
    /// Read everything from a file; the flags below then override what it says
    #[arg(long, value_name = "FILE", env = "NEARSIDE_CONFIG")]
    config: Option<PathBuf>,
    /// Listen for operators and nodes; without tokens and a secret for nodes, keep it on the loopback
    #[arg(long, value_name = "ADDR")]
    listen: Option<ListenAddress>,
    /// The purge log: a file, or nats://HOST:PORT of a NATS server with JetStream, which several control processes share
    #[arg(long, value_name = "FILE|URL")]
    log: Option<PurgeLog>,
}

pub(crate) fn control(args: &ControlArgs) -> anyhow::Result<ExitCode> {
    let _log = log_to_stderr()?;
    let config = configure(args)?;
    let flags = [("listen", args.listen.is_some()), ("purge_log", args.log.is_some())];
    let flags = flags.into_iter().filter(|(_, is_given)| *is_given).map(|(key, _)| key).collect();
    Given { file: args.config.clone(), flags }.accept_control(&config)?;
    for deprecated in lint::control_deprecations(&config) {
        tracing::warn!("{deprecated}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::of_server()?;
        let log = config.log.to_string();
        let control = Control::start(config).await.map_err(explain)?;
        tracing::info!(role = "control", log, "serving http://{}", control.address());
        signals.stop().await;
        tracing::info!(role = "control", "stopping: orders under way are finished");
        control.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}

fn configure(args: &ControlArgs) -> anyhow::Result<ControlConfig> {
    let file = args.config.as_deref().map(nearside_config::load_control).transpose()?;
    let listen = args.listen.map(|ListenAddress(address)| address).or(file.as_ref().map(|file| file.listen));
    let log = args.log.clone().or(file.as_ref().map(|file| file.log.clone()));
    let (Some(listen), Some(log)) = (listen, log) else {
        return Err(usage!(
            "nearside control needs a listener and a log: --listen 127.0.0.1:7080 --log FILE, or --config FILE"
        ));
    };
    Ok(match file {
        Some(file) => ControlConfig { listen, log, ..file },
        None => ControlConfig::new(listen, log),
    })
}

fn explain(error: StartError) -> anyhow::Error {
    if let StartError::Listen { address, cause } = &error
        && cause.kind() == std::io::ErrorKind::AddrInUse
    {
        let holder = port::holder(address.port()).map_or_else(String::new, |holder| format!(" by {holder}"));
        return anyhow::anyhow!("port {} is in use{holder}: {error}", address.port());
    }
    anyhow::Error::new(error).context("cannot start")
}
