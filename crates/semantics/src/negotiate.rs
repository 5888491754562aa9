//! One form for request fields that say the same (RFC 9111 §4.1): `Accept-Encoding` and `Accept-Language`.
//!
//! A site lets requests be rewritten to these forms before they are looked up and before they go forward: what selects
//! a variant is then exactly what the origin was asked. A value that is not understood stays as it is.

use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, HeaderName, HeaderValue};

use crate::fields::members;

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

/// Rewrites `Accept-Encoding` to the known codings that it takes.
pub fn accept_encoding(request: &mut HeaderMap) {
    rewrite(request, &ACCEPT_ENCODING, codings);
}

/// Rewrites `Accept-Language` as `languages` says.
pub fn accept_language(request: &mut HeaderMap, languages: Languages) {
    match languages {
        Languages::AsSent => {}
        Languages::Case => rewrite(request, &ACCEPT_LANGUAGE, |ranges| ranges_of(ranges, false)),
        Languages::Order => rewrite(request, &ACCEPT_LANGUAGE, |ranges| ranges_of(ranges, true)),
    }
}

/// A member of a list with weights: `br;q=0.5`.
struct Weighted {
    name: String,
    /// In thousandths.
    weight: u16,
}

fn rewrite(request: &mut HeaderMap, name: &HeaderName, form: impl Fn(Vec<Weighted>) -> Option<String>) {
    if !request.contains_key(name) {
        return;
    }
    let all = request.get_all(name).iter().flat_map(|line| members(line.as_bytes()));
    let Some(ranges) = all.map(weighted).collect::<Option<Vec<_>>>() else { return };
    if let Some(value) = form(ranges).and_then(|text| HeaderValue::try_from(text).ok()) {
        request.insert(name, value);
    }
}

/// `None` if it is no member with at most one weight (RFC 9110 §12.4.2).
fn weighted(member: &[u8]) -> Option<Weighted> {
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
    is_name.then(|| Weighted { name: name.to_owned(), weight })
}

/// `1`, `0.5`, `0.123`
fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let fraction: u16 = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" => Some(fraction),
        "1" if fraction == 0 => Some(1000),
        _ => None,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "one of the forms that `rewrite` takes")]
fn codings(ranges: Vec<Weighted>) -> Option<String> {
    let weight = |name: &str| ranges.iter().find(|range| range.name.eq_ignore_ascii_case(name)).map(|r| r.weight);
    let rest = weight("*");
    if weight("identity").or(rest) == Some(0) {
        // The client takes nothing without a coding: that is rare, and stays as it is.
        return None;
    }
    let aliased = |coding: &str| if coding == "gzip" { weight("gzip").or(weight("x-gzip")) } else { weight(coding) };
    let taken: Vec<&str> =
        CODINGS.into_iter().filter(|coding| aliased(coding).or(rest).is_some_and(|weight| weight > 0)).collect();
    Some(if taken.is_empty() { "identity".to_owned() } else { taken.join(", ") })
}

#[expect(clippy::unnecessary_wraps, reason = "one of the forms that `rewrite` takes")]
fn ranges_of(mut ranges: Vec<Weighted>, sort: bool) -> Option<String> {
    for range in &mut ranges {
        range.name = tag(&range.name);
    }
    if sort {
        ranges.sort_by(|a, b| b.weight.cmp(&a.weight).then_with(|| a.name.cmp(&b.name)));
        ranges.dedup_by(|a, b| a.name == b.name && a.weight == b.weight);
    }
    let text: Vec<String> = ranges.iter().map(written).collect();
    Some(text.join(", "))
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

fn written(range: &Weighted) -> String {
    match range.weight {
        1000 => range.name.clone(),
        0 => format!("{};q=0", range.name),
        weight => format!("{};q=0.{}", range.name, format!("{weight:03}").trim_end_matches('0')),
    }
}
