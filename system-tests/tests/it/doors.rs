//! The doors of admin and control listeners: deadlines, names, tokens, and what is read before them.

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use nearside_config::{Scope, Secret, Token};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::bed::{Bed, get_here};
use crate::fleet::Controller;

const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "the-secret-of-an-operator";

fn token(scope: Scope) -> Token {
    Token { name: "operator".to_owned(), secret: Secret::new(SECRET).unwrap(), scope, sites: Vec::new() }
}

/// The first bytes of a response, with its head.
async fn ask(address: SocketAddr, head: &str) -> String {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(head.as_bytes()).await.unwrap();
    let mut said = vec![0; 1 << 16];
    let read = timeout(PATIENCE, client.read(&mut said)).await.expect("it answers").unwrap();
    String::from_utf8_lossy(&said[..read]).into_owned()
}

fn status(answer: &str) -> u16 {
    answer.get(9..12).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"))
}

async fn get(address: SocketAddr, path: &str, fields: &str) -> u16 {
    status(&ask(address, &format!("GET {path} HTTP/1.1\r\n{fields}\r\n")).await)
}

/// Every path that a listener tells of, and those that are for browsers and scrapers.
async fn paths(address: SocketAddr) -> Vec<String> {
    let page = get_here(address, "/v1/openapi.json").await.body;
    let page: Value = serde_json::from_slice(&page).unwrap();
    let told = page["paths"].as_object().unwrap().keys().map(|path| path.replace(['{', '}'], ""));
    let others = ["/", "/docs", "/healthz", "/metrics", "/readyz", "/no/such/path"];
    told.chain(others.map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_is_read_under_a_name_that_only_leads_here() {
    let control = Controller::new(|config| config.hosts = vec!["control.example".parse().unwrap()]);
    let bed = Bed::with(|config| config.admin_hosts = vec!["*.nodes.example".parse().unwrap()]).await;
    let admin = bed.edge.admin_address().unwrap();
    let of_console = ["", "main.js", "style.css", "api/stream", "api/demo", "api/route?ip=192.0.2.1"];
    let of_console = of_console.map(|path| format!("/console/{path}"));
    for (address, more) in [(control.address, &of_console[..]), (admin, &[][..])] {
        for path in paths(address).await.iter().chain(more) {
            for name in ["evil.example", "evil.example:7080", "127.0.0.1.evil.example", "control"] {
                assert_eq!(get(address, path, &format!("host: {name}\r\n")).await, 403, "{path} as {name}");
            }
            for name in ["localhost", "127.0.0.1:7080", "[::1]", "fra.localhost:80", "192.0.2.7"] {
                // Without a token the API is for this machine alone.
                let strict = name == "192.0.2.7" || name.starts_with("fra");
                let found = get(address, path, &format!("host: {name}\r\n")).await;
                assert!(
                    found != 403 || strict && (path.contains("/v1/") || path.contains("/api/")),
                    "{path} as {name}"
                );
            }
        }
    }
    for (address, name) in [(control.address, "control.example"), (admin, "edge-1.nodes.example")] {
        for path in ["/metrics", "/healthz", "/docs"] {
            assert_eq!(get(address, path, &format!("host: {name}:7080\r\n")).await, 200, "{path} as {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_shows_no_right_token_is_refused_before_the_body() {
    let control = Controller::new(|config| {
        config.tokens = vec![token(Scope::Admin)];
        config.nodes = Some(token(Scope::Admin));
    });
    let bed = Bed::with(|config| config.tokens = vec![token(Scope::Admin)]).await;
    let of_all = ["/v1/purge", "/service/a/purge", "/client/v4/zones/a/purge_cache"];
    let of_control = ["/v1/fleet/follow", "/v1/fleet/beat", "/v1/fleet/purge", "/console/api/demo/fail"];
    let admin = bed.edge.admin_address().unwrap();
    let all = of_all.iter().flat_map(|path| [(control.address, *path), (admin, *path)]);
    for (address, path) in all.chain(of_control.map(|path| (control.address, path))) {
        for shown in ["", "authorization: Bearer another-secret-that-is-wrong\r\n"] {
            // None of it is sent.
            let body = "content-type: application/json\r\ncontent-length: 8388608\r\nexpect: 100-continue\r\n";
            let answer = ask(address, &format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{shown}{body}\r\n")).await;
            assert_eq!(status(&answer), 401, "{path} {shown}: {answer}");
            // Cloudflare's shape has errors of its own.
            let is_problem = answer.contains("application/problem+json") || path.starts_with("/client/");
            assert!(is_problem, "{path}: {answer}");
        }
    }
    let unknown = "POST /v1/hooks/none HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8388608\r\n\r\n";
    assert_eq!(status(&ask(control.address, unknown).await), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_requests_are_closed_on_every_listener() {
    let control = Controller::new(|config| {
        let text =
            "role = \"control\"\nlisten = \":1\"\n[purge_log]\nfile = \"f\"\n[steering]\nlisten = \"127.0.0.1:0\"\n";
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("control.toml"), text).unwrap();
        config.steering = nearside_config::load_control(&folder.path().join("control.toml")).unwrap().steering;
    });
    let bed = Bed::new().await;
    let mut waiting = tokio::task::JoinSet::new();
    for address in [control.address, control.router.unwrap(), bed.edge.admin_address().unwrap()] {
        for begun in ["", "GET / HTTP/1.1\r\nhost: loc"] {
            waiting.spawn(async move {
                let mut client = TcpStream::connect(address).await.unwrap();
                client.write_all(begun.as_bytes()).await.unwrap();
                let mut said = String::new();
                // It takes ten seconds.
                timeout(PATIENCE, client.read_to_string(&mut said)).await.expect("it is closed").unwrap();
                assert_eq!(said.is_empty(), begun.is_empty(), "{said}");
                assert!(said.is_empty() || said.starts_with("HTTP/1.1 408 "), "{said}");
            });
        }
    }
    while let Some(ended) = waiting.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_with_credentials_needs_more_than_a_token_that_may_read() {
    for (scope, status) in [(Scope::Read, 403), (Scope::Purge, 200)] {
        let bed = Bed::with(|config| config.tokens = vec![token(scope)]).await;
        let shown = format!("Bearer {SECRET}");
        let url = "http%3A%2F%2Fwww.example.com%2Fa";
        for (query, expected) in [
            ("&probe=true&field=Cookie%3A+a%3Db", status),
            ("&probe=true&field=AUTHORIZATION%3A+Basic+YTpi", status),
            ("&probe=true&field=Proxy-Authorization%3A+x", status),
            ("&probe=true&field=Accept%3A+text%2Fhtml", 200),
            ("&field=Cookie%3A+a%3Db", 200),
        ] {
            let path = format!("/v1/explain?url={url}{query}");
            let reply = bed.admin_with(Method::GET, &path, "", &[("authorization", &shown)]).await;
            assert_eq!(reply.status, expected, "{query}: {}", String::from_utf8_lossy(&reply.body));
        }
    }
}
