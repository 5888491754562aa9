//! Who gives orders to this node, and what they mean here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use http::StatusCode;
use nearside_api::foreign::MethodDone;
use nearside_api::method::{MethodPurge, Ports};
use nearside_api::order::{Parts, beginning, whole};
use nearside_api::{
    Access, Backend, Book, Events, Explanation, NodeReceipt, NodeState, Object, Order, Ordered, Problem, Question,
    Reach, Receipt, State, Tap, carry_out,
};
use nearside_config::{Config, Network, Role};
use nearside_purge::Given;
use nearside_semantics::key::Scheme;
use nearside_semantics::reuse::Reuse;
use nearside_store::Entry;
use serde_json::{Value, json};

use super::{How, Met, Reclaiming, Target, host as host_of};
use crate::clock::instant;
use crate::explain::explain;
use crate::hop::upload::Upload;
use crate::reason::Reason;
use crate::request::{Answer, Engine, Request, respond};

/// What a node knows of orders.
#[derive(Debug)]
pub(crate) struct Desk {
    /// The doors of the listeners for clients: for all, and for the addresses that need no token.
    clients: Arc<Access>,
    trusted: Arc<Access>,
    trusted_networks: Vec<Network>,
    /// Where clients reach this node.
    ports: Ports,
    book: Book,
    events: Events,
    pub(crate) purges: AtomicU64,
    dry_runs: AtomicU64,
    pub(crate) objects: AtomicU64,
    pub(crate) fenced_fills: AtomicU64,
    pub(crate) reclaiming: Reclaiming,
    /// Those who watch requests.
    pub(crate) tap: Arc<Tap>,
}

impl Desk {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            clients: Arc::new(Access::closed(config.tokens.clone())),
            trusted: Arc::new(Access::open()),
            trusted_networks: config.purge_from.clone(),
            ports: Ports {
                http: config.listen.iter().map(SocketAddr::port).filter(|port| *port != 0).collect(),
                https: config
                    .listen_tls
                    .iter()
                    .map(|listener| listener.address.port())
                    .filter(|port| *port != 0)
                    .collect(),
            },
            book: Book::default(),
            events: Events::new(format!("{}-{:016x}", config.id, ahash::RandomState::new().hash_one(0_u8))),
            purges: AtomicU64::new(0),
            dry_runs: AtomicU64::new(0),
            objects: AtomicU64::new(0),
            fenced_fills: AtomicU64::new(0),
            reclaiming: Reclaiming::default(),
            tap: Arc::default(),
        }
    }

    /// Counts what is only counted; its number.
    pub(crate) fn count_dry_run(&self) -> u64 {
        self.dry_runs.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Counts a purge; its number.
    pub(crate) fn count(&self, met: Met) -> u64 {
        self.objects.fetch_add(met.matched as u64, Ordering::Relaxed);
        self.fenced_fills.fetch_add(met.fenced_fills as u64, Ordering::Relaxed);
        self.purges.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// One who gives orders, at one of the doors.
pub(crate) struct Operator {
    pub(crate) engine: Arc<Engine>,
    pub(crate) access: Arc<Access>,
    pub(crate) draining: Arc<AtomicBool>,
}

/// Obeys a `PURGE`, or one of its relatives, that came to a listener for clients, if whoever sends it may.
pub(crate) async fn by_method(engine: &Arc<Engine>, site: usize, request: &Request, upload: Option<Upload>) -> Answer {
    let desk = &engine.desk;
    let client = request.client.address();
    let is_trusted = desk.trusted_networks.iter().any(|network| network.contains(client));
    let access = Arc::clone(if is_trusted { &desk.trusted } else { &desk.clients });
    let operator = Operator { engine: Arc::clone(engine), access, draining: Arc::default() };
    let has_body = match upload {
        Some(mut upload) => !upload.is_empty().await,
        None => false,
    };
    let purge = MethodPurge {
        method: &request.method,
        authority: &String::from_utf8_lossy(request.authority.as_bytes()),
        target: &String::from_utf8_lossy(&request.target),
        fields: &request.fields,
        has_body,
        ports: &desk.ports,
    };
    // Tags and everything are those of the site that was asked; all else names its host.
    let of_site = |mut order: Order| {
        if order.all || !order.tags.is_empty() {
            order.site = engine.config.sites.get(site).map(|site| site.name.clone());
        }
        order
    };
    let from = Ordered { fields: &request.fields, client, action: "purge-method", reach: Reach::Fleet };
    let done = carry_out(&operator, &from, purge.order().map(of_site)).await;
    let (status, reason, body) = match done.and_then(|(receipt, _)| receipt.complete()) {
        Ok(receipt) => (StatusCode::OK, Reason::Purge, serde_json::to_value(MethodDone::of(receipt))),
        Err(problem) => {
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::BAD_REQUEST);
            (status, Reason::PurgeRefused, serde_json::to_value(&problem))
        }
    };
    respond::json(status, reason, &body.unwrap_or_default(), site)
}

impl Operator {
    /// Gives an order to the whole fleet; `None` where this node is all there is.
    async fn give(&self, order: &Order) -> Result<Option<Receipt>, Problem> {
        let config = &self.engine.config;
        if let Some(control) = &config.control {
            let given = Given { node: config.id.to_string(), order: order.clone() };
            return nearside_purge::give(control, &given).await.map(Some);
        }
        if !matches!(&config.role, Role::Edge { shields, .. } if !shields.is_empty()) {
            return Ok(None);
        }
        let detail = "this edge asks shields and follows no control process: a purge here would leave what the shields have, and \
                      nothing was purged. Let all nodes follow a control process ([control] address), or give the order to POST \
                      /v1/purge of each node's admin listener, shields first";
        Err(Problem::new(StatusCode::NOT_IMPLEMENTED, "shields", detail))
    }
}

impl Backend for Operator {
    fn access(&self) -> &Access {
        &self.access
    }

    fn book(&self) -> &Book {
        &self.engine.desk.book
    }

    fn events(&self) -> &Events {
        &self.engine.desk.events
    }

    fn tap(&self) -> Option<&Arc<Tap>> {
        Some(&self.engine.desk.tap)
    }

    fn sites_of(&self, order: &Order) -> Result<Vec<String>, Problem> {
        let targets = understand(&self.engine, order)?;
        let mut sites: Vec<_> = targets.iter().map(|(site, _)| *site).collect();
        sites.sort_unstable();
        sites.dedup();
        let name = |site: usize| self.engine.config.sites.get(site).map(|site| site.name.clone());
        Ok(sites.into_iter().filter_map(name).collect())
    }

    async fn purge(&self, order: Order, reach: Reach) -> Result<Receipt, Problem> {
        if reach == Reach::Fleet
            && let Some(receipt) = self.give(&order).await?
        {
            return Ok(receipt);
        }
        let begin = instant();
        let targets: Vec<_> = understand(&self.engine, &order)?.into_iter().map(|(_, target)| target).collect();
        let (engine, how, dry_run) = (Arc::clone(&self.engine), How::of(&order), order.dry_run);
        // A prefix, and counting one, walks all that is stored.
        let met = tokio::task::spawn_blocking(move || engine.carry_out(&targets, how, dry_run)).await;
        let failed = |_panicked| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "panic", "the purge has failed");
        let (met, number) = met.map_err(failed)?;
        let (matched, fenced_fills) = (met.matched as u64, met.fenced_fills as u64);
        let id = self.engine.config.id.to_string();
        let state = if dry_run { State::Counted } else { State::Applied };
        let ms = (begin.elapsed().as_secs_f64() * 10_000.0).round() / 10.0;
        let node = NodeReceipt { id: id.clone(), state, matched, fenced_fills, ms };
        let id = if dry_run { format!("{id}-dry-run-{number}") } else { format!("{id}-{number}") };
        let receipt = Receipt::of(id, None, dry_run, vec![node]);
        if !dry_run {
            self.events().tell("purge", json!({ "id": receipt.id, "order": order }));
            self.events().tell("receipt", json!({ "id": receipt.id, "node": receipt.nodes.first() }));
        }
        Ok(receipt)
    }

    fn about(&self) -> (&'static str, String) {
        let config = &self.engine.config;
        (config.role.name(), config.id.to_string())
    }

    fn config(&self) -> Value {
        let config = &self.engine.config;
        let text = |values: &mut dyn Iterator<Item = String>| values.collect::<Vec<_>>();
        let site = |site: &nearside_config::Site| {
            json!({
                "name": site.name,
                "hosts": text(&mut site.hosts.iter().map(ToString::to_string)),
                "origins": text(&mut site.origins.iter().map(ToString::to_string)),
                "canonical_host": site.canonical_host,
                "slice": site.slice,
            })
        };
        let shields = match &config.role {
            Role::Edge { shields, .. } => text(&mut shields.iter().map(ToString::to_string)),
            Role::Shield { .. } => Vec::new(),
        };
        json!({
            "role": config.role.name(),
            "id": config.id.to_string(),
            "city": config.city,
            "threads": config.threads,
            "listen": text(&mut config.listen.iter().map(ToString::to_string)),
            "listen_tls": text(&mut config.listen_tls.iter().map(|listener| listener.address.to_string())),
            "memory": config.cache.memory_bytes,
            "shields": shields,
            "control": config.control.iter().flat_map(|control| &control.addresses).map(ToString::to_string).collect::<Vec<_>>(),
            "tokens": text(&mut config.tokens.iter().map(|token| token.name.clone())),
            "sites": config.sites.iter().map(site).collect::<Vec<_>>(),
        })
    }

    async fn explain(&self, question: Question) -> Result<Explanation, Problem> {
        explain(&self.engine, &question).await
    }

    fn nodes(&self) -> Vec<NodeState> {
        let config = &self.engine.config;
        let place = self.engine.position.as_ref().map(|position| position.applied_and_lag());
        vec![NodeState {
            id: config.id.to_string(),
            role: config.role.name().to_owned(),
            city: config.city.clone(),
            // Whoever asks knows by which address, where it listens on all.
            admin: config.admin.filter(|admin| !admin.ip().is_unspecified()).map(|admin| admin.to_string()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: if self.draining.load(Ordering::Acquire) { "stopping" } else { "ready" }.to_owned(),
            sites: config.sites.iter().map(|site| site.name.clone()).collect(),
            applied: place.map(|(applied, _)| applied),
            lag: place.map(|(_, lag)| lag),
        }]
    }

    fn objects(&self, url: &str) -> Result<Vec<Object>, Problem> {
        let engine = &self.engine;
        let (_, key) = key_of(engine, url)?;
        let now = engine.clock.now();
        let varied = engine.varied_key(&key, now).map(|(key, _)| key);
        let keys = [Some(&key[..]), varied.as_deref()].into_iter().flatten();
        let slots = keys.filter_map(|key| engine.store.lookup(key, now));
        Ok(slots
            .flat_map(|slot| slot.entries().filter_map(|entry| object(engine, entry)).collect::<Vec<_>>())
            .collect())
    }
}

/// What is told of an entry; nothing if it can be used no more.
fn object(engine: &Engine, entry: &Entry) -> Option<Object> {
    let now = engine.clock.now();
    let freshness = entry.freshness(now)?;
    let state = match freshness.reuse(now, None) {
        Reuse::Fresh | Reuse::StaleAccepted => "fresh",
        Reuse::WhileRevalidate => "stale-while-revalidate",
        Reuse::Validate { on_error: true, .. } => "stale-if-error",
        Reuse::Validate { on_error: false, .. } => "validate",
    };
    let fields = &entry.head.fields;
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Some(Object {
        status: entry.head.status.as_u16(),
        bytes: entry.body.len().unwrap_or(0),
        age: freshness.age(now).as_secs(),
        ttl: freshness.ttl(now),
        state,
        vary: fields.get_all(http::header::VARY).iter().map(text).collect(),
        tags: entry.groups.names().filter_map(Engine::tag_of).collect(),
        etag: fields.get(http::header::ETAG).map(text),
    })
}

/// What an order means on this node: of each thing that it names, the site and the target.
pub(super) fn understand(engine: &Engine, order: &Order) -> Result<Vec<(usize, Target)>, Problem> {
    let only = order.site.as_deref().map(|name| site_named(engine, name)).transpose()?;
    let sites = || {
        let all = 0..engine.config.sites.len();
        all.filter(move |site| only.is_none_or(|only| only == *site))
    };
    let mut targets = Vec::new();
    for url in &order.urls {
        let (site, key) = key_of(engine, url)?;
        own(engine, only, site, url)?;
        targets.push((site, Target::Url(key)));
    }
    for prefix in &order.prefixes {
        for (site, key) in keys_of_prefix(engine, prefix)? {
            own(engine, only, site, prefix)?;
            targets.push((site, Target::Prefix(key)));
        }
    }
    for host in &order.hosts {
        let site = site_of(engine, host)?;
        own(engine, only, site, host)?;
        // The default port of one scheme is a port like any other under the other scheme.
        let [http, https] =
            [Scheme::Http, Scheme::Https].map(|scheme| engine.exact_key(site, scheme, host.as_bytes(), b"/"));
        if host_of(&https) != host_of(&http) {
            targets.push((site, Target::Host { site, key: https }));
        }
        targets.push((site, Target::Host { site, key: http }));
    }
    for tag in &order.tags {
        targets.extend(sites().map(|site| (site, Target::Tag { site, tag: tag.as_bytes().into() })));
    }
    if order.all {
        targets.extend(sites().map(|site| (site, Target::Site(site))));
    }
    Ok(targets)
}

fn site_named(engine: &Engine, name: &str) -> Result<usize, Problem> {
    let sites = &engine.config.sites;
    sites.iter().position(|site| site.name == name).ok_or_else(|| {
        let known: Vec<_> = sites.iter().map(|site| site.name.as_str()).collect();
        Problem::unprocessable("unknown-site", format!("there is no site {name:?}; known here: {}", known.join(", ")))
    })
}

fn site_of(engine: &Engine, authority: &str) -> Result<usize, Problem> {
    let unknown = || Problem::unprocessable("unknown-host", format!("no site of this node answers for {authority}"));
    engine.sites.find(authority.as_bytes()).ok_or_else(unknown)
}

/// Whether something is of the one site that an order is for.
fn own(engine: &Engine, only: Option<usize>, site: usize, what: &str) -> Result<(), Problem> {
    if only.is_none_or(|only| only == site) {
        return Ok(());
    }
    let name = engine.config.sites.get(site).map_or("another one", |site| site.name.as_str());
    Err(Problem::unprocessable("other-site", format!("{what:?} is of the site {name:?}, not of the one that is named")))
}

/// A site, and a key of it or what keys of it begin with.
type Keyed = (usize, Box<[u8]>);

/// The site and the key of a URL.
fn key_of(engine: &Engine, url: &str) -> Result<Keyed, Problem> {
    let Parts { scheme, authority, target } = whole(url)?;
    let site = site_of(engine, authority)?;
    Ok((site, engine.exact_key(site, scheme, authority.as_bytes(), target.as_bytes())))
}

/// The site and what its keys begin with; two where no scheme is named.
fn keys_of_prefix(engine: &Engine, prefix: &str) -> Result<Vec<Keyed>, Problem> {
    let Parts { scheme, authority, target: path } = beginning(prefix)?;
    let site = site_of(engine, authority)?;
    let key = |scheme| (site, engine.exact_key(site, scheme, authority.as_bytes(), path.as_bytes()));
    Ok(match scheme {
        Some(scheme) => vec![key(scheme)],
        None => vec![key(Scheme::Http), key(Scheme::Https)],
    })
}
