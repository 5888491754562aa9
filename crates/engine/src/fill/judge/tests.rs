use super::*;
use crate::samples::{ARRIVAL, EXCHANGE, entry, fields, head, later, life, plan, rules, status};

#[test]
fn only_what_itself_forbids_storing_and_silent_successes_hold_for_later_responses() {
    use NotStorable::{Authorization, NoFreshness, NoStore, Partial, Private, RequestError, RequestNoStore, SetCookie};
    let uncacheable = |reason: NotStorable| Finding::Uncacheable(reason.into());
    for (status, reason, expected) in [
        (200, NoStore, uncacheable(NoStore)),
        (200, Private, uncacheable(Private)),
        (200, NoFreshness, uncacheable(NoFreshness)),
        (302, SetCookie, uncacheable(SetCookie)),
        (404, NoStore, uncacheable(NoStore)),
        (200, Authorization, Finding::Nothing),
        (200, RequestNoStore, Finding::Nothing),
        (206, Partial, Finding::Nothing),
        (404, NoFreshness, Finding::Refused),
        (422, NoFreshness, Finding::Refused),
        (400, RequestError, Finding::Refused),
        (431, NoStore, Finding::Refused),
        (401, NoStore, Finding::Refused),
        (403, Private, Finding::Refused),
        (403, Authorization, Finding::Refused),
        (500, NoStore, Finding::Refused),
        (502, SetCookie, Finding::Refused),
        (400, Partial, Finding::Refused),
    ] {
        assert_eq!(found(StatusCode::from_u16(status).unwrap(), reason), expected, "{status} {reason:?}");
    }
}

const OBJECT_BYTES_MAX: u64 = 1 << 20;

fn judged(plan: &Plan, number: u16, response: &[(&'static str, &str)]) -> Judged {
    judge_by(&rules(|_| {}), OBJECT_BYTES_MAX, plan, status(number), &fields(response), EXCHANGE)
}

#[test]
fn an_answer_to_a_clients_own_condition_or_range_is_not_stored() {
    let lasting = ("cache-control", "max-age=60");
    for (request, number, expected) in [
        (&[][..], 200, Ok(())),
        (&[("range", "bytes=0-4")], 200, Ok(())),
        (&[("range", "bytes=0-4")], 206, Err(NotStorable::Partial)),
        (&[("range", "bytes=9-")], 416, Err(NotStorable::Partial)),
        (&[("if-none-match", "\"a\"")], 200, Ok(())),
        (&[("if-none-match", "\"a\"")], 304, Err(NotStorable::Partial)),
        (&[("if-match", "\"a\"")], 412, Err(NotStorable::Partial)),
        (&[("if-none-match", "\"a\"")], 404, Err(NotStorable::Partial)),
    ] {
        let storable = judged(&plan(Method::GET, request), number, &[lasting]).storable;
        assert_eq!(storable, expected, "{request:?} {number}");
    }
}

#[test]
fn conditions_of_a_validation_are_the_caches_own() {
    let mut plan = plan(Method::GET, &[("if-none-match", "\"a\"")]);
    plan.stored = Some(entry(head(200, &[("etag", "\"a\"")]), life(0, 0)));
    assert!(!plan.is_selective());
    assert_eq!(judged(&plan, 404, &[("cache-control", "max-age=60")]).storable, Ok(()));
}

#[test]
fn of_the_part_that_a_client_asked_for_it_is_told_whether_the_whole_would_be_stored() {
    let range = plan(Method::GET, &[("range", "bytes=0-4")]);
    let part = |control: &str, length: &str| {
        judged(&range, 206, &[("cache-control", control), ("content-range", &format!("bytes 0-4/{length}"))]).whole
    };
    assert_eq!(part("max-age=60", "9"), Some(Ok(())));
    assert_eq!(part("no-store", "9"), Some(Err(Unstored::Law(NotStorable::NoStore))));
    assert_eq!(part("max-age=60", "1048576"), Some(Ok(())));
    assert_eq!(part("max-age=60", "1048577"), Some(Err(Unstored::TooLarge)));
    assert_eq!(judged(&plan(Method::GET, &[]), 200, &[]).whole, None, "no part");
    assert_eq!(judged(&range, 416, &[]).whole, None, "no part");
}

#[test]
fn a_block_is_stored_only_if_it_is_what_was_asked_for() {
    let mut plan = plan(Method::GET, &[]);
    plan.forward.fields = fields(&[("range", "bytes=0-1048575")]);
    plan.key.block = Some(crate::request::slices::Block::first());
    for (number, range, expected) in [
        (206, "bytes 0-1048575/2000000", Ok(())),
        (206, "bytes 0-1999/2000", Ok(())),
        (206, "bytes 0-4/2000000", Err(NotStorable::Partial)),
        (206, "bytes 5-1048575/2000000", Err(NotStorable::Partial)),
        (200, "bytes 0-1048575/2000000", Err(NotStorable::Partial)),
    ] {
        let storable = judged(&plan, number, &[("cache-control", "max-age=60"), ("content-range", range)]).storable;
        assert_eq!(storable, expected, "{number} {range}");
    }
}

#[test]
fn a_response_that_depends_on_fields_of_this_node_is_not_stored() {
    for (vary, expected) in [
        ("accept-language", Ok(())),
        ("X-Forwarded-For", Err(NotStorable::VaryAll)),
        ("accept-encoding, via", Err(NotStorable::VaryAll)),
        ("*", Err(NotStorable::VaryAll)),
    ] {
        let response = [("cache-control", "max-age=60"), ("vary", vary)];
        assert_eq!(judged(&plan(Method::GET, &[]), 200, &response).storable, expected, "{vary}");
    }
}

#[test]
fn a_page_may_be_personal_if_its_request_had_cookies_and_the_response_says_nothing() {
    let cookie = [("cookie", "session=1")];
    for (request, response, expected) in [
        (&cookie[..], &[][..], true),
        (&[], &[], false),
        (&cookie, &[("cache-control", "max-age=60")], false),
        (&cookie, &[("cache-control", "public")], false),
        (&cookie, &[("vary", "cookie")], false),
        (&cookie, &[("vary", "accept-language")], true),
        (&cookie, &[("etag", "\"a\""), ("last-modified", "Mon, 12 Jan 1970 00:00:00 GMT")], true),
    ] {
        let judged = judged(&plan(Method::GET, request), 200, response);
        assert_eq!(judged.is_personal, expected, "{request:?} {response:?}");
    }
}

#[test]
fn a_page_that_may_be_personal_is_never_served_without_asking() {
    let response = [("cache-control", "stale-if-error=600, stale-while-revalidate=600"), ("etag", "\"a\"")];
    let personal = judged(&plan(Method::GET, &[("cookie", "session=1")]), 200, &response);
    let validate = Reuse::Validate { because: nearside_semantics::reuse::Stale::Expired, on_error: false };
    assert_eq!(personal.freshness.reuse(later(1), None), validate);
    let common = judged(&plan(Method::GET, &[]), 200, &response);
    assert_ne!(common.freshness.reuse(later(1), None), validate, "the windows count for others");
}

#[test]
fn what_stands_in_for_an_error_is_fresh_or_in_its_window() {
    for (seconds, expected) in [(0, true), (9, true), (10, true), (29, true), (30, false)] {
        assert_eq!(stands_in_for_error(life(10, 20), later(seconds)), expected, "{seconds}");
    }
    let asks_always = Freshness { no_cache: true, never_stale: true, ..life(0, 0) };
    assert!(!stands_in_for_error(asks_always, ARRIVAL));
}

#[test]
fn the_first_reason_against_storing_is_the_one_that_is_told() {
    let law = Err(NotStorable::NoStore);
    for (storable, method, number, keeps_stale, length, expected) in [
        (Ok(()), Method::GET, 200, true, 10, Ok(())),
        (Ok(()), Method::GET, 200, false, 11, Err(Unstored::TooLarge)),
        (Ok(()), Method::HEAD, 200, false, 11, Err(Unstored::HeadOnly)),
        (Ok(()), Method::GET, 503, true, 11, Err(Unstored::KeepsStale)),
        (Ok(()), Method::GET, 503, false, 10, Ok(())),
        // RFC 5861 names 500, 502, 503 and 504.
        (Ok(()), Method::GET, 501, true, 10, Ok(())),
        (Ok(()), Method::GET, 404, true, 10, Ok(())),
        (law, Method::HEAD, 503, true, 11, Err(Unstored::Law(NotStorable::NoStore))),
    ] {
        let found = may_take_room(storable, &method, status(number), || keeps_stale, length, 10);
        assert_eq!(found, expected, "{storable:?} {method} {number} {keeps_stale} {length}");
    }
}

#[test]
fn what_answers_one_client_only_says_nothing_of_later_responses() {
    let partial = Unstored::Law(NotStorable::Partial);
    let no_store = Unstored::Law(NotStorable::NoStore);
    let range = [("range", "bytes=0-4")];
    for (method, request, number, unstored, expected) in [
        (Method::GET, &[][..], 200, no_store, Finding::Uncacheable(NotStorable::NoStore.into())),
        (Method::POST, &[], 200, no_store, Finding::Nothing),
        (Method::GET, &range, 200, no_store, Finding::Uncacheable(NotStorable::NoStore.into())),
        // It is the client's own range that is refused; without one it is the request.
        (Method::GET, &range, 416, partial, Finding::Nothing),
        (Method::GET, &[], 416, partial, Finding::Refused),
        (Method::GET, &[], 200, Unstored::TooLarge, Finding::Uncacheable(Reason::TooLarge)),
        (Method::GET, &[], 200, Unstored::NoRoom, Finding::Nothing),
        (Method::GET, &[], 503, Unstored::KeepsStale, Finding::Nothing),
        (Method::HEAD, &[], 200, Unstored::HeadOnly, Finding::Nothing),
        (Method::GET, &[], 200, Unstored::Passed, Finding::Nothing),
    ] {
        let found = plan(method, request).finding(status(number), unstored);
        assert_eq!(found, expected, "{request:?} {number} {unstored:?}");
    }
}
