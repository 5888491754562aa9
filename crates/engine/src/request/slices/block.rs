//! One block: its key, and what of a body it is.

use http::{HeaderMap, HeaderValue, StatusCode};
use nearside_semantics::range::Span;
use nearside_semantics::resume::content_range;

use crate::request::key::LookupKey;

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
    pub(crate) fn key(&self, exact: &[u8]) -> LookupKey {
        let mut key = Vec::with_capacity(exact.len() + 18);
        key.extend_from_slice(exact);
        // No target holds a line feed, and what rules about queries make of a key is longer behind it.
        key.extend_from_slice(b"\n#");
        key.extend_from_slice(&self.number.to_be_bytes());
        key.extend_from_slice(&self.index.to_be_bytes());
        LookupKey::new(key)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{fields, status};

    fn block(index: u64) -> Block {
        Block { number: 1, index }
    }

    #[test]
    fn a_block_is_asked_for_by_its_bytes() {
        for (index, expected) in [
            (0, "bytes=0-1048575"),
            (1, "bytes=1048576-2097151"),
            (u64::MAX, "bytes=18446744073709551615-18446744073709551615"),
        ] {
            assert_eq!(block(index).range().unwrap(), expected, "{index}");
        }
    }

    #[test]
    fn only_the_range_of_the_block_is_its_answer_shorter_at_the_end_of_the_body() {
        for (index, number, range, expected) in [
            (0, 206, "bytes 0-1048575/3000000", Some(3_000_000)),
            (2, 206, "bytes 2097152-2999999/3000000", Some(3_000_000)),
            (0, 206, "bytes 0-4/5", Some(5)),
            (0, 206, "bytes 0-4/3000000", None),
            (1, 206, "bytes 0-1048575/3000000", None),
            (0, 206, "bytes 0-1048575/*", None),
            (0, 206, "", None),
        ] {
            let fields = fields(&[("content-range", range)]);
            assert_eq!(block(index).whole(&fields), expected, "{index} {range}");
            assert_eq!(block(index).is_answered_by(status(number), &fields), expected.is_some(), "{index} {range}");
            assert!(!block(index).is_answered_by(status(200), &fields), "a whole is no block");
        }
    }

    #[test]
    fn blocks_of_other_numbers_have_other_keys() {
        let exact = b"http\na.org\n/p";
        let key = |number, index| Block { number, index }.key(exact);
        assert_eq!(key(1, 0), key(1, 0));
        assert_ne!(key(1, 0), key(1, 1));
        assert_ne!(key(1, 0), key(2, 0), "they were begun anew");
        assert_ne!(key(0, 1), key(1, 0));
    }
}
