//! What tells an edge from a shield. The roles implement it; the engine asks it and knows neither.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
pub use nearside_semantics::key::Scheme;
use nearside_telemetry::reason::Reason;

pub use nearside_upstream::fields::{REFRESH, SECRET, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};

/// Who sent a request, as this node sees it.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'r> {
    /// The address of the other end of the connection.
    pub address: &'r HeaderValue,
    /// How it came in.
    pub scheme: Scheme,
    /// The host it asked for.
    pub authority: &'r HeaderValue,
}

/// The part of a node that its role decides.
pub trait Tier: Send + Sync + 'static {
    /// The role's name.
    fn name(&self) -> &'static str;

    /// Whether a request with these fields may come in.
    ///
    /// # Errors
    ///
    /// Why not; the client gets a 403.
    fn admit(&self, fields: &HeaderMap) -> Result<(), Reason>;

    /// Whether a request that may come in has shown a secret of this fleet: then it is not one of a client.
    fn admits_by_secret(&self) -> bool {
        false
    }

    /// Whether every request may come in and is taken as it stands, so that a hit needs no further look.
    fn takes_all(&self) -> bool;

    /// Whether those who ask are caches of ours, so that a 304 is to tell them all there is to keep.
    fn serves_caches(&self) -> bool;

    /// The scheme that the client used, where the connection's own is `own`.
    fn scheme(&self, fields: &HeaderMap, own: Scheme) -> Scheme;

    /// Address of the client that a request with these fields comes from in the end; `own` is the other end of the connection.
    fn client_address(&self, _fields: &HeaderMap, own: IpAddr) -> IpAddr {
        own
    }

    /// Tells the next hop who asks, in the fields of a forward.
    fn introduce(&self, sender: &Sender<'_>, fields: &mut HeaderMap);
}

impl Sender<'_> {
    /// The sender as a member of `Forwarded` (RFC 7239 §4): `for=192.0.2.1;host=example.com;proto=https`.
    #[must_use]
    pub fn forwarded(&self) -> Option<HeaderValue> {
        let mut member = b"for=".to_vec();
        let address = self.address.as_bytes();
        if address.contains(&b':') {
            // An IPv6 address stands in brackets, and those in quotes (§6).
            member.extend_from_slice(&[b"\"[", address, b"]\""].concat());
        } else {
            member.extend_from_slice(address);
        }
        member.extend_from_slice(b";host=");
        write_quoted(self.authority.as_bytes(), &mut member);
        member.extend_from_slice(b";proto=");
        member.extend_from_slice(self.scheme.as_str().as_bytes());
        HeaderValue::try_from(member).ok()
    }
}

/// Writes a value as a token, or as a quoted string where it is none: a port makes it one (RFC 7239 §4).
fn write_quoted(value: &[u8], out: &mut Vec<u8>) {
    let is_token = value.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b));
    if is_token && !value.is_empty() {
        return out.extend_from_slice(value);
    }
    out.push(b'"');
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// Adds a member to a list field, on one line.
pub fn append(fields: &mut HeaderMap, name: HeaderName, member: &HeaderValue) {
    let mut line = Vec::new();
    for before in fields.get_all(&name) {
        line.extend_from_slice(before.as_bytes());
        line.extend_from_slice(b", ");
    }
    let value = if line.is_empty() {
        Ok(member.clone())
    } else {
        line.extend_from_slice(member.as_bytes());
        HeaderValue::try_from(line)
    };
    if let Ok(value) = value {
        fields.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc7239_s4_senders_are_written_as_members_of_forwarded() {
        for (address, host, scheme, expected) in [
            ("192.0.2.1", "a.example", Scheme::Https, "for=192.0.2.1;host=a.example;proto=https"),
            ("2001:db8::1", "a.example:81", Scheme::Http, r#"for="[2001:db8::1]";host="a.example:81";proto=http"#),
            ("192.0.2.1", "[::1]", Scheme::Http, r#"for=192.0.2.1;host="[::1]";proto=http"#),
        ] {
            let value = |text: &str| HeaderValue::from_str(text).unwrap();
            let sender = Sender { address: &value(address), scheme, authority: &value(host) };
            assert_eq!(sender.forwarded().unwrap(), expected);
        }
    }
}
