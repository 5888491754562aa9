//! How long a next hop may take for its response.

use std::time::Duration;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use nearside_config::{SiteTimeouts, Timeouts};

/// Time that a shield gets beyond the limits of its own request to the origin, so that its answer about a slow origin
/// arrives before the edge gives up as well.
const SHIELD_GRACE: Duration = Duration::from_secs(5);

/// Timeouts of one request to a next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// From the request to the head of the response.
    pub(crate) first_byte: Duration,
    /// Silence between two pieces of the response.
    pub(crate) between_bytes: Duration,
    /// Silence between two pieces of an event stream.
    pub(crate) event_stream: Duration,
    /// Silence of a WebSocket, in both directions.
    pub websocket: Duration,
    /// From the head of the response to its last byte; not for event streams.
    pub(crate) total: Duration,
}

impl Patience {
    /// The timeouts of a node, with those that one of its sites sets in their place.
    pub fn new(node: &Timeouts, site: &SiteTimeouts) -> Self {
        Self {
            first_byte: site.first_byte.unwrap_or(node.first_byte),
            between_bytes: site.between_bytes.unwrap_or(node.between_bytes),
            event_stream: site.event_stream.unwrap_or(node.event_stream),
            websocket: site.websocket.unwrap_or(node.websocket),
            total: site.total.unwrap_or(node.total),
        }
    }

    /// The same for a request to a shield, which waits for the origin by the same limits.
    pub(super) fn with_grace(self) -> Self {
        let longer = |limit: Duration| limit.saturating_add(SHIELD_GRACE);
        Self {
            first_byte: longer(self.first_byte),
            between_bytes: longer(self.between_bytes),
            event_stream: longer(self.event_stream),
            ..self
        }
    }

    /// How long the body of a response with these fields may be silent, and how long all of it may take.
    pub(super) fn of_body(&self, fields: &HeaderMap) -> (Duration, Option<Duration>) {
        if is_event_stream(fields) { (self.event_stream, None) } else { (self.between_bytes, Some(self.total)) }
    }
}

/// Whether a response is a stream of server-sent events, which may be silent for long and has no end of its own.
pub fn is_event_stream(fields: &HeaderMap) -> bool {
    let Some(value) = fields.get(CONTENT_TYPE) else { return false };
    let media_type = value.as_bytes().split(|b| *b == b';').next().unwrap_or_default();
    media_type.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn with_type(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))])
    }

    #[test]
    fn event_streams_are_known_by_their_media_type() {
        for value in ["text/event-stream", "Text/Event-Stream; charset=utf-8", "text/event-stream ;x=y"] {
            assert!(is_event_stream(&with_type(value)), "{value}");
        }
        for value in ["text/event-stream-not", "text/plain; a=text/event-stream", ""] {
            assert!(!is_event_stream(&with_type(value)), "{value}");
        }
        assert!(!is_event_stream(&HeaderMap::new()));
    }

    #[test]
    fn a_site_replaces_the_limits_that_it_sets_and_no_other() {
        let node = Timeouts::default();
        let long = Duration::from_secs(300);
        let patience = Patience::new(&node, &SiteTimeouts { first_byte: Some(long), ..SiteTimeouts::default() });
        assert_eq!((patience.first_byte, patience.between_bytes), (long, node.between_bytes));
        assert_eq!(patience.of_body(&with_type("text/event-stream")), (node.event_stream, None));
        assert_eq!(patience.of_body(&with_type("text/html")), (node.between_bytes, Some(node.total)));
        assert!(patience.with_grace().first_byte > long);
    }

    #[test]
    fn a_shield_gets_more_time_for_every_wait_but_the_whole_and_websockets() {
        let origin = Patience::new(&Timeouts::default(), &SiteTimeouts::default());
        let shield = origin.with_grace();
        let more = |of: fn(&Patience) -> Duration| of(&shield) - of(&origin);
        assert_eq!(more(|patience| patience.first_byte), SHIELD_GRACE);
        assert_eq!(more(|patience| patience.between_bytes), SHIELD_GRACE);
        assert_eq!(more(|patience| patience.event_stream), SHIELD_GRACE);
        assert_eq!(more(|patience| patience.total), Duration::ZERO);
        assert_eq!(more(|patience| patience.websocket), Duration::ZERO);
        let endless = Patience { first_byte: Duration::MAX, ..origin };
        assert_eq!(endless.with_grace().first_byte, Duration::MAX);
    }
}
