//! Attempts that brought no response: whether another one may be made, and which error is told in the end.

use std::sync::Arc;

use nearside_http1::response::ResponseError;

use crate::HopError;
use crate::budget::Budget;

/// How a try ended that brought no answer.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: HopError,
    /// Nothing of an answer had come.
    silent: bool,
    /// The request, or some of it, had been sent.
    sent: bool,
    /// On a connection that had served before, so that its end says nothing about the hop.
    reused: bool,
}

impl Failed {
    /// Before anything was sent.
    pub(super) fn unsent(error: HopError) -> Self {
        Self { error, silent: true, sent: false, reused: false }
    }

    /// After it was sent, by a fault of the response; `begun` says that some of it had come.
    pub(super) fn in_response(hop: &Arc<str>, source: ResponseError, begun: bool, reused: bool) -> Self {
        Self { error: HopError::Response { hop: Arc::clone(hop), source }, silent: !begun, sent: true, reused }
    }

    /// After it was sent, by the end of a wait; `begun` says that some of the response had come.
    pub(super) fn in_wait(hop: &Arc<str>, late: Late, begun: bool, reused: bool) -> Self {
        match late {
            // Silence is no licence to ask elsewhere: the time of the client is used up.
            Late::Elapsed(_) | Late::Revoked(_) => {
                Self { error: late.or_response(hop), silent: false, sent: true, reused: false }
            }
            Late::Failed(source) => Self::in_response(hop, source, begun, reused),
        }
    }

    /// Whether the next upstream may be asked: nothing of an answer has come from this one.
    pub(super) fn lets_others_try(&self) -> bool {
        self.silent
    }

    /// Whether the next attempt is a retry, which has to be paid for. What was never sent costs nobody anything.
    pub(super) fn was_sent(&self) -> bool {
        self.sent
    }

    /// Whether the request may be sent again to the same upstream, on a new connection: that of the pool was dead.
    pub(super) fn replaces_connection(&self, may_be_pooled: bool) -> bool {
        self.silent && self.reused && may_be_pooled
    }

    /// Whether it is charged to the upstream. Of a shield, a late answer says that the origin is slow.
    pub(super) fn is_charged(&self, is_shield: bool) -> bool {
        self.silent || matches!(self.error, HopError::Timeout { .. }) && !is_shield
    }

    /// Of two failures the one that says more: a hop that was not asked at all says little.
    pub(super) fn worse(last: Option<Self>, failed: Self) -> Self {
        match last {
            Some(last) if matches!(failed.error, HopError::Down { .. } | HopError::Busy { .. }) => last,
            _ => failed,
        }
    }

    /// The error that is told when the last of the upstreams has failed; `None`: there was none to be asked.
    pub(super) fn told(last: Option<Self>) -> HopError {
        last.map_or_else(|| HopError::Down { hop: "every next hop".into() }, |failed| failed.error)
    }
}

/// Whether the next upstream may be asked. `unanswered` is about the one before, where the request was sent to it: whether it
/// is still in use after that.
pub(super) fn may_ask_next(unanswered: Option<bool>, budget: &Budget) -> bool {
    unanswered.is_none_or(|is_in_use| budget.may_retry(!is_in_use))
}

/// A wait that ended without its result.
#[derive(Debug)]
pub(super) enum Late {
    Elapsed(Arc<str>),
    Failed(ResponseError),
    /// The place at this hop goes to a request of another network.
    Revoked(Arc<str>),
}

/// End of the place at an origin of a request that has got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PlaceEnd {
    /// Its exchange is over, and the place free.
    Settled,
    /// The origin may still work on it.
    GivenUp,
    /// It is cancelled, and keeps its place for a moment, as every request that was sent.
    Cancelled,
}

impl Late {
    /// The end of the place of a request that ended so.
    pub(super) fn place_end(&self) -> PlaceEnd {
        match self {
            Self::Elapsed(_) => PlaceEnd::GivenUp,
            Self::Failed(_) => PlaceEnd::Settled,
            Self::Revoked(_) => PlaceEnd::Cancelled,
        }
    }

    pub(super) fn or_response(self, hop: &Arc<str>) -> HopError {
        match self {
            Self::Elapsed(hop) => HopError::Timeout { hop },
            Self::Revoked(hop) => HopError::OverShare { hop },
            Self::Failed(source) => HopError::Response { hop: Arc::clone(hop), source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop() -> Arc<str> {
        "origin".into()
    }

    fn closed(begun: bool, reused: bool) -> Failed {
        Failed::in_wait(&hop(), Late::Failed(ResponseError::Closed), begun, reused)
    }

    fn timed_out() -> Failed {
        Failed::in_wait(&hop(), Late::Elapsed(hop()), false, true)
    }

    fn revoked() -> Failed {
        Failed::in_wait(&hop(), Late::Revoked(hop()), false, true)
    }

    fn down() -> Failed {
        Failed::unsent(HopError::Down { hop: hop() })
    }

    fn busy() -> Failed {
        Failed::unsent(HopError::Busy { hop: hop() })
    }

    #[test]
    fn the_next_upstream_is_asked_only_while_nothing_of_an_answer_has_come_and_there_is_time() {
        for (failed, expected) in [
            (down(), true),
            (busy(), true),
            (closed(false, false), true),
            (closed(false, true), true),
            (closed(true, false), false),
            (timed_out(), false),
            (revoked(), false),
        ] {
            assert_eq!(failed.lets_others_try(), expected, "{failed:?}");
        }
    }

    #[test]
    fn only_a_request_that_was_sent_makes_the_next_attempt_a_retry() {
        for (failed, expected) in [(down(), false), (busy(), false), (closed(false, false), true), (timed_out(), true)]
        {
            assert_eq!(failed.was_sent(), expected, "{failed:?}");
        }
    }

    #[test]
    fn a_retry_is_paid_for_unless_the_upstream_that_did_not_answer_is_out_of_use() {
        let budget = Budget::default();
        assert!(may_ask_next(Some(true), &budget));
        while budget.may_retry(false) {}
        for (unanswered, expected) in [(None, true), (Some(false), true), (Some(true), false)] {
            assert_eq!(may_ask_next(unanswered, &budget), expected, "{unanswered:?}");
        }
    }

    #[test]
    fn a_connection_is_replaced_if_it_came_from_the_pool_and_brought_nothing() {
        for (failed, may_be_pooled, expected) in [
            (closed(false, true), true, true),
            // The second connection is a new one: there is no third.
            (closed(false, true), false, false),
            (closed(false, false), true, false),
            (closed(true, true), true, false),
            (timed_out(), true, false),
            (revoked(), true, false),
            (down(), true, false),
        ] {
            assert_eq!(failed.replaces_connection(may_be_pooled), expected, "{failed:?} {may_be_pooled}");
        }
    }

    #[test]
    fn silence_is_charged_to_an_upstream_and_slowness_only_to_an_origin() {
        for (failed, is_shield, expected) in [
            (closed(false, false), false, true),
            (closed(false, false), true, true),
            (timed_out(), false, true),
            (timed_out(), true, false),
            (closed(true, false), false, false),
            (revoked(), false, false),
        ] {
            assert_eq!(failed.is_charged(is_shield), expected, "{failed:?} {is_shield}");
        }
    }

    #[test]
    fn the_error_that_is_told_is_the_last_one_of_an_upstream_that_was_asked() {
        let told = |failures: Vec<Failed>| {
            let last = failures.into_iter().fold(None, |last, failed| Some(Failed::worse(last, failed)));
            Failed::told(last).reason().token()
        };
        let of = |failed: Failed| failed.error.reason().token();
        assert_eq!(told(vec![closed(false, false), down()]), of(closed(false, false)));
        assert_eq!(told(vec![closed(false, false), busy()]), of(closed(false, false)));
        assert_eq!(told(vec![down(), closed(false, false)]), of(closed(false, false)));
        assert_eq!(told(vec![closed(false, false), timed_out()]), of(timed_out()));
        // Of two that were not asked, the first.
        assert_eq!(told(vec![down(), busy()]), of(down()));
        assert_eq!(told(vec![busy(), down()]), of(busy()));
        assert_eq!(told(Vec::new()), of(down()), "there was none");
    }

    #[test]
    fn a_late_request_leaves_its_place_to_an_origin_that_may_still_work_on_it() {
        for (late, expected) in [
            (Late::Elapsed(hop()), PlaceEnd::GivenUp),
            (Late::Failed(ResponseError::Closed), PlaceEnd::Settled),
            (Late::Revoked(hop()), PlaceEnd::Cancelled),
        ] {
            assert_eq!(late.place_end(), expected, "{late:?}");
        }
    }
}
