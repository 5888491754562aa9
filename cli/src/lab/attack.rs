//! What attackers do, and what it may cost.

mod memory;

use clap::Subcommand;

use super::Lab;
use crate::claims::Claims;

/// Kinds of attack.
#[derive(Debug, Subcommand)]
pub(crate) enum Attack {
    /// Loads that make a node hold much: each stays within 1.25 times the cache and 64 MiB
    Memory(memory::MemoryArgs),
}

pub(super) async fn run(attack: &Attack, lab: &mut Lab, claims: &mut Claims) -> anyhow::Result<()> {
    match attack {
        Attack::Memory(args) => memory::run(args, lab, claims).await,
    }
}
