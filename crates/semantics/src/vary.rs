//! Which request fields a response depends on (RFC 9111 §4.1, RFC 9110 §12.5.5).
//!
//! A variant's key is the nominated fields of the request that it answers, normalised as §4.1 allows: lines joined,
//! white space around commas removed. An absent field is a value of its own and matches only its absence.

use http::HeaderMap;
use http::header::{HeaderName, VARY};

use crate::fields::members;

/// The `Vary` of a response.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Vary {
    /// It depends on nothing but the cache key.
    #[default]
    None,
    /// `*`, or a name that cannot be one: it never matches another request.
    All,
    /// It depends on these request fields: sorted, each once.
    Fields(Box<[HeaderName]>),
}

impl Vary {
    /// All `Vary` lines of a response, read as one list.
    #[must_use]
    pub fn of(response: &HeaderMap) -> Self {
        let mut names = Vec::new();
        for member in response.get_all(VARY).iter().flat_map(|line| members(line.as_bytes())) {
            match HeaderName::from_bytes(member) {
                Ok(name) if member != b"*" => names.push(name),
                _ => return Self::All,
            }
        }
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        if names.is_empty() { Self::None } else { Self::Fields(names.into()) }
    }

    /// Writes the key of the variant that answers `request` behind `key`.
    ///
    /// Two requests get equal bytes if and only if each nominated field matches as §4.1 says.
    pub fn variant_key(&self, request: &HeaderMap, key: &mut Vec<u8>) {
        let Self::Fields(names) = self else { return };
        for name in names {
            key.extend_from_slice(name.as_str().as_bytes());
            if request.contains_key(name) {
                key.push(b':');
                push_normalised(request, name, key);
            }
            // No field value can hold a line feed, so that no two lists of fields give the same bytes.
            key.push(b'\n');
        }
    }
}

fn push_normalised(request: &HeaderMap, name: &HeaderName, key: &mut Vec<u8>) {
    let values = request.get_all(name).iter().flat_map(|line| members(line.as_bytes()));
    for (at, member) in values.enumerate() {
        if at > 0 {
            key.push(b',');
        }
        key.extend_from_slice(member);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    fn key(vary: &str, request: &[(&'static str, &str)]) -> Vec<u8> {
        let mut key = Vec::new();
        Vary::of(&map(&[("vary", vary)])).variant_key(&map(request), &mut key);
        key
    }

    #[test]
    fn a_star_anywhere_matches_nothing() {
        for lines in [&["*"][..], &["a, *"], &["", "*"], &["a", "b , *"], &["not a name"]] {
            let lines: Vec<_> = lines.iter().map(|l| ("vary", *l)).collect();
            assert_eq!(Vary::of(&map(&lines)), Vary::All, "{lines:?}");
        }
        assert_eq!(Vary::of(&map(&[("vary", "")])), Vary::None);
    }

    #[test]
    fn rfc9111_s4_1_variants_match_field_by_field() {
        let same: &[(&[_], &[_])] = &[
            (&[("foo", "1, 2")], &[("foo", "1,2")]),
            (&[("foo", "1"), ("foo", "2")], &[("foo", "1 ,2")]),
            (&[("foo", "1"), ("bar", "x")], &[("foo", "1"), ("bar", "y")]),
            (&[], &[("bar", "x")]),
        ];
        for (a, b) in same {
            assert_eq!(key("Foo", a), key("foo", b), "{a:?} {b:?}");
        }
        let different: &[(&[_], &[_])] = &[
            (&[("foo", "1")], &[("foo", "2")]),
            (&[("foo", "1")], &[]),
            (&[("foo", "")], &[]),
            (&[("foo", "1, 2")], &[("foo", "2, 1")]),
            (&[("foo", "a")], &[("foo", "A")]),
        ];
        for (a, b) in different {
            assert_ne!(key("foo", a), key("foo", b), "{a:?} {b:?}");
        }
        assert_ne!(key("a, b", &[("a", "1")]), key("a, b", &[("b", "1")]));
    }

    #[test]
    fn order_and_repetition_in_vary_do_not_matter() {
        assert_eq!(Vary::of(&map(&[("vary", "b, A, a")])), Vary::of(&map(&[("vary", "A"), ("vary", "B")])));
    }
}
