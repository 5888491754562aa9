//! Places for connections, requests or streams, shared out between client networks.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::limits::{ShareLimits, client_network};

/// The places of one kind.
#[derive(Debug)]
pub(super) struct Shares {
    limits: ShareLimits,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    /// Those of them that exempt peers hold.
    exempt: usize,
    networks: HashMap<IpAddr, usize>,
}

/// A place that is held until this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    shares: Arc<Shares>,
    /// The network that it counts against; `None` for an exempt peer.
    network: Option<IpAddr>,
}

/// The limit that a refused peer has met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// That of all peers.
    Total,
    /// That of its network.
    Network,
}

impl Shares {
    pub(super) fn new(limits: ShareLimits) -> Arc<Self> {
        Arc::new(Self { limits, held: Mutex::default() })
    }

    /// Takes a place for a peer.
    pub(super) fn take(self: &Arc<Self>, peer: IpAddr, is_exempt: bool) -> Result<Share, Full> {
        let ShareLimits { total, reserved, per_network } = self.limits;
        let mut held = self.held.lock();
        let is_full = held.all >= total || !is_exempt && held.all - held.exempt >= total.saturating_sub(reserved);
        if is_full {
            return Err(Full::Total);
        }
        let network = (!is_exempt).then(|| client_network(peer));
        if let Some(network) = network {
            let count = held.networks.entry(network).or_default();
            if *count >= per_network {
                return Err(Full::Network);
            }
            *count += 1;
        }
        held.exempt += usize::from(is_exempt);
        held.all += 1;
        Ok(Share { shares: Arc::clone(self), network })
    }

    /// The number of places that are held.
    pub(super) fn taken(&self) -> usize {
        self.held.lock().all
    }
}

impl Held {
    fn leave(&mut self, network: IpAddr) {
        if let Some(count) = self.networks.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.networks.remove(&network);
            }
        }
    }
}

impl Share {
    /// No longer counts the place against its network.
    pub(super) fn exempt(&mut self) {
        if let Some(network) = self.network.take() {
            let mut held = self.shares.held.lock();
            held.leave(network);
            held.exempt += 1;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.shares.held.lock();
        held.all -= 1;
        match self.network {
            Some(network) => held.leave(network),
            None => held.exempt -= 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_network_takes_more_than_its_share_and_exempt_peers_find_a_place() {
        let shares = Shares::new(ShareLimits { total: 5, reserved: 1, per_network: 2 });
        let peer = |text: &str| text.parse::<IpAddr>().unwrap();
        let take = |text: &str, is_exempt| shares.take(peer(text), is_exempt);
        let mut first = take("192.0.2.1", false).unwrap();
        let _second = take("192.0.2.1", false).unwrap();
        assert_eq!(take("192.0.2.1", false).unwrap_err(), Full::Network);
        let _third = take("2001:db8::1", false).unwrap();
        let fourth = take("2001:db8::2", false).unwrap();
        assert_eq!(take("192.0.2.3", false).unwrap_err(), Full::Total, "the last place is for exempt peers");
        let fifth = take("127.0.0.1", true).unwrap();
        assert_eq!(take("127.0.0.1", true).unwrap_err(), Full::Total);
        drop((fourth, fifth));
        // A place that no longer counts against its network is held all the same.
        first.exempt();
        assert!(take("192.0.2.1", false).is_ok());
        assert_eq!(shares.taken(), 3);
        drop(first);
        assert_eq!(shares.taken(), 2);
    }

    #[test]
    fn exempt_peers_take_the_places_of_others_only_where_all_are_held() {
        let shares = Shares::new(ShareLimits { total: 4, reserved: 2, per_network: 2 });
        let take = |text: &str, is_exempt| shares.take(text.parse::<IpAddr>().unwrap(), is_exempt);
        let _operators = [take("127.0.0.1", true).unwrap(), take("127.0.0.1", true).unwrap()];
        let first = take("192.0.2.1", false).unwrap();
        let _second = take("192.0.2.2", false).unwrap();
        assert_eq!(take("192.0.2.3", false).unwrap_err(), Full::Total);
        drop(first);
        let third = take("192.0.2.3", false).unwrap();
        drop(third);
        let _operator = take("127.0.0.1", true).unwrap();
        assert_eq!(take("192.0.2.3", false).unwrap_err(), Full::Total, "no place is left at all");
    }

    #[test]
    fn nothing_is_kept_of_networks_that_have_left() {
        let shares = Shares::new(ShareLimits { total: 9, reserved: 0, per_network: 9 });
        drop(shares.take("192.0.2.1".parse().unwrap(), false));
        assert!(shares.held.lock().networks.is_empty() && shares.taken() == 0);
    }
}
