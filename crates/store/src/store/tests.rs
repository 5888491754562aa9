use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use nearside_semantics::query::SearchVariance;
use nearside_semantics::reuse::Freshness;
use nearside_semantics::vary::Vary;

use super::*;
use crate::PartialRequest;
use crate::body::Body;
use crate::entry::Head;

pub(super) const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

pub(super) fn entry(body: Arc<Body>, vary: &str, request: &[(&'static str, &str)]) -> Arc<Entry> {
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
        declared: Freshness {
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

pub(super) fn head() -> Head {
    Head { status: StatusCode::OK, fields: HeaderMap::new(), wire: Bytes::new() }
}

fn map(lines: &[(&'static str, &str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn put(store: &Store, key: &[u8], bytes: usize) -> bool {
    let Some(charge) = store.reserve(key, &head(), bytes as u64, NOW) else { return false };
    let body = Body::complete(Bytes::from(vec![7; bytes]), Some(charge));
    store.insert(key, entry(body, "", &[]), NOW);
    true
}

#[test]
fn resident_bytes_stay_within_the_memory_when_three_times_as_much_is_stored() {
    let memory = 16 << 20;
    let store = Store::new(Limits::for_memory(memory));
    for n in 0..768 {
        assert!(put(&store, format!("key {n}").as_bytes(), 64 << 10), "room is made for object {n}");
        assert!(store.resident_bytes() <= memory, "object {n}");
    }
    let resident = store.resident_bytes();
    assert!(resident > memory - (128 << 10), "and no more is evicted than must be: {resident} of {memory}");
}

#[test]
fn resident_bytes_stay_within_the_memory_when_one_key_is_filled_again_and_again() {
    let memory = 16 << 20;
    let store = Store::new(Limits::for_memory(memory));
    for round in 0..768 {
        assert!(put(&store, b"the key", 64 << 10), "round {round}");
        assert!(store.resident_bytes() <= memory);
    }
    assert!(store.resident_bytes() < 128 << 10, "one object is left: {}", store.resident_bytes());
    assert_eq!(store.objects(), 1);
}

#[test]
fn groups_are_charged_while_entries_belong_to_them_however_many_tags_a_response_has() {
    let memory = 16 << 20;
    let store = Store::new(Limits::for_memory(memory));
    let mut largest = 0;
    for n in 0..200 {
        let tags: Vec<Vec<u8>> = (0..1000).map(|tag| format!("tag {tag} of {n}").into_bytes()).collect();
        let groups = store.join_groups(tags.iter().map(Vec::as_slice), store.epoch(), NOW);
        assert_eq!(groups.uncharged_bytes(), 0, "room is made for the tags of object {n}");
        let key = format!("key {n}");
        let charge = store.reserve(key.as_bytes(), &head(), 1000, NOW).expect("there is room");
        let body = Body::complete(Bytes::from(vec![7; 1000]), Some(charge));
        let Ok(plain) = Arc::try_unwrap(entry(body, "", &[])) else { panic!("it is nobody else's") };
        store.insert(key.as_bytes(), Arc::new(Entry { groups, ..plain }), NOW);
        assert!(store.resident_bytes() <= memory, "object {n}");
        largest = largest.max(store.objects());
    }
    // A thousand tags take a third of a megabyte.
    assert!(largest < 55, "{largest} objects of a thousand tags in 16 MiB");
    for n in 0..200 {
        store.remove(format!("key {n}").as_bytes(), NOW);
    }
    assert_eq!(store.resident_bytes(), 0, "they go with the last entry");
}

#[test]
fn a_group_is_charged_once_for_all_its_members() {
    let store = Store::new(Limits::for_memory(1 << 20));
    let join = || store.join_groups([&b"site"[..]].into_iter(), store.epoch(), NOW);
    let (first, charged) = (join(), store.resident_bytes());
    let second = join();
    assert!(charged > 0 && store.resident_bytes() == charged);
    drop(first);
    assert_eq!(store.resident_bytes(), charged);
    drop(second);
    assert_eq!(store.resident_bytes(), 0);
}

#[test]
fn what_is_on_its_way_and_what_lingers_with_readers_counts() {
    let memory = 1 << 20;
    let store = Store::new(Limits::for_memory(memory));
    let charges: Vec<_> = std::iter::from_fn(|| store.reserve(b"k", &head(), 100 << 10, NOW)).collect();
    assert_eq!(charges.len(), 10, "ten times 100 KiB and overhead fit into 1 MiB");
    drop(charges);
    assert!(put(&store, b"a", 200 << 10));
    let reader = store.lookup(b"a", NOW).unwrap().sole().unwrap().body.reader(0);
    assert_eq!(store.remove(b"a", NOW), 1);
    assert!(store.resident_bytes() >= 200 << 10, "the reader still holds it");
    drop(reader);
    assert_eq!(store.resident_bytes(), 0);
}

#[test]
fn an_object_over_the_limit_gets_no_room() {
    let store = Store::new(Limits { object_bytes_max: 1000, ..Limits::for_memory(1 << 20) });
    assert!(store.reserve(b"k", &head(), 1000, NOW).is_some());
    assert!(store.reserve(b"k", &head(), 1001, NOW).is_none());
}

#[test]
fn variants_live_side_by_side_up_to_their_limit() {
    let store = Store::new(Limits { variants_max: 3, ..Limits::for_memory(1 << 20) });
    for language in ["de", "en", "fr", "nl"] {
        let body = Body::complete(Bytes::from(language), None);
        store.insert(b"k", entry(body, "accept-language", &[("accept-language", language)]), NOW);
    }
    let slot = store.lookup(b"k", NOW).unwrap();
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
    let slot = store.lookup(b"k", NOW).unwrap();
    assert_eq!(slot.variants(), 1);
    assert!(slot.select(&map(&[("a", "1")])).is_none());
}

#[test]
fn an_uncacheable_key_is_forgotten_when_something_is_stored_or_purged() {
    let store = Store::new(Limits::for_memory(1 << 20));
    for forget in [|s: &Store| assert!(put(s, b"k", 10)), |s: &Store| assert_eq!(s.remove(b"k", NOW), 1)] {
        store.negative().remember_uncacheable(b"k", "private", NOW);
        assert_eq!(store.negative().uncacheable(b"k", NOW), Some("private"));
        forget(&store);
        assert_eq!(store.negative().uncacheable(b"k", NOW), None);
    }
}

#[test]
fn what_is_being_read_is_not_evicted_and_what_finds_no_room_is_not_kept() {
    let store = Store::new(Limits::for_memory(1 << 20));
    for key in [b"a", b"b", b"c", b"d"] {
        assert!(put(&store, key, 200 << 10));
    }
    let read = |key: &[u8]| store.lookup(key, NOW)?.sole()?.body.reader(0);
    let first = read(b"a");
    assert!(put(&store, b"e", 250 << 10), "b makes room");
    let second = read(b"e");
    assert!(!put(&store, b"f", 250 << 10), "more than half of the memory would be read and written");
    let kept = |store: &Store| [b"a", b"b", b"c", b"d", b"e"].map(|key| store.lookup(key, NOW).is_some());
    assert_eq!(kept(&store), [true, false, true, true, true]);
    drop((first, second));
    assert!(put(&store, b"f", 250 << 10));
}

#[test]
fn a_slot_is_gone_when_nothing_can_be_done_with_any_of_its_variants() {
    let store = Store::new(Limits::for_memory(1 << 20));
    let until = |secs| NOW.after(Duration::from_secs(secs));
    for (language, secs) in [("en", 60), ("de", 20)] {
        let body = Body::complete(Bytes::from(language), None);
        let mut entry = entry(body, "accept-language", &[("accept-language", language)]);
        Arc::get_mut(&mut entry).unwrap().retain_until = until(secs);
        store.insert(b"k", entry, NOW);
    }
    assert!(store.lookup(b"k", until(59)).is_some());
    assert!(store.lookup(b"k", until(60)).is_none());
    assert_eq!(store.remove(b"k", until(60)), 0, "nor is there anything to be purged");
    assert_eq!(store.objects(), 0);
}

#[test]
fn a_removed_variant_leaves_the_others_and_takes_its_bytes_with_it() {
    let store = Store::new(Limits::for_memory(1 << 20));
    let entries = ["en", "de"].map(|language| {
        let charge = store.reserve(b"k", &head(), 1000, NOW);
        let body = Body::complete(Bytes::from(vec![7; 1000]), charge);
        let entry = entry(body, "accept-language", &[("accept-language", language)]);
        store.insert(b"k", Arc::clone(&entry), NOW);
        entry
    });
    let both = store.resident_bytes();
    let [en, de] = entries;
    store.remove_entry(b"k", &en, NOW);
    drop(en);
    assert_eq!(store.resident_bytes(), both / 2);
    assert_eq!(store.lookup(b"k", NOW).unwrap().variants(), 1);
    store.remove_entry(b"k", &de, NOW);
    assert!(store.lookup(b"k", NOW).is_none());
}

#[test]
fn refused_requests_are_counted_until_something_is_stored_or_known_or_none_came_for_a_while() {
    let store = Store::new(Limits::for_memory(1 << 20));
    let after = |secs| NOW.after(Duration::from_secs(secs));
    assert_eq!(store.negative().refused(b"k", NOW), 0);
    store.negative().remember_refused(b"k", NOW);
    store.negative().remember_refused(b"k", after(9));
    assert_eq!((store.negative().refused(b"k", after(18)), store.negative().refused(b"other", after(18))), (2, 0));
    assert_eq!(store.negative().uncacheable(b"k", after(18)), None, "that others are refused is not known");
    assert_eq!(store.negative().refused(b"k", after(19)), 0);
    store.negative().remember_refused(b"k", NOW);
    assert!(put(&store, b"k", 10));
    assert_eq!(store.negative().refused(b"k", NOW), 0);
    store.negative().remember_uncacheable(b"k", "private", NOW);
    store.negative().remember_refused(b"k", NOW);
    assert_eq!((store.negative().uncacheable(b"k", NOW), store.negative().refused(b"k", NOW)), (Some("private"), 0));
}

#[test]
fn requests_for_the_head_and_for_a_range_are_remembered_apart() {
    let store = Store::new(Limits::for_memory(1 << 20));
    let had = |now| {
        [PartialRequest::Head, PartialRequest::Range].map(|part| store.negative().had_partial_request(b"k", part, now))
    };
    store.negative().remember_partial_request(b"k", PartialRequest::Head, NOW);
    assert_eq!(had(NOW), [true, false]);
    store.negative().remember_partial_request(b"k", PartialRequest::Range, NOW);
    assert_eq!(had(NOW), [true, true]);
    assert_eq!(had(NOW.after(Duration::from_secs(120))), [false, false]);
}

#[test]
fn an_uncacheable_key_is_forgotten_after_two_minutes_and_a_rule_after_a_day() {
    let store = Store::new(Limits::for_memory(1 << 20));
    store.negative().remember_uncacheable(b"k", "private", NOW);
    assert_eq!(store.negative().uncacheable(b"k", NOW.after(Duration::from_secs(119))), Some("private"));
    assert_eq!(store.negative().uncacheable(b"k", NOW.after(Duration::from_secs(120))), None);
    let mut fields = HeaderMap::new();
    fields.insert("no-vary-search", "params".parse().unwrap());
    let variance = SearchVariance::of(&fields).unwrap();
    let first = store.search_rules().learn(b"path", &variance, NOW);
    let later = NOW.after(Duration::from_secs(24 * 3600 - 1));
    assert_eq!(store.search_rules().get(b"path", later).unwrap().number, first.number);
    assert_eq!(store.search_rules().learn(b"path", &variance, later).number, first.number);
    let next_day = NOW.after(Duration::from_secs(24 * 3600));
    assert!(store.search_rules().get(b"path", next_day).is_none());
    assert_ne!(store.search_rules().learn(b"path", &variance, next_day).number, first.number);
}

#[test]
fn bodies_that_are_read_do_not_make_everything_else_be_evicted() {
    let store = Store::new(Limits::for_memory(16 << 20));
    for n in 0..50 {
        assert!(put(&store, format!("page {n}").as_bytes(), 4 << 10));
    }
    let mut readers = Vec::new();
    for n in 0..8 {
        let key = format!("large {n}");
        if put(&store, key.as_bytes(), 3 << 20) {
            let slot = store.lookup(key.as_bytes(), NOW).unwrap();
            readers.push(slot.sole().unwrap().body.reader(0).unwrap());
        }
    }
    assert!((2..=5).contains(&readers.len()), "{}", readers.len());
    assert!(store.shortages() > 0);
    let pages = (0..50).filter(|n| store.lookup(format!("page {n}").as_bytes(), NOW).is_some()).count();
    assert_eq!(pages, 50);
    assert!(put(&store, b"another page", 4 << 10));
    drop(readers);
    assert!(put(&store, b"large", 3 << 20), "nothing is read any more");
}
