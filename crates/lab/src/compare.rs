//! `nearside loadtest compare`: this program and other caches on one machine.
//!
//! All servers have one thread and keep the same objects of the same origin in memory. They take
//! turns. The main figure is the CPU time per request of all processes of a server, read from
//! `/proc`: it stays comparable on a busy machine, where requests per second do not. The servers
//! share one core; the load generator and the origin share another.

mod measure;
mod peers;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use nearside_config::Span;
use rustix::thread::{CpuSet, sched_setaffinity};

use measure::Measurement;
use peers::{NAMES, PeerServers};

/// Flags of `nearside loadtest compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Beside whom; all of them have to be installed
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_values_t = NAMES.map(str::to_owned))]
    with: Vec<String>,
    /// How often each is measured, in turn; medians are reported
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=99))]
    rounds: u16,
    /// How long each measurement is
    #[arg(long, value_name = "TIME", default_value = "4s")]
    duration: Span,
    /// Requests per second where all are asked equally often
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..))]
    rate: u32,
    /// Objects of a kibibyte that are stored to see what memory each takes
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    objects: u32,
    /// Clients that come at once for one object
    #[arg(long, value_name = "N", default_value_t = 500)]
    herd: usize,
    /// Where the report goes: `compare.md` and its charts
    #[arg(long, value_name = "FOLDER", default_value = "docs/benchmarks")]
    out: PathBuf,
}

/// Core of the servers.
const SERVERS: usize = 0;
/// Core of the load generator and the origin.
const CLIENTS: usize = 1;

/// Measures this program and others, and writes the report. Binds the thread that runs it to one core, so its runtime must be a
/// current-thread one.
///
/// # Errors
///
/// [`UsageError`](crate::UsageError) where a flag is out of its range; a server is not installed or does not start; the report
/// cannot be written; `stop` has ended first.
pub async fn run(args: &CompareArgs, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    for name in &args.with {
        if !NAMES.contains(&name.as_str()) {
            return Err(usage!("--with: there is no {name}: {}", NAMES.join(", ")));
        }
    }
    if args.duration.0 < Duration::from_secs(1) {
        return Err(usage!("--duration: a second at least"));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    ensure!(cores >= 2, "two cores are needed: one for the servers, one for what asks them");
    peers::are_installed(&args.with)?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot create {}", args.out.display()))?;
    let mut here = CpuSet::new();
    here.set(CLIENTS);
    sched_setaffinity(None, &here).context("cannot stay on one core")?;
    let mut peers = PeerServers::new()?;
    let done = tokio::select! {
        done = all(args, &mut peers) => done,
        () = stop => Err(anyhow::anyhow!("interrupted")),
    };
    peers.stop().await;
    done
}

async fn all(args: &CompareArgs, peers: &mut PeerServers) -> anyhow::Result<()> {
    peers.start(&args.with).await?;
    let bench = Measurement { peers, rounds: args.rounds, duration: args.duration.0, rate: args.rate };
    let results = bench.all(args.objects, args.herd).await?;
    report::write(&args.out, &results, &report::ReportSetting::of(args, peers)?)
}
