//! Finding a hit: a GET or HEAD that what is stored answers as it is.
//!
//! It decides nothing by itself: key, store, variants, freshness, conditions and ranges are the same functions that
//! [`crate::request`] asks. What is not plainly one of these cases is left to that.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::Arc;

use nearside_semantics::Timestamp;
use nearside_semantics::key::{Scheme, is_authority};
use nearside_semantics::range::{Part, Span};
use nearside_semantics::reuse::Reuse;
use nearside_store::{Entry, Slot};

use crate::h1::borrowed::Borrowed;
use crate::h1::request::lines_end_well;
use crate::outcome::Verdict;
use crate::request::Engine;
use crate::request::key::write_fill_key;
use crate::request::respond::{Selected, select};

/// Requests with more fields take the long way.
const FIELDS: usize = 48;
/// Bodies with more chunks are streamed.
pub(super) const CHUNKS: usize = 30;

/// A request that can be answered at once. Places are those of the bytes it was found in.
#[derive(Debug)]
pub(super) struct Hit {
    pub(super) entry: Arc<Entry>,
    pub(super) verdict: Verdict,
    pub(super) site: usize,
    pub(super) head_only: bool,
    pub(super) content: Content,
    pub(super) host: Range<usize>,
    pub(super) target: Range<usize>,
    /// The client wants no more on this connection.
    pub(super) closes: bool,
    /// Behind the head.
    pub(super) end: usize,
}

/// What of an entry is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Whole,
    Span(Span),
    NotModified,
}

/// What the front of the received bytes is.
#[derive(Debug)]
pub(super) enum Found {
    Hit(Hit),
    /// The beginning of a head.
    Partial,
    /// Anything else.
    Other,
}

/// Looks at the front of what was received. `key` is room to work in.
pub(super) fn find(engine: &Engine, input: &[u8], scheme: Scheme, now: Timestamp, key: &mut Key) -> Found {
    let mut lines = [const { MaybeUninit::uninit() }; FIELDS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(input, &mut lines) {
        Ok(httparse::Status::Complete(end)) => {
            hit(engine, input, end, &request, scheme, now, key).map_or(Found::Other, Found::Hit)
        }
        Ok(httparse::Status::Partial) => Found::Partial,
        Err(_) => Found::Other,
    }
}

/// Room for keys that are only looked up.
#[derive(Debug, Default)]
pub(super) struct Key {
    bytes: Vec<u8>,
    fill: Vec<u8>,
}

fn hit(
    engine: &Engine,
    input: &[u8],
    end: usize,
    request: &httparse::Request<'_, '_>,
    scheme: Scheme,
    now: Timestamp,
    key: &mut Key,
) -> Option<Hit> {
    let limits = &engine.config.limits;
    let head = input.get(..end).filter(|head| head.len() <= limits.head_bytes && lines_end_well(head))?;
    if !engine.tier.takes_all() || request.version != Some(1) || request.headers.len() > limits.fields {
        return None;
    }
    let head_only = match request.method? {
        "GET" => false,
        "HEAD" => true,
        _ => return None,
    };
    let target = request.path?.as_bytes();
    let plain = |b: &u8| b.is_ascii_graphic() && *b != b'#';
    if target.first() != Some(&b'/') || !target.iter().all(plain) {
        return None;
    }
    let asked = Asked::of(request.headers, engine)?;
    let site = engine.sites.find(asked.host)?;
    engine.write_key(site, scheme, asked.host, target, &mut key.bytes);
    let slot = engine.store.lookup(&key.bytes)?;
    let mut fields = Borrowed::new(request.headers);
    let entry = entry(engine, site, &slot, &mut fields).filter(|entry| entry.is_alive(now))?;
    let verdict = match entry.freshness.reuse(now, None) {
        Reuse::Fresh => Verdict::Hit,
        Reuse::WhileRevalidate if is_refreshed(engine, entry, &fields, key) => Verdict::Updating,
        _ => return None,
    };
    if entry.body.chunks().is_none_or(|chunks| chunks.len() > CHUNKS) {
        return None;
    }
    let selected = if asked.selects {
        select(&entry.head, entry.body.len(), !head_only, &fields, now)
    } else {
        Selected::Part(Part::Whole)
    };
    let content = match selected {
        Selected::Part(Part::Whole) => Content::Whole,
        Selected::Part(Part::Range(span)) => Content::Span(span),
        Selected::NotModified => Content::NotModified,
        Selected::Part(Part::Ranges(_) | Part::Unsatisfiable) | Selected::PreconditionFailed => return None,
    };
    let (host, target) = (place(head, asked.host), place(head, target));
    Some(Hit { entry: Arc::clone(entry), verdict, site, head_only, content, host, target, closes: asked.closes, end })
}

/// The entry that answers, with the fields as the site rewrites them if they matter.
fn entry<'s>(engine: &Engine, site: usize, slot: &'s Slot, fields: &mut Borrowed<'_>) -> Option<&'s Arc<Entry>> {
    if let Some(sole) = slot.sole() {
        return Some(sole);
    }
    fields.rewritten = engine.rules(site).rewritten(fields);
    slot.select(fields)
}

/// Whether somebody refreshes an entry already, so that nobody need begin.
fn is_refreshed(engine: &Engine, entry: &Entry, fields: &Borrowed<'_>, key: &mut Key) -> bool {
    write_fill_key(&key.bytes, false, &entry.vary, fields, &mut key.fill);
    engine.fills.runs(&key.bytes, &key.fill)
}

/// Where a part of `whole` stands in it.
fn place(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr().saturating_sub(whole.as_ptr().addr());
    start..start + part.len()
}

/// What the fields of a request say that matters here.
struct Asked<'b> {
    host: &'b [u8],
    /// There is a condition or a range.
    selects: bool,
    closes: bool,
}

impl<'b> Asked<'b> {
    /// `None` if there is a field that may change more than that.
    fn of(fields: &[httparse::Header<'b>], engine: &Engine) -> Option<Self> {
        let (mut host, mut selects, mut closes) = (None, false, false);
        for field in fields {
            match judge(field, engine) {
                Field::Plain => {}
                Field::Host if host.is_none() && is_authority(field.value) => host = Some(field.value),
                Field::Selects => selects = true,
                Field::Closes => closes = true,
                Field::Host | Field::Matters => return None,
            }
        }
        Some(Self { host: host?, selects, closes })
    }
}

enum Field {
    /// Does not change the answer.
    Plain,
    Host,
    /// A condition or a range.
    Selects,
    /// `Connection: close`
    Closes,
    /// May change the answer, the framing or the connection otherwise.
    Matters,
}

fn judge(field: &httparse::Header<'_>, engine: &Engine) -> Field {
    let is = |name: &str| field.name.eq_ignore_ascii_case(name);
    let selects = match field.name.as_bytes().first().map(u8::to_ascii_lowercase) {
        Some(b'h') if is("host") => return Field::Host,
        Some(b'c') if is("connection") => return connection(field.value),
        Some(b'r') => is("range"),
        Some(b'i') => {
            is("if-none-match")
                || is("if-modified-since")
                || is("if-match")
                || is("if-unmodified-since")
                || is("if-range")
        }
        _ => false,
    };
    if selects {
        return Field::Selects;
    }
    let matters = match field.name.as_bytes().first().map(u8::to_ascii_lowercase) {
        Some(b'h') => is("http2-settings"),
        Some(b'c') => is("content-length") || is("cdn-loop") || (engine.honours_requests && is("cache-control")),
        Some(b'p') => engine.honours_requests && is("pragma"),
        Some(b't') => is("transfer-encoding"),
        Some(b'e') => is("expect"),
        Some(b'u') => is("upgrade"),
        Some(b'x') => is("x-forwarded-proto"),
        _ => false,
    };
    if matters { Field::Matters } else { Field::Plain }
}

fn connection(value: &[u8]) -> Field {
    if value.eq_ignore_ascii_case(b"keep-alive") {
        Field::Plain
    } else if value.eq_ignore_ascii_case(b"close") {
        Field::Closes
    } else {
        Field::Matters
    }
}
