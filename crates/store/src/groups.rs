//! Groups of entries that become useless together (RFC 9875), without walking them.
//!
//! Time is counted in epochs: each invalidation begins a new one. An entry remembers the epoch in which its request was
//! *sent* and the groups it belongs to; a group remembers the epoch of its last invalidation. A hit compares the two.
//!
//! **Invariant:** what was asked for before an invalidation is never used after it, also if the answer, and with it the
//! group, becomes known only later.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// A moment, counted in invalidations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Epoch(u64);

/// A group that entries belong to.
#[derive(Debug)]
pub struct Group {
    /// The epoch that its last invalidation began; 0: never.
    invalidated: AtomicU64,
}

/// The groups of one entry, and when it was asked for; by default it belongs to none.
#[derive(Debug, Clone, Default)]
pub struct Membership {
    groups: Box<[Arc<Group>]>,
    asked: Epoch,
}

impl Membership {
    /// Whether one of the groups was invalidated after the entry had been asked for.
    #[must_use]
    pub fn is_invalidated(&self) -> bool {
        self.groups.iter().any(|group| group.invalidated.load(Ordering::Acquire) > self.asked.0)
    }

    /// The bytes that it takes, with a share of the groups themselves.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.groups.len() as u64 * 64
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
    groups: HashMap<Box<[u8]>, Weak<Group>, ahash::RandomState>,
    /// Groups that were invalidated lately, and the epoch that began with it: what is on its way may belong to them.
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

impl Groups {
    /// The epoch that begins now.
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// The membership of an entry that was asked for at `asked`.
    pub(crate) fn join(&self, names: &[Vec<u8>], asked: Epoch) -> Membership {
        if names.is_empty() {
            return Membership { groups: Box::default(), asked };
        }
        let mut known = self.known.lock();
        if asked.0 < known.forgotten {
            let lost = Arc::new(Group { invalidated: AtomicU64::new(u64::MAX) });
            return Membership { groups: Box::new([lost]), asked };
        }
        let groups = names.iter().map(|name| known.group(name)).collect();
        Membership { groups, asked }
    }

    /// Makes everything useless that belongs to the group, or that is on its way and will.
    pub(crate) fn invalidate(&self, name: &[u8]) {
        let mut known = self.known.lock();
        let epoch = self.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        let group = known.group(name);
        group.invalidated.store(epoch, Ordering::Release);
        known.recent.push_back((epoch, group));
        if known.recent.len() > RECENT_MAX
            && let Some((epoch, _)) = known.recent.pop_front()
        {
            known.forgotten = epoch;
        }
    }
}

impl Known {
    fn group(&mut self, name: &[u8]) -> Arc<Group> {
        if let Some(group) = self.groups.get(name).and_then(Weak::upgrade) {
            return group;
        }
        if self.groups.len() >= self.sweep_at {
            self.groups.retain(|_, group| group.strong_count() > 0);
            self.sweep_at = (self.groups.len() * 2).max(SWEEP_MIN);
        }
        let group = Arc::new(Group { invalidated: AtomicU64::new(0) });
        self.groups.insert(name.into(), Arc::downgrade(&group));
        group
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Vec<Vec<u8>> {
        vec![text.as_bytes().to_vec()]
    }

    #[test]
    fn an_invalidation_reaches_members_and_those_on_their_way_but_not_later_ones() {
        let groups = Groups::default();
        let before = groups.epoch();
        let (member, other) = (groups.join(&name("a"), before), groups.join(&name("b"), before));
        assert!(!member.is_invalidated());
        groups.invalidate(b"a");
        groups.invalidate(b"unknown");
        let late = groups.join(&name("unknown"), before);
        let after = groups.epoch();
        assert!(member.is_invalidated() && late.is_invalidated() && !other.is_invalidated());
        assert!(!groups.join(&name("a"), after).is_invalidated());
        assert!(groups.join(&name("a"), before).is_invalidated());
    }

    #[test]
    fn groups_that_were_forgotten_count_as_invalidated_for_what_was_asked_before() {
        let groups = Groups::default();
        let before = groups.epoch();
        for n in 0..RECENT_MAX + 1 {
            groups.invalidate(format!("{n}").as_bytes());
        }
        assert!(groups.join(&name("0"), before).is_invalidated());
        let lately = groups.epoch();
        groups.invalidate(b"1");
        assert!(!groups.join(&name("2"), lately).is_invalidated(), "nothing was forgotten since");
        assert!(!groups.join(&name("0"), groups.epoch()).is_invalidated());
        assert!(!groups.join(&[], before).is_invalidated(), "it belongs to none");
    }

    #[test]
    fn groups_without_members_are_cleared_out() {
        let groups = Groups::default();
        for n in 0..SWEEP_MIN * 8 {
            groups.join(&name(&n.to_string()), groups.epoch());
        }
        assert!(groups.known.lock().groups.len() <= SWEEP_MIN * 2);
    }
}
