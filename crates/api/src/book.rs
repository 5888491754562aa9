//! Receipts that are remembered: by their name, and by the key that makes an order that is sent twice one order.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;
use nearside_protocol::{Order, Problem, Receipt};
use parking_lot::Mutex;

/// So many receipts are remembered.
const RECEIPTS_MAX: usize = 1000;

/// The last receipts of a backend.
#[derive(Debug, Default)]
pub struct Book {
    entered: AtomicU64,
    lines: Mutex<VecDeque<Line>>,
}

#[derive(Debug)]
struct Line {
    number: u64,
    holder: String,
    key: Option<String>,
    order: Order,
    /// Absent while it is being carried out.
    receipt: Option<Receipt>,
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
    number: u64,
}

impl Entered<'_> {
    /// It has come to a receipt.
    pub(crate) fn close(self, receipt: &Receipt) {
        let mut lines = self.book.lines.lock();
        if let Some(line) = lines.iter_mut().find(|line| line.number == self.number) {
            line.receipt = Some(receipt.clone());
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.book.lines.lock().retain(|line| line.number != self.number || line.receipt.is_some());
    }
}

impl Book {
    /// Enters an order; or finds that it was given before, by the same holder with the same key.
    pub(crate) fn enter(&self, holder: &str, key: Option<&str>, order: &Order) -> Result<Known<'_>, Problem> {
        let mut lines = self.lines.lock();
        let is_it = |line: &&Line| key.is_some() && line.key.as_deref() == key && line.holder == holder;
        match lines.iter().find(is_it) {
            None => {}
            Some(line) if line.order != *order => {
                let detail = "this `Idempotency-Key` was used for another order: take a new one";
                return Err(Problem::unprocessable("idempotency-key-reused", detail));
            }
            Some(Line { receipt: Some(receipt), .. }) => return Ok(Known::Done(receipt.clone())),
            Some(_) => {
                let detail = "the order with this `Idempotency-Key` is being carried out";
                return Err(Problem::new(StatusCode::CONFLICT, "idempotency-key-in-use", detail));
            }
        }
        let number = self.entered.fetch_add(1, Ordering::Relaxed);
        let (holder, key) = (holder.to_owned(), key.map(str::to_owned));
        lines.push_back(Line { number, holder, key, order: order.clone(), receipt: None });
        if lines.len() > RECEIPTS_MAX {
            lines.pop_front();
        }
        Ok(Known::New(Entered { book: self, number }))
    }

    /// The receipt of this name.
    #[must_use]
    pub fn receipt(&self, id: &str) -> Option<Receipt> {
        let lines = self.lines.lock();
        lines.iter().filter_map(|line| line.receipt.as_ref()).find(|receipt| receipt.id == id).cloned()
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
    fn what_came_to_nothing_may_be_tried_again_and_old_receipts_are_forgotten() {
        let book = Book::default();
        drop(book.enter("a", Some("k"), &order("x")));
        for n in 0..=RECEIPTS_MAX {
            let Ok(Known::New(entered)) = book.enter("a", None, &order("x")) else { panic!("it is new") };
            entered.close(&receipt(&n.to_string()));
        }
        assert_eq!((book.receipt("0"), book.receipt("1").is_some()), (None, true));
        assert!(matches!(book.enter("a", Some("k"), &order("x")), Ok(Known::New(_))));
    }
}
