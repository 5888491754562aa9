//! What a fill leaves in the store: a new entry, a freshened one, or one less.
//!
//! **Invariant:** everything here happens under the lock of the fill table's shard, so that neither a purge nor a new fill
//! of the same key comes in between; and nothing newer that somebody else has stored is undone.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use nearside_semantics::age::Exchange;
use nearside_semantics::storable::NotStorable;
use nearside_semantics::{conditional, groups, tags};
use nearside_store::{Entry, Epoch, Head, Membership};
use nearside_upstream::Asked;

use super::fetched::head;
use super::judge::{Judged, judge};
use super::{Fill, Plan};
use crate::request::Engine;

/// What is stored, with the fields that a newer answer brings (RFC 9111 §3.2), and what the rules say of that.
pub(super) fn freshened(
    engine: &Engine,
    plan: &Plan,
    old: &Arc<Entry>,
    fresh: &HeaderMap,
    exchange: Exchange,
    sent: Epoch,
) -> (Arc<Entry>, Judged) {
    let mut fields = conditional::merge(&old.head.fields, fresh);
    let judged = judge(engine, plan, old.head.status, &fields, exchange);
    let vary = engine.rules(plan.site).vary(&fields);
    let mut variant = Vec::new();
    vary.variant_key(&plan.request, &mut variant);
    let groups = match names_after_validation(fresh, old.groups.names(), || names(engine, plan, &fields)) {
        Some(names) => engine.store.join_groups(names.iter().map(Vec::as_slice), sent, engine.clock.now()),
        None => old.groups.asked_again(sent),
    };
    engine.strip_for_clients(plan.site, &mut fields);
    engine.rules(plan.site).remove_cookies(&mut fields);
    let entry = Entry {
        head: Arc::new(head(&engine.via, old.head.status, fields, old.body.len())),
        declared: judged.freshness,
        response_time: exchange.response_time,
        retain_until: judged.retain_until,
        vary,
        variant: variant.into(),
        groups,
        body: Arc::clone(&old.body),
    };
    (Arc::new(entry), judged)
}

/// Ends a fill by storing its entry under the key that the entry asks for; what it was to validate is replaced by it.
pub(super) fn store(engine: &Engine, fill: &Arc<Fill>, plan: &Plan, entry: &Arc<Entry>) {
    store_if(engine, fill, plan, entry, |key| {
        if let Some(old) = plan.stored.as_ref().filter(|_| *key != *plan.key.lookup) {
            engine.store.remove_entry(&plan.key.lookup, old, engine.clock.now());
        }
        true
    });
}

/// The same, if `still` says so of the key under the lock that stores.
fn store_if(engine: &Engine, fill: &Arc<Fill>, plan: &Plan, entry: &Arc<Entry>, still: impl Fn(&[u8]) -> bool) {
    let now = engine.clock.now();
    let variance = engine.rules(plan.site).search_variance(&entry.head.fields);
    let key = engine.storage_key(&plan.key, variance.as_ref());
    let insert = || {
        if still(&key) && !entry.groups.is_gone() {
            engine.store.insert(&key, Arc::clone(entry), now);
        }
    };
    if key == plan.key.lookup {
        return engine.fills.leave(fill, insert);
    }
    engine.fills.store_elsewhere(fill, &key, insert);
    engine.fills.leave(fill, || {});
}

/// Ends a fill that has freshened `old`: publishes the new entry in its place, or takes `old` away if that may not be
/// stored. What somebody else has stored since is newer, and stays.
pub(super) fn replace(
    engine: &Engine,
    fill: &Arc<Fill>,
    plan: &Plan,
    old: &Arc<Entry>,
    entry: &Arc<Entry>,
    storable: Result<(), NotStorable>,
) {
    match Replacement::new(storable) {
        Replacement::Publish => store_if(engine, fill, plan, entry, |key| {
            let slot = engine.store.lookup(key, engine.clock.now());
            is_current(slot.as_ref().and_then(|slot| slot.select(&plan.request)), old)
        }),
        Replacement::Leave => engine.fills.leave(fill, || {}),
        Replacement::Forget => forget(engine, fill, plan, old),
    }
}

/// Consequence of a validation for what was validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replacement {
    /// The freshened entry takes its place.
    Publish,
    /// It stays as it is.
    Leave,
    /// It may not be stored any more.
    Forget,
}

impl Replacement {
    /// The consequence if the freshened response may be `storable`.
    fn new(storable: Result<(), NotStorable>) -> Self {
        match storable {
            Ok(()) => Self::Publish,
            // It is one client's own request that forbids it.
            Err(NotStorable::RequestNoStore | NotStorable::Authorization) => Self::Leave,
            Err(_) => Self::Forget,
        }
    }
}

/// Whether `old` may be replaced where `stored` is found: what somebody else has stored since is newer.
fn is_current(stored: Option<&Arc<Entry>>, old: &Arc<Entry>) -> bool {
    stored.is_none_or(|stored| Arc::ptr_eq(stored, old))
}

/// Ends a fill by removing what it has found to be of no use.
pub(super) fn forget(engine: &Engine, fill: &Arc<Fill>, plan: &Plan, old: &Arc<Entry>) {
    let now = engine.clock.now();
    engine.fills.leave(fill, || {
        engine.store.remove_entry(&plan.key.lookup, old, now);
        engine.store.remove_entry(&plan.key.url, old, now);
    });
}

/// What a response that was asked for in epoch `sent` belongs to: its site, its host, its tags, and the groups of RFC 9875,
/// which belong to an origin (§2.1).
pub(super) fn membership(engine: &Engine, plan: &Plan, fields: &HeaderMap, sent: Epoch) -> Membership {
    engine.store.join_groups(names(engine, plan, fields).iter().map(Vec::as_slice), sent, engine.clock.now())
}

/// The names of these.
fn names(engine: &Engine, plan: &Plan, fields: &HeaderMap) -> Vec<Vec<u8>> {
    let mut names = vec![engine.site_group(plan.site), engine.host_group(plan.site, &plan.key.url)];
    names.extend(engine.spelling_group(&plan.key.url));
    if tags::speaks_of_tags(fields) {
        names.extend(tags::tags(fields).iter().map(|tag| engine.tag_group(plan.site, tag)));
        let groups: BTreeSet<_> = groups::groups(fields).into_iter().collect();
        names.extend(groups.iter().map(|group| plan.key.group(group)));
    }
    names
}

/// The names of the groups of an entry that a 304 with the fields `fresh` has validated; `None` if they stay as they are.
///
/// A 304 that says nothing of groups and tags leaves those that are known. What it does say is more: edges have stripped the
/// fields that it may not carry. `known` are the groups of the entry, `named` those of its fields with the fresh ones.
fn names_after_validation<'n>(
    fresh: &HeaderMap,
    known: impl Iterator<Item = &'n [u8]>,
    named: impl FnOnce() -> Vec<Vec<u8>>,
) -> Option<BTreeSet<Vec<u8>>> {
    tags::speaks_of_tags(fresh).then(|| named().into_iter().chain(known.map(<[u8]>::to_vec)).collect())
}

/// The answer to a HEAD tells of what is stored for GETs: it is freshened, or useless (RFC 9111 §4.3.5).
pub(super) fn freshen_by_head(
    engine: &Engine,
    fill: &Arc<Fill>,
    plan: &Plan,
    asked: &Asked,
    fields: &HeaderMap,
    sent: Epoch,
) {
    let Some(old) = plan.stored.as_ref() else { return };
    match HeadNews::new(asked.head.status, fields, &old.head) {
        HeadNews::Nothing => {}
        _ if !engine.has(&plan.key, old, engine.clock.now()) => {}
        HeadNews::Describes => {
            let (entry, judged) = freshened(engine, plan, old, fields, asked.exchange, sent);
            replace(engine, fill, plan, old, &entry, judged.storable);
        }
        HeadNews::Contradicts => forget(engine, fill, plan, old),
    }
}

/// Relation of the answer to a HEAD to what is stored for GETs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeadNews {
    /// It says nothing about it: one of the two is no success.
    Nothing,
    /// It describes it.
    Describes,
    /// It describes something else.
    Contradicts,
}

impl HeadNews {
    /// The relation of an answer with this status and these fields to `stored`.
    fn new(status: StatusCode, fields: &HeaderMap, stored: &Head) -> Self {
        if status != StatusCode::OK || stored.status != StatusCode::OK {
            Self::Nothing
        } else if conditional::describes(fields, &stored.fields) {
            Self::Describes
        } else {
            Self::Contradicts
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{entry, fields, head, life, status};

    #[test]
    fn a_validation_takes_away_what_it_forbids_to_store_but_not_for_one_clients_request() {
        for (storable, expected) in [
            (Ok(()), Replacement::Publish),
            (Err(NotStorable::RequestNoStore), Replacement::Leave),
            (Err(NotStorable::Authorization), Replacement::Leave),
            (Err(NotStorable::NoStore), Replacement::Forget),
            (Err(NotStorable::Private), Replacement::Forget),
            (Err(NotStorable::SetCookie), Replacement::Forget),
            (Err(NotStorable::VaryAll), Replacement::Forget),
        ] {
            assert_eq!(Replacement::new(storable), expected, "{storable:?}");
        }
    }

    #[test]
    fn what_somebody_else_has_stored_meanwhile_is_not_replaced() {
        let stored = || entry(head(200, &[]), life(0, 0));
        let (old, newer) = (stored(), stored());
        assert!(is_current(None, &old));
        assert!(is_current(Some(&old), &old));
        assert!(!is_current(Some(&newer), &old));
    }

    #[test]
    fn a_validation_adds_groups_and_takes_none_away() {
        let after = |fresh: &[(&'static str, &str)]| {
            let known: [&[u8]; 2] = [b"site", b"old"];
            let named = || vec![b"site".to_vec(), b"new".to_vec()];
            names_after_validation(&fields(fresh), known.into_iter(), named)
        };
        let all = BTreeSet::from([b"new".to_vec(), b"old".to_vec(), b"site".to_vec()]);
        assert_eq!(after(&[("cache-tag", "new")]), Some(all.clone()));
        assert_eq!(after(&[("surrogate-key", "new")]), Some(all));
        assert_eq!(after(&[("cache-control", "max-age=60")]), None);
    }

    #[test]
    fn the_answer_to_a_head_freshens_what_it_describes_and_removes_what_it_contradicts() {
        let stored = [("etag", "\"a\""), ("content-length", "5")];
        for (number, answer, stored_status, expected) in [
            (200, &[("etag", "\"a\"")][..], 200, HeadNews::Describes),
            (200, &[("etag", "\"b\"")], 200, HeadNews::Contradicts),
            (200, &[("etag", "\"a\""), ("content-length", "6")], 200, HeadNews::Contradicts),
            // An error is no news of what is stored; a stored error is no answer to compare with.
            (404, &[("etag", "\"b\"")], 200, HeadNews::Nothing),
            (304, &[("etag", "\"a\"")], 200, HeadNews::Nothing),
            (200, &[("etag", "\"b\"")], 404, HeadNews::Nothing),
        ] {
            let found = HeadNews::new(status(number), &fields(answer), &head(stored_status, &stored));
            assert_eq!(found, expected, "{number} {answer:?} {stored_status}");
        }
    }
}
