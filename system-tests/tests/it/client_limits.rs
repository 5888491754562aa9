//! Fair shares of one node: connections, requests in progress, and memory that a client's requests hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use http::Request;
use nearside_config::Role;
use nearside_node::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bed::{Bed, Gate, HOST, Speech, answer, config, eventually, gated, get, get_with, secret, upstream};

/// An origin whose answers to GETs of anything come when the gate lets them through.
async fn slow(change: impl FnOnce(&mut nearside_config::Config)) -> (Bed, Gate) {
    let (origin, gate) = gated("get", |_| answer(200, "cache-control: no-store\r\n", "late")).await;
    let bed = Bed::tls_with(|config| {
        config.sites[0].origins = vec![upstream(origin)];
        change(config);
    })
    .await;
    (bed, gate)
}

/// Sends a request on a connection of its own, which stays open.
async fn begun(bed: &Bed, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(bed.address()).await.unwrap();
    socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    socket
}

/// The first bytes of what comes on a connection; nothing if it is closed or reset before.
async fn received(socket: &mut TcpStream) -> String {
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(60), socket.read(&mut answer)).await.expect("something comes");
    String::from_utf8_lossy(&answer[..read.unwrap_or(0)]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_network_has_a_share_of_the_requests_in_progress_and_gets_503_beyond_it() {
    let (bed, gate) = slow(|config| config.limits.requests_per_client = 3).await;
    let mut waiting = Vec::new();
    for n in 0..3 {
        waiting.push(begun(&bed, &format!("/slow{n}")).await);
    }
    bed.until_metric("nearside_requests_in_flight 3").await;
    for speech in [Speech::H1, Speech::H1Tls, Speech::H2] {
        let reply = bed.ask(speech, get("/one-more")).await;
        assert_eq!((reply.status.as_u16(), reply.field("retry-after")), (503, "1"), "{speech:?}");
        assert!(reply.cache().contains("detail=client-busy"), "{}", reply.cache());
    }
    assert_eq!(bed.ask(Speech::H1, get_with("/one-more", &[("content-length", "0")])).await.status, 503);
    // They may have come to the origin in any order.
    waiting.iter().for_each(|_| gate.open());
    for socket in &mut waiting {
        assert!(received(socket).await.starts_with("HTTP/1.1 200 "));
    }
    bed.until_metric("nearside_requests_in_flight 0").await;
    gate.open();
    assert_eq!(bed.ask(Speech::H2, get("/later")).await.status, 200, "what has ended counts no longer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_has_a_limit_of_requests_in_progress_which_no_hit_counts_against() {
    let (bed, _gate) = slow(|config| config.limits.requests = 2).await;
    let _waiting = [begun(&bed, "/slow1").await, begun(&bed, "/slow2").await];
    bed.until_metric("nearside_requests_in_flight 2").await;
    let reply = bed.ask(Speech::H2, get("/one-more")).await;
    assert_eq!((reply.status.as_u16(), reply.field("retry-after")), (503, "1"));
    assert!(reply.cache().contains("detail=node-busy"), "{}", reply.cache());

    let bed = Bed::with(|config| config.limits.requests = 1).await;
    let hit = "/hit?cc=max-age%3D60&size=10";
    bed.get(hit).await;
    bed.until_metric("nearside_requests_in_flight 0").await;
    let _busy = begun(&bed, "/busy?delay=60000&cc=no-store").await;
    bed.until_metric("nearside_requests_in_flight 1").await;
    assert!(bed.get(hit).await.cache().contains("; hit"));
    assert_eq!(bed.get("/miss").await.status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_share_of_a_network_are_refused_unless_idle_ones_can_make_place() {
    let (bed, gate) = slow(|config| config.limits.connections_per_client = 3).await;
    let mut busy = Vec::new();
    for n in 0..3 {
        busy.push(begun(&bed, &format!("/slow{n}")).await);
    }
    bed.until_metric("nearside_requests_in_flight 3").await;
    let mut refused = TcpStream::connect(bed.address()).await.unwrap();
    let answer = received(&mut refused).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1"), "{answer}");
    assert!(answer.contains("detail=client-connections"), "{answer}");
    let mut tls = TcpStream::connect(bed.edge.tls_addresses()[0]).await.unwrap();
    assert_eq!(received(&mut tls).await, "", "before its handshake");
    bed.until_metric("nearside_connections_refused_total 2").await;
    // They may have come to the origin in any order.
    busy.iter().for_each(|_| gate.open());
    for socket in &mut busy {
        assert!(received(socket).await.starts_with("HTTP/1.1 200 "));
    }
    // Now all of them are idle: each newcomer finds a place, over TLS and HTTP/2 too.
    for _ in 0..5 {
        gate.open();
        assert_eq!(bed.ask(Speech::H2, get("/h2")).await.status, 200);
        gate.open();
        let mut socket = begun(&bed, "/h1").await;
        assert!(received(&mut socket).await.starts_with("HTTP/1.1 200 "));
        busy.push(socket);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_http2_connection_makes_place_for_another_one_of_its_network() {
    let bed = Bed::tls_with(|config| config.limits.connections_per_client = 1).await;
    for n in 0..5 {
        let (mut sender, connection) = h2::client::handshake(bed.tls(b"h2").await).await.unwrap();
        let ended = tokio::spawn(connection);
        let request = Request::get(format!("https://{HOST}/{n}?size=1")).body(()).unwrap();
        sender = sender.ready().await.unwrap();
        let response = sender.send_request(request, true).unwrap().0.await.unwrap();
        assert_eq!(response.status(), 200);
        drop(response);
        // It stays open until the next one comes.
        tokio::spawn(async move {
            let _ = ended.await;
            drop(sender);
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn edges_that_show_their_secret_are_no_clients_of_a_shield() {
    let (origin, gate) = gated("get", |_| answer(200, "cache-control: no-store\r\n", "late")).await;
    let mut config = config(Role::Shield { secret: Some(secret()) }, vec![upstream(origin)]);
    config.limits.connections_per_client = 1;
    config.limits.requests_per_client = 1;
    let shield = nearside_shield::start(config, Clock::manual()).unwrap();
    let mut edges = Vec::new();
    for n in 0..5 {
        let mut socket = TcpStream::connect(shield.addresses()[0]).await.unwrap();
        let shown = secret();
        let request = format!("GET /{n} HTTP/1.1\r\nhost: {HOST}\r\nnearside-secret: {}\r\n\r\n", shown.reveal());
        socket.write_all(request.as_bytes()).await.unwrap();
        eventually("the request is at the origin", || gate.arrived() == n + 1).await;
        edges.push(socket);
    }
    edges.iter().for_each(|_| gate.open());
    for socket in &mut edges {
        assert!(received(socket).await.starts_with("HTTP/1.1 200 "));
    }
    let _stranger = TcpStream::connect(shield.addresses()[0]).await.unwrap();
    let mut second = TcpStream::connect(shield.addresses()[0]).await.unwrap();
    assert!(received(&mut second).await.starts_with("HTTP/1.1 503 "), "who shows none is limited");
}

/// A client whose windows take nothing, and its streams.
async fn bomb(bed: &Bed, path: &str, fields: usize, streams: usize) -> Vec<ResponseFuture> {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(0).max_concurrent_reset_streams(1000);
    let (mut sender, connection) = builder.handshake::<_, Bytes>(bed.tls(b"h2").await).await.unwrap();
    tokio::spawn(connection);
    let mut responses = Vec::new();
    for _ in 0..streams {
        let mut request = Request::get(format!("https://{HOST}{path}"));
        for _ in 0..fields {
            // One byte each on the wire, once it stands in the table.
            request = request.header("a", "");
        }
        sender = sender.ready().await.unwrap();
        responses.push(sender.send_request(request.body(()).unwrap(), true).unwrap().0);
    }
    // Without it the connection would be closed. Until it is ready again it may hold the last stream, which then is not reset when
    // its response is dropped.
    let sender = sender.ready().await.unwrap();
    tokio::spawn(async move {
        let _sender = sender;
        std::future::pending::<()>().await;
    });
    responses
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_count_on_http2_as_they_do_on_http1() {
    let bed = Bed::with_tls().await;
    let path = "/f?cc=max-age%3D60&size=10";
    bed.ask(Speech::H2, get(path)).await;
    let many: Vec<_> = (0..100).map(|_| ("a", "b")).collect();
    let beyond = [&many[..], &[("c", "d")]].concat();
    for (path, fields, status) in [
        (path, &many[..99], 200),
        (path, &many[..], 200),
        (path, &beyond[..], 431),
        ("/miss?cc=no-store", &beyond[..], 431),
    ] {
        for speech in [Speech::H1Tls, Speech::H2] {
            // HTTP/1 counts its Host too.
            let fields = if speech == Speech::H2 { fields } else { &fields[1..] };
            let reply = bed.ask(speech, get_with(path, fields)).await;
            assert_eq!(reply.status, status, "{speech:?}, {} fields", fields.len());
            assert_eq!(status == 431, reply.cache().contains("detail=too-many-fields"), "{}", reply.cache());
        }
    }
    let cookies: Vec<_> = (0..300).map(|_| ("cookie", "a=b")).collect();
    assert_eq!(bed.ask(Speech::H2, get_with(path, &cookies)).await.status, 200, "a cookie each is one field");
    // Those who take no answer hold nothing either.
    for response in bomb(&bed, path, 101, 128).await {
        assert_eq!(response.await.unwrap().status(), 431);
    }
    bed.until_metric("nearside_requests_in_flight 0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hit_that_its_client_does_not_take_holds_no_request_head() {
    let bed = Bed::with_tls().await;
    let path = "/b?cc=max-age%3D60&size=1024";
    bed.ask(Speech::H2, get(path)).await;
    bed.until_metric("nearside_requests_in_flight 0").await;
    let responses = bomb(&bed, path, 90, 128).await;
    bed.until_metric("nearside_requests_in_flight 128").await;
    // 8 KiB each: its task, and no field.
    bed.until_metric(&format!("nearside_requests_in_flight_bytes {}", 128 * (8 << 10))).await;
    drop(responses);
    bed.until_metric("nearside_requests_in_flight 0").await;
    bed.until_metric("nearside_requests_in_flight_bytes 0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_heads_that_wait_on_one_http2_connection_are_bounded() {
    let (bed, _gate) = slow(|_| {}).await;
    // What browsers send finds room.
    let usual = bomb(&bed, "/usual", 14, 128).await;
    bed.until_metric("nearside_requests_in_flight 128").await;
    drop(usual);
    bed.until_metric("nearside_requests_in_flight 0").await;
    let refused = Arc::new(AtomicUsize::new(0));
    let waiting: Vec<_> = bomb(&bed, "/slow", 90, 128)
        .await
        .into_iter()
        .map(|response| {
            let refused = Arc::clone(&refused);
            tokio::spawn(async move {
                let error = response.await.expect_err("the origin does not answer");
                refused.fetch_add(usize::from(error.reason() == Some(h2::Reason::REFUSED_STREAM)), Ordering::SeqCst);
            })
        })
        .collect();
    eventually("most are refused", || refused.load(Ordering::SeqCst) > 60).await;
    assert!(refused.load(Ordering::SeqCst) < 118, "some wait");
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    bed.until_metric("nearside_requests_in_flight_bytes 0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_all_requests_in_progress_hold_is_bounded_by_a_share_of_the_memory() {
    let (bed, _gate) = slow(|config| {
        config.limits.requests_per_client = 1_000_000;
        config.limits.head_bytes = 1 << 20;
    })
    .await;
    let cookie = "x".repeat(900 << 10);
    let mut sockets = Vec::new();
    let refused = loop {
        let mut socket = TcpStream::connect(bed.address()).await.unwrap();
        let n = sockets.len();
        let request = format!("GET /{n} HTTP/1.1\r\nhost: {HOST}\r\ncookie: {cookie}\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut first = [0; 12];
        match tokio::time::timeout(Duration::from_millis(300), socket.read_exact(&mut first)).await {
            Ok(read) => {
                read.unwrap();
                break first;
            }
            Err(_) => sockets.push(socket),
        }
        assert!(sockets.len() < 100, "90 MiB of heads");
    };
    assert_eq!(&refused, b"HTTP/1.1 503");
    assert!(sockets.len() > 10, "{}", sockets.len());
}

/// PING and SETTINGS are answered, and are no use of a connection.
#[tokio::test(flavor = "multi_thread")]
async fn pings_and_settings_keep_no_http2_connection_open() {
    let bed = Bed::tls_with(|config| config.timeouts.idle = Duration::from_millis(500)).await;
    let frames: [&[u8]; 2] = [b"\0\0\x08\x06\0\0\0\0\0pingpong", b"\0\0\0\x04\0\0\0\0\0"];
    for frame in frames {
        let io = bed.tls(b"h2").await;
        let (mut from, mut to) = tokio::io::split(io);
        to.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        let pings = tokio::spawn(async move {
            while to.write_all(frame).await.is_ok() && to.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let mut all = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(60), from.read_to_end(&mut all)).await;
        assert!(end.is_ok(), "it is closed, whatever comes");
        pings.abort();
    }
    bed.until_metric("nearside_connections_open 0").await;
}
