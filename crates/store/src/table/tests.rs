use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

/// A value that the test also has a hold of, so that it can tell what the table still keeps.
#[derive(Debug, Clone)]
struct Probe(Arc<u64>);

impl Value for Probe {
    fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 2
    }
}

impl Value for u64 {}

fn put<V>(value: V, weight: u64, until: Timestamp) -> Op<V> {
    Op::Put { value, weight, until }
}

fn put_forever(table: &Table<u64>, key: u64, weight: u64) -> Option<u64> {
    table.compute(&key.to_be_bytes(), NOW, |_| put(key, weight, Timestamp::MAX))
}

fn has(table: &Table<u64>, key: u64) -> bool {
    table.get(&key.to_be_bytes(), NOW) == Some(key)
}

#[test]
fn a_key_has_the_value_it_was_given_last_until_it_is_removed() {
    let table = Table::new(1000, 4);
    assert_eq!(table.get(b"k", NOW), None);
    assert_eq!(table.compute(b"k", NOW, |old| put(old.map_or(1, |old| old + 1), 10, Timestamp::MAX)), None);
    assert_eq!(table.compute(b"k", NOW, |old| put(old.map_or(1, |old| old + 1), 30, Timestamp::MAX)), Some(1));
    assert_eq!(table.compute(b"k", NOW, |_| Op::Keep), None);
    assert_eq!((table.get(b"k", NOW), table.len(), table.weight()), (Some(2_u64), 1, 30));
    assert_eq!(table.remove(b"k", NOW), Some(2));
    assert_eq!((table.get(b"k", NOW), table.len(), table.weight()), (None, 0, 0));
    assert_eq!(table.remove(b"k", NOW), None);
}

#[test]
fn from_its_deadline_on_an_entry_is_as_if_it_were_not_there() {
    let table = Table::new(1000, 1);
    let until = NOW.after(std::time::Duration::from_millis(1));
    table.compute(b"k", NOW, |_| put(1_u64, 10, until));
    assert_eq!(table.get(b"k", NOW), Some(1));
    assert_eq!(table.get(b"k", until), None);
    table.compute(b"k", until, |old| {
        assert_eq!(old, None);
        Op::Keep
    });
    assert_eq!(table.remove(b"k", until), None, "nobody is told of it");
    assert_eq!(table.weight(), 0, "but it is gone");
}

#[test]
fn dead_entries_are_dropped_by_those_who_put_others() {
    let table = Table::new(1 << 20, 1);
    let until = NOW.after(std::time::Duration::from_secs(1));
    for key in 0..100_u64 {
        table.compute(&key.to_be_bytes(), NOW, |_| put(key, 10, until));
    }
    for key in 100..150_u64 {
        table.compute(&key.to_be_bytes(), until, |_| put(key, 10, Timestamp::MAX));
    }
    assert_eq!((table.len(), table.weight()), (50, 500));
}

#[test]
fn a_value_as_large_as_the_table_evicts_all_others_and_a_larger_one_is_not_kept() {
    let table = Table::new(1000, 8);
    for key in 0..100 {
        put_forever(&table, key, 10);
    }
    assert_eq!((table.len(), table.weight()), (100, 1000));
    put_forever(&table, 100, 250);
    assert!(has(&table, 100));
    assert_eq!((table.len(), table.weight()), (76, 1000), "just what does not fit is evicted");
    put_forever(&table, 101, 1000);
    assert!(has(&table, 101));
    assert_eq!((table.len(), table.weight()), (1, 1000));
    assert_eq!(put_forever(&table, 101, 1001), Some(101));
    assert_eq!((table.len(), table.weight()), (0, 0), "nor what it would have replaced");
}

#[test]
fn what_is_asked_for_stays_while_a_scan_of_many_times_the_capacity_goes_by() {
    let table = Table::new(10_000, 4);
    for key in 0..500 {
        put_forever(&table, key, 10);
        assert!(has(&table, key));
    }
    for scanned in 1000..20_000 {
        let _ = has(&table, scanned % 500);
        put_forever(&table, scanned, 10);
    }
    let stayed = (0..500).filter(|key| has(&table, *key)).count();
    assert!(stayed >= 480, "{stayed} of 500");
}

#[test]
fn what_comes_back_soon_after_it_was_evicted_stays_longer() {
    let table = Table::new(1000, 1);
    let mut next = 1000;
    let mut pass = |table: &Table<u64>, many| {
        for _ in 0..many {
            put_forever(table, next, 10);
            next += 1;
        }
    };
    pass(&table, 100);
    put_forever(&table, 1, 10);
    pass(&table, 110);
    assert!(!has(&table, 1), "passed through");
    put_forever(&table, 1, 10);
    pass(&table, 110);
    assert!(has(&table, 1));
}

#[test]
fn evict_frees_what_was_asked_for_and_no_more_than_one_entry_beyond() {
    let table = Table::new(10_000, 16);
    for key in 0..1000 {
        put_forever(&table, key, 10);
    }
    assert_eq!(table.evict(1, NOW), 10);
    assert_eq!(table.evict(995, NOW), 1000);
    assert_eq!((table.len(), table.weight()), (899, 8990));
    assert_eq!(table.evict(u64::MAX, NOW), 8990, "all that there is");
    assert_eq!((table.len(), table.weight(), table.evict(1, NOW)), (0, 0, 0));
}

#[test]
fn what_is_held_at_the_end_of_one_queue_does_not_keep_the_other_from_being_evicted() {
    let table = Table::new(10_000, 1);
    let value = |n: u64| Probe(Arc::new(n));
    for n in 0..100 {
        table.compute(&[n], NOW, |_| put(value(u64::from(n)), 10, Timestamp::MAX));
        let _ = table.get(&[n], NOW);
    }
    assert_eq!(table.evict(10, NOW), 10, "all but those are in the main queue now, or on their way");
    let held: Vec<_> = (100..200).map(value).collect();
    for probe in &held {
        table.compute(&probe.0.to_be_bytes(), NOW, |_| put(probe.clone(), 10, Timestamp::MAX));
    }
    let readers = held.clone();
    assert_eq!(table.evict(990, NOW), 990);
    assert_eq!((table.len(), table.evict(1, NOW)), (100, 0), "what is held is left");
    drop((held, readers));
}

#[test]
fn what_is_held_is_not_evicted_on_demand_but_gives_way_to_what_is_put() {
    let table = Table::new(1000, 2);
    let probes: Vec<_> = (0..10).map(|n| Probe(Arc::new(n))).collect();
    for probe in &probes {
        table.compute(&probe.0.to_be_bytes(), NOW, |_| put(probe.clone(), 100, Timestamp::MAX));
    }
    let held: Vec<_> = probes.iter().filter(|probe| *probe.0 != 3).cloned().collect();
    assert_eq!(table.evict(200, NOW), 100);
    assert_eq!(table.len(), 9);
    table.compute(b"large", NOW, |_| put(Probe(Arc::new(99)), 1000, Timestamp::MAX));
    assert!(table.get(b"large", NOW).is_some());
    assert_eq!((table.len(), table.weight()), (1, 1000));
    drop(held);
}

#[test]
fn shards_stay_even_when_room_is_made_on_demand() {
    let table = Table::new(u64::MAX, 16);
    for key in 0..50_000 {
        if table.weight() >= 16_000 {
            assert_eq!(table.evict(1, NOW), 1);
        }
        put_forever(&table, key, 1);
    }
    let lens: Vec<_> = table.shards.iter().map(|cell| cell.len.load(Ordering::Relaxed)).collect();
    assert!(lens.iter().all(|len| (800..1200).contains(len)), "{lens:?}");
}

#[test]
fn many_threads_leave_neither_weight_nor_values_behind() {
    let table = Table::new(5_000, 4);
    let probe = Probe(Arc::new(7));
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (table, probe) = (&table, &probe);
            scope.spawn(move || {
                for n in 0..20_000_u64 {
                    let key = (n * (thread + 1) % 997).to_be_bytes();
                    match n % 7 {
                        0 => drop(table.remove(&key, NOW)),
                        1 => drop(table.evict(20, NOW)),
                        2 | 3 => drop(table.get(&key, NOW)),
                        _ => drop(table.compute(&key, NOW, |_| put(probe.clone(), n % 50 + 1, Timestamp::MAX))),
                    }
                    // Each of the others may be about to make room for one more.
                    assert!(table.weight() <= 5_000 + 4 * 50);
                }
            });
        }
    });
    assert!(table.weight() <= 5_000);
    assert_eq!(Arc::strong_count(&probe.0), 1 + table.len());
    for key in 0..997_u64 {
        table.remove(&key.to_be_bytes(), NOW);
    }
    assert_eq!((table.len(), table.weight(), Arc::strong_count(&probe.0)), (0, 0, 1));
}

/// One thing that is done with a table.
#[derive(Debug, Clone)]
enum Step {
    Put { key: u8, weight: u64, life: u64 },
    Get { key: u8 },
    Remove { key: u8 },
    Evict { bytes: u64 },
    Pass { millis: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<u8>(), 1..200_u64, 1..2000_u64).prop_map(|(key, weight, life)| Step::Put { key, weight, life }),
        6 => any::<u8>().prop_map(|key| Step::Get { key }),
        2 => any::<u8>().prop_map(|key| Step::Remove { key }),
        1 => (0..500_u64).prop_map(|bytes| Step::Evict { bytes }),
        1 => (0..200_u64).prop_map(|millis| Step::Pass { millis }),
    ]
}

/// What was put and neither replaced nor removed since, by key: the number of the value, its weight, its deadline.
type Model = HashMap<u8, (u64, u64, Timestamp)>;

/// Takes one step with a table and its model, and compares what they say.
fn take(table: &Table<Probe>, model: &mut Model, probes: &mut Vec<Arc<u64>>, now: &mut Timestamp, step: &Step) {
    match *step {
        Step::Put { key, weight, life } => {
            let value = probes.len() as u64;
            let probe = Arc::new(value);
            let until = now.after(std::time::Duration::from_millis(life));
            table.compute(&[key], *now, |old| {
                let last = model.get(&key).filter(|(.., until)| *now < *until);
                assert!(old.is_none_or(|old| last.is_some_and(|last| *old.0 == last.0)));
                put(Probe(Arc::clone(&probe)), weight, until)
            });
            probes.push(probe);
            model.insert(key, (value, weight, until));
        }
        Step::Get { key } => {
            if let Some(found) = table.get(&[key], *now) {
                let (value, _, until) = &model[&key];
                assert!(*found.0 == *value && *now < *until);
            }
        }
        Step::Remove { key } => {
            table.remove(&[key], *now);
            model.remove(&key);
        }
        Step::Evict { bytes } => {
            let (before, freed) = (table.weight(), table.evict(bytes, *now));
            assert_eq!(table.weight(), before - freed);
            assert!(freed >= bytes.min(before) && freed < bytes + 200);
        }
        Step::Pass { millis } => *now = now.after(std::time::Duration::from_millis(millis)),
    }
}

proptest! {
    #[test]
    fn a_table_keeps_what_a_map_keeps_as_far_as_it_fits(
        steps in prop::collection::vec(step(), 1..400),
        shards in 1..9_usize,
        capacity in prop_oneof![Just(3000_u64), Just(1_000_000)],
    ) {
        let table = Table::new(capacity, shards);
        let (mut model, mut probes, mut now) = (Model::new(), Vec::new(), NOW);
        let evicts = steps.iter().any(|step| matches!(step, Step::Evict { .. }));
        for step in &steps {
            take(&table, &mut model, &mut probes, &mut now, step);
            prop_assert!(table.weight() <= capacity);
        }
        let kept = probes.iter().filter(|probe| Arc::strong_count(probe) > 1).count();
        prop_assert_eq!(kept, table.len(), "what the table does not count it does not keep");
        let found = |key: u8| table.get(&[key], now).is_some();
        let living: Vec<_> = model.iter().filter(|(_, (.., until))| now < *until).map(|(key, _)| *key).collect();
        if capacity == 1_000_000 && !evicts {
            prop_assert!(living.iter().all(|key| found(*key)), "there was room for all");
        }
        let weight: u64 = living.iter().filter(|key| found(**key)).map(|key| model[key].1).sum();
        prop_assert!(weight <= table.weight());
        for key in 0..=255 {
            table.remove(&[key], now);
        }
        prop_assert_eq!((table.len(), table.weight()), (0, 0));
        prop_assert!(probes.iter().all(|probe| Arc::strong_count(probe) == 1));
    }
}
