//! Purges that clients of the cache request by method (`PURGE`, `BAN` and their relatives).

use std::sync::Arc;

use async_trait::async_trait;
use nearside_config::SiteId;
use nearside_upstream::upload::Upload;

use crate::request::{Answer, Engine, Request};

/// Serves purge requests that come to a listener for clients. The node implements it with the rules of its admin API.
#[async_trait]
pub trait MethodPurges: Send + Sync {
    /// Purges what `request` names, if its client may, and returns the response.
    async fn purge(&self, engine: &Arc<Engine>, site: SiteId, request: &Request, upload: Option<Upload>) -> Answer;
}
