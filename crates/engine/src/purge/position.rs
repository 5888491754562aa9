//! The position of this node in the purge log, by which two tiers agree on how far they are.
//!
//! A forward to a shield says which purges this node knows. A shield that has not applied them may have what was purged; it
//! waits a moment, and then asks the origin for that request.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use nearside_config::{Config, OnLag, SiteId};
use nearside_replication::{At, Position};
use nearside_telemetry::clock::instant;
use nearside_upstream::KnownPurges;
use nearside_upstream::fields::PURGES;

use crate::request::Engine;

/// So long a shield waits for what an edge has applied already.
const CATCH_UP: Duration = Duration::from_millis(500);

/// The place of a node in the purge log that it is to follow; of a node alone, nothing.
pub(crate) fn position(config: &Config) -> Option<Arc<Position>> {
    config.control.as_ref().map(|_| Arc::new(Position::new(instant())))
}

/// Returns the purges that a node at this place knows, as shields read them from [`PURGES`].
pub(crate) fn known_purges(position: Option<Arc<Position>>) -> KnownPurges {
    Box::new(move || {
        let At { log, seq } = position.as_ref()?.needs()?;
        Some(format!("{log}/{seq}"))
    })
}

impl Engine {
    /// Whether what is stored of a site must be validated before it is served, because it is not known what was purged.
    pub(crate) fn lags(&self, site: SiteId) -> bool {
        let Some(position) = &self.position else { return false };
        // A node that was never in touch is waited for by nobody.
        position.is_new() || position.lags() && self.rules(site).on_lag == OnLag::Revalidate
    }

    /// Whether a request comes from a cache that has applied purges which are unknown here, also after a moment.
    pub(crate) async fn is_behind(&self, fields: &HeaderMap) -> bool {
        let Some(position) = self.position.as_ref().filter(|_| self.tier.serves_caches()) else { return false };
        let needed = fields.get(PURGES).and_then(|value| value.to_str().ok()?.split_once('/'));
        let Some((log, seq)) = needed.and_then(|(log, seq)| Some((log, seq.parse().ok()?))) else { return false };
        !position.reaches(&At { log: log.to_owned(), seq }, CATCH_UP).await
    }
}
