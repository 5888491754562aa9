//! later
use clap::Args;
use std::process::ExitCode;
/// x
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {}
pub(super) fn run(_: &CompareArgs) -> anyhow::Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
