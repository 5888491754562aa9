//! The fast path: a plain GET or HEAD of something fresh, answered from borrowed bytes.
//!
//! It decides nothing by itself: key, store and freshness are the same functions that [`crate::request`] asks. What is
//! not plainly the simple case is left to that.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::sync::Arc;

use http::{StatusCode, Version};
use nearside_semantics::key::{Scheme, is_authority};
use nearside_semantics::reuse::Reuse;
use nearside_store::Entry;

use super::{Connection, Next};
use crate::clock::instant;
use crate::h1::request::lines_end_well;
use crate::outcome::{Outcome, Verdict};
use crate::request::Engine;
use crate::request::finish::{Ending, Persistence, Record, Times};

/// Requests with more fields take the long way.
const FIELDS: usize = 48;
/// Bodies with more chunks are streamed.
const CHUNKS: usize = 30;

/// A request that the fast path can answer.
struct Hit<'b> {
    head_only: bool,
    host: &'b [u8],
    target: &'b [u8],
    site: usize,
    entry: Arc<Entry>,
}

impl Connection<'_> {
    /// Answers the head at the front of the buffer, if it is a plain hit.
    pub(super) async fn try_hit(&mut self, end: usize) -> Option<Next> {
        let start = instant();
        let engine = &self.worker.engine;
        let now = engine.clock.now();
        let head = self.buffer.get(..end)?;
        let hit = find(engine, head, self.scheme, now, &mut self.key)?;
        let mut outcome = Outcome::new(Verdict::Hit, Some(hit.site));
        outcome.ttl = Some(hit.entry.freshness.ttl(now));
        let age = hit.entry.freshness.age(now).as_secs();
        let closes = self.worker.is_draining() || self.requests >= engine.config.limits.requests_per_connection;
        let persistence = if closes { Persistence::Closes } else { Persistence::Stays };
        self.head.clear();
        let ending = Ending { outcome: &outcome, age: Some(age), persistence, chunked: false };
        engine.end_head(&ending, &mut self.head);

        let chunks = hit.entry.body.chunks().filter(|_| !hit.head_only).unwrap_or_default();
        let mut slices = [IoSlice::new(&[]); CHUNKS + 2];
        let parts = [&hit.entry.head.wire[..], &self.head].into_iter().chain(chunks.iter().map(|chunk| &chunk[..]));
        let mut count = 0;
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
            count += 1;
        }
        let sent = self.io.write_all(slices.get_mut(..count)?, engine.config.timeouts.stall).await;
        let done = instant();
        let record = Record {
            method: if hit.head_only { "HEAD" } else { "GET" },
            scheme: self.scheme,
            host: hit.host,
            target: hit.target,
            version: Version::HTTP_11,
            client: self.client,
            status: hit.entry.head.status,
            bytes: if hit.head_only { 0 } else { hit.entry.body.len().unwrap_or(0) },
            times: Times { start, first_byte: done, end: done },
            age: Some(age),
            cut: sent.is_err().then_some("client-gone"),
            outcome: &outcome,
        };
        self.worker.finish(&record, now);
        self.idle_since = done;
        self.consume(end);
        Some(if sent.is_err() || closes { Next::Close } else { Next::Request })
    }
}

/// The fresh entry that a plain request gets.
fn find<'b>(
    engine: &Engine,
    head: &'b [u8],
    scheme: Scheme,
    now: nearside_semantics::Timestamp,
    key: &mut Vec<u8>,
) -> Option<Hit<'b>> {
    if !engine.tier.takes_all() {
        return None;
    }
    let mut lines = [const { MaybeUninit::uninit() }; FIELDS];
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(head, &mut lines).ok()?;
    if parsed.is_partial() || request.version != Some(1) || request.headers.len() > engine.config.limits.fields {
        return None;
    }
    let head_only = match request.method? {
        "GET" => false,
        "HEAD" => true,
        _ => return None,
    };
    let target = request.path?.as_bytes();
    let plain = |b: &u8| b.is_ascii_graphic() && *b != b'#';
    if target.first() != Some(&b'/') || !target.iter().all(plain) || !lines_end_well(head) {
        return None;
    }
    let host = plain_host(request.headers, engine)?;
    let site = engine.sites.find(host)?;
    engine.write_key(site, scheme, host, target, key);
    let slot = engine.store.lookup(key)?;
    let entry = slot.sole().filter(|entry| entry.is_alive(now))?;
    let fits = entry.body.chunks().is_some_and(|chunks| chunks.len() <= CHUNKS);
    if !fits || entry.head.status != StatusCode::OK || entry.freshness.reuse(now, None) != Reuse::Fresh {
        return None;
    }
    Some(Hit { head_only, host, target, site, entry: Arc::clone(entry) })
}

/// The host of a request all of whose fields leave the answer alone.
fn plain_host<'b>(fields: &[httparse::Header<'b>], engine: &Engine) -> Option<&'b [u8]> {
    let mut host = None;
    for field in fields {
        match judge(field, engine) {
            Field::Plain => {}
            Field::Host if host.is_none() && is_authority(field.value) => host = Some(field.value),
            Field::Host | Field::Matters => return None,
        }
    }
    host
}

enum Field {
    /// Does not change the answer.
    Plain,
    Host,
    /// May change the answer, the framing or the connection.
    Matters,
}

fn judge(field: &httparse::Header<'_>, engine: &Engine) -> Field {
    let is = |name: &str| field.name.eq_ignore_ascii_case(name);
    let matters = match field.name.as_bytes().first().map(u8::to_ascii_lowercase) {
        Some(b'h') if is("host") => return Field::Host,
        Some(b'h') => is("http2-settings"),
        Some(b'c') => {
            (is("connection") && !field.value.eq_ignore_ascii_case(b"keep-alive"))
                || is("content-length")
                || is("cdn-loop")
                || (is("cache-control") && honours_requests(engine))
        }
        Some(b'p') => is("pragma") && honours_requests(engine),
        Some(b't') => is("transfer-encoding"),
        Some(b'r') => is("range"),
        Some(b'i') => is("if-none-match") || is("if-modified-since") || is("if-match") || is("if-unmodified-since"),
        Some(b'e') => is("expect"),
        Some(b'u') => is("upgrade"),
        Some(b'x') => is("x-forwarded-proto"),
        _ => false,
    };
    if matters { Field::Matters } else { Field::Plain }
}

fn honours_requests(engine: &Engine) -> bool {
    engine.honours_requests
}
