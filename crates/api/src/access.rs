//! Who may do what: tokens with a scope, a limit to how often, and one line for each change.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, StatusCode, header};
use nearside_config::{Scope, Token};
use nearside_protocol::{Order, Problem};
use parking_lot::Mutex;
use subtle::ConstantTimeEq;

/// Changes that one holder may ask for at once, and in how much time one more becomes free: far more than an operator or a
/// CMS needs, and no load that a node would feel.
const BURST: u32 = 1000;
const EVERY: Duration = Duration::from_millis(2);

/// The door of a listener.
#[derive(Debug)]
pub struct Access {
    tokens: Vec<Token>,
    /// Whether one who shows no token may do everything.
    open: bool,
    /// Whether it is of a listener for this machine, which is asked by its address.
    is_local: bool,
    /// For each token, and for those without: when all is free again.
    free_at: Vec<Mutex<Instant>>,
}

/// One who may come in.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    token: Option<&'a Token>,
}

impl Access {
    /// The door of a listener at `address`: with tokens, only who shows one may do anything; without, everyone, if none but
    /// this machine can reach it.
    #[must_use]
    pub fn new(tokens: Vec<Token>, address: SocketAddr) -> Self {
        let open = tokens.is_empty() && address.ip().to_canonical().is_loopback();
        Self { is_local: true, ..Self::of(tokens, open) }
    }

    /// A door that only tokens open.
    #[must_use]
    pub fn closed(tokens: Vec<Token>) -> Self {
        Self::of(tokens, false)
    }

    /// A door that is open, for those who were looked at before.
    #[must_use]
    pub fn open() -> Self {
        Self::of(Vec::new(), true)
    }

    fn of(tokens: Vec<Token>, open: bool) -> Self {
        let now = now();
        let free_at = (0..=tokens.len()).map(|_| Mutex::new(now)).collect();
        Self { tokens, open, is_local: false, free_at }
    }

    /// Whether nobody comes in without a token.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        !self.open
    }

    /// Whether who sent this may do what `scope` says.
    ///
    /// # Errors
    ///
    /// A token is missing (401), unknown (401), or not good for this (403).
    pub fn admit(&self, fields: &HeaderMap, scope: Scope) -> Result<Holder<'_>, Problem> {
        let shown = shown(fields);
        if self.open && shown.is_none() {
            // A page of some other origin, in a browser on this machine, is not its user.
            if self.is_local && !is_asked_here(fields)
                || fields.contains_key(header::ORIGIN) && !is_our_own_page(fields)
            {
                return Err(Problem::new(
                    StatusCode::FORBIDDEN,
                    "cross-origin",
                    "a request of a page from elsewhere (`Origin`), or under another name than this machine's (`Host`), needs a token: \
                     configure a [[token]]",
                ));
            }
            return Ok(Holder { token: None });
        }
        if self.tokens.is_empty() {
            let detail =
                "no [[token]] is configured, and without one this needs the loopback, or an address that is allowed";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "no-tokens", detail));
        }
        let Some(shown) = shown else {
            let detail = "show a token: `Authorization: Bearer …`";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "token-missing", detail));
        };
        let token = self.find(shown);
        let token =
            token.ok_or_else(|| Problem::new(StatusCode::UNAUTHORIZED, "token-unknown", "this token is not known"))?;
        if token.scope < scope {
            let detail = format!("the token `{}` is not good for this", token.name);
            return Err(Problem::new(StatusCode::FORBIDDEN, "scope", detail));
        }
        Ok(Holder { token: Some(token) })
    }

    /// The token that a request shows, if it is known.
    pub(crate) fn holder(&self, fields: &HeaderMap) -> Option<&Token> {
        self.find(shown(fields)?)
    }

    /// All are compared, each in constant time, so that the delay tells nothing.
    fn find(&self, shown: &[u8]) -> Option<&Token> {
        let is_it = |token: &&Token| bool::from(token.secret.reveal().as_bytes().ct_eq(shown));
        self.tokens.iter().fold(None, |found, token| if is_it(&token) { Some(token) } else { found })
    }

    /// Counts a change that a holder asks for.
    ///
    /// # Errors
    ///
    /// It asks for too much (429).
    pub fn count(&self, holder: Holder<'_>) -> Result<(), Problem> {
        let own = |token: &Token| self.tokens.iter().position(|other| std::ptr::eq(other, token));
        let place = holder.token.and_then(own).unwrap_or(self.tokens.len());
        let Some(free_at) = self.free_at.get(place) else { return Ok(()) };
        let (now, mut free_at) = (now(), free_at.lock());
        let begin = (*free_at).max(now);
        if begin.saturating_duration_since(now) > EVERY * BURST {
            let detail =
                format!("more than {BURST} changes at once; {} a second are free again", 1000 / EVERY.as_millis());
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-often", detail));
        }
        *free_at = begin + EVERY;
        Ok(())
    }
}

impl Holder<'_> {
    /// Its name, for the audit log.
    #[must_use]
    pub fn name(&self) -> &str {
        self.token.map_or("-", |token| &token.name)
    }

    /// Whether it may purge of these sites.
    ///
    /// # Errors
    ///
    /// One is not its own (403).
    pub fn may_purge(&self, sites: &[String]) -> Result<(), Problem> {
        let Some(token) = self.token.filter(|token| !token.sites.is_empty()) else { return Ok(()) };
        match sites.iter().find(|site| !token.sites.contains(site)) {
            None => Ok(()),
            Some(site) => {
                let detail = format!("the token `{}` is not for the site `{site}`", token.name);
                Err(Problem::new(StatusCode::FORBIDDEN, "site", detail))
            }
        }
    }
}

/// The token that a request shows, in the field of whichever system it was made for.
fn shown(fields: &HeaderMap) -> Option<&[u8]> {
    let authorization = fields.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let bearer = authorization.map(|value| match value.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token.trim_ascii(),
        // Of another scheme: none that is known here.
        _ => b"",
    });
    bearer.or_else(|| fields.get("fastly-key").map(|value| value.as_bytes()))
}

/// What is told of a change.
#[derive(Debug)]
pub struct Audit<'a> {
    /// Who asked.
    pub holder: &'a str,
    /// From where.
    pub client: IpAddr,
    /// What for.
    pub action: &'static str,
    /// The order, where it was understood.
    pub order: Option<&'a Order>,
    /// `done`, or the code of the problem.
    pub outcome: &'a str,
}

impl Audit<'_> {
    /// Writes the line. Neither tokens nor what is named stand in it.
    pub fn write(&self) {
        let order = self.order;
        tracing::info!(
            target: "audit",
            holder = self.holder,
            client = %self.client,
            action = self.action,
            outcome = self.outcome,
            site = order.and_then(|order| order.site.as_deref()).unwrap_or("*"),
            mode = order.map_or("-", |order| order.mode().as_str()),
            targets = order.map_or(0, |order| order.targets().count()),
            dry_run = order.is_some_and(|order| order.dry_run),
            "audit",
        );
    }
}

#[expect(clippy::disallowed_methods, reason = "a limit in real time")]
fn now() -> Instant {
    Instant::now()
}

/// Whether a request is sent to an address of this machine by that address: a name may be anybody's, also if it leads here.
#[must_use]
pub fn is_asked_here(fields: &HeaderMap) -> bool {
    let Some(host) = fields.get(header::HOST) else { return true };
    let host = host.to_str().unwrap_or_default();
    let bare = |host: &str| host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || bare(name) || bare(host)
}

/// Whether a page of this listener asks, under an address of this machine.
fn is_our_own_page(fields: &HeaderMap) -> bool {
    let text = |name| fields.get(name).and_then(|value| value.to_str().ok());
    let (Some(origin), Some(host)) = (text(header::ORIGIN), text(header::HOST)) else { return false };
    is_asked_here(fields) && origin.strip_prefix("http://") == Some(host)
}

#[cfg(test)]
mod tests {
    use nearside_config::Secret;

    use super::*;

    fn token(name: &str, scope: Scope, sites: &[&str]) -> Token {
        let secret = Secret::new(&format!("secret-of-{name}-0123456789")).unwrap();
        Token { name: name.to_owned(), secret, scope, sites: sites.iter().map(|site| (*site).to_owned()).collect() }
    }

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn loopback() -> SocketAddr {
        "127.0.0.1:7080".parse().unwrap()
    }

    #[test]
    fn without_tokens_the_loopback_is_open_and_nothing_else() {
        let none = fields(&[]);
        let local = Access::new(Vec::new(), loopback());
        assert!(local.admit(&none, Scope::Admin).is_ok());
        let page = fields(&[("origin", "https://evil.example")]);
        assert_eq!(local.admit(&page, Scope::Purge).unwrap_err().code, "cross-origin");
        // A page of the listener itself; not one of another port, nor one under a name that leads here.
        for (origin, host, is_ours) in [
            ("http://127.0.0.1:7080", "127.0.0.1:7080", true),
            ("http://localhost:7080", "localhost:7080", true),
            ("http://[::1]:7080", "[::1]:7080", true),
            ("http://127.0.0.1:8000", "127.0.0.1:7080", false),
            ("http://evil.example:7080", "evil.example:7080", false),
            ("http://127.0.0.1.evil.example", "127.0.0.1.evil.example", false),
            ("https://127.0.0.1:7080", "127.0.0.1:7080", false),
            ("null", "127.0.0.1:7080", false),
        ] {
            let page = fields(&[("origin", origin), ("host", host)]);
            assert_eq!(local.admit(&page, Scope::Purge).is_ok(), is_ours, "{origin} {host}");
        }
        // What a browser reads for a page under a name that leads here, it sends without `Origin`.
        assert!(local.admit(&fields(&[("host", "evil.example:7080")]), Scope::Read).is_err());
        assert!(local.admit(&fields(&[("host", "[::1]")]), Scope::Read).is_ok());
        let far = Access::new(Vec::new(), "0.0.0.0:7080".parse().unwrap());
        assert_eq!(far.admit(&none, Scope::Read).unwrap_err().code, "no-tokens");
    }

    #[test]
    fn a_token_is_good_for_its_scope_and_its_sites() {
        let tokens = vec![token("a", Scope::Read, &[]), token("b", Scope::Purge, &["www"])];
        let access = Access::new(tokens, loopback());
        let code =
            |lines: &[(&'static str, &str)], scope| access.admit(&fields(lines), scope).map_err(|p| p.code).err();
        let (a, b) = ("bearer secret-of-a-0123456789", "Bearer secret-of-b-0123456789");
        assert_eq!(code(&[], Scope::Read), Some("token-missing"));
        for wrong in ["Bearer secret-of-a-012345678", "Basic secret-of-a-0123456789", "Bearer ", "x"] {
            assert_eq!(code(&[("authorization", wrong)], Scope::Read), Some("token-unknown"), "{wrong}");
        }
        assert_eq!(code(&[("authorization", a)], Scope::Read), None);
        assert_eq!(code(&[("authorization", a)], Scope::Purge), Some("scope"));
        assert_eq!(code(&[("authorization", b)], Scope::Read), None);
        assert_eq!(code(&[("fastly-key", "secret-of-b-0123456789")], Scope::Purge), None);
        assert_eq!(code(&[("authorization", b)], Scope::Admin), Some("scope"));
        let holder_fields = fields(&[("authorization", b)]);
        let holder = access.admit(&holder_fields, Scope::Purge).unwrap();
        assert!(holder.may_purge(&["www".to_owned()]).is_ok());
        assert_eq!(holder.may_purge(&["www".to_owned(), "shop".to_owned()]).unwrap_err().code, "site");
    }

    #[test]
    fn who_asks_too_often_is_told_so_and_others_are_not_held_up() {
        let access = Access::new(vec![token("a", Scope::Purge, &[]), token("b", Scope::Purge, &[])], loopback());
        let [a, b] = ["a", "b"].map(|name| fields(&[("fastly-key", &format!("secret-of-{name}-0123456789"))]));
        let count = |fields| access.count(access.admit(fields, Scope::Purge).unwrap()).map_err(|problem| problem.code);
        // A few become free meanwhile.
        let refused = (0..BURST * 3).map(|_| count(&a)).filter(|counted| *counted == Err("too-often")).count();
        assert!(refused > 0);
        assert_eq!(count(&b), Ok(()));
    }
}
