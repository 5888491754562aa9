//! Decisions of a fill about later requests: what its response or its failure leaves behind.

use http::{Method, StatusCode};
use nearside_semantics::reuse::Reuse;
use nearside_telemetry::reason::Reason;
use nearside_upstream::HopError;

use super::judge::Finding;

/// Consequences of a response that was not stored, for the key that it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lesson {
    pub(super) remembered: Option<Remembered>,
    /// Whether what is stored has been shown to be of no use (RFC 9111 §4.3.3).
    pub(super) forgets_stored: bool,
}

/// What is remembered beside a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remembered {
    /// Its responses are not stored, for this reason.
    Uncacheable(Reason),
    /// A request for it was refused.
    Refused,
}

impl Lesson {
    /// The lesson of a response with this status to a request by `method`.
    pub(super) fn new(finding: Finding, status: StatusCode, method: &Method) -> Self {
        // A HEAD tells of what is stored in its own way.
        let is_whole = method == Method::GET;
        let remembered = match finding {
            Finding::Uncacheable(why) if is_whole => Some(Remembered::Uncacheable(why)),
            Finding::Refused => Some(Remembered::Refused),
            Finding::Uncacheable(_) | Finding::Nothing => None,
        };
        // "Not found" is no error of a request: a page that was deleted must not be served during its stale windows.
        let is_gone = matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
        let replaces = matches!(finding, Finding::Uncacheable(_)) || finding == Finding::Refused && is_gone;
        Self { remembered, forgets_stored: is_whole && replaces }
    }
}

/// Whether a refresh by a response that may be used so now should not be repeated at once. One client's error keeps nobody
/// from refreshing what is stored; errors of several do: `refusals` counts those before, and is asked only about an error.
pub(super) fn is_vain(status: StatusCode, reuse: Reuse, finding: Finding, refusals: impl FnOnce() -> u32) -> bool {
    let is_first = finding == Finding::Refused && status.is_client_error() && refusals() == 0;
    (status.is_server_error() || reuse != Reuse::Fresh) && !is_first
}

/// Whether those who wait for a fill that has failed so ask again by themselves.
pub(super) fn gives_way(error: &HopError, is_refresh: bool) -> bool {
    match error {
        HopError::Busy { .. } => is_refresh,
        // The other requests for it may come from other networks.
        HopError::Unwanted | HopError::OverShare { .. } => true,
        HopError::Resolve { .. }
        | HopError::Connect { .. }
        | HopError::Local { .. }
        | HopError::Timeout { .. }
        | HopError::Response { .. }
        | HopError::Body
        | HopError::SlowBody { .. }
        | HopError::Changed { .. }
        | HopError::Short
        | HopError::Down { .. } => false,
    }
}

/// Course of a response whose head has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// Its body is carried to those who wait, and stored.
    Keep,
    /// Its body is carried to the one who leads.
    Pass,
    /// Its body is not wanted: nobody leads, and who has joined meanwhile goes forward alone.
    Drop,
}

impl Course {
    /// The course of a response; `background` says that nobody waits for it.
    pub(super) fn new(is_stored: bool, background: bool) -> Self {
        match (is_stored, background) {
            (true, _) => Self::Keep,
            (false, true) => Self::Drop,
            (false, false) => Self::Pass,
        }
    }
}

#[cfg(test)]
mod tests {
    use nearside_semantics::reuse::Stale;

    use super::*;
    use crate::samples::status;

    const NO_STORE: Finding = Finding::Uncacheable(Reason::NoStore);

    fn lesson(finding: Finding, number: u16, method: &Method) -> Lesson {
        Lesson::new(finding, status(number), method)
    }

    #[test]
    fn what_is_not_stored_is_remembered_of_whole_answers_and_refusals_of_all() {
        use Remembered::{Refused, Uncacheable};
        for (finding, number, method, expected) in [
            (NO_STORE, 200, Method::GET, Some(Uncacheable(Reason::NoStore))),
            (NO_STORE, 200, Method::HEAD, None),
            (Finding::Refused, 403, Method::GET, Some(Refused)),
            (Finding::Refused, 403, Method::HEAD, Some(Refused)),
            (Finding::Nothing, 200, Method::GET, None),
        ] {
            assert_eq!(lesson(finding, number, &method).remembered, expected, "{finding:?} {number} {method}");
        }
    }

    #[test]
    fn what_is_stored_is_forgotten_when_a_whole_answer_replaces_it_and_not_for_an_error() {
        for (finding, number, method, expected) in [
            (NO_STORE, 200, Method::GET, true),
            (NO_STORE, 404, Method::GET, true),
            (NO_STORE, 200, Method::HEAD, false),
            (Finding::Refused, 404, Method::GET, true),
            (Finding::Refused, 410, Method::GET, true),
            (Finding::Refused, 410, Method::HEAD, false),
            (Finding::Refused, 403, Method::GET, false),
            (Finding::Refused, 500, Method::GET, false),
            (Finding::Nothing, 404, Method::GET, false),
        ] {
            assert_eq!(lesson(finding, number, &method).forgets_stored, expected, "{finding:?} {number} {method}");
        }
    }

    #[test]
    fn a_refresh_rests_after_an_error_unless_it_is_the_first_of_one_client() {
        let stale = Reuse::Validate { because: Stale::Expired, on_error: false };
        for (number, reuse, finding, refusals, expected) in [
            (200, Reuse::Fresh, Finding::Nothing, 0, false),
            (200, stale, Finding::Nothing, 0, true),
            (200, Reuse::WhileRevalidate, Finding::Nothing, 0, true),
            (404, Reuse::Fresh, Finding::Nothing, 0, false),
            (403, stale, Finding::Refused, 0, false),
            (403, stale, Finding::Refused, 1, true),
            (403, Reuse::Fresh, Finding::Refused, 1, false),
            // An error of the origin is nobody's own.
            (500, stale, Finding::Refused, 0, true),
            (503, Reuse::Fresh, Finding::Nothing, 0, true),
        ] {
            assert_eq!(is_vain(status(number), reuse, finding, || refusals), expected, "{number} {reuse:?} {refusals}");
        }
    }

    #[test]
    fn those_who_wait_ask_again_if_the_fill_was_not_tried_with_their_weight() {
        let hop: std::sync::Arc<str> = "o".into();
        for (error, is_refresh, expected) in [
            (HopError::Busy { hop: hop.clone() }, true, true),
            (HopError::Busy { hop: hop.clone() }, false, false),
            (HopError::OverShare { hop: hop.clone() }, false, true),
            (HopError::Unwanted, false, true),
            (HopError::Timeout { hop: hop.clone() }, true, false),
            (HopError::Down { hop }, true, false),
            (HopError::Short, true, false),
        ] {
            assert_eq!(gives_way(&error, is_refresh), expected, "{error} {is_refresh}");
        }
    }

    #[test]
    fn a_body_that_is_not_stored_is_carried_only_for_a_client() {
        for (is_stored, background, expected) in [
            (true, false, Course::Keep),
            (true, true, Course::Keep),
            (false, false, Course::Pass),
            (false, true, Course::Drop),
        ] {
            assert_eq!(Course::new(is_stored, background), expected, "{is_stored} {background}");
        }
    }
}
