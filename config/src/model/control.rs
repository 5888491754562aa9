//! The control process, and what nodes know of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::{Hook, Token, Webhook};
use crate::values::{Secret, Upstream, ValueError};

/// Everything that a control process is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlConfig {
    /// Where operators and nodes reach it.
    pub listen: SocketAddr,
    /// The purge log.
    pub log: PathBuf,
    /// How much of it is kept.
    pub keep: Keep,
    /// What operators must show. Without any, whoever reaches the listener may do everything, if it is on the loopback.
    pub tokens: Vec<Token>,
    /// What nodes must show; the same without one.
    pub nodes: Option<Token>,
    /// Who is told what happens.
    pub webhooks: Vec<Webhook>,
    /// Whose events purge something.
    pub hooks: Vec<Hook>,
}

impl ControlConfig {
    /// A control process at an address, with a log; all else by default.
    #[must_use]
    pub fn new(listen: SocketAddr, log: PathBuf) -> Self {
        let (tokens, webhooks, hooks) = (Vec::new(), Vec::new(), Vec::new());
        Self { listen, log, keep: Keep::default(), tokens, nodes: None, webhooks, hooks }
    }
}

/// How much of the purge log is kept. A node that was away for longer makes stale all that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Orders at most.
    pub records: usize,
    /// For how long at most.
    pub time: Duration,
}

impl Default for Keep {
    fn default() -> Self {
        Self { records: 100_000, time: Duration::from_secs(7 * 24 * 3600) }
    }
}

/// The control process, as a node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follows {
    /// Where it listens.
    pub address: Upstream,
    /// Shown to it.
    pub secret: Option<Secret>,
    /// So long a node may be out of touch, or behind, before it lags.
    pub lag_max: Duration,
}

impl Follows {
    /// So long a node may be behind by default.
    pub const LAG_MAX: Duration = Duration::from_secs(5);
}

/// What a site's clients get while their node does not know what was purged lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnLag {
    /// What is stored, as if it were known.
    #[default]
    Serve,
    /// What is stored, once the next hop has said that it is still right.
    Revalidate,
}

impl FromStr for OnLag {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "serve" => Ok(Self::Serve),
            "revalidate" => Ok(Self::Revalidate),
            _ => Err(ValueError("\"serve\" or \"revalidate\"".to_owned())),
        }
    }
}
