//! Exit codes, and how errors are told.

use std::io::IsTerminal;
use std::process::ExitCode;

use nearside_config::ConfigError;

/// The node cannot be reached (`EX_UNAVAILABLE` of sysexits).
const UNREACHABLE: u8 = 69;
/// Accepted, but not all nodes have applied it in time (`EX_TEMPFAIL`).
pub(crate) const TIMED_OUT: u8 = 75;
/// The token was refused (`EX_NOPERM`).
const REFUSED: u8 = 77;
/// The configuration is invalid (`EX_CONFIG`).
pub(crate) const CONFIG: u8 = 78;

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
        let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        eprint!("{}", error.render(colours));
        return ExitCode::from(CONFIG);
    }
    eprintln!("error: {error:#}");
    ExitCode::from(match error.downcast_ref() {
        Some(Denied::Unreachable(_)) => UNREACHABLE,
        Some(Denied::Token(_)) => REFUSED,
        None => 1,
    })
}
