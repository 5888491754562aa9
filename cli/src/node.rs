//! `nearside edge` and `nearside shield`: from flags or a file to a running node, and its end.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use nearside_config::{
    AccessLog, ByteSize, Cache, Config, Fallback, Follows, ListenAddress, LogFormat, LogSink, NodeId, PublicUrl, Role,
    Secret, Site, Span, TlsListener, Upstream,
};
use nearside_geo::{City, Place};
use nearside_lab::usage;
use nearside_node::{Clock, Node, StartError, Stopped};

use crate::diagnostics::log_to_stderr;
use crate::port;
use crate::signals::Signals;
use crate::verify::Given;

/// What both roles take.
#[derive(Debug, Args)]
struct NodeArgs {
    /// Read everything from a file; the flags below then override what it says
    #[arg(long, value_name = "FILE", env = "NEARSIDE_CONFIG")]
    config: Option<PathBuf>,
    /// Listen for HTTP/1.1 in clear; may repeat; ":8080" means every address
    #[arg(long, value_name = "ADDR")]
    listen: Vec<ListenAddress>,
    /// Listen for HTTP/1.1 and HTTP/2 over TLS
    #[arg(long, value_name = "ADDR", requires = "tls_cert", requires = "tls_key")]
    listen_tls: Option<ListenAddress>,
    /// PEM file with the certificate and its chain
    #[arg(long, value_name = "FILE", requires = "listen_tls")]
    tls_cert: Option<PathBuf>,
    /// PEM file with the private key
    #[arg(long, value_name = "FILE", requires = "listen_tls")]
    tls_key: Option<PathBuf>,
    /// The origin, of every host or of the file's only site; may repeat: the next one is asked when one cannot be reached
    #[arg(long, value_name = "URL")]
    origin: Vec<Upstream>,
    /// Listen for operators: health, metrics, admin API; without tokens, keep it on the loopback
    #[arg(long, value_name = "ADDR")]
    admin: Option<ListenAddress>,
    /// The control process whose purge log is followed; then every node needs an id of its own. May be repeated where
    /// several share one log: the node follows one that answers
    #[arg(long, value_name = "URL")]
    control: Vec<Upstream>,
    /// Threads that serve clients
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Bytes that the cache may hold, all told: "512MiB", "1GiB"
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// The node's name in Cache-Status, Via and logs
    #[arg(long, value_name = "NAME")]
    id: Option<NodeId>,
    /// The city where the node stands: one of the larger ones, by its English name or the code of its airport; for any other name
    /// give --coordinates, too
    #[arg(long, value_name = "NAME")]
    city: Option<String>,
    /// Where that is, in degrees: "49.45,11.08"
    #[arg(long, value_name = "LATITUDE,LONGITUDE", value_parser = place, allow_hyphen_values = true)]
    coordinates: Option<Place>,
    /// Access log on standard output: json, pretty, combined or off
    #[arg(long, value_name = "FORMAT")]
    access_log: Option<LogFormat>,
    /// How long running answers may take once the node is told to stop: "30s"
    #[arg(long, value_name = "TIME")]
    drain: Option<Span>,
}

/// Flags of `nearside edge`.
#[derive(Debug, Args)]
pub(crate) struct EdgeArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// A shield to ask in place of the origin; may repeat: each key has its own, the others step in
    #[arg(long, value_name = "URL")]
    shield: Vec<Upstream>,
    /// Its own URL, for a control process that sends clients to it: "https://nrt.{host}", where {host} is the one asked for
    #[arg(long, value_name = "URL")]
    public_url: Option<PublicUrl>,
    /// A file with the secret that is shown to the shields (or the environment variable NEARSIDE_SHIELD_SECRET)
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

/// Flags of `nearside shield`.
#[derive(Debug, Args)]
pub(crate) struct ShieldArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Serve anyone who can reach it, secret or not
    #[arg(long, conflicts_with = "secret_file")]
    open: bool,
    /// A file with the secret that edges must show (or the environment variable NEARSIDE_SHIELD_SECRET)
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

const SECRET_VARIABLE: &str = "NEARSIDE_SHIELD_SECRET";

pub(crate) fn edge(args: EdgeArgs) -> anyhow::Result<ExitCode> {
    let secret = secret(args.secret_file.as_ref())?;
    let file = file(&args.node, "edge", !args.shield.is_empty())?;
    let mut given = args.node.given();
    if !args.shield.is_empty() {
        given.flags.push("shields");
    }
    let role = match file.as_ref().map(|config| &config.role) {
        Some(Role::Edge { shields, secret: known, fallback }) => Role::Edge {
            shields: if args.shield.is_empty() { shields.clone() } else { args.shield },
            secret: secret.or_else(|| known.clone()),
            fallback: *fallback,
        },
        Some(Role::Shield { .. }) => {
            return Err(usage!("this configuration is a shield's: run nearside shield with it"));
        }
        None => Role::Edge { shields: args.shield, secret, fallback: Fallback::default() },
    };
    let mut config = configure(args.node, file, role)?;
    config.public.url = args.public_url.or(config.public.url);
    spare_origins(&mut config);
    serve(config, &given, nearside_edge::start)
}

/// Has an edge that knows shields and no origin ask shields only.
fn spare_origins(config: &mut Config) {
    if let Role::Edge { shields, fallback, .. } = &mut config.role
        && !shields.is_empty()
        && config.sites.iter().all(|site| site.origins.is_empty())
    {
        *fallback = Fallback::None;
    }
}

pub(crate) fn shield(args: ShieldArgs) -> anyhow::Result<ExitCode> {
    let secret = secret(args.secret_file.as_ref())?;
    let file = file(&args.node, "shield", false)?;
    let given = args.node.given();
    let role = match file.as_ref().map(|config| &config.role) {
        _ if args.open => Role::Shield { secret: None },
        Some(Role::Shield { secret: known }) => Role::Shield { secret: secret.or_else(|| known.clone()) },
        Some(Role::Edge { .. }) => return Err(usage!("this configuration is an edge's: run nearside edge with it")),
        None if secret.is_none() => {
            return Err(usage!(
                "a shield must know its edges: give it --secret-file FILE or {SECRET_VARIABLE}, the same as the edges, \
                 or --open to serve anyone who can reach it"
            ));
        }
        None => Role::Shield { secret },
    };
    serve(configure(args.node, file, role)?, &given, nearside_shield::start)
}

fn secret(file: Option<&PathBuf>) -> anyhow::Result<Option<Secret>> {
    let found = match file {
        Some(path) => Secret::read(path),
        None if std::env::var_os(SECRET_VARIABLE).is_some() => Secret::from_env(SECRET_VARIABLE),
        None => return Ok(None),
    };
    found.map(Some).map_err(|error| anyhow::anyhow!("the shields' secret: expected {error}"))
}

impl NodeArgs {
    /// The file, and which of its keys other flags have taken the place of.
    fn given(&self) -> Given {
        let flags = [
            ("listen", !self.listen.is_empty()),
            ("listen_tls", self.listen_tls.is_some()),
            ("site", !self.origin.is_empty()),
            ("admin", self.admin.is_some()),
            ("control", !self.control.is_empty()),
            ("cache", self.memory.is_some()),
            ("access_log", self.access_log.is_some()),
        ];
        let flags = flags.into_iter().filter(|(_, is_given)| *is_given).map(|(key, _)| key).collect();
        Given { file: self.config.clone(), flags }
    }
}

/// A place as it is written after a flag.
fn place(text: &str) -> Result<Place, String> {
    let degrees = |text: &str| text.trim().parse::<f64>().unwrap_or(f64::NAN);
    let (latitude, longitude) = text.split_once(',').unwrap_or((text, ""));
    Place::new(degrees(latitude), degrees(longitude)).map_err(|wrong| format!("expected {wrong}, as in 49.45,11.08"))
}

fn file(args: &NodeArgs, role: &str, has_shields: bool) -> anyhow::Result<Option<Config>> {
    let Some(path) = &args.config else {
        if args.origin.is_empty() && !has_shields {
            let shields = if role == "edge" { " or shields (--shield http://127.0.0.1:8090)" } else { "" };
            return Err(usage!(
                "nearside {role} needs an origin: --origin http://127.0.0.1:9000{shields}, or --config FILE"
            ));
        }
        if args.listen.is_empty() && args.listen_tls.is_none() {
            return Err(usage!("nearside {role} needs a listener: --listen 127.0.0.1:8080, or --config FILE"));
        }
        return Ok(None);
    };
    Ok(Some(nearside_config::load(path)?))
}

/// Gives the only site these origins, and makes one for every host where there is none.
fn origins(sites: &mut Vec<Site>, origins: Vec<Upstream>) -> anyhow::Result<()> {
    match &mut sites[..] {
        [] => sites.push(Site::new("default", vec![nearside_config::HostPattern::Any], origins)),
        [only] => only.origins = origins,
        several => {
            return Err(usage!("--origin: the file has {} sites; give each its origins there", several.len()));
        }
    }
    Ok(())
}

/// What the flags say, over what the file says, over the defaults.
fn configure(args: NodeArgs, file: Option<Config>, role: Role) -> anyhow::Result<Config> {
    let mut config = match file {
        Some(config) => Config { role, ..config },
        None => Config::new(role, Vec::new()),
    };
    if !args.origin.is_empty() || config.sites.is_empty() {
        origins(&mut config.sites, args.origin)?;
    }
    if !args.listen.is_empty() {
        config.listen = args.listen.into_iter().map(|ListenAddress(address)| address).collect();
    }
    if let (Some(ListenAddress(address)), Some(cert), Some(key)) = (args.listen_tls, args.tls_cert, args.tls_key) {
        config.listen_tls = vec![TlsListener { address, cert, key }];
    }
    if let Some(ByteSize(bytes)) = args.memory {
        if bytes < 1 << 20 {
            return Err(usage!("--memory {bytes}B is too small: give it at least 1MiB"));
        }
        config.cache = Cache { variants_max: config.cache.variants_max, ..Cache::of(bytes) };
    }
    if let Some(format) = args.access_log {
        config.access_log = AccessLog { format, sink: LogSink::Stdout, ..config.access_log };
    }
    config.admin = args.admin.map(|ListenAddress(address)| address).or(config.admin);
    if !args.control.is_empty() {
        if let Some(address) = args.control.iter().find(|address| address.tls) {
            return Err(usage!("--control {address}: the control process is spoken to in clear: http://"));
        }
        let known = config.control.take();
        let secret = known.and_then(|known| known.secret);
        config.control = Some(Follows { addresses: args.control, secret, lag_max: Follows::LAG_MAX });
    }
    config.threads = args.threads.map_or(config.threads, usize::from);
    locate(&mut config, args.city, args.coordinates)?;
    config.id = args.id.unwrap_or(config.id);
    config.timeouts.drain = args.drain.map_or(config.timeouts.drain, |Span(span)| span);
    Ok(config)
}

/// Says where a node stands. A city that is not known by name has to have degrees.
fn locate(config: &mut Config, city: Option<String>, coordinates: Option<Place>) -> anyhow::Result<()> {
    let Some(city) = city else {
        config.place = coordinates.or(config.place);
        return Ok(());
    };
    let known = nearside_geo::city(&city).map(City::place);
    if known.is_none() && coordinates.or(config.place).is_none() {
        let hint = nearside_geo::city_hint(&city);
        return Err(usage!(
            "--city: there is no known city {city:?}: {hint} For any other place add --coordinates LATITUDE,LONGITUDE"
        ));
    }
    config.place = coordinates.or(known).or(config.place);
    config.city = Some(city);
    Ok(())
}

/// Starts a node and waits for the signal that ends it.
fn serve(
    config: Config,
    given: &Given,
    start: fn(Config, Clock) -> Result<Node, StartError>,
) -> anyhow::Result<ExitCode> {
    let _log = log_to_stderr()?;
    given.accept_node(&config)?;
    let (role, id) = (config.role.name(), config.id.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _inside = runtime.enter();
    // Before the node is there, so that a signal at once is not lost.
    let mut signals = Signals::of_server()?;
    let node = start(config, Clock::System).map_err(explain)?;
    for address in node.addresses() {
        tracing::info!(%role, %id, "serving http://{address}");
    }
    for address in node.tls_addresses() {
        tracing::info!(%role, %id, "serving https://{address}");
    }
    if let Some(address) = node.admin_address() {
        tracing::info!(%role, %id, "admin on http://{address}");
    }
    runtime.block_on(signals.stop_with(|| node.reopen_log()));
    tracing::info!(%role, %id, "stopping: running answers are finished; SIGINT ends them at once");
    let (done, stopped) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("stop".to_owned()).spawn(move || done.send(node.stop()))?;
    let stopped = runtime.block_on(async {
        tokio::select! {
            stopped = stopped => stopped.ok(),
            () = signals.hurry() => None,
        }
    });
    match stopped {
        Some(Stopped::Drained) => {}
        Some(Stopped::CutOff(connections)) => {
            tracing::warn!(%role, %id, connections, "stopped; connections that took too long were cut off");
        }
        None => tracing::warn!(%role, %id, "stopped at once; running answers were cut off"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds who holds a port that is taken, where the system tells.
fn explain(error: StartError) -> anyhow::Error {
    if let StartError::Listen(listen) = &error
        && listen.cause.kind() == std::io::ErrorKind::AddrInUse
    {
        let port = listen.address.port();
        let holder = port::holder(port).map_or_else(String::new, |holder| format!(" by {holder}"));
        return anyhow::anyhow!("port {port} is in use{holder}: {error}");
    }
    anyhow::Error::new(error).context("cannot start")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_from_flags_leave_the_rules_of_the_only_site_and_are_no_guess_among_several() {
        let given = || vec!["http://127.0.0.1:1".parse::<Upstream>().unwrap()];
        let mut sites = Vec::new();
        origins(&mut sites, given()).unwrap();
        assert_eq!((sites[0].hosts.len(), &sites[0].origins), (1, &given()));
        sites[0].canonical_host = Some("www.example.org".to_owned());
        sites[0].origins.clear();
        origins(&mut sites, given()).unwrap();
        assert_eq!((sites[0].canonical_host.as_deref(), &sites[0].origins), (Some("www.example.org"), &given()));
        assert!(place("49.45, 11.08").is_ok() && place("-33.9,18.4").is_ok());
        assert!(place("49.45").is_err() && place("north,east").is_err() && place("91,0").is_err());
        sites.push(sites[0].clone());
        let error = origins(&mut sites, given()).unwrap_err().to_string();
        assert!(error.contains("--origin") && error.contains("2 sites"), "{error}");
    }
}
