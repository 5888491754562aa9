//! Hits that are answered where they are read, without a task of their own.

use std::time::Instant;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::header::COOKIE;
use http::{Method, Request, Version};
use nearside_semantics::fields::Fields;
use nearside_semantics::key::Scheme;

use super::stream::{Sent, Stream};
use super::{Connection, head};
use crate::clock::instant;
use crate::front::Worker;
use crate::request::Engine;
use crate::request::finish::{Client, Record, Said, Times};
use crate::request::hit::{self, Hit, Meaning, Plain, meaning};
use crate::request::parts::AnswerReader;

/// Larger bodies get a task that hands them on as the client takes them.
const AT_ONCE_BYTES: u64 = 64 << 10;

impl Connection<'_> {
    /// Answers a hit, asked for at `start`.
    pub(super) fn send_hit(
        &mut self,
        hit: Hit,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        start: Instant,
    ) {
        let engine = &self.worker.engine;
        let length = hit.bytes();
        let mut sent = Sent { bytes: 0, first_byte: None, cut: None };
        match respond.send_response(head::of_hit(engine, &hit, start), length == 0) {
            Err(_) => sent.cut = Some("client-gone"),
            Ok(stream) if length == 0 => drop(stream),
            Ok(mut stream) => {
                if !takes(&mut stream, length) {
                    let carried = Carried { hit, request, stream, start };
                    tokio::spawn(carried.carry(self.stream()));
                    return;
                }
                hit.pieces(|_, chunk, range| {
                    let size = range.len() as u64;
                    match stream.send_data(chunk.slice(range), sent.bytes + size == length) {
                        Ok(()) => sent.bytes += size,
                        Err(_) => sent.cut = Some("client-gone"),
                    }
                });
            }
        }
        let end = instant();
        let times = Times { start, first_byte: end, end };
        finish(self.worker, self.client, &request, &hit, &sent, times);
    }
}

/// Whether the client's windows take so many bytes now.
fn takes(stream: &mut SendStream<Bytes>, length: u64) -> bool {
    let Some(wanted) = usize::try_from(length).ok().filter(|_| length <= AT_ONCE_BYTES) else { return false };
    stream.reserve_capacity(wanted);
    stream.capacity() >= wanted
}

/// The hit for a request, if it is one.
pub(super) fn find(worker: &Worker, request: &Request<RecvStream>) -> Option<Hit> {
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
    let plain = Plain { head_only, scheme: Scheme::Https, host, target, fields, selects };
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

fn finish(worker: &Worker, client: Client, request: &Request<RecvStream>, hit: &Hit, sent: &Sent, times: Times) {
    let record = Record {
        method: request.method().as_str(),
        scheme: Scheme::Https,
        host: request.uri().authority().map_or(b"", |authority| authority.as_str().as_bytes()),
        target: request.uri().path_and_query().map_or(b"", |target| target.as_str().as_bytes()),
        version: Version::HTTP_2,
        client,
        status: hit.status(),
        bytes: sent.bytes,
        times,
        age: Some(hit.age),
        cut: sent.cut,
        outcome: &hit.outcome(),
        trace: None,
        said: Said::of(&worker.engine, request.headers()),
    };
    worker.finish(&record, worker.engine.clock.now());
}

/// A hit whose body is handed on as the client takes it.
struct Carried {
    hit: Hit,
    request: Request<RecvStream>,
    stream: SendStream<Bytes>,
    start: Instant,
}

impl Carried {
    async fn carry(mut self, task: Stream) {
        let mut sent = Sent { bytes: 0, first_byte: Some(instant()), cut: None };
        match self.hit.entry.body.reader(self.hit.span().start) {
            Some(reader) => {
                let left = Some(self.hit.bytes());
                task.stream(AnswerReader::Body(reader), left, &mut self.stream, &mut sent).await;
            }
            // A stored body has all its bytes.
            None => self.stream.send_reset(h2::Reason::INTERNAL_ERROR),
        }
        let end = instant();
        let times = Times { start: self.start, first_byte: sent.first_byte.unwrap_or(end), end };
        finish(&task.worker, task.client, &self.request, &self.hit, &sent, times);
    }
}
