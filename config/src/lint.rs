//! Values that are right each for itself and do not go together: listeners on one address, next hops that are the node itself, a
//! control process that nobody may reach.
//!
//! They are looked at in the configuration that is in force, after flags have changed what a file says.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::mpsc;
use std::time::Duration;

use crate::flaw::Flaw;
use crate::model::{Config, ControlConfig, Role, Wan};
use crate::values::Upstream;

/// How names of next hops are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Only addresses, and `localhost`: nothing is asked.
    Literal,
    /// By the resolver of the machine, within [`RESOLVE_MAX`].
    Resolved,
}

/// The time that all look-ups of a name may take.
const RESOLVE_MAX: Duration = Duration::from_secs(2);

/// A listener of a configuration.
struct Listener {
    /// Its key.
    at: String,
    /// What it is for.
    what: &'static str,
    address: SocketAddr,
}

/// The flaws of an edge or a shield.
#[must_use]
pub fn node_flaws(config: &Config, names: Names) -> Vec<Flaw> {
    let mut listeners = Vec::new();
    let mut add = |at: String, what, address| listeners.push(Listener { at, what, address });
    for (number, address) in config.listen.iter().enumerate() {
        add(format!("listen[{number}]"), "a listener for clients", *address);
    }
    for (number, listener) in config.listen_tls.iter().enumerate() {
        add(format!("listen_tls[{number}].address"), "a TLS listener for clients", listener.address);
    }
    if let Some(address) = config.admin {
        add("admin".to_owned(), "the admin listener", address);
    }
    let mut flaws = collisions(&listeners);
    let mut hop = |at: String, what: &str, upstream: &Upstream| {
        flaws.extend(own(&listeners, at, what, upstream, names));
    };
    for (number, site) in config.sites.iter().enumerate() {
        for (place, origin) in site.origins.iter().enumerate() {
            hop(format!("site[{number}].origins[{place}]"), "the origin", origin);
        }
    }
    if let Role::Edge { shields, .. } = &config.role {
        for (place, shield) in shields.iter().enumerate() {
            hop(format!("shields.addresses[{place}]"), "the shield", shield);
        }
    }
    for (place, control) in config.control.iter().flat_map(|control| &control.addresses).enumerate() {
        hop(format!("control.address[{place}]"), "the control process", control);
    }
    if let Some(collector) = &config.traces.otlp {
        hop("traces.otlp".to_owned(), "the collector of traces", collector);
    }
    flaws
}

/// The flaws of a control process.
#[must_use]
pub fn control_flaws(config: &ControlConfig, names: Names) -> Vec<Flaw> {
    let mut listeners = vec![Listener {
        at: "listen".to_owned(),
        what: "the listener for operators and nodes",
        address: config.listen,
    }];
    let steering = config.steering.as_ref();
    if let Some(address) = steering.and_then(|steering| steering.listen) {
        listeners.push(Listener { at: "steering.listen".to_owned(), what: "the router", address });
    }
    if let Some(dns) = steering.and_then(|steering| steering.dns.as_ref()) {
        listeners.push(Listener { at: "steering.dns.listen".to_owned(), what: "the name server", address: dns.listen });
    }
    let mut flaws = collisions(&listeners);
    let asked =
        [("console.demo", "the demo", &config.console.demo), ("console.wan", "the simulated WAN", &config.console.wan)];
    for (at, what, upstream) in asked {
        if let Some(upstream) = upstream {
            flaws.extend(own(&listeners, at.to_owned(), what, upstream, names));
        }
    }
    flaws.extend(closed_doors(config));
    flaws
}

/// What works as it did, and will not for ever: told of at each start and by `nearside check`, which pass all the same.
#[must_use]
pub fn control_deprecations(config: &ControlConfig) -> Vec<Flaw> {
    let shared = config.nodes.as_ref().map(|_| {
        Flaw::warning(
            "nodes.secret",
            "[nodes] secret is deprecated and will be removed in 0.4: all nodes share it, so that any of them can register as any other".to_owned(),
            "works until then",
            "give each node a [[node]] with id, role and a secret of its own, and remove it",
        )
    });
    shared.into_iter().collect()
}

/// Off the loopback nobody may do anything without a token, nor follow without the nodes' secret.
fn closed_doors(config: &ControlConfig) -> Vec<Flaw> {
    let (listen, mut flaws) = (config.listen, Vec::new());
    if listen.ip().to_canonical().is_loopback() {
        return flaws;
    }
    if config.nodes.is_none() && config.node_credentials.is_empty() {
        flaws.push(Flaw::warning(
            "listen",
            format!("no node can follow this control process: {listen} is not on the loopback, and there is no secret for nodes"),
            "without a secret only the loopback is open to nodes",
            "add a [[node]] with id, role and secret for each node, the same as in [control] of the node; or listen on 127.0.0.1",
        ));
    }
    if config.tokens.is_empty() && config.hooks.is_empty() {
        flaws.push(Flaw::warning(
            "listen",
            format!(
                "nobody can purge through this control process: {listen} is not on the loopback, and there is no token"
            ),
            "without a token only the loopback is open to operators",
            "add a [[token]] with name, secret and scope = \"purge\" or \"admin\"; or listen on 127.0.0.1",
        ));
    }
    flaws
}

/// The flaws of a simulated WAN.
#[must_use]
pub fn wan_flaws(wan: &Wan) -> Vec<Flaw> {
    let mut listeners = Vec::new();
    let mut add = |at: String, what, address| listeners.push(Listener { at, what, address });
    if let Some(address) = wan.api {
        add("api".to_owned(), "the API", address);
    }
    if let Some(address) = wan.listen {
        add("listen".to_owned(), "the listener for browsers", address);
    }
    for (number, link) in wan.links.iter().enumerate() {
        add(format!("link[{number}].listen"), "the listener of a link", link.listen);
    }
    collisions(&listeners)
}

/// Each listener whose address another one before it has already.
fn collisions(listeners: &[Listener]) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    for (number, listener) in listeners.iter().enumerate() {
        let others = listeners.get(..number).unwrap_or_default();
        let Some(other) = others.iter().find(|other| collide(listener.address, other.address)) else { continue };
        let (address, taken) = (listener.address, other.address);
        let title = if address == taken {
            format!("two listeners on one address: {address}")
        } else {
            format!(
                "two listeners on one address: {address} and {taken}, one of which takes every address of the machine"
            )
        };
        let label = format!("{}; {} ({}) has it already", listener.what, other.what, other.at);
        flaws.push(Flaw::error(&listener.at, title, label, "give one of them another port"));
    }
    flaws
}

/// Whether two sockets cannot both listen: they have one port, and one address, or one of them has all addresses.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    // Port 0 is whichever is free.
    one.port() == other.port() && one.port() != 0 && (a == b || takes_all_of(a, b) || takes_all_of(b, a))
}

/// Whether a socket at `wide` takes what is for `narrow`: `0.0.0.0` all of IPv4, `[::]` everything.
fn takes_all_of(wide: IpAddr, narrow: IpAddr) -> bool {
    wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
}

/// A next hop that is a listener of the process itself.
fn own(listeners: &[Listener], at: String, what: &str, hop: &Upstream, names: Names) -> Option<Flaw> {
    let is_there = |listener: &Listener, address: IpAddr| {
        let (own, address) = (listener.address.ip().to_canonical(), address.to_canonical());
        // What is sent to no address in particular goes to this machine.
        own == address
            || takes_all_of(own, address) && is_of_machine(address)
            || address.is_unspecified() && own.is_loopback()
    };
    let mut same_port = listeners.iter().filter(|listener| listener.address.port() == hop.port).peekable();
    same_port.peek()?;
    let addresses = addresses(hop, names);
    let listener = same_port.find(|listener| addresses.iter().any(|address| is_there(listener, *address)))?;
    Some(Flaw::error(
        at,
        format!("{what} {hop} is this process itself: it listens on {}", listener.address),
        format!("{} ({})", listener.what, listener.at),
        format!("write where {what} is; requests would go round in a circle"),
    ))
}

/// The addresses of a next hop, as far as they can be told.
fn addresses(hop: &Upstream, names: Names) -> Vec<IpAddr> {
    const LOOPBACK: [IpAddr; 2] =
        [IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)];
    let host = hop.host.trim_end_matches('.').to_ascii_lowercase();
    if let Ok(address) = host.parse() {
        return vec![address];
    }
    // RFC 6761 §6.3
    if host == "localhost" || host.ends_with(".localhost") {
        return LOOPBACK.to_vec();
    }
    match names {
        Names::Literal => Vec::new(),
        Names::Resolved => resolved(host, hop.port),
    }
}

/// What the resolver says; nothing if it takes too long.
fn resolved(host: String, port: u16) -> Vec<IpAddr> {
    let (sender, receiver) = mpsc::sync_channel(1);
    // The resolver of the system cannot be stopped. This is asked by a command that ends soon.
    let ask = move || {
        let found = (host.as_str(), port).to_socket_addrs();
        let _ = sender.send(found.map(|all| all.map(|address| address.ip()).collect()).unwrap_or_default());
    };
    match std::thread::Builder::new().name("resolve".to_owned()).spawn(ask) {
        Ok(_) => receiver.recv_timeout(RESOLVE_MAX).unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}

/// Whether an address is one of this machine: only then can a socket have it.
fn is_of_machine(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified() || UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_collide_where_the_kernel_would_refuse_the_second() {
        for (one, other, collides) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("192.0.2.1:80", "0.0.0.0:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::]:80", "0.0.0.0:80", true),
            ("[::]:80", "[::1]:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("0.0.0.0:0", "[::]:0", false),
        ] {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(collide(one, other), collides, "{one} {other}");
            assert_eq!(collide(other, one), collides, "{other} {one}");
        }
    }

    #[test]
    fn a_next_hop_is_the_node_itself_by_whatever_address() {
        let is_own = |listen: &str, hop: &str| {
            let listener =
                Listener { at: "listen[0]".to_owned(), what: "a listener", address: listen.parse().unwrap() };
            own(&[listener], "site[0].origins[0]".to_owned(), "the origin", &hop.parse().unwrap(), Names::Literal)
                .is_some()
        };
        for (listen, hop) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("127.0.0.1:8080", "http://localhost:8080"),
            ("127.0.0.1:8080", "http://LOCALHOST.:8080"),
            ("127.0.0.1:8080", "http://0.0.0.0:8080"),
            ("[::1]:8080", "http://a.localhost:8080"),
            ("0.0.0.0:8080", "http://127.9.9.9:8080"),
            ("[::]:8080", "http://127.0.0.1:8080"),
            ("[::]:80", "http://[::1]"),
            ("0.0.0.0:443", "https://127.0.0.1"),
            ("192.0.2.1:8080", "http://192.0.2.1:8080"),
        ] {
            assert!(is_own(listen, hop), "{listen} {hop}");
        }
        for (listen, hop) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8081"),
            ("127.0.0.1:8080", "http://127.0.0.2:8080"),
            ("0.0.0.0:8080", "http://192.0.2.1:8080"),
            ("0.0.0.0:8080", "http://[::1]:8080"),
            ("127.0.0.1:8080", "http://origin.example:8080"),
        ] {
            assert!(!is_own(listen, hop), "{listen} {hop}");
        }
    }
}
