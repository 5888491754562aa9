//! HTTP/1.1 on the wire (RFC 9112), for both sides of a node: heads, framing, chunks.
//!
//! Own code in place of pingora's sessions, because those rewrite `Date`, drop trailers, take an empty chunk-size line
//! for the last chunk and cannot be handed a request that was read already (ADR 0002). Everything here is strict:
//! what two parties could read in two ways is refused, never repaired.

pub mod borrowed;
pub mod chunked;
pub mod framing;
pub mod request;
pub mod response;
pub mod write;
