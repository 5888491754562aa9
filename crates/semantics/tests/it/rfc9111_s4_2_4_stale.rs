//! Where staleness is forbidden: RFC 9111 §4.2.4, §5.2.2.2, §5.2.2.8, §5.2.2.10.

use std::time::Duration;

use nearside_semantics::reuse::{Reuse, Stale, StalePolicy};

use crate::heads::{after, freshness_with};

#[test]
fn a_policy_of_the_site_serves_stale_on_error_unless_that_is_forbidden() {
    let policy = StalePolicy { on_error: Duration::from_secs(30), keep: Duration::ZERO };
    let allowed = |on_error| Reuse::Validate { because: Stale::Expired, on_error };
    let table = [
        ("cache-control: max-age=60", 60, true),
        ("cache-control: max-age=60", 89, true),
        ("cache-control: max-age=60", 90, false),
        ("cache-control: max-age=60, must-revalidate", 60, false),
        ("cache-control: max-age=60, proxy-revalidate", 60, false),
        ("cache-control: s-maxage=60", 60, false),
        ("cache-control: s-maxage=60, max-age=600", 60, false),
        ("cache-control: max-age=60, stale-if-error=5", 64, true),
        ("cache-control: max-age=60, stale-if-error=5", 65, false),
        ("cache-control: max-age=60, stale-if-error=0", 60, false),
        ("cache-control: max-age=60, stale-if-error=x", 60, false),
    ];
    for (response, secs, expected) in table {
        let found = freshness_with(response, policy).reuse(after(secs), None);
        assert_eq!(found, allowed(expected), "{response} after {secs} s");
    }
    let no_cache = freshness_with("cache-control: max-age=60, no-cache", policy).reuse(after(0), None);
    assert_eq!(no_cache, Reuse::Validate { because: Stale::NoCache, on_error: false });
}
