//! Admission of a request to a next hop: the circuit breaker, and a place at an origin.

use std::sync::Arc;

use nearside_telemetry::clock::{Clock, instant};

use super::breaker::Admission;
use super::gate::Place;
use super::{Forward, Hop, HopError, Hops};

impl Hops {
    /// Waits for a place at a hop, if requests for the URL of `forward` may be sent there at all. Shields have no places.
    pub(super) async fn enter(
        &self,
        hop: &Arc<Hop>,
        forward: &Forward,
        clock: &Clock,
    ) -> Result<Option<Place>, HopError> {
        let url = hop.url(forward);
        let down = || HopError::Down { hop: Arc::clone(&hop.name) };
        let admission = hop.health.admit(url, instant());
        match (admission, &hop.gate) {
            (Admission::Pass, _) => {}
            // A trial does not wait: a request that cannot make it is answered at once.
            (Admission::Trial, Some(gate)) => return gate.try_enter(forward.network).map(Some).ok_or_else(down),
            (Admission::Probe, _) if self.probe_origin(hop, forward, clock).await => {}
            (Admission::Trial | Admission::Probe | Admission::Refused, _) => return Err(down()),
        }
        let Some(gate) = &hop.gate else { return Ok(None) };
        let busy = |_busy| HopError::Busy { hop: Arc::clone(&hop.name) };
        let place = gate.enter(forward.urgency, forward.network).await.map_err(busy)?;
        // After the wait, in which it may have gone down.
        if hop.health.still_admits(url, instant()) { Ok(Some(place)) } else { Err(down()) }
    }
}
