//! The memory tier: slots by cache key, within one budget.
//!
//! The [`Budget`] bounds what is *alive*: bodies that are stored, that are being filled, and evicted ones that readers
//! still hold. Who needs room takes it: the table evicts just what is missing, at once, but nothing that is being read,
//! as that would free nothing. The table also bounds the weight of what is stored by itself, for what changes after it
//! was charged (a 304 brings a new head).
//!
//! **Invariant:** a body is stored only while its charge is held, so that stored plus filling plus lingering bytes
//! never exceed [`Limits::memory_bytes`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nearside_semantics::Timestamp;

use crate::body::PINNED_BYTES_MIN;
use crate::budget::{Budget, Charge};
use crate::entry::{ENTRY_OVERHEAD_BYTES, Entry, Head, head_weight};
use crate::groups::{Epoch, Groups, Membership};
use crate::negative::NegativeCache;
use crate::search_rules::SearchRules;
use crate::slicing::Slicings;
use crate::slot::Slot;
use crate::table::{Evictions, Op, Table, Value};

/// How large the store may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// All bytes of bodies and heads that are alive.
    pub memory_bytes: u64,
    /// The largest body that is stored; larger ones pass through.
    pub object_bytes_max: u64,
    /// Variants per cache key.
    pub variants_max: usize,
}

impl Limits {
    /// Of the memory, the share that one body may take.
    const OBJECT_SHARE: u64 = 4;

    /// Limits for a memory size: bodies up to a quarter of it, sixteen variants a key.
    #[must_use]
    pub fn for_memory(memory_bytes: u64) -> Self {
        Self { memory_bytes, object_bytes_max: memory_bytes / Self::OBJECT_SHARE, variants_max: 16 }
    }
}

/// The memory tier of a node.
#[derive(Debug)]
pub struct Store {
    slots: Table<Arc<Slot>>,
    negative: NegativeCache,
    slicings: Slicings,
    search_rules: SearchRules,
    groups: Groups,
    budget: Arc<Budget>,
    limits: Limits,
    variants_dropped: AtomicU64,
    /// How often there was no room because too much is pinned.
    shortages: AtomicU64,
}

/// How something is purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purge {
    /// It is gone.
    Hard,
    /// It is stale from this moment on: validated, and served as far as its stale windows, counted from now, allow it.
    Soft {
        /// The moment of the purge.
        now: Timestamp,
    },
}

impl Value for Arc<Slot> {
    fn is_held(&self) -> bool {
        Arc::strong_count(self) > 1 || Slot::is_held(self)
    }
}

/// Share of the memory that bodies may take that are fetched or read, as a divisor, before large responses are not stored any
/// more.
const PINNED_SHARE: u64 = 2;
/// How often room is made before a response is given up: others may take what was freed.
const ROOM_TRIES: u32 = 4;
/// A shard for so much memory: enough entries in each to choose well from, and few enough that a larger index for them
/// is made in a millisecond.
const SHARD_BYTES: u64 = 32 << 20;
/// More shards than that serve nobody.
const SHARDS_MAX: u64 = 1024;
/// The share of the memory that is added for what is known of the queries of paths.
const SEARCH_SHARE: u64 = 64;

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let table_shards = |bytes: u64| usize::try_from((bytes / SHARD_BYTES).min(SHARDS_MAX)).unwrap_or(1);
        let search_bytes = (limits.memory_bytes / SEARCH_SHARE).max(1 << 16);
        Self {
            slots: Table::new(limits.memory_bytes, table_shards(limits.memory_bytes)),
            negative: NegativeCache::default(),
            slicings: Slicings::new(search_bytes),
            search_rules: SearchRules::new(search_bytes),
            groups: Groups::default(),
            budget: Budget::new(limits.memory_bytes),
            limits,
            variants_dropped: AtomicU64::new(0),
            shortages: AtomicU64::new(0),
        }
    }

    /// What is stored under a key.
    #[must_use]
    pub fn lookup(&self, key: &[u8], now: Timestamp) -> Option<Arc<Slot>> {
        self.slots.get(key, now)
    }

    /// Takes room for a response with this key and head and a body of `body_bytes`, making some if need be; `None` if it
    /// is too large to be stored, or if too much is on its way or being read already.
    #[must_use]
    pub fn reserve(&self, key: &[u8], head: &Head, body_bytes: u64, now: Timestamp) -> Option<Charge> {
        if body_bytes > self.limits.object_bytes_max {
            return None;
        }
        let bytes = body_bytes + key.len() as u64 + head_weight(head) + ENTRY_OVERHEAD_BYTES;
        self.budget.take(bytes).or_else(|| {
            let pins_too_much = self.budget.pinned().saturating_add(bytes) > self.limits.memory_bytes / PINNED_SHARE;
            if pins_too_much {
                self.shortages.fetch_add(1, Ordering::Relaxed);
            }
            if pins_too_much && body_bytes >= PINNED_BYTES_MIN {
                // It would be pinned too: everything that is not would be evicted for it, and the next one find no room.
                return None;
            }
            self.make_room(bytes, now);
            self.budget.take(bytes)
        })
    }

    /// How often a response found no room while fetched and read bodies took more than half of the memory. As long as this
    /// rises, clients that read slowly keep others from being served from the cache.
    #[must_use]
    pub fn shortages(&self) -> u64 {
        self.shortages.load(Ordering::Relaxed)
    }

    /// A charge for what is not stored, of nothing so far.
    #[must_use]
    pub fn charge(&self) -> Option<Charge> {
        self.budget.take(0)
    }

    /// Evicts until there is room for `bytes` more, or until there is nothing left that would make some.
    pub fn make_room(&self, bytes: u64, now: Timestamp) {
        for round in 0..ROOM_TRIES {
            let missing = bytes.saturating_sub(self.budget.left());
            // More with each round: what is evicted may be charged less than it weighs here.
            if missing == 0 || self.slots.evict(missing.saturating_mul(1 << round), now) == 0 {
                return;
            }
        }
    }

    /// Stores an entry whose body is whole.
    pub fn insert(&self, key: &[u8], entry: Arc<Entry>, now: Timestamp) {
        self.slots.compute(key, now, |old| {
            let (slot, fallen) = Slot::with(old.map(|slot| &**slot), entry, self.limits.variants_max);
            self.variants_dropped.fetch_add(fallen as u64, Ordering::Relaxed);
            put(key, slot)
        });
        self.negative.forget(key, now);
    }

    /// Removes all variants of a key; returns how many there were.
    pub fn remove(&self, key: &[u8], now: Timestamp) -> usize {
        self.negative.forget(key, now);
        self.slots.remove(key, now).map_or(0, |slot| slot.variants())
    }

    /// Removes one variant of a key, if it is still that one.
    pub fn remove_entry(&self, key: &[u8], entry: &Arc<Entry>, now: Timestamp) {
        self.slots.compute(key, now, |old| match old.filter(|slot| slot.holds(entry)) {
            None => Op::Keep,
            Some(slot) => slot.without(entry).map_or(Op::Remove, |slot| put(key, slot)),
        });
    }

    /// How URLs are stored whose site cuts bodies into blocks.
    #[must_use]
    pub fn slicings(&self) -> &Slicings {
        &self.slicings
    }

    /// Keys whose responses are not stored or not shared.
    #[must_use]
    pub fn negative(&self) -> &NegativeCache {
        &self.negative
    }

    /// Rules about the queries of paths.
    #[must_use]
    pub fn search_rules(&self) -> &SearchRules {
        &self.search_rules
    }

    /// The epoch of what is asked for now.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.groups.epoch()
    }

    /// The membership in groups of a response that was asked for at `asked`; no name twice. Groups that are new take room,
    /// which is made if need be, and as far as there is any.
    #[must_use]
    pub fn join_groups<'n>(&self, names: impl Iterator<Item = &'n [u8]>, asked: Epoch, now: Timestamp) -> Membership {
        let membership = self.groups.join(names, asked);
        let bytes = membership.uncharged_bytes();
        if bytes > 0 {
            let charge = self.budget.take(bytes).or_else(|| {
                self.make_room(bytes, now);
                self.budget.take(bytes)
            });
            if let Some(charge) = charge {
                membership.take_charge(charge);
            }
        }
        membership
    }

    /// Purges all that belongs to a group, also what is on its way; how many entries, and answers on their way, there were.
    /// What it costs does not depend on that.
    pub fn purge_group(&self, name: &[u8], purge: Purge) -> usize {
        match purge {
            Purge::Hard => self.groups.purge_hard(name),
            Purge::Soft { now } => self.groups.purge_soft(name, now),
        }
    }

    /// How many entries belong to a group.
    #[must_use]
    pub fn group_members(&self, name: &[u8]) -> usize {
        self.groups.members(name)
    }

    /// Begins an epoch, for [`purge_keys`](Self::purge_keys).
    pub fn begin_epoch(&self) -> Epoch {
        self.groups.begin()
    }

    /// Purges what is stored under a key; returns how many variants there were.
    pub fn purge_key(&self, key: &[u8], purge: Purge, now: Timestamp) -> usize {
        match purge {
            Purge::Hard => self.remove(key, now),
            Purge::Soft { .. } => self.purge_before(key, Epoch::END, purge, now),
        }
    }

    /// Purges what is stored under the keys of which `wanted` says so, and was asked for before `since`; returns how many
    /// entries there were. Walks all that is stored, a few at a time, so that nobody waits for it.
    pub fn purge_keys(&self, wanted: impl Fn(&[u8]) -> bool, since: Epoch, purge: Purge, now: Timestamp) -> usize {
        let mut purged = 0;
        let concerns = |key: &[u8], slot: &Arc<Slot>| wanted(key) && slot.asked_before(since) > 0;
        self.slots.walk(concerns, |key| purged += self.purge_before(key, since, purge, now));
        purged
    }

    /// How many entries are stored under the keys of which `wanted` says so.
    #[must_use]
    pub fn count_keys(&self, wanted: impl Fn(&[u8]) -> bool) -> usize {
        let counted = std::cell::Cell::new(0);
        let count = |key: &[u8], slot: &Arc<Slot>| {
            counted.set(counted.get() + if wanted(key) { slot.variants() } else { 0 });
            false
        };
        self.slots.walk(count, |_| {});
        counted.get()
    }

    /// Shows the keys of which `wanted` says so, a few at a time. Others wait while `wanted` looks, but not while `found` does.
    pub fn each_key_like(&self, wanted: impl Fn(&[u8]) -> bool, found: impl FnMut(&[u8])) {
        self.slots.walk(|key, _| wanted(key), found);
    }

    fn purge_before(&self, key: &[u8], since: Epoch, purge: Purge, now: Timestamp) -> usize {
        let mut purged = 0;
        self.slots.compute(key, now, |old| {
            let Some(slot) = old else { return Op::Keep };
            match purge {
                Purge::Hard => {
                    purged = slot.asked_before(since);
                    if purged == 0 { Op::Keep } else { slot.since(since).map_or(Op::Remove, |slot| put(key, slot)) }
                }
                Purge::Soft { now } => slot.stale_from(now, since).map_or(Op::Keep, |(slot, softened)| {
                    purged = softened;
                    put(key, slot)
                }),
            }
        });
        purged
    }

    /// Gives back the memory of what nothing can be done with any more; returns how many entries that were. Without this it
    /// goes as others come.
    pub fn reclaim(&self, now: Timestamp) -> usize {
        let mut gone = 0;
        self.slots.walk(
            |_, slot| !slot.is_alive(now),
            |key| {
                self.slots.compute(key, now, |old| {
                    let Some(slot) = old else { return Op::Remove };
                    let left = slot.living(now);
                    gone += slot.variants() - left.as_ref().map_or(0, Slot::variants);
                    left.map_or(Op::Remove, |left| put(key, left))
                });
            },
        );
        gone
    }

    /// The number of cache keys with something stored.
    #[must_use]
    pub fn objects(&self) -> u64 {
        self.slots.len() as u64
    }

    /// How many entries have made room for others.
    #[must_use]
    pub fn evictions(&self) -> Evictions {
        self.slots.evictions()
    }

    /// The bytes that are alive.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.budget.used()
    }

    /// Variants that fell out because their key had too many.
    #[must_use]
    pub fn variants_dropped(&self) -> u64 {
        self.variants_dropped.load(Ordering::Relaxed)
    }

    /// The limits it was made with.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }
}

/// What makes a key have these variants: for as long as something can be done with one of them.
fn put(key: &[u8], slot: Slot) -> Op<Arc<Slot>> {
    let (weight, until) = (key.len() as u64 + slot.weight(), slot.retain_until());
    Op::Put { value: Arc::new(slot), weight, until }
}

#[cfg(test)]
mod histories;
#[cfg(test)]
mod tests;
