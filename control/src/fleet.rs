//! The paths on which nodes follow the log and say what they have done.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use nearside_api::{Problem, State, understood};
use nearside_config::Scope;
use nearside_purge::{At, BEAT_PATH, Beat, FOLLOW_PATH, Hello, Line};
use serde_json::json;
use tokio::sync::{broadcast, watch};

use crate::desk::{Desk, now};
use crate::log::Since;

/// A node hears something this often at least.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// So often it is looked which nodes can be reached.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A node that has much to catch up with gets so many lines at once.
const LINES_AT_ONCE: usize = 256;
/// What a node may say at once.
const BODY_BYTES_MAX: usize = 8 << 20;

pub(crate) fn routes(desk: Arc<Desk>) -> Router {
    Router::new()
        .route(FOLLOW_PATH, post(follow))
        .route(BEAT_PATH, post(beat))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(desk)
}

async fn follow(
    Shared(desk): Shared<Arc<Desk>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    fields: HeaderMap,
    body: Result<Json<Hello>, JsonRejection>,
) -> Result<Response, Problem> {
    desk.nodes.admit(&fields, Scope::Admin)?;
    let hello = understood(body)?;
    let id = hello.member.id.clone();
    // Before it is looked where it is: what is added after that is watched for.
    let (head, lines) = (desk.log.watch(), desk.lines.subscribe());
    // First of all: it is waited for from here on, and what is in the log by now comes before that.
    if !desk.registry.lock().joins(hello.member, hello.instance, hello.at.clone(), now()) {
        let detail = format!("another node is called {id:?}: each needs an id of its own");
        return Err(Problem::new(StatusCode::CONFLICT, "id-in-use", detail));
    }
    desk.roll.write(|| desk.registry.lock().members());
    let guard = Guard { desk: Arc::clone(&desk), id: id.clone() };
    let end = desk.log.end();
    let known = hello.at.as_ref().filter(|at| matches!(desk.log.since(at), Since::Records(_))).cloned();
    let start = Line::Start { at: end.clone(), continues: known.is_some() };
    tracing::info!(node = id, %client, at = known.as_ref().map(|at| at.seq), head = end.seq, "a node follows");
    let stream = Stream { at: known.unwrap_or(end), first: Some(start), head, lines, guard };
    let body = Body::from_stream(futures_util::stream::unfold(stream, |mut stream| async {
        let bytes = stream.next().await?;
        Some((Ok::<_, Infallible>(bytes), stream))
    }));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// A connection on which a node follows.
struct Stream {
    /// What it was sent.
    at: At,
    first: Option<Line>,
    head: watch::Receiver<u64>,
    lines: broadcast::Receiver<Arc<Line>>,
    guard: Guard,
}

/// While this lives, the node follows.
struct Guard {
    desk: Arc<Desk>,
    id: String,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.desk.registry.lock().parts(&self.id);
        self.desk.heard.notify_waiters();
        tracing::info!(node = self.id, "a node does not follow any more");
    }
}

impl Stream {
    /// The next lines; nothing when the node cannot be kept up to date on this connection, and has to begin anew.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(line) = self.first.take() {
            return Some(written(&line));
        }
        loop {
            self.head.borrow_and_update();
            match self.guard.desk.log.since(&self.at) {
                Since::Records(records) if records.is_empty() => {}
                Since::Records(records) => {
                    let next = records.get(..records.len().min(LINES_AT_ONCE))?;
                    self.at.seq = next.last()?.seq;
                    let lines = next.iter().map(|record| written(&Line::Purge((**record).clone())));
                    return Some(lines.collect::<Vec<_>>().concat().into());
                }
                Since::Unknown => return None,
            }
            tokio::select! {
                changed = self.head.changed() => changed.ok()?,
                line = self.lines.recv() => match line {
                    Ok(line) => return Some(written(&line)),
                    // Those that were missed are not waited for for ever.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                () = tokio::time::sleep(BEAT_EVERY) => return Some(written(&Line::Beat { head: self.at.seq })),
            }
        }
    }
}

/// Tells of nodes that come and go, as long as it runs.
pub(crate) async fn watch_nodes(desk: Arc<Desk>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let turned = desk.registry.lock().turned(now());
        for (member, is_alive) in turned {
            let (kind, why) = if is_alive { ("node-up", "follows") } else { ("node-down", "unreachable") };
            let version = member.version;
            desk.events.tell(kind, json!({ "id": member.id, "why": why, "role": member.role, "version": version }));
        }
    }
}

fn written(line: &Line) -> Bytes {
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

async fn beat(
    Shared(desk): Shared<Arc<Desk>>,
    fields: HeaderMap,
    body: Result<Json<Beat>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    desk.nodes.admit(&fields, Scope::Admin)?;
    let beat = understood(body)?;
    let log = desk.log.at().log;
    let told = desk.registry.lock().beats(&beat, &log, now());
    desk.heard.notify_waiters();
    if let Some(told) = told {
        for (id, receipt) in told.into_iter().filter(|(_, receipt)| receipt.state == State::Applied) {
            desk.events.tell("receipt", json!({ "id": id, "node": receipt }));
        }
        if beat.leaves {
            desk.roll.write(|| desk.registry.lock().members());
            desk.events.tell("node-down", json!({ "id": beat.node, "why": "stopped" }));
        }
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem::new(StatusCode::CONFLICT, "unknown-node", "this node does not follow the log: follow it first"))
}
