//! Requests that ask for the same in other words: RFC 9110 §12.4.2, §12.5.3, §12.5.4; RFC 9111 §4.1.

use http::HeaderMap;
use nearside_semantics::negotiate::{Languages, Rewritten};

use crate::heads::head;

fn encoding(lines: &str) -> HeaderMap {
    let mut request = head(lines);
    Rewritten::of(&request.clone(), true, Languages::AsSent).apply(&mut request);
    request
}

#[test]
fn s12_5_3_encodings_become_the_known_ones_that_are_taken() {
    let table = [
        ("gzip, deflate, br, zstd", "zstd, br, gzip"),
        ("gzip, deflate, br", "br, gzip"),
        ("BR;q=0.5, GZIP", "br, gzip"),
        ("gzip | accept-encoding: br", "br, gzip"),
        ("x-gzip", "gzip"),
        ("br;q=0, gzip", "gzip"),
        ("br;q=0.000, gzip;q=0.001", "gzip"),
        ("deflate", "identity"),
        ("identity", "identity"),
        ("", "identity"),
        ("*", "zstd, br, gzip"),
        ("*, br;q=0", "zstd, gzip"),
        ("gzip, identity;q=0.5", "gzip"),
        ("gzip;q=0", "identity"),
    ];
    for (value, expected) in table {
        assert_eq!(encoding(&format!("accept-encoding: {value}"))["accept-encoding"], expected, "{value}");
    }
    assert!(encoding("x: 1").get("accept-encoding").is_none(), "absent stays absent");
}

#[test]
fn what_is_not_understood_stays_as_it_is() {
    for value in ["gzip, identity;q=0", "*;q=0, gzip", "gzip;q=2", "gzip;level=9", "gzip;q", "g zip", "gzip;q=0.1234"] {
        assert_eq!(encoding(&format!("accept-encoding: {value}"))["accept-encoding"], value, "{value}");
    }
}

#[test]
fn s12_5_4_languages_by_case_and_order() {
    let form = |value: &str, how| {
        let mut request = head(&format!("accept-language: {value}"));
        Rewritten::of(&request.clone(), false, how).apply(&mut request);
        request["accept-language"].to_str().unwrap().to_owned()
    };
    let table = [
        ("en, de", "en, de", "de, en"),
        ("de, en", "de, en", "de, en"),
        ("eN,   De", "en, de", "de, en"),
        ("EN-us, zh-hant-tw", "en-US, zh-Hant-TW", "en-US, zh-Hant-TW"),
        ("de, en;q=0.8, fr;q=0.80", "de, en;q=0.8, fr;q=0.8", "de, en;q=0.8, fr;q=0.8"),
        ("fr;q=0.5, de;q=1.0", "fr;q=0.5, de", "de, fr;q=0.5"),
        ("en;q=0, *;q=0.001", "en;q=0, *;q=0.001", "*;q=0.001, en;q=0"),
        ("en, en", "en, en", "en"),
        ("en;q=x", "en;q=x", "en;q=x"),
    ];
    for (value, case, order) in table {
        assert_eq!(form(value, Languages::Case), case, "{value}");
        assert_eq!(form(value, Languages::Order), order, "{value}");
        assert_eq!(form(value, Languages::AsSent), value);
    }
}
