//! `Cache-Control` (RFC 9111 §5.2): what a response or a request asks of caches.
//!
//! Parsing cannot fail. Directive names are case-insensitive; quoted strings are opaque; the first of several equal
//! directives counts (§4.2.1 leaves the choice between "first" and "stale"). An argument that is not delta-seconds
//! makes the directive [`Seconds::Invalid`], which [`crate::lifetime`] reads as "stale already" (§4.2.1).
//!
//! Departure: `no-cache="field"` and `private="field"` are read as the unqualified directives. §5.2.2.4 and §5.2.2.7
//! allow it, and it is the safe side.

use std::time::Duration;

use http::HeaderMap;
use http::header::{CACHE_CONTROL, PRAGMA};

use crate::time::DeltaSeconds;

/// The argument of a directive that wants delta-seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seconds {
    /// `max-age=60`, `max-age="60"`.
    Valid(DeltaSeconds),
    /// Present, but no delta-seconds: `max-age=`, `max-age=1.5`, `max-age='60'`, `max-age =60`.
    Invalid,
}

impl Seconds {
    /// The span, where a malformed one counts as none at all.
    #[must_use]
    pub fn or_zero(self) -> DeltaSeconds {
        match self {
            Self::Valid(span) => span,
            Self::Invalid => DeltaSeconds::ZERO,
        }
    }

    /// Whether `span` is within it; nothing is within a malformed one.
    #[must_use]
    pub fn covers(self, span: Duration) -> bool {
        matches!(self, Self::Valid(limit) if span <= limit.as_duration())
    }
}

/// The directives of a response (RFC 9111 §5.2.2, RFC 5861, RFC 8246).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResponseDirectives {
    /// `max-age`
    pub max_age: Option<Seconds>,
    /// `s-maxage`
    pub s_maxage: Option<Seconds>,
    /// `stale-while-revalidate` (RFC 5861 §3)
    pub stale_while_revalidate: Option<Seconds>,
    /// `stale-if-error` (RFC 5861 §4)
    pub stale_if_error: Option<Seconds>,
    /// `no-store`
    pub no_store: bool,
    /// `no-cache`, qualified or not
    pub no_cache: bool,
    /// `private`, qualified or not
    pub private: bool,
    /// `public`
    pub public: bool,
    /// `must-revalidate`
    pub must_revalidate: bool,
    /// `proxy-revalidate`
    pub proxy_revalidate: bool,
    /// `must-understand`
    pub must_understand: bool,
}

impl ResponseDirectives {
    /// The directives of all `Cache-Control` lines of a response, read as one list.
    #[must_use]
    pub fn of(fields: &HeaderMap) -> Self {
        let mut found = Self::default();
        each_directive(fields, |name, argument| found.add(name, argument));
        found
    }

    fn add(&mut self, name: &str, argument: Argument<'_>) {
        match name {
            "max-age" => first(&mut self.max_age, argument),
            "s-maxage" => first(&mut self.s_maxage, argument),
            "stale-while-revalidate" => first(&mut self.stale_while_revalidate, argument),
            "stale-if-error" => first(&mut self.stale_if_error, argument),
            "no-store" => self.no_store = true,
            "no-cache" => self.no_cache = true,
            "private" => self.private = true,
            "public" => self.public = true,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "must-understand" => self.must_understand = true,
            _ => {}
        }
    }
}

/// The directives of a request (RFC 9111 §5.2.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// `max-age`
    pub max_age: Option<Seconds>,
    /// `min-fresh`
    pub min_fresh: Option<Seconds>,
    /// `max-stale`; without an argument the longest span there is
    pub max_stale: Option<Seconds>,
    /// `stale-if-error` (RFC 5861 §4)
    pub stale_if_error: Option<Seconds>,
    /// `no-cache`, or `Pragma: no-cache` where there is no `Cache-Control` (§5.4)
    pub no_cache: bool,
    /// `no-store`
    pub no_store: bool,
    /// `only-if-cached`
    pub only_if_cached: bool,
}

impl RequestDirectives {
    /// The directives of a request.
    #[must_use]
    pub fn of(fields: &HeaderMap) -> Self {
        let mut found = Self::default();
        if fields.contains_key(CACHE_CONTROL) {
            each_directive(fields, |name, argument| found.add(name, argument));
        } else {
            found.no_cache = fields.get_all(PRAGMA).iter().any(|v| v.as_bytes().eq_ignore_ascii_case(b"no-cache"));
        }
        found
    }

    fn add(&mut self, name: &str, argument: Argument<'_>) {
        match name {
            "max-age" => first(&mut self.max_age, argument),
            "min-fresh" => first(&mut self.min_fresh, argument),
            "max-stale" if self.max_stale.is_none() => {
                self.max_stale = Some(match argument {
                    Argument::Absent => Seconds::Valid(DeltaSeconds::MAX),
                    present => present.seconds(),
                });
            }
            "stale-if-error" => first(&mut self.stale_if_error, argument),
            "no-cache" => self.no_cache = true,
            "no-store" => self.no_store = true,
            "only-if-cached" => self.only_if_cached = true,
            _ => {}
        }
    }
}

/// What stands behind the `=` of a directive.
#[derive(Debug, Clone, Copy)]
enum Argument<'a> {
    Absent,
    Text(&'a [u8]),
    /// White space around the `=`, or a quoted string that does not end.
    Malformed,
}

impl Argument<'_> {
    fn seconds(self) -> Seconds {
        match self {
            Self::Text(digits) => DeltaSeconds::parse(digits).map_or(Seconds::Invalid, Seconds::Valid),
            Self::Absent | Self::Malformed => Seconds::Invalid,
        }
    }
}

fn first(slot: &mut Option<Seconds>, argument: Argument<'_>) {
    if slot.is_none() {
        *slot = Some(argument.seconds());
    }
}

/// Calls `found` with the lower-case name and the argument of every directive of every `Cache-Control` line.
fn each_directive(fields: &HeaderMap, mut found: impl FnMut(&str, Argument<'_>)) {
    let mut name = String::new();
    for line in fields.get_all(CACHE_CONTROL) {
        for member in crate::fields::members(line.as_bytes()) {
            let (raw_name, argument) = split_directive(member);
            name.clear();
            name.extend(raw_name.iter().map(|b| char::from(b.to_ascii_lowercase())));
            found(&name, argument);
        }
    }
}

fn split_directive(member: &[u8]) -> (&[u8], Argument<'_>) {
    let Some(equals) = member.iter().position(|b| *b == b'=') else {
        return (member, Argument::Absent);
    };
    let (name, rest) = member.split_at(equals);
    let value = rest.get(1..).unwrap_or_default();
    let trimmed = name.trim_ascii_end();
    let spaced = trimmed.len() != name.len() || value.first().is_some_and(u8::is_ascii_whitespace);
    if spaced {
        return (trimmed, Argument::Malformed);
    }
    (trimmed, unquote(value))
}

fn unquote(value: &[u8]) -> Argument<'_> {
    match value {
        [b'"', inner @ .., b'"'] => Argument::Text(inner),
        [b'"', ..] => Argument::Malformed,
        _ => Argument::Text(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Seconds::{Invalid, Valid};

    fn max_age(lines: &[&str]) -> Option<Seconds> {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(CACHE_CONTROL, line.parse().unwrap());
        }
        ResponseDirectives::of(&fields).max_age
    }

    #[test]
    fn rfc9111_s5_2_max_age_is_read_or_invalid_but_never_guessed() {
        let valid = |secs| Some(Valid(DeltaSeconds::from_secs(secs)));
        let table: &[(&[&str], Option<Seconds>)] = &[
            (&["max-age=3600"], valid(3600)),
            (&["MAX-AGE=3600"], valid(3600)),
            (&["max-age=003600"], valid(3600)),
            (&["max-age=\"3600\""], valid(3600)),
            (&["max-age='3600'"], Some(Invalid)),
            (&["max-age=3600.0"], Some(Invalid)),
            (&["max-age=-1"], Some(Invalid)),
            (&["max-age=a3600"], Some(Invalid)),
            (&["max-age= 3600"], Some(Invalid)),
            (&["max-age =3600"], Some(Invalid)),
            (&["max-age"], Some(Invalid)),
            (&["max-age="], Some(Invalid)),
            (&["max-age=99999999999999999999999"], valid(1 << 31)),
            (&["extension=\"max-age=3600\", max-age=1"], valid(1)),
            (&["extension=\"a\\\"b, max-age=3600\", max-age=1"], valid(1)),
            (&["extension=\"open, max-age=3600"], None),
            (&["max-age=1, max-age=3600"], valid(1)),
            (&["max-age=3600", "max-age=1"], valid(3600)),
            (&[", ,max-age=5,"], valid(5)),
            (&["xmax-age=5"], None),
            (&[""], None),
        ];
        for (lines, expected) in table {
            assert_eq!(max_age(lines), *expected, "{lines:?}");
        }
    }

    #[test]
    fn qualified_no_cache_and_private_count_as_unqualified() {
        let mut fields = HeaderMap::new();
        fields.append(CACHE_CONTROL, "No-Cache=\"a, b\", PRIVATE=\"set-cookie\"".parse().unwrap());
        let found = ResponseDirectives::of(&fields);
        assert!(found.no_cache && found.private && !found.no_store);
    }

    #[test]
    fn rfc9111_s5_4_pragma_counts_only_without_cache_control() {
        let mut fields = HeaderMap::new();
        fields.append(PRAGMA, "no-cache".parse().unwrap());
        assert!(RequestDirectives::of(&fields).no_cache);
        fields.append(CACHE_CONTROL, "max-stale".parse().unwrap());
        let found = RequestDirectives::of(&fields);
        assert!(!found.no_cache);
        assert_eq!(found.max_stale, Some(Valid(DeltaSeconds::MAX)));
    }
}
