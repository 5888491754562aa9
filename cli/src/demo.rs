//! `nearside demo` and `nearside tour`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use nearside_lab::demo;

use crate::diagnostics::log_to_stderr;
use crate::exit;
use crate::signals::Signals;

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

pub(crate) fn demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match &args.order {
            Some(Order::Fail { what }) => demo::fail(what).await?,
            Some(Order::Heal { what }) => demo::heal(what).await?,
            Some(Order::State) => demo::state().await?,
            None => {
                // It watches over the processes: who does not read its standard error must not stop that.
                let _log = log_to_stderr()?;
                let mut signals = Signals::of_command()?;
                return Ok(exit::code_of(demo::play(args.check, signals.stop()).await?));
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

pub(crate) fn tour() -> anyhow::Result<ExitCode> {
    demo::tour()?;
    Ok(ExitCode::SUCCESS)
}
