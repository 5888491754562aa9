//! One request to a next hop, up to the head of its answer; and to the next one, if it has none.

mod failed;
mod head;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use http::header::{EXPECT, UPGRADE};
use nearside_http1::framing::BodyEvent;
use nearside_http1::response::{ResponseError, ResponseHead};
use nearside_semantics::age::Exchange;
use nearside_telemetry::clock::{Clock, instant};
use tokio::io::AsyncWriteExt;

use super::asked::{Asked, Incoming, Known};
use super::connect::Connection;
use super::gate::{Place, Revocation};
use super::pace::{LOOK_EVERY, Pace};
use super::response_reader::ResponseReader;
use super::{Forward, Hop, HopError, Hops};
use crate::interim::{CONTINUE_MAX, Interim};
use crate::upload::{Sending, Upload, UploadEnd};
use failed::{Failed, Late, PlaceEnd, may_ask_next};
use head::{ForShield, HeadKind, write_head};

/// Takes the interim answers that come before the final one.
pub type Tell<'t> = &'t (dyn Fn(Arc<Interim>) + Send + Sync);

impl Hops {
    /// Asks the candidates in turn until one answers. Only requests without a body come here.
    ///
    /// # Errors
    ///
    /// No upstream has given a response.
    pub async fn ask(
        &self,
        to: &[Arc<Hop>],
        forward: &Forward,
        clock: &Clock,
        tell: Tell<'_>,
    ) -> Result<Box<Asked>, HopError> {
        self.budget.pay_in();
        let mut last: Option<Failed> = None;
        let mut sent = None;
        for hop in to {
            let unanswered = sent.take().map(|to: &Arc<Hop>| to.health.is_in());
            if !may_ask_next(unanswered, &self.budget) {
                break;
            }
            match self.ask_one(hop, forward, clock, tell).await {
                Ok(asked) => return Ok(asked),
                Err(failed) if failed.lets_others_try() => {
                    failed.error.log(forward);
                    sent = failed.was_sent().then_some(hop);
                    last = Some(Failed::worse(last, failed));
                }
                Err(failed) => {
                    failed.error.log(forward);
                    return Err(failed.error);
                }
            }
        }
        Err(Failed::told(last))
    }

    /// One hop; a connection from the pool that turns out to be dead is replaced by a new one, once.
    async fn ask_one(
        &self,
        hop: &Arc<Hop>,
        forward: &Forward,
        clock: &Clock,
        tell: Tell<'_>,
    ) -> Result<Box<Asked>, Failed> {
        // A trial on a connection that has died would be wasted.
        let mut pooled = hop.health.is_in();
        let since = instant();
        let url = hop.url(forward);
        let mut place = self.enter(hop, forward, clock).await.map_err(Failed::unsent)?;
        loop {
            let connection = self.connect(hop, pooled, &mut place).await;
            let connection = connection.map_err(|error| note(hop, url, Failed::unsent(error)))?;
            hop.health.requests.fetch_add(1, Ordering::Relaxed);
            match self.send(hop, connection, forward, since, clock, tell).await {
                Err(failed) if failed.replaces_connection(pooled) => {
                    pooled = false;
                    place = self.enter(hop, forward, clock).await.map_err(Failed::unsent)?;
                }
                Err(failed) if failed.is_charged(hop.is_shield()) => return Err(note(hop, url, failed)),
                Err(failed) => return Err(failed),
                Ok(asked) => {
                    hop.succeeded(Some(url));
                    return Ok(asked.counted());
                }
            }
        }
    }

    pub(super) async fn send(
        &self,
        hop: &Arc<Hop>,
        connection: Connection,
        forward: &Forward,
        since: Instant,
        clock: &Clock,
        tell: Tell<'_>,
    ) -> Result<Box<Asked>, Failed> {
        let Connection { mut stream, reused, address, mut place } = connection;
        let request_time = clock.now();
        let mut head = Vec::with_capacity(1024);
        self.write_head(hop, forward, &mut head);
        head.extend_from_slice(b"\r\n");
        let write = async {
            stream.write_all(&head).await?;
            stream.flush().await
        };
        let patience = hop.patience(forward);
        place.iter_mut().for_each(Place::sent);
        let written = self.within(hop, patience.between_bytes, write).await.map_err(|late| leave(late, &mut place));
        written.map_err(|late| Failed::in_wait(&hop.name, late, false, reused))?;
        let mut reader = ResponseReader::new(Incoming::Whole(stream));
        let answer = final_head(&mut reader, forward, tell);
        let revocation = place.as_ref().and_then(Place::revocation);
        let head = tokio::select! {
            biased;
            head = self.while_in(hop, patience.first_byte, answer) => head,
            () = revoked(revocation.as_deref()) => Err(Late::Revoked(Arc::clone(&hop.name))),
        };
        let head = head.map_err(|late| leave(late, &mut place));
        place.iter_mut().for_each(Place::settled);
        let head = head.map_err(|late| Failed::in_wait(&hop.name, late, reader.begun, reused))?;
        let exchange = Exchange { request_time, response_time: clock.now(), response_date: clock.wall() };
        let connection = Known { address, place, since, patience };
        Ok(Asked::new(Arc::clone(hop), head, exchange, reader, None, connection))
    }

    /// A request with a body, to the first candidate that a connection can be made to; never tried twice.
    ///
    /// The body is sent by a task of its own, so that an answer that begins before the body has ended is passed on
    /// while the rest is still being sent. The place at the origin is taken only once there is something to send: a client
    /// that sends slowly would hold it for nothing.
    ///
    /// # Errors
    ///
    /// No upstream has given a response.
    pub async fn ask_with_body(
        &self,
        to: &[Arc<Hop>],
        forward: &Forward,
        clock: &Clock,
        mut upload: Upload,
        tell: Tell<'_>,
    ) -> Result<Box<Asked>, HopError> {
        // A client that waits for "100 Continue" of the origin sends nothing before.
        if !forward.fields.contains_key(EXPECT) && upload.gather().await == UploadEnd::ClientGone {
            return Err(HopError::Body);
        }
        let since = instant();
        let (hop, mut connection) = self.connect_any(to, forward, clock).await?;
        let mut place = connection.place.take();
        let (read, writer) = tokio::io::split(connection.stream);
        let mut reader = ResponseReader::new(Incoming::Half(read));
        let request_time = clock.now();
        hop.health.requests.fetch_add(1, Ordering::Relaxed);
        let mut head = Vec::with_capacity(1024);
        self.write_head(&hop, forward, &mut head);
        upload.write_framing(&mut head);
        head.extend_from_slice(b"\r\n");
        let patience = hop.patience(forward);
        place.iter_mut().for_each(Place::sent);
        let mut sending = Sending::start(writer, head, upload, patience.between_bytes);
        let revocation = place.as_ref().and_then(Place::revocation);
        let exchange = async {
            let answer = final_head(&mut reader, forward, tell);
            tokio::pin!(answer);
            let early = tokio::select! {
                biased;
                head = &mut answer => Some(head),
                end = sent_while_wanted(&mut sending, &mut place) => match end {
                    None => return Err(HopError::SlowBody { hop: Arc::clone(&hop.name) }),
                    Some(UploadEnd::ClientGone) => return Err(HopError::Body),
                    // If the hop refused the body, it may have said why before it closed.
                    Some(UploadEnd::Whole | UploadEnd::Refused) => None,
                },
            };
            Ok(match early {
                Some(head) => head.map_err(Late::Failed),
                None => self.within(&hop, patience.first_byte, answer).await,
            })
        };
        let head = tokio::select! {
            biased;
            head = exchange => head?,
            () = revoked(revocation.as_deref()) => Err(Late::Revoked(Arc::clone(&hop.name))),
        };
        let head = head.map_err(|late| {
            let error = leave(late, &mut place).or_response(&hop.name);
            error.log(forward);
            error
        })?;
        place.iter_mut().for_each(Place::settled);
        hop.succeeded(Some(hop.url(forward)));
        let exchange = Exchange { request_time, response_time: clock.now(), response_date: clock.wall() };
        let connection = Known { address: connection.address, place, since, patience };
        Ok(Asked::new(hop, head, exchange, reader, Some(sending), connection).counted())
    }

    async fn connect_any(
        &self,
        to: &[Arc<Hop>],
        forward: &Forward,
        clock: &Clock,
    ) -> Result<(Arc<Hop>, Connection), HopError> {
        let mut last = None;
        for hop in to {
            let failed = match self.enter(hop, forward, clock).await {
                // A new connection: one from the pool may be dead, and this request cannot be sent twice.
                Ok(mut place) => match self.connect(hop, false, &mut place).await {
                    Ok(connection) => return Ok((Arc::clone(hop), connection)),
                    Err(error) => {
                        error.log(forward);
                        note(hop, hop.url(forward), Failed::unsent(error))
                    }
                },
                Err(error) => Failed::unsent(error),
            };
            last = Some(Failed::worse(last, failed));
        }
        Err(Failed::told(last))
    }

    fn write_head(&self, hop: &Hop, forward: &Forward, out: &mut Vec<u8>) {
        let shield = hop.is_shield().then(|| ForShield { secret: self.secret.as_ref(), purges: (self.known_purges)() });
        write_head(forward, shield.as_ref(), out);
    }

    async fn within<T, E: Into<ResponseError>>(
        &self,
        hop: &Hop,
        limit: Duration,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Late> {
        match tokio::time::timeout(limit, work).await {
            Ok(done) => done.map_err(|error| Late::Failed(error.into())),
            Err(_elapsed) => Err(Late::Elapsed(Arc::clone(&hop.name))),
        }
    }

    /// As [`within`](Self::within), but a shield that turns out to be frozen is not waited for any longer.
    async fn while_in<T>(
        &self,
        hop: &Hop,
        limit: Duration,
        work: impl Future<Output = Result<T, ResponseError>>,
    ) -> Result<T, Late> {
        if !hop.is_shield() {
            return self.within(hop, limit, work).await;
        }
        tokio::select! {
            biased;
            done = self.within(hop, limit, work) => done,
            () = hop.health.silent.notified() => Err(Late::Failed(ResponseError::Closed)),
        }
    }

    /// The next piece of an answer's body; `None` at its end.
    ///
    /// # Errors
    ///
    /// The response is broken off, malformed, or comes too slowly.
    pub async fn body(&self, asked: &mut Asked) -> Result<Option<Bytes>, HopError> {
        let hop = Arc::clone(&asked.hop);
        let patience = asked.patience();
        if patience.is_zero() {
            // A body that always has a next piece would else never be late.
            asked.give_up();
            return Err(HopError::Timeout { hop: Arc::clone(&hop.name) });
        }
        match self.while_in(&hop, patience, asked.piece()).await.map_err(|late| {
            if matches!(late, Late::Elapsed(_)) {
                asked.give_up();
            }
            late.or_response(&hop.name)
        })? {
            BodyEvent::Data(bytes) => Ok(Some(bytes)),
            BodyEvent::End(trailers) => {
                asked.ended(trailers);
                Ok(None)
            }
        }
    }

    /// Gives the connection of an answer that was read to its end back to the pool.
    pub async fn release(&self, asked: Box<Asked>) {
        let Some((hop, address)) = asked.reusable() else { return };
        if let Some((stream, _)) = asked.into_stream().await {
            self.pool.give(hop, address, stream, instant());
        }
    }
}

/// Notes that a hop has failed.
fn note(hop: &Hop, url: u64, failed: Failed) -> Failed {
    hop.failed(&failed.error, url);
    failed
}

/// Waits until the place of a request is to be given to another network; for ever where it has none.
async fn revoked(revocation: Option<&Revocation>) {
    match revocation {
        Some(revocation) => revocation.revoked().await,
        None => std::future::pending().await,
    }
}

/// Waits until a body is sent. `None` if its client sends it too slowly, and another request has taken its place.
async fn sent_while_wanted(sending: &mut Sending, place: &mut Option<Place>) -> Option<UploadEnd> {
    let (meter, mut pace) = (sending.meter(), Pace::default());
    loop {
        if let Ok(end) = tokio::time::timeout(LOOK_EVERY, sending.end()).await {
            return Some(end);
        }
        let Some(sent) = meter.awaits_client() else { continue };
        if pace.is_slow(sent, instant())
            && let Some(held) = place.take()
        {
            *place = held.give_way();
            if place.is_none() {
                return None;
            }
        }
    }
}

/// Leaves the place of a request that ended so.
fn leave(late: Late, place: &mut Option<Place>) -> Late {
    let Some(mut place) = place.take() else { return late };
    match late.place_end() {
        PlaceEnd::Cancelled => {}
        PlaceEnd::Settled => place.settled(),
        PlaceEnd::GivenUp => {
            place.settled();
            place.give_up();
        }
    }
    late
}

/// The first head that is not interim; those before it are told. A 101 counts as final where an upgrade was asked for, else as no HTTP.
async fn final_head(
    reader: &mut ResponseReader<Incoming>,
    forward: &Forward,
    tell: Tell<'_>,
) -> Result<ResponseHead, ResponseError> {
    // Whether nobody waits, or no longer, for the word to send the body.
    let mut told = !forward.fields.contains_key(EXPECT);
    loop {
        let head = {
            let head = reader.head(&forward.method);
            tokio::pin!(head);
            let early = tokio::select! {
                biased;
                head = &mut head => Some(head),
                () = tokio::time::sleep(CONTINUE_MAX), if !told => None,
            };
            match early {
                Some(head) => head?,
                None => {
                    tell(Interim::go_on());
                    told = true;
                    head.await?
                }
            }
        };
        // A client that was told to go on needs no second word.
        let tells = !told;
        told |= head.status == StatusCode::CONTINUE;
        match HeadKind::new(head.status, forward.fields.contains_key(UPGRADE)) {
            HeadKind::Final => return Ok(head),
            HeadKind::Unasked => return Err(ResponseError::Unasked),
            HeadKind::Interim => {
                if let Some(interim) = Interim::of(head, tells) {
                    tell(interim);
                }
            }
        }
    }
}
