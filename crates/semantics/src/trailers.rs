//! Fields behind a body (RFC 9110 §6.5).
//!
//! "Many fields cannot be processed outside the header section because their evaluation is necessary prior to receiving
//! the content, such as those that describe message framing, routing, authentication, request modifiers, response
//! controls, or content format" (§6.5.1). A recipient that merges trailers with the header section, as some servers do,
//! would take such a field for one that was checked on its way. So they are removed here. What stays are checksums,
//! signatures, timings and the status of gRPC, whatever their names.

use http::{HeaderMap, HeaderName};

use crate::fields::strip_hop_by_hop;

/// Names of such fields, sorted. `ETag`, `Accept-Ranges` and `Authentication-Info` may be trailers by their definitions.
const NAMES: [&str; 52] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "age",
    "allow",
    "authorization",
    "cache-group-invalidation",
    "cache-groups",
    "cache-status",
    "cdn-loop",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-security-policy",
    "content-type",
    "cookie",
    "cookie2",
    "date",
    "early-data",
    "expect",
    "expires",
    "forwarded",
    "from",
    "host",
    "http2-settings",
    "last-modified",
    "location",
    "max-forwards",
    "no-vary-search",
    "origin",
    "pragma",
    "prefer",
    "priority",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "set-cookie",
    "set-cookie2",
    "signature-input",
    "strict-transport-security",
    "traceparent",
    "tracestate",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
];

/// Prefixes of such fields.
const PREFIXES: [&str; 5] = ["access-control-", "if-", "proxy-", "sec-", "x-forwarded-"];

/// Removes the trailers that RFC 9110 §6.5.1 forbids, those of one connection, and those of which `is_own` says that the
/// node decides about them itself. It gets names in lower case with `-` for `_`, as servers with a gateway interface
/// (CGI and its relatives) read them.
pub fn strip(trailers: &mut HeaderMap, is_own: impl Fn(&HeaderName) -> bool) {
    strip_hop_by_hop(trailers);
    while let Some(name) = trailers.keys().find(|name| is_forbidden(name, &is_own)).cloned() {
        trailers.remove(name);
    }
}

fn is_forbidden(name: &HeaderName, is_own: impl Fn(&HeaderName) -> bool) -> bool {
    if name.as_str().contains('_') {
        let read_as = HeaderName::try_from(name.as_str().replace('_', "-"));
        return read_as.is_ok_and(|name| is_forbidden(&name, is_own) || crate::fields::HOP_BY_HOP.contains(&name));
    }
    let text = name.as_str();
    NAMES.binary_search(&text).is_ok()
        || PREFIXES.iter().any(|prefix| text.starts_with(prefix))
        || text.ends_with("cache-control")
        || is_own(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_sorted() {
        assert!(NAMES.is_sorted(), "they are searched by bisection");
    }

    #[test]
    fn rfc9110_s6_5_1_what_must_be_known_before_the_body_is_no_trailer() {
        let left = |names: &[&'static str]| {
            let mut trailers = HeaderMap::new();
            for name in names {
                trailers.append(*name, "1".parse().unwrap());
            }
            strip(&mut trailers, |name| name == "x-own");
            let mut names: Vec<_> = trailers.keys().map(|name| name.as_str().to_owned()).collect();
            names.sort_unstable();
            names
        };
        let may =
            ["content-digest", "etag", "grpc-status", "repr-digest", "server-timing", "signature", "x-sum", "x_sum"];
        assert_eq!(left(&may), may);
        let must_not = [
            "transfer-encoding",
            "content-length",
            "connection",
            "te",
            "trailer",
            "upgrade",
            "host",
            "max-forwards",
            "authorization",
            "proxy-authorization",
            "cookie",
            "set-cookie",
            "if-none-match",
            "range",
            "cache-control",
            "cdn-cache-control",
            "location",
            "vary",
            "content-type",
            "x-forwarded-for",
            "x-forwarded-user",
            "forwarded",
            "via",
            "cdn-loop",
            "sec-websocket-key",
            "alt-svc",
            "x-own",
            "x_own",
            "transfer_encoding",
            "x_forwarded_for",
        ];
        assert_eq!(left(&must_not), [""; 0]);
    }
}
