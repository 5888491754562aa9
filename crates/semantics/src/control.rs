//! Which directives govern a response: `Cache-Control`, or a field that is targeted at this cache (RFC 9213).
//!
//! A targeted field is a Structured Field dictionary (RFC 9651), not a `Cache-Control` value: names are lower-case,
//! numbers are integers. The first of the cache's target list that is there and valid governs alone: `Cache-Control`
//! and `Expires` are then "ignored" (RFC 9213 §2.2). One that is empty or cannot be parsed is as good as absent (§2.1).
//!
//! A number of the wrong type (`max-age="60"`) is [`Seconds::Invalid`]: stale at once, never guessed.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use crate::directives::{ResponseDirectives, Seconds};
use crate::time::DeltaSeconds;

/// `CDN-Cache-Control` (RFC 9213 §3).
pub const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// The directives that govern a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Control {
    /// What they say.
    pub directives: ResponseDirectives,
    /// They come from a targeted field, so that `Expires` says nothing.
    pub targeted: bool,
}

impl Control {
    /// The directives of a response for a cache that looks for `targets`, in this order, before `Cache-Control`.
    #[must_use]
    pub fn of(fields: &HeaderMap, targets: &[HeaderName]) -> Self {
        let targeted = targets.iter().find_map(|name| dictionary(fields, name)).filter(|found| !found.is_empty());
        match targeted {
            Some(found) => Self { directives: directives(&found), targeted: true },
            None => Self { directives: ResponseDirectives::of(fields), targeted: false },
        }
    }
}

/// A field as a Structured Field dictionary, all its lines read as one; `None` if it is absent, empty or not one.
pub(crate) fn dictionary(fields: &HeaderMap, name: &HeaderName) -> Option<Dictionary> {
    let parsed: Dictionary = Parser::new(&joined(fields, name)?).parse().ok()?;
    (!parsed.is_empty()).then_some(parsed)
}

/// All lines of a field as one (RFC 9651 §4.2).
pub(crate) fn joined(fields: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let lines: Vec<&[u8]> = fields.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    (!lines.is_empty()).then(|| lines.join(&b", "[..]))
}

fn directives(found: &Dictionary) -> ResponseDirectives {
    let seconds = |name: &str| found.get(name).map(seconds);
    // `no-cache`, `no-cache=("field")`: any value but "false" switches it on, which is the safe side.
    let is_set = |name: &str| found.get(name).is_some_and(|entry| !is_false(entry));
    ResponseDirectives {
        max_age: seconds("max-age"),
        s_maxage: seconds("s-maxage"),
        stale_while_revalidate: seconds("stale-while-revalidate"),
        stale_if_error: seconds("stale-if-error"),
        no_store: is_set("no-store"),
        no_cache: is_set("no-cache"),
        private: is_set("private"),
        public: is_set("public"),
        must_revalidate: is_set("must-revalidate"),
        proxy_revalidate: is_set("proxy-revalidate"),
        must_understand: is_set("must-understand"),
    }
}

fn seconds(entry: &ListEntry) -> Seconds {
    let ListEntry::Item(item) = entry else { return Seconds::Invalid };
    let BareItem::Integer(number) = &item.bare_item else { return Seconds::Invalid };
    match u64::try_from(i64::from(*number)) {
        Ok(number) => Seconds::Valid(DeltaSeconds::from_secs(number)),
        Err(_negative) => Seconds::Invalid,
    }
}

fn is_false(entry: &ListEntry) -> bool {
    matches!(entry, ListEntry::Item(item) if matches!(item.bare_item, BareItem::Boolean(false)))
}
