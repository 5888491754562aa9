//! The way of a request through the engine, a file a step:
//! [`admit`] → [`key`] → [`lookup`] → [`forward`] → [`respond`] → [`finish`].
//!
//! [`plan`] is what a forward asks for, [`slices`] puts bodies together from blocks.
//!
//! Both fronts (HTTP/1 and HTTP/2) make a [`Request`] and write the [`Answer`]; nothing in here knows which one it was.
//!
//! **Invariant:** the verdicts about storing and reuse come from `semantics` only, for every lane.

pub mod admit;
pub mod finish;
pub mod forward;
pub mod hit;
pub(crate) mod key;
pub(crate) mod lookup;
pub mod parts;
pub mod plan;
pub mod refusal;
pub mod respond;
pub(crate) mod slices;
pub(crate) mod unchanged;
pub(crate) mod way;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use nearside_config::{Config, SiteId};
use nearside_replication::Position;
use nearside_semantics::Timestamp;
use nearside_semantics::key::Scheme;
use nearside_store::{Entry, Head, Purge, Store};
use nearside_telemetry::Protocol;
use nearside_telemetry::clock::Clock;
use nearside_telemetry::outcome::Outcome;
use nearside_telemetry::record::Client;
use nearside_telemetry::trace::Trace;
use nearside_upstream::interim::Interims;
use nearside_upstream::{Hops, unkeyed};
use tokio::sync::Semaphore;

use crate::fill::{Fill, Fills};
use crate::purge::counts::PurgeCounts;
use crate::purge::method::MethodPurges;
use crate::purge::{Met, position};
use crate::site::Rules;
use crate::tier::Tier;
use key::CacheKey;
use parts::AnswerReader;
use slices::Block;

/// A request that has passed the gate of its front.
#[derive(Debug)]
pub struct Request {
    /// Method, as the client sent it.
    pub method: Method,
    /// Scheme of the connection.
    pub scheme: Scheme,
    /// A valid authority.
    pub authority: HeaderValue,
    /// Path and query, or `*`.
    pub target: Bytes,
    /// Protocol that the client speaks.
    pub protocol: Protocol,
    /// All fields, `Host` too.
    pub fields: HeaderMap,
    /// Other end of the connection.
    pub client: Client,
    /// The trace that it belongs to.
    pub trace: Trace,
    /// Receiver of interim responses.
    pub interims: Interims,
    /// It asks for this block of the body only; never so from a client.
    pub block: Option<Block>,
    /// Of a signed request: the fields as the client sent them whose values were normalised.
    pub signed_as_sent: Vec<(HeaderName, HeaderValue)>,
}

impl Request {
    /// Removes what no cache key contains, and brings fields to the form that the site's rules give them, for methods whose
    /// answers may be stored.
    pub fn normalise(&mut self, engine: &Engine, site: SiteId) {
        if ![Method::GET, Method::HEAD, Method::POST].contains(&self.method) {
            return;
        }
        let rules = engine.rules(site);
        unkeyed::strip(&mut self.fields, &self.method, |name| rules.is_in_key(name));
        let rewritten = rules.rewritten(&self.fields);
        if unchanged::is_signed(&self.fields, &self.target) {
            let sent = [ACCEPT_ENCODING, ACCEPT_LANGUAGE].into_iter().filter_map(|name| {
                let value = self.fields.get(&name)?;
                let is_other = rewritten.value(&name).is_some_and(|new| new.as_bytes() != value.as_bytes());
                is_other.then(|| (name, value.clone()))
            });
            self.signed_as_sent = sent.collect();
        }
        rewritten.apply(&mut self.fields);
    }
}

/// What is sent to a client.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: StatusCode,
    /// Fields.
    pub head: AnswerHead,
    /// Body.
    pub body: AnswerBody,
    /// Seconds, for the `Age` field.
    pub age: Option<u64>,
    /// Outcome, for the log and the metrics.
    pub outcome: Outcome,
}

/// The fields of an answer, but those that every answer gets anew (`Age`, our `Cache-Status`, `Via`).
#[derive(Debug)]
pub enum AnswerHead {
    /// Serialised already.
    Prepared(Arc<Head>),
    /// Made for this answer.
    Own(HeaderMap),
}

impl AnswerHead {
    /// The fields, without those that every response gets anew.
    pub fn fields(&self) -> &HeaderMap {
        match self {
            Self::Prepared(head) => &head.fields,
            Self::Own(fields) => fields,
        }
    }
}

/// The body of an answer.
#[derive(Debug)]
pub enum AnswerBody {
    /// None is sent, whatever length the head states.
    None,
    /// A few bytes of our own.
    Bytes(Bytes),
    /// From a cursor on; `length` bytes, or up to the end where that is not known.
    Reader {
        /// Source of the bytes.
        reader: AnswerReader,
        /// Number of bytes; `None` where it is not known yet.
        length: Option<u64>,
    },
}

/// What all requests of a node share.
pub struct Engine {
    /// Configuration of the node.
    pub config: Config,
    /// Rules of the node's role.
    pub tier: Box<dyn Tier>,
    pub(crate) sites: admit::Sites,
    rules: Vec<Rules>,
    /// Some site lets clients ask for something newer than what is stored.
    pub(crate) honours_requests: bool,
    /// Memory tier.
    pub store: Store,
    /// Fills in progress.
    pub fills: Fills,
    /// Shields and origins.
    pub hops: Arc<Hops>,
    /// Places for WebSocket connections.
    pub(crate) tunnels: Arc<Semaphore>,
    /// Clock of ages and lifetimes.
    pub clock: Clock,
    /// Counters of purges.
    pub purges: PurgeCounts,
    pub(crate) method_purges: Box<dyn MethodPurges>,
    /// The place in the purge log, of a node that follows one.
    pub position: Option<Arc<Position>>,
    /// `edge-nrt (nearside)`
    pub via: String,
    pub(crate) received_by: ReceivedBy,
    /// This node in `Server-Timing`.
    pub(crate) place: String,
}

/// This node in the fields of a forward.
pub(crate) struct ReceivedBy {
    /// As a member of `CDN-Loop`.
    pub(crate) id: HeaderValue,
    /// As members of `Via`, for HTTP/1.0, HTTP/1.1 and HTTP/2.
    via: [HeaderValue; 3],
}

impl ReceivedBy {
    #[expect(clippy::expect_used, reason = "an id is a token")]
    fn new(id: &str) -> Self {
        let value = |text: String| HeaderValue::try_from(text).expect("invariant: a token is a field value");
        Self {
            id: value(id.to_owned()),
            via: Protocol::ALL.map(|p| value(format!("{} {id} (nearside)", p.via_version()))),
        }
    }

    pub(crate) fn by(&self, protocol: Protocol) -> &HeaderValue {
        let [http_10, http_11, http_2] = &self.via;
        match protocol {
            Protocol::Http10 => http_10,
            Protocol::Http11 => http_11,
            Protocol::Http2 => http_2,
        }
    }
}

impl Engine {
    /// An engine with an empty store. `method_purges` serves purges by method.
    pub fn new(config: Config, tier: Box<dyn Tier>, clock: Clock, method_purges: Box<dyn MethodPurges>) -> Self {
        let position = position::position(&config);
        let cache = config.cache;
        let limits = nearside_store::Limits {
            memory_bytes: cache.memory_bytes,
            object_bytes_max: cache.object_bytes_max,
            variants_max: cache.variants_max,
        };
        Self {
            sites: admit::Sites::new(&config.sites),
            rules: config.sites.iter().map(|site| Rules::new(site, &config.timeouts)).collect(),
            honours_requests: config.sites.iter().any(|site| site.honour_request_directives),
            store: Store::new(limits),
            fills: Fills::default(),
            hops: Arc::new(Hops::new(&config, position::known_purges(position.clone()))),
            tunnels: Arc::new(Semaphore::new(config.limits.tunnels)),
            purges: PurgeCounts::default(),
            method_purges,
            position,
            clock,
            via: format!("{} (nearside)", config.id),
            received_by: ReceivedBy::new(config.id.as_str()),
            place: nearside_telemetry::server_timing::place(
                tier.name(),
                config.id.as_str(),
                config.city_in_ascii().as_deref(),
            ),
            tier,
            config,
        }
    }

    /// The rules of a site.
    #[expect(clippy::expect_used, reason = "ids come from the list that the rules are made of")]
    pub fn rules(&self, site: SiteId) -> &Rules {
        self.rules.get(site.index()).expect("invariant: a site's id is one of this configuration")
    }

    /// How many variants are stored for a URL, of which this is the exact key.
    pub(crate) fn stored_variants(&self, exact: &[u8]) -> usize {
        let now = self.clock.now();
        let variants = |key: &[u8]| self.store.lookup(key, now).map_or(0, |slot| slot.variants());
        let blocks = usize::from(self.store.slicings().has_blocks(exact, now));
        blocks + variants(exact) + self.varied_key(exact, now).map_or(0, |(key, _)| variants(&key))
    }

    /// Whether an entry is still what is stored for a key.
    pub(crate) fn has(&self, key: &CacheKey, entry: &Arc<Entry>, now: Timestamp) -> bool {
        let holds = |key: &[u8]| self.store.lookup(key, now).is_some_and(|slot| slot.holds(entry));
        // What was purged as one of a group may still lie there.
        !entry.groups.is_gone() && (holds(&key.lookup) || key.rule.is_some() && holds(&key.url))
    }

    /// Purges what is stored for a URL, of which this is the exact key, and keeps fills that are under way from storing
    /// what they bring; `but` the one that brings it about. Blocks are gone in any case: they are put together again from
    /// what the origin has now.
    pub(crate) fn purge_url(&self, exact: &[u8], but: Option<&Arc<Fill>>, purge: Purge) -> Met {
        let now = self.clock.now();
        // Fills of blocks need no fence: what they bring is stored where nobody looks any more.
        let blocks = usize::from(self.store.slicings().forget(exact, now));
        let (matched, fenced) = self.fills.fence(exact, but, || self.store.purge_key(exact, purge, now));
        // Looked up after the fence: a fill that has stored under a rule's key before it had made the rule known.
        let varied = self.varied_key(exact, now);
        let fence = |(key, _): (Vec<u8>, _)| self.fills.fence(&key, but, || self.store.purge_key(&key, purge, now));
        let (of_rule, fenced_too) = varied.map_or((0, 0), fence);
        Met { matched: blocks + matched + of_rule, fenced_fills: fenced + fenced_too }
    }
}
