//! Guessed lifetimes: RFC 9111 §4.2.2, RFC 9110 §15.1.

use std::time::Duration;

use nearside_semantics::lifetime::{Heuristic, LifetimePolicy, Source};

use crate::heads::{head, lifetime_of, lifetime_with};

#[test]
fn a_tenth_of_the_time_since_the_last_change_up_to_five_minutes() {
    let table = [
        ("date: $now | last-modified: $now-1000", 100),
        ("date: $now-500 | last-modified: $now-1000", 50),
        ("last-modified: $now-1000", 100),
        ("date: $now | last-modified: $now-100000000", 300),
        ("date: $now | last-modified: $now+60", 0),
        ("date: $now | last-modified: $now", 0),
    ];
    for (response, secs) in table {
        let found = lifetime_of(200, &head(response));
        assert_eq!((found.span, found.source), (Duration::from_secs(secs), Source::Heuristic), "{response}");
    }
    assert_eq!(lifetime_of(200, &head("last-modified: yesterday")).source, Source::None);
}

#[test]
fn a_site_decides_share_and_cap() {
    let heuristic = Heuristic { thousandths: 500, cap: Duration::from_secs(400) };
    let policy = LifetimePolicy { heuristic, max: None };
    let span = |ago: u64| lifetime_with(200, &head(&format!("date: $now | last-modified: $now-{ago}")), policy).span;
    assert_eq!((span(600).as_secs(), span(10_000).as_secs()), (300, 400));
}

#[test]
fn none_at_all_is_guessed_where_the_policy_says_so() {
    let policy = LifetimePolicy { heuristic: Heuristic::NONE, max: None };
    let found = lifetime_with(200, &head("date: $now | last-modified: $now-1000"), policy);
    assert_eq!((found.span, found.source), (Duration::ZERO, Source::Heuristic));
}

#[test]
fn only_for_some_statuses_unless_the_response_is_public() {
    let guessed = |status, extra: &str| {
        lifetime_of(status, &head(&format!("date: $now | last-modified: $now-1000 | {extra}"))).source
            == Source::Heuristic
    };
    for status in [200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501] {
        assert!(guessed(status, ""), "{status}");
    }
    for status in [201, 202, 302, 307, 403, 429, 500, 502, 503, 504, 599] {
        assert!(!guessed(status, ""), "{status}");
        assert!(guessed(status, "cache-control: public"), "{status} public");
    }
}
