//! Heads of answers as HTTP/2 sends them.

use std::time::Instant;

use http::header::{AGE, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use nearside_engine::request::hit::{Content, Hit};
use nearside_engine::request::respond::{not_modified_fields, partial_fields};
use nearside_engine::request::{Answer, Engine};
use nearside_http1::write::{CACHE_STATUS, via_value};
use nearside_telemetry::outcome::Outcome;
use nearside_telemetry::server_timing::SERVER_TIMING;

/// The head of an answer of the engine.
pub(super) fn of_answer(engine: &Engine, answer: &Answer, start: Instant) -> Response<()> {
    head(engine, answer.status, answer.head.fields().clone(), &answer.outcome, answer.age, start)
}

/// The head of the answer to a hit.
pub(super) fn of_hit(engine: &Engine, hit: &Hit, start: Instant) -> Response<()> {
    let stored = &hit.entry.head.fields;
    let fields = match hit.content {
        Content::Whole | Content::Head => stored.clone(),
        Content::NotModified => not_modified_fields(stored, engine.tier.serves_caches()),
        Content::Span(span) => partial_fields(stored, span, hit.entry.body.len()),
    };
    head(engine, hit.status(), fields, &hit.outcome(), Some(hit.age), start)
}

/// Adds what every answer gets anew.
fn head(
    engine: &Engine,
    status: StatusCode,
    mut fields: HeaderMap,
    outcome: &Outcome,
    age: Option<u64>,
    start: Instant,
) -> Response<()> {
    let mut line = Vec::with_capacity(96);
    for member in fields.get_all(CACHE_STATUS) {
        line.extend_from_slice(member.as_bytes());
        line.extend_from_slice(b", ");
    }
    outcome.member().write(engine.config.id.as_str(), &mut line);
    insert(&mut fields, CACHE_STATUS, line);
    let mut via = Vec::with_capacity(64);
    via_value(&fields, &engine.via, &mut via);
    insert(&mut fields, VIA, via);
    match age {
        Some(age) => fields.insert(AGE, HeaderValue::from(age)),
        None => fields.remove(AGE),
    };
    if engine.shows_timing(outcome) {
        let mut timing = Vec::new();
        engine.write_timing(outcome, start, &mut timing);
        if let Ok(timing) = HeaderValue::try_from(timing) {
            fields.append(SERVER_TIMING, timing);
        }
    }
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = Version::HTTP_2;
    *response.headers_mut() = fields;
    response
}

fn insert(fields: &mut HeaderMap, name: HeaderName, line: Vec<u8>) {
    if let Ok(value) = HeaderValue::try_from(line) {
        fields.insert(name, value);
    }
}
