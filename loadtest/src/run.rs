//! Running a load: a schedule for each host, threads with connections that take its requests in turn, and one tally.
//!
//! The clock that wakes a connection is as coarse as a millisecond. A request that leaves a little late for that alone is timed from when
//! it left; one that found no connection free is timed from when it was due.

mod ask;
mod watch;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::uri::Authority;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use ask::ask;
use watch::{show_progress, watch_origin};

use crate::client::{Client, Common, Dial, address};
use crate::report::{OriginReport, Report, latency};
use crate::shape::{Shaped, Target};
use crate::tally::Tally;
use crate::{Load, LoadError, Rate};

/// An answer that takes longer counts as failed.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// What the clock may be late without that anybody waits for it.
const COARSENESS: Duration = Duration::from_millis(2);
/// After so long without an answer the connections of a closed loop try again.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);
const MOMENTS_MAX: u32 = 240;
const SECOND: Duration = Duration::from_secs(1);

/// What all connections of a run share.
struct Shared {
    load: Load,
    shaped: Shaped,
    dial: Dial,
    hosts: Vec<Host>,
    /// When requests begin to count.
    start: Instant,
    begin: Instant,
    answered: AtomicU64,
}

/// A host and its schedule.
struct Host {
    authority: Authority,
    targets: Vec<Target>,
    /// Between two requests.
    nanos: f64,
    /// The next request of the schedule.
    next: AtomicU64,
}

pub(crate) async fn run(load: &Load, progress: bool) -> Result<Report, LoadError> {
    let is_tls = load.targets.iter().any(Target::is_tls);
    let dial = Dial::new(load.http2, is_tls, &load.trust)?;
    let shaped = Shaped::new(&load.shape);
    let hosts = hosts(load)?;
    for host in &hosts {
        reach(host).await?;
    }
    if load.fill {
        fill(load, &shaped, &dial, &hosts).await?;
    }
    let begin = Instant::now();
    let start = begin + load.warm_up;
    let shared =
        Arc::new(Shared { load: load.clone(), shaped, dial, hosts, start, begin, answered: AtomicU64::new(0) });
    let (end, ended) = oneshot::channel();
    let origin = watch_origin(&shared, ended);
    let bar = show_progress(&shared, progress);
    let threads: Vec<_> = (0..load.threads.max(1)).map(|number| thread(&shared, number)).collect();
    let mut total = shared.tally();
    for thread in threads {
        if let Ok(tally) = thread?.await {
            total.add(tally);
        }
    }
    let span = shared.start.elapsed();
    // Whoever watches may have given up.
    let _ = end.send(());
    bar.abort();
    let origin = origin.await.unwrap_or_default();
    Ok(shared.report(&total, span, &origin))
}

/// The hosts of the targets, in their order.
fn hosts(load: &Load) -> Result<Vec<Host>, LoadError> {
    let mut hosts: Vec<Host> = Vec::new();
    for target in &load.targets {
        if let Some(host) = hosts.iter_mut().find(|host| host.authority == target.authority) {
            host.targets.push(target.clone());
            continue;
        }
        let (authority, targets) = (target.authority.clone(), vec![target.clone()]);
        hosts.push(Host { authority, targets, nanos: 0.0, next: AtomicU64::new(0) });
    }
    if load.connections < hosts.len() {
        return Err(LoadError::TooFew { connections: load.connections, hosts: hosts.len() });
    }
    if let Rate::PerSecond(rate) = load.rate {
        #[expect(clippy::cast_precision_loss, reason = "a few URLs")]
        let share = |host: &Host| host.targets.len() as f64 / load.targets.len() as f64;
        for host in &mut hosts {
            host.nanos = 1e9 / (f64::from(rate.max(1)) * share(host));
        }
    }
    Ok(hosts)
}

/// A server that cannot be reached at all is no load.
async fn reach(host: &Host) -> Result<(), LoadError> {
    let Some(target) = host.targets.first() else { return Ok(()) };
    let url = target.url(0, 0)?;
    let reached = async { tokio::net::TcpStream::connect(address(&url).await?).await };
    let reached = reached.await;
    reached.map(drop).map_err(|cause| LoadError::Unreachable { url: url.to_string(), cause })
}

/// Asks for each object at each host once.
async fn fill(load: &Load, shaped: &Shaped, dial: &Dial, hosts: &[Host]) -> Result<(), LoadError> {
    const AT_A_TIME: usize = 8;
    for host in hosts {
        let mut urls = Vec::new();
        for target in &host.targets {
            for object in 0..load.shape.objects {
                urls.push(shaped.url(target, u64::from(object))?);
            }
        }
        let urls = Arc::new(urls);
        let next = Arc::new(AtomicU64::new(0));
        let mut fillers = tokio::task::JoinSet::new();
        for _ in 0..AT_A_TIME {
            let (urls, next, fields) = (Arc::clone(&urls), Arc::clone(&next), load.fields.clone());
            let mut client = Client::new(dial.clone(), Common::default());
            fillers.spawn(async move {
                while let Some(url) =
                    urls.get(usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX))
                {
                    match timeout(ANSWER_MAX, client.get_with(url, &fields, |_| {})).await {
                        Ok(Ok(_head)) => {}
                        Ok(Err(why)) => return Some(format!("{url}: {why}")),
                        Err(_elapsed) => return Some(format!("{url}: no answer in {} s", ANSWER_MAX.as_secs())),
                    }
                }
                None
            });
        }
        if let Some(failure) = fillers.join_all().await.into_iter().flatten().next() {
            return Err(LoadError::Fill(failure));
        }
    }
    Ok(())
}

/// A thread with its share of the connections; what it has seen.
fn thread(shared: &Arc<Shared>, number: usize) -> Result<oneshot::Receiver<Tally>, LoadError> {
    let (done, tally) = oneshot::channel();
    let shared = Arc::clone(shared);
    let runtime = Builder::new_current_thread().enable_all().build().map_err(LoadError::System)?;
    let work = move || {
        // Nobody waits any more: nothing is lost.
        let _ = done.send(LocalSet::new().block_on(&runtime, connections(shared, number)));
    };
    std::thread::Builder::new().name(format!("load-{number}")).spawn(work).map_err(LoadError::System)?;
    Ok(tally)
}

async fn connections(shared: Arc<Shared>, thread: usize) -> Tally {
    let tally = Rc::new(RefCell::new(shared.tally()));
    let mut lanes: Vec<JoinHandle<()>> = Vec::new();
    for connection in (0..shared.load.connections).filter(|number| number % shared.load.threads.max(1) == thread) {
        let host = connection % shared.hosts.len().max(1);
        let common = Common::default();
        for _ in 0..shared.load.streams.max(1) {
            let client = Client::new(shared.dial.clone(), Arc::clone(&common));
            lanes.push(spawn_local(lane(Arc::clone(&shared), Rc::clone(&tally), host, client)));
        }
    }
    for lane in lanes {
        // One that panicked has counted what it has seen.
        let _ = lane.await;
    }
    let shared = shared.tally();
    Rc::try_unwrap(tally).map_or(shared, RefCell::into_inner)
}

/// Takes requests from the schedule of a host until there are none left.
async fn lane(shared: Arc<Shared>, tally: Rc<RefCell<Tally>>, place: usize, mut client: Client) {
    let Some(host) = shared.hosts.get(place) else { return };
    let ends = shared.start + shared.load.duration;
    loop {
        let number = host.next.fetch_add(1, Ordering::Relaxed);
        let due = match shared.load.rate {
            Rate::PerSecond(_) => shared.begin + nanos(number, host.nanos),
            Rate::Max => Instant::now(),
        };
        if due >= ends {
            return;
        }
        let left = leave(due).await;
        let target = usize::try_from(number).unwrap_or(0) % host.targets.len().max(1);
        let Some(target) = host.targets.get(target) else { return };
        let answer = match shared.shaped.asked(target, place, number) {
            Ok(asked) => timeout(ANSWER_MAX, ask(&shared, &mut client, &asked))
                .await
                .unwrap_or_else(|_elapsed| Err(format!("no answer in {} s", ANSWER_MAX.as_secs()))),
            Err(error) => Err(error.to_string()),
        };
        let failed = answer.is_err();
        if let Some(at) = due.checked_duration_since(shared.start) {
            match answer {
                Ok(answer) => tally.borrow_mut().answer(place, at, left.elapsed(), &answer),
                Err(why) => tally.borrow_mut().fail(at, why),
            }
        }
        shared.answered.fetch_add(1, Ordering::Relaxed);
        if failed && shared.load.rate == Rate::Max {
            sleep(PAUSE_AFTER_FAILURE).await;
        }
    }
}

/// Waits until a request is due; from when its time counts.
async fn leave(due: Instant) -> Instant {
    let now = Instant::now();
    if now >= due {
        return due;
    }
    sleep_until(due).await;
    let woken = Instant::now();
    if woken - due <= COARSENESS { woken } else { due }
}

fn nanos(number: u64, each: f64) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 requests")]
    let nanos = number as f64 * each;
    Duration::from_secs_f64(nanos / 1e9)
}

impl Shared {
    /// How long a moment of the report is.
    fn every(&self) -> Duration {
        SECOND.max(self.load.duration / MOMENTS_MAX)
    }

    fn moments(&self) -> usize {
        let moments = self.load.duration.as_nanos().div_ceil(self.every().as_nanos());
        usize::try_from(moments).unwrap_or(1).max(1)
    }

    fn tally(&self) -> Tally {
        Tally::new(self.hosts.len(), self.moments(), self.every())
    }

    /// How many requests were due while it counted.
    fn due(&self) -> Option<u64> {
        if self.load.rate == Rate::Max {
            return None;
        }
        let (begins, ends) = (self.load.warm_up, self.load.warm_up + self.load.duration);
        let of = |host: &Host| first_at(ends, host.nanos) - first_at(begins, host.nanos);
        Some(self.hosts.iter().map(of).sum())
    }

    fn report(&self, total: &Tally, span: Duration, origin: &[OriginReport]) -> Report {
        let seconds = span.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
        let rate = total.answered as f64 / seconds.max(f64::EPSILON);
        let mut asked = OriginReport::default();
        let moments: Vec<_> = origin.windows(2).filter_map(|two| Some(two.get(1)?.since(*two.first()?))).collect();
        for moment in &moments {
            asked.requests += moment.requests;
            asked.bytes += moment.bytes;
        }
        let names = self.hosts.iter().map(|host| host.authority.to_string());
        Report {
            due: self.due(),
            answered: total.answered,
            failed: total.failed,
            wrong: total.wrong,
            last_failure: total.last_failure.clone(),
            seconds,
            rate,
            bytes: total.bytes,
            statuses: total.statuses.clone(),
            cache: total.cache.clone(),
            hit_ratio: total.hit_ratio(),
            origin: (!moments.is_empty()).then_some(asked),
            latency_ms: latency(&total.micros),
            percentiles: total.percentiles(),
            hosts: if self.hosts.len() > 1 { total.hosts(names) } else { Default::default() },
            timeline: total.timeline(self.load.duration, &moments),
        }
    }
}

/// The number of the first request that is due at a time or later: as the lanes count.
fn first_at(time: Duration, each: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive count of requests")]
    let mut number = (time.as_secs_f64() * 1e9 / each) as u64;
    while number > 0 && nanos(number - 1, each) >= time {
        number -= 1;
    }
    while nanos(number, each) < time {
        number += 1;
    }
    number
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use nearside_origin_sim::{OriginSim, body};

    use super::*;
    use crate::{Popularity, Shape, Sizes};

    async fn origin() -> OriginSim {
        OriginSim::start("127.0.0.1:0".parse().unwrap()).await.unwrap()
    }

    fn load(origin: &OriginSim, paths: &[&str], rate: u32, ms: u64, connections: usize) -> Load {
        let target = |path: &&str| Target::parse(&format!("http://{}{path}", origin.address())).unwrap();
        let (rate, duration) = (Rate::PerSecond(rate), Duration::from_millis(ms));
        Load { rate, duration, connections, ..Load::new(paths.iter().map(target).collect()) }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_request_that_is_due_is_sent_and_counted() {
        let origin = origin().await;
        let mut load = load(&origin, &["/a?size=100", "/b?size=300"], 400, 500, 8);
        load.threads = 2;
        load.origin = Some(format!("http://{}", origin.address()).parse().unwrap());
        let report = load.run(false).await.unwrap();
        assert_eq!((report.due, report.answered, report.failed), (Some(200), 200, 0));
        assert_eq!(report.bytes, 100 * 100 + 100 * 300);
        assert_eq!(report.statuses, BTreeMap::from([(200, 200)]));
        assert_eq!(origin.ledger().read().total.requests, 200);
        // What had come before its ledger was read first is not in it.
        assert!(report.origin.is_some_and(|origin| (150..=200).contains(&origin.requests)), "{:?}", report.origin);
        assert!(report.latency_ms.p50 > 0.0 && report.latency_ms.p50 <= report.latency_ms.max);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn warming_up_and_filling_do_not_count() {
        let origin = origin().await;
        let mut load = load(&origin, &["/w/{object}?size={size}"], 100, 200, 4);
        load.warm_up = Duration::from_millis(300);
        load.fill = true;
        load.shape = Shape { objects: 50, ..Shape::default() };
        let report = load.run(false).await.unwrap();
        assert_eq!((report.due, report.answered), (Some(20), 20));
        let page = origin.ledger().read();
        assert_eq!((page.total.requests, page.paths.len()), (50 + 30 + 20, 50));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_wait_behind_a_slow_answer_counts() {
        let origin = origin().await;
        let report = load(&origin, &["/slow?ttfb=100"], 20, 500, 1).run(false).await.unwrap();
        assert_eq!(report.answered, 10);
        assert!(report.latency_ms.max > 400.0, "ten answers of 100 ms on one connection: {:?}", report.latency_ms);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn as_many_as_are_answered() {
        let origin = origin().await;
        // 3 s, so that a busy machine also gets a few answers.
        let mut load = load(&origin, &["/max?ttfb=20"], 1, 3000, 2);
        load.rate = Rate::Max;
        let report = load.run(false).await.unwrap();
        assert_eq!(report.due, None);
        assert!((4..=302).contains(&report.answered), "two at a time of 20 ms each: {}", report.answered);
        assert!(report.latency_ms.p50 >= 20.0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn answers_that_break_off_are_failures() {
        let origin = origin().await;
        let report = load(&origin, &["/cut?size=100000&cut=5000"], 50, 100, 2).run(false).await.unwrap();
        assert_eq!((report.answered, report.failed), (0, 5));
        assert!(report.last_failure.is_some());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn bodies_and_parts_are_judged() {
        let origin = origin().await;
        let judged = async |path: &str, ranges: f64| {
            let mut load = load(&origin, &[path], 200, 200, 4);
            let (popularity, sizes) = (Popularity::Zipf(0.9), Sizes::LogNormal { median: 5_000, spread: 1.0 });
            load.shape = Shape { objects: 20, popularity, sizes, ranges, ..Shape::default() };
            load.check = Some(Arc::new(|seed, at, bytes| body::differs(seed, at, bytes).is_none()));
            let report = load.run(false).await.unwrap();
            (report.answered, report.wrong, report.statuses)
        };
        let right = "/o/{object}?size={size}&seed={object}&etag=a";
        assert_eq!(judged(right, 0.0).await, (40, 0, BTreeMap::from([(200, 40)])));
        assert_eq!(judged(right, 1.0).await, (40, 0, BTreeMap::from([(206, 40)])));
        // The origin takes the last of two.
        assert_eq!(judged("/o/{object}?seed={object}&size={size}&seed=9999", 0.0).await.1, 40, "other bytes");
        assert_eq!(judged("/o/{object}?seed={object}&size={size}&size=3", 0.0).await.1, 40, "fewer bytes");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_does_not_fit_together_is_refused() {
        let origin = origin().await;
        let refused = async |change: &dyn Fn(&mut Load)| {
            let mut load = load(&origin, &["/x"], 10, 100, 1);
            change(&mut load);
            load.run(false).await.unwrap_err().to_string()
        };
        assert!(refused(&|load| load.shape.objects = 2).await.contains("{object}"));
        assert!(refused(&|load| load.shape.misses = 0.1).await.contains("{object}"));
        assert!(refused(&|load| load.shape.sizes = Sizes::Fixed(7)).await.contains("{size}"));
        assert!(refused(&|load| load.shape.ranges = 0.1).await.contains("size="));
        assert!(refused(&|load| load.check = Some(Arc::new(|_, _, _| true))).await.contains("seed="));
        assert!(refused(&|load| load.streams = 2).await.contains("HTTP/2"));
        assert!(
            refused(&|load| load.targets.push(Target::parse("http://127.0.0.1:1/").unwrap())).await.contains("few")
        );
        let nobody = |load: &mut Load| load.targets = vec![Target::parse("http://127.0.0.1:1/").unwrap()];
        assert!(refused(&nobody).await.contains("cannot be reached"));
    }
}
