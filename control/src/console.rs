//! The console: a web page that shows the fleet as it lives. Plain files, all from here; a stream tells it once a second how things
//! are, and at once what happens.
//!
//! **Invariant:** it changes nothing by itself: orders go to the admin API with whatever token the person has, and the demo is told
//! only by who may do everything.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event as Line, KeepAlive, Sse};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::stream::unfold;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use nearside_api::{Backend, UnreadBody};
use nearside_config::{Console, Scope, Upstream};
use nearside_protocol::{Event, Problem};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep_until, timeout};

use crate::desk::Desk;

/// So often it is told how things are.
const STATE_EVERY: Duration = Duration::from_secs(1);
/// A demo answers at once, or does not run.
const DEMO_MAX: Duration = Duration::from_secs(30);
/// What a demo says is no longer.
const DEMO_BYTES_MAX: usize = 1 << 20;
/// What a demo is told is no longer.
const ORDER_BYTES_MAX: usize = 64 << 10;
/// Nothing but what is here is run; pages of edges are timed wherever they are.
const POLICY: &str = "default-src 'self'; connect-src *; img-src 'self' data:; style-src 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The files of the page.
const FILES: [(&str, &str, &str); 11] = [
    ("index.html", "text/html; charset=utf-8", include_str!("console/index.html")),
    ("style.css", "text/css; charset=utf-8", include_str!("console/style.css")),
    ("main.js", JS, include_str!("console/main.js")),
    ("map.js", JS, include_str!("console/map.js")),
    ("list.js", JS, include_str!("console/list.js")),
    ("viewer.js", JS, include_str!("console/viewer.js")),
    ("load.js", JS, include_str!("console/load.js")),
    ("plots.js", JS, include_str!("console/plots.js")),
    ("orders.js", JS, include_str!("console/orders.js")),
    ("dom.js", JS, include_str!("console/dom.js")),
    ("land.js", JS, include_str!("console/land.js")),
];
const JS: &str = "text/javascript; charset=utf-8";

#[derive(Debug, Clone)]
struct Shared {
    desk: Arc<Desk>,
    config: Console,
    client: Client<HttpConnector, Full<Bytes>>,
}

pub(crate) fn routes(desk: Arc<Desk>, config: Console) -> Router {
    let client = Client::builder(TokioExecutor::new()).build_http();
    Router::new()
        .route("/", get(|| async { Redirect::temporary("/console/") }))
        .route("/console/", get(|| file(Path("index.html".to_owned()))))
        .route("/console/{file}", get(file))
        .route("/console/api/stream", get(stream))
        .route("/console/api/route", get(route))
        .route("/console/api/demo", get(demo))
        .route("/console/api/demo/{verb}", post(tell_demo))
        .with_state(Shared { desk, config, client })
}

async fn file(Path(name): Path<String>) -> Response {
    let Some((_, kind, text)) = FILES.iter().find(|(known, _, _)| *known == name) else {
        return Problem::new(StatusCode::NOT_FOUND, "not-found", "the console has no such file").into_response();
    };
    let fields = [
        (header::CONTENT_TYPE, *kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (fields, *text).into_response()
}

impl Shared {
    /// Checks that a request may see the fleet: with a token where there are tokens, unless the file opens the console to
    /// everybody.
    fn admit(&self, fields: &HeaderMap) -> Result<(), Problem> {
        if self.config.open { Ok(()) } else { self.desk.access().admit(fields, Scope::Read).map(drop) }
    }

    /// How things are.
    fn state(&self) -> Value {
        let known = &self.desk.known;
        let head = known.recent.at();
        let now = crate::known::instant();
        let registry = known.registry.lock();
        let node = |node: &crate::registry::Node| {
            json!({
                "id": node.member.id, "role": node.member.role, "city": node.member.city, "coordinates": node.member.place,
                "version": node.member.version, "alive": node.is_alive(now), "rates": node.rates, "connections": node.connections(),
                "lag": node.at.as_ref().filter(|at| at.log == head.log).map(|at| head.seq.saturating_sub(at.seq)),
                "url": node.member.reach.as_ref().and_then(|reach| reach.url.clone()), "load": node.load(),
            })
        };
        let nodes: Vec<_> = registry.nodes().map(node).collect();
        drop(registry);
        json!({
            "nodes": nodes, "seq": head.seq, "live": known.recent.is_live(), "place": self.desk.place(), "guarded": self.desk.access().is_guarded(),
            "steers": self.desk.is_steering(),
        })
    }

    /// Asks the demo.
    async fn demo(&self, demo: &Upstream, method: &str, path: &str, body: String) -> Result<Response, Problem> {
        let away =
            |why: String| Problem::new(StatusCode::BAD_GATEWAY, "demo", format!("the demo does not answer: {why}"));
        let request = axum::http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", demo.authority()))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| away(error.to_string()))?;
        let exchange = async {
            let answer = self.client.request(request).await.map_err(|error| away(error.to_string()))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), DEMO_BYTES_MAX)
                .collect()
                .await
                .map_err(|error| away(error.to_string()))?;
            let fields = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
            Ok((status, fields, Body::from(body.to_bytes())).into_response())
        };
        timeout(DEMO_MAX, exchange).await.map_err(|_elapsed| away("in time".to_owned()))?
    }
}

/// A state each second, and what happens as it happens.
async fn stream(State(shared): State<Shared>, fields: HeaderMap) -> Result<Response, Problem> {
    shared.admit(&fields)?;
    let (_, events) = shared.desk.known.events.listen(None);
    let begin = (shared, events, Instant::from_std(crate::known::instant()));
    let lines = unfold(begin, |(shared, mut events, due)| async move {
        let line = tokio::select! {
            event = next(&mut events) => Line::default().event("happened").json_data(&*event?),
            () = sleep_until(due) => {
                let line = Line::default().event("state").json_data(shared.state());
                return Some((Ok::<_, Infallible>(line.unwrap_or_default()), (shared, events, due + STATE_EVERY)));
            }
        };
        Some((Ok(line.unwrap_or_default()), (shared, events, due)))
    });
    Ok(Sse::new(lines).keep_alive(KeepAlive::default()).into_response())
}

async fn next(events: &mut broadcast::Receiver<Arc<Event>>) -> Option<Arc<Event>> {
    loop {
        match events.recv().await {
            Ok(event) => return Some(event),
            // Who is too slow misses some.
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return None,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Traveller {
    ip: Option<IpAddr>,
    host: Option<String>,
}

/// Where somebody is sent, and why.
async fn route(
    State(shared): State<Shared>,
    fields: HeaderMap,
    traveller: Query<Traveller>,
) -> Result<Json<Value>, Problem> {
    shared.admit(&fields)?;
    let missing = || Problem::unprocessable("ip-missing", "say whose way: `?ip=192.0.2.7`");
    let ip = traveller.ip.ok_or_else(missing)?;
    shared.desk.route(ip, traveller.host.as_deref().unwrap_or_default()).map(Json)
}

async fn demo(State(shared): State<Shared>, fields: HeaderMap) -> Result<Response, Problem> {
    shared.admit(&fields)?;
    let none = || Problem::new(StatusCode::NOT_FOUND, "no-demo", "this is no demo: nothing here is simulated");
    if let Some(demo) = &shared.config.demo {
        return shared.demo(demo, "GET", "/v1/demo", String::new()).await;
    }
    let wan = shared.demo(shared.config.wan.as_ref().ok_or_else(none)?, "GET", "/v1/wan", String::new()).await?;
    let page = axum::body::to_bytes(wan.into_body(), DEMO_BYTES_MAX).await.unwrap_or_default();
    let page: Value = serde_json::from_slice(&page).unwrap_or_default();
    Ok(Json(json!({ "nodes": [], "stopped": [], "wan": page })).into_response())
}

/// Breaks and heals; for who may do everything.
async fn tell_demo(
    State(shared): State<Shared>,
    Path(verb): Path<String>,
    fields: HeaderMap,
    body: UnreadBody,
) -> Result<Response, Problem> {
    let holder = shared.desk.access().admit(&fields, Scope::Admin)?;
    let none = || Problem::new(StatusCode::NOT_FOUND, "no-demo", "this is no demo: nothing here can be broken");
    if !["fail", "heal"].contains(&&*verb) {
        return Err(none());
    }
    let order: Value = body.json(holder, ORDER_BYTES_MAX).await?;
    if let Some(whole) = &shared.config.demo {
        return shared.demo(whole, "POST", &format!("/v1/demo/{verb}"), order.to_string()).await;
    }
    let wan = shared.config.wan.as_ref().ok_or_else(none)?;
    let what = order.get("what").and_then(Value::as_str).unwrap_or_default();
    let (method, path, words) = to_wan(&verb, what)?;
    let done = shared.demo(wan, method, &path, words).await?;
    if !done.status().is_success() {
        return Ok(done);
    }
    demo(State(shared), fields).await
}

/// The same words as a demo is told, for the WAN: method, path and body.
fn to_wan(verb: &str, what: &str) -> Result<(&'static str, String, String), Problem> {
    let words: Vec<_> = what.split_whitespace().collect();
    let ms = |time: &str| time.strip_suffix("ms")?.parse::<f64>().ok();
    match (verb, words.as_slice()) {
        ("heal", []) => Ok(("DELETE", "/v1/faults".to_owned(), String::new())),
        ("heal", [_, way, ..]) => Ok(("DELETE", format!("/v1/faults/{way}"), String::new())),
        ("fail", ["link", way]) => {
            Ok(("POST", "/v1/faults".to_owned(), json!({ "what": way, "cut": true }).to_string()))
        }
        ("fail", ["slow", way, time]) if ms(time).is_some() => {
            Ok(("POST", "/v1/faults".to_owned(), json!({ "what": way, "slower_ms": ms(time) }).to_string()))
        }
        _ => Err(Problem::unprocessable("what", "here only ways can be broken: `link fra-iad`, `slow edge-fra 80ms`")),
    }
}
