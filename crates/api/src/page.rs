//! The description of the API as a page, without anything from elsewhere.

use std::fmt::Write;

use serde_json::Value;
use utoipa::openapi::OpenApi;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#1c2430}\
h1{font-size:1.6rem}h2{font-size:1.1rem;margin-top:2.5rem;border-top:1px solid #d5dae2;padding-top:1rem}\
code,pre{font:14px/1.45 ui-monospace,monospace;background:#f3f5f8;border-radius:4px;padding:.1rem .3rem}\
.method{background:#1c4e80;color:#fff;border-radius:4px;padding:.1rem .5rem;font-size:.8rem;margin-right:.5rem}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.25rem .6rem .25rem 0;vertical-align:top;\
border-bottom:1px solid #e7eaf0}@media(prefers-color-scheme:dark){body{background:#12161d;color:#dde3ec}\
code,pre{background:#1e2530}td,th,h2{border-color:#2b3442}}";

/// The page.
pub(crate) fn of(openapi: &OpenApi) -> String {
    let value = serde_json::to_value(openapi).unwrap_or_default();
    let mut page = String::new();
    let text = |value: &Value, pointer: &str| prose(value.pointer(pointer).and_then(Value::as_str).unwrap_or_default());
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style><h1>{title}</h1><p>{}</p><p>The same for machines: \
         <a href=\"/v1/openapi.json\">openapi.json</a>. Errors are <code>application/problem+json</code> (RFC 9457) with a \
         stable <code>code</code>. Where tokens are configured, show one: <code>Authorization: Bearer …</code>.</p>",
        text(&value, "/info/description"),
        title = text(&value, "/info/title"),
    );
    let mut paths: Vec<_> = value.get("paths").and_then(Value::as_object).into_iter().flatten().collect();
    // Our own before those of others.
    paths.sort_by_key(|(path, _)| !path.starts_with("/v1/"));
    for (path, item) in paths {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let _ = write!(
                page,
                "<h2><span class=\"method\">{}</span><code>{}</code> {}</h2><p>{}</p>",
                method.to_uppercase(),
                escape(path),
                text(operation, "/summary"),
                text(operation, "/description")
            );
            parameters(&mut page, operation);
            body(&mut page, operation, &value);
            let _ = write!(page, "<table><tr><th>Status<th>Meaning");
            for (status, response) in operation.get("responses").and_then(Value::as_object).into_iter().flatten() {
                let _ = write!(page, "<tr><td>{}<td>{}", escape(status), text(response, "/description"));
            }
            page.push_str("</table>");
        }
    }
    page.push_str("</html>\n");
    page
}

fn parameters(page: &mut String, operation: &Value) {
    for parameter in operation.get("parameters").and_then(Value::as_array).into_iter().flatten() {
        let text = |key| prose(parameter.get(key).and_then(Value::as_str).unwrap_or_default());
        let _ = write!(page, "<p><code>{}</code> ({}): {}</p>", text("name"), text("in"), text("description"));
    }
}

/// The members of the body, as its schema tells them.
fn body(page: &mut String, operation: &Value, whole: &Value) {
    let pointer = "/requestBody/content/application~1json/schema/$ref";
    let Some(schema) = operation.pointer(pointer).and_then(Value::as_str).and_then(|at| whole.pointer(at.get(1..)?))
    else {
        return;
    };
    page.push_str("<table><tr><th>Member<th>Meaning");
    for (name, member) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let meaning = member.get("description").and_then(Value::as_str).unwrap_or_default();
        let _ = write!(page, "<tr><td><code>{}</code><td>{}", escape(name), prose(meaning));
    }
    page.push_str("</table><br>");
}

/// Text in which code stands between backticks.
fn prose(text: &str) -> String {
    let escaped = escape(text);
    let parts = escaped.split('`').enumerate();
    parts.map(|(place, part)| if place % 2 == 1 { format!("<code>{part}</code>") } else { part.to_owned() }).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
