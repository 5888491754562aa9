//! Bodies in blocks, for sites that switch this on: a large body is asked for, stored and evicted in pieces of 1 MiB, and
//! a range costs no more than the blocks that it touches.
//!
//! Each block is an answer of its own, with its own key, lifetime and fill; here they are put together. What an origin does
//! not send in parts (RFC 9110 §14.2 allows that), or without a strong validator, is stored as a whole, which is
//! remembered.
//!
//! **Invariant:** all blocks of an answer are shown to be of one representation: each carries the validator and the length
//! of the first. When one does not, the blocks of that URL are forgotten, all of them.

mod block;
mod blocks;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use nearside_semantics::Timestamp;
use nearside_semantics::conditional::{preconditions_hold, strip_conditions};
use nearside_semantics::key::Scheme;
use nearside_semantics::range::{self, Part, Span};
use nearside_semantics::resume::strong_validator;
use nearside_semantics::storable::NotStorable;
use nearside_store::{Head, Sharing, Slicing};
use nearside_telemetry::Protocol;
use nearside_telemetry::outcome::Verdict;
use nearside_telemetry::reason::Reason;
use nearside_telemetry::record::Client;
use nearside_telemetry::trace::Trace;
use nearside_upstream::interim::Interims;

use super::admit::Admitted;
use super::forward::one;
use super::key::UrlKey;
use super::parts::AnswerReader;
use super::respond::{Selected, not_modified_fields, partial_fields, select, unsatisfiable};
use super::{Answer, AnswerBody, AnswerHead, Engine, Request};

pub(crate) use block::Block;
pub(crate) use blocks::Blocks;

use block::BLOCK_BYTES;

/// RFC 9530 §2: of the bytes of one message.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
/// Obsolete, of the same.
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// Answers a GET or HEAD from blocks; `None` where the URL is not stored so.
pub(crate) async fn answer(engine: &Arc<Engine>, admitted: Admitted, request: &Request) -> Option<Answer> {
    let (url, first) = begin(engine, admitted, request)?;
    let (mut block, mut answer) = url.ask(first).await?;
    if answer.status == StatusCode::RANGE_NOT_SATISFIABLE && first > 0 {
        // Conditions come first, and the range may be invalid, or one of several: what there is decides.
        (block, answer) = url.ask(0).await?;
    }
    if answer.status.is_server_error() {
        return Some(answer);
    }
    let fields = answer.head.fields();
    let cuts = can_be_cut(answer.status, fields, engine.clock.now());
    if cuts && !preconditions_hold(&request.fields, fields, engine.clock.now()) {
        // Only the origin may say that they do not.
        return None;
    }
    match block.whole(fields).filter(|_| cuts) {
        Some(whole) if is_kept(&answer) => Some(url.assemble(request, block, answer, whole)),
        _ => {
            if shows_whole(&answer) {
                engine.store.slicings().keep_whole(&url.exact, engine.clock.now());
            }
            None
        }
    }
}

/// The request for the block that a request is answered from first; `None` where its URL is not stored so. Only looks.
pub(crate) fn first(engine: &Arc<Engine>, admitted: Admitted, request: &Request) -> Option<Request> {
    let (url, index) = begin(engine, admitted, request)?;
    match engine.store.slicings().peek(&url.exact, engine.clock.now()) {
        Slicing::Blocks(number) => Some(url.block(Block { number, index })),
        Slicing::Whole => None,
    }
}

/// Whether the answer to a block shows that its URL can be stored in blocks.
pub(crate) fn can_be_cut(status: StatusCode, fields: &HeaderMap, now: Timestamp) -> bool {
    status == StatusCode::PARTIAL_CONTENT
        && strong_validator(fields, now).is_some()
        && !fields.contains_key(CONTENT_ENCODING)
}

/// What is asked for in blocks, and the number of the first.
fn begin(engine: &Arc<Engine>, admitted: Admitted, request: &Request) -> Option<(Url, u64)> {
    if !engine.rules(admitted.site()).slice {
        return None;
    }
    let url = Url::new(engine, admitted, request);
    let is_authorized = request.fields.contains_key(AUTHORIZATION);
    if is_authorized && engine.store.negative().sharing(&url.exact, engine.clock.now()) != Some(Sharing::Shared) {
        // Its response may be for its client only, and a signature may cover the range.
        return None;
    }
    if engine.store.lookup(&url.exact, engine.clock.now()).is_some() {
        // What is there as a whole is not asked for in parts.
        return None;
    }
    let gets = request.method == Method::GET;
    let first = range::first_byte(&request.fields).filter(|_| gets).unwrap_or(0) / BLOCK_BYTES;
    Some((url, first))
}

/// Whether an answer shows that the URL cannot be stored in blocks, whoever asks. A refusal, or what is not stored because
/// of the request, says nothing about others.
fn shows_whole(answer: &Answer) -> bool {
    let own = [NotStorable::Authorization, NotStorable::RequestNoStore].map(Reason::from);
    let is_own = answer.outcome.reason.is_some_and(|reason| own.contains(&reason));
    !is_own && [StatusCode::OK, StatusCode::PARTIAL_CONTENT].contains(&answer.status)
}

/// Whether an answer is, or is being, stored; or would be, were there room.
fn is_kept(answer: &Answer) -> bool {
    let outcome = &answer.outcome;
    let stored = matches!(
        outcome.verdict,
        Verdict::Hit | Verdict::Stale | Verdict::Updating | Verdict::Revalidated | Verdict::Collapsed
    );
    stored || outcome.stored || outcome.reason == Some(Reason::NoRoom)
}

/// What is asked for in blocks, and how.
struct Url {
    engine: Arc<Engine>,
    /// Of the client's request, whose rules hold for its blocks.
    admitted: Admitted,
    exact: UrlKey,
    scheme: Scheme,
    authority: HeaderValue,
    target: Bytes,
    protocol: Protocol,
    client: Client,
    trace: Trace,
    /// Without conditions and ranges.
    fields: HeaderMap,
}

impl Url {
    fn new(engine: &Arc<Engine>, admitted: Admitted, request: &Request) -> Self {
        let mut fields = request.fields.clone();
        strip_conditions(&mut fields);
        fields.remove(RANGE);
        // A coding of the whole cannot be cut.
        fields.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let scheme = engine.client_scheme(request);
        Self {
            engine: Arc::clone(engine),
            admitted,
            exact: engine.exact_key(admitted.site(), scheme, request.authority.as_bytes(), &request.target),
            scheme: request.scheme,
            authority: request.authority.clone(),
            target: request.target.clone(),
            protocol: request.protocol,
            client: request.client,
            trace: request.trace,
            fields,
        }
    }

    /// The request for a block; `None` if the URL is not stored in blocks.
    fn request(&self, index: u64) -> Option<(Block, Request)> {
        let Slicing::Blocks(number) = self.engine.store.slicings().of(&self.exact, self.engine.clock.now()) else {
            return None;
        };
        let block = Block { number, index };
        Some((block, self.block(block)))
    }

    fn block(&self, block: Block) -> Request {
        Request {
            method: Method::GET,
            scheme: self.scheme,
            authority: self.authority.clone(),
            target: self.target.clone(),
            protocol: self.protocol,
            fields: self.fields.clone(),
            client: self.client,
            trace: self.trace,
            interims: Interims::none(),
            block: Some(block),
            signed_as_sent: Vec::new(),
        }
    }

    async fn ask(&self, index: u64) -> Option<(Block, Answer)> {
        let (block, request) = self.request(index)?;
        Some((block, one(&self.engine, self.admitted, &request).await))
    }

    /// The answer to a client's request, whose first block is there.
    fn assemble(self, request: &Request, block: Block, answer: Answer, whole: u64) -> Answer {
        let Answer { head, body, age, outcome, .. } = answer;
        let mut fields = head.fields().clone();
        for of_the_block in [CONTENT_RANGE, CONTENT_DIGEST, CONTENT_MD5] {
            fields.remove(of_the_block);
        }
        fields.insert(CONTENT_LENGTH, HeaderValue::from(whole));
        let head = Head { status: StatusCode::OK, fields, wire: Bytes::new() };
        let gets = request.method == Method::GET;
        let selected = select(&head, Some(whole), gets, &request.fields, self.engine.clock.now());
        let begun = head.fields.clone();
        let (status, fields, span) = match selected {
            Selected::NotModified => {
                let fields = not_modified_fields(&head.fields, self.engine.tier.serves_caches());
                (StatusCode::NOT_MODIFIED, fields, None)
            }
            Selected::Part(Part::Unsatisfiable) => return unsatisfiable(&head.fields, Some(whole), outcome),
            Selected::Part(Part::Range(span)) => {
                (StatusCode::PARTIAL_CONTENT, partial_fields(&head.fields, span, Some(whole)), Some(span))
            }
            // Several ranges: "a server MAY ignore the Range header field" (§14.2).
            Selected::Part(Part::Whole | Part::Ranges(_)) => {
                (StatusCode::OK, head.fields, Some(Span { start: 0, end: whole }))
            }
        };
        let body = match span.filter(|_| gets) {
            None => AnswerBody::None,
            Some(span) => {
                let mut blocks = Blocks::new(self, begun, block.number, whole, span);
                if span.start / BLOCK_BYTES == block.index {
                    blocks.enter(body);
                }
                let length = Some(span.end - span.start);
                AnswerBody::Reader { reader: AnswerReader::Blocks(Box::new(blocks)), length }
            }
        };
        Answer { status, head: AnswerHead::Own(fields), body, age, outcome }
    }
}

#[cfg(test)]
mod tests {
    use nearside_telemetry::outcome::Outcome;

    use super::*;
    use crate::samples::{ARRIVAL, fields, status};

    fn answer(number: u16, change: impl FnOnce(&mut Outcome)) -> Answer {
        let mut outcome = Outcome::new(Verdict::Miss, None);
        change(&mut outcome);
        let head = AnswerHead::Own(HeaderMap::new());
        Answer { status: status(number), head, body: AnswerBody::None, age: None, outcome }
    }

    #[test]
    fn only_a_part_with_a_strong_validator_and_without_a_coding_can_be_cut() {
        let strong = ("etag", "\"a\"");
        for (number, lines, expected) in [
            (206, &[strong][..], true),
            (200, &[strong], false),
            (206, &[], false),
            (206, &[("etag", "W/\"a\"")], false),
            (206, &[strong, ("content-encoding", "gzip")], false),
        ] {
            assert_eq!(can_be_cut(status(number), &fields(lines), ARRIVAL), expected, "{number} {lines:?}");
        }
    }

    #[test]
    fn a_url_is_stored_whole_after_an_answer_that_is_not_one_clients_own() {
        for (number, reason, expected) in [
            (200, None, true),
            (206, None, true),
            (200, Some(NotStorable::NoStore), true),
            (200, Some(NotStorable::Authorization), false),
            (206, Some(NotStorable::RequestNoStore), false),
            (404, None, false),
            (416, None, false),
            (503, None, false),
        ] {
            let answer = answer(number, |outcome| outcome.reason = reason.map(Reason::from));
            assert_eq!(shows_whole(&answer), expected, "{number} {reason:?}");
        }
    }

    #[test]
    fn blocks_are_put_together_only_if_the_first_is_kept_or_there_was_no_room() {
        for (verdict, stored, reason, expected) in [
            (Verdict::Hit, false, None, true),
            (Verdict::Stale, false, None, true),
            (Verdict::Updating, false, None, true),
            (Verdict::Revalidated, false, None, true),
            (Verdict::Collapsed, false, None, true),
            (Verdict::Miss, true, None, true),
            (Verdict::Miss, false, None, false),
            (Verdict::Uncacheable, false, Some(Reason::NoRoom), true),
            (Verdict::Uncacheable, false, Some(Reason::NoStore), false),
            (Verdict::Bypass, false, None, false),
        ] {
            let answer = answer(206, |outcome| {
                outcome.verdict = verdict;
                outcome.stored = stored;
                outcome.reason = reason;
            });
            assert_eq!(is_kept(&answer), expected, "{verdict:?} {stored} {reason:?}");
        }
    }
}
