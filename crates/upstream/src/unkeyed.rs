//! Fields of clients that origin servers act upon although no cache key contains them.
//!
//! With one of these a client could make an origin server send a response for another host, scheme, path, method or
//! address, which the cache would then give to everybody ("unkeyed input"). So they are removed before a request selects a
//! variant or goes forward, unless the site's cache key contains them. What next hops need to know of the client they are
//! told in `Forwarded` and `X-Forwarded-For`, `-Host` and `-Proto`, which every node writes itself.

use http::{HeaderMap, HeaderName, Method};

use crate::fields::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};

/// Prefixes of such fields: the families of which applications and proxies know ever more members.
const PREFIXES: [&str; 7] =
    ["x-forwarded-", "x-original-", "x-rewrite-", "x-envoy-", "cf-connecting-", "x-appengine-", "x-middleware-"];

/// Names of such fields, sorted.
const NAMES: [&str; 48] = [
    "base-url",
    "cf-ipcountry",
    "cf-pseudo-ipv4",
    "cf-visitor",
    "client-ip",
    "cluster-client-ip",
    "fastly-client-ip",
    "fastly-ff",
    "fastly-ssl",
    "front-end-https",
    "http-client-ip",
    "proxy",
    "proxy-client-ip",
    "proxy-host",
    "request-uri",
    "surrogate-capability",
    "surrogate-control",
    "true-client-ip",
    "wl-proxy-client-ip",
    "x-accel-mapping",
    "x-arr-log-id",
    "x-arr-ssl",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-backend-host",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-coming-from",
    "x-custom-ip-authorization",
    "x-forward-for",
    "x-forwarded",
    "x-forwarder-for",
    "x-host",
    "x-host-override",
    "x-http-destinationurl",
    "x-http-host-override",
    "x-https",
    "x-originating-ip",
    "x-override-url",
    "x-proxy-url",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-scheme",
    "x-sendfile-type",
    "x-true-client-ip",
    "x-url-scheme",
];

/// Fields that change the method. A POST, which no cache answers, may say with them what it really is.
const METHODS: [&str; 3] = ["x-http-method", "x-http-method-override", "x-method-override"];

/// Removes the fields that `is_in_key` does not keep.
pub fn strip(fields: &mut HeaderMap, method: &Method, is_in_key: impl Fn(&HeaderName) -> bool) {
    let is_cached = [Method::GET, Method::HEAD].contains(method);
    while let Some(name) = fields.keys().find(|name| is_unkeyed(name, is_cached) && !is_in_key(name)).cloned() {
        fields.remove(name);
    }
}

/// Whether a field is one of these, whatever the request.
pub(crate) fn is_listed(name: &HeaderName) -> bool {
    is_unkeyed(name, true)
}

fn is_unkeyed(name: &HeaderName, is_cached: bool) -> bool {
    // What nodes write themselves is theirs to judge: an edge drops what a client says, a shield adds to it.
    if [X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO].contains(name) {
        return false;
    }
    let name = name.as_str();
    NAMES.binary_search(&name).is_ok()
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || is_cached && METHODS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_sorted() {
        let mut sorted = NAMES;
        sorted.sort_unstable();
        assert_eq!(NAMES, sorted, "they are searched by bisection");
    }

    #[test]
    fn unkeyed_fields_go_and_others_stay() {
        let left = |names: &[&'static str], method: Method| {
            let mut fields = HeaderMap::new();
            for name in names {
                fields.append(*name, "1".parse().unwrap());
            }
            strip(&mut fields, &method, |name| name == "x-original-host");
            let mut names: Vec<_> = fields.keys().map(|name| name.as_str().to_owned()).collect();
            names.sort_unstable();
            names
        };
        let sent = [
            "x-forwarded-port",
            "x-forwarded-scheme",
            "x-forwarded-prefix",
            "x-forwarded-server",
            "x-forwarded-ssl",
            "x-host",
            "x-original-url",
            "x-original-host",
            "x-rewrite-url",
            "x-real-ip",
            "true-client-ip",
            "proxy",
            "surrogate-capability",
            "x-http-method-override",
            "x-forwarded-for",
            "x-requested-with",
            "accept",
        ];
        let kept = ["accept", "x-forwarded-for", "x-original-host", "x-requested-with"];
        assert_eq!(left(&sent, Method::GET), kept);
        assert_eq!(left(&["x-http-method-override", "x-host"], Method::POST), ["x-http-method-override"]);
    }
}
