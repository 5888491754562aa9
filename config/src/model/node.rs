//! Nodes that a control process knows, each by a credential of its own.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use nearside_geo::Place;

use super::PublicUrl;
use crate::values::{HostPattern, NodeId, Secret, ValueError};

/// What a node of a fleet may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeRole {
    /// It faces clients.
    Edge,
    /// It faces edges.
    Shield,
}

impl NodeRole {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Shield => "shield",
        }
    }
}

impl FromStr for NodeRole {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "edge" => Ok(Self::Edge),
            "shield" => Ok(Self::Shield),
            _ => Err(ValueError("\"edge\" or \"shield\"".to_owned())),
        }
    }
}

impl fmt::Display for NodeRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The credential of one node, and what the node may say of itself that shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCredential {
    /// Its name.
    pub id: NodeId,
    /// What it is.
    pub role: NodeRole,
    /// What it shows, and no other node.
    pub secret: Secret,
    /// The sites that it may serve and purge; empty: all.
    pub sites: Vec<String>,
    /// The hosts that it may serve; empty: all.
    pub hosts: Vec<HostPattern>,
    /// Addresses to which clients may be sent for it.
    pub addresses: Vec<IpAddr>,
    /// The URL to which clients may be sent for it.
    pub url: Option<PublicUrl>,
    /// Where it stands, whatever it says; nothing: where it says.
    pub place: Option<Place>,
}

impl NodeCredential {
    /// The credential of a node that no client is sent to, for all sites.
    #[must_use]
    pub fn new(id: NodeId, role: NodeRole, secret: Secret) -> Self {
        let (sites, hosts, addresses) = (Vec::new(), Vec::new(), Vec::new());
        Self { id, role, secret, sites, hosts, addresses, url: None, place: None }
    }
}
