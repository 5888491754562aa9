//! The pass lane: requests that a cache does not answer (RFC 9111 §3: other methods, bodies, upgrades) go forward and
//! their answers come back as they are.
//!
//! Own code on the connections of [`nearside_upstream`], not pingora-proxy: see ADR 0002. A success of an unsafe method
//! invalidates what is stored for its URI and for those that its answer names (RFC 9111 §4.4). Nothing is stored here
//! but the answer to a POST that says that it is for later GETs (RFC 9110 §9.3.3).

pub mod tunnel;

use std::sync::Arc;

use http::header::{EXPECT, MAX_FORWARDS, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use nearside_config::SiteId;
use nearside_protocol::method::is_purge;
use nearside_semantics::invalidation::{Target, invalidates, is_own_location, locations};
use nearside_semantics::{cache_status, groups};
use nearside_store::{Body, Epoch, Purge};
use nearside_telemetry::outcome::{Outcome, Verdict};
use nearside_telemetry::reason::Reason;
use nearside_upstream::interim::expects_continue;
use nearside_upstream::upload::{Upload, UploadMeter};
use nearside_upstream::{Asked, Forward, Hop, HopError, UpgradeStream};
use tokio::sync::OwnedSemaphorePermit;

use crate::fill::{self, Begun, Entered, Fetched, Fill, Plan, Unstored, Waiting};
use crate::request::admit::Admitted;
use crate::request::key::CacheKey;
use crate::request::refusal::Refusal;
use crate::request::{Answer, Engine, Request, respond};

/// What comes of a request in the pass lane.
pub enum Passed {
    /// An answer to write.
    Answer(Answer),
    /// 101: the connection now belongs to the two ends.
    Upgraded {
        /// Fields of the response.
        head: HeaderMap,
        /// Connection to the upstream.
        stream: UpgradeStream,
        /// Outcome of the request.
        outcome: Outcome,
        /// Permit of the tunnel, which limits their number.
        place: OwnedSemaphorePermit,
    },
}

/// Sends a request forward and brings its answer back.
pub async fn pass(engine: &Arc<Engine>, admitted: Admitted, request: &Request, upload: Option<Upload>) -> Passed {
    let site = admitted.site();
    if is_purge(&request.method) {
        // Never sent on: what an origin, or another cache before it, makes of it is not the client's to say.
        return Passed::Answer(engine.method_purges.purge(engine, site, request, upload).await);
    }
    if request.method == Method::TRACE {
        return Passed::Answer(respond::no_trace(site));
    }
    let hops_left = max_forwards(request);
    if hops_left == Some(0) {
        return Passed::Answer(respond::last_recipient(site));
    }
    let lane = Lane { engine, site, request, key: engine.key(site, request, engine.clock.now()), hops_left };
    // Entered before the request is sent, so that a purge in between overtakes what may come of it.
    let fill = (request.method == Method::POST).then(|| engine.fills.enter_alone(&lane.key.lookup, &lane.key.url));
    lane.pass(upload, fill.map(|fill| Entered::new(engine, fill))).await
}

/// A request on its way through the pass lane.
struct Lane<'l> {
    engine: &'l Arc<Engine>,
    site: SiteId,
    request: &'l Request,
    key: CacheKey,
    /// How many more it may pass, this one included; `None`: as many as there are.
    hops_left: Option<u64>,
}

impl Lane<'_> {
    async fn pass(&self, upload: Option<Upload>, entered: Option<Entered>) -> Passed {
        let Self { engine, site, request, key, hops_left } = self;
        let mut forward = engine.forward(*site, request, request.target.as_ref().into());
        if let Some(left) = hops_left {
            forward.fields.insert(MAX_FORWARDS, HeaderValue::from(left - 1));
        }
        let has_body = upload.as_ref().is_some_and(|upload| !upload.is_stated_empty());
        if has_body && expects_continue(&request.fields, request.protocol) {
            // RFC 9110 §10.1.1: whether the body is wanted is for the origin to say.
            forward.fields.insert(EXPECT, HeaderValue::from_static("100-continue"));
        }
        let to = engine.hops.candidates(*site, &key.url);
        let mut outcome = Outcome::new(Verdict::Bypass, Some(*site));
        outcome.forward = Some(reason(&request.method));
        let mut tunnel = None;
        if forward.fields.contains_key(UPGRADE) {
            // Before it is sent: a connection that the origin has opened in vain would cost it something.
            let Ok(place) = Arc::clone(&engine.tunnels).try_acquire_owned() else {
                let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, Reason::Tunnels);
                return Passed::Answer(respond::refusal(refusal.at(*site)));
            };
            tunnel = Some(place);
        }
        let sent = engine.store.epoch();
        let answered = self.ask(&to, &forward, upload).await;
        forward.fields.remove(EXPECT);
        match answered {
            Ok(asked) if asked.head.status == StatusCode::SWITCHING_PROTOCOLS => upgrade(asked, outcome, tunnel).await,
            Ok(asked) => {
                outcome.forward_status = Some(asked.head.status.as_u16());
                outcome.upstream = Some(Arc::clone(&asked.hop.name));
                self.invalidate(&asked, entered.as_ref().map(|entered| &entered.fill));
                let adopts =
                    entered.filter(|_| self.went_by_its_key() && is_own_location(&self.target(), &asked.head.fields));
                Passed::Answer(match adopts {
                    Some(entered) => self.adopt(entered, forward, asked, sent, outcome).await,
                    None => self.relay(asked, outcome),
                })
            }
            Err(error) => Passed::Answer(respond::failure(&error, outcome)),
        }
    }

    async fn ask(&self, to: &[Arc<Hop>], forward: &Forward, upload: Option<Upload>) -> Result<Box<Asked>, HopError> {
        let Engine { hops, clock, .. } = &**self.engine;
        let tell = |interim| self.request.interims.send(&interim);
        // Without a body, safe methods may be asked again elsewhere; the others get one try.
        if upload.is_none() && forward.method.is_safe() {
            return hops.ask(to, forward, clock, &tell).await;
        }
        let upload = upload.unwrap_or_else(Upload::empty);
        let mut doubt = Doubt { lane: self, meter: upload.meter(), is_settled: false };
        let asked = hops.ask_with_body(to, forward, clock, upload, &tell).await;
        doubt.is_settled = true;
        asked
    }

    /// Whether no parameter went forward that the key leaves out.
    fn went_by_its_key(&self) -> bool {
        *self.engine.target(self.site, self.request) == *self.request.target
    }

    fn target(&self) -> Target<'_> {
        Target {
            scheme: self.engine.client_scheme(self.request),
            authority: self.request.authority.as_bytes(),
            alias: self.engine.rules(self.site).canonical_host.as_ref().map(|host| host.as_bytes()),
            path_and_query: &self.request.target,
        }
    }

    /// What the answer makes useless (RFC 9111 §4.4, RFC 9875 §3); `but` may store what it brings itself.
    fn invalidate(&self, asked: &Asked, but: Option<&Arc<Fill>>) {
        let (method, fields) = (&self.request.method, &asked.head.fields);
        for group in groups::invalidated(method, fields) {
            self.engine.store.purge_group(&self.key.group(&group), Purge::Hard);
        }
        if !invalidates(method, asked.head.status) {
            return;
        }
        self.engine.purge_url(&self.key.url, but, Purge::Hard);
        let target = self.target();
        for other in locations(&target, asked.head.status, fields) {
            let key = self.engine.exact_key(self.site, target.scheme, target.authority, &other);
            self.engine.purge_url(&key, but, Purge::Hard);
        }
    }

    /// The answer to a POST that may answer later GETs (RFC 9110 §9.3.3): a fill of its own.
    async fn adopt(
        &self,
        entered: Entered,
        forward: Forward,
        asked: Box<Asked>,
        sent: Epoch,
        mut outcome: Outcome,
    ) -> Answer {
        let plan = Plan {
            site: self.site,
            key: self.key.clone(),
            forward,
            stored: None,
            request: self.request.fields.clone(),
            own_location: true,
            background: false,
        };
        let fill = Arc::clone(&entered.fill);
        let _waiting = Waiting::new(&fill, true);
        fill::adopt(entered, plan, asked, sent);
        let now = self.engine.clock.now();
        match fill.begun(&self.request.interims).await {
            Begun::Response(fetched) => {
                outcome.stored = fetched.stored.is_ok();
                outcome.wait = Some(Arc::clone(&fetched.wait));
                respond::fetched_whole(fetched, fetched.take_first(), self.request, outcome, now)
            }
            Begun::Revalidated { .. } => respond::failure(&HopError::Body, outcome),
            Begun::Failed(error) | Begun::GaveWay(error) => respond::failure(error, outcome),
        }
    }

    /// The answer, with its body passing through a window.
    fn relay(&self, mut asked: Box<Asked>, mut outcome: Outcome) -> Answer {
        let window = self.engine.config.limits.window_bytes;
        let (body, writer) = Body::growing(self.engine.store.charge(), Some(window));
        let fetched =
            Fetched::new(self.engine, self.site, &mut asked, body, Err(Unstored::Passed), &self.request.fields);
        outcome.wait = Some(Arc::clone(&fetched.wait));
        let reader = fetched.body.reader(0);
        let (head, target) = (Arc::clone(&fetched.head), self.request.target.clone());
        tokio::spawn(fill::stream(Arc::clone(self.engine), asked, head, writer, target));
        respond::fetched_whole(&fetched, reader, self.request, outcome, self.engine.clock.now())
    }
}

/// An unsafe request on its way. If it is cancelled once it was sent, nobody will know whether it had an effect: what is
/// stored for its URL is stale from then on. A hard purge would let anybody empty a cache with requests that do nothing.
struct Doubt<'l> {
    lane: &'l Lane<'l>,
    meter: Arc<UploadMeter>,
    is_settled: bool,
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if !self.is_settled && self.meter.has_begun() && !self.lane.request.method.is_safe() {
            let engine = self.lane.engine;
            engine.purge_url(&self.lane.key.url, None, Purge::Soft { now: engine.clock.now() });
        }
    }
}

/// "Each intermediary that receives a TRACE or OPTIONS request containing a Max-Forwards header field MUST check and
/// update its value prior to forwarding the request" (RFC 9110 §7.6.2). A TRACE is never forwarded.
fn max_forwards(request: &Request) -> Option<u64> {
    let heeds = request.method == Method::OPTIONS;
    request.fields.get(MAX_FORWARDS).filter(|_| heeds)?.to_str().ok()?.parse().ok()
}

/// Why a request takes this lane.
pub(crate) fn reason(method: &Method) -> cache_status::Forward {
    if method == Method::GET || method == Method::HEAD {
        cache_status::Forward::Bypass
    } else {
        cache_status::Forward::Method
    }
}

async fn upgrade(mut asked: Box<Asked>, mut outcome: Outcome, tunnel: Option<OwnedSemaphorePermit>) -> Passed {
    let protocol = asked.head.fields.get(UPGRADE).cloned();
    let mut head = asked.take_end_to_end();
    if let Some(protocol) = protocol {
        head.insert(UPGRADE, protocol);
    }
    outcome.forward_status = Some(101);
    outcome.upstream = Some(Arc::clone(&asked.hop.name));
    match asked.into_upgrade().await.zip(tunnel) {
        Some((stream, place)) => Passed::Upgraded { head, stream, outcome, place },
        None => Passed::Answer(respond::failure(&HopError::Body, outcome)),
    }
}
