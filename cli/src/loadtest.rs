//! `nearside loadtest`: load as its flags say, or one of the scenarios.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use nearside_lab::compare::{self, CompareArgs};
use nearside_lab::failure::{self, FailureScenario};
use nearside_lab::load::{self, LoadArgs, RunArgs};
use nearside_lab::simulate::{self, SimulateArgs};
use nearside_lab::{outln, output, usage};
use nearside_loadtest::{Report, page};
use tokio::runtime::{Builder, Runtime};

use crate::exit;
use crate::signals::Signals;

/// Flags of `nearside loadtest`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct LoadtestArgs {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    load: Option<LoadArgs>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Write the result, with plots, as a page that needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// More than a load.
#[derive(Debug, Subcommand)]
enum What {
    /// Questions with claims, asked of a demo that runs, or of what else a file names: `hot-hit`, or a path; `all`
    Run(RunArgs),
    /// Nearside beside nginx, Varnish, Traffic Server and HAProxy, on this machine: a report with charts
    Compare(CompareArgs),
    /// Hit ratios of a trace without any traffic: what the store keeps, LRU, and an optimum that knows what comes
    Simulate(SimulateArgs),
    #[command(flatten)]
    Failure(FailureScenario),
}

pub(crate) fn loadtest(args: &LoadtestArgs) -> anyhow::Result<ExitCode> {
    match (&args.what, &args.load) {
        (Some(What::Run(args)), _) => multi_thread()?.block_on(async {
            let mut signals = Signals::of_command()?;
            Ok(exit::code_of(load::run(args, signals.stop()).await?))
        }),
        (Some(What::Compare(args)), _) => current_thread()?.block_on(async {
            let mut signals = Signals::of_command()?;
            compare::run(args, signals.stop()).await?;
            Ok(ExitCode::SUCCESS)
        }),
        (Some(What::Simulate(args)), _) => {
            simulate::run(args)?;
            Ok(ExitCode::SUCCESS)
        }
        (Some(What::Failure(scenario)), _) => multi_thread()?.block_on(async {
            let mut signals = Signals::of_command()?;
            Ok(exit::code_of(failure::run(scenario, signals.stop()).await?))
        }),
        (None, Some(load)) => plain(load, args),
        (None, None) => {
            Err(usage!("say what to ask for: --url URL --rate N; or a scenario: `nearside loadtest --help`"))
        }
    }
}

fn multi_thread() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().build()
}

fn current_thread() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn plain(load: &LoadArgs, args: &LoadtestArgs) -> anyhow::Result<ExitCode> {
    let progress = std::io::stderr().is_terminal();
    let report: Report = multi_thread()?.block_on(async {
        let load = load.load().await?;
        tokio::select! {
            report = load.run(progress) => anyhow::Ok(report?),
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                anyhow::bail!("interrupted: nothing is reported")
            }
        }
    })?;
    if let Some(path) = &args.html {
        let text = page("Load test", &command(), &report);
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        output::print(format_args!("{report}"));
    }
    Ok(if report.answered == 0 || report.wrong > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What repeats this run, as it was typed; words that a shell would split are quoted.
fn command() -> String {
    let quoted = |word: String| {
        let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=%,@+".contains(c));
        if plain && !word.is_empty() { word } else { format!("'{}'", word.replace('\'', "'\\''")) }
    };
    let words = std::env::args().skip(1).map(quoted);
    std::iter::once("nearside".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}
