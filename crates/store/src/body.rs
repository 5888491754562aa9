//! A body that many can read while one writes it.
//!
//! Each reader has a cursor of its own; reading copies nothing but references to chunks. The writer of a *kept* body
//! never waits for anybody; the writer of a *passing* body (one that will not be stored) holds at most a window of
//! bytes and waits for its slowest reader, dropping what all have passed. A reader has passed what it has read when it
//! comes back for more: until then it may still be sending that. What is held is charged, as far as there is room.
//!
//! The bytes of a kept body count as pinned while it is written, and while a reader of it exists if it is large: to evict it
//! frees nothing then.
//!
//! **Invariant:** a reader sees the end only after [`BodyWriter::finish`]; every other way of ending is
//! [`Read::Cut`].

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::budget::Charge;

mod reader;
mod whole;

pub use reader::BodyReader;
use whole::Whole;

/// Size from which a whole body that is read counts as pinned. Readers of smaller ones are not counted.
pub const PINNED_BYTES_MIN: u64 = 64 << 10;

/// A body, growing or whole.
#[derive(Debug)]
pub struct Body {
    whole: OnceLock<Whole>,
    growing: Mutex<Growing>,
    /// What came behind it, if anything; set before its end is seen.
    trailers: OnceLock<Box<HeaderMap>>,
    /// Readers wait here for bytes.
    grown: Notify,
    /// The writer of a passing body waits here for room.
    read: Notify,
}

/// Neighbouring chunks are merged up to this size while a body grows. An upstream that sends a body byte by byte would
/// else cost a hundred bytes of bookkeeping for each of them, and every reader a walk over all of them.
const MERGED_BYTES: usize = 16 * 1024;

/// Bytes of a growing body and the position behind them.
#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    end: u64,
}

impl Chunk {
    fn start(&self) -> u64 {
        self.end - self.bytes.len() as u64
    }
}

#[derive(Debug, Default)]
struct Growing {
    chunks: VecDeque<Chunk>,
    /// Where the first chunk begins; more than 0 once chunks have been dropped.
    start: u64,
    end: u64,
    /// The most that is held for readers; `None` while the body is kept whole.
    window: Option<u64>,
    cut: bool,
    ended: bool,
    /// A cursor for each reader of a body that is not whole yet; `None` is a free place.
    cursors: Vec<Option<u64>>,
    charge: Option<Charge>,
    /// Number of readers once the body is whole, if it is large.
    readers: usize,
}

/// What a reader finds at its cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// Chunks were added to the list.
    Chunks,
    /// All bytes have been read.
    End,
    /// The body ended before it was whole.
    Cut,
    /// Nothing yet.
    Pending,
}

impl Body {
    /// A body that is whole from the start.
    #[must_use]
    pub fn complete(bytes: Bytes, charge: Option<Charge>) -> Arc<Self> {
        let (body, mut writer) = Self::growing(charge, None);
        writer.append(bytes);
        writer.finish(HeaderMap::new());
        body
    }

    /// An empty body and the one who may write it, whose bytes count on a charge. With a `window` the body passes: no more
    /// than that many bytes are held for its readers, and it can only be joined at its start.
    #[must_use]
    pub fn growing(charge: Option<Charge>, window: Option<u64>) -> (Arc<Self>, BodyWriter) {
        if let Some(charge) = charge.as_ref().filter(|_| window.is_none()) {
            charge.pin();
        }
        let body = Arc::new(Self {
            whole: OnceLock::new(),
            growing: Mutex::new(Growing { window, charge, ..Growing::default() }),
            trailers: OnceLock::new(),
            grown: Notify::new(),
            read: Notify::new(),
        });
        let writer = BodyWriter { body: Arc::clone(&body) };
        (body, writer)
    }

    /// The length, if the body is whole.
    #[must_use]
    pub fn len(&self) -> Option<u64> {
        self.whole.get().map(Whole::len)
    }

    /// Whether the body is whole and has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// Whether it has ended before it was whole.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.whole.get().is_none() && self.growing.lock().cut
    }

    /// The chunks of a whole body.
    #[must_use]
    pub fn chunks(&self) -> Option<&[Bytes]> {
        self.whole.get().map(Whole::chunks)
    }

    /// A reader at `start`, or `None` if bytes from there on have been dropped already, or the rest will never come.
    #[must_use]
    pub fn reader(self: &Arc<Self>, start: u64) -> Option<BodyReader> {
        let mut place = None;
        if self.whole.get().is_none_or(Whole::is_large) {
            let mut growing = self.growing.lock();
            match self.whole.get() {
                Some(whole) => growing.count_reader(whole),
                None if growing.start > start || growing.cut => return None,
                None => place = Some(growing.enter(start)),
            }
        }
        Some(BodyReader { body: Arc::clone(self), at: start, place })
    }
}

impl Growing {
    /// Adds bytes at the end. They are merged with the chunks before them that are not larger, so that of `n` small chunks
    /// about log2 `n` are left, and each byte is copied as often.
    fn push(&mut self, mut bytes: Bytes) {
        self.end += bytes.len() as u64;
        let begun = self.slowest().unwrap_or(0);
        while let Some(last) = self.chunks.back() {
            let merges = last.bytes.len() <= bytes.len() && last.bytes.len() + bytes.len() <= MERGED_BYTES;
            // What the slowest reader of a passing body has begun to read is dropped sooner by itself.
            if !merges || self.window.is_some() && last.start() < begun {
                break;
            }
            bytes = [&last.bytes[..], &bytes[..]].concat().into();
            self.chunks.pop_back();
        }
        self.chunks.push_back(Chunk { bytes, end: self.end });
    }

    /// Adds up to `limit` bytes from position `at` on to `list`; returns how many.
    fn read(&self, at: u64, limit: u64, list: &mut Vec<Bytes>) -> u64 {
        let first = self.chunks.partition_point(|chunk| chunk.end <= at);
        let skip = self.chunks.get(first).map_or(0, |chunk| at.saturating_sub(chunk.start()));
        collect(self.chunks.range(first..).map(|chunk| &chunk.bytes), skip, limit, list)
    }

    /// The cursor of the slowest reader.
    fn slowest(&self) -> Option<u64> {
        self.cursors.iter().flatten().min().copied()
    }

    fn enter(&mut self, cursor: u64) -> usize {
        let place = self.cursors.iter().position(Option::is_none).unwrap_or_else(|| {
            self.cursors.push(None);
            self.cursors.len() - 1
        });
        self.set_cursor(place, Some(cursor));
        place
    }

    fn set_cursor(&mut self, place: usize, cursor: Option<u64>) {
        if let Some(slot) = self.cursors.get_mut(place) {
            *slot = cursor;
        }
        if self.window.is_some() {
            self.drop_passed();
        }
    }

    /// Drops the chunks that every reader has passed.
    fn drop_passed(&mut self) {
        let Some(slowest) = self.slowest() else { return };
        while let Some(chunk) = self.chunks.front().filter(|chunk| chunk.end <= slowest) {
            self.start = chunk.end;
            self.chunks.pop_front();
        }
        let held = self.held();
        if let Some(charge) = &mut self.charge {
            charge.shrink_to(held);
        }
    }

    fn held(&self) -> u64 {
        self.end - self.start
    }

    /// Counts a new reader of a body that is whole.
    fn count_reader(&mut self, whole: &Whole) {
        if whole.is_large() {
            self.readers += 1;
            whole.set_pinned(true);
        }
    }

    /// Counts a reader of a body that is whole no more.
    fn forget_reader(&mut self, whole: &Whole) {
        if whole.is_large() {
            self.readers = self.readers.saturating_sub(1);
            whole.set_pinned(self.readers > 0);
        }
    }

    fn has_readers(&self) -> bool {
        self.cursors.iter().any(Option::is_some)
    }
}

/// The one who writes a body. Dropping it before [`finish`](Self::finish) cuts the body.
#[derive(Debug)]
pub struct BodyWriter {
    body: Arc<Body>,
}

impl BodyWriter {
    /// Adds bytes at the end.
    pub fn append(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.body.growing.lock().push(bytes);
        self.body.grown.notify_waiters();
    }

    /// Takes `bytes` more; false if the budget is used up.
    #[must_use]
    pub fn charge(&mut self, bytes: u64) -> bool {
        self.body.growing.lock().charge.as_mut().is_none_or(|charge| charge.grow(bytes))
    }

    /// Turns a kept body into a passing one: from now on at most `window` bytes are held.
    pub fn pass(&mut self, window: u64) {
        let mut growing = self.body.growing.lock();
        growing.window = Some(window);
        if let Some(charge) = &growing.charge {
            charge.unpin();
        }
        growing.drop_passed();
    }

    /// Waits until there is room for more. False when nobody reads a passing body any more.
    pub async fn room(&self) -> bool {
        self.room_within(u64::MAX).await
    }

    /// Waits until all of a passing body has been taken. False when nobody reads it any more.
    pub async fn emptied(&self) -> bool {
        self.room_within(1).await
    }

    /// Waits until fewer bytes are held than the window has, and than `most`.
    async fn room_within(&self, most: u64) -> bool {
        loop {
            let notified = self.body.read.notified();
            tokio::pin!(notified);
            // Registered before looking, so that a reader that moves in between is not missed.
            notified.as_mut().enable();
            {
                let growing = self.body.growing.lock();
                let Some(window) = growing.window else { return true };
                if !growing.has_readers() {
                    return false;
                }
                if growing.held() < window.min(most) {
                    return true;
                }
            }
            notified.await;
        }
    }

    /// Waits until nobody reads a passing body any more; for ever while it is kept.
    pub async fn abandoned(&self) {
        loop {
            let notified = self.body.read.notified();
            tokio::pin!(notified);
            // Registered before looking, as above.
            notified.as_mut().enable();
            {
                let growing = self.body.growing.lock();
                if growing.window.is_some() && !growing.has_readers() {
                    return;
                }
            }
            notified.await;
        }
    }

    /// Waits until nobody reads the body.
    pub async fn unread(&self) {
        loop {
            let notified = self.body.read.notified();
            tokio::pin!(notified);
            // Registered before looking, as above.
            notified.as_mut().enable();
            if !self.body.growing.lock().has_readers() {
                return;
            }
            notified.await;
        }
    }

    /// Cuts the body if nobody reads it, so that nobody can begin to; whether it did.
    #[must_use]
    pub fn cut_if_unread(&self) -> bool {
        let mut growing = self.body.growing.lock();
        let is_unread = !growing.has_readers();
        if is_unread {
            growing.ended = true;
            growing.cut = true;
        }
        is_unread
    }

    /// The number of bytes that all readers of a growing body have taken.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.body.growing.lock().cursors.iter().flatten().min().copied().unwrap_or(0)
    }

    /// The number of bytes written so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.body.growing.lock().end
    }

    /// Ends the body well, with what came behind it.
    pub fn finish(self, trailers: HeaderMap) {
        if !trailers.is_empty() {
            // Nobody else writes.
            let _ = self.body.trailers.set(Box::new(trailers));
        }
        let mut growing = self.body.growing.lock();
        growing.ended = true;
        if growing.window.is_none() {
            let chunks = std::mem::take(&mut growing.chunks).into_iter().map(|chunk| chunk.bytes).collect();
            let charge = growing.charge.take();
            // Nobody is waited for any more.
            growing.readers = std::mem::take(&mut growing.cursors).iter().flatten().count();
            let whole = Whole::of(chunks, charge);
            whole.set_pinned(growing.readers > 0 && whole.is_large());
            // The list is only emptied together with this, under the lock: readers look here first.
            let _ = self.body.whole.set(whole);
        }
        drop(growing);
        self.body.grown.notify_waiters();
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        let mut growing = self.body.growing.lock();
        if !growing.ended {
            growing.ended = true;
            growing.cut = true;
            drop(growing);
            self.body.grown.notify_waiters();
        }
    }
}

/// Adds up to `limit` bytes to `list`, beginning `skip` bytes into `chunks`; returns how many.
fn collect<'a>(chunks: impl Iterator<Item = &'a Bytes>, mut skip: u64, limit: u64, list: &mut Vec<Bytes>) -> u64 {
    let mut left = limit;
    for chunk in chunks {
        let length = chunk.len() as u64;
        if skip >= length {
            skip -= length;
            continue;
        }
        if left == 0 {
            break;
        }
        let take = (length - skip).min(left);
        let start = usize::try_from(skip).unwrap_or(usize::MAX);
        let end = usize::try_from(skip + take).unwrap_or(usize::MAX);
        list.push(chunk.slice(start..end));
        skip = 0;
        left -= take;
    }
    limit - left
}

#[cfg(test)]
mod tests;
