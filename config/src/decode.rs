//! From the text of a file to a [`Config`].

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use nearside_geo::{City, Place};
use toml::de::DeTable;

use crate::model::{
    AccessLog, Cache, Config, ConfigFile, Fallback, Limits, LogSink, OriginLimits, Public, Role, Timeouts, TlsListener,
    Traces, default_id,
};
use crate::problem::ConfigError;
use crate::section::{Findings, Section};
use crate::values::{ByteSize, ListenAddress, Secret, Span, Upstream, ValueError};

mod control;
mod hook;
mod node;
mod site;
mod steering;
mod token;
mod wan;

pub(crate) use control::LogKind;
pub use control::{is_control, is_wan, load_control};
pub use wan::{load_wan, parse_wan};

/// Reads and checks a file.
///
/// # Errors
///
/// The file cannot be read, or has problems: all of them.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let file = ConfigFile::new(path, &text);
    let config = parse(&path.display().to_string(), text)?;
    Ok(Config { file: Some(file), ..config })
}

/// Checks the text of a file called `path`.
///
/// # Errors
///
/// All problems of the text.
pub fn parse(path: &str, text: String) -> Result<Config, ConfigError> {
    parse_with(path, text, config)
}

fn parse_with<T>(path: &str, text: String, read: impl FnOnce(&Section<'_>) -> Option<T>) -> Result<T, ConfigError> {
    let findings = Findings::default();
    let config = decode_with(&text, &findings, read);
    let problems = findings.into_problems();
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(ConfigError::Invalid { path: path.to_owned(), text, problems }),
    }
}

/// `None` only if a problem was reported.
fn decode_with<T>(text: &str, findings: &Findings, read: impl FnOnce(&Section<'_>) -> Option<T>) -> Option<T> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let span = error.span().unwrap_or(0..text.len().min(1));
        let title = "this is not TOML".to_owned();
        findings.report(span, title, error.message().to_owned(), None);
    }
    if !errors.is_empty() {
        return None;
    }
    read(&Section::root(&table, findings))
}

/// The value of `role`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RoleName {
    Edge,
    Shield,
}

impl FromStr for RoleName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "edge" => Ok(Self::Edge),
            "shield" => Ok(Self::Shield),
            "control" | "wan-sim" => {
                Err(ValueError(format!("\"edge\" or \"shield\"; this file is for `nearside {text}`")))
            }
            _ => Err(ValueError("\"edge\" or \"shield\" (or \"control\" or \"wan-sim\", for these)".to_owned())),
        }
    }
}

fn config(root: &Section<'_>) -> Option<Config> {
    let name: Option<RoleName> = root.required("role", "write role = \"edge\" or role = \"shield\"");
    if name.is_none() {
        // Which keys there are depends on the role.
        root.ignore_unknown();
        if root.has("role") {
            return None;
        }
    }
    let (mut role, shield_names, rule) = role(root, name);
    let id = root.get("id").unwrap_or_else(|| default_id(role.name()));
    let listen = root.list("listen").into_iter().map(|ListenAddress(address)| address).collect::<Vec<_>>();
    let listen_tls: Vec<_> = root.sections("listen_tls").iter().filter_map(tls_listener).collect();
    if root.is_void("listen") && root.is_void("listen_tls") {
        root.all_absent(
            &["listen", "listen_tls"],
            "there is no listener",
            "clients cannot reach it",
            "add listen = [\"127.0.0.1:8080\"] or a [[listen_tls]] table",
        );
    }
    let sites = site::sites(root, rule);
    if let Role::Edge { fallback, .. } = &mut role
        && sites.iter().all(|site| site.origins.is_empty())
    {
        *fallback = Fallback::None;
    }
    let names: Option<Vec<_>> = root.is_sound("site").then(|| sites.iter().map(|site| site.name.as_str()).collect());
    let (city, place) = location(root);
    let config = Config {
        role,
        id,
        place,
        city,
        public: if name != Some(RoleName::Shield) { public(root) } else { Public::default() },
        threads: small(root.number("threads", 1, 1..=256)),
        listen,
        listen_tls,
        admin: root.get("admin").map(|ListenAddress(address)| address),
        admin_hosts: root.list("admin_hosts"),
        tokens: token::tokens(root, names.as_deref()),
        control: control::follows(root),
        purge_from: root.list("purge_from"),
        shield_names,
        cache: cache(&root.section("cache")),
        limits: limits(&root.section("limits")),
        timeouts: timeouts(&root.section("timeouts")),
        access_log: access_log(&root.section("access_log")),
        traces: traces(&root.section("traces")),
        file: None,
        origins: origins(&root.section("origins")),
        sites,
        // Last of all, so that none is missing.
        secret_files: root.secret_files(),
    };
    name.map(|_| config)
}

/// How clients reach an edge; a shield is reached by none.
fn public(root: &Section<'_>) -> Public {
    let section = root.section("public");
    let capacity = section.get("capacity");
    if capacity == Some(0) {
        section.object(
            "capacity",
            "an edge without capacity takes nobody",
            "not above 0",
            "leave it out: no limit is known",
        );
    }
    Public { url: section.get("url"), addresses: section.list("addresses"), capacity }
}

/// The names of shields, if they have any beside their addresses.
fn shield_names(section: &Section<'_>, shields: &[Upstream]) -> Vec<String> {
    let names: Vec<String> = section.list("names");
    let has_twins =
        names.iter().enumerate().any(|(place, name)| names.iter().skip(place + 1).any(|other| other == name));
    let are_read = section.is_sound("names") && section.is_sound("addresses");
    if !names.is_empty() && are_read && (names.len() != shields.len() || has_twins) {
        section.object(
            "names",
            "each shield needs a name of its own",
            "not one for each address",
            "write as many as there are addresses, in their order",
        );
    }
    names
}

/// The city where something stands, and its degrees: those of the city, if no others are given.
fn location(section: &Section<'_>) -> (Option<String>, Option<Place>) {
    let city: Option<String> = section.get("city");
    let known = city.as_deref().and_then(nearside_geo::city).map(City::place);
    if let Some(name) = city.as_deref().filter(|_| known.is_none() && !section.has("coordinates")) {
        let help = format!(
            "{} Of any other place say where it is, too: coordinates = [LATITUDE, LONGITUDE]",
            nearside_geo::city_hint(name)
        );
        section.object("city", &format!("there is no known city {name:?}"), "unknown", &help);
    }
    (city, section.get("coordinates").or(known))
}

/// Whether sites have to name origins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OriginsRule {
    /// They are asked.
    Needed,
    /// Shields are asked, and what these cannot answer is an error.
    Optional,
}

fn role(root: &Section<'_>, name: Option<RoleName>) -> (Role, Vec<String>, OriginsRule) {
    match name {
        Some(RoleName::Shield) => {
            let edges = root.section("edges");
            let secret: Option<Secret> = edges.get("secret");
            let open = edges.or("open", false);
            if !open && !edges.has("secret") && edges.is_sound("open") {
                edges.absent(
                    "secret",
                    "a shield must know its edges",
                    "neither a secret nor open = true",
                    "add [edges] with secret = \"${NEARSIDE_SHIELD_SECRET}\", the same as on the edges, or open = true \
                     to serve anyone who can reach it",
                );
            }
            (Role::Shield { secret: secret.filter(|_| !open) }, Vec::new(), OriginsRule::Needed)
        }
        _ => {
            let shields = root.section("shields");
            let (addresses, secret) = (shields.list("addresses"), shields.get("secret"));
            let names = shield_names(&shields, &addresses);
            let fallback: Option<Fallback> = shields.get("fallback");
            let has_shields = !addresses.is_empty() || !shields.is_sound("addresses");
            let rule = match fallback {
                None | Some(Fallback::None) if has_shields => OriginsRule::Optional,
                _ => OriginsRule::Needed,
            };
            (Role::Edge { shields: addresses, secret, fallback: fallback.unwrap_or_default() }, names, rule)
        }
    }
}

fn tls_listener(section: &Section<'_>) -> Option<TlsListener> {
    let address: Option<ListenAddress> = section.required("address", "add address = \"127.0.0.1:8443\"");
    let cert: Option<String> =
        section.required("cert", "add cert = \"FILE\" with the certificate and its chain in PEM");
    let key: Option<String> = section.required("key", "add key = \"FILE\" with the private key in PEM");
    Some(TlsListener { address: address?.0, cert: PathBuf::from(cert?), key: PathBuf::from(key?) })
}

fn cache(section: &Section<'_>) -> Cache {
    const SMALLEST: ByteSize = ByteSize(1 << 20);
    let ByteSize(memory) = section.or("memory", ByteSize(Cache::default().memory_bytes));
    let is_known = section.is_sound("memory");
    if memory < SMALLEST.0 {
        section.object("memory", "the cache is too small", "less than 1MiB", "give it at least \"1MiB\"");
    }
    let defaults = Cache::of(memory);
    let ByteSize(object) = section.or("object_max", ByteSize(defaults.object_bytes_max));
    if object > defaults.object_bytes_max && is_known {
        section.object(
            "object_max",
            "the largest object does not fit",
            "more than a quarter of `memory`",
            "one body may take a quarter of the memory at most: raise `memory` or lower `object_max`",
        );
    }
    Cache {
        memory_bytes: memory,
        object_bytes_max: object,
        variants_max: small(section.number("variants_max", 16, 1..=1000)),
    }
}

fn limits(section: &Section<'_>) -> Limits {
    let defaults = Limits::default();
    let bytes = |key, default: usize| {
        let ByteSize(bytes) = section.or(key, ByteSize(default as u64));
        small(bytes)
    };
    let head_bytes = bytes("head", defaults.head_bytes);
    if !(1024..=1 << 20).contains(&head_bytes) {
        section.object("head", "the limit of request heads is out of range", "here", "allowed are 1KiB to 1MiB");
    }
    let number = |key, default: usize| small(section.number(key, default as u64, 1..=10_000_000));
    let connections = number("connections", defaults.connections);
    let requests = number("requests", connections);
    Limits {
        connections,
        connections_per_client: number("connections_per_client", Limits::share_of(connections)),
        requests,
        requests_per_client: number("requests_per_client", Limits::share_of(requests)),
        head_bytes,
        fields: small(section.number("fields", defaults.fields as u64, 8..=256)),
        body_bytes: section.or("body", ByteSize(defaults.body_bytes)).0,
        requests_per_connection: section.number(
            "requests_per_connection",
            defaults.requests_per_connection,
            1..=u64::from(u32::MAX),
        ),
        h2_streams: u32::try_from(section.number("h2_streams", u64::from(defaults.h2_streams), 1..=10_000))
            .unwrap_or(defaults.h2_streams),
        tunnels: small(section.number("tunnels", defaults.tunnels as u64, 1..=10_000_000)),
        window_bytes: section.or("window", ByteSize(defaults.window_bytes)).0.max(64 << 10),
    }
}

fn timeouts(section: &Section<'_>) -> Timeouts {
    let defaults = Timeouts::default();
    let span = |key, default| timeout(section, key).unwrap_or(default);
    Timeouts {
        head: span("head", defaults.head),
        idle: span("idle", defaults.idle),
        stall: span("stall", defaults.stall),
        connect: span("connect", defaults.connect),
        first_byte: span("first_byte", defaults.first_byte),
        between_bytes: span("between_bytes", defaults.between_bytes),
        event_stream: span("event_stream", defaults.event_stream),
        websocket: span("websocket", defaults.websocket),
        total: span("total", defaults.total),
        upstream_idle: span("upstream_idle", defaults.upstream_idle),
        drain_delay: section.or("drain_delay", Span(defaults.drain_delay)).0,
        drain: span("drain", defaults.drain),
    }
}

/// A timeout, which is never zero; `None` if the key is absent.
fn timeout(section: &Section<'_>, key: &'static str) -> Option<Duration> {
    let Span(span) = section.get(key)?;
    if span.is_zero() {
        section.object(key, "a timeout cannot be zero", "no time at all", "give it at least \"1ms\"");
    }
    Some(span)
}

fn origins(section: &Section<'_>) -> OriginLimits {
    let defaults = OriginLimits::default();
    let limits = OriginLimits {
        concurrency: small(section.number("concurrency", defaults.concurrency as u64, 1..=1_000_000)),
        shared_by: small(section.number("shared_by", defaults.shared_by as u64, 1..=1000)),
        queue: small(section.number("queue", defaults.queue as u64, 0..=1_000_000)),
        queue_wait: section.or("queue_wait", Span(defaults.queue_wait)).0,
    };
    if limits.shared_by > limits.concurrency && section.is_sound("concurrency") && section.is_sound("shared_by") {
        section.object(
            "shared_by",
            "there is less than one request for each node",
            "more than `concurrency`",
            "raise `concurrency`: every node needs a part of it",
        );
    }
    limits
}

fn access_log(section: &Section<'_>) -> AccessLog {
    let defaults = AccessLog::default();
    AccessLog {
        format: section.or("format", defaults.format),
        sink: section.get::<String>("file").map_or(LogSink::Stdout, |path| LogSink::File(PathBuf::from(path))),
        clients: section.or("clients", defaults.clients),
    }
}

fn traces(section: &Section<'_>) -> Traces {
    let otlp: Option<Upstream> = section.get("otlp");
    if otlp.as_ref().is_some_and(|collector| collector.tls) {
        let help = "run a collector on this machine, which passes spans on over TLS";
        section.object("otlp", "spans are sent in clear only", "https is not spoken to collectors", help);
    }
    Traces { otlp, one_in: section.number("one_in", Traces::default().one_in, 1..=1_000_000_000) }
}

/// A number that was checked to be small, on any platform.
fn small(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
