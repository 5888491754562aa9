//! Failure scenarios of `nearside loadtest`. Each starts a fleet of processes on this machine,
//! makes something fail, and checks claims about what clients and the origin see.

mod attack;
mod crowd;
mod cuts;
mod freeze;
mod kill;
mod odd;
pub(crate) mod purge_race;
mod slow;
mod test_fleet;

use std::time::Duration;

use anyhow::ensure;
use clap::Subcommand;
use nearside_loadtest::{CrowdReport, Load, Rate, Report, Target};

use crate::claims::{Claims, Verdict};

use test_fleet::TestFleet;

/// Failure of a scenario.
#[derive(Debug, Subcommand)]
pub enum FailureScenario {
    /// What attackers do: it costs no more than it may
    #[command(subcommand)]
    Attack(attack::AttackScenario),
    /// Many clients at once for one cold object: the origin is asked once
    Crowd(crowd::CrowdArgs),
    /// An origin that breaks off again and again: all bodies are right, and it sends little twice
    Cuts(cuts::CutsArgs),
    /// A shield is killed under load: nobody notices who asks for what is stored
    Kill(kill::KillArgs),
    /// The origin freezes under load: what is stored is served, and nothing falls upon it when it is back
    Freeze(freeze::FreezeArgs),
    /// Clients that take a byte a second, vanish, or want a part: nobody else notices
    Odd(odd::OddArgs),
    /// Keys are raised and purged while many read them: nobody gets an older one after the acknowledgement
    PurgeRace(purge_race::PurgeRaceArgs),
    /// Objects larger than the cache, and clients that take them slowly: memory stays bounded
    Slow(slow::SlowArgs),
}

/// Runs a scenario until its end, or until `stop` ends.
///
/// # Errors
///
/// A process cannot be started, or the load cannot be sent.
pub async fn run(scenario: &FailureScenario, stop: impl Future<Output = ()>) -> anyhow::Result<Verdict> {
    let mut fleet = TestFleet::new()?;
    let mut claims = Claims::default();
    let work = async {
        match scenario {
            FailureScenario::Attack(attack) => attack::run(attack, &mut fleet, &mut claims).await,
            FailureScenario::Crowd(args) => crowd::run(args, &mut fleet, &mut claims).await,
            FailureScenario::Cuts(args) => cuts::run(args, &mut fleet, &mut claims).await,
            FailureScenario::Kill(args) => kill::run(args, &mut fleet, &mut claims).await,
            FailureScenario::Freeze(args) => freeze::run(args, &mut fleet, &mut claims).await,
            FailureScenario::Odd(args) => odd::run(args, &mut fleet, &mut claims).await,
            FailureScenario::PurgeRace(args) => purge_race::run(args, &mut fleet, &mut claims).await,
            FailureScenario::Slow(args) => slow::run(args, &mut fleet, &mut claims).await,
        }
    };
    let done = tokio::select! {
        done = work => done.map(|()| claims.conclude("all claims hold", "claim(s) do not hold", Some(fleet.processes.folder()))),
        () = stop => {
            errln!("\nstopping");
            Ok(Verdict::Failed)
        }
    };
    fleet.processes.stop_all().await;
    done
}

/// Load on URLs that take turns.
fn load(urls: &[String], rate: u32, duration: Duration, connections: usize) -> anyhow::Result<Load> {
    let targets = urls.iter().map(|url| Target::parse(url)).collect::<Result<_, _>>()?;
    Ok(Load { rate: Rate::PerSecond(rate), duration, connections, ..Load::new(targets) })
}

/// Checks that every client of a crowd got the right body.
fn all_right(report: &CrowdReport) -> anyhow::Result<()> {
    let CrowdReport { right, wrong, failed, .. } = report;
    let failure = report.last_failure.as_deref().unwrap_or("-");
    holds(*wrong == 0 && *failed == 0, || format!("{right} right, {wrong} wrong, {failed} failed, the last: {failure}"))
}

/// Checks that every request of a run got a response with status 200.
fn all_answered(report: &Report) -> anyhow::Result<()> {
    let failure = report.last_failure.as_deref().unwrap_or("-");
    let due = report.due.unwrap_or(report.answered);
    ensure!(report.failed == 0, "{} of {due} failed, the last one: {failure}", report.failed);
    let well = report.statuses.get(&200).copied().unwrap_or(0);
    ensure!(well == due, "{:?} of {due}", report.statuses);
    Ok(())
}

/// Result of a claim: holds if `is_so`, else fails with the text of `what`.
fn holds(is_so: bool, what: impl FnOnce() -> String) -> anyhow::Result<()> {
    if is_so { Ok(()) } else { Err(anyhow::anyhow!(what())) }
}

/// Converts bytes to MiB for output.
fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
