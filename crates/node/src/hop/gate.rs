//! How many requests are under way at one origin at one time, and who comes next when there is a place.
//!
//! Who finds no place waits for one: a client before a validation, a validation before a refresh, among equals the one
//! who came first. The queue has an end, and waiting in it too. An origin that comes back after it was down is asked
//! by one, then by two, and by one more with each answer.
//!
//! **Invariant:** never are more places taken than `allowed`, and no place is lost with one who stops waiting for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Who asks, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// A client waits, and there is nothing else to give it.
    Client,
    /// A client waits for the validation of something stored.
    Validation,
    /// Nobody waits.
    Refresh,
}

const CLASSES: usize = 3;

/// The places at one origin.
#[derive(Debug)]
pub(crate) struct Gate {
    limit: usize,
    queue_max: usize,
    wait_max: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    taken: usize,
    /// At most the limit; less while the origin comes back.
    allowed: usize,
    /// By urgency. Who hears nothing but the end of its channel has had to make way.
    waiting: [VecDeque<oneshot::Sender<()>>; CLASSES],
    refused: u64,
}

/// A place; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Gate>);

/// There is no place, and none to wait in; or the wait was too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy;

/// What is told of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) taken: usize,
    pub(crate) waiting: usize,
    pub(crate) refused: u64,
}

impl Gate {
    /// A gate with `limit` places (at least one), before which `queue_max` may wait, each for `wait_max`.
    pub(crate) fn new(limit: usize, queue_max: usize, wait_max: Duration) -> Arc<Self> {
        let limit = limit.max(1);
        let state = State { taken: 0, allowed: limit, waiting: Default::default(), refused: 0 };
        Arc::new(Self { limit, queue_max, wait_max, state: Mutex::new(state) })
    }

    /// A place, as soon as there is one.
    pub(crate) async fn enter(self: &Arc<Self>, urgency: Urgency) -> Result<Place, Busy> {
        let Some(turn) = self.state.lock().take_or_queue(urgency, self.queue_max)? else {
            return Ok(Place(Arc::clone(self)));
        };
        let mut waiting = Waiting { gate: self, turn };
        if let Ok(Ok(())) = tokio::time::timeout(self.wait_max, &mut waiting.turn).await {
            return Ok(Place(Arc::clone(self)));
        }
        // It may have come in the last moment: then it is given back with `waiting`.
        drop(waiting);
        self.state.lock().refused += 1;
        Err(Busy)
    }

    /// The origin is down: when it comes back, one is let in first.
    pub(crate) fn narrow(&self) {
        self.state.lock().allowed = 1;
    }

    /// The origin has answered: if it has just come back, it can bear one more.
    pub(crate) fn widen(&self) {
        let mut state = self.state.lock();
        if state.allowed < self.limit {
            state.allowed += 1;
            state.hand_on();
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let state = self.state.lock();
        let waiting = state.waiting.iter().flatten().filter(|turn| !turn.is_closed()).count();
        Counts { taken: state.taken, waiting, refused: state.refused }
    }
}

impl State {
    /// Takes a place, or a turn in the queue.
    fn take_or_queue(&mut self, urgency: Urgency, queue_max: usize) -> Result<Option<oneshot::Receiver<()>>, Busy> {
        if self.taken < self.allowed {
            self.taken += 1;
            return Ok(None);
        }
        if self.waiting.iter().map(VecDeque::len).sum::<usize>() >= queue_max {
            self.waiting.iter_mut().for_each(|class| class.retain(|turn| !turn.is_closed()));
        }
        if self.waiting.iter().map(VecDeque::len).sum::<usize>() >= queue_max && !self.displace(urgency) {
            self.refused += 1;
            return Err(Busy);
        }
        let (sender, turn) = oneshot::channel();
        if let Some(class) = self.waiting.get_mut(urgency as usize) {
            class.push_back(sender);
        }
        Ok(Some(turn))
    }

    /// Sends away the last of those who are least urgent, if that is less than `urgency`.
    fn displace(&mut self, urgency: Urgency) -> bool {
        let less = self.waiting.iter_mut().skip(urgency as usize + 1).rev();
        less.into_iter().find_map(VecDeque::pop_back).is_some()
    }

    /// Gives free places to those who wait.
    fn hand_on(&mut self) {
        while self.taken < self.allowed {
            let Some(next) = self.waiting.iter_mut().find_map(VecDeque::pop_front) else { return };
            // Who has stopped waiting takes no place.
            if next.send(()).is_ok() {
                self.taken += 1;
            }
        }
    }

    fn give_back(&mut self) {
        self.taken -= 1;
        self.hand_on();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.state.lock().give_back();
    }
}

/// One who waits; what is given to it after it has stopped goes to the next.
struct Waiting<'g> {
    gate: &'g Gate,
    turn: oneshot::Receiver<()>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.turn.close();
        if self.turn.try_recv().is_ok() {
            self.gate.state.lock().give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle;

    use super::*;

    fn counts(gate: &Gate) -> (usize, usize) {
        let Counts { taken, waiting, .. } = gate.counts();
        (taken, waiting)
    }

    /// One who waits already when this returns.
    async fn queued(gate: &Arc<Gate>, urgency: Urgency) -> JoinHandle<Result<Place, Busy>> {
        let gate = Arc::clone(gate);
        let waiting = tokio::spawn(async move { gate.enter(urgency).await });
        // It runs on this thread, as far as it comes.
        tokio::task::yield_now().await;
        waiting
    }

    #[tokio::test(start_paused = true)]
    async fn the_most_urgent_comes_next_and_among_equals_the_first() {
        let gate = Gate::new(1, 10, Duration::from_secs(1));
        let place = gate.enter(Urgency::Refresh).await.unwrap();
        let refresh = queued(&gate, Urgency::Refresh).await;
        let validation = queued(&gate, Urgency::Validation).await;
        let client = queued(&gate, Urgency::Client).await;
        let second = queued(&gate, Urgency::Client).await;
        assert_eq!(counts(&gate), (1, 4));
        drop(place);
        for (next, left) in [(client, 3), (second, 2), (validation, 1), (refresh, 0)] {
            let place = next.await.unwrap().unwrap();
            assert_eq!(counts(&gate), (1, left));
            drop(place);
        }
        assert_eq!(counts(&gate), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_has_an_end_and_the_less_urgent_make_way() {
        let gate = Gate::new(1, 1, Duration::from_secs(1));
        let place = gate.enter(Urgency::Client).await.unwrap();
        let refresh = queued(&gate, Urgency::Refresh).await;
        assert_eq!(gate.enter(Urgency::Refresh).await.unwrap_err(), Busy, "no room for an equal");
        let client = queued(&gate, Urgency::Client).await;
        assert_eq!(refresh.await.unwrap().unwrap_err(), Busy, "it had to make way");
        assert_eq!(gate.counts().refused, 2);
        drop(place);
        client.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_and_a_place_is_not_lost_with_one_who_has_gone() {
        let gate = Gate::new(1, 10, Duration::from_secs(1));
        let place = gate.enter(Urgency::Client).await.unwrap();
        assert_eq!(gate.enter(Urgency::Client).await.unwrap_err(), Busy, "after a second");
        let gone = queued(&gate, Urgency::Client).await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        let mut told = Box::pin(gate.enter(Urgency::Client));
        assert!(futures_poll(&mut told).await.is_none());
        // It has its turn, and is dropped before it hears of it.
        drop(place);
        assert_eq!(counts(&gate), (1, 0));
        drop(told);
        assert_eq!(counts(&gate), (0, 0));
        gate.enter(Urgency::Refresh).await.unwrap();
    }

    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(cx) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn an_origin_that_comes_back_is_asked_by_more_with_each_answer() {
        let gate = Gate::new(3, 10, Duration::from_secs(1));
        gate.narrow();
        let first = gate.enter(Urgency::Client).await.unwrap();
        let others = [queued(&gate, Urgency::Client).await, queued(&gate, Urgency::Client).await];
        assert_eq!(counts(&gate), (1, 2));
        gate.widen();
        drop(first);
        assert_eq!(counts(&gate), (2, 0));
        for _ in 0..5 {
            gate.widen();
        }
        assert_eq!(gate.state.lock().allowed, 3, "never more than the limit");
        for other in others {
            other.await.unwrap().unwrap();
        }
    }
}
