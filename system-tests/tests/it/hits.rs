//! Hits that come in a row on one connection, faster than the client takes them or in pieces.

use std::time::Duration;

use nearside_origin_sim::body;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::bed::{Bed, HOST, get};

/// The next answer on a connection: status, cache status, body.
async fn next(io: &mut (impl AsyncRead + Unpin), head_only: bool) -> (u16, String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.expect("an answer"));
    }
    let head = String::from_utf8(head).unwrap();
    let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").to_owned();
    let length: usize = field("content-length: ").parse().unwrap_or(0);
    let mut body = vec![0; if head_only || status == 304 { 0 } else { length }];
    io.read_exact(&mut body).await.expect("a whole body");
    (status, field("cache-status: "), body)
}

fn request(method: &str, target: &str, fields: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_a_row_are_answered_in_order_wherever_their_bytes_are_cut() {
    let bed = Bed::new().await;
    let (small, large) = ("/s?cc=max-age%3D60&size=100&seed=1&etag=one", "/l?cc=max-age%3D60&size=70000&seed=2");
    let etag = bed.get(small).await.field("etag").to_owned();
    bed.get(large).await;
    let condition = format!("If-None-Match: {etag}\r\n");
    let row = [
        (request("GET", small, ""), 200, 1, 0..100),
        (request("HEAD", small, ""), 200, 1, 0..0),
        (request("GET", small, &condition), 304, 1, 0..0),
        (request("GET", large, "Range: bytes=65000-65999\r\n"), 206, 2, 65_000..66_000),
        (format!("\r\n{}", request("GET", large, "Accept-Encoding: gzip\r\n")), 200, 2, 0..70_000),
        (request("GET", "/n?cc=no-store&size=50&seed=3", ""), 200, 3, 0..50),
        (request("GET", small, "Range: bytes=200-\r\n"), 416, 1, 0..0),
        (request("POST", "/p?size=5&seed=4", "Content-Length: 5\r\n") + "GET /", 200, 4, 0..5),
        (request("GET", small, "Range: bytes=0-1, 50-51\r\n"), 206, 0, 0..0),
        (request("HEAD", large, "Range: bytes=0-1\r\n"), 200, 2, 0..0),
        (request("GET", small, "Connection: close\r\n"), 200, 1, 0..100),
        (request("GET", large, ""), 0, 0, 0..0),
    ];
    let wire: String = row.iter().map(|(request, ..)| request.as_str()).collect();
    for cut in (0..=wire.len()).step_by(11) {
        let socket = TcpStream::connect(bed.address()).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let (read, mut write) = socket.into_split();
        let (first, second) = wire.split_at(cut);
        write.write_all(first.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
        write.write_all(second.as_bytes()).await.unwrap();
        let mut answers = BufReader::new(read);
        for (request, status, seed, bytes) in &row[..row.len() - 1] {
            let (got, cache, body) = next(&mut answers, request.contains("HEAD ")).await;
            assert_eq!(got, *status, "cut at {cut}: {request}");
            if *seed == 0 || *status == 416 {
                continue;
            }
            assert_eq!(body.len() as u64, bytes.end - bytes.start, "cut at {cut}: {request}");
            assert_eq!(body::differs(*seed, bytes.start, &body), None, "cut at {cut}: {request}");
            assert_eq!(cache.contains("; hit"), *seed < 3, "cut at {cut}: {cache}");
        }
        assert_eq!(answers.read(&mut [0]).await.unwrap(), 0, "nothing is answered behind the last request");
    }
}

/// Asks for `count` hits at once and reads nothing before all are asked for.
async fn greedy(mut io: impl AsyncRead + AsyncWrite + Unpin, path: &str, count: usize, size: usize, seed: u64) {
    let wire = request("GET", path, "").repeat(count);
    io.write_all(wire.as_bytes()).await.unwrap();
    io.flush().await.unwrap();
    let mut io = BufReader::new(io);
    for n in 0..count {
        let (status, cache, body) = next(&mut io, false).await;
        assert_eq!((status, body.len()), (200, size), "{n}");
        assert!(cache.contains("; hit"), "{n}: {cache}");
        assert_eq!(body::differs(seed, 0, &body), None, "{n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_for_more_than_it_takes_gets_every_byte_at_its_own_pace() {
    let bed = Bed::with_tls().await;
    for (size, count) in [(100, 2000), (20_000, 300), (1 << 20, 24)] {
        let path = format!("/greedy?cc=max-age%3D60&size={size}&seed=7");
        bed.get(&path).await;
        bed.ask(crate::bed::Speech::H1Tls, get(&path)).await;
        greedy(TcpStream::connect(bed.address()).await.unwrap(), &path, count, size, 7).await;
        greedy(bed.tls(b"http/1.1").await, &path, count, size, 7).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_loses_its_connection_and_holds_up_nobody() {
    let bed = Bed::with(|config| config.timeouts.stall = Duration::from_millis(200)).await;
    let path = "/stuck?cc=max-age%3D60&size=1000000&seed=7";
    bed.get(path).await;
    let mut stuck = TcpStream::connect(bed.address()).await.unwrap();
    stuck.write_all(request("GET", path, "").repeat(50).as_bytes()).await.unwrap();
    assert_eq!(bed.get(path).await.body.len(), 1_000_000);
    bed.until_metric("nearside_connections_open 0").await;
    let mut taken = Vec::new();
    let end = stuck.read_to_end(&mut taken).await;
    assert!(end.is_err(), "the end is no good one");
    assert!(taken.len() < 50 * 1_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_line_behind_a_body_is_not_the_beginning_of_a_request() {
    let bed = Bed::new().await;
    for line in ["\r\n", "\r\n\r\n", "\r"] {
        let mut socket = TcpStream::connect(bed.address()).await.unwrap();
        let wire = request("POST", "/p?size=3", "Content-Length: 5\r\n") + "hello" + line;
        socket.write_all(wire.as_bytes()).await.unwrap();
        assert_eq!(next(&mut socket, false).await.0, 200);
        if line != "\r" {
            socket.write_all(request("GET", "/g?size=3", "").as_bytes()).await.unwrap();
            assert_eq!(next(&mut socket, false).await.0, 200, "{line:?}");
        }
        // An idle connection does not hold up the end; one whose request has begun would.
        drop(tokio::spawn(async move { socket.read_to_end(&mut Vec::new()).await }));
    }
    let stopped = tokio::task::spawn_blocking(move || bed.edge.stop()).await.unwrap();
    assert_eq!(stopped, nearside_node::Stopped::Drained);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_not_lost_when_the_edge_closes_while_the_client_goes_on_asking() {
    let bed = Bed::with(|config| config.limits.requests_per_connection = 3).await;
    let path = "/limit?cc=max-age%3D60&size=2000&seed=7";
    bed.get(path).await;
    let mut socket = TcpStream::connect(bed.address()).await.unwrap();
    let (mut read, mut write) = socket.split();
    let asking = async {
        for _ in 0..200 {
            if write.write_all(request("GET", path, "").repeat(20).as_bytes()).await.is_err() {
                break;
            }
        }
    };
    let reading = async {
        let mut answers = Vec::new();
        for _ in 0..3 {
            answers.push(next(&mut read, false).await);
        }
        let end = read.read(&mut [0]).await;
        (answers, end)
    };
    let ((answers, end), ()) = tokio::join!(reading, asking);
    assert!(answers.iter().all(|(status, _, body)| *status == 200 && body::differs(7, 0, body).is_none()));
    assert_eq!(end.unwrap(), 0, "a good end, behind the third answer");
}
