//! A table in memory that is bounded by bytes: it makes room at once, and only as much as is asked for.
//!
//! Keys are spread over shards by their hash; each shard decides by itself what goes first (S3-FIFO, see
//! [`shard`]), the weight that is bounded is that of the whole table. A hit takes a shard's lock for reading, notes that
//! the entry was used, and moves nothing. There is no clock here: callers say what time it is. What is evicted, replaced
//! or dead is dropped by the thread that met it, outside of the lock.
//!
//! **Invariant:** when a call returns, its thread has left the weight within the capacity; what others are putting at
//! that moment is the most by which the sum can exceed it. No two shards are locked at a time.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use nearside_semantics::Timestamp;
use parking_lot::RwLock;

mod ghosts;
mod queue;
mod shard;
mod slab;

use shard::{Evict, Garbage, Shard};

pub use shard::Evictions;

/// Shards of tables that are seldom written to.
pub(crate) const SMALL_TABLE_SHARDS: usize = 8;

/// What an entry takes beyond its key and its value: its node, its part of the index and of the memory of ghosts, with
/// room to grow, and what the allocator adds to the key. Measured: see docs/decisions/0005.
pub(crate) const OVERHEAD_BYTES: u64 = 96;

/// So many places are looked at before others get a shard's lock.
const WALK_STEP: u32 = 256;

/// What a table keeps: cheap to clone, such as an `Arc`.
pub(crate) trait Value: Clone {
    /// Whether others hold it besides the table: then evicting it would free nothing yet.
    fn is_held(&self) -> bool {
        false
    }
}

/// What becomes of a key.
#[derive(Debug)]
pub(crate) enum Op<V> {
    /// It has this value from now on.
    Put {
        /// What is kept.
        value: V,
        /// The bytes that it takes, key and all.
        weight: u64,
        /// From this moment on it is as if it were not there.
        until: Timestamp,
    },
    /// It has none any more.
    Remove,
    /// It stays as it is.
    Keep,
}

/// A table of at most a fixed weight.
#[derive(Debug)]
pub(crate) struct Table<V> {
    shards: Box<[Cell<V>]>,
    hasher: ahash::RandomState,
    capacity: u64,
    weight: AtomicU64,
    /// Where the next search for something to evict begins.
    next: AtomicUsize,
}

/// A shard with its lock, on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Cell<V> {
    shard: RwLock<Shard<V>>,
    /// How many entries it has, to be read without the lock.
    len: AtomicUsize,
}

/// An entry that has just been put: the last that should go.
#[derive(Debug, Clone, Copy)]
struct Newest {
    shard: usize,
    at: u32,
}

impl<V: Value> Table<V> {
    /// An empty table of at most `capacity` bytes; `shards` is rounded up to a power of two.
    pub(crate) fn new(capacity: u64, shards: usize) -> Self {
        let shards = shards.clamp(1, 1 << 16).next_power_of_two();
        let cell = || Cell { shard: RwLock::new(Shard::default()), len: AtomicUsize::new(0) };
        Self {
            shards: std::iter::repeat_with(cell).take(shards).collect(),
            hasher: ahash::RandomState::new(),
            // So that sums cannot overflow.
            capacity: capacity.min(u64::MAX / 4),
            weight: AtomicU64::new(0),
            next: AtomicUsize::new(0),
        }
    }

    /// What is kept under a key.
    pub(crate) fn get(&self, key: &[u8], now: Timestamp) -> Option<V> {
        let (place, tag) = self.place(key);
        self.cell(place).shard.read().get(tag, key, now)
    }

    /// Decides what becomes of a key, with the value that it has, while nobody else can; returns what it has no more.
    pub(crate) fn compute(&self, key: &[u8], now: Timestamp, decide: impl FnOnce(Option<&V>) -> Op<V>) -> Option<V> {
        let (place, tag) = self.place(key);
        let mut put = None;
        let old = self.change(place, |shard, garbage| {
            let at = shard.find(tag, key);
            match decide(at.and_then(|at| shard.living(at, now))) {
                Op::Keep => None,
                Op::Put { value, weight, until } if weight <= self.capacity => {
                    let (at, old) = shard.put(at, tag, key, (value, weight, until));
                    put = at.map(|at| Newest { shard: place, at });
                    shard.sweep(now, garbage);
                    old
                }
                // What is too heavy is not kept, and what it would have replaced neither.
                Op::Put { .. } | Op::Remove => at.and_then(|at| shard.remove(at, now, garbage)),
            }
        });
        let excess = self.weight().saturating_sub(self.capacity);
        if excess > 0 {
            self.free(excess, now, put, true);
        }
        old
    }

    /// Removes a key; returns what it had.
    pub(crate) fn remove(&self, key: &[u8], now: Timestamp) -> Option<V> {
        self.compute(key, now, |_| Op::Remove)
    }

    /// Evicts until `bytes` are free, dead entries first; returns how many are, which may be a few more, or less where
    /// all that is left is held.
    pub(crate) fn evict(&self, bytes: u64, now: Timestamp) -> u64 {
        self.free(bytes, now, None, false)
    }

    /// Calls `found` with every key of which `wanted` says so, a few at a time: a lock is held for some microseconds only,
    /// for reading, and not while `found` runs. What is put meanwhile may be met or not.
    pub(crate) fn walk(&self, wanted: impl Fn(&[u8], &V) -> bool, mut found: impl FnMut(&[u8])) {
        for cell in &self.shards {
            let mut from = Some(0);
            while let Some(at) = from {
                let (keys, next) = cell.shard.read().scan(at, WALK_STEP, &wanted);
                keys.iter().for_each(|key| found(key));
                from = next;
            }
        }
    }

    /// The weight of all entries.
    pub(crate) fn weight(&self) -> u64 {
        self.weight.load(Ordering::Relaxed)
    }

    /// How many entries have made room for others.
    pub(crate) fn evictions(&self) -> Evictions {
        self.shards
            .iter()
            .map(|cell| cell.shard.read().evictions)
            .fold(Evictions::default(), |sum, one| Evictions { room: sum.room + one.room, dead: sum.dead + one.dead })
    }

    /// The number of entries, dead ones that nobody has met yet among them.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|cell| cell.len.load(Ordering::Relaxed)).sum()
    }

    /// Frees `bytes`, going round the shards: a share in each, or in another where there is more to choose from, until
    /// it is done or a round has brought nothing. After that in all of them; then also what is held, if `must`.
    fn free(&self, bytes: u64, now: Timestamp, newest: Option<Newest>, must: bool) -> u64 {
        let shards = self.shards.len();
        let share = (bytes / shards as u64).max(1);
        let (mut freed, mut all, mut held) = (0, false, false);
        loop {
            let before = freed;
            let start = self.next.fetch_add(1, Ordering::Relaxed);
            for step in 0..shards {
                let turn = start.wrapping_add(step);
                let place = turn & (shards - 1);
                let place = if all { place } else { self.fuller(place, turn) };
                let spare = newest.filter(|newest| newest.shard == place).map(|newest| newest.at);
                let evict = Evict { bytes: share.min(bytes - freed), now, spare, held };
                freed += self.change(place, |shard, garbage| shard.evict(&evict, garbage));
                if freed >= bytes {
                    return freed;
                }
            }
            if freed == before {
                match (all, held) {
                    (false, _) => all = true,
                    (true, false) if must => held = true,
                    _ => return freed,
                }
            }
        }
    }

    /// Of a shard and one that is as good as drawn, the one with more entries: so none is emptied while others fill.
    fn fuller(&self, place: usize, turn: usize) -> usize {
        let drawn = turn.wrapping_mul(0x9e37_79b9) >> 16 & (self.shards.len() - 1);
        let len = |place| self.cell(place).len.load(Ordering::Relaxed);
        if len(drawn) > len(place) { drawn } else { place }
    }

    /// Changes a shard, and counts what that changes. What falls out of it is dropped after its lock is released.
    fn change<R>(&self, place: usize, change: impl FnOnce(&mut Shard<V>, &mut Garbage<V>) -> R) -> R {
        let cell = self.cell(place);
        let mut garbage = Garbage::new();
        let mut shard = cell.shard.write();
        let weight = shard.weight();
        let result = change(&mut shard, &mut garbage);
        // Relaxed: the numbers guard nothing. To add a difference that has wrapped is to subtract.
        self.weight.fetch_add(shard.weight().wrapping_sub(weight), Ordering::Relaxed);
        cell.len.store(shard.len(), Ordering::Relaxed);
        drop(shard);
        result
    }

    /// The shard of a key, and what stands for the key in it.
    fn place(&self, key: &[u8]) -> (usize, u32) {
        let hash = self.hasher.hash_one(key);
        #[expect(clippy::cast_possible_truncation, reason = "each half is for something else")]
        ((hash >> 32) as usize & (self.shards.len() - 1), hash as u32)
    }

    #[expect(clippy::indexing_slicing, reason = "places are masked with the number of shards, a power of two")]
    fn cell(&self, place: usize) -> &Cell<V> {
        &self.shards[place]
    }
}

#[cfg(test)]
mod tests;
