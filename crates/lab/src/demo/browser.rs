//! A browser in a city, as far as it is needed to see how long things take: one connection, requests one after the other.

use std::time::{Duration, Instant};

use anyhow::Context;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::http_client::HttpReply;

/// The door of the simulated WAN.
const DOOR: &str = "127.0.0.1:8000";
/// Nothing in the demo takes longer.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// A connection through the WAN to a host: `nrt.gru.localhost` is the edge in Tokyo as seen from São Paulo.
pub(crate) struct WanBrowser {
    host: String,
    sender: SendRequest<Full<Bytes>>,
    opened: Instant,
}

impl WanBrowser {
    pub(crate) async fn open(host: &str) -> anyhow::Result<Self> {
        let opened = now();
        let socket = TcpStream::connect(DOOR).await.context("the WAN is not there")?;
        socket.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(socket)).await?;
        tokio::spawn(connection);
        Ok(Self { host: format!("{host}:8000"), sender, opened })
    }

    /// Asks, and reads to the end.
    pub(crate) async fn ask(&mut self, method: Method, path: &str, body: &str) -> anyhow::Result<HttpReply> {
        let exchange = async {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("host", &self.host)
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from(body.to_owned())))?;
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            anyhow::Ok(HttpReply { status: head.status, fields: head.headers, body: body.collect().await?.to_bytes() })
        };
        tokio::time::timeout(ANSWER_MAX, exchange).await.with_context(|| format!("{} does not answer", self.host))?
    }

    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<HttpReply> {
        self.ask(Method::GET, path, "").await
    }

    /// How long it takes there and back: the shortest of a few, on a connection that is warm.
    pub(crate) async fn round_trip(&mut self) -> anyhow::Result<Duration> {
        self.get(PING).await?;
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let begun = now();
            self.get(PING).await?;
            best = best.min(begun.elapsed());
        }
        Ok(best)
    }

    /// Since it was opened.
    pub(crate) fn elapsed(&self) -> Duration {
        self.opened.elapsed()
    }
}

const PING: &str = "/.well-known/nearside/ping";

#[expect(clippy::disallowed_methods, reason = "it is measured how long things take")]
fn now() -> Instant {
    Instant::now()
}
