//! An answer of a next hop whose head has arrived: its body, its connection, its place.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::header::{CONNECTION, DATE};
use http::{HeaderMap, HeaderValue, Version};
use nearside_http1::framing::BodyEvent;
use nearside_http1::response::{ResponseError, ResponseHead};
use nearside_semantics::age::Exchange;
use nearside_semantics::fields::{lists, strip_hop_by_hop};
use nearside_semantics::{Timestamp, date};
use nearside_telemetry::clock::instant;
use nearside_telemetry::server_timing::{self, Wait};
use parking_lot::Mutex;
use pingora_core::protocols::Stream;
use tokio::io::{AsyncRead, ReadBuf, ReadHalf};

use super::gate::Place;
use super::patience::is_event_stream;
use super::response_reader::ResponseReader;
use super::{Hop, Patience};
use crate::trailers::strip_of_response;
use crate::upload::{Sending, UploadMeter};

/// An answer whose head has arrived and whose body is still to be read.
pub struct Asked {
    /// The upstream.
    pub hop: Arc<Hop>,
    /// Head of the response.
    pub head: ResponseHead,
    /// When the request was sent and the head arrived, for the age (RFC 9111 §4.2.3).
    pub exchange: Exchange,
    waited: Duration,
    /// What a shield says of the time it took, once the fields have been taken out.
    told: Option<HeaderValue>,
    /// The connection may be used again.
    persistent: bool,
    /// What came behind the body.
    trailers: HeaderMap,
    reader: ResponseReader<Incoming>,
    /// Sends the request's body, on the other half of the connection.
    sending: Option<Sending>,
    address: SocketAddr,
    /// How long its body may be silent.
    silence_max: Duration,
    /// When all of it must have come; `None` for an event stream.
    deadline: Option<Instant>,
    /// Its place at the origin, until it has been read or given up.
    place: Arc<Mutex<Option<Place>>>,
}

/// What a response holds while its body moves: the place at its origin, and the body of its request.
pub struct Hold {
    place: Arc<Mutex<Option<Place>>>,
    upload: Option<Arc<UploadMeter>>,
}

impl Hold {
    /// Gives the place to a request that waits for one. False if none waits, or there is no place to give.
    pub fn give_way(&self) -> bool {
        let mut place = self.place.lock();
        let Some(held) = place.take() else { return false };
        *place = held.give_way();
        place.is_none()
    }

    /// Gives the place back if another network is to get it; whether that is so.
    pub fn yields(&self) -> bool {
        let mut place = self.place.lock();
        let is_revoked = place.as_ref().is_some_and(Place::is_revoked);
        if is_revoked {
            *place = None;
        }
        is_revoked
    }

    /// Bytes of the request body that were sent, while its client still is to send more.
    pub fn awaits_client(&self) -> Option<u64> {
        self.upload.as_ref().and_then(|upload| upload.awaits_client())
    }
}

/// What an answer is read from.
#[derive(Debug)]
pub(crate) enum Incoming {
    Whole(Stream),
    /// A request with a body is still being sent on the other half.
    Half(ReadHalf<Stream>),
}

impl AsyncRead for Incoming {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Whole(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Half(half) => Pin::new(half).poll_read(cx, buf),
        }
    }
}

/// A connection that has left HTTP behind (101), with what was read beyond the head.
pub struct UpgradeStream {
    /// The connection.
    pub stream: Stream,
    /// Bytes that were read behind the head.
    pub early: BytesMut,
}

/// What is known of the connection of an answer.
pub(super) struct Known {
    pub(super) address: SocketAddr,
    pub(super) place: Option<Place>,
    /// When it was asked for.
    pub(super) since: Instant,
    /// How long the next hop may take.
    pub(super) patience: Patience,
}

impl Asked {
    pub(super) fn new(
        hop: Arc<Hop>,
        head: ResponseHead,
        exchange: Exchange,
        reader: ResponseReader<Incoming>,
        sending: Option<Sending>,
        connection: Known,
    ) -> Box<Self> {
        let persistent = is_persistent(&head);
        // It goes from future to future, each of which would have to be as large.
        let Known { address, place, since, patience } = connection;
        let now = instant();
        let waited = now.saturating_duration_since(since);
        let (silence_max, total) = patience.of_body(&head.fields);
        let place = place.filter(|_| !is_event_stream(&head.fields));
        Box::new(Self {
            hop,
            head,
            exchange,
            waited,
            told: None,
            persistent,
            trailers: HeaderMap::new(),
            reader,
            sending,
            address,
            silence_max,
            deadline: total.and_then(|total| now.checked_add(total)),
            place: Arc::new(Mutex::new(place)),
        })
    }

    /// Counts how long it was waited for: of requests, and not of probes of health.
    pub(super) fn counted(self: Box<Self>) -> Box<Self> {
        self.hop.health.waits.add(self.waited);
        self
    }

    /// The fields that travel on, which are taken out.
    pub fn take_end_to_end(&mut self) -> HeaderMap {
        let mut fields = std::mem::take(&mut self.head.fields);
        let is_of_shield = self.hop.is_shield();
        let told = make_end_to_end(&mut fields, is_of_shield, self.exchange.response_date);
        if is_of_shield {
            self.told = told;
        }
        fields
    }

    /// How long its head was waited for.
    pub fn wait(&self) -> Arc<Wait> {
        Arc::new(Wait::new(self.waited, self.hop.is_shield(), self.told.clone()))
    }

    /// Gives its place at the origin up: nothing more will come.
    pub fn leave(&mut self) {
        *self.place.lock() = None;
    }

    /// A handle on what it holds.
    pub fn hold(&self) -> Hold {
        Hold { place: Arc::clone(&self.place), upload: self.sending.as_ref().map(Sending::meter) }
    }

    /// It is not waited for any longer, though its origin may still work on it.
    pub(super) fn give_up(&mut self) {
        if let Some(place) = self.place.lock().take() {
            place.give_up();
        }
    }

    /// How long its next piece may take; nothing once all of it should have come.
    pub(super) fn patience(&self) -> Duration {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(instant()));
        next_piece_limit(self.silence_max, left)
    }

    /// Reads the next part of the body.
    pub(super) async fn piece(&mut self) -> Result<BodyEvent, ResponseError> {
        self.reader.body().await
    }

    /// The body has ended, with these trailers.
    pub(super) fn ended(&mut self, trailers: HeaderMap) {
        self.trailers = trailers;
    }

    /// Whether its connection can be used again, and for whom.
    pub(super) fn reusable(&self) -> Option<(Arc<Hop>, SocketAddr)> {
        let is_reusable = self.persistent && self.reader.is_clean();
        is_reusable.then(|| (Arc::clone(&self.hop), self.address))
    }

    /// Whether the last byte of a body of known length has been read.
    pub fn is_whole(&self) -> bool {
        self.reader.is_whole()
    }

    /// The end-to-end trailers of a body that has been read to its end.
    pub fn take_trailers(&mut self) -> HeaderMap {
        let mut trailers = std::mem::take(&mut self.trailers);
        strip_of_response(&mut trailers);
        trailers
    }

    /// The connection behind a 101.
    pub async fn into_upgrade(self: Box<Self>) -> Option<UpgradeStream> {
        let (stream, early) = self.into_stream().await?;
        Some(UpgradeStream { stream, early })
    }

    /// The connection, if the request was sent to its end, and what was read beyond the answer.
    pub(super) async fn into_stream(self: Box<Self>) -> Option<(Stream, BytesMut)> {
        let (incoming, rest) = self.reader.into_parts();
        match (incoming, self.sending) {
            (Incoming::Whole(stream), _) => Some((stream, rest)),
            (Incoming::Half(half), Some(mut sending)) => Some((half.unsplit(sending.take().await?), rest)),
            (Incoming::Half(_), None) => None,
        }
    }
}

/// Whether the connection of a response stays open behind it (RFC 9112 §9.3).
fn is_persistent(head: &ResponseHead) -> bool {
    head.version == Version::HTTP_11 && !lists(&head.fields, &CONNECTION, b"close")
}

/// Removes the fields that are for this node only, and adds the date of a response that has none. Returns what a shield says of
/// the time it took.
fn make_end_to_end(fields: &mut HeaderMap, is_of_shield: bool, response_date: Timestamp) -> Option<HeaderValue> {
    strip_hop_by_hop(fields);
    let told = if is_of_shield { server_timing::take(fields) } else { None };
    if !fields.contains_key(DATE)
        && let Ok(now) = HeaderValue::from_str(&date::format(response_date))
    {
        // RFC 9110 §6.6.1
        fields.insert(DATE, now);
    }
    told
}

/// Limit of the wait for the next piece of a body, of which `left` is the time until all of it must have come.
fn next_piece_limit(silence_max: Duration, left: Option<Duration>) -> Duration {
    left.map_or(silence_max, |left| left.min(silence_max))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, StatusCode};

    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_connection_is_used_again_unless_either_version_or_field_says_otherwise() {
        for (version, lines, expected) in [
            (Version::HTTP_11, &[][..], true),
            (Version::HTTP_11, &[("connection", "keep-alive")], true),
            (Version::HTTP_11, &[("connection", "close")], false),
            (Version::HTTP_11, &[("connection", "x-a, Close")], false),
            (Version::HTTP_10, &[], false),
            // What an HTTP/1.0 server means by it is not relied upon.
            (Version::HTTP_10, &[("connection", "keep-alive")], false),
        ] {
            let head = ResponseHead { status: StatusCode::OK, version, fields: fields(lines) };
            assert_eq!(is_persistent(&head), expected, "{version:?} {lines:?}");
        }
    }

    #[test]
    fn a_response_without_a_date_gets_that_of_its_arrival() {
        let date_of = |lines: &[(&'static str, &'static str)]| {
            let mut fields = fields(lines);
            make_end_to_end(&mut fields, false, Timestamp::from_secs(784_111_777));
            fields.get(DATE).cloned().unwrap()
        };
        assert_eq!(date_of(&[]), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date_of(&[("date", "Sun, 06 Nov 1994 08:49:30 GMT")]), "Sun, 06 Nov 1994 08:49:30 GMT");
    }

    #[test]
    fn fields_that_are_for_this_node_do_not_travel_on() {
        let mut fields = fields(&[
            ("connection", "x-own"),
            ("x-own", "1"),
            ("transfer-encoding", "chunked"),
            ("x-other", "1"),
            ("date", "Sun, 06 Nov 1994 08:49:30 GMT"),
        ]);
        make_end_to_end(&mut fields, false, Timestamp::from_secs(0));
        assert_eq!(fields.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-other", "date"]);
    }

    #[test]
    fn only_a_shield_is_believed_about_the_time_that_it_took() {
        let line = "cdn-cache;desc=HIT, shield;desc=\"fra\";dur=3";
        for (is_of_shield, told, left) in
            [(true, Some("shield;desc=\"fra\";dur=3"), &["db;dur=5"][..]), (false, None, &["db;dur=5", line])]
        {
            let mut fields = fields(&[("server-timing", "db;dur=5"), ("server-timing", line)]);
            let found = make_end_to_end(&mut fields, is_of_shield, Timestamp::from_secs(0));
            assert_eq!(found.as_ref().map(|value| value.to_str().unwrap()), told);
            assert_eq!(fields.get_all("server-timing").iter().collect::<Vec<_>>(), left, "{is_of_shield}");
        }
    }

    #[test]
    fn the_wait_for_a_piece_ends_with_the_silence_limit_or_the_whole_body() {
        let seconds = Duration::from_secs;
        for (left, expected) in [(None, 30), (Some(60), 30), (Some(30), 30), (Some(7), 7), (Some(0), 0)] {
            assert_eq!(next_piece_limit(seconds(30), left.map(seconds)), seconds(expected), "{left:?}");
        }
    }
}
