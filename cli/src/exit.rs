//! Exit codes, and how errors are told.

use std::io::IsTerminal;
use std::process::ExitCode;

use nearside_config::ConfigError;
use nearside_loadtest::LoadError;

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

/// A flag, a value or a combination of them that makes no sense, where that is found after clap has read the command line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// An error of the kind [`Usage`], as text.
macro_rules! usage {
    ($($text:tt)*) => { anyhow::Error::new($crate::exit::Usage(format!($($text)*))) };
}

/// Why a node did not do what it was asked, where that has a code of its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Denied {
    /// It could not be reached.
    #[error("{0}")]
    Unreachable(String),
    /// It does not take the token.
    #[error("{0}")]
    Token(String),
}

/// Tells what went wrong and gives the code for it.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(error) = error.downcast_ref::<ConfigError>() {
        crate::out::print_styled_error(&error.render(has_colours()));
        return ExitCode::from(CONFIG);
    }
    complain!("error: {error:#}");
    if error.is::<Usage>() || error.downcast_ref().is_some_and(is_usage) {
        return ExitCode::from(USAGE);
    }
    ExitCode::from(match error.downcast_ref() {
        Some(Denied::Unreachable(_)) => UNREACHABLE,
        Some(Denied::Token(_)) => REFUSED,
        None => 1,
    })
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
