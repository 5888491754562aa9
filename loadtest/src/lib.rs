//! Open-loop load: requests leave at a fixed rate, whether or not the ones before have been answered, and their time
//! counts from the moment at which they should have left. A server that stalls cannot hide it by slowing the load.

mod crowd;
mod odd;
mod race;
mod report;
mod run;
pub mod simulate;

use std::time::Duration;

use http::Uri;
use http::uri::Scheme;

pub use crowd::{Check, Crowd, CrowdReport};
pub use odd::{arrivals, dawdle, part, vanish};
pub use race::{Outcome, Race, RaceReport, Raised, VersionCheck};
pub use report::{Latency, Report};

/// What to ask for, how often, for how long.
#[derive(Debug, Clone)]
pub struct Load {
    urls: Vec<Uri>,
    rate: u32,
    duration: Duration,
    connections: usize,
}

/// Why a load cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not a URL, or one of a scheme that is not spoken here.
    #[error("{0:?} is no http:// URL with a host; https is not spoken by this load generator yet")]
    Url(String),
    /// URLs of several servers in one run.
    #[error("all URLs of one run must have the same host and port: {0} differs")]
    Hosts(String),
    /// The server cannot be reached at all.
    #[error("{url} cannot be reached: {cause}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why not.
        cause: std::io::Error,
    },
}

impl Load {
    /// A load of `rate` requests per second for `duration`, over at most `connections` connections.
    ///
    /// # Errors
    ///
    /// A URL that cannot be asked.
    pub fn new(urls: &[String], rate: u32, duration: Duration, connections: usize) -> Result<Self, LoadError> {
        let urls = urls.iter().map(|url| parse(url)).collect::<Result<Vec<_>, _>>()?;
        let first = urls.first().and_then(Uri::authority);
        if let Some(other) = urls.iter().find(|uri| uri.authority() != first) {
            return Err(LoadError::Hosts(other.to_string()));
        }
        Ok(Self { urls, rate, duration, connections })
    }

    /// Runs it to its end; with a progress bar on standard error if wanted.
    ///
    /// # Errors
    ///
    /// The server cannot be reached when the run begins; later failures are counted.
    pub async fn run(&self, progress: bool) -> Result<Report, LoadError> {
        run::run(self, progress).await
    }
}

/// A URL that can be asked.
fn parse(url: &str) -> Result<Uri, LoadError> {
    let uri: Uri = url.parse().map_err(|_no_uri| LoadError::Url(url.to_owned()))?;
    let right = uri.scheme() == Some(&Scheme::HTTP) && uri.host().is_some();
    if right { Ok(uri) } else { Err(LoadError::Url(url.to_owned())) }
}
