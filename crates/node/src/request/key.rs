//! The cache key of a request. The recipe itself is `semantics`' (`key`, `query`); this says what goes into it.

use std::sync::Arc;

use nearside_semantics::key::{self, Scheme};
use nearside_semantics::query::SearchVariance;

use super::{Engine, Request};

/// A cache key and how it came about.
#[derive(Debug, Clone)]
pub(crate) struct CacheKey {
    /// As the URL and the site's recipe have it.
    pub(crate) exact: Box<[u8]>,
    /// What is looked up: the same, unless responses for this path say which parameters make no difference.
    pub(crate) bytes: Box<[u8]>,
    /// What they say.
    pub(crate) variance: Option<Arc<SearchVariance>>,
}

impl CacheKey {
    /// The key under which a response that says `variance` is stored.
    pub(crate) fn under(&self, variance: Option<&SearchVariance>) -> Box<[u8]> {
        variance.map_or_else(|| self.exact.clone(), |variance| varied(&self.exact, variance).into())
    }

    /// Whether a response that says `variance` is stored under the key that was looked up.
    pub(crate) fn agrees(&self, variance: Option<&SearchVariance>) -> bool {
        self.variance.as_deref() == variance
    }

    /// The name of a group that responses of this origin belong to.
    pub(crate) fn group(&self, name: &str) -> Vec<u8> {
        let origin = self.exact.splitn(3, |b| *b == b'\n').take(2);
        origin.chain([name.as_bytes()]).collect::<Vec<_>>().join(&b'\n')
    }

    /// The part that all queries of a path share.
    pub(crate) fn path(&self) -> &[u8] {
        path(&self.exact)
    }
}

/// Scheme, host and path of a key.
fn path(key: &[u8]) -> &[u8] {
    key.split(|b| *b == b'?').next().unwrap_or_default()
}

/// The key for all targets that `variance` makes equal; under another rule it is another key.
fn varied(exact: &[u8], variance: &SearchVariance) -> Vec<u8> {
    let mut key = Vec::with_capacity(exact.len() + 32);
    variance.write(exact, &mut key);
    // No target holds a line feed, so that no exact key looks like this.
    key.push(b'\n');
    variance.write_rule(&mut key);
    key
}

impl Engine {
    /// Writes the key that is looked up into `key`, which is cleared first, and returns by which rule about queries.
    pub(crate) fn write_key(
        &self,
        site: usize,
        scheme: Scheme,
        authority: &[u8],
        target: &[u8],
        key: &mut Vec<u8>,
    ) -> Option<Arc<SearchVariance>> {
        self.write_exact(site, scheme, authority, target, key);
        let variance = self.store.search_variance(path(key))?;
        *key = varied(key, &variance);
        Some(variance)
    }

    fn write_exact(&self, site: usize, scheme: Scheme, authority: &[u8], target: &[u8], key: &mut Vec<u8>) {
        let rules = self.rules(site);
        let authority = rules.canonical_host.as_ref().map_or(authority, |host| host.as_bytes());
        if rules.query.is_identity() {
            key::write(scheme, authority, target, key);
        } else {
            let mut seen = Vec::with_capacity(target.len());
            rules.query.write(target, &mut seen);
            key::write(scheme, authority, &seen, key);
        }
    }

    /// The key of a URL that a site answers for.
    pub(crate) fn key_of(&self, site: usize, scheme: Scheme, authority: &[u8], target: &[u8]) -> CacheKey {
        let (mut exact, mut bytes) = (Vec::new(), Vec::new());
        self.write_exact(site, scheme, authority, target, &mut exact);
        let variance = self.write_key(site, scheme, authority, target, &mut bytes);
        CacheKey { exact: exact.into(), bytes: bytes.into(), variance }
    }

    /// The key of a request.
    pub(crate) fn key(&self, site: usize, request: &Request) -> CacheKey {
        self.key_of(site, self.client_scheme(request), request.authority.as_bytes(), &request.target)
    }

    /// The scheme that the client used.
    pub(crate) fn client_scheme(&self, request: &Request) -> Scheme {
        self.tier.scheme(&request.fields, request.scheme)
    }
}
