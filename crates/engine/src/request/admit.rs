//! Admission: the site of a request, and the rules about who may send it.
//!
//! RFC 9110 §7.4 (421), RFC 8586 (`CDN-Loop`), and what the role asks for.

use std::collections::HashMap;
use std::net::IpAddr;

use http::{HeaderMap, StatusCode};
use nearside_config::{HostPattern, Site, SiteId};
use nearside_semantics::fields::{Fields, members};
use nearside_semantics::key::split_port;
use nearside_telemetry::reason::Reason;
use nearside_upstream::fields::{CDN_LOOP, SECRET, X_FORWARDED_FOR};

use super::{Engine, Request};
use crate::request::refusal::Refusal;

/// No name is longer (RFC 1035 §2.3.4), so that no pattern covers what is.
const HOST_BYTES_MAX: usize = 255;

/// Finds the site of a host: the exact name, then the longest pattern, then the catch-all.
#[derive(Debug)]
pub(crate) struct Sites {
    exact: HashMap<String, SiteId, ahash::RandomState>,
    /// Longest first.
    below: Vec<(HostPattern, SiteId)>,
    any: Option<SiteId>,
}

impl Sites {
    pub(crate) fn new(sites: &[Site]) -> Self {
        let (mut exact, mut below, mut any) = (HashMap::default(), Vec::new(), None);
        for (index, site) in sites.iter().enumerate() {
            let id = SiteId::new(index);
            for host in &site.hosts {
                match host {
                    HostPattern::Any => any = Some(id),
                    HostPattern::Exactly(name) => {
                        exact.insert(name.clone(), id);
                    }
                    HostPattern::Below(_) => below.push((host.clone(), id)),
                }
            }
        }
        below.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.exactness()));
        Self { exact, below, any }
    }

    /// The site that answers for an authority.
    pub(crate) fn find(&self, authority: &[u8]) -> Option<SiteId> {
        if self.exact.is_empty() && self.below.is_empty() {
            return self.any;
        }
        let (host, _) = split_port(authority);
        let host = host.strip_suffix(b".").unwrap_or(host);
        let mut lower = [0; HOST_BYTES_MAX];
        let Some(lower) = lower.get_mut(..host.len()) else { return self.any };
        lower.copy_from_slice(host);
        lower.make_ascii_lowercase();
        let Ok(host) = std::str::from_utf8(lower) else { return self.any };
        if let Some(site) = self.exact.get(host) {
            return Some(*site);
        }
        let covered = self.below.iter().find(|(pattern, _)| pattern.covers(host));
        covered.map(|(_, site)| *site).or(self.any)
    }
}

/// Proof that a request has passed every access rule of the node and of its site. Only this module creates one: a stored response,
/// a forward and an explanation cannot be had without it, so that a rule that is added here holds for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    site: SiteId,
}

impl Admitted {
    /// The site of the request.
    #[must_use]
    pub const fn site(self) -> SiteId {
        self.site
    }
}

/// The part of a request that access rules look at, whichever protocol it came by.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'r, F> {
    /// Host and port that the request names.
    pub authority: &'r [u8],
    /// Other end of the connection; `None` for a request that an operator asks about and that nobody has sent, to which rules
    /// about addresses do not apply.
    pub peer: Option<IpAddr>,
    /// All fields.
    pub fields: &'r F,
}

impl<'r> RequestHead<'r, HeaderMap> {
    /// The head of a request that was received.
    #[must_use]
    pub fn received(request: &'r Request) -> Self {
        let peer = Some(request.client.address());
        Self { authority: request.authority.as_bytes(), peer, fields: &request.fields }
    }
}

/// Admits a request to its site.
///
/// # Errors
///
/// The refusal that the client gets: an access rule forbids the request, it has passed this node before, or no site answers for
/// its host.
pub fn admit<F: Fields>(engine: &Engine, head: &RequestHead<'_, F>) -> Result<Admitted, Refusal> {
    if engine.tier.wants_secret() {
        let name = SECRET;
        let shown = head.fields.lines(&name).next();
        engine.tier.check_secret(shown).map_err(|reason| Refusal::new(StatusCode::FORBIDDEN, reason))?;
    }
    admit_from_fleet(engine, head)
}

/// Admits a request as if its sender had shown the secret of the fleet, if one is wanted: an operator asks what becomes of it.
///
/// # Errors
///
/// As [`admit`].
pub(crate) fn admit_from_fleet<F: Fields>(engine: &Engine, head: &RequestHead<'_, F>) -> Result<Admitted, Refusal> {
    if has_passed(head.fields, engine.config.id.as_str()) {
        return Err(Refusal::new(StatusCode::LOOP_DETECTED, Reason::Loop));
    }
    let unknown = Refusal::new(StatusCode::MISDIRECTED_REQUEST, Reason::UnknownHost);
    let site = engine.sites.find(head.authority).ok_or(unknown)?;
    let clients = &engine.rules(site).clients;
    let is_served = |peer| clients.allows(engine.client_address(head.fields, peer));
    if clients.is_empty() || head.peer.is_none_or(is_served) {
        Ok(Admitted { site })
    } else {
        Err(Refusal::new(StatusCode::FORBIDDEN, Reason::ClientAddress).at(site))
    }
}

impl Engine {
    /// Address of the client that a request comes from in the end, where `peer` is the other end of the connection. A shield takes
    /// the word of an edge that has shown the secret: the address that it has added to `X-Forwarded-For`.
    pub(crate) fn client_address(&self, fields: &impl Fields, peer: IpAddr) -> IpAddr {
        let forwarded = || {
            let name = X_FORWARDED_FOR;
            let line = fields.lines(&name).last()?;
            let member = line.rsplit(|byte| *byte == b',').next()?.trim_ascii();
            std::str::from_utf8(member).ok()?.parse().ok()
        };
        if self.tier.wants_secret() { forwarded().unwrap_or(peer) } else { peer }
    }
}

/// Whether a node called `id` has seen this request before. Once is enough: a second pass would wait for the fill that
/// the first has begun.
fn has_passed(fields: &impl Fields, id: &str) -> bool {
    let own = |member: &[u8]| member.split(|b| *b == b';').next().unwrap_or_default().trim_ascii() == id.as_bytes();
    fields.lines(&CDN_LOOP).flat_map(members).any(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_exact_pattern_wins() {
        let site = |name: &str, hosts: &[&str]| {
            Site::new(name, hosts.iter().map(|h| h.parse().unwrap()).collect(), vec!["http://o".parse().unwrap()])
        };
        let sites =
            Sites::new(&[site("any", &["*"]), site("wide", &["*.a.org"]), site("deep", &["*.b.a.org", "x.a.org"])]);
        for (authority, expected) in [
            ("other", 0),
            ("a.org", 0),
            ("y.a.org", 1),
            ("Y.A.org.:80", 1),
            ("x.a.org:8080", 2),
            ("c.b.a.org", 2),
            ("b.a.org", 1),
            ("[::1]:80", 0),
        ] {
            assert_eq!(sites.find(authority.as_bytes()), Some(SiteId::new(expected)), "{authority}");
        }
        assert_eq!(Sites::new(&[site("one", &["a.org"])]).find(b"b.org"), None);
    }

    #[test]
    fn rfc8586_a_node_knows_its_own_name() {
        let mut fields = HeaderMap::new();
        fields.append(CDN_LOOP, "edge; trace=\"inner\", other".parse().unwrap());
        fields.append(CDN_LOOP, "last".parse().unwrap());
        let seen = ["edge", "other", "last", "ed", "inner", "trace"].map(|id| has_passed(&fields, id));
        assert_eq!(seen, [true, true, true, false, false, false]);
    }
}
