//! The admin listener: health, metrics, and purging on this node.
//!
//! It has no password of its own: it belongs on the loopback, or behind something that has one. Errors are
//! `application/problem+json` (RFC 9457) with a stable `code`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use nearside_semantics::key::{Scheme, is_authority};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};

use crate::front::accept::Listener;
use crate::metrics::Metrics;
use crate::request::Engine;

/// URLs in one purge.
const URLS_MAX: usize = 1000;

/// What the admin listener needs to know.
pub(crate) struct Admin {
    pub(crate) engine: Arc<Engine>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) registry: Registry,
    pub(crate) draining: Arc<AtomicBool>,
    pub(crate) purges: AtomicU64,
}

/// Serves the admin API on a bound listener until the future is dropped.
pub(crate) async fn serve(listener: Listener, admin: Arc<Admin>) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/v1/purge", post(purge))
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "not-found", "there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            problem(StatusCode::METHOD_NOT_ALLOWED, "method", "this path has another method")
        })
        .with_state(admin);
    axum::serve(listener.socket(0)?, routes).await
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    if admin.draining.load(Ordering::Acquire) {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "draining", "the node is stopping");
    }
    "ready\n".into_response()
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &admin.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
            .into_response(),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "metrics", "the metrics cannot be written"),
    }
}

/// `POST /v1/purge`: what is to be removed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Purge {
    urls: Vec<String>,
    /// Only say what would be removed.
    #[serde(default)]
    dry_run: bool,
}

/// The receipt of a purge.
#[derive(Debug, Serialize)]
struct Receipt {
    id: String,
    dry_run: bool,
    matched: usize,
    nodes: [NodeReceipt; 1],
}

/// What one node has done.
#[derive(Debug, Serialize)]
struct NodeReceipt {
    id: String,
    state: &'static str,
    matched: usize,
}

async fn purge(State(admin): State<Arc<Admin>>, body: Result<Json<Purge>, JsonRejection>) -> Response {
    let purge = match body {
        Ok(Json(purge)) => purge,
        Err(rejection) => return problem(rejection.status(), "malformed", &rejection.body_text()),
    };
    if purge.urls.is_empty() || purge.urls.len() > URLS_MAX {
        let detail = format!("`urls` must hold 1 to {URLS_MAX} URLs");
        return problem(StatusCode::UNPROCESSABLE_ENTITY, "urls", &detail);
    }
    // All are understood before the first is purged.
    let keys: Result<Vec<_>, _> = purge.urls.iter().map(|url| key_of(&admin.engine, url)).collect();
    let keys = match keys {
        Ok(keys) => keys,
        Err((code, detail)) => return problem(StatusCode::UNPROCESSABLE_ENTITY, code, &detail),
    };
    let matched = keys.iter().map(|key| apply(&admin, key, purge.dry_run)).sum();
    let number = admin.purges.fetch_add(1, Ordering::Relaxed) + 1;
    if !purge.dry_run {
        admin.metrics.purges_total.fetch_add(1, Ordering::Relaxed);
        tracing::info!(urls = keys.len(), matched, "purged");
    }
    let id = admin.engine.config.id.to_string();
    let state = if purge.dry_run { "counted" } else { "applied" };
    let receipt = Receipt {
        id: format!("{id}-{number}"),
        dry_run: purge.dry_run,
        matched,
        nodes: [NodeReceipt { id, state, matched }],
    };
    Json(receipt).into_response()
}

fn apply(admin: &Admin, key: &[u8], dry_run: bool) -> usize {
    if dry_run { admin.engine.stored_variants(key) } else { admin.engine.purge(key, None) }
}

/// The cache key of a URL; or the code and text of what is wrong with it.
fn key_of(engine: &Engine, url: &str) -> Result<Box<[u8]>, (&'static str, String)> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("http", rest)) => (Scheme::Http, rest),
        Some(("https", rest)) => (Scheme::Https, rest),
        _ => return Err(("url", format!("{url:?} is no http or https URL"))),
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    if !is_authority(authority.as_bytes()) || !target.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(("url", format!("{url:?} is no http or https URL")));
    }
    let Some(site) = engine.sites.find(authority.as_bytes()) else {
        return Err(("unknown-host", format!("no site of this node answers for {authority}")));
    };
    Ok(engine.exact_key(site, scheme, authority.as_bytes(), target.as_bytes()))
}

fn problem(status: StatusCode, code: &str, detail: &str) -> Response {
    let body = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "code": code,
        "detail": detail,
    });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}
