//! Sending: any answer, with its body at the client's pace.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, UPGRADE};
use http::{HeaderMap, Method, StatusCode};
use nearside_engine::pass::tunnel;
use nearside_engine::request::finish::{Ending, Persistence};
use nearside_engine::request::parts::AnswerReader;
use nearside_engine::request::refusal::Refusal;
use nearside_engine::request::{Answer, AnswerBody, AnswerHead, Request, respond};
use nearside_http1::framing::bodiless;
use nearside_http1::write;
use nearside_store::Read;
use nearside_telemetry::Protocol;
use nearside_telemetry::clock::instant;
use nearside_telemetry::outcome::Outcome;
use nearside_telemetry::record::{Record, Requested, Responded, Said, Sent, Times, Truncation, client_gone};
use nearside_upstream::{UpgradeStream, is_event_stream};

use super::receive::Body;
use super::watch::{AtEnd, Watch};
use super::{Connection, Next};
use crate::take_rate::TakeRate;

/// What one write hands to the kernel at most: enough to fill its buffer, little enough to be fair to others.
const WRITE_BYTES: u64 = 512 << 10;

/// Room for what each head gets anew.
const HEAD_BYTES: usize = 256;

/// How a body is set off from what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delimiter {
    Length,
    Chunks,
    Close,
}

impl Connection<'_> {
    /// Sends an answer and ends its request. `body` is the request's, if some of it may still have to be handed on.
    pub(super) async fn send(
        &mut self,
        answer: Answer,
        request: &Request,
        start: Instant,
        persistence: Persistence,
        body: &mut Body,
    ) -> Next {
        let status = answer.status;
        let fields = answer.head.fields();
        let delimiter = if fields.contains_key(CONTENT_LENGTH) || bodiless(status) || request.method == Method::HEAD {
            Delimiter::Length
        } else if request.protocol == Protocol::Http11 {
            Delimiter::Chunks
        } else {
            Delimiter::Close
        };
        let persistence = if delimiter == Delimiter::Close { Persistence::Closes } else { persistence };
        // Nobody half-closes a connection to read a stream that has no end.
        let at_end = if is_event_stream(fields) { AtEnd::Gone } else { AtEnd::Silence };
        self.head.clear();
        self.head.reserve(HEAD_BYTES);
        let own = self.begin_head(&answer);
        let chunked = delimiter == Delimiter::Chunks;
        let ending = Ending { outcome: &answer.outcome, age: answer.age, persistence, chunked, start };
        self.worker.engine.end_head(&ending, &mut self.head);
        let prefix = own.unwrap_or_default();
        let (age, outcome) = (answer.age, answer.outcome);
        let sent = match answer.body {
            AnswerBody::Reader { reader, length } if request.method != Method::HEAD => {
                let stream = Stream { reader, left: length, delimiter, at_end };
                self.stream(&prefix, stream, body).await
            }
            AnswerBody::Bytes(bytes) if request.method != Method::HEAD => self.at_once(&prefix, &bytes).await,
            _ => self.at_once(&prefix, b"").await,
        };
        let end = instant();
        self.finish(request, Responded { status, age, outcome: &outcome }, &sent, sent.times(start, end));
        match (sent.truncation, persistence) {
            (Some(_), _) => Next::Abort,
            (None, Persistence::Closes) => Next::Close,
            (None, _) => Next::Request,
        }
    }

    fn finish(&mut self, request: &Request, responded: Responded<'_>, sent: &Sent, times: Times) {
        let requested = Requested {
            method: request.method.as_str(),
            scheme: request.scheme,
            host: request.authority.as_bytes(),
            target: &request.target,
            protocol: request.protocol,
            client: request.client,
            trace: Some(&request.trace),
            said: Said::of(&self.worker.engine.config.access_log, &request.fields),
        };
        self.worker.finish(&Record::new(requested, responded, sent, times), self.worker.engine.clock.now());
        self.idle_since = times.end;
    }

    /// Ends a request whose client was lost before its answer: nothing more can be sent.
    pub(super) fn lost(&mut self, request: &Request, outcome: &Outcome, start: Instant) -> Next {
        let sent = Sent::client_gone();
        let responded = Responded { status: client_gone(), age: None, outcome };
        self.finish(request, responded, &sent, sent.times(start, instant()));
        Next::Abort
    }

    /// The part of the head that is not made anew: what was serialised at fill time, or now.
    fn begin_head(&self, answer: &Answer) -> Option<Bytes> {
        match &answer.head {
            AnswerHead::Prepared(head) => Some(head.wire.clone()),
            AnswerHead::Own(fields) => {
                let length = fields.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
                let mut wire = Vec::with_capacity(512);
                write::begin(answer.status, fields, |_| true, &mut wire);
                write::end(fields, length, &self.worker.engine.via, &mut wire);
                Some(wire.into())
            }
        }
    }

    async fn at_once(&mut self, prefix: &[u8], body: &[u8]) -> Sent {
        let mut slices = [IoSlice::new(prefix), IoSlice::new(&self.head), IoSlice::new(body)];
        let stall = self.worker.engine.config.timeouts.stall;
        let written = self.io.write_all(&mut slices, stall).await;
        Sent {
            bytes: body.len() as u64,
            first_byte: None,
            truncation: written.is_err().then_some(Truncation::ClientGone),
        }
    }

    /// Sends the head with whatever of the body is there, then the rest as it comes.
    async fn stream(&mut self, prefix: &[u8], mut stream: Stream, body: &mut Body) -> Sent {
        let engine = Arc::clone(&self.worker.engine);
        let stall = engine.config.timeouts.stall;
        let mut rate = TakeRate::new(&engine.store);
        let mut sent = Sent::default();
        let mut head = Some(prefix);
        let mut watch = Watch::new(stream.at_end);
        let mut chunks = std::mem::take(&mut self.chunks);
        loop {
            chunks.clear();
            let mut read = stream.poll(&mut chunks);
            if read == Read::Pending {
                if head.is_some() {
                    // The client gets the head while the body is still on its way.
                    read = Read::Chunks;
                } else {
                    let wait = std::pin::pin!(stream.read(&mut chunks));
                    let next = body.pump_until(wait, &mut self.io, &mut self.buffer, stall, &mut watch).await;
                    let Some(next) = next else {
                        sent.truncation = Some(Truncation::ClientGone);
                        break;
                    };
                    read = next;
                }
            }
            let bytes = chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
            let last = read == Read::End || stream.left == Some(0);
            if read == Read::Cut || (read == Read::End && stream.left.is_some_and(|left| left > 0)) {
                sent.truncation = Some(Truncation::UpstreamCut);
                let _ = self.write(head.take(), &[], Frame::Bare, None, &mut rate).await;
                break;
            }
            let frame = match (stream.delimiter, last) {
                (Delimiter::Chunks, true) => Frame::LastChunk,
                (Delimiter::Chunks, false) if bytes > 0 => Frame::Chunk,
                _ => Frame::Bare,
            };
            let trailers = stream.reader.trailers().filter(|_| frame == Frame::LastChunk);
            if self.write(head.take(), &chunks, frame, trailers, &mut rate).await.is_err() {
                sent.truncation = Some(Truncation::ClientGone);
                break;
            }
            sent.first_byte.get_or_insert_with(instant);
            sent.bytes += bytes;
            if last {
                break;
            }
        }
        chunks.clear();
        self.chunks = chunks;
        sent
    }

    /// One vectored write: the head if it is still to be sent, then chunks in their frame, trailers behind the last one.
    async fn write(
        &mut self,
        head: Option<&[u8]>,
        chunks: &[Bytes],
        frame: Frame,
        trailers: Option<&HeaderMap>,
        rate: &mut TakeRate<'_>,
    ) -> io::Result<()> {
        let size: usize = chunks.iter().map(Bytes::len).sum();
        let (mut opening, mut closing) = (Vec::new(), Vec::new());
        if frame != Frame::Bare && size > 0 {
            write::chunk_size(size, &mut opening);
            closing.extend_from_slice(b"\r\n");
        }
        if frame == Frame::LastChunk {
            write::last_chunk(trailers.unwrap_or(&HeaderMap::new()), &mut closing);
        }
        let mut slices = Vec::with_capacity(chunks.len() + 4);
        if let Some(prefix) = head {
            slices.push(IoSlice::new(prefix));
            slices.push(IoSlice::new(&self.head));
        }
        slices.push(IoSlice::new(&opening));
        slices.extend(chunks.iter().map(|chunk| IoSlice::new(chunk)));
        slices.push(IoSlice::new(&closing));
        let stall = self.worker.engine.config.timeouts.stall;
        self.io.write_all_at(&mut slices, stall, Some(rate)).await
    }

    /// Refuses what is no request, or one that cannot be gone on with: the connection closes.
    pub(super) async fn refuse(&mut self, refusal: Refusal, host: &[u8], target: &[u8]) -> Next {
        let start = instant();
        let answer = respond::refusal(refusal);
        self.head.clear();
        let (outcome, persistence) = (&answer.outcome, Persistence::Closes);
        let ending = Ending { outcome, age: None, persistence, chunked: false, start };
        self.worker.engine.end_head(&ending, &mut self.head);
        let prefix = self.begin_head(&answer).unwrap_or_default();
        let AnswerBody::Bytes(text) = &answer.body else { return Next::Close };
        let sent = self.at_once(&prefix, text).await;
        let end = instant();
        let requested = Requested {
            method: "-",
            scheme: self.scheme,
            host,
            target,
            protocol: Protocol::Http11,
            client: self.client,
            trace: None,
            said: Said::default(),
        };
        let responded = Responded { status: answer.status, age: None, outcome: &answer.outcome };
        let record = Record::new(requested, responded, &sent, sent.times(start, end));
        self.worker.finish(&record, self.worker.engine.clock.now());
        Next::CloseUnread
    }

    /// Confirms an upgrade and gives the connection over to the two ends.
    pub(super) async fn tunnel(
        &mut self,
        request: &Request,
        head: &HeaderMap,
        stream: UpgradeStream,
        outcome: Outcome,
        start: Instant,
    ) -> Next {
        self.head.clear();
        write::status_line(StatusCode::SWITCHING_PROTOCOLS, &mut self.head);
        for (name, value) in head.iter().filter(|(name, _)| **name != CONNECTION && **name != UPGRADE) {
            write::field(name.as_str(), value.as_bytes(), &mut self.head);
        }
        if let Some(protocol) = head.get(UPGRADE) {
            write::field(UPGRADE.as_str(), protocol.as_bytes(), &mut self.head);
        }
        self.head.extend_from_slice(b"connection: upgrade\r\n\r\n");
        let first = self.at_once(b"", b"").await;
        let first_byte = instant();
        let early = self.buffer.split();
        let (timeouts, site) = (self.worker.engine.config.timeouts, outcome.site);
        let idle = site.map_or(timeouts.websocket, |site| self.worker.engine.rules(site).patience.websocket);
        if first.truncation.is_none() {
            // However it ends, both ends have had what they could get.
            let _ = tunnel::run(&mut self.io, &early, stream, tunnel::Limits { idle, stall: timeouts.stall }).await;
        }
        let times = Times { start, first_byte, end: instant() };
        let responded = Responded { status: StatusCode::SWITCHING_PROTOCOLS, age: None, outcome: &outcome };
        self.finish(request, responded, &first, times);
        Next::Close
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    Bare,
    Chunk,
    LastChunk,
}

/// A body on its way to a client.
struct Stream {
    reader: AnswerReader,
    /// Bytes still to be sent, where the number is known.
    left: Option<u64>,
    delimiter: Delimiter,
    at_end: AtEnd,
}

impl Stream {
    fn limit(&self) -> u64 {
        self.left.unwrap_or(u64::MAX).min(WRITE_BYTES)
    }

    fn poll(&mut self, chunks: &mut Vec<Bytes>) -> Read {
        if self.left == Some(0) {
            return Read::End;
        }
        let read = self.reader.poll(self.limit(), chunks);
        self.count(chunks);
        read
    }

    async fn read(&mut self, chunks: &mut Vec<Bytes>) -> Read {
        let read = self.reader.read(self.limit(), chunks).await;
        self.count(chunks);
        read
    }

    fn count(&mut self, chunks: &[Bytes]) {
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(chunks.iter().map(|chunk| chunk.len() as u64).sum());
        }
    }
}
