//! Which requests a variant answers: RFC 9111 §4.1, RFC 9110 §12.5.5; and what a site adds.

use http::HeaderMap;
use nearside_semantics::vary::{Nominee, Vary};

fn map(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(*name, value.parse().unwrap());
    }
    map
}

fn key(vary: &str, request: &[(&'static str, &str)]) -> Vec<u8> {
    let mut key = Vec::new();
    Vary::of(&map(&[("vary", vary)]), &[]).variant_key(&map(request), &mut key);
    key
}

#[test]
fn a_star_anywhere_matches_nothing() {
    for lines in [&["*"][..], &["a, *"], &["", "*"], &["a", "b , *"], &["not a name"]] {
        let lines: Vec<_> = lines.iter().map(|l| ("vary", *l)).collect();
        assert_eq!(Vary::of(&map(&lines), &[]), Vary::All, "{lines:?}");
    }
    assert_eq!(Vary::of(&map(&[("vary", "")]), &[]), Vary::None);
}

#[test]
fn variants_match_field_by_field() {
    let same: &[(&[_], &[_])] = &[
        (&[("foo", "1, 2")], &[("foo", "1,2")]),
        (&[("foo", "1"), ("foo", "2")], &[("foo", "1 ,2")]),
        (&[("foo", "1"), ("bar", "x")], &[("foo", "1"), ("bar", "y")]),
        (&[], &[("bar", "x")]),
    ];
    for (a, b) in same {
        assert_eq!(key("Foo", a), key("foo", b), "{a:?} {b:?}");
    }
    let different: &[(&[_], &[_])] = &[
        (&[("foo", "1")], &[("foo", "2")]),
        (&[("foo", "1")], &[]),
        (&[("foo", "")], &[]),
        (&[("foo", "1, 2")], &[("foo", "2, 1")]),
        (&[("foo", "a")], &[("foo", "A")]),
    ];
    for (a, b) in different {
        assert_ne!(key("foo", a), key("foo", b), "{a:?} {b:?}");
    }
    assert_ne!(key("a, b", &[("a", "1")]), key("a, b", &[("b", "1")]));
}

#[test]
fn order_and_repetition_in_vary_do_not_matter() {
    assert_eq!(Vary::of(&map(&[("vary", "b, A, a")]), &[]), Vary::of(&map(&[("vary", "A"), ("vary", "B")]), &[]));
}
#[test]
fn what_a_site_nominates_counts_for_every_response() {
    let site = [Nominee::Cookie("lang".into()), Nominee::Field("x-country".parse().unwrap())];
    let key = |request: &[(&'static str, &str)]| {
        let mut key = Vec::new();
        Vary::of(&map(&[("vary", "foo")]), &site).variant_key(&map(request), &mut key);
        key
    };
    let plain = key(&[]);
    let same: &[&[(&str, &str)]] =
        &[&[("cookie", "other=1")], &[("cookie", "xlang=1; langx=2")], &[("cookie", "a=lang=de")], &[("bar", "x")]];
    for request in same {
        assert_eq!(key(request), plain, "{request:?}");
    }
    let different: &[&[(&str, &str)]] = &[
        &[("cookie", "lang=de")],
        &[("cookie", "a=1; lang=en")],
        &[("cookie", "lang=")],
        &[("cookie", "lang=de; lang=en")],
        &[("cookie", "lang=en"), ("cookie", "lang=de")],
        &[("x-country", "de")],
        &[("foo", "1")],
        &[("foo", "=lang;de")],
    ];
    for (at, one) in different.iter().enumerate() {
        assert_ne!(key(one), plain, "{one:?}");
        for other in &different[at + 1..] {
            assert_ne!(key(one), key(other), "{one:?} {other:?}");
        }
    }
    for spelling in ["a=1; lang=de;b=2", "lang =de", "lang= de ;b", " lang\t=\tde"] {
        assert_eq!(key(&[("cookie", spelling)]), key(&[("cookie", "lang=de")]), "{spelling}");
    }
    assert_eq!(Vary::of(&map(&[("vary", "*")]), &site), Vary::All);
}
