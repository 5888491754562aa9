//! The pass lane: methods, bodies, trailers and upgrades go through as they are.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::bed::{Bed, HOST, Reply, Speech, loopback, upstream};

fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(path).header("host", HOST).body(Full::new(body.into())).unwrap()
}

fn echoed(reply: &Reply) -> serde_json::Value {
    serde_json::from_slice(&reply.body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_reach_the_origin_whole_on_every_protocol() {
    let bed = Bed::with_tls().await;
    for speech in [Speech::H1, Speech::H1Tls, Speech::H2] {
        for size in [0, 1, 70_000, 3_000_000] {
            let sent = "x".repeat(size);
            let reply = bed.ask(speech, post("/_echo", sent.clone())).await;
            let echo = echoed(&reply);
            assert_eq!((&echo["method"], &echo["target"]), (&"POST".into(), &"/_echo".into()));
            assert!(echo["body"] == sent.as_str(), "{speech:?} {size}");
            assert!(reply.cache().contains("fwd=method; fwd-status=200"), "{}", reply.cache());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_body_that_is_announced_is_announced_to_the_origin_and_keeps_the_connection() {
    let bed = Bed::new().await;
    let mut wire = String::new();
    for (method, connection) in [("GET", "keep-alive"), ("POST", "keep-alive"), ("OPTIONS", "close")] {
        let fields = format!("Host: a\r\nContent-Length: 0\r\nConnection: {connection}");
        wire.push_str(&format!("{method} /_echo HTTP/1.1\r\n{fields}\r\n\r\n"));
    }
    let answers = bed.raw(wire.as_bytes()).await;
    // Each response is an echo of the request that the origin has got.
    let announced = |method: &str| {
        let end = answers.find(&format!("\"method\": \"{method}\"")).expect("the connection stays open for it");
        let start = answers[..end].rfind("\"fields\"").unwrap();
        answers[start..end].contains("content-length")
    };
    assert!(!announced("GET"), "what is fetched for all has no body");
    assert!(announced("POST") && announced("OPTIONS"), "{answers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn chunked_bodies_and_their_trailers_reach_the_origin() {
    let bed = Bed::new().await;
    let wire = "POST /_echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\nConnection: close\r\n\r\n\
                5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 7\r\n\r\n";
    let answer = bed.raw(wire.as_bytes()).await;
    assert!(answer.contains("\"hello world\"") && answer.contains("\"x-sum\""), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_for_100_gets_it() {
    let bed = Bed::new().await;
    let mut socket = TcpStream::connect(bed.address()).await.unwrap();
    let head =
        "POST /_echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    tokio::time::timeout(Duration::from_secs(60), socket.read_exact(&mut interim)).await.expect("in time").unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"hello").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"hello\""), "{answer}");
}

/// An origin that answers the head of a request with `word`, and its body of five bytes, where it comes, with what it was.
/// Tells of each request its head, and later its body.
async fn picky(word: &'static str) -> (std::net::SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let mut received = Vec::new();
                while !received.windows(4).any(|end| end == b"\r\n\r\n") {
                    if socket.read_buf(&mut received).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let text = String::from_utf8(received).unwrap().to_lowercase();
                let (head, begun) = text.split_once("\r\n\r\n").unwrap();
                tell.send(head.to_owned()).unwrap();
                socket.write_all(word.as_bytes()).await.unwrap();
                let mut body = vec![0; 5 - begun.len()];
                let whole = socket.read_exact(&mut body).await.is_ok();
                let body = begun.to_owned() + &String::from_utf8(body).unwrap();
                tell.send(if whole { body.clone() } else { "none".to_owned() }).unwrap();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\n{body}");
                let _ = socket.write_all(answer.as_bytes()).await;
            });
        }
    });
    (address, told)
}

fn expecting(more: &str) -> String {
    format!("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n{more}\r\n")
}

async fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tokio::time::timeout(Duration::from_secs(60), socket.read_u8()).await.expect("in time").unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn bed_before(origin: std::net::SocketAddr) -> Bed {
    Bed::tls_with(|config| config.sites[0].origins = vec![upstream(origin)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_s10_1_1_an_expectation_goes_to_the_origin_whose_word_reaches_the_client() {
    let (origin, mut told) = picky("HTTP/1.1 100 Continue\r\n\r\n").await;
    let bed = bed_before(origin).await;
    let mut socket = TcpStream::connect(bed.address()).await.unwrap();
    for _ in 0..2 {
        socket.write_all(expecting("").as_bytes()).await.unwrap();
        let head = told.recv().await.unwrap();
        assert!(head.contains("\r\nexpect: 100-continue") && head.contains("\r\ncontent-length: 5"), "{head}");
        assert_eq!(read_head(&mut socket).await, "HTTP/1.1 100 Continue\r\n\r\n");
        socket.write_all(b"hello").await.unwrap();
        let last = read_head(&mut socket).await;
        assert!(last.starts_with("HTTP/1.1 200 ") && !last.contains("connection: close"), "{last}");
        let mut body = [0; 5];
        socket.read_exact(&mut body).await.unwrap();
        assert_eq!((&body, told.recv().await.as_deref()), (b"hello", Some("hello")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_s10_1_1_a_refusal_reaches_the_client_before_it_has_sent_the_body() {
    let refusal = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 4\r\nx-limit: 1\r\n\r\nlong";
    let (origin, mut told) = picky(refusal).await;
    let bed = bed_before(origin).await;
    let mut socket = TcpStream::connect(bed.address()).await.unwrap();
    socket.write_all(expecting("").as_bytes()).await.unwrap();
    let head = read_head(&mut socket).await;
    assert!(head.starts_with("HTTP/1.1 413 ") && head.contains("x-limit: 1"), "{head}");
    // The body was never sent, so that what follows could not be told from it.
    assert!(head.contains("connection: close"), "{head}");
    let mut rest = String::new();
    socket.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "long");
    told.recv().await.unwrap();
    assert_eq!(told.recv().await.as_deref(), Some("none"), "nothing follows on that connection to the origin either");

    let (mut sender, connection) = h2::client::handshake(bed.tls(b"h2").await).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post(format!("https://{HOST}/upload")).header("expect", "100-continue").body(()).unwrap();
    let (mut response, mut body) = sender.send_request(request, false).unwrap();
    assert!(std::future::poll_fn(|cx| response.poll_informational(cx)).await.is_none());
    assert_eq!(response.await.unwrap().status(), 413);
    // RFC 9113 §8.1: the stream is closed without an error, so that the client need not send the rest.
    let reason = tokio::time::timeout(Duration::from_secs(60), std::future::poll_fn(|cx| body.poll_reset(cx)));
    assert_eq!(reason.await.expect("in time").unwrap(), h2::Reason::NO_ERROR);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_s10_1_1_where_the_origin_says_nothing_the_client_is_told_to_go_on() {
    let (origin, mut told) = picky("").await;
    let bed = bed_before(origin).await;
    let mut socket = TcpStream::connect(bed.address()).await.unwrap();
    socket.write_all(expecting("Connection: close\r\n").as_bytes()).await.unwrap();
    assert!(told.recv().await.unwrap().contains("expect: 100-continue"));
    assert_eq!(read_head(&mut socket).await, "HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"hello").await.unwrap();
    let last = read_head(&mut socket).await;
    assert!(last.starts_with("HTTP/1.1 200 "), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_s10_1_1_http_2_clients_hear_the_origin_too() {
    for word in ["HTTP/1.1 100 Continue\r\n\r\n", ""] {
        let (origin, mut told) = picky(word).await;
        let bed = bed_before(origin).await;
        let (mut sender, connection) = h2::client::handshake(bed.tls(b"h2").await).await.unwrap();
        tokio::spawn(connection);
        let request = Request::post(format!("https://{HOST}/upload"))
            .header("expect", "100-continue")
            .header("content-length", "5")
            .body(())
            .unwrap();
        let (mut response, mut body) = sender.send_request(request, false).unwrap();
        assert!(told.recv().await.unwrap().contains("expect: 100-continue"));
        let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
        assert_eq!(interim.status(), 100);
        body.send_data(Bytes::from_static(b"hello"), true).unwrap();
        assert!(std::future::poll_fn(|cx| response.poll_informational(cx)).await.is_none(), "once");
        assert_eq!(response.await.unwrap().status(), 200);
        assert_eq!(told.recv().await.as_deref(), Some("hello"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_s10_1_1_who_does_not_wait_is_told_nothing() {
    let (origin, mut told) = picky("HTTP/1.1 100 Continue\r\n\r\n").await;
    let bed = bed_before(origin).await;
    let at_once = bed.raw((expecting("Connection: close\r\n") + "hello").as_bytes()).await;
    assert!(at_once.starts_with("HTTP/1.1 200 "), "{at_once}");
    assert!(told.recv().await.unwrap().contains("expect: 100-continue"));
    assert_eq!(told.recv().await.as_deref(), Some("hello"));
    // "A server that receives a 100-continue expectation in an HTTP/1.0 request MUST ignore that expectation."
    let old = expecting("").replace("HTTP/1.1", "HTTP/1.0") + "hello";
    let old = bed.raw(old.as_bytes()).await;
    assert!(old.starts_with("HTTP/1.1 200 "), "{old}");
    assert!(!told.recv().await.unwrap().contains("expect:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn any_method_goes_through_and_a_success_of_an_unsafe_one_invalidates() {
    let bed = Bed::new().await;
    for (method, status, gone) in [
        ("PUT", 200, true),
        ("DELETE", 204, true),
        ("PATCH", 302, true),
        ("FROB", 200, true),
        ("POST", 500, false),
        ("POST", 404, false),
        ("OPTIONS", 200, false),
    ] {
        let path = format!("/inv-{method}-{status}?cc=max-age%3D60&status=200");
        bed.get(&path).await;
        // The same URI must answer otherwise to this method: the status is asked for by a raw origin's means.
        let mut request = post(&path, "x");
        *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
        request.headers_mut().insert("x-status", status.to_string().parse().unwrap());
        let reply = bed.ask(Speech::H1, request).await;
        assert_eq!(reply.status.as_u16(), status, "{method}");
        let hit = bed.get(&path).await.cache().contains("; hit");
        assert_eq!(hit, !gone, "{method} {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_is_never_sent_twice() {
    // An origin that reads the request and hangs up.
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = std::sync::Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = [0; 4096];
            if socket.read(&mut head).await.unwrap_or(0) > 0 {
                seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        }
    });
    let bed = Bed::with(|config| config.sites[0].origins = vec![upstream(address), upstream(address)]).await;
    for request in [post("/once", "x"), post("/once", "")] {
        let before = count.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(bed.ask(Speech::H1, request).await.status, 502);
        assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), before + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_413_before_the_origin_has_it_all() {
    let bed = Bed::with(|config| config.limits.body_bytes = 1000).await;
    assert_eq!(bed.ask(Speech::H1, post("/_echo", "x".repeat(1000))).await.status, 200);
    let declared = bed.raw(b"POST /_echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n").await;
    assert!(declared.starts_with("HTTP/1.1 413 "), "{declared}");
    let chunk = "x".repeat(1001);
    let chunked =
        format!("POST /_echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n{chunk}\r\n0\r\n\r\n");
    let answer = bed.raw(chunked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_does_not_reach_the_origin_as_a_whole_one() {
    let bed = Bed::new().await;
    for wire in [
        "POST /_echo?broken HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhello",
        "POST /_echo?broken HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n\r\n",
    ] {
        let mut socket = TcpStream::connect(bed.address()).await.unwrap();
        socket.write_all(wire.as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut answer = String::new();
        let _ = socket.read_to_string(&mut answer).await;
        assert!(!answer.contains(" 200 ") && !answer.contains("hello"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_becomes_a_tunnel() {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let read = socket.read(&mut head).await.unwrap();
        let head = String::from_utf8_lossy(&head[..read]).to_lowercase();
        assert!(head.contains("upgrade: websocket") && head.contains("connection: upgrade"), "{head}");
        let answer =
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-A: b\r\n\r\nearly";
        socket.write_all(answer).await.unwrap();
        let mut bytes = [0; 4];
        socket.read_exact(&mut bytes).await.unwrap();
        bytes.reverse();
        socket.write_all(&bytes).await.unwrap();
    });
    let bed = Bed::with(|config| config.sites[0].origins = vec![upstream(address)]).await;
    let mut socket = TcpStream::connect(bed.address()).await.unwrap();
    let head =
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(b"ping").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(Duration::from_secs(60), socket.read_to_string(&mut answer)).await.expect("in time").unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.contains("x-a: b"), "{answer}");
    assert!(answer.ends_with("earlygnip"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_a_length_keeps_its_chunks_and_the_connection() {
    let bed = Bed::new().await;
    let mut socket = TcpStream::connect(bed.address()).await.unwrap();
    for _ in 0..2 {
        socket.write_all(b"GET /chunks?chunked&size=5&cc=no-store HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n0\r\n\r\n") {
            let mut piece = [0; 1024];
            let read = socket.read(&mut piece).await.unwrap();
            assert!(read > 0, "it stays open");
            answer.extend_from_slice(&piece[..read]);
        }
        assert!(String::from_utf8_lossy(&answer).contains("transfer-encoding: chunked"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_of_answers_reach_the_clients_stored_or_not() {
    let script = |head: &str| {
        let cc = if head.contains("/stored") { "max-age=60" } else { "no-store" };
        let te = if head.contains("te: trailers") && head.contains("connection: te") { "1" } else { "0" };
        format!(
            "HTTP/1.1 200 OK\r\ncache-control: {cc}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
             4\r\nbody\r\n0\r\nx-sum: 7\r\nx-te: {te}\r\ncontent-length: 9\r\nkeep-alive: x\r\nset-cookie: a=b\r\nlocation: /\r\n\
             cache-control: public\r\nsurrogate-key: k\r\nx-forwarded-for: 1\r\nnearside-secret: s\r\nvia: x\r\n\r\n"
        )
    };
    let origin = crate::bed::scripted(Duration::ZERO, script).await;
    let bed = Bed::tls_with(|config| config.sites[0].origins = vec![upstream(origin)]).await;
    for speech in [Speech::H1, Speech::H1Tls, Speech::H2] {
        for (method, path) in [(Method::GET, "/passed"), (Method::GET, "/stored"), (Method::POST, "/posted")] {
            let path = format!("{path}-{speech:?}");
            let mut request = crate::bed::get_with(&path, &[("te", "trailers")]);
            *request.method_mut() = method;
            if speech != Speech::H2 {
                request.headers_mut().insert("connection", "te".parse().unwrap());
            }
            let body = bed.send(speech, request).await.unwrap().into_body().collect().await.unwrap();
            let trailers = body.trailers().cloned().unwrap_or_default();
            assert_eq!(body.to_bytes(), "body", "{speech:?} {path}");
            let found: Vec<_> = trailers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
            assert_eq!(found, [("x-sum", "7"), ("x-te", "1")], "{speech:?} {path}");
        }
        let hit = bed.ask(speech, crate::bed::get(&format!("/stored-{speech:?}"))).await;
        assert_eq!((&hit.body[..], hit.field("content-length")), (&b"body"[..], "4"), "{speech:?}");
        assert!(hit.cache().contains("; hit"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_s7_6_2_max_forwards_is_counted_down_and_ends_here() {
    let bed = Bed::new().await;
    let ask = |method: &'static str, left: &'static str| {
        let mut request = crate::bed::get_with("/_echo", &[("max-forwards", left)]);
        *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
        bed.ask(Speech::H1, request)
    };
    for (method, left, seen) in
        [("OPTIONS", "5", "4"), ("OPTIONS", "1", "0"), ("POST", "5", "5"), ("OPTIONS", "x", "x")]
    {
        let reply = ask(method, left).await;
        let fields: Vec<(String, String)> = serde_json::from_value(echoed(&reply)["fields"].clone()).unwrap();
        let found = fields.iter().find(|(name, _)| name == "max-forwards").map(|(_, value)| value.as_str());
        assert_eq!(found, Some(seen), "{method} {left}");
    }
    let last = ask("OPTIONS", "0").await;
    assert_eq!((last.status.as_u16(), last.field("allow")), (200, "GET, HEAD, OPTIONS"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_ends_here_and_is_not_echoed() {
    let bed = Bed::with_tls().await;
    for speech in [Speech::H1, Speech::H1Tls, Speech::H2] {
        for left in ["0", "1", "x"] {
            let fields = [("cookie", "sid=1"), ("authorization", "Bearer x"), ("max-forwards", left)];
            let mut request = crate::bed::get_with("/_echo", &fields);
            *request.method_mut() = Method::TRACE;
            let reply = bed.ask(speech, request).await;
            let text = String::from_utf8_lossy(&reply.body).to_lowercase();
            assert_eq!((reply.status.as_u16(), reply.field("allow")), (501, "GET, HEAD, OPTIONS"), "{speech:?} {left}");
            assert!(!text.contains("sid=1") && !text.contains("bearer"), "{speech:?} {left}: {text}");
        }
    }
    assert_eq!(bed.asked("/_echo"), 0, "none of them went on");
}

/// Trailers that a request must not have, and one that it may.
const TRAILERS: [(&str, &str); 12] = [
    ("transfer-encoding", "chunked"),
    ("content-length", "9"),
    ("host", "other.org"),
    ("authorization", "Bearer x"),
    ("cookie", "sid=1"),
    ("x-forwarded-for", "192.0.2.1"),
    ("x-original-url", "/other"),
    ("forwarded", "for=192.0.2.1"),
    ("via", "1.1 other"),
    ("nearside-secret", "s"),
    ("x_forwarded_for", "192.0.2.1"),
    ("x-sum", "7"),
];

fn trailers_seen(body: &[u8]) -> Vec<(String, String)> {
    let echo: serde_json::Value = serde_json::from_slice(body).unwrap();
    serde_json::from_value(echo["trailers"].clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_s6_5_1_trailers_of_requests_say_nothing_that_belongs_into_heads() {
    let expected = [("x-sum".to_owned(), "7".to_owned())];
    let bed = Bed::with_tls().await;
    let trailers: String = TRAILERS.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let wire = format!(
        "POST /_echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
         5\r\nhello\r\n0\r\n{trailers}\r\n"
    );
    let answer = bed.raw(wire.as_bytes()).await;
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let json = body.get(body.find('{').unwrap()..=body.rfind('}').unwrap()).unwrap();
    assert_eq!(trailers_seen(json.as_bytes()), expected, "{answer}");

    let (sender, connection) = h2::client::handshake(bed.tls(b"h2").await).await.unwrap();
    tokio::spawn(connection);
    // What belongs to one connection is malformed in HTTP/2 anyway (RFC 9113 §8.2.2), and so may be a second length.
    let sent = TRAILERS.iter().filter(|(name, _)| !["transfer-encoding", "content-length"].contains(name));
    let map: http::HeaderMap = sent
        .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)))
        .collect();
    // Without a length: trailers of a body that states one cannot go on over HTTP/1.1.
    let request = Request::post(format!("https://{HOST}/_echo")).body(()).unwrap();
    let (response, mut stream) = sender.ready().await.unwrap().send_request(request, false).unwrap();
    stream.send_data(Bytes::from_static(b"hello"), false).unwrap();
    stream.send_trailers(map).unwrap();
    let mut body = response.await.unwrap().into_body();
    let mut echo = Vec::new();
    while let Some(data) = body.data().await {
        echo.extend_from_slice(&data.unwrap());
    }
    assert_eq!(trailers_seen(&echo), expected);
}
