//! The state of a node, as the admin API lists it.

use serde::Serialize;
use utoipa::ToSchema;

/// A node, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct NodeState {
    /// Its name.
    pub id: String,
    /// `edge` or `shield`.
    pub role: String,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    /// Where its admin listener is, as far as that is known: an address with a port. On the loopback it is reached on its own
    /// machine only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
    /// The version of the program.
    pub version: String,
    /// `ready`, `stopping` or `unreachable`.
    pub state: String,
    /// Its sites.
    pub sites: Vec<String>,
    /// The number of the last purge of the log that it has applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied: Option<u64>,
    /// How many there are that it has not applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
}
