//! A budget for retries: however many requests fail, next hops get at most a tenth more than was asked for.
//!
//! A fixed number of retries per request multiplies the load just when next hops are overloaded. Here each request pays
//! in a tenth of a retry, and a retry is made only while there is one in the budget. What a hop that is out has left
//! unanswered is asked elsewhere without: it gets nothing more itself, so that this multiplies nothing.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a retry costs, in what a request pays in.
const RETRY: u64 = 10;
/// So many retries are there from the start, and so many can be saved up: a node that is asked little may retry too.
const SAVED_MAX: u64 = 20 * RETRY;

/// The budget of one node.
#[derive(Debug)]
pub struct Budget {
    saved: AtomicU64,
    pub retries: AtomicU64,
    pub refused: AtomicU64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { saved: AtomicU64::new(SAVED_MAX), retries: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }
}

impl Budget {
    /// A request is sent for the first time.
    pub(crate) fn pay_in(&self) {
        // Relaxed, here and below: the number guards nothing else.
        if self.saved.load(Ordering::Relaxed) < SAVED_MAX {
            self.saved.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether it may be sent once more; `free` if the hop that has not answered is out.
    pub(crate) fn may_retry(&self, free: bool) -> bool {
        let pay = |saved: u64| saved.checked_sub(RETRY);
        let may = free || self.saved.try_update(Ordering::Relaxed, Ordering::Relaxed, pay).is_ok();
        if may { &self.retries } else { &self.refused }.fetch_add(1, Ordering::Relaxed);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_tenth_of_what_was_asked_once_the_savings_are_used_up() {
        let budget = Budget::default();
        while budget.may_retry(false) {}
        let retries = (0..1000)
            .filter(|_| {
                budget.pay_in();
                budget.may_retry(false)
            })
            .count();
        assert_eq!(retries, 100);
        assert!(budget.may_retry(true) && !budget.may_retry(false));
        assert_eq!(budget.refused.load(Ordering::Relaxed), 902);
    }

    #[test]
    fn no_more_retries_are_saved_up_than_there_are_from_the_start() {
        let budget = Budget::default();
        for _ in 0..10_000 {
            budget.pay_in();
        }
        let retries = (0..1000).take_while(|_| budget.may_retry(false)).count();
        assert_eq!(retries as u64, SAVED_MAX / RETRY);
    }
}
