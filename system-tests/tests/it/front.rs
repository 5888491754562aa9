//! What clients do wrong: each gets a clear refusal, within a limit, and harms nobody.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bed::Bed;

#[tokio::test(flavor = "multi_thread")]
async fn malformed_and_ambiguous_requests_are_refused_with_their_reason() {
    let bed = Bed::new().await;
    let long = "x".repeat(40_000);
    let fields = "X: 1\r\n".repeat(101);
    for (wire, status, reason) in [
        ("hello\r\n\r\n".to_owned(), "400", "malformed"),
        ("\u{16}\u{3}\u{1}\u{2}\n\n".to_owned(), "400", "tls-on-cleartext"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "400", "host-missing"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), "400", "host-repeated"),
        ("GET / HTTP/1.1\r\nHost: a%zz\r\n\r\n".to_owned(), "400", "host"),
        ("GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n".to_owned(), "400", "host"),
        ("GET / HTTP/1.1\r\nHost: [1.2.3.4]\r\n\r\n".to_owned(), "400", "host"),
        ("GET http://a%4/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "400", "target"),
        ("GET http://a:99999/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "400", "target"),
        ("GET http://a/ HTTP/1.1\r\nHost: a:99999\r\n\r\n".to_owned(), "400", "host"),
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), "400", "bare-cr-or-lf"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n".to_owned(), "400", "malformed"),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n".to_owned(), "505", "version"),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "501", "connect"),
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), "414", "target-too-long"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"), "431", "head-too-large"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), "431", "too-many-fields"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            "400",
            "framing",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
            "400",
            "framing",
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n".to_owned(), "400", "framing"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n".to_owned(), "501", "transfer-coding"),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n".to_owned(), "400", "framing"),
    ] {
        let answer = bed.raw(wire.as_bytes()).await;
        let shown = wire.chars().take(60).collect::<String>();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {answer}");
        assert!(
            answer.contains(&format!("detail={reason}")) && answer.contains("connection: close"),
            "{shown:?}: {answer}"
        );
        assert!(answer.trim_end().ends_with(reason), "the text says it too: {answer}");
    }
    assert_eq!(bed.origin.ledger().read().total.requests, 0, "none of them went on");
    assert_eq!(bed.get("/well?size=1").await.body.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smuggled_request_is_never_answered() {
    let bed = Bed::new().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for carrier in [
        format!("POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n{smuggled}"),
        format!("POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\r\n{smuggled}"),
        format!("POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\n{smuggled}"),
        format!("GET /c HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len()),
        format!("GET /c HTTP/1.1\r\nHost: a\r\nX: y\n\r\n{smuggled}"),
    ] {
        let mut socket = TcpStream::connect(bed.address()).await.unwrap();
        socket.write_all(carrier.as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(60), socket.read_to_end(&mut answer)).await.expect("it ends");
        assert_eq!(bed.asked("/smuggled"), 0, "{carrier:?}");
        let answers = String::from_utf8_lossy(&answer).matches("HTTP/1.1 ").count();
        assert!(answers <= 1, "{carrier:?} got {answers} answers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_drips_has_a_deadline_and_an_idle_connection_too() {
    let bed = Bed::with(|config| {
        config.timeouts.head = Duration::from_millis(300);
        config.timeouts.idle = Duration::from_millis(300);
    })
    .await;
    let mut dripping = TcpStream::connect(bed.address()).await.unwrap();
    let dripped = tokio::time::timeout(Duration::from_secs(60), async {
        let mut answer = Vec::new();
        loop {
            // A byte now and then does not move the deadline.
            let _ = dripping.write_all(b"G").await;
            let mut piece = [0; 1024];
            match tokio::time::timeout(Duration::from_millis(50), dripping.read(&mut piece)).await {
                Ok(Ok(0) | Err(_)) => return answer,
                Ok(Ok(n)) => answer.extend_from_slice(&piece[..n]),
                Err(_) => {}
            }
        }
    });
    let answer = String::from_utf8(dripped.await.expect("it ends")).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");

    let mut idle = TcpStream::connect(bed.address()).await.unwrap();
    let mut used = TcpStream::connect(bed.address()).await.unwrap();
    used.write_all(b"GET /idle?size=3 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    for socket in [&mut idle, &mut used] {
        let mut rest = Vec::new();
        tokio::time::timeout(Duration::from_secs(60), socket.read_to_end(&mut rest)).await.expect("closed").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_is_let_go() {
    let bed = Bed::with(|config| config.timeouts.stall = Duration::from_millis(300)).await;
    let mut socket = TcpStream::connect(bed.address()).await.unwrap();
    socket.write_all(b"GET /never-read?size=50000000&cc=no-store HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    crate::bed::eventually("it reaches the origin", || bed.origin.ledger().read().total.requests == 1).await;
    bed.until_metric("nearside_connections_open 0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_is_misdirected_and_a_loop_is_detected() {
    let bed = Bed::with(|config| config.sites[0].hosts = vec!["www.example.org".parse().unwrap()]).await;
    let other = bed.get_with("/", &[("host", "other.org")]).await;
    assert_eq!((other.status.as_u16(), other.cache()), (421, "edge; detail=unknown-host"));
    let looping = bed.get_with("/", &[("cdn-loop", "edge, other")]).await;
    assert_eq!((looping.status.as_u16(), looping.cache()), (508, "edge; detail=loop"));
    assert_eq!(bed.get_with("/", &[("cdn-loop", "other")]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_is_its_own_origin_ends_in_508_and_not_for_ever() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let bed = Bed::with(|config| {
        config.listen = vec![address];
        config.sites[0].origins = vec![crate::bed::upstream(address)];
    })
    .await;
    let reply = tokio::time::timeout(Duration::from_secs(60), bed.get("/round")).await.expect("it ends");
    assert_eq!(reply.status, 508, "{reply:?}");
}

/// How a ClientHello begins: a handshake record, whose rest is still to come.
const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and so on";

/// Sends bytes, and nothing after them, and reads until the other side closes: long before any deadline.
async fn at_once(address: std::net::SocketAddr, pieces: &[&[u8]]) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    for piece in pieces {
        // Refused with an earlier piece, perhaps.
        let _ = socket.write_all(piece).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut answer)).await;
    let _ = read.unwrap_or_else(|_| panic!("{:?} is waited for", String::from_utf8_lossy(&pieces.concat())));
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn other_protocols_are_refused_as_soon_as_they_are_recognised() {
    // No deadline is shorter than the test's.
    let bed = Bed::with(|config| {
        config.timeouts.head = Duration::from_secs(120);
        config.timeouts.idle = Duration::from_secs(120);
    })
    .await;
    for (pieces, status, reason) in [
        (&[CLIENT_HELLO][..], "400", "tls-on-cleartext"),
        (&[b"\x16", b"\x03\x01"], "400", "tls-on-cleartext"),
        (&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], "505", "prior-knowledge"),
        (&[b"PRI * HTTP/2.0\r\n", b"\r\nSM\r\n\r\n\0\0\0\x04"], "505", "prior-knowledge"),
        (&[b"SSH-2.0-OpenSSH_9.6\r\n"], "400", "malformed"),
        (&[b"PROXY TCP4 192.0.2.1 192.0.2.2 50000 80\r\n"], "400", "proxy-protocol"),
        (&[b"PROXY TCP6 ::1 ::1 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"], "400", "proxy-protocol"),
        (&[b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"], "400", "proxy-protocol"),
        (&[b"EHLO mail.example.org\r\n"], "400", "malformed"),
        (&[b"{\"id\":1}"], "400", "malformed"),
        (&[b"\x05\x01\x00"], "400", "malformed"),
        (&[b"GET /\r\n"], "400", "malformed"),
    ] {
        let answer = String::from_utf8_lossy(&at_once(bed.address(), pieces).await).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{pieces:?}: {answer}");
        assert!(answer.contains(&format!("detail={reason}")) && answer.contains("connection: close"), "{answer}");
    }
    assert_eq!(bed.get("/well?size=1").await.body.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_clear_on_a_tls_listener_is_told_so() {
    let bed = Bed::with_tls().await;
    let address = bed.edge.tls_addresses()[0];
    for pieces in [&[&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..]][..], &[b"G"], &[b"PRI * HTTP/2.0\r\n\r\n"]] {
        let answer = String::from_utf8_lossy(&at_once(address, pieces).await).into_owned();
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("detail=http-on-tls"), "{answer}");
    }
    at_once(address, &[b"\0\0\0\0\0\0\0\0"]).await;
    bed.until_metric("nearside_tls_handshake_failures_total 4").await;
    assert_eq!(bed.ask(crate::bed::Speech::H1Tls, crate::bed::get("/well?size=1")).await.body.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_listener_keeps_nobody_waiting_who_speaks_otherwise() {
    let bed = Bed::new().await;
    let admin = bed.edge.admin_address().unwrap();
    for pieces in [
        CLIENT_HELLO,
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 50000 80\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let answer = String::from_utf8_lossy(&at_once(admin, &[pieces]).await).into_owned();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.1 505 "),
            "{answer}"
        );
    }
}

/// RFC 9112 §3.2.2: "the server MUST ignore the received Host header field".
#[tokio::test(flavor = "multi_thread")]
async fn the_host_of_a_target_in_absolute_form_goes_before_the_field() {
    let bed = Bed::new().await;
    let answer =
        bed.raw(b"POST http://one.example:80/_echo HTTP/1.1\r\nHost: two.example\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("one.example"), "{answer}");
    assert!(!answer.contains("two.example"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_make_place_for_others_where_all_places_are_taken() {
    let bed = Bed::with(|config| {
        config.limits.connections = 3;
        config.threads = 2;
    })
    .await;
    let mut clients = Vec::new();
    // All of them keep their connections, which are open for a minute without a request.
    for n in 0..30 {
        let mut client = TcpStream::connect(bed.address()).await.unwrap();
        client.write_all(format!("GET /{n}?size=5 HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = vec![0; 12];
        let read = tokio::time::timeout(Duration::from_secs(20), client.read_exact(&mut answer)).await;
        read.unwrap_or_else(|_| panic!("client {n} finds no place")).unwrap();
        assert_eq!(answer, b"HTTP/1.1 200", "{n}");
        clients.push(client);
    }
}
