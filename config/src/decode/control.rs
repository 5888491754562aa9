//! The file of a control process, and the part of a node's file that is about it.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::{hook, parse_with, small, token};
use crate::model::{ControlConfig, Follows, Keep, Scope, Token};
use crate::problem::ConfigError;
use crate::section::Section;
use crate::values::{ListenAddress, Secret, Span, Upstream};

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
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let (table, _) = DeTable::parse_recoverable(&text);
    table.get_ref().get("role").and_then(|role| role.get_ref().as_str()) == Some("control")
}

pub(crate) fn control(root: &Section<'_>) -> Option<ControlConfig> {
    if root.get::<String>("role").is_none_or(|role| role != "control") {
        root.object("role", "this is no control process", "something else", "write role = \"control\"");
    }
    let listen: Option<ListenAddress> = root.required("listen", "add listen = \"127.0.0.1:7080\"");
    let section = root.section("log");
    let path: Option<String> = section.required("file", "add [log] with file = \"/var/lib/nearside/purges.log\"");
    let defaults = Keep::default();
    let keep = Keep {
        records: small(section.number("keep", defaults.records as u64, 1..=10_000_000)),
        time: section.or("keep_for", Span(defaults.time)).0,
    };
    let tokens = token::tokens(root, None);
    let secret: Option<Secret> = root.section("nodes").get("secret");
    let nodes = secret.map(|secret| Token { name: "nodes".to_owned(), secret, scope: Scope::Admin, sites: Vec::new() });
    let (webhooks, hooks) = (hook::webhooks(root), hook::hooks(root));
    Some(ControlConfig { listen: listen?.0, log: PathBuf::from(path?), keep, tokens, nodes, webhooks, hooks })
}

pub(super) fn follows(root: &Section<'_>) -> Option<Follows> {
    let section = root.section("control");
    let address: Option<Upstream> = section.get("address");
    let (secret, lag_max) = (section.get("secret"), section.or("lag_max", Span(Follows::LAG_MAX)).0);
    if address.as_ref().is_some_and(|address| address.tls) {
        section.object(
            "address",
            "the control process is spoken to in clear",
            "https",
            "write http:// and put it into a network of its own, or behind something that speaks TLS on both sides",
        );
    }
    if address.is_none() && root.has("control") {
        section.object(
            "address",
            "a node must know where its control process is",
            "no address",
            "add address = \"http://HOST:7080\"",
        );
    }
    address.map(|address| Follows { address, secret, lag_max })
}
