//! The stored responses of a URL, as the admin API lists them.

use nearside_protocol::{Object, Problem};
use nearside_semantics::reuse::Reuse;
use nearside_store::Entry;

use crate::purge::targets::key_of;
use crate::request::Engine;

/// Lists the variants that are stored for a URL and can still be used.
///
/// # Errors
///
/// The URL is not one of this node.
pub fn objects(engine: &Engine, url: &str) -> Result<Vec<Object>, Problem> {
    let (_, key) = key_of(engine, url)?;
    let now = engine.clock.now();
    let varied = engine.varied_key(&key, now).map(|(key, _)| key);
    let keys = [Some(&key[..]), varied.as_deref()].into_iter().flatten();
    let slots = keys.filter_map(|key| engine.store.lookup(key, now));
    Ok(slots.flat_map(|slot| slot.entries().filter_map(|entry| object(engine, entry)).collect::<Vec<_>>()).collect())
}

/// What is told of an entry; nothing if it can be used no more.
fn object(engine: &Engine, entry: &Entry) -> Option<Object> {
    let now = engine.clock.now();
    let freshness = entry.freshness(now)?;
    let state = match freshness.reuse(now, None) {
        Reuse::Fresh | Reuse::StaleAccepted => "fresh",
        Reuse::WhileRevalidate => "stale-while-revalidate",
        Reuse::Validate { on_error: true, .. } => "stale-if-error",
        Reuse::Validate { on_error: false, .. } => "validate",
    };
    let fields = &entry.head.fields;
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Some(Object {
        status: entry.head.status.as_u16(),
        bytes: entry.body.len().unwrap_or(0),
        age: freshness.age(now).as_secs(),
        ttl: freshness.ttl(now),
        state,
        vary: fields.get_all(http::header::VARY).iter().map(text).collect(),
        tags: entry.groups.names().filter_map(Engine::tag_of).collect(),
        etag: fields.get(http::header::ETAG).map(text),
    })
}
