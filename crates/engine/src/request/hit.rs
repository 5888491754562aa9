//! Hits: a GET or HEAD that what is stored answers as it is, found without copying anything of the request.
//!
//! It decides nothing by itself: key, store, variants, freshness, conditions and ranges are the same functions that
//! [`super::forward`] asks. What is not plainly one of these cases is left to that.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, StatusCode};
use nearside_config::SiteId;
use nearside_http1::request::is_target;
use nearside_semantics::Timestamp;
use nearside_semantics::conditional::preconditions_hold;
use nearside_semantics::fields::Fields;
use nearside_semantics::key::{Scheme, is_authority};
use nearside_semantics::negotiate::Rewritten;
use nearside_semantics::range::{Part, Span};
use nearside_semantics::reuse::Reuse;
use nearside_store::{Entry, Slot};
use nearside_telemetry::outcome::{Outcome, Verdict};
use nearside_upstream::fields::{PURGES, REFRESH};

use super::Engine;
use super::key::write_fill_key;
use super::respond::{Selected, select};

/// Bodies with more chunks are streamed.
pub const CHUNKS: usize = 30;

/// A request that may be a hit, as its front holds it.
#[derive(Debug, Clone, Copy)]
pub struct Plain<'r, F> {
    /// Whether it is a HEAD.
    pub head_only: bool,
    /// Scheme of the connection.
    pub scheme: Scheme,
    /// Authority.
    pub host: &'r [u8],
    /// Path and query.
    pub target: &'r [u8],
    /// Fields as received.
    pub fields: &'r F,
    /// There is a condition or a range.
    pub selects: bool,
}

/// What answers such a request.
#[derive(Debug)]
pub struct Hit {
    /// The stored response.
    pub entry: Arc<Entry>,
    pub(crate) verdict: Verdict,
    pub(crate) site: SiteId,
    /// The part of it that is sent.
    pub content: Content,
    /// Seconds.
    pub age: u64,
    /// Seconds; negative when stale.
    pub(crate) ttl: i64,
}

/// What of an entry is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// All of it.
    Whole,
    /// All of it, but only the head.
    Head,
    /// One range (206).
    Span(Span),
    /// Nothing: the client has it (304).
    NotModified,
}

/// Room for keys that are only looked up.
#[derive(Debug, Default)]
pub struct Key {
    bytes: Vec<u8>,
    fill: Vec<u8>,
}

/// The hit for a request at `now`, if it is one. `key` is room to work in.
pub fn find(engine: &Engine, plain: &Plain<'_, impl Fields>, now: Timestamp, key: &mut Key) -> Option<Hit> {
    let is_right = plain.target.first() == Some(&b'/') && is_target(plain.target) && is_authority(plain.host);
    if !is_right || !engine.tier.takes_all() {
        return None;
    }
    let site = engine.sites.find(plain.host)?;
    if engine.lags(site) {
        return None;
    }
    let is_varied = engine.write_key(site, plain.scheme, plain.host, plain.target, now, &mut key.bytes);
    let slot = engine.store.lookup(&key.bytes, now)?;
    let mut fields = View { fields: plain.fields, rewritten: Rewritten::default() };
    let entry = entry(engine, site, &slot, &mut fields)?;
    let freshness = entry.freshness(now)?;
    let verdict = match freshness.reuse(now, None) {
        Reuse::Fresh => Verdict::Hit,
        // Under a rule there may be something newer under the URL's own key: the long way looks.
        Reuse::WhileRevalidate if !is_varied && is_refreshed(engine, entry, &fields, key) => Verdict::Updating,
        _ => return None,
    };
    if entry.body.chunks().is_none_or(|chunks| chunks.len() > CHUNKS) {
        return None;
    }
    if plain.selects && !preconditions_hold(&fields, &entry.head.fields, now) {
        return None;
    }
    let selected = if plain.selects {
        select(&entry.head, entry.body.len(), !plain.head_only, &fields, now)
    } else {
        Selected::Part(Part::Whole)
    };
    let content = match selected {
        Selected::Part(Part::Whole) if plain.head_only => Content::Head,
        Selected::Part(Part::Whole) => Content::Whole,
        Selected::Part(Part::Range(span)) => Content::Span(span),
        Selected::NotModified => Content::NotModified,
        Selected::Part(Part::Ranges(_) | Part::Unsatisfiable) => return None,
    };
    let (age, ttl) = (freshness.age(now).as_secs(), freshness.ttl(now));
    Some(Hit { entry: Arc::clone(entry), verdict, site, content, age, ttl })
}

/// The entry that answers, with the fields as the site rewrites them if they matter.
fn entry<'s, F: Fields>(
    engine: &Engine,
    site: SiteId,
    slot: &'s Slot,
    fields: &mut View<'_, F>,
) -> Option<&'s Arc<Entry>> {
    if let Some(sole) = slot.sole() {
        return Some(sole);
    }
    fields.rewritten = engine.rules(site).rewritten(fields.fields);
    slot.select(fields)
}

/// Whether somebody refreshes an entry already, so that nobody need begin.
fn is_refreshed(engine: &Engine, entry: &Entry, fields: &impl Fields, key: &mut Key) -> bool {
    write_fill_key(&key.bytes, false, &entry.vary, fields, &mut key.fill);
    engine.fills.runs(&key.bytes, &key.fill)
}

/// The fields of a request with those in their place that the site rewrites.
struct View<'f, F> {
    fields: &'f F,
    rewritten: Rewritten,
}

impl<F: Fields> Fields for View<'_, F> {
    fn lines<'f>(&'f self, name: &'f HeaderName) -> impl Iterator<Item = &'f [u8]> {
        let rewritten = self.rewritten.value(name).map(str::as_bytes);
        let own = rewritten.is_none().then(|| self.fields.lines(name));
        rewritten.into_iter().chain(own.into_iter().flatten())
    }
}

impl Hit {
    /// Status code of the response.
    pub fn status(&self) -> StatusCode {
        match self.content {
            Content::Whole | Content::Head => self.entry.head.status,
            Content::Span(_) => StatusCode::PARTIAL_CONTENT,
            Content::NotModified => StatusCode::NOT_MODIFIED,
        }
    }

    /// The bytes of the stored body that are sent.
    pub fn span(&self) -> Span {
        match self.content {
            Content::Whole => Span { start: 0, end: self.entry.body.len().unwrap_or(0) },
            Content::Span(span) => span,
            Content::Head | Content::NotModified => Span { start: 0, end: 0 },
        }
    }

    /// How many bytes these are.
    pub fn bytes(&self) -> u64 {
        let span = self.span();
        span.end - span.start
    }

    /// Calls `piece` with the parts of chunks that are sent, in order: the chunk's number, the chunk, and what of it.
    pub fn pieces<'h>(&'h self, mut piece: impl FnMut(usize, &'h Bytes, Range<usize>)) {
        let span = self.span();
        let mut start = 0;
        for (place, chunk) in self.entry.body.chunks().unwrap_or_default().iter().enumerate() {
            let end = start + chunk.len() as u64;
            let (from, to) = (span.start.max(start), span.end.min(end));
            if from < to {
                let within = |at: u64| usize::try_from(at - start).unwrap_or(usize::MAX);
                piece(place, chunk, within(from)..within(to));
            }
            start = end;
        }
    }

    /// Outcome of the request.
    pub fn outcome(&self) -> Outcome {
        let mut outcome = Outcome::new(self.verdict, Some(self.site));
        outcome.ttl = Some(self.ttl);
        outcome
    }
}

/// What a field of a request means for the question whether it may be a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Nothing.
    None,
    /// The only `Host`.
    Host,
    /// A condition or a range.
    Selects,
    /// `Connection: close`
    Closes,
    /// It may change the answer, the framing or the connection otherwise.
    Other,
}

/// The meaning of a field, by its name in any case.
pub fn meaning(engine: &Engine, name: &str, value: &[u8]) -> Meaning {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    let other = match name.as_bytes().first().map(u8::to_ascii_lowercase) {
        Some(b'h') if is("host") => return Meaning::Host,
        Some(b'h') => is("http2-settings"),
        Some(b'c') if is("connection") => return connection(value),
        Some(b'c') => is("content-length") || is("cdn-loop") || (engine.honours_requests && is("cache-control")),
        Some(b'i') if is_condition(name) => return Meaning::Selects,
        Some(b'r') if is("range") => return Meaning::Selects,
        Some(b'p') => engine.honours_requests && is("pragma"),
        // Where spans are sent, a hit has one too.
        Some(b't') => is("transfer-encoding") || (engine.config.traces.otlp.is_some() && is("traceparent")),
        Some(b'e') => is("expect"),
        Some(b'u') => is("upgrade"),
        Some(b'x') => is("x-forwarded-proto"),
        Some(b'n') => is(REFRESH.as_str()) || is(PURGES.as_str()),
        _ => false,
    };
    if other { Meaning::Other } else { Meaning::None }
}

fn is_condition(name: &str) -> bool {
    ["if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range"]
        .iter()
        .any(|condition| name.eq_ignore_ascii_case(condition))
}

fn connection(value: &[u8]) -> Meaning {
    if value.eq_ignore_ascii_case(b"keep-alive") {
        Meaning::None
    } else if value.eq_ignore_ascii_case(b"close") {
        Meaning::Closes
    } else {
        Meaning::Other
    }
}
