//! Rules about the queries of paths: what responses have said in `No-Vary-Search`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nearside_semantics::Timestamp;
use nearside_semantics::query::SearchVariance;

use crate::table::{self, Op, SMALL_TABLE_SHARDS, Table, Value};

/// How long a rule about queries is believed without being learned anew: an origin may have given it up.
const SEARCH_RULE_FOR: Duration = Duration::from_secs(24 * 3600);
/// What a rule takes beyond its path and what it says.
const SEARCH_RULE_OVERHEAD_BYTES: u64 = table::OVERHEAD_BYTES + size_of::<SearchRule>() as u64 + 64;

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

impl Value for Arc<SearchRule> {}

/// The rules that are known, by scheme, host and path.
#[derive(Debug)]
pub struct SearchRules {
    rules: Table<Arc<SearchRule>>,
    /// Number of the next rule.
    next_number: AtomicU64,
    /// Whether a rule was ever learned: until then, nobody need look for one.
    is_used: AtomicBool,
}

impl SearchRules {
    /// No rules, with room for so many bytes of them.
    pub(crate) fn new(bytes_max: u64) -> Self {
        let rules = Table::new(bytes_max, SMALL_TABLE_SHARDS);
        Self { rules, next_number: AtomicU64::new(0), is_used: AtomicBool::new(false) }
    }

    /// Whether any response ever had a rule about queries: until then, nobody need look for one.
    #[must_use]
    pub fn is_used(&self) -> bool {
        // Relaxed: who does not see it yet asks for itself, as before.
        self.is_used.load(Ordering::Relaxed)
    }

    /// The rule of the last response for a path (scheme, host, path) that had one.
    #[must_use]
    pub fn get(&self, path: &[u8], now: Timestamp) -> Option<Arc<SearchRule>> {
        self.rules.get(path, now)
    }

    /// Remembers what a response for a path says of its queries. Returns the rule that is known from now on.
    pub fn learn(&self, path: &[u8], variance: &SearchVariance, now: Timestamp) -> Arc<SearchRule> {
        self.is_used.store(true, Ordering::Relaxed);
        let mut known = None;
        self.rules.compute(path, now, |old| {
            if let Some(old) = old.filter(|old| old.variance == *variance) {
                known = Some(Arc::clone(old));
                return Op::Keep;
            }
            let rule = known.insert(self.rule(variance, now));
            let weight = (path.len() + variance.bytes()) as u64 + SEARCH_RULE_OVERHEAD_BYTES;
            Op::Put { value: Arc::clone(rule), weight, until: now.after(SEARCH_RULE_FOR) }
        });
        known.unwrap_or_else(|| self.rule(variance, now))
    }

    fn rule(&self, variance: &SearchVariance, since: Timestamp) -> Arc<SearchRule> {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        Arc::new(SearchRule { variance: variance.clone(), number, since })
    }
}
