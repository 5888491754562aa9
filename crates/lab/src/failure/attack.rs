//! Attacks, and the limits of what they may cost.

mod hold;
mod memory;

use clap::Subcommand;
use nearside_loadtest::AttackKind;

use super::test_fleet::TestFleet;
use crate::claims::Claims;

/// Kinds of attack.
#[derive(Debug, Subcommand)]
pub enum AttackScenario {
    /// Uploads of a byte now and then
    Uploads(hold::HoldArgs),
    /// Requests that the origin takes a minute for
    Hanging(hold::HoldArgs),
    /// Responses that are not stored, read a byte now and then
    Downloads(hold::HoldArgs),
    /// Large stored objects, read a byte now and then
    Readers(hold::HoldArgs),
    /// Requests for large objects whose clients leave with the first bytes
    Leavers(hold::HoldArgs),
    /// One URL that always fails
    Errors(hold::HoldArgs),
    /// All of these at once
    Mixed(hold::HoldArgs),
    /// Loads that make a node hold much: each stays within 1.25 times the cache and 64 MiB
    Memory(memory::MemoryArgs),
}

pub(super) async fn run(attack: &AttackScenario, fleet: &mut TestFleet, claims: &mut Claims) -> anyhow::Result<()> {
    let (kinds, args): (&[_], _) = match attack {
        AttackScenario::Uploads(args) => (&[AttackKind::Uploads], args),
        AttackScenario::Hanging(args) => (&[AttackKind::Hanging], args),
        AttackScenario::Downloads(args) => (&[AttackKind::Downloads], args),
        AttackScenario::Readers(args) => (&[AttackKind::Readers], args),
        AttackScenario::Leavers(args) => (&[AttackKind::Leavers], args),
        AttackScenario::Errors(args) => (&[AttackKind::Errors], args),
        AttackScenario::Mixed(args) => (&AttackKind::ALL, args),
        AttackScenario::Memory(args) => return memory::run(args, fleet, claims).await,
    };
    hold::run(kinds, args, fleet, claims).await
}
