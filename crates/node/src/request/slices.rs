//! Bodies in blocks, for sites that switch this on: a large body is asked for, stored and evicted in pieces of 1 MiB, and
//! a range costs no more than the blocks that it touches.
//!
//! Each block is an answer of its own, with its own key, lifetime and fill; here they are put together. What an origin does
//! not send in parts (RFC 9110 §14.2 allows that), or without a strong validator, is stored as a whole, which is
//! remembered.
//!
//! **Invariant:** all blocks of an answer are shown to be of one representation: each carries the validator and the length
//! of the first. When one does not, the blocks of that URL are forgotten, all of them.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use nearside_semantics::key::Scheme;
use nearside_semantics::range::{self, Part, Span};
use nearside_semantics::resume::{content_range, is_same, strong_validator};
use nearside_semantics::storable::NotStorable;
use nearside_store::{Head, Read, Slicing};

use super::finish::Client;
use super::forward::{self, one};
use super::interim::Interims;
use super::parts::AnswerReader;
use super::respond::{Selected, not_modified_fields, partial_fields, precondition_failed, select, unsatisfiable};
use super::{Answer, AnswerBody, AnswerHead, Engine, Request};
use crate::outcome::Verdict;

/// The bytes of a block: as Varnish and nginx users know it, large enough that its head weighs little.
const BLOCK_BYTES: u64 = 1 << 20;
/// RFC 9530 §2: of the bytes of one message.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
/// Obsolete, of the same.
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
/// How often a block is asked for again that broke off or was of another representation.
const TRIES_MAX: u32 = 3;

/// A block of a URL's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// What the store knows the blocks of the URL by.
    number: u64,
    /// Counted from 0.
    index: u64,
}

impl Block {
    /// The key of the block of a URL, of which this is the exact key.
    pub(crate) fn key(&self, exact: &[u8]) -> Box<[u8]> {
        let mut key = Vec::with_capacity(exact.len() + 18);
        key.extend_from_slice(exact);
        // No target holds a line feed, and what rules about queries make of a key is longer behind it.
        key.extend_from_slice(b"\n#");
        key.extend_from_slice(&self.number.to_be_bytes());
        key.extend_from_slice(&self.index.to_be_bytes());
        key.into()
    }

    /// The bytes that are asked for.
    pub(crate) fn range(&self) -> Option<HeaderValue> {
        let start = self.index.saturating_mul(BLOCK_BYTES);
        HeaderValue::try_from(format!("bytes={start}-{}", start.saturating_add(BLOCK_BYTES - 1))).ok()
    }

    /// The bytes of the block in a body of `whole` bytes.
    fn span(&self, whole: u64) -> Span {
        let start = self.index.saturating_mul(BLOCK_BYTES);
        Span { start, end: start.saturating_add(BLOCK_BYTES).min(whole) }
    }

    /// Whether an answer is just this block, of something that can be put together.
    pub(crate) fn is_answered_by(&self, status: StatusCode, fields: &HeaderMap) -> bool {
        status == StatusCode::PARTIAL_CONTENT && self.whole(fields).is_some()
    }

    /// The length of the whole, of which an answer is just this block.
    fn whole(&self, fields: &HeaderMap) -> Option<u64> {
        let (span, whole) = content_range(fields)?;
        (span == self.span(whole)).then_some(whole)
    }
}

/// Answers a GET or HEAD from blocks; `None` where the URL is not stored so.
pub(crate) async fn answer(engine: &Arc<Engine>, site: usize, request: &Request) -> Option<Answer> {
    if !engine.rules(site).slice {
        return None;
    }
    let url = Url::new(engine, site, request);
    let now = engine.clock.now();
    if engine.store.lookup(&url.exact, now).is_some() {
        // What is there as a whole is not asked for in parts.
        return None;
    }
    let gets = request.method == Method::GET;
    let first = range::first_byte(&request.fields).filter(|_| gets).unwrap_or(0) / BLOCK_BYTES;
    let (mut block, mut answer) = url.ask(first).await?;
    if answer.status == StatusCode::RANGE_NOT_SATISFIABLE && first > 0 {
        // Conditions come first, and the range may be invalid, or one of several: what there is decides.
        (block, answer) = url.ask(0).await?;
    }
    if answer.status.is_server_error() {
        return Some(answer);
    }
    let fields = answer.head.fields();
    let cuts = answer.status == StatusCode::PARTIAL_CONTENT
        && strong_validator(fields, engine.clock.now()).is_some()
        && !fields.contains_key(CONTENT_ENCODING);
    match block.whole(fields).filter(|_| cuts) {
        Some(whole) if is_kept(&answer) => Some(url.assemble(request, block, answer, whole)),
        _ => {
            if shows_whole(&answer) {
                engine.store.keep_whole(&url.exact, engine.clock.now());
            }
            None
        }
    }
}

/// Whether an answer shows that the URL cannot be stored in blocks, whoever asks. A refusal, or what is not stored because
/// of the request, says nothing about others.
fn shows_whole(answer: &Answer) -> bool {
    let own = [NotStorable::Authorization, NotStorable::RequestNoStore].map(NotStorable::token);
    let is_own = answer.outcome.reason.is_some_and(|reason| own.contains(&reason));
    !is_own && [StatusCode::OK, StatusCode::PARTIAL_CONTENT].contains(&answer.status)
}

/// Whether an answer is, or is being, stored; or would be, were there room.
fn is_kept(answer: &Answer) -> bool {
    let outcome = &answer.outcome;
    let stored = matches!(
        outcome.verdict,
        Verdict::Hit | Verdict::Stale | Verdict::Updating | Verdict::Revalidated | Verdict::Collapsed
    );
    stored || outcome.stored || outcome.reason == Some("no-room")
}

/// What is asked for in blocks, and how.
struct Url {
    engine: Arc<Engine>,
    site: usize,
    exact: Box<[u8]>,
    scheme: Scheme,
    authority: HeaderValue,
    target: Bytes,
    version: Version,
    client: Client,
    /// Without conditions and ranges.
    fields: HeaderMap,
}

impl Url {
    fn new(engine: &Arc<Engine>, site: usize, request: &Request) -> Self {
        let mut fields = request.fields.clone();
        for name in [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE, RANGE] {
            fields.remove(name);
        }
        // A coding of the whole cannot be cut.
        fields.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let scheme = engine.client_scheme(request);
        Self {
            engine: Arc::clone(engine),
            site,
            exact: engine.exact_key(site, scheme, request.authority.as_bytes(), &request.target),
            scheme: request.scheme,
            authority: request.authority.clone(),
            target: request.target.clone(),
            version: request.version,
            client: request.client,
            fields,
        }
    }

    /// The request for a block; `None` if the URL is not stored in blocks.
    fn request(&self, index: u64) -> Option<(Block, Request)> {
        let Slicing::Blocks(number) = self.engine.store.slicing(&self.exact, self.engine.clock.now()) else {
            return None;
        };
        let block = Block { number, index };
        let request = Request {
            method: Method::GET,
            scheme: self.scheme,
            authority: self.authority.clone(),
            target: self.target.clone(),
            version: self.version,
            fields: self.fields.clone(),
            client: self.client,
            interims: Interims::none(),
            block: Some(block),
        };
        Some((block, request))
    }

    async fn ask(&self, index: u64) -> Option<(Block, Answer)> {
        let (block, request) = self.request(index)?;
        Some((block, one(&self.engine, self.site, &request).await))
    }

    /// The answer to a client's request, whose first block is there.
    fn assemble(self, request: &Request, block: Block, answer: Answer, whole: u64) -> Answer {
        let Answer { head, body, age, outcome, .. } = answer;
        let mut fields = head.fields().clone();
        for of_the_block in [CONTENT_RANGE, CONTENT_DIGEST, CONTENT_MD5] {
            fields.remove(of_the_block);
        }
        fields.insert(CONTENT_LENGTH, HeaderValue::from(whole));
        let head = Head { status: StatusCode::OK, fields, wire: Bytes::new() };
        let gets = request.method == Method::GET;
        let selected = select(&head, Some(whole), gets, &request.fields, self.engine.clock.now());
        let begun = head.fields.clone();
        let (status, fields, span) = match selected {
            Selected::NotModified => {
                let fields = not_modified_fields(&head.fields, self.engine.tier.serves_caches());
                (StatusCode::NOT_MODIFIED, fields, None)
            }
            Selected::PreconditionFailed => return precondition_failed(outcome),
            Selected::Part(Part::Unsatisfiable) => return unsatisfiable(Some(whole), outcome),
            Selected::Part(Part::Range(span)) => {
                (StatusCode::PARTIAL_CONTENT, partial_fields(&head.fields, span, Some(whole)), Some(span))
            }
            // Several ranges: "a server MAY ignore the Range header field" (§14.2).
            Selected::Part(Part::Whole | Part::Ranges(_)) => {
                (StatusCode::OK, head.fields, Some(Span { start: 0, end: whole }))
            }
        };
        let body = match span.filter(|_| gets) {
            None => AnswerBody::None,
            Some(span) => {
                let mut blocks = Blocks {
                    url: self,
                    begun,
                    number: block.number,
                    whole,
                    at: span.start,
                    end: span.end,
                    current: None,
                    tries: 0,
                };
                if span.start / BLOCK_BYTES == block.index {
                    blocks.enter(body);
                }
                let length = Some(span.end - span.start);
                AnswerBody::Reader { reader: AnswerReader::Blocks(Box::new(blocks)), length }
            }
        };
        Answer { status, head: AnswerHead::Own(fields), body, age, outcome }
    }
}

/// A span of a body, block by block.
pub(crate) struct Blocks {
    url: Url,
    /// The head of the whole.
    begun: HeaderMap,
    /// Of its blocks.
    number: u64,
    whole: u64,
    at: u64,
    end: u64,
    /// The block that `at` is in, once it is asked for.
    current: Option<AnswerReader>,
    /// Since the last byte.
    tries: u32,
}

impl std::fmt::Debug for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blocks").field("at", &self.at).field("end", &self.end).finish_non_exhaustive()
    }
}

impl Blocks {
    /// As [`nearside_store::BodyReader::poll`].
    pub(crate) fn poll(&mut self, limit: u64, list: &mut Vec<Bytes>) -> Read {
        if self.at == self.end {
            return Read::End;
        }
        let left = self.left_in_block();
        let Some(current) = &mut self.current else { return Read::Pending };
        let before = list.len();
        let read = current.poll(limit.min(left), list);
        self.took(read, list.get(before..).unwrap_or_default())
    }

    /// As [`nearside_store::BodyReader::read`].
    pub(crate) async fn read(&mut self, limit: u64, list: &mut Vec<Bytes>) -> Read {
        loop {
            match self.poll(limit, list) {
                Read::Pending => {}
                read => return read,
            }
            let left = self.left_in_block();
            let read = match &mut self.current {
                // On the heap: it may be one that reads blocks itself, as far as its type can tell.
                Some(current) => {
                    let before = list.len();
                    let read = Box::pin(current.read(limit.min(left), list)).await;
                    self.took(read, list.get(before..).unwrap_or_default())
                }
                None => Box::pin(self.next_block()).await,
            };
            if read != Read::Pending {
                return read;
            }
        }
    }

    /// The bytes that are still wanted of the current block.
    fn left_in_block(&self) -> u64 {
        let block_end = (self.at / BLOCK_BYTES + 1) * BLOCK_BYTES;
        block_end.min(self.end) - self.at
    }

    /// Counts what was read. At the end of a block the next one is due; one that broke off is due again.
    fn took(&mut self, read: Read, chunks: &[Bytes]) -> Read {
        let bytes: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        if bytes > 0 {
            self.tries = 0;
        }
        let block = self.at / BLOCK_BYTES;
        self.at += bytes;
        if self.at / BLOCK_BYTES != block || self.at == self.end || matches!(read, Read::End | Read::Cut) {
            self.current = None;
        }
        if matches!(read, Read::End | Read::Cut) { Read::Pending } else { read }
    }

    /// Gets hold of the block that `at` is in, and has the one behind it fetched.
    async fn next_block(&mut self) -> Read {
        while self.tries < TRIES_MAX {
            self.tries += 1;
            let Some((block, answer)) = self.url.ask(self.at / BLOCK_BYTES).await else { return Read::Cut };
            let fields = answer.head.fields();
            let is_block = answer.status == StatusCode::PARTIAL_CONTENT;
            let now = self.url.engine.clock.now();
            let is_same = is_same(fields, &self.begun) && strong_validator(fields, now).is_some();
            if is_block && block.whole(fields) == Some(self.whole) && is_same {
                self.enter(answer.body);
                return Read::Pending;
            }
            if block.number != self.number {
                // Others have begun anew, with something else.
                return Read::Cut;
            }
            if answer.status.is_success() {
                self.url.engine.store.forget_slicing(&self.url.exact, now);
            }
        }
        Read::Cut
    }

    /// Reads on in the block that `at` is in.
    fn enter(&mut self, body: AnswerBody) {
        if let AnswerBody::Reader { reader, .. } = body {
            self.current = reader.skip_to(self.at % BLOCK_BYTES);
        }
        let next = self.at / BLOCK_BYTES + 1;
        if next * BLOCK_BYTES < self.end
            && let Some((_, request)) = self.url.request(next)
        {
            forward::prefetch(&self.url.engine, self.url.site, &request);
        }
    }
}
