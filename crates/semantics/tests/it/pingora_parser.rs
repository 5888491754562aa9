//! Beside pingora's parser of `Cache-Control`: where the field is well formed both must read the same. Where they do not
//! agree, the difference and the reason are listed here.

use http::HeaderMap;
use http::header::CACHE_CONTROL;
use nearside_semantics::directives::{ResponseDirectives, Seconds};
use pingora_cache::cache_control::CacheControl;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// What a parser says of a number: absent, this many seconds, or malformed.
type Number = Option<Result<u32, ()>>;

#[derive(Debug, PartialEq, Eq)]
struct Read {
    numbers: [Number; 4],
    switches: [bool; 6],
}

fn fields(lines: &[String]) -> HeaderMap {
    lines.iter().map(|line| (CACHE_CONTROL, line.parse().unwrap())).collect()
}

fn ours(lines: &[String]) -> Read {
    let found = ResponseDirectives::of(&fields(lines));
    let number = |seconds: Option<Seconds>| {
        seconds.map(|seconds| match seconds {
            Seconds::Valid(span) => Ok(span.as_secs()),
            Seconds::Invalid => Err(()),
        })
    };
    Read {
        numbers: [found.max_age, found.s_maxage, found.stale_while_revalidate, found.stale_if_error].map(number),
        switches: [
            found.no_store,
            found.no_cache,
            found.private,
            found.public,
            found.must_revalidate,
            found.proxy_revalidate,
        ],
    }
}

fn pingora(lines: &[String]) -> Read {
    let found = CacheControl::from_headers_named("cache-control", &fields(lines)).unwrap();
    let number = |read: Result<Option<u32>, _>| match read {
        Ok(number) => number.map(Ok),
        Err(_) => Some(Err(())),
    };
    Read {
        numbers: [
            number(found.max_age()),
            number(found.s_maxage()),
            number(found.stale_while_revalidate()),
            number(found.stale_if_error()),
        ],
        switches: [
            found.no_store(),
            found.no_cache(),
            found.private(),
            found.public(),
            found.must_revalidate(),
            found.proxy_revalidate(),
        ],
    }
}

/// Directives as RFC 9111 §5.2 writes them, each name once, in any case, on one or two lines.
fn well_formed() -> impl Strategy<Value = Vec<String>> {
    let names = vec![
        "max-age",
        "s-maxage",
        "stale-while-revalidate",
        "stale-if-error",
        "no-store",
        "no-cache",
        "private",
        "public",
        "must-revalidate",
        "proxy-revalidate",
        "immutable",
        "ext",
        "other",
    ];
    let values = (0..i32::MAX, any::<bool>(), select(vec!["tok", "\"a, max-age=1\"", "\"q\\\"\"", "x.5"]));
    let chosen = subsequence(names, 1..8).prop_shuffle();
    (chosen, proptest::collection::vec(values, 13), any::<u16>(), 0..8_usize, any::<bool>()).prop_map(
        |(names, values, case, cut, tight)| {
            let write = |(place, (name, (number, quoted, text))): (usize, (&str, (i32, bool, &str)))| {
                let spelled: String = if case >> place & 1 == 1 { name.to_uppercase() } else { name.to_owned() };
                match name {
                    "max-age" | "s-maxage" | "stale-while-revalidate" | "stale-if-error" if quoted => {
                        format!("{spelled}=\"{number}\"")
                    }
                    "max-age" | "s-maxage" | "stale-while-revalidate" | "stale-if-error" => {
                        format!("{spelled}={number:05}")
                    }
                    "ext" | "other" => format!("{spelled}={text}"),
                    _ => spelled,
                }
            };
            let all: Vec<String> = names.into_iter().zip(values).enumerate().map(write).collect();
            let (first, second) = all.split_at(cut.min(all.len()));
            let delimiter = if tight { "," } else { " , " };
            [first, second].iter().filter(|part| !part.is_empty()).map(|part| part.join(delimiter)).collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn well_formed_fields_are_read_alike(lines in well_formed()) {
        prop_assert_eq!(ours(&lines), pingora(&lines));
    }
}

#[test]
fn the_differences() {
    let max_age = |line: &str, read: fn(&[String]) -> Read| read(&[line.to_owned()]).numbers[0];
    // The field, what we read as `max-age`, what pingora reads, and why we do not follow.
    let table: [(&str, Number, Number, &str); 9] = [
        (
            "max-age=1, max-age=3600",
            Some(Ok(1)),
            Some(Ok(3600)),
            "of several, the first or none: never the later longer one (§4.2.1)",
        ),
        ("max-age", Some(Err(())), None, "an argument that is missing is malformed: stale (§4.2.1)"),
        ("max-age=", Some(Err(())), None, "the same"),
        ("max-age =60", Some(Err(())), None, "no white space around `=` (§5.2): malformed, not absent"),
        ("max-age= 60", Some(Err(())), None, "the same"),
        ("max-age=\"60", Some(Err(())), None, "a string that does not end"),
        ("max-age=60 x", Some(Err(())), Some(Ok(60)), "what follows belongs to the argument"),
        ("public; max-age=60", None, Some(Ok(60)), "a semicolon does not separate directives (§5.2)"),
        ("max-age=99999999999", Some(Ok(1 << 31)), Some(Ok(i32::MAX as u32)), "2^31 is the value that §1.2.2 names"),
    ];
    for (line, own, theirs, why) in table {
        assert_eq!((max_age(line, ours), max_age(line, pingora)), (own, theirs), "{line}: {why}");
    }
    // Qualified `no-cache` and `private` count as unqualified with us (§5.2.2.4, §5.2.2.7 allow it); pingora strips the
    // fields that they name.
    for (place, line) in [(1, "no-cache=\"x\""), (2, "private=\"x\"")] {
        let lines = [line.to_owned()];
        assert_eq!((ours(&lines).switches[place], pingora(&lines).switches[place]), (true, false), "{line}");
    }
}
