//! What of a request, beside its URI, a response depends on (RFC 9111 §4.1, RFC 9110 §12.5.5).
//!
//! The origin nominates request fields in `Vary`; a site may nominate more for all its responses, cookies too. A
//! variant's key is the nominated parts of the request that it answers, normalised as §4.1 allows: lines joined, white
//! space around commas removed. What is absent is a value of its own and matches only its absence.

use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, COOKIE, HeaderName, VARY};

use crate::fields::{Fields, members};

/// A part of a request that selects among variants.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Nominee {
    /// A field.
    Field(HeaderName),
    /// A cookie of this name.
    Cookie(Box<str>),
    /// All cookies whose names begin with this prefix.
    CookiePrefix(Box<str>),
}

impl Nominee {
    /// A cookie name, or with a trailing `*` all cookies whose names begin with what precedes it.
    #[must_use]
    pub fn cookie(pattern: &str) -> Self {
        match pattern.strip_suffix('*') {
            Some(prefix) => Self::CookiePrefix(prefix.into()),
            None => Self::Cookie(pattern.into()),
        }
    }

    fn rank(&self) -> (u8, &str) {
        match self {
            Self::Field(name) => (0, name.as_str()),
            Self::Cookie(name) => (1, name),
            Self::CookiePrefix(prefix) => (2, prefix),
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
    ///
    /// A response with a content coding depends on `Accept-Encoding` even if its `Vary` does not say so: it would be
    /// served to clients that refuse the coding (RFC 9110 §12.5.3).
    #[must_use]
    pub fn of(response: &HeaderMap, site: &[Nominee]) -> Self {
        let mut nominees = site.to_vec();
        if is_coded(response) {
            nominees.push(Nominee::Field(ACCEPT_ENCODING));
        }
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
                Nominee::CookiePrefix(prefix) => write_cookies(request, prefix, out),
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

/// Checks for a content coding other than `identity`.
fn is_coded(response: &HeaderMap) -> bool {
    let codings = response.get_all(CONTENT_ENCODING).iter().flat_map(|line| members(line.as_bytes()));
    codings.into_iter().any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
}

/// All values of a cookie, in their order. No field name begins with `=`.
fn write_cookie(request: &impl Fields, name: &str, out: &mut impl FnMut(&[u8])) {
    out(b"=");
    out(name.as_bytes());
    for (_, value) in cookies(request).filter(|(own, _)| *own == name.as_bytes()) {
        out(b";");
        out(value);
    }
}

/// Names and values of all cookies that begin with a prefix, in their order. No cookie is called `PREFIX*`: names in a
/// configuration that end in `*` are prefixes.
fn write_cookies(request: &impl Fields, prefix: &str, out: &mut impl FnMut(&[u8])) {
    out(b"=");
    out(prefix.as_bytes());
    out(b"*");
    for (name, value) in cookies(request).filter(|(name, _)| name.starts_with(prefix.as_bytes())) {
        for part in [b";", name, b"=", value] {
            out(part);
        }
    }
}

/// Name and value of each cookie as servers read them: the white space around does not belong to them.
fn cookies(request: &impl Fields) -> impl Iterator<Item = (&[u8], &[u8])> {
    let pairs = request.lines(&COOKIE).flat_map(|line| line.split(|b| *b == b';'));
    pairs.map(|pair| {
        let equals = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
        let (name, value) = pair.split_at_checked(equals).unwrap_or((pair, &[]));
        (name.trim_ascii(), value.strip_prefix(b"=").unwrap_or(value).trim_ascii())
    })
}

fn write_normalised(request: &impl Fields, name: &HeaderName, out: &mut impl FnMut(&[u8])) {
    for (at, member) in request.lines(name).flat_map(members).enumerate() {
        if at > 0 {
            out(b",");
        }
        out(member);
    }
}
