//! What is for one client stays with that client: answers that must not be shared, stored, or reached by a detour.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bed::{Bed, answer, eventually, scripted, upstream};

async fn bed(delay: Duration, script: impl Fn(&str) -> String + Send + Sync + 'static) -> Bed {
    let origin = scripted(delay, script).await;
    Bed::with(|config| config.sites[0].origins = vec![upstream(origin)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_that_comes_with_a_304_is_for_the_one_who_asked() {
    let script = |head: &str| {
        if head.contains("if-none-match") {
            answer(304, "etag: \"a\"\r\nset-cookie: sid=leader\r\n", "")
        } else {
            answer(200, "etag: \"a\"\r\ncache-control: max-age=60\r\n", "page")
        }
    };
    let mut bed = bed(Duration::from_millis(200), script).await;
    bed.get("/").await;
    bed.advance(100);
    let bed = Arc::new(bed);
    let ask = |_| {
        let bed = Arc::clone(&bed);
        tokio::spawn(async move { bed.get("/").await })
    };
    let mut cookies = 0;
    for task in (0..10).map(ask).collect::<Vec<_>>() {
        let reply = task.await.unwrap();
        assert_eq!(reply.body, "page");
        cookies += usize::from(reply.fields.contains_key("set-cookie"));
    }
    assert_eq!(cookies, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_a_condition_or_a_range_is_never_stored_for_all() {
    let script = |head: &str| {
        let fields = "cache-control: max-age=60\r\n";
        if head.contains("x-own") {
            answer(200, "cache-control: no-store\r\n", "own")
        } else if head.contains("if-match") {
            answer(412, fields, "no")
        } else if head.contains("range: bytes=9") {
            answer(416, fields, "no")
        } else {
            answer(200, fields, "page")
        }
    };
    let bed = bed(Duration::ZERO, script).await;
    // After an answer that could not be stored, requests go forward as they came.
    assert_eq!(bed.get_with("/", &[("x-own", "1")]).await.body, "own");
    assert_eq!(bed.get_with("/", &[("if-match", "\"x\"")]).await.status, 412);
    assert_eq!(bed.get_with("/", &[("range", "bytes=999-")]).await.status, 416);
    assert_eq!(bed.get("/").await.body, "page");
    assert!(bed.get("/").await.cache().contains("; hit"), "a whole answer is stored again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_overtakes_a_request_that_went_forward_alone() {
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let script = move |head: &str| {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if head.contains("x-own") {
            answer(200, "cache-control: no-store\r\n", "own")
        } else {
            answer(200, "cache-control: max-age=60\r\n", "old")
        }
    };
    let bed = Arc::new(bed(Duration::from_millis(400), script).await);
    assert_eq!(bed.get_with("/", &[("x-own", "1")]).await.body, "own");
    let waiting = tokio::spawn({
        let bed = Arc::clone(&bed);
        async move { bed.get("/").await }
    });
    eventually("it is on its way", || asked.load(std::sync::atomic::Ordering::SeqCst) == 2).await;
    bed.purge("/").await;
    assert_eq!(waiting.await.unwrap().body, "old");
    assert!(bed.get("/").await.cache().contains("fwd=uri-miss"), "what was purged is not there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_does_not_go_forward_selects_no_variant() {
    let script = |head: &str| {
        let seen = if head.contains("x-lang: de") { "de" } else { "none" };
        answer(200, "cache-control: max-age=60\r\nvary: X-Lang\r\n", seen)
    };
    let bed = bed(Duration::ZERO, script).await;
    assert_eq!(bed.get_with("/", &[("x-lang", "de"), ("connection", "x-lang")]).await.body, "none");
    assert_eq!(bed.get_with("/", &[("x-lang", "de")]).await.body, "de");
    assert_eq!(bed.get("/").await.body, "none");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_varies_on_fields_that_the_edge_writes_is_not_stored() {
    let bed = bed(Duration::ZERO, |_| answer(200, "cache-control: max-age=60\r\nvary: X-Forwarded-For\r\n", "x")).await;
    for _ in 0..2 {
        assert!(bed.get("/").await.cache().contains("detail=vary-all"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_304_that_adds_vary_ends_sharing_across_it() {
    let script = |head: &str| {
        if head.contains("if-none-match") {
            answer(304, "etag: \"a\"\r\nvary: X-Lang\r\ncache-control: max-age=60\r\n", "")
        } else {
            let seen = if head.contains("x-lang: de") { "de" } else { "none" };
            answer(200, "etag: \"a\"\r\ncache-control: max-age=60\r\n", seen)
        }
    };
    let mut bed = bed(Duration::ZERO, script).await;
    assert_eq!(bed.get("/").await.body, "none");
    bed.advance(100);
    assert_eq!(bed.get("/").await.body, "none");
    assert_eq!(bed.get_with("/", &[("x-lang", "de")]).await.body, "de");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_turns_out_too_large_reaches_its_leader_with_one_request() {
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    let body = "x".repeat(5000);
    // Head and body in one piece, so that the body is there before the leader has moved.
    let origin = scripted(Duration::ZERO, move |_| {
        seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        format!("HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n1388\r\n{body}\r\n0\r\n\r\n")
    })
    .await;
    let bed = Bed::with(|config| {
        config.sites[0].origins = vec![upstream(origin)];
        config.cache.object_bytes_max = 1000;
    })
    .await;
    let reply = bed.get("/").await;
    assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 5000));
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_brings_nothing_storable_leaves_nothing_behind() {
    let large = "x".repeat(8 << 20);
    let ended = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let script = move |head: &str| {
        if head.contains("if-none-match") {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            answer(200, "cache-control: private\r\n", &large)
        } else {
            answer(200, "etag: \"a\"\r\ncache-control: max-age=60, stale-while-revalidate=600\r\n", "page")
        }
    };
    let mut bed = bed(Duration::ZERO, script).await;
    for round in 1..=3 {
        // The last refresh brought a whole answer for one client only: what was stored is of no use any more.
        assert!(bed.get("/").await.cache().contains("fwd=uri-miss"));
        bed.advance(100);
        assert_eq!(bed.get("/").await.body, "page");
        eventually("the refresh is sent", || ended.load(std::sync::atomic::Ordering::SeqCst) >= round).await;
        bed.until_idle().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_websocket_opens_a_tunnel() {
    let script = |head: &str| {
        if head.contains("upgrade: h2c") {
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n".to_owned()
        } else {
            answer(200, "cache-control: no-store\r\n", "plain")
        }
    };
    let bed = bed(Duration::ZERO, script).await;
    let mut socket = TcpStream::connect(bed.address()).await.unwrap();
    let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut reply = String::new();
    socket.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 ") && reply.ends_with("plain"), "{reply}");
}
