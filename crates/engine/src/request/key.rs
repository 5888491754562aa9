//! The cache key of a request. The recipe itself is `semantics`' (`key`, `query`); this says what goes into it.

use std::ops::Deref;
use std::sync::Arc;

use nearside_config::SiteId;
use nearside_semantics::Timestamp;
use nearside_semantics::fields::Fields;
use nearside_semantics::key::{self, Scheme};
use nearside_semantics::query::SearchVariance;
use nearside_semantics::vary::Vary;
use nearside_store::SearchRule;

use super::slices::Block;
use super::{Engine, Request};
use crate::site::Rules;

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident)*) => {
        $($(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub struct $name(Box<[u8]>);

        impl $name {
            pub(crate) fn new(bytes: impl Into<Box<[u8]>>) -> Self {
                Self(bytes.into())
            }
        }

        impl From<$name> for Box<[u8]> {
            fn from(key: $name) -> Self {
                key.0
            }
        }

        impl Deref for $name {
            type Target = [u8];

            fn deref(&self) -> &[u8] {
                &self.0
            }
        })*
    };
}

keys! {
    /// Key of a URL by the recipe of its site: what a purge of the URL names.
    UrlKey
    /// Key that is looked up: that of the URL, of a `No-Vary-Search` rule that covers it, or of a block of its body.
    LookupKey
    /// Key by which requests share a fill: a [`LookupKey`], whether only a head is asked for, and the variant.
    FillKey
}

impl UrlKey {
    /// The key that is looked up where no rule covers the URL.
    pub(crate) fn to_lookup(&self) -> LookupKey {
        LookupKey(self.0.clone())
    }
}

/// A cache key and how it came about.
#[derive(Debug, Clone)]
pub(crate) struct CacheKey {
    /// As the URL and the site's recipe have it. Responses that have no rule about queries are stored under it.
    pub(crate) url: UrlKey,
    /// What is looked up first: the same, unless a response for this path had a rule.
    pub(crate) lookup: LookupKey,
    /// The rule.
    pub(crate) rule: Option<Arc<SearchRule>>,
    /// It is the key of a block, to which no rule applies.
    pub(crate) block: Option<Block>,
}

impl CacheKey {
    /// Whether a response that says `variance` is stored under the key that was looked up first.
    pub(crate) fn agrees(&self, variance: Option<&SearchVariance>) -> bool {
        self.block.is_some() || self.rule.as_ref().map(|rule| &rule.variance) == variance
    }

    /// The name of a group that responses of this origin belong to.
    pub(crate) fn group(&self, name: &str) -> Vec<u8> {
        let origin = self.url.splitn(3, |b| *b == b'\n').take(2);
        origin.chain([name.as_bytes()]).collect::<Vec<_>>().join(&b'\n')
    }
}

/// Scheme, host and path of a key.
fn path(key: &[u8]) -> &[u8] {
    key.split(|b| *b == b'?').next().unwrap_or_default()
}

/// The key for all targets that a rule makes equal; under another rule, or this one learned again, it is another key.
fn varied(exact: &[u8], rule: &SearchRule) -> Vec<u8> {
    let mut key = Vec::with_capacity(exact.len() + 32);
    rule.variance.write(exact, &mut key);
    // No target holds a line feed, so that no exact key looks like this.
    key.push(b'\n');
    key.extend_from_slice(&rule.number.to_be_bytes());
    rule.variance.write_rule(&mut key);
    key
}

/// Writes the exact key of a URL by the rules of its site into `key`, which is cleared before.
pub(crate) fn write_exact(rules: &Rules, scheme: Scheme, authority: &[u8], target: &[u8], key: &mut Vec<u8>) {
    let authority = rules.canonical_host.as_ref().map_or(authority, |host| host.as_bytes());
    if rules.query.is_identity() {
        key::write(scheme, authority, target, key);
    } else {
        let mut seen = Vec::with_capacity(target.len());
        rules.query.write(target, &mut seen);
        key::write(scheme, authority, &seen, key);
    }
}

/// Writes what fills are told apart by into `fill`, which is cleared before: the key that is looked up, whether only a
/// head is asked for, and the variant.
pub(crate) fn write_fill_key(key: &[u8], head_only: bool, vary: &Vary, fields: &impl Fields, fill: &mut Vec<u8>) {
    fill.clear();
    fill.extend_from_slice(key);
    // A HEAD brings no body for those who want one.
    fill.push(u8::from(head_only));
    vary.variant_key(fields, fill);
}

/// Makes a fill key, which begins with a cache key of this length, that of a lane. All keys of lane 0 are as they were.
pub(crate) fn set_lane(fill: &mut Vec<u8>, key_length: usize, lane: u8) {
    if let Some(kind) = fill.get_mut(key_length).filter(|_| lane > 0) {
        *kind |= 2;
        fill.insert(key_length + 1, lane);
    }
}

impl Engine {
    /// Writes the key that is looked up first into `key`, which is cleared before; whether a rule about queries made it.
    pub(crate) fn write_key(
        &self,
        site: SiteId,
        scheme: Scheme,
        authority: &[u8],
        target: &[u8],
        now: Timestamp,
        key: &mut Vec<u8>,
    ) -> bool {
        self.write_exact(site, scheme, authority, target, key);
        let varied = self.varied_key(key, now);
        let is_varied = varied.is_some();
        if let Some((varied, _)) = varied {
            *key = varied;
        }
        is_varied
    }

    fn write_exact(&self, site: SiteId, scheme: Scheme, authority: &[u8], target: &[u8], key: &mut Vec<u8>) {
        write_exact(self.rules(site), scheme, authority, target, key);
    }

    /// The exact key of a URL that a site answers for.
    pub(crate) fn exact_key(&self, site: SiteId, scheme: Scheme, authority: &[u8], target: &[u8]) -> UrlKey {
        let mut url = Vec::new();
        self.write_exact(site, scheme, authority, target, &mut url);
        UrlKey::new(url)
    }

    /// The key of a request.
    pub(crate) fn key(&self, site: SiteId, request: &Request, now: Timestamp) -> CacheKey {
        let scheme = self.client_scheme(request);
        let url = self.exact_key(site, scheme, request.authority.as_bytes(), &request.target);
        if let Some(block) = request.block {
            return CacheKey { lookup: block.key(&url), url, rule: None, block: Some(block) };
        }
        match self.varied_key(&url, now) {
            Some((varied, rule)) => CacheKey { url, lookup: LookupKey::new(varied), rule: Some(rule), block: None },
            None => CacheKey { lookup: url.to_lookup(), url, rule: None, block: None },
        }
    }

    /// The key under the rule that is known for an exact one's path, and that rule.
    pub(crate) fn varied_key(&self, exact: &[u8], now: Timestamp) -> Option<(Vec<u8>, Arc<SearchRule>)> {
        if !self.store.search_rules().is_used() {
            return None;
        }
        let rule = self.store.search_rules().get(path(exact), now)?;
        Some((varied(exact, &rule), rule))
    }

    /// The key under which a response that says `variance` is stored; its rule is known from now on.
    pub(crate) fn storage_key(&self, asked: &CacheKey, variance: Option<&SearchVariance>) -> LookupKey {
        if asked.agrees(variance) {
            return asked.lookup.clone();
        }
        match variance {
            Some(variance) => {
                let rule = self.store.search_rules().learn(path(&asked.url), variance, self.clock.now());
                LookupKey::new(varied(&asked.url, &rule))
            }
            None => asked.url.to_lookup(),
        }
    }

    /// The scheme that the client used.
    pub(crate) fn client_scheme(&self, request: &Request) -> Scheme {
        self.tier.scheme(&request.fields, request.scheme)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use http::HeaderMap;

    use super::*;
    use crate::samples::{ARRIVAL, fields, key, rules};

    fn exact(rules: &Rules, scheme: Scheme, authority: &str, target: &str) -> String {
        let mut key = b"left over".to_vec();
        write_exact(rules, scheme, authority.as_bytes(), target.as_bytes(), &mut key);
        String::from_utf8(key).unwrap()
    }

    #[test]
    fn a_key_has_the_canonical_host_and_the_query_of_the_recipe() {
        let plain = rules(|_| {});
        assert_eq!(exact(&plain, Scheme::Http, "WWW.a.org:80", "/p?b=2&a=1"), "http\nwww.a.org\n/p?b=2&a=1");
        let canonical = rules(|site| site.canonical_host = Some("a.org".to_owned()));
        for host in ["a.org", "www.a.org", "a.org:8080"] {
            assert_eq!(exact(&canonical, Scheme::Https, host, "/p"), "https\na.org\n/p", "{host}");
        }
        let sorted = rules(|site| site.key.query_sort = true);
        assert_eq!(exact(&sorted, Scheme::Http, "a.org", "/p?b=2&a=1"), "http\na.org\n/p?a=1&b=2");
    }

    #[test]
    fn a_response_agrees_with_the_key_that_was_looked_up_under_its_own_rule_only() {
        let variance = |value: &str| SearchVariance::of(&fields(&[("no-vary-search", value)])).unwrap();
        let (by_order, by_param) = (variance("key-order"), variance("params=(\"utm\")"));
        let rule = |variance: &SearchVariance| {
            Some(Arc::new(SearchRule { variance: variance.clone(), number: 1, since: ARRIVAL }))
        };
        let block = Some(Block::first());
        for (rule, block, said, expected) in [
            (None, None, None, true),
            (None, None, Some(&by_order), false),
            (rule(&by_order), None, Some(&by_order), true),
            (rule(&by_order), None, Some(&by_param), false),
            (rule(&by_order), None, None, false),
            // Rules say nothing about blocks.
            (None, block, Some(&by_order), true),
        ] {
            let key = CacheKey { rule, block, ..key(b"http\na.org\n/p") };
            assert_eq!(key.agrees(said), expected, "{key:?} {said:?}");
        }
    }

    #[test]
    fn a_rule_that_is_learned_again_leads_to_another_key() {
        let variance = SearchVariance::of(&fields(&[("no-vary-search", "key-order")])).unwrap();
        let rule = |number| SearchRule { variance: variance.clone(), number, since: ARRIVAL };
        let exact = b"http\na.org\n/p?b=2&a=1";
        assert_eq!(varied(exact, &rule(1)), varied(b"http\na.org\n/p?a=1&b=2", &rule(1)));
        assert_ne!(varied(exact, &rule(1)), varied(exact, &rule(2)), "purges in between did not know it");
        assert!(varied(exact, &rule(1)).starts_with(b"http\na.org\n/p?") && varied(exact, &rule(1)) != exact);
    }

    #[test]
    fn lanes_have_fill_keys_of_their_own() {
        let mut keys = HashSet::new();
        for head_only in [false, true] {
            for lane in 0..=u8::MAX {
                let mut fill = Vec::new();
                write_fill_key(b"key", head_only, &Vary::None, &HeaderMap::new(), &mut fill);
                set_lane(&mut fill, 3, lane);
                assert!(fill.starts_with(b"key") && keys.insert(fill), "{head_only} {lane}");
            }
        }
    }
}
