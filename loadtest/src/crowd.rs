//! A crowd: many clients, each on a connection of its own, that ask once and check every byte of what they get.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use tokio::time::{Instant, sleep_until, timeout};

use crate::LoadError;
use crate::client::Client;

/// Whether the bytes of a body that begin at a place are the right ones.
pub type Check = Arc<dyn Fn(u64, &[u8]) -> bool + Send + Sync>;

/// Who comes, when, and what for.
#[derive(Clone)]
pub struct Crowd {
    urls: Vec<Uri>,
    clients: usize,
    within: Duration,
    check: Check,
}

/// What a crowd got.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CrowdReport {
    /// Whole answers of the right bytes, with status 200.
    pub right: usize,
    /// Answers with a wrong byte.
    pub wrong: usize,
    /// No whole answer, or another status.
    pub failed: usize,
    /// Why, for the last that failed.
    pub last_failure: Option<String>,
    /// Bytes of bodies.
    pub bytes: u64,
    /// From the first request to the last answer.
    pub seconds: f64,
}

/// How it went for one client.
enum Got {
    Right(u64),
    Wrong,
    Failed(String),
}

impl Crowd {
    /// So many clients that come evenly spread over a time; the URLs take turns.
    ///
    /// # Errors
    ///
    /// A URL that cannot be asked.
    pub fn new(urls: &[String], clients: usize, within: Duration, check: Check) -> Result<Self, LoadError> {
        let urls = urls.iter().map(|url| crate::parse(url)).collect::<Result<_, _>>()?;
        Ok(Self { urls, clients, within, check })
    }

    /// Lets them come; an answer that takes longer than `patience` has failed.
    pub async fn run(&self, patience: Duration) -> CrowdReport {
        let start = Instant::now();
        let mut clients = tokio::task::JoinSet::new();
        for (number, url) in (0..self.clients).zip(self.urls.iter().cycle()) {
            let share = u32::try_from(self.clients).unwrap_or(u32::MAX).max(1);
            let comes = start + self.within / share * u32::try_from(number).unwrap_or(u32::MAX);
            let (url, check) = (url.clone(), Arc::clone(&self.check));
            clients.spawn(async move {
                sleep_until(comes).await;
                match timeout(patience, get(&url, &check)).await {
                    Ok(got) => got,
                    Err(_elapsed) => Got::Failed(format!("no whole answer in {} s", patience.as_secs())),
                }
            });
        }
        let mut report = CrowdReport::default();
        while let Some(got) = clients.join_next().await {
            match got {
                Ok(Got::Right(bytes)) => {
                    report.right += 1;
                    report.bytes += bytes;
                }
                Ok(Got::Wrong) => report.wrong += 1,
                Ok(Got::Failed(why)) => report.fail(why),
                Err(error) => report.fail(error.to_string()),
            }
        }
        report.seconds = start.elapsed().as_secs_f64();
        report
    }
}

impl CrowdReport {
    fn fail(&mut self, why: String) {
        self.failed += 1;
        self.last_failure = Some(why);
    }
}

async fn get(url: &Uri, check: &Check) -> Got {
    let mut client = Client::default();
    let (mut at, mut is_right) = (0, true);
    let answer = client.get(url, |bytes| {
        is_right &= check(at, bytes);
        at += bytes.len() as u64;
    });
    match answer.await {
        Err(why) => Got::Failed(why),
        Ok(head) if head.status != 200 => Got::Failed(format!("status {}", head.status)),
        Ok(_) if is_right => Got::Right(at),
        Ok(_) => Got::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use nearside_origin_sim::{OriginSim, body};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn every_client_checks_every_byte() {
        let origin = OriginSim::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let url = |query: &str| vec![format!("http://{}/crowd?{query}", origin.address())];
        let check: Check = Arc::new(|at, bytes| body::differs(3, at, bytes).is_none());
        let run = async |query: &str| {
            let crowd = Crowd::new(&url(query), 20, Duration::from_millis(50), Arc::clone(&check)).unwrap();
            let CrowdReport { right, wrong, failed, bytes, .. } = crowd.run(Duration::from_secs(10)).await;
            (right, wrong, failed, bytes)
        };
        assert_eq!(run("size=100000&seed=3").await, (20, 0, 0, 2_000_000));
        assert_eq!(run("size=100000&seed=4").await, (0, 20, 0, 0));
        assert_eq!(run("size=100000&seed=3&cut=5000").await, (0, 0, 20, 0));
        assert_eq!(run("size=10&seed=3&status=404").await, (0, 0, 20, 0));
    }
}
