use std::io::Write;
use std::net::IpAddr;

use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use nearside_config::{Scope, Secret, Token};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::sync::oneshot;

use super::*;
use crate::Access;

/// Waits take no longer; nothing is passed or failed by it.
const PATIENCE: Duration = Duration::from_secs(60);
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Limits in which only 127.0.0.1 is exempt: other addresses of the loopback are strangers.
fn limits() -> ServeLimits {
    let exempt: ExemptPeer = Arc::new(|peer| peer == IpAddr::from([127, 0, 0, 1]));
    ServeLimits { exempt, ..ServeLimits::admin() }
}

/// A deadline that tests wait for. All others are long, so that a busy machine meets them.
const SHORT: Duration = Duration::from_millis(200);

struct Serving {
    address: SocketAddr,
    counts: Arc<ServerCounts>,
    _stop: oneshot::Sender<()>,
}

async fn start(limits: ServeLimits) -> Serving {
    let secret = Secret::new("the-secret-of-a-test").unwrap();
    let token = Token { name: "a".to_owned(), secret, scope: Scope::Admin, sites: Vec::new() };
    let access = Arc::new(Access::closed(vec![token]));
    let take = |State(access): State<Arc<Access>>, fields: HeaderMap, body: UnreadBody| async move {
        let holder = match access.admit(&fields, Scope::Admin) {
            Ok(holder) => holder,
            Err(problem) => return problem.into_response(),
        };
        match body.json::<Value>(holder, 1 << 20).await {
            Ok(value) => value.to_string().len().to_string().into_response(),
            Err(problem) => problem.into_response(),
        }
    };
    let unproven = |body: UnreadBody| async move { body.unproven().await.map(|bytes| bytes.len().to_string()) };
    let endless = || async {
        let frames = futures_util::stream::unfold((), |()| async {
            sleep(Duration::from_millis(20)).await;
            Some((Ok::<_, std::convert::Infallible>("more"), ()))
        });
        axum::body::Body::from_stream(frames)
    };
    let routes = Router::new()
        .route("/", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }))
        .route("/take", post(take))
        .route("/unproven", post(unproven))
        .route("/bytes", post(|body: axum::body::Bytes| async move { body.len().to_string() }))
        .route("/endless", get(endless))
        .route("/slow", get(std::future::pending::<()>))
        .with_state(access);
    let listener = nearside_listen::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = Server::new(limits);
    let counts = server.counts();
    tokio::spawn(server.run(listener, routes, async move { stopped.await.unwrap_or_default() }));
    Serving { address, counts, _stop: stop }
}

impl Serving {
    /// A connection from an address of the loopback.
    async fn from(&self, address: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    async fn ask(&self, from: &str, request: &[u8]) -> TcpStream {
        let mut client = self.from(from).await;
        client.write_all(request).await.unwrap();
        client
    }
}

/// Everything until the other end closes.
async fn all(client: &mut TcpStream) -> String {
    let mut said = Vec::new();
    let _ = timeout(PATIENCE, client.read_to_end(&mut said)).await.expect("it is closed");
    String::from_utf8_lossy(&said).into_owned()
}

/// What comes first.
async fn some(client: &mut TcpStream) -> String {
    let mut said = vec![0; 4096];
    let read = timeout(PATIENCE, client.read(&mut said)).await.expect("it answers").unwrap_or_default();
    String::from_utf8_lossy(&said[..read]).into_owned()
}

#[tokio::test]
async fn half_requests_and_idle_connections_are_closed() {
    let serving = start(ServeLimits { head: SHORT, ..limits() }).await;
    let mut silent = serving.from("127.0.0.1").await;
    let mut half = serving.ask("127.0.0.1", b"GET / HTTP/1.1\r\nhost: local").await;
    assert_eq!(all(&mut silent).await, "", "nothing was asked");
    let told = all(&mut half).await;
    assert!(told.starts_with("HTTP/1.1 408 ") && told.contains("head-timeout"), "{told}");
    assert_eq!(serving.counts.overdue.load(Ordering::Relaxed), 2);
    let serving = start(ServeLimits { idle: SHORT, ..limits() }).await;
    let mut idle = serving.ask("127.0.0.1", GET).await;
    let mut second = serving.ask("127.0.0.1", &[GET, b"GET / HT"].concat()).await;
    for client in [&mut idle, &mut second] {
        let told = all(client).await;
        assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
    }
    assert_eq!(serving.counts.overdue.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn heads_that_never_end_are_closed_though_bytes_come() {
    let serving = start(ServeLimits { head: SHORT, ..limits() }).await;
    let mut client = serving.ask("127.0.0.1", b"GET / HTTP/1.1\r\nhost: localhost\r\nx: ").await;
    let (mut from, mut to) = client.split();
    let drips = async {
        while to.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let mut told = Vec::new();
    tokio::select! {
        _ = from.read_to_end(&mut told) => {}
        () = drips => {}
        () = sleep(PATIENCE) => panic!("it is never closed"),
    }
}

#[tokio::test]
async fn bodies_and_handlers_have_deadlines_and_streams_have_none() {
    let serving = start(ServeLimits { body: SHORT, ..limits() }).await;
    let begun = "POST /take HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer the-secret-of-a-test\r\n\
                 content-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    let mut body = serving.ask("127.0.0.1", begun.as_bytes()).await;
    let told = all(&mut body).await;
    assert!(told.starts_with("HTTP/1.1 408 ") && told.contains("body-timeout"), "{told}");
    let serving = start(ServeLimits { body: SHORT, request: SHORT, idle: SHORT, ..limits() }).await;
    let mut slow = serving.ask("127.0.0.1", b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let told = all(&mut slow).await;
    assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("deadline"), "{told}");
    let mut stream = serving.ask("127.0.0.1", b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    // 40 pieces take four times as long as any deadline.
    let mut said = String::new();
    while said.matches("more").count() < 40 {
        let more = some(&mut stream).await;
        assert!(!more.is_empty(), "it was cut off: {said}");
        said += &more;
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_of_a_stream_is_cut_off() {
    // So many bytes that they find no room in the buffers of both ends.
    let routes = Router::new().route(
        "/",
        get(|| async {
            let frames = futures_util::stream::unfold((), |()| async {
                Some((Ok::<_, std::convert::Infallible>(axum::body::Bytes::from(vec![b'x'; 1 << 16])), ()))
            });
            axum::body::Body::from_stream(frames)
        }),
    );
    let listener = nearside_listen::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::new(ServeLimits { stall: SHORT, ..limits() });
    let counts = server.counts();
    tokio::spawn(server.run(listener, routes, std::future::pending()));
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(GET).await.unwrap();
    let cut = async {
        while counts.overdue.load(Ordering::Relaxed) == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, cut).await.expect("it is cut off");
}

#[tokio::test]
async fn nothing_is_read_of_a_body_before_its_sender_is_admitted() {
    let serving = start(limits()).await;
    // Each declares a gigabyte, sends none of it, and is refused at once; `Expect` is not answered with 100.
    for (path, status) in [("take", 401), ("unproven", 413)] {
        for expect in ["", "expect: 100-continue\r\n"] {
            let head =
                format!("POST /{path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1073741824\r\n{expect}\r\n");
            let mut client = serving.ask("127.0.0.1", head.as_bytes()).await;
            let told = all(&mut client).await;
            assert!(told.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {told}");
        }
    }
    // One who sends on is not listened to: no more than what the buffers of sockets and connection hold is taken.
    let head =
        "POST /take HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer wrong\r\ncontent-length: 1073741824\r\n\r\n";
    let mut client = serving.ask("127.0.0.1", head.as_bytes()).await;
    let piece = vec![b'x'; 1 << 16];
    let sends = async {
        let mut sent = 0_usize;
        while sent < 1 << 30 && client.write_all(&piece).await.is_ok() {
            sent += piece.len();
        }
        sent
    };
    let sent = timeout(PATIENCE, sends).await.expect("it is closed");
    assert!(sent < 64 << 20, "{sent} bytes were taken");
    // Nor does a handler that reads by itself get more.
    let body = "x".repeat(100_000);
    let head = format!(
        "POST /bytes HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let told = all(&mut serving.ask("127.0.0.1", head.as_bytes()).await).await;
    assert!(told.starts_with("HTTP/1.1 413 "), "{told}");
    let body = format!("\"{}\"", "x".repeat(200_000));
    let head = format!(
        "POST /take HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer the-secret-of-a-test\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let told = all(&mut serving.ask("127.0.0.1", head.as_bytes()).await).await;
    assert!(told.starts_with("HTTP/1.1 200 ") && told.ends_with("200002"), "{told}");
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let serving = start(limits()).await;
    for _ in 0..20 {
        let head = "POST /take HTTP/1.1\r\nhost: localhost\r\ncontent-length: 200000\r\n\r\n";
        let mut client = serving.ask("127.0.0.1", head.as_bytes()).await;
        // The connection may be closed meanwhile.
        let _ = client.write_all(&vec![b'x'; 200_000]).await;
        let told = all(&mut client).await;
        assert!(told.starts_with("HTTP/1.1 401 "), "{told:?}");
    }
}

#[tokio::test]
async fn no_network_takes_the_connections_of_others() {
    let connections = ShareLimits { total: 6, reserved: 2, per_network: 2 };
    let serving = start(ServeLimits { connections, ..limits() }).await;
    let mut held = Vec::new();
    for from in ["127.0.0.2", "127.0.0.2", "127.0.0.3"] {
        let mut client = serving.ask(from, GET).await;
        assert!(some(&mut client).await.starts_with("HTTP/1.1 200 "), "{from}");
        held.push(client);
    }
    let told = all(&mut serving.from("127.0.0.2").await).await;
    assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("this client's network"), "{told}");
    let mut fourth = serving.ask("127.0.0.4", GET).await;
    assert!(some(&mut fourth).await.starts_with("HTTP/1.1 200 "));
    let told = all(&mut serving.from("127.0.0.5").await).await;
    assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("all clients"), "{told}");
    // Operators on this machine find a place.
    let mut operator = serving.ask("127.0.0.1", GET).await;
    assert!(some(&mut operator).await.starts_with("HTTP/1.1 200 "));
    assert!(serving.counts.refused.load(Ordering::Relaxed) >= 2);
    // Who leaves makes room.
    drop(held.remove(0));
    let comes = async {
        loop {
            let mut client = serving.ask("127.0.0.2", GET).await;
            if some(&mut client).await.starts_with("HTTP/1.1 200 ") {
                return;
            }
        }
    };
    timeout(PATIENCE, comes).await.expect("there is room");
}

#[tokio::test]
async fn who_has_shown_a_token_no_longer_counts_against_its_network() {
    let connections = ShareLimits { total: 9, reserved: 0, per_network: 1 };
    let serving = start(ServeLimits { connections, ..limits() }).await;
    let request = "POST /take HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer the-secret-of-a-test\r\n\
                   content-type: application/json\r\ncontent-length: 4\r\n\r\ntrue";
    let mut nodes = Vec::new();
    for _ in 0..5 {
        let mut node = serving.ask("127.0.0.2", request.as_bytes()).await;
        assert!(some(&mut node).await.starts_with("HTTP/1.1 200 "));
        nodes.push(node);
    }
    let mut stranger = serving.ask("127.0.0.2", GET).await;
    assert!(some(&mut stranger).await.starts_with("HTTP/1.1 200 "));
    let told = all(&mut serving.from("127.0.0.2").await).await;
    assert!(told.starts_with("HTTP/1.1 503 "), "{told}");
}

#[tokio::test]
async fn streams_and_requests_in_progress_have_limits_of_their_own() {
    let one = ShareLimits { total: 1, reserved: 0, per_network: 1 };
    let serving = start(ServeLimits { streams: one, requests: one, ..limits() }).await;
    let mut stream = serving.ask("127.0.0.1", b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(some(&mut stream).await.starts_with("HTTP/1.1 200 "));
    let mut second = serving.ask("127.0.0.1", b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let told = some(&mut second).await;
    assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("streams"), "{told}");
    let mut plain = serving.ask("127.0.0.1", GET).await;
    assert!(some(&mut plain).await.starts_with("HTTP/1.1 200 "), "a stream is no request in progress");
    let refused = async {
        // One that comes while another is in progress is refused itself.
        let mut slow = Vec::new();
        loop {
            slow.push(serving.ask("127.0.0.1", b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n").await);
            let mut client = serving.ask("127.0.0.1", GET).await;
            let told = some(&mut client).await;
            if told.starts_with("HTTP/1.1 503 ") {
                return told;
            }
        }
    };
    let told = timeout(PATIENCE, refused).await.expect("one is in progress");
    assert!(told.contains("requests in progress"), "{told}");
}

#[tokio::test]
async fn a_listener_answers_only_under_its_names() {
    let listener = nearside_listen::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Router::new().route("/metrics", get(|| async { "numbers" }));
    let rule = HostRule::new(address, vec!["cdn.example".parse().unwrap()], "admin_hosts");
    tokio::spawn(Server::new(limits()).under(rule).run(listener, routes, std::future::pending()));
    for (host, path, status) in [
        (address.to_string().as_str(), "/metrics", 200),
        ("localhost", "/metrics", 200),
        ("cdn.example", "/metrics", 200),
        ("evil.example", "/metrics", 403),
        // Whatever the path.
        ("evil.example", "/no/such/path", 403),
        ("localhost", "/no/such/path", 404),
    ] {
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let told = all(&mut client).await;
        assert!(told.starts_with(&format!("HTTP/1.1 {status} ")), "{host} {path}: {told}");
        assert_eq!(told.contains("admin_hosts"), status == 403, "{told}");
    }
}

#[tokio::test]
async fn a_server_that_stops_answers_whatever_the_kernel_has_accepted() {
    let listener = nearside_listen::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let peer = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() };
    let routes = Router::new().route("/", get(peer));
    // Nothing is accepted before the server runs, so that all of these wait in the queue. Some have yet to ask.
    let mut clients = Vec::new();
    for late in [false, true].into_iter().cycle().take(40) {
        let mut client = std::net::TcpStream::connect(address).unwrap();
        if !late {
            Write::write_all(&mut client, GET).unwrap();
        }
        client.set_nonblocking(true).unwrap();
        clients.push((late, TcpStream::from_std(client).unwrap()));
    }
    stop.send(()).unwrap();
    let server = Server::new(ServeLimits::admin());
    let serving = tokio::spawn(server.run(listener, routes, async move { stopped.await.unwrap_or_default() }));
    until_closed(address).await;
    for (late, client) in &mut clients {
        if *late {
            client.write_all(GET).await.unwrap();
        }
    }
    for (_, mut client) in clients {
        let answer = all(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.ends_with(&client.local_addr().unwrap().to_string()), "{answer}");
    }
    serving.await.unwrap().unwrap();
}

async fn until_closed(address: SocketAddr) {
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}
