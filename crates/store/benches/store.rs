//! What a hit and an insert cost, and what an object takes beyond its head and its body:
//! `cargo bench -p nearside-store`.
#![expect(clippy::print_stdout, reason = "a bench prints what it has measured")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "it may stop, and measures time"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use nearside_semantics::Timestamp;
use nearside_semantics::reuse::Freshness;
use nearside_semantics::vary::Vary;
use nearside_store::entry::head_weight;
use nearside_store::{Body, Entry, Head, Limits, Purge, Store};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);
const BODY_BYTES: usize = 1024;
const HITS: usize = 10_000_000;

fn key(n: usize) -> Box<[u8]> {
    format!("http\nexample.test\n/obj/{n}?q").into_bytes().into()
}

fn head() -> Head {
    let fields = ["content-type", "cache-control", "etag", "date", "last-modified", "content-length", "server", "x-id"];
    let value = HeaderValue::from_static("twenty bytes of text");
    let fields: HeaderMap = fields.iter().map(|name| (name.parse().unwrap(), value.clone())).collect();
    Head { status: StatusCode::OK, fields, wire: Bytes::from(vec![b'w'; 300]) }
}

fn put(store: &Store, key: &[u8]) {
    let head = head();
    let charge = store.reserve(key, &head, BODY_BYTES as u64, NOW);
    let body = Body::complete(Bytes::from(vec![7; BODY_BYTES]), Some(charge.unwrap()));
    let until = NOW.after(Duration::from_secs(3600));
    let freshness = Freshness {
        born: NOW,
        fresh_until: until,
        revalidate_until: until,
        error_until: until,
        no_cache: false,
        never_stale: false,
    };
    let entry = Entry {
        head: Arc::new(head),
        declared: freshness,
        response_time: NOW,
        retain_until: until,
        vary: Vary::None,
        variant: Box::default(),
        groups: store.join_groups([&b"site"[..], b"host"].into_iter(), store.epoch(), NOW),
        body,
    };
    store.insert(key, Arc::new(entry), NOW);
}

/// Looks up and takes what a hit takes: the first chunk and the head.
fn hit(store: &Store, key: &[u8]) -> usize {
    let slot = store.lookup(key, NOW).unwrap();
    let entry = slot.sole().unwrap();
    black_box(entry.head.wire.clone()).len() + black_box(entry.body.chunks().unwrap()[0].clone()).len()
}

fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn nanos_each(times: usize, mut work: impl FnMut(usize)) -> f64 {
    let start = Instant::now();
    (0..times).for_each(&mut work);
    start.elapsed().as_secs_f64() * 1e9 / times as f64
}

fn main() {
    memory(1_000_000);
    purges(1_000_000);
    for objects in [1_000, 100_000, 1_000_000] {
        times(objects);
    }
}

/// Each has been hit once: what is shared takes memory from then on.
fn memory(objects: usize) {
    let keys: Vec<_> = (0..objects).map(key).collect();
    let before = resident_bytes();
    let store = Store::new(Limits::for_memory(8 << 30));
    for key in &keys {
        put(&store, key);
        hit(&store, key);
    }
    let known = head_weight(&head()) + (BODY_BYTES + keys[0].len()) as u64;
    let beyond = (resident_bytes() - before) as f64 / objects as f64 - known as f64;
    println!("{objects:8} objects: {beyond:.0} bytes each beyond key, head and body ({known})");
}

/// What a purge of all of them costs, and what a hit on one that a soft one has met costs before and after.
fn purges(objects: usize) {
    let store = Store::new(Limits::for_memory(8 << 30));
    let keys: Vec<_> = (0..objects).map(key).collect();
    keys.iter().for_each(|key| put(&store, key));
    let freshness = |store: &Store, n: usize| {
        let slot = store.lookup(&keys[n % objects], NOW).unwrap();
        black_box(slot.sole().unwrap().freshness(NOW).is_some());
    };
    let before = nanos_each(HITS, |n| freshness(&store, n));
    let soft = nanos_each(1, |_| assert_eq!(store.purge_group(b"host", Purge::Soft { now: NOW }), objects));
    let after = nanos_each(HITS, |n| freshness(&store, n));
    let hard = nanos_each(1, |_| assert_eq!(store.purge_group(b"site", Purge::Hard), objects));
    let walk = nanos_each(1, |_| assert_eq!(store.count_keys(|key| key.starts_with(b"http")), objects));
    let reclaim = nanos_each(1, |_| assert_eq!(store.reclaim(NOW), objects));
    println!(
        "{objects:8} objects: purge soft {:.1} us, hard {:.1} us; a look at one {before:.0} ns, after a soft purge {after:.0} ns; \
         a walk {:.0} ms, to give the memory back {:.0} ms",
        soft / 1e3,
        hard / 1e3,
        walk / 1e6,
        reclaim / 1e6
    );
}

fn times(objects: usize) {
    let keys: Vec<_> = (0..objects * 2).map(key).collect();
    let (stored, others) = keys.split_at(objects);
    let store = Store::new(Limits::for_memory(8 << 30));
    stored.iter().for_each(|key| put(&store, key));
    let mut random = 1_usize;
    let lookup = nanos_each(HITS, |_| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        black_box(store.lookup(&stored[(random >> 33) % objects], NOW).is_some());
    });
    let full = Store::new(Limits::for_memory(store.resident_bytes()));
    drop(store);
    let empty = nanos_each(objects, |n| put(&full, &stored[n]));
    let insert = nanos_each(objects, |n| put(&full, &others[n]));
    println!("{objects:8} objects: lookup {lookup:.0} ns, fill {empty:.0} ns, fill when full {insert:.0} ns");
}
