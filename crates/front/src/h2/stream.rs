//! A stream that takes longer than a moment: a task of its own, answers from the engine.

use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::header::HOST;
use http::{HeaderValue, Method};
use nearside_engine::pass::Passed;
use nearside_engine::request::parts::AnswerReader;
use nearside_engine::request::refusal::Refusal;
use nearside_engine::request::{Answer, AnswerBody, Request, respond};
use nearside_http1::framing::{BodyEvent, content_length};
use nearside_http1::request;
use nearside_semantics::key::{Scheme, is_authority, write_host};
use nearside_store::Read;
use nearside_telemetry::Protocol;
use nearside_telemetry::clock::instant;
use nearside_telemetry::outcome::Outcome;
use nearside_telemetry::reason::Reason;
use nearside_telemetry::record::{Client, Record, Requested, Responded, Said, Sent, Truncation, client_gone};
use nearside_telemetry::trace::Trace;
use nearside_upstream::LOOK_EVERY;
use nearside_upstream::interim::{Interim, Interims};
use nearside_upstream::upload::Upload;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::heads::{Open, Told};
use super::{READ_BYTES, STREAM_WINDOW, head};
use crate::Worker;
use crate::body_pump::{BodyPump, BodySource};
use crate::exchange::{Carrier, Exchange, RequestBody};
use crate::shares::Member;
use crate::take_rate::TakeRate;

/// Frames of a request body that are smaller are gathered, as far as they have come.
const GATHERED_BYTES: usize = 4096;

pub(super) struct Stream {
    pub(super) worker: Arc<Worker>,
    pub(super) client: Client,
    pub(super) member: Arc<Member>,
    pub(super) open: Open,
}

/// A client whose request is in progress.
struct StreamCarrier<'s> {
    respond: &'s mut SendResponse<Bytes>,
}

impl Carrier for StreamCarrier<'_> {
    /// If it cannot be sent, neither can the final response, which will tell.
    async fn send_interim(&mut self, interim: &Interim) -> io::Result<()> {
        let mut response = http::Response::new(());
        *response.status_mut() = interim.status;
        *response.headers_mut() = interim.fields.clone();
        let _ = self.respond.send_informational(response);
        Ok(())
    }

    /// The request body is carried by a task of its own.
    async fn run<F: Future + Unpin>(&mut self, mut work: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            done = &mut work => Some(done),
            // What nobody waits for is cancelled with this.
            _reset = std::future::poll_fn(|cx| self.respond.poll_reset(cx)) => None,
        }
    }

    fn has_body_begun(&self) -> bool {
        false
    }
}

impl Stream {
    pub(super) async fn serve(mut self, request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let start = instant();
        let worker = Arc::clone(&self.worker);
        let _in_flight = worker.metrics.enter();
        let (parts, body) = request.into_parts();
        let method = parts.method.clone();
        let mut exchange = None;
        let (answer, told) = match self.parse(parts) {
            Ok((request, interims)) => {
                let work = self.work(&worker, request, body, interims, &mut respond, &mut exchange);
                // On the heap: what is sent afterwards may take long, and needs none of it.
                Box::pin(work).await
            }
            Err(refusal) => (Ok(respond::refusal(refusal)), Told::default()),
        };
        // A body may take long, and needs no fields.
        self.open.release_head();
        if let Some(exchange) = &mut exchange {
            exchange.release_head();
        }
        let (status, age, outcome, sent) = match answer {
            Ok(answer) => {
                let (status, age, outcome) = (answer.status, answer.age, answer.outcome.clone());
                (status, age, outcome, self.send(answer, &method, start, &mut respond).await)
            }
            Err(outcome) => (client_gone(), None, outcome, Sent::client_gone()),
        };
        let requested = Requested {
            method: method.as_str(),
            scheme: Scheme::Https,
            host: told.host(),
            target: told.target(),
            protocol: Protocol::Http2,
            client: self.client,
            trace: told.trace.as_ref(),
            said: told.said(),
        };
        let responded = Responded { status, age, outcome: &outcome };
        let record = Record::new(requested, responded, &sent, sent.times(start, instant()));
        worker.finish(&record, worker.engine.clock.now());
    }

    /// The answer to a request, or the outcome where its client has left before; and what is to be told of it.
    async fn work<'w>(
        &self,
        worker: &'w Worker,
        mut request: Request,
        body: RecvStream,
        interims: mpsc::Receiver<Arc<Interim>>,
        respond: &mut SendResponse<Bytes>,
        begun: &mut Option<Exchange<'w>>,
    ) -> (Result<Answer, Outcome>, Told) {
        let length = content_length(&request.fields).ok().flatten();
        let announced = match length {
            _ if body.is_end_stream() => RequestBody::Empty,
            Some(length @ 1..) => RequestBody::Length(length),
            // Only its end will show that there is none.
            Some(0) | None => RequestBody::Unknown,
        };
        let answer = match Exchange::begin(worker, &self.member, &mut request, announced, STREAM_WINDOW.into()) {
            Ok(exchange) => {
                let exchange = begun.insert(exchange);
                let upload = (announced != RequestBody::Empty).then(|| carry(body, length, worker));
                let carrier = &mut StreamCarrier { respond };
                match exchange.respond(&request, upload, interims, carrier).await {
                    Some(Passed::Answer(answer)) => Ok(answer),
                    // No upgrade was asked for: HTTP/2 has none (RFC 9113 §8.6).
                    Some(Passed::Upgraded { .. }) => Ok(respond::refusal(Refusal::bad(Reason::Upgrade))),
                    None => Err(exchange.client_gone()),
                }
            }
            Err(refusal) => Ok(respond::refusal(refusal)),
        };
        let said = Said::of(&worker.engine.config.access_log, &request.fields);
        let told = Told::new(request.authority.as_bytes(), &request.target, said, Some(request.trace));
        (answer, told)
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

    async fn send(&self, answer: Answer, method: &Method, start: Instant, respond: &mut SendResponse<Bytes>) -> Sent {
        let bodiless = *method == Method::HEAD || matches!(answer.body, AnswerBody::None);
        let response = head::of_answer(&self.worker.engine, &answer, start);
        let mut sent = Sent::default();
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

/// The body of a request on a stream.
struct StreamBody(RecvStream);

impl BodySource for StreamBody {
    async fn next(&mut self, stall: Duration) -> Option<BodyEvent> {
        let Self(body) = self;
        match timeout(stall, gathered(body)).await.ok()? {
            Some(data) => {
                let data = data.ok()?;
                // It is handed on at once: the client may send as much again.
                body.flow_control().release_capacity(data.len()).ok()?;
                Some(BodyEvent::Data(data))
            }
            None => Some(BodyEvent::End(body.trailers().await.ok()?.unwrap_or_default())),
        }
    }
}

/// Carries a request body from its stream to the engine, in a task of its own.
fn carry(body: RecvStream, length: Option<u64>, worker: &Worker) -> Upload {
    let config = &worker.engine.config;
    let (mut pump, upload) = BodyPump::new(length, config.limits.body_bytes);
    let stall = config.timeouts.stall;
    tokio::spawn(async move {
        let mut source = StreamBody(body);
        while pump.is_open() {
            pump.step(&mut source, stall).await;
        }
    });
    upload
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
