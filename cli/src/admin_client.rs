//! The admin API as the tools ask it: with a token, and with streams of events.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use http::uri::Authority;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use nearside_config::{Secret, files};
use nearside_diagnostics::visible_line;
use nearside_lab::http_client::{ANSWER_MAX, HttpReply, Unreachable, connect};
use nearside_lab::{errln, usage};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::exit::TokenRefused;
use crate::nodes::Target;

/// A stream says every 15 s at least that it is there.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// Who asks.
#[derive(Debug, Args)]
pub(crate) struct Token {
    /// A file with the token to show; else the environment variable NEARSIDE_TOKEN, if it is set
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Token {
    /// The token, if there is one.
    pub(crate) fn read(&self) -> anyhow::Result<Option<Secret>> {
        match &self.token_file {
            Some(path) => {
                if let Some(note) = files::open_to_others("--token-file", "the token in", path, None) {
                    errln!("warning: {note}");
                }
                Ok(Some(Secret::read(path).context("--token-file: expected a token")?))
            }
            None if std::env::var_os("NEARSIDE_TOKEN").is_none() => Ok(None),
            None => Ok(Some(Secret::from_env("NEARSIDE_TOKEN").context("NEARSIDE_TOKEN: expected a token")?)),
        }
    }
}

/// What an answer of `node`'s admin API holds.
///
/// # Errors
///
/// It holds a problem, or is none of this API; [`TokenRefused`] where the token is not good for it.
pub(crate) fn understood<T: DeserializeOwned>(node: &Target, reply: &HttpReply) -> anyhow::Result<T> {
    let other = || format!("{node} did not answer as a node does");
    if reply.status.is_success() {
        return serde_json::from_slice(&reply.body).with_context(other);
    }
    let problem: serde_json::Value = serde_json::from_slice(&reply.body).with_context(other)?;
    let detail = problem.get("detail").and_then(|detail| detail.as_str()).unwrap_or("no reason given");
    let refusal = format!("{node} refused: {}", visible_line(detail));
    if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&reply.status) {
        return Err(TokenRefused(refusal).into());
    }
    // What was asked makes no sense: a URL, a site, an expression.
    if [StatusCode::BAD_REQUEST, StatusCode::UNPROCESSABLE_ENTITY].contains(&reply.status) {
        return Err(usage!("{refusal}"));
    }
    anyhow::bail!(refusal)
}

/// Reads a stream of server-sent events, and hands each to `take` with its kind, until `take` has enough or the stream ends.
pub(crate) async fn follow(
    node: &Target,
    target: &str,
    token: Option<&Secret>,
    mut take: impl FnMut(&str, &str) -> ControlFlow<()>,
) -> anyhow::Result<()> {
    let silent = || Unreachable(format!("{node} is silent"));
    let authority: Authority = node.at.to_string().parse().with_context(|| format!("{node} is no address"))?;
    let socket = timeout(ANSWER_MAX, connect(&authority)).await.map_err(|_elapsed| silent())?;
    let socket = socket.map_err(|error| Unreachable(format!("{node} cannot be reached: {error}")))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    tokio::spawn(connection);
    let request = Request::get(target).header("host", authority.as_str());
    let request = match token {
        Some(token) => request.header("authorization", format!("Bearer {}", token.reveal())),
        None => request,
    };
    let answer = sender.send_request(request.body(Full::new(Bytes::new()))?);
    let (head, mut body) = timeout(ANSWER_MAX, answer).await.map_err(|_elapsed| silent())??.into_parts();
    if !head.status.is_success() {
        let reply = HttpReply { status: head.status, fields: head.headers, body: body.collect().await?.to_bytes() };
        return understood(node, &reply);
    }
    let mut text = Vec::new();
    while let Some(frame) = timeout(SILENCE_MAX, body.frame()).await.map_err(|_elapsed| silent())? {
        let frame = frame.map_err(|error| Unreachable(format!("{node} has ended the stream: {error}")))?;
        text.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
        // An event ends in an empty line.
        while let Some(end) = text.windows(2).position(|two| two == b"\n\n") {
            let event: Vec<u8> = text.drain(..end + 2).collect();
            let event = String::from_utf8_lossy(&event);
            let of = |name: &str| {
                let lines = event.lines().filter_map(|line| line.strip_prefix(name));
                lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
            };
            if take(&of("event:"), &of("data:")).is_break() {
                return Ok(());
            }
        }
    }
    Err(Unreachable(format!("{node} has ended the stream")).into())
}
