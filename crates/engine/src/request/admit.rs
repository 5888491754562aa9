//! Which site a request belongs to, and whether it may come in at all.
//!
//! RFC 9110 §7.4 (421), RFC 8586 (`CDN-Loop`), and what the role asks for.

use std::collections::HashMap;

use http::{HeaderMap, StatusCode};
use nearside_config::{HostPattern, Site, SiteId};
use nearside_semantics::fields::members;
use nearside_semantics::key::split_port;
use nearside_telemetry::reason::Reason;
use nearside_upstream::fields::CDN_LOOP;

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

/// The site of a request that may come in.
///
/// # Errors
///
/// The request may not come in, or belongs to no site.
pub fn admit(engine: &Engine, request: &Request) -> Result<SiteId, Refusal> {
    engine.tier.admit(&request.fields).map_err(|reason| Refusal { status: StatusCode::FORBIDDEN, reason })?;
    site_of(engine, request)
}

/// The site that answers for a request, whoever sends it.
///
/// # Errors
///
/// The request has passed this node before, or belongs to no site.
pub fn site_of(engine: &Engine, request: &Request) -> Result<SiteId, Refusal> {
    if has_passed(&request.fields, engine.config.id.as_str()) {
        return Err(Refusal { status: StatusCode::LOOP_DETECTED, reason: Reason::Loop });
    }
    let site = engine.sites.find(request.authority.as_bytes());
    site.ok_or(Refusal { status: StatusCode::MISDIRECTED_REQUEST, reason: Reason::UnknownHost })
}

/// Whether a node called `id` has seen this request before. Once is enough: a second pass would wait for the fill that
/// the first has begun.
fn has_passed(fields: &HeaderMap, id: &str) -> bool {
    let own = |member: &[u8]| member.split(|b| *b == b';').next().unwrap_or_default().trim_ascii() == id.as_bytes();
    fields.get_all(CDN_LOOP).iter().flat_map(|line| members(line.as_bytes())).any(own)
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
