//! Each directive, over a real socket.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking; their helpers do too"
)]

use nearside_origin_sim::{OriginSim, body};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn origin() -> OriginSim {
    OriginSim::start("127.0.0.1:0".parse().unwrap()).await.unwrap()
}

/// What an origin sends for a request with `Connection: close`: head in lower case, and body; `Err` where the
/// connection is reset.
async fn ask(origin: &OriginSim, method: &str, target: &str, fields: &str) -> std::io::Result<(String, Vec<u8>)> {
    let mut socket = TcpStream::connect(origin.address()).await?;
    let head = format!("{method} {target} HTTP/1.1\r\nHost: o\r\nConnection: close\r\n{fields}\r\n");
    socket.write_all(head.as_bytes()).await?;
    let mut wire = Vec::new();
    socket.read_to_end(&mut wire).await?;
    let end = wire.windows(4).position(|w| w == b"\r\n\r\n").map_or(wire.len(), |at| at + 4);
    Ok((String::from_utf8_lossy(&wire[..end]).to_lowercase(), wire[end..].to_vec()))
}

async fn get(origin: &OriginSim, target: &str) -> (String, Vec<u8>) {
    ask(origin, "GET", target, "").await.unwrap()
}

#[tokio::test]
async fn fields_status_and_bodies_are_what_the_query_says() {
    let origin = origin().await;
    let target =
        "/a?cc=max-age%3D60&age=5&etag=t&vary=X-A&tag=k1+k2&set-cookie&header.X-B=c&status=404&size=300&seed=9";
    let (head, bytes) = get(&origin, target).await;
    assert!(head.starts_with("http/1.1 404 "));
    for line in [
        "cache-control: max-age=60",
        "age: 5",
        "etag: \"t\"",
        "vary: x-a",
        "surrogate-key: k1 k2",
        "set-cookie: sim=1",
        "x-b: c",
        "content-length: 300",
    ] {
        assert!(head.contains(line), "{line}: {head}");
    }
    assert_eq!(bytes, body::bytes(9, 0, 300));
    let other = ask(&origin, "GET", target, "X-A: 1\r\n").await.unwrap().1;
    assert_ne!(other, bytes, "what varies has other bytes");
    assert!(get(&origin, "/a?lm=100").await.0.contains("last-modified: "));
    assert!(get(&origin, "/a?size=x").await.0.starts_with("http/1.1 400 "));
}

#[tokio::test]
async fn ranges_and_conditions_by_the_book() {
    let origin = origin().await;
    let target = "/r?size=1000&seed=2&etag=t";
    for (fields, status, start, end) in [
        ("Range: bytes=10-19\r\n", "206", 10, 20),
        ("Range: bytes=-5\r\n", "206", 995, 1000),
        ("Range: bytes=990-\r\n", "206", 990, 1000),
        ("Range: bytes=10-19\r\nIf-Range: \"t\"\r\n", "206", 10, 20),
        ("Range: bytes=10-19\r\nIf-Range: \"u\"\r\n", "200", 0, 1000),
        ("Range: bytes=1000-\r\n", "416", 0, 0),
        ("If-None-Match: W/\"t\"\r\n", "304", 0, 0),
        ("If-None-Match: \"u\"\r\n", "200", 0, 1000),
    ] {
        let (head, bytes) = ask(&origin, "GET", target, fields).await.unwrap();
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{fields}: {head}");
        assert_eq!(bytes, body::bytes(2, start, end), "{fields}");
    }
}

#[tokio::test]
async fn faults_break_what_they_say() {
    let origin = origin().await;
    assert_eq!(get(&origin, "/f?size=1000&cut=100").await.1, body::bytes(0, 0, 100));
    assert!(ask(&origin, "GET", "/f?size=1000&reset=100", "").await.is_err());
    assert!(get(&origin, "/f?garbage").await.0.contains("no http"));
    let (head, bytes) = get(&origin, "/f?size=50&wrong-length").await;
    assert!(head.contains("content-length: 50") && bytes.len() == 60, "{head}");
    let silent = tokio::time::timeout(std::time::Duration::from_millis(300), get(&origin, "/f?hang")).await;
    assert!(silent.is_err());
    let (head, bytes) = get(&origin, "/f?size=5&chunked").await;
    assert!(head.contains("transfer-encoding: chunked") && bytes.ends_with(b"0\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn times_and_rates_are_kept() {
    let origin = origin().await;
    for (target, at_least) in [("/t?ttfb=200", 200), ("/t?delay=200", 200), ("/t?size=1000&rate=5000", 150)] {
        let begin = tokio::time::Instant::now();
        get(&origin, target).await;
        assert!(begin.elapsed().as_millis() >= at_least, "{target}: {:?}", begin.elapsed());
    }
}

#[tokio::test]
async fn versions_rise_when_they_are_bumped() {
    let origin = origin().await;
    let first = get(&origin, "/v?version").await;
    assert!(first.0.contains("etag: \"v1\""));
    assert_eq!(ask(&origin, "POST", "/_bump?key=/v", "Content-Length: 0\r\n").await.unwrap().1, b"2\n");
    let second = get(&origin, "/v?version").await;
    assert!(second.0.contains("etag: \"v2\"") && second.1 != first.1);
    assert!(get(&origin, "/w?version").await.0.contains("etag: \"v1\""), "each path has its own");
}

#[tokio::test]
async fn the_ledger_counts_what_comes_in_and_can_be_emptied() {
    let origin = origin().await;
    let slow = "/l?size=10&ttfb=100";
    tokio::join!(get(&origin, slow), get(&origin, slow), get(&origin, "/other"));
    let page: serde_json::Value = serde_json::from_slice(&get(&origin, "/_ledger").await.1).unwrap();
    assert_eq!(page["paths"][slow], serde_json::json!({ "requests": 2, "peak_concurrency": 2, "bytes": 20 }));
    assert_eq!((&page["total"]["requests"], &page["total"]["bytes"]), (&3.into(), &(20 + 1024).into()));
    ask(&origin, "POST", "/_ledger/reset", "Content-Length: 0\r\n").await.unwrap();
    assert_eq!(origin.ledger().read().total.requests, 0);
    assert!(origin.ledger().read().paths.is_empty());
}

#[tokio::test]
async fn the_demo_site_is_whole_and_has_no_foreign_assets() {
    let origin = origin().await;
    let (head, page) = get(&origin, "/").await;
    assert!(head.contains("text/html") && head.contains("s-maxage=300"), "{head}");
    let page = String::from_utf8(page).unwrap();
    assert!(!page.contains("http://") && !page.contains("https://"));
    assert_eq!(origin.ledger().of("/").bytes, page.len() as u64);
    for link in page.split(['"']).filter(|part| part.starts_with('/')) {
        assert!(get(&origin, link).await.0.starts_with("http/1.1 200 "), "{link}");
    }
}
