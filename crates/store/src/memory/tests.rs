use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use nearside_semantics::reuse::Freshness;
use nearside_semantics::vary::Vary;

use super::*;
use crate::body::Body;
use crate::entry::Head;

const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

fn entry(body: Arc<Body>, vary: &str, request: &[(&'static str, &str)]) -> Arc<Entry> {
    let mut fields = HeaderMap::new();
    if !vary.is_empty() {
        fields.insert("vary", vary.parse().unwrap());
    }
    let vary = Vary::of(&fields, &[]);
    let mut variant = Vec::new();
    vary.variant_key(&map(request), &mut variant);
    let until = NOW.after(Duration::from_secs(60));
    Arc::new(Entry {
        head: Arc::new(Head { status: StatusCode::OK, fields, wire: Bytes::from_static(b"HTTP/1.1 200 OK\r\n") }),
        freshness: Freshness {
            born: NOW,
            fresh_until: until,
            revalidate_until: until,
            error_until: until,
            no_cache: false,
            never_stale: false,
        },
        response_time: NOW,
        retain_until: until,
        vary,
        variant: variant.into(),
        groups: Membership::default(),
        body,
    })
}

fn head() -> Head {
    Head { status: StatusCode::OK, fields: HeaderMap::new(), wire: Bytes::new() }
}

fn map(lines: &[(&'static str, &str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn put(store: &Store, key: &[u8], bytes: usize) -> bool {
    let Some(charge) = store.reserve(&head(), bytes as u64) else { return false };
    let body = Body::complete(Bytes::from(vec![7; bytes]), Some(charge));
    store.insert(key, entry(body, "", &[]), NOW);
    true
}

/// What moka has evicted, it drops once no other thread can still be reading its table: soon, not at once.
fn settle_until(store: &Store, is_so: impl Fn(u64) -> bool) {
    for _ in 0..100_000 {
        store.settle();
        if is_so(store.resident_bytes()) {
            return;
        }
        std::thread::yield_now();
    }
}

#[test]
fn resident_bytes_stay_within_the_memory_when_three_times_as_much_is_stored() {
    let memory = 16 << 20;
    let store = Store::new(Limits::for_memory(memory));
    for n in 0..768 {
        assert!(put(&store, format!("key {n}").as_bytes(), 64 << 10), "room is made for object {n}");
        assert!(store.resident_bytes() <= memory, "object {n}");
    }
    settle_until(&store, |resident| resident <= memory - memory / 4);
    let resident = store.resident_bytes();
    assert!(resident <= memory - memory / 4 && resident > memory / 2, "{resident} of {memory}");
}

#[test]
fn resident_bytes_stay_within_the_memory_when_one_key_is_filled_again_and_again() {
    let memory = 16 << 20;
    let store = Store::new(Limits::for_memory(memory));
    for round in 0..768 {
        assert!(put(&store, b"the key", 64 << 10), "round {round}");
        assert!(store.resident_bytes() <= memory);
    }
    settle_until(&store, |resident| resident < 128 << 10);
    assert!(store.resident_bytes() < 128 << 10, "one object is left: {}", store.resident_bytes());
    assert_eq!(store.objects(), 1);
}

#[test]
fn what_is_on_its_way_and_what_lingers_with_readers_counts() {
    let memory = 1 << 20;
    let store = Store::new(Limits::for_memory(memory));
    let charges: Vec<_> = std::iter::from_fn(|| store.reserve(&head(), 100 << 10)).collect();
    assert_eq!(charges.len(), 10, "ten times 100 KiB and overhead fit into 1 MiB");
    drop(charges);
    assert!(put(&store, b"a", 200 << 10));
    let reader = store.lookup(b"a").unwrap().sole().unwrap().body.reader(0);
    assert_eq!(store.remove(b"a"), 1);
    store.settle();
    assert!(store.resident_bytes() >= 200 << 10, "the reader still holds it");
    drop(reader);
    settle_until(&store, |resident| resident == 0);
    assert_eq!(store.resident_bytes(), 0);
}

#[test]
fn an_object_over_the_limit_gets_no_room() {
    let store = Store::new(Limits { object_bytes_max: 1000, ..Limits::for_memory(1 << 20) });
    assert!(store.reserve(&head(), 1000).is_some());
    assert!(store.reserve(&head(), 1001).is_none());
}

#[test]
fn variants_live_side_by_side_up_to_their_limit() {
    let store = Store::new(Limits { variants_max: 3, ..Limits::for_memory(1 << 20) });
    for language in ["de", "en", "fr", "nl"] {
        let body = Body::complete(Bytes::from(language), None);
        store.insert(b"k", entry(body, "accept-language", &[("accept-language", language)]), NOW);
    }
    let slot = store.lookup(b"k").unwrap();
    let found = |language: &str| {
        slot.select(&map(&[("accept-language", language)])).map(|e| e.body.chunks().unwrap()[0].clone())
    };
    assert_eq!(found("nl"), Some(Bytes::from("nl")));
    assert_eq!(found("en"), Some(Bytes::from("en")));
    assert_eq!(found("de"), None, "the oldest fell out");
    assert_eq!((slot.variants(), store.variants_dropped()), (3, 1));
    assert!(slot.select(&HeaderMap::new()).is_none(), "absent matches only absent");
    assert!(slot.sole().is_none());
}

#[test]
fn a_response_that_varies_otherwise_ends_the_older_variants() {
    let store = Store::new(Limits::for_memory(1 << 20));
    let body = |text: &'static str| Body::complete(Bytes::from(text), None);
    store.insert(b"k", entry(body("old"), "a", &[("a", "1")]), NOW);
    store.insert(b"k", entry(body("new"), "b", &[("b", "1")]), NOW);
    let slot = store.lookup(b"k").unwrap();
    assert_eq!(slot.variants(), 1);
    assert!(slot.select(&map(&[("a", "1")])).is_none());
}

#[test]
fn an_uncacheable_key_is_forgotten_when_something_is_stored_or_purged() {
    let store = Store::new(Limits::for_memory(1 << 20));
    for forget in [|s: &Store| assert!(put(s, b"k", 10)), |s: &Store| assert_eq!(s.remove(b"k"), 1)] {
        store.remember_uncacheable(b"k");
        assert!(store.is_uncacheable(b"k"));
        forget(&store);
        assert!(!store.is_uncacheable(b"k"));
    }
}
