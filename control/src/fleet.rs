//! The paths on which nodes follow the log and say what they have done.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use nearside_api::{Backend, Ordered, Reach, UnreadBody, carry_out_signed};
use nearside_protocol::{Order, Problem, Receipt};
use nearside_replication::{At, BEAT_PATH, Beat, FOLLOW_PATH, GIVE_PATH, Given, Hello, Line};
use tokio::sync::{broadcast, watch};

use crate::desk::Desk;
use crate::engine::Following;
use crate::known::Known;
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
        .route(GIVE_PATH, post(give))
        .with_state(desk)
}

async fn follow(
    Shared(desk): Shared<Arc<Desk>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    fields: HeaderMap,
    body: UnreadBody,
) -> Result<Response, Problem> {
    let node = desk.nodes.admit(&fields)?;
    let Hello { member, instance, at, last } = body.json(node.holder(), BODY_BYTES_MAX).await?;
    let refused = |problem: Problem| {
        tracing::warn!(%client, why = problem.detail, "a node was refused");
        problem
    };
    let member = node.registers(member).map_err(refused)?.seen_from(client.ip());
    let hello = Hello { member, instance, at, last };
    let id = hello.member.id.clone();
    let known = Arc::clone(&desk.known);
    // Before it is looked where it is: what is added after that is watched for.
    let (changed, lines) = (known.recent.watch(), known.lines.subscribe());
    let unknown = |detail: String| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "log", detail);
    if !known.recent.is_live() {
        return Err(unknown(
            "the purge log cannot be read here for now: try again, or another control process".to_owned(),
        ));
    }
    // First of all: it is waited for from here on, and what is in the log by now comes before that.
    let following = desk.engine.joins(&hello).await.map_err(|error| unknown(error.to_string()))?;
    let following = following.ok_or_else(|| {
        let detail = format!("another node is called {id:?}: each needs an id of its own");
        Problem::new(StatusCode::CONFLICT, "id-in-use", detail)
    })?;
    let (end, last) = known.recent.end();
    let reached = hello.at.filter(|at| known.recent.knows(at, &hello.last));
    let start = Line::Start { at: end.clone(), last: last.clone(), continues: reached.is_some() };
    tracing::info!(node = id, %client, at = reached.as_ref().map(|at| at.seq), head = end.seq, "a node follows");
    let (at, last) = reached.map_or((end, last), |at| (at, hello.last));
    let stream = Stream { at, last, first: Some(start), known, changed, lines, _following: following };
    let body = Body::from_stream(futures_util::stream::unfold(stream, |mut stream| async {
        let bytes = stream.next().await?;
        Some((Ok::<_, Infallible>(bytes), stream))
    }));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// A connection on which a node follows.
struct Stream {
    /// What it was sent, and the name of the last order of that.
    at: At,
    last: String,
    first: Option<Line>,
    known: Arc<Known>,
    changed: watch::Receiver<()>,
    lines: broadcast::Receiver<Arc<Line>>,
    _following: Following,
}

impl Stream {
    /// The next lines; nothing when the node cannot be kept up to date on this connection, and has to begin anew.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(line) = self.first.take() {
            return Some(written(&line));
        }
        loop {
            self.changed.borrow_and_update();
            match self.known.recent.since(&self.at, &self.last) {
                _ if !self.known.recent.is_live() => return None,
                Since::Records(records) if records.is_empty() => {}
                Since::Records(records) => {
                    let next = records.get(..records.len().min(LINES_AT_ONCE))?;
                    let last = next.last()?;
                    (self.at.seq, self.last) = (last.seq, last.id.clone());
                    let lines = next.iter().map(|record| written(&Line::Purge((**record).clone())));
                    return Some(lines.collect::<Vec<_>>().concat().into());
                }
                Since::Unknown => return None,
            }
            tokio::select! {
                changed = self.changed.changed() => changed.ok()?,
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

/// Looks which nodes come and go, as long as it runs.
pub(crate) async fn watch_nodes(desk: Arc<Desk>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        desk.known.looks();
    }
}

fn written(line: &Line) -> Bytes {
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

async fn beat(Shared(desk): Shared<Arc<Desk>>, fields: HeaderMap, body: UnreadBody) -> Result<StatusCode, Problem> {
    let node = desk.nodes.admit(&fields)?;
    let beat: Beat = body.json(node.holder(), BODY_BYTES_MAX).await?;
    node.is_node(&beat.node)?;
    if desk.engine.hears(&beat) {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem::new(StatusCode::CONFLICT, "unknown-node", "this node does not follow the log: follow it first"))
}

/// Takes an order that a node was given by a client, for all nodes.
async fn give(
    Shared(desk): Shared<Arc<Desk>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    fields: HeaderMap,
    body: UnreadBody,
) -> Result<Json<Receipt>, Problem> {
    let admitted = desk.nodes.admit(&fields)?;
    if desk.access().is_guarded() && !desk.nodes.is_guarded() {
        // Else whoever reaches this listener could purge without one of the tokens.
        let detail = "with a [[token]], nodes may give orders only if they show a secret: configure a [[node]], or [nodes] secret";
        return Err(Problem::new(StatusCode::FORBIDDEN, "nodes-secret", detail));
    }
    let Given { node, order } = body.json(admitted.holder(), BODY_BYTES_MAX).await?;
    let may = |order: Order| -> Result<Order, Problem> {
        admitted.is_node(&node)?;
        admitted.may_purge(&desk.sites_of(&order)?)?;
        Ok(order)
    };
    let order = may(order);
    let from = Ordered { fields: &fields, client: client.ip(), action: "purge-node", reach: Reach::Fleet };
    carry_out_signed(&*desk, &from, &format!("node {node}"), None, order).await.map(Json)
}
