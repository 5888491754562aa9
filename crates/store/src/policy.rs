//! What the memory tier keeps, without what it keeps: for simulations of hit ratios.

use nearside_semantics::Timestamp;

use crate::table::{Op, Table};

/// The table of the store, shard for shard, with nothing in it but names and weights.
#[derive(Debug)]
pub struct Policy {
    table: Table<()>,
}

impl Policy {
    /// An empty cache of so many bytes, in so many shards.
    #[must_use]
    pub fn new(bytes: u64, shards: usize) -> Self {
        Self { table: Table::new(bytes, shards) }
    }

    /// Asks for an object of so many bytes, and stores it if it is not there; whether it was.
    pub fn request(&self, key: &[u8], bytes: u64) -> bool {
        let now = Timestamp::from_secs(0);
        if self.table.get(key, now).is_some() {
            return true;
        }
        self.table.compute(key, now, |_| Op::Put { value: (), weight: bytes.max(1), until: Timestamp::MAX });
        false
    }
}
