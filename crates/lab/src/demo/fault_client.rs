//! Client of a running demo: injects faults, heals them, and prints them.

use anyhow::bail;
use http::Method;
use serde_json::{Value, json};

use super::fault::{DemoFault, LinkFault, parse_faults};
use crate::http_client::{Unreachable, send};

/// Address at which a demo listens for faults.
pub(super) const DEMO_ADDRESS: &str = "127.0.0.1:7090";
/// Base URL of the API of the simulated WAN.
const WAN_URL: &str = "http://127.0.0.1:8001";

/// Breaks something of the demo that runs, in the words of `nearside demo fail`, and prints what is broken then.
///
/// # Errors
///
/// [`UsageError`](crate::UsageError) where the words are not understood; [`Unreachable`] where no demo runs; the demo refuses.
pub async fn fail(what: &[String]) -> anyhow::Result<()> {
    let what = parse_faults(&what.join(" ")).map_err(|error| usage!("demo fail: {error:#}"))?;
    if let Some(DemoFault::Way(way, _)) =
        what.iter().find(|what| matches!(what, DemoFault::Way(_, LinkFault::Slower(None))))
    {
        return Err(usage!("demo fail: say by how much: slow {way} 80ms"));
    }
    tell("fail", &what).await
}

/// Heals what was broken, or everything if `what` is empty, and prints what is broken then.
///
/// # Errors
///
/// As [`fail`].
pub async fn heal(what: &[String]) -> anyhow::Result<()> {
    if what.is_empty() {
        print(&order("heal", "").await?);
        return Ok(());
    }
    let what = parse_faults(&what.join(" ")).map_err(|error| usage!("demo heal: {error:#}"))?;
    tell("heal", &what).await
}

/// Prints what is broken.
///
/// # Errors
///
/// [`Unreachable`] where no demo runs.
pub async fn state() -> anyhow::Result<()> {
    let reply = reach(send(Method::GET, &format!("http://{DEMO_ADDRESS}/v1/demo"), None).await)?;
    print(&serde_json::from_slice(&reply.body)?);
    Ok(())
}

/// Sends requests one after the other, and prints the state after the last one.
async fn tell(verb: &str, what: &[DemoFault]) -> anyhow::Result<()> {
    let mut state = Value::Null;
    for what in what {
        state = order(verb, &what.to_string()).await?;
    }
    print(&state);
    Ok(())
}

/// Sends a running demo the request to `fail` or `heal` something, and returns its state
/// afterwards.
pub(crate) async fn order(verb: &str, what: &str) -> anyhow::Result<Value> {
    let body = json!({ "what": what }).to_string();
    let reply = reach(send(Method::POST, &format!("http://{DEMO_ADDRESS}/v1/demo/{verb}"), Some(body)).await)?;
    let page: Value = serde_json::from_slice(&reply.body)?;
    if !reply.status.is_success() {
        bail!("{}", page.get("detail").and_then(Value::as_str).unwrap_or("the demo has refused it"));
    }
    Ok(page)
}

/// Adds what to do to the error if no demo runs.
fn reach<T>(reply: anyhow::Result<T>) -> anyhow::Result<T> {
    reply.map_err(|error| {
        if error.is::<Unreachable>() {
            let what = format!("no demo runs on this machine (start one with `nearside demo`): {error:#}");
            anyhow::Error::new(Unreachable(what))
        } else {
            error
        }
    })
}

fn print(page: &Value) {
    let empty = Vec::new();
    let stopped = page.get("stopped").and_then(Value::as_array).unwrap_or(&empty);
    let faults = page.pointer("/wan/faults").and_then(Value::as_array).unwrap_or(&empty);
    for name in stopped.iter().filter_map(Value::as_str) {
        outln!("{name:<14} stopped");
    }
    for fault in faults {
        let what = fault.get("what").and_then(Value::as_str).unwrap_or_default();
        let is_cut = fault.get("cut").and_then(Value::as_bool).unwrap_or_default();
        let slower = fault.get("slower_ms").and_then(Value::as_f64).unwrap_or_default();
        if is_cut { outln!("{what:<14} cut") } else { outln!("{what:<14} {slower} ms slower") }
    }
    if stopped.is_empty() && faults.is_empty() {
        outln!("nothing is broken");
    }
}

/// Sends a request to the API of the simulated WAN, and returns the response.
pub(crate) async fn wan(method: Method, path: &str, body: Option<String>) -> anyhow::Result<Value> {
    let reply = send(method, &format!("{WAN_URL}{path}"), body).await?;
    let page: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    if !reply.status.is_success() {
        bail!("{}", page.get("detail").and_then(Value::as_str).unwrap_or("the WAN has refused it"));
    }
    Ok(page)
}
