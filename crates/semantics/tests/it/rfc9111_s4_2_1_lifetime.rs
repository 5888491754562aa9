//! How long a response is fresh: RFC 9111 §4.2.1, §5.3.

use std::time::Duration;

use nearside_semantics::lifetime::{Lifetime, LifetimePolicy, Source};

use crate::heads::{head, lifetime_of, lifetime_with};

#[test]
fn the_first_rule_that_applies_counts_even_if_it_is_malformed() {
    let table = [
        ("cache-control: s-maxage=10, max-age=60", 10, Source::SMaxage),
        ("cache-control: max-age=60, s-maxage=10", 10, Source::SMaxage),
        ("cache-control: max-age=60, s-maxage=x", 0, Source::SMaxage),
        ("cache-control: max-age=60 | expires: $now-60", 60, Source::MaxAge),
        ("cache-control: max-age=60 | expires: 0", 60, Source::MaxAge),
        ("cache-control: max-age=-5 | expires: $now+60", 0, Source::MaxAge),
        ("cache-control: max-age= 60 | expires: $now+60", 0, Source::MaxAge),
        ("cache-control: max-age=60, max-age=3600", 60, Source::MaxAge),
        ("cache-control: max-age=99999999999", 1 << 31, Source::MaxAge),
        ("date: $now | expires: $now+60", 60, Source::Expires),
        ("date: $now-100 | expires: $now", 100, Source::Expires),
        ("expires: $now+60", 60, Source::Expires),
        ("date: never | expires: $now+60", 60, Source::Expires),
        ("date: $now | expires: $now", 0, Source::Expires),
        ("date: $now | expires: 0", 0, Source::Expires),
        ("date: $now | expires: -1", 0, Source::Expires),
        ("date: $now | expires:", 0, Source::Expires),
        ("date: $now | expires: $now+60 | expires: $now+60", 0, Source::Expires),
        ("date: $now | last-modified: $now-1000 | expires: 0", 0, Source::Expires),
        ("date: $now", 0, Source::None),
    ];
    for (response, secs, source) in table {
        let expected = Lifetime { span: Duration::from_secs(secs), source };
        assert_eq!(lifetime_of(200, &head(response)), expected, "{response}");
    }
}

#[test]
fn s5_3_expires_takes_the_three_dates_and_nothing_else() {
    // 2 January 2050, while it is 2026.
    let fresh = [
        "Sun, 02 Jan 2050 02:01:18 GMT",
        "SUN, 02 JAN 2050 02:01:18 gmt",
        "Sunday, 02-Jan-50 02:01:18 GMT",
        "Sun Jan  2 02:01:18 2050",
    ];
    let stale = [
        "Sun, 02 Jan 2050 02:01:18 UTC",
        "Sun, 02 Jan 2050 02:01:18 +0000",
        "Sun, 02 Jan 2050 02:01:18 AEST",
        "Sun 02 Jan 2050 02:01:18 GMT",
        "Sun, 02  Jan  2050 02:01:18 GMT",
        "Sun, 02-Jan-2050 02:01:18 GMT",
        "Sun, 02 Jan 50 02:01:18 GMT",
        "Sun, 02 Jan 2050 2:01:18 GMT",
        "Sun, 02 Jan 2050 02.01.18 GMT",
        "02 Jan 2050 02:01:18 GMT",
        "2050-01-02T02:01:18Z",
    ];
    let is_fresh = |date: &str| !lifetime_of(200, &head(&format!("expires: {date}"))).span.is_zero();
    assert!(fresh.iter().all(|date| is_fresh(date)));
    for date in stale {
        assert!(!is_fresh(date), "{date}");
    }
}

#[test]
fn a_site_may_cap_every_lifetime_but_lengthens_none() {
    let policy = LifetimePolicy { max: Some(Duration::from_secs(30)), ..LifetimePolicy::default() };
    let table = [
        ("cache-control: max-age=60", 30),
        ("cache-control: s-maxage=60", 30),
        ("cache-control: max-age=10", 10),
        ("date: $now | expires: $now+60", 30),
        ("date: $now | last-modified: $now-100000", 30),
        ("cdn-cache-control: max-age=60", 30),
        ("date: $now", 0),
    ];
    for (response, secs) in table {
        assert_eq!(lifetime_with(200, &head(response), policy).span, Duration::from_secs(secs), "{response}");
    }
}
