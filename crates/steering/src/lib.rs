//! Steering: clients are sent to the nearest edge that serves what they want and is well.
//!
//! One decision ([`decide`]) stands behind three answers: redirects ([`router`]), names ([`dns`]), and what operators ask
//! (`/v1/route/explain`). It rests on where clients are ([`world`]), what their browsers have measured ([`measured`]), and what the
//! registry knows of edges. Nothing of it is in the way of data: without this process edges serve on.
//!
//! **Invariant:** an edge that is not reached from here is chosen only if none is.

mod decide;
mod dns;
mod fleet;
mod measured;
mod proof;
mod router;
#[cfg(test)]
mod tests;
mod world;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use nearside_config::{Answer, Steering as Config, Upstream};
use nearside_diagnostics::WatchedTasks;
use nearside_geo::Place;
use nearside_protocol::{Member, Reach};
use nearside_semantics::key::host_of;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use decide::{Candidate, Decision, Ranked, decide};
pub use fleet::{EdgeState, Fleet};
use measured::{Measurements, network_of};
use proof::{ProofError, Proofs};
use world::Located;
pub use world::{World, WorldError};

/// Light in vacuum.
const LIGHT_KM_PER_MS: f64 = 299.79;

/// Why clients cannot be steered.
#[derive(Debug, thiserror::Error)]
pub enum SteeringError {
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address}: {cause}{}", nearside_listen::advice(*address, cause))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        cause: io::Error,
    },
    /// It cannot be told where clients are.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The system has no random numbers for the key of proofs.
    #[error(
        "the key of steering proofs cannot be made: the system gives no random numbers; configure [steering] secret"
    )]
    NoRandomness,
    /// A name of the configuration is none of DNS.
    #[error("{name:?} is no domain name: {cause}")]
    Name {
        /// The name.
        name: String,
        /// Why not.
        cause: String,
    },
}

/// Steers clients.
#[derive(Debug)]
pub struct Steering {
    fleet: Arc<dyn Fleet>,
    config: Config,
    world: World,
    measurements: Measurements,
    proofs: Proofs,
}

/// Where a steering that runs is reached.
#[derive(Debug, Default)]
pub struct Listens {
    /// Address of the redirecting listener.
    pub router: Option<SocketAddr>,
    /// Address of the DNS server, for UDP and TCP.
    pub dns: Option<SocketAddr>,
    /// Tasks that finish what is under way once the process is told to stop.
    pub serving: Vec<JoinHandle<()>>,
}

/// What can be told of an answer: the edge, and why.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    pub(crate) decision: Decision,
    /// The chosen edge.
    pub(crate) member: Member,
    pub(crate) reach: Reach,
    pub(crate) located: Option<Located>,
}

impl Steering {
    fn new(config: Config, fleet: Arc<dyn Fleet>) -> Result<Self, SteeringError> {
        let world = World::open(config.table.as_deref(), config.mmdb.as_deref())?;
        let proofs = Proofs::new(config.secret.as_ref()).map_err(|_unspecified| SteeringError::NoRandomness)?;
        Ok(Self { fleet, config, world, measurements: Measurements::default(), proofs })
    }

    /// Starts to answer.
    ///
    /// # Errors
    ///
    /// Something that is needed cannot be had.
    pub async fn start(
        config: Config,
        fleet: Arc<dyn Fleet>,
        stopped: &watch::Receiver<bool>,
        tasks: &WatchedTasks,
    ) -> Result<(Arc<Self>, Listens, Vec<JoinHandle<()>>), SteeringError> {
        let steering = Arc::new(Self::new(config, fleet)?);
        let (mut listens, mut running) = (Listens::default(), Vec::new());
        if let Some(address) = steering.config.listen {
            let (address, task) = router::start(address, Arc::clone(&steering), stopped.clone(), tasks).await?;
            listens.router = Some(address);
            listens.serving.push(task);
        }
        if let Some(config) = steering.config.dns.clone() {
            let (address, task) = dns::start(config, Arc::clone(&steering), tasks).await?;
            listens.dns = Some(address);
            running.push(task);
        }
        Ok((steering, listens, running))
    }

    /// Where this process stands.
    pub fn place(&self) -> Option<Place> {
        self.config.place
    }

    pub(crate) fn answer(&self) -> Answer {
        self.config.answer
    }

    /// Whether what a client says of where it comes from is believed.
    fn trusts(&self, proxy: IpAddr) -> bool {
        self.config.trusted_proxies.contains(&proxy.to_canonical())
    }

    /// The edge for a client that wants something of a host, among those of which `can` is true; nothing if none serves that host.
    pub(crate) fn choose(&self, host: &str, client: IpAddr, can: impl Fn(&Reach) -> bool) -> Option<Choice> {
        let located = self.world.locate(client);
        let edges = self.edges(host, &can);
        let candidates = self.candidates(&edges, client);
        let place = located.as_ref().map(|located| located.place);
        let decision = decide(self.config.policy, place, &candidates, draw(client))?;
        let chosen = decision.chosen()?.id.clone();
        let edge = edges.into_iter().find(|edge| edge.member.id == chosen)?;
        let reach = edge.member.reach.clone().unwrap_or_default();
        Some(Choice { decision, member: edge.member, reach, located })
    }

    /// Whether any edge serves a host.
    pub(crate) fn serves(&self, host: &str) -> bool {
        !self.edges(host, &|_| true).is_empty()
    }

    /// Whether any edge serves a host below this one.
    pub(crate) fn serves_below(&self, host: &str) -> bool {
        let end = format!(".{}", host_of(host));
        fleet::any(&*self.fleet, |edge| edge.serves_below(&end))
    }

    /// A few edges that a client should measure: the two that are expected to be nearest; and one that might be nearer, because it was
    /// measured to be farther than its distance tells, which may have passed, or else another one each time.
    pub(crate) fn to_measure(&self, host: &str, client: IpAddr, turn: u64) -> Vec<(String, String)> {
        let can = |reach: &Reach| reach.url.is_some();
        let Some(choice) = self.choose(host, client, can) else { return Vec::new() };
        let alive: Vec<_> = choice.decision.ranked.iter().filter(|one| one.is_alive()).collect();
        let (near, far) = alive.split_at(alive.len().min(2));
        let expected = near.first().and_then(|nearest| nearest.expected_ms).unwrap_or(f64::INFINITY);
        let by_distance = |one: &&&Ranked| one.by_distance_ms.unwrap_or(f64::INFINITY);
        let hopeful = far.iter().filter(|one| by_distance(one) < expected);
        let hopeful = hopeful.min_by(|a, b| by_distance(a).total_cmp(&by_distance(b)));
        let in_turn = || far.get(usize::try_from(turn).ok()?.checked_rem(far.len())?);
        let edges = self.edges(host, &can);
        let url = |id: &str| edges.iter().find(|edge| edge.member.id == id)?.member.reach.as_ref()?.url.clone();
        let wanted = near.iter().chain(hopeful.or_else(in_turn));
        wanted.filter_map(|one| Some((one.id.clone(), url(&one.id)?))).collect()
    }

    /// Whether a page of this origin (RFC 6454) may have its visitors measure and report: one of a host that a site names, or that
    /// `[steering] report_hosts` does. That a site answers for any host (`*`) names none.
    pub(crate) fn knows_page(&self, origin: &str) -> bool {
        let Ok(Upstream { host, .. }) = origin.parse() else { return false };
        let host = host.to_ascii_lowercase();
        self.config.report_hosts.iter().any(|pattern| pattern.covers(&host))
            || fleet::any(&*self.fleet, |edge| edge.names(&host))
    }

    /// The proof that the network of a client was asked to measure these edges.
    pub(crate) fn proof(&self, client: IpAddr, edges: &[String]) -> String {
        self.proofs.give(network_of(client), edges, now())
    }

    /// Takes the round trips that a client has measured, of those edges that it was offered. Returns the number of those that are
    /// remembered; `None` if the report does not count, because its network has reported lately.
    ///
    /// # Errors
    ///
    /// Nobody has asked this network to measure.
    pub(crate) fn take<'e>(
        &self,
        client: IpAddr,
        proof: &str,
        times: impl Iterator<Item = (&'e str, f64)>,
    ) -> Result<Option<usize>, ProofError> {
        let offer = self.proofs.check(network_of(client), proof, now())?;
        if !self.measurements.reporting(client).lock().begin(offer.at_ms, self.config.report_every, instant()) {
            return Ok(None);
        }
        let offered = times.filter(|(edge, _)| offer.edges.iter().any(|offered| offered == edge));
        Ok(Some(offered.filter(|(edge, ms)| self.report(client, edge, *ms)).count()))
    }

    /// A client has measured the way to an edge. Whether it is remembered.
    fn report(&self, client: IpAddr, edge: &str, ms: f64) -> bool {
        let mut place = None;
        self.fleet.for_each_edge(&mut |state| {
            if state.member.id == edge && !state.has_left {
                place = Some(state.member.place);
            }
        });
        let Some(place) = place else { return false };
        // Faster than light is nobody.
        let between = self.world.locate(client).map(|located| located.place).zip(place);
        let shortest = between.map_or(0.0, |(from, to)| 2.0 * from.distance_km(to) / LIGHT_KM_PER_MS);
        ms >= shortest && self.measurements.reporting(client).lock().report(edge, ms, instant())
    }

    fn edges(&self, host: &str, can: &impl Fn(&Reach) -> bool) -> Vec<Edge> {
        let host = host_of(host);
        let mut edges = Vec::new();
        self.fleet.for_each_edge(&mut |edge| {
            // Any, if no host is named.
            let serves = host.is_empty() || edge.serves(&host);
            if serves && edge.member.reach.as_ref().is_some_and(can) {
                edges.push(Edge { member: edge.member.clone(), is_alive: edge.is_alive, load: edge.load });
            }
        });
        edges
    }

    fn candidates(&self, edges: &[Edge], client: IpAddr) -> Vec<Candidate> {
        let (network, now) = (self.measurements.find(client), instant());
        let network = network.as_ref().map(|network| network.lock());
        let candidate = |edge: &Edge| Candidate {
            id: edge.member.id.clone(),
            place: edge.member.place,
            is_alive: edge.is_alive,
            load: edge.load,
            measured: network.as_ref().and_then(|network| network.measured(&edge.member.id, now)),
        };
        edges.iter().map(candidate).collect()
    }

    /// Everything about a decision, for people.
    pub fn explain(&self, client: IpAddr, host: &str) -> Value {
        // Whom nobody can be sent to is not chosen by the others either.
        let choice = self.choose(host, client, |reach| reach.url.is_some() || !reach.addresses.is_empty());
        let located = self.world.locate(client).map(|located| {
            json!({
                "city": located.city, "coordinates": located.place, "network": located.network.to_string(), "source": located.source
            })
        });
        json!({
            "ip": client.to_string(),
            "host": host,
            "policy": self.config.policy.as_str(),
            "network": network_of(client).to_string(),
            "location": located,
            "edge": choice.as_ref().map(|choice| choice.member.id.clone()),
            "reason": choice.as_ref().map(|choice| choice.decision.reason.as_str()),
            "url": choice.as_ref().and_then(|choice| Some(choice.reach.url.as_deref()?.replace("{host}", host))),
            "candidates": choice.map(|choice| choice.decision.ranked).unwrap_or_default(),
        })
    }

    /// For how large a network a decision holds: another one beside it may have measured something else, or be told of by a longer
    /// prefix; so never for a larger one than measurements are kept of (RFC 7871 §7.2.1).
    pub(crate) fn scope(choice: &Choice, client: IpAddr) -> u8 {
        if choice.decision.ranked.len() <= 1 {
            return 0;
        }
        let located = choice.located.as_ref().map_or(0, |located| located.network.prefix_len());
        located.max(network_of(client).prefix_len())
    }
}

/// An edge that serves what is wanted.
struct Edge {
    member: Member,
    is_alive: bool,
    load: Option<f64>,
}

/// The same for all addresses of a network.
fn draw(client: IpAddr) -> u64 {
    let network: IpNet = network_of(client);
    ahash::RandomState::with_seeds(4, 5, 6, 7).hash_one(network)
}

#[expect(clippy::disallowed_methods, reason = "measurements are of real time")]
fn instant() -> Instant {
    Instant::now()
}

/// Milliseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "proofs are dated by real time")]
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
