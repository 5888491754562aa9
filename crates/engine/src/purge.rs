//! Purges: what an operator wants gone, or looked at again, on this node.
//!
//! A tag, a host or a site is a group of entries: its purge is one step, whatever is stored. A URL is a key or two, and a group
//! of its other spellings ([`spelling`]). A prefix is walked, a few entries at a time. Fills that are under way are fenced first:
//! they serve those who wait, and store nothing.
//!
//! **Invariant:** when [`Engine::apply`] returns, no request that comes gets what the purge concerns as if there had been
//! none, and no fill that was sent before brings it back.

pub(crate) mod counts;
mod group;
pub mod method;
pub(crate) mod position;
mod spelling;
pub mod targets;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use http::HeaderMap;
use nearside_config::SiteId;
use nearside_protocol::PurgeMode;
use nearside_semantics::{Timestamp, tags};
use nearside_store::{Epoch, Purge};

use crate::fill::Fill;
use crate::request::Engine;
use spelling::{Beginning, normal_key};

/// What is to be purged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A URL, by its exact key: all spellings, all variants, all blocks.
    Url(Box<[u8]>),
    /// All whose exact key begins so, in any spelling.
    Prefix(Box<[u8]>),
    /// All responses of a site with a tag.
    Tag {
        /// Index of the site.
        site: SiteId,
        /// The tag.
        tag: Box<[u8]>,
    },
    /// All of a host, by an exact key of it.
    Host {
        /// Index of the site.
        site: SiteId,
        /// An exact key of the host.
        key: Box<[u8]>,
    },
    /// All responses of a site, by its index.
    Site(SiteId),
}

/// The effect on entries of a purge at `now`.
fn effect(mode: PurgeMode, now: Timestamp) -> Purge {
    match mode {
        PurgeMode::Soft => Purge::Soft { now },
        PurgeMode::Hard | PurgeMode::Erase => Purge::Hard,
    }
}

/// What a purge has met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Met {
    /// Stored variants, and answers on their way that were known to belong to it.
    pub matched: usize,
    /// Fills that store nothing now.
    pub fenced_fills: usize,
}

impl Engine {
    /// The group of all entries of a site.
    pub(crate) fn site_group(&self, site: SiteId) -> Vec<u8> {
        group::of_site(self.site_name(site))
    }

    /// The group of all entries of a site and a host, of which this is an exact key.
    pub(crate) fn host_group(&self, site: SiteId, exact: &[u8]) -> Vec<u8> {
        group::of_host(self.site_name(site), host(exact))
    }

    /// The group of all entries of a site with a tag.
    pub(crate) fn tag_group(&self, site: SiteId, tag: &[u8]) -> Vec<u8> {
        group::of_tag(self.site_name(site), tag)
    }

    /// The tag that a group stands for, if it is one of a tag.
    pub(crate) fn tag_of(group: &[u8]) -> Option<String> {
        group::tag(group)
    }

    fn site_name(&self, site: SiteId) -> &str {
        self.config.site(site).map_or("", |site| site.name.as_str())
    }

    /// Takes out what a response says to caches only, before it goes to a client.
    pub(crate) fn strip_for_clients(&self, site: SiteId, fields: &mut HeaderMap) {
        if !self.tier.serves_caches() {
            tags::strip(fields, |name| self.rules(site).is_target(name));
        }
    }

    /// Purges, or only counts; what it met, and the number of the purge. Blocks as long as a walk takes.
    pub fn carry_out(self: &Arc<Self>, targets: &[Target], mode: PurgeMode, dry_run: bool) -> (Met, u64) {
        let targets = distinct(targets);
        if dry_run {
            return (Met { matched: self.count(&targets), fenced_fills: 0 }, self.purges.count_dry_run());
        }
        let met = self.apply(&targets, mode);
        if leaves_memory(mode, met, &targets) {
            self.reclaim();
        }
        (met, self.purges.count(met))
    }

    /// Gives back the memory of what was purged, on a thread of its own: one, however many purges there are.
    fn reclaim(self: &Arc<Self>) {
        if !self.purges.reclaiming.begins() {
            return;
        }
        let engine = Arc::clone(self);
        let walk = move || {
            loop {
                engine.store.reclaim(engine.clock.now());
                if !engine.purges.reclaiming.goes_on() {
                    return;
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("reclaim".to_owned()).spawn(walk) {
            self.purges.reclaiming.fails();
            tracing::warn!(%error, "memory comes back as others need it");
        }
    }

    /// Purges.
    fn apply(&self, targets: &[&Target], mode: PurgeMode) -> Met {
        let now = self.clock.now();
        let purge = effect(mode, now);
        let mut met = Met::default();
        for target in targets {
            let one = self.apply_one(target, purge, now);
            met.matched += one.matched;
            met.fenced_fills += one.fenced_fills;
        }
        if mode == PurgeMode::Erase {
            for target in targets {
                if let Target::Url(exact) = target {
                    // Blocks, and what stands under rules: nothing finds them any more, but they are there.
                    let normal = normal_key(exact);
                    let belongs = |key: &[u8]| {
                        is_derived(key, exact) || normal.as_deref().is_some_and(|normal| is_derived(key, normal))
                    };
                    self.store.purge_keys(belongs, Epoch::END, Purge::Hard, now);
                }
            }
            self.store.reclaim(now);
        }
        met
    }

    fn apply_one(&self, target: &Target, purge: Purge, now: Timestamp) -> Met {
        match target {
            Target::Url(exact) => self.purge_spellings(exact, purge),
            Target::Prefix(prefix) => {
                // In this order: what is asked for from now on is of a later epoch, what was before is fenced.
                let since = self.store.begin_epoch();
                let beginning = Beginning::new(prefix);
                let fenced_fills = self.fills.fence_where(|fill| beginning.covers(fill.exact()));
                let matched = self.store.purge_keys(|key| beginning.covers(key), since, purge, now);
                Met { matched, fenced_fills }
            }
            Target::Tag { site, tag } => {
                let matched = self.store.purge_group(&self.tag_group(*site, tag), purge);
                // Of the others it is not known yet; when it is, they count as purged.
                Met { matched, fenced_fills: self.fills.fence_where(Fill::is_purged) }
            }
            Target::Host { site, key } => {
                let matched = self.store.purge_group(&self.host_group(*site, key), purge);
                Met { matched, fenced_fills: self.fills.fence_where(|fill| self.is_at(fill, *site, Some(host(key)))) }
            }
            Target::Site(site) => {
                let matched = self.store.purge_group(&self.site_group(*site), purge);
                Met { matched, fenced_fills: self.fills.fence_where(|fill| self.is_at(fill, *site, None)) }
            }
        }
    }

    /// Whether a fill is for a site, and a host of it.
    fn is_at(&self, fill: &Fill, site: SiteId, of: Option<&[u8]>) -> bool {
        let own = host(fill.exact());
        of.is_none_or(|host| *host == *own) && self.sites.find(own) == Some(site)
    }

    /// PurgeMode many stored variants a purge would meet.
    fn count(&self, targets: &[&Target]) -> usize {
        let count = |target: &&Target| match target {
            Target::Url(exact) => self.count_spellings(exact),
            Target::Prefix(prefix) => {
                let beginning = Beginning::new(prefix);
                self.store.count_keys(|key| beginning.covers(key))
            }
            Target::Tag { site, tag } => self.store.group_members(&self.tag_group(*site, tag)),
            Target::Host { site, key } => self.store.group_members(&self.host_group(*site, key)),
            Target::Site(site) => self.store.group_members(&self.site_group(*site)),
        };
        targets.iter().map(count).sum()
    }
}

/// The targets, each once: two URLs may have one key (a canonical host, a recipe), which is counted once.
fn distinct(targets: &[Target]) -> Vec<&Target> {
    let mut seen = HashSet::with_capacity(targets.len());
    targets.iter().filter(|target| seen.insert(*target)).collect()
}

/// Whether a purge has left memory to be reclaimed: entries of a purged group lie there until somebody comes upon them.
fn leaves_memory(mode: PurgeMode, met: Met, targets: &[&Target]) -> bool {
    let is_group = |target: &&Target| matches!(target, Target::Tag { .. } | Target::Host { .. } | Target::Site(_));
    mode == PurgeMode::Hard && met.matched > 0 && targets.iter().any(is_group)
}

/// Whether a key is that of a block of a URL, or of the URL under a rule about queries. No target holds a line feed.
fn is_derived(key: &[u8], exact: &[u8]) -> bool {
    key.strip_prefix(exact).is_some_and(|rest| rest.starts_with(b"\n"))
}

/// Whether a walk that gives memory back is under way, and whether another is to follow.
#[derive(Debug, Default)]
pub(crate) struct Reclaiming(AtomicU8);

const IDLE: u8 = 0;
const RUNS: u8 = 1;
const RUNS_AND_AGAIN: u8 = 2;

impl Reclaiming {
    /// One is wanted; whether it is to be begun, because none is under way.
    fn begins(&self) -> bool {
        let wanted = |state| Some(if state == IDLE { RUNS } else { RUNS_AND_AGAIN });
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, wanted) == Ok(IDLE)
    }

    /// One has ended; whether another was wanted meanwhile.
    fn goes_on(&self) -> bool {
        let next = |state| Some(if state == RUNS_AND_AGAIN { RUNS } else { IDLE });
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next) == Ok(RUNS_AND_AGAIN)
    }

    /// It was not begun after all.
    fn fails(&self) {
        self.0.store(IDLE, Ordering::Release);
    }
}

/// The host of an exact key.
fn host(exact: &[u8]) -> &[u8] {
    exact.split(|byte| *byte == b'\n').nth(1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use nearside_protocol::Order;

    use super::*;

    fn url(key: &str) -> Target {
        Target::Url(key.as_bytes().into())
    }

    fn tag(site: usize, tag: &str) -> Target {
        Target::Tag { site: SiteId::new(site), tag: tag.as_bytes().into() }
    }

    #[test]
    fn an_order_is_hard_unless_it_says_otherwise() {
        for (soft, erase, expected) in
            [(false, false, PurgeMode::Hard), (true, false, PurgeMode::Soft), (false, true, PurgeMode::Erase)]
        {
            assert_eq!(Order { soft, erase, ..Order::default() }.mode(), expected);
        }
    }

    #[test]
    fn only_a_soft_purge_leaves_entries_that_may_be_validated() {
        let now = Timestamp::from_secs(7);
        for (mode, is_soft) in [(PurgeMode::Soft, true), (PurgeMode::Hard, false), (PurgeMode::Erase, false)] {
            let since = match effect(mode, now) {
                Purge::Soft { now } => Some(now),
                Purge::Hard => None,
            };
            assert_eq!(since, is_soft.then_some(now), "{mode:?}");
        }
    }

    #[test]
    fn a_target_that_is_named_twice_is_purged_once_and_in_its_place() {
        let prefix = Target::Prefix((*b"a").into());
        let targets = [url("b"), url("a"), prefix.clone(), url("b"), tag(0, "a"), tag(1, "a"), tag(0, "a")];
        // A prefix, a URL and a tag of the same text are three things, and a tag of another site a fourth.
        assert_eq!(distinct(&targets), [&url("b"), &url("a"), &prefix, &tag(0, "a"), &tag(1, "a")]);
    }

    #[test]
    fn memory_is_reclaimed_after_a_hard_purge_of_a_group_that_met_something() {
        let (site, host) = (SiteId::new(0), (*b"http\na.org\n/").into());
        let met = |matched| Met { matched, fenced_fills: 1 };
        for (mode, matched, target, expected) in [
            (PurgeMode::Hard, 1, tag(0, "a"), true),
            (PurgeMode::Hard, 1, Target::Site(site), true),
            (PurgeMode::Hard, 1, Target::Host { site, key: host }, true),
            (PurgeMode::Hard, 0, tag(0, "a"), false),
            // Walked or looked up, these are taken out at once.
            (PurgeMode::Hard, 1, url("a"), false),
            (PurgeMode::Hard, 1, Target::Prefix((*b"a").into()), false),
            (PurgeMode::Soft, 1, tag(0, "a"), false),
            // It has reclaimed already.
            (PurgeMode::Erase, 1, tag(0, "a"), false),
        ] {
            assert_eq!(leaves_memory(mode, met(matched), &[&url("u"), &target]), expected, "{mode:?} {target:?}");
        }
    }

    #[test]
    fn keys_of_blocks_and_of_rules_are_derived_from_that_of_their_url_only() {
        let exact = b"http\na.org\n/p";
        for (key, expected) in [
            ("http\na.org\n/p\n#1", true),
            ("http\na.org\n/p\n", true),
            ("http\na.org\n/p", false),
            ("http\na.org\n/p?q\n#1", false),
            ("http\na.org\n/pq\n#1", false),
            ("https\na.org\n/p\n#1", false),
        ] {
            assert_eq!(is_derived(key.as_bytes(), exact), expected, "{key:?}");
        }
        let block = crate::request::slices::Block::first();
        assert!(is_derived(&block.key(exact), exact));
    }

    #[test]
    fn the_host_of_a_key_is_its_second_line() {
        for (exact, expected) in
            [("http\na.org:81\n/a", "a.org:81"), ("http\na.org\n/a\nb", "a.org"), ("http", ""), ("", "")]
        {
            assert_eq!(host(exact.as_bytes()), expected.as_bytes(), "{exact:?}");
        }
    }

    #[test]
    fn one_walk_reclaims_for_all_purges_that_come_while_it_runs() {
        let reclaiming = Reclaiming::default();
        assert!(reclaiming.begins());
        assert!(!reclaiming.begins() && !reclaiming.begins(), "one is under way");
        assert!(reclaiming.goes_on(), "once more, for what came meanwhile");
        assert!(!reclaiming.goes_on(), "and not again");
        assert!(reclaiming.begins(), "the next purge begins anew");
        reclaiming.fails();
        assert!(reclaiming.begins(), "a walk that could not be begun holds nobody up");
    }
}
