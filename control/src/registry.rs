//! The nodes of the fleet, and how far each is with the orders that were given lately.

mod node;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use nearside_protocol::{Member, NodeReceipt, Receipt, State};
use nearside_replication::{At, Beat, Done};

pub(crate) use node::Node;

/// After so long it is not waited for any more, as if it had never been.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);
/// Orders whose receipts are kept up to date.
const ORDERS_MAX: usize = 1000;
/// Of such as may still be waited for.
const ORDERS_MOST: usize = 100_000;
/// So long, and so many, are remembered of those that have left.
const LEFT_MAX: Duration = Duration::from_secs(600);
const LEFT_MOST: usize = 100;
/// Of what nodes have done before it is known here, so much is remembered.
const EARLY_MAX: usize = 1000;
/// Longer is no order waited for.
const WAITED_MAX: Duration = Duration::from_secs(61);

/// Where an order stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// In a log.
    Purge(At),
    /// It is only counted, under this ticket.
    Count(u64),
}

/// An order, and who has done it.
#[derive(Debug)]
struct Given {
    what: What,
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
    /// Those that have left lately, for the last map.
    left: VecDeque<Node>,
    /// What nodes have done that is not known here yet: another control process was faster.
    early: VecDeque<(String, Done)>,
}

impl Registry {
    /// The nodes that there were before this process was started: none of them is reached before it comes back.
    pub(crate) fn remember(&mut self, members: Vec<Member>, now: Instant) {
        for member in members {
            self.learns(member, 0, None, now);
        }
    }

    /// There is a node, which follows the control process `by`, or none that is known.
    pub(crate) fn learns(&mut self, member: Member, instance: u64, by: Option<&str>, now: Instant) {
        match self.nodes.get_mut(&member.id) {
            // It is the same: of that more is known here.
            Some(node) if node.instance == instance => {
                if by.is_some() {
                    // It has just begun to follow there.
                    (node.elsewhere, node.heard) = (by.map(str::to_owned), now);
                }
                node.is_now(member);
            }
            known => {
                let was_alive = known.is_some_and(|node| node.was_alive);
                let elsewhere = by.map(str::to_owned);
                let mut node = Node::new(member, instance, now);
                (node.elsewhere, node.was_alive) = (elsewhere, was_alive);
                self.nodes.insert(node.member.id.clone(), node);
            }
        }
    }

    /// There is a node no more.
    pub(crate) fn loses(&mut self, id: &str) {
        self.nodes.remove(id);
        self.given.iter_mut().for_each(|given| given.nodes.retain(|other, done| *other != id || done.is_some()));
    }

    /// The nodes that are waited for.
    pub(crate) fn members(&self) -> Vec<Member> {
        self.nodes.values().map(|node| node.member.clone()).collect()
    }

    /// Whether another node of that name follows: of two that share a receipt, one would not be heard.
    pub(crate) fn is_taken(&self, id: &str, instance: u64, now: Instant) -> bool {
        self.nodes.get(id).is_some_and(|node| node.instance != instance && node.is_alive(now))
    }

    /// A node begins to follow here; not if the name is taken.
    pub(crate) fn joins(&mut self, member: &Member, instance: u64, at: Option<At>, now: Instant) -> bool {
        if self.is_taken(&member.id, instance, now) {
            return false;
        }
        self.learns(member.clone(), instance, None, now);
        if let Some(node) = self.nodes.get_mut(&member.id) {
            (node.at, node.heard) = (at, now);
            node.streams += 1;
        }
        true
    }

    /// A connection on which a node followed here has ended; whether it was the last one.
    pub(crate) fn parts(&mut self, id: &str, instance: u64) -> bool {
        let Some(node) = self.nodes.get_mut(id).filter(|node| node.instance == instance) else { return false };
        node.streams = node.streams.saturating_sub(1);
        node.streams == 0
    }

    /// Loses the nodes of which nothing was heard for too long: their names, and the processes.
    pub(crate) fn forgets(&mut self, now: Instant) -> Vec<(String, u64)> {
        let is_gone = |node: &&Node| node.streams == 0 && now.saturating_duration_since(node.heard) >= FORGOTTEN;
        let gone: Vec<_> =
            self.nodes.values().filter(is_gone).map(|node| (node.member.id.clone(), node.instance)).collect();
        gone.iter().for_each(|(id, _)| self.loses(id));
        gone
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

    /// A node says how far it is, here or to the control process `by`; of each order that it has done since it said so last,
    /// the name and the receipt. Nothing if it is not known. `log` is the one that there is now, if the node is in it.
    pub(crate) fn beats(
        &mut self,
        beat: &Beat,
        log: Option<&str>,
        by: Option<&str>,
        now: Instant,
    ) -> Option<Vec<(String, NodeReceipt)>> {
        // Of one that had the name before, it says nothing.
        let node = self.nodes.get_mut(&beat.node).filter(|node| node.instance == beat.instance)?;
        if beat.leaves {
            node.heard = now;
            let gone = node.clone();
            self.left
                .retain(|node| node.member.id != beat.node && now.saturating_duration_since(node.heard) < LEFT_MAX);
            self.left.push_back(gone);
            if self.left.len() > LEFT_MOST {
                self.left.pop_front();
            }
            self.loses(&beat.node);
            return Some(Vec::new());
        }
        node.heard = now;
        node.counts(beat.totals, now);
        if by.is_some() {
            node.elsewhere = by.map(str::to_owned);
        }
        node.at = Some(beat.at.clone());
        let mut told: Vec<_> = beat.done.iter().filter_map(|done| self.done(&beat.node, done, now)).collect();
        // What it has not told in so many words, the place tells. Of a log that is no more: it has made stale all that it had.
        let is_done = |given: &Given| match &given.what {
            What::Purge(place) => log.is_some_and(|log| place.log != log || place.seq <= beat.at.seq),
            What::Count(_) => false,
        };
        for given in self.given.iter_mut().filter(|given| is_done(given)) {
            let ms = given.ms(now);
            if let Some(none @ None) = given.nodes.get_mut(&beat.node) {
                let receipt = none.insert(receipt(&beat.node, State::Applied, ms, (0, 0)));
                told.push((given.id.clone(), receipt.clone()));
            }
        }
        Some(told)
    }

    fn done(&mut self, node: &str, done: &Done, now: Instant) -> Option<(String, NodeReceipt)> {
        let is_it = |given: &&mut Given| match (&given.what, done.ticket) {
            (What::Count(number), Some(ticket)) => *number == ticket,
            (What::Purge(_), None) => given.id == done.order,
            _ => false,
        };
        let Some(given) = self.given.iter_mut().rev().find(is_it) else {
            if done.ticket.is_none() {
                self.early.push_back((node.to_owned(), done.clone()));
                if self.early.len() > EARLY_MAX {
                    self.early.pop_front();
                }
            }
            return None;
        };
        let (ms, state) = (given.ms(now), if done.ticket.is_some() { State::Counted } else { State::Applied });
        let met = (done.matched, done.fenced_fills);
        match given.nodes.get_mut(node) {
            Some(none @ None) => Some((given.id.clone(), none.insert(receipt(node, state, ms, met)).clone())),
            _ => None,
        }
    }

    /// An order is given to all nodes that there are. The receipts of those that have done it already.
    pub(crate) fn gives(&mut self, what: What, id: String, now: Instant) -> Vec<NodeReceipt> {
        let nodes = self.nodes.keys().map(|id| (id.clone(), None)).collect();
        let is_it = |(_, done): &(String, Done)| done.order == id;
        let (early, later) = std::mem::take(&mut self.early).into_iter().partition::<Vec<_>, _>(is_it);
        self.early = later.into();
        self.given.push_back(Given { what, id, accepted: now, nodes });
        // Not what somebody still waits for, unless there is far too much of that.
        let is_old = |given: &Given| now.saturating_duration_since(given.accepted) > WAITED_MAX;
        while self.given.len() > ORDERS_MAX
            && (self.given.front().is_some_and(is_old) || self.given.len() > ORDERS_MOST)
        {
            self.given.pop_front();
        }
        early.into_iter().filter_map(|(node, done)| self.done(&node, &done, now)).map(|(_, receipt)| receipt).collect()
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
            receipt(id, state, given.ms(now), (0, 0))
        };
        let nodes = given.nodes.iter().map(|(id, done)| done.clone().unwrap_or_else(|| waiting(id))).collect();
        let seq = match &given.what {
            What::Purge(place) => Some(place.seq),
            What::Count(_) => None,
        };
        Some(Receipt::of(given.id.clone(), seq, seq.is_none(), nodes))
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// Those that have left, and have not come again.
    pub(crate) fn left(&self) -> impl Iterator<Item = &Node> {
        self.left.iter().filter(|node| !self.nodes.contains_key(&node.member.id))
    }
}

/// What matters where several control processes share a fleet.
#[cfg(feature = "nats")]
impl Registry {
    /// Whether the process is known, and was heard of lately.
    pub(crate) fn is_known(&self, member: &Member, instance: u64, now: Instant) -> bool {
        let is_it = |node: &Node| node.member == *member && node.instance == instance && node.is_alive(now);
        self.nodes.get(&member.id).is_some_and(is_it)
    }

    /// A node does not follow the control process `by` any more.
    pub(crate) fn parts_elsewhere(&mut self, id: &str, instance: u64, by: &str) {
        if let Some(node) = self.nodes.get_mut(id).filter(|node| node.instance == instance)
            && node.elsewhere.as_deref() == Some(by)
        {
            node.elsewhere = None;
        }
    }

    /// The nodes that follow here, and their processes.
    pub(crate) fn followers(&self) -> Vec<(Member, u64)> {
        let here = self.nodes.values().filter(|node| node.streams > 0);
        here.map(|node| (node.member.clone(), node.instance)).collect()
    }

    /// An order is given also to the nodes that have become known since it was; to all, if it came here as one that was given before.
    pub(crate) fn gives_also(&mut self, place: At, id: String, accepted: Instant) {
        match self.given.iter_mut().rev().find(|given| given.id == id) {
            Some(given) => {
                given.accepted = accepted;
                for id in self.nodes.keys() {
                    given.nodes.entry(id.clone()).or_default();
                }
            }
            None => drop(self.gives(What::Purge(place), id, accepted)),
        }
    }
}

impl Given {
    fn ms(&self, now: Instant) -> f64 {
        (now.saturating_duration_since(self.accepted).as_secs_f64() * 10_000.0).round() / 10.0
    }
}

/// `met` is what was matched, and the fills that were fenced.
fn receipt(node: &str, state: State, ms: f64, met: (u64, u64)) -> NodeReceipt {
    NodeReceipt { id: node.to_owned(), state, matched: met.0, fenced_fills: met.1, ms }
}

#[cfg(test)]
mod tests {
    use nearside_replication::Totals;

    use super::node::SILENT;
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "the moment from which the others are counted")]
    fn begin() -> Instant {
        Instant::now()
    }

    fn member(id: &str) -> Member {
        Member {
            id: id.to_owned(),
            role: "edge".to_owned(),
            city: None,
            version: String::new(),
            sites: Vec::new(),
            place: None,
            reach: None,
            admin: None,
        }
    }

    fn place(seq: u64) -> At {
        At { log: "l".to_owned(), seq }
    }

    fn beat(node: &str, seq: u64, numbers: &[u64]) -> Beat {
        let done = |number: &u64| Done { order: format!("o{number}"), ticket: None, matched: 7, fenced_fills: 0 };
        let done = numbers.iter().map(done).collect();
        Beat {
            node: node.to_owned(),
            instance: 1,
            at: place(seq),
            last: String::new(),
            leaves: false,
            totals: Totals::default(),
            done,
        }
    }

    fn states(registry: &Registry, id: &str, now: Instant) -> Vec<(State, u64)> {
        registry.receipt(id, now).unwrap().nodes.iter().map(|node| (node.state, node.matched)).collect()
    }

    #[test]
    fn a_receipt_tells_the_truth_of_each_node() {
        let (mut registry, now) = (Registry::default(), begin());
        registry.joins(&member("a"), 1, None, now);
        registry.joins(&member("b"), 1, None, now);
        registry.gives(What::Purge(place(1)), "o1".to_owned(), now);
        assert!(!registry.is_settled("o1", now));
        let told = registry.beats(&beat("a", 1, &[1]), Some("l"), None, now).unwrap();
        assert_eq!(told.iter().map(|(id, receipt)| (&**id, receipt.matched)).collect::<Vec<_>>(), [("o1", 7)]);
        assert_eq!(registry.beats(&beat("a", 1, &[1]), Some("l"), None, now), Some(Vec::new()), "it is told once");
        assert_eq!(states(&registry, "o1", now), [(State::Applied, 7), (State::Pending, 0)]);
        // The other is not heard of any more; then it comes back.
        let later = now + SILENT;
        assert_eq!(states(&registry, "o1", later), [(State::Applied, 7), (State::Unreachable, 0)]);
        assert!(registry.is_settled("o1", later));
        registry.joins(&member("b"), 1, None, later);
        assert_eq!(states(&registry, "o1", later), [(State::Applied, 7), (State::Pending, 0)]);
        registry.beats(&beat("b", 0, &[]), Some("l"), None, later);
        registry.beats(&beat("b", 9, &[]), None, None, later);
        assert_eq!(states(&registry, "o1", later)[1].0, State::Pending, "a place in another log says nothing");
        registry.beats(&beat("b", 2, &[]), Some("l"), None, later);
        assert_eq!(states(&registry, "o1", later)[1], (State::Applied, 0));
        assert!(registry.receipt("o1", later).unwrap().is_complete());
    }

    #[test]
    fn a_node_whose_connection_is_gone_is_not_reached_and_one_that_leaves_is_not_waited_for() {
        let (mut registry, now) = (Registry::default(), begin());
        for id in ["a", "b"] {
            registry.joins(&member(id), 1, None, now);
        }
        registry.gives(What::Purge(place(1)), "o1".to_owned(), now);
        registry.parts("a", 1);
        assert_eq!(states(&registry, "o1", now), [(State::Unreachable, 0), (State::Pending, 0)]);
        let before = Beat { instance: 9, leaves: true, ..beat("b", 0, &[]) };
        assert_eq!(registry.beats(&before, Some("l"), None, now), None, "one that had its name before");
        let of_another_log = Done { order: "of another log".to_owned(), ticket: None, matched: 1, fenced_fills: 0 };
        registry.beats(&Beat { done: vec![of_another_log], ..beat("b", 0, &[]) }, Some("l"), None, now);
        assert_eq!(states(&registry, "o1", now)[1].0, State::Pending);
        registry.beats(&Beat { leaves: true, ..beat("b", 0, &[]) }, Some("l"), None, now);
        assert_eq!(states(&registry, "o1", now), [(State::Unreachable, 0)]);
        assert_eq!(registry.beats(&beat("unknown", 0, &[]), Some("l"), None, now), None);
    }

    #[test]
    fn it_is_told_once_that_a_node_can_be_reached_or_not() {
        let (mut registry, now) = (Registry::default(), begin());
        let turned = |registry: &mut Registry, now| {
            registry.turned(now).iter().map(|(member, alive)| (member.id.clone(), *alive)).collect::<Vec<_>>()
        };
        registry.joins(&member("a"), 1, None, now);
        assert_eq!(turned(&mut registry, now), [("a".to_owned(), true)]);
        assert_eq!(turned(&mut registry, now), []);
        assert_eq!(turned(&mut registry, now + SILENT), [("a".to_owned(), false)]);
        registry.joins(&member("a"), 1, None, now + SILENT);
        assert_eq!(turned(&mut registry, now + SILENT), [("a".to_owned(), true)]);
        registry.parts("a", 1);
        registry.parts("a", 1);
        assert_eq!(turned(&mut registry, now + SILENT), [("a".to_owned(), false)]);
    }

    #[test]
    fn two_nodes_of_one_name_are_not_taken_for_one() {
        let (mut registry, now) = (Registry::default(), begin());
        assert!(registry.joins(&member("a"), 1, None, now));
        assert!(!registry.joins(&member("a"), 2, None, now), "another process of the same name");
        assert!(registry.joins(&member("a"), 1, None, now), "the same, on a new connection");
        assert!(registry.joins(&member("a"), 2, None, now + SILENT), "in the place of one that is gone");
    }

    #[test]
    fn what_a_node_has_done_before_it_is_known_here_is_not_forgotten() {
        let (mut registry, now) = (Registry::default(), begin());
        registry.joins(&member("a"), 1, None, now);
        assert_eq!(registry.beats(&beat("a", 1, &[1]), Some("l"), Some("other"), now), Some(Vec::new()));
        let told = registry.gives(What::Purge(place(1)), "o1".to_owned(), now);
        assert_eq!(told.iter().map(|receipt| (&*receipt.id, receipt.matched)).collect::<Vec<_>>(), [("a", 7)]);
        assert_eq!(states(&registry, "o1", now), [(State::Applied, 7)]);
        // As many as there may be; the others are told by the place.
        let all: Vec<_> = (2..2000).collect();
        registry.beats(&beat("a", 2000, &all), Some("l"), Some("other"), now);
        assert!(registry.early.len() <= EARLY_MAX);
    }

    #[test]
    fn what_is_counted_is_no_purge_of_that_number() {
        let (mut registry, now) = (Registry::default(), begin());
        registry.joins(&member("a"), 1, None, now);
        registry.gives(What::Count(1), "count".to_owned(), now);
        registry.gives(What::Purge(place(1)), "o1".to_owned(), now);
        registry.beats(&beat("a", 1, &[]), Some("l"), None, now);
        assert_eq!(states(&registry, "count", now)[0].0, State::Pending);
        let counted = Done { order: String::new(), ticket: Some(1), matched: 3, fenced_fills: 0 };
        registry.beats(&Beat { done: vec![counted], ..beat("a", 1, &[]) }, Some("l"), None, now);
        assert_eq!(states(&registry, "count", now), [(State::Counted, 3)]);
        assert_eq!(registry.receipt("count", now).unwrap().seq, None);
    }
}
