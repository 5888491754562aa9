//! Whether an answer is stored, and for how long: the law is `semantics`', the policy the site's, the room the store's.

use std::time::Duration;

use http::header::{COOKIE, RANGE};
use http::{HeaderMap, Method, StatusCode};
use nearside_semantics::age::Exchange;
use nearside_semantics::control::Control;
use nearside_semantics::lifetime::{Lifetime, lifetime};
use nearside_semantics::resume::content_range;
use nearside_semantics::reuse::{Freshness, Reuse, StalePolicy};
use nearside_semantics::storable::{Candidate, NotStorable, speaks_of_request, storable, whole_is_storable};
use nearside_semantics::vary::{Nominee, Vary};
use nearside_semantics::{Timestamp, conditional};
use nearside_store::{Charge, Head};
use nearside_telemetry::reason::Reason;
use nearside_upstream::Urgency;
use nearside_upstream::fields::REWRITTEN;

use super::{Plan, Unstored};
use crate::request::Engine;
use crate::request::forward::is_failure;
use crate::site::Rules;

impl Plan {
    /// Whether it is for a later client: of this node, or of the cache that asks.
    pub(super) fn is_refresh(&self) -> bool {
        self.background || self.forward.urgency == Urgency::Refresh
    }

    /// Whether the next hop gets a client's own conditions or range.
    pub(super) fn is_selective(&self) -> bool {
        let fields = &self.forward.fields;
        self.stored.is_none()
            && self.key.block.is_none()
            && (conditional::is_conditional(fields) || fields.contains_key(RANGE))
    }

    /// What a response with this status, which was not stored for this reason, says of later ones for its key.
    pub(super) fn finding(&self, status: StatusCode, unstored: Unstored) -> Finding {
        match unstored {
            // The answer to a POST says nothing of GETs.
            _ if !self.forward.method.is_safe() => Finding::Nothing,
            // It answers one client's own condition or range.
            Unstored::Law(NotStorable::Partial) if self.is_selective() => Finding::Nothing,
            Unstored::Law(reason) => found(status, reason),
            Unstored::TooLarge => Finding::Uncacheable(Reason::TooLarge),
            _ => Finding::Nothing,
        }
    }
}

/// What a response that was not stored says of later ones for its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing: it is one client's own, or there was no room for it.
    Nothing,
    /// They will not be stored either. What is stored has been replaced, unless the response is an error.
    Uncacheable(Reason),
    /// It is an error that may be due to the request: others must not get it, and may be answered otherwise.
    Refused,
}

/// Only a response that itself forbids to store it, or a success that says nothing, is taken to hold for later ones. An
/// error is easily brought about: by a field that is too large or malformed, by credentials, by anything that makes an
/// application or the firewall before it fail. Such a request must not decide about those of others.
fn found(status: StatusCode, reason: NotStorable) -> Finding {
    let is_of_one = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        || speaks_of_request(status)
        || status.is_server_error();
    let is_error = status.is_client_error() || status.is_server_error();
    match reason {
        NotStorable::RequestNoStore => Finding::Nothing,
        _ if is_of_one || is_error && reason == NotStorable::NoFreshness => Finding::Refused,
        NotStorable::Authorization | NotStorable::Partial => Finding::Nothing,
        _ => Finding::Uncacheable(reason.into()),
    }
}

/// Whether a response depends on fields that this node writes anew.
fn varies_on_rewritten(vary: &Vary) -> bool {
    let is_rewritten = |nominee: &Nominee| matches!(nominee, Nominee::Field(name) if REWRITTEN.contains(name));
    matches!(vary, Vary::On(nominees) if nominees.iter().any(is_rewritten))
}

/// Whether a response may be the page of the user whose cookies its request had: it says nothing about caching, and is not
/// told apart by cookies. Others get it only once the origin has said, to them, that it is theirs too.
fn may_be_personal(request: &HeaderMap, control: &Control, life: Lifetime, vary: &Vary) -> bool {
    let by_cookies = |nominee: &Nominee| match nominee {
        Nominee::Field(name) => *name == COOKIE,
        Nominee::Cookie(_) | Nominee::CookiePrefix(_) => true,
    };
    let is_told_apart = matches!(vary, Vary::On(nominees) if nominees.iter().any(by_cookies));
    request.contains_key(COOKIE) && !life.is_explicit() && !control.directives.public && !is_told_apart
}

/// What the rules say of a response.
pub(crate) struct Judged {
    /// It may be the page of one user.
    pub(super) is_personal: bool,
    pub(crate) storable: Result<(), NotStorable>,
    /// What would be said of the whole response, of which this is the part that the client asked for.
    pub(super) whole: Option<Result<(), Unstored>>,
    pub(crate) freshness: Freshness,
    pub(super) retain_until: Timestamp,
}

/// What the rules of the site and of HTTP say of a response.
pub(crate) fn judge(
    engine: &Engine,
    plan: &Plan,
    status: StatusCode,
    fields: &HeaderMap,
    exchange: Exchange,
) -> Judged {
    judge_by(engine.rules(plan.site), engine.store.limits().object_bytes_max, plan, status, fields, exchange)
}

/// The same by the rules of a site, of a node that stores bodies of up to `object_bytes_max`.
fn judge_by(
    rules: &Rules,
    object_bytes_max: u64,
    plan: &Plan,
    status: StatusCode,
    fields: &HeaderMap,
    exchange: Exchange,
) -> Judged {
    let control = rules.control(fields);
    let life = lifetime(status, fields, &control, exchange.response_date, rules.lifetime(&plan.request));
    let vary = rules.vary(fields);
    let is_personal = may_be_personal(&plan.request, &control, life, &vary);
    let (mut directives, mut stale) = (control.directives, rules.stale);
    if is_personal {
        // Never served without asking, not even while the origin fails.
        (directives.stale_while_revalidate, directives.stale_if_error) = (None, None);
        stale = StalePolicy { on_error: Duration::ZERO, ..stale };
    }
    let freshness = Freshness::of(fields, &directives, life, exchange, stale);
    let retain_until = freshness.retain_until(conditional::has_validator(fields), exchange.response_time, stale);
    let is_block = plan.key.block.map(|block| block.is_answered_by(status, fields));
    let candidate = |status| Candidate {
        method: &plan.forward.method,
        request: &plan.request,
        status,
        response: fields,
        own_location: plan.own_location,
    };
    let is_part = plan.is_selective() && status == StatusCode::PARTIAL_CONTENT;
    let whole = is_part.then(|| {
        let length = content_range(fields).map_or(0, |(_, whole)| whole);
        let law = whole_is_storable(&candidate(StatusCode::OK), &control, life, rules.store);
        law.map_err(Unstored::Law).and_then(|()| fits(length, object_bytes_max))
    });
    let storable = if is_block == Some(false) || plan.is_selective() && status != StatusCode::OK {
        // 206, 304, 412 and 416 answer a condition or a range of one client.
        Err(NotStorable::Partial)
    } else if varies_on_rewritten(&vary) {
        Err(NotStorable::VaryAll)
    } else {
        // A block is as good as a whole: it was asked for as what it is, and is found as that only.
        storable(&candidate(if is_block == Some(true) { StatusCode::OK } else { status }), &control, life, rules.store)
    };
    Judged { is_personal, storable, whole, freshness, retain_until }
}

/// Checks that a body of this length may be stored at all.
fn fits(length: u64, object_bytes_max: u64) -> Result<(), Unstored> {
    if length > object_bytes_max { Err(Unstored::TooLarge) } else { Ok(()) }
}

/// Whether a stored response may be served in place of an error: it must not be replaced by that error, however long
/// the error claims to be fresh.
fn keeps_stale(engine: &Engine, plan: &Plan) -> bool {
    let now = engine.clock.now();
    let is_usable = |key: &[u8]| {
        let slot = engine.store.lookup(key, now);
        let freshness =
            slot.as_ref().and_then(|slot| slot.select(&plan.request)).and_then(|entry| entry.freshness(now));
        freshness.is_some_and(|life| stands_in_for_error(life, now))
    };
    is_usable(&plan.key.lookup) || plan.key.rule.is_some() && is_usable(&plan.key.url)
}

/// Whether a stored response with this life may be served at `now` in place of an error.
fn stands_in_for_error(life: Freshness, now: Timestamp) -> bool {
    !matches!(life.reuse(now, None), Reuse::Validate { on_error: false, .. })
}

/// Room for a response that may be stored; or why it is not stored.
pub(super) fn room(
    engine: &Engine,
    plan: &Plan,
    judged: &Judged,
    head: &Head,
    length: Option<u64>,
) -> Result<Charge, Unstored> {
    let (length, max) = (length.unwrap_or(0), engine.store.limits().object_bytes_max);
    may_take_room(judged.storable, &plan.forward.method, head.status, || keeps_stale(engine, plan), length, max)?;
    let charge = engine.store.reserve(&plan.key.lookup, head, length, engine.clock.now());
    charge.ok_or(Unstored::NoRoom)
}

/// Checks that a response may be stored if there is room for it. `keeps_stale` tells whether something stored may be served
/// in its place, if it is an error.
fn may_take_room(
    storable: Result<(), NotStorable>,
    method: &Method,
    status: StatusCode,
    keeps_stale: impl FnOnce() -> bool,
    length: u64,
    object_bytes_max: u64,
) -> Result<(), Unstored> {
    storable.map_err(Unstored::Law)?;
    if method == Method::HEAD {
        return Err(Unstored::HeadOnly);
    }
    if is_failure(status) && keeps_stale() {
        return Err(Unstored::KeepsStale);
    }
    fits(length, object_bytes_max)
}

#[cfg(test)]
mod tests;
