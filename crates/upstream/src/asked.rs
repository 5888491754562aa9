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
use nearside_semantics::date;
use nearside_semantics::fields::{lists, strip_hop_by_hop};
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
        let persistent = head.version == Version::HTTP_11 && !lists(&head.fields, &CONNECTION, b"close");
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
        strip_hop_by_hop(&mut fields);
        if self.hop.is_shield() {
            self.told = server_timing::take(&mut fields);
        }
        if !fields.contains_key(DATE)
            && let Ok(now) = HeaderValue::from_str(&date::format(self.exchange.response_date))
        {
            // RFC 9110 §6.6.1
            fields.insert(DATE, now);
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
        left.map_or(self.silence_max, |left| left.min(self.silence_max))
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
