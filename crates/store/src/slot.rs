//! All variants that are stored under one cache key.

use std::sync::Arc;

use nearside_semantics::Timestamp;
use nearside_semantics::fields::Fields;
use smallvec::SmallVec;

use crate::entry::Entry;
use crate::groups::Epoch;

/// The variants of one cache key, newest first, never empty. Immutable: a change publishes a new slot.
#[derive(Debug)]
pub struct Slot {
    entries: SmallVec<[Arc<Entry>; 1]>,
}

impl Slot {
    /// The slot that `old` becomes when `entry` is stored: of the variants, those stay that were selected by the same
    /// request fields and are not the one that is replaced. Returns also how many fell out because of `variants_max`.
    #[must_use]
    pub fn with(old: Option<&Self>, entry: Arc<Entry>, variants_max: usize) -> (Self, usize) {
        let stays = |other: &&Arc<Entry>| other.vary == entry.vary && other.variant != entry.variant;
        let others: Vec<_> = old.map_or(&[][..], |slot| &slot.entries).iter().filter(stays).cloned().collect();
        let kept = others.len().min(variants_max.saturating_sub(1));
        let fallen = others.len() - kept;
        let entries = std::iter::once(entry).chain(others.into_iter().take(kept)).collect();
        (Self { entries }, fallen)
    }

    /// Whether an entry is one of its variants.
    #[must_use]
    pub fn holds(&self, entry: &Arc<Entry>) -> bool {
        self.entries.iter().any(|other| Arc::ptr_eq(other, entry))
    }

    /// The slot without an entry; `None` if nothing is left.
    #[must_use]
    pub fn without(&self, entry: &Arc<Entry>) -> Option<Self> {
        let others: SmallVec<_> = self.entries.iter().filter(|other| !Arc::ptr_eq(other, entry)).cloned().collect();
        (!others.is_empty()).then_some(Self { entries: others })
    }

    /// The slot with its entries stale from a moment on; those that were asked for at `since` or later stay as they are.
    /// Returns also how many that concerns, and nothing if it is none.
    #[must_use]
    pub fn stale_from(&self, moment: Timestamp, since: Epoch) -> Option<(Self, usize)> {
        let concerned = self.asked_before(since);
        let soften = |entry: &Arc<Entry>| {
            if entry.groups.asked() < since { Arc::new(entry.stale_from(moment)) } else { Arc::clone(entry) }
        };
        (concerned > 0).then(|| (Self { entries: self.entries.iter().map(soften).collect() }, concerned))
    }

    /// The slot without the entries that were asked for before `since`; `None` if nothing is left.
    #[must_use]
    pub fn since(&self, since: Epoch) -> Option<Self> {
        let left: SmallVec<_> = self.entries.iter().filter(|entry| entry.groups.asked() >= since).cloned().collect();
        (!left.is_empty()).then_some(Self { entries: left })
    }

    /// How many of its entries were asked for before `since`.
    #[must_use]
    pub fn asked_before(&self, since: Epoch) -> usize {
        self.entries.iter().filter(|entry| entry.groups.asked() < since).count()
    }

    /// The slot without what nothing can be done with any more; `None` if nothing is left.
    #[must_use]
    pub fn living(&self, now: Timestamp) -> Option<Self> {
        let left: SmallVec<_> = self.entries.iter().filter(|entry| entry.is_alive(now)).cloned().collect();
        (!left.is_empty()).then_some(Self { entries: left })
    }

    /// Whether something can still be done with all of them.
    #[must_use]
    pub fn is_alive(&self, now: Timestamp) -> bool {
        self.entries.iter().all(|entry| entry.is_alive(now))
    }

    /// The entry that answers a request with these fields.
    #[must_use]
    pub fn select(&self, request: &impl Fields) -> Option<&Arc<Entry>> {
        self.entries.iter().find(|entry| entry.answers(request))
    }

    /// The newest entry, if it answers every request of this key.
    #[must_use]
    pub fn sole(&self) -> Option<&Arc<Entry>> {
        self.newest().filter(|entry| entry.vary == nearside_semantics::vary::Vary::None)
    }

    /// All entries, newest first.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.iter()
    }

    /// The newest entry.
    #[must_use]
    pub fn newest(&self) -> Option<&Arc<Entry>> {
        self.entries.first()
    }

    /// How many variants there are.
    #[must_use]
    pub fn variants(&self) -> usize {
        self.entries.len()
    }

    /// The moment from which on nothing can be done with any of them.
    #[must_use]
    pub fn retain_until(&self) -> Timestamp {
        self.entries.iter().map(|entry| entry.retain_until).max().unwrap_or_default()
    }

    /// Whether somebody else has hold of one of them, or reads its body (or another entry shares that).
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.entries.iter().any(|entry| Arc::strong_count(entry) > 1 || Arc::strong_count(&entry.body) > 1)
    }

    /// What it takes from the memory tier, in bytes.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.entries.iter().map(|entry| entry.weight()).sum()
    }
}
