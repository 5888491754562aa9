//! Queries that make no difference: draft-ietf-httpbis-no-vary-search, and the recipes of sites.

use nearside_semantics::query::{ParameterName, QueryRecipe, SearchVariance};

use crate::heads::head;

fn variance(value: &str) -> Option<SearchVariance> {
    SearchVariance::of(&head(&format!("no-vary-search: {value}")))
}

fn form(value: &str, target: &str) -> String {
    let mut out = Vec::new();
    variance(value).unwrap().write(target.as_bytes(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn what_it_makes_equal_and_what_it_does_not() {
    let table: [(&str, &str, &[&str], &[&str]); 7] = [
        (
            "params=(\"utm\")",
            "/a?x=1",
            &["/a?x=1&utm=2", "/a?utm&x=1", "/a?%75tm=5&x=1"],
            &["/a?x=2", "/a?x=1&y=1", "/b?x=1", "/a?x=1&Utm=2", "/a"],
        ),
        ("params=(\"utm\")", "/a", &["/a?utm=2", "/a?utm=1&utm=2"], &["/a?x", "/a/?utm=2"]),
        ("params", "/a", &["/a?x=1", "/a?y&z"], &["/b?x=1"]),
        ("params, except=(\"id\")", "/a?id=1", &["/a?id=1&x=2", "/a?x&id=1"], &["/a?id=2", "/a", "/a?id=1&id=2"]),
        ("key-order", "/a?x=1&y=2", &["/a?y=2&x=1"], &["/a?x=1", "/a?x=2&y=1"]),
        ("key-order", "/a?x=1&y=2&x=3", &["/a?y=2&x=1&x=3"], &["/a?x=3&x=1&y=2"]),
        ("key-order, params=(\"utm\")", "/a?x=1&y=2", &["/a?y=2&utm=1&x=1"], &["/a?x=1"]),
    ];
    for (value, target, same, different) in table {
        for other in same {
            assert_eq!(form(value, other), form(value, target), "{value}: {target} and {other}");
        }
        for other in different {
            assert_ne!(form(value, other), form(value, target), "{value}: {target} and {other}");
        }
    }
}

#[test]
fn values_are_compared_by_their_bytes() {
    for (a, b) in [("/a?x=%FF", "/a?x=%FE"), ("/a?x=a+b", "/a?x=a%20b"), ("/a?x=%61", "/a?x=a"), ("/a?", "/a")] {
        assert_ne!(form("key-order", a), form("key-order", b), "{a} {b}");
    }
}

#[test]
fn what_is_not_understood_or_says_nothing_is_the_default() {
    for value in [
        "",
        "params=5",
        "params=\"a\"",
        "params=(a)",
        "params=(\"a\" 5)",
        "key-order=1",
        "except=(\"a\")",
        "params=?0, except=(\"a\")",
        "params=(\"a\"), except=(\"b\")",
        "params, except=\"a\"",
        "(\"a\")",
        "!",
        "key-order=?0",
        "params=?0",
        "params=()",
        "unknown",
    ] {
        assert_eq!(variance(value), None, "{value}");
    }
    assert_eq!(SearchVariance::of(&head("")), None);
}

#[test]
fn equal_rules_are_written_alike_and_others_differ() {
    let rule = |value: &str| {
        let mut out = Vec::new();
        variance(value).unwrap().write_rule(&mut out);
        out
    };
    assert_eq!(rule("params=(\"a\" \"b\")"), rule("params=(\"b\" \"a\" \"a\")"));
    let all = [
        "params=(\"a\")",
        "params=(\"b\")",
        "params=(\"a\" \"b\")",
        "params=(\"a,b\")",
        "params",
        "params, except=(\"a\")",
        "key-order",
        "key-order, params=(\"a\")",
    ];
    for (at, one) in all.iter().enumerate() {
        assert!(!rule(one).contains(&b'\n'));
        for other in &all[at + 1..] {
            assert_ne!(rule(one), rule(other), "{one} {other}");
        }
    }
}

#[test]
fn a_site_keeps_drops_and_sorts() {
    let names = |names: &[&str]| names.iter().map(|name| ParameterName::new(name)).collect::<Vec<_>>();
    let keep = QueryRecipe { keep: Some(names(&["page", "q*"])), ..QueryRecipe::default() };
    let drop = QueryRecipe { drop: names(&["utm_*", "fbclid"]), ..QueryRecipe::default() };
    let both = QueryRecipe { keep: Some(names(&["f_*"])), drop: names(&["f_debug"]), sort: false };
    let sort = QueryRecipe { sort: true, ..QueryRecipe::default() };
    let table = [
        (&keep, "/a?page=1&utm=2&query=3", "/a?page=1&query=3"),
        (&keep, "/a?utm=2", "/a"),
        (&keep, "/a?", "/a"),
        (&keep, "/a", "/a"),
        (&drop, "/a?x=1&utm_source=2&fbclid=3&y", "/a?x=1&y"),
        (&drop, "/a?utm%5Fsource=2", "/a"),
        (&drop, "/a?&x&&", "/a?&x&&"),
        (&drop, "/a?", "/a?"),
        (&drop, "/a?x=utm_source", "/a?x=utm_source"),
        (&both, "/a?f_a=1&f_debug=1&g=1", "/a?f_a=1"),
        (&sort, "/a?b=2&a=1&b=1", "/a?a=1&b=2&b=1"),
        (&sort, "/a?b=?&a", "/a?a&b=?"),
    ];
    for (recipe, target, expected) in table {
        let mut out = Vec::new();
        recipe.write(target.as_bytes(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{target}");
    }
    assert!(QueryRecipe::default().is_identity() && !keep.is_identity() && !drop.is_identity() && !sort.is_identity());
}
