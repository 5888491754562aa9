//! Hooks: events of others (a CMS, a bucket) that purge something. A hook is known by its signature, and purges its own site
//! only.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use nearside_api::{Backend, Ordered, Reach, UnreadBody, carry_out_signed};
use nearside_config::{Hook, Part, Signature, Template};
use nearside_protocol::{Order, Problem, Receipt};
use serde_json::Value;

use crate::desk::Desk;
use crate::known::instant;
use crate::replays::{Accepted, EventKey, Replays};
use crate::signature::{is_signed, now_secs, verify};

/// What one template may make of an event.
const VALUES_MAX: usize = 1000;

/// The hooks, and what stands behind them.
struct Hooks {
    desk: Arc<Desk>,
    hooks: Vec<Hook>,
    replays: Replays,
}

pub(crate) fn routes(desk: Arc<Desk>, hooks: Vec<Hook>) -> Router {
    Router::new().route("/v1/hooks/{name}", post(hook)).with_state(Arc::new(Hooks {
        desk,
        hooks,
        replays: Replays::default(),
    }))
}

async fn hook(
    State(hooks): State<Arc<Hooks>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    fields: HeaderMap,
    body: UnreadBody,
) -> Result<(StatusCode, Json<Receipt>), Problem> {
    let unknown = || Problem::new(StatusCode::NOT_FOUND, "unknown-hook", "no hook of this name is configured");
    let hook = hooks.hooks.iter().find(|hook| hook.name == name).ok_or_else(unknown)?;
    let holder = format!("hook {name}");
    let from = Ordered { fields: &fields, client: client.ip(), action: "purge-hook", reach: Reach::Fleet };
    let event = SignedEvent::read(hook, &fields, body).await;
    let (order, key) = match &event {
        Ok(event) => match hooks.replays.find(&event.key, instant()) {
            // What is delivered twice is one event.
            Some(accepted) if accepted.delivery == event.delivery => return Ok(hooks.told(&accepted.receipt)),
            Some(_) => (Err(replayed()), None),
            None => (order(hook, &event.body), Some(event.key.as_text())),
        },
        Err(problem) => (Err(problem.clone()), None),
    };
    let receipt = carry_out_signed(&*hooks.desk, &from, &holder, key.as_deref(), order).await?;
    if let Ok(event) = event {
        let accepted = Accepted { delivery: event.delivery, receipt: receipt.id.clone() };
        hooks.replays.accept(event.key, accepted, instant());
    }
    Ok(hooks.told(&receipt.id))
}

impl Hooks {
    /// The answer to an event. It is accepted: whoever sends it need not send it again.
    fn told(&self, receipt: &str) -> (StatusCode, Json<Receipt>) {
        // Of an old one only the name is known.
        let forgotten = || Receipt::of(receipt.to_owned(), None, false, Vec::new());
        let receipt = self.desk.receipt(receipt).unwrap_or_else(forgotten);
        (if receipt.is_complete() { StatusCode::OK } else { StatusCode::ACCEPTED }, Json(receipt))
    }
}

/// An event whose signature is right.
struct SignedEvent {
    body: Bytes,
    key: EventKey,
    /// The id of the delivery, where it is not signed.
    delivery: Option<String>,
}

impl SignedEvent {
    async fn read(hook: &Hook, fields: &HeaderMap, body: UnreadBody) -> Result<Self, Problem> {
        let wrong = |why: &str| Problem::new(StatusCode::UNAUTHORIZED, "signature", why);
        if !is_signed(hook.signature, fields) {
            return Err(wrong("the event shows no signature of this hook's kind"));
        }
        let body = body.unproven().await?;
        let id = verify(hook.signature, &hook.secret, fields, &body, now_secs()).map_err(wrong)?;
        Ok(match (hook.signature, id) {
            (Signature::Standard, Some(id)) => {
                Self { key: EventKey::new(&hook.name, id.as_bytes()), body, delivery: None }
            }
            (_, id) => Self { key: EventKey::new(&hook.name, &body), body, delivery: id },
        })
    }
}

fn replayed() -> Problem {
    let detail = "this event was accepted before, under another delivery id: nothing was purged. If it is a new event, make its body \
                  differ from the one before, by its time for example, or sign as Standard Webhooks has it";
    Problem::new(StatusCode::CONFLICT, "replayed", detail)
}

/// What an event purges.
fn order(hook: &Hook, body: &[u8]) -> Result<Order, Problem> {
    let malformed = |error: serde_json::Error| Problem::new(StatusCode::BAD_REQUEST, "malformed", error.to_string());
    let event: Value = serde_json::from_slice(body).map_err(malformed)?;
    let filled = |templates: &[Template]| -> Result<Vec<String>, Problem> {
        let mut all = Vec::new();
        for template in templates {
            all.extend(fill(template, &event)?);
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    };
    let order = Order {
        site: Some(hook.site.clone()),
        tags: filled(&hook.tags)?,
        urls: filled(&hook.urls)?,
        prefixes: filled(&hook.prefixes)?,
        soft: hook.soft,
        ..Order::default()
    };
    if order.targets().next().is_none() {
        let detail = "nothing of this event is named by the hook's tags, urls and prefixes: nothing was purged";
        return Err(Problem::unprocessable("nothing-named", detail));
    }
    Ok(order)
}

/// All texts that a template makes of an event; none where a pointer leads nowhere.
fn fill(template: &Template, event: &Value) -> Result<Vec<String>, Problem> {
    let mut texts = vec![String::new()];
    for part in template.parts() {
        let values = match part {
            Part::Text(text) => vec![text.clone()],
            Part::Pointer(steps) => at(event, steps).into_iter().filter_map(text_of).collect(),
        };
        if texts.len() * values.len() > VALUES_MAX {
            let detail = format!("the event names more than {VALUES_MAX} things");
            return Err(Problem::unprocessable("too-many", detail));
        }
        texts = texts.iter().flat_map(|text| values.iter().map(move |value| format!("{text}{value}"))).collect();
    }
    Ok(texts)
}

/// The values that a pointer leads to.
fn at<'v>(value: &'v Value, steps: &[String]) -> Vec<&'v Value> {
    let Some((step, rest)) = steps.split_first() else { return vec![value] };
    match value {
        Value::Array(members) if step == "*" => members.iter().flat_map(|member| at(member, rest)).collect(),
        Value::Array(members) => {
            let member = step.parse::<usize>().ok().and_then(|place| members.get(place));
            member.map_or_else(Vec::new, |member| at(member, rest))
        }
        Value::Object(members) => members.get(step).map_or_else(Vec::new, |member| at(member, rest)),
        _ => Vec::new(),
    }
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(switch) => Some(switch.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_template_names_what_its_pointers_lead_to() {
        let event = json!({
            "id": 42, "path": "/a b", "draft": false, "none": null, "empty": "",
            "a/b": "slash", "tags": ["x", "y"],
            "Records": [{"s3": {"object": {"key": "one"}}}, {"s3": {}}, {"s3": {"object": {"key": "two"}}}],
        });
        let table: [(&str, &[&str]); 10] = [
            ("product-{/id}", &["product-42"]),
            ("{/draft}{/id}", &["false42"]),
            ("{/tags/*}", &["x", "y"]),
            ("{/tags/1}", &["y"]),
            ("{/tags/*}-{/tags/*}", &["x-x", "x-y", "y-x", "y-y"]),
            ("{/Records/*/s3/object/key}", &["one", "two"]),
            ("{/a~1b}", &["slash"]),
            ("{/missing}", &[]),
            ("a{/none}{/empty}", &[]),
            ("plain", &["plain"]),
        ];
        for (template, expected) in table {
            assert_eq!(fill(&template.parse().unwrap(), &event).unwrap(), expected, "{template}");
        }
        let many = json!({ "a": vec![1; 40] });
        assert_eq!(fill(&"{/a/*}{/a/*}".parse().unwrap(), &many).unwrap_err().code, "too-many");
        for wrong in ["", "{", "{id}", "a}", "{/a"] {
            assert!(wrong.parse::<Template>().is_err(), "{wrong}");
        }
    }
}
