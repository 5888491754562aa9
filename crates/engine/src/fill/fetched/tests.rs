use super::*;
use crate::request::key::UrlKey;
use crate::samples::{ARRIVAL, fields, key, later, life, status};

/// A response with this head, whose body has not begun, and which is stored or not.
pub(crate) fn fetched(head: Head, stored: Result<(), Unstored>) -> Fetched {
    let (body, _writer) = Body::growing(None, None);
    Fetched {
        age_stated: age::stated(&head.fields).is_some(),
        length: length_of(&head.fields),
        head: Arc::new(head),
        first: Mutex::new(body.reader(0)),
        body,
        freshness: life(60, 0),
        vary: Vary::None,
        variant: Box::default(),
        stored,
        hop: "origin".into(),
        wait: Arc::new(Wait::new(std::time::Duration::ZERO, false, None)),
        groups: Membership::default(),
        only_for: None,
        by_head: false,
        is_refusal: false,
        is_personal: false,
        response_time: ARRIVAL,
    }
}

fn head_of(number: u16, lines: &[(&'static str, &str)], length: Option<u64>) -> Head {
    head("1.1 n (nearside)", status(number), fields(lines), length)
}

#[test]
fn a_head_states_the_length_that_is_known_and_none_where_there_may_be_none() {
    for (number, stated, length, expected) in [
        (200, Some("5"), Some(5), Some("5")),
        (200, None, Some(5), Some("5")),
        (200, Some("9"), Some(5), Some("5")),
        (200, Some("9"), None, None),
        (204, Some("0"), Some(0), None),
        (304, Some("5"), Some(5), Some("5")),
    ] {
        let stated: Vec<_> = stated.map(|length| ("content-length", length)).into_iter().collect();
        let head = head_of(number, &stated, length);
        let shown = head.fields.get(CONTENT_LENGTH).map(|value| value.to_str().unwrap());
        assert_eq!(shown, expected, "{number} {stated:?} {length:?}");
        let wire = String::from_utf8(head.wire.to_vec()).unwrap();
        assert_eq!(wire.contains("content-length"), expected.is_some(), "{wire}");
    }
}

#[test]
fn an_entry_states_the_length_of_a_body_that_came_in_chunks() {
    let chunked = |number| {
        let mut fetched = fetched(head_of(number, &[], None), Ok(()));
        fetched.body = Body::complete(bytes::Bytes::from_static(b"hello"), None);
        let entry = fetched.entry("n", Timestamp::MAX);
        entry.head.fields.get(CONTENT_LENGTH).cloned()
    };
    assert_eq!(chunked(200).unwrap(), "5");
    assert_eq!(chunked(304), None, "it has no body of its own");
}

#[test]
fn the_verdict_of_a_response_tells_whether_it_is_stored_and_whether_something_was() {
    for (stored, was_stored, expected) in [
        (Ok(()), false, Verdict::Miss),
        (Ok(()), true, Verdict::Expired),
        (Err(Unstored::Passed), true, Verdict::Bypass),
        (Err(Unstored::TooLarge), true, Verdict::Uncacheable),
        (Err(Unstored::Law(NotStorable::NoStore)), false, Verdict::Uncacheable),
    ] {
        let fetched = fetched(head_of(200, &[], None), stored);
        assert_eq!(fetched.verdict(was_stored), expected, "{stored:?} {was_stored}");
        let outcome = fetched.complete(Outcome::new(expected, None), later(10));
        assert_eq!((outcome.stored, outcome.ttl.is_some()), (stored.is_ok(), stored.is_ok()), "{stored:?}");
        assert_eq!(outcome.reason, stored.err().and_then(Unstored::reason));
    }
}

#[test]
fn an_age_is_shown_if_the_next_hop_stated_one_or_time_has_passed() {
    for (stated, seconds, expected) in [(None, 0, None), (None, 3, Some(3)), (Some("0"), 0, Some(0))] {
        let stated: Vec<_> = stated.map(|age| ("age", age)).into_iter().collect();
        let fetched = fetched(head_of(200, &stated, None), Ok(()));
        assert_eq!(fetched.age_to_show(later(seconds)), expected, "{stated:?} {seconds}");
    }
}

#[test]
fn only_the_answer_to_a_head_can_show_that_the_method_is_unknown() {
    for (number, by_head, expected) in
        [(405, true, true), (501, true, true), (405, false, false), (404, true, false), (500, true, false)]
    {
        let mut fetched = fetched(head_of(number, &[], None), Err(Unstored::HeadOnly));
        fetched.by_head = by_head;
        assert_eq!(fetched.refuses_head(), expected, "{number} {by_head}");
    }
}

#[test]
fn a_response_answers_requests_for_its_variant_and_its_own_url() {
    let mut fetched = fetched(head_of(200, &[("vary", "accept-language")], None), Ok(()));
    fetched.vary = Vary::of(&fetched.head.fields, &[]);
    let mut variant = Vec::new();
    fetched.vary.variant_key(&fields(&[("accept-language", "de")]), &mut variant);
    fetched.variant = variant.into();
    let answers = |fetched: &Fetched, language: &str, exact: &[u8]| {
        fetched.answers(&fields(&[("accept-language", language)]), &key(exact))
    };
    assert!(answers(&fetched, "de", b"url"));
    assert!(!answers(&fetched, "fr", b"url"));
    assert!(answers(&fetched, "de", b"other"), "a rule leads here");
    fetched.only_for = Some(UrlKey::new(*b"url"));
    assert!(answers(&fetched, "de", b"url"));
    assert!(!answers(&fetched, "de", b"other"), "the rule does not hold any more");
}
