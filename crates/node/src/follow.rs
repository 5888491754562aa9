//! This node as one of a fleet: it follows the purge log of the control process.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use nearside_config::{Config, Role};
use nearside_diagnostics::WatchedTasks;
use nearside_engine::purge::Target;
use nearside_engine::purge::targets::understand;
use nearside_engine::request::Engine;
use nearside_protocol::{Member, Order, PurgeMode, Reach, Site};
use nearside_replication::{Applied, Applier, Totals};
use nearside_semantics::Timestamp;
use nearside_telemetry::clock::instant;
use nearside_telemetry::metrics::Metrics;
use nearside_telemetry::outcome::Verdict;

/// Applies what comes from the log.
struct Purger {
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
}

impl Applier for Purger {
    async fn apply(&self, order: &Order) -> Option<Applied> {
        // One by one: what is not known here cannot be stored here, but what else is named can.
        let understood = order.singly().filter_map(|one| understand(&self.engine, &one).ok());
        let targets: Vec<_> = understood.flatten().map(|(_, target)| target).collect();
        self.purge(targets, order.mode(), order.dry_run).await
    }

    fn applied(&self, accepted_millis: u64) {
        let delay = self.engine.clock.wall().since(Timestamp::from_millis(accepted_millis));
        self.metrics.purge_delays.add(delay);
    }

    fn totals(&self) -> Totals {
        let forwards = self.engine.hops.all().map(|hop| hop.health.requests.load(Ordering::Relaxed)).sum();
        Totals {
            requests: self.metrics.requests_where(|verdict| verdict != Verdict::Synth),
            hits: self.metrics.requests_where(Verdict::spares_the_next_hop),
            bytes: self.metrics.bytes(),
            forwards,
            connections: self.metrics.connections_open.load(Ordering::Relaxed),
        }
    }

    async fn reset(&self) -> bool {
        let sites = self.engine.config.site_ids().map(Target::Site).collect();
        self.purge(sites, PurgeMode::Soft, false).await.is_some()
    }
}

impl Purger {
    async fn purge(&self, targets: Vec<Target>, mode: PurgeMode, dry_run: bool) -> Option<Applied> {
        let engine = Arc::clone(&self.engine);
        let met = tokio::task::spawn_blocking(move || engine.carry_out(&targets, mode, dry_run)).await;
        // It has panicked: then it is not known what was done.
        let (met, _) = met.ok()?;
        Some(Applied { matched: met.matched as u64, fenced_fills: met.fenced_fills as u64 })
    }
}

/// Follows the log until `stopped` ends, and then says that this node leaves.
pub(crate) async fn follow(
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    tasks: WatchedTasks,
    stopped: impl Future<Output = ()>,
) {
    let (Some(position), Some(follows)) = (engine.position.clone(), engine.config.control.clone()) else { return };
    let member = member(&engine.config);
    let id = member.id.clone();
    let instance = ahash::RandomState::new().hash_one(instant());
    let purger = Arc::new(Purger { engine: Arc::clone(&engine), metrics });
    tokio::select! {
        () = nearside_replication::follow(tasks, follows.clone(), member, instance, Arc::clone(&position), purger) => {}
        () = stopped => {}
    }
    nearside_replication::leave(&follows, &id, instance, &position).await;
}

fn member(config: &Config) -> Member {
    let site = |site: &nearside_config::Site| Site {
        name: site.name.clone(),
        hosts: site.hosts.iter().map(ToString::to_string).collect(),
    };
    Member {
        id: config.id.to_string(),
        role: config.role.name().to_owned(),
        city: config.city.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sites: config.sites.iter().map(site).collect(),
        place: config.place,
        reach: matches!(config.role, Role::Edge { .. }).then(|| Reach {
            url: config.public.url.as_ref().map(ToString::to_string),
            addresses: config.public.addresses.clone(),
            capacity: config.public.capacity,
        }),
        admin: config.admin,
    }
}
