//! Traces: read from access logs, or made.

use std::collections::HashMap;
use std::io::BufRead;

use serde::Deserialize;

use crate::draw::{Draw, Ranks};

/// A request of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requested {
    /// The number of the object.
    pub object: u32,
    /// Its bytes.
    pub bytes: u64,
}

/// Requests in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trace {
    /// All of them.
    pub requests: Vec<Requested>,
}

/// Why a log is no trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It cannot be read.
    #[error("line {line}: {cause}")]
    Read {
        /// Which line, from 1.
        line: usize,
        /// Why not.
        cause: std::io::Error,
    },
    /// A line that is none of an access log in JSON.
    #[error("line {line} is none of an access log in JSON (format = \"json\"): {cause}")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// Why not.
        cause: serde_json::Error,
    },
    /// Nothing in it was a GET that was answered whole.
    #[error("there is no GET in it that was answered with 200")]
    Empty,
}

/// What matters of a line of the access log.
#[derive(Debug, Deserialize)]
struct Line {
    method: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    path: String,
    status: u16,
    bytes: u64,
}

impl Trace {
    /// The GETs of an access log that were answered with 200. As queries are not logged, all of a path are one object; its size is the
    /// largest that was sent.
    ///
    /// # Errors
    ///
    /// Something in it is no such line, or there is nothing in it.
    pub fn of_log(log: impl BufRead) -> Result<Self, TraceError> {
        let mut numbers: HashMap<String, u32> = HashMap::new();
        let mut sizes: Vec<u64> = Vec::new();
        let mut order = Vec::new();
        for (place, line) in log.lines().enumerate() {
            let text = line.map_err(|cause| TraceError::Read { line: place + 1, cause })?;
            if text.trim().is_empty() {
                continue;
            }
            let line: Line =
                serde_json::from_str(&text).map_err(|cause| TraceError::Line { line: place + 1, cause })?;
            if line.method != "GET" || line.status != 200 {
                continue;
            }
            let new = u32::try_from(sizes.len()).unwrap_or(u32::MAX);
            let object = *numbers.entry(format!("{}{}", line.host, line.path)).or_insert(new);
            if object == new {
                sizes.push(0);
            }
            if let Some(size) = usize::try_from(object).ok().and_then(|place| sizes.get_mut(place)) {
                *size = (*size).max(line.bytes).max(1);
            }
            order.push(object);
        }
        let size = |object: u32| usize::try_from(object).ok().and_then(|place| sizes.get(place)).copied().unwrap_or(1);
        let requests: Vec<_> = order.into_iter().map(|object| Requested { object, bytes: size(object) }).collect();
        if requests.is_empty() { Err(TraceError::Empty) } else { Ok(Self { requests }) }
    }

    /// The bytes of all that is asked for, each object once.
    #[must_use]
    pub fn footprint(&self) -> u64 {
        self.sizes().values().sum()
    }

    /// How many objects are asked for.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.sizes().len()
    }

    fn sizes(&self) -> HashMap<u32, u64> {
        self.requests.iter().map(|one| (one.object, one.bytes)).collect()
    }
}

/// How a trace is made. The same numbers make the same trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Made {
    /// Requests in all.
    pub requests: usize,
    /// Objects that are popular by rank.
    pub objects: u32,
    /// The n-th is asked for in proportion to 1/n to this power (Zipf); 0: all alike.
    pub skew: f64,
    /// The share of requests for what is asked for once.
    pub once: f64,
    /// After so many requests somebody asks for a run of objects in their order; 0: nobody does.
    pub scan_every: usize,
    /// How many.
    pub scan_length: usize,
    /// After so many requests the most popular object becomes the least popular one; 0: never.
    pub drift_every: usize,
    /// The median size, in bytes.
    pub size_median: f64,
    /// The spread of the logarithm of sizes (log-normal); 0: all alike.
    pub size_spread: f64,
    /// Another number, another trace.
    pub seed: u64,
}

impl Default for Made {
    fn default() -> Self {
        Self {
            requests: 1_000_000,
            objects: 100_000,
            skew: 0.9,
            once: 0.1,
            scan_every: 50_000,
            scan_length: 1_000,
            drift_every: 1_000,
            size_median: 16_384.0,
            size_spread: 1.5,
            seed: 1,
        }
    }
}

impl Made {
    /// The trace.
    #[must_use]
    pub fn trace(&self) -> Trace {
        let mut draw = Draw(self.seed);
        let objects = self.objects.max(1);
        let popularity = Ranks::zipf(objects, self.skew);
        let (mut once, mut shift, mut scan) = (objects, 0_u32, 0..0);
        let mut requests = Vec::with_capacity(self.requests);
        for place in 0..self.requests {
            if self.drift_every > 0 && place > 0 && place % self.drift_every == 0 {
                shift = shift.wrapping_add(1);
            }
            if self.scan_every > 0 && place > 0 && place % self.scan_every == 0 {
                scan = 0..self.scan_length;
            }
            let object = if let Some(step) = scan.next() {
                u32::try_from(step).unwrap_or(0) % objects
            } else if draw.part() < self.once {
                once = once.saturating_add(1);
                once
            } else {
                (popularity.draw(&mut draw) + shift) % objects
            };
            requests.push(Requested { object, bytes: self.size(object) });
        }
        Trace { requests }
    }

    /// The size of an object: the same whenever it is asked for.
    fn size(&self, object: u32) -> u64 {
        let mut draw = Draw(self.seed ^ (u64::from(object) << 20) ^ 0x5eed);
        draw.log_normal(self.size_median, self.size_spread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_become_traces_and_what_is_no_log_says_where() {
        let log = "{\"method\":\"GET\",\"host\":\"a\",\"path\":\"/x\",\"status\":200,\"bytes\":10}\n\n\
            {\"method\":\"POST\",\"host\":\"a\",\"path\":\"/x\",\"status\":200,\"bytes\":10}\n\
            {\"method\":\"GET\",\"host\":\"a\",\"path\":\"/y\",\"status\":200,\"bytes\":5}\n\
            {\"method\":\"GET\",\"host\":\"a\",\"path\":\"/x\",\"status\":200,\"bytes\":30}\n\
            {\"method\":\"GET\",\"host\":\"a\",\"path\":\"/x\",\"status\":304,\"bytes\":0}\n";
        let trace = Trace::of_log(log.as_bytes()).unwrap();
        let one = |object, bytes| Requested { object, bytes };
        assert_eq!(trace.requests, [one(0, 30), one(1, 5), one(0, 30)]);
        assert_eq!((trace.footprint(), trace.objects()), (35, 2));
        let wrong = Trace::of_log("{\"method\":\"GET\"}\n".as_bytes()).unwrap_err().to_string();
        assert!(wrong.starts_with("line 1 is none of an access log in JSON"), "{wrong}");
        assert!(matches!(Trace::of_log("".as_bytes()), Err(TraceError::Empty)));
    }

    #[test]
    fn made_traces_are_what_was_ordered() {
        let made = Made { requests: 100_000, objects: 1_000, once: 0.2, drift_every: 0, ..Made::default() };
        let trace = made.trace();
        assert_eq!(trace, made.trace(), "the same numbers, the same trace");
        assert_ne!(trace, Made { seed: 2, ..made }.trace());
        let count = |wanted: &dyn Fn(u32) -> bool| trace.requests.iter().filter(|one| wanted(one.object)).count();
        let once = count(&|object| object > 1_000);
        assert!((18_000..22_000).contains(&once), "a fifth: {once}");
        let (first, tenth) = (count(&|object| object == 0), count(&|object| object == 9));
        let ratio = f64::from(u32::try_from(first).unwrap()) / f64::from(u32::try_from(tenth).unwrap());
        assert!((ratio - 10_f64.powf(0.9)).abs() < 1.0, "Zipf: {ratio}");
        let mut sizes: Vec<u64> = trace.sizes().into_values().collect();
        sizes.sort_unstable();
        let median = sizes[sizes.len() / 2];
        assert!((14_000..19_000).contains(&median), "{median}");
    }
}
