//! Hits that are answered together: their heads side by side in one buffer, their bodies where they are stored.
//!
//! A batch is filled, written and logged within one turn, in buffers that all connections of a thread use one after
//! the other. Only what a client does not take at once is copied out, as a [`Backlog`] of references.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;

use bytes::Bytes;
use http::Version;
use http::header::CONTENT_RANGE;
use nearside_semantics::Timestamp;

use super::hit::Hit;
use super::{Connection, Next};
use crate::clock::instant;
use crate::front::Worker;
use crate::h1::write;
use crate::request::finish::{Client, Ending, Persistence, Record, Times};
use crate::request::hit::{self, CHUNKS, Content, Key};
use crate::request::respond::belongs_in_not_modified;

/// What one write gets at most: as many pieces as the largest hit needs, twice.
pub(super) const SLICES: usize = 2 * (CHUNKS + 2);
/// A batch is written when it holds this much: enough to fill a socket's buffer.
const BATCH_BYTES: u64 = 256 << 10;
/// What is received at once: sixteen usual heads.
const INPUT_BYTES: usize = 16 << 10;

/// What the connections of a thread use one after the other; nothing in it outlives a turn.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(super) input: Vec<u8>,
    pub(in crate::front) key: Key,
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
    hits: Vec<Queued>,
    heads: Vec<u8>,
    slices: usize,
    bytes: u64,
}

/// A hit whose head is written.
#[derive(Debug)]
struct Queued {
    hit: Hit,
    head: Range<usize>,
}

/// A piece of an answer.
enum Piece<'p> {
    /// Lives as long as the batch.
    Head(&'p [u8]),
    /// Can be kept.
    Shared(&'p Bytes, Range<usize>),
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.hits.is_empty()
    }

    /// Whether the next hit may not find room any more.
    pub(super) fn is_full(&self) -> bool {
        self.slices + CHUNKS + 2 > SLICES || self.bytes >= BATCH_BYTES
    }

    /// Queues the answer to a hit, all of whose places are `offset` further on in the input.
    pub(super) fn push(&mut self, worker: &Worker, mut hit: Hit, offset: usize, closes: bool) {
        for place in [&mut hit.host, &mut hit.target] {
            *place = place.start + offset..place.end + offset;
        }
        let begin = self.heads.len();
        self.write_head(worker, &hit.what);
        let persistence = if closes { Persistence::Closes } else { Persistence::Stays };
        let ending = Ending { outcome: &hit.what.outcome(), age: Some(hit.what.age), persistence, chunked: false };
        worker.engine.end_head(&ending, &mut self.heads);
        self.bytes += hit.what.bytes();
        let queued = Queued { hit, head: begin..self.heads.len() };
        queued.pieces(&self.heads, &mut |_| self.slices += 1);
        self.hits.push(queued);
    }

    /// The part of a head that the entry does not hold ready.
    fn write_head(&mut self, worker: &Worker, hit: &hit::Hit) {
        let (stored, via) = (&hit.entry.head.fields, worker.engine.via.as_str());
        match hit.content {
            Content::Whole | Content::Head => {}
            Content::NotModified => {
                let for_cache = worker.engine.tier.serves_caches();
                let belongs = |name: &_| belongs_in_not_modified(name, stored, for_cache);
                write::begin(hit.status(), stored, belongs, &mut self.heads);
                write::end(stored, None, via, &mut self.heads);
            }
            Content::Span(span) => {
                write::begin(hit.status(), stored, |name| *name != CONTENT_RANGE, &mut self.heads);
                self.heads.extend_from_slice(b"content-range: ");
                write::content_range(span, hit.entry.body.len().unwrap_or(span.end), &mut self.heads);
                self.heads.extend_from_slice(b"\r\n");
                write::end(stored, Some(span.end - span.start), via, &mut self.heads);
            }
        }
    }

    /// All of it for one write; how many slices there are.
    pub(super) fn slices<'b>(&'b self, slices: &mut [IoSlice<'b>; SLICES]) -> usize {
        let mut count = 0;
        for queued in &self.hits {
            queued.pieces(&self.heads, &mut |piece| {
                if let Some(slice) = slices.get_mut(count) {
                    *slice = IoSlice::new(piece.bytes());
                    count += 1;
                }
            });
        }
        count
    }

    /// Ends the requests: logs and counts them.
    pub(super) fn finish(&mut self, whose: &Whose<'_>, input: &[u8], cut: Option<&'static str>) {
        for queued in self.hits.drain(..) {
            whose.finish(&queued, input, cut);
        }
        self.clear();
    }

    /// What the client has not taken yet after `written` bytes, to be kept while it makes up its mind.
    pub(super) fn backlog(&mut self, mut written: usize, input: &[u8], times: Times, closes: bool) -> Backlog {
        let mut rest = VecDeque::new();
        for queued in &self.hits {
            queued.pieces(&self.heads, &mut |piece| {
                let skip = written.min(piece.bytes().len());
                written -= skip;
                rest.push_back(piece.keep(skip));
            });
        }
        rest.retain(|bytes| !bytes.is_empty());
        let backlog = Backlog { rest, hits: self.hits.drain(..).collect(), input: input.into(), times, closes };
        self.clear();
        backlog
    }

    fn clear(&mut self) {
        self.heads.clear();
        self.slices = 0;
        self.bytes = 0;
    }
}

impl Queued {
    /// Calls `piece` with the pieces of the answer, in order.
    fn pieces<'q>(&'q self, heads: &'q [u8], piece: &mut impl FnMut(Piece<'q>)) {
        let hit = &self.hit.what;
        if matches!(hit.content, Content::Whole | Content::Head) {
            let wire = &hit.entry.head.wire;
            piece(Piece::Shared(wire, 0..wire.len()));
        }
        piece(Piece::Head(heads.get(self.head.clone()).unwrap_or_default()));
        hit.pieces(|chunk, range| piece(Piece::Shared(chunk, range)));
    }
}

impl<'p> Piece<'p> {
    fn bytes(&self) -> &'p [u8] {
        match self {
            Self::Head(bytes) => bytes,
            Self::Shared(bytes, range) => bytes.get(range.clone()).unwrap_or_default(),
        }
    }

    /// All but the first `skip` bytes.
    fn keep(&self, skip: usize) -> Bytes {
        match self {
            Self::Head(bytes) => Bytes::copy_from_slice(bytes.get(skip..).unwrap_or_default()),
            Self::Shared(bytes, range) => bytes.slice(range.start + skip..range.end),
        }
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
    fn finish(&self, queued: &Queued, input: &[u8], cut: Option<&'static str>) {
        let hit = &queued.hit;
        let record = Record {
            method: hit.method,
            scheme: self.scheme,
            host: input.get(hit.host.clone()).unwrap_or_default(),
            target: input.get(hit.target.clone()).unwrap_or_default(),
            version: Version::HTTP_11,
            client: self.client,
            status: hit.what.status(),
            bytes: hit.what.bytes(),
            times: self.times,
            age: Some(hit.what.age),
            cut,
            outcome: &hit.what.outcome(),
        };
        self.worker.finish(&record, self.now);
    }
}

/// Answers that a client does not take at once: references to what is stored, and a copy of little else.
#[derive(Debug)]
pub(super) struct Backlog {
    rest: VecDeque<Bytes>,
    hits: Vec<Queued>,
    input: Box<[u8]>,
    times: Times,
    closes: bool,
}

impl Connection<'_> {
    /// Writes a backlog at the client's pace.
    pub(super) async fn work_off(&mut self, mut backlog: Backlog) -> Next {
        let stall = self.worker.engine.config.timeouts.stall;
        let mut cut = None;
        loop {
            let mut slices: Vec<IoSlice<'_>> =
                backlog.rest.iter().take(SLICES).map(|bytes| IoSlice::new(bytes)).collect();
            let count = slices.len();
            if self.io.write_all(&mut slices, stall).await.is_err() {
                cut = Some("client-gone");
                break;
            }
            backlog.rest.drain(..count);
            if backlog.rest.is_empty() {
                break;
            }
        }
        let end = instant();
        let now = self.worker.engine.clock.now();
        let times = Times { end, ..backlog.times };
        let whose = Whose { worker: self.worker, client: self.client, scheme: self.scheme, times, now };
        for queued in &backlog.hits {
            whose.finish(queued, &backlog.input, cut);
        }
        self.idle_since = end;
        match cut {
            Some(_) => Next::Abort,
            None if backlog.closes => Next::Close,
            None => Next::Request,
        }
    }
}
