//! What a node keeps: responses with their variants, in memory, within a fixed number of bytes.
//!
//! An [`Entry`] is an immutable response head with its times and a shared [`Body`]; entries that differ by `Vary` live
//! side by side in one [`Slot`] under one cache key. A body can be read by many while it is still growing. Everything
//! that is alive (stored, being filled, evicted but still being read) is charged to one [`Budget`].
//!
//! **Invariant:** the bytes charged never exceed the configured memory. A body that has not ended well is never
//! stored and never looks whole to a reader.
//!
//! The verdicts about what may be stored or reused are `semantics`' business.

pub mod body;
pub mod budget;
pub mod entry;
pub mod groups;
mod negative;
pub mod policy;
mod search_rules;
mod slicing;
mod slot;
pub mod store;
mod table;

pub use body::{Body, BodyReader, BodyWriter, PINNED_BYTES_MIN, Read};
pub use budget::{Budget, Charge};
pub use entry::{Entry, Head};
pub use groups::{Epoch, Membership};
pub use negative::{NegativeCache, PartialRequest, Sharing};
pub use policy::Policy;
pub use search_rules::{SearchRule, SearchRules};
pub use slicing::{Slicing, Slicings};
pub use slot::Slot;
pub use store::{Limits, Purge, Store};
pub use table::Evictions;
