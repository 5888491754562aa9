//! From a request and its directives to an answer.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, AGE, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, HeaderMap,
    HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE, SET_COOKIE, VARY,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use parking_lot::Mutex;

use crate::body;
use crate::connection::Trick;
use crate::directives::{Directives, Fault, unescape};
use crate::ledger::{Ledger, Visit};
use crate::site;

mod paced;
use paced::Paced;

pub(crate) type Body = http_body_util::combinators::BoxBody<Bytes, paced::Cut>;

/// What all connections of an origin share.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    pub(crate) ledger: Arc<Ledger>,
    versions: Mutex<HashMap<String, u64>>,
    /// Milliseconds that `Date` is ahead of the real time.
    ahead: AtomicU64,
}

/// The answer to a request, dated.
pub(crate) async fn respond(
    origin: &Origin,
    trick: &Trick,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let mut response = undated(origin, trick, request).await?;
    if !response.headers().contains_key(DATE) {
        let now = httpdate::fmt_http_date(origin.now());
        set(response.headers_mut(), DATE, &now);
    }
    Ok(response)
}

async fn undated(origin: &Origin, trick: &Trick, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (head, incoming) = request.into_parts();
    let (path, query) = (head.uri.path().to_owned(), head.uri.query().unwrap_or("").to_owned());
    match path.as_str() {
        "/readyz" => return Ok(text(StatusCode::OK, "ready\n")),
        "/_ledger" => return Ok(json(&origin.ledger.read())),
        "/_ledger/total" => return Ok(json(&origin.ledger.total())),
        "/_ledger/reset" if head.method == Method::POST => {
            origin.ledger.reset();
            return Ok(text(StatusCode::OK, "the ledger is empty\n"));
        }
        "/_bump" if head.method == Method::POST => return Ok(origin.bump(&query)),
        _ => {}
    }
    let visit = origin.ledger.begin(&head.uri.path_and_query().map_or_else(|| path.clone(), ToString::to_string));
    // The body of a request is taken before it is answered, as most origins do.
    let uploaded = incoming.collect().await;
    let Ok(uploaded) = uploaded else { return Ok(text(StatusCode::BAD_REQUEST, "the request body broke off\n")) };
    if path == "/_echo" {
        let trailers = uploaded.trailers().cloned();
        return Ok(echo(&head, &uploaded.to_bytes(), trailers.as_ref()));
    }
    if query.is_empty()
        && let Some(asset) = site::asset(&path)
    {
        return Ok(asset_response(&head, &asset, visit));
    }
    match Directives::parse(&query) {
        Ok(directives) => Ok(directed(origin, trick, &head, &directives, visit).await),
        Err(problem) => Ok(text(StatusCode::BAD_REQUEST, &format!("{problem}\n"))),
    }
}

impl Origin {
    pub(crate) fn set_ahead(&self, ahead: Duration) {
        self.ahead.store(u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn now(&self) -> SystemTime {
        #[expect(clippy::disallowed_methods, reason = "an origin lives in real time, or a set span ahead of it")]
        let now = SystemTime::now();
        now + Duration::from_millis(self.ahead.load(Ordering::Relaxed))
    }

    /// `POST /_bump?key=KEY`
    fn bump(&self, query: &str) -> Response<Body> {
        let key = query.split('&').find_map(|pair| pair.strip_prefix("key="));
        let Some(key) = key else { return text(StatusCode::BAD_REQUEST, "say which: /_bump?key=KEY\n") };
        let mut versions = self.versions.lock();
        let version = versions.entry(unescape(key)).or_insert(1);
        *version += 1;
        text(StatusCode::OK, &format!("{version}\n"))
    }

    fn version(&self, key: &str) -> u64 {
        self.versions.lock().get(key).copied().unwrap_or(1)
    }
}

async fn directed(
    origin: &Origin,
    trick: &Trick,
    head: &http::request::Parts,
    directives: &Directives,
    visit: Visit,
) -> Response<Body> {
    tokio::time::sleep(directives.before_head).await;
    match directives.fault {
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Garbage) => {
            trick.send_raw(b"\x00\x01this is no HTTP\r\n\r\n".to_vec());
            return text(StatusCode::OK, "");
        }
        _ => {}
    }
    let mut fields = fields_of(directives, origin.now());
    let mut seed = directives.seed.wrapping_add(variant_seed(directives, &head.headers));
    if let Some(key) = &directives.version {
        let version = origin.version(if key.is_empty() { head.uri.path() } else { key });
        seed = seed.wrapping_add(version << 32);
        set(&mut fields, ETAG, &format!("\"v{version}\""));
        set(&mut fields, HeaderName::from_static("x-version"), &version.to_string());
    }
    // The field is for requests that must share their URI with others and yet be answered otherwise.
    let asked = head.headers.get("x-status").and_then(|status| StatusCode::from_bytes(status.as_bytes()).ok());
    let status = asked.or_else(|| StatusCode::from_u16(directives.status).ok()).unwrap_or(StatusCode::OK);
    if directives.fault == Some(Fault::WrongLength) {
        trick.send_raw(too_long(status, &fields, seed, directives.size));
        return text(StatusCode::OK, "");
    }
    let part = if status == StatusCode::OK { select(&head.headers, &fields, directives.size) } else { Part::Whole };
    let cut = match directives.fault {
        Some(Fault::Cut(after) | Fault::Reset(after)) => Some(after),
        _ => None,
    };
    let reset = matches!(directives.fault, Some(Fault::Reset(_)));
    let paced = |start, end| Paced {
        seed,
        at: start,
        end,
        cut: cut.map(|after| start + after),
        reset: reset.then(|| trick.clone()),
        pause: Some(directives.before_body).filter(|pause| !pause.is_zero()),
        rate: directives.rate,
        chunked: directives.chunked,
    };
    assemble(head, status, fields, part, directives.size, paced, visit)
}

/// The answer for a part of a body of `size` bytes.
fn assemble(
    head: &http::request::Parts,
    status: StatusCode,
    mut fields: HeaderMap,
    part: Part,
    size: u64,
    paced: impl FnOnce(u64, u64) -> Paced,
    visit: Visit,
) -> Response<Body> {
    let (status, start, end) = match part {
        Part::Whole => (status, 0, size),
        Part::Range(start, end) => {
            set(&mut fields, CONTENT_RANGE, &format!("bytes {start}-{}/{size}", end - 1));
            (StatusCode::PARTIAL_CONTENT, start, end)
        }
        Part::NotModified => (StatusCode::NOT_MODIFIED, 0, 0),
        Part::Unsatisfiable => {
            set(&mut fields, CONTENT_RANGE, &format!("bytes */{size}"));
            (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0)
        }
    };
    let bodiless = status == StatusCode::NOT_MODIFIED || status == StatusCode::NO_CONTENT;
    let paced = paced(start, if bodiless { start } else { end });
    if !bodiless && !paced.chunked {
        set(&mut fields, CONTENT_LENGTH, &(end - start).to_string());
    }
    let body = if head.method == Method::HEAD || bodiless { empty() } else { paced.into_body(visit) };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    response
}

fn fields_of(directives: &Directives, now: SystemTime) -> HeaderMap {
    let mut fields = HeaderMap::new();
    set(&mut fields, CONTENT_TYPE, "application/octet-stream");
    set(&mut fields, ACCEPT_RANGES, "bytes");
    let optional = [
        (CACHE_CONTROL, directives.cache_control.clone()),
        (AGE, directives.age.clone()),
        (VARY, directives.vary.clone()),
        (HeaderName::from_static("surrogate-key"), directives.tag.clone()),
        (SET_COOKIE, directives.set_cookie.clone()),
        (CONNECTION, directives.close.then(|| "close".to_owned())),
        (ETAG, directives.etag.as_ref().map(|tag| quoted(tag))),
        (LAST_MODIFIED, directives.modified_ago.map(|secs| ago(now, secs))),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            set(&mut fields, name, &value);
        }
    }
    for (name, value) in &directives.fields {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            fields.append(name, value);
        }
    }
    fields
}

fn quoted(tag: &str) -> String {
    if tag.starts_with('"') || tag.starts_with("W/") { tag.to_owned() } else { format!("\"{tag}\"") }
}

fn ago(now: SystemTime, secs: u64) -> String {
    httpdate::fmt_http_date(now.checked_sub(Duration::from_secs(secs)).unwrap_or(SystemTime::UNIX_EPOCH))
}

/// Zero without `vary`; else a number that follows from the fields it names.
fn variant_seed(directives: &Directives, request: &HeaderMap) -> u64 {
    let names = directives.vary.iter().flat_map(|names| names.split(',')).map(str::trim);
    let values = names.flat_map(|name| request.get_all(name)).flat_map(|value| value.as_bytes());
    values.fold(0, |hash: u64, byte| hash.wrapping_mul(0x0000_0100_0000_01b3).wrapping_add(u64::from(*byte)))
}

fn too_long(status: StatusCode, fields: &HeaderMap, seed: u64, size: u64) -> Vec<u8> {
    let mut wire = format!("HTTP/1.1 {} OK\r\ncontent-length: {size}\r\n", status.as_u16()).into_bytes();
    for (name, value) in fields {
        wire.extend_from_slice(name.as_str().as_bytes());
        wire.extend_from_slice(b": ");
        wire.extend_from_slice(value.as_bytes());
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"\r\n");
    wire.extend_from_slice(&body::bytes(seed, 0, size + 10));
    wire
}

/// What of a representation is sent.
#[derive(Debug, Clone, Copy)]
enum Part {
    Whole,
    Range(u64, u64),
    NotModified,
    Unsatisfiable,
}

/// Conditions, then one range (RFC 9110 §13.2.2, §14.2); of several ranges the whole is sent.
fn select(request: &HeaderMap, fields: &HeaderMap, size: u64) -> Part {
    let (tag, modified) = (text_of(fields, &ETAG), text_of(fields, &LAST_MODIFIED));
    if let Some(wanted) = text_of(request, &IF_NONE_MATCH) {
        let weak = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        let known = tag.is_some_and(|tag| wanted.split(',').any(|w| weak(w) == weak(tag)));
        if known || wanted.trim() == "*" {
            return Part::NotModified;
        }
    } else if let (Some(since), Some(modified)) =
        (date_of(request, &IF_MODIFIED_SINCE), date_of(fields, &LAST_MODIFIED))
        && modified <= since
    {
        return Part::NotModified;
    }
    let unchanged = match text_of(request, &IF_RANGE) {
        None => true,
        Some(condition) => Some(condition) == modified || Some(condition) == tag.filter(|tag| !tag.starts_with("W/")),
    };
    match text_of(request, &RANGE).and_then(|range| range.strip_prefix("bytes=")).filter(|_| unchanged) {
        Some(range) => one_range(range, size),
        None => Part::Whole,
    }
}

fn one_range(range: &str, size: u64) -> Part {
    let Some((first, last)) = range.split_once('-') else { return Part::Whole };
    let bounds = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => (first, last.saturating_add(1).min(size)),
        (Ok(first), Err(_)) if last.is_empty() => (first, size),
        (Err(_), Ok(count)) if first.is_empty() => (size.saturating_sub(count), if count == 0 { 0 } else { size }),
        _ => return Part::Whole,
    };
    if bounds.0 < bounds.1 { Part::Range(bounds.0, bounds.1) } else { Part::Unsatisfiable }
}

fn text_of<'f>(fields: &'f HeaderMap, name: &HeaderName) -> Option<&'f str> {
    fields.get(name).and_then(|value| value.to_str().ok())
}

fn date_of(fields: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    text_of(fields, name).and_then(|date| httpdate::parse_http_date(date).ok())
}

/// Caches keep the site for five minutes; browsers ask every time, so that each reload shows what the edge does.
const SITE_CACHE_CONTROL: &str = "public, max-age=0, s-maxage=300, stale-while-revalidate=60";

/// What lets pages of other origins read an answer, its fields and its times.
const OPEN: [(&str, &str); 3] =
    [("access-control-allow-origin", "*"), ("access-control-expose-headers", "*"), ("timing-allow-origin", "*")];

fn asset_response(head: &http::request::Parts, asset: &site::Asset, visit: Visit) -> Response<Body> {
    let mut fields = HeaderMap::new();
    set(&mut fields, CONTENT_TYPE, asset.media_type);
    set(&mut fields, CACHE_CONTROL, SITE_CACHE_CONTROL);
    set(&mut fields, ETAG, &format!("\"{}\"", asset.tag));
    set(&mut fields, ACCEPT_RANGES, "bytes");
    // Pages of other origins (the console) may look at how each file came.
    for (name, value) in OPEN {
        fields.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let size = asset.bytes.len() as u64;
    let part = select(&head.headers, &fields, size);
    let (start, end) = match part {
        Part::Range(start, end) => (start, end),
        _ => (0, size),
    };
    if head.method != Method::HEAD && !matches!(part, Part::NotModified | Part::Unsatisfiable) {
        visit.sent(end - start);
    }
    let placeholder = |at, end| Paced::plain(at, end);
    let mut response = assemble(head, StatusCode::OK, fields, part, size, placeholder, visit);
    if head.method != Method::HEAD && response.status().is_success() {
        let bounds = usize::try_from(start).unwrap_or(0)..usize::try_from(end).unwrap_or(0);
        *response.body_mut() = full(asset.bytes.slice(bounds));
    }
    response
}

/// The request as it came: the proof of what travels through the tiers.
fn echo(head: &http::request::Parts, body: &Bytes, trailers: Option<&HeaderMap>) -> Response<Body> {
    let lines = |fields: &HeaderMap| -> Vec<(String, String)> {
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        fields.iter().map(line).collect()
    };
    json(&serde_json::json!({
        "method": head.method.as_str(),
        "target": head.uri.to_string(),
        "fields": lines(&head.headers),
        "body": String::from_utf8_lossy(body),
        "trailers": trailers.map(lines).unwrap_or_default(),
    }))
}

fn json(value: &impl serde::Serialize) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from(serde_json::to_vec_pretty(value).unwrap_or_default())));
    set(response.headers_mut(), CONTENT_TYPE, "application/json");
    set(response.headers_mut(), CACHE_CONTROL, "no-store");
    response
}

fn text(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from(text.to_owned())));
    *response.status_mut() = status;
    set(response.headers_mut(), CONTENT_TYPE, "text/plain; charset=utf-8");
    response
}

fn set(fields: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        fields.insert(name, value);
    }
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

fn empty() -> Body {
    full(Bytes::new())
}
