//! The edge: what faces clients.
//!
//! It believes nothing that a client says about where it comes from, asks its shields before the origins, and shows
//! them the secret. Everything else is `node`'s.

use http::header::FORWARDED;
use http::{HeaderMap, HeaderValue};
use nearside_config::{Config, Role, Secret, Upstream};
use nearside_node::Reason;
use nearside_node::tier::{Scheme, Sender, Tier, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, append};
use nearside_node::{Clock, Node, StartError};

/// The rules of an edge.
#[derive(Debug)]
struct Edge {
    shields: Vec<Upstream>,
    secret: Option<Secret>,
}

/// Starts an edge. The part of the configuration that is a shield's is left aside.
///
/// # Errors
///
/// Whatever keeps it from serving all that the configuration says.
pub fn start(config: Config, clock: Clock) -> Result<Node, StartError> {
    let edge = match &config.role {
        Role::Edge { shields, secret, .. } => Edge { shields: shields.clone(), secret: secret.clone() },
        Role::Shield { .. } => Edge { shields: Vec::new(), secret: None },
    };
    Node::start(config, Box::new(edge), clock)
}

impl Tier for Edge {
    fn name(&self) -> &'static str {
        "edge"
    }

    fn admit(&self, _: &HeaderMap) -> Result<(), Reason> {
        Ok(())
    }

    fn takes_all(&self) -> bool {
        true
    }

    fn serves_caches(&self) -> bool {
        false
    }

    fn scheme(&self, _: &HeaderMap, own: Scheme) -> Scheme {
        own
    }

    fn introduce(&self, sender: &Sender<'_>, fields: &mut HeaderMap) {
        for name in [FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO] {
            fields.remove(name);
        }
        if let Some(member) = sender.forwarded() {
            fields.insert(FORWARDED, member);
        }
        append(fields, X_FORWARDED_FOR, sender.address);
        append(fields, X_FORWARDED_PROTO, &HeaderValue::from_static(sender.scheme.as_str()));
        fields.insert(X_FORWARDED_HOST, sender.authority.clone());
    }

    fn shields(&self) -> &[Upstream] {
        &self.shields
    }

    fn secret(&self) -> Option<&Secret> {
        self.secret.as_ref()
    }
}
