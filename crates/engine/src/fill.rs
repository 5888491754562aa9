//! Fills: asking the next hop once for everybody who wants the same.
//!
//! A fill is a task of its own, so that no client, slow or gone, holds it up. It writes a [`Body`] that its leader and
//! all followers read at their own pace, and stores the result when it is whole.
//!
//! **Invariants:** for one key, variant and method at most one shared fill runs. A fill that a purge has overtaken is not
//! stored. A body that did not end well is not stored, and its readers see that.

mod carry;
mod fetched;
mod judge;
mod lesson;
mod publish;
mod supply;
mod table;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::{HeaderMap, Method, StatusCode};
use nearside_config::SiteId;
use nearside_semantics::conditional;
use nearside_semantics::reuse::Reuse;
use nearside_store::{Body, Entry, Epoch};
use parking_lot::Mutex;
use tokio::sync::Notify;

pub(crate) use carry::stream;
#[cfg(test)]
pub(crate) use fetched::tests::fetched as fetched_sample;
pub(crate) use fetched::{Fetched, Unstored, refuses_head};
pub(crate) use judge::{Judged, judge};
pub(crate) use table::{Fills, Joined};

use carry::{Passing, keep, pass};
use fetched::{Parts, head, length_of};
use judge::{Finding, room};
use lesson::{Course, Lesson, Remembered, gives_way, is_vain};
use publish::{forget, freshen_by_head, freshened, membership, replace, store};

use crate::request::Engine;
use crate::request::key::{CacheKey, FillKey, LookupKey, UrlKey};
use nearside_http1::framing::bodiless;
use nearside_telemetry::clock::instant;
use nearside_telemetry::server_timing::Wait;
use nearside_upstream::interim::{INTERIMS_MAX, Interim, Interims};
use nearside_upstream::{Asked, Forward, Hop, HopError, Tell};

/// What a fill sets out to do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) site: SiteId,
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
    key: LookupKey,
    fill_key: FillKey,
    since: Instant,
    begun: OnceLock<Begun>,
    /// Its leader does not wait for it any more.
    is_left: AtomicBool,
    /// Interim answers so far, for all who wait for the head.
    interims: Mutex<Vec<Arc<Interim>>>,
    woken: Notify,
    /// The exact key of the URL that it asks for.
    url: UrlKey,
    /// How many purges there had been when it was entered: of all keys, and of those in the shard of its exact key.
    purges: AtomicU64,
    purges_near: AtomicU64,
    /// A purge came after it was sent. Read and written under the table's lock.
    fenced: AtomicBool,
    /// Number of requests that wait for it, and of other reasons to go on. Raised under the table's lock.
    waiting: AtomicUsize,
    /// Told when nobody is left.
    unwanted: Notify,
}

/// What is known once the head of the answer is there.
#[derive(Debug)]
pub(crate) enum Begun {
    /// A new response.
    Response(Arc<Fetched>),
    /// What was stored has been validated. `shared` says whether others than the leader may have it: a 304 can bring
    /// what is for one client only.
    /// `only_for` is the exact key of those who may, where the others who wait were led here by a rule that does not hold.
    /// `is_personal` says that others have to ask whether it is theirs too.
    Revalidated {
        entry: Arc<Entry>,
        hop: Arc<str>,
        wait: Arc<Wait>,
        shared: bool,
        is_personal: bool,
        only_for: Option<UrlKey>,
    },
    /// No answer could be had.
    Failed(HopError),
    /// It was a refresh, and found no place at the origin: who waits for it has to ask with more weight. Or all who wanted it
    /// had left.
    GaveWay(HopError),
}

impl Begun {
    /// Whether a group that it belongs to was purged since it was asked for.
    pub(crate) fn is_purged(&self) -> bool {
        match self {
            Self::Response(fetched) => fetched.groups.is_touched(),
            Self::Revalidated { entry, .. } => entry.groups.is_touched(),
            Self::Failed(_) | Self::GaveWay(_) => false,
        }
    }
}

impl Fill {
    pub(crate) fn new(key: &LookupKey, fill_key: &FillKey, url: &UrlKey, purges: u64, purges_near: u64) -> Self {
        Self {
            key: key.clone(),
            fill_key: fill_key.clone(),
            since: instant(),
            begun: OnceLock::new(),
            is_left: AtomicBool::new(false),
            interims: Mutex::default(),
            woken: Notify::new(),
            url: url.clone(),
            purges: AtomicU64::new(purges),
            purges_near: AtomicU64::new(purges_near),
            fenced: AtomicBool::new(false),
            waiting: AtomicUsize::new(1),
            unwanted: Notify::new(),
        }
    }

    /// Notes one more reason to go on: a request that waits for it, or one that does not any more but has a use for it.
    pub(crate) fn want(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
    }

    /// As [`begun`](Self::begun), but `None` if the next hop has had `patience` and has not answered.
    pub(crate) async fn begun_within(&self, patience: Option<Duration>, client: &Interims) -> Option<&Begun> {
        let Some(patience) = patience else { return Some(self.begun(client).await) };
        // Who comes late has waited already, as it were.
        let left = patience.saturating_sub(instant().saturating_duration_since(self.since));
        tokio::time::timeout(left, self.begun(client)).await.ok()
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

    /// The exact key of the URL that it asks for.
    pub(crate) fn exact(&self) -> &[u8] {
        &self.url
    }

    /// Whether what it brings is known to have been purged since it was asked for.
    pub(crate) fn is_purged(&self) -> bool {
        self.begun_already().is_some_and(Begun::is_purged)
    }

    /// Waits until the last request that waits for it leaves.
    async fn unwanted(&self) {
        self.unwanted.notified().await;
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
        if self.is_left.load(Ordering::SeqCst) {
            self.give_up_first();
        }
        self.woken.notify_waiters();
    }

    /// The place of a leader that has left, at the start, would hold up a body that passes for ever.
    fn give_up_first(&self) {
        if let Some(Begun::Response(fetched)) = self.begun.get() {
            drop(fetched.take_first());
        }
    }
}

/// A request that waits for a fill, as its leader or not; when it goes, with its answer or without, it leaves nothing behind.
pub(crate) struct Waiting {
    fill: Arc<Fill>,
    leads: bool,
}

impl Waiting {
    /// The wait that the fill was entered or joined for.
    pub(crate) fn new(fill: &Arc<Fill>, leads: bool) -> Self {
        Self { fill: Arc::clone(fill), leads }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.leads {
            // In this order here, and the other way round where it begins: one of the two sees the other.
            self.fill.is_left.store(true, Ordering::SeqCst);
            self.fill.give_up_first();
        }
        if self.fill.waiting.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.fill.unwanted.notify_one();
        }
    }
}

/// Starts a fill. It is large, and a task that holds it by value would be copied a few times on its way.
pub(crate) fn start(engine: &Arc<Engine>, fill: Arc<Fill>, plan: Plan) {
    let engine = Arc::clone(engine);
    tokio::spawn(Box::pin(async move {
        let passing = run(&engine, fill, &plan).await;
        end(&engine, passing, &plan).await;
    }));
}

/// Brings the answer to a request that was sent in another lane, in epoch `sent`, to a fill.
pub(crate) fn adopt(entered: Entered, plan: Plan, asked: Box<Asked>, sent: Epoch) {
    let engine = Arc::clone(&entered.engine);
    tokio::spawn(Box::pin(async move {
        let passing = response(&engine, entered, &plan, asked, sent).await;
        end(&engine, passing, &plan).await;
    }));
}

/// Carries what is not stored. The fill is not held any more: when those who waited for it are gone, so is its reader.
async fn end(engine: &Engine, passing: Option<Passing>, plan: &Plan) {
    if let Some(passing) = passing {
        pass(engine, passing, Some(plan), &plan.forward.target).await;
    }
}

/// Runs a fill to its end, or to where its body is not to be stored.
async fn run(engine: &Arc<Engine>, fill: Arc<Fill>, plan: &Plan) -> Option<Passing> {
    let entered = Entered::new(engine, Arc::clone(&fill));
    let sent = engine.store.epoch();
    let to = engine.hops.candidates(plan.site, &plan.key.url);
    let tell = |interim| fill.tell(interim);
    let asked = match ask(engine, &fill, &to, &plan.forward, &tell).await {
        Ok(asked) if asked.head.status == StatusCode::NOT_MODIFIED && plan.stored.is_some() => {
            let unconditional = not_modified(engine, &fill, plan, asked, sent).await?;
            ask(engine, &fill, &to, &unconditional, &tell).await
        }
        asked => asked,
    };
    match asked {
        Ok(asked) => response(engine, entered, plan, asked, sent).await,
        Err(error) => {
            rest(engine, plan);
            drop(entered);
            let gives_way = gives_way(&error, plan.is_refresh());
            fill.begin(if gives_way { Begun::GaveWay(error) } else { Begun::Failed(error) });
            None
        }
    }
}

/// Asks for a fill, as long as anybody wants it: what waits for a place is not sent, and what was sent is cancelled, when
/// all who waited for the head have left. From the head on the answer is judged: what is stored is fetched to its end.
async fn ask(
    engine: &Engine,
    fill: &Arc<Fill>,
    to: &[Arc<Hop>],
    forward: &Forward,
    tell: Tell<'_>,
) -> Result<Box<Asked>, HopError> {
    let unwanted = async {
        loop {
            fill.unwanted().await;
            if engine.fills.abandon(fill) {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        asked = engine.hops.ask(to, forward, &engine.clock, tell) => asked,
        () = unwanted => Err(HopError::Unwanted),
    }
}

/// Remembers what a response that was not stored says of later ones, and removes what it has shown to be of no use.
fn note(engine: &Engine, fill: &Arc<Fill>, plan: &Plan, status: StatusCode, finding: Finding) {
    let (key, now) = (&plan.key.lookup, engine.clock.now());
    let Lesson { remembered, forgets_stored } = Lesson::new(finding, status, &plan.forward.method);
    match remembered {
        Some(Remembered::Uncacheable(why)) => engine.store.negative().remember_uncacheable(key, why.token(), now),
        Some(Remembered::Refused) => engine.store.negative().remember_refused(key, now),
        None => {}
    }
    if let Some(old) = plan.stored.as_ref().filter(|_| forgets_stored) {
        forget(engine, fill, plan, old);
    }
}

/// A refresh that has brought nothing fresh is not tried again at once by whoever comes next.
fn rest(engine: &Engine, plan: &Plan) {
    if plan.is_refresh() {
        engine.store.negative().remember_refreshed(&plan.key.lookup, engine.clock.now());
    }
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
    mut asked: Box<Asked>,
    sent: Epoch,
) -> Option<Forward> {
    let old = plan.stored.as_ref()?;
    let fresh = asked.take_end_to_end();
    let (hop, wait) = (Arc::clone(&asked.hop.name), asked.wait());
    // A 304 has no body; reading it to its end makes the connection free again.
    let whole = matches!(engine.hops.body(&mut asked).await, Ok(None));
    // What was purged since it was looked at must not come back by this, either.
    if !conditional::selects(&fresh, &old.head.fields) || !engine.has(&plan.key, old, engine.clock.now()) {
        return Some(plan.forward.unconditional());
    }
    let (entry, judged) = freshened(engine, plan, old, &fresh, asked.exchange, sent);
    if entry.declared.reuse(engine.clock.now(), None) != Reuse::Fresh {
        rest(engine, plan);
    }
    let same_key = plan.key.agrees(engine.rules(plan.site).search_variance(&entry.head.fields).as_ref());
    replace(engine, fill, plan, old, &entry, judged.storable);
    if whole {
        engine.hops.release(asked).await;
    }
    let only_for = (!same_key).then(|| plan.key.url.clone());
    let shared = judged.storable.is_ok();
    fill.begin(Begun::Revalidated { entry, hop, wait, shared, is_personal: judged.is_personal, only_for });
    None
}

/// A new response: tells those who wait, carries the body, stores it; or returns it, if it is not to be stored.
async fn response(
    engine: &Engine,
    entered: Entered,
    plan: &Plan,
    mut asked: Box<Asked>,
    sent: Epoch,
) -> Option<Passing> {
    let mut fields = asked.take_end_to_end();
    let status = asked.head.status;
    let judged = judge(engine, plan, status, &fields, asked.exchange);
    let length = if bodiless(status) { Some(0) } else { length_of(&fields) };
    let shown = length_of(&fields);
    let groups = membership(engine, plan, &fields, sent);
    if plan.forward.method == Method::HEAD {
        freshen_by_head(engine, &entered.fill, plan, &asked, &fields, sent);
    }
    engine.note_sharing(plan, status, &fields);
    engine.strip_for_clients(plan.site, &mut fields);
    if judged.storable.is_ok() {
        engine.rules(plan.site).remove_cookies(&mut fields);
    }
    let head = Arc::new(head(&engine.via, status, fields, shown));
    let fields = &head.fields;
    let room = room(engine, plan, &judged, &head, length);
    let (charge, stored) = match room {
        Ok(charge) => (Some(charge), Ok(())),
        Err(unstored) => (engine.store.charge(), Err(unstored)),
    };
    let window = stored.err().map(|_| engine.config.limits.window_bytes);
    let (body, writer) = Body::growing(charge, window);
    let variance = engine.rules(plan.site).search_variance(fields);
    let agrees = plan.key.agrees(variance.as_ref());
    if stored.is_ok() && !agrees {
        // Known from now on, so that those who come while the body does look under the right key.
        engine.storage_key(&plan.key, variance.as_ref());
    }
    let only_for = (!agrees).then(|| plan.key.url.clone());
    let by_head = plan.forward.method == Method::HEAD;
    let finding = judged.whole.unwrap_or(stored).err().map_or(Finding::Nothing, |why| plan.finding(status, why));
    let is_refusal = finding == Finding::Refused;
    let now = engine.clock.now();
    let refusals = || engine.store.negative().refused(&plan.key.lookup, now);
    if is_vain(status, judged.freshness.reuse(now, None), finding, refusals) {
        rest(engine, plan);
    }
    let (freshness, is_personal) = (judged.freshness, judged.is_personal);
    let parts =
        Parts { head, length: shown, freshness, body, stored, groups, by_head, only_for, is_refusal, is_personal };
    let fetched = Arc::new(Fetched::of(engine, plan.site, &asked, parts, &plan.request));
    let fill = Arc::clone(&entered.fill);
    match Course::new(stored.is_ok(), plan.background) {
        Course::Keep => {
            if plan.background {
                // Its place at the start would hold up a body that turns out to be too large.
                drop(fetched.take_first());
            }
            fill.begin(Begun::Response(Arc::clone(&fetched)));
            if keep(engine, &fill, asked, writer, plan, &fetched).await {
                let entry = Arc::new(fetched.entry(&engine.via, judged.retain_until));
                store(engine, &fill, plan, &entry);
            }
            None
        }
        course @ (Course::Pass | Course::Drop) => {
            note(engine, &fill, plan, status, finding);
            drop(entered);
            if course == Course::Drop {
                drop(fetched.take_first());
                fill.begin(Begun::Response(fetched));
                return None;
            }
            let head = Arc::clone(&fetched.head);
            fill.begin(Begun::Response(fetched));
            Some(Passing { asked, head, writer })
        }
    }
}
