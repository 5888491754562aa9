//! The control process, and what nodes know of it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::{Console, Hook, NodeCredential, SecretFile, Steering, Token, Webhook};
use crate::values::{HostPattern, NatsUrl, Secret, StreamName, Upstream, ValueError};

/// Everything that a control process is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlConfig {
    /// Where operators and nodes reach it.
    pub listen: SocketAddr,
    /// The names under which its listener answers, beside addresses and `localhost`.
    pub hosts: Vec<HostPattern>,
    /// Where the purge log is.
    pub log: PurgeLog,
    /// How much of it is kept.
    pub keep: Keep,
    /// What operators must show. Without any, whoever reaches the listener may do everything, if it is on the loopback.
    pub tokens: Vec<Token>,
    /// What nodes without a credential of their own must show. Without it and without credentials, whoever reaches the listener may
    /// follow, if it is on the loopback.
    pub nodes: Option<Token>,
    /// The nodes that have a credential of their own.
    pub node_credentials: Vec<NodeCredential>,
    /// Who is told what happens.
    pub webhooks: Vec<Webhook>,
    /// Whose events purge something.
    pub hooks: Vec<Hook>,
    /// How clients are sent to edges; nothing: they are not.
    pub steering: Option<Steering>,
    /// Its web page.
    pub console: Console,
    /// Files that secrets were read from.
    pub secret_files: Vec<SecretFile>,
}

impl ControlConfig {
    /// A control process at an address, with a log; all else by default.
    #[must_use]
    pub fn new(listen: SocketAddr, log: PurgeLog) -> Self {
        let (tokens, webhooks, hooks) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            listen,
            hosts: Vec::new(),
            log,
            keep: Keep::default(),
            tokens,
            nodes: None,
            node_credentials: Vec::new(),
            webhooks,
            hooks,
            steering: None,
            console: Console::default(),
            secret_files: Vec::new(),
        }
    }
}

/// Where the purge log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PurgeLog {
    /// In a file of this control process alone.
    File(PathBuf),
    /// On NATS JetStream, where several control processes share it.
    Nats(Nats),
}

impl FromStr for PurgeLog {
    type Err = ValueError;

    /// As it is written on the command line: a file, or `nats://HOST:PORT`.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if !text.contains("://") {
            return Ok(Self::File(text.into()));
        }
        Ok(Self::Nats(Nats::new(vec![text.parse()?])))
    }
}

impl fmt::Display for PurgeLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Nats(Nats { servers, stream, .. }) => {
                let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
                write!(f, "{} on {}", stream.as_str(), servers.join(", "))
            }
        }
    }
}

/// A NATS server or cluster with JetStream, and what is kept there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nats {
    /// Servers of one cluster; the others are learned from the first that answers.
    pub servers: Vec<NatsUrl>,
    /// The name of the stream, and the beginning of all subjects.
    pub stream: StreamName,
    /// Servers that keep a copy.
    pub replicas: usize,
    /// Who this process is, for the server.
    pub login: NatsLogin,
    /// Whose certificates are believed, in place of those of the system.
    pub ca: Option<PathBuf>,
}

impl Nats {
    /// Servers that ask for nothing; all else by default.
    #[must_use]
    pub fn new(servers: Vec<NatsUrl>) -> Self {
        let stream = StreamName::default();
        Self { servers, stream, replicas: 1, login: NatsLogin::None, ca: None }
    }
}

/// Who a process is, for a NATS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NatsLogin {
    /// It is not asked.
    None,
    /// A user and a password.
    User(String, Secret),
    /// A token.
    Token(Secret),
    /// A `.creds` file: a JWT and the seed of its key.
    Credentials(PathBuf),
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
    /// Where control processes of one log listen; any of them will do.
    pub addresses: Vec<Upstream>,
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
