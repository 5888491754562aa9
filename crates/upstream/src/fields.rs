//! Fields that nodes write into requests for upstreams.

use http::HeaderName;
use http::header::{FORWARDED, VIA};

/// `X-Forwarded-For`: the addresses that a request has come from, the client's first.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `X-Forwarded-Host`: the host that the client asked for, as it stands in the cache key.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// `X-Forwarded-Proto`: how the client reached the edge, `http` or `https`.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `CDN-Loop` (RFC 8586).
pub const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
/// Secret that an edge shows to its shields.
pub const SECRET: HeaderName = HeaderName::from_static("nearside-secret");
/// Mark of a request that an edge sends after it has served a stale response: a response that is stale on the shield too is of no
/// use to it.
pub const REFRESH: HeaderName = HeaderName::from_static("nearside-refresh");
/// Purges that an edge knows: `log/number`.
pub const PURGES: HeaderName = HeaderName::from_static("nearside-purges");

/// Fields that a node writes anew: their values in the client's request say nothing about them.
pub static REWRITTEN: [HeaderName; 6] =
    [FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, VIA, CDN_LOOP];
