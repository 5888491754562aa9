//! Explains a request: a dry run through the functions that serve, and what has led to its verdict.
//!
//! The way is that of [`crate::request`]: the site, the key, what is stored under it, what is to be done. What the next hop
//! would answer is only known if it is asked (a *probe*); then its answer is judged as a fill would judge it.
//!
//! **Invariants:** nothing is stored, purged or remembered, but that what is looked up counts as used; a probe is a request to the next
//! hop, and a shield stores what it is asked for. What others have sent (cookies, credentials, values in queries) is not told.

mod causes;
mod life;
mod near;
mod probe;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use nearside_config::SiteId;
use nearside_protocol::Problem;
use nearside_protocol::explanation::{Cause, Explanation, Key, Question, Stored, Verdict as Told, Why};
use nearside_protocol::method::is_purge;
use nearside_protocol::order::{Parts, whole};
use nearside_semantics::Timestamp;
use nearside_semantics::fields::Fields;
use nearside_semantics::vary::{Nominee, Vary};
use nearside_store::Entry;
use nearside_telemetry::Protocol;
use nearside_telemetry::outcome::{Outcome, Verdict};
use nearside_telemetry::reason::Reason;
use nearside_telemetry::record::Client;
use nearside_telemetry::trace::Trace;
use nearside_upstream::fields::CDN_LOOP;
use nearside_upstream::interim::Interims;

use crate::request::admit::{Admitted, RequestHead, admit_from_fleet};
use crate::request::forward::is_ping;
use crate::request::key::{CacheKey, write_fill_key};
use crate::request::lookup::Ask;
use crate::request::way::{Way, goes_as_head, way};
use crate::request::{Engine, Request, plan, slices};
use causes::Causes;

/// What is told of the fields of an answer: those that say something of caching.
const TOLD: [&str; 17] = [
    "age",
    "cache-control",
    "cache-status",
    "cache-tag",
    "cdn-cache-control",
    "content-length",
    "content-type",
    "date",
    "etag",
    "expires",
    "last-modified",
    "no-vary-search",
    "pragma",
    "surrogate-control",
    "surrogate-key",
    "vary",
    "via",
];

/// A request that is looked into.
struct Case {
    engine: Arc<Engine>,
    site: SiteId,
    request: Request,
    key: CacheKey,
    now: Timestamp,
}

/// What a node makes of a request by itself.
struct Decided {
    outcome: Outcome,
    /// What the next hop would be asked.
    ask: Option<Ask>,
    /// What is stored for it.
    entry: Option<Arc<Entry>>,
    /// The answer could not be shared.
    is_alone: bool,
}

impl Decided {
    /// Nobody is asked.
    fn by_itself(outcome: Outcome, entry: Option<Arc<Entry>>) -> Self {
        Self { outcome, ask: None, entry, is_alone: false }
    }
}

/// What becomes of a request, and why.
///
/// # Errors
///
/// The question names no URL of this node, or cannot be understood.
pub async fn explain(engine: &Arc<Engine>, question: &Question) -> Result<Explanation, Problem> {
    let mut request = request(question)?;
    let head = RequestHead { authority: request.authority.as_bytes(), peer: None, fields: &request.fields };
    let admitted = match admit_from_fleet(engine, &head) {
        Ok(admitted) => admitted,
        Err(refusal) => return Ok(refused(engine, &request, refusal.reason)),
    };
    request.normalise(engine, admitted.site());
    let now = engine.clock.now();
    if is_plain(&request)
        && let Some(first) = slices::first(engine, admitted, &request)
        && let Some(told) = Case::of(engine, admitted, first, now).explain(question.probe).await?
    {
        return Ok(told);
    }
    let told = Case::of(engine, admitted, request, now).explain(question.probe).await?;
    told.ok_or_else(|| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "whole", "the whole is no block"))
}

/// The client of a request that nobody has sent: of TEST-NET-1 (RFC 5737), so that no origin gives it more than others.
const NOBODY: ([u8; 4], u16) = ([192, 0, 2, 1], 0);

/// The request that a question is about, as a front would hold it.
fn request(question: &Question) -> Result<Request, Problem> {
    let Parts { scheme, authority, target } = whole(&question.url)?;
    let no = |what: String| Problem::unprocessable("field", what);
    let method = Method::from_bytes(question.method.as_bytes())
        .map_err(|_no_token| Problem::unprocessable("method", format!("{:?} is no method", question.method)))?;
    let mut fields = HeaderMap::new();
    for (name, value) in &question.fields {
        let named =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_none| no(format!("{name:?} is no name of a field")))?;
        let valued = HeaderValue::from_str(value).map_err(|_none| no(format!("{value:?} cannot stand in a field")))?;
        fields.append(named, valued);
    }
    let authority = HeaderValue::from_str(authority)
        .map_err(|_none| Problem::unprocessable("url", "its host cannot stand in a field"))?;
    fields.insert(http::header::HOST, authority.clone());
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    let trace = Trace::of(&fields, 1);
    Ok(Request {
        method,
        scheme,
        authority,
        target: Bytes::from(target),
        protocol: Protocol::Http11,
        fields,
        client: Client::new(NOBODY.into()),
        trace,
        interims: Interims::none(),
        block: None,
        signed_as_sent: Vec::new(),
    })
}

/// An explanation of a request that comes no further than the door.
fn refused(engine: &Engine, request: &Request, reason: Reason) -> Explanation {
    let verdict = Told { cache: Verdict::Synth.as_str().to_owned(), forward: None, why: why(reason) };
    let name = if reason == Reason::Loop { CDN_LOOP } else { http::header::HOST };
    let evidence = format!("{name}: {}", joined(&request.fields, &name));
    Explanation {
        node: engine.config.id.to_string(),
        site: None,
        verdict,
        causes: vec![Cause { why: why(reason), evidence }],
        key: None,
        stored: Vec::new(),
        near: Vec::new(),
        probe: None,
    }
}

/// A reason in words.
fn why(reason: Reason) -> Why {
    Why {
        reason: reason.token().to_owned(),
        meaning: reason.meaning().to_owned(),
        cure: reason.cure().to_owned(),
        section: reason.section().to_owned(),
    }
}

impl Case {
    fn of(engine: &Arc<Engine>, admitted: Admitted, request: Request, now: Timestamp) -> Self {
        let site = admitted.site();
        let key = engine.key(site, &request, now);
        Self { engine: Arc::clone(engine), site, request, key, now }
    }

    /// Nothing where a block is asked for, and the answer shows that there are none: the whole is to be looked into.
    async fn explain(self, probe: bool) -> Result<Option<Explanation>, Problem> {
        let Decided { outcome, ask, entry, is_alone } = self.decide();
        let mut causes = Causes::of_request(&self, &outcome);
        if let Some(entry) = &entry {
            causes.look_at_stored(&self, entry, outcome.verdict == Verdict::Hit);
        }
        let near = near::find(&self).await?;
        causes.look_at_near(&near, ask.as_ref().is_some_and(|ask| ask.stored.is_none()));
        // What is on its way already need not be asked for.
        let asks = probe && outcome.verdict != Verdict::Collapsed;
        let (outcome, probe) = match ask.filter(|_| asks) {
            Some(ask) => match probe::probe(&self, outcome, &ask, is_alone, &mut causes).await {
                Some(probed) => probed,
                None => return Ok(None),
            },
            None => (outcome, None),
        };
        let verdict = Told {
            cache: outcome.verdict.as_str().to_owned(),
            forward: outcome.forward.map(|forward| forward.token().to_owned()),
            why: why(outcome.decision()),
        };
        let engine = &self.engine;
        Ok(Some(Explanation {
            node: engine.config.id.to_string(),
            site: engine.config.site(self.site).map(|site| site.name.clone()),
            causes: causes.told(outcome.decision()),
            verdict,
            key: Some(self.key_in_parts()),
            stored: self.stored(entry.as_ref()),
            near,
            probe,
        }))
    }

    /// What becomes of it, as far as this node can tell.
    fn decide(&self) -> Decided {
        let Self { engine, site, request, key, now } = self;
        let told = |verdict| Outcome::new(verdict, Some(*site));
        let synth = |reason| Decided::by_itself(Outcome { reason: Some(reason), ..told(Verdict::Synth) }, None);
        if is_purge(&request.method) {
            return synth(Reason::Purge);
        }
        if !is_plain(request) {
            let mut outcome = told(Verdict::Bypass);
            outcome.forward = Some(crate::pass::reason(&request.method));
            return Decided::by_itself(outcome, None);
        }
        if engine.config.public.url.is_some() && is_ping(&request.target) {
            return synth(Reason::Ping);
        }
        let (ask, is_alone) = match way(engine, *site, key, request, *now) {
            Way::Serve(entry) => return Decided::by_itself(told(Verdict::Hit), Some(entry)),
            Way::Refresh(entry) => return Decided::by_itself(told(Verdict::Updating), Some(entry)),
            Way::NotCached => return synth(Reason::OnlyIfCached),
            Way::Alone(ask) => (ask, true),
            Way::Together(ask) => (ask, false),
        };
        let mut outcome = told(if !is_alone && self.is_under_way(&ask) {
            Verdict::Collapsed
        } else if ask.stored.is_some() {
            Verdict::Expired
        } else {
            Verdict::Miss
        });
        outcome.forward = Some(ask.because);
        outcome.reason = ask.detail;
        let entry = ask.stored.clone();
        Decided { outcome, ask: Some(ask), entry, is_alone }
    }

    /// Whether somebody fetches it already.
    fn is_under_way(&self, ask: &Ask) -> bool {
        let Self { engine, request, key, now, .. } = self;
        let mut fill_key = Vec::new();
        let by_head = request.method == Method::HEAD && goes_as_head(engine, key, ask, *now);
        write_fill_key(&key.lookup, by_head, &ask.vary, &request.fields, &mut fill_key);
        engine.fills.runs(&key.lookup, &fill_key)
    }

    fn key_in_parts(&self) -> Key {
        let mut parts = self.key.lookup.split(|byte| *byte == b'\n').map(text);
        let mut part = || parts.next().unwrap_or_default();
        let (scheme, host, target) = (part(), part(), part());
        let (path, query) = split(&target);
        let given = text(&self.request.target);
        let counts = |parameter: &&str| !query.is_some_and(|query| query.split('&').any(|one| one == *parameter));
        let parameters = split(&given).1.into_iter().flat_map(|query| query.split('&'));
        Key {
            scheme,
            host,
            path: path.to_owned(),
            query: query.map(str::to_owned),
            ignored: parameters.filter(counts).map(str::to_owned).collect(),
            block: self.key.block.map(|block| block.index),
            selects: self.selects(),
        }
    }

    /// What the stored variants of the key depend on, with the values of this request.
    fn selects(&self) -> Vec<(String, String)> {
        let Self { engine, request, key, now, .. } = self;
        let slot = engine.store.lookup(&key.lookup, *now);
        let Some(Vary::On(nominees)) = slot.as_ref().and_then(|slot| slot.newest()).map(|entry| &entry.vary) else {
            return Vec::new();
        };
        let value = |nominee: &Nominee| match nominee {
            Nominee::Field(name) => (name.to_string(), joined(&request.fields, name)),
            Nominee::Cookie(name) => (format!("cookie {name}"), joined(&request.fields, &http::header::COOKIE)),
            Nominee::CookiePrefix(prefix) => {
                (format!("cookies {prefix}*"), joined(&request.fields, &http::header::COOKIE))
            }
        };
        nominees.iter().map(value).collect()
    }

    /// All variants of the key, the selected one first.
    fn stored(&self, selected: Option<&Arc<Entry>>) -> Vec<Stored> {
        let Self { engine, key, now, .. } = self;
        let url: Option<&[u8]> = (*key.lookup != *key.url).then_some(&key.url);
        let keys = [Some(&*key.lookup), url].into_iter().flatten();
        let slots: Vec<_> = keys.filter_map(|key| engine.store.lookup(key, *now)).collect();
        let entries = slots.iter().flat_map(|slot| slot.entries());
        let mut stored: Vec<_> = entries
            .map(|entry| life::stored(self, entry, selected.is_some_and(|selected| Arc::ptr_eq(selected, entry))))
            .collect();
        stored.sort_by_key(|stored| !stored.selected);
        stored
    }
}

/// Whether a cache answers it: else it takes the pass lane.
fn is_plain(request: &Request) -> bool {
    let plain = [Method::GET, Method::HEAD].contains(&request.method);
    plain && plan::upgrade_of(&request.fields, request.protocol).is_none()
}

/// The path and the query of a target.
fn split(target: &str) -> (&str, Option<&str>) {
    target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)))
}

/// Bytes as text for people.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// All lines of a field as one.
fn joined(fields: &HeaderMap, name: &HeaderName) -> String {
    fields.lines(name).map(text).collect::<Vec<_>>().join(", ")
}

/// The fields that say something of caching.
fn told(fields: &HeaderMap) -> Vec<(String, String)> {
    let of = |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), text(value.as_bytes()));
    fields.iter().filter(|(name, _)| TOLD.contains(&name.as_str())).map(of).collect()
}
