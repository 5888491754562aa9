//! Hits that are answered together: their heads side by side in one buffer, their bodies where they are stored, unless
//! they are so small that a copy behind the head is cheaper.
//!
//! A batch is filled, written and logged within one turn, in buffers that all connections of a thread use one after
//! the other. Only what a client does not take at once is copied out, as a [`Backlog`] of references.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::CONTENT_RANGE;
use nearside_engine::request::finish::{Ending, Persistence};
use nearside_engine::request::hit::{self, CHUNKS, Content, Key};
use nearside_engine::request::respond::belongs_in_not_modified;
use nearside_http1::write;
use nearside_semantics::Timestamp;
use nearside_store::{BodyReader, PINNED_BYTES_MIN};
use nearside_telemetry::Protocol;
use nearside_telemetry::clock::instant;
use nearside_telemetry::record::{Client, Record, Requested, Responded, Said, Sent, Times, Truncation};

use super::hit::Hit;
use super::{Connection, Next};
use crate::Worker;
use crate::take_rate::TakeRate;

/// What one write gets at most: as many pieces as the largest hit needs, twice.
pub(super) const SLICES: usize = 2 * (CHUNKS + 1);
/// Bodies up to this size are copied behind their heads: the kernel takes one piece sooner than two, and copies it
/// anyway.
const COPIED_BYTES: u64 = 4 << 10;
/// A batch is written when it holds this much of stored bodies: enough to fill a socket's buffer.
const SHARED_BYTES: u64 = 256 << 10;
/// Or this much that is its own: what a client does not take is copied while it makes up its mind.
const OWN_BYTES: usize = 32 << 10;
/// What is received at once: sixteen usual heads.
const INPUT_BYTES: usize = 16 << 10;

/// What the connections of a thread use one after the other; nothing in it outlives a turn.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(super) input: Vec<u8>,
    pub(crate) key: Key,
    pub(super) batch: Batch,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { input: vec![0; INPUT_BYTES], key: Key::default(), batch: Batch::default() }
    }
}

/// Answers that are written together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    hits: Vec<Hit>,
    /// Heads, and bodies that are small.
    own: Vec<u8>,
    parts: Vec<Part>,
    /// Bytes of chunks.
    shared: u64,
}

/// A part of the answers, in their order.
#[derive(Debug)]
enum Part {
    /// Bytes of the batch.
    Own(Range<usize>),
    /// Bytes of a chunk of the body of a hit, by their numbers.
    Chunk { hit: usize, chunk: usize, range: Range<usize> },
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.hits.is_empty()
    }

    /// Whether the next hit may not find room any more.
    pub(super) fn is_full(&self) -> bool {
        self.parts.len() + CHUNKS + 1 > SLICES || self.shared >= SHARED_BYTES || self.own.len() >= OWN_BYTES
    }

    /// Queues the answer to a hit, all of whose places are `offset` further on in the input.
    pub(super) fn push(&mut self, worker: &Worker, mut hit: Hit, offset: usize, closes: bool, start: Instant) {
        for place in [&mut hit.host, &mut hit.target, &mut hit.agent, &mut hit.referer] {
            *place = place.start + offset..place.end + offset;
        }
        let begin = self.own.len();
        self.write_head(worker, &hit.what);
        let persistence = if closes { Persistence::Closes } else { Persistence::Stays };
        let outcome = hit.what.outcome();
        let ending = Ending { outcome: &outcome, age: Some(hit.what.age), persistence, chunked: false, start };
        worker.engine.end_head(&ending, &mut self.own);
        let is_small = hit.what.bytes() <= COPIED_BYTES;
        if is_small {
            hit.what.pieces(|_, chunk, range| self.own.extend_from_slice(chunk.get(range).unwrap_or_default()));
        }
        let end = self.own.len();
        match self.parts.last_mut() {
            Some(Part::Own(last)) => last.end = end,
            _ => self.parts.push(Part::Own(begin..end)),
        }
        if !is_small {
            let place = self.hits.len();
            hit.what.pieces(|chunk, _, range| self.parts.push(Part::Chunk { hit: place, chunk, range }));
            self.shared += hit.what.bytes();
        }
        hit.end_in_batch = self.own.len() as u64 + self.shared;
        self.hits.push(hit);
    }

    /// The part of a head that the entry does not hold ready.
    fn write_head(&mut self, worker: &Worker, hit: &hit::Hit) {
        let (stored, via) = (&hit.entry.head.fields, worker.engine.via.as_str());
        match hit.content {
            Content::Whole | Content::Head => self.own.extend_from_slice(&hit.entry.head.wire),
            Content::NotModified => {
                let for_cache = worker.engine.tier.serves_caches();
                let belongs = |name: &_| belongs_in_not_modified(name, stored, for_cache);
                write::begin(hit.status(), stored, belongs, &mut self.own);
                write::end(stored, None, via, &mut self.own);
            }
            Content::Span(span) => {
                write::begin(hit.status(), stored, |name| *name != CONTENT_RANGE, &mut self.own);
                self.own.extend_from_slice(b"content-range: ");
                write::content_range(span, hit.entry.body.len().unwrap_or(span.end), &mut self.own);
                self.own.extend_from_slice(b"\r\n");
                write::end(stored, Some(span.end - span.start), via, &mut self.own);
            }
        }
    }

    /// All of it for one write; how many slices there are.
    pub(super) fn slices<'b>(&'b self, slices: &mut [IoSlice<'b>; SLICES]) -> usize {
        for (slice, part) in slices.iter_mut().zip(&self.parts) {
            *slice = IoSlice::new(self.bytes_of(part));
        }
        self.parts.len().min(SLICES)
    }

    fn bytes_of(&self, part: &Part) -> &[u8] {
        match part {
            Part::Own(range) => self.own.get(range.clone()),
            Part::Chunk { range, .. } => self.chunk(part).and_then(|chunk| chunk.get(range.clone())),
        }
        .unwrap_or_default()
    }

    /// The chunk that a part is of.
    fn chunk(&self, part: &Part) -> Option<&Bytes> {
        let Part::Chunk { hit, chunk, .. } = part else { return None };
        self.hits.get(*hit)?.what.entry.body.chunks()?.get(*chunk)
    }

    /// Ends the requests, of whose answers the client has got `written` bytes: logs and counts them.
    pub(super) fn finish(&mut self, whose: &Whose<'_>, input: &[u8], written: u64) {
        for hit in &self.hits {
            whose.finish(hit, input, written);
        }
        self.clear();
    }

    /// What the client has not taken yet after `written` bytes, to be kept while it makes up its mind.
    pub(super) fn backlog(&mut self, written: usize, input: &[u8], times: Times, closing: Closing) -> Backlog {
        let (mut skipped, mut rest) = (written, VecDeque::new());
        for part in &self.parts {
            let bytes = self.bytes_of(part);
            let skip = skipped.min(bytes.len());
            skipped -= skip;
            let left = bytes.get(skip..).unwrap_or_default();
            if !left.is_empty() {
                rest.push_back(self.chunk(part).map_or_else(|| Bytes::copy_from_slice(left), |c| c.slice_ref(left)));
            }
        }
        let hits: Vec<Hit> = self.hits.drain(..).collect();
        self.clear();
        let bodies = hits.iter().filter(|hit| hit.what.bytes() >= PINNED_BYTES_MIN);
        let _readers = bodies.filter_map(|hit| hit.what.entry.body.reader(0)).collect();
        Backlog { rest, hits, _readers, written: written as u64, input: input.into(), times, closing }
    }

    /// Forgets everything, also what a turn has left that did not come to its end.
    pub(super) fn clear(&mut self) {
        self.hits.clear();
        self.own.clear();
        // One head can be large.
        self.own.shrink_to(2 * OWN_BYTES);
        self.parts.clear();
        self.shared = 0;
    }
}

/// Who gets a batch, and since when.
pub(super) struct Whose<'w> {
    pub(super) worker: &'w Worker,
    pub(super) client: Client,
    pub(super) scheme: nearside_semantics::key::Scheme,
    pub(super) times: Times,
    pub(super) now: Timestamp,
}

impl Whose<'_> {
    /// Ends a request, given how many bytes of its batch were written.
    fn finish(&self, hit: &Hit, input: &[u8], written: u64) {
        let missing = hit.end_in_batch.saturating_sub(written);
        let requested = Requested {
            method: hit.method,
            scheme: self.scheme,
            host: input.get(hit.host.clone()).unwrap_or_default(),
            target: input.get(hit.target.clone()).unwrap_or_default(),
            protocol: Protocol::Http11,
            client: self.client,
            trace: None,
            said: Said {
                agent: input.get(hit.agent.clone()).unwrap_or_default(),
                referer: input.get(hit.referer.clone()).unwrap_or_default(),
            },
        };
        let outcome = &hit.what.outcome();
        let responded = Responded { status: hit.what.status(), age: Some(hit.what.age), outcome };
        let sent = Sent {
            bytes: hit.what.bytes().saturating_sub(missing),
            first_byte: None,
            truncation: (missing > 0).then_some(Truncation::ClientGone),
        };
        let record = Record::new(requested, responded, &sent, self.times);
        self.worker.finish(&record, self.now);
    }
}

/// Answers that a client does not take at once: references to what is stored, and a copy of little else.
#[derive(Debug)]
pub(super) struct Backlog {
    rest: VecDeque<Bytes>,
    hits: Vec<Hit>,
    /// Readers of the bodies of these, so that they count as pinned.
    _readers: Vec<BodyReader>,
    input: Box<[u8]>,
    /// Bytes of the batch that the client has got.
    written: u64,
    times: Times,
    closing: Closing,
}

/// What becomes of the connection behind a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    Stays,
    /// The client asked for it, and has sent nothing more.
    Asked,
    /// This node closes it, and what the client sends meanwhile must not take its answers away.
    Own,
}

impl Closing {
    pub(super) fn next(self) -> Next {
        match self {
            Self::Stays => Next::Request,
            Self::Asked => Next::Close,
            Self::Own => Next::CloseUnread,
        }
    }
}

impl Connection<'_> {
    /// Writes a backlog at the client's pace.
    pub(super) async fn work_off(&mut self, mut backlog: Backlog) -> Next {
        let stall = self.worker.engine.config.timeouts.stall;
        let mut gone = false;
        let engine = Arc::clone(&self.worker.engine);
        let mut rate = TakeRate::new(&engine.store);
        loop {
            let mut slices: Vec<IoSlice<'_>> =
                backlog.rest.iter().take(SLICES).map(|bytes| IoSlice::new(bytes)).collect();
            let (count, bytes) = (slices.len(), slices.iter().map(|slice| slice.len() as u64).sum::<u64>());
            if self.io.write_all_at(&mut slices, stall, Some(&mut rate)).await.is_err() {
                gone = true;
                break;
            }
            backlog.written += bytes;
            backlog.rest.drain(..count);
            if backlog.rest.is_empty() {
                break;
            }
        }
        let end = instant();
        let now = self.worker.engine.clock.now();
        let times = Times { end, ..backlog.times };
        let whose = Whose { worker: self.worker, client: self.client, scheme: self.scheme, times, now };
        for hit in &backlog.hits {
            whose.finish(hit, &backlog.input, backlog.written);
        }
        self.idle_since = end;
        if gone { Next::Abort } else { backlog.closing.next() }
    }
}
