//! Fresh or not, by age: RFC 9111 §4.2, §4.2.3, §5.1.

use nearside_semantics::reuse::{Reuse, Stale};
use std::time::Duration;

use crate::heads::{NOW, STALE, after, freshness, reuse};

const EXPIRED: Reuse = Reuse::Validate { because: Stale::Expired, on_error: false };

#[test]
fn a_response_is_fresh_while_its_age_is_below_its_lifetime() {
    let table = [
        ("cache-control: max-age=60", 0, Reuse::Fresh),
        ("cache-control: max-age=60", 59, Reuse::Fresh),
        ("cache-control: max-age=60", 60, EXPIRED),
        ("cache-control: s-maxage=60", 59, Reuse::Fresh),
        ("cache-control: s-maxage=60", 60, EXPIRED),
        ("cache-control: max-age=3600 | age: 7200", 0, EXPIRED),
        ("cache-control: max-age=60 | age: 50", 9, Reuse::Fresh),
        ("cache-control: max-age=60 | age: 50", 10, EXPIRED),
        ("cache-control: max-age=60 | date: $now-50", 9, Reuse::Fresh),
        ("cache-control: max-age=60 | date: $now-50", 10, EXPIRED),
        ("cache-control: max-age=60 | date: $now-20 | age: 50", 10, EXPIRED),
        ("cache-control: max-age=60 | date: $now+500", 59, Reuse::Fresh),
        ("cache-control: max-age=3600 | age: 2147483648", 0, EXPIRED),
        ("cache-control: max-age=2147483648", 2_147_483_647, Reuse::Fresh),
        ("date: $now | expires: $now+60 | age: 50", 10, EXPIRED),
        ("cache-control: max-age=60, must-revalidate", 59, Reuse::Fresh),
        ("cache-control: max-age=60, must-revalidate", 60, EXPIRED),
    ];
    for (response, secs, expected) in table {
        assert_eq!(reuse(response, secs, None), expected, "{response} after {secs} s");
    }
}

#[test]
fn s5_1_an_age_that_is_no_number_is_ignored_and_the_first_one_counts() {
    let table = [
        ("abc", Reuse::Fresh),
        ("-7200", Reuse::Fresh),
        ("7200.0", Reuse::Fresh),
        ("7200;foo=bar", Reuse::Fresh),
        ("7200, 0", EXPIRED),
        ("7200 | age: 0", EXPIRED),
        ("0, 7200", Reuse::Fresh),
        ("0 | age: 7200", Reuse::Fresh),
        ("007200", EXPIRED),
        ("99999999999999999999", EXPIRED),
    ];
    for (age, expected) in table {
        assert_eq!(reuse(&format!("cache-control: max-age=3600 | age: {age}"), 0, None), expected, "{age}");
    }
}

#[test]
fn s5_2_2_4_no_cache_asks_on_every_use() {
    let no_cache = Reuse::Validate { because: Stale::NoCache, on_error: false };
    for response in [
        "cache-control: max-age=60, no-cache",
        "cache-control: max-age=60, no-cache=\"set-cookie\"",
        "cache-control: max-age=60, no-cache, stale-while-revalidate=30, stale-if-error=30",
    ] {
        for secs in [0, 59, 60] {
            assert_eq!(reuse(response, secs, None), no_cache, "{response} after {secs} s");
        }
    }
}

#[test]
fn the_ttl_counts_down_and_goes_negative() {
    let life = freshness("cache-control: max-age=60 | age: 20");
    assert_eq!((life.ttl(NOW), life.ttl(after(39)), life.ttl(after(43))), (40, 1, -3));
    let part = |millis| NOW.after(Duration::from_millis(millis));
    for millis in [1, 999, 39_999, 40_000, 40_999, 41_000] {
        let sum = life.ttl(part(millis)) + i64::try_from(life.age(part(millis)).as_secs()).unwrap();
        assert_eq!(sum, 60, "after {millis} ms, with the age that is shown");
    }
    assert_eq!(life.age(after(5)), Duration::from_secs(25));
    assert_eq!(life.retain_until(true, NOW, STALE), after(40 + 3600));
    assert_eq!(life.retain_until(false, NOW, STALE), after(40));
}
