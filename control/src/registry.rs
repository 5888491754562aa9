//! The nodes of the fleet, and how far each is with the orders that were given lately.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use nearside_api::{NodeReceipt, Receipt, State};
use nearside_purge::{At, Beat, Done, Member};

/// A node from which nothing was heard for so long cannot be reached.
pub(crate) const SILENT: Duration = Duration::from_secs(3);
/// After so long it is not waited for any more, as if it had never been.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);
/// Orders whose receipts are kept up to date.
const ORDERS_MAX: usize = 1000;
/// Of such as may still be waited for.
const ORDERS_MOST: usize = 100_000;
/// Longer is no order waited for.
const WAITED_MAX: Duration = Duration::from_secs(61);

/// One node.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) member: Member,
    /// The process.
    instance: u64,
    pub(crate) at: Option<At>,
    pub(crate) heard: Instant,
    /// Connections on which it follows.
    streams: usize,
    /// Whether it was alive when it was looked last.
    was_alive: bool,
}

impl Node {
    pub(crate) fn is_alive(&self, now: Instant) -> bool {
        self.streams > 0 && now.saturating_duration_since(self.heard) < SILENT
    }
}

/// An order, and who has done it.
#[derive(Debug)]
struct Given {
    number: u64,
    /// It is only counted.
    counts: bool,
    id: String,
    accepted: Instant,
    /// Nothing: not yet.
    nodes: BTreeMap<String, Option<NodeReceipt>>,
}

/// What is known of the fleet.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    nodes: BTreeMap<String, Node>,
    given: VecDeque<Given>,
}

impl Registry {
    /// The nodes that there were before this process was started: none of them is reached before it comes back.
    pub(crate) fn remember(&mut self, members: Vec<Member>, now: Instant) {
        for member in members {
            let node = Node { member, instance: 0, at: None, heard: now, streams: 0, was_alive: false };
            self.nodes.insert(node.member.id.clone(), node);
        }
    }

    /// The nodes that are waited for.
    pub(crate) fn members(&self) -> Vec<Member> {
        self.nodes.values().map(|node| node.member.clone()).collect()
    }

    /// A node begins to follow; not if another of the same name does: of two that share a receipt, one would not be heard.
    pub(crate) fn joins(&mut self, member: Member, instance: u64, at: Option<At>, now: Instant) -> bool {
        let known = self.nodes.get(&member.id);
        if known.is_some_and(|node| node.instance != instance && node.is_alive(now)) {
            return false;
        }
        let (streams, was_alive) = known.map_or((0, false), |node| (node.streams, node.was_alive));
        self.nodes
            .insert(member.id.clone(), Node { member, instance, at, heard: now, streams: streams + 1, was_alive });
        true
    }

    /// A connection on which a node followed has ended.
    pub(crate) fn parts(&mut self, id: &str) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.streams = node.streams.saturating_sub(1);
        }
    }

    /// The nodes that can be reached now and could not when this was asked last, and the other way round.
    pub(crate) fn turned(&mut self, now: Instant) -> Vec<(Member, bool)> {
        let turned = |node: &mut Node| {
            let is_alive = node.is_alive(now);
            let turned = std::mem::replace(&mut node.was_alive, is_alive) != is_alive;
            turned.then(|| (node.member.clone(), is_alive))
        };
        self.nodes.values_mut().filter_map(turned).collect()
    }

    /// A node says how far it is; of each order that it has done since it said so last, the name and the receipt. Nothing if it
    /// is not known.
    pub(crate) fn beats(&mut self, beat: &Beat, log: &str, now: Instant) -> Option<Vec<(String, NodeReceipt)>> {
        // Of one that had the name before, it says nothing.
        let node = self.nodes.get_mut(&beat.node).filter(|node| node.instance == beat.instance)?;
        if beat.leaves {
            self.nodes.remove(&beat.node);
            self.given.iter_mut().for_each(|given| given.nodes.retain(|id, done| *id != beat.node || done.is_some()));
            return Some(Vec::new());
        }
        node.heard = now;
        node.at = Some(beat.at.clone());
        let mut told: Vec<_> = beat
            .done
            .iter()
            .filter(|done| done.counted || done.log == log)
            .filter_map(|done| self.done(&beat.node, done, now))
            .collect();
        // What it has not told in so many words, the place tells.
        for given in
            self.given.iter_mut().filter(|given| !given.counts && beat.at.log == log && given.number <= beat.at.seq)
        {
            let ms = given.ms(now);
            if let Some(none @ None) = given.nodes.get_mut(&beat.node) {
                let receipt = none.insert(receipt(&beat.node, State::Applied, ms, &Done::nothing(given.number)));
                told.push((given.id.clone(), receipt.clone()));
            }
        }
        Some(told)
    }

    fn done(&mut self, node: &str, done: &Done, now: Instant) -> Option<(String, NodeReceipt)> {
        let is_it = |given: &&mut Given| given.number == done.number && given.counts == done.counted;
        let given = self.given.iter_mut().find(is_it)?;
        let (ms, state) = (given.ms(now), if done.counted { State::Counted } else { State::Applied });
        match given.nodes.get_mut(node) {
            Some(none @ None) => Some((given.id.clone(), none.insert(receipt(node, state, ms, done)).clone())),
            _ => None,
        }
    }

    /// An order is given to all nodes that there are.
    pub(crate) fn gives(&mut self, number: u64, counts: bool, id: String, now: Instant) {
        self.nodes.retain(|_, node| node.streams > 0 || now.saturating_duration_since(node.heard) < FORGOTTEN);
        let nodes = self.nodes.keys().map(|id| (id.clone(), None)).collect();
        self.given.push_back(Given { number, counts, id, accepted: now, nodes });
        // Not what somebody still waits for, unless there is far too much of that.
        let is_old = |given: &Given| now.saturating_duration_since(given.accepted) > WAITED_MAX;
        while self.given.len() > ORDERS_MAX
            && (self.given.front().is_some_and(is_old) || self.given.len() > ORDERS_MOST)
        {
            self.given.pop_front();
        }
    }

    /// Whether all that can be reached have done it; no more is to come from the others for now.
    pub(crate) fn is_settled(&self, id: &str, now: Instant) -> bool {
        let is_alive = |id: &String| self.nodes.get(id).is_some_and(|node| node.is_alive(now));
        let given = self.given.iter().find(|given| given.id == id);
        given.is_none_or(|given| given.nodes.iter().all(|(id, done)| done.is_some() || !is_alive(id)))
    }

    /// The receipt of an order, as it is now.
    pub(crate) fn receipt(&self, id: &str, now: Instant) -> Option<Receipt> {
        let given = self.given.iter().find(|given| given.id == id)?;
        let waiting = |id: &String| {
            let is_alive = self.nodes.get(id).is_some_and(|node| node.is_alive(now));
            let state = if is_alive { State::Pending } else { State::Unreachable };
            receipt(id, state, given.ms(now), &Done::nothing(given.number))
        };
        let nodes = given.nodes.iter().map(|(id, done)| done.clone().unwrap_or_else(|| waiting(id))).collect();
        let seq = (!given.counts).then_some(given.number);
        Some(Receipt::of(given.id.clone(), seq, given.counts, nodes))
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }
}

impl Given {
    fn ms(&self, now: Instant) -> f64 {
        (now.saturating_duration_since(self.accepted).as_secs_f64() * 10_000.0).round() / 10.0
    }
}

fn receipt(node: &str, state: State, ms: f64, done: &Done) -> NodeReceipt {
    NodeReceipt { id: node.to_owned(), state, matched: done.matched, fenced_fills: done.fenced_fills, ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "the moment from which the others are counted")]
    fn begin() -> Instant {
        Instant::now()
    }

    fn member(id: &str) -> Member {
        Member { id: id.to_owned(), role: "edge".to_owned(), city: None, version: String::new(), sites: Vec::new() }
    }

    fn beat(node: &str, seq: u64, numbers: &[u64]) -> Beat {
        let done = |number: &u64| Done { log: "l".to_owned(), matched: 7, ..Done::nothing(*number) };
        let done = numbers.iter().map(done).collect();
        Beat { node: node.to_owned(), instance: 1, at: At { log: "l".to_owned(), seq }, leaves: false, done }
    }

    fn states(registry: &Registry, id: &str, now: Instant) -> Vec<(State, u64)> {
        registry.receipt(id, now).unwrap().nodes.iter().map(|node| (node.state, node.matched)).collect()
    }

    #[test]
    fn a_receipt_tells_the_truth_of_each_node() {
        let (mut registry, now) = (Registry::default(), begin());
        registry.joins(member("a"), 1, None, now);
        registry.joins(member("b"), 1, None, now);
        registry.gives(1, false, "one".to_owned(), now);
        assert!(!registry.is_settled("one", now));
        let told = registry.beats(&beat("a", 1, &[1]), "l", now).unwrap();
        assert_eq!(told.iter().map(|(id, receipt)| (&**id, receipt.matched)).collect::<Vec<_>>(), [("one", 7)]);
        assert_eq!(registry.beats(&beat("a", 1, &[1]), "l", now), Some(Vec::new()), "it is told once");
        assert_eq!(states(&registry, "one", now), [(State::Applied, 7), (State::Pending, 0)]);
        // The other is not heard of any more; then it comes back.
        let later = now + SILENT;
        assert_eq!(states(&registry, "one", later), [(State::Applied, 7), (State::Unreachable, 0)]);
        assert!(registry.is_settled("one", later));
        registry.joins(member("b"), 1, None, later);
        assert_eq!(states(&registry, "one", later), [(State::Applied, 7), (State::Pending, 0)]);
        registry.beats(&beat("b", 0, &[]), "l", later);
        registry.beats(&beat("b", 9, &[]), "other", later);
        assert_eq!(states(&registry, "one", later)[1].0, State::Pending, "a place in another log says nothing");
        registry.beats(&beat("b", 2, &[]), "l", later);
        assert_eq!(states(&registry, "one", later)[1], (State::Applied, 0));
        assert!(registry.receipt("one", later).unwrap().is_complete());
    }

    #[test]
    fn a_node_whose_connection_is_gone_is_not_reached_and_one_that_leaves_is_not_waited_for() {
        let (mut registry, now) = (Registry::default(), begin());
        for id in ["a", "b"] {
            registry.joins(member(id), 1, None, now);
        }
        registry.gives(1, false, "one".to_owned(), now);
        registry.parts("a");
        assert_eq!(states(&registry, "one", now), [(State::Unreachable, 0), (State::Pending, 0)]);
        let before = Beat { instance: 9, leaves: true, ..beat("b", 0, &[]) };
        assert_eq!(registry.beats(&before, "l", now), None, "one that had its name before");
        let of_another_log = Done { log: "other".to_owned(), ..Done::nothing(1) };
        registry.beats(&Beat { done: vec![of_another_log], ..beat("b", 0, &[]) }, "l", now);
        assert_eq!(states(&registry, "one", now)[1].0, State::Pending);
        registry.beats(&Beat { leaves: true, ..beat("b", 0, &[]) }, "l", now);
        assert_eq!(states(&registry, "one", now), [(State::Unreachable, 0)]);
        assert_eq!(registry.beats(&beat("unknown", 0, &[]), "l", now), None);
    }

    #[test]
    fn it_is_told_once_that_a_node_can_be_reached_or_not() {
        let (mut registry, now) = (Registry::default(), begin());
        let turned = |registry: &mut Registry, now| {
            registry.turned(now).iter().map(|(member, alive)| (member.id.clone(), *alive)).collect::<Vec<_>>()
        };
        registry.joins(member("a"), 1, None, now);
        assert_eq!(turned(&mut registry, now), [("a".to_owned(), true)]);
        assert_eq!(turned(&mut registry, now), []);
        assert_eq!(turned(&mut registry, now + SILENT), [("a".to_owned(), false)]);
        registry.joins(member("a"), 1, None, now + SILENT);
        assert_eq!(turned(&mut registry, now + SILENT), [("a".to_owned(), true)]);
        registry.parts("a");
        registry.parts("a");
        assert_eq!(turned(&mut registry, now + SILENT), [("a".to_owned(), false)]);
    }

    #[test]
    fn two_nodes_of_one_name_are_not_taken_for_one() {
        let (mut registry, now) = (Registry::default(), begin());
        assert!(registry.joins(member("a"), 1, None, now));
        assert!(!registry.joins(member("a"), 2, None, now), "another process of the same name");
        assert!(registry.joins(member("a"), 1, None, now), "the same, on a new connection");
        assert!(registry.joins(member("a"), 2, None, now + SILENT), "in the place of one that is gone");
    }

    #[test]
    fn what_is_counted_is_no_purge_of_that_number() {
        let (mut registry, now) = (Registry::default(), begin());
        registry.joins(member("a"), 1, None, now);
        registry.gives(1, true, "count".to_owned(), now);
        registry.gives(1, false, "purge".to_owned(), now);
        registry.beats(&beat("a", 1, &[]), "l", now);
        assert_eq!(states(&registry, "count", now)[0].0, State::Pending);
        let counted = Done { counted: true, matched: 3, ..Done::nothing(1) };
        registry.beats(&Beat { done: vec![counted], ..beat("a", 1, &[]) }, "l", now);
        assert_eq!(states(&registry, "count", now), [(State::Counted, 3)]);
        assert_eq!(registry.receipt("count", now).unwrap().seq, None);
    }
}
