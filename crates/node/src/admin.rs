//! The admin listener: health, metrics, and the admin API (see `nearside_api`) of this node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use nearside_api::{Access, HostRule, ServeLimits, Server, ServerCounts};
use nearside_config::HostPattern;
use nearside_diagnostics::WatchedTasks;
use nearside_front::accept::Listener;
use nearside_protocol::Problem;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::operator::Operator;

/// What the admin listener needs to know.
pub(crate) struct Admin {
    pub(crate) registry: Registry,
    pub(crate) draining: Arc<AtomicBool>,
    pub(crate) operator: Arc<Operator>,
    pub(crate) tasks: WatchedTasks,
    /// The names under which it is asked, beside addresses and `localhost`.
    pub(crate) hosts: Vec<HostPattern>,
    pub(crate) server: Server,
}

/// The server of an admin listener, whose counts are part of the metrics.
pub(crate) fn server(registry: &mut Registry) -> Server {
    let server = Server::new(ServeLimits::admin());
    let collector = Box::new(ListenerCollector(server.counts()));
    registry.sub_registry_with_prefix("nearside").register_collector(collector);
    server
}

/// What the admin listener counts.
#[derive(Debug)]
struct ListenerCollector(Arc<ServerCounts>);

impl Collector for ListenerCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        const LABELS: [(&str, &str); 1] = [("listener", "admin")];
        for count in self.0.all() {
            let kind = if count.is_counter { MetricType::Counter } else { MetricType::Gauge };
            let mut metric = encoder.encode_descriptor(count.name, count.help, None, kind)?;
            let family = metric.encode_family(&LABELS)?;
            match count.is_counter {
                true => ConstCounter::new(count.value).encode(family)?,
                false => ConstGauge::new(count.value).encode(family)?,
            }
        }
        Ok(())
    }
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
    let access: Arc<Access> = Arc::clone(&admin.operator.access);
    let rule = HostRule::new(listener.address, admin.hosts.clone(), "admin_hosts");
    let server = admin.server.clone().under(rule.except(move |fields| access.knows(fields)));
    server.run(listener.take(0)?, routes, stop).await
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
