//! Hits that are answered where they are read, without a task of their own.

use std::time::Instant;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE};
use http::{Method, Request};
use nearside_engine::request::hit::{self, Hit, Meaning, Plain, meaning};
use nearside_engine::request::parts::AnswerReader;
use nearside_engine::request::refusal::Refusal;
use nearside_engine::request::{Engine, respond};
use nearside_semantics::fields::Fields;
use nearside_semantics::key::Scheme;
use nearside_telemetry::Protocol;
use nearside_telemetry::clock::instant;
use nearside_telemetry::record::{Client, Record, Requested, Responded, Said, Sent, Times, Truncation};

use super::heads::Told;
use super::stream::Stream;
use super::{Connection, head};
use crate::Worker;
use crate::shares::{Holds, Progress};

/// Larger bodies get a task that hands them on as the client takes them.
const AT_ONCE_BYTES: u64 = 64 << 10;

impl Connection<'_> {
    /// Answers a hit, asked for at `start`.
    pub(super) fn send_hit(
        &mut self,
        hit: Hit,
        request: &Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        start: Instant,
    ) {
        let engine = &self.worker.engine;
        let length = hit.bytes();
        let mut progress = None;
        if length > AT_ONCE_BYTES {
            match self.begin() {
                Ok(begun) => progress = Some(begun),
                Err(refusal) => return self.refuse(refusal, request, respond, start),
            }
        }
        let mut sent = Sent::default();
        match respond.send_response(head::of_hit(engine, &hit, start), length == 0) {
            Err(_) => sent.truncation = Some(Truncation::ClientGone),
            Ok(stream) if length == 0 => drop(stream),
            Ok(mut stream) => {
                if takes(&mut stream, length) {
                    sent = send(&hit, &mut stream);
                } else if let Some(progress) = progress.or_else(|| self.begin().ok()) {
                    let told = Told::new(
                        host(request),
                        target(request),
                        Said::of(&engine.config.access_log, request.headers()),
                        None,
                    );
                    let carried = Carried { hit, told, stream, start, _progress: progress };
                    tokio::spawn(carried.carry(self.stream(self.open.enter_headless())));
                    return;
                } else {
                    stream.send_reset(h2::Reason::ENHANCE_YOUR_CALM);
                    sent.truncation = Some(Truncation::ClientGone);
                }
            }
        }
        let end = instant();
        let times = sent.times(start, end);
        let said = Said::of(&engine.config.access_log, request.headers());
        let asked = Asked { method: request.method().as_str(), host: host(request), target: target(request), said };
        finish(self.worker, self.client, asked, &hit, &sent, times);
    }

    /// Begins a request in progress that holds no head.
    fn begin(&self) -> Result<Progress, Refusal> {
        self.member.begin(self.worker.metrics.in_flight(), Holds::default())
    }

    /// Refuses a request that came at `start`, without a task and without a body, so that its client has nothing to take.
    pub(super) fn refuse(
        &self,
        refusal: Refusal,
        request: &Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        start: Instant,
    ) {
        let engine = &self.worker.engine;
        let answer = respond::refusal(refusal);
        let mut response = head::of_answer(engine, &answer, start);
        for name in [CONTENT_LENGTH, CONTENT_TYPE] {
            response.headers_mut().remove(name);
        }
        let mut sent = Sent::default();
        if respond.send_response(response, true).is_err() {
            sent.truncation = Some(Truncation::ClientGone);
        }
        let end = instant();
        let said = Said::of(&engine.config.access_log, request.headers());
        let asked = Asked { method: request.method().as_str(), host: host(request), target: target(request), said };
        let responded = Responded { status: answer.status, age: None, outcome: &answer.outcome };
        let record = Record::new(asked.requested(self.client), responded, &sent, sent.times(start, end));
        self.worker.finish(&record, engine.clock.now());
    }
}

fn host(request: &Request<RecvStream>) -> &[u8] {
    request.uri().authority().map_or(b"", |authority| authority.as_str().as_bytes())
}

fn target(request: &Request<RecvStream>) -> &[u8] {
    request.uri().path_and_query().map_or(b"", |target| target.as_str().as_bytes())
}

/// Sends the whole of a hit, for which there is room.
fn send(hit: &Hit, stream: &mut SendStream<Bytes>) -> Sent {
    let (length, mut sent) = (hit.bytes(), Sent::default());
    hit.pieces(|_, chunk, range| {
        let size = range.len() as u64;
        match stream.send_data(chunk.slice(range), sent.bytes + size == length) {
            Ok(()) => sent.bytes += size,
            Err(_) => sent.truncation = Some(Truncation::ClientGone),
        }
    });
    sent
}

/// Whether the client's windows take so many bytes now.
fn takes(stream: &mut SendStream<Bytes>, length: u64) -> bool {
    let Some(wanted) = usize::try_from(length).ok().filter(|_| length <= AT_ONCE_BYTES) else { return false };
    stream.reserve_capacity(wanted);
    stream.capacity() >= wanted
}

/// The hit for a request, if it is one.
pub(super) fn find(worker: &Worker, client: &Client, request: &Request<RecvStream>) -> Option<Hit> {
    let engine = &*worker.engine;
    let head_only = request.method() == Method::HEAD;
    let is_plain = (head_only || request.method() == Method::GET) && request.body().is_end_stream();
    if !is_plain {
        return None;
    }
    let host = request.uri().authority()?.as_str().as_bytes();
    let target = request.uri().path_and_query()?.as_str().as_bytes();
    let fields = request.headers();
    let selects = selects(engine, fields)?;
    let plain = Plain { head_only, scheme: Scheme::Https, client, host, target, fields, selects };
    hit::find(engine, &plain, engine.clock.now(), &mut worker.scratch.lock().key)
}

/// Whether there is a condition or a range; `None` if there is what may change more.
fn selects(engine: &Engine, fields: &http::HeaderMap) -> Option<bool> {
    let mut selects = false;
    for (name, value) in fields {
        match meaning(engine, name.as_str(), value.as_bytes()) {
            Meaning::None => {}
            Meaning::Selects => selects = true,
            Meaning::Host | Meaning::Closes | Meaning::Other => return None,
        }
    }
    // Several lines are one value (RFC 9113 §8.2.3), which then would have to be made.
    (fields.lines(&COOKIE).count() < 2).then_some(selects)
}

/// What was asked for, as the log has it.
#[derive(Clone, Copy)]
struct Asked<'r> {
    method: &'r str,
    host: &'r [u8],
    target: &'r [u8],
    said: Said<'r>,
}

impl<'r> Asked<'r> {
    fn requested(self, client: Client) -> Requested<'r> {
        let Self { method, host, target, said } = self;
        Requested { method, scheme: Scheme::Https, host, target, protocol: Protocol::Http2, client, trace: None, said }
    }
}

fn finish(worker: &Worker, client: Client, asked: Asked<'_>, hit: &Hit, sent: &Sent, times: Times) {
    let outcome = &hit.outcome();
    let responded = Responded { status: hit.status(), age: Some(hit.age), outcome };
    let record = Record::new(asked.requested(client), responded, sent, times);
    worker.finish(&record, worker.engine.clock.now());
}

/// A hit whose body is handed on as the client takes it. Of its request only that is kept which the log says.
struct Carried {
    hit: Hit,
    told: Told,
    stream: SendStream<Bytes>,
    start: Instant,
    _progress: Progress,
}

impl Carried {
    async fn carry(mut self, task: Stream) {
        let _in_flight = task.worker.metrics.enter();
        let mut sent = Sent { first_byte: Some(instant()), ..Sent::default() };
        match self.hit.entry.body.reader(self.hit.span().start) {
            Some(reader) => {
                let left = Some(self.hit.bytes());
                task.stream(AnswerReader::Body(reader), left, &mut self.stream, &mut sent).await;
            }
            // A stored body has all its bytes.
            None => self.stream.send_reset(h2::Reason::INTERNAL_ERROR),
        }
        let end = instant();
        let times = sent.times(self.start, end);
        let told = &self.told;
        // A HEAD has no body to hand on.
        let asked = Asked { method: "GET", host: told.host(), target: told.target(), said: told.said() };
        finish(&task.worker, task.client, asked, &self.hit, &sent, times);
    }
}
