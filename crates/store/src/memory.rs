//! The memory tier: slots by cache key, on moka.
//!
//! moka's TinyLFU decides what stays. It bounds what is *stored* to its share of the memory; the [`Budget`] bounds
//! what is *alive*, which is more: bodies that are being filled, and evicted ones that slow readers still hold.
//!
//! **Invariant:** a body is stored only while its charge is held, so that stored plus filling plus lingering bytes
//! never exceed [`Limits::memory_bytes`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::ops::compute::{CompResult, Op};
use moka::sync::Cache;
use nearside_semantics::Timestamp;
use nearside_semantics::query::SearchVariance;

use crate::budget::{Budget, Charge};
use crate::entry::{ENTRY_OVERHEAD_BYTES, Entry, Head, head_weight};
use crate::groups::{Epoch, Groups, Membership};
use crate::slot::Slot;

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
    /// Of the memory, the share that is left to bodies on their way in, and to readers of evicted ones.
    const FILL_SHARE: u64 = 4;

    /// Limits for a memory size: bodies up to a quarter of it, sixteen variants a key.
    #[must_use]
    pub fn for_memory(memory_bytes: u64) -> Self {
        Self { memory_bytes, object_bytes_max: memory_bytes / Self::FILL_SHARE, variants_max: 16 }
    }
}

/// The memory tier of a node.
#[derive(Debug)]
pub struct Store {
    slots: Cache<Box<[u8]>, Kept, ahash::RandomState>,
    uncacheable: Cache<Box<[u8]>, (), ahash::RandomState>,
    /// By scheme, host and path.
    search: Cache<Box<[u8]>, Arc<SearchRule>, ahash::RandomState>,
    /// Numbers what is put into `search`.
    rules: AtomicU64,
    /// Something was put into `search`, ever: until then, nobody need look.
    searches: AtomicBool,
    groups: Groups,
    budget: Arc<Budget>,
    limits: Limits,
    /// Bytes stored since moka last made room.
    unsettled: AtomicU64,
    variants_dropped: AtomicU64,
}

/// A slot as moka holds it, with the time that it may stay.
#[derive(Debug, Clone)]
struct Kept {
    slot: Arc<Slot>,
    retain: Duration,
}

/// What responses for a path say of its queries.
#[derive(Debug)]
pub struct SearchRule {
    /// What they say.
    pub variance: SearchVariance,
    /// Tells it from the same rule learned at another time, so that a rule which was forgotten and comes back does not
    /// find what was stored under it before: purges in between did not know that key.
    pub number: u64,
    /// When it became known: what was stored under its own URL before may be one of those that the rule makes one, and
    /// purges since did not know of it.
    pub since: Timestamp,
}

/// moka asks this for the life of each slot.
#[derive(Debug)]
struct Retention;

impl moka::Expiry<Box<[u8]>, Kept> for Retention {
    fn expire_after_create(&self, _: &Box<[u8]>, kept: &Kept, _: Instant) -> Option<Duration> {
        Some(kept.retain)
    }

    fn expire_after_update(&self, _: &Box<[u8]>, kept: &Kept, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(kept.retain)
    }
}

/// How long it is remembered that the answers for a key may not be stored: long enough that a busy key does not
/// queue its clients behind one another again and again, short enough that a corrected origin is noticed.
const UNCACHEABLE_FOR: Duration = Duration::from_secs(120);
/// How often room is made before a response is given up.
const SETTLE_TRIES: usize = 8;
/// Room for such keys, in bytes of keys.
const UNCACHEABLE_BYTES: u64 = 4 << 20;
/// How long a rule about queries is believed without being learned anew: an origin may have given it up.
const SEARCH_RULE_FOR: Duration = Duration::from_secs(24 * 3600);
/// The share of the memory that is added for what is known of the queries of paths.
const SEARCH_SHARE: u64 = 64;
/// The longest that moka is asked to keep anything; its timer wheels overflow far beyond.
const RETAIN_MAX: Duration = Duration::from_secs(400 * 24 * 3600);

impl Store {
    /// An empty store.
    #[must_use]
    #[expect(clippy::borrowed_box, reason = "moka hands the key to the weigher as it holds it")]
    pub fn new(limits: Limits) -> Self {
        let share = limits.memory_bytes - limits.memory_bytes / Limits::FILL_SHARE;
        let weight = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        let slots = Cache::builder()
            .max_capacity(share)
            .weigher(move |key: &Box<[u8]>, kept: &Kept| weight(key.len() as u64 + kept.slot.weight()))
            .expire_after(Retention)
            .build_with_hasher(ahash::RandomState::new());
        let uncacheable = Cache::builder()
            .max_capacity(UNCACHEABLE_BYTES)
            .weigher(move |key: &Box<[u8]>, ()| weight(key.len() as u64 + 64))
            .time_to_live(UNCACHEABLE_FOR)
            .build_with_hasher(ahash::RandomState::new());
        let search = Cache::builder()
            .max_capacity((limits.memory_bytes / SEARCH_SHARE).max(1 << 16))
            .weigher(move |path: &Box<[u8]>, rule: &Arc<SearchRule>| {
                weight((path.len() + rule.variance.bytes()) as u64 + 256)
            })
            // A rule that is not admitted would be learned again and again.
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .time_to_live(SEARCH_RULE_FOR)
            .build_with_hasher(ahash::RandomState::new());
        Self {
            slots,
            uncacheable,
            search,
            rules: AtomicU64::new(0),
            searches: AtomicBool::new(false),
            groups: Groups::default(),
            budget: Budget::new(limits.memory_bytes),
            limits,
            unsettled: AtomicU64::new(0),
            variants_dropped: AtomicU64::new(0),
        }
    }

    /// What is stored under a key.
    #[must_use]
    pub fn lookup(&self, key: &[u8]) -> Option<Arc<Slot>> {
        self.slots.get(key).map(|kept| kept.slot)
    }

    /// Takes room for a response with this head and a body of `body_bytes`, making some if need be; `None` if it is too
    /// large to be stored, or if too much is on its way already.
    #[must_use]
    pub fn reserve(&self, head: &Head, body_bytes: u64) -> Option<Charge> {
        if body_bytes > self.limits.object_bytes_max {
            return None;
        }
        let bytes = body_bytes + head_weight(head) + ENTRY_OVERHEAD_BYTES;
        self.budget.take(bytes).or_else(|| {
            // A thread that was interrupted while it looked into moka keeps evicted bytes alive until it goes on.
            (0..SETTLE_TRIES).find_map(|_| {
                self.settle();
                self.budget.take(bytes).or_else(|| {
                    std::thread::yield_now();
                    None
                })
            })
        })
    }

    /// Stores an entry whose body is whole.
    pub fn insert(&self, key: &[u8], entry: Arc<Entry>, now: Timestamp) {
        let weight = entry.weight();
        let retain = entry.retain_until.since(now).min(RETAIN_MAX);
        let result = self.slots.entry(key.into()).and_compute_with(|old| {
            let old = old.map(moka::Entry::into_value);
            let (slot, fallen) = Slot::with(old.as_ref().map(|kept| &*kept.slot), entry, self.limits.variants_max);
            self.variants_dropped.fetch_add(fallen as u64, Ordering::Relaxed);
            let others = old.filter(|_| slot.variants() > 1).map_or(Duration::ZERO, |kept| kept.retain);
            Op::Put(Kept { slot: Arc::new(slot), retain: retain.max(others) })
        });
        debug_assert!(matches!(result, CompResult::Inserted(_) | CompResult::ReplacedWith(_)), "put was asked for");
        self.uncacheable.invalidate(key);
        // moka makes room when it sees fit; it is made to before what it has not seen yet matters.
        if self.unsettled.fetch_add(weight, Ordering::Relaxed) + weight > self.limits.memory_bytes / 64 {
            self.settle();
        }
    }

    /// Removes all variants of a key; returns how many there were.
    pub fn remove(&self, key: &[u8]) -> usize {
        self.uncacheable.invalidate(key);
        // As a computation, so that none that is under way on the same key brings back what it had read.
        match self.slots.entry(key.into()).and_compute_with(|old| if old.is_some() { Op::Remove } else { Op::Nop }) {
            CompResult::Removed(entry) => entry.into_value().slot.variants(),
            _ => 0,
        }
    }

    /// Removes one variant of a key, if it is still that one.
    pub fn remove_entry(&self, key: &[u8], entry: &Arc<Entry>) {
        self.slots.entry(key.into()).and_compute_with(|old| match old.map(moka::Entry::into_value) {
            None => Op::Nop,
            Some(kept) if !kept.slot.holds(entry) => Op::Nop,
            Some(kept) => match kept.slot.without(entry) {
                Some(slot) => Op::Put(Kept { slot: Arc::new(slot), retain: kept.retain }),
                None => Op::Remove,
            },
        });
    }

    /// Remembers for a while that the answers for a key may not be stored.
    pub fn remember_uncacheable(&self, key: &[u8]) {
        self.uncacheable.insert(key.into(), ());
    }

    /// Whether the last answer for this key could not be stored.
    #[must_use]
    pub fn is_uncacheable(&self, key: &[u8]) -> bool {
        self.uncacheable.contains_key(key)
    }

    /// Whether any response ever had a rule about queries: until then, nobody need look for one.
    #[must_use]
    pub fn has_search_rules(&self) -> bool {
        // Relaxed: who does not see it yet asks for itself, as before.
        self.searches.load(Ordering::Relaxed)
    }

    /// What the last response for a path (scheme, host, path) that had a rule said of its queries.
    #[must_use]
    pub fn search_rule(&self, path: &[u8]) -> Option<Arc<SearchRule>> {
        self.search.get(path)
    }

    /// Remembers what a response for a path says of its queries; the rule, as it is known from now on.
    pub fn learn_search_rule(&self, path: &[u8], variance: &SearchVariance, now: Timestamp) -> Arc<SearchRule> {
        self.searches.store(true, Ordering::Relaxed);
        let rule = || {
            let number = self.rules.fetch_add(1, Ordering::Relaxed);
            Arc::new(SearchRule { variance: variance.clone(), number, since: now })
        };
        let entry = self.search.entry(path.into()).and_compute_with(|known| match known {
            Some(known) if known.value().variance == *variance => Op::Nop,
            _ => Op::Put(rule()),
        });
        match entry {
            CompResult::Inserted(entry) | CompResult::ReplacedWith(entry) | CompResult::Unchanged(entry) => {
                entry.into_value()
            }
            CompResult::StillNone(_) | CompResult::Removed(_) => rule(),
        }
    }

    /// The epoch of what is asked for now.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.groups.epoch()
    }

    /// The membership in groups of a response that was asked for at `asked`.
    #[must_use]
    pub fn join_groups(&self, names: &[Vec<u8>], asked: Epoch) -> Membership {
        self.groups.join(names, asked)
    }

    /// Makes useless all that belongs to a group, also what is on its way.
    pub fn invalidate_group(&self, name: &[u8]) {
        self.groups.invalidate(name);
    }

    /// Evicts what does not fit and what is of no use any more.
    pub fn settle(&self) {
        self.unsettled.store(0, Ordering::Relaxed);
        self.slots.run_pending_tasks();
        // What moka evicts, it leaves to epochs to drop; until these move on, its bytes are held. Two steps free what is
        // there now.
        for _ in 0..3 {
            crossbeam_epoch::pin().flush();
        }
    }

    /// The number of cache keys with something stored.
    #[must_use]
    pub fn objects(&self) -> u64 {
        self.slots.entry_count()
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

#[cfg(test)]
mod tests;
