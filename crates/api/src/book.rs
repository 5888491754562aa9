//! Receipts that are remembered: by their id, and by the idempotency key that makes an order that is sent twice one order.

use std::sync::{Arc, OnceLock};

use axum::http::StatusCode;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use nearside_protocol::{Order, Problem, Receipt};

/// Number of receipts that are remembered, and of orders with an idempotency key.
const RECEIPTS_MAX: u64 = 1000;

/// The last receipts of a backend.
#[derive(Debug)]
pub struct Book {
    orders: Cache<OrderKey, Arc<KeyedOrder>>,
    /// By their ids.
    receipts: Cache<String, Arc<Receipt>>,
}

/// An idempotency key; each holder of a token has keys of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct OrderKey {
    holder: String,
    key: String,
}

/// An order that was given with an idempotency key.
#[derive(Debug)]
struct KeyedOrder {
    order: Order,
    /// Absent while it is being carried out.
    receipt: OnceLock<Arc<Receipt>>,
}

/// What is known of an order.
#[derive(Debug)]
pub(crate) enum Known<'b> {
    /// Nothing: it is entered now.
    New(Entered<'b>),
    /// It was given before.
    Done(Receipt),
}

/// An order that is being carried out. What comes to no receipt, for whatever reason, may be tried again.
#[derive(Debug)]
pub(crate) struct Entered<'b> {
    book: &'b Book,
    /// Absent without an idempotency key.
    keyed: Option<(OrderKey, Arc<KeyedOrder>)>,
}

impl Entered<'_> {
    /// Remembers the receipt that the order has come to.
    pub(crate) fn close(self, receipt: &Receipt) {
        let receipt = Arc::new(receipt.clone());
        if let Some((_, keyed)) = &self.keyed {
            keyed.receipt.get_or_init(|| Arc::clone(&receipt));
        }
        self.book.receipts.insert(receipt.id.clone(), receipt);
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let Some((key, keyed)) = self.keyed.take() else { return };
        if keyed.receipt.get().is_some() {
            return;
        }
        // Unless another one has its place by now.
        self.book.orders.entry(key).and_compute_with(|known| match known {
            Some(known) if Arc::ptr_eq(known.value(), &keyed) => Op::Remove,
            _ => Op::Nop,
        });
    }
}

impl Default for Book {
    fn default() -> Self {
        Self { orders: last(), receipts: last() }
    }
}

/// A cache of the last [`RECEIPTS_MAX`] entries. Not TinyLFU: it turns new entries away when the cache is full, and an order that is
/// not remembered could be carried out twice.
fn last<K, V>() -> Cache<K, V>
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    Cache::builder().max_capacity(RECEIPTS_MAX).eviction_policy(EvictionPolicy::lru()).build()
}

impl Book {
    /// Enters an order; or finds that it was given before, by the same holder with the same key.
    pub(crate) fn enter(&self, holder: &str, key: Option<&str>, order: &Order) -> Result<Known<'_>, Problem> {
        let Some(key) = key else { return Ok(Known::New(Entered { book: self, keyed: None })) };
        let key = OrderKey { holder: holder.to_owned(), key: key.to_owned() };
        let new = Arc::new(KeyedOrder { order: order.clone(), receipt: OnceLock::new() });
        let mut known = None;
        // One step per key: of two that come at once, one is new.
        self.orders.entry_by_ref(&key).and_compute_with(|entry| match entry {
            None => Op::Put(Arc::clone(&new)),
            Some(entry) => {
                known = Some(entry.into_value());
                Op::Nop
            }
        });
        let Some(known) = known else { return Ok(Known::New(Entered { book: self, keyed: Some((key, new)) })) };
        if known.order != *order {
            let detail = "this `Idempotency-Key` was used for another order: take a new one";
            return Err(Problem::unprocessable("idempotency-key-reused", detail));
        }
        let Some(receipt) = known.receipt.get() else {
            let detail = "the order with this `Idempotency-Key` is being carried out";
            return Err(Problem::new(StatusCode::CONFLICT, "idempotency-key-in-use", detail));
        };
        Ok(Known::Done(Receipt::clone(receipt)))
    }

    /// Returns the receipt with this id.
    #[must_use]
    pub fn receipt(&self, id: &str) -> Option<Receipt> {
        self.receipts.get(id).map(|receipt| Receipt::clone(&receipt))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(tag: &str) -> Order {
        Order { tags: vec![tag.to_owned()], ..Order::default() }
    }

    fn receipt(id: &str) -> Receipt {
        Receipt::of(id.to_owned(), None, false, Vec::new())
    }

    #[test]
    fn an_order_that_is_sent_twice_is_one_order() {
        let book = Book::default();
        let Ok(Known::New(entered)) = book.enter("a", Some("k"), &order("x")) else { panic!("it is new") };
        assert_eq!(book.enter("a", Some("k"), &order("x")).unwrap_err().code, "idempotency-key-in-use");
        assert!(matches!(book.enter("b", Some("k"), &order("x")), Ok(Known::New(_))), "of somebody else");
        entered.close(&receipt("1"));
        assert!(matches!(book.enter("a", Some("k"), &order("x")), Ok(Known::Done(done)) if done.id == "1"));
        assert_eq!(book.enter("a", Some("k"), &order("y")).unwrap_err().code, "idempotency-key-reused");
        assert_eq!(book.receipt("1"), Some(receipt("1")));
    }

    #[test]
    fn what_came_to_nothing_may_be_tried_again() {
        let book = Book::default();
        drop(book.enter("a", Some("k"), &order("x")));
        let Ok(Known::New(entered)) = book.enter("a", Some("k"), &order("y")) else { panic!("it is new") };
        // Forgotten, and entered once more, before the first one ends: that one takes nothing away from the second.
        book.orders.invalidate(&OrderKey { holder: "a".to_owned(), key: "k".to_owned() });
        let second = book.enter("a", Some("k"), &order("y")).unwrap();
        drop(entered);
        assert_eq!(book.enter("a", Some("k"), &order("y")).unwrap_err().code, "idempotency-key-in-use");
        drop(second);
        assert!(matches!(book.enter("a", Some("k"), &order("y")), Ok(Known::New(_))));
    }

    #[test]
    fn the_last_receipts_and_keys_are_known_all_of_them_and_older_ones_are_forgotten() {
        let book = Book::default();
        for n in 0..2 * RECEIPTS_MAX {
            let key = n.to_string();
            let Ok(Known::New(entered)) = book.enter("a", Some(&key), &order("x")) else { panic!("{n} is new") };
            entered.close(&receipt(&key));
            // However often an older one is asked for, a new one is never turned away.
            assert_eq!(book.receipt("0"), Some(receipt("0")));
        }
        book.orders.run_pending_tasks();
        book.receipts.run_pending_tasks();
        assert_eq!((book.orders.entry_count(), book.receipts.entry_count()), (RECEIPTS_MAX, RECEIPTS_MAX));
        for n in RECEIPTS_MAX + 1..2 * RECEIPTS_MAX {
            let key = n.to_string();
            assert!(book.receipt(&key).is_some(), "{n}");
            assert!(matches!(book.enter("a", Some(&key), &order("x")), Ok(Known::Done(_))), "{n}");
        }
        assert_eq!(book.receipt("1"), None);
        assert!(matches!(book.enter("a", Some("1"), &order("x")), Ok(Known::New(_))));
    }

    #[test]
    fn of_orders_with_one_key_that_come_at_once_one_is_new() {
        let book = Book::default();
        for round in 0..200 {
            let key = round.to_string();
            let enter = || book.enter("a", Some(&key), &order("x"));
            let known = std::thread::scope(|scope| {
                let all: Vec<_> = (0..4).map(|_| scope.spawn(enter)).collect();
                all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
            });
            let new = known.iter().filter(|known| matches!(known, Ok(Known::New(_)))).count();
            assert_eq!(new, 1, "{known:?}");
        }
    }
}
