//! Decisions about a body that comes from several hops: how far it is, when the rest is asked for, and what an answer to that
//! request means.

use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{Method, StatusCode};
use nearside_semantics::range::Span;
use nearside_semantics::resume::{Rest, Wanted};

/// Number of attempts to get the rest until a body gets on by [`PROGRESS_BYTES`].
const RESUMES_MAX: u32 = 5;
/// Bytes by which a body has to get on before the attempts are counted anew: a connection that is cut every now and then
/// does not end a long body.
const PROGRESS_BYTES: u64 = 1 << 20;
/// Wait before the second attempt; there is none before the first, and each further one is twice as long.
const BACKOFF: Duration = Duration::from_millis(100);

/// Byte counts of a body on its way in.
#[derive(Debug)]
pub(super) struct Progress {
    received: u64,
    /// Bytes that come a second time, from a hop that has begun anew.
    skip: u64,
    /// Length of the whole body, where it is known.
    length: Option<u64>,
    /// Whether the length has to be kept here: of a block, however its hop frames it, and after a resume, because the framing
    /// of one hop covers only its own bytes.
    is_bounded: bool,
}

impl Progress {
    /// A body of which nothing has come yet.
    pub(super) fn new(length: Option<u64>, is_block: bool) -> Self {
        Self { received: 0, skip: 0, length, is_bounded: is_block }
    }

    /// Number of bytes that have come.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Length of the whole body, where it is known.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Counts a piece, and returns its bytes that have not come before.
    pub(super) fn take(&mut self, mut bytes: Bytes) -> Bytes {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        bytes.advance(skipped);
        self.skip -= skipped as u64;
        self.received += bytes.len() as u64;
        bytes
    }

    /// Whether a hop that has ended well now has sent less than was promised: that is no end of the body.
    pub(super) fn is_short(&self) -> bool {
        self.is_bounded && (self.skip > 0 || self.length.is_some_and(|length| self.received < length))
    }

    /// Whether more has come than there can be.
    pub(super) fn is_long(&self) -> bool {
        self.is_bounded && self.length.is_some_and(|length| self.received > length)
    }

    /// Goes on behind the last byte, in a body of `length` bytes.
    pub(super) fn go_on(&mut self, length: u64) {
        self.length = self.length.or(Some(length));
        self.skip = 0;
        self.is_bounded = true;
    }

    /// Reads from a hop that sends the body from its start.
    pub(super) fn start_over(&mut self) {
        self.skip = self.received;
        self.is_bounded = true;
    }
}

/// Attempts to get the rest of a body.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    made: u32,
    /// Bytes that had come when the count began.
    since: u64,
}

impl Attempts {
    /// Counts anew for a body that has got on far enough with `received` bytes.
    pub(super) fn begin(&mut self, received: u64) {
        if received - self.since >= PROGRESS_BYTES {
            *self = Self { made: 0, since: received };
        }
    }

    /// Counts the next attempt, and returns the wait before it; `None` if there have been enough.
    pub(super) fn next(&mut self) -> Option<Duration> {
        let made = self.made;
        if made >= RESUMES_MAX {
            return None;
        }
        self.made += 1;
        Some(made.checked_sub(1).map_or(Duration::ZERO, |doublings| BACKOFF.saturating_mul(1 << doublings)))
    }
}

/// Consequence of an answer to a request for the rest of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resumption {
    /// It is the rest, and the body has this length.
    GoOn { length: u64 },
    /// It is the same body from its start.
    StartOver,
    /// It is another body: what was received is of no use.
    Changed,
    /// It says nothing; another attempt may help.
    TryAgain,
    /// It says nothing, and nothing better is to be expected.
    GiveUp,
}

impl Resumption {
    /// Decides on an answer with this status that was found to be `rest`.
    pub(super) fn new(rest: Rest, status: StatusCode, is_block: bool) -> Self {
        match rest {
            Rest::Continues { length } => Self::GoOn { length },
            // The whole is more than the block that was asked for.
            Rest::Restarts if is_block => Self::GiveUp,
            Rest::Restarts => Self::StartOver,
            Rest::Changed => Self::Changed,
            Rest::Useless if status.is_server_error() => Self::TryAgain,
            Rest::Useless => Self::GiveUp,
        }
    }
}

/// Whether the rest of a response can be asked for, if it has a strong validator: a GET was answered with all of a
/// representation, or with the block that was asked for.
pub(super) fn is_resumable(method: &Method, status: StatusCode, has_range: bool, is_block: bool) -> bool {
    method == Method::GET && (status == StatusCode::OK && !has_range || is_block)
}

/// The part of a representation that is still to come after `received` bytes. `block` is the part that was asked for and the
/// length of the whole, where it was not all.
pub(super) fn wanted(block: Option<(Span, u64)>, received: u64, length: Option<u64>) -> Wanted {
    match block {
        None => Wanted { start: received, end: None, length },
        Some((span, whole)) => Wanted { start: span.start + received, end: Some(span.end), length: Some(whole) },
    }
}

/// Value of the `Range` field that asks for what is wanted.
pub(super) fn range_value(wanted: Wanted) -> String {
    let last = wanted.end.map_or_else(String::new, |end| (end - 1).to_string());
    format!("bytes={}-{last}", wanted.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(length: usize) -> Bytes {
        Bytes::from(vec![b'x'; length])
    }

    #[test]
    fn only_the_whole_or_the_wanted_block_of_a_get_can_be_resumed() {
        for (method, status, has_range, is_block, expected) in [
            (Method::GET, 200, false, false, true),
            (Method::GET, 206, true, true, true),
            (Method::GET, 206, true, false, false),
            (Method::GET, 200, true, false, false),
            (Method::GET, 404, false, false, false),
            (Method::HEAD, 200, false, false, false),
            (Method::POST, 200, false, false, false),
            (Method::POST, 206, true, true, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(is_resumable(&method, status, has_range, is_block), expected, "{method} {status} {has_range}");
        }
    }

    #[test]
    fn an_answer_for_the_rest_is_used_only_if_it_is_of_the_same_body() {
        use Resumption::{Changed, GiveUp, GoOn, StartOver, TryAgain};
        for (rest, status, is_block, expected) in [
            (Rest::Continues { length: 9 }, 206, false, GoOn { length: 9 }),
            (Rest::Continues { length: 9 }, 206, true, GoOn { length: 9 }),
            (Rest::Restarts, 200, false, StartOver),
            (Rest::Restarts, 200, true, GiveUp),
            (Rest::Changed, 200, false, Changed),
            (Rest::Changed, 404, true, Changed),
            (Rest::Useless, 503, false, TryAgain),
            (Rest::Useless, 206, false, GiveUp),
            (Rest::Useless, 416, false, GiveUp),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Resumption::new(rest, status, is_block), expected, "{rest:?} {status} {is_block}");
        }
    }

    #[test]
    fn the_first_attempt_is_made_at_once_and_each_further_wait_is_doubled() {
        let mut attempts = Attempts::default();
        let waits: Vec<_> = std::iter::from_fn(|| attempts.next()).map(|wait| wait.as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800]);
    }

    #[test]
    fn attempts_are_counted_anew_only_when_the_body_has_got_on() {
        let mut attempts = Attempts::default();
        attempts.begin(PROGRESS_BYTES - 1);
        while attempts.next().is_some() {}
        attempts.begin(PROGRESS_BYTES - 1);
        assert_eq!(attempts.next(), None, "not far enough since the start");
        attempts.begin(PROGRESS_BYTES);
        assert_eq!(attempts.next(), Some(Duration::ZERO));
        attempts.begin(2 * PROGRESS_BYTES - 1);
        assert_eq!(attempts.next(), Some(BACKOFF), "not far enough since the last count began");
    }

    #[test]
    fn bytes_that_come_a_second_time_are_dropped_and_not_counted() {
        let mut progress = Progress::new(Some(10), false);
        assert_eq!(progress.take(piece(6)).len(), 6);
        progress.start_over();
        assert_eq!(progress.take(piece(4)).len(), 0);
        assert!(progress.is_short(), "what came again is no progress");
        assert_eq!(progress.take(piece(5)).len(), 3, "two bytes were still to skip");
        assert_eq!((progress.received(), progress.is_short()), (9, true));
        assert_eq!(progress.take(piece(1)).len(), 1);
        assert_eq!((progress.received(), progress.is_short(), progress.is_long()), (10, false, false));
    }

    #[test]
    fn a_restart_that_breaks_off_is_skipped_from_its_own_start() {
        let mut progress = Progress::new(None, false);
        progress.take(piece(6));
        progress.start_over();
        progress.take(piece(2));
        progress.start_over();
        assert_eq!(progress.take(piece(7)).len(), 1);
        progress.start_over();
        progress.go_on(9);
        assert_eq!(progress.take(piece(2)).len(), 2, "a continuation has nothing to skip");
        assert_eq!((progress.received(), progress.length()), (9, Some(9)));
    }

    #[test]
    fn the_length_is_checked_of_blocks_and_after_a_resume_only() {
        // Before, the framing of the one hop does it.
        let mut progress = Progress::new(Some(4), false);
        progress.take(piece(3));
        assert!(!progress.is_short());
        progress.take(piece(2));
        assert!(!progress.is_long());
        progress.go_on(4);
        assert!(progress.is_long());
        let mut block = Progress::new(Some(4), true);
        block.take(piece(3));
        assert!(block.is_short());
        block.take(piece(2));
        assert!(block.is_long() && !block.is_short());
    }

    #[test]
    fn a_known_length_is_not_replaced_by_a_later_answer() {
        let mut progress = Progress::new(Some(10), false);
        progress.go_on(12);
        assert_eq!(progress.length(), Some(10));
        let mut unknown = Progress::new(None, false);
        unknown.go_on(12);
        assert_eq!(unknown.length(), Some(12));
    }

    #[test]
    fn the_rest_begins_behind_what_has_come_and_ends_with_its_block() {
        let block = Some((Span { start: 100, end: 200 }, 1000));
        for (block, received, length, expected) in [
            (None, 0, Some(9), "bytes=0-"),
            (None, 7, None, "bytes=7-"),
            (block, 0, None, "bytes=100-199"),
            (block, 30, None, "bytes=130-199"),
        ] {
            assert_eq!(range_value(wanted(block, received, length)), expected);
        }
        // Of a block, the whole is longer than what is received of it.
        assert_eq!(wanted(block, 30, Some(100)).length, Some(1000));
        assert_eq!(wanted(None, 7, Some(9)).length, Some(9));
    }
}
