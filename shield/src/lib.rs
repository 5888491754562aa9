//! The shield: what faces edges, and stands before the origins.
//!
//! It answers only edges that show the shared secret, unless it is told to be open, and takes their word for how the
//! client came, so that both tiers know a response by the same key.

use std::net::IpAddr;

use http::header::FORWARDED;
use http::{HeaderMap, HeaderValue};
use nearside_config::{Config, Role, Secret};
use nearside_node::Reason;
use nearside_node::tier::{SECRET, Scheme, Sender, Tier, X_FORWARDED_FOR, X_FORWARDED_PROTO, append};
use nearside_node::{Clock, Node, StartError};
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

    fn admit(&self, fields: &HeaderMap) -> Result<(), Reason> {
        let Some(secret) = &self.secret else { return Ok(()) };
        let shown = fields.get(SECRET).map_or(&b""[..], |value| value.as_bytes());
        // In constant time, so that the delay of an answer does not tell how much of a guess was right.
        if bool::from(shown.ct_eq(secret.reveal().as_bytes())) { Ok(()) } else { Err(Reason::EdgeSecret) }
    }

    fn admits_by_secret(&self) -> bool {
        self.secret.is_some()
    }

    fn takes_all(&self) -> bool {
        self.secret.is_none()
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

    /// Of an edge that has shown the secret, the address that it has added to `X-Forwarded-For`.
    fn client_address(&self, fields: &HeaderMap, own: IpAddr) -> IpAddr {
        let last = fields.get_all(X_FORWARDED_FOR).iter().next_back().filter(|_| self.secret.is_some());
        let member = last.and_then(|line| line.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
        member.unwrap_or(own)
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
