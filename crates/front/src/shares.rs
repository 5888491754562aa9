//! Fair shares: how many connections, and requests in progress, each client network may have, and what the heads of all
//! requests in progress may hold.
//!
//! A network is the first 32 bits of an IPv4 address or the first 64 of an IPv6 one: what one client can easily send from.
//! Networks are in the table only while they have a connection. A request that is answered from the store at once touches
//! none of this.
//!
//! **Invariant:** every count that is raised here belongs to a guard that lowers it when it is dropped.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use nearside_config::Config;
use nearside_engine::request::refusal::Refusal;
use nearside_telemetry::reason::Reason;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Shards of the table of networks.
const SHARDS: usize = 64;
/// Connections of one network beyond its share that wait for an idle one of that network to be closed.
const WAITING_MAX: usize = 32;
/// How long such a connection waits before one more idle connection is closed for it, and how often.
const SHED_AGAIN: Duration = Duration::from_millis(20);
const SHED_TRIES: u32 = 25;
/// Share of `cache.memory`, as a divisor, that heads of requests in progress may hold.
const HEADS_SHARE: u64 = 8;
/// What they may hold however small the cache is.
const HEADS_BYTES_MIN: u64 = 32 << 20;
/// What a request in progress holds beside its fields: tasks, channels, a fill.
const REQUEST_BYTES: u64 = 8 << 10;
/// Copies of the fields of a request in progress: its own, and what goes forward.
const COPIES: u64 = 2;

/// The client networks of a node, and what all of them together have in progress.
#[derive(Debug)]
pub struct Shares {
    shards: Box<[Mutex<Shard>]>,
    hasher: ahash::RandomState,
    connections_max: usize,
    requests_max: usize,
    requests_per_client: usize,
    heads_max: u64,
    /// Bytes that requests in progress hold.
    heads: AtomicU64,
    /// Connections that were refused.
    refused: AtomicU64,
}

type Shard = HashMap<Network, Arc<Share>, ahash::RandomState>;

/// What one client is told from others by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Network {
    V4(u32),
    V6(u64),
}

impl Network {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6(u64::try_from(address.to_bits() >> 64).unwrap_or_default()),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(bits) => write!(f, "{}/32", Ipv4Addr::from_bits(*bits)),
            Self::V6(bits) => write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(*bits) << 64)),
        }
    }
}

/// Bytes that a request holds while it is in progress.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Holds {
    /// Its fields.
    head: u64,
    /// What of its body has come and is not sent on yet, at most.
    body: u64,
}

impl Holds {
    pub(super) fn new(fields: &HeaderMap, body: u64) -> Self {
        Self { head: head_bytes(fields), body }
    }
}

/// What one network has.
#[derive(Debug)]
struct Share {
    network: Network,
    /// Changed under the lock of its shard only, as is `waiting`.
    connections: AtomicUsize,
    /// Connections beyond its share that wait for another one to end.
    waiting: AtomicUsize,
    requests: AtomicUsize,
    /// Wakes an idle connection of the network, which ends.
    shed: Notify,
    /// How often that was done.
    sheds: AtomicU64,
    /// It was told that something of it was refused.
    is_told: AtomicBool,
}

impl Share {
    /// Says in the log, once while the network is connected, that it has reached a limit.
    fn tell(&self, limit: &'static str) {
        if !self.is_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                network = %self.network,
                limit,
                "a client network has reached its limit and is refused; raise it if this is a proxy that many clients share"
            );
        }
    }
}

/// What becomes of a connection that was accepted.
pub(super) enum Entry {
    /// It is within its network's share.
    Within(Member),
    /// An idle connection of its network may make place for it.
    Beyond(Applicant),
    /// Too many of its network wait already.
    Refused,
}

impl Shares {
    /// The shares of a node that takes `places` connections.
    pub fn new(config: &Config, places: usize) -> Self {
        let limits = &config.limits;
        // Where open files are short, one client must not have all that there are.
        let connections_max = if places < limits.connections {
            limits.connections_per_client.min((places / 2).max(1))
        } else {
            limits.connections_per_client
        };
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: ahash::RandomState::new(),
            connections_max,
            requests_max: limits.requests,
            requests_per_client: limits.requests_per_client,
            heads_max: (config.cache.memory_bytes / HEADS_SHARE).max(HEADS_BYTES_MIN),
            heads: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Counts a connection of a client.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Entry {
        let network = Network::of(address);
        let mut shard = self.shard(network).lock();
        let share = Arc::clone(shard.entry(network).or_insert_with(|| {
            Arc::new(Share {
                network,
                connections: AtomicUsize::new(0),
                waiting: AtomicUsize::new(0),
                requests: AtomicUsize::new(0),
                shed: Notify::new(),
                sheds: AtomicU64::new(0),
                is_told: AtomicBool::new(false),
            })
        }));
        if share.connections.load(Ordering::Relaxed) < self.connections_max {
            share.connections.fetch_add(1, Ordering::Relaxed);
            return Entry::Within(Member { shares: Arc::clone(self), share, is_counted: AtomicBool::new(true) });
        }
        if share.waiting.load(Ordering::Relaxed) < WAITING_MAX {
            share.waiting.fetch_add(1, Ordering::Relaxed);
            let member = Member { shares: Arc::clone(self), share, is_counted: AtomicBool::new(false) };
            return Entry::Beyond(Applicant { member });
        }
        drop(shard);
        self.refuse(&share);
        Entry::Refused
    }

    fn refuse(&self, share: &Share) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        share.tell("limits.connections_per_client");
    }

    /// Connections that were refused because their networks had too many.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Bytes that requests in progress hold.
    pub fn head_bytes(&self) -> u64 {
        self.heads.load(Ordering::Relaxed)
    }

    /// Lowers one of the counts of a network, which is forgotten with its last connection.
    fn leave(&self, share: &Arc<Share>, count: impl FnOnce(&Share) -> &AtomicUsize) {
        let mut shard = self.shard(share.network).lock();
        count(share).fetch_sub(1, Ordering::Relaxed);
        let is_empty = share.connections.load(Ordering::Relaxed) == 0 && share.waiting.load(Ordering::Relaxed) == 0;
        if is_empty && shard.get(&share.network).is_some_and(|known| Arc::ptr_eq(known, share)) {
            shard.remove(&share.network);
        }
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder of the length")]
    #[expect(clippy::cast_possible_truncation, reason = "of a hash, any bits will do")]
    fn shard(&self, network: Network) -> &Mutex<Shard> {
        &self.shards[self.hasher.hash_one(network) as usize % SHARDS]
    }

    #[cfg(test)]
    fn networks(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

/// A connection beyond its network's share.
#[derive(Debug)]
pub(super) struct Applicant {
    /// Does not count yet.
    member: Member,
}

impl Applicant {
    /// Waits for a moment until another connection of the network ends, and has idle ones closed for that.
    pub(super) async fn admitted(self) -> Result<Member, Self> {
        let Member { shares, share, .. } = &self.member;
        for _ in 0..SHED_TRIES {
            share.sheds.fetch_add(1, Ordering::Relaxed);
            share.shed.notify_one();
            tokio::time::sleep(SHED_AGAIN).await;
            if self.takes_place() {
                let (shares, share) = (Arc::clone(shares), Arc::clone(share));
                return Ok(Member { shares, share, is_counted: AtomicBool::new(true) });
            }
        }
        shares.refuse(share);
        Err(self)
    }

    fn takes_place(&self) -> bool {
        let Member { shares, share, .. } = &self.member;
        let _shard = shares.shard(share.network).lock();
        let is_free = share.connections.load(Ordering::Relaxed) < shares.connections_max;
        if is_free {
            share.connections.fetch_add(1, Ordering::Relaxed);
        }
        is_free
    }

    /// The connection as one that does not count.
    pub(super) fn member(&self) -> &Member {
        &self.member
    }
}

impl Drop for Applicant {
    fn drop(&mut self) {
        self.member.shares.leave(&self.member.share, |share| &share.waiting);
    }
}

/// A connection that counts among those of its network.
#[derive(Debug)]
pub(crate) struct Member {
    shares: Arc<Shares>,
    share: Arc<Share>,
    is_counted: AtomicBool,
}

impl Member {
    /// It belongs to a node of this fleet, which is no client: it does not count any more, nor do its requests.
    pub(super) fn exempt(&self) {
        if self.is_counted.swap(false, Ordering::Relaxed) {
            self.shares.leave(&self.share, |share| &share.connections);
        }
    }

    /// Begins a request, beside `in_flight` others of the node; or refuses it.
    pub(super) fn begin(&self, in_flight: u64, holds: Holds) -> Result<Progress, Refusal> {
        let refused = |reason| Refusal { status: StatusCode::SERVICE_UNAVAILABLE, reason };
        if in_flight > self.shares.requests_max as u64 {
            return Err(refused(Reason::NodeBusy));
        }
        let is_client = self.is_counted.load(Ordering::Relaxed);
        let head = COPIES * holds.head;
        let bytes = REQUEST_BYTES + head + holds.body;
        let before = self.share.requests.fetch_add(usize::from(is_client), Ordering::Relaxed);
        let heads = self.shares.heads.fetch_add(bytes, Ordering::Relaxed);
        // Gives back what it has taken if it is refused.
        let (shares, share) = (Arc::clone(&self.shares), Arc::clone(&self.share));
        let progress = Progress { shares, share, is_client, bytes, head };
        if is_client && before >= self.shares.requests_per_client {
            self.share.tell("limits.requests_per_client");
            return Err(refused(Reason::ClientBusy));
        }
        if heads + bytes > self.shares.heads_max {
            return Err(refused(Reason::RequestMemory));
        }
        Ok(progress)
    }

    /// Holds `bytes` for a head that has come in part; `None` if all heads hold too much.
    pub(super) fn hold(&self, bytes: u64) -> Option<HeldHead> {
        let before = self.shares.heads.fetch_add(bytes, Ordering::Relaxed);
        let held = HeldHead { shares: Arc::clone(&self.shares), bytes };
        (before + bytes <= self.shares.heads_max).then_some(held)
    }

    /// Wakes an idle connection of the network.
    pub(super) fn shed(&self) -> Notified<'_> {
        self.share.shed.notified()
    }

    /// How often an idle connection of the network was asked to make place; as long as this stays the same, none was.
    pub(super) fn sheds(&self) -> u64 {
        self.share.sheds.load(Ordering::Relaxed)
    }

    /// Whether a connection of the network waits for another one to end.
    pub(super) fn is_short(&self) -> bool {
        self.share.waiting.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.exempt();
    }
}

/// The memory of a head that has come in part.
#[derive(Debug)]
pub(super) struct HeldHead {
    shares: Arc<Shares>,
    bytes: u64,
}

impl HeldHead {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for HeldHead {
    fn drop(&mut self) {
        self.shares.heads.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A request in progress.
#[derive(Debug)]
pub(crate) struct Progress {
    shares: Arc<Shares>,
    share: Arc<Share>,
    is_client: bool,
    bytes: u64,
    /// Of these, what the fields hold.
    head: u64,
}

impl Progress {
    /// Its fields are not held any more.
    pub(super) fn release_head(&mut self) {
        let head = std::mem::take(&mut self.head);
        self.bytes -= head;
        self.shares.heads.fetch_sub(head, Ordering::Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.shares.heads.fetch_sub(self.bytes, Ordering::Relaxed);
        self.share.requests.fetch_sub(usize::from(self.is_client), Ordering::Relaxed);
    }
}

/// Bytes that a map of fields holds: its table, names and values.
pub(super) fn head_bytes(fields: &HeaderMap) -> u64 {
    /// A bucket of [`HeaderMap`] with its part of the index, and a further value of a name.
    const BUCKET_BYTES: usize = 112;
    const EXTRA_BYTES: usize = 72;
    let table = fields.capacity() * BUCKET_BYTES + (fields.len() - fields.keys_len()).next_power_of_two() * EXTRA_BYTES;
    let text: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    (table + text) as u64
}

#[cfg(test)]
mod tests;
