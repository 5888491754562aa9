//! Names to addresses: off the serving threads, with a limit, remembered for a while.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use nearside_config::Upstream;
use parking_lot::Mutex;

use super::HopError;

/// The system's resolver tells no time to live; this is short enough to follow a change and long enough to matter.
const REMEMBERED: Duration = Duration::from_secs(10);
/// An answer that takes longer is as good as none.
const RESOLVE_MAX: Duration = Duration::from_secs(5);

/// The last addresses of a name. Those that are too old still serve when the resolver fails.
#[derive(Debug, Default)]
pub(super) struct Resolved(Mutex<Option<(Instant, Vec<SocketAddr>)>>);

impl Resolved {
    pub(super) async fn addresses(&self, upstream: &Upstream) -> Result<Vec<SocketAddr>, HopError> {
        if let Ok(address) = upstream.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, upstream.port)]);
        }
        let known = self.0.lock().clone();
        let now = crate::clock::instant();
        if let Some((when, addresses)) = &known
            && now.saturating_duration_since(*when) < REMEMBERED
        {
            return Ok(addresses.clone());
        }
        match lookup(upstream).await {
            Ok(addresses) => {
                *self.0.lock() = Some((now, addresses.clone()));
                Ok(addresses)
            }
            Err(cause) => {
                known.map(|(_, old)| old).ok_or_else(|| HopError::Resolve { name: upstream.host.clone(), cause })
            }
        }
    }
}

async fn lookup(upstream: &Upstream) -> Result<Vec<SocketAddr>, String> {
    let query = tokio::net::lookup_host((upstream.host.as_str(), upstream.port));
    let found = tokio::time::timeout(RESOLVE_MAX, query).await.map_err(|_elapsed| "no answer in 5 s".to_owned())?;
    let addresses: Vec<_> = found.map_err(|error| error.to_string())?.collect();
    if addresses.is_empty() { Err("it has no address".to_owned()) } else { Ok(addresses) }
}
