//! What is only looked at: nodes, what is stored, explanations, the configuration. A token that may read is enough.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, RawQuery, State};
use axum::http::HeaderMap;
use axum::routing::get;
use axum::{Json, Router};
use nearside_config::Scope;
use nearside_protocol::{Explanation, NodeState, Object, Problem, Question};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{Backend, events, tap};

/// Their routes before a backend.
pub(crate) fn routes<B: Backend>() -> Router<Arc<B>> {
    Router::new()
        .route("/v1/nodes", get(nodes::<B>))
        .route("/v1/objects", get(objects::<B>))
        .route("/v1/explain", get(explain::<B>))
        .route("/v1/route/explain", get(explain_route::<B>))
        .route("/v1/config", get(config::<B>))
        .route("/v1/version", get(version::<B>))
        .route("/v1/events", get(events::events::<B>))
        .route("/v1/log", get(tap::log::<B>))
}

/// A query that cannot be read.
pub(crate) fn unread(rejection: &QueryRejection) -> Problem {
    Problem::new(rejection.status(), "query", rejection.body_text())
}

/// The nodes that orders reach.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Nodes {
    nodes: Vec<NodeState>,
}

async fn nodes<B: Backend>(State(backend): State<Arc<B>>, fields: HeaderMap) -> Result<Json<Nodes>, Problem> {
    backend.access().admit(&fields, Scope::Read)?;
    Ok(Json(Nodes { nodes: backend.nodes() }))
}

/// What answers here.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Version {
    /// `edge`, `shield` or `control`.
    role: &'static str,
    /// Its name.
    id: String,
    /// The version of the program.
    version: &'static str,
}

async fn version<B: Backend>(State(backend): State<Arc<B>>, fields: HeaderMap) -> Result<Json<Version>, Problem> {
    backend.access().admit(&fields, Scope::Read)?;
    let (role, id) = backend.about();
    Ok(Json(Version { role, id, version: env!("CARGO_PKG_VERSION") }))
}

async fn config<B: Backend>(State(backend): State<Arc<B>>, fields: HeaderMap) -> Result<Json<Value>, Problem> {
    backend.access().admit(&fields, Scope::Read)?;
    Ok(Json(backend.config()))
}

/// What is asked about.
#[derive(Debug, Deserialize)]
pub(crate) struct About {
    url: Option<String>,
}

/// What is stored for a URL.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Objects {
    objects: Vec<Object>,
}

async fn objects<B: Backend>(
    State(backend): State<Arc<B>>,
    about: Result<Query<About>, QueryRejection>,
    fields: HeaderMap,
) -> Result<Json<Objects>, Problem> {
    backend.access().admit(&fields, Scope::Read)?;
    let missing = || Problem::unprocessable("url-missing", "say which: `?url=http://www.example.com/a`");
    let Query(about) = about.map_err(|rejection| unread(&rejection))?;
    let url = about.url.ok_or_else(missing)?;
    Ok(Json(Objects { objects: backend.objects(&url)? }))
}

async fn explain<B: Backend>(
    State(backend): State<Arc<B>>,
    RawQuery(query): RawQuery,
    fields: HeaderMap,
) -> Result<Json<Explanation>, Problem> {
    backend.access().admit(&fields, Scope::Read)?;
    let question = Question::of(&query.unwrap_or_default())?;
    if question.probe && question.has_credentials() {
        // The next hop would act on them in the name of whoever they are of.
        backend.access().admit(&fields, Scope::Purge)?;
    }
    Ok(Json(backend.explain(question).await?))
}

/// Whose way is asked for.
#[derive(Debug, Deserialize)]
struct Traveller {
    ip: Option<String>,
    host: Option<String>,
}

async fn explain_route<B: Backend>(
    State(backend): State<Arc<B>>,
    traveller: Result<Query<Traveller>, QueryRejection>,
    fields: HeaderMap,
) -> Result<Json<Value>, Problem> {
    backend.access().admit(&fields, Scope::Read)?;
    let Query(Traveller { ip, host }) = traveller.map_err(|rejection| unread(&rejection))?;
    let missing =
        || Problem::unprocessable("ip-missing", "say whose way: `?ip=192.0.2.7`, and `&host=` where there are several");
    let ip = ip.and_then(|ip| ip.parse().ok()).ok_or_else(missing)?;
    Ok(Json(backend.route(ip, &host.unwrap_or_default())?))
}
