//! One shard of a table, and what goes first: S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction",
//! SOSP 2023), with weights.
//!
//! What comes enters a small queue; at its end, what was used since moves on to the main queue, the rest is evicted. What
//! comes back soon after that enters the main queue at once. There, what was used goes round again and is a use poorer.
//! So what is asked for once passes through a tenth of the weight and leaves the rest alone.
//!
//! Departures: what is held is passed over, as its memory would stay taken; a dead entry goes where it is met; after
//! [`LOOKS`] entries that all were used, one is evicted all the same, so that no step grows with the number of entries.

use std::sync::atomic::{AtomicU8, Ordering};

use hashbrown::HashTable;
use nearside_semantics::Timestamp;

use super::Value;
use super::ghosts::Ghosts;
use super::queue::Queue;
use super::slab::{NONE, Node, Slab};

/// The small queue's share of the weight: one in so many.
const SMALL_SHARE: u64 = 10;
/// So many uses count; more are forgotten.
const USED_MAX: u8 = 3;
/// So many entries are looked at before one is evicted although it was used, and so many again before the search in a
/// shard is given up.
const LOOKS: usize = 64;
/// So many entries are looked at with each that is put, whether they are dead: all have been when a quarter as many have
/// been put as there are.
const SWEEP: usize = 4;

/// What fell out of a shard, to be dropped when its lock is released.
pub(super) type Garbage<V> = Vec<(Box<[u8]>, Option<V>)>;

/// What is to be evicted.
pub(super) struct Evict {
    /// At least so many bytes.
    pub(super) bytes: u64,
    pub(super) now: Timestamp,
    /// Never this one.
    pub(super) spare: Option<u32>,
    /// Also what is held.
    pub(super) held: bool,
}

/// How many entries have made room for others.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Evictions {
    /// They could still have been used.
    pub room: u64,
    /// They could not.
    pub dead: u64,
}

#[derive(Debug)]
pub(super) struct Shard<V> {
    index: HashTable<u32>,
    slab: Slab<V>,
    small: Queue,
    main: Queue,
    ghosts: Ghosts,
    /// The place that is looked at next for a dead entry.
    sweep: u32,
    /// What was evicted so far.
    pub(super) evictions: Evictions,
}

impl<V> Default for Shard<V> {
    fn default() -> Self {
        Self {
            index: HashTable::new(),
            slab: Slab::default(),
            small: Queue::default(),
            main: Queue::default(),
            ghosts: Ghosts::default(),
            sweep: 0,
            evictions: Evictions::default(),
        }
    }
}

impl<V: Value> Shard<V> {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn weight(&self) -> u64 {
        self.small.weight() + self.main.weight()
    }

    pub(super) fn get(&self, tag: u32, key: &[u8], now: Timestamp) -> Option<V> {
        let node = &self.slab[self.find(tag, key)?];
        if node.until <= now {
            return None;
        }
        // Relaxed, and not one step: that a use is lost now and then does not matter, that a hit writes seldom does.
        let used = node.used.load(Ordering::Relaxed);
        if used < USED_MAX {
            node.used.store(used + 1, Ordering::Relaxed);
        }
        node.value.clone()
    }

    pub(super) fn find(&self, tag: u32, key: &[u8]) -> Option<u32> {
        let is_it = |at: &u32| {
            let node = &self.slab[*at];
            node.tag == tag && *node.key == *key
        };
        self.index.find(spread(tag), is_it).copied()
    }

    /// The value of an entry, if it is not dead.
    pub(super) fn living(&self, at: u32, now: Timestamp) -> Option<&V> {
        let node = &self.slab[at];
        node.value.as_ref().filter(|_| now < node.until)
    }

    /// Gives a key a value, at the place that it has or at a new one; returns the place and the value that it had.
    pub(super) fn put(
        &mut self,
        at: Option<u32>,
        tag: u32,
        key: &[u8],
        (value, weight, until): (V, u64, Timestamp),
    ) -> (Option<u32>, Option<V>) {
        if let Some(at) = at {
            let queue = if self.slab[at].main { &mut self.main } else { &mut self.small };
            queue.reweigh(&mut self.slab, at, weight);
            let node = &mut self.slab[at];
            node.until = until;
            return (Some(at), node.value.replace(value));
        }
        let main = self.ghosts.take(tag);
        let (key, used) = (key.into(), AtomicU8::new(0));
        let node = Node { key, value: Some(value), weight, until, tag, older: NONE, newer: NONE, used, main };
        let Some(at) = self.slab.add(node) else { return (None, None) };
        let queue = if main { &mut self.main } else { &mut self.small };
        queue.push(&mut self.slab, at);
        let slab = &self.slab;
        self.index.insert_unique(spread(tag), at, |at| spread(slab[*at].tag));
        (Some(at), None)
    }

    /// Removes an entry; returns its value, unless it was dead.
    pub(super) fn remove(&mut self, at: u32, now: Timestamp, garbage: &mut Garbage<V>) -> Option<V> {
        let dead = self.slab[at].until <= now;
        self.discard(at, garbage);
        if dead { None } else { garbage.last_mut().and_then(|(_, value)| value.take()) }
    }

    /// Drops dead entries among the next few in the order of their places; returns what they weighed.
    pub(super) fn sweep(&mut self, now: Timestamp, garbage: &mut Garbage<V>) -> u64 {
        let mut freed = 0;
        for _ in 0..SWEEP.min(self.slab.places()) {
            let at = if (self.sweep as usize) < self.slab.places() { self.sweep } else { 0 };
            self.sweep = at + 1;
            let node = &self.slab[at];
            if node.value.is_some() && node.until <= now {
                freed += self.discard(at, garbage);
            }
        }
        freed
    }

    /// The keys in `count` places from `from` on of which `wanted` says so, dead ones among them; and where to go on, unless
    /// these were the last.
    pub(super) fn scan(
        &self,
        from: u32,
        count: u32,
        wanted: &impl Fn(&[u8], &V) -> bool,
    ) -> (Vec<Box<[u8]>>, Option<u32>) {
        let places = u32::try_from(self.slab.places()).unwrap_or(u32::MAX);
        let end = from.saturating_add(count).min(places);
        let wanted = |at| {
            let node = &self.slab[at];
            node.value.as_ref().is_some_and(|value| wanted(&node.key, value)).then(|| node.key.clone())
        };
        ((from..end).filter_map(wanted).collect(), (end < places).then_some(end))
    }

    /// Evicts; returns what that has freed, which is less than what was asked for where too much is held, or too much
    /// was used to be looked through at once.
    pub(super) fn evict(&mut self, evict: &Evict, garbage: &mut Garbage<V>) -> u64 {
        let mut freed = 0;
        let (mut looks, mut passed_over) = (0, None);
        while freed < evict.bytes && looks < 2 * LOOKS {
            let Some(at) = self.next_out(passed_over) else { break };
            looks += 1;
            let node = &mut self.slab[at];
            let dead = node.until <= evict.now;
            let stays = evict.spare == Some(at) || !evict.held && node.value.as_ref().is_some_and(Value::is_held);
            let used = node.used.get_mut();
            if !dead && *used > 0 && looks <= LOOKS {
                *used = if node.main { *used - 1 } else { 0 };
                self.requeue(at, true);
            } else if !dead && stays {
                let main = node.main;
                self.requeue(at, main);
                passed_over = Some(main);
            } else {
                if !dead && !node.main {
                    let tag = node.tag;
                    self.ghosts.add(tag, self.index.len());
                }
                if dead {
                    self.evictions.dead += 1;
                } else {
                    self.evictions.room += 1;
                }
                freed += self.discard(at, garbage);
                (looks, passed_over) = (0, None);
            }
        }
        freed
    }

    /// The entry whose turn it is: of the small queue when that has more than its share; but of the other than the one
    /// (the main queue?) that something was passed over in just now, as all of that may be held.
    fn next_out(&self, passed_over: Option<bool>) -> Option<u32> {
        let main = self.small.weight() < self.weight() / SMALL_SHARE;
        let main = passed_over.map_or(main, |passed_over| !passed_over);
        let (first, second) = if main { (&self.main, &self.small) } else { (&self.small, &self.main) };
        first.oldest().or_else(|| second.oldest())
    }

    /// Puts an entry at the end of the main queue, or of the small one.
    fn requeue(&mut self, at: u32, main: bool) {
        self.unlink(at);
        self.slab[at].main = main;
        let queue = if main { &mut self.main } else { &mut self.small };
        queue.push(&mut self.slab, at);
    }

    fn unlink(&mut self, at: u32) {
        let queue = if self.slab[at].main { &mut self.main } else { &mut self.small };
        queue.unlink(&mut self.slab, at);
    }

    /// Takes an entry out of everything; returns its weight.
    fn discard(&mut self, at: u32, garbage: &mut Garbage<V>) -> u64 {
        self.unlink(at);
        let (tag, weight) = (self.slab[at].tag, self.slab[at].weight);
        if let Ok(found) = self.index.find_entry(spread(tag), |other| *other == at) {
            found.remove();
        }
        garbage.push(self.slab.take(at));
        weight
    }
}

/// What the index takes for a hash: it looks at the lowest bits and at the highest seven.
fn spread(tag: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(tag)
}
