//! Readers of a body.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::{Body, Read};

/// Share of its window, as a divisor, that a reader of a passing body gets at once: 32 KiB of 256.
const PASSED_AT_ONCE: u64 = 8;
/// What it gets at once however small the window is.
const PASSED_MIN: u64 = 16 << 10;

/// A cursor into a body.
#[derive(Debug)]
pub struct BodyReader {
    pub(super) body: Arc<Body>,
    pub(super) at: u64,
    /// Its place among the cursors, while the body was growing when it was made.
    pub(super) place: Option<usize>,
}

impl BodyReader {
    /// Adds up to `limit` bytes from the cursor on to `list` and moves the cursor behind them.
    pub fn poll(&mut self, limit: u64, list: &mut Vec<Bytes>) -> Read {
        if let Some(whole) = self.body.whole.get() {
            let read = whole.read(self.at, limit, list);
            self.at += read;
            return if read > 0 { Read::Chunks } else { Read::End };
        }
        let mut growing = self.body.growing.lock();
        if self.body.whole.get().is_some() {
            drop(growing);
            return self.poll(limit, list);
        }
        // Who comes back has done with what it got.
        if let Some(place) = self.place {
            growing.set_cursor(place, Some(self.at));
        }
        // Of a passing body a reader gets little at a time, so that its cursor shows how fast its client takes it.
        let limit = growing.window.map_or(limit, |window| limit.min((window / PASSED_AT_ONCE).max(PASSED_MIN)));
        let read = growing.read(self.at, limit, list);
        self.at += read;
        let found = match (read, growing.ended, growing.cut) {
            (1.., ..) => Read::Chunks,
            (0, false, _) => Read::Pending,
            (0, true, false) => Read::End,
            (0, true, true) => Read::Cut,
        };
        let passing = growing.window.is_some();
        drop(growing);
        if passing {
            self.body.read.notify_one();
        }
        found
    }

    /// As [`poll`](Self::poll), but waits where that says [`Read::Pending`].
    pub async fn read(&mut self, limit: u64, list: &mut Vec<Bytes>) -> Read {
        loop {
            let body = Arc::clone(&self.body);
            let notified = body.grown.notified();
            tokio::pin!(notified);
            // Registered before looking, so that a write in between is not missed.
            notified.as_mut().enable();
            match self.poll(limit, list) {
                Read::Pending => notified.await,
                read => return read,
            }
        }
    }

    /// A reader of the same body at `start`; `None` if bytes from there on have been dropped already.
    #[must_use]
    pub fn from(self, start: u64) -> Option<Self> {
        self.body.reader(start)
    }

    /// The trailers; known once the end has been read.
    #[must_use]
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.body.trailers.get().map(|trailers| &**trailers)
    }

    /// Where the cursor stands.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.at
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        let whole = self.body.whole.get();
        if whole.is_some_and(|whole| !whole.is_large()) {
            return;
        }
        let mut growing = self.body.growing.lock();
        match (self.body.whole.get(), self.place) {
            (Some(whole), _) => growing.forget_reader(whole),
            (None, Some(place)) => {
                growing.set_cursor(place, None);
                drop(growing);
                self.body.read.notify_one();
            }
            (None, None) => {}
        }
    }
}
