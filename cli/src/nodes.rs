//! Nodes as they are named on the command line: by an address, by a URL, or by their name, which a control process knows.

use std::fmt;
use std::str::FromStr;

use clap::Args;
use http::Method;
use nearside_config::{HostPort, NodeId, Secret, Upstream, ValueError};
use nearside_diagnostics::visible_line;
use nearside_lab::http_client::{Unreachable, send_with};
use nearside_lab::spelling::nearest;
use nearside_lab::{errln, usage};
use serde::Deserialize;

use crate::admin_client::understood;

/// A node as it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NodeName {
    /// By where its admin listener is.
    At(Authority),
    /// By its name.
    Called(NodeId),
}

/// A host and a port, as they stand in a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authority(String);

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Authority {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wanted = || ValueError("expected HOST:PORT or http://HOST:PORT, as in \"127.0.0.1:7080\"".to_owned());
        let HostPort { host, port } = match text.split_once("://") {
            Some(("http", _)) => {
                let Upstream { host, port, .. } = text.parse().map_err(|_no_url| wanted())?;
                HostPort { host, port }
            }
            Some(("https", _)) => {
                return Err(ValueError(
                    "admin listeners speak http:// only; put a TLS proxy or a tunnel between".to_owned(),
                ));
            }
            Some(_) => return Err(wanted()),
            None => text.parse().map_err(|_no_address| wanted())?,
        };
        Ok(Self(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }))
    }
}

impl FromStr for NodeName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error = match text.parse() {
            Ok(authority) => return Ok(Self::At(authority)),
            Err(error) => error,
        };
        if text.contains([':', '/']) {
            return Err(error);
        }
        let wanted = "expected HOST:PORT, http://HOST:PORT, or the name of a node, as in \"edge-nrt\"";
        text.parse().map(Self::Called).map_err(|_no_name| ValueError(wanted.to_owned()))
    }
}

/// Whom to ask for nodes that are given by their names.
#[derive(Debug, Args)]
pub(crate) struct Control {
    /// The control process that knows nodes by their names
    #[arg(long = "control", value_name = "ADDR", env = "NEARSIDE_CONTROL", default_value = "127.0.0.1:7080")]
    address: Authority,
}

/// A process with an admin listener, found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Where it is asked.
    pub(crate) at: Authority,
    /// How it was named.
    called: Option<String>,
}

impl Target {
    /// A URL of its admin listener.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.at)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.called {
            Some(name) => write!(f, "{name} ({})", self.at),
            None => self.at.fmt(f),
        }
    }
}

/// What `/v1/nodes` tells.
#[derive(Debug, Deserialize)]
struct Listing {
    nodes: Vec<Listed>,
}

/// A node of a fleet.
#[derive(Debug, Deserialize)]
struct Listed {
    id: String,
    #[serde(default)]
    admin: Option<String>,
}

/// What `/v1/version` tells.
#[derive(Debug, Deserialize)]
pub(crate) struct About {
    /// `edge`, `shield` or `control`.
    pub(crate) role: String,
    /// Its name; of a control process that of its log.
    pub(crate) id: String,
}

/// Asks a process what it is.
pub(crate) async fn about(target: &Target, token: Option<&Secret>) -> anyhow::Result<About> {
    let reply = send_with(Method::GET, &target.url("/v1/version"), None, token).await?;
    let About { role, id } = understood(target, &reply)?;
    Ok(About { role: visible_line(&role).into_owned(), id: visible_line(&id).into_owned() })
}

impl Control {
    /// Finds nodes: those with an address are taken as they are, the others are looked up.
    pub(crate) async fn find(&self, names: &[NodeName], token: Option<&Secret>) -> anyhow::Result<Vec<Target>> {
        let mut listed = None;
        let mut found = Vec::new();
        for name in names {
            let id = match name {
                NodeName::At(at) => {
                    found.push(Target { at: at.clone(), called: None });
                    continue;
                }
                NodeName::Called(id) => id.as_str(),
            };
            if listed.is_none() {
                listed = Some(self.listing(id, token).await?);
            }
            let nodes = listed.as_deref().unwrap_or_default();
            let target = target(self.find_in(nodes, id)?)?;
            is_itself(&target, id, token).await?;
            found.push(target);
        }
        Ok(found)
    }

    /// Finds one node.
    pub(crate) async fn find_one(&self, name: &NodeName, token: Option<&Secret>) -> anyhow::Result<Target> {
        let found = self.find(std::slice::from_ref(name), token).await?;
        found.into_iter().next().ok_or_else(|| usage!("--node: no node is given"))
    }

    async fn listing(&self, wanted: &str, token: Option<&Secret>) -> anyhow::Result<Vec<Listed>> {
        let control = Target { at: self.address.clone(), called: None };
        let listing = fleet_of(&control, token).await;
        listing.map_err(|error| {
            let at = &self.address;
            error.context(format!(
                "--node {wanted}: cannot look up the name at {at} (--control names another control process)"
            ))
        })
    }

    fn find_in<'l>(&self, nodes: &'l [Listed], wanted: &str) -> anyhow::Result<&'l Listed> {
        let names = || nodes.iter().map(|node| node.id.as_str());
        nodes.iter().find(|node| node.id == wanted).ok_or_else(|| {
            let hint = match nearest(wanted, names()) {
                Some(near) => format!("did you mean {near}? "),
                None => String::new(),
            };
            let known = names().collect::<Vec<_>>().join(", ");
            usage!("--node: {} knows no node {wanted:?}; {hint}known there: {known}", self.address)
        })
    }
}

/// Puts the nodes of a fleet in the place of each control process, for commands that look at what nodes do. A node whose admin
/// listener is not known is left out, with a note.
pub(crate) async fn without_controls(targets: Vec<Target>, token: Option<&Secret>) -> anyhow::Result<Vec<Target>> {
    let mut nodes: Vec<Target> = Vec::new();
    for control in targets {
        if about(&control, token).await?.role != "control" {
            nodes.push(control);
            continue;
        }
        let mut hidden = Vec::new();
        for listed in fleet_of(&control, token).await? {
            match target(&listed) {
                Ok(node) => nodes.push(node),
                Err(_unknown) => hidden.push(listed.id),
            }
        }
        if !hidden.is_empty() {
            errln!("{control} does not know the admin listeners of {}: name them with --node", hidden.join(", "));
        }
    }
    if nodes.is_empty() {
        let detail = "there is no node to look at: no node whose admin listener is known follows the control process; name nodes with \
                      --node";
        return Err(Unreachable(detail.to_owned()).into());
    }
    Ok(nodes)
}

async fn fleet_of(control: &Target, token: Option<&Secret>) -> anyhow::Result<Vec<Listed>> {
    let reply = send_with(Method::GET, &control.url("/v1/nodes"), None, token).await?;
    let Listing { nodes } = understood(control, &reply)?;
    let safe = |node: Listed| Listed { id: visible_line(&node.id).into_owned(), ..node };
    Ok(nodes.into_iter().map(safe).collect())
}

fn target(listed: &Listed) -> anyhow::Result<Target> {
    let at = listed.admin.as_deref().and_then(|admin| admin.parse().ok());
    let at: Authority = at.ok_or_else(|| {
        Unreachable(format!(
            "{} has no admin listener that could be reached from elsewhere: name its address with --node HOST:PORT",
            listed.id
        ))
    })?;
    Ok(Target { at, called: Some(listed.id.clone()) })
}

/// Checks that a node that was looked up is the one that answers. An address on the loopback of another machine would lead to whoever
/// listens there on this one.
async fn is_itself(target: &Target, id: &str, token: Option<&Secret>) -> anyhow::Result<()> {
    let found = about(target, token).await?;
    if found.id == id {
        return Ok(());
    }
    let (at, role) = (&target.at, found.role);
    let detail =
        format!("{id} is not reached at {at}, as its control process says: a {role} {:?} answers there", found.id);
    Err(Unreachable(detail + "; name its address with --node HOST:PORT").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_named_by_address_url_or_name() {
        let at = |text: &str| NodeName::At(Authority(text.to_owned()));
        for (text, parsed) in [
            ("127.0.0.1:7080", at("127.0.0.1:7080")),
            ("localhost:7080", at("localhost:7080")),
            ("[::1]:7080", at("[::1]:7080")),
            ("http://127.0.0.1:7080", at("127.0.0.1:7080")),
            ("http://[::1]:7080/", at("[::1]:7080")),
            ("http://admin.example.com", at("admin.example.com:80")),
            ("edge-nrt", NodeName::Called("edge-nrt".parse().unwrap())),
        ] {
            assert_eq!(text.parse(), Ok(parsed), "{text}");
        }
        for wrong in
            ["", "127.0.0.1", "127.0.0.1:", "edge nrt", "ftp://a:1", "https://a:1", "http://a:1/v1", "a:0", "::1"]
        {
            assert!(wrong.parse::<NodeName>().is_err(), "{wrong}");
        }
    }
}
