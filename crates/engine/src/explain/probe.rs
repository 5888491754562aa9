//! Asks the next hop as a fill would, and judges its answer as a fill would; nothing of it is kept.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use nearside_http1::response::ResponseHead;
use nearside_http1::write::CACHE_STATUS;
use nearside_protocol::explanation::Probe;
use nearside_semantics::conditional;
use nearside_store::Entry;
use nearside_telemetry::outcome::{Outcome, Verdict};
use nearside_telemetry::reason::Reason;
use nearside_upstream::{Asked, HopError};

use super::causes::{Causes, cache_control};
use super::life::{Stated, arithmetic};
use super::{Case, joined, told};
use crate::fill::{Judged, Plan, Unstored, judge, refuses_head};
use crate::request::Engine;
use crate::request::forward::is_failure;
use crate::request::lookup::Ask;
use crate::request::plan::{plan, plan_alone};
use crate::request::slices::can_be_cut;
use crate::request::way::goes_as_head;

/// What becomes of the request, now that the next hop has been asked; and what it answered. Nothing where a block was asked for, and
/// the answer shows that its URL cannot be stored in blocks.
pub(super) async fn probe(
    case: &Case,
    mut outcome: Outcome,
    ask: &Ask,
    is_alone: bool,
    causes: &mut Causes,
) -> Option<(Outcome, Option<Probe>)> {
    let Case { engine, site, request, key, now, .. } = case;
    let mut plan = if is_alone {
        plan_alone(engine, *site, request, key.clone())
    } else {
        plan(engine, *site, request, key.clone(), ask)
    };
    if request.method == Method::HEAD && goes_as_head(engine, key, ask, *now) {
        plan.forward.method = Method::HEAD;
    }
    let to = engine.hops.candidates(*site, &key.url);
    let mut asked = engine.hops.ask(&to, &plan.forward, &engine.clock, &|_| {}).await;
    if plan.forward.method == Method::HEAD && asked.as_ref().is_ok_and(|asked| refuses_head(asked.head.status)) {
        plan.forward.method = Method::GET;
        asked = engine.hops.ask(&to, &plan.forward, &engine.clock, &|_| {}).await;
    }
    if asked.as_ref().is_ok_and(|asked| speaks_of_another(ask, asked)) {
        asked = engine.hops.ask(&to, &plan.forward.unconditional(), &engine.clock, &|_| {}).await;
    }
    match asked {
        Ok(asked) if request.block.is_some() && shows_whole(engine, &asked) => None,
        Ok(asked) => Some(answered(case, outcome, ask, &plan, asked, causes)),
        Err(error) => {
            outcome.upstream = error.hop();
            Some((failed(case, outcome, ask, &error, causes), None))
        }
    }
}

/// Whether the answer to a block is one that cannot be cut into blocks.
fn shows_whole(engine: &Engine, asked: &Asked) -> bool {
    let ResponseHead { status, fields, .. } = &asked.head;
    [StatusCode::OK, StatusCode::PARTIAL_CONTENT].contains(status) && !can_be_cut(*status, fields, engine.clock.now())
}

/// Whether a client would not have waited so long, and have got what is stored.
fn is_late(case: &Case, ask: &Ask, waited: Duration) -> bool {
    let deadline = case.engine.rules(case.site).stale_deadline;
    deadline.is_some_and(|deadline| waited > deadline) && is_servable(case, ask)
}

/// Whether a 304 is not about what is stored (RFC 9111 §4.3.4), so that the whole has to be asked for.
fn speaks_of_another(ask: &Ask, asked: &Asked) -> bool {
    let is_selected = |entry: &Arc<Entry>| conditional::selects(&asked.head.fields, &entry.head.fields);
    asked.head.status == StatusCode::NOT_MODIFIED && ask.stored.as_ref().is_some_and(|entry| !is_selected(entry))
}

/// The next hop gave no answer.
fn failed(case: &Case, mut outcome: Outcome, ask: &Ask, error: &HopError, causes: &mut Causes) -> Outcome {
    causes.add(error.reason(), error.to_string());
    outcome.verdict = if is_servable(case, ask) { Verdict::Stale } else { Verdict::Error };
    outcome.reason = Some(error.reason());
    outcome
}

/// Whether what is stored may be served where the next hop fails.
fn is_servable(case: &Case, ask: &Ask) -> bool {
    ask.on_error && ask.stored.as_ref().is_some_and(|entry| entry.freshness(case.now).is_some())
}

fn answered(
    case: &Case,
    mut outcome: Outcome,
    ask: &Ask,
    plan: &Plan,
    mut asked: Box<Asked>,
    causes: &mut Causes,
) -> (Outcome, Option<Probe>) {
    let engine = &case.engine;
    let fields = asked.take_end_to_end();
    let (status, wait) = (asked.head.status, asked.wait());
    outcome.upstream = Some(Arc::clone(&asked.hop.name));
    outcome.forward_status = Some(status.as_u16());
    if asked.hop.is_shield() {
        causes.look_at_shield(&joined(&fields, &CACHE_STATUS));
    }
    let Judged { storable, freshness, .. } = judge(engine, plan, status, &fields, asked.exchange);
    let stored = verdict(case, &mut outcome, ask, plan, status, &fields, storable.map_err(Unstored::Law));
    let stated = Stated::of(engine.rules(case.site), &plan.request, status, &fields, asked.exchange.response_date);
    if outcome.verdict != Verdict::Revalidated {
        causes.look_at_answer(case, status, &fields, &stated, asked.exchange.response_time, freshness);
    }
    if let Some(reason) = outcome.reason.filter(|_| !stored) {
        // Where nothing was found that says it better.
        causes.add(reason, format!("status {}; {}", status.as_u16(), cache_control(&fields)));
    }
    if is_late(case, ask, wait.duration) {
        // Whoever asks later gets what has come.
        outcome.verdict = Verdict::Stale;
        outcome.reason = Some(Reason::StaleDeadline);
        causes.add(Reason::StaleDeadline, format!("it took {:.1} s", wait.duration.as_secs_f64()));
    }
    let probe = Probe {
        hop: asked.hop.name.to_string(),
        status: status.as_u16(),
        milliseconds: (wait.duration.as_secs_f64() * 10_000.0).round() / 10.0,
        fields: told(&fields),
        stored,
        freshness: arithmetic(&stated, &fields, asked.exchange.response_time, freshness, engine.clock.now()),
    };
    (outcome, Some(probe))
}

/// Puts into the outcome what an answer makes of it; whether it is stored.
fn verdict(
    case: &Case,
    outcome: &mut Outcome,
    ask: &Ask,
    plan: &Plan,
    status: StatusCode,
    fields: &http::HeaderMap,
    storable: Result<(), Unstored>,
) -> bool {
    if status == StatusCode::NOT_MODIFIED && ask.stored.is_some() {
        outcome.verdict = Verdict::Revalidated;
        return true;
    }
    if is_failure(status) && is_servable(case, ask) {
        outcome.verdict = Verdict::Stale;
        outcome.reason = Some(Reason::UpstreamError);
        return false;
    }
    let length = nearside_http1::framing::content_length(fields).ok().flatten().unwrap_or(0);
    let is_large = length > case.engine.store.limits().object_bytes_max;
    let stored = storable.and(match plan.forward.method == Method::HEAD {
        true => Err(Unstored::HeadOnly),
        false if is_large => Err(Unstored::TooLarge),
        false => Ok(()),
    });
    outcome.verdict = match stored {
        Ok(()) if ask.stored.is_some() => Verdict::Expired,
        Ok(()) => Verdict::Miss,
        Err(_) => Verdict::Uncacheable,
    };
    outcome.stored = stored.is_ok();
    if let Err(unstored) = stored {
        outcome.reason = unstored.reason();
    }
    stored.is_ok()
}
