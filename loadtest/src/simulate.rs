//! Hit ratios without traffic: a trace, replayed through what the store keeps, through LRU, and through an optimum that knows what
//! comes.
//!
//! The optimum (Belady: what is asked for again last goes first) is one for objects of equal size. Where sizes differ it looks at when and
//! not at how large: better could be done, so that it is a mark to measure by, and no bound. All policies are asked for the same requests in the same order, and nothing expires.

mod optimum;
mod plot;
mod trace;

use std::collections::{BTreeMap, HashMap};

use nearside_store::Policy;
use serde::Serialize;

use optimum::Optimum;
pub use plot::plot;
pub use trace::{Made, Requested, Trace, TraceError};

/// Objects in a shard of the store where it has room for many; see ADR 5.
const SHARD_OBJECTS: usize = 4096;

/// What one policy has done with one size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ratio {
    /// The size of the cache, in bytes.
    pub bytes: u64,
    /// The size as a share of all that was asked for.
    pub share: f64,
    /// `store`, `lru` or `optimum`.
    pub policy: &'static str,
    /// The share of requests that were hits.
    pub requests: f64,
    /// The share of bytes that came from the cache.
    pub traffic: f64,
}

/// Asks a policy for a request, of which this is the place in the trace; whether it was a hit.
type Step<'p> = &'p mut dyn FnMut(usize, Requested) -> bool;

/// What is left of a trace for whoever stands behind so many caches like the store, each of this share of all that is asked for: each
/// request comes to one of them by chance, and goes on if that misses.
#[must_use]
pub fn behind(trace: &Trace, caches: usize, share: f64) -> Trace {
    let bytes = size(trace, share);
    let fronts: Vec<_> = (0..caches.max(1)).map(|_| Policy::new(bytes, shards(trace))).collect();
    let misses = |(place, one): (usize, &Requested)| {
        // Neighbours in the trace come from anywhere.
        let front = place.wrapping_mul(0x9e37_79b9) >> 7;
        let front = fronts.get(front % fronts.len())?;
        (!front.request(&one.object.to_be_bytes(), one.bytes)).then_some(*one)
    };
    Trace { requests: trace.requests.iter().enumerate().filter_map(misses).collect() }
}

/// A share of all that is asked for, in bytes.
fn size(trace: &Trace, share: f64) -> u64 {
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size")]
    let bytes = (trace.footprint() as f64 * share).max(1.0) as u64;
    bytes
}

fn shards(trace: &Trace) -> usize {
    (trace.objects() / SHARD_OBJECTS).clamp(1, 64)
}

/// Replays a trace through all policies, at sizes that are these shares of all that is asked for in it.
#[must_use]
pub fn simulate(trace: &Trace, shares: &[f64]) -> Vec<Ratio> {
    let mut ratios = Vec::new();
    for share in shares {
        let bytes = size(trace, *share);
        let store = Policy::new(bytes, shards(trace));
        let (mut lru, mut optimum) = (Lru::new(bytes), Optimum::new(bytes, trace));
        let policies: [(&'static str, Step<'_>); 3] = [
            ("store", &mut |_, one| store.request(&one.object.to_be_bytes(), one.bytes)),
            ("lru", &mut |_, one| lru.request(one)),
            ("optimum", &mut |place, one| optimum.request(place, one)),
        ];
        for (policy, request) in policies {
            let (requests, traffic) = replay(trace, request);
            ratios.push(Ratio { bytes, share: *share, policy, requests, traffic });
        }
    }
    ratios
}

/// Hits by requests and by bytes. The first tenth only fills the cache.
fn replay(trace: &Trace, request: Step<'_>) -> (f64, f64) {
    let warm = trace.requests.len() / 10;
    let (mut hits, mut all, mut hit_bytes, mut all_bytes) = (0_u64, 0_u64, 0_u64, 0_u64);
    for (place, one) in trace.requests.iter().enumerate() {
        let hit = request(place, *one);
        if place >= warm {
            all += 1;
            all_bytes += one.bytes;
            hits += u64::from(hit);
            hit_bytes += if hit { one.bytes } else { 0 };
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "counts")]
    let part = |some: u64, all: u64| some as f64 / (all as f64).max(1.0);
    (part(hits, all), part(hit_bytes, all_bytes))
}

/// What was used longest ago goes first.
struct Lru {
    capacity: u64,
    used: u64,
    clock: u64,
    /// The moment of its last use, and its bytes.
    objects: HashMap<u32, (u64, u64)>,
    order: BTreeMap<u64, u32>,
}

impl Lru {
    fn new(capacity: u64) -> Self {
        Self { capacity, used: 0, clock: 0, objects: HashMap::new(), order: BTreeMap::new() }
    }

    fn request(&mut self, one: Requested) -> bool {
        self.clock += 1;
        if let Some((moment, _)) = self.objects.get_mut(&one.object) {
            self.order.remove(moment);
            *moment = self.clock;
            self.order.insert(self.clock, one.object);
            return true;
        }
        if one.bytes <= self.capacity {
            while self.used + one.bytes > self.capacity {
                let Some((_, oldest)) = self.order.pop_first() else { break };
                self.used -= self.objects.remove(&oldest).map_or(0, |(_, bytes)| bytes);
            }
            self.used += one.bytes;
            self.objects.insert(one.object, (self.clock, one.bytes));
            self.order.insert(self.clock, one.object);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(objects: &[u32]) -> Trace {
        Trace { requests: objects.iter().map(|object| Requested { object: *object, bytes: 1 }).collect() }
    }

    #[test]
    fn lru_and_the_optimum_do_what_their_names_say() {
        // The classic: a loop that is one longer than the cache is LRU's worst case.
        let looped = trace(&[1, 2, 3].repeat(10));
        let hits = |request: &mut dyn FnMut(usize, Requested) -> bool| {
            looped.requests.iter().enumerate().filter(|(place, one)| request(*place, **one)).count()
        };
        let mut lru = Lru::new(2);
        assert_eq!(hits(&mut |_, one| lru.request(one)), 0);
        let mut optimum = Optimum::new(2, &looped);
        assert_eq!(
            hits(&mut |place, one| optimum.request(place, one)),
            18,
            "two of three stay, and are hits nine times"
        );
    }

    #[test]
    fn behind_caches_comes_what_they_have_missed() {
        let asked = trace(&[1, 1, 2, 1, 2]);
        let objects = |trace: &Trace| trace.requests.iter().map(|one| one.object).collect::<Vec<_>>();
        assert_eq!(objects(&behind(&asked, 1, 1.0)), [1, 2], "one cache with room for all misses each once");
        let made = Made { requests: 20_000, objects: 500, ..Made::default() }.trace();
        let (one, six) = (behind(&made, 1, 0.1).requests.len(), behind(&made, 6, 0.1).requests.len());
        assert!(one < six && six < made.requests.len(), "{one} {six}");
    }

    #[test]
    fn nothing_beats_the_optimum_and_all_agree_where_there_is_room_for_all() {
        let made = Made { requests: 60_000, objects: 3_000, ..Made::default() };
        let trace = Made { size_spread: 0.0, ..made }.trace();
        for ratio in simulate(&trace, &[0.01, 0.1, 0.5]).chunks(3) {
            let [store, lru, optimum] = ratio else { panic!("three policies") };
            assert!(optimum.requests >= store.requests && optimum.requests >= lru.requests, "{ratio:?}");
            assert!(store.requests > 0.0 && store.traffic > 0.0, "{ratio:?}");
        }
        let picture = plot(&simulate(&trace, &[0.01, 0.1])).unwrap();
        assert!(
            picture.starts_with("<svg") && picture.contains("Nearside") && picture.contains("polyline"),
            "{picture}"
        );
        assert!(plot(&simulate(&trace, &[0.1])).is_err(), "one size is no line");
        let all = simulate(&trace, &[1.5]);
        assert!(all.windows(2).all(|two| (two[0].requests - two[1].requests).abs() < 1e-9), "{all:?}");
    }
}
