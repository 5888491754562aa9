//! Query strings as caches may see them: parameters that do not matter, or whose order does not.
//!
//! Two ways lead here: a site's recipe for its cache keys ([`QueryRecipe`]), and `No-Vary-Search` on a response
//! ([`SearchVariance`], draft-ietf-httpbis-no-vary-search), with which the origin itself says what does not matter.
//!
//! **Invariant:** a parameter that is left is compared by its bytes as they came. Only the *names* that decide what is
//! left are decoded (`application/x-www-form-urlencoded`), so that `utm%5Fsource` is `utm_source`; two values are never
//! taken for one another because they decode to the same.

use http::HeaderMap;
use http::header::HeaderName;
use sfv::{BareItem, Dictionary, InnerList, ListEntry};

use crate::control::dictionary;

/// `No-Vary-Search`.
pub const NO_VARY_SEARCH: HeaderName = HeaderName::from_static("no-vary-search");

/// Every key under a rule carries the rule: a longer one costs more than it saves.
const RULE_BYTES_MAX: usize = 1000;

/// A name of parameters; one that ends in `*` stands for all that begin with what is before it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ParameterName(String);

impl ParameterName {
    /// The name as it is written in a configuration.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    fn covers(&self, name: &[u8]) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => name.starts_with(start.as_bytes()),
            None => name == self.0.as_bytes(),
        }
    }
}

/// How a site wants the queries of its URLs to be seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct QueryRecipe {
    /// Parameters that count; `None`: all do.
    pub keep: Option<Vec<ParameterName>>,
    /// Of these, the ones that do not.
    pub drop: Vec<ParameterName>,
    /// Whether their order does not count: they are sorted by name, those of one name stay in their order.
    pub sort: bool,
}

impl QueryRecipe {
    /// Whether every target stays as it is.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.keep.is_none() && self.drop.is_empty() && !self.sort
    }

    /// Writes `target` behind `out`, its query as the recipe sees it.
    pub fn write(&self, target: &[u8], out: &mut Vec<u8>) {
        if self.is_identity() {
            return out.extend_from_slice(target);
        }
        let covered = |names: &[ParameterName], name: &[u8]| names.iter().any(|pattern| pattern.covers(name));
        let counts =
            |name: &[u8]| self.keep.as_ref().is_none_or(|kept| covered(kept, name)) && !covered(&self.drop, name);
        write(target, counts, self.sort, out);
    }
}

/// What a response says of the queries that it answers, where that is not the default ("all of it matters").
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SearchVariance {
    order_matters: bool,
    ignored: Ignored,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Ignored {
    These(Vec<Vec<u8>>),
    AllBut(Vec<Vec<u8>>),
}

impl SearchVariance {
    /// What `No-Vary-Search` says; `None` where it is absent, not understood, says no more than the default, or says it at
    /// more than a thousand bytes' length.
    #[must_use]
    pub fn of(response: &HeaderMap) -> Option<Self> {
        let found = dictionary(response, &NO_VARY_SEARCH)?;
        let order_matters = match found.get("key-order") {
            None => true,
            Some(entry) => !boolean(entry)?,
        };
        let ignored = ignored(&found)?;
        let default = order_matters && ignored == Ignored::These(Vec::new());
        let found = Self { order_matters, ignored };
        (!default && found.bytes() <= RULE_BYTES_MAX).then_some(found)
    }

    /// The bytes that the rule takes, in memory and, doubled, in keys.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let (Ignored::These(names) | Ignored::AllBut(names)) = &self.ignored;
        names.iter().map(|name| name.len() + 1).sum()
    }

    /// Writes `target` behind `out` in a form that is the same for all targets that this makes equal.
    pub fn write(&self, target: &[u8], out: &mut Vec<u8>) {
        let counts = |name: &[u8]| match &self.ignored {
            Ignored::These(names) => !names.iter().any(|ignored| ignored == name),
            Ignored::AllBut(names) => names.iter().any(|kept| kept == name),
        };
        write(target, counts, !self.order_matters, out);
    }

    /// Writes what it says behind `out`, so that keys made under different rules differ. No line feeds are written.
    pub fn write_rule(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.order_matters { b"o" } else { b"-" });
        let (mark, names) = match &self.ignored {
            Ignored::These(names) => (b'!', names),
            Ignored::AllBut(names) => (b'=', names),
        };
        out.push(mark);
        for name in names {
            for byte in name {
                out.extend_from_slice(&[b'a' + (byte >> 4), b'a' + (byte & 15)]);
            }
            out.push(b',');
        }
    }
}

fn ignored(found: &Dictionary) -> Option<Ignored> {
    let except = found.get("except");
    match found.get("params") {
        None if except.is_none() => Some(Ignored::These(Vec::new())),
        Some(ListEntry::InnerList(list)) if except.is_none() => Some(Ignored::These(names(list)?)),
        Some(entry @ ListEntry::Item(_)) => match (boolean(entry)?, except) {
            (false, None) => Some(Ignored::These(Vec::new())),
            (true, None) => Some(Ignored::AllBut(Vec::new())),
            (true, Some(ListEntry::InnerList(list))) => Some(Ignored::AllBut(names(list)?)),
            _ => None,
        },
        _ => None,
    }
}

fn boolean(entry: &ListEntry) -> Option<bool> {
    let ListEntry::Item(item) = entry else { return None };
    if let BareItem::Boolean(value) = item.bare_item { Some(value) } else { None }
}

/// The decoded names, sorted, so that equal rules are written alike.
fn names(list: &InnerList) -> Option<Vec<Vec<u8>>> {
    let name = |item: &sfv::Item| match &item.bare_item {
        BareItem::String(text) => Some(decode(text.as_str().as_bytes())),
        _ => None,
    };
    let mut names = list.items.iter().map(name).collect::<Option<Vec<_>>>()?;
    names.sort_unstable();
    names.dedup();
    Some(names)
}

/// Writes a target with those of its parameters that count. A query that loses all of them goes with its `?`.
fn write(target: &[u8], counts: impl Fn(&[u8]) -> bool, sort: bool, out: &mut Vec<u8>) {
    let Some(mark) = target.iter().position(|b| *b == b'?') else { return out.extend_from_slice(target) };
    let (path, query) = target.split_at(mark);
    let query = query.get(1..).unwrap_or_default();
    let mut kept: Vec<(Vec<u8>, &[u8])> = query
        .split(|b| *b == b'&')
        .map(|parameter| (decode(parameter.split(|b| *b == b'=').next().unwrap_or_default()), parameter))
        .filter(|(name, _)| counts(name))
        .collect();
    if sort {
        kept.sort_by(|(a, _), (b, _)| a.cmp(b));
    }
    out.extend_from_slice(path);
    for (place, (_, parameter)) in kept.iter().enumerate() {
        out.push(if place == 0 { b'?' } else { b'&' });
        out.extend_from_slice(parameter);
    }
}

/// `%XX` and `+` as a form means them; what is no escape stays.
fn decode(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'%', [high, low, behind @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                plain.push(hex(*high) << 4 | hex(*low));
                rest = behind;
            }
            (b'+', _) => plain.push(b' '),
            _ => plain.push(*byte),
        }
    }
    plain
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}
