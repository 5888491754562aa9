//! TLS sessions, and HTTP/2 hits under every flow control.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use nearside_config::Config;
use nearside_node::{Clock, StartError};
use nearside_origin_sim::body;
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bed::{Bed, HOST, Speech, get, get_with};

/// One request on a connection of its own; how hands were shaken. What the server sends is read to its end, so that
/// the ticket behind the handshake is seen.
async fn shake(bed: &Bed, config: &Arc<rustls::ClientConfig>) -> HandshakeKind {
    let socket = TcpStream::connect(bed.edge.tls_addresses()[0]).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
    let mut stream = connector.connect(ServerName::try_from(HOST).unwrap(), socket).await.unwrap();
    let request = format!("GET /t?cc=max-age%3D60&size=10 HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    stream.get_ref().1.handshake_kind().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_resumes_its_session_on_whatever_thread_it_lands_however_many_came_between() {
    let bed = Bed::tls_with(|config| config.threads = 2).await;
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        // More than the 256 sessions that rustls keeps unless told otherwise.
        let clients: Vec<_> = (0..270).map(|_| Arc::new(bed.tls_client(version))).collect();
        for (place, client) in clients.iter().enumerate() {
            assert_eq!(shake(&bed, client).await, HandshakeKind::Full, "{version:?} client {place}");
        }
        for (place, client) in clients.iter().enumerate().take(20) {
            for _ in 0..4 {
                assert_eq!(shake(&bed, client).await, HandshakeKind::Resumed, "{version:?} client {place}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_threads_share_an_address_among_themselves_and_with_nobody_else() {
    let mut other: Option<Config> = None;
    let bed = Bed::with(|config| {
        config.threads = 3;
        other = Some(config.clone());
    })
    .await;
    for n in 0..60 {
        assert_eq!(bed.get(&format!("/shared?cc=max-age%3D60&size={n}")).await.body.len(), n);
    }
    let mut other = other.unwrap();
    other.listen = vec![bed.address()];
    let Err(StartError::Listen(error)) = nearside_edge::start(other, Clock::System) else {
        panic!("two nodes on one address");
    };
    assert_eq!(error.cause.kind(), std::io::ErrorKind::AddrInUse);
}

/// Reads bodies of many streams at once under small windows.
#[tokio::test(flavor = "multi_thread")]
async fn h2_hits_of_every_size_pass_through_every_window() {
    let bed = Bed::with_tls().await;
    let sizes = [0_u32, 1, 1000, 16_384, 65_535, 65_536, 300_000];
    let path = |size: u32| format!("/w?cc=max-age%3D60&size={size}&seed={size}");
    for size in sizes {
        bed.ask(Speech::H2, get(&path(size))).await;
    }
    for window in [1, 1000, 65_535, 1 << 20] {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(1 << 20);
        let (mut sender, connection) = builder.handshake::<_, Bytes>(bed.tls(b"h2").await).await.unwrap();
        tokio::spawn(connection);
        let mut streams = Vec::new();
        for size in sizes.into_iter().filter(|size| window > 1 || *size < 2000).cycle().take(30) {
            let request = Request::get(format!("https://{HOST}{}", path(size))).body(()).unwrap();
            sender = sender.ready().await.unwrap();
            streams.push((size, sender.send_request(request, true).unwrap().0));
        }
        for (size, response) in streams {
            let response = response.await.unwrap();
            let cache = response.headers()["cache-status"].to_str().unwrap().to_owned();
            assert!(cache.contains("; hit"), "{cache}");
            assert_eq!(response.headers()["content-length"], size.to_string().as_str());
            let mut body = response.into_body();
            let mut received = Vec::new();
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                received.extend_from_slice(&data);
            }
            assert_eq!(received.len(), size as usize, "window {window}");
            assert_eq!(body::differs(u64::from(size), 0, &received), None, "window {window} size {size}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h2_hits_are_the_same_as_others_in_status_fields_and_bytes() {
    let bed = Bed::with_tls().await;
    let path = "/s?cc=max-age%3D60&size=500&seed=3&etag=one&vary=Accept-Encoding";
    bed.ask(Speech::H1Tls, get(path)).await;
    for fields in [
        &[][..],
        &[("if-none-match", "\"one\"")],
        &[("range", "bytes=100-199")],
        &[("range", "bytes=100-199"), ("if-range", "\"two\"")],
        &[("range", "bytes=600-")],
        &[("if-match", "\"two\"")],
        &[("cookie", "a=b")],
    ] {
        let h1 = bed.ask(Speech::H1Tls, get_with(path, fields)).await;
        let h2 = bed.ask(Speech::H2, get_with(path, fields)).await;
        assert_eq!((h1.status, &h1.body), (h2.status, &h2.body), "{fields:?}");
        for name in ["cache-status", "age", "etag", "content-length", "content-range", "content-type", "via"] {
            assert_eq!(h1.field(name), h2.field(name), "{fields:?} {name}");
        }
    }
    assert_eq!(bed.asked(path), 3, "only the origin may refuse a precondition that does not hold");
}

/// RFC 9113 §8.3.1: `Host` and `:authority` are compared after normalisation.
#[tokio::test(flavor = "multi_thread")]
async fn h2_a_host_that_is_the_authority_in_another_spelling_is_taken_and_another_one_refused() {
    let bed = Bed::with_tls().await;
    let (mut sender, connection) = h2::client::handshake(bed.tls(b"h2").await).await.unwrap();
    tokio::spawn(connection);
    for (authority, hosts, status) in [
        ("example.com", &["example.com"][..], 200),
        ("example.com", &["EXAMPLE.com"], 200),
        ("example.com", &["example.com:443"], 200),
        ("example.com", &["example.com:"], 200),
        ("Example.com:443", &["example.COM"], 200),
        ("[2001:DB8::1]", &["[2001:db8::1]:443"], 200),
        ("example.com", &["example.com:80"], 400),
        ("example.com:8443", &["example.com"], 400),
        ("example.com", &["example.org"], 400),
        ("example.com", &["www.example.com"], 400),
        ("example.com", &["example.com/"], 400),
        ("example.com", &[""], 400),
        ("example.com", &["example.com", "example.org"], 400),
    ] {
        let mut request = Request::get(format!("https://{authority}/same?cc=max-age%3D60")).body(()).unwrap();
        for host in hosts {
            request.headers_mut().append("host", host.parse().unwrap());
        }
        sender = sender.ready().await.unwrap();
        let response = sender.send_request(request, true).unwrap().0.await.unwrap();
        assert_eq!(response.status(), status, "{authority} {hosts:?}: {:?}", response.headers());
    }
    assert_eq!(bed.asked("/same?cc=max-age%3D60"), 2, "all spellings of a host have one key");
}
