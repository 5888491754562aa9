//! A queue through the nodes of a slab: in at one end, out at the other, or from anywhere in between.

use super::slab::{NONE, Slab};

#[derive(Debug)]
pub(super) struct Queue {
    oldest: u32,
    newest: u32,
    weight: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Self { oldest: NONE, newest: NONE, weight: 0 }
    }
}

impl Queue {
    /// The next to come out.
    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// The weight of all that is in it.
    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    pub(super) fn push<V>(&mut self, slab: &mut Slab<V>, at: u32) {
        let before = std::mem::replace(&mut self.newest, at);
        let node = &mut slab[at];
        node.older = before;
        node.newer = NONE;
        self.weight += node.weight;
        if before == NONE {
            self.oldest = at;
        } else {
            slab[before].newer = at;
        }
    }

    pub(super) fn unlink<V>(&mut self, slab: &mut Slab<V>, at: u32) {
        let node = &slab[at];
        let (older, newer) = (node.older, node.newer);
        self.weight -= node.weight;
        if older == NONE {
            self.oldest = newer;
        } else {
            slab[older].newer = newer;
        }
        if newer == NONE {
            self.newest = older;
        } else {
            slab[newer].older = older;
        }
    }

    /// Changes the weight of one that is in it.
    pub(super) fn reweigh<V>(&mut self, slab: &mut Slab<V>, at: u32, weight: u64) {
        let old = std::mem::replace(&mut slab[at].weight, weight);
        self.weight = self.weight - old + weight;
    }
}
