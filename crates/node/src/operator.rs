//! The admin API of a node: what its requests mean here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use http::StatusCode;
use nearside_api::foreign::MethodDone;
use nearside_api::method::{MethodPurge, Ports};
use nearside_api::{Access, Backend, Book, Events, Ordered, Reach, Tap, carry_out};
use nearside_config::{Config, Network, Role, SiteId};
use nearside_engine::explain::explain;
use nearside_engine::objects::objects;
use nearside_engine::purge::method::MethodPurges;
use nearside_engine::purge::targets::understand;
use nearside_engine::request::{Answer, Engine, Request, respond};
use nearside_protocol::{Explanation, NodeReceipt, NodeState, Object, Order, Problem, Question, Receipt, State};
use nearside_replication::Given;
use nearside_telemetry::access_log::LiveLog;
use nearside_telemetry::clock::instant;
use nearside_telemetry::reason::Reason;
use nearside_upstream::upload::Upload;
use serde_json::{Value, json};

/// State of the admin API, which the admin listener and purges by method share.
#[derive(Debug)]
pub(crate) struct AdminState {
    /// Access of clients that purge by method, and of those in `purge_from`, which need no token.
    clients: Arc<Access>,
    trusted: Arc<Access>,
    trusted_networks: Vec<Network>,
    /// Where clients reach this node.
    ports: Ports,
    book: Book,
    events: Events,
    /// Readers of the live log.
    pub(crate) tap: Arc<Tap>,
}

impl AdminState {
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
            tap: Arc::default(),
        }
    }
}

/// The live log of the admin API.
#[derive(Debug)]
pub(crate) struct LiveTap(pub(crate) Arc<Tap>);

impl LiveLog for LiveTap {
    fn is_open(&self) -> bool {
        self.0.is_open()
    }

    fn send(&self, lines: &[u8]) {
        self.0.send(lines);
    }
}

/// The admin API of this node, for requests with one kind of access.
pub(crate) struct Operator {
    pub(crate) engine: Arc<Engine>,
    pub(crate) state: Arc<AdminState>,
    pub(crate) access: Arc<Access>,
    pub(crate) draining: Arc<AtomicBool>,
}

/// Purges by method, with the rules of the admin API.
pub(crate) struct PurgesByMethod(pub(crate) Arc<AdminState>);

#[async_trait]
impl MethodPurges for PurgesByMethod {
    async fn purge(&self, engine: &Arc<Engine>, site: SiteId, request: &Request, upload: Option<Upload>) -> Answer {
        by_method(&self.0, engine, site, request, upload).await
    }
}

/// Obeys a `PURGE`, or one of its relatives, that came to a listener for clients, if whoever sends it may.
async fn by_method(
    state: &Arc<AdminState>,
    engine: &Arc<Engine>,
    site: SiteId,
    request: &Request,
    upload: Option<Upload>,
) -> Answer {
    let client = request.client.address();
    let is_trusted = state.trusted_networks.iter().any(|network| network.contains(client));
    let access = Arc::clone(if is_trusted { &state.trusted } else { &state.clients });
    let (engine, state) = (Arc::clone(engine), Arc::clone(state));
    let operator = Operator { engine, state, access, draining: Arc::default() };
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
        ports: &operator.state.ports,
    };
    // Tags and everything are those of the site that was asked; all else names its host.
    let of_site = |mut order: Order| {
        if order.all || !order.tags.is_empty() {
            order.site = operator.engine.config.site(site).map(|site| site.name.clone());
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
            return nearside_replication::give(control, &given).await.map(Some);
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
        &self.state.book
    }

    fn events(&self) -> &Events {
        &self.state.events
    }

    fn tap(&self) -> Option<&Arc<Tap>> {
        Some(&self.state.tap)
    }

    fn sites_of(&self, order: &Order) -> Result<Vec<String>, Problem> {
        let targets = understand(&self.engine, order)?;
        let mut sites: Vec<_> = targets.iter().map(|(site, _)| *site).collect();
        sites.sort_unstable();
        sites.dedup();
        let name = |site: SiteId| self.engine.config.site(site).map(|site| site.name.clone());
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
        let (engine, mode, dry_run) = (Arc::clone(&self.engine), order.mode(), order.dry_run);
        // A prefix, and counting one, walks all that is stored.
        let met = tokio::task::spawn_blocking(move || engine.carry_out(&targets, mode, dry_run)).await;
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
        objects(&self.engine, url)
    }
}
