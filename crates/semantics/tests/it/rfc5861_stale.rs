//! Stale windows: RFC 5861 §3, §4.

use nearside_semantics::reuse::{Reuse, Stale};

use crate::heads::reuse;

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
