//! Whether an answer is stored, and for how long: the law is `semantics`', the policy the site's, the room the store's.

use http::header::{RANGE, VIA};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use nearside_semantics::age::Exchange;
use nearside_semantics::lifetime::lifetime;
use nearside_semantics::reuse::Freshness;
use nearside_semantics::storable::{Candidate, NotStorable, storable};
use nearside_semantics::vary::{Nominee, Vary};
use nearside_semantics::{Timestamp, conditional};
use nearside_store::{Charge, Head};

use super::{Plan, Unstored};
use crate::hop::Urgency;
use crate::request::Engine;
use crate::request::admit::CDN_LOOP;
use crate::tier::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};

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

    /// Whether the answers for its key are not worth waiting for: not stored, for a reason that is not one client's own.
    pub(super) fn shows_uncacheable(&self, stored: Result<(), Unstored>) -> bool {
        let own = [NotStorable::RequestNoStore, NotStorable::Authorization, NotStorable::Partial];
        let lasting = match stored {
            Err(Unstored::Law(reason)) => !own.contains(&reason),
            Err(Unstored::TooLarge) => true,
            _ => false,
        };
        lasting && self.forward.method == Method::GET && !self.is_selective()
    }
}

/// Fields that this node writes anew: what the client sent says nothing about them.
pub(crate) static REWRITTEN: [HeaderName; 5] = [X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, VIA, CDN_LOOP];

/// Whether a response depends on fields that this node writes anew.
fn varies_on_rewritten(vary: &Vary) -> bool {
    let is_rewritten = |nominee: &Nominee| matches!(nominee, Nominee::Field(name) if REWRITTEN.contains(name));
    matches!(vary, Vary::On(nominees) if nominees.iter().any(is_rewritten))
}

/// What the rules say of a response.
pub(crate) struct Judged {
    pub(crate) storable: Result<(), NotStorable>,
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
    let rules = engine.rules(plan.site);
    let control = rules.control(fields);
    let life = lifetime(status, fields, &control, exchange.response_time, rules.lifetime);
    let freshness = Freshness::of(fields, &control.directives, life, exchange, rules.stale);
    let retain_until = freshness.retain_until(conditional::has_validator(fields), exchange.response_time, rules.stale);
    let is_block = plan.key.block.map(|block| block.is_answered_by(status, fields));
    // A block is as good as a whole: it was asked for as what it is, and is found as that only.
    let status = if is_block == Some(true) { StatusCode::OK } else { status };
    let storable = if is_block == Some(false) || plan.is_selective() && status != StatusCode::OK {
        // 206, 304, 412 and 416 answer a condition or a range of one client.
        Err(NotStorable::Partial)
    } else if varies_on_rewritten(&rules.vary(fields)) {
        Err(NotStorable::VaryAll)
    } else {
        let candidate = Candidate {
            method: &plan.forward.method,
            request: &plan.request,
            status,
            response: fields,
            own_location: plan.own_location,
        };
        storable(&candidate, &control, life, rules.store)
    };
    Judged { storable, freshness, retain_until }
}

/// Room for a response that may be stored; or why it is not stored.
pub(super) fn room(
    engine: &Engine,
    plan: &Plan,
    judged: &Judged,
    head: &Head,
    length: Option<u64>,
) -> Result<Charge, Unstored> {
    judged.storable.map_err(Unstored::Law)?;
    if plan.forward.method == Method::HEAD {
        return Err(Unstored::HeadOnly);
    }
    if length.unwrap_or(0) > engine.store.limits().object_bytes_max {
        return Err(Unstored::TooLarge);
    }
    let charge = engine.store.reserve(&plan.key.bytes, head, length.unwrap_or(0), engine.clock.now());
    charge.ok_or(Unstored::NoRoom)
}
