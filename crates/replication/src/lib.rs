//! Purges that travel: the lines of the purge log, and how a node follows it.
//!
//! The control process numbers orders and writes them to a log. A node says how far it is and gets what came since, in order,
//! on a connection that stays open ([`Line`]); it applies each, and says so on another one ([`Beat`]). The log has a name of
//! its own: a node that was with another log, or is further behind than the log reaches, cannot catch up; it makes all that it
//! has stale, and goes on from there.
//!
//! **Invariant:** a node that says it has applied a number has applied all before it; it never says so of what it has not.

mod follow;
mod give;
mod position;

use nearside_protocol::{Member, Order};
use serde::{Deserialize, Serialize};

pub use follow::{Applied, Applier, follow, leave};
pub use give::give;
pub use position::Position;

/// Where nodes follow the log.
pub const FOLLOW_PATH: &str = "/v1/fleet/follow";
/// Where they say what they have done.
pub const BEAT_PATH: &str = "/v1/fleet/beat";

/// Where they give orders of clients that know only them.
pub const GIVE_PATH: &str = "/v1/fleet/purge";

/// An order that a node gives on behalf of a client, which it has found to be allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// The node.
    pub node: String,
    /// The order.
    pub order: Order,
}

/// An order in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its number; one more than the one before.
    pub seq: u64,
    /// The name of its receipt.
    pub id: String,
    /// When it was accepted: milliseconds since the Unix epoch.
    pub at: u64,
    /// What is to be purged.
    pub order: Order,
}

/// What a node has done since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Requests that it has answered, but for those that it answers by itself (refusals, pings).
    pub requests: u64,
    /// Those of them that it has answered with what it had, fresh or stale, or shared with others.
    pub hits: u64,
    /// Bytes of bodies that it has sent to clients.
    pub bytes: u64,
    /// Requests that it has sent to next hops.
    pub forwards: u64,
    /// Client connections now.
    pub connections: u64,
}

/// How a node begins to follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Who it is.
    pub member: Member,
    /// The process: tells two nodes of one name from one that comes again.
    pub instance: u64,
    /// The log that it was with, and how far; nothing if it was with none since it was started.
    pub at: Option<At>,
    /// The name of the order with that number, empty if it is not known: a log that was set back and went on has another one there.
    #[serde(default)]
    pub last: String,
}

/// A place in a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    /// The log's name.
    pub log: String,
    /// The last number that was applied.
    pub seq: u64,
}

/// What a node is told, a line of JSON each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// First: where the log is; whether the node can catch up from where it was. If not, it is where the log is, once it has made
    /// stale all that it has.
    Start {
        /// The place.
        at: At,
        /// The name of the order there; empty if it is not known.
        #[serde(default)]
        last: String,
        /// Whether the lines after this one are all that came since.
        continues: bool,
    },
    /// The next order.
    Purge(Record),
    /// An order that is only to be counted.
    Count {
        /// Tells it from others.
        ticket: u64,
        /// What is to be counted.
        order: Order,
    },
    /// There is nothing new; the last number is still this one.
    Beat {
        /// The last number of the log.
        head: u64,
    },
}

/// What a node says of itself: that it lives, how far it is, and what it has done since the last time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beat {
    /// The node.
    pub node: String,
    /// The process.
    pub instance: u64,
    /// How far it is.
    pub at: At,
    /// The name of the order with that number; empty if it is not known.
    #[serde(default)]
    pub last: String,
    /// It will not come again.
    pub leaves: bool,
    /// What it has done in all.
    #[serde(default)]
    pub totals: Totals,
    /// What it has done.
    pub done: Vec<Done>,
}

/// An order that was carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Its name; empty of what was only counted.
    pub order: String,
    /// The ticket of what was only counted.
    pub ticket: Option<u64>,
    /// What it met.
    pub matched: u64,
    /// Fills that store nothing because of it.
    pub fenced_fills: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_listener_is_told_as_others_can_reach_it() {
        let seen = |admin: &str, from: &str| {
            let member = Member {
                id: "a".to_owned(),
                role: "edge".to_owned(),
                city: None,
                version: String::new(),
                sites: Vec::new(),
                place: None,
                reach: None,
                admin: Some(admin.parse().unwrap()),
            };
            member.seen_from(from.parse().unwrap()).admin.map(|admin| admin.to_string())
        };
        for (admin, from, told) in [
            ("127.0.0.1:7081", "127.0.0.1", Some("127.0.0.1:7081")),
            ("127.0.0.1:7081", "::ffff:127.0.0.1", Some("127.0.0.1:7081")),
            ("127.0.0.1:7081", "192.0.2.7", None),
            ("[::1]:7081", "192.0.2.7", None),
            ("0.0.0.0:7081", "192.0.2.7", Some("192.0.2.7:7081")),
            ("[::]:7081", "::ffff:192.0.2.7", Some("192.0.2.7:7081")),
            ("10.0.0.1:7081", "192.0.2.7", Some("10.0.0.1:7081")),
        ] {
            assert_eq!(seen(admin, from).as_deref(), told, "{admin} {from}");
        }
    }
}
