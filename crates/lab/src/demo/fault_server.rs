//! Server of a running demo: listens on the loopback for requests to inject and heal faults.

use anyhow::Context;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::Method;
use nearside_api::{ServeLimits, Server};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::fault::{DemoFault, LinkFault, parse_faults};
use super::fault_client::{DEMO_ADDRESS, wan};
use super::nodes::NODES;
use crate::process_fleet::FleetChange;

/// Maximum number of queued changes.
const ORDERS_MAX: usize = 16;

/// Starts the server, and returns the receiver of the changes that concern processes.
pub(crate) async fn listen() -> anyhow::Result<mpsc::Receiver<FleetChange>> {
    let (sender, receiver) = mpsc::channel(ORDERS_MAX);
    let listener = TcpListener::bind(DEMO_ADDRESS)
        .await
        .with_context(|| format!("cannot listen on {DEMO_ADDRESS}: is there another demo?"))?;
    let routes = Router::new()
        .route("/v1/demo", get(told_state))
        .route("/v1/demo/fail", post(told_fail))
        .route("/v1/demo/heal", post(told_heal))
        .layer(middleware::from_fn(only_here))
        .with_state(sender);
    // As long as the program: it has nothing to lose.
    tokio::spawn(Server::new(ServeLimits::admin()).run(listener, routes, std::future::pending()));
    Ok(receiver)
}

/// Refuses requests for a foreign host name: a web page cannot inject faults by a name that
/// resolves to this machine.
async fn only_here(request: Request, next: Next) -> Response {
    if nearside_api::is_asked_here(request.headers()) {
        next.run(request).await
    } else {
        refused("ask under 127.0.0.1").into_response()
    }
}

type Told = Result<Json<Value>, (StatusCode, Json<Value>)>;

async fn told_fail(State(fleet): State<mpsc::Sender<FleetChange>>, body: Result<Json<Value>, JsonRejection>) -> Told {
    // Only as application/json: what a page of a foreign origin may send without being asked is no order.
    let Json(body) = body.map_err(|error| refused(&error.body_text()))?;
    apply_all(&fleet, &words(&body), false).await
}

async fn told_heal(State(fleet): State<mpsc::Sender<FleetChange>>, body: Result<Json<Value>, JsonRejection>) -> Told {
    let Json(body) = body.map_err(|error| refused(&error.body_text()))?;
    let words = words(&body);
    if !words.is_empty() {
        return apply_all(&fleet, &words, true).await;
    }
    let failed = |error: anyhow::Error| refused(&format!("{error:#}"));
    wan(Method::DELETE, "/v1/faults", None).await.map_err(failed)?;
    change(&fleet, |done| FleetChange::StartAll { done }).await.map_err(failed)?;
    told_state(State(fleet)).await
}

async fn told_state(State(fleet): State<mpsc::Sender<FleetChange>>) -> Told {
    let failed = |error: anyhow::Error| refused(&format!("{error:#}"));
    let stopped = change(&fleet, |done| FleetChange::Stopped { done }).await.map_err(failed)?;
    let page = wan(Method::GET, "/v1/wan", None).await.unwrap_or_default();
    let nodes: Vec<_> = NODES.iter().map(|node| node.name).collect();
    Ok(Json(json!({ "nodes": nodes, "stopped": stopped, "wan": page })))
}

/// Words of a request: a text, or a list of words.
fn words(body: &Value) -> String {
    match body.get("what").unwrap_or(body) {
        Value::Array(words) => words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        what => what.as_str().unwrap_or_default().trim().to_owned(),
    }
}

/// Injects or heals all faults of a request; none of them if one cannot be parsed.
async fn apply_all(fleet: &mpsc::Sender<FleetChange>, words: &str, heals: bool) -> Told {
    for what in parse_faults(words).map_err(|error| refused(&format!("{error:#}")))? {
        apply(fleet, what, heals).await?;
    }
    told_state(State(fleet.clone())).await
}

fn refused(detail: &str) -> (StatusCode, Json<Value>) {
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    (status, Json(json!({ "type": "about:blank", "title": "Unprocessable Content", "status": 422, "detail": detail })))
}

async fn apply(
    fleet: &mpsc::Sender<FleetChange>,
    what: DemoFault,
    heals: bool,
) -> Result<(), (StatusCode, Json<Value>)> {
    let failed = |error: anyhow::Error| refused(&format!("{error:#}"));
    match what {
        DemoFault::Node(name) => {
            let name = name.to_owned();
            let told = |done| if heals { FleetChange::Start { name, done } } else { FleetChange::Stop { name, done } };
            change(fleet, told).await.map_err(failed)?;
        }
        DemoFault::Way(way, _) if heals => {
            wan(Method::DELETE, &format!("/v1/faults/{way}"), None).await.map_err(failed)?;
        }
        DemoFault::Way(way, fault) => {
            let slower_ms = match fault {
                LinkFault::Cut => None,
                LinkFault::Slower(ms) => Some(ms.unwrap_or(0.0)),
            };
            let fault = json!({ "what": way, "cut": slower_ms.is_none(), "slower_ms": slower_ms.unwrap_or(0.0) });
            wan(Method::POST, "/v1/faults", Some(fault.to_string())).await.map_err(failed)?;
        }
    }
    Ok(())
}

/// Sends a change to the fleet and waits for the result.
async fn change(
    fleet: &mpsc::Sender<FleetChange>,
    what: impl FnOnce(oneshot::Sender<anyhow::Result<Vec<String>>>) -> FleetChange,
) -> anyhow::Result<Vec<String>> {
    let (done, result) = oneshot::channel();
    fleet.send(what(done)).await.ok().context("the demo is stopping")?;
    result.await.context("the demo is stopping")?
}
