//! Carries request bodies from their connection to the engine, the same for every protocol.

use std::time::Duration;

use nearside_http1::framing::BodyEvent;
use nearside_upstream::upload::Upload;
use tokio::sync::mpsc;

/// A request body, as its protocol receives it.
pub(crate) trait BodySource {
    /// Receives the next part. `None` if the client has left, has sent something that is no body, or nothing for `stall`. Can be
    /// dropped at any point without losing a byte.
    async fn next(&mut self, stall: Duration) -> Option<BodyEvent>;
}

/// State of a body that is being carried.
#[derive(Debug)]
pub(crate) struct BodyPump {
    /// `None` once all was handed on, or nobody wants it.
    sender: Option<mpsc::Sender<BodyEvent>>,
    has_begun: bool,
    has_ended: bool,
    left: u64,
    is_too_large: bool,
}

impl BodyPump {
    /// For a request without a body.
    pub(crate) fn empty() -> Self {
        Self { sender: None, has_begun: false, has_ended: true, left: 0, is_too_large: false }
    }

    /// For a body of this length, if it is known, and of at most `limit` bytes; with the end where the body comes out.
    pub(crate) fn new(length: Option<u64>, limit: u64) -> (Self, Upload) {
        let (sender, upload) = Upload::new(length);
        let pump = Self { sender: Some(sender), has_begun: false, has_ended: false, left: limit, is_too_large: false };
        (pump, upload)
    }

    /// Whether the client has sent all of the body, so that the next request can follow.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether some of the body has arrived.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun || self.has_ended
    }

    /// Whether the body turned out to be larger than allowed.
    pub(crate) fn is_too_large(&self) -> bool {
        self.is_too_large
    }

    /// Whether there is something to carry.
    pub(crate) fn is_open(&self) -> bool {
        self.sender.is_some()
    }

    /// Carries one part. Can be dropped at any point without losing a byte.
    pub(crate) async fn step(&mut self, source: &mut impl BodySource, stall: Duration) {
        let Some(sender) = &self.sender else { return };
        let Ok(permit) = sender.reserve().await else {
            self.sender = None;
            return;
        };
        let event = tokio::select! {
            biased;
            event = source.next(stall) => event,
            // The response came without it.
            () = sender.closed() => None,
        };
        match event {
            Some(BodyEvent::Data(data)) if data.len() as u64 > self.left => {
                drop(permit);
                self.is_too_large = true;
            }
            Some(BodyEvent::Data(data)) => {
                self.left -= data.len() as u64;
                self.has_begun = true;
                return permit.send(BodyEvent::Data(data));
            }
            Some(end @ BodyEvent::End(_)) => {
                permit.send(end);
                self.has_ended = true;
            }
            None => drop(permit),
        }
        // Dropped with its permit: without an end, the receiver knows that the body is not whole.
        self.sender = None;
    }
}
