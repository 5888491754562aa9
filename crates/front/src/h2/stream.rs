//! A stream that takes longer than a moment: a task of its own, answers from the engine.

use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::header::HOST;
use http::{HeaderValue, Method, StatusCode};
use nearside_config::SiteId;
use nearside_engine::pass::{self, Passed};
use nearside_engine::request::admit::{Admitted, RequestHead, admit};
use nearside_engine::request::parts::AnswerReader;
use nearside_engine::request::refusal::Refusal;
use nearside_engine::request::{Answer, AnswerBody, Request, forward, respond};
use nearside_http1::framing::{BodyEvent, content_length};
use nearside_http1::request;
use nearside_semantics::key::{Scheme, is_authority, write_host};
use nearside_store::Read;
use nearside_telemetry::Protocol;
use nearside_telemetry::clock::instant;
use nearside_telemetry::outcome::{Outcome, Verdict};
use nearside_telemetry::reason::Reason;
use nearside_telemetry::record::{Client, Record, Said, Times, Truncation, client_gone};
use nearside_telemetry::trace::Trace;
use nearside_upstream::LOOK_EVERY;
use nearside_upstream::interim::{Interim, Interims};
use nearside_upstream::upload::Upload;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::heads::{Open, Told};
use super::{READ_BYTES, STREAM_WINDOW, head};
use crate::Worker;
use crate::shares::{Holds, Member, Progress};
use crate::take_rate::TakeRate;

/// Frames of a request body that are smaller are gathered, as far as they have come.
const GATHERED_BYTES: usize = 4096;

pub(super) struct Stream {
    pub(super) worker: Arc<Worker>,
    pub(super) client: Client,
    pub(super) member: Arc<Member>,
    pub(super) open: Open,
}

/// How sending ended.
pub(super) struct Sent {
    pub(super) bytes: u64,
    pub(super) first_byte: Option<Instant>,
    pub(super) truncation: Option<Truncation>,
}

impl Sent {
    pub(super) fn nothing() -> Self {
        Self { bytes: 0, first_byte: None, truncation: None }
    }
}

impl Stream {
    pub(super) async fn serve(mut self, request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let start = instant();
        let worker = Arc::clone(&self.worker);
        let _in_flight = worker.metrics.enter();
        let (parts, body) = request.into_parts();
        let method = parts.method.clone();
        let mut progress = None;
        let (answer, told) = match self.parse(parts) {
            Ok((request, interims)) => {
                let work = self.work(request, body, interims, &mut respond, &mut progress);
                // On the heap: what is sent afterwards may take long, and needs none of it.
                Box::pin(work).await
            }
            Err(refusal) => (Ok(respond::refusal(refusal)), Told::default()),
        };
        // A body may take long, and needs no fields.
        self.open.release_head();
        if let Some(progress) = &mut progress {
            progress.release_head();
        }
        let (status, age, outcome, sent) = match answer {
            Ok(answer) => {
                let (status, age, outcome) = (answer.status, answer.age, answer.outcome.clone());
                (status, age, outcome, self.send(answer, &method, start, &mut respond).await)
            }
            Err(outcome) => {
                (client_gone(), None, outcome, Sent { truncation: Some(Truncation::ClientGone), ..Sent::nothing() })
            }
        };
        let end = instant();
        let record = Record {
            method: method.as_str(),
            scheme: Scheme::Https,
            host: told.host(),
            target: told.target(),
            protocol: Protocol::Http2,
            client: self.client,
            status,
            bytes: sent.bytes,
            times: Times { start, first_byte: sent.first_byte.unwrap_or(end), end },
            age,
            truncation: sent.truncation,
            outcome: &outcome,
            trace: told.trace.as_ref(),
            said: told.said(),
        };
        worker.finish(&record, worker.engine.clock.now());
    }

    /// The answer to a request, or the outcome where its client has left before; and what is to be told of it.
    async fn work(
        &self,
        mut request: Request,
        body: RecvStream,
        mut interims: mpsc::Receiver<Arc<Interim>>,
        respond: &mut SendResponse<Bytes>,
        progress: &mut Option<Progress>,
    ) -> (Result<Answer, Outcome>, Told) {
        let answer = {
            let mut work = std::pin::pin!(self.answer(&mut request, body, progress));
            loop {
                tokio::select! {
                    biased;
                    Some(interim) = interims.recv() => inform(respond, &interim),
                    answer = &mut work => break Some(answer),
                    // What nobody waits for is cancelled with this.
                    _reset = std::future::poll_fn(|cx| respond.poll_reset(cx)) => break None,
                }
            }
        };
        // Beside the final answer a 100 says nothing more.
        while let Ok(interim) = interims.try_recv() {
            if interim.status != StatusCode::CONTINUE {
                inform(respond, &interim);
            }
        }
        let answer = answer.ok_or_else(|| self.left(&request));
        let said = Said::of(&self.worker.engine.config.access_log, &request.fields);
        let told = Told::new(request.authority.as_bytes(), &request.target, said, Some(request.trace));
        (answer, told)
    }

    /// The outcome of a request whose client has left before its response.
    fn left(&self, request: &Request) -> Outcome {
        let site = admit(&self.worker.engine, &RequestHead::received(request)).ok().map(Admitted::site);
        Outcome { reason: Some(Reason::ClientGone), ..Outcome::new(Verdict::Error, site) }
    }

    /// The request in the form that both fronts share (RFC 9113 §8.3.1).
    fn parse(&self, parts: http::request::Parts) -> Result<(Request, mpsc::Receiver<Arc<Interim>>), Refusal> {
        let (interims, receiver) = Interims::channel(Protocol::Http2);
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
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        request::target(target.as_bytes(), parts.method.as_str(), Scheme::Https)?;
        let trace = Trace::of(&fields, self.worker.engine.config.traces.one_in);
        let request = Request {
            block: None,
            signed_as_sent: Vec::new(),
            method: parts.method,
            scheme: Scheme::Https,
            authority,
            target: Bytes::copy_from_slice(target.as_bytes()),
            protocol: Protocol::Http2,
            fields,
            client: self.client,
            trace,
            interims,
        };
        Ok((request, receiver))
    }

    async fn answer(&self, request: &mut Request, body: RecvStream, progress: &mut Option<Progress>) -> Answer {
        let engine = &self.worker.engine;
        let admitted = match admit(engine, &RequestHead::received(request)) {
            Ok(admitted) => admitted,
            Err(refusal) => return respond::refusal(refusal),
        };
        if engine.tier.wants_secret() {
            self.member.exempt();
        }
        let site = admitted.site();
        let length = content_length(&request.fields).ok().flatten();
        let window = u64::from(STREAM_WINDOW);
        let held = if body.is_end_stream() { 0 } else { length.map_or(window, |length| length.min(window)) };
        match self.member.begin(self.worker.metrics.in_flight(), Holds::new(&request.fields, held)) {
            Ok(begun) => *progress = Some(begun),
            Err(refusal) => return respond::refusal(refusal.at(site)),
        }
        request.normalise(engine, site);
        let plain = request.method == Method::GET || request.method == Method::HEAD;
        if plain && body.is_end_stream() {
            return forward::answer(engine, admitted, request).await;
        }
        let limit = engine.config.limits.body_bytes;
        if length.is_some_and(|length| length > limit) {
            return too_large(site);
        }
        let upload = (!body.is_end_stream()).then(|| {
            let (sender, upload) = Upload::new(length);
            tokio::spawn(pump(body, sender, limit, engine.config.timeouts.stall));
            upload
        });
        match pass::pass(engine, admitted, request, upload).await {
            Passed::Answer(answer) => answer,
            // No upgrade was asked for: HTTP/2 has none (RFC 9113 §8.6).
            Passed::Upgraded { .. } => respond::refusal(Refusal::bad(Reason::Upgrade).at(site)),
        }
    }

    async fn send(&self, answer: Answer, method: &Method, start: Instant, respond: &mut SendResponse<Bytes>) -> Sent {
        let bodiless = *method == Method::HEAD || matches!(answer.body, AnswerBody::None);
        let response = head::of_answer(&self.worker.engine, &answer, start);
        let mut sent = Sent::nothing();
        let Ok(mut stream) = respond.send_response(response, bodiless) else {
            sent.truncation = Some(Truncation::ClientGone);
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
                    sent.truncation = Some(Truncation::ClientGone);
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
                        sent.truncation = Some(Truncation::ClientGone);
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
                    sent.truncation = Some(Truncation::UpstreamCut);
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
                    sent.truncation = Some(Truncation::ClientGone);
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

fn too_large(site: SiteId) -> Answer {
    let refusal = Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, Reason::BodyTooLarge);
    respond::refusal(refusal.at(site))
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

/// The next piece of a request body: a frame, or what small ones that have come hold together.
async fn gathered(body: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    let first = match body.data().await? {
        Ok(first) if first.len() < GATHERED_BYTES => first,
        other => return Some(other),
    };
    let mut gathered = BytesMut::from(&first[..]);
    while gathered.len() < GATHERED_BYTES {
        // The end, and errors, are said again.
        let more = std::future::poll_fn(|cx| Poll::Ready(body.poll_data(cx))).await;
        let Poll::Ready(Some(Ok(more))) = more else { break };
        gathered.extend_from_slice(&more);
    }
    Some(Ok(gathered.freeze()))
}

/// Carries a request body from its stream to the pass lane.
async fn pump(mut body: RecvStream, sender: mpsc::Sender<BodyEvent>, limit: u64, stall: Duration) {
    let mut left = limit;
    loop {
        let data = tokio::select! {
            data = timeout(stall, gathered(&mut body)) => data,
            // The answer came without it: the stream is reset, so that the client need not send it.
            () = sender.closed() => return,
        };
        match data {
            Ok(Some(Ok(data))) => {
                let size = data.len();
                let Some(rest) = left.checked_sub(size as u64) else { return };
                left = rest;
                if sender.send(BodyEvent::Data(data)).await.is_err()
                    || body.flow_control().release_capacity(size).is_err()
                {
                    return;
                }
            }
            Ok(None) => {
                if let Ok(trailers) = body.trailers().await {
                    let _ = sender.send(BodyEvent::End(trailers.unwrap_or_default())).await;
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
