//! Exit codes, and how errors are told.

use std::io::IsTerminal;
use std::process::ExitCode;

use nearside_config::ConfigError;
use nearside_lab::http_client::Unreachable;
use nearside_lab::{UsageError, Verdict, errln, output};
use nearside_loadtest::LoadError;

/// Any other error.
const FAILED: u8 = 1;
/// The command line is wrong: what clap exits with.
const USAGE: u8 = 2;
/// The node cannot be reached (`EX_UNAVAILABLE` of sysexits).
const UNREACHABLE: u8 = 69;
/// Accepted, but not all nodes have applied it in time (`EX_TEMPFAIL`).
pub(crate) const TIMED_OUT: u8 = 75;
/// The token was refused (`EX_NOPERM`).
const REFUSED: u8 = 77;
/// The configuration is invalid (`EX_CONFIG`).
pub(crate) const CONFIG: u8 = 78;

/// A token that a node does not take.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TokenRefused(pub(crate) String);

/// Exit code of a run.
pub(crate) fn code_of(verdict: Verdict) -> ExitCode {
    match verdict {
        Verdict::Passed => ExitCode::SUCCESS,
        Verdict::Failed => ExitCode::FAILURE,
    }
}

/// Tells what went wrong and gives the code for it.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(error) = error.downcast_ref::<ConfigError>() {
        output::print_styled_error(&error.render(has_colours()));
        return ExitCode::from(CONFIG);
    }
    errln!("error: {error:#}");
    let is_usage = error.is::<UsageError>() || error.downcast_ref().is_some_and(is_usage);
    let code = if is_usage {
        USAGE
    } else if error.is::<Unreachable>() {
        UNREACHABLE
    } else if error.is::<TokenRefused>() {
        REFUSED
    } else {
        FAILED
    };
    ExitCode::from(code)
}

/// Whether what was ordered of the load generator does not fit together.
fn is_usage(error: &LoadError) -> bool {
    match error {
        LoadError::Url(_)
        | LoadError::Needs { .. }
        | LoadError::Streams
        | LoadError::TooFew { .. }
        | LoadError::Field(_) => true,
        LoadError::Trust(_) | LoadError::Unreachable { .. } | LoadError::Fill(_) | LoadError::System(_) => false,
    }
}

/// Whether standard error is a terminal that shows colours.
pub(crate) fn has_colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}
