//! The names under which a listener answers. A page of another site can be given a name that leads here (DNS rebinding): then
//! the browser takes what this listener says for the page's own.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use nearside_config::HostPattern;
use nearside_protocol::Problem;

use crate::Access;

/// The names of a listener.
#[derive(Clone)]
pub struct HostRule {
    names: Arc<[HostPattern]>,
    /// The key of the configuration that lists them.
    key: &'static str,
    /// Whether only this machine reaches the listener. Else it may be called by a name without a dot, which public DNS does not
    /// know: that of a container, or of a machine in one's own network.
    is_local: bool,
    is_known: Arc<dyn Fn(&HeaderMap) -> bool + Send + Sync>,
}

impl HostRule {
    /// The rule of a listener at `address`: addresses, `localhost`, and `names`, which stand in the configuration at `key`.
    #[must_use]
    pub fn new(address: SocketAddr, names: Vec<HostPattern>, key: &'static str) -> Self {
        let is_local = address.ip().to_canonical().is_loopback();
        Self { names: names.into(), key, is_local, is_known: Arc::new(|_| false) }
    }

    /// The same rule, which does not concern requests with a token: no page of others has one.
    #[must_use]
    pub fn except(self, is_known: impl Fn(&HeaderMap) -> bool + Send + Sync + 'static) -> Self {
        Self { is_known: Arc::new(is_known), ..self }
    }

    /// Whether the listener has this name; it may have a port behind it.
    fn has(&self, host: &[u8]) -> bool {
        let Ok(host) = std::str::from_utf8(host) else { return false };
        let Ok(authority) = host.parse::<Authority>() else { return host.is_empty() };
        // `user@host` is no host.
        if authority.as_str().contains('@') {
            return false;
        }
        let name = authority.host().to_ascii_lowercase();
        let name = name.trim_end_matches('.');
        if name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            return true;
        }
        // RFC 6761 §6.3: whatever ends in it is this machine.
        let is_this_machine = name == "localhost" || name.ends_with(".localhost");
        is_this_machine || !self.is_local && !name.contains('.') || self.names.iter().any(|known| known.covers(name))
    }

    /// Why a request is not answered.
    fn refusal(&self, request: &Request) -> Option<Problem> {
        // Whatever changes something needs a token, or a signature, or is held to a stricter rule (`Access::admit`), and is told of in
        // the audit log.
        let is_safe = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
        let fields = request.headers();
        let of_target = request.uri().authority().map(|authority| authority.as_str().as_bytes());
        let of_fields = fields.get_all(header::HOST).iter().map(|value| value.as_bytes());
        let foreign = of_fields.chain(of_target).find(|host| !self.has(host))?;
        if !is_safe || (self.is_known)(fields) {
            return None;
        }
        let detail = format!(
            "this listener is not called {:?}: ask for it by an address, by localhost or by a name in `{}`, or show a token",
            String::from_utf8_lossy(foreign),
            self.key
        );
        Some(Problem::new(StatusCode::FORBIDDEN, "cross-origin", detail))
    }
}

impl fmt::Debug for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostRule").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Access {
    /// Whether a request shows a token that is known, whatever it is good for.
    #[must_use]
    pub fn knows(&self, fields: &HeaderMap) -> bool {
        self.holder(fields).is_some()
    }
}

/// Refuses requests under names that the listener does not have.
pub(super) async fn check(State(rule): State<HostRule>, request: Request, next: Next) -> Response {
    match rule.refusal(&request) {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn rule(address: &str) -> HostRule {
        let names = vec!["cdn.example".parse().unwrap(), "*.lan.example".parse().unwrap()];
        HostRule::new(address.parse().unwrap(), names, "hosts").except(|fields| fields.contains_key("authorization"))
    }

    #[test]
    fn a_listener_is_asked_by_an_address_or_by_its_names() {
        for (host, local, far) in [
            ("", true, true),
            ("127.0.0.1:7080", true, true),
            ("192.0.2.7", true, true),
            ("[::1]:7080", true, true),
            ("[2001:db8::1]", true, true),
            ("localhost:7080", true, true),
            ("LOCALHOST.", true, true),
            ("fra.localhost:7080", true, true),
            ("cdn.example", true, true),
            ("CDN.example.:7080", true, true),
            ("a.lan.example:1", true, true),
            ("control:7080", false, true),
            ("evil.example", false, false),
            ("cdn.example.evil.example", false, false),
            ("127.0.0.1.evil.example:7080", false, false),
            ("localhost.evil.example", false, false),
            ("127.0.0.1:80@evil.example", false, false),
            ("evil.example:80@127.0.0.1", false, false),
        ] {
            assert_eq!(rule("127.0.0.1:7080").has(host.as_bytes()), local, "{host}");
            assert_eq!(rule("0.0.0.0:7080").has(host.as_bytes()), far, "{host}");
        }
    }

    #[test]
    fn every_way_to_name_a_host_counts_and_tokens_are_exempt() {
        let ask = |method: &str, target: &str, fields: &[(&str, &str)]| {
            let mut request = axum::http::Request::builder().method(method).uri(target);
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            rule("127.0.0.1:7080").refusal(&request.body(Body::empty()).unwrap()).map(|problem| problem.code)
        };
        let evil = ("host", "evil.example");
        assert_eq!(ask("GET", "/metrics", &[("host", "127.0.0.1")]), None);
        assert_eq!(ask("GET", "/metrics", &[evil]), Some("cross-origin"));
        assert_eq!(ask("HEAD", "/metrics", &[evil]), Some("cross-origin"));
        assert_eq!(ask("GET", "/metrics", &[("host", "127.0.0.1"), evil]), Some("cross-origin"));
        assert_eq!(ask("GET", "http://evil.example/metrics", &[("host", "127.0.0.1")]), Some("cross-origin"));
        assert_eq!(ask("GET", "/metrics", &[evil, ("authorization", "Bearer x")]), None);
        assert_eq!(ask("POST", "/v1/purge", &[evil]), None, "the door decides, and writes it down");
    }
}
