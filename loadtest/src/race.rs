//! Purges against readers: whether anybody gets an older version after its purge was acknowledged.
//!
//! Each key has a version at the origin, which tells it in `X-Version`. One after the other, a key is raised and purged; what is
//! acknowledged is a floor. Readers note the floor before they ask, and judge what they get by it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::Uri;
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::LoadError;
use crate::client::Client;
use crate::draw::Draw;

/// Whether the bytes of a body are those of a version.
pub type VersionCheck = Arc<dyn Fn(u64, &[u8]) -> bool + Send + Sync>;

/// Who reads what, where.
#[derive(Clone)]
pub struct Race {
    /// For each key, its URL at each of the caches.
    urls: Vec<Vec<Uri>>,
    readers: usize,
    check: VersionCheck,
}

/// How a key is purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raised {
    /// The key.
    pub key: usize,
    /// The number of the purge.
    pub number: usize,
}

/// What came of one purge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged: from now on nobody may get less than this version.
    Gone(u64),
    /// Acknowledged: from now on nobody may get less than this version as if it were fresh.
    Stale(u64),
    /// Not acknowledged.
    Unknown,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct RaceReport {
    /// Purges that were acknowledged.
    pub acknowledged: usize,
    /// Others.
    pub unknown: usize,
    /// Answers that were judged.
    pub answers: u64,
    /// Older versions after an acknowledgement that said they were gone, or that they were not fresh.
    pub old: u64,
    /// Bodies that are not of the version that their head tells.
    pub mixed: u64,
    /// No answer, or one without a version.
    pub failed: u64,
    /// An example of what should not be.
    pub example: Option<String>,
}

struct Floors {
    gone: AtomicU64,
    stale: AtomicU64,
}

struct Shared {
    race: Race,
    floors: Vec<Floors>,
    ended: AtomicBool,
    turn: AtomicUsize,
    answers: AtomicU64,
    old: AtomicU64,
    mixed: AtomicU64,
    failed: AtomicU64,
    example: Mutex<Option<String>>,
}

impl Race {
    /// So many readers of keys; of each the URL at every cache. `check` knows the bytes of each version.
    ///
    /// # Errors
    ///
    /// A URL that cannot be asked.
    pub fn new(urls: &[Vec<String>], readers: usize, check: VersionCheck) -> Result<Self, LoadError> {
        let parse = |urls: &Vec<String>| urls.iter().map(|url| crate::parse(url)).collect::<Result<Vec<_>, _>>();
        Ok(Self { urls: urls.iter().map(parse).collect::<Result<_, _>>()?, readers, check })
    }

    /// Runs so many purges, at moments that nobody knows, each by `purge`, which raises the version first.
    ///
    /// # Errors
    ///
    /// Whatever a purge cannot do at all.
    pub async fn run<E, F>(&self, purges: usize, purge: impl Fn(Raised) -> F) -> Result<RaceReport, E>
    where
        F: Future<Output = Result<Outcome, E>>,
    {
        let floors = || Floors { gone: AtomicU64::new(0), stale: AtomicU64::new(0) };
        let shared = Arc::new(Shared {
            race: self.clone(),
            floors: self.urls.iter().map(|_| floors()).collect(),
            ended: AtomicBool::new(false),
            turn: AtomicUsize::new(0),
            answers: AtomicU64::new(0),
            old: AtomicU64::new(0),
            mixed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            example: Mutex::new(None),
        });
        let readers: Vec<_> = (0..self.readers).map(|number| tokio::spawn(read(Arc::clone(&shared), number))).collect();
        let mut report = RaceReport::default();
        let result = async {
            let mut key = 0;
            for number in 0..purges {
                let drawn = draw(number as u64);
                // Every other time the same key at once again, while it is being fetched because of the time before.
                if number.is_multiple_of(2) {
                    sleep(Duration::from_micros(drawn % 5000)).await;
                    key = usize::try_from(drawn >> 32).unwrap_or(0) % self.urls.len().max(1);
                } else {
                    sleep(Duration::from_micros(drawn % 500)).await;
                }
                let outcome = purge(Raised { key, number }).await?;
                match (outcome, shared.floors.get(key)) {
                    (Outcome::Gone(version), Some(floors)) => {
                        floors.gone.fetch_max(version, Ordering::SeqCst);
                        floors.stale.fetch_max(version, Ordering::SeqCst);
                        report.acknowledged += 1;
                    }
                    (Outcome::Stale(version), Some(floors)) => {
                        floors.stale.fetch_max(version, Ordering::SeqCst);
                        report.acknowledged += 1;
                    }
                    _ => report.unknown += 1,
                }
            }
            Ok(())
        };
        let result = result.await;
        // A little longer, for what may come back late.
        sleep(Duration::from_millis(300)).await;
        shared.ended.store(true, Ordering::SeqCst);
        for reader in readers {
            let _ = reader.await;
        }
        result?;
        let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        report.answers = count(&shared.answers);
        (report.old, report.mixed, report.failed) = (count(&shared.old), count(&shared.mixed), count(&shared.failed));
        report.example = shared.example.lock().take();
        Ok(report)
    }
}

async fn read(shared: Arc<Shared>, number: usize) {
    let mut clients: Vec<Client> = Vec::new();
    let caches = shared.race.urls.first().map_or(0, Vec::len);
    clients.resize_with(caches, Client::default);
    while !shared.ended.load(Ordering::SeqCst) {
        let turn = draw((shared.turn.fetch_add(1, Ordering::Relaxed) as u64) << 8 | number as u64);
        let key = usize::try_from(turn >> 40).unwrap_or(0) % shared.race.urls.len().max(1);
        let cache = usize::try_from(turn & 0xffff).unwrap_or(0) % caches.max(1);
        let (Some(url), Some(client), Some(floors)) = (
            shared.race.urls.get(key).and_then(|urls| urls.get(cache)),
            clients.get_mut(cache),
            shared.floors.get(key),
        ) else {
            return;
        };
        // Before it asks: whatever was acknowledged until now.
        let (gone, stale) = (floors.gone.load(Ordering::SeqCst), floors.stale.load(Ordering::SeqCst));
        let mut body = Vec::new();
        let answer = client.get(url, |piece| body.extend_from_slice(piece)).await;
        let version = answer.as_ref().ok().and_then(|head| head.headers.get("x-version")?.to_str().ok()?.parse().ok());
        let (Ok(head), Some(version)) = (answer, version) else {
            shared.failed.fetch_add(1, Ordering::SeqCst);
            continue;
        };
        shared.answers.fetch_add(1, Ordering::SeqCst);
        let said =
            head.headers.get_all("cache-status").iter().next_back().and_then(|line| line.to_str().ok()).unwrap_or("");
        let is_old = version < gone || version < stale && !says_stale(said);
        if is_old {
            shared.old.fetch_add(1, Ordering::SeqCst);
            let text = format!(
                "{url}: version {version}, where {gone} was said to be the least, and {stale} of what is fresh ({said})"
            );
            shared.example.lock().get_or_insert(text);
        }
        if !(shared.race.check)(version, &body) {
            shared.mixed.fetch_add(1, Ordering::SeqCst);
            shared.example.lock().get_or_insert(format!("{url}: not the bytes of version {version} ({said})"));
        }
    }
}

/// Whether a member of `Cache-Status` says that what was sent is not fresh.
fn says_stale(line: &str) -> bool {
    let member = line.rsplit(',').next().unwrap_or(line);
    let ttl = member.split(';').filter_map(|parameter| parameter.trim().strip_prefix("ttl=")).next_back();
    ttl.and_then(|ttl| ttl.parse::<i64>().ok()).is_some_and(|ttl| ttl <= 0)
}

/// As good as drawn, and the same each time.
fn draw(number: u64) -> u64 {
    Draw(number).number()
}

#[cfg(test)]
mod tests {
    use nearside_origin_sim::{OriginSim, body};

    use super::*;

    #[test]
    fn what_is_stale_says_so() {
        assert!(says_stale("shield; hit; ttl=5, edge; hit; ttl=-3") && says_stale("edge; hit; ttl=0"));
        assert!(!says_stale("edge; hit; ttl=3") && !says_stale("edge; fwd=miss") && !says_stale(""));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_old_after_it_was_said_to_be_gone_is_found() {
        let origin = OriginSim::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let url = format!("http://{}/k?version&size=100&seed=5", origin.address());
        let check: VersionCheck = Arc::new(|version, bytes| body::differs(5 + (version << 32), 0, bytes).is_none());
        let race = Race::new(&[vec![url]], 2, check).unwrap();
        // The origin stays at version 1, whatever is said.
        let run = async |said: Outcome| race.run(3, |_| async move { Ok::<_, ()>(said) }).await.unwrap();
        let right = run(Outcome::Gone(1)).await;
        assert!(right.answers > 0 && (right.old, right.mixed, right.failed) == (0, 0, 0), "{right:?}");
        assert!(run(Outcome::Gone(2)).await.old > 0);
        assert!(run(Outcome::Stale(2)).await.old > 0, "it does not say that it is stale");
        assert_eq!(run(Outcome::Unknown).await.unknown, 3);
    }
}
