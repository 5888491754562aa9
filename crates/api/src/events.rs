//! What happens, told as it happens: server-sent events (WHATWG HTML §9.2), and for whoever else listens.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event as Line, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use nearside_config::Scope;
use nearside_protocol::{Event, Problem};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::broadcast;

use crate::Backend;

/// So many are remembered for who comes back.
const REMEMBERED: usize = 1000;
/// A connection on which nothing happens shows this often that it lives.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// The events of one process.
#[derive(Debug)]
pub struct Events {
    /// Before the number of each.
    origin: String,
    state: Mutex<Recent>,
    sender: broadcast::Sender<Arc<Event>>,
}

#[derive(Debug, Default)]
struct Recent {
    number: u64,
    events: VecDeque<Arc<Event>>,
}

impl Events {
    /// The events of a process; `origin` is a name that no other has, nor this one when it is started again.
    #[must_use]
    pub fn new(origin: String) -> Self {
        Self { origin, state: Mutex::default(), sender: broadcast::Sender::new(REMEMBERED) }
    }

    /// Tells that something has happened.
    pub fn tell(&self, kind: &'static str, data: Value) {
        let mut recent = self.state.lock();
        recent.number += 1;
        let id = format!("{}.{}", self.origin, recent.number);
        let event = Arc::new(Event { id, kind, timestamp: now(), data });
        recent.events.push_back(Arc::clone(&event));
        if recent.events.len() > REMEMBERED {
            recent.events.pop_front();
        }
        // Under the lock, so that whoever looks back and then listens misses none. Nobody listens: then nobody does.
        let _ = self.sender.send(event);
    }

    /// What is remembered after an event, and what comes then; all that is remembered, if the event is not.
    #[must_use]
    pub fn listen(&self, after: Option<&str>) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let recent = self.state.lock();
        let before = match after {
            Some(id) => match recent.events.iter().position(|event| event.id == id) {
                Some(place) => recent.events.iter().skip(place + 1).cloned().collect(),
                None => recent.events.iter().cloned().collect(),
            },
            None => Vec::new(),
        };
        (before, self.sender.subscribe())
    }
}

/// `GET /v1/events`
pub(crate) async fn events<B: Backend>(State(backend): State<Arc<B>>, fields: HeaderMap) -> Result<Response, Problem> {
    backend.access().admit(&fields, Scope::Read)?;
    let last = fields.get("last-event-id").and_then(|id| id.to_str().ok());
    let (before, receiver) = backend.events().listen(last);
    let stream = unfold((VecDeque::from(before), receiver), |(mut before, mut receiver)| async {
        let event = match before.pop_front() {
            Some(event) => event,
            None => loop {
                match receiver.recv().await {
                    Ok(event) => break event,
                    // Who is too slow misses some; the ids tell.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            },
        };
        let line = Line::default().id(&event.id).event(event.kind).json_data(&*event).unwrap_or_default();
        Some((Ok::<_, Infallible>(line), (before, receiver)))
    });
    let stream = Sse::new(stream).keep_alive(KeepAlive::new().interval(ALIVE_EVERY));
    Ok(([(header::X_CONTENT_TYPE_OPTIONS, "nosniff")], stream).into_response())
}

#[expect(clippy::disallowed_methods, reason = "events tell real time")]
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_back_gets_what_came_meanwhile() {
        let events = Events::new("x".to_owned());
        for n in 0..REMEMBERED + 5 {
            events.tell("purge", n.into());
        }
        let ids = |after: Option<&str>| events.listen(after).0.iter().map(|event| event.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(None), [""; 0]);
        assert_eq!(ids(Some("x.1003")), ["x.1004", "x.1005"]);
        assert_eq!(ids(Some("x.2")).len(), REMEMBERED, "it is forgotten: all that there is");
        let (_, mut receiver) = events.listen(None);
        events.tell("node-up", Value::Null);
        assert_eq!(receiver.try_recv().unwrap().id, "x.1006");
    }
}
