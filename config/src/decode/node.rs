//! The nodes that a control process knows, each by a credential of its own.

use super::location;
use crate::model::{NodeCredential, NodeRole, Token};
use crate::section::Section;
use crate::values::{NodeId, Secret};

/// The credentials of nodes. `shared` is what all others show.
pub(super) fn credentials(root: &Section<'_>, shared: Option<&Token>) -> Vec<NodeCredential> {
    let sections = root.sections("node");
    let mut nodes: Vec<NodeCredential> = Vec::new();
    for section in &sections {
        let id: Option<NodeId> = section.required("id", "add id = \"edge-1\", the id of the node's own file");
        let role: Option<NodeRole> = section.required("role", "add role = \"edge\" or role = \"shield\"");
        let help = "add secret = { file = \"…\" }; the same as secret in [control] of the node's own file";
        let secret: Option<Secret> = section.required("secret", help);
        let (_, place) = location(section);
        let (sites, hosts, addresses) = (section.list("sites"), section.list("hosts"), section.list("addresses"));
        let url = section.get("url");
        let (Some(id), Some(role), Some(secret)) = (id, role, secret) else { continue };
        if role == NodeRole::Shield && (url.is_some() || !addresses.is_empty()) {
            let key = if url.is_some() { "url" } else { "addresses" };
            section.object(
                key,
                "no client is sent to a shield",
                "of an edge only",
                "remove it, or write role = \"edge\"",
            );
        }
        if nodes.iter().any(|other| other.id == id) {
            section.object("id", "two nodes have one id", "used before", "each node needs an id of its own");
        }
        let is_used = |other: &Secret| *other == secret;
        if nodes.iter().any(|other| is_used(&other.secret)) || shared.is_some_and(|shared| is_used(&shared.secret)) {
            let help = "each node needs one of its own: who has the secret of a node is that node";
            section.object("secret", "this secret is not the node's alone", "used before", help);
        }
        nodes.push(NodeCredential { id, role, secret, sites, hosts, addresses, url, place });
    }
    nodes
}
