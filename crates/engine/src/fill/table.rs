//! Which fills are under way.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Fill;
use super::supply::Resumes;
use crate::request::key::{FillKey, LookupKey, UrlKey};

/// Locks are shared by this many; a hit takes none of them.
const SHARDS: usize = 64;

/// The fills under way, by key and variant.
#[derive(Debug)]
pub struct Fills {
    shards: Box<[Mutex<Shard>]>,
    hasher: ahash::RandomState,
    /// Numbers the fills that nobody joins.
    alone: AtomicU64,
    /// Spreads requests over the lanes of their keys.
    turns: AtomicU64,
    /// Counts purges of any key; changed only under the lock of the purged key's shard.
    purges: AtomicU64,
    /// The same for the keys of each shard.
    purges_near: Box<[AtomicU64]>,
    /// What became of bodies that broke off.
    pub resumes: Resumes,
}

type Shard = HashMap<Box<[u8]>, Arc<Fill>, ahash::RandomState>;

/// What one who wants to ask finds.
pub(crate) enum Joined {
    /// Nobody asks yet: it is yours to run.
    Leader(Arc<Fill>),
    /// Somebody asks already.
    Follower(Arc<Fill>),
    /// It was stored in the meantime.
    Stored,
}

impl Default for Fills {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let purges_near = (0..SHARDS).map(|_| AtomicU64::new(0)).collect();
        Self {
            shards,
            hasher: ahash::RandomState::new(),
            alone: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            purges: AtomicU64::new(0),
            purges_near,
            resumes: Resumes::default(),
        }
    }
}

impl Fills {
    /// Joins the fill for `fill_key`, or becomes its leader; unless `stored` says that there is no need to any more.
    pub(crate) fn join(
        &self,
        key: &LookupKey,
        fill_key: &FillKey,
        url: &UrlKey,
        stored: impl FnOnce() -> bool,
    ) -> Joined {
        let mut shard = self.shard(key).lock();
        if let Some(fill) = shard.get(&**fill_key) {
            fill.want();
            return Joined::Follower(Arc::clone(fill));
        }
        if stored() {
            return Joined::Stored;
        }
        let fill = self.new_fill(key, fill_key, url);
        shard.insert(fill_key.clone().into(), Arc::clone(&fill));
        Joined::Leader(fill)
    }

    /// One of so many lanes, each in its turn.
    pub(crate) fn lane(&self, lanes: u64) -> u8 {
        // Relaxed: any order will do.
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        u8::try_from(turn.checked_rem(lanes).unwrap_or(0)).unwrap_or(u8::MAX)
    }

    /// Notes a fill that nobody joins, so that a purge can overtake it too.
    pub(crate) fn enter_alone(&self, key: &LookupKey, url: &UrlKey) -> Arc<Fill> {
        let mut fill_key = key.to_vec();
        // No shared fill has such a key: behind the cache key, it has 0 or 1.
        fill_key.push(0xff);
        fill_key.extend_from_slice(&self.alone.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        let fill_key = FillKey::new(fill_key);
        let fill = self.new_fill(key, &fill_key, url);
        self.shard(key).lock().insert(fill_key.into(), Arc::clone(&fill));
        fill
    }

    /// Takes a fill out; `store` runs before anybody can lead a new one, unless a purge has overtaken it.
    pub(crate) fn leave(&self, fill: &Arc<Fill>, store: impl FnOnce()) {
        let mut shard = self.shard(&fill.key).lock();
        if !fill.fenced.load(Ordering::Relaxed) {
            store();
        }
        if shard.get(&*fill.fill_key).is_some_and(|other| Arc::ptr_eq(other, fill)) {
            shard.remove(&*fill.fill_key);
        }
    }

    fn new_fill(&self, key: &LookupKey, fill_key: &FillKey, url: &UrlKey) -> Arc<Fill> {
        let near = self.near(url).load(Ordering::Acquire);
        Arc::new(Fill::new(key, fill_key, url, self.purges.load(Ordering::Acquire), near))
    }

    /// Runs `store` for a fill whose answer belongs under another key than the one it was entered with, which a purge of
    /// that key did not meet: only if none can have come since. Of its URL's own key the purges are known, more or less;
    /// of a key under a rule that it brings itself, any purge may be one.
    pub(crate) fn store_elsewhere(&self, fill: &Fill, key: &[u8], store: impl FnOnce()) {
        let _shard = self.shard(key).lock();
        let none_came = if *key == *fill.url {
            self.near(key).load(Ordering::Acquire) == fill.purges_near.load(Ordering::Acquire)
        } else {
            self.purges.load(Ordering::Acquire) == fill.purges.load(Ordering::Acquire)
        };
        if none_came {
            store();
        }
    }

    /// Fences all fills of a key but one: they serve those who wait, but store nothing, and nobody joins them any more.
    /// `purge` runs before a fill of this key can store anything; what it returns, and how many fills there were.
    pub(crate) fn fence<T>(&self, key: &[u8], but: Option<&Arc<Fill>>, purge: impl FnOnce() -> T) -> (T, usize) {
        let mut shard = self.shard(key).lock();
        self.purges.fetch_add(1, Ordering::AcqRel);
        self.near(key).fetch_add(1, Ordering::AcqRel);
        if let Some(but) = but {
            but.purges.fetch_add(1, Ordering::AcqRel);
            if self.place(key) == self.place(&but.url) {
                but.purges_near.fetch_add(1, Ordering::AcqRel);
            }
        }
        let concerns = |fill: &Arc<Fill>| *fill.key == *key && but.is_none_or(|but| !Arc::ptr_eq(but, fill));
        let fenced = fence_in(&mut shard, concerns);
        (purge(), fenced)
    }

    /// Fences the fills of which `concerns` says so, whatever their key; how many there were.
    pub(crate) fn fence_where(&self, concerns: impl Fn(&Fill) -> bool) -> usize {
        let mut fenced = 0;
        for (shard, near) in self.shards.iter().zip(&self.purges_near) {
            let mut shard = shard.lock();
            // What belongs under another key than the one it was entered with looks at these.
            self.purges.fetch_add(1, Ordering::AcqRel);
            near.fetch_add(1, Ordering::AcqRel);
            fenced += fence_in(&mut shard, |fill| concerns(fill));
        }
        fenced
    }

    /// Whether there is a fill of which `wanted` says so.
    pub(crate) fn any(&self, wanted: impl Fn(&Fill) -> bool) -> bool {
        self.shards.iter().any(|shard| shard.lock().values().any(|fill| wanted(fill)))
    }

    /// Fences one fill that is of no use to others any more.
    pub(crate) fn retire(&self, fill: &Arc<Fill>) {
        let mut shard = self.shard(&fill.key).lock();
        fill.fenced.store(true, Ordering::Relaxed);
        if shard.get(&*fill.fill_key).is_some_and(|other| Arc::ptr_eq(other, fill)) {
            shard.remove(&*fill.fill_key);
        }
    }

    /// Takes a fill out if nobody waits for it any more; whether that is so. Nobody joins it from then on.
    pub(crate) fn abandon(&self, fill: &Arc<Fill>) -> bool {
        let mut shard = self.shard(&fill.key).lock();
        let is_unwanted = fill.waiting.load(Ordering::SeqCst) == 0;
        if is_unwanted && shard.get(&*fill.fill_key).is_some_and(|other| Arc::ptr_eq(other, fill)) {
            shard.remove(&*fill.fill_key);
        }
        is_unwanted
    }

    /// Whether a fill is under way.
    pub(crate) fn runs(&self, key: &[u8], fill_key: &[u8]) -> bool {
        self.shard(key).lock().contains_key(fill_key)
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// All variants of a key share a shard, so that a purge needs one lock.
    #[expect(clippy::indexing_slicing, reason = "a remainder of the length")]
    fn shard(&self, key: &[u8]) -> &Mutex<Shard> {
        &self.shards[self.place(key)]
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder of the length")]
    fn near(&self, key: &[u8]) -> &AtomicU64 {
        &self.purges_near[self.place(key)]
    }

    #[expect(clippy::cast_possible_truncation, reason = "of a hash, any bits will do")]
    fn place(&self, key: &[u8]) -> usize {
        self.hasher.hash_one(key) as usize % SHARDS
    }
}

/// Fences those of a shard that are concerned, and takes them out; how many there were.
fn fence_in(shard: &mut Shard, concerns: impl Fn(&Arc<Fill>) -> bool) -> usize {
    let before = shard.len();
    shard.retain(|_, fill| {
        let stays = !concerns(fill);
        if !stays {
            fill.fenced.store(true, Ordering::Relaxed);
        }
        stays
    });
    before - shard.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fill::Waiting;

    /// Joins the fill of a URL and variant, of which this is the fill key; its lookup key ends where the variant begins.
    fn join(fills: &Fills, fill_key: &[u8], is_stored: bool) -> Joined {
        let url = UrlKey::new(fill_key.split(|byte| *byte == 0).next().unwrap_or_default());
        fills.join(&url.to_lookup(), &FillKey::new(fill_key), &url, || is_stored)
    }

    fn enter_alone(fills: &Fills, url: &[u8]) -> Arc<Fill> {
        let url = UrlKey::new(url);
        fills.enter_alone(&url.to_lookup(), &url)
    }

    fn lead(fills: &Fills, key: &[u8]) -> Arc<Fill> {
        match join(fills, key, false) {
            Joined::Leader(fill) => fill,
            Joined::Follower(_) | Joined::Stored => panic!("somebody leads already"),
        }
    }

    #[test]
    fn one_leads_and_the_others_follow_until_it_leaves() {
        let fills = Fills::default();
        let fill = lead(&fills, b"k");
        assert!(matches!(join(&fills, b"k", false), Joined::Follower(_)));
        assert!(matches!(join(&fills, b"k\0x", false), Joined::Leader(_)), "another variant");
        let mut stored = false;
        fills.leave(&fill, || stored = true);
        assert!(stored);
        assert!(matches!(join(&fills, b"k", true), Joined::Stored));
        lead(&fills, b"k");
    }

    #[test]
    fn a_fill_that_a_purge_has_overtaken_stores_nothing() {
        let fills = Fills::default();
        let (old, other) = (lead(&fills, b"k"), lead(&fills, b"other"));
        let alone = enter_alone(&fills, b"k");
        assert_eq!(fills.fence(b"k", None, || 7), (7, 2));
        let new = lead(&fills, b"k");
        let mut stored = Vec::new();
        fills.leave(&old, || stored.push("old"));
        fills.leave(&alone, || stored.push("alone"));
        assert_eq!(fills.len(), 2, "the new fill stays");
        fills.leave(&new, || stored.push("new"));
        fills.leave(&other, || stored.push("other"));
        assert_eq!(stored, ["new", "other"]);
    }

    #[test]
    fn an_answer_that_belongs_elsewhere_is_stored_only_if_nothing_was_purged_meanwhile() {
        let fills = Fills::default();
        let fill = lead(&fills, b"k");
        let mut stored = 0;
        fills.store_elsewhere(&fill, b"other", || stored += 1);
        fills.fence(b"unrelated", None, || ());
        fills.store_elsewhere(&fill, b"other", || stored += 1);
        assert_eq!(stored, 1);
        // Its own key is another matter, unless a purge came near.
        let near = fills.place(b"k") == fills.place(b"unrelated");
        fills.store_elsewhere(&fill, b"k", || stored += 1);
        assert_eq!(stored, 1 + u32::from(!near));
        fills.fence(b"k", None, || ());
        fills.store_elsewhere(&fill, b"k", || stored += 1);
        assert_eq!(stored, 1 + u32::from(!near));
        let own = enter_alone(&fills, b"k");
        fills.fence(b"k", Some(&own), || ());
        fills.store_elsewhere(&own, b"other", || stored += 10);
        assert_eq!(stored, 11 + u32::from(!near), "its own purge does not count");
    }

    #[test]
    fn a_fill_is_abandoned_only_when_all_who_waited_have_left() {
        let fills = Fills::default();
        let fill = lead(&fills, b"k");
        let leader = Waiting::new(&fill, true);
        let Joined::Follower(joined) = join(&fills, b"k", false) else { panic!("it is under way") };
        let follower = Waiting::new(&joined, false);
        drop(leader);
        assert!(!fills.abandon(&fill));
        drop(follower);
        assert!(fills.abandon(&fill) && fills.len() == 0);
        let new = lead(&fills, b"k");
        assert!(fills.abandon(&fill) && fills.len() == 1, "it does not take out another");
        new.want();
        drop(Waiting::new(&new, true));
        assert!(!fills.abandon(&new), "there is a use for it");
    }

    #[test]
    fn a_purge_spares_the_fill_that_brought_it_about() {
        let fills = Fills::default();
        let (own, other) = (enter_alone(&fills, b"k"), enter_alone(&fills, b"k"));
        fills.fence(b"k", Some(&own), || ());
        let mut stored = Vec::new();
        fills.leave(&other, || stored.push("other"));
        fills.leave(&own, || stored.push("own"));
        assert_eq!(stored, ["own"]);
    }
}
