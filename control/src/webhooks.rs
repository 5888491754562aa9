//! Webhooks: others are told what happens, one event after the other, until they have heard it.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{Request, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use nearside_config::Webhook;
use nearside_protocol::Event;
use tokio::sync::broadcast;
use tokio::time::{sleep, timeout};

use crate::signature::{now_secs, sign};

/// Longer takes no answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// What is read of an answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// So often an event is sent; the pause between is doubled each time, up to a minute: some five minutes in all.
const TRIES: u32 = 10;
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Tells one of all that happens, as long as it runs.
pub(crate) async fn tell(webhook: Webhook, mut events: broadcast::Receiver<Arc<Event>>) {
    let connector = match HttpsConnectorBuilder::new().with_native_roots() {
        Ok(connector) => connector.https_or_http().enable_http1().build(),
        Err(error) => {
            tracing::error!(url = webhook.url, %error, "a webhook is not told anything: no certificates of this system");
            return;
        }
    };
    let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(connector);
    loop {
        let event = match events.recv().await {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::warn!(url = webhook.url, missed, "a webhook is too slow, and is not told all");
                continue;
            }
            Err(broadcast::error::RecvError::Closed) => return,
        };
        let is_wanted = webhook.events.is_empty() || webhook.events.iter().any(|kind| kind.as_str() == event.kind);
        if !is_wanted {
            continue;
        }
        let mut pause = PAUSE_MIN;
        for tries in 1.. {
            let Err(why) = send(&client, &webhook, &event).await else { break };
            if tries == TRIES {
                tracing::warn!(url = webhook.url, event = event.id, why, "a webhook was not told of an event");
                break;
            }
            tracing::debug!(url = webhook.url, event = event.id, why, "a webhook does not hear");
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

async fn send<C>(client: &Client<C, Full<Bytes>>, webhook: &Webhook, event: &Event) -> Result<(), String>
where
    C: hyper_util::client::legacy::connect::Connect + Clone + Send + Sync + 'static,
{
    let body = serde_json::to_vec(event).map_err(|error| error.to_string())?;
    // Of this try: who hears it looks whether it is an old one that somebody plays again.
    let timestamp = now_secs();
    let request = Request::post(&webhook.url)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("nearside/", env!("CARGO_PKG_VERSION")))
        .header("webhook-id", &event.id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", sign(&webhook.secret, &event.id, timestamp, &body))
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let response = client.request(request).await.map_err(|error| format!("{error:#}"))?;
        let status = response.status();
        // Read to its end, if that is near, so that the connection can be used again.
        let _ = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        if status.is_success() { Ok(()) } else { Err(format!("status {status}")) }
    };
    timeout(ANSWER_MAX, exchange).await.unwrap_or_else(|_elapsed| Err("no answer in time".to_owned()))
}
