//! Origins as they are: what they send that is not for clients, how they fail, how long they are silent.

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use nearside_config::{Role, SiteTimeouts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::bed::{Bed, HOST, SPEECHES, answer, config, get_from, get_with, loopback, scripted, secret, upstream};

/// Longer than any of these tests may take.
const IN_TIME: Duration = Duration::from_secs(30);

/// An origin that sends these pieces to whoever asks, with a pause before each but the first, and then closes.
async fn in_pieces(pieces: &'static [&'static [u8]], pause: Duration) -> SocketAddr {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let _ = socket.read(&mut head).await;
                for (place, piece) in pieces.iter().enumerate() {
                    if place > 0 {
                        sleep(pause).await;
                    }
                    if socket.write_all(piece).await.is_err() {
                        return;
                    }
                }
                let _ = socket.shutdown().await;
                let _ = socket.read(&mut head).await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_origin_says_of_its_own_server_passes_no_edge() {
    const OWN: [&str; 6] =
        ["alt-svc", "proxy-authenticate", "proxy-authentication-info", "keep-alive", "proxy-connection", "upgrade"];
    let script = |head: &str| {
        let own = "alt-svc: h3=\"origin.example:443\"; ma=86400\r\nproxy-authenticate: Basic\r\n\
             proxy-authentication-info: a=b\r\nkeep-alive: timeout=5\r\nproxy-connection: keep-alive\r\nupgrade: h2c\r\n";
        let seen = head.contains("alt-used") || head.contains("http2-settings");
        let cc = if head.contains("/stored") { "max-age=60" } else { "no-store" };
        let status = if head.contains("if-none-match") { 304 } else { 200 };
        let body = if status == 304 { "" } else { "body" };
        let fields = format!("{own}cache-control: {cc}\r\netag: \"1\"\r\nx-seen: {seen}\r\nx-kept: 1\r\n");
        // For one request an interim answer first, with the same fields.
        let interim =
            if head.contains("/stored-raw") { format!("HTTP/1.1 103 Hints\r\n{own}\r\n") } else { String::new() };
        interim + &answer(status, &fields, body)
    };
    let origin = scripted(Duration::ZERO, script).await;
    let mut bed = Bed::tls_with(|config| config.sites[0].origins = vec![upstream(origin)]).await;
    let check = |reply: &crate::bed::Reply, what: &str| {
        assert_eq!((reply.status.as_u16(), reply.field("x-kept")), (200, "1"), "{what}");
        assert_eq!(reply.field("x-seen"), "false", "{what}: the origin got fields of the client's connection");
        for name in OWN {
            assert_eq!(reply.field(name), "", "{what}: {name}");
        }
    };
    for speech in SPEECHES {
        for (method, path) in [(Method::GET, "/stored"), (Method::GET, "/passed"), (Method::POST, "/posted")] {
            for round in 0..2 {
                let mut request =
                    get_with(&format!("{path}-{speech:?}"), &[("alt-used", HOST), ("http2-settings", "AAMAAABk")]);
                *request.method_mut() = method.clone();
                check(&bed.ask(speech, request).await, &format!("{speech:?} {path} {round}"));
            }
        }
    }
    bed.advance(100);
    check(&bed.get("/stored-H1").await, "after a 304");
    check(&bed.get("/stored-H1").await, "a hit on what a 304 has freshened");
    let wire = format!("GET /stored-raw HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let answer = bed.raw(wire.as_bytes()).await.to_lowercase();
    assert!(answer.starts_with("http/1.1 103 ") && !answer.contains("alt-svc"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn white_space_before_a_colon_is_removed_from_answers_and_refused_in_requests() {
    let lines = "HTTP/1.1 200 OK\r\nCache-Control : max-age=60\r\nContent-Length\t: 4\r\nX-A \t : b\r\nConnection: close\r\n\r\nbody";
    let origin = scripted(Duration::ZERO, move |_| lines.to_owned()).await;
    let bed = Bed::with(|config| config.sites[0].origins = vec![upstream(origin)]).await;
    for verdict in ["fwd=uri-miss; fwd-status=200; stored", "hit"] {
        let wire = format!("GET /a HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
        let answer = bed.raw(wire.as_bytes()).await.to_lowercase();
        assert!(answer.contains("\r\nx-a: b\r\n") && answer.contains("\r\ncontent-length: 4\r\n"), "{answer}");
        assert!(answer.contains(verdict) && answer.ends_with("\r\n\r\nbody"), "{answer}");
    }
    let wire = format!("GET /a HTTP/1.1\r\nHost: {HOST}\r\nX-A : b\r\n\r\n");
    assert!(bed.raw(wire.as_bytes()).await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_fail_has_a_reason_of_its_own() {
    let garbage: [(&'static [&'static [u8]], &str); 9] = [
        (&[b""], "upstream-closed"),
        (&[b"HTTP/1.1 200 OK\r\ncontent-le"], "upstream-closed"),
        (&[b"SSH-2.0-OpenSSH_9.6\r\n"], "upstream-malformed"),
        (&[b"HTTP/1.1 twohundred OK\r\n\r\n"], "upstream-malformed"),
        (&[b"HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n"], "upstream-field"),
        (&[b"HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n"], "upstream-field"),
        (&[b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n"], "upstream-framing"),
        (&[b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"], "upstream-framing"),
        (&[b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n"], "upstream-coding"),
    ];
    for (wire, reason) in garbage {
        let origin = in_pieces(wire, Duration::ZERO).await;
        let bed = Bed::with(|config| config.sites[0].origins = vec![upstream(origin)]).await;
        for method in [Method::GET, Method::POST] {
            let mut request = get_with("/a", &[]);
            *request.method_mut() = method.clone();
            let reply = bed.ask(crate::bed::Speech::H1, request).await;
            assert_eq!(reply.status, 502, "{reason}");
            assert!(reply.cache().contains(&format!("detail={reason}")), "{method} {reason}: {}", reply.cache());
        }
    }
    // What speaks HTTP in clear speaks no TLS.
    let clear = in_pieces(&[b"HTTP/1.1 400 Bad Request\r\n\r\n"], Duration::ZERO).await;
    let bed = Bed::with(|config| config.sites[0].origins = vec![format!("https://{clear}").parse().unwrap()]).await;
    let reply = bed.get("/a").await;
    assert!(reply.status == 502 && reply.cache().contains("detail=upstream-tls"), "{}", reply.cache());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_silent_has_a_reason_and_one_that_lives_is_found() {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&loopback().into()).unwrap();
    listener.listen(0).unwrap();
    let silent = listener.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    while let Ok(socket) = timeout(Duration::from_millis(300), TcpStream::connect(silent)).await {
        queued.push(socket.unwrap());
    }
    let bed = Bed::with(|config| {
        config.sites[0].origins = vec![upstream(silent)];
        config.timeouts.connect = Duration::from_millis(200);
    })
    .await;
    let reply = bed.get("/a").await;
    assert!(reply.status == 502 && reply.cache().contains("detail=upstream-connect-timeout"), "{}", reply.cache());
}

/// An event stream with a silence of a second in it.
const EVENTS: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n\r\ndata: 1\n\n",
    b"data: 2\n\n",
];
/// The same bytes as something else.
const TEXT: &[&[u8]] =
    &[b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\ndata: 1\n\n", b"data: 2\n\n"];

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_may_be_silent_for_longer_than_other_bodies() {
    for (pieces, is_whole) in [(EVENTS, true), (TEXT, false)] {
        let origin = in_pieces(pieces, Duration::from_secs(1)).await;
        let bed = Bed::tls_with(|config| {
            config.sites[0].origins = vec![upstream(origin)];
            config.timeouts.between_bytes = Duration::from_millis(200);
            // It has no end of its own either.
            config.timeouts.total = Duration::from_millis(500);
        })
        .await;
        for speech in SPEECHES {
            let reply = crate::bed::read(bed.send(speech, get_with("/events", &[])).await.unwrap()).await;
            let body = reply.as_ref().ok().map(|reply| &reply.body[..]);
            assert_eq!(body, is_whole.then_some(&b"data: 1\n\ndata: 2\n\n"[..]), "{speech:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_may_give_its_origin_more_time_than_the_node_does() {
    let origin = scripted(Duration::from_millis(800), |_| answer(200, "", "late")).await;
    let bed = Bed::with(|config| {
        config.sites[0].origins = vec![upstream(origin)];
        config.timeouts.first_byte = Duration::from_millis(100);
        config.sites[0].timeouts = SiteTimeouts { first_byte: Some(IN_TIME), ..SiteTimeouts::default() };
    })
    .await;
    assert_eq!(bed.get("/poll").await.body, "late");
    let bed = bed.again(|config| config.sites[0].timeouts = SiteTimeouts::default());
    assert_eq!(bed.get("/poll").await.status, 504);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_and_an_event_stream_pass_both_tiers() {
    const POLL: &[&[u8]] = &[b"", b"HTTP/1.1 204 No Content\r\n\r\n"];
    for (pieces, path) in [(EVENTS, "/events"), (POLL, "/poll")] {
        let origin = in_pieces(pieces, Duration::from_secs(1)).await;
        let mut shield = config(Role::Shield { secret: Some(secret()) }, vec![upstream(origin)]);
        shield.timeouts.between_bytes = Duration::from_millis(200);
        shield.id = "shield".parse().unwrap();
        let shield = nearside_shield::start(shield, nearside_node::Clock::manual()).unwrap();
        let shields = vec![upstream(shield.addresses()[0])];
        let bed = Bed::with(|config| {
            config.role = Role::Edge { shields, secret: Some(secret()), fallback: nearside_config::Fallback::None };
            config.timeouts.between_bytes = Duration::from_millis(200);
        })
        .await;
        let reply = bed.get(path).await;
        assert!(reply.status.is_success(), "{path}: {}", reply.cache());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shield_that_waits_for_its_origin_has_time_to_say_so() {
    let origin = scripted(IN_TIME, |_| String::new()).await;
    let limit = Duration::from_millis(500);
    let mut shield = config(Role::Shield { secret: Some(secret()) }, vec![upstream(origin)]);
    shield.timeouts.first_byte = limit;
    shield.id = "shield".parse().unwrap();
    let shield = nearside_shield::start(shield, nearside_node::Clock::manual()).unwrap();
    let shields = vec![upstream(shield.addresses()[0])];
    let bed = Bed::with(|config| {
        config.role = Role::Edge { shields, secret: Some(secret()), fallback: nearside_config::Fallback::None };
        config.timeouts.first_byte = limit;
    })
    .await;
    let reply = get_from(bed.address(), "/silent").await;
    assert_eq!(reply.status, 504);
    assert!(reply.cache().starts_with("shield; ") && reply.cache().contains("upstream-timeout"), "{}", reply.cache());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_may_be_silent_for_longer_than_a_connection_without_a_request() {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let _ = socket.read(&mut head).await;
                let fields =
                    "upgrade: websocket\r\nconnection: upgrade\r\nalt-svc: h3=\":443\"\r\nkeep-alive: timeout=5\r\n";
                socket.write_all(format!("HTTP/1.1 101 X\r\n{fields}\r\n").as_bytes()).await.unwrap();
                let mut bytes = [0; 4];
                while socket.read_exact(&mut bytes).await.is_ok() {
                    socket.write_all(&bytes).await.unwrap();
                }
            });
        }
    });
    let silence = Duration::from_millis(900);
    for (websocket, lives) in [(IN_TIME, true), (Duration::from_millis(200), false)] {
        let bed = Bed::with(|config| {
            config.sites[0].origins = vec![upstream(address)];
            config.timeouts.idle = Duration::from_millis(200);
            config.sites[0].timeouts.websocket = Some(websocket);
        })
        .await;
        let mut socket = TcpStream::connect(bed.address()).await.unwrap();
        let head = format!("GET /ws HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nping");
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"ping") {
            assert!(timeout(IN_TIME, socket.read_buf(&mut answer)).await.unwrap().unwrap() > 0, "{answer:?}");
        }
        let head = String::from_utf8_lossy(&answer).to_lowercase();
        assert!(
            head.contains("upgrade: websocket") && !head.contains("alt-svc") && !head.contains("keep-alive"),
            "{head}"
        );
        sleep(silence).await;
        let _ = socket.write_all(b"pong").await;
        let mut echo = Vec::new();
        let read = timeout(IN_TIME, socket.read_buf(&mut echo)).await.unwrap().unwrap_or(0);
        assert_eq!((read > 0, &echo[..]), (lives, if lives { b"pong" } else { &b""[..] }));
    }
}
