//! Stored responses, as the admin API lists them.

use serde::Serialize;
use utoipa::ToSchema;

/// One stored variant of a URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Object {
    /// The status that it answers with.
    pub status: u16,
    /// The bytes of its body.
    pub bytes: u64,
    /// Seconds since it was made.
    pub age: u64,
    /// Seconds that it is still fresh; negative when it is stale.
    pub ttl: i64,
    /// What may be done with it now: `fresh`, `stale-while-revalidate`, `stale-if-error` or `validate`.
    pub state: &'static str,
    /// The request fields that select it.
    pub vary: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its validator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}
