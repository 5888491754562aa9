//! Stale windows: RFC 5861 §3, §4.

use nearside_semantics::reuse::{Reuse, Stale, StalePolicy};

use crate::heads::{after, freshness_with, reuse};

#[test]
fn windows_end_to_the_second() {
    let must_ask = |on_error| Reuse::Validate { because: Stale::Expired, on_error };
    let table = [
        ("cache-control: max-age=60, stale-while-revalidate=30", 59, Reuse::Fresh),
        ("cache-control: max-age=60, stale-while-revalidate=30", 60, Reuse::WhileRevalidate),
        ("cache-control: max-age=60, stale-while-revalidate=30", 89, Reuse::WhileRevalidate),
        ("cache-control: max-age=60, stale-while-revalidate=30", 90, must_ask(false)),
        ("cache-control: max-age=60, stale-while-revalidate=x", 60, must_ask(false)),
        ("cache-control: max-age=60, stale-if-error=30", 60, must_ask(true)),
        ("cache-control: max-age=60, stale-if-error=30", 89, must_ask(true)),
        ("cache-control: max-age=60, stale-if-error=30", 90, must_ask(false)),
        ("cache-control: max-age=60, stale-while-revalidate=10, stale-if-error=30 | age: 75", 0, must_ask(true)),
        ("cache-control: max-age=60, stale-while-revalidate=30 | age: 75", 0, Reuse::WhileRevalidate),
        ("cache-control: max-age=60, stale-while-revalidate=30 | age: 95", 0, must_ask(false)),
        ("cache-control: s-maxage=60, stale-while-revalidate=30", 60, Reuse::WhileRevalidate),
    ];
    for (response, secs, expected) in table {
        assert_eq!(reuse(response, secs, None), expected, "{response} after {secs} s");
    }
}

#[test]
fn never_over_must_revalidate() {
    for directive in ["must-revalidate", "proxy-revalidate"] {
        let response = format!("cache-control: max-age=60, {directive}, stale-while-revalidate=30, stale-if-error=30");
        let expected = Reuse::Validate { because: Stale::Expired, on_error: false };
        assert_eq!(reuse(&response, 60, None), expected, "{directive}");
    }
}

/// A response that somebody purges softly: stale from then on, its windows counted from there.
#[test]
fn a_soft_purge_moves_the_windows_and_opens_none_again() {
    let response = "cache-control: max-age=100, stale-while-revalidate=20, stale-if-error=50";
    let freshness = freshness_with(response, StalePolicy::NONE);
    let error = |on_error| Reuse::Validate { because: Stale::Expired, on_error };
    // When it is purged, when it is looked at, what may be done.
    let table = [
        (30, 30, Reuse::WhileRevalidate),
        (30, 49, Reuse::WhileRevalidate),
        (30, 50, error(true)),
        (30, 79, error(true)),
        (30, 80, error(false)),
        // It was stale already: nothing changes.
        (110, 119, Reuse::WhileRevalidate),
        (110, 120, error(true)),
        (130, 149, error(true)),
        (130, 150, error(false)),
        (200, 200, error(false)),
    ];
    for (purged, looked, expected) in table {
        let soft = freshness.stale_from(after(purged));
        assert_eq!(soft.reuse(after(looked), None), expected, "purged after {purged} s, looked at after {looked}");
        assert!(
            soft.ttl(after(looked)) <= 0 && soft.age(after(looked)).as_secs() >= 100,
            "no cache takes it for fresh"
        );
    }
    let twice = freshness.stale_from(after(30)).stale_from(after(40));
    assert_eq!(twice, freshness.stale_from(after(30)), "the first one counts");
    let law = freshness_with("cache-control: max-age=100, must-revalidate", StalePolicy::NONE).stale_from(after(10));
    assert_eq!(law.reuse(after(10), None), error(false));
}
