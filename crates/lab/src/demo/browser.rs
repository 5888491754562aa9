//! Browser in a city, reduced to what measurements need: one connection, and one request after the
//! other.

use std::time::{Duration, Instant};

use anyhow::Context;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::http_client::HttpReply;

/// Address at which browsers enter the simulated WAN.
const DOOR: &str = "127.0.0.1:8000";
/// Time limit of a request and its response. Nothing in the demo takes longer.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Connection through the WAN to a host: `nrt.gru.localhost` is the edge in Tokyo, as seen from São
/// Paulo.
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

    /// Sends a request and reads its response to the end.
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

    /// Measures the round trip time: the shortest of a few requests on a warm connection.
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

    /// Time since the connection was opened.
    pub(crate) fn elapsed(&self) -> Duration {
        self.opened.elapsed()
    }
}

const PING: &str = "/.well-known/nearside/ping";

#[expect(clippy::disallowed_methods, reason = "it is measured how long things take")]
fn now() -> Instant {
    Instant::now()
}
