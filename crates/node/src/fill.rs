//! Fills: asking the next hop once for everybody who wants the same.
//!
//! A fill is a task of its own, so that no client, slow or gone, holds it up. It writes a [`Body`] that its leader and
//! all followers read at their own pace, and stores the result when it is whole.
//!
//! **Invariants:** for one key and variant at most one shared fill runs. A fill that a purge has overtaken is not
//! stored. A body that did not end well is not stored, and its readers see that.

mod carry;
mod fetched;
mod table;

use std::sync::{Arc, OnceLock};

use http::header::{RANGE, VIA};
use http::{HeaderMap, Method, StatusCode};
use nearside_semantics::age::Exchange;
use nearside_semantics::directives::ResponseDirectives;
use nearside_semantics::lifetime::{Heuristic, lifetime};
use nearside_semantics::reuse::{Freshness, StalePolicy};
use nearside_semantics::storable::{NotStorable, StorePolicy, storable};
use nearside_semantics::vary::Vary;
use nearside_semantics::{Timestamp, conditional};
use nearside_store::{Body, Charge, Entry};
use tokio::sync::Notify;

pub(crate) use carry::stream;
pub(crate) use fetched::{Fetched, Unstored};
pub(crate) use table::{Fills, Joined};

use carry::keep;
use fetched::{Parts, end_to_end, head, length_of};

use crate::h1::framing::bodiless;
use crate::hop::{Asked, Forward, HopError};
use crate::request::Engine;
use crate::request::admit::CDN_LOOP;
use crate::tier::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};

/// What a fill sets out to do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) site: usize,
    pub(crate) key: Box<[u8]>,
    pub(crate) forward: Forward,
    /// What is validated, if anything.
    pub(crate) stored: Option<Arc<Entry>>,
    /// The fields of the request that leads.
    pub(crate) request: HeaderMap,
    /// Nobody waits for it.
    pub(crate) background: bool,
}

/// A fill that others can wait for.
#[derive(Debug)]
pub(crate) struct Fill {
    key: Box<[u8]>,
    fill_key: Box<[u8]>,
    begun: OnceLock<Begun>,
    woken: Notify,
    /// A purge came after it was sent. Read and written under the table's lock.
    fenced: std::sync::atomic::AtomicBool,
}

/// What is known once the head of the answer is there.
#[derive(Debug)]
pub(crate) enum Begun {
    /// A new response.
    Response(Arc<Fetched>),
    /// What was stored has been validated. `shared` says whether others than the leader may have it: a 304 can bring
    /// what is for one client only.
    Revalidated { entry: Arc<Entry>, hop: Arc<str>, shared: bool },
    /// No answer could be had.
    Failed(HopError),
}

impl Fill {
    pub(crate) fn new(key: &[u8], fill_key: &[u8]) -> Self {
        Self {
            key: key.into(),
            fill_key: fill_key.into(),
            begun: OnceLock::new(),
            woken: Notify::new(),
            fenced: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// Waits for the head.
    pub(crate) async fn begun(&self) -> &Begun {
        loop {
            let notified = self.woken.notified();
            tokio::pin!(notified);
            // Registered before looking, so that the head is not missed if it comes in between.
            notified.as_mut().enable();
            if let Some(begun) = self.begun.get() {
                return begun;
            }
            notified.await;
        }
    }

    /// What is known by now.
    pub(crate) fn begun_already(&self) -> Option<&Begun> {
        self.begun.get()
    }

    fn begin(&self, begun: Begun) {
        // Set once, by the one task that runs the fill.
        let _ = self.begun.set(begun);
        self.woken.notify_waiters();
    }
}

/// Runs a fill to its end.
pub(crate) async fn run(engine: Arc<Engine>, fill: Arc<Fill>, plan: Plan) {
    let guard = Leave { engine: &engine, fill: &fill };
    let to = engine.hops.candidates(plan.site, &plan.key);
    let asked = match engine.hops.ask(&to, &plan.forward, &engine.clock).await {
        Ok(asked) if asked.head.status == StatusCode::NOT_MODIFIED && plan.stored.is_some() => {
            match not_modified(&engine, &fill, &plan, asked).await {
                None => return,
                Some(unconditional) => engine.hops.ask(&to, &unconditional, &engine.clock).await,
            }
        }
        asked => asked,
    };
    match asked {
        Ok(asked) => response(&engine, guard, &plan, asked).await,
        Err(error) => {
            drop(guard);
            fill.begin(Begun::Failed(error));
        }
    }
}

/// Takes a fill out of the table when it ends, however it ends, and lets nobody wait for ever.
struct Leave<'f> {
    engine: &'f Engine,
    fill: &'f Arc<Fill>,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.engine.fills.leave(self.fill, || {});
        if std::thread::panicking() {
            self.fill.begin(Begun::Failed(HopError::Body));
        }
    }
}

/// A 304 for what is stored: publishes it with the new fields. If it speaks of something else (RFC 9111 §4.3.4), the
/// request that must be sent instead.
async fn not_modified(engine: &Engine, fill: &Arc<Fill>, plan: &Plan, mut asked: Asked) -> Option<Forward> {
    let old = plan.stored.as_ref()?;
    let fresh = end_to_end(&asked.head.fields, asked.exchange);
    let hop = Arc::clone(&asked.hop.name);
    // A 304 has no body; reading it to its end makes the connection free again.
    let whole = matches!(engine.hops.body(&mut asked).await, Ok(None));
    if !conditional::selects(&fresh, &old.head.fields) {
        let mut forward = plan.forward.clone();
        forward.fields.remove(http::header::IF_NONE_MATCH);
        forward.fields.remove(http::header::IF_MODIFIED_SINCE);
        return Some(forward);
    }
    let fields = conditional::merge(&old.head.fields, &fresh);
    let judged = judge(engine, plan, old.head.status, &fields, asked.exchange);
    let vary = Vary::of(&fields);
    let mut variant = Vec::new();
    vary.variant_key(&plan.request, &mut variant);
    let entry = Arc::new(Entry {
        head: Arc::new(head(engine, old.head.status, fields, old.body.len())),
        freshness: judged.freshness,
        retain_until: judged.retain_until,
        vary,
        variant: variant.into(),
        body: Arc::clone(&old.body),
    });
    let now = engine.clock.now();
    engine.fills.leave(fill, || match judged.storable {
        Ok(()) => engine.store.insert(&plan.key, Arc::clone(&entry), now),
        Err(_) => {
            engine.store.remove(&plan.key);
        }
    });
    if whole {
        engine.hops.release(asked).await;
    }
    fill.begin(Begun::Revalidated { entry, hop, shared: judged.storable.is_ok() });
    None
}

impl Plan {
    /// Whether the next hop gets a client's own conditions or range.
    fn is_selective(&self) -> bool {
        let fields = &self.forward.fields;
        self.stored.is_none() && (conditional::is_conditional(fields) || fields.contains_key(RANGE))
    }
}

/// Whether a response depends on fields that this node writes anew: what the client sent says nothing about them.
fn varies_on_rewritten(fields: &HeaderMap) -> bool {
    let rewritten = [X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, VIA, CDN_LOOP];
    matches!(Vary::of(fields), Vary::Fields(names) if names.iter().any(|name| rewritten.contains(name)))
}

/// What the rules say of a response.
struct Judged {
    storable: Result<(), NotStorable>,
    freshness: Freshness,
    retain_until: Timestamp,
}

fn judge(engine: &Engine, plan: &Plan, status: StatusCode, fields: &HeaderMap, exchange: Exchange) -> Judged {
    let site = engine.config.sites.get(plan.site);
    let heuristic = site
        .map_or_else(Heuristic::default, |site| Heuristic { percent: site.heuristic_percent, cap: site.heuristic_cap });
    let stale = site.map_or(StalePolicy::NONE, |site| StalePolicy {
        on_error: site.stale_on_error,
        keep: site.keep_for_validation,
    });
    let policy = StorePolicy { set_cookie: site.is_some_and(|s| s.set_cookie == nearside_config::SetCookie::Store) };
    let directives = ResponseDirectives::of(fields);
    let life = lifetime(status, fields, &directives, exchange.response_time, heuristic);
    let freshness = Freshness::of(fields, &directives, life, exchange, stale);
    let retain_until = freshness.retain_until(conditional::has_validator(fields), exchange.response_time, stale);
    let storable = if plan.is_selective() && status != StatusCode::OK {
        // 206, 304, 412 and 416 answer a condition or a range of one client.
        Err(NotStorable::Partial)
    } else if varies_on_rewritten(fields) {
        Err(NotStorable::VaryAll)
    } else {
        storable(&plan.forward.method, &plan.request, status, fields, &directives, life, policy)
    };
    Judged { storable, freshness, retain_until }
}

/// A new response: tells those who wait, carries the body, stores it.
async fn response(engine: &Arc<Engine>, guard: Leave<'_>, plan: &Plan, asked: Asked) {
    let fields = end_to_end(&asked.head.fields, asked.exchange);
    let status = asked.head.status;
    let judged = judge(engine, plan, status, &fields, asked.exchange);
    let length = if bodiless(status) { Some(0) } else { length_of(&fields) };
    let shown = length_of(&fields);
    let room = room(engine, plan, &judged, status, &fields, length);
    let (charge, stored) = match room {
        Ok(charge) => (Some(charge), Ok(())),
        Err(unstored) => (None, Err(unstored)),
    };
    let window = stored.err().map(|_| engine.config.limits.window_bytes);
    let (body, writer) = Body::growing(charge, window);
    let parts = Parts { fields, length: shown, freshness: judged.freshness, body, stored };
    let fetched = Arc::new(Fetched::of(engine, &asked, parts, &plan.request));
    let fill = Arc::clone(guard.fill);
    if stored.is_err() {
        if matches!(stored, Err(Unstored::Law(_) | Unstored::TooLarge)) && !plan.is_selective() {
            engine.store.remember_uncacheable(&plan.key);
        }
        drop(guard);
        if plan.background {
            // Nobody leads: who has joined meanwhile goes forward alone, and the body is not wanted.
            drop(fetched.take_first());
            return fill.begin(Begun::Response(fetched));
        }
        fill.begin(Begun::Response(fetched));
        // In a task that does not hold the fill: when those who wait for it are gone, so is its reader.
        tokio::spawn(stream(Arc::clone(engine), asked, writer));
        return;
    }
    if plan.background {
        // Its place at the start would hold up a body that turns out to be too large.
        drop(fetched.take_first());
    }
    fill.begin(Begun::Response(Arc::clone(&fetched)));
    if keep(engine, asked, writer, plan, &fetched).await {
        let entry = fetched.entry(engine, judged.retain_until);
        let now = engine.clock.now();
        engine.fills.leave(&fill, || engine.store.insert(&plan.key, Arc::new(entry), now));
    }
}

fn room(
    engine: &Engine,
    plan: &Plan,
    judged: &Judged,
    status: StatusCode,
    fields: &HeaderMap,
    length: Option<u64>,
) -> Result<Charge, Unstored> {
    judged.storable.map_err(Unstored::Law)?;
    if plan.forward.method == Method::HEAD {
        return Err(Unstored::HeadOnly);
    }
    if length.unwrap_or(0) > engine.store.limits().object_bytes_max {
        return Err(Unstored::TooLarge);
    }
    let head = head(engine, status, fields.clone(), length);
    engine.store.reserve(&head, length.unwrap_or(0)).ok_or(Unstored::NoRoom)
}
