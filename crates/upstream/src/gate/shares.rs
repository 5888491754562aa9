//! Shares of the places at an origin: how many each client network holds, and how many requests of it wait.
//!
//! A network may use every place as long as nobody else wants one. Once requests of several networks wait, those of a
//! network that holds no more than its share come first. A request that has waited for [`REVOKE_AFTER`] although its
//! network holds less than its share takes the oldest place of the network that holds the most.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::client_network::ClientNetwork;

/// One network's share of the places, as a divisor.
const SHARE: usize = 8;
/// Wait after which a request of a network below its share takes a place of another network, and the age from which places
/// can be taken. Ordinary requests are answered sooner, so that the places they wait for become free by themselves.
pub(super) const REVOKE_AFTER: Duration = Duration::from_secs(1);

/// Word to the request that holds a place that another network gets it.
#[derive(Debug, Default)]
pub(crate) struct Revocation {
    is_revoked: AtomicBool,
    notify: Notify,
}

impl Revocation {
    pub(crate) fn is_revoked(&self) -> bool {
        self.is_revoked.load(Ordering::Acquire)
    }

    /// Waits until the place is revoked.
    pub(crate) async fn revoked(&self) {
        while !self.is_revoked() {
            // `notify_one` leaves a permit: nothing is missed between the look and the wait.
            self.notify.notified().await;
        }
    }

    fn revoke(&self) {
        self.is_revoked.store(true, Ordering::Release);
        self.notify.notify_one();
    }
}

/// Number of a place among all that were ever taken at an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PlaceNumber(u64);

/// What one network holds, the oldest place first, and how many of its requests wait.
#[derive(Debug, Default)]
struct NetworkUse {
    held: BTreeMap<PlaceNumber, (Instant, Arc<Revocation>)>,
    waiting: usize,
}

/// Use of an origin's places and queue by network. A network that uses nothing is not in the table.
#[derive(Debug, Default)]
pub(super) struct NetworkShares {
    networks: HashMap<ClientNetwork, NetworkUse>,
    numbers: u64,
    revoked: u64,
}

impl NetworkShares {
    /// Largest number of places that a network may hold while others wait, of `limit`.
    pub(super) fn share(limit: usize) -> usize {
        (limit / SHARE).max(1)
    }

    /// Notes that `network` has got a place.
    pub(super) fn take(&mut self, network: ClientNetwork) -> (PlaceNumber, Arc<Revocation>) {
        self.numbers += 1;
        let (number, revocation) = (PlaceNumber(self.numbers), Arc::<Revocation>::default());
        let held = &mut self.networks.entry(network).or_default().held;
        held.insert(number, (Instant::now(), Arc::clone(&revocation)));
        (number, revocation)
    }

    /// Notes that a place was given back.
    pub(super) fn give_back(&mut self, network: ClientNetwork, number: PlaceNumber) {
        self.change(network, |used| {
            used.held.remove(&number);
        });
    }

    /// Notes that a request of `network` waits.
    pub(super) fn wait(&mut self, network: ClientNetwork) {
        self.networks.entry(network).or_default().waiting += 1;
    }

    /// Notes that a request of `network` has stopped waiting.
    pub(super) fn stop_waiting(&mut self, network: ClientNetwork) {
        self.change(network, |used| used.waiting = used.waiting.saturating_sub(1));
    }

    fn change(&mut self, network: ClientNetwork, change: impl FnOnce(&mut NetworkUse)) {
        if let Some(used) = self.networks.get_mut(&network) {
            change(used);
            if used.held.is_empty() && used.waiting == 0 {
                self.networks.remove(&network);
            }
        }
    }

    /// Number of places that `network` holds and that are not revoked.
    pub(super) fn held(&self, network: ClientNetwork) -> usize {
        self.networks.get(&network).map_or(0, |used| used.held.len())
    }

    /// Whether a request waits whose network holds less than `share`.
    pub(super) fn waits_below(&self, share: usize) -> bool {
        self.networks.values().any(|used| used.waiting > 0 && used.held.len() < share)
    }

    /// Network with the most waiting requests, if it has at least two more than `network`: it can do without one of them.
    pub(super) fn crowding(&self, network: ClientNetwork) -> Option<ClientNetwork> {
        let own = self.networks.get(&network).map_or(0, |used| used.waiting);
        let (most, used) = self.networks.iter().max_by_key(|(_, used)| used.waiting)?;
        (used.waiting > own + 1).then_some(*most)
    }

    /// Revokes the oldest place of the network that holds the most, if that is more than its share and `network` holds less
    /// than its own.
    pub(super) fn revoke_for(&mut self, network: ClientNetwork, limit: usize) {
        let share = Self::share(limit);
        if self.held(network) >= share {
            return;
        }
        let Some(most) = self.networks.values_mut().max_by_key(|used| used.held.len()) else { return };
        if most.held.len() > share
            && let Some(oldest) = most.held.first_entry().filter(|oldest| oldest.get().0.elapsed() >= REVOKE_AFTER)
        {
            // It is counted no more from here on, so that the next one who waits gets another one.
            oldest.remove().1.revoke();
            self.revoked += 1;
        }
    }

    /// Number of places that were revoked so far.
    pub(super) fn revoked(&self) -> u64 {
        self.revoked
    }
}
