//! One form for request fields that say the same (RFC 9111 §4.1): `Accept-Encoding` and `Accept-Language`.
//!
//! A site lets requests be rewritten to these forms before they are looked up and before they go forward: what selects
//! a variant is then exactly what the origin was asked. A value that is not understood stays as it is.

use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, HeaderName, HeaderValue};

use crate::fields::{Fields, members};

/// The content codings that stay, best first. Clients that also take others (`deflate`, `compress`) are served all the
/// same: each of them takes what it asked for, or no coding.
const CODINGS: [&str; 3] = ["zstd", "br", "gzip"];

/// How far `Accept-Language` values are taken for the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Languages {
    /// As they came, but for white space.
    AsSent,
    /// Case of tags does not matter (RFC 5646 §2.1.1).
    Case,
    /// Nor does the order of ranges with the same weight: a list says nothing by its order (RFC 9110 §12.5.4).
    #[default]
    Order,
}

/// Values that take the place of what a client sent.
#[derive(Debug, Default)]
pub struct Rewritten {
    encodings: Option<&'static str>,
    languages: Option<String>,
}

impl Rewritten {
    /// The values for a request: of `Accept-Encoding` if `encodings` says so, of `Accept-Language` as far as `languages`
    /// says.
    #[must_use]
    pub fn of(request: &impl Fields, encodings: bool, languages: Languages) -> Self {
        let encodings = if encodings { self::encodings(request) } else { None };
        Self { encodings, languages: language_ranges(request, languages) }
    }

    /// The value that takes the place of all lines of a field, if one does.
    #[must_use]
    pub fn value(&self, name: &HeaderName) -> Option<&str> {
        match *name {
            ACCEPT_ENCODING => self.encodings,
            ACCEPT_LANGUAGE => self.languages.as_deref(),
            _ => None,
        }
    }

    /// Puts the values into a map.
    pub fn apply(&self, request: &mut HeaderMap) {
        for name in [ACCEPT_ENCODING, ACCEPT_LANGUAGE] {
            if let Some(value) = self.value(&name).and_then(|text| HeaderValue::from_str(text).ok()) {
                request.insert(name, value);
            }
        }
    }
}

/// The one form of `Accept-Encoding`; `None` if it stays as it is.
fn encodings(request: &impl Fields) -> Option<&'static str> {
    if !request.has(&ACCEPT_ENCODING) {
        return None;
    }
    let mut known: [Option<u16>; CODINGS.len()] = Default::default();
    let (mut alias, mut identity, mut rest) = (None, None, None);
    for member in request.lines(&ACCEPT_ENCODING).flat_map(members) {
        let Weighted { name, weight } = weighted(member)?;
        let is = |coding: &str| name.eq_ignore_ascii_case(coding);
        let place = CODINGS.iter().position(|coding| is(coding)).and_then(|place| known.get_mut(place));
        let slot = match place {
            Some(slot) => slot,
            None if is("x-gzip") => &mut alias,
            None if is("identity") => &mut identity,
            None if name == "*" => &mut rest,
            None => continue,
        };
        // Of one that is named twice, the first counts.
        slot.get_or_insert(weight);
    }
    if identity.or(rest) == Some(0) {
        // The client takes nothing without a coding: that is rare, and stays as it is.
        return None;
    }
    let [zstd, br, gzip] = known;
    let taken = |weight: Option<u16>| weight.or(rest).is_some_and(|weight| weight > 0);
    Some(match (taken(zstd), taken(br), taken(gzip.or(alias))) {
        (true, true, true) => "zstd, br, gzip",
        (true, true, false) => "zstd, br",
        (true, false, true) => "zstd, gzip",
        (true, false, false) => "zstd",
        (false, true, true) => "br, gzip",
        (false, true, false) => "br",
        (false, false, true) => "gzip",
        (false, false, false) => "identity",
    })
}

/// The one form of `Accept-Language`; `None` if it stays as it is.
fn language_ranges(request: &impl Fields, languages: Languages) -> Option<String> {
    if languages == Languages::AsSent || !request.has(&ACCEPT_LANGUAGE) {
        return None;
    }
    let ranges = request.lines(&ACCEPT_LANGUAGE).flat_map(members).map(|member| {
        let Weighted { name, weight } = weighted(member)?;
        Some((tag(name), weight))
    });
    let mut ranges: Vec<(String, u16)> = ranges.collect::<Option<_>>()?;
    if languages == Languages::Order {
        ranges.sort_by(|(a, heavy), (b, other)| other.cmp(heavy).then_with(|| a.cmp(b)));
        ranges.dedup();
    }
    let text: Vec<String> = ranges.iter().map(|(name, weight)| written(name, *weight)).collect();
    Some(text.join(", "))
}

/// A member of a list with weights: `br;q=0.5`.
struct Weighted<'m> {
    name: &'m str,
    /// In thousandths.
    weight: u16,
}

/// `None` if it is no member with at most one weight (RFC 9110 §12.4.2).
fn weighted(member: &[u8]) -> Option<Weighted<'_>> {
    let text = std::str::from_utf8(member).ok()?;
    let (name, weight) = match text.split_once(';') {
        None => (text, 1000),
        Some((name, parameter)) => {
            let (q, value) = parameter.trim().split_once('=')?;
            (name, q.eq_ignore_ascii_case("q").then(|| thousandths(value))??)
        }
    };
    let name = name.trim();
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'*'));
    is_name.then_some(Weighted { name, weight })
}

/// `1`, `0.5`, `0.123`
fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(3);
    let fraction = digits.fold(0, |sum: u16, digit| sum * 10 + u16::from(digit - b'0'));
    match whole {
        "0" => Some(fraction),
        "1" if fraction == 0 => Some(1000),
        _ => None,
    }
}

/// A tag in the case that RFC 5646 §2.1.1 recommends, which is what origins compare with: `zh-Hant-TW`.
fn tag(name: &str) -> String {
    let part = |(place, part): (usize, &str)| match (place, part.len()) {
        (1.., 2) => part.to_ascii_uppercase(),
        (1.., 4) => {
            let (first, rest) = part.split_at(1);
            first.to_ascii_uppercase() + &rest.to_ascii_lowercase()
        }
        _ => part.to_ascii_lowercase(),
    };
    name.split('-').enumerate().map(part).collect::<Vec<_>>().join("-")
}

fn written(name: &str, weight: u16) -> String {
    match weight {
        1000 => name.to_owned(),
        0 => format!("{name};q=0"),
        weight => format!("{name};q=0.{}", format!("{weight:03}").trim_end_matches('0')),
    }
}
