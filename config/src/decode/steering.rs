//! How the control process sends clients to edges.

use std::net::IpAddr;
use std::path::PathBuf;

use super::location;
use crate::model::{Answer, Console, Dns, Policy, Steering};
use crate::section::Section;
use crate::values::{HostPattern, ListenAddress, Span};

pub(super) fn steering(root: &Section<'_>) -> Option<Steering> {
    let section = root.section("steering");
    let listen: Option<ListenAddress> = section.get("listen");
    let (_, place) = location(&section);
    let path = |key| section.get::<String>(key).map(PathBuf::from);
    let steering = Steering {
        listen: listen.map(|ListenAddress(address)| address),
        dns: dns(&section),
        policy: section.or("policy", Policy::default()),
        answer: section.or("answer", Answer::default()),
        table: path("table"),
        mmdb: path("mmdb"),
        trusted_proxies: section.list("trusted_proxies"),
        secret: section.get("secret"),
        report_every: section.or("report_every", Span(Steering::REPORT_EVERY)).0,
        report_hosts: section.list("report_hosts"),
        place,
    };
    if !section.has("listen") && !section.has("dns") && root.has("steering") {
        section.all_absent(
            &["listen", "dns"],
            "nobody can ask where to go",
            "neither listen nor [steering.dns]",
            "add listen = \":7070\" for the router, or [steering.dns] with listen = \":53\"",
        );
    }
    root.has("steering").then_some(steering)
}

pub(super) fn console(root: &Section<'_>) -> Console {
    let section = root.section("console");
    Console { open: section.or("open", false), demo: section.get("demo"), wan: section.get("wan") }
}

fn dns(section: &Section<'_>) -> Option<Dns> {
    let is_there = section.has("dns");
    let dns = section.section("dns");
    let listen: Option<ListenAddress> =
        if is_there { dns.required("listen", "add listen = \":53\"") } else { dns.get("listen") };
    let zones: Vec<HostPattern> = dns.list("zones");
    let name_server: Option<HostPattern> = dns.get("name_server");
    let ttl = dns.or("ttl", Span(Dns::TTL)).0;
    if is_there && dns.is_void("zones") {
        let help = "add zones = [\"cdn.example.com\"]: the domains that are delegated to it";
        dns.absent("zones", "a name server without a zone answers nobody", "no zones", help);
    }
    if zones.iter().any(|zone| zone.to_string().contains('*')) {
        dns.object(
            "zones",
            "a zone is one domain",
            "a pattern",
            "write it without `*`: what is below it belongs to it",
        );
    }
    let below = || zones.first().map(|zone| format!("ns.{zone}"));
    let name_server = name_server.map(|name| name.to_string()).or_else(below)?;
    let addresses: Vec<IpAddr> = dns.list("addresses");
    let is_inside = |zone: &HostPattern| name_server == zone.to_string() || name_server.ends_with(&format!(".{zone}"));
    if dns.is_void("addresses") && zones.iter().any(is_inside) {
        let help = "add addresses = [\"192.0.2.53\"], or a name_server that is in no zone of this server";
        dns.absent("addresses", "the name server's own name has no address", "it is in one of its own zones", help);
    }
    Some(Dns { listen: listen?.0, zones, name_server, addresses, ttl })
}
