//! Rate at which a client takes a stored body while memory is short.
//!
//! A body that is read cannot be evicted. Clients that read a few large bodies very slowly could thus keep everything else
//! out of the cache. While other responses find no room for such bodies, a client that takes less than the minimum rate of
//! [`Pace`] loses its connection; it can go on with a range request.

use std::time::Instant;

use nearside_store::Store;
use nearside_upstream::{LOOK_EVERY, Pace};

/// Progress of one response to one client.
pub(crate) struct TakeRate<'s> {
    store: &'s Store,
    pace: Pace,
    taken: u64,
    /// Shortages of the store when the client was last seen to be fast enough.
    shortages: u64,
    last_look: Option<Instant>,
}

impl<'s> TakeRate<'s> {
    pub(crate) fn new(store: &'s Store) -> Self {
        Self { store, pace: Pace::default(), taken: 0, shortages: store.shortages(), last_look: None }
    }

    /// Notes that the client has taken `bytes` more.
    pub(crate) fn took(&mut self, bytes: usize) {
        self.taken += bytes as u64;
    }

    /// Whether the client has to make room: it was too slow over the last span, and others found no room meanwhile. To be
    /// asked whenever the client was waited for.
    pub(crate) fn makes_room(&mut self, now: Instant) -> bool {
        if self.last_look.is_some_and(|last| now.saturating_duration_since(last) < LOOK_EVERY) {
            return false;
        }
        self.last_look = Some(now);
        let shortages = self.store.shortages();
        if !self.pace.is_slow(self.taken, now) {
            self.shortages = shortages;
        }
        shortages > self.shortages
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};
    use nearside_semantics::Timestamp;
    use nearside_store::{Body, Head, Limits};

    use super::*;
    use nearside_telemetry::clock::instant;

    const STEP: Duration = Duration::from_millis(500);

    /// The number of the first of twenty looks at which a client that takes `rate` bytes in each step has to go.
    fn goes_at(store: &Store, rate: usize, mut at_look: impl FnMut()) -> Option<u32> {
        let (start, mut takes) = (instant(), TakeRate::new(store));
        (0..20).find(|look| {
            at_look();
            takes.took(rate);
            takes.makes_room(start + STEP * *look)
        })
    }

    #[test]
    fn a_slow_client_has_to_go_only_while_others_find_no_room() {
        let store = Store::new(Limits::for_memory(1 << 20));
        let head = Head { status: StatusCode::OK, fields: HeaderMap::new(), wire: Bytes::new() };
        let reserve = || store.reserve(b"key", &head, 200 << 10, Timestamp::from_secs(1));
        assert_eq!(goes_at(&store, 1, || ()), None, "there is room");
        let held: Vec<_> = std::iter::from_fn(|| reserve().map(|charge| Body::growing(Some(charge), None))).collect();
        assert!(held.len() >= 3, "{}", held.len());
        let short = || assert!(reserve().is_none());
        assert!(goes_at(&store, 1, short).is_some_and(|look| look >= 3));
        assert_eq!(goes_at(&store, 64 << 10, short), None, "it is fast enough");
        assert_eq!(goes_at(&store, 1, || ()), None, "nobody asks for room");
    }
}
