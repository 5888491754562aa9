//! Clients and responses that move slowly do not keep the places at an origin from others.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use nearside_config::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::bed::{Bed, HOST, answer, served, upstream};

/// Requests that are meant to take all places.
const SLOW: usize = 8;

/// An origin with event streams, endless responses, large ones, an upload and pages.
async fn varied() -> SocketAddr {
    served(|head, mut socket| async move {
        let kind = match head.split(' ').nth(1).unwrap_or_default() {
            path if path.starts_with("/events") => "content-type: Text/Event-Stream; charset=utf-8\r\n",
            path if path.starts_with("/endless") => "content-type: text/plain\r\ncache-control: no-store\r\n",
            path if path.starts_with("/stored") => "content-type: text/plain\r\ncache-control: max-age=60\r\n",
            path if path.starts_with("/large") => return large(socket).await,
            path if path.starts_with("/upload") => return upload(&head, socket).await,
            _ => {
                let _ = socket.write_all(answer(200, "cache-control: no-store\r\n", "page").as_bytes()).await;
                return;
            }
        };
        let _ =
            socket.write_all(format!("HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n{kind}\r\n").as_bytes()).await;
        while socket.write_all(b"5\r\nline\n\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
}

async fn large(mut socket: TcpStream) {
    let _ = socket.write_all(b"HTTP/1.1 200 X\r\ncontent-length: 200000000\r\ncache-control: no-store\r\n\r\n").await;
    let piece = vec![b'x'; 1_000_000];
    for _ in 0..200 {
        if socket.write_all(&piece).await.is_err() {
            return;
        }
    }
}

/// Reads a body of the length that its head states, and says so.
async fn upload(head: &str, mut socket: TcpStream) {
    let (fields, body) = head.split_once("\r\n\r\n").unwrap();
    let length =
        fields.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse::<usize>().unwrap();
    let (mut received, mut piece) = (body.len(), vec![0; 65536]);
    while received < length {
        match socket.read(&mut piece).await {
            Ok(read @ 1..) => received += read,
            _ => return,
        }
    }
    let _ = socket.write_all(answer(200, "cache-control: no-store\r\n", "received").as_bytes()).await;
}

fn crowded(origin: SocketAddr) -> impl FnOnce(&mut Config) {
    move |config| {
        config.sites[0].origins = vec![upstream(origin)];
        config.origins.concurrency = SLOW;
        // Whatever else the machine does meanwhile.
        config.origins.queue_wait = Duration::from_secs(60);
    }
}

async fn begun(bed: &Bed, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(bed.address()).await.unwrap();
    socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    socket
}

/// Sends a byte every now and then until `ends`, and then what is left of `left`; the status line of the reply.
fn drip(mut socket: TcpStream, mut left: usize, ends: watch::Receiver<bool>) -> JoinHandle<String> {
    tokio::spawn(async move {
        while !*ends.borrow() && left > 1 && socket.write_all(b"x").await.is_ok() {
            left -= 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let _ = socket.write_all(&vec![b'x'; left]).await;
        let mut reply = vec![0; 12];
        let _ = socket.read_exact(&mut reply).await;
        String::from_utf8_lossy(&reply).into_owned()
    })
}

/// Pages are still to be had, while all that is slow is under way.
async fn pages_are_served(bed: &Bed) {
    for n in 0..4 {
        let reply = bed.get(&format!("/page{n}")).await;
        assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"page"[..]), "{}", reply.cache());
    }
}

/// Begins uploads of `length` bytes with the first `begun` of them, asks for pages while the rest drips, and then has it come
/// at once; the status lines of the uploads.
async fn uploads(length: usize, begun: usize) -> Vec<String> {
    let bed = Bed::with(crowded(varied().await)).await;
    let (end, ends) = watch::channel(false);
    let mut uploads = Vec::new();
    for n in 0..SLOW {
        let mut socket = TcpStream::connect(bed.address()).await.unwrap();
        let head = format!("POST /upload{n} HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {length}\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&vec![b'x'; begun]).await.unwrap();
        uploads.push(drip(socket, length - begun, ends.clone()));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    pages_are_served(&bed).await;
    end.send(true).unwrap();
    let mut replies = Vec::new();
    for upload in uploads {
        replies.push(upload.await.unwrap());
    }
    replies
}

#[tokio::test(flavor = "multi_thread")]
async fn small_uploads_that_drip_take_no_place_before_they_are_whole() {
    assert_eq!(uploads(1000, 0).await, ["HTTP/1.1 200"; SLOW], "with a place they would have lost it");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_uploads_that_drip_give_way_when_others_wait() {
    let replies = uploads(100_000, 90_000).await;
    let cut = replies.iter().filter(|reply| *reply == "HTTP/1.1 408").count();
    let whole = replies.iter().filter(|reply| *reply == "HTTP/1.1 200").count();
    assert!((1..=5).contains(&cut) && cut + whole == SLOW, "only as many as others waited: {replies:?}");
}

/// Opens responses that have no end, asks for pages, and looks whether the responses go on.
async fn endless(path: &str) {
    let origin = varied().await;
    let bed = Bed::with(crowded(origin)).await;
    let mut streams = Vec::new();
    for n in 0..SLOW {
        let mut socket = begun(&bed, &format!("{path}{n}")).await;
        let mut beginning = vec![0; 12];
        let read = tokio::time::timeout(Duration::from_secs(60), socket.read_exact(&mut beginning));
        assert!(read.await.is_ok(), "stream {n} begins");
        assert_eq!(beginning, b"HTTP/1.1 200");
        streams.push(socket);
    }
    pages_are_served(&bed).await;
    for mut socket in streams {
        let mut pieces = vec![0; 4096];
        // What came until now, and more.
        for _ in 0..3 {
            let read = tokio::time::timeout(Duration::from_secs(60), socket.read(&mut pieces));
            assert!(matches!(read.await, Ok(Ok(1..))), "it goes on");
        }
    }
    if path == "/events" {
        bed.until_metric(&format!("nearside_upstream_in_flight{{peer=\"{}\"}} 0", upstream(origin))).await;
        bed.until_metric(&format!("nearside_upstream_gave_way_total{{peer=\"{}\"}} 0", upstream(origin))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn event_streams_hold_no_places() {
    endless("/events").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_endless_responses_give_their_places_to_those_who_wait_and_go_on() {
    endless("/endless").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_responses_that_may_be_stored_do_too() {
    endless("/stored").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_of_what_is_not_stored_give_way_when_others_wait() {
    let origin = varied().await;
    let bed = Bed::with(crowded(origin)).await;
    let mut readers = Vec::new();
    for n in 0..SLOW - 1 {
        let mut socket = begun(&bed, &format!("/large{n}")).await;
        let mut beginning = vec![0; 12];
        socket.read_exact(&mut beginning).await.unwrap();
        readers.push(socket);
    }
    pages_are_served(&bed).await;
    let gave_way = format!("nearside_upstream_gave_way_total{{peer=\"{}\"}} 0", upstream(origin));
    let metrics = bed.admin(http::Method::GET, "/metrics", "").await.body;
    assert!(!String::from_utf8_lossy(&metrics).contains(&gave_way));
    drop(readers);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_clients_with_closed_windows_give_way_when_others_wait() {
    let origin = varied().await;
    let bed = Bed::tls_with(crowded(origin)).await;
    let tls = bed.tls(b"h2").await;
    let (mut client, connection) =
        h2::client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(tls).await.unwrap();
    tokio::spawn(connection);
    let mut bodies = Vec::new();
    for n in 0..SLOW - 1 {
        let request = Request::get(format!("https://{HOST}/large{n}")).body(()).unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        bodies.push(response.await.unwrap());
    }
    pages_are_served(&bed).await;
    drop(bodies);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_left_alone_while_nobody_waits() {
    let bed = Bed::with(crowded(varied().await)).await;
    let mut socket = begun(&bed, "/large").await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    pages_are_served(&bed).await;
    let (mut received, mut piece) = (0, vec![0; 1 << 20]);
    while received < 200_000_000 {
        match socket.read(&mut piece).await {
            Ok(read @ 1..) => received += read,
            other => panic!("{other:?} after {received}"),
        }
    }
}
