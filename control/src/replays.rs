//! Events that hooks have accepted, so that a copy of one is known whoever sends it.
//!
//! GitHub signs the body of an event and nothing else: whoever has seen one could send it again under another delivery id. So the
//! body is what tells events apart, and the id only what tells a second delivery from a copy.

use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

/// Time for which an event is remembered: GitHub delivers again for three days.
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);
/// Number of events that are remembered: with about half a kilobyte each, 5 MB.
const EVENTS_MAX: u64 = 10_000;

/// What tells an event of a hook from all others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct EventKey([u8; 32]);

impl EventKey {
    /// The key of what was signed: the body, or the id of an event.
    pub(crate) fn new(hook: &str, signed: &[u8]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&(hook.len() as u64).to_be_bytes());
        context.update(hook.as_bytes());
        context.update(signed);
        let mut key = [0; 32];
        key.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
        Self(key)
    }

    /// The key as text.
    pub(crate) fn as_text(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// An event that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The id of its delivery, where it has one that is not signed.
    pub(crate) delivery: Option<String>,
    /// The id of the receipt.
    pub(crate) receipt: String,
}

/// Events that were accepted lately. If there are more than [`EVENTS_MAX`], those go first that were neither accepted nor sent again
/// for longest.
#[derive(Debug)]
pub(crate) struct Replays {
    /// With the moment at which each was accepted: tests move the clock, which moka's own time to live would not follow.
    events: Cache<EventKey, (Accepted, Instant)>,
}

impl Default for Replays {
    fn default() -> Self {
        // Not TinyLFU: it turns new entries away when the cache is full, and an event that is not remembered can be replayed.
        let builder = Cache::builder().max_capacity(EVENTS_MAX).eviction_policy(EvictionPolicy::lru());
        Self { events: builder.build() }
    }
}

impl Replays {
    /// Returns the event with this key, if it was accepted before.
    pub(crate) fn find(&self, key: &EventKey, now: Instant) -> Option<Accepted> {
        let (accepted, since) = self.events.get(key)?;
        (now.saturating_duration_since(since) <= REMEMBERED).then_some(accepted)
    }

    /// Remembers an event that is accepted.
    pub(crate) fn accept(&self, key: EventKey, accepted: Accepted, now: Instant) {
        self.events.insert(key, (accepted, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::known::instant;

    fn accepted(receipt: u64) -> Accepted {
        Accepted { delivery: None, receipt: receipt.to_string() }
    }

    #[test]
    fn an_event_is_its_hook_and_what_was_signed() {
        let key = |hook: &str, signed: &str| EventKey::new(hook, signed.as_bytes());
        assert_eq!(key("cms", "{}"), key("cms", "{}"));
        assert_ne!(key("cms", "{}"), key("cms", "{} "));
        assert_ne!(key("cms", "x"), key("cmsx", ""));
        assert_eq!(key("cms", "{}").as_text().len(), 64);
    }

    fn key(n: u64) -> EventKey {
        EventKey::new("cms", &n.to_be_bytes())
    }

    #[test]
    fn events_are_remembered_for_a_time() {
        let (replays, now) = (Replays::default(), instant());
        replays.accept(key(0), accepted(0), now);
        assert_eq!(replays.find(&key(0), now + REMEMBERED), Some(accepted(0)));
        assert_eq!(replays.find(&key(0), now + REMEMBERED + Duration::from_secs(1)), None);
        assert_eq!(replays.find(&key(1), now), None);
    }

    #[test]
    fn the_last_events_are_remembered_all_of_them_and_no_others() {
        let (replays, now) = (Replays::default(), instant());
        let sent_again = 1;
        for n in 0..2 * EVENTS_MAX {
            replays.accept(key(n), accepted(n), now);
            // However often others are looked for, a new event is never turned away.
            assert_eq!(replays.find(&key(n), now), Some(accepted(n)));
            assert_eq!(replays.find(&key(sent_again), now), (n >= sent_again).then(|| accepted(sent_again)));
        }
        replays.events.run_pending_tasks();
        assert_eq!(replays.events.entry_count(), EVENTS_MAX);
        let known = |n: u64| replays.find(&key(n), now).is_some();
        assert!((EVENTS_MAX + 1..2 * EVENTS_MAX).all(known), "nothing older has taken the place of these");
        assert!(!known(0) && !known(EVENTS_MAX));
        assert!(known(sent_again), "what is sent again is remembered for longer");
    }
}
