//! The sites of a file.

use super::{OriginsRule, timeout};
use crate::model::{ClientRules, Key, Normalise, Site, SiteTimeouts};
use crate::section::Section;
use crate::values::{FieldName, Fraction, HostPattern, Span, Upstream};

pub(super) fn sites(root: &Section<'_>, rule: OriginsRule) -> Vec<Site> {
    let sections = root.sections("site");
    if root.is_void("site") {
        root.absent(
            "site",
            "there is no site",
            "nothing to serve",
            "add a [[site]] table with hosts = [\"*\"] and origins = [\"http://HOST:PORT\"]",
        );
    }
    let mut seen: Vec<(HostPattern, String)> = Vec::new();
    let mut sites: Vec<Site> = Vec::new();
    for section in &sections {
        let site = site(section, rule);
        for host in &site.hosts {
            match seen.iter().find(|(other, _)| other == host) {
                Some((_, owner)) => section.object(
                    "hosts",
                    &format!("two sites answer for `{host}`"),
                    &format!("the site `{owner}` has it already"),
                    "a host belongs to one site: remove it from one of them",
                ),
                None => seen.push((host.clone(), site.name.clone())),
            }
        }
        // A name that is missing or wrong is reported as that.
        if !site.name.is_empty() && sites.iter().any(|other| other.name == site.name) {
            section.object("name", "two sites have one name", "used before", "names tell sites apart: choose another");
        }
        sites.push(site);
    }
    sites
}

fn site(section: &Section<'_>, rule: OriginsRule) -> Site {
    let name: String =
        section.required("name", "add name = \"www\"; it stands in logs and metrics").unwrap_or_default();
    let hosts = section.list("hosts");
    let origins: Vec<Upstream> = section.list("origins");
    if section.is_void("hosts") {
        section.absent(
            "hosts",
            "a site needs hosts",
            "no host",
            "add hosts = [\"www.example.com\"], or [\"*\"] for all",
        );
    }
    if section.is_void("origins") && rule == OriginsRule::Needed {
        let help = "add origins = [\"https://origin.example.com\"]; only an edge with [shields] and without fallback = \"origin\" \
                    needs none";
        section.absent("origins", "a site needs an origin", "no origin", help);
    }
    let defaults = Site::new(&name, hosts, origins);
    let targeted: Vec<FieldName> = section.list("targeted_fields");
    Site {
        canonical_host: host(section, "canonical_host"),
        origin_host: host(section, "origin_host"),
        set_cookie: section.or("set_cookie", defaults.set_cookie),
        honour_request_directives: section.or("honour_request_directives", defaults.honour_request_directives),
        on_lag: section.or("on_lag", defaults.on_lag),
        serve_stale_on_error: section.or("serve_stale_on_error", Span(defaults.serve_stale_on_error)).0,
        stale_deadline: section
            .get("stale_deadline")
            .map_or(defaults.stale_deadline, |Span(span)| Some(span).filter(|span| !span.is_zero())),
        keep_for_validation: section.or("keep_for_validation", Span(defaults.keep_for_validation)).0,
        heuristic_thousandths: section.or("heuristic_fraction", Fraction(defaults.heuristic_thousandths)).0,
        heuristic_cap: section.or("heuristic_cap", Span(defaults.heuristic_cap)).0,
        max_ttl: section.get("max_ttl").map(|Span(span)| span),
        targeted_fields: if section.has("targeted_fields") { targeted } else { defaults.targeted_fields },
        no_vary_search: section.or("no_vary_search", defaults.no_vary_search),
        key: key(&section.section("key")),
        normalise: normalise(&section.section("normalise")),
        slice: section.or("slice", defaults.slice),
        server_timing: section.or("server_timing", defaults.server_timing),
        timeouts: timeouts(&section.section("timeouts")),
        clients: clients(section),
        name: defaults.name,
        hosts: defaults.hosts,
        origins: defaults.origins,
    }
}

fn clients(section: &Section<'_>) -> ClientRules {
    let rules = ClientRules { allow: section.list("allow_from"), deny: section.list("deny_from") };
    if section.is_void("allow_from") && section.has("allow_from") {
        section.object(
            "allow_from",
            "a site without clients serves nobody",
            "no network",
            "name the networks that are served, or leave it out: all are",
        );
    }
    rules
}

/// What nodes write themselves when they ask a next hop.
const REWRITTEN: [&str; 7] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "via", "cdn-loop", "host"];

fn key(section: &Section<'_>) -> Key {
    let keep = section.list("query_keep");
    let fields: Vec<FieldName> = section.list("fields");
    if let Some(own) = fields.iter().find(|field| REWRITTEN.contains(&field.as_str())) {
        section.object(
            "fields",
            &format!("`{}` cannot tell answers apart", own.as_str()),
            "every node writes it anew",
            "name a field that clients send and that reaches the origin as it came",
        );
    }
    Key {
        query_keep: section.has("query_keep").then_some(keep),
        query_drop: section.list("query_drop"),
        query_sort: section.or("query_sort", false),
        fields,
        cookies: section.list("cookies"),
    }
}

fn normalise(section: &Section<'_>) -> Normalise {
    let defaults = Normalise::default();
    Normalise {
        accept_encoding: section.or("accept_encoding", defaults.accept_encoding),
        accept_language: section.or("accept_language", defaults.accept_language),
    }
}

/// The limits that a site sets for its own requests.
fn timeouts(section: &Section<'_>) -> SiteTimeouts {
    SiteTimeouts {
        first_byte: timeout(section, "first_byte"),
        between_bytes: timeout(section, "between_bytes"),
        event_stream: timeout(section, "event_stream"),
        websocket: timeout(section, "websocket"),
        total: timeout(section, "total"),
    }
}

/// A host with an optional port, as it stands in a `Host` field.
fn host(section: &Section<'_>, key: &'static str) -> Option<String> {
    let host: String = section.get(key)?;
    if format!("http://{host}").parse::<Upstream>().is_err() {
        section.object(key, "this is no host", "neither a name nor an address", "write it as \"www.example.com\"");
    }
    Some(host)
}
