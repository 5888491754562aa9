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

/// The node could not be reached.
#[derive(Debug)]
pub(crate) struct Unreachable(pub(crate) String);

impl std::fmt::Display for Unreachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreachable {}

/// The token was refused.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// Tells what went wrong and gives the code for it.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(error) = error.downcast_ref::<ConfigError>() {
        let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        eprint!("{}", error.render(colours));
        return ExitCode::from(CONFIG);
    }
    eprintln!("error: {error:#}");
    ExitCode::from(match error {
        error if error.is::<Unreachable>() => UNREACHABLE,
        error if error.is::<Refused>() => REFUSED,
        _ => 1,
    })
}
