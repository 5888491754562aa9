//! What is known here: the end of the log, the nodes, what they have done; and who listens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use nearside_api::Events;
use nearside_config::Keep;
use nearside_protocol::{NodeReceipt, NodeState, State};
use nearside_replication::{At, Beat, Line, Record};
use nearside_steering::{EdgeState, Fleet};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{Notify, broadcast};

use crate::log::{Recent, new_name};
use crate::registry::{Node, Registry, What};

/// Lines for all nodes that may wait to be sent; a node that is further behind is sent none of them.
const LINES_MAX: usize = 1024;

/// What is known of the log and of the fleet.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) recent: Recent,
    pub(crate) registry: Mutex<Registry>,
    pub(crate) events: Events,
    /// A node has said something.
    pub(crate) heard: Notify,
    /// What goes beside the log to all nodes that follow here.
    pub(crate) lines: broadcast::Sender<Arc<Line>>,
    pub(crate) purges: AtomicU64,
}

impl Known {
    pub(crate) fn new(keep: Keep) -> Self {
        Self {
            recent: Recent::new(keep),
            registry: Mutex::default(),
            events: Events::new(new_name()),
            heard: Notify::new(),
            lines: broadcast::Sender::new(LINES_MAX),
            purges: AtomicU64::new(0),
        }
    }

    /// An order is in the log.
    pub(crate) fn takes(&self, record: Arc<Record>, accepted: Instant) {
        let told = json!({ "id": record.id, "seq": record.seq, "order": record.order });
        let (place, id) = (At { log: self.recent.at().log, seq: record.seq }, record.id.clone());
        self.purges.fetch_add(1, Ordering::Relaxed);
        // Before any node can see it: first it is told that it was given, and then that it was done.
        self.recent.add(record, || {
            let done = self.registry.lock().gives(What::Purge(place), id.clone(), accepted);
            self.events.tell("purge", told);
            done.iter().for_each(|receipt| self.tell_receipt(&id, receipt));
        });
        self.heard.notify_waiters();
    }

    fn tell_receipt(&self, id: &str, receipt: &NodeReceipt) {
        self.events.tell("receipt", json!({ "id": id, "node": receipt }));
    }

    /// A node says how far it is, here or to the control process `by`; whether it is known.
    pub(crate) fn hears(&self, beat: &Beat, by: Option<&str>) -> bool {
        // Of one that is in another log, or in this one as it was before it was set back, the place says nothing.
        let log = self.recent.knows(&beat.at, &beat.last).then_some(&*beat.at.log);
        let told = self.registry.lock().beats(beat, log, by, instant());
        self.heard.notify_waiters();
        let Some(told) = told else { return false };
        let applied = |(_, receipt): &(String, NodeReceipt)| receipt.state == State::Applied;
        for (id, receipt) in told.into_iter().filter(applied) {
            self.tell_receipt(&id, &receipt);
        }
        if beat.leaves {
            self.events.tell("node-down", json!({ "id": beat.node, "why": "stopped" }));
        }
        true
    }

    /// The nodes, as operators see them.
    pub(crate) fn nodes(&self) -> Vec<NodeState> {
        // Before the registry is locked: what is added to the log locks it, too.
        let head = self.recent.at();
        let (registry, now) = (self.registry.lock(), instant());
        let state = |node: &Node| {
            let applied = node.at.as_ref().filter(|at| at.log == head.log).map(|at| at.seq);
            NodeState {
                id: node.member.id.clone(),
                role: node.member.role.clone(),
                city: node.member.city.clone(),
                admin: node.member.admin.map(|admin| admin.to_string()),
                version: node.member.version.clone(),
                state: if node.is_alive(now) { "ready" } else { "unreachable" }.to_owned(),
                sites: node.member.sites.iter().map(|site| site.name.clone()).collect(),
                applied,
                lag: applied.map(|applied| head.seq.saturating_sub(applied)),
            }
        };
        registry.nodes().map(state).collect()
    }

    /// Tells of nodes that come and go.
    pub(crate) fn looks(&self) {
        let turned = self.registry.lock().turned(instant());
        for (member, is_alive) in turned {
            let (kind, why) = if is_alive { ("node-up", "follows") } else { ("node-down", "unreachable") };
            let (id, role, version) = (member.id, member.role, member.version);
            self.events.tell(kind, json!({ "id": id, "why": why, "role": role, "version": version }));
        }
    }
}

impl Fleet for Known {
    fn for_each_edge(&self, visit: &mut dyn FnMut(&EdgeState<'_>)) {
        let (registry, now) = (self.registry.lock(), instant());
        let members = registry.nodes().filter_map(|node| node.edge_state(now, false));
        let left = registry.left().filter_map(|node| node.edge_state(now, true));
        members.chain(left).for_each(|edge| visit(&edge));
    }
}

#[expect(clippy::disallowed_methods, reason = "receipts tell real time")]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use nearside_protocol::Order;

    use super::*;

    #[test]
    fn nodes_can_be_looked_at_while_an_order_is_being_added() {
        let known = Arc::new(Known::new(Keep::default()));
        known.recent.begin("l", 0);
        let (begun, begins) = std::sync::mpsc::channel();
        let (looked, looks) = std::sync::mpsc::channel();
        let adder = Arc::clone(&known);
        std::thread::spawn(move || {
            let record = Record { seq: 1, id: "one".to_owned(), at: 0, order: Order::default() };
            adder.recent.add(Arc::new(record), || {
                let _ = begun.send(());
                // Long enough for the other to be where it locks something.
                std::thread::sleep(std::time::Duration::from_millis(50));
                adder.registry.lock().gives(What::Count(1), "one".to_owned(), instant());
            });
        });
        let _ = begins.recv();
        std::thread::spawn(move || looked.send(known.nodes().len()));
        assert_eq!(looks.recv_timeout(std::time::Duration::from_secs(10)), Ok(0), "they wait for each other");
    }
}
