//! A stream that takes longer than a moment: a task of its own, answers from the engine.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::header::{COOKIE, HOST};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use nearside_semantics::key::{Scheme, is_authority, write_host};
use nearside_store::Read;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Open, READ_BYTES, head};
use crate::clock::instant;
use crate::front::Worker;
use crate::front::take_rate::TakeRate;
use crate::h1::framing::content_length;
use crate::h1::request::{self, Refusal};
use crate::hop::LOOK_EVERY;
use crate::outcome::{Outcome, Verdict};
use crate::pass::upload::{Piece, Upload};
use crate::pass::{self, Passed};
use crate::reason::Reason;
use crate::request::finish::{Client, Record, Said, Times, client_gone};
use crate::request::interim::{Interim, Interims};
use crate::request::parts::AnswerReader;
use crate::request::{Answer, AnswerBody, Request, admit, forward, respond};
use crate::trace::Trace;

pub(super) struct Stream {
    pub(super) worker: Arc<Worker>,
    pub(super) client: Client,
    pub(super) _open: Open,
}

/// How sending ended.
pub(super) struct Sent {
    pub(super) bytes: u64,
    pub(super) first_byte: Option<Instant>,
    pub(super) cut: Option<&'static str>,
}

impl Stream {
    pub(super) async fn serve(self, request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let start = instant();
        let _in_flight = self.worker.metrics.enter();
        let (parts, body) = request.into_parts();
        let method = parts.method.clone();
        let (interims, mut receiver) = Interims::channel(Version::HTTP_2);
        let (answer, request) = match self.parse(parts, interims) {
            Ok(mut request) => {
                let answer = {
                    let mut work = Box::pin(self.answer(&mut request, body));
                    loop {
                        tokio::select! {
                            biased;
                            Some(interim) = receiver.recv() => inform(&mut respond, &interim),
                            answer = &mut work => break Some(answer),
                            // What nobody waits for is cancelled with this.
                            _reset = std::future::poll_fn(|cx| respond.poll_reset(cx)) => break None,
                        }
                    }
                };
                // Beside the final answer a 100 says nothing more.
                while let Ok(interim) = receiver.try_recv() {
                    if interim.status != StatusCode::CONTINUE {
                        inform(&mut respond, &interim);
                    }
                }
                (answer, Some(request))
            }
            Err(refusal) => (Some(respond::refusal(refusal, None)), None),
        };
        let (status, age, outcome, sent) = match answer {
            Some(answer) => {
                let (status, age, outcome) = (answer.status, answer.age, answer.outcome.clone());
                (status, age, outcome, self.send(answer, &method, start, &mut respond).await)
            }
            None => self.left(request.as_ref()),
        };
        let end = instant();
        let record = Record {
            method: method.as_str(),
            scheme: Scheme::Https,
            host: request.as_ref().map_or(b"", |request| request.authority.as_bytes()),
            target: request.as_ref().map_or(b"", |request| &request.target),
            version: Version::HTTP_2,
            client: self.client,
            status,
            bytes: sent.bytes,
            times: Times { start, first_byte: sent.first_byte.unwrap_or(end), end },
            age,
            cut: sent.cut,
            outcome: &outcome,
            trace: request.as_ref().map(|request| &request.trace),
            said: request.as_ref().map(|request| Said::of(&self.worker.engine, &request.fields)).unwrap_or_default(),
        };
        self.worker.finish(&record, self.worker.engine.clock.now());
    }

    /// The end of a request whose client has left before its response.
    fn left(&self, request: Option<&Request>) -> (StatusCode, Option<u64>, Outcome, Sent) {
        let site = request.and_then(|request| admit::site_of(&self.worker.engine, request).ok());
        let outcome = Outcome { reason: Some(Reason::ClientGone), ..Outcome::new(Verdict::Error, site) };
        (client_gone(), None, outcome, Sent { bytes: 0, first_byte: None, cut: Some("client-gone") })
    }

    /// The request in the form that both fronts share (RFC 9113 §8.3.1).
    fn parse(&self, parts: http::request::Parts, interims: Interims) -> Result<Request, Refusal> {
        let mut fields = parts.headers;
        let authority = match parts.uri.authority() {
            Some(authority) => {
                if fields.contains_key(HOST) && !is_same_host(authority.as_str().as_bytes(), request::host(&fields)?) {
                    return Err(Refusal::bad(Reason::Host));
                }
                HeaderValue::from_str(authority.as_str()).ok()
            }
            None => {
                Some(HeaderValue::from_bytes(request::host(&fields)?).map_err(|_no_value| Refusal::bad(Reason::Host))?)
            }
        };
        let authority = authority.filter(|a| is_authority(a.as_bytes())).ok_or(Refusal::bad(Reason::Host))?;
        fields.insert(HOST, authority.clone());
        join_cookies(&mut fields);
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        request::target(target.as_bytes(), parts.method.as_str(), Scheme::Https)?;
        let trace = Trace::of(&fields, self.worker.engine.config.traces.one_in);
        Ok(Request {
            block: None,
            signed_as_sent: Vec::new(),
            method: parts.method,
            scheme: Scheme::Https,
            authority,
            target: Bytes::copy_from_slice(target.as_bytes()),
            version: Version::HTTP_2,
            fields,
            client: self.client,
            trace,
            interims,
        })
    }

    async fn answer(&self, request: &mut Request, body: RecvStream) -> Answer {
        let engine = &self.worker.engine;
        let site = match admit::admit(engine, request) {
            Ok(site) => site,
            Err(refusal) => return respond::refusal(refusal, None),
        };
        request.normalise(engine, site);
        let plain = request.method == Method::GET || request.method == Method::HEAD;
        if plain && body.is_end_stream() {
            return forward::answer(engine, site, request).await;
        }
        let length = content_length(&request.fields).ok().flatten();
        let limit = engine.config.limits.body_bytes;
        if length.is_some_and(|length| length > limit) {
            return too_large(site);
        }
        let upload = (!body.is_end_stream()).then(|| {
            let (sender, upload) = Upload::new(length);
            tokio::spawn(pump(body, sender, limit, engine.config.timeouts.stall));
            upload
        });
        match pass::pass(engine, site, request, upload).await {
            Passed::Answer(answer) => answer,
            // No upgrade was asked for: HTTP/2 has none (RFC 9113 §8.6).
            Passed::Upgraded { .. } => respond::refusal(Refusal::bad(Reason::Upgrade), Some(site)),
        }
    }

    async fn send(&self, answer: Answer, method: &Method, start: Instant, respond: &mut SendResponse<Bytes>) -> Sent {
        let bodiless = *method == Method::HEAD || matches!(answer.body, AnswerBody::None);
        let response = head::of_answer(&self.worker.engine, &answer, start);
        let mut sent = Sent { bytes: 0, first_byte: None, cut: None };
        let Ok(mut stream) = respond.send_response(response, bodiless) else {
            sent.cut = Some("client-gone");
            return sent;
        };
        sent.first_byte = Some(instant());
        match answer.body {
            _ if bodiless => {}
            AnswerBody::None => {}
            AnswerBody::Bytes(bytes) => {
                let stall = self.worker.engine.config.timeouts.stall;
                let mut rate = TakeRate::new(&self.worker.engine.store);
                if push(&mut stream, bytes, true, stall, &mut rate, &mut sent.bytes).await.is_err() {
                    sent.cut = Some("client-gone");
                }
            }
            AnswerBody::Reader { reader, length } => self.stream(reader, length, &mut stream, &mut sent).await,
        }
        sent
    }

    pub(super) async fn stream(
        &self,
        mut reader: AnswerReader,
        mut left: Option<u64>,
        stream: &mut SendStream<Bytes>,
        sent: &mut Sent,
    ) {
        let stall = self.worker.engine.config.timeouts.stall;
        let mut rate = TakeRate::new(&self.worker.engine.store);
        let mut chunks = Vec::new();
        loop {
            let read = match left {
                Some(0) => Read::End,
                left => tokio::select! {
                    biased;
                    read = reader.read(left.unwrap_or(u64::MAX).min(READ_BYTES), &mut chunks) => read,
                    _reset = std::future::poll_fn(|cx| stream.poll_reset(cx)) => {
                        sent.cut = Some("client-gone");
                        return;
                    }
                },
            };
            match read {
                Read::Chunks => {}
                Read::End if left.is_none_or(|left| left == 0) => {
                    let _ = match reader.trailers() {
                        Some(trailers) => stream.send_trailers(trailers.clone()),
                        None => stream.send_data(Bytes::new(), true),
                    };
                    return;
                }
                Read::End | Read::Cut | Read::Pending => {
                    // RFC 9113 §8.1.1: an answer that is not whole must not look whole.
                    stream.send_reset(h2::Reason::INTERNAL_ERROR);
                    sent.cut = Some("upstream-cut");
                    return;
                }
            }
            let bytes: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
            left = left.map(|left| left.saturating_sub(bytes));
            let count = chunks.len();
            for (place, chunk) in chunks.drain(..).enumerate() {
                let last = left == Some(0) && place + 1 == count;
                if push(stream, chunk, last, stall, &mut rate, &mut sent.bytes).await.is_err() {
                    stream.send_reset(h2::Reason::CANCEL);
                    sent.cut = Some("client-gone");
                    return;
                }
            }
            if left == Some(0) {
                return;
            }
        }
    }
}

/// Passes an interim answer on. If it cannot be sent, neither can the final one, which will tell.
fn inform(respond: &mut SendResponse<Bytes>, interim: &Interim) {
    let mut response = http::Response::new(());
    *response.status_mut() = interim.status;
    *response.headers_mut() = interim.fields.clone();
    let _ = respond.send_informational(response);
}

fn too_large(site: usize) -> Answer {
    let refusal = Refusal { status: StatusCode::PAYLOAD_TOO_LARGE, reason: Reason::BodyTooLarge };
    respond::refusal(refusal, Some(site))
}

/// Sends bytes as the client's windows allow, waiting at most `stall` each time; an error as well if the client has to make room
/// for others.
async fn push(
    stream: &mut SendStream<Bytes>,
    mut bytes: Bytes,
    last: bool,
    stall: Duration,
    rate: &mut TakeRate<'_>,
    sent: &mut u64,
) -> io::Result<()> {
    if bytes.is_empty() && last {
        return stream.send_data(bytes, true).map_err(io::Error::other);
    }
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let deadline = instant() + stall;
        let capacity = loop {
            let capacity = timeout(LOOK_EVERY, std::future::poll_fn(|cx| stream.poll_capacity(cx))).await;
            let now = instant();
            match capacity {
                _ if rate.makes_room(now) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(Some(Ok(capacity))) => break capacity,
                Err(_elapsed) if now < deadline => {}
                Ok(Some(Err(_)) | None) | Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
        };
        let piece = bytes.split_to(capacity.min(bytes.len()));
        rate.took(piece.len());
        *sent += piece.len() as u64;
        stream.send_data(piece, last && bytes.is_empty()).map_err(io::Error::other)?;
    }
    Ok(())
}

/// Carries a request body from its stream to the pass lane.
async fn pump(mut body: RecvStream, sender: mpsc::Sender<Piece>, limit: u64, stall: Duration) {
    let mut left = limit;
    loop {
        let data = tokio::select! {
            data = tokio::time::timeout(stall, body.data()) => data,
            // The answer came without it: the stream is reset, so that the client need not send it.
            () = sender.closed() => return,
        };
        match data {
            Ok(Some(Ok(data))) => {
                let size = data.len();
                let Some(rest) = left.checked_sub(size as u64) else { return };
                left = rest;
                if sender.send(Piece::Data(data)).await.is_err() || body.flow_control().release_capacity(size).is_err()
                {
                    return;
                }
            }
            Ok(None) => {
                if let Ok(trailers) = body.trailers().await {
                    let _ = sender.send(Piece::End(trailers.unwrap_or_default())).await;
                }
                return;
            }
            Ok(Some(Err(_))) | Err(_) => return,
        }
    }
}

/// Compares `:authority` with `Host` after normalisation, as RFC 9113 §8.3.1 requires: case, the scheme's default port and
/// a trailing dot make no difference, the same as in the cache key.
fn is_same_host(authority: &[u8], host: &[u8]) -> bool {
    let normalised = |host: &[u8]| {
        let mut form = Vec::with_capacity(host.len());
        write_host(Scheme::Https, host, &mut form);
        form
    };
    authority == host || normalised(authority) == normalised(host)
}

/// "these MUST be concatenated into a single octet string" (RFC 9113 §8.2.3).
fn join_cookies(fields: &mut HeaderMap) {
    if fields.get_all(COOKIE).iter().count() < 2 {
        return;
    }
    let lines: Vec<&[u8]> = fields.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        fields.insert(COOKIE, joined);
    }
}
