//! What clients may ask where a site honours it: RFC 9111 §5.2.1, §5.4; RFC 5861 §4.

use nearside_semantics::reuse::{Reuse, Stale};

use crate::heads::reuse;

#[test]
fn something_newer_than_what_is_stored() {
    // It is fresh, so that it may be served if the next hop cannot be asked.
    let refused = Reuse::Validate { because: Stale::Request, on_error: true };
    let table = [
        ("cache-control: max-age=10", 10, Reuse::Fresh),
        ("cache-control: max-age=10", 11, refused),
        ("cache-control: max-age=0", 1, refused),
        ("cache-control: max-age=10, max-stale=5", 15, Reuse::Fresh),
        ("cache-control: max-age=10, max-stale=5", 16, refused),
        ("cache-control: min-fresh=10", 50, Reuse::Fresh),
        ("cache-control: min-fresh=10", 51, refused),
        ("cache-control: no-cache", 0, refused),
        ("pragma: no-cache", 0, refused),
        ("pragma: no-cache | cache-control: max-stale", 0, Reuse::Fresh),
        ("cache-control: max-age=x", 1, refused),
    ];
    for (request, secs, expected) in table {
        assert_eq!(reuse("cache-control: max-age=60", secs, Some(request)), expected, "{request} after {secs} s");
        assert_eq!(reuse("cache-control: max-age=60", secs, None), Reuse::Fresh, "ignored unless honoured: {request}");
    }
}

#[test]
fn something_stale_unless_the_response_forbids_it() {
    let must_ask = |on_error| Reuse::Validate { because: Stale::Expired, on_error };
    let table = [
        ("cache-control: max-age=60", "cache-control: max-stale=10", 70, Reuse::StaleAccepted),
        ("cache-control: max-age=60", "cache-control: max-stale=10", 71, must_ask(false)),
        ("cache-control: max-age=60", "cache-control: max-stale", 6000, Reuse::StaleAccepted),
        ("cache-control: max-age=60", "cache-control: max-stale=x", 60, must_ask(false)),
        ("cache-control: max-age=60, must-revalidate", "cache-control: max-stale", 60, must_ask(false)),
        ("cache-control: max-age=60, proxy-revalidate", "cache-control: max-stale", 60, must_ask(false)),
        ("cache-control: s-maxage=60", "cache-control: max-stale", 60, must_ask(false)),
        ("cache-control: max-age=60", "cache-control: stale-if-error=10", 70, must_ask(true)),
        ("cache-control: max-age=60", "cache-control: stale-if-error=10", 71, must_ask(false)),
        ("cache-control: max-age=60, must-revalidate", "cache-control: stale-if-error=10", 60, must_ask(false)),
    ];
    for (response, request, secs, expected) in table {
        assert_eq!(reuse(response, secs, Some(request)), expected, "{response}, {request} after {secs} s");
    }
    let no_cache = reuse("cache-control: no-cache", 0, Some("cache-control: max-stale, stale-if-error=60"));
    assert_eq!(no_cache, Reuse::Validate { because: Stale::NoCache, on_error: false });
}
