//! What the control process counts, as OpenMetrics text.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use nearside_api::ServerCounts;

use crate::desk::Desk;
use crate::known::instant;

pub(crate) fn routes(desk: Arc<Desk>, server: Arc<ServerCounts>) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state((desk, server))
}

async fn metrics(State((desk, server)): State<(Arc<Desk>, Arc<ServerCounts>)>) -> Response {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, lines: &[(&str, u64)]| {
        let _ = write!(text, "# HELP {name} {help}.\n# TYPE {name} {kind}\n");
        for (rest, value) in lines {
            let _ = writeln!(text, "{name}{rest} {value}");
        }
    };
    let purges = desk.known.purges.load(Ordering::Relaxed);
    family(
        "nearside_purges",
        "counter",
        "Purges written to the log. Each lowers the hit ratio of all nodes for a while",
        &[("_total", purges)],
    );
    family(
        "nearside_purge_log_sequence",
        "gauge",
        "The number of the last purge. A node whose own is lower is behind",
        &[("", desk.known.recent.at().seq)],
    );
    let now = instant();
    let (alive, dead): (Vec<_>, Vec<_>) =
        desk.known.registry.lock().nodes().map(|node| node.is_alive(now)).partition(|alive| *alive);
    let states = [("{state=\"ready\"}", alive.len() as u64), ("{state=\"unreachable\"}", dead.len() as u64)];
    family(
        "nearside_nodes",
        "gauge",
        "Nodes that follow the log, or did. What is unreachable gets no purges; look whether it runs",
        &states,
    );
    family(
        "nearside_diagnostics_dropped",
        "counter",
        "Lines of the diagnostic log lost because standard error was not read in time. Look who reads it: a pipe that is full loses \
         what comes next",
        &[("_total", nearside_diagnostics::dropped())],
    );
    family(
        "nearside_diagnostics_suppressed",
        "counter",
        "Lines of the diagnostic log left out because they repeated others. When they rise, read the log: one line stands for many",
        &[("_total", nearside_diagnostics::suppressed())],
    );
    for count in server.all() {
        let (kind, rest) = match count.is_counter {
            true => ("counter", "_total{listener=\"control\"}"),
            false => ("gauge", "{listener=\"control\"}"),
        };
        family(&format!("nearside_{}", count.name), kind, count.help, &[(rest, count.value)]);
    }
    text.push_str("# EOF\n");
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}
