//! Tags (surrogate keys): names that an origin gives its responses, so that all that bear one can be purged together.
//!
//! No RFC has them; these are the fields of Fastly (`Surrogate-Key`), Varnish (`xkey`), Cloudflare (`Cache-Tag`) and Akamai
//! (`Edge-Cache-Tag`), those that Drupal (`Cache-Tags`, `Purge-Cache-Tags`), Magento (`X-Magento-Tags`) and FOSHttpCache
//! (`X-Cache-Tags`) send for a Varnish in front of them, and the groups of RFC 9875, which operators purge by name as well.

use std::collections::BTreeSet;

use http::HeaderMap;
use http::header::HeaderName;

use crate::groups::{CACHE_GROUPS, groups};

/// Separated by spaces.
static SPACED: [HeaderName; 4] = [
    HeaderName::from_static("surrogate-key"),
    HeaderName::from_static("xkey"),
    HeaderName::from_static("cache-tags"),
    HeaderName::from_static("purge-cache-tags"),
];
/// Separated by commas.
static LISTED: [HeaderName; 4] = [
    HeaderName::from_static("cache-tag"),
    HeaderName::from_static("edge-cache-tag"),
    HeaderName::from_static("x-magento-tags"),
    HeaderName::from_static("x-cache-tags"),
];
/// Also for caches only, though it names no tags.
static SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

/// Tags of one response that are looked at.
pub const TAGS_MAX: usize = 1000;
/// The longest tag, in bytes; longer ones are left out.
pub const TAG_BYTES_MAX: usize = 1024;
/// What all tags of a response may take together, in bytes; what comes after is left out.
pub const TAGS_BYTES_MAX: usize = 16 << 10;

/// The tags of a response, each once.
#[must_use]
pub fn tags(response: &HeaderMap) -> BTreeSet<Box<[u8]>> {
    let spaced = SPACED.iter().flat_map(|name| response.get_all(name)).flat_map(|line| {
        let is_space = |byte: &u8| byte.is_ascii_whitespace();
        line.as_bytes().split(is_space).map(<[u8]>::to_vec).collect::<Vec<_>>()
    });
    let listed = LISTED.iter().flat_map(|name| response.get_all(name)).flat_map(|line| {
        line.as_bytes().split(|byte| *byte == b',').map(|tag| tag.trim_ascii().to_vec()).collect::<Vec<_>>()
    });
    let groups = groups(response).into_iter().map(String::into_bytes);
    let mut bytes = 0;
    spaced
        .chain(listed)
        .chain(groups)
        .filter(|tag| is_tag(tag))
        .take(TAGS_MAX)
        .take_while(|tag| {
            bytes += tag.len();
            bytes <= TAGS_BYTES_MAX
        })
        .map(Vec::into_boxed_slice)
        .collect()
}

/// Whether a response says anything of tags: an answer that does not (a 304, for example) leaves those that are known.
#[must_use]
pub fn speaks_of_tags(response: &HeaderMap) -> bool {
    // By what is there: of these names hardly one ever is.
    response.keys().any(|there| names_tags(there) || *there == CACHE_GROUPS)
}

fn names_tags(field: &HeaderName) -> bool {
    SPACED.iter().chain(&LISTED).any(|name| name == field)
}

/// Whether something can be a tag.
#[must_use]
pub fn is_tag(tag: &[u8]) -> bool {
    (1..=TAG_BYTES_MAX).contains(&tag.len())
}

/// Takes out what is for caches only, before an answer goes to a client, unless it is to be kept.
pub fn strip(response: &mut HeaderMap, keep: impl Fn(&HeaderName) -> bool) {
    let is_ours = |there: &&HeaderName| (names_tags(there) || **there == SURROGATE_CONTROL) && !keep(there);
    let found: Vec<_> = response.keys().filter(is_ours).cloned().collect();
    for name in found {
        response.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[(&'static str, &str)]) -> Vec<String> {
        let fields: HeaderMap =
            lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        tags(&fields).into_iter().map(|tag| String::from_utf8(tag.into()).unwrap()).collect()
    }

    #[test]
    fn each_field_has_its_own_shape_and_a_tag_counts_once() {
        assert_eq!(of(&[("surrogate-key", "a  b\tc"), ("xkey", "d a")]), ["a", "b", "c", "d"]);
        assert_eq!(of(&[("cache-tag", "a b, c ,,"), ("edge-cache-tag", "c,x")]), ["a b", "c", "x"]);
        assert_eq!(of(&[("x-magento-tags", "cat_p_1,cat_c"), ("x-cache-tags", "t")]), ["cat_c", "cat_p_1", "t"]);
        assert_eq!(of(&[("cache-tags", "node:1 node:2"), ("purge-cache-tags", "u")]), ["node:1", "node:2", "u"]);
        assert_eq!(of(&[("cache-groups", "\"a\", \"g\""), ("cache-tag", "A")]), ["A", "a", "g"]);
        assert_eq!(of(&[("cache-groups", "a, b")]), [""; 0], "tokens are no strings");
        assert_eq!(of(&[("surrogate-key", " ")]), [""; 0]);
    }

    #[test]
    fn there_is_an_end_to_tags() {
        let many: String = (0..TAGS_MAX + 10).map(|n| format!("{n} ")).collect();
        assert_eq!(of(&[("surrogate-key", &many)]).len(), TAGS_MAX);
        let long = "x".repeat(TAG_BYTES_MAX);
        assert_eq!(of(&[("surrogate-key", &format!("{long}x {long}"))]), [long.as_str()]);
        let heavy: String = (0..40).map(|n| format!("{n}{} ", "x".repeat(1000))).collect();
        assert_eq!(of(&[("surrogate-key", &heavy)]).len(), 16);
    }

    #[test]
    fn what_is_for_caches_only_is_taken_out() {
        let names =
            ["surrogate-key", "xkey", "cache-tag", "edge-cache-tag", "surrogate-control", "etag", "cache-groups"];
        let mut fields: HeaderMap = names.iter().map(|name| (name.parse().unwrap(), "a".parse().unwrap())).collect();
        strip(&mut fields, |name| name == "xkey");
        // A group is for every cache on the way, the client's own too.
        let left: BTreeSet<_> = fields.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, BTreeSet::from(["cache-groups", "etag", "xkey"]));
    }
}
