//! An origin that does what the request says: for tests, demos and load runs.
//!
//! Every answer is shaped by directives in the query ([`directives`]); bodies are deterministic, so that whoever gets
//! one can check every byte ([`body`]); a ledger proves what reached the origin ([`ledger`]). At `/` stands a small
//! demo site.
//!
//! **Invariant:** it knows nothing of the caches in front of it; it is the outside world.

pub mod body;
mod connection;
pub mod directives;
pub mod ledger;
mod respond;
mod site;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use connection::{Tap, Trick};
use ledger::Ledger;
use respond::Origin;

/// A running origin; it stops when this is dropped.
#[derive(Debug)]
pub struct OriginSim {
    address: SocketAddr,
    origin: Arc<Origin>,
    task: JoinHandle<()>,
}

impl OriginSim {
    /// Starts an origin on the current tokio runtime. Port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on.
    pub async fn start(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let origin = Arc::new(Origin::default());
        let task = tokio::spawn(accept(listener, Arc::clone(&origin)));
        Ok(Self { address, origin, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets the `Date` of answers run ahead of the real time by so much in all, for tests that move the clocks of caches.
    pub fn set_ahead(&self, ahead: std::time::Duration) {
        self.origin.set_ahead(ahead);
    }

    /// What has reached it.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.origin.ledger
    }
}

impl Drop for OriginSim {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, origin: Arc<Origin>) {
    // Connections end with the task that accepts them.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((socket, _)) = accepted {
                    connections.spawn(serve(socket, Arc::clone(&origin)));
                } else {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            }
            _ = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn serve(socket: TcpStream, origin: Arc<Origin>) {
    let _ = socket.set_nodelay(true);
    let trick = Trick::new(&socket);
    let tap = Tap::new(socket, trick.clone());
    let service = hyper::service::service_fn(move |request| {
        let (origin, trick) = (Arc::clone(&origin), trick.clone());
        async move { respond::respond(&origin, &trick, request).await }
    });
    // Clients come and go; faults end connections on purpose.
    let _ = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(tap), service)
        .with_upgrades()
        .await;
}
