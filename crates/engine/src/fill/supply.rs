//! The bytes of an answer, from one next hop after the other.
//!
//! When a body breaks off, the rest is asked for (`Range`, `If-Range`; RFC 9110 §13.1.5) at whoever owns the key then:
//! readers see a pause. That needs a GET that was answered with 200, or with the block that was asked for, and a strong
//! validator.
//!
//! **Invariant:** no byte comes that is not shown to be of the representation that was begun.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::header::{IF_RANGE, RANGE};
use http::{HeaderValue, Method, StatusCode};
use nearside_http1::response::ResponseError;
use nearside_semantics::conditional::strip_conditions;
use nearside_semantics::range::Span;
use nearside_semantics::resume::{Rest, Wanted, content_range, rest, strong_validator};
use nearside_store::Head;
use nearside_upstream::{Asked, Hold, HopError};

use super::Plan;
use crate::request::Engine;

/// How often the rest is asked for until a body gets on by [`PROGRESS_BYTES`].
const RESUMES_MAX: u32 = 5;
/// A body that has got on by so much since may be asked for as often again: a connection that is cut every now and then
/// does not end a long body.
const PROGRESS_BYTES: u64 = 1 << 20;
/// The first time there is no wait; then this long, doubled each time.
const BACKOFF: Duration = Duration::from_millis(100);

/// What became of bodies that broke off.
#[derive(Debug, Default)]
pub struct Resumes {
    /// They went on.
    pub resumed: AtomicU64,
    /// There was another representation by then.
    pub changed: AtomicU64,
    /// The rest could not be had, or not be asked for.
    pub failed: AtomicU64,
}

/// A body on its way in.
pub(super) struct Supply<'f> {
    engine: &'f Engine,
    asked: Box<Asked>,
    /// How to ask for the rest; `None` where that is not possible.
    again: Option<Again<'f>>,
    received: u64,
    /// Bytes that come a second time, from a hop that has begun anew.
    skip: u64,
    /// Of the whole, where it is known.
    length: Option<u64>,
    /// It went on, so that the end of one hop's bytes need not be that of the body.
    resumed: bool,
    /// It is a block, of which is known how long it has to be, however its hop frames it.
    is_block: bool,
    tries: u32,
    /// What had been received when the tries began.
    since: u64,
}

struct Again<'f> {
    plan: &'f Plan,
    begun: &'f Head,
    validator: HeaderValue,
    /// What of the representation was asked for, where it was not all.
    block: Option<(Span, u64)>,
}

impl<'f> Supply<'f> {
    /// The body of `asked`, whose head is `begun`. Without a plan it is an answer that cannot be asked for again.
    pub(super) fn new(engine: &'f Engine, asked: Box<Asked>, begun: &'f Head, plan: Option<&'f Plan>) -> Self {
        let block = plan.and_then(|plan| plan.key.block).and_then(|_| content_range(&begun.fields));
        let again = plan.filter(|plan| plan.forward.method == Method::GET).and_then(|plan| {
            let is_all = begun.status == StatusCode::OK && !plan.forward.fields.contains_key(RANGE);
            let validator = strong_validator(&begun.fields, engine.clock.now())?.clone();
            (is_all || block.is_some()).then_some(Again { plan, begun, validator, block })
        });
        let block_bytes = block.map(|(span, _)| span.end - span.start);
        let length = block_bytes.or_else(|| super::fetched::length_of(&begun.fields));
        let is_block = block.is_some();
        Self { engine, asked, again, received: 0, skip: 0, length, resumed: false, is_block, tries: 0, since: 0 }
    }

    /// The next piece; `None` at the end.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, HopError> {
        loop {
            match self.engine.hops.body(&mut self.asked).await {
                Ok(Some(mut bytes)) => {
                    let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
                    bytes.advance(skipped);
                    self.skip -= skipped as u64;
                    if !bytes.is_empty() {
                        self.received += bytes.len() as u64;
                        return if self.is_long() { Err(self.too_long()) } else { Ok(Some(bytes)) };
                    }
                }
                Ok(None) if self.is_short() => Box::pin(self.resume(HopError::Short)).await?,
                Ok(None) => return Ok(None),
                // On the heap: it is rare, and large.
                Err(error) => Box::pin(self.resume(error)).await?,
            }
        }
    }

    /// The number of bytes that have come.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// The length of the body, where it is known.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// A handle on what the response holds.
    pub(super) fn hold(&self) -> Hold {
        self.asked.hold()
    }

    /// Whether the last byte of a body of known length is there.
    pub(super) fn is_whole(&self) -> bool {
        self.asked.is_whole() && !self.is_short()
    }

    /// The name of the hop that it comes from.
    pub(super) fn hop(&self) -> &str {
        &self.asked.hop.name
    }

    /// The answer that is read from at the end, whose connection can be used again.
    pub(super) fn into_asked(self) -> Box<Asked> {
        self.asked
    }

    /// Whether a hop has ended well before all has come that was promised: that is no end.
    fn is_short(&self) -> bool {
        self.is_bounded() && (self.skip > 0 || self.length.is_some_and(|length| self.received < length))
    }

    /// Whether more has come than there can be.
    fn is_long(&self) -> bool {
        self.is_bounded() && self.length.is_some_and(|length| self.received > length)
    }

    /// Whether the length has to be looked after here: the framing of one hop keeps only that of its own bytes.
    fn is_bounded(&self) -> bool {
        self.resumed || self.is_block
    }

    fn too_long(&self) -> HopError {
        HopError::Response { hop: Arc::clone(&self.asked.hop.name), source: ResponseError::TooLong }
    }

    /// Gets the rest after `error`; or gives it back.
    async fn resume(&mut self, error: HopError) -> Result<(), HopError> {
        let resumes = &self.engine.fills.resumes;
        let failed = |error| {
            resumes.failed.fetch_add(1, Ordering::Relaxed);
            Err(error)
        };
        let Some(again) = self.again.as_ref().filter(|_| error.is_interruption()) else { return failed(error) };
        if self.received - self.since >= PROGRESS_BYTES {
            self.tries = 0;
            self.since = self.received;
        }
        // Else it would wait for a second place while it holds one.
        self.asked.leave();
        while self.tries < RESUMES_MAX {
            if self.tries > 0 {
                tokio::time::sleep(BACKOFF.saturating_mul(1 << (self.tries - 1))).await;
            }
            self.tries += 1;
            let Ok(mut asked) = again.ask(self.engine, self.received).await else { continue };
            let (status, fields) = (asked.head.status, asked.take_end_to_end());
            match rest(status, &fields, &again.begun.fields, again.wanted(self.received, self.length)) {
                Rest::Continues { length } => {
                    self.length = self.length.or(Some(length));
                    self.skip = 0;
                }
                // Of a block, that is too much.
                Rest::Restarts if again.block.is_some() => return failed(error),
                Rest::Restarts => self.skip = self.received,
                Rest::Changed => {
                    resumes.changed.fetch_add(1, Ordering::Relaxed);
                    return Err(HopError::Changed { hop: Arc::clone(&asked.hop.name) });
                }
                Rest::Useless if status.is_server_error() => continue,
                Rest::Useless => return failed(error),
            }
            tracing::info!(upstream = %asked.hop.name, at = self.received, "response body resumed");
            resumes.resumed.fetch_add(1, Ordering::Relaxed);
            self.asked = asked;
            self.resumed = true;
            return Ok(());
        }
        failed(error)
    }
}

impl Again<'_> {
    /// What is still to come when so much of a body of this length has.
    fn wanted(&self, received: u64, length: Option<u64>) -> Wanted {
        match self.block {
            None => Wanted { start: received, end: None, length },
            Some((span, whole)) => Wanted { start: span.start + received, end: Some(span.end), length: Some(whole) },
        }
    }

    /// Asks for what comes behind the first `received` bytes.
    async fn ask(&self, engine: &Engine, received: u64) -> Result<Box<Asked>, HopError> {
        let mut forward = self.plan.forward.clone();
        strip_conditions(&mut forward.fields);
        let Wanted { start, end, .. } = self.wanted(received, None);
        let last = end.map_or_else(String::new, |end| (end - 1).to_string());
        if let Ok(range) = HeaderValue::try_from(format!("bytes={start}-{last}")) {
            forward.fields.insert(RANGE, range);
        }
        forward.fields.insert(IF_RANGE, self.validator.clone());
        let to = engine.hops.candidates(self.plan.site, &self.plan.key.exact);
        engine.hops.ask(&to, &forward, &engine.clock, &|_| {}).await
    }
}
