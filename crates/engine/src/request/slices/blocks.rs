//! Reading a body block by block.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use nearside_semantics::range::Span;
use nearside_semantics::resume::{is_same, strong_validator};
use nearside_store::Read;

use super::Url;
use super::block::BLOCK_BYTES;
use crate::request::parts::AnswerReader;
use crate::request::{AnswerBody, forward};

/// How often a block is asked for again that broke off or was of another representation.
const TRIES_MAX: u32 = 3;

/// A span of a body, block by block.
pub struct Blocks {
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
    /// A reader of a span, before its first block is there. `begun` is the head of the whole, `number` that of its blocks.
    pub(super) fn new(url: Url, begun: HeaderMap, number: u64, whole: u64, span: Span) -> Self {
        Self { url, begun, number, whole, at: span.start, end: span.end, current: None, tries: 0 }
    }

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
                self.url.engine.store.slicings().forget(&self.url.exact, now);
            }
        }
        Read::Cut
    }

    /// Reads on in the block that `at` is in.
    pub(super) fn enter(&mut self, body: AnswerBody) {
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
