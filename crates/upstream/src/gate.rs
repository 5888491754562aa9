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
//! A client that is slow may lose its place to those who wait ([`Place::give_way`]), and a client network that holds more
//! than its share loses places to others ([`shares`]).
//!
//! **Invariant:** with two places or more, no more are taken than there are, until an origin that stays down lets trials
//! time out; and no place is lost with one who stops waiting for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

mod shares;

pub(crate) use shares::Revocation;
use shares::{NetworkShares, PlaceNumber, REVOKE_AFTER};

use crate::client_network::ClientNetwork;

/// Who asks, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
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
pub struct Gate {
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
    waiting: [VecDeque<Waiter>; CLASSES],
    shares: NetworkShares,
    refused: u64,
    /// Places that slow clients have lost.
    gave_way: u64,
}

/// A request in the queue.
#[derive(Debug)]
struct Waiter {
    network: ClientNetwork,
    turn: oneshot::Sender<Grant>,
}

/// A place that was taken, before its request holds it.
#[derive(Debug)]
struct Grant {
    network: ClientNetwork,
    number: PlaceNumber,
    revocation: Arc<Revocation>,
    /// How often the origin had gone down.
    downs: u64,
}

/// A place; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    gate: Arc<Gate>,
    /// `None` once it was given back.
    grant: Option<Grant>,
    stage: Stage,
}

/// How far the request of a place has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing is sent, or a response has begun.
    Held,
    /// It is sent, and has no response yet.
    Sent,
}

impl Place {
    fn new(gate: &Arc<Gate>, grant: Grant) -> Self {
        Self { gate: Arc::clone(gate), grant: Some(grant), stage: Stage::Held }
    }

    /// Word that comes when another network gets the place.
    pub(crate) fn revocation(&self) -> Option<Arc<Revocation>> {
        self.grant.as_ref().map(|grant| Arc::clone(&grant.revocation))
    }

    /// Whether another network is to get the place.
    pub(crate) fn is_revoked(&self) -> bool {
        self.grant.as_ref().is_some_and(|grant| grant.revocation.is_revoked())
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
        if let Some(grant) = self.grant.take() {
            state.give_back(&grant, self.gate.limit);
        }
        None
    }
}

/// There is no place, and none to wait in; or the wait was too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy;

/// What is told of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Requests in progress.
    pub taken: usize,
    /// Requests in the queue.
    pub waiting: usize,
    /// Requests that found the queue full, or waited too long.
    pub refused: u64,
    /// Slow requests that lost their place to one in the queue.
    pub gave_way: u64,
    /// Requests of a network with too many that lost their place to one of another network.
    pub revoked: u64,
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
            shares: NetworkShares::default(),
            refused: 0,
            gave_way: 0,
        };
        Arc::new(Self { limit, queue_max, wait_max, state: Mutex::new(state) })
    }

    /// A place for a request of `network`, as soon as there is one.
    pub(crate) async fn enter(self: &Arc<Self>, urgency: Urgency, network: ClientNetwork) -> Result<Place, Busy> {
        let taken = self.state.lock().take_or_queue(urgency, network, self.limit, self.queue_max)?;
        let turn = match taken {
            Turn::Now(grant) => return Ok(Place::new(self, grant)),
            Turn::Queued(turn) => turn,
        };
        let mut waiting = Waiting { gate: self, network, turn };
        if let Ok(Ok(grant)) = tokio::time::timeout(self.wait_max, waiting.turn()).await {
            return Ok(Place::new(self, grant));
        }
        // It may have come in the last moment: then it is given back with `waiting`.
        drop(waiting);
        self.state.lock().refused += 1;
        Err(Busy)
    }

    /// A place for one who tries whether the origin is back, unless another does.
    pub(crate) fn try_enter(self: &Arc<Self>, network: ClientNetwork) -> Option<Place> {
        let grant = self.state.lock().take(network, self.limit)?;
        Some(Place::new(self, grant))
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

    pub fn counts(&self) -> Counts {
        let state = self.state.lock();
        Counts {
            taken: state.taken + state.old + state.given_up,
            waiting: state.waiting(),
            refused: state.refused,
            gave_way: state.gave_way,
            revoked: state.shares.revoked(),
        }
    }
}

/// Result of asking for a place.
enum Turn {
    Now(Grant),
    Queued(oneshot::Receiver<Grant>),
}

impl State {
    /// Number of requests that wait.
    fn waiting(&self) -> usize {
        self.waiting.iter().flatten().filter(|waiter| !waiter.turn.is_closed()).count()
    }

    /// Whether there is a free place.
    fn has_place(&self, limit: usize) -> bool {
        let others = self.old + self.given_up;
        let most = self.allowed.min(limit.saturating_sub(others)).max(1);
        self.taken < most && (self.down || self.old < limit)
    }

    /// Takes a place, if there is one.
    fn take(&mut self, network: ClientNetwork, limit: usize) -> Option<Grant> {
        self.has_place(limit).then(|| {
            self.taken += 1;
            let (number, revocation) = self.shares.take(network);
            Grant { network, number, revocation, downs: self.downs }
        })
    }

    /// Takes a place, or a turn in the queue.
    fn take_or_queue(
        &mut self,
        urgency: Urgency,
        network: ClientNetwork,
        limit: usize,
        queue_max: usize,
    ) -> Result<Turn, Busy> {
        if let Some(grant) = self.take(network, limit) {
            return Ok(Turn::Now(grant));
        }
        let is_full = |state: &Self| state.waiting.iter().map(VecDeque::len).sum::<usize>() >= queue_max;
        if is_full(self) {
            self.waiting.iter_mut().for_each(|class| class.retain(|waiter| !waiter.turn.is_closed()));
        }
        if is_full(self) && !self.displace(urgency) && !self.displace_crowding(urgency, network) {
            self.refused += 1;
            return Err(Busy);
        }
        let (turn, receiver) = oneshot::channel();
        if let Some(class) = self.waiting.get_mut(urgency as usize) {
            class.push_back(Waiter { network, turn });
            self.shares.wait(network);
        }
        Ok(Turn::Queued(receiver))
    }

    /// Removes the last of the least urgent requests from the queue, if that is less urgent than `urgency`.
    fn displace(&mut self, urgency: Urgency) -> bool {
        let less = self.waiting.iter_mut().skip(urgency as usize + 1).rev();
        less.into_iter().find_map(VecDeque::pop_back).is_some()
    }

    /// Removes the last request of the network that has the most of them in the queue, unless it is more urgent than
    /// `urgency` or `network` has as many itself.
    fn displace_crowding(&mut self, urgency: Urgency, network: ClientNetwork) -> bool {
        let Some(crowding) = self.shares.crowding(network) else { return false };
        let classes = self.waiting.iter_mut().skip(urgency as usize).rev();
        let mut found = classes.into_iter().filter_map(|class| {
            let last = class.iter().rposition(|waiter| waiter.network == crowding)?;
            class.remove(last)
        });
        found.next().is_some()
    }

    /// Gives free places to those who wait.
    fn hand_on(&mut self, limit: usize) {
        while self.has_place(limit) {
            let Some(waiter) = self.next_waiting(limit) else { return };
            let Some(grant) = self.take(waiter.network, limit) else { return };
            // A request that has stopped waiting takes no place.
            if let Err(grant) = waiter.turn.send(grant) {
                self.untake(&grant);
            }
        }
    }

    /// The next request that gets a place: of a network that holds less than its share, if there is one; among equals the
    /// most urgent one, then the first.
    fn next_waiting(&mut self, limit: usize) -> Option<Waiter> {
        let share = NetworkShares::share(limit);
        // The queue is only looked through if that finds something: under a flood from one network it is long.
        if self.shares.waits_below(share) {
            for class in &mut self.waiting {
                if let Some(place) = class.iter().position(|waiter| self.shares.held(waiter.network) < share) {
                    return class.remove(place);
                }
            }
        }
        self.waiting.iter_mut().find_map(VecDeque::pop_front)
    }

    /// Notes that a place is free again, without giving it to anybody.
    fn untake(&mut self, grant: &Grant) {
        let among = if grant.downs == self.downs { &mut self.taken } else { &mut self.old };
        *among -= 1;
        self.shares.give_back(grant.network, grant.number);
    }

    fn give_back(&mut self, grant: &Grant, limit: usize) {
        self.untake(grant);
        self.hand_on(limit);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(grant) = self.grant.take() else { return };
        match self.stage {
            Stage::Held => self.gate.state.lock().give_back(&grant, self.gate.limit),
            Stage::Sent => {
                let place = Self::new(&self.gate, grant);
                // As many such tasks as places at most. Without a runtime, at its end, the place is given back at once.
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    runtime.spawn(async move {
                        tokio::time::sleep(LINGER).await;
                        drop(place);
                    });
                }
            }
        }
    }
}

/// A request that waits; a place that it is given after it has stopped goes to the next one.
struct Waiting<'g> {
    gate: &'g Gate,
    network: ClientNetwork,
    turn: oneshot::Receiver<Grant>,
}

impl Waiting<'_> {
    /// Waits for a place. From [`REVOKE_AFTER`] on it takes one of a network that holds more than its share, again and again
    /// until it has one: the first may go to another that waits.
    async fn turn(&mut self) -> Result<Grant, oneshot::error::RecvError> {
        loop {
            if let Ok(turn) = tokio::time::timeout(REVOKE_AFTER, &mut self.turn).await {
                return turn;
            }
            self.gate.state.lock().shares.revoke_for(self.network, self.gate.limit);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.turn.close();
        let mut state = self.gate.state.lock();
        state.shares.stop_waiting(self.network);
        if let Ok(grant) = self.turn.try_recv() {
            state.give_back(&grant, self.gate.limit);
        }
    }
}

#[cfg(test)]
mod tests;
