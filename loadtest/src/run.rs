//! Running a load: a schedule, connections that take its requests in turn, and one tally.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, sleep_until, timeout};

use crate::report::{Report, latency};
use crate::{Load, LoadError};

/// An answer that takes longer counts as failed.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// What all connections of a run share.
struct Shared {
    load: Load,
    start: Instant,
    due: u64,
    /// The next request of the schedule.
    next: AtomicU64,
    progress: ProgressBar,
}

/// What one connection has seen.
struct Tally {
    answered: u64,
    failed: u64,
    last_failure: Option<String>,
    bytes: u64,
    statuses: BTreeMap<u16, u64>,
    cache: BTreeMap<String, u64>,
    micros: Histogram<u64>,
}

pub(crate) async fn run(load: &Load, progress: bool) -> Result<Report, LoadError> {
    let Some(first) = load.urls.first() else { return Err(LoadError::Url(String::new())) };
    connect(first).await.map_err(|cause| LoadError::Unreachable { url: first.to_string(), cause })?;
    let due =
        u64::try_from(load.duration.as_nanos() * u128::from(load.rate) / 1_000_000_000).unwrap_or(u64::MAX).max(1);
    let shared = Arc::new(Shared {
        load: load.clone(),
        start: Instant::now(),
        due,
        next: AtomicU64::new(0),
        progress: if progress { bar(due) } else { ProgressBar::hidden() },
    });
    let connections: Vec<_> = (0..load.connections).map(|_| tokio::spawn(connection(Arc::clone(&shared)))).collect();
    let mut total = Tally::new();
    for connection in connections {
        if let Ok(tally) = connection.await {
            total.add(tally);
        }
    }
    shared.progress.finish_and_clear();
    Ok(total.report(due, shared.start.elapsed()))
}

fn bar(due: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed} {wide_bar} {pos}/{len} requests, {per_sec}");
    ProgressBar::new(due).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Where a URL's host is reached.
pub(crate) async fn address(url: &Uri) -> std::io::Result<SocketAddr> {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    // Browsers take every name below localhost for this machine; so do we.
    let host = if host.ends_with(".localhost") { "127.0.0.1" } else { host };
    let mut addresses = lookup_host((host, url.port_u16().unwrap_or(80))).await?;
    addresses.next().ok_or_else(|| std::io::ErrorKind::NotFound.into())
}

async fn connect(url: &Uri) -> std::io::Result<TcpStream> {
    let socket = TcpStream::connect(address(url).await?).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Takes requests from the schedule until there are none left.
async fn connection(shared: Arc<Shared>) -> Tally {
    let mut tally = Tally::new();
    let mut client = Client::default();
    loop {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        if number >= shared.due {
            return tally;
        }
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(shared.load.rate);
        let leaves = shared.start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        sleep_until(leaves).await;
        let place = usize::try_from(number).unwrap_or(0) % shared.load.urls.len().max(1);
        let Some(url) = shared.load.urls.get(place) else { return tally };
        match timeout(ANSWER_MAX, ask(&mut client, url, &mut tally)).await {
            Ok(Ok(())) => tally.measured(leaves.elapsed()),
            Ok(Err(failure)) => tally.fail(failure),
            Err(_elapsed) => tally.fail(format!("no answer in {} s", ANSWER_MAX.as_secs())),
        }
        shared.progress.inc(1);
    }
}

async fn ask(client: &mut Client, url: &Uri, tally: &mut Tally) -> Result<(), String> {
    let mut bytes = 0;
    let head = client.get(url, |data| bytes += data.len() as u64).await?;
    tally.answer(&head, bytes);
    Ok(())
}

/// A client, and its connection while it has one.
#[derive(Default)]
pub(crate) struct Client {
    sender: Option<SendRequest<Empty<Bytes>>>,
}

impl Client {
    /// Asks for a URL, always of the same host, and hands each piece of the body to `piece`.
    pub(crate) async fn get(&mut self, url: &Uri, piece: impl FnMut(&[u8])) -> Result<http::response::Parts, String> {
        self.get_with(url, &[], piece).await
    }

    /// The same with fields of the request.
    pub(crate) async fn get_with(
        &mut self,
        url: &Uri,
        fields: &[(&str, &str)],
        mut piece: impl FnMut(&[u8]),
    ) -> Result<http::response::Parts, String> {
        // What fails, or is given up, leaves no connection behind.
        let mut sender = match self.sender.take() {
            Some(sender) => sender,
            None => {
                let socket = connect(url).await.map_err(|error| error.to_string())?;
                let (sender, connection) = handshake(TokioIo::new(socket)).await.map_err(|error| error.to_string())?;
                tokio::spawn(connection);
                sender
            }
        };
        sender.ready().await.map_err(|error| error.to_string())?;
        let target = url.path_and_query().map_or("/", |target| target.as_str());
        let host = url.authority().map_or("", |authority| authority.as_str());
        let request = fields.iter().fold(Request::get(target), |request, (name, value)| request.header(*name, *value));
        let request = request.header("host", host).body(Empty::new()).map_err(|error| error.to_string())?;
        let (head, mut body) = sender.send_request(request).await.map_err(|error| error.to_string())?.into_parts();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| error.to_string())?;
            frame.data_ref().into_iter().for_each(|data| piece(data));
        }
        if head.headers.get("connection").is_none_or(|value| !value.as_bytes().eq_ignore_ascii_case(b"close")) {
            self.sender = Some(sender);
        }
        Ok(head)
    }
}

impl Tally {
    fn new() -> Self {
        #[expect(clippy::expect_used, reason = "the argument is a constant")]
        let micros = Histogram::new(3).expect("invariant: three significant digits are allowed");
        Self {
            answered: 0,
            failed: 0,
            last_failure: None,
            bytes: 0,
            statuses: BTreeMap::new(),
            cache: BTreeMap::new(),
            micros,
        }
    }

    fn answer(&mut self, head: &http::response::Parts, bytes: u64) {
        let cache = head.headers.get_all("cache-status").iter().next_back().and_then(|v| v.to_str().ok());
        self.bytes += bytes;
        *self.statuses.entry(head.status.as_u16()).or_default() += 1;
        if let Some(word) = cache.map(verdict) {
            *self.cache.entry(word).or_default() += 1;
        }
    }

    fn measured(&mut self, span: Duration) {
        self.answered += 1;
        // It grows as needed; saturating would cut off at its first, small range.
        let _ = self.micros.record(u64::try_from(span.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    fn fail(&mut self, failure: String) {
        self.failed += 1;
        self.last_failure = Some(failure);
    }

    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.failed += other.failed;
        self.last_failure = other.last_failure.or(self.last_failure.take());
        self.bytes += other.bytes;
        for (code, count) in other.statuses {
            *self.statuses.entry(code).or_default() += count;
        }
        for (word, count) in other.cache {
            *self.cache.entry(word).or_default() += count;
        }
        // Both have the same precision and grow by themselves.
        let _ = self.micros.add(&other.micros);
    }

    fn report(self, due: u64, span: Duration) -> Report {
        let seconds = span.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
        let rate = self.answered as f64 / seconds.max(f64::EPSILON);
        Report {
            due,
            answered: self.answered,
            failed: self.failed,
            last_failure: self.last_failure,
            seconds,
            rate,
            bytes: self.bytes,
            statuses: self.statuses,
            cache: self.cache,
            latency_ms: latency(&self.micros),
        }
    }
}

/// `hit`, or the reason of the forward, of the member nearest to us.
fn verdict(line: &str) -> String {
    let member = line.rsplit(',').next().unwrap_or(line);
    let parameters: Vec<&str> = member.split(';').map(str::trim).collect();
    if parameters.contains(&"hit") {
        return "hit".to_owned();
    }
    parameters.iter().find_map(|p| p.strip_prefix("fwd=")).unwrap_or("other").to_owned()
}

#[cfg(test)]
mod tests {
    use nearside_origin_sim::OriginSim;

    use super::*;

    #[test]
    fn the_nearest_cache_counts() {
        assert_eq!(verdict("shield; hit; ttl=3, edge; fwd=uri-miss; stored"), "uri-miss");
        assert_eq!(verdict("shield; fwd=stale, edge; hit; ttl=1"), "hit");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_request_that_is_due_is_sent_and_counted() {
        let origin = OriginSim::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let url = |path: &str| format!("http://{}{path}", origin.address());
        let load = Load::new(&[url("/a?size=100"), url("/b?size=300")], 400, Duration::from_millis(500), 8).unwrap();
        let report = load.run(false).await.unwrap();
        assert_eq!((report.due, report.answered, report.failed), (200, 200, 0));
        assert_eq!(report.bytes, 100 * 100 + 100 * 300);
        assert_eq!(report.statuses, BTreeMap::from([(200, 200)]));
        assert_eq!(origin.ledger().read().total.requests, 200);
        assert!(report.latency_ms.p50 > 0.0 && report.latency_ms.p50 <= report.latency_ms.max);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_wait_behind_a_slow_answer_counts() {
        let origin = OriginSim::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let url = format!("http://{}/slow?ttfb=100", origin.address());
        let load = Load::new(&[url], 20, Duration::from_millis(500), 1).unwrap();
        let report = load.run(false).await.unwrap();
        assert_eq!(report.answered, 10);
        assert!(report.latency_ms.max > 400.0, "ten answers of 100 ms on one connection: {:?}", report.latency_ms);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn answers_that_break_off_are_failures() {
        let origin = OriginSim::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let url = format!("http://{}/cut?size=100000&cut=5000", origin.address());
        let report = Load::new(&[url], 50, Duration::from_millis(100), 2).unwrap().run(false).await.unwrap();
        assert_eq!((report.answered, report.failed), (0, 5));
        assert!(report.last_failure.is_some());
    }
}
