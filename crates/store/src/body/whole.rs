//! A body that has all its bytes: immutable, read without a lock.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::{PINNED_BYTES_MIN, collect};
use crate::budget::Charge;

/// Chunks smaller than this on average are joined when the body is whole: a hit then needs few of them per write, and
/// the overhead of a chunk is small against what it holds.
const CHUNK_BYTES_MIN: u64 = 16 * 1024;
/// The size of joined chunks: large enough that a chunk costs nothing, small enough to find room for.
const CHUNK_BYTES: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Whole {
    /// Most bodies are one chunk.
    chunks: SmallVec<[Bytes; 1]>,
    /// Where each chunk ends, so that a reader finds its place by bisection.
    ends: SmallVec<[u64; 1]>,
    /// Goes back when the last reader is gone.
    charge: Option<Charge>,
}

impl Whole {
    pub(super) fn of(chunks: VecDeque<Bytes>, charge: Option<Charge>) -> Self {
        let chunks = joined(chunks);
        let mut end = 0;
        let ends = chunks
            .iter()
            .map(|chunk| {
                end += chunk.len() as u64;
                end
            })
            .collect();
        Self { chunks, ends, charge }
    }

    pub(super) fn len(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Whether its readers are counted.
    pub(super) fn is_large(&self) -> bool {
        self.len() >= PINNED_BYTES_MIN
    }

    /// Counts its bytes as pinned, or not.
    pub(super) fn set_pinned(&self, is_pinned: bool) {
        match &self.charge {
            Some(charge) if is_pinned => charge.pin(),
            Some(charge) => charge.unpin(),
            None => {}
        }
    }

    pub(super) fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    pub(super) fn read(&self, at: u64, limit: u64, list: &mut Vec<Bytes>) -> u64 {
        let first = self.ends.partition_point(|end| *end <= at);
        let before = first.checked_sub(1).and_then(|i| self.ends.get(i)).copied().unwrap_or(0);
        let rest = self.chunks.get(first..).unwrap_or_default();
        collect(rest.iter(), at - before, limit, list)
    }
}

fn joined(chunks: VecDeque<Bytes>) -> SmallVec<[Bytes; 1]> {
    let total: u64 = chunks.iter().map(|c| c.len() as u64).sum();
    if chunks.len() < 2 || total / chunks.len() as u64 >= CHUNK_BYTES_MIN {
        return chunks.into_iter().collect();
    }
    let mut left = usize::try_from(total).unwrap_or(usize::MAX);
    let mut joined = SmallVec::new();
    let mut current = BytesMut::with_capacity(left.min(CHUNK_BYTES));
    for mut chunk in chunks {
        while !chunk.is_empty() {
            let room = current.capacity() - current.len();
            let piece = chunk.split_to(room.min(chunk.len()));
            current.extend_from_slice(&piece);
            left -= piece.len();
            if current.len() == current.capacity() {
                joined.push(std::mem::replace(&mut current, BytesMut::with_capacity(left.min(CHUNK_BYTES))).freeze());
            }
        }
    }
    if !current.is_empty() {
        joined.push(current.freeze());
    }
    joined.shrink_to_fit();
    joined
}
