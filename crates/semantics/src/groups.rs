//! Groups of responses that are invalidated together (RFC 9875).
//!
//! `Cache-Groups` on a response names the groups that it belongs to; `Cache-Group-Invalidation` on the answer to an
//! unsafe request names groups whose responses are to be used no more. Both are Structured Field lists of strings;
//! groups of different origins have nothing to do with one another, whatever their names (§2.1), which is the caller's
//! business. What is no such list says nothing.

use http::header::HeaderName;
use http::{HeaderMap, Method};
use sfv::{BareItem, List, ListEntry, Parser};

use crate::control::joined;

/// `Cache-Groups` (RFC 9875 §2).
pub const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
/// `Cache-Group-Invalidation` (RFC 9875 §3).
pub const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

/// Groups of one response that are looked at. §2 wants at least 32; tags of other systems reach a thousand.
pub const GROUPS_MAX: usize = 1000;
/// The longest name of a group, in bytes; longer ones are left out. §2 wants at least 32 characters.
pub const GROUP_BYTES_MAX: usize = 1024;

/// The groups that a response belongs to.
#[must_use]
pub fn groups(response: &HeaderMap) -> Vec<String> {
    strings(response, &CACHE_GROUPS)
}

/// The groups that the answer to a request with `method` invalidates: "MUST be ignored" where the method is safe (§3).
#[must_use]
pub fn invalidated(method: &Method, response: &HeaderMap) -> Vec<String> {
    if method.is_safe() { Vec::new() } else { strings(response, &CACHE_GROUP_INVALIDATION) }
}

fn strings(fields: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let Some(line) = joined(fields, name) else { return Vec::new() };
    let Ok(list) = Parser::new(&line).parse::<List>() else { return Vec::new() };
    let string = |entry: ListEntry| match entry {
        ListEntry::Item(item) => match item.bare_item {
            BareItem::String(text) => Some(String::from(text)),
            _ => None,
        },
        ListEntry::InnerList(_) => None,
    };
    list.into_iter().filter_map(string).filter(|name| name.len() <= GROUP_BYTES_MAX).take(GROUPS_MAX).collect()
}
