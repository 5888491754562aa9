//! What stands behind the admin API of the control process: orders go into the log, and receipts come from the registry.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use nearside_api::{Access, Backend, Book, Events, Reach};
use nearside_config::HostPattern;
use nearside_geo::Place;
use nearside_protocol::order::beginning;
use nearside_protocol::{NodeState, Object, Order, Problem, PurgeTarget, Receipt, Wait};
use nearside_replication::Line;
use nearside_semantics::key::host_of;
use nearside_steering::Steering;
use serde_json::{Value, json};

use crate::admission::NodeDoor;
use crate::engine::Engine;
use crate::known::{Known, instant};
use crate::log::LogError;
use crate::registry::What;

/// So often it is looked whether those that are waited for can still be reached.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The desk of the control process.
#[derive(Debug)]
pub(crate) struct Desk {
    access: Access,
    /// The door for nodes.
    pub(crate) nodes: NodeDoor,
    book: Book,
    pub(crate) known: Arc<Known>,
    pub(crate) engine: Engine,
    steering: Option<Arc<Steering>>,
    tickets: AtomicU64,
}

impl Desk {
    pub(crate) fn new(
        access: Access,
        nodes: NodeDoor,
        known: Arc<Known>,
        engine: Engine,
        steering: Option<Arc<Steering>>,
    ) -> Self {
        // No number of another process.
        let tickets = AtomicU64::new(ahash::RandomState::new().hash_one(0_u8) >> 1);
        Self { access, nodes, book: Book::default(), known, engine, steering, tickets }
    }

    /// Whether clients are sent to edges by this process.
    pub(crate) fn is_steering(&self) -> bool {
        self.steering.is_some()
    }

    /// Where this process stands, if it was told.
    pub(crate) fn place(&self) -> Option<Place> {
        self.steering.as_ref()?.place()
    }

    /// Waits until all nodes that can be reached have done it, for as long as the order says.
    async fn settled(&self, id: &str, order: &Order) {
        let settled = async {
            loop {
                let heard = self.known.heard.notified();
                tokio::pin!(heard);
                heard.as_mut().enable();
                if self.known.registry.lock().is_settled(id, instant()) {
                    return;
                }
                // Also when nobody says anything any more: then they cannot be reached.
                let _ = tokio::time::timeout(LOOK_AGAIN, heard).await;
            }
        };
        if order.wait == Wait::Applied {
            let _ = tokio::time::timeout(order.timeout.0, settled).await;
        }
    }
}

impl Backend for Desk {
    fn access(&self) -> &Access {
        &self.access
    }

    fn book(&self) -> &Book {
        &self.book
    }

    fn events(&self) -> &Events {
        &self.known.events
    }

    fn sites_of(&self, order: &Order) -> Result<Vec<String>, Problem> {
        let registry = self.known.registry.lock();
        let mut known: Vec<(String, Vec<HostPattern>)> = Vec::new();
        for site in registry.nodes().flat_map(|node| &node.member.sites) {
            let hosts = site.hosts.iter().filter_map(|host| host.parse().ok());
            match known.iter_mut().find(|(name, _)| *name == site.name) {
                Some((_, patterns)) => patterns.extend(hosts),
                None => known.push((site.name.clone(), hosts.collect())),
            }
        }
        drop(registry);
        sites_of(&known, order)
    }

    async fn purge(&self, order: Order, _: Reach) -> Result<Receipt, Problem> {
        let id = if order.dry_run {
            let ticket = self.tickets.fetch_add(1, Ordering::Relaxed) + 1;
            let id = format!("dry-run-{ticket}");
            self.known.registry.lock().gives(What::Count(ticket), id.clone(), instant());
            self.engine.says(Line::Count { ticket, order: order.clone() });
            id
        } else {
            self.engine.append(order.clone()).await.map_err(refused)?
        };
        self.settled(&id, &order).await;
        let forgotten = || {
            let detail = format!("the order {id} was accepted, but there are so many that its receipt is forgotten");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "receipt-forgotten", detail)
        };
        self.known.registry.lock().receipt(&id, instant()).ok_or_else(forgotten)
    }

    fn receipt(&self, id: &str) -> Option<Receipt> {
        self.known.registry.lock().receipt(id, instant()).or_else(|| self.book.receipt(id))
    }

    fn about(&self) -> (&'static str, String) {
        ("control", self.known.recent.at().log)
    }

    fn config(&self) -> Value {
        json!({ "role": "control", "log": self.known.recent.at().log })
    }

    fn nodes(&self) -> Vec<NodeState> {
        self.known.nodes()
    }

    fn route(&self, client: IpAddr, host: &str) -> Result<Value, Problem> {
        let none = || Problem::new(StatusCode::NOT_FOUND, "no-steering", "nobody is sent anywhere: add [steering]");
        Ok(self.steering.as_ref().ok_or_else(none)?.explain(client, host))
    }

    fn objects(&self, _: &str) -> Result<Vec<Object>, Problem> {
        let detail = "nothing is stored here: ask a node's own admin listener";
        Err(Problem::new(StatusCode::NOT_FOUND, "no-store", detail))
    }
}

/// Why there is no receipt.
fn refused(error: LogError) -> Problem {
    let (code, detail) = match error {
        LogError::Unknown | LogError::Accepted(_) => ("log-unknown", error.to_string()),
        error => ("log", format!("nothing was purged: {error}")),
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
}

/// The sites that an order concerns, of those that nodes have told of.
fn sites_of(known: &[(String, Vec<HostPattern>)], order: &Order) -> Result<Vec<String>, Problem> {
    if known.is_empty() {
        let detail = "no node has said what it serves yet: start one with [control] address = this listener";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no-nodes", detail));
    }
    let names = || known.iter().map(|(name, _)| name.clone());
    if let Some(site) = order.site.as_ref().filter(|site| names().all(|name| name != **site)) {
        let detail = format!("there is no site {site:?}; known here: {}", names().collect::<Vec<_>>().join(", "));
        return Err(Problem::unprocessable("unknown-site", detail));
    }
    let mut sites = Vec::new();
    for target in order.targets() {
        let what = match target {
            PurgeTarget::Url(what) | PurgeTarget::Prefix(what) | PurgeTarget::Host(what) => what,
            PurgeTarget::Tag(_) | PurgeTarget::Everything => {
                match &order.site {
                    Some(site) => sites.push(site.clone()),
                    None => sites.extend(names()),
                }
                continue;
            }
        };
        // Of hosts, too, this is the beginning of their URLs.
        let authority = beginning(what.split('?').next().unwrap_or_default())?.authority;
        let host = host_of(authority);
        let patterns = known.iter().flat_map(|(name, patterns)| patterns.iter().map(move |pattern| (name, pattern)));
        let covering = patterns.filter(|(_, pattern)| pattern.covers(&host));
        let owner = covering.max_by_key(|(_, pattern)| pattern.exactness()).map(|(name, _)| name.clone());
        let unknown =
            || Problem::unprocessable("unknown-host", format!("no site of any node answers for {authority:?}"));
        let owner = owner.ok_or_else(unknown)?;
        if order.site.as_ref().is_some_and(|site| *site != owner) {
            let detail = format!("{what:?} is of the site {owner:?}, not of the one that is named");
            return Err(Problem::unprocessable("other-site", detail));
        }
        sites.push(owner);
    }
    sites.sort_unstable();
    sites.dedup();
    Ok(sites)
}
