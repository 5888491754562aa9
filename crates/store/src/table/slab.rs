//! The entries of a shard, side by side, each with a number that stays its own while it lives.
//!
//! **Invariant:** numbers are handed out by [`Slab::add`] and taken back by [`Slab::take`] only; whoever keeps one drops
//! it before it is taken back. So a number always leads to something.

use std::ops::{Index, IndexMut};
use std::sync::atomic::AtomicU8;

use nearside_semantics::Timestamp;

/// No number.
pub(super) const NONE: u32 = u32::MAX;

/// An entry of the table.
#[derive(Debug)]
pub(super) struct Node<V> {
    pub(super) key: Box<[u8]>,
    /// Absent in a place that is free.
    pub(super) value: Option<V>,
    pub(super) weight: u64,
    pub(super) until: Timestamp,
    /// Stands for the key in the index.
    pub(super) tag: u32,
    /// The neighbour in its queue that came before it; in a free place, the next free one.
    pub(super) older: u32,
    /// The neighbour in its queue that came after it.
    pub(super) newer: u32,
    /// How often it was used lately.
    pub(super) used: AtomicU8,
    /// Whether it is in the main queue.
    pub(super) main: bool,
}

#[derive(Debug)]
pub(super) struct Slab<V> {
    nodes: Vec<Node<V>>,
    /// The first free place.
    free: u32,
}

impl<V> Default for Slab<V> {
    fn default() -> Self {
        Self { nodes: Vec::new(), free: NONE }
    }
}

impl<V> Slab<V> {
    /// The number of places, free ones among them.
    pub(super) fn places(&self) -> usize {
        self.nodes.len()
    }

    /// The number that a node has from now on; `None` when all numbers are taken.
    pub(super) fn add(&mut self, node: Node<V>) -> Option<u32> {
        if self.free != NONE {
            let at = self.free;
            self.free = self[at].older;
            self[at] = node;
            return Some(at);
        }
        let at = u32::try_from(self.nodes.len()).ok().filter(|at| *at != NONE)?;
        self.nodes.push(node);
        Some(at)
    }

    /// Takes the key and the value of a node; its number will be another's.
    pub(super) fn take(&mut self, at: u32) -> (Box<[u8]>, Option<V>) {
        let free = self.free;
        let node = &mut self[at];
        node.older = free;
        let taken = (std::mem::take(&mut node.key), node.value.take());
        self.free = at;
        taken
    }
}

impl<V> Index<u32> for Slab<V> {
    type Output = Node<V>;

    #[expect(clippy::indexing_slicing, reason = "numbers come from `add`, and places are never given up")]
    fn index(&self, at: u32) -> &Node<V> {
        &self.nodes[at as usize]
    }
}

impl<V> IndexMut<u32> for Slab<V> {
    #[expect(clippy::indexing_slicing, reason = "numbers come from `add`, and places are never given up")]
    fn index_mut(&mut self, at: u32) -> &mut Node<V> {
        &mut self.nodes[at as usize]
    }
}
