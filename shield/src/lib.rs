//! The shield: what faces edges, and stands before the origins.
//!
//! It answers only edges that show the shared secret, unless it is told to be open, and takes their word for how the
//! client came, so that both tiers know a response by the same key.

use http::header::FORWARDED;
use http::{HeaderMap, HeaderValue};
use nearside_config::{Config, Role, Secret};
use nearside_node::tier::{Scheme, Sender, Tier, X_FORWARDED_FOR, X_FORWARDED_PROTO, append};
use nearside_node::{Clock, Node, Reason, StartError};
use subtle::ConstantTimeEq;

/// The rules of a shield.
#[derive(Debug)]
struct Shield {
    /// `None`: open.
    secret: Option<Secret>,
}

/// Starts a shield. The part of the configuration that is an edge's is left aside, so that it stays closed.
///
/// # Errors
///
/// Whatever keeps it from serving all that the configuration says.
pub fn start(mut config: Config, clock: Clock) -> Result<Node, StartError> {
    let (Role::Shield { secret } | Role::Edge { secret, .. }) = &config.role;
    let secret = secret.clone();
    config.role = Role::Shield { secret: secret.clone() };
    Node::start(config, Box::new(Shield { secret }), clock)
}

impl Tier for Shield {
    fn name(&self) -> &'static str {
        "shield"
    }

    fn wants_secret(&self) -> bool {
        self.secret.is_some()
    }

    fn check_secret(&self, shown: Option<&[u8]>) -> Result<(), Reason> {
        let Some(secret) = &self.secret else { return Ok(()) };
        // In constant time, so that the delay of an answer does not tell how much of a guess was right.
        let is_right = shown.unwrap_or_default().ct_eq(secret.reveal().as_bytes());
        if bool::from(is_right) { Ok(()) } else { Err(Reason::EdgeSecret) }
    }

    fn serves_caches(&self) -> bool {
        true
    }

    fn scheme(&self, fields: &HeaderMap, own: Scheme) -> Scheme {
        match fields.get(X_FORWARDED_PROTO).map(|value| value.as_bytes()) {
            Some(b"https") => Scheme::Https,
            Some(b"http") => Scheme::Http,
            _ => own,
        }
    }

    fn introduce(&self, sender: &Sender<'_>, fields: &mut HeaderMap) {
        append(fields, X_FORWARDED_FOR, sender.address);
        if let Some(member) = sender.forwarded() {
            append(fields, FORWARDED, &member);
        }
        fields.remove(X_FORWARDED_PROTO);
        append(fields, X_FORWARDED_PROTO, &HeaderValue::from_static(sender.scheme.as_str()));
    }
}
