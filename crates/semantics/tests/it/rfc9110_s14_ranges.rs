//! Ranges of a stored response: RFC 9110 §14.1.2, §14.2, §15.3.7.2, §13.1.5.

use nearside_semantics::range::{Part, RANGES_MAX, Span, evaluate};

use crate::heads::{NOW, head};

fn part(range: &str, length: u64) -> Part {
    evaluate(&head(&format!("range: {range}")), &head("etag: \"a\""), length, NOW)
}

fn one(start: u64, end: u64) -> Part {
    Part::Range(Span { start, end })
}

fn several(spans: &[(u64, u64)]) -> Part {
    Part::Ranges(spans.iter().map(|(start, end)| Span { start: *start, end: *end }).collect())
}

#[test]
fn one_range() {
    let table = [
        ("bytes=0-0", 10, one(0, 1)),
        ("bytes=2-5", 10, one(2, 6)),
        ("Bytes=2-5", 10, one(2, 6)),
        ("bytes= 2-5 ", 10, one(2, 6)),
        ("bytes=2-", 10, one(2, 10)),
        ("bytes=2-99", 10, one(2, 10)),
        ("bytes=-3", 10, one(7, 10)),
        ("bytes=-99", 10, one(0, 10)),
        ("bytes=-0", 10, Part::Unsatisfiable),
        ("bytes=10-", 10, Part::Unsatisfiable),
        ("bytes=-5", 0, Part::Unsatisfiable),
        ("bytes=0-", 0, Part::Unsatisfiable),
        ("bytes=0-18446744073709551615", 10, one(0, 10)),
        ("bytes=99999999999999999999999-", 10, Part::Unsatisfiable),
    ];
    for (range, length, expected) in table {
        assert_eq!(part(range, length), expected, "{range} of {length}");
    }
}

#[test]
fn several_ranges() {
    let table = [
        ("bytes=0-1,4-5", several(&[(0, 2), (4, 6)])),
        ("bytes=4-5, 0-1", several(&[(4, 6), (0, 2)])),
        ("bytes=8-9,0-1,9-9,1-2,5-5", several(&[(8, 10), (0, 3), (5, 6)])),
        ("bytes=0-0,-1", several(&[(0, 1), (9, 10)])),
        ("bytes=,0-1,,4-5,", several(&[(0, 2), (4, 6)])),
        ("bytes=0-1,2-3", one(0, 4)),
        ("bytes=0-5,3-7", one(0, 8)),
        ("bytes=0-,0-,0-,0-", one(0, 10)),
        ("bytes=0-1,20-30", one(0, 2)),
        ("bytes=20-30,40-", Part::Unsatisfiable),
    ];
    for (range, expected) in table {
        assert_eq!(part(range, 10), expected, "{range}");
    }
    let many =
        |count: usize| format!("bytes={}", (0..count).map(|n| format!("{0}-{0}", n * 2)).collect::<Vec<_>>().join(","));
    assert!(matches!(part(&many(RANGES_MAX), 10_000), Part::Ranges(spans) if spans.len() == RANGES_MAX));
    assert_eq!(part(&many(RANGES_MAX + 1), 10_000), Part::Whole, "too many small ones");
    assert_eq!(part(&"bytes=0-0".replace("0-0", &["0-0"; 201].join(",")), 10), Part::Whole, "too many to look at");
}

#[test]
fn what_is_no_set_of_byte_ranges_is_ignored_as_a_whole() {
    for range in [
        "bytes=5-2",
        "bytes=a-b",
        "bytes=-",
        "bytes=1",
        "bytes=",
        "bytes=,",
        "lines=0-1",
        "0-1",
        "bytes 0-1",
        "bytes=0-1,x",
        "bytes=0-1,5-2",
    ] {
        assert_eq!(part(range, 10), Part::Whole, "{range}");
    }
    let two = head("range: bytes=0-1 | range: bytes=2-3");
    assert_eq!(evaluate(&two, &head(""), 10, NOW), Part::Whole);
}

#[test]
fn s13_1_5_if_range_wants_the_very_same_strong_validator() {
    let table = [
        ("\"a\"", "etag: \"a\"", true),
        ("W/\"a\"", "etag: W/\"a\"", false),
        ("\"a\"", "etag: W/\"a\"", false),
        ("\"b\"", "etag: \"a\"", false),
        ("\"a\"", "", false),
        ("\"a\" | if-range: \"a\"", "etag: \"a\"", false),
        ("$now-60", "date: $now | last-modified: $now-60", true),
        ("$now-59", "date: $now | last-modified: $now-60", false),
        ("$now-61", "date: $now | last-modified: $now-60", false),
        ("$now", "date: $now | last-modified: $now", false),
        ("yesterday", "date: $now | last-modified: $now-60", false),
    ];
    for (condition, stored, holds) in table {
        let request = head(&format!("range: bytes=0-1 | if-range: {condition}"));
        let found = evaluate(&request, &head(stored), 10, NOW);
        assert_eq!(found != Part::Whole, holds, "{condition} {stored}");
    }
}
