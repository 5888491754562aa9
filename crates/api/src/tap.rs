//! The requests of a node as they end, for those who watch: `GET /v1/log`.
//!
//! Nobody watching costs nothing but a look at a number. Who watches too slowly misses lines, and is told so.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event as Line, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use nearside_config::Scope;
use nearside_protocol::filter::LOG_FIELDS;
use nearside_protocol::{Filter, Problem};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::broadcast;

use crate::Backend;
use crate::look::unread;

/// Batches of lines that may wait for one who watches.
const WAITING: usize = 64;
/// A proxy in between may let a connection go on which nothing comes.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// Where lines go that somebody watches.
#[derive(Debug)]
pub struct Tap {
    listeners: AtomicUsize,
    sender: broadcast::Sender<Arc<str>>,
}

impl Default for Tap {
    fn default() -> Self {
        Self { listeners: AtomicUsize::new(0), sender: broadcast::channel(WAITING).0 }
    }
}

impl Tap {
    /// Whether anybody watches.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.listeners.load(Ordering::Relaxed) > 0
    }

    /// Lets those who watch have a batch of lines, each a JSON object.
    pub fn send(&self, lines: &[u8]) {
        if let Ok(lines) = std::str::from_utf8(lines) {
            // Nobody listens any more: then nobody does.
            let _ = self.sender.send(lines.into());
        }
    }

    /// Watches from now on.
    #[must_use]
    pub fn listen(self: &Arc<Self>) -> Listener {
        self.listeners.fetch_add(1, Ordering::Relaxed);
        Listener { receiver: self.sender.subscribe(), tap: Arc::clone(self) }
    }
}

/// One who watches.
#[derive(Debug)]
pub struct Listener {
    tap: Arc<Tap>,
    receiver: broadcast::Receiver<Arc<str>>,
}

impl Listener {
    /// The next batch; `Err` with how many were missed.
    async fn next(&mut self) -> Option<Result<Arc<str>, u64>> {
        match self.receiver.recv().await {
            Ok(lines) => Some(Ok(lines)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Err(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.tap.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is to be watched.
#[derive(Debug, Deserialize)]
pub(crate) struct Watched {
    q: Option<String>,
}

/// `GET /v1/log`
pub(crate) async fn log<B: Backend>(
    State(backend): State<Arc<B>>,
    watched: Result<Query<Watched>, QueryRejection>,
    fields: HeaderMap,
) -> Result<Response, Problem> {
    backend.access().admit(&fields, Scope::Read)?;
    let Query(Watched { q }) = watched.map_err(|rejection| unread(&rejection))?;
    let filter = Filter::parse(q.as_deref().unwrap_or_default())
        .map_err(|error| Problem::unprocessable("expression", format!("q: {error}")))?;
    filter.check(&LOG_FIELDS).map_err(|error| Problem::unprocessable("field", format!("q: {error}")))?;
    let nothing = || Problem::new(StatusCode::NOT_FOUND, "no-log", "no requests come here: ask an edge or a shield");
    let listener = backend.tap().ok_or_else(nothing)?.listen();
    let stream = unfold((listener, filter), |(mut listener, filter)| async {
        loop {
            let line = match listener.next().await? {
                Ok(lines) => batch(&lines, &filter).map(|lines| Line::default().event("requests").data(lines)),
                Err(missed) => Some(Line::default().event("missed").data(missed.to_string())),
            };
            if let Some(line) = line {
                return Some((Ok::<_, Infallible>(line), (listener, filter)));
            }
        }
    });
    let stream = Sse::new(stream).keep_alive(KeepAlive::new().interval(ALIVE_EVERY));
    Ok(([(header::X_CONTENT_TYPE_OPTIONS, "nosniff")], stream).into_response())
}

/// The lines of a batch for which the filter holds, if there are any.
fn batch(lines: &str, filter: &Filter) -> Option<String> {
    let holds = |line: &&str| {
        *filter == Filter::All || serde_json::from_str::<Value>(line).is_ok_and(|line| filter.holds(&line))
    };
    let kept: Vec<&str> = lines.lines().filter(holds).collect();
    (!kept.is_empty()).then(|| kept.join("\n"))
}
