//! The purge shapes of others, so that their plugins and tools work with another endpoint.
//!
//! * Fastly: `PURGE` of a URL; `POST /service/{site}/purge/{key}`, `/purge` with `surrogate_keys`, `/purge_all`;
//!   `Fastly-Soft-Purge: 1`, `Fastly-Key`.
//! * Cloudflare: `POST /client/v4/zones/{site}/purge_cache` with `files`, `tags`, `hosts`, `prefixes`, `purge_everything`.
//! * Varnish: `PURGE` of a path with `Host`, and with tags in `xkey` in place of the path.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::routes::{Backend, Ordered, carry_out, understood};
use crate::{Order, Problem};

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

/// A `PURGE`: of the tags in `xkey` or `Surrogate-Key`, or else of the URL that it is sent to.
#[must_use]
pub fn order_of_method(scheme: &str, host: &str, target: &str, fields: &HeaderMap) -> Order {
    let mut tags = spaced(fields, "xkey");
    tags.extend(spaced(fields, "surrogate-key"));
    let urls = if tags.is_empty() { vec![format!("{scheme}://{host}{target}")] } else { Vec::new() };
    Order { urls, tags, soft: is_soft(fields), ..Order::default() }
}

pub(crate) async fn by_method<B: Backend>(backend: &B, client: SocketAddr, uri: &Uri, fields: &HeaderMap) -> Response {
    let from = Ordered { fields, client: client.ip(), action: "purge-method" };
    let field = |name: HeaderName| fields.get(name).and_then(|value| value.to_str().ok());
    let host = uri.authority().map(|authority| authority.as_str()).or_else(|| field(header::HOST)).unwrap_or_default();
    let scheme = field(HeaderName::from_static("x-forwarded-proto")).filter(|scheme| *scheme == "https");
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let order = order_of_method(uri.scheme_str().or(scheme).unwrap_or("http"), host, target, fields);
    match carry_out(backend, &from, Ok(order)).await.and_then(|(receipt, _)| receipt.complete()) {
        Ok(receipt) => FastlyDone::new(Some(receipt.id)).into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn fastly_key<B: Backend>(
    State(backend): State<Arc<B>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    Path((site, key)): Path<(String, String)>,
    fields: HeaderMap,
) -> Response {
    let order = Order { site: Some(site), tags: vec![key], soft: is_soft(&fields), ..Order::default() };
    let from = Ordered { fields: &fields, client: client.ip(), action: "purge-fastly" };
    match carry_out(&*backend, &from, Ok(order)).await.and_then(|(receipt, _)| receipt.complete()) {
        Ok(receipt) => FastlyDone::new(Some(receipt.id)).into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// The answer to a purge of Fastly's.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FastlyDone {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

impl FastlyDone {
    fn new(id: Option<String>) -> Json<Self> {
        Json(Self { status: "ok", id })
    }
}

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
    body: Result<Json<FastlyKeys>, JsonRejection>,
) -> Response {
    let named = spaced(&fields, "surrogate-key");
    let keys = if named.is_empty() { understood(body).map(|body| body.surrogate_keys) } else { Ok(named) };
    let order = keys.and_then(|tags| {
        if tags.len() > FASTLY_KEYS_MAX {
            return Err(Problem::unprocessable("too-many", format!("a batch has {FASTLY_KEYS_MAX} keys at most")));
        }
        Ok(Order { site: Some(site), tags, soft: is_soft(&fields), ..Order::default() })
    });
    let keys = order.as_ref().map(|order| order.tags.clone()).unwrap_or_default();
    let from = Ordered { fields: &fields, client: client.ip(), action: "purge-fastly" };
    match carry_out(&*backend, &from, order).await.and_then(|(receipt, _)| receipt.complete()) {
        Ok(receipt) => {
            let ids = keys.into_iter().map(|key| (key, Value::String(receipt.id.clone())));
            Json(Value::Object(ids.collect::<Map<_, _>>())).into_response()
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
    let from = Ordered { fields: &fields, client: client.ip(), action: "purge-fastly" };
    match carry_out(&*backend, &from, Ok(order)).await {
        Ok(_) => FastlyDone::new(None).into_response(),
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
    body: Result<Json<Cloudflare>, JsonRejection>,
) -> Response {
    let order = understood(body).map(|body| Order {
        site: Some(site),
        urls: body.files.into_iter().map(String::from).collect(),
        tags: body.tags,
        hosts: body.hosts,
        prefixes: body.prefixes,
        all: body.purge_everything,
        ..Order::default()
    });
    let from = Ordered { fields: &fields, client: client.ip(), action: "purge-cloudflare" };
    match carry_out(&*backend, &from, order).await.and_then(|(receipt, _)| receipt.complete()) {
        Ok(receipt) => Json(CloudflareDone::new(Ok(receipt.id))).into_response(),
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
}

impl CloudflareDone {
    fn new(outcome: Result<String, Problem>) -> Self {
        let (result, errors) = match outcome {
            Ok(id) => (Some(CloudflareResult { id }), Vec::new()),
            Err(Problem { status, code, detail, .. }) => {
                (None, vec![CloudflareError { code: status, message: format!("{code}: {detail}") }])
            }
        };
        Self { success: result.is_some(), errors, messages: Vec::new(), result }
    }
}
