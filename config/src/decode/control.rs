//! The file of a control process, and the part of a node's file that is about it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use toml::de::DeTable;

use super::{hook, node, parse_with, small, steering, token};
use crate::model::{ControlConfig, Follows, Keep, Nats, NatsLogin, PurgeLog, Scope, Token};
use crate::problem::ConfigError;
use crate::section::Section;
use crate::values::{ListenAddress, NatsUrl, Secret, Span, StreamName, Upstream, ValueError};

/// Reads and checks the file of a control process.
///
/// # Errors
///
/// The file cannot be read, or has problems: all of them.
pub fn load_control(path: &Path) -> Result<ControlConfig, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    parse_with(&path.display().to_string(), text, control)
}

/// Whether a file says that it is a control process's.
#[must_use]
pub fn is_control(path: &Path) -> bool {
    role_of(path).as_deref() == Some("control")
}

/// Whether a file says that it is a simulated WAN's.
#[must_use]
pub fn is_wan(path: &Path) -> bool {
    role_of(path).as_deref() == Some("wan-sim")
}

fn role_of(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let (table, _) = DeTable::parse_recoverable(&text);
    table.get_ref().get("role")?.get_ref().as_str().map(str::to_owned)
}

pub(crate) fn control(root: &Section<'_>) -> Option<ControlConfig> {
    if root.get::<String>("role").is_none_or(|role| role != "control") {
        root.object("role", "this is no control process", "something else", "write role = \"control\"");
        // All other keys are those of another program.
        root.ignore_unknown();
        return None;
    }
    let listen: Option<ListenAddress> = root.required("listen", "add listen = \"127.0.0.1:7080\"");
    let section = root.section("purge_log");
    let defaults = Keep::default();
    let keep = Keep {
        records: small(section.number("keep", defaults.records as u64, 1..=10_000_000)),
        time: section.or("keep_for", Span(defaults.time)).0,
    };
    let log = purge_log(&section);
    let tokens = token::tokens(root, None);
    let secret: Option<Secret> = root.section("nodes").get("secret");
    let nodes = secret.map(|secret| Token { name: "nodes".to_owned(), secret, scope: Scope::Admin, sites: Vec::new() });
    let node_credentials = node::credentials(root, nodes.as_ref());
    let (webhooks, hooks, steering) = (hook::webhooks(root), hook::hooks(root), steering::steering(root));
    let (hosts, console) = (root.list("hosts"), steering::console(root));
    Some(ControlConfig {
        listen: listen?.0,
        hosts,
        log: log?,
        keep,
        tokens,
        nodes,
        node_credentials,
        webhooks,
        hooks,
        steering,
        console,
        secret_files: root.secret_files(),
    })
}

/// The keys of each kind are asked for in any case, so that they are known; those of the other kind mean nothing.
fn purge_log(section: &Section<'_>) -> Option<PurgeLog> {
    let kind = section.or("kind", LogKind::File);
    let nats_keys = ["servers", "stream", "replicas", "user", "password", "token", "credentials", "ca"];
    let foreign = match kind {
        LogKind::File => nats_keys.into_iter().find(|key| section.has(key)),
        LogKind::Nats => Some("file").filter(|key| section.has(key)),
    };
    if let Some(key) = foreign {
        let (title, other) = (format!("`{key}` means nothing for a log of this kind"), kind.other());
        section.object(key, &title, "not looked at", &format!("write kind = \"{other}\", or remove it"));
    }
    let nats = nats(section, kind == LogKind::Nats);
    match kind {
        LogKind::File => {
            let help = "add [purge_log] with file = \"/var/lib/nearside/purges.log\"";
            section.required::<String>("file", help).map(|path| PurgeLog::File(PathBuf::from(path)))
        }
        LogKind::Nats => nats.map(PurgeLog::Nats),
    }
}

fn nats(section: &Section<'_>, is_used: bool) -> Option<Nats> {
    let servers: Vec<NatsUrl> = section.list("servers");
    if is_used && section.is_void("servers") {
        section.absent(
            "servers",
            "it is not said where NATS is",
            "no servers",
            "add servers = [\"nats://127.0.0.1:4222\"]",
        );
    }
    let path = |key| section.get::<String>(key).map(PathBuf::from);
    let (user, password): (Option<String>, Option<Secret>) = (section.get("user"), section.get("password"));
    let (token, credentials): (Option<Secret>, _) = (section.get("token"), path("credentials"));
    let login = match (user, password, token, credentials) {
        (None, None, None, None) => Some(NatsLogin::None),
        (Some(user), Some(password), None, None) => Some(NatsLogin::User(user, password)),
        (None, None, Some(token), None) => Some(NatsLogin::Token(token)),
        (None, None, None, Some(file)) => Some(NatsLogin::Credentials(file)),
        _ => None,
    };
    let are_read = ["user", "password", "token", "credentials"].into_iter().all(|key| section.is_sound(key));
    if login.is_none() && are_read {
        let given = ["user", "password", "token", "credentials"].into_iter().find(|key| section.has(key));
        section.object(
            given.unwrap_or_default(),
            "it is not clear who this process is for NATS",
            "one way to log in",
            "give user and password, or token, or credentials",
        );
    }
    let (stream, replicas) = (section.or("stream", StreamName::default()), section.number("replicas", 1, 1..=5));
    let ca = path("ca");
    let login = login.filter(|_| !servers.is_empty())?;
    Some(Nats { servers, stream, replicas: small(replicas), login, ca })
}

/// What a purge log may be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogKind {
    File,
    Nats,
}

impl LogKind {
    fn other(self) -> &'static str {
        match self {
            Self::File => "nats",
            Self::Nats => "file",
        }
    }
}

impl FromStr for LogKind {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "file" => Ok(Self::File),
            "nats" => Ok(Self::Nats),
            _ => Err(ValueError("\"file\" or \"nats\"".to_owned())),
        }
    }
}

pub(super) fn follows(root: &Section<'_>) -> Option<Follows> {
    let section = root.section("control");
    let addresses: Vec<Upstream> = section.list("address");
    let (secret, lag_max) = (section.get("secret"), section.or("lag_max", Span(Follows::LAG_MAX)).0);
    if addresses.iter().any(|address| address.tls) {
        section.object(
            "address",
            "the control process is spoken to in clear",
            "https",
            "write http:// and put it into a network of its own, or behind something that speaks TLS on both sides",
        );
    }
    if section.is_void("address") && root.has("control") {
        section.absent(
            "address",
            "a node must know where its control process is",
            "no address",
            "add address = \"http://HOST:7080\"",
        );
    }
    (!addresses.is_empty()).then_some(Follows { addresses, secret, lag_max })
}
