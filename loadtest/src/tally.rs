//! What has been seen of a run, by one of its threads: counts, latencies, and how both went over time.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use http::response::Parts;

use crate::report::{HostReport, Moment, OriginReport, Percentile, latency};

/// Latencies of a part of the run need fewer digits than those of all of it.
const DIGITS_OF_MOMENTS: u8 = 2;
const DIGITS: u8 = 3;
/// Percentiles of a report.
const PERCENTILES: [f64; 14] = [0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 99.999, 100.0];

/// Counts of one thread, or of all.
pub(crate) struct Tally {
    /// How long a moment is.
    every: Duration,
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    pub(crate) wrong: u64,
    pub(crate) last_failure: Option<String>,
    pub(crate) bytes: u64,
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) cache: BTreeMap<String, u64>,
    pub(crate) micros: Histogram<u64>,
    hosts: Vec<Histogram<u64>>,
    moments: Vec<Counts>,
}

/// Counts of a moment.
struct Counts {
    answered: u64,
    failed: u64,
    hits: u64,
    told: u64,
    micros: Histogram<u64>,
}

/// A whole answer.
pub(crate) struct Answer {
    pub(crate) head: Parts,
    pub(crate) bytes: u64,
    /// Whether it is what was to come, where that is known.
    pub(crate) wrong: Option<String>,
}

impl Tally {
    pub(crate) fn new(hosts: usize, moments: usize, every: Duration) -> Self {
        let mut tally = Self {
            every,
            answered: 0,
            failed: 0,
            wrong: 0,
            last_failure: None,
            bytes: 0,
            statuses: BTreeMap::new(),
            cache: BTreeMap::new(),
            micros: histogram(DIGITS),
            hosts: Vec::new(),
            moments: Vec::new(),
        };
        tally.hosts.resize_with(hosts, || histogram(DIGITS_OF_MOMENTS));
        tally.moments.resize_with(moments.max(1), Counts::new);
        tally
    }

    /// Of a host; `at` is when it was due, since the run began to count.
    pub(crate) fn answer(&mut self, host: usize, at: Duration, span: Duration, answer: &Answer) {
        self.answered += 1;
        self.bytes += answer.bytes;
        *self.statuses.entry(answer.head.status.as_u16()).or_default() += 1;
        if let Some(why) = &answer.wrong {
            self.wrong += 1;
            self.last_failure = Some(why.clone());
        }
        // They grow as needed; saturating would cut off at their first, small range.
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX).max(1);
        let _ = self.micros.record(micros);
        if let Some(host) = self.hosts.get_mut(host) {
            let _ = host.record(micros);
        }
        let cache = answer.head.headers.get_all("cache-status").iter().next_back().and_then(|line| line.to_str().ok());
        let word = cache.map(verdict);
        if let Some(word) = word {
            match self.cache.get_mut(word) {
                Some(count) => *count += 1,
                None => drop(self.cache.insert(word.to_owned(), 1)),
            }
        }
        if let Some(moment) = self.moment(at) {
            moment.answered += 1;
            moment.told += u64::from(word.is_some());
            moment.hits += u64::from(word == Some("hit"));
            let _ = moment.micros.record(micros);
        }
    }

    pub(crate) fn fail(&mut self, at: Duration, why: String) {
        self.failed += 1;
        self.last_failure = Some(why);
        if let Some(moment) = self.moment(at) {
            moment.failed += 1;
        }
    }

    fn moment(&mut self, at: Duration) -> Option<&mut Counts> {
        let place = at.as_nanos() / self.every.as_nanos().max(1);
        // What was due last may round up.
        let last = self.moments.len() - 1;
        self.moments.get_mut(usize::try_from(place).unwrap_or(last).min(last))
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.failed += other.failed;
        self.wrong += other.wrong;
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
        for (mine, theirs) in self.hosts.iter_mut().zip(&other.hosts) {
            let _ = mine.add(theirs);
        }
        for (mine, theirs) in self.moments.iter_mut().zip(&other.moments) {
            mine.answered += theirs.answered;
            mine.failed += theirs.failed;
            mine.hits += theirs.hits;
            mine.told += theirs.told;
            let _ = mine.micros.add(&theirs.micros);
        }
    }

    /// Hits among the answers of which a cache has said what they are.
    pub(crate) fn hit_ratio(&self) -> Option<f64> {
        ratio(self.cache.get("hit").copied().unwrap_or(0), self.cache.values().sum())
    }

    pub(crate) fn hosts(&self, names: impl Iterator<Item = String>) -> BTreeMap<String, HostReport> {
        let report = |micros: &Histogram<u64>| HostReport { answered: micros.len(), latency_ms: latency(micros) };
        names.zip(self.hosts.iter().map(report)).collect()
    }

    pub(crate) fn percentiles(&self) -> Vec<Percentile> {
        let at = |percentile| Percentile { percentile, ms: ms(self.micros.value_at_quantile(percentile / 100.0)) };
        PERCENTILES.map(at).to_vec()
    }

    /// How it went over time; `origin` is what reached the origin in each moment.
    pub(crate) fn timeline(&self, span: Duration, origin: &[OriginReport]) -> Vec<Moment> {
        let mut begins = Duration::ZERO;
        let moment = |(place, counts): (usize, &Counts)| {
            let seconds = self.every.min(span.saturating_sub(begins)).as_secs_f64().max(f64::EPSILON);
            let at = begins.as_secs_f64();
            begins += self.every;
            #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
            let per_second = |count: u64| count as f64 / seconds;
            Moment {
                at_seconds: at,
                rate: per_second(counts.answered),
                failed: counts.failed,
                hit_ratio: ratio(counts.hits, counts.told),
                origin_rate: origin.get(place).map(|asked| per_second(asked.requests)),
                latency_ms: latency(&counts.micros),
            }
        };
        self.moments.iter().enumerate().map(moment).collect()
    }
}

impl Counts {
    fn new() -> Self {
        Self { answered: 0, failed: 0, hits: 0, told: 0, micros: histogram(DIGITS_OF_MOMENTS) }
    }
}

fn histogram(digits: u8) -> Histogram<u64> {
    #[expect(clippy::expect_used, reason = "the argument is one of two constants")]
    Histogram::new(digits).expect("invariant: up to five significant digits are allowed")
}

fn ratio(part: u64, all: u64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "counts of requests")]
    (all > 0).then(|| part as f64 / all as f64)
}

fn ms(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64() * 1000.0
}

/// `hit`, or the reason of the forward, of the member nearest to us.
fn verdict(line: &str) -> &str {
    let member = line.rsplit(',').next().unwrap_or(line);
    let mut parameters = member.split(';').map(str::trim);
    if parameters.clone().any(|parameter| parameter == "hit") {
        return "hit";
    }
    parameters.find_map(|parameter| parameter.strip_prefix("fwd=")).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_cache_counts() {
        assert_eq!(verdict("shield; hit; ttl=3, edge; fwd=uri-miss; stored"), "uri-miss");
        assert_eq!(verdict("shield; fwd=stale, edge; hit; ttl=1"), "hit");
        assert_eq!(verdict("edge; detail=x"), "other");
    }

    #[test]
    fn moments_are_told_apart_and_added() {
        let answer = |line: &'static str| Answer {
            head: http::Response::builder().header("cache-status", line).body(()).unwrap().into_parts().0,
            bytes: 10,
            wrong: None,
        };
        let (second, ms) = (Duration::from_secs(1), Duration::from_millis);
        let (mut one, mut other) = (Tally::new(1, 3, second), Tally::new(1, 3, second));
        one.answer(0, ms(500), ms(10), &answer("edge; hit"));
        one.answer(0, ms(1_500), ms(20), &answer("edge; fwd=uri-miss"));
        other.answer(0, ms(1_999), ms(30), &answer("edge; hit"));
        other.fail(ms(9_000), "gone".to_owned());
        one.add(other);
        let timeline = one.timeline(ms(2_500), &[1, 4, 1].map(|requests| OriginReport { requests, bytes: 0 }));
        let brief: Vec<_> = timeline.iter().map(|moment| (moment.rate, moment.hit_ratio, moment.origin_rate)).collect();
        assert_eq!(
            brief,
            [(1.0, Some(1.0), Some(1.0)), (2.0, Some(0.5), Some(4.0)), (0.0, None, Some(2.0))],
            "the last one was half as long"
        );
        assert_eq!(timeline.iter().map(|moment| moment.failed).collect::<Vec<_>>(), [0, 0, 1]);
        assert_eq!((one.answered, one.failed, one.bytes), (3, 1, 30));
        assert!((one.hit_ratio().unwrap() - 2.0 / 3.0).abs() < 1e-9);
        assert_eq!(one.hosts(["a".to_owned()].into_iter())["a"].answered, 3);
    }
}
