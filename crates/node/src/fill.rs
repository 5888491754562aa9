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
use nearside_semantics::lifetime::lifetime;
use nearside_semantics::reuse::Freshness;
use nearside_semantics::storable::{Candidate, NotStorable, storable};
use nearside_semantics::vary::{Nominee, Vary};
use nearside_semantics::{Timestamp, conditional, groups};
use nearside_store::{Body, Charge, Entry, Epoch, Membership};
use parking_lot::Mutex;
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
use crate::request::interim::{INTERIMS_MAX, Interim, Interims};
use crate::request::key::CacheKey;
use crate::tier::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};

/// What a fill sets out to do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) site: usize,
    pub(crate) key: CacheKey,
    pub(crate) forward: Forward,
    /// What is validated, if anything.
    pub(crate) stored: Option<Arc<Entry>>,
    /// The fields of the request that leads.
    pub(crate) request: HeaderMap,
    /// The answer's `Content-Location` names what was asked for.
    pub(crate) own_location: bool,
    /// Nobody waits for it.
    pub(crate) background: bool,
}

/// A fill that others can wait for.
#[derive(Debug)]
pub(crate) struct Fill {
    key: Box<[u8]>,
    fill_key: Box<[u8]>,
    begun: OnceLock<Begun>,
    /// Interim answers so far, for all who wait for the head.
    interims: Mutex<Vec<Arc<Interim>>>,
    woken: Notify,
    /// How many purges there had been when it was sent.
    purges: u64,
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

impl Begun {
    /// Whether a group that it belongs to was invalidated since it was asked for.
    pub(crate) fn is_invalidated(&self) -> bool {
        match self {
            Self::Response(fetched) => fetched.groups.is_invalidated(),
            Self::Revalidated { entry, .. } => entry.groups.is_invalidated(),
            Self::Failed(_) => false,
        }
    }
}

impl Fill {
    pub(crate) fn new(key: &[u8], fill_key: &[u8], purges: u64) -> Self {
        Self {
            key: key.into(),
            fill_key: fill_key.into(),
            begun: OnceLock::new(),
            interims: Mutex::default(),
            woken: Notify::new(),
            purges,
            fenced: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// Waits for the head; interim answers go to the client meanwhile.
    pub(crate) async fn begun(&self, client: &Interims) -> &Begun {
        let mut told = 0;
        loop {
            let notified = self.woken.notified();
            tokio::pin!(notified);
            // Registered before looking, so that the head is not missed if it comes in between.
            notified.as_mut().enable();
            let begun = self.begun.get();
            {
                let interims = self.interims.lock();
                interims.iter().skip(told).for_each(|interim| client.send(interim));
                told = interims.len();
            }
            if let Some(begun) = begun {
                return begun;
            }
            notified.await;
        }
    }

    /// An interim answer has come.
    fn tell(&self, interim: Arc<Interim>) {
        let mut interims = self.interims.lock();
        if interims.len() < INTERIMS_MAX {
            interims.push(interim);
        }
        drop(interims);
        self.woken.notify_waiters();
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
    let entered = Entered::new(&engine, Arc::clone(&fill));
    let sent = engine.store.epoch();
    let to = engine.hops.candidates(plan.site, &plan.key.exact);
    let tell = |interim| fill.tell(interim);
    let asked = match engine.hops.ask(&to, &plan.forward, &engine.clock, &tell).await {
        Ok(asked) if asked.head.status == StatusCode::NOT_MODIFIED && plan.stored.is_some() => {
            match not_modified(&engine, &fill, &plan, asked, sent).await {
                None => return,
                Some(unconditional) => engine.hops.ask(&to, &unconditional, &engine.clock, &tell).await,
            }
        }
        asked => asked,
    };
    match asked {
        Ok(asked) => response(&engine, entered, &plan, asked, sent).await,
        Err(error) => {
            drop(entered);
            fill.begin(Begun::Failed(error));
        }
    }
}

/// Brings the answer to a request that was sent in another lane, in epoch `sent`, to a fill.
pub(crate) async fn adopt(entered: Entered, plan: Plan, asked: Asked, sent: Epoch) {
    let engine = Arc::clone(&entered.engine);
    response(&engine, entered, &plan, asked, sent).await;
}

/// A fill that is in the table. It is taken out when this ends, however it ends, and nobody waits for ever.
pub(crate) struct Entered {
    engine: Arc<Engine>,
    pub(crate) fill: Arc<Fill>,
}

impl Entered {
    pub(crate) fn new(engine: &Arc<Engine>, fill: Arc<Fill>) -> Self {
        Self { engine: Arc::clone(engine), fill }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.engine.fills.leave(&self.fill, || {});
        if std::thread::panicking() {
            self.fill.begin(Begun::Failed(HopError::Body));
        }
    }
}

/// A 304 for what is stored: publishes it with the new fields. If it speaks of something else (RFC 9111 §4.3.4), the
/// request that must be sent instead.
async fn not_modified(
    engine: &Engine,
    fill: &Arc<Fill>,
    plan: &Plan,
    mut asked: Asked,
    sent: Epoch,
) -> Option<Forward> {
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
    let (entry, storable) = freshened(engine, plan, old, &fresh, asked.exchange, sent);
    let same_key = plan.key.agrees(engine.rules(plan.site).search_variance(&entry.head.fields).as_ref());
    replace(engine, fill, plan, old, &entry, storable);
    if whole {
        engine.hops.release(asked).await;
    }
    fill.begin(Begun::Revalidated { entry, hop, shared: storable.is_ok() && same_key });
    None
}

/// What is stored, with the fields that a newer answer brings (RFC 9111 §3.2), and whether that may still be stored.
fn freshened(
    engine: &Engine,
    plan: &Plan,
    old: &Arc<Entry>,
    fresh: &HeaderMap,
    exchange: Exchange,
    sent: Epoch,
) -> (Arc<Entry>, Result<(), NotStorable>) {
    let fields = conditional::merge(&old.head.fields, fresh);
    let judged = judge(engine, plan, old.head.status, &fields, exchange);
    let vary = engine.rules(plan.site).vary(&fields);
    let mut variant = Vec::new();
    vary.variant_key(&plan.request, &mut variant);
    let groups = membership(engine, plan, &fields, sent);
    let entry = Entry {
        head: Arc::new(head(engine, old.head.status, fields, old.body.len())),
        freshness: judged.freshness,
        retain_until: judged.retain_until,
        vary,
        variant: variant.into(),
        groups,
        body: Arc::clone(&old.body),
    };
    (Arc::new(entry), judged.storable)
}

/// Ends a fill by storing its entry under the key that the entry asks for.
fn store(engine: &Engine, fill: &Arc<Fill>, plan: &Plan, entry: &Arc<Entry>) {
    store_if(engine, fill, plan, entry, |_| true);
}

/// The same, if `still` says so of the key under the lock that stores.
fn store_if(engine: &Engine, fill: &Arc<Fill>, plan: &Plan, entry: &Arc<Entry>, still: impl Fn(&[u8]) -> bool) {
    let now = engine.clock.now();
    let variance = engine.rules(plan.site).search_variance(&entry.head.fields);
    let key = engine.storage_key(&plan.key, variance.as_ref());
    let insert = || {
        if still(&key) && !entry.groups.is_invalidated() {
            engine.store.insert(&key, Arc::clone(entry), now);
        }
    };
    if key == plan.key.bytes {
        return engine.fills.leave(fill, insert);
    }
    engine.fills.store_elsewhere(fill, &key, insert);
    engine.fills.leave(fill, || {});
}

/// Ends a fill that has freshened `old`: publishes the new entry in its place, or takes `old` away if that may not be
/// stored. What somebody else has stored since is newer, and stays.
fn replace(
    engine: &Engine,
    fill: &Arc<Fill>,
    plan: &Plan,
    old: &Arc<Entry>,
    entry: &Arc<Entry>,
    storable: Result<(), NotStorable>,
) {
    match storable {
        Ok(()) => store_if(engine, fill, plan, entry, |key| {
            let slot = engine.store.lookup(key);
            let stored = slot.as_ref().and_then(|slot| slot.select(&plan.request));
            stored.is_none_or(|stored| Arc::ptr_eq(stored, old))
        }),
        // It is one client's own request that forbids it.
        Err(NotStorable::RequestNoStore | NotStorable::Authorization) => engine.fills.leave(fill, || {}),
        Err(_) => forget(engine, fill, plan, old),
    }
}

/// Ends a fill by removing what it has found to be of no use.
fn forget(engine: &Engine, fill: &Arc<Fill>, plan: &Plan, old: &Arc<Entry>) {
    engine.fills.leave(fill, || {
        engine.store.remove_entry(&plan.key.bytes, old);
        engine.store.remove_entry(&plan.key.exact, old);
    });
}

/// The groups of a response that was asked for in epoch `sent` (RFC 9875 §2.1: groups belong to an origin).
fn membership(engine: &Engine, plan: &Plan, fields: &HeaderMap, sent: Epoch) -> Membership {
    let names: Vec<_> = groups::groups(fields).iter().map(|group| plan.key.group(group)).collect();
    engine.store.join_groups(&names, sent)
}

impl Plan {
    /// Whether the next hop gets a client's own conditions or range.
    fn is_selective(&self) -> bool {
        let fields = &self.forward.fields;
        self.stored.is_none() && (conditional::is_conditional(fields) || fields.contains_key(RANGE))
    }
}

impl Plan {
    /// Whether the answers for its key are not worth waiting for: not stored, for a reason that is not one client's own.
    fn shows_uncacheable(&self, stored: Result<(), Unstored>) -> bool {
        let own = [NotStorable::RequestNoStore, NotStorable::Authorization, NotStorable::Partial];
        let lasting = match stored {
            Err(Unstored::Law(reason)) => !own.contains(&reason),
            Err(Unstored::TooLarge) => true,
            _ => false,
        };
        lasting && self.forward.method == Method::GET && !self.is_selective()
    }
}

/// Whether a response depends on fields that this node writes anew: what the client sent says nothing about them.
fn varies_on_rewritten(vary: &Vary) -> bool {
    let rewritten = [X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, VIA, CDN_LOOP];
    let is_rewritten = |nominee: &Nominee| matches!(nominee, Nominee::Field(name) if rewritten.contains(name));
    matches!(vary, Vary::On(nominees) if nominees.iter().any(is_rewritten))
}

/// What the rules say of a response.
struct Judged {
    storable: Result<(), NotStorable>,
    freshness: Freshness,
    retain_until: Timestamp,
}

fn judge(engine: &Engine, plan: &Plan, status: StatusCode, fields: &HeaderMap, exchange: Exchange) -> Judged {
    let rules = engine.rules(plan.site);
    let control = rules.control(fields);
    let life = lifetime(status, fields, &control, exchange.response_time, rules.lifetime);
    let freshness = Freshness::of(fields, &control.directives, life, exchange, rules.stale);
    let retain_until = freshness.retain_until(conditional::has_validator(fields), exchange.response_time, rules.stale);
    let storable = if plan.is_selective() && status != StatusCode::OK {
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

/// A new response: tells those who wait, carries the body, stores it.
async fn response(engine: &Arc<Engine>, entered: Entered, plan: &Plan, asked: Asked, sent: Epoch) {
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
    if plan.forward.method == Method::HEAD {
        freshen_by_head(engine, &entered.fill, plan, &asked, &fields, sent);
    }
    let window = stored.err().map(|_| engine.config.limits.window_bytes);
    let (body, writer) = Body::growing(charge, window);
    let groups = membership(engine, plan, &fields, sent);
    let variance = engine.rules(plan.site).search_variance(&fields);
    let agrees = plan.key.agrees(variance.as_ref());
    if stored.is_ok() && !agrees {
        // Known from now on, so that those who come while the body does look under the right key.
        engine.storage_key(&plan.key, variance.as_ref());
    }
    let only_for = (!agrees).then(|| plan.key.exact.clone());
    let by_head = plan.forward.method == Method::HEAD;
    let parts = Parts { fields, length: shown, freshness: judged.freshness, body, stored, groups, by_head, only_for };
    let fetched = Arc::new(Fetched::of(engine, plan.site, &asked, parts, &plan.request));
    let fill = Arc::clone(&entered.fill);
    if stored.is_err() {
        if plan.shows_uncacheable(stored) {
            engine.store.remember_uncacheable(&plan.key.bytes);
        }
        drop(entered);
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
        let entry = Arc::new(fetched.entry(engine, judged.retain_until));
        store(engine, &fill, plan, &entry);
    }
}

/// The answer to a HEAD tells of what is stored for GETs: it is freshened, or useless (RFC 9111 §4.3.5).
fn freshen_by_head(engine: &Engine, fill: &Arc<Fill>, plan: &Plan, asked: &Asked, fields: &HeaderMap, sent: Epoch) {
    let Some(old) =
        plan.stored.as_ref().filter(|old| asked.head.status == StatusCode::OK && old.head.status == StatusCode::OK)
    else {
        return;
    };
    if conditional::describes(fields, &old.head.fields) {
        let (entry, storable) = freshened(engine, plan, old, fields, asked.exchange, sent);
        replace(engine, fill, plan, old, &entry, storable);
    } else {
        forget(engine, fill, plan, old);
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
