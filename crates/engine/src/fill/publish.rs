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
use nearside_store::{Entry, Epoch, Membership};
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
    // A 304 that says nothing of groups and tags leaves those that are known. What it does say is more: edges have
    // stripped the fields that it may not carry.
    let groups = if tags::speaks_of_tags(fresh) {
        let known = old.groups.names().map(<[u8]>::to_vec);
        let names: BTreeSet<_> = names(engine, plan, &fields).into_iter().chain(known).collect();
        engine.store.join_groups(names.iter().map(Vec::as_slice), sent, engine.clock.now())
    } else {
        old.groups.asked_again(sent)
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
        if let Some(old) = plan.stored.as_ref().filter(|_| *key != *plan.key.bytes) {
            engine.store.remove_entry(&plan.key.bytes, old, engine.clock.now());
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
    if key == plan.key.bytes {
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
    match storable {
        Ok(()) => store_if(engine, fill, plan, entry, |key| {
            let slot = engine.store.lookup(key, engine.clock.now());
            let stored = slot.as_ref().and_then(|slot| slot.select(&plan.request));
            stored.is_none_or(|stored| Arc::ptr_eq(stored, old))
        }),
        // It is one client's own request that forbids it.
        Err(NotStorable::RequestNoStore | NotStorable::Authorization) => engine.fills.leave(fill, || {}),
        Err(_) => forget(engine, fill, plan, old),
    }
}

/// Ends a fill by removing what it has found to be of no use.
pub(super) fn forget(engine: &Engine, fill: &Arc<Fill>, plan: &Plan, old: &Arc<Entry>) {
    let now = engine.clock.now();
    engine.fills.leave(fill, || {
        engine.store.remove_entry(&plan.key.bytes, old, now);
        engine.store.remove_entry(&plan.key.exact, old, now);
    });
}

/// What a response that was asked for in epoch `sent` belongs to: its site, its host, its tags, and the groups of RFC 9875,
/// which belong to an origin (§2.1).
pub(super) fn membership(engine: &Engine, plan: &Plan, fields: &HeaderMap, sent: Epoch) -> Membership {
    engine.store.join_groups(names(engine, plan, fields).iter().map(Vec::as_slice), sent, engine.clock.now())
}

/// The names of these.
fn names(engine: &Engine, plan: &Plan, fields: &HeaderMap) -> Vec<Vec<u8>> {
    let mut names = vec![engine.site_group(plan.site), engine.host_group(plan.site, &plan.key.exact)];
    names.extend(engine.spelling_group(&plan.key.exact));
    if tags::speaks_of_tags(fields) {
        names.extend(tags::tags(fields).iter().map(|tag| engine.tag_group(plan.site, tag)));
        let groups: BTreeSet<_> = groups::groups(fields).into_iter().collect();
        names.extend(groups.iter().map(|group| plan.key.group(group)));
    }
    names
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
    let Some(old) = plan.stored.as_ref().filter(|old| {
        let both = asked.head.status == StatusCode::OK && old.head.status == StatusCode::OK;
        both && engine.has(&plan.key, old, engine.clock.now())
    }) else {
        return;
    };
    if conditional::describes(fields, &old.head.fields) {
        let (entry, judged) = freshened(engine, plan, old, fields, asked.exchange, sent);
        replace(engine, fill, plan, old, &entry, judged.storable);
    } else {
        forget(engine, fill, plan, old);
    }
}
