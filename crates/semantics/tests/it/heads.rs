//! Heads as text, and an exchange that is judged as the engine does it.
//!
//! Fields are written as `name: value | name: value`; `$now` and `$now-60` in them stand for HTTP dates around the moment
//! of the response.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use nearside_semantics::age::Exchange;
use nearside_semantics::control::{CDN_CACHE_CONTROL, Control};
use nearside_semantics::directives::RequestDirectives;
use nearside_semantics::lifetime::{Lifetime, LifetimePolicy, lifetime};
use nearside_semantics::reuse::{Freshness, Reuse, StalePolicy};
use nearside_semantics::storable::{Candidate, NotStorable, StorePolicy, storable};
use nearside_semantics::{Timestamp, date};

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);
pub(crate) const STALE: StalePolicy = StalePolicy { on_error: Duration::ZERO, keep: Duration::from_secs(3600) };

pub(crate) fn head(lines: &str) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in lines.split('|').map(str::trim).filter(|l| !l.is_empty()) {
        let (name, value) = line.split_once(':').unwrap();
        let value = dates(value.trim());
        fields.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(&value).unwrap());
    }
    fields
}

fn dates(value: &str) -> String {
    let Some(offset) = value.strip_prefix("$now") else { return value.to_owned() };
    let secs: i64 = if offset.is_empty() { 0 } else { offset.parse().unwrap() };
    date::format(Timestamp::from_secs(NOW.as_secs().checked_add_signed(secs).unwrap()))
}

pub(crate) fn after(secs: u64) -> Timestamp {
    NOW.after(Duration::from_secs(secs))
}

pub(crate) fn control(response: &HeaderMap) -> Control {
    Control::of(response, &[CDN_CACHE_CONTROL])
}

pub(crate) fn lifetime_of(status: u16, response: &HeaderMap) -> Lifetime {
    lifetime_with(status, response, LifetimePolicy::default())
}

pub(crate) fn lifetime_with(status: u16, response: &HeaderMap, policy: LifetimePolicy) -> Lifetime {
    lifetime(StatusCode::from_u16(status).unwrap(), response, &control(response), NOW, policy)
}

pub(crate) fn store(method: &str, request: &str, status: u16, response: &str) -> Result<(), NotStorable> {
    store_with(method, request, status, response, StorePolicy::default())
}

pub(crate) fn store_with(
    method: &str,
    request: &str,
    status: u16,
    response: &str,
    policy: StorePolicy,
) -> Result<(), NotStorable> {
    let (request, response) = (head(request), head(response));
    let candidate = Candidate {
        method: &Method::from_bytes(method.as_bytes()).unwrap(),
        request: &request,
        status: StatusCode::from_u16(status).unwrap(),
        response: &response,
        own_location: response.get("content-location").is_some_and(|own| own == "/own"),
    };
    storable(&candidate, &control(&response), lifetime_of(status, &response), policy)
}

pub(crate) fn freshness(response: &str) -> Freshness {
    freshness_with(response, STALE)
}

pub(crate) fn freshness_with(response: &str, policy: StalePolicy) -> Freshness {
    let response = head(response);
    let exchange = Exchange { request_time: NOW, response_time: NOW, response_date: NOW };
    Freshness::of(&response, &control(&response).directives, lifetime_of(200, &response), exchange, policy)
}

/// What may be done with a response after `secs`, for a client that asks with `request` where that is honoured.
pub(crate) fn reuse(response: &str, secs: u64, request: Option<&str>) -> Reuse {
    let asked = request.map(|request| RequestDirectives::of(&head(request)));
    freshness(response).reuse(after(secs), asked.as_ref())
}
