//! The policy that knows what comes: what is asked for again last goes first, and what never again is not stored.

use std::collections::{BTreeSet, HashMap};

use super::{Requested, Trace};

/// Of what is not asked for again.
const NEVER: usize = usize::MAX;

pub(super) struct Optimum {
    capacity: u64,
    used: u64,
    /// For each request, the place of the next one for the same object.
    next: Vec<usize>,
    /// When it is asked for again, and its bytes.
    objects: HashMap<u32, (usize, u64)>,
    order: BTreeSet<(usize, u32)>,
}

impl Optimum {
    pub(super) fn new(capacity: u64, trace: &Trace) -> Self {
        let mut next = vec![NEVER; trace.requests.len()];
        let mut seen: HashMap<u32, usize> = HashMap::new();
        for (place, one) in trace.requests.iter().enumerate().rev() {
            if let Some(slot) = next.get_mut(place) {
                *slot = seen.insert(one.object, place).unwrap_or(NEVER);
            }
        }
        Self { capacity, used: 0, next, objects: HashMap::new(), order: BTreeSet::new() }
    }

    pub(super) fn request(&mut self, place: usize, one: Requested) -> bool {
        let next = self.next.get(place).copied().unwrap_or(NEVER);
        let hit = match self.objects.remove(&one.object) {
            Some((due, bytes)) => {
                self.order.remove(&(due, one.object));
                self.used -= bytes;
                true
            }
            None => false,
        };
        if next != NEVER && one.bytes <= self.capacity {
            self.objects.insert(one.object, (next, one.bytes));
            self.order.insert((next, one.object));
            self.used += one.bytes;
        }
        while self.used > self.capacity {
            let Some((_, last)) = self.order.pop_last() else { break };
            self.used -= self.objects.remove(&last).map_or(0, |(_, bytes)| bytes);
        }
        hit
    }
}
