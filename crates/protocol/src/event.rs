//! Events of a process, as the admin API and webhooks send them.

use serde::Serialize;
use serde_json::Value;

/// What has happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// Tells it from every other, also of other processes: what is delivered twice is one event.
    pub id: String,
    /// What it is: `purge`, `receipt`, `node-up`, `node-down`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// When: milliseconds since the Unix epoch.
    pub timestamp: u64,
    /// More of it.
    pub data: Value,
}
