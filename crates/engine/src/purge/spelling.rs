//! Purges of a URL and of a prefix, however clients spell them.
//!
//! `/caf%c3%a9` and `/caf%C3%A9` are two cache keys (see `nearside_semantics::key`), but one resource: a purge of one purges
//! both. An entry whose URL is not in normal form belongs to a group that is named by this form. So the purge of a URL costs
//! one more lookup, and entries in normal form, which are nearly all, cost nothing.

use nearside_semantics::spelling;
use nearside_store::Purge;

use super::{Met, group};
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
        normal_key(exact).map(|normal| group::of_spellings(&normal))
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
        let group = group::of_spellings(form);
        let members = self.store.group_members(&group);
        if members > 0 {
            self.store.purge_group(&group, purge);
        }
        let named = self.purge_url(exact, None, purge);
        let in_normal_form = normal.map(|normal| self.purge_url(&normal, None, purge));
        let matched = variants_met(named.matched, members, in_normal_form.map(|met| met.matched));
        let fenced_fills = fenced_fills + named.fenced_fills + in_normal_form.map_or(0, |met| met.fenced_fills);
        Met { matched, fenced_fills }
    }

    /// How many stored variants the purge of a URL would meet.
    pub(super) fn count_spellings(&self, exact: &[u8]) -> usize {
        let (normal, own) = (normal_key(exact), self.stored_variants(exact));
        let members = self.store.group_members(&group::of_spellings(normal.as_deref().unwrap_or(exact)));
        variants_met(own, members, normal.map(|normal| self.stored_variants(&normal)))
    }
}

/// Number of variants that the purge of a URL meets: `named` under its key, `members` of the group of other spellings, and
/// `normal` under the key of its normal form, if that is another one. What stands under a key that is not in normal form
/// belongs to the group, too.
fn variants_met(named: usize, members: usize, normal: Option<usize>) -> usize {
    match normal {
        Some(normal) => named.max(members) + normal,
        None => named + members,
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
    fn a_variant_that_is_found_by_its_key_and_its_group_is_counted_once() {
        for (named, members, normal, expected) in [
            (2, 0, None, 2),
            (2, 3, None, 5),
            // Named in another spelling: what it finds there is among the members.
            (2, 2, Some(0), 2),
            (2, 3, Some(4), 7),
            // Blocks stand under the key without being members.
            (1, 0, Some(0), 1),
            (0, 0, Some(0), 0),
        ] {
            assert_eq!(variants_met(named, members, normal), expected, "{named} {members} {normal:?}");
        }
    }

    #[test]
    fn an_entry_that_is_not_in_normal_form_joins_the_group_that_is_named_by_it() {
        let group = |exact: &[u8]| normal_key(exact).map(|normal| group::of_spellings(&normal));
        assert_eq!(group(b"http\na.org\n/%7ea"), group(b"http\na.org\n/b/../~a"));
        assert!(group(b"http\na.org\n/%7ea").is_some());
        assert_eq!(group(b"http\na.org\n/~a"), None, "most entries need none");
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
