//! Hooks: events of others (a CMS, a bucket) that purge something. A hook is known by its signature, and purges its own site
//! only.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use nearside_api::{Backend, Order, Ordered, Problem, Reach, Receipt, carry_out_signed};
use nearside_config::{Hook, Part, Template};
use serde_json::Value;

use crate::desk::Desk;
use crate::signature::{now_secs, verify};

/// The largest event.
const BODY_BYTES_MAX: usize = 1 << 20;
/// What one template may make of an event.
const VALUES_MAX: usize = 1000;

/// The hooks, and what stands behind them.
struct Hooks {
    desk: Arc<Desk>,
    hooks: Vec<Hook>,
}

pub(crate) fn routes(desk: Arc<Desk>, hooks: Vec<Hook>) -> Router {
    Router::new()
        .route("/v1/hooks/{name}", post(hook))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Arc::new(Hooks { desk, hooks }))
}

async fn hook(
    State(hooks): State<Arc<Hooks>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    fields: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Receipt>), Problem> {
    let unknown = || Problem::new(StatusCode::NOT_FOUND, "unknown-hook", "no hook of this name is configured");
    let hook = hooks.hooks.iter().find(|hook| hook.name == name).ok_or_else(unknown)?;
    let holder = format!("hook {name}");
    let from = Ordered { fields: &fields, client: client.ip(), action: "purge-hook", reach: Reach::Fleet };
    let (order, id) = match verify(hook.signature, &hook.secret, &fields, &body, now_secs()) {
        Err(why) => (Err(Problem::new(StatusCode::UNAUTHORIZED, "signature", why)), None),
        Ok(id) => (order(hook, &body), id),
    };
    // What is delivered twice is one event.
    let receipt = carry_out_signed(&*hooks.desk, &from, &holder, id.as_deref(), order).await?;
    let receipt = hooks.desk.receipt(&receipt.id).unwrap_or(receipt);
    // Accepted: whoever sends it need not send it again.
    Ok((if receipt.is_complete() { StatusCode::OK } else { StatusCode::ACCEPTED }, Json(receipt)))
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
    if order.targets() == 0 {
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
