//! The purge shapes of others, so that their plugins and tools work with another endpoint.
//!
//! * Fastly: `PURGE` of a URL; `POST /service/{site}/purge/{key}`, `/purge` with `surrogate_keys`, `/purge_all`;
//!   `Fastly-Soft-Purge: 1`, `Fastly-Key`.
//! * Cloudflare: `POST /client/v4/zones/{site}/purge_cache` with `files`, `tags`, `hosts`, `prefixes`, `purge_everything`.
//! * Varnish: `PURGE` and `BAN`, as [`crate::method`] understands them.
//!
//! They reach all nodes of a fleet ([`Reach::Fleet`]), and every answer says how much was matched.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Path, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use nearside_protocol::{Order, Problem, Receipt};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::UnreadBody;
use crate::method::{MethodPurge, Ports};
use crate::routes::{Backend, Ordered, Reach, carry_out, carry_out_body};

/// "up to 256 surrogate keys" (Fastly's documentation of a batch purge).
const FASTLY_KEYS_MAX: usize = 256;

pub(crate) fn routes<B: Backend>() -> Router<Arc<B>> {
    Router::new()
        .route("/service/{site}/purge/{key}", post(fastly_key::<B>))
        .route("/service/{site}/purge", post(fastly_keys::<B>))
        .route("/service/{site}/purge_all", post(fastly_all::<B>))
        .route("/client/v4/zones/{site}/purge_cache", post(cloudflare::<B>))
}

fn is_soft(fields: &HeaderMap) -> bool {
    fields.get("fastly-soft-purge").is_some_and(|value| value == "1")
}

fn spaced(fields: &HeaderMap, name: &str) -> Vec<String> {
    let lines = fields.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split([' ', ',', ';'])).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}

/// The request of a plugin, which knows one address of a fleet.
fn ordered<'r>(fields: &'r HeaderMap, client: SocketAddr, action: &'static str) -> Ordered<'r> {
    Ordered { fields, client: client.ip(), action, reach: Reach::Fleet }
}

/// Obeys a `PURGE` or one of its relatives that came to the admin listener.
pub(crate) async fn by_method<B: Backend>(
    backend: &B,
    client: SocketAddr,
    request: &request::Parts,
    has_body: bool,
) -> Response {
    let (uri, fields) = (&request.uri, &request.headers);
    let host = || fields.get(header::HOST).and_then(|value| value.to_str().ok());
    let purge = MethodPurge {
        method: &request.method,
        authority: uri.authority().map(Authority::as_str).or_else(host).unwrap_or_default(),
        target: uri.path_and_query().map_or("/", |target| target.as_str()),
        fields,
        has_body,
        ports: &Ports::default(),
    };
    let order = purge.order();
    match carry_out(backend, &ordered(fields, client, "purge-method"), order).await {
        Ok((receipt, _)) => receipt.complete().map(MethodDone::of).map(Json).into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// The answer to a purge by method.
#[derive(Debug, Serialize, ToSchema)]
pub struct MethodDone {
    status: &'static str,
    id: String,
    /// Stored variants that the purge met, and responses under way that were known to belong to it, on all nodes.
    matched: u64,
    /// Fills under way that store nothing because of it.
    fenced_fills: u64,
    /// The nodes that have applied it.
    nodes: Vec<String>,
}

impl MethodDone {
    /// The answer that a receipt makes.
    #[must_use]
    pub fn of(receipt: Receipt) -> Self {
        Self {
            status: "ok",
            id: receipt.id,
            matched: receipt.matched,
            fenced_fills: receipt.nodes.iter().map(|node| node.fenced_fills).sum(),
            nodes: receipt.nodes.into_iter().map(|node| node.id).collect(),
        }
    }
}

async fn fastly_key<B: Backend>(
    State(backend): State<Arc<B>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    Path((site, key)): Path<(String, String)>,
    fields: HeaderMap,
) -> Response {
    let order = Order { site: Some(site), tags: vec![key], soft: is_soft(&fields), ..Order::default() };
    let from = ordered(&fields, client, "purge-fastly");
    match carry_out(&*backend, &from, Ok(order)).await.and_then(|(receipt, _)| receipt.complete()) {
        Ok(receipt) => FastlyDone::new(Some(receipt.id), receipt.matched).into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// The answer to a purge of Fastly's.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FastlyDone {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// Stored variants and responses under way that the purge met, on all nodes.
    matched: u64,
}

impl FastlyDone {
    fn new(id: Option<String>, matched: u64) -> Json<Self> {
        Json(Self { status: "ok", id, matched })
    }
}

/// How much was matched, where the body of an answer has no place for it.
const MATCHED: HeaderName = HeaderName::from_static("nearside-matched");

/// The body of Fastly's batch purge; `Surrogate-Key` may stand in its place.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct FastlyKeys {
    /// The tags.
    surrogate_keys: Vec<String>,
}

async fn fastly_keys<B: Backend>(
    State(backend): State<Arc<B>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    Path(site): Path<String>,
    fields: HeaderMap,
    body: UnreadBody,
) -> Response {
    let named = spaced(&fields, "surrogate-key");
    let from = ordered(&fields, client, "purge-fastly");
    let mut keys = named.clone();
    let order_of = |tags: Vec<String>| {
        if tags.len() > FASTLY_KEYS_MAX {
            return Err(Problem::unprocessable("too-many", format!("a batch has {FASTLY_KEYS_MAX} keys at most")));
        }
        Ok(Order { site: Some(site), tags, soft: is_soft(&fields), ..Order::default() })
    };
    let done = if named.is_empty() {
        carry_out_body(&*backend, &from, body, |body: FastlyKeys| {
            keys.clone_from(&body.surrogate_keys);
            order_of(body.surrogate_keys)
        })
        .await
    } else {
        carry_out(&*backend, &from, order_of(named)).await
    };
    match done.and_then(|(receipt, _)| receipt.complete()) {
        Ok(receipt) => {
            let ids = keys.into_iter().map(|key| (key, Value::String(receipt.id.clone())));
            let matched = HeaderValue::from(receipt.matched);
            ([(MATCHED, matched)], Json(Value::Object(ids.collect::<Map<_, _>>()))).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

async fn fastly_all<B: Backend>(
    State(backend): State<Arc<B>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    Path(site): Path<String>,
    fields: HeaderMap,
) -> Response {
    let order = Order { site: Some(site), all: true, soft: is_soft(&fields), ..Order::default() };
    let from = ordered(&fields, client, "purge-fastly");
    match carry_out(&*backend, &from, Ok(order)).await.and_then(|(receipt, _)| receipt.complete()) {
        Ok(receipt) => FastlyDone::new(None, receipt.matched).into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// The body of Cloudflare's purge.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Cloudflare {
    /// URLs, or objects with a `url`: all variants go.
    files: Vec<CloudflareFile>,
    /// Tags.
    tags: Vec<String>,
    /// Hosts.
    hosts: Vec<String>,
    /// What URLs begin with, without a scheme.
    prefixes: Vec<String>,
    /// All of the site.
    purge_everything: bool,
}

/// A URL, or one with the headers that select a variant: all variants go in any case.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum CloudflareFile {
    Url(String),
    WithHeaders { url: String },
}

impl From<CloudflareFile> for String {
    fn from(file: CloudflareFile) -> Self {
        match file {
            CloudflareFile::Url(url) | CloudflareFile::WithHeaders { url } => url,
        }
    }
}

async fn cloudflare<B: Backend>(
    State(backend): State<Arc<B>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    Path(site): Path<String>,
    fields: HeaderMap,
    body: UnreadBody,
) -> Response {
    let order_of = |body: Cloudflare| {
        Ok(Order {
            site: Some(site),
            urls: body.files.into_iter().map(String::from).collect(),
            tags: body.tags,
            hosts: body.hosts,
            prefixes: body.prefixes,
            all: body.purge_everything,
            ..Order::default()
        })
    };
    let from = ordered(&fields, client, "purge-cloudflare");
    match carry_out_body(&*backend, &from, body, order_of).await.and_then(|(receipt, _)| receipt.complete()) {
        Ok(receipt) => Json(CloudflareDone::new(Ok(receipt))).into_response(),
        Err(problem) => {
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::BAD_REQUEST);
            (status, Json(CloudflareDone::new(Err(problem)))).into_response()
        }
    }
}

/// The answer to a purge of Cloudflare's.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CloudflareDone {
    success: bool,
    errors: Vec<CloudflareError>,
    messages: Vec<String>,
    result: Option<CloudflareResult>,
}

#[derive(Debug, Serialize, ToSchema)]
struct CloudflareError {
    code: u16,
    message: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct CloudflareResult {
    id: String,
    /// Stored variants and responses under way that the purge met, on all nodes.
    matched: u64,
}

impl CloudflareDone {
    fn new(outcome: Result<Receipt, Problem>) -> Self {
        let (result, errors) = match outcome {
            Ok(Receipt { id, matched, .. }) => (Some(CloudflareResult { id, matched }), Vec::new()),
            Err(Problem { status, code, detail, .. }) => {
                (None, vec![CloudflareError { code: status, message: format!("{code}: {detail}") }])
            }
        };
        Self { success: result.is_some(), errors, messages: Vec::new(), result }
    }
}
