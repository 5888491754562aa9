//! The purge log: what is kept of it in memory, for nodes that follow; where it is written is [`file`]'s affair, or that of
//! NATS.

pub(crate) mod file;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nearside_config::Keep;
use nearside_replication::{At, Record};
use parking_lot::Mutex;
use tokio::sync::watch;

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be opened, read or written.
    #[error("the purge log {path} cannot be used: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// A line in the middle is not what was written.
    #[error(
        "the purge log {path} is damaged at line {line}: {what}. Nodes may have seen what is lost; move the file away to begin a \
         new log, and every node makes stale all that it has"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// Another process has it.
    #[error("the purge log {path} is in use by another process")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// NATS cannot be reached, or does not do what it is asked for.
    #[error("the purge log on NATS cannot be used: {0}")]
    Nats(String),
    /// NATS has not answered in time.
    #[error(
        "NATS has not answered in time: it is not known whether the order is in the log. Give it again; twice does no harm"
    )]
    Unknown,
    /// NATS has the order; the nodes that have to obey it are not known.
    #[error("the order {0} is in the log, but it is not known here which nodes there are: look at /v1/purge/{0}")]
    Accepted(String),
    /// This program cannot do it.
    #[error("this program was built without NATS: build it with the feature `nats`, or use a log in a file")]
    WithoutNats,
}

/// The end of a log, as long as it is kept, for nodes that follow.
#[derive(Debug)]
pub(crate) struct Recent {
    keep: Keep,
    /// Held for a moment only.
    kept: Mutex<Kept>,
    /// Changes with whatever is below.
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct Kept {
    /// The name of the log.
    log: String,
    /// What is kept, in order.
    records: VecDeque<Arc<Record>>,
    /// The last number that there was.
    last: u64,
    /// The name of the order with that number; empty if it is not known.
    last_id: String,
    /// It is known what is in the log: nodes may be told so.
    is_live: bool,
}

/// What a node that was at some place gets.
#[derive(Debug)]
pub(crate) enum Since {
    /// All that came after it.
    Records(Vec<Arc<Record>>),
    /// The log does not reach back so far, or the place is in another log.
    Unknown,
}

impl Recent {
    /// Of no log yet.
    pub(crate) fn new(keep: Keep) -> Self {
        let (log, last_id, records) = (String::new(), String::new(), VecDeque::new());
        let kept = Kept { log, records, last: 0, last_id, is_live: false };
        Self { keep, kept: Mutex::new(kept), changed: watch::Sender::new(()) }
    }

    /// From now on it is this log, of which all up to `last` is not kept.
    pub(crate) fn begin(&self, log: &str, last: u64) {
        let mut kept = self.kept.lock();
        log.clone_into(&mut kept.log);
        kept.records.clear();
        (kept.last, kept.last_id) = (last, String::new());
        drop(kept);
        self.changed.send_replace(());
    }

    /// Adds the next order. `given` is called before any node can see it, and before it is told of to any that joins from now on.
    pub(crate) fn add(&self, record: Arc<Record>, given: impl FnOnce()) {
        let mut kept = self.kept.lock();
        given();
        kept.last = record.seq;
        kept.last_id.clone_from(&record.id);
        kept.records.push_back(record);
        forget(&mut kept, self.keep, now());
        drop(kept);
        self.changed.send_replace(());
    }

    /// It is known what is in the log, or not any more.
    pub(crate) fn set_live(&self, is_live: bool) {
        self.kept.lock().is_live = is_live;
        self.changed.send_replace(());
    }

    pub(crate) fn is_live(&self) -> bool {
        self.kept.lock().is_live
    }

    /// Where its end is.
    pub(crate) fn at(&self) -> At {
        self.end().0
    }

    /// The same, and the name of the last order.
    pub(crate) fn end(&self) -> (At, String) {
        let kept = self.kept.lock();
        (At { log: kept.log.clone(), seq: kept.last }, kept.last_id.clone())
    }

    /// Waits until all up to a number is known.
    #[cfg(feature = "nats")]
    pub(crate) async fn reaches(&self, seq: u64) {
        self.until(|kept| kept.last >= seq).await;
    }

    /// Waits until an order is known under its number.
    #[cfg(feature = "nats")]
    pub(crate) async fn has(&self, seq: u64, id: &str) {
        let is_it = |record: &Arc<Record>| record.seq == seq && record.id == id;
        self.until(|kept| kept.records.iter().rev().take_while(|record| record.seq >= seq).any(is_it)).await;
    }

    /// Waits until it is known what is in the log.
    #[cfg(feature = "nats")]
    pub(crate) async fn lives(&self) {
        self.until(|kept| kept.is_live).await;
    }

    #[cfg(feature = "nats")]
    async fn until(&self, is_so: impl Fn(&Kept) -> bool) {
        let mut changed = self.watch();
        loop {
            changed.mark_unchanged();
            if is_so(&self.kept.lock()) || changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Tells of each change.
    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// What came after a place, at which the order of the name `last` was. Nobody can tell that of an order that is not kept.
    pub(crate) fn since(&self, at: &At, last: &str) -> Since {
        let kept = self.kept.lock();
        match kept.skip(at, last) {
            Some(skip) => Since::Records(kept.records.iter().skip(skip).cloned().collect()),
            None => Since::Unknown,
        }
    }

    /// Whether there is such a place.
    pub(crate) fn knows(&self, at: &At, last: &str) -> bool {
        self.kept.lock().skip(at, last).is_some()
    }

    fn len(&self) -> usize {
        self.kept.lock().records.len()
    }

    /// What is kept, and the last number.
    fn records(&self) -> (Vec<Arc<Record>>, u64) {
        let kept = self.kept.lock();
        (kept.records.iter().cloned().collect(), kept.last)
    }
}

impl Kept {
    /// How many of those that are kept are not after a place; nothing if there is no such place.
    fn skip(&self, at: &At, last: &str) -> Option<usize> {
        let first = self.records.front().map_or(self.last + 1, |record| record.seq);
        if at.log != self.log || at.seq > self.last || at.seq + 1 < first {
            return None;
        }
        let skip = usize::try_from(at.seq + 1 - first).ok()?;
        let there = match skip.checked_sub(1) {
            Some(place) => self.records.get(place).map_or("", |record| &record.id),
            None if at.seq == self.last => &self.last_id,
            None => "",
        };
        (there.is_empty() || last.is_empty() || there == last).then_some(skip)
    }
}

/// Forgets what is more, or older, than is kept.
fn forget(kept: &mut Kept, keep: Keep, now: u64) {
    let oldest = now.saturating_sub(millis(keep.time));
    while kept.records.len() > keep.records || kept.records.front().is_some_and(|record| record.at < oldest) {
        kept.records.pop_front();
    }
}

/// A name that nothing else has.
pub(crate) fn new_name() -> String {
    let random = ahash::RandomState::new().hash_one(0_u8);
    format!("p{random:016x}")
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "the time that stands in the log")]
pub(crate) fn now() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use nearside_protocol::Order;

    use super::*;

    #[test]
    fn a_place_is_known_by_its_number_and_by_the_order_that_was_there() {
        let recent = Recent::new(Keep { records: 3, ..Keep::default() });
        recent.begin("l", 0);
        let at = |seq| At { log: "l".to_owned(), seq };
        for seq in 1..=5 {
            recent.add(Arc::new(Record { seq, id: format!("i{seq}"), at: now(), order: Order::default() }), || {});
        }
        let since = |at: &At, last: &str| match recent.since(at, last) {
            Since::Records(records) => Some(records.len()),
            Since::Unknown => None,
        };
        assert_eq!((since(&at(5), "i5"), since(&at(4), "i4"), since(&at(4), "")), (Some(0), Some(1), Some(1)));
        // The log was set back and went on: what has the number is another order.
        assert_eq!((since(&at(5), "other"), since(&at(4), "other")), (None, None));
        assert_eq!(since(&at(2), "i2"), Some(3), "nobody can tell any more");
        assert_eq!((since(&at(1), "i1"), since(&at(6), "")), (None, None));
        assert_eq!(since(&At { log: "m".to_owned(), seq: 5 }, "i5"), None);
    }
}
