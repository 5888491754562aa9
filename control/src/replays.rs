//! Events that hooks have accepted, so that a copy of one is known whoever sends it.
//!
//! GitHub signs the body of an event and nothing else: whoever has seen one could send it again under another delivery id. So the
//! body is what tells events apart, and the id only what tells a second delivery from a copy.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use parking_lot::Mutex;

/// Time for which an event is remembered: GitHub delivers again for three days.
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);
/// Events that are remembered.
const EVENTS_MAX: usize = 10_000;

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

/// The events that were accepted lately.
#[derive(Debug, Default)]
pub(crate) struct Replays {
    remembered: Mutex<Remembered>,
}

#[derive(Debug, Default)]
struct Remembered {
    events: HashMap<EventKey, Accepted, ahash::RandomState>,
    /// In the order in which they came.
    ages: VecDeque<(Instant, EventKey)>,
}

impl Replays {
    /// The event with this key, if it was accepted before.
    pub(crate) fn find(&self, key: &EventKey, now: Instant) -> Option<Accepted> {
        let mut remembered = self.remembered.lock();
        remembered.forget(now);
        remembered.events.get(key).cloned()
    }

    /// Remembers an event that is accepted.
    pub(crate) fn accept(&self, key: EventKey, accepted: Accepted, now: Instant) {
        let mut remembered = self.remembered.lock();
        if remembered.events.insert(key.clone(), accepted).is_none() {
            remembered.ages.push_back((now, key));
        }
        remembered.forget(now);
    }
}

impl Remembered {
    fn forget(&mut self, now: Instant) {
        while let Some((since, _)) = self.ages.front() {
            let is_old = now.saturating_duration_since(*since) > REMEMBERED;
            if !is_old && self.ages.len() <= EVENTS_MAX {
                return;
            }
            if let Some((_, key)) = self.ages.pop_front() {
                self.events.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::known::instant;

    fn accepted(receipt: usize) -> Accepted {
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

    #[test]
    fn events_are_remembered_for_a_time_and_up_to_a_number() {
        let (replays, now) = (Replays::default(), instant());
        let key = |n: usize| EventKey::new("cms", n.to_string().as_bytes());
        replays.accept(key(0), accepted(0), now);
        assert_eq!(replays.find(&key(0), now + REMEMBERED), Some(accepted(0)));
        assert_eq!(replays.find(&key(0), now + REMEMBERED + Duration::from_secs(1)), None);
        for n in 0..=EVENTS_MAX {
            replays.accept(key(n), accepted(n), now);
        }
        assert_eq!((replays.find(&key(0), now), replays.find(&key(1), now)), (None, Some(accepted(1))));
        let remembered = replays.remembered.lock();
        assert_eq!((remembered.events.len(), remembered.ages.len()), (EVENTS_MAX, EVENTS_MAX));
    }
}
