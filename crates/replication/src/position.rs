//! How far a node is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::At;

/// How far a node is with the log that it follows.
#[derive(Debug)]
pub struct Position {
    state: Mutex<State>,
    /// It was never in touch with a log. Beside the state, as the next: every hit asks.
    is_new: AtomicBool,
    /// It has been behind for too long.
    lags: AtomicBool,
    moved: Notify,
    /// Wakes [`watch`](Self::watch): the node has stopped being up to date.
    fell_behind: Notify,
    /// The control process does not know this node any more.
    pub(crate) forgotten: Notify,
}

#[derive(Debug)]
struct State {
    /// What was applied. Moves after it was.
    at: Option<At>,
    /// The name of the order that was applied last; empty if it is not known.
    last: String,
    /// What is known, applied or about to be. Moves before anything of it is applied.
    needs: Option<At>,
    is_connected: bool,
    /// Since when it has not been known to be up to date; nothing if it is.
    behind_since: Option<Instant>,
}

impl Position {
    /// A node that has not heard of a log yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let state = State { at: None, last: String::new(), needs: None, is_connected: false, behind_since: Some(now) };
        Self {
            state: Mutex::new(state),
            is_new: AtomicBool::new(true),
            lags: AtomicBool::new(false),
            moved: Notify::new(),
            fell_behind: Notify::new(),
            forgotten: Notify::new(),
        }
    }

    /// Whether the log is being followed.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state.lock().is_connected
    }

    /// Whether it has been out of touch, or behind, for longer than is allowed.
    #[must_use]
    pub fn lags(&self) -> bool {
        self.lags.load(Ordering::Relaxed)
    }

    /// Whether it was never in touch with a log.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new.load(Ordering::Relaxed)
    }

    /// The place, once there was one.
    #[must_use]
    pub fn at(&self) -> Option<At> {
        self.state.lock().at.clone()
    }

    /// The place, and the name of the order that was applied last.
    pub(crate) fn place(&self) -> (Option<At>, String) {
        let state = self.state.lock();
        (state.at.clone(), state.last.clone())
    }

    /// The last number that was applied, and how many there are known to be that were not.
    #[must_use]
    pub fn applied_and_lag(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.applied(), state.lag())
    }

    /// What must have been applied by whoever is to tell this node anything new: the last number that is known, applied here
    /// or about to be.
    #[must_use]
    pub fn needs(&self) -> Option<At> {
        self.state.lock().needs.clone()
    }

    /// Waits until a place was reached, for `patience` at most; whether it was.
    pub async fn reaches(&self, needed: &At, patience: Duration) -> bool {
        let reached = async {
            loop {
                let moved = self.moved.notified();
                tokio::pin!(moved);
                moved.as_mut().enable();
                if self.at().is_some_and(|at| at.log == needed.log && at.seq >= needed.seq) {
                    return;
                }
                moved.await;
            }
        };
        tokio::time::timeout(patience, reached).await.is_ok()
    }

    /// It will be where a log is, as soon as it has made stale what it has.
    pub(crate) fn expect(&self, at: &At) {
        self.state.lock().needs = Some(at.clone());
    }

    /// It is there.
    pub(crate) fn start(&self, at: &At, last: String, now: Instant) {
        self.change(now, |state| {
            state.at = Some(at.clone());
            state.last = last;
            state.is_connected = true;
        });
        self.is_new.store(false, Ordering::Relaxed);
        self.moved.notify_waiters();
    }

    /// All up to a number was applied; `last` is the name of the order with that number.
    pub(crate) fn advance(&self, seq: u64, last: String, now: Instant) {
        self.change(now, |state| {
            state.last = last;
            if let Some(at) = &mut state.at {
                at.seq = seq;
            }
        });
        self.moved.notify_waiters();
    }

    /// The log has this many.
    pub(crate) fn hear(&self, head: u64, now: Instant) {
        self.change(now, |state| {
            state.is_connected = true;
            if let Some(needs) = &mut state.needs {
                needs.seq = needs.seq.max(head);
            }
        });
    }

    /// It is out of touch.
    pub(crate) fn lose(&self, now: Instant) {
        self.change(now, |state| state.is_connected = false);
    }

    fn change(&self, now: Instant, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        if state.is_connected && state.at.is_some() && state.lag() == 0 {
            state.behind_since = None;
            // At once; the beginning of a lag is noticed by `watch`.
            self.lags.store(false, Ordering::Relaxed);
        } else if state.behind_since.is_none() {
            state.behind_since = Some(now);
            self.fell_behind.notify_one();
        }
    }

    /// Keeps [`lags`](Self::lags) up to date. Sleeps while the node is up to date, and until `most` has passed once it is behind.
    pub(crate) async fn watch(&self, now: impl Fn() -> Instant, most: Duration) {
        loop {
            match self.tick(now(), most) {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => self.fell_behind.notified().await,
            }
        }
    }

    /// Updates [`lags`](Self::lags). Returns the time at which the node will lag, if it is behind and does not lag yet.
    fn tick(&self, now: Instant, most: Duration) -> Option<Instant> {
        let state = self.state.lock();
        let since = state.behind_since;
        let lags = since.is_some_and(|since| now.saturating_duration_since(since) >= most);
        // Under the lock, so that it does not undo what came in between.
        self.lags.store(lags, Ordering::Relaxed);
        since.filter(|_| !lags).map(|since| since + most)
    }
}

impl State {
    fn applied(&self) -> u64 {
        self.at.as_ref().map_or(0, |at| at.seq)
    }

    fn lag(&self) -> u64 {
        self.needs.as_ref().map_or(0, |needs| needs.seq.saturating_sub(self.applied()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "the moment from which the others are counted")]
    fn begin() -> Instant {
        Instant::now()
    }

    fn at(log: &str, seq: u64) -> At {
        At { log: log.to_owned(), seq }
    }

    #[test]
    fn what_is_needed_moves_before_what_was_applied_also_to_another_log() {
        let now = begin();
        let position = Position::new(now);
        assert!(position.is_new() && position.needs().is_none() && position.at().is_none());
        position.expect(&at("a", 5));
        assert_eq!((position.needs(), position.at()), (Some(at("a", 5)), None));
        position.start(&at("a", 5), String::new(), now);
        position.hear(6, now);
        assert_eq!(
            (position.needs(), position.at(), position.applied_and_lag()),
            (Some(at("a", 6)), Some(at("a", 5)), (5, 1))
        );
        position.advance(6, String::new(), now);
        assert_eq!((position.at(), position.applied_and_lag()), (Some(at("a", 6)), (6, 0)));
        // The numbers of another log begin anew.
        position.expect(&at("b", 2));
        assert_eq!((position.needs(), position.at()), (Some(at("b", 2)), Some(at("a", 6))));
        position.start(&at("b", 2), String::new(), now);
        assert_eq!((position.needs(), position.at()), (Some(at("b", 2)), Some(at("b", 2))));
    }

    #[test]
    fn it_lags_when_it_was_behind_or_out_of_touch_for_too_long() {
        let (now, most) = (begin(), Duration::from_secs(5));
        let later = |secs| now + Duration::from_secs(secs);
        let position = Position::new(now);
        let lags = |moment| {
            position.tick(moment, most);
            position.lags()
        };
        assert!(!lags(later(4)) && lags(later(5)), "it has never been in touch");
        position.expect(&at("a", 1));
        position.start(&at("a", 1), String::new(), later(7));
        assert!(!lags(later(60)));
        position.lose(later(60));
        assert!(!lags(later(64)) && lags(later(65)));
        position.hear(2, later(70));
        assert!(lags(later(70)), "in touch again, but not up to date");
        position.advance(2, String::new(), later(71));
        assert!(!position.lags(), "at once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_sees_that_it_lags_each_time() {
        let now = || tokio::time::Instant::now().into_std();
        let (position, most) = (Position::new(now()), Duration::from_secs(5));
        let seen = async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            assert!(!position.lags());
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert!(position.lags(), "never in touch");
            for _ in 0..2 {
                position.expect(&at("a", 1));
                position.start(&at("a", 1), String::new(), now());
                tokio::time::sleep(Duration::from_mins(1)).await;
                assert!(!position.lags(), "up to date");
                position.lose(now());
                tokio::time::sleep(Duration::from_secs(4)).await;
                assert!(!position.lags(), "not yet");
                tokio::time::sleep(Duration::from_secs(2)).await;
                assert!(position.lags(), "out of touch");
            }
        };
        tokio::select! {
            () = position.watch(now, most) => unreachable!(),
            () = seen => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_reached_in_its_own_log_only() {
        let now = begin();
        let position = Position::new(now);
        position.start(&at("a", 5), String::new(), now);
        let patience = Duration::from_millis(500);
        assert!(position.reaches(&at("a", 5), patience).await);
        assert!(!position.reaches(&at("b", 1), patience).await);
        let needed = at("a", 6);
        let (reached, ()) =
            tokio::join!(position.reaches(&needed, patience), async { position.advance(6, String::new(), now) });
        assert!(reached);
    }
}
