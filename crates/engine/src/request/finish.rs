//! The fields that every response gets anew.

use std::time::Instant;

use nearside_http1::write;
use nearside_telemetry::clock::instant;
use nearside_telemetry::outcome::Outcome;
use nearside_telemetry::server_timing;

use super::Engine;

/// What becomes of the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// HTTP/1.1, stays open: needs no word.
    Stays,
    /// HTTP/1.0, stays open because the client asked for it.
    KeepAlive,
    /// Is closed.
    Closes,
}

/// What a head gets anew for each client.
#[derive(Debug, Clone, Copy)]
pub struct Ending<'e> {
    /// Outcome of the request.
    pub outcome: &'e Outcome,
    /// Value of `Age`, in seconds.
    pub age: Option<u64>,
    /// What becomes of the connection.
    pub persistence: Persistence,
    /// Whether the body is sent in chunks.
    pub chunked: bool,
    /// When the request was complete.
    pub start: Instant,
}

impl Engine {
    /// Ends a prepared head: this node's member of `Cache-Status`, `Age`, `Server-Timing` where the site wants it, and
    /// the fields of the connection.
    pub fn end_head(&self, ending: &Ending<'_>, out: &mut Vec<u8>) {
        ending.outcome.member().write(self.config.id.as_str(), out);
        out.extend_from_slice(b"\r\n");
        if let Some(age) = ending.age {
            write::number("age", age, out);
        }
        if self.shows_timing(ending.outcome) {
            out.extend_from_slice(b"server-timing: ");
            self.write_timing(ending.outcome, ending.start, out);
            out.extend_from_slice(b"\r\n");
        }
        if ending.chunked {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        match ending.persistence {
            Persistence::Stays => {}
            Persistence::KeepAlive => out.extend_from_slice(b"connection: keep-alive\r\n"),
            Persistence::Closes => out.extend_from_slice(b"connection: close\r\n"),
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Whether the site of a request wants `Server-Timing`.
    pub fn shows_timing(&self, outcome: &Outcome) -> bool {
        outcome.site.is_some_and(|site| self.rules(site).server_timing)
    }

    /// The value of `Server-Timing` in the answer to a request that was complete at `start`.
    pub fn write_timing(&self, outcome: &Outcome, start: Instant, out: &mut Vec<u8>) {
        server_timing::write(outcome, &self.place, instant().saturating_duration_since(start), out);
    }
}
