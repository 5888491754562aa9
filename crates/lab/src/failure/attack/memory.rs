//! Loads of different shapes that make a node hold much memory, each on an edge of its own.

use std::fmt::Write as _;

use anyhow::Context;
use clap::{Args, ValueEnum};
use nearside_config::{ByteSize, Span};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::super::test_fleet::{FleetNode, FleetSettings, TestFleet};
use super::super::{holds, mib, millis, secs};
use crate::claims::Claims;

/// Flags of `nearside loadtest attack memory`.
#[derive(Debug, Args)]
pub struct MemoryArgs {
    /// Connections of each load
    #[arg(long, value_name = "N", default_value_t = 2000)]
    clients: usize,
    /// The memory of the edges' caches
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    memory: ByteSize,
    /// How long a load lasts once all of it has come
    #[arg(long, value_name = "TIME", default_value = "3s")]
    lasts: Span,
    /// Only these loads
    #[arg(long, value_name = "LOADS", value_delimiter = ',')]
    only: Vec<MemoryLoad>,
}

/// Memory that the process may use in addition to 1.25 times its cache.
const BESIDE_BYTES: u64 = 64 << 20;
/// Size of the system's receive buffer of a client.
const BUFFER_BYTES: u32 = 8 << 10;
const HOST: &str = "host: lab.test\r\n";

/// Load that makes a node hold memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MemoryLoad {
    /// Many wait for one slow response
    Followers,
    /// Connections that ask for nothing more
    Idle,
    /// Heads that never end
    Heads,
    /// Responses with hundreds of tags
    Tags,
    /// Requests with as many fields as may be, each for a slow response of its own
    Fields,
    /// Many variants of many keys
    Variants,
    /// Request bodies in chunks of one byte
    Chunks,
    /// Requests for many parts at once, which nobody takes
    Ranges,
    /// Large responses that nobody takes
    Readers,
    /// Request bodies that never end
    Uploads,
    /// Errors of many URLs
    Errors,
}

pub(super) async fn run(args: &MemoryArgs, fleet: &mut TestFleet, claims: &mut Claims) -> anyhow::Result<()> {
    fleet.start(&FleetSettings::default()).await?;
    let memory = args.memory.0;
    let bound = memory + memory / 4 + BESIDE_BYTES;
    let all = MemoryLoad::value_variants().iter().filter(|shape| args.only.is_empty() || args.only.contains(shape));
    for (number, shape) in all.enumerate() {
        // One address stands for many here: what is measured is what they hold, not their shares.
        let tables = format!(
            "[cache]\nmemory = \"{}MiB\"\n[limits]\nconnections_per_client = 50000\nrequests_per_client = 50000\n",
            mib(memory)
        );
        let edge = fleet.start_node("edge", number + 1, &tables, "").await?;
        let held = shape.begin(&edge, args.clients).await?;
        tokio::time::sleep(args.lasts.0).await;
        let peak = fleet.peak_memory(&edge.name)?;
        let name = shape.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        outln!("      {name}: {} MiB at most, of {} MiB", mib(peak), mib(bound));
        let answer = ask(&edge, "GET /visitor?size=5&cc=no-store HTTP/1.1\r\n").await?;
        claims.check(
            &format!("{name}: the edge stays within 1.25 times its cache and {} MiB", mib(BESIDE_BYTES)),
            holds(peak <= bound, || format!("{} MiB", mib(peak))),
        );
        let answered = answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.1 503 ");
        claims.check(&format!("{name}: another client is answered meanwhile"), holds(answered, || answer));
        drop(held);
    }
    Ok(())
}

impl MemoryLoad {
    /// Starts the load, and returns the connections that it holds.
    async fn begin(self, edge: &FleetNode, clients: usize) -> anyhow::Result<Vec<TcpStream>> {
        let fields = "x: \r\n".repeat(90);
        let each = |head: &dyn Fn(usize) -> String| (0..clients).map(head).collect::<Vec<_>>();
        match self {
            Self::Followers => {
                open(edge, each(&|_| format!("GET /one?ttfb=600000 HTTP/1.1\r\n{HOST}{fields}\r\n"))).await
            }
            Self::Idle => {
                let head = |_: usize| format!("GET /hit?cc=max-age%3D3600&size=5 HTTP/1.1\r\n{HOST}\r\n");
                open(edge, (0..4 * clients).map(head).collect()).await
            }
            Self::Heads => {
                open(edge, each(&|_| format!("GET / HTTP/1.1\r\n{HOST}cookie: {}", "x".repeat(15_000)))).await
            }
            Self::Fields => {
                open(edge, each(&|n| format!("GET /f{n}?ttfb=600000 HTTP/1.1\r\n{HOST}{fields}\r\n"))).await
            }
            Self::Chunks => {
                let body = "1\r\nx\r\n".repeat(20_000);
                let head = format!("POST /_echo HTTP/1.1\r\n{HOST}transfer-encoding: chunked\r\n\r\n{body}");
                open(edge, vec![head; clients / 8]).await
            }
            Self::Ranges => {
                let path = "/parts?cc=max-age%3D3600&size=4194304&etag=a";
                ask(edge, &format!("GET {path} HTTP/1.1\r\n")).await?;
                let mut ranges = String::new();
                for n in 0..100 {
                    write!(ranges, "{}{}-{}", if n == 0 { "" } else { "," }, n * 40_000, n * 40_000 + 20_000)?;
                }
                open(edge, each(&|_| format!("GET {path} HTTP/1.1\r\n{HOST}range: bytes={ranges}\r\n\r\n"))).await
            }
            Self::Readers => {
                let head = |n: usize| format!("GET /r{n}?cc=max-age%3D3600&size=8388608 HTTP/1.1\r\n{HOST}\r\n");
                open(edge, each(&head)).await
            }
            Self::Uploads => {
                let body = "x".repeat(100_000);
                let head = format!("POST /_echo HTTP/1.1\r\n{HOST}content-length: 10000000\r\n\r\n{body}");
                open(edge, vec![head; clients]).await
            }
            Self::Tags => {
                let head = |n: usize| {
                    let tags: Vec<_> = (0..600).map(|tag| format!("{n:x}.{tag:x}")).collect();
                    format!("GET /t{n}?cc=max-age%3D3600&size=100&tag={} HTTP/1.1\r\n{HOST}", tags.join("+"))
                };
                all_of(&(0..clients).map(head).collect::<Vec<_>>(), edge).await
            }
            Self::Variants => {
                let path = "cc=max-age%3D3600&size=4096&vary=x-v HTTP/1.1\r\n";
                let head = |n: usize| format!("GET /v{}?{path}{HOST}x-v: {}\r\n", n / 16, n % 16);
                all_of(&(0..16 * clients).map(head).collect::<Vec<_>>(), edge).await
            }
            Self::Errors => {
                let head = |n: usize| format!("GET /e{n}?status={}&cc=max-age%3D60 HTTP/1.1\r\n{HOST}", 400 + n % 200);
                all_of(&(0..16 * clients).map(head).collect::<Vec<_>>(), edge).await
            }
        }
    }
}

/// Opens a connection for each request and sends it, without reading the response.
async fn open(edge: &FleetNode, wires: Vec<String>) -> anyhow::Result<Vec<TcpStream>> {
    let mut sockets = Vec::with_capacity(wires.len());
    for wire in wires {
        let mut socket = connect(edge).await?;
        // What the node does not take, as it reads no further, is left.
        let _ = tokio::time::timeout(millis(200), socket.write_all(wire.as_bytes())).await;
        sockets.push(socket);
    }
    Ok(sockets)
}

async fn connect(edge: &FleetNode) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(BUFFER_BYTES)?;
    socket.connect(([127, 0, 0, 1], edge.port).into()).await.context("the edge takes no connection")
}

/// Sends all requests pipelined on a few connections, and waits for all responses.
async fn all_of(heads: &[String], edge: &FleetNode) -> anyhow::Result<Vec<TcpStream>> {
    const CONNECTIONS: usize = 16;
    let mut runs = JoinSet::new();
    for part in heads.chunks(heads.len().div_ceil(CONNECTIONS).max(1)) {
        let mut wire = part.join("\r\n");
        wire.push_str("connection: close\r\n\r\n");
        let socket = TcpStream::connect(("127.0.0.1", edge.port)).await?;
        runs.spawn(async move {
            let (mut from, mut to) = socket.into_split();
            let mut sink = tokio::io::sink();
            let (sent, received) = tokio::join!(to.write_all(wire.as_bytes()), tokio::io::copy(&mut from, &mut sink));
            sent.and(received.map(|_bytes| ()))
        });
    }
    while let Some(run) = runs.join_next().await {
        run?.context("the edge closed a connection before its time")?;
    }
    Ok(Vec::new())
}

/// Sends a request on a connection of its own, and returns the first bytes of the response.
async fn ask(edge: &FleetNode, line: &str) -> anyhow::Result<String> {
    let mut socket = TcpStream::connect(("127.0.0.1", edge.port)).await?;
    socket.write_all(format!("{line}{HOST}connection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    tokio::time::timeout(secs(60), socket.read_to_end(&mut answer)).await.context("no answer in a minute")??;
    answer.truncate(200);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
