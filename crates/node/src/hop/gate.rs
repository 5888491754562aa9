//! How many requests are under way at one origin at one time, and who comes next when there is a place.
//!
//! Who finds no place waits for one: a client before a validation, a validation before a refresh, among equals the one
//! who came first. The queue has an end, and waiting in it too. An origin that comes back after it was down is asked
//! by one, then by two, and by one more with each answer.
//!
//! What is under way when an origin goes down may stay so for long: it counts against the limit, but not among the few
//! that try whether it is back, for whom one place is kept free. Nor does an origin that has not answered in time stop
//! working on what it was asked: one that was frozen reads it all when it goes on. So what was given up keeps its place,
//! until the origin has answered another request in its stead.
//!
//! A request whose client has gone is cancelled, which the origin may notice late or never. Its place stays taken for
//! [`LINGER`], so that a client that asks and leaves at once, over and over, does not multiply what is under way there.
//! A client that is slow may lose its place to those who wait ([`Place::give_way`]).
//!
//! **Invariant:** with two places or more, no more are taken than there are, until an origin that stays down lets trials
//! time out; and no place is lost with one who stops waiting for it.

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

/// How long the place of a request stays taken that was sent and then cancelled.
const LINGER: Duration = Duration::from_millis(500);

/// The places at one origin.
#[derive(Debug)]
pub(crate) struct Gate {
    /// All but the one that is kept for trials.
    limit: usize,
    queue_max: usize,
    wait_max: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    taken: usize,
    /// Places that were taken before the origin last went down.
    old: usize,
    /// Places of requests that were given up, on which the origin may still be working.
    given_up: usize,
    /// How often it has gone down.
    downs: u64,
    /// It has not answered since.
    down: bool,
    /// At most the limit; less while the origin comes back.
    allowed: usize,
    /// By urgency. Who hears nothing but the end of its channel has had to make way.
    waiting: [VecDeque<oneshot::Sender<u64>>; CLASSES],
    refused: u64,
    /// Places that slow clients have lost.
    gave_way: u64,
}

/// A place; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    gate: Arc<Gate>,
    downs: u64,
    stage: Stage,
}

/// How far the request of a place has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing is sent, or a response has begun.
    Held,
    /// It is sent, and has no response yet.
    Sent,
    /// The place was given back already.
    Returned,
}

impl Place {
    fn new(gate: &Arc<Gate>, downs: u64) -> Self {
        Self { gate: Arc::clone(gate), downs, stage: Stage::Held }
    }

    /// Notes that its request is sent: dropped from now on, it was cancelled.
    pub(crate) fn sent(&mut self) {
        self.stage = Stage::Sent;
    }

    /// Notes that its request has a response, or has failed.
    pub(crate) fn settled(&mut self) {
        self.stage = Stage::Held;
    }

    /// Its request was not answered in time.
    pub(crate) fn give_up(mut self) {
        self.settled();
        let mut state = self.gate.state.lock();
        // Before it is given back with the end of this, so that nobody gets it in between.
        state.given_up += 1;
    }

    /// Gives the place to a request that waits for one; returns itself if there is none.
    pub(crate) fn give_way(mut self) -> Option<Self> {
        let mut state = self.gate.state.lock();
        // One waiting request takes one place, however many look at the same time: hence under one lock.
        if state.waiting() == 0 {
            drop(state);
            return Some(self);
        }
        state.gave_way += 1;
        state.give_back(self.downs, self.gate.limit);
        drop(state);
        self.stage = Stage::Returned;
        None
    }
}

/// There is no place, and none to wait in; or the wait was too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy;

/// What is told of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) taken: usize,
    pub(crate) waiting: usize,
    pub(crate) refused: u64,
    pub(crate) gave_way: u64,
}

impl Gate {
    /// A gate with `limit` places (at least one), before which `queue_max` may wait, each for `wait_max`. Of several, one
    /// is for trials only.
    pub(crate) fn new(limit: usize, queue_max: usize, wait_max: Duration) -> Arc<Self> {
        let limit = limit.saturating_sub(1).max(1);
        let state = State {
            taken: 0,
            old: 0,
            given_up: 0,
            downs: 0,
            down: false,
            allowed: limit,
            waiting: Default::default(),
            refused: 0,
            gave_way: 0,
        };
        Arc::new(Self { limit, queue_max, wait_max, state: Mutex::new(state) })
    }

    /// A place, as soon as there is one.
    pub(crate) async fn enter(self: &Arc<Self>, urgency: Urgency) -> Result<Place, Busy> {
        let taken = self.state.lock().take_or_queue(urgency, self.limit, self.queue_max)?;
        let turn = match taken {
            Turn::Now(downs) => return Ok(Place::new(self, downs)),
            Turn::Queued(turn) => turn,
        };
        let mut waiting = Waiting { gate: self, turn };
        if let Ok(Ok(downs)) = tokio::time::timeout(self.wait_max, &mut waiting.turn).await {
            return Ok(Place::new(self, downs));
        }
        // It may have come in the last moment: then it is given back with `waiting`.
        drop(waiting);
        self.state.lock().refused += 1;
        Err(Busy)
    }

    /// A place for one who tries whether the origin is back, unless another does.
    pub(crate) fn try_enter(self: &Arc<Self>) -> Option<Place> {
        let downs = self.state.lock().take(self.limit)?;
        Some(Place::new(self, downs))
    }

    /// The origin is down: who waits need not wait any longer, and when it comes back, one is let in first.
    pub(crate) fn narrow(&self) {
        let mut state = self.state.lock();
        state.waiting.iter_mut().for_each(VecDeque::clear);
        state.allowed = 1;
        state.old += std::mem::take(&mut state.taken);
        state.downs += 1;
        state.down = true;
    }

    /// The origin has answered: it has one request less to work on that was given up, and if it has just come back, it can
    /// bear one more.
    pub(crate) fn widen(&self) {
        let mut state = self.state.lock();
        state.down = false;
        let was_narrow = state.allowed < self.limit || state.given_up > 0;
        state.given_up = state.given_up.saturating_sub(1);
        state.allowed = self.limit.min(state.allowed + 1);
        if was_narrow {
            state.hand_on(self.limit);
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let state = self.state.lock();
        Counts {
            taken: state.taken + state.old + state.given_up,
            waiting: state.waiting(),
            refused: state.refused,
            gave_way: state.gave_way,
        }
    }
}

/// What one who comes gets.
enum Turn {
    /// A place, of the time after so many downs.
    Now(u64),
    Queued(oneshot::Receiver<u64>),
}

impl State {
    /// Number of requests that wait.
    fn waiting(&self) -> usize {
        self.waiting.iter().flatten().filter(|turn| !turn.is_closed()).count()
    }

    /// Takes a place, if there is one.
    fn take(&mut self, limit: usize) -> Option<u64> {
        let others = self.old + self.given_up;
        let most = self.allowed.min(limit.saturating_sub(others)).max(1);
        let free = self.taken < most && (self.down || self.old < limit);
        free.then(|| {
            self.taken += 1;
            self.downs
        })
    }

    /// Takes a place, or a turn in the queue.
    fn take_or_queue(&mut self, urgency: Urgency, limit: usize, queue_max: usize) -> Result<Turn, Busy> {
        if let Some(downs) = self.take(limit) {
            return Ok(Turn::Now(downs));
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
        Ok(Turn::Queued(turn))
    }

    /// Sends away the last of those who are least urgent, if that is less than `urgency`.
    fn displace(&mut self, urgency: Urgency) -> bool {
        let less = self.waiting.iter_mut().skip(urgency as usize + 1).rev();
        less.into_iter().find_map(VecDeque::pop_back).is_some()
    }

    /// Gives free places to those who wait.
    fn hand_on(&mut self, limit: usize) {
        while let Some(downs) = self.take(limit) {
            if !self.tell_next(downs) {
                self.taken -= 1;
                return;
            }
        }
    }

    /// Tells the next of those who still wait that it has a place; whether there was one.
    fn tell_next(&mut self, downs: u64) -> bool {
        while let Some(next) = self.waiting.iter_mut().find_map(VecDeque::pop_front) {
            // Who has stopped waiting takes no place.
            if next.send(downs).is_ok() {
                return true;
            }
        }
        false
    }

    fn give_back(&mut self, downs: u64, limit: usize) {
        let among = if downs == self.downs { &mut self.taken } else { &mut self.old };
        *among -= 1;
        self.hand_on(limit);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        match self.stage {
            Stage::Held => self.gate.state.lock().give_back(self.downs, self.gate.limit),
            Stage::Sent => {
                let place = Self::new(&self.gate, self.downs);
                // As many such tasks as places at most. Without a runtime, at its end, the place is given back at once.
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    runtime.spawn(async move {
                        tokio::time::sleep(LINGER).await;
                        drop(place);
                    });
                }
            }
            Stage::Returned => {}
        }
    }
}

/// One who waits; what is given to it after it has stopped goes to the next.
struct Waiting<'g> {
    gate: &'g Gate,
    turn: oneshot::Receiver<u64>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.turn.close();
        if let Ok(downs) = self.turn.try_recv() {
            self.gate.state.lock().give_back(downs, self.gate.limit);
        }
    }
}

#[cfg(test)]
mod tests;
