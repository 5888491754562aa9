//! Load: requests leave when they are due, whether or not the ones before have been answered, and their time counts from the
//! moment at which they should have left. A server that stalls cannot hide it by slowing the load.
//!
//! [`Load`] is what is asked for, how often, by how many; [`Report`] what came of it, as a table, JSON or a page. Beside it crowds
//! that come at once, races of purges and readers, clients that dawdle, and [`simulate`], which needs no traffic.

mod attack;
mod chart;
mod client;
mod crowd;
mod draw;
mod odd;
mod page;
mod race;
mod report;
mod run;
mod shape;
pub mod simulate;
mod tally;

use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderMap, Uri};

pub use attack::{Attack, AttackKind};
pub use chart::Bars;
pub use client::{Trust, fields};
pub use crowd::{Check, Crowd, CrowdReport};
pub use odd::{arrivals, dawdle, part, vanish};
pub use page::page;
pub use race::{Outcome, Race, RaceReport, Raised, VersionCheck};
pub use report::{HostReport, Latency, Moment, OriginReport, Percentile, Report};
pub use shape::{Popularity, Shape, Sizes, Target};

/// Whether the bytes of a body of this seed that begin at a place are the right ones.
pub type BodyCheck = Arc<dyn Fn(u64, u64, &[u8]) -> bool + Send + Sync>;

/// What to ask for, how often, for how long, by how many.
#[derive(Clone)]
pub struct Load {
    /// What is asked for; the URLs take turns. Each host has connections and a schedule of its own.
    pub targets: Vec<Target>,
    /// Which object of them.
    pub shape: Shape,
    /// When requests leave.
    pub rate: Rate,
    /// Before it counts.
    pub warm_up: Duration,
    /// While it counts.
    pub duration: Duration,
    /// Connections in all, shared out evenly to the hosts.
    pub connections: usize,
    /// Requests at a time on each connection; more than one with HTTP/2 only.
    pub streams: usize,
    /// HTTP/2 in place of HTTP/1.1: by ALPN over TLS, and in the clear as if both knew.
    pub http2: bool,
    /// Whose certificates are believed.
    pub trust: Trust,
    /// Fields of each request.
    pub fields: HeaderMap,
    /// First of all each object is asked for once at every host; if one does not come, nothing is run.
    pub fill: bool,
    /// Judges the bytes of bodies, whose seed stands in the URL as `seed=N`.
    pub check: Option<BodyCheck>,
    /// The `nearside origin-sim` behind it all, whose ledger is read.
    pub origin: Option<Uri>,
    /// Threads that ask.
    pub threads: usize,
}

/// When requests leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// So many per second, on time.
    PerSecond(u32),
    /// As soon as the one before on the same connection is answered: how many that are is the server's choice, and no wait counts.
    Max,
}

/// Why a load cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not a URL, or one of a scheme that is not spoken here.
    #[error("{0:?} is no http:// or https:// URL with a host")]
    Url(String),
    /// A URL that lacks something.
    #[error("{what} needs {needs} in the URL, as in {example}")]
    Needs {
        /// What was ordered.
        what: &'static str,
        /// What has to stand there.
        needs: &'static str,
        /// An example.
        example: &'static str,
    },
    /// Several streams without HTTP/2.
    #[error("several streams on a connection need HTTP/2")]
    Streams,
    /// Fewer connections than hosts.
    #[error("{connections} connection(s) are too few for {hosts} hosts: one for each at least")]
    TooFew {
        /// How many there were to be.
        connections: usize,
        /// How many hosts there are.
        hosts: usize,
    },
    /// No field.
    #[error("{0:?} is no field: expected \"Name: value\"")]
    Field(String),
    /// Certificates that cannot be read.
    #[error("certificates to trust: {0}")]
    Trust(String),
    /// The server cannot be reached at all.
    #[error("{url} cannot be reached: {cause}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why not.
        cause: std::io::Error,
    },
    /// An object did not come that was to be there before all.
    #[error("not all objects could be asked for before the run: {0}")]
    Fill(String),
    /// Something of this system.
    #[error("threads cannot be started: {0}")]
    System(std::io::Error),
}

impl Load {
    /// A load of one request per second at these targets for ten seconds; the rest is set on it.
    #[must_use]
    pub fn new(targets: Vec<Target>) -> Self {
        Self {
            targets,
            shape: Shape::default(),
            rate: Rate::PerSecond(1),
            warm_up: Duration::ZERO,
            duration: Duration::from_secs(10),
            connections: 64,
            streams: 1,
            http2: false,
            trust: Trust::System,
            fields: HeaderMap::new(),
            fill: false,
            check: None,
            origin: None,
            threads: 1,
        }
    }

    /// Runs it to its end; with a progress bar on standard error if wanted.
    ///
    /// # Errors
    ///
    /// What was ordered does not fit together, or a server cannot be reached when the run begins; later failures are counted.
    pub async fn run(&self, progress: bool) -> Result<Report, LoadError> {
        self.validate()?;
        run::run(self, progress).await
    }

    fn validate(&self) -> Result<(), LoadError> {
        const EXAMPLE: &str = "http://127.0.0.1:9080/o/{object}?size={size}&seed={object}&cc=max-age%3D600";
        let needs = |what, needs| LoadError::Needs { what, needs, example: EXAMPLE };
        let shape = &self.shape;
        let knows = |name: &str| self.targets.iter().all(|target| target.holds(&format!("{name}=")));
        let all_hold = |placeholder: &str| self.targets.iter().all(|target| target.holds(placeholder));
        if (shape.objects > 1 || shape.misses > 0.0) && !all_hold("{object}") {
            return Err(needs("more than one object", "{object}"));
        }
        if shape.sizes != Shape::default().sizes && !all_hold("{size}") {
            return Err(needs("a distribution of sizes", "{size}"));
        }
        if shape.ranges > 0.0 && !knows("size") {
            return Err(needs("asking for parts", "size="));
        }
        if self.check.is_some() && !(knows("size") && knows("seed")) {
            return Err(needs("judging bodies", "size= and seed="));
        }
        if self.streams > 1 && !self.http2 {
            return Err(LoadError::Streams);
        }
        Ok(())
    }
}

/// A URL that can be asked, in the clear.
fn parse(url: &str) -> Result<Uri, LoadError> {
    let uri: Uri = url.parse().map_err(|_no_uri| LoadError::Url(url.to_owned()))?;
    let right = uri.scheme() == Some(&Scheme::HTTP) && uri.host().is_some();
    if right { Ok(uri) } else { Err(LoadError::Url(url.to_owned())) }
}
