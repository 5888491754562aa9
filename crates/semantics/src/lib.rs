//! The rules of HTTP caching as pure functions.
//!
//! Given a request head, a response head and a moment, this crate says what a shared cache may do: store, reuse,
//! validate, answer a conditional or a range. It implements RFC 9111 (caching), the parts of RFC 9110 that a cache
//! answers by itself (validators, conditionals, ranges), RFC 5861 (stale windows), RFC 9211 (`Cache-Status`), RFC 9213
//! (targeted control), RFC 9875 (groups) and `No-Vary-Search`.
//!
//! **Invariant:** no input or output, no clock, no async, no panic on any bytes; time is always an argument and a
//! malformed field is a case that the RFC answers, never an error.
//!
//! Start reading at [`storable`], then [`lifetime`] and [`reuse`]. The cases are in `tests/it`, a file a section.

pub mod age;
pub mod cache_status;
pub mod conditional;
pub mod control;
pub mod date;
pub mod directives;
pub mod fields;
pub mod groups;
pub mod invalidation;
pub mod key;
pub mod lifetime;
pub mod negotiate;
pub mod query;
pub mod range;
pub mod resume;
pub mod reuse;
pub mod spelling;
pub mod storable;
pub mod tags;
pub mod time;
pub mod trailers;
pub mod vary;

pub use time::{DeltaSeconds, Timestamp};
