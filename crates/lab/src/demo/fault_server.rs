//! Orders to a demo that runs: it listens on the loopback, and breaks and heals what it is told to.

use anyhow::{Context, bail};
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
use super::nodes::NODES;
use crate::http_client::{Unreachable, send};
use crate::process_fleet::FleetChange;

/// Where a demo is told.
const ADDRESS: &str = "127.0.0.1:7090";
/// Where its WAN is.
const WAN: &str = "http://127.0.0.1:8001";
/// Orders that may wait.
const ORDERS_MAX: usize = 16;

/// Listens for orders; those about processes come out.
pub(crate) async fn listen() -> anyhow::Result<mpsc::Receiver<FleetChange>> {
    let (sender, receiver) = mpsc::channel(ORDERS_MAX);
    let listener = TcpListener::bind(ADDRESS)
        .await
        .with_context(|| format!("cannot listen on {ADDRESS}: is there another demo?"))?;
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

/// Only under an address of this machine: a page under a name that leads here is no order.
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

/// What an order is about, as it was written: a text, or a list of words.
fn words(body: &Value) -> String {
    match body.get("what").unwrap_or(body) {
        Value::Array(words) => words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        what => what.as_str().unwrap_or_default().trim().to_owned(),
    }
}

/// Breaks or heals all of what was written; nothing of it if a part is not understood.
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

/// Has the fleet do something, and waits for it.
async fn change(
    fleet: &mpsc::Sender<FleetChange>,
    what: impl FnOnce(oneshot::Sender<anyhow::Result<Vec<String>>>) -> FleetChange,
) -> anyhow::Result<Vec<String>> {
    let (done, result) = oneshot::channel();
    fleet.send(what(done)).await.ok().context("the demo is stopping")?;
    result.await.context("the demo is stopping")?
}

/// Asks the WAN something.
pub(crate) async fn wan(method: Method, path: &str, body: Option<String>) -> anyhow::Result<Value> {
    let reply = send(method, &format!("{WAN}{path}"), body).await?;
    let page: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    if !reply.status.is_success() {
        bail!("{}", page.get("detail").and_then(Value::as_str).unwrap_or("the WAN has refused it"));
    }
    Ok(page)
}

/// Breaks something of the demo that runs, in the words of `nearside demo fail`, and prints what is broken then.
///
/// # Errors
///
/// [`UsageError`](crate::UsageError) where the words are not understood; [`Unreachable`] where no demo runs; the demo refuses.
pub async fn fail(what: &[String]) -> anyhow::Result<()> {
    let what = parse_faults(&what.join(" ")).map_err(|error| usage!("demo fail: {error:#}"))?;
    if let Some(DemoFault::Way(way, _)) =
        what.iter().find(|what| matches!(what, DemoFault::Way(_, LinkFault::Slower(None))))
    {
        return Err(usage!("demo fail: say by how much: slow {way} 80ms"));
    }
    tell("fail", &what).await
}

/// Heals what was broken, or everything if `what` is empty, and prints what is broken then.
///
/// # Errors
///
/// As [`fail`].
pub async fn heal(what: &[String]) -> anyhow::Result<()> {
    if what.is_empty() {
        print(&order("heal", "").await?);
        return Ok(());
    }
    let what = parse_faults(&what.join(" ")).map_err(|error| usage!("demo heal: {error:#}"))?;
    tell("heal", &what).await
}

/// Prints what is broken.
///
/// # Errors
///
/// [`Unreachable`] where no demo runs.
pub async fn state() -> anyhow::Result<()> {
    let reply = reach(send(Method::GET, &format!("http://{ADDRESS}/v1/demo"), None).await)?;
    print(&serde_json::from_slice(&reply.body)?);
    Ok(())
}

/// Gives orders one after the other, and prints how it is then.
async fn tell(verb: &str, what: &[DemoFault]) -> anyhow::Result<()> {
    let mut state = Value::Null;
    for what in what {
        state = order(verb, &what.to_string()).await?;
    }
    print(&state);
    Ok(())
}

/// Tells a demo that runs to `fail` or `heal` something: how it is then.
pub(crate) async fn order(verb: &str, what: &str) -> anyhow::Result<Value> {
    let body = json!({ "what": what }).to_string();
    let reply = reach(send(Method::POST, &format!("http://{ADDRESS}/v1/demo/{verb}"), Some(body)).await)?;
    let page: Value = serde_json::from_slice(&reply.body)?;
    if !reply.status.is_success() {
        bail!("{}", page.get("detail").and_then(Value::as_str).unwrap_or("the demo has refused it"));
    }
    Ok(page)
}

/// Says what to do where no demo runs.
fn reach<T>(reply: anyhow::Result<T>) -> anyhow::Result<T> {
    reply.map_err(|error| {
        if error.is::<Unreachable>() {
            let what = format!("no demo runs on this machine (start one with `nearside demo`): {error:#}");
            anyhow::Error::new(Unreachable(what))
        } else {
            error
        }
    })
}

fn print(page: &Value) {
    let empty = Vec::new();
    let stopped = page.get("stopped").and_then(Value::as_array).unwrap_or(&empty);
    let faults = page.pointer("/wan/faults").and_then(Value::as_array).unwrap_or(&empty);
    for name in stopped.iter().filter_map(Value::as_str) {
        outln!("{name:<14} stopped");
    }
    for fault in faults {
        let what = fault.get("what").and_then(Value::as_str).unwrap_or_default();
        let is_cut = fault.get("cut").and_then(Value::as_bool).unwrap_or_default();
        let slower = fault.get("slower_ms").and_then(Value::as_f64).unwrap_or_default();
        if is_cut { outln!("{what:<14} cut") } else { outln!("{what:<14} {slower} ms slower") }
    }
    if stopped.is_empty() && faults.is_empty() {
        outln!("nothing is broken");
    }
}
