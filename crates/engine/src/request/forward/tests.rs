use nearside_semantics::storable::NotStorable;

use super::*;
use crate::fill::{Unstored, fetched_sample};
use crate::samples::{ARRIVAL, entry, head, later, life, request, status};

fn response(number: u16, stored: Result<(), Unstored>) -> Begun {
    Begun::Response(Arc::new(fetched_sample(head(number, &[("etag", "\"a\"")]), stored)))
}

fn validated() -> Begun {
    Begun::Revalidated {
        entry: entry(head(200, &[("etag", "\"a\"")]), life(0, 0)),
        hop: "origin".into(),
        wait: Arc::new(nearside_telemetry::server_timing::Wait::new(Duration::ZERO, false, None)),
        shared: true,
        is_personal: false,
        only_for: None,
    }
}

#[test]
fn a_client_whose_own_precondition_fails_asks_by_itself() {
    for (condition, expected) in [(&[][..], false), (&[("if-match", "\"a\"")], false), (&[("if-match", "\"b\"")], true)]
    {
        let request = request(Method::GET, condition);
        for (begun, leads) in
            [(validated(), true), (validated(), false), (response(200, Ok(())), true), (response(200, Ok(())), false)]
        {
            assert_eq!(wants_its_own(&begun, &request, leads, ARRIVAL), expected, "{condition:?} {begun:?}");
        }
        let failed = Begun::Failed(HopError::Short);
        assert!(!wants_its_own(&failed, &request, true, ARRIVAL), "there is nothing to compare with");
    }
}

#[test]
fn a_leader_that_wanted_a_part_does_not_get_a_whole_that_is_not_stored() {
    let no_store = Err(Unstored::Law(NotStorable::NoStore));
    let (range, condition) = (&[("range", "bytes=0-4")][..], &[("if-none-match", "\"a\"")][..]);
    for (lines, number, stored, leads, expected) in [
        (range, 200, no_store, true, true),
        (condition, 200, no_store, true, true),
        (range, 200, Ok(()), true, false),
        (range, 404, no_store, true, false),
        (range, 200, no_store, false, false),
        (&[], 200, no_store, true, false),
    ] {
        let found = wants_its_own(&response(number, stored), &request(Method::GET, lines), leads, ARRIVAL);
        assert_eq!(found, expected, "{lines:?} {number} {stored:?} {leads}");
    }
}

#[test]
fn a_leader_whose_altered_request_was_refused_sends_its_own() {
    let no_store = Err(Unstored::Law(NotStorable::NoStore));
    for (method, number, leads, expected) in [
        (Method::HEAD, 403, true, true),
        (Method::HEAD, 401, true, true),
        (Method::HEAD, 404, true, false),
        (Method::HEAD, 403, false, false),
        (Method::GET, 403, true, false),
    ] {
        let found = wants_its_own(&response(number, no_store), &request(method.clone(), &[]), leads, ARRIVAL);
        assert_eq!(found, expected, "{method} {number} {leads}");
    }
}

#[test]
fn who_comes_after_the_head_shares_a_response_only_while_it_is_fresh() {
    for (begun, seconds, expected) in [
        (response(200, Ok(())), 59, true),
        (response(200, Ok(())), 60, false),
        (validated(), 60, true),
        (Begun::Failed(HopError::Short), 60, true),
    ] {
        assert_eq!(still_fresh(&begun, later(seconds)), expected, "{begun:?} {seconds}");
    }
}

#[test]
fn a_failure_is_one_of_the_four_statuses_of_rfc_5861() {
    for (number, expected) in
        [(499, false), (500, true), (501, false), (502, true), (503, true), (504, true), (505, false), (200, false)]
    {
        assert_eq!(is_failure(status(number)), expected, "{number}");
    }
}

#[test]
fn only_the_ping_itself_is_one() {
    for (target, expected) in [
        ("/.well-known/nearside/ping", true),
        ("/.well-known/nearside/ping?1", true),
        ("/.well-known/nearside/pings", false),
        ("/.well-known/nearside/ping/", false),
        ("/ping", false),
    ] {
        assert_eq!(is_ping(target.as_bytes()), expected, "{target}");
    }
}
