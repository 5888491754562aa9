//! The diagnostic log of a process of this program.

use std::io::IsTerminal;

use anyhow::Context;
use nearside_diagnostics::Guard;

/// pingora and rustls log through `log`; what rustls warns of is what any client can send, and what NATS does is told by
/// control.
const FILTER: &str = "info,pingora_core=error,rustls=error,async_nats=warn,hickory_server=warn";

/// Sends events to standard error, from a thread of its own; `NEARSIDE_LOG` filters them, as in `NEARSIDE_LOG=debug`. To be
/// held until the process ends: what is dropped flushes.
pub(crate) fn log_to_stderr() -> anyhow::Result<Guard> {
    let filter = std::env::var("NEARSIDE_LOG").unwrap_or_else(|_unset| FILTER.to_owned());
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    nearside_diagnostics::install(&filter, colours).context("cannot set up the log on standard error")
}
