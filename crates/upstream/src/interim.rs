//! Interim answers (RFC 9110 §15.2): 102 and 103 reach the client whose request they answer, at once and with their
//! fields, and leave no trace in the final answer or in what is stored. Those who wait for the same do not get them:
//! whether the answer is for them too, only its head will tell.
//!
//! 100 is among them where the request went forward with `Expect: 100-continue` ([`expects_continue`]), else not: then nobody
//! waits for it. 101 never is (that is an upgrade).

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{CONTENT_LENGTH, EXPECT, HeaderMap};
use nearside_http1::response::ResponseHead;
use nearside_semantics::fields::{lists, strip_hop_by_hop};
use nearside_telemetry::Protocol;
use tokio::sync::mpsc;

/// Interim answers that are passed on for one request; there is hardly ever more than one.
pub const INTERIMS_MAX: usize = 16;

/// An interim answer.
#[derive(Debug)]
pub struct Interim {
    /// Status code, 1xx.
    pub status: StatusCode,
    /// Fields.
    pub fields: HeaderMap,
}

impl Interim {
    /// What a next hop sent, if it is for the client: a 100 only where the request `expects` it.
    pub(crate) fn of(head: ResponseHead, expects: bool) -> Option<Arc<Self>> {
        let ResponseHead { status, mut fields, .. } = head;
        if status == StatusCode::CONTINUE && !expects {
            return None;
        }
        strip_hop_by_hop(&mut fields);
        fields.remove(CONTENT_LENGTH);
        Some(Arc::new(Self { status, fields }))
    }
}

impl Interim {
    /// The word that the client may send its body.
    pub(crate) fn go_on() -> Arc<Self> {
        Arc::new(Self { status: StatusCode::CONTINUE, fields: HeaderMap::new() })
    }
}

/// Whether a request waits for a 100 before it sends its body (RFC 9110 §10.1.1), which HTTP/1.0 clients cannot.
pub fn expects_continue(fields: &HeaderMap, protocol: Protocol) -> bool {
    protocol.has_interim_responses() && lists(fields, &EXPECT, b"100-continue")
}

/// How long a next hop may leave an expectation without an answer. Then the client is told to go on, as clients do by
/// themselves where nobody answers: many servers know nothing of expectations.
pub(crate) const CONTINUE_MAX: Duration = Duration::from_secs(1);

/// The way of interim answers to one client.
#[derive(Debug, Clone)]
pub struct Interims(Option<mpsc::Sender<Arc<Interim>>>);

impl Interims {
    /// For a client that speaks `protocol`, and where they come out.
    pub fn channel(protocol: Protocol) -> (Self, mpsc::Receiver<Arc<Interim>>) {
        let (sender, receiver) = mpsc::channel(INTERIMS_MAX);
        (Self(protocol.has_interim_responses().then_some(sender)), receiver)
    }

    /// For nobody.
    pub fn none() -> Self {
        Self(None)
    }

    /// Hands one over; it is dropped if the client does not take what it was sent before.
    pub fn send(&self, interim: &Arc<Interim>) {
        if let Some(sender) = &self.0 {
            let _ = sender.try_send(Arc::clone(interim));
        }
    }
}
