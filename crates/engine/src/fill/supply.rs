//! The bytes of an answer, from one next hop after the other.
//!
//! When a body breaks off, the rest is asked for (`Range`, `If-Range`; RFC 9110 §13.1.5) at whoever owns the key then:
//! readers see a pause. That needs a GET that was answered with 200, or with the block that was asked for, and a strong
//! validator.
//!
//! **Invariant:** no byte comes that is not shown to be of the representation that was begun.

mod progress;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::HeaderValue;
use http::header::{IF_RANGE, RANGE};
use nearside_http1::response::ResponseError;
use nearside_semantics::conditional::strip_conditions;
use nearside_semantics::range::Span;
use nearside_semantics::resume::{content_range, rest, strong_validator};
use nearside_store::Head;
use nearside_upstream::{Asked, Forward, Hold, HopError};

use super::Plan;
use crate::request::Engine;
use progress::{Attempts, Progress, Resumption, is_resumable, range_value, wanted};

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
    progress: Progress,
    attempts: Attempts,
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
        let is_resumable = |plan: &&Plan| {
            let Forward { method, fields, .. } = &plan.forward;
            is_resumable(method, begun.status, fields.contains_key(RANGE), block.is_some())
        };
        let again = plan.filter(is_resumable).and_then(|plan| {
            let validator = strong_validator(&begun.fields, engine.clock.now())?.clone();
            Some(Again { plan, begun, validator, block })
        });
        let block_bytes = block.map(|(span, _)| span.end - span.start);
        let length = block_bytes.or_else(|| super::fetched::length_of(&begun.fields));
        let progress = Progress::new(length, block.is_some());
        Self { engine, asked, again, progress, attempts: Attempts::default() }
    }

    /// The next piece; `None` at the end.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, HopError> {
        loop {
            match self.engine.hops.body(&mut self.asked).await {
                Ok(Some(bytes)) => {
                    let bytes = self.progress.take(bytes);
                    if !bytes.is_empty() {
                        return if self.progress.is_long() { Err(self.too_long()) } else { Ok(Some(bytes)) };
                    }
                }
                Ok(None) if self.progress.is_short() => Box::pin(self.resume(HopError::Short)).await?,
                Ok(None) => return Ok(None),
                // On the heap: it is rare, and large.
                Err(error) => Box::pin(self.resume(error)).await?,
            }
        }
    }

    /// The number of bytes that have come.
    pub(super) fn received(&self) -> u64 {
        self.progress.received()
    }

    /// The length of the body, where it is known.
    pub(super) fn length(&self) -> Option<u64> {
        self.progress.length()
    }

    /// A handle on what the response holds.
    pub(super) fn hold(&self) -> Hold {
        self.asked.hold()
    }

    /// Whether the last byte of a body of known length is there.
    pub(super) fn is_whole(&self) -> bool {
        self.asked.is_whole() && !self.progress.is_short()
    }

    /// The name of the hop that it comes from.
    pub(super) fn hop(&self) -> &str {
        &self.asked.hop.name
    }

    /// The answer that is read from at the end, whose connection can be used again.
    pub(super) fn into_asked(self) -> Box<Asked> {
        self.asked
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
        self.attempts.begin(self.progress.received());
        // Else it would wait for a second place while it holds one.
        self.asked.leave();
        while let Some(wait) = self.attempts.next() {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            let (received, length) = (self.progress.received(), self.progress.length());
            let Ok(mut asked) = again.ask(self.engine, received).await else { continue };
            let (status, fields) = (asked.head.status, asked.take_end_to_end());
            let found = rest(status, &fields, &again.begun.fields, wanted(again.block, received, length));
            match Resumption::new(found, status, again.block.is_some()) {
                Resumption::GoOn { length } => self.progress.go_on(length),
                Resumption::StartOver => self.progress.start_over(),
                Resumption::Changed => {
                    resumes.changed.fetch_add(1, Ordering::Relaxed);
                    return Err(HopError::Changed { hop: Arc::clone(&asked.hop.name) });
                }
                Resumption::TryAgain => continue,
                Resumption::GiveUp => return failed(error),
            }
            tracing::info!(upstream = %asked.hop.name, at = received, "response body resumed");
            resumes.resumed.fetch_add(1, Ordering::Relaxed);
            self.asked = asked;
            return Ok(());
        }
        failed(error)
    }
}

impl Again<'_> {
    /// Asks for what comes behind the first `received` bytes.
    async fn ask(&self, engine: &Engine, received: u64) -> Result<Box<Asked>, HopError> {
        let mut forward = self.plan.forward.clone();
        strip_conditions(&mut forward.fields);
        if let Ok(range) = HeaderValue::try_from(range_value(wanted(self.block, received, None))) {
            forward.fields.insert(RANGE, range);
        }
        forward.fields.insert(IF_RANGE, self.validator.clone());
        let to = engine.hops.candidates(self.plan.site, &self.plan.key.url);
        engine.hops.ask(&to, &forward, &engine.clock, &|_| {}).await
    }
}
