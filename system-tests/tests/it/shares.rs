//! No client takes more than its share of the origin and of the memory, and none makes the origin send what nobody reads.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::bed::{Bed, HOST, Speech, answer, connect_from, eventually, get, get_with, read, send_h1, served, upstream};

/// A connection to `to` that comes from another address than the other clients of these tests.
async fn from_elsewhere(to: SocketAddr) -> TcpStream {
    connect_from(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), to).await
}

/// An origin that never answers, but for pages.
async fn hanging() -> (SocketAddr, Arc<AtomicUsize>) {
    let hanging = Arc::new(AtomicUsize::new(0));
    let begun = Arc::clone(&hanging);
    let origin = served(move |head, mut socket| {
        let begun = Arc::clone(&begun);
        async move {
            if head.contains(" /page") {
                let _ = socket.write_all(answer(200, "cache-control: no-store\r\n", "page").as_bytes()).await;
                return;
            }
            begun.fetch_add(1, Ordering::SeqCst);
            while socket.read(&mut [0; 1024]).await.unwrap_or(0) > 0 {}
        }
    })
    .await;
    (origin, hanging)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_holds_all_places_at_the_origin_loses_some_to_another() {
    let (origin, begun) = hanging().await;
    let bed = Bed::with(|config| {
        config.sites[0].origins = vec![upstream(origin)];
        config.origins.concurrency = 9;
        config.origins.queue_wait = Duration::from_secs(60);
    })
    .await;
    let mut hogs = Vec::new();
    for n in 0..20 {
        let mut socket = TcpStream::connect(bed.address()).await.unwrap();
        socket.write_all(format!("GET /hang{n} HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
        hogs.push(socket);
    }
    eventually("all places are taken", || begun.load(Ordering::SeqCst) >= 8).await;
    for n in 0..3 {
        let io = from_elsewhere(bed.address()).await;
        let reply = read(send_h1(io, get(&format!("/page{n}"))).await.unwrap()).await.unwrap();
        assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"page"[..]), "{}", reply.cache());
    }
    let mut refused = vec![0; 12];
    hogs[0].read_exact(&mut refused).await.unwrap();
    assert_eq!(refused, b"HTTP/1.1 503", "the oldest request of the other client has lost its place");
}

/// A response of 64 MiB of which the origin sends two, and then waits; and whether its connection was closed.
async fn long() -> (SocketAddr, Arc<AtomicUsize>, Arc<AtomicBool>) {
    let (asked, closed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (seen, gone) = (Arc::clone(&asked), Arc::clone(&closed));
    let origin = served(move |head, mut socket| {
        let (seen, gone) = (Arc::clone(&seen), Arc::clone(&gone));
        async move {
            seen.fetch_add(1, Ordering::SeqCst);
            let length =
                "HTTP/1.1 200 OK\r\ncontent-length: 67108864\r\ncache-control: max-age=60\r\netag: \"a\"\r\n\r\n";
            let _ = socket.write_all(length.as_bytes()).await;
            if head.starts_with("HEAD") {
                return;
            }
            let _ = socket.write_all(&vec![b'x'; 2 << 20]).await;
            while socket.read(&mut [0; 1024]).await.unwrap_or(0) > 0 {}
            gone.store(true, Ordering::SeqCst);
        }
    })
    .await;
    (origin, asked, closed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_nobody_reads_any_more_is_not_fetched_to_its_end() {
    for range in ["", "range: bytes=0-0\r\n"] {
        let (origin, asked, closed) = long().await;
        let bed = Bed::with(|config| {
            config.sites[0].origins = vec![upstream(origin)];
            config.cache = nearside_config::Cache::of(512 << 20);
        })
        .await;
        let mut socket = TcpStream::connect(bed.address()).await.unwrap();
        socket.write_all(format!("GET /long HTTP/1.1\r\nhost: {HOST}\r\n{range}\r\n").as_bytes()).await.unwrap();
        socket.read_exact(&mut [0; 100]).await.unwrap();
        drop(socket);
        eventually("the connection to the origin is closed", || closed.load(Ordering::SeqCst)).await;
        bed.until_idle().await;
        // The next one is not told of what was begun before.
        let mut next = TcpStream::connect(bed.address()).await.unwrap();
        next.write_all(format!("GET /long HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
        next.read_exact(&mut vec![0; 1 << 20]).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 2, "{range}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_bodies_are_fetched_to_their_end_though_their_client_has_left() {
    let bed = Bed::new().await;
    let path = "/small?cc=max-age%3D60&size=500000&seed=1&rate=1000000";
    let mut socket = TcpStream::connect(bed.address()).await.unwrap();
    socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    socket.read_exact(&mut [0; 100]).await.unwrap();
    drop(socket);
    bed.until_idle().await;
    assert_eq!(bed.get(path).await.body.len(), 500_000);
    assert_eq!(bed.asked(path), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_request_and_the_first_range_far_into_a_body_go_forward_as_they_are() {
    let (log, seen) = tokio::sync::mpsc::unbounded_channel();
    let origin = served(move |head, mut socket| {
        let log = log.clone();
        async move {
            let range = head.lines().find_map(|line| line.strip_prefix("range: ")).map(str::to_owned);
            let fields = "cache-control: max-age=60\r\netag: \"a\"\r\n";
            let reply = match &range {
                Some(_) => answer(206, &format!("{fields}content-range: bytes 2000000-2000003/2000010\r\n"), "part"),
                None if head.starts_with("HEAD") => answer(200, fields, ""),
                None => answer(200, fields, &"x".repeat(2_000_010)),
            };
            log.send((head.split(' ').next().unwrap_or_default().to_owned(), range)).unwrap();
            let _ = socket.write_all(reply.as_bytes()).await;
        }
    })
    .await;
    let mut seen = seen;
    let bed = Bed::with(|config| config.sites[0].origins = vec![upstream(origin)]).await;
    let mut next = || seen.try_recv().ok();
    let mut head = get("/head");
    *head.method_mut() = Method::HEAD;
    for method in ["HEAD", "GET"] {
        assert_eq!(bed.ask(Speech::H1, head.clone()).await.status, 200);
        assert_eq!(next(), Some((method.to_owned(), None)), "the second one fetches the whole");
    }
    // A download often begins with a HEAD: the first range is still the first one.
    *head.uri_mut() = "/range".parse().unwrap();
    assert_eq!(bed.ask(Speech::H1, head).await.status, 200);
    assert_eq!(next(), Some(("HEAD".to_owned(), None)));
    let range = "bytes=2000000-2000003";
    let part = || bed.ask(Speech::H1, get_with("/range", &[("range", range)]));
    let first = part().await;
    assert_eq!((first.status.as_u16(), &first.body[..]), (206, &b"part"[..]), "{}", first.cache());
    assert_eq!(next(), Some(("GET".to_owned(), Some(range.to_owned()))));
    let second = part().await;
    assert_eq!((second.status.as_u16(), &second.body[..]), (206, &b"xxxx"[..]), "{}", second.cache());
    assert_eq!(next(), Some(("GET".to_owned(), None)), "the second one fetches the whole");
    assert!(part().await.cache().contains("hit"));
    assert_eq!(next(), None);
}

/// A client that asks for `path` and reads nothing but the head of the response.
async fn idle_reader(bed: &Bed, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut socket = socket.connect(bed.address()).await.unwrap();
    socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    socket.read_exact(&mut [0; 100]).await.unwrap();
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_of_large_bodies_keep_nothing_else_out_of_the_cache() {
    let bed = Bed::with(|config| config.cache = nearside_config::Cache::of(128 << 20)).await;
    let page = |n: usize| format!("/page{n}?cc=max-age%3D60&size=10000");
    let large = |n: usize| format!("/large{n}?cc=max-age%3D60&size=25000000&seed={n}");
    for n in 0..20 {
        bed.get(&page(n)).await;
    }
    let mut readers = Vec::new();
    for n in 0..6 {
        readers.push(idle_reader(&bed, &large(n)).await);
    }
    eventually("the bodies that are stored are whole", || bed.asked(&large(5)) == 1).await;
    for n in 0..20 {
        assert!(bed.get(&page(n)).await.cache().contains("hit"), "page {n}");
    }
    // Who asks for more makes the slow ones give way in time.
    let mut hits = 0;
    for _ in 0..600 {
        if bed.get(&large(9)).await.cache().contains("hit") {
            hits += 1;
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(hits, 1, "a large body finds room again");
}
