//! The admin listener: health, metrics, and the admin API (see `nearside_api`) of this node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use nearside_api::{Problem, WatchedTasks};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::front::accept::Listener;
use crate::purge::operator::Operator;

/// What the admin listener needs to know.
pub(crate) struct Admin {
    pub(crate) registry: Registry,
    pub(crate) draining: Arc<AtomicBool>,
    pub(crate) operator: Arc<Operator>,
    pub(crate) tasks: WatchedTasks,
}

/// Serves the admin API on a bound listener until `stop`, or until the future is dropped.
pub(crate) async fn serve(
    listener: Listener,
    admin: Arc<Admin>,
    stop: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Arc::clone(&admin))
        .merge(nearside_api::routes(Arc::clone(&admin.operator)));
    nearside_api::listen::serve(listener.take(0)?, routes, stop).await
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    if admin.draining.load(Ordering::Acquire) {
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "draining", "the node is stopping").into_response();
    }
    match admin.tasks.why_not_ready() {
        Some(why) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "task-failed", why).into_response(),
        None => "ready\n".into_response(),
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &admin.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
            .into_response(),
        Err(_) => {
            let detail = "the metrics cannot be written";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "metrics", detail).into_response()
        }
    }
}
