//! The life of a node: it starts whole or not at all, tells how it is, and stops without cutting anybody off.

use std::time::Duration;

use http::Method;
use nearside_config::{Config, LogFormat, LogSink, TlsListener};
use nearside_node::{Clock, StartError, Stopped};
use nearside_origin_sim::body;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bed::{Bed, Speech, config, edge_role, get, loopback, read, upstream};

fn plain() -> Config {
    config(edge_role(), vec![upstream("127.0.0.1:1".parse().unwrap())])
}

#[test]
fn a_port_in_use_and_a_certificate_that_is_none_are_told() {
    let taken = std::net::TcpListener::bind(loopback()).unwrap();
    let address = taken.local_addr().unwrap();
    let error = nearside_edge::start(Config { listen: vec![address], ..plain() }, Clock::System).err().unwrap();
    assert!(matches!(error, StartError::Listen(_)) && error.to_string().contains(&address.to_string()), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let listener = || TlsListener { address: loopback(), cert: cert.clone(), key: key.clone() };
    let start = || nearside_edge::start(Config { listen_tls: vec![listener()], ..plain() }, Clock::System).err();
    let missing = start().unwrap().to_string();
    assert!(missing.contains("certificate") && missing.contains("cert.pem"), "{missing}");
    std::fs::write(&cert, "no PEM").unwrap();
    assert!(start().unwrap().to_string().contains("cert.pem"));
    let made = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap();
    std::fs::write(&cert, made.cert.pem()).unwrap();
    assert!(start().unwrap().to_string().contains("private key"));
    let other = rcgen::generate_simple_self_signed(vec!["b".to_owned()]).unwrap();
    std::fs::write(&key, other.signing_key.serialize_pem()).unwrap();
    assert!(start().unwrap().to_string().contains("cannot be used"), "a key of another certificate");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_finishes_running_answers_refuses_new_ones_and_waits_no_longer() {
    let bed = Bed::with(|config| {
        config.timeouts.idle = Duration::from_secs(600);
        config.timeouts.drain = Duration::from_secs(300);
    })
    .await;
    let address = bed.address();
    let idle = TcpStream::connect(address).await.unwrap();
    let running = bed.send(Speech::H1, get("/running?size=300000&seed=1&rate=300000")).await.unwrap();
    let Bed { edge, origin, .. } = bed;
    let begin = tokio::time::Instant::now();
    let stopped = tokio::task::spawn_blocking(move || edge.stop());
    crate::bed::eventually("new connections are refused", || std::net::TcpStream::connect(address).is_err()).await;
    let reply = read(running).await.unwrap();
    assert_eq!((reply.body.len(), body::differs(1, 0, &reply.body)), (300_000, None));
    assert_eq!(stopped.await.unwrap(), Stopped::Drained);
    assert!(begin.elapsed() < Duration::from_secs(300), "{:?}: idle connections do not hold it up", begin.elapsed());
    drop((idle, origin));
}

/// Clients that the kernel has accepted and the node has not, as all its places are taken.
async fn queued(bed: &Bed, count: usize) -> (TcpStream, Vec<TcpStream>) {
    let mut first = TcpStream::connect(bed.address()).await.unwrap();
    first.write_all(b"GET /first?cc=max-age%3D60&size=3 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut byte = [0];
    first.read_exact(&mut byte).await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(TcpStream::connect(bed.address()).await.unwrap());
    }
    (first, clients)
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_answers_all_that_the_kernel_has_accepted() {
    for threads in [1, 3] {
        let bed = Bed::with(|config| {
            config.threads = threads;
            config.limits.connections = 1;
            config.timeouts.drain = Duration::from_secs(300);
        })
        .await;
        let (first, clients) = queued(&bed, 40).await;
        let Bed { edge, origin, .. } = bed;
        let clients: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(n, mut client)| {
                tokio::spawn(async move {
                    // Some have asked before it stops, others have yet to.
                    if n % 2 == 1 {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    let request = format!("GET /{n}?cc=max-age%3D60&size=3 HTTP/1.1\r\nHost: a\r\n\r\n");
                    client.write_all(request.as_bytes()).await.unwrap();
                    let mut answer = Vec::new();
                    client.read_to_end(&mut answer).await.map(|_| String::from_utf8_lossy(&answer).into_owned())
                })
            })
            .collect();
        let stopped = tokio::task::spawn_blocking(move || edge.stop());
        for client in clients {
            let answer = client.await.unwrap().expect("no reset");
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close\r\n"), "{answer}");
        }
        assert_eq!(stopped.await.unwrap(), Stopped::Drained, "{threads} threads");
        drop((first, origin));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h2_a_connection_without_a_request_gets_its_first_one_answered_while_the_node_stops() {
    let bed = Bed::with_tls().await;
    let (sender, connection) = h2::client::handshake(bed.tls(b"h2").await).await.unwrap();
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let address = bed.edge.tls_addresses()[0];
    let Bed { edge, origin, .. } = bed;
    let stopped = tokio::task::spawn_blocking(move || edge.stop());
    crate::bed::eventually("new connections are refused", || std::net::TcpStream::connect(address).is_err()).await;
    let request = http::Request::get("https://www.example.org/late?size=3").body(()).unwrap();
    let response = sender.send_request(request, true).unwrap().0.await.unwrap();
    assert_eq!(response.status(), 200);
    drop((response, sender));
    assert_eq!(stopped.await.unwrap(), Stopped::Drained);
    drop(origin);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_told_to_stop_serves_on_for_the_delay_and_says_that_it_is_not_ready() {
    let bed = Bed::with(|config| config.timeouts.drain_delay = Duration::from_secs(3600)).await;
    let (address, admin) = (bed.address(), bed.edge.admin_address().unwrap());
    let mut old = TcpStream::connect(address).await.unwrap();
    let Bed { edge, origin, .. } = bed;
    // Nobody waits for it: it ends with the tests.
    std::thread::spawn(move || edge.stop());
    while crate::bed::get_here(admin, "/readyz").await.status != 503 {}
    let new = crate::bed::get_from(address, "/new?cc=max-age%3D60").await;
    let hit = crate::bed::get_from(address, "/new?cc=max-age%3D60").await;
    for reply in [&new, &hit] {
        assert_eq!((reply.status.as_u16(), reply.field("connection")), (200, "close"), "{reply:?}");
    }
    old.write_all(b"GET /old HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    old.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    drop(origin);

    let delay = Duration::from_millis(300);
    let Bed { edge, origin, .. } = Bed::with(|config| config.timeouts.drain_delay = delay).await;
    let address = edge.addresses()[0];
    let begin = tokio::time::Instant::now();
    assert_eq!(tokio::task::spawn_blocking(move || edge.stop()).await.unwrap(), Stopped::Drained);
    assert!(begin.elapsed() >= delay, "{:?}", begin.elapsed());
    assert!(TcpStream::connect(address).await.is_err());
    drop(origin);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_within_its_limit_whatever_clients_do() {
    let bed = Bed::with(|config| config.timeouts.drain = Duration::from_millis(300)).await;
    let _running = bed.send(Speech::H1, get("/endless?size=100000000&rate=1000")).await.unwrap();
    let Bed { edge, origin, .. } = bed;
    let stopped = tokio::task::spawn_blocking(move || edge.stop());
    let stopped = tokio::time::timeout(Duration::from_secs(60), stopped).await.expect("in time").unwrap();
    assert_eq!(stopped, Stopped::CutOff(1));
    drop(origin);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_metrics_and_unknown_paths_of_the_admin_listener() {
    let bed = Bed::new().await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(bed.admin(Method::GET, path, "").await.status, 200, "{path}");
    }
    let path = "/counted?cc=max-age%3D60&size=100";
    for _ in 0..3 {
        bed.get(path).await;
    }
    let expected = [
        "nearside_requests_total{site=\"site\",cache=\"hit\",code=\"200\",proto=\"http/1.1\"} 2",
        "nearside_requests_total{site=\"site\",cache=\"miss\",code=\"200\",proto=\"http/1.1\"} 1",
        "nearside_response_bytes_total{site=\"site\"} 300",
        "nearside_cache_objects 1",
        "nearside_request_duration_seconds_count{cache=\"hit\"} 2",
        "nearside_request_duration_seconds_bucket{le=\"+Inf\",cache=\"hit\"} 2",
    ];
    // A request counts when its answer has left, which its client may see first.
    for line in expected {
        bed.until_metric(line).await;
    }
    let text = String::from_utf8(bed.admin(Method::GET, "/metrics", "").await.body.to_vec()).unwrap();
    assert!(text.ends_with("# EOF\n"));
    assert_eq!(bed.admin(Method::GET, "/nothing", "").await.status, 404);
    assert_eq!(bed.admin(Method::GET, "/v1/purge", "").await.status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_moved_away_is_opened_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (file, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let path = file.clone();
    let bed = Bed::with(move |config| {
        config.access_log = nearside_config::AccessLog { sink: LogSink::File(path), ..Default::default() };
    })
    .await;
    let lines = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    bed.get("/first").await;
    crate::bed::eventually("a line", || lines(&file) == 1).await;
    std::fs::rename(&file, &moved).unwrap();
    bed.edge.reopen_log();
    crate::bed::eventually("a new file, before there is a line for it", || file.exists()).await;
    bed.get("/second").await;
    crate::bed::eventually("a line", || lines(&file) == 1).await;
    assert_eq!(lines(&moved), 1);
    // Where it cannot be opened, nothing is lost.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    bed.edge.reopen_log();
    bed.get("/third").await;
    bed.until_metric("nearside_access_log_dropped_total 0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_that_name_clients_name_those_of_hits_too() {
    let folder = tempfile::tempdir().unwrap();
    for speech in crate::bed::SPEECHES {
        let file = folder.path().join(format!("{speech:?}.log"));
        let path = file.clone();
        let bed = Bed::tls_with(move |config| {
            config.access_log =
                nearside_config::AccessLog { sink: LogSink::File(path), format: LogFormat::Combined, clients: false };
        })
        .await;
        let fields = [("user-agent", "probe/1"), ("referer", "https://a.org/b?c=d")];
        for _ in 0..3 {
            bed.ask(speech, crate::bed::get_with("/p?cc=max-age%3D60", &fields)).await;
        }
        let lines = || std::fs::read_to_string(&file).unwrap_or_default();
        crate::bed::eventually("three lines", || lines().lines().count() == 3).await;
        for line in lines().lines() {
            assert!(line.starts_with("127.0.0.1 - - [") && line.contains("] \"GET /p?… HTTP/"), "{line}");
            assert!(line.ends_with("\" 200 1024 \"https://a.org/b\" \"probe/1\""), "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_one_line_of_the_access_log() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let path = file.clone();
    let bed = Bed::with(move |config| {
        config.access_log =
            nearside_config::AccessLog { sink: LogSink::File(path), ..nearside_config::AccessLog::default() };
    })
    .await;
    bed.get("/logged?cc=max-age%3D60&token=secret").await;
    bed.get("/logged?cc=max-age%3D60&token=secret").await;
    bed.get("/refused?garbage").await;
    bed.raw(b"nonsense\r\n\r\n").await;
    let lines = || std::fs::read_to_string(&file).unwrap_or_default();
    crate::bed::eventually("four lines", || lines().lines().count() == 4).await;
    let text = lines();
    assert!(!text.contains("secret"), "queries are not logged: {text}");
    let parsed: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seen: Vec<_> =
        parsed.iter().map(|line| (line["cache"].as_str().unwrap(), line["status"].as_u64().unwrap())).collect();
    assert_eq!(seen, [("miss", 200), ("hit", 200), ("error", 502), ("synth", 400)]);
    assert_eq!((&parsed[1]["site"], &parsed[1]["bytes"]), (&"site".into(), &1024.into()));
    assert_eq!(parsed[2]["reason"], "upstream-malformed");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_gets_the_requests_for_which_an_expression_holds() {
    // Whatever the log itself looks like.
    let bed = Bed::new().await;
    let mut socket = TcpStream::connect(bed.edge.admin_address().unwrap()).await.unwrap();
    let q = "cache%3D%3D%22hit%22%20and%20path~%22/seen%22";
    socket.write_all(format!("GET /v1/log?q={q} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    let mut piece = [0; 4096];
    while !text.contains("\r\n\r\n") {
        let read = socket.read(&mut piece).await.unwrap();
        text += &String::from_utf8_lossy(&piece[..read]);
    }
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    for path in ["/unseen?cc=max-age%3D60", "/seen?cc=max-age%3D60"] {
        for _ in 0..3 {
            bed.get(path).await;
        }
    }
    while text.matches("\"path\":\"/seen\"").count() < 2 {
        let read = tokio::time::timeout(Duration::from_secs(60), socket.read(&mut piece)).await;
        text += &String::from_utf8_lossy(&piece[..read.expect("lines come").unwrap()]);
    }
    assert!(!text.contains("unseen") && !text.contains("\"cache\":\"miss\""), "{text}");
    let wrong = bed.admin(Method::GET, "/v1/log?q=cache%3D", "").await;
    let problem: serde_json::Value = serde_json::from_slice(&wrong.body).unwrap();
    assert_eq!((wrong.status.as_u16(), &problem["code"]), (422, &"expression".into()));
    assert!(problem["detail"].as_str().unwrap().contains("at character 6"), "{problem}");
}
