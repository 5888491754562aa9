//! Every byte of every answer, by every protocol, alone and in a crowd.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use nearside_origin_sim::body;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bed::{Bed, SPEECHES, Speech, get, read};

const SIZES: [u64; 8] = [0, 1, 1024, 16_384, 65_535, 65_536, 65_537, 1 << 20];

#[tokio::test(flavor = "multi_thread")]
async fn every_size_arrives_byte_for_byte_on_every_protocol_as_miss_and_as_hit() {
    let bed = Bed::with_tls().await;
    for framing in ["", "&chunked"] {
        for (n, speech) in SPEECHES.into_iter().enumerate() {
            for size in SIZES {
                let path = format!("/body{n}?cc=max-age%3D60&size={size}&seed={size}{framing}");
                for expected in ["fwd=uri-miss", "; hit"] {
                    let reply = bed.ask(speech, get(&path)).await;
                    assert_eq!(reply.status, 200, "{speech:?} {path}");
                    assert_eq!(reply.body.len() as u64, size, "{speech:?} {path} {expected}");
                    assert_eq!(body::differs(size, 0, &reply.body), None, "{speech:?} {path} {expected}");
                    assert!(reply.cache().contains(expected), "{speech:?} {path}: {}", reply.cache());
                }
                assert_eq!(bed.asked(&path), 1, "{path}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_at_once_get_every_byte() {
    let bed = Arc::new(Bed::with_tls().await);
    for speech in SPEECHES {
        let crowds =
            [(64, 1024, true), (64, 65_537, true), (64, 200_001, false), (8, 1 << 20, true), (8, 3 << 20, false)];
        for (clients, size, store) in crowds {
            let directives = if store { "cc=max-age%3D60" } else { "cc=no-store" };
            let path = format!("/crowd-{speech:?}?{directives}&size={size}&seed=9");
            let crowd: Vec<_> = (0..clients)
                .map(|_| {
                    let (bed, path) = (Arc::clone(&bed), path.clone());
                    tokio::spawn(async move { bed.ask(speech, get(&path)).await })
                })
                .collect();
            for client in crowd {
                let reply = client.await.unwrap();
                assert_eq!(reply.body.len(), size, "{speech:?} {path}");
                assert_eq!(body::differs(9, 0, &reply.body), None, "{speech:?} {path}");
            }
            assert_eq!(bed.asked(&path), if store { 1 } else { clients }, "{speech:?} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_for_one_cold_object_are_one_request_to_the_origin() {
    let bed = Arc::new(Bed::new().await);
    let path = "/herd?cc=max-age%3D60&size=20000&seed=3&ttfb=300&rate=40000";
    let clients: Vec<_> = (0..1000)
        .map(|_| {
            let bed = Arc::clone(&bed);
            tokio::spawn(async move { bed.get(path).await })
        })
        .collect();
    for client in clients {
        let reply = client.await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 20_000));
        assert_eq!(body::differs(3, 0, &reply.body), None);
    }
    assert_eq!(bed.asked(path), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_get_the_first_bytes_while_the_origin_is_still_sending() {
    let bed = Bed::new().await;
    // Minutes of body: nobody who waits for its end would have a byte within the limit below.
    let path = "/slow?cc=max-age%3D60&size=10000000&seed=5&rate=50000";
    let mut leader = bed.send(Speech::H1, get(path)).await.unwrap();
    let mut follower = bed.send(Speech::H1, get(path)).await.unwrap();
    for response in [&mut leader, &mut follower] {
        let first = tokio::time::timeout(Duration::from_secs(60), response.body_mut().frame()).await;
        let bytes = first.expect("a byte in time").unwrap().unwrap().into_data().unwrap();
        assert!(!bytes.is_empty() && body::differs(5, 0, &bytes).is_none());
    }
    let told = |response: &hyper::Response<_>| response.headers()["cache-status"].to_str().unwrap().to_owned();
    assert!(told(&follower).contains("collapsed"), "{}", told(&follower));
    assert_eq!(bed.asked(path), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_holds_up_nobody() {
    let bed = Bed::new().await;
    let path = "/stalled?cc=max-age%3D60&size=8000000&seed=6";
    // It leads the fill and then reads nothing.
    let slow = bed.send(Speech::H1, get(path)).await.unwrap();
    let reply = tokio::time::timeout(Duration::from_secs(20), bed.get(path)).await.expect("not held up");
    assert_eq!((reply.body.len(), body::differs(6, 0, &reply.body)), (8_000_000, None));
    assert_eq!(bed.asked(path), 1);
    assert_eq!(body::differs(6, 0, &read(slow).await.unwrap().body), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_slow_but_does_not_stall_gets_all_of_it() {
    let bed = Bed::tls_with(|config| config.timeouts.stall = Duration::from_millis(1500)).await;
    let path = "/steady?cc=max-age%3D60&size=10000000&seed=6";
    bed.get(path).await;
    let wire = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", crate::bed::HOST);
    let clear = TcpStream::connect(bed.address()).await.unwrap();
    let (clear, tls) = tokio::join!(dawdle(clear, &wire), dawdle(bed.tls(b"http/1.1").await, &wire));
    for (length, body) in [clear, tls] {
        assert_eq!((length, body::differs(6, 0, &body)), (10_000_000, None));
    }
}

/// Takes half a megabyte a second for some seconds, so that the socket never counts as writable, then the rest.
async fn dawdle(mut io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, wire: &str) -> (usize, Vec<u8>) {
    io.write_all(wire.as_bytes()).await.unwrap();
    let (mut got, mut piece) = (Vec::new(), vec![0; 50_000]);
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let read = io.read(&mut piece).await.expect("it is not let go");
        got.extend_from_slice(&piece[..read]);
    }
    io.read_to_end(&mut got).await.expect("it is not cut");
    let end = got.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let body = got.split_off(end);
    (body.len(), body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_leaves_does_not_end_the_fill() {
    let bed = Bed::new().await;
    let path = "/left?cc=max-age%3D60&size=300000&seed=8&rate=600000";
    drop(bed.send(Speech::H1, get(path)).await.unwrap());
    let reply = bed.get(path).await;
    assert_eq!((reply.body.len(), body::differs(8, 0, &reply.body)), (300_000, None));
    assert_eq!(bed.asked(path), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_larger_than_the_cache_streams_through_in_bounded_memory() {
    let bed = Bed::with(|config| config.cache = nearside_config::Cache::of(4 << 20)).await;
    for framing in ["", "&chunked"] {
        let path = format!("/large{framing}?cc=max-age%3D60&size=30000000&seed=4{framing}");
        let mut response = bed.send(Speech::H1, get(&path)).await.unwrap();
        let mut at = 0;
        while let Some(frame) = response.body_mut().frame().await {
            let bytes = frame.unwrap().into_data().unwrap();
            assert_eq!(body::differs(4, at, &bytes), None);
            at += bytes.len() as u64;
        }
        assert_eq!(at, 30_000_000);
        let metrics = bed.admin(http::Method::GET, "/metrics", "").await;
        let text = String::from_utf8(metrics.body.to_vec()).unwrap();
        let bytes = text.lines().find_map(|line| line.strip_prefix("nearside_cache_bytes ")).unwrap();
        assert!(bytes.parse::<u64>().unwrap() <= 4 << 20, "{bytes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let bed = Bed::new().await;
    let mut wire = Vec::new();
    for n in 0..20 {
        // Hits, misses, heads and a post in turn.
        let request = match n % 4 {
            0 => format!("GET /p?cc=max-age%3D60&size=10&seed=0 HTTP/1.1\r\nHost: a\r\nX-N: {n}\r\n\r\n"),
            1 => format!("GET /p{n}?cc=max-age%3D60&size={n} HTTP/1.1\r\nHost: a\r\n\r\n"),
            2 => format!("HEAD /p{n}?size={n} HTTP/1.1\r\nHost: a\r\n\r\n"),
            _ => format!("POST /p{n}?size={n} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
        };
        wire.extend_from_slice(request.as_bytes());
    }
    wire.extend_from_slice(b"GET /last?size=3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut socket = TcpStream::connect(bed.address()).await.unwrap();
    socket.write_all(&wire).await.unwrap();
    let mut answers = Vec::new();
    socket.read_to_end(&mut answers).await.unwrap();
    let mut rest = answers.as_slice();
    for n in 0..=20_u64 {
        let end = rest.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
        let head = String::from_utf8_lossy(&rest[..end]).to_lowercase();
        assert!(head.starts_with("http/1.1 200 "), "{n}: {head}");
        let length: u64 = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
        let expected = match n {
            20 => 3,
            n if n % 4 == 0 => 10,
            n => n,
        };
        assert_eq!(length, expected, "{n}");
        let sent = if n % 4 == 2 && n < 20 { 0 } else { usize::try_from(length).unwrap() };
        assert_eq!(body::differs(0, 0, &rest[end..end + sent]), None, "{n}");
        rest = &rest[end + sent..];
    }
    assert!(rest.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_arrive_byte_by_byte_are_whole_stored_or_not() {
    const BYTES: usize = 50_000;
    let text: String = (0..BYTES).map(|at| char::from(b'a' + u8::try_from(at % 23).unwrap())).collect();
    let chunked: String = text.chars().map(|c| format!("1\r\n{c}\r\n")).chain(["0\r\n\r\n".to_owned()]).collect();
    let script = move |head: &str| {
        let control = if head.contains("/stored") { "max-age=60" } else { "no-store" };
        format!(
            "HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\nconnection: close\r\ncache-control: {control}\r\n\r\n{chunked}"
        )
    };
    let bed = Bed::scripted(script, |_| {}).await;
    for path in ["/stored", "/stored", "/passing"] {
        let (one, two) = tokio::join!(bed.get(path), bed.get(path));
        for reply in [one, two] {
            assert_eq!(reply.body.len(), BYTES, "{path}");
            assert!(reply.body == text.as_bytes(), "{path}");
        }
    }
    assert!(bed.get("/stored").await.cache().contains("; hit"));
}
