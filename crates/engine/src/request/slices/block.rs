//! One block: its key, and what of a body it is.

use http::{HeaderMap, HeaderValue, StatusCode};
use nearside_semantics::range::Span;
use nearside_semantics::resume::content_range;

/// The bytes of a block: as Varnish and nginx users know it, large enough that its head weighs little.
pub(super) const BLOCK_BYTES: u64 = 1 << 20;

/// A block of a URL's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// What the store knows the blocks of the URL by.
    pub(super) number: u64,
    /// Counted from 0.
    pub(crate) index: u64,
}

impl Block {
    /// The first block of a URL that nothing else is known of.
    #[cfg(test)]
    pub(crate) fn first() -> Self {
        Self { number: 1, index: 0 }
    }

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
    pub(super) fn whole(&self, fields: &HeaderMap) -> Option<u64> {
        let (span, whole) = content_range(fields)?;
        (span == self.span(whole)).then_some(whole)
    }
}
