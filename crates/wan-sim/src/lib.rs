//! A WAN in one process: what goes through it takes as long as it would between two cities, and can be cut, slowed and healed.
//!
//! It relays TCP connections, and adds what a relay between two sockets of one machine forgets: the round trip of the handshake, and
//! that a connection that is new or was idle starts slowly ([`flow`]). Browsers come in by a door where the name of a URL says
//! in which city they sit ([`door`]); nodes by a listener for each way between two of them.
//!
//! **Invariant:** it changes no byte and no order of bytes; it is the outside world, and nothing of the data path knows of it.

mod accuracy;
mod api;
mod conditions;
mod door;
mod flow;
mod relay;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use nearside_config::{NodeId, Wan};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use accuracy::Accuracy;
use conditions::{Conditions, Way};
pub use conditions::{Fault, FaultError};
use door::Door;

/// Why it cannot run.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {cause}")]
pub struct StartError {
    address: SocketAddr,
    cause: io::Error,
}

/// A WAN that runs; it ends when this is dropped.
#[derive(Debug)]
pub struct WanSim {
    api: Option<SocketAddr>,
    door: Option<SocketAddr>,
    links: Vec<SocketAddr>,
    running: Vec<JoinHandle<()>>,
}

impl WanSim {
    /// Starts it: it listens when this returns.
    ///
    /// # Errors
    ///
    /// It cannot listen somewhere.
    pub async fn start(config: Wan) -> Result<Self, StartError> {
        let conditions = Arc::new(Conditions::new(&config));
        let accuracy = Arc::new(Accuracy::default());
        let mut sim = Self { api: None, door: None, links: Vec::new(), running: Vec::new() };
        for link in &config.links {
            let place = |name: &NodeId| config.places.iter().find(|place| place.name == *name);
            let (Some(from), Some(to)) = (place(&link.from), place(&link.to)) else { continue };
            let way = Arc::new(Way::between(from, to));
            let (listener, address) = listen(link.listen).await?;
            let relay = relay::Relay { conditions: Arc::clone(&conditions), accuracy: Arc::clone(&accuracy) };
            let target = to.address.clone();
            sim.running.push(tokio::spawn(async move { relay.serve(&listener, &way, &target).await }));
            sim.links.push(address);
        }
        if let Some(address) = config.listen {
            let (listener, address) = listen(address).await?;
            let relay = relay::Relay { conditions: Arc::clone(&conditions), accuracy: Arc::clone(&accuracy) };
            let door = Arc::new(Door::new(&config, relay));
            sim.running.push(tokio::spawn(async move { door.serve(&listener).await }));
            sim.door = Some(address);
        }
        if let Some(address) = config.api {
            let (listener, address) = listen(address).await?;
            let routes = api::routes(config, conditions, accuracy);
            sim.running.push(tokio::spawn(async move {
                if let Err(error) = axum::serve(listener, routes).await {
                    tracing::error!(%error, "the listener has ended");
                }
            }));
            sim.api = Some(address);
        }
        Ok(sim)
    }

    /// Where it is told to break and heal.
    #[must_use]
    pub fn api(&self) -> Option<SocketAddr> {
        self.api
    }

    /// Where browsers come in.
    #[must_use]
    pub fn door(&self) -> Option<SocketAddr> {
        self.door
    }

    /// Where each way begins, in the order of the configuration.
    #[must_use]
    pub fn links(&self) -> &[SocketAddr] {
        &self.links
    }
}

impl Drop for WanSim {
    fn drop(&mut self) {
        self.running.iter().for_each(JoinHandle::abort);
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let refused = |cause| StartError { address, cause };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    Ok((listener, bound))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests fail by panicking")]

    use std::time::Duration;

    use nearside_config::parse_wan;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;
    use crate::relay::now;

    /// Answers each connection with where it comes from, and then with whatever it is sent.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, from)) = listener.accept().await {
                tokio::spawn(async move {
                    socket.write_all(format!("{}\n", from.ip()).as_bytes()).await.unwrap();
                    let (mut read, mut write) = socket.split();
                    tokio::io::copy(&mut read, &mut write).await.unwrap_or_default();
                    let _ = write.shutdown().await;
                });
            }
        });
        address
    }

    async fn sim() -> WanSim {
        let echo = echo().await;
        let text = format!(
            "role = \"wan-sim\"\nlisten = \"127.0.0.1:0\"\napi = \"127.0.0.1:0\"\nviewers = [\"São Paulo\", \"Dublin\"]\n\
             [[place]]\nname = \"near\"\ncity = \"London\"\naddress = \"{echo}\"\ndoor = \"\"\n\
             [[place]]\nname = \"far\"\ncity = \"Tokyo\"\naddress = \"{echo}\"\ndoor = \"far\"\n\
             [[link]]\nfrom = \"near\"\nto = \"far\"\nlisten = \"127.0.0.1:0\"\n\
             [[round_trip]]\nbetween = [\"London\", \"Tokyo\"]\ntime = \"100ms\"\n"
        );
        WanSim::start(parse_wan("wan.toml", text).unwrap()).await.unwrap()
    }

    async fn line(socket: &mut TcpStream) -> String {
        let mut line = Vec::new();
        loop {
            match timeout(Duration::from_secs(20), socket.read_u8()).await.unwrap() {
                Ok(b'\n') => return String::from_utf8(line).unwrap(),
                Ok(byte) => line.push(byte),
                Err(_) => return String::new(),
            }
        }
    }

    async fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
        ask_as("127.0.0.1", address, method, path, body).await
    }

    async fn ask_as(host: &str, address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        (answer[9..12].parse().unwrap(), answer)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn bytes_come_through_unchanged_and_never_faster_than_the_way_allows() {
        let sim = sim().await;
        let begun = now();
        let mut socket = TcpStream::connect(sim.links()[0]).await.unwrap();
        // Half of the handshake's round trip, and half of one for the answer.
        assert_eq!(line(&mut socket).await, "127.0.0.1");
        assert!(begun.elapsed() >= Duration::from_millis(99), "{:?}", begun.elapsed());
        let begun = now();
        socket.write_all(b"hello\n").await.unwrap();
        assert_eq!(line(&mut socket).await, "hello");
        assert!(begun.elapsed() >= Duration::from_millis(99), "{:?}", begun.elapsed());
        // More than windows and buffers hold, both ways at once.
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7 + n / 251).to_le_bytes()[0]).collect();
        let (mut read, mut write) = socket.into_split();
        let expected = sent.clone();
        let writing = tokio::spawn(async move {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let mut got = Vec::new();
        timeout(Duration::from_secs(60), read.read_to_end(&mut got)).await.unwrap().unwrap();
        writing.await.unwrap();
        assert!(got == expected, "{} of {} bytes", got.len(), expected.len());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_browser_comes_from_the_city_that_its_url_names() {
        let sim = sim().await;
        for (host, from) in
            [("gru.localhost:8000", "127.1.1.1"), ("far.dub.localhost", "127.1.2.1"), ("DUB.localhost", "127.1.2.1")]
        {
            let mut socket = TcpStream::connect(sim.door().unwrap()).await.unwrap();
            let head = format!("GET /a HTTP/1.1\r\nX-First: 1\r\nHost: {host}\r\n\r\n");
            // In two parts, as it may come.
            socket.write_all(&head.as_bytes()[..10]).await.unwrap();
            tokio::task::yield_now().await;
            socket.write_all(&head.as_bytes()[10..]).await.unwrap();
            assert_eq!(line(&mut socket).await, from, "{host}");
            assert_eq!(line(&mut socket).await, "GET /a HTTP/1.1\r", "passed on as it was");
        }
        for host in ["localhost", "xyz.localhost", "nowhere.dub.localhost"] {
            let (status, text) = ask_as(host, sim.door().unwrap(), "GET", "/", "").await;
            assert_eq!(status, 421, "{host}");
            assert!(text.contains("gru (São Paulo)") && text.contains("places: far"), "{text}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_cut_stands_still_and_goes_on_when_it_is_healed() {
        let sim = sim().await;
        let (api, mut socket) = (sim.api().unwrap(), TcpStream::connect(sim.links()[0]).await.unwrap());
        line(&mut socket).await;
        for (fault, says) in [
            (r#"{"what": "mars", "cut": true}"#, "near, far"),
            (r#"{"what": "far"}"#, "slower_ms"),
            (r#"{"what": "far", "slower_ms": -1}"#, "slower_ms"),
            (r#"{"cut": true}"#, "missing field"),
        ] {
            let (status, text) = ask(api, "POST", "/v1/faults", fault).await;
            assert!(status == 422 && text.contains(says), "{fault}: {text}");
        }
        for what in ["lon-nrt", "far"] {
            assert_eq!(
                ask(api, "POST", "/v1/faults", &format!("{{\"what\": \"{what}\", \"cut\": true}}")).await.0,
                200
            );
            socket.write_all(b"hello\n").await.unwrap();
            let waited = timeout(Duration::from_millis(400), socket.read_u8()).await;
            assert!(waited.is_err(), "{what}: it comes through");
            assert_eq!(ask(api, "DELETE", &format!("/v1/faults/{what}"), "").await.0, 200);
            assert_eq!(line(&mut socket).await, "hello", "{what}");
        }
        ask(api, "POST", "/v1/faults", r#"{"what": "near", "slower_ms": 200}"#).await;
        let begun = now();
        socket.write_all(b"slow\n").await.unwrap();
        assert_eq!(line(&mut socket).await, "slow");
        assert!(begun.elapsed() >= Duration::from_millis(290), "{:?}", begun.elapsed());
        let (_, page) = ask(api, "GET", "/v1/wan", "").await;
        assert!(page.contains("\"slower_ms\":200.0") && page.contains("127.1.2.0/24"), "{page}");
        assert!(ask(api, "DELETE", "/v1/faults", "").await.1.contains("\"faults\":[]"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_side_that_is_gone_ends_the_other_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        let text = format!(
            "role = \"wan-sim\"\n[[place]]\nname = \"a\"\ncity = \"London\"\naddress = \"{target}\"\n\
             [[link]]\nfrom = \"a\"\nto = \"a\"\nlisten = \"127.0.0.1:0\"\n"
        );
        let sim = WanSim::start(parse_wan("wan.toml", text).unwrap()).await.unwrap();
        // A client that takes nothing, and is gone: its server sees that.
        let client = TcpStream::connect(sim.links()[0]).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let endless = tokio::spawn(async move { while server.write_all(&[7; 65536]).await.is_ok() {} });
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!endless.is_finished());
        drop(client);
        timeout(Duration::from_secs(20), endless).await.expect("the server is never told").unwrap();
        // A server that breaks off: its client sees no good end.
        let mut client = TcpStream::connect(sim.links()[0]).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        server.write_all(b"half of it").await.unwrap();
        let mut got = [0; 10];
        client.read_exact(&mut got).await.unwrap();
        server.set_zero_linger().unwrap();
        drop(server);
        let ended = timeout(Duration::from_secs(20), client.read(&mut got)).await.expect("the client is never told");
        assert!(ended.is_err(), "it looks whole: {ended:?}");
    }
}
