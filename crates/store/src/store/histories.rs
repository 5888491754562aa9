//! Random histories of storing, evicting, purging and using, beside a plain model that remembers everything.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use nearside_semantics::reuse::Freshness;

use super::tests::{NOW, entry, head};
use super::*;
use crate::body::Body;

const STEPS: usize = 100_000;
const KEYS: u64 = 300;
const TAGS: u64 = 40;
/// So few that something is evicted all the time.
const MEMORY_BYTES: u64 = 256 << 10;

/// What is on its way, or stored.
#[derive(Debug, Clone)]
struct Response {
    key: u64,
    tags: Vec<u64>,
    /// How many purges there had been when it was asked for.
    asked: usize,
    epoch: Epoch,
    born: Timestamp,
}

#[derive(Debug, Clone, Copy)]
enum Target {
    Key(u64),
    /// Keys are numbers; those that begin with this digit.
    Prefix(u64),
    Tag(u64),
    All,
}

struct History {
    store: Store,
    now: Timestamp,
    draws: u64,
    purges: Vec<(Target, Purge)>,
    on_their_way: Vec<Response>,
    stored: HashMap<u64, Response>,
}

fn key(number: u64) -> Vec<u8> {
    format!("{number:03}").into_bytes()
}

fn tag(number: u64) -> Vec<u8> {
    format!("tag {number}").into_bytes()
}

impl Target {
    fn concerns(self, response: &Response) -> bool {
        match self {
            Self::Key(key) => response.key == key,
            Self::Prefix(digit) => response.key / 100 == digit,
            Self::Tag(tag) => response.tags.contains(&tag),
            Self::All => true,
        }
    }

    /// Whether it keeps what is on its way from being stored.
    fn fences(self) -> bool {
        matches!(self, Self::Key(_) | Self::Prefix(_))
    }
}

impl History {
    /// A number below `end`: xorshift.
    fn draw(&mut self, end: u64) -> u64 {
        self.draws ^= self.draws << 13;
        self.draws ^= self.draws >> 7;
        self.draws ^= self.draws << 17;
        self.draws % end
    }

    fn draw_size(&mut self, end: usize) -> usize {
        usize::try_from(self.draw(end as u64)).unwrap()
    }

    fn freshness(born: Timestamp) -> Freshness {
        let after = |secs| born.after(Duration::from_secs(secs));
        Freshness {
            born,
            fresh_until: after(200),
            revalidate_until: after(300),
            error_until: after(400),
            no_cache: false,
            never_stale: false,
        }
    }

    fn ask(&mut self) {
        let tags = (0..self.draw(4)).map(|_| self.draw(TAGS)).collect::<std::collections::BTreeSet<_>>();
        let response = Response {
            key: self.draw(KEYS),
            tags: tags.into_iter().collect(),
            asked: self.purges.len(),
            epoch: self.store.epoch(),
            born: self.now,
        };
        self.on_their_way.push(response);
    }

    fn answer(&mut self) {
        let place = self.draw_size(self.on_their_way.len());
        let response = self.on_their_way.swap_remove(place);
        let names: Vec<_> = response.tags.iter().map(|number| tag(*number)).chain([b"all".to_vec()]).collect();
        let groups = self.store.join_groups(names.iter().map(Vec::as_slice), response.epoch, self.now);
        let name = key(response.key);
        let size = self.draw_size(4000);
        let Some(charge) = self.store.reserve(&name, &head(), size as u64, self.now) else { return };
        let body = Body::complete(Bytes::from(vec![1; size]), Some(charge));
        let mut new = Arc::into_inner(entry(body, "", &[])).unwrap();
        new.declared = Self::freshness(response.born);
        new.retain_until = new.declared.error_until;
        new.groups = groups;
        assert_eq!(new.groups.is_gone(), self.expected(&response).is_none_or(|_| false), "{response:?}");
        if !new.groups.is_gone() {
            self.store.insert(&name, Arc::new(new), self.now);
            self.stored.insert(response.key, response);
        }
    }

    /// What the purges since have left of a response.
    fn expected(&self, response: &Response) -> Option<Freshness> {
        let since = self.purges.iter().skip(response.asked).filter(|(target, _)| target.concerns(response));
        since.copied().try_fold(Self::freshness(response.born), |freshness, (_, purge)| match purge {
            Purge::Hard => None,
            Purge::Soft { now } => Some(freshness.stale_from(now)),
        })
    }

    fn purge(&mut self) {
        let target = match self.draw(40) {
            0 => Target::All,
            1..4 => Target::Prefix(self.draw(KEYS / 100)),
            4..20 => Target::Tag(self.draw(TAGS)),
            _ => Target::Key(self.draw(KEYS)),
        };
        let purge = if self.draw(2) == 0 { Purge::Hard } else { Purge::Soft { now: self.now } };
        // As the table of fills does it.
        if target.fences() {
            self.on_their_way.retain(|response| !target.concerns(response));
        }
        match target {
            Target::Key(number) => {
                self.store.purge_key(&key(number), purge, self.now);
            }
            Target::Prefix(digit) => {
                let since = self.store.begin_epoch();
                let begins = |key: &[u8]| key.first() == Some(&(b'0' + u8::try_from(digit).unwrap()));
                self.store.purge_keys(begins, since, purge, self.now);
            }
            Target::Tag(number) => {
                self.store.purge_group(&tag(number), purge);
            }
            Target::All => {
                self.store.purge_group(b"all", purge);
            }
        }
        self.purges.push((target, purge));
    }

    /// Compares what is found under some key with the model; whether there was anything.
    fn check(&mut self) -> bool {
        let number = self.draw(KEYS);
        let slot = self.store.lookup(&key(number), self.now);
        let found = slot.as_ref().and_then(|slot| slot.newest()).and_then(|entry| entry.freshness(self.now));
        let Some(found) = found else { return false };
        let expected = self.stored.get(&number).and_then(|response| self.expected(response));
        assert_eq!(Some(found), expected, "key {number}: {:?}", self.stored.get(&number));
        true
    }
}

#[test]
fn whatever_happens_a_purge_is_never_undone_and_nothing_is_left_at_the_end() {
    let mut history = History {
        store: Store::new(Limits::for_memory(MEMORY_BYTES)),
        now: NOW,
        draws: 0x9e37_79b9_7f4a_7c15,
        purges: Vec::new(),
        on_their_way: Vec::new(),
        stored: HashMap::new(),
    };
    let mut found = 0;
    for step in 0..STEPS {
        match history.draw(100) {
            0..30 => history.ask(),
            30..55 if !history.on_their_way.is_empty() => history.answer(),
            55..60 => history.purge(),
            60..62 => history.now = history.now.after(Duration::from_millis(500)),
            62 if step % 10 == 0 => {
                history.store.reclaim(history.now);
            }
            _ => found += usize::from(history.check()),
        }
        assert!(history.store.resident_bytes() <= MEMORY_BYTES);
        // The model need not look at all purges there ever were.
        if history.purges.len() > 400 {
            history.on_their_way.clear();
            history.store.purge_group(b"all", Purge::Hard);
            history.stored.clear();
            history.purges.clear();
        }
    }
    assert!(found > STEPS / 50, "something was found often enough: {found}");
    history.on_their_way.clear();
    history.store.purge_group(b"all", Purge::Hard);
    assert!(history.store.reclaim(history.now) > 0);
    assert_eq!((history.store.objects(), history.store.resident_bytes()), (0, 0));
    assert!(
        history.store.groups.known() <= usize::try_from(TAGS).unwrap() + 1,
        "names without members: {}",
        history.store.groups.known()
    );
}
