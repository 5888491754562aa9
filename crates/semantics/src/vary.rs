//! What of a request, beside its URI, a response depends on (RFC 9111 §4.1, RFC 9110 §12.5.5).
//!
//! The origin nominates request fields in `Vary`; a site may nominate more for all its responses, cookies too. A
//! variant's key is the nominated parts of the request that it answers, normalised as §4.1 allows: lines joined, white
//! space around commas removed. What is absent is a value of its own and matches only its absence.

use http::HeaderMap;
use http::header::{COOKIE, HeaderName, VARY};

use crate::fields::{Fields, members};

/// A part of a request that selects among variants.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Nominee {
    /// A field.
    Field(HeaderName),
    /// A cookie of this name.
    Cookie(Box<str>),
}

impl Nominee {
    fn rank(&self) -> (bool, &str) {
        match self {
            Self::Field(name) => (false, name.as_str()),
            Self::Cookie(name) => (true, name),
        }
    }
}

/// What a response depends on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Vary {
    /// It depends on nothing but the cache key.
    #[default]
    None,
    /// `*`, or a name that cannot be one: it never matches another request.
    All,
    /// It depends on these: sorted, each once.
    On(Box<[Nominee]>),
}

impl Vary {
    /// All `Vary` lines of a response, read as one list, and what the site adds.
    #[must_use]
    pub fn of(response: &HeaderMap, site: &[Nominee]) -> Self {
        let mut nominees = site.to_vec();
        for member in response.get_all(VARY).iter().flat_map(|line| members(line.as_bytes())) {
            match HeaderName::from_bytes(member) {
                Ok(name) if member != b"*" => nominees.push(Nominee::Field(name)),
                _ => return Self::All,
            }
        }
        nominees.sort_unstable_by(|a, b| a.rank().cmp(&b.rank()));
        nominees.dedup();
        if nominees.is_empty() { Self::None } else { Self::On(nominees.into()) }
    }

    /// Writes the key of the variant that answers `request` behind `key`.
    ///
    /// Two requests get equal bytes if and only if each nominee matches as §4.1 says.
    pub fn variant_key(&self, request: &impl Fields, key: &mut Vec<u8>) {
        self.write(request, &mut |part| key.extend_from_slice(part));
    }

    /// Whether `request` gets the variant with the key `variant`.
    #[must_use]
    pub fn matches(&self, request: &impl Fields, variant: &[u8]) -> bool {
        let mut rest = Some(variant);
        self.write(request, &mut |part| rest = rest.and_then(|rest| rest.strip_prefix(part)));
        rest.is_some_and(<[u8]>::is_empty)
    }

    fn write(&self, request: &impl Fields, out: &mut impl FnMut(&[u8])) {
        let Self::On(nominees) = self else { return };
        for nominee in nominees {
            match nominee {
                Nominee::Field(name) => write_field(request, name, out),
                Nominee::Cookie(name) => write_cookie(request, name, out),
            }
            // No field value can hold a line feed, so that no two lists of nominees give the same bytes.
            out(b"\n");
        }
    }
}

fn write_field(request: &impl Fields, name: &HeaderName, out: &mut impl FnMut(&[u8])) {
    out(name.as_str().as_bytes());
    if request.has(name) {
        out(b":");
        write_normalised(request, name, out);
    }
}

/// All values of a cookie, in their order. No field name begins with `=`.
fn write_cookie(request: &impl Fields, name: &str, out: &mut impl FnMut(&[u8])) {
    out(b"=");
    out(name.as_bytes());
    for pair in request.lines(&COOKIE).flat_map(|line| line.split(|b| *b == b';')) {
        let (own, value) = match pair.iter().position(|b| *b == b'=') {
            Some(equals) => (pair.get(..equals).unwrap_or_default(), pair.get(equals + 1..).unwrap_or_default()),
            None => (pair, &[][..]),
        };
        // As servers read it: white space around name and value does not belong to them.
        if own.trim_ascii() == name.as_bytes() {
            out(b";");
            out(value.trim_ascii());
        }
    }
}

fn write_normalised(request: &impl Fields, name: &HeaderName, out: &mut impl FnMut(&[u8])) {
    for (at, member) in request.lines(name).flat_map(members).enumerate() {
        if at > 0 {
            out(b",");
        }
        out(member);
    }
}
