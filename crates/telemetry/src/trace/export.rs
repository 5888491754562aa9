//! Spans of traces, sent to a collector of OpenTelemetry: OTLP over HTTP in JSON (OTLP 1.0), in batches, by a thread of its own.
//!
//! Of each request that belongs to a sampled trace there is a span of kind server; and, if it led to a question to the next hop, one of
//! kind client below it, whose id is what the next hop got as its parent. So the spans of all tiers make one tree, with the verdict of
//! each cache on it. **Invariant:** a serving thread never waits: what finds no room, or no collector, is dropped and counted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nearside_config::{Config, Upstream};
use nearside_diagnostics::WatchedTasks;
use serde_json::{Value, json};

use super::Trace;
use crate::record::Record;

/// Spans that may wait to be sent.
const WAITING_MAX: usize = 8192;
/// Spans in one message.
const BATCH_MAX: usize = 512;
/// A span waits no longer for others.
const EVERY: Duration = Duration::from_secs(1);
/// A collector that takes longer is as good as gone: its spans are dropped.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Where spans go in.
#[derive(Debug)]
pub struct Exporter {
    /// Nothing once it ends.
    sender: Option<SyncSender<Value>>,
    thread: Option<JoinHandle<()>>,
    dropped: Arc<AtomicU64>,
    sites: Vec<String>,
}

impl Exporter {
    /// Starts to send, if a collector is configured.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub fn start(config: &Config, tasks: &WatchedTasks) -> io::Result<Option<Self>> {
        let Some(collector) = &config.traces.otlp else { return Ok(None) };
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let sending = Sending {
            url: url(collector),
            resource: resource(config),
            agent: ureq::Agent::config_builder().timeout_global(Some(ANSWER_MAX)).build().into(),
            dropped: Arc::clone(&dropped),
            is_failing: false,
        };
        let guard = tasks.guard("traces");
        let run = move || {
            let _guard = guard;
            sending.run(&receiver);
        };
        let thread = std::thread::Builder::new().name("traces".to_owned()).spawn(run)?;
        let sites = config.sites.iter().map(|site| site.name.clone()).collect();
        Ok(Some(Self { sender: Some(sender), thread: Some(thread), dropped, sites }))
    }

    /// Spans that were not sent.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Adds the spans of a request that has ended just now.
    pub fn add(&self, record: &Record<'_>) {
        let Some(trace) = record.requested.trace.filter(|trace| trace.is_sampled) else { return };
        self.send(self.server(record, trace));
        if record.outcome.wait.is_some() {
            self.send(client(record, trace));
        }
    }

    fn send(&self, span: Value) {
        if self.sender.as_ref().is_some_and(|sender| sender.try_send(span).is_err()) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What this node did.
    fn server(&self, record: &Record<'_>, trace: &Trace) -> Value {
        let outcome = record.outcome;
        let (end, path) = (now(), record.requested.target.split(|byte| *byte == b'?').next().unwrap_or_default());
        let site = outcome.site.and_then(|site| self.sites.get(site.index())).map_or("none", String::as_str);
        // Names as in OpenTelemetry's semantic conventions for HTTP; queries carry tokens.
        let mut attributes = vec![
            text("http.request.method", record.requested.method),
            text("url.path", &String::from_utf8_lossy(path)),
            text("server.address", &String::from_utf8_lossy(record.requested.host)),
            number("http.response.status_code", u64::from(record.status.as_u16())),
            number("http.response.body.size", record.bytes),
            text("nearside.site", site),
            text("nearside.cache", outcome.verdict.as_str()),
            text("nearside.reason", outcome.decision().token()),
        ];
        attributes.extend(record.truncation.map(|truncation| text("error.type", truncation.as_str())));
        let parent = trace.parent.as_ref().map(|parent| ascii(parent));
        span(&Told {
            trace,
            id: &trace.span,
            parent,
            name: format!("{} {}", record.requested.method, outcome.verdict.as_str()),
            kind: 2,
            begin: end.saturating_sub(record.times.duration()),
            end,
            attributes,
            is_error: record.status.is_server_error() || record.truncation.is_some(),
        })
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // It sends what there is, which takes no longer than a collector may take.
            let _ = thread.join();
        }
    }
}

/// What the next hop was asked.
fn client(record: &Record<'_>, trace: &Trace) -> Value {
    let outcome = record.outcome;
    let begin = now().saturating_sub(record.times.duration());
    let waited = outcome.wait.as_ref().map_or(Duration::ZERO, |wait| wait.duration);
    let peer = outcome.upstream.as_deref().unwrap_or("none");
    let mut attributes = vec![text("http.request.method", record.requested.method), text("server.address", peer)];
    attributes.extend(outcome.forward_status.map(|status| number("http.response.status_code", u64::from(status))));
    attributes.extend(outcome.forward.map(|forward| text("nearside.forward", forward.token())));
    span(&Told {
        trace,
        id: &trace.forward,
        parent: Some(ascii(&trace.span)),
        name: format!("{} {peer}", record.requested.method),
        kind: 3,
        begin,
        end: begin + waited,
        attributes,
        is_error: outcome.forward_status.is_none_or(|status| status >= 500),
    })
}

/// What a span tells.
struct Told<'t> {
    trace: &'t Trace,
    id: &'t [u8],
    parent: Option<String>,
    name: String,
    /// `SpanKind`: 2 for a server, 3 for a client.
    kind: u8,
    /// Since 1970.
    begin: Duration,
    end: Duration,
    attributes: Vec<Value>,
    is_error: bool,
}

fn span(told: &Told<'_>) -> Value {
    let mut span = json!({
        "traceId": ascii(told.trace.id()),
        "spanId": ascii(told.id),
        "name": told.name,
        "kind": told.kind,
        // 64-bit numbers are texts in the JSON of Protocol Buffers.
        "startTimeUnixNano": told.begin.as_nanos().to_string(),
        "endTimeUnixNano": told.end.as_nanos().to_string(),
        "attributes": told.attributes,
    });
    if let Some(span) = span.as_object_mut() {
        span.extend(told.parent.clone().map(|parent| ("parentSpanId".to_owned(), parent.into())));
        // `STATUS_CODE_ERROR`
        span.extend(told.is_error.then(|| ("status".to_owned(), json!({ "code": 2 }))));
    }
    span
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn number(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

fn ascii(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn now() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "collectors put the spans of many machines side by side")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn url(collector: &Upstream) -> String {
    format!("http://{}/v1/traces", collector.authority())
}

/// Who sends.
fn resource(config: &Config) -> Value {
    let service = format!("nearside-{}", config.role.name());
    let attributes = [
        text("service.name", &service),
        text("service.instance.id", config.id.as_str()),
        text("service.version", env!("CARGO_PKG_VERSION")),
    ];
    json!({ "attributes": attributes })
}

/// The thread that sends.
struct Sending {
    url: String,
    resource: Value,
    agent: ureq::Agent,
    dropped: Arc<AtomicU64>,
    /// The last message did not arrive; said once.
    is_failing: bool,
}

impl Sending {
    fn run(mut self, spans: &Receiver<Value>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let ended = match spans.recv_timeout(EVERY) {
                Ok(span) => {
                    batch.push(span);
                    batch.extend(spans.try_iter().take(BATCH_MAX - 1));
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            if !batch.is_empty() {
                self.send(&batch);
                batch.clear();
            }
            if ended {
                return;
            }
        }
    }

    fn send(&mut self, spans: &[Value]) {
        let count = spans.len() as u64;
        let scope = json!({ "name": "nearside", "version": env!("CARGO_PKG_VERSION") });
        let scopes = json!([{ "scope": scope, "spans": spans }]);
        let message = json!({ "resourceSpans": [{ "resource": self.resource, "scopeSpans": scopes }] });
        let post = self.agent.post(&self.url).header("content-type", "application/json");
        match post.send(message.to_string().as_bytes()) {
            Ok(_taken) => self.is_failing = false,
            Err(error) => {
                self.dropped.fetch_add(count, Ordering::Relaxed);
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(url = self.url, %error, "spans do not reach their collector: they are dropped");
                }
            }
        }
    }
}
