//! The description of the API (OpenAPI 3.1), made from the types that it speaks.

#![expect(dead_code, reason = "what these describe stands in `routes` and `foreign`, with types of its own")]

use nearside_protocol::explanation::Explanation;
use nearside_protocol::receipt::Receipt;
use nearside_protocol::{Order, Problem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{IntoResponses, Modify, OpenApi};

use crate::foreign::{Cloudflare, CloudflareDone, FastlyDone, FastlyKeys};
use crate::look::{Nodes, Objects, Version};

/// The description.
pub(crate) fn openapi() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Nearside admin API",
        description = "Purges, and what there is to see of nodes and of what they store.",
        license(name = "Apache-2.0")
    ),
    paths(purge, receipt, nodes, objects, explain, explain_route, events, log, hook, config, version, fastly_key, fastly_keys, fastly_all, cloudflare),
    components(schemas(
        Order, Receipt, Problem, Nodes, Objects, Explanation, FastlyKeys, FastlyDone, Cloudflare, CloudflareDone
    )),
    modifiers(&Tokens),
    security(("token" = []))
)]
struct Description;

struct Tokens;

impl Modify for Tokens {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        if let Some(components) = &mut openapi.components {
            components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        }
    }
}

/// Why nothing is shown.
#[derive(IntoResponses)]
enum Kept {
    /// No token, or one that is not known
    #[response(status = 401, content_type = "application/problem+json")]
    Unknown(#[to_schema] Problem),
    /// A page of another origin asks, without a token
    #[response(status = 403, content_type = "application/problem+json")]
    CrossOrigin(#[to_schema] Problem),
}

/// Why nothing was purged.
#[derive(IntoResponses)]
enum Refused {
    /// Not JSON, or a field that is none
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(#[to_schema] Problem),
    /// No token, or one that is not known
    #[response(status = 401, content_type = "application/problem+json")]
    Unknown(#[to_schema] Problem),
    /// The token is not good for this
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(#[to_schema] Problem),
    /// The order with this `Idempotency-Key` is being carried out
    #[response(status = 409, content_type = "application/problem+json")]
    InUse(#[to_schema] Problem),
    /// More than 1 MiB
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(#[to_schema] Problem),
    /// No `application/json`
    #[response(status = 415, content_type = "application/problem+json")]
    MediaType(#[to_schema] Problem),
    /// Not an order that can be carried out: the code says why
    #[response(status = 422, content_type = "application/problem+json")]
    Unprocessable(#[to_schema] Problem),
    /// Too often
    #[response(status = 429, content_type = "application/problem+json")]
    TooOften(#[to_schema] Problem),
    /// A control process that no node follows, or that cannot write its log; for shapes of others, not all nodes have it yet
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(#[to_schema] Problem),
}

/// Purge
///
/// Waits until every node has applied the order, or `timeout` has passed: then the answer is 207 and names those that have
/// not.
#[utoipa::path(
    post, path = "/v1/purge", request_body = Order,
    params(("Idempotency-Key" = Option<String>, Header, description = "An order that is sent twice with it is one order")),
    responses(
        (status = 200, description = "Every node has applied it", body = Receipt),
        (status = 202, description = "Accepted; it was not to be waited for", body = Receipt),
        (status = 207, description = "Some nodes have not applied it yet", body = Receipt),
        Refused,
    )
)]
fn purge() {}

/// What became of a purge
#[utoipa::path(
    get, path = "/v1/purge/{id}", params(("id" = String, Path, description = "The purge's name")),
    responses(
        (status = 200, description = "Its receipt, as it is now", body = Receipt),
        (status = 404, description = "No such purge", body = Problem, content_type = "application/problem+json"),
        Kept,
    )
)]
fn receipt() {}

/// The nodes that purges reach
#[utoipa::path(
    get, path = "/v1/nodes",
    responses(
        (status = 200, description = "All nodes", body = Nodes),
        Kept,
    )
)]
fn nodes() {}

/// What answers here
#[utoipa::path(
    get, path = "/v1/version",
    responses((status = 200, description = "Role, name and version", body = Version), Kept)
)]
fn version() {}

/// What it was configured to do, without secrets
#[utoipa::path(
    get, path = "/v1/config",
    responses((status = 200, description = "The configuration", body = HashMap<String, serde_json::Value>), Kept)
)]
fn config() {}

/// Purge what an event names (control processes with `[[hook]]` only)
///
/// The event is signed as the hook says: Standard Webhooks, or as GitHub does.
#[utoipa::path(
    post, path = "/v1/hooks/{name}", request_body = HashMap<String, serde_json::Value>,
    params(("name" = String, Path, description = "The hook's name")),
    responses(
        (status = 200, description = "Every node has applied it", body = Receipt),
        (status = 202, description = "Some nodes have not applied it yet", body = Receipt),
        (status = 404, description = "No such hook", body = Problem, content_type = "application/problem+json"),
        Refused,
    )
)]
fn hook() {}

/// What happens, as it happens
///
/// Server-sent events: `purge`, `receipt`, `node-up`, `node-down`. The last 1,000 are sent again to who says which it had.
#[utoipa::path(
    get, path = "/v1/events",
    params(("Last-Event-ID" = Option<String>, Header, description = "The last one that was seen")),
    responses(
        (status = 200, description = "A stream that does not end", body = String, content_type = "text/event-stream"),
        Kept,
    )
)]
fn events() {}

/// What is stored for a URL
#[utoipa::path(
    get, path = "/v1/objects", params(("url" = String, Query, description = "The URL")),
    responses(
        (status = 200, description = "Its variants", body = Objects),
        (status = 400, description = "No query", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "Nothing is stored here: a control process", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "No URL of a site", body = Problem, content_type = "application/problem+json"),
        Kept,
    )
)]
fn objects() {}

/// The requests that end at this node, as they do
///
/// Server-sent events: `requests` with lines of the access log, each a JSON object; `missed` with how many batches were lost to one who
/// reads too slowly.
#[utoipa::path(
    get, path = "/v1/log",
    params(("q" = Option<String>, Query, description = "Only those for which this holds: `cache==\"miss\" and ttfb>0.2`")),
    responses(
        (status = 200, description = "The stream", content_type = "text/event-stream", body = String),
        (status = 400, description = "No query", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "A control process: no requests come there", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "No expression, or one over a field that no line has", body = Problem, content_type = "application/problem+json"),
        Kept,
    )
)]
fn log() {}

/// Where a client is sent, and why
#[utoipa::path(
    get, path = "/v1/route/explain",
    params(
        ("ip" = String, Query, description = "The client's address"),
        ("host" = Option<String>, Query, description = "The host that it asks for; any if it is not given")
    ),
    responses(
        (status = 200, description = "The decision: the edge, the reason, all candidates with what is known of each", body = Object),
        (status = 400, description = "No query", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "Nobody is sent anywhere from here", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "No address", body = Problem, content_type = "application/problem+json"),
        Kept,
    )
)]
fn explain_route() {}

/// What becomes of a request, and why
///
/// A dry run, through what serves requests. With `probe` the next hop is asked, too; nothing is stored of its answer. A probe with
/// `Authorization`, `Cookie` or `Proxy-Authorization` among its fields needs a token with the scope `purge`.
#[utoipa::path(
    get, path = "/v1/explain",
    params(
        ("url" = String, Query, description = "Its URL"),
        ("method" = Option<String>, Query, description = "Its method; GET if none is given"),
        ("field" = Option<Vec<String>>, Query, description = "A field of it, as `Name: value`; may repeat"),
        ("probe" = Option<bool>, Query, description = "Ask the next hop")
    ),
    responses(
        (status = 200, description = "The verdict, its causes, and what they were found by", body = Explanation),
        (status = 404, description = "A control process: it serves nothing", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Not a request that can be asked about: the code says why", body = Problem, content_type = "application/problem+json"),
        Kept,
    )
)]
fn explain() {}

/// Purge a surrogate key, as Fastly has it
#[utoipa::path(
    post, path = "/service/{site}/purge/{key}",
    params(
        ("site" = String, Path, description = "The site"), ("key" = String, Path, description = "The tag"),
        ("Fastly-Soft-Purge" = Option<String>, Header, description = "`1`: only stale from now on")
    ),
    responses(
        (status = 200, description = "Purged", body = FastlyDone),
        Refused,
    )
)]
fn fastly_key() {}

/// Purge up to 256 surrogate keys, as Fastly has it
#[utoipa::path(
    post, path = "/service/{site}/purge", request_body = FastlyKeys,
    params(("site" = String, Path, description = "The site")),
    responses(
        (status = 200, description = "Purged", body = HashMap<String, String>),
        Refused,
    )
)]
fn fastly_keys() {}

/// Purge a site, as Fastly has it
#[utoipa::path(
    post, path = "/service/{site}/purge_all", params(("site" = String, Path, description = "The site")),
    responses(
        (status = 200, description = "Purged", body = FastlyDone),
        Refused,
    )
)]
fn fastly_all() {}

/// Purge, as Cloudflare has it
#[utoipa::path(
    post, path = "/client/v4/zones/{site}/purge_cache", request_body = Cloudflare,
    params(("site" = String, Path, description = "The site")),
    responses(
        (status = 200, description = "Purged", body = CloudflareDone),
        (status = "4XX", description = "Not purged", body = CloudflareDone),
        (status = "5XX", description = "Not purged, or not on all nodes yet", body = CloudflareDone),
    )
)]
fn cloudflare() {}
