//! Trailers on their way through a node: what HTTP forbids there, and every field that a node writes, judges or removes
//! where it stands in a head.

use http::{HeaderMap, HeaderName};
use nearside_semantics::{tags, trailers};

use crate::fields::{PURGES, REFRESH, REWRITTEN, SECRET};
use crate::unkeyed;

/// Fields of ours begin with it.
const OWN_PREFIX: &str = "nearside-";

/// Removes what a client must not say behind the body of its request, past everything that looks at its head.
pub(crate) fn strip_of_request(trailers: &mut HeaderMap) {
    trailers::strip(trailers, |name| is_own(name) || unkeyed::is_listed(name));
}

/// Removes what an origin must not say behind the body of its response.
pub(crate) fn strip_of_response(trailers: &mut HeaderMap) {
    tags::strip(trailers, |_| false);
    trailers::strip(trailers, is_own);
}

fn is_own(name: &HeaderName) -> bool {
    [SECRET, REFRESH, PURGES].contains(name) || REWRITTEN.contains(name) || name.as_str().starts_with(OWN_PREFIX)
}
