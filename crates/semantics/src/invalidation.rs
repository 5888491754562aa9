//! What a request makes unusable (RFC 9111 §4.4).
//!
//! A 2xx or 3xx to an unsafe method, or to one that is not known, invalidates the URI that it was for: that is all that
//! §4.4 demands. A 2xx also invalidates the URIs in `Location` and `Content-Location` if they have the same origin: they
//! name what was made or changed. A redirection names where to go next, which nothing says was changed: the login form
//! of a site would empty its start page, and an open redirector any page that a client names.

use fluent_uri::{Uri, UriRef};
use http::header::{CONTENT_LOCATION, HeaderName, LOCATION};
use http::{HeaderMap, Method, StatusCode};

use crate::key::{Scheme, split_port};

/// The target of a request, against which references in its response are resolved.
#[derive(Debug, Clone, Copy)]
pub struct Target<'t> {
    /// As the client used it.
    pub scheme: Scheme,
    /// A valid authority.
    pub authority: &'t [u8],
    /// Another one that counts as the same, because the site says so.
    pub alias: Option<&'t [u8]>,
    /// Path and query.
    pub path_and_query: &'t [u8],
}

/// "A cache MUST invalidate the target URI when it receives a non-error status code in response to an unsafe request
/// method (including methods whose safety is unknown)."
#[must_use]
pub fn invalidates(method: &Method, status: StatusCode) -> bool {
    !method.is_safe() && (status.is_success() || status.is_redirection())
}

/// Path and query of the other URIs that a response to an unsafe request invalidates: after a success, those of the same
/// origin in `Location` and `Content-Location`. The target's own is not among them.
#[must_use]
pub fn locations(target: &Target<'_>, status: StatusCode, response: &HeaderMap) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    if !status.is_success() {
        return found;
    }
    for name in [LOCATION, CONTENT_LOCATION] {
        if let Some(other) = reference(target, response, &name)
            && other != target.path_and_query
            && !found.contains(&other)
        {
            found.push(other);
        }
    }
    found
}

/// Whether `Content-Location` names the target itself, so that the response to a POST may answer a later GET
/// (RFC 9110 §9.3.3).
#[must_use]
pub fn is_own_location(target: &Target<'_>, response: &HeaderMap) -> bool {
    reference(target, response, &CONTENT_LOCATION).is_some_and(|own| own == target.path_and_query)
}

/// Path and query of the one URI in a field, if it has the target's origin.
fn reference(target: &Target<'_>, response: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let mut lines = response.get_all(name).iter();
    let (Some(only), None) = (lines.next(), lines.next()) else { return None };
    let text = only.as_bytes().split(|b| *b == b'#').next().unwrap_or_default();
    if text.is_empty() {
        return Some(target.path_and_query.to_vec());
    }
    match std::str::from_utf8(text).ok().and_then(|text| UriRef::parse(text).ok()) {
        Some(reference) => resolved(target, reference),
        // Clients send bytes in paths and queries that no URI may have; so do servers in what they name.
        None => (text.starts_with(b"/") && !text.starts_with(b"//")).then(|| text.to_vec()),
    }
}

/// RFC 3986 §5.2. Of the target only the path counts: a reference without one has been dealt with.
fn resolved(target: &Target<'_>, reference: UriRef<&str>) -> Option<Vec<u8>> {
    let authority = std::str::from_utf8(target.authority).ok()?;
    let path = target.path_and_query.split(|b| *b == b'?').next().unwrap_or_default();
    let base = format!("{}://{authority}/{}", target.scheme.as_str(), escaped(path));
    let resolved = reference.resolve_against(&Uri::parse(base.as_str()).ok()?).ok()?;
    if !resolved.scheme().as_str().eq_ignore_ascii_case(target.scheme.as_str())
        || !same_host(resolved.authority()?.as_str().as_bytes(), target)
    {
        return None;
    }
    let path = Some(resolved.path().as_str()).filter(|path| !path.is_empty()).unwrap_or("/");
    let mut found = path.as_bytes().to_vec();
    if let Some(query) = resolved.query() {
        found.push(b'?');
        found.extend_from_slice(query.as_str().as_bytes());
    }
    Some(found)
}

/// A path without its first slash, with whatever no path of a URI may have as `%XX`.
fn escaped(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.strip_prefix(b"/").unwrap_or(path) {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

fn same_host(authority: &[u8], target: &Target<'_>) -> bool {
    let parts = |authority| {
        let (host, port) = split_port(authority);
        let port = if port.is_empty() { target.scheme.default_port().as_bytes() } else { port };
        (host.strip_suffix(b".").unwrap_or(host).to_ascii_lowercase(), port.to_vec())
    };
    let named = parts(authority);
    named == parts(target.authority) || target.alias.is_some_and(|alias| named == parts(alias))
}
