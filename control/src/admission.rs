//! The door for nodes: which node it is that asks, and what it may say of itself.
//!
//! A node with a credential of its own (`[[node]]`) is the node that is named there and no other: it registers under that id and role, for
//! those sites and hosts, and has clients sent to those addresses only. The secret that all nodes share (`[nodes] secret`) says only that
//! somebody is a node. Names that have a credential of their own are closed to it.

use std::net::SocketAddr;

use axum::http::{HeaderMap, StatusCode};
use nearside_api::{Access, Holder};
use nearside_config::{HostPattern, NodeCredential, NodeId, NodeRole, Scope, Token};
use nearside_protocol::{Member, Problem, Reach, Site};

/// Name of the shared secret among the holders. No node can have it: ids begin with a letter.
const SHARED: &str = "[nodes]";

/// The door for nodes.
#[derive(Debug)]
pub(crate) struct NodeDoor {
    access: Access,
    credentials: Vec<NodeCredential>,
}

/// A node that was let in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdmittedNode<'d> {
    door: &'d NodeDoor,
    holder: Holder<'d>,
    /// Its own credential; of one that shows the shared secret, or on an open loopback nothing, none.
    credential: Option<&'d NodeCredential>,
}

impl NodeDoor {
    /// The door of a listener at `address`: without any secret, the loopback is open.
    pub(crate) fn new(shared: Option<Token>, credentials: Vec<NodeCredential>, address: SocketAddr) -> Self {
        let token =
            |name: &str, secret| Token { name: name.to_owned(), secret, scope: Scope::Admin, sites: Vec::new() };
        let own = credentials.iter().map(|node| token(node.id.as_str(), node.secret.clone()));
        let tokens = shared.into_iter().map(|shared| token(SHARED, shared.secret)).chain(own).collect();
        Self { access: Access::new(tokens, address), credentials }
    }

    /// Whether nobody comes in without a secret.
    pub(crate) fn is_guarded(&self) -> bool {
        self.access.is_guarded()
    }

    /// Whether this shows a secret of a node.
    pub(crate) fn knows(&self, fields: &HeaderMap) -> bool {
        self.access.knows(fields)
    }

    /// Finds out which node shows this.
    ///
    /// # Errors
    ///
    /// A secret is missing or unknown (401).
    pub(crate) fn admit(&self, fields: &HeaderMap) -> Result<AdmittedNode<'_>, Problem> {
        let holder = self.access.admit(fields, Scope::Admin)?;
        let credential = self.credentials.iter().find(|node| node.id.as_str() == holder.name());
        Ok(AdmittedNode { door: self, holder, credential })
    }
}

impl<'d> AdmittedNode<'d> {
    /// Permission to read the body of its request.
    pub(crate) fn holder(&self) -> Holder<'d> {
        self.holder
    }

    /// Checks that it is the node of this name.
    ///
    /// # Errors
    ///
    /// The name is none (422), or another node's (403).
    pub(crate) fn is_node(&self, id: &str) -> Result<(), Problem> {
        if let Err(allowed) = id.parse::<NodeId>() {
            return Err(Problem::unprocessable(
                "node-id",
                format!("the id of a node cannot be {id:?}: expected {allowed}"),
            ));
        }
        match self.credential {
            Some(own) if own.id.as_str() != id => {
                Err(bound(format!("this is the secret of the node {:?}, not of {id:?}", own.id.as_str())))
            }
            None if self.door.credentials.iter().any(|node| node.id.as_str() == id) => Err(bound(format!(
                "the node {id:?} has a secret of its own ([[node]] of the control process), and did not show it: set [control] secret"
            ))),
            _ => Ok(()),
        }
    }

    /// The node as it may register.
    ///
    /// # Errors
    ///
    /// It says of itself what is not its own (403), or what no node can be (422).
    pub(crate) fn registers(&self, member: Member) -> Result<Member, Problem> {
        self.is_node(&member.id)?;
        if member.role.parse::<NodeRole>().is_err() {
            let detail = format!("the role of a node cannot be {:?}: expected \"edge\" or \"shield\"", member.role);
            return Err(Problem::unprocessable("node-role", detail));
        }
        let Some(own) = self.credential else { return Ok(member) };
        if member.role != own.role.as_str() {
            return Err(bound(format!("the node {:?} is a {}, not a {}", member.id, own.role, member.role)));
        }
        if let Some(site) = member.sites.iter().find(|site| !may_serve(own, site)) {
            let hosts = site.hosts.join(", ");
            let detail = format!(
                "the node {:?} may not serve the site {:?} for {hosts:?}: see its sites and hosts",
                member.id, site.name
            );
            return Err(bound(detail));
        }
        if let Some(reach) = &member.reach {
            check_reach(own, reach)?;
        }
        Ok(Member { place: own.place.or(member.place), ..member })
    }

    /// Checks that it may purge of these sites.
    ///
    /// # Errors
    ///
    /// One is not its own (403).
    pub(crate) fn may_purge(&self, sites: &[String]) -> Result<(), Problem> {
        let Some(own) = self.credential.filter(|own| !own.sites.is_empty()) else { return Ok(()) };
        match sites.iter().find(|site| !own.sites.contains(site)) {
            None => Ok(()),
            Some(site) => Err(bound(format!("the node {:?} may not purge of the site {site:?}", own.id.as_str()))),
        }
    }
}

fn bound(detail: String) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "node-bound", detail)
}

fn may_serve(own: &NodeCredential, site: &Site) -> bool {
    let may_host = |host: &String| host.parse().is_ok_and(|host| own.hosts.iter().any(|bound| is_within(bound, &host)));
    (own.sites.is_empty() || own.sites.contains(&site.name))
        && (own.hosts.is_empty() || site.hosts.iter().all(may_host))
}

/// Whether a pattern covers every host that another one does.
fn is_within(bound: &HostPattern, other: &HostPattern) -> bool {
    match (bound, other) {
        (HostPattern::Any, _) => true,
        (_, HostPattern::Any) | (HostPattern::Exactly(_), HostPattern::Below(_)) => false,
        (HostPattern::Below(_), HostPattern::Below(name)) => bound == other || bound.covers(name),
        (_, HostPattern::Exactly(name)) => bound.covers(name),
    }
}

/// Checks that clients are sent only where a node is.
fn check_reach(own: &NodeCredential, reach: &Reach) -> Result<(), Problem> {
    let id = own.id.as_str();
    if let Some(address) = reach.addresses.iter().find(|address| !own.addresses.contains(address)) {
        return Err(bound(format!(
            "the node {id:?} may not have clients sent to {address}: add it to addresses in its [[node]] of the control process"
        )));
    }
    match &reach.url {
        Some(url) if own.url.as_ref().is_none_or(|own| own.as_str() != url) => Err(bound(format!(
            "the node {id:?} may not have clients sent to {url:?}: set url in its [[node]] of the control process"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use nearside_config::Secret;

    use super::*;

    const LON: &str = "the-secret-of-edge-lon";
    const SHARED_SECRET: &str = "the-secret-of-all-nodes";

    fn door(shared: bool) -> NodeDoor {
        let secret = |text| Secret::new(text).unwrap();
        let mut lon = NodeCredential::new("edge-lon".parse().unwrap(), NodeRole::Edge, secret(LON));
        lon.sites = vec!["www".to_owned()];
        lon.hosts = vec!["www.example.com".parse().unwrap(), "*.shop.example".parse().unwrap()];
        lon.addresses = vec!["203.0.113.1".parse().unwrap()];
        lon.url = Some("https://lon.{host}".parse().unwrap());
        lon.place = Some(nearside_geo::city("London").unwrap().place());
        let token =
            Token { name: "nodes".to_owned(), secret: secret(SHARED_SECRET), scope: Scope::Admin, sites: Vec::new() };
        NodeDoor::new(shared.then_some(token), vec![lon], "0.0.0.0:7080".parse().unwrap())
    }

    fn shows(secret: &str) -> HeaderMap {
        HeaderMap::from_iter([(axum::http::header::AUTHORIZATION, format!("Bearer {secret}").parse().unwrap())])
    }

    fn lon() -> Member {
        Member {
            id: "edge-lon".to_owned(),
            role: "edge".to_owned(),
            city: None,
            version: String::new(),
            sites: vec![Site { name: "www".to_owned(), hosts: vec!["www.example.com".to_owned()] }],
            place: None,
            reach: Some(Reach {
                url: Some("https://lon.{host}".to_owned()),
                addresses: vec!["203.0.113.1".parse().unwrap()],
                capacity: None,
            }),
            admin: None,
        }
    }

    #[test]
    fn a_node_registers_as_what_its_credential_says() {
        let door = door(true);
        let fields = shows(LON);
        let node = door.admit(&fields).unwrap();
        let registered = node.registers(lon()).unwrap();
        assert_eq!(registered.place, Some(nearside_geo::city("London").unwrap().place()));
        let site = |name: &str, host: &str| vec![Site { name: name.to_owned(), hosts: vec![host.to_owned()] }];
        let reach = |url: &str, address: &str| {
            Some(Reach { url: Some(url.to_owned()), addresses: vec![address.parse().unwrap()], capacity: None })
        };
        assert!(node.registers(Member { reach: None, ..lon() }).is_ok());
        for host in ["a.shop.example", "*.shop.example", "*.a.shop.example"] {
            assert!(node.registers(Member { sites: site("www", host), ..lon() }).is_ok(), "{host}");
        }
        for (what, member) in [
            ("id", Member { id: "edge-fra".to_owned(), ..lon() }),
            ("role", Member { role: "shield".to_owned(), ..lon() }),
            ("site", Member { sites: site("bank", "www.example.com"), ..lon() }),
            ("host", Member { sites: site("www", "bank.example"), ..lon() }),
            ("host above", Member { sites: site("www", "shop.example"), ..lon() }),
            ("hosts below one", Member { sites: site("www", "*.www.example.com"), ..lon() }),
            ("hosts above", Member { sites: site("www", "*.example"), ..lon() }),
            ("any host", Member { sites: site("www", "*"), ..lon() }),
            ("no host", Member { sites: site("www", "a b"), ..lon() }),
            ("address", Member { reach: reach("https://lon.{host}", "198.51.100.9"), ..lon() }),
            ("url", Member { reach: reach("https://evil.example", "203.0.113.1"), ..lon() }),
        ] {
            assert_eq!(node.registers(member).unwrap_err().code, "node-bound", "{what}");
        }
        assert!(node.may_purge(&["www".to_owned()]).is_ok());
        assert_eq!(node.may_purge(&["www".to_owned(), "bank".to_owned()]).unwrap_err().code, "node-bound");
    }

    #[test]
    fn the_shared_secret_opens_no_name_that_has_a_credential() {
        let door = door(true);
        let fields = shows(SHARED_SECRET);
        let node = door.admit(&fields).unwrap();
        assert!(node.registers(Member { id: "edge-old".to_owned(), ..lon() }).is_ok());
        assert_eq!(node.registers(lon()).unwrap_err().code, "node-bound");
        assert_eq!(node.is_node("edge-lon").unwrap_err().code, "node-bound");
        for (id, role, code) in [
            ("", "edge", "node-id"),
            ("edge lon", "edge", "node-id"),
            ("[nodes]", "edge", "node-id"),
            ("edge.>\u{1b}[2J", "edge", "node-id"),
            ("edge-old", "control", "node-role"),
        ] {
            let member = Member { id: id.to_owned(), role: role.to_owned(), ..lon() };
            assert_eq!(node.registers(member).unwrap_err().code, code, "{id:?} {role}");
        }
        let alone = self::door(false);
        assert_eq!(alone.admit(&shows(SHARED_SECRET)).unwrap_err().code, "token-unknown");
        assert_eq!(alone.admit(&HeaderMap::new()).unwrap_err().code, "token-missing");
        assert!(alone.is_guarded());
    }
}
