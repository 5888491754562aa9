//! A hit allocates nothing, whatever its kind. A program of its own, because it counts all that its process allocates.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests fail by panicking")]

use std::alloc::System;
use std::io::{Read, Write};
use std::net::TcpStream;

use nearside_config::{AccessLog, Cache, Config, Fallback, HostPattern, Limits, LogSink, Role, Site};
use nearside_node::Clock;
use nearside_origin_sim::OriginSim;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROUNDS: usize = 500;
/// What the log's writer and the timers may need beside the hits.
const OTHERS_MAX: usize = ROUNDS / 10;

/// An edge for several hosts, whose requests are logged and counted.
fn config(origin: std::net::SocketAddr) -> Config {
    let hosts = ["www.example.org", "*.example.net"].map(|host| host.parse().unwrap());
    let origins = vec![format!("http://{origin}").parse().unwrap()];
    let mut named = Site::new("named", hosts.to_vec(), origins.clone());
    named.server_timing = true;
    let role = Role::Edge { shields: Vec::new(), secret: None, fallback: Fallback::Origin };
    Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        cache: Cache::of(64 << 20),
        limits: Limits { requests_per_connection: u64::MAX, ..Limits::default() },
        access_log: AccessLog { sink: LogSink::File("/dev/null".into()), ..AccessLog::default() },
        ..Config::new(role, vec![named, Site::new("any", vec![HostPattern::Any], origins)])
    }
}

/// Room for the head of a response, whose length varies with the time that `Server-Timing` tells.
const HEAD_BYTES_MAX: usize = 4096;

/// Sends requests in one piece and reads as many responses with a body of `body_bytes` each; how many bytes that were.
fn ask(client: &mut TcpStream, requests: &[u8], responses: usize, body_bytes: usize, room: &mut [u8]) -> usize {
    client.write_all(requests).unwrap();
    let (mut filled, mut start) = (0, 0);
    let mut receive = |filled: &mut usize, room: &mut [u8]| {
        let read = client.read(&mut room[*filled..]).unwrap();
        assert!(read > 0, "the edge has closed");
        *filled += read;
    };
    for _ in 0..responses {
        let head = loop {
            match room[start..filled].windows(4).position(|four| four == b"\r\n\r\n") {
                Some(at) => break start + at + 4,
                None => receive(&mut filled, room),
            }
        };
        start = head + body_bytes;
        while filled < start {
            receive(&mut filled, room);
        }
    }
    filled
}

/// Number of bytes in the body of the response to a request.
fn measure(client: &mut TcpStream, request: &[u8], head_only: bool) -> usize {
    client.write_all(request).unwrap();
    let mut received = Vec::new();
    while !received.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        received.extend(byte);
    }
    let head = String::from_utf8(received).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
    let length: usize = if head_only || head.contains(" 304 ") { 0 } else { length.parse().unwrap() };
    client.read_exact(&mut vec![0; length]).unwrap();
    length
}

#[test]
fn a_hit_allocates_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let origin = runtime.block_on(OriginSim::start("127.0.0.1:0".parse().unwrap())).unwrap();
    let edge = nearside_edge::start(config(origin.address()), Clock::manual()).unwrap();
    let mut client = TcpStream::connect(edge.addresses()[0]).unwrap();
    client.set_nodelay(true).unwrap();
    let plain = "/plain?cc=max-age%3D600&size=1024&seed=1&etag=one";
    let varied = "/varied?cc=max-age%3D600&size=30000&seed=2&etag=two&vary=Accept-Encoding,X-Lang";
    for (kind, method, host, target, fields) in [
        ("whole", "GET", "www.example.org", plain, ""),
        ("pattern of hosts", "GET", "IMG.example.net", plain, ""),
        ("catch-all", "GET", "127.0.0.1", plain, ""),
        ("head", "HEAD", "www.example.org", plain, ""),
        ("variant", "GET", "www.example.org", varied, "Accept-Encoding: gzip;q=0.9, br\r\nX-Lang: de\r\n"),
        ("tag", "GET", "www.example.org", plain, "If-None-Match: \"zero\", W/\"one\"\r\n"),
        ("range", "GET", "www.example.org", plain, "Range: bytes=10-99\r\nIf-Range: \"one\"\r\n"),
        (
            "range of a variant",
            "GET",
            "www.example.org",
            varied,
            "Range: bytes=-9\r\nX-Lang: de\r\nAccept-Encoding: br,gzip\r\n",
        ),
    ] {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tests\r\n{fields}\r\n");
        let unconditional =
            format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: br, gzip\r\nX-Lang: de\r\n\r\n");
        measure(&mut client, unconditional.as_bytes(), false);
        let body_bytes = measure(&mut client, request.as_bytes(), method == "HEAD");
        for in_a_row in [1, 4] {
            let requests = request.repeat(in_a_row).into_bytes();
            let mut answers = vec![0; (HEAD_BYTES_MAX + body_bytes) * in_a_row];
            let mut filled = 0;
            let mut hits =
                || (0..ROUNDS).for_each(|_| filled = ask(&mut client, &requests, in_a_row, body_bytes, &mut answers));
            hits();
            let region = Region::new(ALLOCATOR);
            hits();
            let change = region.change();
            let count = change.allocations + change.reallocations;
            assert!(count <= OTHERS_MAX, "{kind}: {count} allocations for {} hits", ROUNDS * in_a_row);
            let log = String::from_utf8_lossy(&answers[..filled]);
            assert_eq!(log.matches("; hit; ttl=").count(), in_a_row, "{kind}: {log:.400}");
        }
    }
    edge.stop();
}
