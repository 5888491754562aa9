//! Clients that try to take a node away from others: each kind holds on to something that is limited.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Address that attackers come from, another one than that of ordinary clients.
const ATTACKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 66));
/// Size of the system's receive buffer of clients that read slowly: so that the server has to wait, and not the system.
const RECEIVE_BUFFER_BYTES: u32 = 4 << 10;
/// Pause between two bytes of a client that is slow.
const DRIP: Duration = Duration::from_millis(500);
/// Pause before a connection that was lost is made again.
const PAUSE: Duration = Duration::from_millis(50);
/// Objects that slow readers of stored content ask for.
const OBJECTS: u64 = 8;

/// Kind of an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttackKind {
    /// Uploads of a byte now and then hold the places at the origin.
    Uploads,
    /// Requests that the origin takes a minute for hold them.
    Hanging,
    /// Responses that are not stored, read a byte now and then, hold them.
    Downloads,
    /// Large stored objects, read a byte now and then, hold the memory.
    Readers,
    /// Clients ask for large objects and leave with the first bytes.
    Leavers,
    /// One URL that always fails is asked for again and again.
    Errors,
}

impl AttackKind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Uploads, Self::Hanging, Self::Downloads, Self::Readers, Self::Leavers, Self::Errors];

    /// Number of connections that make the attack felt at a node with 64 places at the origin and 256 MiB of memory.
    #[must_use]
    pub fn connections(self) -> usize {
        match self {
            Self::Uploads | Self::Hanging | Self::Downloads => 200,
            Self::Readers => 16,
            Self::Leavers => 4,
            Self::Errors => 2,
        }
    }
}

/// An attack that goes on until it is dropped.
#[derive(Debug)]
pub struct Attack {
    _tasks: JoinSet<()>,
    requests: Arc<AtomicU64>,
}

impl Attack {
    /// Attacks the node at `node`, whose origin is an `origin-sim`.
    #[must_use]
    pub fn start(kind: AttackKind, node: SocketAddr, connections: usize) -> Self {
        let (mut tasks, requests) = (JoinSet::new(), Arc::<AtomicU64>::default());
        for _ in 0..connections {
            let requests = Arc::clone(&requests);
            tasks.spawn(async move {
                loop {
                    let number = requests.fetch_add(1, Ordering::Relaxed);
                    // However a connection ends, the next one takes its place.
                    let _ = attack(kind, node, number).await;
                    sleep(PAUSE).await;
                }
            });
        }
        Self { _tasks: tasks, requests }
    }

    /// Number of requests so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

async fn attack(kind: AttackKind, node: SocketAddr, number: u64) -> io::Result<()> {
    let mut socket = connect(node).await?;
    match kind {
        AttackKind::Uploads => {
            let head =
                format!("POST /attack-upload{number} HTTP/1.1\r\nhost: attack\r\ntransfer-encoding: chunked\r\n\r\n");
            socket.write_all(head.as_bytes()).await?;
            loop {
                socket.write_all(b"1\r\nx\r\n").await?;
                sleep(DRIP).await;
            }
        }
        AttackKind::Hanging => {
            get(&mut socket, &format!("/attack-hang{number}?cc=no-store&ttfb=60000")).await?;
            read_slowly(&mut socket).await
        }
        AttackKind::Downloads => {
            get(&mut socket, &format!("/attack-download{number}?cc=no-store&size=67108864")).await?;
            read_slowly(&mut socket).await
        }
        AttackKind::Readers => {
            let object = number % OBJECTS;
            get(&mut socket, &format!("/attack-held{object}?cc=max-age%3D3600&etag=a&size=50000000")).await?;
            read_slowly(&mut socket).await
        }
        AttackKind::Leavers => {
            get(&mut socket, &format!("/attack-left{number}?cc=max-age%3D3600&etag=a&size=60000000")).await?;
            socket.read_exact(&mut [0; 100]).await.map(|_| ())
        }
        AttackKind::Errors => {
            get(&mut socket, "/attack-error?status=500&cc=no-store").await?;
            socket.read_exact(&mut [0; 100]).await.map(|_| ())
        }
    }
}

async fn connect(node: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.bind(SocketAddr::new(ATTACKER, 0))?;
    socket.connect(node).await
}

async fn get(socket: &mut TcpStream, target: &str) -> io::Result<()> {
    socket.write_all(format!("GET {target} HTTP/1.1\r\nhost: attack\r\n\r\n").as_bytes()).await
}

/// Reads a byte now and then, until the connection ends.
async fn read_slowly(socket: &mut TcpStream) -> io::Result<()> {
    while socket.read(&mut [0; 1]).await? > 0 {
        sleep(DRIP).await;
    }
    Ok(())
}
