//! How URLs are stored whose site cuts bodies into blocks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nearside_semantics::Timestamp;

use crate::table::{self, Op, Table, Value};

/// For a table that is seldom written to.
const SHARDS: usize = 8;
/// How long the number of a URL's blocks is kept: longer than most are fresh.
const BLOCKS_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long it is believed that the answers for a URL cannot be cut.
const WHOLE_FOR: Duration = Duration::from_secs(3600);

/// How the body of a URL is stored whose site cuts bodies into blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slicing {
    /// In blocks, whose keys hold this number: without it none of them is found any more.
    Blocks(u64),
    /// As a whole, as the answers for it cannot be cut.
    Whole,
}

impl Value for Slicing {}

/// How each URL is stored, by exact key.
#[derive(Debug)]
pub struct Slicings {
    table: Table<Slicing>,
    /// The number of the next one.
    next: AtomicU64,
}

impl Slicings {
    pub(crate) fn new(bytes: u64) -> Self {
        Self { table: Table::new(bytes, SHARDS), next: AtomicU64::new(0) }
    }

    /// How a URL is stored, of which this is the exact key; in blocks, if nothing else is known.
    #[must_use]
    pub fn of(&self, exact: &[u8], now: Timestamp) -> Slicing {
        let mut known = self.table.get(exact, now);
        if known.is_none() {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            self.table.compute(exact, now, |old| match old {
                Some(old) => {
                    known = Some(*old);
                    Op::Keep
                }
                None => put(exact, *known.insert(Slicing::Blocks(number)), now.after(BLOCKS_FOR)),
            });
        }
        known.unwrap_or(Slicing::Whole)
    }

    /// As [`of`](Self::of), but nothing is remembered: where nothing is known, the number is one under which nothing is stored.
    #[must_use]
    pub fn peek(&self, exact: &[u8], now: Timestamp) -> Slicing {
        let unknown = || Slicing::Blocks(self.next.load(Ordering::Relaxed));
        self.table.get(exact, now).unwrap_or_else(unknown)
    }

    /// Whether there may be blocks of a URL.
    #[must_use]
    pub fn has_blocks(&self, exact: &[u8], now: Timestamp) -> bool {
        matches!(self.table.get(exact, now), Some(Slicing::Blocks(_)))
    }

    /// Remembers for a while that the answers for a URL cannot be cut.
    pub fn keep_whole(&self, exact: &[u8], now: Timestamp) {
        self.table.compute(exact, now, |_| put(exact, Slicing::Whole, now.after(WHOLE_FOR)));
    }

    /// Makes all blocks of a URL unreachable; whether there may have been some.
    pub fn forget(&self, exact: &[u8], now: Timestamp) -> bool {
        matches!(self.table.remove(exact, now), Some(Slicing::Blocks(_)))
    }
}

fn put(exact: &[u8], value: Slicing, until: Timestamp) -> Op<Slicing> {
    Op::Put { value, weight: exact.len() as u64 + table::OVERHEAD_BYTES, until }
}
