//! What became of an order.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Problem;

/// What became of an order, node by node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Receipt {
    /// Its name.
    pub id: String,
    /// Its number in the purge log; absent where a node purged by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Nothing was purged, only counted.
    pub dry_run: bool,
    /// The sum over all nodes.
    pub matched: u64,
    /// Each node.
    pub nodes: Vec<NodeReceipt>,
}

/// What one node has done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeReceipt {
    /// The node.
    pub id: String,
    /// How far it is.
    pub state: State,
    /// Stored variants that the order met, and responses under way that were known to belong to it. Of tags, hosts, sites and
    /// everything the members of the group are counted, without a look at each: those that are expired or were purged otherwise
    /// count as long as their memory is in use. What an order names in two ways counts twice.
    pub matched: u64,
    /// Fills under way that store nothing because of it.
    pub fenced_fills: u64,
    /// How long it took, from when the order was accepted.
    pub ms: f64,
}

/// How far a node is with an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Done.
    Applied,
    /// Counted, as a dry run.
    Counted,
    /// It has not said so yet.
    Pending,
    /// It cannot be reached. When it can, it applies the order before it serves what that concerns.
    Unreachable,
}

impl State {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Counted => "counted",
            Self::Pending => "pending",
            Self::Unreachable => "unreachable",
        }
    }
}

impl Receipt {
    /// A receipt of these nodes.
    #[must_use]
    pub fn of(id: String, seq: Option<u64>, dry_run: bool, nodes: Vec<NodeReceipt>) -> Self {
        let matched = nodes.iter().map(|node| node.matched).sum();
        Self { id, seq, dry_run, matched, nodes }
    }

    /// The receipt, if every node has done it: for those who know no other success.
    ///
    /// # Errors
    ///
    /// The nodes that have not (503): the order stands, and may be given again.
    pub fn complete(self) -> Result<Self, Problem> {
        if self.is_complete() {
            return Ok(self);
        }
        let left = self.nodes.iter().filter(|node| !matches!(node.state, State::Applied | State::Counted));
        let left: Vec<_> = left.map(|node| format!("{} {}", node.id, node.state.as_str())).collect();
        let detail = format!("{} was accepted, but not all nodes have applied it yet: {}", self.id, left.join(", "));
        Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "incomplete", detail))
    }

    /// Whether every node has done it.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.nodes.iter().all(|node| matches!(node.state, State::Applied | State::Counted))
    }
}
