//! Clients ask over HTTP: they are redirected to their edge, or told of it by `Alt-Svc` (RFC 7838).
//!
//! Whatever they ask for: method, path and query are kept, and no answer is for anyone else. Under `/.well-known/nearside/`
//! stands what browsers need to measure: a script that any page may include, whom to time, and where to report to.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use nearside_api::{ServeLimits, Server};
use nearside_config::Answer;
use nearside_diagnostics::WatchedTasks;
use nearside_protocol::Problem;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::{Choice, ProofError, Steering, SteeringError};

/// Times a few edges and reports; see the file.
const SCRIPT: &str = include_str!("measure.js");
/// A report is no longer: a few edges and a number for each.
const REPORT_BYTES_MAX: usize = 4 << 10;
/// Edges that one report may be about.
const REPORTED_MAX: usize = 8;
/// So long an `Alt-Svc` holds, in seconds; an edge that is gone is left after this.
const ALT_SVC_SECS: u32 = 60;

/// Time for the body of a report.
const REPORT_TIME: Duration = Duration::from_secs(10);

/// The router.
#[derive(Debug, Clone)]
struct Desk {
    steering: Arc<Steering>,
    turns: Arc<AtomicU64>,
}

pub(super) async fn start(
    address: SocketAddr,
    steering: Arc<Steering>,
    stopped: watch::Receiver<bool>,
    tasks: &WatchedTasks,
) -> Result<(SocketAddr, JoinHandle<()>), SteeringError> {
    let refused = |cause| SteeringError::Listen { address, cause };
    let listener = nearside_listen::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    let served = Arc::clone(&steering);
    let desk = Desk { steering, turns: Arc::new(AtomicU64::new(0)) };
    let routes = Router::new()
        .route("/.well-known/nearside/measure.js", get(script))
        .route("/.well-known/nearside/candidates", get(candidates))
        .route("/.well-known/nearside/report", post(report).options(preflight))
        .fallback(route)
        .with_state(desk);
    Ok((bound, tokio::spawn(tasks.clone().watch("router", serve(listener, routes, served, tasks.clone(), stopped)))))
}

/// Serves clients until the process stops, and then those whose connections the system has accepted already. Proxies that are
/// trusted speak for many networks.
async fn serve(
    listener: TcpListener,
    routes: Router,
    steering: Arc<Steering>,
    tasks: WatchedTasks,
    mut stopped: watch::Receiver<bool>,
) {
    let is_exempt = move |peer: IpAddr| peer.to_canonical().is_loopback() || steering.trusts(peer);
    let server = Server::new(ServeLimits::router(Arc::new(is_exempt)));
    let stops = async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    if let Err(error) = server.run(listener, routes, stops).await {
        tracing::error!(%error, "the router has ended");
        tasks.fail("router");
    }
}

/// Anything else: off to the edge.
async fn route(State(desk): State<Desk>, ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request) -> Response {
    let client = desk.client(peer, request.headers());
    let Some(host) = host_of(&request) else {
        return refusal(StatusCode::BAD_REQUEST, "the request names no host");
    };
    let choice = desk.steering.choose(&host, client, |reach| reach.url.is_some());
    let Some(choice) = choice else {
        let known = desk.steering.serves(&host);
        return if known {
            refusal(StatusCode::SERVICE_UNAVAILABLE, "no edge of this host has a URL: set [public] url on the edges")
        } else {
            refusal(StatusCode::MISDIRECTED_REQUEST, "no edge serves this host")
        };
    };
    let url = choice.reach.url.as_deref().unwrap_or_default().replace("{host}", &host);
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let is_plain = [Method::GET, Method::HEAD].contains(request.method());
    let mut answer = match desk.steering.answer() {
        // What is sent must come there in any case.
        Answer::AltSvc if is_plain => alternative(&url),
        _ => redirect(request.method(), &format!("{url}{target}")),
    };
    let fields = answer.headers_mut();
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(told) = HeaderValue::try_from(told(&choice)) {
        fields.insert("x-route", told);
    }
    answer
}

/// 302, which programs and people know, for what has no body; 307 for what must not become a GET (RFC 9110 §15.4.8).
fn redirect(method: &Method, location: &str) -> Response {
    let status =
        if [Method::GET, Method::HEAD].contains(method) { StatusCode::FOUND } else { StatusCode::TEMPORARY_REDIRECT };
    match HeaderValue::try_from(location) {
        Ok(location) => (status, [(header::LOCATION, location)], "").into_response(),
        Err(_) => refusal(StatusCode::BAD_REQUEST, "the target cannot stand in a field"),
    }
}

fn alternative(url: &str) -> Response {
    let (scheme, authority) = url.split_once("://").unwrap_or(("http", url));
    let (protocol, port) = if scheme == "https" { ("h2", 443) } else { ("http/1.1", 80) };
    // The token of a protocol is percent-encoded (RFC 7838 §3).
    let protocol = protocol.replace('/', "%2F");
    let authority = if has_port(authority) { authority.to_owned() } else { format!("{authority}:{port}") };
    let told = format!("{protocol}=\"{authority}\"; ma={ALT_SVC_SECS}");
    match HeaderValue::try_from(told) {
        Ok(told) => (StatusCode::OK, [(header::ALT_SVC, told)], format!("served by {url}\n")).into_response(),
        Err(_) => refusal(StatusCode::BAD_REQUEST, "the host cannot stand in a field"),
    }
}

fn has_port(authority: &str) -> bool {
    authority
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.ends_with(':') && port.bytes().all(|b| b.is_ascii_digit()))
}

/// What was decided, in a field.
fn told(choice: &Choice) -> String {
    let mut told = format!("{}; reason={}", choice.member.id, choice.decision.reason.as_str());
    if let Some(chosen) = choice.decision.chosen() {
        if let Some(ms) = chosen.expected_ms {
            let what = if chosen.is_measured { "rtt" } else { "expected" };
            told += &format!("; {what}={ms:.1}ms");
        }
        if let Some(km) = chosen.distance_km {
            told += &format!("; distance={km}km");
        }
    }
    if let Some(city) = choice.located.as_ref().and_then(|located| located.city.as_deref()) {
        told += &format!("; from=\"{}\"", nearside_geo::ascii_name(city));
    }
    told
}

async fn script() -> Response {
    let kind = HeaderValue::from_static("text/javascript; charset=utf-8");
    let fields = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, HeaderValue::from_static("max-age=3600"))];
    (fields, SCRIPT).into_response()
}

/// Whose edges are to be timed.
#[derive(Debug, Deserialize)]
struct Wanted {
    host: Option<String>,
}

/// Whom to time.
async fn candidates(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Query(wanted): Query<Wanted>,
    request: Request,
) -> Response {
    let client = desk.client(peer, request.headers());
    // Of the site that the page is of, if the router has another name.
    let named = wanted.host.filter(|host| is_host(host));
    let host = named.or_else(|| host_of(&request)).unwrap_or_default();
    let turn = desk.turns.fetch_add(1, Ordering::Relaxed);
    if let Err(problem) = desk.looks_at_page(request.headers()) {
        return open(problem.into_response());
    }
    let edges = desk.steering.to_measure(&host, client, turn);
    let ids: Vec<_> = edges.iter().map(|(id, _)| id.clone()).collect();
    let proof = desk.steering.proof(client, &ids);
    let edges: Vec<_> =
        edges.into_iter().map(|(id, url)| json!({ "id": id, "url": url.replace("{host}", &host) })).collect();
    open(Json(json!({ "edges": edges, "proof": proof })).into_response())
}

/// What a browser has measured: times in milliseconds of edges that it was offered, and the proof that it was.
#[derive(Debug, Deserialize)]
struct Report {
    #[serde(default)]
    proof: String,
    #[serde(default)]
    times: serde_json::Map<String, serde_json::Value>,
}

async fn report(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    fields: HeaderMap,
    body: Body,
) -> Response {
    let client = desk.client(peer, &fields);
    if let Err(problem) = desk.looks_at_page(&fields) {
        return open(problem.into_response());
    }
    let Ok(body) = timeout(REPORT_TIME, to_bytes(body, REPORT_BYTES_MAX)).await else {
        return open(refusal(StatusCode::REQUEST_TIMEOUT, "the report did not come in time"));
    };
    open(match desk.take(client, &body.unwrap_or_default()) {
        Ok(Some(taken)) => Json(json!({ "taken": taken })).into_response(),
        // No error: many clients of a network measure at the same time, and one of them is enough.
        Ok(None) => {
            Json(json!({ "taken": 0, "why": "another report of this network has been counted" })).into_response()
        }
        Err(problem) => problem.into_response(),
    })
}

async fn preflight() -> Response {
    let mut answer = open(StatusCode::NO_CONTENT.into_response());
    let fields = answer.headers_mut();
    fields.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    fields.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("content-type"));
    answer
}

/// For pages of any origin, and for nobody to keep.
fn open(mut answer: Response) -> Response {
    let fields = answer.headers_mut();
    fields.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn refusal(status: StatusCode, what: &'static str) -> Response {
    let text = format!("{} {}: {what}\n", status.as_str(), status.canonical_reason().unwrap_or("error"));
    (status, [(header::CACHE_CONTROL, "no-store")], text).into_response()
}

/// The host that was asked for, with its port, if it can stand in a URL.
fn host_of(request: &Request) -> Option<String> {
    let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = request.uri().authority().map(|authority| authority.as_str()).or(named)?;
    is_host(host).then(|| host.to_ascii_lowercase())
}

fn is_host(host: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '[' | ']');
    !host.is_empty() && host.len() <= 260 && host.chars().all(part)
}

impl Desk {
    /// Refuses what a page asks that is of no known site: in the browsers of its visitors it would report for their networks.
    fn looks_at_page(&self, fields: &HeaderMap) -> Result<(), Problem> {
        let Some(origin) = fields.get(header::ORIGIN) else { return Ok(()) };
        if origin.to_str().is_ok_and(|origin| self.steering.knows_page(origin)) {
            return Ok(());
        }
        let detail = "the page that measures (`Origin`) is of no host that a site of an edge names: name it in the site's hosts, or in \
                      [steering] report_hosts";
        Err(Problem::new(StatusCode::FORBIDDEN, "unknown-page", detail))
    }

    /// Takes a report; see [`Steering::take`].
    fn take(&self, client: IpAddr, body: &[u8]) -> Result<Option<usize>, Problem> {
        // Browsers send beacons as text.
        let malformed = |_error| {
            let detail = "expected a JSON object with `proof`, as /.well-known/nearside/candidates gave it, and `times`: milliseconds by edge";
            Problem::new(StatusCode::BAD_REQUEST, "malformed", detail)
        };
        let report: Report = serde_json::from_slice(body).map_err(malformed)?;
        if report.proof.is_empty() {
            let detail = "the report has no `proof`: ask /.well-known/nearside/candidates for one, and send it with the `times`; an older \
                          measure.js does not";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "proof-missing", detail));
        }
        let times = report.times.iter().take(REPORTED_MAX);
        let times = times.filter_map(|(edge, ms)| Some((edge.as_str(), ms.as_f64()?)));
        self.steering.take(client, &report.proof, times).map_err(|error| {
            let code = match error {
                ProofError::Forged => "proof-unknown",
                ProofError::Expired => "proof-expired",
            };
            Problem::new(StatusCode::FORBIDDEN, code, format!("the report is not taken: {error}"))
        })
    }

    /// Who asks: the peer, or whom a proxy that is trusted names last.
    fn client(&self, peer: SocketAddr, fields: &HeaderMap) -> IpAddr {
        if !self.steering.trusts(peer.ip()) {
            return peer.ip();
        }
        let lines = fields.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok());
        let named: Vec<_> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
        let mut from_here = named.iter().rev().map_while(|text| text.parse::<IpAddr>().ok());
        from_here.find(|address| !self.steering.trusts(*address)).unwrap_or(peer.ip())
    }
}
