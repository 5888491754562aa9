//! What reached the origin: requests, how many at once, bytes; in all and by path with query.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

/// The counts of one path, or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Requests that have begun.
    pub requests: u64,
    /// Requests that were under way at one time, at most.
    pub peak_concurrency: u64,
    /// Bytes of bodies that were given to the connection.
    pub bytes: u64,
    #[serde(skip)]
    now: u64,
}

impl Entry {
    fn begin(&mut self) {
        self.requests += 1;
        self.now += 1;
        self.peak_concurrency = self.peak_concurrency.max(self.now);
    }
}

/// A copy of the ledger at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Page {
    /// Over all paths.
    pub total: Entry,
    /// By path with query.
    pub paths: BTreeMap<String, Entry>,
}

/// Counts what reaches the origin. Requests for the ledger itself do not count.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Page>);

impl Ledger {
    /// What stands in it now.
    #[must_use]
    pub fn read(&self) -> Page {
        self.0.lock().clone()
    }

    /// The counts over all paths.
    #[must_use]
    pub fn total(&self) -> Entry {
        self.0.lock().total
    }

    /// The counts of a path with query.
    #[must_use]
    pub fn of(&self, path: &str) -> Entry {
        self.0.lock().paths.get(path).copied().unwrap_or_default()
    }

    /// Forgets everything but the requests that are under way.
    pub fn reset(&self) {
        let mut page = self.0.lock();
        page.total = Entry { now: page.total.now, ..Entry::default() };
        page.paths.retain(|_, entry| entry.now > 0);
        for entry in page.paths.values_mut() {
            *entry = Entry { now: entry.now, ..Entry::default() };
        }
    }

    /// Notes the beginning of a request; its end when the visit is dropped.
    pub(crate) fn begin(self: &Arc<Self>, path: &str) -> Visit {
        let mut page = self.0.lock();
        page.total.begin();
        page.paths.entry(path.to_owned()).or_default().begin();
        Visit { ledger: Arc::clone(self), path: path.to_owned() }
    }
}

/// A request that is under way.
#[derive(Debug)]
pub(crate) struct Visit {
    ledger: Arc<Ledger>,
    path: String,
}

impl Visit {
    pub(crate) fn sent(&self, bytes: u64) {
        let mut page = self.ledger.0.lock();
        page.total.bytes += bytes;
        if let Some(entry) = page.paths.get_mut(&self.path) {
            entry.bytes += bytes;
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut page = self.ledger.0.lock();
        page.total.now = page.total.now.saturating_sub(1);
        if let Some(entry) = page.paths.get_mut(&self.path) {
            entry.now = entry.now.saturating_sub(1);
        }
    }
}
