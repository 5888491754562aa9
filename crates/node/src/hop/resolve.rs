//! Names to addresses: off the serving threads, with a limit, remembered for a while.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nearside_config::Upstream;
use parking_lot::Mutex;

use super::HopError;

/// The system's resolver tells no time to live; this is short enough to follow a change and long enough to matter.
const REMEMBERED: Duration = Duration::from_secs(10);
/// An answer that takes longer is as good as none.
const RESOLVE_MAX: Duration = Duration::from_secs(5);

/// The last addresses of a name. Those that are too old still serve when the resolver fails.
#[derive(Debug)]
pub(super) struct Resolved {
    /// Where the name is an address.
    literal: Option<Arc<[SocketAddr]>>,
    last: Mutex<Option<(Instant, Arc<[SocketAddr]>)>>,
}

impl Resolved {
    pub(super) fn new(upstream: &Upstream) -> Self {
        let address = upstream.host.parse::<IpAddr>().ok();
        let literal = address.map(|address| [SocketAddr::new(address, upstream.port)].into());
        Self { literal, last: Mutex::default() }
    }

    pub(super) async fn addresses(&self, upstream: &Upstream) -> Result<Arc<[SocketAddr]>, HopError> {
        if let Some(literal) = &self.literal {
            return Ok(Arc::clone(literal));
        }
        let known = self.last.lock().clone();
        let now = crate::clock::instant();
        if let Some((when, addresses)) = &known
            && now.saturating_duration_since(*when) < REMEMBERED
        {
            return Ok(Arc::clone(addresses));
        }
        match lookup(upstream).await {
            Ok(addresses) => {
                *self.last.lock() = Some((now, Arc::clone(&addresses)));
                Ok(addresses)
            }
            Err(cause) => {
                known.map(|(_, old)| old).ok_or_else(|| HopError::Resolve { name: upstream.host.clone(), cause })
            }
        }
    }
}

async fn lookup(upstream: &Upstream) -> Result<Arc<[SocketAddr]>, String> {
    let query = tokio::net::lookup_host((upstream.host.as_str(), upstream.port));
    let found = tokio::time::timeout(RESOLVE_MAX, query).await.map_err(|_elapsed| "no answer in 5 s".to_owned())?;
    let addresses: Arc<[_]> = found.map_err(|error| error.to_string())?.collect();
    if addresses.is_empty() { Err("it has no address".to_owned()) } else { Ok(addresses) }
}
