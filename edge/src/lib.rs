//! The edge: what faces clients.
//!
//! It believes nothing that a client says about where it comes from, asks its shields before the origins, and shows
//! them the secret. Everything else is `node`'s.

use http::header::FORWARDED;
use http::{HeaderMap, HeaderValue};
use nearside_config::{Config, Fallback, Role};
use nearside_node::Reason;
use nearside_node::tier::{Scheme, Sender, Tier, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, append};
use nearside_node::{Clock, Node, StartError};

/// The rules of an edge.
#[derive(Debug)]
struct Edge;

/// Starts an edge. The part of the configuration that is a shield's is left aside.
///
/// # Errors
///
/// Whatever keeps it from serving all that the configuration says.
pub fn start(mut config: Config, clock: Clock) -> Result<Node, StartError> {
    if let Role::Shield { .. } = config.role {
        config.role = Role::Edge { shields: Vec::new(), secret: None, fallback: Fallback::default() };
    }
    Node::start(config, Box::new(Edge), clock)
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
}
