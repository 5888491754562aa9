//! Purges of a URL and of a prefix, however clients spell them.
//!
//! `/caf%c3%a9` and `/caf%C3%A9` are two cache keys (see `nearside_semantics::key`), but one resource: a purge of one purges
//! both. An entry whose URL is not in normal form belongs to a group that is named by this form. So the purge of a URL costs
//! one more lookup, and entries in normal form, which are nearly all, cost nothing.

use nearside_semantics::spelling;
use nearside_store::Purge;

use super::Met;
use crate::fill::Fill;
use crate::request::Engine;

/// Returns scheme and host of an exact key with their line feeds, and its path and query.
fn split(exact: &[u8]) -> (&[u8], &[u8]) {
    let ends = exact.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let end = ends.take(2).last().unwrap_or_default();
    let (origin, rest) = exact.split_at_checked(end).unwrap_or((exact, b""));
    // What is behind a further line feed is no part of the URL: blocks, rules about queries.
    (origin, rest.split(|byte| *byte == b'\n').next().unwrap_or_default())
}

/// Returns the exact key of the normal form of a URL, or `None` if that is this one.
pub(super) fn normal_key(exact: &[u8]) -> Option<Vec<u8>> {
    let (origin, target) = split(exact);
    spelling::normal(target).map(|target| [origin, &target].concat())
}

/// Group of the entries whose URLs have this normal form, but are spelled otherwise. No other kind of group begins so.
fn group_of(normal: &[u8]) -> Vec<u8> {
    [b"N", normal].concat()
}

/// URLs that begin alike in normal form.
#[derive(Debug)]
pub(super) struct Beginning<'k> {
    raw: &'k [u8],
    origin: &'k [u8],
    path: Vec<u8>,
}

impl<'k> Beginning<'k> {
    /// URLs whose exact keys begin with `raw`, which has a whole host.
    pub(super) fn new(raw: &'k [u8]) -> Self {
        let (origin, path) = split(raw);
        Self { raw, origin, path: spelling::normal_beginning(path) }
    }

    /// Whether the URL of a key is one of them.
    pub(super) fn covers(&self, key: &[u8]) -> bool {
        if key.starts_with(self.raw) {
            return true;
        }
        if !key.starts_with(self.origin) {
            return false;
        }
        let (_, target) = split(key);
        spelling::normal(target).map_or_else(|| target.starts_with(&self.path), |form| form.starts_with(&self.path))
    }
}

impl Engine {
    /// The group by which purges of other spellings of a URL find an entry; none of a URL in normal form.
    pub(crate) fn spelling_group(&self, exact: &[u8]) -> Option<Vec<u8>> {
        normal_key(exact).map(|normal| group_of(&normal))
    }

    /// Purges a URL in all its spellings.
    pub(super) fn purge_spellings(&self, exact: &[u8], purge: Purge) -> Met {
        let normal = normal_key(exact);
        let form = normal.as_deref().unwrap_or(exact);
        let is_spelled_otherwise = |fill: &Fill| normal_key(fill.exact()).is_some_and(|other| other == form);
        // Fencing by a predicate concerns all fills whose answers belong under another key: only if there is a need.
        let fenced_fills =
            if self.fills.any(is_spelled_otherwise) { self.fills.fence_where(is_spelled_otherwise) } else { 0 };
        // Those are counted while they are there; what a fill brings that was entered since was asked for since.
        let group = group_of(form);
        let members = self.store.group_members(&group);
        if members > 0 {
            self.store.purge_group(&group, purge);
        }
        let mut met = self.purge_url(exact, None, purge);
        match normal {
            // What stands under the key as it is named belongs to the group, too.
            Some(normal) => {
                let other = self.purge_url(&normal, None, purge);
                met.matched = met.matched.max(members) + other.matched;
                met.fenced_fills += other.fenced_fills;
            }
            None => met.matched += members,
        }
        met.fenced_fills += fenced_fills;
        met
    }

    /// How many stored variants the purge of a URL would meet.
    pub(super) fn count_spellings(&self, exact: &[u8]) -> usize {
        let (normal, own) = (normal_key(exact), self.stored_variants(exact));
        let members = self.store.group_members(&group_of(normal.as_deref().unwrap_or(exact)));
        match normal {
            Some(normal) => own.max(members) + self.stored_variants(&normal),
            None => own + members,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_a_normal_form_without_what_is_no_url() {
        assert_eq!(normal_key(b"http\na.org\n/~a"), None);
        assert_eq!(normal_key(b"http\na.org\n/%7ea").unwrap(), b"http\na.org\n/~a");
        assert_eq!(normal_key(b"http\na.org\n/b\n\0/../%7e"), None, "a block");
        assert_eq!(normal_key(b"http\na%7e.org\n/a"), None, "a host is no path");
    }

    #[test]
    fn a_beginning_covers_every_spelling_of_its_host_only() {
        let covers = |raw: &[u8], key: &[u8]| Beginning::new(raw).covers(key);
        let prefix = b"http\na.org\n/caf%C3%A9/";
        for path in ["/caf%C3%A9/", "/caf%c3%a9/x", "/c%61f%c3%a9/x?y", "/b/../caf%c3%A9/x"] {
            assert!(covers(prefix, format!("http\na.org\n{path}").as_bytes()), "{path}");
        }
        for key in
            ["https\na.org\n/caf%C3%A9/", "http\nb.org\n/caf%c3%a9/", "http\na.org\n/caf%C3%A9", "http\na.org\n/"]
        {
            assert!(!covers(prefix, key.as_bytes()), "{key}");
        }
        assert!(covers(b"http\na.org\n/%61", b"http\na.org\n/ab"));
        assert!(covers(b"http\na.org\n/x/../a", b"http\na.org\n/ab"));
    }
}
