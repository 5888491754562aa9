//! Interim answers: they reach the client whose request they answer, with their fields, and leave no trace.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::bed::{Bed, HOST, loopback, upstream};

const INTERIMS: &str = "HTTP/1.1 102 Processing\r\n\r\n\
    HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\nx-hint: 1\r\nconnection: x-hop\r\nx-hop: 1\r\n\r\n\
    HTTP/1.1 100 Continue\r\n\r\n";
const FINAL: &str =
    "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 4\r\nconnection: close\r\nx-final: 1\r\n\r\nbody";

/// An origin that sends interim answers, waits for the word, and then sends the final one.
async fn bed(finish: Arc<tokio::sync::Semaphore>) -> Bed {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let origin = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let finish = Arc::clone(&finish);
            tokio::spawn(async move {
                let mut head = vec![0; 8192];
                let _ = socket.read(&mut head).await;
                socket.write_all(INTERIMS.as_bytes()).await.unwrap();
                finish.acquire().await.unwrap().forget();
                let _ = socket.write_all(FINAL.as_bytes()).await;
                let _ = socket.read(&mut head).await;
            });
        }
    });
    Bed::tls_with(|config| config.sites[0].origins = vec![upstream(origin)]).await
}

async fn open(bed: &Bed, request: &str) -> TcpStream {
    let mut socket = TcpStream::connect(bed.address()).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

fn get(version: &str) -> String {
    format!("GET /hints HTTP/{version}\r\nHost: {HOST}\r\nConnection: close\r\n\r\n")
}

async fn read_until(socket: &mut TcpStream, text: &str) -> String {
    let mut all = Vec::new();
    let read = async {
        loop {
            let mut piece = [0; 4096];
            let count = socket.read(&mut piece).await.unwrap();
            all.extend_from_slice(&piece[..count]);
            if count == 0 || String::from_utf8_lossy(&all).contains(text) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), read).await.expect(text);
    String::from_utf8(all).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn they_come_before_the_final_answer_is_there_and_only_once() {
    let finish = Arc::new(tokio::sync::Semaphore::new(0));
    let bed = bed(Arc::clone(&finish)).await;
    let mut leader = open(&bed, &get("1.1")).await;
    let early = read_until(&mut leader, "x-hint: 1\r\n\r\n").await;
    assert!(early.starts_with("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n"), "{early}");
    assert!(early.contains("link: </style.css>; rel=preload\r\n") && !early.contains("x-hop"), "{early}");
    // One who waits for the same does not get them: whether the answer is for it too, nobody knows yet.
    let mut clients = vec![leader];
    for _ in 0..10 {
        clients.push(open(&bed, &get("1.1")).await);
    }
    bed.until_metric("nearside_connections_open 11").await;
    finish.add_permits(1);
    let mut followed = 0;
    for socket in &mut clients {
        let rest = read_until(socket, "body").await;
        followed += usize::from(rest.contains("collapsed"));
        assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.contains("x-final: 1"), "{rest}");
        assert!(!rest.contains("x-hint") && !rest.contains("100 Continue"), "{rest}");
    }
    assert!(followed > 0, "some have waited");
    let hit = read_until(&mut open(&bed, &get("1.1")).await, "body").await;
    assert!(hit.starts_with("HTTP/1.1 200 OK\r\n") && hit.contains("; hit") && !hit.contains("x-hint"), "{hit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_clients_get_none_and_posts_get_theirs() {
    let finish = Arc::new(tokio::sync::Semaphore::new(2));
    let bed = bed(finish).await;
    let old = read_until(&mut open(&bed, &get("1.0")).await, "body").await;
    assert!(old.starts_with("HTTP/1.1 200 OK\r\n"), "{old}");
    let post = format!("POST /hints HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc");
    let passed = read_until(&mut open(&bed, &post).await, "body").await;
    assert!(passed.starts_with("HTTP/1.1 102 ") && passed.contains(" 103 ") && passed.contains(" 200 OK"), "{passed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_clients_get_them_as_informational_heads() {
    let bed = bed(Arc::new(tokio::sync::Semaphore::new(2))).await;
    for method in ["GET", "POST"] {
        let (mut sender, connection) = h2::client::handshake(bed.tls(b"h2").await).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::builder().method(method).uri(format!("https://{HOST}/h2-hints")).body(()).unwrap();
        let (mut response, _) = sender.send_request(request, true).unwrap();
        let mut informational = Vec::new();
        while let Some(interim) = std::future::poll_fn(|cx| response.poll_informational(cx)).await {
            informational.push(interim.unwrap());
        }
        let statuses: Vec<u16> = informational.iter().map(|interim| interim.status().as_u16()).collect();
        assert_eq!(statuses, [102, 103], "{method}");
        assert_eq!(informational[1].headers()["x-hint"], "1");
        let last = response.await.unwrap();
        assert_eq!((last.status().as_u16(), last.headers().contains_key("x-hint")), (200, false), "{method}");
    }
}
