//! The cache key of a request. The recipe itself is `semantics::key`'s; this says what goes into it.

use nearside_semantics::key::{self, Scheme};

use super::{Engine, Request};

impl Engine {
    /// Writes the primary cache key.
    pub(crate) fn write_key(&self, site: usize, request: &Request, key: &mut Vec<u8>) {
        let authority = self.key_authority(site, request.authority.as_bytes());
        key::write(self.client_scheme(request), authority, &request.target, key);
    }

    /// The host that a host of a site counts as.
    pub(crate) fn key_authority<'a>(&'a self, site: usize, authority: &'a [u8]) -> &'a [u8] {
        let canonical = self.config.sites.get(site).and_then(|site| site.canonical_host.as_deref());
        canonical.map_or(authority, str::as_bytes)
    }

    /// The scheme that the client used.
    pub(crate) fn client_scheme(&self, request: &Request) -> Scheme {
        self.tier.scheme(&request.fields, request.scheme)
    }
}
