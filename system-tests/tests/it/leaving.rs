//! What becomes of the requests of clients that have left: nothing is asked for nobody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bed::{Bed, HOST, Speech, answer, eventually, gated, get, get_from, served, upstream};

/// What an origin has seen.
#[derive(Clone, Default)]
struct Seen {
    begun: Arc<AtomicUsize>,
    /// Requests whose connection was closed before they were answered.
    closed: Arc<AtomicUsize>,
}

impl Seen {
    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    fn closed(&self) -> usize {
        self.closed.load(Ordering::SeqCst)
    }
}

/// An origin that never answers, and notes who hangs up.
async fn silent() -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let noted = seen.clone();
    let origin = served(move |head, mut socket| {
        let noted = noted.clone();
        async move {
            if head.starts_with("GET /page") {
                let _ = socket.write_all(answer(200, "cache-control: max-age=60\r\n", "page").as_bytes()).await;
                return;
            }
            noted.begun.fetch_add(1, Ordering::SeqCst);
            while socket.read(&mut [0; 1024]).await.unwrap_or(0) > 0 {}
            noted.closed.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    (origin, seen)
}

async fn sent(bed: &Bed, head: &str) -> TcpStream {
    let mut socket = TcpStream::connect(bed.address()).await.unwrap();
    socket.write_all(format!("{head}\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_for_a_place_are_not_sent_when_their_clients_have_left() {
    let (origin, gate) = gated("", |_| answer(200, "cache-control: max-age=60\r\n", "here")).await;
    let bed = Bed::with(|config| {
        config.sites[0].origins = vec![upstream(origin)];
        config.origins.concurrency = 1;
        config.origins.queue_wait = Duration::from_secs(60);
    })
    .await;
    let address = bed.address();
    let first = tokio::spawn(async move { get_from(address, "/first").await });
    eventually("it is asked", || gate.arrived() == 1).await;
    let mut queued = Vec::new();
    for n in 0..6 {
        let method = ["GET", "GET", "POST"][n % 3];
        queued.push(sent(&bed, &format!("{method} /queued{n} HTTP/1.1")).await);
    }
    let waiting = |count| format!("nearside_upstream_waiting{{peer=\"{}\"}} {count}", upstream(origin));
    bed.until_metric(&waiting(6)).await;
    drop(queued);
    bed.until_metric(&waiting(0)).await;
    gate.open();
    assert_eq!(first.await.unwrap().body, "here");
    let next = tokio::spawn(async move { get_from(address, "/next").await });
    eventually("it is asked", || gate.arrived() == 2).await;
    gate.open();
    assert_eq!(next.await.unwrap().body, "here");
    assert_eq!(gate.arrived(), 2, "none of those who left");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_were_sent_are_cancelled_when_their_clients_leave() {
    let (origin, seen) = silent().await;
    let bed = Bed::tls_with(|config| {
        config.sites[0].origins = vec![upstream(origin)];
        config.origins.concurrency = 4;
    })
    .await;
    let mut clients = Vec::new();
    for head in ["GET /a HTTP/1.1", "HEAD /b HTTP/1.1", "POST /c HTTP/1.1\r\ncontent-length: 0"] {
        clients.push(sent(&bed, head).await);
    }
    eventually("they are sent", || seen.begun() == 3).await;
    drop(clients);
    eventually("they are cancelled", || seen.closed() == 3).await;
    bed.until_metric(&format!("nearside_upstream_in_flight{{peer=\"{}\"}} 0", upstream(origin))).await;
    bed.until_metric("nearside_fills_in_flight 0").await;
    // The same over TLS, where the client says nothing before it closes.
    let mut tls = bed.tls(b"http/1.1").await;
    tls.write_all(format!("GET /d HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    tls.flush().await.unwrap();
    eventually("it is sent", || seen.begun() == 4).await;
    drop(tls);
    eventually("it is cancelled", || seen.closed() == 4).await;
    assert_eq!(bed.get("/page").await.body, "page");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_reset_are_cancelled_and_others_of_their_connection_are_not() {
    let (origin, seen) = silent().await;
    let bed = Bed::tls_with(|config| config.sites[0].origins = vec![upstream(origin)]).await;
    let (mut client, connection) = h2::client::handshake(bed.tls(b"h2").await).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut ask = |path: &str, method: &str| {
        let uri = format!("https://{HOST}{path}");
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        client.send_request(request, method != "POST").unwrap()
    };
    let (_kept, _) = ask("/kept", "GET");
    let (reset, mut sender) = ask("/reset", "GET");
    let (posted, mut body) = ask("/posted", "POST");
    body.send_data(Bytes::from_static(b"body"), true).unwrap();
    eventually("they are sent", || seen.begun() == 3).await;
    sender.send_reset(h2::Reason::CANCEL);
    body.send_reset(h2::Reason::CANCEL);
    eventually("they are cancelled", || seen.closed() == 2).await;
    drop((reset, posted));
    connection.abort();
    eventually("all are, with their connection", || seen.closed() == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_closed_its_half_only_gets_its_response() {
    let (origin, gate) = gated("get /slow", |_| answer(200, "cache-control: max-age=60\r\n", "here")).await;
    let bed = Bed::with(|config| config.sites[0].origins = vec![upstream(origin)]).await;
    for (path, version) in [("/fast", "1.1"), ("/fast", "1.1"), ("/slow1", "1.1"), ("/slow2", "1.0")] {
        let mut socket = sent(&bed, &format!("GET {path} HTTP/{version}")).await;
        socket.shutdown().await.unwrap();
        if path.starts_with("/slow") {
            // Longer than it takes to look into it.
            tokio::time::sleep(Duration::from_millis(600)).await;
            gate.open();
        }
        let mut reply = String::new();
        socket.read_to_string(&mut reply).await.unwrap();
        let reply = match path {
            "/slow1" => reply.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").expect("an interim response"),
            _ => &reply,
        };
        assert!(reply.starts_with("HTTP/1.1 200 ") && reply.ends_with("here"), "{path}: {reply}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_stay_get_the_answer_that_the_first_has_asked_for() {
    let (origin, gate) = gated("", |_| answer(200, "cache-control: max-age=60\r\n", "here")).await;
    let bed = Bed::with(|config| config.sites[0].origins = vec![upstream(origin)]).await;
    let address = bed.address();
    let leader = sent(&bed, "GET /shared HTTP/1.1").await;
    eventually("it is asked", || gate.arrived() == 1).await;
    let follower = tokio::spawn(async move { get_from(address, "/shared").await });
    bed.until_metric("nearside_requests_in_flight 2").await;
    drop(leader);
    bed.until_metric("nearside_requests_total{site=\"site\",cache=\"error\",code=\"499\",proto=\"http/1.1\"} 1").await;
    gate.open();
    let reply = follower.await.unwrap();
    assert!(reply.body == "here" && reply.cache().contains("collapsed"), "{}", reply.cache());
    assert_eq!(gate.arrived(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_stored_is_fetched_to_its_end_and_one_that_is_not_is_cancelled() {
    let seen = Seen::default();
    let noted = seen.clone();
    let origin = served(move |head, mut socket| {
        let noted = noted.clone();
        async move {
            let path = head.split(' ').nth(1).unwrap();
            let fields = match path {
                "/stored" => "cache-control: max-age=60\r\ncontent-length: 20000",
                "/events" => "content-type: text/event-stream\r\ntransfer-encoding: chunked",
                _ => "cache-control: no-store\r\ncontent-length: 20000",
            };
            // Else the next request would come on the connection of the last.
            let head = format!("HTTP/1.1 200 X\r\nconnection: close\r\n{fields}\r\n\r\n");
            let _ = socket.write_all(head.as_bytes()).await;
            noted.begun.fetch_add(1, Ordering::SeqCst);
            if path == "/stored" {
                let _ = socket.write_all(&[b'x'; 10_000]).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
                let _ = socket.write_all(&[b'x'; 10_000]).await;
                return;
            }
            while socket.read(&mut [0; 1024]).await.unwrap_or(0) > 0 {}
            noted.closed.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let bed = Bed::with(|config| config.sites[0].origins = vec![upstream(origin)]).await;
    let response = bed.send(Speech::H1, get("/stored")).await.unwrap();
    drop(response);
    bed.until_idle().await;
    assert!(bed.get("/stored").await.cache().contains("; hit"));
    let mut events = sent(&bed, "GET /events HTTP/1.1").await;
    events.read_exact(&mut [0; 12]).await.unwrap();
    drop(events);
    eventually("the stream is cancelled", || seen.closed() == 1).await;
    let mut response = bed.send(Speech::H1, get("/passed")).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(100), response.body_mut().frame()).await.is_err());
    drop(response);
    eventually("so is a body that is not stored", || seen.closed() == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsafe_request_that_is_cancelled_makes_its_url_stale() {
    let (origin, seen) = silent().await;
    let bed = Bed::with(|config| config.sites[0].origins = vec![upstream(origin)]).await;
    bed.get("/page").await;
    assert!(bed.get("/page").await.cache().contains("; hit"));
    let client = sent(&bed, "PUT /page HTTP/1.1\r\ncontent-length: 0").await;
    eventually("it is sent", || seen.begun() == 1).await;
    drop(client);
    eventually("it is cancelled", || seen.closed() == 1).await;
    let reply = bed.get("/page").await;
    assert!(!reply.cache().contains("; hit"), "it may have had an effect: {}", reply.cache());
}
