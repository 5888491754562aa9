//! What stands behind the API, and what every change goes through. What is only looked at is in [`crate::look`].

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::HttpBody;
use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use nearside_config::Scope;
use nearside_protocol::method::is_purge;
use nearside_protocol::{Explanation, NodeState, Object, Order, Problem, Question, Receipt, Wait};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::access::{Audit, Holder};
use crate::book::Known;
use crate::{Access, Book, Events, Tap, UnreadBody, description, foreign, look, page};

/// The largest body of a request.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;
/// The longest `Idempotency-Key`, in bytes.
const KEY_BYTES_MAX: usize = 256;

/// What stands behind the API.
pub trait Backend: Send + Sync + 'static {
    /// The door.
    fn access(&self) -> &Access;

    /// The receipts.
    fn book(&self) -> &Book;

    /// What happens.
    fn events(&self) -> &Events;

    /// The requests that end here; none, if no requests come here.
    fn tap(&self) -> Option<&Arc<Tap>> {
        None
    }

    /// The names of the sites that an order concerns. An order of which this is known can be carried out.
    ///
    /// # Errors
    ///
    /// It names what there is not.
    fn sites_of(&self, order: &Order) -> Result<Vec<String>, Problem>;

    /// Carries an order out, on all nodes that `reach` says.
    fn purge(&self, order: Order, reach: Reach) -> impl Future<Output = Result<Receipt, Problem>> + Send;

    /// The receipt of an order, as it is now.
    fn receipt(&self, id: &str) -> Option<Receipt> {
        self.book().receipt(id)
    }

    /// The nodes that orders reach.
    fn nodes(&self) -> Vec<NodeState>;

    /// What it is: `edge`, `shield` or `control`; and its name.
    fn about(&self) -> (&'static str, String);

    /// What it was configured to do, without secrets.
    fn config(&self) -> Value;

    /// What is stored for a URL.
    ///
    /// # Errors
    ///
    /// It is none of a site, or nothing is stored here at all.
    fn objects(&self, url: &str) -> Result<Vec<Object>, Problem>;

    /// What becomes of a request, and why.
    ///
    /// # Errors
    ///
    /// It is none, or nothing is served here at all.
    fn explain(&self, question: Question) -> impl Future<Output = Result<Explanation, Problem>> + Send {
        let url = question.url;
        let detail = format!("nothing is served from here, not {url:?} either: ask an edge or a shield");
        async move { Err(Problem::new(StatusCode::NOT_FOUND, "no-cache", detail)) }
    }

    /// Where a client that asks for a host is sent, and why.
    ///
    /// # Errors
    ///
    /// Nobody is sent anywhere from here.
    fn route(&self, client: IpAddr, host: &str) -> Result<Value, Problem> {
        let detail = format!(
            "nobody is sent anywhere from here, neither {client} nor anyone who asks for {host:?}: ask a control process"
        );
        Err(Problem::new(StatusCode::NOT_FOUND, "no-steering", detail))
    }
}

/// The nodes that an order is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Those behind the API that was asked: one node, or all that follow a control process.
    Own,
    /// All nodes of the fleet that the one that was asked belongs to. Plugins know one address only, and expect that no
    /// cache has the old response afterwards.
    Fleet,
}

/// An order, and who gave it how.
#[derive(Debug)]
pub struct Ordered<'r> {
    /// The request's fields.
    pub fields: &'r HeaderMap,
    /// From where it came.
    pub client: IpAddr,
    /// The way in which it came, for the audit log.
    pub action: &'static str,
    /// The nodes that it is for.
    pub reach: Reach,
}

/// The routes of the API before a backend.
pub fn routes<B: Backend>(backend: Arc<B>) -> Router {
    Router::new()
        .route("/v1/purge", post(purge::<B>))
        .route("/v1/purge/{id}", get(receipt::<B>))
        .route("/v1/openapi.json", get(|| async { Json(description::openapi()) }))
        .route("/docs", get(|| async { Html(page::of(&description::openapi())) }))
        .merge(look::routes::<B>())
        .merge(foreign::routes::<B>())
        .fallback(elsewhere::<B>)
        .method_not_allowed_fallback(other_method::<B>)
        .with_state(backend)
}

/// Has an order carried out, if whoever gives it may: the one way to a change.
///
/// # Errors
///
/// Whatever is wrong with it; nothing was done then.
pub async fn carry_out<B: Backend>(
    backend: &B,
    from: &Ordered<'_>,
    order: Result<Order, Problem>,
) -> Result<(Receipt, Wait), Problem> {
    let holder = match from.admitted(backend) {
        Ok(holder) => holder,
        Err(problem) => return Err(from.refused("?", order.as_ref().ok(), problem)),
    };
    carry_out_admitted(backend, from, holder, &order).await
}

/// The same for an order that is made of a body, which is read only of who is admitted.
///
/// # Errors
///
/// Whatever is wrong with it; nothing was done then.
pub(crate) async fn carry_out_body<B: Backend, T: DeserializeOwned>(
    backend: &B,
    from: &Ordered<'_>,
    body: UnreadBody,
    order_of: impl FnOnce(T) -> Result<Order, Problem>,
) -> Result<(Receipt, Wait), Problem> {
    let holder = match from.admitted(backend) {
        Ok(holder) => holder,
        Err(problem) => return Err(from.refused("?", None, problem)),
    };
    let order = body.json(holder, BODY_BYTES_MAX).await.and_then(order_of);
    carry_out_admitted(backend, from, holder, &order).await
}

async fn carry_out_admitted<B: Backend>(
    backend: &B,
    from: &Ordered<'_>,
    holder: Holder<'_>,
    order: &Result<Order, Problem>,
) -> Result<(Receipt, Wait), Problem> {
    let done = allowed(backend, from, holder, order.as_ref()).await;
    let outcome = done.as_ref().err().map_or("done", |problem| problem.code);
    let order = order.as_ref().ok();
    Audit { holder: holder.name(), client: from.client, action: from.action, order, outcome }.write();
    done
}

impl Ordered<'_> {
    /// Who gives the order, if anybody may give orders in this way so often.
    fn admitted<'b, B: Backend>(&self, backend: &'b B) -> Result<Holder<'b>, Problem> {
        let holder = backend.access().admit(self.fields, Scope::Purge)?;
        backend.access().count(holder)?;
        Ok(holder)
    }

    /// Writes down that an order was refused.
    fn refused(&self, holder: &str, order: Option<&Order>, problem: Problem) -> Problem {
        Audit { holder, client: self.client, action: self.action, order, outcome: problem.code }.write();
        problem
    }
}

/// The same for an order of one who has shown otherwise that it is right, as by a signature; `key` makes an order that comes
/// twice one order.
///
/// # Errors
///
/// Whatever is wrong with it; nothing was done then.
pub async fn carry_out_signed<B: Backend>(
    backend: &B,
    from: &Ordered<'_>,
    holder: &str,
    key: Option<&str>,
    order: Result<Order, Problem>,
) -> Result<Receipt, Problem> {
    let done = match &order {
        Ok(order) => obeyed(backend, holder, key, order, from.reach).await,
        Err(problem) => Err(problem.clone()),
    };
    let outcome = done.as_ref().err().map_or("done", |problem| problem.code);
    Audit { holder, client: from.client, action: from.action, order: order.as_ref().ok(), outcome }.write();
    done
}

/// Carries out an order that its giver may give.
async fn obeyed<B: Backend>(
    backend: &B,
    holder: &str,
    key: Option<&str>,
    order: &Order,
    reach: Reach,
) -> Result<Receipt, Problem> {
    order.check()?;
    backend.sites_of(order)?;
    let entered = match backend.book().enter(holder, key, order)? {
        Known::Done(receipt) => return Ok(receipt),
        Known::New(entered) => entered,
    };
    let receipt = backend.purge(order.clone(), reach).await?;
    entered.close(&receipt);
    Ok(receipt)
}

async fn allowed<B: Backend>(
    backend: &B,
    from: &Ordered<'_>,
    holder: Holder<'_>,
    order: Result<&Order, &Problem>,
) -> Result<(Receipt, Wait), Problem> {
    let order = order.map_err(Clone::clone)?;
    order.check()?;
    holder.may_purge(&backend.sites_of(order)?)?;
    let key = idempotency_key(from.fields)?;
    Ok((obeyed(backend, holder.name(), key, order, from.reach).await?, order.wait))
}

fn idempotency_key(fields: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(key) = fields.get("idempotency-key") else { return Ok(None) };
    match key.to_str() {
        Ok(key) if (1..=KEY_BYTES_MAX).contains(&key.len()) => Ok(Some(key)),
        _ => {
            let detail = format!("`Idempotency-Key` must be 1 to {KEY_BYTES_MAX} visible characters");
            Err(Problem::new(StatusCode::BAD_REQUEST, "idempotency-key", detail))
        }
    }
}

/// What came as JSON.
///
/// # Errors
///
/// It is none, or of another shape, or too large.
pub fn understood<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Problem> {
    body.map(|Json(value)| value).map_err(|rejection| {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => "too-large",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "content-type",
            _ => "malformed",
        };
        Problem::new(rejection.status(), code, rejection.body_text())
    })
}

async fn purge<B: Backend>(
    State(backend): State<Arc<B>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    fields: HeaderMap,
    body: UnreadBody,
) -> Response {
    let from = Ordered { fields: &fields, client: client.ip(), action: "purge", reach: Reach::Own };
    match carry_out_body(&*backend, &from, body, Ok).await {
        Err(problem) => problem.into_response(),
        Ok((receipt, wait)) => {
            let status = match wait {
                Wait::None => StatusCode::ACCEPTED,
                Wait::Applied if receipt.is_complete() => StatusCode::OK,
                Wait::Applied => StatusCode::MULTI_STATUS,
            };
            (status, Json(receipt)).into_response()
        }
    }
}

async fn receipt<B: Backend>(
    State(backend): State<Arc<B>>,
    Path(id): Path<String>,
    fields: HeaderMap,
) -> Result<Json<Receipt>, Problem> {
    backend.access().admit(&fields, Scope::Read)?;
    let unknown = || Problem::new(StatusCode::NOT_FOUND, "unknown-purge", "no such purge, or it is forgotten by now");
    backend.receipt(&id).map(Json).ok_or_else(unknown)
}

async fn elsewhere<B: Backend>(backend: State<Arc<B>>, client: ConnectInfo<SocketAddr>, request: Request) -> Response {
    let problem = Problem::new(StatusCode::NOT_FOUND, "not-found", "there is nothing at this path; see /docs");
    purge_or(problem, backend, client, request).await
}

async fn other_method<B: Backend>(
    backend: State<Arc<B>>,
    client: ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "this path has another method; see /docs");
    purge_or(problem, backend, client, request).await
}

/// `PURGE` and its relatives are for any path.
async fn purge_or<B: Backend>(
    problem: Problem,
    State(backend): State<Arc<B>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    if is_purge(request.method()) {
        let (head, body) = request.into_parts();
        return foreign::by_method(&*backend, client, &head, !body.is_end_stream()).await;
    }
    problem.into_response()
}

#[cfg(test)]
mod tests;
