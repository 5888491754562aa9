//! The forward: who asks the next hop for a key, who waits for the answer, and what each of them gets.
//!
//! One request leads a fill, others that want the same follow it. RFC 9111 §4 ("collapse"), RFC 9211 §2.6.

mod action;

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use nearside_config::SiteId;
use nearside_semantics::reuse::{Freshness, Reuse};
use nearside_semantics::{Timestamp, cache_status};
use nearside_store::{Entry, PartialRequest};
use nearside_telemetry::clock::instant;
use nearside_telemetry::outcome::{Outcome, Verdict};
use nearside_telemetry::reason::Reason;
use nearside_upstream::interim::Interims;
use nearside_upstream::{HopError, Urgency};

use super::admit::Admitted;
use super::key::{CacheKey, FillKey, set_lane};
use super::lookup::{Ask, Found, lookup, reuse};
use super::plan::{plan, plan_alone};
use super::unchanged::may_refuse_alteration;
use super::way::{Way, fill_key, goes_as_head, holds, lanes, way};
use super::{Answer, Engine, Request, respond, slices};
use crate::fill::{self, Begun, Fetched, Joined, Plan, Waiting};
use crate::request::refusal::Refusal;
use action::{AfterFailure, AfterResponse, AfterValidation, Arrived, Role, Validated, may_serve_stale};

/// How often a follower may learn that it wants another variant, before it goes forward by itself.
const ROUNDS_MAX: usize = 3;
/// How often a request waits for others that are then refused: with the number of [`lanes`], hundreds have led by then.
const REFUSED_ROUNDS_MAX: usize = 8;
/// How long it waits for them in all: refusals are quick, errors of an overloaded origin are not.
const REFUSED_WAIT_MAX: Duration = Duration::from_secs(3);

/// Answers a GET or HEAD without a body.
pub async fn answer(engine: &Arc<Engine>, admitted: Admitted, request: &Request) -> Answer {
    let site = admitted.site();
    if engine.config.public.url.is_some() && is_ping(&request.target) {
        return respond::ping(site);
    }
    if engine.is_behind(&request.fields).await {
        // What is stored here may have been purged; what the origin says now has not.
        let key = engine.key(site, request, engine.clock.now());
        let ask = Ask { detail: Some(Reason::Behind), ..Ask::nothing() };
        return alone(engine, site, request, key, &ask).await;
    }
    match slices::answer(engine, admitted, request).await {
        Some(answer) => answer,
        None => one(engine, admitted, request).await,
    }
}

/// The same from one stored or fetched response.
pub(crate) async fn one(engine: &Arc<Engine>, admitted: Admitted, request: &Request) -> Answer {
    let site = admitted.site();
    let mut learned = None;
    let mut by_head = request.method == Method::HEAD;
    let mut broken = false;
    let (mut rounds, mut refused, since) = (0, 0, instant());
    while rounds < ROUNDS_MAX {
        rounds += 1;
        let now = engine.clock.now();
        // Made anew each time: an answer that was waited for may have brought a rule.
        let key = engine.key(site, request, now);
        let mut ask = match way(engine, site, &key, request, now) {
            Way::Serve(entry) => {
                return respond::stored(engine, &entry, request, Outcome::new(Verdict::Hit, Some(site)), now);
            }
            Way::Refresh(entry) => {
                refresh(engine, site, request, &key, &entry);
                return respond::stored(engine, &entry, request, Outcome::new(Verdict::Updating, Some(site)), now);
            }
            Way::NotCached => return respond::not_cached(site),
            Way::Alone(ask) => {
                if ask.detail == Some(Reason::FirstRange) {
                    engine.store.negative().remember_partial_request(&key.lookup, PartialRequest::Range, now);
                }
                return alone(engine, site, request, key, &ask).await;
            }
            Way::Together(ask) => ask,
        };
        if let Some(vary) = learned.take() {
            ask.vary = vary;
        }
        let method = if by_head && goes_as_head(engine, &key, &ask, now) { Method::HEAD } else { Method::GET };
        if method == Method::HEAD && ask.stored.is_none() {
            engine.store.negative().remember_partial_request(&key.lookup, PartialRequest::Head, now);
        }
        match together(engine, site, request, &key, &ask, method).await {
            Turn::Answer(answer) => return *answer,
            Turn::Alone => return alone(engine, site, request, key, &ask).await,
            Turn::Apart => return apart(engine, site, request, key, &ask).await,
            Turn::Refused
                if refused == REFUSED_ROUNDS_MAX || instant().saturating_duration_since(since) > REFUSED_WAIT_MAX =>
            {
                return alone(engine, site, request, key, &ask).await;
            }
            Turn::Refused => {
                refused += 1;
                rounds -= 1;
            }
            Turn::ByGet => by_head = false,
            Turn::Broken if broken => return broken_off(site),
            Turn::Broken => broken = true,
            Turn::Again(fetched) => learned = fetched.map(|fetched| fetched.vary.clone()),
        }
    }
    alone(engine, site, request, engine.key(site, request, engine.clock.now()), &Ask::nothing()).await
}

/// What browsers ask for to see how far this edge is.
const PING_TARGET: &[u8] = b"/.well-known/nearside/ping";

/// Whether a browser times the way to this edge by it.
pub(crate) fn is_ping(target: &[u8]) -> bool {
    target.strip_prefix(PING_TARGET).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"?"))
}

/// How a round ended.
enum Turn {
    Answer(Box<Answer>),
    /// The answer that was waited for is for another variant or target, or was stored meanwhile: look again.
    Again(Option<Arc<Fetched>>),
    /// The next hop does not know HEAD.
    ByGet,
    /// It cannot be shared.
    Alone,
    /// It may be the page of another user: the origin has to say whether it is this one's too.
    Apart,
    /// The one who led was refused: that says nothing about this request.
    Refused,
    /// The body has broken off, and the client has got nothing of it yet.
    Broken,
}

/// Leads a fill that asks by `method`, or follows one.
async fn together(
    engine: &Arc<Engine>,
    site: SiteId,
    request: &Request,
    key: &CacheKey,
    ask: &Ask,
    method: Method,
) -> Turn {
    let (fill, leads) = match join(engine, request, key, ask, &method) {
        Joined::Leader(fill) => {
            let mut plan = plan(engine, site, request, key.clone(), ask);
            plan.forward.method = method;
            fill::start(engine, Arc::clone(&fill), plan);
            (fill, true)
        }
        Joined::Follower(fill) => (fill, false),
        Joined::Stored => return Turn::Again(None),
    };
    let _waiting = Waiting::new(&fill, leads);
    let late = if leads { None } else { fill.begun_already() };
    // What comes before the head is for the one whose request it answers: nobody knows yet whether it may be shared.
    let none = Interims::none();
    let interims = if leads { &request.interims } else { &none };
    let patience = engine.rules(site).stale_deadline.filter(|_| ask.on_error && ask.stored.is_some());
    let begun = match late {
        Some(begun) => begun,
        None => match fill.begun_within(patience, interims).await {
            Some(begun) => begun,
            None => {
                fill.want();
                return late_answer(engine, site, request, ask);
            }
        },
    };
    if !leads && begun.is_purged() {
        // Nobody else joins it either, and one of those who have leads another.
        engine.fills.retire(&fill);
        return Turn::Again(None);
    }
    let now = engine.clock.now();
    if late.is_some() && !still_fresh(begun, now) {
        return Turn::Alone;
    }
    if wants_its_own(begun, request, leads, now) {
        return Turn::Alone;
    }
    let mut outcome = Outcome::new(if leads { Verdict::Miss } else { Verdict::Collapsed }, Some(site));
    outcome.forward = Some(ask.because);
    outcome.reason = ask.detail;
    finish(engine, begun, key, request, ask, outcome, if leads { Role::Leader } else { Role::Follower })
}

/// Whether what a fill has brought is not what the client asked for, so that its own request has to go forward: a response
/// that its preconditions do not hold for; a whole that is not stored, where it wants a part or asks whether that has
/// changed; a refusal of what the fill has altered.
fn wants_its_own(begun: &Begun, request: &Request, leads: bool, now: Timestamp) -> bool {
    match begun {
        Begun::Revalidated { entry, .. } => !holds(&entry.head, request, now),
        Begun::Response(fetched) => {
            let is_whole = fetched.stored.is_err() && fetched.head.status == StatusCode::OK;
            let is_altered = is_whole && request.is_selective() && request.block.is_none();
            !holds(&fetched.head, request, now)
                || leads && (is_altered || may_refuse_alteration(fetched.head.status, request))
        }
        Begun::Failed(_) | Begun::GaveWay(_) => false,
    }
}

/// The answer of one who need not wait any longer; the fill goes on.
fn late_answer(engine: &Engine, site: SiteId, request: &Request, ask: &Ask) -> Turn {
    let mut outcome = Outcome::new(Verdict::Stale, Some(site));
    outcome.forward = Some(ask.because);
    outcome.reason = ask.detail;
    let now = engine.clock.now();
    match stale(engine, ask, request, &outcome, now) {
        Some(entry) => {
            let answer = stale_answer(engine, entry, request, outcome, Reason::StaleDeadline, now);
            Turn::Answer(Box::new(answer))
        }
        // Purged meanwhile: then it must be waited for.
        None => Turn::Again(None),
    }
}

/// The answer of one who led or followed a fill.
fn finish(
    engine: &Engine,
    begun: &Begun,
    key: &CacheKey,
    request: &Request,
    ask: &Ask,
    mut outcome: Outcome,
    role: Role,
) -> Turn {
    let now = engine.clock.now();
    let leads = role == Role::Leader;
    let done = |answer| Turn::Answer(Box::new(answer));
    match begun {
        Begun::Failed(error) | Begun::GaveWay(error) => {
            let gave_way = matches!(begun, Begun::GaveWay(_));
            outcome.upstream = error.hop();
            match AfterFailure::decide(gave_way, role, || stale(engine, ask, request, &outcome, now)) {
                AfterFailure::LookAgain => Turn::Again(None),
                AfterFailure::ServeStale(entry) => {
                    done(stale_answer(engine, entry, request, outcome, error.reason(), now))
                }
                AfterFailure::Fail => done(respond::failure(error, outcome)),
            }
        }
        Begun::Revalidated { entry, hop, wait, shared, is_personal, only_for } => {
            let response = Validated {
                is_shared: *shared,
                is_personal: *is_personal,
                is_elsewhere: only_for.as_ref().is_some_and(|exact| *exact != key.url),
                answers: entry.answers(&request.fields),
            };
            match AfterValidation::decide(response, role) {
                AfterValidation::GoAlone => return Turn::Alone,
                AfterValidation::GoApart => return Turn::Apart,
                AfterValidation::LookAgain => return Turn::Again(None),
                AfterValidation::Serve => {}
            }
            outcome.upstream = Some(Arc::clone(hop));
            outcome.forward_status = Some(304);
            if leads {
                outcome.wait = Some(Arc::clone(wait));
                outcome.verdict = Verdict::Revalidated;
            }
            done(respond::stored(engine, entry, request, outcome, now))
        }
        Begun::Response(fetched) => {
            outcome.upstream = Some(Arc::clone(&fetched.hop));
            outcome.wait = leads.then(|| Arc::clone(&fetched.wait));
            outcome.forward_status = Some(fetched.head.status.as_u16());
            let reader = || if leads { fetched.take_first() } else { follow(fetched) };
            let stale = || stale(engine, ask, request, &outcome, now);
            match AfterResponse::decide(Arrived::new(fetched, request, key), role, stale, reader) {
                AfterResponse::ServeStale(entry) => {
                    if leads {
                        drop(fetched.take_first());
                    }
                    done(stale_answer(engine, entry, request, outcome, Reason::UpstreamError, now))
                }
                AfterResponse::Stream(reader) => {
                    if leads {
                        outcome.verdict = fetched.verdict(ask.stored.is_some());
                    }
                    done(respond::fetched(engine, fetched, Some(reader), request, outcome, now))
                }
                AfterResponse::ServeHead => done(respond::fetched_whole(fetched, None, request, outcome, now)),
                AfterResponse::LookAgain => Turn::Again(Some(Arc::clone(fetched))),
                AfterResponse::AskByGet => Turn::ByGet,
                AfterResponse::GoAlone => Turn::Alone,
                AfterResponse::GoApart => Turn::Apart,
                AfterResponse::WaitForAnother => Turn::Refused,
                AfterResponse::AskAgain => Turn::Broken,
            }
        }
    }
}

impl Arrived {
    /// The facts about a response for a request.
    fn new(fetched: &Fetched, request: &Request, key: &CacheKey) -> Self {
        Self {
            is_failure: is_failure(fetched.head.status),
            refuses_head: fetched.refuses_head(),
            is_refusal: fetched.is_refusal,
            is_personal: fetched.is_personal,
            is_cut: fetched.body.is_cut(),
            is_stored: fetched.stored.is_ok(),
            is_shared_head: fetched.is_shared_head(),
            answers: fetched.answers(&request.fields, key),
        }
    }
}

/// A reader for one who did not lead: only what is being stored can be shared.
fn follow(fetched: &Fetched) -> Option<nearside_store::BodyReader> {
    fetched.stored.is_ok().then(|| fetched.body.reader(0)).flatten()
}

/// "500, 502, 503, or 504" (RFC 5861 §4).
pub(crate) fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// What is stored, if it may be served although the next hop failed.
fn stale<'a>(engine: &Engine, ask: &'a Ask, request: &Request, outcome: &Outcome, now: Timestamp) -> Option<&'a Entry> {
    let entry = ask.stored.as_ref().filter(|_| ask.on_error)?;
    // The wait may have been long.
    let life = entry.freshness(now).filter(|_| holds(&entry.head, request, now));
    let may_serve = may_serve_stale(life, |life| match outcome.site {
        Some(site) => reuse(engine, site, life, request, now),
        None => Reuse::Fresh,
    });
    may_serve.then_some(entry)
}

/// The answer with something stale that may be served for this reason.
fn stale_answer(
    engine: &Engine,
    entry: &Entry,
    request: &Request,
    outcome: Outcome,
    reason: Reason,
    now: Timestamp,
) -> Answer {
    let outcome = Outcome { verdict: Verdict::Stale, reason: Some(reason), ..outcome };
    respond::stored(engine, entry, request, outcome, now)
}

/// Whether one who comes after the head may still share the answer without asking.
fn still_fresh(begun: &Begun, now: Timestamp) -> bool {
    match begun {
        Begun::Response(fetched) => fetched.freshness.reuse(now, None) == Reuse::Fresh,
        Begun::Revalidated { .. } | Begun::Failed(_) | Begun::GaveWay(_) => true,
    }
}

/// Goes forward for one request only; the answer is stored if it may be.
async fn alone(engine: &Arc<Engine>, site: SiteId, request: &Request, key: CacheKey, ask: &Ask) -> Answer {
    let plan = plan_alone(engine, site, request, key.clone());
    by_itself(engine, site, request, key, ask, plan).await
}

/// Asks for one request only what a fill would ask for all: whether what is stored is right, or for the whole.
async fn apart(engine: &Arc<Engine>, site: SiteId, request: &Request, key: CacheKey, ask: &Ask) -> Answer {
    let plan = plan(engine, site, request, key.clone(), ask);
    by_itself(engine, site, request, key, ask, plan).await
}

async fn by_itself(
    engine: &Arc<Engine>,
    site: SiteId,
    request: &Request,
    key: CacheKey,
    ask: &Ask,
    plan: Plan,
) -> Answer {
    let fill = engine.fills.enter_alone(&key.lookup, &key.url);
    fill::start(engine, Arc::clone(&fill), plan);
    let _waiting = Waiting::new(&fill, true);
    let mut outcome = Outcome::new(Verdict::Miss, Some(site));
    outcome.forward = Some(ask.because);
    outcome.reason = ask.detail;
    let begun = fill.begun(&request.interims).await;
    if let Begun::Response(fetched) = begun
        && !(is_failure(fetched.head.status) && ask.on_error)
        && fetched.head.status != StatusCode::OK
    {
        // Conditions and ranges have been answered.
        outcome.upstream = Some(Arc::clone(&fetched.hop));
        outcome.wait = Some(Arc::clone(&fetched.wait));
        outcome.forward_status = Some(fetched.head.status.as_u16());
        outcome.verdict = fetched.verdict(false);
        return respond::fetched_whole(fetched, fetched.take_first(), request, outcome, engine.clock.now());
    }
    match finish(engine, begun, &key, request, ask, outcome, Role::Leader) {
        Turn::Answer(answer) => *answer,
        Turn::Broken => broken_off(site),
        Turn::Again(_) | Turn::Alone | Turn::Apart | Turn::Refused | Turn::ByGet => {
            respond::refusal(Refusal::bad(Reason::Retry).at(site))
        }
    }
}

/// The body broke off before the client had got anything of it, more than once.
fn broken_off(site: SiteId) -> Answer {
    respond::failure(&HopError::Short, Outcome::new(Verdict::Error, Some(site)))
}

/// Has fetched what will be asked for next, unless it is there or somebody fetches it already.
pub(crate) fn prefetch(engine: &Arc<Engine>, admitted: Admitted, request: &Request) {
    let site = admitted.site();
    let now = engine.clock.now();
    let key = engine.key(site, request, now);
    let Found::Ask(ask) = lookup(engine, site, &key, request, now) else { return };
    if engine.store.negative().uncacheable(&key.lookup, now).is_some() {
        return;
    }
    if let Joined::Leader(fill) = join(engine, request, &key, &ask, &Method::GET) {
        let mut plan = plan(engine, site, request, key, &ask);
        plan.background = true;
        fill::start(engine, fill, plan);
    }
}

/// Refreshes behind the client's back, unless somebody does already.
fn refresh(engine: &Arc<Engine>, site: SiteId, request: &Request, key: &CacheKey, entry: &Arc<Entry>) {
    let ask = Ask {
        because: cache_status::Forward::Stale,
        stored: Some(Arc::clone(entry)),
        on_error: true,
        detail: None,
        vary: entry.vary.clone(),
    };
    if engine.store.negative().was_refreshed(&key.lookup, engine.clock.now()) {
        return;
    }
    if let Joined::Leader(fill) = join(engine, request, key, &ask, &Method::GET) {
        let mut plan = plan(engine, site, request, key.clone(), &ask);
        plan.background = true;
        plan.forward.urgency = Urgency::Refresh;
        fill::start(engine, fill, plan);
    }
}

fn join(engine: &Engine, request: &Request, key: &CacheKey, ask: &Ask, method: &Method) -> Joined {
    let mut fill_key = fill_key(key, ask, request, method);
    let lanes = lanes(engine, key, engine.clock.now());
    if lanes > 1 {
        set_lane(&mut fill_key, key.lookup.len(), engine.fills.lane(lanes));
    }
    // Between the lookup and now a fill may have ended: then there is something newer than what was looked at.
    engine.fills.join(&key.lookup, &FillKey::new(fill_key), &key.url, || {
        let now = engine.clock.now();
        let slot = engine.store.lookup(&key.lookup, now);
        if ask.stored.as_ref().is_some_and(|known| !engine.has(key, known, now)) {
            // What was found was purged, or replaced: a validation must not bring it back.
            return true;
        }
        let newer = slot.as_ref().and_then(|slot| slot.select(&request.fields));
        newer.is_some_and(|newer| {
            let known = ask.stored.as_ref().is_some_and(|known| Arc::ptr_eq(known, newer));
            let is_fresh = |freshness: Freshness| freshness.reuse(now, None) == Reuse::Fresh;
            !known && newer.freshness(now).is_some_and(is_fresh)
        })
    })
}

#[cfg(test)]
mod tests;
