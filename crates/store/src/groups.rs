//! Groups of entries that are purged together, without walking them: those of RFC 9875, tags, hosts, sites.
//!
//! Time is counted in epochs: each purge begins a new one. An entry remembers the epoch in which its request was *sent* and
//! the groups it belongs to; a group remembers what was purged of it, and when. A hit compares the two.
//!
//! A purge is *hard*: what was asked for before is gone; or *soft*: it is stale from the moment of the purge on. After a
//! hard one the group's name stands for another group, so that what is counted is what a purge has met.
//!
//! **Invariant:** what was asked for before a purge is never used after it as if there had been none, also if the answer,
//! and with it the group, becomes known only later.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use nearside_semantics::Timestamp;
use nearside_semantics::reuse::Freshness;
use parking_lot::Mutex;

use crate::budget::Charge;

/// A moment, counted in purges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Epoch(u64);

impl Epoch {
    /// After all others.
    pub const END: Self = Self(u64::MAX);
}

/// A group that entries belong to. On a cache line of its own: hits read `touched`, fills write the counts beside it.
#[derive(Debug)]
#[repr(align(64))]
pub struct Group {
    name: Arc<[u8]>,
    /// The epoch that its last purge began; 0: never.
    touched: AtomicU64,
    /// How often it stands among the recent ones.
    recent: AtomicUsize,
    purges: Mutex<Purges>,
    /// What it takes of the memory, as long as entries belong to it; nothing yet if there was no room.
    charge: Mutex<Option<Charge>>,
}

/// What was purged of a group.
#[derive(Debug, Default)]
struct Purges {
    /// The epoch that its last hard purge began.
    hard: u64,
    /// Soft purges since, oldest first: the epoch, and from when on its members are stale.
    soft: VecDeque<(u64, Timestamp)>,
}

/// Soft purges that a group remembers; of older ones only that they were, as if all had come with the oldest.
const SOFT_MAX: usize = 8;

/// What purges have made of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Untouched,
    /// It is stale since then.
    Stale(Timestamp),
    Gone,
}

impl Group {
    fn new(name: Arc<[u8]>, hard: u64) -> Arc<Self> {
        let purges = Mutex::new(Purges { hard, ..Purges::default() });
        Arc::new(Self {
            name,
            touched: AtomicU64::new(hard),
            recent: AtomicUsize::new(0),
            purges,
            charge: Mutex::new(None),
        })
    }

    /// The bytes that it takes.
    fn bytes(&self) -> u64 {
        (self.name.len() + GROUP_BYTES) as u64
    }

    fn is_charged(&self) -> bool {
        self.charge.lock().is_some()
    }

    fn is_touched(&self, asked: Epoch) -> bool {
        self.touched.load(Ordering::Acquire) > asked.0
    }

    fn verdict(&self, asked: Epoch) -> Verdict {
        if !self.is_touched(asked) {
            return Verdict::Untouched;
        }
        let purges = self.purges.lock();
        let first = purges.soft.iter().find(|(epoch, _)| *epoch > asked.0);
        match first {
            _ if purges.hard > asked.0 => Verdict::Gone,
            Some((_, since)) => Verdict::Stale(*since),
            None => Verdict::Untouched,
        }
    }

    fn purge_hard(&self, epoch: u64) {
        *self.purges.lock() = Purges { hard: epoch, ..Purges::default() };
        self.touched.store(epoch, Ordering::Release);
    }

    fn purge_soft(&self, epoch: u64, now: Timestamp) {
        let mut purges = self.purges.lock();
        purges.soft.push_back((epoch, now));
        if purges.soft.len() > SOFT_MAX
            && let Some((_, oldest)) = purges.soft.pop_front()
            && let Some((_, since)) = purges.soft.front_mut()
        {
            *since = oldest.min(*since);
        }
        self.touched.store(epoch, Ordering::Release);
    }

    /// How many hold it beside those who remember it for its name.
    fn members(self: &Arc<Self>) -> usize {
        // This reference is one more.
        Arc::strong_count(self).saturating_sub(1 + self.recent.load(Ordering::Relaxed))
    }
}

/// The groups of one entry, and when it was asked for; by default it belongs to none.
#[derive(Debug, Clone, Default)]
pub struct Membership {
    groups: Box<[Arc<Group>]>,
    asked: Epoch,
    weight: u32,
}

impl Membership {
    /// Whether one of the groups was purged in any way after the entry had been asked for.
    #[must_use]
    pub fn is_touched(&self) -> bool {
        self.groups.iter().any(|group| group.is_touched(self.asked))
    }

    /// Whether it is gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.is_touched() && self.groups.iter().any(|group| group.verdict(self.asked) == Verdict::Gone)
    }

    /// What purges have left of the life of an entry; `None` if it is gone.
    #[must_use]
    pub fn left_of(&self, freshness: Freshness) -> Option<Freshness> {
        if !self.is_touched() {
            return Some(freshness);
        }
        self.groups.iter().try_fold(freshness, |freshness, group| match group.verdict(self.asked) {
            Verdict::Untouched => Some(freshness),
            Verdict::Stale(since) => Some(freshness.stale_from(since)),
            Verdict::Gone => None,
        })
    }

    /// The same groups for an answer that was asked for at `asked` and says nothing of them.
    #[must_use]
    pub fn asked_again(&self, asked: Epoch) -> Self {
        let mut same = self.clone();
        same.asked = asked;
        same
    }

    /// The names of the groups.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.groups.iter().map(|group| &*group.name)
    }

    /// The bytes of its groups that nobody has been charged for.
    pub(crate) fn uncharged_bytes(&self) -> u64 {
        self.groups.iter().filter(|group| !group.is_charged()).map(|group| group.bytes()).sum()
    }

    /// Gives each of these groups its part of a charge: a group lasts as long as any of its members.
    pub(crate) fn take_charge(&self, mut charge: Charge) {
        for group in &self.groups {
            // Of two who bring one at the same time, the second gives its own back.
            group.charge.lock().get_or_insert_with(|| charge.split_off(group.bytes()));
        }
    }

    /// When it was asked for.
    #[must_use]
    pub fn asked(&self) -> Epoch {
        self.asked
    }

    /// The bytes that it takes, with the groups that it was the first to join.
    #[must_use]
    pub fn weight(&self) -> u64 {
        u64::from(self.weight)
    }
}

impl Drop for Membership {
    /// A group without entries is not charged for, though it may be remembered for its name: there are few of those.
    fn drop(&mut self) {
        for group in self.groups.iter().filter(|group| group.members() == 0) {
            *group.charge.lock() = None;
        }
    }
}

/// All groups of a store.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    epoch: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Groups that entries belong to, and recent ones.
    groups: HashMap<Arc<[u8]>, Weak<Group>, ahash::RandomState>,
    /// Groups that were purged lately, and the epoch that began with it: what is on its way may belong to them.
    recent: VecDeque<(u64, Arc<Group>)>,
    /// What was asked for before this epoch may belong to a group that `recent` has forgotten.
    forgotten: u64,
    /// Dead groups are cleared out when the table has grown to this.
    sweep_at: usize,
}

/// Groups without entries that are remembered.
const RECENT_MAX: usize = 4096;
/// The table is not swept before it has this many groups.
const SWEEP_MIN: usize = 1024;
/// What a group takes beyond its name: 192 bytes for itself, its part of the table, what the allocator adds.
const GROUP_BYTES: usize = 320;

impl Groups {
    /// The epoch that begins now.
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// Begins an epoch for a purge that is not one of a group.
    pub(crate) fn begin(&self) -> Epoch {
        Epoch(self.epoch.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// The membership of an entry that was asked for at `asked`; no name twice.
    pub(crate) fn join<'n>(&self, names: impl Iterator<Item = &'n [u8]>, asked: Epoch) -> Membership {
        let mut known = self.known.lock();
        if asked.0 < known.forgotten {
            return Membership { groups: Box::new([Group::new(Arc::default(), u64::MAX)]), asked, weight: 0 };
        }
        let mut weight = 0;
        let join = |name: &'n [u8]| {
            weight += size_of::<Arc<Group>>();
            known.living(name).unwrap_or_else(|| {
                weight += name.len() + GROUP_BYTES;
                known.enter(name, 0)
            })
        };
        let groups = names.map(join).collect();
        Membership { groups, asked, weight: u32::try_from(weight).unwrap_or(u32::MAX) }
    }

    /// Makes everything useless that belongs to a group, or that is on its way and will; how many members there were.
    pub(crate) fn purge_hard(&self, name: &[u8]) -> usize {
        let mut known = self.known.lock();
        let epoch = self.begin().0;
        let members = known.living(name).map_or(0, |group| {
            group.purge_hard(u64::MAX);
            group.members()
        });
        let group = known.enter(name, epoch);
        known.remember(epoch, group);
        members
    }

    /// Makes everything stale that belongs to a group, or that is on its way and will; how many members there were.
    pub(crate) fn purge_soft(&self, name: &[u8], now: Timestamp) -> usize {
        let mut known = self.known.lock();
        let epoch = self.begin().0;
        let group = known.living(name).unwrap_or_else(|| known.enter(name, 0));
        group.purge_soft(epoch, now);
        let members = group.members();
        known.remember(epoch, group);
        members
    }

    /// How many members a group has.
    pub(crate) fn members(&self, name: &[u8]) -> usize {
        self.known.lock().living(name).map_or(0, |group| group.members())
    }

    /// How many groups are known, after those that are of no use were cleared out.
    #[cfg(test)]
    pub(crate) fn known(&self) -> usize {
        let mut known = self.known.lock();
        known.sweep();
        known.groups.len()
    }
}

impl Known {
    fn living(&self, name: &[u8]) -> Option<Arc<Group>> {
        self.groups.get(name).and_then(Weak::upgrade)
    }

    /// A new group of this name, of which all is gone that was asked for before `hard`.
    fn enter(&mut self, name: &[u8], hard: u64) -> Arc<Group> {
        if self.groups.len() >= self.sweep_at {
            self.sweep();
        }
        let name: Arc<[u8]> = name.into();
        let group = Group::new(Arc::clone(&name), hard);
        self.groups.insert(name, Arc::downgrade(&group));
        group
    }

    fn sweep(&mut self) {
        self.groups.retain(|_, group| group.strong_count() > 0);
        self.sweep_at = (self.groups.len() * 2).max(SWEEP_MIN);
    }

    fn remember(&mut self, epoch: u64, group: Arc<Group>) {
        group.recent.fetch_add(1, Ordering::Relaxed);
        self.recent.push_back((epoch, group));
        if self.recent.len() > RECENT_MAX
            && let Some((epoch, group)) = self.recent.pop_front()
        {
            group.recent.fetch_sub(1, Ordering::Relaxed);
            self.forgotten = epoch;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

    fn join(groups: &Groups, names: &[&str], asked: Epoch) -> Membership {
        groups.join(names.iter().map(|name| name.as_bytes()), asked)
    }

    /// Fresh for a minute, and then to be served for a minute while it is refreshed.
    fn freshness() -> Freshness {
        let after = |secs| NOW.after(Duration::from_secs(secs));
        Freshness {
            born: NOW,
            fresh_until: after(60),
            revalidate_until: after(120),
            error_until: after(60),
            no_cache: false,
            never_stale: false,
        }
    }

    #[test]
    fn a_purge_reaches_members_and_those_on_their_way_but_not_later_ones() {
        let groups = Groups::default();
        let before = groups.epoch();
        let (member, other) = (join(&groups, &["a"], before), join(&groups, &["b"], before));
        assert!(!member.is_gone());
        assert_eq!((groups.purge_hard(b"a"), groups.purge_hard(b"unknown")), (1, 0));
        let late = join(&groups, &["unknown"], before);
        let after = groups.epoch();
        assert!(member.is_gone() && late.is_gone() && !other.is_touched());
        assert!(!join(&groups, &["a"], after).is_touched());
        assert!(join(&groups, &["a"], before).is_gone());
    }

    #[test]
    fn after_a_soft_purge_members_are_stale_from_its_moment_on() {
        let groups = Groups::default();
        let before = groups.epoch();
        let member = join(&groups, &["a", "b"], before);
        let at = |secs| NOW.after(Duration::from_secs(secs));
        assert_eq!(groups.purge_soft(b"a", at(10)), 1);
        let (late, after) = (join(&groups, &["a"], before), groups.epoch());
        for membership in [&member, &late] {
            assert!(membership.is_touched() && !membership.is_gone());
            assert_eq!(membership.left_of(freshness()), Some(freshness().stale_from(at(10))));
        }
        let second = join(&groups, &["a"], after);
        assert_eq!(second.left_of(freshness()), Some(freshness()));
        // What comes later does not open a window again, in whatever group.
        groups.purge_soft(b"b", at(50));
        groups.purge_soft(b"a", at(30));
        assert_eq!(member.left_of(freshness()), Some(freshness().stale_from(at(10))));
        assert_eq!(second.left_of(freshness()), Some(freshness().stale_from(at(30))));
        for n in 0..20 {
            groups.purge_soft(b"a", at(31 + n));
        }
        assert_eq!(member.left_of(freshness()), Some(freshness().stale_from(at(10))), "however many came since");
        assert_eq!(groups.purge_hard(b"a"), 3);
        assert!(member.is_gone() && second.left_of(freshness()).is_none());
        assert_eq!(member.asked_again(groups.epoch()).left_of(freshness()), None, "its group is another by now");
    }

    #[test]
    fn groups_that_were_forgotten_count_as_purged_for_what_was_asked_before() {
        let groups = Groups::default();
        let before = groups.epoch();
        for n in 0..RECENT_MAX + 1 {
            groups.purge_hard(format!("{n}").as_bytes());
        }
        assert!(join(&groups, &["0"], before).is_gone());
        let lately = groups.epoch();
        groups.purge_hard(b"1");
        assert!(!join(&groups, &["2"], lately).is_gone(), "nothing was forgotten since");
        assert!(!join(&groups, &["0"], groups.epoch()).is_gone());
    }

    #[test]
    fn members_are_counted_as_long_as_they_live() {
        let groups = Groups::default();
        let mut members: Vec<_> = (0..5).map(|_| join(&groups, &["a"], groups.epoch())).collect();
        members.pop();
        assert_eq!(groups.members(b"a"), 4);
        assert_eq!((groups.purge_soft(b"a", NOW), groups.purge_soft(b"a", NOW)), (4, 4));
        assert_eq!((groups.purge_hard(b"a"), groups.purge_hard(b"a")), (4, 0));
    }

    #[test]
    fn groups_without_members_are_cleared_out() {
        let groups = Groups::default();
        for n in 0..SWEEP_MIN * 8 {
            join(&groups, &[&n.to_string()], groups.epoch());
        }
        assert!(groups.known.lock().groups.len() <= SWEEP_MIN * 2);
        assert_eq!(groups.known(), 0);
    }
}
