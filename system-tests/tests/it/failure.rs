//! Origins that fail: clients get something lawful or an honest error, and never a short body that looks whole.

use std::time::Duration;

use nearside_origin_sim::{OriginSim, body};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::bed::{Bed, Speech, get, loopback, upstream};

/// Whether a client sees that the answer is not whole: by how it ends, or, if nothing of it was sent yet, by a 502.
async fn is_cut(bed: &Bed, speech: Speech, path: &str) -> bool {
    match bed.send(speech, get(path)).await {
        Ok(response) => response.status() == 502 || crate::bed::read(response).await.is_err(),
        Err(_) => true,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_never_stored_and_never_looks_whole() {
    let bed = Bed::with_tls().await;
    for fault in ["cut=5000", "reset=5000", "cut=5000&chunked", "cut=0"] {
        for speech in [Speech::H1, Speech::H1Tls, Speech::H2] {
            for cc in ["max-age%3D60", "no-store"] {
                let path = format!("/cut-{speech:?}?cc={cc}&size=200000&{fault}");
                assert!(is_cut(&bed, speech, &path).await, "{path}");
                assert!(is_cut(&bed, speech, &path).await, "{path} again: it was stored");
                assert!(bed.asked(&path) >= 2, "{path}");
            }
        }
    }
    assert_eq!(bed.get("/well?size=10").await.body.len(), 10, "the edge is well");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_clients_get_no_chunks_and_see_a_cut_as_an_error() {
    let chunked = |_: &str| {
        let chunk = "x".repeat(500);
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1f4\r\n{chunk}\r\n1f4\r\n{chunk}\r\n0\r\n\r\n")
    };
    let origin = crate::bed::scripted(Duration::ZERO, chunked).await;
    let old = Bed::with(|config| config.sites[0].origins = vec![upstream(origin)]).await;
    let mut socket = TcpStream::connect(old.address()).await.unwrap();
    socket.write_all(b"GET /old HTTP/1.0\r\nHost: a\r\n\r\n").await.unwrap();
    let mut whole = String::new();
    socket.read_to_string(&mut whole).await.expect("a good end is no reset");
    let bed = Bed::new().await;
    let (head, text) = whole.split_once("\r\n\r\n").unwrap();
    assert!(!head.to_lowercase().contains("transfer-encoding") && head.contains("connection: close"), "{head}");
    assert_eq!((text.len(), text), (1000, "x".repeat(1000).as_str()));

    let mut socket = TcpStream::connect(bed.address()).await.unwrap();
    socket.write_all(b"GET /old-cut?chunked&size=100000&cut=5000 HTTP/1.0\r\nHost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    assert!(
        socket.read_to_end(&mut answer).await.is_err(),
        "the end of the connection would look like the end of the body"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_or_says_too_much_reaches_nobody() {
    let bed = Bed::new().await;
    let garbage = bed.get("/garbage?garbage").await;
    assert_eq!(garbage.status, 502);
    assert!(garbage.cache().contains("detail=upstream-malformed"), "{}", garbage.cache());
    for path in ["/long?wrong-length&size=100&seed=1&cc=max-age%3D60", "/long2?wrong-length&size=100&seed=1"] {
        for _ in 0..2 {
            let reply = bed.get(path).await;
            assert_eq!(
                (reply.body.len(), body::differs(1, 0, &reply.body)),
                (100, None),
                "the excess leaks into nothing"
            );
        }
    }
}

/// An origin that sends `answer` to whoever connects.
async fn raw_origin(answer: &'static [u8]) -> std::net::SocketAddr {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let _ = socket.read(&mut head).await;
                let _ = socket.write_all(answer).await;
                let _ = socket.shutdown().await;
                let _ = socket.read(&mut head).await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_chunked_answer_is_not_a_complete_one() {
    // An empty size line is no last chunk: pingora's reader takes it for one.
    let origin = raw_origin(
        b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n\r\n\r\n",
    )
    .await;
    let bed = Bed::with(|config| config.sites[0].origins = vec![upstream(origin)]).await;
    for _ in 0..2 {
        assert!(is_cut(&bed, Speech::H1, "/broken").await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_two_lengths_is_refused() {
    let origin = raw_origin(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!").await;
    let bed = Bed::with(|config| config.sites[0].origins = vec![upstream(origin)]).await;
    assert_eq!(bed.get("/two").await.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_is_down_is_a_502_with_its_reason_and_back_when_it_is_back() {
    let gone = OriginSim::start(loopback()).await.unwrap();
    let address = gone.address();
    drop(gone);
    let bed = Bed::with(|config| config.sites[0].origins = vec![upstream(address)]).await;
    let reply = bed.get("/down").await;
    assert_eq!((reply.status.as_u16(), reply.field("cache-control")), (502, "no-store"));
    assert!(reply.cache().contains("detail=upstream-connect"), "{}", reply.cache());
    assert!(!reply.body.is_empty());
    let _back = OriginSim::start(address).await.unwrap();
    assert_eq!(bed.get("/down").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_does_not_resolve_is_a_502_with_its_reason() {
    let bed = Bed::with(|config| config.sites[0].origins = vec!["http://no-such-host.invalid".parse().unwrap()]).await;
    let reply = bed.get("/name").await;
    assert_eq!(reply.status, 502);
    assert!(reply.cache().contains("detail=upstream-name"), "{}", reply.cache());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_origin_is_asked_when_the_first_cannot_be_reached() {
    let gone = OriginSim::start(loopback()).await.unwrap();
    let address = gone.address();
    drop(gone);
    let bed = Bed::with(|config| config.sites[0].origins.insert(0, upstream(address))).await;
    assert_eq!(bed.get("/second?size=5").await.body.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_is_silent_is_a_504_within_the_limit() {
    let bed = Bed::with(|config| config.timeouts.first_byte = Duration::from_millis(200)).await;
    let reply = tokio::time::timeout(Duration::from_secs(60), bed.get("/hang?hang")).await.expect("in time");
    assert_eq!(reply.status, 504);
    assert!(reply.cache().contains("detail=upstream-timeout"), "{}", reply.cache());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_stops_in_the_middle_is_cut_within_the_limit() {
    let bed = Bed::with(|config| config.timeouts.between_bytes = Duration::from_millis(200)).await;
    let path = "/stops?size=1000&delay=60000&cc=max-age%3D60";
    let cut = tokio::time::timeout(Duration::from_secs(60), is_cut(&bed, Speech::H1, path)).await;
    assert!(cut.expect("in time"));
}

#[tokio::test(flavor = "multi_thread")]
async fn something_stale_is_served_when_the_origin_fails_and_only_where_that_is_allowed() {
    for (cc, allowed) in [
        ("max-age%3D60", true),
        ("max-age%3D60,stale-if-error%3D600", true),
        ("max-age%3D60,stale-if-error%3D10", false),
        ("max-age%3D60,must-revalidate", false),
        ("s-maxage%3D60", false),
        ("no-cache", false),
    ] {
        let mut bed = Bed::new().await;
        let path = format!("/stale?cc={cc}&etag=a&size=100&seed=1");
        bed.get(&path).await;
        bed.advance(100);
        bed.origin = OriginSim::start(loopback()).await.unwrap();
        let reply = bed.get(&path).await;
        if allowed {
            assert_eq!((reply.status.as_u16(), body::differs(1, 0, &reply.body)), (200, None), "{cc}");
            assert_eq!((reply.body.len(), reply.field("age")), (100, "100"), "{cc}");
            assert!(reply.cache().contains("detail=upstream-"), "{cc}: {}", reply.cache());
        } else {
            assert_eq!(reply.status, 502, "{cc}");
            assert_eq!(reply.field("etag"), "", "{cc}: nothing of what is stored");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_origin_does_not_replace_something_that_may_be_served_stale() {
    let origin = raw_origin(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nsick").await;
    let sim = OriginSim::start(loopback()).await.unwrap();
    let first = upstream(sim.address());
    let mut sim = Some(sim);
    let mut bed = Bed::with(|config| config.sites[0].origins = vec![first, upstream(origin)]).await;
    let path = "/sick?cc=max-age%3D60&size=100&seed=1";
    bed.get(path).await;
    bed.advance(100);
    sim.take();
    let reply = bed.get(path).await;
    assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 100));
    assert!(reply.cache().contains("fwd=stale; fwd-status=503; ttl=-40; detail=upstream-error"), "{}", reply.cache());
    assert_eq!(bed.get("/unknown").await.body, "sick", "without a stored answer it is passed on");
}
