//! A testbed: an origin, an edge in front of it, and clients for every protocol.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use nearside_config::{
    AccessLog, Cache, Config, Fallback, HostPattern, LogFormat, Role, Secret, Site, Timeouts, TlsListener, Upstream,
};
use nearside_node::{Clock, Node};
use nearside_origin_sim::OriginSim;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Between two looks at something that other tasks bring about.
const PAUSE: Duration = Duration::from_millis(5);
pub(crate) const HOST: &str = "www.example.org";

/// An origin and an edge in front of it.
pub(crate) struct Bed {
    pub(crate) origin: OriginSim,
    pub(crate) edge: Node,
    config: Config,
    clock: Clock,
    ahead: Duration,
    /// What clients trust; nothing unless the edge speaks TLS.
    roots: Arc<rustls::RootCertStore>,
    _folder: tempfile::TempDir,
}

/// A response that was read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn cache(&self) -> &str {
        self.field("cache-status")
    }
}

/// How a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speech {
    H1,
    H1Tls,
    H2,
}

pub(crate) fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// All ways to speak.
pub(crate) const SPEECHES: [Speech; 3] = [Speech::H1, Speech::H1Tls, Speech::H2];

/// A configuration for tests: silent, on free ports, for any host.
pub(crate) fn config(role: Role, origins: Vec<Upstream>) -> Config {
    Config {
        listen: vec![loopback()],
        admin: Some(loopback()),
        cache: Cache::of(64 << 20),
        timeouts: Timeouts { drain: Duration::from_secs(5), ..Timeouts::default() },
        access_log: AccessLog { format: LogFormat::Off, ..AccessLog::default() },
        ..Config::new(role, vec![Site::new("site", vec![HostPattern::Any], origins)])
    }
}

pub(crate) fn edge_role() -> Role {
    Role::Edge { shields: Vec::new(), secret: None, fallback: Fallback::Origin }
}

pub(crate) fn secret() -> Secret {
    Secret::new("a secret between tiers".replace(' ', "-").as_str()).unwrap()
}

pub(crate) fn upstream(address: SocketAddr) -> Upstream {
    format!("http://{address}").parse().unwrap()
}

impl Bed {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A bed whose edge is configured otherwise.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::before(OriginSim::start(loopback()).await.unwrap(), Clock::manual(), change)
    }

    /// A bed whose origin answers each request with what `script` makes of its head.
    pub(crate) async fn scripted(
        script: impl Fn(&str) -> String + Send + Sync + 'static,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        Self::scripted_by(Clock::manual(), script, change).await
    }

    /// The same, by a clock that others go by too.
    pub(crate) async fn scripted_by(
        clock: Clock,
        script: impl Fn(&str) -> String + Send + Sync + 'static,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let origin = scripted(Duration::ZERO, script).await;
        Self::before(OriginSim::start(loopback()).await.unwrap(), clock, |config| {
            config.sites[0].origins = vec![upstream(origin)];
            change(config);
        })
    }

    /// An edge in front of an origin, by a clock.
    pub(crate) fn before(origin: OriginSim, clock: Clock, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config(edge_role(), vec![upstream(origin.address())]);
        change(&mut config);
        let edge = nearside_edge::start(config.clone(), clock.clone()).unwrap();
        Self {
            origin,
            edge,
            config,
            clock,
            ahead: Duration::ZERO,
            roots: Arc::new(rustls::RootCertStore::empty()),
            _folder: tempfile::tempdir().unwrap(),
        }
    }

    /// The same with another edge, configured like this one but for `change`, in its place.
    pub(crate) fn again(self, change: impl FnOnce(&mut Config)) -> Self {
        let Self { origin, clock, mut config, .. } = self;
        change(&mut config);
        Self::before(origin, clock, |new| *new = config)
    }

    /// Moves the time of all: the caches' clock, and the dates of the origin.
    pub(crate) fn advance(&mut self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
        self.ahead += Duration::from_secs(secs);
        self.origin.set_ahead(self.ahead);
    }

    /// A bed whose edge also speaks TLS, with a certificate that its clients trust.
    pub(crate) async fn with_tls() -> Self {
        Self::tls_with(|_| {}).await
    }

    /// The same, configured otherwise.
    pub(crate) async fn tls_with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec![HOST.to_owned()]).unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let listener = TlsListener { address: loopback(), cert, key };
        let mut bed = Self::with(|config| {
            config.listen_tls = vec![listener];
            change(config);
        })
        .await;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        bed.roots = Arc::new(roots);
        bed._folder = folder;
        bed
    }

    /// A client of its own, which has no session yet.
    pub(crate) fn tls_client(&self, version: &'static rustls::SupportedProtocolVersion) -> rustls::ClientConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.edge.addresses()[0]
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.ask(Speech::H1, get(path)).await
    }

    pub(crate) async fn get_with(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        self.ask(Speech::H1, get_with(path, fields)).await
    }

    pub(crate) async fn ask(&self, speech: Speech, request: Request<Full<Bytes>>) -> Reply {
        read(self.send(speech, request).await.unwrap()).await.unwrap()
    }

    /// The same from a client with another address of the loopback network.
    pub(crate) async fn ask_from(&self, client: IpAddr, speech: Speech, request: Request<Full<Bytes>>) -> Reply {
        read(self.send_from(client, speech, request).await.unwrap()).await.unwrap()
    }

    /// Sends a request; its body is still to be read.
    pub(crate) async fn send(
        &self,
        speech: Speech,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<hyper::Response<Incoming>> {
        self.send_from(loopback().ip(), speech, request).await
    }

    async fn send_from(
        &self,
        client: IpAddr,
        speech: Speech,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<hyper::Response<Incoming>> {
        match speech {
            Speech::H1 => send_h1(connect_from(client, self.address()).await, request).await,
            Speech::H1Tls => send_h1(self.tls_from(client, b"http/1.1").await, request).await,
            Speech::H2 => {
                let io = TokioIo::new(self.tls_from(client, b"h2").await);
                let (mut sender, connection) =
                    hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
                tokio::spawn(connection);
                let (mut head, body) = request.into_parts();
                head.uri = format!("https://{HOST}{}", head.uri).parse().unwrap();
                head.headers.remove("host");
                sender.send_request(Request::from_parts(head, body)).await
            }
        }
    }

    pub(crate) async fn tls(&self, protocol: &[u8]) -> tokio_rustls::client::TlsStream<TcpStream> {
        self.tls_from(loopback().ip(), protocol).await
    }

    async fn tls_from(&self, client: IpAddr, protocol: &[u8]) -> tokio_rustls::client::TlsStream<TcpStream> {
        let mut config = self.tls_client(&rustls::version::TLS13);
        config.alpn_protocols = vec![protocol.to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let socket = connect_from(client, self.edge.tls_addresses()[0]).await;
        connector.connect(ServerName::try_from(HOST).unwrap(), socket).await.unwrap()
    }

    /// Sends bytes as they are and reads until the edge closes.
    pub(crate) async fn raw(&self, wire: &[u8]) -> String {
        let mut socket = TcpStream::connect(self.address()).await.unwrap();
        socket.write_all(wire).await.unwrap();
        let mut answer = Vec::new();
        let _ =
            tokio::time::timeout(Duration::from_secs(60), socket.read_to_end(&mut answer)).await.expect("it closes");
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) async fn admin(&self, method: Method, path: &str, body: &str) -> Reply {
        self.admin_with(method, path, body, &[]).await
    }

    pub(crate) async fn admin_with(&self, method: Method, path: &str, body: &str, fields: &[(&str, &str)]) -> Reply {
        let socket = TcpStream::connect(self.edge.admin_address().unwrap()).await.unwrap();
        let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        if !fields.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "127.0.0.1");
        }
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        read(send_h1(socket, request).await.unwrap()).await.unwrap()
    }

    /// Gives an order; its receipt.
    pub(crate) async fn order(&self, order: serde_json::Value) -> serde_json::Value {
        let reply = self.admin(Method::POST, "/v1/purge", &order.to_string()).await;
        assert_eq!(reply.status, 200, "{order}: {}", String::from_utf8_lossy(&reply.body));
        serde_json::from_slice(&reply.body).unwrap()
    }

    pub(crate) async fn purge(&self, path: &str) -> Reply {
        let body = serde_json::json!({ "urls": [format!("http://{HOST}{path}")] }).to_string();
        self.admin(Method::POST, "/v1/purge", &body).await
    }

    /// Waits until the metrics have a line, which other tasks bring about.
    pub(crate) async fn until_metric(&self, line: &str) {
        let name = line.rsplit_once(' ').map_or(line, |(name, _)| name);
        let mut found = String::new();
        for _ in 0..2000 {
            let text = self.admin(Method::GET, "/metrics", "").await.body;
            let text = String::from_utf8_lossy(&text);
            if text.lines().any(|other| other == line) {
                return;
            }
            text.lines().find(|other| other.starts_with(name)).unwrap_or_default().clone_into(&mut found);
            tokio::time::sleep(PAUSE).await;
        }
        panic!("it never came about: {line}; it is: {found}");
    }

    /// Waits until nothing is being asked of the origin.
    pub(crate) async fn until_idle(&self) {
        self.until_metric("nearside_fills_in_flight 0").await;
    }

    /// How often the origin was asked for a path.
    pub(crate) fn asked(&self, path: &str) -> u64 {
        self.origin.ledger().of(path).requests
    }
}

pub(crate) fn get(path: &str) -> Request<Full<Bytes>> {
    get_with(path, &[])
}

pub(crate) fn get_with(path: &str, fields: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut request = Request::get(path);
    if !fields.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", HOST);
    }
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(Full::default()).unwrap()
}

pub(crate) async fn send_h1<S>(io: S, request: Request<Full<Bytes>>) -> hyper::Result<hyper::Response<Incoming>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    tokio::spawn(connection);
    sender.send_request(request).await
}

/// A connection of a client with this address.
pub(crate) async fn connect_from(client: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(client, 0)).unwrap();
    socket.connect(to).await.unwrap()
}

pub(crate) async fn get_from(address: SocketAddr, path: &str) -> Reply {
    read(send_h1(TcpStream::connect(address).await.unwrap(), get(path)).await.unwrap()).await.unwrap()
}

/// The same of a listener for operators, which answers only under the names of its machine.
pub(crate) async fn get_here(address: SocketAddr, path: &str) -> Reply {
    let request = get_with(path, &[("host", "localhost")]);
    read(send_h1(TcpStream::connect(address).await.unwrap(), request).await.unwrap()).await.unwrap()
}

pub(crate) async fn read(response: hyper::Response<Incoming>) -> hyper::Result<Reply> {
    let (head, body) = response.into_parts();
    let body = body.collect().await?;
    Ok(Reply { status: head.status, fields: head.headers, body: body.to_bytes() })
}

/// An origin that answers each request with what `answer` makes of its head when it comes, and takes `delay` for it.
pub(crate) async fn scripted(delay: Duration, answer: impl Fn(&str) -> String + Send + Sync + 'static) -> SocketAddr {
    origin(move |_| tokio::time::sleep(delay), answer).await
}

/// Holds back some answers of an origin.
#[derive(Clone)]
pub(crate) struct Gate {
    arrived: Arc<AtomicUsize>,
    open: Arc<Semaphore>,
}

impl Gate {
    /// How many requests have come to it.
    pub(crate) fn arrived(&self) -> usize {
        self.arrived.load(Ordering::SeqCst)
    }

    /// Lets one answer through.
    pub(crate) fn open(&self) {
        self.open.add_permits(1);
    }
}

/// The same with a gate before the answers to requests by `method`.
pub(crate) async fn gated(
    method: &'static str,
    answer: impl Fn(&str) -> String + Send + Sync + 'static,
) -> (SocketAddr, Gate) {
    let gate = Gate { arrived: Arc::default(), open: Arc::new(Semaphore::new(0)) };
    let guard = gate.clone();
    let wait = move |head: String| {
        let guard = guard.clone();
        async move {
            if head.starts_with(method) {
                guard.arrived.fetch_add(1, Ordering::SeqCst);
                guard.open.acquire().await.unwrap().forget();
            }
        }
    };
    (origin(wait, answer).await, gate)
}

async fn origin<W, F>(wait: W, answer: impl Fn(&str) -> String + Send + Sync + 'static) -> SocketAddr
where
    W: Fn(String) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (wait, answer) = (Arc::new(wait), Arc::new(answer));
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let (wait, answer) = (Arc::clone(&wait), Arc::clone(&answer));
            tokio::spawn(async move {
                let mut head = vec![0; 8192];
                let read = socket.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..read]).to_lowercase();
                if head.is_empty() {
                    return;
                }
                let answer = answer(&head);
                wait(head).await;
                let _ = socket.write_all(answer.as_bytes()).await;
                let _ = socket.shutdown().await;
                let _ = socket.read(&mut [0; 64]).await;
            });
        }
    });
    address
}

/// An answer with these fields and this body, on a connection that closes.
pub(crate) fn answer(status: u16, fields: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n{fields}\r\n{body}", body.len())
}

/// An origin that hands each connection to `serve`, with the head of the first request on it and what came behind.
pub(crate) async fn served<S, F>(serve: S) -> SocketAddr
where
    S: Fn(String, TcpStream) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let serve = Arc::clone(&serve);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    if socket.read_buf(&mut head).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                serve(String::from_utf8_lossy(&head).into_owned(), socket).await;
            });
        }
    });
    address
}

/// Waits until something is so, which other tasks bring about.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("it never came about: {what}");
}

/// A way to a node. While it is cut nothing comes through, and nobody is told; what was on it then stays dead.
pub(crate) struct Link {
    pub(crate) address: SocketAddr,
    pub(crate) cut: tokio::sync::watch::Sender<bool>,
}

impl Link {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, is_cut) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut is_cut = is_cut.clone();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(target).await else { return };
                    tokio::select! {
                        biased;
                        _ = is_cut.wait_for(|cut| *cut) => {}
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
                    }
                    std::future::pending::<()>().await;
                });
            }
        });
        Self { address, cut }
    }
}
